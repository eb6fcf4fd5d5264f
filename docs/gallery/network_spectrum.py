"""The spectrum of the Hessian of a network with 2410 parameters, before and after training."""

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import logsumexp
from sklearn.datasets import load_digits

import nbhvp

digits, rng = load_digits(), np.random.default_rng(0)
images, onehot = digits.data / 16, np.eye(10)[digits.target]


def logits(w):
    hidden = np.tanh(images @ w[:2048].reshape(64, 32) + w[2048:2080])
    return hidden @ w[2080:2400].reshape(32, 10) + w[2400:]


def cross_entropy(z):
    return np.mean(logsumexp(z, axis=1) - np.sum(onehot * z, axis=1))


loss = nbhvp.differentiable(lambda w: cross_entropy(logits(w)) + 1e-4 * (w @ w))
start = rng.normal(size=2410) / np.sqrt(np.repeat([64, 1, 32, 1], [2048, 32, 320, 10]))
found = nbhvp.minimize(loss, start, method="newton-cg", options={"maxiter": 20})

figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
for name, w in (("start", start), ("trained", found.x)):
    density = nbhvp.curvature.spectral_density(loss.hessian(w), probes=5, steps=60, rng=1)
    low, high = density.support
    axes = density.plot(axes, width=0.004)
    axes.lines[-1].set_label(f"{name}: loss {loss(w):.3f}, eigenvalues {low:.2g} to {high:.2g}")
axes.legend()
