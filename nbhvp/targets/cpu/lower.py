"""Kernels from their text to LLVM's language: one walk over the syntax tree.

A kernel's text is a Python function in a small language, of which this is all. Each name has one
kind, a dtype by its short name ("f8", "b1"); an operation is a few instructions, chosen by the kinds
of its operands. So a kernel takes milliseconds, where numba, which infers and looks up, takes 0.2 s.

    statements   name = e    a[i] = e    name += e    x, y = e, e    pass
                 for i in range(e), range(e, e), range(e, e, -1):    for part in ((e, e), (e, e)):
                 if e: elif e: else:    while e:    continue    return e (in functions)
    expressions  numbers; + - * / // % and ** (to floats and whole literals); << >> & | ^; comparisons;
                 and or not; e if e else e; a[i]; part[0]; z.real z.imag z.conjugate(); math.inf
    calls        a dtype's name; `LANGUAGE`, `BUILTINS`, `DOTTED`; the functions of `scalars`: those made
                 of arithmetic are written out, of others the source is read

The text means what numba makes of it, to which whatever is not in this table goes: `Unknown` is
raised, nothing is guessed. Flags: products and sums may be contracted to fused multiply-adds, only
`add_reassoc` may be reordered, `times` neither. `//` and `%` of integers round down, and are 0 for a
divisor of 0. A kernel may run twice on a range. Pointers that are written overlap nothing: metadata say so to LLVM (`alias_marks`).
"""

from __future__ import annotations

import ast
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
from llvmlite import ir

from nbhvp.graph.table import incomplete
from nbhvp.targets.cpu import machine, scalars, words
from nbhvp.targets.cpu.values import (
    BYTES,
    F32,
    F64,
    I1,
    I32,
    I64,
    PARTS,
    TYPES,
    Array,
    Table,
    Unknown,
    Value,
    is_float,
    is_integer,
    joined,
    literal,
    size,
    split,
)
from nbhvp.targets.cpu.walk import CONTRACT, Function, Walk, Widen, is_text
from nbhvp.targets.cpu.words import EXACT, Number

__all__ = ["Unknown", "lowered", "lowered_entries"]

REASSOC = ("reassoc", "contract")


# Words: functions of the walk and of values.


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
        return walk.binary(ast.Add, total, x)
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


def _as_dtype(kind: str):
    return lambda walk, x: walk.cast(x, kind)


def _abs(walk, x):
    if x.kind in PARTS:
        return _hypot(walk, *split(x))
    if is_float(x.kind):
        return Value(x.kind, (walk.intrinsic("fabs", x.parts[0]),))
    if x.kind[0] in "bu":
        return x
    x = walk.cast(x, "i8")
    negative = walk.compared("<", x, literal(0, "i8"))
    return Value("i8", (walk.builder.select(negative, walk.builder.neg(x.parts[0]), x.parts[0]),))


def _extreme(symbol: str):
    def word(walk, x, y):
        kind = joined(x.kind, y.kind)
        x, y = walk.cast(x, kind), walk.cast(y, kind)
        other = walk.compared(symbol, y, x)
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


def _external(name: str):
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
    return walk.binary(ast.Sub, _next(walk, x, end), x)


def _is_infinite(symbol: str):
    def word(walk, x):
        if is_integer(x.kind) or x.kind == "b1":
            return literal(symbol == "<", "b1")
        if not is_float(x.kind):
            raise Unknown(f"whether {x.kind} is finite")
        return Value("b1", (walk.compared(symbol, _abs(walk, x), literal(math.inf, x.kind)),))

    return word


def _sign(walk, x):
    """1, 0 or -1, and NaN of NaN."""
    if x.kind in PARTS or x.kind[0] in "bu":
        raise Unknown(f"the sign of {x.kind}")
    zero, select = literal(0, x.kind), walk.builder.select
    one, minus = (literal(k, x.kind).parts[0] for k in (1, -1))
    rest = select(walk.compared("==", x, zero), zero.parts[0], x.parts[0])
    rest = select(walk.compared("<", x, zero), minus, rest)
    return Value(x.kind, (select(walk.compared(">", x, zero), one, rest),))


