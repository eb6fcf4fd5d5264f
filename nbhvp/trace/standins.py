"""Stand-ins: the user's function, run with our names in the place of NumPy's.

NumPy's protocols miss `np.zeros(n)` that is written later, `np.array([f1, f2])`, `math.exp(x[0])`,
`A @ x` of a sparse `A`. So the trace runs a copy of the function whose globals, closure cells and
defaults give stand-ins: for the modules and functions of NumPy, SciPy and math; for arrays and
sparse matrices, as constants of the trace; and, recursively, for the user's own functions, methods,
partials, modules, containers and objects. Code of other packages and of the standard library runs
as it is. No module is patched, and nothing outside the trace sees a stand-in.

Invariant: within a trace one object has one stand-in, whichever way it is reached, so identity and
sharing are as in plain Python. What was looked at is remembered; `Closure` tells when it changed.
"""

from __future__ import annotations

import abc
import argparse
import builtins
import collections
import contextlib
import functools
import importlib
import sys
import types
import typing
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.sparse

from nbhvp.errors import TraceError
from nbhvp.plain import is_plain
from nbhvp.trace import arrays
from nbhvp.trace.answers import ANSWERS, CLASSES
from nbhvp.trace.arrays import Traced
from nbhvp.trace.branches.exceptions import call_math, may_catch, watched, watches_errors
from nbhvp.trace.builtin_calls import BuiltinCalls, asks_identity, redirected
from nbhvp.trace.kinds import FunctionStandin, Standin, maker_of
from nbhvp.trace.numpy.joining import Joining
from nbhvp.trace.on_demand import complete
from nbhvp.trace.rules import CustomFunction, InTrace
from nbhvp.trace.scipy import sparse
from nbhvp.trace.scipy.sparse import Sparse, SparseConstant
from nbhvp.trace.surroundings.caches import CachedFunction
from nbhvp.trace.surroundings.closure import AbsenceWatch, Closure, ItemWatch, Watch, watch_array
from nbhvp.trace.surroundings.effects import Effects
from nbhvp.trace.surroundings.outside import (
    OutsideClass,
    OutsideFunction,
    Teller,
    Unwatched,
    has_reading_methods,
    is_told,
    what_is_hidden,
    what_is_read,
)
from nbhvp.trace.surroundings.ownership import home_of, is_foreign, is_open, module_of, public_name
from nbhvp.trace.surroundings.randomness import (
    ENTROPY,
    Entropy,
    Source,
    is_seeded,
    note_draws,
    owner_of,
)
from nbhvp.trace.surroundings.scope import Evaluation, Modules, ModuleStandin, Scope
from nbhvp.trace.surroundings.texts import note_reading
from nbhvp.trace.surroundings.walk import (
    Unwatchable,
    Walk,
    attributes_of,
    blank,
    class_items,
    is_atom,
    is_of_c,
    look_at,
)
from nbhvp.tree import Unravel

__all__ = ["Standins"]

_LIBRARIES = ("numpy", "scipy", "math")
_MODULES = (*_LIBRARIES, "random")
_DICTS = (dict, collections.OrderedDict, collections.defaultdict)
_CONTAINERS = (dict, list, set, frozenset, collections.deque)
"""Whose subclasses are asked for nothing more: their attributes may be their items."""
_HEAP_TYPE = 1 << 9
_PYTHONS_OWN = frozenset(vars(builtins))
_DERIVATIVES = ("grad", "value_and_grad", "hvp", "hessian", "jvp", "vjp", "jacobian")


# Whose code it is.


def _library_of(value) -> str:
    """The library that a function belongs to; ufuncs and bound C functions do not say."""
    if isinstance(value, np.ufunc):
        return "numpy"
    owner = getattr(value, "__self__", None)
    if arrays.is_ufunc_method(value):
        return "numpy"
    if isinstance(owner, types.ModuleType):
        return owner.__name__.partition(".")[0]
    return module_of(value).partition(".")[0]


# The stand-ins.


_NUMBERS_AND_TEXTS = frozenset((bool, int, float, complex, str, bytes, type(None)))


