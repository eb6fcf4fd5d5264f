"""Functions that pick elements: takes, masks, insertions, diagonals and triangles.

Where the shape of a result depends on values (nonzero, compress, repeat by an array), those values
are guarded. An index whose shape is known is an operand of a gather and needs no guard: it may come
from an argument or from argsort.
"""

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from nbhvp.graph import primitives as p
from nbhvp.trace.answers import answers, refuses
from nbhvp.trace.arrays import Traced, apply, guard, lift, trace_error
from nbhvp.trace.methods.operators import store
from nbhvp.trace.methods.shapes import reshape_view, write
from nbhvp.trace.numpy.elementwise import cast, common, into, where
from nbhvp.trace.numpy.manipulation.shapes import (
    along,
    broadcast_to,
    concatenate,
    copy_,
    expand_dims,
    moveaxis,
    part,
    ravel,
    reshape,
    row,
)

__all__ = ["diagonal", "gather", "take", "take_along_axis"]


def gather(a, index, axis=0):
    """Elements along one axis at positions that are known to be within it."""
    return apply(p.gather, a, index, axis=axis)


@answers(np.take)
def take(a, indices, axis=None, out=None, mode="raise"):
    a, axis = row(a, axis)
    if mode == "raise":
        indices = indices if isinstance(indices, Traced) else np.asarray(indices)
        return into(out, lift(a[(slice(None),) * axis + (indices,)]))
    return into(out, gather(a, _moved_within(indices, a.shape[axis], mode), axis))


def _moved_within(index, n: int, mode: str):
    if mode not in ("clip", "wrap"):
        raise ValueError(f"clipmode must be one of 'clip', 'raise', or 'wrap' (got {mode!r})")
    return lift(index) % n if mode == "wrap" else np.clip(lift(index), 0, n - 1)


@answers(np.take_along_axis)
def take_along_axis(arr, indices, axis=-1):
    arr = ravel(arr) if axis is None else lift(arr)
    return arr[_along_axis(arr.shape, lift(indices), axis or 0)]


def _along_axis(shape, indices, axis) -> tuple:
    """The index that takes `indices` along one axis, and their own positions along the others."""
    axis = normalize_axis_index(axis, len(shape))
    if indices.ndim != len(shape):
        raise ValueError("`indices` and `arr` must have the same number of dimensions")
    return tuple(
        indices if k == axis else along(k, len(shape), np.arange(n)) for k, n in enumerate(shape)
    )


@answers(np.compress, note="the condition becomes a guard")
def compress(condition, a, axis=None, out=None):
    condition = guard(condition) if isinstance(condition, Traced) else condition
    return take(a, np.flatnonzero(condition), axis, out)


@answers(np.extract, note="the condition becomes a guard")
def extract(condition, arr):
    condition = guard(condition) if isinstance(condition, Traced) else condition
    return take(ravel(arr), np.flatnonzero(condition), 0)


@answers(np.nonzero)
def nonzero(a):
    return np.nonzero(guard(lift(a) != 0))


@answers(np.unravel_index, note="a traced index needs C order")
def unravel_index(indices, shape, order="C"):
    if order != "C":
        raise trace_error("np.unravel_index of a traced index in Fortran's order", "use order='C'")
    rest, parts = lift(indices), []
    for n in reversed(np.atleast_1d(shape).tolist()):
        rest, place = np.divmod(rest, n)
        parts.append(place)
    return tuple(reversed(parts))


@answers(np.ravel_multi_index, note='a traced index needs C order and `mode="raise"`')
def ravel_multi_index(multi_index, dims, mode="raise", order="C"):
    """Where NumPy would raise for an index beyond its extent, the trace holds a guard."""
    if order != "C" or mode != "raise":
        raise trace_error(
            f"np.ravel_multi_index of a traced index with {mode=}, {order=}",
            "use mode='raise' and order='C', or compute the index as a sum",
        )
    total = 0
    for index, n in zip(multi_index, dims, strict=True):
        index = lift(index)
        if not bool(np.all((index >= 0) & (index < n))):
            raise ValueError("invalid entry in coordinates array")
        total = total * n + index
    return total


@answers(np.where)
def where_or_nonzero(condition, x=None, y=None, /):
    if x is None and y is None:
        return nonzero(condition)
    return where(condition, x, y)


@answers(np.delete)
def delete(arr, obj, axis=None):
    arr, axis = row(arr, axis)
    obj = guard(obj) if isinstance(obj, Traced) else obj
    return gather(arr, np.delete(np.arange(arr.shape[axis]), obj), axis)


@answers(np.insert)
def insert(arr, obj, values, axis=None):
    arr, axis = row(arr, axis)
    obj = guard(obj) if isinstance(obj, Traced) else obj
    n, values = arr.shape[axis], cast(lift(values), arr.dtype)
    if np.ndim(obj) == 0 and not isinstance(obj, slice):
        values = moveaxis(reshape(values, (1,) * (arr.ndim - values.ndim) + values.shape), 0, axis)
        count = values.shape[axis]
    else:
        count = len(np.insert(np.arange(n), obj, 0)) - n
    shape = (*arr.shape[:axis], count, *arr.shape[axis + 1 :])
    index = np.insert(np.arange(n), obj, np.arange(n, n + count))
    return gather(concatenate([arr, broadcast_to(values, shape)], axis), index, axis)


