"""Newton's method with a preconditioner, Hessian-free optimisation, natural gradient steps."""

import numpy as np
import pytest
import scipy.optimize
from scipy.optimize import rosen

import nbhvp
from nbhvp import curvature

interpreted = nbhvp.differentiable(target="interpret")
rng = np.random.default_rng(0)
X = rng.standard_normal((80, 6)) * 10.0 ** np.arange(-1, 5)
Y = (X @ (10.0 ** -np.arange(-1, 5)) + rng.standard_normal(80) > 0).astype(float)


@interpreted
def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


@interpreted
def logistic(w, ridge=1e-3):
    """Badly scaled: its Hessian's eigenvalues differ by some 1e10."""
    return np.mean(np.logaddexp(0.0, X @ w) - Y * (X @ w)) + 0.5 * ridge * (w @ w)


def logistic_fisher(w, ridge=1e-3):
    p = 1 / (1 + np.exp(-(X @ w)))
    return X.T * (p * (1 - p)) @ X / len(X) + ridge * np.eye(6)


@interpreted
def saddle(x):
    """Minima at (+-1, 0), a saddle at 0."""
    return np.sum((x[0] ** 2 - 1) ** 2 + x[1] ** 2 + 0.1 * np.cos(x[1]))


@interpreted
def residuals(x):
    return np.concatenate([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])


def gauss_newton(x):
    J = residuals.jacobian(x).toarray()
    return 2 * J.T @ J


METHODS = {
    "newton-pcg": {},
    "hessian-free": {},
    "natural-gradient": {"fisher": lambda x, *args: np.eye(len(x))},
}


@pytest.mark.parametrize("method", ["newton-pcg", "hessian-free"])
@pytest.mark.parametrize("n", [2, 10])
def test_rosenbrock(method, n):
    result = nbhvp.minimize(rosenbrock, np.zeros(n), method=method, tol=1e-8)
    assert result.success and result.status == 0
    np.testing.assert_allclose(result.x, 1, rtol=1e-6)
    assert result.ncg > 0 and result.nit < 100
    assert result.fun == pytest.approx(rosen(result.x), abs=1e-12)


def test_gauss_newton_as_the_curvature():
    options = {"curvature": gauss_newton, "gtol": 1e-8}
    result = nbhvp.minimize(rosenbrock, np.full(6, -1.2), method="hessian-free", options=options)
    assert result.success and result.nhvp == 0
    np.testing.assert_allclose(result.x, 1, rtol=1e-6)
    assert 0 < result.damping < 1


@pytest.mark.parametrize("method", ["newton-pcg", "hessian-free"])
def test_negative_curvature_leads_to_a_minimum(method):
    result = nbhvp.minimize(saddle, np.array([1e-3, 1.0]), method=method, tol=1e-8)
    assert result.success
    np.testing.assert_allclose(result.x, [1, 0], atol=1e-6)


def test_a_preconditioner_saves_products():
    def inverse(w, ridge):
        return curvature.jacobi(logistic_fisher(w, ridge))

    plain, fast = (
        nbhvp.minimize(logistic, np.zeros(6), 1e-3, method="newton-pcg", tol=1e-7, options=options)
        for options in ({}, {"preconditioner": inverse})
    )
    assert plain.success and fast.success
    assert fast.ncg < plain.ncg / 2
    np.testing.assert_allclose(fast.x, plain.x, rtol=1e-3, atol=1e-6)


def test_natural_gradient_takes_a_tenth_of_the_iterations_of_gradient_descent():
    natural = {"fisher": logistic_fisher, "damping": 1e-8, "rtol": 1e-10, "gtol": 1e-5}
    plain = {"fisher": lambda w: np.zeros((6, 6)), "damping": 1.0, "gtol": 1e-5, "maxiter": 300}
    fast, slow = (
        nbhvp.minimize(logistic, np.zeros(6), method="natural-gradient", options=options)
        for options in (natural, plain)
    )
    assert fast.success and 10 * fast.nit < slow.nit


def test_a_fixed_step():
    options = {"fisher": lambda x: np.diag([2.0, 6.0]), "damping": 0.0, "step": 0.5, "rtol": 1e-12}
    f = nbhvp.differentiable(lambda x: x[0] ** 2 + 3 * x[1] ** 2, target="interpret")
    seen = []
    nbhvp.minimize(
        f, np.array([4.0, 8.0]), method="natural-gradient", callback=lambda x: seen.append(x),
        options=options | {"maxiter": 3},
    )  # fmt: skip
    np.testing.assert_allclose(seen, [[2, 4], [1, 2], [0.5, 1]])


