"""From the start of a script to SciPy's solution: ``python benchmarks/solve.py``.

Six fits and energies are minimised by one solver of SciPy with one tolerance, by the package, JAX and
autograd, each in a fresh process as its user writes it: ``nbhvp.minimize`` of the plain function, and
(kept) of one that was made differentiable for several solves; ``jax.jit`` of
``value_and_grad`` and of the jvp of the gradient in float64; autograd's ``value_and_grad`` and
``hessian_vector_product``. The clock runs from the script's first line, imports of NumPy and SciPy
included, to the solution, with empty caches (cold) and with those that the first process left (warm;
JAX's compilation cache is on); ``again`` is a second call in that process. All must
arrive at one minimum. Contestants take turns in a round; figures are medians over rounds.

Data of scikit-learn are read beforehand; without it these rows are left out, as is a peer that is not
installed.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.programs import Program, gaussian_process, over
from benchmarks.tables import bar, caches, fresh, reason, table

OURS, KEPT, JAX, AUTOGRAD = "nbhvp", "nbhvp, kept", "JAX", "autograd"
SOLVER = {"method": "trust-ncg", "options": {"gtol": 1e-6, "maxiter": 2000}}

# --- the problems ---------------------------------------------------------------------------------


def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def logistic(w, X, y):
    return np.mean(np.logaddexp(0.0, -y * (X @ w))) + 5e-4 * (w @ w)


def surface(x, frame):
    m, n = frame.shape
    z = frame.copy()
    z[1:-1, 1:-1] = x.reshape(m - 2, n - 2)
    p, q = z[1:, 1:] - z[:-1, :-1], z[1:, :-1] - z[:-1, 1:]
    return np.mean(np.sqrt(1.0 + 0.5 * (m - 1) * (n - 1) * (p**2 + q**2)))


def surface_form(x, frame):
    m, n = frame.shape
    z = np.pad(x.reshape(m - 2, n - 2), 1, "constant") + frame
    p, q = z[1:, 1:] - z[:-1, :-1], z[1:, :-1] - z[:-1, 1:]
    return np.mean(np.sqrt(1.0 + 0.5 * (m - 1) * (n - 1) * (p**2 + q**2)))


def lennard_jones(x, i, j):
    positions = x.reshape(-1, 3)
    d = positions[i] - positions[j]
    attraction = 1.0 / np.sum(d**2, axis=1) ** 3
    return 4.0 * np.sum(attraction**2 - attraction)


def network(x, X, labels):
    W, b, V, c = x[:1280].reshape(64, 20), x[1280:1300], x[1300:1500].reshape(20, 10), x[1500:]
    z = np.tanh(X @ W + b) @ V + c
    right = z[np.arange(len(labels)), labels]
    return np.mean(logsumexp(z, axis=1) - right) + 1e-3 * np.sum(x**2)


def _cancer(rng):
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    return np.zeros(30), (X - X.mean(axis=0)) / X.std(axis=0), 2.0 * y - 1.0


def _digits(rng):
    from sklearn.datasets import load_digits

    X, labels = load_digits(return_X_y=True)
    return 0.1 * rng.normal(size=1510), X / 16.0, labels


def _frame(rng):
    s, frame = np.linspace(0.0, 1.0, 80), np.zeros((80, 80))
    frame[0], frame[-1] = np.sin(2.0 * np.pi * s), -np.sin(2.0 * np.pi * s)
    frame[:, 0] = frame[:, -1] = 0.5 * np.sin(np.pi * s)
    return np.zeros(78 * 78), frame


def _cluster(rng):
    """The truncated octahedron of 38 sites of the cubic lattice, with noise, and all pairs."""
    sites = np.stack(np.meshgrid(*3 * [np.arange(-2.0, 3.0)], indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    r2 = np.sum(sites**2, axis=1)
    sites = sites[(r2 % 2 == 1) & (r2 <= 5)]
    x0 = 0.78 * sites + 0.05 * rng.normal(size=(38, 3))
    return x0.ravel(), *np.triu_indices(38, 1)


def _series(rng):
    times = np.linspace(0.0, 10.0, 100)
    return np.array([0.0, 0.0, -1.0]), times, np.sin(times) + 0.2 * rng.normal(size=100)


SOLVES: Mapping[str, Program] = {
    "chained Rosenbrock, n = 1000": Program(lambda rng: (rng.uniform(0, 2, 1000),), rosenbrock),
    "logistic, 569 x 30": Program(_cancer, logistic),
    "minimal surface, 78 x 78": Program(_frame, surface, surface_form),
    "Lennard-Jones, 38 atoms": Program(_cluster, lennard_jones),
    "Gaussian process, 3 parameters": Program(_series, gaussian_process),
    "network 64-20-10": Program(_digits, network),
}


# --- one contestant, in its process ---------------------------------------------------------------

SCRIPT = """
import time
start = time.perf_counter(), time.process_time()
import sys, numpy, scipy.optimize
{package}
from benchmarks.solve import run
run(*sys.argv[1:], start)
"""

PACKAGES = {
    OURS: "import nbhvp",
    KEPT: "import nbhvp",
    JAX: "import jax, jax.numpy, jax.scipy.special",
    AUTOGRAD: "import autograd, autograd.numpy, autograd.scipy.special",
}


def run(contestant: str, label: str, file: str, start: tuple[float, float]) -> None:
    """Solve twice, where something is compiled; print the seconds (wall, processors) and minimum."""
    solve, spans = CONTESTANTS[contestant], []
    with np.load(file) as data:
        x0, *args = data.values()
    minimize = solve(SOLVES[label])
    for _ in range(2 if contestant in PEERS["again"] else 1):
        found = minimize(x0, tuple(args))
        stop = time.perf_counter(), time.process_time()
        spans.append([b - a for a, b in zip(start, stop, strict=True)])
        start = stop
    size = float(np.linalg.norm(found.jac))
    print(json.dumps({"seconds": spans, "fun": float(found.fun), "gradient": size}))


def _ours(program):
    import nbhvp

    return lambda x0, args: nbhvp.minimize(program.fun, x0, args=args, **SOLVER)


def _kept(program):
    import nbhvp

    f = nbhvp.differentiable(program.fun)
    return lambda x0, args: nbhvp.minimize(f, x0, args=args, **SOLVER)


def _jax(program):
    import jax
    from scipy.optimize import minimize

    jax.config.update("jax_enable_x64", True)
    words = {"np": jax.numpy, "logsumexp": jax.scipy.special.logsumexp}
    fun = over(program.form or program.text, **words)
    both = jax.jit(jax.value_and_grad(fun))

    @jax.jit
    def product(x, v, *args):
        return jax.jvp(lambda x: jax.grad(fun)(x, *args), (x,), (v,))[1]

    def value_and_gradient(x, *args):
        value, gradient = both(x, *args)
        return float(value), np.asarray(gradient)

    def hessp(x, v, *args):
        return np.asarray(product(x, v, *args))

    def solve(x0, args):
        args = tuple(map(jax.numpy.asarray, args))
        return minimize(value_and_gradient, x0, args=args, jac=True, hessp=hessp, **SOLVER)

    return solve


def _autograd(program):
    import autograd
    import autograd.scipy.special
    from scipy.optimize import minimize

    words = {"np": autograd.numpy, "logsumexp": autograd.scipy.special.logsumexp}
    fun = over(program.form or program.text, **words)
    both, product = autograd.value_and_grad(fun), autograd.hessian_vector_product(fun)
    hessp = lambda x, v, *args: product(x, *args, v)
    return lambda x0, args: minimize(both, x0, args=args, jac=True, hessp=hessp, **SOLVER)


CONTESTANTS: dict[str, Callable] = {
    OURS: _ours,
    KEPT: _kept,
    JAX: _jax,
    AUTOGRAD: _autograd,
}
PEERS = {"cold": (OURS, KEPT, JAX, AUTOGRAD), "warm": (OURS, KEPT, JAX), "again": (KEPT, JAX)}
"""Who takes part: autograd has no caches, and a plain function is made anew in each call."""

# --- all of them ----------------------------------------------------------------------------------


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes of each kind")
    parser.add_argument("--only", default="", help="rows whose label has this in it")
    parser.add_argument("--peers", nargs="*", choices=(JAX, AUTOGRAD), default=(JAX, AUTOGRAD))
    options = parser.parse_args()
    rows, measured, missing = [], {}, {}
    for label, program in SOLVES.items():
        if options.only.lower() in label.lower():
            try:
                x0, _, args = program.make()
            except ImportError as error:
                missing.setdefault(reason(error), []).append(label)
                continue
            measured[label] = _measured(label, (x0, *args), options, missing)
            rows.append(_row(label, measured[label]))
            print(" ", *rows[-1], sep=" | ", file=sys.stderr, flush=True)
    header = ["problem"]
    for kind, (ours, *peers) in PEERS.items():
        header += [f"{kind}: {ours}", *peers, f"{ours} / {JAX}"]
    print(table(header, rows) + "\n")
    print("Seconds of the wall clock; in brackets seconds of the processors.\n")
    for line in _bars(measured):
        print(line)
    for why, labels in missing.items():
        print(f"- left out: {why}: {', '.join(labels)}.")


def _measured(label, data, options, missing):
    """Medians of (wall, processors) by contestant and kind."""
    taken: dict = {}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "data.npz")
            np.savez(file, *data)
            lowest = None
            for name in (OURS, KEPT, *options.peers):
                for kind in [kind for kind in ("cold", "warm") if name in PEERS[kind]]:
                    try:
                        printed = fresh(
                            SCRIPT.format(package=PACKAGES[name]),
                            caches(f"{folder}/{name}"),
                            *(name, label, file),
                        )
                    except RuntimeError as error:
                        if name in (OURS, KEPT):
                            raise
                        missing.setdefault(f"{name} ({reason(error)})", []).append(label)
                        break
                    found = json.loads(printed)
                    lowest = found["fun"] if lowest is None else lowest
                    same = abs(found["fun"] - lowest) <= 1e-8 * abs(lowest) + 1e-10
                    assert same and found["gradient"] <= 1e-6, f"{name} on {label}: {found}"
                    for key, seconds in zip((kind, "again"), found["seconds"], strict=False):
                        taken.setdefault((name, key), []).append(seconds)
    return {
        key: [statistics.median(part) for part in zip(*spans, strict=True)]
        for key, spans in taken.items()
    }


def _row(label, times):
    cells = [label]
    for kind, names in PEERS.items():
        spans = [times.get((name, kind)) for name in names]
        cells += [f"{s[0]:.2f} ({s[1]:.2f})" if s else "" for s in spans]
        peer = times.get((JAX, kind))
        ratios = [a / b for a, b in zip(spans[0], peer, strict=True)] if peer else None
        cells.append(f"{ratios[0]:.2f} ({ratios[1]:.2f})" if ratios else "")
    return cells


def _bars(measured):
    for name in (JAX, AUTOGRAD):
        for kind, (ours, *_) in PEERS.items():
            for k, clock in enumerate(("wall", "processors")):
                ratios = {
                    label: times[ours, kind][k] / times[name, kind][k]
                    for label, times in measured.items()
                    if (name, kind) in times
                }
                met = {f"{label} {ratio:.2f}": ratio <= 1.0 for label, ratio in ratios.items()}
                if met:
                    yield bar(f"{kind}, {clock}: ahead of {name} on every row", met)


if __name__ == "__main__":
    main()
