"""How a Function travels to other processes: by its name where a plain function would, else by value.

Only the pickler knows which it is: pickle takes what `__main__` defines by name, cloudpickle (that
of joblib and dask) by value, and modules may be registered to go by value. So a Function that its
module knows by a name is pickled as its maker, a plain function that the module knows as
``name._maker``: by name it is the maker of that module's own Function, by value it carries what
makes another. A Function without a name goes as the function that it was made from, if pickle takes
that, else by value whatever the pickler: cloudpickle is at hand, since Numba has it.

Methods go as the Function in their class and the instance. Traces, programs and the remembered point
stay behind: they are made anew where they are needed.
"""

from __future__ import annotations

import copy
import pickle
import sys
import types
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbhvp.function import Function

__all__ = ["complete", "deep_copy", "maker", "reduced"]

_MADE: weakref.WeakKeyDictionary[Callable, weakref.ref] = weakref.WeakKeyDictionary()
"""The Function of each maker of this process."""
_BY_VALUE = ContextVar("by_value", default=False)
"""Whether cloudpickle runs for a Function: makers inside belong to its stream, and may be cyclic."""
NAMED_PARTS = 4
"""The first protocol of pickle that knows parts of an object by name."""


def reduced(function: Function, protocol: int) -> str | tuple:
    """What `__reduce_ex__` of a Function gives."""
    if function._unbound is not None:
        parts = function._unbound, _instance(function)
        if _BY_VALUE.get() or _is_picklable(parts):
            return _bound, parts
        return _unpickled, (_pickled(_bound, parts),)
    name = function.__dict__.get("__qualname__", "")
    is_named = _find(function.__module__, name) is function
    if is_named and protocol < NAMED_PARTS:
        return name
    if is_named or _BY_VALUE.get():
        return _made, (function._maker,)
    if _is_picklable(function._fun):
        return type(function)._again, (function._fun, function._options)
    return _unpickled, (_pickled(_itself, (function,)),)


def deep_copy(function: Function, memo: dict[int, Any]) -> Function:
    """A Function over a deep copy; over a plain function, which is its own copy, the same."""
    if function._unbound is not None:
        return _bound(function._unbound, copy.deepcopy(_instance(function), memo))
    fun = copy.deepcopy(function._fun, memo)
    return function if fun is function._fun else function._again(fun, function._options)


def maker(function: Function) -> Callable:
    """A plain function that gives what makes a Function, and that may be found by a name."""
    fun, options = function._fun, function._options

    def make():
        return fun, options

    make.__module__ = function.__module__
    make.__qualname__ = f"{function.__dict__.get('__qualname__', '')}._maker"
    make.__name__ = "_maker"
    _MADE[make] = weakref.ref(function)
    return make


def complete(function: Function) -> bool:
    """Make a Function that came by value what it is; whether there was need, and all is there."""
    make = function.__dict__.get("_maker")
    if make is None or "_fun" in function.__dict__ or not all(map(_is_filled, make.__closure__)):
        return False
    fun, options = make()
    type(function).__init__(function, fun, **options)
    return True


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _made(make: Callable) -> Function:
    """The Function of a maker: that of this process, or one that is completed when it is used.

    While it comes, what the maker closes over may not be there yet: it may hold the Function itself.
    """
    known = _MADE.get(make)
    function = known() if known else None
    if function is None:
        from nbhvp.function import Function

        function = Function.__new__(Function)
        function.__dict__["_maker"] = make
        _MADE[make] = weakref.ref(function)
    return function


def _itself(function: Function) -> Function:
    return function


def _instance(bound: Function) -> Any:
    fun: Any = bound._fun
    return fun.__self__


def _bound(unbound: Function, instance) -> Function:
    return unbound.__get__(instance, type(instance))


def _find(module: str, qualname: str):
    """What a module calls by a qualified name, or None."""
    found = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


class _Sink:
    """A file that keeps nothing."""

    def write(self, data) -> int:
        return len(data)


def _is_picklable(value) -> bool:
    """Whether pickle itself takes a function or an object."""
    if isinstance(value, types.FunctionType):
        return _find(value.__module__, value.__qualname__) is value
    try:
        # Arrays need not be copied to know.
        pickle.Pickler(_Sink(), 5, buffer_callback=lambda buffer: None).dump(value)
    except Exception:  # whatever an object of the user's raises: it goes by value
        return False
    return True


def _pickled(make: Callable, args: tuple) -> bytes:
    """A call by which a Function is made again, by value."""
    from numba import cloudpickle

    token = _BY_VALUE.set(True)
    try:
        return cloudpickle.dumps((make, args))
    finally:
        _BY_VALUE.reset(token)


def _unpickled(call: bytes) -> Function:
    make, args = pickle.loads(call)
    return make(*args)
