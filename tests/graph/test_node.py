"""Interning, graphs and their print."""

import pickle
import threading

import numpy as np
import pytest

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Pool, dependent, reachable


@pytest.fixture
def x():
    return p.input_node(Pool(), "x", (3,), np.float64)


def test_equal_applications_are_one_node(x):
    assert p.exp(x) is p.exp(x)
    assert p.sum_(x, axes=(0,)) is p.sum_(x, axes=(0,))
    assert p.gather(x, np.int64(1), axis=0) is p.gather(x, np.int64(1), axis=0)
    assert p.input_node(x.pool, "x", (3,), np.float64) is x
    assert x + 2 is x + 2.0


def test_different_applications_are_different_nodes(x):
    assert p.cumsum(x, axis=0, reverse=True) is not p.cumsum(x, axis=0, reverse=False)
    assert x + 2 is not x + 3
    assert p.cast(x, dtype=np.dtype("f4")) is not x
    assert p.input_node(x.pool, "y", (3,), np.float64) is not x


def test_commuting_arguments_are_one_node(x):
    y = p.exp(x)
    assert x * y is y * x
    assert x + y is y + x
    assert x - y is not y - x


def test_constants_intern_by_identity_and_scalars_by_bits(x):
    array = np.arange(3.0)
    assert p.constant(x.pool, array) is p.constant(x.pool, array)
    assert p.constant(x.pool, array) is not p.constant(x.pool, array.copy())
    assert p.constant(x.pool, 1.5) is p.constant(x.pool, np.float64(1.5))
    assert p.constant(x.pool, 0.0) is not p.constant(x.pool, -0.0)
    assert p.constant(x.pool, 1) is not p.constant(x.pool, 1.0)


def test_constants_fold(x):
    two = p.constant(x.pool, 2.0)
    assert (two * 3 + 1).value == 7.0
    assert p.sum_(p.zeros(x.pool, (4, 5), np.float64), axes=(0, 1)).value == 0


def test_index_is_a_topological_order(x):
    z = p.sin(x) * p.exp(x) + x
    nodes = Graph((x,), (z,)).nodes
    assert [n.index for n in nodes] == sorted(n.index for n in nodes)
    assert all(arg.index < node.index for node in nodes for arg in node.args)


def test_reachable_stops_and_dependent_follows(x):
    y = p.sin(x)
    z = p.exp(y) + p.constant(x.pool, np.ones(3))
    assert x not in reachable([z], stop=[y])
    assert dependent(reachable([z]), [y]) == {y, p.exp(y), z}


def test_print_has_a_line_per_node(x):
    text = str(Graph((x,), (p.sum_(p.exp(x) * 2.5, axes=(0,)),)))
    assert text.splitlines()[0].startswith("graph(x:f8[3]")
    assert text.splitlines()[-1].lstrip().startswith("return")
    assert all(word in text for word in ("exp(x)", "2.5", "axes=(0,)"))


def test_pool_is_not_pickled(x):
    with pytest.raises(TypeError, match="pickle the Function"):
        pickle.dumps(x.pool)


def test_interning_from_several_threads(x):
    found = []

    def derive():
        found.append([p.exp(x + k) for k in range(200)])

    threads = [threading.Thread(target=derive) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(
        a is b for nodes in zip(*found, strict=True) for a, b in zip(nodes, nodes[1:], strict=False)
    )
