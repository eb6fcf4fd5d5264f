"""Records the graph of a function by running it once at a concrete point.

Input: the function, x and the arguments. Output: a `Trace`. It is valid for every x and all arguments
with the same shapes, dtypes and static key, as long as the guards have the same values and the
objects that the function reads from outside have not changed.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nbhvp.errors import TraceError
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node, Pool, reachable
from nbhvp.graph.requests import settled
from nbhvp.graph.rewrites.stack import stacked
from nbhvp.graph.time.recurrences import Guards, Recurrence, rolled
from nbhvp.plain import native
from nbhvp.trace.answers import complete
from nbhvp.trace.arguments import Leaf, flatten, leaves_of, unflatten
from nbhvp.trace.arrays import Traced, apply, lift, traced
from nbhvp.trace.branches.exceptions import settle
from nbhvp.trace.branches.ties import Tie, ties
from nbhvp.trace.following.standins import Standins
from nbhvp.trace.methods.shapes import reshape_view
from nbhvp.trace.recording import TAPE_LIMIT, LinedPool, Note, Recording, source_of
from nbhvp.trace.surroundings.aliases import Aliases
from nbhvp.trace.surroundings.closure import Closure
from nbhvp.trace.surroundings.effects import Arguments
from nbhvp.trace.views import Storage
from nbhvp.tree import Unravel

if TYPE_CHECKING:
    from nbhvp.loops.call import LoopCall

__all__ = ["Trace", "output_of", "record"]


@dataclass(frozen=True)
class Trace:
    """The graph of a function near one point, and what must hold for it to be valid."""

    pool: Pool
    inputs: tuple[Node, ...]
    """x, then the traced arguments."""
    outputs: tuple[Node, ...]
    form: str
    """"scalar" (any result of size 1; the output has shape ()), "array", or "sequence"."""
    guards: tuple[tuple[Node, np.ndarray], ...]
    """Nodes that must have these values, in the order in which they were met."""
    closure: Closure
    hidden_state: str | None
    """What else the function depends on (random numbers), which no guard can see."""
    loops: tuple[LoopCall, ...] = ()
    """The calls of compiled functions that were run for their tapes."""
    notes: tuple[Note, ...] = ()
    """What the function does at the trace alone."""
    aliases: Aliases | None = None
    """What it writes of its inputs, which no other array of a call may show."""
    ties: tuple[Tie, ...] = ()
    """Guards that hold because numbers are equal: what derivatives there are worth."""
    recurrences: tuple[Recurrence, ...] = ()
    """The loops over time that are one node each."""
    unrolled: tuple[str, int] | None = None
    """The place of a loop over elements that was written out."""

    @property
    def tape_bytes(self) -> int:
        """What tapes that were not rolled keep."""
        return sum(call.tape_bytes for call in self.loops if not call.is_rolled)


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """No search for garbage: requests are many, and none of them are (measured: a third of the time)."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@_without_collector()
def record(
    fun: Callable,
    x: np.ndarray,
    args: tuple = (),
    kwargs: dict | None = None,
    unravel: Unravel | None = None,
    pool: Pool | None = None,
    *,
    loops: bool | None = None,
    tape_limit: int = TAPE_LIMIT,
    always: bool = False,
    given: np.ndarray | None = None,
) -> Trace:
    """Trace `fun(x, *args, **kwargs)`.

    Parameters
    ----------
    fun : callable
        A function of NumPy; it is run once, as a copy.
    x : ndarray of floats
        The point. It is not modified.
    args, kwargs
        Further arguments, see `nbhvp.trace.arguments`.
    unravel
        The function takes ``unravel(x)`` in the place of x.
    pool
        Where the nodes go, if not into a pool of their own.
    loops, tape_limit
        How compiled functions are met, see `nbhvp.trace.recording.Recording`.
    always
        The function is traced at every call: what it does beside giving a result happens.
    given
        The caller's own array, of which x is a copy.

    Raises
    ------
    TraceError
        If the function does what cannot be followed; the message names its line.
    TypeError
        If x, an argument or the result is of the wrong kind.
    """
    _check_point(x)
    complete()
    leaves, key = flatten(args, kwargs or {})
    recording = Recording(pool, loops, tape_limit, always)
    standins = Standins(recording, fun)
    with recording, np.errstate(all="ignore"):
        recording.inputs = [x if given is None else given, *leaves]
        inputs = [_input(recording, "x", Leaf("array", x.shape, x.dtype), 0, x)]
        recording.variables.append(inputs[0].node)
        for k, leaf in enumerate(leaves_of(key)):
            inputs.append(_input(recording, f"arg{k}", leaf, k + 1, leaves[k]))
        nodes = tuple(traced_input.node for traced_input in inputs)
        values = [np.asarray(v, node.dtype) for v, node in zip((x, *leaves), nodes, strict=True)]
        recording.values.update(zip(nodes, values, strict=True))
        args, kwargs = unflatten(key, inputs[1:], static=standins.of)
        given = Arguments(args, kwargs)
        point = inputs[0] if unravel is None else standins.of(unravel)(inputs[0])
        with standins.settled():
            result = standins.of(fun)(point, *args, **kwargs)
            output, form = output_of(result, fun, x.dtype)
        for text, place in given.notes(fun):
            recording.note(text, place)
        settle(recording, output)
    guards = tuple((node, np.asarray(value)) for node, value in recording.guards.items())
    aliases = recording.aliases()
    reached = reachable([output.node, *recording.guards]) if recording.outside else ()
    outside = [recording.outside[node] for node in reached if node in recording.outside]
    tied = ties(recording, output.node, dict(zip(nodes, values, strict=True)))
    standins.finish()
    outputs, guards, recurrences = _rolled(recording, output.node, guards)
    return Trace(
        recording.pool,
        nodes,
        outputs,
        form,
        guards,
        standins.closure,
        recording.hidden_state or (outside[0] if outside else None),
        tuple(recording.loop_calls),
        tuple(recording.notes),
        aliases,
        tied,
        (*(one for call in recording.loop_calls for one in call.recurrences), *recurrences),
        recording.unrolled,
    )


