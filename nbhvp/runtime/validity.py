"""The one test of whether a remembered trace or point holds for a call.

A trace serves a call under three conditions: they have one key (shapes and dtypes of x and of the
arrays among the arguments, static arguments, the instance of a method); no object that the trace
read elsewhere has changed; and no array shares memory into which the function writes with another one.
Programs test the guards themselves. A point is at a call if its trace serves the call, and if x and
all arrays have the same bits.

`serves` and `is_at` test any `Call`. The time of small functions is mostly Python's own, and most calls
pass plain arrays and floats to the trace used last: `serves_at_a_glance` and `is_at_a_glance` are the
same tests for these, without a `Call`. A glance says no whenever the full test is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbhvp.runtime.call import Call, Owner, same_argument, same_bits
from nbhvp.trace.arguments import Leaf, Static

if TYPE_CHECKING:
    from nbhvp.runtime.point import Point
    from nbhvp.runtime.recorded import Recorded

__all__ = ["is_at", "is_at_a_glance", "plain_arguments", "serves", "serves_at_a_glance"]


def serves(recorded: Recorded, call: Call) -> bool:
    """Whether a trace may serve a call, its guards aside."""
    if recorded.key != call.key or recorded.closure.changed():
        return False
    x = call.x if call.given is None else call.given
    aliases = recorded.trace.aliases
    return aliases is None or aliases.allow((x, *call.leaves))


def is_at(point: Point, call: Call) -> bool:
    """Whether a point, and its trace, are those of a call."""
    # What the trace read may be large: it is looked at last.
    return call.equals(point.call) and serves(point.recorded, call)


def serves_at_a_glance(
    recorded: Recorded, x: Any, args: tuple, kwargs: dict, owner: Owner | None
) -> Sequence[np.ndarray] | None:
    """The arrays beside x of a call that a trace may serve; None if a glance does not tell."""
    if (
        type(x) is not np.ndarray
        or x.dtype is not recorded.dtype
        or x.shape != recorded.shape
        or not x.flags.c_contiguous
        or (recorded.owner is not owner and recorded.owner != owner)
    ):
        return None
    leaves = () if recorded.is_bare and not (args or kwargs) else _leaves(recorded, args, kwargs)
    return None if leaves is None or recorded.closure.changed() else leaves


def is_at_a_glance(
    point: Point, x: Any, args: tuple, kwargs: dict, owner: Owner | None, is_thorough: bool = False
) -> bool:
    """Whether a point is that of a call; large arrays are looked at in full if `is_thorough`."""
    recorded = point.recorded
    if not (
        type(x) is np.ndarray
        and x.dtype is recorded.dtype
        and x.shape == recorded.shape
        and (x.tobytes() == point.bits if point.bits else same_bits(x, point.call.x))
        and (recorded.owner is owner or recorded.owner == owner)
    ):
        return False
    if args or kwargs or not recorded.is_bare:
        leaves = _leaves(recorded, args, kwargs)
        if leaves is None or not all(map(same_argument, leaves, point.call.leaves)):
            return False
    closure = recorded.closure
    return not closure.glance() and not (is_thorough and closure.is_deep and closure.changed())


_PLAIN = (bool, int, str, type(None))


def plain_arguments(key: tuple) -> tuple[Leaf | Static, ...] | None:
    """The keys of arguments if a glance can compare them: arrays, floats, ... given by position."""
    if not key:
        return ()
    args, named = key
    is_plain = all(type(k) is Leaf or (type(k) is Static and k.kind in _PLAIN) for k in args)
    return args if is_plain and not named.names else None


def _leaves(recorded: Recorded, args: tuple, kwargs: dict) -> Sequence[np.ndarray] | None:
    """The arrays among arguments, and floats as arrays, if they have the keys of a trace."""
    keys = recorded.plain_arguments
    if kwargs or keys is None or len(args) != len(keys):
        return None
    leaves = []
    for k, value in enumerate(args):
        key = keys[k]
        if type(key) is Static:
            if type(value) is not key.kind or value != key.value:
                return None
        elif type(value) is np.ndarray:
            if key.kind != "array" or value.shape != key.shape or value.dtype != key.dtype:
                return None
            leaves.append(value)
        elif type(value) is float and key.kind == "float":
            leaves.append(np.asarray(value))
        else:
            return None
    return leaves
