"""Distributions of scipy.stats: values as SciPy gives them, derivatives against mpmath.

`LAWS` is a table: name, where the shape parameters and the point are sampled, and by mpmath the
logarithm of the density and the distribution function in standard form. Point, shapes, loc and scale
all vary. The other methods follow from these two by relations that are tested.
"""

import mpmath as mp
import numpy as np
import pytest
from scipy import optimize, stats

import nbhvp
from nbhvp.trace.scipy import stats as distributions
from tests.cases.mpmath.special import lower_beta, lower_gamma, student, upper_gamma
from tests.trace.scipy.test_special import assert_relative, second_order

PARAMETER, POINT, PROBABILITY, ANY = (0.4, 6.0), (0.1, 4.0), (0.05, 0.95), (-3.0, 3.0)
RNG = np.random.default_rng(3)


def f_density(y, m, n):
    size = m / 2 * mp.log(m) + n / 2 * mp.log(n) - mp.log(mp.beta(m / 2, n / 2))
    return size + (m / 2 - 1) * mp.log(y) - (m + n) / 2 * mp.log(n + m * y)


def student_density(y, df):
    size = mp.loggamma((df + 1) / 2) - mp.loggamma(df / 2) - mp.log(df * mp.pi) / 2
    return size - (df + 1) / 2 * mp.log(1 + y * y / df)


# fmt: off
CONTINUOUS = [
    # name, shapes, points, logarithm of the density, distribution function
    ("norm", [], ANY, lambda y: mp.log(mp.npdf(y)), mp.ncdf),
    ("expon", [], POINT, lambda y: -y, lambda y: 1 - mp.exp(-y)),
    ("uniform", [], PROBABILITY, lambda y: 0 * y, lambda y: y),
    ("gamma", [PARAMETER], POINT, lambda y, a: (a - 1) * mp.log(y) - y - mp.loggamma(a), lambda y, a: lower_gamma(a, y)),
    ("invgamma", [PARAMETER], POINT, lambda y, a: -(a + 1) * mp.log(y) - 1 / y - mp.loggamma(a), lambda y, a: upper_gamma(a, 1 / y)),
    ("chi2", [PARAMETER], POINT, lambda y, v: (v / 2 - 1) * mp.log(y) - y / 2 - mp.loggamma(v / 2) - v / 2 * mp.log(2), lambda y, v: lower_gamma(v / 2, y / 2)),
    ("beta", [PARAMETER, PARAMETER], PROBABILITY, lambda y, a, b: (a - 1) * mp.log(y) + (b - 1) * mp.log(1 - y) - mp.log(mp.beta(a, b)), lambda y, a, b: lower_beta(a, b, y)),
    ("f", [PARAMETER, PARAMETER], POINT, f_density, lambda y, m, n: lower_beta(m / 2, n / 2, m * y / (n + m * y))),
    ("t", [PARAMETER], ANY, student_density, lambda y, df: student(df, y)),
    ("cauchy", [], ANY, lambda y: -mp.log(mp.pi * (1 + y * y)), lambda y: mp.mpf(0.5) + mp.atan(y) / mp.pi),
    ("laplace", [], ANY, lambda y: -abs(y) - mp.log(2), lambda y: mp.exp(y) / 2 if y < 0 else 1 - mp.exp(-y) / 2),
    ("logistic", [], ANY, lambda y: -y - 2 * mp.log(1 + mp.exp(-y)), lambda y: 1 / (1 + mp.exp(-y))),
    ("lognorm", [PARAMETER], POINT, lambda y, s: mp.log(mp.npdf(mp.log(y) / s) / (s * y)), lambda y, s: mp.ncdf(mp.log(y) / s)),
    ("halfnorm", [], POINT, lambda y: mp.log(2 * mp.npdf(y)), lambda y: 2 * mp.ncdf(y) - 1),
    ("halfcauchy", [], POINT, lambda y: -mp.log(mp.pi / 2 * (1 + y * y)), lambda y: 2 / mp.pi * mp.atan(y)),
    ("rayleigh", [], POINT, lambda y: mp.log(y) - y * y / 2, lambda y: 1 - mp.exp(-y * y / 2)),
    ("weibull_min", [PARAMETER], (0.1, 1.5), lambda y, c: mp.log(c) + (c - 1) * mp.log(y) - y**c, lambda y, c: 1 - mp.exp(-(y**c))),
    ("pareto", [PARAMETER], (1.1, 4.0), lambda y, b: mp.log(b) - (b + 1) * mp.log(y), lambda y, b: 1 - y**-b),
    ("gumbel_r", [], ANY, lambda y: -y - mp.exp(-y), lambda y: mp.exp(-mp.exp(-y))),
    ("gumbel_l", [], ANY, lambda y: y - mp.exp(y), lambda y: 1 - mp.exp(-mp.exp(y))),
    ("vonmises", [PARAMETER], ANY, lambda y, k: k * mp.cos(y) - mp.log(2 * mp.pi * mp.besseli(0, k)), None),
]
DISCRETE = [
    # name, shapes, arguments that stay as they are, points, logarithm of the mass, distribution function
    ("poisson", [PARAMETER], (), range(6), lambda k, mu: k * mp.log(mu) - mu - mp.loggamma(k + 1), lambda k, mu: upper_gamma(k + 1, mu)),
    ("binom", [PROBABILITY], (5,), range(5), lambda k, p: mp.log(mp.binomial(5, k)) + k * mp.log(p) + (5 - k) * mp.log(1 - p), lambda k, p: lower_beta(5 - k, k + 1, 1 - p)),
    ("bernoulli", [PROBABILITY], (), range(2), lambda k, p: mp.log(p if k else 1 - p), lambda k, p: mp.mpf(1) if k else 1 - p),
    ("geom", [PROBABILITY], (), range(1, 5), lambda k, p: mp.log(p) + (k - 1) * mp.log(1 - p), lambda k, p: 1 - (1 - p) ** k),
    ("nbinom", [PARAMETER, PROBABILITY], (), range(5), lambda k, n, p: mp.log(mp.binomial(n + k - 1, k)) + n * mp.log(p) + k * mp.log(1 - p), lambda k, n, p: lower_beta(n, k + 1, p)),
]
# fmt: on


