"""Checks that the tests of the compiler share: every target against the interpreter.

`plain` runs a schedule with each kernel's text as plain Python, where every read and write is
checked for bounds; `assert_same` compares a target with the interpreter; `together` makes one graph
of many, since compiling costs by the kernel, and not by the case. `assert_composition` holds what
is recorded of a function to NumPy: value, gradient, product, a batch of products.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numba
import numpy as np
import scipy.special

from nbhvp.graph import primitives as p
from nbhvp.graph.batch import batched
from nbhvp.graph.derive import EXACT_MODES, check, gradient, hvp
from nbhvp.graph.interpret import Interpreter, interpret
from nbhvp.graph.node import Graph, Node, Pool
from nbhvp.plan.fusion import fused
from nbhvp.plan.nests.text import Pointer, Symbol
from nbhvp.plan.recurrence import Repeated
from nbhvp.plan.schedule import Library, MatrixProduct, Schedule, schedule
from nbhvp.targets.cpu import run as cpu
from nbhvp.targets.cpu.kernels.nests import emit, has_kernels
from nbhvp.targets.cpu.program import Program
from nbhvp.targets.native import cache
from nbhvp.targets.native.language import raise_paths
from nbhvp.trace.record import record

__all__ = [
    "THOROUGH",
    "allow_threads",
    "assert_close",
    "assert_composition",
    "assert_no_raise",
    "assert_same",
    "close",
    "compiled",
    "derivatives",
    "elements",
    "forget_kernels",
    "kernels",
    "make_team",
    "plain",
    "run_plain",
    "texts_of",
    "together",
    "total",
    "weighted",
]  # fmt: skip

THOROUGH = os.environ.get("NBHVP_THOROUGH", "") not in ("", "0")
"""Whether what is interpreted is tested in its whole breadth: see tests/conftest.py."""


def plain(graph: Graph, *inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs of a graph by its schedule, with kernels as plain Python."""
    return run_plain(schedule(graph), *inputs)


def run_plain(plan: Schedule, *inputs: np.ndarray) -> list[np.ndarray]:
    memory = dict(zip(plan.graph.inputs, map(np.ascontiguousarray, inputs), strict=True))
    with np.errstate(all="ignore"):
        for step in fused(plan.steps):
            is_whole = isinstance(step, Library) and not has_kernels(step)
            if is_whole or isinstance(step, Repeated):
                args = [_whole(memory, arg) for arg in step.node.args]
                value = step.node.primitive.evaluate(*args, **step.node.params)
                memory[step.node] = np.array(value, step.node.dtype, order="C")
            elif isinstance(step, MatrixProduct):
                memory[step.node] = sum(
                    np.matmul(_strided(memory, x, term.args[0]), _strided(memory, y, term.args[1]))
                    for term, x, y in step.terms
                )
            else:
                for call in emit(step):
                    _run_kernel(call, memory)
    outputs = zip(plan.graph.outputs, plan.shapes, strict=True)
    return [memory[node].reshape(shape) for node, shape in outputs]


def _whole(memory, node: Node) -> np.ndarray:
    if node in memory or not node.args:
        return memory[node].reshape(node.shape) if node in memory else node.value
    return node.primitive.evaluate(*(_whole(memory, arg) for arg in node.args), **node.params)


def _strided(memory, operand, arg: Node) -> np.ndarray:
    """A stack of matrices in the memory of an array, read where its strides say."""
    array, offset, strides = operand
    flat, origin = elements(memory, array)
    index = offset + origin
    for axis, (extent, stride) in enumerate(zip(arg.shape, strides, strict=True)):
        along = [1] * len(arg.shape)
        along[axis] = extent
        index = index + (np.arange(extent) * stride).reshape(along)
    return flat[index]


