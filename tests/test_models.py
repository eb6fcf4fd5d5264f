"""Gauss-Newton and Fisher matrices against their definitions, by arrays."""

import functools

import numpy as np
import pytest
import scipy.special as special
from numba import njit

import nbhvp

D = functools.partial(nbhvp.differentiable, target="interpret")
rng = np.random.default_rng(3)
A, Y, X = rng.normal(size=(6, 4)), rng.normal(size=(6, 3)), rng.normal(size=12)


@D
def model(x, A):
    return np.tanh(A @ x.reshape(4, 3))


@njit
def model_loops(x, A):
    z = np.zeros((A.shape[0], 3))
    for i in range(A.shape[0]):
        for j in range(3):
            s = 0.0
            for k in range(4):
                s += A[i, k] * x[3 * k + j]
            z[i, j] = np.tanh(s)
    return z


Z, JACOBIAN = model(X, A), model.jacobian(X, A).toarray()


def cosh(z, y):
    return np.sum(np.cosh(z - y)) + np.linalg.norm(z)


def per_observation(z, y):
    return np.sum((z - y) ** 4, axis=1)


def close(given, needed, tolerance=1e-11):
    np.testing.assert_allclose(given, needed, rtol=0, atol=tolerance * (1 + np.abs(needed).max()))


LOSSES = {"several terms": cosh, "of observations": per_observation, "a Function": D(cosh)}


@pytest.mark.parametrize("name", LOSSES)
def test_the_curvature_of_a_loss(name):
    loss = LOSSES[name]
    plain = getattr(loss, "__wrapped__", loss)
    inner = D(lambda z: np.sum(plain(z, Y)))
    G = nbhvp.gauss_newton(model, loss)(X, A, loss_args=(Y,))
    close(G.toarray(), JACOBIAN.T @ inner.hessian(Z).toarray() @ JACOBIAN)
    close(G.value, inner(Z))
    close(G.gradient, JACOBIAN.T @ inner.grad(Z).ravel())
    close(G @ np.eye(12)[:, :5], G.toarray()[:, :5])


@pytest.mark.parametrize("make", [lambda: model, lambda: model.__wrapped__])
def test_squares(make):
    fun = make()
    G = nbhvp.gauss_newton(fun)(X, A) if fun is model else nbhvp.gauss_newton(D(fun))(X, A)
    close(G.toarray(), JACOBIAN.T @ JACOBIAN)
    close(G.value, np.sum(Z**2) / 2)
    close(G.gradient, JACOBIAN.T @ Z.ravel())


@pytest.mark.compiles
def test_compiled_products():
    """Loops and arrays, and one program at the point and one for each direction."""
    for fun in (model.__wrapped__, model_loops):
        f = nbhvp.differentiable(fun)
        for loss, needed in (
            (None, JACOBIAN.T @ JACOBIAN),
            (cosh, nbhvp.gauss_newton(model, cosh)(X, A, loss_args=(Y,)).toarray()),
        ):
            G = nbhvp.gauss_newton(f, loss)
            given = {} if loss is None else {"loss_args": (Y,)}
            close(G(X, A, **given).toarray(), needed)
            before = G._function.report()
            G(X + 1, A, **given) @ X
            after = G._function.report()
            assert after.point_runs - before.point_runs <= 1
            assert after.product_runs - before.product_runs == 1


FISHERS = {
    "categorical": lambda p: np.diag(p) - np.outer(p, p),
    "bernoulli": lambda p: np.diag(p * (1 - p)),
    "gaussian": lambda p: np.eye(p.size),
    "poisson": np.diag,
}
MEANS = {
    "categorical": functools.partial(special.softmax, axis=-1),
    "bernoulli": special.expit,
    "gaussian": lambda z: z,
    "poisson": np.exp,
}
LABELS = {
    "categorical": np.array([0, 2, 1, 1, 0, 2]),
    "bernoulli": rng.integers(0, 2, (6, 3)),
    "gaussian": Y,
    "poisson": rng.integers(0, 5, (6, 3)),
}
JACOBIANS = JACOBIAN.reshape(6, 3, 12)


