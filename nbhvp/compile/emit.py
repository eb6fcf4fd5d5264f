"""From steps to the text of kernels.

A kernel is one function `(table, lo, hi)` over a range of its outermost loop. In its text stand the
structure, the dtypes, and whether an innermost stride is 1 or 0; the table brings pointers, extents,
strides, bounds and constants: another n, another batch size or another value of a constant is the
same text, and so the same machine code.

The scalar body is printed once, by `_Body`, free of CPU particulars; this module adds the CPU's loop
nests: a map, a reduction by accumulators, a scan. A reduction whose outermost axis is summed runs
over blocks fixed by its size alone, each into its own partial result, and one more kernel adds those
in order: the result has the same bits on any number of threads.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from nbhvp.compile.pull import (
    Apply,
    Choose,
    Expr,
    Index,
    Inside,
    Load,
    Loaded,
    Quotient,
    Value,
    Var,
    contiguous,
    parts,
)
from nbhvp.compile.schedule import Map, Reduction
from nbhvp.graph.node import Node
from nbhvp.graph.primitives import CALL

__all__ = ["KernelCall", "Pointer", "Scratch", "Symbol", "emit"]

HEADER = '''"""One kernel of a program."""
import cmath
import math

import numpy as np
from numba import boolean as b1, complex64 as c8, complex128 as c16, float32 as f4, float64 as f8
from numba import int8 as i1, int16 as i2, int32 as i4, int64 as i8
from numba import uint8 as u1, uint16 as u2, uint32 as u4, uint64 as u8

from nbhvp.compile.language import add_reassoc, call, cast, cplx, function, integer, kernel, reads, real, writes
from nbhvp.compile.elementary import *

'''

BLOCK = 20e-6
"""Seconds of a map that one thread takes at a time."""
SUM_BLOCK = 4096
SUM_BLOCKS = 64
WIDE = ("f8", "c16", "i8", "u8")
"""Dtypes in which an operation of numba's gives what it takes."""


@dataclass(frozen=True)
class Scratch:
    """Memory for partial results, private to one step."""

    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass(frozen=True)
class Pointer:
    """A slot that holds the address of an element of an array."""

    array: Node | Scratch
    offset: int


@dataclass(frozen=True)
class Symbol:
    """A slot that holds the address of a function of scipy.special.cython_special."""

    name: str


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


def code(dtype: np.dtype) -> str:
    """The short name of a dtype in a kernel's text."""
    return f"{np.dtype(dtype).kind}{np.dtype(dtype).itemsize}"


class _Slots:
    """The table of one kernel, and the lines that read it."""

    def __init__(self):
        self.contents: list = []
        self.lines: list[str] = []
        self._names: dict = {}
        self._counts: dict[str, int] = {}

    def _new(self, key, letter: str, text: str, contents: list) -> str:
        if key not in self._names:
            count = self._counts.get(letter, 0)
            self._counts[letter] = count + 1
            name = self._names[key] = f"{letter}{count}"
            self.lines.append(f"{name} = {text.format(k=len(self.contents))}")
            self.contents += contents
        return self._names[key]

    def read(self, array, offset: int) -> str:
        text = f"reads(table, {{k}}, {code(array.dtype)!r})"
        return self._new(("read", array, offset), "a", text, [Pointer(array, offset)])

    def write(self, array) -> str:
        text = f"writes(table, {{k}}, {code(array.dtype)!r})"
        return self._new(("write", array), "z", text, [Pointer(array, 0)])

    def integer(self, key, value: int) -> str:
        """A run-time integer; equal values are one slot only if they have the same key."""
        return self._new(("int", key), "s", "integer(table, {k})", [int(value)])

    def constant(self, value, dtype) -> str:
        kind = code(dtype)
        key = ("constant", kind, value.tobytes())
        if dtype.kind == "c":
            parts = [float(value.real), float(value.imag)]
            return self._new(key, "q", f"cplx(table, {{k}}, {kind!r})", parts)
        if dtype.kind == "f":
            return self._new(key, "q", f"real(table, {{k}}, {kind!r})", [float(value)])
        return self._new(key, "q", f"{kind}(integer(table, {{k}}))", [int(value)])

    def special(self, value, dtype) -> str:
        """One of the few numbers that may stand in the text."""
        literal = repr(complex(value)) if dtype.kind == "c" else repr(value.item())
        return self._new(("special", code(dtype), literal), "k", f"{code(dtype)}({literal})", [])

    def symbol(self, name: str) -> str:
        return self._new(("symbol", name), "g", "function(table, {k})", [Symbol(name)])


