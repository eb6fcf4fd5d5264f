"""The table of primitives: everything known about each stands in its one entry.

An entry gives the NumPy definition (`evaluate`), the shape and dtype rule (`infer`), the derivative
(`rule`, by kind), and how one element of the result is computed from elements of the arguments
(`source` for scalars, `pull` for index maps, `reduction` for sums), from which every target is made:

- elementwise: `rule(z, *args)` gives the partials, one per argument, None where it is zero almost
  everywhere. Written with primitives, so that second derivatives come by themselves.
- linear: `rule(z_bar, z, *args, **params)` gives the adjoints of the arguments, None for operands
  (an index, a condition); `linear` names the arguments in which it is jointly linear.
- bilinear: the same form of rule, for a product of two arguments.
- general: `tangent(z, dots, *args, **params)` gives the tangent from those of the arguments, None
  where an argument has none; it is linear in the dots, and reverse mode transposes it. A linear
  primitive with operands that carry derivatives (the matrix of a solve) has a tangent for those.
- discrete: integer or boolean results, no derivative. Whatever the kind, only nodes of floating or
  complex dtype carry derivatives.
- state: what others of the table have computed at their argument, without a derivative of its own.
  Who takes it takes that argument too, and has the derivative in it.

Adjoints belong to the real inner product Re<a, b>: a holomorphic partial is conjugated in reverse,
`cast`, `real`, `imag`, `conjugate` and `complex` are linear over the reals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from nbhvp.graph import definitions as d
from nbhvp.graph.boxes import Box, found_in, is_all
from nbhvp.graph.node import Node, Pool
from nbhvp.graph.primitive import (
    ANY,
    BY_FUNCTION,
    CONSTANT,
    INPUT,
    TABLE,
    Primitive,
    constant,
    enter,
    input_node,
    positions,
    primitive_of,
    scalar_value,
)
from nbhvp.graph.rewrites.squares import is_nonnegative, product_of_lengths, square_of

__all__ = [
    "ANY",
    "BY_FUNCTION",
    "CONSTANT",
    "INPUT",
    "TABLE",
    "Primitive",
    "constant",
    "enter",
    "input_node",
    "positions",
    "primitive_of",
    "scalar_value",
    "zeros",
]


def zeros(pool: Pool, shape, dtype) -> Node:
    return broadcast(constant(pool, np.zeros((), dtype)), shape=tuple(shape))


def _ones_like(node: Node) -> Node:
    return broadcast(constant(node.pool, np.ones((), node.dtype)), shape=node.shape)


_product_of_lengths = partial(product_of_lengths, ones=_ones_like)


# Elementwise.


def elementwise(
    name,
    ufunc,
    source,
    rule=None,
    *,
    also=(),
    evaluate=None,
    dtypes=None,
    result=None,
    transposes=None,
    **fields,
) -> Primitive:
    """An entry with scalar source; `rule` gives its partials, or `transposes` if it is linear.

    `result` maps the dtypes of the arguments to that of the result; the ufunc tells otherwise.
    """

    def infer(*args, **params):
        shape = d.broadcast_shapes(*[arg.shape for arg in args])
        if result is not None:
            return shape, np.dtype(result(*(arg.dtype for arg in args), **params))
        return shape, d.loop_dtypes(ufunc, tuple([arg.dtype for arg in args]))[-1]

    kind = "elementwise" if transposes is None else "linear"
    fields.setdefault("linear", ())
    fields.update(source=source, dtypes=dtypes or partial(d.loop_dtypes, ufunc))
    entry = Primitive(name, kind, evaluate or ufunc, infer, rule or transposes, **fields)
    return enter(entry, (ufunc, *also) if ufunc is not None else also)


def _one(x) -> bool:
    return scalar_value(x) == 1


def _fit(x, *others) -> Node | None:
    """x itself if it already has the shape that it broadcasts to with the others."""
    return x if d.broadcast_shapes(x.shape, *(o.shape for o in others)) == x.shape else None


# Simplifications change no rounding: signs move, and factors merge where one is a power of two.


def _simplify_add(x, y):
    if x is y:
        return 2 * x if x.dtype.kind in "fc" else None
    if y.primitive is negative:
        return x - y.args[0]
    return y - x.args[0] if x.primitive is negative else None


def _simplify_subtract(x, y):
    return x + y.args[0] if y.primitive is negative else None


def _simplify_negative(x):
    if x.primitive is negative:
        return x.args[0]
    if x.primitive is subtract:
        return x.args[1] - x.args[0]
    if x.primitive is multiply and x.args[0].value is not None and x.args[0].shape == ():
        return -x.args[0] * x.args[1]
    return None


def _simplify_multiply(x, y):
    shape = d.broadcast_shapes(x.shape, y.shape)
    if scalar_value(x) is None and scalar_value(y) is not None:
        x, y = y, x
    factor = scalar_value(x)
    if factor is None:
        if x.pool.has_lengths and (found := _product_of_lengths(x, y)) is not None:
            return broadcast(found, shape=shape)
        for one, other in ((x, y), (y, x)):
            if one.primitive is negative:
                return -(one.args[0] * other)
        return None
    if factor == 1:
        return broadcast(y, shape=shape)
    if factor == -1:
        return broadcast(-y, shape=shape)
    if y.primitive is negative:
        return -x * y.args[0]
    if y.primitive is multiply and scalar_value(y.args[0]) is not None:
        inner = scalar_value(y.args[0])
        if d.is_power_of_two(factor) or d.is_power_of_two(inner):
            return broadcast(constant(x.pool, factor * inner) * y.args[1], shape=shape)
    return None


_POWERS: dict[float, Callable] = {
    -1.0: lambda x: 1 / x,
    0.5: lambda x: sqrt(x),
    1.0: lambda x: x,
    2.0: lambda x: x * x,
    3.0: lambda x: x * x * x,
    4.0: lambda x: (x * x) * (x * x),
}


def _power(x, y):
    """Cubes and fourth powers as they are simplified: NumPy's own take a hundred times as long."""
    if np.ndim(x) and not np.ndim(y) and y in (3, 4) and x.dtype.kind == "f":
        if np.result_type(x, y) == x.dtype:
            return _POWERS[float(y)](x)
    return np.power(x, y)


