"""Exceptions that depend on values, recorded as guards.

`math.log(0.0)`, `1 / 0.0` and `int(nan)` raise where NumPy continues with infinity or NaN; NumPy
raises too within `np.errstate(invalid="raise")` or if warnings are errors. A function may catch such
an exception and take another branch; if not, the user gets the error. So the operation is done on the
plain values first. If it raises, the condition becomes a guard, and the exception is raised. If not,
the result is usually finite, and one guard for all such results requires that they stay finite.
"""

from __future__ import annotations

import functools
import math
import operator
import types
import warnings
from collections.abc import Callable, Iterator

import numpy as np

from nbhvp.errors import TraceError
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node, reachable
from nbhvp.trace.answers import ANSWERS
from nbhvp.trace.arrays import (
    Traced,
    apply,
    current,
    guard,
    is_constant,
    lift,
    map_traced,
    traced_in,
    weaken,
)
from nbhvp.trace.places import line_of
from nbhvp.trace.recording import Recording, trace_error

__all__ = ["call_math", "may_catch", "may_raise", "operate", "settle", "watched", "watches_errors"]


_PASSING = {
    p.add, p.subtract, p.multiply, p.negative, p.absolute, p.sqrt, p.log, p.log2, p.log10, p.log1p,
    p.sin, p.cos, p.tan, p.arcsin, p.arccos, p.sum_, p.reshape, p.transpose, p.broadcast,
    p.concatenate, p.contract, p.cumsum, p.cast,
}  # fmt: skip
"""Primitives whose result has NaN or infinity wherever an argument has; so has a quotient by its
numerator."""


def settle(recording: Recording, output: Traced) -> None:
    """Make one guard of the conditions that hold as long as nothing raises.

    For all that passes its NaN and infinity on to the result, that is one condition on the result.
    """
    if recording.unguarded is not None:
        error, place = recording.unguarded
        raise TraceError(
            f"{line_of(*place)}: the function catches {type(error).__name__}: {error}; no guard can "
            "tell for which values it is raised: test the values before the call"
        )
    found = [node for node in recording.conditions if recording.is_live(node)]
    if not found:
        return
    if np.all(np.isfinite(output.value)):
        passed = _passed_on(output.node)
        rest = [node for node in found if _finite_in(node) not in passed]
        if len(rest) < len(found):
            found = [*rest, output.node]
    found = [_condition(node) for node in found]
    place = next(iter(recording.conditions.values()))
    while len(found) > 1:
        pairs = zip(found[::2], found[1::2], strict=False)
        last = found[len(found) & ~1 :]
        found = [*(p.bitwise_and(one, other) for one, other in pairs), *last]
    recording.guard(found[0], np.True_, place)


def _condition(node: Node) -> Node:
    """A condition; of a float, that it is finite."""
    if node.dtype.kind == "b":
        return node
    is_finite = p.isfinite(node)
    return p.all_(is_finite) if node.ndim else is_finite


def _finite_in(condition: Node) -> Node | None:
    """What a condition finds finite, if that is what it is about."""
    if condition.dtype.kind != "b":
        return condition
    if condition.primitive is p.all_:
        (condition,) = condition.args
    return condition.args[0] if condition.primitive is p.isfinite else None


def _passed_on(output: Node) -> set[Node]:
    """The nodes whose NaN and infinity reach the output."""
    passed = {output}
    for node in reversed(reachable([output])):
        if node in passed and node.primitive in _PASSING:
            passed.update(node.args)
        elif node in passed and (node.primitive is p.divide or _is_power(node)):
            passed.add(node.args[0])
    return passed


def _is_power(node: Node) -> bool:
    """Whether a node is a positive power, which has NaN and infinity where its base has."""
    exponent = p.scalar_value(node.args[1]) if node.primitive is p.power else None
    return exponent is not None and exponent > 0


def _all(condition: Traced) -> Traced:
    return condition if condition.ndim == 0 else apply(p.all_, condition)


def _keep(condition: Traced) -> None:
    """A condition that holds here, and without which an exception would be raised."""
    current().condition(condition.node)


def _raises(result: Traced, args) -> Traced:
    """Where a function of Python's raises: NaN or infinity comes of what is neither."""
    args = list(args)
    return _all(_invalid(result, args) | _infinite(result, args))


def _invalid(result: Traced, args) -> Traced:
    """Where NaN comes of what is not NaN."""
    is_nan = apply(p.isnan, lift(result))
    for arg in args:
        is_nan = is_nan & ~apply(p.isnan, lift(arg))
    return is_nan


