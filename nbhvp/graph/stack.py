"""Numbers of one structure as one array: [sin(x_0) y_1, sin(x_1) y_2, ...] is sin(x) y[1:].

A list of numbers that a loop computed is as many chains of nodes, each of which would be a piece of
text of its own. Where all items apply the same primitives in the same order, to elements of the same
arrays, to constants, or to the same numbers, the list is the primitives applied once to arrays: views
where the positions are affine, gathers where they are not. Each element is computed as before, to the
last bit. The time is linear in the number of nodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node

__all__ = ["stacked"]

DEEPEST = 200
"""Operations in a chain: a longer one is a recurrence, whose steps differ."""


def stacked(nodes: Sequence[Node]) -> Node | None:
    """The array of numbers (nodes of shape ()) if they are of one structure, else None."""
    return _stacked(tuple(nodes), {}, DEEPEST)


def _stacked(nodes: tuple[Node, ...], known: dict, depth: int) -> Node | None:
    if nodes not in known:
        known[nodes] = _made(nodes, known, depth)
    return known[nodes]


def _made(nodes: tuple[Node, ...], known: dict, depth: int) -> Node | None:
    first, count = nodes[0], len(nodes)
    if all(node is first for node in nodes):
        return p.broadcast(first, shape=(count,))
    alike = (first.primitive, first.dtype, len(first.args))
    if depth == 0 or any((n.primitive, n.dtype, len(n.args)) != alike for n in nodes):
        return None
    if first.value is not None:
        return p.constant(first.pool, np.array([node.params["value"] for node in nodes]))
    if first.primitive is p.reshape:
        return _elements(tuple(node.args[0] for node in nodes))
    if first.primitive.kind != "elementwise" or any(n.params != first.params for n in nodes):
        return None
    columns = zip(*(node.args for node in nodes), strict=True)
    args = [_stacked(column, known, depth - 1) for column in columns]
    if any(arg is None for arg in args):
        return None
    return first.primitive(*args, **first.params)


def _elements(nodes: tuple[Node, ...]) -> Node | None:
    """Elements of one array by slices of size 1."""
    if any(node.primitive is not p.slice_ or node.size != 1 for node in nodes):
        return None
    (array, *others) = {node.args[0] for node in nodes}
    if others or not array.shape:
        return None
    starts = np.array([node.params["start"] for node in nodes]).T
    places = np.ravel_multi_index(tuple(starts), array.shape).astype(np.int64)
    flat = p.reshape(array, shape=(math.prod(array.shape),))
    step = int(places[1] - places[0])
    if step > 0 and (np.diff(places) == step).all():
        return p.slice_(flat, start=(int(places[0]),), step=(step,), size=(len(nodes),))
    return p.gather(flat, p.constant(array.pool, places), axis=0)
