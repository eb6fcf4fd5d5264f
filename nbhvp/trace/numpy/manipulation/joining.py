"""np.r_ and np.c_ in a trace: arrays and numbers joined by subscripts."""

from __future__ import annotations

import numpy as np

from nbhvp.trace import arrays
from nbhvp.trace.arrays import Traced, lift
from nbhvp.trace.dispatch import call
from nbhvp.trace.kinds import stands_for
from nbhvp.trace.numpy.manipulation.shapes import atleast_1d, column_stack, concatenate

__all__: list[str] = []


class Joining:
    """np.r_ and np.c_ of arrays and numbers."""

    def __init__(self, plain):
        self._plain = plain

    def __getitem__(self, items):
        items = items if isinstance(items, tuple) else (items,)
        if not any(isinstance(item, Traced) for item in items):
            return call(self._plain.__getitem__, (items,), {})
        if any(isinstance(item, str) for item in items):
            raise arrays.trace_error(
                "np.r_ and np.c_ with a directive in a string are not supported",
                "use np.concatenate or np.stack",
            )
        items = [self._plain[item] if isinstance(item, slice) else lift(item) for item in items]
        if self._plain is np.c_:
            return column_stack(items)
        return concatenate([atleast_1d(item) for item in items])


@stands_for(objects=(np.r_, np.c_))
def _joining(standins, value) -> Joining:
    return Joining(value)
