"""Recording a loop over scalars: a compiled function runs once on active numbers.

The function's float arguments become the inputs of a tape, then it runs, compiled for active numbers
(`loops_active`), and every operation on them appends its record. The columns of the tape are memory of
C's allocator, which grows while the function runs: no run is ever repeated. Past the limit nothing is
recorded any more; the function runs to its end, and then the recording fails as a whole.
"""

from __future__ import annotations

import collections
import ctypes
import inspect
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import overload, register_jitable

from nbhvp.graph.tape import INPUT, Guards, Tape
from nbhvp.trace.loops_active import (
    GUARDS,
    PRIMITIVES,
    WORDS,
    active,
    as_active,
    position,
)
from nbhvp.trace.loops_compile import Twins
from nbhvp.trace.loops_errors import explained
from nbhvp.trace.loops_sources import Sources, python_function, sources_of
from nbhvp.trace.recording import trace_error
from nbhvp.trace.standins import Closure, Watch

__all__ = ["DEFAULT_LIMIT", "Output", "Run", "record_tape"]

DEFAULT_LIMIT = 4 * 2**30
"""Bytes that a tape may take."""


@dataclass(frozen=True, eq=False)
class Output:
    """A number or an array that the function returned: where its elements are on the tape."""

    positions: np.ndarray
    """int64, in C order."""
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Run:
    """What one run of a function recorded."""

    tape: Tape
    result: Output | tuple
    """As the function returned it: an Output, or a tuple of such for a tuple or a list."""
    sources: tuple[Watch, ...]
    """What the code was compiled from: the tape is good as long as it reads the same."""


def record_tape(
    function: Callable,
    args: tuple,
    kwargs: dict | None = None,
    *,
    limit: int = DEFAULT_LIMIT,
) -> Run:
    """Run `function(*args, **kwargs)` once and record what it computes.

    Parameters
    ----------
    function : callable
        A function compiled by numba, or a plain Python function that numba can compile.
    args, kwargs
        Arrays and numbers, None, strings, and tuples of these. Every float and every array of floats
        is an input of the tape, in order, tuples depth first; integers and booleans are what they
        are. None is modified.
    limit : int
        The bytes that the tape may take.

    Raises
    ------
    TraceError
        If the function does what cannot be recorded; the message names its line.
    MemoryError
        If the tape would take more than `limit`, or there is no more memory.
    """
    recorder = _recorder(function)
    leaves, text = _flatten(_bind(function, args, kwargs or {}))
    inputs = [leaf for leaf in leaves if isinstance(leaf, _Input)]
    memory = _Memory(limit)
    try:
        numbers = memory.enter(inputs)
        passed = iter(np.split(numbers, np.cumsum([leaf.value.size for leaf in inputs])))
        values = [
            next(passed).reshape(*leaf.shape, 3) if isinstance(leaf, _Input) else leaf
            for leaf in leaves
        ]
        result = recorder.run(text, memory.address, values)
        memory.check()
        result = _outputs(result)
        tape = memory.tape(tuple(leaf.value.size for leaf in inputs), _positions(result))
    finally:
        memory.free()
    return Run(tape, result, recorder.sources.watches)


# Arguments.


@dataclass(frozen=True, eq=False)
class _Input:
    """An argument that is an input: its values in a row, and the shape that the function sees."""

    value: np.ndarray
    shape: tuple[int, ...]


def _bind(function, args, kwargs) -> tuple:
    """All arguments by position, as numba has them."""
    if not kwargs:
        return args
    bound = inspect.signature(python_function(function)).bind(*args, **kwargs)
    if bound.kwargs:
        raise TypeError(f"keyword-only arguments {sorted(bound.kwargs)} are not known to numba")
    return bound.args


def _flatten(args: tuple) -> tuple[list, str]:
    """The leaves of nested tuples, and the text of the arguments in terms of a0, a1, ..."""
    leaves: list = []

    def text(arg) -> str:
        if type(arg) is tuple:
            return "(" + "".join(text(item) + ", " for item in arg) + ")"
        leaves.append(_leaf(arg))
        name = f"a{len(leaves) - 1}"
        if not isinstance(leaves[-1], _Input):
            return name
        return f"as_active({name})" + ("[0]" if np.ndim(arg) == 0 else "")

    return leaves, ", ".join([text(arg) for arg in args])


