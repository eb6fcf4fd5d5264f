"""Sums over batches against the whole sum, in this process, in threads and in processes."""

import concurrent.futures
import functools
import multiprocessing
import os
import pickle
import threading

import numpy as np
import pytest

import nbhvp
from nbhvp.sums import batches as source
from nbhvp.sums import pool, tree, work
from nbhvp.sums.executors import spans

rng = np.random.default_rng(0)
ROWS, N = 37, 5
X, Y = rng.standard_normal((ROWS, N)), rng.standard_normal(ROWS)
POINT, V = rng.standard_normal(N), rng.standard_normal(N)
BLOCK = rng.standard_normal((N, 3))
FUNCTIONS = {
    "squares": lambda w, X, y: 0.5 * np.sum((X @ w - y) ** 2),
    "logistic": lambda w, X, y: np.sum(np.logaddexp(0.0, -y * (X @ w))),
    "poisson": lambda w, X, y: np.sum(np.exp(X @ w) - y * (X @ w)),
    "huber": lambda w, X, y: np.sum(np.sqrt(1 + (X @ w - y) ** 2)),
    "student": lambda w, X, y: np.sum(np.log1p((X @ w - y) ** 2)),
    "sine": lambda w, X, y: np.sum(np.sin(X @ w) * y),
    "quartic": lambda w, X, y: np.sum((X @ w) ** 4) + np.sum(y),
    "tanh": lambda w, X, y: np.sum((np.tanh(X @ w) - y) ** 2),
    "product": lambda w, X, y: np.sum(np.prod(X * w, axis=1)),
    "distances": lambda w, X, y: np.sum(np.sqrt(np.sum((X - w) ** 2, axis=1))),
    "kernel": lambda w, X, y: np.sum(y * np.exp(-np.sum((X - w) ** 2, axis=1))),
    "softplus": lambda w, X, y: np.sum(np.log1p(np.exp(X * w))),
    "maximum": lambda w, X, y: np.sum(np.maximum(X @ w, 0.0) ** 3),
    "quotient": lambda w, X, y: np.sum(1 / (2 + (X @ w) ** 2)),
    "bilinear": lambda w, X, y: np.sum((X[:, :2] @ w[:2]) * (X[:, 2:] @ w[2:])),
    "norms": lambda w, X, y: np.sum(np.linalg.norm(X * w, axis=1)),
    "cumulative": lambda w, X, y: np.sum(np.cumsum(X * w, axis=1) ** 2),
    "where": lambda w, X, y: np.sum(np.where(y > 0, (X @ w) ** 2, np.cosh(X @ w))),
    "power": lambda w, X, y: np.sum((1 + (X @ w) ** 2) ** 1.5),
    "arctan": lambda w, X, y: np.sum(np.arctan(X @ w - y) ** 2),
}


def parts(size=4):
    return [(X[k : k + size], Y[k : k + size]) for k in range(0, ROWS, size)]


def interpreted(name):
    return nbhvp.differentiable(FUNCTIONS[name], target="interpret")


def assert_whole(total, f, factor=1.0, rtol=1e-12):
    value, gradient = f.value_and_grad(POINT, X, Y)
    H = f.hessian(POINT, X, Y).toarray()
    close = lambda a, b: np.testing.assert_allclose(a, factor * b, rtol=rtol, atol=1e-12)
    close(total(POINT), value)
    close(total.value_and_grad(POINT)[1], gradient)
    close(total.grad(POINT), gradient)
    close(total.hvp(POINT, V), H @ V)
    close(total.hvp(POINT, BLOCK), H @ BLOCK)
    operator = total.hessian(POINT)
    close(operator @ V, H @ V)
    close(operator.T @ BLOCK, H @ BLOCK)
    close(operator.toarray(), H)
    close(operator.diagonal(), H.diagonal())
    close(operator.value, value)
    close(operator.gradient, gradient)
    assert operator.products == 4 + 2 * N


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_whole_sum(name):
    f = interpreted(name)
    assert_whole(nbhvp.sum_over(f, parts()), f)


SOURCES = {
    "list": parts,
    "tuple": lambda: tuple(parts()),
    "iterator": lambda: iter(parts()),
    "function": lambda: lambda: iter(parts()),
    "generator": lambda: lambda: (part for part in parts()),
    "names": lambda: [{"X": a, "y": b} for a, b in parts()],
    "chunks": lambda: nbhvp.chunks(X, Y, rows=4),
    "one": lambda: [(X, Y)],
}


