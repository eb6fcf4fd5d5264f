"""The active number: a float that records the operations on it, with its value, record and tape.

In a function compiled for active numbers each operation computes its value as Numba does for plain
floats, bit by bit, so branches and errors are those of the user's own function. Then one call appends
the record to the tape. A comparison, or a conversion to an integer, appends a guard.

A number with record 0 and tape 0 is a constant: the number itself holds its value. So zeroed memory is
0.0, and operations between constants are computed without a record. A constant that meets an active
number becomes a record; equal constants usually share one. If there is no memory for a record, the
values stay right and the run continues; its caller sees that records were lost.

Invariant: no code here names the rule of a primitive. Loops over the table of primitives make the
overloads of operators, of NumPy's functions and of those of math.
"""

import functools
import hashlib
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.errors import NumbaError
from numba.core.imputils import lower_constant
from numba.core.typeconv import Conversion
from numba.core.typing.templates import AbstractTemplate, builtin_registry, signature
from numba.extending import (
    intrinsic,
    lower_builtin,
    lower_cast,
    register_model,
    typeof_impl,
)
from numba.np.arrayobj import populate_array
from numba.np.npyimpl import numpy_ufunc_kernel

from nbhvp.graph import primitives as p
from nbhvp.graph.table import lengths
from nbhvp.graph.table.tape import CONSTANT
from nbhvp.loops.overloads.compositions import root
from nbhvp.loops.overloads.table import CODES, OPERATORS, PRIMITIVES, functions

__all__ = [
    "ACTIVE",
    "ACTIVE_COMPLEX",
    "BLOCK",
    "CAPACITY",
    "CODE_COLUMN",
    "COUNT",
    "GROW",
    "GUARDS",
    "LAYOUT",
    "LOST",
    "MARKS",
    "WORDS",
    "Active",
    "ActiveComplex",
    "active",
    "active_complex",
    "as_active",
    "as_active_complex",
    "mark",
    "position",
    "register",
    "tape_of",
    "widen",
]

# The tape in memory: a block for records, one for guards, one for marks, a cache of constants.

COUNT, CAPACITY, CODE_COLUMN, FIRST_COLUMN, SECOND_COLUMN, VALUE_COLUMN, GROW, LOST = range(8)
BLOCK = 8
"""Words of a block: how many rows it has and has room for, the addresses of its columns and of a
routine that makes room (0 if there is no more), and whether a row was lost."""
GUARDS = BLOCK
"""The first word of the guards' block."""
MARKS = 2 * BLOCK
"""The first word of the block of marks: whether a loop ends, the numbers of records and guards, the loop."""
CACHED = 1024
"""Constants that are remembered by their bits: at most one for each value of a hash."""
WORDS = 3 * BLOCK + 2 * CACHED
"""Words of the whole tape: the columns lie elsewhere."""

NUMBER_BYTES = 24
"""An active number in memory: value, record, tape."""

LAYOUT = hashlib.sha256(
    repr((BLOCK, CACHED, [(entry.name, entry.source) for entry in PRIMITIVES])).encode()
).hexdigest()[:16]
"""Stands in the type's name, so that code compiled for another table or tape never meets this one."""

I8, I32, I64, F64 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.DoubleType()


class Active(types.Type):
    """A number that records."""

    def __init__(self):
        super().__init__(name=f"Active({LAYOUT})")

    def unify(self, typingctx, other):
        if isinstance(other, types.Complex):
            return active_complex
        return self if isinstance(other, _PLAIN) else None

    def can_convert_from(self, typingctx, other):
        return Conversion.safe if isinstance(other, _PLAIN) else None


class ActiveComplex(types.Type):
    """A pair of numbers that record."""

    def __init__(self):
        super().__init__(name=f"ActiveComplex({LAYOUT})")

    def unify(self, typingctx, other):
        return self if isinstance(other, (Active, types.Complex, *_PLAIN)) else None

    def can_convert_from(self, typingctx, other):
        is_number = isinstance(other, (Active, types.Complex, *_PLAIN))
        return Conversion.safe if is_number else None


