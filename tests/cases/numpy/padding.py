"""Cases for `nbhvp/trace/numpy/padding.py`: name, function, point."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tests.cases.points import (
    MATRIX,
    VECTOR,
)

# fmt: off
CASES = [
    ("pad", lambda x: np.pad(x, ((1, 0), (2, 1))) ** 2, MATRIX),
    ("pad values", lambda x: np.pad(x, 2, constant_values=(1.5, 2)) ** 2, MATRIX),
    ("pad traced", lambda x: np.pad(x, (1, 2), constant_values=x[0] ** 2) ** 2, VECTOR),
    ("pad edge", lambda x: np.pad(x, 2, mode="edge") ** 2, MATRIX),
    ("pad reflect", lambda x: np.pad(x, ((0, 2), (1, 1)), "reflect") ** 2, MATRIX),
    ("pad symmetric", lambda x: np.pad(x, 2, "symmetric") ** 2, MATRIX),
    ("pad wrap", lambda x: np.pad(x, 1, "wrap") ** 2, MATRIX),
    ("sliding windows", lambda x: sliding_window_view(x, 3) ** 2, VECTOR),
    ("sliding windows 2d", lambda x: sliding_window_view(x, (2, 3)) ** 2, MATRIX),
    ("sliding windows axis", lambda x: np.lib.stride_tricks.sliding_window_view(x, 2, axis=1).max(-1) ** 2, MATRIX),
    ("sliding windows twice", lambda x: sliding_window_view(x, (2, 2), axis=(1, 1)) ** 2, MATRIX),
    *((f"pad {mode}", lambda x, mode=mode: np.pad(x, ((1, 2), (2, 1)), mode) ** 2, MATRIX) for mode in ("linear_ramp", "maximum", "mean", "median", "minimum")),
    ("pad stat_length", lambda x: np.pad(x, ((1, 2), (2, 0)), "mean", stat_length=2) ** 2, MATRIX),
    ("pad end_values", lambda x: np.pad(x, 3, "linear_ramp", end_values=(1, 2)) ** 2, VECTOR),
    ("pad reflect odd", lambda x: np.pad(x, (3, 2), "reflect", reflect_type="odd") ** 2, VECTOR),
    ("pad symmetric odd", lambda x: np.pad(x, 2, "symmetric", reflect_type="odd") ** 2, MATRIX),
    ("pad far", lambda x: np.pad(x, (9, 14), "reflect") ** 2 + np.pad(x, (9, 14), "wrap"), VECTOR),
    ("pad empty", lambda x: np.pad(x, 1, "empty")[1:-1] ** 2, VECTOR),
]
# fmt: on
if np.lib.NumpyVersion(np.__version__) >= "2.3.0":
    CASES.append(("pad dict", lambda x: np.pad(x, {1: (1, 2)}) ** 2, MATRIX))
