"""The operations of a tape in order, without its constants.

Equal constants share a record as long as the recorder remembers it, so where constants stand on a tape
follows no period. Without them an operand is a *reference*: the rank of an operation among all
operations, or, below 0, a record that is none.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nbhvp.graph.table.tape import FIRST, Tape

__all__ = ["CONSTANT", "OPERATION", "PART", "Operations", "operations_of"]

OPERATION, CONSTANT = -1, 0
"""Kinds of operands; those of input k have the kind k + 1."""
PART = 1 << 20
"""Operations that a pass over arrays goes through at a time, which bounds its memory."""


@dataclass(frozen=True, eq=False)
class Operations:
    """The operations of a tape: arrays over all of them, with a row for each of two operands."""

    tape: Tape
    records: np.ndarray
    codes: np.ndarray
    operands: np.ndarray
    """int32, of shape (2, n): references."""
    kinds: np.ndarray
    """int16, of shape (2, n)."""
    references: np.ndarray
    """int32: the reference of each record."""

    @property
    def size(self) -> int:
        return self.codes.size

    @cached_property
    def _ends(self) -> list[int]:
        """The records at which the inputs begin and end."""
        return np.cumsum([1, *self.tape.sizes]).tolist()

    def kinds_of(self, references: np.ndarray) -> np.ndarray:
        return _kinds(np.array(self._ends), references)

    def kind_of(self, reference: int) -> int:
        """The kind of one operand, which is asked for often."""
        if reference >= 0:
            return OPERATION
        record = -1 - reference
        return bisect_right(self._ends, record) if record < self._ends[-1] else CONSTANT

    def record(self, reference: int) -> int:
        return int(self.records[reference]) if reference >= 0 else -1 - reference

    def value(self, reference: int) -> float:
        return float(self.tape.values[self.record(reference)])

    def values(self, references: np.ndarray) -> np.ndarray:
        """What records that are no operations hold."""
        return self.tape.values[-1 - references]

    def before(self, record: int) -> int:
        """How many operations there are before a record."""
        return int(np.searchsorted(self.records, record))

    @property
    def guards(self) -> np.ndarray:
        """The references of the operands of guards: shape (2, m)."""
        guards = self.tape.guards
        return self.references[np.stack([guards.first, guards.second])]


def operations_of(tape: Tape) -> Operations:
    records = np.flatnonzero(tape.codes >= FIRST).astype(np.int32)
    references = np.arange(-1, -1 - tape.codes.size, -1, dtype=np.int32)
    references[records] = np.arange(records.size, dtype=np.int32)
    ends = np.cumsum([1, *tape.sizes])
    operands, kinds = np.empty((2, records.size), np.int32), np.empty((2, records.size), np.int16)
    for start in range(0, records.size, PART):
        part = slice(start, start + PART)
        for k, column in enumerate((tape.first, tape.second)):
            operands[k, part] = references[column[records[part]]]
            kinds[k, part] = _kinds(ends, operands[k, part])
    return Operations(tape, records, tape.codes[records], operands, kinds, references)


def _kinds(ends: np.ndarray, references: np.ndarray) -> np.ndarray:
    """The kind of each operand. Constants behind the inputs are of kind 0, as record 0 is."""
    records = -1 - references
    kinds = np.where(records < ends[-1], np.searchsorted(ends, records, side="right"), CONSTANT)
    return np.where(references >= 0, OPERATION, kinds).astype(np.int16)
