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
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbhvp.graph.node import Graph, Node
from nbhvp.graph.sparsity.interleave import interleave
from nbhvp.plan.costs import CPU
from nbhvp.plan.layout import Layout, layout
from nbhvp.plan.nests.nest import Nest
from nbhvp.plan.nests.text import KernelCall, Pointer, Scratch, Symbol, code
from nbhvp.plan.recurrence import Repeated
from nbhvp.plan.schedule import Library, MatrixProduct, Operand, Schedule
from nbhvp.targets.cpu import blas, repeat, results, strips
from nbhvp.targets.cpu import run as cpu
from nbhvp.targets.cpu.entries import forms
from nbhvp.targets.cpu.kernels.nests import has_kernels
from nbhvp.targets.cpu.planned import Planned, effort, planned, step_of
from nbhvp.targets.native import cache, machine

__all__ = ["Bound", "Program"]

if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
    raise RuntimeError(
        "NUMBA_DISABLE_JIT is set, with which nothing can be compiled: unset it, or use "
        "nbhvp.differentiable(fun, target='interpret')"
    )

MOST_FREE = 16
"""Workspaces that a program keeps for later calls."""


@dataclass(frozen=True)
class _Stretch:
    """Steps that one compiled call runs, or one library call."""

    steps: tuple[cpu.Step, ...] = ()
    library: Node | None = None


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
    """

    def __init__(
        self,
        graph: Graph,
        hot: int = -1,
        main: int = -1,
        plan: Planned | None = None,
        progress: Callable[[int, int], None] = lambda k, total: None,
    ):
        self.graph = graph
        self.hot = hot % len(graph.inputs)
        self.main = main % len(graph.outputs)
        before = cache.counts()
        plan = plan or planned(graph)
        self.seconds = plan.seconds
        known = cache.compiled_at_once(plan.texts, progress)
        self._stretches, self.kernels = _compile(plan, progress, known)
        steps = plan.schedule
        self._inputs = steps.graph.inputs
        self._outputs = steps.graph.outputs
        written = self._outputs[self.main]
        self._direct = {
            node: shape
            for node, shape in zip(self._outputs[::-1], steps.shapes[::-1], strict=True)
            if node is not written and node.size * node.dtype.itemsize >= CPU.l1
        }
        self._buffers = _buffers(steps, self._stretches, {written, *self._direct})
        self._layout = _layout(steps, self._stretches, self._buffers)
        self.parallel = self.seconds >= CPU.wake
        products = any(_may_use_threads(step) for step in steps.steps)
        self.runner = _runner(self.seconds, products)
        self._cold = [node for k, node in enumerate(self._inputs) if k != self.hot]
        references = [_references(stretch) for stretch in self._stretches]
        self._patches = {
            node: [known.get(node) for known in references] for node in (*self._cold, *self._direct)
        }
        x = graph.inputs[self.hot]
        self._hot = x.shape, np.dtype(x.dtype.char)
        self._runs, self._is_prepared = 0, False
        self.directly: Callable = general
        """``directly(cold, x)``, for the hot input alone; None of what it leaves to the general way."""
        self._free: list[_Workspace] = []
        self._most_free = MOST_FREE if self._layout.size <= CPU.l2 else 1
        self.counts = cache.counts() - before
        shape, dtype = graph.outputs[self.main].shape, graph.outputs[self.main].dtype
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

    def run(words, x, out):
        with blas.single_threaded:
            call(words, x, out)

    return run


def _may_use_threads(step) -> bool:
    """Whether a step is a product that BLAS would run on threads of its own, were it let."""
    if isinstance(step, Repeated):
        return any(map(_may_use_threads, step.plan.steps))
    if not isinstance(step, MatrixProduct):
        return False
    sizes = ((*term.shape[1:], term.args[0].shape[2]) for term, *_ in step.terms)
    return any(blas.may_use_threads(m, n, k) for m, n, k in sizes)


class _Addresses(dict):
    """Addresses of buffers and constants; inputs that are bound later stand as zero."""

    def __init__(self, arrays):
        super().__init__({key: cpu.address(array) for key, array in arrays.items()})

    def __missing__(self, key):
        return cpu.address(key.value) if key.value is not None else 0


def _references(stretch: _Stretch) -> dict[Any, np.ndarray]:
    """Where the words of a stretch hold addresses within each buffer, as `cpu.place` takes them."""
    found: dict[Any, list[int]] = {}
    word = cpu.HEADER + cpu.STEP * len(stretch.steps)
    for step in stretch.steps:
        for entry in step.table:
            if isinstance(entry, cpu.Ref):
                found.setdefault(entry.buffer, []).extend((word, entry.offset))
            word += 2 if isinstance(entry, complex) else 1
    return {node: np.array([len(some) // 2, *some], np.int64) for node, some in found.items()}


def _compile(
    plan: Planned, progress: Callable[[int, int], None], known: cache.Codes
) -> tuple[list[_Stretch], list[cache.Kernel]]:
    """Load the kernels of every step, and cut the steps at library calls."""
    stretches: list[_Stretch] = []
    steps: list[cpu.Step] = []
    kernels: list[cache.Kernel] = []
    nests: list[strips.Made] = []
    total = sum(len(calls) for _, calls in plan.calls)
    for step, calls in plan.calls:
        if isinstance(step, Repeated):
            first, *_ = calls
            kernels.append(cache.load(first.source, effort(first), known))
            done = functools.partial(_further, progress, len(kernels), total)
            (inner,), some = _compile(step_of(step), done, known)
            kernels += some
            steps += [_step(first, kernels[-1 - len(some)]), repeat.repeated(step, inner.steps)]
            continue
        if isinstance(step, Library) and not has_kernels(step):
            stretches += [_Stretch(tuple(steps))] * bool(steps) + [_Stretch(library=step.node)]
            steps, nests = [], []
        elif isinstance(step, MatrixProduct):
            steps += _matrix_product(step)
        for call in calls:
            progress(len(kernels), total)
            kernels.append(cache.load(call.source, effort(call), known))
            steps.append(_step(call, kernels[-1]))
            if isinstance(step, Nest) and len(calls) == 1:
                nests.append(strips.Made(step, call, steps[-1]))
        if isinstance(step, Library) and step.node.primitive is interleave:
            kept = {*plan.schedule.graph.outputs, *_read(stretches)}
            steps = strips.in_strips(step.node, steps, nests, kept)
    if steps or not stretches:
        stretches.append(_Stretch(tuple(steps)))
    return stretches, kernels


def _further(progress: Callable[[int, int], None], done: int, total: int, k: int, _: int) -> None:
    """Progress within a step, after what is done."""
    progress(done + k, total)


def _step(call: KernelCall, kernel: cache.Kernel) -> cpu.Step:
    return cpu.Step(kernel.address, tuple(map(_entry, call.slots)), call.extent, call.block)


def _entry(slot):
    if isinstance(slot, Pointer):
        return cpu.Ref(slot.array, slot.offset * slot.array.dtype.itemsize)
    return _symbol_address(slot.name) if isinstance(slot, Symbol) else slot


def _symbol_address(name: str) -> int:
    """The function of doubles, among the variants of a name that Cython numbers."""
    from scipy.special import cython_special

    exported = cython_special.__pyx_capi__
    variants = (name, f"__pyx_fuse_0{name}", f"__pyx_fuse_1{name}")
    name = next(v for v in variants if v in exported and _is_of_doubles(exported[v]))
    return machine.address_in(exported[name])


def _is_of_doubles(capsule) -> bool:
    """Whether a capsule, which is named after its C signature, takes and gives doubles only."""
    _, signature, _ = repr(capsule).split('"')
    types = re.findall(r"\w+(?= \*)|\w+(?=[,)])|\w+(?= \()", signature)
    return {*types} <= {"void", "double", "__pyx_skip_dispatch"}


def _matrix_product(step: MatrixProduct) -> list[cpu.Step]:
    """BLAS steps for a sum of products of stacked matrices: the first writes, the others add."""
    return [
        one
        for k, (term, x, y) in enumerate(step.terms)
        for one in _blas(step.node, term.shape, term.args[0].shape[2], x, y, float(k > 0))
    ]


def _blas(node: Node, shape, k: int, x: Operand, y: Operand, beta: float) -> list[cpu.Step]:
    batch, m, n = shape
    (x_at, x_strides), (y_at, y_strides) = (
        (cpu.Ref(array, offset * node.dtype.itemsize), strides) for array, offset, strides in (x, y)
    )
    z, letters = cpu.Ref(node), code(node.dtype)
    x_op, ldx = _orientation(m, k, *x_strides[1:])
    y_op, ldy = _orientation(k, n, *y_strides[1:])
    layout: dict[str, Any] = dict(x_op=x_op, y_op=y_op, ldx=ldx, ldy=ldy, beta=beta)
    if batch > 1:
        steps = (x_strides[0], y_strides[0], m * n)
        return blas.gemm_batch(letters, x_at, y_at, z, m, n, k, batch, steps, **layout)
    if n == 1:
        rows, columns = (m, k) if x_op == "N" else (k, m)
        count = blas.gemv_scratch(rows, columns, x_op)
        scratch = cpu.Ref(Scratch((count,), node.dtype)) if count else None
        vector: dict[str, Any] = dict(
            op=x_op, ldx=ldx, incy=max(1, y_strides[1]), beta=beta, scratch=scratch
        )
        return blas.gemv(letters, x_at, y_at, z, rows, columns, **vector)
    count = blas.gemm_scratch(m, n, k)
    scratch = cpu.Ref(Scratch((count,), node.dtype)) if count else None
    return blas.gemm(letters, x_at, y_at, z, m, n, k, **layout, scratch=scratch)


def _orientation(rows: int, columns: int, row: int, column: int) -> tuple[str, int]:
    """Whether BLAS reads a matrix as it is or transposed, and the distance of its array's rows."""
    if (column == 1 or columns == 1) and (row >= columns or rows == 1):
        return "N", max(row, columns)
    return "T", max(column, rows)


