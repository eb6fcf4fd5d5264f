"""Sums by segments over pairs: observations of points by cameras, measurements of groups.

Each pair has two ends, whose numbers may be sorted, or not. What is summed by the sorted end joins the
pass over the pairs, segment by segment; kernels run as plain Python against the interpreter, and a few
compiled.
"""

import numpy as np
import pytest

from nbhvp.graph import primitives as p
from nbhvp.graph.batch import batched
from nbhvp.graph.derive import EXACT_MODES, gradient, hvp
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph
from nbhvp.plan import joining
from nbhvp.plan.costs import CPU
from nbhvp.plan.schedule import schedule
from nbhvp.plan.splitting.split import split
from nbhvp.trace.record import record
from tests.checks import assert_close, assert_same, compiled, together

pytestmark = pytest.mark.filterwarnings("error")

M, N, PAIRS = 4, 6, 24
RNG = np.random.default_rng(0)
SORTED = np.sort(RNG.integers(0, M, PAIRS))
GAPS = np.sort(RNG.choice([0, M - 1], PAIRS))
"""Two segments of four have no pair."""
GRID = np.repeat(np.arange(M), N)
ONE_EACH = np.arange(PAIRS)
ANY, ANY_SORTED = RNG.integers(0, N, PAIRS), np.sort(RNG.integers(0, N, PAIRS))
ENDS = {
    "one end sorted": (SORTED, ANY),
    "both sorted": (SORTED, ANY_SORTED),
    "neither sorted": (ANY % M, ANY),
    "segments without a pair": (GAPS, ANY),
    "a grid": (GRID, np.tile(np.arange(N), M)),
    "as many segments as pairs": (ONE_EACH, ANY),
}


def columns(x, i, j, left, right):
    """Rows of two tables, of some columns each, for both ends of each pair."""
    rows = i.max() + 1
    a, b = x[: rows * left].reshape(rows, left), x[rows * left : rows * left + N * right]
    return a[i], b.reshape(N, right)[j], rows


def residuals(x, i, j, parameters=9):
    """A camera of nine parameters and a point of three."""
    camera, point, _ = columns(x, i, j, parameters, 3)
    turned = np.cos(np.sum(camera[:, :3] ** 2, axis=1)) * point[:, 0] + camera[:, 3]
    return np.sum(turned**2) + np.sum(camera[:, -1] * point[:, 2])


def many_parameters(x, i, j):
    """More than are written out."""
    return residuals(x, i, j, CPU.pieces + 1)


def as_many_columns_as_rows(x, i, j):
    a, b, rows = columns(x, i, j, 4, 3)
    z = np.zeros((rows, 4))
    np.add.at(z, i, a * np.sum(b, axis=1)[:, None])
    return np.sum(np.exp(-(z**2)))


def groups(x, i, j):
    """Each pair against the mean of its group."""
    a, b, rows = columns(x, i, j, 1, 2)
    t = a[:, 0] * b[:, 1] + np.sin(b[:, 0])
    mean = np.bincount(i, weights=t, minlength=rows) / np.maximum(np.bincount(i, minlength=rows), 1)
    return np.sum((t - mean[i]) ** 2)


def blocks(x, i, j):
    """A small matrix for each row."""
    a, b, rows = columns(x, i, j, 4, 2)
    product = (a.reshape(-1, 2, 2) @ b[:, :, None])[:, :, 0]
    z = np.zeros((rows, 2))
    np.add.at(z, i, product)
    return np.sum(np.tanh(z) ** 2)


def two_sums(x, i, j):
    """A sum by each end, and a wide one."""
    a, b, rows = columns(x, i, j, 2, 7)
    t = np.exp(-(a[:, 0] ** 2)) * b[:, 6]
    wide = np.zeros((N, 7))
    np.add.at(wide, j, t[:, None] * b)
    return np.sum(np.bincount(i, weights=t, minlength=rows) ** 3) + np.sum(np.sin(wide) * wide)


def runs(x, i, j):
    a, b, _ = columns(x, i, j, 3, 3)
    t = np.sum(a * b, axis=1)
    starts = np.flatnonzero(np.diff(i, prepend=-1))
    return np.sum(np.add.reduceat(t**2, starts) * np.arange(1.0, len(starts) + 1))


def entries(x, i, j):
    """A sum by both ends at once."""
    a, b, rows = columns(x, i, j, 2, 2)
    z = np.zeros((rows, N))
    np.add.at(z, (i, j), np.sum(a * b, axis=1))
    return np.sum(np.cos(z) * z)


FUNCTIONS = [residuals, as_many_columns_as_rows, groups, blocks, two_sums, runs, entries]


def graphs(fun, i, j, modes=EXACT_MODES):
    """Programs of a function: gradient, and the products of one direction and of several."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=20 * (i.max() + 1) + 7 * N)
    trace = record(lambda x: fun(x, i, j), x, (), {})
    (node,), (value,) = trace.inputs, trace.outputs
    v = p.input_node(node.pool, "v", node.shape, node.dtype)
    yield "gradient", Graph((node,), (value, gradient(value, node))), (x,)
    for mode in modes:
        state, product = split(Graph((node, v), (hvp(value, node, v, mode),)), v)
        known = interpret(Graph((node,), state), x)
        yield f"{mode} at the point", Graph((node,), state), (x,)
        yield mode, product, (*known, x, rng.normal(size=x.shape))
        if mode is not modes[0]:
            continue
        several = batched(product, product.inputs[-1], 8)
        yield f"{mode} of several", several, (*known, x, rng.normal(size=(*x.shape, 8)))


@pytest.mark.no_cover
@pytest.mark.parametrize("fun", FUNCTIONS)
@pytest.mark.parametrize("ends", ENDS)
def test_every_program(fun, ends):
    products = {}
    modes = EXACT_MODES if ends == "one end sorted" else EXACT_MODES[:1]
    for name, graph, values in graphs(fun, *ENDS[ends], modes):
        assert_same(graph, values, 1e-11, names=[f"{name} {k}" for k in range(len(graph.outputs))])
        if name in EXACT_MODES:
            (product,) = interpret(graph, *values[:-1], np.cos(np.arange(values[-1].size)))
            products[name] = product
    for product in products.values():
        assert_close(product, products[EXACT_MODES[0]], 1e-9)


@pytest.mark.compiles
def test_compiled():
    packed = {}
    for fun in (residuals, groups):
        for name, graph, values in graphs(fun, *ENDS["one end sorted"], EXACT_MODES[:1]):
            packed[f"{fun.__name__} {name}"] = graph, values
    graph, inputs, labels = together(packed)
    assert_same(graph, inputs, 1e-11, compiled, labels)


def test_sums_by_a_sorted_end_join_the_pass_over_the_pairs(monkeypatch):
    joined = []

    def along(nest, reader, puller):
        found = joining_along(nest, reader, puller)
        joined.append(found is not None and max(len(member.loops) for member in found.members))
        return found

    joining_along = joining.along_segments
    monkeypatch.setattr(joining, "along_segments", along)
    for fun in (residuals, many_parameters, as_many_columns_as_rows, groups):
        for _, graph, _ in graphs(fun, *ENDS["one end sorted"], EXACT_MODES[:1]):
            schedule(graph)
    assert {1, 2} <= set(joined)
