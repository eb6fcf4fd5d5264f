"""A graph, compiled for a GPU: its launches, its memory on the device, and its calls.

A program is a list of stretches: launches that are handed to the driver in one go, and calls of NumPy on
the host for what a GPU has no code for. All buffers of a call lie in one block of device memory.
Constants are copied to the device once. One input is *hot*, as on a CPU: it changes with every call.

Arrays of the caller are NumPy's, or `DeviceArray`s, which stay on the device: the state of a point is
made there and read there.

Invariant: calls from several threads never share a workspace.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import time
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from nbhvp.graph.node import Graph, Node, Pool
from nbhvp.plan.costs import GPU
from nbhvp.plan.layout import layout
from nbhvp.plan.nests.nest import Nest
from nbhvp.plan.nests.text import Pointer, Symbol
from nbhvp.plan.recurrence import Recurrence, Repeated
from nbhvp.plan.schedule import Library, MatrixProduct, Reduction, Schedule, reads, schedule
from nbhvp.targets.cuda import columns
from nbhvp.targets.cuda.arrays import DeviceArray, checked, given, returned
from nbhvp.targets.cuda.blas import Gemm, gemms
from nbhvp.targets.cuda.hosted import Host, hosted
from nbhvp.targets.cuda.kernels import matrices, nests, repeats, sweeps
from nbhvp.targets.cuda.kernels.texts import Launch as Text
from nbhvp.targets.cuda.launching import cache
from nbhvp.targets.cuda.launching.launches import Launch
from nbhvp.targets.cuda.library import Library as ByLibrary
from nbhvp.targets.cuda.library import library_step
from nbhvp.targets.cuda.workspace import Workspace, uploaded
from nbhvp.targets.lowering.values import Unknown
from nbhvp.targets.native.cache import Counts
from nbhvp.targets.tables import Ref

__all__ = ["Bound", "Program", "needed"]

LARGE = 1 << 18
"""Multiply-adds of a matrix product from which a call of cuBLAS ends sooner than a kernel of ours."""
MOST_FREE = 4
"""Workspaces that a program keeps for later calls."""


class Program:
    """The outputs of a graph, compiled for a device.

    Parameters
    ----------
    device : nbhvp.targets.cuda.launching.driver.Device
        Where the program runs.
    graph : Graph
        What to compute.
    resident : collection of int
        Positions of outputs that stay on the device.
    hot, main : int
        The position of the input that changes with every call, and of the output that `Bound` gives.
    on_host : callable, optional
        What makes programs of graphs on the host, for loops that a GPU would take step by step.
    """

    def __init__(
        self,
        device: Any,
        graph: Graph,
        resident: Collection[int] = (),
        hot: int = -1,
        main: int = -1,
        on_host: Callable[[Graph], Any] | None = None,
    ):
        self.device, self.graph, self._on_host = device, graph, on_host
        start, made = time.perf_counter(), cache.made()
        self.hot, self.main = hot % len(graph.inputs), main % len(graph.outputs)
        plan = schedule(graph, GPU)
        self.inputs, self.outputs = plan.graph.inputs, plan.graph.outputs
        self.resident = {self.outputs[k] for k in resident}
        """What stays on the device, wherever the inputs lie."""
        self.sources: list[str] = []
        self.hosted: list[str] = []
        """What runs on the host, and why."""
        self.by_library: list[str] = []
        """What CuPy computes."""
        self.stretches = list(self._compiled(plan))
        self.constants = self._uploaded()
        self.computed = {*self.outputs} - {*self.inputs, *self.constants}
        """Outputs that steps write."""
        self.layout = self._laid_out()
        self._free: dict[int, list[Workspace]] = {}
        """By the stream on which each is used, where one call waits for the other."""
        loaded, compiled = (b - a for a, b in zip(made, cache.made(), strict=True))
        seconds = time.perf_counter() - start
        self.counts = Counts(compiled, loaded, 0, seconds, len(self.hosted), len(self.by_library))

    def __call__(self, *inputs: Any) -> list[Any]:
        """The outputs, as fresh arrays, at the values of all inputs.

        They lie where the first input does, on the host or on the device, but for those that are resident.
        """
        stream, library = _place(self.device, inputs[0])
        cold = self._cold(inputs, stream)
        workspace = self.take(cold, stream)
        found = workspace.run(inputs[self.hot], library, range(len(self.outputs)))
        self.give(workspace)
        for array in (*cold, inputs[self.hot]):
            if isinstance(array, DeviceArray):  # its memory may be used again once this has run
                self.device.follow(array.stream, stream)
        return found

    def _cold(self, inputs: Sequence[Any], stream: int) -> list[DeviceArray]:
        return [self.on_device(a, stream) for k, a in enumerate(inputs) if k != self.hot]

    def bind(self, *cold: Any) -> Bound:
        """The program with all inputs but the hot one fixed, and on the device."""
        return Bound(self, [self.on_device(a, self.device.stream) for a in cold])

    @property
    def source(self) -> str:
        """The text of every kernel, in the order of the steps."""
        return "\n\n".join(self.sources)

    def on_device(self, array: Any, stream: int) -> DeviceArray:
        """An array of the caller on the device."""
        return array if isinstance(array, DeviceArray) else uploaded(self.device, array, stream)

    def take(self, cold: Sequence[DeviceArray], stream: int) -> Workspace:
        """A workspace that nobody else uses, bound to the values of all inputs but the hot one."""
        try:
            workspace = self._free.setdefault(stream, []).pop()
        except IndexError:
            workspace = Workspace(self, stream)
        for other in {array.stream for array in cold}:
            self.device.follow(stream, other)
        workspace.bind(cold)
        return workspace

    def give(self, workspace: Workspace) -> None:
        """Take a workspace back, for later calls and points on its stream."""
        free = self._free.setdefault(workspace.stream, [])
        if len(free) < MOST_FREE:
            workspace.bind(())
            free.append(workspace)

    # How it is made.

    def _compiled(self, plan: Schedule) -> Iterable[Any]:
        """What runs: launches in a row as words, products of cuBLAS, and steps elsewhere."""
        ptx: dict[str, str] = {}
        steps = list(self._steps(plan, ptx))
        kernels = self.device.kernels(ptx)
        for are_launches, some in itertools.groupby(steps, lambda one: isinstance(one, Text)):
            if are_launches:
                yield self.device.words([_launch(text, kernels[text.source]) for text in some])
            else:
                yield from some

    def _steps(self, plan: Schedule, ptx: dict[str, str]) -> Iterator[Any]:
        present: set[Node] = set(plan.graph.inputs)
        left: list[Node] = []
        made: Sequence[Any]
        for step, wanted in zip(plan.steps, needed(plan), strict=True):
            written = _written(step, wanted)
            try:
                made = self._products(step) or self._texts(step, wanted, ptx)
            except Unknown as reason:
                by_library = library_step(hosted(written, {*present, *left}, None))
                (self.hosted if by_library is None else self.by_library).append(str(reason))
                if by_library is None:
                    left += written
                    continue
                made = [by_library]
            if left:
                yield hosted(left, present, self._on_host)
                present.update(left)
                left = []
            yield from made
            present.update(written)
        if left:
            yield hosted(left, present, self._on_host)

    def _products(self, step: Any) -> list[Gemm] | None:
        """The calls of cuBLAS that a step is, if it is there and the step is worth a call."""
        if not isinstance(step, MatrixProduct) or self.device.blas is None:
            return None
        work = sum(term.size * term.args[0].shape[2] for term, *_ in step.terms)
        return gemms(step) if work >= LARGE else None

    def _texts(self, step: Any, wanted: set[Node], ptx: dict[str, str]) -> list[Text]:
        """The kernels of a step, of which `ptx` gets the code by their sources."""
        texts = _emitted(step, wanted)
        found = [text for text in texts if 0 not in text.grid]  # the driver takes no empty grid
        for text in found:
            symbols = sorted({slot.name for slot in text.slots if isinstance(slot, Symbol)})
            if symbols:
                raise Unknown(f"{', '.join(symbols)} of SciPy's")
            if text.source not in ptx:
                ptx[text.source] = cache.ptx(text.source)
        self.sources += dict.fromkeys(text.source for text in found)
        return found

    def _touched(self) -> list[tuple]:
        touched: list[tuple] = []
        for one in self.stretches:
            if isinstance(one, Host | ByLibrary):
                touched.append((*one.given, *one.outputs))
            elif isinstance(one, Gemm):
                touched.append(one.arrays)
            else:
                touched += [
                    tuple(e.buffer for e in launch.table if isinstance(e, Ref))
                    for launch in one.launches
                ]
        return touched

    def _uploaded(self) -> dict[Node, int]:
        """The addresses of constants on the device."""
        nodes = {n for some in self._touched() for n in some if isinstance(n, Node)}
        known = _CONSTANTS.setdefault(self.inputs[0].pool, {})
        return {n: _constant(self.device, n.value, known) for n in nodes if n.value is not None}

    def _laid_out(self):
        given = {*self.constants, *self.resident} | {
            node for k, node in enumerate(self.inputs) if k != self.hot
        }
        touched = self._touched()
        buffers = dict.fromkeys(key for keys in touched for key in keys if key not in given)
        buffers.update(dict.fromkeys(n for n in (self.inputs[self.hot], *self.outputs)))
        sizes = {b: math.prod(b.shape) * b.dtype.itemsize for b in buffers if b not in given}
        kept = (*self.outputs, self.inputs[self.hot])
        return layout([(self.inputs[self.hot],), *touched], sizes, kept)


class Bound:
    """A program of one input: a product at a fixed point. Safe to call from several threads."""

    def __init__(self, program: Program, cold: Sequence[DeviceArray]):
        self.program = program
        self.stored = cold
        self._wide: dict[Any, Bound] = {}
        """Programs of several directions, at the same point."""
        self._free: dict[int, list[Workspace]] = {}
        """By the stream on which each was used last."""

    def __call__(self, x: Any, out: Any = None) -> Any:
        """The main output at an x of the right shape and dtype, where x lies: nothing is checked."""
        stream, library = _place(self.program.device, x)
        workspace = self._taken(stream)
        (found,) = workspace.run(x, library, (self.program.main,), out)
        self._free[stream].append(workspace)
        return found

    def into(self, x: Any, out: Any = None) -> Any:
        """The main output at an x of any library on the device, in `out` or in a new array of that library."""
        program = self.program
        hot, main = program.graph.inputs[program.hot], program.graph.outputs[program.main]
        x = checked(given(program.device, x), hot)
        if out is None:
            found = self(x)
            return returned(found if x.shape == hot.shape else found.reshape((main.size,)))
        result = checked(given(program.device, out, "out"), main)
        if result.address < x.address + x.nbytes and x.address < result.address + result.nbytes:
            raise ValueError("out shares memory with the array that is multiplied: take another")
        program.device.follow(x.stream, result.stream)
        self(x, result)
        program.device.follow(result.stream, x.stream)
        return out

    def together(self, v: Any, several: Any) -> Any:
        """The main outputs of directions along the last axis of v, which are the last axis of the result.

        `several` has a program for a block of directions; without it they run one by one.
        """
        device = self.program.device
        stream, library = _place(device, v)
        if library is None:
            v = uploaded(device, v, stream)
        v = v.lent(library or DeviceArray.__name__)
        found = self._one_by_one(v) if several is None else self._in_blocks(v, several)
        return np.asarray(found) if library is None else found

    def _one_by_one(self, v: DeviceArray) -> DeviceArray:
        program = self.program
        hot, main = program.inputs[program.hot], program.outputs[program.main]
        like, count = program.graph.outputs[program.main], v.shape[-1]
        rows = columns.transposed(program.device, (hot.size, count), hot.dtype)(v)
        results = DeviceArray(
            program.device, (count, main.size), main.dtype, rows.stream, v.library
        )
        for k in range(count):
            self(rows.part(k * hot.size, hot.shape), results.part(k * main.size, like.shape))
        found = columns.transposed(program.device, (count, main.size), main.dtype)(results)
        return found.reshape((*like.shape, count))

    def _in_blocks(self, v: DeviceArray, several: Any) -> DeviceArray:
        program, count = several.program, v.shape[-1]
        if program not in self._wide:
            self._wide[program] = program.bind(*self.stored)
        if count == several.count:
            return self._wide[program](v)
        blocks = columns.cut(self.program.device, v, several.count)
        results = [self._wide[program](block) for block in blocks]
        return columns.joined(self.program.device, results, count)

    def _taken(self, stream: int) -> Workspace:
        try:
            return self._free.setdefault(stream, []).pop()
        except IndexError:
            return self.program.take(self.stored, stream)

    def __del__(self):
        for workspace in (one for some in self._free.values() for one in some):
            for stream in {array.stream for array in self.stored}:
                workspace.hand_over(stream)
            self.program.give(workspace)


def _place(device: Any, x: Any) -> tuple[int, str | None]:
    """The stream of a call, and the library of its results, by its x."""
    if isinstance(x, DeviceArray) and x.library is not None:
        return x.stream, x.library
    return device.stream, None


def _emitted(step: Any, wanted: set[Node]) -> list[Text]:
    """The launches of a step."""
    if isinstance(step, MatrixProduct):
        return matrices.emit(step)
    if isinstance(step, Nest | Reduction):
        return nests.emit(step, wanted)
    if isinstance(step, Repeated) and repeats.is_wide(step):
        inner = zip(step.plan.steps, needed(step.plan), strict=True)
        return repeats.emit(step, [text for one, some in inner for text in _emitted(one, some)])
    if isinstance(step, Recurrence) and repeats.has_lanes(step):
        return repeats.of_lanes(step)
    if isinstance(step, Library) and sweeps.has_lanes(step):
        return sweeps.emit(step)
    raise Unknown(step.node.primitive.name)


def needed(plan: Schedule) -> list[set[Node]]:
    """For each step, what is an output or read by others."""
    outputs, read = set(plan.graph.outputs), [reads(step) for step in plan.steps]
    count = Counter(node for some in read for node in some)
    return [outputs | {node for node in count if count[node] > (node in own)} for own in read]


def _written(step: Any, wanted: set[Node]) -> list[Node]:
    """The nodes that a step leaves in memory for others."""
    if not isinstance(step, Nest):
        return [step.node]
    summed = {member.node for member in step.members if member.row.is_summed}
    return [n for n in step.nodes if (n in step.kept or n in summed) and n in wanted]


def _launch(text: Text, kernel: int) -> Launch:
    table = tuple(map(_entry, text.slots))
    return Launch(kernel, text.grid, text.threads, text.shared, table)


def _entry(slot: Any) -> Any:
    if isinstance(slot, Pointer):
        return Ref(slot.array, slot.offset * slot.array.dtype.itemsize)
    return slot


Constants = dict[tuple[Any, int, int], tuple[np.ndarray, DeviceArray]]
"""By the device and where they begin and end on the host: what lies there, and its copy."""

_CONSTANTS: weakref.WeakKeyDictionary[Pool, Constants] = weakref.WeakKeyDictionary()
"""Those of all programs of one trace, during which they do not change."""


def _constant(device: Any, value: np.ndarray, known: Constants) -> int:
    """The address on the device of the first element of an array, which lies there as on the host.

    An array and its transpose share their memory there, too. What is known keeps the host's memory alive,
    and with it the key.
    """
    first, last = byte_bounds(value)
    key = device, first, last
    if key not in known:
        data = np.empty(last - first, np.uint8)
        ctypes.memmove(data.ctypes.data, first, data.nbytes)
        copy = uploaded(device, data, device.stream)
        device.wait()  # for all streams
        known[key] = value, copy
    return known[key][1].address + value.ctypes.data - first
