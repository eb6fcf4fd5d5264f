"""Python's garbage collector while a function is traced and its programs are made.

A graph and its plan are many small objects that stay. The collector would walk over them whenever 700
more are made, which takes a sixth of the time to a first product. It still runs, after more objects.

Invariant: the thresholds are those from before once all threads have left `collected_rarely`. There is
no lock, which a fork might leave locked: a thread that enters while another one leaves may do without.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["collected_rarely"]

OBJECTS = 100_000
"""New objects after which the collector runs: they take some ten megabytes."""

_inside: list[None] = []
_before = gc.get_threshold()


@contextlib.contextmanager
def collected_rarely() -> Iterator[None]:
    """Let the collector run after more objects than otherwise."""
    global _before
    _inside.append(None)
    thresholds = gc.get_threshold()
    if 0 < thresholds[0] < OBJECTS:
        _before = thresholds
        gc.set_threshold(OBJECTS, *thresholds[1:])
    try:
        yield
    finally:
        _inside.pop()
        if not _inside and gc.get_threshold()[0] == OBJECTS:
            gc.set_threshold(*_before)
