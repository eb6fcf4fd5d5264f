"""Kernel texts as plain Python against the interpreter, and what a text may hold.

A text holds structure alone: another n, another constant or another batch is the same text. Loops
over long arrays become vector instructions. (That nothing can raise is tested where kernels are
compiled anyway, in test_elementary and test_program.)
"""

import re

import numpy as np
import pytest

from nbhvp.graph import primitives as p
from nbhvp.graph.derive import EXACT_MODES, gradient, hvp
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, Pool
from nbhvp.plan.costs import CPU, Costs
from nbhvp.plan.schedule import schedule
from nbhvp.targets.lowering import lower
from nbhvp.targets.native import cache, machine
from tests.checks import (
    THOROUGH,
    assert_close,
    assert_same,
    kernels,
    run_plain,
    texts_of,
    total,
)
from tests.graphs import STRUCTURE, Inputs, build, part, random_graph

pytestmark = pytest.mark.filterwarnings("error")

SINGLE = ("sum in single precision", "contract in single precision", "casts")


@pytest.fixture(params=["small", "large"])
def sizes(request, monkeypatch):
    """Loops as small sizes have them, and as large ones do: nothing written out, all cut."""
    if request.param == "large":
        monkeypatch.setitem(vars(CPU), "written_out", 1)
        for name, value in dict(
            most_written_out=1, block_size=4, share=1, narrow=0, rows=1, rare=99
        ).items():
            monkeypatch.setattr(Costs, name, value)


def stencil(shape: tuple[int, int]) -> str:
    """The text of the gradient of a sum over neighbours in a grid."""
    x = p.input_node(Pool(), "x", shape, np.float64)
    size = shape[0] - 1, shape[1] - 1
    at = lambda i, j: p.slice_(x, start=(i, j), step=(1, 1), size=size)
    value = p.sum_((at(0, 0) - at(1, 0)) ** 4 + (at(0, 0) - at(0, 1)) ** 4, axes=(0, 1))
    plan = schedule(Graph((x,), (gradient(value, x),)))
    return max(texts_of(plan), key=len)


@pytest.mark.parametrize("rows", [3, 100])
def test_rows_at_edges_have_no_vectors_if_they_are_few(rows):
    """Where most rows are edges, their guards stand in the one text of all rows."""
    text = stencil((rows, 1000))
    assert ("stop = " in text) == (rows == 100)
    marks = lower.lowered(text, "kernel", machine.target()).count("!llvm.loop ")
    assert marks == 2 * text.count("for part in") > 0  # of each loop over parts, and within it


@pytest.mark.no_cover
@pytest.mark.parametrize("name", STRUCTURE)
def test_structure(name, sizes):
    """Values, gradients and products of every structural primitive."""
    assert_same(*build(STRUCTURE[name]), 1e-4 if name in SINGLE else 1e-11)


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", range(16 if THOROUGH else 5))
def test_random_graphs(seed, sizes):
    graph, inputs = random_graph(seed)
    assert_same(graph, inputs, 1e-9)


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", range(100, 105 if THOROUGH else 102))
def test_random_graphs_in_all_modes(seed):
    graph, inputs = random_graph(seed, modes=EXACT_MODES)
    assert_same(graph, inputs, 1e-9)
    outputs = iter(interpret(graph, *inputs)[3:])
    for _, first, *others in zip(*[outputs] * (1 + len(EXACT_MODES)), strict=True):
        for other in others:
            assert_close(other, first, 1e-9)


# Programs of one problem at a size: value and gradient, and product.


def rosenbrock(i, n):
    x = i(n)
    low, high = part(x, (0,), (n - 1,)), part(x, (1,), (n - 1,))
    return total(100 * (high - low * low) * (high - low * low) + (1 - low) * (1 - low))


def stencil_2d(i, n):
    u = i(n, n + 3)
    centre = part(u, (1, 1), (n - 2, n + 1))
    sides = sum(part(u, at, centre.shape) for at in ((0, 1), (2, 1), (1, 0), (1, 2)))
    return total(p.sqrt(1 + (sides - 4 * centre) * (sides - 4 * centre)))


def logistic(i, n):
    x = i(n)
    rows = i.constant(np.random.default_rng(0).normal(size=(3 * n, n)))
    return total(p.logaddexp(p.contract(rows, x, subscripts="ij,j->i"), 0.0)) + 0.5 * total(x * x)


def perceptron(i, n):
    sizes = (n, 2 * n, n + 1)
    x = i(sum(a * b for a, b in zip(sizes, sizes[1:], strict=False)))
    h, at = i.constant(np.random.default_rng(0).normal(size=(4 * n, n))), 0
    for a, b in zip(sizes, sizes[1:], strict=False):
        w = p.reshape(part(x, (at,), (a * b,)), shape=(a, b))
        h, at = p.tanh(p.contract(h, w, subscripts="ij,jk->ik")), at + a * b
    return total(h * h)


