"""Least squares and roots with exact Jacobians."""

import numpy as np
import pytest
import scipy.sparse
from scipy.optimize import least_squares

import nbhvp

interpreted = nbhvp.differentiable(target="interpret")
T = np.linspace(0.0, 4.0, 60)
DATA = 2.0 * np.exp(-0.7 * T) + 0.3 + 0.01 * np.cos(40 * T)


@interpreted
def decay(p, y=DATA):
    return p[0] * np.exp(-p[1] * T) + p[2] - y


@interpreted
def rosenbrock(x):
    return np.concatenate([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])


@interpreted
def bratu(u, strength=1.0):
    """A boundary value problem, u'' + strength exp(u) = 0."""
    h = 1 / (len(u) + 1)
    v = np.pad(u, 1)
    return (v[2:] - 2 * v[1:-1] + v[:-2]) / h**2 + strength * np.exp(u)


@pytest.mark.parametrize("jacobian", [None, "dense", "operator", "sparse"])
@pytest.mark.parametrize(
    "options", [{}, {"method": "dogbox"}, {"bounds": (0.0, 2.5)}, {"loss": "cauchy"}]
)
def test_a_fit(jacobian, options):
    found = nbhvp.least_squares(decay, [1.0, 1.0, 0.0], jacobian=jacobian, **options)
    expected = least_squares(decay, [1.0, 1.0, 0.0], xtol=1e-12, **options)
    assert found.success
    np.testing.assert_allclose(found.x, expected.x, rtol=1e-4)


def test_levenberg_marquardt_takes_an_array():
    found = nbhvp.least_squares(decay, [1.0, 1.0, 0.0], (DATA + 1.0,), method="lm")
    assert found.x[2] == pytest.approx(1.3, abs=0.02)


@pytest.mark.parametrize("n", [5, 300])
def test_the_form_follows_the_size(n):
    found = nbhvp.least_squares(rosenbrock, np.zeros(n))
    assert isinstance(found.jac, np.ndarray) == (n == 5)
    assert scipy.sparse.issparse(found.jac) == (n == 300)
    np.testing.assert_allclose(found.x, 1, rtol=1e-6)


def test_a_full_jacobian_of_many_unknowns_is_an_operator():
    A = np.random.default_rng(0).standard_normal((150, 120))
    r = nbhvp.differentiable(lambda x: np.tanh(A @ x) - 0.1, target="interpret")
    found = nbhvp.least_squares(r, np.zeros(120), max_nfev=3)
    assert isinstance(found.jac, scipy.sparse.linalg.LinearOperator)


@pytest.mark.parametrize("method", [None, "hybr", "lm", "krylov"])
def test_roots(method):
    found = nbhvp.root(bratu, np.zeros(20), 2.0, method=method)
    assert found.success
    np.testing.assert_allclose(bratu(found.x, 2.0), 0, atol=1e-6)


def test_krylov_is_quadratic_and_counts():
    lengths = []
    found = nbhvp.root(
        bratu, np.zeros(150), callback=lambda x, value: lengths.append(abs(value).max())
    )
    assert found.success and found.nit == len(lengths) <= 8
    assert found.njvp > 0 and found.nfev > found.nit
    assert lengths[-1] < 1e-8


def test_a_preconditioner_saves_products():
    main, beside = np.full(150, -2.0), np.ones(149)
    laplacian = 151**2 * scipy.sparse.diags_array([beside, main, beside], offsets=[-1, 0, 1])
    solve = scipy.sparse.linalg.splu(laplacian.tocsc()).solve
    M = scipy.sparse.linalg.LinearOperator(laplacian.shape, solve)
    plain = nbhvp.root(bratu, np.zeros(150))
    for given in (M, lambda u: M):
        fast = nbhvp.root(bratu, np.zeros(150), preconditioner=given)
        assert fast.success and fast.njvp < plain.njvp / 5
        np.testing.assert_allclose(fast.x, plain.x, rtol=1e-6)


def test_no_root_is_no_success():
    r = nbhvp.differentiable(lambda x: x**2 + 1.0, target="interpret")
    found = nbhvp.root(r, np.full(3, 0.5), method="krylov")
    assert not found.success and "does not fall" in found.message
    assert not nbhvp.root(bratu, np.zeros(200), 5.0).success  # above the critical strength, 3.51
    assert nbhvp.root(bratu, np.zeros(20), method="krylov", maxiter=1).message.startswith("the max")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: nbhvp.least_squares(decay, [1.0, 1.0, 0.0], jac="2-point"), TypeError, "gives jac itself"),
        (lambda: nbhvp.least_squares(decay, [1.0, 1.0, 0.0], jacobian="full"), ValueError, "got 'full'"),
        (lambda: nbhvp.root(rosenbrock, np.zeros(3)), ValueError, r"got 4 for x of shape \(3,\)"),
        (lambda: nbhvp.root(bratu, np.zeros(3), method="anderson"), ValueError, "got 'anderson'"),
    ],
)  # fmt: skip
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_trees_and_numbers():
    r = nbhvp.differentiable(
        lambda p: np.append(p["w"] ** 2 - 2, p["b"] + 1), trees=True, target="interpret"
    )
    tree = {"w": np.ones(2), "b": 0.0}
    for found in (nbhvp.root(r, tree), nbhvp.least_squares(r, tree)):
        np.testing.assert_allclose(found.x, [2**0.5, 2**0.5, -1], rtol=1e-6)
    np.testing.assert_allclose(nbhvp.root(lambda x: x**2 - 2, 1.0).x, [2**0.5])


def test_a_hopeless_system_ends():
    """A triangular Jacobian with a condition number of about 2^60."""
    r = nbhvp.differentiable(
        lambda x: np.concatenate([x[1:] ** 2 - x[:-1], x[:1] - 1]), target="interpret"
    )
    found = nbhvp.root(r, np.full(60, 0.9), method="krylov", maxiter=3)
    assert found.njvp <= 3 * (10 + 4) * 31 + 3
