"""Which parameters to remove: Optimal Brain Damage and Optimal Brain Surgeon.

At a minimum the loss changes by p.Hp / 2 for a step p. Damage (LeCun, Denker and Solla 1990) takes the
diagonal of H alone, so that setting x_i to zero costs H_ii x_i^2 / 2. Surgeon (Hassibi and Stork 1993)
moves the other parameters so as to repair: with C = H^-1 it costs x_i^2 / (2 C_ii), by the step
-x_i C_i / C_ii. After each removal C becomes the inverse of H without this row and column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nbhvp.curvature.estimates import symmetric
from nbhvp.function import flat

__all__ = ["Pruned", "optimal_brain_damage", "optimal_brain_surgeon"]


@dataclass(frozen=True, eq=False)
class Pruned:
    """Parameters of which some are zero.

    Attributes
    ----------
    x : ndarray, shape (n,)
        The parameters after pruning.
    removed : ndarray of int, shape (count,)
        The indices of those that are zero, in the order in which they were removed.
    saliency : ndarray, shape (count,)
        The predicted rise of the loss by each removal.
    before, after : float
        The loss at the parameters that were given, and at `x`.
    """

    x: np.ndarray
    removed: np.ndarray
    saliency: np.ndarray
    before: float
    after: float

    @property
    def predicted(self) -> float:
        """The rise of the loss that the saliencies add up to."""
        return float(np.sum(self.saliency))

    @property
    def rise(self) -> float:
        """The rise of the loss."""
        return self.after - self.before


def optimal_brain_damage(f: Any, x: Any, *args: Any, count: int, diagonal: Any = None) -> Pruned:
    """Set the parameters to zero that matter least by the diagonal of the Hessian.

    Parameters
    ----------
    f : Function or callable
        The loss, ``f(x, *args)``.
    x : array_like, shape (n,)
        Near a minimum. For a function of a tree it may be a tree, and counts as a vector.
    *args
        Further arguments of f.
    count : int
        How many parameters to remove.
    diagonal : array_like, shape (n,), optional
        Of the Hessian; by default ``f.hessian(x, *args).diagonal()``. An estimate, or the diagonal of a
        Gauss-Newton matrix, takes fewer products.

    Returns
    -------
    Pruned
        With the predicted and the true rise of the loss.

    References
    ----------
    LeCun, Denker and Solla 1990, *Optimal brain damage*, NIPS 2.

    Examples
    --------
    >>> import numpy as np, nbhvp
    >>> f = nbhvp.differentiable(lambda x: 0.5 * np.sum(np.array([1.0, 9.0, 4.0]) * (x - 1) ** 2))
    >>> found = nbhvp.curvature.optimal_brain_damage(f, np.ones(3), count=1)
    >>> found.x, found.predicted, found.rise
    (array([0., 1., 1.]), 0.5, 0.5)
    """
    f, x = _start(f, x, count)
    d = f.hessian(x, *args).diagonal() if diagonal is None else np.asarray(diagonal, float)
    if d.shape != x.shape:
        raise ValueError(f"needed a diagonal of shape {x.shape}, got {d.shape}")
    saliency = 0.5 * d * x**2
    removed = np.argsort(saliency, kind="stable")[:count]
    pruned = x.copy()
    pruned[removed] = 0
    return Pruned(pruned, removed, saliency[removed], float(f(x, *args)), float(f(pruned, *args)))


def optimal_brain_surgeon(
    f: Any, x: Any, *args: Any, count: int, hessian: Any = None, damping: float = 0.0
) -> Pruned:
    """Remove parameters one by one, and move the others so as to make up for each.

    Parameters
    ----------
    f : Function or callable
        The loss, ``f(x, *args)``.
    x : array_like, shape (n,)
        Near a minimum. For a function of a tree it may be a tree, and counts as a vector.
    *args
        Further arguments of f.
    count : int
        How many parameters to remove.
    hessian : LinearOperator or matrix, optional
        By default ``f.hessian(x, *args)``. It is formed and inverted: n products, n^2 numbers.
    damping : float
        Added to its diagonal, so that it can be inverted.

    Returns
    -------
    Pruned
        With the predicted and the true rise of the loss.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the Hessian plus the damping is not positive definite.

    References
    ----------
    Hassibi and Stork 1993, *Second order derivatives for network pruning*, NIPS 5.

    Examples
    --------
    >>> import numpy as np, nbhvp
    >>> A = np.array([[2.0, 1.0], [1.0, 1.0]])
    >>> f = nbhvp.differentiable(lambda x: 0.5 * (x - 1) @ A @ (x - 1))
    >>> found = nbhvp.curvature.optimal_brain_surgeon(f, np.ones(2), count=1)
    >>> found.x.round(6), round(found.predicted, 6), round(found.rise, 6)
    (array([1.5, 0. ]), 0.25, 0.25)
    """
    f, x = _start(f, x, count)
    H = symmetric(f.hessian(x, *args) if hessian is None else hessian)
    dense = np.asarray(H @ np.eye(len(x)), float) + damping * np.eye(len(x))
    try:
        factor = np.linalg.inv(np.linalg.cholesky((dense + dense.T) / 2))
    except np.linalg.LinAlgError:
        raise np.linalg.LinAlgError(
            "needed a positive definite Hessian: give a `damping`, or a Gauss-Newton matrix"
        ) from None
    inverse = factor.T @ factor
    pruned, kept = x.copy(), np.arange(len(x))
    removed, saliency = [], []
    for _ in range(count):
        costs = 0.5 * pruned[kept] ** 2 / inverse.diagonal()
        i = int(np.argmin(costs))
        column = inverse[:, i] / inverse[i, i]
        pruned[kept] -= pruned[kept[i]] * column
        pruned[kept[i]] = 0
        removed.append(kept[i])
        saliency.append(costs[i])
        others = np.arange(len(kept)) != i
        inverse = (inverse - np.outer(inverse[:, i], column))[np.ix_(others, others)]
        kept = kept[others]
    return Pruned(
        pruned,
        np.array(removed, int),
        np.array(saliency, float),
        float(f(x, *args)),
        float(f(pruned, *args)),
    )


def _start(f: Any, x: Any, count: int) -> tuple[Any, np.ndarray]:
    f, x = flat(f, x)
    x = np.array(x, float)
    if x.ndim != 1:
        raise ValueError(f"needed parameters of shape (n,), got {x.shape}")
    if not isinstance(count, int | np.integer) or not 0 <= count <= len(x):
        raise ValueError(f"needed a whole count from 0 to {len(x)}, got {count}")
    return f, x
