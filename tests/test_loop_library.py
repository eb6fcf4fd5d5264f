"""What loops may call beside arithmetic: linear algebra, numerics, complex numbers, classes.

The oracle is the same source followed as a function of NumPy, with its loops unrolled: another
front end, whose rules are other ones. Many results are packed into each function, since compiling is
what these tests cost.
"""

import cmath
import itertools
import math
import types
import warnings
from collections import namedtuple

import numpy as np
import pytest
from numba import cfunc, float64, guvectorize, int64, njit, objmode, stencil, typed, vectorize
from numba.experimental import jitclass

import nbhvp

X = np.array([0.7, -0.4, 1.3, 0.2, -1.1, 0.9])
CONSTANT = np.array([[2.0, 0.3, -0.4], [0.1, 1.5, 0.2], [0.3, -0.2, 1.8]])
KNOTS = np.array([-2.0, -1.0, 0.5, 2.0])
WEIGHTS = np.array([0.2, 0.5, 0.3])


def assert_same(loops, plain, x):
    """The same values, Jacobian and weighted Hessian."""
    f = nbhvp.differentiable(loops, loops=True, target="interpret")
    g = nbhvp.differentiable(plain, loops=False, target="interpret")
    needed = g(x)
    w = np.cos(np.arange(np.size(needed)))
    np.testing.assert_allclose(f(x), needed, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(
        f.jacobian(x).toarray(), g.jacobian(x).toarray(), rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(
        f.weighted_hessian(x, w).toarray(),
        g.weighted_hessian(x, w).toarray(),
        rtol=1e-9,
        atol=1e-11,
    )
    assert f.report().loops and not g.report().loops


@njit
def matrix(x, n):
    a = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            a[i, j] = math.sin(x[i] + 2.0 * x[j] * (i + 1)) + (2.0 if i == j else 0.0)
    return a


@njit
def solves(x):
    a = matrix(x, 3)
    out = [0.0]
    for n in range(1, 6):
        b = matrix(x, n)
        sign, size = np.linalg.slogdet(b)
        out.append(np.linalg.det(b) + sign * size)
    inverse = np.linalg.inv(a)
    for x_i in np.linalg.solve(a, x[:3]):
        out.append(x_i)
    factor = np.linalg.cholesky(a @ a.T)
    power = np.linalg.matrix_power(a, -3) + np.linalg.matrix_power(a, 2)
    for i in range(3):
        out.append(inverse[i, 0] * inverse[2, i])
        out.append(factor[i, 0] * factor[2, i] + power[i, 1])
    return out


@njit
def products(x):
    a, p, q = matrix(x, 3), x[:3].copy(), x[3:].copy()
    out = [np.trace(a), np.trace(a, 1), np.vdot(p, q), np.outer(p, q)[2, 1], np.dot(a, p)[0]]
    for i in range(3):
        out.append(np.cross(p, q)[i] * np.cross(a, CONSTANT)[i, 1])
    for order in (1.0, 2.0, 3.0, np.inf, -np.inf):
        out.append(np.linalg.norm(x, order))
    for order in (1.0, -1.0, np.inf, -np.inf):
        out.append(np.linalg.norm(a, order))
    b = np.zeros((3, 3))
    np.fill_diagonal(b, x[0])
    return out + [np.linalg.norm(x), np.linalg.norm(a), b[1, 1] * b[0, 1]]


@njit
def sequences(x):
    k = WEIGHTS * x[0]
    out = [0.0]
    for made in [
        np.linspace(x[0], x[1], 4),
        np.convolve(x, k),
        np.convolve(WEIGHTS, x, "same"),
        np.convolve(x, k, "valid"),
        np.correlate(x, k),
        np.correlate(k, x, "full"),
        np.correlate(x, WEIGHTS, "same"),
        np.append(x, k),
        np.append(x, x[0] * x[1]),
        np.ediff1d(x),
        np.unwrap(5.0 * x),
        np.stack((x, x * x)).ravel(),
        np.sinc(x),
        np.sinc(1e-3 * x),
        np.nan_to_num(x),
        np.bincount(np.array([0, 1, 3, 0, 1, 3]), x),
    ]:
        for i in range(made.size):
            out.append(made[i] * (i + 1.0))
    return out


@njit
def statistics(x):
    y = x.copy()
    y[2] = np.nan
    rows = (x * x[0]).reshape(2, 3)
    out = [np.percentile(x, 30.0), np.quantile(x, 0.7), np.median(x), np.ptp(x), np.average(x)]
    for made in (
        np.interp(x, KNOTS, KNOTS**2),
        np.interp(np.array([-3.0, -0.3, 0.4, 9.0]), np.linspace(-1.0, 2.0, 6), x),
        np.percentile(x, np.array([10.0, 50.0, 100.0])),
        np.cov(rows).ravel(),
    ):
        for value in made:
            out.append(value)
    for i in range(3):
        out.append(np.interp(x[i], KNOTS, KNOTS**2) ** 2)
        out.append(x[i] * np.searchsorted(KNOTS, x[i]))
        out.append(x[i] * np.searchsorted(KNOTS, x, "right")[i] * np.digitize(x, KNOTS)[i])
        if np.isclose(x[i], 0.2) or np.isclose(x, 1.3)[i]:
            out.append(x[i] ** 2)
    return out + [np.nansum(y), np.nanmax(y), np.nanmedian(y), np.sum(np.nan_to_num(y))]


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
        if z != w and not z == c + 1.0:
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
    solved = np.linalg.solve(rotation, b[:2])
    out += [np.linalg.det(rotation).real, solved[0].imag, np.mean(b * np.conj(a)).real]
    for k in range(n):
        out += [np.abs(a)[k], b.real[k], b.imag[k] * np.angle(b)[k], np.abs(b[k]) ** 2]
    return out


PACKS = [
    solves, products, sequences, statistics, complex_arithmetic, complex_functions, complex_arrays,
]  # fmt: skip


def in_numpy(function):
    """The Python source of a function, with NumPy's functions in the place of cmath's."""
    source = function.py_func
    scope = {**source.__globals__, "cmath": NUMPYS}
    return types.FunctionType(source.__code__, scope, source.__name__)


NUMPYS = types.SimpleNamespace(
    **{name: getattr(np, name) for name in "exp log sqrt sin cos tan sinh cosh tanh".split()},
    phase=np.angle,
    polar=lambda z: (np.abs(z), np.angle(z)),
    rect=lambda size, angle: size * np.exp(1j * angle),
)


@pytest.mark.parametrize("function", PACKS, ids=lambda f: f.__name__)
def test_loops_and_the_same_source_in_numpy(function):
    assert_same(function, in_numpy(function), X)
