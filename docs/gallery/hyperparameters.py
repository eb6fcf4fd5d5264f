"""A penalty for each feature of a logistic regression, chosen on held-out data by hypergradients."""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer

import nbhvp

data = load_breast_cancer()
X = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
train, held_out, test = np.split(np.random.default_rng(0).permutation(len(X)), [100, 350])


def loss(w, rows):
    z = X[rows] @ w
    return np.mean(np.logaddexp(0, z) - data.target[rows] * z)


@nbhvp.differentiable
def inner(w, a):
    return loss(w, train) + np.sum(np.exp(a) * w**2)


def solve(a):  # by any solver
    return nbhvp.minimize(inner, np.zeros(30), args=(a,), method="newton-cg", tol=1e-9)


fitted = nbhvp.implicit.argmin(inner, solve)
path = [np.full(30, -5.0)]
outer = lambda w, a: loss(w, held_out) + 1e-3 * np.sum((a - path[0]) ** 2)
validation = nbhvp.implicit.hypergradient(fitted, outer)
best = nbhvp.minimize(validation, path[0], method="trust-krylov", callback=path.append)

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for rows, style in ((held_out, "."), (test, "x")):
    left.plot([loss(fitted(a), rows) for a in path], f"{style}-")
left.set(xlabel="iteration", title="loss on held-out (.) and test data (x)")
right.bar(range(30), best.x)
right.set(xlabel="feature", title="logarithm of its penalty")
