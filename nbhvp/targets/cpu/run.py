"""What runs kernels on a CPU: programs, on one thread or on a team.

A program is one int64 array: a header, a record of four words per step, and the steps' tables. A
step runs as blocks of its extent whose bounds depend on sizes alone: a program gives the same bits
on any number of threads.

Threads sleep on a lock until a step has blocks for them. A thread touches nothing but the team's
own words until it has claimed a block, and a step ends when its blocks are done: so a caller waits
for nobody who has no block, and a thread that wakes late finds nothing to touch.
"""

import contextlib
import ctypes
import functools
import operator
import os
import sys
import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.caching import FunctionCache
from numba.core.datamodel import models
from numba.extending import NativeValue, intrinsic, register_model, unbox
from numba.np.ufunc import parallel as numba_threads

from nbhvp.errors import pass_on_interrupt
from nbhvp.targets.cpu.language import I64, c_call, unpack

# --- programs -------------------------------------------------------------------------------------

HEADER = 4  # words: number of steps, patches from v and to out (bytes), most blocks of a step
STEP = 4  # words: kernel, table (bytes from the program's start), extent, block


@dataclass(frozen=True)
class Ref:
    """An address in a table: so many bytes into a buffer that is placed later."""

    buffer: Hashable
    offset: int = 0


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
                words += _words(entry, addresses)
    end = start + len(words)
    header = [len(steps), 8 * end, 8 * (end + len(patches[v])), most]
    return np.array(header + records + words + patches[v] + patches[out], np.int64)


def _words(entry, addresses):
    if isinstance(entry, Ref):
        return [addresses[entry.buffer] + entry.offset]
    if isinstance(entry, complex | np.complexfloating):
        return [*_words(float(entry.real), {}), *_words(float(entry.imag), {})]
    if isinstance(entry, float | np.floating):
        return [np.float64(entry).view(np.int64)]
    return [operator.index(entry)]


# --- what is compiled -----------------------------------------------------------------------------


def _compiled(function):
    compiled = njit(function, nogil=True)
    with contextlib.suppress(RuntimeError):  # no folder for it can be written
        compiled._cache = _Cache(function)
    return compiled


class _Cache(FunctionCache):
    """numba's cache; where the disk is full, or a file damaged, it is done without."""

    def save_overload(self, sig, data):
        pass_on_interrupt(data.library)
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            return None


class Array(types.Type):
    """Any NumPy array, of which compiled code sees the address alone.

    numba's own arrays would need a compilation for each dtype and number of axes, and twice the
    time to be passed.
    """

    def __init__(self):
        super().__init__("nbhvp.Array")


ARRAY = Array()


@register_model(Array)
class _ArrayModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, I64)


@unbox(Array)
def _unbox_array(kind, array, c):
    # The first field of an array behind what every object has: that much is NumPy's ABI.
    head = c.builder.ptrtoint(array, I64)
    return NativeValue(c.builder.load(_word(c.builder, c.builder.add(head, I64(_OBJECT)))))


_OBJECT = object.__basicsize__


class Entry:
    """A compiled function as Python calls it, without numba's dispatch. Nothing is checked."""

    def __init__(self, function, kinds):
        self._function, self._kinds = function, kinds
        self._call = None
        functools.update_wrapper(self, function)

    @property
    def call(self):
        """The function itself, compiled when it is first wanted."""
        if self._call is None:
            self._call = _compiled(self._function).compile(self._kinds)
        return self._call

    def __call__(self, *args):
        return self.call(*args)


def _entry(*kinds):
    return lambda function: Entry(function, kinds)


def _word(builder, address):
    return builder.inttoptr(address, I64.as_pointer())


@intrinsic
def _address(typing, array):
    def generate(context, builder, sig, args):
        return args[0]

    return types.int64(ARRAY), generate


@intrinsic
def _read(typing, address):
    def generate(context, builder, sig, args):
        return builder.load(_word(builder, args[0]))

    return types.int64(types.int64), generate


