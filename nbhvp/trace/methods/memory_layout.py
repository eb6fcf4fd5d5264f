"""The attributes of a traced array that describe memory: `x.flags`, `x.strides`, `x.base`.

They are those of the concrete value, whose layout NumPy chose, and can be read only: setting a flag
would change the user's own array.
"""

from __future__ import annotations

import numpy as np

from nbhvp.trace.arrays import Traced, trace_error
from nbhvp.trace.methods.shapes import may_be_written
from nbhvp.trace.views import is_array

__all__ = ["Flags"]

_OWNERS = ("OWNDATA", "O", "WRITEBACKIFCOPY", "X")
"""Flags that tell whose the memory is: that of a concrete value may be another's."""
_WRITEABLE = ("WRITEABLE", "W")


class Flags:
    """`x.flags`."""

    def __init__(self, flags, is_writeable: bool | None):
        object.__setattr__(self, "_flags", flags)
        object.__setattr__(self, "_is_writeable", is_writeable)

    def __getattr__(self, name: str) -> bool:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name.upper()]

    def __getitem__(self, key: str) -> bool:
        if key in _WRITEABLE and self._is_writeable is not None:
            return self._is_writeable
        if key in _OWNERS or key in _WRITEABLE:
            raise trace_error(
                f"the flag {key} of a traced array is read",
                "read it of the array outside the function",
            )
        return self._flags[key]

    def __setattr__(self, name: str, value) -> None:
        self[name] = value

    def __setitem__(self, key: str, value) -> None:
        raise trace_error(
            "a flag of a traced array is set", "remove the assignment: they can be read only"
        )

    def __repr__(self) -> str:
        return repr(self._flags)


def _flags(x: Traced) -> Flags:
    """Of an input, whether it may be written is the caller's to say."""
    is_input = x.storage.place is not None
    return Flags(x.value.flags, None if is_input else is_array(x.value) and may_be_written(x))


def _strides(x: Traced) -> tuple[int, ...]:
    return x.value.strides


def _base(x: Traced) -> None:
    if is_array(x.value) and (x.views or x.value.base is not None):
        raise trace_error("the base of a traced array is read", "use the array itself")


for _name, _read in {"flags": _flags, "strides": _strides, "base": _base}.items():
    setattr(Traced, _name, property(_read))


def _set_flags(x: Traced, write=None, align=None, uic=None) -> None:
    """An array of the function's own may be protected."""
    is_own = x.storage.place is None and not x.views and is_array(x.value)
    if is_own and write is not None and not write and align is None and uic is None:
        x.storage.refusal = x.storage.refusal or "an array is written that setflags protects"
        return
    raise trace_error(
        "a flag of a traced array is set", "remove the assignment: they can be read only"
    )


def _is_integer(x: Traced) -> bool:
    """Of a number: whether it is whole."""
    return bool((x == np.rint(x)) & np.isfinite(x))


Traced.setflags = _set_flags
Traced.is_integer = _is_integer
