"""The asv suite: what a user waits for, next to its floors.

In this folder, with nbhvp installed in the environment at hand (asv ignores PYTHONPATH):
``asv machine --yes`` once, then ``asv run --python=same``, with ``--quick`` for a mere check.

``Product`` and ``LargeProduct`` time the product at a remembered point next to the one derived by
hand and to a copy of the same bytes, at the sizes of ``problems.SUITE`` below and from a megabyte
on; ``Point`` value, gradient, point program and one-shot product at a new point; ``Columns`` 32
vectors at once; ``TwoThreads`` the product by hand and its floor on two threads; ``LongSweep`` a
recurrence of 20,000 steps, recorded and swept; ``Steps`` loops over time in plain Python; ``FirstProduct`` the way from a fresh process to the
first H v; ``Memory`` what a product takes.
``compare.py`` has the ratios, interleaved, and the peers.
"""

import itertools
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np

from benchmarks import hand, recurrences
from benchmarks.loops import ORBIT_START, orbit
from benchmarks.problems import MAKERS, SUITE, make
from nbhvp import differentiable
from nbhvp.trace.record import record

ROOT = str(Path(__file__).resolve().parents[1])
LARGE = (
    "Rosenbrock, n = 10^6",
    "Rosenbrock, n = 10^7",
    "logistic, 20000 x 500",
    "MLP 784-256-128-10, batch 512",
    "surface, 1000 x 1000",
    "Lennard-Jones, 10^4 atoms",
)
"""Rows whose floor is above a megabyte."""


class Product:
    """H v at one point: both doors of the package, the product by hand, the bytes alone."""

    params = tuple(label for label in SUITE if label not in LARGE)
    param_names = ("problem",)
    timeout = 300

    def setup(self, label):
        problem = make(label)
        self.x, self.v, self.args = problem.x0, problem.v, problem.args
        self.f = differentiable(problem.fun)
        self.hessian = self.f.hessian(self.x, *self.args)
        self.by_hand = hand.prepare(problem, self.x)
        self.copy = hand.prepare_copy(problem.floor.bytes)
        self.out = self.v.copy()
        self.hessian @ self.v
        self.f.hvp(self.x, self.v, *self.args)
        self.by_hand(self.v, self.out)

    def time_operator(self, label):
        self.hessian @ self.v

    def time_hvp(self, label):
        self.f.hvp(self.x, self.v, *self.args)

    def time_by_hand(self, label):
        self.by_hand(self.v, self.out)

    def time_byte_floor(self, label):
        self.copy()


class LargeProduct(Product):
    """The same where arrays leave the caches."""

    params = LARGE


class Point:
    """Value, gradient, point program and one-shot product, the point changing with every call."""

    params = tuple(SUITE)
    param_names = ("problem",)
    timeout = 300

    def setup(self, label):
        problem = make(label)
        self.fun, self.v, self.args = problem.fun, problem.v, problem.args
        self.points = itertools.cycle([problem.x0, problem.x0 * (1.0 + 1e-3)])
        self.before_products, self.f = differentiable(problem.fun), differentiable(problem.fun)
        self.before_products.grad(problem.x0, *self.args)
        self.f.hvp(problem.x0, problem.v, *self.args)

    def time_numpy(self, label):
        self.fun(next(self.points), *self.args)

    def time_value(self, label):
        self.before_products(next(self.points), *self.args)

    def time_gradient(self, label):
        self.before_products.grad(next(self.points), *self.args)

    def time_point(self, label):
        self.f.value_and_grad(next(self.points), *self.args)

    def time_one_shot(self, label):
        self.f.hvp(next(self.points), self.v, *self.args)


class Columns:
    """32 directions at once."""

    params = ("logistic, 20000 x 500", "MLP 784-256-128-10, batch 512")
    param_names = ("problem",)
    timeout = 300

    def setup(self, label):
        problem = make(label)
        self.hessian = differentiable(problem.fun).hessian(problem.x0, *problem.args)
        self.V = np.random.default_rng(1).standard_normal((problem.x0.size, 32))
        self.hessian @ self.V

    def time_columns(self, label):
        self.hessian @ self.V


