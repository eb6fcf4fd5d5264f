"""Preconditioners of symmetric operators by products alone.

Nyström's approximation of rank r from a random sketch, H ~ U diag(l) U^T, with a damping m, makes

    P^-1 = (l_r + m) U diag(l + m)^-1 U^T + (I - U U^T),

after which H + m I has a condition number of about (l_r + m)/m, so that conjugate gradients take few steps
where the spectrum decays (Frangella, Tropp and Udell 2023).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from scipy.sparse.linalg import LinearOperator

from nbhvp.curvature.estimates import symmetric, times
from nbhvp.operators.algebra import Operator

__all__ = ["Nystrom", "jacobi", "nystrom"]


class Nystrom(Operator):
    """A preconditioner for ``H + damping I``; see `nystrom`.

    Attributes
    ----------
    eigenvalues : ndarray, shape (rank,)
        Of the approximation, the largest first.
    vectors : ndarray, shape (n, rank)
        Its eigenvectors.
    damping : float
    """

    def __init__(self, eigenvalues: np.ndarray, vectors: np.ndarray, damping: float):
        n = vectors.shape[0]
        super().__init__(np.dtype(float), (n, n))
        self.eigenvalues, self.vectors, self.damping = eigenvalues, vectors, damping
        last = eigenvalues[-1] if len(eigenvalues) else 0.0
        self._less = 1 - (last + damping) / (eigenvalues + damping)

    def _matmat(self, V: np.ndarray) -> np.ndarray:
        return V - self.vectors @ (self._less[:, None] * (self.vectors.T @ V))

    def _matvec(self, v: np.ndarray) -> np.ndarray:
        return self._matmat(np.reshape(v, (-1, 1)))[:, 0]

    def _adjoint(self) -> Nystrom:
        return self

    _transpose = _adjoint


def nystrom(H: Any, rank: int, damping: float, *, rng: Any = None) -> Nystrom:
    """A preconditioner for ``H + damping I`` from `rank` products with H.

    Parameters
    ----------
    H : LinearOperator or matrix, shape (n, n)
        Symmetric and positive semidefinite, such as a Gauss-Newton matrix.
    rank : int
        The eigenvalues that it corrects: those that are larger than the damping, if possible.
    damping : float
        Positive.
    rng : None, int or numpy.random.Generator
        Of the random directions, as ``numpy.random.default_rng`` takes it.

    Returns
    -------
    Nystrom
        A LinearOperator near a multiple of the inverse, symmetric and positive definite: the `M` of
        SciPy's solvers, the `preconditioner` of `inverse`.

    Raises
    ------
    numpy.linalg.LinAlgError
        If H is seen not to be positive semidefinite.

    References
    ----------
    Frangella, Tropp and Udell 2023, doi:10.1137/21M1466244, algorithm 2.1.

    Examples
    --------
    >>> import numpy as np, nbhvp, scipy.sparse
    >>> H = np.diag(1e4 * 0.5 ** np.arange(200))
    >>> P = nbhvp.curvature.nystrom(H, rank=20, damping=1e-2, rng=0)
    >>> damped = H + 1e-2 * np.eye(200)
    >>> fast = nbhvp.curvature.inverse(damped, preconditioner=P)
    >>> slow = nbhvp.curvature.inverse(damped)
    >>> np.allclose(fast @ np.ones(200), slow @ np.ones(200)), fast.products < slow.products / 2
    (True, True)
    """
    operator = symmetric(H)
    n = operator.shape[0]
    if not 1 <= rank <= n:
        raise ValueError(f"needed a rank from 1 to {n}, got {rank}")
    if not 0 < damping < np.inf:
        raise ValueError(f"needed a positive damping, got {damping}")
    sketch, _ = np.linalg.qr(np.random.default_rng(rng).standard_normal((n, rank)))
    images = times(operator, sketch)
    if not images.any():
        return Nystrom(np.zeros(1), sketch[:, :1], float(damping))
    # A small shift keeps the factorisation stable, and is taken off the eigenvalues again.
    shift = np.sqrt(n) * np.finfo(float).eps * np.linalg.norm(images)
    images = images + shift * sketch
    inner = sketch.T @ images
    try:
        factor = np.linalg.cholesky((inner + inner.T) / 2)
    except np.linalg.LinAlgError:
        raise np.linalg.LinAlgError(
            "needed a positive semidefinite operator, and this one is not: "
            "take a Gauss-Newton operator, or jacobi"
        ) from None
    half = scipy.linalg.solve_triangular(factor, images.T, lower=True).T
    vectors, singular, _ = np.linalg.svd(half, full_matrices=False)
    return Nystrom(np.maximum(singular**2 - shift, 0), vectors, float(damping))


def jacobi(H: Any, diagonal: Any = None) -> LinearOperator:
    """Division by the diagonal of a symmetric operator, as an operator.

    Parameters
    ----------
    H : LinearOperator or matrix, shape (n, n)
        Symmetric and positive definite.
    diagonal : array_like, shape (n,), optional
        Its diagonal, where it is known; by default ``H.diagonal()``, which may take n products.

    Returns
    -------
    LinearOperator

    Raises
    ------
    numpy.linalg.LinAlgError
        If an element is not positive, so that H is not positive definite.

    Examples
    --------
    >>> import numpy as np, nbhvp
    >>> nbhvp.curvature.jacobi(np.array([[4.0, 1.0], [1.0, 2.0]])) @ np.ones(2)
    array([0.25, 0.5 ])
    """
    operator = symmetric(H)
    given = H if hasattr(H, "diagonal") else operator
    if diagonal is None:
        if not hasattr(given, "diagonal"):
            raise TypeError(f"a {type(H).__name__} has no diagonal: give it as `diagonal`")
        diagonal = np.ravel(given.diagonal())
    d = np.asarray(diagonal, float)
    if d.shape != operator.shape[:1]:
        raise ValueError(f"needed a diagonal of shape {operator.shape[:1]}, got {d.shape}")
    if not np.all(d > 0):
        raise np.linalg.LinAlgError(
            f"needed a positive diagonal, and element {np.argmin(d)} is {d.min():.6g}: "
            "the operator is not positive definite"
        )
    return LinearOperator(
        operator.shape,
        lambda v: np.ravel(v) / d,
        rmatvec=lambda v: np.ravel(v) / d,
        matmat=lambda V: V / d[:, None],
        rmatmat=lambda V: V / d[:, None],
        dtype=np.dtype(float),
    )
