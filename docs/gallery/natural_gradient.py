"""A softmax regression on digits, by steps along the gradient and along the natural gradient."""

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import logsumexp
from sklearn.datasets import load_digits

import nbhvp

digits = load_digits()
X = np.column_stack([digits.data / 16, np.ones(1797)])
onehot = np.eye(10)[digits.target]


def model(w):
    return X @ w.reshape(65, 10)


@nbhvp.differentiable
def loss(w):
    z = model(w)
    return np.mean(logsumexp(z, axis=1) - np.sum(onehot * z, axis=1)) + 5e-4 * (w @ w)


fisher = nbhvp.fisher(model, "categorical")
natural = {"fisher": lambda w: fisher(w) / len(X), "damping": 1e-3}
steepest = {"fisher": lambda w: nbhvp.identity(650), "damping": 0.0, "maxiter": 3000}

figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
for name, options in (("gradient", steepest), ("natural gradient", natural)):
    path, options = [np.zeros(650)], options | {"gtol": 1e-4}
    nbhvp.minimize(loss, path[0], (), "natural-gradient", callback=path.append, options=options)
    steps = np.arange(1, len(path) + 1)
    axes.loglog(steps, [loss(w) for w in path], label=f"{name}: {len(path) - 1} steps")
axes.set(xlabel="step", ylabel="loss")
axes.legend()
