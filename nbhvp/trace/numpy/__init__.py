"""Answers to NumPy's functions, one module for each chapter of its reference, and to Python's math."""

from nbhvp.trace.numpy import (
    elementwise,
    fft,
    functional,
    histograms,
    inspection,
    linalg,
    math,
    polynomials,
    products,
    quantiles,
    reductions,
    sequences,
    testing,
    ufunc_methods,
)
from nbhvp.trace.numpy.manipulation import creation, joining, padding, selections, shapes

__all__ = [
    "creation",
    "elementwise",
    "fft",
    "functional",
    "histograms",
    "inspection",
    "joining",
    "linalg",
    "math",
    "padding",
    "polynomials",
    "products",
    "quantiles",
    "reductions",
    "selections",
    "sequences",
    "shapes",
    "testing",
    "ufunc_methods",
]
