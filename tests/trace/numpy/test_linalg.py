"""Linear algebra against mpmath: values, gradients, products and batches of products.

Each case is a function in plain NumPy or SciPy and the same in mpmath. The oracle of a product is a
mixed difference of mpmath's values at 60 digits, exact to far below double precision. Complex
matrices stand inside real functions. Then: repeated eigenvalues, failures, and how often a
factorisation is computed.
"""

import numpy as np
import pytest
import scipy.linalg as sl

import nbhvp
from nbhvp.graph.table.matrices import linalg as primitives
from nbhvp.targets.cpu.kernels import matrices
from tests.cases.mpmath.linalg import (
    ALIKE,
    CASES,
    RNG,
    B,
    V,
    X,
    mp,
    spd,
)
from tests.checks import assert_close
from tests.digits import check_against, oracle, weighted


@pytest.mark.usefixtures("unsplit")
@pytest.mark.parametrize(("fun", "exactly"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_against_mpmath(fun, exactly):
    check_against(exactly, nbhvp.differentiable(fun, target="interpret"), fun, X, V)


MODES = ("reverse-over-forward", "reverse-over-reverse")


@pytest.mark.parametrize("name", ["solve stack", "eigvalsh complex", "eigh function", "svd tall"])
def test_modes_agree(name):
    (fun,) = (fun for known, fun, _ in CASES if known == name)
    f = nbhvp.differentiable(fun, target="interpret")
    needed = f.hvp(X, V[..., 0])
    for mode in MODES:
        found = f.hvp(X, V[..., 0], mode=mode)
        np.testing.assert_allclose(found, needed, rtol=1e-10, atol=1e-11 * abs(needed).max())


@pytest.mark.usefixtures("unsplit")
@pytest.mark.parametrize(("fun", "other"), [c[1:] for c in ALIKE], ids=[c[0] for c in ALIKE])
def test_like_another_function(fun, other):
    f, g = (
        nbhvp.differentiable(lambda x, make=make: weighted(make(x)), target="interpret")
        for make in (fun, other)
    )
    np.testing.assert_allclose(f(X), weighted(fun(X)), rtol=1e-12)
    needed = g.hvp(X, V)
    np.testing.assert_allclose(f.hvp(X, V), needed, 1e-10, 1e-10 * max(1, abs(needed).max()))


# Repeated eigenvalues: the last two columns say what a smooth function's Hessian is, if it has one.

TURN = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
POINTS = {
    "identity": np.eye(4),
    "pairs": TURN @ np.diag([1.0, 1.0, 2.0, 2.0]) @ TURN.T,
    "triple": TURN @ np.diag([1.0, 1.0, 1.0, 3.0]) @ TURN.T,
    "nearly": TURN @ np.diag([1.0, 1.0 + 1e-12, 2.0, 2.0 + 1e-5]) @ TURN.T,
}


def half(x):
    return (x + x.T) / 2


def by_powers(coefficients):
    """sum_k c_k tr S^k of a symmetric matrix S, its Hessian times a direction: no eigenvalues."""

    def product(s, v):
        power = np.linalg.matrix_power
        return sum(
            k * c * power(s, j) @ v @ power(s, k - 2 - j)
            for k, c in coefficients.items()
            for j in range(k - 1)
        )

    return product


def of_log_sum(s, v):
    """The Hessian of log sum exp of the eigenvalues: with E = exp S, by Duhamel's integral."""
    e = sl.expm(s)
    frechet = sl.expm_frechet(s, v, compute_expm=False)
    total = np.trace(e)
    return frechet / total - np.trace(e @ v) / total**2 * e


SMOOTH = {
    "squares": (lambda x: np.sum(np.linalg.eigvalsh(half(x)) ** 2), by_powers({2: 1.0})),
    "polynomial": (
        lambda x: np.polyval([0.5, -1.0, 2.0, 0.0, 0.0], np.linalg.eigvalsh(half(x))).sum(),
        by_powers({4: 0.5, 3: -1.0, 2: 2.0}),
    ),
    "by eigh": (lambda x: np.sum(np.linalg.eigh(half(x))[0] ** 3), by_powers({3: 1.0})),
    "logsumexp": (
        lambda x: np.log(np.sum(np.exp(np.linalg.eigvalsh(half(x))))),
        of_log_sum,
    ),
    "singular values": (
        lambda x: np.sum(np.linalg.svd(half(x), compute_uv=False) ** 4),
        by_powers({4: 1.0}),
    ),
}


@pytest.mark.usefixtures("unsplit")
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions_of_repeated_eigenvalues(name, point):
    fun, product = SMOOTH[name]
    f = nbhvp.differentiable(fun, target="interpret")
    x, v = POINTS[point], RNG.normal(size=(4, 4))
    needed = product(x, half(v))
    for mode in ("forward-over-reverse", "reverse-over-reverse"):
        np.testing.assert_allclose(f.hvp(x, v, mode=mode), needed, 1e-9, 1e-9 * abs(needed).max())


def test_singular_values_that_are_zero():
    """The squares of all singular values are smooth where the matrix has no full rank."""
    f = nbhvp.differentiable(
        lambda x: np.sum(np.linalg.svd(x, compute_uv=False) ** 2), target="interpret"
    )
    v = RNG.normal(size=(5, 3))
    for x in (np.zeros((5, 3)), np.outer(np.arange(5.0), np.ones(3))):
        np.testing.assert_allclose(f.hvp(x, v), 2 * v, rtol=1e-9)
    nuclear = nbhvp.differentiable(lambda x: np.linalg.norm(x, "nuc"), target="interpret")
    assert np.isnan(nuclear.hvp(np.zeros((5, 3)), v)).all()


NOT_SMOOTH = {
    "least": lambda x: np.linalg.eigvalsh(half(x))[0],
    "ranked": lambda x: np.linalg.eigvalsh(half(x)) @ np.arange(4.0),
    "vectors": lambda x: np.linalg.eigh(half(x))[1][0, 0],
    "spectral norm": lambda x: np.linalg.norm(x, 2),
    "singular vectors": lambda x: np.linalg.svd(x)[0][0, 0],
}


@pytest.mark.parametrize("point", ["identity", "pairs"])
@pytest.mark.parametrize("name", NOT_SMOOTH)
def test_no_derivative_is_nan(name, point):
    f = nbhvp.differentiable(NOT_SMOOTH[name], target="interpret")
    assert np.isnan(f.hvp(POINTS[point], RNG.normal(size=(4, 4)))).any()


@pytest.mark.parametrize("rank", [5, 4, 3, 2])
def test_determinants_of_singular_matrices(rank):
    """Against the Leibniz formula's derivatives: cofactors, and cofactors of minors."""
    rng = np.random.default_rng(50 + rank)
    x = rng.normal(size=(5, rank)) @ rng.normal(size=(rank, 5))
    x = np.round(x, 3) if rank == 5 else x
    v, w = rng.normal(size=(2, 5, 5))
    value, slope, bend = oracle(mp.det, x, v, w)
    f = nbhvp.differentiable(np.linalg.det, target="interpret")
    assert f(x) == pytest.approx(value, rel=1e-11, abs=1e-12)
    assert np.vdot(w, f.grad(x)) == pytest.approx(slope, rel=1e-9, abs=1e-11)
    assert np.vdot(w, f.hvp(x, v)) == pytest.approx(bend, rel=1e-9, abs=1e-10)


# Failures.


def factor_or_penalty(x):
    try:
        factor = np.linalg.cholesky(x)
    except np.linalg.LinAlgError:
        return np.sum(x**2)
    return np.sum(np.log(np.diag(factor)))


FAILURES = [
    ("solve", lambda x: weighted(np.linalg.solve(x, B)), np.zeros((3, 3))),
    ("inv", lambda x: weighted(np.linalg.inv(x)), np.ones((3, 3))),
    ("cholesky", lambda x: weighted(np.linalg.cholesky(x)), -np.eye(3)),
    ("scipy cholesky", lambda x: weighted(sl.cholesky(x, lower=True)), -np.eye(3)),
    ("triangle", lambda x: weighted(sl.solve_triangular(x, B)), np.diag([1.0, 0.0, 1.0])),
    ("eigh", lambda x: weighted(np.linalg.eigvalsh(x)), np.full((3, 3), np.nan)),
    ("svd", lambda x: np.linalg.norm(x, 2), np.full((3, 3), np.nan)),
    ("scipy NaN", lambda x: weighted(sl.cholesky(x)), np.full((3, 3), np.nan)),
]


@pytest.mark.parametrize(("fun", "bad"), [c[1:] for c in FAILURES], ids=[c[0] for c in FAILURES])
def test_failures_are_those_of_the_library(fun, bad):
    with pytest.raises(ValueError) as needed, np.errstate(all="ignore"):  # noqa: PT011 its words are compared below
        fun(bad)
    f = nbhvp.differentiable(fun, target="interpret")
    good = np.eye(3) + 0.1
    f.hvp(good, good)
    for call in (f, f.grad, lambda x: f.hvp(x, good)):
        with pytest.raises(type(needed.value)) as raised:
            call(bad)
        assert str(raised.value) == str(needed.value)
    assert np.isfinite(f.grad(good)).all()


def test_a_failure_that_is_caught_is_a_branch():
    f = nbhvp.differentiable(factor_or_penalty, target="interpret")
    for x in (np.eye(3), -np.eye(3), 2 * np.eye(3), -2 * np.eye(3)):
        assert f(x) == factor_or_penalty(x)
        needed = 0.5 * np.linalg.inv(x) if x[0, 0] > 0 else 2 * x
        np.testing.assert_allclose(np.tril(f.grad(x)), np.tril(needed), rtol=1e-12)
    assert f.report().traces == 2


@pytest.mark.parametrize(
    ("fun", "words"),
    [
        (lambda x: np.linalg.qr(x[:, :2], "complete")[0][0, 0], "complete"),
        (lambda x: np.sum(np.linalg.pinv(x[:, :1] * np.ones(3))), "without full rank"),
        (lambda x: sl.lu_factor(x)[0].sum(), "lu_factor"),
        (lambda x: sl.qr(x, pivoting=True)[0].sum(), "pivoting"),
        (lambda x: sl.lu_solve((x, [0, 1, 2]), B).sum(), "that lu_factor returns"),
        (lambda x: np.linalg.qr(x, "raw")[0].sum(), "raw"),
        (lambda x: sl.solve(x, B, assume_a="circulant").sum(), "circulant"),
    ],
)
def test_what_has_no_derivative_is_refused(fun, words):
    with pytest.raises(nbhvp.TraceError, match=words) as error:
        nbhvp.differentiable(fun, target="interpret").grad(X)
    assert "test_linalg.py" in str(error.value)


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: np.linalg.solve(x[:2], B).sum(),
        lambda x: np.linalg.inv(x[0]).sum(),
        lambda x: np.linalg.solve(x, B[:2]).sum(),
        lambda x: np.linalg.eigvalsh(x, "M").sum(),
        lambda x: np.linalg.norm(x, 5),
    ],
)
def test_wrong_arguments_are_numpys_errors(fun):
    with pytest.raises((ValueError, np.linalg.LinAlgError)):
        fun(X)
    with pytest.raises((ValueError, np.linalg.LinAlgError)):
        nbhvp.differentiable(fun, target="interpret")(X)


