"""Functions of numpy.linalg and scipy.linalg, by factorisations that are computed once per point.

Whether a factorisation succeeds is a guard: where it fails the function is traced anew, and there
NumPy or SciPy raises its own error at the user's line, which the function may catch. A derivative
rule is traced once for all points, when guards can no longer be made: there the result is NaN.

Conventions: of a symmetric matrix only the triangle that LAPACK reads counts. Least squares and
pseudoinverses are those of matrices of full rank; where the rank drops they have no derivative, and
it is an error.
"""

import warnings

import numpy as np
import scipy.linalg

from nbhvp.graph import primitives as p
from nbhvp.graph.table.matrices import determinants, matrix_functions, spectra
from nbhvp.graph.table.matrices import linalg as la
from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import (
    Traced,
    apply,
    current,
    guard,
    is_constant,
    lift,
    map_traced,
    scalar,
    trace_error,
)
from nbhvp.trace.numpy.elementwise import (
    absolute,
    cast,
    common,
    floating,
    floats,
    given,
    is_complex,
)
from nbhvp.trace.numpy.manipulation.selections import diagonal, gather
from nbhvp.trace.numpy.manipulation.shapes import (
    broadcast_to,
    concatenate,
    matrix_transpose,
    reshape,
)
from nbhvp.trace.numpy.products import matmul
from nbhvp.trace.numpy.reductions import all_, max_, sum_

__all__ = ["adjoint", "required", "square", "unless_failed"]


