"""Exponentials and hyperbolic functions: x = n log 2 + r, exp(x) = 2^n (1 + r + q(r))."""

from nbhvp.targets.lowering.scalars.arithmetic import EXPONENT, ROUND, quotient, two_sum, within
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

LN2, LN2_TAIL = 0.6931471805599453, 2.3190468138462996e-17
LN2_HEAD, LN2_REST = 0.6931471805598903, 5.497923018708371e-14
"""The head times an integer below 2^11 is exact."""
LOG2_E, LOG2_E_TAIL = 1.4426950408889634, 2.0355273740931033e-17

# (exp(r) - 1 - r) / r^2 in r, |r| <= log(2) / 2.
_EXP = (
    0.5, 0.16666666666666685, 0.04166666666666673, 0.008333333333316628, 0.0013888888888858085,
    0.00019841269897356517, 2.480158737435989e-05, 2.755723392315739e-06, 2.7557232873075105e-07,
    2.511235379350409e-08, 2.092708480492972e-09,
)  # fmt: skip
# (sinh(r) - r) / r^3 and (cosh(r) - 1 - r^2 / 2) / r^4 in r^2, |r| <= log(2) / 2.
_SINH = (
    0.16666666666666677, 0.00833333333332156, 0.00019841269886351382, 2.7557243944200728e-06,
    2.5109141014956357e-08,
)  # fmt: skip
_COSH = (
    0.041666666666666685, 0.0013888888888873511, 2.4801587348751445e-05, 2.755725219790613e-07,
    2.0921655655359024e-09,
)  # fmt: skip


def reduced(x):
    """n in the low bits of an integer; r, and what its rounding lost."""
    shifted = muladd(x, LOG2_E, ROUND)
    n = shifted - ROUND
    head, rest = muladd(-n, LN2_HEAD, x), n * LN2_REST
    r = head - rest
    return bits(shifted), r, (head - r) - rest


def exp_tail(r, lost):
    """exp(r + lost) - 1 - r."""
    return muladd(r * r, polynomial(r, _EXP), lost)


def power_of_2(n):
    """2^n, n in the low bits of an integer, from -1022 to 1023."""
    return double((n + EXPONENT) << 52)


def scaled(x, n):
    """2^n x, n from -2044 to 2046."""
    half = n >> 1
    return x * power_of_2(half) * power_of_2(n - half)


def _exp(n, r, lost):
    one, rest = two_sum(1.0, r)
    return scaled(one + (rest + exp_tail(r, lost)), n)


@branchless
def exp(x):
    return _exp(*reduced(within(x, -746.0, 710.0)))


@branchless
def exp2(x):
    x = within(x, -1076.0, 1025.0)
    shifted = x + ROUND
    fraction = x - (shifted - ROUND)
    r = fraction * LN2
    return _exp(bits(shifted), r, muladd(fraction, LN2_TAIL, fma(fraction, LN2, -r)))


@branchless
def expm1(x):
    """2^n ((1 - 2^-n) + r + q)."""
    n, r, lost = reduced(within(x, -40.0, 710.0))
    inverse = select(x > 40.0, 0.0, double((EXPONENT - n) << 52))
    y, rest = two_sum(1.0 - inverse, r)
    return copysign(scaled(y + (rest + exp_tail(r, lost)), n), x)


@branchless
def tanh(x):
    """(e - 1) / (e + 1), where e = exp(2|x|); both over 2^n."""
    n, r, lost = reduced(within(2.0 * abs(x), 0.0, 40.0))
    inverse = double((EXPONENT - n) << 52)
    tail = exp_tail(r, lost)
    above, above_lost = two_sum(1.0 - inverse, r)
    above, above_lost = two_sum(above, above_lost + tail)
    below, below_lost = two_sum(1.0 + inverse, r)
    below, below_lost = two_sum(below, below_lost + tail)
    return copysign(quotient(above, above_lost, below, below_lost), x)


def _sinh_cosh(x):
    """2^-2n, sinh(r) - r, cosh(r) - 1, r, and n - 1, where |x| = n log 2 + r."""
    n, r, lost = reduced(within(abs(x), 0.0, 711.0))
    square = r * r
    odd = muladd(square * r, polynomial(square, _SINH), lost)
    even = muladd(square * square, polynomial(square, _COSH), 0.5 * square)
    return select(abs(x) > 40.0, 0.0, double((EXPONENT - 2 * n) << 52)), odd, even, r, n - 1


@branchless
def sinh(x):
    """sinh(n log 2) cosh(r) + cosh(n log 2) sinh(r)."""
    inverse, odd, even, r, n = _sinh_cosh(x)
    sinh_n, cosh_n = 1.0 - inverse, 1.0 + inverse
    y, rest = two_sum(sinh_n, cosh_n * r)
    return copysign(scaled(y + (rest + muladd(sinh_n, even, cosh_n * odd)), n), x)


@branchless
def cosh(x):
    """cosh(n log 2) cosh(r) + sinh(n log 2) sinh(r)."""
    inverse, odd, even, r, n = _sinh_cosh(x)
    sinh_n, cosh_n = 1.0 - inverse, 1.0 + inverse
    y, rest = two_sum(cosh_n, sinh_n * r)
    return scaled(y + (rest + muladd(cosh_n, even, sinh_n * odd)), n)


@branchless
def expit(x):
    """exp(-|x|) / (1 + exp(-|x|)), or 1 in place of the numerator."""
    power = exp(-abs(x))
    below, lost = two_sum(1.0, power)
    z = select(x < 0, power, 1.0) / below
    return muladd(-z * select(x < 0, 1.0 - z, z), lost, z)
