"""The words that `direct` reads: the form of a call, and a program with its inputs and outputs.

A form says which arguments a trace takes, and what it has read elsewhere. Its methods make functions
for calls of this form, which give None wherever the general way has to look. Only programs that are one compiled call on one thread, with small outputs, are called directly,
and only what can be compared by identity and by bytes is compared.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import itertools
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nbhvp.plan.costs import CPU
from nbhvp.targets.cpu import run as cpu
from nbhvp.targets.cpu.entries import layouts
from nbhvp.targets.lowering import objects
from nbhvp.targets.native import cache, entries, machine

if TYPE_CHECKING:
    from nbhvp.targets.cpu.program import Program

__all__ = ["Array", "Form", "Number", "Same", "is_worthwhile"]

FEW, MANY = 2, 1000
"""Calls of one kind after which later ones are direct, as those of large functions may be few; and calls of
all kinds in a process after which code for that is compiled, if the disk has none, once on a machine."""
SHORT = CPU.wake / 6
"""Seconds of a program that keeps the interpreter, which others wait for as long as for a call."""

# --- what a form says -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Array:
    """An argument: an array in C order."""

    shape: tuple[int, ...]
    dtype: np.dtype
    is_compared: bool = True
    """Whether `Form.same` looks at its bytes."""


@dataclass(frozen=True)
class Number:
    """An argument: a float of Python or a double of NumPy."""

    kind: type


@dataclass(frozen=True)
class Same:
    """An argument: this object, or an equal integer or text."""

    value: Any


def _array(kind: int, shape: Sequence[int], dtype: np.dtype, size: int, place: int) -> list[int]:
    """The record of an array."""
    fields = [kind, 8 * (7 + len(shape)), id(np.ndarray), id(dtype), size, place, len(shape)]
    return [*fields, *shape]


def _argument(argument: Array | Number | Same) -> list[int]:
    match argument:
        case Array(shape, dtype, is_compared):
            size = int(np.prod(shape, dtype=int)) * dtype.itemsize if is_compared else 0
            return _array(layouts.ARRAY, shape, dtype, size, 0)
        case Number(kind):
            return [layouts.NUMBER, 40, id(kind), 0, 8]
        case Same(value):
            return [
                layouts.SAME,
                32,
                id(value),
                id(type(value)) if type(value) in (int, str) else 0,
            ]


def _watch(watch: tuple) -> list[int]:
    """A watch, from its name and the objects that it is about."""
    match watch:
        case ("content", array, content):
            place = cpu.address(content)
            record = _array(layouts.ARRAY, array.shape, array.dtype, array.nbytes, place)
            return [layouts.CONTENT, 8 * (3 + len(record)), id(array), *record]
        case ("function", function, code, *defaults):
            missing = (0 if one is None else id(one) for one in defaults)
            return [layouts.FUNCTION, 48, id(function), id(code), *missing]
        case ("size", mapping, size):
            return [layouts.SIZE, 32, id(mapping), size]
        case (name, *objects):
            return [_SIMPLE[name], 8 * (2 + len(objects)), *map(id, objects)]
    raise AssertionError(f"a watch has a name, not {watch!r}")


_SIMPLE = {
    "item": layouts.ITEM,
    "absent": layouts.ABSENT,
    "cell": layouts.CELL,
    "instance": layouts.INSTANCE,
    "order": layouts.ORDER,
}


class Form:
    """The arguments of a call, and what must be as it was elsewhere.

    Parameters
    ----------
    arguments : sequence of Array, Number or Same
    watches : sequence of tuple
        As `Closure.by_identity` gives them.
    """

    def __init__(self, arguments: Sequence[Array | Number | Same], watches: Sequence[tuple] = ()):
        records = [word for argument in arguments for word in _argument(argument)]
        start = layouts.FORM + 8 * len(records)
        header = [len(arguments), cpu.address(_system()), id(None), id(True), start]
        watched = [word for watch in watches for word in _watch(watch)]
        self.words = np.array([*header, *records, len(watches), *watched], np.int64)
        self._kept = tuple(arguments), tuple(watches)

    def accept(self) -> Callable[..., Any]:
        """``accept(*arguments)`` is True if the arguments have this form, and all watches hold."""
        return _binders()["accept"]((self.words, self._kept))

    def same(self) -> Callable[..., Any]:
        """``same(kept, *arguments)`` is True if the arguments are those in the tuple, bit by bit.

        Arrays that are not compared may differ.
        """
        return _binders()["same"]((self.words, self._kept))

    def evaluate(
        self,
        program: Program,
        guards: Sequence[bytes] = (),
        *,
        cold: int = 0,
        is_finite: bool = False,
        as_numbers: bool = False,
        as_tuple: bool = True,
    ) -> Callable[..., Any] | None:
        """``evaluate(kept, *arguments)`` gives the outputs of a program but its guards.

        Parameters
        ----------
        program : Program
        guards : sequence of bytes
            What the first outputs must be.
        cold : int
            So many inputs come first, as arrays in the tuple `kept`, which are not looked at.
        is_finite : bool
            Whether the first output after the guards, a number, must be finite.
        as_numbers : bool
            Whether outputs without axes are numbers, as NumPy's functions give them.
        as_tuple : bool
            Whether the result is a tuple; if not, there is one output.

        Returns
        -------
        callable
            None if the program is not one short compiled call.
        """
        workspace = program.alone()
        if workspace is None or (is_finite and program.graph.outputs[0].dtype != np.float64):
            return None
        expected = [np.frombuffer(one, np.uint8) for one in guards]
        outputs = zip(workspace.outputs, program.graph.outputs, strict=True)
        records = [
            _output(workspace, buffer, node.shape, as_numbers)
            for buffer, node in list(outputs)[len(guards) :]
        ]
        checks = [
            [layouts.EQUAL, 48, cpu.address(one), 0, one.nbytes, cpu.address(buffer)]
            for one, buffer in zip(expected, workspace.outputs, strict=False)
        ]
        if is_finite:
            checks.append([layouts.FINITE, 48, 0, 0, 8, cpu.address(workspace.outputs[0])])
        start = layouts.INPUTS // 8 + len(workspace.inputs)
        middle = start + 2 + sum(map(len, records))
        is_long = int(program.seconds >= SHORT)
        header = [0, is_long, cpu.address(workspace.words), cold, 8 * start, 8 * middle]
        words = [*header, *workspace.inputs, len(records), not as_tuple, *_joined(records)]
        program_words = np.array([*words, len(checks), *_joined(checks)], np.int64)
        kept = self._kept, program, workspace, expected
        return _binders()["evaluate"]((self.words, program_words, *kept))


def _joined(records: Sequence[Sequence[int]]) -> list[int]:
    return [word for record in records for word in record]


def _output(
    workspace: Any, buffer: np.ndarray | None, shape: tuple[int, ...], as_numbers: bool
) -> list[int]:
    """The record of an output: written to a new array, or copied from a buffer to one."""
    if buffer is None:
        return _array(layouts.FRESH, shape, workspace.dtype, 0, workspace.main)
    kind = layouts.SCALAR if as_numbers and shape == () else layouts.COPY
    return _array(kind, shape, buffer.dtype, buffer.nbytes, cpu.address(buffer))


# --- functions of Python's, NumPy's and C's -------------------------------------------------------

_PYTHON = (
    "PyDict_GetItem", "PyFunction_GetCode", "PyFunction_GetDefaults", "PyFunction_GetKwDefaults",
    "PyDict_Size", "PyDict_Keys", "PyObject_GenericGetDict", "Py_IncRef", "Py_DecRef", "PyTuple_New",
    "PyEval_SaveThread", "PyEval_RestoreThread", "PyObject_RichCompareBool",
)  # fmt: skip
_NUMPY = 184, 60
"""Where NumPy's table, which never changes, has PyArray_Empty and PyArray_Scalar."""


