"""Programs, made from graphs when they are first needed.

A `Compiler` makes the programs of one Function for its target, one at a time, under a lock that its
traces share, and counts their kernels and the time that they take. The `Programs` of one trace are
kept as long as that trace.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from nbhvp.graph import derive
from nbhvp.graph.copies import alone
from nbhvp.graph.node import Graph, Node, reachable
from nbhvp.plan.costs import CPU, GPU
from nbhvp.runtime.compiling import lazy
from nbhvp.runtime.compiling.announced import progress, warn
from nbhvp.runtime.compiling.garbage import collected_rarely
from nbhvp.runtime.report import Products, Report
from nbhvp.trace.record import Trace
from nbhvp.trace.recording import Note

__all__ = ["Compiler", "Programs"]


class Compiler:
    """What makes the programs of a Function, and counts what that takes."""

    def __init__(self, target: str, is_lazy: bool = False, beside: Compiler | None = None):
        place, _, number = target.partition(":")
        self._device = f"cuda:{number or 0}"
        self.has_choice = place == "auto" and _has_device(number)
        """Whether each trace has a place of its own; then this one makes those of the host."""
        target = "cpu" if place == "auto" else target
        self.target = target
        # What compiles is imported when something is to be compiled.
        self._target = (
            (lambda *of, **how: _target(target)(*of, **how)) if is_lazy else _target(target)
        )
        self._is_planned, self._is_lazy = target == "cpu", is_lazy
        self.costs = GPU if target.startswith("cuda") else CPU
        self.is_direct = target == "cpu" and not is_lazy
        """Whether there are programs that can be called by compiled code."""
        self._name, self._place, self._expected, self._has_warned = "", ("", 0), 0.0, False
        self.lock: threading.RLock = beside.lock if beside else threading.RLock()
        self.report: Report = beside.report if beside else Report()
        self.products: Products = beside.products if beside else Products()
        """Those of operators."""
        self._is_preparing = False
        self._told: set[Note] = set()
        self._other: Compiler | None = None
        _COMPILERS.add(self)

    def chosen(self, trace: Trace, is_on_device: bool) -> Compiler:
        """What makes the programs of a trace, by the place where they run. The lock is held."""
        found = self
        if self.has_choice and (is_on_device or _is_worthwhile(trace, self._device)):
            found = self._other = self._other or Compiler(self._device, beside=self)
        self.report.target = found.target
        return found

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        """Hold the lock, and count the time that programs take to be made, compiling left out."""
        with self.lock:
            outermost, self._is_preparing = not self._is_preparing, True
            start, compiling = time.perf_counter(), self.report.compile_seconds
            try:
                with collected_rarely():
                    yield
            finally:
                if outermost:
                    self._is_preparing = False
                    compiling -= self.report.compile_seconds
                    self.report.schedule_seconds += time.perf_counter() - start + compiling

    def begin(self, name: str, place: tuple[str, int]) -> None:
        """A new trace of a function: what a warning names is its line, or that of a long loop."""
        self._name, self._place, self._expected = name, place, 0.0

    def program(self, graph: Graph, state: Collection[int] = ()) -> Any:
        """The program of a graph, given which outputs only products read. The lock is held."""
        return self.recalled(self.key(graph), "program", lambda: self.made(graph, state))

    def made(self, graph: Graph, state: Collection[int] = (), is_alone: bool = False) -> Any:
        """The program of a graph, which may be `alone` already. The lock is held."""
        graph = derive.check(graph)
        if self._is_lazy:
            return lazy.Program(graph, self)
        return self.compiled(graph if is_alone else self.alone(graph), state)

    def alone(self, graph: Graph) -> Graph:
        """A graph of which plans are to be kept, in a pool where nothing else was made."""
        return alone(graph) if self._is_kept else graph

    @property
    def _is_kept(self) -> bool:
        """Whether plans are kept on the disk."""
        return self._is_planned and not self._is_lazy

    def key(self, graph: Graph) -> Any:
        """What stands for a graph on the disk; None where nothing that is made of it is kept there."""
        if not self._is_kept:
            return None
        return _stored().key_of(graph, self.costs)

    def recalled(self, key: Any, question: str, make: Callable[[], Any]) -> Any:
        """What is made of a graph, programs among it: from the disk, if a process has left it there."""
        with self.preparing():
            if key is None:
                return make()
            made, counts = _stored().recalled(key, question)
            self._count(counts)
            if made is None:
                made = make()
                _stored().keep(key, question, made)
            else:
                self.report.plans_loaded += 1
            return made

    def planned(self, graph: Graph) -> Any:
        """The steps of a program. The lock is held."""
        nodes = len(graph.nodes)
        self._expect(nodes * CPU.planned, f"{nodes:,} operations")
        return importlib.import_module("nbhvp.targets.cpu.planned").planned(graph)

    def compiled(self, graph: Graph, state: Collection[int] = (), plan: Any = None) -> Any:
        """A program that is not lazy, whose steps may be known. The lock is held."""
        if not self._is_planned:
            program = self._target(graph, state)
        else:
            plan = plan or self.planned(graph)
            seconds = plan.compile_seconds
            if self._expected + seconds > CPU.patience:
                seconds = plan.missing_seconds
            size = f"{len(graph.nodes):,} operations in {len(plan.texts):,} kernels"
            self._expect(seconds, size)
            with progress(self._name) as show:
                program = self._target(graph, state, plan=plan, progress=show)
            if program.counts.compiled == 0:
                self._expected -= seconds  # all were known
            self.is_direct = True
        counts = getattr(program, "counts", None)  # the interpreter has none
        if counts is not None:
            self._count(counts)
            names = (*self.report.hosted, *getattr(program, "hosted", ()))
            self.report.hosted = tuple(dict.fromkeys(names))
        return program

    def _count(self, counts: Any) -> None:
        """Add the kernels of a program to those of the report."""
        self.report.kernels_compiled += counts.compiled
        self.report.kernels_loaded += counts.loaded
        self.report.kernels_by_numba += counts.by_numba
        self.report.host_steps += counts.on_host
        self.report.library_steps += counts.by_library
        self.report.compile_seconds += counts.seconds

    def _expect(self, seconds: float, size: str) -> None:
        """Add to what the programs of a trace take, and warn once if that is long."""
        self._expected += seconds
        if self._expected > CPU.patience and not self._has_warned:
            self._has_warned = True
            warn(self._name, self._place, self._expected, size)

    def total(self) -> Report:
        """The counts until now, with those of operators."""
        return replace(self.report, product_runs=self.report.product_runs + self.products.total)

    def tell(self, notes: Iterable[Note]) -> None:
        """Warn of what a trace has noted, once for each text and line. The lock is held."""
        for note in notes:
            if note not in self._told:
                self._told.add(note)
                warnings.warn_explicit(note.text, UserWarning, note.file, note.line)


class Programs:
    """The programs of one trace."""

    def __init__(self, compiler: Compiler):
        self.compiler = compiler
        self._known: dict[tuple, Any] = {}

    def of(
        self, inputs: Sequence[Node], outputs: Sequence[Node], state: Collection[int] = ()
    ) -> Any:
        """The program of some outputs, given the positions of those that only products read."""
        key = (tuple(inputs), tuple(outputs))
        program = self._known.get(key)
        if program is None:
            with self.compiler.preparing():
                program = self._known.get(key)
                if program is None:
                    program = self._known[key] = self.compiler.program(Graph(*key), state)
        return program


_COMPILERS: weakref.WeakSet[Compiler] = weakref.WeakSet()


def _renew_locks() -> None:
    """A lock that another thread held at a fork would stay locked in the child."""
    for compiler in _COMPILERS:
        compiler.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def _stored() -> Any:
    return importlib.import_module("nbhvp.targets.cpu.stored")


def _has_device(number: str) -> bool:
    if not (number or "0").isdigit():
        raise _unknown(f"auto:{number}")
    return importlib.import_module("nbhvp.targets.cuda.launching.libcuda").has_device(
        int(number or 0)
    )


def _is_worthwhile(trace: Trace, name: str) -> bool:
    """Whether products of a trace are predicted to end sooner on a GPU."""
    from nbhvp.runtime.compiling import placement

    outputs = trace.outputs
    if max(node.size for node in reachable([*outputs])) < placement.SMALL:
        return False  # before anything is asked of a device
    device = importlib.import_module("nbhvp.targets.cuda.launching.driver").named(name)
    return placement.is_worthwhile(trace.inputs, outputs, device.slowness(trace.inputs[0].dtype))


def _unknown(target: str) -> ValueError:
    return ValueError(
        f"target must be 'cpu', 'cuda', 'cuda:1' ..., 'auto' or 'interpret', got {target!r}"
    )


def _target(name: str) -> Callable[..., Any]:
    """What makes programs: of a graph, and of the outputs that stay where the program runs."""
    # Imported when wanted: the compiled programs import LLVM.
    if name in ("cpu", "interpret"):
        module = "interpreted" if name == "interpret" else "cpu.program"
        program = importlib.import_module(f"nbhvp.targets.{module}").Program
        return lambda graph, state, **known: program(graph, **known)
    kind, _, number = name.partition(":")
    if kind != "cuda" or not (number or "0").isdigit():
        raise _unknown(name)
    driver = importlib.import_module("nbhvp.targets.cuda.launching.driver")
    program = importlib.import_module("nbhvp.targets.cuda.program").Program
    return functools.partial(program, driver.named(name), on_host=lambda graph: _on_host(graph))


def _on_host(graph: Graph) -> Any:
    """A program of the host, for steps that a GPU leaves there."""
    return _target("cpu")(graph, ())
