"""Sums of weights by class: bincount and histograms.

The class of an element is an integer node, without derivative; counts have none, and the sum of
traced weights is a scatter-add. Edges may depend on x (with `bins` a number, they go from the
smallest element to the largest); a sample at an edge belongs to the class above it, at the last
edge to the last class.
"""

import builtins
import math

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import apply, guard, is_constant, lift, map_traced, trace_error
from nbhvp.trace.dispatch import frozen
from nbhvp.trace.numpy.elementwise import cast, floating, where
from nbhvp.trace.numpy.manipulation.shapes import along, ravel, reshape
from nbhvp.trace.numpy.reductions import max_, min_, sum_
from nbhvp.trace.numpy.sequences import diff, searchsorted

__all__: list[str] = []


@answers(np.bincount)
def bincount(x, /, weights=None, minlength=0):
    """The largest element of x is a guard: it is the size of the result."""
    x = lift(x)
    if x.size and guard(min_(x) < 0):
        np.bincount(x.value)  # NumPy's own error
    size = max(int(guard(max_(x))) + 1 if x.size else 0, minlength)
    weights = np.ones(x.shape, np.int64) if weights is None else cast(lift(weights), np.float64)
    return apply(p.scatter_add, weights, x, axis=0, size=size)


@answers(np.histogram_bin_edges, note="values that depend on `x` need the number of bins")
def histogram_bin_edges(a, bins=10, range=None, weights=None):
    return _edges(floating(ravel(a)), bins, range)


@answers(np.histogram, note="values that depend on `x` need the number of bins or their edges")
def histogram(a, bins=10, range=None, density=None, weights=None):
    counts, (edges,) = _histogram([ravel(a)], [bins], [range], density, weights)
    return counts, edges


@answers(np.histogramdd, note="values that depend on `x` need the number of bins or their edges")
def histogramdd(sample, bins=10, range=None, density=None, weights=None):
    if isinstance(sample, list | tuple):
        columns = [lift(c) for c in sample]
    else:
        sample = lift(sample)
        sample = sample if sample.ndim == 2 else reshape(sample, (-1, 1))
        columns = [sample[:, k] for k in builtins.range(sample.shape[1])]
    bins = [bins] * len(columns) if np.ndim(bins) == 0 else bins
    ranges = range or [None] * len(columns)
    counts, edges = _histogram(columns, bins, ranges, density, weights)
    return cast(counts, np.float64), edges


def _histogram(columns, bins, ranges, density, weights):
    """Sums of weights over a grid of classes, and the edges of the grid."""
    columns = [floating(lift(c)) for c in columns]
    edges = [_edges(c, b, r) for c, b, r in zip(columns, bins, ranges, strict=True)]
    shape = tuple(e.size - 1 for e in edges)
    place, inside = 0, True
    for column, edge, n in zip(columns, edges, shape, strict=True):
        k = searchsorted(edge, column, "right") - 1
        k = where(column == edge[-1], n - 1, k)
        inside = inside & (k >= 0) & (k < n)
        place = place * n + np.clip(k, 0, n - 1)
    weights = np.ones(columns[0].shape, np.int64) if weights is None else ravel(weights)
    weights = where(inside, weights, 0)
    counts = apply(p.scatter_add, weights, place, axis=0, size=math.prod(shape))
    counts = reshape(counts, shape)
    if density:
        counts = counts / sum_(counts)
        for axis, edge in enumerate(edges):
            counts = counts / along(axis, len(edges), diff(edge))
    return counts, edges


def _edges(a, bins, limits):
    if isinstance(bins, str):
        if not is_constant(a):
            raise trace_error(
                f"a histogram with {bins=} of values that depend on x: the number of bins would "
                "depend on x too",
                "give the number of bins, or their edges",
            )
        return lift(np.histogram_bin_edges(a.value, bins, limits))
    if np.ndim(bins):
        return floating(lift(bins))
    if bins < 1:
        raise ValueError("`bins` must be positive, when an integer")
    low, high = limits if limits is not None else (min_(a), max_(a)) if a.size else (0.0, 1.0)
    if not guard(np.isfinite(lift(high) - low) & (lift(low) <= high)):
        plain = None if limits is None else map_traced(frozen, tuple(limits))
        np.histogram_bin_edges(map_traced(frozen, a), 1, plain)  # NumPy's own error
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)
