"""Functions with loops, under @njit: the same answers as in NumPy, and as in many digits.

`PAIRS` are functions written both ways. `LOOPS` have no NumPy form; their oracle runs the same
source in mpmath's numbers of 60 digits, where differences with steps of 1e-20 have 40 of them.
"""

import functools
import math
import pickle
import types
from dataclasses import dataclass

import mpmath
import numpy as np
import pytest
from numba import njit, prange
from scipy.special import logsumexp

import nbhvp
from nbhvp.runtime import memory

pytestmark = pytest.mark.compiles

RNG = np.random.default_rng(8)
X = np.array([0.7, -0.4, 1.3, 0.2, -1.1, 0.9])
GRID = RNG.normal(size=(4, 5))
POINTS = 1.1 * np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), -1).reshape(-1, 3)
POINTS = POINTS + 0.05 * RNG.normal(size=POINTS.shape)
MATRIX = RNG.normal(size=(6, 6))
DATA = RNG.normal(size=(7, 6))
LABELS = np.where(RNG.random(7) < 0.5, -1.0, 1.0)
WEIGHTS = RNG.uniform(0.5, 1.5, size=6)
PLACES = np.array([2, 0, 2, 1, 0, 2])
MASK = np.array([True, False, True, True, False, True])


# Written both ways.


@njit
def rosenbrock(x):
    total = 0.0
    for i in range(x.size - 1):
        total += 100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2
    return total


