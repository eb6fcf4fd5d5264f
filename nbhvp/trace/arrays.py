"""The traced array: a concrete value and a node of the graph, which pass through NumPy together.

NumPy does broadcasting, promotion, layout and error messages on the concrete values; the table of
primitives makes the nodes. A traced array is a storage cell, or a view of one: a chain of slices,
reshapes, transposes, real and imaginary parts. With b the content of the storage and V the chain,

    read:   V(b)                    write y:   b <- V^-1(b, y), the content with V(b) replaced by y,

so that every alias sees a write. Invariants: a concrete value that anything but its cell holds is never
modified (a write makes a new one), so it may be shared with the user's arrays; `value` and `node` of a traced array
have the same shape and dtype; a result is a view or a copy, a scalar or an array, as NumPy's result
for the concrete value is. A Python branch on a value that depends on x records a guard.

The methods of traced arrays are in `methods`, which adds them to the classes here.
"""

from __future__ import annotations

import abc
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nbhvp.graph import definitions
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node, Pool
from nbhvp.graph.time.log import Log
from nbhvp.plain import SIZES, is_plain, native, native_dtype, refusal_of
from nbhvp.trace.recording import Recording, current, present, trace_error
from nbhvp.trace.surroundings.texts import text_of
from nbhvp.trace.views import (
    Storage,
    View,
    is_array,
)

__all__ = [
    "UNREAD",
    "Number",
    "Recording",
    "Traced",
    "adopt",
    "apply",
    "current",
    "guard",
    "is_constant",
    "lift",
    "scalar",
    "trace_error",
    "weaken",
    "with_items",
]

_WEAK = (bool, int, float, complex)
_NUMERIC = "biufc"
_DOUBLES = (np.float64, float)
_DOUBLE = np.dtype(float)


UNREAD: tuple[int, Any, Node | None] = (-1, None, None)


class Traced:
    """An array, NumPy scalar or Python number of the user's function while it is being traced."""

    __slots__ = ("_cache", "_parent", "storage", "views")
    __array_priority__ = 1000.0

    def __init__(
        self, storage: Storage, views: tuple[View, ...] = (), parent: Traced | None = None
    ):
        """A view may name the array of which it is the last step: it shares that one's node."""
        self.storage = storage
        self.views = views
        self._parent = parent
        self._cache = UNREAD

    def _read(self) -> tuple[int, Any, Node | None]:
        """The version that was read, its value, and its node, if that was asked for."""
        storage = self.storage
        if self._cache[0] != storage.version:
            if storage.is_stale:
                raise trace_error(
                    "an array that a compiled function returned or was given is read after another "
                    "array was written that may share its memory",
                    "use the array that the function returned, or return a copy",
                )
            value = storage.value if self._parent is None else self._parent.value
            for view in self._own_views():
                value = view.of_value(value)
            self._cache = (storage.version, value, None if self.views else storage.node)
        return self._cache

    def _own_views(self) -> tuple[View, ...]:
        return self.views if self._parent is None else self.views[len(self._parent.views) :]

    def viewed(self, *views: View, value: np.ndarray | None = None) -> Traced:
        """A view of this array, with its value if that is known."""
        made = Traced(self.storage, (*self.views, *views), self)
        if value is not None:
            made._cache = (self.storage.version, value, None)
        return made

    @property
    def __class__(self) -> type:
        """The class of what it stands for: `isinstance`, `match` and dispatch by type ask for it."""
        return type(self.value)

    @property
    def node(self) -> Node:
        """What the array holds now, in the graph."""
        version, value, node = self._read()
        if node is None:
            node = self.storage.node if self._parent is None else self._parent.node
            for view in self._own_views():
                node = view.of_node(node)
            self._cache = (version, value, node)
        return node

    @property
    def pool(self) -> Pool:
        """That of the trace to which it belongs."""
        return self.storage.node.pool

    @property
    def value(self):
        """What the array holds now at the traced point; not to be modified."""
        return self._read()[1]

    @property
    def shape(self) -> tuple[int, ...]:
        return np.shape(self.value)

    @property
    def ndim(self) -> int:
        return np.ndim(self.value)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype:
        value = self.value
        return value.dtype if type(value) is np.ndarray else self.node.dtype

    @property
    def device(self) -> str:
        return "cpu"

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    def __repr__(self) -> str:
        return shown(self, f"Traced({self.value!r})")

    def __str__(self) -> str:
        return shown(self, str(self.value))

    def __format__(self, spec: str) -> str:
        return shown(self, format(self.value, spec))

    def __reduce__(self):
        raise trace_error("a traced value cannot be pickled", "keep it inside the function")

    # Protocols.

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if not is_constant(self):
            raise current().refusal(
                "code that nbhvp cannot follow asks for the plain numbers of a traced array "
                "(np.asarray, plain[...] = traced, compiled code), which would lose its derivative",
                "use NumPy functions, and make arrays to be written with np.zeros, np.empty or "
                "np.array inside the function",
            )
        array = np.array(self.value, dtype)
        array.flags.writeable = False
        return array

    # Conversions: a constant gives its value; a live value gives a guard, or an error.

    def __bool__(self) -> bool:
        truth = bool(self.value)
        if self.dtype == bool:
            guard(self)
        else:
            guard(apply(p.not_equal, self, 0))
        return truth

    def __index__(self) -> int:
        index = operator.index(self.value)
        guard(self)
        return index

    def __int__(self) -> int:
        try:
            integer = int(self.value)
        except (ValueError, OverflowError):  # of NaN, of infinity
            guard(apply(p.isnan, self))
            guard(apply(p.isfinite, self))
            raise
        is_whole = apply(p.cast, self, dtype=definitions.INT)
        # Beyond 64 bits all casts give one number, and so do NaN and infinity.
        guard(is_whole if abs(integer) < 2**63 else apply(p.equal, self, self.value))
        return integer

    def __round__(self, digits: int | None = None):
        return int(apply(p.rint, self)) if digits is None else self.round(digits)

    def __trunc__(self) -> int:
        return int(self)

    def __floor__(self) -> int:
        return int(apply(p.floor, self))

    def __ceil__(self) -> int:
        return int(apply(p.ceil, self))

    def __float__(self) -> float:
        return float(
            self._plain(
                "a plain float of a traced value (np.float64(x), '%g' % x, plain[0] = x)",
                "use x.astype(float); an array that is written with traced values must be made "
                "inside the function (np.zeros, np.empty)",
            )
        )

    def __complex__(self) -> complex:
        return complex(
            self._plain("a plain complex number of a traced value", "use x.astype(complex)")
        )

    def item(self, *index) -> Traced:
        """An element as a Python number, which is still traced."""
        if self.size != 1 and not index:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        element = self.flatten()[index[0] if index else 0] if len(index) < 2 else self[index]
        return weaken(lift(element))

    def tolist(self):
        """Nested lists of Python numbers, which are still traced."""
        return [row.tolist() for row in self] if self.ndim else self.item()

    def tobytes(self, order="C") -> bytes:
        return self._plain(".tobytes() of a traced value", "leave it out").tobytes(order)

    def _plain(self, what: str, instead: str):
        if not is_constant(self):
            raise current().refusal(f"{what} would lose its derivative", instead)
        return self.value

    def __hash__(self) -> int:
        if is_array(self.value):
            raise TypeError("unhashable type: 'numpy.ndarray'")
        return hash(
            self._plain(
                "the hash of a traced number (as a key of a dict, in a set)",
                "use plain values as keys",
            )
        )

    # Containers.

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __contains__(self, item) -> bool:
        return bool(np.any(self == item))