_PLAIN = (types.Float, types.Integer, types.Boolean)

active = Active()
active_complex = ActiveComplex()


@register_model(Active)
class _ActiveModel(models.StructModel):
    def __init__(self, dmm, fe_type):
        members = [("value", types.float64), ("record", types.int64), ("tape", types.int64)]
        super().__init__(dmm, fe_type, members)


@register_model(ActiveComplex)
class _ActiveComplexModel(models.StructModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, [("real", active), ("imag", active)])


@dataclass(frozen=True)
class _ActiveDtype:
    """What `np.empty(n, ACTIVE)` takes for the dtype of active numbers."""

    kind: types.Type


ACTIVE, ACTIVE_COMPLEX = map(_ActiveDtype, (active, active_complex))


@typeof_impl.register(_ActiveDtype)
def _type_of_dtype(value, context):
    return types.DType(value.kind)


@lower_constant(types.DType)
def _constant_dtype(context, builder, kind, value):
    return context.get_dummy_value()


class _Number(NamedTuple):
    """The parts of an active number."""

    value: ir.Value
    record: ir.Value
    tape: ir.Value


def _parts(builder, number) -> _Number:
    return _Number(*(builder.extract_value(number, k) for k in range(3)))


def _whole(context, builder, parts: _Number):
    number = context.get_value_type(active)(ir.Undefined)
    for k, part in enumerate(parts):
        number = builder.insert_value(number, part, k)
    return number


def _constant_number(context, builder, kind, value) -> _Number:
    """A plain number as a constant."""
    return _Number(_as_double(context, builder, kind, value), I64(0), I64(0))


def _as_double(context, builder, kind, value):
    plain = types.unliteral(kind)
    value = context.cast(builder, value, kind, plain)
    if isinstance(plain, types.Boolean):
        return builder.uitofp(builder.icmp_unsigned("!=", value, value.type(0)), F64)
    return context.cast(builder, value, plain, types.float64)


for _kind in _PLAIN:

    @lower_cast(_kind, Active)
    def _cast_to_active(context, builder, fromty, toty, value):
        return _whole(context, builder, _constant_number(context, builder, fromty, value))


@lower_builtin("print_item", Active)
def _print(context, builder, sig, args):
    value = _parts(builder, args[0]).value
    printed = context.get_function("print_item", signature(types.none, types.float64))
    return printed(builder, (value,))


# The routines that append, in LLVM: one of each per module.


def _routine(builder, name: str, returned, arguments, write: Callable, inline="noinline"):
    """A routine of the module that is being built; `write(builder, *arguments)` writes its body.

    It is not inlined: a call costs 1 ns, and its body at each operation would cost compile time.
    """
    module = builder.module
    if name not in module.globals:
        function = ir.Function(module, ir.FunctionType(returned, arguments), name)
        function.linkage = "linkonce_odr"
        for attribute in ("nounwind", inline):
            function.attributes.add(attribute)
        write(ir.IRBuilder(function.append_basic_block("entry")), *function.args)
    return module.globals[name]


def _word(builder, address, index):
    """A pointer to word `index` from an address."""
    return builder.gep(builder.inttoptr(address, I64.as_pointer()), [index])


def _load(builder, address, index: int):
    return builder.load(_word(builder, address, I64(index)))


def _if_then_return(builder, condition, result, likely=None):
    with builder.if_then(condition, likely=likely):
        builder.ret(result)


