"""Sparse matrices in traced functions, against mpmath's dense ones.

Constant matrices and their factors, made inside or outside of the function; matrices of constant
sparsity assembled from traced entries in every format; and how often a matrix is factored.
"""

import mpmath
import numpy as np
import pytest
import scipy.linalg as dense_linalg
import scipy.sparse as sp
import scipy.sparse.linalg as linalg

import nbhvp
from tests.digits import check_against, exact, mp_weighted, weighted

pytestmark = pytest.mark.usefixtures("unsplit")

mp = mpmath.mp
RNG = np.random.default_rng(30)
N = 4
X, V = RNG.normal(size=N), RNG.normal(size=(N, 2))
B = RNG.normal(size=N)
FIXED = (sp.random_array((N, N), density=0.4, rng=RNG) + 3 * sp.eye_array(N)).tocsc()
DENSE = FIXED.toarray()
LU, FACTORIZED = linalg.splu(FIXED), linalg.factorized(FIXED)
ROWS = np.array([0, 1, 2, 3, 0, 1, 3, 1], np.int32)  # as SciPy 1.15's SuperLU needs them
COLUMNS = np.array([0, 1, 2, 3, 1, 3, 0, 3], np.int32)
"""The place (1, 3) occurs twice."""
INDICES, INDPTR = np.array([0, 2, 1, 2, 3, 0]), np.array([0, 2, 3, 4, 6])


def entries(x):
    return np.concatenate([x + 4, x[:3] ** 2, x[3:]])


def matrix(x):
    return sp.coo_matrix((entries(x), (ROWS, COLUMNS)), shape=(N, N))


def array(x):
    return sp.coo_array((entries(x), (ROWS, COLUMNS)), shape=(N, N)).tocsr()


def mp_matrix(x):
    a = mp.zeros(N)
    values = [*(q + 4 for q in x), *(q**2 for q in x[:3]), x[3]]
    for i, j, q in zip(ROWS, COLUMNS, values, strict=True):
        a[int(i), int(j)] += q
    return a


def mp_compressed(values):
    a = mp.zeros(N)
    for i in range(N):
        for k in range(INDPTR[i], INDPTR[i + 1]):
            a[i, int(INDICES[k])] += values[k]
    return a


def tridiagonal(x):
    return sp.diags([x[1:] ** 2, x + 4, x[:-1]], [-1, 0, 1], format="csc")


def mp_tridiagonal(x):
    a = mp.diag([q + 4 for q in x])
    for k in range(N - 1):
        a[k + 1, k], a[k, k + 1] = x[k + 1] ** 2, x[k]
    return a


def mp_bands(x, diagonal, beside):
    a = mp.diag([diagonal(q) for q in x])
    for k in range(N - 1):
        a[k + 1, k] = a[k, k + 1] = beside(x[k + 1])
    return a


def elementwise(a, b):
    return mp.matrix(
        [[p * q for p, q in zip(*r, strict=True)] for r in zip(a.tolist(), b.tolist(), strict=True)]
    )


def total(a):
    return mp.fsum(q for q in a)


def joined(x):
    y = sp.vstack([matrix(x), FIXED]) @ x
    z = sp.bmat([[array(x), None], [None, FIXED]]) @ np.concatenate([x, x])
    return weighted(y) + weighted(z) + weighted(sp.kron(array(x), FIXED) @ np.outer(x, x).ravel())


def mp_joined(x):
    a, f = mp_matrix(x), exact(DENSE)
    y = [*(a * x), *(f * x)]
    return 2 * mp_weighted(y) + mp_weighted(a * (x * x.T) * f.T)


def mp_tril(a):
    return mp.matrix([[a[i, j] if j <= i else 0 for j in range(N)] for i in range(N)])