def rosenbrock_np(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


@njit
def quadratic(x, matrix):
    total = 0.0
    for i in range(len(x)):
        for j in range(len(x)):
            total += matrix[i, j] * x[i] * x[j]
    return total


def quadratic_np(x, matrix):
    return x @ matrix @ x


@njit
def logistic(w, data, labels):
    total = 0.0
    for i in range(data.shape[0]):
        margin = 0.0
        for j in range(data.shape[1]):
            margin += data[i, j] * w[j]
        total += math.log1p(math.exp(-labels[i] * margin))
    return total / data.shape[0]


def logistic_np(w, data, labels):
    return np.mean(np.log1p(np.exp(-labels * (data @ w))))


@njit
def log_sum_exp(x):
    largest = x[0]
    for value in x:
        largest = max(largest, value)
    total = 0.0
    for value in x:
        total += np.exp(value - largest)
    return largest + np.log(total)


@njit
def all_pairs(x):
    energy = 0.0
    for i in range(x.shape[0]):
        for j in range(i):
            r2 = 0.0
            for k in range(x.shape[1]):
                r2 += (x[i, k] - x[j, k]) ** 2
            energy += 4.0 * (r2**-6 - r2**-3)
    return energy


def all_pairs_np(x):
    i, j = np.tril_indices(len(x), -1)
    r2 = np.sum((x[i] - x[j]) ** 2, axis=1)
    return 4.0 * np.sum(r2**-6 - r2**-3)


@njit
def periodic(spins):
    rows, columns = spins.shape
    energy = 0.0
    for i in range(rows):
        for j in range(columns):
            right, below = spins[i, (j + 1) % columns], spins[(i + 1) % rows, j]
            energy -= math.cos(spins[i, j] - right) + math.cos(spins[i, j] - below)
    return energy


def periodic_np(spins):
    sides = (np.roll(spins, -1, axis=axis) for axis in (0, 1))
    return -sum(np.sum(np.cos(spins - side)) for side in sides)


@njit
def surface(x):
    m, n = x.shape
    z = np.zeros((m + 2, n + 2))
    z[1:-1, 1:-1] = x
    area = 0.0
    for i in range(m + 1):
        for j in range(n + 1):
            p = z[i + 1, j + 1] - z[i, j]
            q = z[i + 1, j] - z[i, j + 1]
            area += math.sqrt(1.0 + p * p + q * q)
    return area


def surface_np(x):
    z = np.pad(x, 1)
    p, q = z[1:, 1:] - z[:-1, :-1], z[1:, :-1] - z[:-1, 1:]
    return np.sum(np.sqrt(1.0 + p**2 + q**2))


@njit
def residuals(x, data, labels):
    out = np.empty(data.shape[0])
    for i in range(data.shape[0]):
        out[i] = np.dot(data[i], x) ** 2 - labels[i]
    return out


def residuals_np(x, data, labels):
    return (data @ x) ** 2 - labels


@njit
def horner(x, coefficients):
    total = 0.0
    for value in x:
        power = 0.0
        for c in coefficients:
            power = power * value + c
        total += power
    return total


def horner_np(x, coefficients):
    return np.sum(sum(c * x**k for k, c in enumerate(coefficients[::-1])))


@njit
def running_sums(x):
    sums = np.zeros_like(x)
    sums[0] = x[0]
    for i in range(1, x.size):
        sums[i] = sums[i - 1] + x[i]
    return np.sum(sums**3)


def running_sums_np(x):
    return np.sum(np.cumsum(x) ** 3)


@njit
def product(x):
    result = 1.0
    for value in x:
        result *= value
    return result


@njit
def moving_average(x, weights):
    total = 0.0
    for i in range(x.size - 2):
        local = 0.0
        for k in range(3):
            local += weights[k] * x[i + k]
        total += local * local * local
    return total


def moving_average_np(x, weights):
    return np.sum(sum(weights[k] * x[k : x.size - 2 + k] for k in range(3)) ** 3)


@njit
def matrix_product(x, matrix):
    m, n = x.shape
    out = np.zeros((m, 6))
    for i in range(m):
        for j in range(6):
            for k in range(n):
                out[i, j] += x[i, k] * matrix[k, j]
    return np.sum(np.sin(out))


def matrix_product_np(x, matrix):
    return np.sum(np.sin(x @ matrix[:5]))


@njit
def variance(x):
    mean = np.mean(x)
    total = 0.0
    for value in x:
        total += (value - mean) ** 2
    return total / x.size


@njit
def largest(x):
    best = x[0]
    for i in range(1, x.size):
        if x[i] > best:
            best = x[i]
    return best**3


@njit
def clipped(x):
    total = 0.0
    for value in x:
        if value < -0.5:
            value = -0.5
        elif value > 1.0:
            value = 1.0
        total += value * value * value
    return total


def clipped_np(x):
    return np.sum(np.clip(x, -0.5, 1.0) ** 3)


@njit
def masked(x, mask):
    total = 0.0
    for i in range(x.size):
        if not mask[i]:
            continue
        total += x[i] ** 4
    return total


def masked_np(x, mask):
    return np.sum(x[mask] ** 4)


@njit
def zipped(x, weights):
    total = 0.0
    for i, (w, value) in enumerate(zip(weights, x)):  # noqa: B905
        total += (i + 1) * w * math.sin(value)
    return total


def zipped_np(x, weights):
    return np.sum(np.arange(1, x.size + 1) * weights * np.sin(x))


@njit
def stops_early(x, count):
    total, i = 0.0, 0
    while True:
        if i == count:
            break
        total += x[i] * x[i + 1]
        i += 1
    return total


def stops_early_np(x, count):
    return np.sum(x[:count] * x[1 : count + 1])


@njit
def distances(x, y):
    out = np.empty((x.shape[0], y.shape[0]))
    for i in range(x.shape[0]):
        for j in range(y.shape[0]):
            difference = x[i] - y[j]
            out[i, j] = np.sqrt(np.sum(difference * difference))
    return out


def distances_np(x, y):
    return np.sqrt(np.sum((x[:, None] - y) ** 2, axis=-1))


@njit
def network(x, data):
    loss = 0.0
    for i in range(data.shape[0]):
        out = 0.0
        for h in range(x.shape[0]):
            z = 0.0
            for k in range(x.shape[1]):
                z += x[h, k] * data[i, k]
            out += math.tanh(z)
        loss += out * out
    return loss


def network_np(x, data):
    return np.sum(np.sum(np.tanh(data[:, :5] @ x.T), axis=1) ** 2)


@njit
def heat(x, steps):
    u = x.copy()
    new = np.empty_like(u)
    for _ in range(steps):
        new[0], new[-1] = u[0], u[-1]
        for i in range(1, u.size - 1):
            new[i] = u[i] + 0.2 * (u[i + 1] - 2.0 * u[i] + u[i - 1]) - 0.1 * u[i] ** 3
        u, new = new, u
    return np.sum(u * u)


def heat_np(x, steps):
    u = x
    for _ in range(steps):
        flow = 0.2 * (u[2:] - 2.0 * u[1:-1] + u[:-2]) - 0.1 * u[1:-1] ** 3
        u = np.concatenate((u[:1], u[1:-1] + flow, u[-1:]))
    return np.sum(u * u)


@njit
def row_norms(x):
    total = 0.0
    for row in x:
        total += math.sqrt(np.dot(row, row)) + np.max(row) * np.mean(row)
    return total


def row_norms_np(x):
    return np.sum(np.sqrt(np.sum(x * x, axis=1)) + np.max(x, axis=1) * np.mean(x, axis=1))


@njit
def two_results(x):
    first, second = 0.0, 0.0
    for value in x:
        first += math.exp(value)
        second += first * value
    return first, second


def two_results_np(x):
    return np.sum(np.exp(x)), np.sum(np.cumsum(np.exp(x)) * x)


@njit
def binned(x, places):
    bins = np.zeros(3)
    for i in range(x.size):
        bins[places[i]] += x[i] ** 2
    return np.sum(np.exp(bins))


def binned_np(x, places):
    bins = np.zeros(3)
    np.add.at(bins, places, x**2)
    return np.sum(np.exp(bins))


@njit
def integral(x, points):
    step = 2.0 / points
    total = 0.0
    for k in range(points + 1):
        t = k * step
        weight = 0.5 if k == 0 or k == points else 1.0
        total += weight * math.exp(-x[0] * t) * math.cos(x[1] * t)
    return step * total


def integral_np(x, points):
    t = np.linspace(0.0, 2.0, points + 1)
    return np.trapezoid(np.exp(-x[0] * t) * np.cos(x[1] * t), t)


@njit
def power_mean(x, exponent):
    total = 0.0
    for value in x:
        total += abs(value) ** exponent
    return (total / x.size) ** (1.0 / exponent)


def power_mean_np(x, exponent):
    return np.mean(np.abs(x) ** exponent) ** (1.0 / exponent)


@njit
def morse(r2, depth):
    bond = 1.0 - math.exp(1.0 - math.sqrt(r2))
    return depth * bond * bond


@njit
def bonds(x, first, second, depth):
    energy = 0.0
    for i, j in zip(first, second):  # noqa: B905
        energy += morse(np.sum((x[i] - x[j]) ** 2), depth)
    return energy


def bonds_np(x, first, second, depth):
    r2 = np.sum((x[first] - x[second]) ** 2, axis=1)
    return depth * np.sum((1.0 - np.exp(1.0 - np.sqrt(r2))) ** 2)


@njit
def closes_over(x):
    total = 0.0
    for i in prange(x.size):
        total += WEIGHTS[i] * x[i] ** 3
    return total


def closes_over_np(x):
    return np.sum(WEIGHTS * x**3)


@njit
def mixture(x, data):
    total = 0.0
    for i in range(data.shape[0]):
        density = 0.0
        for k in range(x.size):
            density += math.exp(-0.5 * (data[i, 0] - x[k]) ** 2)
        total -= math.log(density / x.size)
    return total


def mixture_np(x, data):
    return -np.sum(logsumexp(-0.5 * (data[:, :1] - x) ** 2, axis=1) - np.log(x.size))


@dataclass(frozen=True)
class Pair:
    """One function written with loops and in NumPy, and where to compare them."""

    loops: object
    plain: object
    x: np.ndarray
    args: tuple = ()


PAIRS = [
    Pair(rosenbrock, rosenbrock_np, X),
    Pair(quadratic, quadratic_np, X, (MATRIX,)),
    Pair(logistic, logistic_np, X, (DATA, LABELS)),
    Pair(log_sum_exp, logsumexp, X),
    Pair(all_pairs, all_pairs_np, POINTS),
    Pair(periodic, periodic_np, GRID),
    Pair(surface, surface_np, GRID),
    Pair(residuals, residuals_np, X, (DATA, LABELS)),
    Pair(horner, horner_np, X, (np.array([0.3, -1.0, 0.5, 2.0]),)),
    Pair(running_sums, running_sums_np, X),
    Pair(product, np.prod, X),
    Pair(moving_average, moving_average_np, X, (WEIGHTS,)),
    Pair(matrix_product, matrix_product_np, GRID, (MATRIX,)),
    Pair(variance, np.var, X),
    Pair(largest, lambda x: np.max(x) ** 3, X),
    Pair(clipped, clipped_np, X),
    Pair(masked, masked_np, X, (MASK,)),
    Pair(zipped, zipped_np, X, (WEIGHTS,)),
    Pair(stops_early, stops_early_np, X, (4,)),
    Pair(distances, distances_np, POINTS, (POINTS[:3] + 0.4,)),
    Pair(network, network_np, GRID, (DATA,)),
    Pair(heat, heat_np, X, (3,)),
    Pair(row_norms, row_norms_np, GRID),
    Pair(two_results, two_results_np, X),
    Pair(binned, binned_np, X, (PLACES,)),
    Pair(integral, integral_np, X, (20,)),
    Pair(power_mean, power_mean_np, X, (3.5,)),
    Pair(bonds, bonds_np, POINTS, (np.array([0, 1, 5, 3]), np.array([1, 2, 0, 7]), 1.5)),
    Pair(closes_over, closes_over_np, X),
    Pair(mixture, mixture_np, X, (DATA,)),
]


def named(pair: Pair) -> str:
    return pair.loops.__name__


def assert_agree(given, needed, tolerance=1e-12) -> None:
    given, needed = np.asarray(given), np.asarray(needed)
    assert given.shape == needed.shape and given.dtype == needed.dtype
    error = np.linalg.norm(given - needed)
    assert error <= tolerance * max(1.0, np.linalg.norm(needed)), f"{given}, needed {needed}"


def assert_same_functions(f, g, x, args) -> None:
    """Values and derivatives of two Functions agree, for one direction and for several."""
    before = x.copy()
    directions = np.random.default_rng(1).normal(size=(*x.shape, 3))
    v = directions[..., 0]
    value = f(x, *args)
    assert_agree(value, g(x, *args))
    if np.ndim(value) == 0:
        assert_agree(f.grad(x, *args), g.grad(x, *args))
        assert_agree(f.hvp(x, v, *args), g.hvp(x, v, *args))
        assert_agree(f.hvp(x, directions, *args), g.hvp(x, directions, *args))
    else:
        w = np.cos(np.arange(value.size)).reshape(value.shape)
        assert_agree(f.jvp(x, v, *args), g.jvp(x, v, *args))
        assert_agree(f.vjp(x, w, *args), g.vjp(x, w, *args))
        hessians = (h.weighted_hessian(x, w, *args) @ v.ravel() for h in (f, g))
        assert_agree(*hessians)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("pair", PAIRS, ids=named)
def test_loops_and_numpy_agree(pair):
    f, g = (nbhvp.differentiable(h, target="interpret") for h in (pair.loops, pair.plain))
    assert_same_functions(f, g, pair.x, pair.args)
    assert f.report().loops


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "function", [rosenbrock, all_pairs, surface, binned], ids=lambda f: f.__name__
)
def test_compiled_loops_and_interpreted_numpy_agree(function):
    pair = next(pair for pair in PAIRS if pair.loops is function)
    f, g = nbhvp.differentiable(function), nbhvp.differentiable(pair.plain, target="interpret")
    assert_same_functions(f, g, pair.x, pair.args)


