"""Matrix products that leave the loops of recurrences: the same numbers, by fewer products."""

import numpy as np
import pytest

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph
from nbhvp.plan.fission import fissioned
from nbhvp.trace.record import record
from tests.test_recurrences import T, field, point, trained, wide_network


def product_of(fun, mode):
    (trace, (_, v)) = record(fun, point(fun)[0]), point(fun)
    (x,), (value,) = trace.inputs, trace.outputs
    direction = p.input_node(trace.pool, "v", x.shape, x.dtype)
    product = derive.hvp(value, x, direction, mode)
    return Graph((x, direction), (derive.gradient(value, x), product)), (point(fun)[0], v)


@pytest.mark.parametrize("mode", derive.EXACT_MODES)
@pytest.mark.parametrize("fun", [trained, wide_network, field], ids=lambda fun: fun.__name__)
def test_the_numbers_are_the_same(fun, mode):
    graph, args = product_of(fun, mode)
    for one, other in zip(interpret(fissioned(graph), *args), interpret(graph, *args), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def bodies(graph):
    return [node.primitive.body for node in graph.nodes if node.primitive.body is not None]


def products(graph, ndim):
    """Contractions with a matrix whose result has so many axes."""
    found = [node for node in graph.nodes if node.primitive is p.contract and node.ndim == ndim]
    return [node for node in found if any(one.ndim > 1 for one in (node, *node.args))]


def test_products_with_all_steps_are_one():
    """A loop keeps two products, of the weights with what is carried; no sum is carried."""
    graph, _ = product_of(trained, derive.EXACT_MODES[0])
    assert any(products(body.graph, 2) for body in bodies(graph))
    for body in bodies(fissioned(graph)):
        kept = products(body.graph, 1)
        assert not products(body.graph, 2)
        assert all(one.ndim < 2 for one in body.graph.inputs[: body.carries])
        assert len(kept) <= (2 if body.order else 4)
    assert any(T - 3 <= one.shape[0] <= T for one in products(fissioned(graph), 2))


def test_steps_without_matrix_products_stay():
    graph, _ = product_of(field, derive.EXACT_MODES[0])
    assert fissioned(graph) is graph
