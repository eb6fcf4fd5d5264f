"""The language of kernels on a CPU, as types and intrinsics of Numba.

Numba compiles the kernels that `lower` does not translate with these definitions, and a test compares
`lower` with them.

A kernel is a C function `void(int64 *table, int64 lo, int64 hi)` that computes elements lo to hi of
one iteration space. All other values come through the table: addresses of arrays with their offset
added, integers, floats as their bits. A pointer's getitem is one load, without bounds check or
wraparound. Memory that a kernel writes overlaps no other memory that it touches, except through the
same slot, and metadata tell LLVM so. Every word of the language has a plain-Python twin in `cache`.
"""

import math
import operator
import re

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import alloca_once, alloca_once_value
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, infer, infer_global, signature
from numba.extending import intrinsic, lower_builtin, overload, register_jitable, register_model
from numba.np.numpy_support import as_dtype, from_dtype

from nbhvp.graph.table import incomplete
from nbhvp.targets.lowering import scalars
from nbhvp.targets.lowering.scalars import arithmetic, special
from nbhvp.targets.lowering.values import alias_marks
from nbhvp.targets.lowering.words import EXACT, WRITTEN, Number
from nbhvp.targets.native.by_numba import compiled
from nbhvp.targets.native.machine import Compiled

I64 = ir.IntType(64)


ARGUMENTS = types.CPointer(types.int64), types.int64, types.int64


def kernel(function) -> Compiled:
    """Compile a kernel."""
    return compiled(function, ARGUMENTS)


def straight_kernel(function) -> Compiled:
    """Compile a kernel whose innermost loops are so short that LLVM writes them out first."""
    return compiled(function, ARGUMENTS, is_straight=True)


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
    """The lines of a kernel's LLVM text that return an error: nobody looks at it."""
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


@intrinsic
def times(typing, x, y):
    """x * y, rounded by itself: a sum with it, or in it, is no fused multiply-add."""

    def generate(context, builder, sig, args):
        a, b = (_split(context, builder, x, value) for value in args)
        pairs = [(one, other) for one in a for other in b]
        found = [builder.fmul(*pair, flags=EXACT) for pair in pairs]
        if len(found) > 1:
            found = [builder.fsub(found[0], found[3]), builder.fadd(found[1], found[2])]
        return _join(context, builder, x, found)

    return (x(x, y), generate) if x == y else None


def c_call(builder, address, returned, arguments):
    function_type = ir.FunctionType(returned, [argument.type for argument in arguments])
    return builder.call(builder.inttoptr(address, function_type.as_pointer()), arguments)


def unpack(builder, values, kinds):
    """The arguments behind a star, each with its type."""
    return [(builder.extract_value(values, j), kind) for j, kind in enumerate(kinds)]


@intrinsic
def call(typing, address, *xs):
    """f(x, ...) for the address of a C function of doubles."""

    def generate(context, builder, sig, args):
        doubles = [
            context.cast(builder, x, kind, types.float64)
            for x, kind in unpack(builder, args[1], xs)
        ]
        return c_call(builder, args[0], ir.DoubleType(), doubles)

    return types.float64(types.int64, types.StarArgTuple(xs)), generate


@intrinsic(prefer_literal=True)
def output(typing, address, x, k, count):
    """The k-th of `count` results of f(x, *results), for the address of a C function of doubles."""

    def generate(context, builder, sig, args):
        places = [alloca_once(builder, ir.DoubleType()) for _ in range(count.literal_value)]
        double = context.cast(builder, args[1], x, types.float64)
        c_call(builder, args[0], ir.VoidType(), [double, *places])
        return builder.load(places[k.literal_value])

    return types.float64(types.int64, x, k, count), generate


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
        references = [reference(context, builder, *x) for x in unpack(builder, args[1], xs)]
        c_call(builder, args[0], ir.VoidType(), references)
        return context.get_dummy_value()

    return types.void(types.int64, types.StarArgTuple(xs)), generate


@intrinsic
def shift(typing, pointer, index):
    """The pointer to the element at an index."""

    def generate(context, builder, sig, args):
        size = I64(as_dtype(pointer.dtype).itemsize)
        return builder.gep(args[0], [builder.mul(args[1], size)])

    return pointer(pointer, types.int64), generate


@intrinsic
def stream(typing, pointer, index, x):
    """Store an element past the caches: here, like any other."""

    def generate(context, builder, sig, args):
        x = context.cast(builder, args[2], sig.args[2], pointer.dtype)
        stored = types.none(pointer, types.int64, pointer.dtype)
        _set(context, builder, stored, (args[0], args[1], x))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, x), generate


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
    """Tell LLVM what an access cannot overlap."""
    number = pointer.slot if pointer.written else None
    marks = alias_marks(builder.module, number, SLOT_BITS)
    for name, node in marks.items():
        access.set_metadata(name, node)


# The functions of `scalars`.

OPTIONS = {"error_model": "numpy"}
"""For functions with branches: a division by zero gives infinity or NaN."""


def know(function) -> None:
    """Write a function made of arithmetic out wherever it is called."""
    count = function.body.__code__.co_argcount

    @infer
    class Template(AbstractTemplate):
        key = function

        def generic(self, args, kws):
            real = types.Float | types.Integer | types.Boolean
            if len(args) == count and all(isinstance(arg, real) for arg in args):
                return signature(types.float64, *(types.float64,) * count)

    infer_global(function, types.Function(Template))

    @lower_builtin(function, *(types.float64,) * count)
    def generate(context, builder, sig, args):
        return function.body(*(Number(builder, arg) for arg in args)).value


for _function in vars(scalars).values():
    if hasattr(_function, "body"):
        know(_function)
for _function in (*WRITTEN, *incomplete.BODIES):
    register_jitable(**OPTIONS)(_function)
overload(incomplete.digamma, jit_options=OPTIONS)(lambda x: special.digamma)
overload(incomplete.trigamma, jit_options=OPTIONS)(lambda x: lambda x: special.zeta(2.0, x))
overload(incomplete.gammaln, jit_options=OPTIONS)(lambda x: lambda x: math.lgamma(x))

# Integers: the processor traps where the smallest one is divided by -1; NumPy wraps around.


def _is_signed(kind) -> bool:
    return isinstance(kind, types.Integer) and kind.signed


@overload(scalars.remainder)
def _remainder(x, y):
    if _is_signed(x) and _is_signed(y):
        return lambda x, y: np.remainder(x, 1 if y == -1 else y)
    return lambda x, y: np.remainder(x, y)


@overload(scalars.fmod)
def _fmod(x, y):
    def rest(x, y):
        # numba's own is wrong for negative integers.
        divisor = 1 if y == -1 else y
        rest = np.remainder(x, divisor)
        return rest - divisor if (rest != 0) & ((rest < 0) != (x < 0)) else rest

    return rest if _is_signed(x) and _is_signed(y) else lambda x, y: np.fmod(x, y)


@overload(scalars.floor_divide)
def _floor_divide(x, y):
    if _is_signed(x) and _is_signed(y):
        return lambda x, y: -x if y == -1 else np.floor_divide(x, y)
    if isinstance(x, types.Integer | types.Boolean):
        return lambda x, y: np.floor_divide(x, y)
    return arithmetic.floor_divide_floats