def _append(builder, block, code, first, second, value):
    """Append a row to a block and return its number; 0 if there is no room."""

    def write(b, block, code, first, second, value):
        count = _load(b, block, COUNT)
        with b.if_then(b.icmp_unsigned("==", count, _load(b, block, CAPACITY)), likely=False):
            grow = _load(b, block, GROW)
            with b.if_then(b.icmp_unsigned("!=", grow, I64(0))):
                routine = b.inttoptr(grow, ir.FunctionType(ir.VoidType(), [I64]).as_pointer())
                b.call(routine, [block])
            with b.if_then(b.icmp_unsigned("==", count, _load(b, block, CAPACITY))):
                b.store(I64(1), _word(b, block, I64(LOST)))
                b.ret(I64(0))
        columns = (CODE_COLUMN, code), (FIRST_COLUMN, first), (SECOND_COLUMN, second)
        for column, entry in (*columns, (VALUE_COLUMN, value)):
            base = b.inttoptr(_load(b, block, column), entry.type.as_pointer())
            b.store(entry, b.gep(base, [count]))
        b.store(b.add(count, I64(1)), _word(b, block, I64(COUNT)))
        b.ret(count)

    routine = _routine(
        builder, "nbhvp_append", I64, (I64, I8, I32, I32, F64), write, "alwaysinline"
    )
    return builder.call(routine, [block, code, first, second, value])


_GOLDEN = 0x9E3779B97F4A7C15  # of Fibonacci hashing: Knuth, TAOCP 3, 6.4


def _constant_record(builder, tape, value):
    """The record of a constant: 0 for 0.0, an earlier one if it is remembered."""

    def write(b, tape, value):
        bits = b.bitcast(value, I64)
        _if_then_return(b, b.icmp_unsigned("==", bits, I64(0)), I64(0))
        shift = 64 - (CACHED - 1).bit_length()
        slot = b.lshr(b.mul(bits, I64(_GOLDEN)), I64(shift))
        keys, records = (
            _word(b, tape, b.add(slot, I64(3 * BLOCK + part * CACHED))) for part in range(2)
        )
        known = b.icmp_unsigned("==", b.load(keys), bits)
        _if_then_return(b, known, b.load(records))
        record = _append(b, tape, I8(CONSTANT), I32(0), I32(0), value)
        b.store(bits, keys)
        b.store(record, records)
        b.ret(record)

    routine = _routine(builder, "nbhvp_constant", I64, (I64, F64), write)
    return builder.call(routine, [tape, value])


def _operand(b, tape, record, value):
    """The record of an operand, as 32 bits."""
    with b.if_else(b.icmp_unsigned("==", record, I64(0)), likely=False) as (plain, recorded):
        with plain:
            constant, from_plain = _constant_record(b, tape, value), b.block
        with recorded:
            from_recorded = b.block
    found = b.phi(I64)
    found.add_incoming(constant, from_plain)
    found.add_incoming(record, from_recorded)
    return b.trunc(found, I32)


def _appending(block: int):
    """The body of a routine that appends to a block an operation on operands."""

    def write(b, tape, code, value, *operands):
        _if_then_return(b, b.icmp_unsigned("==", tape, I64(0)), I64(0))
        pairs = zip(operands[::2], operands[1::2], strict=True)
        records = [_operand(b, tape, record, plain) for record, plain in pairs]
        first, second = (*records, I32(0))[:2]
        b.ret(_append(b, b.add(tape, I64(8 * block)), code, first, second, value))

    return write


def _append_operation(builder, name, block, code, value, numbers):
    """Append a record or a guard for an operation on active numbers: its number, and the tape."""
    tape = functools.reduce(builder.or_, [number.tape for number in numbers])
    operands = [part for number in numbers for part in (number.record, number.value)]
    kinds = (I64, I8, F64, *(I64, F64) * len(numbers))
    routine = _routine(builder, f"nbhvp_{name}_{len(numbers)}", I64, kinds, _appending(block))
    return builder.call(routine, [tape, I8(code), value, *operands]), tape


# Operations: the value is numba's own, of plain numbers.


def _is_array(kind) -> bool:
    return isinstance(kind, types.Array)


def _scalar(kind):
    """The type of an element; of active numbers, and of what becomes one, a plain float."""
    kind = types.unliteral(kind.dtype if _is_array(kind) else kind)
    return types.float64 if kind == active else kind


def _present(kind):
    """The type of what is there, of a variable that may be None."""
    return kind.type if isinstance(kind, types.Optional) else kind


def _is_active(kind) -> bool:
    return kind == active or (_is_array(kind) and kind.dtype == active)


_plain_signatures: dict[tuple, tuple] = {}


