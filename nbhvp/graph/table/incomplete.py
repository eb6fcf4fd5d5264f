"""Derivatives of the incomplete gamma and beta functions in their parameters, to second order.

They have no closed form, but are moments. With s = log(t / x) the smaller tail of

    P(a, x) = x^a e^-x / Gamma(a) int exp(a s - x (e^s - 1)) ds     over s < 0;   1 - P: over s > 0,

so its logarithm has the derivatives E[s] + log x - psi(a) and Var[s] - psi'(a) in a. The integrand
is log-concave and falls from its end at s = 0: Gauss and Legendre's formula on the interval where it
exceeds exp(-44) gives all moments to rounding. Nothing cancels in them, as s has one sign. Of the
beta function the smaller tail is taken in log(t / (1 - t)), with moments of log t and log(1 - t).
Parameters below 1 are raised by one where the integrand would fall slowly:

    P(a, x) = P(a + 1, x) + x^a e^-x / Gamma(a + 1).

The bodies are arithmetic, without a branch, so that one text serves arrays and compiled scalars.
"""

import numpy as np
import scipy.special as special

__all__ = ["BODIES", "betainc_da", "digamma", "gammainc_da", "gammaln", "trigamma"]

LOWEST = 44.0
"""Minus the logarithm of the integrand where it is cut off."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
NODES, WEIGHTS = 0.5 + 0.5 * _NODES, 0.5 * _WEIGHTS


def digamma(x):
    return special.digamma(x)


def trigamma(x):
    return special.zeta(2.0, x)


def gammaln(x):
    return special.gammaln(x)


def gammainc_da(a, x, n):
    """The n-th derivative of gammainc in a, n = 1 or 2, for a > 0 and 0 < x < inf."""
    raised = 1.0 * (a < 1) * (x < 1)
    b = a + raised
    side = 2.0 * (x >= np.maximum(b, 1.0)) - 1.0
    i0, i1, i2 = _gamma_moments(b, x, side)
    psi, tri, size = digamma(b + 1), trigamma(b + 1), np.exp(_log_end(b, x))
    mean = i1 / i0
    slope = mean + np.log(x) - psi
    curvature = i2 / i0 - mean * mean - tri
    step = raised * size * b / x
    step_slope = np.log(x) - psi + 1 / b
    if n == 1:
        return step * step_slope - side * size * i0 * (1 + b * slope)
    second = side * size * i0 * (2 * slope + b * (curvature + slope * slope))
    return step * (step_slope * step_slope - tri - 1 / (b * b)) - second


def _gamma_moments(a, x, side):
    """The integrals of exp(a s - x (e^s - 1)) times 1, s and s^2 over s > 0 (side 1) or s < 0 (-1).

    The interval's end is found by Newton's method from above; the exponent is convex.
    """
    gap = np.abs(x - a)
    above = 2 * LOWEST / (gap + np.sqrt(gap * gap + 2 * x * LOWEST))
    rest = LOWEST - 2 * gap
    below = (rest + np.sqrt(rest * rest + 8 * a * LOWEST)) / (2 * a)
    end = 0.5 * ((1 + side) * above + (1 - side) * below)
    for _ in range(4):
        fall = x * np.expm1(side * end) - side * a * end
        end = end - (fall - LOWEST) / (side * (x * np.exp(side * end) - a))
    i0 = i1 = i2 = 0.0 * end
    for k in range(NODES.size):
        s = side * end * NODES[k]
        weight = end * WEIGHTS[k] * np.exp(a * s - x * np.expm1(s))
        i0, i1, i2 = i0 + weight, i1 + weight * s, i2 + weight * s * s
    return i0, i1, i2


def _log_end(a, x):
    """log(x^a e^-x / Gamma(a + 1))."""
    large = 1.0 * (a > 16)
    b = a + 16 * (1 - large)
    inverse = 1 / (b * b)
    rest = (1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse / 1680))) / b
    far = (x - a) / a
    stirling = a * (np.log1p(far) - far) - 0.5 * np.log(2 * np.pi * b) - rest
    direct = a * np.log(x) - x - gammaln(a + 1)
    return large * stirling + (1 - large) * direct


def betainc_da(a, b, x, i, j):
    """The derivative of betainc, i-th in a and j-th in b, i + j = 1 or 2; a, b > 0 and 0 < x < 1."""
    upper = 1.0 * (x * (a + b) > a)
    lower = 1 - upper
    # The upper tail is the lower one of 1 - x with a and b exchanged.
    c, d = lower * a + upper * b, lower * b + upper * a
    y, rest = lower * x + upper * (1 - x), lower * (1 - x) + upper * x
    raised = 1.0 * (c < 1)
    tail = _beta_tail(c + raised, d, y, rest)
    step = _beta_step(c, d, y, rest)
    given = _chosen(tail, i, j) + raised * _chosen(step, i, j)
    mirrored = _chosen(tail, j, i) + raised * _chosen(step, j, i)
    return lower * given - upper * mirrored


def _chosen(derivatives, i, j):
    first, second, twice_first, mixed, twice_second = derivatives
    if i + j == 1:
        return first if i == 1 else second
    if i == 1:
        return mixed
    return twice_first if i == 2 else twice_second


def _beta_tail(a, b, x, rest):
    """The derivatives of I_x(a, b), where x = 1 - rest is below the mean, and a >= 1."""
    i0, i1, i2, i11, i12, i22 = _beta_moments(a, b, x, rest)
    m1, m2 = i1 / i0, i2 / i0
    tri = trigamma(a + b)
    return _log_derivatives(
        b,
        np.exp(_log_beta_end(a, b, x, rest)) * a * i0,
        m1 + np.log(x) - digamma(a) + digamma(a + b),
        m2 + np.log(rest) - digamma(b + 1) + digamma(a + b),
        i11 / i0 - m1 * m1 - trigamma(a) + tri,
        i12 / i0 - m1 * m2 + tri,
        i22 / i0 - m2 * m2 - trigamma(b + 1) + tri,
    )


def _beta_step(a, b, x, rest):
    """The derivatives of I_x(a, b) - I_x(a + 1, b) = x^a rest^b / (a B(a, b))."""
    psi, tri = digamma(a + b), trigamma(a + b)
    return _log_derivatives(
        b,
        np.exp(_log_beta_end(a, b, x, rest)),
        np.log(x) - digamma(a + 1) + psi,
        np.log(rest) - digamma(b + 1) + psi,
        tri - trigamma(a + 1),
        tri,
        tri - trigamma(b + 1),
    )


def _log_derivatives(b, size, p, q, pp, pq, qq):
    """Derivatives of b size, in a, b, aa, ab, bb, from those of log size: p, q, pp, pq, qq."""
    return (
        b * size * p,
        size * (1 + b * q),
        b * size * (pp + p * p),
        size * (p + b * (pq + p * q)),
        size * (2 * q + b * (qq + q * q)),
    )


def _log_beta_end(a, b, x, rest):
    """log(x^a rest^b Gamma(a + b) / (Gamma(a + 1) Gamma(b + 1)))."""
    gammas = gammaln(a + b) - gammaln(a + 1) - gammaln(b + 1)
    return a * np.log(x) + b * np.log(rest) + gammas


def _beta_moments(a, b, x, rest):
    """The integrals of (t / x)^a ((1 - t) / rest)^b times 1, p, q, p^2, p q, q^2 in log(t / (1 - t)).

    With s = log(x / rest) - log(t / (1 - t)) > 0, p = log(t / x) = -log(1 + rest (e^s - 1)) and
    q = log((1 - t) / rest) = s + p.
    """
    end = (LOWEST - (a + b) * np.log(rest)) / a
    for _ in range(8):
        p = -np.log1p(rest * np.expm1(end))
        fall = -(a + b) * p - b * end
        end = end - (fall - LOWEST) / (a - (a + b) * x * np.exp(p))
    i0 = i1 = i2 = i11 = i12 = i22 = 0.0 * end
    for k in range(NODES.size):
        s = end * NODES[k]
        p = -np.log1p(rest * np.expm1(s))
        q = s + p
        weight = end * WEIGHTS[k] * np.exp((a + b) * p + b * s)
        i0, i1, i2 = i0 + weight, i1 + weight * p, i2 + weight * q
        i11, i12, i22 = i11 + weight * p * p, i12 + weight * p * q, i22 + weight * q * q
    return i0, i1, i2, i11, i12, i22


BODIES = (
    gammainc_da,
    _log_end,
    _gamma_moments,
    betainc_da,
    _chosen,
    _beta_tail,
    _beta_step,
    _log_derivatives,
    _log_beta_end,
    _beta_moments,
)
"""What compiled scalars use as it stands; they have digamma, trigamma and gammaln of their own."""
