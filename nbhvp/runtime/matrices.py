"""The sparse matrix of a product at any point: its pattern and a way to its entries, made once.

The pattern follows from the graph and from the values of integers that index arrays; while these are as they
were, a new point needs no symbolic work. Its entries come in one of two ways:

- `Direct`: one program computes them all, pushed through the graph as tangents are. So the elements' own
  small matrices are computed and added up where they belong, as finite elements are assembled.
- `Coloured`: products with as many directions as there are colours, each the sum of the columns of one
  colour. It is chosen where the entries of intermediate nodes would be more than these products compute,
  and where the graph has primitives whose entries are not known (`dense`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from nbhvp.graph.linear_map import LinearMap
from nbhvp.graph.node import Node, reachable
from nbhvp.graph.sparsity.entries import Rows
from nbhvp.graph.sparsity.propagation import Dense, Sparsity, sparsity

__all__ = ["Coloured", "Direct", "Matrix", "coloured", "matrix_of"]

LARGEST = 5_000
"""Rows of a matrix that may be dense: it has 0.2 GB."""
TOGETHER = 32
"""Directions whose products are in memory at one time."""
NODES = 8
"""Nodes of the program for entries, for each of the product's own, above which it is not compiled."""


@dataclass(frozen=True, eq=False)
class Direct:
    """One program gives all entries."""

    outputs: tuple[Node, ...]
    """The entries as a vector, or a lane of them for each of so many entries of a row."""
    is_valid: np.ndarray | None = None
    """Of shape (rows, lanes): which entries there are; None for all."""

    def assembled(self, lanes: Sequence[np.ndarray]) -> np.ndarray:
        """The vector of entries."""
        if len(lanes) == 1 and self.is_valid is None:
            return lanes[0].reshape(-1)
        table = np.stack([lane.reshape(-1) for lane in lanes], axis=1)
        return table.reshape(-1) if self.is_valid is None else table[self.is_valid]


@dataclass(frozen=True, eq=False)
class Coloured:
    """Products with sums of columns give all entries."""

    colours: np.ndarray
    """Of each column."""
    rows: np.ndarray
    """Of each entry: the row and the colour of the product that it is read from."""
    of_colour: np.ndarray

    @property
    def count(self) -> int:
        return int(self.colours.max(initial=-1)) + 1

    def entries(self, times: Callable[[np.ndarray], np.ndarray], dtype: np.dtype) -> np.ndarray:
        """The entries, from a function that multiplies a matrix of directions."""
        out = np.empty(self.rows.size, dtype)
        for first in range(0, self.count, TOGETHER):
            count = min(TOGETHER, self.count - first)
            directions = self.colours[:, None] == np.arange(first, first + count)
            products = times(np.asarray(directions, dtype, order="F"))
            mine: Any = slice(None)
            if count != self.count:
                mine = (self.of_colour >= first) & (self.of_colour < first + count)
            out[mine] = products[self.rows[mine], self.of_colour[mine] - first]
        return out


@dataclass(frozen=True, eq=False)
class Matrix:
    """The pattern of a matrix by rows, and the way to its entries."""

    starts: np.ndarray
    columns: np.ndarray
    shape: tuple[int, int]
    way: Direct | Coloured
    dense: tuple[str, ...]
    """The primitives that have made it denser than it may be."""
    is_transposed: bool = False
    """Whether products of the way are with the transposed matrix."""

    @property
    def products(self) -> int:
        """How many products its entries take."""
        return self.way.count if isinstance(self.way, Coloured) else 0

    @property
    def pattern(self) -> Any:
        ones = np.ones(self.columns.size, bool)
        return scipy.sparse.csr_array((ones, self.columns, self.starts), shape=self.shape)


def matrix_of(
    linear: LinearMap, values: dict[Node, np.ndarray], source: str, is_symmetric: bool
) -> Matrix:
    """The pattern of a product, and a way to its entries.

    Raises
    ------
    ValueError
        If it is dense, and too large for an array.
    """
    shape = linear.product.size, linear.direction.size
    try:
        found = sparsity(linear.product, linear.direction, values)
    except Dense as dense:
        if max(shape) > LARGEST:
            raise ValueError(_refusal(source, shape, dense)) from None
        return _full(shape, str(dense), is_symmetric)
    rows = found.rows
    direct = _direct(linear, values, found)
    if direct is not None:
        return Matrix(rows.starts, rows.columns, shape, direct, ())
    return coloured(_pattern(rows, shape), is_symmetric, found.dense)


