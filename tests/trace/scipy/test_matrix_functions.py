"""Decompositions as the library makes them, functions of matrices, and equations for matrices.

Values are those of NumPy and SciPy bit by bit where their own routine computes them. Derivatives are
held to differences of the library's values, whose vectors are first turned to those at the point
(LAPACK's signs may flip from one point to the next), and to identities that hold everywhere.
"""

import numpy as np
import pytest
import scipy.linalg as sl
import scipy.sparse as sp
from scipy.sparse.linalg import splu, spsolve_triangular

import nbhvp
from tests.checks import assert_close, slope

pytestmark = pytest.mark.usefixtures("unsplit")

RNG = np.random.default_rng(31)
SIZES = (1, 2, 3, 5, 8, 12)
MODES = ("forward-over-reverse", "reverse-over-forward", "reverse-over-reverse")


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
    "tridiagonal": lambda x: sl.solve(x + 9 * np.eye(len(x)), x[0], assume_a="tridiagonal" if len(x) > 2 else "general"), "diagonal": lambda x: sl.solve(x + 9 * np.eye(len(x)), x[0], assume_a="diagonal"),
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
        a = x if dtype is np.float32 else x + np.complex64(1j) * x.T
        found = [*np.linalg.eigh(a), *np.linalg.svd(a[:3], full_matrices=False), np.linalg.det(a)]
        return flat(*found, *np.linalg.eig(a), sl.sqrtm(a @ adjoint(a)))

    f = interpreted(several)
    assert f(x).dtype == several(x).dtype == np.float32
    np.testing.assert_allclose(f(x), several(x), rtol=0, atol=1e-4)
    assert np.isfinite(f.jvp(x, x)).all()


# Derivatives of vectors, turned to those at the point.


def turned(found, known):
    """Columns with the signs of known ones."""
    signs = np.sign(np.sum(np.conj(known) * found, -2).real)
    return found * signs[..., None, :]


