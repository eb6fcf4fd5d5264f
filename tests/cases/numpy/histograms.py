"""Cases for `nbhvp/trace/numpy/histograms.py`: name, function, point."""

import numpy as np

from tests.cases.points import (
    A6,
    POSITIVE,
    VECTOR,
)

# fmt: off
CASES = [
    ("bincount", lambda x: np.bincount([0, 3, 1, 1, 0, 5], weights=x**2), VECTOR),
    ("bincount traced", lambda x: np.bincount((x > 0).astype(int), x**2, minlength=4), VECTOR),
    ("histogram weights", lambda x: np.histogram([0, 1, 1, 2, 2, 2.0], 3, weights=x**2)[0], VECTOR),
    ("histogram edges", lambda x: np.histogram(x, [-2, 0, 0.5, 9.0], weights=x**2)[0], VECTOR),
    ("histogram counts", lambda x: np.histogram(x, [-9, 0, 9.0])[0] * x[:2] ** 2, VECTOR),
    ("histogram of all", lambda x: np.histogram(x, 4, weights=x**2)[0] * np.histogram(x, 4)[1][:4], VECTOR),
    ("histogram range", lambda x: np.histogram(x, bins=5, range=(-1, 1.5), weights=x**2)[0], VECTOR),
    ("histogram density", lambda x: np.histogram([0, 1, 1, 2, 2, 2.0], 3, weights=x, density=True)[0], POSITIVE),
    ("histogram2d", lambda x: np.histogram2d(A6, A6[::-1] ** 2, [2, 3], weights=x**2)[0], VECTOR),
    ("histogramdd", lambda x: np.histogramdd([A6, x, -A6], 2, weights=x**2)[0], VECTOR),
    ("histogram_bin_edges", lambda x: np.histogram_bin_edges(x, 4) ** 2, VECTOR),
]
# fmt: on
