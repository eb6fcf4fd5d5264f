"""Opposite differences are one array: the same product, in fewer operations."""

import numpy as np
import pytest

from nbhvp.graph import primitives as p
from nbhvp.graph.derive import check, hvp
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, dependent
from nbhvp.plan.splitting.signs import without_opposites
from tests.checks import assert_close, total
from tests.graphs import Inputs, random_graph

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.no_cover]


def product(value, x, inputs=None):
    v = p.input_node(x.pool, "v", x.shape, x.dtype)
    return Graph((*(inputs or (x,)), v), (hvp(value, x, v),)), v


def test_two_differences_are_one():
    i = Inputs()
    x = i(30)
    left, right = (p.slice_(x, start=(k,), step=(1,), size=(29,)) for k in (0, 1))
    d, opposite = left - right, right - left
    value = total(p.exp(d * d)) + total(d * p.sin(opposite)) - total(opposite * opposite * left)
    graph, v = product(value, x)
    found = check(without_opposites(graph, 1), linear_in=v)
    inputs = np.random.default_rng(0).normal(size=(2, 30))
    assert_close(interpret(found, *inputs)[0], interpret(graph, *inputs)[0], 1e-13)
    tangents = lambda graph: [
        node for node in graph.nodes
        if node.primitive is p.subtract and set(node.args) <= dependent(graph.nodes, [v])
        and all(arg.primitive is p.slice_ for arg in node.args)
    ]  # fmt: skip
    assert (len(tangents(graph)), len(tangents(found))) == (2, 1)
    assert without_opposites(graph) is graph


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs(seed):
    graph, inputs = random_graph(seed)
    (x, *_) = graph.inputs
    known = dependent(graph.nodes, [x])
    outputs = [z for z in graph.outputs if z.dtype == np.float64 and z in known]
    if not outputs:
        pytest.skip("no derivative")
    value = sum(total(z) + total((z - 1.5) * (1.5 - z)) for z in outputs)
    given, v = product(value, x, graph.inputs)
    values = (*inputs, np.cos(np.arange(x.size)).reshape(x.shape))
    with np.errstate(all="ignore"):
        (a,), (b,) = interpret(without_opposites(given, 1), *values), interpret(given, *values)
    assert_close(a, b, 1e-9 * max(1, abs(b).max(initial=0)))


def test_signs_of_zeros_are_kept_where_they_decide():
    """On the branch cut of an angle, of which the square has a product that depends on its sign."""
    i = Inputs()
    x = i(4)
    a, b = (p.slice_(x, start=(k,), step=(1,), size=(2,)) for k in (0, 2))
    d, e = a - b, b - a
    angles = p.arctan2(d, a - 9.0), p.arctan2(e * a, a - 9.0)
    graph, v = product(sum(total(one * one) for one in angles) + total(d * e), x)
    inputs = np.array([0.5, 0.25, 1.0, 0.25]), np.array([1.0, 2.0, -1.0, 0.5])
    found = without_opposites(graph, 1)
    assert_close(interpret(found, *inputs)[0], interpret(graph, *inputs)[0], 1e-13)
