"""Lowers primitives of the table to those that kernels and libraries compute; the result is a graph.

- A scatter becomes a segmented sum of gathered terms: its indices are sorted once (constant indices at
  compile time, indices that depend on x in the point program), then every result pulls its own terms.
- A contraction becomes a product and a sum if it has no other structure, and otherwise one matrix
  product of stacked matrices, "bmk,bkn->bmn", of views that BLAS can read.
- X.T @ (d * (X @ v)) becomes sums over X, which a nest computes in one pass over its rows; BLAS
  would read X twice.
- A long history of writes, or a sum of parts that do not overlap, becomes a concatenation, and a
  concatenation of many pieces becomes one of concatenations (`writes`).
- A reduction or a matrix product over no elements becomes a constant, so that no step is empty.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, reachable
from nbhvp.plan.costs import CPU
from nbhvp.plan.nests.pull import contiguous, groups
from nbhvp.plan.nests.writes import concatenated, histories, joined, summed, sums

__all__ = ["MATRIX_PRODUCT", "lower", "readable", "small_products_as_sums", "stacked"]

MATRIX_PRODUCT = "bmk,bkn->bmn"


def lower(graph: Graph, products: bool = True, in_one_pass: bool = True) -> Graph:
    """The same function, in primitives that the scheduler has steps for.

    Without `products`, matrix products stay as they are written: how to do them depends on what
    else is in their program. `in_one_pass` tells whether X.T @ (d * (X @ v)) becomes sums.
    """
    new: dict[Node, Node] = {node: node for node in graph.inputs}
    gone: set[Node] = set()
    pairs = _pairs(graph) if products and in_one_pass else set()
    written, added = histories(graph), sums(graph)
    for node in reachable(graph.outputs):
        whole = joined(written[node], new) if node in written else None
        if node in added and gone.isdisjoint(added[node]):
            whole = summed(added[node], new)
        if whole is not None:
            new[node] = whole
        elif node in pairs:
            x, y = (new[arg] for arg in node.args)
            new[node] = _as_sum(x, y, *_letters(node))
        elif node not in new:
            args = tuple(new[arg] for arg in node.args)
            left = [one for one, arg in zip(args, node.args, strict=True) if arg not in gone]
            if len(left) == 1 and node.primitive is p.add:
                new[node] = p.broadcast(left[0], shape=node.shape)
            else:
                new[node] = _lowered(node, args, products)
                if node.primitive.vanishes or (node.primitive is p.add and not left):
                    gone.add(node)
    return Graph(graph.inputs, tuple(new[node] for node in graph.outputs))


def small_products_as_sums(graph: Graph) -> Graph:
    """The same function, with sums in the place of stacks of matrix products that are too small for BLAS.

    A sum can be computed along with its operands and with what reads it.
    """
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        args = tuple(new[arg] for arg in node.args)
        if node.primitive is p.contract and _is_small_stack(node):
            new[node] = _as_sum(args[0], args[1], *_letters(node))
        else:
            new[node] = node if args == node.args else node.primitive(*args, **node.params)
    return Graph(graph.inputs, tuple(new[node] for node in graph.outputs))


def stacked(graph: Graph) -> float:
    """The seconds that BLAS takes for stacks of matrix products that may be sums."""
    stacks = (node for node in graph.nodes if node.primitive is p.contract)
    return sum(_by_blas(node) for node in stacks if _is_small_stack(node))


def _by_blas(node: Node) -> float:
    left, right, out = _letters(node)
    extent = dict(zip(left + right, node.args[0].shape + node.args[1].shape, strict=True))
    count = math.prod(extent[c] for c in {*left} & {*right} & {*out})
    operands = (node.args[0].size + node.args[1].size) * CPU.pack + count * CPU.call
    return math.prod(extent.values()) * CPU.multiply_add + operands


def _is_small_stack(node: Node) -> bool:
    left, right, out = _letters(node)
    extent = dict(zip(left + right, node.args[0].shape + node.args[1].shape, strict=True))
    size = lambda letters: math.prod(extent[c] for c in letters)
    both = set(left) & set(right)
    if size(both.intersection(out)) == 1 or node.dtype.kind != "f" or not node.size:
        return False
    every, single = size(extent), size(set(left) - both) * size(set(right) - both)
    if single == 1 or min(size(set(left) - both), size(set(right) - both)) == 1:
        return True  # a stack of products with vectors has as many loads as terms
    return every * CPU.term <= _by_blas(node)


def _lowered(node: Node, args: tuple[Node, ...], products: bool) -> Node:
    entry = node.primitive
    if (entry.reduction or entry is p.contract) and any(arg.size == 0 for arg in args):
        nothing = p.constant(node.pool, np.asarray(entry is p.all_, node.dtype))
        return p.broadcast(nothing, shape=node.shape)
    if entry is p.scatter_add:
        return _scatter(args[0], args[1], **node.params)
    if entry is p.concatenate:
        return concatenated(args, **node.params)
    if entry is p.contract:
        return _contraction(args[0], args[1], **node.params, products=products)
    if entry.lowered is not None:
        return entry.lowered(*args, **node.params)
    return node if args == node.args else entry(*args, **node.params)


def _scatter(z: Node, index: Node, axis: int, size: int) -> Node:
    merged = (*z.shape[:axis], index.size, *z.shape[axis + index.ndim :])
    z, index = p.reshape(z, shape=merged), p.reshape(index, shape=(index.size,))
    if z.size == 0:
        return p.zeros(z.pool, (*z.shape[:axis], size, *z.shape[axis + 1 :]), z.dtype)
    if index.primitive is p.argsort and index.size == size:  # a permutation
        return p.gather(z, p.argsort(index, axis=0), axis=axis)
    if (at := _affine(index)) is not None:
        whole = p.zeros(z.pool, (*z.shape[:axis], size, *z.shape[axis + 1 :]), z.dtype)
        start, step = ([one if k == axis else other for k in range(z.ndim)] for one, other in at)
        return p.update(whole, z, start=tuple(start), step=tuple(step))
    order = p.argsort(index, axis=0)
    rows = p.gather(index, order, axis=0)
    bounds = p.positions(z.pool, np.arange(size + 1))
    starts = p.searchsorted(rows, bounds, side="left")
    if order.value is None or (order.value != np.arange(index.size)).any():
        z = p.gather(z, order, axis=axis)
    return p.segment_sum(z, starts, axis=axis)


def _affine(index: Node) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The start and the step of constant places, each beside that of other axes; None if uneven."""
    if index.value is None:
        return None
    steps = np.diff(index.value)
    if (steps[1:] != steps[:1]).any() or (steps == 0).any():
        return None
    return (int(index.value[0]), 0), (int(steps[0]) if steps.size else 1, 1)


