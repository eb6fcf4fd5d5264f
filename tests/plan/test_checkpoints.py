"""Loops over time that keep less: the same numbers, within a bound in bytes."""

import pickle

import numpy as np
import pytest

import nbhvp
from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, reachable
from nbhvp.plan.splitting.checkpoints import _even, bounded
from nbhvp.plan.splitting.split import split
from nbhvp.trace.record import record
from tests.test_recurrences import (
    growing_list,
    leap,
    many_lanes,
    point,
    runge_kutta,
    same_branch,
    stacked_states,
    trained,
    two_loops,
    written_array,
)

SOME = [growing_list, leap, same_branch, stacked_states, trained, two_loops, written_array]


@pytest.mark.parametrize("fun", SOME, ids=lambda fun: fun.__name__)
def test_the_numbers_are_the_same(fun):
    x, v = point(fun)
    plain, small = (nbhvp.differentiable(fun, target="interpret", memory=m) for m in (None, 300))
    assert small(x) == plain(x)
    np.testing.assert_allclose(small.grad(x), plain.grad(x), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(small.hvp(x, v), plain.hvp(x, v), rtol=1e-10, atol=1e-11)
    assert any(loop.segments for loop in small.report().recurrences)


@pytest.mark.parametrize("fun", SOME, ids=lambda fun: fun.__name__)
def test_programs_without_a_state_keep_some_carries(fun, monkeypatch):
    x, v = point(fun)
    plain = nbhvp.differentiable(fun, target="interpret")
    needed = plain.grad(x), plain.hvp(x, v)
    monkeypatch.setattr("nbhvp.plan.splitting.checkpoints.LARGE", 0)
    monkeypatch.setattr("nbhvp.runtime.recorded.LONG", 0)
    f = nbhvp.differentiable(fun, target="interpret")
    np.testing.assert_allclose(f.grad(x), needed[0], rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(f.hvp(x, v), needed[1], rtol=1e-11, atol=1e-13)
    for recorded in f._memory.traces:
        nodes = reachable([recorded._brief.output, *recorded._brief_guards])
        assert any(node.primitive.body and node.primitive.body.is_repeated for node in nodes)
        assert recorded.output not in nodes


@pytest.mark.parametrize(("length", "steps"), [(1000, 25), (36, 6), (37, 6), (1, 1), (10_007, 100)])
def test_segments_of_programs_without_a_state(length, steps):
    assert _even(length) == steps


def state_of(graph, x, v):
    """The bytes of what a product keeps at a point."""
    (value,) = graph.outputs
    return sum(
        node.size * node.dtype.itemsize
        for node in split(Graph((x, v), (derive.hvp(value, x, v),)), v)[0]
    )


def walk(x):
    z, w = x[0], x[1]
    for _ in range(600):
        z, w = z + 0.001 * np.sin(w), w - 0.001 * z * w
    return z * w


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_product_keeps_as_much_as_it_may(levels):
    """Two levels keep the square root of the steps, three the third root."""
    x = np.array([0.3, 0.7])
    trace = record(walk, x)
    (node,), (value,) = trace.inputs, trace.outputs
    v = p.input_node(trace.pool, "v", node.shape, node.dtype)
    most = {1: 1_000_000, 2: 16_000, 3: 2_500}[levels]
    graph, segments = bounded(Graph((node,), (value,)), most)
    assert [len(found) + 1 for found in segments.values()] == [levels] * (levels > 1)
    assert state_of(graph, node, v) <= most


def test_no_bound_is_no_change():
    trace = record(walk, np.array([0.3, 0.7]))
    graph = Graph(trace.inputs, trace.outputs)
    assert bounded(graph, 10_000_000) == (graph, {})


@pytest.mark.compiles
@pytest.mark.parametrize("fun", [runge_kutta, many_lanes])
def test_compiled(fun):
    x, v = point(fun)
    f = nbhvp.differentiable(fun, memory=40 * x.nbytes)
    needed = nbhvp.differentiable(fun, target="interpret").hvp(x, v)
    np.testing.assert_allclose(f.hvp(x, v), needed, rtol=1e-10)
    (loop,) = f.report().recurrences
    assert loop.segments and "segments" in str(loop)
    again = pickle.loads(pickle.dumps(f))
    assert again.options == f.options
    np.testing.assert_allclose(again.hvp(x, v), needed, rtol=1e-10)


@pytest.mark.parametrize("memory", [0, -1, "much", np.inf, np.nan])
def test_what_is_no_number_of_bytes_is_refused(memory):
    with pytest.raises(ValueError, match="positive number of bytes"):
        nbhvp.differentiable(np.sum, memory=memory)
