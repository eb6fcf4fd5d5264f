"""Circular functions and their inverses.

|x| = n pi / 2 + r + lost, |r| <= pi / 4, for |x| <= 2^20: n times the first part of pi / 2 is subtracted
exactly, and more digits follow than |r| has leading zeros.
"""

import math

from nbhvp.targets.lowering.scalars.arithmetic import (
    ROUND,
    quotient,
    quotient_in_parts,
    two_sum,
    within,
)
from nbhvp.targets.lowering.words import (
    bits,
    branchless,
    copysign,
    double,
    fma,
    muladd,
    polynomial,
    rarely,
    select,
    sqrt,
)

HALF_PI, HALF_PI_REST, HALF_PI_TAIL = (
    1.5707963267948966,
    6.123233995736766e-17,
    -1.4973849048591698e-33,
)
INVERSE_HALF_PI = 0.6366197723675814
_FAR = 2.0**20
SIGN = 2**63

# (sin(r) - r) / r^3 and (cos(r) - 1 + r^2 / 2) / r^4 in r^2, |r| <= pi / 4.
_SIN = (
    -0.16666666666666632, 0.008333333333322434, -0.0001984126982982186, 2.7557313696384357e-06,
    -2.5050758772032765e-08, 1.5896831992080206e-10,
)  # fmt: skip
_COS = (
    0.0416666666666666, -0.0013888888888874144, 2.4801587289493958e-05, -2.755731435558013e-07,
    2.087572369976742e-09, -1.1359669329314859e-11,
)  # fmt: skip


def _sin_cos(x):
    """n in the low bits of an integer; sin and cos of r, each in two parts."""
    shifted = muladd(abs(x), INVERSE_HALF_PI, ROUND)
    n = shifted - ROUND
    near, shift = fma(-n, HALF_PI, abs(x)), n * HALF_PI_REST
    r = near - shift
    lost = ((near - r) - shift) - muladd(n, HALF_PI_TAIL, fma(n, HALF_PI_REST, -shift))
    return bits(shifted), *near_zero(r, lost)


def near_zero(r, lost):
    """Sine and cosine of r + lost, each in two parts."""
    square = r * r
    sin_tail = muladd(square * r, polynomial(square, _SIN), lost)
    cos_head, cos_tail = two_sum(1.0, -0.5 * square)
    cos_tail = cos_tail + muladd(square * square, polynomial(square, _COS), -r * lost)
    return (r, sin_tail), (cos_head, cos_tail)


def _with_sign(x, sign):
    """x, its sign changed where the bit `SIGN` is set."""
    return double(bits(x) ^ (sign & SIGN))


@branchless
def sin(x):
    n, sine, cosine = _sin_cos(x)
    z = select((n & 1) != 0, cosine[0] + cosine[1], sine[0] + sine[1])
    return rarely(abs(x) > _FAR, "sin", x, _with_sign(z, (n << 62) ^ bits(x)))


@branchless
def cos(x):
    n, sine, cosine = _sin_cos(x)
    z = select((n & 1) != 0, sine[0] + sine[1], cosine[0] + cosine[1])
    return rarely(abs(x) > _FAR, "cos", x, _with_sign(z, (n + 1) << 62))


@branchless
def tan(x):
    n, sine, cosine = _sin_cos(x)
    sine, cosine, odd = two_sum(*sine), two_sum(*cosine), (n & 1) != 0
    above = [select(odd, c, s) for s, c in zip(sine, cosine, strict=True)]
    below = [select(odd, s, c) for s, c in zip(sine, cosine, strict=True)]
    z = quotient(*above, *below)
    return rarely(abs(x) > _FAR, "tan", x, _with_sign(z, (n << 63) ^ bits(x)))


# Inverse circular functions.

PI, PI_TAIL = 2 * HALF_PI, 2 * HALF_PI_REST

