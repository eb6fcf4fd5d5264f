"""Depth: nothing recurses as deep as a trace is long.

Recurrences that are written into arrays, lists, long products and chains of views, as unrolled loops
leave them; Python's limit on recursion is low here. Values come from NumPy, derivatives from differences
of values and from the three orders of differentiation, which agree.
"""

import sys

import numpy as np
import pytest

import nbhvp
from nbhvp.graph import primitives as p
from nbhvp.graph.boxes import Box
from nbhvp.graph.derive import EXACT_MODES
from nbhvp.graph.interpret import interpret
from nbhvp.plan.lower import lower
from tests.checks import assert_same, kernels
from tests.graphs import Inputs

pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore:the function has done"),
]


def numbers(x, n):
    m = np.zeros(n)
    m[0] = x[1]
    for t in range(1, n):
        m[t] = x[0] * m[t - 1]
    return m[-1]


def whole(x, n):
    m = np.zeros(n)
    m[0] = x[1]
    for t in range(1, n):
        m[t] = np.sin(x[0] * m[t - 1])
    return np.sum(m**2)


def backwards(x, n):
    m = np.zeros(n)
    m[-1] = x[0]
    for t in range(n - 2, -1, -1):
        m[t] = x[1] + 0.9 * np.cos(m[t + 1])
    return m[0] * m[1] + m.mean()


def rows(x, n):
    m = np.zeros((n, 2))
    m[0] = x
    for t in range(n - 1):
        m[t + 1] = m[t] + 0.1 * np.sin(m[t])
    return np.sum(m**2) / n


def columns(x, n):
    m = np.zeros((2, n))
    m[:, 0] = x
    for t in range(1, n):
        m[:, t] = 0.9 * m[:, t - 1] + 0.1 * np.sin(m[::-1, t - 1])
    return np.sum(m * m)


def two_arrays(x, n):
    m, u = np.zeros(n), np.zeros(n)
    m[0], u[0] = x
    for t in range(1, n):
        m[t] = m[t - 1] + 0.1 * u[t - 1]
        u[t] = u[t - 1] - 0.1 * np.sin(m[t])
    return m[-1] * u[-1] + np.sum(m) / n


def two_back(x, n):
    m = np.zeros(n + 2)
    m[:2] = x
    for t in range(n):
        m[t + 2] = 0.5 * m[t + 1] + 0.3 * m[t] * x[0]
    return m[-1] + m[2]


def matrices(x, n):
    m = np.zeros((n, 2, 2))
    m[0] = np.eye(2)
    for t in range(1, n):
        m[t] = (np.eye(2) + 0.1 * np.outer(x, x)) @ m[t - 1] / (1 + 0.01 * x[0] ** 2)
    return np.sum(m[-1]) / (1 + m[n // 2, 0, 1] ** 2)


def entries(x, n):
    """A table of single entries, row by row."""
    side = max(3, int(n**0.5))
    m = np.ones((side, side))
    m[0, 0] = x[0]
    for i in range(1, side):
        for j in range(1, side):
            m[i, j] = np.tanh(0.5 * m[i - 1, j] + 0.3 * m[i, j - 1] + x[1] * m[i - 1, j - 1])
    return np.sum(m**2)


def items(x, n):
    m = [x[1]]
    for _ in range(1, n):
        m.append(x[0] * m[-1] + 0.1)
    return np.sum(np.array(m) ** 2)


def grown(x, n):
    m = x
    for _ in range(min(n, 300)):
        m = np.concatenate([m, x[:1] * np.sin(m[-1:])])
    return np.sum(m)


def overlapping(x, n):
    m = np.zeros(4)
    m[:2] = x
    for _ in range(min(n, 100)):
        m[1:] = 0.9 * m[:-1]
        m[0] = np.sin(x[1] * m[3] + x[0])
    return np.sum(m**2)


def factors(x, n):
    a = 1.0
    for t in range(n):
        a = a * np.cos(0.1 * x[t % 2])
    return np.sum(a * x * x)


def turns(x, n):
    m = x.reshape(2, 1)
    for _ in range(min(n, 200)):
        m = m.T[::-1] * 1.001
    return np.sum(np.sin(m)) * x[0]


def shifts(x, n):
    m = np.zeros(6)
    m[:2] = x
    for _ in range(min(n, 200)):
        m[::2] = np.sin(m[1::2])
        m[1:] = m[:-1]
    return np.sum(m * np.arange(6.0))


FUNCTIONS = [
    numbers, whole, backwards, rows, columns, two_arrays, two_back, matrices, entries, items, grown,
    overlapping, factors, turns, shifts,
]  # fmt: skip
X, V = np.array([0.9, 0.3]), np.array([1.0, -0.5])


@pytest.fixture
def shallow():
    """Room for less than 250 further calls, one within the other."""
    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + 250)
    yield
    sys.setrecursionlimit(before)


def slope(f, step=1e-4):
    return (8 * (f(step) - f(-step)) - (f(2 * step) - f(-2 * step))) / (12 * step)


LONG = [numbers, whole, two_arrays, factors, turns]
CASES = [(fun, 15) for fun in FUNCTIONS] + [(fun, 120) for fun in LONG]


@pytest.mark.no_cover
@pytest.mark.parametrize("fun, n", CASES)
def test_derivatives(fun, n, shallow):
    f = nbhvp.differentiable(fun, target="interpret")
    assert f(X, n) == pytest.approx(fun(X, n), rel=1e-12)
    along = f.grad(X, n) @ V
    assert along == pytest.approx(slope(lambda h: fun(X + h * V, n)), rel=1e-7, abs=1e-8)
    first, *others = (f.hvp(X, V, n, mode=mode) for mode in EXACT_MODES[: 3 if n < 100 else 1])
    needed = slope(lambda h: f.grad(X + h * V, n))
    np.testing.assert_allclose(first, needed, rtol=1e-6, atol=1e-7)
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-9, atol=1e-12)
    several = f.hvp(X, np.stack([V, 2 * V, X], axis=-1), n)
    np.testing.assert_allclose(several[:, 1], 2 * first, rtol=1e-9, atol=1e-12)