class _Body:
    """Prints expressions as assignments to scalars, each once per scope."""

    def __init__(self, slots: _Slots, dropped: set[Var], inner: Var | None):
        self.slots = slots
        self.assumed: set[Inside] = set()
        """Conditions that hold wherever the present loop goes."""
        self.dropped = dropped
        self.inner = inner
        self.lines: list[str] = []
        self.depth = 0
        self.scopes: list[dict] = [{}]
        self._count = 0

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def name(self, expr: Expr) -> str:
        """The name (or literal) of an expression's value, printing what it needs first."""
        for scope in self.scopes:
            if expr in scope:
                return scope[expr]
        if isinstance(expr, Value):
            text = self._value(expr)
        else:
            text = (
                self._assign(self._operation(expr))
                if not isinstance(expr, Choose)
                else (self._choose(expr))
            )
        self.scopes[-1][expr] = text
        return text

    def _assign(self, operation: str) -> str:
        name = self._fresh()
        self.line(f"{name} = {operation}")
        return name

    def _fresh(self) -> str:
        self._count += 1
        return f"t{self._count - 1}"

    def _value(self, expr: Value) -> str:
        value, dtype = expr.value, expr.dtype
        if dtype.kind == "b":
            return str(bool(value))
        if value in (0, 1, -1, 2, 0.5) and not (value == 0 and np.signbit(np.real(value))):
            return self.slots.special(value, dtype)
        return self.slots.constant(value, dtype)

    def _operation(self, expr: Load | Apply) -> str:
        if isinstance(expr, Load):
            array = self.slots.read(expr.array, expr.index.const)
            return f"{array}[{self.index(expr.index, expr.array)}]"
        entry, params = expr.node.primitive, expr.node.params
        source = entry.source if isinstance(entry.source, str) else entry.source(**params)
        names = {
            letter: _Name(self.name(arg), arg)
            for letter, arg in zip("xyc", expr.operands, strict=False)
        }
        if entry.symbol is not None:
            names["f"] = self.slots.symbol(entry.symbol)
        if any(arg.dtype.kind == "c" for arg in expr.operands):
            source = entry.complex_source or source.replace("math.", "cmath.")
        text = source.format(**names)
        # numba's scalar operators widen these; NumPy's wrap and round.
        return text if code(expr.dtype) in WIDE else f"cast({text}, {code(expr.dtype)!r})"

    def _choose(self, expr: Choose) -> str:
        if self.assumed.issuperset(expr.conditions):
            return self.name(expr.inside)
        conditions = [c for c in expr.conditions if c not in self.assumed]
        tests = [test for c in conditions for test in self.tests(c)]
        name = self._fresh()
        if isinstance(expr.outside, Value):
            self.line(f"{name} = {self.name(expr.outside)}")
            branches = [(f"if {' & '.join(tests)}:", expr.inside)]
        else:
            branches = [(f"if {' & '.join(tests)}:", expr.inside), ("else:", expr.outside)]
        for header, branch in branches:
            _scoped(self, header, lambda branch=branch: self.line(f"{name} = {self.name(branch)}"))
        return name

    def tests(self, condition) -> list[str]:
        index = condition.index
        variable = self.index(Index(index.terms), condition)
        lower = self.slots.integer((condition, "lower"), -index.const)
        upper = self.slots.integer((condition, "upper"), condition.extent - index.const)
        tests = [f"({variable} >= {lower})", f"({variable} < {upper})"]
        if condition.step != 1:
            step = self.slots.integer((condition, "step"), condition.step)
            tests.append(f"(({variable} - {lower}) % {step} == 0)")
        return tests

    def index(self, index: Index, owner) -> str:
        """The text of an index without its constant; strides of `owner` are run-time integers."""
        parts = []
        for k, (atom, coefficient) in enumerate(index.terms.items()):
            if atom in self.dropped:
                continue
            name = self._atom(atom)
            free = isinstance(atom, Var) and atom is not self.inner
            if coefficient == 1 and not free:
                parts.append(name)
            else:
                position = atom if isinstance(atom, Var) else k
                stride = self.slots.integer((owner, position, coefficient), coefficient)
                parts.append(f"{name} * {stride}")
        return " + ".join(parts) or "0"

    def _atom(self, atom) -> str:
        if isinstance(atom, Var):
            return atom.name
        if isinstance(atom, Loaded):
            return self.name(atom.expr)
        for scope in self.scopes:
            if atom in scope:
                return scope[atom]
        value = self.index(atom.index, atom)
        shift = self.slots.integer((atom, "shift"), atom.index.const)
        divisor = self.slots.integer((atom, "divisor"), atom.divisor)
        operator = "%" if atom.remainder else "//"
        name = self.scopes[-1][atom] = self._assign(f"({value} + {shift}) {operator} {divisor}")
        return name


