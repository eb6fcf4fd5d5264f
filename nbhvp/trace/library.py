"""Functions of NumPy, SciPy and math as the user's code calls them.

They are not run with other globals, as the user's functions are: each has a stand-in that looks at
the arguments, however deep traced ones are in them, and goes on to the answer of the register, to the
table of primitives, or for constants to the library itself.
"""

from __future__ import annotations

import types
from collections.abc import Callable

import numpy as np

from nbhvp.trace import arrays
from nbhvp.trace.answers import ANSWERS, Answer
from nbhvp.trace.branches.exceptions import call_math
from nbhvp.trace.branches.failures import unsupported
from nbhvp.trace.kinds import FunctionStandin, has_live_part, library_class, original_of
from nbhvp.trace.surroundings.outside import Unwatched
from nbhvp.trace.surroundings.ownership import is_open, module_of
from nbhvp.trace.surroundings.randomness import Source, is_seeded, note_draws
from nbhvp.trace.surroundings.texts import note_reading

__all__ = ["LIBRARIES", "LibraryFunction", "is_library_function"]

LIBRARIES = ("numpy", "scipy", "math")


def is_library_function(value) -> bool:
    """Whether it is a function of these libraries, or a class whose objects have stand-ins."""
    if isinstance(value, type):
        return library_class(value) is not None or value in ANSWERS
    if not callable(value) or not hasattr(value, "__name__"):
        return False
    is_traced = is_open(module_of(value)) and value not in ANSWERS
    return _library_of(value) in LIBRARIES and not is_traced


def _library_of(value) -> str:
    """The library that a function belongs to; ufuncs and bound C functions do not say."""
    if isinstance(value, np.ufunc) or arrays.is_ufunc_method(value):
        return "numpy"
    owner = getattr(value, "__self__", None)
    if isinstance(owner, types.ModuleType):
        return owner.__name__.partition(".")[0]
    return module_of(value).partition(".")[0]


class LibraryFunction(FunctionStandin):
    """A function of NumPy, SciPy or math that sees traced arguments however deep they are."""

    def __init__(self, function: Callable, standins):
        self.function = function
        self._standins = standins

    def __call__(self, *args, **kwargs):
        function = self.function
        answer = _live_answer(function, args, kwargs)
        if answer is not None:
            return answer(*args, **kwargs)
        note_reading(*args)
        given, seeded = (*args, *kwargs.values()), is_seeded(function, args, kwargs)
        note_draws(function, args, kwargs)
        args = tuple(map(_given, args))
        kwargs = {key: _given(arg) for key, arg in kwargs.items()}
        if _library_of(function) == "math":
            return call_math(function, args, kwargs)
        result = arrays.call(function, args, kwargs)
        owner = getattr(result, "__self__", None)
        known = library_class(type(result)) or library_class(type(owner))
        result = self._standins.made(result) if known else result
        if isinstance(result, Source) and all(
            original_of(arg) is not result.original for arg in given
        ):
            result.made(bool(seeded))
        return result

    def __getattr__(self, name: str):
        value = getattr(self.function, name)
        return self._standins.made(value) if arrays.is_ufunc_method(value) else value

    def __repr__(self) -> str:
        return repr(self.function)


def _live_answer(function: Callable, args: tuple, kwargs: dict) -> Answer | None:
    """The answer to a call that values from an input take part in, if it wants stand-ins as they are."""
    answer = ANSWERS.get(function)
    is_wanted = answer is not None and answer.is_for_live
    if has_live_part([args, kwargs]):
        if not is_wanted:
            raise unsupported(function)
        return answer
    if not is_wanted or all(map(arrays.is_constant, arrays.traced_in(args, kwargs))):
        return None
    return answer


def _given(value):
    """An argument of a library's function, which will use it."""
    if isinstance(value, Unwatched):
        return value.used()
    if type(value) in (list, tuple) and any(map(arrays.presents_array, value)):
        return type(value)(map(_given, value))
    return value.__array__() if arrays.presents_array(value) else original_of(value)
