"""The language of kernels on a CPU, and what runs them.

A kernel is a C function `void(int64 *table, int64 lo, int64 hi)` that computes elements lo to hi of
one iteration space. Everything else comes through the table: addresses of arrays with their offset
added, integers, floats as their bits. A pointer's getitem is one load: no bounds check, no
wraparound. What a kernel writes overlaps nothing else that it touches, except through the same
slot, and metadata say so to LLVM.

A program is one int64 array: a header, a record of four words per step, and the steps' tables. A
step runs as blocks of its extent whose bounds depend on sizes alone: a program gives the same bits
on any number of threads.

Threads sleep on a lock until a step has blocks for them. A thread touches nothing but the team's
own words until it has claimed a block, and a step ends when its blocks are done: so a caller waits
for nobody who has no block, and a thread that wakes late finds nothing to touch.
"""

import ctypes
import operator
import os
import re
import sys
import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numba
import numpy as np
from llvmlite import ir
from numba import cfunc, njit, types
from numba.core.cgutils import alloca_once_value
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, register_model
from numba.np.numpy_support import as_dtype, from_dtype
from numba.np.ufunc import parallel as numba_threads

# --- what kernels are written in ------------------------------------------------------------------

I64 = ir.IntType(64)


def kernel(function):
    """Compile a kernel, or load it from numba's cache beside its file."""
    c_signature = types.void(types.CPointer(types.int64), types.int64, types.int64)
    options = dict(error_model="numpy", fastmath={"contract"})
    try:
        return cfunc(c_signature, cache=True, **options)(function)
    except (OSError, RuntimeError):  # no folder for the cache, or a full one
        return cfunc(c_signature, **options)(function)


class Pointer(types.Type):
    """The elements behind one slot of the table. `slot` tells what LLVM may take as disjoint."""

    def __init__(self, dtype, slot, written):
        self.dtype, self.slot, self.written = dtype, slot, written
        super().__init__(name=f"Pointer({dtype}, {slot}, {'written' if written else 'read'})")


@register_model(Pointer)
class _PointerModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.IntType(8).as_pointer())


def raise_paths(llvm: str) -> list[str]:
    """The lines of a kernel's LLVM text that return an error: a cfunc would swallow it."""
    return [line for line in llvm.splitlines() if re.match(r"\s*ret i32 (?!0\b)", line)]


def _slot(builder, table, k, llvm_type=I64):
    """Load slot k. Nothing writes to a table while a kernel runs."""
    address = builder.bitcast(builder.gep(table, [I64(k)]), llvm_type.as_pointer())
    load = builder.load(address)
    load.set_metadata("invariant.load", builder.module.add_metadata([]))
    return load


def _split(context, builder, dtype, value):
    """The real numbers that make up a value: two if it is complex."""
    if not isinstance(dtype, types.Complex):
        return [value]
    z = context.make_complex(builder, dtype, value)
    return [z.real, z.imag]


def _join(context, builder, dtype, parts):
    if not isinstance(dtype, types.Complex):
        return parts[0]
    z = context.make_complex(builder, dtype)
    z.real, z.imag = parts
    return z._getvalue()


def _dtype(code):
    return from_dtype(np.dtype(code.literal_value))


def _pointer(table, k, code, written):
    def generate(context, builder, sig, args):
        return _slot(builder, args[0], k.literal_value, ir.IntType(8).as_pointer())

    return Pointer(_dtype(code), k.literal_value, written)(table, k, code), generate


@intrinsic(prefer_literal=True)
def reads(typing, table, k, code):
    """The array behind slot k, which the kernel only reads."""
    return _pointer(table, k, code, written=False)


@intrinsic(prefer_literal=True)
def writes(typing, table, k, code):
    """The array behind slot k, which the kernel writes, and may read back."""
    return _pointer(table, k, code, written=True)


@intrinsic(prefer_literal=True)
def integer(typing, table, k):
    """The integer in slot k."""

    def generate(context, builder, sig, args):
        return _slot(builder, args[0], k.literal_value)

    return types.int64(table, k), generate


