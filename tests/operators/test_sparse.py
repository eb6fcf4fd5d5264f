"""Sparse Hessians and Jacobians, by one program and by coloured products, against n products."""

import functools

import numpy as np
import pytest
import scipy.sparse
from scipy.optimize import NonlinearConstraint, least_squares, minimize

import nbhvp
from nbhvp.graph.sparsity.propagation import Unknown
from nbhvp.runtime import matrices
from nbhvp.runtime.matrices import Coloured, Direct

interpreted = functools.partial(nbhvp.differentiable, target="interpret")
RNG = np.random.default_rng(5)
X = RNG.uniform(0.5, 1.5, 24)
MATRIX = scipy.sparse.random_array((30, 24), density=0.1, rng=1).tocsr()
BANDS = np.triu(np.tril(RNG.normal(size=(24, 24)), 1), -1)
PAIRS = RNG.permutation(24)[:20].reshape(2, 10)
CELLS = RNG.integers(0, 24, (12, 3))
GROUPS = np.arange(24) // 3
ORDER = np.random.default_rng(1).permutation(24)


def points(x):
    return x.reshape(8, 3)


def heat(x):
    for _ in range(3):
        x = x + 0.1 * (np.roll(x, 1) - 2 * x + np.roll(x, -1)) + 0.01 * x**2
    return np.sum(x**2)


def control(x):
    """Reaction and diffusion in one dimension: states, and controls as sources."""
    u, a = x[:12], x[12:]
    defect = u[2:] - 2 * u[1:-1] + u[:-2] - 0.1 * np.exp(u[1:-1]) + a[1:-1]
    return np.sum(defect**2) + np.sum((u - 1) ** 2) + 0.1 * np.sum(a**2)


def membrane(x):
    z = np.zeros((6, 8))
    z[1:-1, 1:-1] = x.reshape(4, 6)
    p, q = z[1:, 1:] - z[:-1, :-1], z[1:, :-1] - z[:-1, 1:]
    return np.sum(np.sqrt(1 + p**2 + q**2))


def written(x):
    y = np.zeros(24)
    y[::2] = x[12:] ** 2
    y[1::2] = x[:12] * y[::2]
    return np.sum(y**2)


def constant_parts(x):
    """A part of the Hessian is constant, and the other one goes the way of some of its terms."""
    y = np.zeros(24)
    y[ORDER] += x
    y = np.roll(y, 2)
    return np.sum(y[1:] * y[:-1]) + np.sum(np.sin(x + y))


