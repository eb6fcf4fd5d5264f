"""The one test of whether a remembered trace or point holds for a call.

A trace serves a call under three conditions: they have one key (shapes and dtypes of x and of the
arrays among the arguments, static arguments, the instance of a method); no object that the trace
read elsewhere has changed; and no array shares memory into which the function writes with another one.
Programs test the guards themselves. A point is at a call if its trace serves the call, and if x and
all arrays have the same bits.

`serves` and `is_at` test any `Call`. Most calls pass plain arrays and floats to the trace used last:
`Direct.accept` and `Direct.same` are the same tests for these in compiled code, without a `Call`. They
say no whenever the full test is needed. An array on a device is at no point that is remembered: the host
does not read it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nbhvp.runtime.calls.call import Call, same_argument, same_bits

if TYPE_CHECKING:
    from nbhvp.runtime.point import Point
    from nbhvp.runtime.recorded import Recorded

__all__ = ["is_at", "serves"]


def serves(recorded: Recorded, call: Call) -> bool:
    """Whether a trace may serve a call, its guards aside."""
    if recorded.key != call.key or recorded.closure.changed():
        return False
    if recorded.compiler.has_choice and call.is_on_device:
        return False  # it was placed on the host
    x = call.x if call.given is None else call.given
    aliases = recorded.trace.aliases
    return aliases is None or aliases.allow((x, *call.leaves))


def is_at(point: Point, call: Call) -> bool:
    """Whether a point, and its trace, are those of a call."""
    # What the trace read may be large: it is looked at last.
    return (
        point.recorded.key == call.key
        and type(call.x) is np.ndarray
        and same_bits(call.x, point.x)
        and all(map(same_argument, call.leaves, point.leaves))
        and serves(point.recorded, call)
    )
