"""How much memory calls take: NumPy's arrays are counted by tracemalloc."""

import tracemalloc

import numpy as np
import pytest

import nbhvp
from benchmarks.problems import make_logistic, make_rosenbrock

pytestmark = pytest.mark.filterwarnings("error")

N = 1_000_000


@pytest.fixture
def arrays_of():
    """Gives the peak of a call beyond what was there before, in arrays of n doubles."""

    def measure(call, n):
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        result = call()
        _, peak = tracemalloc.get_traced_memory()
        assert result is not None
        return (peak - before) / (8 * n)

    tracemalloc.start()
    yield measure
    tracemalloc.stop()


def test_a_product_of_many_variables(arrays_of):
    problem = make_rosenbrock(N)
    f, x, v = nbhvp.differentiable(problem.fun), problem.x0, problem.v
    small = make_rosenbrock(10)
    nbhvp.differentiable(small.fun).hvp(small.x0, small.v)
    # The result, and two more: while NumPy traces, or the copy of x by which it is remembered.
    assert arrays_of(lambda: f.hvp(x, v), N) < 3.1
    assert arrays_of(lambda: f.hvp(x, v), N) < 1.01
    assert arrays_of(lambda: f.hvp(x + 1, v), N) < 3.01  # x + 1 is one
    H = f.hessian(x)
    assert arrays_of(lambda: H @ v, N) < 1.01


def test_what_a_function_closes_over_is_not_copied(arrays_of):
    small = make_logistic((200, 50))
    nbhvp.differentiable(small.fun).hvp(small.x0, small.v)
    problem = make_logistic((20_000, 50))
    f = nbhvp.differentiable(problem.fun)
    assert arrays_of(lambda: f.hvp(problem.x0, problem.v), problem.data["X"].size) < 0.3


def test_large_arguments_are_not_copied(arrays_of):
    f = nbhvp.differentiable(lambda x, a: np.sum(np.sin(a @ x)))
    f.hvp(np.ones(50), np.ones(50), np.ones((200, 50)))
    a = np.ones((20_000, 50))
    assert arrays_of(lambda: f.hvp(np.ones(50), np.ones(50), a), a.size) < 0.3


def test_a_large_workspace_is_kept_once():
    f = nbhvp.differentiable(lambda x: np.sum(np.exp(np.cumsum(x) ** 2 / x.size)))
    x = np.linspace(0, 1, 200_000)
    operators = [f.hessian(x + k) for k in range(3)]
    for H in operators:
        H @ x
    product = operators[0]._point.recorded.linearized("forward-over-reverse").product
    del H, operators
    f.hessian(x + 9)
    assert len(product._free) == 1
