"""What decides, at ties: comparisons, roundings, roots and branches have NumPy's bits.

At x2 = x0 * x1, rounded, NumPy finds x0 * x1 - x2 to be 0; a fused multiply-add finds what the
rounding left out, of either sign.
"""

import numpy as np
import pytest
from numba import njit

import nbhvp
from nbhvp.graph import primitives as p
from nbhvp.graph.derive import gradient
from nbhvp.graph.node import Graph
from nbhvp.plan.decisions import decided
from nbhvp.plan.lower import lower
from nbhvp.trace.record import record

pytestmark = pytest.mark.filterwarnings("error")


def ties(dtype, count=200):
    r = np.random.default_rng(1)
    x, y = r.normal(size=(2, count)).astype(dtype)
    return np.stack([x, y, x * y])


DECISIONS = {
    "greater_equal": lambda x, y, z: x * y - z >= 0,
    "sum equals": lambda x, y, z: x * y + 1 == z + 1,
    "negated": lambda x, y, z: z - x * y < 0,
    "where": lambda x, y, z: np.where(x * y > z, x, y),
    "mask times": lambda x, y, z: (x * y - z > 0) * x,
    "sign": lambda x, y, z: np.sign(z - y * x),
    "floor": lambda x, y, z: np.floor(x * y - z),
    "ceil": lambda x, y, z: np.ceil((x * y - z) / 3),
    "trunc": lambda x, y, z: np.trunc(x * y + (1 - z)),
    "rint": lambda x, y, z: np.rint(x * y + (0.5 - z)),
    "floor_divide": lambda x, y, z: (x * y - z) // 2,
    "remainder": lambda x, y, z: (x * y - z) % 2,
    "fmod": lambda x, y, z: np.fmod(x * y + (2 - z), 2),
    "cast": lambda x, y, z: (1 + x * y - z).astype(int),
    "sqrt": lambda x, y, z: np.sqrt(x * y - z),
    "arccos": lambda x, y, z: np.arccos(x * y + (1 - z)) == 0,
    "log": lambda x, y, z: np.isneginf(np.log(x * y - z)),
    "copysign": lambda x, y, z: np.copysign(1, x * y - z),
    "abs": lambda x, y, z: abs(x * y - z) > 0,
    "heaviside": lambda x, y, z: np.heaviside(x * y - z, 0.5),
    "argmax": lambda x, y, z: np.argmax([x * y - z, 0 * z, -1 + 0 * z], axis=0),
    "argsort": lambda x, y, z: np.argsort(np.stack([z + 1, x * y + 1]), axis=0, kind="stable"),
    "of a slice": lambda x, y, z: (x * y)[::2] + -z[::2] >= 0,
    "of a short sum": lambda x, y, z: np.sum(np.stack([x * y, -z]), axis=0) >= 0,
    "nested": lambda x, y, z: np.sqrt(np.maximum(x * y, -9) - z) > 0,
}


def all_decisions(x):
    with np.errstate(all="ignore"):
        return np.concatenate([np.ravel(f(*x)).astype(x.dtype) for f in DECISIONS.values()])


@pytest.mark.compiles
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_decisions_at_ties_are_those_of_numpy(dtype):
    """All in one program, as 200 ties for each."""
    x = ties(dtype)
    found, right = nbhvp.differentiable(all_decisions)(x), all_decisions(x)
    assert found.shape == right.shape
    start = 0
    for name, f in DECISIONS.items():
        with np.errstate(all="ignore"):
            end = start + np.size(f(*x))
        assert np.array_equal(found[start:end], right[start:end], equal_nan=True), name
        start = end


def branch(x):
    return np.sum(x) if x[0] * x[1] - x[2] >= 0 else 2 * np.sum(x)


@njit
def branches_in_a_loop(x):
    total = 0.0
    for i in range(len(x) - 2):
        total += x[i] if x[0] * x[1] - x[2] >= 0 else 2 * x[i]
    return total


@pytest.mark.compiles
@pytest.mark.parametrize("fun", [branch, branches_in_a_loop], ids=["plain", "loop"])
def test_branches_at_ties_are_those_of_the_function(fun):
    f = nbhvp.differentiable(fun)
    points = ties(np.float64).T
    for z in (1.0, -1.0):  # a trace for each branch
        f(np.array([0.5, 0.5, z]))
    assert [f(point) for point in points] == [fun(point) for point in points]
    assert f.report().traces == 2


def is_left(a, b):
    return (np.conj(a) * b).imag >= 0


ORIENTED = {
    "cross": lambda x: is_left(x[0] + 1j * x[1], x[0] + 1j * x[1]),
    "square": lambda x: ((x[0] + 1j * x[1]) * (x[0] - 1j * x[1])).imag == 0,
    "complex": lambda x: is_left(complex(x[0], x[1]), 2 * complex(x[0], x[1])),
    "real part": lambda x: ((x[0] + 1j * x[1]) * (x[1] + 1j * x[0])).real <= 0,
    "scaled": lambda x: (x[2] * ((x[0] + 1j * x[1]) * (x[0] - 1j * x[1]))).imag > 0,
}


@pytest.mark.parametrize("target", ["interpret", "cpu"])
def test_products_of_complex_numbers_decide_as_those_of_numpy(target):
    def fun(x):
        return sum((3 + k) * x[0] if f(x) else k * x[1] for k, f in enumerate(ORIENTED.values()))

    f = nbhvp.differentiable(fun, target=target)
    points = ties(np.float64, 50).T
    assert [f(point) for point in points] == pytest.approx([fun(x) for x in points], rel=1e-14)


def products_of(fun, x):
    trace = record(fun, x)
    outputs = (trace.outputs[0], gradient(trace.outputs[0], trace.inputs[0]))
    graph = decided(lower(Graph(trace.inputs, outputs)))
    return sum(node.primitive is p.product for node in graph.nodes)


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: np.sum(x[0] * x[1] + x[2] * x[0]),
        lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
        lambda x: np.sum(np.exp(x[0] * x[1] + x[2]) > 2),
        lambda x: np.sum(np.where(x[0] > 0, x[0] * x[1] + x[2], x[2])),
        lambda x: np.sum(np.maximum(x[0], 0) * x[1] + x[2]),
    ],
)
def test_what_decides_nothing_may_be_contracted(fun):
    assert products_of(fun, ties(np.float64)) == 0


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: np.sum(x[0] * x[1] + x[2] > 0),
        lambda x: np.sum(np.maximum(x[0] * x[1] + x[2], 0)),
        lambda x: np.sum(np.max(x[0] * x[1] + x[2])),
    ],
)
def test_what_decides_is_not(fun):
    assert products_of(fun, ties(np.float64)) == 1
