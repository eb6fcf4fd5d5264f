"""Standard errors of a fit: the inverse Hessian, column by column, by conjugate gradients."""

import matplotlib.pyplot as plt
import numpy as np
from scipy.sparse.linalg import cg

import nbhvp

rng = np.random.default_rng(1)
time = np.linspace(0, 4, 60)
observed = 2 * np.exp(-0.8 * time) * np.cos(3 * time) + 0.1 * rng.normal(size=60)


def model(p, t):
    return p[0] * np.exp(-p[1] * t) * np.cos(p[2] * t)


@nbhvp.differentiable
def negative_log_likelihood(p):
    return np.sum((model(p, time) - observed) ** 2) / (2 * 0.1**2)


fit = nbhvp.minimize(negative_log_likelihood, np.array([1.5, 0.5, 2.8]), method="trust-krylov")
hessian = negative_log_likelihood.hessian(fit.x)
covariance = np.column_stack([cg(hessian, unit, rtol=1e-10)[0] for unit in np.eye(3)])
curve = nbhvp.differentiable(lambda p: model(p, time))
spread = curve.jacobian(fit.x).toarray()
band = np.sqrt(np.sum((spread @ covariance) * spread, axis=1))

figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
axes.plot(time, observed, ".", color="gray")
axes.plot(time, model(fit.x, time))
axes.fill_between(time, model(fit.x, time) - 2 * band, model(fit.x, time) + 2 * band, alpha=0.3)
errors = np.sqrt(np.diag(covariance))
axes.set(title=", ".join(f"{p:.2f} ± {e:.2f}" for p, e in zip(fit.x, errors, strict=True)))
