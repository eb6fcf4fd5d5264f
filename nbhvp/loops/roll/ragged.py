"""Sums of products over triangles and bands, as products with matrices that are zero elsewhere.

The sums t_i = sum_{j <= i} L_p(i, j) d_j, with p(i, j) a place in a packed triangle, have numbers of
terms that differ, but from one period of sums to the next, that of each datum n and component k say,
the terms are at the same places (i, j). So they are a contraction

    t_nki = sum_j W_kij d_nkj,         W_kij = L_k p(i, j) where there is a term, else 0,

and W is one gather, which is small where each of its elements serves many periods. Products of other
classes with the same d are terms of the same contraction: those of the diagonal, say.

Invariant: the numbers are those of the sums where d is finite, since 0 d = 0 there; where it is not,
t is not finite either. The same goes for tangents of d, which must be finite where d is: so there is
no contraction where d comes from a root, or another function that is steep somewhere (`is_steep`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Node, reachable
from nbhvp.graph.primitives import Primitive
from nbhvp.graph.table.tape import partials_of
from nbhvp.loops.roll.views import Source, read, rows_alike

__all__ = ["Product", "Triangle", "is_steep", "triangle"]

SPARSE = 3
"""How many times more elements a matrix may have than there are terms."""
POINTS = np.array([-1.0, 0.0, 1.0])
"""Where functions may be steep."""
PERIODS = 8
"""Periods of a pattern that are looked at."""


@dataclass(frozen=True, eq=False)
class Product:
    """The terms of one class of products in all sums, sum by sum."""

    sign: int
    factors: tuple[tuple[Source, np.ndarray], ...]
    """Of both factors: a source, and the places of all terms in it."""
    counts: np.ndarray
    """How many terms each sum has."""


@dataclass(frozen=True, eq=False)
class _Entries:
    """The terms of a product, period by period, as entries of a matrix times elements of d."""

    sign: int
    source: Source
    places: np.ndarray
    """Where the source has each entry, period by period."""
    rows: np.ndarray
    columns: np.ndarray
    """Places of d in the first period."""
    data: Source
    shifts: np.ndarray
    """How far from these the places of d are, in each period."""

    def has_data_of(self, other: _Entries) -> bool:
        return self.data is other.data and np.array_equal(self.shifts, other.shifts)

    def _completed(self, at: np.ndarray, rows: int, columns: int) -> np.ndarray:
        """Places for all entries of the matrix: where it has none, any, on a line with others if
        there is one."""
        i, j = np.divmod(np.arange(rows * columns), columns)
        axes = np.stack([np.ones_like(i), i, j], axis=1)
        steps = np.rint(np.linalg.lstsq(axes[at], self.places[0] - self.places[0, 0])[0])
        line = axes @ steps.astype(np.int64)
        found = self.places[:, :1] + line
        is_line = np.array_equal(found[:, at], self.places)
        if is_line and found.min() >= 0 and found.max() < self.source.size:
            return found.ravel()
        term = np.zeros(rows * columns, np.int64)
        term[at] = np.arange(at.size)
        return self.places[:, term].ravel()

    def filled(self, grid: tuple[int, ...], rows: int, columns: np.ndarray) -> Node:
        """The matrix over a grid of periods, zero where there is no entry."""
        size = rows * columns.size
        at = self.rows * columns.size + np.searchsorted(columns, self.columns)
        is_there = np.zeros(size, bool)
        is_there[at] = True
        node = read(self.source, self._completed(at, rows, columns.size), (*grid, size)).make()
        zero = p.constant(node.pool, np.zeros((), node.dtype))
        node = p.where(p.constant(node.pool, is_there), node, zero)
        node = p.reshape(node, shape=(*node.shape[:-1], rows, columns.size))
        return node


@dataclass(frozen=True, eq=False)
class Triangle:
    """The products at `members` in a sum, as those of matrices and one array d."""

    members: tuple[int, ...]
    rows: int
    entries: tuple[_Entries, ...]

    @property
    def periods(self) -> int:
        return self.entries[0].shifts.size

    @property
    def reads(self) -> list[tuple[Source, np.ndarray]]:
        """What the periods read first: these have the grid of the periods."""
        first = self.entries[0]
        data = (first.data, first.shifts + first.columns[0])
        return [data, *((one.source, one.places[:, 0]) for one in self.entries)]

    def factors(self, grid: tuple[int, ...]) -> tuple[Node, Node]:
        """The matrix, but for the sign of its first entries, and d: over a grid of periods, rows and
        columns."""
        columns = _columns(self.entries)
        first = self.entries[0]
        index = (first.shifts[:, None] + columns).ravel()
        data = read(first.data, index, (*grid, columns.size)).make()
        matrix = first.filled(grid, self.rows, columns)
        for one in self.entries[1:]:
            combined = p.add if one.sign == first.sign else p.subtract
            matrix = combined(matrix, one.filled(grid, self.rows, columns))
        return matrix, p.reshape(data, shape=(*data.shape[:-1], 1, data.shape[-1]))


def is_steep(node: Node) -> bool:
    """Whether what a node is made of has an infinite derivative, or none, where it is finite."""
    return any(
        not one.params and _is_steep(one.primitive, tuple(map(_number, one.args)))
        for one in reachable([node])
    )


def _number(node: Node) -> float | None:
    """The value of a constant that is one number."""
    return float(node.value.flat[0]) if node.value is not None and node.size == 1 else None


@functools.cache
def _is_steep(entry: Primitive, numbers: tuple[float | None, ...]) -> bool:
    """Whether a function is steep at some special points, with numbers for some of its arguments."""
    if entry.kind != "elementwise" or entry.domain == p.ANY or entry.arity > 2:
        return False
    special = [POINTS if one is None else np.array([one]) for one in numbers]
    grid = [one.ravel() for one in np.meshgrid(*special)]
    x, y = grid[0], grid[-1]
    with np.errstate(all="ignore"):
        z = np.asarray(entry.evaluate(*grid), np.float64)
        partials = interpret(partials_of(entry, x.shape), z, x, y)[: entry.arity]
    varies = [one for one, number in zip(partials, numbers, strict=True) if number is None]
    return any(bool((np.isfinite(z) & ~np.isfinite(one)).any()) for one in varies)


def triangle(products: Sequence[Product | None]) -> Triangle | None:
    """A ragged one of some products, and all others with the same d; None if there is none."""
    for one in products:
        rows = _period(one.counts) if one and (one.counts != one.counts[0]).any() else 0
        for first in _ways(one, rows) if one and rows else ():
            found = {
                k: entries
                for k, other in enumerate(products)
                for entries in (_ways(other, rows) if other else ())
                if entries.has_data_of(first)
            }
            entries = tuple(found.values())
            terms = sum(some.rows.size for some in entries)
            if rows * _columns(entries).size <= SPARSE * terms:
                return Triangle(tuple(found), rows, entries)
    return None


def _columns(entries: Sequence[_Entries]) -> np.ndarray:
    return np.unique(np.concatenate([one.columns for one in entries]))


def _period(counts: np.ndarray) -> int:
    """After how many sums their numbers of terms repeat; 0 if none is seen."""
    found = np.flatnonzero(counts == counts[0])[1 : PERIODS + 1].tolist()
    return next((n for n in found if _is_periodic(counts, n)), 0)


def _is_periodic(counts: np.ndarray, rows: int) -> bool:
    return counts.size % rows == 0 and bool((counts[rows:] == counts[:-rows]).all())


def _ways(one: Product, rows: int) -> Iterator[_Entries]:
    """A product as entries of a matrix times d, where each factor may be d."""
    if not _is_periodic(one.counts, rows):
        return
    counts = one.counts[:rows]
    row = np.repeat(np.arange(rows), counts)
    for d in (1, 0):
        (data, index), (source, places) = one.factors[d], one.factors[1 - d]
        columns = index[: row.size]
        if rows_alike(index, row.size) and np.unique([row, columns], axis=1).shape[1] == row.size:
            shifts = index[:: row.size] - index[0]
            yield _Entries(
                one.sign, source, places.reshape(-1, row.size), row, columns, data, shifts
            )
