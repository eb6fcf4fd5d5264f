"""Windows of arrays, and padding: elements that continue an array beyond its ends.

A sliding window is a view by a gather: element i of the result, at place k of its window, is x[i + k]. Pads
that repeat elements (edge, reflect, symmetric, wrap) are gathers too, with the index that NumPy's
own np.pad gives for 0, 1, ..., n - 1; the others are joined from pieces, axis after axis.
"""

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from nbhvp.graph import primitives as p
from nbhvp.trace.answers import answers, refuses
from nbhvp.trace.arrays import Traced, apply, lift, trace_error
from nbhvp.trace.methods.shapes import view_of
from nbhvp.trace.numpy.elementwise import cast
from nbhvp.trace.numpy.manipulation.creation import as_array
from nbhvp.trace.numpy.manipulation.selections import gather
from nbhvp.trace.numpy.manipulation.shapes import (
    along,
    broadcast_to,
    concatenate,
    copy_,
    flip,
    moveaxis,
    part,
)
from nbhvp.trace.numpy.quantiles import median
from nbhvp.trace.numpy.reductions import max_, mean, min_

__all__ = ["pad", "windows"]


def windows(x, size: int, axis: int):
    """All windows of `size` neighbours along an axis; the place within them is the last axis."""
    count = x.shape[axis] - size + 1
    index = lift(np.arange(count)[:, None] + np.arange(size))
    found = view_of(x, p.gather, index, axis=axis)
    return moveaxis(found, axis + 1, -1)


@answers(sliding_window_view, note="the windows can be read, but not written")
def sliding_window_view_(x, window_shape, axis=None, *, subok=False, writeable=False):
    x = lift(x)
    sizes = tuple(np.atleast_1d(window_shape).tolist())
    axes = range(x.ndim) if axis is None else normalize_axis_tuple(axis, x.ndim, None, True)
    if len(sizes) != len(axes):
        raise ValueError("window_shape must have as many entries as there are axes")
    for size, k in zip(sizes, axes, strict=True):
        if not 0 <= size <= x.shape[k]:
            raise ValueError("window shape cannot be larger than input array shape")
        x = windows(x, size, k)
    return x


refuses(
    as_strided,
    why="it makes a view of memory, and a traced array has no memory",
    instead="use sliding_window_view, reshape or indexing",
)


# Padding.

_REPEATING = ("edge", "reflect", "symmetric", "wrap")
_STATISTICS = {"maximum": max_, "mean": mean, "median": median, "minimum": min_}


@answers(
    np.pad,
    note='every mode except a function; `reflect_type="odd"` only for widths up to the length of the axis',
)
def pad(
    array,
    pad_width,
    mode="constant",
    *,
    constant_values=0,
    end_values=0,
    stat_length=None,
    reflect_type="even",
):
    array = as_array(array)
    if isinstance(pad_width, dict):
        given = {k % array.ndim: np.broadcast_to(width, 2) for k, width in pad_width.items()}
        pad_width = [given.get(k, (0, 0)) for k in range(array.ndim)]
    widths = np.broadcast_to(pad_width, (array.ndim, 2)).tolist()
    if mode in ("constant", "empty"):
        return _constant(array, widths, constant_values)
    if mode in _REPEATING:
        extended = _reflected if reflect_type == "odd" and mode[0] in "rs" else _repeated
        return _each_axis(array, widths, lambda a, k, width: extended(a, k, width, mode))
    if mode == "linear_ramp":
        ends = _pairs(end_values, array.ndim)
        return _each_axis(array, widths, lambda a, k, width: _ramped(a, k, width, ends[k]))
    if mode in _STATISTICS:
        lengths = np.broadcast_to(np.asarray(stat_length, object), (array.ndim, 2))
        return _each_axis(
            array,
            widths,
            lambda a, k, width: _levelled(a, k, width, _STATISTICS[mode], lengths[k]),
        )
    raise trace_error(f"np.pad with {mode=}", "pad by np.concatenate")


def _each_axis(array, widths, extended):
    for axis, width in enumerate(widths):
        if any(width):
            array = extended(array, axis, width)
    return copy_(array)


def _pairs(values, ndim: int):
    return broadcast_to(values if isinstance(values, Traced) else np.asarray(values), (ndim, 2))


def _constant(array, widths, values):
    if not isinstance(values, Traced) and np.ndim(values) == 0:
        shape = tuple(n + sum(width) for n, width in zip(array.shape, widths, strict=True))
        frame = broadcast_to(cast(lift(values), array.dtype), shape)
        starts = tuple(before for before, _ in widths)
        return apply(p.update, frame, array, start=starts, step=(1,) * array.ndim)
    values = _pairs(cast(lift(values), array.dtype), array.ndim)
    for axis, width in enumerate(widths):
        array = _between(array, axis, width, values[axis])
    return copy_(array)


def _between(array, axis, width, values):
    """The array between two regions, each of one value (per row, if it has axes)."""
    sides = []
    for count, value in zip(width, values, strict=True):
        shape = (*array.shape[:axis], count, *array.shape[axis + 1 :])
        sides.append(broadcast_to(cast(lift(value), array.dtype), shape))
    return concatenate([sides[0], array, sides[1]], axis)


def _repeated(array, axis, width, mode):
    return gather(array, np.pad(np.arange(array.shape[axis]), width, mode=mode), axis)


def _reflected(array, axis, width, mode):
    """Point reflections at both ends: twice the end less the mirror image."""
    n = array.shape[axis]
    skip = 1 if mode == "reflect" else 0
    if max(width) > n - skip:
        raise trace_error(
            f"np.pad with {mode=}, reflect_type='odd' and more elements than the array has",
            "pad in several steps",
        )
    before = 2 * part(array, axis, 0, 1) - flip(part(array, axis, skip, skip + width[0]), axis)
    end = n - skip
    after = 2 * part(array, axis, n - 1) - flip(part(array, axis, end - width[1], end), axis)
    return concatenate([before, array, after], axis)


def _ramped(array, axis, width, ends):
    """From the edges to the end values in equal steps."""
    sides = []
    for count, end, edge in zip(width, ends, (0, array.shape[axis] - 1), strict=True):
        ramp = along(axis, array.ndim, np.arange(count) / max(count, 1))
        sides.append(end + (part(array, axis, edge, edge + 1) - end) * ramp)
    return concatenate([sides[0], array, flip(sides[1], axis)], axis)


def _levelled(array, axis, width, statistic, lengths):
    n = array.shape[axis]
    first, last = (n if length is None else min(int(length), n) for length in lengths)
    values = [
        statistic(part(array, axis, low, high), axis, keepdims=True)
        for low, high in ((0, first), (n - last, n))
    ]
    return _between(array, axis, width, values)
