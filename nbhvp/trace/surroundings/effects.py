"""Side effects: changes that a function makes to objects outside, beside its result.

A traced function runs on stand-ins, so its writes into outer objects (attributes, items of lists and
dicts, globals, outer variables) change copies. At the end of a trace each copy is compared with its
original. If a function is traced once, a difference would be lost at later calls, and is reported with
its line. If it is traced at every call, the difference is written into the original, as plain values.

Invariant: no traced value and no stand-in remains in an object outside.
"""

from __future__ import annotations

import collections
import dis
import functools
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbhvp.trace.arrays import Traced, trace_error, with_items
from nbhvp.trace.kinds import LibraryObject
from nbhvp.trace.places import instructions, names_of
from nbhvp.trace.surroundings.walk import attributes_of, blank, holds_items_as_attributes

__all__ = ["Arguments", "Effects"]

_MISSING = object()
_DEPTH = 20
"""Of containers in one another, that are looked through for a name."""
_KEPT = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)
"""What has no attributes that a function would write in passing."""
_LISTS = (list, collections.deque, set)
_ATOMS = (bool, int, float, complex, str, bytes, type(None), np.generic)
_WRITING = frozenset(
    [
        "append",
        "extend",
        "insert",
        "pop",
        "remove",
        "clear",
        "sort",
        "reverse",
        "update",
        "setdefault",
        "popitem",
        "add",
        "discard",
        "appendleft",
        "extendleft",
        "popleft",
        "rotate",
        "__setitem__",
        "__delitem__",
        "move_to_end",
        "subtract",
        "difference_update",
        "intersection_update",
        "symmetric_difference_update",
    ]
)
_MAKING = ("__init__", "__post_init__", "__new__")
"""Functions that write attributes of new objects."""
_ON_A_COPY = (
    "on a copy that dies with the trace, so it is not seen outside, and not done at each call: "
    "return what you need from it, or let the function be traced at every call, with "
    "differentiable(trace='always')"
)


class _Attribute(str):
    """The name of an attribute of an object that has items too."""

    __slots__ = ()

    def __eq__(self, other) -> bool:
        return type(other) is _Attribute and str.__eq__(self, other)

    def __hash__(self) -> int:
        return hash((_Attribute, str(self)))


@dataclass(frozen=True)
class _Change:
    """One thing that a function has written: an item, an attribute, a name, or a whole list."""

    target: Any
    """The object from outside."""
    key: Any
    """None for a list or a set as a whole."""
    value: Any
    """What is there now, in the copy; `_MISSING` if it was deleted."""


