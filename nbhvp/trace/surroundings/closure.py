"""The objects outside a function on which its trace depends: a watch on each of them.

A trace holds as long as these objects have the same content. Each watch is shallow: one cell, one
name, the items of one container, the attributes of one object, the content of one array. So testing
all watches is a pass over flat lists, without recursion; `walk` decides which watches are made.

Numbers are compared bit by bit: 0.0 is not -0.0, 1 is not True, and nan equals nan.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import functools
import operator
import pathlib
import re
import types
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbhvp.plain import is_frozen
from nbhvp.tree import Unravel

__all__ = [
    "COMPLETE",
    "AbsenceWatch",
    "ArrayWatch",
    "CellWatch",
    "ClassWatch",
    "Closure",
    "DictWatch",
    "FunctionWatch",
    "InstanceWatch",
    "ItemWatch",
    "Watch",
    "contents",
    "is_atom",
    "is_atomic",
    "watch_array",
]

COMPLETE = 1 << 20
"""Bytes up to which arrays are compared in full at every call."""
_SAMPLES = 1024
_COLUMNS = 509


# What cannot change.

_ATOMS = (
    bool, int, float, complex, str, bytes, type(None), type(Ellipsis), type(NotImplemented), range,
    slice, types.CodeType, re.Pattern, datetime.date, datetime.time, datetime.timedelta,
    datetime.tzinfo, decimal.Decimal, fractions.Fraction, uuid.UUID, pathlib.PurePath,
    types.MethodDescriptorType, types.WrapperDescriptorType, types.GetSetDescriptorType,
    types.MemberDescriptorType, types.ClassMethodDescriptorType, types.GenericAlias,
    np.dtype, types.UnionType,
)  # fmt: skip
_ATOMIC = frozenset(_ATOMS)


def is_atom(value) -> bool:
    """Whether an object has no content that could change."""
    # By the type alone, since an object of the user's may answer to any question for its attributes.
    kind = type(value)
    if kind in _ATOMIC:
        return True
    if issubclass(kind, np.generic):
        return not issubclass(kind, np.void)
    return issubclass(kind, _ATOMS) and not kind.__dictoffset__ and not _has_slots(kind)


def is_atomic(value, base: type) -> bool:
    """Whether the part of an object that a class among its bases makes cannot change."""
    return base in _ATOMIC or (issubclass(type(value), np.generic) and base is not np.void)


def _has_slots(kind: type) -> bool:
    """Whether objects of a subclass of an atomic class hold more than those of that."""
    for base in kind.__mro__:
        if base in _ATOMIC:
            return False
        if vars(base).get("__slots__"):
            return True
    return False


# What was read. `Closure` looks at each kind in a loop of its own, for speed.


@dataclass(frozen=True)
class Watch:
    """Anything, and how to read it again."""

    read: Callable[[], Any]
    seen: Any


@dataclass(frozen=True)
class ItemWatch:
    """An item of a dictionary: a global."""

    mapping: dict
    key: str
    seen: Any


@dataclass(frozen=True)
class AbsenceWatch:
    """A name that a module does not define, so that Python's own is meant."""

    mapping: dict
    key: str


@dataclass(frozen=True)
class CellWatch:
    """What a cell holds."""

    cell: types.CellType
    seen: Any


_EMPTY = NotImplemented
"""Of a cell that is not filled: an atom that nobody keeps in one."""


def contents(cell: types.CellType):
    """What a cell holds, or a sign that it holds nothing."""
    try:
        return cell.cell_contents
    except ValueError:
        return _EMPTY


class DictWatch:
    """Items of a dictionary whose keys are strings, and their number; all and their order, if none
    are given."""

    def __init__(self, mapping: Mapping[str, Any], items: dict[str, Any] | None = None):
        self.mapping = mapping
        self.size = len(mapping)
        self.order = tuple(mapping) if items is None else None
        self.items = tuple((mapping if items is None else items).items())


class InstanceWatch:
    """Class of an object, and the dictionary that has its attributes."""

    def __init__(self, value):
        self.value = value
        self.form = (type(value), value.__dict__)


class ClassWatch:
    """Metaclass and bases of a class."""

    def __init__(self, kind: type):
        self.kind = kind
        self.form = (type(kind), kind.__bases__)


@dataclass(frozen=True)
class OwnerWatch:
    """Class of an object that is held weakly, and the dictionary that has its attributes."""

    reference: weakref.ref
    form: tuple


class FunctionWatch:
    """Code and defaults of a function, and whether it has attributes."""

    def __init__(self, function: types.FunctionType):
        self.function = function
        self.form = (function.__code__, function.__defaults__, function.__kwdefaults__)
        self.attributes = function.__dict__ or None


