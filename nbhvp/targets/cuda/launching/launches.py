"""The launches of a program as words, and the loop that hands them to the driver.

`launch` is lowered like a kernel: from Python each launch would take ten times as long. The words are a
header (the number of launches, the address of cuLaunchKernel, the stream), a record for each launch (the
kernel's handle, the grid, the threads of a block, the bytes that they share, the address of the table) and the tables.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbhvp.targets.lowering.vocabulary import ask, read
from nbhvp.targets.lowering.words import driver
from nbhvp.targets.tables import Ref, words_of

__all__ = ["Launch", "Words"]

HEADER = 3
RECORD = 6
INT = 0xFFFFFFFF
"""The part of a word that a C function of type int gives."""


@dataclass(frozen=True, eq=False)
class Launch:
    """A kernel's handle, its grid, and its table: numbers, and Refs to buffers."""

    kernel: int
    grid: tuple[int, int]
    threads: int
    shared: int
    table: tuple


class Words:
    """Launches in memory. One call uses them at a time."""

    def __init__(self, launches: Sequence[Launch], launcher: int, stream: int):
        self.launches = launches
        numbers: list[int] = []
        tables = []
        self._places: dict[Hashable, list[tuple[int, int, int]]] = {}
        """By the buffer: the word of an address in it, its launch, and the bytes into the buffer."""
        self.changed: set[int] = set()
        """Launches whose tables have been written since a graph of them was."""
        self.runs = 0
        self.graph: Any = None
        start = HEADER + RECORD * len(launches)
        for k, one in enumerate(launches):
            tables.append(start + len(numbers))
            for entry in one.table:
                if isinstance(entry, Ref):
                    place = start + len(numbers), k, entry.offset
                    self._places.setdefault(entry.buffer, []).append(place)
                    numbers.append(0)
                else:
                    numbers += words_of(entry)
        self.array = np.zeros(start + len(numbers), np.int64)
        self.array[:HEADER] = len(launches), launcher, stream
        self.array[start:] = numbers
        self.tables = [self.array.ctypes.data + 8 * table for table in tables]
        """Their addresses."""
        for k, (one, table) in enumerate(zip(launches, self.tables, strict=True)):
            record = one.kernel, *one.grid, one.threads, one.shared, table
            self.array[HEADER + RECORD * k :][:RECORD] = record

    def place(self, addresses: Mapping[Hashable, int]) -> None:
        """Write the addresses of buffers."""
        for buffer, address in addresses.items():
            for at, which, offset in self._places.get(buffer, ()):
                if self.array[at] != address + offset:
                    self.array[at] = address + offset
                    self.changed.add(which)


@driver
def launch(words):
    """Hand over launches until the driver refuses one: its code, or 0."""
    for k in range(read(words)):
        at = words + 24 + 48 * k
        x, y, threads, shared = read(at + 8), read(at + 16), read(at + 24), read(at + 32)
        kernel, launcher, stream = read(at), read(words + 8), read(words + 16)
        code = ask(launcher, kernel, x, y, 1, threads, 1, 1, shared, stream, at + 40, 0) & INT
        if code != 0:
            return code
    return 0
