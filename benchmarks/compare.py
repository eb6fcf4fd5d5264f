"""Hessian-vector products side by side, in one process: ``python benchmarks/compare.py [--quick]``.

Every contestant computes H(x) v at one fixed point, everything that does not depend on v being
done beforehand. They take turns, one sample each per round, so that a slow spell of the machine
hits all alike; the figure is the median over the rounds. Each is checked against the closed form
before it is timed. Output: one Markdown table, with ratios to

- the product derived by hand (``benchmarks.hand``);
- the byte floor: 24 n bytes (x, v and the result) over the bandwidth of a copy by the same number
  of threads, measured as the time of a copy that moves just these 24 n bytes, so that both meet
  the same caches;
- for logistic regression, two BLAS gemv.

A contestant is one entry of ``CONTESTANTS``: ``prepare(problem, threads)`` returns
``product(v) -> H v``, or None where it has nothing to say. If its package is missing
(ImportError), its column is left empty and the last line says so.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SIZES = {
    False: [
        ("rosenbrock", 10),
        ("rosenbrock", 1_000_000),
        ("logistic", (20_000, 500)),
        ("mlp", ((64, 32, 10), 1797)),
        ("surface", (200, 200)),
        ("lennard_jones", 10),
        ("mixture", (10_000, 8, 8)),
        ("transcendental", 5),
        ("heat", (2000, 200)),
    ],
    True: [
        ("rosenbrock", 10),
        ("rosenbrock", 100_000),
        ("logistic", (2000, 200)),
        ("mlp", ((64, 32, 10), 256)),
        ("surface", (50, 50)),
        ("lennard_jones", 5),
        ("mixture", (1000, 3, 4)),
        ("transcendental", 5),
        ("heat", (200, 50)),
    ],
}
COPY, HAND, GEMV, OURS = "byte floor", "by hand", "two gemv", "nbhvp"


def _copy(problem, threads):
    from benchmarks import hand

    copy = hand.prepare_copy(problem.x0.size, threads)
    return lambda v: copy()


def _hand(problem, threads):
    from benchmarks import hand

    product, out = hand.prepare(problem, problem.x0, threads), problem.v.copy()
    return lambda v: product(v, out)


def _two_gemv(problem, threads):
    if problem.name != "logistic":
        return None
    from scipy.special import expit

    X, y, l2 = (problem.data[key] for key in ("X", "y", "l2"))
    p = expit(X @ problem.x0)
    curvature = p * (1.0 - p) / y.size
    return lambda v: (curvature * (X @ v)) @ X + l2 * v


def _nbhvp(problem, threads):
    from nbhvp import differentiable

    hessian = differentiable(problem.fun).hessian(problem.x0, *problem.args)
    return lambda v: hessian @ v


CONTESTANTS: dict[str, Callable] = {
    COPY: _copy,
    HAND: _hand,
    GEMV: _two_gemv,
    OURS: _nbhvp,
}


def compare(problem, threads: int, rounds: int, sample_seconds: float):
    """Seconds per call of each contestant, one list of ``rounds`` samples each; who is missing."""
    products, missing = {}, []
    for label, prepare in CONTESTANTS.items():
        try:
            product = prepare(problem, threads)
        except ImportError as error:
            missing.append(f"{label} ({error})")
            continue
        if product is not None:
            products[label] = product
            if label != COPY:
                _check(label, problem, product)
    calls = {
        label: _calls(product, problem.v, sample_seconds) for label, product in products.items()
    }
    samples = {label: [] for label in products}
    for _ in range(rounds):
        for label, product in products.items():
            samples[label].append(_sample(product, problem.v, calls[label]))
    return samples, missing


def _check(label, problem, product):
    import numpy as np

    needed = problem.hvp(problem.x0, problem.v, *problem.args)
    error = np.linalg.norm(product(problem.v) - needed) / np.linalg.norm(needed)
    if not error <= 1e-10:
        raise AssertionError(f"{label} on {problem.name}: relative error {error:.1e}, not 1e-10")


def _sample(product, v, calls):
    start = time.perf_counter()
    for _ in range(calls):
        product(v)
    return (time.perf_counter() - start) / calls


def _calls(product, v, seconds):
    """How many calls fill a sample, from the best of three single ones."""
    single = min(_sample(product, v, 1) for _ in range(3))
    return max(1, round(seconds / max(single, 1e-7)))


def row(problem, samples) -> str:
    """The Markdown row of one problem: times of all contestants, ratios of OURS to the others."""
    cells = [problem.name, f"{problem.x0.size}"]
    for label in CONTESTANTS:
        times = samples.get(label)
        cells.append("" if times is None else f"{1e6 * statistics.median(times):.3g}")
    cells += [_ratio(samples[OURS], samples.get(label)) for label in CONTESTANTS if label != OURS]
    return "| " + " | ".join(cells) + " |"


def _ratio(ours, others) -> str:
    if others is None:
        return ""
    ratios = [a / b for a, b in zip(ours, others, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def header() -> str:
    """The first two lines of the table."""
    others = [label for label in CONTESTANTS if label != OURS]
    cells = ["problem", "n", *(f"{label}, µs" for label in CONTESTANTS)]
    cells += [f"{OURS} / {label}" for label in others]
    return "| " + " | ".join(cells) + " |\n|---" + "|--:" * (len(cells) - 1) + "|"


def main() -> None:
    """Print the table for the sizes and threads that the command line asks for."""
    parser = argparse.ArgumentParser(description="Hessian-vector products side by side.")
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds")
    parser.add_argument("--threads", type=int, default=1, help="threads of kernels and of BLAS")
    parser.add_argument("--only", help="one problem, by name")
    options = parser.parse_args()
    # Thread pools take their size when NumPy and numba are imported, hence imports in functions.
    for name in ("OPENBLAS", "OMP", "MKL", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = str(options.threads)
    # OpenMP's threads go on spinning after a loop by hand, on the cores that the next one needs.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import numba
    import numpy

    from benchmarks.problems import MAKERS

    rounds, seconds = (7, 5e-4) if options.quick else (41, 5e-3)
    print(
        f"{platform.machine()}, Python {platform.python_version()}, NumPy {numpy.__version__}, "
        f"numba {numba.__version__}, {options.threads} thread(s), medians of {rounds} rounds\n"
    )
    print(header())
    absent = set()
    for name, size in SIZES[options.quick]:
        if options.only in (None, name):
            problem = MAKERS[name](size)
            samples, missing = compare(problem, options.threads, rounds, seconds)
            absent.update(missing)
            print(row(problem, samples), flush=True)
    if absent:
        print(f"\nLeft out: {'; '.join(sorted(absent))}.")


if __name__ == "__main__":
    main()
