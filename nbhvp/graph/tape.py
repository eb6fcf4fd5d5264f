"""The tape: what one run of a loop over scalars computed, operation by operation.

A record is one application of an elementwise primitive of one or two arguments to earlier records:

    w_i = p_i(w_a, w_b),    a = first[i] < i,   b = second[i] < i.

Record 0 is the constant 0.0, so that zeroed memory is a valid active zero. Then come the inputs,
array by array in C order, then operations and constants as the run met them. A comparison or a
conversion to an integer is no record but a guard: a condition on records, with its outcome.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbhvp.graph.primitives import Primitive

__all__ = ["CONSTANT", "FIRST", "INPUT", "Guards", "Tape"]

CONSTANT, INPUT, FIRST = 0, 1, 2
"""Codes of records that are no operations; that of the first primitive of a tape."""


@dataclass(frozen=True, eq=False)
class Guards:
    """Conditions that the run met, in order: their primitives, operands and outcomes."""

    codes: np.ndarray
    """uint8: as in a tape, of primitives with boolean results, or that round."""
    first: np.ndarray
    second: np.ndarray
    outcomes: np.ndarray
    """float64: 0 or 1 for a comparison, the integer for a rounding."""


@dataclass(frozen=True, eq=False)
class Tape:
    """The records of one run, in arrays of one length."""

    primitives: tuple[Primitive, ...]
    """What the codes from FIRST on mean."""
    codes: np.ndarray
    """uint8, one per record."""
    first: np.ndarray
    """uint32: the record that is the first operand; 0 where there is none."""
    second: np.ndarray
    values: np.ndarray
    """float64: what each record was in this run; for a constant, what it is."""
    sizes: tuple[int, ...]
    """The sizes of the inputs: those of input k are records 1 + sum(sizes[:k]) and on."""
    outputs: np.ndarray
    """int64: the records that are the results."""
    guards: Guards

    @property
    def nbytes(self) -> int:
        arrays = (self.codes, self.first, self.second, self.values)
        return sum(array.nbytes for array in arrays)
