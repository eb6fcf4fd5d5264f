"""Cases for `nbhvp/trace/numpy/selections.py`: name, function, point."""

import numpy as np

from tests.cases.points import (
    A34,
    CUBE,
    MASK,
    MATRIX,
    SQUARE,
    VECTOR,
    written_by,
)


def _put(x):
    y = x * x
    np.putmask(y, x > 0, x)
    np.putmask(y, A34 > 0.5, 3.0)
    np.put_along_axis(y, np.array([[1], [-1], [0]]), x[:, :1] ** 3, axis=1)
    return y


def _filled_diagonal(x):
    y = x * x
    np.fill_diagonal(y, x[0])
    return y


# fmt: off
CASES = [
    ("where", lambda x: np.where(x > 0, x**2, -x), VECTOR),
    ("where scalar", lambda x: np.where(x > 0, x**3, 1.5), VECTOR),
    ("where nonzero", lambda x: x[np.where(x > 0)] ** 2, VECTOR),
    ("nonzero", lambda x: x[np.nonzero(x > 0)] ** 2 + x[np.flatnonzero(x > 0)], VECTOR),
    ("isposinf", lambda x: np.where(np.isposinf(x) | np.isneginf(x), 0, x**2), VECTOR),
    ("repeat", lambda x: np.repeat(x, 2, axis=1) ** 2, MATRIX),
    ("repeat each", lambda x: np.repeat(x, [1, 0, 2], axis=0) ** 2, MATRIX),
    ("repeat flat", lambda x: np.repeat(x, 3) ** 2 + x.repeat(3), MATRIX),
    ("take", lambda x: np.take(x, [0, -1, 2], axis=1) ** 2 + np.take(x, [[1], [5], [-2]]), MATRIX),
    (
        "take modes",
        lambda x: np.take(x, [7, -9], mode="wrap") ** 2 + x.take([9, 0], mode="clip"),
        VECTOR,
    ),
    ("take_along_axis", lambda x: np.take_along_axis(x, np.array([[1, -1]] * 3), 1) ** 2, MATRIX),
    ("compress", lambda x: np.compress([True, False, True], x, axis=0) ** 2, MATRIX),
    ("compress traced", lambda x: np.compress(x > 0, x) ** 2 + np.extract(x > 0, x), VECTOR),
    ("choose", lambda x: np.choose([0, 1, 1, 0, 1, 0], [x**2, 3.0]), VECTOR),
    ("ix_", lambda x: x[np.ix_([0, 2], [1, 3])] ** 2 + x[np.ix_(x[:, 0] > 9, [0])].sum(), MATRIX),
    ("putmask", _put, MATRIX),
    ("delete", lambda x: np.delete(x, [0, 3]) ** 2 * np.delete(x, slice(0, 2)), VECTOR),
    ("insert", lambda x: np.insert(x, [1, 3], x[:2] ** 2) ** 2, VECTOR),
    ("insert row", lambda x: np.insert(x, 1, x[0] ** 2, axis=0), MATRIX),
    ("insert columns", lambda x: np.insert(x, 1, [1.0, 2.0, 3.0], axis=1) ** 2, MATRIX),
    ("diagonal", lambda x: np.diagonal(x) ** 2 + np.diagonal(x, 1) * x.diagonal(), MATRIX),
    ("diagonal below", lambda x: np.diagonal(x, -1) ** 2, MATRIX),
    ("diagonal axes", lambda x: np.diagonal(x, 1, 2, 0) ** 2, CUBE),
    ("diag", lambda x: np.diag(x, 1) ** 2 + np.diag(x[:-1] ** 2, -2)[:7, :7], VECTOR),
    ("diag of matrix", lambda x: np.diag(x, 1) ** 2 + np.diag(x), MATRIX),
    ("diagflat", lambda x: np.diagflat(x, -1) ** 2, SQUARE[:2]),
    ("fill_diagonal", _filled_diagonal, MATRIX),
    ("tril", lambda x: np.tril(x) ** 2 + np.triu(x, 1) + np.tril(x, -1) * np.triu(x, -1), MATRIX),
    ("triu of cube", lambda x: np.triu(x) ** 2, CUBE),
    ("unravel_index", lambda x: x[np.unravel_index(np.argmax(x), x.shape)] ** 2, MATRIX),
    ("ravel_multi_index", lambda x: x.ravel()[np.ravel_multi_index((np.argmax(x, 0), [0, 1, 2, 3]), (3, 4))] ** 2, MATRIX),
    ("trim_zeros", lambda x: np.trim_zeros(np.concatenate([[0.0], x, [0.0]])) ** 2, VECTOR),
    ("place", written_by(lambda y, x: np.place(y, MASK, x[:3])), VECTOR),
    ("copyto", written_by(lambda y, x: np.copyto(y, x, where=MASK)), VECTOR),
    ("resize", lambda x: np.resize(x, (3, 5)) ** 2, VECTOR),
    ("delete mask", lambda x: np.delete(x, MASK) ** 2, VECTOR),
    ("insert at one place", lambda x: np.insert(x, [1, 1, 2], x[:3] ** 2) ** 2, VECTOR),
    ("choose modes", lambda x: np.choose([0, 3, 0, 1, 0, -1], [x, x**2], mode="wrap"), VECTOR),
    ("matrix diagonal", lambda x: np.linalg.diagonal(x, offset=1) ** 2, CUBE),
    ("put", written_by(lambda y, x: np.put(y, [0, -1], x[:2] ** 3)), VECTOR),
    ("argwhere", lambda x: x[np.argwhere(x > 0)[:, 0]] ** 2, VECTOR),
]
# fmt: on
