"""A step of many operations as arrays: one period of a tape is a tape of its own, which is rolled.

What is carried is one array, in the order of the operations that it comes from: so a field that a loop
updates cell by cell is a field again. What moves and what is the same in all steps are arrays as well,
one for each input of the tape, one for what was computed before the loop, one for constants.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, Pool
from nbhvp.graph.table.scan import Body
from nbhvp.graph.table.tape import CONSTANT as NUMBER
from nbhvp.graph.table.tape import FIRST, INPUT, Guards, Tape
from nbhvp.loops.roll.graph import Rolled, roll
from nbhvp.loops.steps.body import FLOAT, Guard, Step, needed_in, roots_of
from nbhvp.loops.steps.loop import Carried, Fixed, Loop, Moving, Operand
from nbhvp.loops.steps.operations import CONSTANT

__all__ = ["wide_step"]

Slot = tuple[int, int]


def wide_step(
    loop: Loop, slots: Sequence[Slot], read: Sequence[int], guards: Sequence[Guard]
) -> tuple[Step, int] | None:
    """The step as arrays, and the structures of its operations; None if these are too many."""
    return _Arrays(loop, slots, read, guards).step()


class _Arrays:
    """The tape of a step, and the arrays that it takes."""

    def __init__(self, loop: Loop, slots: Sequence[Slot], read, guards: Sequence[Guard]):
        self.loop, self.slots, self.guards = loop, slots, guards
        self.apart = [place for place in read if (place, 1) not in {*slots}]
        self.places = needed_in(loop, roots_of(slots, read, guards))
        self.carry = {slot: k for k, slot in enumerate(slots)}
        self.moving: dict[int, dict[bytes, tuple[int, np.ndarray]]] = {}
        """By kind and content: which column it is, and references or numbers of all steps."""
        self.fixed: dict[int, dict[int, int]] = {}
        """By kind and reference: which element it is."""
        self.numbers: dict[int, int] = {}
        for one in self._operands():
            self._enter(one)

    def _operands(self) -> list[Operand]:
        found = [one for place in self.places for one in self.loop.arguments[place]]
        return found + [one for g in self.guards for one in g.operands[: g.entry.arity]]

    def _enter(self, one: Operand) -> None:
        """Give an operand from elsewhere a place in an array."""
        if isinstance(one, Moving):
            columns = self.moving.setdefault(one.kind, {})
            columns.setdefault(one.held.tobytes(), (len(columns), one.held))
        elif isinstance(one, Fixed) and one.kind == CONSTANT:
            self.numbers.setdefault(self._bits(one), len(self.numbers))
        elif isinstance(one, Fixed):
            elements = self.fixed.setdefault(one.kind, {})
            elements.setdefault(one.reference, len(elements))

    def _bits(self, one: Fixed) -> int:
        return int(np.float64(self.loop.operations.value(one.reference)).view(np.int64))

    def _lay_out(self) -> None:
        """The first record of each array, of constants and of operations."""
        counts = [(("carry", 0), len(self.carry))]
        counts += [(("moving", kind), len(some)) for kind, some in self.moving.items()]
        counts += [(("fixed", kind), len(some)) for kind, some in self.fixed.items()]
        self.sizes = tuple(count for _, count in counts)
        starts = np.cumsum([1, *self.sizes]).tolist()
        self.starts = {key: start for (key, _), start in zip(counts, starts, strict=False)}
        self.records = {
            place: starts[-1] + len(self.numbers) + k for k, place in enumerate(self.places)
        }
        self.first_number = starts[-1]

    def _record(self, one: Operand) -> int:
        if isinstance(one, Carried):
            if one.lag == 0:
                return self.records[one.place]
            return self.starts["carry", 0] + self.carry[one.place, one.lag]
        if isinstance(one, Moving):
            return self.starts["moving", one.kind] + self.moving[one.kind][one.held.tobytes()][0]
        if one.kind == CONSTANT:
            return self.first_number + self.numbers[self._bits(one)]
        return self.starts["fixed", one.kind] + self.fixed[one.kind][one.reference]

    def _tape(self) -> Tape:
        self._lay_out()
        loop, tape = self.loop, self.loop.operations.tape
        n = self.first_number + len(self.numbers) + len(self.places)
        codes, first, second = np.zeros(n, np.uint8), np.zeros(n, np.uint32), np.zeros(n, np.uint32)
        values = np.zeros(n)
        codes[1 : self.first_number] = INPUT
        codes[self.first_number : n - len(self.places)] = NUMBER
        values[self.first_number : n - len(self.places)] = np.array([*self.numbers], np.int64).view(
            np.float64
        )
        for place, record in self.records.items():
            operands = [self._record(one) for one in loop.arguments[place]]
            codes[record] = loop.codes[place]
            first[record], second[record] = (*operands, 0)[:2]
        outputs = [
            self.records[place]
            if lag == 1
            else self.starts["carry", 0] + self.carry[place, lag - 1]
            for place, lag in self.slots
        ]
        outputs += [self.records[place] for place in self.apart]
        return Tape(
            tape.primitives, codes, first, second, values, self.sizes,
            np.array(outputs, np.int64), self._conditions(),
        )  # fmt: skip

    def _conditions(self) -> Guards:
        codes = {entry: k for k, entry in enumerate(self.loop.operations.tape.primitives, FIRST)}
        rows = [
            (
                codes[g.entry],
                *(*(self._record(one) for one in g.operands[: g.entry.arity]), 0)[:2],
                g.outcomes[0],
            )
            for g in self.guards
        ]
        kinds = (np.uint8, np.uint32, np.uint32, np.float64)
        columns = zip(*rows, strict=True) if rows else ((),) * 4
        return Guards(
            *(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True))
        )

    def step(self) -> tuple[Step, int] | None:
        tape, pool = self._tape(), Pool()
        inputs = [
            p.input_node(pool, f"{name} {kind}", (size,), FLOAT)
            for (name, kind), size in zip(self.starts, self.sizes, strict=True)
        ]
        found = roll(tape, inputs)
        if found is None:
            return None
        outputs = self._outputs(found)
        body = Body(Graph(tuple(inputs), tuple(outputs)), 1, len(self.moving))
        step = Step(
            body,
            (tuple(self.slots),),
            (tuple(self.apart),) if self.apart else (),
            tuple(
                np.stack([held for _, held in some.values()], axis=1)
                for some in self.moving.values()
            ),
            tuple(np.array([*some]) for some in self.fixed.values()),
            bool(self.guards),
        )
        return step, found.classes

    def _outputs(self, found: Rolled) -> list[Node]:
        m, c = len(self.slots), len(self.apart)
        outputs = [p.slice_(found.outputs, start=(0,), step=(1,), size=(m,))]
        if c:
            outputs.append(p.slice_(found.outputs, start=(m,), step=(1,), size=(c,)))
        if self.guards:
            holds: Node | None = None
            for node, _ in found.guards:
                holds = node if holds is None else p.bitwise_and(holds, node)
            outputs.append(p.cast(holds, dtype=FLOAT))
        return outputs
