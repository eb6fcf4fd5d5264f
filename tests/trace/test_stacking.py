"""Lists of numbers of one structure are arrays; each element is computed as if it stood alone."""

import numpy as np
import pytest
import scipy.sparse as sp

import nbhvp
from nbhvp.graph.node import Graph
from nbhvp.trace import arrays
from nbhvp.trace.record import record

pytestmark = pytest.mark.usefixtures("unsplit")

N = 24
X = np.random.default_rng(0).normal(size=N)
ORDER = np.random.default_rng(1).permutation(N)


def products(x):
    return np.array([x[i] * np.sin(x[(i + 1) % N]) for i in range(N)])


def picked(x):
    return np.array([x[ORDER[i]] * 2.0 + 0.1 * i for i in range(N)]) ** 2


def backwards(x):
    return np.asarray([x[-1 - i] / (1.0 + x[0] ** 2) for i in range(N)])


def of_a_matrix(x):
    a = (x * x).reshape(3, N // 3)
    return np.array([[a[i, j] - a[j % 3, i] for j in range(N // 3)] for i in range(3)])


def stack(x):
    return np.stack([x[i] ** 2 + x[0] for i in range(N)])


def sparse(x):
    places = list(range(N))
    matrix = sp.coo_matrix(([2.0 * x[k] for k in places], (places, places[::-1])))
    return matrix @ x


def numbers_among_them(x):
    return np.array([1.0, *(x[i] for i in range(N))]) ** 2


def one_of_another_kind(x):
    return np.array([x[0] if i == 3 else 2.0 * x[i] for i in range(N)]) ** 2


def running_sums(x):
    total, out = 0.0, []
    for i in range(N):
        total = total + x[i]
        out.append(total)
    return np.array(out) ** 2


STACKED = [products, picked, backwards, of_a_matrix, stack, sparse]
OTHERS = [numbers_among_them, one_of_another_kind, running_sums]


@pytest.mark.parametrize("fun", STACKED + OTHERS, ids=lambda fun: fun.__name__)
def test_lists_give_what_their_numbers_give(fun, monkeypatch):
    def total(x):
        return np.sum(fun(x) * np.cos(fun(x)))

    def results():
        f = nbhvp.differentiable(total, target="interpret")
        return f(X), f.grad(X), f.hvp(X, np.cos(X))

    found = results()
    trace = record(total, X)
    monkeypatch.setattr(arrays, "STACKED", 10**9)
    for one, needed in zip(found, results(), strict=True):
        np.testing.assert_allclose(one, needed, rtol=1e-13, atol=1e-14)
    assert found[0] == pytest.approx(total(X), rel=1e-14)
    if fun in STACKED:
        assert len(Graph(trace.inputs, trace.outputs).nodes) <= 2 * N
