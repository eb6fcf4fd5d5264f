"""Small functions at points not seen before: what a call costs beside the arithmetic.

Each case is one function of 2 to 10 variables in the form that a user gives to nbhvp, and its value,
gradient and product by hand in NumPy. The namespaces of JAX and autograd take the same text; CasADi
has a text of its own, evaluated through buffers. Contestants take a list of points in turn, because a
Function remembers one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
from numba import njit

__all__ = ["CASES", "PEERS", "REQUESTS", "Case", "by_hand", "checked", "ours"]

REQUESTS = ("value", "grad", "value_and_grad", "hvp", "grad, hvp", "hessian, H @ v")
"""What is asked of each contestant at each point."""


@dataclass(frozen=True)
class Case:
    """A function, `text(np)` over a namespace, its closed form, and CasADi's text."""

    text: Callable
    derivatives: Callable
    """``derivatives(x, v, *args) -> value, gradient, product``, each as a function of no arguments."""
    casadi: Callable
    x: np.ndarray
    args: tuple = ()


# --- the functions --------------------------------------------------------------------------------


def _rosenbrock(np):
    def rosenbrock(x):
        return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)

    return rosenbrock


def _loop(np):
    if np.__name__ != "numpy":
        return _rosenbrock(np)

    @njit
    def rosenbrock(x):
        total = 0.0
        for i in range(x.size - 1):
            total += 100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2
        return total

    return rosenbrock


def _rosenbrock_by_hand(x, v):
    def value():
        r, s = x[1:] - x[:-1] ** 2, 1.0 - x[:-1]
        return 100.0 * (r @ r) + s @ s

    def gradient():
        r, out = x[1:] - x[:-1] ** 2, np.empty_like(x)
        out[:-1] = -400.0 * r * x[:-1] - 2.0 * (1.0 - x[:-1])
        out[-1] = 0.0
        out[1:] += 200.0 * r
        return out

    def product():
        a, b, out = x[:-1], v[:-1], np.empty_like(x)
        out[:-1] = (1200.0 * a * a - 400.0 * x[1:] + 2.0) * b - 400.0 * a * v[1:]
        out[-1] = 0.0
        out[1:] += 200.0 * v[1:] - 400.0 * a * b
        return out

    return value, gradient, product


def _rosenbrock_casadi(casadi, x):
    return casadi.sumsqr(10.0 * (x[1:] - x[:-1] ** 2)) + casadi.sumsqr(1.0 - x[:-1])


def _fit(np):
    """A fit of probabilities, with the data as arguments."""

    def fit(w, X, y, ridge):
        return np.sum(np.logaddexp(0.0, -y * (X @ w))) + 0.5 * ridge * (w @ w)

    return fit


def _fit_by_hand(w, v, X, y, ridge):
    def value():
        return np.sum(np.logaddexp(0.0, -y * (X @ w))) + 0.5 * ridge * (w @ w)

    def gradient():
        return X.T @ (-y / (1.0 + np.exp(y * (X @ w)))) + ridge * w

    def product():
        p = 1.0 / (1.0 + np.exp(y * (X @ w)))
        return X.T @ (p * (1.0 - p) * (X @ v)) + ridge * v

    return value, gradient, product


def _fit_casadi(casadi, w, X, y, ridge):
    z = -y * casadi.mtimes(X, w)
    softplus = casadi.fmax(z, 0.0) + casadi.log1p(casadi.exp(-casadi.fabs(z)))
    return casadi.sum1(softplus) + 0.5 * ridge * casadi.sumsqr(w)


_rng = np.random.default_rng(0)
DATA = _rng.standard_normal((50, 3)), np.sign(_rng.standard_normal(50))
MORE = _rng.standard_normal((100, 5)), np.sign(_rng.standard_normal(100)), 0.1


def _closed(np):
    """The same with the data in the closure."""
    fit, (X, y) = _fit(np), DATA

    def logistic(w):
        return fit(w, X, y, 0.1)

    return logistic


def _branch(np):
    def branch(x):
        if x[0] > 0.0:
            return np.sum(x**4) + x[0] * x[1]
        return np.sum(x**2)

    if np.__name__ == "jax.numpy":
        return lambda x: np.where(x[0] > 0.0, np.sum(x**4) + x[0] * x[1], np.sum(x**2))
    return branch


