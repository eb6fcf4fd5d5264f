"""The sums of a tape: chains of additions, each of which becomes one operation of many terms.

A *link* is a record that adds, subtracts or negates. Its *chain* continues in the operand that is a
link itself, has the same use (results or guards) and is used nowhere else; if both operands are, it
continues in the chain that began first from the number zero, else in the longer one. A chain is a sum if it starts from the number zero, as accumulators do,
or if it is long; a shorter one stays an expression. If the terms of a sum are chains themselves, as in
s <- s + (a + b), the part of the chain that is no longer than these is the first term of the sum.

One pass forward finds the lengths of chains; one pass backward follows each sum from its last link to
its first and lists the terms. Both visit each record once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nbhvp.graph.table.tape import CONSTANT
from nbhvp.loops.roll.records import NEGATIVE, SUBTRACT, Pass, Records

__all__ = ["Sums", "sums_of"]

LONG = 8
"""Links from which a chain is a sum whatever it starts from."""
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


class _Chains(NamedTuple):
    """Of each link: where its chain goes on, its length, and where it began from zero."""

    ways: np.ndarray
    lengths: np.ndarray
    inner: np.ndarray
    """The length of the term of the last link that has one which is a chain of its own; or 0."""
    begins: np.ndarray
    """The link that adds to zero; NEVER if there is none."""


def sums_of(records: Records, marks: np.ndarray, is_alone: np.ndarray) -> Sums:
    """All sums among the records, by what needs these (`needs`)."""
    n = records.codes.size
    counts = (np.zeros(n, np.uint8) for _ in range(3))
    chains = _Chains(*counts, np.full(n, NEVER))
    links = _find_chains(records, marks, is_alone, chains)
    rows, ends = np.zeros(n, np.int32), np.zeros(links + 1, np.int64)
    terms, signs = np.empty(2 * links, np.uint32), np.empty(2 * links, np.int8)
    _walk(records, chains, rows, ends, terms, signs)
    return Sums(rows, ends, terms, signs)


@Pass
def _find_chains(records, marks, is_alone, chains):
    """Fill what is known of chains; return the number of links."""
    codes, first, second, values, _, kinds, _, count = records
    ways, lengths, inner, begins = chains
    links = 0
    for i in range(1, count):
        kind, a, b = kinds[codes[i]], first[i], second[i]
        if kind == 0 or kind > NEGATIVE:
            continue
        links += 1
        a_goes_on = ways[a] != 0 and is_alone[a] and marks[a] == marks[i]
        if kind == NEGATIVE:
            ways[i] = IN_FIRST if a_goes_on else START
            lengths[i], inner[i], begins[i] = (
                lengths[a],
                inner[a],
                begins[a] if a_goes_on else NEVER,
            )
            continue
        ways[i], lengths[i] = START, 1
        for one in (a, b):
            if codes[one] == CONSTANT and values[one] == 0.0:
                begins[i] = i
        b_goes_on = ways[b] != 0 and is_alone[b] and marks[b] == marks[i]
        if begins[i] != NEVER or not (a_goes_on or b_goes_on):
            continue
        is_second = not a_goes_on
        if a_goes_on and b_goes_on:
            is_longer = begins[b] == begins[a] and lengths[b] > lengths[a]
            is_second = is_longer or begins[b] < begins[a]
        on, term = (b, a) if is_second else (a, b)
        ways[i], begins[i] = IN_SECOND if is_second else IN_FIRST, begins[on]
        lengths[i] = min(LARGEST, lengths[on] + 1)
        inner[i] = lengths[term] if a_goes_on and b_goes_on else 0
    return links


@Pass
def _walk(records, chains, rows, ends, terms, signs):
    """Walk all sums, and write down their terms."""
    codes, first, second, _, _, kinds, _, count = records
    ways, lengths, inner, begins = chains
    row = at = 0
    for i in range(count - 1, 0, -1):
        is_from_zero = begins[i] != NEVER
        if ways[i] == 0 or rows[i] or not (is_from_zero or lengths[i] >= LONG):
            continue
        row += 1
        rows[i] = row
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
