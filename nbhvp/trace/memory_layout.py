"""What a traced array says of its memory: `x.flags`, `x.strides`, `x.base`.

Answers are those of the concrete value, whose layout NumPy chose. They are to be read only: to set a
flag would change the user's own array.
"""

from __future__ import annotations

import numpy as np

from nbhvp.trace.arrays import Traced, is_array, trace_error

__all__ = ["Flags"]

_OWNERS = ("OWNDATA", "O", "WRITEABLE", "W", "WRITEBACKIFCOPY", "X")
"""Flags that tell whose the memory is: that of a concrete value may be another's."""


class Flags:
    """`x.flags`."""

    def __init__(self, flags):
        object.__setattr__(self, "_flags", flags)

    def __getattr__(self, name: str) -> bool:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name.upper()]

    def __getitem__(self, key: str) -> bool:
        if key in _OWNERS:
            raise trace_error(f"the flag {key} of a traced array is asked for", "leave it out")
        return self._flags[key]

    def __setattr__(self, name: str, value) -> None:
        self[name] = value

    def __setitem__(self, key: str, value) -> None:
        raise trace_error("a flag of a traced array is set", "leave it out")

    def __repr__(self) -> str:
        return repr(self._flags)


def _flags(x: Traced) -> Flags:
    return Flags(x.value.flags)


def _strides(x: Traced) -> tuple[int, ...]:
    return x.value.strides


def _base(x: Traced) -> None:
    if is_array(x.value) and (x.views or x.value.base is not None):
        raise trace_error("the base of a traced array is asked for", "use the array that it shows")


for _name, _read in {"flags": _flags, "strides": _strides, "base": _base}.items():
    setattr(Traced, _name, property(_read))


def _set_flags(x: Traced, write=None, align=None, uic=None) -> None:
    raise trace_error("a flag of a traced array is set", "leave it out")


def _is_integer(x: Traced) -> bool:
    """Of a number: whether it is whole."""
    return bool((x == np.rint(x)) & np.isfinite(x))


Traced.setflags = _set_flags
Traced.is_integer = _is_integer
