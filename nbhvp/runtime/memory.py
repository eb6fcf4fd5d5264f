"""The memory of a Function: its traces, the last used first, and one point.

Every request for values or derivatives at some arguments comes through this module. It takes the
remembered point, if it is at these arguments (`validity`); else the first trace whose guards hold, or
a new trace if there is none; then the program of that trace, or a new point with a product ready. Calls
like the latest one are first tried directly (`direct`).

A gradient at a new x computes the state of products too if a product has been taken since the last
gradient at a new x; if not, it runs the gradient program alone, and no point is remembered.

The state of a long recurrence takes longer to compute and to write than a product. So the first product
at a new x is one program that keeps no state, unless the last point had several products; a second one
there makes the state.

Replacing the remembered point is one assignment, so threads need no lock to use it. The lock is held
only to trace, to compile and to change the list of traces.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nbhvp.graph.linear_map import Product
from nbhvp.plan.costs import CPU
from nbhvp.runtime.calls.call import SHARED, Call, Owner, as_inputs, copied, kept
from nbhvp.runtime.calls.direct import general
from nbhvp.runtime.calls.inputs import direction, weights
from nbhvp.runtime.calls.validity import is_at, serves
from nbhvp.runtime.compiling.garbage import collected_rarely
from nbhvp.runtime.compiling.programs import Compiler
from nbhvp.runtime.on_device import HOST, returned
from nbhvp.runtime.point import Point, new_point
from nbhvp.runtime.recorded import Recorded
from nbhvp.runtime.tracer import Tracer
from nbhvp.trace.recording import place_of

if TYPE_CHECKING:
    from nbhvp.runtime.matrices import Matrix

__all__ = ["MOST_TAPE_BYTES", "MOST_TRACES", "Memory"]

MOST_TRACES = 32
"""Of one shape of x and of the other arrays."""
MOST_NODES = 1 << 17
"""Of all traces together, some 5 kB each with their programs; beyond, `MOST_TRACES` are kept of all shapes."""
MOST_TAPE_BYTES = 2 * CPU.most
"""Of the tapes that all traces of a Function keep; one trace may have more."""

SEVERAL = 2
"""Products at one point for which its state is worth making."""

Run = Callable[[Recorded, Sequence[np.ndarray]], list[np.ndarray]]
"""A program of a trace, at its inputs; it gives guards first."""


class Memory:
    """The traces of a Function, the remembered point and the counts.

    Methods share that of the function in their class, each trace keyed by its instance: so each
    question comes with a `Tracer`, which knows function and instance.
    """

    def __init__(self, target: str, is_lazy: bool = False):
        self.compiler = Compiler(target, is_lazy)
        self.report = self.compiler.report
        self.traces: tuple[Recorded, ...] = ()
        self.latest: Recorded | None = None
        """The first of them."""
        self.point: Point | None = None
        self.hessian: Product | None = None
        """The Hessian-vector product that was taken since the last gradient at a new x."""
        self._before = 0
        """The products that were taken before the remembered point."""

    # What is asked.

    def value(self, tracer: Tracer, x: Any, args: tuple, kwargs: dict) -> Any:
        """The value: a scalar, or a fresh array."""
        point = self.here(tracer, x, args, kwargs)
        if point is not None and (known := point.value()) is not None:
            return known
        recorded = self._latest(tracer)
        if recorded is not None:
            given = recorded.direct.by_place(args, kwargs) if kwargs else args
            found = recorded.direct.value((), x, *given)
            if found is not None:
                self.report.value_runs += 1
                return found
        call = tracer.call(x, args, kwargs)
        known = self._remembered(call, Point.value)
        if known is not None:
            return known
        self.report.value_runs += 1
        _, outputs = self._run(Recorded.value_at, tracer, call)
        return returned(outputs[0][()])

    def gradient(self, tracer: Tracer, x: Any, args: tuple, kwargs: dict) -> tuple[Any, np.ndarray]:
        """The value and a fresh gradient; products there are ready too, if one came last time."""
        point, hessian = self.here(tracer, x, args, kwargs), self.hessian
        if point is not None and (known := point.value_and_gradient()) is not None:
            return known
        if hessian is not None and not (self.latest and self._is_once(self.latest)):
            if point is not None:
                self.point = point = point.extended(hessian, complete=True)
                return point.value(), copied(point.known[point.recorded.gradient])
            return self._gradient_and_product(tracer, hessian, x, args, kwargs)
        recorded = self._latest(tracer)
        if recorded is not None:
            given = recorded.direct.by_place(args, kwargs) if kwargs else args
            found = recorded.direct.gradient((), x, *given)
            if found is not None:
                self.report.gradient_runs += 1
                return found
        call = tracer.call(x, args, kwargs)
        return self._remembered(call, Point.value_and_gradient) or self.gradient_alone(tracer, call)

    def _gradient_and_product(
        self, tracer: Tracer, product: Product, x: Any, args: tuple, kwargs: dict
    ) -> tuple[Any, np.ndarray]:
        """Value and gradient where no direct test has found a point, with a product ready."""
        point, is_new = self._elsewhere(tracer, product, x, args, kwargs, complete=True)
        if point is None:
            return self.gradient_alone(tracer, tracer.call(x, args, kwargs))
        self.point, gradient = point, point.known[point.recorded.gradient]
        if is_new:
            self.hessian = None
            if gradient.nbytes >= SHARED:
                # Nobody has it yet: to copy what is large may take as long as to compute it.
                self.point = point.without(point.recorded.gradient)
                return point.known[point.recorded.output][()], gradient
        return point.value(), copied(gradient)

    def gradient_alone(self, tracer: Tracer, call: Call) -> tuple[Any, np.ndarray]:
        """Value and gradient, with nothing remembered."""
        self.report.gradient_runs += 1
        *_, (value, gradient) = self._run(Recorded.gradient_at, tracer, call)
        return returned(value[()]), returned(gradient)

    def product(
        self, tracer: Tracer, product: Product, x: Any, v: Any, args: tuple, kwargs: dict
    ) -> np.ndarray:
        """A product with a direction, or with each along one more, last axis of v."""
        point = self.here(tracer, x, args, kwargs)
        if point is not None:
            point = point.extended(product)
        else:
            point = self.new_directly(tracer, product, x, args, kwargs)
            if point is None:
                return self._product_elsewhere(tracer, product, tracer.call(x, args, kwargs), v)
        self.point = point
        return self._times(point, product, v)

    def _product_elsewhere(
        self, tracer: Tracer, product: Product, call: Call, v: Any
    ) -> np.ndarray:
        """A product where no direct test has found a point.

        Nothing is remembered where nothing could tell later whether another call is at the same point.
        """
        is_kept = not tracer.is_always and call.can_be_remembered
        point = self._remembered(call, lambda point: point.extended(product)) if is_kept else None
        found = None
        if point is None:
            point, found = self._new_product(tracer, product, call, v, is_kept)
        if is_kept:
            self.point = point
        if found is None:
            return self._times(point, product, v)
        self.report.product_runs += 1
        return returned(found)

    def _new_product(
        self, tracer: Tracer, product: Product, call: Call, v: Any, is_kept: bool
    ) -> tuple[Point, np.ndarray | None]:
        """A new point, and a product there if it was taken without a state."""
        whole: list[np.ndarray] = []

        def run(recorded: Recorded, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
            like = recorded.linear_map(product).direction
            one = direction(v, like, recorded.compiler.target)
            whole.clear()
            if one.shape != like.shape or (is_kept and not self._is_once(recorded)):
                return recorded.point_at(product, inputs, False)
            *outputs, found = recorded.whole_at(product, inputs, one)
            whole.append(found)
            return outputs

        call = self._placed(call) if is_kept else call
        recorded, outputs = self._run(run, tracer, call)
        if not whole:
            return self._made(recorded, call, product, outputs), None
        self._before, call = self.report.product_runs, call.kept()
        return Point(recorded, call.x, call.leaves, call.inputs, {}, {}), whole[0]

    def _times(self, point: Point, product: Product, v: Any) -> np.ndarray:
        like = point.recorded.linear_map(product).direction
        v = direction(v, like, point.recorded.compiler.target)
        if v.shape == like.shape:
            self.report.product_runs += 1
            return returned(point.products[product](v))
        self.report.product_runs += v.shape[-1]
        return returned(point.times(product, v))

    def at(self, tracer: Tracer, product: Product, x: Any, args: tuple, kwargs: dict) -> Point:
        """The point of some arguments, with a product ready."""
        point = self._at(tracer, product, x, args, kwargs)
        if point is None:
            return self._new_point(tracer, product, tracer.call(x, args, kwargs))
        self.point = point
        self._before = self.report.product_runs - SEVERAL  # for all that an operator is asked
        return point

    def weighted(
        self, tracer: Tracer, product: Product, x: Any, w: Any, args: tuple, kwargs: dict
    ) -> Point:
        """A point that is not remembered, of a product whose last input is weights of the result."""
        call = tracer.call(x, args, kwargs)
        call = call.kept()

        def at_weights(recorded: Recorded) -> Call:
            like = recorded.linear_map(product).inputs[-1]
            return replace(call, leaves=(*call.leaves, weights(w, like, recorded.compiler.target)))

        def run(recorded: Recorded, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
            inputs = at_weights(recorded).inputs  # before anything is compiled
            program = recorded.linearized(product).point(complete=False)
            self.report.point_runs += program is not None
            return program(*inputs) if program else []

        recorded, outputs = self._run(run, tracer, call)
        at = at_weights(recorded)
        return new_point(recorded, at.inputs, at.leaves, product, outputs)

    def matrix(
        self, tracer: Tracer, product: Product, x: Any, args: tuple, kwargs: dict, symmetric: bool
    ) -> tuple[Recorded, Matrix, list[np.ndarray]]:
        """The trace at some arguments, the pattern of a product, and what its program gives there."""
        call = tracer.call(x, args, kwargs)
        matrices: list[Matrix] = []

        def run(recorded: Recorded, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
            matrices.append(recorded.matrix(product, inputs, symmetric))
            return recorded.entries_at(product, matrices[-1], inputs)

        recorded, outputs = self._run(run, tracer, call)
        return recorded, matrices[-1], outputs

    # Points.

    def here(self, tracer: Tracer, x: Any, args: tuple, kwargs: dict) -> Point | None:
        """The remembered point if a direct test finds a call there."""
        point = self.point
        if point is None:
            return None
        recorded, owner = point.recorded, tracer.owner
        if recorded.owner is not owner and recorded.owner != owner:
            return None
        given = recorded.direct.by_place(args, kwargs) if kwargs else args
        if not recorded.direct.same(point.inputs, x, *given):
            return None
        return None if recorded.closure.is_deep and recorded.closure.changed() else point

    def _remembered(self, call: Call, known: Callable[[Point], Any]) -> Any:
        """What the remembered point knows, if a call is there; else None."""
        point = self.point
        if point is None or not is_at(point, call):
            return None
        point.recorded.count_call()
        return known(point)

    def _latest(self, tracer: Tracer) -> Recorded | None:
        """The trace used last, if it is of the same instance."""
        recorded, owner = self.latest, tracer.owner
        if recorded is None or (recorded.owner is not owner and recorded.owner != owner):
            return None
        return recorded

    def new_directly(
        self,
        tracer: Tracer,
        product: Product,
        x: Any,
        args: tuple,
        kwargs: dict,
        complete: bool = False,
    ) -> Point | None:
        """A new point, made directly."""
        recorded = self._latest(tracer)
        if recorded is None or not recorded.direct.can_be_kept:
            return None
        if recorded.is_recurrent:
            if not complete and self._is_once(recorded):
                return None
            self._before = self.report.product_runs
        direct = recorded.direct
        entry = (direct.full_points if complete else direct.points).get(product, general)
        given = direct.by_place(args, kwargs) if kwargs else args
        outputs = entry((), x, *given)
        if outputs is None:
            return None
        if outputs:
            self.report.point_runs += 1
        x = copied(x)
        inputs, leaves = self._kept(recorded, x, given) if direct.keys else ((x,), ())
        return new_point(recorded, inputs, leaves, product, outputs)

    def _kept(
        self, recorded: Recorded, x: np.ndarray, args: tuple
    ) -> tuple[tuple[np.ndarray, ...], Sequence[np.ndarray]]:
        """The inputs of a new point, and the arrays beside x: the last point's, if these are the same."""
        last, direct = self.point, recorded.direct
        if last and last.recorded is recorded and direct.unchanged(last.inputs, x, *args):
            return (x, *last.inputs[1:]), last.leaves
        leaves = kept(direct.leaves(args))
        return as_inputs(x, leaves), leaves

    def _at(
        self, tracer: Tracer, product: Product, x: Any, args: tuple, kwargs: dict
    ) -> Point | None:
        """The point with a product ready.

        None where nothing could tell later whether another call is at the same point.
        """
        point = self.here(tracer, x, args, kwargs)
        if point is not None:
            return point.extended(product)
        return self._elsewhere(tracer, product, x, args, kwargs)[0]

    def _elsewhere(
        self,
        tracer: Tracer,
        product: Product,
        x: Any,
        args: tuple,
        kwargs: dict,
        complete: bool = False,
    ) -> tuple[Point | None, bool]:
        """The same where no direct test has found a point, with results if `complete`; is it new."""
        point = self.new_directly(tracer, product, x, args, kwargs, complete)
        if point is not None:
            return point, True
        call = tracer.call(x, args, kwargs)
        if tracer.is_always or not call.can_be_remembered:
            return None, False
        point = self._remembered(call, lambda point: point.extended(product, complete))
        if point is not None:
            return point, False
        return self._new_point(tracer, product, call, complete), True

    def _new_point(
        self, tracer: Tracer, product: Product, call: Call, complete: bool = False
    ) -> Point:
        call = self._placed(call)
        recorded, outputs = self._run(_point_program(product, complete), tracer, call)
        return self._made(recorded, call, product, outputs)

    def _placed(self, call: Call) -> Call:
        """A call for a new point: on a device, all programs find one copy of what is kept."""
        return call if self.compiler.target in HOST else call.kept()

    def _made(
        self, recorded: Recorded, call: Call, product: Product, outputs: Sequence[np.ndarray]
    ) -> Point:
        self._before = self.report.product_runs
        call = call.kept()  # after the trace, whose temporary arrays are gone by now
        return new_point(recorded, call.inputs, call.leaves, product, outputs)

    def _is_once(self, recorded: Recorded) -> bool:
        """Whether a product at a new x will be the only one there, as far as can be told."""
        return recorded.is_recurrent and self.report.product_runs - self._before < SEVERAL

    # Traces.

    def _run(self, run: Run, tracer: Tracer, call: Call) -> tuple[Recorded, list[np.ndarray]]:
        """The first trace whose guards hold at a call, and the outputs of one of its programs."""
        tried: set[Recorded] = set()
        found = self._search(run, call, tried)
        if found is None:
            with self.compiler.lock:
                # Another thread may have made the trace meanwhile.
                found = self._search(run, call, tried)
                recorded = found[0] if found else self._record(tracer, call)
            # A trace just made at x holds there: its guards are not looked at.
            found = found or (recorded, run(recorded, call.inputs))
        recorded, outputs = found
        recorded.count_call()
        return recorded, outputs[len(recorded.guards) :]

    def _search(
        self, run: Run, call: Call, tried: set[Recorded]
    ) -> tuple[Recorded, list[np.ndarray]] | None:
        for recorded in self.traces:
            if recorded.key != call.key or recorded in tried or not serves(recorded, call):
                continue  # the keys of many shapes are compared without a call
            tried.add(recorded)
            inputs = call.inputs
            try:
                outputs = run(recorded, inputs)
            except Exception:
                # An error counts only where the trace holds.
                if not recorded.holds(recorded.guards_at(inputs)):
                    continue
                raise
            if recorded.holds(outputs):
                self._use(recorded)
                return recorded, outputs
        return None

    def _use(self, recorded: Recorded) -> None:
        """Put a trace first."""
        if self.traces and self.traces[0] is recorded:
            return
        with self.compiler.lock:
            others = [other for other in self.traces if other is not recorded]
            self._hold((recorded, *others))

    def _hold(self, traces: tuple[Recorded, ...]) -> None:
        self.traces, self.latest = traces, traces[0] if traces else None

    def _record(self, tracer: Tracer, call: Call) -> Recorded:
        """A new trace, put first unless the function is traced at every call. The lock is held."""
        start = time.perf_counter()
        with collected_rarely():
            trace = tracer.trace(call)
        report = self.report
        report.trace_seconds += time.perf_counter() - start
        self.compiler.begin(tracer.source, trace.unrolled or place_of(tracer.fun))
        compiler = self.compiler.chosen(trace, call.is_on_device)
        recorded = Recorded(trace, call.key, compiler, tracer.source)
        if tracer.owner is not None:
            self._follow(recorded, tracer.owner)
        report.traces += 1
        report.loops, report.recurrences = trace.loops, trace.recurrences
        if not tracer.is_always:
            report.retraces += any(other.key == recorded.key for other in self.traces)
            self._hold(_bounded((recorded, *filter(_is_current, self.traces))))
        self.compiler.tell(trace.notes)
        return recorded

    # Instances whose methods were traced.

    def _follow(self, recorded: Recorded, owner: Owner) -> None:
        """Let a trace die with the instance that it belongs to."""
        instance = owner.instance()
        recorded.closure.release(instance)
        with contextlib.suppress(TypeError):  # of objects without weak references
            recorded.death = weakref.ref(instance, functools.partial(_bury, weakref.ref(self)))

    def bury(self) -> None:
        """Let go of the traces whose instance is dead."""
        # Whoever holds the lock may wait for this thread, and prunes what is left here.
        lock = self.compiler.lock
        if lock.acquire(blocking=False):
            try:
                self._hold(tuple(filter(_is_owned, self.traces)))
                point = self.point
                if point is not None and not _is_owned(point.recorded):
                    self.point = None
            finally:
                lock.release()


