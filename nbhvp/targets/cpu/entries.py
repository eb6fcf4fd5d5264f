"""Functions of `drivers` as Python calls them: functions of C, made without a compiler in the process.

An argument is an array, whose address the function is given, or an integer: no array's dtype or number
of axes matters, and nothing is checked. They take their arguments as the interpreter has them
(METH_FASTCALL), and None as what they are bound to, which is what most of them return. A call that may
take long lets go of the interpreter. Their object code lies on the disk beside that of kernels.
"""

import ctypes
from collections.abc import Callable, Mapping

from nbhvp.targets.cpu import cache

__all__ = ["load"]

METH_FASTCALL = 0x80


def load(module: str, arguments: Mapping[str, str]) -> dict[str, Callable]:
    """Functions of a module by their names, and the letters of their arguments."""
    addresses = cache.load_entries(module, arguments)
    return {name: _function(name, address) for name, address in addresses.items()}


class _Definition(ctypes.Structure):
    """PyMethodDef."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("documentation", ctypes.c_char_p),
    ]


_definitions: list[_Definition] = []
"""Functions refer to them for ever."""


def _function(name: str, address: int) -> Callable:
    definition = _Definition(name.encode(), address, METH_FASTCALL, None)
    _definitions.append(definition)
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.argtypes, make.restype = (
        [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p],
        ctypes.py_object,
    )
    return make(ctypes.addressof(definition), None, None)
