"""The sums of a tape: chains of additions, each of which becomes one operation of many terms.

A *link* is a record that adds, subtracts or negates. Its *chain* continues in the operand that is a
link itself, has the same use (results or guards) and is used nowhere else; if both operands are, it
continues in the chain that began first from the number zero, else in the longer one. A chain is a sum
if it starts from the number zero, as accumulators do, or if it is long; a shorter one stays an
expression. If the terms of a sum are chains themselves, as in s <- s + (a + b), the part of the chain
that is no longer than these is the first term of the sum.

Chains of several lengths that have a first term of one kind and others of the same kinds are a *family*:
the rows of a triangle, t_i = b_i + sum_{j < i} c_ij d_j, of many lengths, or the points of a grid, of which
most have all neighbours, 4 u_ij - u_i-1,j - ..., and those at edges less. All are sums, of one class. So is
a first term alone, b_0 here, that is used as the sums are: `with_single_terms` adds zero to it.

One pass forward finds the lengths of chains; one pass backward follows each sum from its last link to
its first and lists the terms. Both visit each record once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from nbhvp.graph.table.tape import CONSTANT, INPUT, Tape
from nbhvp.loops.roll.records import ADD, NEGATIVE, SUBTRACT, Pass, Records, compiled

__all__ = ["Sums", "chains_of", "families_of", "sums_of", "with_single_terms"]

LONG = 8
"""Links from which a chain is a sum whatever it starts from."""
LENGTHS = 3
"""Lengths of short chains in a family."""
MOST_FAMILIES = 16
EDGED = 0.75
"""The part of the chains of a grid that are in it, and have all terms, beside those at its edges."""
LINK, OUTPUT = np.uint64(1 << 62), np.uint64(1 << 63)
"""Uses as an operand of a link and as a result; other uses are bits below."""
LARGEST = 200
"""Where counts of links saturate."""
NEVER = np.uint32(2**32 - 1)
START, IN_FIRST, IN_SECOND = 1, 2, 3
"""Ways of links: the chain starts here, or goes on in the first or in the second operand."""


class Sums(NamedTuple):
    """The terms of all sums, one sum after the other."""

    rows: np.ndarray
    """int32, of each record: the number of its sum, from 1; -1 for a link within one, 0 for others."""
    ends: np.ndarray
    """Where the terms of each sum end, and those of the next begin; ends[0] is 0."""
    terms: np.ndarray
    """Records, the last one of each sum first."""
    signs: np.ndarray
    families: np.ndarray
    """Of each sum: a number that its family has in common; 0 if it has none."""


class _Chains(NamedTuple):
    """Of each link: where its chain goes on, its length, and where it began from zero."""

    ways: np.ndarray
    lengths: np.ndarray
    inner: np.ndarray
    """The length of the term of the last link that has one which is a chain of its own; or 0."""
    begins: np.ndarray
    """The link that adds to zero; NEVER if there is none."""
    kinds: np.ndarray
    """The kinds of the terms so far, but zeros, a bit for each: two may have one bit in common."""
    starts: np.ndarray
    """The kind of the first one, from 1."""
    is_last: np.ndarray


class Family(NamedTuple):
    """Chains with one first term and with terms of some kinds."""

    kinds: int
    start: int
    last: np.ndarray
    """Their last links."""
    has_singles: bool
    """Whether single terms are rows, too."""


def sums_of(records: Records, chains: _Chains, found: list[Family]) -> Sums:
    """All sums among the records, with the families among them."""
    n, links = records.codes.size, np.count_nonzero(chains.ways)
    family_of = np.zeros(n if found else 0, np.uint8)
    for k, one in enumerate(found, start=1):
        family_of[one.last] = k
    keys = np.array([0, *(one.kinds ^ one.start for one in found)], np.uint64)
    rows, ends = np.zeros(n, np.int32), np.zeros(links + 1, np.int64)
    terms, signs = np.empty(2 * links, np.uint32), np.empty(2 * links, np.int8)
    families = np.zeros(links, np.uint64)
    _walk(records, chains, rows, ends, terms, signs, family_of, keys, families)
    return Sums(rows, ends, terms, signs, families)


def chains_of(records: Records, marks: np.ndarray, is_alone: np.ndarray) -> _Chains:
    """What is known of chains, by what needs each record (`needs`)."""
    n = records.codes.size
    counts = (np.zeros(n, np.uint8) for _ in range(3))
    chains = _Chains(
        *counts, np.full(n, NEVER), np.zeros(n, np.uint64), np.zeros(n, np.uint8),
        np.zeros(n, bool),
    )  # fmt: skip
    _find_chains(records, marks, is_alone, chains)
    return chains


def families_of(chains: _Chains) -> list[Family]:
    """The families of chains; none if there are many kinds of chains."""
    _, lengths, _, begins, kinds, starts, is_last = chains
    may_be = is_last & ((lengths >= LONG) | ((lengths > 1) & (begins == NEVER)))
    some = np.flatnonzero(may_be)
    _, first = np.unique(kinds[some] * np.uint64(131) + starts[some], return_index=True)
    keys = [(int(kinds[i]), int(starts[i])) for i in some[first]]
    found = []
    for kind, start in keys if len(keys) <= MOST_FAMILIES else ():
        last = np.flatnonzero((kinds == np.uint64(kind)) & (starts == start) & is_last)
        counts = lengths[last].astype(int) + (begins[last] == NEVER)
        short = np.unique(counts[counts <= LONG])
        is_triangle = counts.max() > LONG and short.size >= LENGTHS
        is_edged = EDGED <= np.count_nonzero(counts == counts.max()) / last.size < 1
        if not is_triangle and not (is_edged and (begins[last] == NEVER).all()):
            continue
        has_singles = is_triangle and bool(short[0] == 2)
        if has_singles:
            is_part = (kinds & ~np.uint64(kind) == 0) & (kinds != np.uint64(kind))
            singles = is_part & (lengths == 1) & (begins != NEVER) & is_last
            last = np.concatenate((last, np.flatnonzero(singles)))
        found.append(Family(kind, start, last, has_singles))
    return found


def with_single_terms(tape: Tape, records: Records, chains: _Chains, found: list[Family]) -> Tape:
    """The tape with zero added to each term that is alone where other rows of its family are sums."""
    found = [one for one in found if one.has_singles and chains.begins[one.last[0]] == NEVER]
    if not found:
        return tape
    n = records.codes.size
    uses, kinds = np.zeros(n, np.uint64), np.zeros(n, np.uint8)
    uses[tape.outputs] = OUTPUT
    _find_uses(records, uses, kinds)
    is_single = np.zeros(n, bool)
    for one in found:
        others = ~np.bitwise_or.reduce(uses[one.last])
        if others & LINK:
            is_single |= (kinds == one.start) & (uses != 0) & (uses & others == 0)
    is_single = (is_single & (chains.ways == 0))[: tape.codes.size]
    is_single[: tape.start] = False
    return _with_sums(tape, is_single, records) if is_single.any() else tape


def _with_sums(tape: Tape, is_single: np.ndarray, records: Records) -> Tape:
    """The tape with a sum of one term behind each of some records, for all that read these."""
    size = tape.codes.size + int(np.count_nonzero(is_single))
    kinds = records.kinds[tape.codes]
    at = np.argmax(kinds == (ADD if (kinds == ADD).any() else SUBTRACT))
    columns = tuple(
        np.empty(size, a.dtype) for a in (tape.codes, tape.first, tape.second, tape.values)
    )
    read = np.empty(tape.codes.size, np.uint32)
    _insert(
        tape.codes, tape.first, tape.second, tape.values, is_single, tape.codes[at], columns, read
    )
    guards = replace(tape.guards, first=read[tape.guards.first], second=read[tape.guards.second])
    codes, first, second, values = columns
    outputs = read[tape.outputs].astype(np.int64)
    return replace(
        tape, codes=codes, first=first, second=second, values=values, outputs=outputs, guards=guards
    )


@Pass
def _insert(codes, first, second, values, is_single, code, columns, read):
    """Copy records, and sums of zero and some of these; note where each is read from then on."""
    new_codes, new_first, new_second, new_values = columns
    at = 0
    for i in range(codes.size):
        new_codes[at], new_values[at], read[i] = codes[i], values[i], at
        new_first[at], new_second[at] = read[first[i]], read[second[i]]
        at += 1
        if is_single[i]:
            new_codes[at], new_values[at], read[i] = code, values[i], at
            new_first[at], new_second[at] = at - 1, 0
            at += 1


@Pass
def _find_uses(records, uses, found):
    """A bit for each use of each record, and the kind of each."""
    codes, first, second, _, arity, kinds, names, _ = records
    for i in range(1, codes.size):
        code = codes[i]
        found[i] = 1 + _kind(i, names, codes, first, second)
        for slot in range(arity[code]):
            a = second[i] if slot else first[i]
            if 0 < kinds[code] <= NEGATIVE:
                uses[a] |= LINK
            else:
                mixed = (names[code] + np.uint64(slot)) * np.uint64(0x9E3779B97F4A7C15)
                uses[a] |= np.uint64(1) << ((mixed >> np.uint64(32)) % np.uint64(62))


@compiled
def _kind(i, names, codes, first, second):
    """A number below 64 for the operation that a record is, and those that its operands are."""
    mixed = np.uint64(1)
    for code in (codes[i], codes[first[i]], codes[second[i]]):
        word = names[code] + np.uint64(code == INPUT)
        mixed = (mixed ^ word) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed >> np.uint64(58)


@Pass
def _find_chains(records, marks, is_alone, chains):
    """Fill what is known of chains."""
    codes, first, second, values, _, kinds, names, count = records
    ways, lengths, inner, begins, terms, starts, is_last = chains
    for i in range(1, count):
        kind, a, b = kinds[codes[i]], first[i], second[i]
        if kind == 0 or kind > NEGATIVE:
            continue
        is_last[i] = True
        a_goes_on = ways[a] != 0 and is_alone[a] and marks[a] == marks[i]
        if kind == NEGATIVE:
            ways[i] = START
            if a_goes_on:
                ways[i], begins[i], lengths[i], inner[i] = IN_FIRST, begins[a], lengths[a], inner[a]
                terms[i], starts[i], is_last[a] = terms[a], starts[a], False
            continue
        ways[i], lengths[i] = START, 1
        for one in (b, a):
            if codes[one] == CONSTANT and values[one] == 0.0:
                begins[i] = i
            else:
                bit = _kind(one, names, codes, first, second)
                terms[i], starts[i] = terms[i] | np.uint64(1) << bit, 1 + bit
        b_goes_on = ways[b] != 0 and is_alone[b] and marks[b] == marks[i]
        if begins[i] != NEVER or not (a_goes_on or b_goes_on):
            continue
        is_second = not a_goes_on
        if a_goes_on and b_goes_on:
            is_longer = begins[b] == begins[a] and lengths[b] > lengths[a]
            is_second = is_longer or begins[b] < begins[a]
        on, term = (b, a) if is_second else (a, b)
        bit = _kind(term, names, codes, first, second)
        terms[i], starts[i] = terms[on] | np.uint64(1) << bit, starts[on]
        is_last[on] = False
        ways[i], begins[i] = IN_SECOND if is_second else IN_FIRST, begins[on]
        lengths[i] = min(LARGEST, lengths[on] + 1)
        inner[i] = lengths[term] if a_goes_on and b_goes_on else 0


@Pass
def _walk(records, chains, rows, ends, terms, signs, family_of, keys, families):
    """Walk all sums, and write down their terms."""
    codes, first, second, _, _, kinds, _, count = records
    ways, lengths, inner, begins, _, _, _ = chains
    row = at = 0
    for i in range(count - 1, 0, -1):
        is_from_zero = begins[i] != NEVER
        family = family_of[i] if family_of.size else 0
        is_sum = is_from_zero or family or lengths[i] >= LONG
        if ways[i] == 0 or rows[i] or not is_sum:
            continue
        row += 1
        rows[i], families[row - 1] = row, keys[family]
        least = 0 if is_from_zero else inner[i]
        link, sign = i, 1
        while link:
            way, kind, a, b = ways[link], kinds[codes[link]], first[link], second[link]
            if least and lengths[b if way == IN_SECOND else a] <= least:
                way = START
            sign_a = -sign if kind == NEGATIVE else sign
            sign_b = -sign if kind == SUBTRACT else sign
            if way != IN_SECOND and kind != NEGATIVE:
                terms[at], signs[at] = b, sign_b
                at += 1
            if way != IN_FIRST:
                terms[at], signs[at] = a, sign_a
                at += 1
            link, sign = (b, sign_b) if way == IN_SECOND else (a, sign_a)
            if way == START:
                link = 0
            else:
                rows[link] = -1
        ends[row] = at
