"""The recorder of loops: what is on the tape computes what the user's function computes."""

import math

import numpy as np
import pytest
from numba import njit, prange

from nbhvp.graph.tape import FIRST
from nbhvp.trace.loops import Output, record_tape

x = np.array([0.7, -1.3, 2.1, 0.4, 1.9, -0.6])
matrix = np.arange(12.0).reshape(3, 4) / 7 - 0.5


def replay(tape):
    """The values of all records, computed anew from inputs and constants by the primitives."""
    values = np.zeros(tape.codes.size)
    for i, (code, a, b) in enumerate(zip(tape.codes, tape.first, tape.second, strict=True)):
        if code < FIRST:
            values[i] = tape.values[i]
            continue
        assert a < i and b < i
        entry = tape.primitives[code - FIRST]
        arity = 2 if "{y" in str(entry.source) else 1
        with np.errstate(all="ignore"):
            values[i] = entry.evaluate(*(values[k] for k in (a, b)[:arity]))
    return values


def plain(function):
    """Run as Python: an oracle that shares no code with what is tested, and needs no compiler."""
    return getattr(function, "py_func", function)


def outputs(result, values):
    if isinstance(result, Output):
        return values[result.positions].reshape(result.shape)
    return tuple(outputs(item, values) for item in result)


def check(function, *args, rtol=1e-14):
    """Replay the tape of a function; compare with what it returns, plain."""
    run = record_tape(function, args)
    tape = run.tape
    values = replay(tape)
    np.testing.assert_allclose(tape.values, values, rtol=1e-13, atol=1e-300)
    copies = [np.array(arg) if isinstance(arg, np.ndarray) else arg for arg in args]
    compare(outputs(run.result, values), plain(function)(*copies), rtol)
    check_guards(tape, values)
    return run


def compare(found, expected, rtol):
    if isinstance(expected, tuple | list):
        assert len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            compare(*pair, rtol)
    else:
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-15)
        assert np.shape(found) == np.shape(expected)


def check_guards(tape, values):
    guards = tape.guards
    for code, a, b, outcome in zip(
        guards.codes, guards.first, guards.second, guards.outcomes, strict=True
    ):
        entry = tape.primitives[code - FIRST]
        arity = 2 if "{y" in str(entry.source) else 1
        assert entry.evaluate(*(values[k] for k in (a, b)[:arity])) == outcome


def rosenbrock(x):
    s = 0.0
    for i in range(x.size - 1):
        s += 100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2
    return s


def integer_start(x):
    s = 0
    for v in x:
        s = s + v * v
    return s


def branches(x):
    s = 1.0
    for v in x:
        if v > 0 and v < 2.0:
            s *= v
        elif not (v < -1):
            s -= v
        else:
            s += 3
    return s if s > 0 else -s


def two_arrays(x):
    y = np.zeros(x.size)
    z = np.empty_like(x)
    for i, v in enumerate(x):
        y[i] += v * v
        z[i] = y[i] * x[-1 - i]
    return y, z, np.ones(3), y.sum() + np.sum(z)


def stencil(x):
    u = np.empty((3, x.size))
    u[0] = x
    for t in range(2):
        for i in range(x.size):
            u[t + 1, i] = u[t, i] + 0.1 * (u[t, i - 1] - 2 * u[t, i] + u[t, (i + 1) % x.size])
    return u[2]


def newton(x):
    r = 1.0
    while abs(r * r - x[2]) > 1e-12:
        r = r - (r * r - x[2]) / (2 * r)
    return r


def lists(x):
    items = []
    for v in x:
        items.append(v * 2)
    items.append(0.0)
    pair = [0.0, 0.0]
    for v in items:
        pair[0] += v
        pair[1] = pair[0] * v
    return pair


def comprehension(x):
    row = [0.0 for _ in range(3)]
    row[1] = x[0]
    squares = np.array([v * v for v in x])
    return row, squares


def tuples(x):
    state = (0.0, 1.0)
    for v in x:
        state = (state[0] + v, state[1] * v)
    a, b = state
    return a - b, state


def indices(x):
    k = int(x[2])
    j = math.floor(x[4])
    n = round(x[0])
    return x[k] * x[j] + n + np.int64(x[2]) + float(x[0]) + np.float64(x[1])


def extrema(x):
    m = x[0]
    for v in x:
        m = max(m, v)
    return m + min(x[0], x[1], 0.3) + np.max(x) * np.min(x) + x.max() - x.min() + abs(x[1])


def arrays(x):
    y = np.exp(x) + 2.0 * x - x / 3
    y[1:] += y[:-1] * x[0]
    z = -(y**2) + np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    z *= 0.5
    return z, np.sqrt(np.abs(z)).mean(), (z > 0).sum()


def broadcasting(a):
    row = a[0]
    column = a[:, 1].copy()
    return a * row + column.reshape((3, 1)), a.T @ column, a.sum(axis=0), a.sum(1), a.mean()


def products(a):
    v = a[0] + 1
    return a @ v, np.dot(v, v), v @ v, a @ a.T, np.dot(a.T, a[:, 0]), np.outer(a[0], v)


def shapes(a):
    b = a.reshape(4, 3)
    c = a.ravel()
    d = a.flatten()
    d[0] = 7.0
    return b[1:, ::2], c[::-1], d, a.T, a.size + a.ndim + a.shape[0] + len(a)


def moments(x):
    return np.prod(x), np.var(x), x.std(), np.cumsum(x), np.argmax(x) * x[0], np.linalg.norm(x)


def modulo(x):
    return x[1] % 1.5, x[2] // 0.5, divmod(x[4], 0.7)


def scalar_functions(x):
    return np.square(x[0]), np.clip(x[1], -1.0, 1.0), np.where(x[0] > 0, x[0], x[1]), np.sign(x[1])


@njit
def helper(v, out):
    for i in range(v.size):
        out[i] = v[i] ** 3
    return out


@njit
def fibonacci(n, a):
    if n < 2:
        return a
    return fibonacci(n - 1, a) + a * fibonacci(n - 2, a)


def calls(x):
    return helper(x, np.zeros(x.size)), fibonacci(5, x[0])


weights = np.array([0.5, 1.5, 2.5, -0.5, 0.1, 0.9])


def closed_over(x):
    def inner(i):
        return weights[i] * x[i]

    s = 0.0
    for i in range(x.size):
        s += inner(i)
    return s


def loops(x):
    s = 0.0
    for a, b in zip(x, x[1:]):  # noqa: B905 numba knows no strict
        if a * b > 3:
            break
        if a < 0:
            continue
        s += a * b
    for i in prange(x.size):
        s += x[i]
    return s


def bubble(x):
    y = x.copy()
    for i in range(y.size):
        for j in range(y.size - 1 - i):
            if y[j] > y[j + 1]:
                y[j], y[j + 1] = y[j + 1], y[j]
    return y[2]


def constant(x):
    return 3.0, 2, np.zeros(2), x[0]


FUNCTIONS = [
    rosenbrock, integer_start, branches, two_arrays, stencil, newton, lists, comprehension, tuples,
    indices, extrema, arrays, moments, modulo, scalar_functions, calls, closed_over, loops,
    bubble, constant,
]  # fmt: skip
MATRICES = [broadcasting, products, shapes]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_the_tape_computes_the_function(function):
    check(njit(function), x)


@pytest.mark.parametrize("function", MATRICES, ids=lambda f: f.__name__)
def test_the_tape_computes_functions_of_matrices(function):
    check(njit(function), matrix)
