"""Stand-ins of functions, methods, partials and modules.

A function of the user's becomes a copy whose globals, closure cells and defaults are stand-ins. A
function of a library becomes a `LibraryFunction`. A method becomes the method of its object's
stand-in. `of_code` decides whether a function belongs to the user or to a library; its tests have a
fixed order.
"""

from __future__ import annotations

import functools
import importlib
import types
from collections.abc import Callable

from nbhvp.trace.branches.exceptions import may_catch, may_raise, watched, watches_errors
from nbhvp.trace.following.builtin_calls import asks_identity, redirected
from nbhvp.trace.following.classes import class_copy, new_class, object_copy
from nbhvp.trace.following.library import LibraryFunction, is_library_function
from nbhvp.trace.kinds import FunctionStandin, library_class, stands_for
from nbhvp.trace.surroundings.ownership import home_of, module_of
from nbhvp.trace.surroundings.scope import ModuleStandin, Scope

__all__ = ["of_code", "source_copy"]


def of_code(standins, value):
    """The stand-in of a function, a method, a class or an object of a library by whose it is;
    `NotImplemented` if none.
    """
    if type(value) is types.FunctionType and type(value.__globals__) is Scope:
        return value  # it was made in the trace
    if standins.is_followed(type(value)):
        return object_copy(standins, value)
    if _is_answered_method(value):
        return _object_method(standins, value)
    if _wrapped(value) is not None:
        return standins.of(_wrapped(value))
    if is_library_function(value):
        if isinstance(value, types.MethodType):
            owner = standins.of(value.__self__)  # which is watched
            kind = type(value.__self__)
            if standins.is_followed(kind) and library_class(kind) is None:
                return types.MethodType(standins.of(value.__func__), owner)
        return standins.remember(value, LibraryFunction(value, standins))
    if isinstance(value, types.FunctionType) and standins.is_own(module_of(value)):
        return _copy(standins, value)
    if isinstance(value, types.MethodType):
        if standins.is_own(module_of(value.__func__)):  # copied first, as notes look there first
            return types.MethodType(standins.of(value.__func__), standins.of(value.__self__))
        owner = standins.of(value.__self__)
        if issubclass(type(owner), FunctionStandin):  # of a function with derivatives
            return getattr(owner, value.__name__)
        return types.MethodType(standins.of(value.__func__), owner)
    if library_class(type(getattr(value, "__self__", None))):
        return _object_method(standins, value)
    if isinstance(value, type) and (
        standins.classes.may_be_copied(value) or standins.is_followed(value)
    ):
        return new_class(standins, value)
    return NotImplemented


# The user's own.


def _copy(standins, function: types.FunctionType) -> types.FunctionType:
    """A copy of a function of the user's."""
    code = function.__code__
    standins.recording.asks_identity |= asks_identity(code)
    standins.recording.catches |= may_catch(code)
    if watches_errors(code):
        standins.recording.watch_errors(watched)
    # What a library's decorator made of one is not the user's.
    return _filled_copy(standins, function, standins.is_own(home_of(function)), standins.remember)


def source_copy(standins, function: types.FunctionType) -> types.FunctionType:
    """The copy of a function of a library that is followed."""
    if function not in standins.sources:
        if may_raise(function.__code__):
            standins.recording.watch_errors(watched)
        with standins.trusting("<locals>" not in function.__qualname__):
            _filled_copy(standins, function, True, standins.sources.__setitem__)
    return standins.sources[function]


def _filled_copy(standins, function: types.FunctionType, has_scope: bool, keep: Callable):
    """A copy with stand-ins for all that the function reads outside its arguments; kept before it
    is filled, since it may hold itself."""
    code, cells = function.__code__, function.__closure__ or ()
    filled = [standins.is_made(cell) for cell in cells]
    copies = tuple(map(standins.cell, cells))
    scope, called = function.__globals__, code
    if has_scope:
        scope, called = standins.scope_of(scope), redirected(code, scope)
    copy = types.FunctionType(called, scope, function.__name__, None, copies)
    keep(function, copy)
    standins.look_at(function)
    copy.__dict__.update((name, standins.of(value)) for name, value in vars(function).items())
    copy.__qualname__, copy.__module__ = function.__qualname__, function.__module__
    copy.__defaults__ = standins.of(function.__defaults__)
    copy.__kwdefaults__ = standins.of(function.__kwdefaults__)
    of_class = code.co_freevars.index("__class__") if "__class__" in code.co_freevars else -1
    for k, (cell, original) in enumerate(zip(copies, cells, strict=True)):
        if not filled[k] and original != types.CellType():
            held = original.cell_contents
            is_super = k == of_class and standins.classes.is_written(held)
            cell.cell_contents = class_copy(standins, held) if is_super else standins.of(held)
            standins.begin(original, cell)
    if has_scope:
        scope.fill(code)
    return copy


@stands_for(functools.partial)
def _partial(standins, value: functools.partial) -> functools.partial:
    func, args, keywords = standins.look_at(value)[:3]
    of = standins.of
    standin = functools.partial(of(func), *map(of, args), **of(keywords))
    return standins.remember(value, standin)


@stands_for(types.ModuleType)
def _module(standins, module: types.ModuleType) -> ModuleStandin:
    return standins.remember(module, ModuleStandin(module, standins))


@stands_for(objects=(importlib.import_module,))
def _import_module(standins, function) -> Callable:
    return lambda *args: standins.of(function(*args))


# Functions inside others.


def _wrapped(value):
    """The Python function inside a numba dispatcher, else None."""
    package = str(type(value).__module__).partition(".")[0]
    return getattr(value, "py_func", None) if package == "numba" else None


# Methods of objects that have stand-ins.


def _is_answered_method(value) -> bool:
    """Whether it is a method of an object whose stand-in has its own in the place of it."""
    if not isinstance(value, types.MethodType):
        return False
    kind = library_class(type(value.__self__))
    return kind is not None and hasattr(kind, value.__name__)


def _object_method(standins, method: types.MethodType | types.BuiltinMethodType):
    """A method of an object of a library, such as what scipy's factorized gives."""
    return getattr(standins.of(method.__self__), method.__name__)
