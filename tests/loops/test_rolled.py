"""What became of a tape, found by another process: the same nodes, and nothing is looked at again."""

from dataclasses import replace

import numba
import numpy as np
import pytest

import nbhvp
from nbhvp import disk
from nbhvp.graph import primitives as p
from nbhvp.graph.digest import digest
from nbhvp.graph.node import Graph, Pool
from nbhvp.graph.table.tape import Gap
from nbhvp.loops import rolled, sections
from nbhvp.trace.record import record

pytestmark = pytest.mark.compiles


def neighbours(x):
    total = 0.0
    for i in range(1, x.size):
        total += (x[i] - x[i - 1] ** 2) ** 2 + 0.25 * (1 - x[i]) ** 2
    return total


def chain(x, steps=200):
    q, v = x[0], x[1]
    for _ in range(steps):
        v -= 0.05 * np.sin(q)
        q += 0.05 * v
    return q * q + v


def bends(x):
    total = 0.0
    for i in range(1, x.size):
        if x[i] > 0.5:
            total += x[i] ** 2 * x[i - 1]
        else:
            total += np.sin(x[i]) * total
    return total


def after_operations(x, data):
    return chain(np.exp(x[:2]) * data[:2]) + neighbours(data * x) / np.sum(x**2)


X = np.linspace(0.1, 0.8, 9)
CALLS = {
    "arrays": (neighbours, X, ()),
    "a loop over time": (chain, X, ()),
    "a sweep with guards": (bends, X, ()),
    "within operations of arrays": (after_operations, X, (X[::-1].copy(),)),
}
chain, neighbours = numba.njit(chain), numba.njit(neighbours)


def compiled(fun):
    return fun if fun is after_operations else numba.njit(fun)


@pytest.fixture
def searches(tmp_path, monkeypatch):
    """The tapes that are looked at, with an empty folder."""
    monkeypatch.setenv("NBHVP_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("NBHVP_CACHE_PLANS", "1")
    found, search = [], sections.computed

    def counted(tape, *rest):
        found.append(tape)
        return search(tape, *rest)

    monkeypatch.setattr(sections, "computed", counted)
    return found


def graph_of(fun, x, args):
    trace = record(compiled(fun), x, args)
    guards = [node for node, _ in trace.guards]
    values = [np.asarray(value).tobytes() for _, value in trace.guards]
    return digest(Graph(trace.inputs, (*trace.outputs, *guards))), values, trace.loops[0]


@pytest.mark.parametrize("label", CALLS)
def test_a_second_process_looks_at_no_tape(label, searches):
    fun, x, args = CALLS[label]
    first, guards, loop = graph_of(fun, x, args)
    assert searches and disk.files("plan") and first is not None
    searches.clear()
    again, same, report = graph_of(fun, x, args)
    assert (again, same, searches) == (first, guards, [])
    assert (report.classes, report.recurrences) == (loop.classes, loop.recurrences)
    other, *_ = graph_of(fun, 1.01 * x, args)
    assert other is not None and (other == first or searches)


@pytest.mark.parametrize("label", CALLS)
def test_derivatives_are_those_of_what_is_found_directly(label, searches, monkeypatch):
    fun, x, args = CALLS[label]
    v, found = np.cos(np.arange(x.size)), []
    for keeps in ("0", "1", "1"):
        monkeypatch.setenv("NBHVP_CACHE_PLANS", keeps)
        f = nbhvp.differentiable(compiled(fun), target="interpret")
        found.append([f(x, *args), f.grad(x, *args), f.hvp(x, v, *args)])
    for direct, first, again in zip(*found, strict=True):
        np.testing.assert_array_equal(first, again)
        np.testing.assert_allclose(first, direct, rtol=1e-12, atol=1e-14)


def test_what_cannot_be_written_is_looked_at_each_time(searches, monkeypatch):
    monkeypatch.setattr(rolled, "MOST", 10)
    first, *_ = graph_of(*CALLS["arrays"])
    again, *_ = graph_of(*CALLS["arrays"])
    assert first == again and len(searches) == 2 and disk.files("plan") == []
    monkeypatch.setattr(rolled, "digest", lambda *given, **also: None)
    graph_of(*CALLS["arrays"])
    assert len(searches) == 3


def changed(array):
    """The same array but for its last number."""
    other = array.copy()
    other[-1] += 1
    return other


def test_the_name_of_a_file_depends_on_all_of_a_tape(searches):
    graph_of(*CALLS["a sweep with guards"])
    tape, pool = searches[0], Pool()
    x, y = (p.input_node(pool, name, X.shape, X.dtype) for name in "xy")
    arrays = ("codes", "first", "second", "values", "outputs")
    guards = replace(tape.guards, outcomes=1 - tape.guards.outcomes)
    others = {name: changed(getattr(tape, name)) for name in arrays} | {
        "guards": guards,
        "passive": (0,),
        "source": "another (file.py:1)",
        "gap": Gap(12, 3, 5),
    }
    tapes = [tape, *(replace(tape, **{name: value}) for name, value in others.items())]
    graphs = [Graph((), nodes) for nodes in ((x, x), (x, y), (y, y), (p.exp(x), x))]
    names = [rolled._name(one, graphs[0], 1) for one in tapes]
    names += [rolled._name(tape, graph, 1) for graph in graphs[1:]]
    names.append(rolled._name(tape, graphs[0], 2))
    assert len({*names}) == len(tapes) + len(graphs) and None not in names