class Number(Traced):
    """A number of double precision: it shares memory with nothing, and is never written.

    Its node, or its row in the log of the trace, is made when one of them is asked for.
    """

    __slots__ = ("_node", "log", "row", "value")

    value: float

    _node: Node | None
    log: Log | None
    row: int

    # Numbers are many: whoever makes one sets what it has, without a call (`numbers`).
    __init__ = object.__init__  # type: ignore[assignment]

    @property
    def node(self) -> Node:  # type: ignore[override]
        node = self._node
        if node is None:
            assert self.log is not None
            node = self._node = self.log.node(self.row)
        return node

    @property
    def pool(self) -> Pool:
        return self.node.pool if self.log is None else self.log.pool

    @property
    def storage(self) -> Storage:  # type: ignore[override]
        """A cell of its own."""
        return Storage(self.node, self.value)

    @property
    def views(self) -> tuple[View, ...]:  # type: ignore[override]
        """None: it is all of its cell."""
        return ()

    def _read(self) -> tuple[int, Any, Node | None]:
        return 0, self.value, self.node

    @property
    def __class__(self) -> type:
        return type(self.value)


def _unsupported(name: str) -> property:
    """An attribute of what a traced value stands for that is none of its own."""

    def read(x: Traced):
        getattr(x.value, name)  # Python's own error if that has none
        raise trace_error(
            f"the array attribute .{name} is not supported on a traced value",
            "write it with NumPy functions",
        )

    return property(read)


# Not by __getattr__: with that, Python reads each attribute of an object four times as slowly.
for _kind in (np.ndarray, np.float64, np.complex128, np.int64, np.bool_, float, complex, int):
    for _name in dir(_kind):
        if not _name.startswith("_") and not hasattr(Traced, _name):
            setattr(Traced, _name, _unsupported(_name))


Number.__name__ = Traced.__name__  # by which errors of code in C call it, and `recording` knows it

