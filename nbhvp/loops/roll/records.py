"""The records of a tape as arrays for passes, and the use of each record.

Guards follow after the records, with their outcomes as values, since they are conditions on records as
operations are functions of them. A named tuple of arrays is one argument for Numba, and all columns
are read-only, so each pass is compiled once, and only for many records (`Pass`). The missing operand
of a unary record is record 0, a constant, so passes treat all records alike. A pass unpacks the
columns first, and calls no function that writes into arrays for each record: both would count
references at each record. Its memory comes from NumPy, which needs no compiling.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from nbhvp.graph import primitives as p
from nbhvp.graph.table.tape import CONSTANT, FIRST, INPUT, Tape

__all__ = [
    "ADD", "LIVE", "NEGATIVE", "PARTIAL", "POWER", "RESULT", "SUBTRACT", "Pass", "Records", "compiled",
    "needs", "of_numbers", "records_of",
]  # fmt: skip

assert (CONSTANT, INPUT) == (0, 1), "other numbers need another text, or numba's cache is stale"

ADD, SUBTRACT, NEGATIVE, POWER, OTHER, PARTIAL = range(1, 7)
"""The kinds of primitives that the passes tell apart. Partial ones have no value or derivative somewhere."""
LIVE, RESULT = 1, 2
"""Marks of records that a guard or a result needs, and that a result needs."""


FEW, FEWER = 120_000, 3000
"""Records that a pass goes through as plain Python, call by call, before it is compiled; and before it
is loaded if it has been compiled on this machine. It takes some microseconds for each, 0.1 to 1 s to
compile, and 0.01 s to load; the first that is loaded has Numba prepare for 0.2 s, unless the function was
compiled for its tape."""


def compiled(function):
    """The function compiled by Numba, and kept in its cache where a folder can be written."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return njit(nogil=True)(function)


def of_numbers(function):
    """The same for a function of numbers, which as plain Python is called once for equal ones."""
    made = compiled(function)
    made.is_of_numbers = True
    return made


class Pass:
    """A pass over records, which Python calls: plain as long as all its calls have few records.

    Integers of NumPy wrap around in both forms; what is multiplied is a 64-bit integer in the text,
    because Numba widens narrower ones and NumPy does not.
    """

    plain = 0
    """Records that all passes went through as Python."""

    def __init__(self, function: Callable):
        self._compiled, self._records = compiled(function), 0
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any) -> Any:
        records = max(len(column) for arg in args for column in _columns(arg))
        self._records += records
        is_prepared = Pass.plain > FEW or "nbhvp.loops.overloads.active" in sys.modules
        if self._records > (most(self._compiled) if is_prepared else FEW):
            return self._compiled(*args)
        Pass.plain += records
        with np.errstate(over="ignore"):
            return _as_python(self._compiled)(*args)


def _columns(argument: Any) -> Iterable[np.ndarray]:
    """The arrays of an argument."""
    columns = argument if isinstance(argument, tuple) else (argument,)
    return (column for column in columns if isinstance(column, np.ndarray))


@functools.cache
def most(function: Any) -> int:
    """How many records a pass takes as plain Python; fewer if Numba's cache has it."""
    folder = function.stats.cache_path
    is_there = folder is not None and any(Path(folder).glob(f"*.{function.__name__}-*.nbi"))
    return FEWER if is_there else FEW


@functools.cache
def _as_python(function: Any) -> Callable:
    """A compiled function as Python, and all that it calls."""
    plain = function.py_func
    names = {k: v for k, v in plain.__globals__.items() if k in plain.__code__.co_names}
    called = {k: _as_python(v) for k, v in names.items() if hasattr(v, "py_func")}
    made = types.FunctionType(plain.__code__, plain.__globals__ | called, plain.__name__)
    is_of_numbers = getattr(function, "is_of_numbers", False)
    return functools.lru_cache(maxsize=1 << 14)(made) if is_of_numbers else made


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
        kinds[code] = special.get(entry, OTHER if entry.domain == p.ANY else PARTIAL)
        digest = hashlib.blake2b(entry.name.encode(), digest_size=8).digest()
        names[code] = np.frombuffer(digest, np.uint64)[0]
    return arity, kinds, names


def needs(records: Records, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What needs each record; and whether it is used once by its like, those needed or those not."""
    n = records.codes.size
    marks, is_alone = np.zeros(n, np.uint8), np.zeros(n, bool)
    _find_needs(records, outputs, marks, is_alone, np.zeros((n, 2), np.uint8))
    return marks, is_alone


@Pass
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
