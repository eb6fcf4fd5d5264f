"""A graph, compiled for the CPU: its steps, its memory, and its calls.

A program is a list of stretches: words that one compiled call runs (kernels and BLAS by address),
separated by library calls on whole arrays; most programs have no library call. One input is *hot*: it
changes with every call, as does the output; all other inputs may be bound, for a product at a fixed
point. A call takes a workspace from a free list and returns it.

Invariant: calls from several threads never share a workspace. A workspace keeps the buffers alive to
which the addresses in its words point.
"""

from __future__ import annotations

import functools
import importlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nbhvp.graph.node import Graph, Node
from nbhvp.plan.costs import CPU
from nbhvp.plan.layout import Layout, Scratch
from nbhvp.targets.cpu import results
from nbhvp.targets.cpu import run as cpu
from nbhvp.targets.cpu.entries import forms
from nbhvp.targets.cpu.parts import Parts, Stretch
from nbhvp.targets.native import cache

if TYPE_CHECKING:
    from nbhvp.targets.cpu.planned import Planned

__all__ = ["Bound", "Program"]

if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
    raise RuntimeError(
        "NUMBA_DISABLE_JIT is set, with which nothing can be compiled: unset it, or use "
        "nbhvp.differentiable(fun, target='interpret')"
    )

MOST_FREE = 16
"""Workspaces that a program keeps for later calls."""


