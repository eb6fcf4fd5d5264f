"""Statements and expressions of a kernel's text, each as a few instructions of LLVM.

`lower` defines the language. A walk visits the statements of a function once, in order; each name has
one kind, and each operation is found by the kinds of its operands alone. A name that is assigned once
is a value, which lives as long as its block; a name that is assigned more often is a place on the
stack, which LLVM keeps in a register. An unknown construct raises `Unknown`.
"""

from __future__ import annotations

import ast
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llvmlite import ir

from nbhvp.targets.lowering import words
from nbhvp.targets.lowering.arithmetic import binary, cast, compared
from nbhvp.targets.lowering.syntax import assigned_often, is_cheap, is_text
from nbhvp.targets.lowering.values import (
    I1,
    I8,
    I32,
    I64,
    PARTS,
    TYPES,
    Array,
    Pairs,
    Table,
    Unknown,
    Value,
    alias_marks,
    is_float,
    is_integer,
    joined,
    literal,
    parts_of,
    size,
    with_masks,
    without_vectors,
)

__all__ = ["Function", "Walk", "Widen"]

LONG = 100
"""Instructions of a loop from which a test of each lane of a vector takes no noticeable time."""


@dataclass
class Widen(Exception):
    """A name on the stack needs a wider kind than its first value has."""

    name: tuple[int, str]
    kind: str


@dataclass
class Function:
    """One LLVM function under construction."""

    module: ir.Module
    builder: ir.IRBuilder
    entry: ir.IRBuilder
    """Where places on the stack are made."""
    kinds: dict
    """Of names on the stack, by the number of the walk: wider ones than their first values have."""
    written: Sequence[int] = ()
    """The slots of the pointers that are written through."""
    has_masks: bool = False
    """Whether the processor loads and stores some lanes of a vector as fast as all."""
    is_constant: bool = False
    """Whether nothing writes to what the kernel reads as long as it runs, in all its threads."""
    called: frozenset[str] = frozenset()
    """Elementary functions that are called; others are written out."""
    marks: dict = field(default_factory=dict)
    scopes: dict = field(default_factory=dict)
    """See `alias_marks`."""
    walks: int = 0
    rare: Any = None
    """The place of a word that counts the arguments of which `words.rarely` has spoken."""


