"""Methods for `scipy.optimize.minimize` that take a step by solving with a curvature.

All three solve B p = -g for a step, by conjugate gradients on products with B, and differ in B:

    newton_pcg         the Hessian, with a preconditioner; a direction of negative curvature ends the solve
    hessian_free       a Gauss-Newton matrix plus a damping, which follows how well the model predicts
    natural_gradient   a Fisher matrix plus a fixed damping

A step is accepted where the function falls by a part of what its slope promises (Armijo's rule), so the
values of the function never rise.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, aslinearoperator

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["hessian_free", "natural_gradient", "newton_pcg"]

ARMIJO = 0.1
"""The part of the slope that a step has to achieve; a step to the minimum of a parabola achieves one half."""
HALVINGS = 40
"""Of a step, before the search along it is given up."""
MESSAGES = (
    "the gradient is below gtol",
    "the maximum of iterations is reached",
    "the callback stopped",
    "the function does not fall along the step",
    "the function or its gradient is not finite at x0",
)


# The function along the way.


@dataclass
class _Way:
    """A function, where its solver stands, what it has counted, and where it ends."""

    fun: Callable
    x: np.ndarray
    args: tuple
    jac: Callable
    callback: Callable | None
    gtol: float
    maxiter: int
    disp: bool
    value: float = field(init=False)
    gradient: np.ndarray = field(init=False)
    counts: dict[str, int] = field(
        default_factory=lambda: {"nit": 0, "nfev": 0, "njev": 0, "ncg": 0}
    )

    def __post_init__(self) -> None:
        self.value, self.gradient = self.at(self.x), self.slopes()

    def at(self, x: np.ndarray) -> float:
        self.counts["nfev"] += 1
        return float(self.fun(x, *self.args))

    def slopes(self) -> np.ndarray:
        self.counts["njev"] += 1
        return np.asarray(self.jac(self.x, *self.args), float)

    def products(self, source: Any, name: str, damping: float = 0.0) -> Callable:
        """Products with what `source` gives here, plus a multiple of the identity."""
        B = _operator_at(source, self.x, self.args)
        if B is None:
            raise TypeError(f"needed {name}, an operator or a function of x to one")

        def times(v: np.ndarray) -> np.ndarray:
            self.counts["ncg"] += 1
            return B @ v + damping * v

        return times

    def go(self, x: np.ndarray, value: float) -> None:
        self.x, self.value = x, value
        self.gradient = self.slopes()
        self.counts["nit"] += 1

    def fallen(self, p: np.ndarray, value: float | None = None) -> tuple[np.ndarray, float] | None:
        """The first point of x + p, x + p/2, ... that is low enough, and its value.

        `value` is that at x + p, where it is known.
        """
        slope, step = self.gradient @ p, 1.0
        if not slope < 0:
            return None
        for _ in range(HALVINGS):
            x = self.x + step * p
            value = self.at(x) if value is None else value
            # Rounding hides a smaller fall from one that is there.
            noise = 4 * np.finfo(float).eps * abs(self.value)
            if value <= self.value + ARMIJO * step * slope + (noise if step == 1 else 0):
                return x, value
            step, value = step / 2, None
        return None

    def descend(self, next_point: Callable[[], tuple[np.ndarray, float] | None]) -> OptimizeResult:
        """Go from point to point until the gradient is small."""
        from scipy.optimize import OptimizeResult

        ended = self.status()
        while ended is None:
            found = next_point()
            if found is None:
                ended = 3
                break
            self.go(*found)
            self.tell()
            ended = 2 if _is_stopped(self.callback, self) else self.status()
        if self.disp:
            print(f"{MESSAGES[ended]}: {self.counts}")
        return OptimizeResult(
            x=self.x,
            fun=self.value,
            jac=self.gradient,
            success=ended == 0,
            status=ended,
            message=MESSAGES[ended],
            **self.counts,
        )

    def status(self) -> int | None:
        """Why to end here, if so."""
        if not (np.isfinite(self.value) and np.all(np.isfinite(self.gradient))):
            return 4
        if np.linalg.norm(self.gradient, np.inf) <= self.gtol:
            return 0
        return 1 if self.counts["nit"] >= self.maxiter else None

    def tell(self) -> None:
        if self.disp:
            size = np.linalg.norm(self.gradient, np.inf)
            print(
                f"step {self.counts['nit']}: value {self.value:.6g}, gradient {size:.2g}, "
                f"{self.counts['ncg']} products"
            )


def _begin(
    fun: Callable,
    x0: Any,
    args: tuple,
    jac: Any,
    callback: Callable | None,
    *,
    bounds: Any = None,
    constraints: Any = (),
    gtol: float = 1e-5,
    tol: float | None = None,
    maxiter: int = 200,
    disp: bool = False,
    **unknown: Any,
) -> _Way:
    """The start of a method, with the options that all methods have."""
    if unknown:
        raise TypeError(
            f"this method has no option {', '.join(unknown)}: beside its own, which its documentation "
            "lists, there are gtol, maxiter and disp"
        )
    for name, given in (("bounds", bounds), ("constraints", constraints)):
        if given is not None and np.size(given):
            raise ValueError(f"this method would ignore the {name}: take trust-constr")
    if not callable(jac):
        raise TypeError("needed the gradient as `jac`, a function of x: nbhvp.minimize gives it")
    gtol = gtol if tol is None else tol
    return _Way(fun, np.array(x0, float), args, jac, callback, gtol, maxiter, disp)


def _is_stopped(callback: Callable | None, way: _Way) -> bool:
    """Call the user's function as SciPy does: with a result where it asks for one, else with x."""
    if callback is None:
        return False
    from scipy.optimize import OptimizeResult

    try:
        if set(inspect.signature(callback).parameters) == {"intermediate_result"}:
            callback(intermediate_result=OptimizeResult(x=way.x.copy(), fun=way.value))
        else:
            callback(way.x.copy())
    except StopIteration:
        return True
    return False


