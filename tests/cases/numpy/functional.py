"""Cases for `nbhvp/trace/numpy/functional.py`: name, function, point."""

import math

import numpy as np

from tests.cases.points import (
    A34,
    CUBE,
    MATRIX,
    VECTOR,
)


@np.vectorize
def leaky(a, rate):
    return a if a > 0 else rate * a * a


# fmt: off
CASES = [
    ("piecewise", lambda x: np.piecewise(x, [x < 0, x >= 0], [lambda t: t**2, np.sqrt]), VECTOR),
    ("apply_along_axis", lambda x: np.apply_along_axis(lambda r: r[1:] ** 2, 1, x), CUBE),
    ("apply_along_axis to number", lambda x: np.apply_along_axis(np.prod, 0, x), MATRIX),
    ("apply_over_axes", lambda x: np.apply_over_axes(np.sum, x**2, [0, 2]), CUBE),
    ("vectorize", lambda x: np.vectorize(lambda a, b: a * b if a > 0 else a + b)(x, x[::-1] ** 2), VECTOR),
    ("vectorize signature", lambda x: np.vectorize(lambda a, b: a @ a * b, signature="(n),()->()")(x, A34[:, 0]), MATRIX),
    ("vectorize matrices", lambda x: np.vectorize(np.outer, signature="(n),(m)->(n,m)")(x, x[:, :2]), MATRIX),
    ("vectorize two results", lambda x: np.multiply(*np.vectorize(lambda a: (a**2, math.exp(a)))(x)), MATRIX),
    ("vectorize excluded", lambda x: np.vectorize(lambda a, k: a**k, excluded=["k"])(x, k=3), MATRIX),
    ("vectorize otypes", lambda x: np.vectorize(lambda a: 0 if a < 0 else a * a, otypes=[float])(x), VECTOR),
    ("vectorized function", lambda x: leaky(x, 0.1) ** 2, VECTOR),
    ("piecewise otherwise", lambda x: np.piecewise(x, [x < -1], [lambda t: t**3, lambda t: t**2]), VECTOR),
    ("piecewise number", lambda x: np.piecewise(x[0], [x[0] < 9, x[0] > 9], [lambda t: t**2, 3.0]), VECTOR),
    ("ndenumerate", lambda x: sum((1 + i) * a**2 for (i, _), a in np.ndenumerate(x)), MATRIX),
    ("broadcast", lambda x: x**2 * np.broadcast(x, x[0]).size, MATRIX),
    ("indices", lambda x: np.indices(x.shape)[1] * x**2, MATRIX),
    ("fromfunction", lambda x: np.fromfunction(lambda i, j: x[0] ** 2 * i + x[1] * j, (2, 3)), VECTOR),
]
# fmt: on
