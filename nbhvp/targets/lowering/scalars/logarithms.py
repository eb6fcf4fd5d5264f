"""Logarithms: x = 2^k (1 + f), log(x) = k log 2 + 2 artanh(s), s = f / (2 + f)."""

import math

from nbhvp.targets.lowering.scalars.arithmetic import EXPONENT, two_sum
from nbhvp.targets.lowering.scalars.exponentials import (
    LN2_HEAD,
    LN2_REST,
    LOG2_E,
    LOG2_E_TAIL,
    exp,
    exp2,
)
from nbhvp.targets.lowering.words import (
    bits,
    branchless,
    copysign,
    double,
    fma,
    muladd,
    polynomial,
    select,
)

LOG10_E, LOG10_E_TAIL = 0.4342944819032518, 1.098319650216765e-17
LOG10_2_HEAD, LOG10_2_REST = 0.30102999566395283, 2.8363394551044964e-14
# (2 artanh(s) - 2 s) / s^3 in s^2, |s| <= 3 - sqrt(8).
_LOG = (
    0.6666666666666734, 0.3999999999941656, 0.2857142874204941, 0.2222219860230844,
    0.18183563029215935, 0.1531407935512815, 0.14795697499711497,
)  # fmt: skip

_SQRT_HALF = bits(0.7071067811865476)
_MANTISSA = 2**52 - 1


def _split(x):
    """k + 1023 as an integer, k, and f, where 1/sqrt(2) <= 1 + f < sqrt(2)."""
    shifted = bits(x) + ((EXPONENT << 52) - _SQRT_HALF)
    biased = shifted >> 52
    k = double(biased | bits(2.0**52)) - (2.0**52 + EXPONENT)
    return biased, k, double((shifted & _MANTISSA) + _SQRT_HALF) - 1.0


def split_all(x):
    """The same for any x: what is no positive number gives a k that is the logarithm's value."""
    least = x < 2.0**-1022
    biased, k, f = _split(select(least, x * 2.0**54, x))
    less = select(x < math.inf, select(least, 54.0, 0.0), -x)
    return biased, k - select(x > 0, less, select(x == 0, math.inf, math.nan)), f


def _log_tail(f):
    """f^2 / 2, and log(1 + f) - f + f^2 / 2."""
    s = f / (2.0 + f)
    square, half = s * s, 0.5 * f * f
    return half, s * muladd(square, polynomial(square, _LOG), half)


@branchless
def log(x):
    return log_sum(x, None)


def log_sum(x, lost):
    """log(x + lost), where lost is what the rounding of x did, if anything."""
    biased, k, f = split_all(x)
    half, tail = _log_tail(f)
    rest = muladd(k, LN2_REST, tail)
    if lost is not None:
        lost = lost * double((2 * EXPONENT - biased) << 52) * muladd(f, f - 1.0, 1.0)
        rest = rest + select(x < 2.0**60, lost, 0.0)
    return k * LN2_HEAD - ((half - rest) - f)


def _log_times(x, factor, factor_tail):
    """k; log(1 + f) times a factor, rounded, and the rest."""
    _, k, f = split_all(x)
    half, tail = _log_tail(f)
    y, rest = two_sum(f, -half)
    z = y * factor
    rest = muladd(rest + tail, factor, y * factor_tail)
    return k, z, fma(y, factor, -z) + rest


@branchless
def log2(x):
    k, z, rest = _log_times(x, LOG2_E, LOG2_E_TAIL)
    return _sum_of_logs(k, z, rest)


@branchless
def log10(x):
    k, z, rest = _log_times(x, LOG10_E, LOG10_E_TAIL)
    return _sum_of_logs(k * LOG10_2_HEAD, z, muladd(k, LOG10_2_REST, rest))


def _sum_of_logs(head, z, rest):
    """Their sum, which is the head itself where that is not finite."""
    total, lost = two_sum(head, z)
    return select(abs(head) < math.inf, total + (lost + rest), head)


def sum_in_parts(x, y):
    """x + y and what its rounding lost."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


@branchless
def log1p(x):
    return copysign(log_sum(*sum_in_parts(1.0, x)), x)


@branchless
def logaddexp(x, y):
    """log(exp(x) + exp(y)), without overflow."""
    larger = select((x >= y) | (x != x), x, y)
    distance = select(x == y, 0.0, abs(x - y))
    return larger + log1p(exp(-distance))


@branchless
def logaddexp2(x, y):
    larger = select((x >= y) | (x != x), x, y)
    distance = select(x == y, 0.0, abs(x - y))
    return larger + LOG2_E * log1p(exp2(-distance))


@branchless
def logit(x):
    """log(m / (1 - m)) for the smaller of x and 1 - x; near 1/2, -log(1 + (1 - 2 m) / m)."""
    m = select(x < 0.5, x, 1.0 - x)
    near = m > 0.25
    ratio = select(near, 1.0 - 2.0 * m, m) / select(near, m, 1.0 - m)
    total, lost = two_sum(1.0, ratio)
    z = log_sum(select(near, total, ratio), select(near, lost, 0.0))
    return select((x < 0.5) ^ near, z, -z)


@branchless
def log_expit(x):
    return -(log1p(exp(-abs(x))) - select(x < 0, x, 0.0))


@branchless
def xlogy(x, y):
    """x log y, and 0 at x = 0 unless y is NaN."""
    return select((x == 0) & (y == y), 0.0, x * log(y))


@branchless
def xlog1py(x, y):
    return select((x == 0) & (y == y), 0.0, x * log1p(y))


@branchless
def entr(x):
    """-x log x, 0 at 0, minus infinity below."""
    return select(x < 0, -math.inf, select(x == 0, 0.0, -x * log(x)))


_TINY = 2.0**-1000
_LOG_TINY = -1000 * math.log(2)


@branchless
def rel_entr(x, y):
    """x log(x / y); x is scaled where the quotient leaves the normal numbers."""
    ratio = x / y
    is_small, is_large = ratio < _TINY, ratio > 1 / _TINY
    scaled = x * select(is_small, 1 / _TINY, select(is_large, _TINY, 1.0)) / y
    shift = select(is_small, _LOG_TINY, select(is_large, -_LOG_TINY, 0.0))
    inside = x * (log(scaled) + shift)
    outside = select((x == 0) & (y >= 0), 0.0, select((x == x) & (y == y), math.inf, math.nan))
    return select((x > 0) & (y > 0), inside, outside)
