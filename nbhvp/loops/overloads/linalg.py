"""Linear algebra of active numbers: products, and the small systems that loops solve.

The factorisations are the textbook algorithms, with the largest pivot of each column; the choice of the
pivot is a guard. A determinant is computed without a division by a number that may be 0: as a sum of
products up to three rows, and by elimination down to three rows for larger matrices. So its
derivatives are right at singular matrices too.
"""

import math
import operator

import numpy as np
from numba.core import types
from numba.extending import register_jitable

from nbhvp.loops.overloads import compositions
from nbhvp.loops.overloads.active import ACTIVE_COMPLEX
from nbhvp.loops.overloads.numpy_functions import (
    element,
    implementation,
    is_active,
    is_given,
    overload_active,
)

__all__: list[str] = []

_cross_of_vectors, _inner, _length = map(
    register_jitable, (compositions.cross, compositions.inner, compositions.length)
)

# Products.


def _matrix_vector(a, b):
    dtype = element(a, b)

    @implementation
    def product(a, b):
        out = np.empty(a.shape[0], dtype)
        for i in range(a.shape[0]):
            out[i] = _inner(a[i], b)
        return out

    return product


def _vector_matrix(a, b):
    return lambda a, b: np.dot(b.T, a)


def _matrix_matrix(a, b):
    dtype = element(a, b)

    @implementation
    def product(a, b):
        out = np.empty((a.shape[0], b.shape[1]), dtype)
        for i in range(a.shape[0]):
            for j in range(b.shape[1]):
                out[i, j] = _inner(a[i], b[:, j])
        return out

    return product


_PRODUCTS = {
    (1, 1): lambda a, b: lambda a, b: _inner(a, b),
    (2, 1): _matrix_vector,
    (1, 2): _vector_matrix,
    (2, 2): _matrix_matrix,
}


@overload_active(np.dot, np.matmul, operator.matmul)
def _product(a, b):
    if (is_active(a) or is_active(b)) and hasattr(a, "ndim") and hasattr(b, "ndim"):
        choose = _PRODUCTS.get((a.ndim, b.ndim))
        return choose and choose(a, b)


@overload_active(np.vdot)
def _vdot(a, b):
    if is_active(a) or is_active(b):
        return lambda a, b: _inner(np.conj(a.ravel()), b.ravel())


@overload_active(np.outer)
def _outer(a, b):
    if is_active(a) or is_active(b):
        return lambda a, b: a.ravel().reshape((-1, 1)) * b.ravel().reshape((1, -1))


@overload_active(np.cross)
def _cross(a, b):
    """Of vectors of length 3, along the last axis; numba has no others."""
    if not (is_active(a) or is_active(b)):
        return None
    ranks = getattr(a, "ndim", 0), getattr(b, "ndim", 0)
    if ranks == (1, 1):
        return lambda a, b: _cross_of_vectors(a, b)
    dtype = element(a, b)

    @implementation
    def cross(a, b):
        shape = np.broadcast_shapes(a.shape, b.shape)
        first, second = np.broadcast_to(a, shape), np.broadcast_to(b, shape)
        out = np.empty(shape, dtype)
        for index in np.ndindex(shape[:-1]):
            out[index] = _cross_of_vectors(first[index], second[index])
        return out

    return cross


@overload_active(np.trace)
def _trace(a, offset=0):
    if is_active(a):

        @implementation
        def trace(a, offset=0):
            total = 0.0
            for k in range(min(a.shape[0] + min(offset, 0), a.shape[1] - max(offset, 0))):
                total += a[k - min(offset, 0), k + max(offset, 0)]
            return total

        return trace


# Norms.


@overload_active(np.linalg.norm)
def _norm(a, ord=None):
    if not is_active(a):
        return None
    if element(a) == ACTIVE_COMPLEX:
        return lambda a, ord=None: np.linalg.norm(np.abs(a), ord)
    if not is_given(ord):
        return lambda a, ord=None: _length(a)
    return lambda a, ord=None: _norm_of_order(a, ord)


def _norm_of_order(a, ord):
    raise NotImplementedError("it runs compiled only")


@overload_active(_norm_of_order)
def _choose_norm(a, ord):
    if a.ndim == 1:
        return _vector_norm
    if a.ndim == 2 and isinstance(ord, types.Number):
        return _matrix_norm


