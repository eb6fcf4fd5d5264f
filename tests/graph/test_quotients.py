"""Derivatives in which a factor meets its own reciprocal, where the reciprocal overflows."""

import numpy as np
import pytest
import scipy.special as special

import nbhvp
from nbhvp.graph.derive import EXACT_MODES

SMALL = np.array([5e-324, 1e-320, 1e-310, 2.3e-308, 1e-300, 1e-160, 0.3])
LOG = np.log(SMALL)
with np.errstate(over="ignore"):
    INVERSE = 1 / SMALL

FUNCTIONS = {
    "x log x": (lambda x: x * np.log(x), LOG + 1, INVERSE),
    "scaled": (lambda x: -3 * x * np.log(x), -3 * LOG - 3, -3 * INVERSE),
    "log x x": (lambda x: np.log(x) * (2 * x), 2 * LOG + 2, 2 * INVERSE),
    "x log2 x": (lambda x: x * np.log2(x), (LOG + 1) / np.log(2), INVERSE / np.log(2)),
    "x log10 x": (lambda x: x * np.log10(x), (LOG + 1) / np.log(10), INVERSE / np.log(10)),
    "x^2 log x": (lambda x: x * x * np.log(x), 2 * SMALL * LOG + SMALL, 2 * LOG + 3),
    "xlogy": (lambda x: special.xlogy(x, x), LOG + 1, INVERSE),
    "entr": (lambda x: special.entr(x), -LOG - 1, -INVERSE),
    "rel_entr": (lambda x: special.rel_entr(x, 2.0), LOG - np.log(2) + 1, INVERSE),
    "kl_div": (lambda x: special.kl_div(x, 1.0), LOG, INVERSE),
    "entropy of parts": (
        lambda x: -np.stack([x, x]) * np.log(np.stack([x, x])) / 2,
        -LOG - 1,
        -INVERSE,
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_subnormal_numbers(name):
    fun, gradient, diagonal = FUNCTIONS[name]
    f = nbhvp.differentiable(lambda x: np.sum(fun(x)), target="interpret")
    np.testing.assert_allclose(f.grad(SMALL), gradient, rtol=1e-13, atol=1e-321)
    for mode in EXACT_MODES:
        product = f.hvp(SMALL, np.ones(SMALL.size), mode=mode)
        np.testing.assert_allclose(product, diagonal, rtol=1e-13)


@pytest.mark.compiles
@pytest.mark.no_cover
def test_compiled():
    names = ["x log x", "x log2 x", "rel_entr"]
    f = nbhvp.differentiable(lambda x: sum(np.sum(FUNCTIONS[name][0](x)) for name in names))
    with np.errstate(over="ignore"):
        gradient, diagonal = (sum(FUNCTIONS[name][k] for name in names) for k in (1, 2))
    np.testing.assert_allclose(f.grad(SMALL), gradient, rtol=1e-12)
    np.testing.assert_allclose(f.hvp(SMALL, np.ones(SMALL.size)), diagonal, rtol=1e-12)


@pytest.mark.parametrize(
    "fun", [lambda x: x * (1 / x), lambda x: x * np.log(x), lambda x: special.xlogy(x, x) / x]
)
def test_values_are_computed_as_written(fun):
    """A quotient of the user's that is 0 / 0 stays one."""
    assert np.isnan(nbhvp.differentiable(fun, target="interpret")(np.zeros(1)))


def test_xlogy_keeps_its_domain():
    f = nbhvp.differentiable(lambda x: special.xlogy(x, x), target="interpret")
    assert f(np.zeros(1)) == 0
    assert np.isnan(f(-np.ones(1)))


@pytest.mark.compiles
def test_rel_entr_over_all_quotients():
    x = np.array([1e-320, 1e-300, 1e300, 1e308, 0.5, 1.0])
    y = np.array([1e300, 5.0, 1e-300, 1e-10, 0.5, 1e-320])
    with np.errstate(over="ignore"):
        needed = x * (np.log(x) - np.log(y))
    f = nbhvp.differentiable(lambda x, y: special.rel_entr(x, y) * 1)
    np.testing.assert_allclose(f(x, y), needed, rtol=1e-13)
