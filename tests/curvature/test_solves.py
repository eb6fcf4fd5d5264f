"""Inverses as operators, and preconditioners."""

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import LinearOperator

import nbhvp
from nbhvp import curvature

N = 200


def matrix(values, seed=0):
    frame, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values),) * 2))
    return frame * values @ frame.T


DECAYING = 1e3 * 0.8 ** np.arange(N)


@pytest.mark.parametrize(
    ("method", "values"),
    [("cg", np.linspace(1, 9, N)), ("minres", np.linspace(1, 9, N)), ("minres", np.linspace(-3.01, 9, N))],
)  # fmt: skip
def test_products_with_the_inverse(method, values):
    H = matrix(values)
    inverse = curvature.inverse(H, method=method, rtol=1e-10)
    V = np.random.default_rng(1).standard_normal((N, 3))
    np.testing.assert_allclose(inverse @ V, np.linalg.solve(H, V), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        inverse.T @ V[:, 0], np.linalg.solve(H, V[:, 0]), rtol=1e-5, atol=1e-6
    )
    assert inverse.products > 0
    assert not (inverse @ np.zeros(N)).any()


def test_the_inverse_of_a_hessian_joins_the_algebra():
    f = nbhvp.differentiable(lambda x: np.sum(np.cosh(x)) + np.sum(x) ** 2, target="interpret")
    x = np.linspace(-1, 1, 8)
    H = f.hessian(x)
    inverse = curvature.inverse(H + 0.5 * scipy.sparse.eye_array(8), rtol=1e-12)
    expected = np.linalg.inv(H.toarray() + 0.5 * np.eye(8))
    np.testing.assert_allclose((2 * inverse).toarray(), 2 * expected, rtol=1e-9)


def test_a_solve_that_does_not_converge_is_an_error():
    with pytest.raises(np.linalg.LinAlgError, match="cg stopped at a relative residual"):
        curvature.inverse(matrix(DECAYING), maxiter=5) @ np.ones(N)
    with pytest.raises(np.linalg.LinAlgError, match="minres stopped"):
        curvature.inverse(matrix(DECAYING), method="minres", maxiter=5) @ np.ones(N)


@pytest.mark.parametrize("damping", [1e-3, 1e-1])
def test_nystrom_bounds_the_condition_number(damping):
    H = matrix(DECAYING)
    P = curvature.nystrom(H, rank=80, damping=damping, rng=0)
    damped = H + damping * np.eye(N)
    dense = P @ np.eye(N)
    np.testing.assert_allclose(dense, dense.T, atol=1e-10)
    values = np.linalg.eigvals(dense @ damped).real
    assert np.linalg.cond(damped) > 1e3
    assert values.min() > 0 and values.max() / values.min() < 10
    np.testing.assert_allclose(P.eigenvalues[:10], DECAYING[:10], rtol=1e-3)


def test_nystrom_of_full_rank_is_the_inverse():
    H = matrix(np.linspace(1, 2, 20))
    P = curvature.nystrom(H, rank=20, damping=0.5, rng=0)
    expected = np.linalg.inv(H + 0.5 * np.eye(20)) * (P.eigenvalues[-1] + 0.5)
    np.testing.assert_allclose(P @ np.eye(20), expected, rtol=1e-8)


def test_preconditioners_save_products():
    H = scipy.sparse.diags_array(DECAYING + 1e-2)
    plain = curvature.inverse(H)
    fast = curvature.inverse(H, preconditioner=curvature.jacobi(H))
    b = np.ones(N)
    np.testing.assert_allclose(fast @ b, b / (DECAYING + 1e-2), rtol=1e-6)
    assert np.linalg.norm(H @ (plain @ b) - b) < 1e-6 and fast.products < plain.products / 4


@pytest.mark.parametrize("given", ["array", "sparse", "hessian", "operator"])
def test_jacobi(given):
    f = nbhvp.differentiable(lambda x: np.sum(x**4 + np.sum(x) ** 2), target="interpret")
    H = f.hessian(np.arange(1.0, 5.0))
    dense = H.toarray()
    kinds = {
        "array": (dense, None),
        "sparse": (scipy.sparse.csr_array(dense), None),
        "hessian": (H, None),
        "operator": (LinearOperator((4, 4), lambda v: dense @ v, dtype=float), dense.diagonal()),
    }
    operator, diagonal = kinds[given]
    P = curvature.jacobi(operator, diagonal)
    np.testing.assert_allclose(P @ np.eye(4), np.diag(1 / dense.diagonal()))
    np.testing.assert_allclose(P.T @ np.ones(4), 1 / dense.diagonal())


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda H: curvature.inverse(H, method="gmres"), ValueError, "'cg', 'minres', got 'gmres'"),
        (lambda H: curvature.inverse(H, preconditioner=np.eye(3)), ValueError, r"got \(3, 3\)"),
        (lambda H: curvature.nystrom(H, 0, 1.0), ValueError, "rank from 1 to 200, got 0"),
        (lambda H: curvature.nystrom(H, 3, 0.0), ValueError, "positive damping, got 0"),
        (lambda H: curvature.nystrom(-H, 3, 1.0), np.linalg.LinAlgError, "positive semidefinite"),
        (lambda H: curvature.jacobi(-H), np.linalg.LinAlgError, "positive diagonal, and element"),
        (lambda H: curvature.jacobi(H, np.ones(3)), ValueError, r"shape \(200,\), got \(3,\)"),
        (lambda H: curvature.jacobi(LinearOperator((2, 2), abs, dtype=float)), TypeError, "has no diagonal"),
    ],
)  # fmt: skip
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call(matrix(DECAYING))
