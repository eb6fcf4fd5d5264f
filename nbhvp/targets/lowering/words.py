"""The words in which elementary functions are written, so that LLVM can vectorise their loops.

A body is one Python function of arithmetic, comparisons and the words below, without a branch. It
runs on numbers, as plain Python, and on `Number`s, which write each operation as an instruction of
LLVM. So `branchless` gives kernels a function that is inlined at every call and needs no compilation by
Numba. Everything is computed in float64; arguments of other dtypes are cast to it.

An operator is one instruction, rounded once, on every processor, so error-free transformations are
exact. `muladd` is rounded once or twice, in the faster way; `fma` is always rounded once. Integers are
the 64 bits of a double and wrap as unsigned integers.
"""

import functools
import math
import struct
from fractions import Fraction

import numpy as np
from llvmlite import ir

EXACT = ("arcp",)
"""Flags of an instruction that is not contracted: without any, numba gives it those of the kernel,
`contract` among them. This one concerns divisions, and means nothing to others."""
F64, I64 = ir.DoubleType(), ir.IntType(64)
WORD = 2**64 - 1


class Number:
    """A value of LLVM under construction: float64, 64 bits, or a truth value."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    def other(self, x):
        """The value of LLVM that stands for an operand."""
        if isinstance(x, Number):
            return x.value
        if self.value.type == F64:
            return F64(float(x))
        return self.value.type(int(x) & WORD)

    def call(self, name, *xs):
        """An intrinsic function of LLVM on doubles."""
        kind = ir.FunctionType(F64, [F64] * len(xs))
        function = self.builder.module.declare_intrinsic(f"llvm.{name}", [F64], kind)
        return Number(self.builder, self.builder.call(function, [self.other(x) for x in xs]))


def _operator(of_floats, of_integers, reverse=False):
    def method(self, x):
        pair = (self.other(x), self.value) if reverse else (self.value, self.other(x))
        if self.value.type == F64:
            flags = () if of_floats == "fdiv" else EXACT
            return Number(self.builder, getattr(self.builder, of_floats)(*pair, flags=flags))
        return Number(self.builder, getattr(self.builder, of_integers)(*pair))

    return method


def _comparison(symbol):
    def method(self, x):
        pair = self.value, self.other(x)
        if self.value.type != F64:
            return Number(self.builder, self.builder.icmp_unsigned(symbol, *pair))
        compare = self.builder.fcmp_unordered if symbol == "!=" else self.builder.fcmp_ordered
        return Number(self.builder, compare(symbol, *pair))

    return method


for _name, *_instructions in (
    ("add", "fadd", "add"),
    ("sub", "fsub", "sub"),
    ("mul", "fmul", "mul"),
    ("truediv", "fdiv", None),
    ("and", None, "and_"),
    ("or", None, "or_"),
    ("xor", None, "xor"),
    ("lshift", None, "shl"),
    ("rshift", None, "lshr"),
):
    setattr(Number, f"__{_name}__", _operator(*_instructions))
    setattr(Number, f"__r{_name}__", _operator(*_instructions, reverse=True))
for _name, _symbol in dict(lt="<", le="<=", gt=">", ge=">=", eq="==", ne="!=").items():
    setattr(Number, f"__{_name}__", _comparison(_symbol))
Number.__neg__ = lambda x: Number(x.builder, x.builder.fneg(x.value))
Number.__abs__ = lambda x: x.call("fabs", x)
Number.__hash__ = None


def _number(*xs):
    """The first that is a Number, if any is."""
    return next((x for x in xs if isinstance(x, Number)), None)


def select(condition, x, y):
    """x where the condition holds, else y; both are computed."""
    if _number(condition) is None:
        return x if condition else y
    like = _number(x, y) or Number(condition.builder, F64(0.0))
    value = condition.builder.select(condition.value, like.other(x), like.other(y))
    return Number(condition.builder, value)


def bits(x):
    """The 64 bits of a double."""
    if _number(x) is None:
        return struct.unpack("<Q", struct.pack("<d", x))[0]
    return Number(x.builder, x.builder.bitcast(x.value, I64))


def double(n):
    """The double that 64 bits are."""
    if _number(n) is None:
        return np.float64(struct.unpack("<d", struct.pack("<Q", n & WORD))[0])
    return Number(n.builder, n.builder.bitcast(n.value, F64))


def muladd(x, y, z):
    """x y + z, rounded once or twice."""
    like = _number(x, y, z)
    return x * y + z if like is None else like.call("fmuladd", x, y, z)


def fma(x, y, z):
    """x y + z, rounded once."""
    like = _number(x, y, z)
    if like is not None:
        return like.call("fma", x, y, z)
    if not (math.isfinite(x) and math.isfinite(y)) or 0 in (x, y):
        return x * y + z
    if not math.isfinite(z):
        return z
    exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
    try:
        return np.float64(float(exact)) if exact else x * y + z
    except OverflowError:
        return np.float64(math.inf if exact > 0 else -math.inf)


def sqrt(x):
    return np.sqrt(x) if _number(x) is None else x.call("sqrt", x)


def floor(x):
    return np.floor(x) if _number(x) is None else x.call("floor", x)


def copysign(x, y):
    """|x| with the sign of y."""
    like = _number(x, y)
    return np.copysign(x, y) if like is None else like.call("copysign", x, y)


def polynomial(x, coefficients):
    """c[0] + c[1] x + ..., by Estrin's scheme: half as long a chain as Horner's."""
    terms = list(coefficients)
    while len(terms) > 1:
        pairs = zip(terms[::2], terms[1::2], strict=False)
        odd = terms[-1:] if len(terms) % 2 else []
        terms = [muladd(x, b, a) for a, b in pairs] + odd
        x = x * x
    return terms[0]


def rarely(condition, name, x, z):
    """z, but libm's function of x where the condition holds: a call, made only there.

    A builder with a list `rare` gets the condition there instead, and the function's value at 0: whoever
    reads the list has to compute again. Else LLVM vectorises a loop with a branch around a call only if a masked vector form of the callee is
    declared. The form declared here, of 64 doubles, is one that no loop asks for: so the loop tests
    and calls for each element alone.
    """
    if _number(condition) is None:
        return getattr(np, name)(x) if condition else z
    builder = x.builder
    if hasattr(builder, "rare"):
        builder.rare.append(condition.value)
        return select(condition, getattr(math, name)(0.0), z)
    function = _libm(builder.module, name)
    before = builder.block
    with builder.if_then(condition.value):
        value = builder.call(function, [x.value])
        inside = builder.block
    chosen = builder.phi(F64)
    chosen.add_incoming(z.value, before)
    chosen.add_incoming(value, inside)
    return Number(builder, chosen)


RARE = {"sin", "cos", "tan"}
"""Functions with such a case."""


def _libm(module, name):
    """A function of libm as one of the module's own, that no pass inlines."""
    own = f"nbhvp.{name}"
    if own not in module.globals:
        function = ir.Function(module, ir.FunctionType(F64, [F64]), own)
        function.linkage = "internal"
        attributes = "noinline", "nounwind", "cold", "readnone"
        form = f'"vector-function-abi-variant"="_ZGV_LLVM_M64v_{own}({own})"'
        set.update(function.attributes, (*attributes, form))  # llvmlite would refuse the last
        called = external(module, name)
        builder = ir.IRBuilder(function.append_basic_block())
        builder.ret(builder.call(called, function.args))
    return module.globals[own]


def external(module, name, count=1, kind=F64):
    """A function of the C library by its name there: LLVM has intrinsics for all only since version 19."""
    if name not in module.globals:
        return ir.Function(module, ir.FunctionType(kind, [kind] * count), name)
    return module.globals[name]


def branchless(body):
    """A function of real numbers by its body: plain Python as it stands, inlined in kernels."""

    @functools.wraps(body)
    def function(*xs):
        if _number(*xs) is not None:
            return body(*xs)
        with np.errstate(all="ignore"):
            return np.float64(body(*map(np.float64, xs)))

    function.body = body
    return function


WRITTEN = []
"""Functions with branches, whose source is what kernels call."""


def written(function):
    """A function of scalars by its source, as it stands."""
    WRITTEN.append(function)
    return function


def driver(function):
    """A function of integers by its source, which gives an integer."""
    function.gives = "i8"
    return written(function)
