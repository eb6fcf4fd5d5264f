"""The records of a tape as arrays for compiled passes, and the use of each record.

Guards follow after the records, with their outcomes as values, since they are conditions on records as
operations are functions of them. A named tuple of arrays is one argument for Numba, and all columns
are read-only, so each pass is compiled once. The missing operand of a unary record is record 0, a
constant, so passes treat all records alike. A pass unpacks the columns first, and calls no function
that writes into arrays for each record: both would count references at each record. Its memory comes
from NumPy, which needs no compiling.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from numba import njit

from nbhvp.graph import primitives as p
from nbhvp.graph.table.tape import CONSTANT, FIRST, INPUT, Tape

__all__ = [
    "ADD", "LIVE", "NEGATIVE", "POWER", "RESULT", "SUBTRACT", "Records", "compiled", "needs",
    "records_of",
]  # fmt: skip

assert (CONSTANT, INPUT) == (0, 1), "other numbers need another text, or numba's cache is stale"

ADD, SUBTRACT, NEGATIVE, POWER, OTHER = range(1, 6)
"""The kinds of primitives that the passes tell apart."""
LIVE, RESULT = 1, 2
"""Marks of records that a guard or a result needs, and that a result needs."""


def compiled(function):
    """The function compiled by Numba, and kept in its cache where a folder can be written."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return njit(nogil=True)(function)


class Records(NamedTuple):
    """Columns of a tape and of its guards, and tables of its primitives by code."""

    codes: np.ndarray
    first: np.ndarray
    second: np.ndarray
    values: np.ndarray
    arity: np.ndarray
    kinds: np.ndarray
    names: np.ndarray
    """A hash of the name of each primitive."""
    count: int
    """How many records are no guards."""


def records_of(tape: Tape) -> Records:
    """The records of a tape, then its guards."""
    guards = tape.guards
    pairs = (
        (tape.codes, guards.codes),
        (tape.first, guards.first),
        (tape.second, guards.second),
        (tape.values, guards.outcomes),
    )
    columns = [np.concatenate((a, b.astype(a.dtype))) if b.size else a.view() for a, b in pairs]
    for column in columns:
        column.flags.writeable = False
    return Records(*columns, *_tables(tape), tape.codes.size)


def _tables(tape: Tape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each code: how many operands it has, its kind, and a hash of its name."""
    special = {p.add: ADD, p.subtract: SUBTRACT, p.negative: NEGATIVE, p.power: POWER}
    arity, kinds = np.zeros(256, np.uint8), np.zeros(256, np.uint8)
    names = np.zeros(256, np.uint64)
    for code, entry in enumerate(tape.primitives, start=FIRST):
        arity[code] = entry.arity
        kinds[code] = special.get(entry, OTHER)
        digest = hashlib.blake2b(entry.name.encode(), digest_size=8).digest()
        names[code] = np.frombuffer(digest, np.uint64)[0]
    return arity, kinds, names


def needs(records: Records, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What needs each record; and whether it is used once by its like, those needed or those not."""
    n = records.codes.size
    marks, is_alone = np.zeros(n, np.uint8), np.zeros(n, bool)
    _find_needs(records, outputs, marks, is_alone, np.zeros((n, 2), np.uint8))
    return marks, is_alone


@compiled
def _find_needs(records, outputs, marks, is_alone, uses):
    first, second = records.first, records.second
    marks[records.count :] = LIVE
    for i in outputs:
        uses[i, 1], marks[i] = 2, LIVE | RESULT
    for i in range(marks.size - 1, 0, -1):
        is_live = marks[i] & LIVE
        is_alone[i] = uses[i, is_live] == 1
        for a in (first[i], second[i]):
            marks[a] |= marks[i]
            uses[a, is_live] = min(2, uses[a, is_live] + 1)
