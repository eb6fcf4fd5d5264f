"""One call: the arguments as programs take them, and the comparison of two calls.

Arrays of a call are compared bit by bit, so 0.0 is not -0.0, and NaN equals itself. An argument above
`LARGE` bytes is neither copied nor compared: it counts as unchanged if it is the same array and is
not writable. All other properties that a trace fixes are the key: shapes, dtypes, static arguments, and
the instance to which a method is bound.
"""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nbhvp.plain import is_frozen, native
from nbhvp.plan.costs import CPU

__all__ = [
    "LARGE",
    "SHARED",
    "SMALL",
    "Call",
    "Owner",
    "as_inputs",
    "copied",
    "kept",
    "same_argument",
    "same_bits",
]

LARGE = CPU.l2
"""Bytes above which an argument is neither copied nor compared."""
SMALL = CPU.l1 // 8
"""Bytes up to which arrays are compared as strings of bytes."""
SHARED = CPU.shared


# Not frozen, though nobody changes it: that would cost half a microsecond at each new x.
@dataclass(eq=False, slots=True)
class Call:
    """x, the arrays among the other arguments, and a key of everything else that a trace fixes."""

    x: np.ndarray
    leaves: Sequence[np.ndarray]
    key: tuple
    args: tuple = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    """As they were given, for a trace."""
    given: np.ndarray | None = None
    """The caller's own x, if it is an array that had to be copied, and there are other arrays."""
    is_kept: bool = False

    @property
    def can_be_remembered(self) -> bool:
        """Whether a later call can tell if it is at the same point."""
        return type(self.x) is np.ndarray and all(map(_can_be_compared, self.leaves))

    @property
    def is_on_device(self) -> bool:
        """Whether x or an argument lies on a device."""
        return any(type(a) is not np.ndarray for a in (self.x, *self.leaves))

    def kept(self) -> Call:
        """The same with an x that nobody can write, and arguments as `kept` has them."""
        if self.is_kept:
            return self
        x = copied(self.x)
        if type(x) is np.ndarray:
            x.flags.writeable = False
        return replace(self, x=x, leaves=kept(self.leaves), is_kept=True)

    @property
    def inputs(self) -> tuple[np.ndarray, ...]:
        return as_inputs(self.x, self.leaves)


def as_inputs(x: np.ndarray, leaves: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """What programs take: C-contiguous arrays in native byte order."""
    if not leaves:
        return (x,)
    return (x, *[a if a.flags.c_contiguous and a.dtype.isnative else _plain(a) for a in leaves])


def _plain(array: np.ndarray) -> np.ndarray:
    return np.asarray(native(array), order="C")


def kept(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Arguments beside x that are safe from later writes; large ones are kept as they are."""
    return arrays and [_held(a) if a.nbytes > LARGE else a.copy() for a in arrays]


def _held(a: Any) -> Any:
    return a if type(a) is np.ndarray else a.held()


def _can_be_compared(a: np.ndarray) -> bool:
    """Whether a later call can tell if it has the same argument."""
    return type(a) is np.ndarray and (a.nbytes <= LARGE or is_frozen(a))


def same_argument(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arguments of one shape, and of one dtype but for its byte order, are the same."""
    if type(a) is not np.ndarray:
        return False  # it is on a device, and not looked at
    if a.nbytes > LARGE:
        return a is b and is_frozen(a)
    return (a.dtype is b.dtype or a.dtype == b.dtype) and same_bits(a, b)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays of one shape and dtype hold the same bits."""
    if a.nbytes <= SMALL or not (a.flags.c_contiguous and b.flags.c_contiguous):
        return a.tobytes() == b.tobytes()
    a, b = a.reshape(-1).view(np.uint8), b.reshape(-1).view(np.uint8)
    if a.size % 8 == 0:
        a, b = a.view(np.int64), b.view(np.int64)
    block = CPU.l1
    if a.nbytes >= SHARED and a.itemsize == 8:
        return np.array_equal(a[:block], b[:block]) and _compiled_large().same_words(a, b)
    return all(np.array_equal(a[k : k + block], b[k : k + block]) for k in range(0, a.size, block))


def copied(array: np.ndarray) -> np.ndarray:
    """A copy, in C order if it is large."""
    is_large = array.nbytes >= SHARED and array.flags.c_contiguous and type(array) is np.ndarray
    return _compiled_large().copied(array) if is_large else array.copy()


def _compiled_large() -> Any:
    return importlib.import_module("nbhvp.targets.cpu.large")  # which imports numba


class Owner:
    """The instance that a method is bound to, held weakly: equal if it is the same object."""

    __slots__ = ("_identity", "_instance")

    def __init__(self, instance: Any):
        self._identity = id(instance)
        try:
            self._instance: Callable[[], Any] = weakref.ref(instance)
        except TypeError:  # no weak references: it lives as long as its traces
            self._instance = lambda: instance

    def instance(self) -> Any:
        """The instance; None if it is dead."""
        return self._instance()

    def is_alive(self) -> bool:
        return self._instance() is not None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Owner) or self._identity != other._identity:
            return False
        instance = self._instance()
        return instance is not None and instance is other._instance()

    def __hash__(self) -> int:
        return self._identity
