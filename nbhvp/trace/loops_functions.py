"""NumPy's functions of arrays of active numbers, written as the loops that numba has for floats.

Three kinds. Overloads of the functions themselves: numba tries them before its own, and they answer
only where an argument is active. Stand-ins for what makes arrays of floats: the elements are active,
since something active may be written into them later. And functions for methods of arrays.

All are compiled from Python, so each operation in them records itself.
"""

import math
import operator

import numpy as np
from numba.core import types
from numba.extending import overload, register_jitable

from nbhvp.trace.loops_active import ACTIVE, active

__all__ = ["ATTRIBUTES", "METHODS", "standin_of"]


def _is_active(kind) -> bool:
    return kind == active or (isinstance(kind, types.Array) and kind.dtype == active)


def _is_number(kind) -> bool:
    return kind == active or isinstance(kind, types.Number | types.Boolean)


def _elements(kind) -> tuple:
    """The types of the elements of a tuple or list."""
    return tuple(kind) if isinstance(kind, types.BaseTuple) else (kind.dtype,)


def _overload(*functions, **options):
    """Overload functions where one of the arguments is active: `choose` gives the implementation."""

    def decorate(choose):
        for function in functions:
            overload(function, target="cpu", **options)(choose)
        return choose

    return decorate


def _is_given(kind) -> bool:
    return not (kind is None or isinstance(kind, types.NoneType | types.Omitted))


# Elementwise functions that are compositions.


def _compose(composition, *functions):
    """Overload functions of one active number or array as a composition."""

    def choose(x):
        return composition if _is_active(x) else None

    for function in functions:
        overload(function, target="cpu")(choose)


_compose(lambda x: x * x, np.square)
_compose(lambda x: 1.0 / x, np.reciprocal)
_compose(lambda x: x * (math.pi / 180), math.radians, np.deg2rad, np.radians)
_compose(lambda x: x * (180 / math.pi), math.degrees, np.rad2deg, np.degrees)


@_overload(np.round, np.around)
def _round(a, decimals=0):
    if _is_active(a):
        if not _is_given(decimals) or isinstance(decimals, int):
            return lambda a, decimals=0: np.rint(a)
        return lambda a, decimals=0: np.rint(a * 10.0**decimals) / 10.0**decimals


@_overload(round)
def _round_to_digits(number, ndigits):
    if number == active:
        return lambda number, ndigits: np.rint(number * 10.0**ndigits) / 10.0**ndigits


@_overload(divmod)
def _divmod(x, y):
    if _is_active(x) or _is_active(y):
        return lambda x, y: (x // y, x % y)


@_overload(np.clip)
def _clip(a, a_min, a_max):
    if any(map(_is_active, (a, a_min, a_max))):
        if not _is_given(a_min):
            return lambda a, a_min, a_max: np.minimum(a, a_max)
        if not _is_given(a_max):
            return lambda a, a_min, a_max: np.maximum(a, a_min)
        return lambda a, a_min, a_max: np.minimum(np.maximum(a, a_min), a_max)


@_overload(np.where)
def _where(condition, x, y):
    if not (_is_active(x) or _is_active(y)):
        return None
    if not isinstance(condition, types.Array):
        return lambda condition, x, y: x if condition else y

    def where(condition, x, y):
        shape = np.broadcast_shapes(condition.shape, np.shape(x), np.shape(y))
        out = np.empty(shape, ACTIVE)
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


def _sum(a):
    total = 0.0
    for x in a.flat:
        total += x
    return total


def _prod(a):
    product = 1.0
    for x in a.flat:
        product *= x
    return product


def _mean(a):
    return np.sum(a) / a.size


def _var(a):
    mean = np.mean(a)
    total = 0.0
    for x in a.flat:
        total += (x - mean) ** 2
    return total / a.size


def _std(a):
    return math.sqrt(np.var(a))


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


def _cumulated(combine):
    def cumulated(a):
        flat = a.ravel()
        out = np.empty(flat.size, ACTIVE)
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
    np.sum: _sum, np.prod: _prod, np.mean: _mean, np.var: _var, np.std: _std,
    np.max: _extremum(np.maximum), np.min: _extremum(np.minimum),
    np.argmax: _position_of(operator.gt), np.argmin: _position_of(operator.lt),
}  # fmt: skip


