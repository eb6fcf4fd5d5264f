"""Complex numbers that record: pairs of active numbers, and their functions as compositions.

The tape holds real numbers alone. Each function here consists of real operations on both parts, so
derivatives need no rules of their own; no intermediate value overflows unless the result does. An
operation between a plain complex number and an active number, real or complex, gives such a pair.
Values agree with Numba's up to rounding.
"""

from __future__ import annotations

import cmath
import dis
import functools
import math
import operator
from collections.abc import Callable
from types import FunctionType

import numpy as np
from numba.core import cgutils, types
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import AbstractTemplate, signature
from numba.extending import (
    intrinsic,
    lower_builtin,
    lower_cast,
    make_attribute_wrapper,
    overload,
    overload_attribute,
    overload_method,
    register_jitable,
)
from numba.np.arrayobj import populate_array

from nbhvp.loops.overloads.active import (
    ACTIVE,
    ACTIVE_COMPLEX,
    NUMBER_BYTES,
    Active,
    ActiveComplex,
    active,
    active_complex,
    register,
)
from nbhvp.loops.overloads.complex_forms import (
    FORMS,
    general_power,
    integer_power,
    pair,
    power_of_float,
)
from nbhvp.loops.overloads.compositions import root
from nbhvp.loops.overloads.numpy_functions import implementation, over_arrays

__all__: list[str] = []

_REAL = (Active, types.Float, types.Integer, types.Boolean)
_COMPLEX = (ActiveComplex, types.Complex)

# The type.

for _part in ("real", "imag"):
    make_attribute_wrapper(ActiveComplex, _part, _part)
overload_attribute(Active, "real")(lambda x: lambda x: x)
overload_attribute(Active, "imag")(lambda x: lambda x: 0.0)
overload_method(Active, "conjugate")(lambda x: lambda x: x)
overload_method(ActiveComplex, "conjugate")(lambda x: lambda x: pair(x.real, -x.imag))


def _joined(context, builder, real, imag):
    number = cgutils.create_struct_proxy(active_complex)(context, builder)
    number.real, number.imag = real, imag
    return number._getvalue()


class _Pair(AbstractTemplate):
    def generic(self, args, kws):
        return signature(active_complex, *map(types.unliteral, args))


@lower_builtin((Active, pair), types.VarArg(types.Any))
def _pair(context, builder, sig, args):
    kinds = zip(args, sig.args, strict=True)
    parts = [context.cast(builder, value, kind, active) for value, kind in kinds]
    return _joined(context, builder, *parts)


register(pair, _Pair)


def _zero(context, builder):
    return context.cast(builder, context.get_constant(types.float64, 0.0), types.float64, active)


for _kind in _REAL:

    @lower_cast(_kind, ActiveComplex)
    def _cast_real(context, builder, fromty, toty, value):
        real = context.cast(builder, value, fromty, active)
        return _joined(context, builder, real, _zero(context, builder))


@lower_cast(types.Complex, ActiveComplex)
def _cast_complex(context, builder, fromty, toty, value):
    number = context.make_complex(builder, fromty, value)
    element = fromty.underlying_float
    parts = [context.cast(builder, part, element, active) for part in (number.real, number.imag)]
    return _joined(context, builder, *parts)


@lower_builtin("print_item", ActiveComplex)
def _print(context, builder, sig, args):
    number = cgutils.create_struct_proxy(active_complex)(context, builder, args[0])
    plain = context.make_complex(builder, types.complex128)
    for part in ("real", "imag"):
        proxy = cgutils.create_struct_proxy(active)(context, builder, getattr(number, part))
        setattr(plain, part, proxy.value)
    printed = context.get_function("print_item", signature(types.none, types.complex128))
    return printed(builder, (plain._getvalue(),))


# Kinds of arguments.


def _element_of(kind):
    return types.unliteral(kind.dtype if isinstance(kind, types.Array) else kind)


def _is_ours(*kinds) -> bool:
    """Whether numbers or arrays meet as active complex numbers."""
    elements = [_element_of(kind) for kind in kinds]
    if not all(isinstance(kind, _REAL + _COMPLEX) for kind in elements):
        return False
    return active_complex in elements or (
        active in elements and any(isinstance(kind, types.Complex) for kind in elements)
    )


