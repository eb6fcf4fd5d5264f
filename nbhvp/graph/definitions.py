"""NumPy definitions of primitives: dtypes, values, shapes, and the elements that one of the result reads.

The table of primitives names these functions; they know NumPy alone. An index map `pull_*(at, index,
node)` gives the element of `node` at a tuple of index expressions: `at(k, index)` reads argument k,
`at.choose(...)` guards a read.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache

import numpy as np
import scipy.special as special

from nbhvp.errors import TraceError

# Dtypes.

BOOL, INT = np.dtype(bool), np.dtype(np.int64)


broadcast_shapes = lru_cache(maxsize=4096)(np.broadcast_shapes)
"""The same shapes meet again and again."""


def scipy_ufunc(name):
    """The ufunc of scipy.special, also where SciPy's array-API mode has a function in its place."""
    function = getattr(special, name)
    plain = {"digamma": "psi"}.get(name, name)
    return function if isinstance(function, np.ufunc) else getattr(special._ufuncs, plain)


class RealOnly(TraceError):
    """A function that NumPy has for complex numbers has a rule for real ones only."""


@cache
def loop_dtypes(ufunc, dtypes) -> tuple[np.dtype, ...]:
    """The dtypes of the arguments and result in the loop that NumPy chooses for `dtypes`."""
    return ufunc.resolve_dtypes((*dtypes, *(None,) * ufunc.nout))


def real_loops(ufunc, name=None):
    """`dtypes` of a function that kernels have for real numbers only, though NumPy has more."""

    def dtypes(given):
        if any(np.dtype(d).kind == "c" for d in given):
            raise RealOnly(
                f"{name or ufunc.__name__} of complex numbers has no derivative rule; "
                "write it with the real and the imaginary part"
            )
        return loop_dtypes(ufunc, given)

    return dtypes


def first_dtype(x, *rest, **params):
    return x


def real_dtype(dtype, **params):
    return np.empty(0, dtype).real.dtype


def same_dtype(dtypes):
    """Common dtype, integers left alone (weak Python numbers follow the others)."""
    strong = [d for d in dtypes if isinstance(d, np.dtype)]
    weak = [
        np.zeros((), d)[()] if d is not int else 0 for d in dtypes if not isinstance(d, np.dtype)
    ]
    weak = [w.item() if isinstance(w, np.generic) else w for w in weak]
    return (np.result_type(*strong, *weak),) * len(dtypes)


def where_dtypes(dtypes):
    return (BOOL, *same_dtype(dtypes[1:]))


def as_given(dtypes):
    return dtypes


# Values.


def times(x, y):
    z = np.multiply(x, y)
    if z.ndim or z.dtype.kind != "c":
        return z
    # NumPy's complex scalars round each product of parts; its loops use fused multiply-adds.
    return np.asarray(x, z.dtype)[()] * np.asarray(y, z.dtype)[()]


def complex_of(x, y):
    """x + i y: the sum would make NaN of i times infinity."""
    x, y = np.broadcast_arrays(x, y)
    z = np.empty(x.shape, np.result_type(x, np.complex64))
    z.real, z.imag = x, y
    return z


def strided(start, step, size) -> tuple[slice, ...]:
    """NumPy slices for the `size` positions start, start + step, ... along each axis."""
    stops = (b + k * n for b, k, n in zip(start, step, size, strict=True))
    return tuple(
        slice(b, e if e >= 0 else None, k) if n else slice(0, 0)
        for b, e, k, n in zip(start, stops, step, size, strict=True)
    )


def replaced(base, value, start, step):
    out = np.array(base)
    out[strided(start, step, np.shape(value))] = value
    return out


def summed(x, axes):
    return np.sum(x, axis=axes, dtype=np.asarray(x).dtype)


def picked(x, index, axis):
    x = np.asarray(x)
    index = np.broadcast_to(index, removed(x.shape, (axis,)))
    return np.take_along_axis(x, np.expand_dims(index, axis), axis).squeeze(axis)


