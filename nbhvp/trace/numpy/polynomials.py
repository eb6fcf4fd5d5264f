"""Polynomials as rows of coefficients, the highest power first: np.poly, np.polymul, np.polyfit.

The others, and numpy.polynomial, are plain Python over NumPy's functions and are traced as they
stand. A least-squares fit at constant points is linear in the values, with the matrix that NumPy's own fit
gives for unit vectors.
"""

import numpy as np

from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import is_constant, lift, trace_error
from nbhvp.trace.numpy.manipulation.shapes import concatenate
from nbhvp.trace.numpy.products import convolve, dot

__all__: list[str] = []


@answers(np.polymul)
def polymul(a1, a2):
    return convolve(a1, a2)


@answers(np.poly, note="the argument must be a vector of roots")
def poly(seq_of_zeros):
    """The coefficients of the polynomial with these zeros."""
    zeros = lift(seq_of_zeros)
    if zeros.ndim != 1:
        raise trace_error(
            "np.poly of a matrix", "pass its eigenvalues, np.poly(np.linalg.eigvals(A))"
        )
    result = np.ones(1)
    for k in range(zeros.size):
        result = convolve(result, concatenate([np.ones(1), -zeros[k : k + 1]]))
    return lift(result)


@answers(
    np.polyfit, note="traced values, with constant points and weights; without `full=` and `cov=`"
)
def polyfit(x, y, deg, rcond=None, full=False, w=None, cov=False):
    x, y = lift(x), lift(y)
    if full or cov or not is_constant(x) or (w is not None and not is_constant(lift(w))):
        raise trace_error(
            "np.polyfit with points or weights that depend on x, or with full or cov",
            "write the fit as a least-squares problem, np.linalg.lstsq(np.vander(x, deg + 1), y)",
        )
    w = None if w is None else lift(w).value
    return dot(np.polyfit(x.value, np.eye(x.size), deg, rcond, w=w), y)
