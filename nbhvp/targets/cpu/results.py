"""Memory for results: a large result uses the memory of an earlier one that has been deleted.

The system zeroes every page of new memory, 0.25 ms for a megabyte, which is longer than most products
take to fill it. So the memory of a large result is not freed when the result and all its views have
been deleted: it is kept for the next result of about its size.

Invariant: no other object refers to the memory of a new result, as for an array of `np.empty`.
"""

from __future__ import annotations

import math
import os

import numpy as np

from nbhvp.plan.costs import CPU

__all__ = ["empty", "forget"]

SHARE = 32
"""No more than this part of the machine's memory waits here."""

_waiting: dict[int, list[np.ndarray]] = {}
"""Free memory by its size in bytes, the size that was freed last at the end. Threads append and
pop, each in one step of the interpreter, and so need no lock."""


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array like that of `np.empty`."""
    size = math.prod(shape) * dtype.itemsize
    if size < CPU.l2:  # NumPy and malloc use it again themselves
        return np.empty(shape, dtype)
    try:
        memory = _waiting[size].pop()
    except (KeyError, IndexError):
        memory = np.empty(size, np.uint8)
    return np.asarray(_Lease(memory, shape, dtype))


def forget() -> None:
    """Give all waiting memory back to the system."""
    _waiting.clear()


class _Lease:
    """What an array and its views refer to; when it dies, its memory is free."""

    def __init__(self, memory: np.ndarray, shape: tuple[int, ...], dtype: np.dtype):
        self._memory = memory
        address = memory.__array_interface__["data"]
        self.__array_interface__ = dict(version=3, data=address, shape=shape, typestr=dtype.str)

    def __del__(self):
        if _waiting is None or _MEMORY is None:
            return  # the interpreter ends, and has emptied this module
        size = self._memory.nbytes
        waiting = _waiting.pop(size, [])
        waiting.append(self._memory)
        _waiting[size] = waiting
        while sum(size * len(some) for size, some in list(_waiting.items())) > _MEMORY // SHARE:
            _drop_oldest()


def _drop_oldest() -> None:
    for size, some in list(_waiting.items()):
        if len(some) > 1:
            some.pop()
            return
        if _waiting.pop(size, None):
            return


def _installed() -> int:
    """Bytes of the machine's memory; those of a small one, where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 4 << 30


_MEMORY = _installed()