def _simplify_power(x, y):
    """Small constant exponents as products; 1/2 and -1 as NumPy itself takes them."""
    exponent = scalar_value(y)
    if exponent is None or x.dtype.kind not in "fc":
        return None
    x = broadcast(x, shape=d.broadcast_shapes(x.shape, y.shape))
    if exponent in _POWERS:
        return _POWERS[exponent](x)
    is_even = isinstance(exponent, np.floating) and exponent % 2 == 0
    square = square_of(x) if is_even and x.pool.has_lengths else None
    return None if square is None else power(square, exponent / 2)


def _simplify_absolute(x):
    if x.is_complex:
        return _modulus(x)
    return x if x.dtype.kind == "f" and is_nonnegative(x) else None


def _modulus(z):
    """|z| by those of its factors, so that |z z| is seen to be a square."""
    if z.primitive is multiply or z.primitive is divide:
        x, y = (absolute(arg) for arg in z.args)
        return z.primitive(x, y)
    if z.primitive is conjugate or z.primitive is negative:
        return absolute(z.args[0])
    if z.primitive is cast and not z.args[0].is_complex:
        return cast(absolute(z.args[0]), dtype=d.real_dtype(z.dtype))
    x, y = real(z), imag(z)
    return TABLE["root"](x * x + y * y)


def _simplify_even(entry):
    """f(|x|) = f(x)."""

    def simplify(x):
        if x.primitive is absolute and not x.args[0].is_complex:
            return TABLE[entry](x.args[0])
        return None

    return simplify


def _is_positive_power(known, x, y):
    exponent = scalar_value(y)
    return known(x) or (exponent is not None and exponent % 2 == 0)


def _is_square_of_modulus(known, x):
    """Whether x is z times the conjugate of z."""
    return x.primitive is multiply and any(
        a.primitive is conjugate and a.args[0] is b for a, b in (x.args, x.args[::-1])
    )


def _simplify_where(c, x, y):
    shape = d.broadcast_shapes(c.shape, x.shape, y.shape)
    if x is y or _same_number(x, y):
        return broadcast(x, shape=shape)
    chosen = scalar_value(c)
    return None if chosen is None else broadcast(x if chosen else y, shape=shape)


def _same_number(x, y) -> bool:
    """Whether both are one constant, to the bit."""
    numbers = [scalar_value(node) for node in (x, y)]
    return None not in numbers and numbers[0].tobytes() == numbers[1].tobytes()


def _power_rule(z, x, y):
    """At x = 0 both partials have removable singularities: where y = 0, and in log x."""
    x_is_0 = equal(x, 0)
    nonzero = where(x_is_0, 1, x)
    p_x = y * power(where(equal(y, 0), nonzero, x), y - 1)
    return p_x, where(x_is_0, 0, z * log(nonzero))


def _simplify_log1p(x):
    """log(1 + e^t) as logaddexp(0, t), which neither overflows nor has inf / inf as derivative."""
    if x.primitive is exp and x.dtype.kind == "f":
        return logaddexp(0, x.args[0])
    return None


def _cast_transpose(z_bar, z, x, dtype):
    return (cast(real(z_bar) if z.is_complex and not x.is_complex else z_bar, dtype=x.dtype),)


def _remainder_rule(quotient):
    return lambda z, x, y: (1, -quotient(x, y))


POSITIVE, UNIT = ((0.3, 3.0),), ((-0.9, 0.9),)
NONZERO = ((-2.0, 2.0), (0.5, 2.0))
CALL = 30.0  # the cost of a call into libm
SERIES = 25.0  # that of a vectorised function, of 30 to 60 instructions

