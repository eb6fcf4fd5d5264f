"""Functions of numpy.linalg and scipy.linalg of a square matrix, with the same in mpmath."""

import mpmath
import numpy as np
import scipy.linalg as sl

from tests.digits import exact, mp_weighted, weighted

mp = mpmath.mp
RNG = np.random.default_rng(20)
N = 3
X = RNG.normal(size=(N, N)) + 0.5 * np.eye(N)
V = RNG.normal(size=(N, N, 2))
B = RNG.normal(size=N)
M = RNG.normal(size=(N, N))


def spd(x):
    return x @ x.T + np.eye(N)


def mp_spd(x):
    return x * x.T + mp.eye(N)


def symmetric(x):
    return x + x.T


def with_imaginary(x):
    return x + 1j * (x.T @ M)


def mp_complex(x):
    return x + mp.mpc(0, 1) * (x.T * exact(M))


def hermitian(x):
    return with_imaginary(x) @ with_imaginary(x).conj().T + np.eye(N)


def mp_hermitian(x):
    return mp_complex(x) * mp_complex(x).H + mp.eye(N)


def tall(x):
    return np.concatenate([x, x[:2] ** 2])


def mp_tall(x):
    return mp.matrix([*x.tolist(), *([q**2 for q in row] for row in x.tolist()[:2])])


def stacked(x):
    return np.stack([x, x.T + M])


def lower_only(x):
    """What LAPACK reads of a symmetric matrix."""
    return mp.matrix(N, N) + mp.matrix(
        [[x[max(i, j), min(i, j)] for j in range(N)] for i in range(N)]
    )


def column(values):
    return mp.matrix([[q] for q in values])


def mp_eigenvalues(a):
    return column(sorted(mp.eighe(a, eigvals_only=True), key=mp.re))


def mp_singular(a):
    """Singular values, largest first."""
    gram = a.H * a if a.rows >= a.cols else a * a.H
    return column(
        sorted((mp.sqrt(mp.re(w)) for w in mp.eighe(gram, eigvals_only=True)), reverse=True)
    )


def mp_vectors(a, function):
    """The sum of function(w) v v^H over eigenvectors."""
    w, v = mp.eighe(a)
    order = sorted(range(len(w)), key=lambda k: mp.re(w[k]))
    total = mp.zeros(a.rows)
    for rank, k in enumerate(order):
        total += function(w[k], rank) * v[:, k] * v[:, k].H
    return total


def mp_qr(a):
    """Q and R with the signs of LAPACK's: the diagonal of R is of either sign, as Householder gives."""
    q, r = mp.qr(a, mode="skinny")
    plain = np.linalg.qr(np.array(a.tolist(), complex if any(mp.im(z) for z in a) else float))[1]
    for k in range(min(r.rows, r.cols)):
        if mp.re(r[k, k]) * plain[k, k].real < 0:
            r[k, :], q[:, k] = -r[k, :], -q[:, k]
    return q, r


def mp_pinv(a):
    if a.rows >= a.cols:
        return mp.inverse(a.H * a) * a.H
    return a.H * mp.inverse(a * a.H)


def mp_toeplitz(c, r):
    n = len(c)
    return mp.matrix([[c[i - j] if i >= j else r[j - i] for j in range(n)] for i in range(n)])


def projector(x):
    w, v = np.linalg.eigh(symmetric(x))
    return (v * np.exp(w / 4)) @ v.T


def of_svd(x):
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    return weighted(u * u) + weighted(vh * vh) + weighted((u * s**2) @ vh)


def mp_of_svd(a):
    """By the eigenvectors of the Gram matrices, largest singular value first."""
    if a.rows < a.cols:
        raise AssertionError("write it for the taller matrix")
    w, v = mp.eigsy(a.T * a)
    order = sorted(range(len(w)), key=lambda k: -w[k])
    s = [mp.sqrt(w[k]) for k in order]
    v = mp.matrix([[v[i, k] for k in order] for i in range(v.rows)])
    u = a * v * mp.diag([1 / q for q in s])
    square = lambda z: z.apply(lambda q: q * q)
    middle = u * mp.diag([q * q for q in s]) * v.T
    return mp_weighted(square(u)) + mp_weighted(square(v).T) + mp_weighted(middle)


