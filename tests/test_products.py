"""The shared problems end to end: trace, derive, compile, run, against hand-derived closed forms.

The closed forms themselves are checked against the complex step and mpmath in test_problems.
"""

import numpy as np
import pytest

import nbhvp
from benchmarks import problems
from nbhvp.graph.derive import EXACT_MODES

pytestmark = [pytest.mark.compiles, pytest.mark.no_cover]

PROBLEMS = {problem.name: problem for problem in problems.small(0)}


def error(got, expected):
    return np.abs(got - expected).max() / np.abs(expected).max()


@pytest.fixture(scope="module", params=PROBLEMS)
def case(request):
    problem = PROBLEMS[request.param]
    return problem, nbhvp.differentiable(problem.fun)


def test_value_gradient_and_product_are_those_derived_by_hand(case):
    problem, f = case
    x, v, args = problem.x0, problem.v, problem.args
    assert abs(f(x, *args) - problem.fun(x, *args)) <= 1e-12 * abs(problem.fun(x, *args))
    assert error(f.grad(x, *args), problem.gradient(x, *args)) <= 1e-12
    assert error(f.hvp(x, v, *args), problem.hvp(x, v, *args)) <= 1e-12
    assert error(f.hessian(x, *args) @ v, problem.hvp(x, v, *args)) <= 1e-12


def test_the_exact_modes_agree(case):
    problem, _ = case
    # Interpreted: the modes are three graphs, and their programs would triple the compile time.
    f = nbhvp.differentiable(problem.fun, target="interpret")
    products = [f.hvp(problem.x0, problem.v, *problem.args, mode=mode) for mode in EXACT_MODES]
    for product in products[1:]:
        assert error(product, products[0]) <= 1e-11


def test_at_another_point_nothing_is_traced_anew(case):
    problem, f = case
    x = 1.01 * problem.x0 + 0.01
    assert (
        error(f.hvp(x, problem.v, *problem.args), problem.hvp(x, problem.v, *problem.args)) < 1e-12
    )
    assert f.report().retraces == 0


@pytest.mark.parametrize(
    "mode, bound", [("finite-difference", 1e-7), ("finite-difference-forward", 1e-5)]
)
def test_differences_of_the_gradient_are_near(mode, bound):
    problem = PROBLEMS["rosenbrock"]
    f = nbhvp.differentiable(problem.fun, target="interpret")
    assert (
        error(f.hvp(problem.x0, problem.v, mode=mode), problem.hvp(problem.x0, problem.v)) < bound
    )


FAR = {
    "up and down": [1e200, 1e-300, 1e200, 1e-50],
    "down first": [1.0, 1e-200, 1e200, 1e200],
    "in turn": [1e160, 1e-160] * 6,
    "many": [1e300, 1e-300] * 8,
    "overflow on the way": [1e200, 1e200, 1e-300],
    "underflow on the way": [1e-200, 1e-200, 1e300, 1e200],
    "zeros": [0.0, 1e300, 1e-300, 0.0],
    "single precision": np.array([1e30, 1e-30, 1e30], np.float32),
}


@pytest.mark.parametrize("name", FAR)
def test_products_overflow_where_numpys_do(name):
    factors = np.array(FAR[name])
    f = nbhvp.differentiable(lambda x: np.prod(x), target="interpret")
    with np.errstate(all="ignore"):
        assert f(factors) == np.prod(factors)
        rows = nbhvp.differentiable(lambda x: np.multiply.reduce(x, axis=0), target="interpret")
        np.testing.assert_array_equal(
            rows(np.stack([factors, factors], axis=1)), np.prod(factors) * np.ones(2)
        )
        if factors.size <= 8:
            others = [np.prod(np.delete(factors, k)) for k in range(factors.size)]
            np.testing.assert_array_equal(f.grad(factors), np.array(others, factors.dtype))
