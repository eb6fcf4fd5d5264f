"""The methods of ufuncs: reduce, accumulate, reduceat, outer, at.

Those of add, multiply, maximum and minimum have names of their own (np.sum, np.cumsum, np.max).
Other associative ufuncs are reduced by halves and accumulated in log2(n) steps, after step k of
which each element stands for 2**k. Subtraction and division go from left to right,

    z_0 = x_0,   z_k = f(z_{k-1}, x_k).

The rest are refused: NumPy's own arctan2.reduce and power.reduce are something else.

Of equal elements the first one has the derivative of a running maximum, as it has that of np.max.
`f.at` with repeated places takes them in rounds, each place once in a round.
"""

from functools import reduce

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from nbhvp.graph import primitives as p
from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import NOT_OURS, Traced, adopt, apply, guard, lift, map_traced, trace_error
from nbhvp.trace.branches.failures import name_of
from nbhvp.trace.dispatch import dispatch
from nbhvp.trace.methods.indexing import add_at
from nbhvp.trace.methods.operators import store
from nbhvp.trace.methods.shapes import Flat, reshape_view
from nbhvp.trace.numpy.elementwise import cast
from nbhvp.trace.numpy.manipulation.selections import gather
from nbhvp.trace.numpy.manipulation.shapes import broadcast_to, concatenate, copy_, part, ravel
from nbhvp.trace.numpy.reductions import as_last_axis, axes_of, kept

__all__: list[str] = []

_REDUCTIONS = {
    np.add: np.sum, np.multiply: np.prod, np.maximum: np.max, np.minimum: np.min,
    np.logical_and: np.all, np.logical_or: np.any,
}  # fmt: skip
_ACCUMULATIONS = {np.add: np.cumsum, np.multiply: np.cumprod}
_ASSOCIATIVE = {
    np.maximum, np.minimum, np.fmax, np.fmin, np.logaddexp, np.logaddexp2, np.hypot,
    np.logical_and, np.logical_or, np.logical_xor, np.bitwise_and, np.bitwise_or, np.bitwise_xor,
}  # fmt: skip
_IN_ORDER = {np.subtract, np.divide}


def _later_second(ufunc, earlier, later):
    """f(earlier, later), so that of equal ones the earlier has the derivative of an extremum."""
    extremum = ufunc in (np.maximum, np.minimum, np.fmax, np.fmin)
    return ufunc(later, earlier) if extremum else ufunc(earlier, later)


@answers(
    np.ufunc.reduce,
    note="associative ufuncs, `subtract` and `divide`; `where=` for sums, products and extrema only",
)
def _reduce(ufunc, x, axis=0, dtype=None, out=None, keepdims=False, **kwargs):
    x = lift(x)
    if ufunc in _REDUCTIONS:
        if dtype is not None:
            kwargs["dtype"] = dtype
        kwargs |= {"axis": axis, "keepdims": keepdims}
        result = dispatch(_REDUCTIONS[ufunc], (x,), kwargs)
    else:
        _check(ufunc, "reduce", kwargs)
        result = _fold(ufunc, cast(x, dtype), axis, keepdims)
    return result if out is None else store(ufunc, out[0], result, "same_kind")


def _fold(ufunc, x, axis, keepdims):
    axes = axes_of(x, axis)
    if ufunc not in _ASSOCIATIVE and len(axes) != 1:
        raise ValueError(f"reduction operation {ufunc.__name__!r} is not reorderable")
    rows = as_last_axis(x, axes)
    n = count = rows.shape[-1]
    if n == 0:
        raise ValueError(f"zero-size array to reduction operation {ufunc.__name__}")
    if ufunc in _ASSOCIATIVE:
        while (n := rows.shape[-1]) > 1:
            half = n // 2 * 2
            pairs = _later_second(ufunc, rows[..., 0:half:2], rows[..., 1:half:2])
            rows = concatenate([pairs, rows[..., half:]], -1) if n % 2 else pairs
        result = rows[..., 0]
    else:
        result = reduce(ufunc, (rows[..., k] for k in range(n)))
    return kept(copy_(result) if count == 1 else result, x, axes, keepdims)


