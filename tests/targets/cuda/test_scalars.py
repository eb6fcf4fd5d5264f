"""Scalar functions that a GPU has no library for, against mpmath and SciPy, as plain Python."""

import mpmath
import numpy as np
import pytest
from scipy import special

from nbhvp.targets.cuda.kernels import scalars

RNG = np.random.default_rng(0)
FAR = [
    *(2.0 ** RNG.uniform(20, 1023.9, 150) * RNG.choice([-1, 1], 150)),
    6381956970095103 * 2.0**797,  # of all doubles the one nearest to a multiple of pi / 2
    1e22, 2.0**1023, np.finfo(float).max, 2.0**24, 3 * 2.0**24, 2.0**20 + 1,
]  # fmt: skip


def ulps(function, reference, points, bits=200) -> float:
    """The largest error, in units of the last place of the right value."""
    with mpmath.workprec(bits):
        needed = [reference(mpmath.mpf(float(x))) for x in points]
        errors = [
            abs(mpmath.mpf(float(function(float(x)))) - y) / np.spacing(abs(float(y)))
            for x, y in zip(points, needed, strict=True)
        ]
    return float(max(errors))


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_large_arguments(name):
    far = getattr(scalars, f"far_{name}")
    assert ulps(far, getattr(mpmath, name), FAR, bits=2200) < 1
    assert all(np.isnan([far(np.inf), far(-np.inf), far(np.nan)]))


def test_erfc():
    points = [*np.linspace(-6, 26, 200), 0.0, 1e-10]
    assert ulps(scalars.own_erfc, mpmath.erfc, points) < 6
    edges = [np.inf, -np.inf, 40.0]
    np.testing.assert_array_equal([scalars.own_erfc(x) for x in edges], special.erfc(edges))
    assert np.isnan(scalars.own_erfc(np.nan))


def test_log_gamma():
    points = [*np.linspace(0.001, 30, 300), *np.geomspace(1e-300, 1e300, 60)]
    assert ulps(scalars.log_gamma, mpmath.loggamma, points) < 5
    for x in -RNG.uniform(0, 30, 100):
        needed = mpmath.log(abs(mpmath.gamma(mpmath.mpf(x))))
        assert abs(scalars.log_gamma(x) - needed) < 1e-14 * max(1, abs(needed))


POINTS = [*np.linspace(-9.97, 30, 200), 0.0, -0.0, -2.0, 1.0, 2.0, 1e-300, np.inf, -np.inf, np.nan]


NAMES = sorted(scalars.FUNCTIONS)


@pytest.mark.parametrize("name", NAMES)
def test_they_are_scipys(name):
    needed, name = getattr(special, name), scalars.FUNCTIONS[name]
    with np.errstate(all="ignore"):
        found = [getattr(scalars, name)(float(x)) for x in POINTS]
    np.testing.assert_allclose(found, needed(POINTS), rtol=1e-13, atol=2e-14)


RANGES = {
    "gamma": (mpmath.gamma, [*np.linspace(-30.3, 171.6, 300), 1e-300, 1e-5, 2.5, 1.5], 20),
    "reciprocal_gamma": (mpmath.rgamma, [*np.linspace(-30.3, 170, 200)], 20),
    "erfcx": (lambda x: mpmath.exp(x * x) * mpmath.erfc(x), [*np.linspace(-26, 60, 200), 1e9], 6),
    "log_ndtr": (lambda x: mpmath.log(mpmath.ncdf(x)), [*np.linspace(-40, 5, 200)], 16),
}


@pytest.mark.parametrize("name", RANGES)
def test_digits(name):
    reference, points, most = RANGES[name]
    with np.errstate(all="ignore"):
        assert ulps(getattr(scalars, name), reference, points) < most


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("x", [3.0, -4e200, 1e-310, 0.0, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("y", [4.0, 3e200, -1e-310, -0.0, np.inf, np.nan])
def test_hypot(x, y):
    np.testing.assert_allclose(scalars.own_hypot(x, y), np.hypot(x, y), rtol=1e-15)
