"""The sparse matrix of a product at any point: its pattern and a way to its entries, made once.

The pattern follows from the graph and from the values of integers that index arrays; while these are as they
were, a new point needs no symbolic work. Its entries come in one of two ways:

- `Direct`: one program computes them all: pushed through the graph as tangents are, where each element has
  about as many; else term by term (`elements`), as finite elements are assembled.
- `Coloured`: products with as many directions as there are colours, each the sum of the columns of one
  colour. It is chosen where the graph has primitives whose entries are not known, and where a program for
  entries would be long.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse

from nbhvp.graph import primitives as p
from nbhvp.graph.linear_map import LinearMap
from nbhvp.graph.node import Node
from nbhvp.graph.sparsity.elements import MOST_DIRECTIONS, assembled, elements
from nbhvp.graph.sparsity.entries import Rows
from nbhvp.graph.sparsity.interleave import interleave
from nbhvp.graph.sparsity.propagation import FEW, Dense, Unknown, sparsity
from nbhvp.plan.costs import CPU

__all__ = ["Coloured", "Direct", "Matrix", "coloured", "matrix_of"]

LARGEST = 5_000
"""Rows of a matrix that may be dense: it has 0.2 GB."""
TOGETHER = 32
"""Directions whose products are in memory at one time."""
NODES = 8
"""Nodes that entries may take for each of the product's own: more take longer to compile than products."""


