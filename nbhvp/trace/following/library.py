"""Functions of NumPy, SciPy and math as the user's code calls them.

Each has a stand-in that searches the arguments for traced values, at any depth. It makes one of four
calls, in this order:

    the answer of the register, if an argument is traced;
    the library's own function, if no argument depends on an input: the result is constant;
    a copy of its Python source with stand-ins, as for the user's own functions: it is followed;
    an error, if the function is written in C.

A method of a library's object is the library's own if the object and the arguments are constant, and
is followed otherwise.

Invariant: libraries are taken to be constant, so only the user's own objects are watched; branches on
values in the code of libraries record guards, as in any other code.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable

import numpy as np

from nbhvp.errors import TraceError
from nbhvp.trace import arrays
from nbhvp.trace.answers import ANSWERS, REFUSALS, Answer, answer_to, refusal_of
from nbhvp.trace.arrays import Traced, is_constant
from nbhvp.trace.branches.exceptions import call_math
from nbhvp.trace.branches.failures import attempt, name_of, unsupported
from nbhvp.trace.dispatch import call, copies, is_ufunc_method
from nbhvp.trace.kinds import FunctionStandin, Standin, has_live_part, library_class, original_of
from nbhvp.trace.methods.numbers import quick
from nbhvp.trace.repeated import repeated
from nbhvp.trace.surroundings.closure import contents, is_atom
from nbhvp.trace.surroundings.outside import Unwatched
from nbhvp.trace.surroundings.ownership import home_of, is_library, module_of
from nbhvp.trace.surroundings.randomness import Source, is_seeded, note_draws
from nbhvp.trace.surroundings.scope import ModuleStandin, Scope
from nbhvp.trace.surroundings.texts import note_reading

__all__ = ["LIBRARIES", "Library", "LibraryFunction", "is_library_function", "python_source"]

LIBRARIES = ("numpy", "scipy", "math")


def is_library_function(value) -> bool:
    """Whether it is a function of these libraries, or a class whose objects have stand-ins."""
    if isinstance(value, type):
        return library_class(value) is not None or value in ANSWERS or value in REFUSALS
    return callable(value) and hasattr(value, "__name__") and _library_of(value) in LIBRARIES


def _library_of(value) -> str:
    """The library that a function belongs to; ufuncs and bound C functions do not say."""
    if isinstance(value, np.ufunc) or is_ufunc_method(value):
        return "numpy"
    if type(value) is functools._lru_cache_wrapper:
        value = value.__wrapped__
    owner = getattr(value, "__self__", None)
    if isinstance(owner, types.ModuleType):
        return owner.__name__.partition(".")[0]
    return module_of(value).partition(".")[0]


def python_source(function: Callable) -> types.FunctionType | None:
    """The Python function that a call of a library's function runs, if there is one."""
    inner = getattr(function, "_implementation", function)  # behind __array_function__
    inner = getattr(inner, "__func__", inner)
    if type(inner) is functools._lru_cache_wrapper:
        inner = inner.__wrapped__
    if type(inner) is not types.FunctionType:
        return None
    return inner if is_library(module_of(inner)) and is_library(home_of(inner)) else None


def _has_answer(function: Callable) -> bool:
    try:
        return answer_to(function) is not None
    except TypeError:  # a method of an object without a hash
        return False


