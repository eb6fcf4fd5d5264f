"""Smooth functions of a length, where the length is 0: right, or NaN, never the zero of a branch.

The right values are closed forms: |x|^2 is x.x, and the mean square is a quadratic form.
"""

import math

import numpy as np
import pytest
import scipy.linalg

import nbhvp
from nbhvp.graph import primitives as p
from nbhvp.graph.derive import EXACT_MODES
from nbhvp.graph.node import Pool
from nbhvp.graph.table import lengths

pytestmark = pytest.mark.usefixtures("unsplit")

norm = np.linalg.norm
ZERO, V = np.zeros(4), np.array([1.0, 2.0, -3.0, 0.5])
EQUAL = np.full(4, 2.0)
ROWS = np.array([[0.0, 0.0], [3.0, 4.0]])
CENTER = np.eye(4) - 0.25


def products(fun, x, v, target="interpret"):
    f = nbhvp.differentiable(fun, target=target)
    return [f.hvp(x, v, mode=mode) for mode in EXACT_MODES]


def rows(x):
    return norm(x.reshape(2, 2), axis=1)


def distances(x):
    points = x.reshape(-1, 2)
    return norm(points[:, None] - points, axis=-1)


def complex_of(x):
    return x[:2] + 1j * x[2:]


SQUARES = {
    "norm": (lambda x: norm(x) ** 2, ZERO, 2 * V),
    "norm by ord=2": (lambda x: norm(x, ord=2) ** 2, ZERO, 2 * V),
    "Frobenius": (lambda x: norm(x.reshape(2, 2)) ** 2, ZERO, 2 * V),
    "Frobenius by name": (lambda x: norm(x.reshape(2, 2), "fro") ** 2.0, ZERO, 2 * V),
    "SciPy's": (lambda x: scipy.linalg.norm(x) ** 2, ZERO, 2 * V),
    "along an axis": (lambda x: np.sum(norm(x.reshape(2, 2), axis=0) ** 2), ZERO, 2 * V),
    "keepdims": (
        lambda x: np.sum(norm(x.reshape(2, 2), axis=1, keepdims=True) ** 2 * np.ones((2, 3))),
        ZERO,
        6 * V,
    ),
    "np.square": (lambda x: np.square(norm(x)), ZERO, 2 * V),
    "np.power": (lambda x: np.power(norm(x), 2), ZERO, 2 * V),
    "r r": (lambda x: 0.5 * 3.0 * norm(x) * norm(x), ZERO, 3 * V),
    "r^4": (lambda x: norm(x) ** 4 + norm(x) ** 2, ZERO, 2 * V),
    "r^6": (lambda x: norm(x) ** 6 - norm(x) ** 2 / 2, ZERO, -V),
    "scaled": (lambda x: (3.0 * norm(x) / 2.0) ** 2, ZERO, 4.5 * V),
    "scaled by an array": (
        lambda x: np.sum((rows(x) / np.array([1.0, 2.0])) ** 2),
        ZERO,
        2 * V / np.repeat([1.0, 4.0], 2),
    ),
    "scaled by x": (lambda x: (np.exp(x[0]) * norm(x)) ** 2, ZERO, 2 * V),
    "exp(-r^2 / 2)": (lambda x: np.exp(-(norm(x) ** 2) / 2), ZERO, -V),
    "sqrt(1 + r^2)": (lambda x: np.sqrt(1 + norm(x) ** 2), ZERO, V),
    "r @ r": (lambda x: rows(x) @ rows(x), ZERO, 2 * V),
    "dot": (lambda x: np.dot(rows(x), rows(x)), ZERO, 2 * V),
    "einsum": (lambda x: np.einsum("i,i->", rows(x), rows(x)), ZERO, 2 * V),
    "einsum of parts": (lambda x: np.sum(np.einsum("i,i->i", rows(x), rows(x))), ZERO, 2 * V),
    "stacked": (lambda x: np.sum(np.array([norm(x[:1]), norm(x[1:])]) ** 2), ZERO, 2 * V),
    "norm of norms": (lambda x: norm(rows(x)) ** 2, ZERO, 2 * V),
    "chosen": (lambda x: np.sum(np.where(rows(x) < 1, rows(x), 1) ** 2), ZERO, 2 * V),
    "picked": (lambda x: np.sum(rows(x)[np.array([0, 0])] ** 2), ZERO, 4 * V * [1, 1, 0, 0]),
    "sqrt of a sum": (lambda x: np.sqrt(np.sum(x**2)) ** 2, ZERO, 2 * V),
    "sqrt of x @ x": (lambda x: np.sqrt(x @ x) ** 2, ZERO, 2 * V),
    "sqrt of a mean": (lambda x: np.sqrt(np.mean(np.square(x))) ** 2, ZERO, V / 2),
    "math.sqrt": (lambda x: math.sqrt(x[0] * x[0] + x[1] * x[1]) ** 2, ZERO, 2 * V * [1, 1, 0, 0]),
    "power of 1/2": (lambda x: (np.sum(x**2) ** 0.5) ** 2, ZERO, 2 * V),
    "hypot": (lambda x: np.sum(np.hypot(x[:2], x[2:]) ** 2), ZERO, 2 * V),
    "math.hypot": (lambda x: math.hypot(*x) ** 2, ZERO, 2 * V),
    "math.dist": (lambda x: math.dist(x, ZERO) ** 2, ZERO, 2 * V),
    "complex": (lambda x: np.sum(np.abs(complex_of(x)) ** 2), ZERO, 2 * V),
    "complex norm": (lambda x: norm(complex_of(x)) ** 2, ZERO, 2 * V),
    "|z z|": (lambda x: np.sum(np.abs(complex_of(x) * complex_of(x))), ZERO, 2 * V),
    "|z conj(z)|": (lambda x: np.sum(np.abs(complex_of(x) * complex_of(x).conj())), ZERO, 2 * V),
    "spectrum": (lambda x: np.sum(np.abs(np.fft.rfft(x)[1:2]) ** 2), EQUAL, None),
    "abs": (lambda x: np.sum(np.abs(x) ** 2), ZERO, 2 * V),
    "abs of a square": (lambda x: np.sum(np.abs(x**2)), ZERO, 2 * V),
    "cos of abs": (lambda x: np.sum(np.cos(np.abs(x))), ZERO, -V),
    "std": (lambda x: np.std(x) ** 2, EQUAL, CENTER @ V / 2),
    "std with ddof": (lambda x: np.std(x, ddof=1) ** 2, EQUAL, CENTER @ V * 2 / 3),
    "std along an axis": (
        lambda x: np.sum(np.std(x.reshape(1, 4), axis=1) ** 2),
        EQUAL,
        CENTER @ V / 2,
    ),
    "var": (lambda x: np.var(x), EQUAL, CENTER @ V / 2),
    "a residual that is 0": (lambda x: norm(np.sin(x) - np.sin(EQUAL)) ** 2, EQUAL, None),
    "4-norm": (lambda x: norm(x, 4) ** 4, ZERO, 0 * V),
    "3-norm": (lambda x: norm(x, 3) ** 3, ZERO, 0 * V),
    "r^3": (lambda x: norm(x) ** 3, ZERO, 0 * V),
    "|x|^3": (lambda x: np.sum(np.abs(x) ** 3), ZERO, 0 * V),
}
SQUARES["spectrum"] = (*SQUARES["spectrum"][:2], 2 * np.array([[1, 0, -1, 0], [0, 1, 0, -1], [-1, 0, 1, 0], [0, -1, 0, 1]]) @ V)  # fmt: skip
SQUARES["a residual that is 0"] = (*SQUARES["a residual that is 0"][:2], 2 * np.cos(2.0) ** 2 * V)


