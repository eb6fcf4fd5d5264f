"""Laplace's approximation and pruning, against closed forms."""

import numpy as np
import pytest
import scipy.sparse
from scipy.special import gammaln

import nbhvp
from nbhvp import curvature

N = 12
rng = np.random.default_rng(0)
A = rng.standard_normal((30, N))
PRECISION = 0.5
H = A.T @ A + PRECISION * np.eye(N)
CENTRE = rng.standard_normal(N)


@nbhvp.differentiable(target="interpret")
def quadratic(x, offset=0.0):
    """A normal density with precision H around CENTRE, not normalised."""
    return 0.5 * (x - CENTRE) @ H @ (x - CENTRE) + offset


@pytest.mark.parametrize(
    ("options", "hessian"),
    [
        ({}, H),
        ({"method": "low-rank", "rank": N - 1, "precision": np.linalg.eigvalsh(H)[0]}, H),
        ({"method": "diagonal"}, np.diag(H.diagonal())),
    ],
)
def test_normal_densities_are_exact(options, hessian):
    found = curvature.laplace(quadratic, CENTRE, 0.25, **options)
    C = np.linalg.inv(hessian)
    expected = 0.5 * (N * np.log(2 * np.pi) - np.linalg.slogdet(hessian)[1]) - 0.25
    assert found.log_evidence == pytest.approx(expected)
    np.testing.assert_allclose(found.variance(), C.diagonal(), rtol=1e-9)
    np.testing.assert_allclose(found.covariance(np.eye(N)), C, atol=1e-12)
    np.testing.assert_allclose(found.covariance(CENTRE), C @ CENTRE)
    J = A[:5]
    expected = np.einsum("ij,jk,ik->i", J, C, J)
    np.testing.assert_allclose(found.variance_of(J), expected)
    operator = scipy.sparse.linalg.aslinearoperator(J)
    np.testing.assert_allclose(found.variance_of(operator), expected)
    np.testing.assert_allclose(found.variance_of(scipy.sparse.csr_array(J)), expected)


def test_diagonals_of_sparse_hessians_take_no_products_and_little_memory():
    n = 30_000
    f = nbhvp.differentiable(
        lambda x: np.sum(np.cosh(x)) + 0.5 * np.sum((x[1:] - x[:-1]) ** 2), target="interpret"
    )
    H = f.hessian(np.zeros(n))
    found = curvature.laplace(f, np.zeros(n), hessian=H, method="diagonal")
    expected = 1 / np.r_[2.0, np.full(n - 2, 3.0), 2.0]
    np.testing.assert_allclose(found.variance(), expected)
    np.testing.assert_allclose(curvature.jacobi(H) @ np.ones(n), expected)
    assert H.products == 0


def test_samples_have_the_mean_and_covariance():
    found = curvature.laplace(quadratic, CENTRE)
    x = found.samples(20_000, rng=1)
    assert x.shape == (20_000, N)
    C = np.linalg.inv(H)
    scale = np.sqrt(C.diagonal())
    np.testing.assert_allclose((x.mean(axis=0) - CENTRE) / scale, 0, atol=5 / np.sqrt(20_000))
    np.testing.assert_allclose(
        np.cov(x.T) / np.outer(scale, scale), C / np.outer(scale, scale), atol=0.05
    )
    np.testing.assert_array_equal(x, found.samples(20_000, rng=np.random.default_rng(1)))


def test_the_evidence_is_the_integral():
    """A density whose integral is known, but not normal: the error is of third order."""
    count = 400
    f = nbhvp.differentiable(lambda x: np.sum(count * (x - np.log(x))) - count, target="interpret")
    exact = gammaln(count + 1) - (count + 1) * np.log(count) + count
    assert curvature.laplace(f, np.ones(1)).log_evidence == pytest.approx(exact, abs=1e-3)


def test_a_point_that_is_no_minimum_is_warned_of():
    """The quadratic falls by |step|^2 / 2 in the metric of its Hessian."""
    step = np.linalg.solve(np.linalg.cholesky(H).T, np.eye(N)[0])
    curvature.laplace(quadratic, CENTRE + 0.4 * step)
    with pytest.warns(RuntimeWarning, match="f falls by 0.125"):
        curvature.laplace(quadratic, CENTRE + 0.5 * step)