UNKNOWN = {("f", "ppf"), ("f", "isf"), ("beta", "isf"), ("vonmises", "ppf"), ("vonmises", "isf")} | {
    ("vonmises", method) for method in ("cdf", "sf", "logcdf", "logsf")
}  # fmt: skip
"""Laws and methods that SciPy computes in C."""


def sampled(shapes, points):
    """Three standard points, then shapes, loc and scale."""
    rows = [RNG.uniform(*span, 3) for span in (points, *shapes)]
    loc, scale = RNG.uniform(-1, 1, 3), RNG.uniform(0.5, 2, 3)
    return np.array([loc + scale * rows[0], *rows[1:], loc, scale])


def moved(standard, is_density):
    """The oracle in x, shapes, loc and scale."""

    def oracle(x, *parameters):
        *shapes, loc, scale = parameters
        return standard((x - loc) / scale, *shapes) - (mp.log(scale) if is_density else 0)

    return oracle


def check(function, oracle, x):
    """Value, gradient and products of a sum over points."""
    f = nbhvp.differentiable(lambda x: np.sum(function(x)), target="interpret")
    values, gradients, hessians = zip(*(second_order(oracle, point) for point in x.T), strict=True)
    gradient, hessian = np.array(gradients).T, np.moveaxis(np.array(hessians), 0, -1)
    assert_relative(f(x), np.sum(values), np.sum(np.abs(values)), 1e-12)
    assert f(x) == pytest.approx(np.sum(function(x)), rel=1e-12)
    assert_relative(f.grad(x), gradient, np.abs(gradient) + 1e-6, 1e-9)
    v = RNG.normal(size=(*x.shape, 2))
    needed = np.einsum("jkp,kpb->jpb", hessian, v)
    scale = np.einsum("jkp,kpb->jpb", np.abs(hessian), np.abs(v)) + 1e-6
    assert_relative(f.hvp(x, v), needed, scale, 1e-9)


