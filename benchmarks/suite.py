"""The asv suite: what a user waits for, next to its floors.

In this folder, with nbhvp installed in the environment at hand (asv ignores PYTHONPATH):
``asv machine --yes`` once, then ``asv run --python=same``, with ``--quick`` for a mere check.

``Function`` times value, gradient and linearisation at a new point; ``Product`` the product at a
remembered point next to the one derived by hand and to a copy of the same bytes; ``TwoThreads``
those two floors on two threads; ``FirstProduct`` the way from a fresh process to the first H v.
``compare.py`` has the ratios, interleaved.
"""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import hand
from benchmarks.problems import MAKERS
from nbhvp import differentiable

ROOT = str(Path(__file__).resolve().parents[1])
SIZES = {
    "rosenbrock n=10": ("rosenbrock", 10),
    "rosenbrock n=1000000": ("rosenbrock", 1_000_000),
    "logistic 20000x500": ("logistic", (20_000, 500)),
    "mlp 64-32-10, batch 1797": ("mlp", ((64, 32, 10), 1797)),
    "surface 200x200": ("surface", (200, 200)),
    "lennard_jones 1000 atoms": ("lennard_jones", 10),
    "mixture 10000x8, 8 components": ("mixture", (10_000, 8, 8)),
    "transcendental n=5": ("transcendental", 5),
    "heat n=2000, 200 steps": ("heat", (2000, 200)),
}


def _problem(label):
    name, size = SIZES[label]
    return MAKERS[name](size)


class Function:
    """Value, gradient and linearisation, the point changing with every call."""

    params = tuple(SIZES)
    param_names = ("problem",)
    timeout = 300

    def setup(self, label):
        problem = _problem(label)
        self.args = problem.args
        self.x = problem.x0
        self.points = itertools.cycle([problem.x0, problem.x0 * (1.0 + 1e-3)])
        self.before_products = differentiable(problem.fun)
        self.before_products.grad(problem.x0, *self.args)
        self.f = differentiable(problem.fun)
        self.f.hessian(problem.x0, *self.args) @ problem.v

    def time_value(self, label):
        self.f(next(self.points), *self.args)

    def time_gradient_before_products(self, label):
        self.before_products.grad(next(self.points), *self.args)

    def time_gradient(self, label):
        self.f.grad(next(self.points), *self.args)

    def time_point(self, label):
        self.f.hessian(next(self.points), *self.args)


class Product:
    """H v at one point: both doors of the package, the product by hand, the bytes alone."""

    params = tuple(SIZES)
    param_names = ("problem",)
    timeout = 300

    def setup(self, label):
        problem = _problem(label)
        self.x, self.v, self.args = problem.x0, problem.v, problem.args
        self.f = differentiable(problem.fun)
        self.hessian = self.f.hessian(self.x, *self.args)
        self.by_hand = hand.prepare(problem, self.x)
        self.copy = hand.prepare_copy(self.x.size)
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


class TwoThreads:
    """The floors again, on two threads, where the product by hand can use them."""

    params = tuple(label for label, (name, _) in SIZES.items() if name in hand.PARALLEL)
    param_names = ("problem",)

    def setup(self, label):
        problem = _problem(label)
        self.v, self.out = problem.v, problem.v.copy()
        self.by_hand = hand.prepare(problem, problem.x0, threads=2)
        self.copy = hand.prepare_copy(self.v.size, threads=2)
        self.by_hand(self.v, self.out)
        self.copy()

    def time_by_hand(self, label):
        self.by_hand(self.v, self.out)

    def time_byte_floor(self, label):
        self.copy()


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
            "XDG_CACHE_HOME": folder,
        }
        command = [sys.executable, "-c", self.program.format(name=name)]
        start = time.perf_counter()
        subprocess.run(command, env=environment, cwd=folder, check=True)
        return time.perf_counter() - start
