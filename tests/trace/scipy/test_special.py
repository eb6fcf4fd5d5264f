"""scipy.special to second order: every function that is followed, against mpmath.

`CASES` is a table: name, function of one or more variables, its mpmath oracle, where each variable
is sampled, and special points. A function of several points is their sum, so that its Hessian is
made of small blocks. Value, gradient, product and a batch of products must be right, the last two
to a relative 1e-9, in a measure that counts the terms of a product before they cancel.
"""

import itertools

import mpmath as mp
import numpy as np
import pytest
import scipy.special as special

import nbhvp

POSITIVE, ANY, UNIT, PROBABILITY = (0.1, 8.0), (-5.0, 5.0), (-0.95, 0.95), (0.02, 0.98)
PARAMETER = (0.2, 12.0)


def spherical_j(n):
    return lambda x: x**n / mp.fac2(2 * n + 1) * mp.hyp0f1(n + 1.5, -x * x / 4)


def spherical_i(n):
    return lambda x: x**n / mp.fac2(2 * n + 1) * mp.hyp0f1(n + 1.5, x * x / 4)


def over_root(bessel, n):
    return lambda x: mp.sqrt(mp.pi / (2 * x)) * bessel(n + mp.mpf(0.5), x)


def derivative(function):
    return lambda x: mp.diff(function, x)


def lower_gamma(a, x):
    return mp.gammainc(a, 0, x, regularized=True)


def upper_gamma(a, x):
    return mp.gammainc(a, x, regularized=True)


def lower_beta(a, b, x):
    return mp.betainc(a, b, 0, x, regularized=True)


def upper_beta(a, b, x):
    return mp.betainc(a, b, x, 1, regularized=True)


def student(df, t):
    tail = lower_beta(df / 2, mp.mpf(0.5), df / (df + t * t)) / 2
    return 1 - tail if t > 0 else tail


def faddeeva(z):
    return mp.exp(-z * z) * mp.erfc(-1j * z)


def owen(h, a):
    return mp.quad(lambda t: mp.exp(-h * h * (1 + t * t) / 2) / (1 + t * t), [0, a]) / (2 * mp.pi)


def normal_quantile(y):
    return mp.sqrt(2) * mp.erfinv(2 * y - 1)


