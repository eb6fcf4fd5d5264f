"""What a Function remembers: its traces with their programs, and one point.

A `Recorded` trace makes programs when they are first needed. Its guards are the first outputs of
every program. All products come from one mechanism: a graph that is linear in a direction is split
into a point program (once per x) and a product program (once per direction). H v in each of its
modes, J v, J^T w and the weighted Hessian are instances.

A `Point` is immutable: x and arguments, what is known there, and products ready to run. Replacing
the remembered point is one assignment, so threads need no lock to use it. Locks are held only to
trace, to compile and to change the list of traces.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import math
import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.batch import batched
from nbhvp.graph.node import Graph, Node
from nbhvp.plain import native
from nbhvp.plan.costs import CPU
from nbhvp.plan.split import split
from nbhvp.runtime.blocks import Several, choose, in_blocks, padded_from
from nbhvp.runtime.report import Products, Report
from nbhvp.trace.arguments import Leaf
from nbhvp.trace.record import Trace
from nbhvp.trace.recording import Note
from nbhvp.trace.surroundings.closure import is_frozen

__all__ = [
    "LARGE",
    "MOST_TAPE_BYTES",
    "MOST_TRACES",
    "SHARED",
    "Call",
    "Memory",
    "Owner",
    "Point",
    "Recorded",
    "apply_columns",
    "can_be_remembered",
    "copied",
    "point_at",
    "same_bits",
]

MOST_TRACES = 32
MOST_TAPE_BYTES = 2 * CPU.most
"""Of the tapes that all traces of a Function keep; one trace may have more."""
LARGE = CPU.l2
"""Bytes above which an argument is neither copied nor compared."""
SMALL = CPU.l1 // 8
"""Bytes up to which arrays are compared as strings of bytes."""
SHARED = CPU.shared

# One set of arguments.


# Not frozen, though nobody changes it: that would cost half a microsecond at each new x.
@dataclass(eq=False, slots=True)
class Call:
    """x, the arrays among the other arguments, and a key of everything else that a trace fixes."""

    x: np.ndarray
    leaves: tuple[np.ndarray, ...]
    key: tuple
    args: tuple
    kwargs: dict[str, Any]
    given: np.ndarray | None = None
    """The caller's own x, if it is an array that had to be copied, and there are other arrays."""

    @property
    def inputs(self) -> tuple[np.ndarray, ...]:
        """What programs take: C-contiguous arrays."""
        if not self.leaves:
            return (self.x,)
        return (self.x, *map(_as_input, self.leaves))

    @property
    def can_be_remembered(self) -> bool:
        """Whether a later call can tell if these arguments are the same."""
        return can_be_remembered(self.leaves)

    def kept(self) -> Call:
        """The same values, safe from later writes; large arguments are kept as they are."""
        leaves = self.leaves and tuple(a if a.nbytes > LARGE else a.copy() for a in self.leaves)
        return Call(copied(self.x), leaves, self.key, self.args, self.kwargs)

    def equals(self, other: Call) -> bool:
        """Whether another call has the same arguments, bit by bit."""
        return (
            self.key == other.key
            and same_bits(self.x, other.x)
            and all(map(_same_argument, self.leaves, other.leaves))
        )


def _as_input(leaf: np.ndarray) -> np.ndarray:
    return np.asarray(leaf if leaf.dtype.isnative else native(leaf), order="C")


def can_be_remembered(leaves: Sequence[np.ndarray]) -> bool:
    """Whether one can tell later if other arrays are the same as these."""
    return all(a.nbytes <= LARGE or is_frozen(a) for a in leaves)