# fmt: off
cast        = elementwise("cast", None, lambda dtype: f"cast({{x}}, {np.dtype(dtype).str[1:]!r})", transposes=_cast_transpose,
                          evaluate=lambda x, dtype: np.asarray(x).astype(dtype), result=lambda x, dtype: dtype, dtypes=d.as_given,
                          simplify=lambda x, dtype: x if x.dtype == dtype else None, linear=((0,),), cost=0.5,
                          params={"dtype": np.dtype("f4")}, nonnegative=lambda known, x, dtype: known(x), converts=True)
add         = elementwise("add", np.add, "{x} + {y}", lambda z, x, y: (1, 1), linear=((0, 1),), simplify=_simplify_add, commutes=True, nonnegative=lambda known, x, y: known(x) and known(y))
subtract    = elementwise("subtract", np.subtract, "{x} - {y}", lambda z, x, y: (1, -1), linear=((0, 1),), simplify=_simplify_subtract)
multiply    = elementwise("multiply", np.multiply, "{x} * {y}", lambda z, x, y: (y, x), linear=((0,), (1,)), simplify=_simplify_multiply, commutes=True, nonnegative=lambda known, x, y: x is y or (known(x) and known(y)), evaluate=d.times)
product     = elementwise("product", None, "times({x}, {y})", lambda z, x, y: (y, x), linear=((0,), (1,)), commutes=True, evaluate=d.times,
                          dtypes=partial(d.loop_dtypes, np.multiply), result=d.first_dtype)
divide      = elementwise("divide", np.divide, "{x} / {y}", complex_source="divide({x}, {y})", rule=lambda z, x, y: (1 / y, -z / y), linear=((0,),), domain=NONZERO,
                          simplify=lambda x, y: _fit(x, y) if _one(y) else None, cost=4, nonnegative=lambda known, x, y: known(x) and known(y))
