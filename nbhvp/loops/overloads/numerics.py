"""Numerical functions of NumPy over active numbers, written as plain loops.

They are interpolation, convolution, order statistics, statistics that leave out NaN, and searches. The
outcome of a search by comparisons, such as the interval between two knots, is a guard. At a kink they
follow NumPy's convention, if it has one.
"""

import math

import numpy as np
from numba.core import types
from numba.extending import overload, register_jitable

from nbhvp.loops.overloads.active import ACTIVE
from nbhvp.loops.overloads.numpy_functions import (
    element,
    implementation,
    is_active,
    is_given,
    is_number,
    over_arrays,
    overload_active,
)

__all__: list[str] = []


def _any_active(*kinds) -> bool:
    return any(is_active(kind) or is_active(getattr(kind, "dtype", None)) for kind in kinds)


# Of single numbers.


@implementation
def _sinc(x):
    """sin(pi x) / (pi x); near 0, where that has no derivatives, its series."""
    angle = math.pi * x
    if abs(angle) < 0.02:
        square = angle * angle
        return 1.0 - square / 6.0 * (
            1.0 - square / 20.0 * (1.0 - square / 42.0 * (1.0 - square / 72.0))
        )
    return math.sin(angle) / angle


_sinc = register_jitable(_sinc)


@overload_active(np.sinc)
def _choose_sinc(x):
    if is_active(x):
        return (lambda x: _sinc(x)) if is_number(x) else over_arrays(_sinc, (x,), ACTIVE, ("x",))


@overload_active(np.ldexp, math.ldexp)
def _ldexp(x1, x2):
    if is_active(x1) and isinstance(getattr(x2, "dtype", x2), types.Integer):
        return lambda x1, x2: x1 * 2.0**x2


@overload_active(math.frexp)
def _frexp(x):
    if not is_active(x):
        return None

    @implementation
    def frexp(x):
        if x == 0.0 or not math.isfinite(x):
            return x, 0
        exponent = math.floor(math.log2(abs(x))) + 1
        part = math.ldexp(x, -exponent)
        if abs(part) >= 1.0:
            return part / 2.0, exponent + 1
        return (part, exponent) if abs(part) >= 0.5 else (part * 2.0, exponent - 1)

    return frexp


_LARGEST = float(np.finfo(np.float64).max)


@overload_active(np.nan_to_num)
def _nan_to_num(x, copy=True, nan=0.0):
    if not is_active(x):
        return None

    @implementation
    def number(x, copy=True, nan=0.0):
        if np.isnan(x):
            return nan + 0.0
        return np.minimum(np.maximum(x, -_LARGEST), _LARGEST) if np.isinf(x) else x

    if is_number(x):
        return number
    scalar = register_jitable(number)

    @implementation
    def over(x, copy=True, nan=0.0):
        out = x.copy() if copy else x
        for index in np.ndindex(x.shape):
            out[index] = scalar(x[index], copy, nan)
        return out

    return over


@overload_active(np.isclose)
def _isclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False):
    if not (is_active(a) or is_active(b)):
        return None

    @implementation
    def close(a, b, rtol, atol, equal_nan):
        if np.isnan(a) or np.isnan(b):
            return equal_nan and np.isnan(a) and np.isnan(b)
        if np.isinf(a) or np.isinf(b):
            return a == b
        return abs(a - b) <= atol + rtol * abs(b)

    scalar = register_jitable(close)
    if is_number(a) and is_number(b):
        return lambda a, b, rtol=1e-05, atol=1e-08, equal_nan=False: scalar(
            a, b, rtol, atol, equal_nan
        )

    @implementation
    def over(a, b, rtol=1e-05, atol=1e-08, equal_nan=False):
        shape = np.broadcast_shapes(np.shape(a), np.shape(b))
        first, second = np.broadcast_to(a, shape), np.broadcast_to(b, shape)
        out = np.empty(shape, np.bool_)
        for index in np.ndindex(shape):
            out[index] = scalar(first[index], second[index], rtol, atol, equal_nan)
        return out

    return over


# Sequences.


