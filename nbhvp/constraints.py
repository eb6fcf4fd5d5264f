"""Constraints of SciPy's `minimize`, with exact derivatives.

A `NonlinearConstraint` without derivatives takes differences, and its Hessians are guesses (BFGS). The
Jacobian of a Function is exact, and sparse where that is worthwhile; the Hessian of the constraints, weighted
by their multipliers, is an operator. SciPy wants Jacobians of all constraints to be of one kind, so those
of several constraints are made alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array, issparse

from nbhvp.function import Function, differentiable
from nbhvp.operators.linear import HessianOperator
from nbhvp.runtime.calls.inputs import bound

if TYPE_CHECKING:
    from scipy.optimize import NonlinearConstraint

__all__ = ["constraint", "with_derivatives"]

SMALL = 2_500
"""Elements of a Jacobian that is an array in any case."""
DENSEST = 0.25
"""Entries of a sparse Jacobian, of all its elements."""


def constraint(
    r: Callable, lb: Any, ub: Any, args: Any = (), *, keep_feasible: Any = False
) -> NonlinearConstraint:
    """The constraint lb <= r(x) <= ub for ``scipy.optimize.minimize``, with exact derivatives.

    Parameters
    ----------
    r : Function or callable
        ``r(x, *args)``, a scalar or an array of one axis. A plain function is made `differentiable`.
    lb, ub : array_like
        Lower and upper bounds; equal ones make an equation, infinite ones bind nothing.
    args : tuple
        Further arguments of `r`, which must not change. A value that is not a tuple counts as one.
    keep_feasible : bool or array of bool
        Whether the constraint must hold at all iterates.

    Returns
    -------
    scipy.optimize.NonlinearConstraint
        Its ``jac`` gives a `scipy.sparse.csr_array` where the Jacobian is large and sparse, and an array
        elsewhere. Its ``hess`` gives the Hessian of the constraints, weighted, as an operator.

    Examples
    --------
    >>> import numpy as np
    >>> import nbhvp
    >>> f = nbhvp.differentiable(lambda x: np.sum((x - 2) ** 2))
    >>> disc = nbhvp.constraint(lambda x: x @ x, -np.inf, 2.0)
    >>> nbhvp.minimize(f, np.zeros(2), constraints=disc).x.round(3)
    array([1., 1.])
    """
    from scipy.optimize import NonlinearConstraint  # 0.15 s that most imports of us save

    r = r if isinstance(r, Function) else differentiable(r)
    args = tuple(map(bound, args if isinstance(args, tuple) else (args,)))
    of = _Derivatives(r, args)
    return NonlinearConstraint(of.value, lb, ub, of.jacobian, of.hessian, keep_feasible)


@dataclass(frozen=True)
class _Derivatives:
    """The functions of x that a constraint of SciPy has."""

    r: Function
    args: tuple
    is_sparse: bool | None = None
    """Whether Jacobians are sparse; None where that is to be found out."""

    def value(self, x: np.ndarray) -> Any:
        return self.r(x, *self.args)

    def jacobian(self, x: np.ndarray) -> np.ndarray | csr_array:
        if self.is_sparse or (self.is_sparse is None and self.is_worthwhile(x)):
            return self.r.sparse_jacobian(x, *self.args)
        return self.r.jacobian(x, *self.args).toarray()

    def hessian(self, x: np.ndarray, weights: np.ndarray) -> HessianOperator:
        return self.r.weighted_hessian(x, weights, *self.args)

    def is_worthwhile(self, x: np.ndarray) -> bool:
        """Whether the Jacobian is large and sparse."""
        J = self.r.jacobian(x, *self.args)
        size = J.shape[0] * J.shape[1]
        if size <= SMALL:
            return False
        try:
            return J.sparsity().nnz <= DENSEST * size
        except ValueError:  # it is dense, and large
            return False


def with_derivatives(constraints: Any, x0: np.ndarray, is_second_order: bool) -> Any:
    """Constraints of any of SciPy's kinds; those of Functions get what derivatives they lack.

    A method of second order takes Hessians, and sparse Jacobians, if those of all constraints may be.
    """
    several = isinstance(constraints, Sequence)
    found = [_completed(one) for one in (constraints if several else [constraints])]
    ours = [_derivatives_of(one) for one in found]
    others = [one for one, mine in zip(found, ours, strict=True) if mine is None]
    is_sparse = (
        is_second_order
        and all(issparse(getattr(one, "A", None)) for one in others)
        and any(mine is not None and mine.is_worthwhile(x0) for mine in ours)
    )
    for k, mine in enumerate(ours):
        if mine is not None:
            of, given = replace(mine, is_sparse=is_sparse), found[k]
            second = {"hess": of.hessian} if is_second_order else {}  # others warn of it
            found[k] = type(given)(
                of.value,
                given.lb,
                given.ub,
                of.jacobian,
                keep_feasible=given.keep_feasible,
                **second,
            )
    return found if several else found[0]


def _completed(given: Any) -> Any:
    """A constraint of a Function, made anew; others as they are."""
    if isinstance(given, dict):
        fun = given.get("fun")
        if not isinstance(fun, Function) or "jac" in given:
            return given
        args = given.get("args", ())
        upper = {"eq": 0.0, "ineq": np.inf}.get(str(given.get("type")).lower())
        return given if upper is None else constraint(fun, 0.0, upper, args)
    if isinstance(getattr(given, "fun", None), Function) and hasattr(given, "lb"):
        if callable(given.jac):  # it has its own
            return given
        return constraint(given.fun, given.lb, given.ub, keep_feasible=given.keep_feasible)
    return given


def _derivatives_of(given: Any) -> _Derivatives | None:
    """Those of a constraint that `constraint` has made."""
    owner = getattr(getattr(given, "jac", None), "__self__", None)
    return owner if isinstance(owner, _Derivatives) else None
