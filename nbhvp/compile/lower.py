"""From the table's primitives to what kernels and libraries do, still as a graph.

- A scatter becomes a segmented sum of gathered terms: sort its indices once (a constant index at
  compile time, one that depends on x in the point program), then every result pulls its own terms.
- A contraction becomes a product and a sum where that is all it is, and else one matrix product of
  stacked matrices, "bmk,bkn->bmn", of views that BLAS can read.
- X.T @ (d * (X @ v)) becomes sums over X, which a nest computes in one pass over its rows: BLAS
  would read X twice.
- A sum of nothing becomes zeros, so that no kernel has an empty reduction, and no product.
"""

from __future__ import annotations

import math

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, reachable

__all__ = ["MATRIX_PRODUCT", "lower", "readable"]

MATRIX_PRODUCT = "bmk,bkn->bmn"


def lower(graph: Graph) -> Graph:
    """The same function, in primitives that the scheduler has steps for."""
    new: dict[Node, Node] = {node: node for node in graph.inputs}
    in_one_pass = _pairs(graph)
    for node in reachable(graph.outputs):
        if node in in_one_pass:
            new[node] = _as_sum(*(new[arg] for arg in node.args), *_letters(node))
        elif node not in new:
            args = tuple(new[arg] for arg in node.args)
            new[node] = _lowered(node, args)
    return Graph(graph.inputs, tuple(new[node] for node in graph.outputs))


def _lowered(node: Node, args: tuple[Node, ...]) -> Node:
    entry = node.primitive
    if (entry.reduction or entry is p.contract) and any(arg.size == 0 for arg in args):
        nothing = p.constant(node.pool, np.asarray(entry is p.all_, node.dtype))
        return p.broadcast(nothing, shape=node.shape)
    if entry is p.scatter_add:
        return _scatter(*args, **node.params)
    if entry is p.contract:
        return _contraction(*args, **node.params)
    return node if args == node.args else entry(*args, **node.params)


def _scatter(z: Node, index: Node, axis: int, size: int) -> Node:
    merged = (*z.shape[:axis], index.size, *z.shape[axis + index.ndim :])
    z, index = p.reshape(z, shape=merged), p.reshape(index, shape=(index.size,))
    if z.size == 0:
        return p.zeros(z.pool, (*z.shape[:axis], size, *z.shape[axis + 1 :]), z.dtype)
    order = p.argsort(index, axis=0)
    rows = p.gather(index, order, axis=0)
    bounds = p.constant(z.pool, np.arange(size + 1))
    starts = p.searchsorted(rows, bounds, side="left")
    if order.value is None or (order.value != np.arange(index.size)).any():
        z = p.gather(z, order, axis=axis)
    return p.segment_sum(z, starts, axis=axis)


def _letters(node: Node) -> tuple[str, str, str]:
    operands, out = node.params["subscripts"].split("->")
    left, right = operands.split(",")
    return left, right, out


def _as_sum(x: Node, y: Node, left: str, right: str, out: str) -> Node:
    """A contraction as a product of elements and its sum."""
    letters = out + "".join(dict.fromkeys(c for c in left + right if c not in out))
    terms = _spread(x, left, letters) * _spread(y, right, letters)
    return p.sum_(terms, axes=tuple(range(len(out), len(letters))))


FEWEST_ROWS = 256
"""Rows of a matrix from which the partial results of a sum over them are few beside it."""


def _pairs(graph: Graph) -> set[Node]:
    """Products X @ v and X.T @ w where w depends, row by row, on the first."""
    found: set[Node] = set()
    for node in graph.nodes:
        if _matrix_of(node) is None:
            continue
        matrix, vector = _matrix_of(node)
        rows = vector.size
        if rows < FEWEST_ROWS:
            continue
        pending, seen = [vector], set()
        while pending:
            one = pending.pop()
            if one in seen:
                continue
            seen.add(one)
            other = _matrix_of(one)
            if other is not None and one.size == rows and _base(other[0]) == _base(matrix):
                found |= {node, one}
            elif one.primitive.is_elementwise or one.primitive.pull is not None:
                pending += [arg for arg in one.args if arg.size == rows]
    return found


def _matrix_of(node: Node) -> tuple[Node, Node] | None:
    """The matrix and the vector of a product of these."""
    if node.primitive is not p.contract or node.dtype.kind != "f" or node.ndim != 1:
        return None
    matrix, vector = sorted(node.args, key=lambda arg: -arg.ndim)
    return (matrix, vector) if (matrix.ndim, vector.ndim) == (2, 1) else None


def _base(matrix: Node):
    """What two nodes have in common if they show the same matrix, or its transpose."""
    while matrix.primitive is p.transpose:
        matrix = matrix.args[0]
    if matrix.value is None:
        return matrix
    value = matrix.value
    return value.ctypes.data, value.dtype, frozenset(zip(value.shape, value.strides, strict=True))


def _contraction(x: Node, y: Node, subscripts: str) -> Node:
    operands, out = subscripts.split("->")
    left, right = operands.split(",")
    extent = dict(zip(left + right, x.shape + y.shape, strict=True))
    batch = "".join(c for c in out if c in left and c in right)
    rows = "".join(c for c in out if c in left and c not in right)
    columns = "".join(c for c in out if c in right and c not in left)
    inner = "".join(c for c in left if c in right and c not in out)
    exact = x.dtype.kind not in "fc"
    if not inner or exact or not (rows or columns):
        return _as_sum(x, y, left, right, out)
    # A product with a vector has the vector on the right; a transposed result is that of the other.
    if not rows or (columns and out == batch + columns + rows):
        x, y, left, right, rows, columns = y, x, right, left, columns, rows
    size = {key: math.prod(extent[c] for c in key) for key in (batch, rows, columns, inner)}
    first = _matrix(x, left, (batch, rows, inner), size)
    second = _matrix(y, right, (batch, inner, columns), size)
    product = p.contract(first, second, subscripts=MATRIX_PRODUCT)
    letters = batch + rows + columns
    product = p.reshape(product, shape=tuple(extent[c] for c in letters))
    return _arranged(product, letters, out)


def _arranged(x: Node, letters: str, wanted: str) -> Node:
    return p.transpose(x, axes=tuple(letters.index(c) for c in wanted))


def _spread(x: Node, letters: str, wanted: str) -> Node:
    """x with its axes in the wanted order, and extent 1 where it has none."""
    x = _arranged(x, letters, "".join(c for c in wanted if c in letters))
    extents = iter(x.shape)
    return p.reshape(x, shape=tuple(next(extents) if c in letters else 1 for c in wanted))


def _matrix(x: Node, letters: str, groups: tuple[str, str, str], size: dict[str, int]) -> Node:
    """x as a stack of matrices, one axis for each group of letters."""
    x = _arranged(x, letters, "".join(groups))
    x = p.reshape(x, shape=tuple(size[group] for group in groups))
    if x.value is not None and not readable(
        x.shape, [s // x.dtype.itemsize for s in x.value.strides]
    ):
        return p.constant(x.pool, np.array(x.value, order="C"))
    return x


def readable(shape, strides) -> bool:
    """Whether BLAS can read each matrix of a stack where it lies, as it is or transposed."""
    _, rows, columns = shape
    _, row, column = strides
    as_it_is = (column == 1 or columns == 1) and (row >= columns or rows == 1)
    transposed = (row == 1 or rows == 1) and (column >= rows or columns == 1)
    return as_it_is or transposed
