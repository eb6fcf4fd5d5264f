"""Collects the coefficients of each tangent, so that a product of the Hessian loads fewer arrays.

Differentiated twice, a long scalar expression of u gives a long chain of products and sums, and each
of its factors would be loaded for each product. But the chain is linear in the tangents: between some
tangents and their use it equals sum_i c_i t_i, with coefficients that do not depend on v. Here the c_i
become nodes, as in a product derived by hand, and the minimum cut (`split`) decides whether each one is
stored at the point or computed again.

A sum over axes along which a tangent and some factors are constant equals these times the sum of the
other factors: a product with the 250 parameters of a mixture then does not read the tangents again for
each of 1000 samples. The sum of factors that do not depend on v is one more coefficient.

Only sums and products of one real dtype are collected, and not choices: the branch that `where` leaves
out may be infinite, and must not be multiplied by a coefficient of zero. In steps of recurrences a choice
between multiples of one tangent is a multiple of it, with a chosen coefficient.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, dependent
from nbhvp.plan.costs import CPU

__all__ = ["collected"]

_Form = dict[Node, tuple[Node, ...]]
"""For each tangent, the factors of its coefficient."""


def collected(
    graph: Graph,
    directions: Iterable[Node],
    most: int | None = None,
    late: Collection[Node] = (),
) -> Graph:
    """The same product, with the coefficients of each tangent collected, of a few in one sum.

    With `most`, of so many; sums of the directions alone and choices are taken apart, too. Tangents that
    are `late`, since steps before compute them, are added last.
    """
    directions = [*directions]
    active = dependent(graph.nodes, directions) | {*directions}
    users: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        for arg in node.args:
            users.setdefault(arg, []).append(node)
    forms: dict[Node, _Form] = {}
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        if node not in active:
            new[node] = node
            continue
        args = tuple(new[arg] for arg in node.args)
        same = node if args == node.args else node.primitive(*args, **node.params)
        form = None
        if node.primitive is p.sum_ and _is_collected(node):
            form = _form_of_sum(node, forms[node.args[0]])
        elif most and node.primitive is p.where and node.args[0] not in active:
            form = _form_of_choice(node, active, forms, new, most)
        elif _is_collected(node):
            form = _form(node, active, forms, new, most)
        if form is None:
            new[node], forms[node] = same, {same: ()}
            continue
        forms[node] = form
        is_used_whole = node in graph.outputs or any(
            user in active and not _is_collected(user) for user in users.get(node, ())
        )
        new[node] = _written(node, form, late) if is_used_whole else same
    return Graph(graph.inputs, tuple(new[node] for node in graph.outputs))


def _is_collected(node: Node) -> bool:
    kinds = (p.add, p.subtract, p.multiply, p.divide, p.negative, p.broadcast, p.sum_)
    return node.primitive in kinds and node.dtype.kind == "f"


def _form(node: Node, active: set[Node], forms: dict, new: dict, most: int | None) -> _Form | None:
    """A node as a sum over tangents; None if these are too many, or their dtypes differ."""
    first, *rest = node.args
    entry = node.primitive
    if entry is p.broadcast:
        parts = [forms[first]]
    elif entry is p.negative:
        parts = [_times(node, forms[first], _number(node, -1))]
    elif entry is p.add or entry is p.subtract:
        sign = () if entry is p.add else (_number(node, -1),)
        both = [forms[arg] for arg in node.args if arg in active]
        has_factors = most or any(factors for form in both for factors in form.values())
        if len(both) < 2 or not has_factors:
            # Without factors, the sum is a tangent as good as its terms.
            return None
        parts = [both[0], _times(node, both[1], *sign)]
    elif entry is p.divide:
        if rest[0] in active:
            return None
        parts = [_times(node, forms[first], p.divide(_number(node, 1), new[rest[0]]))]
    else:
        (tangent,) = (arg for arg in node.args if arg in active)
        (factor,) = (arg for arg in node.args if arg not in active)
        parts = [_times(node, forms[tangent], new[factor])]
    total = _sum_of_forms(node, *parts)
    if len(total) > (most or CPU.tangents) or any(t.dtype != node.dtype for t in total):
        return None
    return total


def _form_of_choice(
    node: Node, active: set[Node], forms: dict, new: dict, most: int
) -> _Form | None:
    """A choice of tangents as a sum over them, whose coefficients are chosen.

    What one branch has alone stays a choice: left out, it may be NaN, which no coefficient takes away.
    """
    condition, *branches = node.args
    for one in branches:
        if one not in active and p.scalar_value(one) != 0:
            return None
    parts: list[_Form] = [
        {
            tangent: (_product(node, _chosen(factors, new[condition], k)),)
            for tangent, factors in (forms[one] if one in active else {}).items()
        }
        for k, one in enumerate(branches)
    ]
    both = [tangent for tangent in parts[0] if tangent in parts[1]]
    total: _Form = {
        tangent: (p.where(new[condition], *(_product(node, part[tangent]) for part in parts)),)
        for tangent in both
    }
    alone = [{t: factors for t, factors in part.items() if t not in total} for part in parts]
    if any(alone):
        written = (_written(node, form, ()) if form else _number(node, 0) for form in alone)
        total[p.where(new[condition], *written)] = ()
    if len(total) > most or any(t.dtype != node.dtype or t.shape != () for t in total):
        return None
    return total


def _chosen(factors: Iterable[Node], condition: Node, branch: int) -> list[Node]:
    """Factors as they are in one branch of a choice: of choices by the same condition, what it takes."""
    found: list[Node] = []
    for factor in factors:
        for one in _factors(factor):
            if one.primitive is p.where and one.args[0] is condition:
                found += _chosen(one.args[1 + branch : 2 + branch], condition, branch)
            elif one.primitive in (p.add, p.subtract):
                terms = (_product(one, _chosen((arg,), condition, branch)) for arg in one.args)
                found.append(p.broadcast(one.primitive(*terms), shape=one.shape))
            else:
                found.append(one)
    return found


def _sum_of_forms(node: Node, *parts: _Form) -> _Form:
    total: _Form = {}
    for part in parts:
        for tangent, factors in part.items():
            if tangent in total:
                factors = (p.add(_product(node, total[tangent]), _product(node, factors)),)
            total[tangent] = factors
    return total


def _form_of_sum(node: Node, form: _Form) -> _Form:
    """A sum over axes, with what does not change along them taken out of it."""
    arg, axes = node.args[0], node.params["axes"]
    found: _Form = {}
    inside: dict[tuple[Node, ...], _Form] = {}
    for tangent, factors in form.items():
        outer = tuple(one for one in factors if not _varies(one, arg, axes))
        inner = tuple(one for one in factors if _varies(one, arg, axes))
        if not inner and (total := _summed_within(tangent, arg, axes)) is not None:
            outer = tuple(_squeezed(one, arg, axes) for one in outer)
            found = _sum_of_forms(node, found, {total: outer})
        elif _varies(tangent, arg, axes):
            # Numbers stay: terms that differ in these alone are one sum.
            numbers = (one for one in outer if one.size == 1)
            outer = _ordered(one for one in outer if one.size > 1)
            inside.setdefault(outer, {})[tangent] = (*inner, *numbers)
        else:
            # Two tangents may differ in their shapes alone.
            squeezed = _squeezed(tangent, arg, axes)
            coefficient = _summed(node, _product(node, inner))
            factors = (*(_squeezed(one, arg, axes) for one in outer), coefficient)
            found = _sum_of_forms(node, found, {squeezed: factors})
    for outer, some in inside.items():
        common, whole = _terms(arg, some)
        common_factors = tuple(_squeezed(one, arg, axes) for one in (*outer, common))
        found = _sum_of_forms(node, found, {_summed(node, whole): common_factors})
    return found


def _summed_within(tangent: Node, arg: Node, axes: tuple[int, ...]) -> Node | None:
    """The sum of a sum of products of which one factor does not change: that of the other is taken first."""
    if tangent.primitive is not p.sum_ or tangent.args[0].primitive is not p.multiply:
        return None
    terms, summed = tangent.args[0], tangent.params["axes"]
    places = [k for k in range(terms.ndim) if k not in summed]
    missing = arg.ndim - tangent.ndim
    along = tuple(places[k - missing] for k in axes if k >= missing)
    for fixed, other in (terms.args, terms.args[::-1]):
        if along and len(along) == len(axes) and not _varies(fixed, terms, along):
            whole = p.reshape(other, shape=(1,) * (terms.ndim - other.ndim) + other.shape)
            if any(whole.shape[k] != terms.shape[k] for k in along):
                return None
            total = p.sum_(whole, axes=along)
            total = p.reshape(
                total, shape=tuple(1 if k in along else n for k, n in enumerate(whole.shape))
            )
            product = p.sum_(p.multiply(fixed, total), axes=summed)
            return _squeezed(product, arg, axes)
    return None


def _varies(one: Node, arg: Node, axes: tuple[int, ...]) -> bool:
    """Whether a node that broadcasts to the shape of another changes along some of its axes."""
    missing = arg.ndim - one.ndim
    return any(k >= missing and one.shape[k - missing] != 1 for k in axes)


def _squeezed(one: Node, arg: Node, axes: tuple[int, ...]) -> Node:
    """A node that does not change along some axes of another, without these."""
    if p.scalar_value(one) is not None:
        return _number(one, p.scalar_value(one))
    shape = (1,) * (arg.ndim - one.ndim) + one.shape
    return p.reshape(one, shape=tuple(n for k, n in enumerate(shape) if k not in axes))


def _summed(node: Node, product: Node) -> Node:
    """The sum of what broadcasts to a sum's argument, in the shape that broadcasts to the result's."""
    arg, axes = node.args[0], node.params["axes"]
    shape = (1,) * (arg.ndim - product.ndim) + product.shape
    shape = tuple(arg.shape[k] if k in axes else n for k, n in enumerate(shape))
    return p.sum_(p.broadcast(product, shape=shape), axes=axes)


def _number(node: Node, value: float) -> Node:
    return p.constant(node.pool, np.asarray(value, node.dtype))


def _times(node: Node, form: _Form, *factors: Node) -> _Form:
    more = [one for factor in factors for one in _factors(factor)]
    return {tangent: (*_few(node, others), *more) for tangent, others in form.items()}


def _few(node: Node, factors: tuple[Node, ...]) -> tuple[Node, ...]:
    return factors if len(factors) <= CPU.pieces else (_product(node, factors),)


def _factors(node: Node) -> list[Node]:
    """The factors of a product: signs and numbers among them hide that two are the same."""
    found: list[Node] = []
    pending = [node]
    while pending:
        if len(found) + len(pending) > CPU.pieces:
            return [node]
        one = pending.pop()
        if one.primitive is p.multiply:
            pending += reversed(one.args)
        elif one.primitive is p.negative:
            found.append(_number(one, -1))
            pending.append(one.args[0])
        else:
            value = p.scalar_value(one)
            found.append(one if value is None else _number(one, value))
    return found


def _product(node: Node, factors: Iterable[Node]) -> Node:
    """The product of some factors, in an order of its own: so equal products are one node."""
    factors = [*factors]
    values = [p.scalar_value(one) for one in factors]
    total = _number(node, math.prod(value for value in values if value is not None))
    left = (one for one, value in zip(factors, values, strict=True) if value is None)
    for factor in _ordered(left):
        total = p.multiply(total, factor)
    return total


def _ordered(factors: Iterable[Node]) -> tuple[Node, ...]:
    """Factors in their order in a product: numbers, then small arrays, which large ones repeat."""
    key = lambda one: (p.scalar_value(one) is None, one.size, one.index)
    return tuple(sorted(factors, key=key))


def _written(node: Node, form: _Form, late: Collection[Node]) -> Node:
    """A form as a node of its own shape."""
    common, total = _terms(node, form, late)
    return p.broadcast(p.multiply(common, total), shape=node.shape)


def _terms(node: Node, form: _Form, late: Collection[Node] = ()) -> tuple[Node, Node]:
    """A number that all terms of a form have in common, and the sum of the rest.

    Tangents that have the same factors are added up first, the small ones before all others. Numbers
    come last: what differs in a sign or number alone shares all else.
    """
    groups: dict[tuple[Node, ...], list[tuple[Node, Node]]] = {}
    order = lambda item: (item[0] in late, item[0].size, item[0].index)
    for tangent, factors in sorted(form.items(), key=order):
        known = [one for one in factors if p.scalar_value(one) is not None]
        rest = _ordered(one for one in factors if p.scalar_value(one) is None)
        groups.setdefault(rest, []).append((_product(node, known), tangent))
    terms = []
    for factors, alike in groups.items():
        number, total = _added(node, alike)
        numbers = (number, *(one for one in factors if one.size == 1))
        term = _term(node, total, [one for one in factors if one.size > 1])
        terms.append((_product(node, numbers), term))
    return _added(node, terms)


def _added(node: Node, terms: Iterable[tuple[Node, Node]]) -> tuple[Node, Node]:
    """The sum of terms that each have a number: a number that they have in common, and the rest."""
    total: Node | None = None
    common = _number(node, 1)
    for number, term in terms:
        if total is None:
            total, common = term, number
            continue
        value, first = p.scalar_value(number), p.scalar_value(common)
        if number is common or (value is not None and value == first):
            total = p.add(total, term)
        elif value is not None and first is not None and value == -first:
            total = p.subtract(total, term)
        else:
            total = p.add(p.multiply(common, total), p.multiply(number, term))
            common = _number(node, 1)
    assert total is not None, "a form has a tangent"
    return common, total


def _term(node: Node, tangent: Node, factors: list[Node]) -> Node:
    """A tangent times its factors, the larger of which come last."""
    small = (one for one in factors if one.size <= tangent.size)
    large = (one for one in factors if one.size > tangent.size)
    return p.multiply(_product(node, large), p.multiply(_product(node, small), tangent))
