"""Discrete Fourier, cosine and sine transforms: linear library calls with exact transposes.

Without factors of normalisation, with w = exp(-2 pi i / n),

    fft:    z_k = sum_j w^(jk) x_j over complex x;   its adjoint is the inverse one, w^(-jk);
    rfft:   the same of real x, for k <= n/2;
    irfft:  x_j = sum_k c_k Re(w^(-jk) z_k),  c = 1 at k = 0 and n/2, else 2, for what stands for a
            Hermitian z.

In the real inner product Re<a, b> the adjoint of rfft is irfft of z_bar / c, that of irfft is c
times rfft. Cosine and sine transforms are taken orthogonal: types 1 and 4 are symmetric, 2 and 3 each
other's transposes.
"""

from __future__ import annotations

import numpy as np
import scipy.fft

from nbhvp.graph.node import Node
from nbhvp.graph.primitives import _linear, constant

__all__ = ["fft", "irfft", "rfft", "trigonometric"]

TRANSPOSED_TYPE = {1: 1, 2: 3, 3: 2, 4: 4}


def _fft(x, axes, inverse):
    if inverse:
        return scipy.fft.ifftn(x, axes=axes, norm="forward")
    return scipy.fft.fftn(x, axes=axes)


def _multiplicities(like: Node, axis: int, size: int) -> Node:
    """How often each element of half a spectrum stands in the whole: 1 or 2."""
    count = size // 2 + 1
    values = np.full(count, 2.0)
    values[0] = 1.0
    if size % 2 == 0:
        values[-1] = 1.0
    shape = [1] * like.ndim
    shape[axis] = count
    return constant(like.pool, values.reshape(shape), np.empty(0, like.dtype).real.dtype)


def _rfft_rule(z_bar, z, x, axis):
    size = x.shape[axis]
    return (irfft(z_bar / _multiplicities(z_bar, axis, size), axis=axis, size=size),)


def _irfft_rule(z_bar, z, x, axis, size):
    found = rfft(z_bar, axis=axis)
    return (found * _multiplicities(found, axis, size),)


def _trigonometric(x, axes, kind, type):
    transform = scipy.fft.dctn if kind == "cosine" else scipy.fft.dstn
    return transform(x, type, axes=axes, norm="ortho")


def _trigonometric_rule(z_bar, z, x, axes, kind, type):
    return (trigonometric(z_bar, axes=axes, kind=kind, type=TRANSPOSED_TYPE[type]),)


def _resized(shape, axis, size):
    return (*shape[:axis], size, *shape[axis + 1 :])


def _rfft_shape(x, axis):
    assert not x.is_complex, "rfft takes real numbers"
    return _resized(x.shape, axis, x.shape[axis] // 2 + 1), np.result_type(x.dtype, np.complex64)


def _irfft_shape(x, axis, size):
    assert x.shape[axis] == size // 2 + 1, "irfft takes half a spectrum"
    return _resized(x.shape, axis, size), np.empty(0, x.dtype).real.dtype


# fmt: off
fft           = _linear("fft", _fft, lambda x, axes, inverse: (x.shape, x.dtype), lambda z_bar, z, x, axes, inverse: (fft(z_bar, axes=axes, inverse=not inverse),))
rfft          = _linear("rfft", lambda x, axis: scipy.fft.rfft(x, axis=axis), _rfft_shape, _rfft_rule)
irfft         = _linear("irfft", lambda x, axis, size: scipy.fft.irfft(x, size, axis=axis, norm="forward"), _irfft_shape, _irfft_rule)
trigonometric = _linear("trigonometric", _trigonometric, lambda x, axes, kind, type: (x.shape, x.dtype), _trigonometric_rule)
# fmt: on
