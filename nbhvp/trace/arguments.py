"""What may change between calls: arguments split into traced leaves and a static key.

Floats and arrays (float, integer, boolean), also inside tuples, lists and dicts, are leaves: their
values are run-time inputs of a trace. Everything else that is accepted (int, bool, str, None,
enums, functions, types) is static, and its value belongs to the key, as do the structure and the
shape and dtype of each leaf. So two calls with equal keys may share a trace, and `unflatten` builds
arguments of the same structure around other leaves.
"""

from __future__ import annotations

import enum
import functools
import types
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Leaf", "flatten", "leaves_of", "unflatten"]

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


@dataclass(frozen=True)
class Static:
    """A value that belongs to the key; the type tells 1 from True."""

    kind: type
    value: Hashable


def flatten(args: tuple, kwargs: dict[str, Any]) -> tuple[list[np.ndarray], Hashable]:
    """The leaves of arguments, as arrays, and the hashable rest.

    Raises
    ------
    TypeError
        For an argument that can be neither; the message names it.
    """
    leaves: list[np.ndarray] = []
    args = tuple(_key(value, f"argument {k + 1}", leaves) for k, value in enumerate(args))
    kwargs = {name: _key(value, f"argument {name!r}", leaves) for name, value in kwargs.items()}
    return leaves, (args, Branch(dict, tuple(kwargs), tuple(kwargs.values())))


def _key(value, where: str, leaves: list[np.ndarray]):
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiub":
            raise TypeError(f"{where} is an array of {value.dtype}: {_ACCEPTED}")
        return _leaf("array", np.asarray(value), leaves)
    if isinstance(value, float | np.floating):
        return _leaf("float" if type(value) is float else "scalar", np.asarray(value), leaves)
    if isinstance(value, _STATIC):
        return Static(type(value), value)
    if isinstance(value, dict):
        items = [_key(item, f"{where}[{name!r}]", leaves) for name, item in value.items()]
        return Branch(type(value), tuple(value), tuple(items))
    if isinstance(value, list | tuple):
        items = [_key(item, f"{where}[{k}]", leaves) for k, item in enumerate(value)]
        return Branch(type(value), (), tuple(items))
    raise TypeError(f"{where} is of type {type(value).__name__}: {_ACCEPTED}")


def _leaf(kind: str, array: np.ndarray, leaves: list[np.ndarray]) -> Leaf:
    leaves.append(array)
    return Leaf(kind, array.shape, array.dtype)


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
    if issubclass(key.kind, dict):
        return dict(zip(key.names, items, strict=True))
    return key.kind._make(items) if hasattr(key.kind, "_make") else key.kind(items)
