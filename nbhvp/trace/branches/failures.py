"""Errors for functions of NumPy and SciPy that fail on traced values or have no rule.

If the plain function fails on the plain values too, the user gets its error, in NumPy's own words.
Otherwise the failure is a limit of this package, and becomes a TraceError, to which the recording adds
the user's line. The error names the function that the user called, not the functions inside it.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from nbhvp.errors import TraceError
from nbhvp.graph.definitions import RealOnly
from nbhvp.trace.answers import refusal_of
from nbhvp.trace.places import user_line
from nbhvp.trace.recording import trace_error
from nbhvp.trace.surroundings.ownership import module_of, ufunc_home

__all__ = ["attempt", "name_of", "unsupported"]


def attempt(handler: Callable, function: Callable, plain: Callable, args: tuple, kwargs: dict):
    """What the handler of a function gives; `plain` maps its arguments to values to write into."""
    try:
        return handler(*args, **kwargs)
    except RealOnly:
        _fail_as_plain(function, plain, args, kwargs)
        raise RealOnly(
            f"{name_of(function)} of complex numbers has no derivative rule here; "
            "write it with the real and the imaginary part"
        ) from None
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        # Who catches a LinAlgError has a guard on it; and code of the user's may run inside.
        is_known = isinstance(error, TraceError | np.linalg.LinAlgError)
        if is_known or user_line(error.__traceback__):
            raise
        _fail_as_plain(function, plain, args, kwargs)
        raise trace_error(
            f"{name_of(function)} cannot be followed with these arguments ({error})",
            "write it with other functions, or give it a rule (nbhvp.custom_jvp)",
        ) from error


def _fail_as_plain(function: Callable, plain: Callable, args: tuple, kwargs: dict) -> None:
    """Raise the error of a plain function, if it has one."""
    values: tuple[Any, Any] = plain(args), plain(kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function(*values[0], **values[1])


def name_of(function: Callable) -> str:
    """Module and name of a function, without the parts of a library that are private."""
    module = ".".join(
        itertools.takewhile(_is_public, (module_of(function) or ufunc_home(function)).split("."))
    )
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", repr(function))
    return f"{module}.{name}" if module and module != "builtins" else name


def _is_public(name: str) -> bool:
    return not name.startswith("_") or name == "__main__"


def unsupported(function: Callable) -> TraceError:
    """The error for a function without a rule."""
    what, refusal = f"{name_of(function)} has no derivative rule here", refusal_of(function)
    if refusal is not None:
        return trace_error(f"{what}: {refusal.why}", refusal.instead)
    return trace_error(
        what,
        "write it with supported NumPy functions, give it a rule (nbhvp.elementwise, "
        "nbhvp.custom_jvp), or compute it outside the function and pass the result as an argument "
        "if it does not depend on x",
    )