class _Name(str):
    """A name in a source text; `{y:integer}` prints an integral constant as an integer."""

    def __new__(cls, name, expr):
        self = super().__new__(cls, name)
        self.expr = expr
        return self

    def __format__(self, spec: str) -> str:
        value = self.expr.value if isinstance(self.expr, Value) else None
        if spec == "integer" and value is not None and value.dtype.kind == "f":
            if float(value).is_integer() and 1 < abs(value) <= 16:
                return f"{int(value)}" if value > 0 else f"({int(value)})"
        return str(self)


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


def _finish(kind: str, slots: _Slots, body: list[str]) -> str:
    """The text of a module with one kernel, named after what it does and a hash of its text."""
    lines = [*slots.lines, *body]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]
    inner = "\n".join(f"    {line}" for line in lines)
    return f"{HEADER}\n@kernel\ndef {kind}_{digest}(table, lo, hi):\n{inner}\n"


# Maps.


def _map(step: Map) -> list[KernelCall]:
    exprs = [expr for _, expr in step.results]
    flat = _flat(step.variables, step.shape)
    loops = list(zip(step.variables, step.shape, strict=True))
    loops, dropped = _collapse(loops, [*_indices(exprs), flat])
    loops = loops or [(Var("j0"), 1)]
    slots = _Slots()
    body = _Body(slots, dropped, loops[-1][0])
    written = [(slots.write(node), body.index(flat, node)) for node, _ in step.results]

    def assign():
        values = [body.name(expr) for expr in exprs]
        for (array, position), value in zip(written, values, strict=True):
            body.line(f"{array}[{position}] = {value}")

    _open_loops(body, slots, loops[:-1])
    _innermost(body, slots, loops[-1], exprs, assign, outermost=len(loops) == 1)
    inner = math.prod(extent for _, extent in loops[1:])
    one = seconds(*exprs)
    source = _finish("map", slots, body.lines)
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


def _open_loops(body: _Body, slots: _Slots, loops, outermost: bool = True) -> None:
    for k, (variable, extent) in enumerate(loops):
        if k == 0 and outermost:
            body.line(f"for {variable.name} in range(lo, hi):")
        else:
            bound = slots.integer(("extent", variable), extent)
            body.line(f"for {variable.name} in range({bound}):")
        body.depth += 1