# fmt: off
CASES = [
    # name, function, oracle, domains, special points
    ("expit", special.expit, lambda x: 1 / (1 + mp.exp(-x)), [ANY], [-30.0]),
    ("logit", special.logit, lambda x: mp.log(x / (1 - x)), [PROBABILITY], [0.5]),
    ("log_expit", special.log_expit, lambda x: -mp.log1p(mp.exp(-x)), [ANY], [-700.0, 700.0]),
    ("xlogy", special.xlogy, lambda x, y: x * mp.log(y), [POSITIVE, POSITIVE], []),
    ("xlog1py", special.xlog1py, lambda x, y: x * mp.log1p(y), [POSITIVE, POSITIVE], []),
    ("entr", special.entr, lambda x: -x * mp.log(x), [POSITIVE], []),
    ("rel_entr", special.rel_entr, lambda x, y: x * mp.log(x / y), [POSITIVE, POSITIVE], []),
    ("kl_div", special.kl_div, lambda x, y: x * mp.log(x / y) - x + y, [POSITIVE, POSITIVE], []),
    ("huber", special.huber, lambda d, r: r * r / 2 if abs(r) <= d else d * (abs(r) - d / 2), [(1.0, 2.0), ANY], []),
    ("pseudo_huber", special.pseudo_huber, lambda d, r: d * d * (mp.sqrt(1 + (r / d) ** 2) - 1), [POSITIVE, ANY], [(1.0, 0.0), (2.0, 1e6)]),
    ("exp2", special.exp2, lambda x: mp.mpf(2) ** x, [ANY], []),
    ("exp10", special.exp10, lambda x: mp.mpf(10) ** x, [ANY], []),
    ("expm1", special.expm1, mp.expm1, [ANY], [0.0]),
    ("log1p", special.log1p, mp.log1p, [POSITIVE], [0.0]),
    ("cbrt", special.cbrt, mp.cbrt, [POSITIVE], []),
    ("cosm1", special.cosm1, lambda x: mp.cos(x) - 1, [ANY], [0.0, 1e-6]),
    ("exprel", special.exprel, lambda x: mp.expm1(x) / x if x else mp.mpf(1), [ANY], [0.49, 0.51, 1e-9]),
    ("boxcox", special.boxcox, lambda x, k: (x**k - 1) / k, [POSITIVE, ANY], [(2.0, 1e-7), (1.0, 0.5)]),
    ("boxcox1p", special.boxcox1p, lambda x, k: mp.expm1(k * mp.log1p(x)) / k, [POSITIVE, ANY], [(2.0, 1e-7)]),
    ("inv_boxcox", special.inv_boxcox, lambda x, k: (1 + k * x) ** (1 / k), [POSITIVE, PROBABILITY], [(2.0, 1e-7)]),
    ("inv_boxcox1p", special.inv_boxcox1p, lambda x, k: mp.expm1(mp.log1p(k * x) / k), [POSITIVE, PROBABILITY], []),
    # the error function and its kin
    ("erf", special.erf, mp.erf, [ANY], [0.0]),
    ("erfc", special.erfc, mp.erfc, [ANY], [10.0]),
    ("erfcx", special.erfcx, lambda x: mp.exp(x * x) * mp.erfc(x), [ANY], [0.0, 11.9, 12.1, 50.0, 1e4]),
    ("erfi", special.erfi, mp.erfi, [ANY], [0.0]),
    ("erfinv", special.erfinv, mp.erfinv, [UNIT], [0.0, 1e-9, 0.999999]),
    ("erfcinv", special.erfcinv, lambda y: mp.erfinv(1 - y), [(0.1, 1.9)], [1.0, 1e-9]),
    ("dawsn", special.dawsn, lambda x: mp.sqrt(mp.pi) / 2 * mp.exp(-x * x) * mp.erfi(x), [ANY], [0.0, 11.9, 12.1, -50.0, 300.0]),
    ("ndtr", special.ndtr, mp.ncdf, [ANY], [-20.0, 0.0]),
    ("log_ndtr", special.log_ndtr, lambda x: mp.log(mp.erfc(-x / mp.sqrt(2)) / 2), [ANY], [-15.9, -16.1, -300.0, 8.0]),
    ("ndtri", special.ndtri, normal_quantile, [PROBABILITY], [0.5, 1e-12]),
    ("ndtri_exp", special.ndtri_exp, lambda y: normal_quantile(mp.exp(y)), [(-20.0, -0.1)], [-1e-3]),
    ("owens_t", special.owens_t, owen, [(-2.0, 2.0), (-2.0, 2.0)], [(0.0, 1.0), (1.0, 0.0)]),
    # gamma and beta functions
    ("gamma", special.gamma, mp.gamma, [POSITIVE], [-0.5, -2.3, 100.0, 1.0]),
    ("rgamma", special.rgamma, mp.rgamma, [POSITIVE], [-0.5]),
    ("gammaln", special.gammaln, mp.loggamma, [POSITIVE], [1.0, 2.0, 1e5]),
    ("loggamma", special.loggamma, mp.loggamma, [POSITIVE], []),
    ("digamma", special.digamma, mp.digamma, [POSITIVE], [1e4]),
    ("polygamma", lambda x: special.polygamma(2, x), lambda x: mp.psi(2, x), [POSITIVE], [1e3]),
    ("factorial", special.factorial, lambda n: mp.gamma(n + 1), [POSITIVE], [0.0, 5.0]),
    ("multigammaln", lambda a: special.multigammaln(a, 3), lambda a: 3 * mp.log(mp.pi) / 2 + sum(mp.loggamma(a - mp.mpf(j) / 2) for j in range(3)), [(1.5, 9.0)], []),
    ("beta", special.beta, mp.beta, [POSITIVE, POSITIVE], [(0.01, 3.0)]),
    ("betaln", special.betaln, lambda a, b: mp.log(mp.beta(a, b)), [POSITIVE, POSITIVE], [(100.0, 200.0)]),
    ("binom", special.binom, mp.binomial, [(5.0, 9.0), (0.5, 4.5)], [(10.0, 3.0)]),
    ("comb", special.comb, mp.binomial, [(5.0, 9.0), (0.5, 4.5)], []),
    ("perm", special.perm, lambda n, k: mp.rf(n - k + 1, k), [(5.0, 9.0), (0.5, 4.5)], []),
    ("poch", special.poch, mp.rf, [POSITIVE, POSITIVE], []),
    ("gammainc", special.gammainc, lower_gamma, [PARAMETER, POSITIVE], [(1e-3, 0.4), (300.0, 290.0), (5.0, 1e-3), (2.0, 40.0), (1.0, 1.0)]),
    ("gammaincc", special.gammaincc, upper_gamma, [PARAMETER, POSITIVE], [(1e-3, 3.0), (300.0, 330.0), (0.5, 30.0), (1.0, 1.0)]),
    ("gdtr", special.gdtr, lambda a, b, x: lower_gamma(b, a * x), [(0.5, 2.0), PARAMETER, POSITIVE], []),
    ("gdtrc", special.gdtrc, lambda a, b, x: upper_gamma(b, a * x), [(0.5, 2.0), PARAMETER, POSITIVE], []),
    ("chdtr", special.chdtr, lambda v, x: lower_gamma(v / 2, x / 2), [PARAMETER, POSITIVE], []),
    ("chdtrc", special.chdtrc, lambda v, x: upper_gamma(v / 2, x / 2), [PARAMETER, POSITIVE], []),
    ("pdtr", lambda m: special.pdtr(3, m), lambda m: upper_gamma(4, m), [POSITIVE], []),
    ("pdtrc", lambda m: special.pdtrc(3, m), lambda m: lower_gamma(4, m), [POSITIVE], []),
    ("betainc", special.betainc, lower_beta, [PARAMETER, PARAMETER, PROBABILITY], [(0.05, 0.3, 0.2), (1.0, 0.05, 0.95), (40.0, 60.0, 0.35), (1.0, 1.0, 0.3)]),
    ("betaincc", special.betaincc, upper_beta, [PARAMETER, PARAMETER, PROBABILITY], [(0.05, 0.3, 0.2), (40.0, 60.0, 0.5)]),
    ("stdtr", special.stdtr, student, [(1.0, 20.0), ANY], [(3.0, 0.1), (2.0, -30.0)]),
    ("fdtr", special.fdtr, lambda m, n, x: lower_beta(m / 2, n / 2, m * x / (n + m * x)), [PARAMETER, PARAMETER, POSITIVE], []),
    ("fdtrc", special.fdtrc, lambda m, n, x: upper_beta(m / 2, n / 2, m * x / (n + m * x)), [PARAMETER, PARAMETER, POSITIVE], []),
    ("bdtr", lambda p: special.bdtr(2, 7, p), lambda p: lower_beta(5, 3, 1 - p), [PROBABILITY], []),
    ("bdtrc", lambda p: special.bdtrc(2, 7, p), lambda p: lower_beta(3, 5, p), [PROBABILITY], []),
    ("nbdtr", lambda p: special.nbdtr(2, 4, p), lambda p: lower_beta(4, 3, p), [PROBABILITY], []),
    ("zeta", lambda q: special.zeta(2.5, q), lambda q: mp.zeta(2.5, q), [POSITIVE], [1.0]),
    ("zeta in both", special.zeta, mp.zeta, [(1.2, 6.0), POSITIVE], [(1.05, 1.0), (30.0, 2.0)]),
    ("zeta of Riemann", special.zeta, mp.zeta, [(1.2, 6.0)], []),
    # Bessel functions
    ("j0", special.j0, lambda x: mp.besselj(0, x), [ANY], [0.0, 30.0]),
    ("j1", special.j1, lambda x: mp.besselj(1, x), [ANY], [0.0, 30.0]),
    ("jn", lambda x: special.jn(3, x), lambda x: mp.besselj(3, x), [ANY], [0.0, 1e-3]),
    ("jv", lambda x: special.jv(1.7, x), lambda x: mp.besselj(mp.mpf(1.7), x), [POSITIVE], [1e-3]),
    ("jve", lambda x: special.jve(1.7, x), lambda x: mp.besselj(mp.mpf(1.7), x), [POSITIVE], []),
    ("y0", special.y0, lambda x: mp.bessely(0, x), [POSITIVE], [1e-3, 30.0]),
    ("y1", special.y1, lambda x: mp.bessely(1, x), [POSITIVE], [1e-3, 30.0]),
    ("yn", lambda x: special.yn(3, x), lambda x: mp.bessely(3, x), [POSITIVE], []),
    ("yv", lambda x: special.yv(1.7, x), lambda x: mp.bessely(mp.mpf(1.7), x), [POSITIVE], []),
    ("yve", lambda x: special.yve(1.7, x), lambda x: mp.bessely(mp.mpf(1.7), x), [POSITIVE], []),
    ("i0", special.i0, lambda x: mp.besseli(0, x), [ANY], [0.0]),
    ("i1", special.i1, lambda x: mp.besseli(1, x), [ANY], [0.0]),
    ("iv", lambda x: special.iv(2.5, x), lambda x: mp.besseli(mp.mpf(2.5), x), [POSITIVE], [1e-3]),
    ("i0e", special.i0e, lambda x: mp.exp(-abs(x)) * mp.besseli(0, x), [POSITIVE], [-2.0, 100.0]),
    ("i1e", special.i1e, lambda x: mp.exp(-abs(x)) * mp.besseli(1, x), [POSITIVE], [-2.0, 100.0]),
    ("ive", lambda x: special.ive(2.5, x), lambda x: mp.exp(-x) * mp.besseli(mp.mpf(2.5), x), [POSITIVE], []),
    ("k0", special.k0, lambda x: mp.besselk(0, x), [POSITIVE], [1e-3]),
    ("k1", special.k1, lambda x: mp.besselk(1, x), [POSITIVE], [1e-3]),
    ("kn", lambda x: special.kn(3, x), lambda x: mp.besselk(3, x), [POSITIVE], []),
    ("kv", lambda x: special.kv(2.5, x), lambda x: mp.besselk(mp.mpf(2.5), x), [POSITIVE], []),
    ("k0e", special.k0e, lambda x: mp.exp(x) * mp.besselk(0, x), [POSITIVE], [100.0]),
    ("k1e", special.k1e, lambda x: mp.exp(x) * mp.besselk(1, x), [POSITIVE], []),
    ("kve", lambda x: special.kve(2.5, x), lambda x: mp.exp(x) * mp.besselk(mp.mpf(2.5), x), [POSITIVE], []),
    ("spherical_jn", lambda x: special.spherical_jn(2, x), spherical_j(2), [ANY], [0.0, 1e-4]),
    ("spherical_jn of order 0", lambda x: special.spherical_jn(0, x), spherical_j(0), [ANY], [0.0, 1e-4]),
    ("spherical_jn'", lambda x: special.spherical_jn(2, x, derivative=True), derivative(spherical_j(2)), [ANY], [0.0]),
    ("spherical_yn", lambda x: special.spherical_yn(2, x), over_root(mp.bessely, 2), [POSITIVE], []),
    ("spherical_yn'", lambda x: special.spherical_yn(1, x, derivative=True), derivative(over_root(mp.bessely, 1)), [POSITIVE], []),
    ("spherical_in", lambda x: special.spherical_in(2, x), spherical_i(2), [ANY], [0.0, 1e-4]),
    ("spherical_in'", lambda x: special.spherical_in(1, x, derivative=True), derivative(spherical_i(1)), [ANY], [0.0]),
    ("spherical_kn", lambda x: special.spherical_kn(2, x), over_root(mp.besselk, 2), [POSITIVE], []),
    ("spherical_kn'", lambda x: special.spherical_kn(0, x, derivative=True), derivative(over_root(mp.besselk, 0)), [POSITIVE], []),
    ("airy Ai", lambda x: special.airy(x)[0], mp.airyai, [ANY], [0.0]),
    ("airy Ai'", lambda x: special.airy(x)[1], lambda x: mp.airyai(x, 1), [ANY], [0.0]),
    ("airy Bi", lambda x: special.airy(x)[2], mp.airybi, [ANY], [0.0]),
    ("airy Bi'", lambda x: special.airy(x)[3], lambda x: mp.airybi(x, 1), [ANY], [0.0]),
    # integrals
    ("ellipk", special.ellipk, mp.ellipk, [(-3.0, 0.95)], [0.0, 1e-8, 0.24, 0.26, 0.999999]),
    ("ellipe", special.ellipe, mp.ellipe, [(-3.0, 0.95)], [0.0, 1e-8, 0.24, 0.26, 0.999999]),
    ("ellipkm1", special.ellipkm1, lambda p: mp.ellipk(1 - p), [(0.05, 3.0)], [1.0, 1e-9, 0.74, 0.76]),
    ("exp1", special.exp1, mp.e1, [POSITIVE], []),
    ("expi", special.expi, mp.ei, [ANY], []),
    ("expn", lambda x: special.expn(3, x), lambda x: mp.expint(3, x), [POSITIVE], []),
    ("expn of order 2", lambda x: special.expn(2, x), lambda x: mp.expint(2, x), [POSITIVE], []),
    ("expn of order 0", lambda x: special.expn(0, x), lambda x: mp.exp(-x) / x, [POSITIVE], []),
    ("sici Si", lambda x: special.sici(x)[0], mp.si, [ANY], [0.0, 1e-5]),
    ("sici Ci", lambda x: special.sici(x)[1], mp.ci, [POSITIVE], []),
    ("shichi Shi", lambda x: special.shichi(x)[0], mp.shi, [ANY], [0.0, 1e-5]),
    ("shichi Chi", lambda x: special.shichi(x)[1], mp.chi, [POSITIVE], []),
    ("fresnel S", lambda x: special.fresnel(x)[0], mp.fresnels, [ANY], [0.0]),
    ("fresnel C", lambda x: special.fresnel(x)[1], mp.fresnelc, [ANY], [0.0]),
    ("spence", special.spence, lambda z: mp.re(mp.polylog(2, 1 - z)), [(0.1, 1.9)], [1.0, 0.74, 0.76]),
    ("wofz Re", lambda x, y: special.wofz(x + 1j * y).real, lambda x, y: mp.re(faddeeva(x + 1j * y)), [(-3.0, 3.0), (-1.0, 3.0)], [(0.0, 0.0), (2.0, 0.0)]),
    ("wofz Im", lambda x, y: special.wofz(x + 1j * y).imag, lambda x, y: mp.im(faddeeva(x + 1j * y)), [(-3.0, 3.0), (-1.0, 3.0)], [(0.0, 0.0), (2.0, 0.0)]),
    ("voigt_profile", special.voigt_profile, lambda x, s, g: mp.re(faddeeva((x + 1j * g) / (s * mp.sqrt(2)))) / (s * mp.sqrt(2 * mp.pi)), [(-3.0, 3.0), (0.3, 3.0), (0.1, 3.0)], []),
    # inverses
    ("lambertw", lambda x: special.lambertw(x).real, mp.lambertw, [POSITIVE], [0.0, -0.3, 1e-9, 1e9]),
    ("lambertw of branch -1", lambda x: special.lambertw(x, -1).real, lambda x: mp.re(mp.lambertw(x, -1)), [(-0.36, -0.01)], [-1e-9]),
    ("wrightomega", special.wrightomega, lambda x: mp.lambertw(mp.exp(x)), [ANY], [-20.0, 20.0]),
]
# fmt: on
RNG = np.random.default_rng(5)
NOISE = 1e-32


