"""Ufuncs, operators and methods of traced arrays, defined in loops over their names.

Each one calls the answer of its NumPy function, or the primitive of the same meaning. An operator
between Python numbers gives a Python number, whose dtype yields to the dtype of arrays (NEP 50).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from nbhvp.graph import definitions
from nbhvp.graph import primitives as p
from nbhvp.trace.answers import ANSWERS, answers
from nbhvp.trace.arrays import (
    NOT_OURS,
    Number,
    Traced,
    apply,
    current,
    guard,
    is_weak,
    lift,
    map_traced,
    presents_array,
    scalar,
    weaken,
)
from nbhvp.trace.branches.exceptions import PYTHONS, QUOTIENTS, operate
from nbhvp.trace.branches.failures import name_of
from nbhvp.trace.dispatch import dispatch
from nbhvp.trace.methods.shapes import write
from nbhvp.trace.recording import trace_error
from nbhvp.trace.repeated import repeated
from nbhvp.trace.views import is_array

__all__ = ["store"]


# Ufuncs.


@answers(np.ufunc.__call__)
def _call_ufunc(ufunc, *inputs, out=None, where=True, dtype=None, casting="same_kind", **kwargs):
    kwargs.pop("order", None), kwargs.pop("subok", None)
    if dtype is not None:
        inputs = tuple(lift(x).astype(dtype) for x in inputs)
    if where is not True:
        result = _call_masked(ufunc, inputs, out, where)
    elif ufunc in ANSWERS or p.primitive_of(ufunc) is None:
        result = dispatch(ufunc, inputs, kwargs)
    else:
        result = apply(p.primitive_of(ufunc), *inputs)
    if out is None:
        return map_traced(scalar, result)
    results = result if isinstance(result, tuple) else (result,)
    stored = tuple(
        r if o is None else store(ufunc, o, r, casting) for o, r in zip(out, results, strict=True)
    )
    return stored if isinstance(result, tuple) else stored[0]


def _call_masked(ufunc, inputs, out, where):
    """The ufunc where the mask is true, `out` elsewhere; masked arguments move to a safe point."""
    if out is None:
        raise trace_error(
            f"{name_of(ufunc)}(..., where=...) without out= leaves arbitrary numbers in the result",
            "give out= as well, or use np.where",
        )
    primitive = p.primitive_of(ufunc)
    domain = primitive.domain if primitive is not None else ((1.0, 1.0),)
    safe = (sum(domain[min(k, len(domain) - 1)]) / 2 for k in range(len(inputs)))
    inputs = tuple(apply(p.where, where, x, s) for x, s in zip(inputs, safe, strict=True))
    return apply(p.where, where, ufunc(*inputs), out[0])


def store(ufunc, out, result, casting):
    """`out` after it has taken the result, as NumPy's casting rule allows."""
    if not isinstance(out, Traced):
        raise trace_error(NOT_OURS, "write plain = plain + traced, or make it inside the function")
    given, wanted = result.dtype, out.dtype
    if given != wanted and not np.can_cast(given, wanted, casting):
        raise TypeError(
            f"Cannot cast ufunc {ufunc.__name__!r} output from {given!r} to {wanted!r} "
            f"with casting rule {casting!r}"
        )
    if out.shape != result.shape and np.broadcast_shapes(out.shape, result.shape) != out.shape:
        raise ValueError(
            f"non-broadcastable output operand with shape {out.shape} "
            f"doesn't match the broadcast shape {result.shape}"
        )
    write(out, result)
    return out


# Operators and methods, by loops over names.


def _operator(ufunc: np.ufunc) -> Callable:
    """The operator of a ufunc, applied as before if it was."""
    general, key = functools.partial(_operate, ufunc), (ufunc, _operate)
    return lambda *operands: repeated(ufunc, operands, {}, general, key)