def _same(a, b) -> bool:
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and (all(map(operator.is_, a, b)) or all(map(_same, a, b)))
    if isinstance(a, float | complex):
        return np.array(a).tobytes() == np.array(b).tobytes()
    if isinstance(a, np.generic):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    return (is_atom(a) or isinstance(a, Unravel)) and bool(a == b)


class ArrayWatch:
    """The content of an array, and its shape and dtype, which change in place too.

    Up to `COMPLETE` bytes are compared with a copy. Of more, a glance compares evenly spaced
    elements; a full look compares sums of 509 columns of machine words besides. An array that
    nobody can write keeps its content.
    """

    def __init__(self, array: np.ndarray):
        self.array = array
        self.form = (array.shape, array.dtype)
        self.is_small = array.nbytes <= COMPLETE
        self._sample = self._read_sample()
        self._sums = None if self.is_small else self._read_sums()

    def exactly(self) -> tuple[np.ndarray, bytearray, tuple, np.dtype] | None:
        """Array, content, shape and dtype where content and array can be compared in one call."""
        array = self.array
        is_plain = array.flags.c_contiguous and array.dtype.kind in "biufcSU"
        return (array, bytearray(self._sample), *self.form) if self.is_small and is_plain else None

    def glance(self) -> bool:
        """Whether the array is seen to have changed, by all of a small one."""
        if (self.array.shape, self.array.dtype) != self.form:
            return True
        is_kept = not self.is_small and is_frozen(self.array)
        return not is_kept and self._read_sample() != self._sample

    def changed(self) -> bool:
        """Whether the array has changed; a large one, to the sums of its columns."""
        if self.glance():
            return True
        return self._sums is not None and not (
            is_frozen(self.array) or self._read_sums() == self._sums
        )

    def _read_sample(self) -> bytes:
        array = self.array
        if self.is_small:
            return array.tobytes()
        step = max(1, array.size // _SAMPLES)
        if array.flags.c_contiguous:
            return array.reshape(-1)[::step].tobytes()
        return array.flat[::step].tobytes()

    def _read_sums(self) -> bytes:
        words = np.ascontiguousarray(self.array).reshape(-1).view(np.uint8)
        whole = words[: words.size // 8 * 8].view(np.uint64)
        rows = whole.size // _COLUMNS
        table = whole[: rows * _COLUMNS].reshape(rows, _COLUMNS)
        rest = words[8 * rows * _COLUMNS :]
        return np.add.reduce(table, axis=0).tobytes() + rest.tobytes()


def watch_array(array: np.ndarray) -> ArrayWatch:
    """A watch on the content of an array of numbers."""
    return ArrayWatch(array)


class Closure:
    """All that a trace depends on outside its arguments."""

    def __init__(self, watches: Iterable[Any] = ()):
        self.watches: tuple[Any, ...] = ()
        self.forgetting: list[weakref.WeakMethod] = []
        """What is to be told of an object that must not be held any more."""
        self.extend(watches)

    def extend(self, watches: Iterable[Any]) -> None:
        """Watch more: what the derivative rules of a trace turn out to depend on."""
        self.watches = (*self.watches, *watches)
        kinds: dict[type, list] = collections.defaultdict(list)
        for watch in self.watches:
            kinds[type(watch)].append(watch)
        exact = [watch.exactly() for watch in kinds[ArrayWatch]]
        self._exact = tuple(found for found in exact if found is not None)
        self._arrays = tuple(
            w for w, found in zip(kinds[ArrayWatch], exact, strict=True) if found is None
        )
        self._items = tuple((w.mapping, w.key, w.seen) for w in kinds[ItemWatch])
        self._absent = tuple((w.mapping, w.key) for w in kinds[AbsenceWatch])
        self._cells = tuple((w.cell, w.seen) for w in kinds[CellWatch])
        self._dicts = tuple((w.mapping, w.size, w.order, w.items) for w in kinds[DictWatch])
        self._instances = tuple((w.value, *w.form) for w in kinds[InstanceWatch])
        self._owners = tuple((w.reference, *w.form) for w in kinds[OwnerWatch])
        self._classes = tuple((w.kind, *w.form) for w in kinds[ClassWatch])
        self._functions = tuple((w.function, *w.form, w.attributes) for w in kinds[FunctionWatch])
        self._others = tuple((watch.read, watch.seen) for watch in kinds[Watch])
        held = (
            self._dicts, self._instances, self._owners, self._classes, self._others, self._arrays,
        )  # fmt: skip
        self._holds_objects = any(held)
        self.is_deep = any(not watch.is_small for watch in self._arrays)
        """Whether a large array may have changed where a glance does not look."""
        self._holds_more = self._holds_objects or bool(self._cells or self._exact or self._absent)

    def release(self, owner) -> None:
        """Hold an object weakly from now on; that it is gone counts as a change.

        The watches on what it holds keep what they hold.
        """
        try:
            reference = weakref.ref(owner)
        except TypeError:
            return
        for forget in filter(None, (reference() for reference in self.forgetting)):
            forget(owner)
        watches = [_weakly(watch, owner, reference) for watch in self.watches]
        self.watches = ()
        self.extend(watches)

    def by_identity(self) -> list[tuple] | None:
        """All watches, if the identity of objects and the bytes of arrays tell whether they hold.

        Each is a name, an object, and what it was: ("item", mapping, seen, key), ("absent", mapping,
        None, key), ("cell", cell, seen), ("function", function, code, defaults, defaults of
        keywords), ("instance", value, class, dictionary), ("size", mapping, number),
        ("order", mapping, *keys), ("content", array, copy).
        """
        mappings = [mapping for mapping, *_ in (*self._items, *self._absent, *self._dicts)]
        others = self._owners, self._classes, self._others, self._arrays
        if any(others) or any(type(mapping) is not dict for mapping in mappings):
            return None
        if any(attributes is not None for *_, attributes in self._functions):
            return None
        return [
            *(("item", mapping, seen, key) for mapping, key, seen in self._items),
            *(("absent", mapping, None, key) for mapping, key in self._absent),
            *(("cell", cell, seen) for cell, seen in self._cells),
            *(("function", *found[:4]) for found in self._functions),
            *(("instance", *found) for found in self._instances),
            *(("size", mapping, size) for mapping, size, *_ in self._dicts),
            *(("order", mapping, *order) for mapping, _, order, _ in self._dicts if order),
            *(("item", m, seen, key) for m, *_, items in self._dicts for key, seen in items),
            *(("content", a, np.frombuffer(content, np.uint8)) for a, content, *_ in self._exact),
        ]

    def changed(self) -> bool:
        """Whether anything has changed."""
        return self.glance() or (self.is_deep and any(watch.changed() for watch in self._arrays))

    def glance(self) -> bool:
        """Whether anything is seen to have changed; of a large array, by some of its elements."""
        # Plain loops over tuples, since each call of a small function waits for them.
        try:
            for mapping, key, seen in self._items:
                now = mapping[key]
                if now is not seen and not _same(now, seen):
                    return True
            for function, code, defaults, keywords, attributes in self._functions:
                if (
                    function.__code__ is not code
                    or function.__defaults__ is not defaults
                    or function.__kwdefaults__ is not keywords
                    or (function.__dict__ or None) is not attributes
                ):
                    return True
            if not self._holds_more:
                return False
            for mapping, key in self._absent:
                if key in mapping:
                    return True
            for cell, seen in self._cells:
                now = cell.cell_contents
                if now is not seen and not _same(now, seen):
                    return True
            for array, content, shape, dtype in self._exact:
                # The comparison of a bytearray with a buffer copies nothing.
                if content != array or array.shape != shape or array.dtype is not dtype:
                    return True
            return self._holds_objects and self._objects_changed()
        except Exception:
            return True  # what cannot be read any more has changed

    def _objects_changed(self) -> bool:
        for value, kind, mapping in self._instances:
            if type(value) is not kind or value.__dict__ is not mapping:
                return True
        for kind, meta, bases in self._classes:
            if type(kind) is not meta or kind.__bases__ is not bases:
                return True
        for reference, kind, mapping in self._owners:
            value = reference()
            if type(value) is not kind or value.__dict__ is not mapping:
                return True
        for mapping, size, order, items in self._dicts:
            if len(mapping) != size or (order is not None and tuple(mapping) != order):
                return True
            for key, seen in items:
                now = mapping[key]
                if now is not seen and not _same(now, seen):
                    return True
        for read, seen in self._others:
            if not _same(read(), seen):
                return True
        return any(watch.glance() for watch in self._arrays)


def _weakly(watch, owner, reference: weakref.ref):
    """A watch that does not keep an object alive."""
    if isinstance(watch, InstanceWatch) and watch.value is owner:
        return OwnerWatch(reference, watch.form)
    if isinstance(watch, Watch) and isinstance(watch.read, functools.partial):
        function, args = watch.read.func, watch.read.args
        if any(arg is owner for arg in args) and not watch.read.keywords:
            args = tuple(reference if arg is owner else arg for arg in args)
            return Watch(functools.partial(_read_alive, function, reference, *args), watch.seen)
    return watch


def _read_alive(function: Callable, reference: weakref.ref, *args):
    owner = reference()
    if owner is None:
        raise ReferenceError("what was watched is gone")
    return function(*(owner if arg is reference else arg for arg in args))