@implementation
def _vector_norm(a, ord):
    if ord == 2:
        return _length(a)
    sizes = np.abs(a)
    if ord == np.inf:
        return np.max(sizes)
    if ord == -np.inf:
        return np.min(sizes)
    if ord == 0:
        return 0.0 * np.sum(sizes) + np.count_nonzero(a)
    if ord == 1:
        return np.sum(sizes)
    return np.sum(sizes**ord) ** (1.0 / ord)


@implementation
def _matrix_norm(a, ord):
    sizes = np.abs(a)
    if ord == 1:
        return np.max(np.sum(sizes, 0))
    if ord == -1:
        return np.min(np.sum(sizes, 0))
    if ord == np.inf:
        return np.max(np.sum(sizes, 1))
    if ord == -np.inf:
        return np.min(np.sum(sizes, 1))
    raise ValueError(
        "needed ord None, 1, -1, inf or -inf for the norm of a matrix under @njit: a norm "
        "by singular values cannot be recorded, so compute it outside the compiled function"
    )


# Elimination.


@register_jitable
def _check_square(a):
    if a.shape[0] != a.shape[1]:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square.")


@register_jitable
def _swap_rows(a, i, k):
    for j in range(a.shape[1]):
        a[i, j], a[k, j] = a[k, j], a[i, j]


@register_jitable
def _largest_below(a, k, column):
    """The row from k on with the largest element of a column."""
    best = k
    for i in range(k + 1, a.shape[0]):
        if abs(a[i, column]) > abs(a[best, column]):
            best = i
    return best


@register_jitable
def _eliminate_below(a, k):
    """Column k below the pivot (k, k), in all columns behind it."""
    for i in range(k + 1, a.shape[0]):
        factor = a[i, k] / a[k, k]
        for j in range(k + 1, a.shape[1]):
            a[i, j] -= factor * a[k, j]


@register_jitable
def _pivoted(a, k):
    """Bring a pivot that is not 0 to (k, k), if there is one left; return the sign of the swaps."""
    for column in range(k, a.shape[1]):
        row = _largest_below(a, k, column)
        if abs(a[row, column]) > 0.0:
            sign = 1.0
            if row != k:
                _swap_rows(a, row, k)
                sign = -sign
            if column != k:
                _swap_rows(a.T, column, k)
                sign = -sign
            return sign
    return 0.0


@register_jitable
def _det_of_three(a, k):
    """The determinant of the last rows and columns, from k on: three at most."""
    n = a.shape[0] - k
    if n == 1:
        return a[k, k]
    if n == 2:
        return a[k, k] * a[k + 1, k + 1] - a[k, k + 1] * a[k + 1, k]
    i, j = k + 1, k + 2
    return (
        a[k, k] * (a[i, i] * a[j, j] - a[i, j] * a[j, i])
        - a[k, i] * (a[i, k] * a[j, j] - a[i, j] * a[j, k])
        + a[k, j] * (a[i, k] * a[j, i] - a[i, i] * a[j, k])
    )


@overload_active(np.linalg.det)
def _det(a):
    if not is_active(a) or a.ndim != 2:
        return None

    @implementation
    def det(a):
        _check_square(a)
        if a.shape[0] == 0:
            return np.sum(a) + 1.0
        u, k, sign = a.copy(), 0, 1.0
        while k < a.shape[0] - 3 and sign != 0.0:
            sign *= _pivoted(u, k)
            if sign != 0.0:
                _eliminate_below(u, k)
                k += 1
        if sign == 0.0:  # Four rows or more are 0: so are the value and two derivatives.
            return 0.0 * np.sum(u[k:, k:])
        result = sign * _det_of_three(u, k)
        for i in range(k):
            result *= u[i, i]
        return result

    return det


@overload_active(np.linalg.slogdet)
def _slogdet(a):
    if not is_active(a) or a.ndim != 2:
        return None

    @implementation
    def slogdet(a):
        _check_square(a)
        u, sign, total = a.copy(), 1.0 + 0.0 * a[0, 0], 0.0
        for k in range(a.shape[0]):
            row = _largest_below(u, k, k)
            if row != k:
                _swap_rows(u, row, k)
                sign = -sign
            if u[k, k] == 0.0:
                return 0.0 * u[k, k], np.log(abs(u[k, k]))
            _eliminate_below(u, k)
            sign *= np.sign(u[k, k])
            total += np.log(abs(u[k, k]))
        return sign, total

    return slogdet


