"""Scans and positions of extrema on GPUs: a team of threads walks along the axis, as many elements at a time.

Of a long axis with few rows, blocks take a part of it each. First each adds up its part, then one
scan over these sums tells what comes before each part, and then each block scans its own:

    1  3 | 2  1 | 4  1   ->   sums 4 3 5   ->   before 0 4 7   ->   1  4 | 6  7 | 11 12
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from nbhvp.plan.nests.pull import Index
from nbhvp.plan.nests.text import Body, Scratch, Slots, code
from nbhvp.plan.schedule import Reduction
from nbhvp.targets import nests
from nbhvp.targets.cuda.kernels.scalars import FUNCTIONS
from nbhvp.targets.cuda.kernels.texts import (
    BLOCK,
    BY_BLOCK,
    WARP,
    WARPS,
    Launch,
    Team,
    kernel_of,
    team_of,
)
from nbhvp.targets.nests import Loop

__all__ = ["emit"]

PART = 8 * BLOCK
"""Elements of an axis that a block takes where several share it."""
FEW_ROWS = 128
"""Rows up to which they do: each processor of a large GPU has one of its own from there on."""


def emit(step: Reduction) -> list[Launch]:
    """The kernels of a scan, or of the positions of extrema."""
    if step.node.primitive.reduction != "cumsum":
        return [_arg(step)]
    axis = _Axis.of(step)
    if axis.extent < 2 * PART or axis.rows > FEW_ROWS:
        return [_scan(axis, team_of(axis.rows, axis.extent))]
    parts = -(-axis.extent // PART)
    found = Scratch((axis.rows, parts), step.node.dtype)
    before = Scratch((axis.rows, parts), step.node.dtype)
    return [
        _sums_of_parts(axis, found),
        _scan_of_parts(axis, found, before),
        _scan(axis, BY_BLOCK, before),
    ]


@dataclass
class _Axis:
    """The loops around an axis, and the loop along it."""

    step: Reduction
    flat: Index
    body: Body
    kept: list[Loop]
    along: Loop

    @classmethod
    def of(cls, step: Reduction, flat: Index | None = None) -> _Axis:
        node = step.node
        flat = nests.flat_index(step.variables, node.shape) if flat is None else flat
        found = cls(step, flat, *nests.axis_loops(step, flat, node.params["axis"]))
        found.body.slots.functions = FUNCTIONS
        return found

    @property
    def rows(self) -> int:
        return math.prod(loop.extent for loop in self.kept)

    @property
    def extent(self) -> int:
        return self.along.extent

    def integer(self, loop: Loop) -> str:
        key = "extent", loop.variable, loop.extent
        return self.body.slots.integer(key, loop.extent)

    def each_row(self, number: str, inside: Callable[[], None]) -> None:
        """The loops around the axis, of which teams share the first."""

        def enter(depth: int) -> None:
            if depth == len(self.kept):
                inside()
                return
            loop = self.kept[depth]
            name, extent = loop.variable.name, self.integer(loop)
            if depth:
                header = f"for {name} in range({extent}):"
            else:
                self.body.line(f"{name} = {number}")
                header = f"if {name} < {extent}:"
            self.body.scoped(header, lambda: enter(depth + 1))

        if self.kept:
            enter(0)
        else:
            self.body.scoped(f"if {number} == 0:", lambda: enter(0))

    def each_row_of_blocks(self, inside: Callable[[], None]) -> None:
        """All loops around the axis by the second axis of the grid, the first by parts."""
        count = self.body.slots.integer("rows", self.rows)
        self.body.line("row = block_y()")

        def enter() -> None:
            rest = "row"
            for depth, loop in enumerate(self.kept):
                name, inner = (
                    loop.variable.name,
                    math.prod(l.extent for l in self.kept[depth + 1 :]),
                )
                size = self.body.slots.integer(("inner", depth), inner)
                self.body.line(f"{name} = {rest} // {size}")
                self.body.line(f"rest{depth} = {rest} - {name} * {size}")
                rest = f"rest{depth}"
            inside()

        self.body.scoped(f"if row < {count}:", enter)

    def launch(self, grid: tuple[int, int], threads: int, shared: int, kind: str = "") -> Launch:
        name = kind or self.step.node.primitive.reduction
        source = kernel_of(name, self.body.slots, self.body.lines)
        return Launch(source, self.body.slots.contents, grid, threads, shared)

    def of_teams(self, team: Team) -> Launch:
        rows = self.kept[0].extent if self.kept else 1
        threads = BLOCK if team.is_block else 4 * WARP
        return self.launch(team.grid(rows), threads, 2 * team.shared)

    def place(self, position: str) -> str:
        """Where position k of the direction of a scan lies along the axis."""
        if not self.step.node.params["reverse"]:
            return position
        return f"{self.body.slots.integer('last', self.extent - 1)} - {position}"


def _scan(axis: _Axis, team: Team, before: Scratch | None = None) -> Launch:
    """A team to a row; where blocks share rows, each has its part and what comes before it."""
    body, node, name = axis.body, axis.step.node, axis.along.variable.name
    kind, extent = code(node.dtype), axis.integer(axis.along)
    slots = body.slots

    def element() -> None:
        body.line(f"{name} = {axis.place('k')}")
        body.line(f"term = {body.name(axis.step.expr)}")

    def chunk() -> None:
        body.line(f"k = first + {team.position}")
        body.line(f"term = {kind}(0)")
        body.scoped(f"if k < {end}:", element)
        _scan_of_team(body, team, kind)
        body.line(f"{name} = {axis.place('k')}")
        body.line(f"if k < {end}: {slots.write(node)}[{body.index(axis.flat, node)}] = term")
        body.line(f"first = first + {team.step}")

    def inside() -> None:
        body.line(f"total = {kind}(0)" if before is None else f"total = {earlier}")
        body.line("first = 0" if before is None else f"first = block() * {PART}")
        body.scoped(f"while first < {end}:", chunk)

    if before is None:
        end = extent
        axis.each_row(team.number, inside)
        return axis.of_teams(team)
    parts = slots.integer("parts", before.shape[1])
    earlier = f"{slots.read(before, 0)}[row * {parts} + block()]"
    end = "end"
    body.line(f"end = min((block() + 1) * {PART}, {extent})")
    axis.each_row_of_blocks(inside)
    return axis.launch((before.shape[1], before.shape[0]), BLOCK, 2 * team.shared)


def _scan_of_team(body: Body, team: Team, kind: str) -> None:
    """Lines after which each thread has the sum of the terms up to its own, and all have the total."""
    body.line("term = warp_scan(term)")
    if not team.is_block:
        body.line("term = total + term")
        body.line("total = warp_last(term)")
        return
    each = body.fresh()
    body.line(f"{each} = shared(0, {kind!r})")
    body.line("sync_block()")
    body.line(f"if lane() == {WARP - 1}: {each}[own()] = term")
    body.line("sync_block()")
    body.line("for w in range(own()):")
    body.line(f"    total = total + {each}[w]")
    body.line("term = total + term")
    body.line(f"for w in range(own(), {WARPS}):")
    body.line(f"    total = total + {each}[w]")


def _sums_of_parts(axis: _Axis, found: Scratch) -> Launch:
    """What each block's part of a row adds up to."""
    axis = _Axis.of(axis.step)
    body, name, kind = axis.body, axis.along.variable.name, code(axis.step.node.dtype)
    extent = axis.integer(axis.along)

    def element() -> None:
        body.line(f"{name} = {axis.place('k')}")
        body.line(f"total = total + {body.name(axis.step.expr)}")
        body.line(f"k = k + {BLOCK}")

    def inside() -> None:
        body.line(f"total = {kind}(0)")
        body.line(f"k = block() * {PART} + thread()")
        body.scoped("while k < end:", element)
        BY_BLOCK.add_up(body, "total", "warp_sum", f"{kind}(0)", "{0} + {1}", kind)
        parts = body.slots.integer("parts", found.shape[1])
        target = f"{body.slots.write(found)}[row * {parts} + block()]"
        body.line(f"if thread() == 0: {target} = total")

    body.line(f"end = min((block() + 1) * {PART}, {extent})")
    axis.each_row_of_blocks(inside)
    return axis.launch((found.shape[1], found.shape[0]), BLOCK, BY_BLOCK.shared, "parts")


