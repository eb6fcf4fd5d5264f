"""SciPy's minimize by both doors, and ours, on SciPy's own test functions."""

import warnings

import numpy as np
import pytest
import scipy.optimize
from scipy.optimize import OptimizeResult, rosen, rosen_der, rosen_hess, rosen_hess_prod

import nbhvp
from nbhvp.optimize import METHODS

PRODUCTS = [name for name, uses in METHODS.items() if uses.curvature == "operator"]
ARRAYS = [name for name, uses in METHODS.items() if uses.curvature == "array"]
UNUSED = [name for name, uses in METHODS.items() if uses.curvature is None]


def rosenbrock(x):
    """As SciPy documents it."""
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2.0) ** 2.0 + (1 - x[:-1]) ** 2.0)


def himmelblau(x):
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def booth(x):
    return (x[0] + 2 * x[1] - 7) ** 2 + (2 * x[0] + x[1] - 5) ** 2


def styblinski_tang(x):
    return np.sum(x**4 - 16 * x**2 + 5 * x) / 2


FUNCTIONS = {
    "rosenbrock": (rosenbrock, [-1.2, 1.0], [1.0, 1.0]),
    "himmelblau": (himmelblau, [3.5, 2.5], [3.0, 2.0]),
    "booth": (booth, [0.0, 0.0], [1.0, 3.0]),
    "styblinski-tang": (styblinski_tang, [-2.0, -3.5], [-2.903534, -2.903534]),
}


@pytest.fixture(scope="module")
def f():
    return nbhvp.differentiable(rosenbrock, target="interpret")


def start(n):
    return np.linspace(0.7, 1.2, n)


# SciPy's minimize, unmodified.


@pytest.mark.no_cover
@pytest.mark.parametrize("target, n", [("interpret", 2), ("interpret", 20), ("cpu", 1000)])
@pytest.mark.parametrize("method", PRODUCTS)
@pytest.mark.parametrize("door", ["hessp", "hess"])
def test_scipy_takes_products_and_operators(target, n, method, door):
    f = nbhvp.differentiable(rosenbrock, target=target)
    options = {"maxiter": 3000} if method == "trust-constr" else {}
    doors = {"hessp": (f.hvp, rosen_hess_prod), "hess": (f.hessian, rosen_hess)}[door]
    results = [
        scipy.optimize.minimize(
            fun, start(n), jac=jac, method=method, tol=1e-6, options=options, **{door: curvature}
        )
        for fun, jac, curvature in [(f, f.grad, doors[0]), (rosen, rosen_der, doors[1])]
    ]
    ours, known = results
    assert ours.success
    assert ours.fun < 1.1 * known.fun + 1e-8
    assert abs(ours.nit - known.nit) <= 2 + known.nit // 10


@pytest.mark.parametrize("n", [2, 20])
@pytest.mark.parametrize("method", ARRAYS)
def test_scipy_takes_arrays(f, n, method):
    result = scipy.optimize.minimize(
        f, np.full(n, 1.1), jac=f.grad, hess=lambda x: f.hessian(x).toarray(), method=method
    )
    assert result.success
    np.testing.assert_allclose(result.x, np.ones(n), atol=1e-4)


@pytest.mark.parametrize("method", ARRAYS)
def test_an_operator_where_an_array_is_needed_says_so(f, method):
    with pytest.raises((TypeError, AttributeError), match="toarray"):
        scipy.optimize.minimize(f, start(3) + 0.3, jac=f.grad, hess=f.hessian, method=method)


# Ours.


@pytest.mark.parametrize(
    "target, name", [("cpu", "booth"), *(("interpret", name) for name in FUNCTIONS)]
)
@pytest.mark.parametrize("method", PRODUCTS + ARRAYS)
def test_every_method_with_curvature(target, name, method):
    fun, x0, solution = FUNCTIONS[name]
    if method == "dogleg":
        x0 = np.array(solution) + 0.02
    f = nbhvp.differentiable(fun, target=target)
    result = nbhvp.minimize(f, x0, method=method)
    assert isinstance(result, OptimizeResult) and result.success
    np.testing.assert_allclose(result.x, solution, atol=1e-3)
    assert result.nhvp > 0
    assert {"x", "fun", "jac", "nit", "nfev", "message", "status"} <= result.keys()