class Standins:
    """The stand-ins of one trace."""

    def __init__(self, recording: arrays.Recording, function=None):
        self._recording = recording
        self._home = module_of(_innermost(function)).partition(".")[0]
        self._made: dict[int, tuple[Any, Any]] = {}
        self._originals: dict[int, Any] = {}
        self._scopes: dict[int, Scope] = {}
        self._watches: list[Any] = []
        self._own_classes: dict[type, bool] = {}
        self._is_watching = True
        self._walk = Walk(self._is_own, what_is_hidden, self.of)
        self._effects = Effects(_original)
        self._calls = BuiltinCalls(self.of, _original)
        self.closure = Closure()
        """What the trace depends on, as of the latest `finish`."""
        self.closure.forgetting.append(weakref.WeakMethod(self._forget))

    @property
    def pool(self):
        return self._recording.pool

    def finish(self) -> None:
        """Add what the trace has seen since to its closure."""
        self._recording.see_draws()
        plain, sources = self._recording.plain_arrays, self._recording.sources
        self.closure.extend((*self._watches, *sources, *map(watch_array, plain.values())))
        for seen in (self._watches, sources, plain):
            seen.clear()

    @contextlib.contextmanager
    def settled(self) -> Iterator[None]:
        """Run a function, and tell its side effects, or make them happen."""
        effects = self._effects
        try:
            yield
            effects.end(self._made.values(), (scope.parts for scope in self._scopes.values()))
        finally:
            effects.release(self._made.values())
        if self._recording.is_always:
            effects.happen()
            return
        for text, place in effects.notes():
            self._recording.note(text, place)

    def resumed(self, run: Callable[[], Any]) -> Any:
        """What `run` gives, recorded into the trace after it was made: a derivative rule."""
        with self._recording, np.errstate(all="ignore"):
            result = run()
        self.finish()
        if self._recording.hidden_state is not None:
            raise TraceError(f"a derivative rule depends on {self._recording.hidden_state}")
        return result

    def of(self, value):
        """The stand-in of an object; the object itself where none is needed."""
        if type(value) in _NUMBERS_AND_TEXTS:
            return value
        if id(value) in self._made:
            return self._made[id(value)][1]
        if id(value) in self._originals:
            return value
        for applies, make in _KINDS:
            if applies(self, value):
                standin = make(self, value)
                if standin is not value:
                    self._effects.begin(value, standin)
                return standin
        return self._left_alone(value)

    def made(self, value):
        """The stand-in of an object that the function has made itself: nothing watches it."""
        before, self._is_watching = self._is_watching, False
        try:
            return self.of(value)
        finally:
            self._is_watching = before

    def _watch(self, value) -> None:
        """Watch an object and all that it holds."""
        if self._is_watching:
            self._watches += self._walk.watches(value)

    def _left_alone(self, value):
        """An object without a stand-in: what it holds is watched, or to use it is an error."""
        try:
            self._watch(value)
        except Unwatchable as reason:
            standin = value if self._recording.is_always else Unwatched(value, str(reason))
            return self._remember(value, standin)
        return self._remember(value, value)

    def _look_at(self, value) -> tuple:
        """What an object holds, which is watched."""
        watches, parts = look_at(value)
        self._watches += watches
        return parts

    def _remember(self, value, standin):
        # The value is kept too: its id must not be given to another object.
        self._made[id(value)] = (value, standin)
        if standin is not value:
            self._originals[id(standin)] = value
        return standin

    def _forget(self, value) -> None:
        """Hold an object no more: derivative rules that meet it again get another stand-in."""
        _, standin = self._made.pop(id(value), (None, None))
        self._originals.pop(id(standin), None)
        self._effects = Effects(_original)

    def watched(self, read: Callable, *args) -> Any:
        """What `read` gives, which is read again to see whether it has changed."""
        read = functools.partial(read, *args)
        seen = read()
        self._watches.append(Watch(read, seen))
        return seen

    def _is_own(self, module: str) -> bool:
        """Whether code of this module is the user's (or as plain), to be traced into."""
        own = module.partition(".")[0] == self._home != ""
        return own or is_open(module) or not is_foreign(module)

    # Data.

    def _array(self, value: np.ndarray) -> Traced | np.ndarray:
        """A constant; one of another byte order, or that is refused, becomes so where it meets x."""
        if value.dtype.hasobject:
            return self._left_alone(value)
        if is_plain(value):
            self._watches.append(watch_array(value))
        else:
            self._watch(value)  # a subclass has attributes
        array = value.view(np.ndarray)
        self._recording.hold(array)
        is_adopted = is_plain(value) and value.dtype.isnative
        return self._remember(
            value, arrays.adopt(array, refusal=arrays.NOT_OURS) if is_adopted else value
        )

    def _sparse(self, value) -> SparseConstant:
        for name in _PARTS_OF_SPARSE:
            part = self.watched(getattr, value, name, None)
            self._left_alone(part)
        return self._remember(value, SparseConstant(value))

    def _unravel(self, value: Unravel) -> Unravel:
        return self._remember(value, value.of_classes(self.of))

    def _object(self, value) -> arrays.LibraryObject:
        standin = self._remember(value, _object_standin(type(value))(value, self.of))
        with contextlib.suppress(Unwatchable):  # objects of C among these do not change
            self._watch(value)
        return standin

    def _list(self, value: list) -> list:
        standin = self._remember(value, [])
        self._look_at(value)
        standin.extend(map(self.of, value))
        return standin

    def _deque(self, value: collections.deque) -> collections.deque:
        standin = self._remember(value, collections.deque(maxlen=value.maxlen))
        self._look_at(value)
        standin.extend(map(self.of, value))
        return standin

    def _set(self, value: set) -> set:
        return self._remember(value, set(map(self.of, self._look_at(value))))

    def _dict(self, value: dict) -> dict:
        standin = self._remember(value, value.copy())
        standin.clear()
        self._look_at(value)
        for key, item in value.items():
            standin[self.of(key)] = self.of(item)
        return standin

    def _tuple(self, value: tuple) -> tuple:
        items = [self.of(item) for item in value]
        same = all(a is b for a, b in zip(items, value, strict=True))
        make = getattr(type(value), "_make", type(value))
        return self._remember(value, value if same else make(items))

    def _drawing(self, function):
        generator, name = owner_of(function)
        return getattr(self.of(generator), name)

    # Functions.

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        code, cells = function.__code__, function.__closure__ or ()
        self._recording.asks_identity |= asks_identity(code)
        self._recording.catches |= may_catch(code)
        if watches_errors(code):
            self._recording.watch_errors(watched)
        known = {id(cell) for cell in cells} & self._made.keys()
        copies = tuple(map(self._cell, cells))
        scope, called = function.__globals__, code
        is_own = self._is_own(home_of(function))  # and not what a library's decorator made of one
        if is_own:
            scope, called = self.scope_of(scope), redirected(code, scope)
        copy = types.FunctionType(called, scope, function.__name__, None, copies)
        self._remember(function, copy)
        self._look_at(function)
        copy.__dict__.update((name, self.of(value)) for name, value in vars(function).items())
        copy.__qualname__, copy.__module__ = function.__qualname__, function.__module__
        copy.__defaults__ = self.of(function.__defaults__)
        copy.__kwdefaults__ = self.of(function.__kwdefaults__)
        for cell, original in zip(copies, cells, strict=True):
            if id(original) not in known and original != types.CellType():
                cell.cell_contents = self.of(original.cell_contents)
                self._effects.begin(original, cell)
        if is_own:
            scope.fill(code)
        return copy

    def _cell(self, cell: types.CellType) -> types.CellType:
        if id(cell) not in self._made:
            self._remember(cell, types.CellType())
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
            self._scopes[id(names)] = Scope(names, self.item, self.missing, known)
        return self._scopes[id(names)]

    def item(self, names: dict, name: str):
        """The stand-in of a global, which is watched."""
        value = names[name]
        self._watches.append(ItemWatch(names, name, value))
        return self.of(value)

    def missing(self, names: dict, name: str):
        """A name that a module does not define: one of Python's own, or none."""
        self._watches.append(AbsenceWatch(names, name.removesuffix("()")))
        if name in _PYTHONS_OWN or name not in vars(builtins):
            return self.scope_of(names)["__builtins__"][name]
        return self.item(vars(builtins), name)

    def _import(self, *args, **kwargs):
        module = builtins.__import__(*args, **kwargs)
        complete()
        return self.of(module)

    def _import_module(self, function) -> Callable:
        return lambda *args: self.of(function(*args))

    def _method(self, method: types.MethodType) -> types.MethodType:
        return types.MethodType(self.of(method.__func__), self.of(method.__self__))

    def _object_method(self, method: types.MethodType | types.BuiltinMethodType):
        """A method of an object of a library, such as what scipy's factorized gives."""
        return getattr(self.of(method.__self__), method.__name__)

    def _partial(self, value: functools.partial) -> functools.partial:
        func, args, keywords = self._look_at(value)[:3]
        return functools.partial(self.of(func), *map(self.of, args), **self.of(keywords))

    def _unwrapped(self, value):
        inner = self.of(_wrapped(value))
        if isinstance(inner, types.FunctionType | FunctionStandin):
            for name in _DERIVATIVES:
                if hasattr(type(value), name):
                    setattr(inner, name, functools.partial(_refuse_nested, name))
        return inner

    def _cached(self, value) -> CachedFunction:
        return self._remember(value, CachedFunction(value, self.of, self._as_it_was))

    def _as_it_was(self, standin):
        """What a stand-in stands for; `NotImplemented` if it has been written since it was made."""
        value = self._originals.get(id(standin), standin)
        if value is standin:
            return _original(standin)
        held, before = attributes_of(standin), attributes_of(value)
        is_same = held.keys() == before.keys() and all(
            self.of(before[name]) is held[name] for name in held
        )
        return value if is_same and not issubclass(type(value), dict) else NotImplemented

    def _entered(self, value):
        return self._remember(value, maker_of(value)(self, value))

    def _library_function(self, value) -> LibraryFunction:
        return self._remember(value, LibraryFunction(value, self))

    def _custom(self, value: CustomFunction) -> InTrace:
        standin = self._remember(value, InTrace(value, self))
        standin.watch()
        return standin

    def _module(self, module: types.ModuleType) -> ModuleStandin:
        return self._remember(module, ModuleStandin(module, self))

    def binds(self, module: types.ModuleType, name: str) -> bool:
        """Whether code of the function may read and write a name of a module as a global."""
        is_written = id(vars(module)) in self._scopes and name in self.scope_of(vars(module)).bound
        return is_written or (self._is_own(module.__name__) and name in vars(module))

    def attribute(self, module: types.ModuleType, name: str):
        """The stand-in of an attribute of a module, of the user's or not."""
        value = getattr(module, name)  # its own error for a name that it has not
        complete()  # to get an attribute may have imported a part of SciPy
        if value is sys.modules:
            return Modules(self.of)
        is_code = isinstance(value, types.ModuleType | type) or callable(value)
        is_given = isinstance(value, types.FunctionType) and self._is_own(home_of(value))
        if is_code and not is_given:
            return self.of(value)
        if name in getattr(module, "__all__", ()) and module.__name__ in _LIBRARIES:
            return self.of(value)  # np.pi
        return self.of(self.watched(getattr, module, name, None))

    # Classes and their objects.

    def _class(self, kind: type) -> type:
        """A copy of a class, with copies of its bases, so that super() finds them."""
        fields = {
            name: value
            for name, value in vars(kind).items()
            if type(value) not in (types.GetSetDescriptorType, types.MemberDescriptorType)
        }
        # Their __set_name__ has been called, and knows the class itself.
        named = {n: fields.pop(n) for n, v in [*fields.items()] if hasattr(type(v), "__set_name__")}
        copy = type(kind)(kind.__name__, tuple(map(self._base, kind.__bases__)), fields)
        self._remember(kind, copy)
        self._look_at(kind)
        copy.__nbhvp_original__ = kind
        copy.__subclasses__ = staticmethod(lambda: [*map(self.of, self.watched(_subclasses, kind))])
        held = class_items(kind)
        for name, value in {**fields, **named}.items():
            standin = self._class_attribute(value) if name in held else value
            if standin is not value or name in named:
                setattr(copy, name, standin)
        return copy

    def _base(self, kind: type) -> type:
        return self.of(kind) if self._is_own_class(kind) else kind

    def _class_attribute(self, value):
        kind = type(value)
        if issubclass(kind, staticmethod | classmethod):
            return kind(self.of(value.__func__))
        if issubclass(kind, property):
            return kind(*(self.of(f) for f in (value.fget, value.fset, value.fdel)))
        if issubclass(kind, functools.cached_property):
            copy = functools.cached_property(self.of(value.func))
            copy.__set_name__(None, value.attrname)
            return copy
        return self.of(value)

    def _instance(self, value):
        """A shallow copy with stand-ins for its attributes."""
        copy = blank(self.of(type(value)), like=value)
        self._remember(value, copy)
        self._look_at(value)
        if issubclass(type(value), dict):
            for key, item in dict.items(value):
                dict.__setitem__(copy, self.of(key), self.of(item))
        for name, attribute in attributes_of(value).items():
            object.__setattr__(copy, name, self.of(attribute))
        return copy

    def _own_object(self, value):
        is_plain = self._is_shadowable(type(value))
        return self._instance(value) if is_plain else self._left_alone(value)

    def _is_shadowable(self, kind: type) -> bool:
        """Whether a class is plain enough for it and its objects to be copied."""
        return (
            type(kind) in (type, abc.ABCMeta)
            and self._is_all_own(kind)
            and not any(
                vars(base).keys() & _NOT_PLAIN for base in kind.__mro__ if base not in _PLAIN_BASES
            )
        )

    def _is_all_own(self, kind: type) -> bool:
        """Whether a class and all its bases are the user's."""
        if not kind.__flags__ & _HEAP_TYPE:
            return False  # it was made by C, as most that are met
        if kind not in self._own_classes:
            bases = [base for base in kind.__mro__ if base not in _PLAIN_BASES]
            self._own_classes[kind] = bool(bases) and all(map(self._is_own_class, bases))
        return self._own_classes[kind]

    def _is_own_class(self, kind: type) -> bool:
        module = module_of(kind)
        is_ours = module.partition(".")[0] == "nbhvp"  # as in an example in our own documentation
        return kind in _PLAIN_CLASSES or (not (is_ours or is_of_c(kind)) and self._is_own(module))