def _infinite(result: Traced, args) -> Traced:
    """Where infinity comes of finite numbers."""
    is_inf = apply(p.isinf, lift(result))
    for arg in args:
        is_inf = is_inf & apply(p.isfinite, lift(arg))
    return is_inf


def _watch_result(result, args) -> None:
    """Guard that a function which has raised nothing raises nothing."""
    args = list(args)
    for one in traced_in(result):
        if type(value := one.value) is float and math.isfinite(value):
            current().condition(one.node)
        elif one.dtype.kind in "iu":
            _keep_countable(args)
        elif _is_live_float(one) and np.all(np.isfinite(one.value)):
            current().condition(one.node)
        elif _is_live_float(one):
            raises = _raises(one, args)
            _guard_values(args) if raises.value else guard(raises)


def _keep_countable(args: list[Traced]) -> None:
    """Whole numbers made of floats are Python's, of any size; here they have 64 bits."""
    for arg in args:
        if arg.dtype.kind == "f":
            if abs(arg.value) >= 2.0**63:
                raise trace_error("a whole number of more than 64 bits", "use np.floor")
            _keep(abs(arg) < 2.0**63)


def _guard_values(args) -> None:
    """The trace holds for these numbers alone."""
    for arg in traced_in(args):
        same = apply(p.equal, arg, arg.value)
        # Of derivatives there is nothing to say: this is no branch of the function's.
        current().equalities[same.node] = False
        is_nan = np.isnan(arg.value)
        guard(_all(same | apply(p.isnan, arg) & is_nan if np.any(is_nan) else same))


# math: Python numbers in, Python numbers out.

_TOTAL = {
    math.asinh, math.atan, math.atan2, math.copysign, math.degrees, math.dist, math.erf, math.erfc,
    math.fabs, math.frexp, math.hypot, math.modf, math.radians, math.tanh, math.isfinite, math.isinf,
    math.isnan, math.isclose,
}  # fmt: skip
"""Functions that raise for no numbers."""
_OVERFLOWING = {math.pow, math.gamma, math.lgamma}
"""Functions whose infinity is a ValueError at a pole, and an OverflowError elsewhere."""


def call_math(function: Callable, args: tuple, kwargs: dict):
    """A function of `math`, which raises where NumPy would give NaN or infinity."""
    handler = ANSWERS.get(function)
    args = tuple(list(arg) if isinstance(arg, Iterator) else arg for arg in args)
    if handler is None or not any(True for _ in traced_in(args, kwargs)):
        return function(*args, **kwargs)
    if function is math.log and len(args) == 2:
        # Each logarithm is finite or raises; their quotient may be finite where one is not.
        return call_math(function, args[:1], {}) / call_math(function, args[1:], {})
    doubles = map_traced(_as_double, args), map_traced(_as_double, kwargs)
    try:
        function(*map_traced(_value, args), **map_traced(_value, kwargs))
    except (ValueError, OverflowError):
        _guard_error(function, args, doubles)
        raise
    result = map_traced(_as_number, handler(*doubles[0], **doubles[1]))
    if function not in _TOTAL:
        _watch_result(result, traced_in(args, kwargs))
    return result


def _guard_error(function: Callable, args: tuple, doubles: tuple) -> None:
    """The trace holds where the function raises the same."""
    handler = ANSWERS[function]
    numbers = list(traced_in(args))
    if all(map(is_constant, numbers)):
        return
    try:
        result = handler(*doubles[0], **doubles[1])
    except (ValueError, OverflowError):  # of a conversion to an integer, which has its guard
        return
    if not isinstance(result, Traced):
        _guard_values(numbers)
    elif (is_invalid := _all(_invalid(result, numbers))).value:
        guard(is_invalid)
    elif function not in _OVERFLOWING and (is_infinite := _all(_infinite(result, numbers))).value:
        guard(is_infinite)
    else:
        _guard_values(numbers)


def _value(x: Traced):
    return x.value


def _as_double(x: Traced) -> Traced:
    return weaken(x.astype(float)) if x.ndim == 0 and x.dtype.kind == "f" else x


def _as_number(x: Traced) -> Traced:
    return weaken(x) if x.ndim == 0 else x


# Operators between numbers of Python's.

PYTHONS = {
    np.divide: operator.truediv, np.floor_divide: operator.floordiv, np.remainder: operator.mod,
    np.divmod: divmod, np.power: operator.pow,
}  # fmt: skip
"""Operators that raise between numbers of Python's, or give complex ones."""
QUOTIENTS = (np.divide, np.floor_divide, np.remainder, np.divmod)
"""Those that raise between numbers in compiled functions too."""