def required(x, ok, function, *args, **kwargs):
    """x under a guard; where it does not hold, the error that a call of the function raises.

    In a derivative rule, whose trace takes no guards, NaN.
    """
    if current().is_closed and not is_constant(ok):
        one, nan = (np.asarray(c, x.dtype).real for c in (1, np.nan))
        return x * np.where(ok, one, nan)  # as a factor, since x may be a tangent
    if not guard(ok):
        args, kwargs = map_traced(_value, args), map_traced(_value, kwargs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(*args, **kwargs)
    return x


def _value(x: Traced):
    return x.value


def _matrix(a):
    a = floating(lift(a))
    if a.ndim < 2:
        raise np.linalg.LinAlgError(
            f"{a.ndim}-dimensional array given. Array must be at least two-dimensional"
        )
    return a


def square(a):
    """Square matrices of floats; anything else is NumPy's error."""
    a = _matrix(a)
    if a.shape[-1] != a.shape[-2]:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square")
    return a


def adjoint(a):
    """The conjugate transpose of each matrix."""
    return np.conjugate(matrix_transpose(a))


def unless_failed(x, function, *args, **kwargs):
    """A factorisation under the guard that it is not the NaN which a failure leaves everywhere."""
    if not x.size:
        return x
    return required(x, all_(~np.isnan(x[..., 0, 0])), function, *args, **kwargs)


# Solves.


def solved(primitive, factor, b, is_vector: bool, **params):
    """Solves by a factor, with all stacks broadcast."""
    stack, axis = factor.shape[:-2], -1 if is_vector else -2
    if b.ndim < -axis or b.shape[axis] != factor.shape[-1]:
        raise ValueError(
            f"solve: the matrix has {factor.shape[-1]} rows, the right side has shape {b.shape}"
        )
    if stack:
        whole = np.broadcast_shapes(stack, b.shape[:axis])
        factor = broadcast_to(factor, (*whole, *factor.shape[-2:]))
        b = broadcast_to(b, (*whole, *b.shape[axis:]))
    return apply(primitive, factor, b, axis=b.ndim + axis, **params)


def _by_lu(factor, b, transposed=False):
    return solved(la.solve, factor, b, b.ndim == 1, transposed=transposed)


def _by_triangle(a, b, lower, transposed=False, unit=False):
    return solved(la.triangular, a, b, b.ndim == 1, lower=lower, transposed=transposed, unit=unit)


def _solve(a, b, function, *args, transposed=False):
    """By the factors of LU, under the guard that these are regular."""
    factor = apply(la.lu, square(a))
    regular = all_(diagonal(factor[..., :-1, :], 0, -2, -1) != 0)
    return _by_lu(factor, required(b, regular, function, *args), transposed)


@answers(np.linalg.solve)
def solve(a, b):
    a, b = floats(a, b)
    return _solve(a, b, np.linalg.solve, a, b)


@answers(scipy.linalg.solve, note="every value of `assume_a=`")
def solve_as(a, b, lower=False, assume_a=None, transposed=False):
    a, b = floats(a, b)
    a, kind = square(a), _KINDS.get(assume_a, assume_a)
    if kind == "positive definite" and not transposed:
        return cho_solve(cho_factor(a, lower), b)
    if kind in ("upper triangular", "lower triangular"):
        return solve_triangular(a, b, int(transposed), kind.startswith("lower"))
    if kind not in _READ:
        raise trace_error(f"scipy.linalg.solve with {assume_a=}", "leave assume_a= out")
    return _solve(_READ[kind](a, lower), b, scipy.linalg.solve, a, b, transposed=transposed)


def _mirrored(a, lower, other):
    """The matrix of which one triangle is read."""
    half = np.tril(a) if lower else np.triu(a)
    return half + other(half) - half * np.eye(a.shape[-1])


_KINDS = {
    None: "general",
    "gen": "general",
    "pos": "positive definite",
    "sym": "symmetric",
    "her": "hermitian",
    "banded": "general",
}
_READ = {
    "general": lambda a, lower: a,
    "symmetric": lambda a, lower: _mirrored(a, lower, matrix_transpose),
    "hermitian": lambda a, lower: _mirrored(a, lower, adjoint),
    "positive definite": lambda a, lower: _mirrored(a, lower, adjoint),
    "diagonal": lambda a, lower: a * np.eye(a.shape[-1]),
    "tridiagonal": lambda a, lower: np.tril(np.triu(a, -1), 1),
}
"""What is read of a matrix that is assumed to be of a kind."""


@answers(np.linalg.inv)
def inv(a):
    return _inverse(square(a), np.linalg.inv)


@answers(scipy.linalg.inv)
def scipy_inv(a):
    return _inverse(square(a), scipy.linalg.inv)


def _inverse(a, function):
    return _solve(a, _identity(a), function, a)


def _identity(a):
    return broadcast_to(lift(np.eye(a.shape[-1], dtype=a.dtype)), a.shape)


@answers(scipy.linalg.solve_triangular)
def solve_triangular(a, b, trans=0, lower=False, unit_diagonal=False):
    a, b = floats(a, b)
    a = square(a)
    kind = {0: "N", 1: "T", 2: "C"}.get(trans, trans)
    if kind not in ("N", "T", "C"):
        raise ValueError(f"trans must be 0, 1, 2, 'N', 'T' or 'C', got {trans!r}")
    if not unit_diagonal:
        regular = all_(diagonal(a, 0, -2, -1) != 0)
        b = required(b, regular, scipy.linalg.solve_triangular, a, b, trans, lower)
    a = np.conjugate(a) if kind == "C" else a
    return _by_triangle(a, b, bool(lower), kind != "N", bool(unit_diagonal))


class LuFactors:
    """What `lu_factor` gives in the place of its first array: good for `lu_solve` alone."""

    def __init__(self, factor):
        self.factor = factor

    def _refuse(self, *args, **kwargs):
        raise trace_error(
            "the factors of scipy.linalg.lu_factor are used as an array",
            "pass them to lu_solve, and take determinants by np.linalg.slogdet",
        )

    __array__ = __array_function__ = __array_ufunc__ = __getitem__ = __len__ = _refuse

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()


@answers(scipy.linalg.lu_factor, note="its factors may only be passed to `lu_solve`")
def lu_factor(a):
    factor = apply(la.lu, square(a))
    pivots = factor[..., -1, :]
    pivots = apply(p.real, pivots) if is_complex(pivots) else pivots
    return LuFactors(factor), cast(pivots, np.int32)


@answers(scipy.linalg.lu_solve)
def lu_solve(lu_and_piv, b, trans=0):
    lu, pivots = lu_and_piv
    factor = lu.factor if isinstance(lu, LuFactors) else _factor_again(lift(lu), lift(pivots))
    factor, b = floats(factor, b)
    if trans == 2:
        return np.conjugate(_by_lu(factor, np.conjugate(b), True))
    return _by_lu(factor, b, bool(trans))


def _factor_again(lu, pivots):
    """The factors of a constant matrix that SciPy has factored outside of the function."""
    if not (is_constant(lu) and is_constant(pivots)):
        raise trace_error(
            "scipy.linalg.lu_solve by traced arrays", "pass the factors that lu_factor returns"
        )
    lu = lu.value
    n = lu.shape[-1]
    matrix = (np.tril(lu, -1) + np.eye(n)) @ np.triu(lu)
    for k in np.ndindex(lu.shape[:-2]):
        for i in reversed(range(n)):
            matrix[k][[i, pivots.value[k][i]]] = matrix[k][[pivots.value[k][i], i]]
    return apply(la.lu, matrix)


# Determinants.


@answers(np.linalg.det)
def det(a):
    a = square(a)
    return scalar(apply(determinants.det, a, dtype=a.dtype, by=la.Routine(np.linalg.det)))


@answers(scipy.linalg.det)
def det_in_double(a):
    """SciPy's, which gives float64 of float32."""
    a = square(a)
    dtype = np.result_type(a.dtype, np.float64)
    return scalar(apply(determinants.det, a, dtype=dtype, by=la.Routine(scipy.linalg.det)))


def _sign_and_log(factor):
    """Sign (or phase) and logarithm of the absolute value, by the factors of LU."""
    size = apply(la.logdet, factor)
    if is_complex(factor):
        return np.exp(1j * apply(p.imag, size)), apply(p.real, size)
    n = factor.shape[-1]
    pivots = diagonal(factor[..., :n, :], 0, -2, -1)
    negative = sum_(pivots < 0, -1) + sum_(factor[..., n, :] != np.arange(n), -1)
    sign = cast(1 - 2 * (negative % 2), size.dtype)
    return np.where(all_(pivots != 0, -1), sign, 0), size


_SLOGDET = type(np.linalg.slogdet(np.eye(1)))


@answers(np.linalg.slogdet)
def slogdet(a):
    return _SLOGDET(*map(scalar, _sign_and_log(apply(la.lu, square(a)))))


# Cholesky.


@answers(np.linalg.cholesky)
def cholesky(a, /, *, upper=False):
    return _cholesky(a, not upper, np.linalg.cholesky, {"upper": bool(upper)})


@answers(scipy.linalg.cholesky)
def cholesky_of_upper(a, lower=False):
    return _cholesky(a, bool(lower), scipy.linalg.cholesky, {"lower": bool(lower)})


def _cholesky(a, lower, function, options):
    a = square(a)
    by = la.Routine(function, tuple(options.items()))
    factor = apply(la.cholesky, a, lower=lower, by=by)
    return unless_failed(factor, function, a, **options)


@answers(scipy.linalg.cho_factor, note="its factor is meant for `cho_solve`")
def cho_factor(a, lower=False):
    return cholesky_of_upper(a, lower), lower


@answers(scipy.linalg.cho_solve)
def cho_solve(c_and_lower, b):
    c, lower = c_and_lower
    c, b = floats(c, b)
    lower_factor = c if lower else adjoint(c)
    half = _by_triangle(lower_factor, b, True)
    return _by_triangle(np.conjugate(lower_factor), half, True, transposed=True)


# Spectra.

_EIGH = type(np.linalg.eigh(np.eye(1)))
_SVD = type(np.linalg.svd(np.eye(1)))


def _eigh(a, b, lower, function, options, subset=None):
    """The decomposition of a matrix, and the factor of the one beside it."""
    a, factor = square(a), None
    by = la.Routine(function, tuple(options.items()))
    if b is None:
        packed = apply(spectra.eigh, a, lower=lower, by=by, subset=subset)
        return unless_failed(packed, function, a, **options), None
    a, b = floats(a, b)
    factor = cholesky_of_upper(b, lower)
    packed = apply(spectra.eigh, a, b, lower=lower, by=by, subset=subset)
    factor = factor if lower else adjoint(factor)
    return unless_failed(packed, function, a, b, **options), factor


def _is_lower(UPLO: str) -> bool:
    if UPLO.upper() not in ("L", "U"):
        raise ValueError("UPLO argument must be 'L' or 'U'")
    return UPLO.upper() == "L"


@answers(np.linalg.eigh)
def eigh(a, UPLO="L"):
    lower = _is_lower(UPLO)
    packed, _ = _eigh(a, None, lower, np.linalg.eigh, {"UPLO": UPLO})
    v = apply(spectra.vectors, packed, left=True, upward=not lower)
    return _EIGH(apply(spectra.values, packed), v)


@answers(np.linalg.eigvalsh)
def eigvalsh(a, UPLO="L"):
    packed, _ = _eigh(a, None, _is_lower(UPLO), np.linalg.eigh, {"UPLO": UPLO})
    return apply(spectra.values, packed)


@answers(scipy.linalg.eigvalsh)
def generalized_eigvalsh(a, b=None, *, lower=True, subset_by_index=None, driver=None):
    return generalized_eigh(
        a, b, lower=lower, eigvals_only=True, subset_by_index=subset_by_index, driver=driver
    )


@answers(scipy.linalg.eigh)
def generalized_eigh(
    a, b=None, *, lower=True, eigvals_only=False, subset_by_index=None, driver=None
):
    """A v = w B v as the problem of L^-1 A L^-H, with B = L L^H and v = L^-H y."""
    lower, n = bool(lower), lift(a).shape[-1]
    subset = None if subset_by_index is None else tuple(map(int, subset_by_index))
    options = {"lower": lower, "driver": driver}
    packed, factor = _eigh(
        a, b, lower, scipy.linalg.eigh, options, None if eigvals_only else subset
    )
    first, last = subset or (0, n - 1)
    chosen = slice(first, last + 1)
    w = apply(spectra.values, packed)[..., chosen]
    if eigvals_only:
        return w
    v = apply(spectra.vectors, packed, left=True, upward=not lower)
    if factor is not None:
        v = _by_triangle(np.conjugate(factor), v, True, transposed=True)
    return w, v[..., chosen]


def _svd(a, function, full=False, **options):
    """The decomposition, and whether it is that of the adjoint."""
    is_wide = a.shape[-2] < a.shape[-1]
    by = la.Routine(function, (("full_matrices", full), *options.items()))
    packed = apply(spectra.svd, adjoint(a) if is_wide else a, by=by, is_wide=is_wide, full=full)
    return unless_failed(packed, function, a, **options), is_wide


def singular_values(a, function=np.linalg.svd):
    packed, _ = _svd(_matrix(a), function)
    return apply(spectra.values, packed)


@answers(np.linalg.svdvals)
def svdvals(x, /):
    return singular_values(x)


@answers(scipy.linalg.svdvals)
def scipy_svdvals(a):
    return singular_values(a, scipy.linalg.svd)


@answers(np.linalg.svd)
def svd(a, full_matrices=True, compute_uv=True, hermitian=False):
    a = _matrix(a)
    if hermitian:
        return _svd_of_hermitian(a, compute_uv)
    return _singular(a, full_matrices, compute_uv, np.linalg.svd)


@answers(scipy.linalg.svd)
def svd_by_driver(a, full_matrices=True, compute_uv=True, *, lapack_driver="gesdd"):
    found = _singular(
        _matrix(a), full_matrices, compute_uv, scipy.linalg.svd, lapack_driver=lapack_driver
    )
    return tuple(found) if compute_uv else found


def _singular(a, full_matrices, compute_uv, function, **options):
    full = bool(full_matrices and compute_uv and a.shape[-2] != a.shape[-1])
    packed, is_wide = _svd(a, function, full, **options)
    s = apply(spectra.values, packed)
    if not compute_uv:
        return s
    left, right = (apply(spectra.vectors, packed, left=side) for side in (not is_wide, is_wide))
    return _SVD(left, s, adjoint(right))


def _svd_of_hermitian(a, compute_uv):
    """As NumPy has it: by eigenvalues, with the largest sizes first."""
    w, v = eigh(square(a))
    order = np.argsort(np.abs(w), axis=-1)[..., ::-1]
    signed = np.take_along_axis(w, order, -1)
    if not compute_uv:
        return np.abs(signed)
    left = np.take_along_axis(v, order[..., None, :], -1)
    right = left * np.copysign(1.0, signed)[..., None, :]
    return _SVD(left, np.abs(signed), adjoint(right))


@answers(np.linalg.cond)
def cond(x, p=None):
    x = _matrix(x)
    if p in (None, 2, -2):
        s = singular_values(x)
        found = s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    else:
        # Of a singular matrix no error, but what division by 0 gives.
        inverse = _by_lu(apply(la.lu, square(x)), _identity(x))
        found = np.linalg.norm(x, p, (-2, -1)) * np.linalg.norm(inverse, p, (-2, -1))
    is_lost = np.isnan(found) & ~np.any(np.isnan(x), axis=(-2, -1))
    return np.where(is_lost, np.asarray(np.inf, found.dtype), found)


@answers(np.linalg.matrix_rank)
def matrix_rank(A, tol=None, hermitian=False, *, rtol=None):
    a = lift(A)
    if a.ndim < 2:
        return int(sum_(a != 0) > 0)
    s = svd(a, False, False, hermitian)
    if tol is None:
        rtol = max(a.shape[-2:]) * np.finfo(s.dtype).eps if rtol is None else rtol
        tol = s[..., :1] * rtol
    return sum_(s > tol, -1)


# QR, and least squares by it.

_QR = type(np.linalg.qr(np.eye(1)))


def _qr(a):
    """Q with orthonormal columns, and R."""
    m, n = a.shape[-2:]
    k = min(m, n)
    packed = apply(la.qr, a[..., :k])
    q, r = packed[..., :m, :], matrix_transpose(packed[..., m:, :])
    if k < n:
        r = concatenate([r, matmul(adjoint(q), a[..., k:])], -1)
    return q, r


@answers(
    np.linalg.qr,
    note='every mode except `"raw"`; `"complete"` needs at most as many rows as columns',
)
def qr(a, mode="reduced"):
    a = _matrix(a)
    return _in_mode(a, {"full": "reduced", "f": "reduced"}.get(mode, mode))


@answers(
    scipy.linalg.qr, note='without `pivoting=`; `mode="full"` needs at most as many rows as columns'
)
def qr_in_full(a, lwork=None, mode="full", pivoting=False):
    if pivoting:
        raise trace_error("scipy.linalg.qr with pivoting=True", "leave it out")
    modes = {"full": "complete", "economic": "reduced"}
    result = _in_mode(_matrix(a), modes.get(mode, mode))
    return (result,) if mode == "r" else tuple(result)


def _in_mode(a, mode):
    if mode not in ("reduced", "r", "complete"):
        raise trace_error(f"qr in {mode=}", "use 'reduced' or 'r'")
    if mode == "complete" and a.shape[-2] > a.shape[-1]:
        raise trace_error(
            "a complete QR of a matrix with more rows than columns",
            "use the reduced one, since further columns are arbitrary and have no derivative",
        )
    q, r = _qr(a)
    return r if mode == "r" else _QR(q, r)


def _full_rank_qr(a, cutoff):
    """QR of a, or of its adjoint if that is taller; it is an error if the rank is not full."""
    is_wide = a.shape[-2] < a.shape[-1]
    q, r = _qr(adjoint(a) if is_wide else a)
    if cutoff is None:
        size = absolute(diagonal(r, 0, -2, -1))
        limit = r.shape[-1] * np.finfo(r.dtype).eps
    else:
        size, limit = singular_values(a), cutoff
    full = all_(size > limit * max_(size, -1, keepdims=True)) if size.size else lift(True)
    return required(q, full, _refuse_rank), r, is_wide


def _refuse_rank():
    raise trace_error(
        "a least-squares solution or pseudoinverse of a matrix without full rank",
        "where the rank changes it has no derivative: add a small multiple of the identity",
    )


@answers(np.linalg.pinv, note="matrices of full rank")
def pinv(a, rcond=None, hermitian=False, *, rtol=None):
    a = _mirrored(square(a), True, adjoint) if hermitian else _matrix(a)
    return _pinv(a, rtol if given(rtol) else rcond)


@answers(scipy.linalg.pinv, note="matrices of full rank; `rtol=`, but not `atol=`")
def pinv_of_tolerances(a, *, atol=None, rtol=None):
    if atol is not None:
        raise trace_error("scipy.linalg.pinv with atol=", "use rtol=")
    return _pinv(_matrix(a), rtol)


def _pinv(a, cutoff):
    q, r, is_wide = _full_rank_qr(a, cutoff)
    found = _by_triangle(r, adjoint(q), False)
    return adjoint(found) if is_wide else found


@answers(np.linalg.lstsq, note="matrices of full rank")
def lstsq(a, b, rcond=None):
    a, b = floats(a, b)
    return _least_squares(a, b, None if rcond == -1 else rcond)


@answers(scipy.linalg.lstsq, note="matrices of full rank")
def lstsq_by_driver(a, b, cond=None, lapack_driver=None):
    a, b = floats(a, b)
    x, residuals, rank, s = _least_squares(a, b, cond)
    if lapack_driver == "gelsy":
        return x, residuals[:0], rank, None
    return x, residuals[0] if b.ndim == 1 and residuals.size else residuals, rank, s


def _least_squares(a, b, cutoff):
    m, n = _matrix(a).shape
    q, r, is_wide = _full_rank_qr(a, cutoff)
    if is_wide:
        x = matmul(q, _by_triangle(np.conjugate(r), b, False, transposed=True))
    else:
        x = _by_triangle(r, matmul(adjoint(q), b), False)
    columns = 1 if b.ndim == 1 else b.shape[1]
    residuals = lift(np.zeros(0, apply(p.real, a).dtype))
    if m > n:
        residuals = sum_(absolute(b - matmul(a, x)) ** 2, 0)
        residuals = reshape(residuals, (columns,))
    return x, residuals, min(m, n), singular_values(a)


# Functions of matrices.

_PADE = [
    64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0,
    129060195264000.0, 10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0, 40840800.0,
    960960.0, 16380.0, 182.0, 1.0,
]  # fmt: skip
_THETA = 5.371920351148152


@answers(scipy.linalg.expm)
def expm(A):
    """Scaling and squaring with the Pade approximant of degree 13 (Higham, SIAM Rev. 51, 2009)."""
    a = square(A)
    if not a.size:
        return a
    if current().is_closed and not is_constant(a):  # how often to square is a branch
        by = la.Routine(scipy.linalg.expm)
        return apply(matrix_functions.of_matrix, a, by=by, was_real=False)
    norm = max_(sum_(absolute(a), -2))
    squarings = int(np.maximum(np.ceil(np.log2(np.maximum(norm / _THETA, 1e-300))), 0))
    a = a * 0.5**squarings
    a2 = matmul(a, a)
    a4 = matmul(a2, a2)
    a6 = matmul(a4, a2)
    b, eye = _PADE, np.eye(a.shape[-1], dtype=a.dtype)
    high = (b[13] * a6 + b[11] * a4 + b[9] * a2, b[12] * a6 + b[10] * a4 + b[8] * a2)
    low = (b[7] * a6 + b[5] * a4 + b[3] * a2, b[6] * a6 + b[4] * a4 + b[2] * a2)
    odd = matmul(a, matmul(a6, high[0]) + low[0] + b[1] * eye)
    even = matmul(a6, high[1]) + low[1] + b[0] * eye
    result = _solve(even - odd, even + odd, np.linalg.inv, even - odd)
    for _ in range(squarings):
        result = matmul(result, result)
    return result


# Toeplitz and block matrices.


@answers(scipy.linalg.toeplitz)
def toeplitz(c, r=None):
    c = lift(c)
    r = np.conjugate(c) if r is None else lift(r)
    c, r = common(c, r)
    m, n = c.shape[-1], r.shape[-1]
    diagonals = concatenate([c[..., ::-1], r[..., 1:]], -1)
    place = m - 1 + np.arange(n) - np.arange(m)[:, None]
    return gather(diagonals, place, diagonals.ndim - 1)


@answers(scipy.linalg.solve_toeplitz)
def solve_toeplitz(c_or_cr, b):
    c, r = c_or_cr if isinstance(c_or_cr, tuple) else (c_or_cr, None)
    return solve_as(toeplitz(c, r), b)


@answers(scipy.linalg.block_diag)
def block_diag(*arrs):
    blocks = [np.atleast_2d(block) for block in common(*arrs)]
    width = sum(block.shape[-1] for block in blocks)
    padded, start = [], 0
    for block in blocks:
        m, n = block.shape
        before, after = (np.zeros((m, k), block.dtype) for k in (start, width - start - n))
        padded.append(concatenate([before, block, after], 1))
        start += n
    return concatenate(padded, 0)
