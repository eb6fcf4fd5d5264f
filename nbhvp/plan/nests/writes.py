"""Long histories of writes and long lists of pieces, rewritten as balanced concatenations.

In the graph, an array that is written part by part is a chain of updates, and its element at an index
is a nest of as many choices. If the parts do not overlap and are adjacent along an axis or in memory,
the chain becomes a concatenation of the parts, in which an element is found by bisection. A
concatenation of many pieces becomes one of concatenations, whose kernels are equal.

The derivative of a function of parts of x is a sum of parts in arrays of zeros. Those that do not
overlap become a concatenation too, which adds no zeros.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node
from nbhvp.plan.costs import CPU
from nbhvp.plan.nests.pull import contiguous

__all__ = ["concatenated", "histories", "joined", "summed", "sums"]

Part = tuple[int, int, Node]
"""Where a part begins along the axis, where it ends, and what it is."""


def histories(graph: Graph) -> dict[Node, list[Node]]:
    """The updates, last first, that nothing but the next one reads, by the last one."""
    users = Counter(arg for node in graph.nodes for arg in node.args)
    users.update(graph.outputs)
    found: dict[Node, list[Node]] = {}
    seen: set[Node] = set()
    for node in reversed(graph.nodes):
        if node.primitive is p.update and node not in seen:
            chain = [node]
            while (base := chain[-1].args[0]).primitive is p.update and users[base] == 1:
                chain.append(base)
            seen.update(chain)
            if len(chain) >= CPU.pieces:  # a shorter one stays as it is written
                found[node] = chain
    return found


def joined(history: Sequence[Node], new: dict[Node, Node]) -> Node | None:
    """What a history of updates comes to, from what their arguments come to; None if they overlap."""
    base = new[history[-1].args[0]]
    values = [new[update.args[1]] for update in history]
    boxes = [p.written(update) for update in history]
    for axis in range(base.ndim):
        if all(box.is_along(axis, base.shape) for box in boxes):
            starts = [box.axes[axis][0] for box in boxes]
            return _filled(base, axis, starts, values)
    strides = contiguous(base.shape)
    if not all(box.is_in_one_piece(base.shape) for box in boxes):
        return None
    starts = [
        sum(start * stride for (start, _, _), stride in zip(box.axes, strides, strict=True))
        for box in boxes
    ]
    flat = [p.reshape(value, shape=(value.size,)) for value in values]
    whole = _filled(p.reshape(base, shape=(base.size,)), 0, starts, flat)
    return whole and p.reshape(whole, shape=base.shape)


def sums(graph: Graph) -> dict[Node, list[Node]]:
    """The terms of each sum of which some are parts in arrays of zeros, by the sum."""
    users = Counter(arg for node in graph.nodes for arg in node.args)
    users.update(graph.outputs)
    found: dict[Node, list[Node]] = {}
    seen: set[Node] = set()
    for node in reversed(graph.nodes):
        if node.primitive is not p.add or node in seen:
            continue
        terms, pending = [], [node]
        while pending:
            one = pending.pop()
            is_sum = one.primitive is p.add and one.dtype == node.dtype
            if one is node or (is_sum and one.shape == node.shape and users[one] == 1):
                seen.add(one)
                pending += reversed(one.args)
            else:
                terms.append(one)
        if sum(map(_is_padded, terms)) > 1:
            found[node] = terms
    return found


def summed(terms: Sequence[Node], new: dict[Node, Node]) -> Node | None:
    """What a sum of terms comes to, with parts that do not overlap as one; None if all do."""
    groups: list[list[Node]] = []
    for term in terms:
        fitting = (group for group in groups[: CPU.pieces] if _is_concatenation([*group, term]))
        group = next(fitting, None)
        if group is None:
            groups.append([term])
        else:
            group.append(term)
    if len(groups) == len(terms):
        return None
    parts = [joined(group, new) if len(group) > 1 else new[group[0]] for group in groups]
    return functools.reduce(p.add, parts)


def _is_padded(node: Node) -> bool:
    return node.primitive is p.update and p.scalar_value(node.args[0]) == 0


def _is_concatenation(parts: Sequence[Node]) -> bool:
    """Whether some terms are parts of one array that are apart, and side by side."""
    if not all(map(_is_padded, parts)) or len({(part.shape, part.dtype) for part in parts}) > 1:
        return False
    *boxes, last = map(p.written, parts)
    shape = parts[0].shape
    return all(box.is_apart(last) for box in boxes) and (
        any(all(box.is_along(k, shape) for box in (*boxes, last)) for k in range(len(shape)))
        or all(box.is_in_one_piece(shape) for box in (*boxes, last))
    )


def _filled(base: Node, axis: int, starts: list[int], values: list[Node]) -> Node | None:
    """An array of parts at some starts along an axis, and of what it was between them."""
    parts = sorted(
        (
            (start, start + value.shape[axis], value)
            for start, value in zip(starts, values, strict=True)
        ),
        key=lambda part: part[0],
    )
    if any(end > start for (_, end, _), (start, _, _) in pairwise(parts)):
        return None
    pieces: list[Node] = []
    at = 0
    for start, end, value in parts:
        pieces += [*_rest(base, axis, at, start), value]
        at = end
    pieces += _rest(base, axis, at, base.shape[axis])
    return concatenated(pieces, axis)


def _rest(base: Node, axis: int, start: int, end: int) -> list[Node]:
    """What an array has along a part of an axis, if that has any extent."""
    if start == end:
        return []
    place = tuple(start if k == axis else 0 for k in range(base.ndim))
    size = tuple(end - start if k == axis else n for k, n in enumerate(base.shape))
    return [p.slice_(base, start=place, step=(1,) * base.ndim, size=size)]


def concatenated(pieces: Iterable[Node], axis: int) -> Node:
    """Pieces one behind the other, many of them in groups."""
    pieces = list(pieces)
    while len(pieces) > CPU.pieces:
        groups = (pieces[k : k + CPU.pieces] for k in range(0, len(pieces), CPU.pieces))
        pieces = [p.concatenate(*group, axis=axis) for group in groups]
    return pieces[0] if len(pieces) == 1 else p.concatenate(*pieces, axis=axis)
