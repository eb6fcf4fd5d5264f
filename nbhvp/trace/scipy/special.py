"""Functions of scipy.special, composed of those that are primitives.

The exponential
sums (logsumexp, softmax, log_softmax) subtract an integer near the maximum: it prevents overflow as
well as the maximum itself does, and being a step it carries no derivative.
"""

import math

import numpy as np
import scipy.special as special

from nbhvp.graph import primitives as p
from nbhvp.graph.node import reachable
from nbhvp.graph.primitives import TABLE
from nbhvp.graph.table import special as sp
from nbhvp.trace.answers import answers, refuses
from nbhvp.trace.arrays import Traced, apply, guard, is_constant, lift, trace_error
from nbhvp.trace.numpy.elementwise import (
    absolute,
    answers_as,
    cast,
    floating,
    floats,
    is_complex,
    sign,
    where,
)
from nbhvp.trace.numpy.reductions import max_, sum_

# Exponential sums.


def _shift(a, axis):
    """An integer near the maximum; 0 where that is infinite."""
    size = apply(p.real, a) if is_complex(a) else a
    least = None if a.size else -math.inf
    near = np.floor(max_(size, axis, keepdims=True, initial=least))
    return where(np.isfinite(near), near, 0)


@answers(special.logsumexp)
def logsumexp(a, axis=None, b=None, keepdims=False, return_sign=False):
    a = np.atleast_1d(floating(lift(a)))
    if b is not None:
        b = lift(b)
        a, b = np.broadcast_arrays(where(b == 0, -math.inf, a), b)
    shift = _shift(a, axis)
    terms = np.exp(a - shift)
    terms = terms if b is None else b * terms
    total = sum_(terms, axis, keepdims=keepdims)
    sign_ = sign(total)
    if return_sign:
        total = absolute(total)
    result = np.log(total) + (shift if keepdims else np.reshape(shift, total.shape))
    return (result, sign_) if return_sign else result


@answers(special.softmax)
def softmax(x, axis=None):
    x = floating(lift(x))
    terms = np.exp(x - _shift(x, axis))
    return terms / sum_(terms, axis, keepdims=True)


@answers(special.log_softmax)
def log_softmax(x, axis=None):
    x = floating(lift(x))
    x = x - _shift(x, axis)
    return x - np.log(sum_(np.exp(x), axis, keepdims=True))


# Orders and parameters that must be constant.


def _order(name, n):
    """An order of a function of a family, which may not depend on x."""
    if isinstance(n, Traced) and n.dtype.kind in "fc":
        if any(node.params.get("name") == "x" for node in reachable([n.node])):
            raise trace_error(
                f"scipy.special.{name} in an order that depends on x has no derivative here",
                "keep the order constant",
            )
    return n


def _static_order(name, n) -> int:
    """An order that belongs to the text of a kernel."""
    n = lift(n)
    is_fixed = is_constant(n) or n.dtype.kind in "iu"
    if not is_fixed or n.ndim or n.value != int(n.value):
        raise trace_error(f"scipy.special.{name} of a variable order", "use a constant integer")
    return int(guard(n))


def _of_order(function, entry, truncates=False):
    @answers(
        function, note="orders: constants, arguments or computed integers, and arrays of these"
    )
    def bessel(v, z):
        v = _order(function.__name__, v)
        return apply(entry, np.trunc(v) if truncates else v, z)


for _function, _entry, _truncates in (
    (special.jv, sp.jv, False), (special.jve, sp.jv, False), (special.yv, sp.yv, False),
    (special.yve, sp.yv, False), (special.iv, sp.iv, False), (special.ive, sp.ive, False),
    (special.kv, sp.kv, False), (special.kve, sp.kve, False), (special.yn, sp.yv, True),
    (special.kn, sp.kv, True),
):  # fmt: skip
    _of_order(_function, _entry, _truncates)


@answers(special.hankel1, note="positive arguments; orders as for `jv`")
def hankel1(v, z):
    return special.jv(v, z) + 1j * special.yv(v, z)


@answers(special.hankel2, note="positive arguments; orders as for `jv`")
def hankel2(v, z):
    return special.jv(v, z) - 1j * special.yv(v, z)


