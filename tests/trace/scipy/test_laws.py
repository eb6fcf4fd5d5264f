"""All continuous laws of scipy.stats against differences of SciPy's own methods.

Differences of order 6 in steps of 2e-4 of a parameter's size are right to some 1e-8, where SciPy's values
are to 1e-12; test_stats has mpmath for the laws that are used most.
"""

import numpy as np
import pytest
from scipy import stats

import nbhvp
from nbhvp.trace.record import record
from tests.cases import laws

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("unsplit")]

Q, WEIGHTS = np.array([0.23, 0.45, 0.71]), np.array([1.0, 0.7, 1.3])
THERE = [name for name in laws.LAWS if hasattr(stats, name)]
"""Older versions of SciPy have fewer."""


def point_of(name: str) -> np.ndarray:
    """Three arguments inside of the support, shapes, loc and scale."""
    parameters = [*laws.LAWS[name], 0.3, 1.7]
    law = getattr(stats, name)
    return np.array([*law.ppf(Q, *parameters), *parameters])


def slope(function, x, v, step):
    """The derivative along v by differences of order 6."""
    weights = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}
    return sum(
        w * (function(x + k * step * v) - function(x - k * step * v)) for k, w in weights.items()
    ) / step  # fmt: skip


def assert_slope(found, function, x, v):
    needed = slope(function, x, v, 2e-4)
    assert np.max(abs(found - needed)) < 1e-7 * (1 + np.max(abs(needed)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
# The shape of erlang, which has to be whole, is compared with what it is rounded to.
@pytest.mark.filterwarnings("ignore:a branch is taken here:UserWarning")
@pytest.mark.parametrize("name", [n for n in THERE if "all" not in laws.REFUSED.get(n, ())])
def test_law(name):
    law, x, refused = getattr(stats, name), point_of(name), laws.refused(name)
    n, rng = len(Q), np.random.default_rng(12)  # the same directions in any order of tests

    def function(z):
        return np.array([
            np.sum(WEIGHTS * getattr(law, m)(Q if m in ("ppf", "isf") else z[:n], *z[n:]))
            for m in laws.METHODS
            if m not in refused
        ])  # fmt: skip

    f = nbhvp.differentiable(function, target="interpret")
    v = rng.normal(size=x.size) * np.maximum(0.2, abs(x))
    w = rng.normal(size=len(laws.METHODS) - len(refused))
    np.testing.assert_allclose(f(x), function(x), 1e-11, 1e-13)
    assert_slope(f.jvp(x, v), function, x, v)
    assert_slope(f.weighted_hessian(x, w) @ v, lambda z: f.vjp(z, w), x, v)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", [n for n in laws.REFUSED if n in THERE])
def test_what_is_refused_says_so(name):
    law, shapes = getattr(stats, name), laws.LAWS[name]
    x = np.array([0.4, *shapes, 0.0, 1.0])
    for method in laws.refused(name):
        with pytest.raises(nbhvp.TraceError, match=r"test_laws\.py"):
            record(lambda z, method=method: getattr(law, method)(z[0], *z[1:]), x)


def test_most_laws_are_followed():
    assert sum("logpdf" not in laws.refused(name) for name in laws.LAWS) >= 95


def test_the_table_has_all_laws():
    known = {law.name for law in vars(stats).values() if isinstance(law, stats.rv_continuous)}
    assert known - {"trapz"} <= laws.LAWS.keys()  # in old versions, a name of trapezoid
