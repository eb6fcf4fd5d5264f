"""Products of matrices by cuBLAS, where it is installed; `matrices` has kernels for elsewhere.

The library is looked for by the loader, and in the packages of NVIDIA's that PyTorch, JAX and CuPy bring.
cuBLAS stores matrices by columns, so the product in rows is that of the transposed factors in turn.
Emulation of double precision by integers stays off.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nbhvp.plan.schedule import MatrixProduct, Operand

__all__ = ["Blas", "Gemm", "gemms", "library"]

NAMES = [f"libcublas.so.{version}" for version in (13, 12, 11)]
PEDANTIC = 2
"""Mode: the precision of the numbers, in the order that the algorithm states."""
NOT_TRANSPOSED, TRANSPOSED = 0, 1
FUNCTIONS = {
    np.dtype("f8"): ("cublasDgemmStridedBatched", ctypes.c_double),
    np.dtype("f4"): ("cublasSgemmStridedBatched", ctypes.c_float),
}


@functools.cache
def library() -> Any:
    """The library, or None."""
    folders = [Path(folder) / "nvidia" for folder in sys.path if folder]
    wheels = [str(path) for folder in folders for path in folder.glob("*/lib/libcublas.so.*")]
    for name in [*NAMES, *sorted(wheels, reverse=True)]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


@dataclass(frozen=True, eq=False)
class Gemm:
    """z = x y, or z += x y, for a stack of matrices, in the order of rows."""

    dtype: np.dtype
    extents: tuple[int, int, int, int]
    """Of the stack, the rows and the columns of the result, and the terms."""
    x: Operand
    y: Operand
    z: Any
    adds: bool

    @property
    def arrays(self) -> tuple:
        return self.x[0], self.y[0], self.z


def gemms(step: MatrixProduct) -> list[Gemm] | None:
    """The calls of a sum of products; None where BLAS has none for its dtype or its strides."""
    dtype = step.node.dtype
    if dtype not in FUNCTIONS:
        return None
    found = []
    for k, (term, x, y) in enumerate(step.terms):
        batch, rows, columns = term.shape
        length = term.args[0].shape[2]
        shapes = (x, rows, length), (y, length, columns)
        if not all(1 in strides[1:] or 1 in (m, n) for (*_, strides), m, n in shapes):
            return None
        found.append(Gemm(dtype, (batch, rows, columns, length), x, y, step.node, k > 0))
    return found


class Blas:
    """The handle of a device. Calls of several threads take turns: a handle has one stream at a time."""

    def __init__(self, lib: Any):
        self._library = lib
        self._handle = ctypes.c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(self._handle))
        self._call("cublasSetMathMode", self._handle, PEDANTIC)

    def _call(self, name: str, *arguments) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise RuntimeError(f"{name} failed with status {code}")

    def run(self, one: Gemm, addresses: tuple[int, int, int], stream: int) -> None:
        """One product, of operands whose arrays begin at these addresses."""
        name, number = FUNCTIONS[one.dtype]
        batch, rows, columns, length = one.extents
        x, y, z = addresses
        x_op, x_lead = _orientation(rows, length, *one.x[2][1:])
        y_op, y_lead = _orientation(length, columns, *one.y[2][1:])
        long, size = ctypes.c_longlong, one.dtype.itemsize
        pointer = lambda address: ctypes.c_void_p(address)
        alpha, beta = ctypes.byref(number(1)), ctypes.byref(number(float(one.adds)))
        self._call("cublasSetStream_v2", self._handle, ctypes.c_void_p(stream))
        self._call(
            name, self._handle, y_op, x_op, columns, rows, length, alpha,
            pointer(y + size * one.y[1]), y_lead, long(one.y[2][0]),
            pointer(x + size * one.x[1]), x_lead, long(one.x[2][0]),
            beta, pointer(z), columns, long(rows * columns), batch,
        )  # fmt: skip


def _orientation(rows: int, columns: int, row: int, column: int) -> tuple[int, int]:
    """How a matrix that lies in rows is read in columns, and the distance of its rows (columns)."""
    if (column == 1 or columns == 1) and (row >= columns or rows == 1):
        return NOT_TRANSPOSED, max(row, columns)
    return TRANSPOSED, max(column, rows)