def _operate(ufunc, *operands):
    """An operator; between Python numbers it gives a Python number."""
    if not all(_is_operand(x) for x in operands):
        return NotImplemented
    weak = all(is_weak(x) for x in operands)
    if weak and ufunc not in _LOGICAL:
        operands = tuple(map(_as_integer, operands))

    def compute(operands):
        given = (lift(x) if isinstance(x, list | tuple) else x for x in operands)
        return _call_ufunc(ufunc, *given)

    raises = (weak and ufunc in PYTHONS) or (
        current().divides_by_python and ufunc in QUOTIENTS and _are_numbers(operands)
    )
    result = operate(ufunc, operands, compute) if raises else compute(operands)
    if weak:
        result = map_traced(weaken, result)
    is_asked = current().asks_identity and isinstance(result, Traced) and result.dtype == bool
    return guard(result) if is_asked and not is_array(result.value) else result


def _are_numbers(operands) -> bool:
    return all(np.ndim(x.value if isinstance(x, Traced) else x) == 0 for x in operands)


def _as_integer(x):
    """A boolean of Python's as the number that it is in Python's arithmetic."""
    if not isinstance(x, Traced):
        return int(x) if type(x) is bool else x
    return weaken(apply(p.cast, x, dtype=definitions.INT)) if type(x.value) is bool else x


def _is_operand(x) -> bool:
    if type(x) in (Traced, Number) or isinstance(x, _OPERANDS):
        return True
    own = {"__array_ufunc__", "__array_priority__"}  # by which an object answers itself
    return presents_array(x) and not any(hasattr(type(x), name) for name in own)


_OPERANDS = (int, float, complex, np.generic, np.ndarray, list, tuple, Traced)


def _in_place(ufunc: np.ufunc) -> Callable:
    operate = _operator(ufunc)

    def in_place(x, other):
        result = operate(x, other)
        if result is NotImplemented or not is_array(x.value):
            return result
        return store(ufunc, x, result, "same_kind")

    return in_place


_BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.divide, "pow": np.power,
    "floordiv": np.floor_divide, "mod": np.remainder, "matmul": np.matmul, "and": np.bitwise_and,
    "or": np.bitwise_or, "xor": np.bitwise_xor, "lshift": np.left_shift, "rshift": np.right_shift,
    "divmod": np.divmod,
}  # fmt: skip
_COMPARISONS = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}  # fmt: skip
_LOGICAL = (np.bitwise_and, np.bitwise_or, np.bitwise_xor)
_UNARY = {"neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert}
_METHODS = (
    "all", "any", "argmax", "argmin", "argpartition", "argsort", "choose", "clip",
    "cumprod", "cumsum", "diagonal", "dot", "max", "mean", "min", "nonzero", "prod", "repeat",
    "round", "searchsorted", "squeeze", "std", "sum", "swapaxes", "take", "trace", "var",
)  # fmt: skip


def _method(function: Callable) -> Callable:
    def general(*args, **kwargs):
        return dispatch(function, args, kwargs)

    return lambda self, *args, **kwargs: repeated(function, (self, *args), kwargs, general)


_general_ufunc = Traced.__array_ufunc__


def _array_ufunc(self, ufunc, method, *inputs, **kwargs):
    def general(*inputs, **kwargs):
        return _general_ufunc(self, ufunc, method, *inputs, **kwargs)

    if method != "__call__":
        return general(*inputs, **kwargs)
    return repeated(ufunc, inputs, kwargs, general)


Traced.__array_ufunc__ = _array_ufunc  # type: ignore[method-assign]


for _key, _ufunc in (_BINARY | _COMPARISONS).items():
    setattr(Traced, f"__{_key}__", _operator(_ufunc))
for _key, _ufunc in _BINARY.items():
    _forward = getattr(Traced, f"__{_key}__")
    setattr(Traced, f"__r{_key}__", lambda y, x, f=_forward: f(x, y))
    if _key != "divmod":
        setattr(Traced, f"__i{_key}__", _in_place(_ufunc))
for _key, _ufunc in _UNARY.items():
    setattr(Traced, f"__{_key}__", _operator(_ufunc))
Traced.compress = lambda self, condition, axis=None, out=None: dispatch(
    np.compress, (condition, self, axis, out), {}
)
for _key in _METHODS:
    setattr(Traced, _key, _method(getattr(np, _key)))
