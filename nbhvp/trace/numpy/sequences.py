"""Functions along one axis: scans, orderings, differences, interpolation.

- cumprod and its kin are scans in log2(n) steps: after step k each element holds 2**k factors, so
  derivatives are right when factors are 0.
- argsort and searchsorted are integer nodes: what they choose is gathered, and the order of the
  values may change from call to call without a new trace.
"""

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from nbhvp.graph import primitives as p
from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import Traced, apply, lift, scalar
from nbhvp.trace.numpy.elementwise import cast, floating, given, into, where
from nbhvp.trace.numpy.manipulation.selections import gather, take, take_along_axis
from nbhvp.trace.numpy.manipulation.shapes import (
    along,
    concatenate,
    copy_,
    part,
    ravel,
    row,
)
from nbhvp.trace.numpy.reductions import axes_of

__all__ = ["argsort", "cumsum", "diff", "searchsorted", "sort", "steps", "trapezoids"]


# Scans.


@answers(np.cumsum)
def cumsum(a, axis=None, dtype=None, out=None):
    a, axis = row(a, axis)
    a = cast(a, dtype or np.sum(np.zeros(0, a.dtype)).dtype)
    return into(out, apply(p.cumsum, a, axis=axis, reverse=False))


@answers(np.cumprod)
def cumprod(a, axis=None, dtype=None, out=None):
    a = lift(a)
    a = cast(a, dtype or np.prod(np.zeros(0, a.dtype)).dtype)
    a, axis = row(a, axis)
    n, shift = a.shape[axis], 1
    while shift < n:
        product = part(a, axis, 0, n - shift) * part(a, axis, shift)
        a = concatenate([part(a, axis, 0, shift), product], axis)
        shift *= 2
    return into(out, copy_(a) if n < 2 else a)


# Orderings.


@answers(np.argpartition, note="the result is completely sorted")
def argpartition(a, kth, axis=-1, kind="introselect", order=None):
    return argsort(a, axis)


@answers(np.partition, note="the result is completely sorted")
def partition(a, kth, axis=-1, kind="introselect", order=None):
    """Sorted: NumPy leaves the order within the parts open."""
    return sort(a, axis)


@answers(np.argsort)
def argsort(a, axis=-1, kind=None, order=None, *, stable=None):
    a, axis = row(a, axis)
    return apply(p.argsort, a, axis=axis)


@answers(np.sort)
def sort(a, axis=-1, kind=None, order=None, *, stable=None):
    a = ravel(a) if axis is None else lift(a)
    axis = normalize_axis_index(0 if axis is None else axis, a.ndim)
    if a.ndim == 1:
        return gather(a, argsort(a))
    return take_along_axis(a, argsort(a, axis), axis)


@answers(np.searchsorted)
def searchsorted(a, v, side="left", sorter=None):
    a = lift(a) if sorter is None else take(a, sorter, 0)
    return apply(p.searchsorted, a, v, side=side)


@answers(np.lexsort)
def lexsort(keys, axis=-1):
    """By the last key, then the one before: stable sorts from the first key on."""
    keys = [row(key, axis)[0] for key in (lift(keys) if isinstance(keys, Traced) else keys)]
    order = None
    for key in keys:
        if order is None:
            order = argsort(key, axis)
        else:
            order = take_along_axis(order, argsort(take_along_axis(key, order, axis), axis), axis)
    return order


# Differences.


@answers(np.diff)
def diff(a, n=1, axis=-1, prepend=None, append=None):
    a = lift(a)
    if n == 0:
        return a
    axis = normalize_axis_index(axis, a.ndim)
    ends = [_end(a, axis, e) if given(e) else None for e in (prepend, append)]
    if any(e is not None for e in ends):
        a = concatenate([x for x in (ends[0], a, ends[1]) if x is not None], axis)
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n}")
    for _ in range(n):
        low, high = part(a, axis, 0, max(a.shape[axis] - 1, 0)), part(a, axis, 1)
        a = high != low if a.dtype == bool else high - low
    return a


def _end(a, axis, end):
    end = lift(end)
    if end.ndim:
        return end
    return apply(p.broadcast, end, shape=(*a.shape[:axis], 1, *a.shape[axis + 1 :]))


