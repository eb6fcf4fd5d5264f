"""Gradients and products of Hessians by mpmath: differences at 60 digits, right to 1e-14.

One-sided differences are enough: their error is that of the step, 1e-15 of the next derivative.
"""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import numpy as np

__all__ = ["check_against", "exact", "mp_weighted", "oracle", "weighted"]

mp = mpmath.mp
WEIGHTS = np.cos(1.0 + np.arange(64))
DIGITS, STEP = 60, mpmath.mpf(10) ** -15


def weighted(z):
    """A real number from an array, complex or not."""
    flat = np.ravel(z)
    weights = WEIGHTS[: flat.size]
    return np.sum(weights * np.real(flat)) + np.sum(weights[::-1] * np.imag(flat))


def mp_weighted(z):
    """The same of a matrix of mpmath or a list of numbers."""
    flat = [q for row in z.tolist() for q in row] if isinstance(z, mp.matrix) else list(z)
    n = len(flat)
    real = mp.fsum(mp.mpf(WEIGHTS[k]) * mp.re(flat[k]) for k in range(n))
    return real + mp.fsum(mp.mpf(WEIGHTS[n - 1 - k]) * mp.im(flat[k]) for k in range(n))


def exact(array):
    """A NumPy array as a matrix of mpmath, a vector as a column."""
    array = np.atleast_2d(np.asarray(array).T).T
    return mp.matrix(array.astype(object).tolist())


def oracle(function: Callable, x, v):
    """The value, gradient and product of a function of a matrix (or column) of mpmath."""
    with mp.workdps(DIGITS):
        point, gradient, product = exact(x), np.empty(x.shape), np.empty(x.shape)
        ahead = point + STEP * exact(v)
        here, there = function(point), function(ahead)
        for index in np.ndindex(x.shape):
            e = mp.zeros(point.rows, point.cols)
            e[index if x.ndim == 2 else index[0]] = STEP
            beside = function(point + e)
            gradient[index] = (beside - here) / STEP
            product[index] = (function(ahead + e) - beside - there + here) / STEP**2
        return float(here), gradient, product


def check_against(function: Callable, f, fun: Callable, x, v) -> None:
    """Value, gradient, product and a batch of products of f, made of fun, against mpmath's."""
    value, gradient, product = oracle(function, x, v[..., 0])
    scale = max(1.0, np.abs(product).max())
    assert np.isclose(f(x), fun(x), rtol=1e-12, atol=1e-13)
    assert np.isclose(f(x), value, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(f.grad(x), gradient, rtol=1e-10, atol=1e-11 * scale)
    found = f.hvp(x, v)
    np.testing.assert_allclose(found[..., 0], product, rtol=1e-9, atol=1e-11 * scale)
    for k in range(v.shape[-1]):
        one = f.hvp(x, np.ascontiguousarray(v[..., k]))
        np.testing.assert_allclose(found[..., k], one, rtol=1e-12, atol=1e-13 * scale)