@pytest.mark.parametrize("name", SQUARES)
def test_smooth_functions(name):
    fun, x, needed = SQUARES[name]
    for product in products(fun, x, V):
        np.testing.assert_allclose(product, needed, rtol=1e-12, atol=1e-12)
    f = nbhvp.differentiable(fun, target="interpret")
    assert f(x) == pytest.approx(fun(x), rel=1e-12, abs=1e-300)
    np.testing.assert_array_equal(f.hessian(x) @ np.stack([V, -V]).T, np.stack([needed, -needed]).T) if name == "norm" else None  # fmt: skip


@pytest.mark.parametrize("name", SQUARES)
def test_elsewhere_they_are_what_they_were(name):
    """Value and gradient of the rewritten form, against differences of the plain function."""
    fun, x, v = SQUARES[name][0], np.array([0.7, -1.1, 0.4, 1.9]), V / 4
    f = nbhvp.differentiable(fun, target="interpret")
    slope = (fun(x + 1e-6 * v) - fun(x - 1e-6 * v)) / 2e-6
    assert f(x) == pytest.approx(fun(x), rel=1e-12)
    assert np.sum(f.grad(x) * v) == pytest.approx(slope, rel=1e-7, abs=1e-8)


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: np.sum(np.array([norm(x), 3.0]) ** 2),
        lambda x: np.sum(np.concatenate([rows(x), np.ones(1)]) ** 2),
        lambda x: np.sum(np.append(np.ones(2), rows(x)) ** 2),
        lambda x: norm(x).astype(float) ** 2,
        lambda x: np.sum((rows(x) * np.array([1.0, 1.0])) ** 2),
        lambda x: np.sum(np.where(rows(x) < 1, rows(x), np.ones(2)) ** 2),
    ],
)
def test_squares_in_double_precision_of_lengths_in_single(fun):
    f = nbhvp.differentiable(fun, target="interpret")
    for mode in EXACT_MODES:
        found = f.hvp(np.float32(ZERO), np.float32(V), mode=mode)
        assert np.allclose(found, 2 * V, rtol=1e-6)