def _rolled(recording: Recording, output: Node, guards: Guards) -> tuple:
    """The output, the guards, and the loops over time in them, each as one node.

    Of what these leave, numbers of one structure are arrays.
    """
    if isinstance(recording.pool, LinedPool):
        return (output,), guards, ()  # each operation keeps its line
    pool = recording.pool
    (output,), guards, found = rolled([output], guards, recording.log)
    pool.settle([output, *(node for node, _ in guards)])
    pool.asks = False
    output, *conditions = stacked(*map(settled, (output, *(node for node, _ in guards))))
    values = (value for _, value in guards)
    return (output,), _kept(zip(conditions, values, strict=True)), found


def _kept(guards: Iterable[tuple[Node, np.ndarray]]) -> Guards:
    """Guards on what is no constant, each once."""
    return tuple((node, value) for node, value in dict(guards).items() if node.value is None)


def _check_point(x: np.ndarray) -> None:
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        raise TypeError(
            f"x must be an array of real floats, got {getattr(x, 'dtype', type(x).__name__)}; "
            "write a function of complex variables with their real and imaginary parts"
        )


def _input(recording: Recording, name: str, leaf: Leaf, place: int, value) -> Traced:
    """An input node with the user's own array, which is never written."""
    node = p.input_node(recording.pool, name, leaf.shape, leaf.dtype)
    value = native(value)
    if leaf.kind == "float":
        return traced(node, value.item())
    if leaf.kind == "scalar":
        return traced(node, value[()])
    return Traced(Storage(node, value, place=place))


def output_of(result: Any, fun: Callable, dtype: np.dtype) -> tuple[Traced, str]:
    """What a function returned, as one array, and the form that it had."""
    if isinstance(result, list | tuple):
        result, form = _stacked(result, fun), "sequence"
    else:
        result, form = _lifted(result, fun), "array"
    if result.size == 1:
        result, form = reshape_view(result, ()), "scalar"
    if result.dtype.kind != "f":
        result = apply(p.cast, result, dtype=dtype)
    return result, form


def _stacked(results: Sequence, fun: Callable) -> Traced:
    results = [_lifted(result, fun) for result in results]
    if any(result.size != 1 for result in results):
        shapes = ", ".join(str(result.shape) for result in results)
        raise TypeError(
            f"{source_of(fun)} returned a list or tuple of arrays of shapes {shapes}; "
            "return one array (np.concatenate), or a list or tuple of scalars"
        )
    return lift([reshape_view(result, ()) for result in results])


def _lifted(result, fun: Callable) -> Traced:
    if result is None:
        raise TypeError(f"{source_of(fun)} returned None; end it with `return value`")
    try:
        result = lift(result)
    except TraceError:
        kind = type(result).__name__
        raise TypeError(
            f"{source_of(fun)} returned an object of type {kind}; return a number, an array, or a "
            "list or tuple of numbers"
        ) from None
    if result.dtype.kind == "c":
        raise TypeError(
            f"{source_of(fun)} returned a complex result; return its .real, or real and imaginary "
            "parts as two results"
        )
    return result
