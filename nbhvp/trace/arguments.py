"""The arguments of a call, split into traced leaves and a static key.

Floats and arrays (float, integer, boolean), also inside tuples, lists and dicts, are leaves: their
values are run-time inputs of a trace. All other accepted values (int, bool, str, None, enums,
functions, types) are static: they belong to the key, together with the structure of the arguments and
the shape and dtype of each leaf. `unflatten` makes arguments of the same structure from other leaves.

Invariant: two calls with equal keys may share a trace.
"""

from __future__ import annotations

import collections
import enum
import functools
import numbers
import types
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbhvp.plain import is_on_device, is_plain, native_dtype, refusal_of

__all__ = ["Leaf", "Static", "flatten", "leaves_of", "unflatten"]

_STATIC = (
    bool, int, str, bytes, type(None), type(Ellipsis), enum.Enum, np.integer, np.bool_, np.dtype,
    type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial,
    np.ufunc, type(np.sum),
)  # fmt: skip
_ACCEPTED = (
    "arguments after x may be floats and arrays of floats, integers or booleans (these may change "
    "from call to call), ints, bools, strings, None, enums and functions (these are static), and "
    "tuples, lists and dicts of them; close over anything else, or pass the arrays in it"
)


@dataclass(frozen=True)
class Leaf:
    """The place of a traced argument in a key."""

    kind: str
    """"float" for a Python float, whose dtype gives way to others'; "scalar" of NumPy; "array"."""
    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass(frozen=True)
class Branch:
    """A tuple, list or dict in a key."""

    kind: type
    names: tuple[Hashable, ...]
    items: tuple[Any, ...]
    more: tuple[Any, ...] = ()
    """Of a dict with other keys than strings, their types; of a defaultdict, what makes items."""


@dataclass(frozen=True)
class Static:
    """A value that belongs to the key; the type tells 1 from True."""

    kind: type
    value: Hashable
    bits: bytes = b""
    """Of a subclass of float, which tell 0.0 from -0.0."""


def flatten(
    args: tuple, kwargs: dict[str, Any], given: Callable[[Any, str], Any] | None = None
) -> tuple[list[np.ndarray], Hashable]:
    """The leaves of arguments, as arrays, and the hashable rest.

    `given` is applied to arrays on a device, and their names, and gives what stands for them.

    Raises
    ------
    TypeError
        For an argument that can be neither; the message names it.
    """
    leaves: list[np.ndarray] = []
    args = tuple(_key(value, f"argument {k + 1}", leaves, given) for k, value in enumerate(args))
    kwargs = {
        name: _key(value, f"argument {name!r}", leaves, given) for name, value in kwargs.items()
    }
    return leaves, (args, Branch(dict, tuple(kwargs), tuple(kwargs.values())))


def _key(value, where: str, leaves: list[np.ndarray], given: Callable | None):
    if isinstance(value, np.ndarray):
        return _leaf("array", value, where, leaves)
    if type(value) is float:
        return _leaf("float", np.asarray(value), where, leaves)
    if isinstance(value, np.inexact):
        return _leaf("scalar", np.asarray(value), where, leaves)
    if isinstance(value, _STATIC):
        return Static(type(value), value)
    if isinstance(value, float):  # with rules of its own, perhaps
        return Static(type(value), value, np.float64(value).tobytes())
    if isinstance(value, dict) and _is_rebuilt(type(value), value, dict):
        items = [_key(item, f"{where}[{name!r}]", leaves, given) for name, item in value.items()]
        return Branch(type(value), tuple(value), tuple(items), _of_dict(value, where))
    if isinstance(value, list | tuple) and _is_rebuilt(type(value), value, list, tuple):
        items = [_key(item, f"{where}[{k}]", leaves, given) for k, item in enumerate(value)]
        return Branch(type(value), (), tuple(items))
    if given is not None and is_on_device(value):
        leaves.append(given(value, where))
        return Leaf("array", leaves[-1].shape, leaves[-1].dtype)
    instead = (text for kinds, text in _INSTEAD.items() if isinstance(value, kinds))
    raise _refused(where, f"of type {type(value).__name__}", next(instead, ""))


