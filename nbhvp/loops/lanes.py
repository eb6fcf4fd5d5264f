"""A tape that is cut at a loop whose steps the marks tell of: of several lanes, or of several paths.

    before:  the operations that need no step, those between the lanes among them
    loop:    one scan for all lanes, whose body is one step of each
    after:   all other operations

A variable to which lanes only add, one after the other, is a sum of each lane, from 0, and these are added
behind the loop. Each lane starts from what it started from; where it starts from what another lane
computed, there is no scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node
from nbhvp.graph.table.scan import collected, final, scan
from nbhvp.graph.table.tape import CONSTANT, FIRST, INPUT, Guards, Tape
from nbhvp.loops.roll.views import Source, read
from nbhvp.loops.steps.iterations import iterations_of
from nbhvp.loops.steps.operations import CONSTANT as CONSTANT_KIND
from nbhvp.loops.steps.operations import OPERATION, Operations
from nbhvp.loops.steps.paths import NOWHERE, Paths, Unlike, Variable, paths_of
from nbhvp.loops.steps.periods import FEWEST
from nbhvp.loops.steps.selected import Held, Selected, selected

__all__ = ["Cut", "inputs_read", "lanes_of", "section_of", "some_guards", "taken"]

SHARE = 8
"""A loop has at least one in so many of the operations of a tape."""
LEAST = 50
"""Operations of all steps of a loop."""


def lanes_of(operations: Operations) -> tuple[Cut | None, tuple[str, ...]]:
    """The loop of the fewest operations in a step that becomes a scan; else why none does."""
    reasons: list[str] = []
    for steps in iterations_of(operations):
        if steps.operations < max(LEAST, operations.size // SHARE) or steps.length < FEWEST:
            continue
        try:
            paths = paths_of(operations, steps)
            if paths.starts.keys() - {Variable(number) for number in paths.sums}:
                return Cut(paths), ()
        except Unlike as reason:
            reasons.append(str(reason))
    return None, tuple(dict.fromkeys(reasons))


class Cut:
    """The sections of a tape around a loop."""

    def __init__(self, paths: Paths):
        self.paths, self.operations = paths, paths.operations
        self.tape = paths.operations.tape
        self.is_single = paths.steps.count == 1
        self.sums = sorted(paths.sums)
        within = self._find_reads()
        if within:  # a sum that is read within its steps is carried as other variables are
            self.sums = [number for number in self.sums if number not in within]
            self._find_reads()
        self._test_starts()
        self.step: Selected = selected(paths, [one.tolist() for one in self.columns], self.sums)

    @property
    def length(self) -> int:
        return self.paths.steps.length

    def _test_starts(self) -> None:
        for one, references in self.paths.starts.items():
            known = references[references != NOWHERE]
            if one.number not in self.sums and self._needs_steps(known).any():
                raise Unlike("what it starts from, or takes, is computed by other runs of it")

    def _needs_steps(self, references: np.ndarray) -> np.ndarray:
        at = np.maximum(references, 0)
        return (references >= 0) & ((self.paths.where[at] >= 0) | self.paths.is_late[at])

    # What is read behind the loop.

    def _find_reads(self) -> set[int]:
        """Find what is read behind the loop; the sums among it that are read within their steps."""
        paths, operations, steps = self.paths, self.operations, self.paths.steps
        self.late = np.flatnonzero(paths.is_late)
        others = np.delete(operations.guards, paths.inner, axis=1)
        is_late = self._needs_steps(others).any(axis=0)
        outer = np.delete(np.arange(operations.guards.shape[1]), paths.inner)
        self.early_guards, self.late_guards = outer[~is_late], outer[is_late]
        ends = operations.references[self.tape.outputs]
        found = [operations.operands[:, self.late].ravel(), ends, others[:, is_late].ravel()]
        self.totals = self._totals()
        found.append(np.array([start for _, start, _ in self.totals], np.int64))
        read = np.unique(np.concatenate(found))
        inside = read[read >= 0]
        inside = inside[paths.where[inside] >= 0]
        inside = np.setdiff1d(inside, [last for last, _, _ in self.totals])
        self.early = read[(read >= 0) & ~self._needs_steps(read)]
        which = paths.where[inside]
        places = inside - steps.begin[which]
        numbers = self._numbers(which, places)
        is_sum = np.isin(numbers, self.sums)
        latest = np.concatenate(
            [[-1], *(paths.latest(k) for k in np.unique(numbers[numbers >= 0]))]
        )
        self.is_final = np.isin(inside, latest)
        self.inside, self.which, self.numbers = inside, which, numbers
        rows = np.flatnonzero(~self.is_final)
        v = paths.path[which[rows]]
        self.columns = [np.unique(places[rows][v == k]) for k in range(len(paths.paths))]
        self.column = np.full(inside.size, -1)
        for k, mine in enumerate(self.columns):
            some = rows[v == k]
            self.column[some] = np.searchsorted(mine, places[some])
        return {*numbers[is_sum].tolist()}

    def _numbers(self, which: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The variables that some operations of steps give to; -1 for none."""
        found = np.full(which.size, -1)
        for v, one in enumerate(self.paths.paths):
            mine = self.paths.path[which] == v
            for number, given in one.given.items():
                for place in given:
                    found[mine & (places == place)] = number
        return found

    def _totals(self) -> list[tuple[int, int, tuple[int, int]]]:
        """Of each sum and lane that adds to it: the last operation, what it starts from, and which
        sum and lane these are."""
        found = []
        for number in self.sums:
            latest, starts = self.paths.latest(number), self.paths.starts[Variable(number)]
            for lane in np.flatnonzero(latest >= 0).tolist():
                found.append((int(latest[lane]), int(starts[lane]), (number, lane)))
        return found

    # The sections.

    def computed(self, inputs: Sequence[Node], compute: Callable):
        """What comes before, the rows of the scan, its guard if it has one, and what comes after."""
        self.pool = inputs[0].pool
        self.inputs = [
            p.reshape(p.cast(one, dtype=np.float64), shape=(one.size,)) for one in inputs
        ]
        before = self._before(compute)
        rows = self._scan()
        guards = []
        if self.step.has_guard:
            holds = collected(rows, self.step.columns + len(self.sums))
            guards.append((p.all_(p.not_equal(holds, 0)), np.True_))
        return before, guards, self._after(rows, compute)

    def _before(self, compute: Callable):
        paths, tape, operations = self.paths, self.tape, self.operations
        taken = [one.held.ravel() for one in (*self.step.slices, *self.step.fixed) if one.kind < 0]
        taken += [one[one >= 0] for v, one in paths.starts.items() if v.number not in self.sums]
        needed = np.unique(np.concatenate([self.early, *taken]).astype(np.int64))
        self.places = needed
        if not needed.size and not self.early_guards.size:
            self.given = None
            return None
        guards = some_guards(tape.guards, self.early_guards)
        free = np.flatnonzero((paths.where < 0) & ~paths.is_late)
        found = compute(
            *self._section(tape, operations.records[free], (), operations.records[needed], guards)
        )
        self.given = found.outputs
        return found

    def _section(
        self, tape: Tape, records: np.ndarray, values: np.ndarray, outputs, guards: Guards
    ):
        """Some operations of a tape as a tape, with values that are given as further inputs."""
        ends = np.concatenate([outputs, guards.first, guards.second]).astype(np.int64)
        read = np.unique(np.concatenate([tape.first[records], tape.second[records], ends]))
        kept = read[tape.codes[read] == CONSTANT]
        kept = kept[kept >= tape.start].astype(np.int64)
        rest = np.unique(np.concatenate([kept, records]))
        values = np.asarray(values, np.int64)
        used, first = inputs_read(tape, read)
        parts = np.concatenate([first, values, rest])
        sizes = (*(tape.sizes[k] for k in used), *((values.size,) if values.size else ()))
        return section_of(tape, parts, sizes, outputs, guards), [self.inputs[k] for k in used]

    def _scan(self) -> Node:
        step, body = self.step, self.step.body
        shape = (self.paths.steps.count,) if not self.is_single else ()
        arguments = [self._start(one) for one in step.carry]
        arguments += [self._array(one) for one in (*step.slices, *step.fixed)]
        shaped = []
        for k, (one, node) in enumerate(zip(arguments, body.graph.inputs, strict=True)):
            outer = (self.length,) if body.carries <= k < body.rest else ()
            wanted = (*outer, *(shape if k < body.carries else node.shape))
            shaped.append(p.reshape(one, shape=wanted))
        return scan(body, self.length, *shaped)

    def _start(self, one: Variable) -> Node:
        """A carried value before the first step of each lane."""
        references = self.paths.starts[one]
        count = references.size
        kinds = self.operations.kinds_of(np.where(references == NOWHERE, -1, references))
        cuts = [0, *(1 + np.flatnonzero(np.diff(kinds))).tolist(), count]
        if len(cuts) > FEWEST:
            raise Unlike("its runs start from values of many kinds")
        parts = []
        for first, end in zip(cuts, cuts[1:], strict=False):
            some, kind = references[first:end], int(kinds[first])
            if kind == CONSTANT_KIND:
                some = self.operations.values(np.where(some == NOWHERE, -1, some))
            elif (some == some[0]).all() and some.size > 1:
                node = self._array(Held(some[None, :1], kind))
                parts.append(p.broadcast(p.reshape(node, shape=(1,)), shape=some.shape))
                continue
            parts.append(p.reshape(self._array(Held(some[None], kind)), shape=some.shape))
        return parts[0] if len(parts) == 1 else p.concatenate(*parts, axis=0)

    def _array(self, one: Held) -> Node:
        """Numbers, or values from before the loop: over steps and lanes."""
        if one.kind == CONSTANT_KIND:
            return p.constant(self.pool, np.ascontiguousarray(one.held))
        if one.kind == OPERATION:
            node, index = self.given, np.searchsorted(self.places, one.held.ravel())
        else:
            first = 1 + sum(self.tape.sizes[: one.kind - 1])
            node, index = self.inputs[one.kind - 1], -1 - one.held.ravel().astype(np.int64) - first
        shape = one.held.shape
        found = read(Source((node.size,), node), index.astype(np.int64), shape).make()
        return p.broadcast(found, shape=shape)

    def _after(self, rows: Node, compute: Callable):
        operations, tape = self.operations, self.tape
        tape, sums = self._with_totals(tape)
        nodes, values = self._read(rows)
        if sums.size:
            nodes.append(self._sums(rows))
        guards = some_guards(tape.guards, self.late_guards)
        records = [
            operations.records[self.late],
            operations.records[[k for k, _, _ in self.totals]],
        ]
        records = np.sort(np.concatenate(records)).astype(np.int64)
        values = np.concatenate([values, sums])
        section, inputs = self._section(tape, records, values, tape.outputs, guards)
        if nodes:
            inputs.append(nodes[0] if len(nodes) == 1 else p.concatenate(*nodes, axis=0))
        return compute(section, inputs)

    def _with_totals(self, tape: Tape) -> tuple[Tape, np.ndarray]:
        """The tape, where what lanes add is added to the sums before, and the records of these."""
        count = len(self.totals)
        if not count:
            return tape, np.zeros(0, np.int64)
        size, operations = tape.codes.size, self.operations
        codes, first, second, values = (
            np.append(column, np.zeros(count, column.dtype))
            for column in (tape.codes, tape.first, tape.second, tape.values)
        )
        sums = np.arange(size, size + count)
        last = operations.records[[k for k, _, _ in self.totals]]
        starts = np.array([operations.record(start) for _, start, _ in self.totals])
        codes[sums], codes[last] = INPUT, FIRST + tape.primitives.index(p.primitive_of(np.add))
        first[last], second[last] = starts, sums
        values[sums] = values[last] - values[starts]
        return replace(tape, codes=codes, first=first, second=second, values=values), sums

    def _sums(self, rows: Node) -> Node:
        """What each lane adds to each sum."""
        nodes, totals = [], np.array([at for *_, at in self.totals])
        for k, number in enumerate(self.sums):
            lanes = totals[totals[:, 0] == number, 1]
            added = p.sum_(collected(rows, self.step.columns + k), axes=(0,))
            nodes.append(taken(p.reshape(added, shape=(self.paths.steps.count,)), lanes))
        return nodes[0] if len(nodes) == 1 else p.concatenate(*nodes, axis=0)

    def _read(self, rows: Node) -> tuple[list[Node], np.ndarray]:
        """What the section behind reads of the one before and of the loop, and the records of this."""
        steps, nodes, records = self.paths.steps, [], []
        if self.early.size:
            nodes.append(taken(self.given, np.searchsorted(self.places, self.early)))
            records.append(self.early)
        lanes, places = steps.lanes[self.which], steps.places[self.which]
        ends = final(rows) if self.is_final.any() else None
        for number in np.unique(self.numbers[self.is_final]).tolist():
            mine = np.flatnonzero(self.is_final & (self.numbers == number))
            end = ends[self.step.carry.index(Variable(number))]
            nodes.append(taken(p.reshape(end, shape=(steps.count,)), lanes[mine]))
            records.append(self.inside[mine])
        for k in range(self.step.columns):
            mine = np.flatnonzero(self.column == k)
            at = places[mine] * steps.count + lanes[mine]
            order = np.argsort(at, kind="stable")
            every = collected(rows, k)
            nodes.append(taken(p.reshape(every, shape=(every.size,)), at[order]))
            records.append(self.inside[mine[order]])
        found = np.concatenate([np.zeros(0, np.int64), *records])
        return nodes, self.operations.records[found].astype(np.int64)


