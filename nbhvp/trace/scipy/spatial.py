"""scipy.spatial.distance: distances of vectors, of all pairs of one set, and between two sets.

A metric d(u, v) is a composition along the last axis, so that one text serves two vectors, the pairs
i < j of a set (`pdist`: rows gathered at i and at j), and all pairs of two sets (`cdist`: axes that
broadcast). Metrics of booleans, which are steps, are left to SciPy and answer to constants alone.

Where a distance is the root of a sum of squares, equal vectors have the convention of lengths.

Rotations are followed through SciPy's Python code for arrays of any library, where SciPy has it: by
itself it takes code of Cython that does the same.
"""

import inspect
import math
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.spatial import distance

from nbhvp.trace.answers import answers, refuses
from nbhvp.trace.arrays import Traced, guard, lift, trace_error
from nbhvp.trace.kinds import stands_for
from nbhvp.trace.numpy.elementwise import floating, positive_root, where
from nbhvp.trace.numpy.manipulation.selections import gather
from nbhvp.trace.numpy.manipulation.shapes import concatenate, reshape
from nbhvp.trace.numpy.products import vector_norm
from nbhvp.trace.numpy.reductions import max_, sum_
from nbhvp.trace.scipy.special import rel_entr

__all__: list[str] = []


def _weighted(terms, w):
    return terms if w is None else terms * w


def _sqeuclidean(u, v, w=None):
    difference = u - v
    return sum_(_weighted(difference * difference, w), -1)


def _euclidean(u, v, w=None):
    return positive_root(_sqeuclidean(u, v, w))


def _seuclidean(u, v, V):
    return _euclidean(u, v, 1 / floating(lift(V)))


def _cityblock(u, v, w=None):
    return sum_(_weighted(abs(u - v), w), -1)


def _chebyshev(u, v, w=None):
    size = abs(u - v)
    return max_(size if w is None else where(lift(w) > 0, size, 0.0), -1)


def _minkowski(u, v, p=2, w=None):
    if p == math.inf:
        return _chebyshev(u, v, w)
    return vector_norm((u - v) * (1.0 if w is None else lift(w) ** (1 / p)), axis=-1, ord=p)


def _canberra(u, v, w=None):
    size = abs(u) + abs(v)
    is_zero = size == 0
    return sum_(_weighted(where(is_zero, 0.0, abs(u - v) / where(is_zero, 1.0, size)), w), -1)


def _braycurtis(u, v, w=None):
    return _cityblock(u, v, w) / sum_(_weighted(abs(u + v), w), -1)


def _cosine(u, v, w=None):
    inner = lambda a, b: sum_(_weighted(a * b, w), -1)
    return np.clip(1 - inner(u, v) / np.sqrt(inner(u, u) * inner(v, v)), 0.0, 2.0)


def _correlation(u, v, w=None):
    w = None if w is None else lift(w) / sum_(lift(w))
    mean = lambda a: sum_(_weighted(a, 1 / a.shape[-1] if w is None else w), -1, keepdims=True)
    return _cosine(u - mean(u), v - mean(v), w)


def _mahalanobis(u, v, VI):
    difference = u - v
    return positive_root(sum_((difference @ lift(VI)) * difference, -1))


def _jensenshannon(u, v, base=None):
    u, v = (a / sum_(a, -1, keepdims=True) for a in (u, v))
    middle = (u + v) / 2
    total = sum_(rel_entr(u, middle) + rel_entr(v, middle), -1)
    return positive_root(total / (2 * (1.0 if base is None else math.log(base))))


_METRICS: dict[str, Callable] = {
    "sqeuclidean": _sqeuclidean, "euclidean": _euclidean, "seuclidean": _seuclidean,
    "cityblock": _cityblock, "chebyshev": _chebyshev, "minkowski": _minkowski,
    "canberra": _canberra, "braycurtis": _braycurtis, "cosine": _cosine,
    "correlation": _correlation, "mahalanobis": _mahalanobis, "jensenshannon": _jensenshannon,
}  # fmt: skip


# Two vectors.


def _of_vectors(metric, function):
    """SciPy's function of two vectors, with its names of arguments."""
    names = tuple(inspect.signature(function).parameters)

    def handler(*args, **kwargs):
        args = dict(zip(names, args, strict=False)) | kwargs
        u, v = (floating(lift(args.pop(name))) for name in names[:2])
        axis, keepdims = args.pop("axis", 0) or 0, args.pop("keepdims", False)
        if axis or keepdims or (u.ndim, v.ndim) != (1, 1):
            raise trace_error(
                f"{function.__name__} of arrays of shapes {u.shape} and {v.shape}",
                "give it two vectors, or use scipy.spatial.distance.cdist",
            )
        return metric(u, v, **args)

    return handler