def _plain_signature(typing_context, function, kinds):
    """How numba types a function of plain numbers; None if it does not."""
    kinds = tuple(map(_scalar, kinds))
    if (function, kinds) not in _plain_signatures:
        kind = typing_context.resolve_value_type(function)
        try:
            found = kind, kind.get_call_type(typing_context, kinds, {})
        except NumbaError:
            return kind, None
        _plain_signatures[function, kinds] = found
    return _plain_signatures[function, kinds]


def _is_short_power(exponent) -> bool:
    return isinstance(exponent, types.IntegerLiteral) and abs(exponent.literal_value) <= 64


def _whole_power(builder, base, exponent):
    """A power as the products that numba's loop would make, in its order."""
    power, rest = base.type(1.0), abs(exponent)
    while rest:
        if rest & 1:
            power = builder.fmul(power, base)
        rest >>= 1
        base = builder.fmul(base, base) if rest else base
    return power if exponent >= 0 else builder.fdiv(base.type(1.0), power)


def _operate(context, builder, function, entry, kinds, values):
    """One operation on numbers of which some are active: its value, recorded or guarded."""
    numbers = [
        _parts(builder, value)
        if kind == active
        else _constant_number(context, builder, kind, value)
        for kind, value in zip(kinds, values, strict=True)
    ]
    plain = [
        number.value if kind == active else value
        for kind, value, number in zip(kinds, values, numbers, strict=True)
    ]
    kind, sig = _plain_signature(context.typing_context, function, kinds)
    plain_kinds = [types.float64 if given == active else given for given in kinds]
    triples = zip(plain, plain_kinds, sig.args, strict=True)
    cast = [context.cast(builder, value, given, wanted) for value, given, wanted in triples]
    if isinstance(kinds[-1], types.IntegerLiteral):
        value = _whole_power(builder, plain[0], kinds[-1].literal_value)
    else:
        value = context.get_function(kind, sig)(builder, cast)
    double = _as_double(context, builder, sig.return_type, value)
    if not isinstance(sig.return_type, types.Float):
        _append_operation(builder, "guard", GUARDS, CODES[entry], double, numbers)
        return value
    appended = _append_operation(builder, "record", 0, CODES[entry], double, numbers)
    return _whole(context, builder, _Number(double, *appended))


class _Kernel:
    """What numba's loops over arrays need of an operation on elements."""

    def __init__(self, function, entry):
        self._function, self._entry = function, entry

    def __call__(self, context, builder, sig):
        kinds = [types.unliteral(kind) for kind in sig.args]

        def generate(*values):
            return _operate(context, builder, self._function, self._entry, kinds, values)

        return SimpleNamespace(generate=generate)


def _operate_on_arrays(context, builder, function, entry, sig, args, outputs=()):
    """The same over arrays that broadcast; numbers go along as arrays of rank 0."""
    kinds, values = [], []
    for kind, value in zip(sig.args, args, strict=True):
        if not _is_array(kind):
            value = context.cast(builder, value, kind, active)
            kind = types.Array(active, 0, "C")
            array = context.make_array(kind)(context, builder)
            array.data = cgutils.alloca_once_value(builder, value)
            value = array._getvalue()
        kinds.append(kind)
        values.append(value)
    ufunc = SimpleNamespace(nin=len(values), nout=1, nargs=len(values) + 1, __name__=entry.name)
    kinds += [kind for kind, _ in outputs]
    values += [value for _, value in outputs]
    sig = signature(sig.return_type, *kinds)
    return numpy_ufunc_kernel(context, builder, sig, values, ufunc, _Kernel(function, entry))


def _array_result(sig, kinds):
    ranks = [kind.ndim if _is_array(kind) else 0 for kind in kinds]
    element = active if isinstance(sig.return_type, types.Float) else sig.return_type
    return types.Array(element, max(ranks), "C")


def register(function, template, kind=Active):
    """Give a function one more typing, which is tried before numba's own, for what is of a kind."""
    template.key = function
    template.metadata = {"target": "cpu"}
    template.get_impl_key = lambda self, sig: (kind, function)
    builtin_registry.register_global(function, types.Function(template))


