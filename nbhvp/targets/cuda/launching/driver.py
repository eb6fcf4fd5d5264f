"""The NVIDIA driver's library, as much of it as programs need: no toolkit, no further package.

A `Device` is one GPU with its primary context, which CuPy, torch and JAX use too, and a stream of its own.
Memory that has been freed is kept for the next request of its size, as the driver's own calls wait for
all that runs. A call that fails raises
RuntimeError with the driver's words.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nbhvp.targets.cuda import blas
from nbhvp.targets.cuda.launching import cache, graphs, libcuda, modules
from nbhvp.targets.cuda.launching.launches import Launch, Words
from nbhvp.targets.native import entries

__all__ = ["Device", "device"]

PROCESSORS, CLOCK, RATIO = 16, 13, 87
"""The numbers of attributes: processors, kHz, and operations in single precision for one in double."""
REFERENCE = 132 * 1_980_000 / 2
"""The same of the device that `costs.GPU` describes: processors times kHz, over the ratio."""
LINE = 256
"""What the driver aligns memory to."""
OUT_OF_MEMORY = 2


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = libcuda.loaded()
    except OSError as error:
        raise RuntimeError(
            f"target='cuda' needs an NVIDIA driver, which could not be loaded: {error}. "
            "Install the driver, or use target='cpu'"
        ) from None
    _check(library, "cuInit", library.cuInit(0))
    return library


def _check(library: ctypes.CDLL, name: str, code: int) -> None:
    if code == 0:
        return
    word, text = ctypes.c_char_p(), ctypes.c_char_p()
    library.cuGetErrorName(code, ctypes.byref(word))
    library.cuGetErrorString(code, ctypes.byref(text))
    words = [part.value.decode() for part in (word, text) if part.value]
    raise RuntimeError(f"{name} failed: {': '.join(words) or code}")


class Device:
    """One GPU."""

    def __init__(self, ordinal: int = 0):
        self._process, self._library = os.getpid(), _library()
        self._context = ctypes.c_void_p()
        self._kernels: dict[str, int] = {}
        self._free: dict[tuple[int, int], list[int]] = {}
        """Memory that waits, by the stream on which it was used and its size."""
        self.copies: dict[int, Any] = {}
        """Of arrays that nobody can write, by their identity: they are removed when these are deleted."""
        self._local = threading.local()
        self._idle: list[int] = []
        """Streams of threads that have ended."""
        self.streams: set[int] = set()
        """All streams of ours."""
        self.lock = threading.Lock()
        """Held while kernels are loaded, and by calls of cuBLAS."""
        handle, count = ctypes.c_int(), ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        if not 0 <= ordinal < count.value:
            raise ValueError(f"device {ordinal} was asked for, and there are {count.value}")
        self._call("cuDeviceGet", ctypes.byref(handle), ordinal)
        self.ordinal, self._handle = ordinal, handle
        self.capability = libcuda.capability(self._library, ordinal)
        if self.capability < libcuda.OLDEST:
            found, oldest = (
                f"{major}.{minor}" for major, minor in (self.capability, libcuda.OLDEST)
            )
            raise RuntimeError(
                f"device {ordinal} has compute capability {found}; target='cuda' needs {oldest} or later: "
                "use another device, or target='cpu'"
            )
        self.processors = self._attribute(PROCESSORS)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), handle)

    @property
    def stream(self) -> int:
        """The stream of the calling thread; another thread has it when this one has ended."""
        try:
            return self._local.stream.handle
        except AttributeError:
            self._local.stream = _Lent(self._idle, self._new_stream)
            return self._local.stream.handle

    def _new_stream(self) -> int:
        self._enter()
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), 1)  # waits for no other stream
        self.streams.add(stream.value or 0)
        return stream.value or 0

    def _call(self, name: str, *arguments) -> None:
        if self._process != os.getpid():
            raise RuntimeError(
                "the process was forked after its first use of the GPU, and the driver does not work "
                "in the child: start processes by 'spawn', or use the GPU in the children alone"
            )
        _check(self._library, name, getattr(self._library, name)(*arguments))

    def _attribute(self, which: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), which, self._handle)
        return value.value

    def slowness(self, dtype: np.dtype) -> float:
        """The time of an operation, in that of the device of `costs.GPU` in double precision."""
        ratio = self._attribute(RATIO) if dtype.itemsize == 8 else 1
        return REFERENCE * max(1, ratio) / (self.processors * max(1, self._attribute(CLOCK)))

    def _enter(self) -> None:
        """Make the context that of the thread."""
        self._call("cuCtxSetCurrent", self._context)

    # Memory.

    def allocate(self, size: int, stream: int) -> int:
        """The address of new memory, for what runs on a stream."""
        size = _rounded(size)
        with contextlib.suppress(KeyError, IndexError):
            return self._free[stream, size].pop()
        self._enter()
        free, total = self._memory()
        if free < size:
            self.forget()
            free, total = self._memory()
        if free < size:
            raise MemoryError(
                f"{size:,} bytes are needed on device {self.ordinal}, and {free:,} of its {total:,} "
                "are free: use smaller batches, fewer directions at once, or target='cpu'"
            )
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value

    def _memory(self) -> tuple[int, int]:
        """The bytes that are free, and all."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def free(self, address: int, size: int, stream: int) -> None:
        """Keep memory for the next request of its size on its stream."""
        self._free.setdefault((stream, _rounded(size)), []).append(address)

    def forget(self) -> None:
        """Give memory that waits back to the driver."""
        waiting, self._free = self._free, {}
        if any(waiting.values()):
            self.wait_for_all()
        for address in (one for some in waiting.values() for one in some):
            self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        """Copy memory of the device, on a stream."""
        if size:
            self._enter()
            addresses = ctypes.c_uint64(target), ctypes.c_uint64(source)
            size_, handle = ctypes.c_size_t(size), self._handle_of(stream)
            self._call("cuMemcpyDtoDAsync_v2", *addresses, size_, handle)

    def follow(self, stream: int, other: int) -> None:
        """Let what is launched on a stream from now on wait for what was launched on another."""
        if stream != other:
            event = self.mark(other)
            self.wait_there(stream, event)
            self.drop(event)

    def mark(self, stream: int, event: int = 0) -> int:
        """The event that what was launched on a stream has ended; one of before may be used again."""
        self._enter()
        handle = ctypes.c_void_p(event)
        if not event:
            self._call("cuEventCreate", ctypes.byref(handle), 2)  # which tells no time
        self._call("cuEventRecord", handle, self._handle_of(stream))
        return handle.value or 0

    def wait_there(self, stream: int, event: int) -> None:
        """Let what is launched on a stream from now on wait for an event."""
        self._enter()
        self._call("cuStreamWaitEvent", self._handle_of(stream), ctypes.c_void_p(event), 0)

    def drop(self, event: int) -> None:
        """Forget an event, once it has happened."""
        self._call("cuEventDestroy_v2", ctypes.c_void_p(event))

    def upload(self, address: int, array: np.ndarray, stream: int | None = None) -> None:
        """Copy a C-contiguous array, whose memory may be used again after `wait`, or at once if pageable."""
        if array.nbytes:
            self._enter()
            data, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
            target = ctypes.c_uint64(address), data, size, self._handle_of(stream)
            self._call("cuMemcpyHtoDAsync_v2", *target)

    def download(self, array: np.ndarray, address: int, stream: int | None = None) -> None:
        """Copy into a C-contiguous array, when all that was launched before has ended."""
        if array.nbytes:
            self._enter()
            data, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
            target = data, ctypes.c_uint64(address), size, self._handle_of(stream)
            self._call("cuMemcpyDtoHAsync_v2", *target)
        self.wait(stream)

    def _handle_of(self, stream: int | None) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.stream if stream is None else stream)

    def wait(self, stream: int | None = None) -> None:
        """Until all that was launched on a stream has ended."""
        self._enter()
        self._call("cuStreamSynchronize", self._handle_of(stream))

    def wait_for_all(self) -> None:
        """Until all that was launched has ended."""
        self._enter()
        self._call("cuCtxSynchronize")

    def ordinal_of(self, address: int) -> int:
        """The number of the device on which some memory lies."""
        self._enter()
        found = ctypes.c_int()
        self._call("cuPointerGetAttribute", ctypes.byref(found), 9, ctypes.c_uint64(address))
        return found.value

    # Kernels.

    def kernels(self, texts: Mapping[str, str]) -> dict[str, int]:
        """The handles of kernels, by their sources, given their PTX: new ones are one module."""
        with self.lock:
            new = [source for source in texts if source not in self._kernels]
            if new:
                handles = self._loaded([texts[source] for source in new])
                self._kernels.update(zip(new, handles, strict=True))
        return {source: self._kernels[source] for source in texts}

    def _loaded(self, texts: Sequence[str]) -> list[int]:
        self._enter()
        text, version = modules.joined(texts), ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(version))
        made_for = f"{version.value} {self.capability}"
        image = cache.cubin(text, made_for, lambda: self._assembled(text))
        module, found = ctypes.c_void_p(), []
        self._call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(image))
        for k in range(len(texts)):
            function, name = ctypes.c_void_p(), ctypes.c_char_p(modules.entry(k).encode())
            self._call("cuModuleGetFunction", ctypes.byref(function), module, name)
            found.append(function.value or 0)
        return found

    def _assembled(self, text: str) -> bytes:
        """The machine code of PTX for this device."""
        state, data, size = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_size_t()
        log = ctypes.create_string_buffer(1 << 13)
        options = (ctypes.c_int * 2)(5, 6)  # the buffer for errors, and its size
        values = (ctypes.c_void_p * 2)(ctypes.addressof(log), len(log))
        given = text.encode() + b"\0"
        self._call("cuLinkCreate_v2", 2, options, values, ctypes.byref(state))
        try:
            of_ptx = (
                1,
                ctypes.c_char_p(given),
                ctypes.c_size_t(len(given)),
                ctypes.c_char_p(b"nbhvp"),
            )
            self._call("cuLinkAddData_v2", state, *of_ptx, 0, None, None)
            self._call("cuLinkComplete", state, ctypes.byref(data), ctypes.byref(size))
            return ctypes.string_at(data.value or 0, size.value)
        except RuntimeError as error:
            raise RuntimeError(f"{error}; {log.value.decode()}") from None
        finally:
            self._call("cuLinkDestroy", state)

    def words(self, launches: Sequence[Launch]) -> Words:
        """The words of some launches."""
        launcher = ctypes.cast(self._library.cuLaunchKernel, ctypes.c_void_p).value or 0
        return Words(launches, launcher, 0)

    @functools.cached_property
    def blas(self) -> blas.Blas | None:
        """cuBLAS, if it is installed."""
        library = blas.library()
        if library is None:
            return None
        self._enter()
        return blas.Blas(library)

    def run(self, words: Words, stream: int) -> None:
        """Launch kernels, in order; they run after all that was launched on the stream before."""
        self._enter()
        words.runs += 1
        if words.graph is None and words.runs > 1 and self._takes_graph(words):
            words.graph = graphs.Graph(self._call, words)
        if words.graph is not None:
            words.graph.launch(stream)
            return
        words.array[2] = stream
        _check(self._library, "cuLaunchKernel", _launch()(words.array))

    def _takes_graph(self, words: Words) -> bool:
        is_long = len(words.launches) >= graphs.LEAST
        return is_long and hasattr(self._library, "cuGraphInstantiateWithFlags")  # since CUDA 11.4


class _Lent:
    """A stream that a thread has until it ends."""

    def __init__(self, idle: list[int], new: Callable[[], int]):
        self._idle = idle
        try:
            self.handle = idle.pop()
        except IndexError:
            self.handle = new()

    def __del__(self):
        if hasattr(self, "handle"):
            self._idle.append(self.handle)


def _rounded(size: int) -> int:
    return -(-max(size, 1) // LINE) * LINE


@functools.cache
def _launch() -> Callable:
    return entries.load("nbhvp.targets.cuda.launching.launches", {"launch": "a"})["launch"]


@functools.cache
def device(ordinal: int) -> Device:
    """The device of a number."""
    return Device(ordinal)


def named(target: str) -> Device:
    """The device of a target: "cuda" is the first one, "cuda:1" the second."""
    return device(int(target.partition(":")[2] or 0))
