"""numpy.fft and scipy.fft: lengths, axes and norms around the transforms of the table.

A transform of length n multiplies by 1 and its inverse by 1/n (norm "backward", the default), both
by 1/sqrt(n) ("ortho"), or the other way round ("forward"). Complex spectra stand inside functions
whose x and result are real.
"""

import math
import operator

import numpy as np
import scipy.fft

from nbhvp.graph import primitives as p
from nbhvp.graph.table import fourier
from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import apply, lift
from nbhvp.trace.numpy.elementwise import cast, floating, into, is_complex
from nbhvp.trace.numpy.manipulation.shapes import concatenate, part

__all__: list[str] = []


def _complex(x):
    x = floating(lift(x))
    return cast(x, np.result_type(x.dtype, np.complex64))


def _real(x):
    x = floating(lift(x))
    if is_complex(x):
        raise TypeError("x must be a real sequence")
    return x


def _fitted(x, count, axis):
    """The first `count` elements along an axis, with zeros where there are no more."""
    n = x.shape[axis]
    if count is None or count == n:
        return x
    if count < 1:
        raise ValueError(f"Invalid number of data points ({count}) specified.")
    if count < n:
        return part(x, axis, None, count)
    zeros = np.zeros((*x.shape[:axis], count - n, *x.shape[axis + 1 :]), x.dtype)
    return concatenate([x, zeros], axis)


def _scaled(x, count: int, norm, inverse: bool):
    if norm not in (None, "backward", "ortho", "forward"):
        raise ValueError(f'Invalid norm value {norm}; should be "backward", "ortho" or "forward".')
    power = {"ortho": 0.5, "forward": 0.0 if inverse else 1.0}.get(norm, 1.0 if inverse else 0.0)
    return x if power == 0 else x * float(count) ** -power


def _from_the_first(x, axes) -> list[int]:
    """Axes as they are counted from the first one; an IndexError for one that x lacks."""
    return [range(x.ndim)[axis] for axis in np.atleast_1d(axes).tolist()]


def _length(x, n, axis) -> tuple[int, int]:
    """An axis with the length of its transform."""
    (axis,) = _from_the_first(x, axis)
    return axis, x.shape[axis] if n is None else operator.index(n)


def _lengths(x, s, axes) -> list[tuple[int, int]]:
    """Axes with the lengths of their transforms."""
    if axes is None:
        axes = range(x.ndim) if s is None else range(x.ndim - len(s), x.ndim)
    axes = _from_the_first(x, axes)
    s = [None] * len(axes) if s is None else [int(n) for n in np.atleast_1d(s)]
    if len(s) != len(axes):
        raise ValueError("Shape and axes have different lengths.")
    if len(set(axes)) < len(axes):
        raise ValueError("all axes must be unique")
    return [
        (axis, x.shape[axis] if n in (None, -1) else n) for axis, n in zip(axes, s, strict=True)
    ]


def _transformed(x, lengths, norm, inverse):
    """A complex transform along some axes, each once."""
    if not lengths:
        return x
    for axis, n in lengths:
        x = _fitted(x, n, axis)
    axes = tuple(axis for axis, _ in lengths)
    found = apply(fourier.fft, x, axes=axes, inverse=inverse)
    return _scaled(found, math.prod(n for _, n in lengths), norm, inverse)


def _half(x, axis, n, norm, inverse=False):
    """The first half of the spectrum of a real sequence."""
    x = _fitted(x, n, axis)
    return _scaled(apply(fourier.rfft, x, axis=axis), n, norm, inverse)


