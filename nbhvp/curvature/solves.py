"""The inverse of a symmetric operator, as an operator: each product is a solve by a Krylov method.

SciPy's solvers do the work. Where one does not reach its tolerance, that is an error: the vector that it
stopped at is not the product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, aslinearoperator, cg, minres

from nbhvp.curvature.estimates import symmetric
from nbhvp.operators.algebra import Operator

__all__ = ["Inverse", "inverse"]

SOLVERS = {"cg": (cg, 0.5), "minres": (minres, 0.01)}
"""SciPy's solvers, and the part of the tolerance that is asked of each: minres measures the residual by the
norms of H and x, cg by a recurrence that drifts."""


class Inverse(Operator):
    """The inverse of a symmetric operator; see `inverse`.

    Attributes
    ----------
    products : int
        Products with the operator, up to now.
    """

    def __init__(
        self, H: LinearOperator, method: str, preconditioner: Any, rtol: float, maxiter: Any
    ):
        super().__init__(np.dtype(np.result_type(H.dtype, np.float32)), H.shape)
        self.products = 0
        self._operator, self._method = H, method
        self._preconditioner, self._rtol, self._maxiter = preconditioner, rtol, maxiter

    def _matvec(self, b: np.ndarray) -> np.ndarray:
        b = np.ravel(b)
        counted = LinearOperator(self.shape, self._times, dtype=self._operator.dtype)
        settings = {"maxiter": self._maxiter, "M": self._preconditioner}
        x, residual, allowed = np.zeros(len(b)), b, self._rtol * np.linalg.norm(b)
        before, info = float("inf"), 0
        solve, part = SOLVERS[self._method]
        # What a solver leaves it solves for again, as long as that helps.
        while allowed < (size := float(np.linalg.norm(residual))) < before / 2 and not info:
            with np.errstate(divide="ignore", invalid="ignore"):  # which the error below tells of
                step, info = solve(counted, residual, rtol=part * allowed / size, **settings)
            x, before = x + step, size
            residual = b - self._times(x)
        if not size <= allowed:
            raise np.linalg.LinAlgError(
                f"{self._method} stopped at a relative residual of {size / np.linalg.norm(b):.1e}, "
                f"needed {self._rtol:.1e}: allow more iterations, give a preconditioner, add a damping, "
                'or take method="minres" for an operator that is not positive definite'
            )
        return x

    def _times(self, v: np.ndarray) -> np.ndarray:
        self.products += 1
        return self._operator @ v

    def _adjoint(self) -> Inverse:
        return self

    _transpose = _adjoint


def inverse(
    H: Any,
    *,
    method: str = "cg",
    preconditioner: Any = None,
    rtol: float = 1e-8,
    maxiter: int | None = None,
) -> Inverse:
    """The inverse of a symmetric operator, as an operator.

    Parameters
    ----------
    H : LinearOperator or matrix, shape (n, n)
        Symmetric; positive definite for ``"cg"``.
    method : {"cg", "minres"}
        SciPy's solver.
    preconditioner : LinearOperator or matrix, optional
        Near the inverse of H, symmetric and positive definite, as from `nystrom` or `jacobi`.
    rtol : float
        The residual of each solve, relative to the right-hand side.
    maxiter : int, optional
        The most iterations of a solve, as SciPy's solver takes it.

    Returns
    -------
    Inverse
        A LinearOperator; its products raise ``numpy.linalg.LinAlgError`` where the solver does not reach
        the tolerance.

    Examples
    --------
    >>> import numpy as np, nbhvp
    >>> nbhvp.curvature.inverse(np.diag([1.0, 2.0, 4.0])) @ np.ones(3)
    array([1.  , 0.5 , 0.25])
    """
    operator = symmetric(H)
    if method not in SOLVERS:
        raise ValueError(f"needed a method of 'cg', 'minres', got {method!r}")
    if preconditioner is not None:
        preconditioner = aslinearoperator(preconditioner)
        if preconditioner.shape != operator.shape:
            raise ValueError(
                f"needed a preconditioner of shape {operator.shape}, got {preconditioner.shape}"
            )
    return Inverse(operator, method, preconditioner, rtol, maxiter)
