"""Functions that NumPy computes until compiling pays: counts decide, and all else is as ever."""

import copy
import pickle

import numpy as np
import pytest

import nbhvp
from nbhvp.plan.costs import CPU

pytestmark = pytest.mark.filterwarnings("error")


def quartic(x, c=2.0):
    return c * np.sum(x**4) + np.sum(np.sin(x[1:] * x[:-1]))


def residuals(x):
    return x[1:] - x[:-1] ** 2


class Model:
    def __init__(self, c):
        self.c = c

    @nbhvp.differentiable(compile="lazy")
    def energy(self, x):
        return self.c * np.sum(x**3)


def price(monkeypatch, **costs):
    for name, value in costs.items():
        monkeypatch.setitem(vars(CPU), name, value)


X, V = np.linspace(0.3, 1.1, 6), np.cos(np.arange(6.0))
CALLS = {
    "value": lambda f: f(X, 3.0),
    "gradient": lambda f: f.grad(X, 3.0),
    "value and gradient": lambda f: f.value_and_grad(X, 3.0)[1],
    "product": lambda f: f.hvp(X, V, 3.0),
    "product in another mode": lambda f: f.hvp(X, V, 3.0, mode="reverse-over-reverse"),
    "product by differences": lambda f: f.hvp(X, V, 3.0, mode="finite-difference"),
    "several directions": lambda f: f.hvp(X, np.eye(6), 3.0),
    "operator": lambda f: f.hessian(X, 3.0) @ V,
    "operator as an array": lambda f: f.hessian(X, 3.0).toarray(),
    "combination": lambda f: (2 * f.hessian(X, 3.0) + np.eye(6)) @ V,
    "operator, pickled": lambda f: pickle.loads(pickle.dumps(f.hessian(X, 3.0))) @ V,
    "pickled": lambda f: pickle.loads(pickle.dumps(f)).hvp(X, V),
    "in single precision": lambda f: f.hvp(X.astype("f4"), V.astype("f4")),
    "large argument": lambda f: f.grad(X, np.ones((400, 500)))[0],
    "solver": lambda f: nbhvp.minimize(f, X, args=(3.0,), method="trust-ncg").x,
}


@pytest.mark.parametrize("name", CALLS)
def test_the_interpreter_computes_first(name):
    """Nothing is compiled, and results have the bits of the interpreter."""
    fun = (lambda x, c: c[0, 0] * np.sum(x**2)) if name == "large argument" else quartic
    lazy, interpreted = (
        nbhvp.differentiable(fun, **how) for how in ({"compile": "lazy"}, {"target": "interpret"})
    )
    np.testing.assert_array_equal(CALLS[name](lazy), CALLS[name](interpreted))
    report = lazy.report()
    assert report.kernels_compiled == report.kernels_loaded == 0
    assert report.interpreted_runs > 0 or name == "pickled"


def test_jacobians_methods_and_traces_at_each_call():
    r = nbhvp.differentiable(residuals, compile="lazy")
    J = r.jacobian(X)
    np.testing.assert_allclose(J @ V, V[1:] - 2 * X[:-1] * V[:-1])
    np.testing.assert_allclose(r.weighted_hessian(X, np.ones(5)) @ V, -2 * np.r_[V[:-1], 0])
    np.testing.assert_allclose(Model(2.0).energy.hvp(X, V), 12 * X * V)
    always = nbhvp.differentiable(quartic, compile="lazy", trace="always")
    np.testing.assert_array_equal(always.hvp(X, V), always.hvp(X, V))
    assert always.report().traces == 2
    assert copy.copy(always).options.compile == "lazy"


def runs(count: int) -> tuple[list[np.ndarray], nbhvp.Function]:
    """Products of one operator, and of new points."""
    f = nbhvp.differentiable(quartic, compile="lazy")
    H = f.hessian(X)
    found = [H @ V for _ in range(count)]
    return [*found, *(f.hvp(X + 0.1 * k, V) for k in range(count))], f


@pytest.mark.compiles
def test_counts_decide_when_to_compile(monkeypatch):
    """The same calls change over at the same place, with the same bits, as an operator is in use."""
    price(monkeypatch, planned=0.0, first=10.0, interpreted=0.1, element=0.0)
    (results, f), (again, g) = runs(12), runs(12)
    for one, other in zip(results, again, strict=True):
        np.testing.assert_array_equal(one, other)
    for k in range(12):
        np.testing.assert_allclose(results[k], results[0], rtol=1e-13)
    reports = f.report(), g.report()
    assert 0 < reports[0].interpreted_runs == reports[1].interpreted_runs < 24
    interpreted = nbhvp.differentiable(quartic, target="interpret")
    for k in range(12):
        needed = interpreted.hvp(X + 0.1 * k, V)
        np.testing.assert_allclose(results[12 + k], needed, rtol=1e-13)


@pytest.mark.compiles
@pytest.mark.parametrize("interpreted", [0.0, 1e3])
def test_what_takes_long_is_compiled_at_once(monkeypatch, interpreted):
    price(monkeypatch, interpreted=interpreted)
    f = nbhvp.differentiable(quartic, compile="lazy")
    for k in range(4):
        f.grad(X + k)
    assert f.report().interpreted_runs == (0 if interpreted else 4)


def test_where_it_has_no_meaning_it_is_refused():
    with pytest.raises(ValueError, match="'eager' or 'lazy', got 'never'"):
        nbhvp.differentiable(quartic, compile="never")
    with pytest.raises(ValueError, match="needs target='cpu', got 'interpret'"):
        nbhvp.differentiable(quartic, compile="lazy", target="interpret")
