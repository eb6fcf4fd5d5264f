"""Order statistics: median, quantile, percentile and their nan-forms, by every method of NumPy.

Each method takes, of n sorted values s, the element at a real position h between two neighbours,

    q = s[floor(h)] + (h - floor(h)) (s[floor(h) + 1] - s[floor(h)]),

and the methods differ in h(q, n) alone. Where q and n are constant, h is what NumPy itself gives as
the quantile of 0, 1, ..., n - 1; where q or the number of values is traced, `_place` computes it [1].
NaN is sorted last: it prevails in a quantile, and in the nan-forms it is not counted in n.
The derivative goes to the elements that stand at the two places, of equal ones the first.

[1] Hyndman and Fan, Sample quantiles in statistical packages, The American Statistician 50 (1996).
"""

import math

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import Traced, adopt, apply, is_constant, lift, scalar, traced_in
from nbhvp.trace.numpy.elementwise import cast, floating, into, where
from nbhvp.trace.numpy.manipulation.selections import gather
from nbhvp.trace.numpy.manipulation.shapes import broadcast_to, reshape, stack
from nbhvp.trace.numpy.reductions import as_last_axis, axes_of, kept, sum_
from nbhvp.trace.numpy.sequences import argsort, sort

__all__: list[str] = []


@answers(np.median)
def median(a, axis=None, out=None, overwrite_input=False, keepdims=False):
    return quantile(a, 0.5, axis, out, keepdims=keepdims)


@answers(np.percentile, note="every `method=`, with or without `weights=`")
def percentile(
    a,
    q,
    axis=None,
    out=None,
    overwrite_input=False,
    method="linear",
    keepdims=False,
    *,
    weights=None,
):
    q = _levels(q)
    return quantile(a, q / 100, axis, out, False, method, keepdims, weights=weights)


@answers(np.quantile, note="every `method=`, with or without `weights=`")
def quantile(
    a,
    q,
    axis=None,
    out=None,
    overwrite_input=False,
    method="linear",
    keepdims=False,
    *,
    weights=None,
):
    a, q = floating(lift(a)), _levels(q)
    axes = axes_of(a, axis)
    rows = as_last_axis(a, axes)
    if weights is not None:
        weights = as_last_axis(broadcast_to(weights, a.shape), axes)
        results = _weighted(rows, weights, q, method)
    else:
        results = _at_positions(sort(rows), _positions(q, rows.shape[-1], method))
    return into(out, _arranged(results, q, a, axes, keepdims))


@answers(np.nanmedian)
def nanmedian(a, axis=None, out=None, overwrite_input=False, keepdims=False):
    return nanquantile(a, 0.5, axis, out, keepdims=keepdims)


@answers(np.nanpercentile, note="every `method=`, with or without `weights=`")
def nanpercentile(
    a, q, axis=None, out=None, overwrite_input=False, method="linear", keepdims=False
):
    q = _levels(q)
    return nanquantile(a, q / 100, axis, out, False, method, keepdims)


@answers(np.nanquantile, note="every `method=`, with or without `weights=`")
def nanquantile(a, q, axis=None, out=None, overwrite_input=False, method="linear", keepdims=False):
    a, q = floating(lift(a)), _levels(q)
    axes = axes_of(a, axis)
    rows = sort(as_last_axis(a, axes))
    count = sum_(cast(~np.isnan(rows), rows.dtype), -1)
    elements = _elements(q)
    if any(type(t) is float and not 0 <= t <= 1 for t in elements):
        raise ValueError("Quantiles must be in the range [0, 1]")
    places = [_place(t, count, method) for t in elements]
    results = [where(count == 0, math.nan, _between(rows, place)) for place in places]
    return into(out, _arranged(results, q, a, axes, keepdims))


def _levels(q):
    """q as an array: a traced one, also of a list that holds traced numbers."""
    return lift(q) if any(True for _ in traced_in(q)) else np.asarray(q)


