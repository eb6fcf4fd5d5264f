"""Gradients and products of Hessians by mpmath: differences at 60 digits, right to 1e-14.

One-sided differences are enough: their error is that of the step, 1e-15 of the next derivative. Each
derivative is a number, along one or two directions without zeros: four values of a function then do
for any number of variables, and an entry that is wrong shows all the same.
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


def oracle(function: Callable, x, v, w) -> tuple[float, float, float]:
    """Value, derivative along w and second derivative along v and w of a function of a matrix (or
    column) of mpmath."""
    with mp.workdps(DIGITS):
        point, along_v, along_w = exact(x), STEP * exact(v), STEP * exact(w)
        here, there, beside = map(function, (point, point + along_v, point + along_w))
        slope = (beside - here) / STEP
        bend = (function(point + along_v + along_w) - beside - there + here) / STEP**2
        return float(here), float(slope), float(bend)


def check_against(function: Callable, f, fun: Callable, x, v) -> None:
    """Value, gradient, product and a batch of products of f, made of fun, against mpmath's."""
    w = WEIGHTS[: x.size].reshape(x.shape)
    value, slope, bend = oracle(function, x, v[..., 0], w)
    assert np.isclose(f(x), fun(x), rtol=1e-12, atol=1e-13)
    assert np.isclose(f(x), value, rtol=1e-12, atol=1e-13)
    found = f.hvp(x, v)
    scale = max(1.0, np.abs(found[..., 0]).max())
    assert np.isclose(np.vdot(w, f.grad(x)), slope, rtol=1e-10, atol=1e-11 * scale)
    assert np.isclose(np.vdot(w, found[..., 0]), bend, rtol=1e-9, atol=1e-11 * scale)
    for k in range(v.shape[-1]):
        one = f.hvp(x, np.ascontiguousarray(v[..., k]))
        np.testing.assert_allclose(found[..., k], one, rtol=1e-12, atol=1e-13 * scale)
