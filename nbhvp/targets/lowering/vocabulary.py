"""The words of kernels' texts: functions of a walk and of values, which write instructions.

Texts of kernels and of drivers import the words of `LANGUAGE`; `BUILTINS` and `DOTTED` need no import.
"""

import ast
import functools
import math
from collections.abc import Callable

from llvmlite import ir

from nbhvp.targets.lowering import words
from nbhvp.targets.lowering.arithmetic import CONTRACT, binary, compared, divided
from nbhvp.targets.lowering.values import (
    BYTES,
    F32,
    F64,
    I32,
    I64,
    PARTS,
    TYPES,
    Array,
    Unknown,
    Value,
    is_float,
    is_integer,
    joined,
    literal,
    size,
    split,
)
from nbhvp.targets.lowering.walk import Walk
from nbhvp.targets.lowering.words import EXACT

REASSOC = ("reassoc", "contract")


def _slot(walk: Walk, table: Value, k: Value, kind=I64):
    """Load a slot. Nothing writes to a table while a kernel runs."""
    builder = walk.builder
    place = builder.gep(table.parts[0], [I64(k.literal)])
    load = builder.load(builder.bitcast(place, kind.as_pointer()))
    load.set_metadata("invariant.load", walk.function.module.add_metadata([]))
    return load


def _array(is_written: bool):
    def word(walk, table, k, code):
        if is_written and k.literal not in walk.function.written:
            raise Unknown("a written array that is not declared at the top")
        return Array(code, k.literal, is_written, _slot(walk, table, k, BYTES))

    return word


def _integer(walk, table, k):
    return Value("i8", (_slot(walk, table, k),))


def _real(walk, table, k, code):
    return walk.cast(Value("f8", (_slot(walk, table, k, F64),)), code)


def _complex(walk, table, k, code):
    doubles = [_slot(walk, table, literal(k.literal + j, "i8"), F64) for j in range(2)]
    return walk.cast(Value("c16", tuple(doubles)), code)


def _add_reassoc(walk, total, x):
    """total + x, which LLVM may reorder: a sum becomes one SIMD register of partial sums."""
    kind = joined(total.kind, x.kind)
    total, x = walk.cast(total, kind), walk.cast(x, kind)
    if is_integer(kind):
        return binary(walk.builder, ast.Add, total, x)
    pairs = zip(total.parts, x.parts, strict=True)
    return Value(kind, tuple(walk.builder.fadd(a, b, flags=REASSOC) for a, b in pairs))


def _times(walk, x, y):
    """x * y, rounded by itself: a sum with it, or in it, is no fused multiply-add."""
    if x.kind != y.kind or not set(x.kind[0]) <= {"f", "c"}:
        raise Unknown("times of numbers of two kinds")
    multiply = functools.partial(walk.builder.fmul, flags=EXACT)
    if x.kind not in PARTS:
        return Value(x.kind, (multiply(x.parts[0], y.parts[0]),))
    (a, b), (c, d) = x.parts, y.parts
    real = walk.builder.fsub(multiply(a, c), multiply(b, d), flags=CONTRACT)
    return Value(x.kind, (real, walk.builder.fadd(multiply(a, d), multiply(b, c), flags=CONTRACT)))


def _c_call(walk, address, returned, arguments):
    kind = ir.FunctionType(returned, [argument.type for argument in arguments])
    function = walk.builder.inttoptr(address, kind.as_pointer())
    return walk.builder.call(function, arguments)


def _call(walk, address, *xs):
    """f(x, ...) for the address of a C function of doubles."""
    return Value("f8", (_c_call(walk, address.parts[0], F64, [walk.real(x) for x in xs]),))


def _output(walk, address, x, k, count):
    """The k-th of `count` results of f(x, *results), for the address of a C function of doubles."""
    places = [walk.place(F64) for _ in range(count.literal)]
    _c_call(walk, address.parts[0], ir.VoidType(), [walk.real(x), *places])
    return Value("f8", (walk.builder.load(places[k.literal]),))


def _fortran(walk, address, *xs):
    """Call a Fortran routine: numbers by reference, integers as 32 bits, pointers as they are."""
    references = []
    for x in xs:
        if isinstance(x, Array):
            references.append(x.address)
            continue
        parts = [walk.builder.trunc(x.parts[0], I32)] if x.kind == "i8" else x.parts
        memory = walk.place(ir.ArrayType(parts[0].type, len(parts)))
        for k, part in enumerate(parts):
            walk.builder.store(part, walk.builder.gep(memory, [I64(0), I64(k)]))
        references.append(walk.builder.bitcast(memory, BYTES))
    _c_call(walk, address.parts[0], ir.VoidType(), references)


