"""Reductions over axes: sums, products, extrema, and their nan-forms.

- Sums are the primitive; means and variances are made of them.
- max and min read the element at argmax or argmin: of equal ones the first has the derivative.
- prod multiplies up to 16 factors in NumPy's order, which tells what overflows, and more by halves,
  log2(n) times: derivatives are right when factors are 0, where a quotient rule would divide by 0.
- std has derivative 0 where the variance is 0 (it has none there).
- `where=` fills what is left out with the neutral element, so that it has derivative 0.
"""

import functools
import math
import operator

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from nbhvp.graph import primitives as p
from nbhvp.graph.rewrites import factors
from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import Traced, adopt, apply, lift, scalar
from nbhvp.trace.numpy.elementwise import (
    cast,
    floating,
    into,
    is_complex,
    positive_root,
    where,
)
from nbhvp.trace.numpy.manipulation.shapes import broadcast_to, copy_, part, reshape, row, transpose

IN_ORDER = 16
"""Factors of a product that are multiplied one after the other, as NumPy does."""

__all__ = ["as_last_axis", "axes_of", "kept", "max_", "min_", "sum_", "without_nan"]


def axes_of(a, axis) -> tuple[int, ...]:
    """The axes of a reduction."""
    if axis is None or (a.ndim == 0 and axis in (0, -1)):
        return tuple(range(a.ndim))
    return normalize_axis_tuple(axis, a.ndim)


def kept(result, a, axes, keepdims):
    """The result of a reduction over `axes`, with those of extent 1 if they are to be kept."""
    if not keepdims:
        return scalar(result)
    return reshape(result, tuple(1 if k in axes else n for k, n in enumerate(a.shape)))


def _masked(a, mask, neutral):
    return a if mask is True or mask is None else where(mask, a, neutral)


# Sums.


@answers(np.sum)
def sum_(a, axis=None, dtype=None, out=None, keepdims=False, initial=None, where=True):
    a = lift(a)
    a = cast(a, dtype or np.sum(np.zeros(0, a.dtype)).dtype)
    axes = axes_of(a, axis)
    result = kept(apply(p.sum_, _masked(a, where, 0), axes=axes), a, axes, keepdims)
    return into(out, result if initial is None else result + initial)


def _count(a, axes, mask):
    """How many elements go into one result."""
    if mask is True or mask is None:
        return math.prod(a.shape[k] for k in axes)
    mask = apply(p.broadcast, lift(mask), shape=a.shape)
    return cast(apply(p.sum_, cast(mask, np.int64), axes=axes), floating(a).real.dtype)


@answers(np.mean)
def mean(a, axis=None, dtype=None, out=None, keepdims=False, *, where=True):
    a = lift(a)
    a = cast(a, dtype) if dtype else floating(a)
    axes = axes_of(a, axis)
    total = apply(p.sum_, _masked(a, where, 0), axes=axes)
    count = _count(a, axes, where)
    result = total / count if isinstance(count, Traced) or count else total * math.nan
    return into(out, kept(result, a, axes, keepdims))


@answers(np.average)
def average(a, axis=None, weights=None, returned=False, *, keepdims=False):
    a = lift(a)
    if weights is None:
        result = mean(a, axis, keepdims=keepdims)
        scale = adopt(np.full(result.shape, a.size / max(result.size, 1)))
        return (result, scale) if returned else result
    weights = _along_axes(lift(weights), a, axis)
    scale = sum_(weights, axis, keepdims=keepdims)
    result = sum_(a * weights, axis, keepdims=keepdims) / scale
    return (result, scale) if returned else result


def _along_axes(weights, a, axis):
    """Weights of the shape of a, or of its extents along the axes of the average."""
    if weights.shape == a.shape:
        return weights
    if axis is None:
        raise TypeError("Axis must be specified when shapes of a and weights differ.")
    axes = normalize_axis_tuple(axis, a.ndim)
    if weights.shape != tuple(a.shape[k] for k in axes):
        raise ValueError("Shape of weights must be consistent with shape of a along axis.")
    ordered = transpose(weights, np.argsort(axes))
    shape = [n if k in axes else 1 for k, n in enumerate(a.shape)]
    return broadcast_to(reshape(ordered, shape), a.shape)


@answers(np.var)
def var(
    a,
    axis=None,
    dtype=None,
    out=None,
    ddof=0,
    keepdims=False,
    *,
    where=True,
    mean=None,
    correction=0,
):
    a = lift(a)
    a = cast(a, dtype) if dtype else floating(a)
    axes = axes_of(a, axis)
    center = mean_(a, axes, keepdims=True, where=where) if mean is None else mean
    deviation = _masked(a - center, where, 0)
    if is_complex(deviation):
        re, im = apply(p.real, deviation), apply(p.imag, deviation)
        square = re * re + im * im
    else:
        square = deviation * deviation
    total = apply(p.sum_, square, axes=axes)
    count = _count(a, axes, where) - (ddof or correction)
    if not isinstance(count, Traced) and count <= 0:
        return into(out, kept(total / np.zeros((), total.dtype), a, axes, keepdims))
    return into(out, kept(total / count, a, axes, keepdims))


mean_ = mean  # the name that np.var gives to one of its arguments


@answers(np.std)
def std(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, **options):
    return into(out, positive_root(var(a, axis, dtype, None, ddof, keepdims, **options)))


@answers(np.count_nonzero)
def count_nonzero(a, axis=None, *, keepdims=False):
    return sum_(lift(a) != 0, axis, np.int64, keepdims=keepdims)


