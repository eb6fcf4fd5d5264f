"""The linear filters of scipy.signal: convolutions, recursive filters, smoothing, detrending.

A recursive filter a * y = b * x (in the sense of polynomials in the delay) is a correlation with
the reversed b and then the recurrence of a. In the transposed direct form, which SciPy's initial
conditions zi belong to, these are added to the first elements between the two steps.
"""

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from scipy import signal

from nbhvp.graph.table import filters
from nbhvp.trace.answers import answers, refuses
from nbhvp.trace.arrays import Traced, apply, is_constant, lift, trace_error
from nbhvp.trace.numpy.elementwise import cast, floating, where
from nbhvp.trace.numpy.manipulation.padding import pad
from nbhvp.trace.numpy.manipulation.shapes import (
    broadcast_to,
    concatenate,
    flip,
    moveaxis,
    part,
    reshape,
    stack,
)
from nbhvp.trace.numpy.products import tensordot
from nbhvp.trace.numpy.reductions import mean
from nbhvp.trace.scipy.filters import correlated, extended
from nbhvp.trace.scipy.ndimage import convolve1d

__all__: list[str] = []


# Convolution.


def _convolved(x, kernel, mode, boundary="fill", value=0.0, later=0):
    """The convolution over all axes; "same" has the shape of x, about the middle of "full".

    Where there are two middles, it begins at the first, or with `later` = 1 at the second.
    """
    x, kernel = floating(lift(x)), floating(lift(kernel))
    if x.ndim != kernel.ndim:
        raise ValueError("in1 and in2 should have the same dimensionality")
    if x.ndim == 0:
        return x * kernel
    if mode not in ("full", "same", "valid"):
        raise ValueError("acceptable mode flags are 'valid', 'same', or 'full'")
    if mode == "valid":
        return _valid(x, kernel)
    widths = []
    for m in kernel.shape:
        first = (m - 1 + later) // 2 if mode == "same" else 0
        widths.append((m - 1 - first, first if mode == "same" else m - 1))
    x = cast(x, np.result_type(x.dtype, kernel.dtype))
    return correlated(extended(x, widths, boundary, value), flip(kernel), range(x.ndim))


def _valid(x, kernel):
    if all(m > n for n, m in zip(x.shape, kernel.shape, strict=True)):
        x, kernel = kernel, x
    if any(m > n for n, m in zip(x.shape, kernel.shape, strict=True)):
        raise ValueError("For 'valid' mode, one must be at least as large as the other")
    x = cast(x, np.result_type(x.dtype, kernel.dtype))
    return correlated(x, flip(kernel), range(x.ndim))


@answers(signal.convolve)
def convolve(in1, in2, mode="full", method="auto"):
    _check_method(method)
    return _convolved(in1, in2, mode)


def _check_method(method: str) -> None:
    if method not in ("auto", "direct", "fft"):
        raise ValueError("Acceptable method flags are 'auto', 'direct', or 'fft'.")


@answers(signal.fftconvolve, signal.oaconvolve, note="along all axes only")
def fftconvolve(in1, in2, mode="full", axes=None):
    in1, in2 = lift(in1), lift(in2)
    every = range(in1.ndim)
    axes = [*every] if axes is None else sorted(every[k] for k in np.atleast_1d(axes).tolist())
    if len(set(axes)) < len(axes):
        raise ValueError("all axes must be unique")
    if axes != [*every]:
        raise trace_error("fftconvolve along some of the axes", "use scipy.ndimage.convolve1d")
    return _convolved(in1, in2, mode)


@answers(signal.convolve2d)
def convolve2d(in1, in2, mode="full", boundary="fill", fillvalue=0):
    return _convolved(in1, in2, mode, boundary, fillvalue)


@answers(signal.correlate2d)
def correlate2d(in1, in2, mode="full", boundary="fill", fillvalue=0):
    return _convolved(in1, np.conjugate(flip(in2)), mode, boundary, fillvalue, later=1)


# Recursive filters.


