"""Arrays that were put together of numbers, as operations on arrays: [sin(x_0) y_1, sin(x_1) y_2, ...]
is sin(x) y[1:].

A loop in Python gives one chain of nodes for each number of a list, or for each element that is
written, and each chain would be a piece of text of its own. Numbers that come from the same primitives
in the same order, applied to elements of the same arrays, to constants or to the same numbers, are of
one structure: the primitives are applied once, to arrays of the operands. These are views where the
places are affine, gathers where they are not. An array of several structures is one gather from all
of their arrays. Each element is computed as before, to the last bit. The time is linear in the nodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nbhvp.graph import definitions
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node, reachable

__all__ = ["stacked"]

FEWEST = 8
"""Numbers in an array that are worth it; half as many of one structure are."""
SPARSEST = 64
"""Elements of an array for each part of it."""
DEEPEST = 200
"""Operations in a chain: a longer one is a recurrence, whose steps differ."""


def stacked(*outputs: Node) -> tuple[Node, ...]:
    """The same values, with operations on arrays for many numbers of few structures."""
    nodes = reachable(outputs)
    roots = _roots(nodes)
    if not roots:
        return outputs
    new: dict[Node, Node] = {}
    for node in nodes:
        args = tuple(new[arg] for arg in node.args)
        new[node] = node if args == node.args else node.primitive(*args, **node.params)
        if node in roots:
            new[node] = _joined(roots[node], new) or new[node]
    return tuple(new[output] for output in outputs)


# Arrays as pieces.


class _Pieces:
    """What an array is put together of: nodes end to end, and for each element its place there."""

    def __init__(self, array: Node):
        self.array = array
        self.starts: dict[Node, int] = {}
        self.size = 0
        self.inside: set[Node] = set()
        self.places = self._of(array)

    @property
    def numbers(self) -> int:
        return sum(node.size == 1 for node in self.starts)

    def _of(self, node: Node) -> np.ndarray:
        if node.primitive is p.update:
            return self._of_updates(node)
        if node.primitive is p.concatenate or node.primitive is p.reshape:
            self.inside.add(node)
            return node.primitive.evaluate(*map(self._of, node.args), **node.params)
        if node not in self.starts:
            self.starts[node] = self.size
            self.size += node.size
        start = self.starts[node]
        return np.arange(start, start + node.size).reshape(node.shape)

    def _of_updates(self, node: Node) -> np.ndarray:
        chain = _updates(node)
        places = np.array(self._of(chain[-1].args[0]))
        for update in reversed(chain):
            self.inside.add(update)
            _, value = update.args
            places[definitions.strided(**update.params, size=value.shape)] = self._of(value)
        return places


def _updates(node: Node) -> list[Node]:
    """A chain of updates, the last first."""
    chain = [node]
    while chain[-1].args[0].primitive is p.update:
        chain.append(chain[-1].args[0])
    return chain


def _roots(nodes: Sequence[Node]) -> dict[Node, _Pieces]:
    """The arrays of many numbers that are not only parts of others.

    Of a chain of updates only the last: each other one would be as much work again.
    """
    roots: dict[Node, _Pieces] = {}
    inside: set[Node] = set()
    used: set[Node] = set()  # by others than the arrays that they are parts of
    for node in reversed(nodes):
        if node not in inside or (node in used and node.primitive is not p.update):
            pieces = _pieces(node)
            if pieces is not None:
                inside |= pieces.inside
                roots[node] = pieces
            else:
                used.update(node.args)
    return roots


def _pieces(node: Node) -> _Pieces | None:
    """Those of an array of many numbers."""
    is_update = node.primitive is p.update
    if not is_update and node.primitive is not p.concatenate:
        return None
    parts = len(_updates(node) if is_update else node.args)
    if not FEWEST <= node.size <= SPARSEST * parts:
        return None
    pieces = _Pieces(node)
    return pieces if pieces.numbers >= FEWEST else None


def _joined(pieces: _Pieces, new: dict[Node, Node]) -> Node | None:
    """An array of numbers of few structures, from an array for each; None if these are many."""
    structures = _Structures()
    groups: dict[Node | int, list[Node]] = {}
    for node in pieces.starts:
        of_number = structures.of(_number(new[node])) if node.size == 1 else None
        groups.setdefault(node if of_number is None else of_number, []).append(node)
    together = [group for group in groups.values() if len(group) >= FEWEST // 2]
    apart = len(pieces.starts) - sum(map(len, together))
    if len(together) + apart > len(pieces.starts) // 2:
        return None
    arrays: list[Node] = []
    places, at = np.empty(pieces.size, np.int64), 0
    for group in groups.values():
        if len(group) >= FEWEST // 2:
            arrays.append(_stacked(tuple(_number(new[node]) for node in group), {}))
        else:
            arrays += [p.reshape(new[node], shape=(node.size,)) for node in group]
        for node in group:
            start = pieces.starts[node]
            places[start : start + node.size] = np.arange(at, at + node.size)
            at += node.size
    flat = arrays[0] if len(arrays) == 1 else p.concatenate(*arrays, axis=0)
    return p.reshape(_taken(flat, places[pieces.places.ravel()]), shape=pieces.array.shape)


def _number(node: Node) -> Node:
    return p.reshape(node, shape=())


def _taken(flat: Node, places: np.ndarray) -> Node:
    """The elements of a vector at some places."""
    if np.array_equal(places, np.arange(flat.size)):
        return flat
    return p.gather(flat, p.constant(flat.pool, places), axis=0)


# Numbers of one structure.


class _Structures:
    """Equal keys for numbers that are computed in one way."""

    def __init__(self) -> None:
        self._known: dict[Node, tuple[int, int]] = {}
        self._keys: dict[tuple, int] = {}

    def of(self, node: Node) -> int:
        """Without recursion: chains may be long."""
        pending = [node]
        while pending:
            last = pending[-1]
            missing = [arg for arg in _operands(last) if arg not in self._known]
            pending += missing
            if not missing:
                self._known[pending.pop()] = self._found(last)
        return self._known[node][0]

    def _found(self, node: Node) -> tuple[int, int]:
        """The key of a node whose operands have theirs, and the operations in its longest chain."""
        operands = [self._known[arg] for arg in _operands(node)]
        depth = 1 + max((depth for _, depth in operands), default=0)
        key: tuple = ("node", node)
        if node.value is not None:
            key = ("constant", node.dtype)
        elif (array := _array_of(node)) is not None:
            key = ("element", array)
        elif operands and depth <= DEEPEST:
            params = tuple(sorted(node.params.items()))
            key = (node.primitive, node.dtype, params, *(key for key, _ in operands))
        else:
            depth = 0
        return self._keys.setdefault(key, len(self._keys)), depth


def _operands(node: Node) -> tuple[Node, ...]:
    """The numbers that a number is computed from."""
    return node.args if node.primitive.is_elementwise and node.shape == () else ()


def _array_of(node: Node) -> Node | None:
    """The array that a number is an element of, by a slice of size 1."""
    if node.primitive is not p.reshape or node.args[0].primitive is not p.slice_:
        return None
    (array,) = node.args[0].args
    return array if array.shape and node.size == 1 else None


def _stacked(nodes: tuple[Node, ...], known: dict) -> Node:
    """The array of numbers of one structure."""
    if nodes not in known:
        known[nodes] = _made(nodes, known)
    return known[nodes]


def _made(nodes: tuple[Node, ...], known: dict) -> Node:
    first, count = nodes[0], len(nodes)
    if first.value is not None:
        return p.constant(first.pool, np.array([node.params["value"] for node in nodes]))
    distinct = dict.fromkeys(nodes)
    if len(distinct) == 1:
        return p.broadcast(first, shape=(count,))
    if _array_of(first) is not None:
        return _elements([node.args[0] for node in nodes])
    if 2 * len(distinct) <= count:
        at = {node: k for k, node in enumerate(distinct)}
        return _taken(_stacked(tuple(distinct), known), np.array([at[node] for node in nodes]))
    columns = zip(*(node.args for node in nodes), strict=True)
    return first.primitive(*(_stacked(column, known) for column in columns), **first.params)


def _elements(slices: Sequence[Node]) -> Node:
    """Elements of one array, each a slice of it."""
    (array,) = slices[0].args
    starts = np.array([node.params["start"] for node in slices]).T
    places = np.ravel_multi_index(tuple(starts), array.shape).astype(np.int64)
    flat = p.reshape(array, shape=(math.prod(array.shape),))
    step = int(places[1] - places[0])
    if step > 0 and (np.diff(places) == step).all():
        return p.slice_(flat, start=(int(places[0]),), step=(step,), size=(places.size,))
    return p.gather(flat, p.constant(array.pool, places), axis=0)
