"""The eigenvalues of a Hessian of 2500 variables, from products alone."""

import matplotlib.pyplot as plt
import numpy as np
from scipy.sparse.linalg import eigsh

import nbhvp

n = 50
grid = np.linspace(0, 1, n)
frame = np.sin(2 * np.pi * grid)


@nbhvp.differentiable
def area(z):
    """Of a surface of heights z over the unit square, whose frame is given."""
    z = np.pad(z.reshape(n, n), 1)
    z[0, 1:-1], z[-1, 1:-1] = frame, -frame
    steps = (np.diff(z[:, 1:], axis=0) ** 2 + np.diff(z[1:], axis=1) ** 2) * (n + 1) ** 2
    return np.sum(np.sqrt(1 + steps)) / (n + 1) ** 2


best = nbhvp.minimize(area, np.zeros(n * n), method="trust-krylov")
hessian = area.hessian(best.x)
stiff, modes = eigsh(hessian, k=6)
soft, soft_modes = eigsh(hessian, k=2, which="SA", maxiter=10_000, tol=1e-4)

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
left.imshow(best.x.reshape(n, n), cmap="viridis")
left.set(title="the surface of least area", xticks=[], yticks=[])
right.imshow(soft_modes[:, 0].reshape(n, n), cmap="coolwarm")
right.set(title=f"its softest mode, {soft[0]:.2g} (stiffest {stiff[-1]:.2g})", xticks=[], yticks=[])