# Without a NumPy form: against mpmath.


@njit
def fraction(x, depth):
    """A continued fraction, by recursion."""
    if depth == 0:
        return x[0]
    return x[depth % x.size] + 1.0 / (2.0 + fraction(x, depth - 1) ** 2)


@njit
def root(x):
    """The root of u^3 + a u = b by Newton's method, iterated until it stands still."""
    u, step = 1.0, 1.0
    while abs(step) > 1e-13:
        step = (u**3 + x[0] * u - x[1]) / (3.0 * u**2 + x[0])
        u -= step
    return u * u + x[2] * u


@njit
def lorenz_flow(s, parameters):
    sigma, rho, beta = parameters
    return np.array([sigma * (s[1] - s[0]), s[0] * (rho - s[2]) - s[1], s[0] * s[1] - beta * s[2]])


@njit
def lorenz(x, parameters, steps):
    h = 0.01
    s = x
    for _ in range(steps):
        k1 = lorenz_flow(s, parameters)
        k2 = lorenz_flow(s + 0.5 * h * k1, parameters)
        k3 = lorenz_flow(s + 0.5 * h * k2, parameters)
        k4 = lorenz_flow(s + h * k3, parameters)
        s = s + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
    return s[0] * s[1] + s[2]


@njit
def pendulum_flow(a, b, p, q):
    """Angles and angular velocities of two pendulums of length and mass 1."""
    d = a - b
    c, s = math.cos(d), math.sin(d)
    low = 2.0 - c * c
    p_dot = (-s * (q * q + c * p * p) - 9.81 * (2.0 * math.sin(a) - c * math.sin(b))) / low
    q_dot = (s * (2.0 * p * p + c * q * q) + 19.62 * (c * math.sin(a) - math.sin(b))) / low
    return p, q, p_dot, q_dot


