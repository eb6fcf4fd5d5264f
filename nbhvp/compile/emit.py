"""From steps to kernels for CPUs: the loop nests around the scalar bodies.

A kernel is one function `(table, lo, hi)` over a range of its outermost loop: a map, a reduction by
accumulators, a scan. Loops that walk memory as one are one loop. Where guards hold along most of the
innermost loop, that part is printed without them. A reduction whose outermost axis is summed runs
over blocks fixed by its size alone, each into its own partial result, and one more kernel adds those
in order: the result has the same bits on any number of threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nbhvp.compile.pull import Choose, Expr, Index, Inside, Quotient, Var, contiguous, parts
from nbhvp.compile.schedule import Map, Reduction
from nbhvp.compile.text import Body, Pointer, Scratch, Slots, Symbol, code, kernel_text
from nbhvp.graph.primitives import CALL

__all__ = ["KernelCall", "Pointer", "Scratch", "Symbol", "code", "emit", "seconds"]

BLOCK = 20e-6
"""Seconds of a map that one thread takes at a time."""
SUM_BLOCK = 4096
SUM_BLOCKS = 64


@dataclass(eq=False)
class KernelCall:
    """The text of a kernel, the contents of its table, and how its outermost loop is cut."""

    source: str
    slots: list
    extent: int
    block: int
    writes: tuple = ()
    seconds: float = 0.0
    """An estimate of the time that it takes on one thread."""


def emit(step: Map | Reduction) -> list[KernelCall]:
    """The kernels of one step."""
    return _map(step) if isinstance(step, Map) else _reduction(step)


# Loops.


def _collapse(loops: list[tuple[Var, int]], indices: list[Index], fixed=()) -> tuple[list, set]:
    """Merge neighbouring loops that every index walks through as one; drop those of extent 1."""
    kept: list[tuple[Var, int]] = []
    dropped: set[Var] = set()
    for variable, extent in loops:
        if extent == 1 and variable not in fixed:
            dropped.add(variable)
            continue
        if kept and kept[-1][0] not in fixed and variable not in fixed:
            outer, outer_extent = kept[-1]
            if all(i.terms.get(outer, 0) == extent * i.terms.get(variable, 0) for i in indices):
                dropped.add(outer)
                kept[-1] = (variable, outer_extent * extent)
                continue
        kept.append((variable, extent))
    return kept, dropped


def _indices(exprs: list[Expr]) -> list[Index]:
    """Every index in expressions, those within indices included."""
    found: list[Index] = []
    for part in parts(exprs):
        found += part.indices
    for index in found:
        found += [atom.index for atom in index.terms if isinstance(atom, Quotient)]
    return found


def _flat(variables, shape) -> Index:
    flat = Index()
    for variable, stride in zip(variables, contiguous(shape), strict=True):
        flat = flat + Index({variable: stride}) if stride else flat
    return flat


# Maps.


def _map(step: Map) -> list[KernelCall]:
    exprs = [expr for _, expr in step.results]
    flat = _flat(step.variables, step.shape)
    loops = list(zip(step.variables, step.shape, strict=True))
    loops, dropped = _collapse(loops, [*_indices(exprs), flat])
    loops = loops or [(Var("j0"), 1)]
    slots = Slots()
    body = Body(slots, dropped, loops[0][0], loops[-1][0])
    written = [(slots.write(node), body.index(flat, node)) for node, _ in step.results]

    def assign():
        values = [body.name(expr) for expr in exprs]
        for (array, position), value in zip(written, values, strict=True):
            body.line(f"{array}[{position}] = {value}")

    _open_loops(body, loops[:-1])
    _innermost(body, loops[-1], exprs, assign)
    inner = math.prod(extent for _, extent in loops[1:])
    one = seconds(*exprs)
    source = kernel_text("map", slots, body.lines)
    writes = tuple(node for node, _ in step.results)
    extent, block, time = loops[0][1], _block(inner * one), inner * loops[0][1] * one
    return [KernelCall(source, slots.contents, extent, block, writes, time)]


def seconds(*exprs: Expr) -> float:
    """About how long one element takes: arithmetic is vectorised, calls are not (measured)."""
    costs = [part.cost for part in parts(exprs)]
    return 1e-10 + sum(cost * (2e-10 if cost >= CALL else 2.5e-11) for cost in costs)


def _block(row: float) -> int:
    """Rows that make up a block, from the seconds of one: long enough to be worth a thread."""
    return max(1, int(BLOCK / max(row, 1e-12)))


def _open_loops(body: Body, loops) -> None:
    for variable, extent, *_ in loops:
        body.line(f"for {variable.name} in range({', '.join(_range(body, variable, extent))}):")
        body.depth += 1


def _range(body: Body, variable: Var, extent: int) -> tuple[str, str]:
    """Where a loop starts and ends: the kernel's own bounds, if it is the outermost one."""
    if variable is body.outer:
        return "lo", "hi"
    return "0", body.slots.integer(("extent", variable), extent)


