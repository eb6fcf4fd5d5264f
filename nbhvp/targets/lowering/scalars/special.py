"""The error function, zeta, Lambert's function, and others that are sums or come from tables."""

import math

import numpy as np

from nbhvp.graph.table import incomplete
from nbhvp.targets.lowering.scalars.arithmetic import within
from nbhvp.targets.lowering.scalars.circular import HALF_PI
from nbhvp.targets.lowering.scalars.exponentials import exp
from nbhvp.targets.lowering.words import branchless, copysign, muladd, polynomial, select, written

# B_2k / (2k)!, k = 1, 2, ...: the coefficients of the Euler-Maclaurin formula.
_BERNOULLI = (
    1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000,
    1 / 74724249600, -3617 / 10670622842880000,
)  # fmt: skip
# B_2k / (2k), k = 1, 2, ...: the asymptotic series of digamma.
_DIGAMMA = (
    1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12, -3617 / 8160,
)  # fmt: skip

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