negative    = elementwise("negative", np.negative, "-{x}", lambda z, x: (-1,), linear=((0,),), simplify=_simplify_negative)
power       = elementwise("power", np.power, "{y:power of {x}}", _power_rule, evaluate=_power, domain=POSITIVE, special=((0.0, 2.0), (0.0, 3.0), (1.5, 0.0)), cost=2 * SERIES, simplify=_simplify_power, exact=frozenset(_POWERS), nonnegative=_is_positive_power)
absolute    = elementwise("absolute", np.absolute, "abs({x})", lambda z, x: (sign(x),), also=(np.fabs,), domain=NONZERO, simplify=_simplify_absolute, square=lambda x: x * x, nonnegative=lambda known, x: True)
sign        = elementwise("sign", np.sign, "np.sign({x}) + 0", cost=2, simplify=lambda x: cast(not_equal(x, 0), dtype=x.dtype) if x.dtype.kind == "u" else None)
sqrt        = elementwise("sqrt", np.sqrt, "math.sqrt({x})", lambda z, x: (0.5 / z,), domain=POSITIVE, cost=6, jumps=True, square=lambda x: x if is_nonnegative(x) else None, nonnegative=lambda known, x: True)
cbrt        = elementwise("cbrt", np.cbrt, "cbrt({x})", lambda z, x: (1 / (3 * z * z),), domain=POSITIVE, cost=CALL)
exp         = elementwise("exp", np.exp, "exp({x})", lambda z, x: (z,), cost=SERIES, complex_source="cmath.exp({x})", nonnegative=lambda known, x: True)
exp2        = elementwise("exp2", np.exp2, "exp2({x})", lambda z, x: (math.log(2) * z,), cost=SERIES, complex_source="np.exp2({x})")
expm1       = elementwise("expm1", np.expm1, "expm1({x})", lambda z, x: (exp(x),), special=((0.0,),), cost=SERIES, dtypes=d.real_loops(np.expm1))
log         = elementwise("log", np.log, "log({x})", lambda z, x: (1 / x,), domain=POSITIVE, cost=SERIES, complex_source="cmath.log({x})", jumps=True)
log2        = elementwise("log2", np.log2, "log2({x})", lambda z, x: (math.log2(math.e) / x,), domain=POSITIVE, cost=SERIES, complex_source="np.log2({x})", jumps=True)
log10       = elementwise("log10", np.log10, "log10({x})", lambda z, x: (math.log10(math.e) / x,), domain=POSITIVE, cost=SERIES, complex_source="cmath.log10({x})", jumps=True)
log1p       = elementwise("log1p", np.log1p, "log1p({x})", lambda z, x: (1 / (1 + x),), domain=UNIT, special=((0.0,),), cost=SERIES, dtypes=d.real_loops(np.log1p), simplify=_simplify_log1p)
sin         = elementwise("sin", np.sin, "sin({x})", lambda z, x: (cos(x),), cost=SERIES, complex_source="cmath.sin({x})")
cos         = elementwise("cos", np.cos, "cos({x})", lambda z, x: (-sin(x),), cost=SERIES, complex_source="cmath.cos({x})", simplify=_simplify_even("cos"))
tan         = elementwise("tan", np.tan, "tan({x})", lambda z, x: (1 + z * z,), domain=UNIT, cost=SERIES, complex_source="cmath.tan({x})")
arcsin      = elementwise("arcsin", np.arcsin, "arcsin({x})", lambda z, x: (1 / sqrt((1 - x) * (1 + x)),), domain=UNIT, cost=SERIES, complex_source="cmath.asin({x})", jumps=True)
arccos      = elementwise("arccos", np.arccos, "arccos({x})", lambda z, x: (-1 / sqrt((1 - x) * (1 + x)),), domain=UNIT, cost=SERIES, complex_source="cmath.acos({x})", jumps=True)
arctan      = elementwise("arctan", np.arctan, "arctan({x})", lambda z, x: (1 / (1 + x * x),), cost=SERIES, complex_source="cmath.atan({x})")
sinh        = elementwise("sinh", np.sinh, "sinh({x})", lambda z, x: (cosh(x),), cost=SERIES, complex_source="cmath.sinh({x})")
cosh        = elementwise("cosh", np.cosh, "cosh({x})", lambda z, x: (sinh(x),), cost=SERIES, complex_source="cmath.cosh({x})", simplify=_simplify_even("cosh"))
tanh        = elementwise("tanh", np.tanh, "tanh({x})", lambda z, x: (1 - z * z,), cost=SERIES, complex_source="cmath.tanh({x})")
arcsinh     = elementwise("arcsinh", np.arcsinh, "arcsinh({x})", lambda z, x: (1 / sqrt(1 + x * x),), cost=SERIES, complex_source="cmath.asinh({x})")
arccosh     = elementwise("arccosh", np.arccosh, "arccosh({x})", lambda z, x: (1 / (sqrt(x - 1) * sqrt(x + 1)),), domain=((1.5, 4.0),), cost=SERIES, complex_source="cmath.acosh({x})", jumps=True)
arctanh     = elementwise("arctanh", np.arctanh, "arctanh({x})", lambda z, x: (1 / ((1 - x) * (1 + x)),), domain=UNIT, cost=SERIES, complex_source="cmath.atanh({x})", jumps=True)
arctan2     = elementwise("arctan2", np.arctan2, "arctan2({x}, {y})", lambda z, x, y: (y / (x * x + y * y), -x / (x * x + y * y)), domain=POSITIVE, cost=SERIES, jumps=True)
maximum     = elementwise("maximum", np.maximum, "maximum({x}, {y})", lambda z, x, y: (as_float(greater(x, y), z), as_float(less_equal(x, y), z)), cost=2, dtypes=d.real_loops(np.maximum), nonnegative=lambda known, x, y: known(x) or known(y))
minimum     = elementwise("minimum", np.minimum, "minimum({x}, {y})", lambda z, x, y: (as_float(less(x, y), z), as_float(greater_equal(x, y), z)), cost=2, dtypes=d.real_loops(np.minimum))
fmax        = elementwise("fmax", np.fmax, "fmax({x}, {y})", lambda z, x, y: (as_float(logical_or(greater(x, y), isnan(y)), z), as_float(logical_or(less_equal(x, y), isnan(x)), z)), cost=2, dtypes=d.real_loops(np.fmax))
fmin        = elementwise("fmin", np.fmin, "fmin({x}, {y})", lambda z, x, y: (as_float(logical_or(less(x, y), isnan(y)), z), as_float(logical_or(greater_equal(x, y), isnan(x)), z)), cost=2, dtypes=d.real_loops(np.fmin))
remainder   = elementwise("remainder", np.remainder, "remainder({x}, {y})", _remainder_rule(lambda x, y: floor_divide(x, y)), domain=NONZERO, cost=CALL, jumps=True)
fmod        = elementwise("fmod", np.fmod, "fmod({x}, {y})", _remainder_rule(lambda x, y: trunc(x / y)), domain=NONZERO, cost=CALL, jumps=True)
copysign    = elementwise("copysign", np.copysign, "math.copysign({x}, {y})", lambda z, x, y: (sign(x) * copysign(1.0, y), None), domain=NONZERO, jumps=True)
logaddexp   = elementwise("logaddexp", np.logaddexp, "logaddexp({x}, {y})", lambda z, x, y: (expit(x - y), expit(y - x)), cost=2 * SERIES)
logaddexp2  = elementwise("logaddexp2", np.logaddexp2, "logaddexp2({x}, {y})", lambda z, x, y: (exp2(x - z), exp2(y - z)), cost=2 * SERIES)
nextafter   = elementwise("nextafter", np.nextafter, "np.nextafter({x}, {y})", lambda z, x, y: (1, None), cost=CALL)
where       = elementwise("where", None, "({y} if {x} else {c})", transposes=lambda z_bar, z, c, x, y: (None, where(c, z_bar, 0), where(c, 0, z_bar)),
                          evaluate=np.where, dtypes=d.where_dtypes, result=lambda c, x, y: x, linear=((1, 2),), simplify=_simplify_where, selects=True)

expit       = elementwise("expit", d.scipy_ufunc("expit"), "expit({x})", lambda z, x: (z * (1 - z),), cost=SERIES)