@overload_active(np.linspace)
def _linspace(start, stop, num=50):
    if is_active(start) or is_active(stop):

        @implementation
        def linspace(start, stop, num=50):
            out = np.empty(num, ACTIVE)
            for k in range(num):
                out[k] = start if num == 1 else start + k * ((stop - start) / (num - 1))
            if num > 1:
                out[num - 1] = stop
            return out

        return linspace


@overload_active(np.append)
def _append(arr, values, axis=None):
    if _any_active(arr, values) and not is_given(axis):
        return lambda arr, values, axis=None: np.concatenate((_flat(arr), _flat(values)))


def _flat(a):
    raise NotImplementedError("it runs compiled only")


@overload(_flat)
def _choose_flat(a):
    """The elements of an array, number or sequence, as active numbers in a row."""
    dtype = element(a)

    @implementation
    def flat_array(a):
        out = np.empty(a.size, dtype)
        for k, x in enumerate(a.flat):
            out[k] = x
        return out

    @implementation
    def flat_number(a):
        out = np.empty(1, dtype)
        out[0] = a
        return out

    if isinstance(a, types.Array):
        return flat_array
    return flat_number if is_number(a) else lambda a: np.array(a).ravel()


@overload_active(np.ediff1d)
def _ediff1d(ary, to_end=None, to_begin=None):
    if is_active(ary) and not (is_given(to_end) or is_given(to_begin)):
        return lambda ary, to_end=None, to_begin=None: np.diff(ary.ravel())


@overload_active(np.unwrap)
def _unwrap(p, discont=None, axis=-1, period=6.283185307179586):
    if is_active(p) and p.ndim == 1 and not is_given(discont):

        @implementation
        def unwrap(p, discont=None, axis=-1, period=6.283185307179586):
            out, turns = p.copy(), 0.0
            for k in range(1, p.size):
                step = p[k] - p[k - 1]
                if abs(step) >= period / 2:
                    shifted = (step + period / 2) % period - period / 2
                    if shifted == -period / 2 and step > 0:
                        shifted = shifted + period
                    turns += int(np.rint((shifted - step) / period))
                out[k] = p[k] + turns * period
            return out

        return unwrap


# Interpolation and convolution.


@register_jitable
def _interpolated(x, xp, fp):
    """One number: the interval to the right of a knot, the last one at the last knot."""
    last = xp.size - 1
    if not x >= xp[0]:
        return fp[0] + 0.0 * x if np.isnan(x) else fp[0] + 0.0
    if x > xp[last]:
        return fp[last] + 0.0
    low, high = 0, max(last, 1)
    while high - low > 1:
        middle = (low + high) // 2
        if x >= xp[middle]:
            low = middle
        else:
            high = middle
    if last == 0:
        return fp[0] + 0.0
    return fp[low] + (fp[high] - fp[low]) / (xp[high] - xp[low]) * (x - xp[low])


@overload_active(np.interp)
def _interp(x, xp, fp):
    if not _any_active(x, xp, fp):
        return None
    if is_number(x):
        return lambda x, xp, fp: _interpolated(x, _flat(xp), _flat(fp))

    @implementation
    def interp(x, xp, fp):
        if xp.size != fp.size or xp.size == 0:
            raise ValueError("fp and xp are not of the same length.")
        knots, heights, points = _flat(xp), _flat(fp), np.asarray(x)
        out = np.empty(points.shape, ACTIVE)
        for index in np.ndindex(points.shape):
            out[index] = _interpolated(points[index], knots, heights)
        return out

    return interp


@register_jitable
def _correlated(short, long, first, count):
    """Sums of products of `short` and `long` shifted by first, first + 1, ..."""
    out = np.zeros(count, _PRODUCT)
    for k in range(count):
        for i in range(short.size):
            j = first + k + i
            if 0 <= j < long.size:
                out[k] += short[i] * long[j]
    return out


_PRODUCT = ACTIVE