function = integer  # an address here, a callable where kernels run as plain Python


def _constant(table, k, code):
    dtype = _dtype(code)
    part = getattr(dtype, "underlying_float", dtype)

    def generate(context, builder, sig, args):
        slots = range(k.literal_value, k.literal_value + (1 if part is dtype else 2))
        doubles = [_slot(builder, args[0], slot, ir.DoubleType()) for slot in slots]
        parts = [context.cast(builder, x, types.float64, part) for x in doubles]
        return _join(context, builder, dtype, parts)

    return dtype(table, k, code), generate


@intrinsic(prefer_literal=True)
def real(typing, table, k, code):
    """The float in slot k, which holds the bits of a double."""
    return _constant(table, k, code)


@intrinsic(prefer_literal=True)
def cplx(typing, table, k, code):
    """The complex number whose parts are in slots k and k + 1."""
    return _constant(table, k, code)


@intrinsic(prefer_literal=True)
def cast(typing, x, code):
    """x as another dtype: `cast(0.0, "f4")` starts a sum in single precision."""
    dtype = _dtype(code)

    def generate(context, builder, sig, args):
        return context.cast(builder, args[0], x, dtype)

    return dtype(x, code), generate


@intrinsic
def add_reassoc(typing, total, x):
    """total + x, which LLVM may reorder: a sum becomes one SIMD register of partial sums."""
    dtype = typing.unify_types(total, x)

    def generate(context, builder, sig, args):
        terms = [_split(context, builder, dtype, value) for value in args]
        if isinstance(dtype, types.Integer):
            return builder.add(args[0], args[1])
        flags = ("reassoc", "contract")
        sums = [builder.fadd(a, b, flags=flags) for a, b in zip(*terms, strict=True)]
        return _join(context, builder, dtype, sums)

    return dtype(dtype, dtype), generate


def _call(builder, address, returned, arguments):
    function_type = ir.FunctionType(returned, [argument.type for argument in arguments])
    return builder.call(builder.inttoptr(address, function_type.as_pointer()), arguments)


def _unpack(builder, values, kinds):
    """The arguments behind a star, each with its type."""
    return [(builder.extract_value(values, j), kind) for j, kind in enumerate(kinds)]


@intrinsic
def call(typing, address, *xs):
    """f(x, ...) for the address of a C function of doubles."""

    def generate(context, builder, sig, args):
        doubles = [
            context.cast(builder, x, kind, types.float64)
            for x, kind in _unpack(builder, args[1], xs)
        ]
        return _call(builder, args[0], ir.DoubleType(), doubles)

    return types.float64(types.int64, types.StarArgTuple(xs)), generate


@intrinsic
def fortran(typing, address, *xs):
    """Call a Fortran routine: numbers by reference, integers as 32 bits, pointers as they are."""

    def reference(context, builder, x, kind):
        if isinstance(kind, Pointer):
            return x
        if isinstance(kind, types.Integer):
            x = context.cast(builder, x, kind, types.int32)
        return builder.bitcast(alloca_once_value(builder, x), ir.IntType(8).as_pointer())

    def generate(context, builder, sig, args):
        references = [reference(context, builder, *x) for x in _unpack(builder, args[1], xs)]
        _call(builder, args[0], ir.VoidType(), references)
        return context.get_dummy_value()

    return types.void(types.int64, types.StarArgTuple(xs)), generate


@intrinsic
def enter(typing, table, k, lo, hi):
    """Run kernel k of those that a table holds, on the units of its own that lo to hi are.

    The table begins with their number, then has for each its address, where its own table lies (in
    words from here), and how many of the units of lo and hi one of its units is.
    """

    def generate(context, builder, sig, args):
        table, k, lo, hi = args
        record = builder.add(builder.mul(k, I64(3)), I64(1))
        address, offset, unit = (
            builder.load(builder.gep(table, [builder.add(record, I64(j))])) for j in range(3)
        )
        last = builder.sub(builder.add(hi, unit), I64(1))
        bounds = builder.sdiv(lo, unit), builder.sdiv(last, unit)
        _call(builder, address, ir.VoidType(), [builder.gep(table, [offset]), *bounds])
        return context.get_dummy_value()

    return types.void(table, types.int64, types.int64, types.int64), generate