class Effects:
    """The side effects of one trace.

    Parameters
    ----------
    original : callable
        What a stand-in of a library's object stands for.
    """

    def __init__(self, original: Callable):
        self._original = original
        self._copies: list[tuple[Any, Any, Any]] = []
        self._values: dict[int, Any] = {}
        self._scopes: list[tuple[dict, dict]] = []
        self._functions: dict[int, types.FunctionType] = {}
        self._plain_values: dict[int, tuple[Any, Any]] = {}
        self.changes: list[_Change] = []

    def begin(self, value, standin) -> None:
        """A stand-in has been made, and not been written yet."""
        before = _contents(standin)
        if before is not None:
            self._copies.append((value, standin, before))

    def end(self, made: Iterable[tuple], scopes: Iterable[tuple[dict, dict, dict]]) -> None:
        """The function has run: with these objects and stand-ins, which may be the objects; and
        globals of modules, their copies, and what these were when they were read."""
        self._enter(made)
        for value, standin, before in self._copies:
            self.changes += self._changes_of(value, before, _contents(standin))
        for names, scope, before in scopes:
            self._scopes.append((names, scope))
            now = {n: v for n, v in dict.items(scope) if not n.startswith("__")}
            self.changes += self._changes_of(names, before, now)

    def _enter(self, made: Iterable[tuple]) -> None:
        for value, standin in made:
            if value is not standin:
                self._values[id(standin)] = value
            if type(value) is types.FunctionType:
                self._functions[id(value)] = value

    # What has changed.

    def _changes_of(self, target, before, now) -> Iterator[_Change]:
        if isinstance(before, list):
            if len(before) != len(now) or not all(map(_is_same, before, now)):
                yield _Change(target, None, now)
            return
        for key, value in now.items():
            was = before.get(key, _MISSING)
            if value is was or _is_same(was, value) or _is_ours(value):
                continue
            if key not in _cached_names(type(target)):
                yield _Change(target, key, value)
        if not before.keys() <= now.keys():
            yield from (_Change(target, key, _MISSING) for key in before if key not in now)

    # Telling.

    def notes(self) -> Iterator[tuple[str, tuple[str, int] | None]]:
        """What to tell of the changes, and where they happen: of the first at each line."""
        told = set()
        for change in self.changes:
            what, names, is_container = self._described(change)
            place = self._place(names, is_container)
            if place not in told:
                told.add(place)
                yield f"{what} {_ON_A_COPY}", place

    def _described(self, change: _Change) -> tuple[str, list[str], bool]:
        """What happens; the names that the code writes; whether it writes into what they name."""
        target, key = change.target, change.key
        kind = type(target)
        if kind in _LISTS or (isinstance(target, dict) and not self._is_scope(target)):
            name = self._name_of(target)
            called = f" `{name}`" if name else ""
            return f"the function changes the {kind.__name__}{called}", [name] if name else [], True
        if isinstance(target, dict):
            return f"the function sets the global `{key}`", [key], False
        if kind is types.CellType:
            name = self._name_of(target) or ""
            return f"the function sets the outer variable `{name}`", [name], False
        owner = target.__name__ if isinstance(target, type | types.FunctionType) else kind.__name__
        return f"the function sets the attribute `{key}` of {owner}", [key], False

    def _is_scope(self, target) -> bool:
        return any(names is target for names, _ in self._scopes)

    def _name_of(self, target) -> str | None:
        """A name by which the function knows an object, or what holds it."""
        known = {id(item): name for name, item in self._names()}
        holders = {
            id(item): value
            for value in self._values.values()
            if type(value) in (list, tuple, dict)
            for item in (value.values() if type(value) is dict else value)
        }
        for _ in range(_DEPTH):
            if id(target) in known or id(target) not in holders:
                break
            target = holders[id(target)]
        return known.get(id(target))

    def _names(self) -> Iterator[tuple[str, Any]]:
        """Globals, attributes, parameters and outer variables, and what they mean."""
        for names, scope in self._scopes:
            yield from ((name, names.get(name)) for name in dict.keys(scope))
        for value, _, _ in self._copies:
            if isinstance(value, type):
                yield from _of_class(value).items()
            elif not isinstance(value, (*_KEPT, dict)):
                yield from attributes_of(value).items()
        for function in self._functions.values():
            code, defaults = function.__code__, function.__defaults__ or ()
            parameters = code.co_varnames[: code.co_argcount]
            yield from zip(parameters[len(parameters) - len(defaults) :], defaults, strict=True)
            yield from (function.__kwdefaults__ or {}).items()
            for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
                yield name, cell
                yield from ((name, value) for value in _of_cell(cell).values())

    def _place(self, names: list[str], is_container: bool) -> tuple[str, int] | None:
        """The line of the change: of the first that looks like it."""
        best: tuple[int, tuple[str, int]] | None = None
        for function in self._functions.values():
            for code in _codes(function.__code__):
                for rank, line in _writes(code, names, is_container):
                    rank += 2 * (code.co_name in _MAKING or code.co_filename.startswith("<"))
                    if best is None or rank < best[0]:
                        best = rank, (code.co_filename, line)
        if best is not None:
            return best[1]
        codes = [function.__code__ for function in self._functions.values()]
        return (codes[0].co_filename, codes[0].co_firstlineno) if codes else None

    # Writing into the objects themselves.

    def happen(self) -> None:
        """Write what was written into the copies into the objects that they stand for."""
        for change in self.changes:
            value = change.value
            if change.key is None:
                _refill(change.target, [*map(self._plain, value)])
            else:
                key = self._plain(change.key)
                _set(change.target, key, value if value is _MISSING else self._plain(value))

    def release(self, made: Iterable[tuple]) -> None:
        """Put plain values in the place of traced ones in objects that have no copies."""
        made = [*made]
        self._enter(made)
        for value, standin in made:
            if value is not standin or issubclass(type(value), _KEPT):
                continue
            if issubclass(type(value), np.ndarray):
                self._release_items(value)
            for name, item in attributes_of(value).items():
                if self._plain(item) is not item:
                    _set_attribute(value, name, self._plain(item))
            if issubclass(type(value), list | set | dict | collections.deque):
                self._with_plain_items(value)

    def _release_items(self, array: np.ndarray) -> None:
        """Put plain values in the place of traced ones in an array of objects."""
        if array.dtype == object and array.flags.writeable:
            for k, item in enumerate(array.flat):
                if self._plain(item) is not item:
                    array.flat[k] = self._plain(item)

    def _plain(self, value):
        """A value as plain Python would have it: no stand-in, and no traced number."""
        if isinstance(value, _ATOMS) and not issubclass(type(value), Traced):
            return value
        if id(value) in self._values:
            return self._values[id(value)]
        if id(value) not in self._plain_values:
            # The value is kept too: its id must not be given to another object.
            self._plain_values[id(value)] = value, value
            self._plain_values[id(value)] = value, self._made_plain(value)
        return self._plain_values[id(value)][1]

    def _made_plain(self, value):
        if isinstance(value, Traced):
            number = value.value
            return np.array(number) if isinstance(number, np.ndarray) else number
        if isinstance(value, LibraryObject):
            return value.original
        original = vars(type(value)).get("__nbhvp_original__")
        if original is not None:
            return self._of_original(original, value)
        if isinstance(value, tuple | list | set | dict | collections.deque):
            return self._with_plain_items(value)
        if isinstance(value, types.MethodType):
            return types.MethodType(self._plain(value.__func__), self._plain(value.__self__))
        if isinstance(value, types.FunctionType) and any(
            value.__globals__ is scope for _, scope in self._scopes
        ):
            raise trace_error(
                f"the function {value.__name__}, which the traced function makes, is stored outside",
                "make it outside",
            )
        return self._original(value)

    def _of_original(self, original: type, value):
        """An object of a class itself, like one of its copy."""
        made = blank(original, like=value)
        if issubclass(type(value), dict):
            for key, item in dict.items(value):
                dict.__setitem__(made, self._plain(key), self._plain(item))
        for name, item in attributes_of(value).items():
            object.__setattr__(made, name, self._plain(item))
        return made

    def _with_plain_items(self, value):
        """A container with plain items; one that can be written stays the same object."""
        if isinstance(value, dict):
            for key, item in [*dict.items(value)]:
                if self._plain(item) is not item:
                    dict.__setitem__(value, key, self._plain(item))
            return value
        items = [*map(self._plain, value)]
        if all(a is b for a, b in zip(items, value, strict=True)):
            return value
        if isinstance(value, tuple):
            return with_items(value, items)
        _refill(value, items)
        return value