_NOT_PLAIN = {"__new__", "__init_subclass__", "__del__", "__nbhvp_original__"}
_PLAIN_CLASSES = (
    argparse.Namespace,
    collections.ChainMap,
    collections.UserDict,
    collections.UserList,
)
"""Classes of the standard library that hold data of the user's."""
_PLAIN_BASES = (
    object,
    dict,
    typing.Generic,
    typing.Protocol,
    abc.ABC,
    *argparse.Namespace.__mro__[1:],
    *collections.ChainMap.__mro__[1:],
    *collections.UserList.__mro__[1:],
)
_PARTS_OF_SPARSE = ("_shape", "data", "indices", "indptr", "coords", "offsets", "rows", "_dict")


def _wrapped(value):
    """The Python function inside a numba dispatcher or a function of ours, else None."""
    package = str(type(value).__module__).partition(".")[0]
    if package == "numba":
        return getattr(value, "py_func", None)
    if is_open(module_of(value)):  # a function behind __array_function__
        return getattr(value, "_implementation", None)
    return getattr(value, "__wrapped__", None) if package == "nbhvp" else None


def _subclasses(kind: type) -> tuple:
    return tuple(type.__subclasses__(kind))


def _innermost(function):
    """The function inside partials."""
    return _innermost(function.func) if isinstance(function, functools.partial) else function


