"""Loops over time become scans, with the numbers of the steps written out.

The oracle is the trace without scans, which the interpreter runs. Scans are interpreted, and run as the
plain text of their kernels: value, gradient and products, whole and split at a point.
"""

import functools
import pickle

import hypothesis
import numpy as np
import pytest
import scipy.special
from hypothesis import strategies as st
from scipy.integrate import odeint, solve_ivp

import nbhvp
from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.batch import batched
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, Pool
from nbhvp.graph.table.scan import keeps_rows, with_ends
from nbhvp.graph.time import log
from nbhvp.plan.fusion import fused
from nbhvp.plan.recurrence import Recurrence
from nbhvp.plan.schedule import schedule
from nbhvp.plan.splitting.split import split
from nbhvp.runtime import recorded
from nbhvp.trace.record import record
from nbhvp.trace.recording import LinedPool
from tests.checks import THOROUGH, compiled, plain
from tests.graph.test_scan import STEPS_OF, body_of, by_scan, size_of
from tests.loops.test_steps import program

T = 24
DATA = np.random.default_rng(0).normal(size=(T + 3, 4))
SQUARE = DATA[:4] / 3
WIDE = np.random.default_rng(1).normal(size=(20, 20)) / 5


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


def field(x):
    """Cells side by side, with a source that moves."""
    u, total = x[:40], 0.0
    for k in range(T):
        left, right = np.roll(u, 1), np.roll(u, -1)
        u = u + 0.1 * (left - 2 * u + right) - 0.05 * u**3 + 0.1 * x[40 + k % 2] * DATA[k, 0]
        total = total + u[3] ** 2
    return total + np.sum(u)


def many_lanes(x):
    z = x
    for _ in range(2 * T):
        z = z + 0.1 * np.sin(z)
    return np.sum(z)


def wide_network(x):
    h, out = np.zeros(20), []
    for t in range(T):
        h = np.tanh(WIDE @ h * x[0] + DATA[t, 0] * x[1:21])
        out.append(h)
    return np.sum(np.stack(out)[:, 2] ** 2) + np.sum(out[-1] ** 3)


def trained(x):
    """Weights that depend on x, of what is carried at two lags and of data, and another result."""
    n = 17
    W, U, V = x[: n * n].reshape(n, n), x[n * n : n * n + 4 * n].reshape(n, 4), x[-2 * n :]
    older, h, total, out = np.zeros(n), V[:n] / 9, 0.0, []
    for t in range(T):
        older, h = h, np.tanh(W @ h / 4 + U @ DATA[t] + W.T @ older / 9 + V[n:])
        total = total + h @ h
        out.append(U.T @ h)
    return total + np.sum(np.stack(out) ** 3)


SYMBOLS = np.random.default_rng(2).integers(0, 3, T + 3)


def hidden_markov(x):
    """Columns of the emissions by the symbols, of which many are equal."""
    moves, emissions = (np.exp(part) for part in (x[:9].reshape(3, 3), x[9:].reshape(3, 3)))
    alpha, loss = np.ones(3) / 3 * emissions[:, SYMBOLS[0]], 0.0
    for k in range(1, T + 3):
        loss = loss - np.log(np.sum(alpha))
        alpha = alpha / np.sum(alpha) @ moves * emissions[:, SYMBOLS[k]]
    return loss - np.log(np.sum(alpha))


def egarch(x):
    log_variance, loss = 0.0, 0.0
    for r in DATA[:, 0]:
        z = r / np.exp(log_variance / 2)
        loss = loss + log_variance + z * z
        log_variance = x[0] + x[1] * log_variance + x[2] * (np.abs(z) - 0.79)
    return loss