# Conjugate gradients.


@dataclass(frozen=True)
class _Iterate:
    """A step p after so many products, the model's change g.p + p.Bp/2, and the residual's length."""

    p: np.ndarray
    products: int
    change: float
    residual: float
    is_convex: bool = True


def _conjugate_gradients(
    times: Callable, g: np.ndarray, M: LinearOperator | None, start: np.ndarray | None = None
) -> Iterator[_Iterate]:
    """The iterates for B p = -g, without end; the last is where a direction has no positive curvature."""
    p = np.zeros(len(g)) if start is None else start
    residual = -g if start is None else -g - times(p)
    image = residual if M is None else M @ residual
    direction, size = image, residual @ image
    yield _Iterate(p, 0, _change(p, residual, g), float(np.linalg.norm(residual)))
    for k in itertools.count(1):
        if not size > 0:
            return
        product = times(direction)
        along = direction @ product
        if not along > 0:
            yield _Iterate(direction, k, np.nan, float(np.linalg.norm(residual)), is_convex=False)
            return
        step = size / along
        p, residual = p + step * direction, residual - step * product
        yield _Iterate(p, k, _change(p, residual, g), float(np.linalg.norm(residual)))
        image = residual if M is None else M @ residual
        size, before = residual @ image, size
        direction = image + (size / before) * direction


def _change(p: np.ndarray, residual: np.ndarray, g: np.ndarray) -> float:
    """g.p + p.Bp/2, with the residual -g - Bp."""
    return float(0.5 * p @ (g - residual))


def _operator_at(given: Any, x: np.ndarray, args: tuple) -> LinearOperator | None:
    """An operator, or what a function makes at x."""
    if given is None or isinstance(given, LinearOperator) or not callable(given):
        return None if given is None else aslinearoperator(given)
    return aslinearoperator(given(x, *args))


def _takes_damping(given: Any) -> bool:
    if isinstance(given, LinearOperator) or not callable(given):
        return False
    return "damping" in inspect.signature(given).parameters


