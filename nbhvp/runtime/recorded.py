"""One trace, and the programs that are made from it when they are first needed.

The guards of a trace are the first outputs of all its programs. All products come from one mechanism:
a `LinearMap` is split into a point program (once per x) and a product program (once per direction),
and together these are a `Linearized` map.

Calls that repeat are made directly: functions of compiled code (`targets.cpu.forms`) test whether the
arguments are those of this trace, and run its programs. `runtime.direct` makes them.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.batch import batched
from nbhvp.graph.linear_map import LinearMap, Primal, Product
from nbhvp.graph.node import Graph, Node
from nbhvp.runtime.blocks import FEW, MANY, Several, choose, padded_from
from nbhvp.runtime.calls.direct import Direct, directly, general, is_worthwhile
from nbhvp.runtime.compiling.programs import Compiler, Programs
from nbhvp.trace.record import Trace

if TYPE_CHECKING:
    from nbhvp.runtime.matrices import Matrix

__all__ = ["Linearized", "Recorded"]

MOST_MATRICES = 2
"""Of a product, for different integers among the arguments."""

LONG = 20_000
"""Operations of loops over time for which a state takes longer than what a direct call saves."""


class Recorded:
    """One trace of a function, and its programs.

    Programs take arrays in C order: x and those among the other arguments.
    """

    def __init__(self, trace: Trace, key: tuple, compiler: Compiler, source: str):
        self.trace, self.closure, self.key = trace, trace.closure, key
        (self.output,) = trace.outputs
        self.primal = Primal(trace.inputs, self.output, source)
        self.owner, *_ = key
        self.shapes = tuple(node.shape for node in trace.inputs)
        self.nodes = self.output.index - min(node.index for node in trace.inputs)
        """About as many as there are."""
        self.direct = Direct()
        operations = sum(loop.steps * loop.operations for loop in trace.recurrences)
        self.is_recurrent = operations > LONG  # by long loops
        self._calls = 0
        self.guards = tuple(node for node, _ in trace.guards)
        self._expected = tuple(np.asarray(v, node.dtype).tobytes() for node, v in trace.guards)
        graph = Graph(trace.inputs, (*self.guards, self.output))
        if trace.recurrences:
            from nbhvp.plan.splitting.checkpoints import brief

            graph = brief(graph)
        *guards, output = graph.outputs
        self._brief, self._brief_guards = replace(self.primal, output=output), tuple(guards)
        """For programs that keep no state."""
        self.compiler = compiler
        self._programs = Programs(compiler)
        self._linear_maps: dict[Product, LinearMap] = {}
        self._linearized: dict[Product, Linearized] = {}
        self._whole: dict[Product, Any] = {}
        self._matrices: dict[Product, list[tuple[bool, list[np.ndarray], Matrix]]] = {}
        """Whether the pattern was given, what it depends on, and the matrix; the latest first."""
        self._operands: dict[Product, tuple[Node, ...]] = {}
        self._gradient: Node | None = None
        self._value_program: Guarded | None = None
        self._gradient_program: Guarded | None = None
        self.death: weakref.ref | None = None
        """Of the instance whose method was traced: what happens then."""

    def count_call(self) -> None:
        """Let later calls go directly, once that is worthwhile."""
        if self.direct.watches is not None or not self.compiler.is_direct:
            return
        self._calls += 1
        if is_worthwhile(self._calls):
            self.direct = directly(self.trace, self.key, is_compiled=True)
        elif self.direct.form is None and self._calls > 1:
            self.direct = directly(self.trace, self.key, is_compiled=False)

    def _see_watches(self) -> None:
        """What a derivative depends on may be watched in addition."""
        if self.direct.watches not in (None, self.closure.watches):
            self._calls, self.direct = 0, Direct()

    def holds(self, outputs: Sequence[np.ndarray]) -> bool:
        """Whether the guards, the first outputs of a program, are as they were when tracing."""
        return all(a.tobytes() == b for a, b in zip(outputs, self._expected, strict=False))

    # Not cached properties: before Python 3.12 these hold a lock of their own while they compute,
    # and a thread that holds the compiler's lock may wait for it.
    @property
    def gradient(self) -> Node:
        if self._gradient is None:
            self._gradient = self._derived(lambda: self.primal.gradient)
        return self._gradient

    def value_at(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Guards and the value."""
        if self._value_program is None:
            self._value_program = self._guarded(self.guards, self.output)
        program = self._value_program
        if self.direct.value is general:
            self.direct.value = program.directly(self.direct, as_numbers=True, as_tuple=False)
        return program(inputs)

    def gradient_at(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Guards, value and gradient."""
        if self._gradient_program is None:
            gradient = self._derived(lambda: self._brief.gradient)
            self._gradient_program = self._guarded(self._brief_guards, self._brief.value, gradient)
        program = self._gradient_program
        if self.direct.gradient is general:
            self.direct.gradient = program.directly(self.direct, as_numbers=True)
        return program(inputs)

    def guards_at(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Guards alone."""
        return self._programs.of(self.trace.inputs, self.guards)(*inputs) if self.guards else []

    def point_at(
        self, product: Product, inputs: Sequence[np.ndarray], complete: bool
    ) -> list[np.ndarray]:
        """Guards, the state of a product, and results if `complete`; nothing if nothing is needed."""
        direct = self.direct
        program = self.linearized(product).point(complete)
        known = direct.full_points if complete else direct.points
        if program is None:
            known[product] = direct.needing_nothing()
            return []
        if known.get(product, general) is general:
            known[product] = direct.entry(program, self._expected)
        self.compiler.report.point_runs += 1
        return program(*inputs)

    def _guarded(self, guards: tuple[Node, ...], *outputs: Node) -> Guarded:
        """The program of guards and some outputs, of which the result is the first."""
        known = [(node.primitive, node.args) for node in guards]
        if known == [(p.isfinite, outputs[:1])] and self._expected == (_TRUTHS[1].tobytes(),):
            # Python tells in less time than one more output of a program takes.
            return Guarded(self._programs.of(self.trace.inputs, outputs), is_finite=True)
        return Guarded(self._programs.of(self.trace.inputs, (*guards, *outputs)), self._expected)

    def _derived(self, derive: Callable[[], Any]) -> Any:
        """What is derived of the function."""
        with self.compiler.preparing():
            self._see_ties()
            found = derive()
            self._see_watches()
            return found

    def linear_map(self, product: Product) -> LinearMap:
        """The graph of a product."""
        if product not in self._linear_maps:
            with self.compiler.preparing():
                if product not in self._linear_maps:
                    self._linear_maps[product] = self._derived(lambda: product(self.primal))
        return self._linear_maps[product]

    def linearized(self, product: Product) -> Linearized:
        """The programs of a product: at a point, and for each direction."""
        if product not in self._linearized:
            with self.compiler.preparing():
                if product not in self._linearized:
                    linear = self.linear_map(product)
                    self._linearized[product] = Linearized(linear, self.guards, self._programs)
        return self._linearized[product]

    def matrix(
        self,
        product: Product,
        inputs: Sequence[np.ndarray],
        is_symmetric: bool,
        pattern: Any = None,
    ) -> Matrix:
        """The pattern of a product's matrix at a point, and the way to its entries.

        If the pattern is given, by rows, it is taken as it is.
        """
        linear, known = self.linear_map(product), self._matrices.setdefault(product, [])
        operands = self._integer_operands(product) if pattern is None else ()
        values = self._programs.of(linear.inputs, operands)(*inputs) if operands else []
        values = list(map(np.asarray, values))
        if pattern is not None:
            values = [pattern.indptr.copy(), pattern.indices.copy()]
        for is_given, others, matrix in tuple(known):
            if is_given == (pattern is not None) and all(map(np.array_equal, values, others)):
                return matrix
        from nbhvp.runtime.matrices import coloured, matrix_of

        with self.compiler.preparing():
            if pattern is None:
                given = dict(zip(operands, values, strict=True))
                matrix = matrix_of(linear, given, self.primal.source, is_symmetric)
            else:
                matrix = coloured(pattern, is_symmetric)
        self.compiler.report.dense = matrix.dense
        known[:] = [(pattern is not None, values, matrix), *known[: MOST_MATRICES - 1]]
        return matrix

    def _integer_operands(self, product: Product) -> tuple[Node, ...]:
        """The nodes on whose values the pattern of a product's matrix depends."""
        if product not in self._operands:
            linear = self.linear_map(product)
            with self.compiler.preparing():
                from nbhvp.graph.sparsity.propagation import integer_operands

                self._operands[product] = integer_operands(linear.product, linear.direction)
        return self._operands[product]

    def entries_at(
        self, product: Product, matrix: Matrix, inputs: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Guards, and what the program of a matrix gives, if that has one."""
        from nbhvp.runtime.matrices import Coloured

        if isinstance(matrix.way, Coloured):
            return self.guards_at(inputs)
        outputs = (*self.guards, matrix.way.output)
        program = self._programs.of(self.linear_map(product).inputs, outputs)
        return list(map(np.asarray, program(*inputs)))  # a sparse array is one of SciPy's

    def whole_at(
        self, product: Product, inputs: Sequence[np.ndarray], v: np.ndarray
    ) -> list[np.ndarray]:
        """Guards, and a product by one program of the inputs and the direction."""
        if product not in self._whole:
            from nbhvp.plan.fission import fissioned

            graph = self._derived(lambda: product(self._brief)).graph
            *given, along = graph.inputs
            with self.compiler.preparing():
                graph = fissioned(Graph((along, *given), (*self._brief_guards, *graph.outputs)))
                self._whole[product] = self._programs.of(graph.inputs, graph.outputs)
        return self._whole[product](v, *inputs)  # results lie where the first input does

    def _see_ties(self) -> None:
        """No derivative of a branch that loses it; a note on one that holds at this point alone."""
        for tie in self.trace.ties:
            if tie.is_lost:
                raise tie.error
        self.compiler.tell(tie.note for tie in self.trace.ties)


_TRUTHS = np.array(False), np.array(True)


@dataclass(frozen=True)
class Guarded:
    """A program, and what its first outputs must be, or whether the first must be finite."""

    program: Any
    expected: Sequence[bytes] = ()
    is_finite: bool = False

    def __call__(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Guards and outputs."""
        outputs = self.program(*inputs)
        return [_TRUTHS[math.isfinite(outputs[0])], *outputs] if self.is_finite else outputs

    def directly(self, direct: Direct, **how: bool) -> Callable:
        """The direct call, which gives what is no guard."""
        return direct.entry(self.program, self.expected, is_finite=self.is_finite, **how)


class Linearized:
    """A linear map at any point: what runs once per point, and what once per direction.

    The point program maps inputs to guards, state and perhaps results; the product program state,
    inputs and a direction to the product.
    """

    def __init__(self, linear: LinearMap, guards: tuple[Node, ...], programs: Programs):
        self.inputs, self.direction, self.results = linear.inputs, linear.direction, linear.results
        self.costs = programs.compiler.costs
        self._programs, self._guards = programs, len(guards)
        self._whole = Graph(linear.graph.inputs, (*guards, *linear.results, linear.product))
        self._halves: tuple[tuple[Node, ...], Graph] | None = None
        compiler = programs.compiler
        self._key = compiler.key(self._whole)
        self.state, self.product = compiler.recalled(self._key, f"split {len(guards)}", self._made)
        """What a point keeps, of which shapes and dtypes count alone, and the program of a product."""
        compiler.report.state_bytes = sum(node.size * node.dtype.itemsize for node in self.state)
        self._points: dict[bool, Any] = {}
        self._block = 0
        """How many directions are taken at once; 0 until that is asked for."""
        self._several: dict[int, Several] = {}

    def split(self) -> tuple[tuple[Node, ...], Graph]:
        """The state, and the graph of the product that starts from it."""
        if self._halves is None:
            from nbhvp.plan.splitting.split import split

            with self._programs.compiler.preparing():
                whole = self._whole = self._programs.compiler.alone(self._whole)
                *known, product = whole.outputs
                *_, direction = whole.inputs
                graph = derive.check(Graph(whole.inputs, (product,)), linear_in=direction)
                self._halves = split(graph, direction, self.costs, known)
        return self._halves

    def _made(self) -> tuple[tuple[Node, ...], Any]:
        state, product = self.split()
        # What the split has scheduled already is known in its pool.
        return state, self._programs.compiler.made(product, is_alone=True)

    def point(self, complete: bool) -> Any:
        """The program of guards, state, and results if `complete`; None where nothing is needed."""
        if not (complete or self.state or self._guards):
            return None  # the product needs no state, and nothing can fail
        # Who has asked for gradients will do so at other points: one program serves for both.
        compiler = self._programs.compiler
        complete = complete or True in self._points or compiler.report.gradient_runs > 0
        if complete not in self._points:
            with compiler.preparing():
                if complete not in self._points:
                    make = functools.partial(self._made_point, complete)
                    question = f"point {self._guards} {complete}"
                    self._points[complete] = compiler.recalled(self._key, question, make)
        return self._points[complete]

    def _made_point(self, complete: bool) -> Any:
        state, _ = self.split()
        *inputs, _ = self._whole.inputs
        guards, results = (
            self._whole.outputs[: self._guards],
            self._whole.outputs[self._guards : -1],
        )
        graph = Graph(tuple(inputs), (*guards, *state, *(results if complete else ())))
        places = range(len(guards), len(guards) + len(state))
        # In the pool of the split, where the state and what the results need are the same nodes.
        return self._programs.compiler.made(graph, places, is_alone=True)

    def several(self, count: int) -> Several | None:
        """The product with a block of directions, where `count` are worth a program."""
        compiler = self._programs.compiler
        if not self._block:
            choice = lambda: choose(self.split()[1], self.costs) or 1
            self._block = compiler.recalled(self._key, "block", choice)
        has_both = self._block == MANY and not self.costs.has_vectors
        block = FEW if has_both and count <= FEW else self._block
        if block == 1 or count < padded_from(block):
            return None
        if block not in self._several:
            with compiler.preparing():
                make = functools.partial(self._made_several, block)
                program = compiler.recalled(self._key, f"several {block}", make)
                if program is None:
                    self._block = 1
                    return None
                self._several[block] = Several(program, block)
        return self._several[block]

    def _made_several(self, block: int) -> Any:
        graph = self._programs.compiler.alone(self.split()[1])
        wide = batched(graph, graph.inputs[-1], block)
        return None if wide is None else self._programs.compiler.made(wide, is_alone=True)