def inputs_read(tape: Tape, read: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The inputs of which some of these records are, one at least; the constant 0 and their records."""
    ends = np.cumsum([1, *tape.sizes])
    used = np.unique(np.searchsorted(ends, read[(read > 0) & (read < tape.start)], "right") - 1)
    used = used.tolist() or [int(np.argmin(tape.sizes))]
    return used, np.concatenate([[0], *(np.arange(ends[k], ends[k + 1]) for k in used)])


def section_of(
    tape: Tape, parts: np.ndarray, sizes: tuple[int, ...], outputs, guards: Guards
) -> Tape:
    """Some records of a tape, of which the first ones are the constant 0 and inputs of these sizes."""
    where = np.zeros(tape.codes.size, np.uint32)
    where[parts] = np.arange(parts.size, dtype=np.uint32)
    codes = tape.codes[parts]
    codes[1 : 1 + sum(sizes)] = INPUT
    is_operation = codes >= FIRST
    return Tape(
        tape.primitives,
        codes,
        np.where(is_operation, where[tape.first[parts]], np.uint32(0)),
        np.where(is_operation, where[tape.second[parts]], np.uint32(0)),
        tape.values[parts],
        sizes,
        where[outputs].astype(np.int64),
        Guards(guards.codes, where[guards.first], where[guards.second], guards.outcomes),
        source=tape.source,
    )


def some_guards(guards: Guards, which: np.ndarray) -> Guards:
    columns = (guards.codes, guards.first, guards.second, guards.outcomes)
    return Guards(*(column[which] for column in columns))


def taken(node: Node, index: np.ndarray) -> Node:
    """Elements of a vector: a slice where they are even."""
    index = index.astype(np.int64)
    strides = np.diff(index)
    step = int(strides[0]) if strides.size else 1
    if step and (strides == step).all():
        if step == 1 and index.size == node.size:
            return node
        return p.slice_(node, start=(int(index[0]),), step=(step,), size=(index.size,))
    return p.gather(node, p.positions(node.pool, index), axis=0)