real        = elementwise("real", None, "{x}.real", transposes=lambda z_bar, z, x: (cast(z_bar, dtype=x.dtype),), evaluate=lambda x: np.array(np.real(x))[()], dtypes=d.as_given, result=d.real_dtype, linear=((0,),),
                          simplify=lambda x: None if x.is_complex else x, nonnegative=_is_square_of_modulus)
imag        = elementwise("imag", None, "{x}.imag", transposes=lambda z_bar, z, x: (complex_(0, z_bar),), evaluate=lambda x: np.array(np.imag(x))[()], dtypes=d.as_given, result=d.real_dtype, linear=((0,),),
                          simplify=lambda x: None if x.is_complex else zeros(x.pool, x.shape, x.dtype))
conjugate   = elementwise("conjugate", np.conjugate, "{x}.conjugate()", transposes=lambda z_bar, z, x: (conjugate(z_bar),), linear=((0,),), simplify=lambda x: None if x.is_complex else x)
complex_    = elementwise("complex", None, "complex({x}, {y})", transposes=lambda z_bar, z, x, y: (real(z_bar), imag(z_bar)), evaluate=d.complex_of, dtypes=d.same_dtype,
                          result=lambda x, y: np.result_type(x, np.complex64), linear=((0, 1),))

equal         = elementwise("equal", np.equal, "{x} == {y}")
not_equal     = elementwise("not_equal", np.not_equal, "{x} != {y}")
less          = elementwise("less", np.less, "{x} < {y}", dtypes=d.real_loops(np.less))
less_equal    = elementwise("less_equal", np.less_equal, "{x} <= {y}", dtypes=d.real_loops(np.less_equal))
greater       = elementwise("greater", np.greater, "{x} > {y}", dtypes=d.real_loops(np.greater))
greater_equal = elementwise("greater_equal", np.greater_equal, "{x} >= {y}", dtypes=d.real_loops(np.greater_equal))
logical_and   = elementwise("logical_and", np.logical_and, "({x} != 0) & ({y} != 0)")
logical_or    = elementwise("logical_or", np.logical_or, "({x} != 0) | ({y} != 0)")
logical_xor   = elementwise("logical_xor", np.logical_xor, "({x} != 0) ^ ({y} != 0)")
logical_not   = elementwise("logical_not", np.logical_not, "{x} == 0")
isnan         = elementwise("isnan", np.isnan, "{x} != {x}")
isinf         = elementwise("isinf", np.isinf, "np.isinf({x})")
isfinite      = elementwise("isfinite", np.isfinite, "np.isfinite({x})")
signbit       = elementwise("signbit", np.signbit, "(math.copysign(1.0, {x}) < 0)")
floor         = elementwise("floor", np.floor, "np.floor({x})")
ceil          = elementwise("ceil", np.ceil, "np.ceil({x})")
trunc         = elementwise("trunc", np.trunc, "np.trunc({x})")
rint          = elementwise("rint", np.rint, "np.rint({x})")
floor_divide  = elementwise("floor_divide", np.floor_divide, "floor_divide({x}, {y})", domain=NONZERO, cost=8)
spacing       = elementwise("spacing", np.spacing, "np.spacing({x})", cost=CALL)
bitwise_and   = elementwise("bitwise_and", np.bitwise_and, "{x} & {y}")
bitwise_or    = elementwise("bitwise_or", np.bitwise_or, "{x} | {y}")
bitwise_xor   = elementwise("bitwise_xor", np.bitwise_xor, "{x} ^ {y}")
invert        = elementwise("invert", np.invert, "invert({x})")
left_shift    = elementwise("left_shift", np.left_shift, "({x} << {y} if ({y} >= 0) & ({y} < 64) else {x} << 63 << 1)")
right_shift   = elementwise("right_shift", np.right_shift, "({x} >> {y} if ({y} >= 0) & ({y} < 64) else {x} >> 63 >> 1)")
# fmt: on

EQUALITIES = (equal, not_equal)


def as_float(condition, like) -> Node:
    """A boolean node as 0 or 1 in the dtype of another."""
    return cast(condition, dtype=like.dtype)


# Linear: views, sums, gathers. `pull(at, index, node)` gives the element of `node` at a tuple of
# index expressions: `at(k, index)` reads argument k, `at.choose(...)` guards a read.


def _linear(name, evaluate, infer, rule, *, linear=((0,),), **fields) -> Primitive:
    return enter(Primitive(name, "linear", evaluate, infer, rule, linear=linear, **fields))


def _concatenate_rule(z_bar, z, *args, axis):
    start, bars = [0] * z.ndim, []
    for arg in args:
        bars.append(slice_(z_bar, start=tuple(start), step=(1,) * z.ndim, size=arg.shape))
        start[axis] += arg.shape[axis]
    return bars


def _broadcast_rule(z_bar, z, x, shape):
    return (sum_to(z_bar, x.shape),)


