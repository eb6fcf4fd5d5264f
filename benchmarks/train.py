"""The loss of two autoencoders by processor time: ``python benchmarks/train.py``.

The networks are trained on scikit-learn's digits, 1797 images of 64 pixels, with the cross-entropy of the
pixels as loss: a shallow one of tanh, and a deep one of logistic sigmoids with six numbers in its middle, as
in Martens 2010. The methods are `nbhvp.hessian_free` with a Gauss-Newton matrix of a fourth of the images
per step and a diagonal preconditioner, SciPy's L-BFGS-B, and Adam in batches of 100 (Kingma and Ba 2015), whose
rate is the best of some by the last loss at the first seed. All take their derivatives from the package, on one thread, each
run in a fresh process. The clock is the processor's; compiling and the losses that are reported do not count.

A figure is the least loss over all images up to a time, as the median over starts. ``--budget`` scales
the times. Needs scikit-learn.
"""

import argparse
import json
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.special import expit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tables import bar, fresh, table

NETWORKS = {
    "tanh 64-40-20-8-20-40-64": ((64, 40, 20, 8, 20, 40, 64), np.tanh, 10.0),
    "sigmoid 64-100-50-25-6-25-50-100-64": (
        (64, 100, 50, 25, 6, 25, 50, 100, 64),
        expit,
        15.0,
    ),
}
"""Widths, the function of hidden layers, and seconds of each run."""
OURS, QUASI, ADAM = "Hessian-free", "L-BFGS-B", "Adam"
RATES = (1e-2, 5e-3, 3e-3, 2e-3, 1e-3)
PARTS = (0.25, 0.5, 1.0)
BATCH, ROWS, RIDGE, KEEP = 100, 449, 1e-5, 0.05
SCRIPT = "import sys; from benchmarks.train import run; run(*sys.argv[1:])"
ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)


class _Clock:
    """The least loss by processor time, without what it takes to tell it; ends a run."""

    def __init__(self, loss, seconds):
        self.loss, self.seconds = loss, seconds
        self.found, self.start, self.untimed = [], time.process_time(), 0.0

    def __call__(self, x):
        before = time.process_time()
        taken = before - self.start - self.untimed
        self.found.append((taken, self.loss(x)))
        self.untimed += time.process_time() - before
        if taken > self.seconds:
            raise StopIteration


def _problem(label, seed):
    from sklearn.datasets import load_digits

    import nbhvp

    widths, activation, _ = NETWORKS[label]
    images, rng = load_digits().data / 16.0, np.random.default_rng(seed)
    layers = list(pairwise(widths))

    def model(w, x):
        at = 0
        for k, (m, n) in enumerate(layers):
            z = x @ w[at : at + m * n].reshape(m, n) + w[at + m * n : at + m * n + n]
            x = activation(z) if k < len(layers) - 1 else z
            at += m * n + n
        return x

    def cross_entropy(z, x):
        return np.sum(np.logaddexp(0, z) - x * z) / len(x)

    loss = nbhvp.differentiable(lambda w, x: cross_entropy(model(w, x), x) + RIDGE * (w @ w))
    start = np.concatenate(
        [np.append(rng.normal(size=m * n) / np.sqrt(m), np.zeros(n)) for m, n in layers]
    )
    return loss, nbhvp.gauss_newton(model, cross_entropy), start, images, rng


def _hessian_free(problem, clock, seconds, rate):
    import nbhvp

    loss, gauss_newton, start, images, rng = problem
    model, squares, seen = gauss_newton.model, 0.0, 0

    def some(x):
        return x[rng.choice(len(x), ROWS, replace=False)]

    def curvature(w, x):
        part = some(x)
        return gauss_newton(w, part, loss_args=(part,)).damped(2 * RIDGE)

    def near_inverse(w, x, damping):
        """By the diagonal: for random signs e it is the mean of (J^T sqrt(d^2 loss) e)^2."""
        nonlocal squares, seen
        part, seen = some(x), seen + 1
        p = expit(model(w, part))
        root = np.sqrt(p * (1 - p) / ROWS) * rng.choice([-1.0, 1.0], p.shape)
        squares = squares + max(KEEP, 1 / seen) * (model.vjp(w, root, part) ** 2 - squares)
        diagonal = np.sqrt(squares + damping + 2 * RIDGE)
        return nbhvp.curvature.jacobi(nbhvp.identity(w.size), diagonal)

    curvature(start, images) @ start  # compiles
    near_inverse(start, images, 1.0)
    options = {"curvature": curvature, "cgiter": 60, "maxiter": 10**6, "gtol": 1e-9}
    options["preconditioner"] = near_inverse
    found = clock(lambda x: loss(x, images), seconds)
    nbhvp.minimize(loss, start, (images,), "hessian-free", callback=found, options=options)
    return found.found


