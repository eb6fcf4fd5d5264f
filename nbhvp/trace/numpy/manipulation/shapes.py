"""Functions that move elements and compute nothing: shapes, joins, splits, rolls and flips.

Views stay views: what NumPy returns as a view of its argument is a view here too (`reshape_view`,
`transpose_view`, `slice_view`), so that a later write is seen through every alias. All else copies.
"""

from itertools import pairwise

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from nbhvp.graph import primitives as p
from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import apply, guard, lift, map_traced
from nbhvp.trace.methods.shapes import broadcast_view, reshape_view, slice_view, transpose_view
from nbhvp.trace.numpy.elementwise import cast, into

__all__ = [
    "along",
    "concatenate",
    "moveaxis",
    "part",
    "row",
]


def part(a, axis: int, start=None, stop=None, step=None):
    """The view a[:, ..., start:stop:step] along one axis."""
    return slice_view(a, (slice(None),) * axis + (slice(start, stop, step),))


def along(axis: int, ndim: int, vector):
    """A vector, shaped to broadcast along one axis of an array."""
    return np.reshape(vector, [-1 if k == axis else 1 for k in range(ndim)])


def row(a, axis):
    """The array, flat where NumPy flattens it, and its axis."""
    a = lift(a)
    if axis is None or (a.ndim == 0 and axis in (0, -1)):
        return ravel(a), 0
    return a, normalize_axis_index(axis, a.ndim)


# Shape.


@answers(np.reshape)
def reshape(a, /, shape, order="C", *, copy=None):
    return lift(a).reshape(shape, order=order, copy=copy)


@answers(np.ravel)
def ravel(a, order="C"):
    return lift(a).ravel(order)


@answers(np.transpose, np.permute_dims)
def transpose(a, axes=None):
    a = lift(a)
    return a.T if axes is None else transpose_view(a, normalize_axis_tuple(axes, a.ndim))


@answers(np.matrix_transpose, np.linalg.matrix_transpose)
def matrix_transpose(x, /):
    return swapaxes(x, -1, -2)


@answers(np.swapaxes)
def swapaxes(a, axis1, axis2):
    a = lift(a)
    order = list(range(a.ndim))
    j, k = normalize_axis_index(axis1, a.ndim), normalize_axis_index(axis2, a.ndim)
    order[j], order[k] = k, j
    return transpose_view(a, tuple(order))


@answers(np.moveaxis)
def moveaxis(a, source, destination):
    a = lift(a)
    source = normalize_axis_tuple(source, a.ndim, "source")
    destination = normalize_axis_tuple(destination, a.ndim, "destination")
    if len(source) != len(destination):
        raise ValueError("source and destination must have the same number of elements")
    order = [k for k in range(a.ndim) if k not in source]
    for to, axis in sorted(zip(destination, source, strict=True)):
        order.insert(to, axis)
    return transpose_view(a, tuple(order))


@answers(np.squeeze)
def squeeze(a, axis=None):
    a = lift(a)
    if axis is None or (a.ndim == 0 and axis in (0, -1)):
        axes, axis = range(a.ndim), None
    else:
        axes = normalize_axis_tuple(axis, a.ndim)
    if axis is not None and any(a.shape[k] != 1 for k in axes):
        raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return reshape_view(a, tuple(n for k, n in enumerate(a.shape) if k not in axes or n != 1))


@answers(np.expand_dims)
def expand_dims(a, axis):
    a = lift(a)
    axes = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    ndim = a.ndim + len(axes)
    axes = normalize_axis_tuple(axes, ndim)
    rest = iter(a.shape)
    return reshape_view(a, tuple(1 if k in axes else next(rest) for k in range(ndim)))


def _at_least(place):
    """The np.atleast_*d function that gives an array of shape s the shape place(s)."""

    def handler(*arrays):
        arrays = [lift(a) for a in arrays]
        results = tuple(reshape_view(a, place(a.shape)) for a in arrays)
        return results[0] if len(results) == 1 else results

    return handler


atleast_1d = answers(np.atleast_1d)(_at_least(lambda s: s or (1,)))
atleast_2d = answers(np.atleast_2d)(_at_least(lambda s: (1,) * (2 - len(s)) + s))
atleast_3d = answers(np.atleast_3d)(
    _at_least(
        lambda s: s if len(s) > 2 else ((1, 1) + s)[-2:] + (1,) if len(s) != 1 else (1, *s, 1)
    )
)


@answers(np.broadcast_to)
def broadcast_to(array, shape):
    return broadcast_view(lift(array), shape)


@answers(np.broadcast_arrays)
def broadcast_arrays(*args):
    args = [lift(a) for a in args]
    shape = np.broadcast_shapes(*(a.shape for a in args))
    return tuple(a if a.shape == shape else broadcast_to(a, shape) for a in args)


def copy_(a, order="K"):
    return lift(a).copy()


