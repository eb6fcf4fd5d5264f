"""Functions that remember their results (functools.cache, functools.lru_cache) in a trace.

In plain Python such a function returns a remembered result even if the data from which it was computed
have changed. So without traced arguments the function itself is called, once in the trace and again
whenever the validity of the trace is tested: the call is cheap, and a different result means a new
trace. With a traced argument, the function inside the cache is followed.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable

from nbhvp.trace.arrays import Traced, current, is_constant, traced_in
from nbhvp.trace.kinds import stands_for
from nbhvp.trace.surroundings.closure import Watch
from nbhvp.trace.surroundings.ownership import is_library, module_of

__all__: list[str] = []


class CachedFunction:
    """The stand-in of a function that remembers its results.

    Parameters
    ----------
    function : callable
        The function under functools.lru_cache.
    of : callable
        The stand-in of an object.
    plain : callable
        What a stand-in stands for; `NotImplemented` if that has been written in the trace.
    """

    def __init__(self, function: Callable, of: Callable, plain: Callable):
        self.function = function
        self._of = of
        self._plain = plain

    def __call__(self, *args, **kwargs):
        names, values = tuple(kwargs), (*args, *kwargs.values())
        if all(is_constant(x) for x in traced_in(values)):
            plain = [x.value if isinstance(x, Traced) else self._plain(x) for x in values]
            if all(x is not NotImplemented for x in plain):
                given = dict(zip(names, plain[len(args) :], strict=True))
                return self._remembered(plain[: len(args)], given)
        return self._of(self.function.__wrapped__)(*args, **kwargs)

    def _remembered(self, args: list, kwargs: dict):
        ask = functools.partial(self.function, *args, **kwargs)
        result = ask()
        current().sources.append(Watch(ask, result))
        return self._of(result)

    def __get__(self, instance, owner=None):
        return self if instance is None else types.MethodType(self, instance)

    def __getattr__(self, name: str):
        return getattr(self.function, name)


@stands_for(functools._lru_cache_wrapper)
def _cached(standins, value) -> CachedFunction:
    if is_library(module_of(value.__wrapped__)):
        return NotImplemented
    return standins.remember(value, CachedFunction(value, standins.of, standins.as_it_was))
