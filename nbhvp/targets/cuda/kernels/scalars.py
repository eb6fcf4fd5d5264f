"""Scalar functions that kernels for GPUs need, which CPUs have in their library of C or in SciPy.

They are defined at every float as NumPy's and SciPy's are, as those of `targets.lowering.scalars`. sin, cos and
tan of any size are within 1 unit in the last place, erfc and erfcx within 6, log_gamma and psi within 5 and log_ndtr
within 16 where the result is not near 0, gamma within 20.
"""

import math

import numpy as np

from nbhvp.targets.lowering.scalars import exp, log, log1p, sin, tan
from nbhvp.targets.lowering.scalars.arithmetic import quotient, two_sum, within
from nbhvp.targets.lowering.scalars.circular import HALF_PI, HALF_PI_REST, PI, SIGN, near_zero
from nbhvp.targets.lowering.scalars.special import digamma
from nbhvp.targets.lowering.words import (
    bits,
    branchless,
    double,
    fma,
    muladd,
    polynomial,
    select,
    written,
)

__all__ = [
    "BODIES",
    "FUNCTIONS",
    "erfcx",
    "gamma",
    "gamma_sign",
    "log_gamma",
    "log_ndtr",
    "psi",
    "reciprocal_gamma",
]

# B_2k / (2k (2k - 1)), k = 1, 2, ...: Stirling's series.
_STIRLING = (
    1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400,
)  # fmt: skip


# Circular functions of large arguments: as many digits of 2 / pi are multiplied by x as its quadrant
# and a remainder need (Payne and Hanek, 1983).

_DIGIT = 2.0**24
_DIGITS = (
    0.0, 0.0, 0.0, 0.0,
    10680707.0, 7228996.0, 1387004.0, 2578385.0, 16069853.0, 12639074.0, 9804092.0, 4427841.0,
    16666979.0, 11263675.0, 12935607.0, 2387514.0, 4345298.0, 14681673.0, 3074569.0, 13734428.0,
    16653803.0, 1880361.0, 10960616.0, 8533493.0, 3062596.0, 8710556.0, 7349940.0, 6258241.0,
    3772886.0, 3769171.0, 3798172.0, 8675211.0, 12450088.0, 3874808.0, 9961438.0, 366607.0,
    15675153.0, 9132554.0, 7151469.0, 3571407.0, 2607881.0, 12013382.0, 4155038.0, 6285869.0,
    7677882.0, 13102053.0, 15825725.0, 473591.0, 9065106.0, 15363067.0, 6271263.0, 9264392.0,
    5636912.0, 4652155.0, 7056368.0, 13614112.0,
)  # fmt: skip
"""Of 2 / pi, of 24 bits each, after four zeros."""


@written
def _quarters(x):
    """|x| / (pi / 2), finite: its nearest integer modulo 4, and the rest in two parts."""
    z, k = abs(x), 1
    while z >= _DIGIT:
        z, k = z * 2.0**-24, k + 1
    # Four digits of x, of which products with those of 2 / pi and their sums are exact.
    a = np.floor(z)
    z = (z - a) * _DIGIT
    b = np.floor(z)
    z = (z - b) * _DIGIT
    c = np.floor(z)
    d = (z - c) * _DIGIT
    q0 = a * _DIGITS[k + 2] + b * _DIGITS[k + 1] + c * _DIGITS[k] + d * _DIGITS[k - 1]
    q1 = a * _DIGITS[k + 3] + b * _DIGITS[k + 2] + c * _DIGITS[k + 1] + d * _DIGITS[k]
    q2 = a * _DIGITS[k + 4] + b * _DIGITS[k + 3] + c * _DIGITS[k + 2] + d * _DIGITS[k + 1]
    q3 = a * _DIGITS[k + 5] + b * _DIGITS[k + 4] + c * _DIGITS[k + 3] + d * _DIGITS[k + 2]
    q4 = a * _DIGITS[k + 6] + b * _DIGITS[k + 5] + c * _DIGITS[k + 4] + d * _DIGITS[k + 3]
    q5 = a * _DIGITS[k + 7] + b * _DIGITS[k + 6] + c * _DIGITS[k + 5] + d * _DIGITS[k + 4]
    q6 = a * _DIGITS[k + 8] + b * _DIGITS[k + 7] + c * _DIGITS[k + 6] + d * _DIGITS[k + 5]
    carry = np.floor(q6 * 2.0**-24)
    q6, q5 = q6 - carry * _DIGIT, q5 + carry
    carry = np.floor(q5 * 2.0**-24)
    q5, q4 = q5 - carry * _DIGIT, q4 + carry
    carry = np.floor(q4 * 2.0**-24)
    q4, q3 = q4 - carry * _DIGIT, q3 + carry
    carry = np.floor(q3 * 2.0**-24)
    q3, q2 = q3 - carry * _DIGIT, q2 + carry
    carry = np.floor(q2 * 2.0**-24)
    q2, q1 = q2 - carry * _DIGIT, q1 + carry
    carry = np.floor(q1 * 2.0**-24)
    q1, q0 = q1 - carry * _DIGIT, q0 + carry
    above = 1.0 if 2 * q1 >= _DIGIT else 0.0
    q1, q0 = q1 - above * _DIGIT, q0 + above
    high, middle = (q1 * _DIGIT + q2) * 2.0**-48, (q3 * _DIGIT + q4) * 2.0**-96
    head = high + middle
    tail = (middle - (head - high)) + (q5 * _DIGIT + q6) * 2.0**-144
    return q0 - 4 * np.floor(0.25 * q0), head, tail