def _refusal(source: str, shape: tuple[int, int], dense: Dense) -> str:
    return (
        f"the matrix of {source}, of shape {shape}, is dense: {dense} makes it so, and an array of this "
        "shape does not fit. Use products, by the operators .hessian(x) and .jacobian(x), or give a "
        "pattern that you know (pattern=...)"
    )


def _pattern(rows: Rows, shape: tuple[int, int]) -> Any:
    ones = np.ones(rows.columns.size, bool)
    return scipy.sparse.csr_array((ones, rows.columns, rows.starts), shape=shape)


def _full(shape: tuple[int, int], dense: str, is_symmetric: bool) -> Matrix:
    return coloured(scipy.sparse.csr_array(np.ones(shape, bool)), is_symmetric, (dense,))


def _direct(linear: LinearMap, values: dict, found: Sparsity) -> Direct | None:
    """The program for all entries, where that is less work than products with colours."""
    longest = int(np.diff(found.rows.starts).max(initial=0))
    if found.dense or found.work > max(1, longest) * found.size:
        return None
    try:
        rows = sparsity(linear.product, linear.direction, values, with_entries=True).rows
    except Dense:
        return None
    outputs = rows.lanes if rows.entry is None else (rows.entry,)
    if len(reachable(outputs)) > NODES * len(linear.graph.nodes):
        return None
    return Direct(outputs, rows.is_valid)


def coloured(pattern: Any, is_symmetric: bool, dense: tuple[str, ...] = ()) -> Matrix:
    """The way by products to the entries of a pattern."""
    pattern = scipy.sparse.csr_array(pattern).astype(bool)
    pattern.sum_duplicates()
    if is_symmetric:
        return _symmetric(pattern + pattern.T, dense)
    longest = [int(np.diff(one.indptr).max(initial=0)) for one in (pattern, pattern.tocsc())]
    # The side whose longest line is shorter first: fewer colours than its entries there are not.
    sides = sorted((False, True), key=lambda is_transposed: longest[is_transposed])
    best = _by_lines(pattern, sides[0], dense)
    if best.products > longest[sides[1]]:
        best = min(best, _by_lines(pattern, sides[1], dense), key=lambda one: one.products)
    return best


def _colouring() -> Any:
    return importlib.import_module("nbhvp.targets.cpu.colouring")  # which imports LLVM


def _symmetric(pattern: Any, dense: tuple[str, ...]) -> Matrix:
    """Each entry from its own row, or its mirror image from the other."""
    pattern = scipy.sparse.csr_array(pattern)
    pattern.sort_indices()
    colours = _colouring().star_colours(pattern)
    size, count = pattern.shape[0], int(colours.max(initial=-1)) + 1
    row = np.repeat(np.arange(size), np.diff(pattern.indptr))
    column = pattern.indices.astype(np.int64)
    mine, others = row * count + colours[column], column * count + colours[row]
    together = np.bincount(mine, minlength=size * count)
    is_alone = together[mine] == 1
    assert (is_alone | (together[others] == 1)).all(), "each entry or its mirror image is alone"
    rows, of_colour = (
        np.where(is_alone, row, column),
        np.where(is_alone, colours[column], colours[row]),
    )
    way = Coloured(colours, rows, of_colour)
    return Matrix(pattern.indptr, pattern.indices, pattern.shape, way, dense)


def _by_lines(pattern: Any, is_transposed: bool, dense: tuple[str, ...]) -> Matrix:
    """By colours of the columns, or of the rows if products are with the transposed matrix."""
    pattern.sort_indices()
    row = np.repeat(np.arange(pattern.shape[0]), np.diff(pattern.indptr))
    column = pattern.indices.astype(np.int64)
    colours = _colouring().column_colours(pattern.T if is_transposed else pattern)
    out, into = (column, row) if is_transposed else (row, column)
    way = Coloured(colours, out, colours[into])
    return Matrix(pattern.indptr, pattern.indices, pattern.shape, way, dense, is_transposed)
