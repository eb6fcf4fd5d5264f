"""The classes of a tape against a plain definition of them, on random loops and on the benchmarks'.

The definition is slow and short: what a sum is, what has equal structure, what is used alike and
which number a record has within its class, each in a few lines over sets and dictionaries.
"""

from collections import Counter
from itertools import count

import numpy as np
import pytest

from benchmarks.loops import LOOPS, LORENZ_START, lorenz
from benchmarks.problems import MAKERS
from nbhvp.graph import primitives as p
from nbhvp.graph.table.tape import CONSTANT, FIRST, INPUT, Tape
from nbhvp.loops.recording.record import record_tape
from nbhvp.loops.roll import records
from nbhvp.loops.roll.classes import SUM, classify
from tests.checks import THOROUGH
from tests.loops.test_roll import CASES, point
from tests.tapes import random_tape, taped

LINKS = (p.add, p.subtract, p.negative)


class Plain:
    """A tape with its guards behind it, and the definition of its classes."""

    def __init__(self, tape: Tape):
        guards, self.tape, self.records = tape.guards, tape, tape.codes.size
        self.codes = [*tape.codes.tolist(), *guards.codes.tolist()]
        self.values = [*tape.values.tolist(), *guards.outcomes.tolist()]
        first = [*tape.first.tolist(), *guards.first.tolist()]
        second = [*tape.second.tolist(), *guards.second.tolist()]
        self.entries = [tape.primitive(c) if c >= FIRST else None for c in self.codes]
        self.operands = [
            (a, b)[: entry.arity] if entry else ()
            for entry, a, b in zip(self.entries, first, second, strict=True)
        ]
        self.needs()
        self.sums()
        self.structures()
        self.keep()
        self.part()

    def needs(self):
        """Whether guards or results need a record (1), or results (2); how its like use it."""
        self.need = [int(i >= self.records) for i in range(len(self.codes))]
        self.uses = Counter()
        for i in self.tape.outputs.tolist():
            self.need[i] = self.uses[i, True] = 2
        for i in reversed(range(len(self.codes))):
            for a in self.operands[i]:
                self.need[a] = max(self.need[a], self.need[i])
                self.uses[a, self.need[i] > 0] += 1

    def goes_on(self, i, a):
        """Whether the chain that ends in record `a` may go on in record `i`."""
        is_alone = self.uses[a, self.need[a] > 0] == 1
        return self.entries[a] in LINKS and is_alone and self.need[a] == self.need[i]

    def sums(self):
        """The terms of each sum with their signs, in their order; and the links within sums."""
        is_zero = lambda a: self.codes[a] == CONSTANT and self.values[a] == 0.0
        ways, length, inner, begins = {}, Counter(), Counter(), {}
        for i in range(self.records):
            if self.entries[i] not in LINKS:
                continue
            ways[i] = [a for a in self.operands[i] if self.goes_on(i, a)]
            ways[i].sort(key=lambda a: (begins.get(a, np.inf), -length[a]))
            is_negative = self.entries[i] is p.negative
            if not is_negative and any(map(is_zero, self.operands[i])):
                ways[i], begins[i] = [], i
            length[i] = min(200, (not is_negative) + sum(length[a] for a in ways[i][:1]))
            inner[i] = sum(inner[a] if is_negative else 0 for a in ways[i][:1])
            inner[i] += sum(length[a] for a in ways[i][1:])
            begins.update((i, begins[a]) for a in ways[i][:1] if a in begins)
        self.families(ways, length, begins)
        self.terms, self.links = {}, set()
        for i in reversed([*ways]):
            if i in self.links or not (i in begins or length[i] >= 8 or i in self.family):
                continue
            found, at, sign, least = [], i, 1, 0 if i in begins else inner[i]
            while at is not None:
                turns = [-1] if self.entries[at] is p.negative else [1, 1]
                turns[-1] = 1 if self.entries[at] is p.add else -1
                pairs = [(a, sign * s) for a, s in zip(self.operands[at], turns, strict=True)]
                on = next((a for a in ways[at][:1] if least == 0 or length[a] > least), None)
                found[:0] = [one for one in pairs if one[0] != on]
                at, sign = next((one for one in pairs if one[0] == on), (None, 0))
                self.links |= {at}
            self.terms[i] = found

    def kind(self, a):
        """What a term is, and its operands."""
        entries = (self.entries[a], *(self.entries[b] for b in self.operands[a]))
        return *entries, *(self.codes[b] == INPUT for b in (a, *self.operands[a]))

    def families(self, ways, length, begins):
        """Of the last links of chains of many lengths, with terms of some kinds: these kinds."""
        kinds, starts = {}, {}
        for i, way in ways.items():
            terms = [a for a in self.operands[i] if a not in way[:1]]
            terms = [a for a in terms if self.codes[a] != CONSTANT or self.values[a] != 0.0]
            on = way[0] if way else None
            kinds[i] = kinds.get(on, frozenset()) | {self.kind(a) for a in terms}
            if self.entries[i] is p.negative:
                kinds[i] = kinds.get(on, frozenset())
            starts[i] = starts[on] if way else self.kind(terms[0]) if terms else None
        last = set(ways) - {a for way in ways.values() for a in way[:1]}
        terms_of = {i: length[i] + (i not in begins) for i in last}
        groups = {}
        for i in sorted(last):
            groups.setdefault((kinds[i], starts[i]), []).append(i)
        self.family = {}
        for (some, _), rows in groups.items():
            sizes = [terms_of[i] for i in rows]
            is_triangle = max(sizes) > 8 and len({n for n in sizes if n <= 8}) >= 3
            is_edged = 0.75 <= sizes.count(max(sizes)) / len(sizes) < 1 and max(sizes) > 2
            if not is_triangle and (not is_edged or any(i in begins for i in rows)):
                continue
            singles = [i for i in last if terms_of[i] == 1 and kinds[i] < some]
            rows = rows + singles if is_triangle and min(sizes) == 2 else rows
            self.family |= dict.fromkeys(rows, (some, starts[rows[0]]))

    def structures(self):
        """The number of the structure of each record: constants, inputs, then as they are met."""
        bounds, known = np.cumsum([1, *self.tape.sizes]), {}
        self.of, self.depth = [], {-1: -1, 0: -1}
        for i, (entry, operands) in enumerate(zip(self.entries, self.operands, strict=True)):
            found = [self.of[a] for a in operands]
            if i in self.terms:
                found = sorted({self.of[a] for a, _ in self.terms[i]} - {0})
            if i in self.links or not any(found):
                is_input = self.codes[i] == INPUT
                self.of.append(
                    -1 if i in self.links else is_input * np.searchsorted(bounds, i, "right")
                )
                self.depth.setdefault(self.of[i], 0)
                continue
            exponent = self.values[operands[-1]] if entry is p.power and found[1] == 0 else 0.3
            if abs(exponent) > 8 or 2 * exponent != int(2 * exponent):
                exponent = None
            use = "guards" if i >= self.records else self.need[i] == 1
            depth = 1 + max(self.depth[k] for k in found)
            key = (SUM if i in self.terms else entry, *found, exponent, use)
            if i in self.family:
                key = (SUM, self.family[i], depth, use)
            self.of.append(known.setdefault(key, len(bounds) + len(known)))
            self.depth[self.of[i]] = depth

    def keep(self):
        """What nothing needs stays where it is the lesser part of a class, with its operands.

        Unless it may have no derivative, or one of its operands.
        """
        ends: list[bool] = []
        for i, operands in enumerate(self.operands):
            is_partial = operands and self.is_partial(i)
            ends.append(not self.need[i] and (is_partial or any(ends[a] for a in operands)))
        counts = Counter((k, need > 0) for k, need in zip(self.of, self.need, strict=True))
        self.kept = [need > 0 for need in self.need]
        mine = set()
        for i in reversed(range(len(self.codes))):
            k = self.of[i]
            completes = k > len(self.tape.sizes) and i not in self.terms and not ends[i]
            if not self.kept[i] and completes and counts[k, False] <= counts[k, True]:
                mine.add(i)
            if i in mine:
                mine |= {a for a in self.operands[i] if not self.kept[a]}
        self.kept = [kept or i in mine for i, kept in enumerate(self.kept)]

    def is_partial(self, i):
        """Whether an operation has no value or derivative somewhere; powers like x ** 2 have."""
        if self.entries[i] is not p.power:
            return self.entries[i].domain != p.ANY
        exponent = self.operands[i][1]
        value = self.values[exponent]
        return self.codes[exponent] != CONSTANT or value < 1 or value % 1 != 0

    def part(self):
        """Part each structure by what its records are used for, from the last depth to the first."""
        ports = {i: set() for i, _ in enumerate(self.codes)}
        for i in self.tape.outputs.tolist():
            ports[i].add(("output", self.of[i]))
        numbers, self.part_of = count(1 + len(self.tape.sizes)), dict(enumerate(self.of))
        for k in sorted(
            {k for k in self.of if k > len(self.tape.sizes)}, key=lambda k: -self.depth[k]
        ):
            members = [i for i, of in enumerate(self.of) if of == k and self.kept[i]]
            groups = []
            for i in members:
                if ports[i]:
                    touched = [one for one in groups if one & ports[i]]
                    groups = [one for one in groups if one not in touched]
                    groups.append(ports[i].union(*touched))
            order = {}
            for i in members:
                group = next((g for g, one in enumerate(groups) if one & ports[i]), None)
                if group is not None:
                    order.setdefault(group, next(numbers))
            unused = min(order.values(), default=None) or next(numbers)
            for i in members:
                group = next((g for g, one in enumerate(groups) if one & ports[i]), None)
                self.part_of[i] = order.get(group, unused)
                pairs = enumerate(self.operands[i])
                for slot, a in [(2, a) for a, _ in self.terms[i]] if i in self.terms else pairs:
                    ports[a].add((self.part_of[i], slot))

    def members(self):
        """The records of each class in the order of their numbers."""
        found = {}
        for i in range(len(self.codes)):
            if self.kept[i] and self.operands[i]:
                is_sum = i in self.terms or i in self.links
                for a in self.operands[i] if is_sum else (*self.operands[i], i):
                    found.setdefault(self.part_of[a], {})[a] = None
        for i in self.tape.outputs.tolist():
            found.setdefault(self.part_of[i], {})[i] = None
        return [[*one] for k, one in found.items() if k > len(self.tape.sizes)]


