"""The entries of each element of a node, z_dot[i] = sum over t of c_t[i] v[j_t[i]], in two forms.

A `Lane` has one entry for each element, or none: a pair of arrays of the node's shape, the columns j_t and
the entries c_t. `Rows` are a sparse matrix by rows, for elements with different numbers of entries.

Entries are nodes. A factor that all entries of a lane have is kept apart (`scale`), so that entries that
differ in sign are one node. Where all are equal (`is_constant`), `entry` is 1 where there are entries and 0
elsewhere; what is computed from such a lane may start from 1 everywhere, which needs no guard in a
kernel, and is *unclean*: where there is no entry, it is anything. To add two lanes that have entries at
different elements, both are made clean.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node

__all__ = [
    "Lane",
    "Lanes",
    "Rows",
    "both",
    "count_of",
    "end_to_end",
    "flat",
    "gathered",
    "listed",
    "peeled",
    "rows_of",
    "sorted_entries",
    "summed",
    "taken",
]


@dataclass(frozen=True, eq=False)
class Lane:
    """One entry for each element of a node, or none."""

    columns: np.ndarray
    """int32, of the shape of the node; -1 where there is no entry."""
    is_full: bool
    """Whether each element has one."""
    entry: Node | None = None
    """The entries but for the scale; None if only the pattern is wanted."""
    scale: float = 1.0
    is_constant: bool = False
    is_clean: bool = True
    """Whether `entry` is 0 where there is no entry."""

    @functools.cached_property
    def sample(self) -> list[int]:
        """Some of the columns: most lanes differ in the first of these."""
        steps = (slice(n // 3, None, max(1, n // 3)) for n in self.columns.shape)
        return self.columns[tuple(steps)].ravel().tolist()

    @property
    def loose(self) -> Node | None:
        """The entries but for the scale, and anything where there are none."""
        if self.entry is None or not self.is_constant:
            return self.entry
        return p.broadcast(p.constant(self.entry.pool, 1, self.entry.dtype), shape=self.entry.shape)

    @property
    def values(self) -> Node | None:
        """The entries, and anything where there are none."""
        return self.entry and p.multiply(self.scale, self.loose)

    def cleaned(self) -> Node | None:
        """The entries but for the scale, 0 where there are none."""
        if self.entry is None or self.is_clean or self.is_full:
            return self.entry
        return p.where(p.constant(self.entry.pool, self.columns >= 0), self.entry, 0)


Lanes = tuple[Lane, ...]

MOST_PARTS = 60
"""Of lanes, by their distances from the diagonal: as many as a word has bits, and a few less."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The entries of each element of a node, by rows: columns ascend, and none comes twice."""

    starts: np.ndarray
    columns: np.ndarray
    entry: Node | None
    """A vector, in the order of `columns`."""
    lanes: tuple[Node, ...] = ()
    """In its place for the last node: an array for each lane, of the entries that `is_valid` tells."""
    places: tuple[int, ...] = ()
    """The lanes of the entries of a row, in order; one may come more than once, for different rows."""
    is_valid: np.ndarray | None = None
    """Of shape (rows, places): which of these there are; None for all."""

    @property
    def size(self) -> int:
        return self.starts.size - 1

    @property
    def row(self) -> np.ndarray:
        """The row of each entry."""
        return np.repeat(np.arange(self.size), np.diff(self.starts))


def count_of(operand: Lanes | Rows) -> int:
    """The number of entries."""
    if isinstance(operand, Rows):
        return operand.columns.size
    return sum(lane.columns.size for lane in operand)


def columns_of(operand: Lanes | Rows) -> list[np.ndarray]:
    if isinstance(operand, Rows):
        return [operand.columns]
    return [lane.columns.ravel() for lane in operand]


# Lanes.


def both(a: Lane, b: Lane) -> Lane | None:
    """Two lanes as one, if nowhere both have entries in different columns."""
    columns, is_full, are_alike = a.columns, a.is_full, True
    if a.columns is not b.columns:
        if any(i != j and i >= 0 and j >= 0 for i, j in zip(a.sample, b.sample, strict=True)):
            return None
        are_full = a.is_full and b.is_full
        if not np.array_equal(a.columns, b.columns) if are_full else _differ(a.columns, b.columns):
            return None
        are_alike = are_full or bool(((a.columns < 0) == (b.columns < 0)).all())
        if not are_alike:
            columns = np.maximum(a.columns, b.columns)
            is_full = a.is_full or b.is_full or bool((columns >= 0).all())
    lane = Lane(columns, is_full)
    if a.entry is None:
        return lane
    if are_alike and a.is_constant and b.is_constant:
        return replace(a, scale=a.scale + b.scale)
    if are_alike and not (a.is_clean and b.is_clean):
        return replace(_sum(lane, a, b, a.loose, b.loose), is_clean=False)
    return _sum(lane, a, b, a.cleaned(), b.cleaned())


