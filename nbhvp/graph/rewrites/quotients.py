"""Products of derivatives in which a factor meets its own reciprocal.

The adjoint of log x in x log x is x times the outer one, and the partial is 1 / x: their product is
the outer adjoint itself. Computed as it stands, 1 / x overflows where x is subnormal, and the second
derivative has x / x^2, which is infinite from 1e-154 down. So a factor that stands in one operand and
in the denominator of the other is left out of both. Functions of the user's are computed as written:
only what derivatives multiply comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node

__all__ = ["denominators", "times"]

DEPTH = 3
"""How far operands are followed for their factors."""


def times(x: Node, y: Node) -> Node:
    """x y, without the factors of one that are denominators in the other."""
    for one, other in ((x, y), (y, x)):
        if not _has_denominator(one, DEPTH):
            continue
        for denominator, numerator in denominators(one):
            for factor, put in _factors(other, DEPTH):
                if factor is denominator:
                    return p.broadcast(numerator() * put(_one(other)), shape=_shape(x, y))
    return x * y


def _one(like: Node) -> Node:
    return p.constant(like.pool, np.ones((), like.dtype))


def _shape(x: Node, y: Node) -> tuple[int, ...]:
    return p.multiply.infer(x, y)[0]


def _has_denominator(node: Node, depth: int) -> bool:
    entry = node.primitive
    if entry is p.multiply or entry is p.negative:
        return depth > 0 and any(_has_denominator(arg, depth - 1) for arg in node.args)
    return entry is p.divide


def denominators(node: Node, depth: int = DEPTH) -> Iterator[tuple[Node, Callable[[], Node]]]:
    """The denominators of a node, each with what makes the node without it."""
    if node.primitive is p.divide:
        yield node.args[1], lambda: node.args[0]
    if depth and node.primitive in (p.multiply, p.negative):
        for k, arg in enumerate(node.args):
            for found, without in denominators(arg, depth - 1):
                yield found, lambda k=k, without=without: _replaced(node, k, without())


def _factors(node: Node, depth: int) -> Iterator[tuple[Node, Callable]]:
    """The factors of a node, each with what puts another node in its place."""
    yield node, lambda other: other
    if depth and node.primitive in (p.multiply, p.negative, p.divide):
        for k, arg in enumerate(node.args[:1] if node.primitive is p.divide else node.args):
            for found, put in _factors(arg, depth - 1):
                yield found, lambda other, k=k, put=put: _replaced(node, k, put(other))


def _replaced(node: Node, k: int, other) -> Node:
    return node.primitive(*node.args[:k], other, *node.args[k + 1 :])