for _name, _metric in _METRICS.items():
    _function = getattr(distance, _name)
    answers(_function)(_of_vectors(_metric, _function))


# Sets of vectors.


def _metric_of(metric, points, options: dict) -> Callable:
    """The metric by name, function or callable, with the options that SciPy takes from the data."""
    if callable(metric):
        name = getattr(metric, "__name__", "")
        if metric is not getattr(distance, name, None):
            return partial(_each, metric, options)
        metric = name
    name = distance._METRIC_ALIAS[metric].canonical_name if metric in distance._METRIC_ALIAS else ""
    if name not in _METRICS:
        raise trace_error(
            f"the distance {metric!r} of traced vectors has no derivative here",
            f"the metrics that have one are {', '.join(_METRICS)}",
        )
    options = {key: value for key, value in options.items() if value is not None}
    if name == "seuclidean" and "V" not in options:
        options["V"] = np.var(points, axis=0, ddof=1)
    if name == "mahalanobis" and "VI" not in options:
        options["VI"] = np.linalg.inv(np.cov(points.T)).T
    return partial(_METRICS[name], **options)


def _each(metric, options: dict, u, v):
    """A metric of the user's own, called pair by pair."""
    shape = np.broadcast_shapes(u.shape, v.shape)
    u, v = (reshape(np.broadcast_to(a, shape), (-1, shape[-1])) for a in (u, v))
    found = [metric(a, b, **options) for a, b in zip(u, v, strict=True)]
    return reshape(lift(found), shape[:-1])


def _set_of(points, needed: str):
    points = floating(lift(points))
    if points.ndim != 2:
        raise ValueError(needed)
    return points


_KNOWN_METRICS = f"`metric=` may be a function or one of {', '.join(_METRICS)}"


@answers(distance.pdist, note=_KNOWN_METRICS)
def pdist(X, metric="euclidean", *, out=None, **kwargs):
    _refuse_out(out)
    X = _set_of(X, f"A 2-dimensional array must be passed. (Shape was {np.shape(X)}).")
    first, second = np.triu_indices(len(X), 1)
    return _metric_of(metric, X, kwargs)(gather(X, first), gather(X, second))


@answers(distance.cdist, note=_KNOWN_METRICS)
def cdist(XA, XB, metric="euclidean", *, out=None, **kwargs):
    _refuse_out(out)
    XA = _set_of(XA, "XA must be a 2-dimensional array.")
    XB = _set_of(XB, "XB must be a 2-dimensional array.")
    if XA.shape[1] != XB.shape[1]:
        raise ValueError("XA and XB must have the same number of columns (i.e. feature dimension.)")
    return _metric_of(metric, concatenate([XA, XB]), kwargs)(XA[:, None], XB[None])


def _refuse_out(out) -> None:
    if out is not None:
        raise trace_error("a distance with out=", "leave out= away")


@answers(distance.squareform, note="the checks of a matrix become guards")
def squareform(X, force="no", checks=True):
    """The places of the result are SciPy's own, of 1, 2, ... in the place of the elements."""
    X = lift(X)
    if X.ndim == 1:
        places = distance.squareform(np.arange(1, X.size + 1), force)
        return gather(concatenate([np.zeros(1, X.dtype), X]), places)
    if checks:
        _check_symmetric(X)
    places = np.arange(X.size).reshape(X.shape)
    return gather(reshape(X, (-1,)), distance.squareform(places, force, checks=False))


def _check_symmetric(X: Traced) -> None:
    """SciPy's own error; where the trace holds, it is symmetric to rounding."""
    distance.is_valid_dm(X.value, throw=True, name="X")
    limit = 1e-8 * max_(abs(X))
    guard(np.all(abs(X - X.T) <= limit) & np.all(abs(np.diag(X)) <= limit))


refuses(
    "KDTree",
    "cKDTree",
    "ConvexHull",
    "Delaunay",
    within="scipy.spatial",
    why="it searches among the points, and its result is discrete",
    instead="search outside the function and pass the indices as an argument",
)


# Rotations.

_COMPILED = {
    sys.modules[f"{name}_cy"]: sys.modules[f"{name}_xp"]
    for name in ("scipy.spatial.transform._rotation", "scipy.spatial.transform._rigid_transform")
    if f"{name}_xp" in sys.modules and f"{name}_cy" in sys.modules
}
"""Modules of Cython, and those that do the same in Python."""


@stands_for(objects=tuple(_COMPILED))
def _in_python(standins, module):
    return standins.remember(module, standins.of(_COMPILED[module]))
