"""A plan as the parts of a program: kernels and calls of BLAS by address, and the places of buffers.

The steps of a plan become stretches: words that one compiled call runs, separated by library calls on
whole arrays.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any

from nbhvp.graph.node import Graph, Node
from nbhvp.graph.sparsity.interleave import interleave
from nbhvp.plan.costs import CPU
from nbhvp.plan.layout import Layout, Scratch, layout
from nbhvp.plan.nests.nest import Nest
from nbhvp.plan.nests.text import KernelCall, Pointer, Symbol, code
from nbhvp.plan.recurrence import Repeated
from nbhvp.plan.schedule import Library, MatrixProduct, Operand, Schedule
from nbhvp.targets.cpu import blas, repeat, strips
from nbhvp.targets.cpu import run as cpu
from nbhvp.targets.cpu.kernels.nests import has_kernels
from nbhvp.targets.cpu.parts import Parts, Stretch
from nbhvp.targets.cpu.planned import Planned, effort, planned, step_of
from nbhvp.targets.native import cache

__all__ = ["assembled"]


def assembled(
    graph: Graph, hot: int, main: int, plan: Planned | None, progress: Callable[[int, int], None]
) -> tuple[Parts, list[cache.Kernel]]:
    """The parts of a program of a graph, and its kernels."""
    plan = plan or planned(graph)
    steps = plan.schedule
    known = cache.compiled_at_once(plan.texts, progress)
    stretches, kernels = _compile(plan, progress, known)
    inputs, outputs = steps.graph.inputs, steps.graph.outputs
    written = outputs[main]
    direct = {
        node: shape
        for node, shape in zip(outputs[::-1], steps.shapes[::-1], strict=True)
        if node is not written and node.size * node.dtype.itemsize >= CPU.l1
    }
    buffers = _buffers(steps, stretches, {written, *direct})
    parts = Parts(
        graph,
        hot,
        main,
        inputs,
        outputs,
        direct,
        tuple(stretches),
        tuple(buffers),
        _layout(steps, stretches, buffers),
        plan.seconds,
        any(map(_may_use_threads, steps.steps)),
    )
    return parts, kernels


def _may_use_threads(step) -> bool:
    """Whether a step is a product that BLAS would run on threads of its own, were it let."""
    if isinstance(step, Repeated):
        return any(map(_may_use_threads, step.plan.steps))
    if not isinstance(step, MatrixProduct):
        return False
    sizes = ((*term.shape[1:], term.args[0].shape[2]) for term, *_ in step.terms)
    return any(blas.may_use_threads(m, n, k) for m, n, k in sizes)


def _compile(
    plan: Planned, progress: Callable[[int, int], None], known: cache.Codes
) -> tuple[list[Stretch], list[cache.Kernel]]:
    """Load the kernels of every step, and cut the steps at library calls."""
    stretches: list[Stretch] = []
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
            stretches += [Stretch(tuple(steps))] * bool(steps) + [Stretch(library=step.node)]
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
        stretches.append(Stretch(tuple(steps)))
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


def _symbol_address(name: str) -> cache.Address:
    """The function of doubles, among the variants of a name that Cython numbers."""
    from scipy.special import cython_special

    exported = cython_special.__pyx_capi__
    variants = (name, f"__pyx_fuse_0{name}", f"__pyx_fuse_1{name}")
    name = next(v for v in variants if v in exported and _is_of_doubles(exported[v]))
    return cache.address_of("scipy.special.cython_special", name)


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


def _read(stretches: list[Stretch]) -> set:
    return {key for keys in _touched(stretches) for key in keys}


def _touched(stretches: list[Stretch]) -> list[tuple]:
    """What each step reads or writes, in order."""
    touched: list[tuple] = []
    for stretch in stretches:
        if stretch.library is not None:
            touched.append((stretch.library, *stretch.library.args))
        for step in stretch.steps:
            touched.append(tuple(e.buffer for e in step.table if isinstance(e, cpu.Ref)))
    return touched


def _buffers(plan: Schedule, stretches: list[Stretch], fresh: set[Node]) -> list[Node | Scratch]:
    """Everything that steps write, but for outputs in memory of their own: nodes, partial results."""
    found = dict.fromkeys(
        key for keys in _touched(stretches) for key in keys if _is_buffer(key, plan)
    )
    found.update(dict.fromkeys(plan.graph.outputs))
    return [key for key in found if key not in fresh]


def _layout(plan: Schedule, stretches: list[Stretch], buffers: list[Node | Scratch]) -> Layout:
    sizes = {b: math.prod(b.shape) * b.dtype.itemsize for b in buffers}
    return layout(_touched(stretches), sizes, plan.graph.outputs)


def _is_buffer(key, plan: Schedule) -> bool:
    if isinstance(key, Scratch) or key in plan.graph.outputs:
        return True
    return key.value is None and key not in plan.graph.inputs