@pytest.mark.compiles
def test_compiled():
    f, g = (nbhvp.differentiable(numbers, target=target) for target in ("cpu", "interpret"))
    np.testing.assert_allclose(f.grad(X, 40), [39 * 0.9**38 * 0.3, 0.9**39], rtol=1e-12)
    np.testing.assert_allclose(f.hvp(X, V, 40), g.hvp(X, V, 40), rtol=1e-12)


def test_writes_that_overlap_are_cut_where_a_text_has_many_levels():
    i = Inputs()
    m, y = i(300), i(3)
    for k in range(120):
        m = p.update(m, y, start=(2 * k,), step=(1,))
    graph, inputs = i.graph(m)
    assert_same(graph, inputs)
    assert (
        max(len(line) - len(line.lstrip()) for text in kernels(graph) for line in text.splitlines())
        < 4 * 60
    )


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("shape", [(90,), (30, 3), (5, 6, 3)])
def test_histories_of_writes_are_concatenations(shape, step):
    """One element after the other, in any order, with and without gaps: rows, blocks, entries."""
    rng = np.random.default_rng(0)
    for order in (lambda k: k, reversed, rng.permutation):
        i = Inputs()
        m = i(*shape)
        for place in order(list(np.ndindex(shape))[::step]):
            place = tuple(map(int, np.atleast_1d(place)))
            m = p.update(m, i(*(1,) * len(shape)), start=place, step=(1,) * len(shape))
        graph, inputs = i.graph(m)
        lowered = lower(graph)
        assert p.update not in {node.primitive for node in lowered.nodes}
        assert max(len(node.args) for node in lowered.nodes) <= 16
        np.testing.assert_array_equal(interpret(lowered, *inputs)[0], interpret(graph, *inputs)[0])
        assert_same(graph, inputs)


BOXES = [
    (s, k, n)
    for s in range(6)
    for k in (1, -1, 2, -2, 3)
    for n in (1, 2, 3)
    if 0 <= s + k * (n - 1) < 6
]


def test_boxes_against_sets_of_positions():
    of = {axis: [axis[0] + axis[1] * j for j in range(axis[2])] for axis in BOXES}
    for a in BOXES:
        for b in BOXES:
            one, other = Box((a,)), Box((b,))
            assert not one.is_apart(other) or {*of[a]}.isdisjoint(of[b])
            inside, both = one.within(other), one.joined(other)
            assert (inside is not None) == ({*of[a]} <= {*of[b]})
            if inside is not None:
                ((start, step, size),) = inside.axes
                assert [of[b][start + step * j] for j in range(size)] == of[a]
            if both is not None:
                ((start, step, size),) = both.axes
                assert sorted(start + step * j for j in range(size)) == sorted(of[a] + of[b])


def test_reads_and_writes_of_parts():
    """Any writes, then any read: what is recorded is what NumPy has."""
    rng = np.random.default_rng(0)

    def part(n):
        k = int(rng.choice([1, 1, 1, -1, 2, 3]))
        return slice(*sorted(rng.integers(0, n + 1, 2))[:: 1 if k > 0 else -1], k)

    for _ in range(200):
        writes = [((part(6), part(3)), float(rng.normal())) for _ in range(rng.integers(1, 6))]
        read, zero = (part(6), part(3)), rng.random() < 0.5

        def fun(x, writes=writes, read=read, zero=zero):
            m = np.zeros((6, 3)) if zero else x.reshape(6, 3).copy()
            for place, number in writes:
                m[place] = number if number > 0 else number * x[:3][place[1]]
            return np.sum(np.sin(m[read])) + 0 * x[0]

        x = rng.normal(size=18)
        f = nbhvp.differentiable(fun, target="interpret")
        assert f(x) == pytest.approx(fun(x), abs=1e-12)
        needed = [
            slope(lambda h, x=x, fun=fun, unit=unit: fun(x + h * unit)) for unit in np.eye(18)
        ]
        np.testing.assert_allclose(f.grad(x), needed, atol=1e-8)
