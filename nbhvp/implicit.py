"""Implicit differentiation: solutions of equations and optima, as functions of their data.

Where F(u(a), a) = 0, the implicit function theorem gives

    F_u u_dot = -F_a a_dot:         one linear solve, whatever the solver has done.

So `root` is a function with a rule of its own: its value comes from the user's solver, its tangent is
this solve with the Jacobian at u, in which reverse mode takes the transposed one. The rule consists of
products of F and of the solution itself, so that second derivatives are right too. The optimum of f(u, a)
over u is the root of its gradient, with the Hessian as Jacobian.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbhvp.composition import following
from nbhvp.function import Function, differentiable
from nbhvp.trace.rules import CustomFunction, custom_jvp

__all__ = ["argmin", "hypergradient", "root"]

CLOSE = 1e-3
"""How far from a root a solver may stop, in a Newton step over the size of the solution."""


def root(F: Callable, solver: Callable) -> CustomFunction:
    """The solution u(a) of F(u, a) = 0 as a function of a, with derivatives.

    Parameters
    ----------
    F : callable
        ``F(u, a, ...)`` of the size of u, a function or a `Function`, without branches on values.
    solver : callable
        ``solver(a, ...)`` gives u as an array or a number, or a result of SciPy's that has it as ``x`` or
        ``root``. It is called with plain arrays and may be any code. Its error in u is one of the
        derivatives, too, so let it converge.

    Returns
    -------
    CustomFunction
        ``u(a, ...)``, which differentiable functions may call. Each argument is an array or a number, and
        all that are floats are differentiated in.

    Raises
    ------
    TraceError
        When derivatives are taken, if F does not vanish at the solution: if a Newton step there is above
        a thousandth of the solution's size; and if F cannot be differentiated as it is written.

    References
    ----------
    .. [1] M. Blondel et al., "Efficient and modular implicit differentiation", NeurIPS (2022).

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.optimize
    >>> import nbhvp
    >>> F = lambda u, a: u + u**5 - a
    >>> u = nbhvp.implicit.root(F, lambda a: scipy.optimize.root(F, a, args=(a,), tol=1e-12))
    >>> f = nbhvp.differentiable(lambda a: np.sum(u(a)))
    >>> f.grad(np.array([2.0, 34.0])).round(6)
    array([0.166667, 0.012346])
    >>> f.hvp(np.array([2.0, 34.0]), np.ones(2)).round(6)
    array([-0.092593, -0.000301])
    """
    return _solution(F, _function(F), solver)


def argmin(f: Callable, solver: Callable) -> CustomFunction:
    """The minimum u(a) of f(u, a) over u as a function of a, with derivatives.

    Parameters
    ----------
    f : callable
        ``f(u, a, ...)``, a scalar function or a `Function`, without branches on values.
    solver : callable
        ``solver(a, ...)``, as in `root`. The minimum must lie inside of any bounds, where the gradient is 0.

    Returns
    -------
    CustomFunction
        ``u(a, ...)``, as in `root`.

    Examples
    --------
    >>> import numpy as np
    >>> import nbhvp
    >>> A, b = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.ones(3)
    >>> ridge = nbhvp.differentiable(lambda u, c: np.sum((A @ u - b) ** 2) + c * u @ u)
    >>> u = nbhvp.implicit.argmin(ridge, lambda c: nbhvp.minimize(ridge, np.zeros(2), args=(float(c),)))
    >>> f = nbhvp.differentiable(lambda c: np.sum(u(c) ** 2))
    >>> print(f.grad(1.0).round(6))
    -0.137102
    """
    f_of_u = _function(f)

    @following(f_of_u.__wrapped__)
    def gradient(u: Any, *args: Any) -> Any:
        return f_of_u.grad(u, *args)

    return _solution(f, differentiable(gradient), solver)


def hypergradient(inner: Callable, outer: Callable) -> Function:
    """The loss of a solution as a function of its data: its gradient is the hypergradient.

    Parameters
    ----------
    inner : callable
        ``inner(a)``, made by `argmin` or `root`.
    outer : callable
        ``outer(u, a, ...)``, a scalar function of the solution u and of a.

    Returns
    -------
    Function
        ``f(a, ...)`` is ``outer(inner(a), a, ...)``. ``f.grad`` is the hypergradient, and `nbhvp.minimize`
        takes ``f`` with exact second derivatives.

    Examples
    --------
    >>> import numpy as np
    >>> import nbhvp
    >>> u = nbhvp.implicit.argmin(lambda u, a: np.sum((u - 1) ** 2 + a * u**2), lambda a: 1 / (1 + a))
    >>> f = nbhvp.implicit.hypergradient(u, lambda u, a: np.sum((u - 0.25) ** 2))
    >>> nbhvp.minimize(f, np.array([1.0])).x.round(2)
    array([3.])
    """
    if not callable(outer):
        raise TypeError(f"outer must be a function of u and a, got {type(outer).__name__}")

    @following(getattr(outer, "__wrapped__", outer))
    def loss(a: Any, *args: Any, **kwargs: Any) -> Any:
        return outer(inner(a), a, *args, **kwargs)

    return differentiable(loss)


def _function(fun: Callable) -> Function:
    return fun if isinstance(fun, Function) else differentiable(fun)


def _solution(fun: Callable, residual: Function, solver: Callable) -> CustomFunction:
    """The solution of a residual, which is `fun` or its gradient."""
    if not callable(solver):
        raise TypeError(f"solver must be a function of the data, got {type(solver).__name__}")
    name = following(getattr(fun, "__wrapped__", fun))

    @name
    def of_data(data: Any, u: Any, args: tuple, moving: tuple) -> Any:
        return residual(u, *_with(args, moving, data))

    in_data = differentiable(of_data)

    @custom_jvp
    @following(solver)
    def solution(*args: Any) -> Any:
        return _found(solver(*args))

    @solution.defjvp
    @name
    def rule(primals: tuple, tangents: tuple) -> tuple:
        u = solution(*primals)
        moving = tuple(k for k, tangent in enumerate(tangents) if tangent is not None)
        data, dots = (_joined([some[k] for k in moving]) for some in (primals, tangents))
        directions = np.eye(u.size).reshape(*u.shape, u.size)
        matrix: Any = residual.jvp(u, directions, *primals).reshape(-1, u.size)
        right = in_data.jvp(data, dots, u, primals, moving).reshape(-1)
        _check(matrix.value, residual(u, *primals).value, u.value)
        return u, -np.linalg.solve(matrix, right).reshape(u.shape)

    return solution


def _found(result: Any) -> Any:
    """The solution in what a solver gave."""
    for name in ("x", "root"):
        if not isinstance(result, np.ndarray | np.generic) and hasattr(result, name):
            return getattr(result, name)
    return result


def _joined(arrays: list) -> Any:
    """One vector of some arrays; a single one as it is."""
    return arrays[0] if len(arrays) == 1 else np.concatenate([np.ravel(one) for one in arrays])


def _with(args: tuple, moving: tuple, data: Any) -> tuple:
    """Arguments with what `_joined` made of some of them."""
    if len(moving) == 1:
        return (*args[: moving[0]], data, *args[moving[0] + 1 :])
    found, start = list(args), 0
    for k in moving:
        size = np.size(args[k])
        found[k] = np.reshape(data[start : start + size], np.shape(args[k]))
        start += size
    return tuple(found)


def _check(matrix: np.ndarray, residual: np.ndarray, u: np.ndarray) -> None:
    """Refuse a solution that is none."""
    if matrix.shape[0] != np.size(u):
        raise ValueError(f"F must have the size of u, {np.size(u)}, and has {matrix.shape[0]}")
    step = np.linalg.lstsq(matrix, np.ravel(residual), rcond=None)[0]
    size, limit = np.linalg.norm(step), CLOSE * (1 + np.linalg.norm(u))
    if not size <= limit:
        raise ValueError(
            f"the solver's result is no root: a Newton step from it has the size {size:.3g}, "
            f"above {limit:.3g}; let the solver converge"
        )