def _divided(k: int, of_floats: Callable):
    """The quotient (k = 0) or the remainder (k = 1) of integers, or a function of floats."""

    def word(walk, x, y):
        kind = joined(x.kind, y.kind)
        x, y = walk.cast(x, kind), walk.cast(y, kind)
        if is_integer(kind):
            return Value(kind, (walk.divided(kind, x.parts[0], y.parts[0])[k],))
        return _written(of_floats)(walk, x, y)

    return word


def _fmod(walk, x, y):
    """The remainder with the sign of x."""
    kind = joined(x.kind, y.kind)
    (a,), (b,) = walk.cast(x, kind).parts, walk.cast(y, kind).parts
    if is_float(kind):
        return Value(kind, (walk.builder.frem(a, b),))
    if kind != "i8":
        raise Unknown(f"fmod of {kind}")
    rest, builder, zero = walk.divided("i8", a, b)[1], walk.builder, I64(0)
    differ = builder.icmp_signed("<", builder.xor(rest, a), zero)
    wrong = builder.and_(builder.icmp_signed("!=", rest, zero), differ)
    return Value("i8", (builder.sub(rest, builder.select(wrong, b, zero)),))


def _invert(walk, x):
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


WORDS_OF_DRIVERS = {read, write, load, store, add, replace, invoke}

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
}
"""The words of `language`."""

BUILTINS: dict[str, Callable] = {
    "abs": _abs,
    "max": _extreme(">"),
    "min": _extreme("<"),
    "complex": _complex_of,
    "float": _as_dtype("f8"),
}

DOTTED: dict[str, Callable] = {
    "math.sqrt": _rounded("sqrt"),
    "math.copysign": _rounded("copysign"),
    "math.hypot": _hypot,
    "np.fmod": _fmod,
    "np.floor": _rounded("floor"),
    "np.ceil": _rounded("ceil"),
    "np.trunc": _rounded("trunc"),
    "np.rint": _rounded("rint"),
    "np.isinf": _is_infinite("=="),
    "np.isfinite": _is_infinite("<"),
    "np.sign": _sign,
    "np.nextafter": _next,
    "np.spacing": _spacing,
    "math.lgamma": _external("lgamma"),
    **{f"math.{name}": _external(name) for name in ("erfc", "exp", "log", "log1p")},
}

SCALARS: dict[Callable, Callable] = {
    scalars.remainder: _divided(1, scalars.remainder_of_floats),
    scalars.floor_divide: _divided(0, scalars.floor_divide_floats),
    scalars.fmod: _fmod,
    scalars.invert: _invert,
    incomplete.gammaln: _external("lgamma"),
    incomplete.digamma: lambda walk, x: _written(scalars.digamma)(walk, x),
    incomplete.trigamma: lambda walk, x: _written(scalars.zeta)(walk, literal(2.0, "f8"), x),
}
"""Functions of `scalars` that depend on the kinds of their arguments."""


def _elementary(function: Callable) -> Callable:
    """A function made of arithmetic alone, once in a module, and written out where it is called."""
    is_rare = function.__name__ in words.RARE

    def word(walk, *xs):
        place, numbers = walk.function.rare if is_rare else None, [walk.real(x) for x in xs]
        made = _arithmetic(walk.function.module, function, is_rare, place is not None)
        found = walk.builder.call(made, numbers)
        if place is None:
            return Value("f8", (found,))
        # A count, which loops vectorise however many terms it has.
        one = walk.builder.zext(walk.builder.extract_value(found, 1), I64)
        walk.builder.store(walk.builder.add(walk.builder.load(place), one), place)
        return Value("f8", (walk.builder.extract_value(found, 0),))

    return word


