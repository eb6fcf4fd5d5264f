"""Locks of the compilers across a fork.

A child has one thread, and the memory as it was: a lock that another thread held stays locked for ever,
and what it was about to do to numba's and LLVM's data is half done. So a fork waits for whoever compiles,
up to `PATIENCE`; the child has new locks, except for those that the forking thread holds itself.
"""

import os

import llvmlite.binding.ffi
from numba.core.compiler_lock import global_compiler_lock

PATIENCE = 20.0
"""Seconds. The longest compilation of a kernel takes less."""

# In the order in which compilers take them.
_HOLDERS = (global_compiler_lock, llvmlite.binding.ffi.lib._lock)
_taken: list = []


def _take():
    """Wait until nobody compiles."""
    for holder in _HOLDERS:
        if not holder._lock.acquire(timeout=PATIENCE):
            break
        _taken.append(holder._lock)


def _release():
    while _taken:
        _taken.pop().release()


def _renew():
    _release()
    for holder in _HOLDERS:
        lock = holder._lock
        if not lock._is_owned():
            holder._lock = type(lock)()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_take, after_in_parent=_release, after_in_child=_renew)
