"""What loops may call beside arithmetic: linear algebra, numerics, classes.

The oracle is the same source followed as a function of NumPy, with its loops unrolled: another
front end, whose rules are other ones. Many results are packed into each function, since compiling is
what these tests cost.
"""

import math
from collections import namedtuple

import numpy as np
import pytest
from numba import cfunc, float64, guvectorize, int64, njit, objmode, stencil, typed, vectorize
from numba.experimental import jitclass

import nbhvp

pytestmark = pytest.mark.compiles

X = np.array([0.7, -0.4, 1.3, 0.2, -1.1, 0.9])
CONSTANT = np.array([[2.0, 0.3, -0.4], [0.1, 1.5, 0.2], [0.3, -0.2, 1.8]])
KNOTS = np.array([-2.0, -1.0, 0.5, 2.0])
WEIGHTS = np.array([0.2, 0.5, 0.3])


def assert_same(loops, plain, x):
    """The same values, Jacobian and weighted Hessian."""
    f = nbhvp.differentiable(loops, loops=True, target="interpret")
    g = nbhvp.differentiable(plain, loops=False, target="interpret")
    needed = g(x)
    w = np.cos(np.arange(np.size(needed)))
    np.testing.assert_allclose(f(x), needed, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(
        f.jacobian(x).toarray(), g.jacobian(x).toarray(), rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(
        f.weighted_hessian(x, w).toarray(),
        g.weighted_hessian(x, w).toarray(),
        rtol=1e-9,
        atol=1e-11,
    )
    assert f.report().loops and not g.report().loops


@njit
def matrix(x, n):
    a = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            a[i, j] = math.sin(x[i] + 2.0 * x[j] * (i + 1)) + (2.0 if i == j else 0.0)
    return a


@njit
def solves(x):
    a = matrix(x, 3)
    out = [0.0]
    for n in range(1, 6):
        b = matrix(x, n)
        sign, size = np.linalg.slogdet(b)
        out.append(np.linalg.det(b) + sign * size)
    inverse = np.linalg.inv(a)
    for x_i in np.linalg.solve(a, x[:3]):
        out.append(x_i)
    factor = np.linalg.cholesky(a @ a.T)
    power = np.linalg.matrix_power(a, -3) + np.linalg.matrix_power(a, 2)
    for i in range(3):
        out.append(inverse[i, 0] * inverse[2, i])
        out.append(factor[i, 0] * factor[2, i] + power[i, 1])
    return out


@njit
def products(x):
    a, p, q = matrix(x, 3), x[:3].copy(), x[3:].copy()
    out = [np.trace(a), np.trace(a, 1), np.vdot(p, q), np.outer(p, q)[2, 1], np.dot(a, p)[0]]
    for i in range(3):
        out.append(np.cross(p, q)[i] * np.cross(a, CONSTANT)[i, 1])
    for order in (1.0, 2.0, 3.0, np.inf, -np.inf):
        out.append(np.linalg.norm(x, order))
    for order in (1.0, -1.0, np.inf, -np.inf):
        out.append(np.linalg.norm(a, order))
    b = np.zeros((3, 3))
    np.fill_diagonal(b, x[0])
    return out + [np.linalg.norm(x), np.linalg.norm(a), b[1, 1] * b[0, 1]]


@njit
def sequences(x):
    k = WEIGHTS * x[0]
    out = [0.0]
    for made in [
        np.linspace(x[0], x[1], 4),
        np.convolve(x, k),
        np.convolve(WEIGHTS, x, "same"),
        np.convolve(x, k, "valid"),
        np.correlate(x, k),
        np.correlate(k, x, "full"),
        np.correlate(x, WEIGHTS, "same"),
        np.append(x, k),
        np.append(x, x[0] * x[1]),
        np.ediff1d(x),
        np.unwrap(5.0 * x),
        np.stack((x, x * x)).ravel(),
        np.sinc(x),
        np.sinc(1e-3 * x),
        np.nan_to_num(x),
        np.bincount(np.array([0, 1, 3, 0, 1, 3]), x),
    ]:
        for i in range(made.size):
            out.append(made[i] * (i + 1.0))
    return out


@njit
def statistics(x):
    y = x.copy()
    y[2] = np.nan
    rows = (x * x[0]).reshape(2, 3)
    out = [np.percentile(x, 30.0), np.quantile(x, 0.7), np.median(x), np.ptp(x), np.average(x)]
    for made in (
        np.interp(x, KNOTS, KNOTS**2),
        np.interp(np.array([-3.0, -0.3, 0.4, 9.0]), np.linspace(-1.0, 2.0, 6), x),
        np.percentile(x, np.array([10.0, 50.0, 100.0])),
        np.cov(rows).ravel(),
    ):
        for value in made:
            out.append(value)
    for i in range(3):
        out.append(np.interp(x[i], KNOTS, KNOTS**2) ** 2)
        out.append(x[i] * np.searchsorted(KNOTS, x[i]))
        out.append(x[i] * np.searchsorted(KNOTS, x, "right")[i] * np.digitize(x, KNOTS)[i])
        if np.isclose(x[i], 0.2) or np.isclose(x, 1.3)[i]:
            out.append(x[i] ** 2)
    return out + [np.nansum(y), np.nanmax(y), np.nanmedian(y), np.sum(np.nan_to_num(y))]


PACKS = [solves, products, sequences, statistics]


@pytest.mark.parametrize("function", PACKS, ids=lambda f: f.__name__)
def test_loops_and_the_same_source_in_numpy(function):
    assert_same(function, function.py_func, X)


@njit
def determinant(x, n):
    total = 0.0
    for _ in range(1):
        total += np.linalg.det(x.reshape((n, n)))
    return total


def by_minors(a):
    """The determinant as its sum of products."""
    if len(a) == 1:
        return a[0, 0]
    minors = (np.delete(a[1:], j, axis=1) for j in range(len(a)))
    return sum((-1) ** j * a[0, j] * by_minors(minor) for j, minor in enumerate(minors))


@pytest.mark.parametrize("rank", range(5))
@pytest.mark.parametrize("n", [1, 3, 4, 5])
def test_determinants_of_singular_matrices(n, rank):
    """Of exact rank: value, gradient and product are those of a polynomial."""
    rng = np.random.default_rng(n)
    left, right = rng.integers(-2, 3, (n, min(rank, n))), rng.integers(-2, 3, (min(rank, n), n))
    x, v = (left @ right).astype(float).ravel(), rng.normal(size=n * n)
    f = nbhvp.differentiable(determinant, target="interpret")

    def g(x):
        return by_minors(x.reshape(n, n))

    np.testing.assert_allclose(f(x, n), g(x), atol=1e-10)
    gradient = [g(x + e) - g(x) for e in np.eye(n * n)]  # linear in each element
    np.testing.assert_allclose(f.grad(x, n), gradient, atol=1e-10)
    step = 1e-4
    slopes = f.grad(x + step * v, n) - f.grad(x - step * v, n)
    np.testing.assert_allclose(f.hvp(x, v, n), slopes / (2.0 * step), atol=1e-5)


def test_a_singular_system_is_an_error_of_the_function():
    @njit
    def solved(x):
        return np.linalg.solve(np.outer(x, x), x)[0]

    f = nbhvp.differentiable(solved, loops=True, target="interpret")
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        f(np.zeros(2))


@njit
def scaled(x):
    total = 0.0
    for value in x:
        part, exponent = math.frexp(value)
        total += part * value * exponent + math.ldexp(value, 2) + np.angle(value) * value
    return total


def test_parts_and_exponents():
    x = np.array([0.7, -0.4, 1.0, 0.2, -2.0, 9.0, 0.5])
    exponents = np.frexp(x)[1]
    needed = 2.0 * x * exponents / 2.0**exponents + 4.0 + np.angle(x)
    f = nbhvp.differentiable(scaled, target="interpret")
    np.testing.assert_allclose(f.grad(x), needed, rtol=1e-14)
    np.testing.assert_allclose(f(x), scaled(x), rtol=1e-14)


# Containers, and variables that may be None.

Parameters = namedtuple("Parameters", "scale weights count")
PARAMETERS = Parameters(1.5, np.array([1.0, 2.0, 3.0]), 3)


@njit
def containers(x, p):
    numbers = typed.List.empty_list(float64)
    rows = typed.List.empty_list(float64[:])
    sums = {0: 0.0}
    table = typed.Dict.empty(int64, float64)
    best, last, total = None, None, 0.0
    for i in range(x.size):
        numbers.append(x[i] ** 2)
        sums[i % 2] = sums.get(i % 2, 0.0) + float64(x[i])
        table[i % 3] = x[i] * x[0]
        rows.append(x[i:] * x[0])
        if best is None or x[i] > best:
            best = x[i]
        if last is not None:
            total += (x[i] - last) ** 2
        last = x[i]
    made = Parameters(x[0], x[1:3], 2)
    for i in range(p.count):
        total += p.scale * p.weights[i] * x[i] ** 2 + made.scale * made.weights[0] * numbers[i]
    return total + best**3 + sums[0] * sums[1] + table[1] * table[2] + rows[3][1]


def containers_np(x, p):
    return (
        np.sum(np.diff(x) ** 2)
        + np.sum(p.scale * p.weights * x[:3] ** 2)
        + x[0] * x[1] * np.sum(x[:3] ** 2)
        + np.max(x) ** 3
        + np.sum(x[::2]) * np.sum(x[1::2])
        + x[4] * x[5] * x[0] ** 2
        + x[4] * x[0]
    )


def assert_agree(f, g, x, *args):
    f, g = (nbhvp.differentiable(h, target="interpret") for h in (f, g))
    v = np.cos(np.arange(x.size))
    np.testing.assert_allclose(f(x, *args), g(x, *args), rtol=1e-12)
    np.testing.assert_allclose(f.grad(x, *args), g.grad(x, *args), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(f.hvp(x, v, *args), g.hvp(x, v, *args), rtol=1e-10, atol=1e-12)
    return f


def test_containers():
    assert_agree(containers, containers_np, X, PARAMETERS)


# Functions of numbers over arrays.


@vectorize
def larger(a, b):
    return a * a if a > b else b


@vectorize
def is_large(a):
    return a > 0.5


@njit
def vectorized(x):
    total = larger(x[0], 0.1)
    for value in larger(x.reshape(2, 3), x[:3]).ravel():
        total += value**2
    return total + np.sum(x[is_large(x)] ** 3)


def vectorized_np(x):
    pairs = np.where(x.reshape(2, 3) > x[:3], x.reshape(2, 3) ** 2, x[:3])
    return x[0] ** 2 + np.sum(pairs**2) + np.sum(x[x > 0.5] ** 3)


def test_vectorized_functions_are_elementwise():
    """Even where their source would mean something else of an array."""
    assert_agree(vectorized, vectorized_np, X)


# Complex numbers in and out.


# Classes.


@jitclass([("scale", float64), ("weights", float64[:])])
class Springs:
    def __init__(self, scale, weights):
        self.scale = scale
        self.weights = weights

    def energy(self, x):
        total = 0.0
        for i in range(x.size):
            total += self.weights[i] * x[i] ** 2
        return total * self.scale

    @property
    def twice(self):
        return 2.0 * self.scale


@jitclass([("springs", Springs.class_type.instance_type), ("count", int64)])
class Model:
    def __init__(self, springs):
        self.springs = springs
        self.count = 0

    def step(self, x):
        for _ in range(2):
            self.count += 1
        return self.count * x[0] ** 2

    def fill(self, x):
        for i in range(x.size):
            self.springs.weights[i] = x[i]


@njit
def of_model(x, model):
    total = 0.0
    for i in range(3):
        total += model.springs.energy(x) * x[i] * model.springs.weights[i] * model.springs.twice
    return total


@njit
def makes_models(x):
    model = Model(Springs(x[0], x * x))
    total = 0.0
    for _ in range(2):
        total += model.step(x)
    return total + model.springs.energy(x)


def of_model_np(x, scale, weights):
    return np.sum(weights * x**2) * scale * np.sum(x[:3] * weights[:3]) * 2.0 * scale


def test_instances_made_inside():
    assert_agree(makes_models, lambda x: 6.0 * x[0] ** 2 + x[0] * np.sum(x**4), X)


def test_instances_closed_over_are_watched():
    weights = np.arange(1.0, 7.0)
    model = Model(Springs(1.5, weights))
    f = nbhvp.differentiable(
        lambda x: of_model(x, model) + model.springs.scale * x[0] + model.springs.energy(x),
        target="interpret",
    )

    def check(scale, weights):
        g = nbhvp.differentiable(
            lambda x: (
                of_model_np(x, scale, weights) + scale * x[0] + scale * np.sum(weights * x**2)
            ),
            target="interpret",
        )
        np.testing.assert_allclose(f.grad(X), g.grad(X), rtol=1e-12)
        np.testing.assert_allclose(f.hvp(X, X), g.hvp(X, X), rtol=1e-12)

    check(1.5, weights)
    weights[1] = 5.0
    check(1.5, weights)
    model.springs.scale = 2.0
    check(2.0, weights)
    model.springs.weights = np.ones(6)
    check(2.0, np.ones(6))
    model.springs = Springs(3.0, weights)
    check(3.0, weights)


RECORDS = np.array([(1.0, 2), (3.0, 4)], dtype=[("w", "f8"), ("k", "i8")])


@njit
def of_records(x, records):
    total = 0.0
    for i in range(records.size):
        total += records[i].w * x[records[i].k] ** 2 + RECORDS["w"][i] * x[0]
    return total


def test_structured_arrays():
    records = RECORDS.copy()
    f = nbhvp.differentiable(lambda x: of_records(x, records), target="interpret")
    np.testing.assert_allclose(f.grad(X), [4.0, 0.0, 2.0 * X[2], 0.0, 6.0 * X[4], 0.0])
    records["w"][0] = 5.0
    records["k"][1] = 2
    np.testing.assert_allclose(f.grad(X), [4.0, 0.0, 16.0 * X[2], 0.0, 0.0, 0.0])


# Arrays made outside that a compiled function writes.


@njit
def squares(x, out):
    for i in range(x.size):
        out[i] = x[i] ** 2


@njit
def adds_squares(x, out):
    for i in range(x.size):
        out[i] += x[i] ** 2


WRITERS = {
    "whole": (lambda x, out: squares(x, out[:6]), lambda x: np.append(x**2, 7.0)),
    "part": (lambda x, out: squares(x[:2], out[1:3]), lambda x: [7.0, *x[:2] ** 2, *[7.0] * 4]),
    "twice": (
        lambda x, out: (squares(x, out), squares(x * out[:6], out)),
        lambda x: np.append(x**6, 7.0),
    ),
    "strided": (
        lambda x, out: squares(x[:3], out[:6:2]),
        lambda x: [x[0] ** 2, 7.0, x[1] ** 2, 7.0, x[2] ** 2, 7.0, 7.0],
    ),
    "added": (lambda x, out: adds_squares(x, out), lambda x: np.append(7.0 + x**2, 7.0)),
}


@pytest.mark.filterwarnings("ignore:a compiled function writes into an array")
@pytest.mark.parametrize("writer", WRITERS)
def test_scratch_arrays_made_outside(writer):
    buffer = np.full(7, 7.0)
    write, result = WRITERS[writer]

    def loops(x):
        write(x, buffer)
        return np.sum(buffer**3) + buffer[0] * buffer[2]

    def plain(x):
        out = np.stack(list(result(x)))
        return np.sum(out**3) + out[0] * out[2]

    for x in (X, X + 1.0):
        f = assert_agree(loops, plain, x)
    np.testing.assert_array_equal(buffer, np.full(7, 7.0))
    np.testing.assert_allclose(f.grad(X), nbhvp.differentiable(plain, target="interpret").grad(X))


def test_what_is_written_outside_is_told_once():
    buffer = np.zeros(6)

    def fun(x):
        squares(x, buffer)
        return np.sum(buffer)

    f = nbhvp.differentiable(fun, target="interpret")
    with pytest.warns(UserWarning, match="writes into an array that is made outside") as caught:
        f.grad(X)
    assert [warning.filename for warning in caught] == [__file__]
    f.grad(X + 1.0)


VIEWED = np.ones(8)
VIEW = VIEWED[2:]


@pytest.mark.filterwarnings("ignore:a compiled function writes into an array")
@pytest.mark.parametrize(
    "read",
    [
        lambda x, a: (np.sum(VIEW), squares(x, VIEWED))[0] * x[0],
        lambda x, a: (squares(x, VIEWED), np.sum(VIEW) * x[0])[1],
        lambda x, a: (squares(x, VIEWED), a[0] * x[0])[1],
    ],
    ids=["view read before", "view read after", "argument"],
)
def test_memory_that_is_written_outside_and_shared(read):
    with pytest.raises(nbhvp.TraceError, match=r"test_loop_library\.py:\d+.*give copies"):
        nbhvp.differentiable(read, target="interpret").grad(X, VIEW)
    np.testing.assert_array_equal(VIEWED, 1.0)


# What cannot work.


@guvectorize([(float64[:], float64[:])], "(n)->(n)")
def generalized(a, out):
    for i in range(a.size):
        out[i] = a[i] ** 2


@stencil
def neighbours(a):
    return a[-1] + a[1]


@cfunc("float64(float64)")
def callback(a):
    return a * a


@njit
def calls_generalized(x):
    out = np.empty_like(x)
    for _ in range(1):
        generalized(x, out)
    return out[0]


@njit
def calls_stencil(x):
    total = 0.0
    for _ in range(1):
        total += np.sum(neighbours(x))
    return total


@njit
def calls_callback(x):
    total = 0.0
    for value in x:
        total += callback(value)
    return total


@njit
def calls_python(x):
    total = 0.0
    for value in x:
        with objmode(y="float64"):
            y = abs(value)
        total += y
    return total


@njit
def orders_complex(x):
    total = 0.0
    for value in x:
        if 1j * value > 0.0:
            total += value
    return total


@njit
def decomposes(x):
    total = 0.0
    for _ in range(1):
        total += np.linalg.eigh(np.outer(x, x))[0][0]
    return total


REFUSED = {
    calls_generalized: "a function under @guvectorize cannot be recorded",
    calls_stencil: "a function under @stencil cannot be recorded",
    calls_callback: "a function under @cfunc cannot be recorded",
    calls_python: "a block in object mode cannot be recorded",
    orders_complex: "gt of traced values cannot be recorded",
    decomposes: "eigh of traced values cannot be recorded; .* in a function of NumPy",
}


@pytest.mark.parametrize("function", REFUSED, ids=lambda f: f.__name__)
def test_refusals_name_the_line(function):
    with pytest.raises(nbhvp.TraceError, match=REFUSED[function]) as caught:
        nbhvp.differentiable(function, target="interpret").grad(X)
    assert str(caught.value).startswith(__file__)


def test_an_instance_from_outside_is_not_assigned():
    model = Model(Springs(1.0, np.ones(6)))
    with pytest.raises(nbhvp.TraceError, match=r"attribute \.count of an instance from outside"):
        nbhvp.differentiable(lambda x: model.step(x), target="interpret").grad(X)

    def assigns(x):
        model.count = 3
        return np.sum(x)

    with pytest.raises(nbhvp.TraceError, match=r"attribute \.count of an instance from outside"):
        nbhvp.differentiable(assigns, target="interpret").grad(X)
    assert model.count == 0


def test_a_structured_array_is_not_written():
    @njit
    def writes(x, records):
        for i in range(records.size):
            records[i].w = 2.0
        return x[0]

    with pytest.raises(nbhvp.TraceError, match="writes into a structured array"):
        nbhvp.differentiable(lambda x: writes(x, RECORDS), target="interpret").grad(X)
    assert RECORDS["w"][0] == 1.0
