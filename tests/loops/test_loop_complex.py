"""What loops may call: complex numbers. The oracle is the same source, followed as NumPy's.

`cmath` takes plain numbers; in the source that is followed its functions are NumPy's.
"""

import cmath
import types

import numpy as np
import pytest
from numba import njit

from tests.loops.test_loop_library import X, assert_agree, assert_same

pytestmark = [pytest.mark.compiles, pytest.mark.no_cover]


@njit
def complex_arithmetic(x):
    out = [0.0]
    c = x[0] * 0.3 + 1j * x[1]
    z = 0j
    for k in range(3):
        z = z * z + c
        w = (1.0 + 2j) / (z + 2.0) - x[k] / (z - 3j) + z / x[k + 1] - (3.0 - z) + 2j * x[k]
        w += 1.0
        w *= c
        for power in (z**2, z**-3, w**0.5, (2.0 + 0.1j) ** z, z**w, -w, w.conjugate() * z):
            out += [power.real, power.imag]
        out += [abs(w), np.abs(z), np.angle(w), np.real(z) * np.imag(w)]
        if z != w and z != c + 1.0:
            out.append(complex(x[k], x[k + 1]).imag)
    return out


@njit
def complex_functions(x):
    out = [0.0]
    for k in range(2):
        z = complex(x[k], x[k + 3]) * 0.8
        for w in (
            cmath.exp(z), cmath.log(z), cmath.sqrt(z), cmath.sqrt(-z), cmath.sin(z), cmath.cos(z),
            cmath.tan(z), cmath.sinh(z), cmath.cosh(z), cmath.tanh(z), np.arcsin(z), np.arccos(z),
            np.arctan(z), np.arcsinh(z), np.arccosh(z), np.arctanh(z), np.log10(z), np.square(z),
        ):  # fmt: skip
            out += [w.real, w.imag]
        size, angle = cmath.polar(z)
        out += [cmath.phase(z), size * angle, cmath.rect(size, angle).imag]
    return out


@njit
def complex_arrays(x):
    n = x.size
    a = np.zeros(n, dtype=np.complex128)
    for k in range(n):
        for j in range(n):
            a[k] += x[j] * np.exp(-2j * np.pi * j * k / n)
    b = np.exp(1j * x) + a / n
    b[1] = x[0]
    rotation = np.empty((2, 2), np.complex128)
    rotation[0, 0], rotation[1, 1] = np.cos(x[0]), np.cos(x[0])
    rotation[0, 1], rotation[1, 0] = -1j * np.sin(x[0]), -1j * np.sin(x[1])
    square = rotation @ rotation
    out = [square[0, 1].imag, np.vdot(a, b).real, np.sum(b).imag, np.dot(a, b).real]
    out += [np.linalg.det(rotation).real, np.mean(b * np.conj(a)).real]
    out += [np.linalg.norm(a), np.std(b), np.square(b)[1].imag]
    for k in range(n):
        out += [np.abs(a)[k], b.real[k], b.imag[k] * np.angle(b)[k], np.abs(b[k]) ** 2]
    return out


PACKS = [complex_arithmetic, complex_functions, complex_arrays]


def in_numpy(function):
    """The Python source of a function, with NumPy's functions in the place of cmath's."""
    source = function.py_func
    scope = {**source.__globals__, "cmath": NUMPYS}
    return types.FunctionType(source.__code__, scope, source.__name__)


_SHARED = ("exp", "log", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh")
NUMPYS = types.SimpleNamespace(
    **{name: getattr(np, name) for name in _SHARED},
    phase=np.angle,
    polar=lambda z: (np.abs(z), np.angle(z)),
    rect=lambda size, angle: size * np.exp(1j * angle),
)


@pytest.mark.parametrize("function", PACKS, ids=lambda f: f.__name__)
def test_loops_and_the_same_source_in_numpy(function):
    assert_same(function, in_numpy(function), X)


@njit
def transform(z):
    out = np.zeros(z.size, np.complex128)
    for k in range(z.size):
        for j in range(z.size):
            out[k] += z[j] * np.exp(-2j * np.pi * j * k / z.size)
    return out


@njit
def rotate(z, w):
    total = 0j
    for i in range(z.size):
        z[i] = z[i] * w
        total += z[i]
    return total, z[0].real


def test_complex_arguments_and_results():
    def loops(x):
        z = x + 1j * x[::-1] ** 2
        total, first = rotate(z, x[0] * (1.0 + 2.0j))
        spectrum = transform(z)
        return np.sum(np.abs(spectrum) ** 2) + first * total.imag + abs(transform(x)[1]) ** 2

    def plain(x):
        z = (x + 1j * x[::-1] ** 2) * x[0] * (1.0 + 2.0j)
        spectrum = np.fft.fft(z)
        rest = np.real(z[0]) * np.imag(np.sum(z)) + np.abs(np.fft.fft(x)[1]) ** 2
        return np.sum(np.abs(spectrum) ** 2) + rest

    assert_agree(loops, plain, X)