@register_jitable
def _solve_columns(a, b):
    """Solve a x = b in place of b, of two dimensions; `a` is lost."""
    n = a.shape[0]
    for k in range(n):
        row = _largest_below(a, k, k)
        if row != k:
            _swap_rows(a, row, k)
            _swap_rows(b, row, k)
        if a[k, k] == 0.0:
            raise np.linalg.LinAlgError("Matrix is singular to machine precision.")
        for i in range(k + 1, n):
            factor = a[i, k] / a[k, k]
            for j in range(k + 1, n):
                a[i, j] -= factor * a[k, j]
            for j in range(b.shape[1]):
                b[i, j] -= factor * b[k, j]
    for k in range(n - 1, -1, -1):
        for j in range(b.shape[1]):
            for i in range(k + 1, n):
                b[k, j] -= a[k, i] * b[i, j]
            b[k, j] /= a[k, k]
    return b


def _copied(dtype):
    """A copy of a matrix, or of a vector as a column, of active numbers."""

    @register_jitable
    def copied(a):
        out = np.empty(a.shape, dtype)
        for index in np.ndindex(a.shape):
            out[index] = a[index]
        return out

    return copied


@overload_active(np.linalg.solve)
def _solve(a, b):
    if not (is_active(a) or is_active(b)):
        return None
    copied = _copied(element(a, b))
    if b.ndim == 1:

        @implementation
        def solve(a, b):
            return _solve_columns(copied(a), copied(b).reshape((b.size, 1))).ravel()
    else:

        @implementation
        def solve(a, b):
            return _solve_columns(copied(a), copied(b))

    @implementation
    def checked(a, b):
        _check_square(a)
        if a.shape[0] != b.shape[0]:
            raise np.linalg.LinAlgError(
                "Incompatible array sizes, system is not dimensionally valid."
            )
        return inner(a, b)

    inner = register_jitable(solve)
    return checked


@overload_active(np.linalg.inv)
def _inv(a):
    if is_active(a):
        copied, dtype = _copied(element(a)), element(a)

        @implementation
        def inv(a):
            _check_square(a)
            unit = np.zeros(a.shape, dtype)
            for k in range(a.shape[0]):
                unit[k, k] = 1.0
            return _solve_columns(copied(a), unit)

        return inv


@overload_active(np.linalg.cholesky)
def _cholesky(a):
    """From the lower triangle, as LAPACK has it."""
    if is_active(a):
        dtype = element(a)

        @implementation
        def cholesky(a):
            _check_square(a)
            factor = np.zeros(a.shape, dtype)
            for j in range(a.shape[0]):
                for i in range(j, a.shape[0]):
                    rest = a[i, j] - _inner(factor[i, :j], np.conj(factor[j, :j]))
                    if i > j:
                        factor[i, j] = rest / factor[j, j]
                        continue
                    if not np.real(rest) > 0.0:
                        raise np.linalg.LinAlgError("Matrix is not positive definite.")
                    factor[j, j] = math.sqrt(np.real(rest))
            return factor

        return cholesky


@overload_active(np.linalg.matrix_power)
def _matrix_power(a, n):
    if is_active(a):

        @implementation
        def matrix_power(a, n):
            _check_square(a)
            if n == 0:
                return 0.0 * a + np.eye(a.shape[0])
            base = np.linalg.inv(a) if n < 0 else a.copy()
            result = base
            for _ in range(abs(n) - 1):
                result = result @ base
            return result

        return matrix_power


@overload_active(np.fill_diagonal)
def _fill_diagonal(a, val, wrap=False):
    if is_active(a) and a.ndim == 2:

        @implementation
        def fill_diagonal(a, val, wrap=False):
            rows = np.arange(a.shape[0])
            for k in rows[: a.shape[1]] if not wrap else rows:
                if wrap and k % (a.shape[1] + 1) == a.shape[1]:
                    continue
                a[k, k % (a.shape[1] + 1)] = _entry_of(val, k)

        return fill_diagonal


def _entry_of(val, k):
    raise NotImplementedError("it runs compiled only")


@overload_active(_entry_of)
def _choose_entry(val, k):
    if isinstance(val, types.Array):
        return lambda val, k: val.ravel()[k % val.size]
    return lambda val, k: val