def _point_program(product: Product, complete: bool) -> Run:
    return lambda recorded, inputs: recorded.point_at(product, inputs, complete)


def _bounded(traces: tuple[Recorded, ...]) -> tuple[Recorded, ...]:
    """The first of the traces, as many as may be kept."""
    alike: collections.Counter[tuple] = collections.Counter()
    nodes, tape_bytes = 0, 0
    found: list[Recorded] = []
    for recorded in traces:
        alike[recorded.shapes] += 1
        nodes += recorded.nodes
        tape_bytes += recorded.trace.tape_bytes
        is_more = nodes > MOST_NODES and len(found) >= MOST_TRACES
        if found and (is_more or tape_bytes > MOST_TAPE_BYTES):
            break
        if alike[recorded.shapes] <= MOST_TRACES:
            found.append(recorded)
    return tuple(found)


def _is_current(recorded: Recorded) -> bool:
    return _is_owned(recorded) and not recorded.closure.changed()


def _is_owned(recorded: Recorded) -> bool:
    """Whether the instance that a trace belongs to, if it does, is alive."""
    return recorded.owner is None or recorded.owner.is_alive()


def _bury(memory: weakref.ref[Memory], _: weakref.ref) -> None:
    alive = memory()
    if alive is not None:
        alive.bury()
