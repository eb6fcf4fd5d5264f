"""Functions of complex numbers as compositions of functions of their parts.

The tape holds real numbers alone: derivatives need no rules of their own. No intermediate value overflows
unless the result does. The compiled recorder compiles these texts (`complex`), `interpreted` runs them.
"""

from __future__ import annotations

import cmath
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["FORMS", "Form", "general_power", "integer_power", "pair", "power_of_float"]


def pair(real, imag):
    """The complex number of two real ones: whoever compiles or runs these texts gives it a meaning."""
    raise NotImplementedError("it stands for a number of the recorder")


@dataclass(frozen=True)
class Form:
    """What some functions are, by their arguments: R for each real one, C for each complex one."""

    functions: tuple[Callable, ...]
    texts: dict[str, Callable]
    is_complex: bool = True
    """Whether the result is complex."""
    is_truth: bool = False
    takes_real: bool = False
    """Whether they are complex functions of real numbers, too."""


FORMS: list[Form] = []


def _form(functions, texts, **how) -> None:
    FORMS.append(Form(functions, texts, **how))


# Arithmetic.


def _quotient(x, y):
    """x / y by way of the unit y / |y|: neither |y|^2 nor its inverse appears."""
    size = np.hypot(y.real, y.imag)
    c, s = y.real / size, y.imag / size
    return pair((x.real * c + x.imag * s) / size, (x.imag * c - x.real * s) / size)


def _real_quotient(x, y):
    size = np.hypot(y.real, y.imag)
    c, s = y.real / size, y.imag / size
    return pair(x * c / size, -(x * s) / size)


_form((operator.add, np.add), {
    "CC": lambda x, y: pair(x.real + y.real, x.imag + y.imag),
    "CR": lambda x, y: pair(x.real + y, x.imag),
    "RC": lambda x, y: pair(x + y.real, y.imag),
})  # fmt: skip
_form((operator.sub, np.subtract), {
    "CC": lambda x, y: pair(x.real - y.real, x.imag - y.imag),
    "CR": lambda x, y: pair(x.real - y, x.imag),
    "RC": lambda x, y: pair(x - y.real, -y.imag),
})  # fmt: skip
_form((operator.mul, np.multiply), {
    "CC": lambda x, y: pair(x.real * y.real - x.imag * y.imag, x.real * y.imag + x.imag * y.real),
    "CR": lambda x, y: pair(x.real * y, x.imag * y),
    "RC": lambda x, y: pair(x * y.real, x * y.imag),
})  # fmt: skip
_form((operator.truediv, np.divide, np.true_divide), {
    "CC": _quotient,
    "CR": lambda x, y: pair(x.real / y, x.imag / y),
    "RC": _real_quotient,
})  # fmt: skip
_form((operator.neg, np.negative), {"C": lambda x: pair(-x.real, -x.imag)})
_form((operator.pos, np.positive), {"C": lambda x: x})
_form((np.conjugate,), {"C": lambda x: pair(x.real, -x.imag)})
_form((abs, np.abs, np.absolute), {"C": lambda x: np.hypot(x.real, x.imag)}, is_complex=False)
_form((operator.eq, np.equal), {
    "CC": lambda x, y: x.real == y.real and x.imag == y.imag,
    "CR": lambda x, y: x.real == y and x.imag == 0.0,
    "RC": lambda x, y: x == y.real and y.imag == 0.0,
}, is_truth=True)  # fmt: skip
_form((operator.ne, np.not_equal), {
    "CC": lambda x, y: x.real != y.real or x.imag != y.imag,
    "CR": lambda x, y: x.real != y or x.imag != 0.0,
    "RC": lambda x, y: x != y.real or y.imag != 0.0,
}, is_truth=True)  # fmt: skip
_form((bool,), {"C": lambda x: x.real != 0.0 or x.imag != 0.0}, is_truth=True)


# Functions.


def _exp(x):
    size = np.exp(x.real)
    return pair(size * np.cos(x.imag), size * np.sin(x.imag))


def _log(x):
    return pair(np.log(np.hypot(x.real, x.imag)), np.arctan2(x.imag, x.real))


def _sqrt(x):
    """The root in the right half-plane; the smaller part of it is a quotient, without cancellation."""
    re, im = x.real, x.imag
    if re == 0.0 and im == 0.0:
        return pair(np.sqrt(re), im)
    half = np.sqrt(0.5 * (np.hypot(re, im) + abs(re)))
    if re >= 0.0:
        return pair(half, im / (2.0 * half))
    side = math.copysign(1.0, im)
    return pair(side * im / (2.0 * half), side * half)


def _sin(x):
    return pair(np.sin(x.real) * np.cosh(x.imag), np.cos(x.real) * np.sinh(x.imag))


def _cos(x):
    return pair(np.cos(x.real) * np.cosh(x.imag), -np.sin(x.real) * np.sinh(x.imag))


def _sinh(x):
    return pair(np.sinh(x.real) * np.cos(x.imag), np.cosh(x.real) * np.sin(x.imag))


