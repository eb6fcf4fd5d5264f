"""Calls of functions compiled by Numba in a trace: the run is recorded, and rolled into the graph.

Through its Python source a function with loops would give one node per operation. Instead its own code
runs once, on numbers that record the operations on them (`loops`), as Python or compiled. From the tape,
with u its inputs, follows a part of the graph that is being recorded,

    results = roll(tape, u)      if the tape has few structures, each of many instances: arrays,
    results = replay(u; tape)    otherwise: one node, whose derivatives sweep over the tape,

applied to the nodes of the arguments. All branches of the run become guards of the trace: its
comparisons, its integers, and the content of integer and boolean arrays. An array that the function
wrote has its new values in the caller, as if the function had been called without a trace.
"""

from __future__ import annotations

import dis
import functools
import inspect
import re
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nbhvp.errors import TraceError
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node
from nbhvp.graph.requests import settled
from nbhvp.graph.table.tape import CONSTANT, FIRST, Gapped, Guards, Tape, tape_guards
from nbhvp.loops.recording.instances import CompiledInstance, Fields
from nbhvp.loops.rolled import Computed, rolled
from nbhvp.trace import arrays
from nbhvp.trace.arrays import Traced, apply, guard, is_constant, lift, traced
from nbhvp.trace.dispatch import adopted
from nbhvp.trace.kinds import FunctionStandin, stands_for
from nbhvp.trace.methods.shapes import may_be_one, write
from nbhvp.trace.places import instructions, names_of
from nbhvp.trace.recording import current, source_of, trace_error
from nbhvp.trace.surroundings.randomness import Entropy, Source, is_random
from nbhvp.trace.views import is_array

if TYPE_CHECKING:
    from nbhvp.graph.time.recurrences import Recurrence
    from nbhvp.loops.recording.runs import Run

__all__ = ["CompiledFunction", "LoopCall", "first_draw", "has_loop", "is_compiled", "is_vectorized"]

FLOAT, COMPLEX = np.dtype(np.float64), np.dtype(np.complex128)


@dataclass(frozen=True)
class LoopCall:
    """One call of a compiled function in a trace, as a Function reports it.

    Attributes
    ----------
    function : str
        Its name, with file and line.
    operations : int
        Records of the tape that are neither inputs nor constants.
    tape_bytes : int
        The size of the tape; kept with the trace only where it was not rolled.
    classes : int or None
        The structures that were found, each of which became an array; None where some operations
        have too many, and derivatives sweep over the tape of these.
    recurrences : tuple of Recurrence
        The loops over time in it, each of which became a loop again.
    record_seconds, roll_seconds : float
        The time that running the function for its tape took, compiling included, and rolling.
    reasons : tuple of str
        Why loops over time in what is swept did not become loops again.
    """

    function: str
    operations: int
    tape_bytes: int
    classes: int | None
    recurrences: tuple[Recurrence, ...]
    record_seconds: float
    roll_seconds: float
    reasons: tuple[str, ...] = ()

    @property
    def is_rolled(self) -> bool:
        """Whether all operations became arrays and loops over time."""
        return self.classes is not None

    def __str__(self) -> str:
        why = f" ({'; '.join(self.reasons)})" if self.reasons else ""
        swept = f"swept{why}, {self.tape_bytes:,} bytes"
        kind = f"{self.classes} arrays" if self.is_rolled else swept
        kind = ", ".join([*map(str, self.recurrences), kind])
        seconds = self.record_seconds + self.roll_seconds
        return f"{self.operations:,} operations, {kind}, {seconds:.3g} s"


def is_compiled(value) -> bool:
    """Whether an object is a function under @njit or @jit. Tells without importing Numba."""
    return any(
        base.__name__ == "Dispatcher" and base.__module__ == "numba.core.dispatcher"
        for base in type(value).__mro__
    )


# Which functions loop.


def has_loop(function) -> bool:
    """Whether a compiled function, or one that it calls, loops or calls itself."""
    return _loops(_source_of(function), [], set())


def _loops(function: types.FunctionType, above: list, known: set) -> bool:
    """Depth first: `above` are the callers, `known` all that were looked at."""
    if function in above:
        return True
    if function in known:
        return False
    known.add(function)
    above.append(function)
    found = _jumps_back(function.__code__) or any(
        _loops(callee, above, known) for callee in _callees(function)
    )
    above.pop()
    return found