def _same_argument(a: np.ndarray, b: np.ndarray) -> bool:
    if a.nbytes > LARGE:
        return a is b and is_frozen(a)
    return same_bits(a, b)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays of one shape and dtype hold the same bits."""
    if a.nbytes <= SMALL or not (a.flags.c_contiguous and b.flags.c_contiguous):
        return a.tobytes() == b.tobytes()
    a, b = a.reshape(-1).view(np.uint8), b.reshape(-1).view(np.uint8)
    if a.size % 8 == 0:
        a, b = a.view(np.int64), b.view(np.int64)
    block = CPU.l1
    if a.nbytes >= SHARED and a.itemsize == 8:
        return np.array_equal(a[:block], b[:block]) and _compiled_large().same_words(a, b)
    return all(np.array_equal(a[k : k + block], b[k : k + block]) for k in range(0, a.size, block))


def copied(array: np.ndarray) -> np.ndarray:
    """A copy, in C order if it is large."""
    is_large = array.nbytes >= SHARED and array.flags.c_contiguous
    return _compiled_large().copied(array) if is_large else array.copy()


def _compiled_large():
    return importlib.import_module("nbhvp.targets.cpu.large")  # which imports numba


# One trace.


@dataclass(frozen=True, eq=False)
class Linearized:
    """A linear map at a point: what runs once per point, and what runs once per direction.

    `points`: inputs -> guards, state, and results where the key is true. `product`: state, inputs,
    direction -> result.
    """

    inputs: tuple[Node, ...]
    direction: Node
    state: tuple[Node, ...]
    results: tuple[Node, ...]
    product: Any
    points: dict[bool, Any] = field(default_factory=dict)


class Recorded:
    """One trace of the function, and the programs made from it when they are first needed."""

    def __init__(self, trace: Trace, key: tuple, memory: Memory, source: str):
        self.trace, self._closure = trace, trace.closure
        self.key = key
        self.x = trace.inputs[0]
        self.owner, self.shape, _, arguments = key
        # One object, to be compared by identity; none if a glance at a call is not enough.
        self.dtype = np.dtype(self.x.dtype.char) if trace.aliases is None else None
        self._leaves = _plain_leaves(arguments)
        (self.array,) = trace.outputs
        self.guards = tuple(node for node, _ in trace.guards)
        self._expected = tuple(np.asarray(v, node.dtype).tobytes() for node, v in trace.guards)
        self._memory = memory
        self.products = memory.products
        self._source = source
        self._programs: dict[tuple, Any] = {}
        self._linearized: dict[str, Linearized] = {}
        self._blocks: dict[str, int | None] = {}
        self._several: dict[str, Several | None] = {}
        self._gradient: Node | None = None
        self.death: weakref.ref | None = None
        """Of the instance whose method was traced: what happens then."""
        self._value_program = self._gradient_program = None

    @property
    def value(self) -> Node:
        """The result as a scalar."""
        if self.array.shape != ():
            raise TypeError(
                f"{self._source} has a result of shape {self.array.shape}, and a gradient or "
                "Hessian needs a scalar: use .jacobian, .jvp, .vjp or .weighted_hessian, "
                "or return a sum"
            )
        return self.array

    def holds(self, outputs: Sequence[np.ndarray]) -> bool:
        """Whether the guards, the first outputs of a program, are as they were when tracing."""
        return all(a.tobytes() == b for a, b in zip(outputs, self._expected, strict=False))

    def inputs_of(self, x, args: tuple, kwargs: dict, owner: Owner | None) -> tuple | None:
        """x and the other leaves of a call, if a glance shows that it may use this trace.

        A glance takes in plain arrays and floats; for all else there is `flatten`.
        """
        if (
            type(x) is not np.ndarray
            or x.dtype is not self.dtype
            or x.shape != self.shape
            or not x.flags.c_contiguous
            or self.owner != owner
            or self._closure.glance()
            or (self._closure.is_deep and self._closure.changed())
        ):
            return None
        if not args and not kwargs:
            return (x,) if self._leaves == () else None
        leaves = self.leaves_of(args, kwargs)
        return None if leaves is None else (x, *leaves)

    def leaves_of(self, args: tuple, kwargs: dict) -> tuple[np.ndarray, ...] | None:
        """Arguments as inputs, if a glance shows that they may be arguments of this trace."""
        if kwargs or self._leaves is None or len(args) != len(self._leaves):
            return None
        leaves = [leaf for leaf in map(_as_leaf, args, self._leaves) if leaf is not None]
        return tuple(leaves) if len(leaves) == len(args) else None

    def admits(self, call: Call) -> bool:
        """Whether nothing that the function writes shares memory with other arrays of a call."""
        aliases = self.trace.aliases
        x = call.x if call.given is None else call.given
        return aliases is None or aliases.allow((x, *call.leaves))

    def attempt(self, run: Callable[[], list[np.ndarray]]) -> list[np.ndarray] | None:
        """The outputs of a program, guards left out; None where the trace does not hold."""
        try:
            outputs = run()
        except Exception:
            return None  # whose error it is, the caller's general way finds out
        if not self.guards:
            return outputs
        return outputs[len(self.guards) :] if self.holds(outputs) else None

    # Not cached properties: before Python 3.12 these hold a lock of their own while they compute,
    # and a thread that holds the memory's lock may wait for it.
    @property
    def gradient(self) -> Node:
        if self._gradient is None:
            with self._memory.preparing():
                self._see_ties()
                self._gradient = derive.gradient(self.value, self.x)
        return self._gradient

    @property
    def value_program(self):
        if self._value_program is None:
            self._value_program = self._guarded(self.array)
        return self._value_program

    @property
    def gradient_program(self):
        if self._gradient_program is None:
            self._gradient_program = self._guarded(self.value, self.gradient)
        return self._gradient_program

    def _guarded(self, *outputs: Node) -> Callable:
        """The program of the guards and some outputs, of which the result is the first."""
        if [(node.primitive, node.args) for node in self.guards] == [(p.isfinite, (self.array,))]:
            # Python tells in less time than one more output of a program takes.
            return functools.partial(_with_finiteness, self._program(self.trace.inputs, outputs))
        return self._program(self.trace.inputs, (*self.guards, *outputs))

    def run_guards(self, call: Call) -> list[np.ndarray]:
        if not self.guards:
            return []
        return self._program(self.trace.inputs, self.guards)(*call.inputs)

    def whole(self, kind: str):
        """A product as one program of the inputs and the direction, and its direction."""
        _, direction, _, product = self._linear_map(kind)
        return self._program((*self.trace.inputs, direction), (product,)), direction

    def run_point(self, kind: str, inputs: Sequence[np.ndarray], complete: bool):
        """Guards, state and perhaps results of a linear map at a point, results if `complete`."""
        linearized = self.linearized(kind)
        if not (complete or linearized.state or self.guards):
            return []  # the product needs no state, and nothing can fail
        # Who has asked for gradients will do so at other points: one program serves for both.
        complete = complete or True in linearized.points or self._memory.report.gradient_runs > 0
        program = linearized.points.get(complete)
        if program is None:
            results = linearized.results if complete else ()
            outputs = (*self.guards, *linearized.state, *results)
            program = linearized.points[complete] = self._program(linearized.inputs, outputs)
        self._memory.report.point_runs += 1
        return program(*inputs)

    def linearized(self, kind: str) -> Linearized:
        """The point and product programs of a linear map: a mode of the Hessian, jvp, vjp, ..."""
        found = self._linearized.get(kind)
        if found is None:
            with self._memory.lock:
                with self._memory.preparing():
                    found = self._linearized.get(kind) or self._linearize(kind)
                self._linearized[kind] = found
        return found

    def _linearize(self, kind: str) -> Linearized:
        extra, direction, results, product = self._linear_map(kind)
        inputs = (*self.trace.inputs, *extra)
        graph = derive.check(Graph((*inputs, direction), (product,)), linear_in=direction)
        state, product_graph = split(graph, direction)
        program = self._program(product_graph.inputs, product_graph.outputs)
        return Linearized(inputs, direction, state, results, program)

    def several(self, kind: str, count: int) -> Several | None:
        """The product of a kind with a block of directions, where `count` are worth a program."""
        graph = self.linearized(kind).product.graph
        if kind not in self._blocks:
            self._blocks[kind] = choose(graph)
        block = self._blocks[kind]
        if block is None or count < padded_from(block):
            return None
        if kind not in self._several:
            with self._memory.lock:
                wide = batched(graph, graph.inputs[-1], block)
                program = wide and self._program(wide.inputs, wide.outputs)
                self._several[kind] = Several(program, block) if program else None
        return self._several[kind]

    def _linear_map(self, kind: str) -> tuple[tuple[Node, ...], Node, tuple[Node, ...], Node]:
        """Inputs beside the trace's, the direction, what the point gives besides, the product."""
        self._see_ties()
        x, array = self.x, self.array
        if kind == "jvp":
            v = self._input("v", x)
            return (), v, (array,), derive.jvp([array], [x], [v])[0]
        if kind == "vjp":
            w = self._input("w", array)
            return (), w, (array,), derive.vjp([array], [x], [w])[0]
        v = self._input("v", x)
        if kind == "weighted":
            w = self._input("w", array)
            value = derive.inner(w, array)
            return (w,), v, (value, derive.gradient(value, x)), derive.hvp(value, x, v)
        return (), v, (self.value, self.gradient), derive.hvp(self.value, x, v, kind)

    def _see_ties(self) -> None:
        """No derivative of a branch that loses it; a note on one that holds at this point alone."""
        for tie in self.trace.ties:
            if tie.is_lost:
                raise tie.error
        self._memory.tell(tie.note for tie in self.trace.ties)

    def _input(self, name: str, like: Node) -> Node:
        taken = {node.params["name"] for node in self.trace.inputs}
        while name in taken:
            name += "_"
        return p.input_node(like.pool, name, like.shape, like.dtype)

    def _program(self, inputs, outputs):
        key = (tuple(inputs), tuple(outputs))
        program = self._programs.get(key)
        if program is None:
            with self._memory.lock:
                program = self._programs.get(key)
                if program is None:
                    with self._memory.preparing():
                        graph = derive.check(Graph(*key))
                        program = self._programs[key] = self._memory.target(graph)
                        self._memory.count_kernels(program)
        return program


