"""Loops over time become scans, with the numbers of the steps written out.

The oracle is the trace without scans, which the interpreter runs. Scans are interpreted, and run as the
plain text of their kernels: value, gradient and products, whole and split at a point.
"""

import numpy as np
import pytest

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph
from nbhvp.plan.split import split
from nbhvp.trace.record import record
from nbhvp.trace.recording import LinedPool
from tests.checks import plain

T = 24
DATA = np.random.default_rng(0).normal(size=(T + 3, 4))
SQUARE = DATA[:4] / 3


def runge_kutta(x):
    def rhs(a, w):
        return w, -np.sin(a) - x[2] * w

    state, h = (x[0], x[1]), 0.05
    for _ in range(T):
        k1 = rhs(*state)
        k2 = rhs(*(s + h / 2 * k for s, k in zip(state, k1, strict=True)))
        state = tuple(s + h * k for s, k in zip(state, k2, strict=True))
    return state[0] ** 2 + state[1] ** 2


def array_carry(x):
    z = x
    for _ in range(T):
        z = z + 0.01 * (x[::-1] - z * z)
    return np.sum(z**2)


def carry_in_a_dict(x):
    state = {"mean": 0.0, "variance": 1.0, "loss": 0.0}
    for t in range(T):
        predicted = x[0] * state["mean"], x[0] ** 2 * state["variance"] + np.exp(x[1])
        s, e = predicted[1] + np.exp(x[2]), DATA[t, 0] - predicted[0]
        gain = predicted[1] / s
        state = {
            "mean": predicted[0] + gain * e,
            "variance": (1 - gain) * predicted[1],
            "loss": state["loss"] + np.log(s) + e * e / s,
        }
    return state["loss"]


def network(x):
    h, out = np.zeros(4), []
    for t in range(T):
        h = np.tanh(SQUARE @ h * x[0] + DATA[t] * x[1:5])
        out.append(h[0] * h[1])
    return np.sum(np.array(out) ** 2)


def stacked_states(x):
    z, out = x[:3], []
    for k in range(T):
        z = z + 0.02 * k * np.sin(z[::-1]) - 0.1 * z**3
        out.append(z)
    return np.sum(np.stack(out) ** 2 * np.arange(T)[:, None])


def growing_list(x):
    y = [x[0], x[1], x[2]]
    for t in range(3, T):
        y.append(0.5 * x[3] * y[t - 1] + 0.3 * y[t - 2] * y[t - 3])
    return np.sum(np.array(y) ** 2) + y[-1] * y[-2]


def written_array(x):
    m = np.zeros(T)
    m[0] = x[0]
    for t in range(1, T):
        m[t] = 0.9 * np.cos(m[t - 1]) + x[1] * DATA[t, 2] + 0.13 * t * x[2]
    return np.sum(m**3)


def read_forwards(x):
    s = 0.0
    for k in range(T):
        s = np.tanh(s + x[k] * x[k + 1]) * x[0]
    return s * s


def read_backwards(x):
    s = 1.0
    for k in range(T):
        s = s * np.cos(x[T - k]) + x[T - k - 1]
    return s * s


def rows_of_a_matrix(x):
    a = (x * x).reshape(T, 3)
    u = np.ones(3)
    for k in range(T):
        u = np.sin(u) * a[k] + a[T - 1 - k, 0]
    return np.sum(u)


def alternating(x):
    s = x[0]
    for k in range(T):
        s = np.sin(s) * x[1] if k % 2 else s * x[2] + 0.1 * s * s
    return s


def same_branch(x):
    s = x[0]
    for _ in range(T):
        s = s + 0.1 * (x[1] - s) if s > -1 else -s
    return s**3


def iteration(x):
    root, steps = 1.0, 0
    while abs(root * root * root - x[0] - 10.0) > 1e-13 and steps < 60:
        root = root - 0.2 * (root**3 - x[0] - 10.0) / (3 * root * root)
        steps += 1
    return root * x[1] ** 2


def early_end(x):
    s = x[0]
    for _ in range(T):
        s = s + 0.02 * np.exp(-s * s)
        if s > x[0] + 0.5:
            break
    return s * s


