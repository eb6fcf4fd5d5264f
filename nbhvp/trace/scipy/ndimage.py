"""The linear filters of scipy.ndimage, in all boundary modes.

Each is a correlation along one axis after another, or with one kernel of several axes. The place of
the kernel's element of extent m that stands over the result is m // 2 + origin. Gaussian kernels
are what SciPy's own filter makes of a unit impulse.
"""

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple
from scipy import ndimage

from nbhvp.trace.answers import answers, refuses
from nbhvp.trace.arrays import Traced, lift
from nbhvp.trace.numpy.elementwise import cast, into
from nbhvp.trace.numpy.manipulation import flip
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


@answers(ndimage.convolve1d)
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


@answers(ndimage.uniform_filter)
def uniform_filter(input, size=3, output=None, mode="reflect", cval=0.0, origin=0, *, axes=None):
    x = result = lift(input)
    axes = _axes(axes, x.ndim)
    settings = (one_per_axis(q, len(axes)) for q in (size, mode, origin))
    for axis, n, mode_, origin_ in zip(axes, *settings, strict=True):
        if n > 1:
            result = uniform_filter1d(result, int(n), axis, None, mode_, cval, origin_)
    return _delivered(output, x, result)


@answers(ndimage.gaussian_filter1d)
def gaussian_filter1d(
    input,
    sigma,
    axis=-1,
    order=0,
    output=None,
    mode="reflect",
    cval=0.0,
    truncate=4.0,
    *,
    radius=None,
):
    radius = int(truncate * float(sigma) + 0.5) if radius is None else radius
    impulse = np.zeros(2 * radius + 1)
    impulse[radius] = 1.0
    kernel = ndimage.gaussian_filter1d(impulse, sigma, order=order, mode="constant", radius=radius)
    return correlate1d(input, kernel[::-1], axis, output, mode, cval)


@answers(ndimage.gaussian_filter)
def gaussian_filter(
    input,
    sigma,
    order=0,
    output=None,
    mode="reflect",
    cval=0.0,
    truncate=4.0,
    *,
    radius=None,
    axes=None,
):
    x = result = lift(input)
    axes = _axes(axes, x.ndim)
    settings = (one_per_axis(q, len(axes)) for q in (sigma, order, mode, radius))
    for axis, s, k, mode_, r in zip(axes, *settings, strict=True):
        if s > 1e-15:
            result = gaussian_filter1d(result, s, axis, k, None, mode_, cval, truncate, radius=r)
    return _delivered(output, x, result)


def _gradient(smoothing):
    """A difference along one axis, smoothed along the others."""

    def handler(input, axis=-1, output=None, mode="reflect", cval=0.0):
        x = lift(input)
        axis = normalize_axis_index(axis, x.ndim)
        modes = one_per_axis(mode, x.ndim)
        result = correlate1d(x, [-1, 0, 1], axis, None, modes[axis], cval)
        for k in range(x.ndim):
            if k != axis:
                result = correlate1d(result, smoothing, k, None, modes[k], cval)
        return _delivered(output, x, result)

    return handler


prewitt = answers(ndimage.prewitt)(_gradient([1, 1, 1]))
sobel = answers(ndimage.sobel)(_gradient([1, 2, 1]))


@answers(ndimage.laplace)
def laplace(input, output=None, mode="reflect", cval=0.0, *, axes=None):
    x = lift(input)
    axes = _axes(axes, x.ndim)
    modes = one_per_axis(mode, len(axes))
    terms = [
        correlate1d(x, [1, -2, 1], axis, None, mode_, cval)
        for axis, mode_ in zip(axes, modes, strict=True)
    ]
    return _delivered(output, x, sum(terms[1:], terms[0]))


@answers(ndimage.gaussian_laplace)
def gaussian_laplace(input, sigma, output=None, mode="reflect", cval=0.0, *, axes=None, **options):
    terms = _gaussian_derivatives(input, sigma, 2, mode, cval, axes, options)
    return _delivered(output, lift(input), sum(terms[1:], terms[0]))


@answers(ndimage.gaussian_gradient_magnitude)
def gaussian_gradient_magnitude(
    input, sigma, output=None, mode="reflect", cval=0.0, *, axes=None, **options
):
    """Its derivative is infinite where the gradient is 0, as that of sqrt at 0."""
    terms = [t * t for t in _gaussian_derivatives(input, sigma, 1, mode, cval, axes, options)]
    return _delivered(output, lift(input), np.sqrt(sum(terms[1:], terms[0])))


def _gaussian_derivatives(input, sigma, order, mode, cval, axes, options) -> list:
    x = lift(input)
    axes = _axes(axes, x.ndim)
    results = []
    for k in range(len(axes)):
        orders = [order if j == k else 0 for j in range(len(axes))]
        results.append(gaussian_filter(x, sigma, orders, None, mode, cval, axes=axes, **options))
    return results


refuses(
    "median_filter",
    "maximum_filter",
    "minimum_filter",
    "rank_filter",
    "percentile_filter",
    "generic_filter",
    within="scipy.ndimage",
    why="it is not linear",
    instead="use np.max(sliding_window_view(x, n), -1) and its kin",
)
