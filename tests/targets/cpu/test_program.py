"""Compiled programs against the interpreter; who owns what; threads.

Compiling is what these tests cost, about 0.1 s a kernel: many cases are one program, and most texts
are run as plain Python alone, in test_emit.
"""

import threading

import numpy as np
import pytest

from nbhvp.graph import primitives as p
from nbhvp.graph.derive import gradient, hvp
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph
from nbhvp.targets import interpreted
from nbhvp.targets.cpu import blas
from nbhvp.targets.cpu import run as cpu
from nbhvp.targets.cpu.program import Program
from tests.checks import (
    assert_close,
    assert_no_raise,
    assert_same,
    compiled,
    make_team,
    together,
    total,
)
from tests.graphs import STRUCTURE, TINY, Inputs, build, part, random_graph

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.compiles]

SINGLE = ("sum in single precision", "contract in single precision", "casts")
DERIVED = [
    "slice", "update", "concatenate the last axis", "reshape of a part", "sum over (1, 3)",
    "cumsum of the middle", "scatter the middle", "value at argmax", "complex quotients", "stencil",
]  # fmt: skip
SELDOM = ["sum over (", "contract ", "surface (", "differences (", "argmax of "]
"""Of these families of cases, every sixth."""


def often(names) -> list[str]:
    seen = dict.fromkeys(SELDOM, 0)
    kept = []
    for name in names:
        family = next((start for start in SELDOM if name.startswith(start)), None)
        if family is not None:
            seen[family] += 1
        if family is None or seen[family] % 6 == 0:
            kept.append(name)
    return kept


PACKED = {
    "double": ([n for n in often(STRUCTURE) if n not in SINGLE and n not in DERIVED], 1e-12),
    "single": (SINGLE, 1e-5),
}


@pytest.mark.parametrize("name", PACKED)
def test_structure(name):
    names, tolerance = PACKED[name]
    cases = {name: build(STRUCTURE[name], derive=False) for name in names}
    graph, inputs, labels = together(cases)
    assert_same(graph, inputs, tolerance, compiled, labels)


@pytest.mark.no_cover
def test_derivatives():
    graph, inputs, labels = together({name: build(STRUCTURE[name]) for name in DERIVED})
    program = Program(graph)
    assert_same(graph, inputs, 1e-11, lambda _, *values: program(*values), labels)
    for kernel in program.kernels:
        assert_no_raise(kernel)


def test_random_graphs():
    graph, inputs, labels = together({str(k): random_graph(k, steps=8) for k in (500,)})
    assert_same(graph, inputs, 1e-10, compiled, labels)


def test_all_cases_are_run_compiled_somewhere():
    assert len(PACKED["double"][0]) + len(DERIVED) > len(STRUCTURE) / 2
    assert set(DERIVED) | set(SINGLE) | set(dict(TINY)) <= set(STRUCTURE)


# Ownership.


def several():
    """A graph with a kernel, a library call and a product, and outputs that are alike."""
    i = Inputs()
    x = i(6)
    y = p.gather(p.exp(x), p.argsort(x, axis=0), axis=0)
    z = p.contract(i(6, 6), y, subscripts="ij,j->i")
    graph, _ = i.graph(x, z, y, z, part(z, (1,), (3,)), z)
    matrix, x = i(6, 6), i(6)
    return Graph((matrix, x), graph.outputs)


@pytest.mark.parametrize("main", range(6))
def test_outputs_share_no_memory(main):
    graph = several()
    program = Program(graph, main=main)
    values = np.eye(6) + 0.1, np.random.default_rng(0).normal(size=6)
    first, second = program(*values), program(*values)
    for k, out in enumerate([*first, *second]):
        assert out.flags.writeable
        out[...] = k
    for k, out in enumerate([*first, *second]):
        assert (out == k).all()
    for given, needed in zip(program(*values), interpret(graph, *values), strict=True):
        assert_close(given, needed, 1e-13)


@pytest.mark.parametrize("hot", [0, 1])
def test_inputs_in_any_order_of_memory(hot):
    graph = several()
    matrix = np.asfortranarray(np.random.default_rng(0).normal(size=(6, 6)))
    for values in ((matrix, np.arange(12.0)[::2]), (matrix[::-1].T, np.arange(6.0)[::-1])):
        assert_same(graph, values, 1e-13, lambda g, *v: Program(g, hot=hot)(*v))


def product():
    i = Inputs()
    x, v = i(9), i(9, name="v")
    value = total(p.exp(x) * p.sin(x)) * total(x)
    return Graph((x, v), (hvp(value, x, v),))


