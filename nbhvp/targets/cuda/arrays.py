"""Arrays of other libraries in the memory of a device, by `__cuda_array_interface__`.

CuPy, torch, JAX and Numba have it. A product reads such an array where it lies, on the stream that the array
names, and its result is an array of the same library: no copy, and no wait.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["View", "empty_like", "is_on_device", "view"]


@dataclass(frozen=True)
class View:
    """Where the elements of an array are, in C order, and on which stream they are made."""

    address: int
    stream: int


def is_on_device(array: Any) -> bool:
    """Whether an object says that it is an array on a device."""
    return hasattr(array, "__cuda_array_interface__")


def view(device: Any, array: Any, shape: tuple[int, ...], dtype: np.dtype) -> View:
    """The elements of an array, if it has this shape and dtype and lies on the device.

    Raises
    ------
    TypeError, ValueError
        If it has others, is not in C order, or lies on another device.
    """
    interface = array.__cuda_array_interface__
    found, size = np.dtype(interface["typestr"]), math.prod(shape)
    if found != dtype:
        raise TypeError(f"the array must have dtype {dtype}, as x has, got {found}")
    if tuple(interface["shape"]) != shape and tuple(interface["shape"]) != (size,):
        raise ValueError(
            f"the array must have shape {shape} or ({size},), got {interface['shape']}"
        )
    strides = interface.get("strides")
    if strides is not None and not _is_in_order(interface["shape"], strides, found.itemsize):
        raise ValueError("the array must be C-contiguous: make a contiguous copy")
    address, _ = interface["data"]
    if size and device.ordinal_of(address) != device.ordinal:
        raise ValueError(
            f"the array lies on device {device.ordinal_of(address)}, and the program on device "
            f"{device.ordinal}: copy it, or use target='cuda:{device.ordinal_of(address)}'"
        )
    return View(address, interface.get("stream") or LEGACY)


LEGACY = 1
"""The stream of arrays that name none."""


def _is_in_order(shape, strides, itemsize: int) -> bool:
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent > 1 and stride != itemsize:
            return False
        itemsize *= extent
    return True


def empty_like(array: Any) -> Any:
    """A new array of the library that an array comes from, on its device."""
    library = type(array).__module__.partition(".")[0]
    if library == "numba":
        return importlib.import_module("numba.cuda").device_array_like(array)
    if library in ("cupy", "torch"):
        return importlib.import_module(library).empty_like(array)
    if hasattr(array, "empty_like"):
        return array.empty_like()
    raise TypeError(
        f"a product of an array of {library} has no array for its result: pass out=, or an array of "
        "CuPy, torch or Numba"
    )
