"""Stand-ins of classes and of their objects: copies whose attributes are stand-ins.

A class is copied if Python code of the user, NumPy or SciPy defines it and all its bases, and if no
special code runs when the class, its objects or its subclasses are made. Its objects are copied
attribute by attribute. The bases of a copied class are copied too, so that `super()` finds them.
"""

from __future__ import annotations

import abc
import argparse
import collections
import functools
import types
import typing
from collections.abc import Callable

from nbhvp.trace.following.library import LibraryFunction
from nbhvp.trace.surroundings.ownership import is_library, module_of
from nbhvp.trace.surroundings.walk import (
    attributes_of,
    blank,
    class_items,
    dictionary_of,
    is_of_c,
)

__all__ = ["Followed", "OwnClasses", "new_class", "object_copy", "own_object"]

_HEAP_TYPE = 1 << 9
_NOT_PLAIN = {"__new__", "__init_subclass__", "__del__", "__nbhvp_original__"}
_OF_CYTHON = "cython_function_or_method"
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


class Followed(type):
    """The class of the copies of a library's classes: an object of constants is the library's own."""

    def __call__(cls, *args, **kwargs):
        library = vars(cls).get("__nbhvp_library__")
        if library is None or any(map(library.is_live, (*args, *kwargs.values()))):
            return super().__call__(*args, **kwargs)
        return library.call(cls.__nbhvp_original__, args, kwargs)


class _FollowedABC(Followed, abc.ABCMeta):
    """The same of abstract classes."""


_METACLASSES = {type: Followed, abc.ABCMeta: _FollowedABC}
"""From the class of a library's class to that of its copy."""


class OwnClasses:
    """Which classes are the user's, and which are followed in libraries.

    Parameters
    ----------
    is_own : callable
        Whether code of a module is the user's, by its name.
    """

    def __init__(self, is_own: Callable[[str], bool]):
        self._is_own_module = is_own
        self._known: dict[type, bool] = {}
        self._followed: dict[type, bool] = {}

    def is_own(self, kind: type) -> bool:
        module = module_of(kind)
        is_ours = module.partition(".")[0] == "nbhvp"  # as in an example in our own documentation
        return kind in _PLAIN_CLASSES or (
            not (is_ours or is_of_c(kind)) and self._is_own_module(module)
        )

    def is_all_own(self, kind: type) -> bool:
        """Whether a class and all its bases are the user's."""
        if not kind.__flags__ & _HEAP_TYPE:
            return False  # it was made by C, as most that are met
        if kind not in self._known:
            bases = [base for base in kind.__mro__ if base not in _PLAIN_BASES]
            self._known[kind] = bool(bases) and all(map(self.is_own, bases))
        return self._known[kind]

    def may_be_copied(self, kind: type) -> bool:
        """Whether a class is plain enough for it and its objects to be copied."""
        return self.is_all_own(kind) and _is_plain(kind)

    def is_followed(self, kind: type) -> bool:
        """Whether a class is one of a library's, or based on one, that is copied."""
        if not kind.__flags__ & _HEAP_TYPE:
            return False
        if kind not in self._followed:
            bases = [base for base in kind.__mro__ if base not in _PLAIN_BASES]
            self._followed[kind] = (
                any(is_library(module_of(base)) for base in bases)
                and all(map(self.is_written, bases))
                and _is_plain(kind)
                and not hasattr(kind, "__enter__")  # it acts on the state of the program
                and not issubclass(kind, dict)
            )
        return self._followed[kind]

    def is_written(self, kind: type) -> bool:
        """Whether a class is written in Python, by the user or in a library."""
        if self.is_own(kind):
            return True
        is_compiled = any(type(v).__name__ == _OF_CYTHON for v in vars(kind).values())
        return is_library(module_of(kind)) and not is_compiled and not is_of_c(kind)


