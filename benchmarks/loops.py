"""The problems as a user of Numba writes them: loops over elements, and what NumPy cannot write.

``LOOPS`` maps a key of ``benchmarks.problems.MAKERS`` to the same function as a loop, and to its
arguments beside x. ``lorenz`` and ``orbit`` are deep recurrences: each operation needs the one before
it. ``orbit`` divides by powers of a length, which is looked for on its tape.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numba import njit

__all__ = [
    "LOOPS", "LORENZ_START", "ORBIT_START", "lennard_jones", "lorenz", "orbit", "rosenbrock", "surface",
]  # fmt: skip


@njit
def rosenbrock(x):
    total = 0.0
    for i in range(x.size - 1):
        total += 100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2
    return total


@njit
def surface(x, frame):
    m, n = frame.shape
    base = 1.0 / ((m - 1) * (n - 1))
    k = 0.5 / base
    z = frame.copy()
    z[1:-1, 1:-1] = x.reshape(m - 2, n - 2)
    area = 0.0
    for i in range(m - 1):
        for j in range(n - 1):
            p = z[i + 1, j + 1] - z[i, j]
            q = z[i + 1, j] - z[i, j + 1]
            area += math.sqrt(1.0 + k * (p * p + q * q))
    return base * area


@njit
def lennard_jones(x, first, second):
    energy = 0.0
    for pair in range(first.size):
        i, j = 3 * first[pair], 3 * second[pair]
        r2 = 0.0
        for k in range(3):
            d = x[i + k] - x[j + k]
            r2 += d * d
        attraction = 1.0 / (r2 * r2 * r2)
        energy += attraction * attraction - attraction
    return 4.0 * energy


LOOPS: Mapping[str, tuple[Callable, Callable]] = {
    "rosenbrock": (rosenbrock, lambda problem: ()),
    "surface": (surface, lambda problem: (problem.data["frame"],)),
    "lennard_jones": (lennard_jones, lambda problem: (problem.data["i"], problem.data["j"])),
}


@njit
def _flow(a, b, c):
    return 10.0 * (b - a), a * (28.0 - c) - b, a * b - 8.0 / 3.0 * c


@njit
def lorenz(x, steps):
    """A distance after ``steps`` classical Runge-Kutta steps of 1e-3 from the point x."""
    h = 1e-3
    a, b, c = x[0], x[1], x[2]
    for _ in range(steps):
        a1, b1, c1 = _flow(a, b, c)
        a2, b2, c2 = _flow(a + 0.5 * h * a1, b + 0.5 * h * b1, c + 0.5 * h * c1)
        a3, b3, c3 = _flow(a + 0.5 * h * a2, b + 0.5 * h * b2, c + 0.5 * h * c2)
        a4, b4, c4 = _flow(a + h * a3, b + h * b3, c + h * c3)
        a += h / 6.0 * (a1 + 2.0 * a2 + 2.0 * a3 + a4)
        b += h / 6.0 * (b1 + 2.0 * b2 + 2.0 * b3 + b4)
        c += h / 6.0 * (c1 + 2.0 * c2 + 2.0 * c3 + c4)
    return (a - 1.0) ** 2 + (b - 2.0) ** 2 + (c - 20.0) ** 2


LORENZ_START = np.array([1.0, 1.0, 20.0])


@njit
def orbit(p, steps):
    """The squared distance from the centre after ``steps`` symplectic Euler steps of Kepler's problem."""
    h = 1e-3
    x, y, u, v = p[0], p[1], p[2], p[3]
    for _ in range(steps):
        r = math.sqrt(x * x + y * y)
        a = -1.0 / (r * r * r)
        u += h * a * x
        v += h * a * y
        x += h * u
        y += h * v
    return x * x + y * y


ORBIT_START = np.array([1.0, 0.0, 0.0, 1.0])