# fmt: off
CASES = [
    ("constant spsolve", lambda x: weighted(linalg.spsolve(FIXED, x**2)), lambda x: mp_weighted(mp.inverse(exact(DENSE)) * elementwise(x, x))),
    ("constant splu outside", lambda x: weighted(LU.solve(x**2)) + weighted(LU.solve(np.outer(x, x), "T")), lambda x: mp_weighted(mp.inverse(exact(DENSE)) * elementwise(x, x)) + mp_weighted(mp.inverse(exact(DENSE)).T * x * x.T)),
    ("constant splu inside", lambda x: weighted(linalg.splu(FIXED).solve(x**2, "H")), lambda x: mp_weighted(mp.inverse(exact(DENSE)).T * elementwise(x, x))),
    ("constant factorized", lambda x: weighted(FACTORIZED(x**2)) + weighted(linalg.factorized(FIXED)(x**3)), lambda x: mp_weighted(mp.inverse(exact(DENSE)) * elementwise(x, x)) + mp_weighted(mp.inverse(exact(DENSE)) * elementwise(x, elementwise(x, x)))),
    ("spsolve", lambda x: weighted(linalg.spsolve(array(x), x**2)), lambda x: mp_weighted(mp.inverse(mp_matrix(x)) * elementwise(x, x))),
    ("spsolve matrix", lambda x: weighted(linalg.spsolve(matrix(x).tocsc(), np.outer(B, x))), lambda x: mp_weighted(mp.inverse(mp_matrix(x)) * exact(B) * x.T)),
    ("splu", lambda x: weighted(linalg.splu(matrix(x).tocsc()).solve(B)), lambda x: mp_weighted(mp.inverse(mp_matrix(x)) * exact(B))),
    ("splu transposed", lambda x: weighted(linalg.splu(matrix(x).tocsc()).solve(x, "T")), lambda x: mp_weighted(mp.inverse(mp_matrix(x)).T * x)),
    ("splu complex", lambda x: weighted(linalg.splu((array(x) * (1 + 2j)).tocsc()).solve(B + 0j, "H")), lambda x: mp_weighted(mp.inverse((mp_matrix(x) * mp.mpc(1, 2)).H) * exact(B))),
    ("factorized", lambda x: weighted(linalg.factorized(array(x).tocsc())(x)), lambda x: mp_weighted(mp.inverse(mp_matrix(x)) * x)),
    ("spsolve_triangular", lambda x: weighted(linalg.spsolve_triangular(sp.tril(array(x)).tocsr(), x)), lambda x: mp_weighted(mp.inverse(mp_tril(mp_matrix(x))) * x)),
    ("products", lambda x: weighted(matrix(x) @ x) + weighted(x @ array(x)) + weighted(matrix(x) * x) + weighted(matrix(x).dot(x)), lambda x: 3 * mp_weighted(mp_matrix(x) * x) + mp_weighted(mp_matrix(x).T * x)),
    ("products with matrices", lambda x: weighted(matrix(x) @ np.outer(x, B)) + weighted(np.outer(B, x) @ array(x)), lambda x: mp_weighted(mp_matrix(x) * x * exact(B).T) + mp_weighted(exact(B) * x.T * mp_matrix(x))),
    ("sums and scaling", lambda x: weighted(((matrix(x) * x[0] + 2 * matrix(x).T - FIXED * x[1]) / x[2] - FIXED) @ x), lambda x: (lambda a: mp_weighted(((a * x[0] + 2 * a.T - exact(DENSE) * x[1]) / x[2] - exact(DENSE)) * x))(mp_matrix(x))),
    ("transposes and totals", lambda x: matrix(x).sum() ** 2 + weighted(array(x).T.sum(axis=0) ** 2) + array(x).trace() + weighted(matrix(x).diagonal()), lambda x: (lambda a: total(a) ** 2 + mp_weighted([total(a[i, :]) ** 2 for i in range(N)]) + sum(a[i, i] for i in range(N)) + mp_weighted([a[i, i] for i in range(N)]))(mp_matrix(x))),
    ("compressed rows", lambda x: weighted(sp.csr_matrix((np.concatenate([x, x[:2] ** 2]), INDICES, INDPTR)) @ x), lambda x: mp_weighted(mp_compressed([*x, x[0] ** 2, x[1] ** 2]) * mp.matrix([*x]))),
    ("compressed columns", lambda x: weighted(sp.csc_array((np.concatenate([x, x[:2] ** 2]), INDICES, INDPTR), shape=(N, N)) @ x), lambda x: mp_weighted(mp_compressed([*x, x[0] ** 2, x[1] ** 2]).T * x)),
    ("diagonals", lambda x: weighted(sp.diags_array([x[0], 2.0, x[1]], offsets=[-1, 0, 1], shape=(N, N)) @ x) + weighted(sp.diags(x**2) @ x), lambda x: mp_weighted(mp.matrix([[{-1: x[0], 0: 2, 1: x[1]}.get(j - i, 0) for j in range(N)] for i in range(N)]) * x) + mp_weighted([q**3 for q in x])),
    ("tridiagonal solve", lambda x: weighted(linalg.spsolve(tridiagonal(x), x)), lambda x: mp_weighted(mp.inverse(mp_tridiagonal(x)) * x)),
    ("products of matrices", lambda x: weighted((matrix(x).T @ sp.diags(x) @ matrix(x)) @ x) + weighted((FIXED @ array(x)).toarray()), lambda x: (lambda a: mp_weighted(a.T * mp.diag(list(x)) * a * x) + mp_weighted(exact(DENSE) * a))(mp_matrix(x))),
    ("elementwise", lambda x: matrix(x).multiply(FIXED).sum() * (array(x) * array(x)).sum() + array(x).multiply(x).sum() + matrix(x).power(2).sum(), lambda x: (lambda a: total(elementwise(a, exact(DENSE))) * total(elementwise(a, a)) + sum(a[i, j] * x[j] for i in range(N) for j in range(N)) + total(elementwise(a, a)))(mp_matrix(x))),
    ("indexing", lambda x: weighted(array(x)[1:3] @ x) + array(x)[0, 1] ** 2 + array(x)[2, 0] + weighted(array(x)[:, [0, 3]].toarray()), lambda x: (lambda a: mp_weighted(a[1:3, :] * x) + a[0, 1] ** 2 + mp_weighted(mp.matrix([[a[i, 0], a[i, 3]] for i in range(N)])))(mp_matrix(x))),
    ("joined", joined, mp_joined),
    ("dense results", lambda x: weighted(matrix(x).toarray()) + weighted(array(x) + np.outer(x, x)) + weighted(FIXED + np.outer(x, x)) + weighted(sp.tril(matrix(x)).toarray()), lambda x: (lambda a: 2 * mp_weighted(a) + 2 * mp_weighted(x * x.T) + mp_weighted(exact(DENSE)) + mp_weighted(mp_tril(a)))(mp_matrix(x))),
    ("from dense", lambda x: weighted(sp.csr_array(np.outer(x, x)) @ x), lambda x: mp_weighted(x * x.T * x)),
    ("solve_banded", lambda x: weighted(dense_linalg.solve_banded((1, 1), np.stack([x, x**2 + 4, x]), x)), lambda x: mp_weighted(mp.inverse(mp.matrix([[{0: x[i] ** 2 + 4, 1: x[j], -1: x[j]}.get(j - i, 0) for j in range(N)] for i in range(N)])) * x)),
    ("solveh_banded", lambda x: weighted(dense_linalg.solveh_banded(np.stack([x, x**2 + 14]), x)), lambda x: mp_weighted(mp.inverse(mp_bands(x, lambda q: q**2 + 14, lambda q: q)) * x)),
    ("solveh_banded lower", lambda x: weighted(dense_linalg.solveh_banded(np.stack([x[::-1] ** 2 + 14, x[::-1]]), x, lower=True)), lambda x: mp_weighted(mp.inverse(mp.matrix([[{0: x[N - 1 - i] ** 2 + 14, 1: x[N - 1 - min(i, j)]}.get(abs(j - i), 0) for j in range(N)] for i in range(N)])) * x)),
]
# fmt: on


