"""The linear filters of scipy.ndimage that are written in C, in all boundary modes.

Each is a correlation along one axis, or with one kernel of several axes. The place of the kernel's
element of extent m that stands over the result is m // 2 + origin. Those that smooth, sharpen and
differentiate are made of these in SciPy's own source.
"""

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple
from scipy import ndimage

from nbhvp.trace.answers import answers, refuses
from nbhvp.trace.arrays import Traced, lift
from nbhvp.trace.numpy.elementwise import cast, into
from nbhvp.trace.numpy.manipulation.shapes import flip
from nbhvp.trace.scipy.filters import correlated, extended, one_per_axis

__all__: list[str] = []


def _delivered(output, input, result):
    """The result in the dtype of the input, or in that of `output`, or written into it."""
    if output is None:
        return cast(result, input.dtype).copy()
    if isinstance(output, Traced):
        return into(output, cast(result, output.dtype))
    return cast(result, np.dtype(output))


def _axes(axes, ndim: int) -> tuple[int, ...]:
    return tuple(range(ndim)) if axes is None else normalize_axis_tuple(axes, ndim)


def _along(x, kernel, axis, mode, cval, origin):
    axis = normalize_axis_index(axis, x.ndim)
    (size,) = kernel.shape
    before = size // 2 + origin
    if not 0 <= before < size:
        raise ValueError("Invalid origin")
    widths = [(before, size - 1 - before) if k == axis else (0, 0) for k in range(x.ndim)]
    return correlated(extended(x, widths, mode, cval), kernel, (axis,))


@answers(ndimage.correlate1d)
def correlate1d(input, weights, axis=-1, output=None, mode="reflect", cval=0.0, origin=0):
    x, weights = lift(input), np.conjugate(lift(weights))
    return _delivered(output, x, _along(x, weights, axis, mode, cval, origin))


def convolve1d(input, weights, axis=-1, output=None, mode="reflect", cval=0.0, origin=0):
    x, weights = lift(input), flip(weights)
    origin = -origin - (1 - weights.shape[0] % 2)
    return _delivered(output, x, _along(x, weights, axis, mode, cval, origin))


def _over(x, weights, axes, mode, cval, origins):
    axes = _axes(axes, x.ndim)
    if weights.ndim != len(axes):
        raise RuntimeError(f"weights.ndim ({weights.ndim}) must match len(axes) ({len(axes)})")
    widths = [(0, 0)] * x.ndim
    for axis, size, origin in zip(axes, weights.shape, origins, strict=True):
        before = size // 2 + origin
        if not 0 <= before < size:
            raise ValueError("Invalid origin")
        widths[axis] = (before, size - 1 - before)
    return correlated(extended(x, widths, mode, cval), weights, axes)


@answers(ndimage.correlate)
def correlate(input, weights, output=None, mode="reflect", cval=0.0, origin=0, *, axes=None):
    x, weights = lift(input), np.conjugate(lift(weights))
    origins = one_per_axis(origin, weights.ndim)
    return _delivered(output, x, _over(x, weights, axes, mode, cval, origins))


@answers(ndimage.convolve)
def convolve(input, weights, output=None, mode="reflect", cval=0.0, origin=0, *, axes=None):
    x, weights = lift(input), flip(weights)
    origins = one_per_axis(origin, weights.ndim)
    origins = [-o - (1 - size % 2) for o, size in zip(origins, weights.shape, strict=True)]
    return _delivered(output, x, _over(x, weights, axes, mode, cval, origins))


@answers(ndimage.uniform_filter1d)
def uniform_filter1d(input, size, axis=-1, output=None, mode="reflect", cval=0.0, origin=0):
    return correlate1d(input, np.full(size, 1 / size), axis, output, mode, cval, origin)


refuses(
    "median_filter",
    "maximum_filter",
    "minimum_filter",
    "rank_filter",
    "percentile_filter",
    "generic_filter",
    within="scipy.ndimage",
    why="only the linear filters of scipy.ndimage have rules",
    instead="use np.max, np.min or np.median of sliding_window_view(x, n) along the last axis",
)
