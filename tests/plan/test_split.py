"""Point and product together give the product; what is stored, and what is computed again."""

import numpy as np
import pytest

from nbhvp.graph import primitives as p
from nbhvp.graph.derive import EXACT_MODES, check, hvp
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, dependent
from nbhvp.plan.schedule import schedule
from nbhvp.plan.splitting.split import split
from tests.checks import assert_close, run_plain, total
from tests.graphs import STRUCTURE, Inputs, build
from tests.targets.cpu.test_nests import (
    PROBLEMS,
    logistic,
    perceptron,
    problem,
    rosenbrock,
    stencil_2d,
)

pytestmark = pytest.mark.filterwarnings("error")

CASES = [name for name in STRUCTURE if build(STRUCTURE[name], derive=False)[0].outputs[0].ndim <= 2]


def assert_split(graph, inputs):
    """The product from the state is the product; it is linear; no part of it depends on nothing."""
    direction = graph.inputs[-1]
    state, rest = split(graph, direction)
    check(rest, linear_in=direction)
    assert rest.inputs[len(state) :] == graph.inputs
    *cold, _ = inputs
    stored = interpret(Graph(graph.inputs[:-1], tuple(state)), *cold) if state else []
    needed = interpret(graph, *inputs)
    for target in (interpret, lambda g, *v: run_plain(schedule(g), *v)):
        for given, right in zip(target(rest, *stored, *inputs), needed, strict=True):
            assert_close(given, right, 1e-12 * max(1, abs(right).max(initial=0)))
    return state, rest


@pytest.mark.parametrize("make", PROBLEMS, ids=lambda f: f.__name__)
def test_problems(make):
    graph = problem(make, 7)[1]
    x, v = np.random.default_rng(0).normal(size=(2, *graph.inputs[0].shape))
    assert_split(graph, [x, v])


@pytest.mark.parametrize("name", CASES)
def test_structure(name):
    inputs = Inputs()
    made = STRUCTURE[name](inputs)
    outputs = [z for z in (made if isinstance(made, tuple) else (made,)) if z.dtype == np.float64]
    if not inputs.active or not outputs:
        pytest.skip("no derivative")
    x = inputs.active[0]
    v = p.input_node(x.pool, "v", x.shape, x.dtype)
    value = sum((total(z * z * z) for z in outputs[1:]), total(p.sin(outputs[0])))
    graph = Graph((*inputs.values, v), (hvp(value, x, v),))
    if x in dependent(graph.nodes, [x]) and v in dependent(graph.nodes, [v]):
        values = [*inputs.values.values(), np.cos(np.arange(x.size)).reshape(x.shape)]
        assert_split(graph, values)


@pytest.mark.parametrize("mode", EXACT_MODES)
def test_modes(mode):
    inputs = Inputs()
    x, v = inputs(7), inputs(7, name="v")
    value = total(p.exp(x) * p.tanh(x)) * total(p.cumsum(x, axis=0, reverse=False))
    assert_split(Graph((x, v), (hvp(value, x, v, mode),)), list(inputs.values.values()))


def shapes(make, n):
    state, _ = split(*direction(problem(make, n)[1]))
    return sorted(node.shape for node in state)


def direction(graph):
    return graph, graph.inputs[-1]


def test_what_is_cheap_is_computed_again():
    assert shapes(rosenbrock, 20) == []


def test_logistic_regression_stores_its_weights():
    assert [np.prod(shape) for shape in shapes(logistic, 7)] == [21]


def test_a_network_stores_its_activations():
    """Of each layer, not of each weight."""
    for shape in shapes(perceptron, 7):
        assert len(shape) < 2 or shape[-2] == 28 or shape[-1] == 28 or np.prod(shape) <= 14 * 8


def test_a_stencil_stores_arrays_of_its_own_size_at_most():
    assert all(np.prod(shape) <= 9 * 12 for shape in shapes(stencil_2d, 9))


def test_indices_are_sorted_at_the_point():
    inputs = Inputs()
    x, index = inputs(5), inputs.indices(9, below=5)
    v = p.input_node(x.pool, "v", (5,), x.dtype)
    value = total(p.exp(p.gather(x, index, axis=0)))
    graph = Graph((x, index, v), (hvp(value, x, v),))
    state, rest = assert_split(graph, [*inputs.values.values(), np.arange(5.0)])
    assert any(node.dtype.kind == "i" for node in state)
    assert not any(node.primitive in (p.argsort, p.searchsorted) for node in rest.nodes)


def test_what_does_not_depend_on_the_direction_is_not_in_the_product():
    inputs = Inputs()
    x, v = inputs(7), inputs(7, name="v")
    graph = Graph((x, v), (v * p.exp(p.sin(x)) * 2, p.exp(x) * v))
    state, rest = assert_split(graph, list(inputs.values.values()))
    assert not any(node.primitive in (p.exp, p.sin) for node in rest.nodes)
    assert all(node.args for node in state)


def test_what_vanishes_is_not_stored():
    """Added to a tangent, and 0 times something that depends on x: as the state it would be any number."""
    inputs = Inputs()
    x = inputs(2)
    v = p.input_node(x.pool, "v", x.shape, x.dtype)
    zero = p.constant(x.pool, 0.0)
    graph = Graph((*inputs.values, v), (p.exp(x) * v + zero * p.sin(p.exp(x)),))
    state, _ = assert_split(graph, [*inputs.values.values(), np.array([1.0, -2.0])])
    assert [node.primitive for node in state] == [p.exp]