@pytest.mark.parametrize("memory", [0, 500, 1 << 30])
@pytest.mark.parametrize("kind", SOURCES)
def test_sources_of_batches_and_bounds_of_memory(kind, memory):
    f = interpreted("logistic")
    assert_whole(nbhvp.sum_over(f, SOURCES[kind](), memory=memory), f)


def test_operators_are_kept_up_to_the_bound():
    def kept(memory):
        total = nbhvp.sum_over(f, parts(), memory=memory)
        total.hessian(POINT) @ V
        return len(total._runner._whole.operators)

    f = interpreted("logistic")
    size = f.hessian(POINT, *parts()[0]).stored_bytes
    assert [kept(0), kept(3 * size), kept(1 << 30)] == [0, 3, 10]


def test_batches_are_read_once_for_an_operator():
    read = []

    class Read(source.Chunks):
        def __getitem__(self, k):
            read.append(k)
            return super().__getitem__(k)

    total = nbhvp.sum_over(interpreted("logistic"), Read((X, Y), 10))
    H = total.hessian(POINT)
    for _ in range(3):
        H @ V
    assert read == [0, 1, 2, 3]
    total.hvp(POINT, V)
    H @ V
    assert len(read) == 8


@pytest.mark.parametrize("memory", [0, 1 << 30])
@pytest.mark.parametrize("make", [lambda a: [(a,)], lambda a: nbhvp.chunks(a, rows=5)])
def test_changes_of_data_and_variables_are_seen(make, memory):
    factor = np.ones(1)
    f = nbhvp.differentiable(lambda w, X: factor[0] * np.sum((X @ w) ** 4), target="interpret")
    data = X.copy()
    total = nbhvp.sum_over(f, make(data), memory=memory)
    for change in (lambda: None, lambda: data.__imul__(2), lambda: factor.__imul__(3)):
        change()
        expected = f.hvp(POINT, V, data.copy())
        np.testing.assert_allclose(total.hvp(POINT, V), expected, rtol=1e-12)
        np.testing.assert_allclose(total.hessian(POINT) @ V, expected, rtol=1e-12)
        np.testing.assert_allclose(total.grad(POINT), f.grad(POINT, data.copy()), rtol=1e-12)


def test_drawn_labels_are_those_of_an_operator():
    model = nbhvp.differentiable(lambda w, X: X @ w, target="interpret")

    def operator(memory, executor=None):
        F = nbhvp.fisher(model, "bernoulli", kind="monte-carlo", rng=0)
        return nbhvp.sum_over(F, nbhvp.chunks(X, rows=5), executor, memory=memory)(POINT)

    H = operator(0)
    np.testing.assert_array_equal(H @ V, H @ V)
    assert (H @ V) @ BLOCK[:, 0] == pytest.approx(V @ (H @ BLOCK[:, 0]))
    np.testing.assert_array_equal(operator(1 << 30) @ V, H @ V)
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        np.testing.assert_array_equal(operator(0, executor) @ V, H @ V)


def test_sums_and_their_operators_travel():
    total = nbhvp.sum_over(nbhvp.differentiable(module_level, target="interpret"), parts())
    there = pickle.loads(pickle.dumps(total.hessian(POINT)))
    np.testing.assert_array_equal(there @ V, total.hessian(POINT) @ V)
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        bound = nbhvp.sum_over(interpreted("squares"), parts(), executor)
        with pytest.raises(TypeError, match="stays in its process"):
            pickle.dumps(bound)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("weights", [None, np.arange(1.0, 11.0)])
def test_weights_and_means(reduce, weights):
    f, w = interpreted("squares"), np.ones(10) if weights is None else weights
    w = w / w.sum() if reduce == "mean" else w
    total = nbhvp.sum_over(f, parts(), reduce=reduce, weights=weights)
    expected = sum(c * f.hvp(POINT, V, *part) for c, part in zip(w, parts(), strict=True))
    np.testing.assert_allclose(total.hvp(POINT, V), expected, rtol=1e-12)
    expected = sum(c * f(POINT, *part) for c, part in zip(w, parts(), strict=True))
    assert total(POINT) == pytest.approx(expected, rel=1e-13)