@pytest.mark.parametrize(("fun", "exactly"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_against_mpmath(fun, exactly):
    check_against(exactly, nbhvp.differentiable(fun, target="interpret"), fun, X, V)


# What another expression gives as well, on dense arrays.
ALIKE = [
    ("families", lambda x: FIXED * matrix(x) @ x + (x * matrix(x)), lambda x: DENSE * array(x).toarray() @ x + x @ array(x).toarray()),
    ("quotients", lambda x: (FIXED / x[0] + array(x) / (1 + x**2)) @ x, lambda x: (DENSE / x[0] + array(x).toarray() / (1 + x**2)) @ x),
    ("order of operands", lambda x: (FIXED - array(x)) @ x + (0 + array(x)) @ x + (FIXED @ array(x)) @ x + (array(x).T @ FIXED) @ x, lambda x: (lambda a: DENSE @ x - a @ x + a @ x + DENSE @ a @ x + a.T @ DENSE @ x)(array(x).toarray())),
    ("dense", lambda x: array(x).todense() @ x + array(x).sum(axis=1) - array(x).sum(-2), lambda x: (lambda a: a @ x + a.sum(1) - a.sum(0))(array(x).toarray())),
    ("classes", lambda x: sp.csc_array(array(x)).astype(complex).conj().data.real, lambda x: np.array([x[0] + 4, x[2] ** 2, x[1] + 4, x[0] ** 2, x[2] + 4, x[3] + 4, x[1] ** 2 + x[3]])[[0, 1, 3, 2, 4, 6, 5]]),
    ("one column", lambda x: linalg.spsolve(array(x), x[:, None]), lambda x: np.linalg.solve(array(x).toarray(), x)),
    ("both", lambda x: LU.solve(B) * x + linalg.spsolve(FIXED, B), lambda x: np.linalg.solve(DENSE, B) * (1 + x)),
]  # fmt: skip


@pytest.mark.parametrize(("fun", "other"), [c[1:] for c in ALIKE], ids=[c[0] for c in ALIKE])
def test_like_dense_arrays(fun, other):
    f, g = (
        nbhvp.differentiable(lambda x, make=make: weighted(make(x)), target="interpret")
        for make in (fun, other)
    )
    np.testing.assert_allclose(f(X), weighted(np.asarray(fun(X))), rtol=1e-12)
    needed = g.hvp(X, V)
    np.testing.assert_allclose(f.hvp(X, V), needed, 1e-10, 1e-10 * max(1, abs(needed).max()))


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: matrix(x) @ x[:2],
        lambda x: array(x) + FIXED[:2],
        lambda x: array(x) @ FIXED[:2],
        lambda x: linalg.spsolve(array(x), x[:2]),
        lambda x: linalg.spsolve(array(x)[:2], x),
        lambda x: sp.coo_array((x, (ROWS[:4], COLUMNS[:4])), shape=(2, 2)),
    ],
)
def test_wrong_shapes_are_errors(fun):
    for call in (fun, nbhvp.differentiable(fun, target="interpret")):
        with pytest.raises(ValueError):  # noqa: PT011 SciPy's words differ by version
            call(X)


