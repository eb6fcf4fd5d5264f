"""Decompositions as the library makes them, functions of matrices, and equations for matrices.

Values are those of NumPy and SciPy bit by bit where their own routine computes them. Derivatives are
held to differences of the library's values, whose vectors are first turned to those at the point
(LAPACK's signs may flip from one point to the next), and to identities that hold everywhere.
"""

import numpy as np
import pytest
import scipy.linalg as sl
import scipy.sparse as sp
from checks import assert_close, slope
from scipy.sparse.linalg import splu, spsolve_triangular

import nbhvp

RNG = np.random.default_rng(31)
SIZES = range(1, 13)


def interpreted(fun):
    return nbhvp.differentiable(fun, target="interpret")


def adjoint(x):
    return np.swapaxes(np.conj(x), -1, -2)


def with_imaginary(x):
    return x + 1j * np.cos(3 * x) * x


def symmetric(x):
    return x + np.swapaxes(x, -1, -2)


def half(x):
    return (x + x.T) / 2


def hermitian(x):
    return with_imaginary(x) + adjoint(with_imaginary(x))


def positive(x):
    return x @ np.swapaxes(x, -1, -2) + np.eye(x.shape[-1])


def complex_positive(x):
    return with_imaginary(x) @ adjoint(with_imaginary(x)) + np.eye(x.shape[-1])


def flat(*results):
    """Real and imaginary parts of some results, in one array."""
    parts = [part for z in results for part in (np.real(z), np.imag(z))]
    return np.concatenate([np.ravel(part) for part in parts])


def weights(shape):
    return np.cos(1.0 + np.arange(np.prod(shape, dtype=int))).reshape(shape)


# Values, bit by bit: of square matrices, of any, of symmetric ones.