def _spherical(function, entry):
    @answers(function, note="the order must be a constant integer")
    def spherical(n, z, derivative=False):
        n, z = _static_order(function.__name__, n), floating(lift(z))
        if not derivative:
            return apply(entry, z, n=n)
        below, above = sp.NEIGHBOURS[entry.name]
        slope = above * (n + 1) / (2 * n + 1) * apply(entry, z, n=n + 1)
        return slope + below * n / (2 * n + 1) * apply(entry, z, n=n - 1) if n else slope


for _function in (
    special.spherical_jn, special.spherical_yn, special.spherical_in, special.spherical_kn,
):  # fmt: skip
    _spherical(_function, TABLE[_function.__name__])


@answers(special.polygamma, note="the order must be a constant integer")
def polygamma(n, x):
    order = _static_order("polygamma", n)
    return special.digamma(lift(x)) if order == 0 else apply(sp.polygamma, lift(x), n=order)


@answers(special.eval_legendre, note="the order must be a constant integer")
def eval_legendre(n, x):
    """By Bonnet's recurrence, (k + 1) P_(k+1) = (2 k + 1) x P_k - k P_(k-1)."""
    n, x = _static_order("eval_legendre", n), floating(lift(x))
    below, found = 0.0, np.ones_like(x)
    for k in range(n if n >= 0 else -n - 1):
        below, found = found, ((2 * k + 1) * x * found - k * below) / (k + 1)
    return found


@answers(special.expn, note="the order must be a constant integer")
def expn(n, x):
    order, x = _static_order("expn", n), floating(lift(x))
    if order == 0:
        return np.exp(-x) / x
    return special.exp1(x) if order == 1 else apply(sp.expn, x, n=order)


@answers(special.zeta, note="both arguments may depend on `x`")
def zeta(x, q=None):
    """The primitive for a constant x; in both arguments by Euler and Maclaurin, for x > 1, q > 0."""
    if not isinstance(x, Traced) or is_constant(x):
        return apply(sp.zeta, x, q)
    x, q = floats(x, 1.0 if q is None else q)
    inside = (x > 1) & (q > 0)
    s, base = where(inside, x, 2), where(inside, q, 1)
    terms = np.arange(14.0)
    total = sum_((base[..., None] + terms) ** -s[..., None], -1)
    end = base + terms.size
    power = end**-s
    total = total + power * (end / (s - 1) + 0.5)
    factor = s * power / end
    for k, coefficient in enumerate(_EULER_MACLAURIN):
        total = total + coefficient * factor
        factor = factor * (s + 2 * k + 1) * (s + 2 * k + 2) / (end * end)
    return where(inside, total, where(x == 1, math.inf, math.nan))


_EULER_MACLAURIN = [float(special.bernoulli(20)[k] / math.factorial(k)) for k in range(2, 21, 2)]


@answers(special.lambertw, note="the real branches `k=0` and `k=-1`; take `.real` of the result")
def lambertw(z, k=0, tol=1e-8):
    """The real branches, complex as SciPy has them: take .real."""
    branch = _static_order("lambertw", k)
    if branch not in (0, -1):
        raise trace_error("scipy.special.lambertw of a complex branch", "use k=0 or k=-1")
    return apply(p.complex_, apply(sp.lambertw, floating(lift(z)), k=branch), 0)


# Gamma functions.


@answers(special.digamma, note="real arguments only")
def digamma(z):
    z = lift(z)
    if is_complex(z):
        raise trace_error("scipy.special.digamma of complex values", "pass real values")
    return apply(sp.digamma, z)


@answers(np.i0)
def i0(x):
    x = lift(x)
    if is_complex(x):
        raise TypeError("i0 not supported for complex values")
    return apply(sp.i0, floating(x))


@answers(np.kaiser)
def kaiser(M, beta):
    if M == 1:
        return np.ones(1)
    middle = (M - 1) / 2.0
    place = (np.arange(M) - middle) / middle
    beta = floating(lift(beta))
    return i0(beta * np.sqrt(1 - place * place)) / i0(beta)


@answers(special.wofz, note="real or complex arguments")
def wofz(z):
    z = floating(lift(z))
    return apply(sp.wofz, cast(z, np.result_type(z.dtype, np.complex64)))


