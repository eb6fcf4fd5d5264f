"""From steps to kernels for CPUs: the loop nests around the scalar bodies.

A kernel is one function `(table, lo, hi)` over a range of the rows of a nest. Each row executes the
nest's statements, a few loops around the members that share them: a map assigns, a sum adds to an
accumulator or, if a loop over its elements lies inside the summed one, to memory. Loops over adjacent
memory are merged into one. An innermost loop is cut where its guards change, and each long part is
printed with the guards' values there.

Invariant: a sum over rows runs over blocks that depend on its size alone, each into its own partial
result, and one more kernel adds these in order: the result has the same bits on any number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from nbhvp.graph.node import Node
from nbhvp.graph.primitives import CALL
from nbhvp.plan.costs import CPU
from nbhvp.plan.nest import Member, Nest, Statement
from nbhvp.plan.pull import Choose, Expr, Index, Inside, Quotient, Var, contiguous, parts
from nbhvp.plan.recurrence import Recurrence
from nbhvp.plan.schedule import Library, Reduction, Step
from nbhvp.plan.text import Body, KernelCall, Pointer, Scratch, Slots, Symbol, code, kernel_text
from nbhvp.targets.cpu import matrices, recurrence, sweep

__all__ = ["KernelCall", "Pointer", "Scratch", "Symbol", "code", "emit", "has_kernels", "seconds"]

FEW = 2
"""Places apart, such as both edges of a grid, at each of which a loop is cut."""


def has_kernels(step: Step) -> bool:
    """Whether a step is made of kernels: neither BLAS nor a call of NumPy."""
    if isinstance(step, Library):
        return _kernels_of(step.node) is not None
    return isinstance(step, Nest | Reduction | Recurrence)


def _kernels_of(node: Node) -> Callable[[Node], list[KernelCall]] | None:
    """What gives the kernels of a node that no nest computes, if it has some."""
    return sweep.KERNELS.get(node.primitive) or matrices.kernels_of(node)


def emit(step: Step) -> list[KernelCall]:
    """The kernels of one step that has some."""
    if isinstance(step, Library):
        kernels = _kernels_of(step.node)
        assert kernels is not None, "a step without kernels is a call of NumPy"
        return kernels(step.node)
    if isinstance(step, Nest):
        return _calls(step)
    if isinstance(step, Recurrence):
        return recurrence.kernels(step)
    return _scan(step) if step.node.primitive.reduction == "cumsum" else _arg(step)


def seconds(*exprs: Expr) -> float:
    """About how long one element takes: arithmetic is vectorised, calls are not (measured)."""
    costs = [part.cost for part in parts(exprs)]
    return CPU.near + sum(cost * (CPU.scalar if cost >= CALL else CPU.flop) for cost in costs)


def padded(node: Node) -> int:
    """How far apart the partial results of blocks lie, in elements.

    Not in one cache line if they are added to in memory, where threads would take it from one another.
    """
    line = CPU.line // node.dtype.itemsize
    return node.size if node.size == 1 else -(-node.size // line) * line


def _block(row: float) -> int:
    """Rows that make up a block, from the seconds of one: long enough to be worth a thread."""
    return max(1, int(CPU.block / max(row, 1e-12)))


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


def _open(body: Body, loop: Loop, inside: Callable[[], None]) -> None:
    start, end = bounds(body, loop)
    body.scoped(f"for {loop.variable.name} in range({start}, {end}):", inside)


def _innermost(
    body: Body, loops: list[Loop], exprs: list[Expr], inside: Callable[[], None]
) -> None:
    """The last of some loops, cut where its guards change."""
    loop = loops[-1]
    variable = loop.variable
    along, across = _guards(exprs, variable, body.dropped)
    if sum(_exceptions(condition, loops) for condition in across) > CPU.rare:
        across = []  # too many rows for the guarded text, which has no vectors
    cuts = {0, loop.extent}
    for condition in along:
        cuts |= {min(max(0, at), loop.extent) for both in _intervals(condition) for at in both}
    long, short = [], []
    for part in pairwise(sorted(cuts)):
        (short if part[1] - part[0] <= CPU.narrow else long).append(part)
    if not along or loop.bounds or not 0 < len(long) <= CPU.parts:
        _open(body, loop, inside)
        return
    start, end = bounds(body, loop)
    stop = end
    rare = {c for c in across if _is_rare(c)}
    if across:
        # Where guards of outer loops are not as they are mostly, all is left to the guarded text.
        tests = [" & ".join(body.tests(c)) for c in across]
        usual = [f"(not ({t}))" if c in rare else t for c, t in zip(across, tests, strict=True)]
        body.line(f"stop = {end} if {' & '.join(usual)} else {start}")
        stop = "stop"
    loop_number = len(body.slots.contents)  # loops of one variable are cut at places of their own
    names = {
        at: body.slots.integer(("cut", loop_number, k), at) for k, at in enumerate(sorted(cuts))
    }
    clip = lambda part: (f"max({start}, {names[part[0]]})", f"min({stop}, {names[part[1]]})")
    guarded = [clip(part) for part in short] + [("stop", end)] * bool(across)
    if guarded:
        body.line(f"for part in ({''.join(f'({a}, {b}), ' for a, b in guarded)}):")
        body.depth += 1
        body.scoped(f"for {variable.name} in range(part[0], part[1]):", inside)
        body.depth -= 1
    for part in long:
        body.assumed, body.denied = set(across) - rare, set(rare)
        for condition in along:
            holds = any(a <= part[0] and part[1] <= b for a, b in _intervals(condition))
            (body.assumed if holds else body.denied).add(condition)
        body.scoped(f"for {variable.name} in range({', '.join(clip(part))}):", inside)
    body.assumed, body.denied = set(), set()


def _guards(exprs: list[Expr], variable: Var, dropped: set[Var]):
    """Conditions on the innermost variable alone, and on outer ones alone."""
    along, across = [], []
    for condition in _conditions(exprs):
        live = {atom: c for atom, c in condition.index.terms.items() if atom not in dropped}
        if not _intervals(condition) or not all(isinstance(atom, Var) for atom in live):
            continue
        if live == {variable: 1}:
            along.append(condition)
        elif variable not in live:
            across.append(condition)
    return along, across


def _intervals(condition: Inside) -> list[tuple[int, int]]:
    """Where a guard of one variable holds; nothing if that is at many places apart."""
    first, step = -condition.index.const, condition.step
    if step == 1:
        return [(first, first + condition.extent)]
    places = range(first, first + condition.extent, step)
    return [(at, at + 1) for at in places] if len(places) <= FEW else []


def _exceptions(condition: Inside, loops: list[Loop]) -> float:
    """The part of the iterations of outer loops in which a guard is not as it is mostly."""
    index = condition.index
    extents = {loop.variable: loop.extent for loop in loops}
    spans = [step * (extents[atom] - 1) for atom, step in index.terms.items() if atom in extents]
    first = index.const + sum(span for span in spans if span < 0)
    end = index.const + sum(span for span in spans if span > 0) + 1
    both = max(0, min(end, condition.extent) - max(first, 0))
    inside = both / condition.step / (end - first)
    return min(inside, 1 - inside)


def _is_rare(condition: Inside) -> bool:
    """Whether a guard of one outer loop holds in few of its iterations, as at the edge of a grid."""
    steps = list(condition.index.terms.values())
    few = condition.step > 1 or condition.extent <= CPU.narrow * abs(steps[0])
    return len(steps) == 1 and few


def _conditions(exprs: list[Expr]) -> list[Inside]:
    found = (part.conditions for part in parts(exprs) if isinstance(part, Choose))
    return list(dict.fromkeys(condition for some in found for condition in some))


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

    def begin(self) -> None:
        """What stands at the top: among others, where the partial results of a block lie."""

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
            node: Scratch((blocks, padded(node)), node.dtype) if blocks > 1 else node
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
            self._clear(member, kept, identity)
            body.inner = loops[-1].variable
        if level(flags) == depth < len(flags):
            if member not in self.totals:
                self.totals[member] = body.fresh()
            body.line(f"{self.totals[member]} = {identity}")

    def _clear(self, member: Member, loops: list[Loop], identity: str) -> None:
        def inside(depth: int) -> None:
            if depth == len(loops):
                self.body.line(self._store(member, identity, loops))
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
        node, position = member.node, self.body.position(member.index, member.node)
        if node in self.partials:
            position = f"{self.offset(node)} + {position}"
        return f"{self.slots.write(self.partials.get(node, node))}[{position}]"


class _Loops:
    """The loops of a CPU: over a range of rows, the innermost cut where its guards change."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel

    def block(self) -> int:
        kernel = self.kernel
        extent = kernel.row.extent
        summed = [m for m in kernel.nest.members if m.row.is_summed]
        if not summed:
            return _block(kernel.seconds / max(1, extent))
        inner = max(
            math.prod(loop.extent for loop in loops[1:] if not loop.bounds)
            for loops in kernel.loops
        )
        inner = max(1, inner)
        share = CPU.share * max(m.node.size for m in summed)
        return max(1, -(-CPU.block_size // inner), -(-extent // CPU.blocks), share // inner)

    def begin(self) -> None:
        kernel = self.kernel
        for node in kernel.partials:
            size = kernel.slots.integer(("size", node), padded(node))
            rows = kernel.slots.integer("block", kernel.block)
            kernel.body.line(f"{kernel.offset(node)} = lo // {rows} * {size}")

    def open(self, loop: Loop, inside: Callable[[], None]) -> None:
        _open(self.kernel.body, loop, inside)

    def innermost(self, loops: list[Loop], exprs: list[Expr], inside: Callable[[], None]) -> None:
        _innermost(self.kernel.body, loops, exprs, inside)

    def between(self) -> None:
        pass

    def store(self, line: str, member: Member, loops: list[Loop]) -> str:
        return line

    def finish(self, member: Member, total: str, loops: list[Loop]) -> None:
        pass


def _calls(nest: Nest) -> list[KernelCall]:
    """The kernel of a nest, and those that add up the partial results of its blocks."""
    kernel = Kernel(nest, _Loops)
    body = kernel.text()
    source = kernel_text(kernel.kind, kernel.slots, body)
    call = KernelCall(
        source,
        kernel.slots.contents,
        kernel.row.extent,
        kernel.block,
        kernel.writes,
        kernel.seconds,
    )
    shares = kernel.partials.items()
    return [call, *(_combine_blocks(node, one) for node, one in shares if one is not node)]


def level(flags: list[bool]) -> int:
    """How many loops are around an accumulator: those up to the last that is not summed."""
    return max((k + 1 for k, summed in enumerate(flags) if not summed), default=0)


def _is_in_memory(flags: list[bool]) -> bool:
    """Whether a sum adds to memory: a loop over its elements is inside a summed one."""
    return any(flags[: level(flags)])


def _combine_blocks(node: Node, partial: Scratch) -> KernelCall:
    """Add the partial results of the blocks, in order."""
    identity, add = combine(node)
    slots = Slots()
    source, target = slots.read(partial, 0), slots.write(node)
    blocks = slots.integer("blocks", partial.shape[0])
    size = slots.integer("size", partial.shape[1])
    body = [
        "for i in range(lo, hi):",
        f"    {target}[i] = {identity}",
        f"for b in range({blocks}):",
        "    for i in range(lo, hi):",
        f"        {target}[i] = {add.format(f'{target}[i]', f'{source}[b * {size} + i]')}",
    ]
    text = kernel_text("combine", slots, body)
    row = partial.shape[0] * CPU.near
    return KernelCall(text, slots.contents, node.size, _block(row), (node,), node.size * row)


# Scans and positions.


def axis_loops(step: Reduction, flat: Index, axis: int) -> tuple[Body, list[Loop], Loop]:
    """A body, the loops around the axis that a scan walks along, and the loop along it."""
    loops = [Loop(v, n) for v, n in zip(step.variables, step.node.args[0].shape, strict=True)]
    along = loops.pop(axis)
    kept, dropped = _collapse(loops, [*_indices([step.expr]), flat])
    innermost = along.variable if axis == len(loops) else None
    return Body(Slots(), dropped, (kept or [along])[0].variable, innermost), kept, along


def _along_axis(step: Reduction, flat: Index, axis: int, inside: Callable) -> KernelCall:
    """A kernel that walks along one axis in order; `inside(body, loop)` prints what is done there."""
    body, kept, along = axis_loops(step, flat, axis)

    def enter(depth: int) -> None:
        if depth == len(kept):
            inside(body, along)
        else:
            _open(body, kept[depth], lambda: enter(depth + 1))

    enter(0)
    time = step.node.args[0].size * (seconds(step.expr) + CPU.latency)
    outer = kept[0].extent if kept else along.extent
    block = _block(time / max(1, outer)) if kept else max(1, along.extent)
    source = kernel_text(step.node.primitive.reduction, body.slots, body.lines)
    return KernelCall(source, body.slots.contents, outer, block, (step.node,), time)


def _scan(step: Reduction) -> list[KernelCall]:
    node, axis = step.node, step.node.params["axis"]
    flat = flat_index(step.variables, node.shape)

    def inside(body: Body, loop: Loop) -> None:
        array = body.slots.write(node)
        start, end = bounds(body, loop)
        body.line(f"total = {code(node.dtype)}(0)")
        body.line(f"for k in range({start}, {end}):")
        body.depth += 1
        last = body.slots.integer("last", loop.extent - 1)
        body.line(f"{loop.variable.name} = {f'{last} - k' if node.params['reverse'] else 'k'}")
        body.line(f"total = total + {body.name(step.expr)}")
        body.line(f"{array}[{body.index(flat, node)}] = total")

    return [_along_axis(step, flat, axis, inside)]


def _arg(step: Reduction) -> list[KernelCall]:
    """The first position of the largest (smallest) element; a NaN counts as both."""
    node, axis = step.node, step.node.params["axis"]
    flat = flat_index([v for k, v in enumerate(step.variables) if k != axis], node.shape)
    sign = ">" if node.primitive.reduction == "argmax" else "<"

    def inside(body: Body, loop: Loop) -> None:
        array = body.slots.write(node)
        body.line(f"best, at = {code(node.args[0].dtype)}(0), i8(0)")

        def compare() -> None:
            value = body.name(step.expr)
            better = f"({value} {sign} best) | (({value} != {value}) & (best == best))"
            body.line(f"if ({loop.variable.name} == 0) | {better}:")
            body.line(f"    best, at = {value}, i8({loop.variable.name})")

        _open(body, loop, compare)
        body.line(f"{array}[{body.index(flat, node)}] = at")

    return [_along_axis(step, flat, axis, inside)]
