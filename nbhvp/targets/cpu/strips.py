"""Arrays that only an interleaving reads, in strips of rows that stay in a core's cache.

The kernels that write these arrays and the one that interleaves them run strip after strip, on memory of
one strip: it is neither read from beyond the caches nor written there. The strips of a block share that
memory. Rows that an interleaving reads beside its own are computed again for the next strip.

The kernels are those of whole arrays: a pointer to such an array is moved so far back that row i of the
array is where it is in the strip (`drivers.strips`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass

import numpy as np

from nbhvp.graph.node import Node
from nbhvp.plan.costs import CPU
from nbhvp.plan.nests.nest import Member, Nest
from nbhvp.plan.nests.text import KernelCall, Scratch
from nbhvp.targets.cpu import run as cpu
from nbhvp.targets.native import cache

__all__ = ["Made", "in_strips"]

SOURCE = '''"""Rows of a sparse matrix, strip by strip."""
from nbhvp.targets.cpu.entries.drivers import strips
from nbhvp.targets.native.language import kernel


@kernel
def in_strips(table, lo, hi):
    strips(table, lo, hi)
'''
WORD = 8
BLOCKS = 16
"""Into which the strips are parted for threads; each has memory for a strip of its own."""


@dataclass(frozen=True)
class Made:
    """A nest with one kernel, and the step of the program that runs it."""

    nest: Nest
    call: KernelCall
    step: cpu.Step


def in_strips(
    node: Node, steps: Sequence[cpu.Step], nests: Sequence[Made], kept: Collection
) -> list[cpu.Step]:
    """Steps of which the last is an interleaving, with this and what writes its arrays as one.

    All steps that read or write arrays beside these have those among `kept`. The steps as they are,
    where no arrays are computed by rows, or they are small.
    """
    *others, last = steps
    lanes = {lane for lane in node.args[2:] if lane.value is None}.difference(kept)
    inner = [one for one in nests if lanes.issuperset(one.call.writes)]
    rest = [step for step in others if not any(step is one.step for one in inner)]
    lanes.intersection_update(array for one in inner for array in one.call.writes)
    extents = {one.call.extent for one in inner}
    is_read = any(lanes & _buffers(step) for step in rest)
    if is_read or len(extents) != 1 or not all(_is_by_rows(one, lanes) for one in inner):
        return list(steps)
    strips = _strips(node, lanes, *extents)
    if strips is None:
        return list(steps)
    return [*rest, _assembled([*(one.step for one in inner), last], lanes, strips)]


def _buffers(step: cpu.Step) -> set:
    return {entry.buffer for entry in step.table if isinstance(entry, cpu.Ref)}


def _is_by_rows(one: Made, lanes: Set[Node]) -> bool:
    """Whether a nest computes each row of the arrays that it writes from no other row of them."""
    read = {load.array for member in one.nest.members for load in member.loads}
    in_order = all(one.call.extent in _ends(member) for member in one.nest.members)
    return in_order and lanes & read <= {*one.nest.nodes}


def _ends(member: Member) -> list[int]:
    """How many rows a member may be seen to have, each in one piece of memory, one after the other."""
    found, count = [], 1
    for loop in (member.row, *member.loops):
        count *= loop.extent
        stride = member.index.terms.get(loop.variable, 0)
        if member.is_sum or loop.bounds or stride * count != member.node.size:
            return []
        found.append(count)
    return found


@dataclass(frozen=True)
class _Strips:
    """Of arrays of `rows` rows of so many elements."""

    rows: int
    length: int
    height: int
    """The rows of a strip."""
    before: int
    after: int
    """Further rows that its interleaving reads."""

    @property
    def count(self) -> int:
        return -(-self.rows // self.height)


def _strips(node: Node, lanes: Set[Node], rows: int) -> _Strips | None:
    """The strips that fit into half a core's cache; None where they are not worthwhile."""
    size = node.args[1].size
    bytes_of_row = sum(lane.dtype.itemsize for lane in lanes) * (size // rows)
    if size % rows or bytes_of_row * rows < 2 * CPU.l2:
        return None
    shifts = node.params["shifts"]
    before, after = (-(-max(0, most) // (size // rows)) for most in (-min(shifts), max(shifts)))
    height = CPU.l2 // 2 // bytes_of_row - before - after
    if height < 4 * (before + after):
        return None
    return _Strips(rows, size // rows, height, before, after)


def _assembled(steps: Sequence[cpu.Step], lanes: Set[Node], strips: _Strips) -> cpu.Step:
    """A step of strips, whose table `drivers.strips` describes."""
    places, at = {}, 0
    for lane in lanes:
        places[lane] = at
        row = lane.dtype.itemsize * strips.length
        at += -(-row * (strips.height + strips.before + strips.after) // CPU.line) * CPU.line
    records: list = []
    tables: list = []
    moved: list[int] = []
    size = 0
    for one in steps:
        records += [one.address, WORD * (2 * len(steps) + size)]
        for entry in one.table:
            if isinstance(entry, cpu.Ref) and entry.buffer in places:
                stride = entry.buffer.dtype.itemsize * strips.length
                place = WORD * (2 * len(steps) + size)
                moved += [place, places[entry.buffer] + entry.offset, stride]
                entry = 0
            tables.append(entry)
            size += 2 if isinstance(entry, complex) else 1
    words = 2 * len(steps) + size
    first = -(-WORD * words // CPU.line) * CPU.line
    block = -(-strips.count // BLOCKS)
    area = Scratch((-(-strips.count // block), first + at), np.dtype(np.uint8))
    head: list = [block, strips.height, strips.rows, strips.before, strips.after, strips.length]
    head += [len(steps), len(moved) // 3, words, first, first + at, cpu.Ref(area)]
    table = (*head, *records, *tables, *moved)
    return cpu.Step(cache.load(SOURCE).address, table, strips.count, block)
