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
import builtins
import collections
import copyreg
import functools
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from nbhvp.errors import TraceError
from nbhvp.trace import arrays, sparse
from nbhvp.trace.arrays import HANDLERS, Traced, lift, weaken
from nbhvp.trace.builtin_calls import BuiltinCalls, asks_identity, redirected
from nbhvp.trace.compiled_functions import (
    CompiledFunction,
    first_draw,
    is_compiled,
    is_vectorized,
)
from nbhvp.trace.on_demand import complete
from nbhvp.trace.plain import is_plain
from nbhvp.trace.randomness import ENTROPY, Entropy, Source, is_seeded, note_draws, owner_of
from nbhvp.trace.rules import CustomFunction, InTrace
from nbhvp.trace.sparse import Sparse, SparseConstant
from nbhvp.trace.structure import Unravel

__all__ = ["Closure", "Standins", "Watch", "names_in", "watch_array"]

_SAMPLES = 1024
_LIBRARIES = ("numpy", "scipy", "math")
_MODULES = (*_LIBRARIES, "random", "os", "secrets", "uuid")
_OPEN = ("numpy.polynomial",)
"""Library packages of plain Python over NumPy's functions: traced into as the user's own code is."""
_IMMUTABLE = (bool, int, float, complex, str, bytes, np.generic)
_DICTS = (dict, collections.OrderedDict, collections.defaultdict)
_DERIVATIVES = ("grad", "value_and_grad", "hvp", "hessian", "jvp", "vjp", "jacobian")


# What a trace saw of its surroundings.


@dataclass(frozen=True)
class Watch:
    """One thing that was read, and how to read it again."""

    read: Callable[[], Any]
    seen: Any
    is_name: bool = True
    """Whether it is a name, and not the content of an array."""


def _same(a, b) -> bool:
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return isinstance(a, (*_IMMUTABLE, Unravel)) and bool(a == b)


class Closure:
    """The globals, cells, attributes and arrays outside its arguments that a trace depends on."""

    def __init__(self, watches: Iterable[Watch] = ()):
        self.watches: tuple[Watch, ...] = ()
        self.extend(watches)

    def extend(self, watches: Iterable[Watch]) -> None:
        """Watch more: what the derivative rules of a trace turn out to depend on."""
        self.watches = (*self.watches, *watches)
        self._names = tuple((watch.read, watch.seen) for watch in self.watches if watch.is_name)
        self._samples = tuple(
            (watch.read, watch.seen) for watch in self.watches if not watch.is_name
        )

    def changed(self) -> bool:
        """Whether a name means another object now, or the sample of an array has changed."""
        for read, seen in self._samples:
            if read() != seen:
                return True
        return self.rebound()

    def rebound(self) -> bool:
        """Whether a name means another object now: the part of `changed` that is cheap."""
        # Plain loops over pairs, since each call of a small function waits for them.
        for read, seen in self._names:
            now = read()
            if now is not seen and not _same(now, seen):
                return True
        return False


