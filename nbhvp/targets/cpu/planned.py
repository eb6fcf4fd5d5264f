"""A graph as the kernels and library calls of a program, before anything is compiled.

Seconds to compile follow from the texts of the kernels (`predicted`), seconds of a run from their
extents and operations. Both are counts times figures of the machine, so they are the same in each run.
A kernel goes without vectors if it has no loops, or if `CPU.runs` runs save less time than it takes to
compile them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nbhvp.graph.node import Graph
from nbhvp.plan.costs import CPU
from nbhvp.plan.fusion import fused
from nbhvp.plan.nests.text import KernelCall
from nbhvp.plan.recurrence import Repeated
from nbhvp.plan.schedule import MatrixProduct, Schedule, Step, schedule
from nbhvp.targets.cpu import repeat
from nbhvp.targets.cpu.kernels.nests import emit, has_kernels
from nbhvp.targets.cpu.predicted import compile_seconds
from nbhvp.targets.native import cache
from nbhvp.targets.native.machine import Effort

__all__ = ["Planned", "effort", "planned", "step_of"]


@dataclass(frozen=True)
class Planned:
    """The steps of a program, and the kernels of each; a step without any has none."""

    schedule: Schedule
    calls: Sequence[tuple[Step, Sequence[KernelCall]]]

    @property
    def compile_seconds(self) -> float:
        """To compile all kernels, as if none was known."""
        return sum(compile_seconds(*text) for text in self.texts)

    @property
    def missing_seconds(self) -> float:
        """To compile those that neither this process nor the disk has."""
        return sum(compile_seconds(*text) for text in self.texts if not cache.is_known(*text))

    @property
    def texts(self) -> dict[tuple[str, Effort], None]:
        """The text of each kernel once, and how much LLVM is asked for it."""
        return dict.fromkeys((c.source, effort(c)) for _, calls in self.calls for c in calls)

    @property
    def seconds(self) -> float:
        """One run, on one thread; calls of NumPy are not counted."""
        return sum(
            _matrix_seconds(step) + sum(c.seconds for c in calls) for step, calls in self.calls
        )


def planned(graph: Graph) -> Planned:
    """The steps of a program of a graph."""
    plan = schedule(graph)
    return Planned(plan, [(step, _calls(step)) for step in fused(plan.steps)])


def _calls(step: Step) -> Sequence[KernelCall]:
    if isinstance(step, Repeated):
        inner = (call for _, calls in step_of(step).calls for call in calls)
        return [repeat.first_row(step), *inner]
    return emit(step) if has_kernels(step) else ()


@functools.lru_cache(maxsize=64)
def step_of(step: Repeated) -> Planned:
    """The program that a recurrence repeats; its kernels take the seconds of all runs."""
    times = step.node.params["length"]
    calls = [
        (one, [replace(call, seconds=call.seconds * times) for call in _calls(one)])
        for one in fused(step.plan.steps)
    ]
    return Planned(step.plan, calls)


def effort(call: KernelCall) -> Effort:
    """How much LLVM is asked for a kernel: vectors, where they save more time than they take."""
    compiling = compile_seconds(call.source) * (1 - CPU.without_vectors)
    if call.seconds * CPU.lanes * CPU.runs < compiling or not call.has_loops:
        return Effort.LITTLE
    return Effort.SCALAR if call.has_short_loops else Effort.FULL


def _matrix_seconds(step: Step) -> float:
    """About how long BLAS takes."""
    time = 0.0
    if isinstance(step, MatrixProduct):
        for term, _, _ in step.terms:
            x = term.args[0]
            time += term.size * x.shape[2] * CPU.multiply_add
            time += x.size * CPU.fetch(x.size * x.dtype.itemsize)
    return time