def _is_plain(kind: type) -> bool:
    """Whether a class does nothing of its own when it, its objects or its subclasses are made."""
    return type(kind) in _METACLASSES and not any(
        vars(base).keys() & _NOT_PLAIN for base in kind.__mro__ if base not in _PLAIN_BASES
    )


def own_object(standins, value):
    """A shallow copy with stand-ins for its attributes, if its class may be copied."""
    if not standins.classes.may_be_copied(type(value)):
        return standins.left_alone(value)
    return _instance(standins, value, standins.remember)


def object_copy(standins, value):
    """A copy of an object of a library's, whose methods are followed; beside a stand-in that has
    answers for it, if there is one."""
    if not standins.is_made(value):
        return _instance(standins, value, standins.remember)
    if id(value) not in standins.object_copies:
        _instance(standins, value, standins.remember_beside)
    return standins.object_copies[id(value)][1]


def _instance(standins, value, keep: Callable):
    copy = blank(class_copy(standins, type(value)), like=value)
    keep(value, copy)
    standins.look_at(value)
    if issubclass(type(value), dict):
        for key, item in dict.items(value):
            dict.__setitem__(copy, standins.of(key), standins.of(item))
    named = dictionary_of(value)
    for name, attribute in attributes_of(value).items():
        standin = standins.of(attribute)
        if name in named and named is not value:
            dictionary_of(copy)[name] = standin  # past a property of that name
        else:
            object.__setattr__(copy, name, standin)
    return copy


def class_copy(standins, kind: type) -> type:
    """The copy of a class, also if there are answers for its objects."""
    copy = standins.class_copies.get(kind) or standins.of(kind)
    return copy if isinstance(copy, type) else new_class(standins, kind)


def new_class(standins, kind: type) -> type:
    """A copy of a class, with copies of its bases, so that super() finds them."""
    is_trusted = is_library(module_of(kind))
    fields = {
        name: value
        for name, value in vars(kind).items()
        if type(value) not in (types.GetSetDescriptorType, types.MemberDescriptorType)
    }
    # Their __set_name__ has been called, and knows the class itself.
    named = {n: fields.pop(n) for n, v in [*fields.items()] if hasattr(type(v), "__set_name__")}
    bases = (
        class_copy(standins, b) if standins.classes.is_written(b) else b for b in kind.__bases__
    )
    make = _METACLASSES[type(kind)] if is_trusted else type(kind)
    copy = standins.class_copies[kind] = make(kind.__name__, tuple(bases), fields)
    if not standins.is_made(kind):
        standins.remember(kind, copy)
    with standins.trusting(is_trusted):
        _fill_class(standins, copy, kind, fields, named)
    return copy


def _fill_class(standins, copy: type, kind: type, fields: dict, named: dict) -> None:
    """Give the copy of a class its attributes."""
    standins.look_at(kind)
    copy.__nbhvp_original__ = kind
    if is_library(module_of(kind)):
        copy.__nbhvp_library__ = standins.library
    else:
        copy.__subclasses__ = staticmethod(
            lambda: [*map(standins.of, standins.watched(_subclasses, kind))]
        )
    held = class_items(kind)
    for name, value in {**fields, **named}.items():
        standin = _class_attribute(standins, value) if name in held else value
        if standin is not value or name in named:
            setattr(copy, name, standin)


def _subclasses(kind: type) -> tuple:
    return tuple(type.__subclasses__(kind))


def _class_attribute(standins, value):
    kind = type(value)
    if kind is types.FunctionType and standins.is_trusting and not standins.is_made(value):
        return standins.remember(value, LibraryFunction(value, standins))  # the most frequent kind
    if issubclass(kind, staticmethod | classmethod):
        return kind(standins.of(value.__func__))
    if issubclass(kind, property):
        return kind(*(standins.of(f) for f in (value.fget, value.fset, value.fdel)))
    if issubclass(kind, functools.cached_property):
        copy = functools.cached_property(standins.of(value.func))
        copy.__set_name__(None, value.attrname)
        return copy
    return standins.of(value)
