"""Pruning a network: Optimal Brain Surgeon repairs with every removal, Damage and size do not."""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer

import nbhvp

data, rng = load_breast_cancer(), np.random.default_rng(0)
X = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)


def model(w):
    return np.tanh(X @ w[:240].reshape(30, 8) + w[240:248]) @ w[248:256]


@nbhvp.differentiable
def loss(w):
    z = model(w)
    return np.mean(np.logaddexp(0, z) - data.target * z) + 1e-4 * (w @ w)


full = nbhvp.minimize(loss, rng.normal(size=256) / 3, method="trust-krylov", tol=1e-8)
counts = np.arange(0, 241, 16)
rises = {"size of the weights": [], "Optimal Brain Damage": [], "Optimal Brain Surgeon": []}
for count in counts:
    damage = nbhvp.curvature.optimal_brain_damage(loss, full.x, count=count)
    size = nbhvp.curvature.optimal_brain_damage(loss, full.x, count=count, diagonal=np.ones(256))
    surgeon = nbhvp.curvature.optimal_brain_surgeon(loss, full.x, count=count)
    for kept, pruned in zip(rises.values(), (size, damage, surgeon), strict=True):
        kept.append(pruned.after)

figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
for name, values in rises.items():
    axes.semilogy(counts, values, ".-", label=name)
axes.set(xlabel="weights removed, of 256", ylabel="loss")
axes.legend()