def _overload(function, entry, plain=None, arity=None):
    """Record `function` of active numbers and arrays as `entry`; `plain` computes its value.

    With one argument, a primitive of two has the constant 0 as its second.
    """
    plain = plain or function
    arity = arity or (2 if "{y" in str(entry.source) else 1)

    class Template(AbstractTemplate):
        # A power by a whole literal is a few products, for which numba would compile a loop.
        prefer_literal = function is operator.pow

        def generic(self, args, kws):
            args = tuple(map(_present, args))
            if kws or len(args) != arity or not any(map(_is_active, args)):
                return None
            _, sig = _plain_signature(self.context, plain, args)
            if sig is None or not isinstance(sig.return_type, _PLAIN):
                return None
            if any(map(_is_array, args)):
                return signature(_array_result(sig, args), *args)
            returned = active if isinstance(sig.return_type, types.Float) else sig.return_type
            is_power = args[0] == active and _is_short_power(args[-1])
            return signature(returned, *(args if is_power else map(types.unliteral, args)))

    @lower_builtin((Active, function), types.VarArg(types.Any))
    def lower(context, builder, sig, args):
        if any(map(_is_array, sig.args)):
            return _operate_on_arrays(context, builder, plain, entry, sig, args)
        return _operate(context, builder, plain, entry, sig.args, args)

    register(function, Template)


def _overload_in_place(function, plain, entry):
    """Record `a += b`: of numbers as a + b, of arrays into a."""

    class Template(AbstractTemplate):
        def generic(self, args, kws):
            args = tuple(map(_present, args))
            target = args[0]
            if not any(map(_is_active, args)):
                return None
            if not _is_array(target):
                kind = self.context.resolve_value_type(plain)
                sig = kind.get_call_type(self.context, args, {})
                return signature(sig.return_type, *sig.args)
            ranks = [kind.ndim if _is_array(kind) else 0 for kind in args]
            if target.dtype != active or ranks[1] > ranks[0]:
                return None
            return signature(target, *args)

    @lower_builtin((Active, function), types.VarArg(types.Any))
    def lower(context, builder, sig, args):
        if _is_array(sig.args[0]):
            outputs = [(sig.args[0], args[0])]
            return _operate_on_arrays(context, builder, plain, entry, sig, args, outputs)
        kind = context.typing_context.resolve_value_type(plain)
        kind.get_call_type(context.typing_context, sig.args, {})
        return context.get_function(kind, sig)(builder, args)

    register(function, Template)


_IN_PLACE = {
    operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul,
    operator.itruediv: operator.truediv, operator.ifloordiv: operator.floordiv,
    operator.imod: operator.mod, operator.ipow: operator.pow,
}  # fmt: skip


_LACKING = {math.cbrt: np.cbrt, math.fmod: np.fmod, math.ulp: np.spacing}
"""Functions of math that numba does not have, with those that compute their values."""


for _function, _entry in functions().items():
    _overload(_function, _entry, plain=_LACKING.get(_function))
for _function, _plain in _IN_PLACE.items():
    _overload_in_place(_function, _plain, p.primitive_of(OPERATORS[_plain]))


_overload(root, lengths.root, plain=math.sqrt)

# Truth and conversions. A float stays what it is.

_overload(bool, p.not_equal, arity=1)
_overload(operator.not_, p.equal, arity=1)
_overload(int, p.trunc, plain=math.trunc)
_overload(round, p.rint)


def _overload_identity(function):
    class Template(AbstractTemplate):
        def generic(self, args, kws):
            if not kws and args == (active,):
                return signature(active, active)

    @lower_builtin((Active, function), active)
    def lower(context, builder, sig, args):
        return args[0]

    register(function, Template)


for _function in (float, operator.pos, np.positive, np.real, np.conjugate):
    _overload_identity(_function)


