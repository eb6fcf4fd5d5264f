"""SciPy's solvers for functions of arrays, r(x) = 0 and min |r(x)|^2, with exact Jacobians.

Jacobians go to SciPy in the form that suits their size: an array, a sparse array, or an operator whose
products are JVPs and VJPs. SciPy's `newton_krylov` knows only differences; `root` with
``method="krylov"`` solves each Newton step by exact JVPs (Knoll and Keyes 2004), to a tolerance that
follows the convergence (Eisenstat and Walker 1996).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, lgmres

from nbhvp.function import flat
from nbhvp.sums import SumOver

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["least_squares", "root"]

FEW = 100
"""Unknowns up to which a Jacobian is an array."""
SPARSE = 0.1
"""The part of its entries below which a Jacobian is a sparse array."""
ARMIJO, HALVINGS = 1e-4, 30


def least_squares(
    r: Callable, x0: Any, args: Any = (), *, jacobian: str | None = None, **kw: Any
) -> OptimizeResult:
    """Minimise half the sum of squares of a function, by ``scipy.optimize.least_squares``.

    Parameters
    ----------
    r : Function or callable
        ``r(x, *args)``, an array of residuals. A plain function is made `differentiable` for this call, and
        compiled where that pays.
    x0 : array_like, shape (n,)
        The start. For a function of a tree it may be a tree; the ``x`` of the result is a vector.
    args : tuple
        Further arguments of r. A value that is not a tuple counts as one argument.
    jacobian : {"dense", "sparse", "operator"}, optional
        The form in which SciPy gets the Jacobian. By default an array up to 100 unknowns and for
        ``method="lm"``; a sparse array if less than a tenth of its entries can be other than zero;
        otherwise an operator, with which SciPy solves by LSMR.
    **kw
        ``bounds``, ``method``, ``loss``, ``ftol``, ... as in SciPy.

    Returns
    -------
    OptimizeResult
        SciPy's.

    Raises
    ------
    TypeError
        If ``jac`` is given.

    Examples
    --------
    >>> import numpy as np, nbhvp
    >>> t = np.linspace(0, 4, 50)
    >>> y = 2.0 * np.exp(-0.7 * t)
    >>> found = nbhvp.least_squares(lambda p: p[0] * np.exp(-p[1] * t) - y, [1.0, 1.0])
    >>> found.x.round(6)
    array([2. , 0.7])
    """
    from scipy.optimize import least_squares as scipy_least_squares

    if "jac" in kw:
        raise TypeError("nbhvp.least_squares gives jac itself: leave it out")
    if isinstance(r, SumOver):
        raise TypeError(
            "least_squares needs all residuals, and a sum over batches adds them up: minimise "
            "sum_over(lambda x, *batch: np.sum(r(x, *batch) ** 2) / 2, batches)"
        )
    (r, x0), args = flat(r, x0), _tuple(args)
    if jacobian is None:
        jacobian = (
            "dense" if kw.get("method") == "lm" else _suitable(r, np.asarray(x0, float), args)
        )
    jac = _jacobians(r, jacobian)
    residual = lambda x, *args: np.ravel(r(x, *args))
    return scipy_least_squares(residual, x0, jac=jac, args=args, **kw)


def root(
    r: Callable,
    x0: Any,
    args: Any = (),
    *,
    method: str | None = None,
    tol: float | None = None,
    callback: Callable | None = None,
    preconditioner: Any = None,
    maxiter: int = 100,
    **kw: Any,
) -> OptimizeResult:
    """A root of a function of arrays, with exact derivatives.

    Parameters
    ----------
    r : Function, SumOver or callable
        ``r(x, *args)``, of as many elements as x. A plain function is made `differentiable` for this call,
        and compiled where that pays.
    x0 : array_like, shape (n,)
        The start: a vector, a number, or the tree of a function of a tree. ``x`` of the result is a vector.
    args : tuple
        Further arguments of r. A value that is not a tuple counts as one argument.
    method : {"hybr", "lm", "krylov"}, optional
        ``"krylov"``, the default above 100 unknowns, is Newton's method with LGMRES on JVPs. The others are
        those of ``scipy.optimize.root``, with the Jacobian as an array; ``"hybr"`` is the default below.
    tol : float, optional
        For ``"krylov"`` the largest element of r at the root, 1e-8 by default; for the others as in SciPy.
    callback : callable, optional
        For ``"krylov"``: called with x and r(x) after each step.
    preconditioner : LinearOperator, matrix or callable, optional
        For ``"krylov"``: near the inverse of the Jacobian, or a function ``x, *args`` to it.
    maxiter : int
        For ``"krylov"``: the most steps.
    **kw
        ``options``, as in SciPy, for the other methods.

    Returns
    -------
    OptimizeResult
        With ``x``, ``fun``, ``success``, ``message``; for ``"krylov"`` also ``nit``, ``nfev`` and ``njvp``.

    Raises
    ------
    ValueError
        If the method is unknown, or r(x) has another size than x.

    References
    ----------
    Knoll and Keyes 2004, doi:10.1016/j.jcp.2003.08.010; Eisenstat and Walker 1996,
    doi:10.1137/0917003.

    Examples
    --------
    >>> import numpy as np, nbhvp
    >>> def heat(u):
    ...     v = np.pad(u, 1)
    ...     return v[2:] - 2 * v[1:-1] + v[:-2] + 5e-5 * np.exp(u)
    >>> found = nbhvp.root(heat, np.zeros(200), method="krylov")
    >>> found.success, bool(np.max(abs(heat(found.x))) < 1e-8)
    (True, True)
    """
    (r, x0), args = flat(r, x0), _tuple(args)
    x0 = np.array(x0, float, ndmin=1)
    if x0.ndim != 1:
        raise ValueError(f"x0 must have shape (n,), got {x0.shape}: give x0.ravel()")
    size = np.size(r(x0, *args))
    if size != x0.size:
        raise ValueError(
            f"needed as many results as unknowns, got {size} for x of shape {x0.shape}"
        )
    method = method or ("hybr" if x0.size <= FEW else "krylov")
    if method == "krylov":
        return _newton_krylov(
            r, x0, args, 1e-8 if tol is None else tol, callback, preconditioner, maxiter
        )
    if method not in ("hybr", "lm"):
        raise ValueError(f"needed a method of 'hybr', 'lm', 'krylov', got {method!r}")
    from scipy.optimize import root as scipy_root

    residual = lambda x, *args: np.ravel(r(x, *args))
    return scipy_root(
        residual, x0, args=args, jac=_jacobians(r, "dense"), method=method, tol=tol, **kw
    )


def _tuple(args: Any) -> tuple:
    return args if isinstance(args, tuple) else (args,)


def _suitable(r: Any, x0: np.ndarray, args: tuple) -> str:
    """The form of a Jacobian that suits its size."""
    if x0.size <= FEW:
        return "dense"
    pattern = r.jacobian_sparsity(x0, *args)
    return "sparse" if pattern.nnz < SPARSE * pattern.shape[0] * pattern.shape[1] else "operator"


def _jacobians(r: Any, form: str) -> Callable:
    """From x to the Jacobian in some form."""
    forms: dict[str, Callable] = {
        "dense": lambda x, *args: r.jacobian(x, *args).toarray(),
        "sparse": lambda x, *args: r.sparse_jacobian(x, *args),
        "operator": r.jacobian,
    }
    if form not in forms:
        raise ValueError(f"needed a jacobian of {', '.join(map(repr, forms))}, got {form!r}")
    return forms[form]


# Newton's method with Krylov solves.


def _newton_krylov(r, x, args, tol, callback, preconditioner, maxiter) -> OptimizeResult:
    from scipy.optimize import OptimizeResult

    counts = {"nit": 0, "nfev": 1, "njvp": 0}
    value = np.ravel(r(x, *args))
    share, message = 0.5, "the maximum of iterations is reached"
    while counts["nit"] < maxiter and not np.max(abs(value)) <= tol:
        step = _step(r, x, args, value, share, preconditioner, counts)
        length = np.linalg.norm(value)
        found = _shorter(r, x, args, step, length, counts)
        if found is None:
            message = "the residual does not fall along the step"
            break
        x, value = found
        counts["nit"] += 1
        # Solve more exactly as the convergence gets faster, but not from one step to the next.
        kept = 0.9 * share**2
        share = 0.9 * float(np.linalg.norm(value) / length) ** 2
        share = float(np.clip(max(share, kept) if kept > 0.1 else share, 1e-8, 0.5))
        if callback is not None:
            callback(x.copy(), value.copy())
    success = bool(np.max(abs(value)) <= tol)
    message = "the residual is below tol" if success else message
    return OptimizeResult(x=x, fun=value, success=success, message=message, **counts)


def _step(r, x, args, value, share, preconditioner, counts) -> np.ndarray:
    J = r.jacobian(x, *args)
    M = preconditioner
    if callable(M) and not isinstance(M, LinearOperator):
        M = M(x, *args)
    # LGMRES is done after n products but for rounding; 30 are a cycle of it.
    cycles = min(10 + 2 * x.size // 30, 1000)
    step, _ = lgmres(J, -value, rtol=share, atol=0.0, M=M, maxiter=cycles)
    counts["njvp"] += J.products
    return step


def _shorter(r, x, args, step, length, counts) -> tuple[np.ndarray, np.ndarray] | None:
    """The first of x + step, x + step/2, ... where the residual is shorter, and the residual there."""
    t = 1.0
    for _ in range(HALVINGS):
        candidate = x + t * step
        with np.errstate(over="ignore"):  # far away, where the step is halved
            value = np.ravel(r(candidate, *args))
            size = np.linalg.norm(value)
        counts["nfev"] += 1
        if size <= (1 - ARMIJO * t) * length:
            return candidate, value
        t /= 2
    return None
