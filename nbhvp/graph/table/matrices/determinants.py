"""Determinants, with the derivatives of a polynomial: right where the matrix is singular, too.

The value is that of the function called. With the largest pivots first, A = [P Q; R S] has

    det A = det P det(S - R P^-1 Q),

where the inner matrix is 3 by 3 and its determinant a sum of products, and P is regular as long as
the rank is not below n - 3. Where it is, the first two derivatives of det A are 0.
"""

from __future__ import annotations

import numpy as np

from nbhvp.graph import derive
from nbhvp.graph.definitions import INT
from nbhvp.graph.node import Node
from nbhvp.graph.primitives import (
    _discrete,
    cast,
    constant,
    equal,
    exp,
    less,
    not_equal,
    remainder,
    reshape,
    slice_,
    sum_,
    where,
)
from nbhvp.graph.table.matrices.linalg import (
    diagonal,
    general,
    logdet,
    lu,
    product,
    rows,
    solve_by_lu,
    swapped,
)

__all__ = ["det", "pivoting"]


def _largest_first(a, steps):
    """The order of rows and columns in which `steps` of complete pivoting take them, and its sign."""
    n = a.shape[-1]
    out = np.empty((*a.shape[:-2], 3, n), np.int64)
    for k in np.ndindex(a.shape[:-2]):
        work, orders, sign = np.array(a[k]), (np.arange(n), np.arange(n)), 1
        for step in range(steps):
            place = np.argmax(np.abs(work[step:, step:]))
            i, j = (step + q for q in np.unravel_index(place, (n - step, n - step)))
            work[[step, i]] = work[[i, step]]
            work[:, [step, j]] = work[:, [j, step]]
            for order, q in zip(orders, (i, j), strict=True):
                order[[step, q]] = order[[q, step]]
                sign = -sign if q != step else sign
            if work[step, step] != 0:
                ratio = work[step + 1 :, step] / work[step, step]
                work[step + 1 :, step:] -= np.multiply.outer(ratio, work[step, step:])
        out[k] = *orders, np.full(n, sign)
    return out


def _block(a: Node, row: int, column: int, height: int, width: int) -> Node:
    """A part of each matrix."""
    corner = (0,) * (a.ndim - 2)
    size = (*a.shape[:-2], height, width)
    return slice_(a, start=(*corner, row, column), step=(1,) * a.ndim, size=size)


def _count(condition: Node, like: Node) -> Node:
    """How often a condition holds along the last axis."""
    return sum_(cast(condition, dtype=like.dtype), axes=(condition.ndim - 1,))


def _permutation(order: Node, like: Node) -> Node:
    """The matrices that put rows in an order."""
    column = reshape(order, shape=(*order.shape, 1))
    return cast(equal(column, np.arange(order.shape[-1])), dtype=like.dtype)


def _polynomial(a: Node, row: int, columns: list[int]) -> Node:
    """A small determinant by its first row."""
    total = None
    for k, j in enumerate(columns):
        term = reshape(_block(a, row, j, 1, 1), shape=a.shape[:-2])
        if len(columns) > 1:
            term = term * _polynomial(a, row + 1, [c for c in columns if c != j])
        total = term if total is None else total + term if k % 2 == 0 else total - term
    return total


def _by_lu(a: Node) -> Node:
    """The determinant of regular matrices."""
    factor, n = lu(a), a.shape[-1]
    size = exp(logdet(factor, checked=False))
    if a.is_complex:
        return size
    pivots = reshape(rows(factor, n, n + 1), shape=a.shape[:-1])
    swaps = _count(not_equal(pivots, np.arange(n)), size)
    odd = remainder(swaps + _count(less(diagonal(rows(factor, 0, n)), 0), size), 2)
    return size * (1 - 2 * odd)


def _by_blocks(a: Node) -> Node:
    """The determinant as a graph whose first two derivatives are right wherever they exist."""
    n = a.shape[-1]
    k = n - 3
    if k <= 0:
        return _polynomial(a, 0, list(range(n)))
    order = pivoting(a, steps=k)
    by_row, by_column = (reshape(_block(order, j, 0, 1, n), shape=a.shape[:-1]) for j in (0, 1))
    a = product(_permutation(by_row, a), a, swapped(_permutation(by_column, a)))
    outer = _block(a, 0, 0, k, k)
    is_zero = equal(diagonal(rows(lu(outer), 0, k)), 0)
    is_lower = not_equal(_count(is_zero, order), 0)
    eye = constant(a.pool, np.eye(k, dtype=a.dtype))
    outer = where(reshape(is_lower, shape=(*is_lower.shape, 1, 1)), eye, outer)
    moved = solve_by_lu(outer, _block(a, 0, k, k, 3))
    inner = _block(a, k, k, 3, 3) - product(_block(a, k, 0, 3, k), moved)
    sign = reshape(_block(order, 2, 0, 1, 1), shape=a.shape[:-2])
    found = cast(sign, dtype=a.dtype) * _by_lu(outer) * _polynomial(inner, 0, [0, 1, 2])
    return where(is_lower, 0, found)


def _det(a, dtype, by):
    a = np.asarray(a)
    found = by(a) if a.size else 1
    return np.full(a.shape[:-2], np.nan if found is None else found, dtype)


def _tangent(z, dots, a, dtype, by):
    return derive.jvp_of(lambda a: cast(_by_blocks(a), dtype=dtype), [a], dots)


def _small_det(a, dtype, by):
    """A polynomial, as its derivatives are."""
    if a.ndim != 2 or not 0 < a.shape[-1] <= 3 or a.is_complex:
        return None
    return cast(_polynomial(a, 0, list(range(a.shape[-1]))), dtype=dtype)


# fmt: off
pivoting = _discrete("pivoting", _largest_first, lambda a, steps: ((*a.shape[:-2], 3, a.shape[-1]), INT))
det      = general("det", _det, lambda a, dtype, by: (a.shape[:-2], np.dtype(dtype)), _tangent, written_out=_small_det)
# fmt: on
