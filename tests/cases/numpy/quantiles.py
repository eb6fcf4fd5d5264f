"""Cases for `nbhvp/trace/numpy/quantiles.py`: name, function, point."""

import numpy as np

from tests.cases.points import (
    CUBE,
    MASK,
    MASK34,
    MATRIX,
    VECTOR,
)

QUANTILE_METHODS = (
    "inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf",
    "hazen", "weibull", "linear", "median_unbiased", "normal_unbiased", "lower", "higher",
    "midpoint", "nearest",
)  # fmt: skip

# fmt: off
CASES = [
    ("median", lambda x: np.median(x, axis=0) ** 2 + np.median(x), MATRIX),
    ("quantile", lambda x: np.quantile(x, [0.1, 0.6], axis=1) ** 2, MATRIX),
    ("percentile", lambda x: np.percentile(x, 30, axis=(0, 1), keepdims=True) ** 2, CUBE),
    *((f"quantile {m}", lambda x, m=m: np.quantile(x, [0.1, 0.35, 0.5, 0.99, 0, 1], method=m) ** 2, VECTOR) for m in QUANTILE_METHODS),
    *((f"percentile {m}", lambda x, m=m: np.percentile(x, 40, axis=1, method=m) ** 2, MATRIX) for m in QUANTILE_METHODS),
    ("quantile q 2d", lambda x: np.quantile(x, [[0.1, 0.35], [0.5, 0.99]], axis=0) ** 2, MATRIX),
    ("quantile q traced", lambda x: np.quantile(x, 0.4 + 0.1 * np.tanh(x[0])) ** 2, VECTOR),
    *((f"quantile {m} q traced", lambda x, m=m: np.quantile(x, 0.4 + 0.1 * np.tanh(x[0]), method=m) ** 2, VECTOR) for m in QUANTILE_METHODS),
    *((f"nanquantile {m}", lambda x, m=m: np.nanquantile(np.where(MASK34, x, np.nan), [0.3, 0.81], axis=1, method=m) ** 2, MATRIX) for m in QUANTILE_METHODS),
    ("nanpercentile q traced", lambda x: np.nanpercentile(np.where(MASK, x, np.nan), 40 + x[0], method="hazen") ** 2, VECTOR),
    ("quantile q list", lambda x: np.quantile(x, [0.3, 0.4 + 0.1 * np.tanh(x[0])]) ** 2, VECTOR),
    ("percentile q list", lambda x: np.percentile(x, (40 + np.tanh(x[0, 1]), 70.0), axis=1) ** 2, MATRIX),
    ("nanpercentile q list", lambda x: np.nanpercentile(x, [40 + np.tanh(x[0]), 55.0]) ** 2, VECTOR),
    ("quantile weights", lambda x: np.quantile(x, [0.3, 0.7, 0], weights=[0, 2, 3, 4, 5, 6.0], method="inverted_cdf") ** 2, VECTOR),
    ("quantile keepdims", lambda x: np.quantile(x, 0.3, axis=(0, 2), keepdims=True) ** 2, CUBE),
    ("nanmedian", lambda x: np.nanmedian(np.where(MASK34, x, np.nan), axis=1) ** 2, MATRIX),
    ("nanquantile", lambda x: np.nanquantile(np.where(MASK, x, np.nan), [0.3, 0.8]) ** 2, VECTOR),
    ("nanpercentile", lambda x: np.nanpercentile(x, 30, axis=0, keepdims=True) ** 2, MATRIX),
    ("unique of constants", lambda x: x[np.unique([3, 1, 1, 2])] ** 2 * x[np.unique([3, 1, 1], return_inverse=True)[1]], VECTOR),
]
# fmt: on
