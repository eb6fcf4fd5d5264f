"""Derivatives inside differentiable functions, against the same functions with derivatives by hand."""

import dataclasses
import functools

import mpmath
import numpy as np
import pytest
from numba import njit

import nbhvp
from nbhvp.graph.derive import EXACT_MODES
from tests.cases import PARAMETERS
from tests.checks import THOROUGH

pytestmark = pytest.mark.usefixtures("unsplit")

D = functools.partial(nbhvp.differentiable, target="interpret")
rng = np.random.default_rng(7)
X, Y = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
T = np.linspace(0.1, 1.2, 6)
W = rng.normal(size=9) / 2


# The functions inside, and their derivatives by hand.


def pair_energy(x, k):
    """Springs and a quartic between all pairs of points."""
    i, j = np.triu_indices(len(x), 1)
    d = x[i] - x[j]
    r2 = np.sum(d * d, axis=1)
    return np.sum(k[0] * r2 / 2 + k[1] * r2**2 / 4) + k[2] * np.sum(np.cos(x))


@njit
def pair_energy_loops(x, k):
    total = 0.0
    for i in range(x.shape[0]):
        for j in range(i):
            r2 = 0.0
            for c in range(x.shape[1]):
                r2 += (x[i, c] - x[j, c]) ** 2
            total += k[0] * r2 / 2 + k[1] * r2 * r2 / 4
        for c in range(x.shape[1]):
            total += k[2] * np.cos(x[i, c])
    return total


def forces(x, k):
    d = x[:, None] - x
    r2 = np.sum(d * d, axis=2, keepdims=True)
    return -np.sum((k[0] + k[1] * r2) * d, axis=1) + k[2] * np.sin(x)


def log_density(x, a):
    return -np.sum(a[0] * x**4 + a[1] * x**2 + a[2] * np.cosh(x))


@njit
def log_density_loops(x, a):
    total = 0.0
    for row in x:
        for c in row:
            total -= a[0] * c**4 + a[1] * c**2 + a[2] * np.cosh(c)
    return total


def network(t, w):
    return np.sum(w[6:] * np.tanh(np.multiply.outer(t, w[:3]) + w[3:6]))


@njit
def network_loops(t, w):
    total = 0.0
    for one in t:
        for j in range(3):
            total += w[6 + j] * np.tanh(one * w[j] + w[3 + j])
    return total


def network_twice(t, w):
    """Its first and second derivative in each t."""
    z = np.tanh(np.multiply.outer(t, w[:3]) + w[3:6])
    return (1 - z**2) @ (w[6:] * w[:3]), (-2 * z * (1 - z**2)) @ (w[6:] * w[:3] ** 2)


def critic(x, w):
    return np.sum(np.log(1 + np.exp(x @ w[:3])) * w[3]) + np.sum(x**2) * w[4]


@njit
def critic_loops(x, w):
    total = 0.0
    for i in range(x.shape[0]):
        z = 0.0
        for c in range(x.shape[1]):
            z += x[i, c] * w[c]
            total += w[4] * x[i, c] ** 2
        total += w[3] * np.log(1 + np.exp(z))
    return total


def critic_slope(x, w):
    z = x @ w[:3]
    return np.multiply.outer(w[3] / (1 + np.exp(-z)), w[:3]) + 2 * w[4] * x


def fit(w, x, y):
    return np.mean((np.sin(x @ w) - y) ** 2)


@njit
def fit_loops(w, x, y):
    total = 0.0
    for i in range(y.size):
        z = 0.0
        for c in range(w.size):
            z += x[i, c] * w[c]
        total += (np.sin(z) - y[i]) ** 2
    return total / y.size


def fit_slope(w, x, y):
    z = x @ w
    return 2 / y.size * ((np.sin(z) - y) * np.cos(z)) @ x


def force_matching(energy):
    energy = D(energy)
    return lambda k: np.sum((-energy.grad(X, k) - Y) ** 2)


def force_matching_in_x(energy):
    energy = D(energy)
    return lambda x: np.sum((-energy.grad(x, W[:3]) - Y) ** 2) + energy(x, W[:3])


