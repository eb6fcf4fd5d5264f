"""Stand-ins: the user's function, run with other objects in the place of NumPy's.

NumPy's protocols miss `np.zeros(n)` that is written later, `np.array([f1, f2])`, `math.exp(x[0])`,
and `A @ x` of a sparse `A`. So a trace runs a copy of the function whose globals, closure cells and
defaults give stand-ins: for the modules and functions of NumPy, SciPy and math; for arrays and
sparse matrices, as constants of the trace; and, recursively, for the user's own functions, methods,
partials, modules, containers and objects. Code of other packages and of the standard library runs
unchanged. No module is patched, and nothing outside the trace sees a stand-in.

Invariant: within a trace each object has one stand-in, by whatever path it is reached, so identity
and sharing are as in plain Python. All objects that were read are remembered; `Closure` tells whether
they have changed.
"""

from __future__ import annotations

import builtins
import collections
import contextlib
import functools
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nbhvp.errors import TraceError
from nbhvp.trace.answers import complete
from nbhvp.trace.arrays import Recording
from nbhvp.trace.following.builtin_calls import BuiltinCalls
from nbhvp.trace.following.classes import OwnClasses, class_copy, object_copy, own_object
from nbhvp.trace.following.functions import of_code, source_copy
from nbhvp.trace.following.library import LIBRARIES, Library
from nbhvp.trace.kinds import maker_of, original_of
from nbhvp.trace.recording import present
from nbhvp.trace.surroundings.closure import AbsenceWatch, Closure, ItemWatch, Watch, watch_array
from nbhvp.trace.surroundings.effects import Effects
from nbhvp.trace.surroundings.outside import OutsideFunction, Unwatched, what_is_hidden
from nbhvp.trace.surroundings.ownership import home_of, is_foreign, is_library, module_of
from nbhvp.trace.surroundings.scope import Evaluation, Modules, Scope
from nbhvp.trace.surroundings.walk import Unwatchable, Walk, attributes_of, look_at

__all__ = ["Standins"]

_PYTHONS_OWN = frozenset(vars(builtins))
_NUMBERS_AND_TEXTS = frozenset((bool, int, float, complex, str, bytes, type(None)))


