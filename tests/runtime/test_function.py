"""Function: values and derivatives at every kind of x, what may change between calls, counts."""

import copy
import functools
import gc
import itertools
import pickle
import re
import subprocess
import sys
import weakref

import numpy as np
import pytest
import scipy.optimize
from scipy.optimize import rosen, rosen_der, rosen_hess_prod

import nbhvp
from nbhvp.runtime import memory
from nbhvp.runtime.calls.call import LARGE, same_bits
from nbhvp.runtime.memory import MOST_TRACES
from nbhvp.targets.cpu.entries import forms

EXACT = ("forward-over-reverse", "reverse-over-forward", "reverse-over-reverse")
DIFFERENCES = {"finite-difference": 1e-8, "finite-difference-forward": 1e-4}
both_targets = pytest.mark.parametrize("target", ["interpret", "cpu"])


def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def quartic(x):
    """Its product needs state on any target: exp(x)."""
    return np.sum(np.exp(x)) + np.sum(x**2) ** 2


def quartic_hvp(x, v):
    return np.exp(x) * v + 4 * np.sum(x**2) * v + 8 * x * np.sum(x * v)


@nbhvp.differentiable
def named(x, scale=1.0):
    """A function that a module knows by name."""
    return scale * np.sum(x**3)


def relative(given, needed):
    given, needed = np.asarray(given), np.asarray(needed)
    assert given.shape == needed.shape
    return np.linalg.norm(given - needed) / max(np.linalg.norm(needed), 1e-300)


# Values and derivatives.


@both_targets
@pytest.mark.parametrize("n", [2, 20, 1000])
def test_rosenbrock_is_that_of_scipy(n, target):
    f = nbhvp.differentiable(rosenbrock, target=target)
    rng = np.random.default_rng(n)
    x, v = rng.normal(size=(2, n))
    assert f(x) == pytest.approx(rosen(x), rel=1e-13)
    assert relative(f.grad(x), rosen_der(x)) < 1e-12
    assert relative(f.value_and_grad(x)[1], rosen_der(x)) < 1e-12
    for mode in EXACT:
        assert relative(f.hvp(x, v, mode=mode), rosen_hess_prod(x, v)) < 1e-12
    for mode, tolerance in DIFFERENCES.items():
        assert relative(f.hvp(x, v, mode=mode), rosen_hess_prod(x, v)) < tolerance


def grid(x):
    return np.sum(np.sin(x[0] * x[-1])) + np.sum(x**4)


X = np.linspace(-1.0, 1.0, 6).reshape(2, 3)


@both_targets
@pytest.mark.parametrize(
    "x",
    [
        X,
        np.asfortranarray(X),
        np.repeat(X, 2, axis=1)[:, ::2],
        X[::-1, ::-1],
        X.astype(">f8"),
        np.broadcast_to(X[:, :1], (2, 3)),
        X.tolist(),
        np.arange(6).reshape(2, 3),
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        X > 0,
    ],
    ids=["C", "F", "strided", "reversed", "swapped", "broadcast", "list", "int", "uint8", "bool"],
)
def test_any_layout_and_any_real_dtype(x, target):
    f = nbhvp.differentiable(grid, target=target)
    plain = np.array(x, dtype=float)
    v = np.cos(plain)
    before = copy.deepcopy(x)
    for result in (f.grad(x), f.hvp(x, np.asfortranarray(v)), f.hvp(x, v.tolist())):
        assert result.shape == (2, 3) and result.dtype == np.float64
    assert f(x) == f(plain)
    np.testing.assert_array_equal(f.grad(x), f.grad(plain))
    np.testing.assert_array_equal(f.hvp(x, v), f.hvp(plain, v))
    np.testing.assert_array_equal(x, before)


@pytest.mark.compiles
def test_read_only_x_and_v():
    f = nbhvp.differentiable(quartic)
    x, v = np.ones((2, 4))
    x.flags.writeable = v.flags.writeable = False
    assert relative(f.hvp(x, v), quartic_hvp(x, v)) < 1e-14
    assert f.grad(x).flags.writeable


@both_targets
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0)])
def test_scalar_empty_and_single(shape, target):
    f = nbhvp.differentiable(lambda x: np.sum(x**3), target=target)
    x = np.full(shape, 2.0)
    assert f(x) == 8.0 * x.size
    np.testing.assert_array_equal(f.grad(x), np.full(shape, 12.0))
    np.testing.assert_array_equal(f.hvp(x, x), np.full(shape, 24.0))
    assert f.hvp(x, np.zeros((*shape, 4))).shape == (*shape, 4)
    assert f.hessian(x).toarray().shape == (x.size, x.size)


@both_targets
def test_float32_stays_float32(target):
    f = nbhvp.differentiable(quartic, target=target)
    x = np.linspace(0, 1, 5, dtype=np.float32)
    assert f(x).dtype == f.grad(x).dtype == f.hvp(x, np.ones(5)).dtype == np.float32
    H = f.hessian(x)
    assert H.dtype == (H @ np.ones(5)).dtype == np.float32
    assert relative(f.hvp(x, np.ones(5)), quartic_hvp(x, np.ones(5))) < 1e-5


@pytest.mark.parametrize(
    "x, words",
    [
        (np.ones(3) * 1j, "complex128.*real and imaginary"),
        (np.ones(3, np.float16), "float16.*astype"),
        (np.ones(3, np.longdouble), "longdouble|float128"),
        (np.array([1, None]), "object"),
        ("x", "U1"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), "MaskedArray.*filled"),
    ],
)
@pytest.mark.parametrize("method", ["__call__", "grad", "hessian"])
def test_refused_x(method, x, words):
    f = nbhvp.differentiable(lambda x: np.sum(x))
    with pytest.raises(TypeError, match=f"(?s)x must be.*{words}"):
        getattr(f, method)(x)