@pytest.mark.usefixtures("unsplit")
@pytest.mark.no_cover
@pytest.mark.parametrize(("name", "shapes", "points", "density", "cdf"), CONTINUOUS)
def test_continuous(name, shapes, points, density, cdf):
    x, law = sampled(shapes, points), getattr(stats, name)
    check(lambda x: law.logpdf(*x), moved(density, True), x)
    if cdf is not None:
        check(lambda x: law.cdf(*x), moved(cdf, False), x)


@pytest.mark.parametrize(("name", "shapes", "fixed", "points", "density", "cdf"), DISCRETE)
def test_discrete(name, shapes, fixed, points, density, cdf):
    law = getattr(stats, name)
    for k in points:
        x = np.array([RNG.uniform(*span, 2) for span in shapes])
        check(lambda x, k=k: law.logpmf(k, *fixed, *x), lambda *s, k=k: density(k, *s), x)
        check(lambda x, k=k: law.cdf(k, *fixed, *x), lambda *s, k=k: cdf(k, *s), x)


def derivatives(function, x):
    f = nbhvp.differentiable(lambda x: np.sum(function(x)), target="interpret")
    return f.grad(x)


@pytest.mark.usefixtures("unsplit")
@pytest.mark.no_cover
@pytest.mark.parametrize(("name", "shapes", "points", "density", "cdf"), CONTINUOUS)
def test_relations_of_methods(name, shapes, points, density, cdf):
    """pdf, sf, and logarithms from logpdf and cdf; a quantile's distribution function is q."""
    x, law = sampled(shapes, points), getattr(stats, name)
    pdf = derivatives(lambda x: law.pdf(*x), x)
    slope = derivatives(lambda x: law.logpdf(*x), x)
    np.testing.assert_allclose(pdf, law.pdf(*x) * slope, 1e-10, 1e-300)
    if cdf is None:
        return
    slope = derivatives(lambda x: law.cdf(*x), x)
    for method, factor in {
        "sf": -1, "logcdf": 1 / law.cdf(*x), "logsf": -1 / law.sf(*x),
    }.items():  # fmt: skip
        given = derivatives(lambda x, method=method: getattr(law, method)(*x), x)
        np.testing.assert_allclose(given, factor * slope, 1e-9, 1e-12, err_msg=method)
    for method, back in {"ppf": "cdf", "isf": "sf"}.items():
        if (name, method) not in UNKNOWN:
            check_inverse(getattr(law, method), getattr(law, back), x)


def check_inverse(quantile, function, x):
    q = np.array([RNG.uniform(0.1, 0.9, 3), *x[1:]])
    f = nbhvp.differentiable(lambda q: np.sum(function(quantile(*q), *q[1:])), target="interpret")
    assert f(q) == pytest.approx(np.sum(q[0]), rel=1e-12)
    one = np.zeros_like(q)
    one[0] = 1
    np.testing.assert_allclose(f.grad(q), one, atol=1e-9)
    np.testing.assert_allclose(f.hvp(q, RNG.normal(size=q.shape)), 0, atol=1e-7)