def _innermost(body, slots, loop, exprs, assign, outermost: bool) -> None:
    """The innermost loop; where guards hold along most of it, that part is printed without them."""
    variable, extent = loop
    end = "hi" if outermost else slots.integer(("extent", variable), extent)
    start = "lo" if outermost else "0"
    along, across, first, last = _guards(exprs, variable, body.dropped, extent)
    if not along or (last - first < extent / 2 and extent - (last - first) > 16):
        _scoped(body, f"for {variable.name} in range({start}, {end}):", assign)
        return
    first, last = slots.integer(("first", variable), first), slots.integer(("last", variable), last)
    body.line(f"first = min({end}, max({start}, {first}))")
    body.line(f"last = max(first, min({end}, {last}))")
    if across:
        tests = " & ".join(test for c in across for test in body.tests(c))
        body.line(f"if not ({tests}):")
        body.line(f"    first = last = {end}")
    body.line(f"for edge in (({start}, first), (last, {end})):")
    body.depth += 1
    _scoped(body, f"for {variable.name} in range(edge[0], edge[1]):", assign)
    body.depth -= 1
    body.assumed = {*along, *across}
    _scoped(body, f"for {variable.name} in range(first, last):", assign)
    body.assumed = set()


def _scoped(body: _Body, header: str, assign) -> None:
    body.line(header)
    body.depth += 1
    body.scopes.append({})
    assign()
    body.scopes.pop()
    body.depth -= 1


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
    node, slots = step.node, _Slots()
    (_, extent, by_blocks), *rest = loops
    inner = math.prod(n for _, n, _ in rest)
    if by_blocks:
        block = max(-(-SUM_BLOCK // inner), -(-extent // SUM_BLOCKS))
        partial = Scratch((-(-extent // block), node.size), node.dtype) if extent > block else node
    else:
        block, partial = _block(inner * seconds(step.expr)), node
    body = _Body(slots, dropped, loops[-1][0])
    target = slots.write(partial)
    position = body.index(flat, node)
    if by_blocks:
        size, rows = slots.integer("size", node.size), slots.integer("block", block)
        body.line(f"row = lo // {rows} * {size}")
        position = f"row + {position}"
    _sum_nest(step, body, slots, loops, f"{target}[{position}]")
    time = extent * inner * seconds(step.expr)
    source = _finish("sum", slots, body.lines)
    calls = [KernelCall(source, slots.contents, extent, block, (partial,), time)]
    return [*calls, _combine_blocks(step, partial)] if partial is not node else calls


def _sum_nest(step, body, slots, loops, element: str) -> None:
    """Loops in natural order: an accumulator over trailing summed loops, memory for the others."""
    identity, add = _combine(step)
    last_kept = max((k for k, loop in enumerate(loops) if not loop[2]), default=-1)
    trailing = loops[last_kept + 1 :]
    leading = loops[: last_kept + 1]
    in_memory = any(summed for _, _, summed in leading)
    start = 0 if leading and leading[0][2] else 1
    if in_memory or (not leading):
        depth = body.depth
        if leading and not leading[0][2]:
            _open_loops(body, slots, [leading[0][:2]])
            outer = body.depth
        else:
            outer = depth
        if in_memory:
            _open_loops(body, slots, [l[:2] for l in leading[start:] if not l[2]], outermost=False)
            body.line(f"{element} = {identity}")
            body.depth = outer
            _open_loops(body, slots, [l[:2] for l in leading[start:]], outermost=start == 0)
    else:
        _open_loops(body, slots, [l[:2] for l in leading])
    if not trailing:
        value = body.name(step.expr)
        body.line(f"{element} = {add.format(element, value) if in_memory else value}")
        return
    body.line(f"total = {identity}")
    depth = body.depth

    def accumulate():
        body.line(f"total = {add.format('total', body.name(step.expr))}")

    _open_loops(body, slots, [l[:2] for l in trailing[:-1]], outermost=not leading)
    alone = not leading and len(trailing) == 1
    _innermost(body, slots, trailing[-1][:2], [step.expr], accumulate, outermost=alone)
    body.depth = depth
    body.line(f"{element} = {add.format(element, 'total') if in_memory else 'total'}")


def _combine_blocks(step: Reduction, partial: Scratch) -> KernelCall:
    """Add the partial results of the blocks, in order."""
    identity, add = _combine(step)
    slots = _Slots()
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
    text = _finish("combine", slots, body)
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
    slots = _Slots()
    innermost = inner[-1][0] if inner else step.variables[axis]
    body = _Body(slots, gone | gone_too, innermost)
    identity, add = _combine(step)
    element = f"{slots.write(node)}[{body.index(flat, node)}]"
    leading = [*outer, (step.segment, node.shape[axis])]
    _open_loops(body, slots, leading)
    first, last = (body.name(bound) for bound in step.bounds)
    depth = body.depth
    if inner:
        _open_loops(body, slots, inner, outermost=False)
        body.line(f"{element} = {identity}")
        body.depth = depth
    else:
        body.line(f"total = {identity}")
    body.line(f"for {step.variables[axis].name} in range({first}, {last}):")
    body.depth += 1
    _open_loops(body, slots, inner, outermost=False)
    target = element if inner else "total"
    body.line(f"{target} = {add.format(target, body.name(step.expr))}")
    if not inner:
        body.depth = depth
        body.line(f"{element} = total")
    extent = leading[0][1]
    time = node.args[0].size * (seconds(step.expr) + 5e-10) + node.size * 1e-9
    source = _finish("segments", slots, body.lines)
    block = _block(time / max(1, extent))
    return [KernelCall(source, slots.contents, extent, block, (node,), time)]


def _along_axis(step: Reduction, flat: Index, axis: int):
    """Slots, body and outer loops of a kernel that walks along one axis in order."""
    loops = list(zip(step.variables, step.node.args[0].shape, strict=True))
    along = loops.pop(axis)
    kept, dropped = _collapse(loops, [*_indices([step.expr]), flat])
    slots = _Slots()
    innermost = along[0] if axis == len(loops) else None
    body = _Body(slots, dropped, innermost)
    return slots, body, kept, along


def _scan(step: Reduction) -> list[KernelCall]:
    node, axis = step.node, step.node.params["axis"]
    flat = _flat(step.variables, node.shape)
    slots, body, kept, (variable, extent) = _along_axis(step, flat, axis)
    identity, add = _combine_of("sum", node.dtype)
    array = slots.write(node)
    _open_loops(body, slots, kept)
    body.line(f"total = {identity}")
    body.line(f"for k in range({'lo, hi' if not kept else slots.integer('extent', extent)}):")
    body.depth += 1
    last = slots.integer("last", extent - 1)
    body.line(f"{variable.name} = {f'{last} - k' if node.params['reverse'] else 'k'}")
    body.line(f"total = {add.format('total', body.name(step.expr))}")
    body.line(f"{array}[{body.index(flat, node)}] = total")
    return [_along_call("scan", step, slots, body, kept, extent)]


def _combine_of(name: str, dtype: np.dtype) -> tuple[str, str]:
    identity, floating, exact = _COMBINE[name]
    return f"{code(dtype)}({identity})", exact


def _along_call(kind, step, slots, body, kept, extent) -> KernelCall:
    time = step.node.args[0].size * (seconds(step.expr) + 5e-10)
    outer = kept[0][1] if kept else extent
    block = _block(time / max(1, outer)) if kept else max(1, extent)
    source = _finish(kind, slots, body.lines)
    return KernelCall(source, slots.contents, outer, block, (step.node,), time)


def _arg(step: Reduction) -> list[KernelCall]:
    """The first position of the largest (smallest) element; a NaN counts as both."""
    node, axis = step.node, step.node.params["axis"]
    flat = _flat([v for k, v in enumerate(step.variables) if k != axis], node.shape)
    slots, body, kept, (variable, extent) = _along_axis(step, flat, axis)
    array = slots.write(node)
    _open_loops(body, slots, kept)
    dtype = step.node.args[0].dtype
    body.line(f"best, at = {code(dtype)}(0), i8(0)")
    bound = "lo, hi" if not kept else slots.integer("extent", extent)
    depth = body.depth
    body.line(f"for {variable.name} in range({bound}):")
    body.depth += 1
    value = body.name(step.expr)
    sign = ">" if node.primitive.reduction == "argmax" else "<"
    better = f"({value} {sign} best) | (({value} != {value}) & (best == best))"
    body.line(f"if ({variable.name} == 0) | {better}:")
    body.line(f"    best, at = {value}, i8({variable.name})")
    body.depth = depth
    body.line(f"{array}[{body.index(flat, node)}] = at")
    return [_along_call(node.primitive.reduction, step, slots, body, kept, extent)]