def sum_to(x: Node, shape) -> Node:
    """The transpose of broadcasting from `shape`."""
    if x.shape == tuple(shape):
        return x
    extra = x.ndim - len(shape)
    stretched = (extra + k for k, n in enumerate(shape) if n == 1 and x.shape[extra + k] != 1)
    axes = (*range(extra), *stretched)
    return reshape(sum_(x, axes=axes) if axes else x, shape=tuple(shape))


def _expanded(x: Node, axes, shape) -> Node:
    """Undo the removal of `axes` by broadcasting to `shape`."""
    if x.shape == ():
        return broadcast(x, shape=tuple(shape))
    kept = tuple(1 if k in axes else n for k, n in enumerate(shape))
    return broadcast(reshape(x, shape=kept), shape=tuple(shape))


def _simplify_sum(x, axes):
    if not axes:
        return x
    if x.primitive is broadcast and x.args[0].shape == ():
        count = math.prod(x.shape[k] for k in axes)
        return broadcast(x.args[0] * count, shape=d.removed(x.shape, axes))
    return None


def _simplify_reshape(x, shape):
    if x.shape == shape:
        return x
    if x.primitive is broadcast and x.args[0].shape == ():
        return broadcast(x.args[0], shape=shape)
    return reshape(x.args[0], shape=shape) if x.primitive is reshape else None


def _simplify_transpose(x, axes):
    if axes == tuple(range(x.ndim)):
        return x
    if x.primitive is transpose:
        return transpose(x.args[0], axes=tuple(x.params["axes"][k] for k in axes))
    return None


def _simplify_broadcast(x, shape):
    if x.shape == shape:
        return x
    return broadcast(x.args[0], shape=shape) if x.primitive is broadcast else None


MOST_PASSED = 256
"""Writes beside what is read that are looked past: each read of a long history would see it all."""


def written(node: Node) -> Box:
    """What an update writes of its base."""
    return Box.of(node.params["start"], node.params["step"], node.args[1].shape)


def _simplify_update(base, value, start, step):
    if value.size == 0:
        return base
    if value.shape == base.shape and all(abs(k) == 1 for k in step):  # all of it, perhaps backwards
        return slice_(value, start=start, step=step, size=value.shape)
    box, number = Box.of(start, step, value.shape), scalar_value(value)
    if number is not None and d.are_same_bits(scalar_value(base), number):
        return base
    if base.primitive is not update:
        return None
    before = written(base)
    if before.within(box):
        return update(base.args[0], value, start=start, step=step)
    # Numbers that a reverse sweep clears one after the other.
    both = box.joined(before) if number is not None else None
    if both is None or not d.are_same_bits(scalar_value(base.args[1]), number):
        return None
    return update(base.args[0], broadcast(_broadcast_of(value), shape=both.size), **both.place)


def _broadcast_of(number: Node) -> Node:
    return number.args[0] if number.primitive is broadcast else number


def _simplify_slice(x, start, step, size):
    if is_all(x.shape, start, step, size):
        return x
    if x.primitive is update:
        return _read_written(x, start, step, size)
    if x.primitive is broadcast and x.args[0].shape == ():
        return broadcast(x.args[0], shape=size)
    if x.primitive is concatenate and x.shape[axis := x.params["axis"]] == len(x.args):
        return _slice_of_rows(x, axis, start, step, size)
    if x.primitive is reshape and x.args[0].shape and math.prod(size) == 1:
        return _element_of_reshaped(x, start, size)
    if x.primitive is slice_:
        inner = x.params
        start = tuple(
            b + k * s for b, k, s in zip(inner["start"], inner["step"], start, strict=True)
        )
        step = tuple(k * s for k, s in zip(inner["step"], step, strict=True))
        return slice_(x.args[0], start=start, step=step, size=size)
    return None


def _read_written(x, start, step, size):
    """A slice of what was written last, if that is all of it, past writes that are beside it."""
    if x.primitive is not update or 0 in size:
        return None
    array, read = x, (start, step, size)
    for _ in range(MOST_PASSED):
        if array.primitive is not update:
            break
        (base, value), place = array.args, array.params
        is_apart, inside = found_in(read, (place["start"], place["step"], value.shape))
        if not is_apart:
            if inside is None or value.dtype != x.dtype:
                return None
            return value if is_all(value.shape, **inside) else slice_(value, **inside)
        array = base
    return None if array is x else slice_(array, start=start, step=step, size=size)


def _slice_of_rows(x, axis, start, step, size):
    """A slice of pieces of extent 1 that is one of them, or of it."""
    piece = x.args[start[axis]]
    if size[axis] != 1 or piece.shape[axis] != 1:
        return None
    start = tuple(0 if k == axis else place for k, place in enumerate(start))
    return slice_(piece, start=start, step=step, size=size)


def _element_of_reshaped(x, start, size):
    """One element, of the array as it was."""
    (array,) = x.args
    place = np.unravel_index(np.ravel_multi_index(start, x.shape), array.shape)
    ones = (1,) * array.ndim
    element = slice_(array, start=tuple(map(int, place)), step=ones, size=ones)
    return reshape(element, shape=size)