def asks(x):
    """Questions about a matrix, answered as SciPy does."""
    a, b = matrix(x), array(x)
    assert sp.issparse(a)
    assert isinstance(a, sp.coo_matrix)
    assert isinstance(a.tocsc(), sp.csc_matrix)
    assert (b.shape, b.nnz, b.format, b.ndim) == ((N, N), 7, "csr", 2)
    return weighted(b.data * b.indices) + b.indptr[-1] * x[0]


def test_questions():
    f = nbhvp.differentiable(asks, target="interpret")
    assert f(X) == pytest.approx(asks(X), rel=1e-14)
    assert f.report().traces == 1


def test_indices_that_are_arguments_are_guards():
    fun = lambda x, rows: weighted(sp.csr_array((x, (rows, np.arange(N)))) @ x)
    f = nbhvp.differentiable(fun, target="interpret")
    for rows in (np.arange(N), np.arange(N)[::-1].copy(), np.arange(N)):
        assert f(X, rows) == pytest.approx(fun(X, rows), rel=1e-14)
    assert f.report().traces == 2


FAILURES = [
    ("splu", lambda x: weighted(linalg.splu(sp.diags(x, format="csc")).solve(B))),
    (
        "spsolve_triangular",
        lambda x: weighted(linalg.spsolve_triangular(sp.diags(x, format="csr"), B)),
    ),
    ("solve_banded", lambda x: weighted(dense_linalg.solve_banded((0, 0), x[None], B))),
    ("solveh_banded", lambda x: weighted(dense_linalg.solveh_banded(x[None], B))),
]


