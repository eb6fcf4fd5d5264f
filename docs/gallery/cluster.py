"""A cluster of 38 Lennard-Jones atoms, written in loops, and the frequencies of its vibrations."""

import matplotlib.pyplot as plt
import numpy as np
from numba import njit

import nbhvp

ATOMS = 38


@nbhvp.differentiable
@njit
def energy(x):
    total = 0.0
    for i in range(x.size // 3):
        for j in range(i):
            a, b, c = x[3 * i] - x[3 * j], x[3 * i + 1] - x[3 * j + 1], x[3 * i + 2] - x[3 * j + 2]
            inverse = 1 / (a * a + b * b + c * c) ** 3
            total += 4 * (inverse * inverse - inverse)
    return total


start = np.random.default_rng(3).uniform(-1.7, 1.7, 3 * ATOMS)
best = nbhvp.minimize(energy, start, method="trust-krylov", options={"maxiter": 500})
squares = np.linalg.eigvalsh(energy.hessian(best.x).toarray())[6:]  # without motions as a whole

figure = plt.figure(figsize=(8, 3.4), layout="constrained")
atoms = figure.add_subplot(1, 2, 1, projection="3d")
atoms.scatter(*best.x.reshape(-1, 3).T, s=120, edgecolor="black")
atoms.set(title=f"energy {best.fun:.2f}", xticks=[], yticks=[], zticks=[])
histogram = figure.add_subplot(1, 2, 2)
histogram.hist(np.sqrt(np.maximum(squares, 0)), bins=25)
histogram.set(xlabel="frequency", ylabel="vibrations")
