"""How much memory calls take: NumPy's arrays are counted by tracemalloc."""

import gc
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import nbhvp
from benchmarks.problems import make_logistic, make_rosenbrock
from nbhvp.graph.linear_map import HESSIANS

pytestmark = pytest.mark.filterwarnings("error")

N = 1_000_000
HESSIAN = HESSIANS["forward-over-reverse"]


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


@pytest.mark.compiles
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


@pytest.mark.compiles
def test_what_a_function_closes_over_is_not_copied(arrays_of):
    small = make_logistic((200, 50))
    nbhvp.differentiable(small.fun).hvp(small.x0, small.v)
    problem = make_logistic((20_000, 50))
    f = nbhvp.differentiable(problem.fun)
    assert arrays_of(lambda: f.hvp(problem.x0, problem.v), problem.data["X"].size) < 0.3


@pytest.mark.compiles
def test_large_arguments_are_not_copied(arrays_of):
    f = nbhvp.differentiable(lambda x, a: np.sum(np.sin(a @ x)))
    f.hvp(np.ones(50), np.ones(50), np.ones((200, 50)))
    a = np.ones((20_000, 50))
    assert arrays_of(lambda: f.hvp(np.ones(50), np.ones(50), a), a.size) < 0.3


@pytest.mark.compiles
def test_a_large_workspace_is_kept_once():
    f = nbhvp.differentiable(lambda x: np.sum(np.exp(np.cumsum(x) ** 2 / x.size)))
    x = np.linspace(0, 1, 200_000)
    operators = [f.hessian(x + k) for k in range(3)]
    for H in operators:
        H @ x
    product = operators[0]._point.recorded.linearized(HESSIAN).product
    del H, operators
    f.hessian(x + 9)
    assert len(product._free) == 1


# Instances whose methods are differentiable.


class Scaled:
    def __init__(self, factor):
        self.factor, self.weights, self.parts = factor, np.full(3, factor), {"list": [factor]}

    @nbhvp.differentiable(target="interpret")
    def fun(self, x):
        return np.sum(self.weights * x**2) * self.factor * len(self.parts["list"]) * self.two()

    def two(self):
        return 2.0


class Derived(Scaled):
    @nbhvp.differentiable(target="interpret")
    def fun(self, x):
        return np.sum(x**2) * self.factor * super().two()


class Equal(Scaled):
    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0


@nbhvp.elementwise(partials=lambda z, x: np.cos(x))
def own_sin(x):
    return np.sin(x)


class WithRule(Scaled):
    """The derivative of a rule is traced later than the method."""

    @nbhvp.differentiable(target="interpret")
    def fun(self, x):
        return np.sum(own_sin(x)) * self.factor


class Slotted:
    __slots__ = ("__weakref__", "factor")

    def __init__(self, factor):
        self.factor = factor

    @nbhvp.differentiable(target="interpret")
    def fun(self, x):
        return np.sum(x**2) * self.factor


class ByClass(Scaled):
    rate = 2.0

    @nbhvp.differentiable(target="interpret")
    def fun(self, x):
        return np.sum(x**2) * self.factor * type(self).rate


def memory_of(kind):
    return next(vars(base)["fun"] for base in kind.__mro__ if "fun" in vars(base))._memory


@pytest.mark.parametrize("kind", [Scaled, Derived, Equal, WithRule, Slotted, ByClass])
def test_dead_instances_leave_nothing(kind):
    x, references = np.ones(3), []
    for k in range(12):
        instance = kind(float(k))
        instance.fun(x), instance.fun.grad(x), instance.fun.hvp(x, x), instance.fun.hessian(x)
        references.append(weakref.ref(instance))
    del instance
    gc.collect()
    assert not any(reference() for reference in references)
    assert memory_of(kind).traces == ()
    assert memory_of(kind).point is None


def test_the_living_keep_their_traces():
    x, living, dying = np.ones(3), Scaled(2.0), Scaled(3.0)
    for instance in (living, dying):
        instance.fun(x)
    memory = memory_of(Scaled)
    with memory.compiler.lock:
        thread = threading.Thread(target=gc.collect)
        del instance, dying  # while another thread may hold the lock, which is no reason to wait
        thread.start()
        thread.join()
    assert len([*filter(None, (t.key[0].is_alive() for t in memory.traces))]) == 1
    assert living.fun(x) == 24.0
    living.factor = 1.0
    assert living.fun(x) == 12.0
    living.parts["list"].append(1)
    assert living.fun(x) == 24.0
    living.__class__ = Derived
    assert Scaled.fun.__get__(living, Scaled)(x) == 24.0


def test_a_lock_that_is_held_elsewhere_is_not_waited_for():
    dying = Scaled(3.0)
    dying.fun(np.ones(3))
    memory = memory_of(Scaled)
    held, done = threading.Event(), threading.Event()

    def hold():
        with memory.compiler.lock:
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    del dying
    gc.collect()
    done.set()
    thread.join()
    Scaled(4.0).fun(np.ones(3))
    gc.collect()
    assert memory.traces == ()
