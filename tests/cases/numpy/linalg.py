"""Cases for `nbhvp/trace/numpy/linalg.py`, beside those of `tests/cases/mpmath`: name, function, point."""

import scipy.linalg

from tests.cases.points import MATRIX

CASES = [
    ("svd of SciPy", lambda x: scipy.linalg.svd(x, full_matrices=False)[1] ** 3, MATRIX),
]