def _letters(node: Node) -> tuple[str, str, str]:
    operands, out = node.params["subscripts"].split("->")
    left, right = operands.split(",")
    return left, right, out


def _as_sum(x: Node, y: Node, left: str, right: str, out: str) -> Node:
    """A contraction as a product of elements and its sum."""
    letters = out + "".join(dict.fromkeys(c for c in left + right if c not in out))
    terms = p.multiply(_spread(x, left, letters), _spread(y, right, letters))
    return p.sum_(terms, axes=tuple(range(len(out), len(letters))))


def _pairs(graph: Graph) -> set[Node]:
    """Products X @ v and X.T @ w where w depends, row by row, on the first."""
    found: set[Node] = set()
    for node in graph.nodes:
        both = _matrix_of(node)
        if both is None:
            continue
        matrix, vector = both
        rows = vector.size
        if rows < CPU.rows or matrix.size == 0:
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


def _contraction(x: Node, y: Node, subscripts: str, products: bool = True) -> Node:
    operands, out = subscripts.split("->")
    left, right = operands.split(",")
    extent = dict(zip(left + right, x.shape + y.shape, strict=True))
    if any(arg.primitive is p.broadcast and arg.args[0].shape for arg in (x, y)):
        return _of_narrow(x, y, left, right, out, extent, products)
    batch = "".join(c for c in out if c in left and c in right)
    rows = "".join(c for c in out if c in left and c not in right)
    columns = "".join(c for c in out if c in right and c not in left)
    inner = "".join(c for c in left if c in right and c not in out)
    exact = x.dtype.kind not in "fc"
    if not inner or exact or not (rows or columns):
        return _as_sum(x, y, left, right, out)
    if not products:
        return p.contract(x, y, subscripts=subscripts)
    alone = [c for c in batch if extent[c] == 1]
    if alone:
        return _without(alone, x, y, left, right, out)
    return min(_products(x, y, left, right, out, extent), key=lambda found: found.seconds).made()