def _whole(x, axis, n, norm, inverse=True):
    """The real sequence of length n that has a half spectrum."""
    x = _fitted(x, n // 2 + 1, axis)
    return _scaled(apply(fourier.irfft, x, axis=axis, size=n), n, norm, inverse)


def _one_dimensional(inverse: bool):
    def handler(a, n=None, axis=-1, norm=None, out=None):
        x = _complex(a)
        return into(out, _transformed(x, [_length(x, n, axis)], norm, inverse))

    return handler


def _several(inverse: bool, default):
    def handler(a, s=None, axes=default, norm=None, out=None):
        x = _complex(a)
        return into(out, _transformed(x, _lengths(x, s, axes), norm, inverse))

    return handler


def _real_several(default):
    def handler(a, s=None, axes=default, norm=None, out=None):
        x = _real(a)
        *others, (axis, n) = _lengths(x, s, axes)
        return into(out, _transformed(_half(x, axis, n, norm), others, norm, False))

    return handler


def _inverse_real_several(default):
    def handler(a, s=None, axes=default, norm=None, out=None):
        x = _complex(a)
        *others, (axis, n) = _lengths(x, s, axes)
        n = 2 * (n - 1) if s is None or s[-1] in (None, -1) else n
        return into(out, _whole(_transformed(x, others, norm, True), axis, n, norm))

    return handler


def _hermitian_several(default):
    """The real spectrum of a Hermitian array, of which half is given."""

    def handler(a, s=None, axes=default, norm=None):
        x = _complex(a)
        *others, (axis, n) = _lengths(x, s, axes)
        n = 2 * (n - 1) if s is None or s[-1] in (None, -1) else n
        x = np.conjugate(_transformed(x, others, norm, False))
        return _whole(x, axis, n, norm, inverse=False)

    return handler


def _inverse_hermitian_several(default):
    def handler(a, s=None, axes=default, norm=None):
        x = _real(a)
        *others, (axis, n) = _lengths(x, s, axes)
        x = np.conjugate(_half(x, axis, n, norm, inverse=True))
        return _transformed(x, others, norm, True)

    return handler


_PLANE = (-2, -1)
for _names, _handler in {
    ("fft",): _one_dimensional(False), ("ifft",): _one_dimensional(True),
    ("fft2",): _several(False, _PLANE), ("ifft2",): _several(True, _PLANE),
    ("fftn",): _several(False, None), ("ifftn",): _several(True, None),
    ("rfft2",): _real_several(_PLANE), ("rfftn",): _real_several(None),
    ("irfft2",): _inverse_real_several(_PLANE), ("irfftn",): _inverse_real_several(None),
}.items():  # fmt: skip
    for _name in _names:
        answers(getattr(np.fft, _name), getattr(scipy.fft, _name))(_handler)
for _name, _axes in {"2": _PLANE, "n": None}.items():
    answers(getattr(scipy.fft, f"hfft{_name}"))(_hermitian_several(_axes))
    answers(getattr(scipy.fft, f"ihfft{_name}"))(_inverse_hermitian_several(_axes))


@answers(np.fft.rfft, scipy.fft.rfft)
def rfft(a, n=None, axis=-1, norm=None, out=None):
    x = _real(a)
    axis, n = _length(x, n, axis)
    return into(out, _half(x, axis, n, norm))


@answers(np.fft.irfft, scipy.fft.irfft)
def irfft(a, n=None, axis=-1, norm=None, out=None):
    x = _complex(a)
    (axis,) = _from_the_first(x, axis)
    n = 2 * (x.shape[axis] - 1) if n is None else n
    return into(out, _whole(x, axis, n, norm))


@answers(np.fft.hfft, scipy.fft.hfft)
def hfft(a, n=None, axis=-1, norm=None, out=None):
    x = np.conjugate(_complex(a))
    (axis,) = _from_the_first(x, axis)
    n = 2 * (x.shape[axis] - 1) if n is None else n
    return into(out, _whole(x, axis, n, norm, inverse=False))


@answers(np.fft.ihfft, scipy.fft.ihfft)
def ihfft(a, n=None, axis=-1, norm=None, out=None):
    x = _real(a)
    axis, n = _length(x, n, axis)
    return into(out, np.conjugate(_half(x, axis, n, norm, inverse=True)))


def _shift(sign: int):
    def handler(x, axes=None):
        x = lift(x)
        axes = tuple(_from_the_first(x, range(x.ndim) if axes is None else axes))
        return np.roll(x, tuple(sign * (x.shape[axis] // 2) for axis in axes), axes)

    return handler


answers(np.fft.fftshift, scipy.fft.fftshift)(_shift(1))
answers(np.fft.ifftshift, scipy.fft.ifftshift)(_shift(-1))


def _frequencies(function):
    """Frequencies of samples at a traced distance."""
    return lambda n, d=1.0: function(n) / lift(d)


answers(np.fft.fftfreq, scipy.fft.fftfreq)(_frequencies(np.fft.fftfreq))
answers(np.fft.rfftfreq, scipy.fft.rfftfreq)(_frequencies(np.fft.rfftfreq))


# Cosine and sine transforms, from the orthogonal ones.

_ENDS = {
    ("cosine", 1): (0, -1),
    ("cosine", 2): (0,),
    ("cosine", 3): (0,),
    ("sine", 2): (-1,),
    ("sine", 3): (-1,),
}
"""The elements that the orthogonal transforms take with another factor."""


def _weights(count: int, ends, factor: float, ndim: int, axis: int):
    weights = np.ones(count)
    weights[list(ends)] = factor
    shape = [1] * ndim
    shape[axis] = count
    return weights.reshape(shape)


def _trigonometric(x, kind, type, n, axis, norm, orthogonalize, inverse):
    x = floating(lift(x))
    if is_complex(x):
        parts = (apply(q, x) for q in (p.real, p.imag))
        rest = (kind, type, n, axis, norm, orthogonalize, inverse)
        return apply(p.complex_, *(_trigonometric(q, *rest) for q in parts))
    if type not in (1, 2, 3, 4):
        raise ValueError(f"Invalid type ({type}); must be 1, 2, 3 or 4")
    (axis,) = _from_the_first(x, axis)
    x = _fitted(x, n, axis)
    n = x.shape[axis]
    type = fourier.TRANSPOSED_TYPE[type] if inverse else type
    length = 2 * (n + {"cosine": -1, "sine": 1}[kind] * (type == 1))
    orthogonalize = norm == "ortho" if orthogonalize is None else orthogonalize
    ends = () if orthogonalize else _ENDS.get((kind, type), ())
    if ends and type in (1, 3):
        x = x * _weights(n, ends, 0.5**0.5, x.ndim, axis).astype(x.dtype)
    found = apply(fourier.trigonometric, x, axes=(axis,), kind=kind, type=type)
    if ends and type in (1, 2):
        found = found * _weights(n, ends, 2**0.5, x.ndim, axis).astype(x.dtype)
    return _scaled(found * float(length) ** 0.5, length, norm, inverse)


def _along_one(kind, inverse):
    def handler(x, type=2, n=None, axis=-1, norm=None, orthogonalize=None):
        return _trigonometric(x, kind, type, n, axis, norm, orthogonalize, inverse)

    return handler


def _along_several(kind, inverse):
    def handler(x, type=2, s=None, axes=None, norm=None, orthogonalize=None):
        x = lift(x)
        for axis, n in _lengths(x, s, axes):
            x = _trigonometric(x, kind, type, n, axis, norm, orthogonalize, inverse)
        return x

    return handler


for _kind, _letter in {"cosine": "c", "sine": "s"}.items():
    for _inverse, _prefix in {False: "", True: "i"}.items():
        _name = f"{_prefix}d{_letter}t"
        answers(getattr(scipy.fft, _name))(_along_one(_kind, _inverse))
        answers(getattr(scipy.fft, f"{_name}n"))(_along_several(_kind, _inverse))
