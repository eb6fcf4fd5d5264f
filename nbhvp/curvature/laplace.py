"""Laplace's approximation: a normal distribution around the minimum of a negative log-density.

With H the Hessian at the minimum x of f, exp(-f) is about exp(-f(x)) times the density of a normal
distribution with mean x and covariance H^-1, up to constants, and its integral about

    exp(-f(x)) (2 pi)^(n/2) det(H)^(-1/2)

(MacKay 1992). The covariance is held as a factor: dense; low-rank, where all but some eigenvalues of
H equal a known precision (those of the prior); or diagonal.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator, eigsh

from nbhvp.curvature.estimates import symmetric, times
from nbhvp.function import flat

__all__ = ["Laplace", "laplace"]

MOST_FALL = 0.1
"""How far above the minimum f may be, by its quadratic approximation: the error of the log-evidence."""


@dataclass(frozen=True, eq=False)
class Laplace:
    """A normal distribution; see `laplace`.

    Attributes
    ----------
    mean : ndarray, shape (n,)
        The minimum.
    log_evidence : float
        The logarithm of the integral of exp(-f).
    """

    mean: np.ndarray
    log_evidence: float
    _covariance: Callable[[np.ndarray], np.ndarray]
    _root: Callable[[np.ndarray], np.ndarray]
    _variance: Callable[[], np.ndarray]

    def covariance(self, V: Any) -> np.ndarray:
        """The covariance times vectors, of shape (n,) or (n, k)."""
        V = np.asarray(V, float)
        if V.ndim not in (1, 2) or V.shape[0] != len(self.mean):
            n = len(self.mean)
            raise ValueError(f"needed an array of shape ({n},) or ({n}, k), got {V.shape}")
        return self._covariance(V) if V.ndim == 2 else self._covariance(V[:, None])[:, 0]

    def variance(self) -> np.ndarray:
        """The variances of the elements of x, of shape (n,)."""
        return self._variance()

    def variance_of(self, J: Any) -> np.ndarray:
        """The variances of the m results of a function with the Jacobian J at the mean, of shape (m,).

        The function is taken to be linear where the distribution lies. J is a matrix or an operator of
        shape (m, n), such as ``model.jacobian(found.mean)``.
        """
        if isinstance(J, LinearOperator):
            rows = J.T @ np.eye(J.shape[0])
        else:
            J = J.toarray() if issparse(J) else np.asarray(J)
            rows = J.T
        if rows.ndim != 2 or rows.shape[0] != len(self.mean):
            raise ValueError(f"needed a Jacobian of shape (m, {len(self.mean)}), got {J.shape}")
        return np.einsum("ij,ij->j", rows, self._covariance(rows))

    def samples(self, count: int, rng: Any = None) -> np.ndarray:
        """Random points, of shape (count, n)."""
        normal = np.random.default_rng(rng).standard_normal((len(self.mean), count))
        return self.mean + self._root(normal).T


def laplace(
    f: Any,
    x: Any,
    *args: Any,
    hessian: Any = None,
    method: str = "exact",
    rank: int | None = None,
    precision: float | None = None,
    rng: Any = None,
) -> Laplace:
    """Laplace's approximation to exp(-f) around a minimum.

    Parameters
    ----------
    f : Function or callable
        ``f(x, *args)``, a negative log-density: the negative log-likelihood, summed over the data, plus the
        negative logarithm of the prior.
    x : array_like, shape (n,)
        A minimum of f. For a function of a tree it may be a tree, and counts as a vector.
    *args
        Further arguments of f.
    hessian : LinearOperator or matrix, optional
        The precision matrix; by default ``f.hessian(x, *args)``. A Gauss-Newton matrix is positive definite
        at any x.
    method : {"exact", "low-rank", "diagonal"}
        ``"exact"`` forms H and factorises it. ``"low-rank"`` takes its `rank` largest eigenvalues by products,
        and the `precision` for the others. ``"diagonal"`` takes its diagonal.
    rank : int
        For ``"low-rank"``.
    precision : float
        For ``"low-rank"``: the least eigenvalue of H, that of the prior.
    rng : None, int or numpy.random.Generator
        For ``"low-rank"``: of the start of the search for eigenvalues.

    Returns
    -------
    Laplace
        With ``log_evidence``, ``variance()``, ``variance_of(J)``, ``samples(count, rng)``.

    Raises
    ------
    numpy.linalg.LinAlgError
        If H is not positive definite.

    Warns
    -----
    RuntimeWarning
        If x is so far from a minimum that the log-evidence is off by more than 0.1.

    References
    ----------
    MacKay 1992, doi:10.1162/neco.1992.4.3.448; Daxberger et al. 2021, arXiv:2106.14806.

    Examples
    --------
    >>> import numpy as np, nbhvp
    >>> f = nbhvp.differentiable(lambda x: 0.5 * (4.0 * x[0] ** 2 + x[1] ** 2))
    >>> found = nbhvp.curvature.laplace(f, np.zeros(2))
    >>> found.variance(), round(found.log_evidence, 6)
    (array([0.25, 1.  ]), 1.14473)
    """
    f, x = flat(f, x)
    x = np.array(x, float)
    operator = symmetric(f.hessian(x, *args) if hessian is None else hessian)
    n = x.size
    if x.ndim != 1:
        raise ValueError(f"needed a minimum of shape (n,), got {x.shape}")
    if not np.all(np.isfinite(x)):
        raise ValueError("needed a minimum of finite numbers, got NaN or infinity among them")
    if operator.shape != (n, n):
        raise ValueError(f"needed a Hessian of shape ({n}, {n}), got {operator.shape}")
    if method == "exact":
        factors = _exact(operator)
    elif method == "diagonal":
        factors = _diagonal(hessian if hasattr(hessian, "diagonal") else operator)
    elif method == "low-rank":
        if rank is None or precision is None:
            raise TypeError('method "low-rank" needed `rank` and `precision`')
        factors = _low_rank(operator, rank, precision, rng)
    else:
        raise ValueError(f"needed a method of 'exact', 'low-rank', 'diagonal', got {method!r}")
    slope = np.ravel(f.grad(x, *args))
    fall = 0.5 * float(slope @ factors[1](slope[:, None])[:, 0])
    if not fall < MOST_FALL:
        warnings.warn(
            f"needed a minimum of f, and f falls by {fall:.3g} from x to the least value of its "
            "quadratic approximation: minimise f further",
            RuntimeWarning,
            stacklevel=2,
        )
    evidence = -float(f(x, *args)) + 0.5 * (n * math.log(2 * math.pi) - factors[0])
    return Laplace(x, evidence, *factors[1:])


Columns = Callable[[np.ndarray], np.ndarray]
Factors = tuple[float, Columns, Columns, Callable[[], np.ndarray]]
"""log det H; H^-1 times columns; a root R of H^-1 = R R^T times columns; the diagonal of H^-1."""


def _exact(H: LinearOperator) -> Factors:
    n = H.shape[0]
    dense = times(H, np.eye(n))
    try:
        L = scipy.linalg.cholesky((dense + dense.T) / 2, lower=True)
    except np.linalg.LinAlgError:
        raise _indefinite(np.linalg.eigvalsh(dense)[0]) from None
    return (
        2 * float(np.sum(np.log(np.diag(L)))),
        lambda V: scipy.linalg.cho_solve((L, True), V),
        lambda Z: scipy.linalg.solve_triangular(L, Z, lower=True, trans="T"),
        lambda: np.sum(scipy.linalg.solve_triangular(L, np.eye(n), lower=True) ** 2, axis=0),
    )


def _diagonal(H: Any) -> Factors:
    d = H.diagonal() if hasattr(H, "diagonal") else np.diag(H @ np.eye(H.shape[0]))
    d = np.asarray(d, float)[:, None]
    if not np.all(d > 0):
        raise _indefinite(d.min())
    logdet = float(np.sum(np.log(d)))
    return logdet, lambda V: V / d, lambda Z: Z / np.sqrt(d), lambda: 1 / d[:, 0]


def _low_rank(H: LinearOperator, rank: int, precision: float, rng: Any) -> Factors:
    n = H.shape[0]
    if not 1 <= rank < n or not precision > 0:
        raise ValueError(
            f"needed a rank from 1 to {n - 1} and a positive precision, got {rank} and {precision}"
        )
    start = np.random.default_rng(rng).standard_normal(n)
    values, vectors = eigsh(H, k=rank, which="LA", v0=start)
    if values.min() <= 0:
        raise _indefinite(values.min())
    if values.min() < (1 - 1e-6) * precision:
        raise ValueError(
            f"needed the least eigenvalue of the Hessian as `precision`, got {precision}, and one of its "
            f"{rank} largest is {values.min():.6g}: give a smaller precision or rank"
        )

    def scaled(V: np.ndarray, power: float) -> np.ndarray:
        others = precision**power
        return others * V + vectors @ ((values**power - others)[:, None] * (vectors.T @ V))

    logdet = float(np.sum(np.log(values)) + (n - rank) * math.log(precision))
    return (
        logdet,
        lambda V: scaled(V, -1.0),
        lambda Z: scaled(Z, -0.5),
        lambda: 1 / precision + vectors**2 @ (1 / values - 1 / precision),
    )


def _indefinite(least: float) -> np.linalg.LinAlgError:
    return np.linalg.LinAlgError(
        f"needed a positive definite Hessian, and this one has an eigenvalue of at most {least:.6g}: "
        "x may be no minimum; a Gauss-Newton matrix as `hessian` is never indefinite"
    )
