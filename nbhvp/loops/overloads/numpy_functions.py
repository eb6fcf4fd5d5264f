"""NumPy's functions of arrays of active numbers, written as the loops that Numba has for floats.

There are three kinds: overloads of NumPy's functions, which Numba tries before its own and which apply
only if an argument is active; replacements for functions that create arrays of floats, whose elements
are active because active numbers may be written into them later; and functions for methods of arrays.

All are compiled from Python, so each operation in them appends its own record.
"""

import math
import operator

import numpy as np
from numba.core import types
from numba.core.registry import cpu_target
from numba.extending import overload, register_jitable
from numba.np.numpy_support import as_dtype

from nbhvp.loops.overloads import compositions
from nbhvp.loops.overloads.active import ACTIVE, ACTIVE_COMPLEX, active, active_complex

__all__ = [
    "ATTRIBUTES",
    "METHODS",
    "active_kind",
    "element",
    "elementwise",
    "implementation",
    "is_active",
    "is_given",
    "is_number",
    "over_arrays",
    "overload_active",
    "standin_of",
]


_ACTIVE = (active, active_complex)


def is_active(kind) -> bool:
    """Whether it is an active number, real or complex, or an array of such."""
    return (kind.dtype if isinstance(kind, types.Array) else kind) in _ACTIVE


def is_number(kind) -> bool:
    return kind in _ACTIVE or isinstance(kind, types.Number | types.Boolean)


def _elements(kind) -> tuple:
    """The types of the numbers in a tuple, list or array; of a number, its own."""
    if isinstance(kind, types.BaseTuple):
        return sum(map(_elements, kind), ())
    return _elements(kind.dtype) if hasattr(kind, "dtype") else (kind,)


def element(*kinds):
    """The dtype of an array that holds what these numbers, arrays or sequences of them hold."""
    held = [kind for of in kinds for kind in _elements(of)]
    is_complex = any(kind == active_complex or isinstance(kind, types.Complex) for kind in held)
    return ACTIVE_COMPLEX if is_complex else ACTIVE


def overload_active(*functions, **options):
    """Overload functions where one of the arguments is active: `choose` gives the implementation."""

    def decorate(choose):
        for function in functions:
            overload(function, target="cpu", **options)(choose)
        return choose

    return decorate


def implementation(function):
    """Marks what numba compiles, which runs as machine code alone."""
    return function


def over_arrays(function, kinds: tuple, dtype, names=None):
    """`function` of numbers over arrays that broadcast, for arguments of these kinds."""
    names = names[: len(kinds)] if names else [f"a{k}" for k in range(len(kinds))]
    arrays = [n for n, kind in zip(names, kinds, strict=True) if isinstance(kind, types.Array)]
    shapes = ", ".join(f"{name}.shape" for name in arrays)
    items = ", ".join(f"b{name}[index]" if name in arrays else name for name in names)
    lines = [
        f"def over({', '.join(names)}):",
        f"    shape = np.broadcast_shapes({shapes})",
        *(f"    b{name} = np.broadcast_to({name}, shape)" for name in arrays),
        "    out = np.empty(shape, dtype)",
        "    for index in np.ndindex(shape):",
        f"        out[index] = function({items})",
        "    return out",
    ]
    namespace = {"np": np, "function": function, "dtype": dtype}
    exec("\n".join(lines), namespace)
    return namespace["over"]


def elementwise(function, name: str):
    """A compiled function of numbers as one of numbers or arrays, as @vectorize makes it."""
    typing = cpu_target.typing_context
    elementwise = _stub(name)

    @overload(elementwise, strict=False)
    def choose(*kinds):
        scalars = tuple(kind.dtype if isinstance(kind, types.Array) else kind for kind in kinds)
        result = typing.resolve_value_type(function).get_call_type(typing, scalars, {}).return_type
        if scalars == kinds:
            return lambda *args: function(*args)
        made = _held(result) or as_dtype(types.unliteral(result))
        return over_arrays(function, kinds, made)

    return elementwise


def is_given(kind) -> bool:
    return not (kind is None or isinstance(kind, types.NoneType | types.Omitted))


