"""Arithmetic between numbers of double precision, in few steps.

Most operations of a loop over time are between single numbers. They need neither broadcasting nor
promotion, share no memory, and Python or NumPy computes them in 50 ns: so `Number` has operators of its
own, which make the request and the result at once. Whatever is not a number of double precision, may
raise, or is recorded in another way goes the way of all arrays (`operators`).

Invariant: value, type and request are those that the general way gives.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

import nbhvp.trace.operators  # noqa: F401 the methods of all arrays
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node
from nbhvp.graph.requests import Requests
from nbhvp.trace.answers import ANSWERS
from nbhvp.trace.arrays import Number, Traced
from nbhvp.trace.recording import present

__all__ = ["quick"]

WHOLE = 2**53
"""Integers up to here are numbers of double precision."""
_NUMBERS = (float, np.float64, int)


def quick(function: Callable) -> Callable | None:
    """What a ufunc gives of numbers, or NotImplemented; None if it has no such form."""
    if not isinstance(function, np.ufunc) or function.nin > 2 or function.nout != 1:
        return None
    primitive = p.primitive_of(function)
    if primitive is None or function in ANSWERS or function not in _FUNCTIONS:
        return None
    return (_unary if function.nin == 1 else _binary)(primitive, function)


_FUNCTIONS = {
    np.add, np.subtract, np.multiply, np.divide, np.negative, np.sqrt, np.exp, np.log, np.sin,
    np.cos, np.tan, np.sinh, np.cosh, np.tanh, np.arctan, np.arcsin, np.arccos, np.log1p,
    np.expm1, np.absolute, np.maximum, np.minimum, np.cbrt, np.exp2, np.log2, np.log10,
}  # fmt: skip


def _pool_of(x: Any) -> Requests | None:
    """Where the requests of a number go, if they may be made here."""
    recording = present()
    if recording is None or recording.watch is not None:
        return None
    pool = recording.pool
    return pool if pool.asks and x.node.pool is pool else None


def _node(pool: Requests, y: Any) -> Node | None:
    """The node of an operand that is a number of double precision."""
    kind = type(y)
    if kind is Number:
        return y.node if y.node.pool is pool else None
    if kind in _NUMBERS and (kind is not int or -WHOLE <= y <= WHOLE):
        node = pool.doubles.get(y)
        if node is None:
            node = p.constant(pool, y, float)
            if y:  # 0 and -0 are equal, and not the same; NaN equals nothing
                pool.doubles[y] = node
        return node
    return None


def _unary(primitive: p.Primitive, plain: Callable) -> Callable:
    def call(x):
        pool = _pool_of(x) if type(x) is Number else None
        if pool is None:
            return NotImplemented
        present().count_scalar()
        return Number(pool.number(primitive, (x.node,)), plain(x.value))

    return call


def _binary(primitive: p.Primitive, plain: Callable, raises: bool = False) -> Callable:
    def call(x, y):
        first = x if type(x) is Number else y
        pool = _pool_of(first) if type(first) is Number else None
        if pool is None:
            return NotImplemented
        nodes = _node(pool, x), _node(pool, y)
        if nodes[0] is None or nodes[1] is None:
            return NotImplemented
        x = x.value if type(x) is Number else x
        y = y.value if type(y) is Number else y
        if raises and (present().divides_by_python or np.float64 not in (type(x), type(y))):
            return NotImplemented
        present().count_scalar()
        return Number(pool.number(primitive, nodes), plain(x, y))

    return call


def _operator(name: str, compute: Callable, reflected: bool) -> Callable:
    """The method of an operator, which falls back to that of all arrays."""
    general = getattr(Traced, name)

    def operate(x, y):
        result = compute(y, x) if reflected else compute(x, y)
        return general(x, y) if result is NotImplemented else result

    return operate


for _name, _ufunc, _plain in (
    ("add", np.add, operator.add),
    ("sub", np.subtract, operator.sub),
    ("mul", np.multiply, operator.mul),
    ("truediv", np.divide, operator.truediv),
    ("pow", np.power, np.power),
):
    _raises = _name in ("truediv", "pow")
    _entry = p.primitive_of(_ufunc)
    assert _entry is not None
    _compute = _binary(_entry, _plain, _raises)
    setattr(Number, f"__{_name}__", _operator(f"__{_name}__", _compute, False))
    setattr(Number, f"__r{_name}__", _operator(f"__r{_name}__", _compute, True))


def _negate(general: Callable) -> Callable:
    compute = _unary(p.negative, operator.neg)

    def negate(x):
        result = compute(x)
        return general(x) if result is NotImplemented else result

    return negate


Number.__neg__ = _negate(Traced.__neg__)  # type: ignore[attr-defined]
