"""Calls of Python's own functions (`type`, `isinstance`, `float`, ...) with traced values.

`type(x)`, `hasattr(x, "strides")` and `isinstance(x, float)` answer for the array or number that a
traced value represents; `float(x)` and `complex(x)` return numbers that are still traced. Only calls
are redirected: in `float(x)` the name `float` is replaced by a name that exists only in the builtins
of a trace; `dtype=float`, `v is float` and `{float: ...}` keep it, so a type that is passed on stays
itself.

A comparison of numbers gives a traced boolean, which is not identical to `True`. In code that tests
`is True` or `is np.True_`, comparisons of numbers record guards and give plain booleans.
"""

from __future__ import annotations

import abc
import dis
import functools
import types
from collections.abc import Callable, Iterator

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.trace.arrays import Traced, apply, current, is_constant, lift, traced_in, weaken
from nbhvp.trace.surroundings.closure import Watch
from nbhvp.trace.surroundings.texts import note_reading

__all__ = ["BuiltinCalls", "asks_identity", "redirected"]


class BuiltinCalls:
    """The answers of one trace.

    Parameters
    ----------
    of : callable
        The stand-in of an object.
    original : callable
        The object that a stand-in stands for.
    """

    def __init__(self, of: Callable, original: Callable):
        self._of = of
        self._plain = original

    def names(self) -> dict[str, Callable]:
        """What the builtins of a trace know beside Python's own."""
        answers = {_redirected(name): getattr(self, f"_{name}") for name in _CALLED}
        return {"isinstance": self._isinstance, **answers}

    def _original(self, value):
        """What a value stands for; of a traced one, its concrete value."""
        return value.value if isinstance(value, Traced) else self._plain(value)

    def _type(self, *args, **kwargs):
        if len(args) != 1 or kwargs:
            return type(*args, **kwargs)
        return self._of(type(self._original(args[0])))

    def _isinstance(self, value, kinds) -> bool:
        value = self._original(value)
        kinds, originals = self._classes(kinds)
        return isinstance(value, kinds + originals) or issubclass(
            _original_class(type(value)), originals
        )

    def _issubclass(self, kind, kinds) -> bool:
        kind = self._plain(kind)
        kinds, originals = self._classes(kinds)
        return issubclass(kind, kinds + originals) or (
            isinstance(kind, type) and issubclass(_original_class(kind), originals)
        )

    def _classes(self, kinds) -> tuple[tuple, tuple]:
        kinds = tuple(self._plain(kind) for kind in _each(kinds))
        if any(issubclass(type(kind), abc.ABCMeta) for kind in kinds):
            # Classes may be registered with it.
            current().sources.append(Watch(abc.get_cache_token, abc.get_cache_token()))
        return kinds, tuple(map(_original_class, kinds))

    def _hasattr(self, value, name: str) -> bool:
        return hasattr(value.value if isinstance(value, Traced) else value, name)

    def _getattr(self, value, name: str, *default):
        if isinstance(value, Traced) and not hasattr(value.value, name):
            return getattr(value.value, name, *default)
        return getattr(value, name, *default)

    def _dir(self, *args) -> list[str]:
        return dir(*(x.value if isinstance(x, Traced) else x for x in args))

    def _callable(self, value) -> bool:
        return callable(value) and not isinstance(value, Traced)

    def _float(self, *args) -> float | Traced:
        if not any(isinstance(x, Traced) for x in args):
            note_reading(*args)
            return float(*args)
        plain = float(*map(self._original, args))  # with Python's own error
        (x,) = args
        return plain if is_constant(x) else _number(x, float)

    def _complex(self, *args, **kwargs) -> complex | Traced:
        if not any(True for _ in traced_in(args, kwargs)):
            note_reading(*args)
            return complex(*args, **kwargs)
        parts = (*args, *(kwargs[name] for name in ("real", "imag") if name in kwargs))
        plain = complex(*map(self._original, parts))
        if all(is_constant(x) for x in traced_in(parts)):
            return plain
        if len(parts) == 1:
            return _number(parts[0], complex)
        re, im = (_number(lift(x), complex) for x in parts)
        return weaken(lift(re + 1j * im))

    def _int(self, *args, **kwargs) -> int:
        note_reading(*args)
        return int(*args, **kwargs)

    def _map(self, function, *iterables, **options):
        called = {float: self._float, complex: self._complex, int: self._int, type: self._type}
        is_plain = function.__hash__ is None or function not in called
        return map(function if is_plain else called[function], *iterables, **options)


_CALLED = (
    "type", "issubclass", "hasattr", "getattr", "dir", "callable", "float", "complex", "int",
    "map",
)  # fmt: skip


def _number(x: Traced, kind: type) -> Traced:
    """A traced array of one element as a number of Python's."""
    return weaken(apply(p.cast, x.reshape(()), dtype=np.dtype(kind)))


def _each(kinds) -> Iterator:
    for kind in kinds if isinstance(kinds, tuple) else (kinds,):
        if isinstance(kind, tuple):
            yield from _each(kind)
        else:
            yield kind


def _original_class(kind):
    return vars(kind).get("__nbhvp_original__", kind) if isinstance(kind, type) else kind


# Calls in a code object.


def _redirected(name: str) -> str:
    """The name of a function where it is called: none that Python code could have."""
    return f"{name}()"


def redirected(code: types.CodeType, scope: dict) -> types.CodeType:
    """The code with other names for Python's own functions where they are called."""
    called = frozenset(name for name in _CALLED if name not in scope)
    return _redirected_code(code, code.co_filename, called)


@functools.lru_cache(1024)
def _redirected_code(code: types.CodeType, file: str, called: frozenset[str]) -> types.CodeType:
    consts = tuple(
        _redirected_code(part, file, called) if isinstance(part, types.CodeType) else part
        for part in code.co_consts
    )
    if called.isdisjoint(code.co_names):
        is_same = all(a is b for a, b in zip(consts, code.co_consts, strict=True))
        return code if is_same else code.replace(co_consts=consts)
    names, text = list(code.co_names), bytearray(code.co_code)
    for instruction in dis.get_instructions(code):
        # The low bit tells that the function is called at once.
        is_call = instruction.opname == "LOAD_GLOBAL" and instruction.arg & 1
        if is_call and instruction.argval in called:
            name = _redirected(instruction.argval)
            if name not in names:
                names.append(name)
            _patch(text, instruction.offset, instruction.arg, names.index(name) << 1 | 1)
    return code.replace(co_code=bytes(text), co_names=tuple(names), co_consts=consts)


def _patch(text: bytearray, offset: int, old: int, new: int) -> None:
    """Replace the argument of an instruction, where it has as many bytes for it."""
    if old > 0xFF and new <= 0xFFFF:
        text[offset - 1] = new >> 8
        text[offset + 1] = new & 0xFF
    elif max(old, new) <= 0xFF:
        text[offset + 1] = new


_IS, _LOAD = dis.opmap["IS_OP"], dis.opmap["LOAD_CONST"]


@functools.lru_cache(1024)
def asks_identity(code: types.CodeType) -> bool:
    """Whether code asks `is True`, `is False`, `is np.True_` or `is np.False_`."""
    text = code.co_code
    booleans = [k for k, part in enumerate(code.co_consts) if isinstance(part, bool)]
    is_asked = any(
        text[k] == _IS and text[k - 2] == _LOAD and text[k - 1] in booleans
        for k in range(2, len(text), 2)
    )
    return (
        is_asked
        or not {"True_", "False_"}.isdisjoint(code.co_names)
        or any(asks_identity(part) for part in code.co_consts if isinstance(part, types.CodeType))
    )
