"""Steps that only repeat, left out of a tape while it is written.

A loop over time appends rows of one form in each step. Row i *repeats* row i - q if both are of one
primitive, and each pair of their operands is

- two rows, q apart and at most a few steps back,
- the same row, before the rows that repeat,
- two elements of the inputs, as far apart in each step: data that are read at k, T - k, or in rows;

constants repeat with the same value. Once a long stretch repeats, its first steps and its last ones are
kept, and those between are left out: what is appended later repeats them too, or ends the stretch. So a
tape of any length takes the memory of a part. Rows keep the numbers that they were given; the numbers of
rows behind the gap are those of rows before it, further on by the rows that are left out.

Invariant: each operand of a step is of one of the three kinds in all steps that are left out. A row before
bound b that is `STILL` periods before the gap may be the same one in each step; a row at most `MOST_LAG` + 1
periods back that is not before b cannot, so between b and the gap a kind changes for the last time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nbhvp.graph.table.tape import CONSTANT, Gap
from nbhvp.loops.steps.periods import FEWEST, MOST_LAG

__all__ = ["FEWEST_ROWS", "joined", "shortened"]

FEWEST_ROWS = 1 << 18
"""Rows from which steps are left out."""
KEPT = 2 * FEWEST
"""Steps that are kept before the gap, and behind it."""
STILL = MOST_LAG + 3
"""Periods before the gap of whose rows none is the same operand of all steps."""
MOST_CANDIDATES = 64
"""Periods that are tried, the shortest first."""


def shortened(
    columns: Sequence[np.ndarray], first: int, inputs: int, gap: Gap | None, checked: int
) -> tuple[Gap | None, int]:
    """The gap that a tape may have, and up to which row it was found to repeat.

    The columns begin at row `first`; those behind the gap were checked up to a row. Row `inputs` is the
    first one behind the inputs.
    """
    count = first + len(columns[0])
    if gap is None:
        period = _period(columns)
        if period is None:
            return None, 0
        gap, checked = _first_gap(columns, first, inputs, period), count
        if gap is None:
            return None, 0
    else:
        moves = _moves(columns, 2 * gap.period, gap.period, inputs)
        ok = _repeats(columns, first, checked - first, count - first, gap, moves)
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


def _first_gap(columns: Sequence[np.ndarray], first: int, inputs: int, period: int) -> Gap | None:
    """Where the gap begins: behind the first rows of those that repeat up to the end."""
    count = len(columns[0])
    anywhere = Gap(first + count + STILL * period, period, 0)
    moves = _moves(columns, count, period, inputs)
    begin = max(inputs - first, 0) + period
    ok = _repeats(columns, first, begin, count, anywhere, moves)
    begin += 0 if ok.all() else ok.size - int(np.argmin(ok[::-1]))
    for column in columns[1:3]:
        last = column[-period:]
        same = last[last == column[-2 * period : -period]]
        begin = max(begin, int(same.max(initial=first)) + 1 - first)
    bound = begin + KEPT * period
    gap = Gap(first + bound + STILL * period, period, 0)
    is_steady = bound < count and _repeats(columns, first, bound, count, gap, moves).all()
    return gap if is_steady else None


@dataclass(frozen=True)
class _Moves:
    """How far operands among the inputs move on in a step."""

    inputs: int
    at: int
    """A row of the columns at which a step begins."""
    by: tuple[np.ndarray, np.ndarray]
    """Of both operands: for each row of a step."""

    def follow(self, k: int, begin: int, late: np.ndarray, early: np.ndarray) -> np.ndarray:
        """Which operands are inputs that move so, in rows from one on."""
        by = np.resize(np.roll(self.by[k], self.at - begin), late.size)
        return (late < self.inputs) & (early < self.inputs) & (late - early == by)


def _moves(columns: Sequence[np.ndarray], at: int, period: int, inputs: int) -> _Moves:
    """The moves from the last but one step before a row to the last one."""
    one, two = (
        column[at - period : at] - column[at - 2 * period : at - period] for column in columns[1:3]
    )
    return _Moves(inputs, at, (one, two))


def _repeats(
    columns: Sequence[np.ndarray], first: int, begin: int, end: int, gap: Gap, moves: _Moves
):
    """Which rows of the columns, from one to another, repeat those one period before."""
    late, early, period = slice(begin, end), slice(begin - gap.period, end - gap.period), gap.period
    codes, one, two, values = columns
    ok = codes[late] == codes[early]
    places = np.arange(first + begin, first + end, dtype=np.uint32)
    bound = gap.start - STILL * period
    for k, column in enumerate((one, two)):
        a, moved = column[late], column[late] - column[early]
        near = (moved == period) & (places - a <= (MOST_LAG + 1) * period)
        near |= moves.follow(k, begin, a, column[early])
        ok &= near | ((moved == 0) & (a < bound))
    bits = values.view(np.int64)
    return ok & ((codes[late] != CONSTANT) | (bits[late] == bits[early]))