def _letters(*kinds) -> str:
    """R for each real argument, C for each complex one."""
    return "".join("RC"[isinstance(_element_of(kind), _COMPLEX)] for kind in kinds)


def _overload(functions, forms: dict[str, Callable], dtype=ACTIVE_COMPLEX, takes_active=False):
    """Overload functions by which of their arguments are complex; of arrays, element by element."""
    arity = len(next(iter(forms)))
    jitted = {letters: register_jitable(form) for letters, form in forms.items()}
    straight = {letters for letters, form in forms.items() if _is_straight(form)}

    def letters_of(*kinds):
        ours = _is_ours(*kinds) or (takes_active and active in map(_element_of, kinds))
        letters = _letters(*kinds)
        return letters if ours and letters in forms else None

    def chosen(*kinds):
        letters = letters_of(*kinds)
        if letters is None:
            return None
        if any(isinstance(kind, types.Array) for kind in kinds):
            return over_arrays(jitted[letters], kinds, dtype, "xy")
        return None if letters in straight else forms[letters]

    choose = (lambda x: chosen(x)) if arity == 1 else (lambda x, y: chosen(x, y))
    for function in functions:
        overload(function, target="cpu")(choose)
        if straight:
            _write_out(function, {k: forms[k] for k in straight}, dtype.kind, letters_of)


# Forms without branches are written out where they are called: a function for each takes Numba longer.


class _Number:
    """A number of the function that is lowered: operations on it lower themselves."""

    def __init__(self, context, builder, kind, value):
        self.context, self.builder, self.kind, self.value = context, builder, kind, value

    @property
    def real(self):
        return self._part(0)

    @property
    def imag(self):
        return self._part(1)

    def _part(self, k: int):
        if not isinstance(self.kind, _COMPLEX):
            return 0.0 if k else self
        kind = active if self.kind == active_complex else self.kind.underlying_float
        return self._with(kind, self.builder.extract_value(self.value, k))

    def _with(self, kind, value):
        return _Number(self.context, self.builder, kind, value)

    def __array_ufunc__(self, ufunc, method, *inputs):
        return self.applied(ufunc, *inputs)

    def applied(self, function, *numbers):
        """A function of numbers, as Numba calls it."""
        typing = self.context.typing_context
        constant = functools.partial(self.context.get_constant, types.float64)
        numbers = [
            n if isinstance(n, _Number) else self._with(types.float64, constant(n)) for n in numbers
        ]
        kind = typing.resolve_value_type(function)
        sig = kind.get_call_type(typing, tuple(n.kind for n in numbers), {})
        args = [
            self.context.cast(self.builder, n.value, n.kind, wanted)
            for n, wanted in zip(numbers, sig.args, strict=True)
        ]
        called = self.context.get_function(kind, sig)
        return self._with(sig.return_type, called(self.builder, args))


def _operation(function, reflected=False):
    def applied(self, *others):
        return self.applied(function, *((*others, self) if reflected else (self, *others)))

    return applied


_Number.__neg__ = _operation(operator.neg)
for _name in ("add", "sub", "mul", "truediv"):
    setattr(_Number, f"__{_name}__", _operation(getattr(operator, _name)))
    setattr(_Number, f"__r{_name}__", _operation(getattr(operator, _name), reflected=True))


def _is_straight(form: Callable) -> bool:
    return not any("JUMP" in step.opname for step in dis.get_instructions(form))


def _write_out(function, forms: dict[str, Callable], returned, letters_of: Callable) -> None:
    class Template(AbstractTemplate):
        def generic(self, args, kws):
            is_array = any(isinstance(kind, types.Array) for kind in args)
            if not kws and not is_array and letters_of(*args) in forms:
                return signature(returned, *map(types.unliteral, args))

    @lower_builtin((ActiveComplex, function), types.VarArg(types.Any))
    def lower(context, builder, sig, args):
        numbers = [
            _Number(context, builder, kind, value)
            for kind, value in zip(sig.args, args, strict=True)
        ]
        form = forms[letters_of(*sig.args)]
        scope = form.__globals__ | {"pair": functools.partial(numbers[0].applied, pair)}
        form = FunctionType(form.__code__, scope, closure=form.__closure__)
        found = form(*numbers)
        assert found.kind == returned, f"{function} gives {found.kind}, not {returned}"
        return found.value

    register(function, Template, ActiveComplex)


# Functions by their forms.