def _refuse_nested(name: str, *args, **kwargs):
    raise arrays.trace_error(
        f".{name} of a differentiable function is called inside a traced one",
        "derivatives of derivatives are not followed: write the inner derivative out, or take "
        "products with f.hvp outside",
    )


def _given(value):
    """An argument of a library's function, which will use it."""
    if isinstance(value, Unwatched):
        return value.used()
    if type(value) in (list, tuple) and any(map(arrays.presents_array, value)):
        return type(value)(map(_given, value))
    return value.__array__() if arrays.presents_array(value) else _original(value)


def _original(value):
    if isinstance(value, SparseConstant):
        return value.matrix
    if isinstance(value, Sparse):
        return value.numbers
    if isinstance(value, arrays.LibraryObject):
        return value.original
    return value.function if isinstance(value, FunctionStandin) else value


_SPARSE = (scipy.sparse.sparray, scipy.sparse.spmatrix)


def _makes_standins(kind: type) -> bool:
    """Whether the objects of a class have stand-ins."""
    return issubclass(kind, _SPARSE) or _object_standin(kind) is not None


def _has_object_standin(value) -> bool:
    """Whether it is a method of an object whose stand-in has its own in the place of it."""
    if not isinstance(value, types.MethodType):
        return False
    kind = _object_standin(type(value.__self__))
    return kind is not None and hasattr(kind, value.__name__)


