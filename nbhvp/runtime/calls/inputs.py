"""The inputs of a Function: the point x, directions and weights, as arrays or as trees.

All programs take vectors and arrays. A function of a tree (``differentiable(unravel=...)``) takes trees
for x and for directions, and returns a tree for each result with the shape of x.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from nbhvp.graph.node import Node
from nbhvp.plain import PLAIN_CLASSES, is_on_device, refusal_of
from nbhvp.runtime import on_device
from nbhvp.runtime.on_device import given
from nbhvp.trace.arrays import Traced
from nbhvp.trace.recording import trace_error
from nbhvp.tree import Unravel

__all__ = ["as_given", "as_vector", "bound", "direction", "held", "primal", "takes", "weights"]

_PRECISIONS = (np.dtype(np.float64), np.dtype(np.float32))


def primal(x: Any, target: str = "cpu") -> Any:
    """x as a C-contiguous array of float32 or float64; integers and booleans become float64.

    An array on a device stays there.
    """
    if type(x) is np.ndarray and x.dtype in _PRECISIONS and x.flags.c_contiguous:
        return x
    if is_on_device(x):
        array = given(target, x, "x")
        if array.dtype not in _PRECISIONS:
            raise TypeError(f"x is on a device, and must be float32 or float64, got {array.dtype}")
        return array
    try:
        array = _plain(x, "x")
    except ValueError:  # lists of arrays that make none
        array = np.empty((), object)
    if array.dtype.kind in "biu":
        return array.astype(np.float64, order="C")
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
        raise TypeError(
            "x must be float32 or float64 (integers and booleans are promoted), "
            f"got {_kind_of(x, array)}: {_advice(array)}"
        )
    # np.dtype of a letter is one object, so that dtypes may be compared by identity.
    return np.asarray(array, np.dtype(array.dtype.char), order="C")


def _kind_of(x: Any, array: np.ndarray) -> str:
    if isinstance(x, list | tuple) and array.dtype == object:
        return f"a {type(x).__name__} of {', '.join(sorted({type(item).__name__ for item in x}))}"
    is_array = isinstance(x, np.ndarray) or array.dtype != object
    return str(array.dtype) if is_array else f"an object of type {type(x).__name__}"


def _advice(array: np.ndarray) -> str:
    if array.dtype.kind == "c":
        return "pass real and imaginary parts, as np.concatenate([z.real, z.imag])"
    if array.dtype != object:
        return "pass x.astype(float)"
    return (
        "pass x.astype(float) of numbers; for a function of a tree (dicts, lists, ... of arrays) write "
        "x, unravel = nbhvp.ravel(tree); f = nbhvp.differentiable(fun, unravel=unravel), after which "
        "f takes x or the tree"
    )


def _plain(x: Any, name: str) -> np.ndarray:
    """x as an array; of subclasses, those without rules of their own."""
    if type(x) is Traced:
        raise trace_error(
            "a differentiable function is called with a traced value by code that nbhvp does not follow",
            "call it in a function of your own, which nbhvp follows",
        )
    if isinstance(x, np.ndarray) and type(x) not in PLAIN_CLASSES:
        raise TypeError("{} must be a plain array, got {}: {}".format(name, *refusal_of(x)))
    return np.asarray(x)


def direction(v: Any, like: Node | np.ndarray, target: str = "cpu") -> Any:
    """v in the dtype of a node, contiguous in its shape S, or as it is in the shape S + (k,).

    An array on a device stays there, if it is of this dtype.
    """
    shape, dtype = like.shape, like.dtype
    if type(v) is np.ndarray and v.shape == shape and v.dtype == dtype and v.flags.c_contiguous:
        return v
    name = like.params["name"] if isinstance(like, Node) else "v"
    array = given(target, v, name) if is_on_device(v) else _plain(v, name)
    if type(array) is not np.ndarray and array.dtype != dtype:
        raise TypeError(f"{name} is on a device, and must have dtype {dtype}, got {array.dtype}")
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{name} must be real, got {array.dtype}: the product is linear, "
            "so apply it to the real and to the imaginary part"
        )
    if array.shape != shape and (array.shape[:-1] != shape or array.ndim != len(shape) + 1):
        batch = f"({', '.join([*map(str, shape), 'k'])})"
        raise ValueError(f"{name} must have shape {shape} or {batch}, got {array.shape}")
    if type(array) is not np.ndarray:
        return array
    return np.asarray(array, dtype, order="C" if array.shape == shape else None)


def weights(w: Any, like: Node, target: str) -> np.ndarray:
    """w as an array of the shape and dtype of the result; a result of size 1 is a scalar."""
    if like.shape == () and not is_on_device(w) and np.size(w) == 1:
        w = np.reshape(w, ())
    w = direction(w, like, target)
    if w.shape != like.shape:
        raise ValueError(f"w must have shape {like.shape}, got {w.shape}")
    return w


def held(w: Any, target: str) -> Any:
    """A copy of an array, which stays as it is when the caller's changes."""
    return given(target, w, "w").copy() if is_on_device(w) else np.array(w)


def bound(arg: Any) -> Any:
    """An argument whose arrays are read-only, by which a Function knows that they are unchanged."""
    if type(arg) is np.ndarray:
        arg = arg.view()
        arg.flags.writeable = False
        return arg
    if type(arg) in (tuple, list):
        return type(arg)(map(bound, arg))
    return {key: bound(item) for key, item in arg.items()} if type(arg) is dict else arg


# Trees.


def as_vector(x: Any, unravel: Unravel | None) -> Any:
    """A tree as the vector of its arrays; x as it is where it is none."""
    if unravel is None or not _is_tree(x, unravel):
        return x
    leaves = unravel.leaves(x)
    if any(is_on_device(one) for _, one in leaves):
        return on_device.joined(leaves)
    return unravel.joined(leaves)


def as_given(array: Any, x: Any, unravel: Unravel | None) -> Any:
    """A result in the form of x: as a tree, if x is one."""
    if unravel is None or not _is_tree(x, unravel):
        return array
    if is_on_device(array):
        return unravel.filled(iter(on_device.split(array, [leaf for leaf, _ in unravel.leaves(x)])))
    return unravel(array)


def _is_tree(x: Any, unravel: Unravel) -> bool:
    """Whether x stands for a tree; a list of numbers is the vector of these."""
    if isinstance(x, np.ndarray | float):
        return unravel.is_array(np.shape(x))
    if isinstance(x, list | tuple) and not hasattr(x, "_fields"):
        return not all(map(np.isscalar, x))
    return isinstance(x, dict | tuple) or dataclasses.is_dataclass(x)


# Keywords.


def takes(fun: Callable, name: str) -> bool:
    """Whether a function names a parameter, after its first."""
    try:
        parameters = list(inspect.signature(fun).parameters.values())[1:]
    except (TypeError, ValueError):  # what is not written in Python may not tell
        return False
    keywords = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return any(one.name == name and one.kind in keywords for one in parameters)