@answers(special.voigt_profile)
def voigt_profile(x, sigma, gamma):
    """Re w(z) / (sigma sqrt(2 pi)), z = (x + i gamma) / (sigma sqrt(2)); Lorentz's for sigma = 0."""
    x, sigma, gamma = np.broadcast_arrays(*floats(x, sigma, gamma))
    is_sharp = sigma == 0
    width = where(is_sharp, 1, sigma) * math.sqrt(2)
    wide = apply(p.real, wofz(apply(p.complex_, x / width, gamma / width)))
    sharp = where(is_sharp, x * x + gamma * gamma, 1)
    return where(is_sharp, gamma / (math.pi * sharp), wide / (width * math.sqrt(math.pi)))


@answers(special.loggamma, note="real arguments only")
def loggamma(z):
    z = lift(z)
    if is_complex(z):
        raise trace_error("scipy.special.loggamma of complex values", "pass real values")
    z = floating(z)
    return where(z < 0, math.nan, apply(sp.gammaln, z))


@answers(special.factorial, note="without `exact=True`")
def factorial(n, exact=False):
    if exact:
        raise trace_error("scipy.special.factorial with exact=True", "use exact=False")
    n = floating(lift(n))
    return where(n < 0, 0, apply(sp.gamma, where(n < 0, 0, n) + 1))


@answers(special.comb, note="without `exact=True`")
def comb(N, k, *, exact=False, repetition=False):
    _refuse_exact("comb", exact)
    N, k = floats(N, k)
    if repetition:
        return where((k == 0) & (N >= 0), 1, apply(sp.binom, N + k - 1, k))
    return where((k <= N) & (N >= 0) & (k >= 0), apply(sp.binom, N, k), 0)


@answers(special.perm, note="without `exact=True`")
def perm(N, k, exact=False):
    _refuse_exact("perm", exact)
    N, k = floats(N, k)
    return where((k <= N) & (N >= 0) & (k >= 0), apply(sp.poch, N - k + 1, k), 0)


def _refuse_exact(name, exact):
    if exact:
        raise trace_error(f"scipy.special.{name} with exact=True", "use exact=False")


@answers(special.multigammaln)
def multigammaln(a, d):
    a = floating(lift(a))
    d = _static_order("multigammaln", d)
    total = sum(apply(sp.gammaln, a - 0.5 * j) for j in range(d))
    return total + d * (d - 1) * 0.25 * math.log(math.pi)


# Distribution functions, by the incomplete gamma and beta functions.


@answers(special.gdtr)
def gdtr(a, b, x):
    return special.gammainc(b, lift(a) * x)


@answers(special.gdtrc)
def gdtrc(a, b, x):
    return special.gammaincc(b, lift(a) * x)


@answers(special.chdtr)
def chdtr(v, x):
    return special.gammainc(0.5 * lift(v), 0.5 * lift(x))


@answers(special.chdtrc)
def chdtrc(v, x):
    return special.gammaincc(0.5 * lift(v), 0.5 * lift(x))


@answers(special.pdtr, note="a step function of the count")
def pdtr(k, m):
    return special.gammaincc(np.floor(lift(k)) + 1, m)


@answers(special.pdtrc, note="a step function of the count")
def pdtrc(k, m):
    return special.gammainc(np.floor(lift(k)) + 1, m)


@answers(special.fdtr)
def fdtr(dfn, dfd, x):
    dfn, dfd, x = floats(dfn, dfd, x)
    return special.betainc(0.5 * dfn, 0.5 * dfd, dfn * x / (dfd + dfn * x))


@answers(special.fdtrc)
def fdtrc(dfn, dfd, x):
    dfn, dfd, x = floats(dfn, dfd, x)
    return special.betainc(0.5 * dfd, 0.5 * dfn, dfd / (dfd + dfn * x))


@answers(special.bdtr, note="a step function of the count")
def bdtr(k, n, p):
    k, n, p = floats(np.floor(lift(k)), n, p)
    inside = k < n
    below = special.betainc(where(inside, n - k, 1), where(inside, k + 1, 1), 1 - p)
    return where(inside, below, 1)


@answers(special.bdtrc, note="a step function of the count")
def bdtrc(k, n, p):
    k, n, p = floats(np.floor(lift(k)), n, p)
    inside = k < n
    above = special.betainc(where(inside, k + 1, 1), where(inside, n - k, 1), p)
    return where(inside, above, 0)


@answers(special.nbdtr, note="a step function of the count")
def nbdtr(k, n, p):
    return special.betainc(n, np.floor(lift(k)) + 1, p)


# Functions with a removable singularity, or a long tail in which a recurrence cancels.


def _polynomial(x, coefficients):
    """c[0] + c[1] x + ..."""
    return apply(sp.polynomial, x, coefficients=tuple(map(float, coefficients)))


