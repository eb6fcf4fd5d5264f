"""What all texts of kernels for GPUs share: their header, the shape of their launch, and teams of threads.

A team is what takes a row: a warp, 32 lanes that run together, or a whole block of the grid. Its threads
share loops, add up what each has found, and wait for one another.
"""

from __future__ import annotations

from dataclasses import dataclass

from nbhvp.plan.nests.text import Body, Slots, kernel_name

__all__ = [
    "BLOCK", "BY_BLOCK", "BY_WARP", "MOST_Y", "THREADS", "WARP", "WARPS", "Launch", "Team", "kernel_of",
    "team_of", "warps_of",
]  # fmt: skip

WARP = 32
THREADS = 128
"""Threads of a block whose warps do not know of one another."""
WARPS = 8
BLOCK = WARPS * WARP
"""Of a block that works on something together."""
MOST_Y = (1 << 16) - 1
"""Blocks along the second axis of a grid."""

HEADER = '''"""One kernel of a program for GPUs."""
import cmath
import math

import numpy as np
from numba import boolean as b1, complex64 as c8, complex128 as c16, float32 as f4, float64 as f8
from numba import int8 as i1, int16 as i2, int32 as i4, int64 as i8
from numba import uint8 as u1, uint16 as u2, uint32 as u4, uint64 as u8

from nbhvp.targets.cuda.kernels.words import add_reassoc, block, block_y, blocks_y, call, cast, cplx, integer, lane, own, reads, real, shared, sync_block, sync_warp, thread, threads, times, warp, warp_all, warp_last, warp_scan, warp_sum, warp_swap, writes
from nbhvp.targets.lowering.scalars import *
from nbhvp.targets.cuda.kernels.scalars import erfcx, gamma, gamma_sign, log_gamma, log_ndtr, psi, reciprocal_gamma

'''


@dataclass(eq=False)
class Launch:
    """The text of a kernel, the contents of its table, and the grid that it runs on."""

    source: str
    slots: list
    grid: tuple[int, int]
    threads: int = THREADS
    shared: int = 0
    """Bytes of memory that the threads of a block share."""


def kernel_of(kind: str, slots: Slots, body: list[str]) -> str:
    """The text of a module with one kernel."""
    lines = [*slots.lines, *body]
    inner = "\n".join(f"    {line}" for line in lines)
    return f"{HEADER}\ndef {kernel_name(kind, lines)}(table):\n{inner}\n"


def warps_of(count: int) -> tuple[int, int]:
    """The grid of so many warps."""
    return -(-count * WARP // THREADS), 1


@dataclass(frozen=True)
class Team:
    """The words of a team: its number in the grid, a thread's number in it, how many it has."""

    number: str
    position: str
    step: str
    sync: str
    threads: int

    @property
    def is_block(self) -> bool:
        return self.threads > WARP

    @property
    def shared(self) -> int:
        """Bytes with which a block adds up what its warps have: a complex number each."""
        return 16 * WARPS if self.is_block else 0

    def grid(self, count: int) -> tuple[int, int]:
        """That of so many teams."""
        return (count, 1) if self.is_block else warps_of(count)

    def add_up(self, body: Body, total: str, word: str, identity: str, add: str, kind: str) -> None:
        """Lines after which all threads have the total of a team's, in a fixed order."""
        body.line(f"{total} = {word}({total})")
        if self.is_block:
            each = body.fresh()
            body.line(f"{each} = shared(0, {kind!r})")
            body.line(f"if lane() == 0: {each}[own()] = {total}")
            body.line("sync_block()")
            body.line(f"{total} = {identity}")
            body.line(f"for w in range({WARPS}):")
            body.line(f"    {total} = {add.format(total, f'{each}[w]')}")
            body.line("sync_block()")


BY_WARP = Team("warp()", "lane()", str(WARP), "sync_warp()", WARP)
BY_BLOCK = Team("block()", "thread()", str(BLOCK), "sync_block()", BLOCK)

LONG = 2 * BLOCK
"""Elements of a row from which a block takes it rather than a warp..."""
FEW_ROWS = 2048
"""... if there are too few rows for all warps of a large GPU."""


def team_of(rows: int, extent: int) -> Team:
    """What takes a row of so many elements, one of so many rows."""
    return BY_BLOCK if rows < FEW_ROWS and extent >= LONG else BY_WARP
