"""Kernels for GPUs as plain Python: every lane of a warp is a generator.

A lane runs until it reaches a word for all lanes (`sync_warp`, `warp_sum` ...), gives it, and goes
on with the answer once all lanes of its warp have come there. The memory that a kernel writes keeps
the thread that stored each element, so these are errors:

- an element outside its array, or a store through a pointer that is declared as read;
- lanes of one warp that wait at different words, or only some of them;
- an element that two threads store, or one that a thread loads which another has stored, unless
  both are lanes of one warp and a word for all lanes lies between.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import ctypes
import functools
import hashlib
import itertools
import operator
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from nbhvp.runtime.compiling import programs
from nbhvp.targets import interpreted
from nbhvp.targets.cuda import blas
from nbhvp.targets.cuda.kernels.texts import WARP
from nbhvp.targets.cuda.launching import cache, driver, libcuda
from nbhvp.targets.cuda.launching.ptx import lowered, slots
from nbhvp.targets.native.cache import PLAIN

__all__ = ["SIMULATED", "Cublas", "Driver", "simulated", "simulated_driver"]

SIMULATED = os.environ.get("NBHVP_SIMULATED_GPU") == "1"
"""Whether tests of a device run in the simulator."""
WAITING = (
    "sync_block", "sync_warp", "warp_sum", "warp_all", "warp_scan", "warp_last", "warp_swap",
)  # fmt: skip


@dataclass
class _Place:
    """The thread that runs."""

    threads: int = 0
    block: int = 0
    block_y: int = 0
    blocks_y: int = 0
    epochs: dict = field(default_factory=dict)
    """How many words for all lanes each warp of the block has passed."""
    phase: int = 0
    """How many words for all threads the block has."""

    _thread: int = 0
    _now: _Moment | None = None

    @property
    def thread(self) -> int:
        return self._thread

    @thread.setter
    def thread(self, number: int) -> None:
        # Blocks, words and phases change only before another thread has its turn.
        self._thread, self._now = number, None

    @property
    def now(self) -> _Moment:
        if self._now is None:
            blocks, warp = (self.block_y, self.block), self._thread // WARP
            epoch = self.epochs.get(warp, 0)
            self._now = _Moment(blocks, warp, self._thread, epoch, self.phase)
        return self._now


class _Moment(NamedTuple):
    """Who is where."""

    block: tuple[int, int]
    warp: int
    thread: int
    epoch: int
    phase: int

    def is_before(self, other: _Moment) -> bool:
        """Whether what a thread has done is done for another one."""
        if self.block != other.block:
            return False
        is_seen = self.warp == other.warp and self.epoch < other.epoch
        return self.thread == other.thread or is_seen or self.phase < other.phase


@dataclass
class _Written:
    """An array that a kernel writes, with the thread that stored each element and when."""

    window: Any
    words: _Words

    def __getitem__(self, index):
        key, now = self.window.key(index), self.words.place.now
        found = self.words.stores.get(key)
        if found is not None:
            assert found.is_before(now), f"{now} reads what {found} stores"
        loads = self.words.loads.setdefault(key, {})
        last = loads.get((now.block, now.warp))
        # Of two lanes that have read since the last word, a store of either is too early.
        both = last is not None and last.epoch == now.epoch and last.thread != now.thread
        loads[now.block, now.warp] = now._replace(thread=-1) if both else now
        return self.window[index]

    def __setitem__(self, index, x):
        key, now = self.window.key(index), self.words.place.now
        others = [self.words.stores.get(key), *self.words.loads.pop(key, {}).values()]
        for found in filter(None, others):
            assert found.is_before(now), f"{now} stores where {found} stores or reads"
        self.words.stores[key] = now
        self.window[index] = x


@dataclass
class _Words:
    """What the names of a text stand for."""

    place: _Place = field(default_factory=_Place)
    stores: dict = field(default_factory=dict)
    """Of all arrays of a launch: by the address of an element, who stored it last."""
    loads: dict = field(default_factory=dict)
    """Who has read it since."""
    memory: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint8))
    """What the present block shares."""

    def _shared(self, start: int, code: str) -> _Written:
        dtype = np.dtype(code.replace("b1", "?"))
        assert start % dtype.itemsize == 0 and start <= self.memory.size, "shared memory"
        rest = self.memory[
            start : start + (self.memory.size - start) // dtype.itemsize * dtype.itemsize
        ]
        return _Written(_Shared(rest.view(dtype), start), self)

    def namespace(self) -> SimpleNamespace:
        place = self.place
        kept = "integer", "real", "cplx", "cast", "add_reassoc", "times"
        return SimpleNamespace(
            **{name: getattr(PLAIN, name) for name in kept},
            call=lambda function, *xs: function(*xs),
            reads=lambda table, k, code: table[k],
            writes=lambda table, k, code: _Written(table[k], self),
            shared=self._shared,
            thread=lambda: place.thread,
            threads=lambda: place.threads,
            block=lambda: place.block,
            block_y=lambda: place.block_y,
            blocks_y=lambda: place.blocks_y,
            lane=lambda: place.thread % WARP,
            own=lambda: place.thread // WARP,
            warp=lambda: place.block * (place.threads // WARP) + place.thread // WARP,
            **{name: functools.partial(lambda word, *xs: (word, *xs), name) for name in WAITING},
        )


@dataclass
class _Shared:
    """A window on the memory that a block shares, from a byte on."""

    array: np.ndarray
    start: int

    def key(self, index) -> tuple:
        return "shared", self.start + operator.index(index) * self.array.itemsize

    def _at(self, index) -> int:
        assert 0 <= operator.index(index) < self.array.size, "an element outside shared memory"
        return operator.index(index)

    def __getitem__(self, index):
        return self.array[self._at(index)]

    def __setitem__(self, index, x):
        self.array[self._at(index)] = x


class _Yields(ast.NodeTransformer):
    """Words for all lanes are given to the warp."""

    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in WAITING:
            return ast.copy_location(ast.Yield(node), node)
        return node


@functools.lru_cache(maxsize=1024)
def simulated(source: str) -> Callable:
    """A kernel as a function of its grid, the threads of a block, what they share, and its table."""
    words = _Words()
    ours = words.namespace()

    def replaced(name, *rest):
        return (
            ours if name == "nbhvp.targets.cuda.kernels.words" else builtins.__import__(name, *rest)
        )

    tree = ast.fix_missing_locations(_Yields().visit(ast.parse(source)))
    namespace = {"__builtins__": {**vars(builtins), "__import__": replaced}}
    exec(compile(tree, "<simulated>", "exec"), namespace)
    kernel = namespace[tree.body[-1].name]
    waits = any(isinstance(node, ast.Yield) for node in ast.walk(tree))

    def launch(grid: tuple[int, int], threads: int, shared: int, table: list) -> None:
        place = words.place
        place.threads, place.blocks_y = threads, grid[1]
        words.stores.clear()
        words.loads.clear()
        with np.errstate(all="ignore"):
            for place.block_y in range(grid[1]):
                for place.block in range(grid[0]):
                    place.epochs, place.phase = {}, 0
                    words.memory = np.full(shared, 0xFF, np.uint8)
                    for key in [key for key in words.stores if key[0] == "shared"]:
                        del words.stores[key]
                    for key in [key for key in words.loads if key[0] == "shared"]:
                        del words.loads[key]
                    if waits:
                        _run_block(place, threads, lambda: kernel(table))
                        continue
                    for place.thread in range(threads):
                        kernel(table)

    return launch


def _run_block(place: _Place, threads: int, start: Callable) -> None:
    """All warps of a block, each as far as it comes, until all wait or have ended."""
    warps = [range(first, first + WARP) for first in range(0, threads, WARP)]
    running = {warp: ([start() for _ in warp], [None] * WARP) for warp in warps}
    while running:
        stops = {warp: _run_warp(place, warp, *running[warp]) for warp in running}
        assert len(set(stops.values())) == 1, "some warps of a block wait, and others have ended"
        if "end" in stops.values():
            return
        place.phase += 1
        running = {warp: (one, [None] * WARP) for warp, (one, _) in running.items()}


def _run_warp(place: _Place, lanes: range, running: list, answers: list) -> str:
    """Run a warp to its end, or to a word for all threads of the block."""
    while True:
        asked = []
        for place.thread, one, answer in zip(lanes, running, answers, strict=True):
            try:
                asked.append(one.send(answer))
            except StopIteration:
                asked.append(("end",))
        words = {word for word, *_ in asked}
        assert len(words) == 1, f"lanes of a warp wait at different words: {words}"
        (word,) = words
        if word in ("end", "sync_block"):
            return word
        place.epochs[lanes[0] // WARP] = place.epochs.get(lanes[0] // WARP, 0) + 1
        answers = _answers(word, [x for _, *x in asked])


def _answers(word: str, given: list) -> list:
    if word == "sync_warp":
        return [None] * len(given)
    values = [x for x, *_ in given]
    if word == "warp_all":
        return [all(values)] * len(given)
    if word == "warp_last":
        return [values[-1]] * len(given)
    if word == "warp_swap":
        return [values[k ^ distance] for k, (_, distance) in enumerate(given)]
    if word == "warp_scan":
        for distance in (1, 2, 4, 8, 16):
            values = [
                x + values[k - distance] if k >= distance else x for k, x in enumerate(values)
            ]
        return values
    for distance in (16, 8, 4, 2, 1):
        values = [x + values[k ^ distance] for k, x in enumerate(values)]
    return values


def _in_turn(method: Callable) -> Callable:
    """A method that one thread runs at a time."""

    @functools.wraps(method)
    def called(self, *arguments):
        with self._lock:
            return method(self, *arguments)

    return called


class Order:
    """What has ended when something begins, by a clock for each stream of how far it knows the others.

    An access that may run beside a write of the same memory, or a write beside an access, is an error.
    """

    def __init__(self):
        self._lock = threading.RLock()
        self.events: dict[int, dict[int, int]] = {}
        self._count = 0
        self._host: dict[int, int] = {}
        self._clocks: dict[int, dict[int, int]] = {}
        self._writes: dict[int, tuple[int, int]] = {}
        self._reads: dict[int, dict[int, int]] = {}

    def _clock(self, stream: int) -> dict[int, int]:
        clock = self._clocks.setdefault(stream, {stream: 0})
        _join(clock, self._host)
        return clock

    @_in_turn
    def new_event(self) -> int:
        self._count += 1
        self.events[self._count] = {}
        return self._count

    @_in_turn
    def record(self, event: int, stream: int) -> None:
        self.events[event] = dict(self._clock(stream))

    @_in_turn
    def wait_event(self, stream: int, event: int) -> None:
        _join(self._clock(stream), self.events[event])

    @_in_turn
    def wait(self, streams) -> None:
        for stream in streams:
            _join(self._host, self._clock(stream))

    @_in_turn
    def access(self, memory: int, stream: int, writes: bool) -> None:
        clock = self._clock(stream)
        clock[stream] += 1
        before = [self._writes[memory]] if memory in self._writes else []
        if writes:
            before += self._reads.get(memory, {}).items()
        for other, time in before:
            assert clock.get(other, 0) >= time, f"stream {stream} does not wait for {other}"
        if writes:
            self._writes[memory] = stream, clock[stream]
            self._reads[memory] = {}
        else:
            self._reads.setdefault(memory, {})[stream] = clock[stream]

    @_in_turn
    def free(self, memory: int) -> None:
        used = [*self._reads.pop(memory, {}).items()]
        if memory in self._writes:
            used.append(self._writes.pop(memory))
        for stream, time in used:
            assert self._host.get(stream, 0) >= time, f"stream {stream} uses what is freed"


def _join(clock: dict[int, int], other: dict[int, int]) -> None:
    for stream, time in other.items():
        clock[stream] = max(clock.get(stream, 0), time)


class Driver:
    """The driver's library without a GPU: host memory, and kernels that are `simulated`.

    Each function takes what the library's own takes, and checks it: a context in the calling thread,
    addresses within memory that is allocated, kernels that were loaded. `fail` names functions that fail.
    """

    def __init__(self, devices: int = 1, capability=(9, 0), memory: int = 1 << 30):
        self.devices, self.capability, self.bytes = devices, capability, memory
        self.touched: set[tuple[int, bool]] = set()
        """The memory that the kernel which runs reads and writes."""
        self.fail: dict[str, int] = {}
        self.calls: list[str] = []
        self.failures: list[Exception] = []
        """Of kernels, which the driver tells as a code."""
        self.sources: dict[str, str] = {}
        """Of kernels, by a digest that their PTX ends with."""
        self.streams = {1}
        """The legacy one, and those that were created."""
        self._numbers = itertools.count(100)
        self._changing, self._running = threading.Lock(), threading.Lock()
        """Held by the kernel that runs: threads take turns."""
        self.order = Order()
        self._local = threading.local()
        self._memory: dict[int, np.ndarray] = {}
        self._owners: dict[int, int] = {}
        """The number of the device of each."""
        self._kernels: list[tuple[str, Callable]] = []
        self._links: list[Any] = []
        self._modules: list[dict[str, str]] = []
        self._graphs: list[Any] = []
        self._instances: dict[int, Any] = {}
        launch = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_uint64] * 11)
        self.cuLaunchKernel = launch(self._checked("cuLaunchKernel", self._launch))

    def __getattr__(self, name: str) -> Callable:
        function = getattr(type(self), f"_{name}", None)
        if function is None:
            raise AttributeError(name)
        return self._checked(name, functools.partial(function, self))

    def _checked(self, name: str, function: Callable) -> Callable:
        def called(*arguments) -> int:
            self.calls.append(name)
            if name in self.fail:
                return self.fail[name]
            return function(*arguments) or 0

        return called

    @property
    def used(self) -> int:
        """Bytes that are allocated."""
        return sum(array.nbytes for array in self._memory.values())

    def _cuGetErrorName(self, code, word):
        word._obj.value = f"CUDA_ERROR_{code}".encode()

    def _cuGetErrorString(self, code, word):
        word._obj.value = b"in words"

    def _cuInit(self, flags):
        assert flags == 0

    def _cuDeviceGetCount(self, count):
        count._obj.value = self.devices

    def _cuDeviceGet(self, device, ordinal):
        device._obj.value = 10 + ordinal

    def _cuDeviceGetAttribute(self, value, which, device):
        known = {75: self.capability[0], 76: self.capability[1], 16: 132, 13: 1_980_000, 87: 2}
        value._obj.value = known[which]

    def _cuDevicePrimaryCtxRetain(self, context, device):
        context._obj.value = 100 + device.value

    def _cuCtxSetCurrent(self, context):
        self._local.context = context.value

    def _enter(self) -> None:
        assert getattr(self._local, "context", None), "a call without a context"

    def _cuStreamCreate(self, stream, flags):
        self._enter()
        assert flags == 1
        stream._obj.value = next(self._numbers)
        self.streams.add(stream._obj.value)

    def _cuEventCreate(self, event, flags):
        self._enter()
        assert flags == 2
        event._obj.value = self.order.new_event()

    def _cuEventRecord(self, event, stream):
        assert stream.value in self.streams
        self.order.record(event.value, stream.value)

    def _cuStreamWaitEvent(self, stream, event, flags):
        assert stream.value in self.streams and flags == 0
        self.order.wait_event(stream.value, event.value)

    def _cuEventDestroy_v2(self, event):
        del self.order.events[event.value]

    def _cuStreamSynchronize(self, stream):
        self._enter()
        assert stream.value in self.streams
        self.order.wait([stream.value])

    def _cuCtxSynchronize(self):
        self._enter()
        self.order.wait(self.streams)

    def _cuPointerGetAttribute(self, value, which, address):
        assert which == 9
        start, _ = self._block(address.value)
        value._obj.value = self._owners[start]

    def _cuMemGetInfo_v2(self, free, total):
        self._enter()
        free._obj.value, total._obj.value = self.bytes - self.used, self.bytes

    def _cuMemAlloc_v2(self, address, size):
        self._enter()
        # All bits set: NaN, in floats, and no index that is valid.
        memory = np.full(size.value + 256, 0xFF, np.uint8)
        start = -memory.ctypes.data % 256
        address._obj.value = memory.ctypes.data + start
        with self._changing:  # a kernel may look up elements in another thread
            self._memory = self._memory | {address._obj.value: memory[start : start + size.value]}
        self._owners[address._obj.value] = self._local.context - 110

    def _cuMemFree_v2(self, address):
        self._enter()
        self.order.free(address.value)
        with self._changing:
            assert address.value in self._memory, "memory that is not there"
            self._memory = {at: one for at, one in self._memory.items() if at != address.value}

    def _block(self, address: int) -> tuple[int, int]:
        """Where the memory begins that an address lies in, and the address in it."""
        start = max((one for one in self._memory if one <= address), default=0)
        assert start, f"the address {address} is in no memory"
        return start, address - start

    def _bytes(self, address: int) -> tuple[np.ndarray, int]:
        """The memory that an address lies in, and where."""
        start, at = self._block(address)
        return self._memory[start], at

    def access(self, address: int, size: int, stream: int, writes: bool) -> None:
        """Bytes that something on a stream reads or writes."""
        self._enter()
        assert stream in self.streams
        start, at = self._block(address)
        assert at + size <= self._memory[start].size, "a copy beyond memory"
        self.order.access(start, stream, writes)

    def _cuMemcpyHtoDAsync_v2(self, address, data, size, stream):
        self.access(address.value, size.value, stream.value, True)
        ctypes.memmove(address.value, data.value, size.value)

    def _cuMemcpyDtoHAsync_v2(self, data, address, size, stream):
        self.access(address.value, size.value, stream.value, False)
        ctypes.memmove(data.value, address.value, size.value)

    def _cuMemcpyDtoDAsync_v2(self, target, source, size, stream):
        self.access(source.value, size.value, stream.value, False)
        self.access(target.value, size.value, stream.value, True)
        ctypes.memmove(target.value, source.value, size.value)

    def _cuDriverGetVersion(self, version):
        version._obj.value = 1

    def _cuLinkCreate_v2(self, count, options, values, state):
        self._enter()
        self._links.append(None)
        state._obj.value = len(self._links)

    def _cuLinkAddData_v2(self, state, kind, data, size, name, *options):
        assert kind == 1 and data.value and size.value == len(data.value) + 1, "PTX ends with a 0"
        self._links[state.value - 1] = data.value

    def _cuLinkComplete(self, state, data, size):
        text = self._links[state.value - 1]
        kept = ctypes.create_string_buffer(b"machine code\n" + text)
        self._links[state.value - 1] = kept
        data._obj.value, size._obj.value = ctypes.addressof(kept), len(kept) - 1

    def _cuLinkDestroy(self, state):
        self._links[state.value - 1] = None

    def _cuModuleLoadData(self, module, image):
        self._enter()
        text = image.value.decode()
        assert text.startswith("machine code"), "PTX would be assembled at each start"
        entries = re.findall(r"\.visible \.entry (\w+)\(.*?// simulated (\w+)", text, re.DOTALL)
        self._modules.append({name: self.sources[digest] for name, digest in entries})
        module._obj.value = len(self._modules)

    def _cuModuleGetFunction(self, function, module, name):
        self._enter()
        source = self._modules[module.value - 1][name.value.decode()]
        self._kernels.append((source, simulated(source)))
        function._obj.value = len(self._kernels)

    # Graphs.

    def _cuGraphCreate(self, graph, flags):
        self._enter()
        assert flags == 0
        self._graphs.append([])
        graph._obj.value = len(self._graphs)

    def _node(self, kernel) -> tuple:
        """What a launch of a node is: its table is copied, as the driver does."""
        one = kernel._obj
        source, _ = self._kernels[one.kernel - 1]
        table = ctypes.string_at(one.parameters[0], 8 * slots(source))
        return one.kernel, [*one.grid], [*one.block], one.shared, table

    def _cuGraphAddKernelNode(self, node, graph, before, count, kernel):
        nodes = self._graphs[graph.value - 1]
        assert [*before[:count]] == ([len(nodes)] if nodes else []), "a chain of launches"
        nodes.append(self._node(kernel))
        node._obj.value = len(nodes)

    def _cuGraphInstantiateWithFlags(self, handle, graph, flags):
        assert flags.value == 0
        self._instances[len(self._instances) + 1] = [*self._graphs[graph.value - 1]]
        handle._obj.value = len(self._instances)

    def _cuGraphDestroy(self, graph):
        self._graphs[graph.value - 1] = None

    def _cuGraphExecDestroy(self, handle):
        self._instances[handle.value] = None

    def _cuGraphExecKernelNodeSetParams(self, handle, node, kernel):
        self._enter()
        self._instances[handle.value][node.value - 1] = self._node(kernel)

    def _cuGraphLaunch(self, handle, stream):
        for kernel, grid, block, shared, table in self._instances[handle.value]:
            memory = ctypes.create_string_buffer(table)
            place = ctypes.c_uint64(ctypes.addressof(memory))
            at = ctypes.addressof(place)
            code = self._launch(kernel, *grid, *block, shared, stream.value, at, 0)
            if code:
                return code
        return 0

    def _launch(
        self, kernel, x, y, z, threads, y_threads, z_threads, shared, stream, places, extra
    ):
        try:
            self._enter()
            assert (z, y_threads, z_threads, extra) == (1, 1, 1, 0)
            assert shared <= 48 * 1024, "more than a block may share"
            assert stream in self.streams
            assert threads % WARP == 0 and 0 < x < 1 << 31 and 0 < y < 1 << 16, "a grid"
            source, launch = self._kernels[kernel - 1]
            table = ctypes.c_uint64.from_address(places).value
            with self._running:
                self.touched.clear()
                launch((x, y), threads, shared, self._table(source, table))
                for start, writes in sorted(self.touched):
                    self.order.access(start, stream, writes)
        except Exception as error:  # ctypes would drop it
            self.failures.append(error)
            return 1
        return 0

    def _table(self, source: str, address: int) -> list:
        """A table in memory, as plain Python takes it."""
        table: list = []
        for word, place, kind in _accesses(source):
            at = address + 8 * place
            assert len(table) == place, "a slot without a word"
            if word == "integer":
                table.append(ctypes.c_int64.from_address(at).value)
            elif word in ("real", "cplx"):
                count = 1 + (word == "cplx")
                table += [ctypes.c_double.from_address(at + 8 * k).value for k in range(count)]
            else:
                table.append(self._window(ctypes.c_uint64.from_address(at).value, np.dtype(kind)))
        return table

    def _window(self, address: int, dtype: np.dtype) -> _Far:
        # It may lie before its array, where guards keep a kernel from reading.
        assert address % dtype.itemsize == 0, "an array that is not aligned"
        return _Far(self, address, dtype)


@functools.lru_cache(maxsize=1024)
def _accesses(source: str) -> list[tuple[str, int, str]]:
    """What a kernel reads from its table: words, places, dtypes."""
    pattern = r"(reads|writes|integer|real|cplx)\(table, (\d+)(?:, '(\w+)')?\)"
    found = ((word, int(place), kind) for word, place, kind in re.findall(pattern, source))
    return sorted(found, key=lambda one: one[1])


_lowered = functools.lru_cache(maxsize=1024)(lowered)
"""Kernels that have been lowered once need not be again."""


@dataclass
class _Far:
    """The elements of an array from an address on: each is looked up where it lies."""

    driver: Driver
    address: int
    dtype: np.dtype
    last: tuple[int, np.ndarray] = (0, np.empty(0, np.uint8))
    """The memory of the last element, and where it begins: a launch ends before any is freed."""

    def _place(self, index, writes: bool) -> tuple[np.ndarray, int]:
        address = self.address + operator.index(index) * self.dtype.itemsize
        start, memory = self.last
        at = address - start
        if not 0 <= at < memory.size:
            start, at = self.driver._block(address)
            memory = self.driver._memory[start]
            self.last = start, memory
        self.driver.touched.add((start, writes))
        assert at + self.dtype.itemsize <= memory.size, "an element outside its memory"
        return memory, at

    def key(self, index) -> tuple:
        return (self.address + operator.index(index) * self.dtype.itemsize,)

    def __getitem__(self, index):
        memory, at = self._place(index, False)
        return memory[at : at + self.dtype.itemsize].view(self.dtype)[0]

    def __setitem__(self, index, x):
        memory, at = self._place(index, True)
        memory[at : at + self.dtype.itemsize].view(self.dtype)[0] = x


class Cublas:
    """The calls of cuBLAS that programs make, in NumPy."""

    def __init__(self):
        self.products = 0

    def cublasCreate_v2(self, handle):
        handle._obj.value = 3
        return 0

    def cublasSetMathMode(self, handle, mode):
        return 0

    def cublasSetStream_v2(self, handle, stream):
        assert handle.value == 3 and stream.value
        return 0

    def cublasDgemmStridedBatched(self, *arguments):
        return self._gemm(np.float64, *arguments)

    def cublasSgemmStridedBatched(self, *arguments):
        return self._gemm(np.float32, *arguments)

    def _gemm(
        self, dtype, handle, a_op, b_op, m, n, k, alpha, a, lda, a_step, b, ldb, b_step, beta,
        c, ldc, c_step, count
    ):  # fmt: skip
        self.products += 1
        size = np.dtype(dtype).itemsize

        def matrix(pointer, op, rows, columns, lead, step, at):
            assert lead >= (columns if op else rows), "a leading dimension"
            shape, strides = (rows, columns), (size, lead * size)
            flat = (ctypes.c_char * (size * lead * (rows if op else columns))).from_address(
                pointer.value + at * step.value * size
            )
            return np.ndarray(shape, dtype, flat, 0, strides[::-1] if op else strides)

        for at in range(count):
            left = matrix(a, a_op, m, k, lda, a_step, at)
            right = matrix(b, b_op, k, n, ldb, b_step, at)
            result = matrix(c, 0, m, n, ldc, c_step, at)
            old = beta._obj.value * result if beta._obj.value else 0
            result[...] = alpha._obj.value * (left @ right) + old
        return 0


@contextlib.contextmanager
def simulated_driver(
    assembles: bool = True, cublas: Cublas | None = None, **settings
) -> Iterator[Driver]:
    """A driver without a GPU in the place of the library, and no device that was made before.

    If it `assembles`, kernels go through LLVM to PTX, as for a device; else they are lowered, but no more, and
    what is left to the host is interpreted.
    """
    stub = Driver(**settings)
    own, own_ptx, own_blas = driver._library, cache.ptx, blas.library
    own_loaded, libcuda.loaded = libcuda.loaded, lambda: stub
    own_host = programs._on_host
    if not assembles:
        programs._on_host = interpreted.Program

    def ptx(source: str) -> str:
        if assembles:
            text = own_ptx(source)
        else:
            _lowered(source, cache.NAME)
            text = f".visible .entry {cache.NAME}("
        digest = hashlib.sha256(source.encode()).hexdigest()
        stub.sources[digest] = source
        return f"{text}\n// simulated {digest}\n"

    driver._library, cache.ptx, blas.library = lambda: stub, ptx, lambda: cublas
    driver.device.cache_clear()
    try:
        yield stub
    finally:
        driver._library, cache.ptx, blas.library = own, own_ptx, own_blas
        libcuda.loaded, programs._on_host = own_loaded, own_host
        driver.device.cache_clear()