@both_targets
def test_batches_of_directions(target):
    f = nbhvp.differentiable(grid, target=target)
    V = np.random.default_rng(0).normal(size=(2, 3, 5))
    for mode in (*EXACT, "finite-difference"):
        product = f.hvp(X, V, mode=mode)
        assert product.shape == V.shape
        for k in range(5):
            np.testing.assert_array_equal(product[..., k], f.hvp(X, V[..., k], mode=mode))
    assert f.hvp(X, V[..., :0]).shape == (2, 3, 0)


@pytest.mark.compiles
@pytest.mark.parametrize("shape", [(6,), (3,), (2, 2), (3, 2), (2, 3, 1, 1), ()])
def test_wrong_direction(shape):
    f = nbhvp.differentiable(grid)
    for mode in (*EXACT, *DIFFERENCES):
        with pytest.raises(
            ValueError, match=rf"\(2, 3\) or \(2, 3, k\), got {re.escape(str(shape))}"
        ):
            f.hvp(X, np.ones(shape), mode=mode)
    with pytest.raises(TypeError, match="v must be real, got complex128"):
        f.hvp(X, X * 1j)


# Keywords of the function itself.


def with_keywords(x, mode="a", v=1.0, w=1.0, *, self=0.0, args=(), fun=1.0, target=1.0):
    """Each keyword has a factor of its own."""
    factor = {"a": 1.0, "b": 2.0, "finite-difference": 3.0}[mode] * v * w * fun * target
    return factor * np.sum(x**3) + self * np.sum(x**2) + sum(args) * x[0] ** 2


KEYWORDS = [
    {"mode": "b"},
    {"mode": "finite-difference"},
    {"v": 2.0},
    {"w": 3.0, "v": 0.5},
    {"self": 2.0},
    {"args": (1.0, 2.0)},
    {"fun": 2.0, "target": 0.5, "mode": "b", "self": 1.0},
]


@pytest.mark.parametrize("kw", KEYWORDS)
def test_keywords_of_the_function_itself(kw):
    f = nbhvp.differentiable(with_keywords, target="interpret")
    x, v = np.array([1.0, -2.0]), np.array([3.0, 0.5])
    plain = nbhvp.differentiable(lambda x: with_keywords(x, **kw), target="interpret")
    for _ in range(2):
        assert f(x, **kw) == with_keywords(x, **kw)
        np.testing.assert_array_equal(f.grad(x, **kw), plain.grad(x))
        assert f.value_and_grad(x, **kw)[0] == plain(x)
        np.testing.assert_array_equal(f.hvp(x, v, **kw), plain.hvp(x, v))
        np.testing.assert_array_equal(f.hvp(x, v), f.hvp(x, v, mode="a"))
        np.testing.assert_array_equal(f.hessian(x, **kw) @ v, plain.hvp(x, v))
        np.testing.assert_array_equal(f.jvp(x, v, **kw), plain.jvp(x, v))
        np.testing.assert_array_equal(f.vjp(x, 2.0, **kw), plain.vjp(x, 2.0))
        np.testing.assert_array_equal(f.jacobian(x, **kw).toarray(), plain.jacobian(x).toarray())
        np.testing.assert_array_equal(f.weighted_hessian(x, 2.0, **kw) @ v, 2 * plain.hvp(x, v))


class Keyed:
    @nbhvp.differentiable(target="interpret")
    def loss(self, weights, x, mode="mean"):
        return getattr(np, mode)((x @ weights) ** 2)


@pytest.mark.parametrize("kind", ["method", "partial", "lambda", "njit", "callable"])
def test_a_mode_of_the_function_itself(kind):
    from numba import njit

    class Called:
        def __call__(self, x, mode=2.0):
            return mode * np.sum(x**3)

    fun = {
        "method": Keyed().loss,
        "partial": functools.partial(Called.__call__, None, mode=1.0),
        "lambda": lambda x, *, mode: mode * np.sum(x**3),
        "njit": njit(lambda x, mode: mode * np.sum(x**3)),
        "callable": Called(),
    }[kind]
    x, v = np.array([1.0, -2.0]), np.array([3.0, 0.5])
    if kind == "method":
        A = np.array([[1.0, 2.0], [0.0, 1.0]])
        np.testing.assert_allclose(fun.hvp(v, v, x=A, mode="sum"), 2 * A.T @ A @ v)
        np.testing.assert_allclose(fun.hvp(v, v, x=A, mode="mean"), A.T @ A @ v)
        return
    f = nbhvp.differentiable(fun, target="interpret")
    np.testing.assert_allclose(f.hvp(x, v, mode=5.0), 30 * x * v)


def test_our_mode_where_the_function_has_none():
    x, v = np.array([1.0, -2.0]), np.array([3.0, 0.5])
    for fun in (lambda mode: np.sum(mode**3), lambda x, **mode: np.sum(x**3)):
        f = nbhvp.differentiable(fun, target="interpret")
        np.testing.assert_allclose(f.hvp(x, v, mode="reverse-over-reverse"), 6 * x * v)
        with pytest.raises(ValueError, match="mode must be one of"):
            f.hvp(x, v, mode="a")
    with pytest.raises(TypeError, match="positional"):
        f.hvp(x=x, v=v)


def test_checks_of_functions_with_the_same_keywords():
    f = nbhvp.differentiable(with_keywords, target="interpret")
    x = np.array([1.0, -2.0])
    assert nbhvp.check(f, x, mode="b", v=2.0, fun=3.0).passed

    def seeded(x, seed, directions=1):
        return seed * np.sum(np.sin(x)) ** directions

    report = nbhvp.check(nbhvp.differentiable(seeded, target="interpret"), x, seed=2, directions=3)
    assert report.passed


