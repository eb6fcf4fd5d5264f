"""Stand-ins of the user's own classes and of their objects: copies that hold stand-ins.

A class is copied if all its bases are the user's, and it does nothing of its own when it, its objects
or its subclasses are made; so are its objects, attribute by attribute. Copies of classes have copies
of their bases, so that super() finds them.
"""

from __future__ import annotations

import abc
import argparse
import collections
import functools
import types
import typing
from collections.abc import Callable

from nbhvp.trace.surroundings.ownership import module_of
from nbhvp.trace.surroundings.walk import attributes_of, blank, class_items, is_of_c

__all__ = ["OwnClasses", "class_copy", "own_object"]

_HEAP_TYPE = 1 << 9
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


class OwnClasses:
    """Which classes are the user's.

    Parameters
    ----------
    is_own : callable
        Whether code of a module is the user's, by its name.
    """

    def __init__(self, is_own: Callable[[str], bool]):
        self._is_own_module = is_own
        self._known: dict[type, bool] = {}

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
        return (
            type(kind) in (type, abc.ABCMeta)
            and self.is_all_own(kind)
            and not any(
                vars(base).keys() & _NOT_PLAIN for base in kind.__mro__ if base not in _PLAIN_BASES
            )
        )


def own_object(standins, value):
    """A shallow copy with stand-ins for its attributes, if its class may be copied."""
    if not standins.classes.may_be_copied(type(value)):
        return standins.left_alone(value)
    copy = blank(standins.of(type(value)), like=value)
    standins.remember(value, copy)
    standins.look_at(value)
    if issubclass(type(value), dict):
        for key, item in dict.items(value):
            dict.__setitem__(copy, standins.of(key), standins.of(item))
    for name, attribute in attributes_of(value).items():
        object.__setattr__(copy, name, standins.of(attribute))
    return copy


def class_copy(standins, kind: type) -> type:
    """A copy of a class, with copies of its bases, so that super() finds them."""
    fields = {
        name: value
        for name, value in vars(kind).items()
        if type(value) not in (types.GetSetDescriptorType, types.MemberDescriptorType)
    }
    # Their __set_name__ has been called, and knows the class itself.
    named = {n: fields.pop(n) for n, v in [*fields.items()] if hasattr(type(v), "__set_name__")}
    bases = (standins.of(b) if standins.classes.is_own(b) else b for b in kind.__bases__)
    copy = type(kind)(kind.__name__, tuple(bases), fields)
    standins.remember(kind, copy)
    standins.look_at(kind)
    copy.__nbhvp_original__ = kind
    copy.__subclasses__ = staticmethod(
        lambda: [*map(standins.of, standins.watched(_subclasses, kind))]
    )
    held = class_items(kind)
    for name, value in {**fields, **named}.items():
        standin = _class_attribute(standins, value) if name in held else value
        if standin is not value or name in named:
            setattr(copy, name, standin)
    return copy


def _subclasses(kind: type) -> tuple:
    return tuple(type.__subclasses__(kind))


def _class_attribute(standins, value):
    kind = type(value)
    if issubclass(kind, staticmethod | classmethod):
        return kind(standins.of(value.__func__))
    if issubclass(kind, property):
        return kind(*(standins.of(f) for f in (value.fget, value.fset, value.fdel)))
    if issubclass(kind, functools.cached_property):
        copy = functools.cached_property(standins.of(value.func))
        copy.__set_name__(None, value.attrname)
        return copy
    return standins.of(value)
