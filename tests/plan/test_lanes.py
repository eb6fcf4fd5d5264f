"""Recurrences in lanes against the sweep in sequence: rows, propagators, and where digits would be lost."""

from dataclasses import replace

import numpy as np
import pytest

from nbhvp import differentiable
from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, Pool
from nbhvp.graph.table.lanes import has_lanes
from nbhvp.graph.table.scan import Body, before, collected, final, following, scan
from nbhvp.plan.costs import CPU
from nbhvp.plan.schedule import schedule
from nbhvp.plan.splitting import lanes
from nbhvp.plan.splitting.split import split
from tests.checks import run_plain


def volatility(u, total, r, a, b):
    """One number, and a sum of what it does in each step."""
    return a * r * r + b * u + 0.01 * u * r, total + p.log(u) + r * r / u


def oscillator(q, w, r, a, b):
    """Two numbers; nothing drives their tangents but the parameters."""
    return q + 0.02 * w, w - 0.02 * (a * p.sin(q) + b * q * q) + 0.01 * r


def growing(u, total, r, a, b):
    return 1.5 * u + a * r + b * u * u * 1e-30, total + u * u * 1e-20


def exploding(u, total, r, a, b):
    return u * 1e30 * p.exp(-69.07755 + a - b) + r, total + p.tanh(u)


def vanishing(u, total, r, a, b):
    """Steps that multiply by 1e-200 and by 1e200 in turn, as the sign of the data says."""
    return u * p.exp(460.0 * r) + a * b, total + p.tanh(u)


def triangular(q, w, r, a, b):
    """A Jacobian with zeros, and a unit root."""
    return q + a * b * 0.1, 0.5 * w + q * q * r * 0.1


def forgetting(u, w, r, a, b):
    """One of the numbers is what the step before computed of the other."""
    return 0.5 * p.sin(u) + a * w, b * u * r


def smoothing(u, total, r, a, b):
    """Coefficients that are the same in all steps, and everywhere."""
    return 0.9 * u + 0.1 * r, total + p.exp(u) * r


STEPS = {
    step.__name__: step
    for step in (
        volatility,
        oscillator,
        growing,
        exploding,
        vanishing,
        triangular,
        forgetting,
        smoothing,
    )
}


def product_of(step, length):
    """The graph of the Hessian's product with a direction of the start, the data and two parameters."""
    inside, pool = Pool(), Pool()
    inputs = tuple(p.input_node(inside, name, (), "f8") for name in ("u", "w", "r", "a", "b"))
    new = step(*inputs)
    body = Body(Graph(inputs, (*new, new[0] * inputs[2])), 2, 1)
    x = p.input_node(pool, "x", (length + 4,), "f8")
    v = p.input_node(pool, "v", (length + 4,), "f8")
    part = lambda start, size: p.slice_(x, start=(start,), step=(1,), size=(size,))
    start, data = [p.reshape(part(k, 1), shape=()) for k in range(4)], part(4, length)
    z = scan(body, length, start[0], start[1], data, *start[2:])
    every = collected(z, 0) * data * p.exp(-before(z, 0) * before(z, 0))
    value = final(z)[1] + p.sum_(every, axes=(0,))
    return Graph((x, v), (derive.hvp(value, x, v, derive.EXACT_MODES[0]),))


def point(step, length):
    r = np.random.default_rng(0)
    x = np.concatenate([[0.5, 0.3, 0.2, 0.7], 0.3 * r.normal(size=length)])
    if step is vanishing:
        x[4:] = np.where(np.arange(length) % 2, 1.0, -1.0)
    return x, r.normal(size=length + 4)


def products(graph, x, v, costs=CPU):
    """By the split graph: interpreted, and by kernels as plain Python. Also whether it has lanes."""
    state, product = split(graph, graph.inputs[1], costs)
    stored = interpret(Graph(graph.inputs[:1], state), x)
    found = [target(product, *stored, x, v)[0] for target in (interpret, _plain)]
    return found, any(map(has_lanes, product.nodes))


def _plain(graph, *inputs):
    return run_plain(schedule(graph), *inputs)