def _branch_by_hand(x, v):
    def value():
        return np.sum(x**4) + x[0] * x[1] if x[0] > 0.0 else x @ x

    def gradient():
        if x[0] <= 0.0:
            return 2.0 * x
        out = 4.0 * x**3
        out[:2] += x[1::-1]
        return out

    def product():
        if x[0] <= 0.0:
            return 2.0 * v
        out = 12.0 * x**2 * v
        out[:2] += v[1::-1]
        return out

    return value, gradient, product


def _branch_casadi(casadi, x):
    return casadi.if_else(x[0] > 0.0, casadi.sum1(x**4) + x[0] * x[1], casadi.sumsqr(x))


SPREAD = np.array([[3.0, 0.4, 0.1], [0.4, 4.0, 0.2], [0.1, 0.2, 5.0]])


def _cholesky(np):
    def log_determinant(x):
        L = np.linalg.cholesky(SPREAD + np.diag(x**2))
        return 2.0 * np.sum(np.log(np.diag(L)))

    return log_determinant


def _cholesky_by_hand(x, v):
    def value():
        L = np.linalg.cholesky(SPREAD + np.diag(x**2))
        return 2.0 * np.sum(np.log(np.diag(L)))

    def gradient():
        return 2.0 * x * np.diag(np.linalg.inv(SPREAD + np.diag(x**2)))

    def product():
        inverse = np.linalg.inv(SPREAD + np.diag(x**2))
        return 2.0 * np.diag(inverse) * v - 4.0 * x * (inverse**2 @ (x * v))

    return value, gradient, product


def _cholesky_casadi(casadi, x):
    return 2.0 * casadi.sum1(casadi.log(casadi.diag(casadi.chol(SPREAD + casadi.diag(x**2)))))


CASES: Mapping[str, Case] = {
    **{
        f"Rosenbrock, n = {n}": Case(
            _rosenbrock, _rosenbrock_by_hand, _rosenbrock_casadi, np.linspace(0.5, 1.5, n)
        )
        for n in (2, 5, 10)
    },
    "loop under @njit, n = 10": Case(
        _loop, _rosenbrock_by_hand, _rosenbrock_casadi, np.linspace(0.5, 1.5, 10)
    ),
    "logistic 50 x 3": Case(
        _closed,
        lambda w, v: _fit_by_hand(w, v, *DATA, 0.1),
        lambda casadi, w: _fit_casadi(casadi, w, *DATA, 0.1),
        np.linspace(-0.5, 0.5, 3),
    ),
    "args: 100 x 5, a float": Case(
        _fit, _fit_by_hand, _fit_casadi, np.linspace(-0.5, 0.5, 5), MORE
    ),
    "branch, n = 5": Case(_branch, _branch_by_hand, _branch_casadi, np.linspace(0.5, 1.5, 5)),
    "cholesky 3 x 3": Case(
        _cholesky, _cholesky_by_hand, _cholesky_casadi, np.linspace(0.5, 1.5, 3)
    ),
}


# --- contestants ----------------------------------------------------------------------------------

Contestant = Mapping[str, Callable[[np.ndarray, np.ndarray], Any]]
"""By request, a function of x and v, whose result is NumPy's."""


def _contestant(value, grad, hvp, value_and_grad=None, hessian=None) -> Contestant:
    both = value_and_grad or (lambda x: (value(x), grad(x)))
    return {
        "value": lambda x, v: value(x),
        "grad": lambda x, v: grad(x),
        "value_and_grad": lambda x, v: both(x),
        "hvp": hvp,
        "grad, hvp": lambda x, v: (grad(x), hvp(x, v)),
        "hessian, H @ v": (lambda x, v: hessian(x) @ v) if hessian else hvp,
    }


def ours(case: Case) -> Contestant:
    """A Function for each request, as a solver that asks for nothing else has it."""
    from nbhvp import differentiable

    fun = case.text(np)
    return {name: _of_function(differentiable(fun), case.args)[name] for name in REQUESTS}


def _of_function(f, args) -> Contestant:
    return {
        "value": lambda x, v: f(x, *args),
        "grad": lambda x, v: f.grad(x, *args),
        "value_and_grad": lambda x, v: f.value_and_grad(x, *args),
        "hvp": lambda x, v: f.hvp(x, v, *args),
        "grad, hvp": lambda x, v: (f.grad(x, *args), f.hvp(x, v, *args)),
        "hessian, H @ v": lambda x, v: f.hessian(x, *args) @ v,
    }


