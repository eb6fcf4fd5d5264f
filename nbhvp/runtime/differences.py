"""Products by differences of gradients, with which exact products are compared.

Central, (g(x + h v) - g(x - h v)) / 2h with h = eps^(1/3) (1 + |x|) / |v|: the truncation error h^2
balances the rounding error eps / h. Forward, (g(x + h v) - g(x)) / h with h = eps^(1/2) (1 + |x|) / |v|.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["DIFFERENCES"]

Gradient = Callable[[np.ndarray], np.ndarray]


def _central(gradient: Gradient, x: np.ndarray, step: np.ndarray) -> np.ndarray:
    return (gradient(x + step) - gradient(x - step)) / 2


def _forward(gradient: Gradient, x: np.ndarray, step: np.ndarray) -> np.ndarray:
    return gradient(x + step) - gradient(x)


def _differences(difference: Callable, power: float) -> Callable:
    """Products with directions by a difference along a step, of eps to a power for |x| = 0."""

    def one(gradient: Gradient, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        length = np.linalg.norm(v)
        if length == 0:
            return np.zeros_like(x)
        h = x.dtype.type(np.finfo(x.dtype).eps ** power * (1 + np.linalg.norm(x)) / length)
        return difference(gradient, x, h * v) / h

    def product(gradient: Gradient, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        if v.ndim == x.ndim:
            return one(gradient, x, v)
        directions = np.moveaxis(v, -1, 0)
        columns = np.empty(directions.shape, x.dtype)
        for k, direction in enumerate(directions):
            columns[k] = one(gradient, x, np.array(direction, order="C"))
        return np.moveaxis(columns, 0, -1)

    return product


DIFFERENCES: dict[str, Callable[[Gradient, np.ndarray, np.ndarray], np.ndarray]] = {
    "finite-difference": _differences(_central, 1 / 3),
    "finite-difference-forward": _differences(_forward, 1 / 2),
}
"""Maps from a gradient, x and v to H(x) v, by the names of their modes."""
