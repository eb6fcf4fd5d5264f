"""Recordings of short runs: the Python source of a compiled function runs on numbers that record.

To compile a function for active numbers takes Numba longer than Python takes for some ten thousand
operations. So copies of the function and of those that it calls run as Python, with stand-ins for the
modules that they name, and with `Numbers` for the floats and integers among their constants and arguments.

Only what means the same in Python as compiled is run: real and complex numbers, arrays of floats or of
64-bit integers, tuples and lists, branches and loops, elementary functions. Whatever else the function has, any exception,
and a run of many steps leave it to the compiler, as if it had not been tried: arguments are copies.
"""

from __future__ import annotations

import builtins
import cmath
import dis
import functools
import math
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.table import lengths
from nbhvp.loops.overloads import compositions
from nbhvp.loops.overloads.complex_forms import (
    FORMS,
    general_power,
    integer_power,
    pair,
    power_of_float,
)
from nbhvp.loops.overloads.table import CODES, functions
from nbhvp.loops.recording.numbers import Numbers, Refused
from nbhvp.loops.recording.runs import Input, Output, Run, leaf_of, positions_in
from nbhvp.loops.recording.sources import is_library, python_function, sources_of

__all__ = ["interpreted"]

MOST = 50_000
"""Records of one run: these take Python a tenth of a second."""
MOST_BYTES = 17 * MOST
ALL_RUNS = 4 * MOST
"""Records of all runs of a function: after so many it is compiled."""

_recorded: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
"""By function, the records of its runs up to now."""


def interpreted(function: Callable, args: tuple, limit: int) -> Run | None:
    """One run, recorded; None where it has to be compiled."""
    if limit < MOST_BYTES or _recorded.get(function, 0) > ALL_RUNS:
        return None
    try:
        sources = sources_of(function)
        with np.errstate(divide="raise", over="raise", invalid="raise", under="ignore"):
            run, records = _run(function, args, sources.watches)
    except Exception:  # whatever it is, the compiled run tells
        _recorded[function] = ALL_RUNS + 1
        return None
    _recorded[function] = _recorded.get(function, 0) + records
    return run


def _run(function: Callable, args: tuple, watches: tuple) -> tuple[Run, int]:
    leaves: list[tuple[Any, Any]] = []
    _mapped(args, lambda arg: leaves.append((arg, leaf_of(arg))))
    inputs = [leaf.value for _, leaf in leaves if isinstance(leaf, Input)]
    if sum(value.size for value in inputs) > MOST:
        raise Refused
    numbers = Numbers(np.concatenate([np.empty(0), *inputs]), MOST)
    values = list(_passed(leaves, numbers))
    passed = iter(values)
    copy = _Copies(numbers).of(function)
    result = _output(copy(*_mapped(args, lambda _: next(passed))), numbers)
    written = tuple(_written(leaves, values, numbers))
    held = tuple(held for _, held in written if isinstance(held, Output))
    sizes = tuple(value.size for value in inputs)
    tape = numbers.tape(sizes, positions_in((result, *held)))
    return Run(tape, result, written, watches), numbers.records.count


def _mapped(args: tuple, function: Callable) -> tuple:
    """A function of each leaf of nested tuples, depth first."""
    if any(type(arg) is not tuple and isinstance(arg, tuple) for arg in args):
        raise Refused  # named tuples
    return tuple(_mapped(arg, function) if type(arg) is tuple else function(arg) for arg in args)


# Arguments and results.


def _passed(leaves: list[tuple[Any, Any]], numbers: Numbers) -> Iterator[Any]:
    """The arguments of the copy."""
    first = 1
    for arg, leaf in leaves:
        if isinstance(leaf, Input) and not leaf.is_complex:
            reals = [numbers.Real(x, k) for k, x in enumerate(leaf.value.tolist(), first)]
            first += len(reals)
            yield numbers.array(reals, leaf.shape) if np.ndim(arg) else reals[0]
        elif isinstance(leaf, np.ndarray) and leaf.dtype == np.int64:
            yield leaf.copy().view(numbers.Integers)
        elif leaf is None or isinstance(leaf, bool | str):
            yield leaf
        elif isinstance(leaf, int | np.int64):
            yield numbers.Whole(leaf)
        else:
            raise Refused