@pytest.mark.parametrize("method", UNUSED)
def test_methods_without_use_for_curvature_say_so(method):
    f = nbhvp.differentiable(booth, target="interpret")
    needs = "values and gradients" if METHODS[method].gradient else "values"
    with pytest.warns(UserWarning, match=f"{method!r} uses {needs} only.*newton-cg, trust-ncg"):
        result = nbhvp.minimize(f, [0.0, 0.0], method=method)
    np.testing.assert_allclose(result.x, [1.0, 3.0], atol=1e-3)
    assert result.nhvp == 0


@pytest.mark.compiles
def test_the_warning_points_to_the_caller():
    with pytest.warns(UserWarning) as caught:
        nbhvp.minimize(booth, [0.0, 0.0], method="BFGS")
    assert caught[0].filename == __file__


def test_methods_are_those_of_scipy():
    assert set(METHODS) == {
        name.lower() for name in scipy.optimize._minimize.MINIMIZE_METHODS if name != "_custom"
    }


def test_the_default_is_trust_krylov(f):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        default = nbhvp.minimize(f, start(20))
        named = nbhvp.minimize(f, start(20), method="Trust-Krylov")
    np.testing.assert_array_equal(default.x, named.x)
    assert default.nhvp == named.nhvp


@pytest.mark.parametrize("method", PRODUCTS)
def test_products_are_counted(method):
    f = nbhvp.differentiable(styblinski_tang, target="interpret")
    operators = []

    def hessian(x):
        operators.append(f.hessian(x))
        return operators[-1]

    x0 = np.full(5, -3.5)
    plain = scipy.optimize.minimize(f, x0, jac=f.grad, hess=hessian, method=method)
    result = nbhvp.minimize(f, x0, method=method)
    assert result.nhvp == sum(H.products for H in operators) > 0
    np.testing.assert_allclose(result.x, plain.x, atol=1e-6)


def test_arrays_cost_n_products(f):
    result = nbhvp.minimize(f, start(20), method="trust-exact")
    assert result.nhvp == 20 * result.nhev


@pytest.mark.compiles
def test_arguments_are_bound():
    f = nbhvp.differentiable(lambda x, A, power, b: np.sum((A @ x - b["b"]) ** power))
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(40_000, 5)), rng.normal(size=40_000)
    result = nbhvp.minimize(f, np.zeros(5), (A, 2, {"b": b}))
    assert result.success
    np.testing.assert_allclose(result.x, np.linalg.lstsq(A, b)[0], atol=1e-8)
    report = f.report()
    assert report.traces == 1
    assert report.point_runs + report.gradient_runs <= result.njev + 1, "one run per point"
    assert A.flags.writeable and b.flags.writeable


@pytest.mark.compiles
def test_one_argument_needs_no_tuple():
    result = nbhvp.minimize(lambda x, a: np.sum((x - a) ** 2), [0.0], args=3.0)
    np.testing.assert_allclose(result.x, [3.0])


def test_bounds_callback_tol_and_options_are_passed_on(f):
    seen = []
    result = nbhvp.minimize(
        f,
        [0.2, 0.3],
        method="trust-constr",
        bounds=[(0.0, 0.5), (0.0, 2.0)],
        callback=lambda x, state: seen.append(x),
        tol=1e-10,
        options={"maxiter": 500},
    )
    np.testing.assert_allclose(result.x, [0.5, 0.25], atol=1e-4)
    assert len(seen) == result.nit
    short = nbhvp.minimize(f, [-1.2, 1.0], options={"maxiter": 2})
    assert short.nit == 2 and not short.success


def test_linear_constraint(f):
    constraint = scipy.optimize.LinearConstraint(np.ones((1, 2)), 1.0, 1.0)
    result = nbhvp.minimize(f, [0.5, 0.5], method="trust-constr", constraints=constraint)
    assert result.x.sum() == pytest.approx(1.0)
    assert result.nhvp > 0


# Bounds and constraints: obeyed, or an error.