# Point state.


def likelihood(x):
    """Of Gauss: one matrix in a solve and in a determinant."""
    covariance = spd(x)
    return x[0] @ np.linalg.solve(covariance, x[0]) + np.linalg.slogdet(covariance)[1]


COUNTED = [
    ("getrf", likelihood),
    ("cholesky", lambda x: weighted(sl.cho_solve(sl.cho_factor(spd(x)), x[0]))),
]


@pytest.mark.no_cover
@pytest.mark.parametrize(("routine", "fun"), COUNTED, ids=[c[0] for c in COUNTED])
@pytest.mark.parametrize("target", ["interpret", "cpu"])
def test_a_factorisation_is_computed_once_per_point(monkeypatch, target, routine, fun):
    calls = []
    original, by = primitives._routine, primitives.Routine.__call__

    def counted(name, *of):
        found = original(name, *of)
        return lambda *args, **kwargs: calls.append(name) or found(*args, **kwargs)

    monkeypatch.setattr(matrices, "MOST", 0)  # calls of LAPACK can be counted
    f = nbhvp.differentiable(fun, target=target)
    f.hvp(X, V[..., 0])
    monkeypatch.setattr(primitives, "_routine", counted)
    monkeypatch.setattr(
        primitives.Routine,
        "__call__",
        lambda self, *args: calls.append(self.function.__name__) or by(self, *args),
    )
    f.value_and_grad(2 * X)  # as solvers do: after a product alone it would take a run of its own
    H = f.hessian(2 * X)
    for _ in range(5):
        H @ V[..., 0].ravel()
        f.hvp(2 * X, V)
    assert calls.count(routine) == 1


