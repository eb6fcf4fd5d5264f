"""How Functions, and functions with rules, are pickled: in the way of plain functions.

A pickler treats a plain function by its own rules: pickle takes a function of `__main__` by name,
cloudpickle (used by joblib and dask) by value, and a user may register modules to be pickled by value.
So an object that has a name in its module is pickled as its maker, a plain function with the name
``name._maker`` there. By name, the maker returns the module's object; by value, it carries the parts
from which an equal object is made. An object without a name is pickled as its parts, if pickle takes
them, and by cloudpickle, which Numba contains, if not.

Methods are pickled as the Function in their class and the instance. Traces, programs and the
remembered point are not pickled: the other process makes them again.

`travels` gives a class the methods for this. It names the attributes, `_fun` first, from which the
class makes another object. A bound method has the object that its class holds as `_unbound`; all
other objects have None there.
"""

from __future__ import annotations

import copy
import pickle
import sys
import types
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

__all__ = ["travels"]

_MADE: weakref.WeakKeyDictionary[Callable, weakref.ref] = weakref.WeakKeyDictionary()
"""The object of each maker of this process."""
_BY_VALUE = ContextVar("by_value", default=False)
"""Whether cloudpickle runs for an object: makers inside belong to its stream, and may be cyclic."""
NAMED_PARTS = 4
"""The first protocol of pickle that knows parts of an object by name."""


def travels(*names: str) -> Callable[[type], type]:
    """Let objects of a class be copied and pickled as plain functions are: a decorator."""

    def decorated(kind: type) -> type:
        methods = {
            "_parts": lambda self: tuple(getattr(self, name) for name in names),
            "_maker": property(_maker),
            "__reduce_ex__": lambda self, protocol: _reduced(self, int(protocol)),
            "__getattr__": _attribute,
            "__copy__": lambda self: self,
            "__deepcopy__": _deep_copy,
        }
        for name, method in methods.items():
            setattr(kind, name, method)
        return kind

    return decorated


def _attribute(thing, name: str):
    """An attribute that an object lacks: one that came by value has its own when it is complete."""
    if _complete(thing):
        return getattr(thing, name)
    raise AttributeError(f"{type(thing).__name__!r} object has no attribute {name!r}")


def _reduced(thing, protocol: int) -> str | tuple:
    """What `__reduce_ex__` of an object gives."""
    if thing._unbound is not None:
        parts = thing._unbound, thing._fun.__self__
        if _BY_VALUE.get() or _is_picklable(parts):
            return _bound, parts
        return _unpickled, (_pickled(_bound, parts),)
    name = thing.__dict__.get("__qualname__", "")
    is_named = _find(thing.__module__, name) is thing
    if is_named and protocol < NAMED_PARTS:
        return name
    if is_named or _BY_VALUE.get():
        return _made, (thing._maker, type(thing))
    if all(map(_is_picklable, thing._parts())):
        return type(thing), thing._parts()
    return _unpickled, (_pickled(_itself, (thing,)),)


def _deep_copy(thing, memo: dict[int, Any]):
    """One over deep copies; of plain functions, which are their own copies, the same."""
    if thing._unbound is not None:
        return _bound(thing._unbound, copy.deepcopy(thing._fun.__self__, memo))
    fun, *others = thing._parts()
    copied = copy.deepcopy(fun, memo)
    return thing if copied is fun else type(thing)(copied, *others)


def _maker(thing) -> Callable:
    """A plain function that gives the parts of an object, and that may be found by a name."""
    known, parts = thing.__dict__.get("_made_by"), thing._parts()
    if known is not None and all(a is b for a, b in zip(known(), parts, strict=True)):
        return known

    def make():
        return parts

    make.__module__ = thing.__module__
    make.__qualname__ = f"{thing.__dict__.get('__qualname__', '')}._maker"
    make.__name__ = "_maker"
    _MADE[make] = weakref.ref(thing)
    thing.__dict__["_made_by"] = make
    return make


def _complete(thing) -> bool:
    """Make an object that came by value what it is; whether there was need, and all is there."""
    make = thing.__dict__.get("_made_by")
    if make is None or "_fun" in thing.__dict__ or not all(map(_is_filled, make.__closure__)):
        return False
    thing.__dict__.update(vars(type(thing)(*make())))
    return True


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _made(make: Callable, kind: type):
    """The object of a maker: that of this process, or one that is completed when it is used.

    While it comes, what the maker closes over may not be there yet: it may hold the object itself.
    """
    known = _MADE.get(make)
    thing = known() if known else None
    if thing is None:
        thing = kind.__new__(kind)
        thing.__dict__["_made_by"] = make
        _MADE[make] = weakref.ref(thing)
    return thing


def _itself(thing):
    return thing


def _bound(unbound, instance):
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
    """A call by which an object is made again, by value."""
    from numba import cloudpickle

    token = _BY_VALUE.set(True)
    try:
        return cloudpickle.dumps((make, args))
    finally:
        _BY_VALUE.reset(token)


def _unpickled(call: bytes):
    make, args = pickle.loads(call)
    return make(*args)
