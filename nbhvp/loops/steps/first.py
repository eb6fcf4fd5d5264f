"""First steps that were recorded in part: what they compute of constants alone leaves no record.

The operations before a loop are read as such a step, from its end to its begin. What the steps behind
take from it, and what its own operations take, tells of each place if it was recorded or is a constant.
The constants are then computed as the step would, from the values that the carry starts with, and must
be those on the tape. Where nothing on the tape tells a starting value, 0 and 1 are tried.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np

from nbhvp.graph.interpret import interpret
from nbhvp.graph.primitives import Primitive
from nbhvp.graph.table.tape import partials_of
from nbhvp.loops.steps.loop import Carried, Fixed, Loop, Moving, Operand
from nbhvp.loops.steps.operations import CONSTANT
from nbhvp.loops.steps.periods import MOST_LAG

__all__ = ["with_first_steps"]

GUESSES = (0.0, 1.0)
"""Starting values that nothing on the tape tells."""
MOST_GUESSED = 4
"""How many of them are tried in all combinations; others are 0."""
ROUNDING = 1e-14
"""How far functions may differ that Numba and NumPy compute."""


class _Differs(Exception):
    """The operations before a loop are no step of it."""


def with_first_steps(loop: Loop) -> Loop:
    """The loop with the steps before that stand there in part."""
    try:
        for _ in range(MOST_LAG + 1):
            loop = _FirstStep(loop).loop()
    except _Differs:
        pass
    return loop


@dataclass(eq=False)
class _FirstStep:
    """The step as it is read."""

    after: Loop
    places: dict[int, int | float] = field(default_factory=dict)
    """What places are known to be: references, or numbers."""
    starts: dict[tuple[int, int], int | float] = field(default_factory=dict)
    moving: dict[tuple[int, int], float] = field(default_factory=dict)
    """By place and operand: references, or numbers."""

    def loop(self) -> Loop:
        after = self.after
        for (place, lag), reference in after.starts.items():
            if lag == 1:
                self.places[place] = reference
            else:
                self.starts[place, lag - 1] = reference
        if not self._read():
            raise _Differs
        self.starts |= self._guessed()
        known = (self.places.get(j, -1) for j in range(after.period))
        first = np.array([-1 if isinstance(one, float) else one for one in known])
        operands = [
            (self._moved(row[0], (j, 0)), self._moved(row[1], (j, 1)))
            for j, row in enumerate(after.operands)
        ]
        return replace(
            after, operands=operands, starts=self.starts, partial=(first, *after.partial)
        )

    def _moved(self, one: Operand, key: tuple[int, int]) -> Operand:
        """An operand in all steps; of what no record needs, it is any."""
        return one.before(self.moving.get(key)) if isinstance(one, Moving) else one

    def _read(self) -> bool:
        """Read the records from the last one on; whether there is any."""
        after, operations = self.after, self.after.operations
        at = after.start - 1
        for place in reversed(range(after.period)):
            known = self.places.get(place)
            if known is not None and (isinstance(known, float) or known < 0):
                self._value(known)
                continue
            taken = operations.operands[:, at].tolist() if at >= 0 else None
            pairs = list(zip(after.arguments[place], taken or (), strict=False))
            is_next = bool(taken) and operations.codes[at] == after.codes[place]
            is_next = is_next and all(self._may_be(one, to) for one, to in pairs)
            if is_next and known in (None, at):
                self.places[place] = at
                for k, (one, to) in enumerate(pairs):
                    self._take(one, (place, k), to)
                at -= 1
            elif known is not None:
                raise _Differs
        return at < after.start - 1

    def _known(self, one: Operand) -> int | float | None:
        """What an operand is known to be."""
        if isinstance(one, Fixed):
            return one.reference
        if isinstance(one, Moving):
            return None
        return self.starts.get((one.place, one.lag)) if one.lag else self.places.get(one.place)

    def _may_be(self, one: Operand, reference: int) -> bool:
        operations = self.after.operations
        if isinstance(one, Moving):
            return operations.kind_of(reference) == one.kind
        known = self._known(one)
        if known is None or known == reference:
            return True
        try:
            return self._value(known) == self._value(reference)
        except _Differs:
            return False

    def _take(self, one: Operand, key: tuple[int, int], reference: int) -> None:
        if isinstance(one, Moving):
            is_number = one.kind == CONSTANT
            self.moving[key] = self._value(reference) if is_number else reference
        elif isinstance(one, Carried):
            if one.lag:
                self.starts[one.place, one.lag] = reference
            else:
                self.places[one.place] = reference

    # What leaves no record.

    def _guessed(self) -> dict[tuple[int, int], float]:
        """The starting values that nothing on the tape tells, so that constants are those on it."""
        unknown = [key for key in self.after.starts if key not in self.starts]
        for guesses in product(GUESSES, repeat=min(len(unknown), MOST_GUESSED)):
            known = dict.fromkeys(unknown, GUESSES[0]) | dict(zip(unknown, guesses, strict=False))
            if self._agree(self.starts | known):
                return known
        raise _Differs

    def _agree(self, starts: dict[tuple[int, int], int | float]) -> bool:
        try:
            self._compute(starts)
        except _Differs:
            return False
        return True

    def _compute(self, starts: dict[tuple[int, int], int | float]) -> None:
        """Compute the constants of the step, and compare those that are on the tape."""
        values: dict[int, float] = {}
        for place in range(self.after.period):
            known = self.places.get(place)
            if isinstance(known, int) and known >= 0:
                continue
            try:
                args = [self._argument(one, values, starts) for one in self.after.arguments[place]]
            except _Differs:
                if known is not None:
                    raise
                continue
            values[place] = _applied(self.after.entry(place), args)
            if known is not None and not _is_near(values[place], self._value(known)):
                raise _Differs

    def _argument(self, one: Operand, values: dict[int, float], starts: dict) -> float:
        if isinstance(one, Moving):
            raise _Differs
        if isinstance(one, Carried) and one.lag == 0:
            if one.place not in values:
                raise _Differs
            return values[one.place]
        if isinstance(one, Carried):
            return self._value(starts[one.place, one.lag])
        return self._value(one.reference)

    def _value(self, reference: int | float) -> float:
        """The value of a constant."""
        if isinstance(reference, float):
            return reference
        operations = self.after.operations
        if operations.kind_of(reference) != CONSTANT:
            raise _Differs
        return operations.value(reference)


def _applied(entry: Primitive, args: list[float]) -> float:
    """An operation on constants, whose partials must be finite, since they are multiplied by 0."""
    with np.errstate(all="ignore"):
        value = float(entry.evaluate(*map(np.float64, args)))
        x, y = (*args, 0.0)[:2]
        partials = interpret(partials_of(entry), *map(np.asarray, (value, x, y)))
    if not np.isfinite([value, *map(float, partials)]).all():
        raise _Differs
    return value


def _is_near(a: float, b: float) -> bool:
    return abs(a - b) <= ROUNDING * max(abs(a), abs(b))
