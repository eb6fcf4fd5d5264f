"""Tables of kernels: words that are addresses in buffers, integers, or the bits of floats."""

import operator
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

__all__ = ["Ref", "words_of"]


@dataclass(frozen=True)
class Ref:
    """An address in a table: so many bytes into a buffer that is placed later."""

    buffer: Hashable
    offset: int = 0


def words_of(entry, addresses=None):
    if isinstance(entry, Ref):
        return [addresses[entry.buffer] + entry.offset]
    if isinstance(entry, complex | np.complexfloating):
        return [*words_of(float(entry.real)), *words_of(float(entry.imag))]
    if isinstance(entry, float | np.floating):
        return [np.float64(entry).view(np.int64)]
    return [operator.index(entry)]
