"""Steps of equal structure on a tape: what each operand of a step is.

The operations of T steps stand one after another, p to a step. Each operand of a step is one of four:
another operation, of the same step or of one that is up to three steps older; the same value in all
steps; another value in each step, from an input or computed before; another number in each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from nbhvp.graph.primitives import Primitive
from nbhvp.graph.table.tape import Gap, Gapped
from nbhvp.loops.steps.operations import CONSTANT, PART, Operations
from nbhvp.loops.steps.periods import MOST_LAG

__all__ = ["Carried", "Fixed", "Loop", "Moving", "Operand", "described", "with_columns"]


@dataclass(frozen=True)
class Carried:
    """Operation `place` of the step `lag` steps before; 0 for the same step."""

    place: int
    lag: int


@dataclass(frozen=True)
class Fixed:
    """The same value in all steps: a reference, and its kind."""

    reference: int
    kind: int


@dataclass(frozen=True, eq=False)
class Moving:
    """A value from elsewhere in each step: numbers where their kind is constant, else references."""

    held: np.ndarray
    kind: int

    def before(self, first: float | None) -> Moving:
        """With what it is in a step before; None for any."""
        before = self.held[:1] if first is None else np.array([first], self.held.dtype)
        return replace(self, held=np.append(before, self.held))


Operand = Carried | Fixed | Moving


@dataclass(frozen=True, eq=False)
class Loop:
    """Steps of equal structure, one after another; before them perhaps some that stand there in part."""

    operations: Operations
    begin: int
    """The first operation of the first step that is whole."""
    period: int
    whole: int
    """Steps that stand there as a whole."""
    operands: list[tuple[Operand, Operand]]
    """Of each operation of a step."""
    starts: dict[tuple[int, int], int | float]
    """By place and lag, what an operation was so many steps before the first one: a reference or a number."""
    partial: tuple[np.ndarray, ...] = ()
    """Of each step before: what operations are recorded, and below 0 for those that are constants."""
    left_out: int = 0
    """Steps that repeat those that stand there, and are left out."""
    cut: int = 0
    """The first operation behind these."""

    @property
    def length(self) -> int:
        return self.whole + len(self.partial) + self.left_out

    def covers(self, part: float) -> bool:
        """Whether so great a part of the operations are those of its steps."""
        return bool(self.left_out) or self.period * self.whole >= part * self.operations.size

    def with_gap(self, gap: Gap) -> Loop:
        """The loop with steps that are left out of the tape.

        They repeat the steps on both sides of the gap, as long as these repeat each other.
        """
        tape = self.operations.tape
        cut, count = self.operations.before(gap.start), tape.operations_of_step
        near = (MOST_LAG + 1) * count
        is_within = self.begin + near <= cut <= self.end - near
        if not is_within or count % self.period:
            raise Gapped
        left_out = count // self.period * gap.steps
        operands = [
            (
                self._through(row[0], place, cut, left_out),
                self._through(row[1], place, cut, left_out),
            )
            for place, row in enumerate(self.operands)
        ]
        return replace(self, operands=operands, left_out=left_out, cut=cut)

    def _through(self, one: Operand, place: int, cut: int, left_out: int) -> Operand:
        """An operand with the elements of an input that steps take which are left out."""
        if not isinstance(one, Moving):
            return one
        at = len(self.partial) + -(-(cut - self.begin - place) // self.period)
        step = int(one.held[at - 1]) - int(one.held[at - 2])
        added = np.arange(1, left_out + 1) * step + int(one.held[at - 1])
        if one.kind <= CONSTANT or int(one.held[at]) != added[-1] + step:
            raise Gapped
        held = np.insert(one.held, at, added.astype(one.held.dtype))
        return replace(one, held=held)

    @property
    def start(self) -> int:
        """The first operation of all."""
        return self.begin - sum(int(np.count_nonzero(one >= 0)) for one in self.partial)

    @property
    def end(self) -> int:
        return self.begin + self.period * self.whole

    @cached_property
    def codes(self) -> list[int]:
        """Those of a step."""
        return self.operations.codes[self.begin : self.begin + self.period].tolist()

    def entry(self, place: int) -> Primitive:
        return self.operations.tape.primitive(self.codes[place])

    @cached_property
    def arguments(self) -> list[tuple[Operand, ...]]:
        """The operands that each operation of a step has."""
        arities = {code: self.operations.tape.primitive(code).arity for code in {*self.codes}}
        return [row[: arities[code]] for row, code in zip(self.operands, self.codes, strict=True)]

    def where(self, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The steps and places of operations of the loop."""
        steps, places = np.divmod(references - self.begin, self.period)
        steps += len(self.partial) + self.left_out * (references >= self.cut)
        early = references < self.begin
        if early.any():
            recorded = np.flatnonzero(np.concatenate(self.partial) >= 0)
            found = recorded[references[early] - self.start]
            steps[early], places[early] = np.divmod(found, self.period)
        return steps, places


