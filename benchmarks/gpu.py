"""Products on a GPU next to the floor of the device and to JAX there: ``python -m benchmarks.gpu``.

Per problem, the product H(x) v at a fixed point with v and the result in the memory of the device, and
with NumPy arrays in and out; launches until the device is done, divided by their number. The floor is the
bytes of the problem's floor at the rate of a copy on the device, or its operations at the rate of a matrix
product in double precision, whichever is longer. Everything is checked against the closed form before it
is timed. ``--json FILE`` writes the figures after each problem, with what has failed, and ``--seconds`` begins no
problem after so many.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.problems import MAKERS, SUITE
from benchmarks.tables import micro, table

LABELS = (
    "Rosenbrock, n = 10^3", "Rosenbrock, n = 10^7", "logistic, 20000 x 500", "surface, 1000 x 1000",
    "Lennard-Jones, 10^4 atoms", "MLP 784-256-128-10, batch 512", "mixture, 1000 x 10, K = 25",
)  # fmt: skip
ROUNDS = 7
LONG = 0.02
"""Seconds of a round, at least."""


def timed(call: Callable[[], object], wait: Callable[[], object], long: float = LONG) -> float:
    """Seconds per call, of calls that are not waited for one by one: the median of rounds."""
    call()
    wait()
    count, spent = 1, 0.0
    while spent < long and count < 10_000:
        count *= 2
        start = time.perf_counter()
        for _ in range(count):
            call()
        wait()
        spent = time.perf_counter() - start
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(count):
            call()
        wait()
        found.append((time.perf_counter() - start) / count)
    return statistics.median(found)


def copy_rate(device) -> float:
    """Bytes per second of a copy on the device, read and written."""
    from nbhvp import differentiable
    from nbhvp.targets.cuda.arrays import DeviceArray

    size = 1 << 24
    double = _product(differentiable(lambda x: x @ x, target="cuda").hessian(np.zeros(size)))
    v = DeviceArray(device, (size,), np.dtype("f8"))
    out = v.empty_like()
    return 16 * size / timed(lambda: double(v, out), device.wait)


def _product(H):
    """The product of an operator with arrays on the device: without CuPy's operator around it."""
    return H._point.products[H._map].into


def measured(problem, device, long: float) -> dict[str, float]:
    """Seconds of the product with arrays on the device, and with NumPy's."""
    from nbhvp import differentiable
    from nbhvp.targets.cuda.arrays import DeviceArray

    start = time.perf_counter()
    H = differentiable(problem.fun, target="cuda").hessian(problem.x0, *problem.args)
    found = H @ problem.v
    first = time.perf_counter() - start
    needed = problem.hvp(problem.x0, problem.v, *problem.args)
    error = np.linalg.norm(found - needed) / np.linalg.norm(needed)
    assert error < 1e-10, f"H v is off by {error:.1e}"
    v = DeviceArray(device, problem.v.shape, problem.v.dtype)
    device.upload(v.address, problem.v)
    out, product = v.empty_like(), _product(H)
    again = np.asarray(product(v))
    assert np.array_equal(again, found), "a product has other bits the second time"
    on_device = timed(lambda: product(v, out), device.wait, long)
    report = H.report()
    return {
        "device": on_device,
        "NumPy": timed(lambda: H @ problem.v, device.wait, long),
        "first": first,
        "kernels": report.product.kernels,
    }


def jax_seconds(problem, long: float) -> float:
    """The same of JAX, linearised at x, on its own device; NaN where it is not installed."""
    try:
        import jax
    except ImportError:
        return float("nan")
    from benchmarks.peers import FUNCTIONS, arrays_and_rest

    if problem.name not in FUNCTIONS or jax.default_backend() != "gpu":
        return float("nan")
    jax.config.update("jax_enable_x64", True)
    call, arrays = arrays_and_rest(problem)
    data = [jax.numpy.asarray(a) for a in arrays]

    def gradient(x):
        return jax.grad(lambda x: call(jax.numpy, jax.scipy.special.logsumexp, x, *data))(x)

    x, v = jax.numpy.asarray(problem.x0), jax.numpy.asarray(problem.v)
    linear = jax.jit(lambda x: jax.linearize(gradient, x)[1])(x)
    product = jax.jit(lambda linear, v: linear(v))
    last = [product(linear, v)]

    def run():
        last[0] = product(linear, v)

    return timed(run, lambda: last[0].block_until_ready(), long)


def section(
    sizes=None, flops: float = 6e13, long: float = LONG, file: str = "", seconds: float = math.inf
) -> dict:
    """Measure the problems, print a table, and return the figures."""
    from nbhvp.targets.cuda.launching import driver

    start, device = time.perf_counter(), driver.device(0)
    rate = copy_rate(device) if sizes is None else 1e12
    print(f"### gpu\n\n{device.processors} processors of capability {device.capability}; "
          f"a copy on the device: {rate / 1e12:.2f} TB/s\n")  # fmt: skip
    rows: list[list[str]] = []
    figures = {"date": time.strftime("%Y-%m-%d"), "device": _name(), "copy": rate}
    figures["capability"] = device.capability
    figures |= {"problems": {}, "failed": {}}
    for label in LABELS if sizes is None else sizes:
        if time.perf_counter() - start > seconds:
            figures["failed"][label] = "no time was left"
            continue
        name, size = SUITE[label] if sizes is None else (label, sizes[label])
        problem = MAKERS[name](size)
        try:
            ours = measured(problem, device, long)
            ours["JAX"] = jax_seconds(problem, long)
        except Exception as error:  # the others are measured all the same
            figures["failed"][label] = f"{type(error).__name__}: {error}"
            print(f"  {label}: {figures['failed'][label]}", flush=True)
            continue
        finally:
            _write(figures, file)
        ours["floor"] = max(problem.floor.bytes / rate, problem.floor.flops / flops)
        figures["problems"][label] = ours
        _write(figures, file)
        columns = ("floor", "device", "JAX", "NumPy")
        times = (micro(ours[key]) if ours[key] == ours[key] else "" for key in columns)
        share = f"{ours['floor'] / ours['device']:.0%}" if ours["device"] else ""
        rows.append([label, *times, share, f"{ours['first']:.2f}", f"{ours['kernels']}"])
        print(f"  {label}: done", flush=True)
    header = [
        "problem",
        "floor, us",
        "nbhvp",
        "JAX linearize",
        "NumPy in and out",
        "floor / nbhvp",
        "first, s",
        "kernels",
    ]
    print("\n" + table(header, rows))
    return figures


def _write(figures: dict, file: str) -> None:
    if file:
        text = json.dumps(figures, indent=1).replace(": NaN", ": null")
        Path(file).write_text(text, encoding="utf-8")


def _name() -> str:
    """The device and its driver."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"


TINY = {
    "rosenbrock": 40, "logistic": (10, 3), "surface": (5, 6), "lennard_jones": (6, 4),
    "mlp": ((4, 3, 2), 5), "mixture": (8, 2, 3),
}  # fmt: skip
"""Sizes for the simulator."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--simulated", action="store_true", help="tiny sizes, in the simulator")
    options = parser.parse_args()
    how = {"file": options.json or "", "seconds": options.seconds}
    if options.simulated:
        from tests.simulated_gpu import simulated_driver

        ROUNDS = 1
        with simulated_driver(assembles=False):
            found = section(TINY, long=0.0, **how)
    else:
        found = section(**how)
    sys.exit(bool(found["failed"]))