def _leaf(arg):
    """An argument as it is passed on: a copy of an array, since the function may write to it."""
    if arg is None or isinstance(arg, bool | int | str | np.integer | np.bool_):
        return arg
    if isinstance(arg, np.ndarray) and arg.dtype.kind in "iub":
        return np.array(arg, order="C")
    if isinstance(arg, float | np.ndarray | np.generic):
        value = np.asarray(arg)
        if value.dtype in (np.float32, np.float64):
            shape = np.shape(arg) or (1,)
            return _Input(value.astype(np.float64).ravel(), shape)
        raise TypeError(f"{value.dtype} numbers cannot be recorded: pass float64")
    raise TypeError(
        f"an argument of type {type(arg).__name__} cannot be recorded: pass arrays, numbers, or "
        "tuples of them"
    )


# The memory of a tape.

_FIRST_ROWS = 1 << 14
_ROW = (np.uint8, np.uint32, np.uint32, np.float64)
_ROW_BYTES = sum(np.dtype(kind).itemsize for kind in _ROW)
_MOST_ROWS = 2**32 - 1

_realloc = ctypes.pythonapi.PyMem_RawRealloc
_realloc.restype, _realloc.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_size_t)
_free = ctypes.pythonapi.PyMem_RawFree
_free.restype, _free.argtypes = None, (ctypes.c_void_p,)


class _Owner:
    """Memory of C's allocator, freed with the last array that shows it."""

    def __init__(self, address: int, count: int, kind):
        self._address = address
        self.__array_interface__ = {
            "data": (address, True),
            "shape": (count,),
            "typestr": np.dtype(kind).str,
            "version": 3,
        }

    def __del__(self, free=_free):
        free(self._address)