class TwoThreads:
    """The floors again, on two threads, where the product by hand can use them."""

    params = tuple(label for label in LARGE if SUITE[label][0] in hand.PARALLEL)
    param_names = ("problem",)
    timeout = 300

    def setup(self, label):
        problem = make(label)
        self.v, self.out = problem.v, problem.v.copy()
        self.by_hand = hand.prepare(problem, problem.x0, threads=2)
        self.copy = hand.prepare_copy(problem.floor.bytes, threads=2)
        self.by_hand(self.v, self.out)
        self.copy()

    def time_by_hand(self, label):
        self.by_hand(self.v, self.out)

    def time_byte_floor(self, label):
        self.copy()


class LongSweep:
    """An orbit of 20,000 steps: its trace, from the run for its tape on, and H v by sweeps."""

    timeout = 300

    def setup(self):
        self.f = differentiable(orbit)
        self.hessian = self.f.hessian(ORBIT_START, 20_000)
        self.v = np.ones(ORBIT_START.size)
        self.hessian @ self.v

    def time_trace(self):
        record(orbit, ORBIT_START, (20_000,))

    def time_product(self):
        self.hessian @ self.v


class Steps:
    """H v of loops over time, by the package and by hand, and what making the first one takes."""

    params = (
        "Van der Pol",
        "Kalman filter",
        "hidden Markov, 5 states",
        "recurrent network, 100 units",
    )
    param_names = ("loop",)
    timeout = 300

    def setup(self, label):
        problem, steps = {**recurrences.LOOPS, **recurrences.FIELDS}[label], 500
        self.x, self.fun = recurrences.point(problem, steps)[0], recurrences.fun(problem, steps)
        self.v = np.cos(np.arange(self.x.size))
        self.hessian = differentiable(self.fun).hessian(self.x)
        self.by_hand = recurrences.by_hand(problem, steps)
        self.hessian @ self.v, self.by_hand(self.v)

    def time_product(self, label):
        self.hessian @ self.v

    def time_by_hand(self, label):
        self.by_hand(self.v)

    def time_trace_and_first_product(self, label):
        differentiable(self.fun).hvp(self.x, self.v)


class FirstProduct:
    """Seconds from starting Python to the first H v: imports, trace, compilation, product."""

    params = (("rosenbrock", "logistic"), ("empty", "filled"))
    param_names = ("problem", "cache")
    timeout = 300
    unit = "s"
    program = (
        "from benchmarks.problems import MAKERS; from nbhvp import differentiable; "
        "problem = MAKERS[{name!r}](); "
        "differentiable(problem.fun).hessian(problem.x0) @ problem.v"
    )

    def track_first_product(self, name, cache):
        with tempfile.TemporaryDirectory() as folder:
            if cache == "filled":
                self.seconds(name, folder)
            return self.seconds(name, folder)

    def seconds(self, name, folder):
        """Wall time of one fresh process whose compilation caches lie in ``folder``."""
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([*sys.path, ROOT]),
            "NUMBA_CACHE_DIR": folder,
            "NBHVP_CACHE_DIR": folder,
        }
        command = [sys.executable, "-c", self.program.format(name=name)]
        start = time.perf_counter()
        subprocess.run(command, env=environment, cwd=folder, check=True)
        return time.perf_counter() - start


class Memory:
    """What NumPy allocates at its peak for one product, in arrays of n, its result among them."""

    unit = "arrays"

    def track_product(self):
        problem = MAKERS["rosenbrock"](10**6)
        f = differentiable(problem.fun)
        f.hvp(problem.x0, problem.v)
        x = problem.x0 + 1.0
        tracemalloc.start()
        f.hvp(x, problem.v)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak / x.nbytes