def exact(name):
    middles = map(FISHERS[name], MEANS[name](Z))
    return sum(J.T @ F @ J for J, F in zip(JACOBIANS, middles, strict=True))


@pytest.mark.parametrize("name", FISHERS)
def test_exact_fisher_matrices(name):
    close(nbhvp.fisher(model, name)(X, A).toarray(), exact(name))


@pytest.mark.parametrize("name", FISHERS)
def test_empirical_fisher_matrices(name):
    labels = LABELS[name]
    one_hot = np.eye(3)[labels] if name == "categorical" else labels
    gradients = np.einsum("ijk,ij->ik", JACOBIANS, one_hot - MEANS[name](Z))
    F = nbhvp.fisher(model, name, kind="empirical")
    close(F(X, A, labels=labels).toarray(), gradients.T @ gradients)
    close(F(X, A, labels=one_hot).toarray(), gradients.T @ gradients)


@pytest.mark.parametrize("name", FISHERS)
def test_drawn_fisher_matrices(name):
    """Unbiased: within five standard errors, which halve with four times the samples."""
    F = nbhvp.fisher(model, name, kind="monte-carlo", rng=1, samples=200)
    drawn = np.stack([F(X, A).toarray() for _ in range(40)])
    error = drawn.std(axis=0, ddof=1) / np.sqrt(40)
    assert np.all(np.abs(drawn.mean(axis=0) - exact(name)) < 5 * error + 1e-12)
    again = nbhvp.fisher(model, name, kind="monte-carlo", rng=1, samples=200)
    np.testing.assert_array_equal(again(X, A).toarray(), drawn[0])


def test_logits_of_one_observation_and_trees():
    f = D(lambda p: p["a"] * p["b"], unravel=nbhvp.ravel({"a": np.ones(3), "b": 1.0})[1])
    tree = {"a": np.array([0.1, 0.5, -0.2]), "b": 2.0}
    F = nbhvp.fisher(f, "categorical")(tree)
    J = np.column_stack([2.0 * np.eye(3), tree["a"]])
    p = special.softmax(2 * tree["a"])
    close(F.toarray(), J.T @ (np.diag(p) - np.outer(p, p)) @ J)
    close(F.block("a", "b").toarray(), F.toarray()[:3, 3:])
    E = nbhvp.fisher(f, "categorical", kind="empirical")(tree, labels=1)
    g = J.T @ (np.eye(3)[1] - p)
    close(E.toarray(), np.outer(g, g))


ERRORS = {
    "distribution": (lambda: nbhvp.fisher(model, "normal"), ValueError, "one of categorical"),
    "kind": (lambda: nbhvp.fisher(model, "poisson", kind="true"), ValueError, "'monte-carlo'"),
    "loss": (lambda: nbhvp.gauss_newton(model, 3.0), TypeError, "loss must be a function"),
    "no loss": (
        lambda: nbhvp.gauss_newton(model)(X, A, loss_args=(Y,)), TypeError, "no loss was given"
    ),
    "no labels": (
        lambda: nbhvp.fisher(model, "poisson", "empirical")(X, A), TypeError, "needs labels"
    ),
    "labels drawn": (
        lambda: nbhvp.fisher(model, "poisson", "monte-carlo")(X, A, labels=Y), TypeError, "drawn"
    ),
    "labels of another shape": (
        lambda: nbhvp.fisher(model, "categorical", "empirical")(X, A, labels=Y[0]),
        ValueError,
        r"labels must have shape \(6, 3\), or integers of shape \(6,\), got float64 of shape \(3,\)",
    ),
    "labels out of range": (
        lambda: nbhvp.fisher(model, "categorical", "empirical")(X, A, labels=np.full(6, 3)),
        ValueError,
        "from 0 to 2",
    ),
    "gradient": (
        lambda: nbhvp.fisher(model, "poisson", "monte-carlo")(X, A).gradient, TypeError, "no gradient"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    act, kind, match = ERRORS[name]
    with pytest.raises(kind, match=match):
        act()