class Standins:
    """The stand-ins of one trace."""

    def __init__(self, recording: Recording, function=None):
        self.recording = recording
        self.watches: list[Any] = []
        self.classes = OwnClasses(self.is_own)
        self.is_followed = self.classes.is_followed
        self.library = Library(self)
        recording.follow = self.library.follow
        self.sources: dict[types.FunctionType, types.FunctionType] = {}
        """The copies of functions of libraries that are followed."""
        self.class_copies: dict[type, type] = {}
        self.object_copies: dict[int, tuple[Any, Any]] = {}
        """Copies of objects whose stand-ins are others."""
        self.is_trusting = False
        home = module_of(_innermost(function))
        self._home = "" if is_library(home) else home.partition(".")[0]
        self._made: dict[int, tuple[Any, Any]] = {}
        self._originals: dict[int, Any] = {}
        self._scopes: dict[int, Scope] = {}
        self._is_watching = True
        self._walk = Walk(self.is_own, what_is_hidden, self.of)
        self._effects = Effects(original_of)
        self._calls = BuiltinCalls(self.of, original_of)
        self.closure = Closure()
        """What the trace depends on, as of the latest `finish`."""
        self.closure.forgetting.append(weakref.WeakMethod(self._forget))

    @property
    def pool(self):
        return self.recording.pool

    def finish(self) -> None:
        """Add what the trace has seen since to its closure."""
        self.recording.see_draws()
        plain, sources = self.recording.plain_arrays, self.recording.sources
        self.closure.extend((*self.watches, *sources, *map(watch_array, plain.values())))
        for seen in (self.watches, sources, plain):
            seen.clear()

    @contextlib.contextmanager
    def settled(self) -> Iterator[None]:
        """Run a function, and tell its side effects, or make them happen."""
        effects = self._effects
        try:
            yield
            effects.end(self._made.values(), [scope.parts for scope in self._own_scopes()])
        finally:
            effects.release(self._made.values())
        if self.recording.is_always:
            effects.happen()
            return
        for text, place in effects.notes():
            self.recording.note(text, place)

    def resumed(self, run: Callable[[], Any]) -> Any:
        """What `run` gives, recorded into the trace after it was made: a derivative rule."""
        if present() is self.recording and not self.recording.is_closed:
            # A derivative within the function: the rule adds no guards here either.
            self.recording.is_closed = True
            try:
                return run()
            finally:
                self.recording.is_closed = False
        with self.recording, np.errstate(all="ignore"):
            result = run()
        self.finish()
        if self.recording.hidden_state is not None:
            raise TraceError(
                f"a derivative rule depends on {self.recording.hidden_state}: read it outside the rule, "
                "and pass its numbers as an argument of the function"
            )
        return result

    # Objects.

    def of(self, value):
        """The stand-in of an object; the object itself where none is needed."""
        if type(value) in _NUMBERS_AND_TEXTS:
            return value
        if id(value) in self._made:
            return self._made[id(value)][1]
        if id(value) in self._originals:
            return value
        standin = self._new(value)
        if standin is NotImplemented:
            return self.left_alone(value)
        if standin is not value:
            self.begin(value, standin)
        return standin

    @contextlib.contextmanager
    def trusting(self, is_trusted: bool = True) -> Iterator[None]:
        """Make stand-ins for what a library's modules hold, which is constant: nothing is watched."""
        before = self._is_watching, self.is_trusting
        if is_trusted:
            self._is_watching, self.is_trusting = False, True
        try:
            yield
        finally:
            self._is_watching, self.is_trusting = before

    def source_copy(self, function: types.FunctionType) -> types.FunctionType:
        """The copy of a function of a library that is followed."""
        return source_copy(self, function)

    def class_copy(self, kind: type) -> type:
        """The copy of a class, whose methods are followed."""
        return class_copy(self, kind)

    def object_copy(self, value):
        """What the methods of a library's object are followed with."""
        is_ours = id(value) in self._originals or not self.is_followed(type(value))
        return value if is_ours else object_copy(self, value)

    def remember_beside(self, value, copy) -> None:
        """Let an object have a copy beside its stand-in."""
        self.object_copies[id(value)] = value, copy
        self._originals[id(copy)] = value

    def _new(self, value):
        if self.classes.is_all_own(type(value)):
            return own_object(self, value)
        make = maker_of(value)
        standin = NotImplemented if make is None else make(self, value)
        return of_code(self, value) if standin is NotImplemented else standin

    def made(self, value):
        """The stand-in of an object that the function has made itself: nothing watches it."""
        before, self._is_watching = self._is_watching, False
        try:
            return self.of(value)
        finally:
            self._is_watching = before

    def remember(self, value, standin):
        """Let an object have a stand-in, wherever it is met."""
        # The value is kept too: its id must not be given to another object.
        self._made[id(value)] = (value, standin)
        if standin is not value:
            self._originals[id(standin)] = value
        return standin

    def is_made(self, value) -> bool:
        """Whether an object has its stand-in already."""
        return id(value) in self._made

    def begin(self, value, standin) -> None:
        """A stand-in is complete: what is written into it from now on is a side effect."""
        if self._is_watching:
            self._effects.begin(value, standin)

    def _forget(self, value) -> None:
        """Hold an object no more: derivative rules that meet it again get another stand-in."""
        _, standin = self._made.pop(id(value), (None, None))
        self._originals.pop(id(standin), None)
        self._effects = Effects(original_of)

    def as_it_was(self, standin):
        """What a stand-in stands for; `NotImplemented` if it has been written since it was made, or
        was made within the trace.
        """
        value = self._originals.get(id(standin), standin)
        if value is standin:
            is_made = "__nbhvp_original__" in vars(type(standin))
            return NotImplemented if is_made else original_of(standin)
        is_same = self._is_unwritten(standin, value, {})
        return value if is_same and not issubclass(type(value), dict) else NotImplemented

    def _is_unwritten(self, standin, value, seen: dict) -> bool:
        """Whether a stand-in, and what it holds, is as it was made."""
        if id(standin) in seen:
            return True
        seen[id(standin)] = standin
        parts, before = _parts(standin), _parts(value)
        return parts.keys() == before.keys() and all(
            self._is_same(part, before[name], seen) for name, part in parts.items()
        )

    def _is_same(self, standin, value, seen: dict) -> bool:
        expected = self.of(value)
        if standin is not expected:
            return type(standin) is types.MethodType and standin == expected
        return standin is value or self._is_unwritten(standin, value, seen)

    # Watching.

    def watch(self, value) -> None:
        """Watch an object and all that it holds."""
        if self._is_watching:
            self.watches += self._walk.watches(value)

    def left_alone(self, value):
        """An object without a stand-in: what it holds is watched, or to use it is an error."""
        try:
            self.watch(value)
        except Unwatchable as reason:
            standin = value if self.recording.is_always else Unwatched(value, str(reason))
            return self.remember(value, standin)
        return self.remember(value, value)

    def look_at(self, value) -> tuple:
        """What an object holds, which is watched."""
        watches, parts = look_at(value)
        if self._is_watching:
            self.watches += watches
        return parts

    def watched(self, read: Callable, *args) -> Any:
        """What `read` gives, which is read again to see whether it has changed."""
        read = functools.partial(read, *args)
        seen = read()
        self.watches.append(Watch(read, seen))
        return seen

    def is_own(self, module: str) -> bool:
        """Whether code of this module is the user's (or as plain), to be traced into."""
        own = module.partition(".")[0] == self._home != ""
        return own or not is_foreign(module)

    # Names.

    def cell(self, cell: types.CellType) -> types.CellType:
        """The one copy of a cell."""
        if id(cell) not in self._made:
            self.remember(cell, types.CellType())
        return self._made[id(cell)][1]

    def scope_of(self, names: dict) -> Scope:
        """The one copy of a module's globals."""
        if id(names) not in self._scopes:
            evaluation = Evaluation()
            ours = {
                **self._calls.names(),
                "__import__": self._import,
                "eval": evaluation.eval,
                "exec": evaluation.exec,
                "open": OutsideFunction(open, "io.open"),
                "input": OutsideFunction(input, "builtins.input"),
            }
            known = {**vars(builtins), **ours}
            is_trusted = is_library(names.get("__name__") or "")
            item = self._library_item if is_trusted else self.item
            missing = self._library_missing if is_trusted else self.missing
            self._scopes[id(names)] = Scope(names, item, missing, known)
        return self._scopes[id(names)]

    def _own_scopes(self) -> Iterator[Scope]:
        """The scopes of modules of the user's."""
        for scope in self._scopes.values():
            if not is_library(scope.get("__name__") or ""):
                yield scope

    def item(self, names: dict, name: str):
        """The stand-in of a global, which is watched."""
        value = names[name]
        self.watches.append(ItemWatch(names, name, value))
        return self.of(value)

    def _library_item(self, names: dict, name: str):
        """The stand-in of a global of a library's module."""
        with self.trusting():
            return self.of(names[name])

    def _library_missing(self, names: dict, name: str):
        if name in _PYTHONS_OWN or name not in vars(builtins):
            return self.scope_of(names)["__builtins__"][name]
        return self._library_item(vars(builtins), name)

    def missing(self, names: dict, name: str):
        """A name that a module does not define: one of Python's own, or none."""
        self.watches.append(AbsenceWatch(names, name.removesuffix("()")))
        if name in _PYTHONS_OWN or name not in vars(builtins):
            return self.scope_of(names)["__builtins__"][name]
        return self.item(vars(builtins), name)

    def _import(self, *args, **kwargs):
        module = builtins.__import__(*args, **kwargs)
        complete()
        return self.of(module)

    def binds(self, module: types.ModuleType, name: str) -> bool:
        """Whether code of the function may read and write a name of a module as a global."""
        is_written = id(vars(module)) in self._scopes and name in self.scope_of(vars(module)).bound
        return is_written or (self.is_own(module.__name__) and name in vars(module))

    def attribute(self, module: types.ModuleType, name: str):
        """The stand-in of an attribute of a module, of the user's or not."""
        value = getattr(module, name)  # its own error for a name that it has not
        complete()  # to get an attribute may have imported a part of SciPy
        if value is sys.modules:
            return Modules(self.of)
        is_code = isinstance(value, types.ModuleType | type) or callable(value)
        is_given = isinstance(value, types.FunctionType) and self.is_own(home_of(value))
        if is_code and not is_given:
            with self.trusting(is_library(module.__name__)):
                return self.of(value)
        if name in getattr(module, "__all__", ()) and module.__name__ in LIBRARIES:
            return self.of(value)  # np.pi
        return self.of(self.watched(getattr, module, name, None))


def _parts(value) -> dict:
    """What an object holds, by attribute, key or place."""
    if isinstance(value, dict):
        return {**value}
    if isinstance(value, list | tuple | collections.deque):
        return dict(enumerate(value))
    return attributes_of(value)


def _innermost(function):
    """The function inside partials."""
    return _innermost(function.func) if isinstance(function, functools.partial) else function
