"""An entry of the table of primitives, its application to nodes, and the nodes without arguments.

A primitive is applied in this order: arguments become nodes of the dtypes of NumPy's loop, the entry
simplifies, constants are folded, and the pool gives one node for equal applications.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np

from nbhvp.graph.definitions import broadcast_shapes
from nbhvp.graph.node import Node, Pool
from nbhvp.graph.requests import settled

__all__ = [
    "ANY",
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
]

TABLE: dict[str, Primitive] = {}
BY_FUNCTION: dict[Callable, Primitive] = {}

_WITH_DTYPE = (Node, np.generic, np.ndarray)
_LIFE = attrgetter("life")

ANY = ((-2.0, 2.0),)
"""Where an argument may be sampled that may have any value."""


@dataclass(frozen=True, eq=False)
class Primitive:
    """One entry of the table. Call it with nodes (and, for scalars, numbers) to apply it."""

    name: str
    kind: str
    evaluate: Callable
    infer: Callable
    rule: Callable | None = None
    tangent: Callable | None = None
    linear: tuple[tuple[int, ...], ...] | None = None
    """Alternatives of argument positions in which it is jointly linear; None: in all of them."""
    fixed: tuple[int, ...] = ()
    """Argument positions in which it has a derivative that is not here (the order of a Bessel
    function): `derive` refuses to ask for it."""
    source: str | Callable | None = None
    """Scalar source text in {x}, {y}, {c} and {f} (a C function); a callable gets the params."""
    complex_source: str | None = None
    """The source where an argument is complex; if None, `source` with `cmath` for `math`."""
    dtypes: Callable | None = None
    """Elementwise: from the dtypes given to those in which the arguments are wanted."""
    symbol: str | None = None
    """The function of scipy.special.cython_special that {f} stands for."""
    pull: Callable | None = None
    reduction: str | None = None
    simplify: Callable | None = None
    follow: Callable | None = None
    """The part of `simplify` that finds what was stored in memory: it is done at once for requests."""
    exact: frozenset[float] = frozenset()
    """Constant second arguments for which `simplify` gives another form, which rounds otherwise."""
    written_out: Callable | None = None
    """Of its arguments: the same value by operations on numbers, in steps of a loop; None of many."""
    factor: int | None = None
    """The argument that stands for a matrix, if that is not the matrix itself."""
    square: Callable | None = None
    """Of its arguments: the square of the result, where that is smooth and the result is not."""
    nonnegative: Callable | None = None
    """Of a test of others, and of its arguments: whether the result is known to be at least 0."""
    converts: bool = False
    """Whether it gives its operand in another dtype, and so the square of that as its own square."""
    selects: bool = False
    """Whether each element of the result is an element of one of the arguments it is linear in."""
    lowered: Callable | None = None
    """What is computed in its place: it has the same value, and other derivatives."""
    vanishes: bool = False
    """Whether its value is 0 always: only its derivatives count."""
    strict: Primitive | None = None
    """The entry in its place where second derivatives are wanted."""
    uncertain: bool = False
    """Whether its derivatives may be NaN, which a factor of 0 behind it takes away again."""
    domain: tuple[tuple[float, float], ...] = ANY
    """Where each argument may be sampled in a test; the last pair serves all further arguments."""
    special: tuple = ()
    commutes: bool = False
    """Whether its two arguments may change places, so that both orders are one node."""
    repeats: bool = False
    """Whether one element of the first argument may be many elements of the result."""
    lazy: bool = False
    """Not evaluated on constants, since the result takes more memory than they do."""
    per_axis: dict[str, Any] = field(default_factory=dict)
    """Parameters with an entry per axis of the result, each with that of a further axis which only
    goes along: a number, "extent" or "axis" for the extent and the place of that axis."""
    broadcasts: bool = False
    """Whether operands that are not linear broadcast to the result, though it is not elementwise."""
    jumps: bool = False
    """Whether it jumps, or its domain ends: where the last bit of an argument decides on the result,
    as it does for whatever has a discrete result or no partials."""
    batches: bool = True
    """Whether it may go along a further axis: as per_axis says, and with `axis`, `axes` counted so
    that this one is not among them."""
    cost: float = 1.0
    """Of one element, in additions."""
    params: dict[str, Any] = field(default_factory=dict)
    """Example parameters for tests."""
    whole: bool = False
    """Whether `tangent` speaks for all arguments at once, those too in which it is linear."""
    body: Any = None
    """Of a recurrence: one step (`table/scan.py`)."""
    joint: Callable | None = None
    """Where `linear` cannot tell: from active positions to all those in which it is jointly linear
    with them; None if it is not."""
    is_elementwise: bool = field(init=False)
    """Whether the result at an index depends on the arguments at that index alone."""

    def __post_init__(self):
        assert self.kind != "general" or self.tangent, f"{self.name} would lose its derivative"
        object.__setattr__(self, "is_elementwise", self.source is not None)

    def __call__(self, *args, **params) -> Node:
        pool = next(arg.pool for arg in args if isinstance(arg, Node))
        if pool.asks:
            return pool.request(self, args, params)
        args = self.converted(pool, [settled(arg) for arg in args], self.wanted(args))
        if self.simplify is not None:
            simpler = self.simplify(*args, **params)
            if simpler is not None:
                return simpler
        if self.commutes and _constants_first(args[1]) < _constants_first(args[0]):
            args = args[::-1]
        shape, dtype = self.infer(*args, **params)
        if self.is_elementwise:
            args = _strip_broadcasts(args, shape)
        return self._folded(args, params, shape, dtype) or pool.intern(
            self, args, params, shape, dtype
        )

    def wanted(self, args) -> tuple:
        """The dtypes of the loop that NumPy would choose for these arguments; None of no loop."""
        if not self.is_elementwise:
            return (None,) * len(args)
        # Python numbers are weak (NEP 50): resolve_dtypes takes their type for that.
        dtypes = [
            arg.dtype
            if isinstance(arg, _WITH_DTYPE)
            else (type(arg) if type(arg) in (int, float, complex) else np.asarray(arg).dtype)
            for arg in args
        ]
        return self.dtypes(tuple(dtypes))[: len(args)]

    def converted(self, pool: Pool, args, wanted) -> tuple[Node, ...]:
        """Arguments as nodes of the dtypes that are wanted."""
        return tuple([_as_dtype(pool, arg, dtype) for arg, dtype in zip(args, wanted, strict=True)])

    def _folded(self, args, params, shape, dtype) -> Node | None:
        """The value, if all arguments are constants (for scalars, broadcast ones too)."""
        if not args or self.lazy or any(map(_LIFE, args)):
            return None
        scalars = [scalar_value(arg) for arg in args] if self.is_elementwise else [None]
        values = (
            scalars if all(value is not None for value in scalars) else [arg.value for arg in args]
        )
        if any(value is None for value in values):
            return None
        pool, key = args[0].pool, ("folded", self, args, tuple(sorted(params.items())))
        if key not in pool.made:
            with np.errstate(all="ignore"):
                result = np.asarray(self.evaluate(*values, **params), dtype)
            pool.made[key] = constant(pool, result)
        return TABLE["broadcast"](pool.made[key], shape=shape)

    @property
    def arity(self) -> int:
        """The number of arguments of an elementwise primitive."""
        source = self.source if isinstance(self.source, str) else self.source(**self.params)
        return sum("{" + letter in source for letter in "xyc")

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def linear_in(self, active: set[int]) -> bool:
        """Whether it is jointly linear in the arguments at the positions `active`."""
        if self.joint is not None:
            return self.joint(frozenset(active)) is not None
        if self.linear is None:
            return self.kind == "linear"
        return any(active <= set(positions) for positions in self.linear)


def primitive_of(function: Callable) -> Primitive | None:
    """The primitive that answers to a NumPy or SciPy function."""
    return BY_FUNCTION.get(function)


def enter(entry: Primitive, functions=()) -> Primitive:
    assert entry.name not in TABLE, f"primitive {entry.name} has two entries"
    TABLE[entry.name] = entry
    for function in functions:
        BY_FUNCTION[function] = entry
    return entry


def _as_dtype(pool: Pool, arg, dtype) -> Node:
    if not isinstance(arg, Node):
        return constant(pool, arg, dtype)
    return arg if dtype is None or arg.dtype == dtype else TABLE["cast"](arg, dtype=dtype)


def _constants_first(arg: Node) -> tuple:
    return scalar_value(arg) is None, arg.index


def _strip_broadcasts(args, shape) -> tuple[Node, ...]:
    """Elementwise primitives broadcast by themselves: drop broadcasts that another argument does."""
    for k, arg in enumerate(args):
        if arg.primitive is TABLE["broadcast"] and len(args) > 1:
            rest = [other.shape for j, other in enumerate(args) if j != k]
            if broadcast_shapes(arg.args[0].shape, *rest) == shape:
                args = (*args[:k], arg.args[0], *args[k + 1 :])
    return args


# Sources: inputs and constants.


def _no_value(*args, **params):
    raise AssertionError("an input has no value of its own")


INPUT = enter(Primitive("input", "source", _no_value, None))
CONSTANT = enter(Primitive("constant", "source", lambda value: value, None))


def input_node(pool: Pool, name: str, shape, dtype) -> Node:
    """A new input; the same name, shape and dtype give the same node."""
    shape = tuple(shape)
    key = ("name", name, shape)
    return pool.intern(INPUT, (), {"name": name}, shape, np.dtype(dtype), key)


def constant(pool: Pool, value, dtype=None) -> Node:
    """A constant: scalars intern by their bits, arrays by the memory they show (never copied)."""
    value = np.asarray(value, dtype)
    key = ("bits", value.tobytes()) if value.ndim == 0 else _memory(value)
    return pool.intern(CONSTANT, (), {"value": value}, value.shape, value.dtype, key)


def positions(pool: Pool, value: np.ndarray) -> Node:
    """A constant array of positions: equal ones are one node."""
    key = ("content", value.shape, hashlib.blake2b(value).digest())
    return pool.intern(CONSTANT, (), {"value": value}, value.shape, value.dtype, key)


def _memory(value: np.ndarray) -> tuple:
    return ("memory", value.ctypes.data, value.strides, value.shape)


def scalar_value(node: Node):
    """The value of a scalar constant, looking through a broadcast; None for anything else."""
    if node.primitive is TABLE["broadcast"]:
        node = node.args[0]
    return node.value[()] if node.value is not None and node.shape == () else None