def scattered(z, index, axis, size):
    z, index = np.asarray(z), np.asarray(index)
    flat = z.shape[:axis] + (index.size,) + z.shape[axis + index.ndim :]
    rows = np.moveaxis(z.reshape(flat), axis, 0)
    out = np.zeros((size, *rows.shape[1:]), z.dtype)
    np.add.at(out, index.ravel(), rows)
    return np.moveaxis(out, 0, axis)


def summed_by_segments(z, starts, axis):
    """Sum runs of `axis`: result j is the sum over starts[j] <= t < starts[j + 1]."""
    z, starts = np.asarray(z), np.asarray(starts)
    rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    return scattered(z, rows, axis, len(starts) - 1)


def summed_along(x, axis, reverse):
    if reverse:
        return np.flip(np.cumsum(np.flip(x, axis), axis, dtype=np.asarray(x).dtype), axis)
    return np.cumsum(x, axis, dtype=np.asarray(x).dtype)


def last_writers(index, size):
    out = np.full(size, -1)
    out[index] = np.arange(index.size)
    return out


def is_power_of_two(value) -> bool:
    return value.dtype.kind == "f" and math.frexp(abs(value))[0] == 0.5


def are_same_bits(a, b) -> bool:
    return a is not None and a.tobytes() == b.tobytes()


# Shapes.


def removed(shape, axes) -> tuple[int, ...]:
    return tuple(n for k, n in enumerate(shape) if k not in axes)


def broadcast_infer(x, shape):
    assert broadcast_shapes(x.shape, shape) == shape, f"{x.shape} does not broadcast to {shape}"
    return shape, x.dtype


def gather_shape(x, index, axis):
    return x.shape[:axis] + index.shape + x.shape[axis + 1 :], x.dtype


def scatter_shape(z, index, axis, size):
    return z.shape[:axis] + (size,) + z.shape[axis + index.ndim :], z.dtype


def letters(subscripts: str) -> tuple[str, str, str]:
    operands, out = subscripts.split("->")
    left, right = operands.split(",")
    return left, right, out


def contract_shape(x, y, subscripts):
    left, right, out = letters(subscripts)
    extents = dict(zip(left + right, x.shape + y.shape, strict=True))
    return tuple(extents[letter] for letter in out), x.dtype


# Index maps.


def pull_update(at, index, node):
    start, step = node.params["start"], node.params["step"]
    return at.choose_region(
        index, start, step, node.args[1].shape, lambda j: at(1, j), lambda: at(0, index)
    )


def pull_concatenate(at, index, node):
    """By halves, so that many pieces are not as many choices, one within the other."""
    axis = node.params["axis"]
    offsets = np.cumsum([0, *(piece.shape[axis] for piece in node.args)]).tolist()
    start, one = (0,) * node.ndim, (1,) * node.ndim

    def among(first, end, index):
        """The element at an index that counts from the first of some pieces."""
        if end == first + 1:
            return at(first, index)
        middle = (first + end) // 2
        extent = offsets[middle] - offsets[first]
        size = (*node.shape[:axis], extent, *node.shape[axis + 1 :])

        def behind():
            return among(middle, end, (*index[:axis], index[axis] - extent, *index[axis + 1 :]))

        return at.choose_region(index, start, one, size, lambda j: among(first, middle, j), behind)

    return among(0, len(node.args), index)


def pull_broadcast(at, index, node):
    shape = node.args[0].shape
    tail = index[len(index) - len(shape) :]
    return at(0, tuple(0 if n == 1 else i for n, i in zip(shape, tail, strict=True)))


def pull_gather(at, index, node):
    axis, rank = node.params["axis"], node.args[1].ndim
    picked = at.integer(1, index[axis : axis + rank], node.args[0].shape[axis])
    return at(0, (*index[:axis], picked, *index[axis + rank :]))


def pull_pick(at, index, node):
    axis, shape = node.params["axis"], node.args[1].shape
    tail = index[len(index) - len(shape) :]
    place = tuple(i if n != 1 else 0 for n, i in zip(shape, tail, strict=True))
    picked = at.integer(1, place, node.args[0].shape[axis])
    return at(0, (*index[:axis], picked, *index[axis:]))
