"""Records a user's function as a trace: its options, the call with x and arguments, and the result."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nbhvp.errors import TraceError
from nbhvp.graph.node import Graph, Pool
from nbhvp.runtime.calls.call import Call, Owner
from nbhvp.runtime.calls.inputs import as_vector, primal
from nbhvp.runtime.on_device import given, on_host
from nbhvp.trace.arguments import flatten
from nbhvp.trace.record import Trace, record
from nbhvp.trace.recording import source_of, trace_error
from nbhvp.trace.surroundings.aliases import SHARED_MEMORY
from nbhvp.tree import Unravel

__all__ = ["Options", "Tracer"]


@dataclass(frozen=True)
class Options:
    """How a Function is made, by the names of what `differentiable` takes."""

    trace: str
    target: str
    unravel: Unravel | None
    loops: bool | None
    tape_limit: int
    compile: str
    memory: int | None = None
    trees: bool = False


@dataclass(frozen=True, eq=False)
class Tracer:
    """A function, perhaps bound to the instance whose method it is, and how it is traced."""

    fun: Callable
    options: Options
    owner: Owner | None = None

    @property
    def is_always(self) -> bool:
        """Whether the function is traced at every call."""
        return self.options.trace == "always"

    @property
    def source(self) -> str:
        return source_of(self.fun)

    def call(self, x: Any, args: tuple, kwargs: dict) -> Call:
        """Any arguments in the form in which they are compared."""
        target = self.options.target
        original, x = x, primal(as_vector(x, self.options.unravel), target)
        leaves, key = self._flattened(args, kwargs) if args or kwargs else ((), ())
        call = Call(x, leaves, (self.owner, x.shape, x.dtype, key), args, kwargs)
        if leaves and original is not x and isinstance(original, np.ndarray):
            call.given = original
        return call

    def _flattened(self, args: tuple, kwargs: dict) -> tuple[list[Any], Hashable]:
        return flatten(args, kwargs, functools.partial(given, self.options.target))

    def trace(self, call: Call, pool: Pool | None = None) -> Trace:
        """The trace of the function at a call.

        Raises
        ------
        TraceError
            If the function depends on what may differ at each call, and is to be traced once.
        """
        options = self.options
        args, kwargs = call.args, call.kwargs
        if call.leaves:
            args, kwargs = on_host(call.leaves, call.key[-1], args, kwargs)
        trace = record(
            self.fun,
            np.asarray(call.x),
            args,
            kwargs,
            options.unravel,
            pool,
            loops=options.loops,
            tape_limit=options.tape_limit,
            always=self.is_always,
            given=call.given,
        )
        if trace.hidden_state and not self.is_always:
            raise TraceError(
                f"{self.source} depends on {trace.hidden_state}, which may differ at the next "
                "call: read it outside and pass its numbers as an argument, or trace the function "
                "at every call, with differentiable(trace='always')"
            )
        if trace.aliases is not None and not trace.aliases.allow((call.x, *call.leaves)):
            raise trace_error(SHARED_MEMORY, "give copies")  # on a device: here they are copies
        return trace if options.memory is None else _bounded(trace, options.memory)


def _bounded(trace: Trace, memory: int) -> Trace:
    """The same trace, with loops over time that keep less for products."""
    from nbhvp.plan.splitting.checkpoints import bounded

    guards = [node for node, _ in trace.guards]
    graph, segments = bounded(Graph(trace.inputs, (*trace.outputs, *guards)), memory)
    if not segments:
        return trace
    known = {(z.params["length"], z.primitive.body.operations): s for z, s in segments.items()}
    loops = [
        replace(loop, segments=known.get((loop.steps, loop.operations), ()))
        for loop in trace.recurrences
    ]
    values = [value for _, value in trace.guards]
    return replace(
        trace,
        outputs=graph.outputs[: len(trace.outputs)],
        guards=tuple(zip(graph.outputs[len(trace.outputs) :], values, strict=True)),
        recurrences=tuple(loops),
    )
