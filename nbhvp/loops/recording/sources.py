"""The inputs of compiled code beside its arguments: source code, globals, closure cells, options.

Numba compiles their values into machine code. So a recording is valid as long as they are unchanged,
which `Sources.watches` test. Machine code on the disk is valid for equal contents in any process:
`Sources.digest` is a hash of the contents, or None if some object has no content that can be compared
across processes.
"""

from __future__ import annotations

import hashlib
import types as python
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher
from numba.np.ufunc.dufunc import DUFunc

from nbhvp.trace.surroundings.closure import (
    CellWatch,
    FunctionWatch,
    ItemWatch,
    contents,
    watch_array,
)
from nbhvp.trace.surroundings.ownership import module_of
from nbhvp.trace.surroundings.walk import names_in

_PLAIN = (bool, int, float, complex, str, bytes, np.generic)

__all__ = ["Sources", "is_library", "python_function", "sources_of"]


def python_function(function) -> python.FunctionType | None:
    """The Python function behind a compiled one; itself for a plain one; None for others."""
    if isinstance(function, DUFunc):
        return function._dispatcher.py_func
    if isinstance(function, Dispatcher):
        return function.py_func
    return function if isinstance(function, python.FunctionType) else None


@dataclass(frozen=True)
class Sources:
    """What a function and all that it calls were seen to depend on."""

    watches: tuple[Any, ...]
    digest: str | None


def sources_of(function) -> Sources:
    """Look at a function and, recursively, at the functions that it names."""
    looking = _Looking()
    looking.at(function)
    digest = looking.hash.hexdigest() if looking.is_comparable else None
    return Sources(tuple(looking.watches), digest)


class _Looking:
    def __init__(self):
        self.watches: list[Any] = []
        self.hash = hashlib.sha256()
        self.is_comparable = True
        self._seen: dict[int, object] = {}

    def at(self, value) -> None:
        """Look at one object that a function names."""
        if python_function(value) is not None or isinstance(value, np.ndarray):
            if id(value) in self._seen:
                self._add("seen", list(self._seen).index(id(value)))
                return
            self._seen[id(value)] = value
        if python_function(value) is not None:
            self._function(value)
        elif isinstance(value, tuple):
            self._add("tuple", len(value))
            for item in value:
                self.at(item)
        elif isinstance(value, np.ndarray):
            self.watches.append(watch_array(value))
            self._add(value.dtype.str, value.shape, value.strides, value.tobytes())
        elif value is None or isinstance(value, _PLAIN):
            self._add(type(value).__name__, repr(value))
        elif isinstance(value, python.ModuleType) or is_library(value):
            self._add(getattr(value, "__module__", ""), getattr(value, "__name__", repr(value)))
        else:
            self.is_comparable = False

    def _add(self, *parts) -> None:
        for part in parts:
            content = part if isinstance(part, bytes) else str(part).encode()
            self.hash.update(len(content).to_bytes(8, "little") + content)

    def _function(self, value) -> None:
        function = python_function(value)
        self._add("function", function.__qualname__)
        self._add(sorted((k, repr(v)) for k, v in getattr(value, "targetoptions", {}).items()))
        self._code(function.__code__)
        self.watches.append(FunctionWatch(function))
        self.at(function.__defaults__)
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            self._add(name)
            self.watches.append(CellWatch(cell, contents(cell)))
            self.at(contents(cell))
        names = sorted(set(names_in(function.__code__)))
        for name in names:
            if name in function.__globals__:
                self._add(name)
                self._item(function.__globals__, name, names)

    def _named(self, value, names) -> None:
        """A global; of a module of the user's, what the function may take from it."""
        self.at(value)
        if isinstance(value, python.ModuleType) and not is_library(value):
            for name in names:
                if name in vars(value):
                    self._add(name)
                    self._item(vars(value), name, names)

    def _item(self, mapping: dict, name: str, names) -> None:
        self.watches.append(ItemWatch(mapping, name, mapping[name]))
        self._named(mapping[name], names)

    def _code(self, code: python.CodeType) -> None:
        """Instructions, names, constants and lines, which stand in errors."""
        self._add(code.co_code, code.co_names, code.co_varnames, code.co_freevars)
        self._add(code.co_filename, code.co_firstlineno)
        for constant in code.co_consts:
            if isinstance(constant, python.CodeType):
                self._code(constant)
            else:
                self._add(type(constant).__name__, repr(constant))


def is_library(value) -> bool:
    """Whether it belongs to what is compiled as it is: its version is part of every digest."""
    if isinstance(value, python.ModuleType):
        package = value.__name__.partition(".")[0]
    else:
        package = (module_of(value) or str(type(value).__module__)).partition(".")[0]
    return package in ("builtins", "cmath", "math", "numba", "numpy", "operator")