# fmt: off
VECTORS = {
    "eigh": lambda x: [np.linalg.eigh(symmetric(x))[1]],
    "eigh of upper": lambda x: [np.linalg.eigh(x, "U")[1]],
    "scipy eigh": lambda x: [sl.eigh(x)[1]],
    "complex": lambda x: [np.linalg.eigh(hermitian(x))[1]],
    "complex upper": lambda x: [sl.eigh(hermitian(x), lower=False)[1]],
    "of two": lambda x: [sl.eigh(symmetric(x), positive(x))[1]],
    "of two complex": lambda x: [sl.eigh(hermitian(x), complex_positive(x))[1]],
    "of two, upper": lambda x: [sl.eigh(hermitian(x), complex_positive(x), lower=False, driver="gv")[1]],
    "subset": lambda x: [sl.eigh(x, subset_by_index=[0, len(x) // 2])[1]],
    "eig": lambda x: [np.linalg.eig(x)[1]],
    "eig of two sides": lambda x: [*sl.eig(x, left=True)[1:]],
    "eig complex": lambda x: [np.linalg.eig(with_imaginary(x))[1]],
    "hermitian svd": lambda x: [np.linalg.svd(symmetric(x), hermitian=True)[0]],
    "svd": lambda x: (lambda u, s, vh: [u, vh.T])(*np.linalg.svd(x, full_matrices=False)),
    "svd wide": lambda x: (lambda u, s, vh: [u, vh.T])(*np.linalg.svd(np.concatenate([x, x**2], 1), full_matrices=False)),
    "svd tall": lambda x: (lambda u, s, vh: [u, vh.T])(*sl.svd(np.concatenate([x, x**2]), full_matrices=False, lapack_driver="gesvd")),
    "svd complex": lambda x: (lambda u, s, vh: [u, adjoint(vh)])(*np.linalg.svd(with_imaginary(x))),
    "svd complex wide": lambda x: (lambda u, s, vh: [u, adjoint(vh)])(*np.linalg.svd(with_imaginary(np.concatenate([x, x**2], 1)), full_matrices=False)),
    "null vector": lambda x: [np.linalg.svd(x[:, 1:])[0]],
    "null vector of wide": lambda x: [np.linalg.svd(x[1:])[2].T],
}
# fmt: on


@pytest.mark.parametrize("n", [3, 12])
@pytest.mark.parametrize("name", VECTORS)
def test_vectors_against_differences(name, n):
    fun, x, v = VECTORS[name], RNG.normal(size=(n, n)), RNG.normal(size=(n, n))
    known = fun(x)
    f = interpreted(lambda x: flat(*fun(x)))

    def plain(y):
        pairs = zip(fun(y), known, strict=True)
        return flat(*(turned(found, here) for found, here in pairs))

    needed = slope(plain, x, v, 1e-4 / n)
    scale = np.abs(needed).max()
    np.testing.assert_allclose(f.jvp(x, v), needed, 0, 1e-5 * scale)
    w = weights(needed.shape)
    assert np.sum(f.vjp(x, w) * v) == pytest.approx(w @ f.jvp(x, v), rel=1e-8, abs=1e-9 * scale)


@pytest.mark.parametrize("name", VECTORS)
def test_second_derivatives_of_vectors(name):
    """Against differences of gradients, by products that no sign changes; and by the other modes."""

    def energy(x):
        return sum(
            np.sum(
                weights(z.shape) * np.abs(z @ (z[0] * np.arange(z.shape[-1])).conj()[:, None]) ** 2
            )
            for z in VECTORS[name](x)
        )

    f, x, v = interpreted(energy), RNG.normal(size=(4, 4)), RNG.normal(size=(4, 4))
    needed = slope(f.grad, x, v, 1e-4)
    for mode in MODES if name in ("eigh", "subset", "eig complex", "svd complex") else MODES[:1]:
        np.testing.assert_allclose(f.hvp(x, v, mode=mode), needed, 0, 1e-6 * np.abs(needed).max())


# A simple value beside equal ones.


def turned_to(w):
    """A symmetric matrix with given eigenvalues."""
    q = np.linalg.qr(RNG.normal(size=(len(w), len(w))))[0]
    return half(q @ np.diag(w) @ q.T)


def with_values(w, m, n):
    middle = np.zeros((m, n))
    np.fill_diagonal(middle, w)
    left, right = (np.linalg.qr(RNG.normal(size=(k, k)))[0] for k in (m, n))
    return left @ middle @ right


C = RNG.normal(size=6)
# fmt: off
SIMPLE = [
    ("last of three", lambda x: C[:3] @ np.linalg.eigh(half(x))[1][:, 2] + sl.eigh(half(x))[0][2] ** 2, np.diag([1.0, 1.0, 3.0])),
    ("beside a triple", lambda x: (C[:4] @ np.linalg.eigh(half(x))[1][:, 3]) ** 2, turned_to([1.0, 1.0, 1.0, 3.0])),
    ("between pairs", lambda x: (C[:5] @ np.linalg.eigh(half(x))[1][:, 2]) ** 2 + np.linalg.eigvalsh(half(x))[2] ** 2, turned_to([1.0, 1.0, 2.0, 3.0, 3.0])),
    ("complex", lambda x: np.abs(C[:4] @ np.linalg.eigh(half(x) + 0.5j * (x - x.T))[1][:, 0]) ** 2, np.diag([0.0, 2.0, 2.0, 5.0])),
    ("left singular", lambda x: (C[:4] @ np.linalg.svd(x)[0][:, 0]) ** 2, with_values([3, 1, 1, 1.0], 4, 4)),
    ("right singular, tall", lambda x: (C[:4] @ np.linalg.svd(x, full_matrices=False)[2][0]) ** 2, with_values([3, 1, 1, 1.0], 6, 4)),
    ("left singular, tall", lambda x: (C @ np.linalg.svd(x, full_matrices=False)[0][:, 0]) ** 2, with_values([3, 1, 1, 1.0], 6, 4)),
    ("left singular, wide", lambda x: (C[:4] @ np.linalg.svd(x)[0][:, 0]) ** 2, with_values([3, 1, 1, 1.0], 4, 6)),
    ("singular value", lambda x: sl.svdvals(x)[1] ** 3, with_values([3, 2, 1, 1.0], 5, 4)),
    ("null vector, tall", lambda x: (C[:5] @ np.linalg.svd(x)[0][:, -1]) ** 2, with_values([3, 1, 1, 1.0], 5, 4)),
    ("null vector, wide", lambda x: (C[:5] @ np.linalg.svd(x)[2][-1]) ** 2, with_values([2, 2, 1, 1.0], 4, 5)),
    ("null vector, square", lambda x: (C[:4] @ np.linalg.svd(x)[2][-1]) ** 2, with_values([2, 2, 1, 0.0], 4, 4)),
    ("eig", lambda x: (C[:3] @ np.linalg.eig(x)[1][:, np.argmax(np.linalg.eigvals(x).real)]).real ** 2, np.diag([1.0, 1.0, 3.0])),
]
# fmt: on


@pytest.mark.parametrize(("fun", "x"), [c[1:] for c in SIMPLE], ids=[c[0] for c in SIMPLE])
def test_simple_values_beside_equal_ones(fun, x):
    f, v = interpreted(fun), RNG.normal(size=x.shape)
    gradient, product = f.grad(x), f.hvp(x, v)
    assert np.sum(gradient * v) == pytest.approx(slope(fun, x, v), rel=1e-6, abs=1e-7)
    needed = slope(f.grad, x, v, 3e-3)
    np.testing.assert_allclose(product, needed, 0, 1e-5 * np.abs(needed).max())
    np.testing.assert_allclose(f.hvp(x, v, mode="reverse-over-forward"), product, 0, 1e-10)


@pytest.mark.parametrize(
    ("fun", "x"),
    [
        (lambda x: np.linalg.eigh(half(x))[1][0, 0], np.diag([1.0, 1.0, 3.0])),
        (lambda x: np.linalg.eig(x)[1][0, 0] + x[0, 0] ** 2, np.diag([1.0, 1.0, 3.0])),
        (lambda x: np.linalg.eigvals(x)[0], np.diag([2.0, 2.0, 3.0])),
        (lambda x: np.linalg.svd(x)[0][0, -1], np.ones((5, 3)) + np.eye(5, 3)),
        (lambda x: np.linalg.svd(x, full_matrices=False)[0][0, 0], np.eye(3)),
    ],
)
def test_vectors_of_equal_values_have_no_derivative(fun, x):
    f = interpreted(fun)
    assert np.isnan(f.grad(x)).any()
    assert np.isnan(f.hvp(x, RNG.normal(size=x.shape))).any()


# Small functions whose values are NumPy's and SciPy's.

# fmt: off
PLAIN = [
    (lambda x: np.linalg.det(np.outer(x, x) + np.eye(7)), np.linspace(0.1, 1, 7)),
    (lambda x: np.linalg.det(np.outer(x, x) + np.eye(9)), np.linspace(0.1, 1, 9)),
    (lambda x: np.linalg.svd(x, full_matrices=False)[0][0, 1], np.arange(6.0).reshape(2, 3) ** 1.5),
    (lambda x: sl.eigh(x)[1][0, 1], np.array([[2.0, 1, 0], [1, 3, 1], [0, 1, 5.0]])),
    (lambda x: sl.lstsq(x, x[:, 0] + 1)[1], np.arange(6.0).reshape(3, 2) ** 2),
    (lambda x: np.linalg.matrix_rank(x, hermitian=True) * x[0, 0], np.diag([1.0, 2.0])),
    (lambda x: np.linalg.cond(x), np.zeros((2, 2))),
    (lambda x: np.linalg.cond(x, 1), np.ones((2, 2))),
    (lambda x: np.linalg.cond(x, "fro") + np.linalg.cond(x, -2), np.diag([1.0, 2.0])),
    (lambda x: sl.det(x[:, None, None] * np.eye(3)).sum(), np.arange(3.0)),
    (lambda x: sl.det(np.zeros((0, 3, 3)) * x).sum() + x, np.array(2.0)),
]
# fmt: on


@pytest.mark.parametrize(("fun", "x"), PLAIN)
def test_plain_values(fun, x):
    assert interpreted(fun)(x) == pytest.approx(fun(x), rel=1e-13)


# Determinants.


@pytest.mark.parametrize("n", SIZES)
def test_determinants(n):
    """A regular matrix: det A (A^-1)^T, and its derivative."""
    x, v = RNG.normal(size=(n, n)), RNG.normal(size=(n, n))
    inverse, det = np.linalg.inv(x), np.linalg.det(x)
    moved = inverse @ v
    needed = det * (np.trace(moved) * inverse - moved @ inverse).T
    f = interpreted((np.linalg.det, sl.det)[n % 2])
    np.testing.assert_allclose(f.grad(x), det * inverse.T, 1e-8, 1e-9 * abs(det))
    np.testing.assert_allclose(f.hvp(x, v), needed, 1e-7, 1e-8 * np.abs(needed).max())


@pytest.mark.parametrize("rank", [0, 2, 3, 4, 6])
def test_determinants_of_any_rank(rank):
    x = RNG.normal(size=(7, rank)) @ RNG.normal(size=(rank, 7))
    v, f = RNG.normal(size=(7, 7)), interpreted(np.linalg.det)
    u, s, vh = np.linalg.svd(x)
    sign = np.linalg.det(u) * np.linalg.det(vh)
    cofactor = np.array([np.prod(np.delete(s, k)) for k in range(7)])
    scale = np.prod(s[:rank])
    np.testing.assert_allclose(f.grad(x), sign * (u * cofactor) @ vh, 0, 1e-9 * scale)
    inside = u.T @ v @ vh.T
    both = np.array([[np.prod(np.delete(s, [i, j])) for j in range(7)] for i in range(7)])
    np.fill_diagonal(both, 0)
    moved = np.diag(both @ np.diag(inside)) - both * inside.T
    np.testing.assert_allclose(f.hvp(x, v), sign * u @ moved @ vh, 0, 1e-8 * scale)


# Identities.

# fmt: off
IDENTITIES = {
    "sqrtm": (lambda x: sl.sqrtm(positive(x)) @ sl.sqrtm(positive(x)), positive),
    "sqrtm of complex result": (lambda x: (sl.sqrtm(x) @ sl.sqrtm(x)).real, lambda x: x),
    "sqrtm complex": (lambda x: (sl.sqrtm(with_imaginary(x)) @ sl.sqrtm(with_imaginary(x))).imag, lambda x: with_imaginary(x).imag),
    "logm": (lambda x: sl.expm(sl.logm(positive(x))), positive),
    "logm of expm": (lambda x: sl.logm(sl.expm(x / 4)), lambda x: x / 4),
    "logm of complex result": (lambda x: sl.expm(sl.logm(x)).real, lambda x: x),
    "power": (lambda x: np.linalg.matrix_power(sl.fractional_matrix_power(positive(x), 0.25), 4), positive),
    "negative power": (lambda x: np.linalg.matrix_power(sl.fractional_matrix_power(positive(x), -0.5), 2), lambda x: np.linalg.inv(positive(x))),
    "integer power": (lambda x: sl.fractional_matrix_power(x, 3), lambda x: x @ x @ x),
    "circle": (lambda x: sl.cosm(x) @ sl.cosm(x) + sl.sinm(x) @ sl.sinm(x), lambda x: np.eye(3) + 0 * x),
    "hyperbola": (lambda x: sl.coshm(x) @ sl.coshm(x) - sl.sinhm(x) @ sl.sinhm(x), lambda x: np.eye(3) + 0 * x),
    "tangents": (lambda x: sl.cosm(x) @ sl.tanm(x) + sl.coshm(x) @ sl.tanhm(x), lambda x: sl.sinm(x) + sl.sinhm(x)),
    "sines of complex": (lambda x: (sl.cosm(with_imaginary(x)) + 1j * sl.sinm(with_imaginary(x))).real, lambda x: sl.expm(1j * with_imaginary(x)).real),
    "sylvester": (lambda x: (lambda z: x @ z + z @ positive(x))(sl.solve_sylvester(x, positive(x), x**2)), lambda x: x**2),
    "sylvester complex": (lambda x: (lambda a: (lambda z: (a @ z + z @ x).imag)(sl.solve_sylvester(a, x, a @ a)))(with_imaginary(x)), lambda x: (with_imaginary(x) @ with_imaginary(x)).imag),
    "lyapunov": (lambda x: (lambda z: x @ z + z @ x.T)(sl.solve_lyapunov(x, x**2)), lambda x: x**2),
    "discrete lyapunov": (lambda x: (lambda z: z - x @ z @ x.T / 25)(sl.solve_discrete_lyapunov(x / 5, x**2)), lambda x: x**2),
    "bilinear": (lambda x: (lambda z: z - x @ z @ x.T / 25)(sl.solve_discrete_lyapunov(x / 5, x**2, method="bilinear")), lambda x: x**2),
    "riccati": (lambda x: (lambda z: x.T @ z + z @ x - z @ x[:, :2] @ np.linalg.solve(positive(x[:2, :2]), x[:, :2].T) @ z)(sl.solve_continuous_are(x, x[:, :2], positive(x), positive(x[:2, :2]))), lambda x: -positive(x)),
    "discrete riccati": (lambda x: (lambda z, b: x.T @ z @ x - z - x.T @ z @ b @ np.linalg.solve(positive(x[:2, :2]) + b.T @ z @ b, b.T @ z @ x))(sl.solve_discrete_are(x, x[:, :2] ** 2, positive(x), positive(x[:2, :2])), x[:, :2] ** 2), lambda x: -positive(x)),
    "pinv hermitian": (lambda x: np.linalg.pinv(x, hermitian=True), lambda x: np.linalg.inv(np.tril(x) + np.tril(x, -1).T)),
    "lstsq of scipy": (lambda x: sl.lstsq(x[:, :2], x[:, 2])[1] * np.ones(2) + sl.lstsq(x[:, :2], x[:, 2], lapack_driver="gelsy")[0], lambda x: np.linalg.lstsq(x[:, :2], x[:, 2])[1] + np.linalg.lstsq(x[:, :2], x[:, 2])[0]),
    "eig": (lambda x: (lambda w, v: ((v * w) @ np.linalg.inv(v)).real)(*np.linalg.eig(x)), lambda x: x),
    "left": (lambda x: (lambda w, u, v: (v * w / np.sum(np.conj(u) * v, 0) @ adjoint(u)).real)(*sl.eig(x, left=True)), lambda x: x),
    "eigvals": (lambda x: np.stack([np.sum(np.linalg.eigvals(x) ** k).real for k in (1, 2, 3)]), lambda x: np.stack([np.trace(x), np.trace(x @ x), np.trace(x @ x @ x)])),
    "tensorsolve": (lambda x: np.linalg.tensorsolve(x.reshape(3, 1, 3), x[:, :1]), lambda x: np.linalg.solve(x, x[:, 0])),
    "tensorsolve by axes": (lambda x: np.linalg.tensorsolve(x.reshape(3, 3, 1), x[0], axes=(1,)), lambda x: np.linalg.solve(x, x[0])[None]),
    "tensorinv": (lambda x: np.linalg.tensorinv(x.reshape(3, 1, 3), ind=1).reshape(3, 3), np.linalg.inv),
}
# fmt: on
POINT = RNG.normal(size=(3, 3)) + np.diag([0.5, 1.0, 1.5])


@pytest.mark.parametrize("name", IDENTITIES)
def test_identities(name):
    one, other = (
        interpreted(lambda x, fun=fun: np.sum(weights(np.shape(fun(x))) * fun(x)))
        for fun in IDENTITIES[name]
    )
    v = RNG.normal(size=POINT.shape)
    assert one(POINT.T) == pytest.approx(other(POINT.T), rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(one.grad(POINT), other.grad(POINT), 1e-8, 1e-8)
    needed = other.hvp(POINT, v)
    for mode in MODES if name in ("sqrtm", "power", "sylvester", "riccati", "left") else MODES[:1]:
        given = one.hvp(POINT, v, mode=mode)
        np.testing.assert_allclose(given, needed, 1e-7, 1e-7 * max(1, np.abs(needed).max()))


def test_whether_a_result_is_complex_is_a_branch():
    f = interpreted(lambda x: np.sum(np.abs(sl.sqrtm(x))) + np.sum(np.abs(np.linalg.eigvals(x))))
    for x in (
        positive(POINT),
        POINT - 3 * np.eye(3),
        np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 2]]),
    ):
        assert f(x) == pytest.approx(
            np.sum(np.abs(sl.sqrtm(x))) + np.sum(np.abs(np.linalg.eigvals(x)))
        )
    assert f.report().traces > 1


# In rules of the user's own.

A = RNG.normal(size=(3, 3)) + 3 * np.eye(3)
# fmt: off
SOLVES = {
    "solve": np.linalg.solve, "scipy solve": sl.solve, "inv": lambda a, b: np.linalg.inv(a) @ b, "lstsq": lambda a, b: np.linalg.lstsq(a, b)[0], "pinv": lambda a, b: sl.pinv(a) @ b,
    "cho_solve": lambda a, b: sl.cho_solve(sl.cho_factor(a.T @ a), a.T @ b), "cholesky": lambda a, b: (lambda f: np.linalg.solve(f.T, sl.solve_triangular(f, a.T @ b, lower=True)))(np.linalg.cholesky(a.T @ a)),
    "lu": lambda a, b: sl.lu_solve(sl.lu_factor(a), b), "qr": lambda a, b: (lambda q, r: sl.solve_triangular(r, q.T @ b))(*np.linalg.qr(a)), "eigh": lambda a, b: (lambda w, v: v @ ((v.T @ (a.T @ b)) / w))(*np.linalg.eigh(a.T @ a)),
    "svd": lambda a, b: (lambda u, s, vh: vh.T @ ((u.T @ b) / s))(*np.linalg.svd(a)), "expm": lambda a, b: np.linalg.solve(a @ sl.expm(a), sl.expm(a) @ b), "sqrtm": lambda a, b: np.linalg.solve(sl.sqrtm(a.T @ a) @ sl.sqrtm(a.T @ a), a.T @ b),
}
# fmt: on


@pytest.mark.parametrize("name", SOLVES)
def test_solves_within_rules(name):
    @nbhvp.custom_jvp
    def root(a):
        return np.linalg.solve(A + a, np.ones(3))

    @root.defjvp
    def _(primals, tangents):
        u = root(primals[0])
        return u, -SOLVES[name](A + primals[0], tangents[0] @ u)

    x, v = 0.1 * RNG.normal(size=(3, 3)), RNG.normal(size=(3, 3))
    f = interpreted(lambda x: np.sum(root(x) ** 3))
    plain = interpreted(lambda x: np.sum(np.linalg.solve(A + x, np.ones(3)) ** 3))
    for y in (x, 2 * x):
        np.testing.assert_allclose(f.grad(y), plain.grad(y), rtol=1e-10)
        np.testing.assert_allclose(f.hvp(y, v), plain.hvp(y, v), rtol=1e-8, atol=1e-12)


FAILING = {
    "solve": lambda d, b: np.linalg.solve(np.diag(d), b),
    "inv": lambda d, b: np.linalg.inv(np.diag(d)) @ b,
    "cholesky": lambda d, b: sl.cho_solve(sl.cho_factor(np.diag(d)), b),
    "lstsq": lambda d, b: np.linalg.lstsq(np.diag(d), b)[0],
    "triangle": lambda d, b: sl.solve_triangular(np.diag(d), b),
    "band": lambda d, b: sl.solve_banded((0, 0), d[None], b),
    "symmetric band": lambda d, b: sl.solveh_banded(d[None], b),
    "splu": lambda d, b: splu(sp.diags_array(d).tocsc()).solve(b),
    "sparse triangle": lambda d, b: spsolve_triangular(sp.diags_array(d).tocsr(), b),
}


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", FAILING)
def test_rules_give_nan_where_a_solve_fails(name, first):
    @nbhvp.custom_jvp
    def total(d):
        return np.array(np.sum(d))

    @total.defjvp
    def _(primals, tangents):
        return total(primals[0]), np.sum(FAILING[name](primals[0], tangents[0]))

    f = interpreted(lambda x: total(x))
    points = [np.array([1.0, 2.0]), np.array([1.0, 0.0])]
    for k in (first, 1 - first):
        found = f.grad(points[k])
        assert np.isnan(found).any() if k else found == pytest.approx([1.0, 0.5])


@pytest.mark.parametrize(
    ("fun", "words"),
    [
        (lambda x: sl.schur(x)[0][0, 0], "schur has no derivative rule"),
        (lambda x: sl.eig(x, x + 1)[0][0].real, "two matrices"),
        (lambda x: sl.fractional_matrix_power(x, x[0, 0])[0, 0], "power that depends on x"),
    ],
)
def test_refusals_name_the_line(fun, words):
    with pytest.raises(nbhvp.TraceError, match=words) as error:
        interpreted(fun)(POINT)
    assert "test_matrix_functions.py" in str(error.value)


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: np.linalg.tensorsolve(x, x[:2]).sum(),
        lambda x: np.linalg.tensorinv(x, 0).sum(),
        lambda x: np.linalg.eigvals(x[:2]).real.sum(),
        lambda x: np.linalg.eigvals(x * np.inf).real.sum(),
        lambda x: sl.solve_discrete_lyapunov(x, x, method="other").sum(),
        lambda x: sl.solve_continuous_are(x, x, x, np.eye(3)).sum(),
    ],
)
def test_errors_are_those_of_the_library(fun):
    with pytest.raises((ValueError, np.linalg.LinAlgError)) as needed, np.errstate(all="ignore"):
        fun(POINT)
    with pytest.raises(type(needed.value)):
        interpreted(fun)(POINT)


def several(x):
    """Some functions in one program."""
    found = [*np.linalg.svd(x[:2], full_matrices=False), sl.eigh(x)[1], np.linalg.eigvals(x)]
    found += [np.linalg.det(x), sl.sqrtm(positive(x)), sl.solve_sylvester(x, positive(x), x)]
    return np.sum([np.sum(weights(np.shape(z)) * z.real) for z in found])


@pytest.mark.compiles
@pytest.mark.no_cover
def test_compiled():
    f, g = (nbhvp.differentiable(several, target=t) for t in ("cpu", "interpret"))
    v = RNG.normal(size=(3, 3, 2))
    for x in (POINT, 1.1 * POINT):
        assert f(x) == pytest.approx(several(x), rel=1e-12)
        np.testing.assert_allclose(f.grad(x), g.grad(x), rtol=1e-10, atol=1e-10)
        needed = g.hvp(x, v)
        assert_close(f.hvp(x, v), needed, 1e-9 * np.abs(needed).max())
