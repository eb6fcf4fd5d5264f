"""Polynomials as rows of coefficients, the highest power first: np.polyval and its kin.

Those of numpy.polynomial are plain Python over NumPy's functions and are traced as they stand. A
least-squares fit at constant points is linear in the values, with the matrix that NumPy's own fit
gives for unit vectors.
"""

import numpy as np

from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import is_constant, lift, trace_error
from nbhvp.trace.numpy.elementwise import given
from nbhvp.trace.numpy.manipulation import atleast_1d, concatenate
from nbhvp.trace.numpy.products import convolve, dot

__all__: list[str] = []


@answers(np.polyval)
def polyval(p, x):
    p, x = lift(p), lift(x)
    result = 0 * x
    for k in range(p.shape[0]):
        result = result * x + p[k]
    return result


@answers(np.polymul)
def polymul(a1, a2):
    return convolve(a1, a2)


@answers(np.polyder)
def polyder(p, m=1):
    p = lift(p)
    for _ in range(m):
        p = p[:-1] * np.arange(p.size - 1, 0, -1)
    return p


@answers(np.polyadd)
def polyadd(a1, a2):
    return _padded(a1, a2, lambda a, b: a + b)


@answers(np.polysub)
def polysub(a1, a2):
    return _padded(a1, a2, lambda a, b: a - b)


def _padded(a, b, operation):
    a, b = atleast_1d(a), atleast_1d(b)
    n = max(a.size, b.size)
    return operation(*(concatenate([lift(np.zeros(n - q.size)), q]) for q in (a, b)))


@answers(np.polyint)
def polyint(p, m=1, k=None):
    p = lift(p)
    constants = np.zeros(m) if not given(k) else np.broadcast_to(k, (m,)) if np.ndim(k) == 0 else k
    for constant in constants:
        p = concatenate([p / np.arange(p.size, 0, -1), atleast_1d(constant)])
    return p


@answers(np.poly, note="of roots")
def poly(seq_of_zeros):
    """The coefficients of the polynomial with these zeros."""
    zeros = lift(seq_of_zeros)
    if zeros.ndim != 1:
        raise trace_error("np.poly of a matrix", "give its eigenvalues")
    result = np.ones(1)
    for k in range(zeros.size):
        result = convolve(result, concatenate([np.ones(1), -zeros[k : k + 1]]))
    return lift(result)


@answers(
    np.polyfit, note="of traced values; constant points and weights; neither `full=` nor `cov=`"
)
def polyfit(x, y, deg, rcond=None, full=False, w=None, cov=False):
    x, y = lift(x), lift(y)
    if full or cov or not is_constant(x) or (w is not None and not is_constant(lift(w))):
        raise trace_error(
            "np.polyfit with points or weights that depend on x, or with full or cov",
            "solve the least-squares problem itself",
        )
    w = None if w is None else lift(w).value
    return dot(np.polyfit(x.value, np.eye(x.size), deg, rcond, w=w), y)