def test_samples_are_unbiased_and_fixed_in_an_operator():
    f = interpreted("squares")
    total = nbhvp.sum_over(f, parts(), sample=3, rng=0)
    H = total.hessian(POINT)
    np.testing.assert_array_equal(H @ V, H @ V)
    products = np.array([total.hessian(POINT) @ V for _ in range(400)])
    expected = f.hvp(POINT, V, X, Y)
    error = products.std(axis=0) / np.sqrt(400)
    assert np.all(error > 0) and np.all(abs(products.mean(axis=0) - expected) < 5 * error)
    again = nbhvp.sum_over(f, parts(), sample=3, rng=0)
    np.testing.assert_array_equal(again.hessian(POINT) @ V, H @ V)
    assert total(POINT) == pytest.approx(f(POINT, X, Y))
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        threads = nbhvp.sum_over(f, parts(2), executor, sample=5, rng=0)
        alone = nbhvp.sum_over(f, parts(2), sample=5, rng=0)
        np.testing.assert_array_equal(threads.hvp(POINT, V), alone.hvp(POINT, V))
    whole = nbhvp.sum_over(f, parts(), sample=10, rng=0)
    np.testing.assert_allclose(whole.hvp(POINT, V), expected, rtol=1e-12)


def test_gauss_newton_and_fisher():
    model = nbhvp.differentiable(lambda w, X: np.tanh(X @ w), target="interpret")
    loss = lambda z, y: np.sum((z - y) ** 4)
    G = nbhvp.gauss_newton(model, loss)
    named = [{"X": a, "loss_args": (b,)} for a, b in parts()]
    total = nbhvp.sum_over(G, named)
    whole = G(POINT, X, loss_args=(Y,))
    np.testing.assert_allclose(total(POINT) @ V, whole @ V, rtol=1e-12)
    assert total(POINT).value == pytest.approx(whole.value)
    np.testing.assert_allclose(total.grad(POINT), whole.gradient, rtol=1e-12)
    F = nbhvp.fisher(model, "bernoulli")
    total = nbhvp.sum_over(F, nbhvp.chunks(X, rows=5))
    np.testing.assert_allclose(total(POINT) @ V, F(POINT, X) @ V, rtol=1e-12)


SUMS_OF_ARRAYS = {
    "alone": lambda f, X: nbhvp.sum_over(f, [(X[k : k + 5],) for k in range(0, ROWS, 5)]),
    "chunks": lambda f, X: nbhvp.sum_over(f, nbhvp.chunks(X, rows=5), memory=0),
    "function": lambda f, X: nbhvp.sum_over(f, lambda: nbhvp.chunks(X, rows=5)),
    "threads": lambda f, X: nbhvp.sum_over(
        f, nbhvp.chunks(X, rows=5), concurrent.futures.ThreadPoolExecutor(2)
    ),
}


@pytest.mark.parametrize("kind", SUMS_OF_ARRAYS)
def test_sums_of_arrays(kind):
    fun = lambda w, X: (X[:, :3].T @ np.tanh(X @ w)).reshape(1, 3)
    f = nbhvp.differentiable(fun, target="interpret")
    total = SUMS_OF_ARRAYS[kind](f, X)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)
    J, u = f.jacobian(POINT, X).toarray(), BLOCK[:3, :1].T
    close(total(POINT), f(POINT, X))
    close(total.jvp(POINT, V), (J @ V).reshape(1, 3))
    close(total.jvp(POINT, BLOCK), (J @ BLOCK).reshape(1, 3, 3))
    close(total.vjp(POINT, u), J.T @ u[0])
    operator = total.jacobian(POINT)
    for v in (V, BLOCK, V + 1j):
        close(operator @ v, J @ v)
    for w in (u[0], BLOCK[:3]):
        close(operator.T @ w, J.T @ w)
    close(operator.rmatvec(u[0]), J.T @ u[0])
    close((operator.T @ operator).toarray(), J.T @ J)
    close(operator.value, total(POINT))
    assert operator.products == 2 + 3 + 1 + 3 + 1 + 2 * N
    H, expected = total.weighted_hessian(POINT, u), f.weighted_hessian(POINT, u, X)
    close(H.toarray(), expected.toarray())
    close(H.value, expected.value)
    close(H.gradient, expected.gradient)


