"""The driver's library, loaded when it is first asked for; nothing else is imported here.

So ``target="auto"`` finds out on any machine, in microseconds, whether there is a GPU.
"""

from __future__ import annotations

import ctypes
import functools
import sys

__all__ = ["OLDEST", "capability", "has_device", "loaded"]

OLDEST = (7, 0)
"""The compute capability of the oldest devices that kernels are made for."""
MAJOR, MINOR = 75, 76
"""The numbers of attributes: both parts of the compute capability."""


@functools.cache
def loaded() -> ctypes.CDLL:
    """The library; an OSError where there is none."""
    # Windows' convention for calls, which differs on 32 bits alone, is that of C.
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


def has_device(ordinal: int = 0) -> bool:
    """Whether there is a driver, and a device of this number that kernels are made for."""
    try:
        library = loaded()
    except OSError:
        return False
    count = ctypes.c_int()
    if library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count)):
        return False
    return ordinal < count.value and capability(library, ordinal) >= OLDEST


def capability(library: ctypes.CDLL, ordinal: int) -> tuple[int, int]:
    """The compute capability of a device; that of none where the driver does not tell."""
    handle, parts = ctypes.c_int(), (ctypes.c_int(), ctypes.c_int())
    library.cuDeviceGet(ctypes.byref(handle), ordinal)
    for which, part in zip((MAJOR, MINOR), parts, strict=True):
        library.cuDeviceGetAttribute(ctypes.byref(part), which, handle)
    return parts[0].value, parts[1].value
