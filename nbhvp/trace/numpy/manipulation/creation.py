"""Functions that make arrays: from given content, like another array, ranges and grids.

What they return is new: the function may write it. np.zeros and its like without traced arguments
need no handler here; the tracer adopts what NumPy returns.
"""

import math
import operator
from collections.abc import Callable

import numpy as np

from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import Traced, adopt, is_constant, lift, map_traced, trace_error
from nbhvp.trace.dispatch import call
from nbhvp.trace.numpy.elementwise import cast, floats
from nbhvp.trace.numpy.manipulation.shapes import (
    broadcast_to,
    concatenate,
    copy_,
    moveaxis,
    part,
    reshape,
)
from nbhvp.trace.views import is_array

__all__ = ["as_array", "zeros_like"]


def _like(function):
    """The np.*_like function that fills with a constant."""

    def handler(a, dtype=None, order="K", subok=True, shape=None):
        a = lift(a)
        shape = a.shape if shape is None else tuple(np.atleast_1d(shape).tolist())
        return adopt(function(shape, dtype or a.dtype))

    return handler


zeros_like = answers(np.zeros_like, np.empty_like)(_like(np.zeros))
ones_like = answers(np.ones_like)(_like(np.ones))


def as_array(a):
    """An array, of a scalar too: one without axes, that may be written."""
    a = lift(a)
    return a if is_array(a.value) else reshape(a, ())


_COPYING = (True, np._CopyMode.ALWAYS)


@answers(np.array)
def array(object, dtype=None, *, copy=True, order="K", subok=False, ndmin=0):
    result = cast(as_array(object), dtype)
    if result.ndim < ndmin:
        result = reshape(result, (1,) * (ndmin - result.ndim) + result.shape)
    return copy_(result) if copy in _COPYING else result


@answers(np.asarray, np.asanyarray, np.ascontiguousarray, np.asfortranarray)
def asarray(a, dtype=None, order=None, *, copy=None):
    result = cast(as_array(a), dtype)
    return copy_(result) if copy in _COPYING else result


@answers(np.linspace)
def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0):
    start, stop = floats(start, stop)
    if num < 0:
        np.linspace(0, 1, num)  # NumPy's own error
    count = num - 1 if endpoint else num
    step = (stop - start) / count if count > 0 else (stop - start) * math.nan
    ramp = np.arange(num, dtype=start.dtype)
    shape = np.broadcast_shapes(start.shape, stop.shape)
    ramp = ramp.reshape(num, *(1,) * len(shape))
    points = start + (stop - start) / max(count, 1) * ramp
    if endpoint and num > 1:
        last = broadcast_to(cast(stop, points.dtype), (1, *shape))
        points = concatenate([part(points, 0, 0, num - 1), last], 0)
    points = cast(moveaxis(points, 0, axis), dtype)
    return (points, step) if retstep else points


@answers(np.geomspace)
def geomspace(start, stop, num=50, endpoint=True, dtype=None, axis=0):
    ends = (np.log(lift(start)), np.log(lift(stop)))
    return cast(np.exp(linspace(*ends, num, endpoint, axis=axis)), dtype)


@answers(np.vander)
def vander(x, N=None, increasing=False):
    x = lift(x)
    if x.ndim != 1:
        raise ValueError("x must be a one-dimensional array or sequence.")
    N = x.shape[0] if N is None else N
    exponents = np.arange(N) if increasing else np.arange(N)[::-1]
    return reshape(x, (-1, 1)) ** exponents


@answers(np.meshgrid)
def meshgrid(*xi, copy=True, sparse=False, indexing="xy"):
    if indexing not in ("xy", "ij"):
        raise ValueError("Valid values for `indexing` are 'xy' and 'ij'.")
    ndim, grids = len(xi), []
    for k, x in enumerate(xi):
        axis = 1 - k if indexing == "xy" and k < 2 <= ndim else k
        grids.append(reshape(x, [-1 if j == axis else 1 for j in range(ndim)]))
    if not sparse:
        shape = np.broadcast_shapes(*(grid.shape for grid in grids))
        grids = [broadcast_to(grid, shape) for grid in grids]
    return tuple(copy_(grid) for grid in grids) if copy else tuple(grids)


# Arrays whose shape may be computed.


def _of_counts(function: Callable) -> Callable:
    return lambda *args, **kwargs: call(
        function, map_traced(_count, args), map_traced(_count, kwargs)
    )


def _count(x: Traced):
    if is_constant(x):
        return x.value
    if x.dtype.kind not in "iu":
        raise trace_error(
            "the shape of an array depends on a traced float", "make the number an int argument"
        )
    return operator.index(x)


for _function in (np.zeros, np.ones, np.eye, np.tri, np.arange):
    answers(_function)(_of_counts(_function))
