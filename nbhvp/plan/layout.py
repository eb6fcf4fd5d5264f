"""The positions of a program's buffers in its one block of memory.

A buffer is alive from the first step that uses it to the last one; two buffers that are never alive at
the same time may share memory. Buffers are placed in the order of the steps, each into the smallest
gap that holds it: memory that was just read for the last time is still in cache when it is written
again. A program keeps no values between calls, so the layout is computed once.
"""

from __future__ import annotations

import bisect
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbhvp.plan.costs import CPU

__all__ = ["Layout", "Scratch", "layout"]


@dataclass(frozen=True, eq=False)
class Scratch:
    """Memory for partial results, private to one step."""

    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass(frozen=True)
class Layout:
    """The offset of each buffer, and the size of the block, in bytes."""

    offsets: Mapping[Hashable, int]
    size: int


def layout(
    steps: Sequence[Sequence[Hashable]], sizes: Mapping[Any, int], kept: Sequence[Hashable]
) -> Layout:
    """Place buffers.

    Parameters
    ----------
    steps : sequence of sequences
        What each step touches; what `sizes` does not name is left out.
    sizes : mapping
        The bytes of every buffer.
    kept : sequence
        Buffers that are read after the last step.
    """
    first: dict[Hashable, int] = {}
    last: dict[Hashable, int] = {}
    for k, touched in enumerate([*steps, kept]):
        for buffer in touched:
            if buffer in sizes:
                first.setdefault(buffer, k)
                last[buffer] = k
    dying: dict[int, list[Hashable]] = {}
    for buffer, k in last.items():
        dying.setdefault(k, []).append(buffer)
    gaps = _Gaps()
    offsets: dict[Hashable, int] = {}
    # In the order in which they are first touched; of those of one step the largest first.
    passed = 0
    for buffer in sorted(first, key=lambda b: (first[b], -sizes[b])):
        for k in range(passed, first[buffer]):
            for dead in dying.get(k, ()):
                gaps.give(offsets[dead], _aligned(sizes[dead]))
        passed = first[buffer]
        offsets[buffer] = gaps.take(_aligned(sizes[buffer]))
    return Layout(offsets, gaps.end)


def _aligned(size: int) -> int:
    return -(-size // CPU.line) * CPU.line


class _Gaps:
    """Free ranges in order, none of which touch; behind `end` all is free."""

    def __init__(self):
        self.end = 0
        self._ranges: list[tuple[int, int]] = []  # start, stop

    def take(self, size: int) -> int:
        """The start of a range that is now used: in the tightest gap, else at the end."""
        fitting = [r for r in self._ranges if r[1] - r[0] >= size]
        if size == 0 or not fitting:
            start, self.end = self.end, self.end + size
            return start
        start, stop = best = min(fitting, key=lambda r: r[1] - r[0])
        at = self._ranges.index(best)
        self._ranges[at : at + 1] = [(start + size, stop)] if start + size < stop else []
        return start

    def give(self, start: int, size: int) -> None:
        """Free a range, and join it to gaps beside it."""
        if size == 0:
            return
        stop = start + size
        at = bisect.bisect(self._ranges, (start, stop))
        if at < len(self._ranges) and self._ranges[at][0] == stop:
            stop = self._ranges.pop(at)[1]
        if at > 0 and self._ranges[at - 1][1] == start:
            at, (start, _) = at - 1, self._ranges.pop(at - 1)
        self._ranges.insert(at, (start, stop))