def _elements(q) -> list:
    """The elements of q, in C order: traced, or floats."""
    if isinstance(q, Traced) and not is_constant(q):
        flat = reshape(q, (-1,))
        return [flat[k] for k in range(flat.size)]
    return np.ravel(q.value if isinstance(q, Traced) else q).astype(float).tolist()


def _arranged(results, q, a, axes, keepdims):
    """One result per element of q; the axes of q come first."""
    results = [kept(r, a, axes, keepdims) for r in results]
    return scalar(reshape(stack(results), np.shape(q) + results[0].shape))


def _positions(q, n: int, method: str) -> list:
    """Where the quantiles stand among n sorted values."""
    elements = _elements(q)
    if n == 0:
        return [0.0] * len(elements)
    if all(type(t) is float for t in elements):
        return np.quantile(np.arange(float(n)), elements, method=method).tolist()
    return [_place(t, float(n), method) for t in elements]


_CONTINUOUS = {
    "interpolated_inverted_cdf": (0, 1), "hazen": (0.5, 0.5), "weibull": (0, 0),
    "median_unbiased": (1 / 3, 1 / 3), "normal_unbiased": (3 / 8, 3 / 8),
}  # fmt: skip
"""a and b in h = n q + a + q (1 - a - b) - 1."""
_STEPS = {
    "lower": lambda q, n: np.floor(q * (n - 1)),
    "higher": lambda q, n: np.ceil(q * (n - 1)),
    "midpoint": lambda q, n: 0.5 * (np.floor(q * (n - 1)) + np.ceil(q * (n - 1))),
    "nearest": lambda q, n: np.rint(q * (n - 1)),
    "inverted_cdf": lambda q, n: np.ceil(n * q - 1),
    "averaged_inverted_cdf": lambda q, n: 0.5 * (np.floor(n * q) + np.ceil(n * q - 1)),
    "closest_observation": lambda q, n: np.rint(n * q - 2) + 1,
}
"""h as a step function of q: an element of the sample, or the mean of two neighbours."""


def _place(q, n, method: str):
    """h, between the first and the last of n values."""
    if method == "linear":
        h = q * (n - 1)
    elif method in _CONTINUOUS:
        a, b = _CONTINUOUS[method]
        h = n * q + (a + q * (1 - a - b)) - 1
    elif method in _STEPS:
        h = _STEPS[method](q, n)
    else:
        raise ValueError(f"{method!r} is not a method of np.quantile")
    return np.clip(h, 0.0, np.maximum(n - 1, 0.0))


def _at_positions(rows, positions) -> list:
    """The values at real positions in sorted rows; NaN, sorted last, prevails."""
    if rows.shape[-1] == 0:
        return [adopt(np.full(rows.shape[:-1], math.nan, rows.dtype)) for _ in positions]
    last = rows[..., -1]
    return [where(np.isnan(last), last, _between(rows, place)) for place in positions]


def _between(rows, place):
    """Linear between the two neighbours of a place, one for all rows or one per row."""
    n = rows.shape[-1]
    if not isinstance(place, Traced):
        low = min(int(place), n - 1)
        below, above = (gather(rows, k, rows.ndim - 1) for k in (low, min(low + 1, n - 1)))
        return below if place == low else below + (above - below) * (place - low)
    low = np.clip(np.floor(place), 0, n - 1)
    index = cast(low, np.int64)
    below, above = (
        apply(p.pick, rows, k, axis=rows.ndim - 1) for k in (index, np.minimum(index + 1, n - 1))
    )
    return where(place == low, below, below + (above - below) * (place - low))


def _weighted(rows, weights, q, method) -> list:
    """The first value at which the weights of the sorted values up to it reach a share q."""
    if method != "inverted_cdf":
        raise ValueError("Only method 'inverted_cdf' supports weights.")
    order = argsort(rows)
    rows, weights = (np.take_along_axis(x, order, -1) for x in (rows, weights))
    share = np.cumsum(weights, -1)
    share = share / share[..., -1:]
    results = []
    for t in _elements(q):
        reached = share >= t if t > 0 else weights > 0
        results.append(apply(p.pick, rows, np.argmax(reached, -1), axis=rows.ndim - 1))
    return results