@njit
def double_pendulum(x, steps):
    h = 0.02
    a, b, p, q = x
    for _ in range(steps):
        a1, b1, p1, q1 = pendulum_flow(a, b, p, q)
        a2, b2, p2, q2 = pendulum_flow(
            a + 0.5 * h * a1, b + 0.5 * h * b1, p + 0.5 * h * p1, q + 0.5 * h * q1
        )
        a += h * a2
        b += h * b2
        p += h * p2
        q += h * q2
    return math.sin(a) + math.cos(b) * p + q * q


@njit
def cut_off(x, starts, neighbours, radius):
    """Lennard-Jones over a list of neighbours, with what is beyond the radius left out."""
    energy = 0.0
    for i in range(starts.size - 1):
        for place in range(starts[i], starts[i + 1]):
            j = neighbours[place]
            r2 = 0.0
            for k in range(3):
                r2 += (x[3 * i + k] - x[3 * j + k]) ** 2
            if r2 < radius * radius:
                energy += 4.0 * (r2**-6 - r2**-3)
    return energy


@njit
def thomas(x):
    """u . u for the solution of a tridiagonal system, by elimination."""
    n = x.size
    upper, u = np.empty(n), np.empty(n)
    upper[0], u[0] = 1.0 / (4.0 + x[0]), x[0] / (4.0 + x[0])
    for i in range(1, n):
        pivot = 4.0 + x[i] - upper[i - 1]
        upper[i] = 1.0 / pivot
        u[i] = (x[i] - u[i - 1]) / pivot
    total = u[n - 1] ** 2
    for i in range(n - 2, -1, -1):
        u[i] -= upper[i] * u[i + 1]
        total += u[i] * u[i]
    return total


@njit
def log_determinant(x):
    """Of A = x x^T + 2 I, by Cholesky's factorisation in place."""
    n = x.size
    a = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            a[i, j] = x[i] * x[j]
        a[i, i] += 2.0
    total = 0.0
    for j in range(n):
        for k in range(j):
            a[j, j] -= a[j, k] ** 2
        a[j, j] = math.sqrt(a[j, j])
        total += 2.0 * math.log(a[j, j])
        for i in range(j + 1, n):
            for k in range(j):
                a[i, j] -= a[i, k] * a[j, k]
            a[i, j] /= a[j, j]
    return total