@answers(np.ediff1d)
def ediff1d(ary, to_end=None, to_begin=None):
    middle = diff(ravel(ary))
    pieces = [ravel(x) if given(x) else None for x in (to_begin, to_end)]
    return concatenate([x for x in (pieces[0], middle, pieces[1]) if x is not None], 0)


@answers(np.gradient)
def gradient(f, *varargs, axis=None, edge_order=1):
    f = lift(f)
    f = cast(f, np.result_type(f.dtype, np.float32)) if f.dtype.kind != "f" else f
    axes = axes_of(f, axis)
    spacings = list(varargs) or [1.0]
    spacings = spacings * len(axes) if len(spacings) == 1 else spacings
    if len(spacings) != len(axes):
        raise TypeError("invalid number of arguments")
    results = tuple(_gradient(f, k, h, edge_order) for k, h in zip(axes, spacings, strict=True))
    return results[0] if len(results) == 1 else results


def _gradient(f, axis, spacing, edge_order):
    """Second differences inside; one-sided ones of the given order at the ends."""
    n = f.shape[axis]
    if n < edge_order + 1:
        raise ValueError("Shape of array too small to calculate a numerical gradient")
    spacing = lift(spacing)
    if spacing.ndim == 0:
        h = [spacing] * (n - 1)
        below = above = spacing
        first, last = h[:2], h[-2:]
    else:
        steps = diff(spacing)
        below, above = (along(axis, f.ndim, s) for s in (steps[:-1], steps[1:]))
        first, last = ([steps[k] for k in ks] for ks in (range(min(2, n - 1)), (-2, -1)))
        last = last if n > 2 else [steps[0]]
    low, middle, high = part(f, axis, 0, n - 2), part(f, axis, 1, n - 1), part(f, axis, 2)
    inside = (
        -above / (below * (below + above)) * low
        + (above - below) / (below * above) * middle
        + below / (above * (below + above)) * high
    )
    edges = [part(f, axis, k, k + 1) for k in (0, 1, 2)[: min(n, 3)]]
    start = _one_sided(edges, first, edge_order)
    edges = [part(f, axis, n - k - 1, n - k) for k in (0, 1, 2)[: min(n, 3)]]
    end = -_one_sided(edges, last[::-1], edge_order)
    return concatenate([start, inside, end], axis)


def _one_sided(f, h, order):
    """The derivative at the first of equally directed points, h apart."""
    if order == 1:
        return (f[1] - f[0]) / h[0]
    a, b = h
    return -(2 * a + b) / (a * (a + b)) * f[0] + (a + b) / (a * b) * f[1] - a / (b * (a + b)) * f[2]


def steps(y, x, dx, axis: int):
    """The steps between points x, to broadcast against those of y; dx where there are none."""
    if x is None:
        return dx
    x = lift(x)
    return along(axis, y.ndim, diff(x)) if x.ndim == 1 else diff(x, axis=axis)


def trapezoids(y, x, dx, axis):
    """The areas under y between its points."""
    axis = normalize_axis_index(axis, y.ndim)
    sums = part(y, axis, 1) + part(y, axis, 0, y.shape[axis] - 1)
    return steps(y, x, dx, axis) * sums / 2.0


@answers(np.interp, note="all arguments may depend on `x`")
def interp(x, xp, fp, left=None, right=None, period=None):
    x, xp, fp = floating(lift(x)), floating(lift(xp)), floating(lift(fp))
    if period is not None:
        x, xp = x % abs(period), xp % abs(period)
        order = argsort(xp)
        xp, fp = gather(xp, order), gather(fp, order)
        xp = concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp = concatenate([fp[-1:], fp, fp[:1]])
    n = xp.shape[0]
    outside = [fp[0] if left is None else left, fp[-1] if right is None else right]
    if n == 1:
        inside = fp[0] + 0 * x
    else:
        k = np.clip(searchsorted(xp, x, "right") - 1, 0, n - 2)
        x0, y0 = gather(xp, k), gather(fp, k)
        slope = (gather(fp, k + 1) - y0) / (gather(xp, k + 1) - x0)
        inside = slope * (x - x0) + y0
    result = where(x < xp[0], outside[0], inside)
    return scalar(where(x > xp[-1], outside[1], result))
