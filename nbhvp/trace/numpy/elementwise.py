"""Elementwise functions: ufuncs, choices, rounding.

Primitives of the table need nothing here. All others are compositions over traced arrays, so their
derivatives follow from those of the primitives. A quotient or root that is singular where its value
is not used is computed on a safe argument: the partial of the unused branch is then finite, and a
zero adjoint times it is zero, not NaN.

Conventions where a function has no derivative: |z| of a complex number has derivative 0 at 0, as
NumPy's sign(0) = 0 gives for real numbers; steps (rint, floor, heaviside) have derivative 0.
"""

import math
from collections.abc import Callable

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.requests import settled
from nbhvp.graph.table import lengths
from nbhvp.trace.answers import answers, refuses
from nbhvp.trace.arrays import (
    Traced,
    apply,
    current,
    is_constant,
    is_weak,
    lift,
    scalar,
    trace_error,
    traced,
)
from nbhvp.trace.methods.shapes import write
from nbhvp.trace.views import is_array

__all__ = [
    "absolute",
    "answers_as",
    "cast",
    "common",
    "cornered",
    "floating",
    "floats",
    "given",
    "into",
    "is_complex",
    "positive_root",
    "power",
    "squared_modulus",
    "where",
]

refuses(
    np.isnat,
    np.gcd,
    np.lcm,
    np.bitwise_count,
    why="it takes only dates or integers, which have no derivative",
    instead="apply it to values that do not depend on x",
)


def into(out, value):
    """The result itself, or `out` with the result written into it."""
    if isinstance(out, tuple):
        (out,) = out
    if out is None:
        return value
    if not isinstance(out, Traced):
        raise trace_error(
            "out= is an array made outside the function", "make it inside, or leave out= away"
        )
    write(out, value)
    return out


def given(value) -> bool:
    """Whether an optional argument was given."""
    return value is not None and value is not np._NoValue


def is_complex(x) -> bool:
    return x.dtype.kind == "c"


def cast(x, dtype):
    """x in a dtype; None leaves it as it is."""
    return x if dtype is None or x.dtype == dtype else apply(p.cast, x, dtype=np.dtype(dtype))


def floating(x):
    """x in the dtype that a ufunc like np.sin computes in."""
    return x if x.dtype.kind in "fc" else cast(x, np.sin(np.zeros((), x.dtype)).dtype)


def common(*values) -> list:
    """Arrays in their common dtype; Python numbers follow the others."""
    numbers = [
        type(v.value if isinstance(v, Traced) else v) if is_weak(v) else None for v in values
    ]
    kinds = [
        lift(v).dtype if kind is None else kind(0) for v, kind in zip(values, numbers, strict=True)
    ]
    dtype = np.result_type(*kinds)
    return [cast(lift(v), dtype) for v in values]


def floats(*values) -> list:
    """The arguments of a ufunc that computes in floating point, in one dtype."""
    return [floating(v) for v in common(*values)]


def positive_root(square):
    """The root of a sum of squares: derivative 0 where it is 0."""
    root = apply(lengths.root, square)
    return root if is_array(square.value) else scalar(root)


def cornered(norm, x, axes):
    """A norm of x over these axes, which has no second derivative where it is 0."""
    nodes = settled(norm.node), settled(x.node)  # the squares in them are sought
    with current().pool.settling():
        return traced(lengths.cornered(*nodes, tuple(axes)), norm.value)


def answers_as(chapter: str, twins: dict[Callable, np.ufunc]) -> None:
    """Enter functions of floating point that are computed as others, in the chapter of a module."""
    for function, twin in twins.items():
        run = _of_floats(twin)
        run.__module__ = chapter
        answers(function, twin=twin)(run)


def _of_floats(function: np.ufunc) -> Callable:
    return lambda *args: function(*floats(*args))


# Ufuncs.


@answers(np.positive)
def positive(x):
    return apply(p.multiply, x, 1)


@answers(np.square)
def square(x):
    x = lift(x)
    return x * x


@answers(np.power)
def power(x, y):
    """NumPy refuses negative exponents of integers: a guard holds that there are none."""
    result = apply(p.power, x, y)
    if result.dtype.kind in "iu" and isinstance(y, Traced) and not is_constant(y):
        bool(np.all(y >= 0))
    return result


@answers(np.reciprocal)
def reciprocal(x):
    x = lift(x)
    return 1 / x if x.dtype.kind in "fc" else 1 // x


