"""The values of a kernel's names while it is lowered: numbers of a kind, arrays, constants.

A kind is a dtype by its short name in kernels' texts: "f8", "c16", "i4", "b1". A truth value is one bit
in a register and one byte in memory; a complex number is two real ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir

I1, I8, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
F32, F64 = ir.FloatType(), ir.DoubleType()
BYTES = I8.as_pointer()
TYPES = {"f4": F32, "f8": F64, "b1": I1} | {
    f"{sign}{size}": ir.IntType(8 * size) for sign in "iu" for size in (1, 2, 4, 8)
}
PARTS = {"c8": "f4", "c16": "f8"}
"""The real numbers that make up a complex one."""


class Unknown(Exception):
    """Something that is not in the language: numba has to compile the text."""


class Value(NamedTuple):
    """A number: its kind, its instruction (two if it is complex), and its value if that stands in the text."""

    kind: str
    parts: tuple
    literal: Any = None


class Array(NamedTuple):
    """The elements behind one slot of the table, or in memory that is not the program's."""

    kind: str
    slot: int | None
    is_written: bool
    address: Any


class Pairs(NamedTuple):
    """One of several tuples of integers in memory."""

    address: Any
    length: int


class Table(NamedTuple):
    """Floats of a module that a function names, as constants in memory."""

    address: Any
    length: int


def is_float(kind: str) -> bool:
    return kind[0] == "f"


def is_integer(kind: str) -> bool:
    return kind[0] in "iu"


def size(kind: str) -> int:
    return int(kind[1:])


def joined(a: str, b: str) -> str:
    """The kind in which numba computes with two others."""
    if a == b and a != "b1" and not (is_integer(a) and size(a) < 8):
        return a
    if (is_integer(a) or a == "b1") and (is_integer(b) or b == "b1"):
        return "u8" if a[0] == b[0] == "u" else "i8"
    letters = {a[0], b[0]}
    if letters <= {"f", "c"}:
        part = "f8" if "f8" in (PARTS.get(a, a), PARTS.get(b, b)) else "f4"
        return part if letters == {"f"} else {"f4": "c8", "f8": "c16"}[part]
    if {a, b} & {"f8", "c16"} or not {a, b} & {"b1", "i1", "i2", "u1", "u2"}:
        return "c16" if "c" in letters else "f8"
    raise Unknown(f"an operation of {a} and {b}")


def parts_of(kind: str) -> list[str]:
    """The kinds of the real numbers that make up a value."""
    return [PARTS[kind]] * 2 if kind in PARTS else [kind]


def split(value: Value) -> list[Value]:
    kinds = parts_of(value.kind)
    return [Value(kind, (part,)) for kind, part in zip(kinds, value.parts, strict=True)]


def literal(value, kind: str) -> Value:
    if kind in PARTS:
        value = complex(value)
        parts = [TYPES[PARTS[kind]](x) for x in (value.real, value.imag)]
        return Value(kind, tuple(parts), value)
    value = {"f": float, "b": bool}.get(kind[0], int)(value)
    return Value(kind, (TYPES[kind](int(value) if kind == "b1" else value),), value)


def unsigned(builder: ir.IRBuilder, x, kind: str):
    """A float as an unsigned integer: a negative one wraps, as NumPy's do; LLVM leaves it undefined."""
    if size(kind) < 8:
        return builder.trunc(builder.fptosi(x, I32 if size(kind) < 4 else I64), TYPES[kind])
    is_large = builder.fcmp_ordered(">=", x, x.type(2.0**63))
    return builder.select(is_large, builder.fptoui(x, I64), builder.fptosi(x, I64))


def alias_marks(
    module: ir.Module, number: int | None, bits: int, scopes: dict | None = None
) -> dict[str, Any]:
    """What an access through a written pointer of a number (None: one that is only read) cannot overlap.

    Reads overlap no write. Of two written pointers, each knows only its own number, so each bit of
    the number is an alias domain of two scopes: an access is in the scope of its own bit and overlaps
    nothing in the scope of the other. Different numbers differ in a bit, and one domain is enough.
    Scopes that a module has already may be given.
    """
    node, known = module.add_metadata, {} if scopes is None else scopes

    def scope(name, domain):
        if name not in known:
            text = [ir.MetaDataString(module, f"nbhvp {t}") for t in (name, domain)]
            known[name] = node([text[0], node([text[1]])])
        return known[name]

    written = scope("written", "role")
    if number is None:
        return {"noalias": node([written])}
    of_number = [(bit, number >> bit & 1) for bit in range(bits)]
    own = [scope(f"bit {bit} is {value}", f"bit {bit}") for bit, value in of_number]
    others = [scope(f"bit {bit} is {1 - value}", f"bit {bit}") for bit, value in of_number]
    marks = {"alias.scope": node([written, *own])}
    return marks | {"noalias": node(others)} if others else marks


class Names:
    """The names in a function of so many arguments.

    A number makes each unique, where llvmlite looks all up.
    """

    def __init__(self, count: int):
        self.count = count

    def register(self, name: str, deduplicate: bool = False) -> str:
        """A name that nothing else has."""
        self.count += 1
        return f"{name}.{self.count}"


class _Loop(ir.values.MDValue):
    """Metadata of one loop: LLVM asks that a loop's node is its own first operand."""

    def descr(self, buf):
        operands = [self, *self.operands]
        buf.append(f"distinct !{{ {', '.join(one.get_reference() for one in operands)} }}\n")


def with_masks(module: ir.Module) -> dict[str, Any]:
    """The mark of a loop whose last vector is computed in part, by no loop of its own for the rest."""
    text = ir.MetaDataString(module, "llvm.loop.vectorize.predicate.enable")
    options = [module.add_metadata([text, I1(1)])]
    return {"llvm.loop": _Loop(module, options, str(len(module.metadata)))}


def without_vectors(module: ir.Module) -> dict[str, Any]:
    """The mark of the last branch of a loop that has few iterations: LLVM leaves it as it is."""
    texts = "llvm.loop.vectorize.enable", "llvm.loop.unroll.disable"
    words = [ir.MetaDataString(module, text) for text in texts]
    options = [module.add_metadata([words[0], I1(0)]), module.add_metadata([words[1]])]
    return {"llvm.loop": _Loop(module, options, str(len(module.metadata)))}
