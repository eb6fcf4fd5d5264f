"""Blocks of directions: products of several directions at one point that are computed together.

A product that spends its time on matrices times vectors reads each matrix once for all directions of
a block: the directions are the last axis, and such products become matrix products. A product of
matrix products already gains nothing (measured: a network of 235146 weights takes as long
by blocks of 8). All others are computed one at a time too, since a block of elementwise work leaves
the caches that one direction stays in (measured: 2 to 4 times slower for a stencil of 10^5
elements). Sweeps over a tape read its partials once for a block, and wait
less for each other's results, as long as the block's tangents stay in cache. Loops over time make
vectors of the directions (measured: a direction takes 0.2 of the time for Runge-Kutta steps), as long
as what their steps write stays in cache. Solves by factors read
these in the same way, and are counted with the sweeps (measured, 500 x 500: blocks of 8 take
0.7 of the time, those of 32 half, but twice as long if the matrix has a dense tangent).

Invariant: a block has a fixed number of directions, so a product has at most one additional program,
and its memory is bounded. An incomplete last block is filled up with
zeros if it is a large part of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from nbhvp.graph.node import Graph, dependent
from nbhvp.plan.costs import CPU, Costs
from nbhvp.targets.cpu.results import empty

__all__ = ["Several", "choose", "in_blocks", "padded_from"]

TOGETHER, PART = 2 * CPU.lanes, CPU.l1 // CPU.line
"""Columns that are made contiguous at a time, and how many entries of each before the next: as many
lines as the first cache has."""


THREADS = 256
"""Directions that a GPU takes through the steps of a loop at once, each by a thread."""
FEW, MANY = 8, 32
"""Directions that a GPU takes at once through other products: the state is read once for all, and each
launch has as much more to do."""


@dataclass(frozen=True, eq=False)
class Several:
    """A program for a block of so many directions."""

    program: Any
    count: int


def padded_from(count: int) -> int:
    """How many directions are computed as a block of `count`: it is filled up with zeros."""
    return count // 4 + 1


def choose(graph: Graph, costs: Costs = CPU) -> int | None:
    """How many directions a product graph, whose last input they are, takes; None for one at a time."""
    # What plans is imported when something is planned.
    from nbhvp.plan.lower import lower
    from nbhvp.plan.nests.pull import is_pulled

    nodes = lower(graph, in_one_pass=False).nodes
    active = dependent(nodes, graph.inputs[-1:])
    vectors = matrices = other = sweeps = size = rows = 0.0
    for node in nodes:
        if node not in active or not node.args:
            continue
        if node.primitive.kind == "bilinear":
            (_, m, n), k = node.shape, node.args[0].shape[2]
            if min(m, n) == 1:
                vectors += node.size * k * CPU.load
            else:
                matrices += node.size * k * CPU.multiply_add
        elif node.primitive.is_elementwise or node.primitive.reduction:
            other += max(node.size, *(arg.size for arg in node.args)) * CPU.near
        elif node.primitive.body is not None:
            sweeps += node.params["length"] * node.primitive.body.operations * CPU.scalar
            rows += node.size * node.dtype.itemsize
        elif not is_pulled(node):
            sweeps += sum(arg.size for arg in node.args if arg not in active) * CPU.load
        size += node.size * node.dtype.itemsize
    if not costs.has_vectors and sweeps <= max(vectors, matrices, other):
        return MANY if MANY * size <= CPU.most else FEW if FEW * size <= CPU.most else None
    if vectors + matrices + other + sweeps < CPU.several or max(vectors, matrices, sweeps) < other:
        return None
    if sweeps > max(vectors, matrices):
        if not costs.has_vectors:
            return THREADS
        is_cached = sweeps / CPU.load * 8 <= CPU.l3 and rows * CPU.lanes <= CPU.shared
        return CPU.lanes if is_cached else None
    if matrices > vectors:
        return None
    count = 4 * CPU.lanes
    while count > CPU.lanes and count * size > CPU.most:
        count //= 2
    return count


def in_blocks(
    one: Callable,
    several: Several | None,
    cold: Sequence[np.ndarray],
    v: np.ndarray,
    shape: tuple[int, ...],
    dtype: DTypeLike,
) -> np.ndarray:
    """The products with all directions along the last axis of v, each of a shape and dtype.

    `one` is the product with a direction; `cold` are the inputs of `several` but the directions.
    """
    if several is None:
        return _rows(one, v, shape, dtype)
    many, block, count = several.program.bind(*cold), several.count, v.shape[-1]
    cut = count - count % block
    if count - cut >= padded_from(block):
        cut = count
    if cut == count == block:
        return many(np.asarray(v, order="C"))
    out = empty((*shape, count), np.dtype(dtype))
    for a in range(0, cut, block):
        some = v[..., a : a + block]
        width = some.shape[-1]
        directions = np.zeros((*v.shape[:-1], block), v.dtype)
        directions[..., :width] = some
        out[..., a : a + width] = many(directions)[..., :width]
    if cut < count:
        out[..., cut:] = _rows(one, v[..., cut:], shape, dtype)
    return out


def _rows(one: Callable, v: np.ndarray, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Products of directions that are made contiguous; the result is in Fortran's order."""
    count = v.shape[-1]
    out = empty((count, *shape), np.dtype(dtype))
    buffer = empty((min(count, TOGETHER), *v.shape[:-1]), v.dtype)
    for start in range(0, count, TOGETHER):
        rows = _transposed(v[..., start : start + TOGETHER], buffer)
        for at in range(len(rows)):
            one(rows[at, ...], out[start + at, ...])
    return np.moveaxis(out, 0, -1)


def _transposed(v: np.ndarray, buffer: np.ndarray) -> np.ndarray:
    """The last axis first, in C order: a copy in a buffer, unless it lies so already."""
    rows = np.moveaxis(v, -1, 0)
    if rows.flags.c_contiguous:
        return rows
    out = buffer[: len(rows)]
    if rows.ndim == 1:
        out[...] = rows
    # By parts: what is read for one row is still in the cache for the next.
    for a in range(0, rows.shape[1] if rows.ndim > 1 else 0, PART):
        out[:, a : a + PART] = rows[:, a : a + PART]
    return out
