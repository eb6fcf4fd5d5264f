"""Arithmetic and comparisons of values as instructions of LLVM, by the kinds of the operands alone."""

from __future__ import annotations

import ast
import functools

from llvmlite import ir

from nbhvp.targets.lowering.values import (
    PARTS,
    TYPES,
    Unknown,
    Value,
    is_float,
    is_integer,
    joined,
    literal,
    size,
    split,
    unsigned,
)

__all__ = ["CONTRACT", "binary", "cast", "compared", "divided"]

CONTRACT = ("contract",)
"""Products and sums may become fused multiply-adds, as numba lets kernels."""

_FLOATS = {ast.Add: "fadd", ast.Sub: "fsub", ast.Mult: "fmul", ast.Div: "fdiv"}
_INTEGERS = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul"}
_BITS = {
    ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor", ast.LShift: "shl", ast.RShift: "ashr",
}  # fmt: skip


def cast(builder: ir.IRBuilder, value: Value, kind: str) -> Value:
    """A value as another dtype."""
    if value.kind == kind:
        return value
    if kind in PARTS:
        part = PARTS[kind]
        parts = split(value)
        found = [cast(builder, one, part).parts[0] for one in parts]
        return Value(kind, (*found, TYPES[part](0.0))[:2])
    if value.kind in PARTS:
        raise Unknown(f"{value.kind} as {kind}")
    if value.literal is not None and kind != "b1":
        return literal(value.literal, kind)
    return Value(kind, (_converted(builder, value.parts[0], value.kind, kind),))


def _converted(builder: ir.IRBuilder, x, old: str, new: str):
    wanted = TYPES[new]
    if new == "b1":
        if is_float(old):
            return builder.fcmp_unordered("!=", x, x.type(0.0))
        return builder.icmp_signed("!=", x, x.type(0))
    if is_float(old):
        if is_float(new):
            return (builder.fpext if new == "f8" else builder.fptrunc)(x, wanted)
        return builder.fptosi(x, wanted) if new[0] == "i" else unsigned(builder, x, new)
    if is_float(new):
        return (builder.sitofp if old[0] == "i" else builder.uitofp)(x, wanted)
    if old != "b1" and size(new) <= size(old):
        return x if size(new) == size(old) else builder.trunc(x, wanted)
    return (builder.sext if old[0] == "i" else builder.zext)(x, wanted)


def binary(builder: ir.IRBuilder, op: type, x: Value, y: Value) -> Value:
    if op in _BITS:
        return _bits(builder, op, x, y)
    kind = joined(x.kind, y.kind)
    if op is ast.Div and is_integer(kind):
        kind = "f8"
    x, y = cast(builder, x, kind), cast(builder, y, kind)
    if kind in PARTS:
        return Value(kind, _complex(builder, op, x.parts, y.parts))
    (a,), (b,) = x.parts, y.parts
    if is_float(kind):
        if op not in _FLOATS:
            raise Unknown(f"{op.__name__} of {kind}")
        return Value(kind, (getattr(builder, _FLOATS[op])(a, b, flags=CONTRACT),))
    if op in _INTEGERS:
        return Value(kind, (getattr(builder, _INTEGERS[op])(a, b),))
    quotient, rest = divided(builder, kind, a, b)
    return Value(kind, (quotient if op is ast.FloorDiv else rest,))


def _complex(builder: ir.IRBuilder, op, x, y):
    if op in (ast.Add, ast.Sub):
        name = _FLOATS[op]
        return tuple(
            getattr(builder, name)(a, b, flags=CONTRACT) for a, b in zip(x, y, strict=True)
        )
    if op is not ast.Mult:
        raise Unknown(f"{op.__name__} of complex numbers")
    (a, b), (c, d) = x, y
    product = functools.partial(builder.fmul, flags=CONTRACT)
    real = builder.fsub(product(a, c), product(b, d), flags=CONTRACT)
    return real, builder.fadd(product(a, d), product(b, c), flags=CONTRACT)


def divided(builder: ir.IRBuilder, kind: str, a, b):
    """Quotient and remainder of integers, rounded down; both 0 where b is 0.

    The processor traps for 0, and where the smallest number is divided by -1.
    """
    zero, one = a.type(0), a.type(1)
    no_divisor = builder.icmp_signed("==", b, zero)
    if kind[0] == "u":
        b = builder.select(no_divisor, one, b)
        quotient, rest = builder.udiv(a, b), builder.urem(a, b)
    else:
        negated = builder.icmp_signed("==", b, a.type(-1))
        divisor = builder.select(builder.or_(no_divisor, negated), one, b)
        quotient, rest = builder.sdiv(a, divisor), builder.srem(a, divisor)
        differ = builder.icmp_signed("<", builder.xor(rest, divisor), zero)
        lower = builder.and_(builder.icmp_signed("!=", rest, zero), differ)
        quotient = builder.sub(quotient, builder.zext(lower, a.type))
        quotient = builder.select(negated, builder.neg(a), quotient)
        rest = builder.add(rest, builder.select(lower, divisor, zero))
    return builder.select(no_divisor, zero, quotient), builder.select(no_divisor, zero, rest)


def _bits(builder: ir.IRBuilder, op, x, y):
    name = _BITS[op]
    if x.kind == y.kind == "b1" and op in (ast.BitAnd, ast.BitOr, ast.BitXor):
        kind = "b1"
    elif (is_integer(x.kind) and is_integer(y.kind) and x.kind[0] == y.kind[0]) or (
        op in (ast.LShift, ast.RShift) and is_integer(x.kind) and y.literal is not None
    ):
        kind = x.kind[0] + "8"
    else:
        raise Unknown(f"{op.__name__} of {x.kind} and {y.kind}")
    if op is ast.RShift and kind == "u8":
        name = "lshr"
    (a,), (b,) = cast(builder, x, kind).parts, cast(builder, y, kind).parts
    return Value(kind, (getattr(builder, name)(a, b),))


def compared(builder: ir.IRBuilder, symbol: str, x: Value, y: Value):
    if x.kind == y.kind == "b1":
        return builder.icmp_unsigned(symbol, x.parts[0], y.parts[0])
    x, y = (cast(builder, v, "i8") if v.kind == "b1" else v for v in (x, y))
    kind = joined(x.kind, y.kind)
    if "u8" in (x.kind, y.kind) and kind == "i8":
        if not any(v.literal is not None and v.literal >= 0 for v in (x, y)):
            raise Unknown(f"a comparison of {x.kind} and {y.kind}")
        kind = "u8"
    x, y = cast(builder, x, kind), cast(builder, y, kind)
    if is_integer(kind):
        compare = builder.icmp_signed if kind[0] == "i" else builder.icmp_unsigned
        return compare(symbol, x.parts[0], y.parts[0])
    compare = builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered
    found = [compare(symbol, a, b) for a, b in zip(x.parts, y.parts, strict=True)]
    if len(found) == 1:
        return found[0]
    if symbol not in ("==", "!="):
        raise Unknown(f"{symbol} of complex numbers")
    return (builder.and_ if symbol == "==" else builder.or_)(*found)
