"""Recurrences in lanes: a linear recurrence whose time is cut into pieces that run side by side.

Time is cut into B blocks, and these into L lanes of M steps: step t = (b L + l) M + j of the recurrence
c_{t+1} = A_t c_t + b_t is step j of lane l of block b. A lane that starts from zero ends with e, and its
propagator P is the product of its A_t, so that the carries at the ends of lanes follow from a recurrence
with a step for each lane,

    c_after = P c_before + e,

and from these all lanes of a block run at once. Propagators, of shape (carry, carry, B, L), are the last
argument: they change nothing but how fast a target may compute the rows, which are those of the sweep in
sequence. What a step only adds up (`sums`) begins at zero in each lane; the lanes are added up behind.

Slices have the shape (B, M, ..., L) and rows (B, M + 1, width, L), or (B, 1, width, L) for the last ones alone: so
what the lanes of a block read and write in one step lies side by side.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nbhvp.graph.node import Node
from nbhvp.graph.primitives import Primitive
from nbhvp.graph.table.scan import Body

__all__ = ["has_lanes", "in_lanes", "scan_in_lanes"]


def scan_in_lanes(
    body: Body,
    args: Sequence[Node],
    shape: tuple[int, int, int],
    sums: tuple[int, ...],
    keeps: bool,
) -> Node:
    """The rows of a linear body, applied to a carry, slices in lanes, invariants and propagators.

    The shape says how many blocks, steps of a lane, and lanes there are.
    """
    return in_lanes(body)(*args, length=math.prod(shape), lanes=shape, sums=sums, keeps=keeps)


def in_lanes(body: Body) -> Primitive:
    """What computes a linear body in lanes."""
    return body.known(("lanes",), lambda: _primitive(body))


def has_lanes(node: Node) -> bool:
    return node.primitive.body is not None and "lanes" in node.params


def _primitive(body: Body) -> Primitive:
    n, end, last = body.carries, body.rest, slice(1) if body.reverse else slice(-1, None)

    def evaluate(*args, length: int, lanes: tuple, sums: tuple[int, ...], keeps: bool):
        carry = [np.asarray(arg) for arg in args[:n]]
        blocks, steps, count = lanes
        rows = np.zeros((blocks, steps + 1, body.width, count), body.dtype)
        every = [*itertools.product(range(blocks), range(count))]
        for block, lane in reversed(every) if body.reverse else every:
            started = [np.zeros_like(c) if k in sums else c for k, c in enumerate(carry)]
            slices = (s[block, ..., lane] for s in args[n:end])
            found = body.primitive.evaluate(*started, *slices, *args[end:-1], length=steps)
            rows[block, ..., lane] = found
            parts = np.split(found[last][0], body.columns[1:])
            carry = [part.reshape(c.shape) for part, c in zip(parts, carry, strict=False)]
        return rows if keeps else rows[:, last]

    def infer(*args, length: int, lanes: tuple, sums: tuple[int, ...], keeps: bool):
        blocks, steps, count = lanes
        return (blocks, steps + 1 if keeps else 1, body.width, count), body.dtype

    behind = {"rule": None, "tangent": None, "strict": None, "batches": False}
    return replace(body.primitive, name="lanes of a scan", evaluate=evaluate, infer=infer, **behind)
