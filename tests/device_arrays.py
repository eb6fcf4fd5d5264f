"""Arrays of other libraries on a device, in the memory of the simulated driver.

`Library` is a module under the name of CuPy, torch, JAX or Numba, with the calls that nbhvp makes of it.
Its arrays tell of themselves by `__cuda_array_interface__`, those of `Tensor` by DLPack alone. `computing` is a
CuPy with as much of its functions as steps of programs call.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import sys
from collections import Counter
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import scipy.fft
import scipy.linalg

from nbhvp.targets.cuda import dlpack, library
from nbhvp.targets.cuda.launching import driver
from tests.simulated_gpu import Driver

NAMES = ("cupy", "torch", "jax", "numba")


class Array:
    """An array in the memory of the simulated driver."""

    stub: Driver
    stream: int | None = None
    """What the interface names."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, address: int, owner: Any = None):
        self.shape, self._dtype, self.address, self.owner = shape, np.dtype(dtype), address, owner
        self.ndim, self.size = len(shape), math.prod(shape)
        self.interface_stream = self.stream

    @classmethod
    def of(cls, values: Any, on: int = 0, dtype: Any = None) -> Array:
        """An array of these values, whose memory lives as long as it does."""
        values = np.array(values, dtype, order="C", ndmin=0)
        driver.device(on)._enter()
        address = ctypes.c_uint64()
        cls.stub.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(max(1, values.nbytes)))
        found = cls(values.shape, values.dtype, address.value)
        found.host[...] = values
        return found

    @property
    def host(self) -> np.ndarray:
        """Its elements, when all has ended."""
        memory, at = self.stub._bytes(self.address)
        size = self.size * self._dtype.itemsize
        return memory[at : at + size].view(self._dtype).reshape(self.shape)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape, "typestr": self._dtype.str, "data": (self.address, False),
            "version": 3, "stream": self.interface_stream,
        }  # fmt: skip

    @property
    def dtype(self) -> Any:
        """That of NumPy; torch has dtypes of its own."""
        return self._dtype if type(self).__name__ != "torch" else f"torch.{self._dtype}"

    def __add__(self, other: Array) -> Array:
        return self.of(self.host + other.host)

    def __rmul__(self, other: Any) -> Array:
        return self.of(other * self.host)

    __mul__ = __rmul__


def installed(monkeypatch, stub: Driver, name: str) -> type[Array]:
    """Put a library in the place of an import, and give its class of arrays."""
    kind = type(name, (Array,), {"stub": stub, "__module__": f"{name}.inner"})

    def wrapped(array: Any, device: str = "cuda:0") -> Array:
        interface = array.__cuda_array_interface__
        assert "stream" not in interface, "nothing that it has to wait for"
        assert device == "cuda:0"
        return kind(interface["shape"], interface["typestr"], interface["data"][0], array)

    def from_dlpack(array: Any) -> Array:
        capsule = array.__dlpack__(stream=1)
        one = dlpack.tensor_in(capsule)
        shape = tuple(one.shape[k] for k in range(one.ndim))
        return kind(shape, one.dtype(), one.data, capsule)

    module, inner = ModuleType(name), ModuleType(f"{name}.inner")
    module.__path__ = []
    if name == "jax":
        kind.block_until_ready = lambda self: stub.calls.append("block_until_ready")
    if name == "torch":
        stub.streams.add(5)
        kind.device = "cuda:0"
        module.cuda = SimpleNamespace(current_stream=lambda device: SimpleNamespace(cuda_stream=5))
    maker = {"torch": "as_tensor", "numba": "as_cuda_array"}.get(name, "asarray")
    for one in (module, inner):
        setattr(one, maker, wrapped)
        vars(one)["from_dlpack"] = from_dlpack
    names = {"jax": "jax.dlpack", "numba": "numba.cuda"}
    if name != "numba":  # which is there
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, names.get(name, name), inner if name in names else module)
    return kind


class Tensor(Array):
    """An array that tells of itself by DLPack alone."""

    __cuda_array_interface__ = property()  # type: ignore[assignment]

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, stream: int) -> Any:
        assert stream in self.stub.streams
        self.stub.calls.append("__dlpack__")
        return dlpack.capsule(self, self.address, self.shape, self._dtype, 0)


# CuPy's own functions, by NumPy and SciPy over the same memory.

FUNCTIONS = [
    "abs",
    "argsort",
    "array_equal",
    "asarray",
    "broadcast_to",
    "concatenate",
    "diagonal",
    "empty",
    "full",
    "log",
    "moveaxis",
    "searchsorted",
    "stack",
    "sum",
    "transpose",
    "where",
    "zeros",
]
LINALG = ["cholesky", "eigh", "qr", "svd"]


def computing(monkeypatch, stub: Driver) -> Counter:
    """Put a CuPy that computes in the place of an import; it counts its arrays."""
    made: Counter = Counter()
    streams: list[int] = []

    def array(shape, dtype, memptr):
        address, size, _ = memptr
        for writes in (False, True):
            stub.access(address, size, streams[-1], writes)
        made["arrays"] += 1
        memory, at = stub._bytes(address)
        return memory[at : at + size].view(dtype).reshape(shape)

    @contextlib.contextmanager
    def external(stream):
        streams.append(stream)
        yield
        streams.pop()

    cuda = SimpleNamespace(
        Device=lambda ordinal: contextlib.nullcontext(),
        ExternalStream=external,
        UnownedMemory=lambda address, size, owner: (address, size, owner),
        MemoryPointer=lambda memory, offset: memory,
    )
    modules = {
        "cupy": dict(
            {name: getattr(np, name) for name in FUNCTIONS}, cuda=cuda, ndarray=array, fft=np.fft,
            linalg=SimpleNamespace(**{name: getattr(np.linalg, name) for name in LINALG}),
            asnumpy=np.array,
        ),
        "cupyx": {"errstate": lambda linalg: contextlib.nullcontext()},
        "cupyx.scipy.linalg": {n: getattr(scipy.linalg, n) for n in ("lu_factor", "lu_solve")}
        | {"solve_triangular": _solved},
        "cupyx.scipy.fft": {"dctn": scipy.fft.dctn, "dstn": scipy.fft.dstn},
        "cupyx.scipy.sparse.linalg": {"SuperLU": lambda factors: factors},
    }  # fmt: skip
    for name, functions in modules.items():
        module = ModuleType(name)
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(library, "is_installed", lambda: True)
    library._cupy.cache_clear()
    return made


def _solved(a, b, **options):
    """Where SciPy raises, cuBLAS gives infinities."""
    with contextlib.suppress(np.linalg.LinAlgError):
        return scipy.linalg.solve_triangular(a, b, **options)
    return np.full_like(b, np.inf)