def described(operations: Operations, begin: int, period: int, length: int) -> Loop | None:
    """The loop that begins somewhere; None if its steps differ."""
    end = begin + period * length
    codes = operations.codes[begin:end].reshape(length, period)
    if not (codes == codes[-1]).all():
        return None
    columns = _Columns(operations, begin, period, length)
    rows: list[list[Operand]] = []
    for row in operations.operands:
        found = columns.operands(row[begin:end].reshape(length, period))
        if found is None:
            return None
        rows.append(found)
    first = columns.first()
    if first is None:
        return None
    return Loop(operations, begin, period, length, list(zip(*rows, strict=True)), first)


@dataclass(eq=False)
class _Columns:
    """What references in all steps of a loop are, and the values that the first steps start from."""

    operations: Operations
    begin: int
    period: int
    length: int
    starts: dict[tuple[int, int], set[int]] = field(default_factory=dict)

    def first(self) -> dict[tuple[int, int], int] | None:
        """The starting values; None if one would be several."""
        if any(len(some) > 1 for some in self.starts.values()):
            return None
        return {key: next(iter(some)) for key, some in self.starts.items()}

    def operands(self, table: np.ndarray) -> list[Operand] | None:
        """What the columns of a table of references are, with a row for each step."""
        period, length = self.period, self.length
        last = table[-1].astype(np.int64) - self.begin
        inside = last >= 0
        places, lags = last % period, length - 1 - last // period
        if (inside & ((lags > MOST_LAG) | (lags < 0))).any():
            return None
        varies = self._varying(table, inside, lags)
        if varies is None:
            return None
        for lag in range(1, MOST_LAG + 1):
            mine = np.flatnonzero(inside & (lags == lag))
            for t in range(lag):
                for place, start in zip(
                    places[mine].tolist(), table[t, mine].tolist(), strict=True
                ):
                    self.starts.setdefault((place, lag - t), set()).add(start)
        found: list[Operand] = [
            Carried(place, lag) for place, lag in zip(places.tolist(), lags.tolist(), strict=True)
        ]
        for j in np.flatnonzero(~inside & ~varies).tolist():
            one = int(table[-1, j])
            found[j] = Fixed(one, self.operations.kind_of(one))
        moving = np.flatnonzero(~inside & varies)
        if not self._are_of_one_kind(table, moving):
            return None
        for j in moving.tolist():
            found[j] = _moving(self.operations, table[:, j])
        return found

    def _are_of_one_kind(self, table: np.ndarray, columns: np.ndarray) -> bool:
        """Whether each of some columns has references of one kind."""
        rows = max(1, PART // max(1, columns.size))
        last = self.operations.kinds_of(table[-1, columns])
        return all(
            (self.operations.kinds_of(table[first : first + rows, columns]) == last).all()
            for first in range(0, self.length, rows)
        )

    def _varying(self, table: np.ndarray, inside, lags) -> np.ndarray | None:
        """Which columns from before the loop differ from step to step; None if they are not from there.

        What is carried moves on by a period in each step, once it does not come from before the loop.
        """
        varies, last = np.zeros(table.shape[1], bool), table[-1]
        moved = last - self.period * (self.length - 1)
        rows = max(1, PART // table.shape[1])
        for first in range(0, self.length, rows):
            some = table[first : first + rows]
            steps = np.arange(first, first + len(some), dtype=table.dtype)[:, None]
            is_elsewhere = some < self.begin
            is_early = inside & (steps < lags)
            follows = np.where(
                inside & ~is_early, some == moved + self.period * steps, is_elsewhere
            )
            if not follows.all():
                return None
            varies |= (some != last).any(axis=0)
        return varies


def _moving(operations: Operations, column: np.ndarray) -> Operand:
    """References to values of one kind in all steps."""
    kind = operations.kind_of(int(column[-1]))
    if kind != CONSTANT:
        return Moving(column, kind)
    numbers = operations.values(column)
    bits = numbers.view(np.int64)
    return Fixed(int(column[-1]), kind) if (bits == bits[-1]).all() else Moving(numbers, kind)


def with_columns(
    loop: Loop, tables: Sequence[np.ndarray]
) -> tuple[Loop, list[list[Operand]]] | None:
    """What further references are, in a row for each step, and the loop with what they start from."""
    columns = _Columns(loop.operations, loop.begin, loop.period, loop.whole)
    found = [columns.operands(table) for table in tables]
    starts = columns.first()
    if starts is None or any(one is None for one in found):
        return None
    if any(loop.starts.get(key, start) != start for key, start in starts.items()):
        return None
    return replace(loop, starts=loop.starts | starts), found
