"""Instances of classes under Numba's @jitclass, which a function of NumPy closes over.

Their fields are constants of the trace, and watched: numbers by value, arrays by identity and content.
Methods are compiled functions whose first argument is the instance. Methods with loops are recorded,
on a copy made from the fields.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbhvp.trace.kinds import Standin, stands_for
from nbhvp.trace.recording import trace_error

__all__ = ["CompiledInstance", "Fields", "is_compiled_instance"]


def is_compiled_instance(value) -> bool:
    """Whether an object is an instance of a class under @jitclass. Tells without Numba."""
    return type(value).__module__ == "numba.experimental.jitclass.boxing"


@dataclass(frozen=True, eq=False)
class Fields:
    """An instance as it is passed on to be recorded."""

    kind: Any
    """Numba's type of it."""
    values: tuple
    original: Any


def shown(instance, name: str):
    """What a field holds, as it is compared: an array by where its elements are."""
    value = getattr(instance, name)
    if isinstance(value, np.ndarray):
        return value.__array_interface__["data"], value.shape, value.strides, value.dtype.str
    return value


class CompiledInstance(Standin):
    """The stand-in of an instance."""

    def __init__(self, original, fields: dict[str, Any], follow: Callable):
        """`fields` are the stand-ins of what it holds; `follow` gives those of its methods."""
        self.__dict__.update(_original=original, _fields=fields, _follow=follow)

    def __getattr__(self, name: str):
        if name in self._fields:
            return self._fields[name]
        kind = self._original._numba_type_
        if name in kind.jit_props:
            return self._follow(kind.jit_props[name]["get"])(self)
        if name in kind.jit_static_methods:
            return self._follow(kind.jit_static_methods[name])
        if name in kind.jit_methods:
            return functools.partial(self._follow(kind.jit_methods[name]), self)
        return getattr(self._original, name)

    def __setattr__(self, name: str, value):
        raise trace_error(
            f"the attribute .{name} of an instance from outside is assigned",
            "return the value instead",
        )

    def passed(self, plain: Callable) -> Fields:
        """What stands for it as an argument; `plain` gives what stands for a field."""
        values = tuple(map(plain, self._fields.values()))
        return Fields(self._original._numba_type_, values, self._original)


@stands_for(where=is_compiled_instance)
def _standin_of(standins, value) -> CompiledInstance:
    names = list(value._numba_type_.struct)
    for name in names:
        standins.watched(shown, value, name)
    fields = {name: standins.of(getattr(value, name)) for name in names}
    return CompiledInstance(value, fields, standins.of)
