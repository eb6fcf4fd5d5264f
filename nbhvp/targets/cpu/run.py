"""Runs the programs of a CPU: kernels, on one thread or on a team.

A program is one int64 array: a header, a record of four words per step, and the steps' tables. A
step runs as blocks of its extent.

Invariant: the bounds of blocks depend on sizes alone, so a program gives the same bits on any number
of threads.
"""

import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nbhvp.targets.cpu.entries.layouts import HEADER, LINE, STEP, SYSTEM, WORKER
from nbhvp.targets.native import entries, machine
from nbhvp.targets.tables import Ref, words_of

# --- programs -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A kernel, its table (Refs, ints, floats, complex numbers), and how its extent is cut."""

    address: int
    table: tuple
    extent: int
    block: int


def assemble(
    steps: Sequence[Step], addresses: Mapping, v: Hashable = "v", out: Hashable = "out"
) -> np.ndarray:
    """Lay out a program.

    `addresses` places each buffer that a Ref names, but for `v` and `out`, which each call of `run`
    gives. The program holds bare addresses: whoever calls it keeps kernels and buffers alive.
    """
    words: list = []
    patches, most = {v: [0], out: [0]}, 0
    start = HEADER + STEP * len(steps)
    records = []
    for step in steps:
        assert step.block >= 1, "a block has at least one element"
        records += [step.address, 8 * (start + len(words)), step.extent, step.block]
        most = max(most, -(-step.extent // step.block))
        for entry in step.table:
            if isinstance(entry, Ref) and entry.buffer in patches:
                patches[entry.buffer] += [start + len(words), entry.offset]
                patches[entry.buffer][0] += 1
                words.append(0)
            else:
                words += words_of(entry, addresses)
    end = start + len(words)
    header = [len(steps), 8 * end, 8 * (end + len(patches[v])), most]
    return np.array(header + records + words + patches[v] + patches[out], np.int64)


# --- running --------------------------------------------------------------------------------------


ALONE = {"run": "aaa", "place": "aaa", "address": "a"}
TEAM = {"run_shared": "aiiaa", "serve": "ii"}
"""Functions of `drivers`, and their arguments: the addresses of arrays, or integers. Those of a team
are compiled apart, as small programs have none."""


@functools.cache
def _functions(is_team: bool) -> dict[str, Callable]:
    return entries.load("nbhvp.targets.cpu.entries.drivers", TEAM if is_team else ALONE)


class Entry:
    """A function of `drivers`, loaded or compiled when it is first wanted. Nothing is checked."""

    def __init__(self, name: str):
        self._name = name

    @functools.cached_property
    def call(self) -> Callable:
        """The function itself."""
        return _functions(self._name in TEAM)[self._name]

    def __call__(self, *args):
        return self.call(*args)


run = Entry("run")
"""Run a program from v to out: C-contiguous arrays of the dtypes and sizes it was made for.

A program is in use by one call at a time.
"""
place = Entry("place")
"""Write the address of an array into a program, at the places that `drivers.place` takes."""
address = Entry("address")
"""Where the elements of an array begin; `array.ctypes.data` takes a microsecond."""
_run_shared = Entry("run_shared")
_serve = Entry("serve")


def execute(program):
    """Run a program in which every address stands already."""
    run(program, program, program)


def run_parallel(program, v, out):
    """`run` on as many threads as numba allows, when no other call has them."""
    team, workers = _team(program)
    return _run_shared(program, team, workers, v, out) if workers > 0 else run(program, v, out)


def execute_parallel(program):
    """`execute` on as many threads as numba allows, when no other call has them."""
    run_parallel(program, program, program)


_the_team = None  # its address and its number of workers
_making = threading.Lock()


def _team(program):
    """The team of this process, and how many workers a program may have now."""
    global _the_team
    allowed = _allowed()
    workers = min(allowed, program[3]) - 1
    if workers < 1:
        return 0, 0
    if _the_team is None:
        with _making:
            # The cores are counted once: asking takes a microsecond.
            _the_team = _the_team or _start(machine.processors() - 1)
    return _the_team[0], min(workers, _the_team[1])


def _allowed() -> int:
    """The threads that numba allows, whether it has been imported or not."""
    numba = sys.modules.get("numba")
    if numba is None or not hasattr(numba, "get_num_threads"):
        return machine.threads()
    # get_num_threads would start numba's own pool, if that does not run yet.
    if numba.np.ufunc.parallel._is_initialized:
        return numba.get_num_threads()
    return numba.config.NUMBA_NUM_THREADS


def _start(workers):
    """Make a team and start its threads."""
    team = np.zeros((WORKER + workers * LINE) // 8, np.int64)
    python = ctypes.pythonapi
    python.Py_IncRef(ctypes.py_object(team))  # the threads outlive the modules
    python.PyThread_allocate_lock.restype = ctypes.c_void_p
    functions = python.PyThread_acquire_lock, python.PyThread_release_lock, _give_way()
    team[SYSTEM // 8 :][:3] = [ctypes.cast(f, ctypes.c_void_p).value for f in functions]
    for worker in range(workers):
        lock = python.PyThread_allocate_lock()
        python.PyThread_acquire_lock(ctypes.c_void_p(lock), 1)
        team[(WORKER + worker * LINE) // 8 :][:2] = 1, lock
        arguments = team.ctypes.data, worker
        try:
            threading.Thread(target=_serve.call, args=arguments, name="nbhvp", daemon=True).start()
        except RuntimeError:  # the system gives no more threads
            return team.ctypes.data, worker
    return team.ctypes.data, workers


def _give_way():
    if sys.platform == "win32":
        return ctypes.windll.kernel32.SwitchToThread
    return ctypes.CDLL(None).sched_yield


def _forget_team():
    # A forked child has the memory of the team, but not its threads.
    global _the_team, _making
    _the_team, _making = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_team)