def _jumps_back(code: types.CodeType) -> bool:
    jumps = {*dis.hasjrel, *dis.hasjabs}
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return any(
        step.opcode in jumps and step.argval <= step.offset for step in dis.get_instructions(code)
    ) or any(map(_jumps_back, inner))


def _callees(function: types.FunctionType) -> Iterator[types.FunctionType]:
    """The functions that the code names: globals, attributes of modules, cells."""
    for _, value in _named(function):
        source = _source_of(value)
        if isinstance(source, types.FunctionType):
            yield source


def _named(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What the code names: globals, cells, and attributes of the modules among them."""
    code, scope = function.__code__, function.__globals__
    names = dict.fromkeys(_names_in(code))
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    found = [(name, scope[name]) for name in names if name in scope]
    found += [(name, cell.cell_contents) for name, cell in cells if cell != types.CellType()]
    modules: set[types.ModuleType] = set()
    while found:
        name, value = found.pop()
        yield name, value
        if isinstance(value, types.ModuleType) and value not in modules:
            modules.add(value)
            found += [(name, vars(value)[name]) for name in names if name in vars(value)]


def _names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)


# Which functions draw.


def first_draw(function) -> tuple[str, tuple[str, int]] | None:
    """Where a compiled function, or one that it calls, draws random numbers, if any does."""
    found: list[types.FunctionType] = [_source_of(function)]
    known: set[types.FunctionType] = set()
    while found:
        source = found.pop()
        if source in known:
            continue
        known.add(source)
        for name, value in _named(source):
            if is_random(value):
                code = source.__code__
                return source.__qualname__, (code.co_filename, _line_of(code, name))
        found += _callees(source)
    return None


def _line_of(code: types.CodeType, name: str) -> int:
    """The first line that names something."""
    return next(
        (line for line, step in instructions(code) if name in names_of(step)), code.co_firstlineno
    )


def _source_of(value):
    if is_vectorized(value):
        return value._dispatcher.py_func
    return value.py_func if is_compiled(value) else value


def is_vectorized(value) -> bool:
    """Whether an object is a function under @vectorize. Tells without importing Numba."""
    return type(value).__module__ == "numba.np.ufunc.dufunc"


# Arguments: what the function is run on, and the nodes that it is applied to.


@dataclass
class _Arguments:
    """What a call gives to the compiled function, in its order."""

    inputs: list[Node] = field(default_factory=list)
    """The node of each float and array of floats, in double precision: the inputs of a tape."""
    leaves: list[tuple[Traced | None, Any]] = field(default_factory=list)
    """What is passed on, tuples depth first: the traced value, and its copy for the function."""
    lists: list[tuple[list, list, list]] = field(default_factory=list)
    """Lists, what is passed on in their place, and its items before the function writes them."""

    def plain(self, value):
        """The value for the compiled function; what decides its way becomes a guard."""
        if isinstance(value, list):
            passed = [self.plain(item) for item in value]
            self.lists.append((value, passed, [*passed]))
            return passed
        if isinstance(value, tuple):
            items = [self.plain(item) for item in value]
            return value._make(items) if hasattr(value, "_make") else type(value)(items)
        if isinstance(value, CompiledFunction):
            value = value.function
        if type(value) is CompiledInstance:
            return value.passed(self.plain)
        if isinstance(value, Source):
            value = value.lent("a compiled function")
        if type(value) is np.ndarray and value.dtype.names:
            self.leaves.append((None, value))
            return value
        if isinstance(value, float | complex | np.ndarray | np.inexact):
            value = lift(value)
        x = value if isinstance(value, Traced) else None
        plain = value if x is None else self._of_traced(x)
        self.leaves.append((x, plain))
        return plain

    def _of_traced(self, x: Traced):
        kind = x.dtype.kind
        if kind == "c":
            self.inputs.append(_pairs(p.cast(x.node, dtype=COMPLEX)))
        elif kind == "f":
            self.inputs.append(p.cast(x.node, dtype=FLOAT))
        elif not is_constant(x):
            _guard_content(x)
        dtype = {"c": COMPLEX, "f": FLOAT}.get(kind, x.dtype)
        if not is_array(x.value):
            return dtype.type(x.value).item() if kind in "cf" else x.value
        return np.array(x.value, dtype, order="C")


def _pairs(node: Node) -> Node:
    """The real and imaginary parts of complex numbers, one after another."""
    parts = [p.reshape(part(node), shape=(*node.shape, 1)) for part in (p.real, p.imag)]
    return p.concatenate(*parts, axis=len(node.shape))


def _joined(node: Node) -> Node:
    """Complex numbers from pairs along the last axis."""
    *outer, _ = node.shape
    starts = [(0,) * len(outer) + (k,) for k in range(2)]
    steps, sizes = (1,) * node.ndim, (*outer, 1)
    parts = [p.slice_(node, start=start, step=steps, size=sizes) for start in starts]
    return p.complex_(*(p.reshape(part, shape=tuple(outer)) for part in parts))


def _guard_content(x: Traced) -> None:
    """The trace holds where an array of integers or booleans is as it is now."""
    if x.size > 1:
        x = apply(p.all_, apply(p.equal, x, arrays.constant_of(x.value)))
    guard(x)


def _run_plainly(function, args: tuple, kwargs: dict):
    """A call whose arguments depend on nothing."""
    arguments = _Arguments()
    args = arguments.plain(args)
    kwargs = {name: arguments.plain(arg) for name, arg in kwargs.items()}
    return _result_of(function, args, kwargs, arguments)


def _original_of(arg):
    return arg.original if isinstance(arg, Fields) else arg


def _result_of(function, args: tuple, kwargs: dict, arguments: _Arguments):
    """What the function itself gives for copies of constants; these take what it wrote."""
    originals = functools.partial(map, _original_of)
    result = function(
        *originals(args), **dict(zip(kwargs, originals(kwargs.values()), strict=True))
    )
    for k, (x, plain) in enumerate(arguments.leaves):
        if x is not None and is_array(plain):
            before = np.asarray(x.value, plain.dtype)
            if before.tobytes() != plain.tobytes():
                _write(arguments.leaves, k, arrays.adopt(plain))
    for given, passed, before in arguments.lists:
        if passed != before:
            given[:] = adopted(passed, [])
    return _adopted(result, arguments.leaves)


def _adopted(result, leaves: list):
    """A result as a constant; an argument that is returned is the same array."""
    if isinstance(result, tuple):
        items = [_adopted(item, leaves) for item in result]
        return result._make(items) if hasattr(result, "_make") else tuple(items)
    pairs = [(x, plain) for x, plain in leaves if x is not None and is_array(plain)]
    same = next((x for x, plain in pairs if plain is result), None)
    if same is not None:
        return same
    made = adopted(result, [])
    for x, plain in pairs:
        if is_array(result) and np.may_share_memory(result, plain):
            may_be_one(made, x)
    return made


# A recorded call.


def _record(function, args: tuple, kwargs: dict):
    """The results of a call from its tape, as traced values; arguments take what was written."""
    recording = current()
    arguments = _Arguments()
    bound = inspect.signature(_source_of(function)).bind(*args, **kwargs)
    args = arguments.plain(bound.args)
    kwargs = {name: arguments.plain(arg) for name, arg in bound.kwargs.items()}
    if not arguments.inputs:
        return _result_of(function, args, kwargs, arguments)
    start = time.perf_counter()
    code = _source_of(function).__code__
    place = code.co_filename, code.co_firstlineno
    recorded = functools.partial(_run_for_tape, function, args, kwargs, arguments.inputs, place)
    run = recorded()
    end = time.perf_counter()
    recording.sources.extend(run.sources)
    try:
        tape, found = _found(function, run, arguments.inputs)
    except Gapped:
        run = recorded(is_whole=True)
        tape, found = _found(function, run, arguments.inputs)
    for node, value in found.guards:
        _guard_node(node, value, place)
    recording.loop_calls.append(
        LoopCall(
            source_of(function),
            tape.count,
            tape.nbytes,
            None if found.swept else found.classes,
            found.recurrences,
            end - start,
            time.perf_counter() - end,
            found.reasons,
        )
    )
    results = _Results(tape, found.outputs)
    result = results.of(run.result)
    made = [*results.made]
    for k, held in run.written:
        _write(arguments.leaves, k, results.of(held))
    _note_aliases(run, tape, arguments, made)
    return result


def _found(function, run: Run, inputs: Sequence[Node]) -> tuple[Tape, Computed]:
    """The tape of a run, and its results as nodes."""
    recording = current()
    # The structure of the nodes of a tape is looked at, as that of the nodes that it is applied to.
    inputs = [settled(node) for node in inputs]
    tape = replace(run.tape, source=source_of(function))
    if recording.catches and _divides_by_python(function):
        if tape.gap is not None:
            raise Gapped  # each divisor is guarded
        tape = replace(tape, guards=_with_divisors(tape))
    with recording.pool.settling():
        return tape, rolled(tape, inputs, current().variables)


def _note_aliases(run: Run, tape: Tape, arguments: _Arguments, made: list) -> None:
    """Results whose numbers are all those of an argument may be that, a view of it, or a copy."""
    written = {k: held.positions for k, held in run.written if hasattr(held, "positions")}
    starts = iter(np.cumsum([1, *tape.sizes]))
    for k, (x, _) in enumerate(arguments.leaves):
        if x is None or x.dtype.kind not in "fc":
            continue
        start = next(starts)
        if is_array(x.value) and x.size:
            numbers = x.size * (1 + (x.dtype.kind == "c"))
            records = written.get(k, np.arange(start, start + numbers))
            for positions, array in made:
                if positions.size <= records.size and _are_among(positions, records):
                    may_be_one(array, x)


def _are_among(positions: np.ndarray, records: np.ndarray) -> bool:
    return bool(np.any(records == positions[0])) and bool(np.isin(positions, records).all())


def _write(leaves: list, k: int, held) -> None:
    """An argument takes what the function wrote into its copy."""
    x = leaves[k][0]
    if x is None:
        raise trace_error(
            "a compiled function writes into a structured array",
            "return the numbers as a tuple or an array",
        )
    for j, (other, _) in enumerate(leaves):
        is_view = j != k and other is not None and other.storage is x.storage
        if is_view and np.may_share_memory(other.value, x.value):
            raise trace_error(
                "a compiled function writes into an array that it is given twice",
                "pass a copy, x.copy(), as one of the arguments",
            )
    recording, storage = current(), x.storage
    if storage.refusal is not None and any(storage.value is array for array in recording.held):
        recording.write_held(storage.value)
        storage.refusal = None
    write(x, held)


def _run_for_tape(
    function, args: tuple, kwargs: dict, inputs: Sequence[Node], place, is_whole: bool = False
) -> Run:
    # Numba, and what needs it, is imported where a compiled function is met.
    from nbhvp.loops.recording.interpreted import interpreted

    limit = current().tape_limit
    run = None if kwargs or is_whole else interpreted(function, args, limit)
    if run is not None:
        return run
    from nbhvp.loops.recording.record import record_tape

    try:
        guarded = functools.partial(_guard_tape, inputs=inputs, place=place)
        return record_tape(
            function, args, kwargs, limit=limit, interrupted=guarded, is_whole=is_whole
        )
    except TypeError as error:
        what = str(error).removeprefix("in the recorded function: ")
        where = "" if re.match(r"\S+:\d+", what) else f"{source_of(function)}: "
        # Raised anew, so that the call in the user's code is the innermost line of its own.
        raise TraceError(where + what) from error
    except ZeroDivisionError as error:
        current().leave_unguarded(error, place)
        raise


def _divides_by_python(function) -> bool:
    """Whether a division by zero is an exception in a compiled function."""
    options = getattr(function, "targetoptions", {})
    return options.get("error_model", "python") == "python"


def _with_divisors(tape: Tape) -> Guards:
    """The guards of a tape, and that no divisor is 0."""
    entries = dict(enumerate(tape.primitives, FIRST))
    quotients = [code for code, entry in entries.items() if entry in _QUOTIENTS]
    divisors = np.unique(tape.second[np.isin(tape.codes, quotients)])
    divisors = divisors[tape.codes[divisors] != CONSTANT]
    differs = next(code for code, entry in entries.items() if entry is p.not_equal)
    added = (
        np.full(divisors.size, differs),
        divisors,
        np.zeros_like(divisors),
        np.ones(divisors.size),
    )
    guards = tape.guards
    held = guards.codes, guards.first, guards.second, guards.outcomes
    return Guards(
        *(np.concatenate([a, np.asarray(b, a.dtype)]) for a, b in zip(held, added, strict=True))
    )


_QUOTIENTS = (p.divide, p.floor_divide, p.remainder)


def _guard_tape(tape: Tape, inputs: Sequence[Node], place: tuple[str, int]) -> None:
    """Guard the conditions that a tape met."""
    if tape.guards.codes.size:
        flat = [p.reshape(node, shape=(node.size,)) for node in inputs]
        _guard_node(tape_guards(p.concatenate(*flat, axis=0), tape=tape), np.True_, place)


def _guard_node(node: Node, value, place: tuple[str, int]) -> None:
    recording = current()
    if recording.is_live(node):
        recording.guard(node, value, place)


@dataclass
class _Results:
    """Traced values for the results of a run, which stand one after another in one node."""

    tape: Tape
    outputs: Node
    at: int = 0
    made: list[tuple[np.ndarray, Traced]] = field(default_factory=list)
    """The records of each array among the results, and the array."""

    def of(self, tree):
        if isinstance(tree, tuple):
            items = [self.of(item) for item in tree]
            return tree._make(items) if hasattr(tree, "_make") else tuple(items)
        if not hasattr(tree, "positions"):
            return adopted(tree, [])
        size = tree.positions.size
        node = p.slice_(self.outputs, start=(self.at,), step=(1,), size=(size,))
        self.at += size
        value, shape = self.tape.values[tree.positions], tree.shape
        if tree.is_complex:
            node, value = _joined(p.reshape(node, shape=(*shape, 2))), value.view(COMPLEX)
        if shape == ():
            return traced(p.reshape(node, shape=()), value[0])
        array = traced(p.reshape(node, shape=shape), value.reshape(shape))
        if size:
            self.made.append((tree.positions, array))
        return array


class CompiledFunction(FunctionStandin):
    """The stand-in of a function compiled by Numba.

    `follow` gives the stand-in of its Python source, for functions that need not be recorded.
    """

    def __init__(self, function, follow: Callable[[], Callable]):
        self.function = function
        self._follow = follow

    def __call__(self, *args, **kwargs):
        draw = first_draw(self.function)
        if draw is not None:
            current().draw(*draw)
        if all(is_constant(x) for x in arrays.traced_in(args, kwargs)):
            return _run_plainly(self.function, args, kwargs)
        wanted = current().loops
        if wanted or (wanted is None and has_loop(self.function)):
            return _record(self.function, args, kwargs)
        return self._followed(args, kwargs, or_recorded=wanted is None)

    @property
    def py_func(self) -> Callable:
        return self._follow()

    def _followed(self, args: tuple, kwargs: dict, or_recorded: bool):
        """The results by the Python source; what it left behind where it fails is undone."""
        recording = current()
        guards, conditions = dict(recording.guards), dict(recording.conditions)
        cells = [(x.storage, x.storage.node, x.storage.value) for x in arrays.traced_in(args)]
        outer = recording.divides_by_python
        recording.divides_by_python = _divides_by_python(self.function)
        try:
            return self._follow()(*args, **kwargs)
        except TraceError as error:
            if not or_recorded:
                raise
            recording.guards, recording.conditions = guards, conditions
            for storage, node, value in cells:
                storage.node, storage.value = node, value
                storage.version += 1
            try:
                return _record(self.function, args, kwargs)
            except TraceError:
                raise error from None
        finally:
            recording.divides_by_python = outer


@stands_for(where=is_compiled)
def _compiled(standins, value) -> CompiledFunction:
    return CompiledFunction(value, lambda: standins.of(value.py_func))


@stands_for(where=is_vectorized)
def _vectorized(standins, value):
    """One that is not followed, and refused where it meets a traced value."""
    return Entropy(value) if first_draw(value) else value
