"""The register: the functions and classes of libraries that are answered in a trace, or refused.

Each entry stands next to its answer, and contains all that dispatch and the documentation need:

    @answers(np.median)                      calls of a function with traced arguments
    def median(a, axis=None, keepdims=False): ...

    @answers("scipy.stats.rv_frozen")        objects of a class: their stand-ins are of this class
    class FrozenOriginal(LibraryObject): ...

    refuses(np.nditer, why="it iterates over memory", instead="index the array")

A name in the place of a function avoids an import for the register alone. An answer has the parameters
of its function. A call with another keyword is a TraceError, unless the keyword has NumPy's default
value or cannot change the result. The answers of the methods of ufuncs take the ufunc first.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbhvp.trace.recording import trace_error
from nbhvp.trace.surroundings.ownership import public_name

__all__ = [
    "ANSWERS",
    "CLASSES",
    "REFUSALS",
    "Answer",
    "Refusal",
    "answer_to",
    "answers",
    "complete",
    "entries",
    "on_demand",
    "refusal_of",
    "refuses",
    "ufunc_method",
]

Name = Callable | str
"""A function or class of a library, or its public name."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What answers to calls of some functions, all of which do the same, or to objects of classes."""

    functions: tuple[Name, ...]
    run: Callable
    note: str
    """What is restricted, for the documentation."""
    twin: Callable | None
    """The function that gives the same numbers, if it is answered elsewhere."""
    is_for_live: bool
    """Whether constants go to the library, also where they are sparse matrices."""

    @property
    def chapter(self) -> str:
        """The module of the answer."""
        return self.run.__module__

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The parameters that are given by position."""
        code = self.run.__code__
        return code.co_varnames[: code.co_argcount]

    @functools.cached_property
    def _known(self) -> frozenset[str]:
        code = self.run.__code__
        return frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])

    @functools.cached_property
    def _takes_any(self) -> bool:
        return bool(self.run.__code__.co_flags & inspect.CO_VARKEYWORDS)

    @functools.cached_property
    def parameters(self) -> frozenset[str]:
        """The names of arguments that are no values: those that shapes and axes depend on."""
        first = self.functions[0]
        of_values = isinstance(first, np.ufunc) or public_name(first).startswith("scipy.special.")
        return frozenset() if of_values else _PARAMETERS

    def __call__(self, *args, **kwargs):
        return self.run(*args, **self._options(kwargs))

    def _options(self, kwargs: dict) -> dict:
        """The keywords that the answer knows; another one that matters is an error."""
        known: dict[str, Any] = {}
        for keyword, value in kwargs.items():
            if value is np._NoValue:
                continue
            if self._takes_any or keyword in self._known:
                known[keyword] = value
            elif not _is_harmless(keyword, value, self.functions[0]):
                name = getattr(self.functions[0], "__name__", str(self.functions[0]))
                raise trace_error(f"{name} cannot be traced with {keyword}=", "leave it out")
        return known


_PARAMETERS = frozenset({
    "M", "N", "axes", "axis", "axis1", "axis2", "axisa", "axisb", "axisc", "correction", "ddof",
    "decimals", "deg", "der", "deriv", "destination", "edge_order", "indices_or_sections", "k",
    "keepdims", "kth", "minlength", "n", "ndmin", "new_shape", "num", "offset", "ord", "origin",
    "pad_width", "polyorder", "radius", "reps", "s", "shape", "shift", "sigma", "size", "source",
    "stat_length", "truncate", "window_length", "window_shape",
})  # fmt: skip
"""Arguments of NumPy's and SciPy's functions that shapes and axes depend on."""
_HINTS = {
    "order", "subok", "casting", "like", "device",
    "check_finite", "overwrite_a", "overwrite_ab", "overwrite_b", "overwrite_x", "workers",
}  # fmt: skip
"""Keywords of NumPy and SciPy that change no result here, whatever they are."""


def _is_harmless(keyword: str, value, function: Name) -> bool:
    """Whether NumPy would do the same without the keyword."""
    if value is None or keyword in _HINTS:
        return True
    return value is _defaults(function).get(keyword, inspect)


def _defaults(function) -> dict[str, object]:
    try:
        return {k: q.default for k, q in inspect.signature(function).parameters.items()}
    except (TypeError, ValueError):
        return {}


@dataclass(frozen=True)
class Refusal:
    """Why some functions have no answer, and what to write in their place."""

    functions: tuple[Name, ...]
    why: str
    instead: str
    is_final: bool = False
    """Whether also their own source is not followed."""


ANSWERS: dict[Name, Answer] = {}
CLASSES: dict[Name, Answer] = {}
"""For a class of a library, the answer that is the class of the stand-ins of its objects."""
REFUSALS: dict[Name, Refusal] = {}


def answers(
    *names: Name, note: str = "", twin: Callable | None = None, is_for_live: bool = False
) -> Callable[[Any], Any]:
    """Enter the decorated function or class as the answer to these functions, or to these classes."""

    def enter(answer):
        table = CLASSES if isinstance(answer, type) else ANSWERS
        table.update(dict.fromkeys(names, Answer(names, answer, note, twin, is_for_live)))
        return answer

    return enter


def refuses(*names: Name, why: str, instead: str, within: str = "", is_final: bool = False) -> None:
    """Enter the reason for which these functions (of the module `within`) are not answered.

    It is told where their own source cannot be followed either; if it is final, at once.
    """
    names = tuple(f"{within}.{name}" if within else name for name in names)
    REFUSALS.update(dict.fromkeys(names, Refusal(names, why, instead, is_final)))


def answer_to(function: Callable) -> Answer | None:
    """The answer to a function, if there is one."""
    return ANSWERS.get(function) or ANSWERS.get(public_name(function))


_ON_DEMAND: dict[str, str] = {}


def on_demand(parts: dict[str, str]) -> None:
    """Let these modules enter their answers when the parts of a library are there.

    A function that uses a part that is slow to import has imported it: before a trace begins, or
    inside of the function. So `import nbhvp` stays fast.
    """
    _ON_DEMAND.update(parts)


def complete() -> None:
    """Enter the answers for all parts of libraries that have been imported."""
    for part in [part for part in _ON_DEMAND if part in sys.modules]:
        importlib.import_module(_ON_DEMAND[part])
        _ON_DEMAND.pop(part, None)  # another thread may have been as far


def refusal_of(function: Callable) -> Refusal | None:
    """Why a function has no answer, if that is known."""
    try:
        return REFUSALS.get(function) or REFUSALS.get(public_name(function))
    except TypeError:  # a method of an object without a hash
        return None


def ufunc_method(name: str) -> Callable:
    """The answer to a method of all ufuncs; it takes the ufunc first."""
    return ANSWERS[getattr(np.ufunc, name)].run


def entries() -> Iterator[Answer]:
    """Each answer once, in the order in which they were entered."""
    return iter(dict.fromkeys(ANSWERS.values()))