def _arithmetic(module: ir.Module, function: Any, is_rare: bool, tells: bool) -> ir.Function:
    """A function of doubles in a module. If it `tells`, it gives whether its case is rare, too.

    Else one that has such cases is called, not written out: its branches would be, for each lane of
    a vector, and take more time to compile than all else.
    """
    name = f"nbhvp {function.__name__}{' and whether' * tells}"
    if name in module.globals:
        return module.globals[name]
    kinds = [F64] * function.body.__code__.co_argcount
    gives = ir.LiteralStructType([F64, I1]) if tells else F64
    made = ir.Function(module, ir.FunctionType(gives, kinds), name)
    made.linkage = "internal"
    made.attributes.add("noinline" if is_rare and not tells else "alwaysinline")
    builder = ir.IRBuilder(made.append_basic_block())
    if tells:
        builder.rare = []
    value = function.body(*(Number(builder, one) for one in made.args)).value
    if tells:
        (condition,) = builder.rare
        value = builder.insert_value(gives(ir.Undefined), value, 0)
        value = builder.insert_value(value, condition, 1)
    builder.ret(value)
    return made


@functools.cache
def _tree(function: Callable) -> ast.FunctionDef:
    (tree,) = ast.parse(inspect.getsource(function)).body
    assert isinstance(tree, ast.FunctionDef)
    return tree


def _is_short(tree: ast.FunctionDef) -> bool:
    """Whether a function is one expression."""
    return len([one for one in tree.body if not is_text(one)]) == 1


def _gives_several(function: Callable) -> bool:
    """Whether a function returns a tuple, or what another one returns that does."""
    for one in ast.walk(_tree(function)):
        match one:
            case ast.Return(value=ast.Tuple()):
                return True
            case ast.Return(value=ast.Call(func=ast.Name(name))):
                called = function.__globals__.get(name)
                if called in incomplete.BODIES and _gives_several(called):
                    return True
    return False


def _written(function: Callable) -> Callable:
    """A function by its source: in place if it is one expression or takes complex numbers."""

    def word(walk, *xs):
        tree, names = _tree(function), _Globals(walk.function.module, function.__globals__)
        are_real = all(isinstance(x, Value) and x.kind not in PARTS for x in xs)
        if _is_short(tree) or _gives_several(function) or not are_real:
            return Walk(walk.function, names, tree, xs).called(tree)
        xs = [walk.cast(x, "f8") if x.kind == "f4" else x for x in xs]
        name = " ".join([function.__module__, function.__name__, *(x.kind for x in xs)])
        if name not in walk.function.module.globals:
            _add_function(walk.function, name, function, names, [x.kind for x in xs])
        called = walk.function.module.globals[name]
        kind = _gives(function)
        return Value(kind, (walk.builder.call(called, [x.parts[0] for x in xs]),))

    return word


def _gives(function: Callable) -> str:
    """The kind of a function's result."""
    return getattr(function, "gives", "f8")


def _add_function(caller: Function, name: str, source: Callable, names, kinds) -> None:
    """A function of real numbers, which gives one."""
    gives, tree = _gives(source), _tree(source)
    kind = ir.FunctionType(TYPES[gives], [TYPES[k] for k in kinds])
    made = ir.Function(caller.module, kind, name)
    made.linkage = "internal"
    function = _begin(caller.module, made, caller.kinds)
    function.walks = caller.walks
    values = [Value(kind, (one,)) for kind, one in zip(kinds, made.args, strict=True)]
    walk = Walk(function, names, tree, values)
    function.builder.ret(walk.real(walk.called(tree), gives))
    caller.walks = function.walks
    _end(function)


class _Globals(Mapping):
    """What the names of a module stand for in the functions that are read from it."""

    def __init__(self, module: ir.Module, names: dict):
        self.module, self.names = module, names

    def __getitem__(self, name: str):
        if name not in self.names or name in DOTTED:
            module, _, attribute = name.rpartition(".")
            if isinstance(self.names.get(module), ModuleType) and name not in DOTTED:
                return _word(getattr(self.names[module], attribute))
            return KNOWN[name]
        value = self.names[name]
        if isinstance(value, int | float):
            return literal(value, "f8" if isinstance(value, float) else "i8")
        if isinstance(value, tuple | np.ndarray):
            return self._table(name, value)
        if not callable(value):
            raise Unknown(f"the name {name}")
        return _word(value)

    def __iter__(self):
        return iter([*self.names, *KNOWN])

    def __len__(self):
        return len(self.names) + len(KNOWN)

    def _table(self, name: str, value) -> Table:
        values = [float(x) for x in value]
        name = f"{self.names['__name__']} {name}"
        if name not in self.module.globals:
            kind = ir.ArrayType(F64, len(values))
            made = ir.GlobalVariable(self.module, kind, name)
            made.linkage, made.global_constant, made.initializer = "internal", True, kind(values)
        return Table(self.module.globals[name], len(values))


