"""The kinds of objects that have stand-ins, as a table of functions that make them.

`stands_for` enters such a function where the function is defined, so that the walk through a user's
function names no kind. The kind of an object is found by the object itself, by its class (the nearest
in its method resolution order), or, for functions, by a predicate. Classes of libraries come from the
register.

Invariant: no two predicates are true of the same function.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Any

from nbhvp.trace.answers import CLASSES
from nbhvp.trace.surroundings.closure import is_atom
from nbhvp.trace.surroundings.ownership import public_name
from nbhvp.trace.surroundings.walk import Unwatchable

__all__ = [
    "FunctionStandin",
    "LibraryObject",
    "Standin",
    "has_live_part",
    "library_class",
    "maker_of",
    "original_of",
    "stands_for",
]

Maker = Callable[[Any, Any], Any]
"""Makes a stand-in, for the `Standins` of a trace and an object."""


class Standin:
    """What stands for an object while a function is traced."""

    __slots__ = ()
    held: str | None = None
    """The attribute that is the object, if there is one."""
    is_live = False
    """Whether it holds values that depend on an input."""


class FunctionStandin(Standin):
    """What stands for a function, and has it as `function`."""

    held = "function"
    function: Callable


class LibraryObject(Standin):
    """The stand-in of an object of a library, which may meet traced arrays in its methods.

    What a subclass does not define is that of the object itself, with stand-ins for arrays.
    """

    held = "original"

    def __init__(self, original, standin: Callable):
        self.original = original
        self._standin = standin

    @classmethod
    def watch(cls, standins, original) -> None:
        """Watch what a stand-in of this class depends on."""
        with contextlib.suppress(Unwatchable):  # objects of C among these do not change
            standins.watch(original)

    def __getattr__(self, name: str):
        if name.startswith("__") or name == "original":
            raise AttributeError(name)
        return self._standin(getattr(self.original, name))

    def __repr__(self) -> str:
        return repr(self.original)


def original_of(value):
    """The object that a stand-in stands for; any other value as it is."""
    kind = type(value)
    if not issubclass(kind, Standin) or kind.held is None:
        return value
    return getattr(value, kind.held)


def has_live_part(value) -> bool:
    """Whether a stand-in among nested arguments holds values that depend on an input."""
    if issubclass(type(value), Standin):
        return value.is_live
    if isinstance(value, list | tuple):
        return any(map(has_live_part, value))
    return isinstance(value, dict) and any(map(has_live_part, value.values()))


# Kinds.

_BY_OBJECT: dict[int, tuple[Any, Maker]] = {}
_BY_CLASS: dict[type, Maker] = {}
_QUESTIONS: list[tuple[Callable[[Any], bool], Maker]] = []


def stands_for(
    *classes: type, objects: tuple = (), where: Callable[[Any], bool] | None = None
) -> Callable[[Maker], Maker]:
    """Let the decorated function make the stand-ins of some objects.

    Those of these classes, these `objects` alone, and the functions `where` a question is true.
    """

    def enter(make: Maker) -> Maker:
        _BY_CLASS.update(dict.fromkeys(classes, make))
        _BY_OBJECT.update((id(thing), (thing, make)) for thing in objects)
        if where is not None:
            _QUESTIONS.append((where, make))
        return make

    return enter


@stands_for(Standin)
def itself(standins, value):
    return value


def maker_of(value) -> Maker | None:
    """What makes the stand-in of an object, if its kind was entered."""
    if id(value) in _BY_OBJECT:
        return _BY_OBJECT[id(value)][1]
    make = _of_class(type(value))[0]
    if make is not None:
        return make
    if is_atom(value):
        return itself
    return next((make for applies, make in _QUESTIONS if applies(value)), None)


def library_class(kind: type) -> type[LibraryObject] | None:
    """The class of the stand-ins for objects of a class of a library."""
    return _of_class(kind)[1]


_KNOWN: weakref.WeakKeyDictionary[type, tuple] = weakref.WeakKeyDictionary()


def _of_class(kind: type) -> tuple[Maker | None, type[LibraryObject] | None]:
    """The maker for a class, and the class of the register from which that comes, if it does."""
    entered = len(CLASSES) + len(_BY_CLASS)
    count, found = _KNOWN.get(kind, (0, (None, None)))
    if count != entered:  # some are entered when they are first needed
        found = next(filter(None, map(_entered, kind.__mro__)), (None, None))
        _KNOWN[kind] = entered, found
    return found


def _entered(base: type) -> tuple[Maker, type[LibraryObject] | None] | None:
    standin = CLASSES.get(base) or CLASSES.get(public_name(base))
    if standin is not None:
        return _library_object, standin.run
    return (_BY_CLASS[base], None) if base in _BY_CLASS else None


def _library_object(standins, value) -> LibraryObject:
    kind = library_class(type(value))
    standin = standins.remember(value, kind(value, standins.of))
    kind.watch(standins, value)
    return standin