# Joining.


@answers(np.concatenate, np.concat)
def concatenate(arrays, axis=0, out=None, *, dtype=None):
    arrays = [lift(a) for a in arrays]
    dtype = dtype or np.result_type(*(a.dtype for a in arrays))
    if axis is None:
        arrays, axis = [ravel(a) for a in arrays], 0
    _check_joint(arrays, axis)
    axis = normalize_axis_index(axis, arrays[0].ndim)
    joined = apply(p.concatenate, *(cast(a, dtype) for a in arrays), axis=axis)
    return into(out, joined)


def _check_joint(arrays, axis) -> None:
    """NumPy's own error, from arrays without content."""
    np.concatenate([np.broadcast_to(np.int8(0), a.shape) for a in arrays], axis=axis)


@answers(np.stack)
def stack(arrays, axis=0, out=None, *, dtype=None):
    arrays = [lift(a) for a in arrays]
    if len({a.shape for a in arrays}) != 1:
        raise ValueError("all input arrays must have the same shape")
    axis = normalize_axis_index(axis, arrays[0].ndim + 1)
    if arrays[0].ndim == 0 and out is None and dtype is None:
        return lift(arrays)
    return concatenate([expand_dims(a, axis) for a in arrays], axis, out, dtype=dtype)


@answers(np.column_stack)
def column_stack(tup):
    arrays = [lift(a) for a in tup]
    return concatenate([a if a.ndim > 1 else reshape(a, (-1, 1)) for a in arrays], 1)


@answers(np.block)
def block(arrays):
    depth = _depth(arrays)
    ndim = max(depth, *(leaf.ndim for leaf in _leaves(arrays)))
    return _block(arrays, depth, ndim)


def _depth(blocks) -> int:
    return 1 + _depth(blocks[0]) if isinstance(blocks, list) else 0


def _leaves(blocks):
    if isinstance(blocks, list):
        return [leaf for inner in blocks for leaf in _leaves(inner)]
    return [lift(blocks)]


def _block(blocks, depth, ndim):
    if not isinstance(blocks, list):
        leaf = lift(blocks)
        return reshape(leaf, (1,) * (ndim - leaf.ndim) + leaf.shape)
    return concatenate([_block(inner, depth - 1, ndim) for inner in blocks], ndim - depth)


# Splitting.


@answers(np.array_split)
def array_split(ary, indices_or_sections, axis=0):
    ary = lift(ary)
    axis = normalize_axis_index(axis, ary.ndim)
    n = ary.shape[axis]
    cuts = map_traced(guard, indices_or_sections)
    pieces = np.array_split(np.arange(n), cuts)
    cuts = [0, *cuts, n] if np.ndim(cuts) else np.cumsum([0, *map(len, pieces)]).tolist()
    return [part(ary, axis, low, high) for low, high in pairwise(cuts)]


# Tiling, rolling, reversing.


@answers(np.tile)
def tile(A, reps):
    A = lift(A)
    reps = tuple(np.atleast_1d(reps).tolist())
    ndim = max(A.ndim, len(reps))
    shape = (1,) * (ndim - A.ndim) + A.shape
    reps = (1,) * (ndim - len(reps)) + reps
    pairs = [(r, n) for r, n in zip(reps, shape, strict=True)]
    split_ = reshape(A, [m for n in shape for m in (1, n)])
    tiled = broadcast_to(split_, [m for pair in pairs for m in pair])
    return reshape(copy_(tiled), [r * n for r, n in pairs])


@answers(np.roll)
def roll(a, shift, axis=None):
    a = lift(a)
    if axis is None:
        return reshape(roll(ravel(a), shift, 0), a.shape)
    shifts, axes = np.broadcast_arrays(np.atleast_1d(shift), np.atleast_1d(axis))
    for by, k in zip(shifts.tolist(), axes.tolist(), strict=True):
        a = _rolled(a, by, normalize_axis_index(k, a.ndim))
    return copy_(a)


def _rolled(a, by: int, axis: int):
    n = a.shape[axis]
    if n == 0 or by % n == 0:
        return a
    cut = n - by % n
    return concatenate([part(a, axis, cut), part(a, axis, 0, cut)], axis)


@answers(np.flip)
def flip(m, axis=None):
    m = lift(m)
    axes = range(m.ndim) if axis is None else normalize_axis_tuple(axis, m.ndim)
    return slice_view(m, tuple(slice(None, None, -1 if k in axes else 1) for k in range(m.ndim)))


@answers(np.rot90)
def rot90(m, k=1, axes=(0, 1)):
    m = lift(m)
    first, second = normalize_axis_tuple(axes, m.ndim)
    if k % 4 == 2:
        return flip(m, (first, second))
    if k % 4 == 1:
        return swapaxes(flip(m, second), first, second)
    return flip(swapaxes(m, first, second), second) if k % 4 == 3 else flip(m, ())
