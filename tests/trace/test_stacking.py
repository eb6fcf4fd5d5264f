"""Lists of numbers of one structure are arrays; each element is computed as if it stood alone."""

import numpy as np
import pytest
import scipy.sparse as sp

import nbhvp
from nbhvp.graph.node import Graph
from nbhvp.trace import record as module
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


def mixed(x):
    out = [x[0] - 1.0]
    for i in range(1, N):
        out.append(np.exp(x[i]) if i % 3 == 0 else x[i] * x[i - 1] if i % 3 == 1 else x[i - 1])
    return np.array(out)


def short_rows(x):
    return np.array([[x[2 * k], np.sin(x[2 * k + 1]) * 2.0, 1.0] for k in range(N // 2)])


def rows_of_numbers(x):
    rows = [np.stack([x[2 * k] * x[2 * k + 1], np.cos(x[k])]) for k in range(N // 2)]
    return np.array(rows) @ np.array([1.0, 2.0])


def elements_of_small_matrices(x):
    out = []
    for k in range(N):
        k_e = np.array([[x[k], -x[k] * 0.5], [-x[k] * 0.5, x[k] ** 2]])
        out += [k_e[i, j] for i in range(2) for j in range(2)]
    return np.array(out)


def blocks(x):
    a = np.array([[x[4 * i + j] ** 2 for j in range(4)] for i in range(4)])
    return np.linalg.inv(np.block([[a + 9 * np.eye(4), a], [a.T, 9 * np.eye(4)]]))


def written(x):
    y = np.zeros(N)
    for i in range(N):
        y[i] = x[i] ** 2 if i % 2 else 3.0 * x[i]
    return y


def assembled(x):
    k = np.zeros((N + 1, N + 1))
    for i in range(N):
        k[i, i] += x[i] ** 2
        k[i + 1, i + 1] += 1.0 + x[i] ** 2
        k[i, i + 1] = k[i + 1, i] = -(x[i] ** 2)
    return np.linalg.solve(k + np.eye(N + 1), np.ones(N + 1))


def read_while_written(x):
    y = np.zeros(N)
    for i in range(N):
        y[i] = x[i] ** 2
        y[i] += y.sum() * 0.1
    return y


def factors_of_few_kinds(x):
    few = [np.exp(x[i]) + x[i + 1] for i in range(3)]
    return np.array([few[i % 3] * x[i] for i in range(N)])


STACKED = [
    products, picked, backwards, of_a_matrix, stack, sparse, numbers_among_them, one_of_another_kind,
    mixed, short_rows, rows_of_numbers, elements_of_small_matrices, blocks, written, assembled,
    factors_of_few_kinds,
]  # fmt: skip
OTHERS = [running_sums, read_while_written]


@pytest.mark.parametrize("fun", STACKED + OTHERS, ids=lambda fun: fun.__name__)
def test_lists_give_what_their_numbers_give(fun, monkeypatch):
    def total(x):
        return np.sum(fun(x) * np.cos(fun(x)))

    def results():
        f = nbhvp.differentiable(total, target="interpret")
        return f(X), f.grad(X), f.hvp(X, np.cos(X))

    found = results()
    trace = record(total, X)
    monkeypatch.setattr(module, "stacked", lambda *outputs: outputs)
    for one, needed in zip(found, results(), strict=True):
        np.testing.assert_allclose(one, needed, rtol=1e-13, atol=1e-14)
    assert found[0] == pytest.approx(total(X), rel=1e-14)
    if fun in STACKED:
        assert len(Graph(trace.inputs, trace.outputs).nodes) <= 2 * N


def test_a_list_of_integers_that_must_stay_is_an_operation_on_arrays():
    def total(x, ends):
        rows = [2 * end + k for end in ends for k in (0, 1)]
        return sp.coo_matrix((np.repeat(x, 2), (rows, rows))).tocsr().sum() ** 2

    trace = record(total, X, (np.arange(N),))
    guards = tuple(node for node, _ in trace.guards)
    assert guards and len(Graph(trace.inputs, guards).nodes) <= N / 2