_SEQUENCE = 1 << 5
"""The flag of classes that patterns of sequences match, as those of arrays do from NumPy 2.5 on."""
if np.ndarray.__flags__ & _SEQUENCE:

    class _Matched(metaclass=abc.ABCMeta):  # noqa: B024 the flag is all that it has
        __abc_tpflags__ = _SEQUENCE

    _Matched.register(Traced)
    _Matched.register(Number)


# Making traced arrays.


def traced(node: Node, value) -> Traced:
    """A new array of the trace, sharing storage with nothing."""
    if type(value) in _DOUBLES and node.dtype == _DOUBLE and node.shape == ():
        number = Number()
        number.value, number._node, number.log, number.row = value, node, None, 0
        return number
    _check_dtype(node.dtype)
    value = native(value) if is_array(value) else value
    assert np.shape(value) == node.shape, f"{node} holds a value of shape {np.shape(value)}"
    assert np.asarray(value).dtype == node.dtype, f"{node} holds {np.asarray(value).dtype}"
    return Traced(Storage(node, value))


def _check_dtype(dtype: np.dtype) -> None:
    if dtype.itemsize not in SIZES.get(dtype.kind, ()):
        raise trace_error(
            f"the function computes a value of dtype {dtype}",
            "compute in float32 or float64, complex64 or complex128, integers or booleans",
        )


def adopt(array: np.ndarray, refusal: str | None = None) -> Traced:
    """A plain array that nobody else will write, as a constant of the trace."""
    pool, array = current().pool, native(array)
    if refusal is None and array.size > 1 and _is_uniform(array):
        scalar = p.constant(pool, array.flat[0], array.dtype)
        node = p.broadcast(scalar, shape=array.shape)
    else:
        node = p.constant(pool, array)
    return Traced(Storage(node, array, refusal=refusal))


def _is_uniform(array: np.ndarray) -> bool:
    first, last = array.flat[0].tobytes(), array.flat[-1].tobytes()
    return first == last and array.tobytes() == first * array.size


def lift(value, like: Traced | None = None) -> Traced:
    """Anything that NumPy would take for an array, as a traced array of the current trace.

    A Python number gets the dtype that NumPy would give it next to `like`.
    """
    recording = current()
    if isinstance(value, Traced):
        if value.pool is not recording.pool:
            raise trace_error(
                "a traced value of another call is used here",
                "do not keep traced values in outer variables: return them",
            )
        return value
    if isinstance(value, list | tuple) and any(True for _ in traced_in(value)):
        return _stack(value)
    if like is not None and type(value) in _WEAK:
        value = np.asarray(value, np.result_type(like.value, value))[()]
    if is_array(value):
        if not is_plain(value):
            what, instead = refusal_of(value)
            raise trace_error(f"{what} meets a traced value", instead)
        if id(value) not in recording.plain_arrays:
            recording.hold(value)
            recording.plain_arrays[id(value)] = value
        return constant_of(value, refusal=NOT_OURS)
    if presents_array(value):
        return lift(value.__array__(), like)
    array = native(np.asarray(value))
    if array.dtype.kind not in _NUMERIC:
        raise trace_error(
            f"an object of type {type(value).__name__} meets a traced value",
            "convert it to an array of numbers, np.asarray(..., float), outside the function",
        )
    return Traced(Storage(p.constant(recording.pool, array), array if array.ndim else array[()]))


def presents_array(value) -> bool:
    """Whether it is an object of a class of the user's that NumPy takes for the array that it gives."""
    kind = type(value)
    return "__nbhvp_original__" in vars(kind) and hasattr(kind, "__array__")


def constant_of(array: np.ndarray, refusal: str | None = None) -> Traced:
    """The present content of an array, as a constant."""
    copy = current().snapshot(native(array))
    return Traced(Storage(p.constant(current().pool, copy), copy, refusal=refusal))


NOT_OURS = (
    "an array made outside the function is written with a traced value, and other names may hold it"
)


def traced_in(*values) -> Iterator[Traced]:
    """The traced arrays in nested lists, tuples and dicts."""
    for value in values:
        if isinstance(value, Traced):
            yield value
        elif isinstance(value, list | tuple):
            yield from traced_in(*value)
        elif isinstance(value, dict):
            yield from traced_in(*value.values())


def with_items(value: list | tuple, items: list) -> list | tuple:
    """A list or tuple of the same class with other items; one of a subclass keeps its attributes."""
    if not isinstance(value, tuple):
        return type(value)(items)
    made = tuple.__new__(type(value), items)  # a subclass may be called with items, as SciPy's are
    if hasattr(value, "__dict__"):
        made.__dict__.update(value.__dict__)
    return made