def test_squares_do_not_overflow_where_lengths_do_not():
    x = np.array([3e100, 4e100])
    for fun in (
        lambda x: (norm(x) * 1e-100) ** 2,
        lambda x: (norm(x) / 1e100) ** 2,
        lambda x: (1e-100 * np.hypot(x[0], x[1])) ** 2,
    ):
        assert nbhvp.differentiable(fun, target="interpret")(x) == pytest.approx(25.0)
    tiny = lambda x: (1e200 * norm(x)) ** 2
    assert nbhvp.differentiable(tiny, target="interpret")(np.zeros(2)) == 0


UNKNOWN = {
    "norm": lambda x: norm(x),
    "cosh": lambda x: np.cosh(norm(x)),
    "exp": lambda x: np.exp(-norm(x)),
    "Matern 3/2": lambda x: (1 + norm(x)) * np.exp(-norm(x)),
    "Matern 5/2": lambda x: (1 + norm(x) + norm(x) ** 2 / 3) * np.exp(-norm(x)),
    "r sin(r)": lambda x: norm(x) * np.sin(norm(x)),
    "r^1.5": lambda x: norm(x) ** 1.5,
    "Morse": lambda x: (1 - np.exp(-norm(x))) ** 2,
    "log cosh": lambda x: np.log(np.cosh(norm(x))),
    "of a difference of lengths": lambda x: (norm(x[:2]) - norm(x[2:])) ** 2,
    "3-norm": lambda x: norm(x, 3),
    "4-norm squared": lambda x: norm(x, 4) ** 2,
    "nuclear": lambda x: norm(x.reshape(2, 2), "nuc") ** 2,
    "spectral": lambda x: norm(x.reshape(2, 2), 2) ** 2,
    "hypot": lambda x: np.cosh(np.hypot(x[0] + x[2], x[1] - x[3])),
    "complex": lambda x: np.cosh(np.abs(np.sum(complex_of(x)))),
    "std": lambda x: np.std(x),
    "sum of lengths, squared": lambda x: np.sum(rows(x)) ** 2,
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_other_functions_have_no_second_derivative_at_0(name):
    fun = UNKNOWN[name]
    gradient = nbhvp.differentiable(fun, target="interpret").grad(ZERO)
    assert np.isfinite(gradient).all()
    for product in products(fun, ZERO, V):
        assert np.isnan(product).any(), product
        assert not np.isfinite(product[product != 0]).any()


@pytest.mark.parametrize("name", UNKNOWN)
def test_they_have_one_elsewhere(name):
    fun, x = UNKNOWN[name], np.array([0.7, -1.1, 0.4, 1.9])
    f = nbhvp.differentiable(fun, target="interpret")
    needed = f.hvp(x, V, mode="finite-difference")
    for product in products(fun, x, V):
        np.testing.assert_allclose(product, needed, rtol=1e-6, atol=1e-7)


POINTS = np.array([0.0, 0.0, 1.0, 2.0, -1.0, 0.5])
W = np.array([1.0, -2.0, 0.5, 0.3, 2.0, 1.0])
PAIRS = np.triu_indices(3, 1)
LEFT_OUT = {
    "distances from itself": (
        lambda x: np.sum(np.exp(-distances(x))),
        lambda x: 3 + 2 * np.sum(np.exp(-distances(x)[PAIRS])),
    ),
    "and a function of the sum": (
        lambda x: np.log(np.sum((1 + distances(x)) * np.exp(-distances(x)))),
        lambda x: np.log(3 + 2 * np.sum(((1 + distances(x)) * np.exp(-distances(x)))[PAIRS])),
    ),
    "a pole that a choice leaves out": (
        lambda x: np.log(np.sum(np.where(distances(x) > 0, 1 / distances(x), 0))),
        lambda x: np.log(np.sum(2 / distances(x)[PAIRS])),
    ),
    "a safe argument": (
        lambda x: np.sum(
            (lambda r: np.where(r > 0, np.log(np.where(r > 0, r, 1)) * r**2, 0))(distances(x))
        ),
        lambda x: 2 * np.sum(distances(x)[PAIRS] ** 2 * np.log(distances(x)[PAIRS])),
    ),
    "a lengthscale": (
        lambda x: np.sum(np.exp(-distances(x / (1 + x[2] ** 2)))),
        lambda x: 3 + 2 * np.sum(np.exp(-distances(x / (1 + x[2] ** 2))[PAIRS])),
    ),
    "a selection": (
        lambda x: np.sum(np.exp(norm(x.reshape(3, 2), axis=1))[1:]),
        lambda x: np.sum(np.exp(norm(x[2:].reshape(2, 2), axis=1))),
    ),
    "a boolean mask": (
        lambda x: np.sum(np.sin(norm(x.reshape(3, 2), axis=1)[np.array([False, True, True])])),
        lambda x: np.sum(np.sin(norm(x[2:].reshape(2, 2), axis=1))),
    ),
    "weights of 0": (
        lambda x: np.sum(np.array([0.0, 1, 1]) * np.cosh(norm(x.reshape(3, 2), axis=1))),
        lambda x: np.sum(np.cosh(norm(x[2:].reshape(2, 2), axis=1))),
    ),
    "a choice": (
        lambda x: np.sum((lambda r: np.where(r > 0, np.exp(-r), 0))(norm(x.reshape(3, 2), axis=1))),
        lambda x: np.sum(np.exp(-norm(x[2:].reshape(2, 2), axis=1))),
    ),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_spoils_nothing(name):
    fun, without = LEFT_OUT[name]
    f = nbhvp.differentiable(without, target="interpret")
    np.testing.assert_allclose(
        nbhvp.differentiable(fun, target="interpret").grad(POINTS), f.grad(POINTS), 1e-12, 1e-12
    )
    for product in products(fun, POINTS, W):
        np.testing.assert_allclose(product, f.hvp(POINTS, W), rtol=1e-12, atol=1e-12)


def test_only_the_length_that_is_0_has_no_second_derivative():
    for product in products(lambda x: np.sum(norm(x, axis=1)), ROWS, np.ones((2, 2))):
        assert np.isnan(product[0]).all()
        np.testing.assert_allclose(product[1], [4 / 125, -3 / 125])


def test_first_derivatives_at_0_are_those_of_the_convention():
    """In forward and in reverse mode, alone and in a sum."""
    f = nbhvp.differentiable(lambda x: norm(x, axis=1) * np.array([5.0, 1.0]), target="interpret")
    v = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(f.jvp(ROWS, v), [0, 5])
    np.testing.assert_allclose(f.vjp(ROWS, np.ones(2)), [[0, 0], [0.6, 0.8]])
    assert np.isnan(f.weighted_hessian(ROWS, np.ones(2)) @ v.ravel()).tolist() == [1, 1, 0, 0]
    squares = nbhvp.differentiable(lambda x: norm(x, axis=1) ** 2, target="interpret")
    np.testing.assert_allclose(squares.jvp(ROWS, v), [0, 50])
    np.testing.assert_allclose(squares.weighted_hessian(ROWS, [1.0, 3.0]) @ v.ravel(), [2, 4, 18, 24])  # fmt: skip


def test_check_names_the_line():
    def energy(x):
        r = norm(x)  # a length
        return np.sum(x) + np.cosh(r)

    report = nbhvp.check(energy, np.zeros(2))
    assert not report.passed
    line = energy.__code__.co_firstlineno + 1
    assert f"test_lengths.py:{line}" in str(report)


@pytest.mark.compiles
@pytest.mark.no_cover
def test_compiled():
    """All of them in one function of one x, against the interpreter."""
    chosen = ["norm", "scaled", "einsum", "complex", "std", "abs"]
    names = ["cosh", "Matern 3/2", "3-norm", "hypot"]

    def joint(x):
        total = sum(SQUARES[name][0](x[:4]) for name in chosen)
        total += sum(UNKNOWN[name](x[4 * k + 4 : 4 * k + 8]) for k, name in enumerate(names))
        return total + LEFT_OUT["and a function of the sum"][0](x[20:])

    x, v = np.concatenate([EQUAL, np.zeros(16), POINTS]), np.concatenate([np.tile(V, 5), W])
    f, needed = nbhvp.differentiable(joint), nbhvp.differentiable(joint, target="interpret")
    np.testing.assert_allclose(f.grad(x), needed.grad(x), rtol=1e-12, atol=1e-12)
    product = needed.hvp(x, v)
    assert np.isnan(product[4:20]).all() and np.isfinite(product[20:]).all()
    np.testing.assert_allclose(f.hvp(x, v), product, rtol=1e-11, atol=1e-12)
    many = np.stack([v, 2 * v, -v], axis=-1)
    np.testing.assert_allclose(f.hvp(x, many), np.stack([product, 2 * product, -product], -1), rtol=1e-11, atol=1e-12)  # fmt: skip


def test_value_and_gradient_compute_nothing_more():
    """The graph of a gradient has a corner's root alone, once it is lowered."""
    from nbhvp.graph import derive
    from nbhvp.graph.node import Graph
    from nbhvp.plan.lower import lower

    pool = Pool()
    x = p.input_node(pool, "x", (3,), np.dtype(float))
    r = lengths.root(p.sum_(x * x, axes=(0,)))
    graph = lower(Graph((x,), (r, derive.gradient(p.exp(r), x))))
    special = {e for e in vars(lengths).values() if isinstance(e, p.Primitive)}
    assert not special & {node.primitive for node in graph.nodes}