def _refill(target, items: list) -> None:
    """Give a list, deque or set other items."""
    target.clear()
    (target.update if isinstance(target, set) else target.extend)(items)


class Arguments:
    """The lists and dicts among the arguments of a call, which are copies of the caller's.

    Parameters
    ----------
    args, kwargs
        As the function gets them.
    """

    def __init__(self, args: tuple, kwargs: dict[str, Any]):
        self._before: list[tuple[int | str, str, Any, list]] = []
        for where, value in (*enumerate(args), *kwargs.items()):
            label = f"argument {where + 1 if isinstance(where, int) else repr(where)}"
            self._look(where, label, value)

    def _look(self, where: int | str, label: str, value) -> None:
        if isinstance(value, dict | list | tuple):
            if not isinstance(value, tuple):
                self._before.append((where, label, value, _flat(value)))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in items:
                self._look(where, f"{label}[{key!r}]", item)

    def notes(self, function) -> Iterator[tuple[str, tuple[str, int] | None]]:
        """What to tell of those that were changed, and where that happens."""
        for where, label, value, before in self._before:
            now = _flat(value)
            if len(now) != len(before) or any(a is not b for a, b in zip(now, before, strict=True)):
                text = f"the function changes {label}, a {type(value).__name__}, on a copy: the "
                yield (
                    text + "caller's stays as it is, so return what you need",
                    _place_of(function, where),
                )


