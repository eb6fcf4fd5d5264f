"""Products of sums over batches: ``python benchmarks/sums.py --parts overhead gain sent disk solve``.

overhead: seconds of a product beyond those of a plain loop over operators, for 8 small batches in this
process, in threads, in processes, and on a Dask cluster of this machine; and on clusters with more workers.
gain: two workers with one thread each against one, for batches that compute for 20 ms, and that wait for
20 ms. sent: bytes that go through the loopback device of a cluster, and through the pipes of processes, for
a new x and for a product. disk: the rate of a logistic regression over a file of `--gigabytes`, beside that
of a loop that only reads it, each after the file was dropped from the page cache, and the resident memory.
solve: minima of softmax regressions found by one process and by a cluster. Linux alone.
"""

import argparse
import concurrent.futures
import contextlib
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import scipy.special

import nbhvp

N = 100


@nbhvp.differentiable
def logistic(w, X, y):
    return np.sum(np.logaddexp(0.0, -y * (X @ w)))


@nbhvp.differentiable
def network(w, X, y):
    A, b = w[:2500].reshape(50, 50), w[2500:]
    return np.sum((np.tanh(X @ A) @ b - y) ** 2)


@nbhvp.differentiable
def softmax(w, X, labels):
    z = X @ w.reshape(X.shape[1], -1)
    likelihood = np.sum(scipy.special.logsumexp(z, axis=1)) - np.sum(z * labels)
    return likelihood + 1e-4 * len(X) * (w @ w)


class Waiting(nbhvp.Chunks):
    """Chunks that come from far away."""

    def __getitem__(self, k):
        time.sleep(0.02)
        return super().__getitem__(k)


def times(call, count):
    call()
    found = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def median(call, count):
    return statistics.median(times(call, count))


def batches(rows, count, columns=N):
    draw = np.random.default_rng(0).standard_normal
    return [(draw((rows, columns)), np.sign(draw(rows))) for _ in range(count)]


@contextlib.contextmanager
def executor(kind, workers=2):
    if kind == "none":
        yield None
    elif kind == "threads":
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            yield pool
    elif kind == "processes":
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
            yield pool
    else:
        import distributed

        cluster = distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=":0"
        )
        with cluster, distributed.Client(cluster) as client:
            yield client


def overhead(options):
    small = batches(10, 8)
    w, v = np.full(N, 0.1), np.ones(N)
    operators = [logistic.hessian(w, *batch) for batch in small]
    loop = median(lambda: sum(H @ v for H in operators), 1000)
    print(f"a loop over 8 operators: {1e6 * loop:.0f} us per product")
    for kind in options.kinds:
        with executor(kind) as found:
            H = nbhvp.sum_over(logistic, small, found).hessian(w)
            taken = np.quantile(times(lambda H=H: H @ v, 200), [0.5, 0.1]) - loop
        print(
            f"{kind}: {1e6 * taken[0]:.0f} us more, {1e6 * taken[0] / 8:.1f} us per batch "
            f"(the fastest tenth: {1e6 * taken[1]:.0f})"
        )
    if "dask" in options.kinds:
        for workers in (1, 4, 8):
            with executor("dask", workers) as found:
                H = nbhvp.sum_over(logistic, batches(10, 8 * workers), found).hessian(w)
                taken = np.quantile(times(lambda H=H: H @ v, 100), [0.5, 0.1])
            print(f"dask, {workers} workers: {1e3 * taken[0]:.1f} ms (tenth: {1e3 * taken[1]:.1f})")


def gain(options):
    os.environ["NUMBA_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    cases = {
        "network": (network, batches(30_000, 8, 50), np.full(2550, 0.1)),
        "logistic": (logistic, batches(250_000, 8), np.full(N, 0.1)),
        "waiting": (logistic, Waiting((np.ones((80, N)), np.ones(80)), 10), np.full(N, 0.1)),
    }
    for kind in [kind for kind in options.kinds if kind in ("processes", "dask")]:
        for name, (f, data, w) in cases.items():
            with executor(kind, 1) as one, executor(kind, 2) as two:
                calls = []
                for found in (one, two):
                    total = nbhvp.sum_over(
                        f, data, found, memory=0 if name == "waiting" else 1 << 32
                    )
                    H, v = total.hessian(w), np.ones(len(w))
                    calls.append(lambda H=H, v=v: H @ v)
                    calls[-1]()
                pairs = np.array([[times(call, 1)[0] for call in calls] for _ in range(10)])
            slow, fast = np.median(pairs, axis=0)
            print(
                f"{kind}, {name}: {slow / 8 * 1e3:.0f} ms per batch, "
                f"two workers {slow / fast:.2f} times one"
            )


def through_loopback():
    [line] = [line for line in Path("/proc/net/dev").read_text().splitlines() if " lo:" in line]
    return int(line.split()[1])


