"""Object code of several modules at once, by LLVM in a thread for each processor.

llvmlite lets one thread at a time call LLVM. Two calls take nearly all the time: LLVM's passes, and the
making of object code. Threads make them past llvmlite's lock, each on a module in a context of its own
and with a target machine that no other module has meanwhile. The thread that asked holds the lock from
the first module to the last, and makes all other calls: so nobody else uses LLVM meanwhile, and a fork waits.

Invariant: the object code of a module is the same as by one thread.
"""

import ctypes
import functools
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import llvmlite.binding as llvm

from nbhvp.targets.native import machine

__all__ = ["object_codes"]

AHEAD = 3
"""Modules for each thread, one of them in work: each takes about a megabyte."""


def object_codes(modules: Iterable[Callable[[int], machine.Passes]]) -> list[bytes]:
    """The object code of each module, which is made with the number of a target machine.

    The next one is made while LLVM works on those before.
    """
    codes: list[bytes] = []
    pending: deque[tuple[machine.Passes, Future]] = deque()
    with llvm.ffi.lib._lock:
        pool = ThreadPoolExecutor(machine.threads(), "nbhvp-llvm")
        try:
            # Threads get addresses: to let go of a module takes the lock.
            most = AHEAD * machine.threads()
            for k, make in enumerate(modules):
                if len(pending) == most:
                    codes.append(_content(*pending[0][1].result()))
                    pending.popleft()
                one = make(k % most)
                parts = one.passes, one.module, one.builder, one.machine
                addresses = [part._as_parameter_ for part in parts]
                pending.append((one, pool.submit(_compiled, *addresses)))
            return codes + [_content(*code.result()) for _, code in pending]
        finally:
            _end(pool)


def _end(pool: ThreadPoolExecutor) -> None:
    """Wait for all threads, also where another Ctrl-C comes: the modules that they have are freed behind."""
    try:
        pool.shutdown(cancel_futures=True)
    except KeyboardInterrupt:
        _end(pool)
        raise


def _compiled(passes, module, builder, target) -> tuple[Any, ctypes.c_char_p]:
    """LLVM's buffer with the object code; none after an error, of which it tells."""
    error = ctypes.c_char_p()
    _unlocked("LLVMPY_RunNewModulePassManager")(passes, module, builder)
    emit = _unlocked("LLVMPY_TargetMachineEmitToMemory")
    return emit(target, module, 1, ctypes.byref(error)), error


@functools.cache
def _unlocked(name: str) -> Any:
    """A function of llvmlite's, without its lock."""
    function = getattr(llvm.ffi.lib, name)
    return getattr(function, "_cfn", function)


def _content(buffer: Any, error: ctypes.c_char_p) -> bytes:
    lib = llvm.ffi.lib
    if not buffer:
        raise RuntimeError(f"LLVM made no object code: {(error.value or b'').decode()}")
    try:
        return ctypes.string_at(lib.LLVMPY_GetBufferStart(buffer), lib.LLVMPY_GetBufferSize(buffer))
    finally:
        lib.LLVMPY_DisposeMemoryBuffer(buffer)
