"""Estimates of traces and diagonals on matrices of known spectrum: unbiased, with true errors."""

import numpy as np
import pytest
from scipy.sparse import csr_array

import nbhvp
from nbhvp import curvature

N, PRODUCTS, RUNS = 60, 24, 400
SPECTRA = {
    "flat": np.linspace(1.0, 2.0, N),
    "indefinite": np.linspace(-1.0, 2.0, N),
    "polynomial": 1.0 / np.arange(1, N + 1) ** 2,
    "exponential": 0.5 ** np.arange(N),
}
TRACES = "xtrace", "hutch++", "hutchinson"


def matrix(spectrum, seed=0):
    frame, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((N, N)))
    return frame * SPECTRA[spectrum] @ frame.T


def estimates(method, spectrum, function=curvature.trace, runs=RUNS):
    H, rng = matrix(spectrum), np.random.default_rng(1)
    found = [function(H, PRODUCTS, method=method, rng=rng) for _ in range(runs)]
    return H, np.array([one.value for one in found]), np.array([one.error for one in found])


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("method", TRACES)
def test_traces_are_unbiased_with_true_errors(method, spectrum):
    H, values, errors = estimates(method, spectrum)
    off = values - np.trace(H)
    assert abs(off.mean()) < 4 * off.std() / np.sqrt(RUNS)
    assert 0.6 < np.sqrt(np.mean(errors**2)) / off.std() < 1.7
    # 0.95 of normal values; of eight samples' means, by their own spread, 0.91 (Student's law).
    assert 0.8 < np.mean(abs(off) <= 2 * errors) < 0.99


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("method", ["xdiag", "hutchinson"])
def test_diagonals_are_unbiased_with_true_errors(method, spectrum):
    H, values, errors = estimates(method, spectrum, curvature.diagonal)
    off = values - H.diagonal()
    assert np.all(abs(off.mean(axis=0)) < 5 * off.std(axis=0) / np.sqrt(RUNS))
    assert 0.5 < np.sqrt(np.mean(errors**2) / np.mean(off**2)) < 2


@pytest.mark.parametrize("method", ["xtrace", "hutch++"])
def test_a_decaying_spectrum_takes_a_tenth_of_hutchinsons_error(method):
    spread = {
        name: np.std(estimates(name, "exponential", runs=50)[1]) for name in (method, "hutchinson")
    }
    assert spread[method] < 0.1 * spread["hutchinson"]


def test_theory_of_hutchinson():
    """The variance of one sample is twice the squared elements beside the diagonal."""
    H, values, _ = estimates("hutchinson", "indefinite")
    beside = H - np.diag(H.diagonal())
    expected = np.sqrt(2 * np.sum(beside**2) / PRODUCTS)
    assert values.std() == pytest.approx(expected, rel=5 / np.sqrt(2 * RUNS))


@pytest.mark.parametrize("method", TRACES)
@pytest.mark.parametrize("rank", [0, 1, 5])
def test_low_ranks_are_exact_but_for_hutchinson(method, rank):
    factor = np.random.default_rng(2).standard_normal((N, rank))
    H = factor @ factor.T
    found = curvature.trace(H, PRODUCTS, method=method, rng=0)
    assert found.products <= PRODUCTS
    if method == "hutchinson":
        assert abs(found.value - np.trace(H)) <= 6 * found.error
    else:
        assert found.value == pytest.approx(np.trace(H), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("function", [curvature.trace, curvature.diagonal])
def test_enough_products_are_exact(function):
    H = matrix("indefinite")
    found = function(H, products=N)
    expected = np.trace(H) if function is curvature.trace else H.diagonal()
    np.testing.assert_allclose(found.value, expected, rtol=1e-13)
    assert np.all(found.error == 0) and found.products == N


def test_products_are_counted_and_taken_together():
    f = nbhvp.differentiable(lambda x: np.sum(np.cos(x) * np.roll(x, 1) ** 2), target="interpret")
    H = f.hessian(np.linspace(0.0, 1.0, N))
    found = curvature.trace(H, PRODUCTS, rng=0)
    assert found.products == PRODUCTS
    assert abs(found.value - np.trace(H.toarray())) < 6 * found.error


@pytest.mark.parametrize("function", [curvature.trace, curvature.diagonal])
def test_the_same_seed_gives_the_same_estimate(function):
    H = matrix("flat")
    a, b = function(H, rng=7), function(H, rng=np.random.default_rng(7))
    np.testing.assert_array_equal(a.value, b.value)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda H: curvature.trace(H[:3]), ValueError, r"square operator, got one of shape \(3,"),
        (lambda H: curvature.trace(nbhvp.differentiable(np.sum)), TypeError, r"as f.hessian\(x\)"),
        (lambda H: curvature.logdet(np.triu(H + 1)), ValueError, "differs from its transpose by"),
        (
            lambda H: curvature.trace(csr_array(np.tril(H + 1))),
            ValueError,
            r"give \(A \+ A.T\) / 2",
        ),
        (lambda H: curvature.trace(1j * H), TypeError, "real numbers, got dtype complex128"),
        (lambda H: curvature.trace(H, method="hutch"), ValueError, "'xtrace', 'hutch\\+\\+'"),
        (lambda H: curvature.trace(H, 3), ValueError, "at least 4 products, got 3"),
        (lambda H: curvature.diagonal(H, 1), ValueError, "at least 4 products, got 1"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call(matrix("flat"))