@pytest.mark.parametrize("count", [0, 1, 5, N])
def test_surgeon_finds_the_minimum_with_these_at_zero(count):
    found = curvature.optimal_brain_surgeon(quadratic, CENTRE, count=count)
    kept = np.setdiff1d(np.arange(N), found.removed)
    assert len(kept) == N - count and not found.x[found.removed].any()
    expected = np.zeros(N)
    expected[kept] = np.linalg.solve(H[np.ix_(kept, kept)], (H @ CENTRE)[kept])
    np.testing.assert_allclose(found.x, expected, atol=1e-10)
    assert found.predicted == pytest.approx(found.rise, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda f, x: curvature.laplace(f, x).variance(),
        lambda f, x: curvature.optimal_brain_damage(f, x, count=3).x,
        lambda f, x: curvature.optimal_brain_surgeon(f, x, count=3).x,
    ],
)
def test_trees_and_plain_functions(call):
    tree = {"a": CENTRE[:4].reshape(2, 2), "b": CENTRE[4:]}
    flat = lambda p: quadratic(np.concatenate([p["a"].ravel(), p["b"]]))
    expected = call(quadratic, CENTRE)
    for f, x in (
        (nbhvp.differentiable(flat, trees=True, target="interpret"), tree),
        (lambda x: 0.5 * (x - CENTRE) @ H @ (x - CENTRE), CENTRE),
    ):
        np.testing.assert_allclose(call(f, x), expected, rtol=1e-9, atol=1e-12)


def test_surgeon_damages_less():
    surgeon = curvature.optimal_brain_surgeon(quadratic, CENTRE, count=4)
    damage = curvature.optimal_brain_damage(quadratic, CENTRE, count=4)
    assert 0 < surgeon.rise < damage.rise


def test_damage_of_a_diagonal_hessian_is_exact():
    scale = np.arange(1.0, N + 1)
    f = nbhvp.differentiable(lambda x: 0.5 * np.sum(scale * (x - CENTRE) ** 2), target="interpret")
    found = curvature.optimal_brain_damage(f, CENTRE, count=5)
    order = np.argsort(scale * CENTRE**2)[:5]
    np.testing.assert_array_equal(found.removed, order)
    assert found.rise == pytest.approx(found.predicted)
    given = curvature.optimal_brain_damage(f, CENTRE, count=5, diagonal=scale)
    np.testing.assert_array_equal(given.x, found.x)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: curvature.laplace(quadratic, CENTRE, hessian=-H), np.linalg.LinAlgError, "no minimum"),
        (lambda: curvature.laplace(quadratic, CENTRE, hessian=-H, method="diagonal"), np.linalg.LinAlgError, "no minimum"),
        (lambda: curvature.laplace(quadratic, CENTRE, hessian=np.eye(3)), ValueError, r"shape \(12, 12\), got \(3, 3\)"),
        (lambda: curvature.laplace(quadratic, CENTRE, hessian=np.nan * H), np.linalg.LinAlgError, "gives NaN"),
        (lambda: curvature.laplace(quadratic, CENTRE[None], hessian=H), ValueError, r"shape \(n,\), got \(1, 12\)"),
        (lambda: curvature.laplace(quadratic, CENTRE, method="kfac"), ValueError, "got 'kfac'"),
        (lambda: curvature.laplace(quadratic, CENTRE, method="low-rank"), TypeError, "`rank` and `precision`"),
        (lambda: curvature.laplace(quadratic, CENTRE, method="low-rank", rank=N, precision=1.0), ValueError, "from 1 to 11"),
        (lambda: curvature.laplace(quadratic, CENTRE, method="low-rank", rank=2, precision=1e3), ValueError, "largest is .* smaller precision or rank"),
        (lambda: curvature.laplace(quadratic, np.full(N, np.nan)), ValueError, "finite numbers"),
        (lambda: curvature.laplace(quadratic, CENTRE).variance_of(np.ones((2, 3))), ValueError, r"\(m, 12\)"),
        (lambda: curvature.laplace(quadratic, CENTRE).covariance(np.ones(3)), ValueError, r"\(12,\) or \(12, k\)"),
        (lambda: curvature.optimal_brain_damage(quadratic, CENTRE, count=13), ValueError, "from 0 to 12, got 13"),
        (lambda: curvature.optimal_brain_damage(quadratic, CENTRE, count=1, diagonal=np.ones(2)), ValueError, r"got \(2,\)"),
        (lambda: curvature.optimal_brain_surgeon(quadratic, CENTRE, count=1, hessian=-H), np.linalg.LinAlgError, "damping"),
        (lambda: curvature.optimal_brain_surgeon(quadratic, np.ones((2, 6)), count=1), ValueError, r"\(n,\), got \(2, 6\)"),
    ],
)  # fmt: skip
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