def _innermost(body: Body, loop, exprs, assign) -> None:
    """The innermost loop; where guards hold along most of it, that part is printed without them."""
    variable, extent = loop
    start, end = _range(body, variable, extent)
    along, across, first, last = _guards(exprs, variable, body.dropped, extent)
    if not along or (last - first < extent / 2 and extent - (last - first) > 16):
        body.scoped(f"for {variable.name} in range({start}, {end}):", assign)
        return
    bounds = ("first", variable), ("last", variable)
    first, last = map(body.slots.integer, bounds, (first, last))
    body.line(f"first = min({end}, max({start}, {first}))")
    body.line(f"last = max(first, min({end}, {last}))")
    if across:
        tests = " & ".join(test for c in across for test in body.tests(c))
        body.line(f"if not ({tests}):")
        body.line(f"    first = last = {end}")
    body.line(f"for edge in (({start}, first), (last, {end})):")
    body.depth += 1
    body.scoped(f"for {variable.name} in range(edge[0], edge[1]):", assign)
    body.depth -= 1
    body.assumed = {*along, *across}
    body.scoped(f"for {variable.name} in range(first, last):", assign)
    body.assumed = set()


def _guards(exprs, variable: Var, dropped: set[Var], extent: int):
    """Conditions on the innermost variable alone, on outer ones alone, and where the former hold."""
    along, across, first, last = [], [], 0, extent
    for condition in _conditions(exprs):
        index = condition.index
        live = {atom: c for atom, c in index.terms.items() if atom not in dropped}
        if condition.step != 1 or not all(isinstance(atom, Var) for atom in live):
            continue
        if live == {variable: 1}:
            along.append(condition)
            first = max(first, -index.const)
            last = min(last, condition.extent - index.const)
        elif variable not in live:
            across.append(condition)
    return along, across, first, last


def _conditions(exprs) -> list[Inside]:
    return list(
        dict.fromkeys(
            c for part in parts(exprs) if isinstance(part, Choose) for c in part.conditions
        )
    )


# Reductions.


def _reduction(step: Reduction) -> list[KernelCall]:
    kind = step.node.primitive.reduction
    shapes = {
        "sum": _sum,
        "all": _sum,
        "segment_sum": _segment_sum,
        "cumsum": _scan,
        "argmax": _arg,
        "argmin": _arg,
    }
    return shapes[kind](step)


_COMBINE = {
    "sum": ("0", "add_reassoc({0}, {1})", "{0} + {1}"),
    "all": ("True", "{0} & {1}", "{0} & {1}"),
}
"""Identity, text for floats and complex numbers, text for others."""


def _combine(step: Reduction):
    """The identity of a sum, and the text that adds to it."""
    name = step.node.primitive.reduction.replace("segment_", "")
    identity, floating, exact = _COMBINE[name]
    kind = step.node.dtype
    return f"{code(kind)}({identity})", floating if kind.kind in "fc" else exact