class _Memory:
    """The tape of one run while it is written, as `loops_active` lays it out."""

    def __init__(self, limit: int):
        self._limit = limit
        self._is_lost = False
        self._words = np.zeros(WORDS, np.int64)
        self._blocks = self._words[:GUARDS], self._words[GUARDS : 2 * GUARDS]
        # The callback lives as long as the words that hold its address.
        self._callback = ctypes.CFUNCTYPE(None, ctypes.c_int64)(self._grow)
        for block in self._blocks:
            block[6] = ctypes.cast(self._callback, ctypes.c_void_p).value
        self.address = self._words.ctypes.data

    def _grow(self, address: int) -> None:
        """Make room in the block at an address; called by compiled code. Nothing here may raise."""
        block = self._blocks[address != self.address]
        self._reserve(block, max(_FIRST_ROWS, 2 * int(block[1])))

    def _reserve(self, block, rows: int) -> None:
        others = sum(int(b[1]) for b in self._blocks) - int(block[1])
        rows = min(rows, _MOST_ROWS, self._limit // _ROW_BYTES - others)
        if rows > block[1] and all(self._resize(block, k, rows) for k in range(len(_ROW))):
            block[1] = rows
        else:
            self._is_lost = True
            block[6] = 0

    def _resize(self, block, column: int, rows: int) -> bool:
        size = max(rows, 1) * np.dtype(_ROW[column]).itemsize
        address = _realloc(int(block[2 + column]) or None, size)
        if address is not None:
            block[2 + column] = address
        return address is not None

    def enter(self, inputs: list[_Input]) -> np.ndarray:
        """Write the constant 0 and the inputs; return the inputs as active numbers in memory."""
        values = np.concatenate([[0.0], *(leaf.value for leaf in inputs)])
        records = self._blocks[0]
        self._reserve(records, values.size + _FIRST_ROWS)
        self.check()
        for column, content in enumerate((INPUT, 0, 0, values)):
            self._column(records, column)[: values.size] = content
        self._column(records, 0)[0] = 0
        records[0] = values.size
        numbers = np.empty((values.size - 1, 3))
        numbers[:, 0] = values[1:]
        numbers.view(np.int64)[:, 1] = np.arange(1, values.size)
        numbers.view(np.int64)[:, 2] = self.address
        return numbers

    def check(self) -> None:
        """Raise MemoryError if a record was lost."""
        if self._is_lost:
            count = int(self._blocks[0][0])
            raise MemoryError(
                f"the tape of the recorded function would exceed {self._limit:,} bytes after "
                f"{count:,} operations; give a higher limit, or a smaller problem"
            )

    def _column(self, block, column: int) -> np.ndarray:
        kind = np.dtype(_ROW[column])
        buffer = (ctypes.c_char * (int(block[1]) * kind.itemsize)).from_address(
            int(block[2 + column])
        )
        return np.frombuffer(buffer, kind)

    def _take(self, block) -> list[np.ndarray]:
        """The columns of a block, which own their memory from now on."""
        count, columns = int(block[0]), []
        for k, kind in enumerate(_ROW):
            if not self._resize(block, k, count):
                raise MemoryError("the tape cannot be cut to its length")
            columns.append(np.asarray(_Owner(int(block[2 + k]), count, kind)))
            block[2 + k] = 0
        return columns

    def tape(self, sizes: tuple[int, ...], outputs: np.ndarray) -> Tape:
        records, guards = map(self._take, self._blocks)
        return Tape(PRIMITIVES, *records, sizes, outputs, Guards(*guards))

    def free(self) -> None:
        """Give back what no tape has taken."""
        for block in self._blocks:
            for k in range(len(_ROW)):
                _free(int(block[2 + k]) or None)
                block[2 + k] = 0


# Running.


class _Recorder:
    """A function compiled for recording, with the sources that it was compiled from."""

    def __init__(self, function):
        self.sources: Sources = sources_of(function)
        self._twin = Twins().function(function)
        self._entries: dict[str, Callable] = {}

    def run(self, text: str, address: int, values: list):
        """Call the function with arguments written as `text` in terms of values."""
        if text not in self._entries:
            self._entries[text] = self._entry(text, len(values))
        with explained():
            return self._entries[text](address, *values)

    def _entry(self, text: str, count: int):
        names = "".join(f", a{k}" for k in range(count))
        source = f"def entry(tape{names}):\n    return positions(tape, function({text}))\n"
        namespace = {"as_active": as_active, "function": self._twin, "positions": positions}
        exec(compile(source, "<nbhvp recorder>", "exec"), namespace)
        return njit(nogil=True)(namespace["entry"])


_recorders: collections.OrderedDict[int, tuple[Callable, _Recorder]] = collections.OrderedDict()
_KEPT = 64
_lock = threading.Lock()


def _recorder(function) -> _Recorder:
    """The recorder of a function: a new one if what it was compiled from has changed."""
    if python_function(function) is None:
        raise TypeError(f"{function!r} is neither a Python function nor compiled by numba")
    with _lock:
        known = _recorders.get(id(function))
        if known is None or Closure(known[1].sources.watches).changed():
            known = _recorders[id(function)] = function, _Recorder(function)
        _recorders.move_to_end(id(function))
        while len(_recorders) > _KEPT:
            _recorders.popitem(last=False)
    return known[1]


# Results.


def positions(tape, result):
    """The records of a result, in its own structure: (positions, None) for a list."""
    raise NotImplementedError("it runs compiled only")


@overload(positions)
def _choose_positions(tape, result):
    if isinstance(result, types.BaseTuple):
        if len(result) == 0:
            return lambda tape, result: ()
        return lambda tape, result: (positions(tape, result[0]), *positions(tape, result[1:]))
    if isinstance(result, types.List):
        return lambda tape, result: (_array_positions(tape, np.array(result)), None)
    if isinstance(result, types.Array):
        return lambda tape, result: _array_positions(tape, result)
    if result == active or isinstance(result, types.Number | types.Boolean):
        return lambda tape, result: position(tape, result)
    raise trace_error(
        f"the function returns {result}",
        "return a number, an array of numbers, or a tuple or list of these",
    )


@register_jitable
def _array_positions(tape, array):
    found = np.empty(array.shape, np.int64)
    for index, x in np.ndenumerate(array):
        found[index] = position(tape, x)
    return found


def _outputs(result) -> Output | tuple:
    if isinstance(result, tuple) and len(result) == 2 and result[1] is None:
        return tuple(Output(np.array([k]), ()) for k in result[0])
    if isinstance(result, tuple):
        return tuple(map(_outputs, result))
    found = np.asarray(result, np.int64)
    return Output(found.ravel(), found.shape)


def _positions(result) -> np.ndarray:
    if isinstance(result, Output):
        return result.positions
    return np.concatenate([np.empty(0, np.int64), *map(_positions, result)])