# Diagonals and triangles.


@answers(np.diagonal)
def diagonal(a, offset=0, axis1=0, axis2=1):
    a = moveaxis(a, (axis1, axis2), (-2, -1))
    rows, columns = a.shape[-2:]
    size = max(min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns), 0)
    start = offset if offset >= 0 else -offset * columns
    flat = reshape(a, (*a.shape[:-2], rows * columns))
    stop = start + size * (columns + 1)
    return part(flat, a.ndim - 2, start, stop if size else start, columns + 1)


@answers(np.diag)
def diag(v, k=0):
    v = lift(v)
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise ValueError("Input must be 1- or 2-d.")
    n = v.shape[0] + abs(k)
    start = k if k >= 0 else -k * n
    flat = broadcast_to(lift(np.zeros((), v.dtype)), (n * n,))
    return reshape(apply(p.update, flat, v, start=(start,), step=(n + 1,)), (n, n))


@answers(np.diagflat)
def diagflat(v, k=0):
    return diag(ravel(v), k)


@answers(np.fill_diagonal)
def fill_diagonal(a, val, wrap=False):
    if a.ndim < 2:
        raise ValueError("array must be at least 2-d")
    if a.ndim == 2:
        step, size = a.shape[1] + 1, a.size if wrap else min(a.shape[1] ** 2, a.size)
    elif len(set(a.shape)) == 1:
        step, size = sum(a.shape[0] ** k for k in range(a.ndim)), a.size
    else:
        raise ValueError("All dimensions of input must be of equal length")
    count = len(range(0, size, step))
    values = ravel(val)
    a.flat[:size:step] = gather(values, np.arange(count) % values.size)


@answers(np.tril)
def tril(m, k=0):
    m = lift(m)
    m = m if m.ndim > 1 else broadcast_to(m, (m.size, m.size))
    return where(np.tri(*m.shape[-2:], k=k, dtype=bool), m, 0)


@answers(np.triu)
def triu(m, k=0):
    m = lift(m)
    m = m if m.ndim > 1 else broadcast_to(m, (m.size, m.size))
    return where(np.tri(*m.shape[-2:], k=k - 1, dtype=bool), 0, m)


@answers(np.choose)
def choose(a, choices, out=None, mode="raise"):
    index, n = lift(a), len(choices)
    if mode != "raise":
        index = _moved_within(index, n, mode)
    elif not guard(apply(p.all_, (index >= 0) & (index < n))):
        raise ValueError("invalid entry in choice array")
    *choices, result = common(*choices)
    for k in reversed(range(len(choices))):
        result = where(index == k, choices[k], result)
    return into(out, result)


# Writing.


@answers(np.place)
def place(arr, mask, vals):
    """The mask says which value goes where, so it is guarded."""
    mask = guard(mask) if isinstance(mask, Traced) else np.asarray(mask, bool)
    places, values = np.flatnonzero(mask), ravel(vals)
    if mask.size != arr.size:
        raise ValueError("place: mask and data must be the same size")
    if places.size and not values.size:
        raise ValueError("Cannot insert from an empty array!")
    if places.size:
        arr.flat[places] = gather(values, np.arange(places.size) % values.size)


@answers(np.putmask)
def putmask(a, mask, values):
    values = ravel(values)
    if np.size(mask) != a.size:
        raise ValueError("putmask: mask and data must be the same size")
    if not values.size:
        return
    if values.size != 1:
        values = reshape(gather(values, np.arange(a.size) % values.size), a.shape)
    write(a, where(mask, values, a))


# Repeating.


@answers(np.put_along_axis)
def put_along_axis(arr, indices, values, axis):
    flat = arr.flatten() if axis is None else arr
    flat[_along_axis(flat.shape, lift(indices), axis or 0)] = values
    if axis is None:
        write(arr, flat.reshape(arr.shape))


@answers(np.resize)
def resize(a, new_shape):
    a = ravel(a)
    shape = tuple(np.atleast_1d(new_shape).tolist())
    size = math.prod(shape)
    if a.size == 0:
        return lift(np.zeros(shape, a.dtype))
    return reshape(gather(a, np.arange(size) % a.size), shape)


@answers(np.repeat)
def repeat(a, repeats, axis=None):
    a, axis = row(a, axis)
    repeats = np.asarray(guard(repeats) if isinstance(repeats, Traced) else repeats)
    if repeats.size == 1:
        a = expand_dims(a, axis + 1)
        shape = (*a.shape[: axis + 1], int(repeats.item()), *a.shape[axis + 2 :])
        merged = (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])
        return copy_(reshape(broadcast_to(a, shape), merged))
    return gather(a, np.repeat(np.arange(a.shape[axis]), repeats), axis)


@answers(np.copyto)
def copyto(dst, src, casting="same_kind", where=True):
    src = lift(src)
    extra = src.ndim - np.ndim(dst)
    if extra > 0 and src.shape[:extra] == (1,) * extra:
        src = reshape_view(src, src.shape[extra:])
    store(np.copyto, dst, src if where is True else apply(p.where, where, src, dst), casting)


refuses(
    np.unique,
    np.unique_values,
    np.union1d,
    np.intersect1d,
    np.setdiff1d,
    np.setxor1d,
    why="the shape of its result depends on the values, which it searches in C",
    instead="apply it to constants, or use np.sort or the first result of np.unique_counts",
)