def _sum(step: Reduction) -> list[KernelCall]:
    node = step.node
    axes = node.params.get("axes", tuple(range(len(step.variables))))
    kept = [v for k, v in enumerate(step.variables) if k not in axes]
    flat = _flat(kept, node.shape)
    indices = [*_indices([step.expr]), flat]
    shape = node.args[0].shape
    loops, dropped = [], set()
    for summed, run in _runs(list(zip(step.variables, shape, strict=True)), axes):
        merged, gone = _collapse(run, indices)
        loops += [(variable, extent, summed) for variable, extent in merged]
        dropped |= gone
    loops = loops or [(Var("j0"), 1, False)]
    return _sum_kernels(step, loops, dropped, flat)


def _runs(loops, axes):
    """Runs of neighbouring loops that are all summed or all kept."""
    runs: list[tuple[bool, list]] = []
    for k, loop in enumerate(loops):
        if not runs or runs[-1][0] != (k in axes):
            runs.append((k in axes, []))
        runs[-1][1].append(loop)
    return runs


def _sum_kernels(step, loops, dropped, flat) -> list[KernelCall]:
    node, slots = step.node, Slots()
    (_, extent, by_blocks), *rest = loops
    inner = math.prod(n for _, n, _ in rest)
    if by_blocks:
        block = max(-(-SUM_BLOCK // inner), -(-extent // SUM_BLOCKS))
        partial = Scratch((-(-extent // block), node.size), node.dtype) if extent > block else node
    else:
        block, partial = _block(inner * seconds(step.expr)), node
    body = Body(slots, dropped, loops[0][0], loops[-1][0])
    target = slots.write(partial)
    position = body.index(flat, node)
    if by_blocks:
        size, rows = slots.integer("size", node.size), slots.integer("block", block)
        body.line(f"row = lo // {rows} * {size}")
        position = f"row + {position}"
    _sum_nest(step, body, loops, f"{target}[{position}]")
    time = extent * inner * seconds(step.expr)
    source = kernel_text("sum", slots, body.lines)
    calls = [KernelCall(source, slots.contents, extent, block, (partial,), time)]
    return [*calls, _combine_blocks(step, partial)] if partial is not node else calls


def _sum_nest(step, body, loops, element: str) -> None:
    """Loops in natural order: an accumulator over trailing summed loops, memory for the others."""
    identity, add = _combine(step)
    cut = 1 + max((k for k, (_, _, summed) in enumerate(loops) if not summed), default=-1)
    leading, trailing = loops[:cut], loops[cut:]
    in_memory = any(summed for _, _, summed in leading)
    if in_memory:
        # A kept outermost loop goes around setting to zero too; a summed one comes after.
        start = 0 if leading[0][2] else 1
        _open_loops(body, leading[:start])
        depth = body.depth
        _open_loops(body, [loop for loop in leading[start:] if not loop[2]])
        body.line(f"{element} = {identity}")
        body.depth = depth
        _open_loops(body, leading[start:])
    else:
        _open_loops(body, leading)
    total = _accumulate(step, body, trailing) if trailing else body.name(step.expr)
    body.line(f"{element} = {add.format(element, total) if in_memory else total}")


def _accumulate(step, body, loops) -> str:
    """The name of the sum of an expression over loops."""
    identity, add = _combine(step)
    body.line(f"total = {identity}")
    depth = body.depth
    _open_loops(body, loops[:-1])
    assign = lambda: body.line(f"total = {add.format('total', body.name(step.expr))}")
    _innermost(body, loops[-1][:2], [step.expr], assign)
    body.depth = depth
    return "total"


def _combine_blocks(step: Reduction, partial: Scratch) -> KernelCall:
    """Add the partial results of the blocks, in order."""
    identity, add = _combine(step)
    slots = Slots()
    source, target = slots.read(partial, 0), slots.write(step.node)
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
    row = partial.shape[0] * 1e-10
    extent = partial.shape[1]
    return KernelCall(text, slots.contents, extent, _block(row), (step.node,), extent * row)


def _segment_sum(step: Reduction) -> list[KernelCall]:
    node, axis = step.node, step.node.params["axis"]
    variables = (*step.variables[:axis], step.segment, *step.variables[axis + 1 :])
    flat = _flat(variables, node.shape)
    indices = [*_indices([step.expr, *step.bounds]), flat]
    loops = list(zip(variables, node.shape, strict=True))
    outer, gone = _collapse(loops[:axis], indices)
    inner, gone_too = _collapse(loops[axis + 1 :], indices)
    leading = [*outer, (step.segment, node.shape[axis])]
    slots = Slots()
    innermost = inner[-1][0] if inner else step.variables[axis]
    body = Body(slots, gone | gone_too, leading[0][0], innermost)
    identity, add = _combine(step)
    element = f"{slots.write(node)}[{body.index(flat, node)}]"
    _open_loops(body, leading)
    first, last = (body.name(bound) for bound in step.bounds)
    depth = body.depth
    if inner:
        _open_loops(body, inner)
        body.line(f"{element} = {identity}")
        body.depth = depth
    else:
        body.line(f"total = {identity}")
    body.line(f"for {step.variables[axis].name} in range({first}, {last}):")
    body.depth += 1
    _open_loops(body, inner)
    target = element if inner else "total"
    body.line(f"{target} = {add.format(target, body.name(step.expr))}")
    if not inner:
        body.depth = depth
        body.line(f"{element} = total")
    extent = leading[0][1]
    time = node.args[0].size * (seconds(step.expr) + 5e-10) + node.size * 1e-9
    source = kernel_text("segments", slots, body.lines)
    block = _block(time / max(1, extent))
    return [KernelCall(source, slots.contents, extent, block, (node,), time)]


def _along_axis(step: Reduction, flat: Index, axis: int):
    """Slots, body and outer loops of a kernel that walks along one axis in order."""
    loops = list(zip(step.variables, step.node.args[0].shape, strict=True))
    along = loops.pop(axis)
    kept, dropped = _collapse(loops, [*_indices([step.expr]), flat])
    slots = Slots()
    innermost = along[0] if axis == len(loops) else None
    body = Body(slots, dropped, (kept or [along])[0][0], innermost)
    return slots, body, kept, along


def _scan(step: Reduction) -> list[KernelCall]:
    node, axis = step.node, step.node.params["axis"]
    flat = _flat(step.variables, node.shape)
    slots, body, kept, (variable, extent) = _along_axis(step, flat, axis)
    identity = f"{code(node.dtype)}(0)"
    array = slots.write(node)
    _open_loops(body, kept)
    body.line(f"total = {identity}")
    body.line(f"for k in range({', '.join(_range(body, variable, extent))}):")
    body.depth += 1
    last = slots.integer("last", extent - 1)
    body.line(f"{variable.name} = {f'{last} - k' if node.params['reverse'] else 'k'}")
    body.line(f"total = total + {body.name(step.expr)}")
    body.line(f"{array}[{body.index(flat, node)}] = total")
    return [_along_call("scan", step, slots, body, kept, extent)]


def _along_call(kind, step, slots, body, kept, extent) -> KernelCall:
    time = step.node.args[0].size * (seconds(step.expr) + 5e-10)
    outer = kept[0][1] if kept else extent
    block = _block(time / max(1, outer)) if kept else max(1, extent)
    source = kernel_text(kind, slots, body.lines)
    return KernelCall(source, slots.contents, outer, block, (step.node,), time)


def _arg(step: Reduction) -> list[KernelCall]:
    """The first position of the largest (smallest) element; a NaN counts as both."""
    node, axis = step.node, step.node.params["axis"]
    flat = _flat([v for k, v in enumerate(step.variables) if k != axis], node.shape)
    slots, body, kept, (variable, extent) = _along_axis(step, flat, axis)
    array = slots.write(node)
    _open_loops(body, kept)
    dtype = step.node.args[0].dtype
    body.line(f"best, at = {code(dtype)}(0), i8(0)")
    depth = body.depth
    _open_loops(body, [(variable, extent)])
    value = body.name(step.expr)
    sign = ">" if node.primitive.reduction == "argmax" else "<"
    better = f"({value} {sign} best) | (({value} != {value}) & (best == best))"
    body.line(f"if ({variable.name} == 0) | {better}:")
    body.line(f"    best, at = {value}, i8({variable.name})")
    body.depth = depth
    body.line(f"{array}[{body.index(flat, node)}] = at")
    return [_along_call(node.primitive.reduction, step, slots, body, kept, extent)]
