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
from tests.cases.mpmath.special import (
    CASES,
    lower_beta,
    lower_gamma,
    upper_beta,
    upper_gamma,
)
from tests.checks import THOROUGH

pytestmark = pytest.mark.usefixtures("unsplit")

RNG = np.random.default_rng(5)
NOISE = 1e-32


def points_of(domains, chosen, count=3 if THOROUGH else 2):
    """Random points and the special ones: one row per variable."""
    rows = [RNG.uniform(low, high, count) for low, high in domains]
    more = [point if isinstance(point, tuple) else (point,) for point in chosen]
    return np.array([*zip(*rows, strict=True), *more]).T


def second_order(oracle, point):
    """Value, gradient and Hessian at one point, by differences of 115 digits that are right to 40."""
    n, step = len(point), mp.mpf("1e-34")
    with mp.workdps(115):
        # Of (), (j,) and (j, k): what the oracle gives a step along j and k away, and backwards.
        at = lambda sign, *which: mp.re(
            oracle(*(mp.mpf(x) + sign * step * which.count(j) for j, x in enumerate(point)))
        )
        value, gradient, hessian = at(0), np.zeros(n), np.zeros((n, n))
        ends = [(at(1, j), at(-1, j)) for j in range(n)]
        bends = [up + down - 2 * value for up, down in ends]
        for j, (up, down) in enumerate(ends):
            gradient[j], hessian[j, j] = (up - down) / (2 * step), bends[j] / step**2
        for j, k in itertools.combinations(range(n), 2):
            bend = at(1, j, k) + at(-1, j, k) - 2 * value - bends[j] - bends[k]
            hessian[j, k] = hessian[k, j] = bend / (2 * step**2)
    return float(value), gradient, hessian


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


@pytest.mark.compiles
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