def through_pipes():
    """Bytes that this process has written and read."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"]) + int(fields["rchar"])


def sent(options):
    for kind, counted in (("processes", through_pipes), ("dask", through_loopback)):
        if kind not in options.kinds:
            continue
        for n in (100, 100_000):
            f = nbhvp.differentiable(lambda x, s: np.sum(np.cos(s * x)))
            with executor(kind) as found:
                total = nbhvp.sum_over(f, [float(k) for k in range(8)], found)
                x, v = np.ones(n), np.ones(n)
                H = total.hessian(x)
                H @ v
                before = counted()
                for _ in range(20):
                    H @ v
                product = (counted() - before) / 20
                before = counted()
                for k in range(20):
                    total.hessian(x + k) @ v
                new = (counted() - before) / 20 - product
            print(
                f"{kind}, n = {n}: {product:,.0f} bytes for a product, {new:,.0f} more for a new x"
            )


def resident():
    """Megabytes of this process that are its own, and that are pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return np.array([int(fields[name].split()[0]) / 1e3 for name in ("RssAnon", "RssFile")])


def disk(options):
    rows = int(options.gigabytes * 1e9 / 8 / N)
    w, v = np.full(N, 1e-3), np.ones(N)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = f"{folder}/X.npy"
        X = np.lib.format.open_memmap(path, "w+", float, (rows, N))
        draw = np.random.default_rng(0).standard_normal((100_000, N))
        for k in range(0, rows, len(draw)):
            X[k : k + len(draw)] = draw[: rows - k]
        X.flush()
        del X
        X = np.load(path, mmap_mode="r")
        y = np.lib.format.open_memmap(f"{folder}/y.npy", "w+", float, (rows,))
        y[:] = np.where(np.arange(rows) % 2, 1.0, -1.0)
        sizes = []
        total = nbhvp.sum_over(
            logistic,
            nbhvp.chunks(X, y, rows=40_000),
            memory=options.memory,
            progress=lambda done: sizes.append(resident()),
        )
        H = total.hessian(w)
        buffer = bytearray(40_000 * N * 8)

        def reading():
            with open(path, "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass

        calls = [
            ("reading alone", reading),
            ("first product", lambda: H @ v),
            ("product", lambda: H @ v),
            ("value and gradient", lambda: total.value_and_grad(w)),
            ("reading alone", reading),
        ]
        for name, call in calls:
            with open(path) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            start, cpu = time.perf_counter(), time.process_time()
            call()
            taken, cpu = time.perf_counter() - start, time.process_time() - cpu
            print(
                f"{name}: {taken:.1f} s, {options.gigabytes / taken:.2f} GB/s, "
                f"{cpu:.1f} s of processors",
                flush=True,
            )
        own, files = np.max(sizes, axis=0)
        both = np.max(np.sum(sizes, axis=1))
        print(
            f"resident at most: {own:.0f} MB own, {files:.0f} MB of files, {both:.0f} MB together"
        )


def of_digits():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images / 16.0, np.eye(10)[labels], 200


def of_covertype():
    """Data of the shape of covertype: 581,012 rows, 54 columns, 7 classes."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((581_012, 54))
    z = X @ rng.standard_normal((54, 7)) + 3 * rng.gumbel(size=(len(X), 7))
    return X, np.eye(7)[np.argmax(z, axis=1)], 20_000


def solve(options):
    for name, make in {"digits": of_digits, "covertype": of_covertype}.items():
        X, labels, rows = make()
        data = nbhvp.chunks(X, labels, rows=rows)
        start = np.zeros(X.shape[1] * labels.shape[1])
        for method in ("trust-krylov", "hessian-free"):
            results = []
            for kind in ("none", "dask"):
                with executor(kind) as found:
                    total = nbhvp.sum_over(softmax, data, found)
                    clock = time.perf_counter()
                    result = nbhvp.minimize(
                        total, start, method=method, tol=1e-6 * len(X), options={"maxiter": 100}
                    )
                    taken = time.perf_counter() - clock
                    slope = np.linalg.norm(total.grad(result.x)) / len(X)
                results.append(result)
                print(
                    f"{name}, {method}, {kind}: {result.fun / len(X):.12f} per row, |g| {slope:.1e}, "
                    f"{result.nit} steps, {result.nhvp} products, {taken:.1f} s",
                    flush=True,
                )
            one, other = results
            away = np.max(abs(one.x - other.x)) / np.max(abs(one.x))
            print(f"{name}, {method}: the two minima differ by {away:.1e}")


PARTS = {"overhead": overhead, "gain": gain, "sent": sent, "disk": disk, "solve": solve}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("--kinds", nargs="*", default=["none", "threads", "processes", "dask"])
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of the file")
    parser.add_argument("--memory", type=float, default=2e8, help="bytes kept of operators")
    parser.add_argument("--folder", help="where the file is written")
    options = parser.parse_args()
    for part in options.parts:
        PARTS[part](options)


if __name__ == "__main__":
    main()