def _sum(lane: Lane, a: Lane, b: Lane, x: Node, y: Node) -> Lane:
    if a.scale == b.scale:
        return replace(lane, entry=x + y, scale=a.scale)
    if a.scale == -b.scale:
        return replace(lane, entry=x - y, scale=a.scale)
    if a.scale == 0.0:
        return replace(lane, entry=p.multiply(a.scale, x) + p.multiply(b.scale, y))
    return replace(lane, entry=x + p.multiply(b.scale / a.scale, y), scale=a.scale)


def peeled(node: Node) -> tuple[float, Node]:
    """A real, finite factor of all elements, and the rest."""
    scale, factor, rest = 1.0, *_factor(node)
    while rest is not None:
        scale, node = scale * factor, rest
        factor, rest = _factor(node)
    return scale, node


def _factor(node: Node) -> tuple[float, Node | None]:
    """A number by which a node multiplies, and what it multiplies; None for nothing."""
    if node.primitive is p.negative:
        return -1.0, node.args[0]
    if node.primitive is p.multiply:
        for number, other in (node.args, node.args[::-1]):
            value = p.scalar_value(number)
            is_real = value is not None and value.dtype.kind == "f" and other.dtype == node.dtype
            if is_real and 0 < abs(value) < np.inf:
                return float(value), p.broadcast(other, shape=node.shape)
    return 1.0, None