def _l_bfgs_b(problem, clock, seconds, rate):
    from scipy.optimize import minimize

    loss, _, start, images, _ = problem
    found = clock(lambda x: loss(x, images), seconds)
    options = {"maxiter": 10**6, "maxfun": 10**7, "ftol": 0, "gtol": 1e-9}
    minimize(
        loss.value_and_grad, start, (images,), "L-BFGS-B", True, callback=found, options=options
    )
    return found.found


def _adam(problem, clock, seconds, rate):
    loss, _, w, images, rng = problem
    first, second, steps = np.zeros_like(w), np.zeros_like(w), 0
    loss.grad(w, images[:BATCH])  # compiles
    found = clock(lambda x: loss(x, images), seconds)
    while True:
        order = rng.permutation(len(images))
        for at in range(0, len(images) - BATCH + 1, BATCH):
            g, steps = loss.grad(w, images[order[at : at + BATCH]]), steps + 1
            first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g * g
            slope, size = first / (1 - 0.9**steps), second / (1 - 0.999**steps)
            w = w - float(rate) * slope / (np.sqrt(size) + 1e-8)
        try:
            found(w)
        except StopIteration:
            return found.found


METHODS = {OURS: _hessian_free, QUASI: _l_bfgs_b, ADAM: _adam}


def run(label, method, seed, seconds, rate):
    """Train once, and print the times and losses."""
    problem = _problem(label, int(seed))
    loss, _, start, images, _ = problem
    loss(start, images), loss.grad(start, images), loss.value_and_grad(start, images)
    found = METHODS[method](problem, _Clock, float(seconds), rate)
    print(json.dumps([len(found), [_least(found, part * float(seconds)) for part in PARTS]]))


def _least(found, seconds):
    return min((value for taken, value in found if taken <= seconds), default=float("inf"))


def _runs(label, method, seeds, seconds, rate=0.0):
    """The steps and the losses at the three times, for each seed."""
    return [
        json.loads(
            fresh(
                SCRIPT, ONE_THREAD, label, method, str(seed), str(seconds), str(rate)
            ).splitlines()[-1]
        )
        for seed in seeds
    ]


def _network(label, seeds, scale):
    """Rows of the table, and the medians of the last losses."""
    seconds = NETWORKS[label][2] * scale
    rows, last = [], {}
    for method in METHODS:
        name, done, rest = method, [], seeds
        rate = 0.0
        if method == ADAM:
            tried = {rate: _runs(label, method, seeds[:1], seconds, rate) for rate in RATES}
            rate = min(tried, key=lambda rate: tried[rate][0][1][-1])
            name, done, rest = f"Adam, rate {rate:g}", tried[rate], seeds[1:]
        done = done + _runs(label, method, rest, seconds, rate)
        steps, losses = zip(*done, strict=True)
        medians = [statistics.median(at) for at in zip(*losses, strict=True)]
        spread = [at[-1] for at in losses]
        last[method] = medians[-1]
        rows.append(
            [name, *(f"{loss:.3f}" for loss in medians), f"{min(spread):.3f} to {max(spread):.3f}"]
            + [f"{statistics.median(steps):.0f}"]
        )
    header = [label, *(f"{part * seconds:g} s" for part in PARTS), "all starts", "steps or epochs"]
    return table(header, rows), last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=1.0, help="scale of the seconds")
    parser.add_argument("--network", choices=[*NETWORKS, "all"], default="all")
    options = parser.parse_args()
    results = {}
    for label in NETWORKS if options.network == "all" else [options.network]:
        text, last = _network(label, range(options.seeds), options.budget)
        print(text, end="\n\n", flush=True)
        for peer in (QUASI, ADAM):
            ahead = last[OURS] < last[peer]
            results.setdefault(peer, {})[f"{label} {last[OURS]:.3f} to {last[peer]:.3f}"] = ahead
    for peer, met in results.items():
        print(bar(f"Hessian-free ends at a lower loss than {peer}", met))


if __name__ == "__main__":
    main()
