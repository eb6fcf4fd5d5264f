"""The least surface in a frame by Newton's method, with factors of the sparse Hessian."""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import zoom
from scipy.sparse.linalg import splu

import nbhvp


def frame(n):
    z, t = np.zeros((n + 1, n + 1)), np.linspace(0, 2 * np.pi, n + 1)
    z[0], z[-1] = np.sin(t), -np.sin(t)
    return z


@nbhvp.differentiable
def area(inner, z):
    z = z.copy()
    z[1:-1, 1:-1] = inner.reshape(z.shape[0] - 2, -1)
    p, q = z[1:, 1:] - z[:-1, :-1], z[1:, :-1] - z[:-1, 1:]
    return np.mean(np.sqrt(1 + (p**2 + q**2) * p.size / 2))


figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
z = frame(16)
for n in (16, 32, 64, 128, 256):  # from coarse to fine: each starts from the last
    z, start = frame(n), zoom(z, (n + 1) / z.shape[0], order=1)
    x, norms = start[1:-1, 1:-1].ravel(), []
    while not norms or norms[-1] > 1e-12:
        value, gradient = area.value_and_grad(x, z)
        step = splu(area.sparse_hessian(x, z), "MMD_AT_PLUS_A").solve(gradient)
        while area(x - step, z) > value + 1e-12:
            step /= 2
        x = x - step
        norms.append(np.linalg.norm(area.grad(x, z)))
    z[1:-1, 1:-1] = x.reshape(n - 1, n - 1)
    left.semilogy(range(1, len(norms) + 1), norms, "o-", label=f"{x.size:,} unknowns")
left.set(xlabel="step", ylabel="norm of the gradient")
left.legend()
right.imshow(z, cmap="viridis")
right.set_axis_off()