def least_squares(x):
    solution, residuals, rank, s = np.linalg.lstsq(tall(x), x[0, 0] * np.arange(5.0))
    return weighted(solution) + residuals[0] * rank + s[1]


def mp_least_squares(x):
    a, b = mp_tall(x), x[0, 0] * exact(np.arange(5.0))
    solution = mp_pinv(a) * b
    rest = b - a * solution
    return mp_weighted(solution) + N * (rest.T * rest)[0] + mp_singular(a)[1]


def norms(x):
    orders = (2, -2, "nuc", "fro", 1, -1, np.inf, -np.inf)
    return sum(np.linalg.norm(x, o) for o in orders) + sl.norm(x) + np.linalg.cond(x)


def mp_norms(x):
    s = list(mp_singular(x))
    by = [[mp.fsum(abs(q) for q in line) for line in m.tolist()] for m in (x.T, x)]
    frobenius = mp.sqrt(mp.fsum(q * q for q in x))
    extremes = mp.fsum(max(sums) + min(sums) for sums in by)
    return s[0] + s[-1] + mp.fsum(s) + 2 * frobenius + extremes + s[0] / s[-1]


def vector_norms(x):
    orders = (2, 1, np.inf, -np.inf, 3, 0.5, -2)
    return sum(np.linalg.norm(x.ravel(), o) for o in orders)


def mp_vector_norms(x):
    sizes = [abs(q) for q in x]
    powers = mp.fsum(
        mp.fsum(q**o for q in sizes) ** (1 / o) for o in map(mp.mpf, (2, 1, 3, 0.5, -2))
    )
    return powers + max(sizes) + min(sizes)


