"""SciPy's `minimize`, called with the derivatives that each of its methods can use.

One table says which derivatives a method takes. Where SciPy evaluates value and gradient together, one
program computes both. Operators are passed as `hess` and not as `hessp`, so that no product compares x.
Where a method ignores bounds or constraints, SciPy only warns and returns a point outside of them.
Here that is an error, and the default method is one that obeys them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nbhvp.constraints import with_derivatives
from nbhvp.curvature.methods import hessian_free, natural_gradient, newton_pcg
from nbhvp.function import Function, flat
from nbhvp.operators.linear import HessianOperator
from nbhvp.runtime.calls.inputs import bound
from nbhvp.runtime.report import Tally
from nbhvp.sums import SumOver

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["minimize"]


@dataclass(frozen=True)
class Uses:
    """What a method of SciPy takes: curvature as "operator", as "array" or None; a gradient or not.

    `together`: it evaluates value and gradient at the same points. `bounds`, `constraints`: whether
    it obeys them. `single`: whether it works with gradients of float32.
    """

    curvature: str | None = None
    gradient: bool = True
    together: bool = False
    bounds: bool = False
    constraints: bool = False
    single: bool = True


METHODS = {
    "newton-cg": Uses("operator", together=True),
    "trust-ncg": Uses("operator"),
    "trust-krylov": Uses("operator"),
    "trust-constr": Uses("operator", bounds=True, constraints=True),
    "trust-exact": Uses("array"),
    "dogleg": Uses("array"),
    "cg": Uses(together=True, single=False),
    "bfgs": Uses(together=True),
    "l-bfgs-b": Uses(together=True, bounds=True),
    "tnc": Uses(together=True, bounds=True, single=False),
    "slsqp": Uses(together=True, bounds=True, constraints=True, single=False),
    "nelder-mead": Uses(gradient=False, bounds=True),
    "powell": Uses(gradient=False, bounds=True),
    "cobyla": Uses(gradient=False, bounds=True, constraints=True),
    "cobyqa": Uses(gradient=False, bounds=True, constraints=True),
}
OURS = {
    "newton-pcg": newton_pcg,
    "hessian-free": hessian_free,
    "natural-gradient": natural_gradient,
}
"""Methods of our own, which SciPy calls; each takes curvature as an operator."""
CUSTOM = Uses("operator", bounds=True, constraints=True)
"""A method of the user's own is given everything."""
FREE, BOUND = "trust-krylov", "trust-constr"
"""The methods where none is named, without and with bounds or constraints."""


