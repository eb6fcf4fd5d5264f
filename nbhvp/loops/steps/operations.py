"""The operations of a tape in order, without its constants.

Equal constants share a record as long as the recorder remembers it, so where constants stand on a tape
follows no period. Without them an operand is a *reference*: the rank of an operation among all
operations, or, below 0, a record that is none.
"""

from __future__ import annotations

from dataclasses import dataclass

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

    def kinds_of(self, references: np.ndarray) -> np.ndarray:
        return _kinds(self.tape, references)

    def record(self, reference: int) -> int:
        return int(self.records[reference]) if reference >= 0 else -1 - reference

    def value(self, reference: int) -> float:
        return float(self.tape.values[self.record(reference)])

    def values(self, references: np.ndarray) -> np.ndarray:
        """What records that are no operations hold."""
        return self.tape.values[-1 - references]

    @property
    def guards(self) -> np.ndarray:
        """The references of the operands of guards: shape (2, m)."""
        guards = self.tape.guards
        return self.references[np.stack([guards.first, guards.second])]


def operations_of(tape: Tape) -> Operations:
    records = np.flatnonzero(tape.codes >= FIRST).astype(np.int32)
    references = np.arange(-1, -1 - tape.codes.size, -1, dtype=np.int32)
    references[records] = np.arange(records.size, dtype=np.int32)
    operands, kinds = np.empty((2, records.size), np.int32), np.empty((2, records.size), np.int16)
    for start in range(0, records.size, PART):
        part = slice(start, start + PART)
        for k, column in enumerate((tape.first, tape.second)):
            operands[k, part] = references[column[records[part]]]
            kinds[k, part] = _kinds(tape, operands[k, part])
    return Operations(tape, records, tape.codes[records], operands, kinds, references)


def _kinds(tape: Tape, references: np.ndarray) -> np.ndarray:
    """The kind of each operand. Constants behind the inputs are of kind 0, as record 0 is."""
    ends = np.cumsum([1, *tape.sizes])
    table = np.repeat(np.arange(len(tape.sizes) + 1, dtype=np.int16), (1, *tape.sizes))
    records = -1 - references
    kinds = np.where(records < ends[-1], table[np.clip(records, 0, ends[-1] - 1)], CONSTANT)
    return np.where(references >= 0, OPERATION, kinds).astype(np.int16)
