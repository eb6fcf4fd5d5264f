"""Implicit differentiation: solutions of equations and optima, as functions of their data.

Where F(u(a), a) = 0, the implicit function theorem gives

    F_u u_dot = -F_a a_dot:         one linear solve, whatever the solver has done.

So `root` is a function with a rule of its own: its value comes from the user's solver, its tangent is
this solve with the Jacobian at u, in which reverse mode takes the transposed one. The rule consists of
products of F and of the solution itself, so that second derivatives are right too. The optimum of f(u, a)
over u is the root of its gradient, with the Hessian as Jacobian.

The Jacobian is a dense matrix, of products with all unit vectors; or, where it is large and its pattern has
few entries, a sparse one, of products with one vector for each colour, which SuperLU factorises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from nbhvp.composition import following
from nbhvp.function import Function, differentiable
from nbhvp.graph.interpret import evaluated
from nbhvp.graph.linear_map import Primal, jacobian
from nbhvp.graph.sparsity.propagation import Dense, integer_operands, sparsity
from nbhvp.graph.table.sparse import Pattern, sparse_solve
from nbhvp.runtime.matrices import Matrix, coloured
from nbhvp.trace.arrays import apply
from nbhvp.trace.recording import current
from nbhvp.trace.rules import CustomFunction, custom_jvp

__all__ = ["argmin", "hypergradient", "root"]

CLOSE = 1e-3
"""How far from a root a solver may stop, in a Newton step over the size of the solution."""
SMALL, LARGE = 200, 5_000
"""Unknowns up to which the Jacobian is dense whatever its pattern, and up to which it may be."""
FEW = 8
"""Unknowns for each product, from which a sparse Jacobian is worth its factors."""


def root(F: Callable, solver: Callable) -> CustomFunction:
    """The solution u(a) of F(u, a) = 0 as a function of a, with derivatives [1]_.

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
    return _solution(F, _function(F), solver, is_symmetric=False)


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

    return _solution(f, differentiable(gradient), solver, is_symmetric=True)


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


def _solution(
    fun: Callable, residual: Function, solver: Callable, is_symmetric: bool
) -> CustomFunction:
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
        right = in_data.jvp(data, dots, u, primals, moving).reshape(-1)
        last = residual(u, *primals)
        if last.size != u.size:
            raise ValueError(f"F must have the size of u, {u.size}, and has {last.size}")
        solve = _solve(residual, u, primals, is_symmetric)
        _check(solve(last.reshape(-1)).value, u.value)
        return u, -solve(right).reshape(u.shape)

    return solution


def _found(result: Any) -> Any:
    """The solution in what a solver gave."""
    for name in ("x", "root"):
        if not isinstance(result, np.ndarray | np.generic) and hasattr(result, name):
            result = getattr(result, name)
            break
    found = np.asarray(result)
    return found.astype(float) if found.dtype.kind in "biu" else result


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


def _solve(residual: Any, u: Any, args: tuple, is_symmetric: bool) -> Callable:
    """What solves with the Jacobian of a residual in u."""
    matrix = _pattern(residual, u, args, is_symmetric) if u.size > SMALL else None
    if matrix is None:
        if u.size > LARGE:
            raise ValueError(f"F has a dense Jacobian in u, of {u.size} columns: it does not fit")
        directions = np.eye(u.size).reshape(*u.shape, u.size)
        dense = residual.jvp(u, directions, *args).reshape(-1, u.size)
        return lambda right: np.linalg.solve(dense, right)
    way: Any = matrix.way
    seeds = (way.colours[:, None] == np.arange(way.count)).astype(float)
    times = residual.vjp if matrix.is_transposed else residual.jvp
    products = times(u, seeds.reshape(*u.shape, way.count), *args)
    entries = products.reshape(-1)[way.rows * way.count + way.of_colour]
    # By rows: the transposed matrix by columns.
    pattern = Pattern(matrix.columns, matrix.starts)
    how = {"pattern": pattern, "axis": 0, "transposed": True}
    return lambda right: apply(sparse_solve, entries, right, **how)


def _pattern(residual: Any, u: Any, args: tuple, is_symmetric: bool) -> Matrix | None:
    """The pattern of the Jacobian in u, with its colours; None where that is not known or not worth it."""
    found: list[Matrix] = []

    def derived(f: Primal) -> list:
        linear, recording = jacobian(f), current()
        integers = integer_operands(linear.product, linear.direction)
        if any(map(recording.is_live, integers)):
            return []  # at another point there may be other entries
        values = dict(zip(integers, evaluated(integers, recording.values), strict=True))
        try:
            rows = sparsity(linear.product, linear.direction, values).rows
        except Dense:
            return []
        ones = np.ones(rows.columns.size, bool)
        pattern = csr_array((ones, rows.columns, rows.starts), shape=(u.size, u.size))
        found.append(coloured(pattern, is_symmetric))
        return []

    residual.derived(derived, u, args, {})
    return found[0] if found and FEW * found[0].products <= u.size else None


def _check(step: np.ndarray, u: np.ndarray) -> None:
    """Refuse a solution that is none, given Newton's step from it."""
    size, limit = np.linalg.norm(step), CLOSE * (1 + np.linalg.norm(u))
    if not size <= limit:
        raise ValueError(
            f"the solver's result is no root: a Newton step from it has the size {size:.3g}, "
            f"above {limit:.3g}; let the solver converge"
        )
