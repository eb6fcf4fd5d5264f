"""Sparse Hessians and Jacobians at a point, as SciPy's sparse arrays.

A `Matrix` of the trace tells where entries are and how they are had: by one program, or by products with
sums of columns. Both are made once; here they are applied at a point.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from nbhvp.graph.linear_map import Product
from nbhvp.runtime.point import Point

if TYPE_CHECKING:
    from nbhvp.runtime.matrices import Matrix

__all__ = [
    "as_columns",
    "as_rows",
    "assembled",
    "check_given",
    "entries",
    "is_worthwhile",
    "matrix_at",
]

Times = Callable[[np.ndarray], np.ndarray]

DIGITS = 0.4
"""The part of a dtype's digits to which a product is that with the sparse matrix, of a right pattern."""


def matrix_at(point: Point, product: Product, is_symmetric: bool, pattern: Any = None) -> Matrix:
    """The matrix of a product, by the pattern of its graph or by one from outside.

    Raises
    ------
    ValueError
        If the pattern has another shape; if there is none, and the matrix is dense and large.
    """
    if pattern is not None:
        linear = point.recorded.linear_map(product)
        shape = linear.product.size, linear.direction.size
        pattern = scipy.sparse.csr_array(pattern)
        if pattern.shape != shape:
            raise ValueError(f"pattern must have shape {shape}, got {pattern.shape}")
    return point.recorded.matrix(product, point.inputs, is_symmetric, pattern)


def entries(
    matrix: Matrix, point: Point, product: Product, times: Times, dtype: np.dtype
) -> np.ndarray:
    """The entries at a point, by a program or by products with a matrix."""
    from nbhvp.runtime.matrices import Coloured  # with all that finds patterns

    if isinstance(matrix.way, Coloured):
        return matrix.way.entries(times, dtype)
    recorded = point.recorded
    outputs = recorded.entries_at(product, matrix, point.inputs)[len(recorded.guards) :]
    return matrix.way.assembled(outputs)


def as_rows(matrix: Matrix, data: np.ndarray) -> scipy.sparse.csr_array:
    """By rows."""
    return _with_data(matrix.by_rows, data)


def as_columns(matrix: Matrix, data: np.ndarray) -> scipy.sparse.csc_array:
    """By columns, of a symmetric matrix: they are its rows."""
    return _with_data(matrix.by_columns, data)


def _with_data(like: Any, data: np.ndarray) -> Any:
    """A sparse array with other entries: to make one anew takes SciPy longer than a small Hessian."""
    found = copy.copy(like)
    found.data = data
    return found


def assembled(matrix: Matrix, outputs: Sequence[np.ndarray]) -> np.ndarray | None:
    """The entries that the program of a matrix has given; None where products give them."""
    from nbhvp.runtime.matrices import Direct

    return matrix.way.assembled(outputs) if isinstance(matrix.way, Direct) else None


def is_worthwhile(matrix: Matrix) -> bool:
    """Whether the matrix takes much less than a product for each column."""
    return 2 * matrix.products < matrix.shape[1]


def check_given(found: Any, times: Times) -> None:
    """Compare one product with that of a sparse matrix whose pattern came from outside.

    Raises
    ------
    ValueError
        If they differ, as they do where entries are missing in the pattern.
    """
    v = np.random.default_rng(0).uniform(0.5, 1.0, found.shape[1]).astype(found.dtype)
    right, given = times(v), found @ v
    size = np.maximum(abs(found) @ v, np.abs(right))
    wrong = np.abs(given - right) > np.finfo(found.dtype).eps ** DIGITS * size
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"pattern lacks entries: in row {row}, the product of the sparse matrix with a vector is "
            f"{given[row]:.6g}, and that of the function {right[row]:.6g}. Add what is missing, or "
            "leave pattern out"
        )
