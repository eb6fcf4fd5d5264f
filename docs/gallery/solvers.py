"""A logistic regression by a Newton method and by a quasi-Newton method."""

import matplotlib.pyplot as plt
import numpy as np
import scipy.optimize

import nbhvp

rng = np.random.default_rng(0)
features = rng.normal(size=(2000, 50)) * np.logspace(0, -2, 50)
labels = np.sign(features @ rng.normal(size=50) * 5 + rng.normal(size=2000))


@nbhvp.differentiable
def loss(w):
    return np.mean(np.logaddexp(0, -labels * (features @ w))) + 1e-6 * (w @ w)


figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
for method, derivatives in {
    "trust-krylov": {"jac": loss.grad, "hessp": loss.hvp},
    "L-BFGS-B": {"jac": loss.grad},
}.items():
    norms = []
    scipy.optimize.minimize(
        loss,
        np.zeros(50),
        method=method,
        callback=lambda w, norms=norms: norms.append(np.linalg.norm(loss.grad(w))),
        options={"maxiter": 150},
        **derivatives,
    )
    axes.semilogy(norms, label=method)
axes.set(xlabel="iteration", ylabel="norm of the gradient")
axes.legend()