FEW = 8
"""Elements along an axis of which one is chosen by comparing it with each other one."""


def _along(x: Node, axis: int) -> list[Node]:
    """The parts of an array along an axis."""
    size, rest = (*x.shape[:axis], 1, *x.shape[axis + 1 :]), d.removed(x.shape, (axis,))
    starts = [tuple(k if d == axis else 0 for d in range(x.ndim)) for k in range(x.shape[axis])]
    step = (1,) * x.ndim
    return [reshape(slice_(x, start=at, step=step, size=size), shape=rest) for at in starts]


def _written_out_pick(x: Node, index: Node, axis: int) -> Node | None:
    if not 0 < x.shape[axis] <= FEW:
        return None
    found, *others = _along(x, axis)
    for k, other in enumerate(others, 1):
        found = where(equal(index, k), other, found)
    return found


def _written_out_extremum(is_further: Callable) -> Callable:
    """The first position of an extremum; a NaN is one, as for NumPy."""

    def written_out(x: Node, axis: int) -> Node | None:
        if not 0 < x.shape[axis] <= FEW:
            return None
        best, *others = _along(x, axis)
        at = broadcast(constant(x.pool, 0, d.INT), shape=best.shape)
        for k, other in enumerate(others, 1):
            is_first_nan = bitwise_and(not_equal(other, other), equal(best, best))
            is_better = bitwise_or(is_further(other, best), is_first_nan)
            best, at = where(is_better, other, best), where(is_better, k, at)
        return at

    return written_out


def _pick_rule(z_bar, z, x, index, axis):
    """What was picked gets it all. A comparison per element is less than to scatter."""
    one = (*z.shape[:axis], 1, *z.shape[axis:])
    positions = np.arange(x.shape[axis]).reshape([-1] + [1] * (x.ndim - 1 - axis))
    here = equal(reshape(broadcast(index, shape=z.shape), shape=one), positions)
    return where(here, reshape(z_bar, shape=one), zeros(z.pool, (), z.dtype)), None


def _segment_rule(z_bar, z, x, starts, axis):
    rows = searchsorted(starts, constant(z.pool, np.arange(x.shape[axis])), side="right") - 1
    return gather(z_bar, rows, axis=axis), None


# fmt: off
reshape     = _linear("reshape", lambda x, shape: np.reshape(x, shape), lambda x, shape: (shape, x.dtype),
                      lambda z_bar, z, x, shape: (reshape(z_bar, shape=x.shape),), simplify=_simplify_reshape,
                      pull=lambda at, index, node: at.reshaped(0, index), per_axis={"shape": "extent"}, selects=True)
transpose   = _linear("transpose", lambda x, axes: np.transpose(x, axes), lambda x, axes: (tuple(x.shape[k] for k in axes), x.dtype),
                      lambda z_bar, z, x, axes: (transpose(z_bar, axes=tuple(np.argsort(axes).tolist())),), simplify=_simplify_transpose,
                      pull=lambda at, index, node: at(0, tuple(index[k] for k in np.argsort(node.params["axes"]))), per_axis={"axes": "axis"}, selects=True)
slice_      = _linear("slice", lambda x, start, step, size: x[d.strided(start, step, size)], lambda x, start, step, size: (size, x.dtype),
                      lambda z_bar, z, x, start, step, size: (update(zeros(z.pool, x.shape, z.dtype), z_bar, start=start, step=step),), simplify=_simplify_slice, follow=_read_written,
                      per_axis={"start": 0, "step": 1, "size": "extent"},
                      pull=lambda at, index, node: at(0, tuple(b + k * i for b, k, i in zip(node.params["start"], node.params["step"], index, strict=True))), selects=True)
update      = _linear("update", d.replaced, lambda base, value, start, step: (base.shape, base.dtype),
                      lambda z_bar, z, base, value, start, step: (update(z_bar, zeros(z.pool, value.shape, z.dtype), start=start, step=step),
                                                                  slice_(z_bar, start=start, step=step, size=value.shape)),
                      linear=((0, 1),), simplify=_simplify_update, pull=d.pull_update, per_axis={"start": 0, "step": 1}, selects=True)
broadcast   = _linear("broadcast", lambda x, shape: np.broadcast_to(x, shape), d.broadcast_infer, _broadcast_rule,
                      simplify=_simplify_broadcast, pull=d.pull_broadcast, repeats=True, lazy=True, per_axis={"shape": "extent"}, selects=True)
concatenate = _linear("concatenate", lambda *args, axis: np.concatenate(args, axis),
                      lambda *args, axis: ((*args[0].shape[:axis], sum(a.shape[axis] for a in args), *args[0].shape[axis + 1:]), args[0].dtype),
                      _concatenate_rule, linear=None, pull=d.pull_concatenate, selects=True)
sum_        = _linear("sum", d.summed, lambda x, axes: (d.removed(x.shape, axes), x.dtype),
                      lambda z_bar, z, x, axes: (_expanded(z_bar, axes, x.shape),), simplify=_simplify_sum, reduction="sum", nonnegative=lambda known, x, *index, **params: known(x))
