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

import nbhvp.trace.methods.operators  # noqa: F401 the methods of all arrays
from nbhvp.graph import primitives as p
from nbhvp.graph.node import OPEN
from nbhvp.graph.time.log import Log, code_of
from nbhvp.trace.answers import ANSWERS
from nbhvp.trace.arrays import Number, Traced
from nbhvp.trace.recording import MANY_SCALARS, present

__all__ = ["quick"]

WHOLE = 2**53
"""Integers up to here are numbers of double precision."""


def quick(function: Callable, general: Callable) -> Callable | None:
    """A ufunc of numbers, which falls back to the general form; None if it has no such form."""
    if not isinstance(function, np.ufunc) or function.nin > 2 or function.nout != 1:
        return None
    primitive = p.primitive_of(function)
    if primitive is None or function in ANSWERS or function not in _FUNCTIONS:
        return None
    return (_unary if function.nin == 1 else _binary)(primitive, function, general)


_FUNCTIONS = {
    np.add, np.subtract, np.multiply, np.divide, np.negative, np.sqrt, np.exp, np.log, np.sin,
    np.cos, np.tan, np.sinh, np.cosh, np.tanh, np.arctan, np.arcsin, np.arccos, np.log1p,
    np.expm1, np.absolute, np.maximum, np.minimum, np.cbrt, np.exp2, np.log2, np.log10,
}  # fmt: skip


def _operand(log: Log, x: Number) -> int | None:
    """The operand that a number is in the log; None if it depends on no input, or not surely."""
    node = x.node
    if node.pool is not log.pool or node.life == OPEN:
        return None
    x.log, x.row = log, log.of_node(node)
    return x.row


def _plain(log: Log, y: Any) -> int | None:
    """The operand that a plain number is, if it is one of double precision."""
    kind = type(y)
    if kind is float or kind is np.float64 or (kind is int and -WHOLE <= y <= WHOLE):
        return log.of_number(y)
    return None


# These run for each operation of a trace on numbers: nothing in them is called that need not be.


def _unary(primitive: p.Primitive, compute: Callable, general: Callable) -> Callable:
    code = code_of(primitive)

    def call(x):
        log = x.log if type(x) is Number else None
        if log is None or not log.is_open:
            log = _open_log()
            if type(x) is not Number or log is None:
                return general(x)
        a = x.row if x.log is log else _operand(log, x)
        if a is None or not log.pool.asks or (a < 0 and not log.is_live(a)):
            return general(x)
        row = len(log.codes)
        log.codes.append(code)
        log.first.append(a)
        log.second.append(a)
        if row == MANY_SCALARS:
            present().see_many()
        made = Number()
        made.value, made._node, made.log, made.row = compute(x.value), None, log, row
        return made

    return call


def _binary(
    primitive: p.Primitive, compute: Callable, general: Callable, raises: bool = False
) -> Callable:
    code, exact = code_of(primitive), primitive.exact

    def call(x, y):
        if type(x) is Number:
            log, a, u = x.log, x.row, x.value
            if log is None or not log.is_open:
                log = _open_log()
                a = None if log is None else _operand(log, x)
        else:
            log, u = y.log if type(y) is Number else None, x
            if log is None or not log.is_open:
                log = _open_log()
            if log is not None:
                a = log.numbers.get(x) if type(x) is float else None
                if a is None:
                    a = _plain(log, x)
        if log is None or a is None or not log.pool.asks:
            return general(x, y)
        kind = code
        if type(y) is Number:
            b, v = y.row if y.log is log else _operand(log, y), y.value
        else:
            b, v = log.numbers.get(y) if type(y) is float else None, y
            if b is None:
                b = _plain(log, y)
            if b is not None and v in exact:
                kind = code_of(primitive, v)
        if b is None or (a < 0 and b < 0 and not (log.is_live(a) or log.is_live(b))):
            return general(x, y)
        if raises and (
            (type(u) is not np.float64 and type(v) is not np.float64) or present().divides_by_python
        ):
            return general(x, y)
        row = len(log.codes)
        log.codes.append(kind)
        log.first.append(a)
        log.second.append(b)
        if row == MANY_SCALARS:
            present().see_many()
        made = Number()
        made.value, made._node, made.log, made.row = compute(u, v), None, log, row
        return made

    return call


def _open_log() -> Log | None:
    """The log of the present trace, if operations on numbers go there."""
    recording = present()
    log = None if recording is None else recording.log
    return log if log is not None and log.is_open else None


def _swapped(call: Callable) -> Callable:
    return lambda x, y: call(y, x)


for _name, _ufunc, _compute in (
    ("add", np.add, operator.add),
    ("sub", np.subtract, operator.sub),
    ("mul", np.multiply, operator.mul),
    ("truediv", np.divide, operator.truediv),
    ("pow", np.power, np.power),
):
    _entry = p.primitive_of(_ufunc)
    assert _entry is not None
    _raises = _name in ("truediv", "pow")
    _general = getattr(Traced, f"__{_name}__"), getattr(Traced, f"__r{_name}__")
    setattr(Number, f"__{_name}__", _binary(_entry, _compute, _general[0], _raises))
    _reflected = _binary(_entry, _compute, _swapped(_general[1]), _raises)
    setattr(Number, f"__r{_name}__", _swapped(_reflected))
Number.__neg__ = _unary(p.negative, operator.neg, Traced.__neg__)  # type: ignore[attr-defined]


def _reflected_by(ufunc: np.ufunc) -> Callable:
    def general(*inputs):
        first = next(x for x in inputs if type(x) is Number)
        return Traced.__array_ufunc__(first, ufunc, "__call__", *inputs)

    return general


_UFUNCS = {
    ufunc: _binary(entry, ufunc, _reflected_by(ufunc))
    for ufunc in (np.add, np.subtract, np.multiply, np.divide)
    if (entry := p.primitive_of(ufunc)) is not None
}
"""By which scalars of NumPy compute with numbers of the trace."""


def _array_ufunc(self, ufunc, method, *inputs, **kwargs):
    if method == "__call__" and not kwargs and ufunc in _UFUNCS:
        return _UFUNCS[ufunc](*inputs)
    return Traced.__array_ufunc__(self, ufunc, method, *inputs, **kwargs)


Number.__array_ufunc__ = _array_ufunc  # type: ignore[method-assign]