def _object_standin(kind: type) -> type | None:
    count, standin = _OBJECT_STANDINS.get(kind, (0, None))
    if count != len(CLASSES):  # they register themselves when they are first needed
        keys = (key for base in kind.__mro__ for key in (base, public_name(base)))
        standin = next((CLASSES[key] for key in keys if key in CLASSES), None)
        _OBJECT_STANDINS[kind] = len(CLASSES), standin
    return standin


_OBJECT_STANDINS: weakref.WeakKeyDictionary[type, tuple[int, type | None]] = (
    weakref.WeakKeyDictionary()
)


def _is_library_function(value) -> bool:
    if isinstance(value, type):
        return _makes_standins(value) or value in ANSWERS
    if not callable(value) or not hasattr(value, "__name__"):
        return False
    is_traced = is_open(module_of(value)) and value not in ANSWERS
    return _library_of(value) in _LIBRARIES and not is_traced


_KINDS = (
    (lambda s, v: s._is_all_own(type(v)), Standins._own_object),
    (lambda s, v: has_reading_methods(v), lambda s, v: OutsideClass(v, s.of)),
    (lambda s, v: is_atom(v), lambda s, v: v),
    (lambda s, v: issubclass(type(v), types.ModuleType), Standins._module),
    (lambda s, v: isinstance(v, _STANDINS), lambda s, v: v),
    (lambda s, v: isinstance(v, np.ndarray), Standins._array),
    (lambda s, v: scipy.sparse.issparse(v), Standins._sparse),
    (lambda s, v: isinstance(v, Unravel), Standins._unravel),
    (lambda s, v: _object_standin(type(v)) is not None, Standins._object),
    (lambda s, v: type(v) is list, Standins._list),
    (lambda s, v: type(v) in _DICTS, Standins._dict),
    (lambda s, v: type(v) is collections.deque, Standins._deque),
    (lambda s, v: type(v) is set, Standins._set),
    (lambda s, v: isinstance(v, tuple), Standins._tuple),
    (lambda s, v: issubclass(type(v), _CONTAINERS), Standins._left_alone),
    (lambda s, v: owner_of(v) is not None, Standins._drawing),
    (lambda s, v: id(v) in _ENTROPY, lambda s, v: Entropy(v)),
    (lambda s, v: isinstance(v, CustomFunction), Standins._custom),
    (lambda s, v: what_is_read(v) is not None, lambda s, v: OutsideFunction(v, what_is_read(v))),
    (lambda s, v: is_told(v), lambda s, v: Teller(v)),
    (lambda s, v: v is importlib.import_module, Standins._import_module),
    (lambda s, v: type(v) is functools._lru_cache_wrapper, Standins._cached),
    (lambda s, v: maker_of(v) is not None, Standins._entered),
    (lambda s, v: _has_object_standin(v), Standins._object_method),
    (lambda s, v: _wrapped(v) is not None, Standins._unwrapped),
    (lambda s, v: _is_library_function(v), Standins._library_function),
    (
        lambda s, v: isinstance(v, types.FunctionType) and s._is_own(module_of(v)),
        Standins._function,
    ),
    (lambda s, v: isinstance(v, types.MethodType), Standins._method),
    (lambda s, v: _object_standin(type(getattr(v, "__self__", None))), Standins._object_method),
    (lambda s, v: isinstance(v, functools.partial), Standins._partial),
    (lambda s, v: v is np.r_ or v is np.c_, lambda s, v: Joining(v)),
    (lambda s, v: isinstance(v, type) and s._is_shadowable(v), Standins._class),
)


