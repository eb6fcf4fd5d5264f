"""Writes of a function into arrays of its caller, and other arrays that share their memory.

x and the arguments of a call are never modified: a write into one of them makes a new value within the
trace. In plain Python every other array that shares this memory would show the write: another
argument, x, or an array that the function closes over. A call with such arrays is refused. Two calls
may differ in this, so a trace that writes keeps its `Aliases`, which are tested for each call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["SHARED_MEMORY", "Aliases", "share_memory"]

SHARED_MEMORY = (
    "the function writes into an array of its caller whose memory another array shares (an "
    "argument, x, or one that the function closes over)"
)
_ENOUGH = 10_000
"""Steps of a search after which two arrays count as sharing memory."""


def share_memory(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays have an element in common."""
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
        return _overlap(a, b)
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=_ENOUGH)
    except np.exceptions.TooHardError:
        return True


def _overlap(a: Any, b: Any) -> bool:
    """The same of arrays of which one is on a device, where all are in C order."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return False
    return a.address < b.address + b.nbytes and b.address < a.address + a.nbytes


@dataclass(frozen=True)
class Aliases:
    """What a trace writes of its inputs, and which other arrays must not show that."""

    written: tuple[int, ...]
    """x is 0, the arguments follow."""
    held: tuple[np.ndarray, ...]
    """What the function closes over."""
    scratch: tuple[np.ndarray, ...] = ()
    """Those of `held` that it writes."""

    def allow(self, inputs: Sequence[np.ndarray]) -> bool:
        """Whether no other array of a call, nor one closed over, shows what is written."""
        others = (*inputs, *self.held)
        pairs = [
            *((inputs[k], other) for k in self.written for j, other in enumerate(others) if j != k),
            *((array, other) for array in self.scratch for other in inputs),
            *(
                (array, other)
                for array in self.scratch
                for other in self.held
                if other is not array
            ),
        ]
        return not any(share_memory(*pair) for pair in pairs)