class Library:
    """The libraries in one trace: what their code is given, and how it runs.

    Parameters
    ----------
    standins
        The stand-ins of the trace.
    """

    def __init__(self, standins):
        self._standins = standins
        self._is_following = False

    def call(self, function: Callable, args: tuple, kwargs: dict):
        """What our answer or the library's own function gives."""
        args = tuple(map(self.plain, args))
        kwargs = {key: self.plain(arg) for key, arg in kwargs.items()}
        if _library_of(function) == "math":
            return call_math(function, args, kwargs)
        result = call(function, args, kwargs)
        kind, owner = type(result), type(getattr(result, "__self__", None))
        is_met = library_class(kind) or library_class(owner) or self._standins.is_followed(kind)
        is_met = is_met or kind in (types.ModuleType, types.FunctionType)
        return self._standins.made(result) if is_met else result

    def follow(self, function: Callable, args: tuple, kwargs: dict):
        """What a copy of the function's source gives."""
        refusal = refusal_of(function)
        if refusal is not None and refusal.is_final:
            raise unsupported(function)
        if isinstance(function, type) and self._standins.is_followed(function):
            return self._standins.class_copy(function)(*args, **kwargs)
        source = python_source(function)
        if source is None:
            raise unsupported(function)
        owner = getattr(function, "__self__", None)
        if owner is not None and isinstance(function, types.MethodType):
            args = (self._standins.object_copy(owner), *args)
        followed = self._standins.source_copy(source)
        is_outermost, self._is_following = not self._is_following, True
        errors = self._standins.recording.errors
        known = len(errors)
        try:
            result = attempt(followed, source, self._copies, args, kwargs)
            if len(errors) > known:
                raise errors[known]  # the library's code has caught it, to go another way
            return result
        except TraceError as found:
            error = unsupported(function) if refusal_of(function) is not None else found
            if is_outermost and name_of(source) not in error.args[0]:
                error.args = (f"in {name_of(source)}: {error.args[0]}", *error.args[1:])
            raise error from found.__cause__
        finally:
            self._is_following = not is_outermost

    def is_live(self, value, depth: int = 4) -> bool:
        """Whether a function of a library that is given this may depend on an input by it."""
        kind = type(value)
        if issubclass(kind, Traced):
            # Code that is followed may write into arrays of constants that it has made.
            return self._is_following or not is_constant(value)
        if depth == 0 or is_atom(value):
            return False
        if issubclass(kind, Standin):
            return value.is_live
        if isinstance(value, list | tuple):
            return any(self.is_live(item, depth) for item in value)
        if isinstance(value, dict):
            return any(self.is_live(item, depth) for item in value.values())
        if kind is types.FunctionType:
            return type(value.__globals__) is Scope and any(
                self.is_live(contents(cell), depth - 1) for cell in value.__closure__ or ()
            )
        if kind is types.MethodType:
            return self.is_live(value.__self__, depth - 1)
        if kind is functools.partial:
            return self.is_live((value.func, value.args, value.keywords), depth - 1)
        return _is_copy(kind) and self._standins.as_it_was(value) is NotImplemented

    def plain(self, value):
        """An argument of a library's function, which will use it."""
        kind = type(value)
        if kind is Unwatched:
            return value.used()
        if kind in (list, tuple):
            items = [self.plain(item) for item in value]
            is_same = all(a is b for a, b in zip(items, value, strict=True))
            return value if is_same else kind(items)
        if kind is ModuleStandin:
            return value.__wrapped__
        if _is_copy(kind):
            original = self._standins.as_it_was(value)
            return value if original is NotImplemented else original
        if isinstance(value, type) and "__nbhvp_library__" in vars(value):
            return value.__nbhvp_original__
        return value.__array__() if arrays.presents_array(value) else original_of(value)

    def _copies(self, values):
        """Arguments of a plain call, which may write into them."""
        values = copies(values)
        if isinstance(values, dict):
            return {key: self.plain(value) for key, value in values.items()}
        return tuple(map(self.plain, values))


def _is_copy(kind: type) -> bool:
    """Whether a class is the copy of one of a library's, or is based on one."""
    return any("__nbhvp_library__" in vars(base) for base in kind.__mro__)


class LibraryFunction(FunctionStandin):
    """A function of NumPy, SciPy or math that sees traced arguments however deep they are."""

    def __init__(self, function: Callable, standins):
        self.function = function
        self._standins = standins
        self._source = python_source(function)
        self._quick = quick(function, self._repeated)

    def __call__(self, *args, **kwargs):
        if self._quick is not None and not kwargs and len(args) == self.function.nin:
            return self._quick(*args)
        return self._repeated(*args, **kwargs)

    def _repeated(self, *args, **kwargs):
        return repeated(self.function, args, kwargs, self._general)

    def _general(self, *args, **kwargs):
        function = self.function
        answer = _live_answer(function, args, kwargs)
        if answer is not None:
            return answer(*args, **kwargs)
        note_reading(*args)
        given, seeded = (*args, *kwargs.values()), is_seeded(function, args, kwargs)
        note_draws(function, args, kwargs)
        library = self._standins.library
        is_source = self._source is not None and not _has_answer(function)
        if is_source and any(map(library.is_live, given)):
            return library.follow(function, args, kwargs)
        result = library.call(function, args, kwargs)
        if isinstance(result, Source) and all(
            original_of(arg) is not result.original for arg in given
        ):
            result.made(bool(seeded))
        return result

    def __get__(self, instance, owner=None):
        is_plain = instance is None or isinstance(self.function, types.MethodType)
        return self if is_plain or self._source is None else types.MethodType(self, instance)

    def __getattr__(self, name: str):
        value = getattr(self.function, name)
        return self._standins.made(value) if is_ufunc_method(value) else value

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
