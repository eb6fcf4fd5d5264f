"""Functions of scipy.special with their oracle in mpmath: domains of the variables, special points."""

import mpmath as mp
import scipy.special as special

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
    ("eval_legendre", lambda x: special.eval_legendre(5, x) + special.eval_legendre(-3, x), lambda x: mp.legendre(5, x) + mp.legendre(2, x), [UNIT], [0.0, 1.0]),
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