FUNCTIONS = {
    "rosenbrock": lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
    "separable": lambda x: np.sum(np.exp(x) * x),
    "linear": lambda x: np.sum(x),
    "quadratic": lambda x: x @ (MATRIX.T @ (MATRIX @ x)) / 2,
    "sparse constant": lambda x: np.sum(np.cosh(MATRIX @ x)),
    "banded constant": lambda x: np.sum(np.exp(0.1 * BANDS @ x)),
    "membrane": membrane,
    "heat": heat,
    "control": control,
    "arrow": lambda x: x[0] * np.sum(x[1:] ** 3) + x[0] ** 4,
    "two hubs": lambda x: np.sum(np.sin(x[0] * x[2:]) * np.cos(x[1] + x[2:])),
    "blocks": lambda x: np.sum(np.sum(points(x), axis=1) ** 3),
    "softmax of rows": lambda x: np.sum(np.log(np.sum(np.exp(points(x)), axis=1))),
    "lengths": lambda x: np.sum(np.linalg.norm(points(x)[1:] - points(x)[:-1], axis=1)),
    "pairs": lambda x: np.sum(1 / (0.1 + (x[PAIRS[0]] - x[PAIRS[1]]) ** 2)),
    "pairs of points": lambda x: np.sum(np.sum((points(x)[[0, 2, 5]] - points(x)[[7, 1, 3]]) ** 2, axis=1) ** 2),
    "cells": lambda x: np.sum(np.prod(x[CELLS], axis=1) ** 2),
    "groups": lambda x: np.sum(np.bincount(GROUPS, weights=x**2, minlength=8) ** 2),
    "periodic": lambda x: np.sum(x * np.roll(x, 5) ** 2),
    "grid": lambda x: np.sum(np.diff(x.reshape(4, 6), axis=0) ** 4) + np.sum(np.diff(x.reshape(4, 6), axis=1) ** 4),
    "second differences": lambda x: np.sum(np.diff(x, 2) ** 4),
    "stacked": lambda x: np.sum(np.prod(np.stack([x[1:], x[:-1] ** 2]), axis=0)),
    "joined": lambda x: np.sum(np.concatenate([x[:5] * x[5:10], x[::-1][:4] ** 3]) ** 2),
    "outer": lambda x: np.sum(np.outer(x[:3], x[3:7]) ** 2),
    "small matrices": lambda x: np.sum((x.reshape(6, 2, 2) @ x.reshape(6, 2, 2)) ** 2),
    "determinants": lambda x: np.sum(np.linalg.det(x[:18].reshape(2, 3, 3))),
    "written": written,
    "sorted": lambda x: np.sum(np.sort(x)[1:] * np.sort(x)[:-1] ** 2),
    "maximum": lambda x: np.sum(np.maximum(x[1:], x[:-1]) ** 2),
    "where": lambda x: np.sum(np.where(GROUPS % 2 == 0, x**3, x[::-1] * x)),
    "branches": lambda x: np.sum(np.where(x > 1, x**3, np.roll(x, 1) * x)),
    "zeros added": lambda x: np.sum((GROUPS % 2 + x) * x[::-1] ** 2),
    "zeros chosen": lambda x: np.sum(np.where(x > 1, GROUPS % 2, x) * x[::-1] ** 2),
    "constant parts": constant_parts,
    "convolution": lambda x: np.sum(np.convolve(x, [1.0, -2.0, 1.0], "valid") ** 4),
    "prefix sums": lambda x: np.sum(np.cumsum(points(x), axis=1) ** 3),
    "complex": lambda x: np.sum(np.abs(x[1:] + 1j * x[:-1] ** 2) ** 2),
    "dense": lambda x: np.log(np.sum(np.exp(x))),
    "spectrum": lambda x: np.sum(np.abs(np.fft.fft(x)) ** 4),
    "solved": lambda x: np.sum(np.linalg.solve(np.diag(x[:4]) + np.ones((4, 4)), x[4:8])) + np.sum(x[8:] ** 4),
}  # fmt: skip
EXACT = {
    "rosenbrock": 70, "separable": 24, "linear": 0, "arrow": 70, "blocks": 72, "softmax of rows": 72,
    "groups": 72, "pairs": 40, "second differences": 24 + 46 + 44,
}  # fmt: skip
"""Entries of some, counted by hand."""


def no_entries(*_, **__):
    raise Unknown


WAYS = {
    "lanes": (),
    "elements": ("_in_order",),
    "rows": ("_in_order", "_by_elements"),
    "coloured": ("_in_order", "_by_elements", "_direct"),
}
"""The functions that give another way first."""


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    for name in WAYS[request.param]:
        monkeypatch.setattr(matrices, name, no_entries)
    return request.param


@functools.cache
def dense(name):
    """The Hessians at two points, as arrays."""
    f = interpreted(FUNCTIONS[name])
    return f.hessian(X).toarray(), f.hessian(X * 1.01).toarray()