def points_of(domains, chosen, count=3):
    """Random points and the special ones: one row per variable."""
    rows = [RNG.uniform(low, high, count) for low, high in domains]
    more = [point if isinstance(point, tuple) else (point,) for point in chosen]
    return np.array([*zip(*rows, strict=True), *more]).T


def second_order(oracle, point):
    """Value, gradient and Hessian at one point, by mpmath."""
    n = len(point)
    point = tuple(map(mp.mpf, point))
    with mp.workdps(30):
        at = lambda *which: float(mp.re(mp.diff(oracle, point, tuple(map(which.count, range(n))))))
        value = float(mp.re(oracle(*point)))
        gradient = np.array([at(j) for j in range(n)])
        hessian = np.zeros((n, n))
        for j, k in itertools.combinations_with_replacement(range(n), 2):
            hessian[j, k] = hessian[k, j] = at(j, k)
    return value, gradient, hessian


def assert_relative(given, needed, scale, tolerance):
    """Relative to `scale`, but for what mpmath leaves where the value is 0."""
    error = np.max(np.abs(given - needed) / (scale + NOISE))
    assert error <= tolerance, f"error {error:.1e}: {given}, needed {needed}"


@pytest.mark.parametrize(
    ("function", "oracle", "domains", "chosen"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_against_mpmath(function, oracle, domains, chosen):
    x = points_of(domains, chosen)
    f = nbhvp.differentiable(lambda x: np.sum(function(*x)), target="interpret")
    values, gradients, hessians = zip(*(second_order(oracle, point) for point in x.T), strict=True)
    gradient, hessian = np.array(gradients).T, np.moveaxis(np.array(hessians), 0, -1)
    assert_relative(f(x), np.sum(values), np.sum(np.abs(values)), 1e-12)
    assert_relative(f.grad(x), gradient, np.abs(gradient), 1e-9)
    v = RNG.normal(size=(*x.shape, 3))
    needed = np.einsum("jkp,kpb->jpb", hessian, v)
    scale = np.einsum("jkp,kpb->jpb", np.abs(hessian), np.abs(v))
    assert_relative(f.hvp(x, v[..., 0]), needed[..., 0], scale[..., 0], 1e-9)
    assert_relative(f.hvp(x, v), needed, scale, 1e-9)


# What is refused.


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda x: special.jv(x, 2.0).sum(), "jv in an order that depends on x"),
        (lambda x: special.kv(np.floor(x) + x, x).sum(), "kv in an order that depends on x"),
        (lambda x: special.spherical_jn(x, 2.0).sum(), "spherical_jn of a variable order"),
        (lambda x: special.expn(x, 2.0).sum(), "expn of a variable order"),
        (lambda x: special.polygamma(x, 2.0).sum(), "polygamma of a variable order"),
        (lambda x: special.lambertw(x, 2).real.sum(), "a complex branch"),
        (lambda x: special.factorial(x, exact=True).sum(), "exact=True"),
        (lambda x: special.hyp2f1(x, 1.0, 2.0, 0.5).sum(), "no derivative rule"),
        (lambda x: special.struve(1, x).sum(), r"scipy\.special\.struve has no derivative rule"),
    ],
)
def test_what_is_refused(function, match):
    with pytest.raises(nbhvp.TraceError, match=match) as refused:
        nbhvp.differentiable(function, target="interpret").grad(np.ones(2))
    assert "test_special.py" in str(refused.value)


