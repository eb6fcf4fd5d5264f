"""Spectral densities, log-determinants, sharpness and functions of operators of known spectrum."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.linalg

import nbhvp
from nbhvp import curvature
from nbhvp.curvature.lanczos import lanczos

N = 200


def matrix(values, seed=0):
    values = np.asarray(values, float)
    frame, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values),) * 2))
    return frame * values @ frame.T


RISING = np.linspace(0.5, 3.0, N)


@pytest.mark.parametrize("steps", [1, 5, 30])
def test_krylov_bases_are_orthonormal_and_reduce(steps):
    H, rng = matrix(RISING), np.random.default_rng(0)
    for space in lanczos(H, rng.standard_normal((N, 3)), steps):
        T = space.basis @ H @ space.basis.T
        np.testing.assert_allclose(space.basis @ space.basis.T, np.eye(steps), atol=1e-13)
        beside = space.beside
        expected = np.diag(space.diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
        np.testing.assert_allclose(T, expected, atol=1e-12)


@pytest.mark.parametrize("kinds", [1, 2, 7])
def test_a_space_ends_where_it_is_invariant(kinds):
    H = matrix(np.repeat(np.arange(1.0, kinds + 1), 21)[: 21 * kinds])
    (space,) = lanczos(H, np.ones((len(H), 1)), 50)
    nodes, weights = space.quadrature()
    np.testing.assert_allclose(nodes, np.arange(1, kinds + 1), rtol=1e-10)
    assert weights.sum() == pytest.approx(1)


def test_quadrature_is_exact_for_polynomials():
    H, v = matrix(RISING), np.random.default_rng(1).standard_normal(N)
    v /= np.linalg.norm(v)
    (space,) = lanczos(H, v[:, None], 6)
    nodes, weights = space.quadrature()
    for degree in range(12):
        expected = v @ np.linalg.matrix_power(H, degree) @ v
        assert weights @ nodes**degree == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("fun", [np.log, np.sqrt, np.square, lambda t: 1 / t])
def test_integrals_are_traces_with_true_errors(fun):
    H, rng = matrix(RISING), np.random.default_rng(2)
    found = [
        curvature.spectral_density(H, probes=6, steps=30, rng=rng).integral(fun) for _ in range(60)
    ]
    off = np.array([one.value for one in found]) - np.sum(fun(RISING))
    assert abs(off.mean()) < 4 * off.std() / np.sqrt(60)
    assert 0.6 < np.sqrt(np.mean([one.error**2 for one in found])) / off.std() < 1.7


def test_densities_integrate_to_one_and_count():
    density = curvature.spectral_density(matrix(RISING), probes=6, steps=30, rng=0)
    grid = np.linspace(0.0, 3.5, 4000)
    assert np.trapezoid(density(grid), grid) == pytest.approx(1, abs=1e-3)
    below = density.count(0.5, 1.5)
    assert abs(below.value - np.sum(RISING <= 1.5)) < 6 * below.error + 4
    assert RISING[0] - 1e-9 <= density.support[0] and density.support[1] <= RISING[-1] + 1e-9


@pytest.mark.parametrize("n", [5, 501])
def test_a_density_of_one_eigenvalue(n):
    density = curvature.spectral_density(2 * np.eye(n), rng=0)
    assert density.support == pytest.approx((2, 2))
    assert density(2.0) > 1
    assert density.integral(np.log).value == pytest.approx(n * np.log(2))


@pytest.mark.parametrize("n", [1, 2, 3, N])
def test_enough_products_are_exact(n):
    values = np.append(np.linspace(1.0, 2.0, n - 1), 7.0)
    found = curvature.logdet(matrix(values), probes=7, steps=30, rng=0)
    assert found.value == pytest.approx(np.sum(np.log(values)), rel=1e-12)
    assert found.error == 0 and found.products == n
    scaled = curvature.logdet(matrix(values), diagonal=np.arange(1.0, n + 1), rng=0)
    assert scaled.value == pytest.approx(found.value, rel=1e-12)


def test_plot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    ax = curvature.spectral_density(matrix(RISING), rng=0).plot()
    assert ax.get_xlabel() == "eigenvalue" and len(ax.lines) == 1


def test_logdet_to_one_per_cent_by_thirty_products():
    """Of the Hessian of a chain of 10^4 unknowns, which is tridiagonal, by closed form."""
    f = nbhvp.differentiable(
        lambda x: np.sum(np.cosh(x)) + 0.5 * np.sum((x[1:] - x[:-1]) ** 2), target="interpret"
    )
    x = 2 * np.sin(np.arange(10_000.0))
    main = np.cosh(x) + 2
    main[[0, -1]] -= 1
    banded = np.array([np.append(0.0, -np.ones(9_999)), main])
    expected = 2 * np.sum(np.log(scipy.linalg.cholesky_banded(banded)[-1]))
    H = f.hessian(x)
    found = curvature.logdet(H, probes=3, steps=10, rng=0)
    assert found.products == H.products == 30
    assert found.value == pytest.approx(expected, rel=0.01)
    scaled = curvature.logdet(H, probes=3, steps=10, diagonal=H.diagonal(), rng=0)
    assert scaled.error < found.error
    assert scaled.value == pytest.approx(expected, rel=0.002)


@pytest.mark.parametrize("condition", [1e2, 1e4, 1e6, 1e8])
def test_errors_tell_of_too_few_steps(condition):
    values = np.geomspace(1.0, condition, 2000)
    H = scipy.sparse.diags_array(values)
    for seed in range(5):
        found = curvature.logdet(H, rng=seed)
        assert abs(found.value - np.sum(np.log(values))) < 5 * found.error
        counted = curvature.spectral_density(H, rng=seed).count(condition**0.4, condition**0.6)
        assert abs(counted.value - 400) < 6 * counted.error


def test_logdet_of_an_indefinite_operator():
    with pytest.raises(np.linalg.LinAlgError, match="positive definite.*eye_array"):
        curvature.logdet(matrix(RISING - 1), rng=0)


@pytest.mark.parametrize("n", [1, 2, 3, 200])
@pytest.mark.parametrize("least", [-2.0, 0.0, 1e-12])
def test_sharpness(n, least):
    values = np.append(np.full(n - 1, least), 5.0)
    found = curvature.sharpness(matrix(values), rng=0)
    assert found.largest == pytest.approx(5, rel=1e-5)
    assert found.least == pytest.approx(values.min(), abs=1e-4)
    assert abs(found.trace.value - values.sum()) <= 6 * found.trace.error + 1e-9
    flat = np.mean(abs(values) < 0.05)
    assert abs(found.near_zero.value - flat) <= 6 * found.near_zero.error + 1e-6 or n < 4


@pytest.mark.parametrize("fun", [np.sqrt, np.log, np.exp, lambda t: t**-0.5])
def test_functions_of_operators(fun):
    H, v = matrix(RISING), np.random.default_rng(3).standard_normal(N)
    values, vectors = np.linalg.eigh(H)
    expected = vectors @ (fun(values) * (vectors.T @ v))
    np.testing.assert_allclose(curvature.apply(fun, H, v), expected, rtol=1e-7, atol=1e-7)
    assert not curvature.apply(fun, H, np.zeros(N)).any()


def test_a_function_that_will_take_long_tells_so(monkeypatch):
    H = matrix(np.logspace(0, 6, N))
    monkeypatch.setattr("nbhvp.curvature.functions.PATIENCE", 1e-5)
    with pytest.warns(
        UserWarning, match=r"after \d+ products .* predicted to take 200 products"
    ) as told:
        curvature.apply(lambda t: t**-0.5, H, np.ones(N))
    assert len(told) == 1 and told[0].filename == __file__


def test_roots_of_singular_operators():
    """Eigenvalues of 0 are found with either sign."""
    H, v = matrix([0.0] * 40 + [1.0, 4.0]), np.ones(42)
    root = curvature.apply(np.sqrt, H, v)
    np.testing.assert_allclose(curvature.apply(np.sqrt, H, root), H @ v, atol=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda H: curvature.trace(H, 8),
        lambda H: curvature.diagonal(H, 8),
        lambda H: curvature.logdet(H, probes=2, steps=3),
        lambda H: curvature.apply(np.exp, H, np.ones(N)),
        lambda H: curvature.nystrom(H, 3, 1.0),
        curvature.sharpness,
    ],
)
def test_products_that_are_not_finite(call):
    with pytest.raises(np.linalg.LinAlgError, match="gives NaN or infinity"):
        call(np.full((N, N), np.nan))


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_multiples_of_the_identity(value):
    found = curvature.sharpness(value * np.eye(N), rng=0)
    assert found.largest == pytest.approx(value) and found.least == pytest.approx(value, abs=1e-9)
    P = curvature.nystrom(value * np.eye(N), 3, 0.5, rng=0)
    np.testing.assert_allclose(P @ np.ones(N), np.ones(N))


def test_a_function_takes_few_products():
    taken = []
    H = matrix(RISING)
    operator = scipy.sparse.linalg.LinearOperator(
        H.shape, matvec=lambda v: taken.append(1) or H @ v, dtype=float
    )
    curvature.apply(np.exp, operator, np.ones(N))
    assert len(taken) <= 30


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda H: curvature.apply(np.log, H - np.eye(N), np.ones(N)), np.linalg.LinAlgError, "not finite at"),
        (lambda H: curvature.apply(np.sqrt, H, np.ones(N), steps=3), np.linalg.LinAlgError, "3 products gave"),
        (lambda H: curvature.apply(np.sqrt, H, np.ones(3)), ValueError, r"shape \(200,\), got \(3,\)"),
        (lambda H: curvature.spectral_density(H, probes=0), ValueError, "at least one probe"),
        (lambda H: curvature.logdet(H, diagonal=-np.ones(N)), ValueError, "200 positive numbers"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call(matrix(RISING))