def score_matching(density):
    density = D(density)

    def loss(a):
        curvature = density.hvp(
            X, np.ones_like(X), a
        )  # diagonal: each point has a density of its own
        return np.sum(density.grad(X, a) ** 2) / 2 + np.sum(curvature)

    return loss


def score_matching_by_hand(a):
    slope = 4 * a[0] * X**3 + 2 * a[1] * X + a[2] * np.sinh(X)
    curvature = 12 * a[0] * X**2 + 2 * a[1] + a[2] * np.cosh(X)
    return np.sum(slope**2) / 2 - np.sum(curvature)


def physics_informed(u):
    u = D(u)
    slope = D(lambda t, w: np.sum(u.grad(t, w)))  # a gradient of a gradient

    def loss(w):
        residual = slope.grad(T, w) + 4 * u.grad(T, w) + np.sin(T)
        return np.mean(residual**2) + u(T[:1], w) ** 2

    return loss


def physics_informed_by_hand(w):
    first, second = network_twice(T, w)
    return np.mean((second + 4 * first + np.sin(T)) ** 2) + network(T[:1], w) ** 2


def gradient_penalty(critic):
    critic = D(critic)

    def loss(w):
        value, slope = critic.value_and_grad(X, w)
        return value + 10 * np.mean((np.linalg.norm(slope, axis=1) - 1) ** 2)

    return loss


def gradient_penalty_by_hand(w):
    slope = critic_slope(X, w)
    return critic(X, w) + 10 * np.mean((np.sqrt(np.sum(slope**2, axis=1)) - 1) ** 2)


def meta_learning(loss):
    loss = D(loss)
    return lambda w: sum(loss(w - 0.1 * loss.grad(w, X, y), X, 1 - y) for y in Y.T)


def meta_learning_by_hand(w):
    return sum(fit(w - 0.1 * fit_slope(w, X, y), X, 1 - y) for y in Y.T)


def sharpness_aware(loss):
    loss = D(loss)

    def perturbed(w):
        g = loss.grad(w, X, Y[:, 0])
        return loss(w + 0.3 * g / np.linalg.norm(g), X, Y[:, 0])

    return perturbed


def sharpness_aware_by_hand(w):
    g = fit_slope(w, X, Y[:, 0])
    return fit(w + 0.3 * g / np.sqrt(g @ g), X, Y[:, 0])


def force_matching_by_hand(k):
    return np.sum((forces(X, k) - Y) ** 2)


def force_matching_in_x_by_hand(x):
    return np.sum((forces(x, W[:3]) - Y) ** 2) + pair_energy(x, W[:3])


CASES = {
    "force matching": (force_matching, pair_energy, force_matching_by_hand, W[:3]),
    "force matching in x": (force_matching_in_x, pair_energy, force_matching_in_x_by_hand, X),
    "score matching": (score_matching, log_density, score_matching_by_hand, W[:3]),
    "physics-informed": (physics_informed, network, physics_informed_by_hand, W),
    "gradient penalty": (gradient_penalty, critic, gradient_penalty_by_hand, W[:5]),
    "meta-learning": (meta_learning, fit, meta_learning_by_hand, W[:3]),
    "sharpness-aware": (sharpness_aware, fit, sharpness_aware_by_hand, W[:3]),
}
LOOPS = {
    pair_energy: pair_energy_loops,
    log_density: log_density_loops,
    network: network_loops,
    critic: critic_loops,
    fit: fit_loops,
}


