"""The paths of steps: what the steps of a loop compute, where branches lead them several ways.

Steps are of one *path* if they have the same operations, and each operand is the same operation of the
step, or comes from elsewhere. Of what comes from elsewhere some was computed by earlier steps of the same
lane: a value that is carried. Operands that one operation gives to, and operations that give to one
operand, are about one *variable*, whatever paths they are on. The values of a variable stand in a queue:
each step appends as many as its path computes, and an operand takes the one of a fixed age. What the first
steps take that no step has computed yet is where the variable starts.

Invariant: everything is compared with the tape, in each step; a loop that differs is refused with a reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.primitives import Primitive
from nbhvp.loops.roll.records import Pass
from nbhvp.loops.steps.iterations import Iterations, spans
from nbhvp.loops.steps.operations import Operations

__all__ = ["Column", "Operand", "Path", "Paths", "Unlike", "Variable", "Within", "paths_of"]

MOST_PATHS = 8
"""Paths of the steps of a loop."""
MOST_OPERATIONS = 600
"""Operations of all paths."""
MOST_ROUNDS = 8
"""How often paths are told apart anew."""
NOWHERE = np.iinfo(np.int64).min


class Unlike(Exception):
    """Why a loop does not become one node."""


@dataclass(frozen=True)
class Within:
    """An operation of the same step."""

    place: int


@dataclass(frozen=True)
class Variable:
    """A value that is carried: the one of an age among those of a variable, 0 for the latest."""

    number: int
    age: int = 0


@dataclass(frozen=True, eq=False)
class Column:
    """What comes from outside the loop: a reference for each step of a path, all of one kind."""

    held: np.ndarray
    kind: int


Operand = Within | Variable | Column


@dataclass(frozen=True, eq=False)
class Path:
    """What the steps of a path compute."""

    steps: np.ndarray
    """Which steps these are."""
    codes: list[int]
    operands: list[tuple[Operand, ...]]
    guards: list[tuple[Primitive, tuple[Operand, ...], np.ndarray]]
    """Conditions, with an outcome for each step."""
    given: dict[int, list[int]]
    """By variable: the places of the operations that it takes, in their order."""


@dataclass(frozen=True, eq=False)
class Paths:
    """The steps of a loop, path by path."""

    operations: Operations
    steps: Iterations
    path: np.ndarray
    """Of each step."""
    where: np.ndarray
    """int32, of each operation of the tape: the step that it is in, or -1."""
    is_late: np.ndarray
    """Of each operation of the tape: whether it stands behind the loop, or needs its steps."""
    inner: np.ndarray
    """The guards that steps have."""
    paths: list[Path]
    starts: dict[Variable, np.ndarray]
    """Of each value that is carried: a reference for each lane, NOWHERE if no step takes it."""
    sums: frozenset[int]
    """Variables to which steps only add."""

    def entry(self, code: int) -> Primitive:
        return self.operations.tape.primitive(code)

    def latest(self, number: int) -> np.ndarray:
        """The operation that each lane last gave to a variable; -1 if it gave none."""
        found = np.full(self.steps.count, -1, np.int64)
        for one in self.paths:
            for place in one.given.get(number, ())[-1:]:
                np.maximum.at(
                    found, self.steps.lanes[one.steps], self.steps.begin[one.steps] + place
                )
        return found


def paths_of(operations: Operations, steps: Iterations) -> Paths:
    """The paths of the steps of a loop; raises Unlike."""
    while True:
        finder = _Finder(operations, steps)
        found = finder.found()
        if found is not None:
            return found
        steps = steps.some(np.flatnonzero(finder.kept))


class _Finder:
    """The analysis of one loop."""

    def __init__(self, operations: Operations, steps: Iterations):
        self.operations, self.steps = operations, steps
        self.where = np.full(operations.size, -1, np.int32)
        self.index, self.which = spans(steps.begin, steps.end)
        self.where[self.index] = self.which
        self.is_late = _late(operations, self.where, int(steps.begin[0]), int(steps.end[-1]))
        self._find_guards()
        self.keys = self._hashes()
        self.kept = np.zeros(0, bool)

    def found(self) -> Paths | None:
        """The paths; None if the analysis shall begin again with the steps that are `kept`."""
        for _ in range(MOST_ROUNDS):
            self._number_paths()
            if self._peeled():
                return None
            self._collect()
            if self._told_apart():
                continue
            variables = _Variables(self)
            variables.find()
            if variables.apart is None:
                return variables.paths()
            self.keys[variables.apart] += np.uint64(0x9E3779B97F4A7C15)
        raise Unlike("what its steps take from elsewhere has no order")

    # Which steps are alike.

    def _find_guards(self) -> None:
        """The guards on what steps compute: which ones, their steps, and their operands."""
        steps = self.steps
        index, which = spans(steps.first_guard, steps.end_guard)
        references = self.operations.guards[:, index]
        inside = ((references >= 0) & (self.where[np.maximum(references, 0)] >= 0)).any(axis=0)
        self.inner, self.guard_steps = index[inside], which[inside]
        self.guard_operands = references[:, inside]

    def _hashes(self) -> np.ndarray:
        begin = self.steps.begin
        tokens = [
            np.maximum(row[self.index] - begin[self.which] + 1, 0)
            for row in self.operations.operands
        ]
        places = self.index - begin[self.which]
        mixed = _mixed(self.operations.codes[self.index], *tokens, places)
        found = _totals(mixed, self.which, self.steps.size)
        tokens = [np.maximum(row - begin[self.guard_steps] + 1, 0) for row in self.guard_operands]
        counts = np.bincount(self.guard_steps, minlength=self.steps.size)
        self.guard_places = (
            np.arange(self.inner.size) - (np.cumsum(counts) - counts)[self.guard_steps]
        )
        codes = self.operations.tape.guards.codes[self.inner].astype(np.int64) + 256
        return found + _totals(
            _mixed(codes, *tokens, self.guard_places), self.guard_steps, found.size
        )

    def _number_paths(self) -> None:
        _, first, path = np.unique(self.keys, return_index=True, return_inverse=True)
        if first.size > MOST_PATHS:
            raise Unlike(f"its steps go {first.size:,} ways, at most {MOST_PATHS} become one node")
        order = np.argsort(np.argsort(first))
        self.path = order[path]
        sizes = (self.steps.end - self.steps.begin)[np.sort(first)]
        if sizes.sum() > MOST_OPERATIONS:
            raise Unlike(f"its steps have {sizes.sum():,} operations, at most {MOST_OPERATIONS}")

    def _peeled(self) -> bool:
        """Whether first or last steps of all lanes are like no other: they are left to what is around."""
        places, heads = self.steps.places, self.steps.heads
        lasts = np.append(heads[1:], self.steps.size) - 1
        for ends in (heads, lasts):
            others = np.ones(self.steps.size, bool)
            others[ends] = False
            if others.any() and not np.isin(self.path[ends], self.path[others]).any():
                self.kept = others
                return places.max() >= 1
        return False

    def _collect(self) -> None:
        """The tables of operands, path by path."""
        steps, operations = self.steps, self.operations
        self.members = [np.flatnonzero(self.path == v) for v in range(self.path.max() + 1)]
        self.tables, self.guard_tables = [], []
        for mine in self.members:
            rows = steps.begin[mine][:, None] + np.arange(int((steps.end - steps.begin)[mine[0]]))
            codes = operations.codes[rows]
            tables = operations.operands[:, rows].astype(np.int64)
            offsets = np.maximum(tables - steps.begin[mine][:, None] + 1, 0)
            if (codes != codes[0]).any() or (offsets != offsets[:, :1]).any():
                raise Unlike("two of its steps have one hash")
            self.tables.append((codes[0].tolist(), offsets[:, 0], tables))
            self.guard_tables.append(self._guards_in(mine))

    def _guards_in(self, mine: np.ndarray):
        """The guards of a path: their codes, operands and outcomes, with a row for each step."""
        first, end = (np.searchsorted(self.guard_steps, mine, side) for side in ("left", "right"))
        rows = first[:, None] + np.arange(int((end - first)[0]))
        guards, which = self.operations.tape.guards, self.inner[rows]
        tables = self.guard_operands[:, rows].astype(np.int64)
        offsets = np.maximum(tables - self.steps.begin[mine][:, None] + 1, 0)
        codes = guards.codes[which]
        if (codes != codes[:1]).any() or (offsets != offsets[:, :1]).any():
            raise Unlike("two of its steps have one hash")
        return codes[0].tolist(), offsets[:, 0], tables, guards.outcomes[which]

    def outside(self, v: int):
        """The operands of a path from elsewhere: where they stand, and a reference for each step."""
        codes, offsets, tables = self.tables[v]
        guard_codes, guard_offsets, guard_tables, _ = self.guard_tables[v]
        for all_codes, all_offsets, all_tables, is_guard in (
            (codes, offsets, tables, False),
            (guard_codes, guard_offsets, guard_tables, True),
        ):
            for place, code in enumerate(all_codes):
                for k in range(self.operations.tape.primitive(code).arity):
                    if all_offsets[k, place] == 0:
                        yield (is_guard, place, k), all_tables[k, :, place]

    def is_carried(self, references: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Which references are to earlier steps of the same lanes."""
        lanes, where = self.steps.lanes, self.where[np.maximum(references, 0)]
        return (references >= 0) & (where >= 0) & (lanes[where] == lanes[steps])

    def is_foreign(self, references: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Which references are to other lanes, or to what needs them."""
        at = np.maximum(references, 0)
        other = (self.where[at] >= 0) & ~self.is_carried(references, steps)
        return (references >= 0) & (other | ((self.where[at] < 0) & self.is_late[at]))

    def _told_apart(self) -> bool:
        """Whether steps of one path take values of several kinds, so that they are several paths."""
        found = False
        for v, mine in enumerate(self.members):
            for _, references in self.outside(v):
                if self.is_carried(references, mine).any():
                    continue
                kinds = self.operations.kinds_of(references)
                if (kinds != kinds[0]).any():
                    self.keys[mine] += np.uint64(0xD1B54A32D192ED03) * kinds.astype(np.uint64)
                    found = True
        return found


class _Variables:
    """What is carried from step to step."""

    def __init__(self, finder: _Finder):
        self.finder, self.steps = finder, finder.steps
        sizes = [len(codes) for codes, _, _ in finder.tables]
        self.bases = np.cumsum([0, *sizes])
        self.parents = [*range(int(self.bases[-1]))]
        self.apart: np.ndarray | None = None
        """Steps that are of another path than they seemed."""
        self.operands: list[dict[tuple, Operand]] = [{} for _ in sizes]
        self.starts: dict[Variable, np.ndarray] = {}

    def _root(self, port: int) -> int:
        while self.parents[port] != port:
            port = self.parents[port]
        return port

    def _ports(self, references: np.ndarray) -> np.ndarray:
        """The operations of paths that these are."""
        where = self.finder.where[references]
        return self.bases[self.finder.path[where]] + references - self.steps.begin[where]

    def find(self) -> None:
        finder = self.finder
        carried: list[tuple[int, tuple, np.ndarray, np.ndarray, int]] = []
        for v, mine in enumerate(finder.members):
            for key, references in finder.outside(v):
                is_carried = finder.is_carried(references, mine)
                if is_carried.any():
                    ports = np.unique(self._ports(references[is_carried])).tolist()
                    for port in ports:
                        self.parents[self._root(port)] = self._root(ports[0])
                    carried.append((v, key, references, is_carried, ports[0]))
                elif finder.is_foreign(references, mine).any():
                    raise Unlike("what it starts from, or takes, is computed by other runs of it")
                else:
                    kind = finder.operations.kind_of(int(references[0]))
                    self.operands[v][key] = Column(references, kind)
        roots = [*dict.fromkeys(self._root(port) for *_, port in carried)]
        self.numbers = {root: k for k, root in enumerate(roots)}
        self._queue()
        for v, key, references, is_carried, port in carried:
            number = self.numbers[self._root(port)]
            age = self._age(number, finder.members[v], references, is_carried)
            if age is None:
                return
            self.operands[v][key] = Variable(number, age)

    def _queue(self) -> None:
        """How many values of each variable there are before each step, and the ranks of operations."""
        self.given: list[dict[int, list[int]]] = [{} for _ in self.finder.members]
        self.ranks = np.zeros(len(self.parents), np.int64)
        for v, given in enumerate(self.given):
            for port in range(int(self.bases[v]), int(self.bases[v + 1])):
                number = self.numbers.get(self._root(port))
                if number is not None:
                    places = given.setdefault(number, [])
                    self.ranks[port] = len(places)
                    places.append(port - int(self.bases[v]))
        self.before: list[np.ndarray] = []
        for number in range(len(self.numbers)):
            counts = np.array([len(given.get(number, ())) for given in self.given])
            found = counts[self.finder.path]
            found = np.cumsum(found) - found
            self.before.append(found - found[self.steps.heads][self.steps.lanes])

    def _age(self, number: int, mine, references, is_carried) -> int | None:
        """How old a value is that steps take; None if they take it in part from elsewhere."""
        before, known = self.before[number], references[is_carried]
        ranks = before[self.finder.where[known]] + self.ranks[self._ports(known)]
        ages = before[mine[is_carried]] - 1 - ranks
        if (ages != ages[0]).any():
            raise Unlike("a value that it carries is not always of the same step")
        age = int(ages[0])
        others = mine[~is_carried]
        at = age - before[others]
        if (at < 0).any():
            self.apart = others[at < 0]
            return None
        for k in np.unique(at).tolist():
            lanes = self.steps.lanes[others[at == k]]
            self._start(Variable(number, k), lanes, references[~is_carried][at == k])
        for k in range(age + 1):
            self._start(Variable(number, k), np.zeros(0, np.int64), np.zeros(0, np.int64))
        return age

    def _start(self, variable: Variable, lanes: np.ndarray, references: np.ndarray) -> None:
        known = self.starts.setdefault(variable, np.full(self.steps.count, NOWHERE))
        known[lanes] = np.where(known[lanes] == NOWHERE, references, known[lanes])
        if (known[lanes] != references).any():
            raise Unlike("a value that it carries starts from several")

    def paths(self) -> Paths:
        finder = self.finder
        made = [self._path(v) for v in range(len(finder.members))]
        found = Paths(
            finder.operations, finder.steps, finder.path, finder.where, finder.is_late, finder.inner,
            made, self.starts, frozenset(),
        )  # fmt: skip
        sums = [number for number in range(len(self.numbers)) if _is_sum(found, number)]
        return replace(found, sums=frozenset(sums))

    def _path(self, v: int) -> Path:
        finder, tape = self.finder, self.finder.operations.tape
        codes, offsets, _ = finder.tables[v]
        guard_codes, guard_offsets, _, outcomes = finder.guard_tables[v]

        def operands(is_guard: bool, place: int, code: int, at: np.ndarray) -> tuple[Operand, ...]:
            return tuple(
                Within(int(at[k, place]) - 1)
                if at[k, place]
                else self.operands[v][is_guard, place, k]
                for k in range(tape.primitive(code).arity)
            )

        guards = [
            (tape.primitive(code), operands(True, k, code, guard_offsets), outcomes[:, k].copy())
            for k, code in enumerate(guard_codes)
        ]
        rows = [operands(False, k, code, offsets) for k, code in enumerate(codes)]
        return Path(finder.members[v], codes, rows, guards, self.given[v])


def _is_sum(found: Paths, number: int) -> bool:
    """Whether steps only add to a variable, and take its value for nothing else."""
    if Variable(number, 1) in found.starts:
        return False
    for one in found.paths:
        users: dict[Operand, list[int]] = {}
        for place, row in enumerate(one.operands):
            for k, operand in enumerate(row):
                if not isinstance(operand, Column):
                    is_first = k == 0 or found.entry(one.codes[place]) is p.add
                    users.setdefault(operand, []).append(place if is_first else -1)
        for _, row, _ in one.guards:
            for operand in row:
                if not isinstance(operand, Column):
                    users.setdefault(operand, []).append(-1)
        given = one.given.get(number, [])
        if len(given) > 1 or (given and Within(given[0]) in users):
            return False
        at: Operand = Variable(number)
        while given and at != Within(given[0]):
            taken = users.get(at, [])
            if len(taken) != 1 or taken[0] < 0:
                return False
            if found.entry(one.codes[taken[0]]) not in (p.add, p.subtract):
                return False
            at = Within(taken[0])
        if not given and at in users:
            return False
    return True


def _late(operations: Operations, where: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Which operations stand behind the steps of a loop, or between its lanes and need them."""
    found = np.zeros(operations.size, bool)
    found[stop:] = True
    between = start + np.flatnonzero(where[start:stop] < 0)
    if between.size:
        first, second = operations.operands
        _follow(between, first[between], second[between], where, found)
    return found


@Pass
def _follow(between, first, second, where, found):
    for k in range(between.size):
        for a in (first[k], second[k]):
            if a >= 0 and (where[a] >= 0 or found[a]):
                found[between[k]] = True


def _mixed(*columns: np.ndarray) -> np.ndarray:
    """A hash of each row."""
    found = np.zeros(columns[0].size, np.uint64)
    for column in columns:
        found = (found + column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        found ^= found >> np.uint64(29)
    return found * np.uint64(0xBF58476D1CE4E5B9)


def _totals(hashes: np.ndarray, which: np.ndarray, count: int) -> np.ndarray:
    """The sums of hashes by step."""
    sizes = np.bincount(which, minlength=count)
    totals = np.concatenate([np.zeros(1, np.uint64), np.cumsum(hashes, dtype=np.uint64)])
    ends = np.cumsum(sizes)
    return totals[ends] - totals[ends - sizes]