def _written(leaves: list, values: list, numbers: Numbers) -> Iterator[tuple[int, Any]]:
    """The arguments, by their place, that hold something else than they did before the run."""
    first = 1
    for k, ((arg, leaf), value) in enumerate(zip(leaves, values, strict=True)):
        if isinstance(leaf, Input):
            records = np.arange(first, first + leaf.value.size)
            first += records.size
            if np.ndim(arg):
                held = _output(value, numbers)
                if not np.array_equal(held.positions, records):
                    yield k, held
        elif isinstance(leaf, np.ndarray) and leaf.tobytes() != value.tobytes():
            yield k, np.array(value)


def _output(result, numbers: Numbers) -> Any:
    """Where the numbers of a result are on the tape."""
    if result is None:
        return None
    if isinstance(result, tuple | list):
        return tuple(_output(item, numbers) for item in result)
    if result.__class__ is numbers.Complex:
        parts = [numbers.position(x) for x in (result.real, result.imag)]
        return Output(np.array(parts, np.int64), (), is_complex=True)
    found = np.asarray(result)
    positions = [numbers.position(x) for x in found.ravel().tolist()]
    return Output(np.array(positions, np.int64), np.shape(found))


# Copies of functions.

_INSTRUCTIONS = """
BINARY_OP BINARY_SLICE BINARY_SUBSCR BUILD_LIST BUILD_SLICE BUILD_TUPLE CACHE CALL CALL_KW
COMPARE_OP COPY COPY_FREE_VARS END_FOR EXTENDED_ARG FOR_ITER GET_ITER IS_OP JUMP_BACKWARD
JUMP_FORWARD JUMP_IF_FALSE_OR_POP JUMP_IF_TRUE_OR_POP KW_NAMES LIST_EXTEND LOAD_ASSERTION_ERROR
LOAD_ATTR LOAD_COMMON_CONSTANT LOAD_CONST LOAD_DEREF LOAD_FAST LOAD_FAST_BORROW
LOAD_FAST_BORROW_LOAD_FAST_BORROW LOAD_FAST_CHECK LOAD_FAST_LOAD_FAST LOAD_GLOBAL LOAD_METHOD
LOAD_SMALL_INT NOP NOT_TAKEN POP_ITER POP_JUMP_BACKWARD_IF_FALSE POP_JUMP_BACKWARD_IF_NONE
POP_JUMP_BACKWARD_IF_NOT_NONE POP_JUMP_BACKWARD_IF_TRUE POP_JUMP_FORWARD_IF_FALSE
POP_JUMP_FORWARD_IF_NONE POP_JUMP_FORWARD_IF_NOT_NONE POP_JUMP_FORWARD_IF_TRUE POP_JUMP_IF_FALSE
POP_JUMP_IF_NONE POP_JUMP_IF_NOT_NONE POP_JUMP_IF_TRUE POP_TOP PRECALL PUSH_NULL RAISE_VARARGS
RESUME RETURN_CONST RETURN_VALUE STORE_FAST STORE_FAST_LOAD_FAST STORE_FAST_STORE_FAST STORE_SLICE
STORE_SUBSCR SWAP TO_BOOL UNARY_INVERT UNARY_NEGATIVE UNARY_NOT UNARY_POSITIVE UNPACK_SEQUENCE
"""
_OPERATIONS = frozenset(_INSTRUCTIONS.split())
"""The instructions that a copy may have, in all versions of Python."""

_ATTRIBUTES = frozenset(
    [
        "T",
        "append",
        "conjugate",
        "copy",
        "flat",
        "imag",
        "ndim",
        "ravel",
        "real",
        "reshape",
        "shape",
    ]
    + ["size"]
)
"""Those of arrays and lists that a copy may ask for."""