IN_SEQUENCE = replace(CPU, has_vectors=False)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("length, most", [(256, 1024), (299, 8)], ids=["one block", "blocks"])
@np.errstate(all="ignore")
def test_products(name, length, most, monkeypatch):
    monkeypatch.setattr(lanes, "MOST", most)
    monkeypatch.setattr(lanes, "FEW", most)
    step = STEPS[name]
    graph, (x, v) = product_of(step, length), point(step, length)
    given, is_in_lanes = products(graph, x, v)
    (needed, _), others_are = products(graph, x, v, IN_SEQUENCE)
    assert is_in_lanes and not others_are
    for one in given:
        near = 1e-12 * abs(needed).max() if np.isfinite(needed).all() else 0.0
        np.testing.assert_allclose(one, needed, rtol=1e-12, atol=near)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("name", ["volatility", "triangular"])
@np.errstate(all="ignore")
def test_directions_that_are_not_finite(name, bad):
    step, length = STEPS[name], 256
    graph, (x, v) = product_of(step, length), point(step, length)
    v[100] = bad
    (_, given), _ = products(graph, x, v)
    (_, needed), _ = products(graph, x, v, IN_SEQUENCE)
    np.testing.assert_allclose(given, needed, rtol=1e-12)


def rows_of(x, v):
    """A linear recurrence u' = a u + b w + r, w' = c u + r, of coefficients x and directions v."""
    inside, pool = Pool(), Pool()
    u, w, a, b, c, r = (p.input_node(inside, name, (), "f8") for name in "uwabcr")
    body = Body(
        Graph((u, w, a, b, c, r), (a * u + b * w + r, c * u + r)), 2, 4, linear=frozenset({0, 1, 5})
    )
    x, v = p.input_node(pool, "x", x.shape, "f8"), p.input_node(pool, "v", v.shape, "f8")
    part = lambda one, start, size: p.slice_(one, start=(start,), step=(1,), size=(size,))
    start = [p.reshape(part(v, k, 1), shape=()) for k in range(2)]
    given = [part(x, k * LENGTH, LENGTH) for k in range(3)]
    z = scan(body, LENGTH, *start, *given, part(v, 2, LENGTH))
    return Graph((x, v), (p.concatenate(following(z, 0), following(z, 1), axis=0),))


LENGTH = 256
PHASE = np.arange(LENGTH) % 4
HARD = {
    "differences of large numbers": (12.0, 0.0, 0.0, 1.0, -11.0),
    "numbers that are as good as zero in between": (
        np.where(PHASE < 2, 1e-200, 1e200),
        0,
        0,
        1e300,
        0,
    ),
    "a decay to zero": (1e-3, 0.0, 1.0, 1.0, 0.0),
    "turns": (1.9, -1.0, 1.0, 0.3, 0.1),
    "growth of one of two": (1.0, 0.0, 40.0, 0.0, 1.0),
    "a unit root and zeros": (1.0, 1.0, np.where(PHASE, 0.0, -0.5), 1.0, 0.1),
}


@pytest.mark.parametrize("name", HARD)
def test_rows_have_the_digits_of_the_sweep_in_sequence(name):
    *coefficients, start, data = HARD[name]
    x = np.concatenate([np.broadcast_to(one, LENGTH) for one in coefficients])
    v = np.r_[start, 0.0, np.full(LENGTH, data)]
    graph = rows_of(x, v)
    given, is_in_lanes = products(graph, x, v)
    assert is_in_lanes
    (needed,) = interpret(graph, x, v)
    for one in given:
        np.testing.assert_allclose(one, needed, rtol=1e-12, atol=1e-13 * np.median(abs(needed)))


DATA = np.random.default_rng(0).normal(size=301)


def likelihood(x):
    s, loss = 1.0, 0.0
    for y in DATA:
        s = np.exp(x[0]) + 0.5 * s + 0.1 * x[1] * y**2 + 0.05 * np.sin(s)
        loss = loss + np.log(s) + y**2 / s
    return loss


def control(x):
    s, loss = 0.1, 0.0
    for u in x:
        s = s + 0.01 * (u - np.sin(s))
        loss = loss + s**3 + 0.1 * u**2 * s
    return loss


@pytest.mark.parametrize("fun, size", [(likelihood, 2), (control, 301)])
def test_loops(fun, size):
    f, (x, v) = (
        differentiable(fun, target="interpret"),
        np.random.default_rng(1).normal(size=(2, size)),
    )
    H, needed = f.hessian(x), f.hvp(x, v)  # the second is one program, without lanes
    for given in (H @ v, (H @ np.stack([x, v], axis=1))[:, 1]):
        np.testing.assert_allclose(given, needed, rtol=1e-12, atol=1e-13 * abs(needed).max())