@pytest.mark.parametrize("fun", [c[1] for c in FAILURES], ids=[c[0] for c in FAILURES])
def test_failures_are_those_of_scipy(fun):
    bad = np.array([1.0, 0.0, 1.0, 1.0])
    with pytest.raises((RuntimeError, np.linalg.LinAlgError)) as needed:
        fun(bad)
    f = nbhvp.differentiable(fun, target="interpret")
    f.hvp(np.ones(N), B)
    for call in (f, f.grad, lambda x: f.hvp(x, B)):
        with pytest.raises(type(needed.value)) as raised:
            call(bad)
        assert str(raised.value) == str(needed.value)


@pytest.mark.parametrize(
    ("fun", "words"),
    [
        (lambda x: matrix(x).max(), "max of a sparse matrix"),
        (lambda x: matrix(x).nnz * x[0], "given twice"),
        (lambda x: matrix(x).sum(axis=0)[0], "use coo_array"),
        (lambda x: matrix(x).todense()[0], "toarray"),
        (lambda x: (sp.csr_matrix(DENSE) + x)[0], "csr_array"),
        (lambda x: linalg.splu(matrix(x).tocsc()).L.sum(), "L of the factors"),
        (lambda x: linalg.eigsh(matrix(x))[0].sum(), "eigsh has no derivative rule"),
        (lambda x: linalg.spsolve(array(x), FIXED).sum(), "sparse right side"),
    ],
)
def test_what_is_refused(fun, words):
    with pytest.raises(nbhvp.TraceError, match=words) as error:
        nbhvp.differentiable(fun, target="interpret").grad(X)
    assert "test_sparse.py" in str(error.value)


@pytest.mark.compiles
@pytest.mark.parametrize("target", ["interpret", "cpu"])
def test_a_matrix_is_factored_once_per_point(monkeypatch, target):
    fun = lambda x: x @ linalg.splu(array(x).tocsc()).solve(x)
    f = nbhvp.differentiable(fun, target=target)
    needed = nbhvp.differentiable(lambda x: x @ np.linalg.solve(array(x).toarray(), x))
    found = f.hvp(X, V)
    np.testing.assert_allclose(found, needed.hvp(X, V), rtol=1e-11)
    calls = []
    original = linalg.splu
    monkeypatch.setattr(linalg, "splu", lambda a: calls.append(a) or original(a))
    H = f.hessian(2 * X)
    f.value_and_grad(2 * X)
    for _ in range(5):
        H @ B
        f.hvp(2 * X, V)
    assert len(calls) == 1


def test_single_precision_stays():
    fun = lambda x: x @ linalg.spsolve(tridiagonal(x), x)
    f = nbhvp.differentiable(fun, target="interpret")
    found = f.hvp(X.astype(np.float32), V.astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, f.hvp(X, V), rtol=1e-4, atol=1e-4)
