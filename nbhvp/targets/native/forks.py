"""Locks of the compilers across a fork.

A child process has one thread and a copy of the memory. A lock that another thread held would stay
locked for ever, and the data of Numba and LLVM that it protected may be half written. So a fork waits
for the threads that compile, up to `PATIENCE`; the child has new locks, except for those that the
forking thread holds itself.
"""

import os
import sys

import llvmlite.binding.ffi

PATIENCE = 20.0
"""Seconds. The longest compilation of a kernel takes less."""

_taken: list = []


def _holders() -> list:
    """What holds locks, in the order in which compilers take them; numba may not be there yet."""
    of_numba = getattr(sys.modules.get("numba.core.compiler_lock"), "global_compiler_lock", None)
    return [*filter(None, [of_numba]), llvmlite.binding.ffi.lib._lock]


def _take():
    """Wait until nobody compiles."""
    for holder in _holders():
        if not holder._lock.acquire(timeout=PATIENCE):
            break
        _taken.append(holder._lock)


def _release():
    while _taken:
        _taken.pop().release()


def _renew():
    _release()
    for holder in _holders():
        lock = holder._lock
        if not lock._is_owned():
            holder._lock = type(lock)()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_take, after_in_parent=_release, after_in_child=_renew)
