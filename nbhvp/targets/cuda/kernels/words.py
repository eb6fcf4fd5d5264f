"""The words of kernels for GPUs, beside those that all targets share.

    thread, threads, block, block_y, blocks_y    positions in the grid, and its extents
    warp, own, lane                              the number of the warp in the grid and in its block, and of
                                                 the thread in it
    sync_warp, sync_block                        what a thread has stored before, the others read behind it
    shared                                       an array in the memory that a block shares, from a byte on
    warp_sum, warp_all                           the sum over the lanes of a warp, in each of them
    warp_scan, warp_last                         the sum over the lanes up to this one; what the last lane has
    warp_swap                                    what the lane has whose number differs in one bit

Each writes a few instructions of LLVM's NVPTX back end. All lanes of a warp must reach `sync_warp` and the
words of warps, all threads of a block `sync_block`.
"""

import ast
from collections.abc import Callable

from llvmlite import ir

from nbhvp.targets.lowering.arithmetic import binary
from nbhvp.targets.lowering.values import BYTES, I1, I8, I32, I64, TYPES, Array, Unknown, Value
from nbhvp.targets.lowering.vocabulary import LANGUAGE

__all__ = ["WORDS"]

MEMORY = "nbhvp_shared"
GLOBAL = ir.PointerType(ir.IntType(8), 1)


def _instruction(walk, name: str, returned, *xs):
    """Call an intrinsic function of NVPTX."""
    globals_ = walk.function.module.globals
    name = f"llvm.nvvm.{name}"
    if name not in globals_:
        kind = ir.FunctionType(returned, [x.type for x in xs])
        ir.Function(walk.function.module, kind, name)
    return walk.builder.call(globals_[name], xs)


def _register(walk, name: str):
    return _instruction(walk, f"read.ptx.sreg.{name}", I32)


def _position(name: str) -> Callable:
    def word(walk):
        return Value("i8", (walk.builder.zext(_register(walk, name), I64),))

    return word


def _lane(walk):
    thread = _register(walk, "tid.x")
    return Value("i8", (walk.builder.zext(walk.builder.and_(thread, I32(31)), I64),))


def _warp(walk):
    builder = walk.builder
    block, threads, thread = (_register(walk, name) for name in ("ctaid.x", "ntid.x", "tid.x"))
    warps = builder.mul(block, builder.lshr(threads, I32(5)))
    return Value("i8", (builder.zext(builder.add(warps, builder.lshr(thread, I32(5))), I64),))


def _own(walk):
    thread = _register(walk, "tid.x")
    return Value("i8", (walk.builder.zext(walk.builder.lshr(thread, I32(5)), I64),))


def _sync_block(walk):
    _instruction(walk, "barrier0", ir.VoidType())


def _shared(walk, start, code):
    """Elements in the memory of a block, whose size the launch tells."""
    module = walk.function.module
    if MEMORY not in module.globals:
        memory = ir.GlobalVariable(module, ir.ArrayType(I8, 0), MEMORY, addrspace=3)
        memory.align = 16
    at = walk.builder.gep(module.globals[MEMORY], [I64(0), start.parts[0]])
    return Array(code, None, True, walk.builder.addrspacecast(at, BYTES))


def _sync_warp(walk):
    _instruction(walk, "bar.warp.sync", ir.VoidType(), I32(-1))


def _exchanged(walk, x: Value, way: str, which, mask: int = 31) -> Value:
    """What another lane has: `which` tells, and the way in which it does."""
    if x.kind in ("b1", "i1", "u1", "i2", "u2"):
        raise Unknown(f"an exchange of {x.kind} between lanes")
    return Value(x.kind, tuple(_words_exchanged(walk, part, way, which, mask) for part in x.parts))


def _words_exchanged(walk, x, way: str, which, mask: int):
    builder, width = walk.builder, 64 if x.type in (TYPES["f8"], I64) else 32
    whole = ir.IntType(width)
    word = x if x.type == whole else builder.bitcast(x, whole)
    halves = [word] if width == 32 else [builder.trunc(word, I32)]
    if width == 64:
        halves.append(builder.trunc(builder.lshr(word, I64(32)), I32))
    name = f"shfl.sync.{way}.i32"
    found = [_instruction(walk, name, I32, I32(-1), one, which, I32(mask)) for one in halves]
    if width == 64:
        low, high = (builder.zext(half, I64) for half in found)
        found = [builder.or_(low, builder.shl(high, I64(32)))]
    return found[0] if x.type == whole else builder.bitcast(found[0], x.type)


def _warp_swap(walk, x, distance):
    return _exchanged(walk, x, "bfly", I32(distance.literal))


def _warp_last(walk, x):
    return _exchanged(walk, x, "idx", I32(31))


def _warp_sum(walk, x):
    for distance in (16, 8, 4, 2, 1):
        x = binary(walk.builder, ast.Add, x, _exchanged(walk, x, "bfly", I32(distance)))
    return x


def _warp_scan(walk, x):
    lane = walk.builder.trunc(_lane(walk).parts[0], I32)
    for distance in (1, 2, 4, 8, 16):
        other = binary(walk.builder, ast.Add, x, _exchanged(walk, x, "up", I32(distance), 0))
        reaches = walk.builder.icmp_unsigned(">=", lane, I32(distance))
        pairs = zip(other.parts, walk.cast(x, other.kind).parts, strict=True)
        x = Value(other.kind, tuple(walk.builder.select(reaches, a, b) for a, b in pairs))
    return x


def _warp_all(walk, x):
    condition = walk.cast(x, "b1").parts[0]
    return Value("b1", (_instruction(walk, "vote.all.sync", I1, I32(-1), condition),))


def _array(word: Callable) -> Callable:
    """An array in the memory that all threads share: loads that know it take other instructions."""

    def on_device(walk, table, k, code):
        array: Array = word(walk, table, k, code)
        shared = walk.builder.addrspacecast(array.address, GLOBAL)
        return array._replace(address=walk.builder.addrspacecast(shared, array.address.type))

    return on_device


POSITIONS: dict[str, Callable] = {
    "thread": _position("tid.x"),
    "threads": _position("ntid.x"),
    "block": _position("ctaid.x"),
    "block_y": _position("ctaid.y"),
    "blocks_y": _position("nctaid.y"),
    "warp": _warp,
    "own": _own,
    "lane": _lane,
    "sync_block": _sync_block,
    "shared": _shared,
    "sync_warp": _sync_warp,
    "warp_sum": _warp_sum,
    "warp_all": _warp_all,
    "warp_scan": _warp_scan,
    "warp_last": _warp_last,
    "warp_swap": _warp_swap,
}

SHARED = ("integer", "real", "cplx", "cast", "add_reassoc", "times")
WORDS: dict[str, Callable] = {
    **POSITIONS,
    **{name: LANGUAGE[name] for name in SHARED},
    "call": lambda walk, function, *xs: function(walk, *xs),
    **{name: _array(LANGUAGE[name]) for name in ("reads", "writes")},
}
"""Words by their names. `call` takes functions by name: a GPU has no addresses of C functions."""