# fmt: off
CASES = [
    ("solve", lambda x: weighted(np.linalg.solve(x, B * x[0])), lambda x: mp_weighted(mp.inverse(x) * column(mp.mpf(b) * q for b, q in zip(B, x[0, :], strict=True)))),
    ("solve matrix", lambda x: weighted(np.linalg.solve(x, M @ x)), lambda x: mp_weighted(mp.inverse(x) * exact(M) * x)),
    ("solve stack", lambda x: weighted(np.linalg.solve(stacked(x), x)[1]), lambda x: mp_weighted(mp.inverse(x.T + exact(M)) * x)),
    ("solve one, stack on the right", lambda x: weighted(np.linalg.solve(x, stacked(x))[1]), lambda x: mp_weighted(mp.inverse(x) * (x.T + exact(M)))),
    ("solve stack, vector", lambda x: weighted(np.linalg.solve(stacked(x), x[0])[1]), lambda x: mp_weighted(mp.inverse(x.T + exact(M)) * x[0, :].T)),
    ("solve complex", lambda x: weighted(np.linalg.solve(with_imaginary(x), B)), lambda x: mp_weighted(mp.inverse(mp_complex(x)) * exact(B))),
    ("scipy solve transposed", lambda x: weighted(sl.solve(x, B, transposed=True)), lambda x: mp_weighted(mp.inverse(x.T) * exact(B))),
    ("scipy solve positive definite", lambda x: weighted(sl.solve(spd(x), B, assume_a="pos", lower=True)), lambda x: mp_weighted(mp.inverse(mp_spd(x)) * exact(B))),
    ("scipy solve symmetric", lambda x: weighted(sl.solve(x + 3 * np.eye(N), B, assume_a="sym", lower=True)), lambda x: mp_weighted(mp.inverse(lower_only(x + 3 * mp.eye(N))) * exact(B))),
    ("inv", lambda x: weighted(np.linalg.inv(x)) + weighted(sl.inv(x)), lambda x: 2 * mp_weighted(mp.inverse(x))),
    ("det", lambda x: np.linalg.det(x) + sl.det(x[:2, :2]), lambda x: mp.det(x) + mp.det(x[:2, :2])),
    ("det 4 x 4", lambda x: np.linalg.det(np.kron(x[:2, :2], spd(x)[1:, 1:])), lambda x: (mp.det(x[:2, :2]) * mp.det(mp_spd(x)[1:, 1:])) ** 2),
    ("det complex", lambda x: np.abs(np.linalg.det(with_imaginary(x))), lambda x: abs(mp.det(mp_complex(x)))),
    ("slogdet", lambda x: np.linalg.slogdet(x)[1] + np.linalg.slogdet(x).sign * x[0, 0], lambda x: mp.log(abs(mp.det(x))) + mp.sign(mp.det(x)) * x[0, 0]),
    ("slogdet stack", lambda x: np.linalg.slogdet(stacked(x)).logabsdet.sum(), lambda x: mp.log(abs(mp.det(x))) + mp.log(abs(mp.det(x.T + exact(M))))),
    ("slogdet complex", lambda x: np.linalg.slogdet(with_imaginary(x))[1] + np.linalg.slogdet(with_imaginary(x))[0].real, lambda x: mp.log(abs(mp.det(mp_complex(x)))) + mp.cos(mp.arg(mp.det(mp_complex(x))))),
    ("cholesky", lambda x: weighted(np.linalg.cholesky(spd(x))), lambda x: mp_weighted(mp.cholesky(mp_spd(x)))),
    ("cholesky reads one triangle", lambda x: weighted(np.linalg.cholesky(x + 4 * np.eye(N))), lambda x: mp_weighted(mp.cholesky(lower_only(x + 4 * mp.eye(N))))),
    ("cholesky upper", lambda x: weighted(sl.cholesky(spd(x))) + weighted(np.linalg.cholesky(spd(x), upper=True)), lambda x: 2 * mp_weighted(mp.cholesky(mp_spd(x)).T)),
    ("cholesky complex", lambda x: weighted(np.linalg.cholesky(hermitian(x))), lambda x: mp_weighted(mp.cholesky(mp_hermitian(x)))),
    ("cho_solve", lambda x: weighted(sl.cho_solve(sl.cho_factor(spd(x)), x[0])), lambda x: mp_weighted(mp.inverse(mp_spd(x)) * x[0, :].T)),
    ("cho_solve complex", lambda x: weighted(sl.cho_solve(sl.cho_factor(hermitian(x), lower=True), B)), lambda x: mp_weighted(mp.inverse(mp_hermitian(x)) * exact(B))),
    ("solve_triangular", lambda x: weighted(sl.solve_triangular(x, B, lower=True)), lambda x: mp_weighted(mp.inverse(mp.matrix([[x[i, j] if j <= i else 0 for j in range(N)] for i in range(N)])) * exact(B))),
    ("solve_triangular unit", lambda x: weighted(sl.solve_triangular(x, M, trans="T", unit_diagonal=True)), lambda x: mp_weighted(mp.inverse(mp.matrix([[x[i, j] if i < j else int(i == j) for j in range(N)] for i in range(N)]).T) * exact(M))),
    ("lu_solve", lambda x: weighted(sl.lu_solve(sl.lu_factor(x), B)) + weighted(sl.lu_solve(sl.lu_factor(x), M, trans=1)), lambda x: mp_weighted(mp.inverse(x) * exact(B)) + mp_weighted(mp.inverse(x.T) * exact(M))),
    ("lu_solve complex", lambda x: weighted(sl.lu_solve(sl.lu_factor(with_imaginary(x)), B + 0j, trans=2)), lambda x: mp_weighted(mp.inverse(mp_complex(x).H) * exact(B))),
    ("eigvalsh", lambda x: weighted(np.linalg.eigvalsh(symmetric(x)) ** 3), lambda x: mp_weighted(mp_eigenvalues(x + x.T).apply(lambda w: w**3))),
    ("eigvalsh reads one triangle", lambda x: weighted(np.linalg.eigvalsh(x.T, "U")), lambda x: mp_weighted(mp_eigenvalues(lower_only(x)))),
    ("eigvalsh complex", lambda x: weighted(np.linalg.eigvalsh(hermitian(x))), lambda x: mp_weighted(mp_eigenvalues(mp_hermitian(x)))),
    ("eigh function", lambda x: weighted(projector(x)), lambda x: mp_weighted(mp_vectors(x + x.T, lambda w, k: mp.exp(w / 4)))),
    ("eigh vectors", lambda x: weighted(np.linalg.eigh(symmetric(x)).eigenvectors[:, 1] ** 2), lambda x: mp_weighted(column((lambda q: [q[k, k] for k in range(N)])(mp_vectors(x + x.T, lambda w, k: int(k == 1)))))),
    ("eigh complex", lambda x: weighted(np.abs(np.linalg.eigh(hermitian(x))[1][:, 2]) ** 2), lambda x: mp_weighted(column((lambda q: [mp.re(q[k, k]) for k in range(N)])(mp_vectors(mp_hermitian(x), lambda w, k: int(k == 2)))))),
    ("eigh generalised", lambda x: weighted(sl.eigh(symmetric(x), spd(x), eigvals_only=True)), lambda x: mp_weighted(column(sorted(map(mp.re, mp.eig(mp.inverse(mp_spd(x)) * (x + x.T), left=False, right=False)))))),
    ("svd values", lambda x: weighted(np.linalg.svd(x, compute_uv=False)) + weighted(sl.svdvals(x) ** 2), lambda x: mp_weighted(mp_singular(x)) + mp_weighted(mp_singular(x).apply(lambda s: s * s))),
    ("svd values tall and wide", lambda x: weighted(np.linalg.svdvals(tall(x))) + weighted(np.linalg.svdvals(tall(x).T) ** 3), lambda x: mp_weighted(mp_singular(mp_tall(x))) + mp_weighted(mp_singular(mp_tall(x)).apply(lambda s: s**3))),
    ("svd values complex", lambda x: weighted(np.linalg.svdvals(with_imaginary(x)[:, :2])), lambda x: mp_weighted(mp_singular(mp_complex(x)[:, :2]))),
    ("svd", of_svd, mp_of_svd),
    ("svd tall", lambda x: of_svd(tall(x)), lambda x: mp_of_svd(mp_tall(x))),
    ("svd complex", lambda x: (lambda u, s, vh: weighted((u * s**2) @ vh))(*np.linalg.svd(with_imaginary(x)[:, :2], full_matrices=False)), lambda x: (lambda a: mp_weighted(a * mp_vectors(a.H * a, lambda w, k: mp.sqrt(mp.re(w)))))(mp_complex(x)[:, :2])),
    ("qr", lambda x: weighted(np.linalg.qr(x)[0]) + weighted(np.linalg.qr(x).R), lambda x: sum(map(mp_weighted, mp_qr(x)))),
    ("qr tall", lambda x: weighted(np.linalg.qr(tall(x))[0]) + weighted(sl.qr(tall(x), mode="economic")[1]), lambda x: sum(map(mp_weighted, mp_qr(mp_tall(x))))),
    ("qr wide", lambda x: weighted(np.linalg.qr(x[:2])[1]) + weighted(sl.qr(x[:2])[0]), lambda x: (lambda q, r: mp_weighted(q.T * x[:2, :]) + mp_weighted(q))(*mp_qr(x[:2, :2]))),
    ("pinv", lambda x: weighted(np.linalg.pinv(tall(x))) + weighted(sl.pinv(tall(x).T)), lambda x: mp_weighted(mp_pinv(mp_tall(x))) + mp_weighted(mp_pinv(mp_tall(x).T))),
    ("lstsq", least_squares, mp_least_squares),
    ("lstsq wide", lambda x: weighted(sl.lstsq(x[:2], B[:2])[0]), lambda x: mp_weighted(mp_pinv(x[:2, :]) * exact(B[:2]))),
    ("matrix norms", norms, mp_norms),
    ("vector norms", vector_norms, mp_vector_norms),
    ("matrix_power", lambda x: weighted(np.linalg.matrix_power(x, -2)) + weighted(np.linalg.matrix_power(x, 3)), lambda x: mp_weighted(mp.inverse(x * x)) + mp_weighted(x * x * x)),
    ("multi_dot, trace", lambda x: np.trace(np.linalg.multi_dot([x, M, x])) + np.linalg.trace(x @ x), lambda x: (lambda a: sum(a[k, k] for k in range(N)))(x * exact(M) * x + x * x)),
    ("expm", lambda x: weighted(sl.expm(x)) + weighted(sl.expm(4 * x)), lambda x: mp_weighted(mp.expm(x, method="taylor")) + mp_weighted(mp.expm(4 * x, method="taylor"))),
    ("expm complex", lambda x: weighted(sl.expm(1j * symmetric(x))), lambda x: mp_weighted(mp.expm(mp.mpc(0, 1) * (x + x.T), method="taylor"))),
    ("toeplitz", lambda x: weighted(sl.solve_toeplitz((x[0] + 4, x[1]), B)) + weighted(sl.toeplitz(x[0])), lambda x: mp_weighted(mp.inverse(mp_toeplitz([q + 4 for q in x[0, :]], list(x[1, :]))) * exact(B)) + mp_weighted(mp_toeplitz(list(x[0, :]), list(x[0, :])))),
    ("block_diag", lambda x: np.linalg.det(sl.block_diag(x[:2, :2], x)), lambda x: mp.det(x[:2, :2]) * mp.det(x)),
]
# fmt: on

