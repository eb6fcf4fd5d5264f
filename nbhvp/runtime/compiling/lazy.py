"""Programs that NumPy interprets until compiling them pays.

A program counts what its runs are predicted to take by the interpreter. When the next run would bring
the sum above the predicted seconds of scheduling its graph, the graph is scheduled; when it would bring
it above those of compiling the kernels as well, they are compiled, and from then on the compiled
program runs. So a program takes at most about twice as long as by the better of the two ways, and a
large one is compiled at once, as is one of matrix products in which NumPy's BLAS would use threads.

Invariants: predictions are counts of nodes, extents and texts times figures of the machine. Neither a
clock, nor what is compiled already in this process or on the disk, has a part in the choice: the same
calls give the same bits in each run. A program is its own account, whatever others have run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbhvp.graph.node import Graph
from nbhvp.plan.costs import CPU
from nbhvp.targets import interpreted

if TYPE_CHECKING:
    from nbhvp.runtime.compiling.programs import Compiler

__all__ = ["Program"]


class Program:
    """The outputs of a graph, by the interpreter at first."""

    def __init__(self, graph: Graph, compiler: Compiler):
        self.graph = graph
        self.compiled: Any = None
        """The compiled program, once there is one."""
        self._compiler = compiler
        self._interpreted = interpreted.Program(graph, on_one_thread=True)
        self._run = interpreted.seconds(graph)
        self._spent = 0.0
        self._limit = CPU.planned * len(graph.nodes)
        self._plan: Any = None

    @property
    def seconds(self) -> float:
        """Of a run, as it is now."""
        return self._run if self.compiled is None else self.compiled.seconds

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs, as fresh arrays, at the values of all inputs."""
        return self.chosen()(*inputs)

    def bind(self, *cold: np.ndarray) -> Any:
        """The program with all inputs but the last fixed."""
        return Bound(self, cold) if self.compiled is None else self.compiled.bind(*cold)

    def alone(self) -> Any:
        """What a direct call needs; None as long as it is interpreted."""
        return None if self.compiled is None else self.compiled.alone()

    def chosen(self) -> Any:
        """What makes the next run, which is counted."""
        if self.compiled is None:
            self._spent += self._run
            if self._spent > self._limit:
                self._advance()
        if self.compiled is not None:
            return self.compiled
        self._compiler.report.interpreted_runs += 1
        return self._interpreted

    def _advance(self) -> None:
        """Schedule; and compile, if that is worthwhile too."""
        with self._compiler.preparing():
            if self._plan is None:
                self._plan = self._compiler.planned(self.graph)
                self._limit += CPU.first + self._plan.compile_seconds
            if self._spent > self._limit and self.compiled is None:
                self.compiled = self._compiler.compiled(self.graph, plan=self._plan)


class Bound:
    """A product at a fixed point, by the interpreter at first."""

    def __init__(self, program: Program, cold: Sequence[np.ndarray]):
        self.program, self.stored = program, cold
        self._compiled: Any = None

    def directly(self, x: Any) -> np.ndarray | None:
        """The direct call of the compiled product, if there is one."""
        return None if self._compiled is None else self._compiled.directly(x)

    def __call__(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The last output, in a fresh array or in `out`."""
        if self._compiled is not None:
            return self._compiled(x, out)
        chosen = self.program.chosen()
        bound = chosen.bind(*self.stored)
        if chosen is self.program.compiled:
            self._compiled = bound
        return bound(x, out)