def _read(stretches: list[_Stretch]) -> set:
    return {key for keys in _touched(stretches) for key in keys}


def _touched(stretches: list[_Stretch]) -> list[tuple]:
    """What each step reads or writes, in order."""
    touched: list[tuple] = []
    for stretch in stretches:
        if stretch.library is not None:
            touched.append((stretch.library, *stretch.library.args))
        for step in stretch.steps:
            touched.append(tuple(e.buffer for e in step.table if isinstance(e, cpu.Ref)))
    return touched


def _buffers(plan: Schedule, stretches: list[_Stretch], fresh: set[Node]) -> list[Node | Scratch]:
    """Everything that steps write, but for outputs in memory of their own: nodes, partial results."""
    found = dict.fromkeys(
        key for keys in _touched(stretches) for key in keys if _is_buffer(key, plan)
    )
    found.update(dict.fromkeys(plan.graph.outputs))
    return [key for key in found if key not in fresh]


def _layout(plan: Schedule, stretches: list[_Stretch], buffers: list[Node | Scratch]) -> Layout:
    sizes = {b: math.prod(b.shape) * b.dtype.itemsize for b in buffers}
    return layout(_touched(stretches), sizes, plan.graph.outputs)


def _is_buffer(key, plan: Schedule) -> bool:
    if isinstance(key, Scratch) or key in plan.graph.outputs:
        return True
    return key.value is None and key not in plan.graph.inputs


def _allocate(buffers: Sequence[Node | Scratch], where: Layout) -> dict:
    """One block of memory, cut into arrays."""
    block = np.empty(where.size + CPU.line, np.uint8)
    start = -block.ctypes.data % CPU.line
    return {b: np.ndarray(b.shape, b.dtype, block, start + where.offsets[b]) for b in buffers}