def test_complex_arguments_are_refused():
    with pytest.raises(TypeError, match="jv of complex numbers"):
        nbhvp.differentiable(lambda x: special.jv(1, 1j * x).real.sum()).grad(np.ones(2))


def test_an_order_may_be_an_argument_or_an_integer_of_the_trace():
    f = nbhvp.differentiable(lambda x, v: np.sum(special.jv(v, x)), target="interpret")
    x, v = np.array([0.5, 2.0]), np.array([0.3, 1.5])
    np.testing.assert_allclose(f.grad(x, v), special.jvp(v, x), rtol=1e-12)
    g = nbhvp.differentiable(lambda x: special.jv(np.argmax(x), x).sum(), target="interpret")
    np.testing.assert_allclose(g.grad(x), special.jvp(1, x), rtol=1e-12)
    h = nbhvp.differentiable(
        lambda x: np.sum(special.jn(np.arange(4)[:, None], x)), target="interpret"
    )
    needed = sum(special.jvp(n, x, 2) for n in range(4))
    np.testing.assert_allclose(h.hvp(x, np.ones(2)), needed, rtol=1e-12)


@pytest.mark.parametrize(
    ("function", "inverse"),
    [
        (special.gammainc, special.gammaincinv),
        (special.gammaincc, special.gammainccinv),
        (special.betainc, special.betaincinv),
        (special.stdtr, special.stdtrit),
    ],
)
def test_inverses_in_all_arguments(function, inverse):
    """F(a, F^-1(a, y)) = y."""
    count = 3 if function is special.betainc else 2
    f = nbhvp.differentiable(lambda x: np.sum(function(*x[:-1], inverse(*x))), target="interpret")
    x = np.array([*RNG.uniform(0.8, 5, (count - 1, 4)), RNG.uniform(0.1, 0.9, 4)])
    one = np.zeros_like(x)
    one[-1] = 1
    np.testing.assert_allclose(f.grad(x), one, atol=1e-10)
    np.testing.assert_allclose(f.hvp(x, RNG.normal(size=x.shape)), 0, atol=1e-8)