def test_a_root_of_a_sum():
    f = nbhvp.differentiable(lambda w, X: X.T @ np.tanh(X @ w - 1) + len(X) * w, target="interpret")
    total = nbhvp.sum_over(f, nbhvp.chunks(X, rows=5))
    expected = nbhvp.root(f, POINT, X)
    for method in ("hybr", "krylov"):
        found = nbhvp.root(total, POINT, method=method)
        assert found.success
        np.testing.assert_allclose(found.x, expected.x, atol=1e-7)


def test_functions_of_trees():
    tree = {"a": np.ones(2), "b": 3.0}
    x, unravel = nbhvp.ravel(tree)
    fun = lambda p, c: c * p["b"] ** 2 * np.sum(np.sin(p["a"]))
    f = nbhvp.differentiable(fun, unravel=unravel, target="interpret")
    total, whole = nbhvp.sum_over(f, [1.0, 2.0]), f.hessian(x, 3.0)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-12)
    assert total(tree) == pytest.approx(f(tree, 3.0))
    close(total.grad(x), f.grad(x, 3.0))
    close(total.grad(tree)["a"], f.grad(tree, 3.0)["a"])
    close(total.hvp(tree, tree)["b"], f.hvp(tree, tree, 3.0)["b"])
    close(total.hessian(tree).block("a", "b").toarray(), whole.block("a", "b").toarray())
    close(total.hessian(x).block("b").T.toarray(), whole.block("b").toarray())
    pair = lambda p, c: [c * p["b"] * p["a"][0], c * p["a"][1]]
    r = nbhvp.differentiable(pair, unravel=unravel, target="interpret")
    J = nbhvp.sum_over(r, [1.0, 2.0]).jacobian(tree)
    close(J.block("a", slice(1)).toarray(), r.jacobian(x, 3.0).block("a", slice(1)).toarray())


def test_x_of_several_axes():
    f = nbhvp.differentiable(lambda W, X: np.sum(np.cos(X @ W)), target="interpret")
    total = nbhvp.sum_over(f, nbhvp.chunks(X, rows=5))
    W, D = rng.standard_normal((N, 2)), rng.standard_normal((N, 2))
    np.testing.assert_allclose(total.hvp(W, D), f.hvp(W, D, X), rtol=1e-12)
    np.testing.assert_allclose(total.grad(W), f.grad(W, X), rtol=1e-12)
    assert total.hessian(W).shape == (2 * N, 2 * N)


def test_float32_stays():
    f = interpreted("logistic")
    total = nbhvp.sum_over(f, [(a.astype("f4"), b.astype("f4")) for a, b in parts()])
    assert (
        total.grad(POINT.astype("f4")).dtype
        == total.hvp(POINT.astype("f4"), V.astype("f4")).dtype
        == "f4"
    )


def test_solvers_and_estimators_take_a_sum():
    f = nbhvp.differentiable(
        lambda w, X, y: np.sum(np.logaddexp(0.0, -y * (X @ w))) + 0.1 * len(y) * (w @ w),
        target="interpret",
    )
    total = nbhvp.sum_over(f, [(a, np.sign(b)) for a, b in parts()])
    whole = nbhvp.minimize(f, np.zeros(N), (X, np.sign(Y)), tol=1e-8)
    for method in ("trust-krylov", "newton-cg", "newton-pcg", "hessian-free", "l-bfgs-b"):
        if method == "l-bfgs-b":
            with pytest.warns(UserWarning, match="no Hessian-vector products"):
                found = nbhvp.minimize(total, np.zeros(N), method=method, tol=1e-10)
        else:
            found = nbhvp.minimize(total, np.zeros(N), method=method, tol=1e-8)
            assert found.nhvp > 0
        np.testing.assert_allclose(found.x, whole.x, atol=1e-5)
    H = total.hessian(whole.x)
    exact = np.trace(H.toarray())
    assert nbhvp.curvature.trace(H, 10).value == pytest.approx(exact)
    posterior = nbhvp.curvature.laplace(total, whole.x)
    assert posterior.variance().shape == (N,)


# Order and determinism.