SPD = spd(M)
OUTSIDE = {
    "lu": sl.lu_factor(M),
    "lu complex": sl.lu_factor(M + 1j * SPD),
    "cholesky": sl.cho_factor(SPD),
    "lower": sl.cho_factor(SPD, lower=True),
}

# What another function of the table gives as well, and that function.
ALIKE = [
    ("lu outside", lambda x: sl.lu_solve(OUTSIDE["lu"], x**2, 1), lambda x: np.linalg.solve(M.T, x**2)),
    ("lu outside, complex", lambda x: sl.lu_solve(OUTSIDE["lu complex"], x**2).imag, lambda x: np.linalg.solve(M + 1j * SPD, x**2).imag),
    ("cho_factor outside", lambda x: sl.cho_solve(OUTSIDE["cholesky"], x**2) + sl.cho_solve(OUTSIDE["lower"], x), lambda x: np.linalg.solve(SPD, x**2 + x)),
    ("lower triangular", lambda x: sl.solve(x, B, assume_a="lower triangular"), lambda x: np.linalg.solve(np.tril(x), B)),
    ("hermitian", lambda x: sl.solve(hermitian(x), B, assume_a="her").imag, lambda x: np.linalg.solve(hermitian(x), B).imag),
    ("hints", lambda x: sl.solve(x, B, check_finite=False, overwrite_a=True), lambda x: np.linalg.solve(x, B)),
    ("subset", lambda x: sl.eigvalsh(symmetric(x), subset_by_index=[1, 2]), lambda x: np.linalg.eigvalsh(symmetric(x))[1:]),
    ("eigh of two", lambda x: (lambda v: np.diag(v.T @ spd(x) @ v) * x[0])(sl.eigh(symmetric(x), spd(x))[1]), lambda x: x[0]),
    ("qr alone", lambda x: sl.qr(x, mode="r")[0] + np.linalg.qr(x, "r"), lambda x: 2 * np.linalg.qr(x)[1]),
    ("qr in full", lambda x: sl.qr(x)[0], lambda x: np.linalg.qr(x, "complete")[0]),
    ("cutoffs", lambda x: np.linalg.pinv(x, 1e-12) + sl.pinv(x, rtol=1e-12), lambda x: 2 * np.linalg.inv(x)),
    ("cond", lambda x: np.stack([np.linalg.cond(x, o) for o in (1, np.inf, "fro", -2)]), lambda x: np.stack([*(np.linalg.norm(x, o) * np.linalg.norm(np.linalg.inv(x), o) for o in (1, np.inf, "fro")), 1 / np.linalg.cond(x)])),
    ("rank", lambda x: np.linalg.matrix_rank(x) * np.linalg.matrix_rank(x[:2]) * np.linalg.matrix_rank(x[0]) * x, lambda x: 6 * x),
    ("norm with axes", lambda x: np.linalg.norm(stacked(x), 2, axis=(1, 2), keepdims=True), lambda x: np.linalg.svdvals(stacked(x))[:, :1, None]),
]  # fmt: skip
