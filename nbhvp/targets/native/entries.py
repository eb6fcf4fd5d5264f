"""The functions of `drivers` as C functions that Python calls, made without a compiler in the process.

An argument is an array, passed as its address, or an integer. The dtype and the number of axes of an
array do not matter, and nothing is checked. The functions receive their arguments from the interpreter
directly (METH_FASTCALL). They are bound to None, which most of them return. A call that may take long
releases the interpreter. Functions of "objects" are bound to objects of their own, and take the
interpreter's arguments as they are. Object code lies on the disk beside that of kernels.
"""

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

from nbhvp.targets.native import cache

__all__ = ["load"]

METH_FASTCALL = 0x80


def load(module: str, arguments: Mapping[str, str]) -> dict[str, Callable]:
    """Functions of a module by their names, and the letters of their arguments."""
    addresses = cache.load_entries(module, arguments)
    return {name: _binder(name, address)(None) for name, address in addresses.items()}


def load_binders(module: str, arguments: Mapping[str, str]) -> dict[str, Callable]:
    """The same of "objects", where each is still to be bound to one."""
    addresses = cache.load_entries(module, arguments)
    return {name: _binder(name, address) for name, address in addresses.items()}


class _Definition(ctypes.Structure):
    """PyMethodDef."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("documentation", ctypes.c_char_p),
    ]


def _binder(name: str, address: int) -> Callable[[Any], Callable]:
    definition = _Definition(name.encode(), address, METH_FASTCALL, None)
    # A function looks at it when it dies, which may be after all modules at the interpreter's end.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(definition))
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.argtypes, make.restype = (
        [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p],
        ctypes.py_object,
    )
    return lambda owned: make(ctypes.addressof(definition), owned, None)