def _overload_reduction(function, reduction):
    result = np.int64 if function in (np.argmax, np.argmin) else ACTIVE
    whole = register_jitable(reduction)

    @_overload(function)
    def choose(a):
        if _is_active(a):
            return lambda a: whole(a)

    @_overload(function, prefer_literal=True)
    def choose_along(a, axis):
        if not _is_active(a):
            return None
        if not _is_given(axis):
            return lambda a, axis: whole(a)
        if isinstance(axis, types.IntegerLiteral):
            place = axis.literal_value % a.ndim
            if a.ndim == 1:
                return lambda a, axis: whole(a)
            return _along(reduction, place, a.ndim, result)


for _function, _reduction in _REDUCTIONS.items():
    _overload_reduction(_function, _reduction)


def _overload_cumulated(function, combine):
    cumulated = _cumulated(combine)

    @_overload(function)
    def choose(a):
        if _is_active(a):
            return cumulated


_overload_cumulated(np.cumsum, operator.add)
_overload_cumulated(np.cumprod, operator.mul)


# Products.


@register_jitable
def _inner(a, b):
    if a.size != b.size:
        raise ValueError("incompatible array sizes for a product of arrays")
    total = 0.0
    for k in range(a.size):
        total += a[k] * b[k]
    return total


@register_jitable
def _matrix_vector(a, b):
    out = np.empty(a.shape[0], ACTIVE)
    for i in range(a.shape[0]):
        out[i] = _inner(a[i], b)
    return out


def _vector_matrix(a, b):
    return _matrix_vector(b.T, a)


def _matrix_matrix(a, b):
    out = np.empty((a.shape[0], b.shape[1]), ACTIVE)
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            out[i, j] = _inner(a[i], b[:, j])
    return out


_PRODUCTS = {
    (1, 1): lambda a, b: _inner(a, b),
    (2, 1): lambda a, b: _matrix_vector(a, b),
    (1, 2): _vector_matrix,
    (2, 2): _matrix_matrix,
}


@_overload(np.dot, np.matmul, operator.matmul)
def _product(a, b):
    if (_is_active(a) or _is_active(b)) and hasattr(a, "ndim") and hasattr(b, "ndim"):
        return _PRODUCTS.get((a.ndim, b.ndim))


@_overload(np.vdot)
def _vdot(a, b):
    if _is_active(a) or _is_active(b):
        return lambda a, b: _inner(a.ravel(), b.ravel())


@_overload(np.outer)
def _outer(a, b):
    if _is_active(a) or _is_active(b):
        return lambda a, b: a.ravel().reshape((-1, 1)) * b.ravel().reshape((1, -1))


@_overload(np.linalg.norm)
def _norm(a, ord=None):
    if _is_active(a) and not _is_given(ord):

        def norm(a, ord=None):
            total = 0.0
            for x in a.flat:
                total += x * x
            return math.sqrt(total)

        return norm


@_overload(np.median)
def _median(a):
    if _is_active(a):

        def median(a):
            ordered = np.sort(a.ravel())
            half = ordered.size // 2
            if ordered.size % 2:
                return ordered[half]
            return (ordered[half - 1] + ordered[half]) / 2.0

        return median


@_overload(np.trace)
def _trace(a, offset=0):
    if _is_active(a):

        def trace(a, offset=0):
            total = 0.0
            for k in range(min(a.shape[0] + min(offset, 0), a.shape[1] - max(offset, 0))):
                total += a[k - min(offset, 0), k + max(offset, 0)]
            return total

        return trace


# Stand-ins: what makes arrays of floats, and conversions that are classes.


def _is_sequence(kind, of=_is_number) -> bool:
    if isinstance(kind, types.BaseTuple):
        return len(kind) > 0 and all(map(of, kind))
    return isinstance(kind, types.List) and of(kind.dtype)


@_overload(np.array)
def _array(object):
    """An array of what numba's own takes for no number."""
    if isinstance(object, types.Array) and _is_active(object):
        return lambda object: object.copy()
    if _is_sequence(object) and active in _elements(object):

        def array(object):
            out = np.empty(len(object), ACTIVE)
            for k, x in enumerate(object):
                out[k] = x
            return out

        return array
    if _is_sequence(object, of=_is_sequence):

        def array_of_rows(object):
            out = np.empty((len(object), len(object[0])), ACTIVE)
            for i, row in enumerate(object):
                for j, x in enumerate(row):
                    out[i, j] = x
            return out

        return array_of_rows


def _makes_active(dtype) -> bool:
    """Whether an array of this dtype holds floats; None means that it does."""
    if not _is_given(dtype):
        return True
    if isinstance(dtype, types.DTypeSpec):
        return isinstance(dtype.dtype, types.Float) or dtype.dtype == active
    return isinstance(dtype, types.Function) and dtype.typing_key is float