@intrinsic
def _write(typing, address, x):
    def generate(context, builder, sig, args):
        builder.store(args[1], _word(builder, args[0]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


# --- running on one thread ------------------------------------------------------------------------


@intrinsic
def _invoke(typing, address, *words):
    """Call a C function of 64-bit words. What it returns is dropped."""

    def generate(context, builder, sig, args):
        c_call(builder, args[0], ir.VoidType(), [x for x, _ in unpack(builder, args[1], words)])
        return context.get_dummy_value()

    return types.void(types.int64, types.StarArgTuple(words)), generate


@_compiled
def _place(program, patches, address):
    """Write the address of an array into the tables.

    `patches` is a number of them, then for each the position of a word and an offset in bytes.
    """
    for k in range(_read(patches)):
        at = patches + 16 * k
        _write(program + 8 * _read(at + 8), address + _read(at + 16))


@_compiled
def _patch(program, v, out):
    """Write the addresses of v and of out into the tables."""
    _place(program, program + _read(program + 8), v)
    _place(program, program + _read(program + 16), out)


@_compiled
def _execute(program):
    for step in range(_read(program)):
        at = program + 8 * (HEADER + STEP * step)
        table, extent, block = program + _read(at + 8), _read(at + 16), _read(at + 24)
        for lo in range(0, extent, block):
            _invoke(_read(at), table, lo, min(lo + block, extent))


@_entry(ARRAY, ARRAY, ARRAY)
def run(program, v, out):
    """Run a program from v to out: C-contiguous arrays of the dtypes and sizes it was made for.

    Nothing is checked. A program is in use by one call at a time.
    """
    _patch(_address(program), _address(v), _address(out))
    _execute(_address(program))


def execute(program):
    """Run a program in which every address stands already."""
    run(program, program, program)


@_entry(ARRAY, ARRAY, ARRAY)
def place(program, patches, array):
    """Write the address of an array into a program; see `_place`."""
    _place(_address(program), _address(patches), _address(array))


@_entry(ARRAY)
def address(array):
    """Where the elements of an array begin; `array.ctypes.data` takes a microsecond."""
    return _address(array)


# --- running on several threads -------------------------------------------------------------------

# A team is words of memory that is never freed, each contended word in a cache line of its own.
LINE = 64
TICKET = 0 * LINE  # the number of the step << 32 | its blocks that nobody has claimed
DONE = 1 * LINE  # blocks of this step that have been run
BUSY = 2 * LINE  # a call has the team
ORDER = 3 * LINE  # kernel, table, extent, block, workers: fixed while a block is claimed or open
SYSTEM = 4 * LINE  # addresses of the functions: acquire a lock, release it, give way
WORKER = 5 * LINE  # from here a line per worker: is it awake, the address of its lock
PATIENCE = 300  # looks at the ticket before a worker sleeps: about as long as a wake-up takes
SPINS = 1000  # looks at DONE before the caller gives way
_UNCLAIMED = 0xFFFFFFFF


@intrinsic
def _load(typing, address):
    def generate(context, builder, sig, args):
        return builder.load_atomic(_word(builder, args[0]), "seq_cst", 8)

    return types.int64(types.int64), generate


@intrinsic
def _store(typing, address, x):
    def generate(context, builder, sig, args):
        builder.store_atomic(args[1], _word(builder, args[0]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def _add(typing, address, x):
    def generate(context, builder, sig, args):
        return builder.atomic_rmw("add", _word(builder, args[0]), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def _replace(typing, address, old, new):
    """Store `new` if `old` is there, in one go. True if it was."""

    def generate(context, builder, sig, args):
        pointer = _word(builder, args[0])
        pair = builder.cmpxchg(pointer, args[1], args[2], "seq_cst", "seq_cst")
        return builder.extract_value(pair, 1)

    return types.boolean(types.int64, types.int64, types.int64), generate


@_compiled
def _claim(team, worker):
    """How many blocks were unclaimed, of which the last is now the caller's; 0 for none."""
    while True:
        ticket = _load(team + TICKET)
        if ticket & _UNCLAIMED == 0 or worker >= _load(team + ORDER + 32):
            return 0
        # A ticket is never used twice: if it still stands, the order was read whole.
        if _replace(team + TICKET, ticket, ticket - 1):
            return ticket & _UNCLAIMED


@_compiled
def _work(team, worker):
    """Run blocks of the step on offer until none is left. The number run."""
    ran = 0
    while True:
        unclaimed = _claim(team, worker)
        if unclaimed == 0:
            return ran
        if unclaimed > 1:
            _wake_one(team)
        extent, block = _load(team + ORDER + 16), _load(team + ORDER + 24)
        lo = (unclaimed - 1) * block
        _invoke(_load(team + ORDER), _load(team + ORDER + 8), lo, min(lo + block, extent))
        _add(team + DONE, 1)
        ran += 1


@_compiled
def _wake_one(team):
    """Wake a sleeping worker. Whoever finds work wakes one more, so all wake in log time."""
    for worker in range(_load(team + ORDER + 32)):
        me = team + WORKER + worker * LINE
        if _load(me) == 0 and _replace(me, 0, 1):
            _invoke(_load(team + SYSTEM + 8), _load(me + 8))
            return


@_compiled
def _serve(team, worker):
    """The life of a worker. It never returns and never needs the interpreter."""
    me = team + WORKER + worker * LINE
    while True:
        idle = 0
        while idle < PATIENCE:
            idle = 0 if _work(team, worker) else idle + 1
            _invoke(_load(team + SYSTEM + 16))
        _store(me, 0)
        # A step offered before the line above may have taken this worker for awake.
        if _load(team + TICKET) & _UNCLAIMED and _replace(me, 0, 1):
            continue
        _invoke(_load(team + SYSTEM), _load(me + 8), 1)


@_compiled
def _share(team, workers, kernel, table, extent, block):
    """Run one step together with the workers."""
    blocks = (extent + block - 1) // block
    _store(team + ORDER, kernel)
    _store(team + ORDER + 8, table)
    _store(team + ORDER + 16, extent)
    _store(team + ORDER + 24, block)
    _store(team + ORDER + 32, workers)
    _store(team + DONE, 0)
    _store(team + TICKET, ((_load(team + TICKET) >> 32) + 1) << 32 | blocks)
    _work(team, -1)
    spins = 0
    while _load(team + DONE) < blocks:
        spins += 1
        if spins > SPINS:
            _invoke(_load(team + SYSTEM + 16))


@_compiled
def _execute_shared(program, team, workers):
    if not _replace(team + BUSY, 0, 1):
        _execute(program)
        return
    for step in range(_read(program)):
        at = program + 8 * (HEADER + STEP * step)
        table, extent, block = program + _read(at + 8), _read(at + 16), _read(at + 24)
        if extent > block:
            _share(team, workers, _read(at), table, extent, block)
        elif extent > 0:
            _invoke(_read(at), table, 0, extent)
    _store(team + BUSY, 0)


@_entry(ARRAY, types.int64, types.int64, ARRAY, ARRAY)
def _run_shared(program, team, workers, v, out):
    # Patch only one's own program: the team may be busy with another.
    _patch(_address(program), _address(v), _address(out))
    _execute_shared(_address(program), team, workers)


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
    # get_num_threads would start numba's own pool, if that does not run yet.
    started = numba_threads._is_initialized
    allowed = numba.get_num_threads() if started else numba.config.NUMBA_NUM_THREADS
    workers = min(allowed, program[3]) - 1
    if workers < 1:
        return 0, 0
    if _the_team is None:
        with _making:
            # The cores are counted once: asking takes a microsecond.
            _the_team = _the_team or _start(_cores() - 1)
    return _the_team[0], min(workers, _the_team[1])


def _cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start(workers):
    """Make a team and start its threads."""
    team = np.zeros((WORKER + workers * LINE) // 8, np.int64)
    python = ctypes.pythonapi
    python.Py_IncRef(ctypes.py_object(team))  # the threads outlive the modules
    python.PyThread_allocate_lock.restype = ctypes.c_void_p
    functions = python.PyThread_acquire_lock, python.PyThread_release_lock, _give_way()
    team[SYSTEM // 8 :][:3] = [ctypes.cast(f, ctypes.c_void_p).value for f in functions]
    _serve.compile((types.int64, types.int64))
    for worker in range(workers):
        lock = python.PyThread_allocate_lock()
        python.PyThread_acquire_lock(ctypes.c_void_p(lock), 1)
        team[(WORKER + worker * LINE) // 8 :][:2] = 1, lock
        arguments = team.ctypes.data, worker
        try:
            threading.Thread(target=_serve, args=arguments, name="nbhvp", daemon=True).start()
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