_FORMS = {function.__name__: form for function, form in compositions.REDUCTIONS.items()}
_FORMS |= {"cross": compositions.cross, "dot": compositions.inner}
"""By the names of NumPy's functions: those of arrays that have one form for all."""

_OPTIONS = frozenset(
    ["boundscheck", "error_model", "fastmath", "inline", "no_cpython_wrapper", "nogil", "nopython"]
    + ["parallel"]
)
"""Options of compiled functions that a copy can do without."""


class _Copies:
    """The copies of a function and of those that it names, for the numbers of one run."""

    def __init__(self, numbers: Numbers):
        self._numbers, self._made = numbers, {}
        self._modules = {math: _math(numbers), np: _numpy(numbers)}
        for name, form in _FORMS.items():
            of_arrays = functools.partial(self._form, form)
            setattr(self._modules[np], name, of_arrays)
            setattr(numbers.Array, name, functools.partialmethod(of_arrays))
        numbers.Array.__matmul__ = lambda a, b: self._form(compositions.inner, a, b)
        self._modules[cmath] = SimpleNamespace()
        self._define_complex()
        self._names = {name for scope in self._modules.values() for name in vars(scope)}
        self._builtins = _builtins(numbers) | {"complex": self._complex}

    def _define_complex(self) -> None:
        """Operations and functions of complex numbers, by their forms."""
        for form in FORMS:
            for function in form.functions:
                place = getattr(function, "__module__", "")
                name = function.__name__
                if place == "_operator" or function in (abs, bool):
                    self._define_operator(name.rstrip("_"), form.texts)
                    continue
                scope = self._modules[cmath if place == "cmath" else np]
                known = None if form.takes_real else getattr(scope, name, None)
                setattr(scope, name, self._chosen(form.texts, known))
        for name, function in vars(np).items():
            if isinstance(function, np.ufunc) and hasattr(self._modules[np], function.__name__):
                setattr(self._modules[np], name, getattr(self._modules[np], function.__name__))
        kind = self._numbers.Complex
        kind.__pow__ = lambda x, y: self._power(x, y)
        kind.__rpow__ = lambda x, y: self._power(y, x)
        kind.conjugate = lambda x: self._modules[np].conjugate(x)

    def _define_operator(self, name: str, texts: dict[str, Callable]) -> None:
        kind = self._numbers.Complex
        operate = self._chosen(texts, None, otherwise=NotImplemented)
        setattr(kind, f"__{name}__", operate)
        if len(next(iter(texts))) == 2 and name not in ("eq", "ne"):
            setattr(kind, f"__r{name}__", lambda x, y: operate(y, x))

    def _chosen(
        self, texts: dict[str, Callable], known: Callable | None, otherwise=None
    ) -> Callable:
        """A function of numbers, by which of them are complex; `known` is that of real ones."""

        def chosen(*args):
            letters = "".join(map(self._letter, args))
            if "C" not in letters and known is not None:
                return known(*args)
            if letters not in texts:
                return otherwise if otherwise is not None else _refuse()
            return self.of(texts[letters])(*args)

        return chosen

    def _letter(self, x) -> str:
        if x.__class__ is self._numbers.Complex:
            return "C"
        return "?" if self._numbers.real(x) is None else "R"

    def _power(self, x, y):
        if self._letter(y) == "C":
            return self.of(general_power)(x if self._letter(x) == "C" else self._pair(x, 0.0), y)
        if isinstance(y, int):
            return self.of(integer_power)(x, y)
        return self.of(power_of_float)(x, y) if self._letter(y) == "R" else NotImplemented

    def _complex(self, real=0.0, imag=0.0):
        return real if self._letter(real) == "C" and imag == 0.0 else self._pair(real, imag)

    def _pair(self, real, imag):
        parts = self._numbers.real(real), self._numbers.real(imag)
        return _refuse() if any(x is None for x in parts) else self._numbers.Complex(*parts)

    def of(self, function) -> Callable:
        """The copy of a function, compiled or plain."""
        if id(function) not in self._made:
            self._made[id(function)] = None
            self._made[id(function)] = self._copied(function)
        copy = self._made[id(function)]
        if copy is None:  # it calls itself
            raise Refused
        return copy

    def _form(self, form: Callable, *arrays):
        """A function of an array, or of two vectors, by its own text."""
        most = 1 if len(arrays) > 1 else 64
        if not all(isinstance(x, np.ndarray) and 0 < x.ndim <= most for x in arrays):
            raise Refused
        return self.of(form)(*arrays)

    def _copied(self, function) -> Callable:
        if function is pair:
            return self._pair
        if function is compositions.root:
            return functools.partial(self._numbers.applied, CODES[lengths.root], math.sqrt)
        source = python_function(function)
        options = getattr(function, "targetoptions", {})
        is_ours = function.__module__ in (compositions.__name__, pair.__module__)
        if source is None or (is_library(source) and not is_ours):
            raise Refused
        if not options.keys() <= _OPTIONS:
            raise Refused
        code = source.__code__
        self._test(code)
        scope = {"__builtins__": self._builtins}
        for name in code.co_names:
            if name in source.__globals__:
                scope[name] = self._standin(source.__globals__[name])
        cells = [types.CellType(self._standin(c.cell_contents)) for c in source.__closure__ or ()]
        code = code.replace(co_consts=tuple(map(self._constant, code.co_consts)))
        defaults = source.__defaults__ and tuple(map(self._standin, source.__defaults__))
        return types.FunctionType(code, scope, source.__name__, defaults, tuple(cells))

    def _test(self, code: types.CodeType) -> None:
        """Whether the instructions, and the attributes that they ask for, mean the same in Python."""
        if code.co_exceptiontable or code.co_kwonlyargcount or code.co_flags & _VARIADIC:
            raise Refused
        for step in dis.get_instructions(code):
            is_attribute = step.opname in ("LOAD_ATTR", "LOAD_METHOD")
            if step.opname not in _OPERATIONS or (
                is_attribute and step.argval not in _ATTRIBUTES | self._names
            ):
                raise Refused

    def _constant(self, value):
        """A constant of the code: numbers record."""
        numbers = self._numbers
        if isinstance(value, tuple):
            return tuple(map(self._constant, value))
        if type(value) is float:
            return numbers.Real(value)
        if type(value) is complex:
            return self._pair(value.real, value.imag)
        if type(value) is int:
            return numbers.Whole(value)
        if value is None or isinstance(value, bool | str):
            return value
        raise Refused

    def _standin(self, value):
        """What a name stands for; what it cannot be is refused where it is used."""
        if isinstance(value, types.ModuleType):
            return self._modules.get(value) or _module(value, self._numbers)
        if getattr(value, "__name__", "") == "prange" and value.__module__.startswith("numba."):
            return self._builtins["range"]
        if python_function(value) is not None:
            return self.of(value)
        if isinstance(value, np.ndarray):
            array = self._numbers.numbers_of(value)
            array.flags.writeable = False
            return array
        known = self._builtins.get(getattr(value, "__name__", ""))
        if known is not None and getattr(builtins, value.__name__) is value:
            return known
        if value is getattr(math, getattr(value, "__name__", ""), self):
            return getattr(self._modules[math], value.__name__)
        if value is getattr(np, getattr(value, "__name__", ""), self):
            return getattr(self._modules[np], value.__name__)
        if value is getattr(cmath, getattr(value, "__name__", ""), self):
            return getattr(self._modules[cmath], value.__name__)
        return self._constant(value)