@answers(np.float_power)
def float_power(x, y):
    x, y = floats(x, y)
    wide = np.result_type(x.dtype, np.float64)
    return apply(p.power, cast(x, wide), cast(y, wide))


@answers(np.deg2rad, np.radians, math.radians)
def radians(x):
    return floating(lift(x)) * (math.pi / 180)


@answers(np.rad2deg, np.degrees, math.degrees)
def degrees(x):
    return floating(lift(x)) * (180 / math.pi)


@answers(np.divmod)
def divmod_(x, y):
    return apply(p.floor_divide, x, y), apply(p.remainder, x, y)


@answers(np.modf, math.modf)
def modf(x):
    x = floating(lift(x))
    whole = np.trunc(x)
    return where(np.isinf(x), 0, x - whole), whole


@answers(np.ldexp, math.ldexp)
def ldexp(x, exponent):
    x = floating(lift(x))
    return x * np.exp2(cast(lift(exponent), x.dtype))


@answers(np.frexp, math.frexp)
def frexp(x):
    """x = m 2**e with 0.5 <= |m| < 1; the logarithm may miss e by one."""
    x = floating(lift(x))
    regular = np.isfinite(x) & (x != 0)
    size = abs(where(regular, x, 1))
    guess = np.floor(np.log2(size)) + 1
    scaled = size * np.exp2(-guess)
    exponent = where(regular, guess + (scaled >= 1) - (scaled < 0.5), 0)
    return x * np.exp2(-exponent), cast(exponent, np.int32)


@answers(np.heaviside)
def heaviside(x, at_zero):
    x = floating(lift(x))
    step = where(x < 0, 0, where(x == 0, at_zero, 1))
    return where(np.isnan(x), math.nan, step)


@answers(np.fabs, math.fabs)
def fabs(x):
    return apply(p.absolute, floating(lift(x)))


@answers(np.absolute)
def absolute(x):
    return apply(p.absolute, x)


def squared_modulus(x):
    re, im = apply(p.real, x), apply(p.imag, x)
    return re * re + im * im


@answers(np.sign)
def sign(x):
    x = lift(x)
    if not is_complex(x):
        return apply(p.sign, x)
    is_zero = x == 0
    return where(is_zero, 0, x / absolute(where(is_zero, 1, x)))


# Choices.


def where(condition, x, y):
    """apply(where) with a boolean condition; Python numbers stay weak."""
    return apply(p.where, condition, x, y)


@answers(np.clip, "scipy._lib.clip", "scipy._external.clip")
def clip(a, a_min=None, a_max=None, out=None, *, min=None, max=None, dtype=None):
    low, high = (a_min if given(a_min) else min), (a_max if given(a_max) else max)
    result = lift(a)
    if given(low):
        result = apply(p.maximum, result, low)
    if given(high):
        result = apply(p.minimum, result, high)
    if not given(low) and not given(high):
        result = result.copy()
    return into(out, cast(result, dtype))


# Rounding and cleaning.


@answers(np.round, np.around, note="integers: `decimals` of at least 0")
def round_(a, decimals=0, out=None):
    a = lift(a)
    if a.dtype.kind in "iub":
        if decimals < 0:
            raise trace_error("np.round of integers to negative decimals", "round a float")
        return into(out, a)
    if is_complex(a):
        parts = (round_(apply(p.real, a), decimals), round_(apply(p.imag, a), decimals))
        return into(out, apply(p.complex_, *parts))
    scale = 10.0 ** abs(decimals)
    if decimals == 0:
        return into(out, np.rint(a))
    return into(out, np.rint(a * scale) / scale if decimals > 0 else np.rint(a / scale) * scale)


@answers(np.sinc)
def sinc(x):
    """sin(pi x)/(pi x); near 0 by its series, whose derivatives are as exact as its value."""
    y = math.pi * floating(lift(x))
    near = abs(y) < 0.5
    away = where(near, 1, y)
    square = where(near, y * y, 0)
    series = 1.0
    for k in range(8, 0, -1):
        series = 1 - square * series / (2 * k * (2 * k + 1))
    return where(near, series, np.sin(away) / away)


@answers(np.isposinf)
def isposinf(x, out=None):
    return into(out, lift(x) == math.inf)


@answers(np.isneginf)
def isneginf(x, out=None):
    return into(out, lift(x) == -math.inf)