def assert_as_defined(tape):
    found = classify(tape, 10_000)
    tape = found.tape
    plain = Plain(tape)
    classes = [k for k in range(found.inputs + 1, found.codes.size) if found.size(k)]
    assert sorted(found.members_of(k).tolist() for k in classes) == sorted(plain.members())
    place = dict(zip(found.members.tolist(), found.places[found.members].tolist(), strict=True))
    depths = []
    for k in classes:
        members = found.members_of(k).tolist()
        assert [place[i] for i in members] == [*range(len(members))]
        assert {int(found.of[i]) for i in members} == {k}
        depths.append(plain.depth[plain.of[members[0]]])
        is_sum = members[0] in plain.terms
        assert (found.codes[k] == SUM) == is_sum
        if is_sum:
            assert_terms(tape, plain, found, k)
    assert depths == sorted(depths)


def assert_terms(tape, plain, found, k):
    groups, constants = found.terms_of(k)
    expected, added = {}, []
    for m, i in enumerate(found.members_of(k).tolist()):
        added.append(0.0)
        for a, sign in plain.terms[i]:
            if plain.of[a] == 0:
                added[-1] += sign * plain.values[a]
            else:
                rows = expected.setdefault((int(found.of[a]), sign), [])
                rows.append((m, int(found.places[a])))
    np.testing.assert_allclose(constants, added, rtol=1e-14, atol=1e-14)
    assert {(one.of, one.sign) for one in groups} == set(expected)
    for one in groups:
        rows, places = zip(*expected[one.of, one.sign], strict=True)
        assert one.places.tolist() == [*places]
        assert one.counts.tolist() == np.bincount(rows, minlength=len(added)).tolist()