@functools.cache
def _system() -> np.ndarray:
    """The addresses of functions, in the order of `layouts`."""
    c = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    core = importlib.import_module("numpy._core._multiarray_umath")
    table = (ctypes.c_void_p * 512).from_address(machine.address_in(core._ARRAY_API))
    functions = [getattr(ctypes.pythonapi, name) for name in _PYTHON]
    addresses = [ctypes.cast(f, ctypes.c_void_p).value for f in (*functions, c.memcmp, c.memmove)]
    python, of_c = addresses[: len(functions)], addresses[len(functions) :]
    return np.array([*python, *(table[k] for k in _NUMPY), *of_c], np.int64)


_CODE = "nbhvp.targets.cpu.entries.direct", dict.fromkeys(("evaluate", "accept", "same"), "objects")


@functools.cache
def _binders() -> dict[str, Callable]:
    return entries.load_binders(*_CODE)


_calls = itertools.count(1)
"""Those that could have been direct, had the code been compiled."""


def is_worthwhile(calls: int) -> bool:
    """Whether calls of one kind are to be direct after so many."""
    return calls >= FEW and (_lies_ready() or next(_calls) >= MANY) and _are_known()


@functools.cache
def _lies_ready() -> bool:
    """Whether another process has compiled the functions that forms make."""
    return cache.has_entries(*_CODE)


@functools.cache
def _are_known() -> bool:
    """Whether objects lie in memory as `layouts` says: a build of Python of its own kind may differ."""
    array, number = np.empty((2, 3)), 0.5
    one, items, cell = (array,), [array], types.CellType(array)
    fields = [
        (id(array) + objects.TYPE, id(np.ndarray)),
        (id(array) + objects.DATA, array.ctypes.data),
        (id(array) + objects.DTYPE, id(array.dtype)),
        (_word(id(array) + objects.DIMENSIONS), 2),
        (id(one) + objects.ITEMS, id(array)),
        (_word(id(items) + objects.LIST), id(array)),
        (id(cell) + objects.OBJECT, id(array)),
        (id(number) + objects.OBJECT, int(np.float64(number).view(np.int64))),
    ]
    ndim, flags = (_word(id(array) + at) & objects.HALF for at in (objects.NDIM, objects.FLAGS))
    has_flags = ndim == 2 and flags & objects.PLAIN == objects.PLAIN
    return objects.ATTRIBUTES > 0 and has_flags and all(_word(at) == word for at, word in fields)


def _word(address: int) -> int:
    return ctypes.c_int64.from_address(address).value
