"""Loops over independent runs, and steps that go several ways, against hyper-dual numbers."""

import numpy as np
import pytest
from numba import njit, prange

import nbhvp
from tests.hyperduals import derivatives

RNG = np.random.default_rng(3)
X = RNG.random((12, 30)) - 0.5
Y = RNG.random(60)
SEEN = (RNG.random(60) > 0.3).astype(np.int64)
W = np.array([0.3, 0.5])


def sum_within(w, x):
    s = 0.0
    for i in range(x.shape[0]):
        u = w[0]
        for k in range(x.shape[1]):
            u = u + 0.1 * (w[1] * np.tanh(u) + x[i, k])
            s += u * u
    return s


def sum_behind(w, x):
    s = 0.0
    for i in prange(x.shape[0]):
        u, v = w[0], 1.0
        for k in range(x.shape[1]):
            u, v = u + 0.1 * (w[1] * np.sin(v) + x[i, k]), v + 0.1 * u
        s += u * u * v
    return s


def own_parameters(w, x):
    s = 0.0
    for i in range(x.shape[0]):
        u = w[i]
        for k in range(x.shape[1]):
            u = u + 0.1 * (w[i + 1] * np.tanh(u) + x[i, k] * w[0])
        s += (u - w[i]) ** 2
    return s


def results_kept(w, x):
    out = np.zeros((x.shape[0], x.shape[1] + 1))
    for i in range(x.shape[0]):
        out[i, 0] = w[0] * i
        for k in range(x.shape[1]):
            out[i, k + 1] = out[i, k] * 0.9 + 0.1 * np.tanh(w[1] * out[i, k] + x[i, k])
    s = 0.0
    for i in range(x.shape[0]):
        for k in range(x.shape[1]):
            s += out[i, k] ** 2 * out[i, k + 1]
    return s


def two_lags(w, x):
    s = 0.0
    for i in range(x.shape[0]):
        a, b, c = w[0], w[1], 0.1 * i
        for k in range(x.shape[1]):
            a, b, c = 0.3 * a + 0.2 * b * np.sin(c) + x[i, k], a, b
        s += a * b * c
    return s


def vectors(w, x):
    s = 0.0
    for i in range(x.shape[0]):
        u = np.zeros(3)
        u[0] = w[0]
        for k in range(x.shape[1]):
            for j in range(3):
                u[j] = u[j] + 0.1 * (np.tanh(w[1] * u[(j + 1) % 3]) + x[i, k])
        s += u[0] * u[1] * u[2]
    return s


def two_ways(w, x):
    s = 0.0
    for i in range(x.shape[0]):
        u = w[0]
        for k in range(x.shape[1]):
            if x[i, k] > 0:
                u = 0.9 * u + w[1] * np.sqrt(x[i, k]) * np.tanh(u)
            else:
                u = u - 0.1 * u * u * w[0]
            s += u * u
    return s


def outside_the_domain(w, y):
    """The other way has no value where this one is gone."""
    u, s = w[0], 0.0
    for k in range(y.size):
        if y[k] > 0.5:
            u = 0.9 * u + w[1] * np.log(y[k] - 0.5) * 0.1 * np.tanh(u)
        else:
            u = u - 0.1 * u * u * w[0] * np.sqrt(0.5 - y[k])
        s += u * u
    return s


def missing(w, y, seen):
    m, variance, s = w[0], 1.0, 0.0
    for k in range(y.size):
        m = 0.95 * m
        variance = 0.9 * variance + w[1] ** 2
        if seen[k] == 1:
            total, e = variance + 0.1, y[k] - m
            s += np.log(total) + e * e / total
            gain = variance / total
            m = m + gain * e
            variance = (1 - gain) * variance
    return s


def regimes(w, y, kinds):
    u, s = w[0], 0.0
    for k in range(y.size):
        if kinds[k] == 0:
            u = u + 0.1 * w[1] * y[k]
        elif kinds[k] == 1:
            u = 0.5 * u * u + np.exp(-u) * 0.1
        else:
            u = np.sin(u) * w[1]
        s += u * y[k]
    return s


def resets(w, y, kinds):
    u, s = w[0], 0.0
    for k in range(y.size):
        if kinds[k] == 0:
            u = 0.2
        u = 0.9 * u + w[1] * np.tanh(u * y[k])
        s += u * u
    return s


def irregular(w, x, ends):
    s = 0.0
    for i in range(ends.size - 1):
        u = w[0]
        for k in range(ends[i], ends[i + 1]):
            u = 0.9 * u + w[1] * np.tanh(u) * x[k]
        s += u * u
    return s


def triangular(w, x):
    s = 0.0
    for i in range(x.size):
        u = w[0]
        for k in range(i):
            u = 0.9 * u + w[1] * np.tanh(u) * x[k]
            s += u
    return s


KINDS = RNG.integers(0, 3, 60)
CASES = [
    (sum_within, W, X),
    (sum_behind, W, X),
    (own_parameters, RNG.random(13), X),
    (results_kept, W, X),
    (two_lags, W, X),
    (vectors, W, X),
    (two_ways, W, X),
    (outside_the_domain, W, Y),
    (missing, W, Y, SEEN),
    (regimes, W, Y, KINDS),
    (resets, W, RNG.random(200), RNG.integers(0, 3, 200)),
    (irregular, W, RNG.random(400), np.cumsum(np.append(0, RNG.integers(3, 30, 20)))),
    (triangular, W, Y[:40]),
]


@pytest.mark.parametrize(("function", "w", "args"), [(f, w, a) for f, w, *a in CASES])
def test_lanes(function, w, args):
    """They become one node, whose derivatives are right at two points."""
    f = nbhvp.differentiable(njit(function), target="interpret")
    v = np.linspace(-1.0, 2.0, w.size)
    for x in (w, 1.03 * w):
        value, gradient, product = derivatives(function, x, v, *args)
        np.testing.assert_allclose(f(x, *args), value, 1e-12)
        np.testing.assert_allclose(f.grad(x, *args), gradient, 1e-11, 1e-13 * abs(gradient).max())
        np.testing.assert_allclose(f.hvp(x, v, *args), product, 1e-11, 1e-12 * abs(product).max())
    (call,) = f.report().loops
    assert call.is_rolled
    assert len(call.recurrences) == 1


def each_after_the_other(w, x):
    u = w[0]
    for i in range(x.shape[0]):
        for k in range(i):
            u = np.sin(u) + x[i, k]
        u = w[1] * u * u
    return u


def test_runs_that_need_each_other_are_swept():
    f = nbhvp.differentiable(njit(each_after_the_other), target="interpret")
    _, _, product = derivatives(each_after_the_other, W, W, X)
    np.testing.assert_allclose(f.hvp(W, W, X), product, 1e-11)
    (call,) = f.report().loops
    assert "computed by other runs" in str(call)