# Random loops, and those of tests and benchmarks.


@pytest.mark.parametrize("few", [0, pytest.param(10**9, id="plain")])
def test_the_classes_of_random_loops_are_as_defined(few, monkeypatch):
    """By passes that are compiled, and by the same as plain Python."""
    monkeypatch.setattr(records, "most", lambda function: few)
    for seed in range(800 if THOROUGH else 30):
        assert_as_defined(random_tape(np.random.default_rng(seed)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fun.__name__)
def test_the_classes_of_loops_are_as_defined(case):
    assert_as_defined(taped(case.fun, point(case, 9)))


def benchmark(name: str, size) -> tuple:
    problem = MAKERS[name](size)
    function, arguments = LOOPS[name]
    return function, problem.x0, *arguments(problem)


BENCHMARKS = {
    "rosenbrock": lambda: benchmark("rosenbrock", 30),
    "surface": lambda: benchmark("surface", (7, 8)),
    "lennard_jones": lambda: benchmark("lennard_jones", (8, 4)),
    "lorenz": lambda: (lorenz, LORENZ_START, 3),
}


@pytest.mark.compiles
@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_classes_of_the_benchmarks_are_as_defined(name):
    function, *args = BENCHMARKS[name]()
    assert_as_defined(record_tape(function, tuple(args)).tape)