gather      = _linear("gather", lambda x, index, axis: np.take(x, index, axis), d.gather_shape,
                      lambda z_bar, z, x, index, axis: (scatter_add(z_bar, index, axis=axis, size=x.shape[axis]), None), pull=d.pull_gather, repeats=True, selects=True)
pick        = _linear("pick", d.picked, lambda x, index, axis: (d.removed(x.shape, (axis,)), x.dtype), _pick_rule, pull=d.pull_pick,
                      broadcasts=True, selects=True, written_out=_written_out_pick)
scatter_add = _linear("scatter_add", d.scattered, d.scatter_shape,
                      lambda z_bar, z, x, index, axis, size: (gather(z_bar, index, axis=axis), None), nonnegative=lambda known, x, *index, **params: known(x))
segment_sum = _linear("segment_sum", d.summed_by_segments, lambda x, starts, axis: ((*x.shape[:axis], starts.size - 1, *x.shape[axis + 1:]), x.dtype),
                      _segment_rule, reduction="segment_sum", nonnegative=lambda known, x, *index, **params: known(x))
cumsum      = _linear("cumsum", d.summed_along, lambda x, axis, reverse: (x.shape, x.dtype),
                      lambda z_bar, z, x, axis, reverse: (cumsum(z_bar, axis=axis, reverse=not reverse),), reduction="cumsum", nonnegative=lambda known, x, *index, **params: known(x))
# fmt: on


# Bilinear: every product of two arrays is one contraction.


def _contract_rule(z_bar, z, x, y, subscripts):
    left, right, out = d.letters(subscripts)
    return (
        contract(z_bar, conjugate(y), subscripts=f"{out},{right}->{left}"),
        contract(conjugate(x), z_bar, subscripts=f"{left},{out}->{right}"),
    )


def _is_sum_of_squares(known, x, y, subscripts):
    left, right, _ = d.letters(subscripts)
    return (x is y and left == right) or (known(x) and known(y))


def _simplify_contract(x, y, subscripts):
    """The products of equal lengths, summed: of their squares."""
    left, right, out = d.letters(subscripts)
    found = _product_of_lengths(x, y) if left == right and x.pool.has_lengths else None
    if found is None:
        return None
    total = sum_(found, axes=tuple(k for k, letter in enumerate(left) if letter not in out))
    rest = [letter for letter in left if letter in out]
    return transpose(total, axes=tuple(rest.index(letter) for letter in out))


contract = enter(
    Primitive(
        "contract",
        "bilinear",
        lambda x, y, subscripts: np.einsum(subscripts, x, y, optimize=x.size * y.size > 10_000),
        d.contract_shape,
        _contract_rule,
        linear=((0,), (1,)),
        simplify=_simplify_contract,
        nonnegative=_is_sum_of_squares,
    )
)


# Discrete: integer and boolean results.


def _discrete(name, evaluate, infer, **fields) -> Primitive:
    return enter(Primitive(name, "discrete", evaluate, infer, linear=(), **fields))


# fmt: off
argmax       = _discrete("argmax", lambda x, axis: np.argmax(x, axis), lambda x, axis: (d.removed(x.shape, (axis,)), d.INT), reduction="argmax", written_out=_written_out_extremum(greater))
argmin       = _discrete("argmin", lambda x, axis: np.argmin(x, axis), lambda x, axis: (d.removed(x.shape, (axis,)), d.INT), reduction="argmin", written_out=_written_out_extremum(less))
argsort      = _discrete("argsort", lambda x, axis: np.argsort(x, axis, kind="stable"), lambda x, axis: (x.shape, d.INT))
searchsorted = _discrete("searchsorted", lambda a, v, side: np.searchsorted(a, v, side), lambda a, v, side: (v.shape, d.INT))
last_writer  = _discrete("last_writer", d.last_writers, lambda index, size: ((size,), d.INT))
fixed        = enter(Primitive("fixed", "state", lambda x: x, lambda x: (x.shape, x.dtype), linear=((0,),), lowered=lambda x: x))
variable     = enter(Primitive("variable", "linear", lambda x, level: x, lambda x, level: (x.shape, x.dtype), lambda z_bar, z, x, level: (z_bar,), lazy=True, lowered=lambda x, level: x, selects=True, params={"level": 1}))
all_         = _discrete("all", lambda x: np.all(x), lambda x: ((), d.BOOL), reduction="all")
# fmt: on


for _name, _entry in {
    "add": add, "sub": subtract, "mul": multiply, "truediv": divide, "pow": power,
    "floordiv": floor_divide, "mod": remainder, "and": bitwise_and, "or": bitwise_or,
    "xor": bitwise_xor, "lshift": left_shift, "rshift": right_shift,
}.items():  # fmt: skip
    setattr(Node, f"__{_name}__", lambda self, other, entry=_entry: entry(self, other))
    setattr(Node, f"__r{_name}__", lambda self, other, entry=_entry: entry(other, self))
Node.__neg__ = lambda self: negative(self)
