"""Answers to SciPy's functions by package; those of slow packages are entered once these are imported."""

from nbhvp.trace.answers import on_demand
from nbhvp.trace.scipy import matrix_functions, sparse, special, stats

__all__ = ["matrix_functions", "sparse", "special", "stats"]

on_demand({
    f"scipy.{part}": f"{__name__}.{part}"
    for part in ("integrate", "interpolate", "ndimage", "optimize", "signal", "spatial")
})  # fmt: skip