@answers(np.any)
def any_(a, axis=None, out=None, keepdims=False, *, where=True):
    true = _masked(lift(a) != 0, where, False)
    return into(out, count_nonzero(true, axis, keepdims=keepdims) != 0)


@answers(np.all)
def all_(a, axis=None, out=None, keepdims=False, *, where=True):
    true = _masked(lift(a) != 0, where, True)
    if axis is None and not keepdims:
        return into(out, apply(p.all_, true))
    return into(out, count_nonzero(~true, axis, keepdims=keepdims) == 0)


# Products.


@answers(np.prod, math.prod)
def prod(
    a, axis=None, dtype=None, out=None, keepdims=False, initial=None, where=True, *, start=None
):
    a = lift(a)
    a = _masked(cast(a, dtype or np.prod(np.zeros(0, a.dtype)).dtype), where, 1)
    axes = axes_of(a, axis)
    rows = as_last_axis(a, axes)
    result = kept(_product(rows), a, axes, keepdims)
    initial = initial if start is None else start
    return into(out, result if initial is None else result * initial)


def as_last_axis(a, axes):
    """The axes to reduce as one last axis."""
    rest = tuple(k for k in range(a.ndim) if k not in axes)
    if axes != tuple(range(len(rest), a.ndim)):
        a = apply(p.transpose, a, axes=(*rest, *axes))
    shape = a.shape[: len(rest)] + (math.prod(a.shape[len(rest) :]),)
    return apply(p.reshape, a, shape=shape)


def _product(a):
    """The product over the last axis: few factors one by one, many by halves."""
    axis, odd, n = a.ndim - 1, [], a.shape[-1]
    if n == 1:
        return copy_(a[..., 0])
    if n == 0:
        return adopt(np.ones(a.shape[:-1], a.dtype))
    if n <= factors.MOST and a.dtype.kind in "fc":
        return apply(factors.prod, a)
    if n <= IN_ORDER:
        a = functools.reduce(operator.mul, (part(a, axis, k, k + 1) for k in range(n)))
    while (n := a.shape[-1]) > 1:
        if n % 2:
            odd.append(part(a, axis, n - 1))
        a = part(a, axis, 0, n // 2) * part(a, axis, n // 2, n // 2 * 2)
    for last in odd:
        a = a * last
    return apply(p.reshape, a, shape=a.shape[:-1])


# Extrema.


def _extremum(position, choose, worst):
    """max (argmax, maximum) or min; `worst` gives the neutral element of a dtype."""

    def reduce(a, axis=None, out=None, keepdims=False, initial=None, where=True):
        a = lift(a)
        if where is not True and initial is None:
            raise ValueError("reduction operation has no identity, so to use where= give initial=")
        axes = axes_of(a, axis)
        rows = as_last_axis(_masked(a, where, initial), axes)
        if not axes:
            result = copy_(a)
        elif rows.shape[-1] == 0 and initial is not None:
            result = adopt(np.full(rows.shape[:-1], initial, a.dtype))
        else:
            last = rows.ndim - 1
            result = apply(p.pick, rows, apply(position, rows, axis=last), axis=last)
        result = kept(result, a, axes, keepdims)
        return into(out, result if initial is None else apply(choose, result, initial))

    def reduce_without_nan(a, axis=None, out=None, keepdims=False, initial=None, where=True):
        a = lift(a)
        result = reduce(without_nan(a, worst(a.dtype)), axis, None, keepdims, initial, where)
        alone = all_(np.isnan(a), axis, keepdims=keepdims)
        return into(out, _masked(result, ~alone, math.nan) if a.dtype.kind in "fc" else result)

    return reduce, reduce_without_nan


def without_nan(a, neutral):
    """The array with NaN replaced."""
    return where(np.isnan(a), neutral, a) if a.dtype.kind in "fc" else a


max_, nanmax = _extremum(p.argmax, p.maximum, lambda dtype: -math.inf)
min_, nanmin = _extremum(p.argmin, p.minimum, lambda dtype: math.inf)
answers(np.max, np.amax)(max_)
answers(np.min, np.amin)(min_)
answers(np.nanmax)(nanmax)
answers(np.nanmin)(nanmin)


def _position(entry):
    """np.argmax or np.argmin."""

    def handler(a, axis=None, out=None, *, keepdims=False):
        a = lift(a)
        rows, k = row(a, axis)
        axes = axes_of(a, None) if axis is None or a.ndim == 0 else (k,)
        return into(out, kept(apply(entry, rows, axis=k), a, axes, keepdims))

    return handler


argmax = answers(np.argmax)(_position(p.argmax))
argmin = answers(np.argmin)(_position(p.argmin))


# Reductions that skip NaN.


def _skipping_nan(function):
    """The nan-form of a reduction with where=."""

    def handler(a, axis=None, dtype=None, out=None, *args, **options):
        a = lift(a)
        regular = ~np.isnan(a)
        return function(_masked(a, regular, 0), axis, dtype, out, *args, where=regular, **options)

    return handler


answers(np.nanmean)(_skipping_nan(mean))
answers(np.nanvar)(_skipping_nan(var))
answers(np.nanstd)(_skipping_nan(std))


answers(np.nanargmax)(
    lambda a, axis=None, out=None, *, keepdims=False: argmax(
        without_nan(lift(a), -math.inf), axis, out, keepdims=keepdims
    )
)
answers(np.nanargmin)(
    lambda a, axis=None, out=None, *, keepdims=False: argmin(
        without_nan(lift(a), math.inf), axis, out, keepdims=keepdims
    )
)