# Elementwise functions that are compositions.


def _compose(composition, *functions):
    """Overload functions of one active number or array as a composition."""

    def choose(x):
        return composition if is_active(x) else None

    for function in functions:
        overload(function, target="cpu")(choose)


_compose(lambda x: x * x, np.square)
_compose(lambda x: 1.0 / x, np.reciprocal)
_compose(lambda x: x * (math.pi / 180), math.radians, np.deg2rad, np.radians)
_compose(lambda x: x * (180 / math.pi), math.degrees, np.rad2deg, np.degrees)


@overload_active(np.round, np.around)
def _round(a, decimals=0):
    if is_active(a):
        if not is_given(decimals) or isinstance(decimals, int):
            return lambda a, decimals=0: np.rint(a)
        return lambda a, decimals=0: np.rint(a * 10.0**decimals) / 10.0**decimals


@overload_active(round)
def _round_to_digits(number, ndigits):
    if number == active:
        return lambda number, ndigits: np.rint(number * 10.0**ndigits) / 10.0**ndigits


@overload_active(divmod)
def _divmod(x, y):
    if is_active(x) or is_active(y):
        return lambda x, y: (x // y, x % y)


@overload_active(np.clip)
def _clip(a, a_min, a_max):
    if any(map(is_active, (a, a_min, a_max))):
        if not is_given(a_min):
            return lambda a, a_min, a_max: np.minimum(a, a_max)
        if not is_given(a_max):
            return lambda a, a_min, a_max: np.maximum(a, a_min)
        return lambda a, a_min, a_max: np.minimum(np.maximum(a, a_min), a_max)


@overload_active(np.where)
def _where(condition, x, y):
    if not (is_active(x) or is_active(y)):
        return None
    if not isinstance(condition, types.Array):
        return lambda condition, x, y: x if condition else y

    dtype = element(x, y)

    def where(condition, x, y):
        shape = np.broadcast_shapes(condition.shape, np.shape(x), np.shape(y))
        out = np.empty(shape, dtype)
        chosen, first, second = (
            np.broadcast_to(condition, shape),
            np.broadcast_to(np.asarray(x), shape),
            np.broadcast_to(np.asarray(y), shape),
        )
        for index in np.ndindex(shape):
            out[index] = first[index] if chosen[index] else second[index]
        return out

    return where


# Reductions: of all elements in C order, or of the slices along an axis.


def _extremum(compare):
    """The largest or smallest element, by the primitive for two."""

    def extremum(a):
        if a.size == 0:
            raise ValueError("zero-size array to reduction operation has no identity")
        flat = a.ravel()
        best = flat[0]
        for k in range(1, flat.size):
            best = compare(best, flat[k])
        return best

    return extremum


def _position_of(compare):
    """Where the first of the largest or smallest elements is, by comparisons."""

    def position(a):
        flat = a.ravel()
        best = 0
        for k in range(1, flat.size):
            if compare(flat[k], flat[best]):
                best = k
        return best

    return position


def _cumulated(combine, dtype):
    def cumulated(a):
        flat = a.ravel()
        out = np.empty(flat.size, dtype)
        for k in range(flat.size):
            out[k] = flat[k] if k == 0 else combine(out[k - 1], flat[k])
        return out

    return cumulated


def _index_text(axis: int, ndim: int, item: str) -> str:
    return ", ".join(item if k == axis else ":" for k in range(ndim))


def _along(reduction, axis: int, ndim: int, result):
    """A reduction of an array along one axis, over positions of the other axes."""
    others = [k for k in range(ndim) if k != axis]
    names = ", ".join(f"i{k}" for k in others)
    index = ", ".join(":" if k == axis else f"i{k}" for k in range(ndim))
    shape = "".join(f"a.shape[{k}], " for k in others)
    lines = ["def along(a, axis):", f"    out = np.empty(({shape}), dtype)"]
    for depth, k in enumerate(others):
        lines.append("    " * (depth + 1) + f"for i{k} in range(a.shape[{k}]):")
    lines += [
        "    " * (len(others) + 1) + f"out[{names}] = reduction(a[{index}])",
        "    return out",
    ]
    namespace = {"np": np, "reduction": register_jitable(reduction), "dtype": result}
    exec("\n".join(lines), namespace)
    return namespace["along"]


_REDUCTIONS = {
    **compositions.REDUCTIONS,
    np.max: _extremum(np.maximum), np.min: _extremum(np.minimum),
    np.argmax: _position_of(operator.gt), np.argmin: _position_of(operator.lt),
}  # fmt: skip


_OF_COMPLEX = (np.sum, np.prod, np.mean)
"""Reductions that are the same of complex numbers."""


def _overload_reduction(function, reduction):
    is_place = function in (np.argmax, np.argmin)
    whole = register_jitable(reduction)

    def is_ours(a) -> bool:
        return is_active(a) and (function in _OF_COMPLEX or element(a) == ACTIVE)

    @overload_active(function)
    def choose(a):
        if is_ours(a):
            return lambda a: whole(a)

    @overload_active(function, prefer_literal=True)
    def choose_along(a, axis):
        if not is_ours(a):
            return None
        if not is_given(axis):
            return lambda a, axis: whole(a)
        if isinstance(axis, types.IntegerLiteral):
            place = axis.literal_value % a.ndim
            if a.ndim == 1:
                return lambda a, axis: whole(a)
            return _along(reduction, place, a.ndim, np.int64 if is_place else element(a))


for _function, _reduction in _REDUCTIONS.items():
    _overload_reduction(_function, _reduction)


def _overload_cumulated(function, combine):
    @overload_active(function)
    def choose(a):
        if is_active(a):
            return _cumulated(combine, element(a))


_overload_cumulated(np.cumsum, operator.add)
_overload_cumulated(np.cumprod, operator.mul)


# Stand-ins: what makes arrays of floats, and conversions that are classes.


def _is_sequence(kind, of=is_number) -> bool:
    if isinstance(kind, types.BaseTuple):
        return len(kind) > 0 and all(map(of, kind))
    return isinstance(kind, types.List) and of(kind.dtype)


@overload_active(np.array)
def _array(object):
    """An array of what numba's own takes for no number."""
    if isinstance(object, types.Array) and is_active(object):
        return lambda object: object.copy()
    if not any(map(is_active, _elements(object))):
        return None  # the user's own, of floats
    dtype = element(object)
    if _is_sequence(object):

        def array(object):
            out = np.empty(len(object), dtype)
            for k, x in enumerate(object):
                out[k] = x
            return out

        return array
    if _is_sequence(object, of=_is_sequence):

        def array_of_rows(object):
            out = np.empty((len(object), len(object[0])), dtype)
            for i, row in enumerate(object):
                for j, x in enumerate(row):
                    out[i, j] = x
            return out

        return array_of_rows


def _made(dtype):
    """What an array of this dtype holds: active numbers, where floats would be; else None.

    No dtype is that of floats.
    """
    if not is_given(dtype):
        return ACTIVE
    if isinstance(dtype, types.Function):
        return {float: ACTIVE, complex: ACTIVE_COMPLEX}.get(dtype.typing_key)
    return _held(dtype.dtype) if isinstance(dtype, types.DTypeSpec) else None


def _held(kind):
    """The same for what an array of such numbers, or like this array, holds."""
    kind = types.unliteral(getattr(kind, "dtype", kind))
    if kind == active or isinstance(kind, types.Float):
        return ACTIVE
    return ACTIVE_COMPLEX if kind == active_complex or isinstance(kind, types.Complex) else None


def active_kind(kind):
    """The type that stands for a type of the user's: active numbers for floats, also inside."""
    if isinstance(kind, types.Array):
        return kind.copy(dtype=active_kind(kind.dtype))
    if isinstance(kind, types.ListType):
        return types.ListType(active_kind(kind.item_type))
    if isinstance(kind, types.DictType):
        return types.DictType(kind.key_type, active_kind(kind.value_type))
    if isinstance(kind, types.BaseTuple):
        return types.Tuple([active_kind(item) for item in kind])
    made = _held(kind) if is_number(kind) else None
    return kind if made is None else made.kind


_STANDINS: dict[int, tuple] = {}


def standin_of(function):
    """What is called in the place of a function, which need not be hashable; None: itself."""
    return _STANDINS.get(id(function), (function, None))[1]


def _standin(function):
    def decorate(choose):
        standin = _stub(getattr(function, "__name__", str(function)))
        overload(standin, strict=False)(choose)
        _STANDINS[id(function)] = function, standin
        return choose

    return decorate


def _stub(name: str):
    """A function to be overloaded, which errors call by a name of the user's."""

    def stub(*args):
        raise NotImplementedError("it runs compiled only")

    stub.__name__ = stub.__qualname__ = name
    return stub


def _stand_for_creation(function, fill):
    @_standin(function)
    def choose(shape, dtype=None):
        made = _made(dtype)
        if made is None:
            return lambda shape, dtype=None: function(shape, dtype)
        if fill is None:
            return lambda shape, dtype=None: np.zeros(shape, made)
        return lambda shape, dtype=None: np.full(shape, fill, made)


def _stand_for_likeness(function, fill):
    @_standin(function)
    def choose(a, dtype=None):
        made = _made(dtype) if is_given(dtype) else _held(a)
        if made is None:
            if is_given(dtype):
                return lambda a, dtype=None: function(a, dtype)
            return lambda a, dtype=None: function(a)
        if fill is None:
            return lambda a, dtype=None: np.zeros(np.shape(a), made)
        return lambda a, dtype=None: np.full(np.shape(a), fill, made)


# An empty array is zeros: what nobody wrote is then a constant, not the address of a tape.
for _function, _fill in {np.zeros: None, np.empty: None, np.ones: 1.0}.items():
    _stand_for_creation(_function, _fill)
for _function, _fill in {np.zeros_like: None, np.empty_like: None, np.ones_like: 1.0}.items():
    _stand_for_likeness(_function, _fill)


def _stand_for_range(function):
    """What makes floats that are written over later, as `t = np.linspace(a, b, n)` may be."""

    @_standin(function)
    def choose(*args):
        def make(*args):
            return _widened(function(*args))

        return make


for _function in (np.linspace, np.arange, np.eye, np.identity):
    _stand_for_range(_function)


@_standin(np.full)
def _full(shape, fill_value, dtype=None):
    made = _made(dtype) if is_given(dtype) else _held(fill_value)
    if made is not None:
        return lambda shape, fill_value, dtype=None: np.full(shape, fill_value, made)
    if is_given(dtype):
        return lambda shape, fill_value, dtype=None: np.full(shape, fill_value, dtype)
    return lambda shape, fill_value, dtype=None: np.full(shape, fill_value)


@_standin(np.full_like)
def _full_like(a, fill_value, dtype=None):
    made = _made(dtype) if is_given(dtype) else _held(a)
    if made is not None:
        return lambda a, fill_value, dtype=None: np.full(a.shape, fill_value, made)
    if is_given(dtype):
        return lambda a, fill_value, dtype=None: np.full_like(a, fill_value, dtype)
    return lambda a, fill_value, dtype=None: np.full_like(a, fill_value)


def _stand_for_conversion(kind, convert):
    """np.float64(x) of an active x is x, np.int64(x) is int(x)."""

    @_standin(kind)
    def choose(x):
        return convert if x in _ACTIVE else lambda x: kind(x)


for _kind in (np.float64, np.float32, types.float64, types.float32):
    _stand_for_conversion(_kind, lambda x: float(x))
for _kind in (np.complex128, np.complex64, types.complex128, types.complex64):
    _stand_for_conversion(_kind, lambda x: complex(x))
for _kind in (np.int8, np.int16, np.int32, np.int64, np.intp, types.int32, types.int64):
    _stand_for_conversion(_kind, lambda x: int(x))
_stand_for_conversion(np.bool_, lambda x: bool(x))


# Methods of arrays.


_widened = _stub("widened")


@overload(_widened, strict=False)
def _choose_widened(array):
    """A copy of an array whose floats are active; other arrays as they are."""
    if not isinstance(array.dtype, types.Float | types.Complex):
        return lambda array: array
    dtype = element(array)

    def widened(array):
        out = np.empty(array.shape, dtype)
        for index, x in np.ndenumerate(array):
            out[index] = x
        return out

    return widened


METHODS: dict = {}
"""By name: a function of the object and the arguments."""


def _method(name: str):
    def decorate(choose):
        method = _stub(name)
        overload(method, strict=False, prefer_literal=True)(choose)
        METHODS[name] = method
        return choose

    return decorate


def _as_method(name, function):
    """A method with at most an axis: the function where the array is active."""
    namespace = {"function": function}
    exec(
        f"def plain(a, axis=None): return a.{name}()\n"
        f"def plain_along(a, axis=None): return a.{name}(axis)\n"
        "def active(a, axis=None): return function(a)\n"
        "def active_along(a, axis=None): return function(a, axis)\n",
        namespace,
    )

    @_method(name)
    def choose(a, axis=None):
        which = "active" if is_active(a) else "plain"
        return namespace[which + "_along" * is_given(axis)]


for _name, _function in {
    "sum": np.sum, "prod": np.prod, "mean": np.mean, "var": np.var, "std": np.std,
    "max": np.max, "min": np.min, "argmax": np.argmax, "argmin": np.argmin,
    "cumsum": np.cumsum, "cumprod": np.cumprod,
}.items():  # fmt: skip
    _as_method(_name, _function)


@_method("dot")
def _dot(a, b):
    return lambda a, b: np.dot(a, b)


@_method("copy")
def _copy(a):
    """A copy of floats from outside may be written like any array of the function's own."""
    if isinstance(a, types.Array) and isinstance(a.dtype, types.Float | types.Complex):
        return lambda a: _widened(a)
    return lambda a: a.copy()


@_method("astype")
def _astype(a, dtype):
    if not is_active(a):
        return lambda a, dtype: a.astype(dtype)
    made = _made(dtype)
    if made == _held(a):
        return lambda a, dtype: a.copy()
    if made == ACTIVE_COMPLEX:
        return lambda a, dtype: a + 0j

    def truncated(a, dtype):
        out = np.empty(a.shape, dtype)
        for index, x in np.ndenumerate(a):
            out[index] = int(x)
        return out

    return truncated


@_method("conj")
@_method("conjugate")
def _conjugate(a):
    return (lambda a: np.conjugate(a)) if is_active(a) else (lambda a: a.conjugate())


@_method("fill")
def _fill_array(a, value):
    if is_active(a):

        def fill(a, value):
            a[...] = value

        return fill
    return lambda a, value: a.fill(value)


@_method("view")
def _view(a, dtype):
    if is_active(a):
        return None
    return lambda a, dtype: a.view(dtype)


# Attributes that tell how an array lies in memory: an active number is no float there.

ATTRIBUTES: dict = {}
"""By name: a function of the object."""


def _attribute(name: str):
    attribute = _stub(name)
    namespace: dict = {}
    exec(f"def plain(a): return a.{name}", namespace)

    @overload(attribute, strict=False)
    def choose(a):
        if not is_active(a):
            return namespace["plain"]
        return _SHOWN.get(name, lambda a: None)(a)

    ATTRIBUTES[name] = attribute


_FLOAT, _COMPLEX = np.dtype(np.float64), np.dtype(np.complex128)

_SHOWN = {
    "dtype": lambda a: (lambda a: _FLOAT) if _held(a) == ACTIVE else (lambda a: _COMPLEX),
    "real": lambda a: lambda a: np.real(a),
    "imag": lambda a: lambda a: np.imag(a),
}
"""Of attributes of active arrays, what is chosen; the others cannot be."""

for _name in (*_SHOWN, "itemsize", "nbytes", "strides", "ctypes", "data"):
    _attribute(_name)


# What is asked about types is answered as for a float.


@overload_active(isinstance)
def _isinstance(var, typs):
    if var == active:
        return lambda var, typs: isinstance(0.0, typs)


@overload_active(np.isscalar)
def _isscalar(element):
    if element == active:
        return lambda element: True
