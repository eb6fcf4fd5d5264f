"""Loop nests around scalar bodies: the texts of kernels, but for the loops that a target prints.

A kernel computes a range of the rows of a nest. Each row executes the nest's statements, a few loops
around the members that share them: a map assigns, a sum adds to an accumulator or, if a loop over its
elements lies inside the summed one, to memory. Loops over adjacent memory are merged into one. A target
prints the loops themselves and how partial sums of rows are shared: it is a `Printer`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from nbhvp.graph.node import Node
from nbhvp.graph.primitives import CALL
from nbhvp.plan.costs import CPU
from nbhvp.plan.nests.nest import Member, Nest, Statement
from nbhvp.plan.nests.pull import Expr, Index, Quotient, Var, contiguous, parts
from nbhvp.plan.nests.text import Body, Scratch, Slots, code
from nbhvp.plan.schedule import Reduction

__all__ = [
    "Kernel",
    "Loop",
    "axis_loops",
    "bounds",
    "combine",
    "flat_index",
    "level",
    "seconds",
]


def seconds(*exprs: Expr) -> float:
    """About how long one element takes: arithmetic is vectorised, calls are not (measured)."""
    costs = [part.cost for part in parts(exprs)]
    return CPU.near + sum(cost * (CPU.scalar if cost >= CALL else CPU.flop) for cost in costs)


# Loops.


@dataclass(frozen=True)
class Loop:
    """A loop of a kernel; `summed` tells for each member whether it sums over it."""

    variable: Var
    extent: int
    bounds: tuple[Expr, Expr] | None = None
    summed: tuple[bool, ...] = ()
    is_fixed: bool = False


def _collapse(loops: list[Loop], indices: list[Index]) -> tuple[list[Loop], set[Var]]:
    """Merge neighbouring loops that every index walks through as one; drop those of extent 1."""
    kept: list[Loop] = []
    dropped: set[Var] = set()
    for loop in loops:
        if loop.extent == 1 and not loop.is_fixed and not loop.bounds:
            dropped.add(loop.variable)
            continue
        if kept and _can_merge(kept[-1], loop, indices):
            outer = kept.pop()
            dropped.add(outer.variable)
            extent = outer.extent * loop.extent
            loop = Loop(loop.variable, extent, None, loop.summed)
        kept.append(loop)
    return kept, dropped


def _can_merge(outer: Loop, inner: Loop, indices: list[Index]) -> bool:
    if outer.is_fixed or inner.is_fixed or outer.bounds or inner.bounds:
        return False
    return outer.summed == inner.summed and all(
        i.terms.get(outer.variable, 0) == inner.extent * i.terms.get(inner.variable, 0)
        for i in indices
    )


def _indices(exprs: list[Expr]) -> list[Index]:
    """Every index in expressions, those within indices included."""
    found: list[Index] = []
    for part in parts(exprs):
        found += part.indices
    for index in found:
        found += [atom.index for atom in index.terms if isinstance(atom, Quotient)]
    return found


def flat_index(variables, shape) -> Index:
    flat = Index()
    for variable, stride in zip(variables, contiguous(shape), strict=True):
        flat = flat + Index({variable: stride}) if stride else flat
    return flat


def bounds(body: Body, loop: Loop) -> tuple[str, str]:
    """Where a loop starts and ends: the kernel's own bounds, if it is the outermost one."""
    if loop.variable is body.outer:
        return "lo", "hi"
    if loop.bounds:
        first, last = map(body.name, loop.bounds)
        return first, last
    return "0", body.slots.integer(("extent", loop.variable, loop.extent), loop.extent)


# Nests.

_COMBINE = {
    "sum": ("0", "add_reassoc({0}, {1})", "{0} + {1}"),
    "all": ("True", "{0} & {1}", "{0} & {1}"),
}
"""Identity, text for floats and complex numbers, text for others."""


def combine(node: Node) -> tuple[str, str]:
    """The identity of a sum, and the text that adds to it."""
    name = node.primitive.reduction.replace("segment_", "")
    identity, floating, exact = _COMBINE[name]
    kind = node.dtype
    return f"{code(kind)}({identity})", floating if kind.kind in "fc" else exact


