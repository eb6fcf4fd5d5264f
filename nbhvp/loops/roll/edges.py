"""Sums and differences that are fewer at edges: instances in turn, and sums of padded arrays.

Loops over a grid look at neighbours that exist: u_ij - u_i-1,j for i > 0, u_ij - u_i+1,j for i < m - 1.
Recorded in turn they alternate, but those with one distance between their operands are a part of the
grid, a *kind*. So they are sorted by kinds, and each is an array. And the sums of such terms, which are
fewer in the first and last rows and columns, are for each kind an array padded with zeros:

    g = pad(d_1) + ... + pad(d_4).

Invariant: each term is of one kind, and a kind has at most one term for each sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import pairwise

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node
from nbhvp.loops.roll.views import Read, Source, grids, read

__all__ = ["kinds_of", "padded_sums", "terms_by_kind", "turns"]

MOST_KINDS = 32
SAMPLE = 64 * MOST_KINDS
"""Instances that are looked at for new kinds at a time."""


def kinds_of(keys: np.ndarray) -> list[int]:
    """The few numbers that there are; none if they are many or one."""
    kinds: list[int] = []
    while keys.size and len(kinds) <= MOST_KINDS:
        new = np.unique(keys[:SAMPLE])
        kinds += new.tolist()
        keys = keys[~np.isin(keys, new)]
    return sorted(kinds) if 1 < len(kinds) <= MOST_KINDS else []


def turns(operands: Sequence[tuple[Source, np.ndarray]]) -> np.ndarray:
    """A number for each instance, by the parts of sources that its operands are in, or by their distance."""
    (source, index), (other, second) = operands[0], operands[-1]
    if source.parts:
        return np.searchsorted(source.ends, index, "right")
    if other.parts:
        return np.searchsorted(other.ends, second, "right")
    return second - index


@dataclass(frozen=True, eq=False)
class _Kind:
    """Places of terms in a source, and the part of a grid of sums that has one of them each."""

    places: np.ndarray
    start: tuple[int, ...]
    step: tuple[int, ...]
    size: tuple[int, ...]


def padded_sums(source: Source, places: np.ndarray, counts: np.ndarray) -> Node | None:
    """Sums of terms of a source, so many each, over a grid of these; None if their kinds are not few."""
    rows = np.repeat(np.arange(counts.size), counts)
    kinds = terms_by_kind(places, counts, source.ends if source.parts else ())
    for grid in _grids(counts.size, [rows[one] for one in kinds]) if kinds else ():
        found = [one for k in kinds if (one := _kind(places[k], rows[k], grid)) is not None]
        reads = [read(*source.around(one.places), one.size) for one in found]
        if len(found) == len(kinds) and not any(one.gathers for one in reads):
            return reduce(p.add, map(partial(_pad, grid), found, reads))
    return None


def terms_by_kind(
    places: np.ndarray, counts: np.ndarray, ends: Sequence[int] = ()
) -> list[np.ndarray]:
    """Which terms of sums, so many each, are of each kind: by the parts of a source that they are in,
    if it has some, or by their distance from their sums."""
    rows = np.repeat(np.arange(counts.size), counts)
    keys = np.searchsorted(ends, places, "right") if len(ends) else places - rows
    return [np.flatnonzero(keys == one) for one in kinds_of(keys)]


def _pad(grid: tuple[int, ...], one: _Kind, found: Read) -> Node:
    terms = p.broadcast(found.make(), shape=one.size)
    zeros = p.zeros(terms.pool, grid, terms.dtype)
    return p.update(zeros, terms, start=one.start, step=one.step)


def _grids(count: int, parts: list[np.ndarray]) -> list[tuple[int, ...]]:
    """Shapes of all sums: with axes along which some parts have rows, the most axes first."""
    strides = set()
    for rows in parts:
        inner = grids(rows)[1:]
        strides |= {int(rows[math.prod(inner[k:])] - rows[0]) for k in range(len(inner))}
    found = [_shape(count, sorted(strides, reverse=True))]
    found += [_shape(count, [one]) for one in sorted(strides)]
    return [*dict.fromkeys(one for one in found if one), (count,)]


def _shape(count: int, strides: list[int]) -> tuple[int, ...]:
    """The shape of so many elements with these strides before the last one; nothing if there is none."""
    sizes = [count, *strides]
    if any(b <= 0 or a % b for a, b in pairwise([*sizes, 1])):
        return ()
    return tuple(a // b for a, b in pairwise([*sizes, 1]))


def _kind(places: np.ndarray, rows: np.ndarray, grid: tuple[int, ...]) -> _Kind | None:
    """Terms of one kind, if they are one for each sum of a part of the grid, in order."""
    axes = [np.flatnonzero(np.bincount(one)) for one in np.unravel_index(rows, grid)]
    steps = [int(one[1] - one[0]) if one.size > 1 else 1 for one in axes]
    lines = [one[0] + step * np.arange(one.size) for one, step in zip(axes, steps, strict=True)]
    if not all(map(np.array_equal, axes, lines)):
        return None
    index = np.ravel_multi_index(np.ix_(*axes), grid).ravel()
    if not np.array_equal(index, rows):
        return None
    start = tuple(int(one[0]) for one in axes)
    return _Kind(places, start, tuple(steps), tuple(one.size for one in axes))
