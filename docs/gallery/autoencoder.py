"""Hessian-free training of an autoencoder that puts digits of 64 pixels into two numbers."""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import nbhvp

digits, rng = load_digits(), np.random.default_rng(0)
images, layers = digits.data / 16, list(pairwise([64, 30, 12, 2, 12, 30, 64]))


def through(w, h, used):
    for k, (m, n) in enumerate(layers[:used]):
        weights, w = w[: (m + 1) * n].reshape(m + 1, n), w[(m + 1) * n :]
        h = h @ weights[1:] + weights[0]
        h = h if k in (2, 5) else np.tanh(h)
    return h


cross_entropy = lambda z: np.sum(np.logaddexp(0, z) - images * z) / len(images)
network = nbhvp.differentiable(lambda w: through(w, images, 6))
loss = nbhvp.differentiable(lambda w: cross_entropy(network(w)))
curvature = nbhvp.gauss_newton(network, cross_entropy)
start = np.concatenate([rng.normal(size=(m + 1) * n) / np.sqrt(m + 1) for m, n in layers])
options = {"curvature": curvature, "maxiter": 30, "cgiter": 60}
found = nbhvp.minimize(loss, start, method="hessian-free", options=options)

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
points = left.scatter(*through(found.x, images, 3).T, 5, digits.target, cmap="tab10")
figure.colorbar(points, ax=left)
left.set(title=f"the digits' two numbers; loss {loss(start):.0f} to {found.fun:.1f}")
restored = 1 / (1 + np.exp(-network(found.x)[:10]))
pairs = np.dstack([images[:10].reshape(-1, 8, 8), restored.reshape(-1, 8, 8)])
right.imshow(np.block([[pairs[k], pairs[k + 5]] for k in range(5)]), cmap="gray_r")
right.set(title="digits and restored", xticks=[], yticks=[])
