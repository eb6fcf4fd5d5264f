"""The memory of one call of a program in flight, and the run of the program in it.

A workspace belongs to a stream: the next call there runs behind the one before, so it may write the same
memory. The words of launches point into it, and into the arrays of the caller.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbhvp.graph.node import Node
from nbhvp.plain import is_frozen
from nbhvp.plan.costs import CPU
from nbhvp.targets.cuda.arrays import DeviceArray
from nbhvp.targets.cuda.blas import Gemm
from nbhvp.targets.cuda.hosted import Host
from nbhvp.targets.cuda.launching.launches import Words
from nbhvp.targets.cuda.library import Library

if TYPE_CHECKING:
    from nbhvp.targets.cuda.program import Program

__all__ = ["Workspace", "uploaded"]

KNOWN = CPU.l2
"""Bytes from which an array that is read-only counts as unchanged, as on a CPU."""


def contiguous(array: np.ndarray) -> np.ndarray:
    """An array in C order: NumPy's function of this name makes () into (1,)."""
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def is_kept(array: Any) -> bool:
    """Whether a copy of an array on the device is kept as long as the array lives: nobody can write it."""
    return isinstance(array, np.ndarray) and array.nbytes >= KNOWN and is_frozen(array)


def uploaded(device: Any, array: np.ndarray, stream: int) -> DeviceArray:
    """A copy on the device, perhaps one that is kept."""
    known = is_kept(array)
    if known and (found := device.copies.get(id(array))) is not None:
        return found
    data = contiguous(array)
    found = DeviceArray(device, data.shape, data.dtype, stream)
    device.upload(found.address, data, stream)
    if known:
        weakref.finalize(array, device.copies.pop, id(array), None).atexit = False
        device.copies[id(array)] = found
    return found


class Workspace:
    """The device memory of one call in flight, and the words that point into it."""

    def __init__(self, program: Program, stream: int):
        self.program, self.stream, device = program, stream, program.device
        size = max(1, program.layout.size)
        self.block = DeviceArray(device, (size,), np.dtype(np.uint8), stream)
        self._own = {key: self.block.address + at for key, at in program.layout.offsets.items()}
        self.addresses: dict[Any, int] = {}
        # Each workspace has words of its own, since they hold its addresses.
        self.stretches = [
            device.words(one.launches) if isinstance(one, Words) else one
            for one in program.stretches
        ]
        self._place(self._own | program.constants)
        self.ended = 0
        """The event that the last run has ended, on a stream of others, which may be gone by then."""
        self.cold: tuple[DeviceArray, ...] = ()
        self._moved: tuple[Node, ...] = ()
        """What lies in memory of a caller."""

    def _place(self, addresses: Mapping[Any, int]) -> None:
        self.addresses.update(addresses)
        for one in self.stretches:
            if isinstance(one, Words):
                one.place(addresses)

    def __del__(self):
        if getattr(self, "ended", 0):
            self.program.device.drop(self.ended)

    def hand_over(self, stream: int) -> None:
        """Let another stream have the memory that the last run has read."""
        device = self.program.device
        if self.ended:
            device.wait_there(stream, self.ended)
        else:
            device.follow(stream, self.stream)

    def bind(self, cold: Sequence[DeviceArray]) -> None:
        """Point to the values of all inputs but the hot one, which the workspace keeps alive."""
        self.cold = tuple(cold)
        nodes = [node for k, node in enumerate(self.program.inputs) if k != self.program.hot]
        self._place({node: a.address for node, a in zip(nodes, cold, strict=False)})

    def run(self, x: Any, library: str | None, wanted: Sequence[int], out: Any = None) -> list[Any]:
        """Some outputs at a hot input: on the device for a library, else on the host.

        Those that are resident stay on the device. One output may be written to `out`, which lies where
        it would.
        """
        device, outputs = self.program.device, self.program.outputs
        if self.ended:
            device.wait_there(self.stream, self.ended)
        on_device = [k for k in wanted if library or outputs[k] in self.program.resident]
        made = {k: self._result(k, library, out) for k in on_device}
        # The last one where two outputs are one node; what is none of the program's own is copied below.
        placed = {
            outputs[k]: a.address for k, a in made.items() if outputs[k] in self.program.computed
        }
        hot = self._brought(x)
        self._place({node: self._own[node] for node in self._moved if node in self._own})
        self._place(placed | hot)
        self._moved = (*placed, *hot)
        self._run()
        for k, array in made.items():
            source = self.addresses[outputs[k]]
            if source != array.address:
                device.copy(array.address, source, array.nbytes, self.stream)
        if self.stream not in device.streams:
            self.ended = device.mark(self.stream, self.ended)
        return [made[k] if k in made else self._downloaded(k, out) for k in wanted]

    def _result(self, k: int, library: str | None, out: Any) -> DeviceArray:
        program = self.program
        if out is not None:
            return out
        like, is_resident = program.graph.outputs[k], program.outputs[k] in program.resident
        found = None if is_resident else library
        return DeviceArray(program.device, like.shape, like.dtype, self.stream, found)

    def _brought(self, x: Any) -> dict[Node, int]:
        """Where the hot input lies: an array of the host's is copied to its place in the block."""
        program, node = self.program, self.program.inputs[self.program.hot]
        if is_kept(x):
            x = uploaded(program.device, x, self.stream)
        if isinstance(x, DeviceArray):
            program.device.follow(self.stream, x.stream)
            return {node: x.address}
        program.device.upload(self._own[node], contiguous(x), self.stream)
        return {}

    def _downloaded(self, k: int, out: np.ndarray | None) -> np.ndarray:
        like = self.program.graph.outputs[k]
        array = np.empty(like.shape, like.dtype)
        self.program.device.download(array, self.addresses[self.program.outputs[k]], self.stream)
        if out is None:
            return array
        out[...] = array
        return out

    def _run(self) -> None:
        device = self.program.device
        for one in self.stretches:
            if isinstance(one, Host):
                self._on_host(one)
            elif isinstance(one, Library):
                places = [self.addresses[node] for node in (*one.given, *one.outputs)]
                one.run(device, places, self.stream)
            elif isinstance(one, Gemm):
                x, y, z = (self.addresses[array] for array in one.arrays)
                with device.lock:
                    device.blas.run(one, (x, y, z), self.stream)
            else:
                device.run(one, self.stream)

    def _on_host(self, step: Host) -> None:
        device, stream = self.program.device, self.stream
        given = [np.empty(node.shape, node.dtype) for node in step.given]
        for node, array in zip(step.given, given, strict=True):
            device.download(array, self.addresses[node], stream)
        results = list(map(contiguous, step(given)))
        for node, array in zip(step.outputs, results, strict=True):
            device.upload(self.addresses[node], array, stream)
        device.wait(stream)  # for the memory of the results
