"""The least surface in a frame, of 10⁶ unknowns, by Newton's method with sparse factors."""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import zoom
from scipy.sparse.linalg import splu

import nbhvp


@nbhvp.differentiable
def area(inner, z):
    z = z.copy()
    z[1:-1, 1:-1] = inner.reshape(z.shape[0] - 2, -1)
    p, q = z[1:, 1:] - z[:-1, :-1], z[1:, :-1] - z[:-1, 1:]
    return np.mean(np.sqrt(1 + (p**2 + q**2) * p.size / 2))


def dissected(grid):  # halves first, the line between them last: factors stay sparse
    if grid.size <= 16:
        return grid.ravel()
    k = len(grid) // 2
    return np.concatenate([dissected(grid[:k].T), dissected(grid[k + 1 :].T), grid[k]])


z = np.zeros((16, 16))
for n in (16, 32, 63, 126, 251, 502, 1002):  # from coarse to fine: each starts from the last
    z, norms = zoom(z, n / len(z), order=1), []
    z[0], z[-1] = np.sin(np.linspace(0, 2 * np.pi, n)) * np.array([[1], [-1]])
    x, order = z[1:-1, 1:-1].ravel(), dissected(np.arange((n - 2) ** 2).reshape(n - 2, n - 2))
    while not norms or norms[-1] > 1e-12:
        H, g = area.sparse_hessian(x, z)[order][:, order], area.grad(x, z)[order]
        factors = splu(H.tocsc(), "NATURAL", diag_pivot_thresh=0, options={"SymmetricMode": True})
        x[order] -= factors.solve(g)
        norms.append(np.abs(area.grad(x, z)).max())
    z[1:-1, 1:-1] = x.reshape(n - 2, n - 2)
    plt.semilogy(range(1, len(norms) + 1), norms, "o-", label=f"{x.size:,} unknowns")
plt.ylabel("largest element of the gradient")
plt.legend()