for _one in FORMS:
    _result = ACTIVE_COMPLEX if _one.is_complex else ACTIVE
    _dtype = np.bool_ if _one.is_truth else _result
    _overload(_one.functions, _one.texts, _dtype, takes_active=_one.takes_real)

_integer_power, _general_power = map(register_jitable, (integer_power, general_power))


@overload(np.conjugate, target="cpu")
def _conjugate_of_real(x):
    if isinstance(x, types.Array) and x.dtype == active:
        return lambda x: x


@overload(np.var, target="cpu")
def _var(a):
    if isinstance(a, types.Array) and a.dtype == active_complex:
        return lambda a: np.var(np.real(a)) + np.var(np.imag(a))


@overload(np.std, target="cpu")
def _std(a):
    if isinstance(a, types.Array) and a.dtype == active_complex:
        return lambda a: root(np.var(a))


@overload(cmath.polar, target="cpu")
def _polar(x):
    if x in (active_complex, active):
        return lambda x: (abs(x), cmath.phase(x))


@overload(cmath.rect, target="cpu")
def _rect(r, phi):
    if active in (r, phi):
        return lambda r, phi: pair(r * math.cos(phi), r * math.sin(phi))


@overload(operator.pow, target="cpu")
@overload(np.power, target="cpu")
@overload(pow, target="cpu")
def _power(x, y):
    if not _is_ours(x, y):
        return None
    exponent = _element_of(y)
    if isinstance(exponent, types.Integer):
        scalar = lambda x, y: _integer_power(x, y)
    elif isinstance(exponent, types.Float):
        scalar = power_of_float
    elif isinstance(_element_of(x), _COMPLEX):
        scalar = lambda x, y: _general_power(x, y)
    else:
        scalar = lambda x, y: _general_power(pair(x, 0.0), y)
    if isinstance(x, types.Array) or isinstance(y, types.Array):
        return over_arrays(register_jitable(scalar), (x, y), ACTIVE_COMPLEX, "xy")
    return scalar


# In place.

_IN_PLACE = {
    operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul,
    operator.itruediv: operator.truediv, operator.ipow: operator.pow,
}  # fmt: skip


def _overload_in_place(function, plain):
    @overload(function, target="cpu")
    def choose(x, y):
        if not _is_ours(x, y):
            return None
        if not isinstance(x, types.Array):
            return lambda x, y: plain(x, y)
        if x.dtype != active_complex:
            return None

        @implementation
        def into(x, y):
            x[...] = plain(x, y)
            return x

        return into


for _function, _plain in _IN_PLACE.items():
    _overload_in_place(_function, _plain)


# Conversions and parts.


@overload(complex, target="cpu")
def _complex(real=0.0, imag=0.0):
    if real == active_complex and not isinstance(imag, Active):
        return lambda real=0.0, imag=0.0: real
    if active in (real, imag):
        return lambda real=0.0, imag=0.0: pair(real, imag)


def _view_of_part(which):
    """A view of the real (0) or imaginary (1) parts of an array of active complex numbers."""

    @intrinsic
    def part(typing_context, array):
        kind = types.Array(active, array.ndim, "A")

        def generate(context, builder, sig, args):
            given = context.make_array(array)(context, builder, args[0])
            view = context.make_array(kind)(context, builder)
            first = builder.bitcast(given.data, view.data.type)
            data = builder.gep(first, [context.get_constant(types.intp, which)])
            extents = [
                cgutils.unpack_tuple(builder, e, array.ndim) for e in (given.shape, given.strides)
            ]
            size = context.get_constant(types.intp, NUMBER_BYTES)
            populate_array(view, data, *extents, size, given.meminfo, given.parent)
            return impl_ret_borrowed(context, builder, kind, view._getvalue())

        return kind(array), generate

    return part


def _overload_part(function, which):
    of_array = _view_of_part(which)

    @overload(function, target="cpu")
    def choose(val):
        if val == active_complex:
            return (lambda val: val.imag) if which else (lambda val: val.real)
        if isinstance(val, types.Array) and val.dtype == active_complex:
            return lambda val: of_array(val)
        if isinstance(val, types.Array) and val.dtype == active:
            return (lambda val: np.zeros(val.shape)) if which else (lambda val: val)
        if val == active and which:
            return lambda val: 0.0


_overload_part(np.real, 0)
_overload_part(np.imag, 1)
