"""What squares of roots are: rewrites in which no root, and no kink of one, is left.

A length r is not smooth where it is 0, but r^2 is. An entry whose square is smooth where it is not
itself tells so (`Primitive.square`); what selects elements of such nodes has the selected squares. A
product of two nodes with one length among their factors becomes one with its square:

    (k r) (r / h)  ->  k (r^2 / h)

with each factor where it was, so that nothing overflows that did not. sqrt(s) counts only where s is
known to be at least 0: of other numbers it is NaN, and its square too.
"""

from __future__ import annotations

from collections.abc import Callable

from nbhvp.graph.node import Node

__all__ = ["is_nonnegative", "product_of_lengths", "square_of"]

DEPTH = 8
"""How far nodes are followed towards the inputs."""
MOST_FACTORS = 32
"""Nodes that are looked at for the factors of one."""
MOST_NUMBERS = 4096
"""Elements of a constant that are looked at."""


def square_of(node: Node, depth: int = DEPTH) -> Node | None:
    """The square of a node by a smooth form; None where it is node * node."""
    entry = node.primitive
    if node.dtype.kind != "f" or depth == 0:
        return None
    if entry.square is not None:
        return entry.square(*node.args, **node.params)
    if not (entry.selects or entry.converts):
        return None
    squares = {k: square_of(node.args[k], depth - 1) for k in _selected(node)}
    if all(square is None for square in squares.values()):
        return None
    args = list(node.args)
    for k, square in squares.items():
        args[k] = args[k] * args[k] if square is None else square
    return entry(*args, **node.params)


def _selected(node: Node) -> tuple[int, ...]:
    alternatives = node.primitive.linear
    return tuple(range(len(node.args))) if alternatives is None else alternatives[0]


def product_of_lengths(x: Node, y: Node, ones: Callable[[Node], Node]) -> Node | None:
    """x y, where both have one length among their factors; None where they have not.

    `ones` gives the array of ones that is like a node.
    """
    ours = _factors(x, [MOST_FACTORS], ones)
    theirs = ours if x is y else ours and _factors(y, [MOST_FACTORS], ones)
    for length, put in ours.items():
        if length in theirs:
            return put(theirs[length](square_of(length)))
    return None


def _factors(node: Node, budget: list[int], ones: Callable) -> dict[Node, Callable[[Node], Node]]:
    """The lengths among the factors of a node, each with what puts another node in its place."""
    budget[0] -= 1
    if budget[0] < 0 or node.dtype.kind != "f":
        return {}
    if square_of(node) is not None:
        return {node: lambda other: other}
    entry, found = node.primitive, {}
    if entry.selects and _selected(node) == (0,):
        for length, put in _factors(node.args[0], budget, ones).items():
            view = entry(length, *node.args[1:], **node.params)
            found.setdefault(view, _beside(node, length, put, ones))
        return found
    for positions in entry.linear or () if entry.is_elementwise else ():
        if len(positions) == 1:
            inside = _factors(node.args[positions[0]], budget, ones)
            for length, put in inside.items():
                found.setdefault(length, _within(node, positions[0], put))
    return found


def _beside(node: Node, length: Node, put: Callable, ones: Callable) -> Callable[[Node], Node]:
    """A view of a product as a product of views."""

    def put_beside(other: Node) -> Node:
        factor = put(ones(length))
        assert factor.shape == node.args[0].shape, "ones in the place of a length change the shape"
        return node.primitive(factor, *node.args[1:], **node.params) * other

    return put_beside


def _within(node: Node, position: int, put: Callable[[Node], Node]) -> Callable[[Node], Node]:
    def put_within(other: Node) -> Node:
        args = (*node.args[:position], put(other), *node.args[position + 1 :])
        return node.primitive(*args, **node.params)

    return put_within


def is_nonnegative(node: Node, depth: int = DEPTH) -> bool:
    """Whether all elements are known to be at least 0, or NaN."""
    entry = node.primitive
    if node.value is not None:
        is_real = node.dtype.kind in "biuf" and node.size <= MOST_NUMBERS
        return is_real and bool((node.value >= 0).all())
    if depth == 0 or node.dtype.kind not in "biuf":
        return False
    if entry.nonnegative is not None:
        known = lambda arg: is_nonnegative(arg, depth - 1)
        return entry.nonnegative(known, *node.args, **node.params)
    return entry.selects and all(is_nonnegative(node.args[k], depth - 1) for k in _selected(node))
