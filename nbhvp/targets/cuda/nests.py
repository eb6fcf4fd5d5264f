"""From steps to kernels for GPUs: the same bodies as on CPUs, in loops over the threads of a grid.

The unit of work is a warp, 32 lanes that run together. A kernel takes one of three shapes:

- *lanes over rows*: a lane takes a row; where rows are summed, a warp takes a block of rows;
- *lanes over elements*: a warp takes a row, or a block of them if they are summed, and its lanes one loop
  of each statement, so that they read adjacent memory;
- *grid*: of a single map the rows lie along one axis of the grid, the innermost loop along the other.

Sums of lanes are added by exchanges within the warp, sums of blocks of rows by one more kernel, both in a
fixed order. Nothing is added atomically: a program gives the same bits with every run.

Invariant: what one lane stores and another reads is separated by `sync_warp`, and no two lanes store
the same element.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from nbhvp.graph.node import Node
from nbhvp.plan.nest import Member, Nest
from nbhvp.plan.pull import Expr, Index
from nbhvp.plan.schedule import Reduction
from nbhvp.plan.text import Body, Scratch, Slots, code, kernel_name
from nbhvp.targets import nests
from nbhvp.targets.cuda.scalars import FUNCTIONS
from nbhvp.targets.nests import Kernel, Loop

__all__ = ["THREADS", "WARP", "Launch", "emit", "kernel_of"]

WARP = 32
THREADS = 128
"""Threads of a block of the grid."""
WARPS = 2048
"""Warps that a sum over rows is shared by: some 16 for each of the processors of a large GPU."""
SHARE = 16
"""Rows that a warp adds up at least where its lanes take elements: partial results are few beside them."""
MOST_Y = (1 << 16) - 1
"""Blocks along the second axis of a grid."""
FEW = 16
"""Iterations of a loop below which most lanes would have none."""

HEADER = '''"""One kernel of a program for GPUs."""
import cmath
import math

import numpy as np
from numba import boolean as b1, complex64 as c8, complex128 as c16, float32 as f4, float64 as f8
from numba import int8 as i1, int16 as i2, int32 as i4, int64 as i8
from numba import uint8 as u1, uint16 as u2, uint32 as u4, uint64 as u8

from nbhvp.targets.cuda.words import add_reassoc, block, block_y, blocks_y, call, cast, cplx, integer, lane, reads, real, sync_warp, thread, threads, times, warp, warp_all, warp_last, warp_scan, warp_sum, warp_swap, writes
from nbhvp.targets.lowering.scalars import *
from nbhvp.targets.cuda.scalars import log_gamma, psi

'''


@dataclass(eq=False)
class Launch:
    """The text of a kernel, the contents of its table, and the grid that it runs on."""

    source: str
    slots: list
    grid: tuple[int, int]
    writes: tuple = ()
    threads: int = THREADS


def emit(step: Nest | Reduction) -> list[Launch]:
    """The kernels of one step that has some."""
    if isinstance(step, Nest):
        return _launches(step)
    return [_scan(step) if step.node.primitive.reduction == "cumsum" else _arg(step)]


def kernel_of(kind: str, slots: Slots, body: list[str]) -> str:
    """The text of a module with one kernel."""
    lines = [*slots.lines, *body]
    inner = "\n".join(f"    {line}" for line in lines)
    return f"{HEADER}\ndef {kernel_name(kind, lines)}(table):\n{inner}\n"


def _for_warps(count: int) -> tuple[int, int]:
    """The grid of so many warps."""
    return -(-count * WARP // THREADS), 1


class _Lanes:
    """The loops of a GPU around the bodies of one nest."""

    def __init__(self, kernel: Kernel):
        self.kernel, self.body, self.slots = kernel, kernel.body, kernel.slots
        self.row, self.loops = kernel.row, kernel.loops
        self.slots.functions, self.slots.near = FUNCTIONS, 64
        self.lanes = self._chosen()
        self.over_rows = self.lanes[0] == 0
        """Whether lanes take rows."""
        self.is_grid = self._is_grid()

    def _chosen(self) -> list[int | None]:
        """For each statement, which of its loops the lanes share; the first is the rows."""
        within = list(map(self._lanes_within, self.loops))
        pairs = zip(self.loops, within, strict=True)
        longest = max((loops[at].extent for loops, at in pairs if at is not None), default=0)
        if longest < FEW and all(_may_be_lanes(loops, 0) for loops in self.loops):
            return [0] * len(within)
        return within

    def _lanes_within(self, loops: list[Loop]) -> int | None:
        """The longest loop within a row that lanes may share."""
        fitting = [at for at in range(1, len(loops)) if _may_be_lanes(loops, at)]
        return max(fitting, key=lambda at: loops[at].extent, default=None)

    def _is_grid(self) -> bool:
        loops, *others = self.loops
        is_map = not others and not any(any(loop.summed) for loop in loops)
        return is_map and len(loops) > 1 and not loops[-1].bounds and loops[-1].extent >= FEW

    def block(self) -> int:
        """The rows of a warp."""
        if any(m.row.is_summed for m in self.kernel.nest.members):
            least = WARP if self.over_rows else SHARE
            return max(least, -(-self.row.extent // WARPS))
        return WARP if self.over_rows else 1

    @property
    def grid(self) -> tuple[int, int]:
        if self.is_grid:
            return -(-self.loops[0][-1].extent // THREADS), min(self.row.extent, MOST_Y)
        return _for_warps(-(-self.row.extent // self.kernel.block))

    # What is printed.

    def begin(self) -> None:
        if not self.kernel.partials:
            return
        rows = self.slots.integer("block", self.kernel.block)
        extent = self.slots.integer("rows", self.row.extent)
        self.body.line(f"lo = warp() * {rows}")
        self.body.line(f"hi = min(lo + {rows}, {extent})")
        for node in self.kernel.partials:
            size = self.slots.integer(("size", node), nests.padded(node))
            self.body.line(f"{self.kernel.offset(node)} = warp() * {size}")
        self.body.line("if lo < hi:")
        self.body.depth += 1

    def open(self, loop: Loop, inside: Callable[[], None]) -> None:
        body, name = self.body, loop.variable.name
        if self.is_grid and loop in (self.loops[0][0], self.loops[0][-1]):
            self._open_grid(loop, inside)
        elif loop.variable is self.row.variable and not self.kernel.partials:
            rows = self.slots.integer("rows", self.row.extent)
            body.line(f"{name} = {f'warp() * {WARP} + lane()' if self.over_rows else 'warp()'}")
            body.scoped(f"if {name} < {rows}:", inside)
        elif self._is_shared(loop):
            start, end = nests.bounds(body, loop)
            body.line(f"{name} = {start} + lane()")
            self._while(name, end, str(WARP), inside)
        else:
            start, end = nests.bounds(body, loop)
            body.scoped(f"for {name} in range({start}, {end}):", inside)

    def _open_grid(self, loop: Loop, inside: Callable[[], None]) -> None:
        body, name = self.body, loop.variable.name
        end = self.slots.integer(("extent", loop.variable, loop.extent), loop.extent)
        if loop is self.loops[0][-1]:
            body.line(f"{name} = block() * threads() + thread()")
            body.scoped(f"if {name} < {end}:", inside)
        else:
            body.line(f"{name} = block_y()")
            self._while(name, end, "blocks_y()", inside)

    def _while(self, name: str, end: str, step: str, inside: Callable[[], None]) -> None:
        def stepped() -> None:
            inside()
            self.body.line(f"{name} = {name} + {step}")

        self.body.scoped(f"while {name} < {end}:", stepped)

    def innermost(self, loops: list[Loop], exprs: list[Expr], inside: Callable[[], None]) -> None:
        self.open(loops[-1], inside)

    def between(self) -> None:
        if not self.over_rows:
            self.body.line("sync_warp()")

    def _is_shared(self, loop: Loop) -> bool:
        """Whether lanes share a loop."""
        if self.is_grid:
            return False
        if self.over_rows:
            return loop.variable is self.row.variable
        pairs = zip(self.loops, self.lanes, strict=True)
        return any(at is not None and loop is loops[at] for loops, at in pairs)

    def store(self, line: str, member: Member, loops: list[Loop]) -> str:
        own_row = self.over_rows and not member.row.is_summed
        is_own = self.is_grid or own_row or any(map(self._is_shared, loops))
        return line if is_own else f"if lane() == 0: {line}"

    def finish(self, member: Member, total: str, loops: list[Loop]) -> None:
        if any(map(self._is_shared, loops)):
            word = "warp_all" if member.node.dtype.kind == "b" else "warp_sum"
            self.body.line(f"{total} = {word}({total})")


def _may_be_lanes(loops: list[Loop], at: int) -> bool:
    """Whether no two lanes of a loop would add to the same element in memory."""
    flags = [[one.summed[k] for one in loops] for k in range(len(loops[0].summed))]
    return all(not some[at] or at >= nests.level(some) for some in flags)


def _launches(nest: Nest) -> list[Launch]:
    """The kernel of a nest, and those that add up the partial results of its warps."""
    kernel = Kernel(nest, _Lanes)
    lanes, body = cast(_Lanes, kernel.printer), kernel.text()
    source = kernel_of(kernel.kind, kernel.slots, body)
    found = [Launch(source, kernel.slots.contents, lanes.grid, kernel.writes)]
    shares = ((node, one) for node, one in kernel.partials.items() if isinstance(one, Scratch))
    return found + [launch for node, one in shares for launch in _combined(node, one)]


def _combined(node: Node, partial: Scratch) -> list[Launch]:
    """Add the partial results of warps, in a fixed order."""
    if node.size < WARP:
        return [_combined_by_warps(node, partial)]
    found = []
    while partial.shape[0] > WARP:
        groups = -(-partial.shape[0] // WARP)
        reduced = Scratch((groups, partial.shape[1]), partial.dtype)
        found.append(_combined_by_threads(node, partial, reduced, groups))
        partial = reduced
    return [*found, _combined_by_threads(node, partial, node, 1)]


def _combined_by_warps(node: Node, partial: Scratch) -> Launch:
    """A warp to an element, whose lanes take partial results."""
    identity, add = nests.combine(node)
    slots = Slots()
    source, target = slots.read(partial, 0), slots.write(node)
    blocks = slots.integer("blocks", partial.shape[0])
    size = slots.integer("size", partial.shape[1])
    extent = slots.integer("extent", node.size)
    word = "warp_all" if node.dtype.kind == "b" else "warp_sum"
    body = [
        "i = warp()",
        f"if i < {extent}:",
        f"    total = {identity}",
        "    b = lane()",
        f"    while b < {blocks}:",
        f"        total = {add.format('total', f'{source}[b * {size} + i]')}",
        f"        b = b + {WARP}",
        f"    total = {word}(total)",
        f"    if lane() == 0: {target}[i] = total",
    ]
    return Launch(kernel_of("combine", slots, body), slots.contents, _for_warps(node.size), (node,))


def _combined_by_threads(
    node: Node, partial: Scratch, result: Node | Scratch, groups: int
) -> Launch:
    """A thread to an element of each group of partial results."""
    identity, add = nests.combine(node)
    slots = Slots()
    source, target = slots.read(partial, 0), slots.write(result)
    blocks = slots.integer("blocks", partial.shape[0])
    size = slots.integer("size", partial.shape[1])
    extent = slots.integer("extent", node.size)
    body = [
        "i = block() * threads() + thread()",
        f"first = block_y() * {WARP}",
        f"last = min(first + {WARP}, {blocks})",
        f"if i < {extent}:",
        f"    total = {identity}",
        "    for b in range(first, last):",
        f"        total = {add.format('total', f'{source}[b * {size} + i]')}",
        f"    {target}[block_y() * {size} + i] = total",
    ]
    grid = -(-node.size // THREADS), groups
    return Launch(kernel_of("combine", slots, body), slots.contents, grid, (result,))


# Scans and positions: a warp walks along the axis, 32 elements at a time.


def _along_axis(step: Reduction, flat: Index, inside: Callable[[Body, Loop, str], None]) -> Launch:
    """A kernel of a warp to a row; `inside` prints what is done with the elements of an axis."""
    body, kept, along = nests.axis_loops(step, flat, step.node.params["axis"])
    slots = body.slots
    slots.functions = FUNCTIONS

    def enter(depth: int) -> None:
        if depth == len(kept):
            extent = slots.integer(("extent", along.variable, along.extent), along.extent)
            inside(body, along, extent)
            return
        loop = kept[depth]
        extent = slots.integer(("extent", loop.variable, loop.extent), loop.extent)
        if depth:
            header = f"for {loop.variable.name} in range({extent}):"
        else:
            body.line(f"{loop.variable.name} = warp()")
            header = f"if {loop.variable.name} < {extent}:"
        body.scoped(header, lambda: enter(depth + 1))

    if kept:
        enter(0)
    else:
        body.scoped("if warp() == 0:", lambda: enter(0))
    rows = kept[0].extent if kept else 1
    source = kernel_of(step.node.primitive.reduction, slots, body.lines)
    return Launch(source, slots.contents, _for_warps(rows), (step.node,))


def _scan(step: Reduction) -> Launch:
    node = step.node
    flat = nests.flat_index(step.variables, node.shape)

    def inside(body: Body, loop: Loop, extent: str) -> None:
        array, name = body.slots.write(node), loop.variable.name
        last = body.slots.integer("last", loop.extent - 1)

        def element() -> None:
            body.line(f"{name} = {f'{last} - k' if node.params['reverse'] else 'k'}")
            body.line(f"term = {body.name(step.expr)}")

        def chunk() -> None:
            body.line("k = first + lane()")
            body.line(f"term = {code(node.dtype)}(0)")
            body.scoped(f"if k < {extent}:", element)
            body.line("term = total + warp_scan(term)")
            body.line("total = warp_last(term)")
            body.line(f"{name} = {f'{last} - k' if node.params['reverse'] else 'k'}")
            body.line(f"if k < {extent}: {array}[{body.index(flat, node)}] = term")
            body.line(f"first = first + {WARP}")

        body.line(f"total = {code(node.dtype)}(0)")
        body.line("first = 0")
        body.scoped(f"while first < {extent}:", chunk)

    return _along_axis(step, flat, inside)


def _arg(step: Reduction) -> Launch:
    """The first position of the largest (smallest) element; a NaN counts as both."""
    node, axis = step.node, step.node.params["axis"]
    flat = nests.flat_index([v for k, v in enumerate(step.variables) if k != axis], node.shape)
    sign = ">" if node.primitive.reduction == "argmax" else "<"
    kind = code(node.args[0].dtype)

    def inside(body: Body, loop: Loop, extent: str) -> None:
        array, name = body.slots.write(node), loop.variable.name

        def compare() -> None:
            value = body.name(step.expr)
            better = f"({value} {sign} best) | (({value} != {value}) & (best == best))"
            body.line(f"if ({name} == lane()) | {better}:")
            body.line(f"    best, at = {value}, i8({name})")
            body.line(f"{name} = {name} + {WARP}")

        body.line(f"best, at = {kind}(0), i8({extent})")
        body.line(f"{name} = lane()")
        body.scoped(f"while {name} < {extent}:", compare)
        for distance in (16, 8, 4, 2, 1):
            body.line(f"value, place = warp_swap(best, {distance}), warp_swap(at, {distance})")
            better = f"(value {sign} best) | ((value != value) & (best == best))"
            equal = "((value == best) | ((value != value) & (best != best)))"
            both = f"({better}) | ({equal} & (place < at))"
            body.line(f"if (place < {extent}) & ((at == {extent}) | {both}):")
            body.line("    best, at = value, place")
        body.line(f"if lane() == 0: {array}[{body.index(flat, node)}] = at")

    return _along_axis(step, flat, inside)
