"""The classes of a tape's records: what has equal structure, whatever it is computed from.

Two records are of one class if they apply the same primitive to operands of equal classes. Inputs
are one class each, all constants are one, except that small exponents belong to the structure. A
chain of additions s <- s + t is one record, a *sum*, with terms t: its class is the set of the
classes of its terms, not their number or signs, so that loops of other trip counts are the same. A
chain counts as a sum if it starts from the number zero, as accumulators do, or is long;
a shorter one is what it is written as.

Classes are found in one pass, by 64-bit hashes that depend on structure alone. Their order by depth
and hash is therefore that of any run with the same structures, whatever it met first. A record that
only guards need is of another class than one that results need: pairs that a cutoff leaves out are
compared, and not computed with. What nothing needs stays if it completes a class, as the corners do
of a field that a stencil reads.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numba import njit

from nbhvp.graph import primitives as p
from nbhvp.graph.table.tape import CONSTANT, FIRST, INPUT, Tape

__all__ = ["CONSTANTS", "SUM", "Classes", "Terms", "classify", "compiled"]

assert (CONSTANT, INPUT) == (0, 1), "other numbers need another text, or numba's cache is stale"

CONSTANTS = 0
"""The class of all constants; those of the inputs follow."""
SUM = 255
"""The code of a class of sums."""
LONG = 8
"""Links from which a chain is a sum whatever it starts from."""
LARGEST = 200
"""Where counts of links saturate."""
STRUCTURAL = 16.0
"""Twice the largest exponent that is structure, if twice it is an integer."""

LIVE, RESULT, KEPT = 1, 2, 4
"""Marks of records that something needs, that a result needs, that stay in their class."""
OTHER, ADD, SUBTRACT, NEGATIVE, POWER = range(5)
"""What chains and hashes ask of a primitive."""
FIRST_ON, SECOND_ON, END, ABSORBED = 1, 2, 3, 4
"""Links of sums: the chain goes on in an operand, or ends; and a link that another goes on in."""
NOWHERE = np.uint32(2**32 - 1)
"""The place of a sum that nothing has used yet."""


def compiled(function):
    """The function compiled by Numba, and kept in its cache where a folder can be written."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return njit(nogil=True)(function)


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

    inputs: int
    records: int
    """How many records are no guards."""
    codes: np.ndarray
    """Of each class: that of its primitive, or SUM."""
    origins: np.ndarray
    """Of each class: a number that those have in common which differ in their use alone."""
    of: np.ndarray
    """The class of each record, -1 where nothing needs it or it is a link of a sum."""
    places: np.ndarray
    """The number of each record within its class."""
    members: np.ndarray
    """The records of all classes of operations, class by class, in the order of their numbers."""
    starts: np.ndarray
    tape: tuple[np.ndarray, ...]
    """Codes, first and second operands and values of all records."""
    links: np.ndarray
    kinds: np.ndarray

    def size(self, k: int) -> int:
        return int(self.starts[k + 1] - self.starts[k])

    def family(self, k: int) -> list[int]:
        """The classes of the structure of this one, with as many members, itself among them."""
        alike = np.flatnonzero(self.origins == self.origins[k]).tolist()
        return [j for j in alike if self.size(j) == self.size(k)]

    def members_of(self, k: int) -> np.ndarray:
        return self.members[self.starts[k] : self.starts[k + 1]]

    def terms_of(self, k: int) -> tuple[list[Terms], np.ndarray]:
        """The terms of each sum of a class, and what constants add to each."""
        members = self.members_of(k)
        codes, first, second, values = self.tape
        walk = (members, self.links, self.kinds, codes, first, second, self.of)
        totals = np.zeros(2 * self.codes.size, np.int64)
        constants = np.zeros(members.size)
        _count_terms(*walk, values, totals, constants)
        keys = np.flatnonzero(totals)
        ends = np.cumsum(totals[keys])
        group = np.full(totals.size, -1)
        group[keys] = np.arange(keys.size)
        places = np.empty(ends[-1], np.uint32)
        counts = np.zeros((keys.size, members.size), np.int64)
        _collect_terms(*walk, self.places, group, ends - totals[keys], places, counts)
        return [
            Terms(key // 2, -1 if key % 2 else 1, part, row)
            for key, part, row in zip(
                keys.tolist(), np.split(places, ends[:-1]), counts, strict=True
            )
        ], constants


def classify(tape: Tape, most: int) -> Classes | None:
    """The classes of a tape; None if there are more than `most`."""
    codes, first, second, values = records = _with_guards(tape)
    arity, kinds, names = _entries(tape)
    uses, marks = _uses(codes, first, second, arity, tape.outputs, tape.codes.size)
    links = _links(codes, first, second, values, kinds, uses, marks, tape.codes.size)
    inputs = len(tape.sizes)
    room = inputs + 1 + most
    of = np.full(codes.size, -1, np.int32)
    places = np.full(codes.size, NOWHERE, np.uint32)
    of[0], at = CONSTANTS, 1
    for k, size in enumerate(tape.sizes):
        of[at : at + size], places[at : at + size] = k + 1, np.arange(size)
        at += size
    class_codes = np.zeros(room, np.uint8)
    operands = np.full((room, 2), -1, np.int32)
    hashes, depths = np.zeros((room, 2), np.uint64), np.zeros(room, np.int64)
    sizes = np.zeros(room, np.int64)
    lives = np.zeros((room, 2), np.int64)
    count = _classify(
        *records, links, kinds, arity, names, marks, tape.codes.size, inputs,
        of, class_codes, operands, hashes, lives, depths,
    )  # fmt: skip
    if count < 0:
        return None
    _keep(codes, first, second, arity, marks, of, class_codes, lives, inputs)
    order = np.lexsort((hashes[:count, 0], depths[:count]))[::-1]
    origins = np.arange(room)
    count = _part_by_use(
        order, codes, first, second, links, kinds, arity, marks, tape.outputs, inputs,
        of, class_codes, hashes, depths, origins,
    )  # fmt: skip
    _number(codes, first, second, arity, marks, links, tape.outputs, of, places, sizes, inputs)
    rank = _order(hashes[:count, 0], depths[:count], inputs)
    order = np.argsort(rank)
    starts = np.concatenate(([0], np.cumsum(sizes[order])))
    members = np.empty(starts[-1], np.uint32)
    _fill(of, places, rank, inputs, starts, members)
    return Classes(
        inputs, tape.codes.size, class_codes[order], origins[order], of, places, members, starts,
        records, links, kinds,
    )  # fmt: skip


def _with_guards(tape: Tape) -> tuple[np.ndarray, ...]:
    """Codes, operands and values of the records, then of the guards."""
    guards = tape.guards
    if not guards.codes.size:
        return tape.codes, tape.first, tape.second, tape.values
    pairs = (
        (tape.codes, guards.codes),
        (tape.first, guards.first),
        (tape.second, guards.second),
        (tape.values, guards.outcomes),
    )
    return tuple(np.concatenate((a, b.astype(a.dtype, copy=False))) for a, b in pairs)


def _entries(tape: Tape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each code: how many operands it has, what chains ask of it, and a hash of its name."""
    special = {p.add: ADD, p.subtract: SUBTRACT, p.negative: NEGATIVE, p.power: POWER}
    arity, kinds = np.zeros(256, np.uint8), np.zeros(256, np.uint8)
    names = np.zeros(256, np.uint64)
    for code, entry in enumerate(tape.primitives, start=FIRST):
        arity[code] = entry.arity
        kinds[code] = special.get(entry, OTHER)
        digest = hashlib.blake2b(entry.name.encode(), digest_size=8).digest()
        names[code] = np.frombuffer(digest, np.uint64)[0]
    return arity, kinds, names


def _order(hashes: np.ndarray, depths: np.ndarray, inputs: int) -> np.ndarray:
    """The rank of each class: constants and inputs as they are, then by depth and hash."""
    first = inputs + 1
    rank = np.arange(hashes.size)
    rank[first + np.lexsort((hashes[first:], depths[first:]))] = np.arange(first, hashes.size)
    return rank.astype(np.int32)


@compiled
def _uses(codes, first, second, arity, outputs, records):
    """How often each record is used (up to 2) by its like, needed or not, and what needs it."""
    uses, marks = np.zeros((codes.size, 2), np.uint8), np.zeros(codes.size, np.uint8)
    marks[records:] = LIVE
    for i in outputs:
        uses[i, 1], marks[i] = 2, LIVE | RESULT
    for i in range(codes.size - 1, 0, -1):
        count, is_live = arity[codes[i]], marks[i] & LIVE
        if count:
            a = first[i]
            marks[a] |= marks[i]
            uses[a, is_live] = min(2, uses[a, is_live] + 1)
        if count == 2:
            b = second[i]
            marks[b] |= marks[i]
            uses[b, is_live] = min(2, uses[b, is_live] + 1)
    return uses, marks


@compiled
def _is_zero(i, codes, values):
    return codes[i] == CONSTANT and values[i] == 0.0


@compiled
def _links(codes, first, second, values, kinds, uses, marks, records):
    """The links of sums.

    Of two operands that could go on, the longer chain does. Where the terms are chains themselves,
    of a + b say, what is as long as these is the first term: the sum starts there.
    """
    links, lengths = np.zeros(codes.size, np.uint8), np.zeros(codes.size, np.uint8)
    inner, from_zero = np.zeros(codes.size, np.uint8), np.zeros(codes.size, np.bool_)
    for i in range(1, records):
        kind = kinds[codes[i]]
        if kind in (OTHER, POWER):
            continue
        a, b = first[i], second[i]
        goes_on = links[a] != 0 and uses[a, marks[a] & LIVE] == 1 and marks[a] == marks[i]
        if kind == NEGATIVE:
            links[i] = FIRST_ON if goes_on else END
            lengths[i], inner[i], from_zero[i] = lengths[a], inner[a], from_zero[a] and goes_on
            continue
        lengths[i], links[i] = 1, END
        if _is_zero(a, codes, values) or _is_zero(b, codes, values):
            from_zero[i] = True
            continue
        other_goes_on = links[b] != 0 and uses[b, marks[b] & LIVE] == 1 and marks[b] == marks[i]
        if goes_on and not (other_goes_on and lengths[b] > lengths[a]):
            links[i], on, term = FIRST_ON, a, b
        elif other_goes_on:
            links[i], on, term = SECOND_ON, b, a
        else:
            continue
        lengths[i] = min(LARGEST, lengths[on] + 1)
        inner[i] = lengths[term] if goes_on and other_goes_on else 0
        from_zero[i] = from_zero[on]
    for i in range(records - 1, 0, -1):
        if not links[i]:
            continue
        if not links[i] & ABSORBED:
            if not from_zero[i] and lengths[i] < LONG:
                links[i] = 0
                continue
            if from_zero[i]:
                inner[i] = 0
        link = links[i] & 3
        if link != END:
            on = first[i] if link == FIRST_ON else second[i]
            if inner[i] == 0 or lengths[on] > inner[i]:
                links[on] |= ABSORBED
                inner[on] = inner[i]
            else:
                links[i] |= END
    return links


@compiled
def _step(i, links, kinds, codes, first, second):
    """A link's term with its sign, where the chain goes on with its sign, and whether it does."""
    kind, link = kinds[codes[i]], links[i] & 3
    a, b = np.int64(first[i]), np.int64(second[i])
    second_sign = -1 if kind == SUBTRACT else 1
    if kind == NEGATIVE:
        return 0, 1, a, -1, link == FIRST_ON
    if link == SECOND_ON:
        return a, 1, b, second_sign, True
    return b, second_sign, a, 1, link == FIRST_ON


@compiled
def _mixed(x):
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@compiled
def _combined(a, b):
    return _mixed(a * np.uint64(0x9E3779B97F4A7C15) + b + np.uint64(0xD1B54A32D192ED03))


@compiled
def _exponent(value):
    """A number that tells exponents which are structure apart; 0 for all others."""
    twice = 2.0 * value
    if abs(twice) <= STRUCTURAL and twice == np.floor(twice):
        return np.uint64(1 + int(twice + STRUCTURAL))
    return np.uint64(0)


@compiled
def _classify(
    codes, first, second, values, links, kinds, arity, names, marks, records, inputs,
    of, class_codes, operands, hashes, lives, depths,
):  # fmt: skip
    """Fill `of` and what describes classes; return their number, -1 if there are too many."""
    count, room = inputs + 1, depths.size
    mask = 1
    while mask < 4 * room:
        mask *= 2
    slots, mask = np.zeros(mask, np.int32), mask - 1
    seen = np.zeros(room, np.int64)
    for k in range(count):
        hashes[k, 0], hashes[k, 1] = _mixed(np.uint64(k + 1)), np.uint64(0)
    for i in range(1, codes.size):
        code = codes[i]
        if code == INPUT or links[i] & ABSORBED:
            continue
        if code == CONSTANT:
            of[i] = CONSTANTS
            continue
        a, b = first[i], second[i]
        depth, is_constant, class_a, class_b = 0, True, -1, -1
        own, check = np.uint64(0), np.uint64(0)
        if links[i]:
            code, at, goes_on = SUM, np.int64(i), True
            while goes_on:
                term, _, on, _, goes_on = _step(at, links, kinds, codes, first, second)
                for k in range(1 if goes_on else 2):
                    inner = of[on] if k else of[term]
                    if inner != CONSTANTS and seen[inner] != i:
                        seen[inner], is_constant = i, False
                        mixed = _mixed(hashes[inner, 0])
                        own, check = own + mixed, check + _mixed(mixed)
                        depth = max(depth, depths[inner] + 1)
                at = on
            own = _combined(own, np.uint64(SUM))
        else:
            class_a = of[a]
            is_constant = class_a == CONSTANTS
            depth = depths[class_a] + 1
            own = _combined(names[code], hashes[class_a, 0])
            if arity[code] == 2:
                class_b = of[b]
                is_constant = is_constant and class_b == CONSTANTS
                depth = max(depth, depths[class_b] + 1)
                own = _combined(own, hashes[class_b, 0])
                if kinds[code] == POWER and class_b == CONSTANTS:
                    check = _exponent(values[b])
                    own = _combined(own, check)
        if is_constant:
            of[i] = CONSTANTS
            continue
        is_live = marks[i] & LIVE
        mark = np.uint64(4 if i >= records else marks[i] & RESULT or RESULT * (1 - is_live))
        own, check = _combined(own, mark), _combined(check, mark)
        slot = np.int64(own & np.uint64(mask))
        while slots[slot] and hashes[slots[slot], 0] != own:
            slot = (slot + 1) & mask
        k = slots[slot]
        if k == 0:
            if count == room:
                return -1
            k = slots[slot] = count
            count += 1
            class_codes[k], depths[k] = code, depth
            operands[k, 0], operands[k, 1] = class_a, class_b
            hashes[k, 0], hashes[k, 1] = own, check
        elif (
            class_codes[k] != code
            or operands[k, 0] != class_a
            or operands[k, 1] != class_b
            or hashes[k, 1] != check
        ):
            return -1  # two structures of one hash
        of[i] = k
        lives[k, is_live] += 1
    return count


@compiled
def _keep(codes, first, second, arity, marks, of, class_codes, lives, inputs):
    """Mark what nothing needs, but is the lesser part of a class, with all that it needs itself."""
    for i in range(codes.size - 1, 0, -1):
        k = of[i]
        if marks[i] == 0 and k > inputs and class_codes[k] != SUM and lives[k, 0] <= lives[k, 1]:
            marks[i] = KEPT
        if marks[i] == KEPT:
            if arity[codes[i]] and marks[first[i]] == 0:
                marks[first[i]] = KEPT
            if arity[codes[i]] == 2 and marks[second[i]] == 0:
                marks[second[i]] = KEPT


@compiled
def _find(parents, k):
    while parents[k] != k:
        parents[k] = parents[parents[k]]
        k = parents[k]
    return k


@compiled
def _join(ports, parents, sums, i, port):
    """Note a use of a record. What one record is used for stays together."""
    if ports[i] < 0:
        ports[i] = port
        return
    a, b = _find(parents, ports[i]), _find(parents, port)
    if a != b:
        parents[b] = a
        sums[a] += sums[b]


@compiled
def _bucketed(codes, arity, marks, links, of, count, inputs):
    """The records of each class of operations, in their order, and where each class starts."""
    starts = np.zeros(count + 1, np.int64)
    for i in range(codes.size):
        if of[i] > inputs and marks[i] and arity[codes[i]]:
            starts[of[i] + 1] += 1
    starts = np.cumsum(starts)
    at = starts.copy()
    found = np.empty(starts[-1], np.uint32)
    for i in range(codes.size):
        if of[i] > inputs and marks[i] and arity[codes[i]]:
            found[at[of[i]]] = i
            at[of[i]] += 1
    return found, starts


@compiled
def _part_by_use(
    order, codes, first, second, links, kinds, arity, marks, outputs, inputs,
    of, class_codes, hashes, depths, origins,
):  # fmt: skip
    """Part each class by what it is used for, while there is room; return the number of classes.

    A port is an operand of a class, or all terms of one of sums. Ports that read one record in common
    stay together, so that each port still reads one class.
    """
    room, count = depths.size, order.size
    found, starts = _bucketed(codes, arity, marks, links, of, count, inputs)
    ports = np.full(codes.size, -1, np.int32)
    parents, sums = np.arange(4 * room), np.zeros(4 * room, np.uint64)
    parts = np.full(4 * room, -1, np.int64)
    for i in outputs:
        ports[i] = 3 * room + of[i]
    for k in order:
        if k <= inputs:
            continue
        structure, is_first = hashes[k, 0], True
        for i in found[starts[k] : starts[k + 1]]:
            if ports[i] < 0:
                continue  # nothing needs it: it completes the first part
            root = _find(parents, ports[i])
            if parts[root] < 0:
                part = k if is_first or count == room else count
                if part == count:
                    count += 1
                    class_codes[part], depths[part], origins[part] = class_codes[k], depths[k], k
                if is_first or part != k:
                    hashes[part, 0] = _combined(structure, sums[root])
                    for slot in range(3):
                        sums[3 * part + slot] = _combined(hashes[part, 0], np.uint64(slot))
                is_first = False
                parts[root] = part
            of[i] = parts[root]
        for i in found[starts[k] : starts[k + 1]]:
            if ports[i] >= 0:
                parts[_find(parents, ports[i])] = -1
        for i in found[starts[k] : starts[k + 1]]:
            part = of[i]
            if not links[i]:
                if of[first[i]] > inputs:
                    _join(ports, parents, sums, first[i], 3 * part)
                if arity[codes[i]] == 2 and of[second[i]] > inputs:
                    _join(ports, parents, sums, second[i], 3 * part + 1)
                continue
            at, goes_on = np.int64(i), True
            while goes_on:
                term, _, on, _, goes_on = _step(at, links, kinds, codes, first, second)
                if of[term] > inputs:
                    _join(ports, parents, sums, term, 3 * part + 2)
                if not goes_on and of[on] > inputs:
                    _join(ports, parents, sums, on, 3 * part + 2)
                at = on
    return count


@compiled
def _number(codes, first, second, arity, marks, links, outputs, of, places, sizes, inputs):
    """Number the records of each class.

    An operation gets its number when it is met, a sum when it is first used: the sums of an array
    are complete in an order that depends on what was added last.
    """
    for i in range(1, codes.size):
        count = arity[codes[i]]
        if marks[i] == 0 or count == 0:
            continue
        for k in range(3):
            if (k == 1 and count == 1) or (k == 2 and links[i] != 0):
                continue
            one = np.int64(first[i]) if k == 0 else np.int64(second[i]) if k == 1 else i
            if places[one] == NOWHERE and of[one] > inputs:
                places[one] = sizes[of[one]]
                sizes[of[one]] += 1
    for i in outputs:
        if places[i] == NOWHERE and of[i] > inputs:
            places[i] = sizes[of[i]]
            sizes[of[i]] += 1


@compiled
def _fill(of, places, rank, inputs, starts, members):
    for i in range(of.size):
        if of[i] > inputs:
            of[i] = rank[of[i]]
            if places[i] != NOWHERE:
                members[starts[of[i]] + places[i]] = i


@compiled
def _count_terms(
    members, links, kinds, codes, first, second, of, values, totals, constants
):  # fmt: skip
    """The number of terms of each class and sign, and the sum of the constants of each sum."""
    for m in range(members.size):
        at, sign, goes_on = np.int64(members[m]), 1, True
        while goes_on:
            term, term_sign, on, on_sign, goes_on = _step(at, links, kinds, codes, first, second)
            for k in range(1 if goes_on else 2):
                one, one_sign = (on, sign * on_sign) if k else (term, sign * term_sign)
                if of[one] == CONSTANTS:
                    constants[m] += one_sign * values[one]
                else:
                    totals[2 * of[one] + (one_sign < 0)] += 1
            at, sign = on, sign * on_sign


@compiled
def _collect_terms(
    members, links, kinds, codes, first, second, of, places, group, next_place, found, counts
):  # fmt: skip
    """The places of the terms of each group, sum by sum, each in the order of its chain."""
    for m in range(members.size):
        for is_filled in range(2):
            at, sign, goes_on = np.int64(members[m]), 1, True
            while goes_on:
                term, term_sign, on, on_sign, goes_on = _step(
                    at, links, kinds, codes, first, second
                )
                for k in range(1 if goes_on else 2):
                    one, one_sign = (on, sign * on_sign) if k else (term, sign * term_sign)
                    if of[one] != CONSTANTS:
                        g = group[2 * of[one] + (one_sign < 0)]
                        if is_filled:
                            next_place[g] -= 1
                            found[next_place[g]] = places[one]
                        else:
                            counts[g, m] += 1
                            next_place[g] += 1
                at, sign = on, sign * on_sign
        for g in range(counts.shape[0]):
            next_place[g] += counts[g, m]
