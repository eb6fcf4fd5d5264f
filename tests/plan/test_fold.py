"""Coefficients are collected: the same product, in fewer operations on tangents."""

import numpy as np
import pytest

import nbhvp
from benchmarks.problems import make_surface
from nbhvp.graph import primitives as p
from nbhvp.graph.derive import check, hvp
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, dependent
from nbhvp.plan.splitting.fold import collected
from tests.checks import assert_close, total
from tests.graphs import Inputs, random_graph

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.no_cover]


def product(value, x):
    v = p.input_node(x.pool, "v", x.shape, x.dtype)
    return Graph((x, v), (hvp(value, x, v),)), v


def work(graph, v):
    """The elementwise nodes that depend on the direction."""
    active = dependent(graph.nodes, [v])
    return sum(node in active and node.primitive.is_elementwise for node in graph.nodes)


def assert_collected(graph, v):
    found = collected(graph, [v])
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


@pytest.mark.compiles
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
    found = check(collected(given, [v]), linear_in=v)
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
    (result,) = interpret(collected(Graph((factor, v), (chosen,)), [v]), values, np.ones(20))
    assert np.isfinite(result).all() and result[4] == 0


def sums_of(graph, v):
    active = dependent(graph.nodes, [v])
    return [node for node in graph.nodes if node in active and node.primitive is p.sum_]


def test_what_does_not_change_along_a_sum_is_taken_out_of_it():
    """sum_n of (y_n - x_k)^2 w_nk: a product needs one number per k of the point, and no n."""
    i = Inputs()
    x = i(5)
    y, w = i.constant(np.linspace(0, 1, 40)[:, None]), i.constant(np.ones((40, 5)))
    graph, v = product(total(w * (y - x) ** 4), x)
    found = assert_collected(graph, v)
    assert sums_of(graph, v)
    assert not sums_of(found, v)
    assert all(node.size <= 5 for node in found.nodes if node in dependent(found.nodes, [v]))


def test_tangents_that_change_along_a_sum_are_one_sum():
    """Terms of one sum that differ in numbers alone are not summed one by one."""
    i = Inputs()
    x = i(30)
    low, high = (p.slice_(x, start=(k,), step=(1,), size=(29,)) for k in (0, 1))
    scale = p.sum_(x * x, axes=(0,))
    graph, v = product(scale * total(3 * low * high - high * high), x)
    found = assert_collected(graph, v)
    assert len(sums_of(found, v)) <= len(sums_of(graph, v))


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_sums_over_any_axes(axes):
    i = Inputs()
    x = i(2, 3, 4)
    parts = [
        p.slice_(x, start=(0, 0, 0), step=(1, 1, 1), size=size)
        for size in ((2, 3, 4), (1, 3, 1), (2, 1, 4), (1, 1, 4), (2, 3, 1))
    ]
    whole = sum(a * b * b for a, b in zip(parts, parts[::-1], strict=True))
    graph, v = product(total(p.exp(p.sum_(p.exp(whole), axes=axes) * 0.01)), x)
    assert_collected(graph, v)


def test_tangents_with_one_factor_are_added_up_first():
    """c (a' + b'), where c a' + c b' would take a product more."""
    i = Inputs()
    x, v = i(20), i(20, name="v")
    a, b = (p.slice_(v, start=(k,), step=(1,), size=(19,)) for k in (0, 1))
    c = p.slice_(x, start=(0,), step=(1,), size=(19,))
    graph = Graph((x, v), (2.0 * c * a - c * b * 2.0,))
    assert work(graph, v) > work(assert_collected(graph, v), v) == 3


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_a_sum_of_sums_of_products_takes_the_sum_of_a_factor_first(axes):
    """sum_n sum_i Q_ij t'_ni is sum_i Q_ij sum_n t'_ni."""
    i = Inputs()
    x = i(30, 4, 1)
    q = i.constant(np.linspace(1, 2, 12).reshape(1, 4, 3))
    terms = p.sum_(q * p.cumsum(p.exp(x), axis=0, reverse=False), axes=(1,))
    graph, v = product(total(p.exp(0.01 * p.sum_(terms, axes=axes))), x)
    found = assert_collected(graph, v)
    terms = [sum(node.args[0].size for node in sums_of(one, v)) for one in (graph, found)]
    assert terms[1] < terms[0] or axes != (0,)