def _hessians(hess: Any, hessp: Callable | None) -> Any:
    """What gives Hessians, by `hess` or by products as SciPy's `hessp` gives them."""
    if hess is not None or hessp is None:
        return hess
    product = hessp

    def hessian(x: np.ndarray, *args: Any) -> LinearOperator:
        return LinearOperator(
            (len(x), len(x)), lambda v: product(x, np.ravel(v), *args), dtype=np.dtype(float)
        )

    return hessian


# The methods.


def newton_pcg(
    fun: Callable,
    x0: Any,
    args: tuple = (),
    jac: Any = None,
    hess: Any = None,
    callback: Callable | None = None,
    *,
    hessp: Any = None,
    preconditioner: Any = None,
    cgiter: int | None = None,
    **options: Any,
) -> OptimizeResult:
    """Newton's method by preconditioned conjugate gradients, for ``scipy.optimize.minimize``.

    Parameters
    ----------
    fun, x0, args, jac, hess, callback
        As SciPy calls a method of the user's own; `hess` gives a LinearOperator or a matrix.
    preconditioner : LinearOperator, matrix or callable, optional
        Near the inverse Hessian, symmetric and positive definite, such as ``nbhvp.curvature.jacobi(H)``;
        or a function ``x, *args`` to one.
    cgiter : int, optional
        The most products of a step; 10 n by default.
    **options
        ``gtol`` (1e-5): the method ends where no element of the gradient is larger; ``tol`` stands for it.
        ``maxiter`` (200), the most steps. ``disp``: whether to print a line for each step.

    Returns
    -------
    OptimizeResult
        With ``ncg``, the products with the Hessian.

    Raises
    ------
    ValueError
        If bounds or constraints are given.

    References
    ----------
    Nocedal and Wright 2006, *Numerical Optimization*, algorithm 7.1; Dembo and Steihaug 1983,
    doi:10.1007/BF02592055.

    Examples
    --------
    >>> import numpy as np, nbhvp
    >>> scales = np.logspace(0, 6, 50)
    >>> f = nbhvp.differentiable(lambda x: np.sum(scales * (np.cosh(x - 1) - 1)))
    >>> inverse = nbhvp.curvature.jacobi(np.diag(scales))
    >>> result = nbhvp.minimize(f, np.zeros(50), method="newton-pcg",
    ...                         options={"preconditioner": inverse})
    >>> result.success, result.ncg < 60
    (True, True)
    """
    way = _begin(fun, x0, args, jac, callback, **options)
    most = 10 * len(way.x) if cgiter is None else cgiter
    source = _hessians(hess, hessp)

    def next_point() -> tuple[np.ndarray, float] | None:
        g = way.gradient
        times = way.products(source, "the Hessian as `hess` or `hessp`")
        M = _operator_at(preconditioner, way.x, args)
        enough = min(0.5, np.sqrt(np.linalg.norm(g))) * np.linalg.norm(g)
        p = np.zeros(len(g))
        for one in _conjugate_gradients(times, g, M):
            if not one.is_convex:
                # The first direction is downhill, whatever its curvature.
                p = p if p.any() else one.p
                break
            p = one.p
            if one.residual <= enough or one.products >= most:
                break
        return way.fallen(p)

    return way.descend(next_point)


