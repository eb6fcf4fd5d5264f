"""Calls that were made before are applied again without their rules, with the same results.

The oracle is a trace whose pool keeps lines, where each call goes the general way.
"""

import numpy as np
import pytest
import scipy.linalg

from nbhvp.errors import TraceError
from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph
from nbhvp.trace.answers import Answer
from nbhvp.trace.record import record
from nbhvp.trace.recording import LinedPool

T = 12
A = np.random.default_rng(0).normal(size=(3, 3)) / 3 + np.eye(3)
WAVES = np.random.default_rng(1).normal(size=(2 * T, 3))


def solve(z, k):
    return np.tanh(np.linalg.solve(A + 0.1 * z[:, None] * z, z) + WAVES[k])


def matrices(z, k):
    m = np.stack([z, z**2, np.roll(z, 1)]) @ A.T + np.eye(3) * z
    return 0.3 * (m @ z) + np.linalg.det(m) * 0.01 + scipy.linalg.inv(A + m.T @ m) @ z


def joins(z, k):
    both = np.concatenate([z[:2], np.exp(-z * z)])
    return np.sort(both)[1:4] * 0.5 + np.cumsum(z) * 0.1 - np.max(both) * 0.1 + z[::-1] * 0.2


def methods(z, k):
    return (
        (z - z.mean()) / (1.0 + z.std() + z.dot(z))
        + z.cumsum().clip(-1, 1)
        + z.reshape(3, 1).sum(1)
    )


def choices(z, k):
    return np.where(z > 0, np.sqrt(np.abs(z)), z * z) + np.maximum(z, 0.1) - np.linalg.norm(z)


def parameters(z, k):
    """The parameters of a call are others in each step, in turn or always."""
    return np.roll(z, k % 3) * 0.9 + np.power(np.abs(z) + 1, 1 + k % 2) * 0.1 + np.full(3, 0.1 * k)


def arrays_of_parameters(z, k):
    """Axes and shifts in arrays, which are others in each step."""
    axis, square = np.array(k % 2), np.outer(z, z)
    joined = np.concatenate([square, A], axis=axis).ravel() + np.stack([A, square], axis).ravel()
    return 0.1 * joined[3:6] + 0.3 * np.roll(z, axis) + 0.1 * np.sum(square, axis=axis)


def kinds(z, k):
    """Integers, truths, single precision, numbers of Python and of NumPy."""
    small = np.float32(1.5) * z.astype(np.float32) + 2
    return 0.5 * z + small * 0.1 + (z > 0.2) * 3 + np.float64(0.3) * z - 1 / (2 + z * z)


def layouts(z, k):
    """A view of an array in C's order, a copy of one in Fortran's: only one write is seen."""
    square = np.outer(z, z) + A
    one, other = np.ravel(square), np.ravel(square.T)
    one[0], other[1] = z[1], z[2]
    return square[0] * 0.1 + other[:3] * 0.2 + one[3:6] * 0.3


def writes(z, k):
    u = np.zeros(5)
    kept = u
    u[1:4] = z
    u[1:-1] += 0.1 * (u[2:] - u[:-2])
    before, mask, same = u.copy(), u > 0.1, u.reshape(5)
    u *= 0.9
    same[2] = u[1]
    return kept[1:4] + 0.1 * before[:3] * u[2:] + np.where(mask, u, 0.1)[1:4]


def tuples(z, k):
    """Results that are several arrays."""
    sign, size = np.linalg.slogdet(z[:, None] * z + A)
    return np.tanh(sign * size * z + WAVES[k])


def backwards(z, k):
    """What is read of what was written, in another order or in parts."""
    u = np.zeros((3, 4))
    u[:, 1] = z
    u[::-1, 2] = 2 * z
    u[0] = np.tanh(u[:, 1].sum() + u[2])
    u[1:, ::2] *= 1.1
    return 0.3 * (u[::-1, 1] + u[:, 2][::-1]) + 0.1 * u[0, 1:] + 0.1 * u[1, ::-1][:3]


STEPS = [
    solve, matrices, joins, methods, choices, parameters, arrays_of_parameters, kinds, layouts, writes,
    tuples, backwards,
]  # fmt: skip


def walk(step, steps=T):
    def fun(x):
        z = x
        for k in range(steps):
            z = step(z, k)
        return np.sum(z * z)

    return fun


def graph_of(trace):
    (x,), (value,) = trace.inputs, trace.outputs
    v = p.input_node(trace.pool, "v", x.shape, x.dtype)
    found = value, derive.gradient(value, x), derive.hvp(value, x, v)
    return Graph((x, v), (*(node for node, _ in trace.guards), *found))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_later_calls_are_as_the_first(step):
    x, v = np.array([0.3, -0.2, 0.5]), np.array([1.0, 0.4, -0.7])
    fun = walk(step)
    again, general = record(fun, x), record(fun, x, pool=LinedPool())
    for trace in (again, general):
        *held, value, gradient, product = interpret(graph_of(trace), x, v)
        for one, (_, outcome) in zip(held, trace.guards, strict=True):
            np.testing.assert_array_equal(one, outcome)
        if trace is again:
            found = value, gradient, product
    np.testing.assert_allclose(found[0], fun(x), rtol=1e-12)
    for one, other in zip(found, (value, gradient, product), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "step", [solve, matrices, joins, choices, tuples], ids=lambda step: step.__name__
)
def test_later_calls_run_no_answers(step, monkeypatch):
    calls = []
    call = Answer.__call__
    monkeypatch.setattr(Answer, "__call__", lambda *a, **k: calls.append(a) or call(*a, **k))
    counts = []
    for steps in (T, 2 * T):
        calls.clear()
        record(walk(step, steps), np.array([0.3, -0.2, 0.5]))
        counts.append(len(calls))
    assert counts[0] == counts[1]


def test_a_singular_matrix_is_numpys_error_in_any_step():
    def fun(x):
        z = x
        for k in range(T):
            z = np.linalg.solve(np.diag(z) if k < T - 1 else np.outer(z, [1.0, 0, 0]), z + 1)
        return np.sum(z)

    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        record(fun, np.array([0.3, 0.2, 0.5]))


def test_parameters_that_depend_on_values_are_those_of_each_call():
    """The first is under a guard already when its calls repeat; the second has another value."""

    def fun(x):
        z = x
        for n in (np.argmax(x), np.argmin(x)):
            for _ in range(5):
                z = np.roll(z, n) * np.sin(z)
        return z[0]

    x = np.array([0.3, 0.7, 0.2, 0.5])
    *_, value, _, _ = interpret(graph_of(record(fun, x)), x, x)
    np.testing.assert_allclose(value, fun(x), rtol=1e-13)


def test_values_of_other_traces_are_told():
    outer = []

    def inner(x):
        z = x
        for k in range(5):
            z = z * (x if k < 4 else outer[0])
        return np.sum(z)

    def fun(x):
        outer.append(x * 2.0)
        record(inner, np.ones(3))
        return np.sum(x)

    with pytest.raises(TraceError, match="another call"):
        record(fun, np.ones(3))


def test_another_branch_within_a_function_is_followed():
    """Which elements are taken decides on the shape of a result."""

    def fun(x):
        z, taken = x, 0.0
        for k in range(T):
            z = np.sin(z) + WAVES[k]
            taken = taken + np.sum(np.compress(z > 0, z) ** 2)
        return taken

    x = np.array([0.3, -0.2, 0.5])
    trace = record(fun, x)
    *_, value, _, _ = interpret(graph_of(trace), x, x)
    np.testing.assert_allclose(value, fun(x), rtol=1e-13)