def _of_narrow(x: Node, y: Node, left: str, right: str, out: str, extent, products: bool) -> Node:
    """A contraction of what operands are before they are repeated along some letters."""
    (x, left), (y, right) = _unrepeated(x, left), _unrepeated(y, right)
    times = math.prod(n for c, n in extent.items() if c not in left + right + out)
    x, left = _summed(x, left, {*left} - {*right + out})
    y, right = _summed(y, right, {*right} - {*left + out})
    kept = "".join(c for c in out if c in left + right)
    made = _contraction(x, y, f"{left},{right}->{kept}", products)
    made = made if times == 1 else p.multiply(made, times)
    return p.broadcast(_spread(made, kept, out), shape=tuple(extent[c] for c in out))


def _unrepeated(x: Node, letters: str) -> tuple[Node, str]:
    """An operand without the axes along which a broadcast repeats it."""
    while x.primitive is p.broadcast and x.args[0].shape:
        inner = x.args[0]
        shape = (1,) * (x.ndim - inner.ndim) + inner.shape
        kept = [k for k, n in enumerate(shape) if n == x.shape[k]]
        x = p.reshape(inner, shape=tuple(shape[k] for k in kept))
        letters = "".join(letters[k] for k in kept)
    return x, letters


def _summed(x: Node, letters: str, gone: set[str]) -> tuple[Node, str]:
    """An operand, summed over letters that nothing else has."""
    axes = tuple(k for k, c in enumerate(letters) if c in gone)
    return p.sum_(x, axes=axes), "".join(c for c in letters if c not in gone)


def _without(alone: list[str], x: Node, y: Node, left: str, right: str, out: str) -> Node:
    """A contraction without the axes of extent 1 that both operands and the result have."""

    def kept(letters, shape):
        pairs = [pair for pair in zip(letters, shape, strict=True) if pair[0] not in alone]
        return "".join(c for c, _ in pairs), tuple(n for _, n in pairs)

    extent = dict(zip(left + right, x.shape + y.shape, strict=True))
    (left, x_shape), (right, y_shape) = kept(left, x.shape), kept(right, y.shape)
    whole = tuple(extent[c] for c in out)
    out, _ = kept(out, whole)
    x, y = p.reshape(x, shape=x_shape), p.reshape(y, shape=y_shape)
    return p.reshape(_contraction(x, y, f"{left},{right}->{out}"), shape=whole)