def _word(function: Callable) -> Callable:
    """The word for a function of a module of ours."""
    if function in WORDS_OF_DRIVERS:
        return function
    if function in SCALARS:
        return SCALARS[function]
    if hasattr(function, "body"):
        return _elementary(function)
    if function in words.WRITTEN or function in incomplete.BODIES:
        return _written(function)
    raise Unknown(f"the function {function.__name__}")


DOTTED |= {
    f"np.{name}": _elementary(getattr(scalars, name)) for name in ("exp", "expm1", "log", "log1p")
} | {"np.maximum": _written(scalars.maximum), "np.abs": _abs, "np.sqrt": DOTTED["math.sqrt"]}
"""What the source of functions says."""

KNOWN = BUILTINS | DOTTED | {"**": _elementary(scalars.power)}
"""Words that need no import, or one that every text has."""


# Whole kernels.


def _empty_module(name: str) -> ir.Module:
    """A module for this processor."""
    module = ir.Module(name)
    module.triple, module.data_layout = machine.processor()[0], machine.data_layout()
    return module


def _begin(module: ir.Module, made: ir.Function, kinds: dict) -> Function:
    entry = ir.IRBuilder(made.append_basic_block())
    start = made.append_basic_block()
    return Function(module, ir.IRBuilder(start), entry, kinds)


def _end(function: Function) -> None:
    function.entry.branch(function.entry.function.blocks[1])


def _names(tree: ast.Module) -> dict:
    """What the names that a text imports stand for."""
    names = dict(KNOWN)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names.update(_imported(node.module, alias))
    return names


def _imported(module: str | None, alias: ast.alias) -> dict:
    name = alias.asname or alias.name
    if module == "numba":
        kind = "b1" if alias.name == "boolean" else name
        return {name: _as_dtype(kind)} if kind in TYPES or kind in PARTS else {}
    if module == "nbhvp.targets.cpu.language":
        return {name: LANGUAGE[alias.name]} if alias.name in LANGUAGE else {}
    if module != "nbhvp.targets.cpu.scalars":
        return {}
    return _scalars() if alias.name == "*" else {name: _scalars()[alias.name]}


@functools.cache
def _scalars() -> dict[str, Callable]:
    return {name: _word(getattr(scalars, name)) for name in scalars.__all__}


def lowered(source: str, name: str) -> str:
    """The LLVM text of the kernel that a source defines, under a name of its own.

    Raises
    ------
    Unknown
        Where the source says something that is not in the language.
    """
    tree = ast.parse(source)
    kinds: dict = {}
    while True:
        try:
            return _kernel(tree, name, kinds)
        except Widen as needed:
            assert kinds.get(needed.name) != needed.kind, "a name is widened once to a kind"
            kinds[needed.name] = needed.kind


def _kernel(tree: ast.Module, name: str, kinds: dict) -> str:
    source = tree.body[-1]
    if not isinstance(source, ast.FunctionDef):
        raise Unknown("a text that does not end with its kernel")
    module = _empty_module(name)
    made = ir.Function(module, ir.FunctionType(ir.VoidType(), KERNEL), name)
    if not _has_rare_cases(source):
        _add_body(made, tree, source, kinds, tells=False)
        return str(module)
    # All elements as if no argument were far away; if one was, all again, so that the loops of the
    # first time have no branch. What a kernel writes depends on nothing that it has written before.
    near = ir.Function(module, ir.FunctionType(I64, KERNEL), f"{name} near")
    far = ir.Function(module, ir.FunctionType(ir.VoidType(), KERNEL), f"{name} far")
    near.linkage = far.linkage = "internal"
    near.attributes.add("alwaysinline")
    set.update(far.attributes, ("noinline", "cold"))
    _add_body(near, tree, source, kinds, tells=True)
    _add_body(far, tree, source, kinds, tells=False)
    builder = ir.IRBuilder(made.append_basic_block())
    was_rare = builder.icmp_signed("!=", builder.call(near, made.args), I64(0))
    with builder.if_then(was_rare):
        builder.call(far, made.args)
    builder.ret_void()
    return str(module)


