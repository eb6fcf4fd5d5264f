"""Implicit functions against explicit ones, and hypergradients against differences."""

import functools
import pickle

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize as optimize
from numba import cloudpickle, njit
from sklearn.datasets import load_breast_cancer, load_diabetes

import nbhvp
from nbhvp import implicit
from nbhvp.graph.derive import EXACT_MODES
from nbhvp.implicit import argmin, hypergradient, root

pytestmark = pytest.mark.usefixtures("unsplit")

D = functools.partial(nbhvp.differentiable, target="interpret")
rng = np.random.default_rng(5)
A, Y = rng.normal(size=(8, 3)), rng.normal(size=8)
DATA = np.array([0.4, -0.3, 0.8])
TARGET = np.array([1.0, 2.0, -1.0])


# Pairs of an implicit and an explicit function of a.


def cubic(u, a):
    """u + u^3 = a + a^3 has the root a."""
    return u + u**3 - a - a**3


@njit
def cubic_loops(u, a):
    out = np.zeros(u.size)
    for i in range(u.size):
        out[i] = u[i] + u[i] ** 3 - a[i] - a[i] ** 3
    return out


def matrix_of(a):
    return np.diag(2 + a**2) + np.outer(np.sin(a), np.sin(a))


def linear(u, a, b):
    return matrix_of(a) @ u - b


def explicit(a, b):
    return np.linalg.solve(matrix_of(a), b)


def ridge(w, a):
    return np.sum((A @ w - Y) ** 2) / 2 + np.sum(np.exp(a) * w**2) / 2


def ridge_explicit(a):
    return np.linalg.solve(A.T @ A + np.diag(np.exp(a)), A.T @ Y)


def quartic(u, a):
    return np.sum((u - np.sin(a)) ** 4 + (u - np.sin(a)) ** 2)


def newton(F, a):
    """Newton's method by hand, from a."""
    return optimize.fsolve(F, np.asarray(a), args=(a,), xtol=1e-13)


CUBIC = root(cubic, lambda a: newton(cubic, a))
LINEAR = root(linear, explicit)
RIDGE = argmin(ridge, ridge_explicit)
SINE = argmin(quartic, lambda a: optimize.minimize(quartic, np.sin(a) + 0.1, args=(a,), tol=1e-12))
OF_FUNCTION = root(D(cubic), lambda a: newton(cubic, a))
SCALAR = root(cubic, lambda a: optimize.root_scalar(cubic, args=(a,), x0=1.0, x1=2.0, xtol=1e-14))

PAIRS = {
    "a cubic": (lambda a: np.sum(CUBIC(a) * a), lambda a: np.sum(a * a)),
    "a linear system": (
        lambda a: np.sum(LINEAR(a, np.cos(a)) ** 2 * TARGET),
        lambda a: np.sum(explicit(a, np.cos(a)) ** 2 * TARGET),
    ),
    "one argument of two": (
        lambda a: np.sum(LINEAR(DATA, a**2) ** 3),
        lambda a: np.sum(explicit(DATA, a**2) ** 3),
    ),
    "a minimum": (
        lambda a: np.sum((RIDGE(a) - TARGET) ** 2),
        lambda a: np.sum((ridge_explicit(a) - TARGET) ** 2),
    ),
    "a minimum by a solver": (lambda a: np.prod(SINE(a)), lambda a: np.prod(np.sin(a))),
    "a number": (lambda a: SCALAR(a[0]) ** 2 * a[1], lambda a: a[0] ** 2 * a[1]),
    "a root of a root": (lambda a: np.sum(CUBIC(CUBIC(2 * a))), lambda a: np.sum(2 * a)),
    "a gradient inside": (
        lambda a: np.sum(D(lambda b: np.sum(LINEAR(b, b) ** 2)).grad(a) ** 2),
        lambda a: np.sum(D(lambda b: np.sum(explicit(b, b) ** 2)).grad(a) ** 2),
    ),
    "a Function": (
        lambda a: np.sum(OF_FUNCTION(a) ** 2),
        lambda a: np.sum(a**2),
    ),
}