@pytest.mark.parametrize("count", [*range(1, 20), 64, 100, 1000])
def test_parts_keep_the_order_of_the_sum(count):
    terms = rng.standard_normal(count) * 10.0 ** rng.integers(-8, 8, count)
    leaves = [(k, 0, (term,)) for k, term in enumerate(terms)]
    whole = tree.total(leaves)
    assert whole[0] == pytest.approx(terms.sum(), abs=1e-14 * abs(terms).sum())
    for shares in ([1], [1, 1], [3, 1, 2], [1] * 7, [1] * 16):
        found = spans(range(count), shares)
        assert [k for span in found for k in span] == list(range(count))
        sums = [tree.parts(leaves[span.start : span.stop]) for span in found]
        assert tree.total(part for some in sums for part in some) == whole
        assert max(map(len, sums)) <= 6
        longest, fair = max(map(len, found)), count * max(shares) / sum(shares)
        assert longest <= 1.25 * fair + 1


def test_nothing_sums_to_none():
    assert tree.total([]) is None


def test_check_deterministic():
    f = interpreted("logistic")
    nbhvp.sum_over(f, parts()).check_deterministic(POINT)
    other = np.random.default_rng(1)
    shuffled = nbhvp.sum_over(f, lambda: [(other.permutation(X), Y)])
    with pytest.raises(RuntimeError, match="the value differs between two passes"):
        shuffled.check_deterministic(POINT)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_threads(workers):
    f = interpreted("logistic")
    alone = nbhvp.sum_over(f, parts(2))
    with concurrent.futures.ThreadPoolExecutor(workers) as executor:
        total = nbhvp.sum_over(f, parts(2), executor)
        assert_whole(total, f)
        np.testing.assert_array_equal(total.hvp(POINT, V), alone.hvp(POINT, V))
        assert total(POINT) == alone(POINT)


def module_level(w, X, y):
    return np.sum(np.logaddexp(0.0, -y * (X @ w)))


def processes(count):
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(count, context)


@pytest.mark.compiles
def test_processes(tmp_path):
    f = nbhvp.differentiable(FUNCTIONS["logistic"], target="interpret")  # by value
    alone = nbhvp.sum_over(f, parts(2))
    big = np.tile(X, (2000, 1))
    np.save(tmp_path / "big.npy", big)
    mapped = np.load(tmp_path / "big.npy", mmap_mode="r")
    labels = np.tile(Y, 2000)
    with processes(2) as executor:
        total = nbhvp.sum_over(f, parts(2), executor)
        assert_whole(total, f)
        np.testing.assert_array_equal(total.hvp(POINT, V), alone.hvp(POINT, V))
        folder = total._runner._folder
        assert folder.exists()
        chunks = nbhvp.chunks(mapped, labels, rows=5000)
        assert len(pickle.dumps(nbhvp.chunks(mapped, rows=5000))) < 1000
        over = nbhvp.sum_over(f, chunks, executor)
        np.testing.assert_allclose(over.hvp(POINT, V), f.hvp(POINT, V, big, labels), rtol=1e-12)
        large = nbhvp.differentiable(lambda w, s: np.sum(np.cos(s * w)), target="interpret")
        w = rng.standard_normal(20_000)
        over = nbhvp.sum_over(large, [1.0, 2.0, 3.0], executor)
        for v in (w, 2 * w):
            expected = sum(large.hvp(w, v, s) for s in (1.0, 2.0, 3.0))
            np.testing.assert_allclose(over.hvp(w, v), expected, rtol=1e-12)
    del total, over
    assert not folder.exists()


def failing(w, k):
    if k > 1:
        raise ZeroDivisionError("in the user's function")
    return w @ w


def dying(w, k):
    os._exit(1)


@pytest.mark.compiles
def test_failures_in_processes():
    with processes(1) as executor:
        f = nbhvp.differentiable(failing, target="interpret")
        with pytest.raises(ZeroDivisionError, match="in the user's function") as caught:
            nbhvp.sum_over(f, [1.0, 2.0], executor)(POINT)
        assert caught.value.__notes__[0] == "The batch is number 1, counted from 0."
        f = nbhvp.differentiable(dying, target="interpret")
        with pytest.raises(concurrent.futures.BrokenExecutor):
            nbhvp.sum_over(f, [1.0, 2.0], executor)(POINT)


def test_versions_that_differ(monkeypatch):
    theirs = (("Python", "3.99"), *work.versions()[1:])
    sent = pickle.dumps(work.Parcel(interpreted("logistic"), None, parts(), None, 0, theirs))
    assert len(pickle.dumps(work.versions())) < 500
    with pytest.raises(RuntimeError, match=r"Python 3\.99 there, .* here: install the same"):
        pickle.loads(sent)