# Functions of the libraries.


class LibraryFunction(FunctionStandin):
    """A function of NumPy, SciPy or math that sees traced arguments however deep they are."""

    def __init__(self, function: Callable, standins: Standins):
        self.function = function
        self._standins = standins

    def __call__(self, *args, **kwargs):
        function = self.function
        handler = sparse.answer(function, args, kwargs)
        if handler is not None:
            return handler(*args, **kwargs)
        note_reading(*args)
        given, seeded = (*args, *kwargs.values()), is_seeded(function, args, kwargs)
        note_draws(function, args, kwargs)
        args = tuple(map(_given, args))
        kwargs = {key: _given(arg) for key, arg in kwargs.items()}
        if _library_of(function) == "math":
            return call_math(function, args, kwargs)
        result = arrays.call(function, args, kwargs)
        owner = getattr(result, "__self__", None)
        known = _makes_standins(type(result)) or _makes_standins(type(owner))
        result = self._standins.made(result) if known else result
        if isinstance(result, Source) and all(
            _original(arg) is not result.original for arg in given
        ):
            result.made(bool(seeded))
        return result

    def __getattr__(self, name: str):
        value = getattr(self.function, name)
        return self._standins.made(value) if arrays.is_ufunc_method(value) else value

    def __repr__(self) -> str:
        return repr(self.function)


_STANDINS = (
    Standin, Traced, Sparse, SparseConstant, arrays.LibraryObject, ModuleStandin,
)  # fmt: skip
_ENTROPY = frozenset(map(id, ENTROPY))
