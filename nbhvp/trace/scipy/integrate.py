"""Integrals of samples: the trapezoidal rule and Simpson's, whole and cumulative.

With steps h and k between three neighbours, the parabola through a, b, c has over the first step
the integral

    h/6 (a (3 - h/(h+k)) + b (3 + h^2/(k (h+k)) + h/(h+k)) - c h^2/(k (h+k))),

and over both steps the sum of this and its mirror image (Cartwright, Simpson's rule cumulative
integration, J. Math. Sci. Math. Educ. 12, 2017). The points may depend on x, as the values may.
"""

import numpy as np
import scipy.integrate
from numpy.lib.array_utils import normalize_axis_index

from nbhvp.trace.answers import answers, refuses
from nbhvp.trace.arrays import lift
from nbhvp.trace.numpy.elementwise import floating
from nbhvp.trace.numpy.manipulation.shapes import (
    broadcast_to,
    concatenate,
    moveaxis,
    reshape,
    stack,
)
from nbhvp.trace.numpy.reductions import sum_
from nbhvp.trace.numpy.sequences import cumsum, steps, trapezoids

__all__: list[str] = []


@answers(scipy.integrate.cumulative_trapezoid)
def cumulative_trapezoid(y, x=None, dx=1.0, axis=-1, initial=None):
    result = cumsum(trapezoids(lift(y), x, dx, axis), axis)
    if initial is None:
        return result
    if initial != 0:
        raise ValueError("`initial` must be `None` or `0`.")
    return _begun(result, 0.0, axis)


def _begun(result, first, axis):
    axis = normalize_axis_index(axis, result.ndim)
    shape = (*result.shape[:axis], 1, *result.shape[axis + 1 :])
    return concatenate([broadcast_to(first, shape), result], axis)


def _first_step(a, b, c, h, k):
    """The integral over the first of two steps, of the parabola through three points."""
    ratio = h / (h + k)
    square = ratio * h / k
    return h / 6 * ((3 - ratio) * a + (3 + square + ratio) * b - square * c)


def _rows(y, x, dx, axis):
    """The values with their axis last, and as many steps as there are between them."""
    y = floating(lift(y))
    axis = normalize_axis_index(axis, y.ndim)
    n = y.shape[axis]
    h = steps(y, x, dx, axis)
    h = broadcast_to(h, (*y.shape[:axis], n - 1, *y.shape[axis + 1 :]))
    return moveaxis(y, axis, -1), moveaxis(h, axis, -1)


@answers(scipy.integrate.simpson)
def simpson(y, x=None, *, dx=1.0, axis=-1):
    """By pairs of steps; of an odd number of steps the last one has the parabola before it."""
    y, h = _rows(y, x, dx, axis)
    n = y.shape[-1]
    if n == 2:
        return h[..., 0] * (y[..., 0] + y[..., 1]) / 2
    end = n - 1 if n % 2 else n - 2
    total = _pairs_of_steps(y[..., : end + 1], h[..., :end])
    if n % 2 == 0:
        total = total + _first_step(y[..., -1], y[..., -2], y[..., -3], h[..., -1], h[..., -2])
    return total


def _pairs_of_steps(y, h):
    a, b, c = y[..., 0:-2:2], y[..., 1:-1:2], y[..., 2::2]
    h, k = h[..., 0::2], h[..., 1::2]
    return sum_(_first_step(a, b, c, h, k) + _first_step(c, b, a, k, h), -1)


@answers(scipy.integrate.cumulative_simpson)
def cumulative_simpson(y, *, x=None, dx=1.0, axis=-1, initial=None):
    rows, h = _rows(y, x, dx, axis)
    n = rows.shape[-1]
    if n < 3:
        return cumulative_trapezoid(y, x, dx, axis, initial)
    result = moveaxis(cumsum(_single_steps(rows, h), -1), -1, axis)
    if initial is None:
        return result
    return _begun(result + initial, initial, axis)


def _single_steps(y, h):
    """The integral over each step: even ones begin a parabola, odd ones and the last end one."""
    three = y[..., :-2], y[..., 1:-1], y[..., 2:]
    begins = _first_step(*three, h[..., :-1], h[..., 1:])
    ends = _first_step(*three[::-1], h[..., 1:], h[..., :-1])
    pairs = stack([begins[..., ::2], ends[..., ::2]], -1)
    woven = reshape(pairs, (*h.shape[:-1], -1))
    return woven if h.shape[-1] % 2 == 0 else concatenate([woven, ends[..., -1:]], -1)


@answers(scipy.integrate.romb)
def romb(y, dx=1.0, axis=-1, show=False):
    """A weighted sum, with the weights that SciPy's own gives to each sample."""
    y = moveaxis(floating(lift(y)), axis, -1)
    weights = scipy.integrate.romb(np.eye(y.shape[-1]), axis=0)
    return np.dot(y, weights) * dx


refuses(
    "odeint",
    "solve_ivp",
    within="scipy.integrate",
    why="its steps are adaptive, so they depend on x",
    instead="write the loop over fixed steps, for _ in range(steps): u = runge_kutta(u), which is compiled as "
    "one loop (docs/time_stepping.md)",
    is_final=True,
)
refuses(
    "quad",
    within="scipy.integrate",
    why="its steps are adaptive, so they depend on x",
    instead="use fixed_quad or a method with fixed steps, or give it a rule (nbhvp.custom_jvp)",
)
