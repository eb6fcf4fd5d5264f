"""Digests of graphs: equal for what is made anew in the same way, different for all else."""

import numpy as np
import pytest

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.copies import alone
from nbhvp.graph.digest import digest
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, Pool
from nbhvp.graph.table.scan import Body, final, scan

INDEX = np.array([2, 0, 1])
MATRIX = np.arange(9.0).reshape(3, 3)


def function(
    n=3,
    dtype="f8",
    name="x",
    factor=2.0,
    index=INDEX,
    matrix=MATRIX,
    axis=0,
    primitive=p.sin,
    order=1,
    extra=False,
    last=True,
):
    pool = Pool()
    x = p.input_node(pool, name, (n,), dtype)
    y = p.input_node(pool, "y", (n,), dtype)
    z = p.multiply(primitive(p.gather(x, p.constant(pool, index), axis=0)), factor)
    rows = p.multiply(p.constant(pool, matrix), z)
    total = p.sum_(p.sum_(rows, axes=(axis,)), axes=(0,))
    inputs = (x, y) if order > 0 else (y, x)
    return Graph(inputs, (total, z) if extra else (total,) if last else (z,))


VARIANTS = {
    "as it is": {},
    "another size": {"n": 4},
    "single precision": {"dtype": "f4"},
    "another name": {"name": "w"},
    "another number": {"factor": 3.0},
    "a number of another sign": {"factor": -2.0},
    "another index": {"index": np.array([2, 1, 0])},
    "an index of another dtype": {"index": INDEX.astype(np.int32)},
    "another constant": {"matrix": MATRIX + np.eye(3) * 1e-15},
    "a constant in another order": {"matrix": np.asfortranarray(MATRIX)},
    "minus zero": {"matrix": np.where(MATRIX == 0, -0.0, MATRIX)},
    "another axis": {"axis": 1},
    "another function": {"primitive": p.cos},
    "inputs in turn": {"order": -1},
    "one more output": {"extra": True},
    "another output": {"last": False},
}


def loop(length=4, reverse=False, factor=1.5, linear=False):
    pool, x = Pool(), None
    u = p.input_node(pool, "u", (2,), "f8")
    s = p.input_node(pool, "s", (2,), "f8")
    step = p.multiply(u, factor) if linear else p.multiply(p.sin(u), factor)
    body = Body(Graph((u, s), (p.add(step, s),)), 1, 1, reverse)
    outer = Pool()
    x = p.input_node(outer, "x", (2,), "f8")
    rows = p.input_node(outer, "rows", (length, 2), "f8")
    (end,) = final(scan(body, length, x, rows))
    return Graph((x, rows), (p.sum_(end, axes=(0,)),))


LOOPS = {
    "a loop": {},
    "a longer loop": {"length": 5},
    "a loop backwards": {"reverse": True},
    "a loop with another number": {"factor": 1.25},
    "a linear loop": {"linear": True},
}


def test_graphs_share_a_digest_only_with_themselves():
    made = [function(**v) for v in VARIANTS.values()] + [loop(**v) for v in LOOPS.values()]
    again = [function(**v) for v in VARIANTS.values()] + [loop(**v) for v in LOOPS.values()]
    digests = list(map(digest, made))
    assert digests == list(map(digest, again))
    assert None not in digests and len({*digests}) == len(made)
    assert digest(made[0], "a word") not in digests


def test_products_of_another_order_of_derivation_have_another_digest():
    graph = loop()
    x, value = graph.inputs[0], graph.outputs[0]
    v = p.input_node(x.pool, "v", x.shape, x.dtype)
    hvps = [Graph((*graph.inputs, v), (derive.hvp(value, x, v, m),)) for m in derive.EXACT_MODES]
    assert len({digest(one) for one in (graph, *hvps)}) == 1 + len(hvps)


@pytest.mark.parametrize("make", [function, loop])
def test_a_copy_is_the_same_graph_whatever_its_pool_had(make):
    graph, other = make(), make()
    for node in other.nodes:  # so much more, made before what follows
        if node.dtype == np.float64:
            p.exp(p.negative(node))
    copies = alone(graph), alone(other)
    assert len({digest(one) for one in (graph, other, *copies)}) == 1
    inputs = [np.linspace(0.1, 0.7, node.size).reshape(node.shape) for node in graph.inputs]
    assert interpret(copies[0], *inputs) == interpret(graph, *inputs)
    pools = {node.pool for node in copies[0].nodes}
    assert len(pools) == 1 and pools.isdisjoint({node.pool for node in graph.nodes})


def test_what_is_not_known_has_no_digest():
    strange = p.Primitive("strange", "discrete", np.sign, lambda x: (x.shape, x.dtype), linear=())
    x = p.input_node(Pool(), "x", (2,), "f8")
    assert digest(Graph((x,), (strange(x),))) is None
    assert digest(Graph((x,), (p.sin(x),))) is not None