def _refused(where: str, what: str, instead: str) -> TypeError:
    return TypeError(f"{where} is {what}{instead and f' ({instead})'}: {_ACCEPTED}")


def _leaf(kind: str, array: np.ndarray, where: str, leaves: list[np.ndarray]) -> Leaf:
    if not is_plain(array):
        raise _refused(where, *refusal_of(array))
    if array.dtype.kind == "c":
        raise _refused(where, f"an array of {array.dtype}", _INSTEAD[complex])
    leaves.append(np.asarray(array))  # the same object, if it is no subclass
    dtype = array.dtype
    return Leaf(kind, array.shape, dtype if dtype.isnative else native_dtype(dtype))


def _is_rebuilt(kind: type, value, *plain: type) -> bool:
    """Whether a container of its items is the same: a plain one, or a subclass without state."""
    if kind in plain or kind in _DICTS:
        return True
    made = kind.__init__ in _MAKERS and (kind.__new__ in _MAKERS or hasattr(kind, "_make"))
    return made and not getattr(value, "__dict__", None)


_DICTS = (collections.OrderedDict, collections.defaultdict, collections.Counter)
_MAKERS = (
    object.__init__, dict.__init__, list.__init__, dict.__new__, list.__new__, tuple.__new__,
)  # fmt: skip


def _of_dict(value: dict, where: str) -> tuple:
    """What else than its items tells a dict from another."""
    kinds = () if all(type(name) is str for name in value) else tuple(map(type, value))
    if not isinstance(value, collections.defaultdict):
        return kinds
    factory = value.default_factory
    if not isinstance(factory, _STATIC):
        made = f"a defaultdict with a default_factory of type {type(factory).__name__}"
        raise _refused(where, made, "give it a function, or give a dict")
    return (*kinds, Static(type(factory), factory))


_INSTEAD = {
    dict: "give dict(...) of it",
    Mapping: "give dict(...) of it",
    list | tuple: "give list(...) or tuple(...) of it",
    complex: "give its real and imaginary parts, and put them together inside",
    numbers.Number: "give float(...) of it",
    Set | collections.deque | range: "give a tuple of its items",
    np.random.Generator | np.random.RandomState: "give the numbers that it draws",
    types.SimpleNamespace: "give its vars(...)",
}


def leaves_of(key: Hashable) -> Iterator[Leaf]:
    """The leaves in a key, in the order of `flatten`."""
    if isinstance(key, Leaf):
        yield key
    elif isinstance(key, Branch | tuple):
        for item in key.items if isinstance(key, Branch) else key:
            yield from leaves_of(item)


def unflatten(
    key: Hashable, leaves: Sequence, static: Callable = lambda value: value
) -> tuple[tuple, dict[str, Any]]:
    """The arguments (args, kwargs) of a key, with anything in the place of the leaves.

    `static` is applied to the static values.
    """
    args, kwargs = key
    assert len(leaves) == sum(1 for _ in leaves_of(key)), "a key takes as many leaves as it gave"
    remaining = iter(leaves)
    return (
        tuple(_built(item, remaining, static) for item in args),
        _built(kwargs, remaining, static),
    )


def _built(key, leaves: Iterator, static: Callable):
    if isinstance(key, Leaf):
        return next(leaves)
    if isinstance(key, Static):
        return static(key.value)
    items = [_built(item, leaves, static) for item in key.items]
    if issubclass(key.kind, collections.defaultdict):
        return key.kind(static(key.more[-1].value), zip(key.names, items, strict=True))
    if issubclass(key.kind, dict):
        # A Counter would count pairs.
        return key.kind(dict(zip(key.names, items, strict=True)))
    return key.kind._make(items) if hasattr(key.kind, "_make") else key.kind(items)
