"""The classes of a tape's records: sets of records with the same structure, which become one array.

Two records are in one class if they apply the same primitive to operands of equal classes: this is
value numbering (Cocke and Schwartz 1970), with inputs and constants numbered by their kind instead of
their identity. Each input is one class, and all constants are one, except small exponents, which
belong to the structure. A chain of additions is one record (`sums`); its class is the set of the
classes of its terms, without their number and signs, so that loops of different trip counts are equal.
Records that only guards use are in other classes than records that results use: pairs beyond a
cutoff are compared, but not computed. An unused record is kept if it completes a class, such as the
corners of a field that a stencil reads, and has derivatives everywhere.

The classes are then refined, the last one first, as in the minimisation of automata: records that are
the same operand of one class stay together, and others are separated. So coordinates that are read side
by side are separate arrays.

Invariant: all passes are linear in the length of the tape. Classes are found by hashes of their
structure alone, so their order, by depth and hash, is the same in every run with the same structures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nbhvp.graph.table.tape import CONSTANT, INPUT, Tape
from nbhvp.loops.roll.records import (
    LIVE,
    PARTIAL,
    POWER,
    RESULT,
    Pass,
    Records,
    compiled,
    needs,
    of_numbers,
    records_of,
)
from nbhvp.loops.roll.sums import Sums, chains_of, families_of, sums_of, with_single_terms

__all__ = ["CONSTANTS", "SUM", "Classes", "Terms", "classify"]

CONSTANTS = 0
"""The class of all constants; those of the inputs follow."""
SUM = 255
"""The code of a class of sums."""
STRUCTURAL = 16.0
"""Twice the largest exponent that is structure, if twice it is an integer."""
KEPT, ENDS = 4, 8
"""Marks of records that nothing needs: those that stay in their class, and those that may not."""
NOWHERE = np.uint32(2**32 - 1)
"""The place of a record that has no number yet."""


@dataclass(frozen=True, eq=False)
class Terms:
    """The terms of one class and sign in all sums of a class, sum by sum."""

    of: int
    sign: int
    places: np.ndarray
    """Their numbers within their class."""
    counts: np.ndarray
    """How many each sum has."""

    @property
    def uniform(self) -> int | None:
        """The number of terms in each sum, if it is the same in all."""
        count = int(self.counts[0])
        return count if (self.counts == count).all() else None


@dataclass(frozen=True, eq=False)
class Classes:
    """The classes of a tape; its guards are records behind the others, with outcomes as values.

    Class 0 are the constants, classes 1 to `inputs` the inputs; the others are in an order of
    structure, operands first.
    """

    tape: Tape
    """The tape that was classified: it may have more records than the one that was given."""
    inputs: int
    codes: np.ndarray
    """Of each class: that of its primitive, or SUM."""
    origins: np.ndarray
    """Of each class: a number that those have in common which differ in their use alone."""
    of: np.ndarray
    """The class of each record; -1 for links within sums."""
    places: np.ndarray
    """The number of each record within its class; NOWHERE if nothing needs it."""
    members: np.ndarray
    """The records of all classes of operations, class by class, in the order of their numbers."""
    starts: np.ndarray
    records: Records
    sums: Sums

    @property
    def structures(self) -> int:
        """How many classes of operations there are, those that differ in their use alone as one."""
        return np.unique(self.origins[self.inputs + 1 :]).size

    def size(self, k: int) -> int:
        return int(self.starts[k + 1] - self.starts[k])

    def structure(self, k: int) -> list[int]:
        """The classes that differ from this one in their use alone, itself among them."""
        alike = np.flatnonzero(self.origins == self.origins[k]).tolist()
        return [j for j in alike if self.size(j)]

    def members_of(self, k: int) -> np.ndarray:
        return self.members[self.starts[k] : self.starts[k + 1]]

    def is_family(self, k: int) -> bool:
        """Whether the sums of a class are those of a family."""
        row = self.sums.rows[self.members_of(k)[0]]
        return bool(self.sums.families[row - 1])

    def terms_of(self, k: int) -> tuple[list[Terms], np.ndarray]:
        """The terms of each sum of a class, and what constants add to each."""
        sums, size, found = self.sums, self.size(k), []
        terms = sums.rows[self.members_of(k)], sums.ends, sums.terms, sums.signs, self.of
        totals, constants = np.zeros(2 * self.codes.size, np.int64), np.zeros(size)
        _count_terms(*terms, totals)
        keys, bounds = np.flatnonzero(totals), np.cumsum(totals)
        counts, group = np.zeros((keys.size, size), np.int64), np.cumsum(totals > 0) - 1
        records = np.empty(bounds[-1], np.uint32)
        _collect_terms(*terms, bounds - totals, group, records, counts)
        for key, count in zip(keys.tolist(), counts, strict=True):
            mine = records[bounds[key] - totals[key] : bounds[key]]
            of, sign = key // 2, -1 if key % 2 else 1
            if of == CONSTANTS:
                added = sign * self.records.values[mine]
                constants += np.bincount(np.repeat(np.arange(size), count), added, size)
            else:
                found.append(Terms(of, sign, self.places[mine], count))
        return found, constants


class _Structures(NamedTuple):
    """The class of each record, and what is known of each class while they are found."""

    of: np.ndarray
    codes: np.ndarray
    hashes: np.ndarray
    checks: np.ndarray
    """What tells two structures of one hash apart."""
    depths: np.ndarray
    """-1 of constants, 0 of inputs."""
    origins: np.ndarray
    inputs: int


def classify(tape: Tape, most: int) -> Classes | None:
    """The classes of a tape; None if there are more than `most`."""
    records, marks, chains, families = _chained(tape)
    completed = with_single_terms(tape, records, chains, families)
    if completed is not tape:
        tape = completed
        records, marks, chains, families = _chained(tape)
    inputs, room = len(tape.sizes), 1 + len(tape.sizes) + most
    sums = sums_of(records, chains, families)
    of = np.full(records.codes.size, -1, np.int32)
    of[: tape.start] = np.repeat(np.arange(inputs + 1), (1, *tape.sizes))
    kinds = (np.uint8, np.uint64, np.uint64, np.int64)
    known = _Structures(of, *(np.zeros(room, kind) for kind in kinds), np.arange(room), inputs)
    slots, seen = np.zeros(4 << room.bit_length(), np.int32), np.zeros(room, np.int64)
    count = _number_structures(records, marks, sums, known, slots, seen)
    if count < 0:
        return None
    more, sizes = np.zeros((2, room), np.int64)
    _keep(records, marks, sums.rows, known, more, sizes)
    order = _ordered(known, count)[::-1]
    count = _part_by_use(order, records, marks, sums, known, sizes, tape.outputs)
    order = np.concatenate((np.arange(inputs + 1), _ordered(known, count)))
    places, sizes = np.full(of.size, NOWHERE), np.zeros(room, np.int64)
    _number_members(records, marks, sums.rows, tape.outputs, known, places, sizes)
    starts = np.concatenate(([0], np.cumsum(sizes[order])))
    places[1 : tape.start] = np.concatenate([np.arange(size) for size in tape.sizes])
    members = np.empty(starts[-1], np.uint32)
    _rename(of, places, np.argsort(order).astype(np.int32), inputs, starts, members)
    codes, origins = known.codes[order], known.origins[order]
    return Classes(tape, inputs, codes, origins, of, places, members, starts, records, sums)


def _chained(tape: Tape) -> tuple:
    """The records of a tape, their marks, and chains and families of these."""
    records = records_of(tape)
    marks, is_alone = needs(records, tape.outputs)
    chains = chains_of(records, marks, is_alone)
    return records, marks, chains, families_of(chains)


def _ordered(known: _Structures, count: int) -> np.ndarray:
    """The classes of operations by depth, then by hash."""
    first = known.inputs + 1
    return first + np.lexsort((known.hashes[first:count], known.depths[first:count]))


@of_numbers
def _mixed(x):
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@of_numbers
def _combined(a, b):
    return _mixed(a * np.uint64(0x9E3779B97F4A7C15) + b + np.uint64(0xD1B54A32D192ED03))


@of_numbers
def _exponent(value):
    """A number that tells exponents which are structure apart; 0 for all others."""
    twice = 2.0 * value
    is_structure = abs(twice) <= STRUCTURAL and twice == np.floor(twice)
    return 1 + int(twice + STRUCTURAL) if is_structure else 0


@of_numbers
def _operation(name, arity, hash_a, hash_b, exponent):
    """The hash of an operation by those of its operands, and of an exponent if it is not -1."""
    own = _combined(name, hash_a)
    if arity == 2:
        own = _combined(own, hash_b)
    return own if exponent < 0 else _combined(own, np.uint64(exponent))


@compiled
def _set_of_terms(i, start, end, terms, of, hashes, depths, seen):
    """The hash of sum i by the set of the classes of its terms, a check, and its depth."""
    own, check, depth = np.uint64(0), np.uint64(0), np.int64(0)
    for t in range(start, end):
        k = of[terms[t]]
        if k != CONSTANTS and seen[k] != i:
            seen[k] = i
            mixed = _mixed(hashes[k])
            own, check = own + mixed, check + _mixed(mixed)
            depth = max(depth, depths[k] + 1)
    return _combined(own, np.uint64(SUM)), check, depth


@Pass
def _number_structures(records, marks, sums, known, slots, seen):
    """Number the structures of all records; return how many there are, -1 if too many.

    `slots` is a table of the structures by their hashes, `seen` the sum that met each last.
    """
    codes, first, second, values, arity, kinds, names, conditions = records
    rows, ends, terms, _, families = sums
    of, class_codes, hashes, checks, depths, _, inputs = known
    count = inputs + 1
    depths[CONSTANTS] = -1
    for k in range(count):
        hashes[k] = _mixed(np.uint64(k + 1))
    for i in range(1, codes.size):
        code, row, a, b = codes[i], rows[i], of[first[i]], of[second[i]]
        if code == INPUT or row < 0:
            continue
        if row:
            code, span = np.uint8(SUM), (ends[row - 1], ends[row])
            own, check, depth = _set_of_terms(i, *span, terms, of, hashes, depths, seen)
            if families[row - 1]:
                own = check = _combined(families[row - 1], np.uint64(depth))
        else:
            is_power = kinds[code] == POWER and b == CONSTANTS
            exponent = _exponent(values[second[i]]) if is_power else -1
            own = _operation(names[code], arity[code], hashes[a], hashes[b], exponent)
            both = np.int64(a) * hashes.size + b
            check = np.uint64((both * 256 + code) * 64 + exponent + 1)
            depth = 1 + max(depths[a], depths[b])
        if depth == 0:
            of[i] = CONSTANTS
            continue
        only_guards = (marks[i] & (LIVE | RESULT)) == LIVE
        use = np.uint64(4 if i >= conditions else 0 if only_guards else RESULT)
        own, check = _combined(own, use), np.uint64(8) * check + use
        slot = np.int64(own & np.uint64(slots.size - 1))
        while slots[slot] and hashes[slots[slot]] != own:
            slot = (slot + 1) & (slots.size - 1)
        if slots[slot] == 0:
            if count == hashes.size:
                return -1
            slots[slot], class_codes[count], depths[count] = count, code, depth
            hashes[count], checks[count] = own, check
            count += 1
        of[i] = slots[slot]
        if checks[of[i]] != check:
            return -1  # two structures of one hash
    return count


@Pass
def _keep(records, marks, rows, known, more, sizes):
    """Mark what nothing needs, but is the lesser part of a class, with all that it needs itself.

    Nothing that may have no derivative is kept: an adjoint of zero times that is NaN. Count the marked
    members of classes.
    """
    codes, first, second, values, _, kinds, _, _ = records
    of, inputs = known.of, known.inputs
    for i in range(of.size):
        more[of[i]] += 1 if marks[i] else -1
        if marks[i] == 0 and of[i] > inputs:
            kind, b = kinds[codes[i]], second[i]
            is_partial = kind == PARTIAL
            if kind == POWER:
                is_whole = values[b] >= 1 and values[b] == np.floor(values[b])
                is_partial = codes[b] != CONSTANT or not is_whole
            if is_partial or marks[first[i]] == ENDS or marks[b] == ENDS:
                marks[i] = ENDS
    for i in range(of.size - 1, 0, -1):
        if marks[i] == ENDS:
            marks[i] = 0
            continue
        if marks[i] == 0 and of[i] > inputs and rows[i] == 0 and more[of[i]] >= 0:
            marks[i] = KEPT
        if marks[i] == KEPT:
            for a in (first[i], second[i]):
                if marks[a] == 0:
                    marks[a] = KEPT
        if marks[i] and of[i] > inputs:
            sizes[of[i]] += 1


# Refinement by use.


class _Ports(NamedTuple):
    """What reads records: an operand of a class, all terms of one of sums, or a result.

    Port 3 k + j is operand j of class k, 3 k + 2 are its terms. Ports that read one record in common
    stay together, so that each port still reads one class: they are a tree of `parents`.
    """

    of: np.ndarray
    """A port of each record; -1: none."""
    parents: np.ndarray
    hashes: np.ndarray
    """Of each tree: the sum of the hashes of its ports."""
    classes: np.ndarray
    """Of each tree: the class of the records that it was last met with."""


@compiled
def _root(parents, k):
    while parents[k] != k:
        parents[k] = parents[parents[k]]
        k = parents[k]
    return k


@Pass
def _sort_members(of, marks, inputs, at, found):
    """The needed records of each class of operations, in their order."""
    for i in range(of.size):
        if of[i] > inputs and marks[i]:
            found[at[of[i]]] = i
            at[of[i]] += 1


def _part_by_use(order, records, marks, sums, known, sizes, outputs) -> int:
    """Part each class by what it is used for, while there is room; return the number of classes."""
    of, room, ends = known.of, known.codes.size, np.cumsum(sizes)
    found = np.empty(ends[-1], np.uint32)
    _sort_members(of, marks, known.inputs, ends - sizes, found)
    port_of = np.full(of.size, -1, np.int32)
    port_of[outputs] = 3 * room + of[outputs]
    parents, classes = np.arange(4 * room), np.full(4 * room, -1)
    ports = _Ports(port_of, parents, np.zeros(4 * room, np.uint64), classes)
    return _part_all(order, found, ends - sizes, ends, records, sums, known, ports)


@Pass
def _part_all(order, found, starts, ends_of, records, sums, known, ports):
    """Part the classes in an order in which what reads a class comes before it."""
    first, second = records.first, records.second
    rows, ends, terms, _, _ = sums
    of, inputs = known.of, known.inputs
    port_of, parents, hashes, _ = ports
    count = inputs + 1 + order.size
    for k in order:
        members = found[starts[k] : ends_of[k]]
        count = _part(k, members, ports, known, count)
        for i in members:
            row = rows[i]
            start, end = (ends[row - 1], ends[row]) if row else (0, 2)
            for t in range(start, end):
                a = terms[t] if row else second[i] if t else first[i]
                port = 3 * of[i] + (2 if row else t)
                if port_of[a] == port or of[a] <= inputs:
                    continue
                if port_of[a] < 0:
                    port_of[a] = port
                    continue
                tree, other = _root(parents, port_of[a]), _root(parents, port)
                if tree != other:
                    parents[other] = tree
                    hashes[tree] += hashes[other]
    return count


@compiled
def _part(k, members, ports, known, count):
    """Part one class by the trees of its ports; return the number of classes."""
    of, codes, hashes, _, depths, origins, _ = known
    port_of, parents, port_hashes, classes = ports
    structure, is_first = hashes[k], True
    for i in members:
        if port_of[i] < 0:
            continue  # nothing needs it: it completes the first part
        tree = _root(parents, port_of[i])
        if classes[tree] < 0 or origins[classes[tree]] != k:
            part = k if is_first or count == codes.size else count
            if part == count:
                codes[part], depths[part], origins[part] = codes[k], depths[k], k
                count += 1
            if is_first or part != k:
                hashes[part] = _combined(structure, port_hashes[tree])
                for slot in range(3):
                    port_hashes[3 * part + slot] = _combined(hashes[part], np.uint64(slot))
            classes[tree], is_first = part, False
        of[i] = classes[tree]
    return count


# Numbers of records within their classes.


@Pass
def _number_members(records, marks, rows, outputs, known, places, sizes):
    """The number of each record within its class, and the sizes of classes.

    An operation gets its number when it is met, a sum when it is first used: the sums of an array
    are complete in an order that depends on what was added last.
    """
    first, second = records.first, records.second
    of, inputs = known.of, known.inputs
    for i in range(1, of.size):
        if marks[i]:
            for a in (first[i], second[i], np.uint32(0 if rows[i] else i)):
                if of[a] > inputs and places[a] == NOWHERE:
                    places[a] = sizes[of[a]]
                    sizes[of[a]] += 1
    for i in outputs:
        if of[i] > inputs and places[i] == NOWHERE:
            places[i] = sizes[of[i]]
            sizes[of[i]] += 1


@Pass
def _rename(of, places, rank, inputs, starts, members):
    """Give classes their ranks as names, and sort the records of each by their numbers."""
    for i in range(of.size):
        if of[i] > inputs:
            of[i] = rank[of[i]]
            if places[i] != NOWHERE:
                members[starts[of[i]] + places[i]] = i


@Pass
def _count_terms(rows, ends, terms, signs, of, totals):
    """How many terms there are of each class and sign."""
    for row in rows:
        for t in range(ends[row - 1], ends[row]):
            totals[2 * of[terms[t]] + (signs[t] < 0)] += 1


@Pass
def _collect_terms(rows, ends, terms, signs, of, at, group, found, counts):
    """The terms of each class and sign, sum by sum, each in the order of its chain."""
    for m, row in enumerate(rows):
        for t in range(ends[row] - 1, ends[row - 1] - 1, -1):
            key = 2 * of[terms[t]] + (signs[t] < 0)
            found[at[key]] = terms[t]
            at[key] += 1
            counts[group[key], m] += 1