# (arctan(t) - t) / t^3 in t^2, |t| <= sqrt(2) - 1; (arcsin(s) - s) / s^3 in s^2, |s| <= 1/2.
_ARCTAN = (
    -0.33333333333333204, 0.19999999999954854, -0.14285714280311618, 0.11111110788816755,
    -0.0909089790372078, 0.07692062702787288, -0.06663131328595151, 0.05848081670331159,
    -0.050401476395574886, 0.038085446146704366, -0.01792956487913206,
)  # fmt: skip
_ARCSIN = (
    0.1666666666666676, 0.07499999999970788, 0.04464285717470852, 0.030381942700613597,
    0.022372215236829647, 0.017351606954037768, 0.013980886149690888, 0.011398346303437562,
    0.01078354385869546, 0.003693647872277079, 0.02173908279540265, -0.021044435754003887,
    0.03265726842435323,
)  # fmt: skip


def _angle(y, x, turned):
    """The angle to the point (x, y) of the first quadrant; pi less it if `turned`.

    q pi / 4 + arctan(t), where t = y / x, (y - x) / (y + x) or -x / y is small.
    """
    steep, middle = y > 2.414213562373095 * x, y > 0.41421356237309503 * x
    larger, smaller = select(y > x, y, x), select(y > x, x, y)
    total, total_lost = two_sum(larger, smaller)
    rest, rest_lost = two_sum(larger, -smaller)
    oblique = middle & (steep ^ True)
    above = select(steep, -x, select(middle, select(y > x, rest, -rest), y))
    below = select(steep, y, select(middle, total, x))
    above_lost = select(oblique, select(y > x, rest_lost, -rest_lost), 0.0)
    t, lost = quotient_in_parts(above, above_lost, below, select(oblique, total_lost, 0.0))
    square = t * t
    tail = muladd(t * square, polynomial(square, _ARCTAN), lost)
    q = select(steep, 2.0, select(middle, 1.0, 0.0))
    q, t, tail = select(turned, 4.0 - q, q), select(turned, -t, t), select(turned, -tail, tail)
    base = q * (PI / 4)
    base_lost = muladd(q, PI_TAIL / 4, fma(q, PI / 4, -base))
    z, lost = two_sum(base, t)
    return z + (lost + (base_lost + tail))


@branchless
def arctan(x):
    return copysign(_angle(within(abs(x), 0.0, 2.0**60), 1.0, x != x), x)


@branchless
def arctan2(y, x):
    """Both are scaled to where nothing overflows or vanishes; infinities count as 1 against 0."""
    up, right = abs(y), abs(x)
    larger = select(up > right, up, right)
    infinite = larger == math.inf
    up = select(infinite, select(up == math.inf, 1.0, 0.0 * up), up)
    right = select(infinite, select(right == math.inf, 1.0, 0.0 * right), right)
    scale = select(larger > 2.0**800, 2.0**-200, select(larger < 2.0**-800, 2.0**200, 1.0))
    right = select(larger == 0, 1.0, right * scale)
    return copysign(_angle(up * scale, right, copysign(1.0, x) < 0), y)


def _arcsin_parts(x):
    """s and arcsin(s) - s: s is |x|, or sqrt((1 - |x|) / 2) where `large`."""
    size = abs(x)
    large = size > 0.5
    square = select(large, 0.5 - 0.5 * size, size * size)
    s = select(large, sqrt(square), size)
    return large, s, s * square * polynomial(square, _ARCSIN)


@branchless
def arcsin(x):
    """Where |x| is large, pi / 2 - 2 arcsin(s)."""
    large, s, tail = _arcsin_parts(x)
    z, lost = two_sum(HALF_PI, -2.0 * s)
    z = select(large, z + (lost + muladd(-2.0, tail, HALF_PI_REST)), s + tail)
    return copysign(z, x)


@branchless
def arccos(x):
    """pi / 2 - arcsin(x); where |x| is large, 2 arcsin(s), or pi less it."""
    large, s, tail = _arcsin_parts(x)
    factor = select(large, select(x < 0, -2.0, 2.0), select(x < 0, 1.0, -1.0))
    base = select(large, select(x < 0, PI, 0.0), HALF_PI)
    base_lost = select(large, select(x < 0, PI_TAIL, 0.0), HALF_PI_REST)
    z, lost = two_sum(base, factor * s)
    return z + (lost + muladd(factor, tail, base_lost))
