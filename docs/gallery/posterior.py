"""Laplace's approximation of a network: the prior with the most evidence, and predictive bands."""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes

import nbhvp

data = load_diabetes()
x, y = data.data[:, 2] / data.data[:, 2].std(), data.target / 100  # body mass index, progression
grid, noise = np.linspace(-4.5, 6.5, 200), 0.62


def model(w, x):
    return np.tanh(x[:, None] * w[:10] + w[10:20]) @ w[20:30] + w[30]


@nbhvp.differentiable
def energy(w, prior):  # minus the logarithm of the posterior, not normalised
    return np.sum((model(w, x) - y) ** 2) / (2 * noise**2) + 0.5 * prior * (w @ w)


fitted = nbhvp.gauss_newton(lambda w: model(w, x) / noise)
w, fits, priors = np.random.default_rng(0).normal(size=31), [], np.logspace(-3, 2, 11)
for prior in priors:
    w = nbhvp.minimize(energy, w, (prior,), method="trust-krylov").x
    fits.append(nbhvp.curvature.laplace(energy, w, prior, hessian=fitted(w).damped(prior)))
evidence = [fit.log_evidence for fit in fits] + 15.5 * np.log(priors)

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
axes[0].semilogx(priors, evidence, ".-")
axes[0].set(xlabel="precision of the prior", title="log evidence, up to a constant")
for ax, k in zip(axes[1:], (0, np.argmax(evidence)), strict=True):
    curve = nbhvp.differentiable(lambda w: model(w, grid))
    mean, J = curve(fits[k].mean), curve.jacobian(fits[k].mean)
    band = 2 * np.sqrt(fits[k].variance_of(J))
    ax.plot(x, y, ".", grid, mean, markersize=3)
    ax.fill_between(grid, mean - band, mean + band, alpha=0.3, color="C1")
    ax.set(ylim=(-1, 5), xlabel="body mass index", title=f"precision {priors[k]:.3g}")