@pytest.mark.parametrize("make", [Program, interpreted.Program], ids=["cpu", "interpreted"])
def test_bound_products(make):
    graph, rng = product(), np.random.default_rng(0)
    program = make(graph)
    points, directions = rng.normal(size=(2, 9)), rng.normal(size=(3, 9))
    bound = [program.bind(x) for x in points]
    results = [(x, v, f(v)) for x, f in zip(points, bound, strict=True) for v in directions]
    for x, v, given in results:
        assert_close(given, interpret(graph, x, v)[0], 1e-13)
    assert not any(np.shares_memory(a, b) for *_, a in results for *_, b in results if a is not b)
    out = np.full(9, np.nan)
    assert bound[0](directions[0], out) is out
    assert_close(out, results[0][2], 0)


def test_a_point_that_is_let_go_of_leaves_its_workspace():
    program = Program(product())
    x, v = np.ones(9), np.arange(9.0)
    for k in range(3):
        assert_close(program.bind(x * k)(v), program(x * k, v)[0], 0)
        assert len(program._free) == 1
        assert program._free[0].cold == ()


# Blocks and threads.


@pytest.fixture
def two_threads(monkeypatch):
    make_team(monkeypatch, 2)


def large(i):
    """Sums beyond one block over leading, trailing, middle and all axes; maps; scans; segments."""
    x, y = i(300, 7, 41), i(100_000)
    index = i.indices(100_000, below=1000)
    return (
        p.sum_(x, axes=(0,)), p.sum_(x * x, axes=(0, 2)), p.sum_(x, axes=(1,)), p.sum_(x, axes=(2,)),
        total(y * y), total(p.concatenate(part(y, (1,), (99_999,)), part(y, (5,), (9,)), axis=0)),
        p.all_(p.less(y, 1e9)), p.argmax(y, axis=0), p.cumsum(x, axis=0, reverse=False),
        p.scatter_add(y, index, axis=0, size=1000), p.exp(y),
    )  # fmt: skip


def test_threads_do_not_change_a_bit(two_threads):
    i = Inputs()
    graph, inputs = i.graph(*large(i))
    needed = interpret(graph, *inputs)
    program = Program(graph)
    given = {}
    for runner in (cpu.run, cpu.run_parallel):
        program.runner = runner
        program._free.clear()
        given[runner] = [program(*inputs) for _ in range(3)]
    for outputs in zip(needed, *given[cpu.run], *given[cpu.run_parallel], strict=True):
        assert_close(outputs[1], outputs[0], 1e-10)
        for other in outputs[2:]:
            np.testing.assert_array_equal(other, outputs[1])


@pytest.mark.parametrize("n, enters", [(10, 0), (64, 1), (200, 1)])
def test_blas_has_one_thread_where_it_would_take_more(n, enters, monkeypatch):
    """Below the size from which a call is shared, too; small products do not wait for that."""
    i = Inputs()
    x, y = i(n, n), i(n, n)
    product = p.contract(x, y, subscripts="ij,jk->ik")
    program, entered = Program(Graph((x, y), (product,))), []
    real = blas.single_threaded

    class Recorder:
        def __enter__(self):
            entered.append(real.__enter__())

        def __exit__(self, *error):
            real.__exit__(*error)

    monkeypatch.setattr(blas, "single_threaded", Recorder())
    a = np.random.default_rng(0).normal(size=(n, n))
    assert_close(program(a, a)[0], a @ a, 1e-11)
    assert len(entered) == enters


def test_called_from_many_threads_at_once():
    graph = several()
    program = Program(graph)
    fixed = program.bind(np.eye(6))
    start, wrong = threading.Barrier(8), []

    def calls(k):
        matrix, x = np.eye(6) * (k + 1), np.roll(np.arange(6.0), k) / (k + 1)
        needed = interpret(graph, matrix, x)
        at_one_point = interpret(graph, np.eye(6), x)[-1]
        start.wait()
        for _ in range(50):
            for a, b in zip(program(matrix, x), needed, strict=True):
                if not np.allclose(a, b, rtol=1e-13, atol=0):
                    wrong.append((k, a, b))
            if not np.allclose(fixed(x), at_one_point, rtol=1e-13, atol=0):
                wrong.append(k)

    threads = [threading.Thread(target=calls, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_one_pass_over_the_rows_of_a_matrix():
    """X.T @ (d * (X @ v)) of a matrix large enough to be read once."""
    i = Inputs()
    rows = i.constant(np.random.default_rng(0).normal(size=(3000, 70)))
    x, v = i(70), i(70, name="v")
    value = total(p.logaddexp(p.contract(rows, x, subscripts="ij,j->i"), 0.0))
    graph = Graph((x, v), (gradient(value, x), hvp(value, x, v)))
    values = np.random.default_rng(1).normal(size=(2, 70)) / 10
    assert_same(graph, list(values), 1e-11, compiled)
