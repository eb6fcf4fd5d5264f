"""Entries of linear maps by propagation, against the matrix column by column."""

import numpy as np
import pytest

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import Interpreter
from nbhvp.graph.node import Graph, Node
from nbhvp.graph.sparsity.propagation import Unknown, integer_operands, sparsity
from tests.checks import THOROUGH
from tests.graphs import STRUCTURE, Inputs, grown

LARGEST = 200
"""Elements of a result or an argument whose matrix is made column by column."""


def maps(z: Node, x: Node) -> list[Node]:
    """J v, and H v of a function of all elements."""
    v = p.input_node(x.pool, "v", x.shape, x.dtype)
    total = p.sum_(p.tanh(z), axes=tuple(range(z.ndim)))
    return [derive.jvp([z], [x], [v])[0], derive.hvp(total, x, v)]


def direction_of(product: Node) -> Node | None:
    nodes = Graph((), (product,)).nodes
    return next((node for node in nodes if node.params.get("name") == "v"), None)


def matrix_of(product: Node, v: Node, inputs: Inputs) -> np.ndarray:
    run = Interpreter(Graph((*inputs.values, v), (product,)))
    units = np.eye(v.size, dtype=v.dtype).reshape(v.size, *v.shape)
    columns = [run(*inputs.values.values(), unit)[0].ravel() for unit in units]
    return np.array(columns).T.reshape(product.size, v.size)


def rebuilt(rows, inputs: Inputs, shape) -> np.ndarray:
    """The matrix that entries give."""
    outputs = rows.lanes if rows.entry is None else (rows.entry,)
    data = Interpreter(Graph(tuple(inputs.values), outputs))(*inputs.values.values())
    if rows.entry is None:
        table = np.stack([data[k].ravel() for k in rows.places], axis=1)
        data = [table.ravel() if rows.is_valid is None else table[rows.is_valid]]
    matrix = np.zeros(shape, data[0].dtype)
    matrix[rows.row, rows.columns] = data[0]
    return matrix


def assert_sparse(product: Node, inputs: Inputs) -> None:
    v = direction_of(product)
    operands = integer_operands(product, v)
    run = Interpreter(Graph(tuple(inputs.values), operands))
    values = dict(zip(operands, run(*inputs.values.values()), strict=True))
    needed = matrix_of(product, v, inputs)
    rows = sparsity(product, v, values).rows
    has_entry = np.zeros(needed.shape, bool)
    has_entry[rows.row, rows.columns] = True
    assert has_entry.sum() == rows.columns.size, "no entry comes twice"
    assert not (needed[~has_entry] != 0).any()
    try:
        found = sparsity(product, v, values, with_entries=True).rows
    except Unknown:  # entries of some primitives are not known
        return
    assert np.array_equal(found.columns, rows.columns)
    eps = np.finfo(needed.dtype).eps
    scale = max(1.0, np.nanmax(np.abs(needed), initial=0.0))
    given = rebuilt(found, inputs, needed.shape)
    np.testing.assert_allclose(given, needed, rtol=0, atol=1e4 * eps * scale)


def assert_all_sparse(outputs, inputs: Inputs) -> None:
    for z in outputs:
        for x in inputs.active[:2]:
            if z.dtype == np.float64 and 0 < z.size <= LARGEST and x.size <= LARGEST:
                for product in maps(z, x):
                    if direction_of(product) is not None:
                        assert_sparse(product, inputs)


@pytest.mark.parametrize("name", STRUCTURE)
def test_structures(name):
    inputs = Inputs()
    made = STRUCTURE[name](inputs)
    assert_all_sparse(made if isinstance(made, tuple) else (made,), inputs)


@pytest.mark.parametrize("seed", range(400 if THOROUGH else 20))
def test_random_graphs(seed):
    nodes, inputs = grown(seed)
    assert_all_sparse(nodes[-3:], inputs)


def part(x, start, size):
    return p.slice_(x, start=(start,), step=(1,), size=(size,))


EXACT = {
    "a stencil": (lambda i: part(i(9), 1, 8) * part(i(9), 0, 8), 16),
    "a constant with zeros": (lambda i: i.constant(np.array([0.0, 1.0, 0.0, 2.0])) * i(4), 2),
    "a matrix with zeros": (
        lambda i: p.contract(i.constant(np.triu(np.ones((4, 4)))), i(4), subscripts="ij,j->i"),
        10,
    ),
    "chosen by a constant": (
        lambda i: p.where(i.constant(np.arange(4) < 2), i(4), part(i(9), 5, 4)),
        2,
    ),
    "written over": (lambda i: p.update(i(9), part(i(9), 0, 3) * 0.0, start=(4,), step=(1,)), 9),
    "by blocks": (lambda i: p.cumsum(p.sum_(i(4, 3), axes=(1,)), axis=0, reverse=False), 30),
    "an index twice": (
        lambda i: p.scatter_add(i(4), i.constant(np.array([1, 1, 0, 1])), axis=0, size=3),
        4,
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_patterns_are_exact(name):
    make, count = EXACT[name]
    inputs = Inputs()
    z, x = make(inputs), inputs.active[0]
    v = p.input_node(x.pool, "v", x.shape, x.dtype)
    product = derive.jvp([z], [x], [v])[0]
    assert sparsity(product, v, {}).rows.columns.size == count
    assert_sparse(product, inputs)


def test_dense_primitives_are_named():
    inputs = Inputs()
    x = inputs(6)
    v = p.input_node(x.pool, "v", x.shape, x.dtype)
    spectrum = p.TABLE["fft"](p.complex_(v, 0.0), axes=(0,), inverse=False)
    found = sparsity(p.real(spectrum), v, {})
    assert found.dense == ("fft of shape (6,)",)
    assert found.rows.columns.size == 36
