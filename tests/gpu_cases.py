"""What operators, solvers and sums are asked on a GPU: functions of a target, which give arrays.

`test_operators` compares them with the interpreter, in the simulator and, with `pytest -m gpu`, on a device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
import scipy.sparse

import nbhvp
from nbhvp import curvature

X, V = np.linspace(0.2, 1.1, 5), np.array([1.0, -2.0, 0.5, 3.0, -1.0])
A = np.random.default_rng(0).standard_normal((6, 5))
TREE, UNRAVEL = nbhvp.ravel({"a": X[:3], "b": X[3:]})


def chain(x):
    return np.sum(x[1:] ** 2 * np.exp(x[:-1])) + np.sum(x**4)


def logistic(w, A):
    return np.sum(np.logaddexp(0, A @ w)) + w @ w / 2


def residuals(x):
    return np.concatenate([np.sin(x[:-1]) * x[1:], x**2 - 0.5])


def of_tree(p):
    return np.sum(np.exp(p["a"])) * (p["b"] @ p["b"])


def steps(x):
    z, w = x[0], x[1]
    for _ in range(15):
        z, w = z + 0.1 * w, w - 0.1 * np.sin(z) * x[2]
    return z * w


def on(fun: Callable, target: str, **options: Any) -> nbhvp.Function:
    return nbhvp.differentiable(fun, target=target, **options)


def hessian(target: str) -> nbhvp.HessianOperator:
    return on(chain, target).hessian(X)


def damped(target):
    H = hessian(target)
    return np.stack([H.damped(0.5) @ V, H.damped(X) @ V, (H.damped(0.5).T) @ V])


def block(target):
    H = on(of_tree, target, unravel=UNRAVEL).hessian(TREE)
    return np.concatenate([H.block("a", "b").toarray().ravel(), H.block("b").toarray().ravel()])


def sums(target):
    H, G = hessian(target), on(np.prod, target).hessian(X)
    total = 2 * H - G + scipy.sparse.eye_array(5) + H @ G
    return np.stack([total @ V, (H + 0.1 * nbhvp.identity(5)) @ V])


def jacobians(target):
    J = on(residuals, target).jacobian(X)
    several = np.stack([V, X, V * X], axis=1)
    return np.concatenate([(J @ several).ravel(), J.T @ (J @ V), (J.T @ J).diagonal()])


def sparse(target):
    f, r = on(chain, target), on(residuals, target)
    H = f.hessian(X)
    parts = f.sparse_hessian(X), H.tosparse(), r.sparse_jacobian(X), r.jacobian(X).tosparse()
    return np.concatenate([part.toarray().ravel() for part in (*parts, H.sparsity())])


def estimates(target):
    H, rng = hessian(target), 0
    found = curvature.trace(H, rng=rng), curvature.logdet(H, rng=rng)
    values = [float(one.value) for one in found]
    diagonal = np.asarray(curvature.diagonal(H, rng=rng).value)
    root = curvature.apply(np.sqrt, H, V)
    return np.concatenate([values, diagonal, root, H.diagonal()])


def solves(target):
    H = hessian(target)
    return np.concatenate([curvature.inverse(H) @ V, curvature.jacobi(H) @ V])


def laplace(target):
    slope = on(chain, "interpret").grad(X)  # without it X is a minimum
    f = on(lambda x: chain(x) - slope @ x, target)
    return curvature.laplace(f, X, precision=1.0).variance()


def models(target):
    r = on(residuals, target)
    G = nbhvp.gauss_newton(r, lambda z: np.sum(np.logaddexp(0, z)))(X)
    fisher = nbhvp.fisher(r, "poisson")(X)
    drawn = nbhvp.fisher(r, "bernoulli", "monte-carlo", rng=0)(X)
    return np.stack([G @ V, nbhvp.gauss_newton(r)(X) @ V, fisher @ V, drawn @ V])


def minima(target):
    """A few steps of each method, so that rounding is all that differs."""
    methods = "Newton-CG", "trust-krylov", "trust-ncg", nbhvp.newton_pcg
    f, few = on(chain, target), {"maxiter": 4}
    return np.stack([nbhvp.minimize(f, np.ones(5), method=m, options=few).x for m in methods])


def residual_solvers(target):
    r = on(residuals, target)
    F = on(lambda u: u + u**3 - X, target)
    return np.concatenate([nbhvp.least_squares(r, X).x, nbhvp.root(F, X).x])


def over_batches(target):
    f = nbhvp.sum_over(on(logistic, target), [A[:3], A[3:]])
    H = f.hessian(X)
    return np.concatenate(
        [[f(X)], f.grad(X), H @ V, nbhvp.gauss_newton(on(residuals, target))(X) @ V]
    )


def solutions(target):
    F = lambda u, a: u + u**5 - a
    u = nbhvp.implicit.root(F, lambda a: scipy.optimize.root(F, a, args=(a,), tol=1e-13))
    f = on(lambda a: np.sum(u(a) ** 2), target)
    return np.stack([f.grad(X + 1), f.hvp(X + 1, V)])


def recurrences(target):
    f, g = on(steps, target), on(steps, target, memory=300)
    v = np.array([1.0, 2.0, -1.0])
    several = np.stack([v, 2 - v], axis=1)
    parts = f.grad(X[:3]), f.hvp(X[:3], v), g.hvp(X[:3], v), f.hvp(X[:3], several).ravel()
    return np.concatenate(parts)


def composed(target):
    inner = on(chain, target)
    f = on(lambda x: inner.grad(x) @ inner.hvp(x, V), target)
    return np.stack([f.grad(X), f.hvp(X, V)])


def constrained(target):
    c = nbhvp.constraint(on(lambda x: x @ x, target), 0.0, 1.0)
    few = {"maxiter": 6}
    f = on(chain, target)
    return nbhvp.minimize(f, X, method="trust-constr", constraints=[c], options=few).x


CASES: dict[str, Callable[[str], np.ndarray]] = {
    case.__name__: case
    for case in (
        damped, block, sums, jacobians, sparse, estimates, solves, laplace, models, minima,
        residual_solvers, over_batches, solutions, recurrences, composed, constrained,
    )
}  # fmt: skip
