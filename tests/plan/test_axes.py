"""Arrays with their long axis last: the same function, over longer loops."""

import numpy as np
import pytest

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.derive import check, hvp
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, dependent
from nbhvp.plan.lower import lower
from nbhvp.plan.nests import axes as axes_
from nbhvp.plan.nests.axes import long_axis_last
from nbhvp.plan.schedule import schedule
from nbhvp.plan.splitting.split import split
from tests.checks import assert_same, compiled, texts_of, together, total
from tests.graphs import STRUCTURE, Inputs, build, random_graph

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.no_cover]

LONG = 300


def points(i, *others, seed=0):
    """A constant of many rows and a few columns."""
    return i.constant(np.random.default_rng(seed).normal(size=(LONG, *others)))


def distances(i):
    difference = points(i, 1, 5) - i(6, 5)
    return p.sum_(difference * difference, axes=(2,))


def scaled(i):
    t = (points(i, 1, 5) - i(6, 5)) * p.exp(i(6, 5, name="s"))
    return p.sum_(p.sin(t) * t, axes=(2,))


def softmax(i):
    e = p.exp(-0.1 * distances(i))
    return e / p.reshape(p.sum_(e, axes=(1,)), shape=(LONG, 1))


def choices(i):
    d = distances(i)
    return p.where(p.less(d, 5.0), d, p.sqrt(d))


def contraction(i):
    d = p.sin(distances(i))
    return p.contract(d, i(6, 7), subscripts="nk,kj->nj") * points(i, 7)


def contraction_of_a_turned_one(i):
    t = p.sin(points(i, 1, 5) - i(6, 5))
    return p.contract(i(6, 5, 5), t, subscripts="kij,nkj->nki") * t


def reshaped(i):
    t = p.reshape(p.exp(p.reshape(distances(i), shape=(LONG, 1, 6))), shape=(1, LONG, 6, 1))
    return p.reshape(t, shape=(LONG, 6)) * p.reshape(i(6), shape=(1, 6))


def picked(i):
    d = distances(i)
    return d - p.reshape(p.pick(d, p.argmax(d, axis=1), axis=1), shape=(LONG, 1))


def read_by_others(i):
    d = distances(i)
    part = p.slice_(d, start=(3, 1), step=(2, 1), size=(100, 4))
    scan = p.cumsum(d, axis=1, reverse=False)
    joined = p.concatenate(d, d * 2.0, axis=1)
    return total(part) + total(scan * d) + total(joined * joined)


FUNCTIONS = [
    distances, scaled, softmax, choices, contraction, contraction_of_a_turned_one, reshaped, picked
]  # fmt: skip


def built(function):
    i = Inputs()
    value = total(function(i) ** 2)
    x = i.active[0]
    v = p.input_node(i.pool, "v", x.shape, x.dtype)
    inputs = (*i.values.values(), np.cos(np.arange(x.size)).reshape(x.shape))
    gradient = derive.gradient(value, x)
    return Graph((*i.values, v), (value, gradient, hvp(value, x, v))), inputs, v


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_same_function(function):
    graph, inputs, v = built(function)
    graph = lower(graph, products=False)
    found = check(long_axis_last(graph), linear_in=None)
    assert found.outputs != graph.outputs
    assert_same(graph, inputs, 1e-11, lambda _, *values: interpret(found, *values))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_sums_run_along_the_long_axis(function):
    """No sum of the product has a short innermost loop left."""
    graph, _, v = built(function)
    _, product = split(Graph(graph.inputs, graph.outputs[2:]), v)
    for node in product.nodes:
        if node.primitive is p.sum_ and LONG in node.args[0].shape and node.args[0].ndim > 1:
            assert node.args[0].shape[-1] == LONG


@pytest.mark.parametrize("function", FUNCTIONS)
def test_orders_agree_between_programs(function):
    """What is dear and stored at the point is the same node in the gradient's graph."""
    graph, _, v = built(function)
    state, _ = split(Graph(graph.inputs, graph.outputs[2:]), v)
    again = long_axis_last(lower(Graph(graph.inputs, graph.outputs[:2]), products=False))
    known = set(again.nodes)
    dear = [node for node in state if node.primitive in (p.exp, p.sin, p.sqrt)]
    assert known.issuperset(node for node in dear if node.size > LONG)


def rows_of_the_input(i):
    x = i(LONG, 5)
    return p.sum_(x * x, axes=(1,))


