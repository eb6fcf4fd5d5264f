"""Factorisations and solves of a few rows, written out in operations on single numbers.

A step of a recurrence is one kernel, which calls no library. So matrices of up to `MOST` rows are
factored in it by the method of LAPACK: A = P L U with the largest pivot of each column first, rows
changing places by `where`; A = L L^T by columns. The results have the layout of the primitives that
they stand for (`linalg.py`). Derivatives are those of the operations: a factor that was written out
stands for itself, not for its matrix, so whatever takes one is written out with it.
"""

from __future__ import annotations

from collections.abc import Callable

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node

__all__ = ["MOST", "cholesky", "logdet", "lu", "solve", "triangular"]

MOST = 4
"""Rows of a matrix."""

Rows = list[list[Node]]


def lu(a: Node) -> Node | None:
    """The factors of a square matrix, transposed, above the pivots."""
    if not _is_small(a):
        return None
    n, rows = a.shape[-1], _elements(a)
    pivots: list[Node] = []
    for k in range(n):
        pivots.append(_pivot(rows, k))
        _swap(rows, k, pivots[k])
        for i in range(k + 1, n):
            rows[i][k] = rows[i][k] / rows[k][k]
            for j in range(k + 1, n):
                rows[i][j] = rows[i][j] - rows[i][k] * rows[k][j]
    return _matrix([*map(list, zip(*rows, strict=True)), pivots])


def _pivot(rows: Rows, k: int) -> Node:
    """The row, from row k on, of the largest element in column k."""
    size, place = p.absolute(rows[k][k]), p.constant(rows[k][k].pool, k, rows[k][k].dtype)
    for i in range(k + 1, len(rows)):
        other = p.absolute(rows[i][k])
        is_larger = p.greater(other, size)
        size, place = p.where(is_larger, other, size), p.where(is_larger, float(i), place)
    return place


def _swap(rows: Rows, k: int, place: Node) -> None:
    """Row k and the row of a place change places."""
    first = rows[k]
    for i in range(k + 1, len(rows)):
        is_here = p.equal(place, float(i))
        pairs = list(zip(rows[k], rows[i], first, strict=True))
        rows[k] = [p.where(is_here, other, one) for one, other, _ in pairs]
        rows[i] = [p.where(is_here, one, other) for _, other, one in pairs]


def solve(factor: Node, b: Node, axis: int, transposed: bool) -> Node | None:
    """A^-1 b along the first axis of b, or that of the transpose, by the factors of A."""
    if not _is_small(factor) or axis != 0 or b.size == 0:
        return None
    n, x = factor.shape[-1], [[part] for part in _parts(b)]
    *columns, pivots = _elements(factor)
    lower = [[columns[j][i] for j in range(n)] for i in range(n)]
    if transposed:
        _substitute(x, columns, range(n), unit=False)
        _substitute(x, columns, reversed(range(n)), unit=True)
        for k in reversed(range(n)):
            _swap(x, k, pivots[k])
    else:
        for k in range(n):
            _swap(x, k, pivots[k])
        _substitute(x, lower, range(n), unit=True)
        _substitute(x, lower, reversed(range(n)), unit=False)
    return _together([one for (one,) in x], b.shape)


def _substitute(x: Rows, matrix: Rows, order, unit: bool) -> None:
    """Solve with the triangle of a matrix in which the unknowns follow in this order."""
    known: list[int] = []
    for i in order:
        (total,) = x[i]
        for j in known:
            total = total - matrix[i][j] * x[j][0]
        x[i] = [total if unit else total / matrix[i][i]]
        known.append(i)


def logdet(factor: Node, checked: bool = True) -> Node | None:
    """log |det A| by the factors of A."""
    if not _is_small(factor):
        return None
    diagonal = [row[k] for k, row in enumerate(_elements(factor)[:-1])]
    logs = [p.log(p.absolute(one)) for one in diagonal]
    return sum(logs[1:], logs[0])


def triangular(
    a: Node, b: Node, axis: int, lower: bool, transposed: bool, unit: bool
) -> Node | None:
    """A^-1 b along the first axis of b for a triangle of A."""
    if not _is_small(a) or axis != 0 or b.size == 0:
        return None
    n, x, rows = a.shape[-1], [[part] for part in _parts(b)], _elements(a)
    if transposed:
        rows = [list(column) for column in zip(*rows, strict=True)]
    _substitute(x, rows, range(n) if lower != transposed else reversed(range(n)), unit)
    return _together([one for (one,) in x], b.shape)


def cholesky(a: Node, lower: bool, by: Callable) -> Node | None:
    """L with A = L L^T, or its transpose, of one triangle of A."""
    if not _is_small(a):
        return None
    n, rows = a.shape[-1], _elements(a)
    zero = p.zeros(a.pool, (), a.dtype)
    factor: Rows = [[zero] * n for _ in range(n)]
    for j in range(n):
        for i in range(j, n):
            total = rows[i][j] if lower else rows[j][i]
            for k in range(j):
                total = total - factor[i][k] * factor[j][k]
            factor[i][j] = p.sqrt(total) if i == j else total / factor[j][j]
    return _matrix(factor if lower else [list(column) for column in zip(*factor, strict=True)])


def _is_small(a: Node) -> bool:
    return a.ndim == 2 and 0 < a.shape[-1] <= MOST and a.dtype.kind == "f"


def _parts(b: Node) -> list[Node]:
    """What stands at each place of the first axis."""
    rest = b.shape[1:]
    starts = [(k, *(0,) * len(rest)) for k in range(b.shape[0])]
    parts = [p.slice_(b, start=start, step=(1,) * b.ndim, size=(1, *rest)) for start in starts]
    return [p.reshape(part, shape=rest) for part in parts]


def _elements(a: Node) -> Rows:
    return [_parts(row) for row in _parts(a)]


def _together(parts: list[Node], shape: tuple[int, ...]) -> Node:
    rows = [p.reshape(part, shape=(1, *shape[1:])) for part in parts]
    return p.concatenate(*rows, axis=0) if len(rows) > 1 else rows[0]


def _matrix(rows: Rows) -> Node:
    return _together([_together(row, (len(row),)) for row in rows], (len(rows), len(rows[0])))
