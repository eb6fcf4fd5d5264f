"""The body of a recurrence, from one period of a tape: a graph of single numbers.

Each carried number, each number that moves, and each invariant is an input of the graph. Its outputs are
what is carried on, what is read behind the loop, and, if the tape has guards within steps, whether they
hold. Operations that none of these needs are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, Pool
from nbhvp.graph.primitives import Primitive
from nbhvp.graph.table.scan import Body
from nbhvp.loops.steps.loop import Carried, Loop, Moving, Operand
from nbhvp.loops.steps.operations import CONSTANT

__all__ = ["Guard", "Step", "carried_in", "needed_in", "roots_of", "step_of"]

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
    """The body of a loop, and what its inputs and outputs are."""

    body: Body
    carry: tuple[tuple[tuple[int, int], ...], ...]
    """Of each carried array the places and lags of its elements."""
    columns: tuple[tuple[int, ...], ...]
    """Of each output the places of its elements, which are read behind the loop."""
    slices: tuple[np.ndarray, ...]
    """What its slices are, with a row for each step: references (int) or numbers (float)."""
    fixed: tuple[np.ndarray, ...]
    """What its invariants are: references."""
    has_guard: bool
    """Whether its last output tells if the guards hold."""

    @cached_property
    def outputs(self) -> dict[int, tuple[int, int]]:
        """Of each place that is read behind the loop the output, and the element of it."""
        found = {}
        for k, places in enumerate(self.columns, start=len(self.carry)):
            found |= {place: (k, e) for e, place in enumerate(places)}
        for k, slots in enumerate(self.carry):
            found |= {place: (k, e) for e, (place, lag) in enumerate(slots) if lag == 1}
        return found


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
            for one in loop.arguments[place]:
                visit(one)
    return slots


def roots_of(slots: Iterable[tuple[int, int]], read: Iterable[int], guards) -> set[int]:
    """The places that a step computes for others."""
    operands = [one for guard in guards for one in guard.operands[: guard.entry.arity]]
    guarded = (one.place for one in operands if isinstance(one, Carried) and one.lag == 0)
    return {*read, *guarded, *(place for place, _ in slots)}


def needed_in(loop: Loop, roots: Iterable[int]) -> list[int]:
    """The operations of a step that some of it need, in their order."""
    needed: set[int] = set()
    pending = [*roots]
    while pending:
        place = pending.pop()
        if place not in needed:
            needed.add(place)
            within = (one for one in loop.arguments[place] if isinstance(one, Carried))
            pending += [one.place for one in within if one.lag == 0]
    return sorted(needed)


def step_of(loop: Loop, slots: Sequence[tuple[int, int]], read: Sequence[int], guards) -> Step:
    """The step that carries some slots, and gives some places behind the loop."""
    return _Builder(loop, slots).step(read, guards)


class _Builder:
    """A body while it is made: operations are interned as they are needed."""

    def __init__(self, loop: Loop, slots: Sequence[tuple[int, int]]):
        self.loop, self.pool = loop, Pool()
        self.slots = {slot: k for k, slot in enumerate(slots)}
        self.carry = {slot: self._input(f"u{k}") for slot, k in self.slots.items()}
        self.slices: dict[object, tuple[Node, np.ndarray]] = {}
        self.fixed: dict[int, Node] = {}
        self.new: dict[int, Node] = {}

    def step(self, read: Sequence[int], guards: Sequence[Guard]) -> Step:
        self._make(roots_of(self.slots, read, guards))
        outputs = [
            self.new[place] if lag == 1 else self.carry[place, lag - 1] for place, lag in self.slots
        ]
        apart = [place for place in read if (place, 1) not in self.slots]
        outputs += [self.new[place] for place in apart]
        if guards:
            outputs.append(p.cast(self._condition(guards), dtype=FLOAT))
        slices = [node for node, _ in self.slices.values()]
        graph = Graph((*self.carry.values(), *slices, *self.fixed.values()), tuple(outputs))
        return Step(
            Body(graph, len(self.carry), len(slices)),
            tuple((slot,) for slot in self.slots),
            tuple((place,) for place in apart),
            tuple(one for _, one in self.slices.values()),
            tuple(np.array(reference) for reference in self.fixed),
            bool(guards),
        )

    def _input(self, name: str) -> Node:
        return p.input_node(self.pool, name, (), FLOAT)

    def _make(self, roots: Iterable[int]) -> None:
        for place in needed_in(self.loop, roots):
            args = map(self._operand, self.loop.arguments[place])
            self.new[place] = self.loop.entry(place)(*args)

    def _operand(self, one: Operand) -> Node:
        if isinstance(one, Carried):
            return self.carry[one.place, one.lag] if one.lag else self.new[one.place]
        if isinstance(one, Moving):
            return self._slice(one.held)
        reference = one.reference
        if one.kind == CONSTANT:
            return p.constant(self.pool, np.float64(self.loop.operations.value(reference)))
        if reference not in self.fixed:
            self.fixed[reference] = self._input(f"w{len(self.fixed)}")
        return self.fixed[reference]

    def _slice(self, held: np.ndarray) -> Node:
        key = held.dtype.kind, held.tobytes()
        if key not in self.slices:
            self.slices[key] = self._input(f"s{len(self.slices)}"), held
        return self.slices[key][0]

    def _condition(self, guards: Sequence[Guard]) -> Node:
        """Whether all guards of a step have the outcomes that they had."""
        whole: Node | None = None
        for guard in guards:
            args = [self._operand(one) for one in guard.operands[: guard.entry.arity]]
            holds = self._equal(guard.entry(*args), guard.outcomes)
            whole = holds if whole is None else p.bitwise_and(whole, holds)
        return whole

    def _equal(self, found: Node, outcomes: np.ndarray) -> Node:
        same = (outcomes == outcomes[0]).all()
        expected = p.constant(self.pool, outcomes[0]) if same else self._slice(outcomes)
        return p.equal(p.cast(found, dtype=FLOAT), expected)
