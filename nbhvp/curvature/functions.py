"""Functions of a symmetric operator, times a vector, by Lanczos' method.

With the basis Q of the Krylov space of v and T = Q^T H Q, f(H) v is about |v| Q f(T) e_1, which is the
best that polynomials of a degree can do up to a factor of 2 (Musco, Musco and Sidford 2018).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from nbhvp.curvature.estimates import symmetric
from nbhvp.curvature.lanczos import Krylov, lanczos

__all__ = ["apply"]

PATIENCE = 5.0
"""Seconds from which on a warning comes before."""
SECONDS = 5e-10
"""Of a step, for each number of the vectors so far, which are read twice."""
EARLY = 100
"""Steps before which none is predicted."""


def apply(
    fun: Callable, H: Any, v: Any, *, rtol: float = 1e-8, steps: int | None = None
) -> np.ndarray:
    """A function of a symmetric operator, times a vector: ``V fun(L) V.T @ v`` for ``H = V L V.T``.

    Parameters
    ----------
    fun : callable
        From the eigenvalues, an array, to an array: ``np.sqrt``, ``np.exp``, ``lambda t: t**-0.5``.
    H : LinearOperator or matrix, shape (n, n)
        Symmetric.
    v : array_like, shape (n,)
    rtol : float
        The last steps change the result by no more, relative to its length.
    steps : int, optional
        The most products with H, and vectors in memory; n by default.

    Returns
    -------
    ndarray, shape (n,)

    Warns
    -----
    UserWarning
        Where the steps are predicted to take more than 5 s beside the products: their time grows with the
        square of their number, which grows with the root of the condition of H.

    Raises
    ------
    numpy.linalg.LinAlgError
        If so many steps do not reach the tolerance, or `fun` is not finite at an eigenvalue.

    Examples
    --------
    >>> import numpy as np, nbhvp
    >>> nbhvp.curvature.apply(np.sqrt, np.diag([1.0, 4.0, 9.0]), np.ones(3)).round(6)
    array([1., 2., 3.])
    """
    operator = symmetric(H)
    n = operator.shape[0]
    v = np.asarray(v, float)
    if v.shape != (n,):
        raise ValueError(f"needed a vector of shape ({n},), got {v.shape}")
    length = np.linalg.norm(v)
    if not length:
        return np.zeros(n)
    most = n if steps is None else min(steps, n)

    changes: list[tuple[int, float]] = []
    is_told = steps is not None

    def is_exact(space: Krylov) -> bool:
        nonlocal is_told
        changes.append((len(space.diagonal), _change(fun, space)))
        if not is_told and changes[-1][1] > rtol:
            is_told = _told(n, changes, rtol)
        return changes[-1][1] <= rtol

    (space,) = lanczos(operator, v[:, None], most, is_exact)
    if len(space.diagonal) == most < n and not is_exact(space):
        raise np.linalg.LinAlgError(
            f"{most} products gave the result to {_change(fun, space):.1e}, needed {rtol:.1e}: "
            "allow more steps or a larger rtol"
        )
    return length * (_in_basis(fun, space) @ space.basis)


def _told(n: int, changes: list[tuple[int, float]], rtol: float) -> bool:
    """Whether so many steps will be needed, by how changes fall, and a warning has told it."""
    done, change = changes[-1]
    if done < EARLY:
        return False
    before, larger = changes[len(changes) // 2 - 1]
    falls = np.log(larger / change) / (done - before)
    needed = min(n, done + np.log(change / rtol) / falls) if falls > 0 else n
    seconds = SECONDS * n * needed**2
    if seconds > PATIENCE:
        warnings.warn(
            f"after {done} products the result is known to {change:.1g}; {rtol:.1g} is predicted to take "
            f"{needed:.0f} products, and {seconds:.0f} s beside them: H is ill-conditioned. "
            "Take a larger rtol, or scale H by its diagonal",
            UserWarning,
            stacklevel=5,
        )
    return seconds > PATIENCE


def _in_basis(fun: Callable, space: Krylov) -> np.ndarray:
    """f(T) e_1."""
    values, vectors = space.eigen()
    # What rounding leaves of an eigenvalue of 0 may lie on either side of it.
    values[abs(values) <= len(values) * np.finfo(float).eps * np.max(abs(values))] = 0
    with np.errstate(invalid="ignore", divide="ignore"):  # which the error below tells of
        of_values = np.asarray(fun(values), float)
    if not np.all(np.isfinite(of_values)):
        at = values[~np.isfinite(of_values)][0]
        raise np.linalg.LinAlgError(
            f"the function is not finite at {at:.6g}, an eigenvalue of H or near one"
        )
    return vectors @ (of_values * vectors[0])


def _change(fun: Callable, space: Krylov) -> float:
    """How much the last fifth of the steps has changed the result, relative to its length."""
    found = _in_basis(fun, space)
    m = max(1, len(found) * 4 // 5)
    earlier = _in_basis(fun, space.shortened(m))
    change = np.linalg.norm(found - np.pad(earlier, (0, len(found) - m)))
    return float(change / np.linalg.norm(found)) if change else 0.0
