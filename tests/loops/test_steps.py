"""Loops over time on tapes: what they give is what the sweep over the whole tape gives.

Values, gradients and products in all exact modes, at the recorded point and at another one; guards hold
where those of the whole tape hold. Programs by hand name what is found; random ones combine lags, reads
forwards and backwards, constants that change, branches, first and last steps that differ, and values
that are read later.
"""

import math
import random
import textwrap
from dataclasses import replace

import numpy as np
import pytest
from numba import njit

import nbhvp
from nbhvp.graph import definitions, derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, Pool
from nbhvp.graph.table.tape import replay, tape_guards
from nbhvp.loops import sections
from nbhvp.loops.roll import costs
from nbhvp.loops.sections import computed
from tests.checks import THOROUGH
from tests.tapes import Number, apply, taped

T = 20
W = np.random.default_rng(0).normal(size=T + 2) / 2


def _function(entry, plain):
    return lambda x: apply(entry, x) if isinstance(x, Number) else plain(x)


sin, tanh = _function(p.sin, math.sin), _function(p.tanh, math.tanh)


def check(fun, x, seed=0):
    """Compare; return what the sections are, None where the sweep is not finite."""
    rng, tape = np.random.default_rng(seed), taped(fun, x)
    graphs, found = [], None
    for in_sections in (True, False):
        pool = Pool()
        node, v = (p.input_node(pool, name, x.shape, float) for name in "xv")
        if in_sections:
            found = computed(tape, [node], [node])
            z, guards = (
                found.outputs,
                [p.equal(p.cast(g, dtype=definitions.BOOL), e) for g, e in found.guards],
            )
        else:
            z, guards = replay(node, tape=tape), [tape_guards(node, tape=tape)]
        weights = p.constant(pool, np.cos(1.0 + np.arange(z.size)))
        value = p.sum_(z * weights, axes=(0,))
        products = [derive.hvp(value, node, v, mode) for mode in derive.EXACT_MODES]
        gradient = derive.gradient(value, node)
        graphs.append((Graph((node, v), (z, gradient, *products)), Graph((node,), tuple(guards))))
    for point in (x, x * (1 + 1e-3 * rng.normal(size=x.size))):
        v = rng.normal(size=x.size)
        ours, swept = (interpret(graph, point, v) for graph, _ in graphs)
        held = [all(map(bool, interpret(guards, point))) for _, guards in graphs]
        assert held[0] == held[1]
        if not all(np.isfinite(one).all() for one in swept):
            return None
        for one, other in zip(ours, swept, strict=True):
            np.testing.assert_allclose(one, other, 1e-9, 1e-11 * max(1.0, abs(other).max()))
    return found


def runge_kutta(x):
    a, w, h = x[0], x[1], 0.1
    for _ in range(T):
        k1 = w, x[2] * (1.0 - a * a) * w - a
        b, u = a + h * k1[0], w + h * k1[1]
        a, w = a + h * u, w + h * (x[2] * (1.0 - b * b) * u - b)
    return a * a + w


def reads(x):
    s = x[0]
    for k in range(T):
        s = sin(s) * x[3 + k] + x[3 + T - k] * x[3 + (7 * k) % T] + W[k] * s + 0.1 * k * x[1]
    return s


def three_back(x):
    y = [x[0], x[1] * x[2], x[1]]
    for k in range(T):
        y.append(sin(y[k]) * 0.5 + y[k + 1] * x[3] - 0.1 * y[k + 2])
    return y[-1] * y[-2]


def computed_before(x):
    table = [sin(x[k]) * x[0] for k in range(T + 1)]
    s = 0.25
    for k in range(T):
        s = s * table[k] + tanh(s * table[T - k])
    return s


def starts_from_constants(x):
    a, b, loss = 0.0, 1.0, 0.0
    for k in range(T):
        a, b = 0.9 * a + W[k] * x[0], 0.5 * b + sin(0.3 * b) * x[1] + 0.1 * sin(0.2 * a)
        loss = loss + (a - b) ** 2
    return loss


def read_later(x):
    s, path = x[0], []
    for _ in range(T):
        s = sin(s) * x[1] + 0.1 * s
        path.append(s)
    total = 0.0
    for k in range(1, T):
        total = total + path[k] * path[k - 1]
    return total, path[3], x[2]


def one_branch(x):
    s = x[0]
    for _ in range(T):
        s = 0.9 * s + 0.1 * sin(x[1] * s) if s > -4.0 else -s
    return s * s


def two_branches(x):
    s = x[0]
    for k in range(2 * T):
        s = sin(s) * x[1] if k % 2 else s * x[2] + 0.1 * s * s
    return s


def until_it_stands(x):
    root, step = 1.0, 1.0
    while abs(step) > 1e-13:
        step = 0.3 * (root * root * root - x[0] - 2.0) / (3.0 * root * root)
        root = root - step
    return root * x[1]


