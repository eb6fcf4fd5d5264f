"""Shifts that a function does not depend on, such as the maximum in a sum of exponentials.

    f = m + log s,   s = sum_k e_k,   e_k = exp(z_k - m)

has the same value for every m. Its adjoint says so: the one part is b, that of f, and the other is
-sum_k e_k b / s, in which b / s does not change along the sum and e_k adds up to s. Where the parts of
an adjoint cancel like this, as formulas and not by their numbers, the derivative by m is 0 for all
arguments, and so are all its derivatives: m counts as a constant. Else the second derivative would
follow the maximum to the element that it was taken of, only to be added up to rounding errors.

Invariant: only adjoints change, and only by terms whose sum is 0 wherever it is a number.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node
from nbhvp.graph.rewrites import quotients

__all__ = ["added", "settled", "summed_to"]

MOST = 8
"""Factors of a product that is looked at."""
TERMS = 64
"""Terms of an adjoint, or of a sum, that is written out."""


def added(x: Node, y: Node) -> Node:
    """x + y, which is zero where one is the other with another sign."""
    (one, sign), (other, its_sign) = _signed(x), _signed(y)
    total = p.add(x, y)
    cancels = one is other and sign != its_sign and x.shape == y.shape
    if cancels or (total.value is not None and not total.value.any()):
        return p.zeros(x.pool, total.shape, total.dtype)
    return total


def settled(bar: Node) -> Node:
    """An adjoint that is added up: zero where it is b - e_1 b / s - e_2 b / s, with s = e_1 + e_2."""
    terms = _terms(bar) if bar.primitive in (p.add, p.subtract) else []
    for (denominator, sign, _), some in _quotients(terms).items():
        leaves = _terms(denominator)
        if len(leaves) != len(some) or Counter((e, 1) for _, e, _ in some) != Counter(leaves):
            continue
        total = _with_sign(some[0][2](), sign)
        for at, (one, its_sign) in enumerate(terms):
            if all(at != place for place, _, _ in some):
                total = added(total, _with_sign(one, its_sign))
        if p.scalar_value(total) == 0:
            return p.zeros(bar.pool, bar.shape, bar.dtype)
    return bar


def _with_sign(node: Node, sign: int) -> Node:
    return p.negative(node) if sign < 0 else node


def _quotients(terms: list[tuple[Node, int]]) -> dict[tuple, list[tuple[int, Node, Callable]]]:
    """Products by their denominators, signs and factors: for each term the factor that differs.

    With its place, and what makes the product of all other factors without the denominator.
    """
    found: dict[tuple, list[tuple[int, Node, Callable]]] = {}
    for at, (term, sign) in enumerate(terms if len(terms) > 2 else ()):
        factors = list(_factors(term))
        for one, e in itertools.permutations(factors, 2) if len(factors) <= MOST else ():
            others = [other for other in factors if other is not one and other is not e]
            for denominator, without in quotients.denominators(one):
                made = lambda without=without, others=others: _product(without(), others)
                key = denominator, sign, frozenset(others)
                found.setdefault(key, []).append((at, e, made))
    return found


def _terms(node: Node) -> list[tuple[Node, int]]:
    """The terms of a sum that is written out, with their signs; none if they are many."""
    found: list[tuple[Node, int]] = []
    pending = [(node, 1)]
    while pending:
        if len(found) + len(pending) > TERMS:
            return []
        one, sign = pending.pop()
        if one.primitive is p.add or one.primitive is p.subtract:
            second = sign if one.primitive is p.add else -sign
            pending += [(one.args[0], sign), (one.args[1], second)]
        elif one.primitive is p.negative:
            pending.append((one.args[0], -sign))
        else:
            found.append((one, sign))
    return found


def _signed(x: Node) -> tuple[Node, int]:
    """What a node is a view of, element for element, up to its sign."""
    sign = 1
    while x.primitive is p.negative or x.primitive is p.reshape:
        sign = -sign if x.primitive is p.negative else sign
        x = x.args[0]
    return x, sign


def summed_to(x: Node, shape: tuple[int, ...]) -> Node:
    """`sum_to`, of a product in which the sum of some factors is a denominator of the others."""
    missing = x.ndim - len(shape)
    axes = tuple(
        k for k, n in enumerate(x.shape) if n != 1 and (k < missing or shape[k - missing] == 1)
    )
    product, sign = (x.args[0], -1) if x.primitive is p.negative else (x, 1)
    if not axes or product.primitive is not p.multiply or x.dtype.kind != "f":
        return p.sum_to(x, shape)
    factors = list(_factors(product))
    outer = [one for one in factors if not _varies(one, x, axes)]
    inner = [one for one in factors if _varies(one, x, axes)]
    for one in (
        outer if len(factors) <= MOST and len(inner) == 1 and inner[0].shape == x.shape else ()
    ):
        rest = _without(one, inner[0], axes)
        if rest is not None:
            others = (_squeezed(other, x, axes) for other in outer if other is not one)
            whole = _product(_fitted(rest, one, x, axes), others)
            kept = tuple(n for k, n in enumerate(x.shape) if k not in axes)
            found = p.reshape(p.broadcast(whole, shape=kept), shape=tuple(shape))
            return p.negative(found) if sign < 0 else found
    return p.sum_to(x, shape)


def _factors(node: Node) -> Iterator[Node]:
    if node.primitive is p.multiply:
        for arg in node.args:
            yield from _factors(arg)
    else:
        yield node


def _varies(one: Node, x: Node, axes: Iterable[int]) -> bool:
    missing = x.ndim - one.ndim
    return any(k >= missing and one.shape[k - missing] != 1 for k in axes)


def _without(one: Node, inner: Node, axes: tuple[int, ...]) -> Node | None:
    """A factor without its denominator, if that is the sum of another along some axes."""
    while one.primitive is p.reshape:
        one = one.args[0]
    for denominator, without in quotients.denominators(one):
        total, sign = _signed(denominator)
        is_sum = total.primitive is p.sum_ and total.args[0] is inner
        if is_sum and sign > 0 and total.params["axes"] == axes and total.size == one.size:
            return without()
    return None


def _fitted(rest: Node, one: Node, x: Node, axes: tuple[int, ...]) -> Node:
    """What is left of a factor, as a factor of the sum."""
    return _squeezed(p.reshape(rest, shape=one.shape) if rest.size == one.size else rest, x, axes)


def _squeezed(one: Node, x: Node, axes: tuple[int, ...]) -> Node:
    if one.size == 1:
        return p.reshape(one, shape=())
    shape = (1,) * (x.ndim - one.ndim) + one.shape
    return p.reshape(one, shape=tuple(n for k, n in enumerate(shape) if k not in axes))


def _product(first: Node, others: Iterable[Node]) -> Node:
    for one in others:
        first = p.multiply(first, one)
    return first
