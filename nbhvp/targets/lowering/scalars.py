"""Scalar functions that kernels call: what neither `math` nor an operator of Python gives.

Each is one body for every target and for plain Python, defined at every float as NumPy and SciPy
define it (NaN, infinities, signed zeros), and raises nothing when compiled. Those marked
`branchless` are made of arithmetic alone, so that loops over them are vectorised: exp and log are
within 1 unit in the last place, the others within 2. A complex argument goes to `cmath` instead.

They reduce the argument to where a polynomial is short: x = n log 2 + r for the exponentials,
x = 2^k (1 + f) for the logarithms. What rounding would lose is carried as a second, small number
wherever it would show. The polynomials are minimax (Remez, in 60 digits: `tests/minimax.py`) for
relative errors below 2^-54; the forms of log and log1p are those of fdlibm (Sun Microsystems, 1993).
"""

import math

import numpy as np

from nbhvp.graph.table import incomplete
from nbhvp.targets.lowering.words import (
    bits,
    branchless,
    copysign,
    double,
    floor,
    fma,
    muladd,
    polynomial,
    rarely,
    select,
    sqrt,
    written,
)

ROUND = 1.5 * 2.0**52
"""The sum with it is a number rounded to an integer, which its low bits hold."""
LN2, LN2_TAIL = 0.6931471805599453, 2.3190468138462996e-17
LN2_HEAD, LN2_REST = 0.6931471805598903, 5.497923018708371e-14
"""The head times an integer below 2^11 is exact."""
LOG2_E, LOG2_E_TAIL = 1.4426950408889634, 2.0355273740931033e-17
LOG10_E, LOG10_E_TAIL = 0.4342944819032518, 1.098319650216765e-17
LOG10_2_HEAD, LOG10_2_REST = 0.30102999566395283, 2.8363394551044964e-14
EXPONENT = 0x3FF
"""That of 1, as the bits of a double have it above the lower 52."""

