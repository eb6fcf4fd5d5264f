"""Steps by CuPy's libraries, on a stand-in that computes with NumPy over the simulated driver's memory."""

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

import nbhvp
from nbhvp.targets.cuda import library
from tests.device_arrays import computing
from tests.simulated_gpu import simulated_driver

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.compiles]

M = np.random.default_rng(0).standard_normal((4, 4))
M = M @ M.T + 4 * np.eye(4)
STACK = np.stack([M, M + 1, 2 * M])
ROWS, COLUMNS = np.nonzero(np.abs(M) > 1)
X = np.array([0.3, 0.1, 0.7, 0.5])


def spsolve(x):
    entries = np.sum(x) * M[ROWS, COLUMNS] + np.where(ROWS == COLUMNS, x[ROWS], 0)
    matrix = scipy.sparse.csc_array((entries, (ROWS, COLUMNS)), shape=(4, 4))
    return x @ scipy.sparse.linalg.spsolve(matrix, x)


FUNCTIONS = {
    "cholesky": lambda x: np.sum(np.log(np.diag(np.linalg.cholesky(M + np.diag(x))))),
    "upper": lambda x: np.sum(scipy.linalg.cholesky(M + np.diag(x)) ** 3),
    "cho_solve": lambda x: x @ scipy.linalg.cho_solve(scipy.linalg.cho_factor(M + np.diag(x)), x),
    "solve": lambda x: x @ np.linalg.solve(M + np.diag(x), x),
    "stacks": lambda x: np.sum(np.linalg.solve(STACK + np.diag(x), np.stack([x, x, x])[..., None])),
    "inv": lambda x: np.sum(np.linalg.inv(M + np.diag(x)) ** 2),
    "slogdet": lambda x: np.linalg.slogdet(M + np.diag(x))[1],
    "complex solve": lambda x: np.abs(np.sum(np.linalg.solve(M + 1j * np.diag(x), x))) ** 2,
    "triangle": lambda x: x @ scipy.linalg.solve_triangular(np.tril(M + np.diag(x)), x, lower=True),
    "eigvalsh": lambda x: np.sum(np.linalg.eigvalsh(M + np.diag(x)) ** 3),
    "eigvalsh of stacks": lambda x: np.sum(np.linalg.eigvalsh(STACK + np.diag(x)) ** 3),
    "svd": lambda x: np.sum(np.linalg.svd((M + np.diag(x))[:3], compute_uv=False) ** 3),
    "qr": lambda x: np.sum(np.linalg.qr(M + np.diag(x))[1] ** 4),
    "fft": lambda x: np.sum(np.abs(np.fft.fft(x)) ** 4),
    "rfft": lambda x: np.sum(np.abs(np.fft.rfft(x)) ** 4),
    "irfft": lambda x: np.sum(np.fft.irfft(x * (1 + 1j)) ** 4),
    "dct": lambda x: np.sum(scipy.fft.dct(x) ** 4),
    "sort": lambda x: np.sum(np.sort(x) * np.arange(4.0) * x),
    "spsolve": spsolve,
}


@pytest.fixture
def gpu():
    with simulated_driver(assembles=False) as stub:
        yield stub
        assert not stub.failures


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, gpu, monkeypatch):
    made, v = computing(monkeypatch, gpu), np.array([1.0, -0.5, 0.3, 2.0])
    f, g = (nbhvp.differentiable(FUNCTIONS[name], target=t) for t in ("cuda", "interpret"))
    for x in (X, X + 0.1):
        for found, needed in (f.grad(x), g.grad(x)), (f.hvp(x, v), g.hvp(x, v)):
            np.testing.assert_allclose(found, needed, rtol=1e-9, atol=1e-12)
    assert made["arrays"]
    assert f.report().library_steps > 0
    assert set(f.report().hosted) <= {"sparse_regular"}


def test_what_fails_is_nan(gpu, monkeypatch):
    """As on the host: a matrix that is not definite has no factor, and one that is singular no solution."""
    computing(monkeypatch, gpu)
    for fun in FUNCTIONS["cholesky"], lambda x: np.sum(np.linalg.solve(np.diag(x), x)):
        with pytest.raises(np.linalg.LinAlgError):
            nbhvp.differentiable(fun, target="cuda")(np.array([-9.0, -9.0, 0.0, 0.0]))


def test_without_cupy(gpu, monkeypatch):
    monkeypatch.setattr(library, "is_installed", lambda: False)
    f = nbhvp.differentiable(FUNCTIONS["cho_solve"], target="cuda")
    f.grad(X)
    report = f.report()
    assert report.library_steps == 0
    assert report.hosted == ("cholesky", "triangular")
    assert "on the host" in str(report)


def test_the_table_has_these_primitives():
    from nbhvp.graph import primitives as p

    assert library._EVALUATIONS.keys() <= p.TABLE.keys()
