"""Batches of data: what a sum runs over, and chunks of arrays that lie on the disk.

A batch is the further arguments of a function: a tuple by position, a mapping by name, anything else as
the one argument. Batches come as a sequence, or from a function without arguments that makes an
iterable anew each time, so that data of any size pass through memory.
"""

from __future__ import annotations

import math
import mmap
import operator
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Chunks", "Span", "arguments", "chunks", "prefetched"]


def arguments(batch: Any) -> tuple[tuple, dict]:
    """The arguments that a batch stands for."""
    if isinstance(batch, Mapping):
        return (), dict(batch)
    return (batch if isinstance(batch, tuple) else (batch,)), {}


def chunks(*arrays: Any, rows: int) -> Chunks:
    """The rows of arrays in batches, as a sequence of tuples of arrays.

    Parameters
    ----------
    *arrays : ndarray or numpy.memmap
        Of the same length. Chunks of a ``numpy.memmap`` are read from the file when they are needed, and
        their pages do not stay in memory.
    rows : int
        The rows of a chunk; the last one may have fewer.

    Returns
    -------
    Chunks
        For `sum_over`. In other processes a ``memmap`` is opened again, so no data are sent.

    Examples
    --------
    >>> import numpy as np, nbhvp
    >>> batches = nbhvp.chunks(np.ones((10, 3)), np.zeros(10), rows=4)
    >>> len(batches), [X.shape for X, y in batches]
    (3, [(4, 3), (4, 3), (2, 3)])
    """
    if not arrays:
        raise TypeError("needed at least one array")
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(f"needed arrays of one length, got {', '.join(map(str, lengths))}")
    rows = operator.index(rows)
    if rows < 1:
        raise ValueError(f"needed at least one row in a chunk, got {rows}")
    return Chunks(arrays, rows)


class Chunks(Sequence):
    """Rows of arrays in batches; see `chunks`."""

    def __init__(self, arrays: tuple, rows: int):
        self.arrays, self.rows = arrays, rows

    def __len__(self) -> int:
        return math.ceil(len(self.arrays[0]) / self.rows)

    def __getitem__(self, k: Any) -> Any:
        if not -len(self) <= k < len(self):
            raise IndexError(k)
        k %= len(self)
        at = slice(k * self.rows, (k + 1) * self.rows)
        return tuple(_in_memory(array[at]) for array in self.arrays)

    def __reduce__(self) -> tuple:
        return _reopened, (type(self), tuple(map(_place, self.arrays)), self.rows)


class Span(Sequence):
    """Some neighbouring items of a sequence."""

    def __init__(self, whole: Sequence, places: range):
        self._whole, self._places = whole, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, k: Any) -> Any:
        return self._whole[self._places[k]]


def _in_memory(part: Any) -> np.ndarray:
    """A part of an array: read if it lies in a file, and read-only, so that nobody has to compare it."""
    if isinstance(part, np.memmap):
        array = np.array(part)
        _release(part)
    else:
        array = np.asarray(part).view()
    array.flags.writeable = False
    return array


def _release(part: Any) -> None:
    """Let go of the pages of a part that was read, which would stay resident while the file is open."""
    if part.size and _is_of_file(part) and hasattr(mmap, "MADV_DONTNEED"):
        first, last = (end - _start(part) for end in np.lib.array_utils.byte_bounds(part))
        first -= first % mmap.PAGESIZE
        part._mmap.madvise(mmap.MADV_DONTNEED, first, last - first)


def _is_of_file(array: np.memmap) -> bool:
    """Whether the elements are those of the file: not where changes stay in memory."""
    return array.filename is not None and array.mode != "c"


def _place(array: Any) -> Any:
    """Where the elements of a memmap lie in its file; other arrays as they are."""
    contiguous = array.flags.c_contiguous or array.flags.f_contiguous
    if not isinstance(array, np.memmap) or not _is_of_file(array) or not contiguous:
        return np.asarray(array)
    first = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY  # where the map begins
    offset = first + array.ctypes.data - _start(array)
    order = "C" if array.flags.c_contiguous else "F"
    return _File(str(array.filename), array.dtype, offset, array.shape, order)


def _start(array: Any) -> int:
    """The address of a map."""
    return np.frombuffer(array._mmap, np.uint8).ctypes.data


class _File(NamedTuple):
    """The arguments of a memmap."""

    name: str
    dtype: np.dtype
    offset: int
    shape: tuple
    order: Any


def _reopened(kind: type[Chunks], arrays: tuple, rows: int) -> Chunks:
    return kind(tuple(map(_opened, arrays)), rows)


def _opened(given: Any) -> Any:
    if not isinstance(given, _File):
        return given
    return np.memmap(given.name, given.dtype, "r", given.offset, given.shape, given.order)


def prefetched(items: Iterator) -> Iterator:
    """The items of an iterator, the next one made by a thread while one is in use."""
    with ThreadPoolExecutor(1, "nbhvp-read") as reader:
        end = object()
        waiting = reader.submit(next, items, end)
        while (item := waiting.result()) is not end:
            waiting = reader.submit(next, items, end)
            yield item