def _near_and_far(x, is_near, near, far):
    """near(x) or far(x), each on arguments where it is finite; 1 stands in for the others."""
    return where(is_near, near(where(is_near, x, 0)), far(where(is_near, 1, x)))


_DOUBLE_FACTORIALS = [float(math.prod(range(1, 2 * k, 2))) for k in range(16)]
# The complete elliptic integrals in powers of m, over pi / 2.
_ELLIPTIC = [(math.comb(2 * k, k) / 4**k) ** 2 for k in range(28)]


def _tail(square, sign):
    """1 + sum of (2k - 1)!! (sign / 2 square)^k: the asymptotic series of erfcx and dawsn."""
    return _polynomial(sign / (2 * square), _DOUBLE_FACTORIALS)


@answers(special.erfcx)
def erfcx(x):
    x = floating(lift(x))
    is_far = x > 12
    far = where(is_far, x, 12)
    tail = _tail(far * far, -1) / (math.sqrt(math.pi) * far)
    return where(is_far, tail, apply(sp.erfcx, where(is_far, 0, x)))


@answers(special.dawsn)
def dawsn(x):
    x = floating(lift(x))
    is_far = abs(x) > 12
    far = where(is_far, x, 12)
    return where(is_far, _tail(far * far, 1) / (2 * far), apply(sp.dawsn, where(is_far, 0, x)))


@answers(special.log_ndtr)
def log_ndtr(x):
    """Far below 0, -x^2/2 - log(-x sqrt(2 pi)) and the logarithm of the tail's series."""
    x = floating(lift(x))
    is_far = x < -16
    far = where(is_far, x, -16)
    tail = np.log(_tail(0.5 * far * far, -1)) - np.log(-far) - 0.5 * math.log(2 * math.pi)
    return where(is_far, tail - 0.5 * far * far, apply(sp.log_ndtr, where(is_far, 0, x)))


@answers(special.ellipk)
def ellipk(m):
    m = floating(lift(m))
    series = lambda m: math.pi / 2 * _polynomial(m, _ELLIPTIC)
    return _near_and_far(m, abs(m) < 0.25, series, lambda m: apply(sp.ellipk, m))


@answers(special.ellipe)
def ellipe(m):
    m = floating(lift(m))
    terms = [c / (1 - 2 * k) for k, c in enumerate(_ELLIPTIC)]
    series = lambda m: math.pi / 2 * _polynomial(m, terms)
    return _near_and_far(m, abs(m) < 0.25, series, lambda m: apply(sp.ellipe, m))


@answers(special.ellipkm1)
def ellipkm1(p):
    p = floating(lift(p))
    is_near = abs(p - 1) < 0.25
    near = math.pi / 2 * _polynomial(1 - where(is_near, p, 1), _ELLIPTIC)
    return where(is_near, near, apply(sp.ellipkm1, where(is_near, 0.5, p)))


@answers(special.spence)
def spence(z):
    """The integral of log(t) / (1 - t) from 1: near 1 its series."""
    t = 1 - floating(lift(z))
    terms = [0.0] + [1 / (k * k) for k in range(1, 30)]
    return _near_and_far(
        t, abs(t) < 0.25, lambda t: _polynomial(t, terms), lambda t: apply(sp.spence, 1 - t)
    )


def log1p_over(t):
    """log(1 + t) / t."""
    terms = [(-1) ** k / (k + 1) for k in range(24)]
    return _near_and_far(
        t, abs(t) < 0.2, lambda t: _polynomial(t, terms), lambda t: np.log1p(t) / t
    )


@answers(special.exprel)
def exprel(x):
    """(exp(x) - 1)/x; near 0 by its series, for the sake of its derivatives."""
    terms = [1 / math.factorial(k + 1) for k in range(17)]
    x = floating(lift(x))
    return _near_and_far(
        x, abs(x) < 0.5, lambda x: _polynomial(x, terms), lambda x: np.expm1(x) / x
    )


@answers(special.boxcox)
def boxcox(x, lmbda):
    x, lmbda = floats(x, lmbda)
    log_x = np.log(x)
    return log_x * exprel(lmbda * log_x)


@answers(special.boxcox1p)
def boxcox1p(x, lmbda):
    x, lmbda = floats(x, lmbda)
    log_x = np.log1p(x)
    return log_x * exprel(lmbda * log_x)