def _check(ufunc, method: str, options: dict) -> None:
    if ufunc not in _ASSOCIATIVE | _IN_ORDER:
        raise trace_error(f"{name_of(ufunc)}.{method} is not supported", "write it as a loop")
    given = [k for k, v in options.items() if v is not True and v is not np._NoValue]
    if given:
        raise trace_error(
            f"{name_of(ufunc)}.{method} cannot be traced with {given[0]}=",
            "select the elements with np.where before the call",
        )


@answers(np.ufunc.accumulate, note="associative ufuncs, `subtract` and `divide`")
def _accumulate(ufunc, x, axis=0, dtype=None, out=None):
    x = cast(lift(x), dtype)
    if ufunc in _ACCUMULATIONS:
        result = dispatch(_ACCUMULATIONS[ufunc], (x,), {"axis": axis})
    else:
        _check(ufunc, "accumulate", {})
        axis = normalize_axis_index(axis, x.ndim)
        result = _doubled(ufunc, x, axis) if ufunc in _ASSOCIATIVE else _run(ufunc, x, axis)
    return result if out is None else store(ufunc, out[0], result, "same_kind")


def _doubled(ufunc, x, axis: int):
    n, shift = x.shape[axis], 1
    while shift < n:
        joined = _later_second(ufunc, part(x, axis, 0, n - shift), part(x, axis, shift))
        x = concatenate([part(x, axis, 0, shift), joined], axis)
        shift *= 2
    return copy_(x) if n < 2 else x


def _run(ufunc, x, axis: int):
    steps = [part(x, axis, 0, 1)]
    for k in range(1, x.shape[axis]):
        steps.append(ufunc(steps[-1], part(x, axis, k, k + 1)))
    return concatenate(steps, axis)


@answers(np.ufunc.reduceat, note="indices that depend on `x` become guards")
def _reduceat(ufunc, x, indices, axis=0, dtype=None, out=None):
    """f over x[i_k : i_{k+1}], or x[i_k] alone where the next index is not larger."""
    x = cast(lift(x), dtype)
    indices = np.asarray(guard(indices) if isinstance(indices, Traced) else indices)
    axis = normalize_axis_index(axis, x.ndim)
    ends = np.append(indices[1:], x.shape[axis])
    runs = [np.arange(a, max(b, a + 1)) for a, b in zip(indices, ends, strict=True)]
    if not runs or min(indices) < 0 or max(indices) >= x.shape[axis]:
        raise IndexError(f"index out-of-bounds in {ufunc.__name__}.reduceat [0, {x.shape[axis]})")
    if ufunc is np.add:
        starts = np.cumsum([0, *map(len, runs)])
        rows = gather(x, np.concatenate(runs), axis)
        result = apply(p.segment_sum, rows, adopt(starts), axis=axis)
    else:
        pieces = [part(x, axis, run[0], run[-1] + 1) for run in runs]
        result = concatenate([_reduce(ufunc, piece, axis, keepdims=True) for piece in pieces], axis)
    return result if out is None else store(ufunc, out[0], result, "same_kind")


@answers(np.ufunc.outer)
def _outer(ufunc, x, y, **kwargs):
    x, y = lift(x), lift(y)
    return ufunc(reshape_view(x, x.shape + (1,) * y.ndim), y, **kwargs)


@answers(
    np.ufunc.at,
    note="indices that depend on `x` become guards, except in `add.at` and `subtract.at`",
)
def _at(ufunc, x, index, *values):
    if not isinstance(x, Traced):
        raise trace_error(NOT_OURS, "make it inside the function (np.zeros, .copy())")
    if ufunc in (np.add, np.subtract):
        add_at(x, index, values[0] if ufunc is np.add else -lift(values[0]))
        return
    places = _places(x, index)
    values = [ravel(broadcast_to(lift(v), places.shape)) for v in values]
    places = places.ravel()
    flat = Flat(x)
    for round_ in _rounds(places):
        now = places[round_]
        flat[now] = ufunc(flat[now], *(gather(v, round_) for v in values))


def _places(x, index) -> np.ndarray:
    """The positions in C order that an index means; one that depends on an input is guarded."""
    return np.arange(x.size).reshape(x.shape)[map_traced(guard, index)]


def _rounds(places: np.ndarray):
    """Positions in `places`, in groups within which no place occurs twice, in order."""
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    first = np.searchsorted(ordered, ordered)
    turn = np.empty(places.size, np.int64)
    turn[order] = np.arange(places.size) - first
    return [np.flatnonzero(turn == k) for k in range(turn.max(initial=-1) + 1)]