def several(x):
    """Some functions in one program."""
    chosen = ("solve matrix", "eigvalsh", "qr", "det 4 x 4")
    return sum(fun(x) for name, fun, _ in CASES if name in chosen)


def test_newtons_method_by_solves():
    """Its first step starts from zeros, which the product's graph holds beside parts that move."""

    def root(x):
        matrix, u = np.eye(2) + 0.1 * x[:, None], np.zeros(2)
        for _ in range(2):
            u = u - np.linalg.solve(matrix + np.diag(u), matrix @ u - x)
        return u[0] ** 2 + u[1]

    f = nbhvp.differentiable(root, target="interpret")
    assert nbhvp.check(f, np.array([0.3, -0.4])).passed


@pytest.mark.compiles
@pytest.mark.no_cover
def test_compiled():
    f, g = (nbhvp.differentiable(several, target=t) for t in ("cpu", "interpret"))
    for x in (X, 1.1 * X):
        np.testing.assert_allclose(f.value_and_grad(x)[1], g.grad(x), rtol=1e-11, atol=1e-11)
        given, needed = f.hvp(x, V), g.hvp(x, V)
        assert_close(given, needed, 1e-11 * abs(needed).max())


def test_single_precision_stays():
    f = nbhvp.differentiable(several, target="interpret")
    needed = f.hvp(X, V)
    found = f.hvp(X.astype(np.float32), V.astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, needed, rtol=0, atol=2e-3 * abs(needed).max())


@pytest.mark.parametrize("n", [0, 1])
def test_smallest_matrices(n):
    fun = lambda x: np.linalg.slogdet(x)[1] + np.sum(np.linalg.inv(x)) + np.linalg.det(x)
    x = 2.0 * np.eye(n)
    f = nbhvp.differentiable(fun, target="interpret")
    assert f(x) == fun(x)
    needed = -1 / x**2 + 2 / x**3 if n else np.zeros((0, 0))
    np.testing.assert_allclose(f.hvp(x, np.ones((n, n))), needed, rtol=1e-13)
