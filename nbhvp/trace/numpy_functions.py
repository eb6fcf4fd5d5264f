"""All functions that a traced array answers to without being primitives, by subject.

Importing this module fills the register: elementwise functions, shapes, reductions, products, special
functions; and here the questions about an array that need no graph (its shape, its dtype), or whose
answer is a truth value that the function acts on (a guard). Parts of SciPy come from `on_demand`.
"""

import numpy as np

from nbhvp.trace import memory_layout
from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import imag_view, lift, map_traced, real_view
from nbhvp.trace.numpy import (
    creation,
    elementwise,
    histograms,
    linalg,
    polynomials,
    products,
    quantiles,
    reductions,
    selections,
    sequences,
)
from nbhvp.trace.numpy import fft as fourier
from nbhvp.trace.numpy import functional as mapping
from nbhvp.trace.numpy import manipulation as shapes
from nbhvp.trace.numpy import padding as windows
from nbhvp.trace.numpy import testing as assertions
from nbhvp.trace.numpy.elementwise import is_complex, isclose
from nbhvp.trace.scipy import matrix_functions, special
from nbhvp.trace.scipy import stats as distributions

__all__ = [
    "assertions",
    "creation",
    "distributions",
    "elementwise",
    "fourier",
    "histograms",
    "linalg",
    "mapping",
    "matrix_functions",
    "memory_layout",
    "polynomials",
    "products",
    "quantiles",
    "reductions",
    "selections",
    "sequences",
    "shapes",
    "special",
    "windows",
]


@answers(np.real)
def real(val):
    return real_view(lift(val))


@answers(np.imag)
def imag(val):
    return imag_view(lift(val))


@answers(np.real_if_close)
def real_if_close(a, tol=100):
    """Which of both it gives is a branch of the function."""
    a = lift(a)
    if not is_complex(a):
        return a
    limit = tol * np.finfo(a.dtype).eps if tol > 1 else tol
    return real_view(a) if np.all(np.abs(imag_view(a)) < limit) else a


def _of_values(function):
    """A question that the concrete values answer, since shapes and dtypes belong to the trace."""

    def handler(*args, **kwargs):
        values = map_traced(lambda x: x.value, list(args))
        return function(*values, **map_traced(lambda x: x.value, kwargs))

    return handler


for _function in (
    np.min_scalar_type,
    np.diag_indices_from,
    np.tril_indices_from,
    np.triu_indices_from,
):
    answers(_function)(_of_values(_function))


@answers(np.allclose)
def allclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False):
    return bool(reductions.all_(isclose(a, b, rtol, atol, equal_nan)))


@answers(np.array_equal)
def array_equal(a1, a2, equal_nan=False):
    a, b = lift(a1), lift(a2)
    if a.shape != b.shape:
        return False
    same = (a == b) | (np.isnan(a) & np.isnan(b)) if equal_nan else a == b
    return bool(reductions.all_(same))


@answers(np.array_equiv)
def array_equiv(a1, a2):
    a, b = lift(a1), lift(a2)
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        return False
    return bool(reductions.all_(a == b))
