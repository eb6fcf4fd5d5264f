"""Cases for `nbhvp/trace/numpy/creation.py`: name, function, point."""

import numpy as np

from tests.cases.points import (
    MATRIX,
    POSITIVE,
    VECTOR,
)


def _out(x):
    result = np.zeros(4)
    np.sum(x, axis=0, out=result)
    np.multiply(result, x[1], out=result)
    return result


def _filled_cube(x):
    y = np.ones((3, 3, 3)) * x[0]
    np.fill_diagonal(y, x[:2] ** 2)
    return y


def _written_like(x):
    y = np.empty_like(x)
    y[...] = x**2
    return y


def _of_count(x):
    """Arrays whose shape is counted, which is guarded."""
    n = np.count_nonzero(x > 0)
    square = np.eye(n) + 2 * np.identity(n) + np.tri(n)
    return square @ (np.arange(n) * np.ones(n) + np.zeros(n)) * x[0] ** 2


# fmt: off
CASES = [
    ("hypot where out", lambda x: _out(x), MATRIX),
    ("meshgrid", lambda x: np.multiply(*np.meshgrid(x, x[:3] ** 2)), VECTOR),
    (
        "meshgrid ij",
        lambda x: np.add(*np.meshgrid(x, x**2, indexing="ij", sparse=True)) ** 2,
        VECTOR,
    ),
    (
        "zeros_like",
        lambda x: np.zeros_like(x) + np.ones_like(x) * x**2 + np.full_like(x, x[0, 0]),
        MATRIX,
    ),
    ("full", lambda x: np.full((2, 2), x[0] ** 2), VECTOR),
    ("array", lambda x: np.array([x[0] ** 2, 1.0, x[1]]) * np.asarray(x)[:3], VECTOR),
    ("array nested", lambda x: np.array([[x[0] ** 2, 1], [x[1] * x[2], x[3]]], ndmin=3), VECTOR),
    ("copy", lambda x: np.copy(x) ** 2 + np.astype(x, float) + x.astype(float), VECTOR),
    ("linspace", lambda x: np.linspace(x[0], x[1] ** 2, 7) ** 2, VECTOR),
    ("linspace arrays", lambda x: np.linspace(x, 2, 4, endpoint=False, axis=-1) ** 2, VECTOR),
    ("linspace step", lambda x: np.linspace(x[0], 3, 4, retstep=True)[1] ** 2, VECTOR),
    ("logspace", lambda x: np.logspace(x[0], x[1], 4) + np.geomspace(x[0], x[1], 4), POSITIVE),
    ("vander", lambda x: np.vander(x, 4) + np.vander(x, increasing=True)[:, 2:], VECTOR),
    ("matmul of integers", lambda x: np.arange(12).reshape(4, 3) @ x, MATRIX),
    ("fill_diagonal cube", _filled_cube, VECTOR),
    ("empty_like", _written_like, VECTOR),
    ("asarray_chkfinite", lambda x: np.asarray_chkfinite(x) ** 2, VECTOR),
    ("counts", _of_count, VECTOR),
]
# fmt: on