OBEY = {
    name: [method for method, uses in METHODS.items() if getattr(uses, name)]
    for name in ("bounds", "constraints")
}
BOUNDS = {
    "pairs": [(0, 0.5)] * 3,
    "with None": [(None, 0.5), (0, None), (None, None)],
    "Bounds": scipy.optimize.Bounds([0, 0, 0], [0.5, 2, np.inf]),
    "a number": scipy.optimize.Bounds(0, 0.5),
    "an array": np.array([[-1, 0.5], [-1, 0.25], [-1, 2]]),
    "fixed": [(0.25, 0.25), (None, 0.5), (0.0, None)],
}


def bowl(x):
    """Its minimum within any bounds is 1, clipped."""
    return np.sum((x - 1) ** 2 + 0.1 * (x - 1) ** 4)


@pytest.fixture(scope="module")
def interpreted():
    return nbhvp.differentiable(bowl, target="interpret")


def limits(bounds):
    if isinstance(bounds, scipy.optimize.Bounds):
        return np.broadcast_arrays(bounds.lb, bounds.ub, np.zeros(3))[:2]
    low = [-np.inf if pair[0] is None else pair[0] for pair in bounds]
    return np.array(low), np.array([np.inf if pair[1] is None else pair[1] for pair in bounds])


@pytest.mark.parametrize("x0", [[0.1, 0.2, 0.3], [3, 3, 3]], ids=["inside", "outside"])
@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_are_obeyed(interpreted, name, x0):
    low, high = limits(BOUNDS[name])
    result = nbhvp.minimize(interpreted, x0, bounds=BOUNDS[name])
    assert result.success and result.nhvp > 0
    assert np.all(result.x >= low - 1e-7) and np.all(result.x <= high + 1e-7)
    np.testing.assert_allclose(result.x, np.clip(1.0, low, high), atol=1e-2)
    close = nbhvp.minimize(interpreted, x0, bounds=BOUNDS[name], options={"gtol": 1e-12})
    np.testing.assert_allclose(close.x, np.clip(1.0, low, high), atol=1e-4)


@pytest.mark.filterwarnings("ignore:method|Initial guess")
@pytest.mark.parametrize("method", OBEY["bounds"])
def test_every_method_that_obeys_bounds(interpreted, method):
    result = nbhvp.minimize(interpreted, [0, 0, 0], method=method, bounds=[(-1, 0.5)] * 3)
    assert np.all(result.x <= 0.5 + 1e-9)
    np.testing.assert_allclose(result.x, [0.5] * 3, atol=1e-3)


@pytest.mark.parametrize("name", ["bounds", "constraints"])
def test_methods_that_ignore_what_is_given_are_refused(interpreted, name):
    given = scipy.optimize.LinearConstraint(np.ones((1, 3)), 0.0, 1.0)
    given = [(0, 1)] * 3 if name == "bounds" else given
    for method in METHODS.keys() - OBEY[name]:
        with pytest.raises(
            ValueError, match=f"would ignore the {name}: .*trust-constr, or take one"
        ):
            nbhvp.minimize(interpreted, np.zeros(3), method=method.upper(), **{name: given})


def test_scipy_obeys_where_the_table_says_so(interpreted):
    """SciPy warns where a method ignores bounds or constraints."""
    constraint = {"type": "ineq", "fun": lambda x: 2 - np.sum(x)}
    for name, given in {"bounds": [(-1, 0.5)] * 3, "constraints": constraint}.items():
        warned = set()
        for method, uses in METHODS.items():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                scipy.optimize.minimize(
                    interpreted,
                    np.zeros(3),
                    method=method,
                    jac=interpreted.grad if uses.gradient else None,
                    hess=(lambda x: interpreted.hessian(x).toarray()) if uses.curvature else None,
                    options={"maxiter": 4},
                    **{name: given},
                )
            if any(f"cannot handle {name}" in str(one.message) for one in caught):
                warned.add(method)
        assert warned == METHODS.keys() - OBEY[name]


