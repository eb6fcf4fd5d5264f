"""Products of sums over batches: ``python benchmarks/sums.py``.

Prints the overhead per product beside a plain loop over operators, for 8 small batches in this process,
in threads, in processes and on a Dask cluster of this machine; the gain of two workers with one thread
each where a batch takes some 20 ms; and the rate at which products pass over a file that is larger
than the memory that they may keep (`--gigabytes`).
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

import nbhvp

N = 100


@nbhvp.differentiable
def logistic(w, X, y):
    return np.sum(np.logaddexp(0.0, -y * (X @ w)))


def median(call, count):
    call()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def batches(rows, count):
    rng = np.random.default_rng(0)
    draw = rng.standard_normal
    return [(draw((rows, N)), np.sign(draw(rows))) for _ in range(count)]


@contextlib.contextmanager
def executor(kind, workers):
    context = multiprocessing.get_context("spawn")
    if kind == "none":
        yield None
    elif kind == "threads":
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            yield pool
    elif kind == "processes":
        with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
            yield pool
    else:
        import distributed

        cluster = distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None
        )
        with cluster, distributed.Client(cluster) as client:
            yield client


def product_seconds(kind, data, workers=2, count=100):
    w, v = np.full(N, 0.1), np.ones(N)
    with executor(kind, workers) as found:
        H = nbhvp.sum_over(logistic, data, found).hessian(w)
        return median(lambda: H @ v, count)


def from_disk(gigabytes):
    """Seconds of a product over a file, and of reading it, where little may be kept."""
    rows = int(gigabytes * 1e9 / 8 / N)
    w, v = np.full(N, 1e-3), np.ones(N)
    with tempfile.TemporaryDirectory() as folder:
        X = np.lib.format.open_memmap(f"{folder}/X.npy", "w+", float, (rows, N))
        draw = np.random.default_rng(0).standard_normal((10_000, N))
        for k in range(0, rows, len(draw)):
            X[k : k + len(draw)] = draw[: rows - k]
        X.flush()
        X = np.load(f"{folder}/X.npy", mmap_mode="r")
        y = np.where(np.arange(rows) % 2, 1.0, -1.0)
        chunks = nbhvp.chunks(X, y, rows=40_000)
        H = nbhvp.sum_over(logistic, chunks, memory=0).hessian(w)
        product = median(lambda: H @ v, 3)
        reading = median(lambda: [float(batch[0][0, 0]) for batch in chunks], 3)
        return product, reading


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of the file")
    parser.add_argument("--kinds", nargs="*", default=["none", "threads", "processes", "dask"])
    options = parser.parse_args()
    small = batches(10, 8)
    w, v = np.full(N, 0.1), np.ones(N)
    operators = [logistic.hessian(w, *batch) for batch in small]
    loop = median(lambda: sum(H @ v for H in operators), 1000)
    print(f"a loop over 8 operators: {1e6 * loop:.0f} us per product")
    for kind in options.kinds:
        taken = product_seconds(kind, small) - loop
        print(f"{kind}: {1e6 * taken:.0f} us more, {1e6 * taken / 8:.1f} us per batch")
    os.environ["NUMBA_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    large = batches(150_000, 8)
    for kind in [kind for kind in options.kinds if kind in ("processes", "dask")]:
        one, two = (product_seconds(kind, large, workers, 10) for workers in (1, 2))
        print(
            f"{kind}, 8 batches: {one / 8 * 1e3:.0f} ms per batch, two workers {one / two:.2f} times one"
        )
    product, reading = from_disk(options.gigabytes)
    rate = options.gigabytes / product
    print(
        f"{options.gigabytes:g} GB from a file: {product:.2f} s per product, {rate:.2f} GB/s; "
        f"reading alone {reading:.2f} s"
    )


if __name__ == "__main__":
    main()
