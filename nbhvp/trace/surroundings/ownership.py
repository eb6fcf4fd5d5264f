"""The owner of an object: the user, whose code is traced, or a library, whose code runs unchanged.

The module's name usually decides. But `functools.wraps` gives a function the name of another, so a
function with a library's name belongs to the library only if its globals are those of the library's
module. Conversely, the result of a library's decorator belongs to the user, because it contains the
user's function.
"""

from __future__ import annotations

import functools
import sys
import types
from pathlib import Path

import numpy as np

__all__ = ["home_of", "is_foreign", "is_library", "module_of", "public_name", "ufunc_home"]


@functools.cache
def is_foreign(name: str) -> bool:
    """Whether a module belongs to the standard library or is installed, by its top-level package."""
    package = name.partition(".")[0]
    if package in ("nbhvp", "numpy", "scipy", "numba") or package in sys.stdlib_module_names:
        return package != "__main__"
    file = Path(getattr(sys.modules.get(package), "__file__", None) or "")
    return not {"site-packages", "dist-packages"}.isdisjoint(file.parts)


def is_library(module: str) -> bool:
    """Whether a module is NumPy's or SciPy's."""
    return module.partition(".")[0] in ("numpy", "scipy")


def home_of(function: types.FunctionType) -> str:
    """The module in which the code of a Python function stands."""
    name = function.__globals__.get("__name__")
    return name if isinstance(name, str) else ""


def module_of(thing) -> str:
    """The name of the module that a thing is of, "" where it does not say."""
    while isinstance(thing, types.MethodType):
        thing = thing.__func__
    name = getattr(thing, "__module__", None)
    claimed = name if isinstance(name, str) else ""  # a class whose objects say it has a descriptor
    if not is_foreign(claimed) or isinstance(thing, type | type(np.sum)):
        return claimed
    if isinstance(thing, types.FunctionType):
        inner = getattr(thing, "__wrapped__", None)
        homes = (home_of(thing), claimed if inner is None else module_of(inner))
        return next((home for home in homes if home and not is_foreign(home)), claimed)
    # An object may have been given names; one of C says those of its class nowhere else.
    home = type(thing).__module__
    is_given = "__module__" in getattr(thing, "__dict__", ()) and home in sys.modules
    return home if is_given else claimed


def public_name(thing) -> str:
    """`scipy.stats.rv_frozen`: package, subpackage and name, wherever inside it is defined."""
    package = (ufunc_home(thing) or module_of(thing)).split(".")[:2]
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", "")
    return ".".join((*package, name))


def ufunc_home(thing) -> str:
    """The module of a ufunc, which does not say; "" of anything else."""
    if not isinstance(thing, np.ufunc):
        return ""
    homes = (np, sys.modules.get("scipy.special"))
    return next((h.__name__ for h in homes if getattr(h, thing.__name__, None) is thing), "")