class Printer(Protocol):
    """What a target prints around the bodies of a nest."""

    def block(self) -> int:
        """The rows of which the sums are added up together."""

    def distance(self, node: Node) -> int:
        """How far apart the partial results of blocks lie, in elements."""

    def begin(self) -> None:
        """What stands at the top: among others, where the partial results of a block lie."""

    def end(self) -> None:
        """What stands behind the last row."""

    def open(self, loop: Loop, inside: Callable[[], None]) -> None:
        """A loop, and what `inside` prints in it."""

    def innermost(self, loops: list[Loop], exprs: list[Expr], inside: Callable[[], None]) -> None:
        """The last of some loops."""

    def between(self) -> None:
        """What stands between the statements of a row."""

    def store(self, line: str, member: Member, loops: list[Loop]) -> str:
        """A line that stores an element within some loops."""

    def finish(self, member: Member, total: str, loops: list[Loop]) -> None:
        """What a total that some loops have added up needs before it is the sum."""


class Kernel:
    """The text of one nest, with the loops of a target."""

    def __init__(self, nest: Nest, printer: Callable[[Kernel], Printer]):
        self.nest = nest
        self.statements = nest.statements()
        shaped = [self._shaped(statement) for statement in self.statements]
        self.loops = [loops for loops, _ in shaped]
        self.dropped = [dropped for _, dropped in shaped]
        self.row = self.loops[0][0]
        self.slots = Slots()
        self.body = Body(self.slots, set(), self.row.variable, None)
        self.body.written = set(nest.nodes)
        self.totals: dict[Member, str] = {}
        self.seconds = sum(map(self._seconds, self.statements, self.loops))
        self.printer = printer(self)
        self.block = self.printer.block()
        # Where each sum over rows is added up: with one block, in the node itself.
        blocks = -(-self.row.extent // self.block)
        self.partials: dict[Node, Node | Scratch] = {
            node: Scratch((blocks, self.printer.distance(node)), node.dtype) if blocks > 1 else node
            for node in dict.fromkeys(m.node for m in nest.members if m.row.is_summed)
        }

    def _shaped(self, statement: Statement) -> tuple[list[Loop], set[Var]]:
        """The loops of a statement, the rows first, merged where they can be."""
        first, members = statement.members[0], statement.members
        alone = len(self.statements) == 1
        rows = tuple(m.row.is_summed for m in members)
        loops = [Loop(first.row.variable, first.row.extent, None, rows, not alone)]
        for k, (variable, extent, bounds) in enumerate(statement.loops):
            summed = tuple(m.loops[k].is_summed for m in members)
            loops.append(Loop(variable, extent, bounds, summed))
        exprs = [expr for member in members for expr in member.exprs]
        indices = [*_indices(exprs), *(member.index for member in members)]
        kept, dropped = _collapse(loops, indices)
        if not kept or kept[0].bounds:
            # There is one row, but a kernel needs an outermost loop.
            kept = [Loop(first.row.variable, 1, None, rows), *kept]
        return kept, dropped

    def _seconds(self, statement: Statement, loops: list[Loop]) -> float:
        count = 1.0
        for loop in loops:
            count *= loop.extent
        return count * seconds(*(m.expr for m in statement.members))

    def text(self) -> list[str]:
        """The lines, after those that read the table."""
        body = self.body
        everything = [
            (statement, loops, dropped, k)
            for statement, loops, dropped in zip(
                self.statements, self.loops, self.dropped, strict=True
            )
            for k in range(len(statement.members))
        ]
        self.printer.begin()
        for statement, loops, dropped, k in everything:
            body.dropped = dropped
            self._before(statement, loops, k, 0)
        if len(self.statements) == 1:
            self._enter(0, 0)
        else:
            self.printer.open(self.row, self._row)
        for statement, loops, dropped, k in everything:
            body.dropped = dropped
            self._after(statement, loops, k, 0)
        self.printer.end()
        return body.lines

    @property
    def kind(self) -> str:
        return "sum" if self.partials else "nest"

    @property
    def writes(self) -> tuple[Node | Scratch, ...]:
        """The memory that it writes."""
        return tuple(self.partials.get(node, node) for node in self._written())

    def _written(self) -> list[Node]:
        summed = {m.node for m in self.nest.members if m.row.is_summed}
        in_memory = {m.node for m, flags in self._flags() if _is_in_memory(flags)}
        kept = self.nest.kept | summed | in_memory
        return [node for node in self.nest.nodes if node in kept]

    def _flags(self):
        for statement, loops in zip(self.statements, self.loops, strict=True):
            for k, member in enumerate(statement.members):
                yield member, [loop.summed[k] for loop in loops]

    def _row(self) -> None:
        for k in range(len(self.statements)):
            if k:
                self.printer.between()
            self._enter(k, 1)

    def _enter(self, at: int, depth: int) -> None:
        """What stands within the first `depth` loops of a statement."""
        statement, loops, body = self.statements[at], self.loops[at], self.body
        body.dropped = self.dropped[at]
        body.inner = loops[-1].variable
        members = range(len(statement.members))
        if depth:
            for k in members:
                self._before(statement, loops, k, depth)
        if depth == len(loops):
            self._assign(statement, loops)
        elif depth == len(loops) - 1:
            exprs = [expr for member in statement.members for expr in member.exprs]
            self.printer.innermost(loops, exprs, lambda: self._enter(at, depth + 1))
        else:
            self.printer.open(loops[depth], lambda: self._enter(at, depth + 1))
        if depth:
            for k in members:
                self._after(statement, loops, k, depth)

    def _assign(self, statement: Statement, loops: list[Loop]) -> None:
        """Compute, then store: a store between loads would keep LLVM from vectorising."""
        body, lines = self.body, []
        for k, member in enumerate(statement.members):
            flags = [loop.summed[k] for loop in loops]
            value = body.name(member.expr)
            _, add = combine(member.node) if any(flags) else ("", "")
            if not any(flags):
                body.know(member.node, member.index, value)
                if member.node in self.nest.kept:
                    lines.append(self._store(member, value, loops))
            elif level(flags) < len(flags):
                total = self.totals[member]
                lines.append(f"{total} = {add.format(total, value)}")
            else:
                element = self._element(member)
                lines.append(self._store(member, add.format(element, value), loops))
        for line in lines:
            body.line(line)

    def _store(self, member: Member, value: str, loops: list[Loop]) -> str:
        return self.printer.store(f"{self._element(member)} = {value}", member, loops)

    def _before(self, statement: Statement, loops: list[Loop], k: int, depth: int) -> None:
        """Set to zero what a member adds to from here on."""
        member, body = statement.members[k], self.body
        flags = [loop.summed[k] for loop in loops]
        if not any(flags):
            return
        identity, _ = combine(member.node)
        if _is_in_memory(flags) and flags.index(True) == depth:
            kept = [loop for loop in loops[depth:] if not loop.summed[k]]
            body.inner = kept[-1].variable
            self._clear(member, loops[:depth], kept, identity)
            body.inner = loops[-1].variable
        if level(flags) == depth < len(flags):
            if member not in self.totals:
                self.totals[member] = body.fresh()
            body.line(f"{self.totals[member]} = {identity}")

    def _clear(self, member: Member, around: list[Loop], loops: list[Loop], identity: str) -> None:
        def inside(depth: int) -> None:
            if depth == len(loops):
                self.body.line(self._store(member, identity, [*around, *loops]))
            else:
                self.printer.open(loops[depth], lambda: inside(depth + 1))

        inside(0)

    def _after(self, statement: Statement, loops: list[Loop], k: int, depth: int) -> None:
        """Pass on what a member has added up since `_before`."""
        member, body = statement.members[k], self.body
        flags = [loop.summed[k] for loop in loops]
        if not any(flags) or not level(flags) == depth < len(flags):
            return
        total, around = self.totals[member], loops[:depth]
        self.printer.finish(member, total, loops[depth:])
        if _is_in_memory(flags):
            _, add = combine(member.node)
            element = self._element(member)
            body.line(self._store(member, add.format(element, total), around))
            return
        if not member.row.is_summed:
            body.know(member.node, member.index, total)
        if member.row.is_summed or member.node in self.nest.kept:
            body.line(self._store(member, total, around))

    def offset(self, node: Node) -> str:
        return f"share{list(self.partials).index(node)}"

    def _element(self, member: Member) -> str:
        node = member.node
        if node in self.body.homes:
            return self.body.element(node, member.index)
        position = self.body.position(member.index, node)
        if node in self.partials:
            position = f"{self.offset(node)} + {position}"
        return f"{self.slots.write(self.partials.get(node, node))}[{position}]"


def level(flags: list[bool]) -> int:
    """How many loops are around an accumulator: those up to the last that is not summed."""
    return max((k + 1 for k, summed in enumerate(flags) if not summed), default=0)


def _is_in_memory(flags: list[bool]) -> bool:
    """Whether a sum adds to memory: a loop over its elements is inside a summed one."""
    return any(flags[: level(flags)])


# Scans and positions.


def axis_loops(step: Reduction, flat: Index, axis: int) -> tuple[Body, list[Loop], Loop]:
    """A body, the loops around the axis that a scan walks along, and the loop along it."""
    loops = [Loop(v, n) for v, n in zip(step.variables, step.node.args[0].shape, strict=True)]
    along = loops.pop(axis)
    kept, dropped = _collapse(loops, [*_indices([step.expr]), flat])
    innermost = along.variable if axis == len(loops) else None
    return Body(Slots(), dropped, (kept or [along])[0].variable, innermost), kept, along
