"""The body of a recurrence, from one period of a tape: a graph of single numbers.

Each carried number, each number that moves, and each invariant is an input of the graph. Its outputs are
what is carried on, what is read behind the loop, and, if the tape has guards within steps, whether they
hold. Operations that none of these needs are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, Pool
from nbhvp.graph.primitives import Primitive
from nbhvp.graph.table.scan import Body
from nbhvp.loops.steps.loop import Carried, Loop, Moving, Operand
from nbhvp.loops.steps.operations import CONSTANT

__all__ = ["Guard", "Step", "carried_in", "step_of"]

FLOAT = np.dtype(np.float64)


@dataclass(frozen=True, eq=False)
class Guard:
    """A condition in each step."""

    entry: Primitive
    operands: tuple[Operand, Operand]
    outcomes: np.ndarray
    """One for each step that stands on the tape as a whole."""

    def before(self) -> Guard:
        """With a step before, in which it may be anything."""
        first, second = (
            one.before(None) if isinstance(one, Moving) else one for one in self.operands
        )
        outcomes = np.append(self.outcomes[:1], self.outcomes)
        return Guard(self.entry, (first, second), outcomes)


@dataclass(frozen=True, eq=False)
class Step:
    """The body of a loop, and what its inputs are."""

    body: Body
    slots: dict[tuple[int, int], int]
    """Of what is carried, place and lag: which of the carried numbers it is."""
    columns: dict[int, int]
    """Of places that are read behind the loop: which of the outputs they are."""
    moving: tuple[Moving | np.ndarray, ...]
    """What its slices are: references, or numbers."""
    fixed: tuple[int, ...]
    """What its invariants are: references."""
    has_guard: bool
    """Whether its last output tells if the guards hold."""


def carried_in(loop: Loop, roots: Iterable[int], guards: Sequence[Guard]) -> set[tuple[int, int]]:
    """What steps carry to compute some places and guards: places, with lags."""
    slots: set[tuple[int, int]] = set()
    seen: set[int] = set()
    pending = [*roots]
    operands = [one for guard in guards for one in guard.operands[: guard.entry.arity]]

    def visit(one: Operand) -> None:
        if isinstance(one, Carried):
            slots.update((one.place, lag) for lag in range(1, one.lag + 1))
            pending.append(one.place)

    for one in operands:
        visit(one)
    while pending:
        place = pending.pop()
        if place not in seen:
            seen.add(place)
            for one in loop.arguments(place):
                visit(one)
    return slots


def step_of(loop: Loop, slots: Sequence[tuple[int, int]], read: Sequence[int], guards) -> Step:
    """The step that carries some slots, and gives some places behind the loop."""
    return _Builder(loop, slots).step(read, guards)


class _Builder:
    """A body while it is made: operations are interned as they are needed."""

    def __init__(self, loop: Loop, slots: Sequence[tuple[int, int]]):
        self.loop, self.pool = loop, Pool()
        self.slots = {slot: k for k, slot in enumerate(slots)}
        self.carry = {slot: self._input(f"u{k}") for slot, k in self.slots.items()}
        self.slices: dict[object, tuple[Node, Moving | np.ndarray]] = {}
        self.fixed: dict[int, Node] = {}
        self.new: dict[int, Node] = {}

    def step(self, read: Sequence[int], guards: Sequence[Guard]) -> Step:
        self._make({*read, *self._places(guards), *(place for place, _ in self.slots)})
        outputs = [
            self.new[place] if lag == 1 else self.carry[place, lag - 1] for place, lag in self.slots
        ]
        apart = [place for place in read if (place, 1) not in self.slots]
        columns = {place: k for k, place in enumerate(apart)}
        outputs += [self.new[place] for place in columns]
        if guards:
            outputs.append(p.cast(self._condition(guards), dtype=FLOAT))
        slices = [node for node, _ in self.slices.values()]
        graph = Graph((*self.carry.values(), *slices, *self.fixed.values()), tuple(outputs))
        moving = tuple(one for _, one in self.slices.values())
        body = Body(graph, len(self.carry), len(slices))
        return Step(body, self.slots, columns, moving, tuple(self.fixed), bool(guards))

    def _input(self, name: str) -> Node:
        return p.input_node(self.pool, name, (), FLOAT)

    def _places(self, guards: Sequence[Guard]) -> list[int]:
        operands = [one for guard in guards for one in guard.operands[: guard.entry.arity]]
        return [one.place for one in operands if isinstance(one, Carried) and one.lag == 0]

    def _make(self, roots: Iterable[int]) -> None:
        """All operations of a step that some need, in their order."""
        needed: set[int] = set()
        pending = [*roots]
        while pending:
            place = pending.pop()
            if place not in needed:
                needed.add(place)
                within = (one for one in self.loop.arguments(place) if isinstance(one, Carried))
                pending += [one.place for one in within if one.lag == 0]
        for place in sorted(needed):
            args = map(self._operand, self.loop.arguments(place))
            self.new[place] = self.loop.entry(place)(*args)

    def _operand(self, one: Operand) -> Node:
        if isinstance(one, Carried):
            return self.carry[one.place, one.lag] if one.lag else self.new[one.place]
        if isinstance(one, Moving):
            return self._slice(one)
        reference, operations = one.reference, self.loop.operations
        if reference < 0 and operations.kinds_of(np.array(reference)) == CONSTANT:
            return p.constant(self.pool, np.float64(operations.value(reference)))
        if reference not in self.fixed:
            self.fixed[reference] = self._input(f"w{len(self.fixed)}")
        return self.fixed[reference]

    def _slice(self, one: Moving) -> Node:
        held = self.loop.operations.values(one.references) if one.are_constants else one
        key = held.tobytes() if one.are_constants else one.references.tobytes()
        if (one.are_constants, key) not in self.slices:
            self.slices[one.are_constants, key] = self._input(f"s{len(self.slices)}"), held
        return self.slices[one.are_constants, key][0]

    def _condition(self, guards: Sequence[Guard]) -> Node:
        """Whether all guards of a step have the outcomes that they had."""
        whole: Node | None = None
        for guard in guards:
            args = [self._operand(one) for one in guard.operands[: guard.entry.arity]]
            holds = self._equal(guard.entry(*args), guard.outcomes)
            whole = holds if whole is None else p.bitwise_and(whole, holds)
        return whole

    def _equal(self, found: Node, outcomes: np.ndarray) -> Node:
        if (outcomes == outcomes[0]).all():
            expected = p.constant(self.pool, np.float64(outcomes[0]))
        else:
            key = True, outcomes.tobytes()
            if key not in self.slices:
                self.slices[key] = self._input(f"s{len(self.slices)}"), outcomes
            expected = self.slices[key][0]
        return p.equal(p.cast(found, dtype=FLOAT), expected)