def _of_quarters(head, tail):
    """Sine and cosine of a part of pi / 2, each in two parts."""
    r = head * HALF_PI
    return near_zero(r, fma(head, HALF_PI, -r) + muladd(head, HALF_PI_REST, tail * HALF_PI))


@branchless
def _sin_of_quarters(n, head, tail):
    sine, cosine = _of_quarters(head, tail)
    z = select((n == 1) | (n == 3), cosine[0] + cosine[1], sine[0] + sine[1])
    return select(n >= 2, -z, z)


@branchless
def _tan_of_quarters(n, head, tail):
    sine, cosine = (two_sum(*parts) for parts in _of_quarters(head, tail))
    odd = (n == 1) | (n == 3)
    above = [select(odd, c, s) for s, c in zip(sine, cosine, strict=True)]
    below = [select(odd, s, c) for s, c in zip(sine, cosine, strict=True)]
    z = quotient(*above, *below)
    return select(odd, -z, z)


@written
def far_sin(x):
    if abs(x) == math.inf or x != x:
        return math.nan
    n, head, tail = _quarters(x)
    z = _sin_of_quarters(n, head, tail)
    return -z if x < 0 else z


@written
def far_cos(x):
    if abs(x) == math.inf or x != x:
        return math.nan
    n, head, tail = _quarters(x)
    return _sin_of_quarters(n + 1 if n < 3 else 0.0, head, tail)


@written
def far_tan(x):
    if abs(x) == math.inf or x != x:
        return math.nan
    n, head, tail = _quarters(x)
    z = _tan_of_quarters(n, head, tail)
    return -z if x < 0 else z


# log(exp(x^2) erfc(x) / t) in 2 t - 1, t = 2 / (2 + x), x >= 0.
_ERFCX = (
    -0.6717940840566923, 0.6726432239776567, 0.04734330684190473, -0.046895610231182674,
    -0.009872689366406727, 0.008824938557327763, 0.001758933558165434, -0.002345812504982584,
    -0.00014624686754045134, 0.0006736788382506061, -9.373500301998985e-05,
    -0.00017430319942974635, 7.140089189099235e-05, 3.174616564355679e-05, -3.0187528842243815e-05,
    1.3509102932957954e-07, 8.56191490492248e-06, -2.9430926821341833e-06, -1.271343067023655e-06,
    1.2437191416721655e-06, -1.6939237579995655e-07, -2.4404662375581676e-07,
    1.538760666928522e-07, -1.711069646695314e-09, -3.9356533447809914e-08, 1.2225710551260416e-08,
    4.089222480896167e-09, -2.0464670329192375e-09,
)  # fmt: skip
# log(gamma(2 + z)) / z in z, |z| <= 1/2: 1 - Euler's constant, and (-1)^k (zeta(k) - 1) / k.
_LOG_GAMMA = (
    0.42278433509846713, 0.3224670334241132, -0.0673523010531981, 0.020580808427784546,
    -0.007385551028673986, 0.0028905103307415234, -0.001192753911703261, 0.0005096695247430425,
    -0.00022315475845357939, 9.945751278180853e-05, -4.492623673813314e-05, 2.050721277567069e-05,
    -9.439488275268397e-06, 4.374866789907488e-06, -2.039215753801366e-06, 9.55141213040742e-07,
    -4.492469198764566e-07, 2.1207184805554665e-07, -1.0043224823968099e-07,
    4.7698101693639804e-08, -2.2711094608943164e-08, 1.0838659214896955e-08,
    -5.183475041970047e-09, 2.4836745438024785e-09, -1.1921401405860912e-09, 5.731367241678862e-10,
    -2.7595228851242334e-10, 1.330476437424449e-10, -6.4229645638381e-11, 3.1044247747322276e-11,
    -1.5021384080754142e-11, 7.275974480239079e-12, -3.527742476575915e-12,
)  # fmt: skip


@branchless
def _erfc(x):
    size = within(abs(x), 0.0, 40.0)
    t = 2.0 / (2.0 + size)
    head = double(bits(size) & (SIGN - (1 << 27)))  # 26 bits, whose square is exact
    tail = -(size - head) * (size + head)
    z = t * exp(-head * head) * exp(tail + polynomial(2.0 * t - 1.0, _ERFCX))
    return select(x < 0, 2.0 - z, z)


@branchless
def _erfcx(x):
    """exp(x^2) erfc(x), x >= 0."""
    t = 2.0 / (2.0 + x)
    return t * exp(polynomial(2.0 * t - 1.0, _ERFCX))