def two_loops(x):
    a, path = x[0], []
    for _ in range(T):
        a = a + 0.1 * np.sin(a * x[1])
        path.append(a)
    b = 0.0
    for one in path:
        b = np.tanh(b * x[2] + one)
    return b * b


def verlet(x):
    """The force at the end of a step is that at the beginning of the next one."""
    q, v = x[0], x[1]
    for _ in range(T):
        half = v + 0.05 * -np.sin(q)
        q = q + 0.1 * half
        v = half + 0.05 * -np.sin(q)
    return q * q + v * v


def leap(x):
    """Only some of the states count."""
    z, total = x[0], 0.0
    for k in range(2 * T):
        z = z + 0.1 * z * (1 - z / (x[1] + 3))
        if k % 5 == 4:
            total = total + (z - 0.5) ** 2
    return total


def with_division(x):
    z = x[0] + 3
    for _ in range(T):
        z = z - (z**4 - 5 - x[1]) / (4 * z**3) * 0.3
    return z


def smallest(x):
    m, s = x[0], x[1]
    for k in range(T):
        s = s * 0.9 + 0.2 * np.where(s > 0.1, np.sqrt(np.abs(s)), s * x[2])
        m = np.minimum(m, s * DATA[k, 1])
    return m + s


CASES = {
    runge_kutta: 3, array_carry: 4, carry_in_a_dict: 3, network: 5, stacked_states: 3,
    growing_list: 4, written_array: 3, read_forwards: T + 1, read_backwards: T + 1,
    rows_of_a_matrix: 3 * T, alternating: 3, same_branch: 2, iteration: 2, early_end: 1,
    two_loops: 3, verlet: 2, leap: 2, with_division: 2, smallest: 3,
}  # fmt: skip
EACH = pytest.mark.parametrize("fun", CASES, ids=lambda fun: fun.__name__)
ARE_TWO = {two_loops}


def point(fun, dtype="f8"):
    r = np.random.default_rng(1)
    return (0.3 * r.normal(size=CASES[fun]) + 0.2).astype(dtype), r.normal(size=CASES[fun]).astype(
        dtype
    )


def graph_of(trace):
    """Guards, value, gradient and product of a trace."""
    (x,) = trace.inputs
    v = p.input_node(trace.pool, "v", x.shape, x.dtype)
    (value,) = trace.outputs
    found = [derive.hvp(value, x, v, mode) for mode in derive.EXACT_MODES]
    guards = tuple(node for node, _ in trace.guards)
    return Graph((x, v), (*guards, value, derive.gradient(value, x), *found)), len(guards)


def assert_all_close(found, right, tolerance):
    for one, other in zip(found, right, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@EACH
def test_a_loop_is_found_and_computes_the_same(fun):
    x, v = point(fun)
    trace = record(fun, x)
    assert len(trace.recurrences) == 1 + (fun in ARE_TWO)
    written_out, count = graph_of(record(fun, x, pool=LinedPool()))
    right = interpret(written_out, x, v)[count:]
    graph, count = graph_of(trace)
    for run in (interpret, plain):
        found = run(graph, x, v)
        for one, (_, value) in zip(found, trace.guards, strict=False):
            assert one.tobytes() == np.asarray(value, one.dtype).tobytes()
        assert found[count].tobytes() == right[0].tobytes() or run is plain
        assert_all_close(found[count:], right, 1e-11)


@EACH
def test_products_split_at_a_point(fun):
    x, v = point(fun)
    trace = record(fun, x)
    graph, count = graph_of(trace)
    whole = Graph(graph.inputs, graph.outputs[count + 2 : count + 3])
    state, product = split(whole, graph.inputs[1])
    stored = plain(Graph(graph.inputs[:1], state), x)
    given = dict(zip(product.inputs, [*stored, x, v], strict=True))
    (found,) = plain(product, *(given[node] for node in product.inputs))
    (right,) = interpret(whole, x, v)
    np.testing.assert_allclose(found, right, rtol=1e-10, atol=1e-10)
