"""Eigenvalues of general matrices, functions of matrices, and equations for matrices.

Whether a result of a real matrix is real or complex is a guard, as the dtype of the result depends on
it. What SciPy composes of other functions is composed here in the same way.
"""

import math

import numpy as np
import scipy.linalg

from nbhvp.graph import primitives as p
from nbhvp.graph.table.matrices import eigen
from nbhvp.graph.table.matrices import linalg as la
from nbhvp.graph.table.matrices import matrix_functions as mf
from nbhvp.trace.answers import answers, refuses
from nbhvp.trace.arrays import apply, current, guard, is_constant, trace_error
from nbhvp.trace.numpy.elementwise import cast, floats, is_complex
from nbhvp.trace.numpy.linalg import adjoint, square, unless_failed
from nbhvp.trace.numpy.manipulation.shapes import reshape
from nbhvp.trace.numpy.reductions import all_

__all__: list[str] = []


# Eigenvalues.

_EIG = type(np.linalg.eig(np.eye(1)))


def _decomposed(a, function, values=None):
    by, alone = la.Routine(function), values and la.Routine(values)
    return unless_failed(apply(eigen.eig, a, by=by, values_by=alone), values or function, a)


def _left(a):
    """The decomposition of the adjoint, whose right vectors are the left ones."""
    options = {"left": True, "right": False}
    by = la.Routine(scipy.linalg.eig, tuple(options.items()))
    packed = apply(eigen.eig, adjoint(a), by=by, is_left=True)
    return unless_failed(packed, scipy.linalg.eig, a, **options)


def _is_real(a, w) -> bool:
    """Whether LAPACK gives real vectors."""
    return not is_complex(a) and bool(guard(all_(apply(p.imag, w) == 0)))


@answers(np.linalg.eig)
def eig(a):
    a = square(a)
    packed = _decomposed(a, np.linalg.eig)
    w, v = apply(eigen.eigenvalues, packed), apply(eigen.eigenvectors, packed)
    return _EIG(*(apply(p.real, x) for x in (w, v))) if _is_real(a, w) else _EIG(w, v)


@answers(np.linalg.eigvals)
def eigvals(a):
    a = square(a)
    w = apply(eigen.eigenvalues, _decomposed(a, np.linalg.eig, np.linalg.eigvals))
    return apply(p.real, w) if _is_real(a, w) else w


@answers(scipy.linalg.eig, note="without the second matrix `b`")
def scipy_eig(a, b=None, left=False, right=True):
    if b is not None:
        raise trace_error(
            "scipy.linalg.eig of two matrices", "take the eigenvalues of np.linalg.solve(b, a)"
        )
    a = square(a)
    packed = _decomposed(a, scipy.linalg.eig)
    w = apply(eigen.eigenvalues, packed)
    found = [packed] if right else []
    if left:
        found.insert(0, _left(a))
    vectors = [apply(eigen.eigenvectors, one) for one in found]
    if vectors and _is_real(a, w):
        vectors = [apply(p.real, v) for v in vectors]
    return (w, *vectors) if vectors else w


refuses(
    scipy.linalg.schur,
    scipy.linalg.qz,
    scipy.linalg.hessenberg,
    scipy.linalg.lu,
    why="its factors depend on the order of an iteration or an elimination",
    instead="use np.linalg.eig, or sqrtm, logm, solve and solve_sylvester, which need no factors",
)


# Functions of a matrix.


def _function_of(a, function, **options):
    a, by = square(a), la.Routine(function, tuple(options.items()))
    if is_complex(a):
        return _applied(a, by, False)
    stays = apply(mf.stays_real, a, by=by)
    if current().is_closed and not is_constant(stays):
        return _applied(a, by, False) * np.where(stays, 1.0, np.nan)
    if guard(stays):
        return _applied(a, by, False)
    return _applied(cast(a, np.result_type(a.dtype, np.complex64)), by, True)


def _applied(a, by, was_real):
    found = apply(mf.of_matrix, a, by=by, was_real=was_real)
    return unless_failed(found, by.function, a, **dict(by.options))


@answers(scipy.linalg.sqrtm)
def sqrtm(A):
    return _function_of(A, scipy.linalg.sqrtm)


@answers(scipy.linalg.logm)
def logm(A):
    return _function_of(A, scipy.linalg.logm)


@answers(scipy.linalg.fractional_matrix_power, note="the power must be constant")
def fractional_matrix_power(A, t):
    if not isinstance(t, int | float | np.integer | np.floating):
        raise trace_error(
            "scipy.linalg.fractional_matrix_power with a power that depends on x",
            "write it as scipy.linalg.expm(t * scipy.linalg.logm(A))",
        )
    if float(t).is_integer():
        return np.linalg.matrix_power(A, int(t))
    return _function_of(A, scipy.linalg.fractional_matrix_power, t=float(t))


# Equations for a matrix.


@answers(scipy.linalg.solve_sylvester)
def solve_sylvester(a, b, q):
    a, b, q = floats(a, b, q)
    return apply(mf.sylvester, square(a), square(b), q)


@answers(scipy.linalg.solve_continuous_lyapunov, scipy.linalg.solve_lyapunov)
def solve_continuous_lyapunov(a, q):
    a, q = floats(a, q)
    return apply(mf.sylvester, square(a), adjoint(a), square(q))


@answers(scipy.linalg.solve_continuous_are)
def solve_continuous_are(a, b, q, r):
    a, b, q, r = floats(a, b, q, r)
    found = apply(mf.riccati, square(a), b, square(q), square(r))
    return unless_failed(found, scipy.linalg.solve_continuous_are, a, b, q, r)


@answers(scipy.linalg.solve_discrete_are)
def solve_discrete_are(a, b, q, r):
    a, b, q, r = floats(a, b, q, r)
    found = apply(mf.discrete_riccati, square(a), b, square(q), square(r))
    return unless_failed(found, scipy.linalg.solve_discrete_are, a, b, q, r)


# Tensors as matrices.


@answers(np.linalg.tensorsolve)
def tensorsolve(a, b, axes=None):
    a, b = floats(a, b)
    if axes is not None:
        axes = tuple(int(k) for k in axes)
        a = np.transpose(a, [*(k for k in range(a.ndim) if k not in axes), *axes])
    shape = a.shape[b.ndim - a.ndim :]
    n = math.prod(shape)
    if a.size != n**2:
        raise np.linalg.LinAlgError(
            "Input arrays must satisfy the requirement "
            "prod(a.shape[b.ndim:]) == prod(a.shape[:b.ndim])"
        )
    return reshape(np.linalg.solve(reshape(a, (n, n)), np.ravel(b)), shape)