def hessian_free(
    fun: Callable,
    x0: Any,
    args: tuple = (),
    jac: Any = None,
    hess: Any = None,
    callback: Callable | None = None,
    *,
    hessp: Any = None,
    curvature: Any = None,
    damping: float = 1.0,
    decay: float = 0.95,
    cgiter: int = 250,
    preconditioner: Any = None,
    **options: Any,
) -> OptimizeResult:
    """Hessian-free optimisation, for ``scipy.optimize.minimize``.

    A step minimises g.p + p.(B + c I)p / 2 by conjugate gradients, which start from the last step and
    stop when the model falls slowly. The iterate with the least value of the function is taken, and the next
    solve takes at most 1.3 times its products, or 10. The damping c follows the ratio of the
    function's change to the model's (Levenberg and Marquardt).

    Parameters
    ----------
    fun, x0, args, jac, hess, callback
        As SciPy calls a method of the user's own.
    curvature : callable, optional
        From ``x, *args`` to a positive semidefinite LinearOperator B, such as
        ``nbhvp.gauss_newton(model, loss)``; it may draw a part of the data at each call. By default the
        Hessian, which may have negative curvature: then a step ends where it meets some.
    damping : float
        The first c.
    decay : float
        The factor of the last step that conjugate gradients start from.
    cgiter : int
        The most products of any step.
    preconditioner : LinearOperator, matrix or callable, optional
        Near the inverse of B + c I, or a function ``x, *args`` to one. A function with a parameter
        ``damping`` gets c, for ``nbhvp.curvature.nystrom(B, rank, damping)``.
    **options
        ``gtol`` (1e-5): the method ends where no element of the gradient is larger; ``tol`` stands for it.
        ``maxiter`` (200), the most steps. ``disp``: whether to print a line for each step.

    Returns
    -------
    OptimizeResult
        With ``ncg``, the products with B, and ``damping``, the last c.

    Raises
    ------
    ValueError
        If bounds or constraints are given.

    References
    ----------
    Martens 2010, *Deep learning via Hessian-free optimization*, ICML.

    Examples
    --------
    >>> import numpy as np, nbhvp
    >>> rng = np.random.default_rng(0)
    >>> A, b = rng.standard_normal((40, 5)), rng.standard_normal(40)
    >>> f = nbhvp.differentiable(lambda x: np.mean(np.log(np.cosh(A @ x - b))))
    >>> nbhvp.minimize(f, np.zeros(5), method="hessian-free").success
    True
    """
    way = _begin(fun, x0, args, jac, callback, **options)
    source = _hessians(hess, hessp) if curvature is None else curvature
    follows = _takes_damping(preconditioner)
    last, most = np.zeros(len(way.x)), cgiter

    def next_point() -> tuple[np.ndarray, float] | None:
        nonlocal damping, last, most
        for _ in range(HALVINGS):
            near = functools.partial(preconditioner, damping=damping) if follows else preconditioner
            M = _operator_at(near, way.x, args)
            times = way.products(source, "a `curvature`, or the Hessian as `hess`", damping)
            best, value = _best(way, _solved(way, times, M, decay * last, most))
            p = best.p
            # What the model without its damping says of this step; nothing, if it is not convex.
            predicted = best.change - 0.5 * damping * (p @ p)
            ratio = (value - way.value) / predicted if predicted < 0 else -np.inf
            damping *= 2 / 3 if ratio > 0.75 else 1 if ratio > 0.25 else 1.5
            most = min(cgiter, max(FEWEST, int(FURTHER * best.products)))
            found = way.fallen(p, value)
            last = p if found is not None else np.zeros(len(p))
            if found is not None:
                return found
        return None

    result = way.descend(next_point)
    result.damping = damping
    return result


FEWEST, FURTHER = 10, 1.3
"""Products that a solve may always take, and how many more than the iterate took that was best last time."""
GROWTH = 1.3
"""Iterates are kept at powers of it."""
SLOW = 5e-4
"""The part of the model's change that an iteration has to achieve, on average over the last tenth of them."""


