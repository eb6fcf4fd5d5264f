"""The entries of a sparse matrix row by row, from lanes: one pass over memory, on several threads.

Entries that fill the caches are stored past them: else each line of memory would be read first.

Row i takes element i + shift of each lane that has an entry there. Nearly all rows of a stencil have an
entry in every lane; only for others the kernel looks which ones these are.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from nbhvp.plan.costs import CPU
from nbhvp.plan.text import HEADER
from nbhvp.targets.cpu import results, run
from nbhvp.targets.native import cache
from nbhvp.targets.tables import Ref

__all__ = ["interleaved"]

BLOCK = CPU.l1 // 8
"""Rows that a thread takes at a time."""


def interleaved(
    lanes: Sequence[np.ndarray], shifts: Sequence[int], starts: np.ndarray, masks: np.ndarray
) -> np.ndarray:
    """The entries, with the row of the first one at each of `starts`; bits of masks tell the lanes.

    Lanes are contiguous vectors of one dtype, and `starts` has one of integers.
    """
    dtype, rows = lanes[0].dtype, masks.size
    out = results.empty((int(starts[-1]),), dtype)
    if out.size == 0:
        return out
    is_streamed = out.nbytes >= CPU.l3
    kernel = cache.load(_text(len(lanes), dtype.str[1:], starts.dtype.str[1:], is_streamed))
    arrays = [out, starts, masks, *lanes]
    addresses = {k: run.address(array) for k, array in enumerate(arrays)}
    table = (*map(Ref, range(len(arrays))), *shifts)
    run.execute_parallel(run.assemble([run.Step(kernel.address, table, rows, BLOCK)], addresses))
    return out


@functools.cache
def _text(count: int, code: str, index: str, is_streamed: bool) -> str:
    """The kernel for so many lanes."""
    store = "stream(z0, {}, {})" if is_streamed else "z0[{}] = {}"
    slots = [
        f"    z0 = writes(table, 0, {code!r})",
        f"    starts = reads(table, 1, {index!r})",
        "    masks = reads(table, 2, 'i8')",
        *(f"    a{t} = reads(table, {3 + t}, {code!r})" for t in range(count)),
        *(f"    s{t} = integer(table, {3 + count + t})" for t in range(count)),
    ]
    full = ["            " + store.format(f"at + {t}", f"a{t}[i + s{t}]") for t in range(count)]
    some = ["            mask = masks[i]", "            place0 = at"]
    for t in range(count):
        some += [
            f"            bit{t} = mask >> {t} & 1",
            f"            if bit{t} == 1:",
            "                " + store.format(f"place{t}", f"a{t}[i + s{t}]"),
            f"            place{t + 1} = place{t} + bit{t}",
        ]
    lines = [
        *slots,
        "    for i in range(lo, hi):",
        "        at = i8(starts[i])",
        f"        if starts[i + 1] - starts[i] == {count}:",
        *full,
        "        else:",
        *some,
    ]
    words = "from nbhvp.targets.native.language import stream\n\n"
    return "\n".join([HEADER + words, "@kernel", "def interleaved(table, lo, hi):", *lines, ""])