def _overload_extremum(function, ufunc):
    """max and min of several numbers. (A NaN among them is the result, as NumPy has it.)"""
    entry = p.primitive_of(ufunc)

    class Template(AbstractTemplate):
        def generic(self, args, kws):
            are_numbers = all(arg == active or isinstance(arg, _PLAIN) for arg in args)
            if not kws and len(args) > 1 and are_numbers and active in args:
                return signature(active, *[active] * len(args))

    @lower_builtin((Active, function), types.VarArg(active))
    def lower(context, builder, sig, args):
        result = args[0]
        for arg in args[1:]:
            result = _operate(context, builder, ufunc, entry, (active, active), (result, arg))
        return result

    register(function, Template)


_overload_extremum(max, np.maximum)
_overload_extremum(min, np.minimum)


# The ways in and out.


def _seen_as(element, size: int):
    """What shows rows of floats in the memory of an array as the numbers that they are."""

    @intrinsic
    def seen(typing_context, parts):
        kind = types.Array(element, parts.ndim - 1, "C")

        def generate(context, builder, sig, args):
            given = context.make_array(parts)(context, builder, args[0])
            array = context.make_array(kind)(context, builder)
            data = builder.bitcast(given.data, array.data.type)
            shape, strides = (
                cgutils.unpack_tuple(builder, extents, parts.ndim)[:-1]
                for extents in (given.shape, given.strides)
            )
            populate_array(array, data, shape, strides, I64(size), given.meminfo, given.parent)
            context.nrt.incref(builder, kind, array._getvalue())
            return array._getvalue()

        return kind(parts), generate

    return seen


as_active = _seen_as(active, NUMBER_BYTES)
"""An array (..., 3) of floats as active numbers."""
as_active_complex = _seen_as(active_complex, 2 * NUMBER_BYTES)
"""An array (..., 6) of floats as active complex numbers."""


@intrinsic
def widen(typing_context, x):
    """A plain float or complex number as an active one, anything else as it is."""
    kind = types.unliteral(x)
    returned = active if isinstance(kind, types.Float) else kind
    returned = active_complex if isinstance(kind, types.Complex) else returned

    def generate(context, builder, sig, args):
        value = context.cast(builder, args[0], x, returned)
        context.nrt.incref(builder, returned, value)
        return value

    return returned(x), generate


@intrinsic
def position(typing_context, tape, x):
    """The record of a number on the tape at an address; a constant becomes one."""

    def generate(context, builder, sig, args):
        number = _parts(builder, context.cast(builder, args[1], x, active))
        record = _operand(builder, args[0], number.record, number.value)
        return builder.zext(record, I64)

    return types.int64(tape, x), generate


# Marks of loops.


@intrinsic
def tape_of(typing_context, x, tape):
    """The tape that an argument records on: that of its first number; if it has none, the one given."""
    kind = types.unliteral(x)

    def generate(context, builder, sig, args):
        known = args[1]
        if kind == active:
            return builder.or_(known, _parts(builder, args[0]).tape)
        if not _is_active(kind):
            return known
        array = context.make_array(kind)(context, builder, args[0])
        found = cgutils.alloca_once_value(builder, known)
        with builder.if_then(builder.icmp_signed(">", array.nitems, array.nitems.type(0))):
            number = builder.load(array.data)
            builder.store(builder.or_(known, _parts(builder, number).tape), found)
        return builder.load(found)

    return types.int64(x, types.int64), generate


@intrinsic
def mark(typing_context, tape, loop, is_end):
    """Note on a tape, if there is one, that a loop begins a step, or ends."""

    def write(b, tape, is_end, loop):
        with b.if_then(b.icmp_unsigned("==", tape, I64(0))):
            b.ret_void()
        records = _load(b, tape, COUNT)
        guards = _load(b, tape, GUARDS + COUNT)
        block = b.add(tape, I64(8 * MARKS))
        _append(b, block, is_end, b.trunc(records, I32), b.trunc(guards, I32), loop)
        b.ret_void()

    def generate(context, builder, sig, args):
        kinds = (I64, I8, F64)
        routine = _routine(builder, "nbhvp_mark", ir.VoidType(), kinds, write)
        number = builder.sitofp(args[1], F64)
        builder.call(routine, [args[0], builder.trunc(args[2], I8), number])
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64), generate
