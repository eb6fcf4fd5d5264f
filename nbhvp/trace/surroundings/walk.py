"""The walk through objects that decides which of them are watched, and how.

From an object it continues to all objects that this one refers to, and watches the references at each
step, so that a change at any depth is seen.

    kind of object               watched
    numbers, strings             nothing: they cannot change
    containers                   their items, by identity; then the items themselves
    Python objects               class and attributes, in __dict__ and in slots
    functions                    code, defaults, attributes, cells, and the globals that they name
    classes of the user's        attributes and bases
    arrays and buffers           shape, dtype and content, bit by bit
    other objects of C           their pickled state; refused, if they cannot be pickled

An object that cannot be watched, such as an iterator or an open file, is `Unwatchable`. Code of other
packages is taken to be constant.
"""

from __future__ import annotations

import array as buffers
import collections
import contextvars
import ctypes
import functools
import io
import logging
import pickle
import sys
import threading
import types
import weakref
from _thread import _local
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nbhvp.trace.surroundings.closure import (
    COMPLETE,
    ArrayWatch,
    CellWatch,
    ClassWatch,
    DictWatch,
    FunctionWatch,
    InstanceWatch,
    ItemWatch,
    Watch,
    contents,
    is_atom,
    is_atomic,
)
from nbhvp.trace.surroundings.ownership import home_of, module_of

__all__ = [
    "Unwatchable",
    "Walk",
    "attributes_of",
    "blank",
    "class_items",
    "dictionary_of",
    "holds_items_as_attributes",
    "is_of_c",
    "look_at",
    "names_in",
]

_MOST_OBJECTS = 20_000
"""Objects that one walk may watch."""
_SILENT = (
    logging.Filterer, logging.LoggerAdapter, logging.Manager, threading.Thread,
    type(threading.Lock()), type(threading.RLock()),
)  # fmt: skip
"""What a program keeps beside its numbers: attributes are watched, not what they hold."""
_GENERATORS = ("numpy.random", "random")


class Unwatchable(Exception):
    """An object whose state cannot be watched; the text says which."""


def names_in(code: types.CodeType) -> Iterator[str]:
    """The names that a function and the functions inside it may look up in their globals."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_in(constant)


def _attributes(value) -> tuple:
    """The names of the attributes of an object, in __dict__ and in slots, then what they are."""
    held = attributes_of(value)
    return (*held, *held.values())


def attributes_of(value) -> dict[str, Any]:
    """The attributes of an object, in __dict__ and in slots."""
    return {**dictionary_of(value), **_filled(value)}


def blank(kind: type, like):
    """An object of a class of the user's, without attributes and items; these are one if `like` has
    one dictionary for both.
    """
    made = dict.__new__(kind) if issubclass(kind, dict) else object.__new__(kind)
    if holds_items_as_attributes(like):
        object.__setattr__(made, "__dict__", made)
    return made


def holds_items_as_attributes(value) -> bool:
    """Whether the dictionary of an object's attributes is the object."""
    return dictionary_of(value) is value


def dictionary_of(value) -> dict:
    """The dictionary that has the attributes of an object, outside of its slots."""
    try:
        return object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}


def _filled(value) -> dict[str, Any]:
    """The slots of an object that hold something."""
    found = {}
    for name, slot in _members(type(value)):
        try:
            found[name] = slot.__get__(value)
        except AttributeError:
            continue
    return found


def _members(kind: type) -> list[tuple[str, types.MemberDescriptorType]]:
    return [
        item
        for base in kind.__mro__
        if "__slots__" in vars(base)
        for item in vars(base).items()
        if type(item[1]) is types.MemberDescriptorType
    ]


_OF_PYTHON = (
    "__dict__ __weakref__ __module__ __doc__ __qualname__ __slotnames__ __abstractmethods__ "
    "_abc_impl __annotations__ __annotate__ __annotations_cache__ __parameters__ __orig_bases__ "
    "__firstlineno__ __static_attributes__ __match_args__ __slots__ __nbhvp_original__"
)


_NAMES_OF_PYTHON = frozenset(_OF_PYTHON.split())


def class_items(kind: type) -> dict[str, Any]:
    """What a class defines, without what Python itself keeps there."""
    return {
        name: value
        for name, value in vars(kind).items()
        if name not in _NAMES_OF_PYTHON and not name.startswith("__dataclass")
    }


def _mapping_parts(value) -> tuple:
    return (*value.keys(), *value.values())


def _dict_parts(value: dict) -> tuple:
    return (*dict.keys(value), *dict.values(value))


def _ordered_parts(value: collections.OrderedDict) -> tuple:
    kind = collections.OrderedDict
    return (*kind.keys(value), *kind.values(value))


def _buffer_parts(value) -> tuple:
    view = memoryview(value)
    if view.nbytes > COMPLETE:
        raise Unwatchable(f"a buffer of {view.nbytes:,} bytes")
    return (view.nbytes, view.tobytes())


