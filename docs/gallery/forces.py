"""Force matching: a pair potential from the forces on atoms, by a gradient inside a loss."""

import matplotlib.pyplot as plt
import numpy as np

import nbhvp

i, j = np.triu_indices(12, 1)
centres = np.linspace(0.8, 3.4, 27)


def bells(r):
    return np.exp(-(((r[..., None] - centres) / 0.13) ** 2))


def distances(x):  # in frames of twelve atoms
    return np.sqrt(np.sum((x[:, i] - x[:, j]) ** 2, axis=-1))


lennard_jones = nbhvp.differentiable(lambda x: 4 * np.sum(distances(x) ** -12 - distances(x) ** -6))
energy = nbhvp.differentiable(lambda x, c: np.sum(bells(distances(x)) @ c))
lattice = np.array([(a, b, c) for a in range(3) for b in range(2) for c in range(2)]) * 1.12
frames = lattice + 0.06 * np.random.default_rng(0).normal(size=(60, 12, 3))
forces = -lennard_jones.grad(frames)


@nbhvp.differentiable
def mismatch(c):
    return np.sum((energy.grad(frames, c) + forces) ** 2) + 1e-3 * c @ c


fit = nbhvp.minimize(mismatch, np.zeros(27), method="trust-krylov")
r = np.linspace(0.95, 2.7, 200)
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
axes.plot(r, 4 * (r**-12 - r**-6), label="Lennard-Jones")
fitted = bells(r) @ fit.x
axes.plot(r, fitted - fitted[-1], "--", label=f"fitted to forces, {fit.nit} iterations")
axes.set(xlabel="distance", ylabel="energy of a pair", ylim=(-1.3, 2))
axes.legend()
