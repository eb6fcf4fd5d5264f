"""The demo: three problems on real data, by Newton methods with exact products.

Logistic regression on the breast-cancer data, a minimal surface, and a tanh network on the images
of digits with the extreme eigenvalues of its Hessian. Each is solved by a method with
Hessian-vector products, by the same method with finite differences of the NumPy function, and by
L-BFGS-B with our gradient. Needs the extra `demo`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

from nbhvp.function import Function, differentiable
from nbhvp.optimize import minimize

__all__ = ["run"]

PIXELS, HIDDEN, CLASSES = 64, 32, 10
EXACT, DIFFERENCES, GRADIENT = "exact products", "finite differences", "gradient only"
COLORS = {EXACT: "tab:blue", DIFFERENCES: "tab:orange", GRADIENT: "tab:green"}
SAME = 1e-6
"""Relative difference up to which values belong to one minimum: solvers stop at about 1e-8."""


# The functions, as one writes them.


def logistic(w, X, y, ridge):
    """Mean logistic loss with labels y of -1 and 1, and a ridge."""
    return np.mean(np.logaddexp(0.0, -y * (X @ w))) + ridge / 2 * (w @ w)


def network(weights, images, labels, decay):
    """Softmax cross-entropy of a network with one tanh layer, and weight decay."""
    W, b, V, c = layers(weights)
    scores = np.tanh(images @ W + b) @ V + c
    right = scores[np.arange(len(labels)), labels]
    return np.mean(logsumexp(scores, axis=1) - right) + decay / 2 * (weights @ weights)


def layers(weights):
    first = PIXELS * HIDDEN
    second = first + HIDDEN
    third = second + HIDDEN * CLASSES
    return (
        weights[:first].reshape(PIXELS, HIDDEN),
        weights[first:second],
        weights[second:third].reshape(HIDDEN, CLASSES),
        weights[third:],
    )


def area(heights, frame):
    """The area of the surface over the unit square, its edge given by a frame."""
    m, n = frame.shape
    z = np.array(frame)
    z[1:-1, 1:-1] = heights.reshape(m - 2, n - 2)
    p, q = z[1:, 1:] - z[:-1, :-1], z[1:, :-1] - z[:-1, 1:]
    cell = 1.0 / ((m - 1) * (n - 1))
    return cell * np.sum(np.sqrt(1.0 + (p**2 + q**2) / (2.0 * cell)))


# The problems.


@dataclass(frozen=True)
class Job:
    """A function, its data and start, and the method that solves it."""

    name: str
    fun: Callable
    args: tuple
    x0: np.ndarray
    method: str
    options: dict
    gradient_options: dict


def logistic_job() -> Job:
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    X = np.column_stack([(X - X.mean(0)) / X.std(0), np.ones(len(X))])
    args = X, 2.0 * y - 1.0, 1e-3
    x0 = np.zeros(X.shape[1])
    return Job("logistic", logistic, args, x0, "trust-ncg", {"gtol": 1e-8}, {"gtol": 1e-8})


def network_job(quick: bool) -> Job:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    count = 300 if quick else len(images)
    images = images[:count] / 16.0
    size = PIXELS * HIDDEN + HIDDEN + HIDDEN * CLASSES + CLASSES
    x0 = np.random.default_rng(0).normal(scale=0.1, size=size)
    args = images, labels[:count], 1e-3
    return Job("network", network, args, x0, "trust-krylov", {"gtol": 1e-5}, {"gtol": 1e-6})


def surface_job(quick: bool) -> Job:
    n = 60 if quick else 200
    t = np.linspace(0.0, 1.0, n)
    frame = np.zeros((n, n))
    frame[0] = np.sin(2 * np.pi * t)
    frame[-1] = -frame[0]
    frame[:, 0] = frame[:, -1] = 0.5 * np.sin(np.pi * t)
    x0 = np.zeros((n - 2) ** 2)
    return Job("surface", area, (frame,), x0, "newton-cg", {"xtol": 1e-8}, {"gtol": 1e-8})


# Solving, with a line of progress.


@dataclass
class Run:
    """One row of the table, and its curve of (seconds, value)."""

    job: Job
    method: str
    derivatives: str
    progress: Progress
    started: float = field(default_factory=time.perf_counter)
    curve: list[tuple[float, float]] = field(default_factory=list)
    products: int = 0
    seconds: float = 0.0
    gradient: float = np.nan
    note: str = ""

    def callback(self, intermediate_result) -> None:
        """Note the value. SciPy calls this after each iteration."""
        self.curve.append((self.elapsed, float(intermediate_result.fun)))
        self.show()

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    @property
    def value(self) -> float:
        return self.curve[-1][1] if self.curve else np.nan

    def show(self) -> None:
        value = f"value {self.value:.8g}, " if self.curve else ""
        self.progress(
            f"{self.job.name}: {self.method}, {self.derivatives}: iteration {len(self.curve)}, "
            f"{value}{self.elapsed:.1f} s"
        )

    def row(self) -> list[str]:
        return [
            self.job.name,
            str(self.job.x0.size),
            self.method,
            self.derivatives,
            str(len(self.curve)),
            str(self.products),
            f"{self.seconds:.2f}",
            f"{self.gradient:.1e}" if np.isfinite(self.gradient) else "-",
            f"{self.value:.8g}" if self.curve else "-",
            self.note,
        ]


class Progress:
    """One line that is rewritten; where output is no terminal, a line now and then."""

    def __init__(self) -> None:
        self._rewrites = sys.stdout.isatty()
        self._pause = 0.1 if self._rewrites else 10.0
        self._last = time.perf_counter()

    def __call__(self, text: str) -> None:
        if time.perf_counter() - self._last >= self._pause:
            self._last = time.perf_counter()
            print(f"\r{text:<100.100}" if self._rewrites else text, end=self._end, flush=True)

    @property
    def _end(self) -> str:
        return "" if self._rewrites else "\n"

    def clear(self) -> None:
        if self._rewrites:
            print(f"\r{'':<100}\r", end="", flush=True)


def compiled(job: Job) -> tuple[Function, float]:
    """The function, with all programs that the solvers use, and the seconds that these took.

    One iteration of the solver asks for its programs, and imports SciPy's part of it.
    """
    started = time.perf_counter()
    f = differentiable(job.fun)
    minimize(f, job.x0, job.args, job.method, options={**job.options, "maxiter": 1})
    f.value_and_grad(job.x0, *job.args)  # L-BFGS-B's
    seconds = time.perf_counter() - started
    print(f"{job.name}: traced, and compiled or loaded, in {seconds:.2f} s", flush=True)
    return f, seconds


def solve_exactly(job: Job, f: Function, progress: Progress) -> tuple[Run, np.ndarray]:
    run = Run(job, job.method, EXACT, progress)
    result = minimize(f, job.x0, job.args, job.method, callback=run.callback, options=job.options)
    run.seconds, run.products = run.elapsed, result.nhvp
    run.gradient = float(np.linalg.norm(f.grad(result.x, *job.args)))
    return run, result.x


def solve_by_gradients(job: Job, f: Function, progress: Progress) -> Run:
    from scipy.optimize import minimize as scipy_minimize

    run = Run(job, "l-bfgs-b", GRADIENT, progress)
    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 0.0, **job.gradient_options}
    result = scipy_minimize(
        f.value_and_grad,
        job.x0,
        job.args,
        "L-BFGS-B",
        jac=True,
        callback=run.callback,
        options=options,
    )
    run.seconds = run.elapsed
    run.gradient = float(np.linalg.norm(f.grad(result.x, *job.args)))
    return run


class OutOfTime(Exception):
    """The time for finite differences is up."""


class Differences:
    """Gradients by forward differences of values, products by forward differences of those.

    Steps balance truncation against rounding: eps^(1/2) for gradients, whose error of that size
    makes it eps^(1/4) for products.
    """

    def __init__(self, run: Run, limit: float):
        self._run, self._limit = run, limit
        self._known: tuple[bytes, np.ndarray] | None = None

    def value(self, x: np.ndarray) -> float:
        if self._run.elapsed > self._limit:
            raise OutOfTime
        self._run.show()
        return float(self._run.job.fun(x, *self._run.job.args))

    def gradient(self, x: np.ndarray) -> np.ndarray:
        if self._known is None or self._known[0] != x.tobytes():
            self._known = x.tobytes(), self._differences(x)
        return self._known[1].copy()

    def _differences(self, x: np.ndarray) -> np.ndarray:
        value, moved = self.value(x), x.copy()
        steps = np.finfo(float).eps ** (1 / 2) * (1 + np.abs(x))
        found = np.empty_like(x)
        for k, step in enumerate(steps):
            moved[k] = x[k] + step
            found[k] = (self.value(moved) - value) / (moved[k] - x[k])
            moved[k] = x[k]
        return found

    def product(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        self._run.products += 1
        h = np.finfo(float).eps ** (1 / 4) * (1 + np.linalg.norm(x)) / np.linalg.norm(v)
        here = self.gradient(x)
        return (self._differences(x + h * v) - here) / h


def solve_by_differences(job: Job, f: Function, progress: Progress, limit: float) -> Run:
    from scipy.optimize import minimize as scipy_minimize

    run = Run(job, job.method, DIFFERENCES, progress)
    differences = Differences(run, limit)
    try:
        result = scipy_minimize(
            differences.value,
            job.x0,
            method=job.method,
            jac=differences.gradient,
            hessp=differences.product,
            callback=run.callback,
            options=job.options,
        )
        run.gradient = float(np.linalg.norm(f.grad(result.x, *job.args)))
    except OutOfTime:
        run.note = f"not within {limit:.0f} s"
    run.seconds = run.elapsed
    return run


# Eigenvalues.


@dataclass(frozen=True)
class Spectrum:
    """Extreme eigenvalues of a Hessian, and all of them where that was affordable."""

    largest: np.ndarray
    smallest: float
    products: int
    seconds: float
    everything: np.ndarray | None

    def __str__(self) -> str:
        largest = np.array2string(self.largest, precision=5)
        return (
            f"network: largest eigenvalues of the Hessian {largest}, smallest {self.smallest:.5g}; "
            f"{self.products} products in {self.seconds:.2f} s"
        )


def spectrum(f: Function, x: np.ndarray, args: tuple, quick: bool) -> Spectrum:
    from scipy.sparse.linalg import eigsh

    started = time.perf_counter()
    H = f.hessian(x, *args)
    largest = eigsh(H, k=5, which="LA", return_eigenvectors=False)
    smallest = eigsh(H, k=1, which="SA", return_eigenvectors=False, ncv=60, tol=1e-4)
    products, seconds = H.products, time.perf_counter() - started
    everything = None if quick else np.linalg.eigvalsh(H.toarray())
    return Spectrum(np.sort(largest)[::-1], float(smallest[0]), products, seconds, everything)


# What comes out.

HEADINGS = (
    "problem", "n", "method", "derivatives", "iterations", "products", "seconds", "|gradient|",
    "value", "",
)  # fmt: skip


def table(runs: list[Run]) -> str:
    rows = [list(HEADINGS), *(run.row() for run in runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (
            cell.ljust(width) if k in (0, 2, 3, 9) else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def plot(runs: list[Run], compiling: dict[str, float], found: Spectrum, file: Path) -> None:
    from matplotlib.figure import Figure

    names = list(compiling)
    figure = Figure(figsize=(4.4 * (len(names) + 1), 4.4), layout="constrained")
    *panels, last = figure.subplots(1, len(names) + 1)
    for panel, name in zip(panels, names, strict=True):
        _plot_curves(panel, [run for run in runs if run.job.name == name], compiling[name])
    _plot_spectrum(last, found)
    figure.savefig(file, dpi=120)


def _plot_curves(panel, runs: list[Run], compiling: float) -> None:
    best = min(run.value for run in runs if run.curve)
    for run in runs:
        label = f"{run.method}, {run.derivatives}" + (f": {run.note}" if run.note else "")
        # Runs that end may end in different minima: each is measured by its own.
        above = [value - (best if run.note else run.value) for _, value in run.curve]
        panel.loglog(
            [seconds for seconds, _ in run.curve],
            np.maximum(above, 1e-15 * max(1.0, abs(best))),
            ".-",
            color=COLORS[run.derivatives],
            label=label,
        )
    label = f"tracing and compiling, once: {compiling:.2f} s (not in the curves)"
    panel.axvline(compiling, color="gray", linestyle="--", label=label)
    panel.set(xlabel="seconds", ylabel="value above the final value of the run")
    panel.set_title(_title(runs), fontsize="medium")
    panel.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16))


def _title(runs: list[Run]) -> str:
    """The problem, and the value at the minimum, or at each where there are several."""
    ended = [run for run in runs if not run.note]
    values = [run.value for run in ended]
    title = f"{runs[0].job.name}, {runs[0].job.x0.size} variables\n"
    if np.allclose(values, values[0], rtol=SAME, atol=0.0):
        return f"{title}minimum {values[0]:.6g}"
    each = ", ".join(f"{run.value:.6g} ({run.method})" for run in ended)
    return f"{title}minima: {each}"


def _plot_spectrum(panel, found: Spectrum) -> None:
    """Eigenvalues as strokes over their axis: the extreme ones above, all of them below."""
    extremes = np.append(found.largest, found.smallest)
    rows = [extremes] if found.everything is None else [extremes, found.everything]
    labels = ["largest and smallest, by products", "all, from the dense matrix"]
    for height, (row, label) in enumerate(zip(rows, labels, strict=False)):
        color = "gray" if height else COLORS[EXACT]
        panel.eventplot(row, lineoffsets=-height, linelengths=0.8, color=color, label=label)
    panel.set_title(
        "eigenvalues of the network's Hessian\nat the minimum of trust-krylov", fontsize="medium"
    )
    panel.set(xlabel="eigenvalue", xscale="log" if min(map(np.min, rows)) > 0 else "linear")
    panel.yaxis.set_visible(False)
    panel.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16))


def run(quick: bool = False, folder: Path = Path()) -> None:
    """Run the demo: print its table, and write ``nbhvp-demo.png`` to a folder.

    Parameters
    ----------
    quick : bool
        Smaller problems, and 2 s instead of a minute for finite differences.
    folder : Path
        Made if it does not exist.

    Raises
    ------
    SystemExit
        If scikit-learn or matplotlib is missing.
    """
    try:
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401
        from threadpoolctl import threadpool_limits  # comes with scikit-learn
    except ImportError as error:
        what = f"the demo needs {error.name}, which is not installed"
        raise SystemExit(f"{what}: pip install nbhvp[demo]") from None
    progress = Progress()
    runs: list[Run] = []
    compiling: dict[str, float] = {}
    # The vectors and tiny matrices of the solvers themselves cost milliseconds per iteration on
    # several threads of OpenBLAS (measured: L-BFGS-B 3 ms instead of 0.2).
    with threadpool_limits(1, user_api="blas"):
        for job in (logistic_job(), surface_job(quick), network_job(quick)):
            f, compiling[job.name] = compiled(job)
            exact, x = solve_exactly(job, f, progress)
            differences = solve_by_differences(job, f, progress, limit=2.0 if quick else 60.0)
            runs += [exact, differences, solve_by_gradients(job, f, progress)]
            progress.clear()
        found = spectrum(f, x, job.args, quick)  # of the network, the last
    print(f"\n{table(runs)}\n\n{found}")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "nbhvp-demo.png"
    plot(runs, compiling, found, file)
    print(f"curves and spectrum: {file}")
