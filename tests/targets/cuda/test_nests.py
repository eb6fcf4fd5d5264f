"""Kernels for GPUs in the simulator against the interpreter: every structure, random graphs, functions."""

from dataclasses import replace

import numpy as np
import pytest

from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, Pool
from nbhvp.plan.costs import GPU
from nbhvp.targets.cuda import program as programs
from nbhvp.targets.cuda.launching import driver
from nbhvp.targets.cuda.program import Program
from tests.checks import THOROUGH, assert_close
from tests.graphs import STRUCTURE, build, random_graph
from tests.simulated_gpu import Cublas, simulated_driver

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.compiles]

SINGLE = ("sum in single precision", "contract in single precision", "casts")
ON_HOST = {
    "argsort", "correlate", "last_writer", "recurrence", "searchsorted",
    "a power that does not stand in the text",
}  # fmt: skip
"""What a GPU has no kernel for, among the structures."""


@pytest.fixture(scope="module")
def device():
    with simulated_driver(assembles=False) as stub:
        yield driver.device(0)
        assert not stub.failures


def assert_same(device, graph, inputs, tolerance=1e-11):
    program = Program(device, graph)
    assert {
        reason
        for reason in program.hosted
        if not reason.startswith(("an exchange", "a call of cmath."))
    } <= ON_HOST
    for given, needed in zip(program(*inputs), interpret(graph, *inputs), strict=True):
        assert_close(given, needed, tolerance)
    if graph.inputs:
        bound, needed = program.bind(*inputs[:-1]), interpret(graph, *inputs)[-1]
        assert_close(bound(inputs[-1]), needed, tolerance)


@pytest.mark.no_cover
@pytest.mark.parametrize("name", STRUCTURE)
def test_structure(name, device):
    """Values, gradients and products of every structural primitive."""
    assert_same(device, *build(STRUCTURE[name]), 1e-4 if name in SINGLE else 1e-11)


@pytest.mark.parametrize("seed", [*range(16 if THOROUGH else 4), 5083])
def test_random_graphs(seed, device):
    graph, inputs = random_graph(seed)
    assert_same(device, graph, inputs, 1e-9)


ACROSS = replace(GPU, across=2)
SHAPES = {
    "lanes share short loops": {"kernels.nests.FEW": 1, "kernels.nests.BLOCKS": 1},
    "few blocks share a sum": {
        "kernels.nests.FEW": 4, "kernels.nests.BLOCKS": 2, "kernels.nests.SHARE": 1
    },
    "sums in memory": {
        "kernels.nests.FEW": 1, "kernels.nests.SHARED": 0, "kernels.nests.SHARE": 2
    },
    "blocks take rows": {
        "kernels.nests.FEW": 1, "kernels.texts.LONG": 2, "kernels.scans.PART": 4
    },
    "lanes take columns": {"kernels.nests.GPU": ACROSS, "program.GPU": ACROSS},
}  # fmt: skip
"""Constants with which small arrays meet the shapes of large ones."""


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", list(STRUCTURE)[:: 1 if THOROUGH else 12])
def test_shapes_of_large_loops(name, shape, device, monkeypatch):
    for constant, value in SHAPES[shape].items():
        monkeypatch.setattr(f"nbhvp.targets.cuda.{constant}", value)
    assert_same(device, *build(STRUCTURE[name]), 1e-4 if name in SINGLE else 1e-11)


@pytest.mark.parametrize("is_pass", [True, False])
def test_sums_over_few_long_rows(is_pass, device):
    """Threads take the elements, and what needs whole rows is another pass: one warp would take all."""
    x = p.input_node(Pool(), "x", (3, 2100), np.float64)
    rows = p.sum_(p.exp(x), axes=(1,))
    spread = p.broadcast(p.reshape(rows, shape=(3, 1)), shape=(3, 2100))
    values = np.random.default_rng(0).standard_normal((3, 2100))
    graph = Graph((x,), (p.sum_(x * spread if is_pass else x * x, axes=(0,)), rows))
    program = Program(device, graph)
    for given, needed in zip(program(values), interpret(graph, values), strict=True):
        assert_close(given, needed, 1e-12)
    grids = [one.grid for words in program.stretches for one in words.launches]
    assert {(3, 1), (17, 1)} <= {*grids}


def test_sums_have_the_same_bits_each_time(device):
    x = p.input_node(Pool(), "x", (5000,), np.float64)
    program = Program(device, Graph((x,), (p.sum_(p.exp(x), axes=(0,)),)))
    values = np.random.default_rng(0).standard_normal(5000)
    first, second = (program(values)[0] for _ in range(2))
    assert first.tobytes() == second.tobytes()


PRODUCTS = [name for name in STRUCTURE if name.startswith("contract")]


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_by_cublas(name, monkeypatch):
    monkeypatch.setattr(programs, "LARGE", 0)
    cublas = Cublas()
    with simulated_driver(assembles=False, cublas=cublas):
        assert_same(driver.device(0), *build(STRUCTURE[name]), 1e-4 if name in SINGLE else 1e-11)


@pytest.mark.parametrize("dtype, calls", [("f8", 1), ("f4", 1), ("c16", 0)])
def test_what_cublas_computes(dtype, calls):
    """Large products of real numbers; complex ones have a kernel."""
    cublas, pool = Cublas(), Pool()
    x, y = (p.input_node(pool, name, (70, 70), np.dtype(dtype)) for name in "xy")
    graph = Graph((x, y), (p.contract(x, y, subscripts="ab,bc->ac"),))
    a, b = np.random.default_rng(0).standard_normal((2, 70, 70)).astype(dtype)
    with simulated_driver(assembles=False, cublas=cublas):
        (found,) = Program(driver.device(0), graph)(a, b)
    assert_close(found, a @ b, 1e-4 if dtype == "f4" else 1e-12)
    assert cublas.products == calls