def assert_agree(f, g, x, tolerance):
    v = np.cos(np.arange(x.size))
    pairs = [(f(x), g(x)), (f.grad(x), g.grad(x))]
    pairs += [(f.hvp(x, v, mode=mode), g.hvp(x, v)) for mode in EXACT_MODES]
    for given, needed in pairs:
        scale = 1 + np.abs(needed).max()
        np.testing.assert_allclose(given, needed, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("name", PAIRS)
def test_implicit_functions_are_the_explicit_ones(name):
    implicit, by_hand = PAIRS[name]
    tolerance = 1e-6 if "solver" in name else 1e-9  # what the solver leaves
    assert_agree(D(implicit), D(by_hand), DATA, tolerance)


@pytest.mark.compiles
def test_compiled_and_with_loops():
    loops = root(cubic_loops, lambda a: newton(cubic, a))
    both = lambda a: np.sum(loops(a) ** 2) + np.prod(LINEAR(a, TARGET))
    by_hand = lambda a: np.sum(a**2) + np.prod(explicit(a, TARGET))
    assert_agree(nbhvp.differentiable(both), D(by_hand), DATA, 1e-9)


SOLVERS = {
    "root": lambda a: optimize.root(cubic, a, args=(a,), tol=1e-13),
    "krylov": lambda a: optimize.root(cubic, a, args=(a,), method="krylov", tol=1e-13),
    "newton": lambda a: optimize.newton(cubic, np.array(a), args=(a,), tol=1e-13),
    "least_squares": lambda a: optimize.least_squares(cubic, a, args=(a,), xtol=1e-15),
    "list": lambda a: np.asarray(a),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_any_solver(name):
    u = root(cubic, SOLVERS[name])
    assert_agree(D(lambda a: np.sum(u(a) ** 2)), D(lambda a: np.sum(a**2)), DATA, 1e-7)


def neighbours(u):
    return np.concatenate((np.zeros(1), u[:-1])) + np.concatenate((u[1:], np.zeros(1)))


def boundary_value(u, a):
    return 20 * (2 * u - neighbours(u)) + a[0] * u**3 + a[1] * u - a[2]


def one_sided(u, a):
    return u + a[0] * u**3 - a[1] * np.concatenate((np.ones(1), u[:-1])) ** 2 - a[2]


def chain_energy(u, a):
    own = np.exp(a[0] * u) / 10 + (u - a[1]) ** 2 + a[2] * u
    return 10 * np.sum(np.diff(u) ** 2) + np.sum(own)


def gathered(u, a):
    """The places of the entries depend on a."""
    return u - 0.1 * np.sin(u[np.argsort(np.sin(a[0] * np.arange(u.size)))]) - a[1]


LARGE = {
    "symmetric": (root, boundary_value, True),
    "one-sided": (root, one_sided, True),
    "minimum": (argmin, chain_energy, True),
    "gathered": (root, gathered, False),
}


@pytest.mark.compiles
@pytest.mark.parametrize("name", LARGE)
def test_sparse_jacobians_are_as_dense_ones(name, monkeypatch):
    make, F, is_sparse = LARGE[name]
    f = D(F) if make is argmin else None

    def solve(a):
        u = np.full(240, 0.1)
        if make is argmin:
            return nbhvp.minimize(f, u, args=(a,), method="newton-cg", tol=1e-14)
        return optimize.root(F, u, args=(a,), method="krylov", options={"fatol": 1e-12})

    u, a, found, patterns = make(F, solve), np.array([0.3, 0.4, 0.2]), [], []
    kept = implicit._pattern
    spied = lambda *args: patterns.append(kept(*args)) or patterns[-1]
    monkeypatch.setattr(implicit, "_pattern", spied)
    for small in (implicit.SMALL, 10**6):
        monkeypatch.setattr(implicit, "SMALL", small)
        g = D(lambda a: np.sum(np.sin(u(a)) * np.cos(np.arange(240.0))))
        found.append((g.grad(a), *(g.hvp(a, TARGET, mode=mode) for mode in EXACT_MODES)))
    assert [matrix is not None for matrix in patterns] == [is_sparse] * len(patterns) and patterns
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10)


def differences(f, x, step):
    """The gradient by differences of the fourth order."""
    out = np.zeros(x.size)
    for k, e in enumerate(np.eye(x.size) * step):
        out[k] = (8 * (f(x + e) - f(x - e)) - f(x + 2 * e) + f(x - 2 * e)) / (12 * step)
    return out


def test_hypergradients_of_ridge_regression():
    X, y = load_diabetes(return_X_y=True)
    X, y, more, others = X[:300] * 20, y[:300] / 100, X[300:] * 20, y[300:] / 100
    solve = lambda a: scipy.linalg.solve(X.T @ X + np.diag(np.exp(a)), X.T @ y, assume_a="pos")
    w = argmin(lambda w, a: np.sum((X @ w - y) ** 2) + np.sum(np.exp(a) * w**2), solve)
    f = hypergradient(w, lambda w, a: np.mean((more @ w - others) ** 2))
    f = D(f.__wrapped__)
    a = np.linspace(-1, 1, 10)
    gradient = differences(f, a, 1e-3)
    np.testing.assert_allclose(f.grad(a), gradient, rtol=0, atol=1e-8 * np.abs(gradient).max())


def test_hypergradients_of_logistic_regression():
    X, y = load_breast_cancer(return_X_y=True)
    X = (X[:, :5] - X[:, :5].mean(axis=0)) / X[:, :5].std(axis=0)
    train, test = slice(0, 400), slice(400, None)

    @D
    def loss(w, a):
        z = X[train] @ w
        return np.sum(np.logaddexp(0, z) - y[train] * z) + np.sum(np.exp(a) * w**2)

    def solve(a):
        w = np.zeros(5)
        for _ in range(30):
            w = w - np.linalg.solve(loss.hessian(w, a).toarray(), loss.grad(w, a))
        return w

    def validation(w, a):
        z = X[test] @ w
        return np.mean(np.logaddexp(0, z) - y[test] * z)

    f = D(hypergradient(argmin(loss, solve), validation).__wrapped__)
    a = np.linspace(-1, 1, 5)
    gradient = differences(f, a, 1e-2)
    np.testing.assert_allclose(f.grad(a), gradient, rtol=0, atol=1e-8 * np.abs(gradient).max())
    v = np.cos(a)
    change = differences(lambda t: f.grad(a + t[0] * v) @ v, np.zeros(1), 1e-2)
    np.testing.assert_allclose(f.hvp(a, v) @ v, change[0], rtol=1e-7)


def test_pickles_by_value():
    again = pickle.loads(cloudpickle.dumps(LINEAR))
    np.testing.assert_array_equal(again(DATA, TARGET), LINEAR(DATA, TARGET))
    f, g = (D(lambda a, u=u: np.sum(u(a, TARGET))) for u in (LINEAR, again))
    np.testing.assert_array_equal(f.grad(DATA), g.grad(DATA))


ERRORS = {
    "no root": (
        root(cubic, lambda a: a + 1),
        r"<lambda> \(.*test_implicit.py:\d+\): .* the solver's result is no root: a Newton step from it has",
    ),
    "another size": (
        root(lambda u, a: u[:2] - a[:2], lambda a: a),
        r"<lambda> \(.*test_implicit.py:\d+\): .* F must have the size of u, 3, and has 2",
    ),
    "a branch": (
        root(lambda u, a: u - a if a[0] > 0 else a - u, lambda a: a),
        r"test_implicit.py:\d+ in .*: a branch is taken on a value.*\(.*test_implicit.py:\d+\)",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    u, match = ERRORS[name]
    f = D(lambda a: np.sum(u(a)))
    assert np.isfinite(f(DATA))
    with pytest.raises(nbhvp.TraceError, match=match):
        f.grad(DATA)


def test_what_is_no_function():
    with pytest.raises(TypeError, match="solver must be a function of the data, got float"):
        root(cubic, 1.0)
    with pytest.raises(TypeError, match="outer must be a function of u and a"):
        hypergradient(CUBIC, None)


def test_whole_numbers_of_a_solver_are_floats():
    u = nbhvp.implicit.root(lambda u, a: u - a, lambda a: np.rint(a).astype(int))
    f = nbhvp.differentiable(lambda a: np.sum(u(a) ** 2), target="interpret")
    np.testing.assert_allclose(f.grad(np.array([2.0, 3.0])), [4, 6])


def test_rules_within_an_equation():
    @nbhvp.elementwise(partials=lambda z, x: (1 - z * z,))
    def squash(x):
        return np.tanh(x)

    def solver(a):
        return scipy.optimize.root(lambda u: u + np.tanh(u) - a, a, tol=1e-13)

    u = nbhvp.implicit.root(lambda u, a: u + squash(u) - a, solver)
    f = nbhvp.differentiable(lambda a: np.sum(u(a)), target="interpret")
    a = np.array([2.0])
    expected = 1 / (2 - np.tanh(solver(a).x) ** 2)
    np.testing.assert_allclose(f.grad(a), expected, rtol=1e-9)
