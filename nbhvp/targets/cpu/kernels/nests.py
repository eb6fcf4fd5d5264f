"""From steps to kernels for CPUs: the loops of nests, and what is no nest.

A kernel is one function `(table, lo, hi)` over a range of the rows of a nest. An innermost loop is cut
where its guards change, and each long part is printed with the guards' values there.

Invariant: a sum over rows runs over blocks that depend on its size alone, each into its own partial
result, and one more kernel adds these in order: the result has the same bits on any number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from nbhvp.graph.node import Node
from nbhvp.plan.costs import CPU
from nbhvp.plan.nests.nest import Member, Nest
from nbhvp.plan.nests.pull import Choose, Expr, Index, Inside, Var, parts
from nbhvp.plan.nests.text import Body, KernelCall, Scratch, Slots, code, kernel_text
from nbhvp.plan.recurrence import Recurrence
from nbhvp.plan.schedule import Library, Reduction, Step
from nbhvp.targets.cpu.kernels import interleaved, matrices, recurrence, sweep
from nbhvp.targets.nests import (
    Kernel,
    Loop,
    axis_loops,
    bounds,
    combine,
    flat_index,
    seconds,
)

__all__ = ["emit", "has_kernels"]

FEW = 2
"""Places apart, such as both edges of a grid, at each of which a loop is cut."""


def has_kernels(step: Step) -> bool:
    """Whether a step is made of kernels: neither BLAS nor a call of NumPy."""
    if isinstance(step, Library):
        return _kernels_of(step.node) is not None
    return isinstance(step, Nest | Reduction | Recurrence)


def _kernels_of(node: Node) -> Callable[[Node], list[KernelCall]] | None:
    """What gives the kernels of a node that no nest computes, if it has some."""
    entry = node.primitive
    return sweep.KERNELS.get(entry) or matrices.kernels_of(node) or interleaved.kernels_of(node)


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


def _block(row: float) -> int:
    """Rows that make up a block, from the seconds of one: long enough to be worth a thread."""
    return max(1, int(CPU.block / max(row, 1e-12)))


# Loops.


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

    def distance(self, node: Node) -> int:
        # Not in one cache line if they are added to in memory: threads would take it from one another.
        line = CPU.line // node.dtype.itemsize
        return node.size if node.size == 1 else -(-node.size // line) * line

    def begin(self) -> None:
        kernel = self.kernel
        for node in kernel.partials:
            size = kernel.slots.integer(("size", node), self.distance(node))
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

    def end(self) -> None:
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
        has_loops=any(loop.bounds or loop.extent > 1 for loops in kernel.loops for loop in loops),
    )
    shares = kernel.partials.items()
    return [call, *(_combine_blocks(node, one) for node, one in shares if one is not node)]


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