def test_a_process_keeps_few_parcels_open(tmp_path):
    for _ in range(2 * pool.OPEN):
        parcel = work.Parcel(interpreted("squares"), None, parts(), None, 0, work.versions())
        there = pickle.loads(pickle.dumps(pool.Filed(parcel, tmp_path)))
        assert there.parcel() is there.parcel()
    assert len(pool._known) <= pool.OPEN


def test_functions_of_a_notebook_go_by_value(tmp_path, monkeypatch):
    def in_a_cell(w, X, y):
        return np.sum((X @ w - y) ** 4)

    in_a_cell.__module__, in_a_cell.__qualname__ = "__main__", "in_a_cell"
    f = nbhvp.differentiable(in_a_cell, target="interpret")
    monkeypatch.setattr("__main__.in_a_cell", f, raising=False)
    parcel = work.Parcel(f, None, parts(), None, 0, work.versions())
    sent = pickle.dumps(pool.Filed(parcel, tmp_path))
    monkeypatch.delattr("__main__.in_a_cell")  # as in a process that has not run the cell
    task = work.Task("value", POINT, b"")
    (there,) = tree.total(pickle.loads(sent).parcel().run(task))
    assert there == pytest.approx(f(POINT, X, Y), rel=1e-12)


def test_several_threads_use_one_sum():
    total = nbhvp.sum_over(interpreted("logistic"), parts())
    points = [POINT + k for k in range(8)]
    expected = [total.hvp(x, V) for x in points]
    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        found = list(executor.map(lambda x: total.hvp(x, V), points))
    np.testing.assert_array_equal(found, expected)
    assert threading.active_count() < 20


def test_progress():
    seen = []
    nbhvp.sum_over(interpreted("squares"), parts(), progress=seen.append)(POINT)
    assert seen == list(range(1, 11))


def test_inputs_are_not_modified():
    given = [(X.copy(), Y.copy())]
    x, v = POINT.copy(), V.copy()
    total = nbhvp.sum_over(interpreted("squares"), given)
    total.value_and_grad(x)
    found = total.hvp(x, v)
    found[:] = 0
    np.testing.assert_array_equal(x, POINT)
    np.testing.assert_array_equal(v, V)
    np.testing.assert_array_equal(given[0][0], X)
    assert total.hvp(x, v).any()


# Chunks.