def _cosh(x):
    return pair(np.cosh(x.real) * np.cos(x.imag), np.sinh(x.real) * np.sin(x.imag))


def _tanh(x):
    """Over 1 + (tanh x tan y)^2 = ... / cos(y)^2, which overflows nowhere."""
    t, c, s = np.tanh(x.real), np.cos(x.imag), np.sin(x.imag)
    below = c * c + t * t * (s * s)
    return pair(t / below, c * s * ((1.0 - t) * (1.0 + t)) / below)


def _turned(function):
    """-i f(i x): tan of tanh, and the inverse functions likewise."""

    def turned(x):
        w = function(pair(-x.imag, x.real))
        return pair(w.imag, -w.real)

    return turned


def _asinh(x):
    """Kahan, Branch cuts for complex elementary functions, as CPython has it; so are the others."""
    r, s = np.sqrt(pair(1.0 + x.imag, -x.real)), np.sqrt(pair(1.0 - x.imag, x.real))
    return pair(
        np.arcsinh(r.real * s.imag - s.real * r.imag),
        np.arctan2(x.imag, r.real * s.real - r.imag * s.imag),
    )


def _acos(x):
    r, s = np.sqrt(pair(1.0 - x.real, -x.imag)), np.sqrt(pair(1.0 + x.real, x.imag))
    return pair(2.0 * np.arctan2(r.real, s.real), np.arcsinh(s.real * r.imag - s.imag * r.real))


def _acosh(x):
    r, s = np.sqrt(pair(x.real - 1.0, x.imag)), np.sqrt(pair(x.real + 1.0, x.imag))
    return pair(np.arcsinh(r.real * s.real + r.imag * s.imag), 2.0 * np.arctan2(r.imag, s.real))


def _atanh(x):
    re, im = x.real, x.imag
    apart = (1.0 - re) * (1.0 - re) + im * im
    angle = np.arctan2(2.0 * im, (1.0 - re) * (1.0 + re) - im * im)
    return pair(0.25 * np.log1p(4.0 * re / apart), 0.5 * angle)


_BOTH = {
    "exp": (_exp, np.exp), "log": (_log, np.log), "sqrt": (_sqrt, np.sqrt),
    "sin": (_sin, np.sin), "cos": (_cos, np.cos), "tan": (_turned(np.tanh), np.tan),
    "sinh": (_sinh, np.sinh), "cosh": (_cosh, np.cosh), "tanh": (_tanh, np.tanh),
    "asinh": (_asinh, np.arcsinh), "acosh": (_acosh, np.arccosh), "atanh": (_atanh, np.arctanh),
    "asin": (_turned(np.arcsinh), np.arcsin), "acos": (_acos, np.arccos),
    "atan": (_turned(np.arctanh), np.arctan),
}  # fmt: skip
"""By their names in cmath: the composition, and the function of NumPy."""


def _of_real(function):
    """A function of cmath, of a real number: the complex one of it."""
    return lambda x: function(pair(x, 0.0))


for _name, (_composition, _function) in _BOTH.items():
    _form((_function,), {"C": _composition})
    _form((getattr(cmath, _name),), {"C": _composition, "R": _of_real(_function)}, takes_real=True)


_LN2, _LN10 = math.log(2.0), math.log(10.0)
_form((np.log10,), {"C": lambda x: np.log(x) / _LN10})
_form((np.log2,), {"C": lambda x: np.log(x) / _LN2})
_form((cmath.log10,), {
    "C": lambda x: np.log(x) / _LN10, "R": lambda x: np.log(pair(x, 0.0)) / _LN10,
}, takes_real=True)  # fmt: skip
_form((np.angle,), {
    "C": lambda x: np.arctan2(x.imag, x.real), "R": lambda x: 0.0 if x >= 0.0 else math.pi,
}, is_complex=False, takes_real=True)  # fmt: skip
_form((cmath.phase,), {
    "C": lambda x: np.arctan2(x.imag, x.real), "R": lambda x: np.arctan2(0.0, x),
}, is_complex=False, takes_real=True)  # fmt: skip
_form((np.isfinite, cmath.isfinite), {
    "C": lambda x: np.isfinite(x.real) and np.isfinite(x.imag),
}, is_truth=True)  # fmt: skip
_form((np.isnan, cmath.isnan), {
    "C": lambda x: np.isnan(x.real) or np.isnan(x.imag),
}, is_truth=True)  # fmt: skip
_form((np.isinf, cmath.isinf), {
    "C": lambda x: np.isinf(x.real) or np.isinf(x.imag),
}, is_truth=True)  # fmt: skip


# Powers: by products where the exponent is an integer, which are right at 0 too.


def integer_power(z, n):
    factor, result = z, pair(1.0, 0.0)
    rest = abs(n)
    while rest > 0:
        if rest & 1:
            result = result * factor
        rest >>= 1
        if rest > 0:
            factor = factor * factor
    return result if n >= 0 else 1.0 / result


def general_power(z, w):
    return np.exp(w * np.log(z))


def power_of_float(x, y):
    if y == math.floor(y) and abs(y) <= 100.0:
        return integer_power(x, int(y))
    return general_power(x, y)