# fmt: off
OF_SQUARE = {
    "det": np.linalg.det, "scipy det": sl.det,
    "eigh": lambda x: flat(*np.linalg.eigh(x)), "eigh of upper": lambda x: flat(*np.linalg.eigh(x, "U")),
    **{f"scipy eigh {d}": lambda x, d=d: flat(*sl.eigh(x, driver=d)) for d in (None, "ev", "evd", "evr", "evx")},
    "scipy eigh of upper": lambda x: flat(*sl.eigh(x, lower=False)),
    "subset": lambda x: flat(*sl.eigh(x, subset_by_index=[0, len(x) // 2])),
    "subset by evx": lambda x: flat(*sl.eigh(x, subset_by_index=[len(x) // 2, len(x) - 1], driver="evx")),
    "eigh complex": lambda x: flat(*np.linalg.eigh(x + 1j * x.T)), "eigh stack": lambda x: flat(*np.linalg.eigh(np.stack([x, 2 - x]))),
    "svd hermitian": lambda x: flat(*np.linalg.svd(x, hermitian=True)),
    "eig": lambda x: flat(*np.linalg.eig(x)), "eigvals": lambda x: flat(np.linalg.eigvals(x)), "eig stack": lambda x: flat(*np.linalg.eig(np.stack([x, x.T]))),
    "scipy eig": lambda x: flat(*sl.eig(x, left=True)), "scipy eigvals": lambda x: flat(sl.eigvals(x)), "eig left": lambda x: flat(*sl.eig(x, left=True, right=False)),
    "eig complex": lambda x: flat(*np.linalg.eig(x + 1j * x.T)),
    "sqrtm": lambda x: flat(sl.sqrtm(x)), "logm": lambda x: flat(sl.logm(x)), "fractional power": lambda x: flat(sl.fractional_matrix_power(x, 0.3)),
    "sylvester": lambda x: sl.solve_sylvester(x, x + 1, x),
}
OF_ANY = {
    "svd": lambda x: flat(*np.linalg.svd(x, full_matrices=False)), "svd full": lambda x: flat(*np.linalg.svd(x)),
    "scipy svd": lambda x: flat(*sl.svd(x, full_matrices=False)), "gesvd": lambda x: flat(*sl.svd(x, full_matrices=False, lapack_driver="gesvd")),
    "svd complex": lambda x: flat(*np.linalg.svd(x + 1j * x**2, full_matrices=False)), "svd stack": lambda x: flat(*np.linalg.svd(np.stack([x, 1 - x]), full_matrices=False)),
}
OF_POSITIVE = {
    "cholesky": np.linalg.cholesky, "cholesky upper": lambda x: np.linalg.cholesky(x, upper=True),
    "scipy cholesky": sl.cholesky, "scipy cholesky lower": lambda x: sl.cholesky(x, lower=True),
}
# Composed here of other routines than the library's: to rounding.
OF_REGULAR = {
    "solve": lambda x: np.linalg.solve(x, np.ones(len(x))), "scipy solve": lambda x: sl.solve(x, np.ones((len(x), 2))),
    "inv": np.linalg.inv, "scipy inv": sl.inv, "slogdet": lambda x: flat(*np.linalg.slogdet(x)), "lu": lambda x: sl.lu_solve(sl.lu_factor(x), x[0]),
    "pivots": lambda x: sl.lu_factor(x)[1] + 0 * x[0],
    "tridiagonal": lambda x: sl.solve(x + 9 * np.eye(len(x)), x[0], assume_a="tridiagonal"), "diagonal": lambda x: sl.solve(x + 9 * np.eye(len(x)), x[0], assume_a="diagonal"),
    "eigvalsh": np.linalg.eigvalsh, "svdvals": sl.svdvals, "expm": sl.expm, "qr": lambda x: flat(*np.linalg.qr(x)), "scipy qr": lambda x: flat(*sl.qr(x, mode="economic")),
    "eigh of two": lambda x: flat(*sl.eigh(symmetric(x), positive(x))), **{f"eigh of two, {d}": lambda x, d=d: flat(*sl.eigh(symmetric(x), positive(x), driver=d, lower=False)) for d in ("gv", "gvd", "gvx")},
    "cosm": sl.cosm, "sinm": sl.sinm, "tanm": lambda x: sl.tanm(x / 9), "coshm": sl.coshm, "sinhm": sl.sinhm, "tanhm": lambda x: sl.tanhm(x / 9),
    "lyapunov": lambda x: sl.solve_continuous_lyapunov(x + 9 * np.eye(len(x)), x), "discrete": lambda x: sl.solve_discrete_lyapunov(x / 9, x), "bilinear": lambda x: sl.solve_discrete_lyapunov(x / 9, x, method="bilinear"),
}
# fmt: on


@pytest.mark.parametrize("n", SIZES)
def test_values_bit_by_bit(n):
    x = RNG.normal(size=(n, n))
    for name, fun in OF_SQUARE.items():
        np.testing.assert_array_equal(interpreted(fun)(x), fun(x), name)
    for name, fun in OF_POSITIVE.items():
        np.testing.assert_array_equal(interpreted(fun)(positive(x)), fun(positive(x)), name)
    for shape in ((n, n), (n + 1, n), (n, n + 1), (2 * n + 3, n), (n, 2 * n + 3)):
        x = RNG.normal(size=shape)
        for name, fun in OF_ANY.items():
            np.testing.assert_array_equal(interpreted(fun)(x), fun(x), f"{name} {shape}")


@pytest.mark.parametrize("n", SIZES)
def test_values_to_rounding(n):
    x = RNG.normal(size=(n, n)) + 0.1 * n * np.eye(n)
    condition = np.linalg.cond(positive(x)) * n
    for name, fun in OF_REGULAR.items():
        scale = np.abs(fun(x)).max()
        np.testing.assert_allclose(
            interpreted(fun)(x), fun(x), 0, 1e-15 * condition * scale + 1e-12 * scale, err_msg=name
        )


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_single_precision(dtype):
    x = RNG.normal(size=(5, 5)).astype(np.float32)

    def several(x):
    """Some functions in one program."""
    found = [*np.linalg.svd(x[:2], full_matrices=False), sl.eigh(x)[1], np.linalg.eigvals(x)]
    found += [np.linalg.det(x), sl.sqrtm(positive(x)), sl.solve_sylvester(x, positive(x), x)]
    return np.sum([np.sum(weights(np.shape(z)) * z.real) for z in found])


@pytest.mark.no_cover
def test_compiled():
    f, g = (nbhvp.differentiable(several, target=t) for t in ("cpu", "interpret"))
    v = RNG.normal(size=(3, 3, 2))
    for x in (POINT, 1.1 * POINT):
        assert f(x) == pytest.approx(several(x), rel=1e-12)
        np.testing.assert_allclose(f.grad(x), g.grad(x), rtol=1e-10, atol=1e-10)
        needed = g.hvp(x, v)
        assert_close(f.hvp(x, v), needed, 1e-9 * np.abs(needed).max())