def map_traced(function: Callable, value):
    """`value` with each traced array in its lists, tuples and dicts replaced."""
    if isinstance(value, Traced):
        return function(value)
    if isinstance(value, list | tuple):
        return with_items(value, [map_traced(function, item) for item in value])
    if isinstance(value, dict):
        return {key: map_traced(function, item) for key, item in value.items()}
    return value


def _stack(nested) -> Traced:
    """np.array of nested lists that hold traced values."""
    value = np.array(map_traced(lambda x: x.value, nested))

    def node_of(item, shape) -> Node:
        if isinstance(item, list | tuple) and any(True for _ in traced_in(item)):
            rows = [p.reshape(node_of(i, shape[1:]), shape=(1, *shape[1:])) for i in item]
            return p.concatenate(*rows, axis=0) if len(rows) > 1 else rows[0]
        return cast_node(lift(item).node, value.dtype)

    def numbers_of(item) -> Iterator[Node]:
        if isinstance(item, list | tuple):
            for i in item:
                yield from numbers_of(i)
        else:
            node = cast_node(lift(item).node, value.dtype)
            yield p.reshape(node, shape=(node.size,))

    if all(x.size == 1 for x in traced_in(nested)) and value.size > 1:
        flat = p.concatenate(*numbers_of(nested), axis=0)
        return traced(p.reshape(flat, shape=value.shape), value)
    return traced(node_of(nested, value.shape), value)


def is_constant(x: Traced) -> bool:
    """Whether x depends on no input of the trace."""
    return not current().is_live(x.node)


def shown(x: Traced, text: str) -> str:
    """A text that shows a value: one of its own kind, if that depends on an input."""
    recording = present()
    if recording is None or recording.is_always or not recording.is_live(x.node):
        return text
    return text_of(text)


def is_weak(x) -> bool:
    """Whether NumPy sees a Python number, whose type gives way to the other arguments'."""
    return type(x.value if isinstance(x, Traced) else x) in _WEAK


def weaken(x: Traced) -> Traced:
    """A scalar as the Python number that `math` or Python arithmetic would have given: a double."""
    value = np.asarray(x.value).item()
    kind = np.dtype(type(value))
    node = x.node if x.node.dtype == kind else p.cast(x.node, dtype=kind)
    return traced(node, value)


def guard(x: Traced):
    """The value of x at the traced point; the trace holds only where it is the same."""
    value, recording = x.value, current()
    if not is_constant(x) and x.node not in recording.guards:
        recording.guard(x.node, value)
    return value[()] if is_array(value) else value


# Applying primitives.


def apply(primitive: p.Primitive, *args, **params) -> Traced:
    """A primitive of traced arrays, plain arrays and numbers: by NumPy, and in the graph."""
    recording = current()
    args = [arg if type(arg) in _WEAK else lift(arg) for arg in args]
    if recording.watch is not None:
        return recording.watch(primitive, args, params)
    if not any(isinstance(arg, Traced) for arg in args):
        args[0] = lift(args[0])
    values = [arg.value if isinstance(arg, Traced) else arg for arg in args]
    if "dtype" in params:
        params["dtype"] = native_dtype(params["dtype"])
    value = primitive.evaluate(*values, **params)
    node = primitive(*_strong_nodes(primitive, args, values), **params)
    if primitive in p.EQUALITIES:
        recording.equalities[node] = bool(np.any(np.equal(value, primitive is p.equal)))
    if node.size == 1:
        recording.count_scalar()
    return traced(node, value)


def _strong_nodes(primitive, args, values) -> list:
    """Nodes and numbers; the node of a weak argument in the dtype that NumPy gives it here."""
    weak = [isinstance(a, Traced) and is_weak(v) for a, v in zip(args, values, strict=True)]
    nodes = [arg.node if isinstance(arg, Traced) else arg for arg in args]
    if primitive.is_elementwise and any(weak) and not all(is_weak(v) for v in values):
        # To NumPy a boolean of Python's is one of its own.
        dtypes = tuple(
            type(v) if is_weak(v) and type(v) is not bool else np.asarray(v).dtype for v in values
        )
        wanted = primitive.dtypes(dtypes)
        for k in range(len(args)):
            if weak[k]:
                nodes[k] = p.cast(nodes[k], dtype=wanted[k])
    return nodes


def cast_node(node: Node, dtype) -> Node:
    if node.dtype == dtype:
        return node
    dtype = native_dtype(dtype)
    _check_dtype(dtype)
    if node.is_complex and dtype.kind != "c":
        raise trace_error("a complex value is converted to a real one", "take .real or .imag")
    return p.cast(node, dtype=dtype)


def scalar(x: Traced) -> Traced:
    """A result as NumPy's functions give it: a scalar, rather than an array without axes."""
    return traced(x.node, x.value[()]) if is_array(x.value) and x.ndim == 0 else x