@pytest.mark.usefixtures("unsplit")
@pytest.mark.parametrize("name", [row[0] for row in CONTINUOUS + DISCRETE])
def test_values_outside_are_those_of_scipy(name):
    """Below, at the ends of and above the support; parameters that are not allowed."""
    law = getattr(stats, name)
    shapes = [0.7] * law.numargs if name != "binom" else [4, 0.7]
    continuous = hasattr(law, "pdf")
    x = np.array([-np.inf, -1.5, 0.0, 1.0, 0.5, 2.0, 4.0, 5.0, 30.0, np.inf, np.nan])
    for method in distributions.METHODS:
        is_step = not continuous and method in distributions.QUANTILES
        if not hasattr(law, method) or is_step or (name, method) in UNKNOWN:
            continue
        for scale in (1.0, -1.0) if continuous else (None,):
            more = () if scale is None else (0.0, scale)
            given = nbhvp.differentiable(
                lambda x, m=method, more=more: getattr(law, m)(x, *shapes, *more),
                target="interpret",
            )(x)
            with np.errstate(all="ignore"):
                needed = getattr(law, method)(x, *shapes, *more)
            # SciPy has NaN at some infinite points, and the logarithms of rounded numbers.
            needed = np.where(np.isinf(x) & np.isnan(needed) & (scale != -1), given, needed)
            np.testing.assert_allclose(given, needed, 1e-12, 1e-15, err_msg=f"{method} {scale}")


def test_frozen_distributions():
    """Made inside and outside of the function, with parameters by name."""
    x, outside = np.array([0.5, 1.5, 2.5]), stats.gamma(2.0, scale=1.5)

    def inside(x):
        law = stats.gamma(x[0], scale=x[1])
        return law.logpdf(x[2]) + np.sum(outside.logpdf(x)) + stats.norm(loc=x[2]).logsf(x[0])

    def written_out(x):
        return (
            stats.gamma.logpdf(x[2], x[0], scale=x[1])
            + np.sum(stats.gamma.logpdf(x, 2.0, 0.0, 1.5))
            + stats.norm.logsf(x[0], x[2])
        )

    f, g = (nbhvp.differentiable(h, target="interpret") for h in (inside, written_out))
    assert f(x) == pytest.approx(inside(x), rel=1e-13)
    np.testing.assert_array_equal(f.hvp(x, x), g.hvp(x, x))


FROZEN, COUNT = stats.norm(1, 2), stats.poisson(2.2)
OF_FROZEN = {
    "rvs": lambda x: x[0] * np.sum(FROZEN.rvs(4, random_state=0)),
    "rvs of one made inside": lambda x: x[0] * np.sum(stats.norm(1, 2).rvs(4, 0)),
    "stats": lambda x: x[0] * FROZEN.stats("m"),
    "stats of x": lambda x: np.sum(stats.beta(x[0], x[1], loc=x[2], scale=2.0).stats("mvsk")),
    "expect": lambda x: x[0] * FROZEN.expect(np.square, 0.3, 2.0, True),
    "expect of counts": lambda x: x[0] * COUNT.expect(np.square),
    "x by name": lambda x: x[0] * FROZEN.cdf(x=0.3),
    "the law": lambda x: stats.gamma(x[0]).dist.logpdf(0.5, x[1]),
}


@pytest.mark.parametrize("name", OF_FROZEN)
def test_methods_of_frozen_distributions(name):
    x, v, step = np.array([0.5, 1.5, 2.5]), np.array([0.3, -1.0, 0.5]), 1e-4
    f = nbhvp.differentiable(OF_FROZEN[name], target="interpret")
    assert f(x) == pytest.approx(OF_FROZEN[name](x), rel=1e-13)
    slope = (OF_FROZEN[name](x + step * v) - OF_FROZEN[name](x - step * v)) / (2 * step)
    assert f.grad(x) @ v == pytest.approx(slope, rel=1e-6)


class Wide(stats.rv_continuous):
    """A law of the user's, by the name of another."""

    def _pdf(self, y, c):
        return 0.5 * c * np.exp(-c * abs(y))


WIDE = Wide(name="laplace", shapes="c")


@pytest.mark.no_cover
def test_a_law_of_ones_own():
    x = np.array([0.5, 1.5, 2.0, 0.3, 1.7])

    def function(x):
        return np.sum(WIDE.logpdf(x[:2], *x[2:]))

    def written_out(x):
        y = (x[:2] - x[3]) / x[4]
        return np.sum(np.log(0.5 * x[2]) - x[2] * abs(y) - np.log(x[4]))

    f, g = (nbhvp.differentiable(h, target="interpret") for h in (function, written_out))
    assert f(x) == pytest.approx(function(x), rel=1e-13)
    np.testing.assert_allclose(f.grad(x), g.grad(x), 1e-12)
    np.testing.assert_allclose(f.hvp(x, x), g.hvp(x, x), 1e-12, 1e-12)