def assert_agree(f, g, x, modes=EXACT_MODES[:1], tolerance=1e-9) -> None:
    """Value, gradient and products of two Functions."""
    v = np.cos(np.arange(x.size)).reshape(x.shape)
    pairs = [(f(x), g(x)), (f.grad(x), g.grad(x))]
    pairs += [(f.hvp(x, v, mode=mode), g.hvp(x, v)) for mode in modes]
    for given, needed in pairs:
        scale = 1 + np.max(np.abs(needed))
        np.testing.assert_allclose(given, needed, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("name", CASES)
def test_problems_agree_with_derivatives_by_hand(name):
    make, inner, by_hand, x = CASES[name]
    assert_agree(D(make(inner)), D(by_hand), x, EXACT_MODES)


@pytest.mark.compiles
@pytest.mark.parametrize("name", CASES)
def test_loops_inside_agree_with_derivatives_by_hand(name):
    make, inner, by_hand, x = CASES[name]
    f = D(make(LOOPS[inner]))
    assert_agree(f, D(by_hand), x)
    assert all(call.is_rolled for call in f.report().loops)


@pytest.mark.compiles
def test_all_problems_compiled():
    def both(k):
        def fun(w):
            return sum(
                functions[k](np.resize(w, x.shape)) for functions, x in problems if x.size <= 9
            )

        return fun

    problems = [((make(inner), hand), x) for make, inner, hand, x in CASES.values()]
    assert_agree(nbhvp.differentiable(both(0)), D(both(1)), W)


# Orders, points and closures.


@pytest.mark.parametrize("order", range(1, 6))
def test_derivatives_of_any_order(order):
    mpmath.mp.dps = 40
    f = D(lambda x: np.exp(np.sin(x)) * x**3)
    for _ in range(order):
        f = D(lambda x, inner=f: inner.grad(x))
    needed = mpmath.taylor(lambda x: mpmath.exp(mpmath.sin(x)) * x**3, 0.7, order + 2)
    scale = [float(c * mpmath.factorial(k)) for k, c in enumerate(needed)]
    found = f(0.7), f.grad(0.7), f.hvp(0.7, 1.0)
    np.testing.assert_allclose(found, scale[order:], rtol=1e-11)


CUBIC = D(lambda x, k=1.0: k * np.sum(x**3) / 6 + np.prod(x))
PLACE = np.array([0.5, -1.2, 2.0])
SLOPE = CUBIC.grad
PRODUCT = functools.partial(lambda product, x: product(x, PLACE), CUBIC.hvp)
CURVATURE = np.array([[0.5, 2.0, -1.2], [2.0, -1.2, 0.5], [-1.2, 0.5, 2.0]])


def cubic(x):
    return np.sum(x**3) / 6 + np.prod(x)


def products_of_others(x):
    return np.array([x[1] * x[2], x[0] * x[2], x[0] * x[1]])


def confused(x):
    """The classical test: the derivative in y of x y, not of y y, though y is x."""
    return np.sum(x * D(lambda y: np.sum(x * y)).grad(x))


def confused_levels(x):
    outer = D(lambda y: np.sum(D(lambda z: np.sum(y * z**2)).grad(x) * y))
    return np.sum(outer.grad(x))


@dataclasses.dataclass
class Spring:
    stiffness: float

    @nbhvp.differentiable
    def energy(self, x):
        return self.stiffness * np.sum(x**4)

    def slope(self, x):
        return self.energy.grad(x)


class Model:
    def __init__(self):
        self.spring = Spring(3.0)

    @nbhvp.differentiable(target="interpret")
    def loss(self, x):
        return np.sum(self.spring.slope(x) ** 2)


def writes(x, k):
    x[0] = k[0] * x[0] ** 2
    k[1] = 100.0
    return np.sum(x**2) * k[2]


def written_outside(x):
    y, k = x.copy(), 2.0 * x
    g = D(writes).grad(y, k)
    return np.sum(g * y) + np.sum(k)


def written_outside_by_hand(x):
    g = np.concatenate(([4 * (2 * x[0]) ** 2 * x[0] ** 3], 2 * x[1:])) * 2 * x[2]
    return np.sum(g * x) + np.sum(2 * x)


_, UNRAVEL = nbhvp.ravel({"a": np.ones(2), "b": 1.0})


def in_a_tree(x):
    f = D(lambda t: t["b"] ** 2 * np.sum(t["a"] ** 3), unravel=UNRAVEL)
    of_tree = f.grad({"a": x[:2], "b": x[2]})
    product = f.hvp(x, {"a": x[1:], "b": x[0]})
    return np.sum(of_tree["a"] ** 2) * of_tree["b"] + product["b"] + f(x)


def in_a_tree_by_hand(x):
    a, b = x[:2], x[2]
    slope, last = 3 * b**2 * a**2, 2 * b * np.sum(a**3)
    product = 6 * b * np.sum(a**2 * x[1:]) + 2 * np.sum(a**3) * x[0]
    return np.sum(slope**2) * last + product + b**2 * np.sum(a**3)


RESIDUALS = D(lambda x: [x[0] * x[1], np.sin(x[2]) * x[0]])

INSIDE = {
    "constant point": (
        lambda x: np.sum(CUBIC.hvp(PLACE, x) ** 2),
        lambda x: np.sum((CURVATURE @ x) ** 2),
    ),
    "constant direction": (
        lambda x: np.sum(CUBIC.hvp(x, np.ones(3)) ** 2),
        lambda x: np.sum((x + np.sum(x) - np.array([x[0], x[1], x[2]])) ** 2),
    ),
    "nothing traced": (
        lambda x: np.sum(CUBIC.grad(PLACE) * x**2),
        lambda x: np.sum((PLACE**2 / 2 + products_of_others(PLACE)) * x**2),
    ),
    "an argument": (
        lambda x: np.sum(CUBIC.grad(PLACE, x[0]) * x),
        lambda x: np.sum((x[0] * PLACE**2 / 2 + products_of_others(PLACE)) * x),
    ),
    "the same node twice": (
        lambda x: np.sum(D(lambda y, z: np.sum(y * z**2)).grad(x, x)),
        lambda x: np.sum(x**2),
    ),
    "a closure of x": (confused, lambda x: np.sum(x**2)),
    "levels": (confused_levels, lambda x: 4 * np.sum(x**2)),
    "a branch": (
        lambda x: np.sum(D(lambda y: np.sum(y**4) if y[0] > 0 else np.sum(y**3)).grad(x) ** 2),
        lambda x: np.sum((4 * x**3) ** 2),
    ),
    "several directions": (
        lambda x: np.sum(CUBIC.hvp(x, np.eye(3)) ** 2),
        lambda x: np.sum(x**2) + 2 * np.sum(x**2),
    ),
    "jvp and vjp": (
        lambda x: np.sum(RESIDUALS.jvp(x, x) * RESIDUALS(x)) + RESIDUALS.vjp(x, x[:2])[0],
        lambda x: (
            2 * x[0] ** 2 * x[1] ** 2
            + (x[0] * np.sin(x[2]) + x[0] * np.cos(x[2]) * x[2]) * np.sin(x[2]) * x[0]
            + x[1] * x[0]
            + np.sin(x[2]) * x[1]
        ),
    ),
    "modes": (
        lambda x: sum(np.sum(CUBIC.hvp(x, x, mode=mode)) for mode in EXACT_MODES),
        lambda x: 3 * (np.sum(x**2) + 2 * np.sum(products_of_others(x))),
    ),
    "writes": (written_outside, written_outside_by_hand),
    "trees": (in_a_tree, in_a_tree_by_hand),
    "a stopped gradient": (
        lambda x: np.sum(CUBIC.grad(x) * nbhvp.stop_gradient(CUBIC.grad(PLACE) * PLACE)),
        lambda x: np.sum(
            (x**2 / 2 + products_of_others(x))
            * PLACE * (PLACE**2 / 2 + products_of_others(PLACE))
        ),
    ),
    "a method held outside": (
        lambda x: np.sum(SLOPE(x) ** 2) + sum(map(np.sum, map(SLOPE, [x, 2 * x]))) + PRODUCT(x)[0],
        lambda x: (
            np.sum((x**2 / 2 + products_of_others(x)) ** 2)
            + np.sum(x**2 / 2 + products_of_others(x))
            + 4 * np.sum(x**2 / 2 + products_of_others(x))
            + x[0] * PLACE[0] + x[2] * PLACE[1] + x[1] * PLACE[2]
        ),
    ),
    "an argument of a function": (
        lambda x: (lambda derivative: np.sum(derivative(x) * x))(CUBIC.grad),
        lambda x: np.sum((x**2 / 2 + products_of_others(x)) * x),
    ),
    "steps of descent": (
        lambda x: cubic(functools.reduce(lambda y, _: y - 0.1 * CUBIC.grad(y), range(3), x)),
        lambda x: cubic(
            functools.reduce(
                lambda y, _: y - 0.1 * (y**2 / 2 + products_of_others(y)), range(3), x
            )
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INSIDE)
def test_what_is_inside_is_as_by_hand(name):
    inside, by_hand = INSIDE[name]
    assert_agree(D(inside), D(by_hand), np.array([0.7, 1.1, 0.4]), EXACT_MODES)


def test_steps_of_descent_are_one_loop_over_time():
    def descent(slope, x):
        return cubic(functools.reduce(lambda y, _: y - 0.01 * slope(y), range(60), x))

    inside = D(lambda x: descent(CUBIC.grad, x))
    by_hand = D(lambda x: descent(lambda y: y**2 / 2 + products_of_others(y), x))
    assert_agree(inside, by_hand, np.array([0.7, 1.1, 0.4]))
    assert [loop.steps >= 58 for loop in inside.report().recurrences] == [True]


def test_penalties_within_sums_over_batches():
    def penalty(x, y):
        return np.sum(D(lambda z: np.sum(np.tanh(z @ x))).grad(y) ** 2)

    def by_hand(x):
        return np.sum((1 - np.tanh(Y @ x) ** 2) ** 2) * np.sum(x**2)

    total, x = nbhvp.sum_over(D(penalty), [(Y[:2],), (Y[2:],)]), np.array([0.7, 1.1, 0.4])
    assert_agree(total, D(by_hand), x, modes=())
    np.testing.assert_allclose(total.hvp(x, X[0]), D(by_hand).hvp(x, X[0]), rtol=1e-9)


def test_methods_of_objects():
    model, x = Model(), np.array([1.0, 2.0])
    for stiffness in (3.0, 5.0):
        model.spring.stiffness = stiffness
        assert_agree(model.loss, D(lambda x, c=stiffness: np.sum((4 * c * x**3) ** 2)), x)


def test_surroundings_of_the_inner_function_are_watched():
    scale = np.array([2.0])
    inner = D(lambda y: scale[0] * np.sum(y**3))
    f = D(lambda x: np.sum(inner.grad(x)))
    assert f([2.0]) == 24.0
    scale[0] = 3.0
    assert f([2.0]) == 36.0 and f.grad([2.0]) == [36.0]


def test_branches_of_the_inner_function_are_guards():
    inner = D(lambda y: y[0] ** 3 if y[0] > 1 else y[0] ** 2)
    f = D(lambda x: inner.grad(2 * x)[0])
    assert [f([1.0]), f([0.4]), f([2.0])] == [12.0, 1.6, 48.0]
    assert f.report().traces == 2


def test_stop_gradient():
    f = D(lambda x: np.sum(x * nbhvp.stop_gradient(x) ** 2))
    np.testing.assert_array_equal(f.grad(PLACE), PLACE**2)
    np.testing.assert_array_equal(f.hvp(PLACE, PLACE), np.zeros(3))
    assert nbhvp.stop_gradient(PLACE) is PLACE and nbhvp.stop_gradient([1.0]) == [1.0]
    pair = D(lambda x: nbhvp.stop_gradient({"a": (x, 2)})["a"][0][0] * x[0])
    assert pair.grad([3.0]) == [3.0]


CUSTOM = nbhvp.custom_jvp(lambda a: np.cbrt(a))
CUSTOM.defjvp(
    lambda primals, tangents: (CUSTOM(*primals), tangents[0] / (3 * CUSTOM(*primals) ** 2))
)


def test_functions_with_rules_inside():
    inner = D(lambda y: np.sum(CUSTOM(y) * CUSTOM(2 * y)))
    f, g = (
        D(lambda x: np.sum(inner.grad(x) ** 2)),
        D(lambda x: np.sum((2 / 3) ** 2 * 2 ** (2 / 3) * x ** (-2 / 3))),
    )
    assert_agree(f, g, np.array([0.5, 2.0]))


@pytest.mark.parametrize(("fun", "x"), PARAMETERS[:: 1 if THOROUGH else 15])
def test_gradients_of_answers_inside(fun, x):
    """The gradient of a gradient along c is the product with c."""
    w = D(fun)(x)
    w, c = np.cos(np.arange(1.0, w.size + 1).reshape(w.shape)), np.sin(np.arange(x.size) + 0.5)
    c = c.reshape(x.shape)
    f = D(lambda x: np.sum(w * np.stack(y) if isinstance(y := fun(x), list | tuple) else w * y))
    along = D(lambda x: np.sum(c * f.grad(x)))
    needed = f.hvp(x, c)
    np.testing.assert_allclose(along(x), np.sum(c * f.grad(x)), rtol=1e-10, atol=1e-10)
    scale = 1e-9 * (1 + np.nanmax(np.abs(needed), initial=0.0))
    np.testing.assert_allclose(along.grad(x), needed, rtol=0, atol=scale)


# Errors.


@njit
def walk(x, kinds):
    """Steps of four kinds in no order, which become neither arrays nor scans."""
    z = 0.3
    for kind in kinds:
        if kind == 0:
            z = np.sin(z * x[0])
        elif kind == 1:
            z = z * z + np.exp(-x[1] * z)
        elif kind == 2:
            z = z / (1 + x[2] ** 2)
        else:
            z = np.tanh(z + x[0])
    return z


@pytest.mark.compiles
def test_loops_that_are_swept_have_two_derivatives():
    x, kinds = np.array([0.2, 0.5, 0.9]), np.random.default_rng(0).integers(0, 4, 1000)
    inner = nbhvp.differentiable(walk, target="interpret")
    f = D(lambda x: np.sum(inner.grad(x, kinds) ** 2))
    needed = 2 * inner.hvp(x, inner.grad(x, kinds), kinds)
    np.testing.assert_allclose(f.grad(x), needed, rtol=1e-12)
    assert not any(call.is_rolled for call in f.report().loops)
    with pytest.raises(nbhvp.TraceError, match=r"third derivative of walk \(.*py:\d+\)"):
        f.hvp(x, x)


def test_a_lost_branch_inside_is_an_error():
    inner = D(lambda y: 1.0 if y[0] == 0 else np.sin(y[0]) / y[0])
    with pytest.raises(nbhvp.TraceError, match=r"test_composition.py:\d+.*a branch is taken here"):
        D(lambda x: inner.grad(x)[0])(np.zeros(1))


def test_second_derivatives_inside_are_strict():
    inner = D(lambda y: np.sum(np.abs(y)))
    f = D(lambda x: np.sum(inner.grad(x) * x))
    np.testing.assert_array_equal(f.grad([1.0, -2.0]), [1.0, -1.0])


ERRORS = {
    "operator": (lambda x: CUBIC.hessian(x) @ x, nbhvp.TraceError, r"test_composition.*\.hvp\(x, v\)"),
    "sparse": (lambda x: CUBIC.sparse_hessian(x) @ x, nbhvp.TraceError, "take products there"),
    "jacobian": (lambda x: CUBIC.jacobian(x) @ x, nbhvp.TraceError, "take products there, with .jvp"),
    "mode": (
        lambda x: CUBIC.hvp(x, x, mode="finite-difference"), ValueError, "mode must be one of forward",
    ),
    "shape": (lambda x: CUBIC.hvp(x, x[:2]), ValueError, r"v must have shape \(3,\) or \(3, k\)"),
    "not a scalar": (lambda x: RESIDUALS.grad(x)[0], TypeError, "needs a scalar"),
    "complex": (lambda x: CUBIC.grad(1j * x)[0].real, TypeError, "x must be real"),
    "loops": (
        lambda x: D(cubic, loops=True).grad(x)[0], nbhvp.TraceError, "make the function outside",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    fun, kind, match = ERRORS[name]
    with pytest.raises(kind, match=match):
        D(fun)(PLACE)