def assert_equal(found, needed):
    assert isinstance(found, scipy.sparse.sparray) and found.has_canonical_format
    assert found.dtype == needed.dtype and found.shape == needed.shape
    scale = np.abs(needed).max(initial=0.0)
    np.testing.assert_allclose(found.toarray(), needed, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_hessians(name, way):
    f, (here, there) = interpreted(FUNCTIONS[name]), dense(name)
    found = f.sparse_hessian(X)
    assert_equal(found, here)
    pattern = f.hessian_sparsity(X)
    assert pattern.dtype == bool and pattern.nnz == found.nnz
    assert (pattern != pattern.T).nnz == 0
    assert_equal(f.sparse_hessian(X * 1.01), there)
    if way == "lanes":
        assert_equal(f.hessian(X).tosparse(), here)


@pytest.mark.parametrize("name", EXACT)
def test_the_number_of_entries(name):
    f = interpreted(FUNCTIONS[name])
    found = f.hessian_sparsity(X)
    assert found.nnz == np.count_nonzero(dense(name)[0])
    assert found.nnz == EXACT[name]


BY_CASADI = [
    "rosenbrock", "separable", "linear", "banded constant", "heat", "control", "arrow", "two hubs",
    "blocks", "softmax of rows", "pairs", "pairs of points", "cells", "periodic", "grid", "second differences",
    "stacked", "joined", "outer", "small matrices", "where", "convolution", "prefix sums", "dense",
]  # fmt: skip
"""Those of the functions that take an array of CasADi's scalars."""


@pytest.mark.filterwarnings("ignore")  # CasADi's, of NumPy's functions
@pytest.mark.parametrize("name", BY_CASADI)
def test_patterns_are_those_of_casadi(name):
    casadi = pytest.importorskip("casadi")
    x = casadi.SX.sym("x", X.size)
    value = FUNCTIONS[name](np.array([x[k] for k in range(X.size)], dtype=object))
    needed, _ = casadi.hessian(value, x)
    pattern = np.array(casadi.DM(needed.sparsity(), 1).full(), bool)
    f = interpreted(FUNCTIONS[name])
    np.testing.assert_array_equal(f.hessian_sparsity(X).toarray(), pattern)
    assert_equal(f.sparse_hessian(X), np.array(casadi.Function("H", [x], [needed])(X)))


RESIDUALS = {
    "tall": lambda x: np.concatenate([x[1:] - x[:-1] ** 2, 1 - x]),
    "wide": lambda x: x[::3] * x[1::3] + x[2::3],
    "sparse constant": lambda x: np.tanh(MATRIX @ x),
    "a full row": lambda x: np.append(x[:-1] * x[1:], np.sum(x)),
    "full rows and a column": lambda x: np.concatenate([[np.sum(x), x @ x], x[0] * x[1:]]),
    "of scalars": lambda x: [x[0] * x[1], np.sin(x[5]), 3.0],
    "a matrix": lambda x: x.reshape(4, 6)[:, 1:] * x.reshape(4, 6)[:, :-1],
    "spectrum": lambda x: np.append(np.real(np.fft.fft(x[:4])), x[4:] ** 2),
    "zeros added": lambda x: (GROUPS % 2 + x) * x[::-1],
    "nothing": lambda x: np.zeros(3) + 0 * x[0],
}


@pytest.mark.parametrize("name", RESIDUALS)
def test_jacobians(name, way):
    r = interpreted(RESIDUALS[name])
    J = r.jacobian(X)
    found = r.sparse_jacobian(X)
    assert isinstance(found, scipy.sparse.csr_array)
    assert_equal(found, J.toarray())
    assert_equal(J.tosparse(), J.toarray())
    assert r.jacobian_sparsity(X).nnz == found.nnz


def test_coloured_products_are_few():
    counts = {"rosenbrock": 3, "separable": 1, "arrow": 2, "grid": 6, "control": 12}
    for name, most in counts.items():
        f = interpreted(FUNCTIONS[name])
        matrix = matrices.coloured(f.hessian_sparsity(X), is_symmetric=True)
        assert matrix.way.count <= most, name
    r = interpreted(RESIDUALS["a full row"])
    by_rows = matrices.coloured(r.jacobian_sparsity(X), is_symmetric=False)
    assert by_rows.is_transposed and by_rows.way.count == 3
    f = interpreted(FUNCTIONS["rosenbrock"])
    before = f.report().product_runs
    f.sparse_hessian(X, pattern=f.hessian_sparsity(X))
    assert f.report().product_runs == before + 3 + 1  # and one that tests the pattern


@pytest.mark.parametrize("seed", range(10))
def test_colours_of_random_patterns(seed):
    rng = np.random.default_rng(seed)
    half = scipy.sparse.random_array((60, 60), density=rng.uniform(0.01, 0.2), rng=rng)
    values = (half + half.T).tocsr()
    matrix = matrices.coloured(values, is_symmetric=True)
    data = matrix.way.entries(lambda v: values @ v, np.dtype(float))
    found = scipy.sparse.csr_array((data, matrix.columns, matrix.starts), shape=matrix.shape)
    np.testing.assert_array_equal(found.toarray(), values.toarray())


def test_large_counts_of_colours_are_taken_some_at_a_time():
    values = scipy.sparse.csr_array(RNG.normal(size=(70, 70)) + 3)
    values = values + values.T
    matrix = matrices.coloured(values, is_symmetric=True)
    assert matrix.way.count == 70
    widths = []

    def times(v):
        widths.append(v.shape[1])
        return values @ v

    data = matrix.way.entries(times, np.dtype(float))
    assert widths == [32, 32, 6]
    np.testing.assert_array_equal(data.reshape(70, 70), values.toarray())


def test_short_loops_over_time_are_followed():
    """Parts of a path, each of some steps from where the last one is to end."""

    def shooting(x):
        u = x.reshape(12, 2)
        z = u[:-1]
        for _ in range(80):
            z = z + 0.05 * np.stack([z[:, 1], -np.sin(z[:, 0])], axis=1)
        return np.sum((u[1:] - z) ** 2)

    f = interpreted(shooting)
    found = f.sparse_hessian(X)
    assert_equal(found, f.hessian(X).toarray())
    assert f.report().recurrences and found.nnz == 11 * 4 + 2 + 2 * 11 * 4


def test_damped_operators_are_sparse_too():
    f = interpreted(FUNCTIONS["rosenbrock"])
    for c in (0.1, np.arange(24.0)):
        D = f.hessian(X).damped(c)
        assert_equal(D.tosparse(), D.toarray())


def test_indices_that_are_arguments():
    """The pattern is found again where they differ, and only there."""
    f = interpreted(lambda x, i, scale: scale * np.sum(x[i[0]] ** 2 * x[i[1]]))
    for pairs, scale in ((PAIRS, 1.0), (PAIRS, 2.0), (PAIRS[:, ::-1] // 2, 2.0)):
        found = f.sparse_hessian(X, pairs, scale)
        needed = f.hessian(X, pairs, scale).toarray()
        assert_equal(found, needed)
        assert found.nnz == np.count_nonzero(needed)
    assert f.report().traces == 1


def test_indices_that_depend_on_x():
    f = interpreted(FUNCTIONS["sorted"])
    for x in (X, X[::-1].copy(), np.roll(X, 3)):
        assert_equal(f.sparse_hessian(x), f.hessian(x).toarray())


def test_a_branch_has_a_pattern_of_its_own():
    f = interpreted(lambda x: x[0] * x[1] if x[0] > 1 else np.sum(x**3))
    for x, count in ((X + 1, 2), (X - 0.5, 24), (X + 2, 2)):
        assert f.sparse_hessian(x).nnz == count


def test_no_derivative_is_nan_in_the_entries_too(way):
    """Of a length that is 0: as in the products, and nowhere else."""
    f, x = interpreted(FUNCTIONS["lengths"]), X.copy()
    x[3:6] = x[:3]
    found, needed = f.sparse_hessian(x).toarray(), f.hessian(x).toarray()
    assert np.isnan(needed).any() and not np.isnan(needed).all()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(needed))
    np.testing.assert_allclose(found, needed, rtol=1e-12, atol=1e-13)


def test_other_curvatures(way):
    model = interpreted(RESIDUALS["tall"])
    G = nbhvp.gauss_newton(model)(X)
    assert_equal(G.tosparse(), G.toarray())
    J = model.sparse_jacobian(X)
    np.testing.assert_allclose(G.tosparse().toarray(), (J.T @ J).toarray(), atol=1e-13)


def test_trees():
    x, unravel = nbhvp.ravel({"a": X[:10], "b": X[10:]})
    f = interpreted(lambda t: np.sum(t["a"] ** 3) * t["b"][0], unravel=unravel)
    tree = unravel(x)
    assert_equal(f.sparse_hessian(tree), f.hessian(x).toarray())
    assert f.hessian_sparsity(tree).nnz == 30


@pytest.mark.parametrize("name", ["rosenbrock", "pairs of points", "groups", "constant parts"])
def test_single_precision(name, way):
    f = interpreted(FUNCTIONS[name])
    found = f.sparse_hessian(X.astype(np.float32))
    assert found.dtype == np.float32
    needed = f.hessian(X).toarray()
    atol = 1e-5 * np.abs(needed).max()
    np.testing.assert_allclose(found.toarray(), needed, rtol=1e-4, atol=atol)
    given = f.sparse_hessian(X.astype(np.float32), pattern=found)
    np.testing.assert_allclose(given.toarray(), needed, rtol=1e-4, atol=atol)


def test_the_report_names_dense_operations():
    f = interpreted(FUNCTIONS["spectrum"])
    assert f.report().dense == ()
    assert f.sparse_hessian(X).nnz == X.size**2
    assert f.report().dense == ("fft of shape (24,)",)
    assert "fft of shape (24,)" in str(f.report())


def test_a_large_dense_hessian_is_refused():
    f = interpreted(lambda x: np.log(np.sum(np.exp(x))))
    with pytest.raises(ValueError, match=r"of shape \(6000, 6000\), is dense: .* makes it so"):
        f.sparse_hessian(np.zeros(6000))


def test_weighted_hessians(way):
    r = interpreted(RESIDUALS["tall"])
    w = RNG.normal(size=47)
    W = r.weighted_hessian(X, w)
    assert_equal(W.tosparse(), W.toarray())
    assert W.sparsity().nnz == 23  # the last element is not squared


def test_patterns_from_outside():
    f = interpreted(FUNCTIONS["rosenbrock"])
    exact = f.hessian_sparsity(X)
    needed = f.hessian(X).toarray()
    wider = scipy.sparse.diags_array(
        [np.ones(24 - abs(k)) for k in range(-2, 3)], offsets=range(-2, 3)
    )
    for pattern in (exact, exact.toarray(), wider):
        assert_equal(f.sparse_hessian(X, pattern=pattern), needed)
    with pytest.raises(ValueError, match="pattern lacks entries: in row"):
        f.sparse_hessian(X, pattern=scipy.sparse.eye_array(24))
    with pytest.raises(ValueError, match=r"pattern must have shape \(24, 24\), got \(3, 3\)"):
        f.sparse_hessian(X, pattern=scipy.sparse.eye_array(3))
    r = interpreted(RESIDUALS["tall"])
    assert_equal(r.sparse_jacobian(X, pattern=r.jacobian_sparsity(X)), r.jacobian(X).toarray())


def test_a_parameter_of_the_function_named_pattern():
    f = interpreted(lambda x, pattern: np.sum(x**3 * pattern))
    assert_equal(f.sparse_hessian(X, pattern=2.0), np.diag(12 * X))


@pytest.mark.parametrize("name", ["rosenbrock", "dense", "linear", "membrane"])
def test_diagonals(name):
    f, x = interpreted(FUNCTIONS[name]), np.tile(X, 4)
    if name == "membrane":
        x = X
    H = f.hessian(x)
    np.testing.assert_allclose(H.diagonal(), H.toarray().diagonal(), rtol=1e-13, atol=1e-13)
    if name == "rosenbrock":
        assert H.products == x.size  # those of toarray


def test_structure_is_shared_and_read_only():
    f = interpreted(FUNCTIONS["rosenbrock"])
    first, second = f.sparse_hessian(X), f.sparse_hessian(2 * X)
    assert np.shares_memory(first.indices, second.indices)
    assert not np.shares_memory(first.data, second.data)
    with pytest.raises(ValueError, match="read-only"):
        first.indices[0] = 3
    first.data[:] = 0.0
    own = first.copy()
    own.eliminate_zeros()
    assert own.nnz == 0
    assert_equal(f.sparse_hessian(X), f.hessian(X).toarray())


# SciPy's doors.


def test_trust_constr_takes_sparse_hessians():
    f = interpreted(FUNCTIONS["rosenbrock"])
    found = minimize(f, np.zeros(24), jac=f.grad, hess=f.sparse_hessian, method="trust-constr")
    np.testing.assert_allclose(found.x, 1, atol=1e-5)


def test_constraints_and_least_squares_take_sparse_jacobians():
    r = interpreted(RESIDUALS["tall"])
    found = least_squares(r, np.zeros(24), jac=r.sparse_jacobian)
    np.testing.assert_allclose(found.x, 1, atol=1e-8)
    norm = interpreted(lambda x: np.sum(x**2))
    c = interpreted(lambda x: x[1:] - x[:-1])
    constraint = NonlinearConstraint(c, 0.1, np.inf, jac=c.sparse_jacobian, hess=c.weighted_hessian)
    found = minimize(
        norm, X[:5], jac=norm.grad, hess=norm.sparse_hessian, method="trust-constr",
        constraints=constraint,
    )  # fmt: skip
    np.testing.assert_allclose(found.x, np.arange(-2, 3) / 10, atol=1e-4)


@pytest.mark.compiles
def test_compiled():
    """All ways in compiled code; large ones by several threads."""
    names = ("rosenbrock", "pairs of points", "groups")
    f = nbhvp.differentiable(lambda x: sum(FUNCTIONS[name](x) for name in names))
    assert_equal(f.sparse_hessian(X), f.hessian(X).toarray())
    f = nbhvp.differentiable(FUNCTIONS["membrane"])
    assert_equal(f.sparse_hessian(X), f.hessian(X).toarray())
    assert_equal(f.sparse_hessian(X, pattern=f.hessian_sparsity(X)), f.hessian(X).toarray())
    f = nbhvp.differentiable(FUNCTIONS["rosenbrock"])
    x = RNG.normal(size=200_000)
    v = RNG.normal(size=x.size)
    np.testing.assert_allclose(f.sparse_hessian(x) @ v, f.hvp(x, v), rtol=1e-9, atol=1e-9)


def test_a_dense_function_takes_products():
    """Each of many terms depends on all unknowns: entries of terms would be more work."""
    data = RNG.normal(size=(400, 60))
    f = interpreted(lambda x: np.sum(np.logaddexp(0, data @ x)))
    x = RNG.normal(size=60)
    before = f.report().product_runs
    assert_equal(f.sparse_hessian(x), f.hessian(x).toarray())
    assert f.report().product_runs == before + 2 * 60


def test_ways_are_chosen_by_work():
    def way_of(name):
        f = interpreted(FUNCTIONS[name])
        product = f.hessian(X)._map
        return f._memory.latest.matrix(product, (X,), True).way

    assert isinstance(way_of("rosenbrock"), Direct) and isinstance(way_of("membrane"), Direct)
    assert isinstance(way_of("spectrum"), Coloured)
    assert isinstance(way_of("solved"), Direct)  # of the elements of one small matrix