def _flat(value: dict | list) -> list:
    return [*dict.keys(value), *dict.values(value)] if isinstance(value, dict) else [*value]


def _place_of(function, where: int | str) -> tuple[str, int] | None:
    """The line that changes a parameter of a function."""
    skipped = 2 if isinstance(function, types.MethodType) else 1
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if code is None:
        return None
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    name = where if isinstance(where, str) else dict(enumerate(names[skipped:])).get(where, "")
    line = min(_writes(code, [name], True), default=(0, code.co_firstlineno))[1]
    return code.co_filename, line


def _contents(standin) -> list | dict | None:
    """What a function may write in a stand-in; None if nothing."""
    kind = type(standin)
    if kind in _LISTS:
        return [*standin]
    if issubclass(kind, dict):
        attributes = attributes_of(standin) if "__nbhvp_original__" in vars(kind) else {}
        if not holds_items_as_attributes(standin):
            attributes = {_Attribute(name): item for name, item in attributes.items()}
        return {**attributes, **dict(dict.items(standin))}
    if kind is types.CellType:
        return _of_cell(standin)
    if kind is types.FunctionType:
        return dict(vars(standin))
    if issubclass(kind, type):
        return _of_class(standin) if "__nbhvp_original__" in vars(standin) else None
    is_copy = kind is types.SimpleNamespace or "__nbhvp_original__" in vars(kind)
    return attributes_of(standin) if is_copy else None


def _is_same(before, now) -> bool:
    if now is before:
        return True
    is_atom = type(now) is type(before) and isinstance(now, _ATOMS)
    return is_atom and now == before and repr(now) == repr(before)


def _is_ours(value) -> bool:
    """Whether an attribute of a function was set by us: the refusal of a nested derivative."""
    return isinstance(value, functools.partial) and value.func.__module__.startswith("nbhvp.")


def _cached_names(kind: type) -> frozenset[str]:
    """What the cached properties of a class keep: the same each time."""
    return frozenset(
        name
        for base in kind.__mro__
        for name, value in vars(base).items()
        if issubclass(type(value), functools.cached_property)
    )


def _of_cell(cell: types.CellType) -> dict[str, Any]:
    return {"contents": cell.cell_contents} if cell != types.CellType() else {}


def _of_class(kind: type) -> dict[str, Any]:
    slots = (types.MemberDescriptorType, types.GetSetDescriptorType)
    items = vars(kind).items()
    return {n: v for n, v in items if not n.startswith("__") and type(v) not in slots}


def _set_attribute(target, name: str, value) -> None:
    (
        object.__delattr__(target, name)
        if value is _MISSING
        else object.__setattr__(target, name, value)
    )


def _set(target, key, value) -> None:
    """Write, or delete, one item of a dict, one attribute, or what a cell holds."""
    is_gone = value is _MISSING
    if isinstance(target, types.CellType):
        if is_gone:
            del target.cell_contents
        else:
            target.cell_contents = value
    elif isinstance(target, dict) and type(key) is not _Attribute:
        if is_gone:
            del target[key]
        else:
            target[key] = value
    elif isinstance(target, type):
        (delattr(target, key) if is_gone else setattr(target, key, value))
    else:
        _set_attribute(target, str(key), value)


# Where it is written.


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _writes(
    code: types.CodeType, names: list[str], is_container: bool
) -> Iterator[tuple[int, int]]:
    """Lines that write a name, or into what it names, and how sure that is: 0 is surest."""
    lines: dict[int, list[dis.Instruction]] = collections.defaultdict(list)
    for line, step in instructions(code):
        lines[line].append(step)
    for line, steps in lines.items():
        named = [step for step in steps if not names_of(step).isdisjoint(names)]
        if is_container and named:
            yield (0 if any(map(_writes_into, steps)) else 1), line
        elif any(step.opname.startswith(("STORE_", "DELETE_")) for step in named):
            yield 0, line
        elif named:
            yield 2, line


def _writes_into(step: dis.Instruction) -> bool:
    if step.opname in ("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE"):
        return True
    return step.opname in ("LOAD_ATTR", "LOAD_METHOD") and step.argval in _WRITING
