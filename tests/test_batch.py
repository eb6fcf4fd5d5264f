"""Products of several directions at once: the transformed graphs, and the ways to ask for them."""

import numpy as np
import pytest
from cases import STRUCTURE, build, random_graph
from checks import assert_close

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.batch import batched
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph

both_ends = pytest.mark.parametrize("leading", [False, True], ids=["last", "first"])
COUNT = 3


def linear_graph(graph: Graph, x, kind: str = "jvp") -> tuple[Graph, object] | None:
    """The tangents of all outputs in a direction of an input, or its adjoints; None if there are none."""
    outputs = [z for z in graph.outputs if z.dtype.kind in "fc"]
    like = [x] if kind == "jvp" else [p.real(z) if z.is_complex else z for z in outputs]
    size = sum(node.size for node in like)
    direction = p.input_node(x.pool, "direction", (size,), like[0].dtype)
    parts, at = [], 0
    for node in like:
        part = p.slice_(direction, start=(at,), step=(1,), size=(node.size,))
        parts.append(p.cast(p.reshape(part, shape=node.shape), dtype=node.dtype))
        at += node.size
    products = derive.jvp(outputs, [x], parts) if kind == "jvp" else derive.vjp(like, [x], parts)
    return derive.check(Graph((*graph.inputs, direction), tuple(products)), linear_in=direction)


def assert_batched(graph: Graph, values, leading: bool, tolerance: float = 1e-12, run=interpret):
    """The product of several directions is that of each."""
    direction = graph.inputs[-1]
    many = batched(graph, direction, COUNT, leading)
    assert many is not None
    axis = 0 if leading else -1
    rng = np.random.default_rng(1)
    v = rng.normal(size=(COUNT, *direction.shape)).astype(direction.dtype)
    given = run(many, *values, np.ascontiguousarray(np.moveaxis(v, 0, axis)))
    columns = [interpret(graph, *values, one) for one in v]
    for a, *needed in zip(given, *columns, strict=True):
        b = np.stack(needed, axis)
        assert_close(a, b, tolerance * max(1.0, np.abs(b).max(initial=0)))


def products_of(graph, values):
    """The tangents and adjoints of a case, from each input that it may be differentiated in."""
    for x in graph.inputs:
        if x.dtype.kind == "f" and any(z.dtype.kind in "fc" for z in graph.outputs):
            for kind in ("jvp", "vjp"):
                yield linear_graph(graph, x, kind)


@both_ends
@pytest.mark.parametrize("name", STRUCTURE)
def test_structure(name, leading):
    single = "single" in name or name == "casts"
    graph, values = build(STRUCTURE[name], derive=False)
    for product in products_of(graph, values):
        assert_batched(product, values, leading, 1e-4 if single else 1e-12)


@both_ends
@pytest.mark.parametrize("seed", range(20))
def test_random_graphs(seed, leading):
    graph, values = random_graph(seed)
    for product in products_of(graph, values):
        assert_batched(product, values, leading, 1e-9)
