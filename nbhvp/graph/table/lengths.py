"""Lengths: roots of sums of squares, and what is known of them where they are 0.

A length r = |x| has no derivative at x = 0, and the convention is 0. But smooth functions of it may
have a second derivative, f(r) = g(r^2) has, and a rule with zeros would lose it:

    f'(r) / r  v,    r -> 0     is f''(0) v where f'(0) = 0, and infinite elsewhere.

So there are two parts. Squares and even powers are those of x itself: `squared` rewrites products of
equal lengths, with factors and views around them (`_simplify_multiply`). For all other functions
second derivatives are uncertain at 0: NaN where they depend on how x leaves 0, that is where the
tangent of x is not 0 and f' or f'' is not.

`corner(r, s, *xs)` has the value r and knows this: s, a positive linear form of the squares of xs, is
r^2 (or vanishes with it). The rules of r itself give zeros at 0. The corner adds, only there,

    to the tangent of r   an uncertain one, if a tangent of xs is not 0     (`unknown`)
    to the adjoint of xs  a ghost: of value 0, and with an uncertain tangent, if the adjoint of r and
                          the tangent of xs are not 0 (`stain`), or if that adjoint's is (`carry`).

The first only where a second derivative is wanted (`derive.hvp` puts `strict_corner` there): first
derivatives are what they were. In tangents and adjoints of what follows, a factor of 0 wins over NaN
(`damped`): a length that a mask leaves out, or its third power, spoils nothing. Compiled programs
compute r for a corner and nothing for a ghost.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from nbhvp.graph import definitions, derive
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node
from nbhvp.graph.primitives import Primitive

__all__ = ["corner", "cornered", "root"]

DEPTH = 12
"""How far nodes are followed towards the inputs."""


# What is uncertain: 0, or NaN.


def _either(condition, x, y):
    """0 where the condition holds, else NaN; in the shape and dtype of a sum of x and y."""
    found = np.where(condition, 0.0, np.nan)
    return np.broadcast_to(found, np.broadcast_shapes(np.shape(x), np.shape(y))).astype(
        np.result_type(x, y)
    )


_REAL = partial(definitions.loop_dtypes, np.hypot)


def _product(name, evaluate, source, transposes, **fields) -> Primitive:
    """An elementwise entry that is linear in each of two arguments."""

    def tangent(z, dots, x, y):
        terms = [entry(dots[0], y)] if dots[0] is not None else []
        terms += [entry(x, dots[1])] if dots[1] is not None else []
        return sum(terms[1:], terms[0])

    entry = p.enter(
        Primitive(
            name, "general", evaluate, _shape_of_product, transposes, tangent, source=source,
            linear=((0,), (1,)), cost=4,
            **fields,
        )
    )  # fmt: skip
    return entry


def _shape_of_product(x, y):
    return np.broadcast_shapes(x.shape, y.shape), np.result_type(x.dtype, y.dtype)


def _unknown_tangent(z, dots, t, x):
    return stain(t, dots[1])


def _first(t, x):
    return t


def _are_apart(x, y, tolerance):
    return _either(np.abs(x - y) <= tolerance * (np.abs(x) + np.abs(y)), x, y)


def _refused(z_bar, z, x, y, tolerance):
    raise NotImplementedError(
        "lowering makes this primitive after differentiation, so it has no rule"
    )


# fmt: off
damped  = _product("damped", lambda x, y: np.where((x == 0) | (y == 0), 0, np.multiply(x, y)),
                   "({x} * {y} if ({x} != 0) & ({y} != 0) else 0.0)",
                   lambda z_bar, z, x, y: (damped(z_bar, p.conjugate(y)), damped(p.conjugate(x), z_bar)), dtypes=partial(definitions.loop_dtypes, np.multiply))
stain   = _product("stain", lambda x, y: _either((x == 0) | (y == 0), x, y),
                   "(math.nan if ({x} != 0) & ({y} != 0) else 0.0)",
                   lambda z_bar, z, x, y: (stain(z_bar, y), stain(x, z_bar)), dtypes=_REAL, lowered=lambda x, y: stain(_moved(x), _moved(y)))
apart   = p.elementwise("apart", None, lambda tolerance: f"(0.0 if abs({{x}} - {{y}}) <= {tolerance!r} * (abs({{x}}) + abs({{y}})) else math.nan)", evaluate=_are_apart,
                        transposes=_refused, dtypes=_REAL, result=lambda x, y, tolerance: x, linear=((0, 1),), cost=8, params={"tolerance": 1e-14})
unknown = p.elementwise("unknown", None, "(math.nan if {x} != 0 else 0.0)", evaluate=lambda t, x: _either(np.equal(t, 0), t, x), dtypes=_REAL, result=_first,
                        transposes=lambda z_bar, z, t, x: (carry(z_bar, x), None), tangent=_unknown_tangent, linear=((0,),), cost=2, lowered=lambda t, x: unknown(_moved(t), 0.0))
carry   = p.elementwise("carry", None, "(math.nan if {x} != {x} else 0.0)", evaluate=lambda t, x: _either(np.equal(t, t), t, x), dtypes=_REAL, result=_first,
                        transposes=lambda z_bar, z, t, x: (unknown(z_bar, x), None), linear=((0,),), cost=2, lowered=lambda t, x: carry(t, 0.0))
# fmt: on


def _moved(t: Node, depth: int = DEPTH) -> Node:
    """What is not 0 where t is not, even where rounding keeps equal terms from cancelling.

    The tangent of y[i] - y[i] is 0, but need not come out so: kernels contract and regroup.
    """
    entry, args = t.primitive, t.args
    if depth == 0 or t.dtype.kind != "f":
        return t
    if entry is p.subtract:
        return apart(*args, tolerance=float(64 * np.finfo(t.dtype).eps))
    if entry is p.add:
        x, y = (unknown(_moved(arg, depth - 1), 0.0) for arg in args)
        return p.broadcast(x + y, shape=t.shape)
    if entry is p.multiply or entry is damped:
        x, y = (_moved(arg, depth - 1) for arg in args)
        return t if (x, y) == args else p.broadcast(stain(x, y), shape=t.shape)
    if entry is p.divide or entry is p.negative or entry is p.cast:
        return p.broadcast(_moved(args[0], depth - 1), shape=t.shape)
    if entry.selects:
        positions = entry.linear[0] if entry.linear else range(len(args))
        args = [_moved(arg, depth - 1) if k in positions else arg for k, arg in enumerate(args)]
        return t if tuple(args) == t.args else entry(*args, **t.params)
    return t


def _ghost_tangent(z, dots, t, x):
    terms = []
    if dots[0] is not None:
        terms.append(carry(dots[0], x))
    if dots[1] is not None:
        terms.append(stain(t, dots[1]))
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


def _zeros_like(t, x):
    return p.zeros(t.pool, t.shape, t.dtype)


ghost = p.enter(
    Primitive(
        "ghost", "general", lambda t, x: np.zeros_like(t), lambda t, x: (t.shape, t.dtype),
        tangent=_ghost_tangent, linear=((0,),), lowered=_zeros_like, vanishes=True, uncertain=True,
    )
)  # fmt: skip


# Corners.


def _squares(xs, squared):
    """What s is linear in: squares, or nodes of which no more is known."""
    return [x * x if is_square else x for x, is_square in zip(xs, squared, strict=True)]


def _plain_tangent(z, dots, r, s, *xs, squared, exact):
    return dots[0]


def _strict_tangent(z, dots, r, s, *xs, squared, exact):
    """Where the length is 0, the tangents of xs make its own unknown."""
    moved = [
        (square, unknown(dot, x))
        for square, dot, x in zip(_squares(xs, squared), dots[2:], xs, strict=True)
        if dot is not None
    ]
    if not moved:
        return dots[0]
    lost = derive.jvp([s], *zip(*moved, strict=True), damps=True)[0]
    lost = p.where(p.equal(z, 0), lost, 0)
    return lost if dots[0] is None else dots[0] + lost


def _rule(added):
    """The adjoints: that of r, and what is added to those of xs where the length is 0."""

    def rule(z_bar, z, r, s, *xs, squared, exact):
        at_zero = p.where(p.equal(z, 0), z_bar, 0)
        bars = derive.vjp([s], _squares(xs, squared), [at_zero], damps=True)
        return (z_bar, None, *(added(bar, x) for bar, x in zip(bars, xs, strict=True)))

    return rule


def _exact_square(r, s, *xs, squared, exact):
    return s if exact else None


def _corner(name, **fields) -> Primitive:
    return p.enter(
        Primitive(
            name,
            "general",
            lambda r, *others, **params: r,
            lambda r, *others, **params: (r.shape, r.dtype),
            lowered=lambda r, *others, **params: r,
            square=_exact_square,
            nonnegative=lambda known, *args, **params: True,
            **fields,
        )
    )


strict_corner = _corner("strict_corner", tangent=_strict_tangent, rule=_rule(carry), uncertain=True)
corner = _corner("corner", tangent=_plain_tangent, rule=_rule(ghost), strict=strict_corner)


def cornered(r: Node, x: Node, axes: tuple[int, ...]) -> Node:
    """r, a norm of x over these axes other than the 2-norm."""
    square = p.real(x) * p.real(x)
    if x.is_complex:
        square = square + p.imag(x) * p.imag(x)
    return _cornered(r, p.reshape(p.sum_(square, axes=axes), shape=r.shape), exact=False)


def _cornered(r: Node, s: Node, exact: bool) -> Node:
    xs = dict.fromkeys(_coordinates(s, DEPTH))
    if not xs:
        return r
    nodes, squared = zip(*xs, strict=True)
    return corner(r, s, *nodes, squared=squared, exact=exact)


def _coordinates(s: Node, depth: int) -> list[tuple[Node, bool]]:
    """The nodes of whose squares s is a positive linear form; others, without the square."""
    if p.scalar_value(s) is not None or s.value is not None:
        return []
    entry, args = s.primitive, s.args
    if entry is p.multiply and args[0] is args[1]:
        return [(args[0], True)]
    alternatives = entry.linear if entry.linear is not None else (tuple(range(len(args))),)
    for positions in alternatives if depth and args else ():
        others = [arg for k, arg in enumerate(args) if k not in positions]
        if entry is not p.multiply or all(other.value is not None for other in others):
            return [one for k in positions for one in _coordinates(args[k], depth - 1)]
    return [(s, False)]


def _length_of(s: Node) -> Node:
    """sqrt(s) with derivative 0 where it is 0, for a sum of squares s."""
    is_zero = p.equal(s, 0)
    r = p.where(is_zero, 0, p.sqrt(p.where(is_zero, 1, s)))
    return _cornered(r, s, exact=True)


def _over_length(x, length):
    """The partial of a length, 0 where it is 0."""
    is_zero = p.equal(length, 0)
    return p.where(is_zero, 0, x / p.where(is_zero, 1, length))


def _hypot_rule(z, x, y):
    return _over_length(x, z), _over_length(y, z)


def _cornered_hypot(x, y):
    return _cornered(modulus(x, y), x * x + y * y, exact=True)


# fmt: off
root    = p.elementwise("root", None, "math.sqrt({x})", lambda z, x: (_over_length(0.5, z),), evaluate=lambda x: np.sqrt(x), dtypes=partial(definitions.loop_dtypes, np.sqrt),
                        result=definitions.first_dtype, domain=p.POSITIVE, cost=6, simplify=_length_of)
modulus = p.elementwise("modulus", None, "math.hypot({x}, {y})", _hypot_rule, evaluate=np.hypot, dtypes=partial(definitions.loop_dtypes, np.hypot),
                        result=lambda x, y: x, domain=p.POSITIVE, cost=p.CALL)
hypot   = p.elementwise("hypot", np.hypot, "math.hypot({x}, {y})", _hypot_rule, domain=p.POSITIVE, cost=p.CALL, simplify=_cornered_hypot)
# fmt: on
