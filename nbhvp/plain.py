"""Which arrays can be followed, as x, as arguments, from outside and on the way: plain ones.

A plain array has NumPy's own rules and a dtype that kernels compute in. The rules of a subclass (a
mask, a matrix product for `*`, units) would be lost silently, and so would the digits of float16 and
longdouble: such arrays are refused, with what to write instead. Numbers of another byte order are the
same numbers; they are turned into the machine's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "PLAIN_CLASSES",
    "SIZES",
    "is_frozen",
    "is_on_device",
    "is_plain",
    "native",
    "native_dtype",
    "refusal_of",
]

SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (4, 8), "c": (8, 16)}
"""Bytes of the dtypes that are computed in, by kind."""
CUDA = (2, 13)
"""Kinds of memory in DLPack: that of a GPU, and what it shares with the host."""
_OF_HOST = (np.ndarray, list, tuple, float, int)
"""What is on no device, and asked most."""
PLAIN_CLASSES = (np.ndarray, np.memmap, np.recarray)
"""Classes of arrays whose numbers obey NumPy's own rules."""
_INSTEAD = {
    "f": "use .astype(np.float64), or np.float32",
    "c": "use .astype(np.complex128)",
    "O": "use np.array(..., dtype=float) of numbers of one type",
    "V": "take its fields one by one, as array['name']",
}


def is_plain(array: np.ndarray) -> bool:
    """Whether an array can be followed."""
    dtype = array.dtype
    return type(array) in PLAIN_CLASSES and dtype.itemsize in SIZES.get(dtype.kind, ())


def refusal_of(array: np.ndarray) -> tuple[str, str]:
    """What an array is that cannot be followed, and what to use instead."""
    if type(array) in PLAIN_CLASSES:
        instead = _INSTEAD.get(array.dtype.kind, "use numbers, as floats, integers or booleans")
        return f"an array of {_name(array.dtype)}", instead
    what = f"an array of the class {type(array).__name__}"
    if isinstance(array, np.ma.MaskedArray):
        return what, "use .filled(...), or its .data and its mask (np.where) as plain arrays"
    return what, "use np.asarray(...): the rules of its class would be lost"


def _name(dtype: np.dtype) -> str:
    if dtype.kind in "fc" and dtype.itemsize not in SIZES[dtype.kind]:
        # float128 and float96 are names of the platform's longdouble.
        kinds = {np.dtype(np.longdouble): "longdouble", np.dtype(np.clongdouble): "clongdouble"}
        return next(
            (f"{dtype} ({name})" for other, name in kinds.items() if dtype == other), str(dtype)
        )
    return str(dtype)


def is_frozen(array: Any) -> bool:
    """Whether nobody can write an array through any array or buffer whose memory it shows."""
    while isinstance(array, np.ndarray):
        if array.flags.writeable:
            return False
        array = array.base
    return array is None or type(array) is bytes


def is_on_device(x: Any) -> bool:
    """Whether an object is an array of some library in the memory of a GPU."""
    kind = type(x)
    if kind in _OF_HOST:
        return False
    if hasattr(kind, "__dlpack_device__"):
        try:
            return x.__dlpack_device__()[0] in CUDA
        except Exception:  # of a library that shares no such array, for reasons of its own
            return False
    return hasattr(kind, "__cuda_array_interface__")


def native(array: np.ndarray) -> np.ndarray:
    """The same numbers in the machine's byte order; the array itself if it has that."""
    return array if array.dtype.isnative else array.astype(native_dtype(array.dtype))


def native_dtype(dtype) -> np.dtype:
    """A dtype in the machine's byte order."""
    return np.dtype(dtype).newbyteorder("=")