@njit
def shortest_path(x, width):
    """The least sum of costs from top to bottom, each step going down or down and aside."""
    best = np.zeros(width)
    for i in range(x.size // width):
        new = np.empty(width)
        for j in range(width):
            least = best[j]
            if j > 0:
                least = min(least, best[j - 1])
            if j < width - 1:
                least = min(least, best[j + 1])
            new[j] = least + x[width * i + j] ** 2
        best = new
    return min(best[0], min(best[1], best[2]))


@njit
def smooth_median(x):
    """A mean about the median, by insertion sort."""
    s = x.copy()
    for i in range(1, s.size):
        value, j = s[i], i - 1
        while j >= 0 and s[j] > value:
            s[j + 1] = s[j]
            j -= 1
        s[j + 1] = value
    middle = s.size // 2
    return 0.25 * s[middle - 1] ** 2 + 0.5 * s[middle] * s[middle - 1] + 0.25 * s[middle] ** 3


ANGLES = np.array([1.2, 0.4, -0.3, 0.8])
STARTS, NEIGHBOURS = np.array([0, 3, 5, 6, 6]), np.array([1, 2, 3, 2, 3, 3])
ATOMS = np.array([0.0, 0.1, 0.0, 1.1, 0.0, 0.2, 0.1, 1.2, 0.0, 1.4, 1.3, 0.5])
COSTS = np.array([0.5, 1.2, 0.9, 1.1, 0.3, 0.8, 0.7, 0.6, 1.3])
LOOPS = [
    Pair(fraction, None, X[:3], (5,)),
    Pair(root, None, np.array([0.8, 2.1, 0.3])),
    Pair(lorenz, None, np.array([1.0, 2.0, 20.0]), ((10.0, 28.0, 8.0 / 3.0), 6)),
    Pair(double_pendulum, None, ANGLES, (5,)),
    Pair(cut_off, None, ATOMS, (STARTS, NEIGHBOURS, 1.5)),
    Pair(thomas, None, X),
    Pair(log_determinant, None, X[:4]),
    Pair(shortest_path, None, COSTS, (3,)),
    Pair(smooth_median, None, X),
]


def in_mpmath(function, made: dict | None = None):
    """The Python source of a compiled function, with mpmath in the place of math and NumPy."""
    made = {} if made is None else made
    if function not in made:
        source = function.py_func
        scope = dict(source.__globals__)
        made[function] = types.FunctionType(source.__code__, scope, source.__name__)
        scope.update(math=mpmath, np=MPMATH_ARRAYS)
        for name in source.__code__.co_names:
            if hasattr(scope.get(name), "py_func"):
                scope[name] = in_mpmath(scope[name], made)
    return made[function]


def _filled(shape):
    return np.full(shape, mpmath.mpf(0))


MPMATH_ARRAYS = types.SimpleNamespace(
    zeros=_filled, empty=_filled, array=lambda items: np.array(items, dtype=object)
)


def exact(pair: Pair, v: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Value, gradient and product with v, by differences in 60 digits."""
    fun = in_mpmath(pair.loops)
    with mpmath.workdps(60):
        h = mpmath.mpf(10) ** -20
        x, v = (np.array([mpmath.mpf(float(a)) for a in b], dtype=object) for b in (pair.x, v))
        units = [np.array([mpmath.mpf(i == j) for j in range(x.size)]) for i in range(x.size)]

        def gradient(at):
            slopes = (fun(at + h * e, *pair.args) - fun(at - h * e, *pair.args) for e in units)
            return np.array([slope / (2 * h) for slope in slopes], dtype=object)

        product = (gradient(x + h * v) - gradient(x - h * v)) / (2 * h)
        return float(fun(x, *pair.args)), gradient(x).astype(float), product.astype(float)


@pytest.mark.parametrize("pair", LOOPS, ids=named)
def test_loops_and_many_digits_agree(pair):
    f = nbhvp.differentiable(pair.loops, target="interpret")
    v = np.random.default_rng(2).normal(size=pair.x.shape)
    value, gradient, product = exact(pair, v)
    assert_agree(f(pair.x, *pair.args), np.float64(value))
    assert_agree(f.grad(pair.x, *pair.args), gradient)
    for mode in ("forward-over-reverse", "reverse-over-forward", "reverse-over-reverse"):
        assert_agree(f.hvp(pair.x, v, *pair.args, mode=mode), product, 1e-11)
    assert f.report().loops


@pytest.mark.no_cover
@pytest.mark.parametrize("function", [lorenz, root, thomas], ids=lambda f: f.__name__)
def test_compiled_loops_and_many_digits_agree(function):
    pair = next(pair for pair in LOOPS if pair.loops is function)
    f = nbhvp.differentiable(function)
    v = np.random.default_rng(3).normal(size=pair.x.shape)
    _, gradient, product = exact(pair, v)
    assert_agree(f.grad(pair.x, *pair.args), gradient)
    assert_agree(f.hvp(pair.x, v, *pair.args), product, 1e-11)


# What may change between calls.


@njit
def weighted(x, weights, places, keep, scale, power):
    total = 0.0
    for i in range(x.size):
        if keep[i]:
            total += scale[0] * weights[i] * x[places[i]] ** power + scale[1]
    return total


KEEP = np.ones(6, bool)
ARGUMENTS = (WEIGHTS, PLACES, KEEP, (2.0, 0.5), 3)


def weighted_np(x, weights, places, keep, scale, power):
    return np.sum((scale[0] * weights * x[places] ** power + scale[1])[keep])


CHANGES = {
    "floats": (1, (WEIGHTS + 1.0, PLACES, KEEP, (2.0, 0.5), 3)),
    "numbers": (1, (WEIGHTS, PLACES, KEEP, (-1.0, 0.25), 3)),
    "integers": (2, (WEIGHTS, PLACES[::-1].copy(), KEEP, (2.0, 0.5), 3)),
    "booleans": (2, (WEIGHTS, PLACES, MASK, (2.0, 0.5), 3)),
    "an int": (2, (WEIGHTS, PLACES, KEEP, (2.0, 0.5), 2)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_between_calls(change):
    """Other floats need no new recording, other integers and booleans do."""
    f = nbhvp.differentiable(weighted, target="interpret")
    g = nbhvp.differentiable(weighted_np, target="interpret")
    traces, args = CHANGES[change]
    for arguments in (ARGUMENTS, args, ARGUMENTS, args):
        assert_agree(f(X, *arguments), g(X, *arguments))
        assert_agree(f.hvp(X, np.cos(X), *arguments), g.hvp(X, np.cos(X), *arguments))
    assert f.report().traces == traces


def test_arguments_by_name_and_single_precision():
    f = nbhvp.differentiable(quadratic, target="interpret")
    x = X.astype(np.float32)
    gradient = f.grad(x, matrix=MATRIX.astype(np.float32))
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, (MATRIX + MATRIX.T) @ X, rtol=1e-5)


def test_integers_that_change_in_place_are_seen():
    f = nbhvp.differentiable(binned, target="interpret")
    places = PLACES.copy()
    f.grad(X, places)
    places[0] = 1
    assert_agree(f.grad(X, places), nbhvp.differentiable(binned_np).grad(X, places))


def test_globals_that_change_are_seen(monkeypatch):
    f = nbhvp.differentiable(closes_over, target="interpret")
    assert_agree(f.grad(X), 3.0 * WEIGHTS * X**2)
    monkeypatch.setitem(globals(), "WEIGHTS", WEIGHTS + 1.0)
    assert_agree(f.grad(X), 3.0 * WEIGHTS * X**2)
    WEIGHTS[2] = 5.0
    assert_agree(f.grad(X), 3.0 * WEIGHTS * X**2)


# Where loops and NumPy meet.


def test_numpy_calls_compiled_functions():
    """An energy per pair, a loop over rows and a time step, in one graph."""

    def fun(x):
        rest = heat(np.sin(x), 2) + np.sum(binned(x, PLACES) * x)
        return rest + sum(morse(x[i] ** 2, 1.5) for i in range(3))

    def plain(x):
        r = np.abs(x[:3])
        rest = heat_np(np.sin(x), 2) + np.sum(binned_np(x, PLACES) * x)
        return rest + 1.5 * np.sum((1.0 - np.exp(1.0 - r)) ** 2)

    f, g = (nbhvp.differentiable(h, target="interpret") for h in (fun, plain))
    assert_same_functions(f, g, X, ())
    names = [call.function.partition(" ")[0] for call in f.report().loops]
    assert names == ["heat", "binned"]  # morse has no loop: it is traced as NumPy


def test_a_differentiable_function_with_loops_inside_another():
    inner = nbhvp.differentiable(variance)
    f = nbhvp.differentiable(lambda x: inner(x) ** 2, target="interpret")
    g = nbhvp.differentiable(lambda x: np.var(x) ** 2, target="interpret")
    assert_same_functions(f, g, X, ())
    first = nbhvp.differentiable(lambda x: inner.grad(x)[0], target="interpret")
    assert_agree(first.grad(X), 2.0 / X.size * (np.arange(X.size) == 0) - 2.0 / X.size**2)


@njit
def doubles(x, count):
    for i in range(count):
        x[i] = 2.0 * x[i] ** 2
    return x[0]


def test_what_a_compiled_function_writes_its_caller_sees():
    def fun(x):
        y = x.copy()
        first = doubles(y, 3)
        return first + np.sum(y**2)

    def plain(x):
        y = np.concatenate((2.0 * x[:3] ** 2, x[3:]))
        return y[0] + np.sum(y**2)

    f, g = (nbhvp.differentiable(h, target="interpret") for h in (fun, plain))
    assert_same_functions(f, g, X, ())


def test_what_is_written_through_views():
    def fun(x):
        y = np.zeros((3, 6))
        y[1] = x
        y[2] = 3.0 * x
        return doubles(y[1, ::2], 2) + np.sum(y**2)

    def plain(x):
        y = np.concatenate((2.0 * x[:3:2] ** 2, x[1::2], x[4:5], 3.0 * x))
        return y[0] + np.sum(y**2)

    f, g = (nbhvp.differentiable(h, target="interpret") for h in (fun, plain))
    assert_same_functions(f, g, X, ())


@njit
def relax(u, new):
    """A step as Numba users write it: into the caller's array, and nothing returned."""
    for i in range(u.size):
        new[i] = u[i] + 0.2 * (u[i - 1] - 2.0 * u[i] + u[(i + 1) % u.size])


def test_a_step_that_returns_nothing():
    def fun(x):
        u, new = x.copy(), np.empty_like(x)
        for _ in range(3):
            relax(u, new)
            u, new = new, u
        return np.sum(u**3)

    def plain(x):
        for _ in range(3):
            x = x + 0.2 * (np.roll(x, 1) - 2.0 * x + np.roll(x, -1))
        return np.sum(x**3)

    f, g = (nbhvp.differentiable(h, target="interpret") for h in (fun, plain))
    assert_same_functions(f, g, X, ())


@njit
def counts(x, bins):
    for value in x:
        bins[0 if value < 0.0 else 1] += 1
    return np.sum(x * x)


def test_integers_that_are_written():
    def fun(x):
        bins = np.zeros(2, dtype=np.int64)
        return counts(x, bins) * bins[1]

    f = nbhvp.differentiable(fun, target="interpret")
    for x in (X, -X, X):
        assert_agree(f.grad(x), 2.0 * x * np.sum(x >= 0.0))
    assert f.report().traces == 2


@njit
def adds_to(x, y):
    for i in range(x.size):
        y[i] += x[i]
    return 0.0


def test_an_array_that_is_written_and_given_twice():
    def fun(x):
        y = x.copy()
        adds_to(y, y)
        return np.sum(y)

    with pytest.raises(nbhvp.TraceError, match=r"test_loop_functions\.py:\d+ in `adds_to\(y, y\)`"):
        nbhvp.differentiable(fun, target="interpret").grad(X)


def test_inputs_are_not_written():
    before = X.copy()
    f = nbhvp.differentiable(doubles, target="interpret")
    assert_agree(f.grad(X, 3), [4.0 * X[0], 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(X, before)


def test_constants_go_to_the_function_itself():
    f = nbhvp.differentiable(lambda x: x @ residuals(WEIGHTS, DATA[:6], LABELS[:6]))
    assert_agree(f.grad(X), residuals(WEIGHTS, DATA[:6], LABELS[:6]))
    assert f.report().loops == ()


# Options.


def plain_loop(x, weights):
    total = 0.0
    for i in range(x.size):
        total += weights[i] * math.sin(x[i])
    return total


def test_a_plain_function_with_loops():
    f = nbhvp.differentiable(plain_loop, loops=True, target="interpret")
    decorated = nbhvp.differentiable(loops=True, target="interpret")(plain_loop)
    for function in (f, decorated, pickle.loads(pickle.dumps(f))):
        assert_agree(function.hvp(X, np.ones(6), WEIGHTS), -WEIGHTS * np.sin(X))
        assert len(function.report().loops) == 1


def test_a_partial_with_loops():
    f = nbhvp.differentiable(
        functools.partial(plain_loop, weights=WEIGHTS), loops=True, target="interpret"
    )
    assert_agree(f.grad(X), WEIGHTS * np.cos(X))
    assert f.report().loops


@njit
def plain_sum(a):
    """No loop, and nothing that NumPy's trace could follow: the numbers go through float32()."""
    return np.float32(a[0]) * a[1] + np.float32(a[2]) ** 2


def test_what_numpy_cannot_follow_is_recorded():
    """What the attempt in NumPy left behind, a write into the argument and its guards, is undone."""
    f = nbhvp.differentiable(lambda x: writes_first(x.copy()) + plain_sum(x), target="interpret")
    assert_agree(f.grad(X), [8.0 * X[0] + X[1], X[0], 2.0 * X[2], 0.0, 0.0, 0.0])
    assert len(f.report().loops) == 2


@njit
def writes_first(y):
    y[0] = 2.0 * y[0]
    return y[0] * np.float32(y[0])


def test_loops_over_integers_alone():
    @njit
    def triangle(n, places):
        total = 0
        for i in range(n):
            total += places[i]
        return total

    f = nbhvp.differentiable(lambda x, places: triangle(3, places) * np.sum(x), target="interpret")
    for places in (PLACES, PLACES[::-1].copy()):
        assert_agree(f.grad(X, places), np.full(6, float(np.sum(places[:3]))))


def test_complex_numbers_of_single_precision():
    f = nbhvp.differentiable(
        lambda x: horner((1j * x).astype(np.complex64), WEIGHTS).real, target="interpret"
    )
    g = nbhvp.differentiable(lambda x: horner_np(1j * x, WEIGHTS).real, target="interpret")
    np.testing.assert_allclose(f.grad(X), g.grad(X), rtol=1e-5)


def test_loops_may_be_followed_in_python():
    f = nbhvp.differentiable(zipped, loops=False, target="interpret")
    assert_agree(f.grad(X, WEIGHTS), np.arange(1, 7) * WEIGHTS * np.cos(X))
    assert f.report().loops == ()


@pytest.mark.parametrize("limit", [0, -1, math.nan, "1 GB", None])
def test_the_limit_of_a_tape_must_be_a_number_of_bytes(limit):
    with pytest.raises(ValueError, match="tape_limit must be a positive number of bytes"):
        nbhvp.differentiable(rosenbrock, tape_limit=limit)


def test_a_tape_has_a_limit():
    f = nbhvp.differentiable(rosenbrock, target="interpret", tape_limit=1e5)
    with pytest.raises(MemoryError, match="tape_limit"):
        f.grad(np.zeros(10_000))
    assert f.grad(np.zeros(10)).shape == (10,)


@pytest.mark.parametrize("fun", [types.SimpleNamespace().__init__, np.sum, print])
def test_loops_need_a_plain_function(fun):
    with pytest.raises(TypeError, match="loops=True needs a plain function"):
        nbhvp.differentiable(fun, loops=True)


# Branches.


def test_pairs_that_cross_the_cutoff():
    """Right at every point; structures that recur compile nothing anew."""
    lattice = 1.1 * np.stack(np.meshgrid(*3 * [np.arange(3)]), axis=-1).reshape(-1, 3)
    i, j = np.triu_indices(len(lattice), 1)
    starts = np.searchsorted(i, np.arange(len(lattice) + 1))

    def plain(x, radius):
        r2 = np.sum((x.reshape(-1, 3)[i] - x.reshape(-1, 3)[j]) ** 2, axis=1)
        is_near = r2 < radius * radius
        safe = np.where(is_near, r2, 1.0)
        return np.sum(np.where(is_near, 4.0 * (safe**-6 - safe**-3), 0.0))

    f, g = nbhvp.differentiable(cut_off), nbhvp.differentiable(plain, target="interpret")
    rng = np.random.default_rng(5)
    for k in range(5):
        x = (lattice + 0.1 * rng.normal(size=lattice.shape)).ravel()
        v = rng.normal(size=x.size)
        needed = g.hvp(x, v, 1.9)
        scale = np.linalg.norm(needed)
        assert_agree(f.hvp(x, v, starts, j, 1.9) / scale, needed / scale)
        if k == 0:
            compiled = f.report().kernels_compiled + f.report().kernels_loaded
    report = f.report()
    assert report.retraces >= 3
    assert report.kernels_compiled + report.kernels_loaded == compiled


def test_a_loop_of_as_many_steps_as_the_point_needs():
    """Its guards are those of the tape: other numbers of steps are other tapes."""
    f = nbhvp.differentiable(root, target="interpret")
    for x in ([0.8, 2.1, 0.3], [0.8, 2.1001, 0.3], [4.0, 0.1, 0.3], [0.1, 90.0, 1.0]):
        pair, v = Pair(root, None, np.array(x)), np.array([1.0, -2.0, 0.5])
        _, gradient, product = exact(pair, v)
        assert_agree(f.grad(pair.x), gradient)
        assert_agree(f.hvp(pair.x, v), product, 1e-11)
    assert 2 <= f.report().traces <= 3


def test_an_outcome_that_stays_needs_no_new_trace():
    f = nbhvp.differentiable(clipped, target="interpret")
    f.grad(X)
    f.grad(X + 1e-3)
    assert f.report().traces == 1
    assert_agree(f.grad(-X), np.where((X < 0.5) & (X > -1.0), 3.0 * X**2, 0.0))
    assert f.report().traces == 2


@njit
def floors(x):
    total = 0.0
    for value in x:
        total += int(2.0 * value) * value * value
    return total


def test_integers_from_floats_are_guards():
    f = nbhvp.differentiable(floors, target="interpret")
    for x in (X, X + 0.01, X[::-1].copy(), X + 1.0):
        assert_agree(f.grad(x), 2.0 * np.trunc(2.0 * x) * x)
    assert f.report().traces == 3


@njit
def uneven(x, depth):
    """A recurrence without a period."""
    s = x[0]
    for t in range(depth):
        s = x[t % x.size] + 1.0 / (2.0 + s * s)
        for _ in range(t * t % 997 % 40 - 29):
            s = math.sin(s)
    return s


def test_tapes_that_are_kept_are_bounded(monkeypatch):
    """The oldest go first, and one is always kept."""
    f = nbhvp.differentiable(uneven, target="interpret")
    kept = []
    monkeypatch.setattr(memory, "MOST_TAPE_BYTES", 100_000)
    for depth in (300, 301, 302, 303, 3000, 300):
        f.grad(X, depth)
        assert not f.report().loops[0].is_rolled
        kept.append(len(f._memory.traces))
    assert kept == [1, 2, 3, 3, 1, 1]


# Solvers.


def test_minimising_a_function_with_loops():
    result = nbhvp.minimize(rosenbrock, np.zeros(6), method="trust-krylov", tol=1e-8)
    assert result.success
    np.testing.assert_allclose(result.x, 1.0, atol=1e-6)


# Errors, with the user's line.


@njit
def stores_outside(x):
    for i in range(x.size):
        WEIGHTS[i] = x[i]
    return WEIGHTS[0]


@njit
def unsupported(x):
    total = 0.0
    for i in range(x.size):
        total += x[i]
    return np.linalg.eigvalsh(x.reshape(2, 3)[:, :2])[0] + total


@njit
def returns_nothing(x):
    for i in range(x.size):
        x[i] = 0.0


@njit
def draws(x):
    total = 0.0
    for i in range(x.size):
        total += np.random.random() * x[i]
    return total


@pytest.mark.parametrize(
    "function", [stores_outside, unsupported, returns_nothing, draws], ids=lambda f: f.__name__
)
def test_what_cannot_work_names_the_line(function):
    before = WEIGHTS.copy()
    with pytest.raises(TypeError, match=r"test_loop_functions\.py:\d+"):
        nbhvp.differentiable(function, target="interpret").grad(X)
    np.testing.assert_array_equal(WEIGHTS, before)


def test_the_users_own_compiled_functions_make_arrays_of_floats():
    """What is compiled without nbhvp means what it meant, also after a function was recorded."""
    rows = [
        lambda x: np.array([[x[0], x[1]], [2.0, x[0]]]),
        lambda x: np.array(((1 - x[0], 2 * x[1]), (x[0], x[1]))),
        lambda x: np.array([[x[0]]]),
        lambda x: np.array([(x[0], 1.0), (0.5, x[1])]),
        lambda x: np.stack((x, np.array([x[0], x[1]]))),
    ]
    x = np.array([0.5, 2.0])
    nbhvp.differentiable(njit(lambda x: x[0] + np.array([[x[0], x[1]]])[0, 1]), loops=True)(x)
    for made in rows:
        assert np.array_equal(njit(made)(x), made(x))


@njit
def rows_of_roots(x, factor):
    out = np.zeros(x.shape)
    for k in range(x.shape[0]):
        for i in range(x.shape[1]):
            for j in range(i + 1):
                out[k, i] += factor[i * (i + 1) // 2 + j] * np.sqrt(x[k, j])
    return out


def test_infinite_tangents_stay_in_the_rows_that_have_them():
    x, factor = 1.0 + np.arange(108.0).reshape(12, 9), np.linspace(1.0, 2.0, 45)
    x[3, 5] = 0.0
    f = nbhvp.differentiable(rows_of_roots, target="interpret")
    with np.errstate(divide="ignore"):
        found = f.jvp(x, np.ones(x.shape), factor)
    assert np.isposinf(found[3, 5:]).all()
    found[3, 5:] = 0.0
    lower = np.zeros((9, 9))
    lower[np.tril_indices(9)] = factor
    x[3, 5] = 1.0
    needed = 0.5 / np.sqrt(x) @ lower.T
    needed[3, 5:] = 0.0
    np.testing.assert_allclose(found, needed, 1e-13)