@branchless
def _log_gamma_near_2(z):
    return z * polynomial(z, _LOG_GAMMA)


@branchless
def _log_gamma_far(x):
    """By Stirling's series, x >= 8."""
    square = 1.0 / (x * x)
    rest = polynomial(square, _STIRLING) / x
    return (x - 0.5) * log(x) - x + (0.9189385332046727 + rest)


@written
def own_erfc(x):
    return _erfc(x)


@written
def own_exp(x):
    return exp(x)


@written
def own_log(x):
    return log(x)


@written
def own_log1p(x):
    return log1p(x)


@written
def own_hypot(x, y):
    high = abs(x) if abs(x) > abs(y) else abs(y)
    low = abs(y) if abs(x) > abs(y) else abs(x)
    if high == math.inf or low == math.inf:
        return math.inf
    if high == 0.0:
        return low
    ratio = low / high
    return high * np.sqrt(1.0 + ratio * ratio)


@written
def log_gamma(x):
    """log |gamma(x)|."""
    if x != x or abs(x) == math.inf:
        return x
    y, shift = abs(x), 0.0
    if y < 0.5:
        y, shift = y + 1.0, -np.log(y)
    factor = 1.0
    while y > 2.5 and y < 8.0:
        y = y - 1.0
        factor = factor * y
    if y >= 8.0:
        z = _log_gamma_far(y)
    elif y < 1.5:
        z = _log_gamma_near_2(y - 1.0) - np.log1p(y - 1.0)
    else:
        z = _log_gamma_near_2(y - 2.0) + np.log(factor)
    z = z + shift
    if x > 0.0:
        return z
    part = abs(x) - np.floor(abs(x))
    if part == 0.0:
        return math.inf
    return np.log(PI / abs(x * sin(PI * part))) - z


@written
def gamma(x):
    """By recurrences down to where the logarithm is a short series, so that all digits are right."""
    if x != x or x == math.inf:
        return x
    if x == 0.0:
        return math.copysign(math.inf, x)
    y, factor = abs(x), 1.0
    if y > 185.0:
        z = math.inf
    else:
        while y > 2.5:
            y = y - 1.0
            factor = factor * y
        while y < 1.5:
            factor = factor / y
            y = y + 1.0
        z = factor * exp(_log_gamma_near_2(y - 2.0))
    if x > 0.0:
        return z
    size = abs(x)
    whole = np.floor(size)
    if size == whole:
        return math.nan
    part = size - whole
    z = PI / (size * sin(PI * (part if part < 0.5 else 1.0 - part)) * z)
    return z if 2.0 * np.floor(0.5 * whole) != whole else -z


@written
def reciprocal_gamma(x):
    if x <= 0.0 and x == np.floor(x):
        return 0.0
    return 1.0 / gamma(x)


@written
def gamma_sign(x):
    if x != x or x == -math.inf:
        return math.nan
    if x == 0.0:
        return math.copysign(1.0, x)
    if x > 0.0:
        return 1.0
    whole = np.floor(x)
    if whole == x:
        return math.nan
    return 1.0 if 2.0 * np.floor(0.5 * whole) == whole else -1.0


@written
def erfcx(x):
    """exp(x^2) erfc(x)."""
    if x >= 0.0:
        return _erfcx(x)
    return 2.0 * _square_exp(x) - _erfcx(-x) if x > -27.0 else (math.inf if x == x else x)


@branchless
def _square_exp(x):
    """exp(x^2)."""
    size = abs(x)
    head = double(bits(size) & (SIGN - (1 << 27)))
    return exp(head * head) * exp((size - head) * (size + head))


@written
def log_ndtr(x):
    """The logarithm of the normal distribution."""
    if x < -1.0:
        scaled = -x * 0.7071067811865476
        return np.log(0.5 * _erfcx(scaled)) - 0.5 * x * x if x > -math.inf else x
    return np.log1p(-0.5 * _erfc(x * 0.7071067811865476))


@written
def psi(x):
    """The derivative of log gamma, at negative numbers too."""
    if x > 0.0:
        return digamma(x) if x < math.inf else x
    part = x - np.floor(x)
    if part == 0.0:
        return -math.copysign(math.inf, x) if x == 0.0 else math.nan
    return digamma(1.0 - x) - PI / tan(PI * part)


BODIES = {
    "sin": far_sin,
    "cos": far_cos,
    "tan": far_tan,
    "exp": own_exp,
    "log": own_log,
    "log1p": own_log1p,
    "erfc": own_erfc,
    "hypot": own_hypot,
    "lgamma": log_gamma,
}
"""What stands for functions of the library of C."""

FUNCTIONS = {
    "erfcx": "erfcx",
    "gamma": "gamma",
    "gammaln": "log_gamma",
    "gammasgn": "gamma_sign",
    "log_ndtr": "log_ndtr",
    "psi": "psi",
    "rgamma": "reciprocal_gamma",
}
"""What stands for functions of SciPy's, by their names there."""