def test_unknown_mode_and_options():
    with pytest.raises(ValueError, match="mode must be one of forward-over-reverse.*got 'fast'"):
        nbhvp.differentiable(grid).hvp(X, X, mode="fast")
    with pytest.raises(ValueError, match="trace must be 'once' or 'always'"):
        nbhvp.differentiable(grid, trace="twice")
    with pytest.raises(ValueError, match="target must be"):
        nbhvp.differentiable(grid, target="tpu")
    with pytest.raises(TypeError, match="is differentiable already"):
        nbhvp.differentiable(nbhvp.differentiable(grid))
    with pytest.raises(TypeError, match="needed a function"):
        nbhvp.differentiable(3)


@both_targets
def test_results_are_fresh(target):
    f = nbhvp.differentiable(quartic, target=target)
    x, v = np.linspace(0, 1, 4), np.ones(4)
    H = f.hessian(x)
    makers = [lambda: f.grad(x), lambda: f.hvp(x, v), lambda: H @ v, lambda: H.gradient]
    for make in makers:
        first = make()
        expected = first.copy()
        second = make()
        first[:] = np.nan
        np.testing.assert_array_equal(second, expected)
        np.testing.assert_array_equal(make(), expected)
    assert not np.shares_memory(f.hvp(x, v), v)
    linear = nbhvp.differentiable(lambda x: x @ x / 2, target=target)
    assert not np.shares_memory(linear.grad(x), x)
    assert not np.shares_memory(linear.hvp(x, v), v)


@both_targets
def test_nan_and_infinity_flow(target):
    f = nbhvp.differentiable(lambda x: np.sum(np.exp(x)), target=target)
    x = np.array([np.nan, np.inf, -np.inf, 0.0])
    for _ in range(2):
        np.testing.assert_array_equal(f.grad(x), [np.nan, np.inf, 0.0, 1.0])
        np.testing.assert_array_equal(f.hvp(x, np.ones(4)), [np.nan, np.inf, 0.0, 1.0])
    assert np.isnan(f(x))
    assert f.report().point_runs == 1, "a point with NaN is recognised by its bits"


def test_difference_of_a_zero_direction():
    f = nbhvp.differentiable(quartic)
    np.testing.assert_array_equal(f.hvp(np.ones(3), np.zeros(3), mode="finite-difference"), 0.0)


@pytest.mark.compiles
def test_differences_leave_the_remembered_point_alone():
    f = nbhvp.differentiable(quartic)
    x = v = np.ones(3)
    f.hvp(x, v)
    f.hvp(x, v, mode="finite-difference")
    f.hvp(x, v)
    assert f.report().point_runs == 1


# Array results.


@both_targets
@pytest.mark.parametrize(
    "fun",
    [
        lambda x: np.stack([x[0] * x[1], np.sin(x[2]), x[0] ** 2]),
        lambda x: [x[0] * x[1], np.sin(x[2]), x[0] ** 2],
        lambda x: (x[0] * x[1], np.sin(x[2]), x[0] ** 2),
    ],
    ids=["array", "list", "tuple"],
)
def test_jacobian_products(fun, target):
    r = nbhvp.differentiable(fun, target=target)
    x = np.array([1.0, 2.0, 3.0])
    J = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, np.cos(3.0)], [2.0, 0.0, 0.0]])
    np.testing.assert_allclose(r(x), [2.0, np.sin(3.0), 1.0], rtol=1e-15)
    v, w = np.array([0.3, -0.2, 0.5]), np.array([1.0, 2.0, 3.0])
    assert relative(r.jvp(x, v), J @ v) < 1e-14
    assert relative(r.vjp(x, w), J.T @ w) < 1e-14
    assert relative(r.jvp(x, np.outer(v, w)), J @ np.outer(v, w)) < 1e-14
    assert relative(r.jacobian(x).toarray(), J) < 1e-14
    H = np.array([[6.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -2 * np.sin(3.0)]])
    assert relative(r.weighted_hessian(x, w).toarray(), H) < 1e-14


@pytest.mark.compiles
def test_results_of_size_one_count_as_scalars():
    for fun in (lambda x: x[:1] ** 3, lambda x: [x[0] ** 3], lambda x: (x[0] ** 3).reshape(1, 1)):
        f = nbhvp.differentiable(fun)
        x = np.array([2.0, 5.0])
        assert np.size(f(x)) == 1 and np.all(f(x) == 8.0)
        np.testing.assert_array_equal(f.grad(x), [12.0, 0.0])
        np.testing.assert_array_equal(f.jacobian(x).toarray(), [[12.0, 0.0]])
        np.testing.assert_array_equal(f.weighted_hessian(x, [2.0]).toarray(), [[24, 0], [0, 0]])


@pytest.mark.parametrize("method", ["grad", "value_and_grad", "hessian"])
def test_gradient_of_an_array(method):
    def residuals(x):
        return x[1:] - x[:-1]

    r = nbhvp.differentiable(residuals)
    with pytest.raises(
        TypeError, match=r"residuals \(.*test_function.py:\d+\).*\(2,\).*\.jacobian"
    ):
        getattr(r, method)(np.ones(3))
    with pytest.raises(TypeError, match=r"\.jacobian"):
        r.hvp(np.ones(3), np.ones(3))


@pytest.mark.parametrize("w", [np.ones(3), np.ones((2, 2)), 1.0])
def test_wrong_weights(w):
    r = nbhvp.differentiable(lambda x: x[1:] * x[:-1])
    with pytest.raises(ValueError, match=r"w must have shape \(2,\)"):
        r.weighted_hessian(np.ones(3), w)


def test_complex_result_is_refused():
    f = nbhvp.differentiable(lambda x: np.sum(x) * 1j)
    with pytest.raises(TypeError, match="complex"):
        f(np.ones(2))


