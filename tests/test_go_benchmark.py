"""The published test functions: derivatives where solvers start, the way down, the known minimum."""

import functools

import numpy as np
import pytest

import nbhvp
from tests.go_benchmark import PROBLEMS

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("unsplit")]

COMPILED = ("griewank", "watson", "hartmann_6", "schwefel_26")
METHODS = ("trust-krylov", "trust-exact")
LONG_STEPS = ("paviani", "osborne")
"""Where the first steps of trust-exact leave the domain of log, or make exp overflow."""
names = pytest.mark.parametrize(
    "name", PROBLEMS, ids=lambda name: f"{name} compiled" if name in COMPILED else name
)


@functools.cache  # its programs serve all tests
def function(name: str) -> nbhvp.Function:
    target = "cpu" if name in COMPILED else "interpret"
    return nbhvp.differentiable(PROBLEMS[name].fun, target=target)


def test_there_are_many():
    assert len(PROBLEMS) >= 100
    assert set(COMPILED) <= set(PROBLEMS)


@names
def test_derivatives_at_the_start(name):
    report = nbhvp.check(function(name), PROBLEMS[name].start, directions=1)
    assert report.passed, str(report)


@names
def test_solvers_go_down(name):
    x, f = PROBLEMS[name].start, function(name)
    method = METHODS[0 if name in LONG_STEPS else len(name) % 2]
    result = nbhvp.minimize(f, x, method=method, options={"maxiter": 30})
    assert result.fun <= f(x)


@names
def test_the_known_minimum(name):
    problem = PROBLEMS[name]
    tolerance = 10.0**-problem.digits * max(1.0, abs(problem.value))
    assert abs(problem.fun(problem.best) - problem.value) <= tolerance
    if problem.smooth:
        rng = np.random.default_rng(0)
        away = 1e-3 * rng.normal(size=problem.best.size) * np.maximum(1e-2, np.abs(problem.best))
        result = nbhvp.minimize(function(name), problem.best + away, method="trust-exact")
        assert result.fun <= problem.value + tolerance
