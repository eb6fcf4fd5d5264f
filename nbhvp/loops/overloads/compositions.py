"""Functions of recorded numbers and arrays of them, written with others: loops, as Numba has them.

The compiled recorder (`active`) compiles these texts, `interpreted` runs them as Python.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["REDUCTIONS", "cross", "inner", "length", "root"]


def root(square):
    """The root of a sum of squares, with derivative 0 where it is 0."""
    return math.sqrt(square)


def inner(a, b):
    if a.size != b.size:
        raise ValueError("incompatible array sizes for a product of arrays")
    total = 0.0
    for k in range(a.size):
        total += a[k] * b[k]
    return total


def cross(a, b):
    if a.size != 3 or b.size != 3:
        raise ValueError("Incompatible dimensions for cross product\n(dimension must be 3)")
    return np.array(
        (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
    )


def length(a):
    total = 0.0
    for x in a.flat:
        total += x * x
    return root(total)


# Reductions: of all elements in C order.


def _sum(a):
    total = 0.0
    for x in a.flat:
        total += x
    return total


def _prod(a):
    product = 1.0
    for x in a.flat:
        product *= x
    return product


def _mean(a):
    return np.sum(a) / a.size


def _var(a):
    mean = np.mean(a)
    total = 0.0
    for x in a.flat:
        total += (x - mean) ** 2
    return total / a.size


def _std(a):
    return root(np.var(a))


REDUCTIONS = {np.sum: _sum, np.prod: _prod, np.mean: _mean, np.var: _var, np.std: _std}
