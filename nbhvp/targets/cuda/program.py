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
import math
import time
import weakref
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from nbhvp.graph.node import Graph, Node, Pool, reachable
from nbhvp.plan.costs import GPU
from nbhvp.plan.layout import layout
from nbhvp.plan.nest import Nest
from nbhvp.plan.schedule import MatrixProduct, Reduction, Schedule, schedule
from nbhvp.plan.text import Pointer, Symbol
from nbhvp.targets.cuda import arrays, cache, matrices, nests
from nbhvp.targets.cuda.blas import Gemm, gemms
from nbhvp.targets.cuda.launches import Launch, Words
from nbhvp.targets.lowering.values import Unknown
from nbhvp.targets.native.cache import Counts
from nbhvp.targets.tables import Ref

__all__ = ["Bound", "DeviceArray", "Program"]

LARGE = 1 << 18
"""Multiply-adds of a matrix product from which a call of cuBLAS ends sooner than a kernel of ours."""
MOST_FREE = 4
"""Workspaces that a program keeps for later calls."""


class DeviceArray:
    """An array in the memory of a device, in C order. It frees its memory when it is deleted."""

    def __init__(self, device: Any, shape: tuple[int, ...], dtype: np.dtype):
        self.device, self.shape, self.dtype = device, shape, dtype
        self.nbytes = math.prod(shape) * dtype.itemsize
        self.address = device.allocate(self.nbytes)
        weakref.finalize(self, device.free, self.address, self.nbytes).atexit = False

    def empty_like(self) -> DeviceArray:
        """A new array of this shape and dtype."""
        return DeviceArray(self.device, self.shape, self.dtype)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        found = np.empty(self.shape, self.dtype)
        self.device.download(found, self.address)
        return found if dtype is None else found.astype(dtype)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3: shape, dtype, address, and the stream on which it is made."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "stream": self.device.stream,
            "version": 3,
        }


@dataclass(frozen=True)
class _Host:
    """Nodes that NumPy computes on the host, from given ones, and those among them that are copied."""

    given: tuple[Node, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Node, ...]

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        values = dict(zip(self.given, arrays, strict=True))
        with np.errstate(all="ignore"):
            for node in self.nodes:
                args = (values[arg] for arg in node.args)
                found = node.primitive.evaluate(*args, **node.params)
                values[node] = np.asarray(found, node.dtype)
        return [values[node] for node in self.outputs]


