"""Translates kernels from their text to LLVM's language, in one walk over the syntax tree.

A kernel's text is a Python function in a small language, which is listed here completely. Each name
has one kind, a dtype by its short name ("f8", "b1"); an operation is a few instructions, chosen by the
kinds of its operands. So a kernel takes milliseconds; Numba's type inference takes 0.2 s.

    statements   name = e    a[i] = e    name += e    x, y = e, e    pass
                 for i in range(e), range(e, e), range(e, e, -1):    for part in ((e, e), (e, e)):
                 if e: elif e: else:    while e:    continue    return e (in functions)
    expressions  numbers; + - * / // % and ** (to floats and whole literals); << >> & | ^; comparisons;
                 and or not; e if e else e; a[i]; part[0]; z.real z.imag z.conjugate(); math.inf
    calls        a dtype's name; the words of `vocabulary`; the functions of `scalars`: those made
                 of arithmetic are written out, of others the source is read

The text means the same as under Numba. Any other construct raises `Unknown`, and Numba compiles the
kernel. Flags: products and sums may be contracted to fused multiply-adds, only `add_reassoc` may be
reordered, and `times` may be neither. `//` and `%` of integers round down, and are 0 for a divisor of 0.
Loops over parts are the edges of long ones: LLVM makes no vectors of them.

Invariants: a kernel may run twice on a range, because its results depend only on memory that it does
not write. Pointers that are written overlap no others, and metadata tell LLVM so (`alias_marks`).
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
from llvmlite import ir

from nbhvp.graph.table import incomplete
from nbhvp.targets.lowering import scalars, words
from nbhvp.targets.lowering.arithmetic import divided
from nbhvp.targets.lowering.objects import DATA
from nbhvp.targets.lowering.scalars import arithmetic, special
from nbhvp.targets.lowering.syntax import called_often, has_rare_cases, is_short, written_slots
from nbhvp.targets.lowering.values import (
    BYTES,
    F64,
    I1,
    I64,
    PARTS,
    TYPES,
    Names,
    Table,
    Unknown,
    Value,
    is_integer,
    joined,
    literal,
)
from nbhvp.targets.lowering.vocabulary import (
    BUILTINS,
    DOTTED,
    LANGUAGE,
    WORDS_OF_DRIVERS,
    absolute,
    as_dtype,
    external,
    fmod,
    invert,
)
from nbhvp.targets.lowering.walk import Function, Walk, Widen
from nbhvp.targets.lowering.words import Number

__all__ = ["Unknown", "lowered", "lowered_entries"]

# Functions of `scalars`.


def _divided(k: int, of_floats: Callable):
    """The quotient (k = 0) or the remainder (k = 1) of integers, or a function of floats."""

    def word(walk, x, y):
        kind = joined(x.kind, y.kind)
        x, y = walk.cast(x, kind), walk.cast(y, kind)
        if is_integer(kind):
            return Value(kind, (divided(walk.builder, kind, x.parts[0], y.parts[0])[k],))
        return _written(of_floats)(walk, x, y)

    return word


SCALARS: dict[Callable, Callable] = {
    scalars.remainder: _divided(1, arithmetic.remainder_of_floats),
    scalars.floor_divide: _divided(0, arithmetic.floor_divide_floats),
    scalars.fmod: fmod,
    scalars.invert: invert,
    incomplete.gammaln: external("lgamma"),
    incomplete.digamma: lambda walk, x: _written(special.digamma)(walk, x),
    incomplete.trigamma: lambda walk, x: _written(special.zeta)(walk, literal(2.0, "f8"), x),
}
"""Functions of `scalars` that depend on the kinds of their arguments."""


def _elementary(function: Callable) -> Callable:
    """A function made of arithmetic alone, once in a module, and written out where it is called."""
    is_rare = function.__name__ in words.RARE

    def word(walk, *xs):
        place, numbers = walk.function.rare if is_rare else None, [walk.real(x) for x in xs]
        is_called = (is_rare and place is None) or function.__name__ in walk.function.called
        made = _arithmetic(walk.function.module, function, is_called, place is not None)
        found = walk.builder.call(made, numbers)
        if place is None:
            return Value("f8", (found,))
        # A count, which loops vectorise however many terms it has.
        one = walk.builder.zext(walk.builder.extract_value(found, 1), I64)
        walk.builder.store(walk.builder.add(walk.builder.load(place), one), place)
        return Value("f8", (walk.builder.extract_value(found, 0),))

    return word


def _arithmetic(module: ir.Module, function: Any, is_called: bool, tells: bool) -> ir.Function:
    """A function of doubles in a module. If it `tells`, it gives whether its case is rare, too.

    Else one that has such cases is to be called, not written out: its branches would be, for each lane
    of a vector, and take more time to compile than all else.
    """
    name = f"nbhvp {function.__name__}{' and whether' * tells}"
    if name in module.globals:
        return module.globals[name]
    kinds = [F64] * function.body.__code__.co_argcount
    gives = ir.LiteralStructType([F64, I1]) if tells else F64
    made = ir.Function(module, ir.FunctionType(gives, kinds), name)
    made.linkage = "internal"
    made.attributes.add("noinline" if is_called else "alwaysinline")
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
        if is_short(tree) or _gives_several(function) or not are_real:
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
    kind = ir.FunctionType(TYPES[_gives(source)], [TYPES[k] for k in kinds])
    made = ir.Function(caller.module, kind, name)
    function = _begin(caller.module, made, caller.kinds)
    function.walks = caller.walks
    _define(function, source, names, kinds)
    caller.walks = function.walks


def _define(function: Function, source: Callable, names: Mapping, kinds) -> None:
    """Write the body of a function of a module."""
    made, tree = function.builder.function, _tree(source)
    made.linkage = "internal"
    values = [Value(kind, (one,)) for kind, one in zip(kinds, made.args, strict=True)]
    walk = Walk(function, names, tree, values)
    function.builder.ret(walk.real(walk.called(tree), _gives(source)))
    _end(function)


def define(module: ir.Module, name: str, source: Callable, kinds: dict, first: int) -> None:
    """Give a function of doubles that a module declares the body that `source` has.

    Its walks are numbered from `first` on: what `kinds` tells is of one function alone.
    """
    function = _begin(module, module.globals[name], kinds)
    function.walks = first
    names = _Globals(module, source.__globals__)
    _define(function, source, names, ["f8"] * len(module.globals[name].args))


class _Globals(Mapping):
    """What the names of a module stand for in the functions that are read from it."""

    def __init__(self, module: ir.Module, names: dict):
        self.module, self.names = module, names

    def __getitem__(self, name: str):
        if name in KNOWN and name not in self.names:
            return KNOWN[name]
        if name not in self.names:
            module, _, attribute = name.rpartition(".")
            if not isinstance(self.names.get(module), ModuleType):
                raise KeyError(name)
            return word_of(getattr(self.names[module], attribute))
        value = self.names[name]
        if isinstance(value, int | float):
            return literal(value, "f8" if isinstance(value, float) else "i8")
        if isinstance(value, tuple | np.ndarray):
            return self._table(name, value)
        if not callable(value):
            raise Unknown(f"the name {name}")
        return word_of(value)

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


def word_of(function: Callable) -> Callable:
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


LIBRARY = {
    f"np.{name}": _elementary(getattr(scalars, name)) for name in ("exp", "expm1", "log", "log1p")
} | {"np.maximum": _written(scalars.maximum), "np.abs": absolute, "np.sqrt": DOTTED["math.sqrt"]}
"""What the source of functions says."""

KNOWN = BUILTINS | DOTTED | LIBRARY | {"**": _elementary(scalars.power)}
"""Words that need no import, or one that every text has."""


# Whole kernels.


def empty_module(name: str, target: tuple[str, str]) -> ir.Module:
    """A module for the processor of this name, with this layout of types in memory."""
    module = ir.Module(name)
    module.triple, module.data_layout = target
    return module


def kernel_of(tree: ast.Module) -> ast.FunctionDef:
    """The kernel that a text defines."""
    source = tree.body[-1]
    if not isinstance(source, ast.FunctionDef):
        raise Unknown("a text that does not end with its kernel")
    return source


def _begin(module: ir.Module, made: ir.Function, kinds: dict, **settings) -> Function:
    made.scope = Names(len(made.args))
    entry = ir.IRBuilder(made.append_basic_block())
    start = made.append_basic_block()
    return Function(module, ir.IRBuilder(start), entry, kinds, **settings)


def _end(function: Function) -> None:
    function.entry.branch(function.entry.function.blocks[1])


def _of_table(function: Callable) -> Callable:
    """A driver of the address of a table, and of integers, as a word of kernels."""

    def word(walk, table, *integers):
        address = walk.builder.ptrtoint(table.parts[0], I64)
        return word_of(function)(walk, Value("i8", (address,)), *integers)

    return word


LANGUAGES = {"nbhvp.targets.native.language": LANGUAGE}
"""The words of kernels by the module from which a text imports them."""


def _names(tree: ast.Module, languages: Mapping[str, Mapping]) -> dict:
    """What the names that a text imports stand for."""
    names = dict(KNOWN)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names.update(_imported(node.module, alias, languages))
    return names


def _imported(module: str | None, alias: ast.alias, languages: Mapping[str, Mapping]) -> dict:
    name = alias.asname or alias.name
    if module == "numba":
        kind = "b1" if alias.name == "boolean" else name
        return {name: as_dtype(kind)} if kind in TYPES or kind in PARTS else {}
    if module is not None and module in languages:
        words = languages[module]
        return {name: words[alias.name]} if alias.name in words else {}
    if module == scalars.__name__:
        return _scalars() if alias.name == "*" else {name: _scalars()[alias.name]}
    if module is None or not module.startswith("nbhvp."):
        return {}
    function = getattr(importlib.import_module(module), alias.name)
    is_driver = getattr(function, "gives", None) == "i8"
    return {name: _of_table(function)} if is_driver else {}


@functools.cache
def _scalars() -> dict[str, Callable]:
    return {name: word_of(getattr(scalars, name)) for name in scalars.__all__}


def lowered(source: str, name: str, target: tuple[str, str], has_masks: bool = False) -> str:
    """The LLVM text of the kernel that a source defines, under a name of its own.

    Raises
    ------
    Unknown
        Where the source says something that is not in the language.
    """
    tree = ast.parse(source)
    has_rare = has_rare_cases(source)
    return widened(
        lambda kinds: _kernel(empty_module(name, target), tree, kinds, has_rare, has_masks)
    )


def widened(make: Callable[[dict], str]) -> str:
    """A text that `make` gives, once the kinds of names on the stack are wide enough."""
    kinds: dict = {}
    while True:
        try:
            return make(kinds)
        except Widen as needed:
            assert kinds.get(needed.name) != needed.kind, "a name is widened once to a kind"
            kinds[needed.name] = needed.kind


def _kernel(
    module: ir.Module, tree: ast.Module, kinds: dict, has_rare: bool, has_masks: bool
) -> str:
    name = module.name
    made = ir.Function(module, ir.FunctionType(ir.VoidType(), KERNEL), name)
    if not has_rare:
        add_body(made, tree, kinds, has_masks=has_masks)
        return str(module)
    # All elements as if no argument were far away; if one was, all again, so that the loops of the
    # first time have no branch. What a kernel writes depends on nothing that it has written before.
    near = ir.Function(module, ir.FunctionType(I64, KERNEL), f"{name} near")
    far = ir.Function(module, ir.FunctionType(ir.VoidType(), KERNEL), f"{name} far")
    near.linkage = far.linkage = "internal"
    near.attributes.add("alwaysinline")
    set.update(far.attributes, ("noinline", "cold"))
    add_body(near, tree, kinds, tells=True, has_masks=has_masks)
    add_body(far, tree, kinds)
    builder = ir.IRBuilder(made.append_basic_block())
    was_rare = builder.icmp_signed("!=", builder.call(near, made.args), I64(0))
    with builder.if_then(was_rare):
        builder.call(far, made.args)
    builder.ret_void()
    return str(module)


KERNEL = [I64.as_pointer(), I64, I64]


def add_body(
    made: ir.Function, tree: ast.Module, kinds: dict, languages=LANGUAGES, tells=False, **settings
) -> None:
    """The statements of a kernel; if it `tells`, it gives whether an argument was rare.

    Its arguments are the table, and integers. The settings are those of a `Function`.
    """
    function, source = _begin(made.module, made, kinds, **settings), kernel_of(tree)
    function.written, function.called = written_slots(source), called_often(source)
    if tells:
        function.rare = function.entry.alloca(I64)
        function.entry.store(I64(0), function.rare)
    table, *integers = made.args
    values = [Value("table", (table,)), *(Value("i8", (one,)) for one in integers)]
    walk = Walk(function, _names(tree, languages), source, values)
    walk.statements(source.body)
    if tells:
        function.builder.ret(function.builder.load(function.rare))
    else:
        function.builder.ret_void()
    _end(function)


# Functions that Python calls.

_NOTHING = ast.FunctionDef("entry", ast.arguments([], [], None, [], [], None, []), [], [])


def lowered_entries(
    functions: ModuleType, arguments: Mapping[str, str], prefix: str, target: tuple[str, str]
) -> str:
    """The LLVM text of functions as the interpreter calls them, each under a prefix and its name.

    An argument is the address of an array ("a") or an integer ("i"). A function of one argument gives
    an integer; others may take long, and let go of the interpreter. A function of "objects" gets what
    the interpreter gives, and returns an object.
    """
    module = empty_module(prefix, target)
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
    if arguments == "objects":
        owned, given, count = made.args
        numbers = [builder.ptrtoint(owned, I64), builder.ptrtoint(given, I64), count]
        walk = Walk(begun, {}, _NOTHING, ())
        found = word_of(function)(walk, *(Value("i8", (one,)) for one in numbers)).parts[0]
        builder.ret(builder.inttoptr(found, BYTES))
        return
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
    result = word_of(function)(walk, *(Value("i8", (one,)) for one in numbers)).parts[0]
    if not is_long:
        builder.ret(python("PyLong_FromLongLong", BYTES, result))
        return
    python("PyEval_RestoreThread", ir.VoidType(), state)
    python("Py_IncRef", ir.VoidType(), made.args[0])
    builder.ret(made.args[0])


def _address_of(builder: ir.IRBuilder, array):
    word = builder.add(builder.ptrtoint(array, I64), I64(DATA))
    return builder.load(builder.inttoptr(word, I64.as_pointer()))


def _python(begun, name: str, returned, *arguments):
    """Call a function of Python's C API."""
    if name not in begun.module.globals:
        kind = ir.FunctionType(returned, [one.type for one in arguments])
        ir.Function(begun.module, kind, name)
    return begun.builder.call(begun.module.globals[name], arguments)
