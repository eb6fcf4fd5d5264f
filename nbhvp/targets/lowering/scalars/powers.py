"""Powers, and the inverse hyperbolic functions as log(1 + t): logarithms in two parts."""

import math

from nbhvp.targets.lowering.scalars.arithmetic import (
    ROUND,
    product_in_parts,
    quotient_in_parts,
    two_sum,
    within,
)
from nbhvp.targets.lowering.scalars.exponentials import (
    LN2,
    LN2_HEAD,
    LN2_REST,
    exp_tail,
    power_of_2,
    reduced,
    scaled,
)
from nbhvp.targets.lowering.scalars.logarithms import log_sum, split_all, sum_in_parts
from nbhvp.targets.lowering.words import (
    bits,
    branchless,
    copysign,
    floor,
    fma,
    muladd,
    polynomial,
    select,
    sqrt,
)

# Inverse hyperbolic functions, as log(1 + t).


def _log1p_parts(t, t_lost):
    """log(1 + t + t_lost)."""
    total, lost = sum_in_parts(1.0, t)
    return log_sum(total, lost + t_lost)


@branchless
def arcsinh(x):
    """t = |x| + x^2 / (1 + sqrt(1 + x^2)); log(2 |x|) where |x| is large."""
    size = abs(x)
    large = size > 2.0**30
    square = select(large, 0.0, size * size)
    rest = square / (1.0 + sqrt(1.0 + square))
    t, lost = two_sum(size, select(large, -1.0, rest))
    return copysign(_log1p_parts(t, lost) + select(large, LN2, 0.0), x)


@branchless
def arccosh(x):
    """t = u + sqrt(u^2 + 2 u), where u = x - 1; log(2 x) where x is large."""
    u = x - 1.0
    large = x > 2.0**30
    square = select(u < 0, u, select(large, 0.0, fma(u, u, 2.0 * u)))
    t, lost = sum_in_parts(u, sqrt(square))
    return _log1p_parts(t, lost) + select(large, LN2, 0.0)


@branchless
def arctanh(x):
    """log(1 + t) / 2, where t = 2 |x| / (1 - |x|)."""
    size = abs(x)
    t, lost = quotient_in_parts(2.0 * size, 0.0, *sum_in_parts(1.0, -size))
    return copysign(0.5 * _log1p_parts(t, lost), x)


# Powers.

_THIRD = 1 / 3
TWO_THIRDS, TWO_THIRDS_TAIL = 2 / 3, 3.700743415417188e-17
# (2 artanh(s) - 2 s - 2 s^3 / 3) / s^5 in s^2, |s| <= 3 - sqrt(8).
_LOG_LONG = (
    0.4000000000000204, 0.2857142857018724, 0.22222222506365238, 0.1818178541997188,
    0.1538671354128036, 0.1325775033785917, 0.13188333016799694,
)  # fmt: skip
# 1 / cbrt(x), 2^-1.5 <= x <= 2^1.5, to 8 bits.
_CBRT = (
    2.015117484499033, -2.3867277594916385, 2.30609530501484, -1.235595370083526,
    0.33453789227117764, -0.03568847387906065,
)  # fmt: skip


def _log_long(x):
    """log(x) in two quotient_in_parts, to 2^-63 of it."""
    _, k, f = split_all(x)
    below, below_lost = two_sum(2.0, f)
    s = quotient_in_parts(f, 0.0, below, below_lost)
    square = product_in_parts(*s, *s)
    factor, lost = two_sum(TWO_THIRDS, square[0] * polynomial(square[0], _LOG_LONG))
    cube, cube_lost = product_in_parts(
        *s, *product_in_parts(*square, factor, lost + TWO_THIRDS_TAIL)
    )
    z, lost = two_sum(2.0 * s[0], cube)
    lost = lost + muladd(2.0, s[1], cube_lost)
    head = k * LN2_HEAD
    z, rest = two_sum(head, z)
    z, lost = two_sum(z, rest + muladd(k, LN2_REST, lost))
    finite = abs(head) < math.inf
    return select(finite, z, head), select(finite, lost, 0.0)


@branchless
def power(x, y):
    """exp(y log|x|), with the sign and the exceptions of C's pow."""
    z, lost = product_in_parts(y, 0.0, *_log_long(abs(x)))
    lost = select(abs(z) < 800.0, lost, 0.0)
    n, r, rest = reduced(within(z, -746.0, 710.0))
    tail = exp_tail(r, rest)
    one, rest = two_sum(1.0, r)
    rest = rest + tail
    z = scaled(one + muladd(one + rest, lost, rest), n)
    whole, half = y == floor(y), 0.5 * y
    odd = whole & (half != floor(half))
    z = select(odd, copysign(z, x), z)
    z = select((x < 0) & (whole ^ True) & (x > -math.inf), math.nan, z)
    unit = (x == 1.0) | (y == 0) | ((x == -1.0) & (abs(y) == math.inf))
    return select(unit, 1.0, z)


@branchless
def cbrt(x):
    """1 / cbrt(m) by Newton's method, and its square times m, for x = 2^3q m."""
    size = abs(x)
    _, k, f = split_all(size)
    shifted = muladd(k, _THIRD, ROUND)
    q = shifted - ROUND
    m = (1.0 + f) * power_of_2(bits(muladd(-3.0, q, k) + ROUND))
    y = polynomial(m, _CBRT)
    for _ in range(2):
        rest = muladd(-m * y, y * y, 1.0)
        y = muladd(y * rest, polynomial(rest, (1 / 3, 2 / 9, 14 / 81)), y)
    square = y * y
    z = m * square
    z_square, lost = product_in_parts(z, 0.0, z, 0.0)
    rest = fma(-z, z_square, m) - z * lost
    z = muladd(rest * square, _THIRD, z) * power_of_2(bits(shifted))
    return copysign(select((size > 0) & (size < math.inf), z, size), x)