def _shift(walk, array, index):
    """The pointer to the element at an index."""
    offset = walk.builder.mul(walk.cast(index, "i8").parts[0], I64(size(array.kind)))
    return array._replace(address=walk.builder.gep(array.address, [offset]))


def _stream(walk, array, index, x):
    """Store an element past the caches, so that its line is not read first.

    Other threads see it once this one has done an atomic operation, as it does after each block.
    """
    walk.store(array, walk.cast(index, "i8").parts[0], x, is_streamed=True)


def as_dtype(kind: str):
    return lambda walk, x: walk.cast(x, kind)


def absolute(walk, x):
    if x.kind in PARTS:
        return _hypot(walk, *split(x))
    if is_float(x.kind):
        return Value(x.kind, (walk.intrinsic("fabs", x.parts[0]),))
    if x.kind[0] in "bu":
        return x
    x = walk.cast(x, "i8")
    negative = compared(walk.builder, "<", x, literal(0, "i8"))
    return Value("i8", (walk.builder.select(negative, walk.builder.neg(x.parts[0]), x.parts[0]),))


def _extreme(symbol: str):
    def word(walk, x, y):
        kind = joined(x.kind, y.kind)
        x, y = walk.cast(x, kind), walk.cast(y, kind)
        other = compared(walk.builder, symbol, y, x)
        return Value(kind, (walk.builder.select(other, y.parts[0], x.parts[0]),))

    return word


def _complex_of(walk, x, y):
    kind = "c8" if {x.kind, y.kind} == {"f4"} else "c16"
    return Value(kind, (walk.real(x, PARTS[kind]), walk.real(y, PARTS[kind])))


def _hypot(walk, x, y):
    if x.kind == y.kind == "f4":
        call = words.external(walk.function.module, "hypotf", 2, F32)
        return Value("f4", (walk.builder.call(call, [x.parts[0], y.parts[0]]),))
    return Value("f8", (walk.external("hypot", walk.real(x), walk.real(y)),))


def _rounded(name: str):
    """An intrinsic function of LLVM on floats of either size."""

    def word(walk, x, *others):
        kind = x.kind
        for other in others:
            kind = kind if other.kind == kind else joined(kind, other.kind)
        if kind in PARTS:
            raise Unknown(f"{name} of {kind}")
        if not is_float(kind) and name in ("floor", "ceil", "trunc", "rint"):
            return x
        kind = kind if is_float(kind) else "f8"
        numbers = [walk.cast(one, kind).parts[0] for one in (x, *others)]
        return Value(kind, (walk.intrinsic(name, *numbers),))

    return word


def external(name: str):
    return lambda walk, *xs: Value("f8", (walk.external(name, *map(walk.real, xs)),))


def _next(walk, x, y):
    """The float after x on the way to y."""
    kind = joined(x.kind, y.kind)
    if not is_float(kind):
        raise Unknown(f"what follows {kind}")
    name = "nextafter" if kind == "f8" else "nextafterf"
    called = words.external(walk.function.module, name, 2, TYPES[kind])
    return Value(kind, (walk.builder.call(called, [walk.real(one, kind) for one in (x, y)]),))


def _spacing(walk, x):
    """The distance to the float that follows x, away from 0."""
    if not is_float(x.kind):
        raise Unknown(f"the spacing of {x.kind}")
    end = DOTTED["math.copysign"](walk, literal(math.inf, x.kind), x)
    return binary(walk.builder, ast.Sub, _next(walk, x, end), x)


def _is_infinite(symbol: str):
    def word(walk, x):
        if is_integer(x.kind) or x.kind == "b1":
            return literal(symbol == "<", "b1")
        if not is_float(x.kind):
            raise Unknown(f"whether {x.kind} is finite")
        return Value(
            "b1", (compared(walk.builder, symbol, absolute(walk, x), literal(math.inf, x.kind)),)
        )

    return word


def _sign(walk, x):
    """1, 0 or -1, and NaN of NaN."""
    if x.kind in PARTS or x.kind[0] in "bu":
        raise Unknown(f"the sign of {x.kind}")
    zero, select = literal(0, x.kind), walk.builder.select
    one, minus = (literal(k, x.kind).parts[0] for k in (1, -1))
    rest = select(compared(walk.builder, "==", x, zero), zero.parts[0], x.parts[0])
    rest = select(compared(walk.builder, "<", x, zero), minus, rest)
    return Value(x.kind, (select(compared(walk.builder, ">", x, zero), one, rest),))