# Derivatives in the parameters of the incomplete functions.

PARAMETERS = 10.0 ** np.array([-4, -1, 0, 1, 2, 4])


@pytest.mark.parametrize("a", PARAMETERS)
def test_gammainc_over_its_domain(a):
    """1e-4 <= a <= 1e4, from the far lower to the far upper tail."""
    ratios = np.array([1e-6, 0.1, 0.7, 0.97, 1.03, 1.3, 3.0, 20.0])
    x = ratios * (a if a > 1 else 1.0)
    tail = lambda x: lower_gamma if x < a else lambda a, x: -upper_gamma(a, x)
    f = nbhvp.differentiable(lambda p: np.sum(special.gammainc(p[0], p[1])), target="interpret")
    for t in x:
        _, gradient, hessian = second_order(tail(t), (a, t))
        if np.all(np.abs(gradient) < 1e-280):
            continue
        point = np.array([[a], [t]])
        for k, direction in enumerate(np.eye(2)):
            given = f.hvp(point, direction[:, None])[:, 0]
            # Near a zero of a second derivative, relative to the terms that it is the sum of.
            scale = np.abs(hessian[k]) + 1e-3 * np.abs(gradient[k] / point[:, 0])
            assert_relative(given, hessian[k], scale, 1e-9)
        assert_relative(f.grad(point)[:, 0], gradient, np.abs(gradient), 1e-9)


