"""Steps that only repeat, left out of a tape while it is written.

A loop over time that takes no data appends the same rows in each step. Row i *repeats* row i - q if both
are of one primitive, and each pair of their operands is

- two rows, q apart and at most a few steps back,
- the same row, before the rows that repeat;

constants repeat with the same value. Once a long stretch repeats, its first steps and its last ones are
kept, and those between are left out: what is appended later repeats them too, or ends the stretch. So a
tape of any length takes the memory of a part (`Window`). Rows keep the numbers that they were given; the
numbers of rows behind the gap are those of rows before it, further on by the rows that are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbhvp.graph.table.tape import CONSTANT, Gap
from nbhvp.loops.steps.periods import FEWEST, MOST_LAG

__all__ = ["FEWEST_ROWS", "joined", "shortened"]

FEWEST_ROWS = 1 << 18
"""Rows from which steps are left out."""
KEPT = 2 * FEWEST
"""Steps that are kept before the gap, and behind it."""
MOST_CANDIDATES = 64
"""Periods that are tried, the shortest first."""


def shortened(
    columns: Sequence[np.ndarray], first: int, gap: Gap | None, checked: int
) -> tuple[Gap | None, int]:
    """The gap that a tape may have, and up to which row it was found to repeat.

    The columns begin at row `first`; those behind the gap were checked up to a row.
    """
    count = first + len(columns[0])
    if gap is None:
        period = _period(columns)
        if period is None:
            return None, 0
        start = first + _begin(columns, first, period)
        gap, checked = Gap(start + KEPT * period, period, 0), count
    else:
        ok = _repeats(columns, first, checked - first, count - first, gap)
        checked = checked + (len(ok) if ok.all() else int(np.argmin(ok)))
    steps = (checked - gap.end) // gap.period - KEPT
    if steps > MOST_LAG + 1:
        gap = Gap(gap.start, gap.period, gap.steps + steps)
    return (gap, checked) if gap.steps else (None, 0)


def joined(
    head: Sequence[np.ndarray], columns: Sequence[np.ndarray], gap: Gap, checked: int
) -> list[np.ndarray]:
    """The columns of a tape without the gap, from those before and behind it."""
    codes, one, two, values = columns
    steady = checked - gap.end
    operands = []
    for column in (one, two):
        near, far = column[:steady], gap.places(column[steady:])
        near = np.where(near < gap.start, near, near - np.uint32(gap.size))
        operands.append(np.concatenate([near, far]))
    behind = codes, *operands, values
    return [np.concatenate(pair) for pair in zip(head, behind, strict=True)]


def _period(columns: Sequence[np.ndarray]) -> int | None:
    """The shortest period of the last rows, which may be no more than an eighth of them."""
    codes, *operands = (column[-FEWEST_ROWS:] for column in columns[:3])
    places = np.arange(codes.size, dtype=np.uint32) + np.uint32(len(columns[0]) - codes.size)
    signature = codes.astype(np.int64)
    for column in operands:
        back = (places - column).astype(np.int64)
        signature = 65599 * signature + np.where(back < FEWEST_ROWS // 8, back, -1)
    found = codes.size - 1 - np.flatnonzero(signature[:-1] == signature[-1])[::-1]
    for period in found[found <= FEWEST_ROWS // 8][:MOST_CANDIDATES].tolist():
        near = signature[-4 * period :] == signature[-5 * period : -period]
        if near.all() and (signature[period:] == signature[:-period]).all():
            return period
    return None


def _begin(columns: Sequence[np.ndarray], first: int, period: int) -> int:
    """The row from which on all rows repeat those a period before."""
    everywhere = Gap(first + len(columns[0]), period, 0)
    ok = _repeats(columns, first, period, len(columns[0]), everywhere)
    return period if ok.all() else period + ok.size - int(np.argmin(ok[::-1]))


def _repeats(columns: Sequence[np.ndarray], first: int, begin: int, end: int, gap: Gap):
    """Which rows of the columns, from one to another, repeat those one period before."""
    late, early, period = slice(begin, end), slice(begin - gap.period, end - gap.period), gap.period
    codes, one, two, values = columns
    ok = codes[late] == codes[early]
    places = np.arange(first + begin, first + end, dtype=np.uint32)
    for column in (one, two):
        a, moved = column[late], column[late] - column[early]
        near = (moved == period) & (places - a <= (MOST_LAG + 1) * period)
        ok &= near | ((moved == 0) & (a < gap.start))
    bits = values.view(np.int64)
    return ok & ((codes[late] != CONSTANT) | (bits[late] == bits[early]))