def _differ(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether both have an entry somewhere, in different columns."""
    return bool(((a != b) & (np.minimum(a, b) >= 0)).any())


def _offset(lane: Lane) -> float:
    """How far to the right of its row a lane lies."""
    columns = lane.columns.ravel()
    at = np.arange(0, columns.size, max(1, columns.size // 64))
    some = columns[at]
    found = some[some >= 0] - at[some >= 0]
    return float(np.median(found)) if found.size else 0.0


# Rows.


def rows_of(operand: Lanes | Rows, like: Node, width: int, is_last: bool = False) -> Rows:
    """The entries of a node by rows; those of the last node may stay in their lanes."""
    if isinstance(operand, Rows):
        return operand
    if not operand:
        zero = p.zeros(like.pool, (0,), like.dtype)
        return Rows(np.zeros(like.size + 1, np.int64), np.empty(0, np.int32), zero)
    lanes = sorted(operand, key=_offset)
    table = np.stack([lane.columns.reshape(like.size) for lane in lanes], axis=1)
    is_valid = table >= 0
    counts = is_valid.sum(axis=1)
    starts = np.append(0, np.cumsum(counts))
    are_all = starts[-1] == table.size
    columns = table.ravel() if are_all else table[is_valid]
    ascends = np.ones(columns.size, bool)
    np.greater(columns[1:], columns[:-1], out=ascends[1:])
    ascends[starts[:-1][counts > 0]] = True
    is_sorted = bool(ascends.all())
    if lanes[0].entry is None and is_sorted:
        return Rows(starts, columns, None)
    values = tuple(lane.values for lane in lanes if lane.entry is not None)
    if is_last and is_sorted:
        is_valid = None if are_all else is_valid
        return Rows(starts, columns, None, values, tuple(range(len(lanes))), is_valid)
    if is_last and (found := _by_offset(lanes, like.size)) is not None:
        places, is_valid, columns = found
        return Rows(starts, columns, None, values, places, is_valid)
    entry = end_to_end([flat(one) for one in values]) if values else None
    if entry is not None:
        # Row by row, from lane by lane.
        at = np.arange(table.size).reshape(len(lanes), like.size).T
        entry = gathered(entry, at.ravel() if are_all else at[is_valid])
    if is_sorted:
        return Rows(starts, columns, entry)
    row = np.repeat(np.arange(like.size), counts)
    return listed(row, columns, entry, (like.size, width))


def _by_offset(lanes: Sequence[Lane], size: int):
    """Lanes parted by the distance of columns from the diagonal, which is their order in each row.

    Gives the lane of each part, whether each row has an entry of it, and the columns; None where parts
    are many, or a row has two entries in one column.
    """
    row = np.arange(size, dtype=np.int32)
    parts: list[tuple[int, int, np.ndarray]] = []
    for k, lane in enumerate(lanes):
        columns = lane.columns.reshape(size)
        offset, left = columns - row, columns >= 0
        while left.any():
            if len(parts) == MOST_PARTS:
                return None
            distance = offset[np.argmax(left)]
            here = left & (offset == distance)
            parts.append((int(distance), k, here))
            left &= ~here
    parts.sort(key=lambda part: part[:2])
    for (distance, _, here), (other, _, there) in itertools.pairwise(parts):
        if distance == other and (here & there).any():
            return None
    is_valid = np.stack([here for _, _, here in parts], axis=1)
    columns = (row[:, None] + np.array([part[0] for part in parts], np.int32))[is_valid]
    return tuple(k for _, k, _ in parts), is_valid, columns


def listed(rows: np.ndarray, columns: np.ndarray, entry: Node | None, shape) -> Rows:
    """Entries in any order, added where they are at one place; those in column -1 left out."""
    valid = columns >= 0
    if not valid.all():
        rows, columns = rows[valid], columns[valid]
        entry = entry and gathered(entry, np.flatnonzero(valid))
    starts, columns, order = sorted_entries(rows, columns, shape)
    return summed(starts, columns, entry and gathered(entry, order))


def sorted_entries(rows: np.ndarray, columns: np.ndarray, shape) -> tuple[np.ndarray, ...]:
    """Where rows start, the columns of their entries in order, and which ones these are, in linear time."""
    word = np.int32 if rows.size < 2**31 - 1 else np.int64
    numbers = np.arange(rows.size + 1, dtype=word)
    by_column = scipy.sparse.csc_array(
        (np.ones(rows.size, np.int8), columns, numbers), shape=(shape[1], rows.size)
    ).tocsr()
    order, starts = by_column.indices, by_column.indptr
    by_row = scipy.sparse.csr_array(
        (order, rows[order], starts), shape=(shape[1], shape[0])
    ).tocsc()
    return by_row.indptr, by_row.indices.astype(np.int32, copy=False), by_row.data


def summed(starts: np.ndarray, columns: np.ndarray, entry: Node | None) -> Rows:
    """Rows whose columns ascend, with those entries added up that are at one place."""
    is_new = np.ones(columns.size + 1, bool)
    np.not_equal(columns[1:], columns[:-1], out=is_new[1:-1])
    is_new[starts] = True
    if is_new.all():
        return Rows(starts, columns, entry)
    begins = np.flatnonzero(is_new)
    if entry is not None:
        entry = p.segment_sum(entry, p.constant(entry.pool, begins), axis=0)
    return Rows(np.searchsorted(begins, starts), columns[is_new[:-1]], entry)


def taken(parts: Sequence[Rows], chosen: np.ndarray) -> Rows:
    """Some rows of those of parts end to end, and no entries for -1."""
    lengths = np.append(np.concatenate([np.diff(part.starts) for part in parts]), 0)
    begins = np.append(np.cumsum(lengths)[:-1] - lengths[:-1], 0)
    columns = np.concatenate([part.columns for part in parts])
    counts = lengths[chosen]
    starts = np.append(0, np.cumsum(counts))
    at = np.repeat(begins[chosen] - starts[:-1], counts) + np.arange(starts[-1])
    entry = None
    if parts[0].entry is not None:
        entry = gathered(end_to_end([part.entry for part in parts]), at)
    return Rows(starts, columns[at], entry)


def number_taken(parts: Sequence[Rows], chosen: np.ndarray) -> int:
    """The number of entries of rows that are to be taken."""
    lengths = np.append(np.concatenate([np.diff(part.starts) for part in parts]), 0)
    return int(lengths[chosen].sum())


# Vectors of entries.


def flat(node: Node) -> Node:
    return p.reshape(node, shape=(node.size,))


def end_to_end(nodes: Sequence[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else p.concatenate(*nodes, axis=0)


def gathered(vector: Node, places: np.ndarray) -> Node:
    """The elements of a vector at some places: a slice, if these are one."""
    if places.size and (number := p.scalar_value(vector)) is not None:
        return p.broadcast(p.constant(vector.pool, number), shape=(places.size,))
    if places.size and places[-1] - places[0] == places.size - 1 and (np.diff(places) == 1).all():
        return p.slice_(vector, start=(int(places[0]),), step=(1,), size=(places.size,))
    if places.dtype != np.int32:
        places = np.asarray(places, np.int64)
    return p.gather(vector, p.constant(vector.pool, places), axis=0)
