"""Periods in the operations of a tape.

Operation i *repeats* operation i - p if both are of one primitive, and each pair of their operands is

- two operations, p apart: of the same step, or carried from a step before,
- the same operation (an invariant), or two that are far back (values of all steps that came before),
- two constants, or two elements of one input.

A run is a stretch in which all operations repeat those one period before. Candidates for p are the
distances from a window of operations to the next one like it. Of loops within loops the inner one is
found first; the window is then put where its run ends, and what repeats there is the loop around it.
All passes are operations on arrays, linear in the number of operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nbhvp.loops.steps.operations import OPERATION, PART, Operations

__all__ = ["FEWEST", "MOST_LAG", "Run", "longest_run"]

FEWEST = 8
"""Steps of a loop."""
MOST_LAG = 3
"""Steps back from which a step may take values."""
WINDOW = 16
LEVELS = 8
"""Loops within loops, and parts of steps that are alike."""
PLACES = (0.5, 0.25, 0.75, 0.1, 0.9)
"""Where windows are put first, as parts of the tape."""
MOST_CANDIDATES = 4096
"""Windows like one, the nearest ones, of which the first that repeats it is taken."""


@dataclass(frozen=True)
class Run:
    """Operations from `start` to `end`, each of which but those of the first step repeats another one."""

    period: int
    start: int
    end: int

    @property
    def steps(self) -> int:
        return (self.end - self.start) // self.period

    @property
    def size(self) -> int:
        return self.steps * self.period


def longest_run(operations: Operations, around: int | None = None) -> Run | None:
    """The run of most operations among those that windows lead to, or of those around an operation."""
    last = operations.size - WINDOW
    places = [int(place * last) for place in PLACES] if around is None else [min(around, last)]
    best: Run | None = None
    known: list[Run] = []
    search = _Search(operations)
    for at in places:
        if at < 0 or any(run.start <= at < run.end for run in known):
            continue
        for run in search.from_window(at):
            is_there = around is None or run.start <= around < run.end
            if is_there and run.steps >= FEWEST - MOST_LAG - 1:
                known.append(run)
                best = run if best is None or run.size > best.size else best
        if best is not None and 2 * best.size > operations.size:
            break
    return best


class _Search:
    def __init__(self, operations: Operations):
        self.operations = operations
        self.signatures = operations.codes.astype(np.int32)
        for row, shift in zip(operations.kinds, (8, 20), strict=True):
            self.signatures += (row & np.int16(0xFFF)).astype(np.int32) << shift

    def from_window(self, at: int) -> Iterator[Run]:
        """Runs around a place, of longer and longer periods."""
        period = 0
        for _ in range(LEVELS):
            found = self._next(at, period)
            if found is None:
                return
            period = found
            run = self._run(period, at)
            yield run
            # The window around the end of a run repeats with the loop around it.
            at = run.end - WINDOW // 2
            if at + WINDOW > self.operations.size:
                at = run.start - WINDOW // 2
            if at < 0:
                return

    def _next(self, at: int, least: int) -> int | None:
        """How far the next window is that repeats the one at a place, beyond a distance."""
        size, window = self.operations.size, self.signatures[at : at + WINDOW]
        furthest = min(at + (size - at) // 2, size - WINDOW) + 1
        near, reach = at + least + 1, 1 << 12
        while near < furthest:
            end = min(furthest, near + reach)
            found = np.arange(near, end)
            for k in range(WINDOW):
                found = found[self.signatures[found + k] == window[k]]
            found = found[:MOST_CANDIDATES]
            ok = np.ones(found.size, bool)
            for k in range(WINDOW):
                ok &= self._repeat(found + k, np.full_like(found, at + k), found - at)
            if ok.any():
                return int(found[np.argmax(ok)]) - at
            near, reach = end, 8 * reach
        return None

    def _repeat(self, late, early, period) -> np.ndarray:
        """Whether operations of one signature repeat earlier ones, a period before each."""
        ok = np.ones(np.shape(late), bool)
        reach = (MOST_LAG + 1) * period
        for row, kinds in zip(self.operations.operands, self.operations.kinds, strict=True):
            a, b = row[late], row[early]
            same = (a - b == period) | (a == b) | ((late - a > reach) & (early - b > reach))
            ok &= (kinds[late] != OPERATION) | same
        return ok

    def _repeats(self, start: int, end: int, period: int) -> np.ndarray:
        """The same of all operations from one to another."""
        late, early = slice(start, end), slice(start - period, end - period)
        ok = self.signatures[late] == self.signatures[early]
        places = np.arange(start, end, dtype=np.int32)
        reach = (MOST_LAG + 1) * period
        for row, kinds in zip(self.operations.operands, self.operations.kinds, strict=True):
            a, b = row[late], row[early]
            is_far = (places - a > reach) & (places - period - b > reach)
            ok &= (kinds[late] != OPERATION) | (a - b == period) | (a == b) | is_far
        return ok

    def _run(self, period: int, at: int) -> Run:
        """The run around a window that repeats."""
        size, end, reach = self.operations.size, at + period, 1 << 10
        while end < size:
            stop = min(size, end + reach)
            ok = self._repeats(end, stop, period)
            if not ok.all():
                end += int(np.argmin(ok))
                break
            end, reach = stop, min(PART, 4 * reach)
        start, reach = at + period, 1 << 10
        while start > period:
            stop = max(period, start - reach)
            ok = self._repeats(stop, start, period)
            if not ok.all():
                start -= int(np.argmin(ok[::-1]))
                break
            start, reach = stop, min(PART, 4 * reach)
        return Run(period, start - period, end)