@intrinsic
def shift(typing, pointer, index):
    """The pointer to the element at an index."""

    def generate(context, builder, sig, args):
        size = I64(as_dtype(pointer.dtype).itemsize)
        return builder.gep(args[0], [builder.mul(args[1], size)])

    return pointer(pointer, types.int64), generate


@infer_global(operator.getitem)
class _GetItem(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], Pointer) and isinstance(args[1], types.Integer):
            return signature(args[0].dtype, args[0], types.int64)


@infer_global(operator.setitem)
class _SetItem(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], Pointer) and isinstance(args[1], types.Integer):
            return signature(types.none, args[0], types.int64, args[0].dtype)


@lower_builtin(operator.getitem, Pointer, types.Integer)
def _get(context, builder, sig, args):
    dtype, places = _places(context, builder, sig, args)
    parts = [builder.load(place) for place in places]
    for load in parts:
        _mark(builder, load, sig.args[0])
    model = context.data_model_manager[dtype]
    parts = [model.from_data(builder, part) for part in parts]
    return _join(context, builder, sig.return_type, parts)


@lower_builtin(operator.setitem, Pointer, types.Integer, types.Any)
def _set(context, builder, sig, args):
    dtype, places = _places(context, builder, sig, args)
    assert sig.args[0].written, "a kernel stores through a pointer that it declares as read"
    model = context.data_model_manager[dtype]
    for place, part in zip(places, _split(context, builder, sig.args[2], args[2]), strict=True):
        _mark(builder, builder.store(model.as_data(builder, part), place), sig.args[0])


def _places(context, builder, sig, args):
    """Where the real numbers of one element lie, and their dtype."""
    dtype, index = sig.args[0].dtype, args[1]
    parts = 2 if isinstance(dtype, types.Complex) else 1
    dtype = getattr(dtype, "underlying_float", dtype)
    base = builder.bitcast(args[0], context.get_data_type(dtype).as_pointer())
    first = builder.mul(index, I64(parts), flags=["nsw"])
    offsets = [builder.add(first, I64(part), flags=["nsw"]) for part in range(parts)]
    return dtype, [builder.gep(base, [offset]) for offset in offsets]


SLOT_BITS = 10  # of slots that may hold a written pointer


def _mark(builder, access, pointer):
    """Tell LLVM what an access cannot overlap.

    Reads overlap no write. Of two written slots, each knows only its own number, so each bit of the
    number is an alias domain of two scopes: an access is in the scope of its own bit and overlaps
    nothing in the scope of the other. Different slots differ in a bit, and one domain is enough.
    """
    node = builder.module.add_metadata

    def scope(name, domain):
        text = [ir.MetaDataString(builder.module, f"nbhvp {t}") for t in (name, domain)]
        return node([text[0], node([text[1]])])

    written = scope("written", "role")
    if not pointer.written:
        access.set_metadata("noalias", node([written]))
        return
    bits = [(bit, pointer.slot >> bit & 1) for bit in range(SLOT_BITS)]
    own = [scope(f"bit {bit} is {value}", f"bit {bit}") for bit, value in bits]
    others = [scope(f"bit {bit} is {1 - value}", f"bit {bit}") for bit, value in bits]
    access.set_metadata("alias.scope", node([written, *own]))
    access.set_metadata("noalias", node(others))


# --- programs -------------------------------------------------------------------------------------

PARALLEL_FROM = 100e-6  # seconds of work that pay for waking a thread; 20e-6 if it is awake