@pytest.mark.parametrize("a", PARAMETERS[1:-1])
@pytest.mark.parametrize("b", PARAMETERS[1:-1])
def test_betainc_over_its_domain(a, b):
    """0.1 <= a, b <= 100, in both tails and about the mean."""
    mean = a / (a + b)
    f = nbhvp.differentiable(lambda p: np.sum(special.betainc(*p)), target="interpret")
    for x in (0.02 * mean, 0.6 * mean, 0.98 * mean, mean + 0.3 * (1 - mean), 1 - 0.1 * (1 - mean)):
        upper = lambda a, b, x: -upper_beta(a, b, x)
        _, gradient, hessian = second_order(lower_beta if x < mean else upper, (a, b, x))
        point = np.array([[a], [b], [x]])
        sizes = np.abs(gradient / point[:, 0])
        for k, direction in enumerate(np.eye(3)):
            given = f.hvp(point, direction[:, None])[:, 0]
            scale = np.abs(hessian[k]) + 1e-3 * np.maximum(sizes[k], sizes)
            assert_relative(given, hessian[k], scale, 1e-9)
        assert_relative(f.grad(point)[:, 0], gradient, np.abs(gradient), 1e-9)


def test_ends_of_the_domains_of_parameters():
    """NaN outside, 0 in the parameters at the ends; a third derivative is an error."""
    f = nbhvp.differentiable(lambda a, x: np.sum(special.gammainc(a, x)), target="interpret")
    x = np.array([0.0, np.inf, 2.0, -1.0])
    assert f.grad(np.full(4, 3.0), x)[:3].tolist()[:2] == [0, 0]
    assert np.isnan(f.grad(np.full(4, 3.0), x)[3])
    assert np.isnan(f.grad(np.array([-1.0, 0.0]), x[2:3])).all()
    g = nbhvp.differentiable(lambda a, x: np.sum(special.betainc(a, 2.0, x)), target="interpret")
    assert g.grad(np.full(2, 3.0), np.array([0.0, 1.0])).tolist() == [0, 0]
    assert np.isnan(g.grad(np.full(3, 3.0), np.array([-0.1, 1.1, np.nan]))).all()


# Compiled.


@pytest.mark.no_cover
def test_compiled_derivatives_are_those_of_the_interpreter():
    """Functions of all kinds: by pointer, with several results, by series and by quadrature."""

    def function(x):
        a, b, t = x
        return np.sum(
            special.gammainc(a, 3 * t)
            + special.betainc(a, b, t)
            + special.spherical_jn(2, a)
            + special.airy(t)[0]
            + special.lambertw(b).real
            + special.ellipk(t)
        )

    x, v = RNG.uniform(0.2, 0.9, (3, 5)) * [[4], [3], [1]], RNG.normal(size=(3, 5))
    f, g = (nbhvp.differentiable(function, **target) for target in ({}, {"target": "interpret"}))
    np.testing.assert_allclose(f(x), g(x), rtol=1e-12)
    np.testing.assert_allclose(f.grad(x), g.grad(x), rtol=1e-10)
    np.testing.assert_allclose(f.hvp(x, v), g.hvp(x, v), rtol=1e-9)