def fmod(walk, x, y):
    """The remainder with the sign of x."""
    kind = joined(x.kind, y.kind)
    (a,), (b,) = walk.cast(x, kind).parts, walk.cast(y, kind).parts
    if is_float(kind):
        return Value(kind, (walk.builder.frem(a, b),))
    if kind != "i8":
        raise Unknown(f"fmod of {kind}")
    rest, builder, zero = divided(walk.builder, "i8", a, b)[1], walk.builder, I64(0)
    differ = builder.icmp_signed("<", builder.xor(rest, a), zero)
    wrong = builder.and_(builder.icmp_signed("!=", rest, zero), differ)
    return Value("i8", (builder.sub(rest, builder.select(wrong, b, zero)),))


def invert(walk, x):
    if x.kind != "b1":
        x = walk.cast(x, joined(x.kind, x.kind))
    return Value(x.kind, (walk.builder.not_(x.parts[0]),))


# Words of `drivers`: memory at an address, and calls of C functions of integers.


def _word_at(walk, address):
    return walk.builder.inttoptr(walk.cast(address, "i8").parts[0], I64.as_pointer())


def read(walk, address):
    return Value("i8", (walk.builder.load(_word_at(walk, address)),))


def write(walk, address, x):
    walk.builder.store(walk.cast(x, "i8").parts[0], _word_at(walk, address))


def load(walk, address):
    """Read a word that other threads write."""
    return Value("i8", (walk.builder.load_atomic(_word_at(walk, address), "seq_cst", 8),))


def store(walk, address, x):
    """Write a word that other threads read."""
    number = walk.cast(x, "i8").parts[0]
    walk.builder.store_atomic(number, _word_at(walk, address), "seq_cst", 8)


def add(walk, address, x):
    number = walk.cast(x, "i8").parts[0]
    return Value(
        "i8", (walk.builder.atomic_rmw("add", _word_at(walk, address), number, "seq_cst"),)
    )


def replace(walk, address, old, new):
    """Store `new` if `old` is there, in one go. True if it was."""
    numbers = [walk.cast(x, "i8").parts[0] for x in (old, new)]
    pair = walk.builder.cmpxchg(_word_at(walk, address), *numbers, "seq_cst", "seq_cst")
    return Value("b1", (walk.builder.extract_value(pair, 1),))


def invoke(walk, address, *xs):
    """Call a C function of 64-bit words. What it returns is dropped."""
    numbers = [walk.cast(x, "i8").parts[0] for x in xs]
    _c_call(walk, walk.cast(address, "i8").parts[0], ir.VoidType(), numbers)


def ask(walk, address, *xs):
    """Call a C function of 64-bit words, which gives another one."""
    numbers = [walk.cast(x, "i8").parts[0] for x in xs]
    return Value("i8", (_c_call(walk, walk.cast(address, "i8").parts[0], I64, numbers),))


WORDS_OF_DRIVERS = {read, write, load, store, add, replace, invoke, ask}

LANGUAGE: dict[str, Callable] = {
    "reads": _array(is_written=False),
    "writes": _array(is_written=True),
    "integer": _integer,
    "function": _integer,
    "real": _real,
    "cplx": _complex,
    "cast": lambda walk, x, code: walk.cast(x, code),
    "add_reassoc": _add_reassoc,
    "times": _times,
    "call": _call,
    "output": _output,
    "fortran": _fortran,
    "shift": _shift,
    "stream": _stream,
}
"""The words of `language`."""

BUILTINS: dict[str, Callable] = {
    "abs": absolute,
    "max": _extreme(">"),
    "min": _extreme("<"),
    "complex": _complex_of,
    "float": as_dtype("f8"),
}

DOTTED: dict[str, Callable] = {
    "math.sqrt": _rounded("sqrt"),
    "math.copysign": _rounded("copysign"),
    "math.hypot": _hypot,
    "np.fmod": fmod,
    "np.floor": _rounded("floor"),
    "np.ceil": _rounded("ceil"),
    "np.trunc": _rounded("trunc"),
    "np.rint": _rounded("rint"),
    "np.isinf": _is_infinite("=="),
    "np.isfinite": _is_infinite("<"),
    "np.sign": _sign,
    "np.nextafter": _next,
    "np.spacing": _spacing,
    "math.lgamma": external("lgamma"),
    **{f"math.{name}": external(name) for name in ("erfc", "exp", "log", "log1p")},
}
