"""Predicted seconds: what they count, and that they are the same each time."""

import numpy as np
import pytest

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Pool
from nbhvp.plan.costs import CPU
from nbhvp.targets import interpreted
from nbhvp.targets.cpu.planned import planned
from nbhvp.targets.cpu.predicted import compile_seconds
from nbhvp.targets.cpu.program import Program
from nbhvp.targets.native import cache
from nbhvp.targets.native.machine import Effort
from tests.checks import forget_kernels

TEXT = """from nbhvp.targets.lowering.scalars import *

@kernel
def nest(table, lo, hi):
    a0 = reads(table, 0, 'f8')
    z0 = writes(table, 1, 'f8')
    for i in range(lo, hi):
        t0 = {}
        z0[i] = t0
"""
LOOP = 2 * CPU.slot + CPU.loop + 3 * CPU.statement
TEXTS = {
    "arithmetic": ("a0[i] * a0[i]", LOOP),
    "an elementary function": ("exp(a0[i])", LOOP + CPU.elementary),
    "one of two arguments": ("power(a0[i], a0[i])", LOOP + 2 * CPU.elementary),
    "a root is an instruction": ("math.sqrt(a0[i])", LOOP),
    "rare cases": ("sin(a0[i])", LOOP + CPU.loop + 3 * CPU.statement + CPU.elementary),
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_counted(name):
    expression, needed = TEXTS[name]
    text = TEXT.format(expression)
    assert compile_seconds(text) == pytest.approx(CPU.text + needed)
    assert compile_seconds(text, Effort.SCALAR) == pytest.approx(
        CPU.text + CPU.without_vectors * needed
    )


def cubes(size: int) -> Graph:
    x = p.input_node(Pool(), "x", (size,), np.float64)
    return Graph((x,), (p.sum_(x * x * x, axes=(0,)), x * p.sin(x)))


@pytest.mark.compiles
def test_known_kernels_take_no_time(monkeypatch, tmp_path):
    forget_kernels(monkeypatch, tmp_path)
    plan = planned(cubes(3000))
    assert plan.missing_seconds == plan.compile_seconds > 0
    program = Program(cubes(3000), plan=plan)
    assert len(program.kernels) >= len(plan.texts)
    assert plan.missing_seconds == 0 < plan.compile_seconds
    monkeypatch.setattr(cache, "_kernels", {})
    assert plan.missing_seconds == 0  # the disk has them
    assert planned(cubes(3001)).compile_seconds == plan.compile_seconds


@pytest.mark.parametrize(
    ("shape", "subscripts", "is_shared"),
    [
        ((40, 40), "ij,jk->ik", False),
        ((90, 90), "ij,kj->ki", False),  # in parts
        ((9, 60, 60), "bij,bjk->kbi", False),
        ((2**17,), "i,i->", True),
    ],
)
def test_products_that_blas_shares_among_threads_are_dear(shape, subscripts, is_shared):
    """NumPy's BLAS cannot be held to one thread, and its threads wait for one another."""
    x = p.input_node(Pool(), "x", shape, np.float64)
    graph = Graph((x,), (p.contract(x, x, subscripts=subscripts),))
    assert (interpreted.seconds(graph) > CPU.crowded) == is_shared
    given = np.random.default_rng(0).normal(size=shape)
    (found,) = interpreted.Program(graph, on_one_thread=True)(given)
    (needed,) = interpreted.Program(graph)(given)
    np.testing.assert_allclose(found, needed, rtol=1e-12, atol=1e-12 * np.abs(needed).max())


def test_seconds_of_a_run_grow_with_extents():
    few, many = cubes(10), cubes(10**6)
    assert interpreted.seconds(few) == interpreted.seconds(cubes(10))
    assert interpreted.seconds(many) > 100 * interpreted.seconds(few)
    assert planned(many).seconds > 1000 * planned(few).seconds