class Program:
    """The outputs of a graph, compiled.

    Parameters
    ----------
    graph : Graph
        What to compute.
    hot : int
        The position of the input that changes with every call.
    main : int
        The position of the output that each call writes to a fresh array; other outputs are copied,
        if they are small.
    plan : Planned, optional
        The steps of the graph, if they are known.
    progress : callable, optional
        ``progress(k, total)`` is called before each kernel is loaded or compiled.
    parts : Parts, optional
        What the program consists of, in the place of all else.
    """

    def __init__(
        self,
        graph: Graph | None = None,
        hot: int = -1,
        main: int = -1,
        plan: Planned | None = None,
        progress: Callable[[int, int], None] = lambda k, total: None,
        parts: Parts | None = None,
    ):
        before = cache.counts()
        self.kernels: Sequence[cache.Kernel] = ()
        """Those of a program that was planned in this process."""
        if parts is None:
            assert graph is not None, "a program is made from a graph or from its parts"
            hot, main = hot % len(graph.inputs), main % len(graph.outputs)
            assembly = importlib.import_module("nbhvp.targets.cpu.assembly")
            parts, self.kernels = assembly.assembled(graph, hot, main, plan, progress)
        self.parts = parts
        self.graph, self.hot, self.main = parts.graph, parts.hot, parts.main
        self.seconds = parts.seconds
        self._stretches, self._inputs, self._outputs = parts.stretches, parts.inputs, parts.outputs
        self._direct, self._buffers, self._layout = parts.direct, parts.buffers, parts.layout
        self.parallel = self.seconds >= CPU.wake
        self.runner = _runner(self.seconds, parts.calls_blas)
        self._cold = [node for k, node in enumerate(self._inputs) if k != self.hot]
        references = [_references(stretch) for stretch in self._stretches]
        self._patches = {
            node: [known.get(node) for known in references] for node in (*self._cold, *self._direct)
        }
        x = self.graph.inputs[self.hot]
        self._hot = x.shape, np.dtype(x.dtype.char)
        self._runs, self._is_prepared = 0, False
        self.directly: Callable = general
        """``directly(cold, x)``, for the hot input alone; None of what it leaves to the general way."""
        self._free: list[_Workspace] = []
        self._most_free = MOST_FREE if self._layout.size <= CPU.l2 else 1
        self.counts = cache.counts() - before
        shape, dtype = self.graph.outputs[self.main].shape, self.graph.outputs[self.main].dtype
        is_large = math.prod(shape) * dtype.itemsize >= CPU.l2
        self.empty = functools.partial(results.empty if is_large else np.empty, shape, dtype)
        """A new array for the main output."""

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs, as fresh arrays, at the values of all inputs."""
        cold = [a for k, a in enumerate(inputs) if k != self.hot] if len(inputs) > 1 else ()
        workspace = self.take(cold)
        main = self.empty()
        if len(self._outputs) == 1:
            workspace.run(_contiguous(inputs[self.hot]), main)
            self.give(workspace)
            return [main]
        direct = {n: results.empty(shape, n.dtype) for n, shape in self._direct.items()}
        for node, array in direct.items():
            workspace.point(node, array.reshape(node.shape))
        workspace.run(_contiguous(inputs[self.hot]), main)
        found = workspace.results(main, direct)
        self.give(workspace)
        return found

    @property
    def source(self) -> str:
        """The text of every kernel, in the order of the steps."""
        return "\n\n".join(kernel.source for kernel in self.kernels)

    def bind(self, *cold: np.ndarray) -> Bound:
        """The program with all inputs but the hot one fixed."""
        return Bound(self, cold)

    def alone(self) -> _Alone | None:
        """What a direct call needs; None unless it is one call on one thread with small results."""
        main = self.graph.outputs[self.main]
        is_large = main.size * main.dtype.itemsize >= CPU.l2
        is_single = len(self._stretches) == 1 and self._stretches[0].library is None
        if self.runner is not cpu.run.call or self._direct or is_large or not is_single:
            return None
        return _Workspace(self).alone()

    def takes(self, x: Any) -> bool:
        """Whether x is an array in C order with the shape and the dtype of the hot input."""
        shape, dtype = self._hot
        return (
            type(x) is np.ndarray and x.dtype is dtype and x.shape == shape and x.flags.c_contiguous
        )

    def prepare(self) -> None:
        """Count a product, and make direct calls, if it can be called so, once there are some."""
        self._runs += 1
        if not self._is_prepared and forms.is_worthwhile(self._runs):
            self._is_prepared = True
            form = forms.Form([forms.Array(*self._hot)])
            cold = len(self._inputs) - 1
            self.directly = form.evaluate(self, cold=cold, as_tuple=False) or general

    def take(self, cold: Sequence[np.ndarray]) -> _Workspace:
        """A workspace that nobody else uses, bound to the values of all inputs but the hot one."""
        try:
            workspace = self._free.pop()
        except IndexError:
            workspace = _Workspace(self)
        if cold:
            workspace.bind(cold)
        return workspace

    def give(self, workspace: _Workspace) -> None:
        """Take a workspace back, for later calls and points."""
        if len(self._free) < self._most_free:
            workspace.release()
            self._free.append(workspace)


def general(*_: Any) -> None:
    """A direct call that leaves everything to the general way."""


class Bound:
    """A program of one input: a product at a fixed point. Safe to call from several threads."""

    def __init__(self, program: Program, cold: Sequence[np.ndarray]):
        self.program, self.stored = program, cold
        self._free: _Free | None = None

    def directly(self, x: Any) -> np.ndarray | None:
        """The main output, if x is an array in C order of the right shape and dtype."""
        found = self.program.directly(self.stored, x)
        return self._run(x) if found is None and self.program.takes(x) else found

    def __call__(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The main output at a C-contiguous x of the right shape and dtype."""
        found = self.program.directly(self.stored, x) if out is None else None
        return self._run(x, out) if found is None else found

    def _run(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        self.program.prepare()
        free = self._free = self._free or _Free(self.program)
        try:
            workspace = free.workspaces.pop()
        except IndexError:
            workspace = self.program.take(self.stored)
        if out is None:
            out = self.program.empty()
        workspace.run(x, out)
        free.workspaces.append(workspace)
        return out


class _Free:
    """Workspaces that are bound to the inputs of one point, which the program gets back in the end."""

    def __init__(self, program: Program):
        self.program = program
        self.workspaces: list[_Workspace] = []

    def __del__(self):
        for workspace in self.workspaces:
            self.program.give(workspace)


class _Workspace:
    """The buffers of one call in flight, and the words that point to them."""

    def __init__(self, program: Program):
        self.program = program
        self.arrays = _allocate(program._buffers, program._layout)
        self.cold: tuple[np.ndarray, ...] = ()
        hot, main = program._inputs[program.hot], program._outputs[program.main]
        self._hot, self._main = hot, main
        addresses = _Addresses(self.arrays)
        self._words = [
            cpu.assemble(stretch.steps, addresses, v=hot, out=main)
            if stretch.library is None
            else stretch.library
            for stretch in program._stretches
        ]
        self._call = program.runner
        self._is_single = len(self._words) == 1 and program._stretches[0].library is None
        if self._is_single:
            # Most programs are one compiled call, which needs addresses and no arrays.
            self.run = functools.partial(self._call, self._words[0])  # type: ignore[method-assign]
        shapes = (node.shape for node in program.graph.outputs)
        others = list(zip(program._outputs, shapes, strict=True))
        del others[program.main]
        self._others = [
            (node, None if node is main or node in program._direct else self.arrays[node], shape)
            for node, shape in others
        ]

    def bind(self, cold: Sequence[np.ndarray]) -> None:
        """Point to the values of all inputs but the hot one, which the workspace keeps alive."""
        self.cold = tuple(map(_contiguous, cold))
        for node, array in zip(self.program._cold, self.cold, strict=True):
            self.point(node, array)

    def point(self, node: Node, array: np.ndarray) -> None:
        """Read an input from an array, or write an output there."""
        self.arrays[node] = array
        for words, references in zip(self._words, self.program._patches[node], strict=True):
            if references is not None:
                cpu.place.call(words, references, array)

    def alone(self) -> _Alone:
        """The addresses of a workspace that nobody else uses."""
        program, (words,) = self.program, self._words
        assert isinstance(words, np.ndarray), "no library call"
        start, hot, main = cpu.address(words), int(words[1]), int(words[2])
        patches = [program._patches.get(node, [None])[0] for node in program._inputs]
        inputs = [0 if one is None else cpu.address(one) for one in patches]
        inputs[program.hot] = start + hot
        result, arrays = (
            program.graph.outputs[program.main],
            [array for _, array, _ in self._others],
        )
        buffer = None
        if result.shape == () or any(array is None for array in arrays):
            # A number, or an output that is in the list twice, is copied to new arrays.
            buffer = np.empty(result.shape, result.dtype)
            cpu.place.call(words, words[main // 8 :], buffer)
        outputs = [buffer if array is None else array for array in arrays]
        outputs.insert(program.main, buffer)
        return _Alone(words, inputs, outputs, start + main, result.dtype, (self, patches))

    def release(self) -> None:
        """Let go of the values of inputs."""
        if self.cold or not self._is_single or self.program._direct:
            self.cold = ()
            for node in (*self.program._inputs, *self.program._direct):
                self.arrays.pop(node, None)

    def run(self, x: np.ndarray, out: np.ndarray) -> None:
        self.arrays[self._hot], self.arrays[self._main] = x, out.reshape(self._main.shape)
        for words in self._words:
            if isinstance(words, Node):
                self._library(words)
            else:
                self._call(words, x, out)

    def _library(self, node: Node) -> None:
        args = [self.arrays.get(a, a.value) for a in node.args]
        with np.errstate(all="ignore"):
            self.arrays[node][...] = node.primitive.evaluate(*args, **node.params)

    def results(self, main: np.ndarray, direct: dict[Node, np.ndarray]) -> list[np.ndarray]:
        """All outputs as arrays of their own, given those that were written where they stay."""
        written = direct.copy()
        found = []
        for node, array, shape in self._others:
            own = direct.pop(node, None)
            if own is None:  # a small one, or one that is in the list already
                own = (written.get(node, main) if array is None else array).reshape(shape).copy()
            found.append(own)
        found.insert(self.program.main, main)
        return found


@dataclass(frozen=True)
class _Alone:
    """A workspace for direct calls: addresses of patches, and buffers of outputs."""

    words: np.ndarray
    inputs: list[int]
    """Where the patches of each input lie, or 0."""
    outputs: list[np.ndarray | None]
    """None for an array that each call makes."""
    main: int
    """Where the patches of that array lie."""
    dtype: np.dtype
    kept: tuple


def _contiguous(array: np.ndarray) -> np.ndarray:
    """The array itself if it is in C order: NumPy's function of this name makes () into (1,)."""
    assert isinstance(array, np.ndarray), "compiled code takes the addresses of arrays"
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _runner(seconds: float, products: bool) -> Callable:
    """How words are run: on one thread, or on several, each with a BLAS of one thread."""
    call = cpu.run.call if seconds < CPU.wake else cpu.run_parallel
    if not products:
        return call
    blas = importlib.import_module("nbhvp.targets.cpu.blas")  # which opens the library

    def run(words, x, out):
        with blas.single_threaded:
            call(words, x, out)

    return run


class _Addresses(dict):
    """Addresses of buffers and constants; inputs that are bound later stand as zero."""

    def __init__(self, arrays):
        super().__init__({key: cpu.address(array) for key, array in arrays.items()})

    def __missing__(self, key):
        return cpu.address(key.value) if key.value is not None else 0


def _references(stretch: Stretch) -> dict[Any, np.ndarray]:
    """Where the words of a stretch hold addresses within each buffer, as `cpu.place` takes them."""
    found: dict[Any, list[int]] = {}
    word = cpu.HEADER + cpu.STEP * len(stretch.steps)
    for step in stretch.steps:
        for entry in step.table:
            if isinstance(entry, cpu.Ref):
                found.setdefault(entry.buffer, []).extend((word, entry.offset))
            word += 2 if isinstance(entry, complex) else 1
    return {node: np.array([len(some) // 2, *some], np.int64) for node, some in found.items()}


def _allocate(buffers: Sequence[Node | Scratch], where: Layout) -> dict:
    """One block of memory, cut into arrays."""
    block = np.empty(where.size + CPU.line, np.uint8)
    start = -block.ctypes.data % CPU.line
    return {b: np.ndarray(b.shape, b.dtype, block, start + where.offsets[b]) for b in buffers}
