"""Coefficients are collected: the same product, in fewer operations on tangents."""

import numpy as np
import pytest
from cases import Inputs, random_graph
from checks import assert_close, total

import nbhvp
from benchmarks.problems import make_surface
from nbhvp.compile.fold import collected
from nbhvp.graph import primitives as p
from nbhvp.graph.derive import check, hvp
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, dependent

pytestmark = pytest.mark.filterwarnings("error")


def product(value, x):
    v = p.input_node(x.pool, "v", x.shape, x.dtype)
    return Graph((x, v), (hvp(value, x, v),)), v


def work(graph, v):
    """The elementwise nodes that depend on the direction."""
    active = dependent(graph.nodes, [v])
    return sum(node in active and node.primitive.is_elementwise for node in graph.nodes)


def assert_collected(graph, v):
    found = collected(graph, v)
    check(found, linear_in=v)
    inputs = np.random.default_rng(0).uniform(0.5, 1.5, (2, *v.shape))
    (given,), (needed,) = interpret(found, *inputs), interpret(graph, *inputs)
    assert_close(given, needed, 1e-12)
    return found


def test_a_chain_of_one_variable_is_one_product():
    x = Inputs()(20)
    graph, v = product(total(p.exp(x * x) * p.sin(x) / (1 + x * x)), x)
    found = assert_collected(graph, v)
    assert work(graph, v) > 10
    assert work(found, v) == 1


def test_equal_coefficients_are_one_node():
    """Of the symmetric 2 x 2 matrices between diagonals and their adjoints, three entries each."""
    problem = make_surface((30, 40))
    stored = nbhvp.differentiable(problem.fun).hessian(problem.x0).report().stored
    assert sorted(a.size for name, a in stored.items() if name != "x") == [29 * 39] * 3


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs(seed):
    graph, inputs = random_graph(seed)
    (x, *_) = graph.inputs
    outputs = [
        z for z in graph.outputs if z.dtype == np.float64 and x in dependent(graph.nodes, [x])
    ]
    value = sum(map(total, outputs))
    v = p.input_node(x.pool, "direction", x.shape, x.dtype)
    given = Graph((*graph.inputs, v), (hvp(value, x, v),))
    if v not in dependent(given.nodes, [v]):
        pytest.skip("no derivative")
    found = check(collected(given, v), linear_in=v)
    values = (*inputs, np.cos(np.arange(x.size)).reshape(x.shape))
    with np.errstate(all="ignore"):
        (a,), (b,) = interpret(found, *values), interpret(given, *values)
    assert_close(a, b, 1e-9 * max(1, abs(b).max(initial=0)))


def test_what_is_not_chosen_cannot_spoil_the_product():
    """An infinite tangent, read through a view, is left out by a condition."""
    i = Inputs()
    factor, v = i(20), i(20, name="v")
    tangent = p.slice_(factor * v, start=(1,), step=(1,), size=(18,))
    condition = p.less(p.slice_(factor, start=(1,), step=(1,), size=(18,)), 1e300)
    chosen = p.where(condition, tangent + tangent, p.zeros(v.pool, (), v.dtype)) * 3.0
    values = np.linspace(1, 2, 20)
    values[5] = np.inf
    (result,) = interpret(collected(Graph((factor, v), (chosen,)), v), values, np.ones(20))
    assert np.isfinite(result).all() and result[4] == 0