@dataclass(frozen=True, eq=False)
class Direct:
    """One program gives all entries."""

    output: Node
    """A vector of them, perhaps with others around."""
    part: slice = field(default_factory=lambda: slice(None))

    def assembled(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """The vector of entries."""
        return outputs[0].reshape(-1)[self.part]


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
    """Both read-only: they are shared by all sparse arrays that are made of it."""
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

    @functools.cached_property
    def by_rows(self) -> Any:
        """True at each entry, as a sparse array."""
        return self._as(scipy.sparse.csr_array)

    @functools.cached_property
    def by_columns(self) -> Any:
        """The same of a symmetric matrix, whose rows are its columns."""
        return self._as(scipy.sparse.csc_array)

    def _as(self, form: Callable) -> Any:
        ones = np.ones(self.columns.size, bool)
        found = form((ones, self.columns, self.starts), shape=self.shape)
        found.has_canonical_format = True  # which SciPy would look for
        return found


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
        for make in (_in_order, _by_elements, _direct):
            with contextlib.suppress(Unknown):
                return make(linear, values, is_symmetric)
        found = sparsity(linear.product, linear.direction, values)
    except Dense as dense:
        if max(shape) > LARGEST:
            raise ValueError(_refusal(source, shape, dense)) from None
        every = scipy.sparse.csr_array(np.ones(shape, bool))
        return coloured(every, is_symmetric, (str(dense),))
    return coloured(_pattern(found.rows, shape), is_symmetric, found.dense)


def _refusal(source: str, shape: tuple[int, int], dense: Dense) -> str:
    return (
        f"the matrix of {source}, of shape {shape}, is dense: {dense} makes it so, and an array of this "
        "shape does not fit. Use products, by the operators .hessian(x) and .jacobian(x), or give a "
        "pattern that you know (pattern=...)"
    )


def _pattern(rows: Rows, shape: tuple[int, int]) -> Any:
    ones = np.ones(rows.columns.size, bool)
    return scipy.sparse.csr_array((ones, rows.columns, rows.starts), shape=shape)


def _in_order(linear: LinearMap, values: dict, is_symmetric: bool) -> Matrix:
    """The program for all entries, where each element has about as many."""
    return _direct(linear, values, is_symmetric, is_regular=True)


def _by_elements(linear: LinearMap, values: dict, is_symmetric: bool) -> Matrix:
    """The program for all entries, term by term."""
    try:
        parts = elements(linear.product, linear.direction, values)
    except Dense:
        raise Unknown from None
    colours = _colouring().column_colours(parts.pattern)
    if colours.max(initial=-1) >= MOST_DIRECTIONS:
        raise Unknown
    assembly = importlib.import_module("nbhvp.targets.cpu.sparse.assembly")  # which imports LLVM
    terms = assembly.sorted_terms(parts.pattern, colours, parts.before, parts.after)
    rows = assembled(parts, colours, terms)
    assert rows.entry is not None, "a vector of all entries"
    shape = linear.product.size, linear.direction.size
    return Matrix(_short(rows.starts), _short(rows.columns), shape, Direct(rows.entry), ())


def _direct(
    linear: LinearMap, values: dict, is_symmetric: bool, is_regular: bool = False
) -> Matrix:
    """The program for all entries."""
    most = NODES * len(linear.graph.nodes)
    found = sparsity(linear.product, linear.direction, values, True, most, is_regular)
    rows = found.rows
    longest = int(np.diff(rows.starts).max(initial=0))
    if found.work > max(FEW, longest * found.size):  # of which products with colours need less
        raise Unknown
    if rows.entry is not None:
        way = Direct(rows.entry)
    elif (part := _as_table(rows)) is not None:
        table = p.concatenate(*(p.reshape(one, shape=(one.size, 1)) for one in rows.lanes), axis=1)
        way = Direct(table, part)
    else:
        way = _in_lanes(rows, is_symmetric)
    shape = linear.product.size, linear.direction.size
    return Matrix(_short(rows.starts), _short(rows.columns), shape, way, ())


def _as_table(rows: Rows) -> slice | None:
    """The part of all lanes, element by element, that entries are, if they are one."""
    count = len(rows.lanes)
    if count > CPU.written_out or rows.places != tuple(range(count)):
        return None
    if rows.is_valid is None:
        return slice(None)
    places = np.flatnonzero(rows.is_valid)
    first, last = (int(places[0]), int(places[-1])) if places.size else (0, -1)
    return slice(first, last + 1) if last + 1 - first == places.size else None


def _in_lanes(rows: Rows, is_symmetric: bool) -> Direct:
    """Lanes, interleaved; of a symmetric stencil, those of the diagonal and of what is above it."""
    count, is_valid = len(rows.places), rows.is_valid
    if is_valid is None:
        is_valid = np.ones((rows.size, count), bool)
    offsets = _offsets(rows, is_valid) if is_symmetric else None
    places, shifts = list(rows.places), [0] * count
    if offsets is not None:
        for t, offset in enumerate(offsets):
            if offset < 0:
                places[t], shifts[t] = rows.places[offsets.index(-offset)], offset
    lanes = [rows.lanes[t] for t in places]
    masks = is_valid @ (1 << np.arange(count))
    known = (p.constant(lanes[0].pool, one) for one in (_short(rows.starts), masks))
    return Direct(interleave(*known, *lanes, shifts=tuple(shifts)))


def _offsets(rows: Rows, is_valid: np.ndarray) -> list[int] | None:
    """How far each lane is from the diagonal, if that is the same in all rows, and they are pairs."""
    table = np.zeros(is_valid.shape, np.int64)
    table[is_valid] = rows.columns
    table -= np.arange(rows.size)[:, None]
    found = []
    for t in range(is_valid.shape[1]):
        mine = table[is_valid[:, t], t]
        if mine.size == 0 or mine.min() != mine.max():
            return None
        found.append(int(mine[0]))
    for t, offset in enumerate(found):
        if -offset not in found:
            return None
        at = np.flatnonzero(is_valid[:, t])
        if not is_valid[at + offset, found.index(-offset)].all():
            return None
    return found


def _short(array: np.ndarray) -> np.ndarray:
    """Places in a matrix, as SciPy's sparse arrays have them; they are shared, so they stay."""
    array = np.array(array, np.int32 if array.size == 0 or array.max() < 2**31 else np.int64)
    array.flags.writeable = False
    return array


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
    return importlib.import_module("nbhvp.targets.cpu.sparse.colouring")  # which imports LLVM


def _symmetric(pattern: Any, dense: tuple[str, ...]) -> Matrix:
    """Each entry from its own row, or its mirror image from the other."""
    pattern = scipy.sparse.csr_array(pattern)
    pattern.sort_indices()
    colours = _colouring().star_colours(pattern)
    size, count = pattern.shape[0], int(colours.max(initial=-1)) + 1
    row = np.repeat(np.arange(size), np.diff(pattern.indptr))
    column = pattern.indices.astype(np.int64)
    mine, others = row * count + colours[column], column * count + colours[row]
    keys, at, together = np.unique(mine, return_inverse=True, return_counts=True)
    is_alone = together[at] == 1
    is_mirrored = together[np.searchsorted(keys, others)] == 1
    assert (is_alone | is_mirrored).all(), "each entry or its mirror image is alone"
    of_colour = np.where(is_alone, colours[column], colours[row])
    way = Coloured(colours, np.where(is_alone, row, column), of_colour)
    return Matrix(_short(pattern.indptr), _short(pattern.indices), pattern.shape, way, dense)


def _by_lines(pattern: Any, is_transposed: bool, dense: tuple[str, ...]) -> Matrix:
    """By colours of the columns, or of the rows if products are with the transposed matrix."""
    pattern.sort_indices()
    row = np.repeat(np.arange(pattern.shape[0]), np.diff(pattern.indptr))
    column = pattern.indices.astype(np.int64)
    colours = _colouring().column_colours(pattern.T if is_transposed else pattern)
    out, into = (column, row) if is_transposed else (row, column)
    way = Coloured(colours, out, colours[into])
    starts, columns = _short(pattern.indptr), _short(pattern.indices)
    return Matrix(starts, columns, pattern.shape, way, dense, is_transposed)