PROBLEMS = [rosenbrock, stencil_2d, logistic, perceptron]


def problem(make, n):
    """The graphs of value and gradient, and of the product."""
    inputs = Inputs()
    value = make(inputs, n)
    (x,) = inputs.active
    v = p.input_node(x.pool, "v", x.shape, x.dtype)
    return (
        Graph((x,), (value, gradient(value, x))),
        Graph((x, v), (hvp(value, x, v),)),
    )


@pytest.mark.parametrize("make", PROBLEMS, ids=lambda f: f.__name__)
def test_another_size_is_the_same_text(make):
    assert kernels(*problem(make, 100)) == kernels(*problem(make, 190))


def test_another_constant_is_the_same_text():
    def texts(a, b):
        i = Inputs()
        return kernels(i.graph(a * p.exp(b * i(9)) + p.cast(i(9) * a, dtype=np.dtype("i8")))[0])

    assert texts(0.3, 1.7) == texts(-12.5, 1e-9) != texts(2.0, 1.7)


def test_another_part_of_an_array_is_the_same_text():
    def texts(at, size):
        i = Inputs()
        return kernels(i.graph(p.exp(part(i(90), (at,), (size,))))[0])

    assert texts(3, 20) == texts(17, 50)


@pytest.mark.parametrize("make", PROBLEMS, ids=lambda f: f.__name__)
def test_texts_hold_no_run_time_numbers(make):
    for text in kernels(*problem(make, 37)):
        check_numbers(text)


def check_numbers(text):
    """Numbers in the text are slots of the table, 0, +-1, +-2, 1/2 and integer exponents."""
    body = text[text.index("@kernel") :].split("\n", 2)[2]
    body = re.sub(r"\(table, \d+", "(table", body)
    body = re.sub(r"'\w+'", "", body)
    numbers = {float(x) for x in re.findall(r"(?<![\w.])\d+\.?\d*(?:e-?\d+)?", body)}
    numbers -= {float(x) for x in re.findall(r"\*\* \(?-?(\d+)", body)}
    assert numbers <= {0.0, 1.0, 2.0, 0.5}, numbers


@pytest.mark.no_cover
def test_a_long_loop_has_few_texts():
    i = Inputs()
    u, steps, n = i(40), 60, 40
    for _ in range(steps):
        inner = part(u, (1,), (n - 2,))
        flow = part(u, (2,), (n - 2,)) - 2 * inner + part(u, (0,), (n - 2,))
        u = p.concatenate(part(u, (0,), (1,)), inner + 0.2 * flow, part(u, (n - 1,), (1,)), axis=0)
    value = total((u - 1.0) * (u - 1.0))
    (x,) = i.active
    v = p.input_node(x.pool, "v", x.shape, x.dtype)
    point = Graph((x,), (value, gradient(value, x)))
    product = Graph((x, v), (hvp(value, x, v),))
    plans = [schedule(graph) for graph in (Graph((x,), (value,)), point, product)]
    assert len(set.union(*map(texts_of, plans))) <= 10
    inputs = np.sin(np.arange(40.0)), np.cos(np.arange(40.0))
    (given,), (needed,) = run_plain(plans[2], *inputs), interpret(product, *inputs)
    assert_close(given, needed, 1e-12)


# Machine code.


def loop_of(make):
    """One long loop without calls."""
    inputs = Inputs()
    return inputs.graph(make(inputs))[0]


VECTORISED = {
    "rosenbrock": lambda: problem(rosenbrock, 10_000)[1],
    "sum": lambda: loop_of(lambda i: total(i(10_000) * i(10_000))),
    "stencil": lambda: problem(stencil_2d, 300)[1],
    "single precision": lambda: loop_of(
        lambda i: i(10_000, dtype="f4") * i(10_000, dtype="f4") + 3
    ),
}


@pytest.mark.compiles
@pytest.mark.parametrize("name", VECTORISED)
def test_loops_are_vectorised(name):
    made = map(cache.compiled, kernels(VECTORISED[name]()))
    code = "".join(kernel.assembly for kernel in made)
    if "xmm" not in code:
        pytest.skip("not an x86-64 processor")
    packed = "ps" if name == "single precision" else "pd"
    arithmetic = re.findall(rf"v?f?n?m?(?:add|sub|mul)\d*{packed}\s.*", code)
    assert any(re.search("[xyz]mm", line) for line in arithmetic)
    if "ymm" in code or "zmm" in code:
        assert any(re.search("[yz]mm", line) for line in arithmetic)
