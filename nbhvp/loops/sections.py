"""A tape as sections: loops over time, and what comes before and after them.

    before:  the operations up to the first step, a tape whose results are what the steps take from it
    loop:    a scan, whose body is one step
    after:   the other operations, a tape whose inputs are those of the whole, what steps gave, and what
             came before

The sections before and after are cut likewise, the longest loop first, until no loop over time is left.
These become arrays (`roll`) or are swept. A loop becomes a scan if a step needs the one before for more
than to add to a sum: other loops are arrays.

Guards between operations of one section are part of it. Guards within a loop are part of its steps if
each step has the same ones; else they belong to the section after it.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node, dependent, reachable
from nbhvp.graph.table.scan import collected, final, scan
from nbhvp.graph.table.tape import CONSTANT, FIRST, Gapped, Tape, replay, tape_guards
from nbhvp.graph.table.tape_squares import without_roots
from nbhvp.graph.time.recurrences import Recurrence
from nbhvp.loops.lanes import Cut, inputs_read, lanes_of, section_of, some_guards, taken
from nbhvp.loops.roll import costs
from nbhvp.loops.roll.classes import classify
from nbhvp.loops.roll.costs import Cost, Costs
from nbhvp.loops.roll.graph import MOST_CLASSES, rolled
from nbhvp.loops.rolled import Computed
from nbhvp.loops.steps.body import Guard, Step, carried_in, needed_in, roots_of, step_of
from nbhvp.loops.steps.boundaries import adds_up_alone, loop_of
from nbhvp.loops.steps.first import with_first_steps
from nbhvp.loops.steps.loop import Carried, Loop, with_columns
from nbhvp.loops.steps.operations import CONSTANT as CONSTANT_KIND
from nbhvp.loops.steps.operations import Operations, operations_of
from nbhvp.loops.steps.periods import FEWEST, longest_run
from nbhvp.loops.steps.wide import wide_step

__all__ = ["computed"]

LEAST = 50
"""Operations of all steps of a loop."""
SHARE = 8
"""A loop has at least one in so many of the operations of a tape."""
MOST = 600
"""Operations of a step that may be written out."""
WHOLE = 0.8
"""The part of the operations of a tape from which the loop that repeats is all of it."""
FEW_CLASSES = 64
"""Structures that are arrays rather than steps of lanes."""
FEW = 100
"""Operations of a step that do not become arrays."""


def computed(tape: Tape, inputs: Sequence[Node], points: Sequence[Node]) -> Computed:
    """The results of a tape at the nodes of its inputs, to be differentiated in some points."""
    # A sweep can be differentiated twice: a derivative inside leaves one for the function around it.
    machine = costs.CPU if len(points) == 1 else None
    found = _found(tape, machine)
    if found is None and tape.gap is not None:
        raise Gapped
    if found is not None and found[0].covers(WHOLE):
        return _Sections(tape, inputs, points, *found).computed()
    classes = classify(tape, MOST_CLASSES) if found is None and inputs else None
    arrays = None
    if classes is not None and classes.structures <= FEW_CLASSES:
        arrays, classes = rolled(classes, inputs, machine), None
    cut, reasons = lanes_of(operations_of(tape)) if arrays is None else (None, ())
    if cut is not None and not _prefers_sweep(cut, machine):
        return _of_lanes(cut, inputs, points)
    if found is not None:
        return _Sections(tape, inputs, points, *found).computed()
    if classes is not None:
        arrays = rolled(classes, inputs, machine)
    if arrays is not None:
        return Computed(arrays.outputs, arrays.guards, arrays.classes)
    tape = without_roots(replace(tape, passive=_passive(inputs, points)))
    flat = _flat(inputs)
    guards = ((tape_guards(flat, tape=tape), np.True_),) if tape.guards.codes.size else ()
    swept = int(np.count_nonzero(tape.codes >= FIRST))
    return Computed(replay(flat, tape=tape), guards, swept=swept, reasons=reasons)


def _prefers_sweep(cut: Cut, machine: Costs | None) -> bool:
    """Whether to sweep over the tape costs less than the steps of all lanes."""
    if machine is None:
        return False
    steps, count = cut.paths.steps, sum(len(one.codes) for one in cut.paths.paths)
    if steps.count == 1:
        cost = machine.steps_written_out(steps.length, count)
    else:
        cost = machine.steps_of_lanes(steps.length, count, steps.count)
    return machine.prefers(machine.swept(np.array([steps.operations])), cost)


def _of_lanes(cut: Cut, inputs: Sequence[Node], points: Sequence[Node]) -> Computed:
    """The results of a tape with one node for a loop in all lanes."""
    compute = functools.partial(computed, points=points)
    before, guards, after = cut.computed(inputs, compute)
    found = Recurrence(cut.length, cut.step.body.operations)
    return _joined(before, found, after, guards)


def _joined(before: Computed | None, found: Recurrence, after: Computed, guards: list) -> Computed:
    """The sections around a loop, and the guards of its steps."""
    known = [one for one in (before, after) if one is not None]
    return Computed(
        after.outputs,
        (*(before.guards if before else ()), *guards, *after.guards),
        sum(one.classes for one in known),
        (*(before.recurrences if before else ()), found, *after.recurrences),
        sum(one.swept for one in known),
        tuple(dict.fromkeys(reason for one in known for reason in one.reasons)),
    )


def _flat(inputs: Sequence[Node]) -> Node:
    return p.concatenate(*(p.reshape(node, shape=(node.size,)) for node in inputs), axis=0)


def _passive(inputs: Sequence[Node], points: Sequence[Node]) -> tuple[int, ...]:
    """The inputs of a tape that depend on no point of a derivative."""
    active = dependent(reachable(inputs), points)
    return tuple(k for k, node in enumerate(inputs) if node not in active)


def _found(tape: Tape, machine: Costs | None) -> tuple[Loop, Step, list[Guard], np.ndarray] | None:
    """The loop over time of a tape that is worth a scan, its step, and what is read behind it."""
    operations, gap = operations_of(tape), tape.gap
    cut = None if gap is None else operations.before(gap.start)
    run = longest_run(operations, cut) if operations.size >= LEAST else None
    if run is None or (gap is None and run.size < max(LEAST, operations.size // SHARE)):
        return None
    loop = None if adds_up_alone(operations, run) else loop_of(operations, run)
    if loop is None:
        return None
    loop, guards, inner = _guards_of(loop)
    loop = with_first_steps(loop)
    if loop.length < FEWEST:
        return None
    if gap is not None:
        if guards:
            raise Gapped
        loop = loop.with_gap(gap)
    for _ in loop.partial:
        guards = [guard.before() for guard in guards]
    _, places = loop.where(_read_after(loop, inner))
    roots = np.unique(places).tolist()
    slots = sorted(carried_in(loop, roots, guards))
    if not _is_recurrent(loop, slots):
        return None
    step = _cheapest(loop, slots, roots, guards, machine)
    return None if step is None else (loop, step, guards, inner)


def _cheapest(
    loop: Loop, slots, read: list[int], guards: list[Guard], machine: Costs | None
) -> Step | None:
    """The step, written out or as arrays; None where a sweep over the tape costs less."""
    count = len(needed_in(loop, roots_of(slots, read, guards)))
    may_sweep, machine = machine is not None, machine or costs.CPU
    ways: list[tuple[Cost, Step | None]] = []
    if count <= MOST:
        ways.append((machine.steps_written_out(loop.length, count), None))
    if count > FEW and all((guard.outcomes == guard.outcomes[0]).all() for guard in guards):
        found = wide_step(loop, slots, read, guards)
        if found is not None:
            step, structures = found
            ways.append((machine.steps_of_arrays(loop.length, count, structures), step))
    if not ways:
        return None
    cost, step = min(ways, key=lambda way: machine.total(way[0]))
    swept = machine.swept(np.array([loop.length * count]))
    if may_sweep and machine.prefers(swept, cost):
        return None
    return step or step_of(loop, slots, read, guards)


def _is_recurrent(loop: Loop, slots: Sequence[tuple[int, int]]) -> bool:
    """Whether some step needs another one for more than to add to a sum of its own."""
    users: dict[Carried, list[int]] = defaultdict(list)
    for i in range(loop.period):
        for one in loop.arguments[i]:
            if isinstance(one, Carried):
                users[one].append(i)

    def is_sum(place: int) -> bool:
        at = Carried(place, 1)
        while at != Carried(place, 0):
            if len(users[at]) != 1 or loop.entry(users[at][0]) not in (p.add, p.subtract):
                return False
            at = Carried(users[at][0], 0)
        return True

    return not all(is_sum(place) for place, _ in slots)


def _guards_of(loop: Loop) -> tuple[Loop, list[Guard], np.ndarray]:
    """The loop, the guards of its steps, and which guards of the tape these are."""
    tape, references = loop.operations.tape, loop.operations.guards
    latest = references.max(axis=0)
    inner = np.flatnonzero((latest >= loop.begin) & (latest < loop.end))
    count, rest = divmod(inner.size, loop.whole)
    none = loop, [], inner[:0]
    if not count or rest:
        return none
    steps = (latest[inner] - loop.begin) // loop.period
    codes = tape.guards.codes[inner].reshape(loop.whole, count)
    if (steps != np.repeat(np.arange(loop.whole), count)).any() or (codes != codes[-1]).any():
        return none
    tables = [row[inner].reshape(loop.whole, count) for row in references]
    known = with_columns(loop, tables)
    if known is None:
        return none
    loop, rows = known
    outcomes = tape.guards.outcomes[inner].reshape(loop.whole, count)
    guards = [
        Guard(tape.primitive(codes[-1, k]), (rows[0][k], rows[1][k]), outcomes[:, k].copy())
        for k in range(count)
    ]
    return loop, guards, inner


def _read_after(loop: Loop, inner: np.ndarray) -> np.ndarray:
    """The operations of the loop that later operations, results and guards of no step read."""
    operations, tape = loop.operations, loop.operations.tape
    later = operations.operands[:, loop.end :].ravel()
    others = np.delete(operations.guards, inner, axis=1).ravel()
    found = np.concatenate([later, operations.references[tape.outputs], others])
    return np.unique(found[(found >= loop.start) & (found < loop.end)])


class _Sections:
    """A tape that is cut at one loop."""

    def __init__(
        self, tape: Tape, inputs: Sequence[Node], points: Sequence[Node], loop, step, guards, inner
    ):
        self.tape, self.points, self.loop, self.step = tape, points, loop, step
        self.operations: Operations = loop.operations
        self.pool = inputs[0].pool
        self.inputs = [
            p.reshape(p.cast(one, dtype=np.float64), shape=(one.size,)) for one in inputs
        ]
        self.inner = inner
        """The guards of the tape that are part of steps."""

    def computed(self) -> Computed:
        before = self._before()
        rows = self._scan()
        guards = []
        if self.step.has_guard:
            holds = collected(rows, len(self.step.columns))
            holds = taken(holds, np.arange(len(self.loop.partial), self.loop.length))
            guards.append((p.all_(p.not_equal(holds, 0)), np.True_))
        found = Recurrence(self.loop.length, self.step.body.operations)
        return _joined(before, found, self._after(rows), guards)

    # Before the loop.

    def _before(self) -> Computed | None:
        """The section up to the first step, if anything needs it."""
        loop, operations, tape = self.loop, self.operations, self.tape
        later = [operations.operands[:, loop.end :].ravel(), operations.references[tape.outputs]]
        taken = [one.ravel() for one in self.step.slices if one.dtype.kind == "i"]
        starts = (loop.starts[slot] for slots in self.step.carry for slot in slots)
        taken += [one.ravel() for one in self.step.fixed]
        taken.append(np.array([one for one in starts if not isinstance(one, float)], np.int64))
        latest = operations.guards.max(axis=0)
        self.early = np.flatnonzero(latest < loop.start)
        late = np.delete(operations.guards, self.early, axis=1).ravel()
        needed = np.concatenate([*taken, *later, late])
        needed = np.unique(needed[(needed >= 0) & (needed < loop.start)])
        self.places = needed
        """The operations before the loop that are read by it or behind it."""
        if not needed.size and not self.early.size:
            self.given = None
            return None
        end, guards = int(operations.records[loop.start]), some_guards(tape.guards, self.early)
        late = np.unique([guards.first, guards.second])
        body = np.arange(tape.start, end)
        ends = operations.records[needed]
        read = np.concatenate([tape.first[body], tape.second[body], late, ends])
        used, first = inputs_read(tape, read)
        parts = np.concatenate([first, body, late[late >= end]])
        section = section_of(tape, parts, tuple(tape.sizes[k] for k in used), ends, guards)
        found = computed(section, [self.inputs[k] for k in used], self.points)
        self.given = found.outputs
        return found

    # The loop.

    def _scan(self) -> Node:
        step, body = self.step, self.step.body
        arguments = [self._start(slots) for slots in step.carry]
        arguments += [self._array(one) for one in step.slices]
        arguments += [self._array(one) for one in step.fixed]
        shaped = (
            p.reshape(one, shape=(self.loop.length,) * (body.carries <= k < body.rest) + node.shape)
            for k, (one, node) in enumerate(zip(arguments, body.graph.inputs, strict=True))
        )
        return scan(body, self.loop.length, *shaped)

    def _start(self, slots: Sequence[tuple[int, int]]) -> Node:
        """A carried array before the first step: parts from one input each, or of constants."""
        starts = [self.loop.starts[slot] for slot in slots]
        parts = []
        for kind, some in groupby(starts, self._kind):
            if kind == CONSTANT_KIND:
                parts.append(p.constant(self.pool, np.array([self._number(one) for one in some])))
            else:
                parts.append(self._array(np.array([*some])))
        return parts[0] if len(parts) == 1 else p.concatenate(*parts, axis=0)

    def _kind(self, start: int | float) -> int:
        is_number = isinstance(start, float)
        return CONSTANT_KIND if is_number else self.operations.kind_of(start)

    def _number(self, start: int | float) -> float:
        return start if isinstance(start, float) else self.operations.value(start)

    def _array(self, held: np.ndarray) -> Node:
        """Numbers, or values from before the loop, all of one input, in a row."""
        if held.dtype.kind == "f":
            return p.constant(self.pool, np.ascontiguousarray(held))
        references = held.ravel()
        kind = self.operations.kind_of(int(references[0]))
        if kind < 0:
            return taken(self.given, np.searchsorted(self.places, references))
        first = 1 + sum(self.tape.sizes[: kind - 1])
        return taken(self.inputs[kind - 1], -1 - references.astype(np.int64) - first)

    # After the loop.

    def _after(self, rows: Node) -> Computed:
        """The section behind the loop, with what it reads as inputs."""
        operations, tape, loop = self.operations, self.tape, self.loop
        start = int(operations.records[loop.end - 1]) + 1
        late = np.setdiff1d(np.arange(tape.guards.codes.size), np.append(self.early, self.inner))
        guards = some_guards(tape.guards, late)
        read = np.concatenate(
            [tape.first[start:], tape.second[start:], tape.outputs, guards.first, guards.second]
        )
        earlier = np.unique(read[(read >= tape.start) & (read < start)]).astype(np.int64)
        kept = earlier[tape.codes[earlier] == CONSTANT]
        values = earlier[tape.codes[earlier] >= FIRST]
        inputs, order = self._read(rows, operations.references[values])
        values = values[order]
        used, first = inputs_read(tape, read)
        sizes = (*(tape.sizes[k] for k in used), *(node.size for node in inputs))
        rest = np.arange(start, tape.codes.size)
        parts = np.concatenate([first, values, kept, rest])
        section = section_of(tape, parts, sizes, tape.outputs, guards)
        return computed(section, [*(self.inputs[k] for k in used), *inputs], self.points)

    def _read(self, rows: Node, references: np.ndarray) -> tuple[list[Node], np.ndarray]:
        """Nodes that hold some operations, one after the other, and the order in which they do."""
        loop, nodes, order = self.loop, [], []
        early = np.flatnonzero(references < loop.start)
        if early.size:
            nodes.append(taken(self.given, np.searchsorted(self.places, references[early])))
            order.append(early)
        inside = np.flatnonzero(references >= loop.start)
        steps, places = loop.where(references[inside])
        outputs = np.array([self.step.outputs[place] for place in places.tolist()]).reshape(-1, 2)
        for k in np.unique(outputs[:, 0]).tolist():
            mine = np.flatnonzero(outputs[:, 0] == k)
            nodes.append(self._elements(rows, k, steps[mine], outputs[mine, 1]))
            order.append(inside[mine])
        return nodes, np.concatenate(order) if order else np.zeros(0, np.int64)

    def _elements(self, rows: Node, k: int, steps: np.ndarray, elements: np.ndarray) -> Node:
        """Elements of an output in some steps; of the carry, as the steps leave it."""
        body, is_carried = self.step.body, k < self.step.body.carries
        size = body.graph.outputs[k].size
        if is_carried and (steps == self.loop.length - 1).all():
            return taken(p.reshape(final(rows)[k], shape=(size,)), elements)
        start = (int(is_carried), body.columns[k])
        every = p.slice_(rows, start=start, step=(1, 1), size=(self.loop.length, size))
        return taken(p.reshape(every, shape=(every.size,)), steps * size + elements)