@pytest.mark.filterwarnings("ignore:delta_grad")  # SciPy's, of linear constraints as functions
@pytest.mark.parametrize(
    "constraint",
    [
        scipy.optimize.LinearConstraint(np.ones((1, 3)), -np.inf, 1.5),
        scipy.optimize.NonlinearConstraint(np.sum, -np.inf, 1.5),
        {"type": "ineq", "fun": lambda x: 1.5 - np.sum(x)},
        [{"type": "eq", "fun": lambda x: 1.5 - np.sum(x)}],
        (scipy.optimize.LinearConstraint(np.ones((1, 3)), 1.5, 1.5),),
    ],
    ids=["linear", "nonlinear", "dict", "list", "tuple"],
)
def test_constraints_without_a_method(interpreted, constraint):
    result = nbhvp.minimize(interpreted, np.full(3, 0.3), constraints=constraint)
    np.testing.assert_allclose(result.x, [0.5] * 3, atol=1e-3)


@pytest.mark.parametrize(
    "unset",
    [
        {"bounds": None},
        {"bounds": [(None, None), (-np.inf, None), (None, np.inf)]},
        {"bounds": scipy.optimize.Bounds(np.full(3, -np.inf), np.inf)},
        {"constraints": ()},
        {"constraints": []},
    ],
)
def test_no_bounds_and_no_constraints(interpreted, unset):
    default = nbhvp.minimize(interpreted, np.zeros(3))
    result = nbhvp.minimize(interpreted, np.zeros(3), **unset)
    assert (result.nit, result.nhvp) == (default.nit, default.nhvp)
    nbhvp.minimize(interpreted, np.zeros(3), method="trust-ncg", **unset)


def test_a_method_of_ones_own(interpreted):
    def newton(fun, x0, args=(), jac=None, hess=None, bounds=None, steps=3, **unused):
        x = np.asarray(x0, float)
        for _ in range(steps):
            x = x - np.linalg.solve(hess(x, *args).toarray(), jac(x, *args))
        return OptimizeResult(x=np.clip(x, *limits(bounds)), fun=fun(x, *args))

    options = {"bounds": [(0, 0.5)] * 3, "options": {"steps": 9}}
    result = nbhvp.minimize(interpreted, np.zeros(3), method=newton, **options)
    np.testing.assert_allclose(result.x, [0.5] * 3)
    assert result.nhvp == 27


@pytest.mark.filterwarnings("ignore:method|Method Nelder-Mead")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("x0", [[2, 0], np.array([2, 0]), np.array([2, 0], np.float32)])
def test_starts_of_every_kind(method, x0):
    f = nbhvp.differentiable(lambda x: np.sum((x - 1) ** 2), target="interpret")
    result = nbhvp.minimize(f, x0, method=method, tol=1e-3)
    np.testing.assert_allclose(result.x, [1, 1], atol=1e-2)


def test_a_start_on_a_bound_that_is_kept(interpreted):
    kept = scipy.optimize.Bounds(0, [0.5, 0.5, np.inf], keep_feasible=True)
    for x0 in ([0, 0.1, 0.1], [0.1, 0.5, 0.1], [0.1, 0.1, -1]):
        with pytest.raises(ValueError, match="x0 must lie inside bounds with keep_feasible"):
            nbhvp.minimize(interpreted, x0, bounds=kept)
    result = nbhvp.minimize(interpreted, [0.1] * 3, bounds=kept, options={"gtol": 1e-12})
    np.testing.assert_allclose(result.x, [0.5, 0.5, 1], atol=1e-4)


def test_a_start_with_two_axes(f):
    with pytest.raises(ValueError, match=r"shape \(n,\), got \(2, 2\): .*x = x.reshape\(2, 2\)"):
        nbhvp.minimize(f, np.ones((2, 2)))


# What is refused.


@pytest.mark.parametrize("method", ["steepest", "", 3])
def test_unknown_methods(f, method):
    with pytest.raises(ValueError, match="method must be one of newton-cg, .*cobyqa, .*, got"):
        nbhvp.minimize(f, [1.0, 2.0], method=method)


@pytest.mark.parametrize("name", ["jac", "hess", "hessp"])
def test_derivatives_are_ours(f, name):
    with pytest.raises(TypeError, match=f"gives {name} itself"):
        nbhvp.minimize(f, [1.0, 2.0], **{name: None})


def test_float32_start(f):
    result = nbhvp.minimize(f, np.full(4, 0.9, np.float32), method="trust-ncg", tol=1e-3)
    assert result.success
    np.testing.assert_allclose(result.x, np.ones(4), atol=1e-2)