def operate(ufunc: np.ufunc, operands: tuple, compute: Callable):
    """What `compute` gives for an operator between numbers of Python's, with Python's exceptions."""
    plain = PYTHONS.get(ufunc)
    if plain is None:
        return compute(operands)
    values = [np.asarray(x.value if isinstance(x, Traced) else x).item() for x in operands]
    try:
        value = plain(*values)
    except (ZeroDivisionError, OverflowError) as error:
        if any(isinstance(x, Traced) and not is_constant(x) for x in operands):
            _guard_operator(ufunc, operands, error, compute)
        raise
    if type(value) is complex and not any(type(v) is complex for v in values):
        # A negative number to a power that is not whole.
        base, exponent = map(lift, operands)
        guard((base < 0) & (exponent != np.floor(exponent)))
        return compute(tuple(apply(p.cast, x, dtype=np.dtype(complex)) for x in (base, exponent)))
    result = compute(operands)
    if type(value) is not complex:
        _watch_result(result, traced_in(operands))
    return result


def _guard_operator(ufunc, operands: tuple, error: Exception, compute: Callable) -> None:
    """The trace holds where the operator raises too."""
    if isinstance(error, ZeroDivisionError) and ufunc is not np.power:
        guard(apply(p.equal, operands[1], 0))
        return
    is_raised = _raises(compute(operands), traced_in(operands))
    if not is_raised.value:
        _guard_values(operands)
        return
    guard(is_raised)
    guard(apply(p.equal, lift(operands[0]), 0))


# NumPy, where it is told to raise.

_STATES = {"errstate", "seterr", "catch_warnings", "simplefilter", "filterwarnings"}


@functools.lru_cache(1024)
def may_catch(code: types.CodeType) -> bool:
    """Whether code has a `try` or `with`."""
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return bool(code.co_exceptiontable) or any(map(may_catch, inner))


@functools.lru_cache(1024)
def watches_errors(code: types.CodeType) -> bool:
    """Whether code may tell NumPy to raise floating-point errors, or Python to raise warnings."""
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return not _STATES.isdisjoint(code.co_names) or any(map(watches_errors, inner))


@functools.lru_cache(1024)
def may_raise(code: types.CodeType) -> bool:
    """Whether code of a library, whose states are constants, may tell NumPy to raise errors."""
    return "raise" in code.co_consts and watches_errors(code)


def watched(primitive: p.Primitive, args: list, params: dict) -> Traced:
    """`apply`, where NumPy is to raise or to warn: guards tell of what it would raise."""
    recording, error = current(), None
    # Warnings are seen by nobody but where the function asks for them.
    mild = ("ignore", "warn") if warnings.filters is recording.filters else ("ignore",)
    state = {kind: how for kind, how in np.geterr().items() if how not in mild}
    if state:
        try:
            with np.errstate(**(dict.fromkeys(np.geterr(), "ignore") | state)):
                primitive.evaluate(*map_traced(_value, args), **params)
        except (FloatingPointError, Warning) as raised:
            error = raised
    recording.watch = None
    try:
        with np.errstate(all="ignore"):
            result = apply(primitive, *args, **params)
            if state and _is_live_float(result):
                _watch_floats(primitive, result, args, set(state), error is not None)
    finally:
        recording.watch = watched
    if error is not None:
        raise error
    return result


def _is_live_float(x: Traced) -> bool:
    return x.dtype.kind in "fc" and not is_constant(x)


def _watch_floats(primitive, result: Traced, args: list, watched: set, is_raised: bool) -> None:
    """Guard what NumPy's floating-point errors depend on."""
    is_finite = _all(apply(p.isfinite, result))
    if is_finite.value:
        _keep(is_finite)
    elif watched != {"under"} and not _tells(primitive, result, args, watched, is_raised):
        _guard_values(args)
        return
    if "under" in watched and result.dtype.kind == "f":
        exact = [arg == 0 for arg in map(lift, args) if primitive.is_elementwise]
        is_zero = functools.reduce(operator.or_, exact, lift(False)) & (result == 0)
        is_whole = _all((abs(result) >= np.finfo(result.dtype).tiny) | is_zero)
        _keep(is_whole) if is_whole.value else _guard_values(args)


def _tells(primitive, result: Traced, args: list, watched: set, is_raised: bool) -> bool:
    """Whether NaN and infinity that come of other numbers tell what is raised; a guard if so."""
    # If divisions by zero alone raise, or overflows alone, infinity does not tell which it was.
    is_told = len(watched & {"divide", "over"}) != 1 and primitive.is_elementwise
    raises = _raises(result, args) if is_told else None
    if raises is None or bool(raises.value) != is_raised:
        return False
    guard(raises)
    return True