# (exp(r) - 1 - r) / r^2 in r, |r| <= log(2) / 2.
_EXP = (
    0.5, 0.16666666666666685, 0.04166666666666673, 0.008333333333316628, 0.0013888888888858085,
    0.00019841269897356517, 2.480158737435989e-05, 2.755723392315739e-06, 2.7557232873075105e-07,
    2.511235379350409e-08, 2.092708480492972e-09,
)  # fmt: skip
# (2 artanh(s) - 2 s) / s^3 in s^2, |s| <= 3 - sqrt(8).
_LOG = (
    0.6666666666666734, 0.3999999999941656, 0.2857142874204941, 0.2222219860230844,
    0.18183563029215935, 0.1531407935512815, 0.14795697499711497,
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
# B_2k / (2k)!, k = 1, 2, ...: the coefficients of the Euler-Maclaurin formula.
_BERNOULLI = (
    1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000,
    1 / 74724249600, -3617 / 10670622842880000,
)  # fmt: skip

# B_2k / (2k), k = 1, 2, ...: the asymptotic series of digamma.
_DIGAMMA = (
    1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12, -3617 / 8160,
)  # fmt: skip

__all__ = [
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "betainc_da",
    "cbrt",
    "cos",
    "cosh",
    "divide",
    "entr",
    "erf",
    "exp",
    "exp2",
    "expit",
    "expm1",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "gammainc_da",
    "invert",
    "lambertw",
    "log",
    "log1p",
    "log2",
    "log10",
    "log_expit",
    "logaddexp",
    "logaddexp2",
    "logit",
    "maximum",
    "minimum",
    "ndtr",
    "power",
    "rel_entr",
    "remainder",
    "sin",
    "sinh",
    "spherical_in",
    "spherical_jn",
    "spherical_kn",
    "spherical_yn",
    "tan",
    "tanh",
    "xlog1py",
    "xlogy",
    "zeta",
]  # fmt: skip


@written
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


@written
def maximum(x, y):
    """The larger, NaN if either is."""
    return x if (x >= y) | (x != x) else y


@written
def minimum(x, y):
    return x if (x <= y) | (x != x) else y


@written
def fmax(x, y):
    """The larger, the other one where one is NaN."""
    return x if (x >= y) | (y != y) else y


@written
def fmin(x, y):
    return x if (x <= y) | (y != y) else y


# What these are in a kernel depends on the dtypes of the arguments: `language` and `lower` say it.


def remainder(x, y):
    """The remainder with the sign of y."""
    return np.remainder(x, y)


def fmod(x, y):
    """The remainder with the sign of x."""
    return np.fmod(x, y)


def floor_divide(x, y):
    """The largest integer below the exact quotient, as NumPy rounds it."""
    return np.floor_divide(x, y)


@written
def remainder_of_floats(x, y):
    rest = np.fmod(x, y)
    return rest + (y if (rest != 0) & ((y < 0) != (rest < 0)) else 0.0)


@written
def floor_divide_floats(x, y):
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


# Exponentials: x = n log 2 + r, exp(x) = 2^n (1 + r + q).


def within(x, lowest, highest):
    """x between two bounds, NaN if it is."""
    x = select(x < lowest, lowest, x)
    return select(x > highest, highest, x)


def _reduce(x):
    """n in the low bits of an integer; r, and what its rounding lost."""
    shifted = muladd(x, LOG2_E, ROUND)
    n = shifted - ROUND
    head, rest = muladd(-n, LN2_HEAD, x), n * LN2_REST
    r = head - rest
    return bits(shifted), r, (head - r) - rest


def _exp_tail(r, lost):
    """exp(r + lost) - 1 - r."""
    return muladd(r * r, polynomial(r, _EXP), lost)


def two_sum(x, y):
    """x + y and what its rounding lost, for |x| >= |y| or x = 0."""
    total = x + y
    return total, (x - total) + y


def _power_of_2(n):
    """2^n, n in the low bits of an integer, from -1022 to 1023."""
    return double((n + EXPONENT) << 52)


def _scaled(x, n):
    """2^n x, n from -2044 to 2046."""
    half = n >> 1
    return x * _power_of_2(half) * _power_of_2(n - half)


def _parts(x, x_lost, y, y_lost):
    """(x + x_lost) / (y + y_lost) and what its rounding lost."""
    inverse = 1.0 / y
    z = x * inverse
    return z, (fma(-z, y, x) + muladd(-z, y_lost, x_lost)) * inverse


def quotient(x, x_lost, y, y_lost):
    """(x + x_lost) / (y + y_lost)."""
    z, lost = _parts(x, x_lost, y, y_lost)
    return z + lost


def _exp(n, r, lost):
    one, rest = two_sum(1.0, r)
    return _scaled(one + (rest + _exp_tail(r, lost)), n)


@branchless
def exp(x):
    return _exp(*_reduce(within(x, -746.0, 710.0)))


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
    n, r, lost = _reduce(within(x, -40.0, 710.0))
    inverse = select(x > 40.0, 0.0, double((EXPONENT - n) << 52))
    y, rest = two_sum(1.0 - inverse, r)
    return copysign(_scaled(y + (rest + _exp_tail(r, lost)), n), x)


@branchless
def tanh(x):
    """(e - 1) / (e + 1), where e = exp(2|x|); both over 2^n."""
    n, r, lost = _reduce(within(2.0 * abs(x), 0.0, 40.0))
    inverse = double((EXPONENT - n) << 52)
    tail = _exp_tail(r, lost)
    above, above_lost = two_sum(1.0 - inverse, r)
    above, above_lost = two_sum(above, above_lost + tail)
    below, below_lost = two_sum(1.0 + inverse, r)
    below, below_lost = two_sum(below, below_lost + tail)
    return copysign(quotient(above, above_lost, below, below_lost), x)


def _sinh_cosh(x):
    """2^-2n, sinh(r) - r, cosh(r) - 1, r, and n - 1, where |x| = n log 2 + r."""
    n, r, lost = _reduce(within(abs(x), 0.0, 711.0))
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
    return copysign(_scaled(y + (rest + muladd(sinh_n, even, cosh_n * odd)), n), x)


@branchless
def cosh(x):
    """cosh(n log 2) cosh(r) + sinh(n log 2) sinh(r)."""
    inverse, odd, even, r, n = _sinh_cosh(x)
    sinh_n, cosh_n = 1.0 - inverse, 1.0 + inverse
    y, rest = two_sum(cosh_n, sinh_n * r)
    return _scaled(y + (rest + muladd(cosh_n, even, sinh_n * odd)), n)


@branchless
def expit(x):
    """exp(-|x|) / (1 + exp(-|x|)), or 1 in place of the numerator."""
    power = exp(-abs(x))
    below, lost = two_sum(1.0, power)
    z = select(x < 0, power, 1.0) / below
    return muladd(-z * select(x < 0, 1.0 - z, z), lost, z)


# Logarithms: x = 2^k (1 + f), log(x) = k log 2 + 2 artanh(s), s = f / (2 + f).

_SQRT_HALF = bits(0.7071067811865476)
_MANTISSA = 2**52 - 1


def _split(x):
    """k + 1023 as an integer, k, and f, where 1/sqrt(2) <= 1 + f < sqrt(2)."""
    shifted = bits(x) + ((EXPONENT << 52) - _SQRT_HALF)
    biased = shifted >> 52
    k = double(biased | bits(2.0**52)) - (2.0**52 + EXPONENT)
    return biased, k, double((shifted & _MANTISSA) + _SQRT_HALF) - 1.0


def _split_all(x):
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
    return _log_sum(x, None)


def _log_sum(x, lost):
    """log(x + lost), where lost is what the rounding of x did, if anything."""
    biased, k, f = _split_all(x)
    half, tail = _log_tail(f)
    rest = muladd(k, LN2_REST, tail)
    if lost is not None:
        lost = lost * double((2 * EXPONENT - biased) << 52) * muladd(f, f - 1.0, 1.0)
        rest = rest + select(x < 2.0**60, lost, 0.0)
    return k * LN2_HEAD - ((half - rest) - f)


def _log_times(x, factor, factor_tail):
    """k; log(1 + f) times a factor, rounded, and the rest."""
    _, k, f = _split_all(x)
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


def _sum(x, y):
    """x + y and what its rounding lost."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


@branchless
def log1p(x):
    return copysign(_log_sum(*_sum(1.0, x)), x)


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
    z = _log_sum(select(near, total, ratio), select(near, lost, 0.0))
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


# Circular functions: |x| = n pi / 2 + r + lost, |r| <= pi / 4, for |x| <= 2^20: n times the first
# part of pi / 2 is subtracted exactly, and more digits follow than |r| has leading zeros.

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
    t, lost = _parts(above, above_lost, below, select(oblique, total_lost, 0.0))
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


# Inverse hyperbolic functions, as log(1 + t).


def _log1p_parts(t, t_lost):
    """log(1 + t + t_lost)."""
    total, lost = _sum(1.0, t)
    return _log_sum(total, lost + t_lost)


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
    t, lost = _sum(u, sqrt(square))
    return _log1p_parts(t, lost) + select(large, LN2, 0.0)


@branchless
def arctanh(x):
    """log(1 + t) / 2, where t = 2 |x| / (1 - |x|)."""
    size = abs(x)
    t, lost = _parts(2.0 * size, 0.0, *_sum(1.0, -size))
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


def _product(x, x_lost, y, y_lost):
    """(x + x_lost) (y + y_lost) and what its rounding lost."""
    z = x * y
    return z, fma(x, y, -z) + muladd(x, y_lost, x_lost * y)


def _log_long(x):
    """log(x) in two parts, to 2^-63 of it."""
    _, k, f = _split_all(x)
    below, below_lost = two_sum(2.0, f)
    s = _parts(f, 0.0, below, below_lost)
    square = _product(*s, *s)
    factor, lost = two_sum(TWO_THIRDS, square[0] * polynomial(square[0], _LOG_LONG))
    cube, cube_lost = _product(*s, *_product(*square, factor, lost + TWO_THIRDS_TAIL))
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
    z, lost = _product(y, 0.0, *_log_long(abs(x)))
    lost = select(abs(z) < 800.0, lost, 0.0)
    n, r, rest = _reduce(within(z, -746.0, 710.0))
    tail = _exp_tail(r, rest)
    one, rest = two_sum(1.0, r)
    rest = rest + tail
    z = _scaled(one + muladd(one + rest, lost, rest), n)
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
    _, k, f = _split_all(size)
    shifted = muladd(k, _THIRD, ROUND)
    q = shifted - ROUND
    m = (1.0 + f) * _power_of_2(bits(muladd(-3.0, q, k) + ROUND))
    y = polynomial(m, _CBRT)
    for _ in range(2):
        rest = muladd(-m * y, y * y, 1.0)
        y = muladd(y * rest, polynomial(rest, (1 / 3, 2 / 9, 14 / 81)), y)
    square = y * y
    z = m * square
    z_square, lost = _product(z, 0.0, z, 0.0)
    rest = fma(-z, z_square, m) - z * lost
    z = muladd(rest * square, _THIRD, z) * _power_of_2(bits(shifted))
    return copysign(select((size > 0) & (size < math.inf), z, size), x)


# The error function.

# (erf(x) - x) / x in x^2, |x| <= 1; log(erfc(1 + u)) in u, u <= 5, weighed by erfc(1 + u).
_ERF_SMALL = (
    0.12837916709551256, -0.3761263890318355, 0.11283791670945252, -0.026866170643275986,
    0.005223977607421838, -0.0008548325989630431, 0.00012055295318832786, -1.4924744636967348e-05,
    1.6447517413549249e-06, -1.6209174303549398e-07, 1.3722970915244684e-08,
    -7.801181567837588e-10,
)  # fmt: skip
_ERFC_LARGE = (
    -1.8496055099332482, -2.6389675142347775, -0.8431072563593309, -0.04156109802667231,
    0.010033825195058564, -0.0019779013103492006, 0.0002373167964414147, 2.6295385822971968e-05,
    -2.719724744758257e-05, 9.669097904222173e-06, -2.1297418196864345e-06, 2.032571446884089e-07,
    5.881503717386057e-08, -3.369024837808858e-08, 8.596596911416374e-09, -1.3325196047465393e-09,
    1.206993890342127e-10, -4.928116876961045e-12,
)  # fmt: skip


@branchless
def erf(x):
    """x + x p(x^2), or 1 - exp(p(|x| - 1))."""
    size = within(abs(x), 0.0, 6.0)
    square = size * size
    near = muladd(size, polynomial(square, _ERF_SMALL), size)
    far = 1.0 - exp(polynomial(size - 1.0, _ERFC_LARGE))
    return copysign(select(size > 1.0, far, near), x)


# Others.


@written
def ndtr(x):
    """The normal distribution function, accurate in its lower tail."""
    return 0.5 * math.erfc(-x * 0.7071067811865476)


@written
def invert(x):
    return ~x


@written
def zeta(s, x):
    """The Hurwitz zeta function, sum over k >= 0 of (x + k)^-s, for s > 1.

    The first terms as they stand, the tail by Euler and Maclaurin (DLMF 25.11.5) from x + k >= 12 + s.
    """
    if s == 1:
        return math.inf
    if s < 1:
        return math.nan
    if x <= 0:
        if x == np.floor(x):
            return math.inf
        if s != np.floor(s):
            return math.nan
    if x == math.inf:
        return 0.0 if s == s else s
    if s == math.inf:
        return 1.0 if x == 1 else (math.inf if x < 1 else math.nan)
    total = 0.0 * x
    while x < 12 + s:
        term = x**-s
        total += term
        if abs(term) < 1e-17 * abs(total):
            return total
        x += 1
    power = x**-s
    total += power * (x / (s - 1) + 0.5)
    factor = s * power / x
    for k in range(8):
        total += _BERNOULLI[k] * factor
        factor *= (s + 2 * k + 1) * (s + 2 * k + 2) / (x * x)
    return total


# Spherical Bessel functions, from the cylindrical ones of order n + 1/2 at |x|.


@written
def _half_order(n, x, value, at_zero):
    """sqrt(pi / 2|x|) value, times (-1)^n where x < 0."""
    if x == 0:
        return at_zero
    z = math.sqrt(HALF_PI / abs(x)) * value
    return -z if (x < 0) & (n % 2 == 1) else z


@written
def spherical_jn(n, x, value):
    if abs(x) == math.inf:
        return 0.0
    return _half_order(n, x, value, 1.0 if n == 0 else 0.0)


@written
def spherical_in(n, x, value):
    if abs(x) == math.inf:
        return -math.inf if (x < 0) & (n % 2 == 1) else math.inf
    return _half_order(n, x, value, 1.0 if n == 0 else 0.0)


@written
def spherical_yn(n, x, value):
    z = _half_order(n, x, 0.0 if abs(x) == math.inf else value, -math.inf)
    return -z if x < 0 else z


@written
def spherical_kn(n, x):
    """By the recurrence k_(n+1) = k_(n-1) + (2 n + 1) / x k_n."""
    if x == 0:
        return math.inf
    if abs(x) == math.inf:
        return 0.0 if x > 0 else x
    before = HALF_PI * exp(-x) / x
    if n == 0:
        return before
    z = before * (1.0 + 1.0 / x)
    for k in range(1, n):
        before, z = z, before + (2 * k + 1) / x * z
    return z


# Lambert's function: w e^w = x.

INVERSE_E, INVERSE_E_TAIL = 0.36787944117144233, -1.2428753672788363e-17
# w + 1 in p = sqrt(2 (1 + e x)), near the branch point (Corless et al. 1996).
_LAMBERT = np.array(
    [0.0, 1.0, -1 / 3, 11 / 72, -43 / 540, 769 / 17280, -221 / 8505, 680863 / 43545600]
)  # no tuple: its index would be checked


@written
def _lambertw_near(p, last):
    """The series to the given power."""
    total = 0.0
    for k in range(last, -1, -1):
        total = total * p + _LAMBERT[k]
    return total - 1.0


@written
def lambertw(k, x):
    """The real branch k, 0 or -1, NaN where there is none.

    From near it, w -> w / (1 + w) (1 + log(x / w)) doubles the digits (Iacono and Boyd 2017).
    """
    rest = (x + INVERSE_E) + INVERSE_E_TAIL
    if not (rest >= -1e-17) or (k != 0 and x >= 0) or (k != 0 and k != -1):
        return -math.inf if (k == -1) & (x == 0) else math.nan
    if x == 0 or x == math.inf:
        return x
    p = math.sqrt(2 * math.e * max(rest, 0.0))
    p = p if k == 0 else -p
    if abs(p) < 0.01:
        return _lambertw_near(p, 7)
    if x < -0.2 and (k == 0 or x < -0.3):
        w = _lambertw_near(p, 3)
    elif k == 0:
        w = math.log1p(x)
        w *= 1.0 - math.log1p(w) / (2.0 + w)
    else:
        w = math.log(-x)
        w -= math.log(-w)
    for _ in range(5):
        w *= (1.0 + math.log(x / w)) / (1.0 + w)
    return w


# Derivatives in parameters: the bodies are those of `incomplete`, which arrays share.


@written
def digamma(x):
    total = 0.0
    while x < 12:
        total -= 1 / x
        x += 1
    square, power, rest = x * x, 1.0, 0.0
    for k in range(8):
        power /= square
        rest += _DIGAMMA[k] * power
    return total + math.log(x) - 0.5 / x - rest


@written
def gammainc_da(a, x, n):
    """The n-th derivative of gammainc in a: 0 at both ends of x, NaN outside a > 0, x >= 0."""
    if not (a > 0) or not (x >= 0):
        return math.nan
    return 0.0 if x == 0 or x == math.inf else incomplete.gammainc_da(float(a), float(x), n)


@written
def betainc_da(a, b, x, i, j):
    """A derivative of betainc in a and b: 0 at both ends of x, NaN outside the domain."""
    if not (a > 0) or not (b > 0) or not (x >= 0) or not (x <= 1):
        return math.nan
    if x == 0 or x == 1:
        return 0.0
    return incomplete.betainc_da(float(a), float(b), float(x), i, j)
