"""SciPy's `minimize`, with the derivatives that each of its methods can use plugged in.

What a method takes stands in one table. Where SciPy evaluates value and gradient together, one
program gives both. Operators go in as `hess`, not `hessp`: so nothing compares x at each product.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nbhvp.function import Function, differentiable
from nbhvp.operators import HessianOperator

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["minimize"]


@dataclass(frozen=True)
class Uses:
    """What a method of SciPy takes: curvature as "operator", as "array" or None; a gradient or not.

    `together`: it evaluates value and gradient at the same points.
    """

    curvature: str | None = None
    gradient: bool = True
    together: bool = False


METHODS = {
    "newton-cg": Uses("operator", together=True),
    "trust-ncg": Uses("operator"),
    "trust-krylov": Uses("operator"),
    "trust-constr": Uses("operator"),
    "trust-exact": Uses("array"),
    "dogleg": Uses("array"),
    "cg": Uses(together=True),
    "bfgs": Uses(together=True),
    "l-bfgs-b": Uses(together=True),
    "tnc": Uses(together=True),
    "slsqp": Uses(together=True),
    "nelder-mead": Uses(gradient=False),
    "powell": Uses(gradient=False),
    "cobyla": Uses(gradient=False),
    "cobyqa": Uses(gradient=False),
}


def minimize(f, x0, args: tuple = (), method: str = "trust-krylov", **kw) -> OptimizeResult:
    """Minimise a function by ``scipy.optimize.minimize``, with exact derivatives.

    Parameters
    ----------
    f : Function or callable
        ``f(x, *args) -> scalar``. A plain function is made `differentiable` first.
    x0 : array_like, shape (n,)
        The start.
    args : tuple
        Further arguments of `f`, bound while this runs: they must not change meanwhile.
    method : str
        Any method of SciPy: with Hessian-vector products "newton-cg", "trust-ncg", "trust-krylov"
        and "trust-constr" (the one with constraints and products); with Hessians as arrays, by n
        products each, "trust-exact" and "dogleg". Others warn that they have no use for curvature.
    **kw
        ``bounds``, ``constraints``, ``callback``, ``tol``, ``options``, as in SciPy.

    Returns
    -------
    OptimizeResult
        SciPy's, with ``nhvp``, the number of Hessian-vector products, added.

    Raises
    ------
    ValueError
        If the method is unknown.
    TypeError
        If ``jac``, ``hess`` or ``hessp`` is given.

    Examples
    --------
    >>> import numpy as np
    >>> import nbhvp
    >>> def rosen(x):
    ...     return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    >>> result = nbhvp.minimize(rosen, np.zeros(10))
    >>> result.success, np.round(result.x[:3], 6)
    (True, array([1., 1., 1.]))
    """
    from scipy.optimize import minimize as scipy_minimize  # 0.15 s that most imports of us save

    uses = _uses(method)
    given = {"jac", "hess", "hessp"} & kw.keys()
    if given:
        names = ", ".join(sorted(given))
        raise TypeError(f"nbhvp.minimize gives {names} itself: leave it out")
    if uses.curvature is None:
        _warn_unused(method, uses)
    f = f if isinstance(f, Function) else differentiable(f)
    args = tuple(map(_bound, args if isinstance(args, tuple) else (args,)))
    hessians = _Hessians(f, args)
    derivatives: dict[str, Any] = {}
    if uses.gradient:
        derivatives["jac"] = True if uses.together else f.grad
    if uses.curvature == "operator":
        derivatives["hess"] = hessians.operator
    elif uses.curvature == "array":
        derivatives["hess"] = hessians.array
    fun = f.value_and_grad if uses.together else f
    result = scipy_minimize(fun, x0, args=args, method=method, **derivatives, **kw)
    result.nhvp = hessians.products
    return result


def _uses(method: str) -> Uses:
    uses = METHODS.get(method.lower()) if isinstance(method, str) else None
    if uses is None:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    return uses


def _warn_unused(method: str, uses: Uses) -> None:
    used = "values and gradients" if uses.gradient else "values"
    products = ", ".join(name for name, uses in METHODS.items() if uses.curvature == "operator")
    warnings.warn(
        f"method {method!r} uses {used} only, so no Hessian-vector products are computed; "
        f"the methods that use them are {products}",
        UserWarning,
        stacklevel=3,
    )


def _bound(arg):
    """An argument whose arrays are read-only, by which a Function knows that they are unchanged."""
    if type(arg) is np.ndarray:
        arg = arg.view()
        arg.flags.writeable = False
        return arg
    if type(arg) in (tuple, list):
        return type(arg)(map(_bound, arg))
    return {key: _bound(item) for key, item in arg.items()} if type(arg) is dict else arg


class _Hessians:
    """The Hessians along the way of a solver, and how many products they gave."""

    def __init__(self, f: Function, args: tuple):
        self._f, self._args = f, args
        self._counts: list[list[int]] = []

    def operator(self, x: np.ndarray, *args) -> HessianOperator:
        operator = self._f.hessian(x, *self._args)
        self._counts.append(operator._count)
        return operator

    def array(self, x: np.ndarray, *args) -> np.ndarray:
        return self.operator(x).toarray()

    @property
    def products(self) -> int:
        return sum(count[0] for count in self._counts)