@pytest.mark.parametrize("method", METHODS)
def test_values_never_rise(method):
    values = [rosenbrock(np.full(4, -1.0))]
    options = METHODS[method] | {"maxiter": 30}
    result = nbhvp.minimize(
        rosenbrock,
        np.full(4, -1.0),
        method=method,
        callback=lambda intermediate_result: values.append(intermediate_result.fun),
        options=options,
    )
    assert len(values) == result.nit + 1 and np.all(np.diff(values) <= 1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_scipy_takes_them_with_plain_functions(method):
    function = getattr(nbhvp, method.replace("-", "_"))
    result = scipy.optimize.minimize(
        lambda x, c: c * x @ x,
        np.ones(3),
        args=(2.0,),
        method=function,
        jac=lambda x, c: 2 * c * x,
        hess=lambda x, c: 2 * c * np.eye(3),
        options=METHODS[method],
    )
    assert result.success
    np.testing.assert_allclose(result.x, 0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_steps_are_printed_where_asked_for(method, capsys):
    options = METHODS[method] | {"disp": True}
    result = nbhvp.minimize(rosenbrock, np.full(4, -1.0), method=method, options=options)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == result.nit + 1 and lines[0].startswith("step 1: value ")
    assert lines[-1].startswith(result.message) and f"'nit': {result.nit}" in lines[-1]


@pytest.mark.parametrize("method", METHODS)
def test_the_ways_to_end(method):
    options = METHODS[method]

    def stop(x):
        raise StopIteration

    start = np.full(4, -1.0)
    minimize = lambda f, x, **kw: nbhvp.minimize(f, x, method=method, **kw)
    assert minimize(rosenbrock, np.ones(4), options=options).nit == 0
    assert minimize(rosenbrock, start, options=options | {"maxiter": 1}).status == 1
    assert minimize(rosenbrock, start, options=options, callback=stop).status == 2
    not_finite = nbhvp.differentiable(lambda x: np.sum(np.log(x)), target="interpret")
    with np.errstate(all="ignore"):
        assert minimize(not_finite, -np.ones(3), options=options).status == 4


@pytest.mark.parametrize("method", METHODS)
def test_errors(method):
    function = getattr(nbhvp, method.replace("-", "_"))
    with pytest.raises(TypeError, match="no option dampng"):
        nbhvp.minimize(
            rosenbrock, np.ones(2), method=method, options=METHODS[method] | {"dampng": 1}
        )
    with pytest.raises(ValueError, match="would ignore the bounds"):
        nbhvp.minimize(rosenbrock, np.zeros(3), method=method, bounds=[(0, 1)] * 3)
    with pytest.raises(ValueError, match="would ignore the bounds"):
        function(rosen, np.zeros(3), jac=rosenbrock.grad, bounds=[(0, 1)] * 3, **METHODS[method])
    with pytest.raises(TypeError, match="needed the gradient as `jac`"):
        function(rosen, np.zeros(3), **METHODS[method])


@pytest.mark.parametrize(
    ("method", "words"),
    [("newton-pcg", "the Hessian"), ("hessian-free", "curvature"), ("natural-gradient", "fisher")],
)
def test_a_missing_curvature(method, words):
    function = getattr(nbhvp, method.replace("-", "_"))
    with pytest.raises(TypeError, match=words):
        function(rosen, np.zeros(3), jac=rosenbrock.grad)


def test_a_preconditioner_follows_the_damping():
    seen = []

    def inverse(w, ridge, damping):
        seen.append(damping)
        return curvature.nystrom(logistic_fisher(w, ridge), 6, damping, rng=0)

    options = {"preconditioner": inverse, "curvature": logistic_fisher}
    result = nbhvp.minimize(
        logistic, np.zeros(6), 1e-3, method="hessian-free", tol=1e-7, options=options
    )
    assert result.success and len(set(seen)) > 1
    plain = nbhvp.minimize(logistic, np.zeros(6), 1e-3, method="newton-pcg", tol=1e-7)
    assert result.fun == pytest.approx(plain.fun, rel=1e-9)


@pytest.mark.parametrize("method", [nbhvp.newton_pcg, nbhvp.hessian_free])
def test_products_by_hessp(method):
    found = scipy.optimize.minimize(
        rosenbrock, np.zeros(4), method=method, jac=rosenbrock.grad, hessp=rosenbrock.hvp
    )
    assert found.success and found.x == pytest.approx(np.ones(4), abs=1e-4)
