"""Squares of lengths in loops, rolled and swept: those of the same function in plain Python."""

import math
from dataclasses import replace

import numpy as np
import pytest
from numba import njit

import nbhvp
from nbhvp.graph.derive import EXACT_MODES
from nbhvp.graph.table import tape_squares
from nbhvp.loops.roll import costs

pytestmark = pytest.mark.compiles

norm = np.linalg.norm
X = np.array([[0.0, 0.0], [0.3, -0.4], [0.0, 0.0], [1.0, 0.2]])
V = np.array([[1.0, 2.0], [-1.0, 0.5], [3.0, -2.0], [0.7, 1.0]])


@njit
def squares(row):
    r = norm(row)
    total = r**2 + np.std(row) ** 2
    total += math.sqrt(row[0] * row[0] + row[1] ** 2) ** 2
    total += 0.5 * 3.0 * r * r - (r / 3.0) ** 2 / 2.0
    total += (2.0 * math.hypot(row[0], row[1])) ** 2
    total += math.hypot(row[0], row[1]) ** 4 + r**4
    size = np.abs(row[1])
    return total + abs(row[0]) ** 2 + size * size


def plain_squares(row):
    s = row @ row
    return (1 + 1 + 1.5 - 1 / 18 + 4 + 1) * s + np.var(row) + 2 * s**2


def summed(square):
    def loop(x):
        total = 0.0
        for i in range(x.shape[0]):
            total += square(x[i])
        return total

    return loop


def recurrence(square, sin=math.sin):
    def loop(x):
        s = 0.1
        for _ in range(20):
            for i in range(x.shape[0]):
                s = 0.9 * s + 0.1 * sin(s) * square(x[i])
        return s

    return loop


def uneven(square, sin=math.sin):
    def loop(x):
        s = 0.1
        for t in range(20):
            for i in range(x.shape[0]):
                s = 0.9 * s + 0.1 * sin(s) * square(x[i])
                if (t * t + i) % 11 < 4:
                    s = 0.99 * s
        return s

    return loop


FORMS = pytest.mark.parametrize("form", [summed, recurrence, uneven], ids=lambda f: f.__name__)
"""Loops that become arrays, loops over time, and loops that are swept."""


@FORMS
def test_squares(form, monkeypatch):
    dear = replace(costs.CPU, record=1.0)
    monkeypatch.setattr(costs, "CPU", dear)  # whatever can be arrays is
    f = nbhvp.differentiable(njit(form(squares)), target="interpret")
    sin = [] if form is summed else [np.sin]
    plain = nbhvp.differentiable(form(plain_squares, *sin), target="interpret")
    assert f(X) == pytest.approx(plain(X), rel=1e-12)
    (call,) = f.report().loops
    assert call.is_rolled == (form is not uneven)
    assert len(call.recurrences) == (form is recurrence)
    np.testing.assert_allclose(f.grad(X), plain.grad(X), rtol=1e-11, atol=1e-13)
    for mode in EXACT_MODES:
        np.testing.assert_allclose(f.hvp(X, V, mode=mode), plain.hvp(X, V), 1e-11, 1e-13)


@FORMS
def test_other_functions_have_no_second_derivative(form):
    """The convention of the first one is that of NumPy's form."""
    f = nbhvp.differentiable(njit(form(njit(lambda row: np.cosh(norm(row))))), target="interpret")
    gradient, product = f.grad(X), f.hvp(X, V)
    assert (gradient[::2] == 0).all()
    assert np.isnan(product[::2]).all()
    assert np.isfinite(product[1::2]).all()


@pytest.mark.no_cover
def test_compiled_sweep():
    f = nbhvp.differentiable(njit(uneven(squares)))
    needed = nbhvp.differentiable(njit(uneven(squares)), target="interpret")
    np.testing.assert_allclose(f.hvp(X, V), needed.hvp(X, V), rtol=1e-11, atol=1e-13)
    assert not f.report().loops[0].is_rolled


def test_long_tapes_are_looked_at_where_a_length_is_zero(monkeypatch):
    """Elsewhere lengths stay, and a product where one becomes 0 is NaN: never the zero of a root."""
    monkeypatch.setattr(tape_squares, "FEW_RECORDS", 0)
    loop = njit(uneven(squares))
    plain = nbhvp.differentiable(uneven(plain_squares, np.sin), target="interpret")
    near = X + np.array([0.25, 0.15])
    for first, x in ((X, X), (near, near), (near, X)):
        f = nbhvp.differentiable(loop, target="interpret")
        f(first)
        product = f.hvp(x, V)
        if first is x:
            np.testing.assert_allclose(product, plain.hvp(x, V), rtol=1e-11, atol=1e-13)
        else:
            assert np.isnan(product[::2]).all()
