"""The text of kernels: their tables, and the scalar bodies that every target shares.

A kernel's text contains the structure, the dtypes, and whether an innermost stride is 1 or 0; the
table contains pointers, extents, strides, bounds and constants. So programs that differ in n, in the
batch size or in the value of a constant have the same text, and the same machine code.

`Body` prints expressions as assignments to scalars, independent of the target; the target prints the
loops around them (`nests`, for CPUs).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nbhvp.graph.node import Node
from nbhvp.plan.costs import CPU
from nbhvp.plan.layout import Scratch
from nbhvp.plan.nests.pull import Apply, Choose, Expr, Index, Inside, Load, Loaded, Value, Var

__all__ = [
    "Body",
    "KernelCall",
    "Pointer",
    "Scratch",
    "Slots",
    "Symbol",
    "code",
    "kernel_name",
    "kernel_text",
]

HEADER = '''"""One kernel of a program."""
import cmath
import math

import numpy as np
from numba import boolean as b1, complex64 as c8, complex128 as c16, float32 as f4, float64 as f8
from numba import int8 as i1, int16 as i2, int32 as i4, int64 as i8
from numba import uint8 as u1, uint16 as u2, uint32 as u4, uint64 as u8

from nbhvp.targets.native.language import add_reassoc, call, cast, cplx, function, integer, kernel, output, reads, real, straight_kernel, times, writes
from nbhvp.targets.lowering.scalars import *

'''

WIDE = ("f8", "c16", "i8", "u8")
"""Dtypes in which an operation of numba's gives what it takes."""


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
    has_loops: bool = True
    """Whether any loop has more than one iteration."""
    has_short_loops: bool = False
    """Whether vectors gain little in its loops."""


def code(dtype: np.dtype) -> str:
    """The short name of a dtype in a kernel's text."""
    return f"{np.dtype(dtype).kind}{np.dtype(dtype).itemsize}"


class Slots:
    """The table of one kernel, and the lines that read it."""

    def __init__(self):
        self.contents: list = []
        self.lines: list[str] = []
        self.functions: Mapping[str, str] = {}
        """Functions of SciPy's that the target has a word for, by their names there."""
        self.near = 0
        """Offsets that stand in the text: elements so near share an address."""
        self._names: dict = {}
        self._integers: dict = {}
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

    def place(self, array, offset: int) -> tuple[str, str]:
        """What an element's index is counted from, and what is added to it in the text."""
        if 0 < offset <= self.near:
            return self.read(array, 0), f" + {offset}"
        return self.read(array, offset), ""

    def write(self, array) -> str:
        text = f"writes(table, {{k}}, {code(array.dtype)!r})"
        return self._new(("write", array), "z", text, [Pointer(array, 0)])

    def integer(self, key, value: int) -> str:
        """A run-time integer; equal values are one slot only if they have the same key."""
        # Two values under one key would be the first, read twice: wrong, without a sign of it.
        assert self._integers.setdefault(key, value) == value, f"{key} has two values"
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
        if name in self.functions:
            return self.functions[name]
        return self._new(("symbol", name), "g", "function(table, {k})", [Symbol(name)])