class Walk:
    """The statements of one Python function, or of one that it calls, in order."""

    def __init__(self, function: Function, names: Mapping, tree: ast.FunctionDef, values: Sequence):
        self.function, self.builder = function, function.builder
        self.number_of_walk = function.walks = function.walks + 1
        self.scopes: list[Any] = [names, {}]
        self.places: dict[str, tuple] = {}
        self.varied = assigned_often(tree)
        self.loops: list[ir.Block] = []
        self.is_in_parts = False
        """Whether the loops here are over parts of ranges, which have few iterations."""
        self.returned: list[tuple[Value, ir.Block]] | None = None
        """Results, and the empty blocks where each is at hand; None in a kernel."""
        for argument, value in zip(tree.args.args, values, strict=True):
            self.assign(argument.arg, value)

    # Names.

    def lookup(self, name: str):
        if name in self.places:
            kind, places = self.places[name]
            return Value(kind, tuple(map(self.builder.load, places)))
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        raise Unknown(f"the name {name}")

    def assign(self, name: str, value) -> None:
        if name not in self.varied or not isinstance(value, Value):
            # In a block of its own an array may be shifted: there the last assignment holds.
            if name in self.varied and name not in self.scopes[-1] and self._is_bound(name):
                raise Unknown(f"{name} is assigned in several blocks, and is no number")
            self.scopes[-1][name] = value
            return
        if name not in self.places:
            kind = self.function.kinds.setdefault((self.number_of_walk, name), value.kind)
            self.places[name] = kind, [self.place(TYPES[k]) for k in parts_of(kind)]
        kind, places = self.places[name]
        if value.kind != kind:
            if is_integer(value.kind) and is_integer(kind) and joined(value.kind, kind) != kind:
                raise Widen((self.number_of_walk, name), joined(value.kind, kind))
            value = self.kept(value, kind)
        for part, place in zip(value.parts, places, strict=True):
            self.builder.store(part, place)

    def _is_bound(self, name: str) -> bool:
        return any(name in scope for scope in self.scopes[1:])

    def kept(self, value: Value, kind: str) -> Value:
        """A value as a kind that holds it as it is."""
        if is_integer(kind) and is_integer(value.kind) and joined(kind, value.kind) == kind:
            return self.cast(value, kind)
        if value.literal is not None and kind == "f8" and value.kind == "i8":
            return self.cast(value, kind)
        raise Unknown(f"a name that is {kind} and {value.kind}")

    def place(self, kind):
        return self.function.entry.alloca(kind)

    # Values.

    def number(self, node: ast.expr) -> Value:
        value = self.expression(node)
        if not isinstance(value, Value):
            raise Unknown(f"{ast.unparse(node)} is no number")
        return value

    def integer(self, node: ast.expr):
        """An instruction that gives an integer of 64 bits."""
        value = self.number(node)
        if not is_integer(value.kind):
            raise Unknown(f"{ast.unparse(node)} is no integer")
        return self.cast(value, "i8").parts[0]

    def truth(self, node: ast.expr):
        return self.cast(self.number(node), "b1").parts[0]

    def real(self, value: Value, kind: str = "f8") -> ir.Value:
        if value.kind in PARTS:
            raise Unknown("a complex number where a real one is wanted")
        return self.cast(value, kind).parts[0]

    def cast(self, value: Value, kind: str) -> Value:
        """A value as another dtype."""
        return cast(self.builder, value, kind)

    def intrinsic(self, name: str, *xs) -> ir.Value:
        kind = ir.FunctionType(xs[0].type, [x.type for x in xs])
        return self.builder.call(
            self.function.module.declare_intrinsic(f"llvm.{name}", [xs[0].type], kind), xs
        )

    def external(self, name: str, *xs) -> ir.Value:
        """A function of C's library on doubles."""
        return self.builder.call(words.external(self.function.module, name, len(xs)), xs)

    # Expressions.

    def expression(self, node: ast.expr):
        return self._of_type(node)(node)

    def _of_type(self, node):
        method = getattr(self, f"_{type(node).__name__}", None)
        if method is None:
            raise Unknown(type(node).__name__)
        return method

    def _Name(self, node):
        return self.lookup(node.id)

    def _Constant(self, node):
        value = node.value
        if isinstance(value, str):
            return value
        kind = {bool: "b1", int: "i8", float: "f8", complex: "c16"}.get(type(value))
        if kind is None:
            raise Unknown(f"the constant {value!r}")
        return literal(value, kind)

    def _Attribute(self, node):
        if isinstance(node.value, ast.Name) and node.value.id in ("math", "np"):
            value = {"inf": math.inf, "nan": math.nan, "pi": math.pi, "e": math.e}.get(node.attr)
            if value is None:
                raise Unknown(ast.unparse(node))
            return literal(value, "f8")
        table = self.expression(node.value) if node.attr == "size" else None
        if isinstance(table, Table):
            return literal(table.length, "i8")
        value = self.number(node.value)
        if node.attr not in ("real", "imag"):
            raise Unknown(f".{node.attr}")
        if value.kind in PARTS:
            return Value(PARTS[value.kind], (value.parts[node.attr == "imag"],))
        return value if node.attr == "real" else literal(0, value.kind)

    def _Tuple(self, node):
        return tuple(map(self.expression, node.elts))

    def _Subscript(self, node):
        base = self.expression(node.value)
        if isinstance(base, Array):
            return self._load(base, self.integer(node.slice))
        index = node.slice.value if isinstance(node.slice, ast.Constant) else None
        if _is_tuple(base) and index is not None:
            return base[index]
        if isinstance(base, Pairs) and index in range(base.length):
            place = self.builder.gep(base.address, [I64(0), I64(index)])
            return Value("i8", (self.builder.load(place),))
        if isinstance(base, Table):
            place = self.builder.gep(base.address, [I64(0), self.integer(node.slice)])
            return Value("f8", (self.builder.load(place),))
        raise Unknown(f"an element of {ast.unparse(node.value)}")

    def _UnaryOp(self, node):
        if isinstance(node.op, ast.Not):
            return Value("b1", (self.builder.not_(self.truth(node.operand)),))
        value = self.number(node.operand)
        if not isinstance(node.op, ast.USub) or value.kind == "b1":
            raise Unknown(f"{type(node.op).__name__} of {value.kind}")
        if value.literal is not None:
            return literal(-value.literal, value.kind)
        if is_integer(value.kind):
            value = self.cast(value, value.kind[0] + "8")
            return Value(value.kind, (self.builder.neg(value.parts[0]),))
        return Value(value.kind, tuple(map(self.builder.fneg, value.parts)))

    def _BinOp(self, node):
        if isinstance(node.op, ast.Pow):
            return self._power(self.number(node.left), self.number(node.right))
        return binary(self.builder, type(node.op), self.number(node.left), self.number(node.right))

    def _power(self, x: Value, y: Value) -> Value:
        """x to a power: by squaring, if it is whole and stands in the text."""
        if is_float(y.kind) and x.kind not in PARTS:
            return self.lookup("**")(self, x, y)
        if not isinstance(y.literal, int) or isinstance(y.literal, bool):
            raise Unknown("a power that does not stand in the text")
        if y.literal < 0 and not is_float(x.kind):
            raise Unknown(f"a negative power of {x.kind}")
        kind = joined(x.kind, x.kind)
        square = self.cast(x, kind)
        result, exponent = literal(1, kind), abs(y.literal)
        if exponent > 1 << 16:
            raise Unknown("a large power")
        while exponent:
            if exponent & 1:
                result = (
                    binary(self.builder, ast.Mult, result, square)
                    if result.literal is None
                    else square
                )
            exponent >>= 1
            square = binary(self.builder, ast.Mult, square, square) if exponent else square
        one = literal(1, kind)
        return binary(self.builder, ast.Div, one, result) if y.literal < 0 else result

    def _Compare(self, node):
        if len(node.ops) != 1:
            raise Unknown("a chain of comparisons")
        x, y = self.number(node.left), self.number(node.comparators[0])
        symbol = _COMPARISONS.get(type(node.ops[0]))
        if symbol is None:
            raise Unknown(type(node.ops[0]).__name__)
        return Value("b1", (compared(self.builder, symbol, x, y),))

    def _BoolOp(self, node):
        left, *right = node.values
        right = right[0] if len(right) == 1 else ast.BoolOp(node.op, right)
        constant = ast.Constant(isinstance(node.op, ast.Or))
        branches = (right, constant) if isinstance(node.op, ast.And) else (constant, right)
        value = self._chosen(self.number(left), *branches)
        if value.kind != "b1":
            raise Unknown("`and` or `or` of numbers")
        return value

    def _IfExp(self, node):
        return self._chosen(self.number(node.test), node.body, node.orelse)

    def _chosen(self, test: Value, body: ast.expr, orelse: ast.expr) -> Value:
        condition = self.cast(test, "b1").parts[0]
        if is_cheap(body) and is_cheap(orelse):
            x, y = self.number(body), self.number(orelse)
            kind = x.kind if x.kind == y.kind else joined(x.kind, y.kind)
            pairs = zip(self.cast(x, kind).parts, self.cast(y, kind).parts, strict=True)
            return Value(kind, tuple(self.builder.select(condition, a, b) for a, b in pairs))
        builder = self.builder
        blocks = [builder.append_basic_block() for _ in range(3)]
        builder.cbranch(condition, *blocks[:2])
        found = []
        for block, branch in zip(blocks, (body, orelse), strict=False):
            builder.position_at_end(block)
            found.append((self.number(branch), builder.block))
        kinds = [value.kind for value, _ in found]
        kind = kinds[0] if kinds[0] == kinds[1] else joined(*kinds)
        ends = []
        for value, block in found:
            builder.position_at_end(block)
            ends.append((self.cast(value, kind).parts, builder.block))
            builder.branch(blocks[2])
        builder.position_at_end(blocks[2])
        return Value(kind, tuple(self._phi(k, ends) for k in range(len(ends[0][0]))))

    def _phi(self, k: int, ends):
        phi = self.builder.phi(ends[0][0][k].type)
        for parts, block in ends:
            phi.add_incoming(parts[k], block)
        return phi

    def _Call(self, node):
        if node.keywords:
            raise Unknown("a keyword")
        if isinstance(node.func, ast.Attribute):
            return self._dotted(node)
        word = self.lookup(node.func.id) if isinstance(node.func, ast.Name) else None
        if word is None or isinstance(word, tuple) or not callable(word):
            raise Unknown(f"a call of {ast.unparse(node.func)}")
        return word(self, *map(self.expression, node.args))

    def _dotted(self, node):
        """A function of `math` or of `np`, or the conjugate of a number."""
        name = ast.unparse(node.func)
        if any(name in scope for scope in self.scopes):
            return self.lookup(name)(self, *map(self.number, node.args))
        if node.func.attr != "conjugate" or node.args:
            raise Unknown(f"a call of {name}")
        value = self.number(node.func.value)
        if value.kind in PARTS:
            return Value(value.kind, (value.parts[0], self.builder.fneg(value.parts[1])))
        return value

    # Memory.

    def _load(self, array: Array, index) -> Value:
        loads = [self.builder.load(place) for place in self._at(array, index)]
        for load in loads:
            self._mark(load, array)
        if array.kind == "b1":
            loads = [self.builder.trunc(load, I1) for load in loads]
        return Value(array.kind, tuple(loads))

    def store(self, array: Array, index, value: Value, is_streamed: bool = False) -> None:
        if not array.is_written:
            raise AssertionError("a kernel stores through a pointer that it declares as read")
        parts = list(self.cast(value, array.kind).parts)
        if array.kind == "b1":
            parts = [self.builder.zext(part, I8) for part in parts]
        for place, part in zip(self._at(array, index), parts, strict=True):
            if is_streamed:  # x86 has an instruction for integers
                bits = ir.IntType(8 * size(array.kind) // len(parts))
                part = self.builder.bitcast(part, bits)
                place = self.builder.bitcast(place, bits.as_pointer())
            access = self.builder.store(part, place)
            if is_streamed:
                access.set_metadata("nontemporal", self.function.module.add_metadata([I32(1)]))
            self._mark(access, array)

    def _at(self, array: Array, index):
        """Where the real numbers of one element lie."""
        builder, count = self.builder, 2 if array.kind in PARTS else 1
        part = PARTS.get(array.kind, array.kind)
        kind = I8 if part == "b1" else TYPES[part]
        base = builder.bitcast(array.address, kind.as_pointer())
        if count == 1:
            return [builder.gep(base, [index])]
        first = builder.mul(index, I64(2), flags=["nsw"])
        offsets = [builder.add(first, I64(k), flags=["nsw"]) for k in range(2)]
        return [builder.gep(base, [offset]) for offset in offsets]

    def _mark(self, access, array: Array) -> None:
        """Tell LLVM what an access cannot overlap; see `alias_marks`."""
        if array.slot is None:
            return
        marks, slot = self.function.marks, array.slot if array.is_written else None
        if slot not in marks:
            number = None if slot is None else self.function.written.index(slot)
            bits = (len(self.function.written) - 1).bit_length()
            marks[slot] = alias_marks(self.function.module, number, bits, self.function.scopes)
        for name, node in marks[slot].items():
            access.set_metadata(name, node)
        if self.function.is_constant and not array.is_written:
            access.set_metadata("invariant.load", self.function.module.add_metadata([]))

    # Statements.

    def statements(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            if self.builder.block.is_terminated:
                return
            self._of_type(statement)(statement)

    def block(self, body: Sequence[ast.stmt], **names) -> None:
        """Statements whose names end with them."""
        self.scopes.append(names)
        self.statements(body)
        self.scopes.pop()

    def _Assign(self, node):
        values = self.expression(node.value)
        for target in node.targets:
            if not isinstance(target, ast.Tuple):
                self._set(target, values)
                continue
            if not _is_tuple(values) or len(values) != len(target.elts):
                raise Unknown("a tuple that is unpacked")
            for one, value in zip(target.elts, values, strict=True):
                self._set(one, value)

    def _set(self, target, value) -> None:
        if isinstance(target, ast.Name):
            self.assign(target.id, value)
            return
        array = self.expression(target.value) if isinstance(target, ast.Subscript) else None
        if not isinstance(array, Array) or not isinstance(value, Value):
            raise Unknown(f"an assignment to {ast.unparse(target)}")
        self.store(array, self.integer(target.slice), value)

    def _AugAssign(self, node):
        load = ast.copy_location(ast.parse(ast.unparse(node.target), mode="eval").body, node.target)
        self._set(
            node.target,
            binary(self.builder, type(node.op), self.number(load), self.number(node.value)),
        )

    def _Expr(self, node):
        if not isinstance(node.value, ast.Constant):
            self.expression(node.value)

    def _Pass(self, node):
        pass

    def _If(self, node):
        condition, builder = self.truth(node.test), self.builder
        then, after = builder.append_basic_block(), builder.append_basic_block()
        other = builder.append_basic_block() if node.orelse else after
        builder.cbranch(condition, then, other)
        for block, body in ((then, node.body), (other, node.orelse)):
            if block is not after:
                builder.position_at_end(block)
                self.block(body)
                if not builder.block.is_terminated:
                    builder.branch(after)
        builder.position_at_end(after)

    def _For(self, node):
        if not isinstance(node.target, ast.Name) or node.orelse:
            raise Unknown("a loop over more than one name")
        if isinstance(node.iter, ast.Tuple):
            self._for_pairs(node)
            return
        call = node.iter
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            raise Unknown(f"a loop over {ast.unparse(call)}")
        if call.func.id != "range" or not 1 <= len(call.args) <= 3:
            raise Unknown(f"a loop over {ast.unparse(call)}")
        step = self.number(call.args[2]).literal if len(call.args) == 3 else 1
        if step not in (1, -1):
            raise Unknown(f"a loop over {ast.unparse(call)}")
        bounds = [self.integer(one) for one in call.args[:2]]
        start, end = bounds if len(bounds) == 2 else (I64(0), bounds[0])
        value = lambda index: Value("i8", (index,))
        self._loop(start, end, node.target.id, node.body, value, step)

    def _loop(self, start, end, name: str, body, value: Callable, by: int = 1) -> None:
        builder = self.builder
        goes_on = lambda index: builder.icmp_signed("<" if by > 0 else ">", index, end)
        inside, step, after = (builder.append_basic_block() for _ in range(3))
        before = builder.block
        builder.cbranch(goes_on(start), inside, after)
        builder.position_at_end(inside)
        index = builder.phi(I64)
        index.add_incoming(start, before)
        self.loops.append(step)
        self.scopes.append({})
        self.assign(name, value(index))
        self.statements(body)
        self.scopes.pop()
        self.loops.pop()
        if not builder.block.is_terminated:
            builder.branch(step)
        builder.position_at_end(step)
        following = builder.add(index, I64(by), flags=["nsw"])
        index.add_incoming(following, step)
        last = builder.cbranch(goes_on(following), inside, after)
        for key, node in self._hints(inside).items():
            last.set_metadata(key, node)
        builder.position_at_end(after)

    def _hints(self, inside: ir.Block) -> dict[str, Any]:
        """What LLVM is told of a loop that begins with a block.

        A long one gets no second loop, as long, for elements that fill no vector: that would take a
        third of the time to compile. Loops inside others are short or read with strides: there,
        lanes that are left out cost time.
        """
        module = self.function.module
        if self.is_in_parts:
            return without_vectors(module)
        if self.loops or not self.function.has_masks:
            return {}
        blocks = inside.function.blocks
        count = sum(map(_instructions, blocks[blocks.index(inside) :]))
        return with_masks(module) if count >= LONG else {}

    def _for_pairs(self, node) -> None:
        """A loop over tuples of integers, which are put on the stack."""
        rows = [
            [self.integer(one) for one in row.elts]
            for row in node.iter.elts
            if isinstance(row, ast.Tuple)
        ]
        counts = {len(row) for row in rows}
        if len(rows) != len(node.iter.elts) or len(counts) != 1:
            raise Unknown("a loop over a tuple of anything but tuples of one length")
        (count,) = counts
        row = ir.ArrayType(I64, count)
        memory = self.place(ir.ArrayType(row, len(rows)))
        at = lambda *index: self.builder.gep(memory, [I64(0), *index])
        for k, numbers in enumerate(rows):
            for j, number in enumerate(numbers):
                self.builder.store(number, at(I64(k), I64(j)))
        value = lambda index: Pairs(at(index), count)
        self.is_in_parts = True
        self._loop(I64(0), I64(len(rows)), node.target.id, node.body, value)
        self.is_in_parts = False

    def _While(self, node):
        builder = self.builder
        test, inside, after = (builder.append_basic_block() for _ in range(3))
        builder.branch(test)
        builder.position_at_end(test)
        is_endless = isinstance(node.test, ast.Constant) and node.test.value is True
        if is_endless:
            builder.branch(inside)
        else:
            builder.cbranch(self.truth(node.test), inside, after)
        builder.position_at_end(inside)
        self.loops.append(test)
        self.block(node.body)
        self.loops.pop()
        if not builder.block.is_terminated:
            builder.branch(test)
        builder.position_at_end(after)
        if is_endless:
            builder.unreachable()

    def _Continue(self, node):
        self.builder.branch(self.loops[-1])

    def _Return(self, node):
        if self.returned is None or node.value is None:
            raise Unknown("a kernel that returns")
        block = self.builder.append_basic_block()
        self.returned.append((self.number(node.value), block))
        self.builder.branch(block)

    def called(self, tree: ast.FunctionDef) -> Any:
        """The result of a function whose arguments have been assigned, or its results."""
        body = [one for one in tree.body if not is_text(one)]
        returns = [one for one in ast.walk(tree) if isinstance(one, ast.Return)]
        if len(returns) == 1 and body[-1] is returns[0]:
            self.statements(body[:-1])
            assert returns[0].value is not None, "a function of numbers returns some"
            return self.expression(returns[0].value)
        self.returned = []
        self.statements(body)
        builder = self.builder
        if not builder.block.is_terminated:
            raise Unknown("a function that ends without a result")
        if not self.returned:  # a function that runs for ever
            builder.position_at_end(builder.append_basic_block())
            return literal(0, "i8")
        kinds = {value.kind for value, _ in self.returned}
        kind = functools.reduce(joined, kinds) if len(kinds) > 1 else kinds.pop()
        after, ends = builder.append_basic_block(), []
        for value, block in self.returned:
            builder.position_at_end(block)
            ends.append((self.cast(value, kind).parts, block))
            builder.branch(after)
        builder.position_at_end(after)
        return Value(kind, tuple(self._phi(k, ends) for k in range(len(ends[0][0]))))


def _instructions(block: ir.Block) -> int:
    """How many a block has, with those of the functions that are written out in it."""
    called = (getattr(one, "callee", None) for one in block.instructions)
    inner = (one.blocks for one in called if isinstance(one, ir.Function))
    return len(block.instructions) + sum(map(_instructions, itertools.chain(*inner)))


_COMPARISONS = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip


def _is_tuple(value) -> bool:
    """Whether a value is several: numbers and arrays are named tuples."""
    return type(value) is tuple