_TRUTHS = np.array(False), np.array(True)


def _with_finiteness(program: Callable, *inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs of a program behind a guard: whether the first, a number, is finite."""
    outputs = program(*inputs)
    return [_TRUTHS[math.isfinite(outputs[0])], *outputs]


def _plain_leaves(arguments: tuple) -> tuple[Leaf, ...] | None:
    """The leaves of a key where all arguments are arrays and floats, given by position."""
    if not arguments:
        return ()
    args, named = arguments
    return args if not named.names and all(type(key) is Leaf for key in args) else None


def _as_leaf(value, leaf: Leaf) -> np.ndarray | None:
    """An array or float as an input, if it has the kind, shape and dtype of a leaf."""
    if type(value) is float and leaf.kind == "float":
        return np.asarray(value)
    is_alike = (
        type(value) is np.ndarray
        and leaf.kind == "array"
        and value.shape == leaf.shape
        and value.dtype == leaf.dtype
        and value.flags.c_contiguous
    )
    return value if is_alike else None


# The remembered point.


@dataclass(eq=False, slots=True)
class Point:
    """One x with its arguments, what is known there, and products ready to run."""

    recorded: Recorded
    call: Call
    owner: Owner | None
    known: Mapping[Node, np.ndarray] = field(default_factory=dict)
    products: Mapping[str, Any] = field(default_factory=dict)
    bits: bytes | None = field(init=False)
    """The bytes of a small x."""
    is_bare: bool = field(init=False)
    """Whether x is all that the function is given."""

    def __post_init__(self):
        x = self.call.x
        self.bits = x.tobytes() if x.nbytes <= SMALL else None
        self.is_bare = not (self.call.args or self.call.kwargs)

    def is_at(self, x: np.ndarray, *leaves: np.ndarray) -> bool:
        """Whether this is the point of inputs of the same shapes and dtypes."""
        is_x = x.tobytes() == self.bits if self.bits else same_bits(x, self.call.x)
        return is_x and (not leaves or all(map(_same_argument, leaves, self.call.leaves)))

    def has_arguments(self, args: tuple, kwargs: dict) -> bool:
        """Whether these are surely the arguments of this point, at a glance."""
        mine = self.call.args
        if kwargs or self.call.kwargs or len(args) != len(mine):
            return False
        leaves = self.recorded.leaves_of(args, kwargs) if args else ()
        if leaves is None:
            return all(map(_is_frozen, args, mine))
        return not leaves or all(map(_same_argument, leaves, self.call.leaves))

    def extended(self, kind: str, complete: bool = False) -> Point:
        """The point with the product of one more kind ready, and with its results if `complete`."""
        linearized = self.recorded.linearized(kind)
        missing = complete and any(node not in self.known for node in linearized.results)
        if kind in self.products and not missing:
            return self
        outputs = self.recorded.run_point(kind, self.call.inputs, missing)
        return self.with_outputs(kind, outputs[len(self.recorded.guards) :])

    def with_outputs(self, kind: str, outputs: Sequence[np.ndarray]) -> Point:
        """The point with what the point program of a kind gave (nothing, if nothing was needed)."""
        known, product = _shared_out(self.recorded, self.call, kind, outputs)
        known, products = {**self.known, **known}, {**self.products, kind: product}
        return Point(self.recorded, self.call, self.owner, known, products)

    def without(self, node: Node) -> Point:
        """The point, where a result is not known any more."""
        known = {other: value for other, value in self.known.items() if other is not node}
        return Point(self.recorded, self.call, self.owner, known, self.products)

    def product(self, kind: str, v: np.ndarray) -> np.ndarray:
        """The product with a direction, or with each along one more, last axis of v."""
        linearized, product = self.recorded.linearized(kind), self.products[kind]
        if v.ndim == linearized.direction.ndim:
            return product(v)
        several = self.recorded.several(kind, v.shape[-1])
        result = linearized.product.graph.outputs[-1]
        return in_blocks(product, several, product.stored, v, result.shape, result.dtype)


def point_at(
    recorded: Recorded, inputs: tuple, args: tuple, kind: str, complete: bool
) -> Point | None:
    """A new point, with its results if `complete`; None where the trace does not hold."""
    outputs = recorded.attempt(lambda: recorded.run_point(kind, inputs, complete))
    if outputs is None:
        return None
    call = Call(inputs[0], inputs[1:], recorded.key, args, {}).kept()
    known, product = _shared_out(recorded, call, kind, outputs)
    return Point(recorded, call, recorded.owner, known, {kind: product})


def _shared_out(recorded: Recorded, call: Call, kind: str, outputs: Sequence[np.ndarray]):
    """Results and product from what a point program gave, if it gave anything."""
    linearized = recorded.linearized(kind)
    count = len(linearized.state)
    known = dict(zip(linearized.results, outputs[count:], strict=False))
    return known, linearized.product.bind(*outputs[:count], *call.inputs)


_IMMUTABLE = frozenset({bool, int, float, str, type(None), np.float64, np.float32, np.int64})


def _is_frozen(a, b) -> bool:
    """Whether two arguments are one object that cannot have changed."""
    if a is not b:
        return False
    if type(a) is not np.ndarray:
        return type(a) in _IMMUTABLE
    # A small array may have been writeable when it was remembered: its bits must be compared.
    return a.nbytes > LARGE and is_frozen(a)


# Products of several directions.


def apply_columns(product: Callable, v: np.ndarray, ndim: int) -> np.ndarray:
    """A product of one direction of `ndim` axes, or of each along one more, last axis of v."""
    if v.ndim == ndim:
        return product(v)
    directions = [np.array(v[..., k], order="C") for k in range(v.shape[-1])]
    # Without any direction the product with zero tells the shape.
    directions = directions or [np.zeros(v.shape[:-1], v.dtype)]
    return np.stack([product(d) for d in directions], axis=-1)[..., : v.shape[-1]]


# What a Function remembers.


class Memory:
    """The traces of a Function, last used first, its remembered point and its counts.

    Methods share that of the function in their class, each trace keyed by its instance.
    """

    def __init__(self, target: str):
        self.target = _target(target)
        self.lock = threading.RLock()
        self.traces: tuple[Recorded, ...] = ()
        self.point: Point | None = None
        self.mode: str | None = None
        """The mode of the latest Hessian-vector product; None before the first."""
        self.report = Report()
        self.products = Products()
        """Those of operators."""
        self._is_preparing = False
        self._told: set[Note] = set()
        _MEMORIES.add(self)

    @property
    def latest(self) -> Recorded | None:
        """The trace used last: for most calls of an optimiser, that of the next call too."""
        return self.traces[0] if self.traces else None

    def add(self, recorded: Recorded, keep: bool) -> None:
        """Count a new trace, and put it first. The lock is held."""
        self.report.traces += 1
        self.report.loops = recorded.trace.loops
        if not keep:
            return
        self.report.retraces += any(other.key == recorded.key for other in self.traces)
        self.traces = _bounded((recorded, *filter(_is_current, self.traces)))

    def follow(self, recorded: Recorded, owner: Owner) -> None:
        """Let a trace die with the instance that it belongs to."""
        instance = owner.instance()
        recorded.trace.closure.release(instance)
        with contextlib.suppress(TypeError):  # of objects without weak references
            recorded.death = weakref.ref(instance, functools.partial(_bury, weakref.ref(self)))

    def bury(self) -> None:
        """Let go of the traces whose instance is dead."""
        # Whoever holds the lock may wait for this thread, and prunes what is left here.
        if self.lock.acquire(blocking=False):
            try:
                self.traces = tuple(filter(_is_owned, self.traces))
                point = self.point
                if point is not None and not _is_owned(point.recorded):
                    self.point = None
            finally:
                self.lock.release()

    def tell(self, notes: Iterable[Note]) -> None:
        """Warn of what a trace has noted, once for each text and line. The lock is held."""
        for note in notes:
            if note not in self._told:
                self._told.add(note)
                warnings.warn_explicit(note.text, UserWarning, note.file, note.line)

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        """Count the time that programs take to be made, compiling left out."""
        with self.lock:
            outermost, self._is_preparing = not self._is_preparing, True
            start, compiling = time.perf_counter(), self.report.compile_seconds
            try:
                yield
            finally:
                if outermost:
                    self._is_preparing = False
                    compiling -= self.report.compile_seconds
                    self.report.schedule_seconds += time.perf_counter() - start + compiling

    def count_kernels(self, program: Any) -> None:
        """Count the kernels that a new program has compiled or loaded."""
        counts = getattr(program, "counts", None)  # the interpreter has none
        if counts is not None:
            self.report.kernels_compiled += counts.compiled
            self.report.kernels_loaded += counts.loaded
            self.report.compile_seconds += counts.seconds

    def use(self, recorded: Recorded) -> None:
        """Put a trace first."""
        if self.traces and self.traces[0] is recorded:
            return
        with self.lock:
            others = [other for other in self.traces if other is not recorded]
            self.traces = (recorded, *others)[:MOST_TRACES]


_MEMORIES: weakref.WeakSet[Memory] = weakref.WeakSet()


def _renew_locks() -> None:
    """A lock that another thread held at a fork would stay locked in the child."""
    for memory in _MEMORIES:
        memory.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def _bounded(traces: tuple[Recorded, ...]) -> tuple[Recorded, ...]:
    """The first of the traces, as many as may be kept."""
    tape_bytes = itertools.accumulate(recorded.trace.tape_bytes for recorded in traces)
    count = sum(1 for k, kept in enumerate(tape_bytes) if k == 0 or kept <= MOST_TAPE_BYTES)
    return traces[: min(count, MOST_TRACES)]


def _is_current(recorded: Recorded) -> bool:
    return _is_owned(recorded) and not recorded.trace.closure.changed()


def _is_owned(recorded: Recorded) -> bool:
    """Whether the instance that a trace belongs to, if it does, is alive."""
    owner = recorded.key[0]
    return owner is None or owner.is_alive()


def _bury(memory: weakref.ref[Memory], _) -> None:
    alive = memory()
    if alive is not None:
        alive.bury()


class Owner:
    """The instance that a method is bound to, held weakly: equal if it is the same object."""

    __slots__ = ("_identity", "_instance")

    def __init__(self, instance):
        self._identity = id(instance)
        try:
            self._instance = weakref.ref(instance)
        except TypeError:  # no weak references: it lives as long as its traces
            self._instance = lambda: instance

    def instance(self) -> Any:
        """The instance; None if it is dead."""
        return self._instance()

    def is_alive(self) -> bool:
        return self._instance() is not None

    def __eq__(self, other):
        if not isinstance(other, Owner) or self._identity != other._identity:
            return False
        instance = self._instance()
        return instance is not None and instance is other._instance()

    def __hash__(self):
        return self._identity


def _target(name: str) -> Callable[[Graph], Any]:
    if name not in ("cpu", "interpret"):
        raise ValueError(f"target must be 'cpu' or 'interpret', got {name!r}")
    # Imported when wanted: the compiled programs import numba.
    module = "interpreted" if name == "interpret" else "cpu.program"
    return importlib.import_module(f"nbhvp.targets.{module}").Program
