"""Calls of functions with traced arguments: their answers, and how results enter the trace.

A function has an answer, or is computed where all arguments are constants, or is followed into its
source. Importing this module gives traced arrays the protocols by which NumPy asks for it.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import numpy as np

from nbhvp.plain import is_plain
from nbhvp.trace.answers import Answer, answer_to, ufunc_method
from nbhvp.trace.arrays import (
    Traced,
    adopt,
    guard,
    is_constant,
    lift,
    map_traced,
    traced_in,
    with_items,
)
from nbhvp.trace.branches.failures import attempt
from nbhvp.trace.recording import current
from nbhvp.trace.views import is_array

__all__ = ["adopted", "call", "copies", "dispatch", "frozen", "is_ufunc_method"]


def dispatch(function: Callable, args: tuple, kwargs: dict):
    """The answer to a function with traced arguments."""
    answer = answer_to(function)
    if answer is not None:
        return attempt(answer, function, copies, *_settled(answer, args, kwargs))
    if all(is_constant(x) for x in traced_in(args, kwargs)):
        return _on_constants(function, args, kwargs)
    return current().follow(function, args, kwargs)


def _settled(answer: Answer, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Arguments with plain values for parameters, under guards where they may change."""
    if not answer.parameters:
        return args, kwargs

    def settled(name: str, value):
        return map_traced(_parameter, value) if name in answer.parameters else value

    names = answer.names
    return (
        (*map(settled, names, args), *args[len(names) :]),
        {name: settled(name, value) for name, value in kwargs.items()},
    )


def _parameter(x: Traced):
    if not is_constant(x) and x.dtype.kind not in "iub":
        return x
    value = guard(x)
    return value if is_array(value) else np.asarray(value).item()


def copies(arguments):
    """Values, which whoever gets them may write into."""
    return map_traced(lambda x: copy.copy(x.value), arguments)


def call(function: Callable, args: tuple, kwargs: dict):
    """A call of a NumPy, SciPy or math function, with traced arguments anywhere or nowhere."""
    # The numbers in an empty array are arbitrary: zeros serve, and are the same every time.
    function = _DEFINED.get(function, function)
    if not any(True for _ in traced_in(args, kwargs)):
        return adopted(function(*args, **kwargs), _arrays_in(args, kwargs))
    if isinstance(function, np.ufunc) or is_ufunc_method(function):
        lifted = tuple(lift(a) if isinstance(a, list | tuple) else a for a in args)
        return function(*lifted, **kwargs)
    return dispatch(function, args, kwargs)


def is_ufunc_method(function: Callable) -> bool:
    """Whether a function is np.add.reduce or its kin, whose arguments are arrays."""
    owner = getattr(function, "__self__", None)
    return isinstance(owner, np.ufunc) and function.__name__ != "at"


_DEFINED = {np.empty: np.zeros, np.empty_like: np.zeros_like}


def _on_constants(function, args, kwargs):
    plain, named = map_traced(frozen, args), map_traced(frozen, kwargs)
    try:
        result = function(*plain, **named)
    except ValueError as error:
        if "buffer source array is read-only" not in str(error):
            raise
        return _on_lent(function, args, kwargs, error)
    return adopted(result, _arrays_in(plain, named))


def _on_lent(function, args, kwargs, error: ValueError):
    """What a function of Cython gives that asks for memory which it may write, and only reads it."""
    lent, named = copies((args, kwargs))
    result = function(*lent, **named)
    given, now = (
        _arrays_in(*map_traced(lambda x: x.value, v)) for v in ((args, kwargs), (lent, named))
    )
    is_read = all(a.tobytes() == b.tobytes() for a, b in zip(given, now, strict=True))
    if not is_read or any(np.may_share_memory(a, b) for a in _arrays_in(result) for b in now):
        raise error
    return adopted(result, now)


def frozen(x: Traced):
    value = x.value
    if is_array(value):
        value = value.view()
        value.flags.writeable = False
    return value


def _arrays_in(*values) -> list[np.ndarray]:
    found = []
    for value in values:
        if is_array(value):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _arrays_in(*value)
        elif isinstance(value, dict):
            found += _arrays_in(*value.values())
    return found


def adopted(result, sources: list[np.ndarray]):
    """New arrays become constants of the trace; what shares memory with an argument stays plain."""
    if isinstance(result, list | tuple):
        return with_items(result, [adopted(item, sources) for item in result])
    if type(result) is not np.ndarray or not is_plain(result):
        return result
    if any(np.may_share_memory(result, source) for source in sources):
        return result
    return adopt(result)


def _array_ufunc(self, ufunc, method, *inputs, **kwargs):
    function = ufunc if method == "__call__" else getattr(ufunc, method)
    handler = functools.partial(ufunc_method(method), ufunc)
    return attempt(handler, function, copies, inputs, kwargs)


def _array_function(self, function, types, args, kwargs):
    return call(function, args, kwargs)


Traced.__array_ufunc__ = _array_ufunc  # type: ignore[attr-defined]
Traced.__array_function__ = _array_function  # type: ignore[attr-defined]