@both_targets
def test_constant_and_integer_results(target):
    for fun in (lambda x: 3.0, lambda x: np.sum(x > 0), lambda x: x[0] + 0 * x[1]):
        f = nbhvp.differentiable(fun, target=target)
        x = np.array([1.0, -2.0])
        assert f(x) == fun(x)
        np.testing.assert_array_equal(f.hvp(x, x), [0.0, 0.0])


# Control flow on values.


def branched(x):
    if x[0] > 0:
        return np.sum(x**2)
    return np.sum(np.exp(x))


@both_targets
def test_a_failing_guard_makes_a_new_trace(target):
    f = nbhvp.differentiable(branched, target=target)
    v = np.array([1.0, 2.0])
    for _ in range(3):
        for x in ([1.0, 0.5], [-1.0, 0.5], [2.0, 0.5], [-2.0, 0.5]):
            x = np.array(x)
            expected = 2 * v if x[0] > 0 else np.exp(x) * v
            assert f(x) == pytest.approx(branched(x), rel=1e-15)
            assert relative(f.hvp(x, v), expected) < 1e-15
            assert relative(f.hessian(x) @ v, expected) < 1e-15
    report = f.report()
    assert (report.traces, report.retraces) == (2, 1)


@pytest.mark.compiles
def test_no_result_or_error_of_a_trace_that_does_not_hold():
    def fun(x):
        return x if x[0] > 0 else np.sum(x)

    f = nbhvp.differentiable(fun)
    with pytest.raises(TypeError, match="jacobian"):
        f.grad(np.array([1.0, 2.0]))
    np.testing.assert_array_equal(f.grad(np.array([-1.0, 2.0])), [1.0, 1.0])
    with pytest.raises(TypeError, match="jacobian"):
        f.grad(np.array([1.0, 2.0]))
    assert f.report().traces == 2


@pytest.mark.compiles
def test_weights_are_checked_against_the_trace_that_holds():
    r = nbhvp.differentiable(lambda x: x**2 if x[0] > 0 else x[:1] ** 3 + x[1:])
    for x, w in (([1.0, 2.0, 3.0], np.ones(3)), ([-1.0, 2.0, 3.0], np.ones(2))):
        assert r.weighted_hessian(x, w).shape == (3, 3)
        assert r.vjp(x, w).shape == (3,)


@pytest.mark.compiles
@pytest.mark.no_cover
def test_a_loop_until_convergence():
    def root(x):
        """Newton's iteration for the square root of x[0]."""
        y = x[0]
        while abs(y * y - x[0]) > 1e-14 * x[0]:
            y = (y + x[0] / y) / 2
        return y

    f = nbhvp.differentiable(root)
    for x in (2.0, 2.1, 50.0):
        assert f.grad([x]) == pytest.approx(0.5 * x**-0.5, rel=1e-12)
        assert f.hvp([x], [1.0]) == pytest.approx(-0.25 * x**-1.5, rel=1e-10)


def test_the_most_recent_traces_are_kept():
    f = nbhvp.differentiable(lambda x, power: np.sum(x**power), target="interpret")
    for power in range(MOST_TRACES + 8):
        f([1.0], power)
    assert len(f._memory.traces) == MOST_TRACES
    f([1.0], MOST_TRACES)
    assert f.report().traces == MOST_TRACES + 8
    f([1.0], 0)
    assert f.report().traces == MOST_TRACES + 9


def test_each_shape_keeps_its_traces(monkeypatch):
    f = nbhvp.differentiable(lambda x, a: np.sum(a * x), target="interpret")
    count = 2 * MOST_TRACES
    for _ in range(2):
        for size in range(count):
            f([1.0], np.ones(size))
    assert f.report().traces == len(f._memory.traces) == count
    monkeypatch.setattr(memory, "MOST_NODES", 50 * f._memory.latest.nodes)
    f([1.0], np.ones(count))
    assert len(f._memory.traces) == 50


# Arguments.


@pytest.mark.compiles
def test_arrays_and_floats_need_no_new_trace():
    f = nbhvp.differentiable(lambda x, a, b, c: a * np.sum(b["w"] * x**3) + c[0])
    x, v, w = np.arange(1.0, 4.0), np.ones(3), np.array([1.0, 2.0, 3.0])
    for a in (1.0, 2.0, -3.0):
        np.testing.assert_allclose(f.hvp(x, v, a, {"w": w * a}, (a,)), 6 * a * a * w * x)
        np.testing.assert_allclose(f.grad(x, a, {"w": w * a}, c=(a,)), 3 * a * a * w * x**2)
    assert f.report().traces == 2, "one for positional c, one for the keyword"


@pytest.mark.compiles
def test_static_arguments_select_the_trace():
    f = nbhvp.differentiable(lambda x, power, name=None: np.sum(x**power) * (2 if name else 1))
    x = np.array([2.0])
    assert [f(x, 2), f(x, 3), f(x, 2, name="a"), f(x, True)] == [4.0, 8.0, 8.0, 2.0]
    assert f.report().traces == 4 and f.report().retraces == 0


@pytest.mark.compiles
def test_an_array_argument_changed_in_place():
    f = nbhvp.differentiable(lambda x, a: np.sum(a * np.exp(x)))
    x, v, a = np.zeros(3), np.ones(3), np.array([1.0, 2.0, 3.0])
    H = f.hessian(x, a)
    np.testing.assert_array_equal(f.hvp(x, v, a), [1, 2, 3])
    a[0] = 5.0
    np.testing.assert_array_equal(f.hvp(x, v, a), [5, 2, 3])
    np.testing.assert_array_equal(f.grad(x, a), [5, 2, 3])
    np.testing.assert_array_equal(H @ v, [1, 2, 3])