def inner_loops(x):
    u = [x[0], x[1], x[2]]
    for _ in range(T):
        new = []
        for i in range(3):
            s = 0.0
            for j in range(3):
                s = s + x[3 + 3 * i + j] * u[j]
            new.append(tanh(s))
        u = new
    return u


def two_loops(x):
    s, path = x[0], []
    for _ in range(T):
        s = sin(s) * x[1] + 0.1 * s
        path.append(s)
    u = 0.3
    for k in range(T):
        u = tanh(u * x[2] + path[T - 1 - k])
    return u * u


def another_first_step(x):
    s = x[0]
    for k in range(T + 1):
        if k == 0:
            s = s * x[1] + 0.5
        s = sin(s * x[2]) * x[1] + 0.2 * s
    return s


STEPS = [
    (runge_kutta, [T]), (reads, [T]), (three_back, [T]), (computed_before, [T]),
    (starts_from_constants, [T]), (read_later, [T]), (one_branch, [T]), (two_branches, [T]),
    (until_it_stands, None), (inner_loops, [T]), (two_loops, [T, T]), (another_first_step, [T + 1]),
]  # fmt: skip


@pytest.mark.parametrize(("fun", "steps"), STEPS, ids=lambda one: getattr(one, "__name__", ""))
def test_a_loop_over_time_is_found(fun, steps):
    found = check(fun, np.random.default_rng(1).uniform(0.2, 0.9, T + 4))
    if steps is None:
        assert len(found.recurrences) == 1
    else:
        assert [one.steps for one in found.recurrences] == steps
    assert not found.swept


def sums(x):
    total = 0.0
    for k in range(T):
        total = total + sin(x[k]) * x[k + 1]
    return total


def without_a_period(x):
    s = x[0]
    for k in range(T):
        s = s * x[1] + 0.1
        if k * k % 7 < 3:
            s = sin(s)
    return s


def few_steps(x):
    s = x[0]
    for _ in range(7):
        s = sin(s * x[1]) + tanh(s) * x[2] + sin(s) * tanh(x[1] * s) - s * s
    return s


@pytest.mark.parametrize("fun", [sums, without_a_period, few_steps], ids=lambda fun: fun.__name__)
def test_other_loops_are_none(fun):
    assert not check(fun, np.random.default_rng(1).uniform(0.2, 0.9, T + 4)).recurrences


def rod(x):
    """Diffusion, cell by cell, with ends that stay."""
    u = list(x)
    for k in range(T):
        new = [u[0], *(0.0,) * (len(u) - 2), u[-1]]
        for i in range(1, len(u) - 1):
            new[i] = u[i] + 0.1 * (u[i - 1] - 2.0 * u[i] + u[i + 1]) - 0.1 * sin(u[i]) * W[k]
        u = new
    return u


def test_a_step_of_many_operations_is_arrays(monkeypatch):
    found = check(rod, np.random.default_rng(1).uniform(0.2, 0.9, 40))
    assert [one.steps for one in found.recurrences] == [T]
    assert not found.swept
    monkeypatch.setattr(costs, "CPU", replace(costs.CPU, record=1.0))
    for limit in ("MOST", "FEW"):
        monkeypatch.setattr(sections, limit, 0)  # all steps as arrays
    for fun, steps in STEPS:
        found = check(fun, np.random.default_rng(1).uniform(0.2, 0.9, T + 4))
        assert steps is None or [one.steps for one in found.recurrences] == steps


# Random programs.


def expression(rng, names, depth=0):
    way = rng.random()
    if depth > 2 or way < 0.28:
        return rng.choice(names)
    if way < 0.36:
        return repr(round(rng.uniform(-1.5, 1.5), 2))
    inner = expression(rng, names, depth + 1)
    for bound, form in ((0.5, "sin({})"), (0.6, "tanh({})"), (0.64, "1.0 / (1.5 + sin({}))")):
        if way < bound:
            return form.format(inner)
    return f"({inner} {rng.choice('+-**')} {expression(rng, names, depth + 1)})"


