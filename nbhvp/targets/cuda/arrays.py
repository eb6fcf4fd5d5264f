"""Arrays in the memory of a device: our own, and those of other libraries where they lie.

CuPy, torch, JAX and Numba tell of their arrays by `__cuda_array_interface__`, and all but Numba by DLPack.
A program reads such an array in place, on the stream on which its library makes it, and what it gives is
an array of the same library: no copy, and no wait but for JAX, whose streams are its own.

A `DeviceArray` has what programs and points ask of an array of NumPy's: shape, dtype, size, bytes, a copy.

Invariant: memory that is freed serves only requests on the stream on which it was used, so what still
runs there ends first.
"""

from __future__ import annotations

import importlib
import math
import sys
import weakref
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from nbhvp.targets.cuda import dlpack

__all__ = ["LEGACY", "DeviceArray", "checked", "given", "joined", "ordinal", "returned"]

LEGACY = 1
"""The stream of arrays that name none."""


class DeviceArray:
    """An array in the memory of a device, in C order.

    Parameters
    ----------
    device : nbhvp.targets.cuda.launching.driver.Device
        Where it lies.
    shape, dtype
        As those of an array of NumPy's.
    stream : int, optional
        The stream on which it is written; that of the thread by default.
    library : str, optional
        The library of the arrays that a caller has given; none where these are NumPy's.
    address : int, optional
        Of memory that `owner` keeps. By default it has memory of its own, freed when it is deleted.
    """

    flags = SimpleNamespace(c_contiguous=True, writeable=True)

    def __init__(
        self,
        device: Any,
        shape: tuple[int, ...],
        dtype: np.dtype,
        stream: int | None = None,
        library: str | None = None,
        address: int | None = None,
        owner: Any = None,
    ):
        self.device, self.shape, self.dtype = device, shape, dtype
        self.stream = device.stream if stream is None else stream
        self.library, self.owner = library, owner
        self.ndim, self.size = len(shape), math.prod(shape)
        self.nbytes = self.size * dtype.itemsize
        if address is None:
            address = device.allocate(self.nbytes, self.stream)
            end = weakref.finalize(self, device.free, address, self.nbytes, self.stream)
            end.atexit = False
        self.address = address

    def empty_like(self) -> DeviceArray:
        """A new array of this shape and dtype."""
        return DeviceArray(self.device, self.shape, self.dtype, self.stream, self.library)

    def held(self) -> DeviceArray:
        """The same memory, for later calls: on the thread's stream, as a caller's may be gone by then."""
        found = self.part(0, self.shape)
        found.stream = self.device.stream
        self.device.follow(found.stream, self.stream)
        return found

    def copy(self) -> DeviceArray:
        """A copy for later calls, made on the thread's stream. The array may be written at once."""
        source = self.held()
        found = source.empty_like()
        self.device.copy(found.address, source.address, self.nbytes, found.stream)
        self.device.follow(self.stream, found.stream)
        return found

    def reshape(self, *shape: Any) -> DeviceArray:
        """The same memory, in another shape of as many elements."""
        sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        if -1 in sizes:
            rest = -math.prod(sizes)
            sizes = tuple(self.size // rest if n == -1 else n for n in sizes)
        assert math.prod(sizes) == self.size, "a reshape keeps all elements"
        return self.part(0, sizes)

    def part(self, offset: int, shape: tuple[int, ...]) -> DeviceArray:
        """The same memory from an element on."""
        address = self.address + offset * self.dtype.itemsize
        return DeviceArray(self.device, shape, self.dtype, self.stream, self.library, address, self)

    def lent(self, library: str) -> DeviceArray:
        """The same memory, for results that a library is given."""
        found = self.part(0, self.shape)
        found.library = library
        return found

    def __getitem__(self, index: Any) -> DeviceArray:
        assert index == (), "the elements are on the device"
        return self

    def tobytes(self) -> bytes:
        """The elements, on the host."""
        return np.asarray(self).tobytes()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        found = np.empty(self.shape, self.dtype)
        self.device.download(found, self.address, self.stream)
        return found if dtype is None else found.astype(dtype)

    def __reduce__(self) -> tuple:
        return np.asarray, (np.asarray(self),)

    def __repr__(self) -> str:
        return f"<DeviceArray {self.dtype}{self.shape} on device {self.device.ordinal}>"

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3: shape, dtype, address, and the stream, where others have to wait for it."""
        found = {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "version": 3,
        }
        # What follows on the caller's own stream comes after it.
        return found if self.library in _MAKERS else found | {"stream": self.stream}

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self.device.ordinal

    def __dlpack__(self, *, stream: int | None = None, copy: bool | None = None, **_: Any) -> Any:
        """A capsule; what is launched on the stream from now on comes after what makes the array."""
        array = self.copy() if copy else self
        if stream != -1:
            self.device.follow(stream or LEGACY, array.stream)
        at = array.address, array.shape, array.dtype, self.device.ordinal
        return dlpack.capsule(array, *at)


# Arrays of a caller.


def given(device: Any, array: Any, name: str = "the array") -> DeviceArray:
    """An array of any library on a device, where it lies.

    Raises
    ------
    TypeError, ValueError
        If it is not in C order, or lies on another device.
    """
    if isinstance(array, DeviceArray):
        _check_device(device, array.device.ordinal, name)
        return array.lent(array.library or DeviceArray.__name__)
    library = _library_of(array)
    if hasattr(array, "block_until_ready"):
        array.block_until_ready()
    if hasattr(array, "__cuda_array_interface__"):
        found = _by_interface(device, array, library, name)
    else:
        found = _by_dlpack(device, array, library, name)
    if found.size:
        _check_device(device, device.ordinal_of(found.address), name)
    return found


def checked(array: DeviceArray, like: Any) -> DeviceArray:
    """An array of the shape and dtype of a node; a flat one in its shape."""
    if array.dtype != like.dtype:
        raise TypeError(f"the array must have dtype {like.dtype}, as x has, got {array.dtype}")
    if array.shape != like.shape and array.shape != (like.size,):
        raise ValueError(
            f"the array must have shape {like.shape} or ({like.size},), got {array.shape}"
        )
    return array


def _check_device(device: Any, ordinal: int, name: str) -> None:
    if ordinal != device.ordinal:
        raise ValueError(
            f"{name} lies on device {ordinal}, and the program on device {device.ordinal}: "
            f"copy it, or use differentiable(target='cuda:{ordinal}')"
        )


def _library_of(array: Any) -> str:
    return type(array).__module__.partition(".")[0]


def _by_interface(device: Any, array: Any, library: str, name: str) -> DeviceArray:
    interface = array.__cuda_array_interface__
    if interface.get("mask") is not None:
        raise TypeError(f"{name} has a mask: fill it first")
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
    _check_order(shape, interface.get("strides"), dtype.itemsize, name)
    stream = interface.get("stream") or _stream_of(array, library)
    return DeviceArray(device, shape, dtype, stream, library, interface["data"][0], array)


def _stream_of(array: Any, library: str) -> int:
    """The stream of arrays whose interface names none: the current one of torch, else the legacy one."""
    if library == "torch":
        return sys.modules["torch"].cuda.current_stream(array.device).cuda_stream or LEGACY
    return LEGACY


def _check_order(shape: tuple[int, ...], strides: Any, itemsize: int, name: str) -> None:
    if strides is None or 0 in shape:
        return
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent > 1 and stride != itemsize:
            raise ValueError(f"{name} must be C-contiguous: make a contiguous copy")
        itemsize *= extent


def _by_dlpack(device: Any, array: Any, library: str, name: str) -> DeviceArray:
    stream = device.stream
    capsule = array.__dlpack__(stream=stream)  # which waits there for what makes the array
    one = dlpack.tensor_in(capsule)
    dtype = one.dtype()
    if dtype is None:
        raise TypeError(f"{name} has a dtype that NumPy does not have")
    shape = tuple(one.shape[k] for k in range(one.ndim))
    strides = [one.strides[k] for k in range(one.ndim)] if one.strides else None
    _check_order(shape, strides, 1, name)
    address = (one.data or 0) + one.offset
    # The capsule is not consumed: it keeps the tensor, and tells its library when it is deleted.
    return DeviceArray(device, shape, dtype, stream, library, address, capsule)


def ordinal(array: Any) -> int:
    """The number of the device of an array."""
    if isinstance(array, DeviceArray):
        return array.device.ordinal
    if hasattr(array, "__dlpack_device__"):
        return array.__dlpack_device__()[1]
    return getattr(getattr(array, "device", None), "id", 0)  # of CuPy's


def joined(device: Any, arrays: Sequence[DeviceArray | np.ndarray]) -> DeviceArray:
    """Arrays of one dtype, one behind the other, in a vector like the first that lies on the device."""
    first = next(array for array in arrays if isinstance(array, DeviceArray))
    size, dtype = sum(array.size for array in arrays), first.dtype
    found = DeviceArray(device, (size,), dtype, first.stream, first.library)
    at = found.address
    for array in arrays:
        if isinstance(array, DeviceArray):
            if array.dtype != dtype:
                raise TypeError(
                    f"arrays of a tree on a device must have one dtype, got {dtype} and {array.dtype}"
                )
            device.follow(found.stream, array.stream)
            device.copy(at, array.address, array.nbytes, found.stream)
            device.follow(array.stream, found.stream)  # its memory may be used again
            at += array.nbytes
        else:
            data = np.ascontiguousarray(array, dtype)
            device.upload(at, data, found.stream)
            device.wait(found.stream)  # for the memory of the host
            at += data.nbytes
    return found


# Results.


def returned(array: DeviceArray) -> Any:
    """A result as an array of the caller's library, in the same memory.

    Libraries that are not known here get a `DeviceArray`, which they read by `__cuda_array_interface__`.
    """
    make = _MAKERS.get(array.library or "")
    if make is None:
        return array
    if array.library in JAX or array.stream in array.device.streams:
        # The library does not know the stream, and JAX may use the memory of x again at once.
        array.device.wait(array.stream)
    return make(array)


def _by(module: str, function: str) -> Callable[[DeviceArray], Any]:
    return lambda array: getattr(importlib.import_module(module), function)(array)


def _tensor(array: DeviceArray) -> Any:
    return importlib.import_module("torch").as_tensor(array, device=f"cuda:{array.device.ordinal}")


JAX = ("jax", "jaxlib")
"""Libraries that compute on streams of their own."""

_MAKERS: dict[str, Callable[[DeviceArray], Any]] = {
    "cupy": _by("cupy", "asarray"),
    **{name: _by("jax.dlpack", "from_dlpack") for name in JAX},
    "numba": _by("numba.cuda", "as_cuda_array"),
    "numba_cuda": _by("numba.cuda", "as_cuda_array"),
    "torch": _tensor,
}