def watch_array(array: np.ndarray) -> Watch:
    """A watch on at most about two thousand elements, evenly spaced: on all of a small array."""
    step = max(1, array.size // _SAMPLES)
    if step == 1:
        read = array.tobytes
    elif array.flags.c_contiguous:
        read = array.reshape(-1)[::step].tobytes
    else:
        read = functools.partial(_sample, array, step)
    return Watch(read, read(), is_name=False)


def _sample(array: np.ndarray, step: int) -> bytes:
    return array.flat[::step].tobytes()


# Whose code it is.


@functools.cache
def _is_foreign(name: str) -> bool:
    """Whether a module belongs to the standard library or is installed, by its top-level package."""
    package = name.partition(".")[0]
    if package in ("nbhvp", "numpy", "scipy", "numba") or package in sys.stdlib_module_names:
        return package != "__main__"
    file = Path(getattr(sys.modules.get(package), "__file__", None) or "")
    return not {"site-packages", "dist-packages"}.isdisjoint(file.parts)


def _is_open(module: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in _OPEN)


def _library_of(value) -> str:
    """The library that a function belongs to; ufuncs and bound C functions do not say."""
    if isinstance(value, np.ufunc):
        return "numpy"
    owner = getattr(value, "__self__", None)
    if isinstance(owner, types.ModuleType):
        return owner.__name__.partition(".")[0]
    return arrays.module_of(value).partition(".")[0]


# The stand-ins.


class Standins:
    """The stand-ins of one trace."""

    def __init__(self, recording: arrays.Recording, function=None):
        self._recording = recording
        self._home = arrays.module_of(function).partition(".")[0]
        self._made: dict[int, tuple[Any, Any]] = {}
        self._scopes: dict[int, tuple[set[str], dict]] = {}
        self._watches: list[Watch] = []
        self._calls = BuiltinCalls(self.of, _original)
        self.closure = Closure()
        """What the trace depends on, as of the latest `finish`."""

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
        if id(value) in self._made:
            return self._made[id(value)][1]
        for applies, make in _KINDS:
            if applies(self, value):
                return make(self, value)
        return value

    def _remember(self, value, standin):
        # The value is kept too: its id must not be given to another object.
        self._made[id(value)] = (value, standin)
        return standin

    def watched(self, read: Callable, *args) -> Any:
        """What `read` gives, which is read again to see whether it has changed."""
        read = functools.partial(read, *args)
        seen = read()
        self._watches.append(Watch(read, seen))
        return seen

    def _is_own(self, module: str) -> bool:
        """Whether code of this module is the user's (or as plain), to be traced into."""
        own = module.partition(".")[0] == self._home != ""
        return own or _is_open(module) or not _is_foreign(module)

    # Data.

    def _array(self, value: np.ndarray) -> Traced | np.ndarray:
        """A constant; one of another byte order, or that is refused, becomes so where it meets x."""
        array = value.view(np.ndarray)
        self._watches.append(watch_array(array))
        self._recording.hold(array)
        is_adopted = is_plain(value) and value.dtype.isnative
        return self._remember(
            value, arrays.adopt(array, refusal=arrays.NOT_OURS) if is_adopted else value
        )

    def _sparse(self, value) -> SparseConstant:
        for name in ("data", "indices", "indptr", "row", "col", "offsets"):
            part = getattr(value, name, None)
            if isinstance(part, np.ndarray) and part.dtype != object:
                self._watches.append(watch_array(part))
        return self._remember(value, SparseConstant(value))

    def _unravel(self, value: Unravel) -> Unravel:
        return self._remember(value, value.of_classes(self.of))

    def _object(self, value) -> arrays.LibraryObject:
        return self._remember(value, _object_standin(type(value))(value, self.of))

    def _list(self, value: list) -> list:
        standin = self._remember(value, [])
        standin.extend(map(self.of, self.watched(tuple, value)))
        return standin

    def _deque(self, value: collections.deque) -> collections.deque:
        standin = self._remember(value, collections.deque(maxlen=value.maxlen))
        standin.extend(map(self.of, self.watched(tuple, value)))
        return standin

    def _set(self, value: set) -> set:
        return self._remember(value, set(map(self.of, self.watched(tuple, value))))

    def _dict(self, value: dict) -> dict:
        standin = self._remember(value, value.copy())
        standin.update((key, self.of(item)) for key, item in self.watched(_items, value))
        return standin

    def _namespace(self, value: types.SimpleNamespace) -> types.SimpleNamespace:
        standin = self._remember(value, types.SimpleNamespace())
        vars(standin).update(
            (name, self.of(item)) for name, item in self.watched(_items, vars(value))
        )
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
        known = {id(cell) for cell in cells} & self._made.keys()
        copies = tuple(map(self._cell, cells))
        names, scope = self._scope_of(function)
        called = redirected(code, function.__globals__)
        copy = types.FunctionType(called, scope, function.__name__, None, copies)
        self._remember(function, copy)
        copy.__dict__.update(function.__dict__)
        copy.__qualname__, copy.__module__ = function.__qualname__, function.__module__
        copy.__defaults__ = self.of(self.watched(getattr, function, "__defaults__"))
        copy.__kwdefaults__ = self.of(self.watched(getattr, function, "__kwdefaults__"))
        for cell, original in zip(copies, cells, strict=True):
            if id(original) not in known and _contents(original) is not _EMPTY:
                cell.cell_contents = self.of(self.watched(_contents, original))
        for name in {*names_in(code)} & function.__globals__.keys() - names:
            names.add(name)
            scope[name] = self.of(self.watched(function.__globals__.get, name))
        return copy

    def _cell(self, cell: types.CellType) -> types.CellType:
        if id(cell) not in self._made:
            self._remember(cell, types.CellType())
        return self._made[id(cell)][1]

    def _scope_of(self, function) -> tuple[set[str], dict]:
        """The one copy of a module's globals, and the names that have their stand-ins in it."""
        original = function.__globals__
        if id(original) not in self._scopes:
            ours = {**self._calls.names(), "__import__": self._import}
            scope = {**original, "__builtins__": {**vars(builtins), **ours}}
            self._scopes[id(original)] = (set(), scope)
        return self._scopes[id(original)]

    def _import(self, *args, **kwargs):
        module = builtins.__import__(*args, **kwargs)
        complete()
        return self.of(module)

    def _method(self, method: types.MethodType) -> types.MethodType:
        return types.MethodType(self.of(method.__func__), self.of(method.__self__))

    def _object_method(self, method: types.MethodType | types.BuiltinMethodType):
        """A method of an object of a library, such as what scipy's factorized gives."""
        return getattr(self.of(method.__self__), method.__name__)

    def _partial(self, value: functools.partial) -> functools.partial:
        args, keywords = map(self.of, value.args), self.of(value.keywords)
        return functools.partial(self.of(value.func), *args, **keywords)

    def _unwrapped(self, value):
        inner = self.of(_wrapped(value))
        if isinstance(inner, types.FunctionType | CompiledFunction):
            for name in _DERIVATIVES:
                if hasattr(type(value), name):
                    setattr(inner, name, functools.partial(_refuse_nested, name))
        return inner

    def _compiled(self, value) -> CompiledFunction:
        return self._remember(value, CompiledFunction(value, lambda: self.of(value.py_func)))

    def _vectorized(self, value):
        """One that is not followed, and refused where it meets a traced value."""
        return self._remember(value, Entropy(value) if first_draw(value) else value)

    def _library_function(self, value) -> LibraryFunction:
        return self._remember(value, LibraryFunction(value, self))

    def _custom(self, value: CustomFunction) -> InTrace:
        standin = self._remember(value, InTrace(value, self))
        standin.watch()
        return standin

    def _module(self, module: types.ModuleType) -> ModuleStandin:
        return self._remember(module, ModuleStandin(module, self))

    def attribute(self, module: types.ModuleType, name: str):
        """The stand-in of an attribute of a module."""
        if module.__name__.partition(".")[0] in _MODULES:
            value = getattr(module, name)  # which may import a part of SciPy
            complete()
            return self.of(value)
        getattr(module, name)  # its own error for a name that it has not
        return self.of(self.watched(getattr, module, name, None))

    # Classes and their objects.

    def _class(self, kind: type) -> type:
        """A copy of a class, with copies of its bases, so that super() finds them."""
        fields = {
            name: value
            for name, value in vars(kind).items()
            if not isinstance(value, types.GetSetDescriptorType | types.MemberDescriptorType)
        }
        copy = type(kind)(kind.__name__, tuple(map(self.of, kind.__bases__)), fields)
        self._remember(kind, copy)
        self.watched(_class_items, kind)
        copy.__nbhvp_original__ = kind
        for name, value in fields.items():
            standin = value if name.startswith("__dataclass") else self._class_attribute(value)
            if standin is not value:
                setattr(copy, name, standin)
        return copy

    def _class_attribute(self, value):
        if isinstance(value, staticmethod | classmethod):
            return type(value)(self.of(value.__func__))
        if isinstance(value, property):
            return property(*(self.of(f) for f in (value.fget, value.fset, value.fdel)))
        if isinstance(value, functools.cached_property):
            copy = functools.cached_property(self.of(value.func))
            copy.__set_name__(None, value.attrname)
            return copy
        copied = (types.FunctionType, np.ndarray, list, dict, set)
        return self.of(value) if isinstance(value, copied) else value

    def _instance(self, value):
        """A shallow copy with stand-ins for its attributes."""
        copy = object.__new__(self.of(type(value)))
        self._remember(value, copy)
        for name in self.watched(_attribute_names, value):
            attribute = self.watched(getattr, value, name, None)
            object.__setattr__(copy, name, self.of(attribute))
        return copy

    def _opaque(self, value):
        """An object of the user's that is not copied; what it holds is watched all the same."""
        self._remember(value, value)
        for content in (_held, _listed):
            for item in self.watched(content, value):
                self.of(item)
        return value

    def _is_opaque(self, value) -> bool:
        kind = value if isinstance(value, type) else type(value)
        return arrays.module_of(kind) != "builtins" and self._is_own(arrays.module_of(kind))

    def _is_shadowable(self, kind: type) -> bool:
        """Whether a class is plain enough for it and its objects to be copied."""
        bases = [base for base in kind.__mro__ if base not in _PLAIN_BASES]
        return (
            type(kind) in (type, abc.ABCMeta)
            and bool(bases)
            and all(self._is_own(arrays.module_of(base)) for base in bases)
            and not any(vars(base).keys() & _NOT_PLAIN for base in bases)
        )


_NOT_PLAIN = {"__new__", "__init_subclass__", "__del__", "__nbhvp_original__"}
_PLAIN_BASES = (object, typing.Generic, typing.Protocol, abc.ABC)


def _items(mapping: dict) -> tuple:
    return tuple(mapping.items())


def _held(value) -> tuple:
    """The attributes of an object, flat; those of a class without what Python keeps there."""
    if isinstance(value, type):
        return tuple(part for item in _class_items(value) for part in item)
    names = _attribute_names(value)
    return (*names, *(getattr(value, name, None) for name in names))


def _listed(value) -> tuple:
    """The items of an object that is a list, set or dict too."""
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    return tuple(value) if isinstance(value, list | set | collections.deque) else ()


def _class_items(kind: type) -> tuple:
    """What a class defines, without what Python itself keeps there."""
    return tuple(item for item in vars(kind).items() if not item[0].startswith("__"))


_EMPTY = object()


def _contents(cell: types.CellType):
    try:
        return cell.cell_contents
    except ValueError:
        return _EMPTY


def names_in(code: types.CodeType) -> Iterator[str]:
    """The names that a function and the functions inside it may look up in their globals."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_in(constant)


def _attribute_names(value) -> tuple[str, ...]:
    filled = (name for name in copyreg._slotnames(type(value)) if hasattr(value, name))
    return (*getattr(value, "__dict__", ()), *filled)


def _wrapped(value):
    """The Python function inside a cache, a numba dispatcher or a function of ours, else None."""
    if isinstance(value, functools._lru_cache_wrapper):
        return value.__wrapped__
    package = str(type(value).__module__).partition(".")[0]
    if package == "numba":
        return getattr(value, "py_func", None)
    if _is_open(arrays.module_of(value)):  # a function behind __array_function__
        return getattr(value, "_implementation", None)
    return getattr(value, "__wrapped__", None) if package == "nbhvp" else None


def _refuse_nested(name: str, *args, **kwargs):
    raise arrays.trace_error(
        f".{name} of a differentiable function is called inside a traced one",
        "derivatives of derivatives are not followed: write the inner derivative out, or take "
        "products with f.hvp outside",
    )


def _original(value):
    if isinstance(value, SparseConstant):
        return value.matrix
    if isinstance(value, Sparse):
        return value.numbers
    if isinstance(value, arrays.LibraryObject):
        return value.original
    return value.function if isinstance(value, LibraryFunction | CompiledFunction) else value


def _makes_standins(kind: type) -> bool:
    """Whether the objects of a class have stand-ins."""
    sparse = scipy.sparse.sparray | scipy.sparse.spmatrix
    return issubclass(kind, sparse) or _object_standin(kind) is not None


def _has_object_standin(value) -> bool:
    """Whether it is a method of an object whose stand-in has its own in the place of it."""
    if not isinstance(value, types.MethodType):
        return False
    kind = _object_standin(type(value.__self__))
    return kind is not None and hasattr(kind, value.__name__)


def _object_standin(kind: type) -> type | None:
    keys = (key for base in kind.__mro__ for key in (base, arrays.public_name(base)))
    return next((arrays.OBJECTS[key] for key in keys if key in arrays.OBJECTS), None)


def _is_library_function(value) -> bool:
    if isinstance(value, type):
        return _makes_standins(value) or value in HANDLERS
    if not callable(value) or not hasattr(value, "__name__"):
        return False
    is_open = _is_open(arrays.module_of(value)) and value not in HANDLERS
    return _library_of(value) in _LIBRARIES and not is_open


_KINDS = (
    (lambda s, v: isinstance(v, _IMMUTABLE) or v is None, lambda s, v: v),
    (
        lambda s, v: isinstance(
            v,
            Traced
            | Sparse
            | SparseConstant
            | LibraryFunction
            | CompiledFunction
            | arrays.LibraryObject,
        ),
        lambda s, v: v,
    ),
    (lambda s, v: isinstance(v, np.ndarray), Standins._array),
    (lambda s, v: scipy.sparse.issparse(v), Standins._sparse),
    (lambda s, v: isinstance(v, Unravel), Standins._unravel),
    (lambda s, v: _object_standin(type(v)) is not None, Standins._object),
    (lambda s, v: type(v) is list, Standins._list),
    (lambda s, v: type(v) in _DICTS, Standins._dict),
    (lambda s, v: type(v) is collections.deque, Standins._deque),
    (lambda s, v: type(v) is set, Standins._set),
    (lambda s, v: type(v) is types.SimpleNamespace, Standins._namespace),
    (lambda s, v: isinstance(v, tuple), Standins._tuple),
    (lambda s, v: owner_of(v) is not None, Standins._drawing),
    (lambda s, v: any(v is function for function in ENTROPY), lambda s, v: Entropy(v)),
    (lambda s, v: is_vectorized(v), Standins._vectorized),
    (lambda s, v: isinstance(v, CustomFunction), Standins._custom),
    (lambda s, v: is_compiled(v), Standins._compiled),
    (lambda s, v: _has_object_standin(v), Standins._object_method),
    (lambda s, v: _wrapped(v) is not None, Standins._unwrapped),
    (lambda s, v: _is_library_function(v), Standins._library_function),
    (
        lambda s, v: isinstance(v, types.FunctionType) and s._is_own(arrays.module_of(v)),
        Standins._function,
    ),
    (lambda s, v: isinstance(v, types.MethodType), Standins._method),
    (lambda s, v: _object_standin(type(getattr(v, "__self__", None))), Standins._object_method),
    (lambda s, v: isinstance(v, functools.partial), Standins._partial),
    (
        lambda s, v: (
            isinstance(v, types.ModuleType)
            and (v.__name__.partition(".")[0] in _MODULES or s._is_own(v.__name__))
        ),
        Standins._module,
    ),
    (lambda s, v: v is np.r_ or v is np.c_, lambda s, v: Joining(v)),
    (lambda s, v: isinstance(v, type) and s._is_shadowable(v), Standins._class),
    (lambda s, v: not isinstance(v, type) and s._is_shadowable(type(v)), Standins._instance),
    (lambda s, v: s._is_opaque(v), Standins._opaque),
)


# Modules and functions of the libraries.


class ModuleStandin:
    """A module whose attributes are stand-ins."""

    def __init__(self, module: types.ModuleType, standins: Standins):
        self.__dict__.update(_module=module, _standins=standins)

    def __getattr__(self, name: str):
        value = self._standins.attribute(self._module, name)
        self.__dict__[name] = value
        return value

    def __repr__(self) -> str:
        return repr(self._module)


class LibraryFunction:
    """A function of NumPy, SciPy or math that sees traced arguments however deep they are."""

    def __init__(self, function: Callable, standins: Standins):
        self.function = function
        self._standins = standins

    def __call__(self, *args, **kwargs):
        function = self.function
        handler = sparse.answer(function, args, kwargs)
        if handler is not None:
            return handler(*args, **kwargs)
        given, seeded = (*args, *kwargs.values()), is_seeded(function, args, kwargs)
        note_draws(function, args, kwargs)
        args = tuple(_original(arg) for arg in args)
        kwargs = {key: _original(arg) for key, arg in kwargs.items()}
        if _library_of(function) == "math":
            return _call_math(function, args, kwargs)
        result = arrays.call(function, args, kwargs)
        owner = getattr(result, "__self__", None)
        known = _makes_standins(type(result)) or _makes_standins(type(owner))
        result = self._standins.of(result) if known else result
        if isinstance(result, Source) and all(
            _original(arg) is not result.original for arg in given
        ):
            result.made(bool(seeded))
        return result

    def __getattr__(self, name: str):
        return getattr(self.function, name)

    def __repr__(self) -> str:
        return repr(self.function)


class Joining:
    """np.r_ and np.c_ of arrays and numbers."""

    def __init__(self, plain):
        self._plain = plain

    def __getitem__(self, items):
        items = items if isinstance(items, tuple) else (items,)
        if not any(isinstance(item, Traced) for item in items):
            return arrays.call(self._plain.__getitem__, (items,), {})
        if any(isinstance(item, str) for item in items):
            raise arrays.trace_error(
                "np.r_ and np.c_ with a directive in a string are not supported",
                "use np.concatenate or np.stack",
            )
        items = [self._plain[item] if isinstance(item, slice) else lift(item) for item in items]
        if self._plain is np.c_:
            return HANDLERS[np.column_stack](items)
        return HANDLERS[np.concatenate]([HANDLERS[np.atleast_1d](item) for item in items])


# math: Python numbers in, Python numbers out.


def _call_math(function, args, kwargs):
    handler = HANDLERS.get(function)
    if handler is None or not any(True for _ in arrays.traced_in(args, kwargs)):
        return function(*args, **kwargs)
    # Python's own error outside the domain, where NumPy would give NaN.
    function(*arrays.map_traced(_value, args), **arrays.map_traced(_value, kwargs))
    args, kwargs = arrays.map_traced(_as_double, args), arrays.map_traced(_as_double, kwargs)
    return arrays.map_traced(_as_number, handler(*args, **kwargs))


def _value(x: Traced):
    return x.value


def _as_double(x: Traced) -> Traced:
    return weaken(x.astype(float)) if x.ndim == 0 and x.dtype.kind == "f" else x


def _as_number(x: Traced) -> Traced:
    return weaken(x) if x.ndim == 0 else x