def program(seed):
    """The text of a loop of some steps, and how many."""
    rng = random.Random(seed)
    often = lambda probability, lines: lines if rng.random() < probability else []
    steps, states = rng.choice([9, 12, 17, 25, 40]), ["a", "b", "c"][: rng.randint(1, 3)]
    reads = ["x[0]", "x[1]", "x[2]"]
    for some in (["x[6+k]"], ["x[6+T-k]"], ["x[6+(7*k)%T]"], ["W[k]"], ["0.1*k"], ["float(k%2)"]):
        reads += often(0.3, some)
    starts = ["x[0]", "x[1]", "0.0", "0.5", "x[2]*x[0]", "1.0"]
    before = [f"{one} = {rng.choice(starts)}" for one in states] + ["out, total = [], 0.0"]
    if rng.random() < 0.3:
        before.append("table = [sin(x[6+j])*x[3] for j in range(T+1)]")
        reads += rng.choice([["table[k]"], ["table[k]", "table[T-k]"]])
    has_lags = rng.random() < 0.35
    names = states + reads
    if has_lags:
        firsts = [rng.choice(["x[0]", "x[3]", "0.25", "sin(x[1])"]) for _ in range(3)]
        before.append(f"y = [{', '.join(firsts)}]")
        names += ["y[k+2]", rng.choice(["y[k+1]", "y[k]"])]
    body = often(0.12, [f"if k == {rng.randint(0, 5)}: a = a + 0.25*x[1]"])
    body += often(0.15, ["if k % 2 == 0: a = a*0.9 + 0.1*x[0]"])
    body += often(0.1, ["if k % 3 == 0: a = sin(a)"])
    body += often(0.12, ["if a > 0.3: a = a*0.95"])
    body += often(0.12, ["if a > -5.0: a = a*x[1]"])
    body += often(0.1, ["if k == T-3: break"])
    body += often(0.06, ["if a > 1.2: break"])
    for k in range(rng.randint(0, 3)):
        body.append(f"t{k} = {expression(rng, names)}")
        names.append(f"t{k}")
    body += often(0.2, ["for j in range(4):", "    a = a + 0.1*sin(a * x[j])"])
    if has_lags:
        body.append(f"y.append({expression(rng, names)})")
    new = ", ".join(f"0.3*{one} + 0.4*({expression(rng, names)})" for one in states)
    body.append(f"{', '.join(states)} = {new}")
    body += often(0.5, [f"total = total + ({expression(rng, states)})**2"])
    results = [f"{one}*{one}" for one in states] + ["total"] + ["y[-1]*y[-2]"] * has_lags
    after = []
    if rng.random() < 0.4:
        body.append(f"out.append({rng.choice(states)})")
        after = rng.choice(
            [
                ["for j in range(1, len(out)):", "    total = total + out[j]*out[j-1]"],
                ["for one in out:", "    total = sin(total) + one*x[0]"],
                ["if len(out) > 5: total = total + out[3] * out[-1]"],
            ]
        )
    first = 0 if has_lags else rng.choice([0, 0, 0, 1, 2])
    loop = [f"for k in range({first}, T):", *("    " + one for one in body)]
    result = (
        "return " + ", ".join(results) if rng.random() < 0.3 else "return " + " + ".join(results)
    )
    text = "\n".join([*before, *loop, *after, result])
    return "def fun(x):\n" + textwrap.indent(text, "    "), steps


def test_random_loops():
    found = []
    for seed in range(2000 if THOROUGH else 12):
        text, steps = program(seed)
        rng = np.random.default_rng(seed)
        names = {"sin": sin, "tanh": tanh, "T": steps, "W": rng.normal(size=steps + 2) / 2}
        exec(text, names)
        try:
            one = check(names["fun"], rng.uniform(0.1, 0.9, steps + 8), seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}:\n{text}") from error
        found.append(one is not None and len(one.recurrences))
    assert sum(map(bool, found)) > len(found) / 2


# Compiled functions.


@njit
def filtered(x, observed):
    """A filter of a random walk in two dimensions, with a matrix that its parameters give."""
    gain = np.empty((2, 2))
    for i in range(2):
        for j in range(2):
            gain[i, j] = math.tanh(x[2 * i + j])
    state, loss = np.zeros(2), 0.0
    path = np.zeros(observed.shape[0])
    for t in range(observed.shape[0]):
        error = observed[t] - state
        for i in range(2):
            for j in range(2):
                state[i] += gain[i, j] * error[j]
        path[t] = state[0] * state[1]
        loss += error[0] ** 2 + math.log(1.0 + error[1] ** 2)
    for t in range(1, path.size):
        loss += (path[t] - path[t - 1]) ** 2
    return loss


@pytest.mark.compiles
def test_compiled():
    observed = np.cumsum(np.random.default_rng(0).normal(size=(50, 2)), axis=0)
    x, v = np.array([0.3, -0.2, 0.1, 0.5]), np.array([1.0, -2.0, 0.5, 0.3])
    f, plain = (nbhvp.differentiable(filtered, target=one) for one in ("cpu", "interpret"))
    assert f(x, observed) == pytest.approx(filtered(x, observed), rel=1e-14)
    (call,) = f.report().loops
    assert [one.steps for one in call.recurrences] == [50] and call.is_rolled
    np.testing.assert_allclose(f.grad(x, observed), plain.grad(x, observed), rtol=1e-12)
    H = f.hessian(x, observed)
    np.testing.assert_allclose(H @ v, plain.hvp(x, v, observed), rtol=1e-11)
    step = 1e-5 * v
    slope = (f.grad(x + step, observed) - f.grad(x - step, observed)) / 2e-5
    np.testing.assert_allclose(H @ v, slope, rtol=1e-6, atol=1e-9 * abs(slope).max())
    assert f.report().traces == 1