@answers(special.inv_boxcox)
def inv_boxcox(x, lmbda):
    x, lmbda = floats(x, lmbda)
    return np.exp(x * log1p_over(lmbda * x))


@answers(special.inv_boxcox1p)
def inv_boxcox1p(x, lmbda):
    x, lmbda = floats(x, lmbda)
    return np.expm1(x * log1p_over(lmbda * x))


# Functions with several results.


def _several(function, *entries_):
    @answers(function)
    def results(x):
        return tuple(apply(entry, x) for entry in entries_)


_several(special.airy, sp.airy_ai, sp.airy_ai_prime, sp.airy_bi, sp.airy_bi_prime)
_several(special.sici, sp.sine_integral, sp.cosine_integral)
_several(special.shichi, sp.hyperbolic_sine_integral, sp.hyperbolic_cosine_integral)
_several(special.fresnel, sp.fresnel_s, sp.fresnel_c)


# Relative entropies and losses.


@answers(special.rel_entr)
def rel_entr(x, y):
    """x log(x / y); 0 at x = 0 <= y, infinite outside of the domain."""
    x, y = floats(x, y)
    inside = (x > 0) & (y > 0)
    a, b = where(inside, x, 1), where(inside, y, 1)
    outside = where((x == 0) & (y >= 0), 0, where(np.isnan(x) | np.isnan(y), math.nan, math.inf))
    return where(inside, apply(TABLE["rel_entr"], a, b), outside)


@answers(special.kl_div)
def kl_div(x, y):
    return rel_entr(x, y) - x + y


@answers(special.huber)
def huber(delta, r):
    delta, r = floats(delta, r)
    size = abs(r)
    inside = where(size <= delta, 0.5 * r * r, delta * (size - 0.5 * delta))
    return where(delta < 0, math.inf, inside)


@answers(special.pseudo_huber)
def pseudo_huber(delta, r):
    delta, r = floats(delta, r)
    is_zero = delta == 0
    u = where(is_zero, 1, delta)
    v = r / u
    inside = u * u * (v * v / (1 + np.sqrt(1 + v * v)))
    return where(delta < 0, math.inf, where(is_zero, 0, inside))


if hasattr(special, "softplus"):

    @answers(special.softplus)
    def softplus(x):
        return np.logaddexp(0.0, lift(x))


@answers(special.exp10)
def exp10(x):
    return np.power(10.0, floating(lift(x)))


answers_as(__name__, {
    special.exp2: np.exp2, special.expm1: np.expm1, special.log1p: np.log1p, special.cbrt: np.cbrt,
})  # fmt: skip


# What is refused.

refuses(
    "hyp0f1", "hyp1f1", "hyp2f1", "hyperu", "struve", "modstruve", "kelvin", "mathieu_a",
    "mathieu_b", "pbdv", "pbvv", "pbwa", "pro_ang1", "obl_ang1",
    within="scipy.special",
    why="its rule needs derivatives by a parameter or recurrences that SciPy does not provide",
    instead="give it a rule of your own (nbhvp.elementwise)",
)  # fmt: skip
refuses(
    "ellipkinc", "ellipeinc", "ellipj", "elliprc", "elliprd", "elliprf", "elliprg", "elliprj",
    within="scipy.special",
    why="no derivative rule has been written yet",
    instead="give it a rule of your own (nbhvp.elementwise)",
)  # fmt: skip
refuses(
    "eval_chebyt", "eval_chebyu", "eval_hermite", "eval_hermitenorm",
    "eval_laguerre", "eval_genlaguerre", "eval_jacobi", "eval_gegenbauer",
    within="scipy.special",
    why="no derivative rule has been written yet",
    instead="compute it by its recurrence, or use numpy.polynomial",
)  # fmt: skip
refuses(
    "hankel1e",
    "hankel2e",
    within="scipy.special",
    why="its value is complex",
    instead="combine jv and yv",
)
refuses(
    "chdtri", "fdtri", "stdtridf", "gdtria", "gdtrib", "gdtrix", "bdtri", "bdtrik", "nbdtri",
    "nbdtrik", "pdtri", "pdtrik", "btdtria", "btdtrib", "nctdtr", "ncfdtr", "chndtr",
    within="scipy.special",
    why="no derivative rule has been written yet for inverses by a parameter",
    instead="use gammainccinv and betaincinv",
)  # fmt: skip
