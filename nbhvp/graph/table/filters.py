"""Linear filters: correlation with a kernel, and linear recurrences. Both are library steps.

With a kernel w of extents m along some axes of x, and everything else going along,

    correlate    z_i = sum_k x_{i+k} w_k,   i < n - m + 1     ("valid": nothing beyond the ends),

whose transpose in x is the correlation of z_bar, continued by m - 1 zeros on both sides, with the
reversed kernel. With coefficients a_1, ..., a_m and zeros before the first element,

    recurrence   z_i = x_i - sum_k a_k z_{i-k},

whose transpose is the same recurrence run from the last element to the first. Kernels and
coefficients may depend on x: z_dot is then another correlation, or the recurrence of
-sum_k a_dot_k z_{i-k}.
"""

from __future__ import annotations

import string

import numpy as np

from nbhvp.graph import primitives as p

__all__ = ["correlate", "recurrence"]


def _full(w: np.ndarray, axes, ndim: int) -> np.ndarray:
    """A kernel with extent 1 along the axes that go along."""
    shape = [1] * ndim
    for extent, axis in zip(w.shape, axes, strict=True):
        shape[axis] = extent
    return w.reshape(shape)


def _correlate(x, w, axes):
    from scipy.signal import correlate  # slow to import, and seldom needed

    kernel = _full(np.conjugate(w), axes, np.ndim(x))
    return correlate(x, kernel, "valid").astype(np.result_type(x))


def _correlate_shape(x, w, axes):
    shape = list(x.shape)
    for extent, axis in zip(w.shape, axes, strict=True):
        shape[axis] -= extent - 1
    return tuple(shape), x.dtype


def _correlate_transpose(z_bar, z, x, w, axes):
    start, shape = [0] * x.ndim, list(z.shape)
    for extent, axis in zip(w.shape, axes, strict=True):
        start[axis], shape[axis] = extent - 1, z.shape[axis] + 2 * (extent - 1)
    frame = p.zeros(z.pool, tuple(shape), z.dtype)
    padded = p.update(frame, z_bar, start=tuple(start), step=(1,) * x.ndim)
    last = tuple(extent - 1 for extent in w.shape)
    turned = p.slice_(p.conjugate(w), start=last, step=(-1,) * w.ndim, size=w.shape)
    return correlate(padded, turned, axes=axes), None


def _correlate_tangent(z, dots, x, w, axes):
    """The windows of x, each multiplied with the tangent of the kernel."""
    letters, kernel, windows = string.ascii_lowercase, "", x
    labels = letters[: x.ndim]
    for k, (extent, axis) in enumerate(zip(w.shape, axes, strict=True)):
        at = labels.index(letters[axis])
        index = np.arange(z.shape[axis])[:, None] + np.arange(extent)
        windows = p.gather(windows, p.constant(z.pool, index), axis=at)
        place = letters[x.ndim + k]
        labels, kernel = labels[: at + 1] + place + labels[at + 1 :], kernel + place
    return p.contract(windows, dots[1], subscripts=f"{labels},{kernel}->{letters[: x.ndim]}")


def _recurrence(x, a, axis, reverse):
    from scipy.signal import lfilter

    a = np.concatenate([np.ones(1, np.result_type(a)), a])
    x = np.flip(x, axis) if reverse else x
    z = lfilter(a[:1], a, x, axis).astype(np.result_type(x))
    return np.flip(z, axis) if reverse else z


def _recurrence_transpose(z_bar, z, x, a, axis, reverse):
    return recurrence(z_bar, p.conjugate(a), axis=axis, reverse=not reverse), None


def _recurrence_tangent(z, dots, x, a, axis, reverse):
    (order,) = a.shape
    n = z.shape[axis]
    shape = (*z.shape[:axis], order, *z.shape[axis + 1 :])
    ends = p.zeros(z.pool, shape, z.dtype)
    padded = p.concatenate(*((z, ends) if reverse else (ends, z)), axis=axis)
    back = np.arange(1, order + 1)
    index = np.arange(n)[:, None] + (back if reverse else order - back)
    earlier = p.gather(padded, p.constant(z.pool, index), axis=axis)
    letters = string.ascii_lowercase[: z.ndim + 1]
    last, kept = letters[axis + 1], letters[: axis + 1] + letters[axis + 2 :]
    forced = p.contract(earlier, dots[1], subscripts=f"{letters},{last}->{kept}")
    return recurrence(-forced, a, axis=axis, reverse=reverse)


def _filter(name, evaluate, infer, rule, tangent) -> p.Primitive:
    entry = p.Primitive(name, "linear", evaluate, infer, rule, tangent=tangent, linear=((0,),))
    return p.enter(entry)


correlate = _filter(
    "correlate", _correlate, _correlate_shape, _correlate_transpose, _correlate_tangent
)
recurrence = _filter(
    "recurrence",
    _recurrence,
    lambda x, a, axis, reverse: (x.shape, x.dtype),
    _recurrence_transpose,
    _recurrence_tangent,
)