def _missing(value: collections.defaultdict) -> tuple:
    return (value.default_factory, *_dict_parts(value))


def _wrapped_parts(value) -> tuple:
    return (value.__wrapped__,)


_PARTS: dict[type, Callable[[Any], tuple]] = {
    object: lambda value: (),
    dict: _dict_parts,
    collections.OrderedDict: _ordered_parts,
    collections.defaultdict: _missing,
    types.MappingProxyType: _mapping_parts,
    type({}.keys()): tuple,
    type({}.values()): tuple,
    type({}.items()): lambda value: tuple(part for item in value for part in item),
    list: lambda value: tuple(list.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    set: lambda value: tuple(set.__iter__(value)),
    frozenset: lambda value: tuple(frozenset.__iter__(value)),
    collections.deque: lambda value: (value.maxlen, *collections.deque.__iter__(value)),
    bytearray: lambda value: (bytes(value),),
    memoryview: _buffer_parts,
    buffers.array: lambda value: (value.typecode, value.tobytes()),
    np.void: lambda value: (value.dtype, value.tobytes()),
    types.MethodType: lambda value: (value.__func__, value.__self__),
    types.BuiltinFunctionType: lambda value: (value.__self__,),
    types.MethodWrapperType: lambda value: (value.__self__,),
    functools.partial: lambda value: (value.func, value.args, value.keywords),
    staticmethod: _wrapped_parts,
    classmethod: _wrapped_parts,
    functools._lru_cache_wrapper: _wrapped_parts,
    property: lambda value: (value.fget, value.fset, value.fdel),
    types.CellType: lambda value: (contents(value),),
    types.SimpleNamespace: lambda value: (),
    contextvars.ContextVar: lambda value: (value.get(NotImplemented),),
    _local: lambda value: _dict_parts(value.__dict__),
    weakref.ref: lambda value: (value(),),
    weakref.ProxyType: lambda value: (value.__repr__.__self__,),
    weakref.CallableProxyType: lambda value: (value.__repr__.__self__,),
    super: lambda value: (value.__thisclass__, value.__self__),
    ctypes._SimpleCData: _buffer_parts,
    ctypes.Array: _buffer_parts,
    ctypes.Structure: _buffer_parts,
    ctypes.Union: _buffer_parts,
    BaseException: lambda value: (value.args,),
}
"""What an object of a type of C holds beside its attributes."""


# One step of a walk: the watches on one object, and what it holds.


def look_at(value) -> tuple[list, tuple]:
    """The watches on what an object holds, and that.

    Raises
    ------
    Unwatchable
        If it has content that cannot be compared.
    """
    if type(value) is tuple:
        return [], value
    if issubclass(type(value), types.FunctionType):
        return _look_at_function(value)
    if issubclass(type(value), type):
        held = class_items(value)
        parts = (type(value), *value.__bases__, *held.values())
        return [ClassWatch(value), DictWatch(vars(value), held)], parts
    if issubclass(type(value), _SILENT):
        return _read(_attributes, value)[0], ()
    if type(value) is dict and all(type(key) is str for key in value):
        return [DictWatch(value)], tuple(value.values())
    if issubclass(type(value), np.ndarray) and not value.dtype.hasobject:
        content = [ArrayWatch(np.asarray(value))], ()
    else:
        content = _read(_reader(value), value)
    own = _look_at_attributes(value)
    return content[0] + own[0], content[1] + own[1]


def _look_at_function(function: types.FunctionType) -> tuple[list, tuple]:
    cells = function.__closure__ or ()
    watches = [FunctionWatch(function), *(CellWatch(c, contents(c)) for c in cells)]
    parts = (function.__defaults__, function.__kwdefaults__, *map(contents, cells))
    if function.__dict__:
        parts = (*parts, *function.__dict__.values())
        watches.append(DictWatch(function.__dict__))
    return watches, parts


def _look_at_attributes(value) -> tuple[list, tuple]:
    """Of an object whose class is written in Python."""
    kind = type(value)
    has_slots = bool(_members(kind))
    if not kind.__dictoffset__ and not has_slots:
        return [], ()
    if not has_slots and kind.__getattribute__ is object.__getattribute__:
        held = dictionary_of(value)
        return [InstanceWatch(value), DictWatch(held)], tuple(held.values())
    watches, parts = _read(_attributes, value)
    return [*watches, Watch(functools.partial(type, value), kind)], parts


def _read(read: Callable, value) -> tuple[list, tuple]:
    read = functools.partial(read, value)
    seen = read()
    return ([Watch(read, seen)] if seen != () else []), seen


def _reader(value) -> Callable[[Any], tuple]:
    """How to read what an object holds beside its attributes."""
    for base in type(value).__mro__:
        if base in _PARTS:
            return _PARTS[base] if base is not object or _has_no_more(value) else _pickled
        if is_atomic(value, base):
            return _PARTS[object]
        if is_of_c(base):
            if issubclass(base, Iterator):
                raise Unwatchable(f"an iterator ({type(value).__name__})")
            return _pickled
    raise AssertionError("every object is one of class object")


def _has_no_more(value) -> bool:
    return not any(map(is_of_c, type(value).__mro__[:-1]))


@functools.cache
def is_of_c(kind: type) -> bool:
    """Whether a class was made by C: it has methods of C of its own."""
    made = (
        types.MethodDescriptorType | types.WrapperDescriptorType | types.ClassMethodDescriptorType
    )
    return any(
        (issubclass(type(v), made) and v.__objclass__ is kind)
        or (type(v) is types.BuiltinFunctionType and v.__self__ is kind)
        for v in vars(kind).values()
    )


def _pickled(value) -> tuple:
    try:
        content = pickle.dumps(value, 4)
    except Exception as error:
        raise Unwatchable(f"an object of type {type(value).__qualname__}") from error
    if len(content) > COMPLETE:
        raise Unwatchable(f"a large object of type {type(value).__qualname__}")
    return (content,)


# The walk.


class Walk:
    """The watches on all that can be reached from objects.

    Parameters
    ----------
    is_own : callable
        Whether code of a module, given by name, is the user's: functions, classes and modules of
        others are constant.
    forbidden : callable
        What a function reads from outside the program if it is one that does, else None.
    meet : callable
        Is called with each generator of random numbers, whose draws are noted otherwise.
    """

    def __init__(
        self,
        is_own: Callable[[str], bool],
        forbidden: Callable[[Any], str | None],
        meet: Callable[[Any], Any],
    ):
        self._is_own = is_own
        self._forbidden = forbidden
        self._meet = meet
        self._seen: dict[int, Any] = {}

    def watches(self, value) -> list[Any]:
        """The watches on an object and on all that it holds, left out what has them already.

        Raises
        ------
        Unwatchable
            If something has no content that can be compared.
        """
        found: list[Any] = []
        seen: dict[int, Any] = {}
        stack = [value]
        while stack:
            top = stack.pop()
            if is_atom(top) or id(top) in seen or id(top) in self._seen:
                continue
            seen[id(top)] = top  # kept, so that its id is not given to another object
            if len(seen) > _MOST_OBJECTS:
                raise Unwatchable(f"an object that holds more than {_MOST_OBJECTS:,} others")
            if self._is_constant(top):
                continue
            watches, parts = look_at(top)
            found += watches
            stack += parts
            if issubclass(type(top), types.FunctionType) and self._is_own(home_of(top)):
                self._look_at_names(top, found, stack)
            elif not is_of_c(type(top)) and self._is_own(module_of(type(top))):
                stack.append(type(top))
        self._seen.update(seen)
        return found

    def _is_constant(self, value) -> bool:
        """Whether an object is taken to be constant, as code of other packages is."""
        what = self._forbidden(value)
        if what is not None:
            raise Unwatchable(what)
        if _is_generator(value):
            self._meet(value)
            return True
        if _is_written_only(value):
            return True
        if issubclass(type(value), (types.ModuleType, np.ufunc, type(np.sum))):
            return True  # functions name what they take from it
        if issubclass(type(value), (type, types.FunctionType)):
            return not module_of(value) or not self._is_own(module_of(value))
        is_builtin = issubclass(type(value), types.BuiltinFunctionType)
        return is_builtin and isinstance(value.__self__, types.ModuleType | type(None))

    def _look_at_names(self, function: types.FunctionType, found: list, stack: list) -> None:
        """The globals that a function names; of modules, what it may take from them."""
        names = set(names_in(function.__code__))
        scope = function.__globals__
        for name in names & scope.keys():
            found.append(ItemWatch(scope, name, scope[name]))
            stack.append(scope[name])
            if isinstance(scope[name], types.ModuleType):
                self._look_at_module(scope[name], names, found, stack)

    def _look_at_module(
        self, module: types.ModuleType, names: set[str], found: list, stack: list
    ) -> None:
        for name in names & vars(module).keys():
            value = vars(module)[name]
            if self._is_own(module.__name__):
                found.append(ItemWatch(vars(module), name, value))
                stack.append(value)
                if isinstance(value, types.ModuleType) and value is not module:
                    self._look_at_module(value, names - {name}, found, stack)
            elif self._forbidden(value) is not None:
                raise Unwatchable(self._forbidden(value))


def _is_written_only(value) -> bool:
    """Whether it is a file that is open for writing alone."""
    if value is sys.stdout or value is sys.stderr:
        return True
    return issubclass(type(value), io.IOBase) and not value.closed and not value.readable()


def _is_generator(value) -> bool:
    return module_of(type(value)).startswith(_GENERATORS)
