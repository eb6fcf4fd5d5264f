"""Scalar functions that kernels call: what neither `math` nor an operator of Python gives.

Each is one body for every target and for plain Python, defined at every float as NumPy and SciPy
define it (NaN, infinities, signed zeros), and raises nothing when compiled. Accuracy is that of the
`math` functions used, times a small factor.
"""

import math

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

# B_2k / (2k)!, k = 1, 2, ...: the coefficients of the Euler-Maclaurin formula.
_BERNOULLI = (
    1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000,
    1 / 74724249600, -3617 / 10670622842880000,
)  # fmt: skip

__all__ = [
    "divide", "entr", "expit", "floor_divide", "fmax", "fmin", "fmod", "invert", "log_expit",
    "logaddexp", "logaddexp2", "logit", "maximum", "minimum", "ndtr", "xlog1py", "xlogy", "zeta",
]  # fmt: skip


@register_jitable
def divide(x, y):
    """The quotient of complex numbers as NumPy computes it (Smith 1962): numba's own may raise."""
    if abs(y.real) >= abs(y.imag):
        if y == 0:
            return complex(x.real / abs(y.real), x.imag / abs(y.real))
        ratio = y.imag / y.real
        scale = 1.0 / (y.real + y.imag * ratio)
        return complex((x.real + x.imag * ratio) * scale, (x.imag - x.real * ratio) * scale)
    ratio = y.real / y.imag
    scale = 1.0 / (y.imag + y.real * ratio)
    return complex((x.real * ratio + x.imag) * scale, (x.imag * ratio - x.real) * scale)


@register_jitable
def maximum(x, y):
    """The larger, NaN if either is."""
    return x if (x >= y) | (x != x) else y


@register_jitable
def minimum(x, y):
    return x if (x <= y) | (x != x) else y


@register_jitable
def fmax(x, y):
    """The larger, the other one where one is NaN."""
    return x if (x >= y) | (y != y) else y


@register_jitable
def fmin(x, y):
    return x if (x <= y) | (y != y) else y


@register_jitable
def fmod(x, y):
    """The remainder with the sign of x; numba's own is wrong for negative integers."""
    size = np.remainder(abs(x), abs(y))
    return -size if x < 0 else size


def floor_divide(x, y):
    """The largest integer below the exact quotient, as NumPy rounds it."""
    return np.floor_divide(x, y)


@overload(floor_divide)
def _floor_divide(x, y):
    if isinstance(x, types.Integer | types.Boolean):
        return lambda x, y: np.floor_divide(x, y)

    def divide(x, y):
        # numba's own is floor(x / y), where the quotient is rounded up to an integer at times.
        if y == 0:
            return x / y
        rest = np.fmod(x, y)
        quotient = (x - rest) / y
        if (rest != 0) & ((y < 0) != (rest < 0)):
            quotient -= 1
        floor = np.floor(quotient)
        if quotient - floor > 0.5:
            floor += 1
        return floor if quotient != 0 else math.copysign(0.0, x / y)

    return divide


@register_jitable
def logaddexp(x, y):
    """log(exp(x) + exp(y)), without overflow."""
    if x == y:
        return x + math.log(2.0)
    return maximum(x, y) + math.log1p(math.exp(-abs(x - y)))


@register_jitable
def logaddexp2(x, y):
    if x == y:
        return x + 1.0
    return maximum(x, y) + math.log1p(2.0 ** -abs(x - y)) / math.log(2.0)


@register_jitable
def expit(x):
    return 1.0 / (1.0 + math.exp(-x))


@register_jitable
def logit(x):
    return math.log(x / (1.0 - x))


@register_jitable
def log_expit(x):
    return -math.log1p(math.exp(-x)) if x >= 0 else x - math.log1p(math.exp(x))


@register_jitable
def ndtr(x):
    """The normal distribution function, accurate in its lower tail."""
    return 0.5 * math.erfc(-x * 0.7071067811865476)


@register_jitable
def xlogy(x, y):
    """x log y, and 0 at x = 0 unless y is NaN."""
    return 0.0 * x if (x == 0) & (y == y) else x * math.log(y)


@register_jitable
def xlog1py(x, y):
    return 0.0 * x if (x == 0) & (y == y) else x * math.log1p(y)


@register_jitable
def entr(x):
    """-x log x, 0 at 0, minus infinity below."""
    if x > 0:
        return -x * math.log(x)
    return -math.inf if x < 0 else 0.0 * x


@register_jitable
def invert(x):
    return ~x


@register_jitable
def zeta(s, x):
    """The Hurwitz zeta function, sum over k >= 0 of (x + k)^-s, for an integer s > 1.

    The first terms as they stand, the tail by Euler and Maclaurin (DLMF 25.11.5) from x + k >= 12.
    """
    if (x <= 0) & (x == np.floor(x)):
        return math.inf
    if x == math.inf:
        return 0.0
    total = 0.0 * x
    while x < 12:
        total += x**-s
        x += 1
    power = x**-s
    total += power * (x / (s - 1) + 0.5)
    factor = s * power / x
    for k in range(8):
        total += _BERNOULLI[k] * factor
        factor *= (s + 2 * k + 1) * (s + 2 * k + 2) / (x * x)
    return total