_VARIADIC = 0x04 | 0x08
"""Flags of code with * or ** among its parameters."""


# Stand-ins.


def _loop(numbers: Numbers) -> Callable:
    loops: dict[tuple, int] = {}

    def steps(loop, args):
        try:
            for k in range(*args):
                numbers.spend()
                numbers.mark(loop)
                yield numbers.Whole(k)
        finally:
            numbers.mark(loop, is_end=True)

    def begun(*args):
        frame = sys._getframe(1)
        return steps(loops.setdefault((frame.f_code, frame.f_lasti), len(loops)), args)

    return begun


def _builtins(numbers: Numbers) -> dict[str, Any]:
    whole, real = numbers.Whole, numbers.Real

    def enumerated(items):
        for k, item in enumerate(items):
            yield whole(k), item

    def integer(x):
        if x.__class__ is real:
            return numbers.applied(CODES[p.trunc], math.trunc, x)
        return whole(int(x))

    def floating(x):
        return numbers.real(x) if isinstance(x, int | real) else _refuse()

    return {
        "abs": abs,
        "bool": bool,
        "enumerate": enumerated,
        "float": floating,
        "int": integer,
        "len": lambda items: whole(len(items)),
        "max": _extremum(numbers, max, np.maximum),
        "min": _extremum(numbers, min, np.minimum),
        "range": _loop(numbers),
        "zip": zip,
    }