class Body:
    """Prints expressions as assignments to scalars, each once per scope."""

    def __init__(self, slots: Slots, dropped: set[Var], outer: Var, inner: Var | None):
        self.slots = slots
        self.outer = outer
        self.assumed: set[Inside] = set()
        """Conditions that hold wherever the present loop goes."""
        self.denied: set[Inside] = set()
        """Conditions that hold nowhere there."""
        self.written: set[Node] = set()
        """Arrays that the kernel writes: it reads them through the same slots."""
        self.homes: dict[Node, str] = {}
        """Where the target has, instead of an array in memory, the row at hand: the text of an element."""
        self.extents: dict[Var, int] = {}
        """Of the loops around, where a target evaluates tests and strides in each of their iterations: tests
        that always hold there, and strides of 1, are not printed."""
        self.dropped = dropped
        self.inner = inner
        self.lines: list[str] = []
        self.depth = 0
        self.scopes: list[dict] = [{}]
        self._count = 0

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def scoped(self, header: str, assign) -> None:
        """A compound statement: what its body names is unknown after it."""
        self.line(header)
        self.depth += 1
        self.scopes.append({})
        assign()
        self.scopes.pop()
        self.depth -= 1

    def name(self, expr: Expr) -> str:
        """The name (or literal) of an expression's value, printing what it needs first."""
        pending = [expr]
        while pending:
            one = pending[-1]
            operands = one.operands if isinstance(one, Apply) and not self._known(one) else ()
            missing = [part for part in operands if not self._known(part)]
            if missing:
                pending += reversed(missing)
            else:
                name = self._known(pending.pop()) or self._print(one)
        return name

    def _known(self, expr: Expr) -> str | None:
        for scope in self.scopes:
            if expr in scope:
                return scope[expr]
            if isinstance(expr, Load) and (expr.array, expr.index) in scope:
                return scope[expr.array, expr.index]
        return None

    def _print(self, expr: Expr) -> str:
        """The name of an expression whose operands have names, unless they are choices."""
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

    def know(self, array: Node, index: Index, name: str) -> None:
        """A name that has an element of an array while the present scope lasts."""
        self.scopes[-1][array, index] = name

    def _assign(self, operation: str) -> str:
        name = self.fresh()
        self.line(f"{name} = {operation}")
        return name

    def fresh(self) -> str:
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
        if isinstance(expr, Load) and expr.array in self.written:
            return self.element(expr.array, expr.index)
        if isinstance(expr, Load):
            array, rest = self.slots.place(expr.array, expr.index.const)
            return f"{array}[{self.index(expr.index, expr.array)}{rest}]"
        entry, params = expr.primitive, expr.params
        assert entry.source is not None, f"{entry} has no text"
        source = entry.source if isinstance(entry.source, str) else entry.source(**params)
        names: dict[str, str] = {
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
        if not self.denied.isdisjoint(expr.conditions):
            return self.name(expr.outside)
        conditions = [c for c in expr.conditions if c not in self.assumed]
        tests = [test for c in conditions for test in self.tests(c)]
        if not tests:
            return self.name(expr.inside)
        name = self.fresh()
        if isinstance(expr.outside, Value):
            self.line(f"{name} = {self.name(expr.outside)}")
            branches = [(f"if {' & '.join(tests)}:", expr.inside)]
        else:
            branches = [(f"if {' & '.join(tests)}:", expr.inside), ("else:", expr.outside)]
        for header, branch in branches:
            self.scoped(header, lambda branch=branch: self.line(f"{name} = {self.name(branch)}"))
        return name

    def tests(self, condition: Inside) -> list[str]:
        index, tests = condition.index, []
        least, most = self._range(index)
        is_above, is_below = least >= 0, most < condition.extent
        if is_above and is_below and condition.step == 1:
            return []
        variable = self.index(Index(index.terms), condition)
        if not (is_above and condition.step == 1):
            lower = self.slots.integer((condition, "lower"), -index.const)
        if not is_above:
            tests.append(f"({variable} >= {lower})")
        if not is_below:
            upper = self.slots.integer((condition, "upper"), condition.extent - index.const)
            tests.append(f"({variable} < {upper})")
        if condition.step != 1:
            step = self.slots.integer((condition, "step"), condition.step)
            tests.append(f"(({variable} - {lower}) % {step} == 0)")
        return tests

    def _range(self, index: Index) -> tuple[float, float]:
        """The least and the largest value of an index in the loops around, as far as they are known."""
        if not self.extents.keys() >= index.terms.keys():
            return -math.inf, math.inf
        ends = [step * (self.extents[atom] - 1) for atom, step in index.terms.items()]
        return index.const + sum(min(0, end) for end in ends), index.const + sum(
            max(0, end) for end in ends
        )

    def position(self, index: Index, owner) -> str:
        """The text of an index with its constant."""
        text = self.index(index, owner)
        if index.const == 0:
            return text
        small = 0 < index.const < CPU.most_written_out
        return f"{text} + {index.const if small else self.slots.integer((owner, 'at', index.const), index.const)}"

    def element(self, array: Node, index: Index) -> str:
        """The text of an element of an array that the kernel writes."""
        home = self.homes.get(array)
        if home is None:
            return f"{self.slots.write(array)}[{self.position(index, array)}]"
        terms = {atom: step for atom, step in index.terms.items() if atom is not self.outer}
        return home.format(self.position(Index(terms, index.const), array))

    def index(self, index: Index, owner) -> str:
        """The text of an index without its constant; strides of `owner` are run-time integers."""
        parts = []
        for k, (atom, coefficient) in enumerate(index.terms.items()):
            if atom in self.dropped:
                continue
            name = self._atom(atom)
            free = isinstance(atom, Var) and atom is not self.inner and atom not in self.extents
            if coefficient == 1 and not free:
                parts.append(name)
            elif not free and isinstance(atom, Var) and 1 < coefficient <= CPU.most_written_out:
                # Coordinates side by side: with their number in the text they load as vectors.
                parts.append(f"{name} * {coefficient}")
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


ROOTS = {
    1.5: "{x} * math.sqrt({x})",
    -0.5: "1 / math.sqrt({x})",
    -1.5: "1 / ({x} * math.sqrt({x}))",
}
"""Powers that are square roots."""


class _Name(str):
    """A name in a source text; `{y:power of {x}}` prints x to this power.

    Small whole exponents, those of integers and of complex numbers go to Python's operator. Exponents
    of 3/2 and of negative halves are square roots, which take a fifth of the time and are right to a
    unit in the last place, too.
    """

    expr: Expr

    def __new__(cls, name, expr):
        self = super().__new__(cls, name)
        self.expr = expr
        return self

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        base = spec.removeprefix("power of ")
        value = self.expr.value if isinstance(self.expr, Value) else None
        if isinstance(value, np.floating) and value.is_integer() and 1 < abs(value) <= 16:
            return f"{base} ** {int(value)}" if value > 0 else f"{base} ** ({int(value)})"
        if isinstance(value, np.floating) and float(value) in ROOTS:
            return ROOTS[float(value)].format(x=base)
        return f"power({base}, {self})" if self.expr.dtype.kind == "f" else f"{base} ** {self}"


def kernel_text(kind: str, slots: Slots, body: list[str], word: str = "kernel") -> str:
    """The text of a module with one kernel, named after what it does and a hash of its text."""
    lines = [*slots.lines, *body]
    inner = "\n".join(f"    {line}" for line in lines)
    return f"{HEADER}\n@{word}\ndef {kernel_name(kind, lines)}(table, lo, hi):\n{inner}\n"


def kernel_name(kind: str, lines: list[str]) -> str:
    """The name of a kernel, from what it does and its text."""
    return f"{kind}_{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:8]}"
