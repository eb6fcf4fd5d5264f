"""The steps of loops in the code of a function, as the marks on its tape tell of them.

A mark notes where a loop begins a step, or ends. So each step is a range of operations and of guards, and
the steps between two ends are one run of the loop, a *lane*: loops within loops run once for each step of
the outer one. Marks only propose: all that is made of them is compared with the tape.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nbhvp.loops.steps.operations import Operations

__all__ = ["Iterations", "iterations_of", "spans"]


@dataclass(frozen=True, eq=False)
class Iterations:
    """The steps of one loop, in their order: arrays with an element for each."""

    begin: np.ndarray
    """int64: the first operation."""
    end: np.ndarray
    first_guard: np.ndarray
    end_guard: np.ndarray
    lanes: np.ndarray
    """int64: which run of the loop a step belongs to."""

    @property
    def size(self) -> int:
        return self.begin.size

    @property
    def count(self) -> int:
        """How many lanes there are."""
        return int(self.lanes[-1]) + 1

    @property
    def heads(self) -> np.ndarray:
        """The first step of each lane."""
        return np.searchsorted(self.lanes, np.arange(self.count))

    @property
    def places(self) -> np.ndarray:
        """The place of each step within its lane."""
        return np.arange(self.size) - self.heads[self.lanes]

    @property
    def length(self) -> int:
        """The steps of the longest lane."""
        return int(np.bincount(self.lanes).max())

    @property
    def operations(self) -> int:
        return int((self.end - self.begin).sum())

    def some(self, which: np.ndarray) -> Iterations:
        """Some of the steps; lanes without any are none."""
        lanes = np.unique(self.lanes[which], return_inverse=True)[1]
        columns = (self.begin, self.end, self.first_guard, self.end_guard)
        return Iterations(*(column[which] for column in columns), lanes)


def iterations_of(operations: Operations) -> list[Iterations]:
    """The steps of each loop, those loops first whose steps have the fewest operations."""
    return sorted(_found(operations), key=lambda one: one.operations / one.size)


def _found(operations: Operations) -> Iterator[Iterations]:
    marks = operations.tape.marks
    if marks is None:
        return
    at = np.searchsorted(operations.records, marks.records)
    at = np.append(at, operations.size)
    guards = np.append(marks.guards, operations.tape.guards.codes.size).astype(np.int64)
    for loop in np.unique(marks.loops):
        rows = np.flatnonzero(marks.loops == loop)
        is_head = marks.ends[rows] == 0
        heads, after = rows[is_head], np.append(rows, at.size - 1)[1:][is_head]
        lanes = np.cumsum(np.append(True, ~is_head)[:-1][is_head])
        is_any = (at[after] > at[heads]) | (guards[after] > guards[heads])
        if is_any.any():
            every = Iterations(at[heads], at[after], guards[heads], guards[after], lanes)
            yield every.some(np.flatnonzero(is_any))


def spans(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers in some ranges, and in which range each is."""
    sizes = end - begin
    which = np.repeat(np.arange(begin.size), sizes)
    return np.arange(which.size) + np.repeat(begin - np.cumsum(sizes) + sizes, sizes), which