@both_targets
def test_calls_at_the_latest_point_and_at_new_ones_see_every_argument(target):
    """The short way of small calls: one number, its sign, a dtype, a shape, an array's content."""

    def fun(x, a, w):
        return np.sum(w * np.arctan2(x**2, a))

    f = nbhvp.differentiable(fun, target=target)
    x, w = np.array([1.0, 2.0]), np.array([1.0, 3.0])
    for product_made in (False, True):
        for a in (0.5, 0.0, -0.0, np.float64(0.5), np.array([0.5, 1.0]), np.array([1, 2])):
            for k in range(2):
                for at in (x, x.copy(), x + 0.1):
                    assert relative(f(at, a, w), fun(at, a, w)) < 1e-14
                    gradient = w * 2 * at * a / (a**2 + at**4)
                    assert np.allclose(f.grad(at, a, w), gradient, rtol=1e-13, atol=1e-15)
                w[k] += 0.5
        if not product_made:
            f.hvp(x, x, 0.5, w)
    f(x, 0.5, np.ones(1))
    assert relative(f(x, 0.5, w), fun(x, 0.5, w)) < 1e-14
    assert relative(f(x, a=0.5, w=w), fun(x, 0.5, w)) < 1e-14


@both_targets
def test_calls_at_the_latest_point_and_at_new_ones_see_what_is_closed_over(target):
    weights, power, large = np.array([1.0, 2.0]), 2, np.ones(4096)
    f = nbhvp.differentiable(
        lambda x: np.sum(weights * x**power) + np.sum(x) * np.sum(large), target=target
    )
    x = np.ones(2)
    calls = f, lambda x: f.grad(x)[0], lambda x: f.value_and_grad(x)[0]
    for product_made in (False, True):
        for call, needed in zip(calls, (3 + 8192, 2 + 4096, 3 + 8192), strict=True):
            assert call(x) == call(x.copy()) == needed
        weights[0] = 5.0
        assert (f(x), f.grad(x)[0]) == (7 + 8192, 10 + 4096)
        power = 3
        assert (f(x), f.grad(x)[0]) == (7 + 8192, 15 + 4096)
        large[0] = 2.0
        assert (f(x), f.grad(x)[0]) == (7 + 8194, 15 + 4097)
        weights[0], power, large[0] = 1.0, 2, 1.0
        if not product_made:
            f.hvp(x, x)


@pytest.mark.compiles
def test_results_at_the_remembered_point_are_fresh_and_counted_once():
    f = nbhvp.differentiable(quartic)
    x = np.linspace(0, 1, 3)
    f.hvp(x, x)
    first, second = f.grad(x), f.grad(x.copy())
    first[:] = np.nan
    np.testing.assert_array_equal(second, f.grad(x))
    value = f(x)
    assert f.report().value_runs == 0
    assert f(x + 1) != value
    assert f.report().value_runs == 1
    f.grad(x + 1)
    x[0] = 7
    assert relative(f.hvp(x, x), quartic_hvp(x, x)) < 1e-13


def test_the_same_bytes_in_another_order_are_another_argument():
    f = nbhvp.differentiable(lambda x, a: np.sum(a * x**2), target="interpret")
    x, a = np.ones(2), np.array([1.0, 2.0])
    f.hvp(x, x, a)
    np.testing.assert_array_equal(f.hvp(x, x, a.view(">f8")), 2 * a.view(">f8"))
    assert f(x, a.view(">f8")) == np.sum(a.view(">f8"))


@pytest.mark.compiles
def test_a_read_only_view_of_a_changing_array():
    f = nbhvp.differentiable(lambda x, a: np.sum(a * np.exp(x)))
    x, v, base = np.zeros(3), np.ones(3), np.array([2.0])
    a = np.broadcast_to(base, (3,))
    np.testing.assert_array_equal(f.hvp(x, v, a), [2, 2, 2])
    base[0] = 5.0
    np.testing.assert_array_equal(f.hvp(x, v, a), [5, 5, 5])


