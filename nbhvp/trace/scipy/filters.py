"""The common parts of linear filters: an array continued beyond its ends, and a sliding product.

A kernel of few taps, all constants, is a sum of shifted views, which fuses with what is around it;
any other is the primitive `correlate`, a library step. Kernels may depend on x.
"""

import numpy as np

from nbhvp.graph.table import filters
from nbhvp.trace.arrays import Traced, apply, is_constant, lift
from nbhvp.trace.numpy.elementwise import cast
from nbhvp.trace.numpy.manipulation.padding import pad

__all__ = ["correlated", "extended", "one_per_axis"]

_FEW = 32
"""The most taps that are written out."""

_PAD_MODES = {
    "reflect": "symmetric", "grid-mirror": "symmetric", "symmetric": "symmetric",
    "symm": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap",
    "grid-wrap": "wrap", "constant": "constant", "grid-constant": "constant", "fill": "constant",
}  # fmt: skip
"""SciPy's names of boundary modes, and NumPy's."""


def extended(x, widths, mode="constant", value=0.0):
    """x continued by pairs of widths, one pair per axis, in one of SciPy's modes."""
    if mode not in _PAD_MODES:
        raise RuntimeError(f"boundary mode not supported: {mode!r}")
    if not any(map(any, widths)):
        return x
    if _PAD_MODES[mode] == "constant":
        return pad(x, widths, constant_values=value)
    return pad(x, widths, _PAD_MODES[mode])


def one_per_axis(value, count: int) -> list:
    """A setting for each axis, given once or as a sequence."""
    if isinstance(value, str) or not np.iterable(value):
        return [value] * count
    if len(value) != count:
        raise RuntimeError("sequence argument must have length equal to input rank")
    return list(value)


def correlated(x, kernel, axes):
    """sum_k x[i + k] kernel[k] along axes, wherever the kernel lies inside of x."""
    x, kernel = lift(x), lift(kernel)
    dtype = np.result_type(x.dtype, kernel.dtype) if kernel.dtype.kind == "c" else x.dtype
    x, kernel = cast(x, dtype), cast(kernel, dtype)
    if is_constant(kernel) and np.count_nonzero(kernel.value) <= _FEW:
        return _written_out(x, kernel.value, axes)
    return apply(filters.correlate, x, kernel, axes=tuple(axes))


def _written_out(x: Traced, kernel: np.ndarray, axes):
    counts = [x.shape[axis] - extent + 1 for extent, axis in zip(kernel.shape, axes, strict=True)]
    total = None
    for place in np.argwhere(kernel).tolist():
        index = [slice(None)] * x.ndim
        for k, axis, count in zip(place, axes, counts, strict=True):
            index[axis] = slice(k, k + count)
        weight = kernel[tuple(place)].item()
        term = x[tuple(index)] if weight == 1 else weight * x[tuple(index)]
        total = term if total is None else total + term
    if total is not None:
        return total.copy()  # one tap of weight 1 is a view
    shape = list(x.shape)
    for axis, count in zip(axes, counts, strict=True):
        shape[axis] = count
    return lift(np.zeros(shape, x.dtype))
