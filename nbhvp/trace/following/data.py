"""Stand-ins of data that a function reads.

Arrays become constants of the trace, and containers become copies that hold stand-ins. Both are
watched: the trace is made again when their content has changed.
"""

from __future__ import annotations

import collections

import numpy as np

from nbhvp.plain import is_plain
from nbhvp.trace import arrays
from nbhvp.trace.arrays import Traced
from nbhvp.trace.kinds import itself, stands_for
from nbhvp.trace.surroundings.closure import watch_array
from nbhvp.tree import Unravel

__all__: list[str] = []

_DICTS = (dict, collections.OrderedDict, collections.defaultdict)

stands_for(Traced)(itself)


@stands_for(np.ndarray)
def _array(standins, value: np.ndarray) -> Traced | np.ndarray:
    """A constant; one of another byte order, or that is refused, becomes so where it meets x."""
    if value.dtype.hasobject:
        return standins.left_alone(value)
    if not is_plain(value):
        standins.watch(value)  # a subclass has attributes
    elif not standins.is_trusting:
        standins.watches.append(watch_array(value))
    array = value.view(np.ndarray)
    standins.recording.hold(array)
    if not is_plain(value) or not value.dtype.isnative:
        return standins.remember(value, value)
    return standins.remember(value, arrays.adopt(array, refusal=arrays.NOT_OURS))


@stands_for(Unravel)
def _unravel(standins, value: Unravel) -> Unravel:
    return standins.remember(value, value.of_classes(standins.of))


# Containers. Attributes of their subclasses may be their items: these are asked for nothing.


@stands_for(list)
def _list(standins, value: list) -> list:
    if type(value) is not list:
        return standins.left_alone(value)
    standin = standins.remember(value, [])
    standins.look_at(value)
    standin.extend(map(standins.of, value))
    return standin


@stands_for(collections.deque)
def _deque(standins, value: collections.deque) -> collections.deque:
    if type(value) is not collections.deque:
        return standins.left_alone(value)
    standin = standins.remember(value, collections.deque(maxlen=value.maxlen))
    standins.look_at(value)
    standin.extend(map(standins.of, value))
    return standin


@stands_for(set, frozenset)
def _set(standins, value: set | frozenset) -> set | frozenset:
    if type(value) is not set:
        return standins.left_alone(value)
    return standins.remember(value, set(map(standins.of, standins.look_at(value))))


@stands_for(dict)
def _dict(standins, value: dict) -> dict:
    if type(value) not in _DICTS:
        return standins.left_alone(value)
    standin = standins.remember(value, value.copy())
    standin.clear()
    standins.look_at(value)
    for key, item in value.items():
        standin[standins.of(key)] = standins.of(item)
    return standin


@stands_for(tuple)
def _tuple(standins, value: tuple) -> tuple:
    items = [standins.of(item) for item in value]
    same = all(a is b for a, b in zip(items, value, strict=True))
    return standins.remember(value, value if same else arrays.with_items(value, items))