@implementation
def _windows(a, v, mode):
    """Which shift comes first, and how many there are."""
    n, m = max(a, v), min(a, v)
    if mode == "valid":
        return 0, n - m + 1
    if mode == "same":
        return -(m // 2), n
    return 1 - m, n + m - 1


_windows = register_jitable(_windows)


@overload_active(np.convolve)
def _convolve(a, v, mode="full"):
    if is_active(a) or is_active(v):

        @implementation
        def convolve(a, v, mode="full"):
            if a.size == 0 or v.size == 0:
                raise ValueError("v cannot be empty")
            long, short = (_flat(v), _flat(a)) if v.size > a.size else (_flat(a), _flat(v))
            first, count = _windows(a.size, v.size, mode)
            if mode == "same":
                first = (short.size - 1) // 2 - short.size + 1
            return _correlated(short[::-1], long, first, count)

        return convolve


@overload_active(np.correlate)
def _correlate(a, v, mode="valid"):
    if is_active(a) or is_active(v):

        @implementation
        def correlate(a, v, mode="valid"):
            if a.size == 0 or v.size == 0:
                raise ValueError("v cannot be empty")
            first, count = _windows(a.size, v.size, mode)
            if v.size > a.size:
                return _correlated(_flat(a), _flat(v), first, count)[::-1].copy()
            return _correlated(_flat(v), _flat(a), first, count)

        return correlate


@overload_active(np.bincount)
def _bincount(a, weights=None, minlength=0):
    if is_active(weights):

        @implementation
        def bincount(a, weights=None, minlength=0):
            if a.size != weights.size:
                raise ValueError("bincount(): weights and list don't have the same length")
            out = np.zeros(max(minlength, np.max(a) + 1 if a.size else 0), ACTIVE)
            for k in range(a.size):
                if a[k] < 0:
                    raise ValueError("bincount(): first argument must be non-negative")
                out[a[k]] += weights[k]
            return out

        return bincount


# Searches.


@register_jitable
def _place(a, v, side):
    low, high = 0, a.size
    while low < high:
        middle = (low + high) // 2
        if (side == "right" and v >= a[middle]) or (side != "right" and v > a[middle]):
            low = middle + 1
        else:
            high = middle
    return low


@overload_active(np.searchsorted)
def _searchsorted(a, v, side="left"):
    if not _any_active(a, v):
        return None
    if is_number(v):
        return lambda a, v, side="left": _place(a, v, side)

    @implementation
    def searchsorted(a, v, side="left"):
        points = np.asarray(v)
        out = np.empty(points.shape, np.int64)
        for index in np.ndindex(points.shape):
            out[index] = _place(a, points[index], side)
        return out

    return searchsorted


@overload_active(np.digitize)
def _digitize(x, bins, right=False):
    if _any_active(x, bins):

        @implementation
        def digitize(x, bins, right=False):
            side = "left" if right else "right"
            if bins.size > 1 and bins[0] > bins[bins.size - 1]:
                other = "right" if right else "left"
                return bins.size - np.searchsorted(bins[::-1], x, other)
            return np.searchsorted(bins, x, side)

        return digitize


@overload_active(np.argpartition)
def _argpartition(a, kth):
    if is_active(a) and a.ndim == 1:
        return lambda a, kth: np.argsort(a)


# Order statistics.


@register_jitable
def _ordered(a):
    """The elements in order; as many NaN as there are numbers if one is among them."""
    for x in a.flat:
        if np.isnan(x):
            return np.full_like(a.ravel(), np.nan)
    return np.sort(a.ravel())


@register_jitable
def _between(ordered, fraction):
    if not 0.0 <= fraction <= 1.0:
        raise ValueError("Quantiles must be in the range [0, 1]")
    place = (ordered.size - 1) * fraction
    low = min(math.floor(place), max(ordered.size - 2, 0))
    high = min(low + 1, ordered.size - 1)
    weight = place - low
    return ordered[low] + (ordered[high] - ordered[low]) * weight


def _overload_quantile(function, scale):
    @overload_active(function)
    def choose(a, q):
        if not is_active(a):
            return None
        if is_number(q):
            return lambda a, q: _between(_ordered(a), q / scale)

        @implementation
        def quantiles(a, q):
            ordered, fractions = _ordered(a), np.asarray(q)
            out = np.empty(fractions.shape, ACTIVE)
            for index in np.ndindex(fractions.shape):
                out[index] = _between(ordered, fractions[index] / scale)
            return out

        return quantiles


_overload_quantile(np.percentile, 100.0)
_overload_quantile(np.quantile, 1.0)


@overload_active(np.median)
def _median(a):
    if is_active(a):

        @implementation
        def median(a):
            ordered = _ordered(a)
            half = ordered.size // 2
            if ordered.size % 2:
                return ordered[half]
            return (ordered[half - 1] + ordered[half]) / 2.0

        return median


# Statistics that leave out NaN.


@register_jitable
def _numbers(a):
    """The elements that are not NaN."""
    flat, count = a.ravel().copy(), 0
    for k in range(flat.size):
        if not np.isnan(flat[k]):
            flat[count] = flat[k]
            count += 1
    return flat[:count]


def _overload_without_nan(function, of):
    namespace = {"of": of, "_numbers": _numbers}
    parameters = "a, q" if of in (np.percentile, np.quantile) else "a"
    rest = parameters.removeprefix("a")
    exec(f"def without({parameters}): return of(_numbers(a){rest})", namespace)
    exec(
        f"def choose({parameters}): return without if is_active(a) else None",
        namespace | {"is_active": is_active, "without": namespace["without"]},
        namespace,
    )
    overload_active(function)(namespace["choose"])


for _function, _of in {
    np.nansum: np.sum, np.nanprod: np.prod, np.nanmean: np.mean, np.nanvar: np.var,
    np.nanstd: np.std, np.nanmax: np.max, np.nanmin: np.min, np.nanmedian: np.median,
    np.nanpercentile: np.percentile, np.nanquantile: np.quantile,
}.items():  # fmt: skip
    _overload_without_nan(_function, _of)


def _overload_cumulated_without_nan(function, of, neutral):
    @overload_active(function)
    def choose(a):
        if is_active(a):

            @implementation
            def cumulated(a):
                flat = a.ravel().copy()
                for k in range(flat.size):
                    if np.isnan(flat[k]):
                        flat[k] = neutral
                return of(flat)

            return cumulated


_overload_cumulated_without_nan(np.nancumsum, np.cumsum, 0.0)
_overload_cumulated_without_nan(np.nancumprod, np.cumprod, 1.0)


# Covariances.


@overload_active(np.cov)
def _cov(m, y=None, rowvar=True, bias=False, ddof=None):
    """Of the rows of a matrix, or a number for one row: as numba, without a second set."""
    if not is_active(m) or is_given(y):
        return None

    @register_jitable
    def covariance(rows, count):
        out = np.empty((rows.shape[0], rows.shape[0]), ACTIVE)
        for i in range(rows.shape[0]):
            for j in range(rows.shape[0]):
                first, second = np.mean(rows[i]), np.mean(rows[j])
                out[i, j] = np.sum((rows[i] - first) * (rows[j] - second)) / count
        return out

    @register_jitable
    def count_of(n, bias, ddof):
        if ddof is not None:
            return n - ddof
        return n if bias else n - 1

    if m.ndim == 1:
        return lambda m, y=None, rowvar=True, bias=False, ddof=None: covariance(
            m.reshape((1, m.size)), count_of(m.size, bias, ddof)
        )[0, 0]

    @implementation
    def cov(m, y=None, rowvar=True, bias=False, ddof=None):
        rows = m if rowvar else m.T
        return covariance(rows, count_of(rows.shape[1], bias, ddof))

    return cov


@overload_active(np.corrcoef)
def _corrcoef(x, y=None, rowvar=True):
    if is_active(x) and x.ndim == 2 and not is_given(y):

        @implementation
        def corrcoef(x, y=None, rowvar=True):
            found = np.cov(x, None, rowvar)
            out = np.empty(found.shape, ACTIVE)
            for i in range(found.shape[0]):
                for j in range(found.shape[1]):
                    out[i, j] = found[i, j] / math.sqrt(found[i, i]) / math.sqrt(found[j, j])
            return out

        return corrcoef