class Program:
    """The outputs of a graph, compiled for a device.

    Parameters
    ----------
    device : nbhvp.targets.cuda.driver.Device
        Where the program runs.
    graph : Graph
        What to compute.
    resident : collection of int
        Positions of outputs that stay on the device.
    hot, main : int
        The position of the input that changes with every call, and of the output that `Bound` gives.
    """

    def __init__(
        self,
        device: Any,
        graph: Graph,
        resident: Collection[int] = (),
        hot: int = -1,
        main: int = -1,
    ):
        self.device, self.graph = device, graph
        start, made = time.perf_counter(), cache.made()
        self.hot, self.main = hot % len(graph.inputs), main % len(graph.outputs)
        plan = schedule(graph, GPU)
        self.inputs, self.outputs = plan.graph.inputs, plan.graph.outputs
        self.resident = {self.outputs[k] for k in resident}
        self.sources: list[str] = []
        self.hosted: list[str] = []
        """What runs on the host, and why."""
        self.stretches = list(self._compiled(plan))
        self._constants = self._uploaded()
        self._sizes, self._layout = self._laid_out()
        self._free: list[_Workspace] = []
        loaded, compiled = (b - a for a, b in zip(made, cache.made(), strict=True))
        seconds = time.perf_counter() - start
        self.counts = Counts(compiled, loaded, 0, seconds, len(self.hosted))

    def __call__(self, *inputs: Any) -> list[Any]:
        """The outputs, as fresh arrays, at the values of all inputs."""
        workspace = self.take([a for k, a in enumerate(inputs) if k != self.hot])
        found = workspace.run(inputs[self.hot])
        self.give(workspace)
        return found

    def bind(self, *cold: Any) -> Bound:
        """The program with all inputs but the hot one fixed, and on the device."""
        return Bound(self, [self.on_device(a) for a in cold])

    @property
    def source(self) -> str:
        """The text of every kernel, in the order of the steps."""
        return "\n\n".join(self.sources)

    def on_device(self, array: Any) -> DeviceArray:
        """An array of the caller on the device."""
        if isinstance(array, DeviceArray):
            return array
        array = _contiguous(array)
        found = DeviceArray(self.device, array.shape, array.dtype)
        self.device.upload(found.address, array)
        return found

    def take(self, cold: Sequence[Any]) -> _Workspace:
        """A workspace that nobody else uses, bound to the values of all inputs but the hot one."""
        try:
            workspace = self._free.pop()
        except IndexError:
            workspace = _Workspace(self)
        workspace.bind([self.on_device(a) for a in cold])
        return workspace

    def give(self, workspace: _Workspace) -> None:
        """Take a workspace back, for later calls and points."""
        if len(self._free) < MOST_FREE:
            workspace.bind(())
            self._free.append(workspace)

    # How it is made.

    def _compiled(self, plan: Schedule) -> Iterable[Any]:
        launches: list[Launch] = []
        present = set(plan.graph.inputs)
        for step in plan.steps:
            products = self._products(step)
            if products:
                if launches:
                    yield self.device.words(launches)
                launches = []
                yield from products
                present.update(_written(step))
                continue
            try:
                launches += self._launches(step)
            except Unknown as reason:
                if launches:
                    yield self.device.words(launches)
                launches = []
                yield _hosted(step, present)
                self.hosted.append(str(reason))
            present.update(_written(step))
        if launches:
            yield self.device.words(launches)

    def _products(self, step: Any) -> list[Gemm] | None:
        """The calls of cuBLAS that a step is, if it is there and the step is worth a call."""
        if not isinstance(step, MatrixProduct) or self.device.blas is None:
            return None
        work = sum(term.size * term.args[0].shape[2] for term, *_ in step.terms)
        return gemms(step) if work >= LARGE else None

    def _launches(self, step: Any) -> list[Launch]:
        if isinstance(step, MatrixProduct):
            texts = matrices.emit(step)
        elif isinstance(step, Nest | Reduction):
            texts = nests.emit(step)
        else:
            raise Unknown(step.node.primitive.name)
        found = []
        for text in texts:
            if 0 in text.grid:
                continue  # nothing to compute, which the driver does not take
            if any(isinstance(slot, Symbol) for slot in text.slots):
                raise Unknown("a function of SciPy's")
            kernel = self.device.kernel(text.source)
            table = tuple(map(_entry, text.slots))
            found.append(Launch(kernel, text.grid, text.threads, table))
        self.sources += [text.source for text in texts]
        return found

    def _touched(self) -> list[tuple]:
        touched: list[tuple] = []
        for one in self.stretches:
            if isinstance(one, _Host):
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
        given = {*self._constants, *self.resident} | {
            node for k, node in enumerate(self.inputs) if k != self.hot
        }
        touched = self._touched()
        buffers = dict.fromkeys(key for keys in touched for key in keys if key not in given)
        buffers.update(dict.fromkeys(n for n in (self.inputs[self.hot], *self.outputs)))
        sizes = {b: math.prod(b.shape) * b.dtype.itemsize for b in buffers if b not in given}
        kept = (*self.outputs, self.inputs[self.hot])
        return sizes, layout([(self.inputs[self.hot],), *touched], sizes, kept)