KERNEL = [I64.as_pointer(), I64, I64]


def _has_rare_cases(source: ast.FunctionDef) -> bool:
    calls = (one.func for one in ast.walk(source) if isinstance(one, ast.Call))
    return any(isinstance(one, ast.Name) and one.id in words.RARE for one in calls)


def _add_body(made: ir.Function, tree: ast.Module, source: ast.FunctionDef, kinds, tells) -> None:
    """The statements of a kernel; if it `tells`, it gives whether an argument was rare."""
    function = _begin(made.module, made, kinds)
    function.written = _written_slots(source)
    if tells:
        function.rare = function.entry.alloca(I64)
        function.entry.store(I64(0), function.rare)
    values = zip(("table", "i8", "i8"), made.args, strict=True)
    walk = Walk(function, _names(tree), source, [Value(kind, (one,)) for kind, one in values])
    walk.statements(source.body)
    if tells:
        function.builder.ret(function.builder.load(function.rare))
    else:
        function.builder.ret_void()
    _end(function)


def _written_slots(source: ast.FunctionDef) -> list[int]:
    """The slots of all pointers that a kernel declares as written, which it does at its top."""
    found = set()
    for one in source.body:
        match one:
            case ast.Assign(value=ast.Call(func=ast.Name("writes"), args=[_, k, _])):
                found.add(ast.literal_eval(k))
    return sorted(found)


# Functions that Python calls.

OBJECT = object.__basicsize__
"""Where the address of an array's elements lies in it: that much is NumPy's ABI."""

_NOTHING = ast.FunctionDef("entry", ast.arguments([], [], None, [], [], None, []), [], [])


def lowered_entries(functions: ModuleType, arguments: Mapping[str, str], prefix: str) -> str:
    """The LLVM text of functions as the interpreter calls them, each under a prefix and its name.

    An argument is the address of an array ("a") or an integer ("i"). A function of one argument gives
    an integer; others may take long, and let go of the interpreter.
    """
    module = _empty_module(prefix)
    for name, letters in arguments.items():
        kind = ir.FunctionType(BYTES, [BYTES, BYTES.as_pointer(), I64])
        made = ir.Function(module, kind, f"{prefix} {name}")
        begun = _begin(module, made, {})
        _entry(begun, made, getattr(functions, name), letters)
        _end(begun)
    return str(module)


def _entry(begun, made: ir.Function, function: Callable, arguments: str) -> None:
    """Unpack the arguments, call the function, and return its result or None."""
    builder, python = begun.builder, functools.partial(_python, begun)
    places = [builder.gep(made.args[1], [I64(k)]) for k in range(len(arguments))]
    numbers = [
        _address_of(builder, builder.load(place))
        if letter == "a"
        else python("PyLong_AsLongLong", I64, builder.load(place))
        for place, letter in zip(places, arguments, strict=True)
    ]
    is_long = len(arguments) > 1
    state = python("PyEval_SaveThread", BYTES) if is_long else None
    walk = Walk(begun, {}, _NOTHING, ())
    result = _word(function)(walk, *(Value("i8", (one,)) for one in numbers)).parts[0]
    if not is_long:
        builder.ret(python("PyLong_FromLongLong", BYTES, result))
        return
    python("PyEval_RestoreThread", ir.VoidType(), state)
    python("Py_IncRef", ir.VoidType(), made.args[0])
    builder.ret(made.args[0])


def _address_of(builder: ir.IRBuilder, array):
    word = builder.add(builder.ptrtoint(array, I64), I64(OBJECT))
    return builder.load(builder.inttoptr(word, I64.as_pointer()))


def _python(begun, name: str, returned, *arguments):
    """Call a function of Python's C API."""
    if name not in begun.module.globals:
        kind = ir.FunctionType(returned, [one.type for one in arguments])
        ir.Function(begun.module, kind, name)
    return begun.builder.call(begun.module.globals[name], arguments)