def _extremum(numbers: Numbers, plain: Callable, ufunc: np.ufunc) -> Callable:
    """max or min of several numbers."""
    code = CODES[p.primitive_of(ufunc)]

    def extremum(*args):
        if len(args) < 2 or not all(isinstance(x, int | numbers.Real) for x in args):
            raise Refused
        if not any(x.__class__ is numbers.Real for x in args):
            return plain(*args)
        return functools.reduce(functools.partial(numbers.applied, code, ufunc), args)

    return extremum


def _refuse(*_: Any):
    raise Refused


def _module(module: types.ModuleType, numbers: Numbers) -> SimpleNamespace:
    """Numba has one function that loops are written with."""
    return SimpleNamespace(prange=_loop(numbers)) if module.__name__ == "numba" else _refuse()


def _constants_of(module, names: str, numbers: Numbers) -> dict[str, Any]:
    return {name: numbers.Real(getattr(module, name)) for name in names.split()}


def _math(numbers: Numbers) -> SimpleNamespace:
    found = {
        function.__name__: functools.partial(numbers.applied, CODES[entry], function)
        for function, entry in functions().items()
        if getattr(function, "__module__", None) == "math"
    }
    return SimpleNamespace(**_constants_of(math, "pi e inf nan tau", numbers), **found)


def _numpy(numbers: Numbers) -> SimpleNamespace:
    known = functions()
    compute = {entry: f for f, entry in known.items() if getattr(f, "__module__", None) == "math"}
    found = {}
    for function, entry in known.items():
        if isinstance(function, np.ufunc) and getattr(np, function.__name__, None) is function:
            found[function.__name__] = functools.partial(
                numbers.elementwise, CODES[entry], _of_floats(compute.get(entry), function)
            )
    return SimpleNamespace(**_constants_of(np, "pi e inf nan", numbers), **found, **_made(numbers))


def _of_floats(function: Callable | None, ufunc: np.ufunc) -> Callable:
    """What computes a function of floats, as compiled code does: by the library of C, if that has it."""
    return ufunc if function in (None, math.floor, math.ceil, math.trunc) else function


def _made(numbers: Numbers) -> dict[str, Any]:
    """What makes arrays."""

    def filled(value):
        def make(shape, dtype=np.float64):
            if dtype is np.int64 or dtype is int:
                return np.full(shape, value, np.int64).view(numbers.Integers)
            if dtype is not np.float64 and dtype is not float:
                raise Refused
            return numbers.array(numbers.Real(float(value)), shape)

        return make

    def like(make):
        return lambda a: make(np.shape(a), np.int64 if a.dtype == np.int64 else np.float64)

    def array(items):
        found = np.array(items, dtype=object)
        if not all(isinstance(x, int | numbers.Real) for x in found.flat):
            raise Refused
        if any(x.__class__ is numbers.Real for x in found.flat):
            return found.view(numbers.Array)
        return found.astype(np.int64).view(numbers.Integers)

    zeros, ones = filled(0), filled(1)
    return {
        "array": array,
        "empty": zeros,
        "empty_like": like(zeros),
        "float64": np.float64,
        "int64": np.int64,
        "ones": ones,
        "ones_like": like(ones),
        "zeros": zeros,
        "zeros_like": like(zeros),
    }
