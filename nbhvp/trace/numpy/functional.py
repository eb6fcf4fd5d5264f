"""Functions that call the user's own function on parts of arrays and join the results.

`np.vectorize` calls it on each element (with a signature, on each core array), `np.apply_along_axis`
on each row, `np.piecewise` on the elements under a mask. The calls are
recorded one by one, so each element may take its own branch, under guards of its own; the graph
grows with the number of calls, so these are for small arrays, as they are slow in NumPy.
"""

import re

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from nbhvp.trace.answers import answers, refuses
from nbhvp.trace.arrays import Traced, guard, lift
from nbhvp.trace.kinds import LibraryObject
from nbhvp.trace.numpy.elementwise import cast
from nbhvp.trace.numpy.manipulation.creation import zeros_like
from nbhvp.trace.numpy.manipulation.shapes import broadcast_to, moveaxis, reshape, stack

__all__: list[str] = []


@answers(
    np.vectorize,
    note="with or without a signature; small arrays only: each call is recorded separately",
)
class Vectorized(LibraryObject):
    """The stand-in of an `np.vectorize` object."""

    def __call__(self, *args, **kwargs):
        if self.original.pyfunc is np._NoValue:  # np.vectorize(otypes=...) as a decorator
            return self._standin(self.original(*args, **kwargs))
        function, excluded = self._standin(self.original.pyfunc), self.original.excluded
        names = [*range(len(args)), *kwargs]
        given = dict(zip(names, (*args, *kwargs.values()), strict=True))
        mapped = [name for name in names if name not in excluded]
        count = len(args)

        def call(*elements):
            values = given | dict(zip(mapped, elements, strict=True))
            return function(
                *(values[k] for k in range(count)), **{k: values[k] for k in names[count:]}
            )

        return _mapped(call, [given[k] for k in mapped], *self._cores(len(mapped)))

    def _cores(self, count: int):
        """The number of core axes of each argument, and the dtypes wanted of the results."""
        signature = self.original.signature
        if signature is None:
            return [0] * count, self.original.otypes
        left = signature.split("->")[0]
        cores = re.findall(r"\(([^)]*)\)", left)
        return [len([c for c in core.split(",") if c.strip()]) for core in cores], None


def _mapped(function, arrays, cores, otypes=None):
    """A function of core arrays over the axes before them, which broadcast."""
    arrays = [lift(a) for a in arrays]
    if len(arrays) != len(cores):
        raise TypeError(
            f"wrong number of positional arguments: expected {len(cores)}, got {len(arrays)}"
        )
    outers = [a.shape[: a.ndim - core] for a, core in zip(arrays, cores, strict=True)]
    outer = np.broadcast_shapes(*outers)
    arrays = [
        broadcast_to(a, outer + a.shape[len(own) :]) for a, own in zip(arrays, outers, strict=True)
    ]
    results = [function(*(a[index] for a in arrays)) for index in np.ndindex(outer)]
    if not results:
        raise ValueError("cannot call a vectorized function on inputs of size 0")
    if not isinstance(results[0], tuple):
        return _joined(results, outer, otypes[0] if otypes else None)
    columns = enumerate(zip(*results, strict=True))
    return tuple(_joined(c, outer, otypes[k] if otypes else None) for k, c in columns)


def _joined(results, outer, dtype=None):
    """Results of single calls as one array; NumPy takes the dtype of the first."""
    first = lift(results[0]).dtype
    joined = stack([cast(lift(r), dtype or first) for r in results])
    return reshape(joined, (*outer, *joined.shape[1:]))


@answers(np.apply_along_axis, note="small arrays only: each call is recorded separately")
def apply_along_axis(func1d, axis, arr, *args, **kwargs):
    rows = moveaxis(arr, axis, -1)
    axis = normalize_axis_index(axis, rows.ndim)
    outer = rows.shape[:-1]
    joined = _joined([func1d(rows[index], *args, **kwargs) for index in np.ndindex(outer)], outer)
    inner = range(len(outer), joined.ndim)
    return moveaxis(joined, inner, range(axis, axis + len(inner)))


@answers(np.piecewise, note="the conditions become guards")
def piecewise(x, condlist, funclist, *args, **kw):
    """As NumPy does it, each function sees its own elements only; the conditions are guards."""
    x = lift(x)
    if (isinstance(condlist, Traced) and condlist.ndim == x.ndim) or np.ndim(condlist[0]) < x.ndim:
        condlist = [condlist]
    masks = [guard(lift(c)) for c in condlist]
    if len(funclist) == len(masks) + 1:
        masks.append(~np.any(masks, axis=0))
    result = zeros_like(x)
    for mask, function in zip(masks, funclist, strict=True):
        chosen = x[mask]
        if chosen.size:
            result[mask] = function(chosen, *args, **kw) if callable(function) else function
    return result


@answers(np.ndenumerate, note="small arrays only: each element is recorded separately")
def ndenumerate(arr):
    arr = lift(arr)
    return ((index, arr[index]) for index in np.ndindex(arr.shape))


@answers(np.broadcast, note="only for its attribute `shape`")
def broadcast(*arrays):
    """Its shapes are all that is asked of it."""
    return np.broadcast(*(lift(a).value for a in arrays))


refuses(
    np.nditer,
    why="it iterates over memory, and a traced array has no memory",
    instead="index the array",
)
refuses(
    np.frompyfunc,
    np.fromiter,
    why="it converts each element to a plain number, which loses the derivative",
    instead="use np.vectorize or np.array([...])",
)
