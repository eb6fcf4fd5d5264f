"""Sums on a Dask cluster of this machine, and over Dask's collections."""

import concurrent.futures
import contextlib
import os
import signal
import time

import numpy as np
import pytest
from scipy.special import logsumexp

import nbhvp

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
module = pytest.importorskip("nbhvp.sums.cluster")

pytestmark = [
    pytest.mark.compiles,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

rng = np.random.default_rng(0)
ROWS, N = 40, 5
X, Y = rng.standard_normal((ROWS, N)), rng.standard_normal(ROWS)
POINT, V = rng.standard_normal(N), rng.standard_normal(N)


@pytest.fixture(scope="module")
def cluster():
    with (
        dask.config.set({"distributed.worker.daemon": False}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
        ) as found,
    ):
        yield found


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as found:
        yield found


@contextlib.contextmanager
def in_threads(workers, threads=1):
    """A cluster in this process."""
    with (
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            dashboard_address=":0",
            processes=False,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def logistic():
    fun = lambda w, X, y: np.sum(np.logaddexp(0.0, -y * (X @ w)))
    return nbhvp.differentiable(fun, target="interpret")


def parts(size=4):
    return [(X[k : k + size], Y[k : k + size]) for k in range(0, ROWS, size)]


@pytest.mark.parametrize("size", [1, 4, 40])
def test_a_cluster_gives_the_bits_of_one_process(client, size):
    f = logistic()
    total, alone = (nbhvp.sum_over(f, parts(size), executor) for executor in (client, None))
    for x in (POINT, POINT + 1):
        np.testing.assert_array_equal(total.hvp(x, V), alone.hvp(x, V))
        np.testing.assert_array_equal(total.hvp(x, 2 * V), alone.hvp(x, 2 * V))
        np.testing.assert_array_equal(total.grad(x), alone.grad(x))
        assert total(x) == alone(x)
    np.testing.assert_allclose(total.hvp(POINT, V), f.hvp(POINT, V, X, Y), rtol=1e-12)


def test_large_arrays_are_broadcast(client):
    f = nbhvp.differentiable(lambda w, s: np.sum(np.cos(s * w)), target="interpret")
    w = rng.standard_normal(20_000)
    total = nbhvp.sum_over(f, [1.0, 2.0, 3.0], client)
    for v in (w, 2 * w):
        expected = sum(f.hvp(w, v, s) for s in (1.0, 2.0, 3.0))
        np.testing.assert_allclose(total.hvp(w, v), expected, rtol=1e-12)


def test_a_lost_worker_changes_nothing(cluster, client, tmp_path):
    died = tmp_path / "died"

    class Deadly(nbhvp.Chunks):
        def __getitem__(self, k):
            if k == 7 and not died.exists():
                died.touch()
                os._exit(1)
            return super().__getitem__(k)

    f = logistic()
    total, alone = (
        nbhvp.sum_over(f, batches, executor)
        for batches, executor in ((Deadly((X, Y), 4), client), (parts(), None))
    )
    np.testing.assert_array_equal(total.hvp(POINT, V), alone.hvp(POINT, V))
    assert died.exists()
    H = total.hessian(POINT)
    H @ V
    client.wait_for_workers(2, timeout=60)
    pid = next(iter(client.run(os.getpid).values()))
    os.kill(pid, signal.SIGKILL)
    np.testing.assert_array_equal(H @ V, alone.hvp(POINT, V))
    client.wait_for_workers(2, timeout=60)


@pytest.mark.parametrize(("workers", "threads"), [(1, 1), (1, 4), (4, 1), (3, 2), (8, 1)])
def test_trees_of_workers(monkeypatch, workers, threads):
    monkeypatch.setattr(module, "FAN", 2)
    f, seen = logistic(), []
    alone = nbhvp.sum_over(f, parts(1))
    with in_threads(workers, threads) as client:
        total = nbhvp.sum_over(f, parts(1), client, progress=seen.append)
        H, G = total.hessian(POINT), alone.hessian(POINT)
        for v in (V, -2 * V):
            np.testing.assert_array_equal(H @ v, G @ v)
        assert seen[-1] == ROWS and sorted(seen[: len(seen) // 2]) == seen[: len(seen) // 2]
        np.testing.assert_array_equal(total.grad(POINT + 1), alone.grad(POINT + 1))
        by_executor = nbhvp.sum_over(f, parts(1), client.get_executor())
        assert by_executor(POINT) == alone(POINT)


read = []


class Slow(nbhvp.Chunks):
    """Chunks of which the later half takes long to read."""

    def __getitem__(self, k):
        read.append(k)
        time.sleep(0.02 * (2 * k >= len(self)))
        return super().__getitem__(k)


@pytest.mark.parametrize("executor", [in_threads, concurrent.futures.ThreadPoolExecutor])
def test_interrupts_stop_workers(executor):
    def interrupted(done):
        raise KeyboardInterrupt

    f, batches = logistic(), Slow((X, Y), 1)
    with executor(2) as found:
        total = nbhvp.sum_over(f, batches, found, progress=interrupted)
        read.clear()
        with pytest.raises(KeyboardInterrupt):
            total(POINT)
        time.sleep(0.1)
        count = len(read)
        time.sleep(0.1)
        assert len(read) == count < ROWS
        quiet = nbhvp.sum_over(f, batches, found)
        assert quiet(POINT) == nbhvp.sum_over(f, parts(1))(POINT)


def failing(w, k):
    raise ZeroDivisionError("in the user's function")


def differing(w, k):
    return k * w


def aborted(done):
    raise LookupError("in progress")


@pytest.mark.parametrize(
    ("fun", "batches", "progress", "error", "words"),
    [
        (failing, [1.0, 2.0], None, ZeroDivisionError, "in the user's function"),
        (differing, [np.ones(2), np.ones(5)], None, ValueError, r"got \(2,\) and \(5,\)"),
        (differing, [1.0, 2.0], aborted, LookupError, "in progress"),
    ],
)
def test_errors_are_raised_at_once(monkeypatch, client, fun, batches, progress, error, words):
    monkeypatch.setattr(module, "PAUSE", 1000.0)
    f = nbhvp.differentiable(fun, target="interpret")
    point = np.ones(1) if fun is differing else POINT
    with pytest.raises(error, match=words) as caught:
        nbhvp.sum_over(f, batches, client, progress=progress)(point)
    if fun is failing:
        assert "in failing" in "".join(caught.value.__notes__)


def set_version(version):
    from nbhvp.sums import work

    work.__version__ = version


def test_workers_of_another_version_and_a_closed_client(cluster):
    with distributed.Client(cluster) as client:
        total = nbhvp.sum_over(logistic(), parts(), client)
        client.run(set_version, "0.0")
        try:
            for _ in range(2):
                with pytest.raises(RuntimeError, match=r"0\.0 here: install the same"):
                    total(POINT)
        finally:
            client.run(set_version, nbhvp.__version__)
        total(POINT)
    with pytest.raises(RuntimeError, match="is closed"):
        total(POINT)


@pytest.mark.parametrize("method", ["trust-krylov", "hessian-free"])
def test_minimize_over_a_cluster(client, method):
    """Softmax regression with the shape of covertype in small: 54 columns, 7 classes."""
    X, labels = rng.standard_normal((80, 54)), np.eye(7)[rng.integers(7, size=80)]

    def fun(w, X, labels):
        z = X @ w.reshape(54, 7)
        return np.sum(logsumexp(z, axis=1)) - np.sum(z * labels) + 0.1 * len(X) * (w @ w)

    f = nbhvp.differentiable(fun, target="interpret")
    start, options = np.zeros(54 * 7), {"method": method, "tol": 1e-6}
    whole = nbhvp.minimize(f, start, (X, labels), **options)
    batches = nbhvp.chunks(X, labels, rows=32)
    alone, found = (
        nbhvp.minimize(nbhvp.sum_over(f, batches, executor), start, **options)
        for executor in (None, client)
    )
    # A worker's BLAS has one thread, and with another number of threads other last bits.
    np.testing.assert_allclose(found.x, alone.x, atol=1e-11)
    np.testing.assert_allclose(found.x, whole.x, atol=1e-6)


@pytest.mark.parametrize("on_cluster", [False, True])
def test_dask_arrays(client, on_cluster):
    import dask.array as da

    f = logistic()
    a, b = da.from_array(X, chunks=(9, -1)), da.from_array(Y, chunks=9)
    total = nbhvp.sum_over(f, (a, b), client if on_cluster else None)
    np.testing.assert_allclose(total.hvp(POINT, V), f.hvp(POINT, V, X, Y), rtol=1e-12)
    g = nbhvp.differentiable(lambda w, X: np.sum(np.cosh(X @ w)), target="interpret")
    np.testing.assert_allclose(
        nbhvp.sum_over(g, a, client if on_cluster else None).grad(POINT),
        g.grad(POINT, X),
        rtol=1e-12,
    )


def test_dask_bags():
    bag_of = pytest.importorskip("dask.bag")
    f = logistic()
    total = nbhvp.sum_over(f, bag_of.from_sequence(parts(), npartitions=3))
    np.testing.assert_allclose(total.hvp(POINT, V), f.hvp(POINT, V, X, Y), rtol=1e-12)


def test_chunks_of_columns_are_an_error():
    import dask.array as da

    with pytest.raises(ValueError, match="rechunk"):
        nbhvp.sum_over(logistic(), da.from_array(X, chunks=(9, 2)))
    with pytest.raises(ValueError, match="same chunks of rows"):
        nbhvp.sum_over(logistic(), (da.from_array(X, chunks=(9, -1)), da.from_array(Y, chunks=20)))
