"""DLPack: capsules of Python's that describe an array in memory, to be read by other libraries.

A capsule points to a struct, whose `deleter` its consumer calls in the end; one that nobody consumes calls it
itself. What is exported stays alive until then.
"""

from __future__ import annotations

import ctypes
import itertools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["CUDA", "Tensor", "capsule", "tensor_in"]

CUDA = 2
"""The kind of device."""
CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
"""The kinds of NumPy's dtypes."""
NAME = b"dltensor"


class Tensor(ctypes.Structure):
    """Where an array lies, and its shape and dtype."""

    _fields_ = (
        ("data", ctypes.c_void_p), ("device", ctypes.c_int32), ("ordinal", ctypes.c_int32),
        ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)), ("offset", ctypes.c_uint64),
    )  # fmt: skip

    def dtype(self) -> np.dtype | None:
        """That of NumPy, if it has one."""
        kinds = {code: kind for kind, code in CODES.items()}
        if self.lanes != 1 or self.code not in kinds:
            return None
        return np.dtype(f"{kinds[self.code]}{self.bits // 8}")


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


def _python(name: str, result: Any, *arguments: Any) -> Any:
    # Others may declare the functions of ctypes.pythonapi otherwise.
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


# Addresses and no objects: the destructor gets one that has no references any more.
_new = _python("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_pointer = _python("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
_is_valid = _python("PyCapsule_IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)

_exported: dict[int, tuple] = {}
"""What the structs that are in use need, by their addresses."""


@ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
def _deleter(address):
    _exported.pop(address, None)


@ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
def _destructor(address):
    if _is_valid(address, NAME):  # a consumer gives it another name
        _exported.pop(_pointer(address, NAME), None)


def capsule(
    owner: Any, address: int, shape: Sequence[int], dtype: np.dtype, ordinal: int, kind: int = CUDA
) -> Any:
    """A capsule of an array in C order, which keeps its owner alive."""
    whole = np.array([*itertools.accumulate((1, *shape[:0:-1]), operator.mul)][::-1], np.int64)
    extents = np.array(shape, np.int64)
    pointers = [a.ctypes.data_as(ctypes.POINTER(ctypes.c_int64)) for a in (extents, whole)]
    code, bits = CODES[dtype.kind], 8 * dtype.itemsize
    tensor = Tensor(address, kind, ordinal, len(shape), code, bits, 1, *pointers, 0)
    managed = _Managed(tensor, None, ctypes.cast(_deleter, ctypes.c_void_p))
    at = ctypes.addressof(managed)
    _exported[at] = managed, extents, whole, owner
    return _new(at, NAME, ctypes.cast(_destructor, ctypes.c_void_p))


def tensor_in(one: Any) -> Tensor:
    """What a capsule describes, which must be kept as long as the array is used."""
    return Tensor.from_address(_pointer(id(one), NAME))
