"""From nests to kernels for GPUs: the same bodies as on CPUs, in loops over the threads of a grid.

The unit of work is a team of threads (`texts.Team`): a warp, or a block where few rows are long. A
kernel takes one of four shapes:

- *lanes over rows*: a lane takes a row;
- *lanes over elements*: a team takes a row, and its lanes one loop of each statement, so that they read
  adjacent memory;
- *lanes over columns*: sums over few long rows, whose elements a lane adds up each;
- *grid*: of a single map the rows lie along one axis of the grid, the innermost loop along the other.

Where rows are summed, each warp takes some rows, one after the other, and adds to its own copy of the sum
in the memory that a block shares; at the end the block adds up its copies, and one more kernel those of
all blocks (`sums`), all in a fixed order. Nothing is added atomically: a program gives the same bits with
every run. An array that no other step needs is kept in shared memory too, as long as its row.

Invariant: what one lane stores and another reads is separated by the team's `sync`, and no two lanes
store the same element.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import cast

from nbhvp.graph.node import Node
from nbhvp.plan.costs import GPU
from nbhvp.plan.nests.nest import ROW, Member, Nest
from nbhvp.plan.nests.pull import Expr
from nbhvp.plan.nests.text import Scratch, code
from nbhvp.plan.schedule import Reduction
from nbhvp.targets import nests
from nbhvp.targets.cuda.kernels import scans, sums
from nbhvp.targets.cuda.kernels.scalars import FUNCTIONS
from nbhvp.targets.cuda.kernels.texts import (
    BY_WARP,
    MOST_Y,
    THREADS,
    WARP,
    WARPS,
    Launch,
    Team,
    kernel_of,
    team_of,
)
from nbhvp.targets.nests import Kernel, Loop

__all__ = ["emit"]

BLOCKS = 256
"""Blocks that a sum over rows is shared by: two for each of the processors of a large GPU."""
SHARE = 16
"""Rows of which the sum is one partial result at least, where lanes take elements."""
FEW = 16
"""Iterations of a loop below which most lanes would have none."""
NEAR = 64
"""Elements by which an address differs in the text itself, as those of coordinates side by side do."""
SHARED = 48 * 1024
"""Bytes that a block may share."""
ALIGNED = 16


def emit(step: Nest | Reduction, needed: Collection[Node] | None = None) -> list[Launch]:
    """The kernels of one step that has some, given what others need of its arrays (None: all)."""
    if isinstance(step, Nest):
        return _launches(step, needed)
    return scans.emit(step)


class _Lanes:
    """The loops of a GPU around the bodies of one nest."""

    def __init__(self, kernel: Kernel, needed: Collection[Node] | None, is_turned: bool):
        self.is_turned = is_turned
        self.kernel, self.body, self.slots = kernel, kernel.body, kernel.slots
        self.row, self.loops = kernel.row, kernel.loops
        self.slots.functions, self.slots.near = FUNCTIONS, NEAR
        self.lanes = self._chosen()
        self.over_rows = self.lanes[0] == 0
        """Whether lanes take rows."""
        self.is_grid = self._is_grid()
        members = kernel.nest.members
        self.summed = list(dict.fromkeys(m.node for m in members if m.row.is_summed))
        self.team = self._team()
        self.copies: dict[Node, int] = {}
        """What a warp has in shared memory, its sums and its rows, and where: in bytes."""
        self.stride = 0
        """The bytes of one warp."""
        self._share(needed)

    def _chosen(self) -> list[int | None]:
        """For each statement, which of its loops the lanes share; the first is the rows."""
        within = list(map(self._lanes_within, self.loops))
        pairs = zip(self.loops, within, strict=True)
        longest = max((loops[at].extent for loops, at in pairs if at is not None), default=0)
        if (longest < FEW or self.is_turned) and all(
            _may_be_lanes(loops, 0) for loops in self.loops
        ):
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

    def _team(self) -> Team:
        if self.summed or self.over_rows or self.is_grid:
            return BY_WARP
        pairs = zip(self.loops, self.lanes, strict=True)
        extents = [loops[at].extent for loops, at in pairs if at is not None]
        return team_of(self.row.extent, max(extents, default=1))

    # Shared memory.

    def _share(self, needed: Collection[Node] | None) -> None:
        """Keep copies of sums, and rows that nothing else needs, as far as they fit."""
        self.is_shared = bool(self.summed)
        sizes = {node: node.size * node.dtype.itemsize for node in self.summed}
        if sum(map(_aligned, sizes.values())) * WARPS > SHARED:
            self.is_shared, sizes = False, {}
        if not self.team.is_block:
            lanes = WARP if self.over_rows else 1
            sizes |= {node: lanes * size for node, size in self._rows(needed).items()}
        for node, size in sizes.items():
            if (self.stride + _aligned(size)) * WARPS <= SHARED:
                self.copies[node] = self.stride
                self.stride += _aligned(size)

    def _rows(self, needed: Collection[Node] | None) -> dict[Node, int]:
        """The arrays of which a row is enough, and its bytes."""
        nest, rows = self.kernel.nest, self.row.extent
        if needed is None or len(self.loops) == 1 or rows == 1:
            return {}
        found = {}
        for node in nest.nodes:
            length = node.size // rows
            members = [m for m in nest.members if m.node is node]
            if node in nest.kept and node not in needed and node not in self.summed:
                if all(m.index.terms.get(ROW) == length for m in members):
                    found[node] = length * node.dtype.itemsize
        return found

    @property
    def threads(self) -> int:
        if self.is_grid:
            return min(THREADS, -(-self.loops[0][-1].extent // WARP) * WARP)
        return WARP * WARPS if self.copies or self.team.is_block else THREADS

    @property
    def shared(self) -> int:
        return self.stride * WARPS + self.team.shared

    def _home(self, node: Node) -> str:
        """The text of an element of a copy."""
        start = self.slots.integer(("copy", node), self.copies[node])
        name = f"m{len(self.body.homes)}"
        self.body.line(f"{name} = shared({start}, {code(node.dtype)!r})")
        length = self.slots.integer(("copies", node), self.stride // node.dtype.itemsize)
        if self.over_rows and node not in self.summed:
            return f"{name}[own() * {length} + ({{}}) * {WARP} + lane()]"
        return f"{name}[own() * {length} + {{}}]"

    def rows_of_warp(self) -> int:
        least = WARP if self.over_rows else SHARE // WARPS if self.is_shared else SHARE
        return max(least, -(-self.row.extent // (BLOCKS * WARPS)))

    def block(self) -> int:
        """The rows of which the sums are added up together: those of a block, or of a warp."""
        if self.summed:
            return self.rows_of_warp() * (WARPS if self.is_shared else 1)
        return WARP if self.over_rows else 1

    def distance(self, node: Node) -> int:
        return node.size

    @property
    def grid(self) -> tuple[int, int]:
        if self.is_grid:
            return -(-self.loops[0][-1].extent // self.threads), min(self.row.extent, MOST_Y)
        count = -(-self.row.extent // self.kernel.block)
        if self.is_shared:
            return count, 1
        if self.copies:
            return -(-count // WARPS), 1
        return self.team.grid(count)

    # What is printed.

    def begin(self) -> None:
        for node in self.copies:
            self.body.homes[node] = self._home(node)
        if not self.summed:
            return
        rows = self.slots.integer("block", self.rows_of_warp())
        extent = self.slots.integer("rows", self.row.extent)
        self.body.line(f"lo = warp() * {rows}")
        self.body.line(f"hi = min(lo + {rows}, {extent})")
        if self.is_shared:
            return
        for node in self.kernel.partials:
            size = self.slots.integer(("size", node), node.size)
            self.body.line(f"{self.kernel.offset(node)} = warp() * {size}")
        self.body.line("if lo < hi:")
        self.body.depth += 1

    def end(self) -> None:
        """Add up the copies of sums that the warps of a block have."""
        if not self.is_shared:
            return
        self.body.line("sync_block()")
        for node, partial in self.kernel.partials.items():
            identity, add = nests.combine(node)
            length = self.slots.integer(("copies", node), self.stride // node.dtype.itemsize)
            size = self.slots.integer(("size", node), node.size)
            copies = self.body.homes[node].partition("[")[0]
            self.body.line("k = thread()")
            self.body.line(f"while k < {size}:")
            self.body.line(f"    total = {identity}")
            self.body.line(f"    for w in range({WARPS}):")
            self.body.line(f"        total = {add.format('total', f'{copies}[w * {length} + k]')}")
            at = "k" if partial is node else f"block() * {size} + k"
            self.body.line(f"    {self.slots.write(partial)}[{at}] = total")
            self.body.line("    k = k + threads()")

    def open(self, loop: Loop, inside: Callable[[], None]) -> None:
        body, name = self.body, loop.variable.name
        body.extents.pop(loop.variable, None)
        if loop.bounds is None:
            body.extents[loop.variable] = loop.extent
        if self.is_grid and loop in (self.loops[0][0], self.loops[0][-1]):
            self._open_grid(loop, inside)
        elif loop.variable is self.row.variable and not self.summed:
            rows = self.slots.integer("rows", self.row.extent)
            number = self.team.number
            body.line(f"{name} = {f'warp() * {WARP} + lane()' if self.over_rows else number}")
            body.scoped(f"if {name} < {rows}:", inside)
        elif self._is_shared(loop):
            start, end = nests.bounds(body, loop)
            position, step = (
                ("lane()", str(WARP)) if self.over_rows else (self.team.position, self.team.step)
            )
            body.line(f"{name} = {start} + {position}")
            self._while(name, end, step, inside)
        else:
            start, end = nests.bounds(body, loop)
            is_row = loop.variable is self.row.variable and len(self.loops) > 1

            def one() -> None:
                inside()
                if (
                    is_row and self.copies
                ):  # whose next row is written where others may read this one
                    self.between()

            body.scoped(f"for {name} in range({start}, {end}):", one)

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
            self.body.line(self.team.sync)

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
        return line if is_own else f"if {self.team.position} == 0: {line}"

    def finish(self, member: Member, total: str, loops: list[Loop]) -> None:
        if any(map(self._is_shared, loops)):
            node = member.node
            word = "warp_all" if node.dtype.kind == "b" else "warp_sum"
            self.team.add_up(self.body, total, word, *nests.combine(node), code(node.dtype))


def _aligned(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED


def _may_be_lanes(loops: list[Loop], at: int) -> bool:
    """Whether no two lanes of a loop would add to the same element in memory."""
    flags = [[one.summed[k] for one in loops] for k in range(len(loops[0].summed))]
    return all(not some[at] or at >= nests.level(some) for some in flags)


def _launches(nest: Nest, needed: Collection[Node] | None) -> list[Launch]:
    """The kernel of a nest, and those that add up the partial results of its blocks."""
    turned = nest.turned(GPU.across)
    kernel = Kernel(turned or nest, lambda kernel: _Lanes(kernel, needed, turned is not None))
    lanes, body = cast(_Lanes, kernel.printer), kernel.text()
    source = kernel_of(kernel.kind, kernel.slots, body)
    first = Launch(source, kernel.slots.contents, lanes.grid, lanes.threads, lanes.shared)
    shares = ((node, one) for node, one in kernel.partials.items() if isinstance(one, Scratch))
    return [first, *(sums.combined(node, one) for node, one in shares)]
