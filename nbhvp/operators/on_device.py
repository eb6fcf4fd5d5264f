"""Operators whose vectors stay on a GPU, for the solvers of `cupyx.scipy.sparse.linalg`."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["DeviceOperator", "on_device"]


class DeviceOperator:
    """A symmetric operator on vectors in the memory of a GPU.

    ``H.on_device()`` makes it where CuPy is not installed. A vector is any one-dimensional array with
    ``__cuda_array_interface__``, of the operator's dtype; a product is an array of the same library, made
    on the stream that the vector names.

    Attributes
    ----------
    shape : tuple
        (n, n).
    dtype : dtype
        That of vectors and products.
    """

    def __init__(self, product: Callable[..., Any], shape: tuple[int, int], dtype: np.dtype):
        self.shape, self.dtype = shape, dtype
        self._product = product

    def matvec(self, v: Any, out: Any = None) -> Any:
        """The product with a vector of shape (n,), in a new array or in `out`."""
        return self._product(v, out)

    __matmul__ = rmatvec = matvec

    @property
    def T(self) -> DeviceOperator:
        """The operator itself, which is symmetric."""
        return self


def on_device(product: Callable[..., Any], shape: tuple[int, int], dtype: np.dtype) -> Any:
    """A LinearOperator of cupyx, if CuPy is installed, else a `DeviceOperator`."""
    if importlib.util.find_spec("cupy") is None:
        return DeviceOperator(product, shape, dtype)
    linalg = importlib.import_module("cupyx.scipy.sparse.linalg")
    return linalg.LinearOperator(shape, matvec=product, rmatvec=product, dtype=dtype)