@answers(signal.lfilter, note="the coefficients may depend on `x`")
def lfilter(b, a, x, axis=-1, zi=None):
    b, a, x = (floating(np.atleast_1d(lift(q))) for q in (b, a, x))
    axis = normalize_axis_index(axis, x.ndim)
    given = [q.dtype for q in (b, a, x, *(() if zi is None else (lift(zi),)))]
    x = cast(x, np.result_type(*given))
    b, a = b / a[0], a / a[0]
    forced = _delayed(x, b, axis)
    if zi is not None:
        zi = _initial(zi, x, max(a.size, b.size) - 1, axis)
        forced = forced + _at_start(zi, x.shape[axis], axis)
    y = forced
    if a.size > 1:
        y = apply(filters.recurrence, forced, cast(a[1:], x.dtype), axis=axis, reverse=False)
    return y if zi is None else (y, _final(b, a, x, y, axis))


def _delayed(x, b, axis):
    """sum_k b_k x[i - k], with zeros before the first element."""
    before = extended(x, [(b.size - 1, 0) if k == axis else (0, 0) for k in range(x.ndim)])
    return correlated(before, flip(b), (axis,))


def _initial(zi, x, order, axis):
    shape = (*x.shape[:axis], order, *x.shape[axis + 1 :])
    return broadcast_to(lift(zi), shape)


def _at_start(zi, n: int, axis: int):
    """Initial conditions, with zeros after them, as long as the signal."""
    zi = part(zi, axis, 0, n)
    after = n - zi.shape[axis]
    return extended(zi, [(0, after) if k == axis else (0, 0) for k in range(zi.ndim)])


def _final(b, a, x, y, axis):
    """z_k = sum_{j > k} b_j x[n + k - j] - a_j y[n + k - j], from the last elements."""
    order, n = max(a.size, b.size) - 1, x.shape[axis]
    if n < order:
        raise trace_error("lfilter with zi of a signal shorter than the filter", "pad the signal")
    k, r = np.ogrid[:order, :order]
    power = order + k - r
    within = (power > k) & (power <= order)
    result = 0.0
    for coefficients, z in ((b, x), (-a, y)):
        filled = concatenate([coefficients, np.zeros(order + 1 - coefficients.size)])
        matrix = where(within, filled[np.clip(power, 0, order)], 0.0)
        last = moveaxis(part(z, axis, n - order), axis, 0)
        result = result + moveaxis(tensordot(matrix, last, 1), 0, axis)
    return result


@answers(signal.sosfilt)
def sosfilt(sos, x, axis=-1, zi=None):
    sos, final = lift(sos), []
    for k in range(sos.shape[0]):
        x = lfilter(sos[k, :3], sos[k, 3:], x, axis, None if zi is None else zi[k])
        if zi is not None:
            x, state = x
            final.append(state)
    return x if zi is None else (x, stack(final))


_EXTENSIONS = {
    "odd": {"mode": "reflect", "reflect_type": "odd"}, "even": {"mode": "reflect"},
    "constant": {"mode": "edge"},
}  # fmt: skip


def _there_and_back(forward, x, axis, padtype, edge):
    """A filter run over an extended signal, and over the result from its end."""
    x = floating(lift(x))
    axis = normalize_axis_index(axis, x.ndim)
    if padtype not in (None, *_EXTENSIONS):
        raise ValueError(f"Unknown value '{padtype}' given to padtype.")
    edge = 0 if padtype is None else edge
    if x.shape[axis] <= edge:
        raise ValueError(
            f"The length of the input vector x must be greater than padlen, which is {edge}."
        )
    n = x.shape[axis]
    if edge:
        widths = [(edge, edge) if k == axis else (0, 0) for k in range(x.ndim)]
        x = pad(x, widths, **_EXTENSIONS[padtype])
    for _ in range(2):
        x = flip(forward(x, part(x, axis, 0, 1), axis), axis)
    return part(x, axis, edge, edge + n)