def normal_density(n):
    """log N(x; mean, L L^T) by mpmath, of x, mean and the entries of a triangle."""

    def oracle(*t):
        gap = mp.matrix([a - b for a, b in zip(t[:n], t[n : 2 * n], strict=True)])
        cov = mp.matrix(n, n)
        entries = iter(t[2 * n :])
        for i in range(n):
            for j in range(i + 1):
                cov[i, j] = cov[j, i] = next(entries)
        square = (gap.T * mp.inverse(cov) * gap)[0]
        return -(square + mp.log(mp.det(cov)) + n * mp.log(2 * mp.pi)) / 2

    return oracle


def test_multivariate_normal():
    """In the point, the mean and the matrix."""

    def function(x):
        cov = np.array([[x[4], x[5]], [x[5], x[6]]])
        return stats.multivariate_normal.logpdf(x[:2], x[2:4], cov)

    x = np.array([[0.3, -0.5, 0.1, 0.2, 2.0, 0.4, 1.5]]).T
    check(lambda x: function(x[:, 0]), normal_density(2), x)


def test_multivariate_normal_of_many_points():
    x, cov = RNG.normal(size=(4, 3)), np.cov(RNG.normal(size=(3, 9)))
    law = stats.multivariate_normal(np.ones(3), cov)
    f = nbhvp.differentiable(lambda x: np.sum(law.logpdf(x)), target="interpret")
    assert f(x) == pytest.approx(np.sum(law.logpdf(x)), rel=1e-13)
    inverse = np.linalg.inv(cov)
    np.testing.assert_allclose(f.grad(x), -(x - 1) @ inverse, 1e-10)
    np.testing.assert_allclose(f.hvp(x, x), -x @ inverse, 1e-10)
    for other in (1.5, [1.0, 2.0, 3.0]):
        g = nbhvp.differentiable(
            lambda x, c=other: np.sum(stats.multivariate_normal.pdf(x, np.zeros(3), c)),
            target="interpret",
        )
        diagonal = np.diag(np.broadcast_to(other, 3))
        needed = np.sum(stats.multivariate_normal.pdf(x, np.zeros(3), diagonal))
        assert g(x) == pytest.approx(needed, rel=1e-13)


def test_rosen():
    f = nbhvp.differentiable(optimize.rosen, target="interpret")
    g = nbhvp.differentiable(lambda x: optimize.rosen(x), target="interpret")
    x, v = RNG.normal(size=(2, 6))
    assert g(x) == pytest.approx(optimize.rosen(x), rel=1e-14)
    np.testing.assert_allclose(g.grad(x), optimize.rosen_der(x), 1e-12)
    np.testing.assert_allclose(g.hvp(x, v), optimize.rosen_hess_prod(x, v), 1e-12)
    np.testing.assert_array_equal(f.hvp(x, v), g.hvp(x, v))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: stats.vonmises.cdf(x, 2.0).sum(),
        lambda x: stats.poisson.logpdf(2, x).sum(),
        lambda x: stats.multivariate_normal.logpdf(x, allow_singular=True).sum(),
    ],
    ids=["vonmises.cdf", "logpdf of a discrete law", "singular"],
)
def test_what_is_refused(function):
    with pytest.raises((nbhvp.TraceError, AttributeError), match=r"test_stats\.py|attribute"):
        nbhvp.differentiable(function, target="interpret").grad(np.ones(2))


def test_random_draws_are_refused():
    with pytest.raises(nbhvp.TraceError, match="random"):
        nbhvp.differentiable(lambda x: np.sum(x * stats.norm.rvs(size=2)), target="interpret").grad(
            np.ones(2)
        )