class Bound:
    """A program of one input: a product at a fixed point. Safe to call from several threads."""

    def __init__(self, program: Program, cold: Sequence[DeviceArray]):
        self.program = program
        self.stored = cold
        self._free: dict[int, list[_Workspace]] = {}
        """By the stream on which each was used last, where one call waits for the other."""

    def __call__(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The main output at an x of the right shape and dtype: nothing is checked."""
        stream = self.program.device.stream
        workspace = self._taken(stream)
        (found,) = workspace.run(x, only=self.program.main)
        self._free[stream].append(workspace)
        if out is None:
            return found
        out[...] = found
        return out

    def on_device(self, x: Any, out: Any = None) -> Any:
        """The main output at an x on the device, as an array of its library: nothing is waited for."""
        program = self.program
        hot, main = program.graph.inputs[program.hot], program.graph.outputs[program.main]
        given = arrays.view(program.device, x, hot.shape, hot.dtype)
        out = arrays.empty_like(x) if out is None else out
        result = arrays.view(program.device, out, main.shape, main.dtype)
        workspace = self._taken(given.stream)
        workspace.run_on_device(given, result.address)
        self._free[given.stream].append(workspace)
        return out

    def _taken(self, stream: int) -> _Workspace:
        try:
            return self._free.setdefault(stream, []).pop()
        except IndexError:
            workspace = self.program.take(self.stored)
        if stream != self.program.device.stream:
            self.program.device.wait()  # what is stored was made on the device's own stream
        return workspace

    def __del__(self):
        own = self.program.device.stream
        for stream, some in self._free.items():
            if stream != own and some:
                self.program.device.wait_for_all()
            for workspace in some:
                self.program.give(workspace)


class _Workspace:
    """The device memory of one call in flight, and the words that point into it."""

    def __init__(self, program: Program):
        self.program, device = program, program.device
        self.block = DeviceArray(device, (max(1, program._layout.size),), np.dtype(np.uint8))
        self.addresses: dict[Any, int] = {
            key: self.block.address + offset for key, offset in program._layout.offsets.items()
        }
        self.addresses |= program._constants
        # Each workspace has words of its own, since they hold its addresses.
        self.stretches = [
            device.words(one.launches) if isinstance(one, Words) else one
            for one in program.stretches
        ]
        self._place(self.addresses)
        self.cold: tuple[DeviceArray, ...] = ()
        self._moved: tuple[Node, ...] = ()
        """What lies in memory of the caller."""

    def _place(self, addresses: dict[Any, int]) -> None:
        self.addresses |= addresses
        for one in self.stretches:
            if isinstance(one, Words):
                one.place(addresses)

    def bind(self, cold: Sequence[DeviceArray]) -> None:
        """Point to the values of all inputs but the hot one, which the workspace keeps alive."""
        self.cold = tuple(cold)
        nodes = [node for k, node in enumerate(self.program.inputs) if k != self.program.hot]
        self._place({node: a.address for node, a in zip(nodes, cold, strict=False)})

    def run(self, x: np.ndarray, only: int | None = None) -> list[Any]:
        """All outputs, or one of them; those that are resident stay on the device."""
        program, device = self.program, self.program.device
        node = program.inputs[program.hot]
        device.upload(self.block.address + program._layout.offsets[node], _contiguous(x))
        made = {n: DeviceArray(device, n.shape, n.dtype) for n in program.resident}
        own = {n: self.block.address + at for n, at in program._layout.offsets.items()}
        self._place({n: a.address for n, a in made.items()} | {n: own[n] for n in self._moved})
        self._moved = ()
        self._run(device.stream)
        found: list[Any] = []
        for k, (output, like) in enumerate(
            zip(program.outputs, program.graph.outputs, strict=True)
        ):
            if only is not None and k != only:
                continue
            if output in made:
                found.append(made[output])
                continue
            array = np.empty(like.shape, like.dtype)
            device.download(array, self.addresses[output])
            found.append(array)
        return found

    def run_on_device(self, x: arrays.View, out: int) -> None:
        """Read the hot input from the memory of a caller, and write the main output there."""
        program = self.program
        hot, main = program.inputs[program.hot], program.outputs[program.main]
        self._moved = (hot, main)
        self._place({hot: x.address, main: out})
        self._run(x.stream)

    def _run(self, stream: int) -> None:
        device = self.program.device
        for one in self.stretches:
            if isinstance(one, _Host):
                self._on_host(one, stream)
            elif isinstance(one, Gemm):
                x, y, z = (self.addresses[array] for array in one.arrays)
                with device.lock:
                    device.blas.run(one, (x, y, z), stream)
            else:
                device.run(one, stream)

    def _on_host(self, step: _Host, stream: int) -> None:
        device = self.program.device
        given = [np.empty(node.shape, node.dtype) for node in step.given]
        for node, array in zip(step.given, given, strict=True):
            device.download(array, self.addresses[node], stream)
        results = list(map(_contiguous, step(given)))
        for node, array in zip(step.outputs, results, strict=True):
            device.upload(self.addresses[node], array, stream)
        device.wait(stream)  # for the memory of the results


def _contiguous(array: np.ndarray) -> np.ndarray:
    """An array in C order: NumPy's function of this name makes () into (1,)."""
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _written(step: Any) -> list[Node]:
    """The nodes that a step leaves in memory."""
    if not isinstance(step, Nest):
        return [step.node]
    summed = {member.node for member in step.members if member.row.is_summed}
    return [node for node in step.nodes if node in step.kept or node in summed]


def _hosted(step: Any, present: set[Node]) -> _Host:
    """What a step computes, from what is present in memory."""
    outputs = _written(step)
    nodes = reachable(outputs, stop=present)
    return _Host(
        tuple(node for node in nodes if node in present),
        tuple(node for node in nodes if node not in present),
        tuple(outputs),
    )


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
        copy = DeviceArray(device, data.shape, data.dtype)
        device.upload(copy.address, data)
        device.wait()  # for the memory of the copy
        known[key] = value, copy
    return known[key][1].address + value.ctypes.data - first
