"""Interleavings of arrays in strips of rows, against the interpreter."""

from dataclasses import replace

import numpy as np
import pytest

from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import Interpreter
from nbhvp.graph.node import Graph
from nbhvp.graph.sparsity.interleave import interleave
from nbhvp.plan.costs import CPU
from nbhvp.targets.cpu import strips
from nbhvp.targets.cpu.kernels import interleaved
from nbhvp.targets.cpu.program import Program
from tests.graphs import Inputs

pytestmark = pytest.mark.compiles
RNG = np.random.default_rng(0)


def interleaving(lanes, shifts):
    """Rows with an entry at most places, and not beyond the first and the last element."""
    size = lanes[0].size
    at = np.arange(size)[:, None] + shifts
    has_entry = (RNG.random((size, len(shifts))) < 0.9) & (at >= 0) & (at < size)
    has_entry[size // 3 : size // 2] = (at >= 0)[size // 3 : size // 2]
    starts = np.append(0, np.cumsum(has_entry.sum(axis=1))).astype(np.int32)
    masks = has_entry @ (1 << np.arange(len(shifts)))
    pool = lanes[0].pool
    return interleave(p.constant(pool, starts), p.constant(pool, masks), *lanes, shifts=shifts)


def grid(i, rows, columns):
    """Two arrays of one pass and one of another, of neighbours in a grid."""
    x = i(rows + 1, columns)
    above = p.slice_(x, start=(0, 0), step=(1, 1), size=(rows, columns))
    below = p.slice_(x, start=(1, 0), step=(1, 1), size=(rows, columns))
    ones = p.broadcast(p.constant(x.pool, 2.0), shape=(rows, columns))
    a, b, c = p.sin(above) * below, above - below, p.cumsum(below, axis=0, reverse=False)
    return interleaving([b, a, a, c, ones], (-columns, -1, 0, 0, 2))


def line(i, size):
    x = i(size)
    return interleaving([p.exp(x), x * x, p.exp(x)], (-1, 0, 1))


def read_elsewhere(i, size):
    """An array that another step needs is kept."""
    x = i(size)
    y = p.exp(x)
    total = p.cumsum(y, axis=0, reverse=False)
    return interleaving([y, total], (0, 0))


CASES = {
    "a grid": (lambda i: grid(i, 200, 30), True),
    "few rows": (lambda i: grid(i, 3, 30), False),
    "a line": (lambda i: line(i, 9000), True),
    "single precision": (
        lambda i: interleaving([p.sin(i(30_000, dtype=np.float32))] * 2, (0, 1)),
        True,
    ),
    "read elsewhere": (lambda i: read_elsewhere(i, 9000), False),
}


@pytest.mark.parametrize("name", CASES)
def test_strips(name, monkeypatch):
    monkeypatch.setattr(strips, "CPU", replace(CPU, l2=40_000))
    monkeypatch.setattr(interleaved, "CPU", replace(CPU, l3=40_000 if name == "a grid" else CPU.l3))
    make, is_in_strips = CASES[name]
    inputs = Inputs()
    made = make(inputs)
    graph = Graph(tuple(inputs.values), (made,))
    values = tuple(inputs.values.values())
    program = Program(graph)
    addresses = [one.address for stretch in program._stretches for one in stretch.steps]
    assert (strips.cache.load(strips.SOURCE).address in addresses) == is_in_strips
    (needed,) = Interpreter(graph)(*values)
    for _ in range(2):
        (found,) = program(*values)
        np.testing.assert_allclose(found, needed, rtol=4 * np.finfo(needed.dtype).eps)