@pytest.mark.parametrize("part", [slice(None), slice(3, 20), slice(0, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_chunks_of_files_travel_by_name(tmp_path, part, order):
    a = np.asarray(rng.standard_normal((40, 3)), order=order)
    np.save(tmp_path / "a.npy", a)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")[part]
    chunks = nbhvp.Chunks((mapped,), 7)
    there = pickle.loads(pickle.dumps(chunks))
    assert len(there) == len(chunks)
    for (one,), (other,) in zip(there, chunks, strict=True):
        np.testing.assert_array_equal(one, other)
        assert type(other) is np.ndarray and not other.flags.writeable
    if order == "C" and len(mapped):
        assert isinstance(there.arrays[0], np.memmap)


def test_chunks_count_from_both_ends():
    chunks = nbhvp.chunks(X, Y, rows=10)
    assert len(chunks) == 4 and chunks[-1][0].shape == (7, N)
    with pytest.raises(IndexError):
        chunks[4]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda f: nbhvp.sum_over(f, []), ValueError, "at least one batch"),
        (lambda f: nbhvp.sum_over(f, lambda: [])(POINT), ValueError, "at least one batch"),
        (lambda f: nbhvp.sum_over(f, parts(), reduce="max"), ValueError, "got 'max'"),
        (lambda f: nbhvp.sum_over(f, parts(), weights=[1.0]), ValueError, r"10 weights, got an array of shape \(1,\)"),
        (lambda f: nbhvp.sum_over(f, lambda: parts(), reduce="mean"), ValueError, "whose length is known"),
        (lambda f: nbhvp.sum_over(f, parts(), reduce="mean", weights=np.zeros(10)), ValueError, "which is 0"),
        (lambda f: nbhvp.sum_over(f, parts(), weights=np.full(10, np.nan)), ValueError, "finite weights"),
        (lambda f: nbhvp.sum_over(f, parts(), sample=11), ValueError, "got 11 of 10"),
        (lambda f: nbhvp.sum_over(f, parts(), executor=3), TypeError, "got a int"),
        (lambda f: nbhvp.sum_over(f, lambda: parts(), concurrent.futures.ThreadPoolExecutor(1)), TypeError, "as a sequence"),
        (lambda f: nbhvp.sum_over(f, parts()).hvp(POINT, V[:2]), ValueError, r"got \(2,\)"),
        (lambda f: nbhvp.sum_over(f, X), TypeError, r"got an array of shape \(37, 5\)"),
        (lambda f: nbhvp.minimize(nbhvp.sum_over(f, parts()), POINT, (1.0,)), TypeError, "no further arguments"),
        (lambda f: nbhvp.sum_over(f, parts()).hessian(POINT).block("a"), TypeError, "takes x as it is"),
        (lambda f: nbhvp.sum_over(nbhvp.gauss_newton(f), parts()).jvp(POINT, V), TypeError, "jvp is for a sum of a function"),
        (lambda f: nbhvp.sum_over(nbhvp.gauss_newton(f), parts()).jacobian(POINT), TypeError, "jacobian is for"),
        (lambda f: nbhvp.differentiable(nbhvp.sum_over(f, parts())), TypeError, "has derivatives already"),
        (lambda f: nbhvp.least_squares(nbhvp.sum_over(f, parts()), POINT), TypeError, "adds them up"),
        (lambda f: nbhvp.sum_over(f, parts())({"a": POINT}), TypeError, "x must be float32 or float64"),
        (lambda f: nbhvp.sum_over(nbhvp.differentiable(lambda w, X: X @ w, target="interpret"), nbhvp.chunks(X, rows=30))(POINT), ValueError, r"got \(30,\) and \(7,\)"),
        (lambda f: nbhvp.chunks(rows=3), TypeError, "at least one array"),
        (lambda f: nbhvp.chunks(X, Y[:3], rows=3), ValueError, "one length, got 37, 3"),
        (lambda f: nbhvp.chunks(X, rows=0), ValueError, "at least one row"),
    ],
)  # fmt: skip
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call(interpreted("squares"))


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="tells the memory of Linux")
def test_files_do_not_stay_in_memory(tmp_path):
    """Passes over 160 MB with little kept take a few chunks of 4 MB, and no pages of the file."""
    rows = 400_000
    mapped = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", float, (rows, 50))
    for k in range(0, rows, 20_000):
        mapped[k : k + 20_000] = rng.standard_normal((20_000, 50))
    del mapped
    mapped, sizes = np.load(tmp_path / "a.npy", mmap_mode="r"), []
    f = nbhvp.differentiable(lambda w, X: np.sum((X @ w) ** 3), target="interpret")
    chunks = nbhvp.chunks(mapped, rows=10_000)
    tell = lambda done: sizes.append(resident())
    total = nbhvp.sum_over(f, chunks, memory=0, progress=tell)
    before = resident()
    H = total.hessian(np.ones(50))
    total.grad(np.ones(50))
    H @ np.ones(50)
    assert len(sizes) == 80
    own, of_files = np.max(sizes, axis=0) - before
    assert own < 60e6 and of_files < 30e6
    kept = nbhvp.sum_over(f, list(chunks))
    kept.hessian(np.ones(50)) @ np.ones(50)
    assert resident()[0] - before[0] > 150e6, "what is kept is seen"


def resident():
    """Bytes of this process that are its own, and that are pages of files."""
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file if ":" in line)
    return np.array([int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile")])


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_chunks_are_those_of_the_array(tmp_path, mode):
    np.save(tmp_path / "a.npy", X)
    mapped = np.load(tmp_path / "a.npy", mmap_mode=mode)
    if mode != "r":
        mapped[3] = 7.0  # a change that stays in memory in mode "c"
    for part in (mapped, mapped[::2], mapped[:, 1:], mapped.T):
        chunks = nbhvp.chunks(part, rows=3)
        for found in (chunks, chunks, pickle.loads(pickle.dumps(chunks))):
            np.testing.assert_array_equal(np.concatenate([a for (a,) in found]), part)
    assert len(pickle.dumps(nbhvp.chunks(mapped, rows=3))) < 1000 or mode == "c"