@both_targets
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_argument_is_recognised_only_if_read_only(order, target):
    f = nbhvp.differentiable(lambda x, A: np.sum(np.exp(A @ x)), target=target)
    A = np.ones((LARGE // 64 + 1, 8), order=order)
    x, v = np.zeros(8), np.ones(8)

    def expected():
        return A.T @ (np.exp(A @ x) * (A @ v))

    # Not for one product, which is one program, but for several at once.
    for runs, scale in enumerate((1.0, 0.5)):
        A[-1] = scale
        assert relative(f.hvp(x, v, A), expected()) < 1e-12
        assert f.report().point_runs == runs
        assert relative(f.hvp(x, np.stack([v, 2 * v], -1), A)[:, 1], 2 * expected()) < 1e-12
    assert f.report().point_runs == 2
    A.flags.writeable = False
    for _ in range(3):
        assert relative(f.hvp(x, v, A), expected()) < 1e-12
    assert f.report().point_runs == 3
    assert relative(f.hvp(x, v, A.copy()), expected()) < 1e-12
    assert f.report().point_runs == 3


@pytest.mark.compiles
def test_x_changed_in_place_is_a_new_point():
    f = nbhvp.differentiable(quartic)
    for n in (3, 5000):
        x, v = np.linspace(0, 1, n), np.ones(n)
        for k in (0, -1):
            x[k] += 0.5
            assert relative(f.hvp(x, v), quartic_hvp(x, v)) < 1e-13


@pytest.mark.compiles
def test_signed_zero_is_another_point():
    f = nbhvp.differentiable(lambda x: np.sum(np.arctan2(x, -1.0)) + x @ x)
    np.testing.assert_array_equal(f.hvp([0.0], [1.0]), f.hvp([-0.0], [1.0]))
    assert not same_bits(np.array([0.0]), np.array([-0.0]))
    assert same_bits(np.array([np.nan] * 10_000), np.array([np.nan] * 10_000))


# Closures and methods.


@pytest.mark.compiles
def test_what_is_closed_over_may_be_exchanged_or_changed():
    weights, power = np.array([1.0, 2.0]), 2

    def fun(x):
        return np.sum(weights * x**power)

    f = nbhvp.differentiable(fun)
    x = np.ones(2)
    np.testing.assert_array_equal(f.grad(x), [2.0, 4.0])
    power = 3
    np.testing.assert_array_equal(f.grad(x), [3.0, 6.0])
    weights = np.array([5.0, 5.0])
    np.testing.assert_array_equal(f.grad(x), [15.0, 15.0])
    weights[0] = 1.0
    np.testing.assert_array_equal(f.grad(x), [3.0, 15.0])
    assert f.report().traces == 4 and f.report().retraces == 3


class Model:
    def __init__(self, scale):
        self.scale = scale

    @nbhvp.differentiable
    def loss(self, x):
        """The loss."""
        return self.scale * np.sum(x**2)


class Slotted:
    __slots__ = ("scale",)
    __init__ = Model.__init__
    loss = nbhvp.differentiable(Model.loss._fun)


@pytest.mark.compiles
@pytest.mark.parametrize("kind", [Model, Slotted])
def test_methods_bind(kind):
    first, second = kind(1.0), kind(10.0)
    x, v = np.ones(2), np.ones(2)
    for _ in range(2):
        np.testing.assert_array_equal(first.loss.hvp(x, v), [2.0, 2.0])
        np.testing.assert_array_equal(second.loss.hvp(x, v), [20.0, 20.0])
        np.testing.assert_array_equal(second.loss.hessian(x) @ v, [20.0, 20.0])
    first.scale = 3.0
    np.testing.assert_array_equal(first.loss.grad(x), [6.0, 6.0])
    other = copy.copy(first)
    other.scale = 4.0
    np.testing.assert_array_equal(other.loss.grad(x), [8.0, 8.0])
    assert kind.loss.__name__ == "loss" and kind.loss.__doc__ == "The loss."


@pytest.mark.compiles
def test_instances_are_traced_once_each():
    f = Model.loss.report().traces
    model = Model(2.0)
    for _ in range(5):
        model.loss.grad(np.ones(3))
    assert Model.loss.report().traces == f + 1


@pytest.mark.compiles
def test_at_most_the_kept_traces_hold_their_instances():
    alive = []
    for _ in range(2 * MOST_TRACES):
        model = Model(1.0)
        model.loss(np.ones(1))
        alive.append(weakref.ref(model))
        del model
    gc.collect()
    assert sum(ref() is not None for ref in alive) <= MOST_TRACES + 1


@pytest.mark.compiles
def test_partials_callables_and_bound_methods():
    class Callable:
        def __call__(self, x):
            return np.sum(x**2)

    def power(x, n, scale=1.0):
        return scale * np.sum(x**n)

    x = np.array([1.0, 2.0])
    partial = functools.partial(power, n=2, scale=0.5)
    for fun in (Callable(), partial, functools.partial(partial, scale=1.0), Model(1.0).loss._fun):
        f = nbhvp.differentiable(fun)
        scale = 0.5 if fun is partial else 1.0
        np.testing.assert_array_equal(f.grad(x), 2 * scale * x)
        assert "test_function.py" in repr(f)
    assert nbhvp.differentiable(np.sum).grad(x).tolist() == [1.0, 1.0]


def test_decorator_forms():
    @nbhvp.differentiable(target="interpret")
    def f(x):
        """Doc."""
        return x @ x

    assert (f.__name__, f.__doc__, f.__module__) == ("f", "Doc.", __name__)
    assert f.__wrapped__([1.0] * np.ones(2)) == 2.0


@pytest.mark.compiles
def test_a_function_inside_another():
    inner = nbhvp.differentiable(quartic)
    outer = nbhvp.differentiable(lambda x: inner(2 * x))
    x, v = np.linspace(0, 1, 3), np.ones(3)
    assert relative(outer.hvp(x, v), 4 * quartic_hvp(2 * x, v)) < 1e-14


# Randomness and hidden state.


@pytest.mark.compiles
def test_hidden_randomness_is_refused():
    rng = np.random.default_rng(0)

    def noisy(x):
        return np.sum(x * rng.normal(size=x.shape))

    with pytest.raises(nbhvp.TraceError, match="noisy.*test_function.py.*trace='always'"):
        nbhvp.differentiable(noisy).grad(np.ones(3))
    f = nbhvp.differentiable(noisy, trace="always")
    rng = np.random.default_rng(0)
    expected = np.random.default_rng(0)
    for _ in range(3):
        np.testing.assert_array_equal(f.grad(np.ones(3)), expected.normal(size=3))


def test_tracing_always_sees_hidden_state():
    calls = itertools.count(1)

    def fun(x):
        return next(calls) * np.sum(x**2)

    f = nbhvp.differentiable(fun, trace="always", target="interpret")
    x = np.ones(2)
    seen = [f.hvp(x, x)[0], f.hvp(x, x)[0], f.grad(x)[0], f(x)]
    assert np.all(np.diff(seen) > 0)
    assert f._memory.point is None and f._memory.traces == ()
    H = f.hessian(x)
    np.testing.assert_array_equal(H @ x, H @ x)


# One point, once.


METHODS = ["newton-cg", "trust-ncg", "trust-krylov", "trust-constr"]


@pytest.mark.compiles
@pytest.mark.parametrize("method", METHODS)
def test_the_point_program_runs_once_per_point(method):
    f = nbhvp.differentiable(quartic)
    gradients, products = set(), []

    def grad(x):
        gradients.add(x.tobytes())
        return f.grad(x)

    def hvp(x, v):
        products.append(x.tobytes())
        return f.hvp(x, v)

    start = np.linspace(-1, 1, 10)
    result = scipy.optimize.minimize(f, start, jac=grad, hessp=hvp, method=method, tol=1e-8)
    assert result.success
    report = f.report()
    assert report.traces == 1
    assert report.product_runs == len(products)
    assert len(set(products)) > 3 and len(products) > len(set(products))
    # The first gradients come before any product; each later point is visited once.
    assert report.point_runs == len(gradients | set(products)) - report.gradient_runs + 1
    assert report.gradient_runs <= 2


@pytest.mark.compiles
def test_a_gradient_after_the_first_product_prepares_the_next():
    f = nbhvp.differentiable(quartic)
    x, v = np.ones(3), np.ones(3)
    f.grad(x)
    assert (f.report().gradient_runs, f.report().point_runs) == (1, 0)
    f.hvp(x, v)
    assert (f.report().gradient_runs, f.report().point_runs) == (1, 1)
    f.grad(2 * x)
    f.value_and_grad(2 * x)
    f.hvp(2 * x, v)
    f.hessian(2 * x)
    assert (f.report().gradient_runs, f.report().point_runs) == (1, 2)
    assert f(2 * x) == f.value_and_grad(2 * x)[0]
    assert f.report().value_runs == 0


SEQUENCES = {
    # What is asked at which points, and how many gradient and point programs run.
    "gradients alone": ("g0 g1 g2 g3", 4, 0),
    "one product, long ago": ("h0 g1 g2 g3 g4", 3, 2),
    "a product at each point": ("g0 h0 g1 h1 g2 h2 g3 h3", 1, 4),
    "an operator at each point": ("g0 H0 g1 H1 g2 H2", 1, 3),
    "a line search": ("g0 h0 g1 g2 g3 h3 g4 h4", 3, 4),
    "again at one point": ("h0 g1 g1 h1 h1 g1 g2", 0, 3),
    "products alone": ("h0 h1 h1 h2", 0, 3),
    "products, then gradients": ("g0 h0 h1 h2 g3 g4 g5 g6", 4, 4),
}


@pytest.mark.compiles
@pytest.mark.parametrize("target", ["interpret", "cpu"])
@pytest.mark.parametrize("name", SEQUENCES)
def test_a_gradient_prepares_products_if_one_came_last_time(name, target):
    sequence, gradients, points = SEQUENCES[name]
    f, v = nbhvp.differentiable(quartic, target=target), np.ones(3)
    ask = {"g": f.grad, "h": lambda x: f.hvp(x, v), "H": lambda x: f.hessian(x) @ v}
    for step in sequence.split():
        x = np.full(3, 0.1 * int(step[1]))
        expected = quartic_hvp(x, v) if step[0] != "g" else np.exp(x) + 4 * np.sum(x**2) * x
        np.testing.assert_allclose(ask[step[0]](x), expected, rtol=1e-13)
    assert (f.report().gradient_runs, f.report().point_runs) == (gradients, points)


KIND = (3,), np.dtype(float)
NAMES = ("scale", "power"), ("power", "scale")


@pytest.mark.compiles
@pytest.mark.parametrize("is_compiled", [True, False])
def test_direct_calls_give_what_the_first_ones_give(is_compiled, monkeypatch):
    """After a few calls of one kind, compiled code takes them: results and errors stay the same.

    Until there is some, Python does.
    """
    monkeypatch.setattr(forms, "_lies_ready", lambda: is_compiled)  # in an empty cache, too
    monkeypatch.setattr(forms, "MANY", 10**9)

    def fun(x, scale, power):
        return scale * np.sum(x**power) if x[0] > 0 else np.sum(scale * x)

    f, x, v = nbhvp.differentiable(fun), np.array([1.0, 2.0, -1.0]), np.ones(3)
    for k in range(8):
        for at in (x + k, -x - k):
            s = 1.0 + k
            above = at[0] > 0
            before = at.copy()
            value, gradient = f.value_and_grad(at, s, 3)
            assert type(value) is type(f(at, s, 3)) is np.float64
            assert value == f(at, s, 3) == pytest.approx(fun(at, s, 3), rel=1e-14)
            np.testing.assert_allclose(gradient, 3 * s * at**2 if above else s + 0 * at)
            np.testing.assert_allclose(f.grad(at, s, 3), gradient)
            np.testing.assert_allclose(f.hvp(at, v, s, 3), 6 * s * at if above else 0 * at)
            np.testing.assert_allclose(f.hessian(at, s, 3) @ v, f.hvp(at, v, s, 3))
            np.testing.assert_allclose(f.hvp(at, v, s, power=3), f.hvp(at, v, s, 3))
            for names in NAMES:
                assert f(at, **{name: {"scale": s, "power": 3}[name] for name in names}) == value
            assert gradient.flags.owndata and gradient.base is None
            np.testing.assert_array_equal(at, before)
        read_only = at.copy()
        read_only.flags.writeable = False
        strided = np.repeat(at, 2)[::2]
        for other in (read_only, strided, at.tolist(), tuple(at), at.astype(">f8")):
            np.testing.assert_array_equal(f.grad(other, s, 3), f.grad(at, s, 3))
        assert f.grad(at.astype(np.float32), s, 3).dtype == np.float32
        for wrong, message in ((at + 1j, "complex"), (at.astype(object), "object"), (None, "None")):
            with pytest.raises(TypeError, match=message):
                f.grad(wrong, s, 3)
        with pytest.raises(ValueError, match="shape"):
            f.hvp(at, np.ones(4), s, 3)
        assert f(np.array([np.nan, 1.0, 1.0]), s, 3) != f(at, s, 3)
    directs = [trace.direct for trace in f._memory.traces if trace.key[1:3] == KIND]
    assert all(direct.accept(x, s, 3) for direct in directs if direct.names is None)
    assert {direct.names for direct in directs} == {None, ("power",), *NAMES}


@pytest.mark.compiles
def test_direct_calls_see_arguments_that_change_in_place(monkeypatch):
    monkeypatch.setattr(forms, "MANY", forms.FEW)
    f = nbhvp.differentiable(lambda x, a, s: s * np.sum(a * x**3))
    x, a, v = np.ones(3), np.arange(3.0), np.ones(3)
    for k in range(8):
        kept = f._memory.point
        a += k // 2 % 2
        np.testing.assert_allclose(f.hvp(x + k, v, a, 2.0), 12 * a * (x + k))
    assert f._memory.point.leaves is not kept.leaves
    f.hvp(x, v, a, 2.0)
    last = f._memory.point
    f.hvp(-x, v, a, 2.0)
    assert f._memory.point is not last and f._memory.point.leaves is last.leaves


@pytest.mark.compiles
def test_a_product_without_state_runs_alone():
    f = nbhvp.differentiable(rosenbrock)
    x, v = np.ones(10), np.ones(10)
    f.hvp(x, v)
    f.hvp(2 * x, v)
    assert (f.report().point_runs, f.report().product_runs) == (0, 2)
    assert f.hessian(x).value == 0.0
    assert f.report().point_runs == 1


@pytest.mark.compiles
def test_jvp_and_vjp_share_the_point():
    r = nbhvp.differentiable(lambda x: np.exp(x) * np.sum(np.exp(x)))
    x = np.linspace(0, 1, 4)
    for _ in range(3):
        r.jvp(x, x)
        r.vjp(x, x)
    assert r.report().point_runs <= 2


# Pickles.


def round_trip(value):
    return pickle.loads(pickle.dumps(value))


def test_a_decorated_function_pickles_by_name():
    assert round_trip(named) is named
    assert copy.deepcopy(named) is named


@pytest.mark.compiles
def test_other_functions_pickle_by_value():
    scale = 3.0
    for fun in (lambda x: scale * np.sum(x**2), functools.partial(quartic), quartic):
        f = round_trip(nbhvp.differentiable(fun, target="interpret"))
        assert f.options.target == "interpret"
        np.testing.assert_array_equal(
            f.grad(np.ones(2)), nbhvp.differentiable(fun).grad(np.ones(2))
        )


@pytest.mark.compiles
def test_bound_methods_pickle_with_their_instance():
    loss = round_trip(Model(7.0).loss)
    np.testing.assert_array_equal(loss.grad(np.ones(2)), [14.0, 14.0])


@pytest.mark.compiles
def test_a_fresh_process_unpickles():
    f = nbhvp.differentiable(lambda x: np.sum(x**3), target="interpret")
    code = (
        "import pickle, sys, numpy; f = pickle.loads(sys.stdin.buffer.read()); "
        "print(f.hvp([2.0], [1.0])[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(f), capture_output=True, check=True
    )
    assert float(done.stdout) == 12.0


# What is refused inside a trace, and what must not be remembered.


@pytest.mark.parametrize("name", ["hessian", "jacobian"])
def test_operators_inside_a_traced_function_are_refused(name):
    inner = nbhvp.differentiable(lambda x: np.sum(x**3), target="interpret")
    f = nbhvp.differentiable(lambda x: np.sum(getattr(inner, name)(x)), target="interpret")
    with pytest.raises(nbhvp.TraceError, match=rf"test_function.py:\d+ .*\.{name} of a"):
        f(np.ones(3))


def test_a_name_rebound_between_products_at_one_point_is_seen():
    factor = 2.0
    f = nbhvp.differentiable(lambda x: factor * np.sum(x**2), target="interpret")
    x = np.ones(3)
    first = [f.hvp(x, x) for _ in range(2)]
    factor = 5.0
    np.testing.assert_array_equal([*first, f.hvp(x, x)], [[4.0] * 3, [4.0] * 3, [10.0] * 3])


def test_an_argument_made_read_only_after_it_changed_is_not_the_remembered_one():
    f, weights = nbhvp.differentiable(lambda x, w: np.sum(w * x**2), target="interpret"), np.ones(3)
    x = v = np.ones(3)
    np.testing.assert_array_equal(f.hvp(x, v, weights), 2 * v)
    weights[:] = 3
    weights.flags.writeable = False
    np.testing.assert_array_equal(f.hvp(x, v, weights), 6 * v)


@pytest.mark.compiles
def test_an_index_argument_out_of_range_raises_numpys_error():
    # The guard fails after the gather has run: that must not read outside the array.
    f = nbhvp.differentiable(lambda x, i: np.sum(x[i] ** 2))
    x = np.arange(5.0)
    np.testing.assert_array_equal(f.grad(x, np.array([0, 1, -1])), [0, 2, 0, 0, 8])
    for wrong in (10**12, -(10**12), 5):
        with pytest.raises(IndexError):
            f.grad(x, np.array([0, 1, wrong]))
        with pytest.raises(IndexError):
            f.hvp(x, x, np.array([0, 1, wrong]))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:0] @ np.ones(0) + x @ x,
        lambda x: (x[:0] @ x[:0]) * x[0] + x @ x,
        lambda x: x[0] * x[1:1].sum() + x @ x,
    ],
    ids=["constant", "bilinear", "sum"],
)
def test_a_product_without_elements_vanishes(function):
    """As in back substitution by hand, whose first row has no terms."""
    f = nbhvp.differentiable(function, target="interpret")
    x = np.arange(1.0, 4.0)
    np.testing.assert_allclose(f.hvp(x, x), 2 * x)
    np.testing.assert_allclose(f.hessian(x).toarray(), 2 * np.eye(3))


@pytest.mark.compiles
def test_a_matrix_product_with_equal_numbers():
    """An operand that is one number, repeated, is stored for BLAS."""
    f = nbhvp.differentiable(
        lambda x: np.sum((np.diag(x) @ np.zeros(2) + np.diag(x) @ np.ones(2)) ** 2)
    )
    x = np.array([1.0, 2.0])
    np.testing.assert_allclose(f(x), 5)
    np.testing.assert_allclose(f.grad(x), 2 * x)