def by_hand(case: Case) -> Contestant:
    """The closed form in NumPy."""

    def part(which: int, x, v=None):
        return case.derivatives(x, v, *case.args)[which]()

    return _contestant(partial(part, 0), partial(part, 1), partial(part, 2))


def _jax(case: Case) -> Contestant:
    import jax

    jax.config.update("jax_enable_x64", True)
    fun, args = case.text(jax.numpy), tuple(map(jax.numpy.asarray, case.args))
    value, grad = jax.jit(fun), jax.jit(jax.grad(fun))
    both = jax.jit(jax.value_and_grad(fun))
    product = jax.jit(lambda x, v, *args: jax.jvp(lambda x: jax.grad(fun)(x, *args), (x,), (v,))[1])
    return _contestant(
        lambda x: np.asarray(value(x, *args)),
        lambda x: np.asarray(grad(x, *args)),
        lambda x, v: np.asarray(product(x, v, *args)),
        lambda x: tuple(map(np.asarray, both(x, *args))),
    )


def _autograd(case: Case) -> Contestant:
    import autograd.numpy
    from autograd import grad, make_hvp, value_and_grad

    fun, args = case.text(autograd.numpy), case.args
    return _contestant(
        lambda x: fun(x, *args),
        lambda x: grad(fun)(x, *args),
        lambda x, v: make_hvp(fun)(x, *args)[0](v),
        lambda x: value_and_grad(fun)(x, *args),
    )


def _casadi(case: Case) -> Contestant:
    import casadi

    x, v = casadi.SX.sym("x", case.x.size), casadi.SX.sym("v", case.x.size)
    args = [casadi.SX.sym("arg", *np.atleast_2d(np.asarray(a).T).T.shape) for a in case.args]
    value = case.casadi(casadi, x, *args)
    gradient = casadi.gradient(value, x)
    product = casadi.densify(casadi.jtimes(gradient, x, v))
    call = partial(_buffered, casadi, [x, v, *args], case)
    return _contestant(
        call([value]), call([casadi.densify(gradient)]), call([product]),
        call([value, casadi.densify(gradient)]),
    )  # fmt: skip


def _buffered(casadi, symbols, case: Case, outputs) -> Callable:
    """A function of x and v through CasADi's buffers: these are copied in, results out."""
    function = casadi.Function("f", symbols, outputs)
    buffer, evaluate = function.buffer()
    held = [
        np.array(a, float, order="F").reshape(-1, order="F") for a in (case.x, case.x, *case.args)
    ]
    results = [np.empty(output.shape[0]) for output in outputs]
    for k, array in enumerate(held):
        buffer.set_arg(k, memoryview(array))
    for k, array in enumerate(results):
        buffer.set_res(k, memoryview(array))

    def call(x, v=None):
        held[0][:] = x
        if v is not None:
            held[1][:] = v
        evaluate()
        return results[0].copy() if len(results) == 1 else tuple(r.copy() for r in results)

    call.keeps = buffer, function  # type: ignore[attr-defined]  # it holds addresses alone
    return call


PEERS = {"CasADi": _casadi, "JAX": _jax, "autograd": _autograd}


def checked(request: str, label: str, case: Case, contestants: Mapping[str, Contestant]):
    """One request to each, at the next of some points with every call; all agree with the first."""
    v = np.ones_like(case.x)
    expected, *others = (_flat(one[request](case.x, v)) for one in contestants.values())
    for name, found in zip(list(contestants)[1:], others, strict=True):
        if not np.allclose(found, expected, rtol=1e-9, atol=1e-9):
            raise AssertionError(f"{request} of {label} by {name}: {found}, not {expected}")
    return {
        name: partial(_next, one[request], cycle([case.x * (1.0 + 1e-3 * k) for k in range(7)]), v)
        for name, one in contestants.items()
    }


def _next(call: Callable, points, v: np.ndarray) -> Any:
    return call(next(points), v)


def _flat(results) -> np.ndarray:
    """The numbers of a result, or of several."""
    parts = results if isinstance(results, tuple) else (results,)
    return np.concatenate([np.ravel(part) for part in parts])