def _scan_of_parts(axis: _Axis, found: Scratch, before: Scratch) -> Launch:
    """What comes before each part: a block to a row."""
    slots, kind = Slots(), code(found.dtype)
    body = Body(slots, set(), axis.along.variable, None)
    source, target = slots.read(found, 0), slots.write(before)
    parts = slots.integer("parts", found.shape[1])

    def chunk() -> None:
        body.line("k = first + thread()")
        body.line(f"own_term = {kind}(0)")
        body.line(f"if k < {parts}: own_term = {source}[block() * {parts} + k]")
        body.line("term = own_term")
        _scan_of_team(body, BY_BLOCK, kind)
        body.line(f"if k + 1 < {parts}: {target}[block() * {parts} + k + 1] = term")
        body.line(f"first = first + {BLOCK}")

    body.line(f"total = {kind}(0)")
    body.line(f"if thread() == 0: {target}[block() * {parts}] = {kind}(0)")
    body.line("first = 0")
    body.scoped(f"while first < {parts}:", chunk)
    source_text = kernel_of("before", slots, body.lines)
    return Launch(source_text, slots.contents, (found.shape[0], 1), BLOCK, 2 * BY_BLOCK.shared)


def _arg(step: Reduction) -> Launch:
    """The first position of the largest (smallest) element; a NaN counts as both."""
    node, at_axis = step.node, step.node.params["axis"]
    flat = nests.flat_index([v for k, v in enumerate(step.variables) if k != at_axis], node.shape)
    axis = _Axis.of(step, flat)
    team = team_of(axis.rows, axis.extent)
    body, name, kind = axis.body, axis.along.variable.name, code(node.args[0].dtype)
    sign = ">" if node.primitive.reduction == "argmax" else "<"
    extent = axis.integer(axis.along)

    def compare() -> None:
        value = body.name(step.expr)
        better = f"({value} {sign} best) | (({value} != {value}) & (best == best))"
        body.line(f"if ({name} == {team.position}) | {better}:")
        body.line(f"    best, at = {value}, i8({name})")
        body.line(f"{name} = {name} + {team.step}")

    def take() -> None:
        """The better of two, of which the earlier one wins a tie."""
        better = f"(value {sign} best) | ((value != value) & (best == best))"
        equal = "((value == best) | ((value != value) & (best != best)))"
        both = f"({better}) | ({equal} & (place < at))"
        body.line(f"if (place < {extent}) & ((at == {extent}) | {both}):")
        body.line("    best, at = value, place")

    def inside() -> None:
        body.line(f"best, at = {kind}(0), i8({extent})")
        body.line(f"{name} = {team.position}")
        body.scoped(f"while {name} < {extent}:", compare)
        for distance in (16, 8, 4, 2, 1):
            body.line(f"value, place = warp_swap(best, {distance}), warp_swap(at, {distance})")
            take()
        if team.is_block:
            body.line(f"each, places = shared(0, {kind!r}), shared({team.shared}, 'i8')")
            body.line("sync_block()")
            body.line("if lane() == 0: each[own()] = best")
            body.line("if lane() == 0: places[own()] = at")
            body.line("sync_block()")
            body.line(f"for w in range({WARPS}):")
            body.line("    value, place = each[w], places[w]")
            body.depth += 1
            take()
            body.depth -= 1
        target = f"{body.slots.write(node)}[{body.index(axis.flat, node)}]"
        body.line(f"if {team.position} == 0: {target} = at")

    axis.each_row(team.number, inside)
    return axis.of_teams(team)