def few_rows(i):
    difference = i.constant(np.ones((20, 1, 5))) - i(6, 5)
    return p.sum_(difference * difference, axes=(2,))


def coordinates(i):
    difference = points(i, 3) - i(3)
    return p.sum_(difference * difference, axes=(1,))


@pytest.mark.parametrize("function", [rows_of_the_input, few_rows, coordinates])
def test_what_keeps_its_order(function):
    """Inputs lie in their own order, and loops over few elements are written out."""
    graph, _, _ = built(function)
    graph = lower(Graph(graph.inputs, graph.outputs[:1]), products=False)
    assert long_axis_last(graph).outputs == graph.outputs


def test_large_data_are_not_read_once_for_each_short_loop():
    i = Inputs()
    y = i.constant(np.broadcast_to(np.zeros(()), (10**6, 1, 5)))
    value = total(p.sum_((y - i(6, 5)) ** 2.0, axes=(2,)) ** 2)
    graph = i.graph(value)[0]
    assert long_axis_last(graph) is graph


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("shape", [(LONG, 6, 5), (6, LONG, 5), (1, LONG, 7), (LONG, 1, 8)])
def test_sums_over_any_axes(shape, axes):
    i = Inputs()
    rng = np.random.default_rng(1)
    y = i.constant(rng.normal(size=shape))
    summed = p.sum_(p.sin(y * i(shape[2]) + i(shape[1], 1)), axes=axes)
    graph, inputs = i.graph(summed, total(p.sum_(y * i(shape[2]), axes=(2,)) ** 2))
    found = check(long_axis_last(graph))
    assert_same(graph, inputs, 1e-11, lambda _, *values: interpret(found, *values))


@pytest.fixture
def all_turned(monkeypatch):
    """Every array that can be has its longest axis last, whatever it costs."""

    def order(node):
        shape = node.shape
        if len(shape) < 2 or 0 in shape or not node.args:
            return None
        longest = max(range(len(shape)), key=lambda k: shape[k])
        return (*(k for k in range(len(shape)) if k != longest), longest)

    monkeypatch.setattr(axes_, "new_order", order)
    monkeypatch.setattr(
        axes_, "_worthwhile", lambda graph, nodes, orders: {*axes_._groups(nodes, orders)}
    )


@pytest.mark.parametrize("function", [*FUNCTIONS, read_by_others, rows_of_the_input, few_rows])
def test_read_by_all_kinds(function, all_turned):
    graph, inputs, _ = built(function)
    found = check(long_axis_last(graph))
    assert_same(graph, inputs, 1e-11, lambda _, *values: interpret(found, *values))


@pytest.mark.parametrize("name", STRUCTURE)
def test_structure(name, all_turned):
    graph, inputs = build(STRUCTURE[name])
    found = check(long_axis_last(graph))
    assert_same(graph, inputs, 1e-11, lambda _, *values: interpret(found, *values))


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs(seed, all_turned):
    graph, inputs = random_graph(seed)
    found = check(long_axis_last(graph))
    assert_same(graph, inputs, 1e-9, lambda _, *values: interpret(found, *values))


def test_short_axes_beside_a_long_one_are_written_out():
    """A sum over five coordinates is five terms in the loop over the points."""
    graph, _, _ = built(distances)
    (text, *_) = [
        t for t in texts_of(schedule(Graph(graph.inputs, graph.outputs[:1]))) if "- " in t
    ]
    assert text.count(" - ") == 5


def test_heavy_elements_are_not_written_out():
    i = Inputs()
    heavy = points(i, 6) * i(6)
    for _ in range(8):
        heavy = p.sin(heavy) / (1.0 + heavy * heavy)
    spread = p.reshape(heavy, shape=(LONG, 6, 1)) * i(6, 5)
    turned = p.sum_(spread * spread, axes=(2,)) * heavy
    for text in texts_of(schedule(i.graph(p.sum_(turned * turned, axes=(0,)))[0])):
        assert text.count("sin(") <= 8


@pytest.mark.compiles
def test_compiled():
    cases = {}
    for function in FUNCTIONS:
        graph, inputs, v = built(function)
        assert v in dependent(graph.nodes, [v])
        cases[function.__name__] = graph, inputs
    graph, inputs, names = together(cases)
    assert_same(graph, inputs, 1e-10, compiled, names)