@answers(signal.filtfilt, note='the coefficients must be constant; without `method="gust"`')
def filtfilt(b, a, x, axis=-1, padtype="odd", padlen=None, method="pad", irlen=None):
    if method != "pad":
        raise trace_error(f"filtfilt with {method=}", "use method='pad'")
    b, a = _known(b), _known(a)
    state = signal.lfilter_zi(b, a)
    edge = 3 * max(len(a), len(b)) if padlen is None else padlen

    def forward(x, first, axis):
        zi = reshape(state, [-1 if k == axis else 1 for k in range(x.ndim)])
        return lfilter(b, a, x, axis, zi * first)[0]

    return _there_and_back(forward, x, axis, padtype, edge)


@answers(signal.sosfiltfilt, note="the coefficients must be constant")
def sosfiltfilt(sos, x, axis=-1, padtype="odd", padlen=None):
    sos = _known(sos)
    state = signal.sosfilt_zi(sos)
    count = 2 * len(sos) + 1
    count -= min((sos[:, 2] == 0).sum(), (sos[:, 5] == 0).sum())
    edge = 3 * count if padlen is None else padlen

    def forward(x, first, axis):
        shape = [-1 if k == axis else 1 for k in range(x.ndim)]
        return sosfilt(sos, x, axis, [reshape(row, shape) * first for row in state])[0]

    return _there_and_back(forward, x, axis, padtype, edge)


def _known(value) -> np.ndarray:
    """The coefficients of a filter whose steady state is needed."""
    if isinstance(value, Traced) and not is_constant(value):
        raise trace_error(
            "the coefficients of a filter that runs forward and backward depend on x or an argument",
            "use lfilter, or close over the coefficients",
        )
    return np.atleast_1d(value.value if isinstance(value, Traced) else value)


# Smoothing and trends.


@answers(signal.savgol_filter)
def savgol_filter(
    x, window_length, polyorder, deriv=0, delta=1.0, axis=-1, mode="interp", cval=0.0
):
    x = floating(lift(x))
    axis = normalize_axis_index(axis, x.ndim)
    kernel = signal.savgol_coeffs(window_length, polyorder, deriv, delta)
    if mode != "interp":
        return convolve1d(x, kernel, axis, None, mode, cval)
    n, half = x.shape[axis], window_length // 2
    if window_length > n:
        raise ValueError("If mode is 'interp', window_length must be at most the size of x.")
    # What SciPy's own gives for unit vectors: the fit to the window at each end.
    units = signal.savgol_filter(np.eye(window_length), window_length, polyorder, deriv, delta, 0)
    first, last = part(x, axis, 0, window_length), part(x, axis, n - window_length)
    ends = [
        moveaxis(tensordot(rows, moveaxis(window, axis, 0), 1), 0, axis)
        for rows, window in ((units[:half], first), (units[window_length - half :], last))
    ]
    middle = part(convolve1d(x, kernel, axis, None, "constant"), axis, half, n - half)
    return concatenate([ends[0], middle, ends[1]], axis)


@answers(signal.detrend)
def detrend(data, axis=-1, type="linear", bp=0, overwrite_data=False):
    x = floating(lift(data))
    if type in ("constant", "c"):
        return x - mean(x, axis, keepdims=True)
    if type not in ("linear", "l"):
        raise ValueError("Trend type must be 'linear' or 'constant'.")
    axis = normalize_axis_index(axis, x.ndim)
    n = x.shape[axis]
    cuts = np.unique(np.concatenate([[0, n], np.atleast_1d(bp)]))
    if cuts[-1] > n:
        raise ValueError("Breakpoints must be less than length of data along given axis.")
    pieces = [part(x, axis, low, high) for low, high in zip(cuts[:-1], cuts[1:], strict=True)]
    return concatenate([_without_line(piece, axis) for piece in pieces], axis)


def _without_line(x, axis):
    """Less the projection on lines, which an orthonormal basis gives."""
    n = x.shape[axis]
    basis, _ = np.linalg.qr(np.stack([np.ones(n), np.arange(n) - (n - 1) / 2], 1)[:, : min(n, 2)])
    rows = moveaxis(x, axis, 0)
    line = tensordot(basis, tensordot(basis.T, rows, 1), 1)
    return x - moveaxis(line, 0, axis)


refuses(
    "resample_poly",
    "upfirdn",
    within="scipy.signal",
    why="no derivative rule has been written yet",
    instead="use lfilter or convolve with slices",
)
