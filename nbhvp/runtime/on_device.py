"""Arrays of a caller that lie in the memory of a GPU: x, arguments, directions.

They stay there, and what is computed of them too: a value and a gradient are arrays of the library of x, a
product one of the library of its direction. The host never reads such an array but to trace the function
and to test guards, so it cannot tell whether one has changed: each call is at a new point, and none is
remembered. An operator keeps its point.
"""

from __future__ import annotations

import importlib
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from nbhvp.plain import is_on_device
from nbhvp.trace.arguments import leaves_of, unflatten
from nbhvp.tree import Leaf

__all__ = ["HOST", "given", "joined", "on_host", "returned", "split"]

HOST = ("cpu", "interpret")
"""Targets whose programs run on the host."""


def given(target: str, array: Any, name: str) -> Any:
    """An array on a device, as programs of a target take it.

    Raises
    ------
    TypeError, ValueError
        If the target is the host, or another device.
    """
    if target in HOST:
        library = type(array).__module__.partition(".")[0]
        raise TypeError(
            f"{name} is an array of {library} on a GPU, and the function is computed on the host: use "
            "differentiable(..., target='cuda'), or copy the array to the host"
        )
    driver = importlib.import_module("nbhvp.targets.cuda.launching.driver")
    arrays = importlib.import_module("nbhvp.targets.cuda.arrays")
    return arrays.given(driver.named(target), array, name)


def returned(found: Any) -> Any:
    """A result as the caller's library has it."""
    if getattr(found, "library", None) is None:
        return found
    return importlib.import_module("nbhvp.targets.cuda.arrays").returned(found)


def on_host(
    leaves: Sequence[Any], key: Hashable, args: tuple, kwargs: dict
) -> tuple[tuple, dict[str, Any]]:
    """The arguments of a call, with arrays of the host's in the place of those on a device."""
    if all(type(a) is np.ndarray for a in leaves):
        return args, kwargs
    pairs = zip(leaves_of(key), map(np.asarray, leaves), strict=True)
    values = [_as_given(leaf.kind, array) for leaf, array in pairs]
    return unflatten(key, values)


def _as_given(kind: str, array: np.ndarray) -> Any:
    if kind == "array":
        return array
    return float(array) if kind == "float" else array[()]


# Trees.


def joined(leaves: Sequence[tuple[Leaf, Any]]) -> Any:
    """The leaves of a tree, of which some lie on a device, as one vector there."""
    driver = importlib.import_module("nbhvp.targets.cuda.launching.driver")
    arrays = importlib.import_module("nbhvp.targets.cuda.arrays")
    first = next(array for _, array in leaves if is_on_device(array))
    device = driver.device(arrays.ordinal(first))
    found = [
        (leaf, arrays.given(device, array, f"x{list(leaf.path)}"))
        if is_on_device(array)
        else (leaf, np.asarray(array))
        for leaf, array in leaves
    ]
    for leaf, array in found:
        if array.shape != leaf.shape:
            raise ValueError(f"x{list(leaf.path)} must have shape {leaf.shape}, got {array.shape}")
    return arrays.joined(device, [array for _, array in found])


def split(vector: Any, leaves: Sequence[Leaf]) -> list[Any]:
    """Leaves of a tree from a vector on a device, there and of the vector's library."""
    driver = importlib.import_module("nbhvp.targets.cuda.launching.driver")
    arrays = importlib.import_module("nbhvp.targets.cuda.arrays")
    found = arrays.given(driver.device(arrays.ordinal(vector)), vector)
    parts = (found.part(leaf.start, leaf.shape) for leaf in leaves)
    return [
        arrays.returned(arrays.joined(found.device, [part]).reshape(part.shape)) for part in parts
    ]
