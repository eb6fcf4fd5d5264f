"""Functions as a user of Numba writes them, in loops, beside the same functions of arrays.

``FORMS`` gives, by the label of a row, a function that makes both forms, a point, the arguments of both,
and a product by hand where there is one. Each form is the oracle of the other. They read their unknowns
through indices (bundle adjustment), around a ring or a torus (``%``), in several loops of one structure,
with fewer terms at edges, and by the rows of triangular factors.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit

from benchmarks import adjustment, hand
from benchmarks.problems import make_gaussians

__all__ = ["FORMS", "Form"]


@dataclass(frozen=True, eq=False)
class Form:
    """A function in loops and in arrays, at a point."""

    loops: Callable
    arrays: Callable
    x: np.ndarray
    args: tuple = ()
    prepare: Callable | None = None
    """The product by hand, as ``benchmarks.hand.prepare`` gives it, from x and the arguments."""


@njit
def ring(x):
    n, total = x.size, 0.0
    for i in range(n):
        d = x[(i + 1) % n] - x[i]
        total += 0.5 * d * d + 0.25 * d**4 - x[i] * x[(i - 1) % n]
    return total


def ring_of_arrays(x):
    d = np.roll(x, -1) - x
    return np.sum(0.5 * d * d + 0.25 * d**4 - x * np.roll(x, 1))


@njit
def lattice(x, m, n):
    """A field on a torus, by positions in one vector."""
    total = 0.0
    for i in range(m):
        for j in range(n):
            here = x[i * n + j]
            right, down = x[i * n + (j + 1) % n], x[((i + 1) % m) * n + j]
            total += 0.5 * ((right - here) ** 2 + (down - here) ** 2) + 0.25 * here**4
    return total


def lattice_of_arrays(x, m, n):
    u = x.reshape(m, n)
    links = (np.roll(u, -1, axis=1) - u) ** 2 + (np.roll(u, -1, axis=0) - u) ** 2
    return np.sum(0.5 * links + 0.25 * u**4)


@njit
def torus(x, m, n):
    u, total = x.reshape(m, n), 0.0
    for i in range(m):
        for j in range(n):
            flow = u[(i + 1) % m, j] + u[(i - 1) % m, j] + u[i, (j + 1) % n] + u[i, (j - 1) % n]
            total += 0.5 * (flow - 4.0 * u[i, j]) ** 2 + 0.25 * (u[i, j] ** 2 - 1.0) ** 2
    return total


def torus_of_arrays(x, m, n):
    u = x.reshape(m, n)
    flow = sum(np.roll(u, shift, axis) for axis in (0, 1) for shift in (-1, 1))
    return np.sum(0.5 * (flow - 4.0 * u) ** 2 + 0.25 * (u**2 - 1.0) ** 2)


@njit
def differences(x, m, n):
    """One structure in two loops over other grids."""
    u, total = x.reshape(m, n), 0.0
    for i in range(m - 1):
        for j in range(n):
            d = u[i + 1, j] - u[i, j]
            total += 0.5 * d * d
    for i in range(m):
        for j in range(n - 1):
            d = u[i, j + 1] - u[i, j]
            total += 0.5 * d * d
    return total


def differences_of_arrays(x, m, n):
    u = x.reshape(m, n)
    return 0.5 * np.sum((u[1:] - u[:-1]) ** 2) + 0.5 * np.sum((u[:, 1:] - u[:, :-1]) ** 2)


@njit
def laplacian(x, m, n, b):
    """Half u.A u - b.u with fewer neighbours at edges."""
    u, total = x.reshape(m, n), 0.0
    for i in range(m):
        for j in range(n):
            a = 4.0 * u[i, j]
            if i > 0:
                a -= u[i - 1, j]
            if i < m - 1:
                a -= u[i + 1, j]
            if j > 0:
                a -= u[i, j - 1]
            if j < n - 1:
                a -= u[i, j + 1]
            total += 0.5 * u[i, j] * a - b[i, j] * u[i, j]
    return total


def laplacian_of_arrays(x, m, n, b):
    u = x.reshape(m, n)
    z = np.zeros((m + 2, n + 2))
    z[1:-1, 1:-1] = u
    a = 4.0 * u - z[:-2, 1:-1] - z[2:, 1:-1] - z[1:-1, :-2] - z[1:-1, 2:]
    return np.sum(0.5 * u * a - b * u)


@njit
def poisson(x, m, n, b):
    """Squared residuals inside, and squares at the edges."""
    u, total = x.reshape(m, n), 0.0
    for i in range(1, m - 1):
        for j in range(1, n - 1):
            flow = u[i + 1, j] + u[i - 1, j] + u[i, j + 1] + u[i, j - 1] - 4.0 * u[i, j]
            total += (flow - b[i, j]) ** 2
    for i in range(m):
        total += u[i, 0] ** 2 + u[i, n - 1] ** 2
    for j in range(n):
        total += u[0, j] ** 2 + u[m - 1, j] ** 2
    return total


def poisson_of_arrays(x, m, n, b):
    u = x.reshape(m, n)
    flow = u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4.0 * u[1:-1, 1:-1]
    edges = np.sum(u[:, 0] ** 2 + u[:, -1] ** 2) + np.sum(u[0] ** 2 + u[-1] ** 2)
    return np.sum((flow - b[1:-1, 1:-1]) ** 2) + edges


@njit
def tension(x, m, n):
    """Roots of sums of squared differences to the neighbours that exist."""
    u, total = x.reshape(m, n), 0.0
    for i in range(m):
        for j in range(n):
            s = 0.0
            if i > 0:
                s += (u[i, j] - u[i - 1, j]) ** 2
            if i < m - 1:
                s += (u[i, j] - u[i + 1, j]) ** 2
            if j > 0:
                s += (u[i, j] - u[i, j - 1]) ** 2
            if j < n - 1:
                s += (u[i, j] - u[i, j + 1]) ** 2
            total += math.sqrt(0.01 + s)
    return total


def tension_of_arrays(x, m, n):
    u = x.reshape(m, n)
    down, right = (u[1:] - u[:-1]) ** 2, (u[:, 1:] - u[:, :-1]) ** 2
    s = np.zeros((m, n))
    s[1:] += down
    s[:-1] += down
    s[:, 1:] += right
    s[:, :-1] += right
    return np.sum(np.sqrt(0.01 + s))


@njit
def whitened(x, y):
    """Robust squares of data that a triangular factor, row by row in x, makes independent."""
    samples, d = y.shape
    total = 0.0
    for n in range(samples):
        for i in range(d):
            t = 0.0
            for j in range(i + 1):
                t += x[d + i * (i + 1) // 2 + j] * (y[n, j] - x[j])
            total += math.log(1.0 + t * t)
    return total


def whitened_of_arrays(x, y):
    d = y.shape[1]
    factor = np.zeros((d, d))
    factor[np.tril_indices(d)] = x[d:]
    return np.sum(np.log(1.0 + ((y - x[:d]) @ factor.T) ** 2))


@njit
def gaussians(x, y, components):
    """A mixture of Gaussians with triangular factors (``make_gaussians``, with g = 1 and m = 0)."""
    samples, d = y.shape
    below = d * (d - 1) // 2
    start = components * (1 + d)
    total = 0.0
    logs = np.zeros(components)
    for k in range(components):
        at = start + k * (d + below)
        for i in range(d):
            logs[k] += x[at + i]
            total += 0.5 * math.exp(x[at + i]) ** 2
        for i in range(below):
            total += 0.5 * x[at + d + i] ** 2
    for n in range(samples):
        largest = -1e300
        density = np.empty(components)
        for k in range(components):
            at = start + k * (d + below)
            square = 0.0
            for i in range(d):
                t = math.exp(x[at + i]) * (y[n, i] - x[components + k * d + i])
                for j in range(i):
                    t += x[at + d + i * (i - 1) // 2 + j] * (y[n, j] - x[components + k * d + j])
                square += t * t
            density[k] = x[k] + logs[k] - 0.5 * square
            largest = max(largest, density[k])
        s = 0.0
        for k in range(components):
            s += math.exp(density[k] - largest)
        total += largest + math.log(s)
    s = 0.0
    for k in range(components):
        s += math.exp(x[k])
    return total - samples * math.log(s)


def _on_a_grid(loops, arrays, has_data=False) -> Callable[[int], Form]:
    def make(size: int) -> Form:
        m = math.isqrt(size)
        rng = np.random.default_rng(0)
        data = (rng.normal(size=(m, m + 1)),) if has_data else ()
        return Form(loops, arrays, rng.normal(size=m * (m + 1)), (m, m + 1, *data))

    return make


def _adjustment(size: int) -> Form:
    x, args = adjustment.data(6 + size // 450, 50 + size // 10, size)
    return Form(adjustment.in_loops, adjustment.in_arrays, x, args, adjustment.prepare)


def _ring(size: int) -> Form:
    return Form(ring, ring_of_arrays, np.random.default_rng(0).normal(size=size))


def _whitened(size: int) -> Form:
    rng = np.random.default_rng(0)
    return Form(
        whitened, whitened_of_arrays, 0.3 * rng.normal(size=65), (rng.normal(size=(size, 10)),)
    )


def _gaussians(size: int) -> Form:
    problem = make_gaussians((size, 10, size // 40))
    args = problem.data["y"], problem.data["components"]
    by_hand = lambda x, *args: hand.prepare(problem, x)
    return Form(gaussians, lambda x, *args: problem.fun(x), problem.x0, args, by_hand)


FORMS: Mapping[str, tuple[Callable[[int], Form], int]] = {
    "bundle adjustment": (_adjustment, 20_000),
    "Gaussians": (_gaussians, 1000),
    "whitened data": (_whitened, 1000),
    "ring": (_ring, 100_000),
    "lattice": (_on_a_grid(lattice, lattice_of_arrays), 90_000),
    "torus": (_on_a_grid(torus, torus_of_arrays), 90_000),
    "differences": (_on_a_grid(differences, differences_of_arrays), 90_000),
    "laplacian": (_on_a_grid(laplacian, laplacian_of_arrays, True), 90_000),
    "tension": (_on_a_grid(tension, tension_of_arrays), 90_000),
    "poisson": (_on_a_grid(poisson, poisson_of_arrays, True), 90_000),
}
"""How each form is made, and of what size the benchmark is: observations or unknowns, about."""