def minimize(
    f: Callable, x0: Any, args: Any = (), method: str | Callable | None = None, **kw: Any
) -> OptimizeResult:
    """Minimise a function by ``scipy.optimize.minimize``, with exact derivatives.

    Parameters
    ----------
    f : Function, SumOver or callable
        ``f(x, *args) -> scalar``. A plain function is made `differentiable` for this call, with
        ``compile="lazy"``: small ones end before compiling pays. Make it so yourself for several calls.
    x0 : array_like, shape (n,)
        The start. For a function of a tree (``differentiable(unravel=...)``) it may be a tree.
    args : tuple
        Further arguments of `f`, which must not change while this runs. A value that is not a tuple
        counts as one argument.
    method : str or callable, optional
        Any method of SciPy: with Hessian-vector products "newton-cg", "trust-ncg", "trust-krylov"
        and "trust-constr" (the one with bounds, constraints and products); with curvatures of their
        own "newton-pcg", "hessian-free" and "natural-gradient"; with Hessians as arrays,
        by n products each, "trust-exact" and "dogleg". For others a warning says that they do not
        use second derivatives. The default is "trust-krylov", or "trust-constr" with bounds or
        constraints. SciPy calls a callable with ``jac`` and with an operator as ``hess``.
    **kw
        ``bounds``, ``constraints``, ``callback``, ``tol``, ``options``, as in SciPy. Constraints of
        a Function get exact derivatives, as those that `constraint` makes have; SciPy takes
        differences for others.

    Returns
    -------
    OptimizeResult
        SciPy's, with ``nhvp``, the number of Hessian-vector products, added. Its ``x`` is a vector.

    Raises
    ------
    ValueError
        If the method is unknown, or ignores the bounds or constraints that are given; if `x0` has
        more than one axis, or lies on a bound that "trust-constr" must keep.
    TypeError
        If ``jac``, ``hess`` or ``hessp`` is given.

    Notes
    -----
    "trust-constr" is an interior-point method: it may evaluate `f` outside the bounds on its way,
    unless they are ``scipy.optimize.Bounds(..., keep_feasible=True)``, inside of which it must start,
    and it stops within some 1e-4 of those that hold with equality; ``options={"gtol": 1e-12}``
    brings it closer.

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

    kw = {name: value for name, value in kw.items() if not _is_unset(name, value)}
    if method is None:
        method = BOUND if kw.keys() & {"bounds", "constraints"} else FREE
    uses = _uses(method)
    _check(method, uses, kw)
    function, x0 = flat(f, x0)
    args = tuple(map(bound, args if isinstance(args, tuple) else (args,)))
    if args and isinstance(f, SumOver):
        raise TypeError(
            f"a sum takes no further arguments than x, got {len(args)} in args: "
            "put them into each batch, as sum_over(f, [(*batch, c) for batch in batches])"
        )
    hessians = _Hessians(function, args)
    derivatives: dict[str, Any] = {}
    if uses.gradient:
        derivatives["jac"] = True if uses.together else function.grad
    if uses.curvature == "operator":
        derivatives["hess"] = hessians.operator
    elif uses.curvature == "array":
        derivatives["hess"] = hessians.array
    fun = function.value_and_grad if uses.together else function
    x0 = _start(x0, uses)
    if str(method).lower() == BOUND:
        _check_inside(x0, kw.get("bounds"))
    if "constraints" in kw:
        kw["constraints"] = with_derivatives(kw["constraints"], x0, str(method).lower() == BOUND)
    solver = OURS.get(method.lower(), method) if isinstance(method, str) else method
    result = scipy_minimize(fun, x0, args=args, method=solver, **derivatives, **kw)
    result.nhvp = hessians.products
    return result


def _is_unset(name: str, value: Any) -> bool:
    """Whether bounds or constraints are given as none, or bind nothing."""
    if name == "constraints":
        return value is None or (isinstance(value, list | tuple) and not value)
    return name == "bounds" and (value is None or not _binds(value))


def _binds(bounds: Any) -> bool:
    """Whether bounds leave anything out."""
    if hasattr(bounds, "lb"):
        return bool(np.any(np.greater(bounds.lb, -np.inf)) or np.any(np.less(bounds.ub, np.inf)))
    free = ((None, -np.inf), (None, np.inf))
    try:
        return not all(low in free[0] and high in free[1] for low, high in bounds)
    except (TypeError, ValueError):
        return True  # SciPy tells what is wrong


def _uses(method: str | Callable) -> Uses:
    if callable(method):
        return CUSTOM
    known = METHODS | dict.fromkeys(OURS, Uses("operator"))
    uses = known.get(method.lower()) if isinstance(method, str) else None
    if uses is None:
        raise ValueError(f"method must be one of {', '.join(known)}, got {method!r}")
    return uses


def _check(method: str | Callable, uses: Uses, kw: dict[str, Any]) -> None:
    """Errors and warnings for what is given and would be ignored, by SciPy or by us."""
    given = {"jac", "hess", "hessp"} & kw.keys()
    if given:
        names = ", ".join(sorted(given))
        raise TypeError(f"nbhvp.minimize gives {names} itself: leave it out")
    for name in ("bounds", "constraints"):
        if name in kw and not getattr(uses, name):
            able = ", ".join(known for known, uses in METHODS.items() if getattr(uses, name))
            raise ValueError(
                f"method {method!r} would ignore the {name}: leave `method` out, which takes "
                f"{BOUND}, or take one of {able}"
            )
    if uses.curvature is None:
        _warn_unused(method, uses)


def _start(x0: Any, uses: Uses) -> np.ndarray:
    x0 = np.asarray(x0)
    if x0.ndim > 1:
        raise ValueError(
            f"x0 must have shape (n,), got {x0.shape}: give x0.ravel(), and let the function "
            f"begin with x = x.reshape{x0.shape}"
        )
    return x0 if uses.single or x0.dtype != np.float32 else x0.astype(float)


def _check_inside(x0: np.ndarray, bounds: Any) -> None:
    """From a bound that must never be crossed, trust-constr does not move, and calls it a success."""
    keep = np.asarray(getattr(bounds, "keep_feasible", False))
    if not keep.any():
        return
    low, high = np.asarray(bounds.lb), np.asarray(bounds.ub)
    if np.any(keep & (low < high) & ((x0 <= low) | (x0 >= high))):
        raise ValueError(
            f"x0 must lie inside bounds with keep_feasible=True, and not on one, for {BOUND}: "
            "move it, or leave keep_feasible out"
        )


def _warn_unused(method: str | Callable, uses: Uses) -> None:
    used = "values and gradients" if uses.gradient else "values"
    products = ", ".join(name for name, uses in METHODS.items() if uses.curvature == "operator")
    warnings.warn(
        f"method {method!r} uses {used} only, so no Hessian-vector products are computed; "
        f"the methods that use them are {products}",
        UserWarning,
        stacklevel=4,
    )


class _Hessians:
    """The Hessians along the way of a solver, and how many products they gave."""

    def __init__(self, f: Function | SumOver, args: tuple):
        self._f, self._args = f, args
        self._tallies: list[Tally] = []

    def operator(self, x: np.ndarray, *args: Any) -> HessianOperator:
        operator = self._f.hessian(x, *self._args)
        self._tallies.append(operator.tally)  # which keeps nothing of the operator
        return operator

    def array(self, x: np.ndarray, *args: Any) -> np.ndarray:
        return self.operator(x).toarray()

    @property
    def products(self) -> int:
        return sum(tally.count[0] for tally in self._tallies)