def elements(memory, array) -> tuple[np.ndarray, int]:
    """The elements of an array as they lie in memory, and where its first one is.

    A constant may have any strides; what lies between its elements is NaN (or a large number).
    """
    if array in memory:
        return memory[array].reshape(-1), 0
    value = array.value
    steps = [s // value.itemsize for s in value.strides]
    ends = [s * (n - 1) for s, n in zip(steps, value.shape, strict=True)] if value.size else []
    lowest, highest = sum(e for e in ends if e < 0), sum(e for e in ends if e > 0)
    flat = _unset((highest - lowest + 1,), value.dtype)
    for index in np.ndindex(value.shape):
        flat[sum(i * s for i, s in zip(index, steps, strict=True)) - lowest] = value[index]
    return flat, -lowest


def _unset(shape, dtype) -> np.ndarray:
    """Memory that nobody has written: NaN, or a number that shows."""
    return np.full(
        shape, np.nan if dtype.kind in "fc" else 77 if dtype.kind != "b" else True, dtype
    )


def _run_kernel(call, memory) -> None:
    for written in call.writes:
        memory.setdefault(written, _unset(written.shape, written.dtype))
    table = [_entry(slot, memory) for slot in call.slots]
    kernel = cache.plain(call.source)
    for lo in range(0, call.extent, call.block):
        # Twice: what a kernel writes does not depend on what it has written.
        for _ in range(2 if " sin(" in call.source or " cos(" in call.source else 1):
            kernel(table, lo, min(call.extent, lo + call.block))


def _entry(slot, memory):
    if isinstance(slot, Pointer):
        flat, origin = elements(memory, slot.array)
        return cache.Window(flat, slot.offset + origin)
    return getattr(scipy.special, slot.name) if isinstance(slot, Symbol) else slot


def compiled(graph: Graph, *inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs of a graph by a program."""
    return Program(graph)(*inputs)


def assert_close(given, needed, tolerance: float, name: str = "") -> None:
    """Equal shapes and dtypes, and values within a tolerance of the larger of 1 and the value."""
    assert given.shape == needed.shape, f"{name}: shape {given.shape}, needed {needed.shape}"
    assert given.dtype == needed.dtype, f"{name}: dtype {given.dtype}, needed {needed.dtype}"
    with np.errstate(invalid="ignore"):
        error = np.abs(given.astype(complex) - needed.astype(complex))
        close = error <= tolerance * np.maximum(1, np.abs(needed.astype(complex)))
    close |= (given == needed) | (np.isnan(given) & np.isnan(needed))
    assert close.all(), f"{name}: {given[~close][:5]}, needed {needed[~close][:5]}"


def assert_same(graph: Graph, inputs: Sequence, tolerance=1e-13, target=plain, names=()) -> None:
    """A target gives what the interpreter gives, in arrays of its own, and leaves inputs alone."""
    before = [np.array(x) for x in inputs]
    needed = interpret(graph, *inputs)
    given = target(graph, *inputs)
    names = names or [f"output {k}" for k in range(len(needed))]
    for name, a, b in zip(names, given, needed, strict=True):
        assert_close(a, b, tolerance, name)
        assert not any(np.shares_memory(a, x) for x in inputs), f"{name} is an input's memory"
    for x, old in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(x, old)


def together(cases: dict[str, tuple[Graph, Sequence]]) -> tuple[Graph, list, list[str]]:
    """One graph of many, its inputs, and the names of its outputs.

    Its last input and output are vectors, so that all such graphs are called in the same way.
    """
    inputs: dict[Node, np.ndarray] = {}
    outputs, names = [], []
    for name, (graph, values) in cases.items():
        inputs.update(zip(graph.inputs, values, strict=True))
        outputs += graph.outputs
        names += [f"{name} {k}" for k in range(len(graph.outputs))]
    last = p.input_node(Pool(), "last", (3,), np.float64)
    inputs[last] = np.arange(3.0)
    graph = Graph(tuple(inputs), (*outputs, last * 2))
    return graph, list(inputs.values()), [*names, "last"]


def forget_kernels(monkeypatch, folder) -> None:
    """Compile whatever comes next."""
    monkeypatch.setenv("NBHVP_CACHE_DIR", str(folder))
    monkeypatch.setattr(cache, "_kernels", {})


def allow_threads(monkeypatch, threads: int) -> None:
    """What numba allows, as in a process where its own threads have not started.

    Compiling any parallel function starts them. Numba reads its settings anew when it compiles after
    a change of the environment, so it reads them first.
    """
    numba.config.reload_config()
    monkeypatch.setattr(numba.np.ufunc.parallel, "_is_initialized", False)
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)


def make_team(monkeypatch, threads: int) -> None:
    """A team of its own, of as many threads as numba allows, whatever cores the machine has."""
    allow_threads(monkeypatch, threads)
    monkeypatch.setattr(cpu, "_the_team", None)
    monkeypatch.setattr(cpu.machine, "processors", lambda: threads)


def assert_no_raise(kernel: cache.Kernel) -> None:
    """A kernel that raised would leave the rest of its block unwritten, and nobody would know."""
    assert not raise_paths(cache.compiled(kernel.source).llvm), kernel.source


def kernels(*graphs: Graph) -> set[str]:
    """The texts of the kernels of graphs."""
    return set().union(*(texts_of(schedule(graph)) for graph in graphs))


def texts_of(plan: Schedule) -> set[str]:
    return {call.source for step in plan.steps if has_kernels(step) for call in emit(step)}


def total(node: Node) -> Node:
    return p.sum_(node, axes=tuple(range(node.ndim)))


def derivatives(node: Node, active: Sequence[Node], modes=EXACT_MODES[:1]) -> list[Node]:
    """The gradient of a scalar function of a node, and its products with fixed directions."""
    size = node if node.dtype.kind == "f" else p.real(node) + p.imag(node)
    value = total(size * size + size)
    rng = np.random.default_rng(7)
    found = []
    for x in active:
        v = p.constant(x.pool, np.asarray(rng.normal(size=x.shape), x.dtype))
        found += [gradient(value, x), *(hvp(value, x, v, mode) for mode in modes)]
    return found


# Functions of NumPy against what is recorded of them.


def close(given, needed, tolerance) -> None:
    """Equal shapes, and values within a tolerance of the largest one (or of 1)."""
    given, needed = np.asarray(given), np.asarray(needed)
    assert given.shape == needed.shape
    scale = max(np.abs(needed).max(initial=0.0), 1.0)
    np.testing.assert_allclose(given, needed, rtol=0, atol=tolerance * scale)


def weighted(trace):
    """The first output of a trace as a scalar: its sum with fixed weights."""
    value = trace.outputs[0]
    weights = np.cos(1.0 + np.arange(value.size)).reshape(value.shape)
    product = p.multiply(value, p.constant(value.pool, weights))
    return p.sum_(product, axes=tuple(range(value.ndim))), weights


def slope(function, x, direction, step=1e-3):
    """The derivative along a direction: central differences, with an error of order step**6."""
    terms = [
        c * (function(x + k * step * direction) - function(x - k * step * direction))
        for k, c in ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60))
    ]
    return sum(terms) / step


def directions(x, count: int) -> np.ndarray:
    """Fixed directions at x, in a last axis."""
    return np.cos(3.0 * np.arange(x.size * count)).reshape(*x.shape, count)


def recorded(fun, x):
    """x, v, and the outputs of a function, the gradient of their weighted sum, and its product."""
    trace = record(fun, x, (), {})
    (node,) = trace.inputs
    value, weights = weighted(trace)
    v = p.input_node(node.pool, "v", node.shape, node.dtype)
    products = [hvp(value, node, v, mode) for mode in EXACT_MODES]
    return node, v, trace.outputs[0], gradient(value, node), products, weights


def assert_composition(fun, x, tolerance=1e-9) -> None:
    """What is recorded of fun at x has NumPy's values near x, and their first two derivatives."""
    node, v, output, grad, products, weights = recorded(fun, x)
    graph = check(Graph((node,), (output,)))
    for point in (x, 1.001 * x + 1e-4):
        needed = np.asarray(fun(point))
        needed = needed.reshape(()) if needed.size == 1 else needed
        assert output.dtype == needed.dtype
        close(interpret(graph, point)[0], needed, 1e-12)
    first = Interpreter(check(Graph((node,), (grad,))))
    vs = directions(x, 2)
    with np.errstate(all="ignore"):
        needed = slope(lambda y: np.sum(weights * fun(y)), x, vs[..., 1])
    close(np.vdot(first(x)[0], vs[..., 1]), needed, tolerance)
    needed = slope(lambda y: first(y)[0], x, vs[..., 0])
    second = check(Graph((node, v), tuple(products)), linear_in=v)
    found = interpret(second, x, vs[..., 0])
    close(found[0], needed, tolerance)
    for other in found[1:]:
        close(other, found[0], 1e-11)
    assert_batch(Graph((node, v), (products[0],)), x, v, vs)


def assert_batch(graph: Graph, x, v: Node, vs) -> None:
    """A batch of products is the products one by one."""
    several = batched(graph, v, vs.shape[-1])
    if several is not None:
        (found,), alone = interpret(several, x, vs), Interpreter(graph)
        for k in range(vs.shape[-1]):
            close(found[..., k], alone(x, vs[..., k])[0], 1e-12)