def _holds_floats(kind) -> bool:
    """Whether a number or the elements of an array are floats, active or not."""
    kind = getattr(kind, "dtype", kind)
    return kind == active or isinstance(kind, types.Float)


_STANDINS: dict[int, tuple] = {}


def standin_of(function):
    """What is called in the place of a function, which need not be hashable; None: itself."""
    return _STANDINS.get(id(function), (function, None))[1]


def _standin(function):
    def decorate(choose):
        standin = _stub(function.__name__)
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
        if not _makes_active(dtype):
            return lambda shape, dtype=None: function(shape, dtype)
        if fill is None:
            return lambda shape, dtype=None: np.zeros(shape, ACTIVE)
        return lambda shape, dtype=None: np.full(shape, fill, ACTIVE)


def _stand_for_likeness(function, fill):
    @_standin(function)
    def choose(a, dtype=None):
        if _is_given(dtype):
            if not _makes_active(dtype):
                return lambda a, dtype=None: function(a, dtype)
        elif not _holds_floats(a):
            return lambda a, dtype=None: function(a)
        if fill is None:
            return lambda a, dtype=None: np.zeros(np.shape(a), ACTIVE)
        return lambda a, dtype=None: np.full(np.shape(a), fill, ACTIVE)


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
    if _makes_active(dtype) if _is_given(dtype) else _holds_floats(fill_value):
        return lambda shape, fill_value, dtype=None: np.full(shape, fill_value, ACTIVE)
    if _is_given(dtype):
        return lambda shape, fill_value, dtype=None: np.full(shape, fill_value, dtype)
    return lambda shape, fill_value, dtype=None: np.full(shape, fill_value)


@_standin(np.full_like)
def _full_like(a, fill_value, dtype=None):
    if _makes_active(dtype) if _is_given(dtype) else _holds_floats(a):
        return lambda a, fill_value, dtype=None: np.full(a.shape, fill_value, ACTIVE)
    if _is_given(dtype):
        return lambda a, fill_value, dtype=None: np.full_like(a, fill_value, dtype)
    return lambda a, fill_value, dtype=None: np.full_like(a, fill_value)


def _stand_for_conversion(kind, convert):
    """np.float64(x) of an active x is x, np.int64(x) is int(x)."""

    @_standin(kind)
    def choose(x):
        return convert if x == active else lambda x: kind(x)


for _kind in (np.float64, np.float32):
    _stand_for_conversion(_kind, lambda x: x)
for _kind in (np.int8, np.int16, np.int32, np.int64, np.intp):
    _stand_for_conversion(_kind, lambda x: int(x))
_stand_for_conversion(np.bool_, lambda x: bool(x))


# Methods of arrays.


_widened = _stub("widened")


@overload(_widened, strict=False)
def _choose_widened(array):
    """A copy of an array whose floats are active; other arrays as they are."""
    if not isinstance(array.dtype, types.Float):
        return lambda array: array

    def widened(array):
        out = np.empty(array.shape, ACTIVE)
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
        which = "active" if _is_active(a) else "plain"
        return namespace[which + "_along" * _is_given(axis)]


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
    if isinstance(a, types.Array) and isinstance(a.dtype, types.Float):
        return lambda a: _widened(a)
    return lambda a: a.copy()


@_method("astype")
def _astype(a, dtype):
    if _is_active(a) and _makes_active(dtype):
        return lambda a, dtype: a.copy()
    if _is_active(a):

        def truncated(a, dtype):
            out = np.empty(a.shape, dtype)
            for index, x in np.ndenumerate(a):
                out[index] = int(x)
            return out

        return truncated
    return lambda a, dtype: a.astype(dtype)


@_method("fill")
def _fill_array(a, value):
    if _is_active(a):

        def fill(a, value):
            a[...] = value

        return fill
    return lambda a, value: a.fill(value)


@_method("view")
def _view(a, dtype):
    if _is_active(a):
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
        if not _is_active(a):
            return namespace["plain"]
        if name == "dtype":
            return lambda a: _FLOAT
        return None

    ATTRIBUTES[name] = attribute


_FLOAT = np.dtype(np.float64)

for _name in ("dtype", "itemsize", "nbytes", "strides", "ctypes", "data"):
    _attribute(_name)


# What is asked about types is answered as for a float.


@_overload(isinstance)
def _isinstance(var, typs):
    if var == active:
        return lambda var, typs: isinstance(0.0, typs)


@_overload(np.isscalar)
def _isscalar(element):
    if element == active:
        return lambda element: True