def kalman(x, how="solve"):
    """Matrices of two rows."""
    move, noise = np.array([[1, 0.1], [0, 1.0]]), np.exp(x[1]) * np.eye(2)
    mean, p, loss = np.zeros(2), np.exp(x[2]) * np.eye(2), 0.0
    for y in DATA[: T // 2, :2]:
        mean, p = move @ mean, move @ p @ move.T + np.exp(x[0]) * np.eye(2)
        s, error = p + noise, y - mean
        if how == "solve":
            scaled, gain = np.linalg.solve(s, error), np.linalg.solve(s.T, p.T).T
        elif how == "inv":
            scaled, gain = np.linalg.inv(s) @ error, p @ np.linalg.inv(s)
        else:
            factor = np.linalg.cholesky(s)
            scaled = np.linalg.solve(factor.T, np.linalg.solve(factor, error))
            gain = np.linalg.solve(factor.T, np.linalg.solve(factor, p)).T
        loss = loss + error @ scaled + np.linalg.slogdet(s)[1] + np.log(np.linalg.det(s))
        mean, p = mean + gain @ error, p - gain @ p
    return loss


def kalman_by_inverse(x):
    return kalman(x, "inv")


def kalman_by_cholesky(x):
    return kalman(x, "cholesky")


def linear_solve(x):
    """A matrix that does not change, factored in each step."""
    z, a = x[:2], np.array([[0.2, 1.0], [-1.0, 0.1]])
    for _ in range(T):
        z = np.linalg.solve(np.eye(2) - 0.05 * x[2] * a, z + 0.05 * a @ z)
    return z @ z


def pivoting(x):
    """Rows change places in some steps, in others not."""
    z = x
    for k in range(T):
        a = np.outer(z, z) + np.roll(np.diag([1.0, 2.0, 3.0]), k % 3, axis=0) * np.cos(z[0])
        z = np.tanh(np.linalg.solve(a, z) + 0.3)
    return np.sum(z)


def fixed_edges(x):
    u = x.copy()
    for _ in range(T):
        u[1:-1] += 0.2 * (u[2:] - 2 * u[1:-1] + u[:-2]) - 0.02 * u[1:-1] ** 3
    return np.sum(u**2)


def padded(x):
    u = x
    for _ in range(T):
        wide = np.pad(u, 1)
        u = u + 0.2 * (wide[2:] - 2 * u + wide[:-2]) - 0.02 * u**3
    return np.sum(u**2)


def red_and_black(x):
    u = x.copy()
    for _ in range(T):
        u[1:-1:2] = 0.5 * (u[:-2:2] + u[2::2]) + 0.01
        u[2:-1:2] = 0.5 * (u[1:-2:2] + u[3::2]) + 0.01 * u[2:-1:2] ** 2
    return np.sum(u**2)


def with_zero_and_one(x):
    """Constants that are 0 and 1 in one step."""
    s = x[0]
    for k in range(T):
        s = s + 0.01 * np.sin(s) * (0.1 * k) + x[1] * (0.1 * k) / (1 + 0.5 * k) ** 2
    return s * s


def half_steps(x):
    q, v, path = x[0], x[1], []
    for k in range(T):
        v = v - (0.05 if k else 0.025) * np.sin(q)
        q = q + 0.05 * v
        path.append(q)
    v = v - 0.025 * np.sin(q)
    return np.sum(np.array(path) ** 2) + v * v


def two_kinds(x):
    """Both give results to one list."""
    s, path = x[0], []
    for k in range(2 * T):
        s = np.sin(s) * x[1] if k % 2 else s * x[2] + 0.1 * s * s
        path.append(s)
    return np.sum(np.array(path) ** 2)


def implicit(x):
    """The implicit midpoint rule, with two Newton steps in each step."""
    q, v, h = x[0], x[1], 0.05
    for _ in range(T):
        a, b = q, v
        for _ in range(2):
            m, w = (q + a) / 2, (v + b) / 2
            r, s = a - q - h * w, b - v + h * np.sin(m)
            j = h / 2 * np.cos(m)
            a, b = a - (r + h / 2 * s) / (1 + h / 2 * j), b - (s - j * r) / (1 + h / 2 * j)
        q, v = a, b
    return q * q + v * v


def layers(x):
    """A network of two layers with memory."""
    w, h, c, loss = x.reshape(2, 2, 16), [np.zeros(4)] * 2, [np.zeros(4)] * 2, 0.0
    for row in DATA[: T // 2]:
        given = row
        for k in range(2):
            gates = np.concatenate([given, h[k], given, h[k]]) * w[k, 0] + w[k, 1]
            keep, new, out = (1 / (1 + np.exp(-gates[i : i + 4])) for i in (0, 4, 8))
            c[k] = c[k] * keep + new * np.tanh(gates[12:])
            h[k] = given = out * np.tanh(c[k])
        loss = loss + np.sum((given - row) ** 2)
    return loss


INNER = nbhvp.differentiable(lambda q: np.sum(q**4) / 4 + np.prod(np.cos(q)))


def inner_gradient(x):
    """Forces as the gradient of an energy."""
    q, v = x[:2], x[2:]
    for _ in range(T):
        v = v - 0.1 * INNER.grad(q)
        q = q + 0.1 * v
    return q @ q + v @ v


def views_in_steps(x):
    """What does not change is computed, and looked at, in each step anew."""
    z = x[0]
    for k in range(T):
        table = np.exp(x[1:].reshape(2, -1).T)
        z = np.tanh(z * table[k % 5, 0] + table[(3 * k) % 5, 1])
    return z


def inner_loops(x):
    """Steps of a loop within each step, as many as the step says."""
    z = x[0]
    for k in range(2 * T):
        w = z
        for _ in range(2 + k % 3):
            w = w - 0.3 * (w**3 + w - z - x[1])
        z = w + 0.1 * DATA[k % T, 0]
    return z * z


def lanes(x):
    """Loops that do not depend on one another, one after the other."""
    total = 0.0
    for j in range(3):
        z = x[j]
        for _ in range(T):
            z = z + 0.1 * np.sin(z) * x[3]
        total = total + z * z
    return total


def arrays_in_a_dict(x):
    state = {"q": x[:3], "p": np.zeros(3)}
    for k in range(T):
        state["p"] = state["p"] - 0.1 * state["q"] * DATA[k, :3]
        state["q"] += 0.1 * state["p"]
    return np.sum(state["q"] ** 2)


def tuples_of_arrays(x):
    states = [(x[:2], 0.5 * x[2:])]
    for _ in range(T):
        a, b = states[-1]
        states.append((a + 0.1 * b * np.sin(a), b - 0.1 * a))
    return np.sum(np.array([a for a, _ in states]) ** 2) + np.sum(states[-1][1])


def computed_data(x):
    """Data of each step that is computed in the function, from rows that are repeated."""
    table, u = np.zeros((4, 3)) + DATA[:4, :1], x[:3].copy()
    for k in range(T):
        u[1:] *= x[3]
        u[1:] += 0.3 * np.sin(table[k % 4][1:])
    return np.sum(u**2)


def linear_writes(x):
    """A tangent is added to nothing in each step, and what is read at the end to an adjoint."""
    w = x[:3].copy()
    for _ in range(T):
        w[0] = 0.3 * w[1]
    return np.sum(w**2) + w[0]


CASES = {
    runge_kutta: 3, array_carry: 4, carry_in_a_dict: 3, network: 5, stacked_states: 3,
    growing_list: 4, written_array: 3, read_forwards: T + 1, read_backwards: T + 1,
    rows_of_a_matrix: 3 * T, alternating: 3, same_branch: 2, iteration: 2, early_end: 1,
    two_loops: 3, field: 42, many_lanes: 40, wide_network: 21, trained: 17 * 17 + 6 * 17, verlet: 2, leap: 2, with_division: 2, smallest: 3,
    hidden_markov: 18, egarch: 3, kalman: 3, kalman_by_inverse: 3, kalman_by_cholesky: 3, linear_solve: 3,
    pivoting: 3, fixed_edges: 7, padded: 6, red_and_black: 9, with_zero_and_one: 2, half_steps: 2,
    two_kinds: 3, implicit: 2, layers: 64, inner_gradient: 4, views_in_steps: 11,
    inner_loops: 2, lanes: 4, arrays_in_a_dict: 3, tuples_of_arrays: 4, computed_data: 4,
    linear_writes: 4,
}  # fmt: skip
EACH = pytest.mark.parametrize("fun", CASES, ids=lambda fun: fun.__name__)
LOOPS = {two_loops: 2, lanes: 3}
ARE_SOLVED = {kalman, kalman_by_inverse, kalman_by_cholesky, linear_solve, pivoting}
"""LAPACK rounds otherwise."""


def point(fun, dtype="f8"):
    r = np.random.default_rng(1)
    return (0.3 * r.normal(size=CASES[fun]) + 0.2).astype(dtype), r.normal(size=CASES[fun]).astype(
        dtype
    )


def graph_of(trace, modes=derive.EXACT_MODES):
    """Guards, value, gradient and product of a trace."""
    (x,) = trace.inputs
    v = p.input_node(trace.pool, "v", x.shape, x.dtype)
    (value,) = trace.outputs
    found = [derive.hvp(value, x, v, mode) for mode in modes]
    guards = tuple(node for node, _ in trace.guards)
    return Graph((x, v), (*guards, value, derive.gradient(value, x), *found)), len(guards)


def assert_all_close(found, right, tolerance):
    for one, other in zip(found, right, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@functools.cache
def traced(fun):
    """A function's trace, and guards, value, gradient and products of it."""
    trace = record(fun, point(fun)[0])
    return trace, *graph_of(trace)


def check_loop(fun, trace, graph, count):
    """Against one product of what is written out; as plain text one of the three, in turn."""
    x, v = point(fun)
    assert len(trace.recurrences) == LOOPS.get(fun, 1)
    written_out, first = graph_of(record(fun, x, pool=LinedPool()), derive.EXACT_MODES[:1])
    value, gradient, product = interpret(written_out, x, v)[first:]
    before, products = graph.outputs[: count + 2], graph.outputs[count + 2 :]
    turn = list(CASES).index(fun) % len(products)
    some = products if THOROUGH else products[turn : turn + 1]
    for run, chosen in ((interpret, products), (plain, some)):
        found = run(Graph(graph.inputs, (*before, *chosen)), x, v)
        for one, (_, known) in zip(found, trace.guards, strict=False):
            assert one.tobytes() == np.asarray(known, one.dtype).tobytes()
        is_exact = fun not in ARE_SOLVED and run is not plain
        assert found[count].tobytes() == value.tobytes() or not is_exact
        assert_all_close(found[count:], (value, gradient, *[product] * len(chosen)), 1e-11)


@EACH
def test_a_loop_is_found_and_computes_the_same(fun):
    check_loop(fun, *traced(fun))


LONG = [runge_kutta, half_steps, two_kinds, implicit, with_zero_and_one, read_backwards]


@pytest.mark.parametrize("fun", LONG, ids=lambda fun: fun.__name__)
def test_long_loops_make_nodes_of_one_step(fun, monkeypatch):
    monkeypatch.setattr(log, "BACKLOG", 60)
    monkeypatch.setattr(log, "LEAST", 40)
    recorded = []
    made = log.Log._operation
    monkeypatch.setattr(log.Log, "_operation", lambda *a: recorded.append(a) or made(*a))
    trace = record(fun, point(fun)[0])
    check_loop(fun, trace, *graph_of(trace))
    assert len(recorded) < 40


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "fun",
    [fun for fun in CASES if fun not in (kalman_by_inverse, kalman_by_cholesky)],
    ids=lambda fun: fun.__name__,
)  # they are like kalman, and take long
def test_products_split_at_a_point(fun):
    x, v = point(fun)
    _, graph, count = traced(fun)
    whole = Graph(graph.inputs, graph.outputs[count + 2 : count + 3])
    state, product = split(whole, graph.inputs[1])
    stored = plain(Graph(graph.inputs[:1], state), x)
    given = dict(zip(product.inputs, [*stored, x, v], strict=True))
    (found,) = plain(product, *(given[node] for node in product.inputs))
    (right,) = interpret(whole, x, v)
    np.testing.assert_allclose(found, right, rtol=1e-10, atol=1e-10)


# Functions.


def path(x):
    """All states of a loop, as an array."""
    z, out = x[0], []
    for k in range(T):
        z = z + 0.1 * np.sin(z * x[1]) + x[2] * DATA[k, 0]
        out.append(z * z)
    return np.array(out)


def wide_path(x):
    """The same of many numbers at once, which steps take from one another."""
    z, out = x[0] * np.linspace(0.5, 1, 20), []
    for k in range(T):
        z = z + 0.1 * np.sin(WIDE @ z * x[1]) + x[2] * DATA[k, 0] * np.roll(z, 1)
        out.append(np.sum(z * z))
    return np.array(out)


@pytest.mark.parametrize("path", [path, wide_path])
@pytest.mark.parametrize("target", ["interpret", "cpu"])
def test_all_products_of_functions(target, path):
    x = np.array([0.3, 0.8, -0.4])
    r = np.random.default_rng(2)
    v, vs, w = r.normal(size=3), r.normal(size=(3, 11)), r.normal(size=T)
    made = functools.partial(nbhvp.differentiable, target=target)
    f, g = made(lambda x: np.sum(path(x) ** 2)), made(path)
    dense = f.hessian(x).toarray()
    for mode in derive.EXACT_MODES:
        np.testing.assert_allclose(f.hvp(x, v, mode=mode), dense @ v, rtol=1e-11)
    np.testing.assert_allclose(f.hvp(x, vs), dense @ vs, rtol=1e-11)
    jacobian = g.jacobian(x).toarray()
    np.testing.assert_allclose(g.jvp(x, v), jacobian @ v, rtol=1e-11)
    np.testing.assert_allclose(g.vjp(x, w), w @ jacobian, rtol=1e-11)
    step = 1e-30
    for k in range(3):
        z = x.astype(complex)
        z[k] += 1j * step
        np.testing.assert_allclose(jacobian[:, k], path(z).imag / step, rtol=1e-11)
    curved = g.weighted_hessian(x, 2 * path(x)) @ v + jacobian.T @ (2 * jacobian @ v)
    np.testing.assert_allclose(curved, dense @ v, rtol=1e-11)
    assert len(f.report().recurrences) == len(g.report().recurrences) == 1
    if target == "cpu":
        report = f.hessian(x).report()
        assert report.product.operations > 10 * T and report.product.library_calls == 0
    again = pickle.loads(pickle.dumps(f))
    np.testing.assert_allclose(again.hvp(x, v), dense @ v, rtol=1e-12)


def test_another_branch_in_one_step_is_another_trace():
    f = nbhvp.differentiable(same_branch, target="interpret")
    for x in (np.array([0.3, 0.5]), np.array([-2.0, 0.5]), np.array([0.3, -20.0])):
        assert np.isclose(f(x), same_branch(x), rtol=1e-14)
    assert f.report().traces == 3
    f(np.array([0.31, 0.5]))
    assert f.report().traces == 3


def in_logarithms(x, symbols):
    """A hidden Markov model, of which the observations are an argument."""
    steps, emissions, forward = x[:9].reshape(3, 3), x[9:24].reshape(3, 5), x[:3]
    for symbol in symbols:
        forward = scipy.special.logsumexp(forward[:, None] + steps, axis=0) + emissions[:, symbol]
    return scipy.special.logsumexp(forward)


@pytest.mark.parametrize("target", ["interpret", "cpu"])
def test_integers_that_are_given_choose_in_each_step(target):
    f, symbols = nbhvp.differentiable(in_logarithms, target=target), 2 * SYMBOLS - 2
    x, v = np.random.default_rng(5).normal(size=(2, 24))
    x[:12] = x[0]  # ties of the largest
    for given in (symbols, -symbols):
        known = nbhvp.differentiable(
            functools.partial(in_logarithms, symbols=given.tolist()), target="interpret"
        )
        np.testing.assert_allclose(f(x, given), in_logarithms(x, given), rtol=1e-14)
        np.testing.assert_allclose(f.grad(x, given), known.grad(x), rtol=1e-13)
        np.testing.assert_allclose(f.hvp(x, v, given), known.hvp(x, v), rtol=1e-12, atol=1e-14)
        moved = [known.grad(x + h * v) for h in (1e-5, -1e-5)]
        np.testing.assert_allclose(known.hvp(x, v), (moved[0] - moved[1]) / 2e-5, atol=1e-8)
    assert f.report().traces == 1 and f.report().recurrences
    with pytest.raises(IndexError, match="out of bounds"):
        f(x, symbols + 3)


def sum_of_terms(x):
    return sum((x[k] - 1.0) ** 2 * np.sin(x[k + 1]) for k in range(T))


def uneven(x):
    z = x[0]
    for k in range(T):
        z = np.sin(z) * x[1] if k in (1, 2, 4, 7, 8, 11, 13, 16, 17, 19, 22) else z + 0.1 * z * z
    return z


def test_choices_by_data_are_those_of_each_step():
    """A missing observation has no derivative, and is not chosen."""
    seen = np.cos(np.arange(T))
    seen[[1, 7]] = np.nan

    def filtered(x):
        m, loss = x[0], 0.0
        for y in seen:
            m = x[1] * np.sin(m)
            loss = loss + np.where(np.isnan(y), 0.0, (y - m) ** 2)
        return loss

    def without(x):
        m, loss = x[0], 0.0
        for y in seen:
            m = x[1] * np.sin(m)
            if not np.isnan(y):
                loss = loss + (y - m) ** 2
        return loss

    x = np.array([0.3, 0.7])
    f, g = (nbhvp.differentiable(one, target="interpret") for one in (filtered, without))
    np.testing.assert_allclose(f.grad(x), g.grad(x), rtol=1e-12)
    np.testing.assert_allclose(f.hvp(x, x), g.hvp(x, x), rtol=1e-12)


@pytest.mark.parametrize("fun", [sum_of_terms, uneven])
def test_what_is_no_recurrence_of_small_steps_stays(fun):
    assert not record(fun, np.linspace(0.1, 0.9, T + 2)).recurrences


def test_a_loop_over_time_is_no_loop_over_elements():
    """The warning of many operations on single numbers is for those that are left."""

    def long(x):
        z = x[0]
        for _ in range(1000):
            z = z + 0.01 * np.sin(z) * x[1]
        return z

    f = nbhvp.differentiable(long, target="interpret")
    assert np.isclose(f(np.array([0.3, 0.5])), long([0.3, 0.5]))


# Random loops.

UNARY = (np.sin, np.tanh, np.cos, lambda a: a * a, lambda a: 0.5 * a, lambda a: a / (2.0 + a * a))
BINARY = (np.add, np.subtract, np.multiply, lambda a, b: a / (3.0 + b * b), np.minimum)


class Random:
    """A loop with random statements, reads, lags, starts and results; the same for a seed."""

    def __init__(self, seed: int):
        r = np.random.default_rng(seed)
        self.steps = int(r.integers(14, 30))
        self.size = self.steps + 4
        self.carries = int(r.integers(1, 4))
        self.lag = int(r.integers(1, 4))
        self.starts = r.integers(0, 3, size=(self.carries, self.lag))
        self.is_vector = r.random() < 0.3
        self.result = int(r.integers(0, 5))
        self.stops = r.random() < 0.3
        self.symbols = r.integers(0, 3, self.steps)
        self.period = 2 if r.random() < 0.2 else 1
        self.statements = [self._statements(r) for _ in range(self.period)]
        self.data = r.normal(size=(self.steps + 4, 3))

    def _statements(self, r):
        reads = ("carry", "carry", "carry", "old", "x at k", "x at k + 1", "x from the end", "x")
        reads += ("data", "step", "temporary", "temporary", "x by data", "table by data")
        count = int(r.integers(4, 9))
        return [
            (
                int(r.integers(0, len(UNARY) + len(BINARY))),
                *r.choice(reads, 2),
                *r.integers(0, 9, 2),
            )
            for _ in range(count)
        ]

    def operand(self, x, k, kind, which, histories, temporaries):
        history = histories[which % self.carries]
        if kind == "carry" or (kind == "temporary" and not temporaries):
            return history[-1]
        if kind == "old":
            return history[-self.lag]
        if kind == "temporary":
            return temporaries[which % len(temporaries)]
        if kind == "data":
            return self.data[k, which % 3]
        if kind == "step":
            return 0.125 * (k - 4)
        if kind == "table by data":
            return self.table[which % 2, self.symbols[k]]
        place = {
            "x by data": self.symbols[k] + which % 4,
            "x at k": k,
            "x at k + 1": k + 1,
            "x from the end": self.steps - k,
        }.get(kind, which)
        return x[place]

    def start(self, x, kind, k):
        number = (0.0, 0.3, x[k])[kind]
        return np.array([number, x[2]]) if self.is_vector else number

    def __call__(self, x):
        histories = [
            [self.start(x, kind, k) for k, kind in enumerate(kinds)] for kinds in self.starts
        ]
        total, collected, written, in_turn = 0.0, [], np.zeros(self.steps), []
        self.table = np.tanh(x[:6]).reshape(2, 3)
        for k in range(self.steps):
            temporaries = []
            for op, kind, other, a, b in self.statements[k % self.period]:
                one = self.operand(x, k, kind, a, histories, temporaries)
                if op < len(UNARY):
                    temporaries.append(UNARY[op](one))
                else:
                    two = self.operand(x, k, other, b, histories, temporaries)
                    temporaries.append(BINARY[op - len(UNARY)](one, two))
            for place, history in enumerate(histories):
                history.append(0.8 * np.sin(history[-1]) + 0.3 * temporaries[-1 - place])
            last = np.sum(histories[0][-1])
            total = total + last * last
            collected.append(np.sin(last))
            in_turn += [last, total] if k % self.period else [last]
            written[k] = last
            if self.stops and abs(last) > 40:
                break
        ends = sum(np.sum(history[-1]) for history in histories)
        lists = (np.sum(np.array(some) ** 2) for some in (collected, in_turn))
        return ends + (0.0, total, *lists, np.sum(written**2))[self.result]


SEEDS = range(2000 if THOROUGH else 8)


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", SEEDS)
def test_random_loops_compute_the_same(seed, monkeypatch):
    if seed % 2:  # as loops of many operations on numbers are found
        monkeypatch.setattr(log, "BACKLOG", 60)
        monkeypatch.setattr(log, "LEAST", 40)
    fun = Random(seed)
    r = np.random.default_rng(seed)
    dtype = "f4" if seed % 4 == 3 else "f8"
    x, v = (r.normal(size=fun.size).astype(dtype) for _ in range(2))
    trace, written_out = record(fun, x), record(fun, x, pool=LinedPool())
    graphs = []
    for one in (trace, written_out):
        (node,), (value,) = one.inputs, one.outputs
        direction = p.input_node(one.pool, "v", node.shape, node.dtype)
        product = derive.hvp(value, node, direction)
        graphs.append(Graph((node, direction), (value, derive.gradient(value, node), product)))
    right = interpret(graphs[1], x, v)
    found = interpret(graphs[0], x, v)
    assert found[0].tobytes() == right[0].tobytes()
    tolerance = 1e-10 if dtype == "f8" else 2e-3
    assert_all_close(found, right, tolerance)
    if trace.recurrences:
        whole, direction = Graph(graphs[0].inputs, graphs[0].outputs[2:]), graphs[0].inputs[1]
        state, product = split(whole, direction)
        stored = plain(Graph(whole.inputs[:1], (*state, *graphs[0].outputs[:2])), x)
        given = dict(zip(product.inputs, [*stored[: len(state)], x, v], strict=True))
        products = plain(product, *(given[node] for node in product.inputs))
        assert_all_close([*stored[len(state) :], *products], right, tolerance)


@pytest.mark.no_cover
def test_most_random_loops_are_found():
    found = [bool(record(f, np.ones(f.size)).recurrences) for f in map(Random, range(12))]
    assert sum(found) >= 8


class Dual:
    """a + b e + c f + d e f with e^2 = f^2 = 0: a value, its slopes in two directions, its curvature."""

    def __init__(self, a, b=0.0, c=0.0, d=0.0):
        self.parts = a, b, c, d

    def by(self, value, first, second):
        _, b, c, d = self.parts
        return Dual(value, first * b, first * c, first * d + second * b * c)

    def sin(self):
        a = self.parts[0]
        return self.by(np.sin(a), np.cos(a), -np.sin(a))

    def tanh(self):
        z = np.tanh(self.parts[0])
        return self.by(z, 1 - z * z, -2 * z * (1 - z * z))

    def __pow__(self, n):
        a = self.parts[0]
        return self.by(a**n, n * a ** (n - 1), n * (n - 1) * a ** (n - 2))

    def __add__(self, other):
        return Dual(*(p + q for p, q in zip(self.parts, dual(other).parts, strict=True)))

    def __mul__(self, other):
        (a, b, c, d), (p, q, r, s) = self.parts, dual(other).parts
        return Dual(a * p, a * q + b * p, a * r + c * p, a * s + b * r + c * q + d * p)

    def __truediv__(self, other):
        return self * dual(other) ** -1

    def __rtruediv__(self, other):
        return self**-1 * other

    def __sub__(self, other):
        return self + dual(other) * -1.0

    def __rsub__(self, other):
        return dual(other) - self

    def __gt__(self, other):
        return self.parts[0] > other

    __radd__, __rmul__ = __add__, __mul__


def dual(a):
    return a if isinstance(a, Dual) else Dual(a)


@pytest.mark.no_cover
@hypothesis.settings(
    max_examples=2000 if THOROUGH else 80, deadline=None, derandomize=True, database=None
)
@hypothesis.given(st.integers(0, 2**32 - 1))
def test_random_programs_have_the_derivatives_of_dual_numbers(seed):
    """Periods, lags, carries, reads, first and last steps that differ, branches, early ends."""
    text, steps = program(seed)
    r = np.random.default_rng(seed)
    names = {"sin": np.sin, "tanh": np.tanh, "T": steps, "W": r.normal(size=steps + 2) / 2}
    exec(text, names)

    def fun(x):
        found = names["fun"](x)
        return sum(found) if isinstance(found, tuple) else found

    x, v, w = r.uniform(0.1, 0.9, steps + 8), *r.normal(size=(2, steps + 8))
    with np.errstate(all="ignore"):
        right = dual(fun([Dual(*three) for three in zip(x, v, w, strict=True)])).parts
    hypothesis.assume(np.all(np.isfinite(right)))
    with pytest.MonkeyPatch.context() as patch:
        if seed % 2:
            patch.setattr(log, "BACKLOG", 60)
            patch.setattr(log, "LEAST", 40)
        trace = record(fun, x)
    hypothesis.event(f"{len(trace.recurrences)} loops")
    graph, _ = graph_of(trace, derive.EXACT_MODES[:1]) if trace.recurrences else (None, 0)
    if graph is not None:
        value, gradient, product = interpret(graph, x, v)[-3:]
        found = value, gradient @ v, gradient @ w, product @ w
        np.testing.assert_allclose(found, right, rtol=1e-9, atol=1e-9 * np.max(np.abs(right)))


@pytest.mark.compiles
@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("fun", [field, many_lanes, wide_network, runge_kutta])
def test_compiled_steps(fun, dtype):
    """Wide steps run as programs of their own; narrow ones in one kernel."""
    x, v = point(fun, dtype)
    trace = record(fun, x)
    graph, count = graph_of(trace)
    whole = Graph(graph.inputs, graph.outputs[count : count + 3])
    found = compiled(whole, x, v)
    assert [one.dtype for one in found] == [node.dtype for node in whole.outputs]
    assert_all_close(found, interpret(whole, x, v), 1e-11 if dtype == "f8" else 2e-5)


def lagged_beside_a_field(x):
    """The body of a derivative gives one of its inputs three times."""
    v, h = np.full(20, x[0]), [x[1], x[2]]
    for k in range(T - 4):
        t = x[1] * DATA[k, 0]
        v = 0.4 + 0.2 * v
        h.append(np.sin(h[-1] + 0.5 * h[-2]) + t)
    return np.sum(v) + np.sum(np.array(h[2:]) * x[0])


@pytest.mark.compiles
@pytest.mark.parametrize("mode", derive.EXACT_MODES)
def test_outputs_of_a_wide_step_never_share_memory(mode):
    x, v = np.array([0.3, 0.5, 0.7]), np.array([1.0, 0.5, 0.2])
    needed = nbhvp.differentiable(lagged_beside_a_field, target="interpret").hvp(x, v)
    found = nbhvp.differentiable(lagged_beside_a_field).hvp(x, v, mode=mode)
    np.testing.assert_allclose(found, needed, rtol=1e-12)


@pytest.mark.parametrize("run", [interpret, plain])
@pytest.mark.parametrize("name", STEPS_OF)
def test_products_of_any_recurrence_split_at_a_point(name, run):
    """Also of loops within loops, which the tracer does not make."""
    body, pool = body_of(name, False, "f8"), Pool()
    x, v = (p.input_node(pool, letter, (size_of(body),), "f8") for letter in "xv")
    whole = Graph((x, v), (derive.hvp(by_scan(body, x), x, v),))
    r = np.random.default_rng(3)
    values = [r.normal(size=x.size) / 2 for _ in range(2)]
    state, product = split(whole, v)
    stored = run(Graph((x,), state), values[0])
    given = dict(zip(product.inputs, [*stored, *values], strict=True))
    (found,) = run(product, *(given[node] for node in product.inputs))
    (right,) = interpret(whole, *values)
    np.testing.assert_allclose(found, right, rtol=1e-10, atol=1e-10)
    (whole_again,) = run(whole, *values)
    np.testing.assert_allclose(whole_again, right, rtol=1e-10, atol=1e-10)
    several = batched(product, v, 3)
    given[v] = np.stack([values[1], 2 * values[1], 0 * values[1]], axis=-1)
    (columns,) = run(several, *(given[node] for node in product.inputs))
    needed = np.stack([right, 2 * right, 0 * right], axis=-1)
    np.testing.assert_allclose(columns, needed, rtol=1e-10, atol=1e-10)


@pytest.mark.compiles
@pytest.mark.parametrize("name", STEPS_OF)
def test_compiled_directions(name):
    body, pool = body_of(name, False, "f8"), Pool()
    x, v = (p.input_node(pool, letter, (size_of(body),), "f8") for letter in "xv")
    product = Graph((x, v), (derive.hvp(by_scan(body, x), x, v),))
    r = np.random.default_rng(3)
    values, directions = r.normal(size=x.size) / 2, r.normal(size=(x.size, 8))
    (columns,) = compiled(batched(product, v, 8), values, directions)
    needed = [interpret(product, values, one)[0] for one in directions.T]
    np.testing.assert_allclose(columns.T, needed, rtol=1e-10, atol=1e-10)


def test_determinants_that_are_affine_in_the_carry():
    """Parts of a step's tangent that nothing is written to are zero, which `split` has to know."""

    def walk(x):
        s = x[1]
        for _ in range(T):
            s = np.linalg.det(np.array([[s, x[0]], [x[0], 1.0]]))
        return s

    x, v = np.array([0.3, 0.7]), np.array([1.0, -0.4])
    f = nbhvp.differentiable(walk, target="interpret")
    for mode in derive.EXACT_MODES:  # s loses x_0^2 in each step
        np.testing.assert_allclose(f.hvp(x, v, mode=mode), [-2 * T, 0.0], rtol=1e-12)


ADAPTIVE = [
    lambda x: odeint(lambda y, t: -x[0] * y, x[1], [0.0, 1.0])[-1, 0],
    lambda x: solve_ivp(lambda t, y: -x[0] * y, (0, 1), x[1:], rtol=1e-9).y[0, -1],
    lambda x: solve_ivp(lambda t, y, k: -k * y, (0, 1), [1.0], args=(x[0],)).y[0, -1],
]


@pytest.mark.parametrize("fun", ADAPTIVE)
def test_an_adaptive_solver_names_the_loop_to_write(fun):
    f = nbhvp.differentiable(fun)
    with pytest.raises(nbhvp.TraceError, match=r"for _ in range\(steps\).*docs/time_stepping.md"):
        f(np.ones(2))


def test_tangents_run_in_the_loop_of_the_trajectory():
    """A product at a new point is two loops: forward and backward."""

    def walk(x):
        z, w = x[0], x[1]
        for _ in range(T):
            z, w = z + 0.1 * np.sin(w), w - 0.1 * z * w
        return z * w

    graph, count = graph_of(record(walk, np.array([0.3, 0.5])))
    steps = schedule(Graph(graph.inputs, graph.outputs[count + 2 : count + 3])).steps
    loops = [step for step in fused(steps) if isinstance(step, Recurrence)]
    assert [len(loop.every) for loop in loops] == [2, 2]
    assert [loop.body.reverse for loop in loops] == [False, True]


@pytest.mark.parametrize("arguments", [(), (DATA[:, 1].copy(),)], ids=["x", "data"])
def test_a_product_at_a_new_point_makes_no_state_until_a_second_one(arguments, monkeypatch):
    monkeypatch.setattr(recorded, "LONG", 0)

    def fun(x, data=DATA[:, 0]):
        z = x
        for k in range(T):
            z = 0.5 * np.sin(z) * x - 0.1 * z + data[k]
        return np.sum(z**2)

    f, n = nbhvp.differentiable(fun, target="interpret"), 0
    known, v = nbhvp.differentiable(fun, target="interpret"), np.ones(3)
    # The second of two products at a point, or the first one after such a point, makes the state.
    for x, products, states in ((1, 1, 0), (2, 2, 1), (3, 1, 1), (4, 1, 0), (5, 2, 1), (6, 3, 1)):
        for _ in range(products):
            x_k = x * np.arange(1.0, 4.0)
            np.testing.assert_allclose(
                f.hvp(x_k, v, *arguments), known.hessian(x_k, *arguments) @ v, rtol=1e-12
            )
        n += states
        assert f.report().point_runs == n, f"at point {x}"
    f.grad(7 * x_k, *arguments)
    f.hvp(7 * x_k, v, *arguments)
    assert f.report().point_runs == n + 1, "the gradient made the state"
    f.grad(8 * x_k, *arguments)
    assert (f.report().point_runs, f.report().gradient_runs) == (n + 1, 1), "of one product alone"
    with pytest.raises(ValueError, match="shape"):
        f.hvp(9 * x_k, np.ones(4), *arguments)


@pytest.mark.compiles
@pytest.mark.parametrize("steps", [24, 25])
def test_where_the_end_alone_is_read_rows_are_not_kept(steps):
    """Steps of numbers have none, steps of arrays write two in turn, forward and backward."""

    def numbers(x):
        z = x[0]
        for _ in range(steps):
            z = 0.9 * np.sin(z) * x[1] + x[0] ** 2 - 0.1 * z
        return z**2

    def arrays(x):
        z = np.outer(x, np.linspace(0.1, 1, 40))
        for _ in range(steps):
            z = 0.9 * np.sin(z) + 0.1 * np.roll(z, 1, axis=1) * z
        return np.sum(z**2)

    x, v = np.array([0.3, 0.7]), np.array([1.0, -2.0])
    for fun in (numbers, arrays):
        trace = record(fun, x)
        (node,), (value,) = trace.inputs, trace.outputs
        direction = p.input_node(node.pool, "v", node.shape, node.dtype)
        graph = Graph((node, direction), (value, derive.hvp(value, node, direction)))
        ended = with_ends(graph)
        scans = [one for one in ended.nodes if one.primitive.body is not None]
        assert {True, False} == {*map(keeps_rows, scans)}, "the tangents of adjoints end"
        assert_close = functools.partial(np.testing.assert_allclose, rtol=1e-12)
        for run, one in ((interpret, ended), (plain, graph), (compiled, graph)):
            list(map(assert_close, run(one, x, v), interpret(graph, x, v)))
