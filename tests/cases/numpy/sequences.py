"""Cases for `nbhvp/trace/numpy/sequences.py`: name, function, point."""

import numpy as np

from tests.cases.points import (
    A6,
    HUNDREDTHS,
    MASK,
    MATRIX,
    POSITIVE,
    VECTOR,
)

# fmt: off
CASES = [
    ("cumsum", lambda x: np.cumsum(x**2, axis=1), MATRIX),
    ("cumsum flat", lambda x: np.cumsum(x**2) * np.arange(12), MATRIX),
    ("cumprod", lambda x: np.cumprod(x, axis=1), MATRIX),
    ("cumprod zeros", lambda x: np.cumprod(x * np.array([1, 1, 0, 1, 0, 1])), VECTOR),
    ("cumulative", lambda x: np.cumulative_sum(x, axis=0, include_initial=True) ** 2, MATRIX),
    ("cumulative_prod", lambda x: np.cumulative_prod(x, axis=-1, include_initial=True), MATRIX),
    ("sort", lambda x: np.sort(x) ** 2 * A6, VECTOR),
    ("sort axis", lambda x: np.sort(x, axis=0) ** 2 * np.sort(x, axis=None)[0], MATRIX),
    ("argsort", lambda x: x[np.argsort(x)] ** 2 * A6, VECTOR),
    ("searchsorted", lambda x: np.searchsorted([-1, 0, 0.5], x) * x**2, VECTOR),
    ("digitize", lambda x: np.digitize(x, [0.5, 0, -1]) * x**2, VECTOR),
    ("diff", lambda x: np.diff(x, axis=0) ** 2, MATRIX),
    ("diff n", lambda x: np.diff(x, n=2, prepend=1.0, append=x[:, :1]) ** 2, MATRIX),
    ("ediff1d", lambda x: np.ediff1d(x, to_begin=x[0], to_end=[1, 2]) ** 2, VECTOR),
    ("gradient", lambda x: np.gradient(x) ** 2, VECTOR),
    ("gradient order 2", lambda x: np.gradient(x, 0.3, edge_order=2) ** 2, VECTOR),
    ("gradient axes", lambda x: np.gradient(x, axis=1) ** 2 + np.gradient(x)[0], MATRIX),
    ("gradient uneven", lambda x: np.gradient(x, [0, 1, 3, 4, 5.5, 6], edge_order=2) ** 2, VECTOR),
    (
        "partition",
        lambda x: np.partition(x, 2)[:2].sum() + x[np.argpartition(x, 3)[4:]].prod(),
        VECTOR,
    ),
    ("nancumsum", lambda x: np.nancumsum(np.where(MASK, x, np.nan)) * np.nancumprod(x), VECTOR),
    (
        "trapezoid",
        lambda x: np.trapezoid(x**2, dx=0.1).sum() + np.trapezoid(x, x**2, axis=0),
        MATRIX,
    ),
    ("trapezoid x", lambda x: np.trapezoid(x**2, [0, 1, 3], axis=0), MATRIX),
    ("interp", lambda x: np.interp(x, [-1, 0, 0.4, 1], [1, 3, -1, 2]) * x, VECTOR),
    (
        "interp values",
        lambda x: np.interp([-0.5, 0.2, 3], [-1, 0, 0.4], x[:3], left=0) ** 2,
        VECTOR,
    ),
    ("interp period", lambda x: np.interp(x, [0.1, 1.2, 2.0], [1, 4, 2], period=2.5) * x, VECTOR),
    ("unwrap", lambda x: np.unwrap(5 * x) ** 2, VECTOR),
    ("sort kinds", lambda x: np.sort(x, kind="mergesort", axis=0) * np.sort(x, stable=True), MATRIX),
    ("argsort descending", lambda x: x[np.argsort(-x)] ** 2 * A6, VECTOR),
    ("partition several", lambda x: np.partition(x, [1, 3])[[1, 3]] ** 2, VECTOR),
    ("argpartition", lambda x: x[np.argpartition(x, 3)[:4]].prod(), VECTOR),
    ("lexsort", lambda x: x[np.lexsort((x, A6 > 0))] ** 2 * A6, VECTOR),
    ("lexsort matrix", lambda x: x[0, np.lexsort(x)] ** 2 * A6[:4], MATRIX),
    ("isin", lambda x: np.isin(np.round(x), [1.0, -1]) * x**2, HUNDREDTHS),
    ("searchsorted sorter", lambda x: np.searchsorted(A6, x, sorter=np.argsort(A6)) * x**2, VECTOR),
    ("digitize as index", lambda x: np.array([1.0, 2, 3, 4])[np.digitize(x, [-1, 0, 1])] * x**2, VECTOR),
    ("unwrap axis", lambda x: np.unwrap(4 * x, axis=0, period=3.0) ** 2 + np.unwrap(4 * x, 4.0), MATRIX),
    ("interp all traced", lambda x: np.interp([0.3, 0.7, 9], np.cumsum(x**2), x, left=x[0], right=x[1] ** 2), POSITIVE),
    ("interp complex", lambda x: np.abs(np.interp(x, [-1, 0, 0.4], [1j, 2, 3 + 1j])), VECTOR),
    ("gradient spacings", lambda x: np.multiply(*np.gradient(x**2, 0.1, [0, 1, 3, 4.0])), MATRIX),
    ("gradient of points", lambda x: np.gradient(A6, np.cumsum(x)), POSITIVE),
]
# fmt: on