@dataclass(frozen=True)
class _Product:
    """One way to do a contraction by matrix products: the letters of each axis of "bmk,bkn->bmn"."""

    x: Node
    y: Node
    left: str
    right: str
    out: str
    extent: dict[str, int]
    batch: str
    rows: str
    columns: str
    inner: str

    @property
    def seconds(self) -> float:
        """About how long it takes, with copies of what BLAS cannot read as it lies."""
        b, m, n, k = (self._size(g) for g in (self.batch, self.rows, self.columns, self.inner))
        product = b * (m * n * k * CPU.multiply_add + (m * k + k * n) * CPU.pack + CPU.call)
        groups = (self.batch, self.rows, self.inner), (self.batch, self.inner, self.columns)
        copied = [
            node.size
            for node, letters, wanted in zip(
                (self.x, self.y), (self.left, self.right), groups, strict=True
            )
            if not self._is_readable(node, letters, wanted)
        ]
        letters = self.batch + self.rows + self.columns
        written = 0 if self._wide(letters) == self._wide(self.out) else b * m * n
        return product + (sum(copied) + written) * CPU.copy

    def _wide(self, letters: str) -> str:
        return "".join(c for c in letters if self.extent[c] != 1)

    def _size(self, letters: str) -> int:
        return math.prod(self.extent[c] for c in letters)

    def _is_readable(self, node: Node, letters: str, groups: tuple[str, ...]) -> bool:
        stride = dict(zip(letters, _strides(node), strict=True))
        merged = []
        for group in groups:
            strides = [(self.extent[c], stride.get(c, 0)) for c in self._wide(group)]
            if any(a != n * b for (_, a), (n, b) in itertools.pairwise(strides)):
                return False
            merged.append(strides[-1][1] if strides else 0)
        return readable([self._size(g) for g in groups], merged)

    def made(self) -> Node:
        """The contraction, in this way."""
        first = self._matrix(self.x, self.left, (self.batch, self.rows, self.inner))
        second = self._matrix(self.y, self.right, (self.batch, self.inner, self.columns))
        product = p.contract(first, second, subscripts=MATRIX_PRODUCT)
        letters = self.batch + self.rows + self.columns
        product = p.reshape(product, shape=tuple(self.extent[c] for c in letters))
        return _arranged(product, letters, self.out)

    def _matrix(self, x: Node, letters: str, groups: tuple[str, str, str]) -> Node:
        """x as a stack of matrices, one axis for each group of letters; one matrix may serve all.

        One that serves a part of a stack is repeated there: no stride leads along such an axis.
        """
        if any({*group} & {*letters} and {*group} - {*letters} for group in groups):
            every = "".join(groups)
            x = _spread(x, letters, every)
            x, letters = p.broadcast(x, shape=tuple(self.extent[c] for c in every)), every
        x = _arranged(x, letters, "".join(c for g in groups for c in g if c in letters))
        own = [math.prod(self.extent[c] for c in g if c in letters) for g in groups]
        x = p.reshape(x, shape=tuple(own))
        if x.value is not None and not readable(
            x.shape, [s // x.dtype.itemsize for s in x.value.strides]
        ):
            x = p.constant(x.pool, np.array(x.value, order="C"))
        return p.broadcast(x, shape=tuple(self._size(group) for group in groups))


def _products(x: Node, y: Node, left: str, right: str, out: str, extent) -> list[_Product]:
    """The ways to do a contraction by matrix products: stacked along what both operands have, and
    perhaps along one more letter, so that nothing need be copied."""
    batch = [c for c in out if c in left and c in right]
    inner = "".join(c for c in left if c in right and c not in out)
    found = []
    for stacked in (None, *(c for c in out if c not in batch)):
        b = "".join(c for c in out if c in batch or c == stacked)
        rows = "".join(c for c in out if c in left and c not in b)
        columns = "".join(c for c in out if c in right and c not in b)
        # A product with a vector has the vector on the right; a transposed result is that of the
        # other.
        if not rows or (columns and out == b + columns + rows):
            ways = (y, x, right, left, out, extent, b, columns, rows, inner)
        else:
            ways = (x, y, left, right, out, extent, b, rows, columns, inner)
        found.append(_Product(*ways))
    return found


def _arranged(x: Node, letters: str, wanted: str) -> Node:
    return p.transpose(x, axes=tuple(letters.index(c) for c in wanted))


def _spread(x: Node, letters: str, wanted: str) -> Node:
    """x with its axes in the wanted order, and extent 1 where it has none."""
    x = _arranged(x, letters, "".join(c for c in wanted if c in letters))
    extents = iter(x.shape)
    return p.reshape(x, shape=tuple(next(extents) if c in letters else 1 for c in wanted))


def _strides(node: Node) -> tuple[int, ...]:
    """How an array lies in memory, in elements: what is computed lies in C order, views tell."""
    if node.value is not None:
        return tuple(step // node.dtype.itemsize for step in node.value.strides)
    if node.primitive is p.transpose:
        inner = _strides(node.args[0])
        return tuple(inner[k] for k in node.params["axes"])
    if node.primitive is p.slice_:
        steps = zip(_strides(node.args[0]), node.params["step"], strict=True)
        return tuple(stride * step for stride, step in steps)
    if node.primitive is p.reshape:
        return _reshaped(node.args[0], node.shape) or contiguous(node.shape)
    return contiguous(node.shape)


def _reshaped(x: Node, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The strides of x in another shape; None where that is no view."""
    strides, found = _strides(x), [0] * len(shape)
    for ours, theirs in groups(shape, x.shape):
        theirs = [d for d in theirs if x.shape[d] != 1]
        pairs = zip(theirs, theirs[1:], strict=False)
        if any(strides[a] != x.shape[b] * strides[b] for a, b in pairs):
            return None
        inner = contiguous([shape[d] for d in ours])
        for d, stride in zip(ours, inner, strict=True):
            found[d] = stride * strides[theirs[-1]] if theirs else 0
    return tuple(found)


def readable(shape, strides) -> bool:
    """Whether BLAS can read each matrix of a stack where it lies, as it is or transposed."""
    _, rows, columns = shape
    _, row, column = strides
    as_it_is = (column == 1 or columns == 1) and (row >= columns or rows == 1)
    transposed = (row == 1 or rows == 1) and (column >= rows or columns == 1)
    return as_it_is or transposed