HEADER = 4  # words: number of steps, of patches from v, of patches to out, most blocks of a step
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
    words, patches, most = [], {v: [], out: []}, 0
    start = HEADER + STEP * len(steps)
    records = []
    for step in steps:
        assert step.block >= 1, "a block has at least one element"
        records += [step.address, 8 * (start + len(words)), step.extent, step.block]
        most = max(most, -(-step.extent // step.block))
        for entry in step.table:
            if isinstance(entry, Ref) and entry.buffer in patches:
                patches[entry.buffer] += [start + len(words), entry.offset]
                words.append(0)
            else:
                words += _words(entry, addresses)
    header = [len(steps), len(patches[v]) // 2, len(patches[out]) // 2, most]
    return np.array(header + records + words + patches[v] + patches[out], np.int64)


def _words(entry, addresses):
    if isinstance(entry, Ref):
        return [addresses[entry.buffer] + entry.offset]
    if isinstance(entry, complex | np.complexfloating):
        return [*_words(float(entry.real), {}), *_words(float(entry.imag), {})]
    if isinstance(entry, float | np.floating):
        return [np.float64(entry).view(np.int64)]
    return [operator.index(entry)]


# --- running on one thread ------------------------------------------------------------------------


def _compiled(function):
    try:
        return njit(function, nogil=True, cache=True)
    except RuntimeError:  # no folder for numba's cache can be written
        return njit(function, nogil=True)


@intrinsic
def _invoke(typing, address, *words):
    """Call a C function of 64-bit words. What it returns is dropped."""

    def generate(context, builder, sig, args):
        _call(builder, args[0], ir.VoidType(), [x for x, _ in _unpack(builder, args[1], words)])
        return context.get_dummy_value()

    return types.void(types.int64, types.StarArgTuple(words)), generate


@_compiled
def _patch(program, v, out):
    """Write the addresses of v and of out into the tables."""
    at = program.size - 2 * (program[1] + program[2])
    for j in range(program[1] + program[2]):
        array = v if j < program[1] else out
        program[program[at + 2 * j]] = array + program[at + 2 * j + 1]


@_compiled
def execute(program):
    """Run a program in which every address stands already."""
    start = program.ctypes.data
    for step in range(program[0]):
        at = HEADER + STEP * step
        table, extent, block = start + program[at + 1], program[at + 2], program[at + 3]
        for lo in range(0, extent, block):
            _invoke(program[at], table, lo, min(lo + block, extent))


@_compiled
def run(program, v, out):
    """Run a program from v to out: C-contiguous arrays of the dtypes and sizes it was made for.

    Nothing is checked. A program is in use by one call at a time.
    """
    _patch(program, v.ctypes.data, out.ctypes.data)
    execute(program)


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


def _word(builder, address):
    return builder.inttoptr(address, I64.as_pointer())


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
        execute(program)
        return
    start = program.ctypes.data
    for step in range(program[0]):
        at = HEADER + STEP * step
        table, extent, block = start + program[at + 1], program[at + 2], program[at + 3]
        if extent > block:
            _share(team, workers, program[at], table, extent, block)
        elif extent > 0:
            _invoke(program[at], table, 0, extent)
    _store(team + BUSY, 0)


@_compiled
def _run_shared(program, team, workers, v, out):
    # Patch only one's own program: the team may be busy with another.
    _patch(program, v.ctypes.data, out.ctypes.data)
    _execute_shared(program, team, workers)


def execute_parallel(program):
    """`execute` on as many threads as numba allows, when no other call has them."""
    team, workers = _team(program)
    return _execute_shared(program, team, workers) if workers > 0 else execute(program)


def run_parallel(program, v, out):
    """`run` on as many threads as numba allows, when no other call has them."""
    team, workers = _team(program)
    return _run_shared(program, team, workers, v, out) if workers > 0 else run(program, v, out)


_the_team = None  # its address and its number of workers
_making = threading.Lock()


def _team(program):
    """The team of this process, and how many workers a program may have now."""
    global _the_team
    # get_num_threads would start numba's own pool, if that does not run yet.
    started = numba_threads._is_initialized
    allowed = numba.get_num_threads() if started else numba.config.NUMBA_NUM_THREADS
    workers = min(allowed, _cores(), program[3]) - 1
    if workers < 1:
        return 0, 0
    if _the_team is None:
        with _making:
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