def _solved(way: _Way, times: Callable, M, start: np.ndarray, most: int) -> list[_Iterate]:
    """Iterates that lie further and further apart, the last one among them."""
    kept: list[_Iterate] = []
    changes: list[float] = []
    due = 1.0
    warm = start if np.any(start) else None
    for one in _conjugate_gradients(times, way.gradient, M, warm):
        k = one.products
        if not one.is_convex:
            return kept or [one]
        changes.append(one.change)
        window = max(10, k // 10)
        is_slow = (
            k > window
            and changes[-1] < 0
            and ((changes[-1] - changes[-1 - window]) / changes[-1] < window * SLOW)
        )
        is_last = is_slow or k >= most or not one.residual
        if k and (k >= due or is_last):
            kept.append(one)
            due = max(due * GROWTH, k + 1)
        if is_last:
            break
    return kept


def _best(way: _Way, iterates: list[_Iterate]) -> tuple[_Iterate, float]:
    """Back from the last iterate as long as the function falls: the iterate, and the value there."""
    best = iterates[-1]
    value = way.at(way.x + best.p)
    for one in reversed(iterates[:-1]):
        earlier = way.at(way.x + one.p)
        if not earlier < value and np.isfinite(value):
            break
        best, value = one, earlier
    return best, value


def natural_gradient(
    fun: Callable,
    x0: Any,
    args: tuple = (),
    jac: Any = None,
    hess: Any = None,
    callback: Callable | None = None,
    *,
    hessp: Any = None,
    fisher: Any = None,
    damping: float = 1e-3,
    step: float | None = None,
    rtol: float = 1e-3,
    cgiter: int | None = None,
    preconditioner: Any = None,
    **options: Any,
) -> OptimizeResult:
    """Steps along the natural gradient, for ``scipy.optimize.minimize``.

    A step is -t (F + c I)^-1 g, with a Fisher matrix F, solved by conjugate gradients.

    Parameters
    ----------
    fun, x0, args, jac, hess, callback
        As SciPy calls a method of the user's own.
    fisher : callable
        From ``x, *args`` to the Fisher matrix as a LinearOperator: ``nbhvp.fisher(model, "categorical")``.
    damping : float
        c, which bounds a step where F has small eigenvalues.
    step : float, optional
        t. By default t is 1, or the first half of it by which the function falls.
    rtol : float
        Of the solves: the residual relative to the gradient.
    cgiter : int, optional
        The most products of a step; 10 n by default.
    preconditioner : LinearOperator, matrix or callable, optional
        Near the inverse of F + c I, or a function ``x, *args`` to one.
    **options
        ``gtol`` (1e-5): the method ends where no element of the gradient is larger; ``tol`` stands for it.
        ``maxiter`` (200), the most steps. ``disp``: whether to print a line for each step.

    Returns
    -------
    OptimizeResult
        With ``ncg``, the products with F.

    Raises
    ------
    TypeError
        If `fisher` is missing.
    ValueError
        If bounds or constraints are given.

    References
    ----------
    Amari 1998, doi:10.1162/089976698300017746; Martens 2020, JMLR 21(146).

    Examples
    --------
    >>> import numpy as np, nbhvp
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((200, 3)) * [1, 10, 100]
    >>> y = (X @ [1.0, 0.1, 0.01] + rng.standard_normal(200) > 0).astype(float)
    >>> f = nbhvp.differentiable(lambda w: np.mean(np.logaddexp(0, X @ w) - y * (X @ w)))
    >>> def fisher(w):
    ...     p = 1 / (1 + np.exp(-X @ w))
    ...     return X.T * (p * (1 - p)) @ X / len(X)
    >>> result = nbhvp.minimize(f, np.zeros(3), method="natural-gradient",
    ...                         options={"fisher": fisher, "damping": 1e-6})
    >>> result.success, result.nit < 10
    (True, True)
    """
    way = _begin(fun, x0, args, jac, callback, **options)
    if fisher is None:
        raise TypeError('needed `fisher`, a function to the Fisher matrix: options={"fisher": ...}')
    most = 10 * len(way.x) if cgiter is None else cgiter

    def next_point() -> tuple[np.ndarray, float] | None:
        times = way.products(fisher, "`fisher`", damping)
        M = _operator_at(preconditioner, way.x, args)
        enough = rtol * np.linalg.norm(way.gradient)
        p = np.zeros(len(way.x))
        for one in _conjugate_gradients(times, way.gradient, M):
            if not one.is_convex:
                raise np.linalg.LinAlgError(
                    "the Fisher matrix plus its damping is not positive definite"
                )
            p = one.p
            if one.residual <= enough or one.products >= most:
                break
        if step is None:
            return way.fallen(p)
        x = way.x + step * p
        return x, way.at(x)

    return way.descend(next_point)
