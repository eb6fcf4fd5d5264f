"""Predicted next to measured: seconds to compile programs, by NumPy and compiled seconds of a run.

    python -m benchmarks.costs [--runs]

Programs are values, gradients, points and products of the suite, of ``benchmarks.programs`` and of the
functions below. Seconds are CPU seconds, in memory: a cache on the disk has no part in them. What a
prediction is for is told by its factor, measured over predicted. A machine that is busy or slow moves
all of them alike, so the factors' spread is what the model is judged by.
"""

import argparse
import time
from functools import partial

import numpy as np
from scipy import special

from benchmarks.kernels import graphs, problems
from benchmarks.programs import PROGRAMS
from nbhvp.graph.node import Graph
from nbhvp.targets import interpreted
from nbhvp.targets.cpu.planned import planned
from nbhvp.targets.cpu.predicted import compile_seconds
from nbhvp.targets.native import cache

TIMES = np.linspace(0.1, 5, 50)
FURTHER = {
    "decay": lambda x: np.sum((x[0] * np.exp(-x[1] * TIMES) + x[2] - np.sin(TIMES)) ** 2),
    "peak": lambda x: np.sum((x[0] * np.exp(-((TIMES - x[1]) ** 2) / x[2] ** 2) - TIMES) ** 2),
    "rational": lambda x: np.sum((x[0] * TIMES / (np.exp(x[1]) + TIMES) - np.log1p(TIMES)) ** 2),
    "banana": lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2,
    "Ackley": lambda x: -20 * np.exp(-0.2 * np.sqrt(np.mean(x**2))) - np.exp(np.mean(np.cos(x))),
    "Rastrigin": lambda x: np.sum(x**2 - 10 * np.cos(6.28 * x)),
    "Griewank": lambda x: np.sum(x**2) / 4000 - np.prod(np.cos(x)),
    "quartic chain": lambda x: np.sum((np.roll(x, 1) - x) ** 2 + (x**2 - 1) ** 2),
    "spread": lambda x: np.std(x) ** 2 + np.median(x) ** 2 + np.max(x) * np.var(x),
    "softmax": lambda x: special.logsumexp(x) ** 2 + x @ x,
    "spectrum": lambda x: np.sum(np.abs(np.fft.rfft(x)) ** 2) + np.sum(x**4),
    "eigenvalues": lambda x: np.sum(np.linalg.eigvalsh(np.outer(x, x) + np.eye(x.size)) ** 3),
}
"""Functions of ten numbers."""


def functions():
    """Names, functions, points and arguments."""
    yield from problems()
    for name, program in PROGRAMS.items():
        x, _, args = program.make()
        yield name, program.fun, x, args
    for name, fun in FURTHER.items():
        yield name, fun, np.linspace(0.3, 1.2, 10), ()


def programs():
    """The programs of each function: name, graph, and its inputs where those are the function's."""
    for label, fun, x, args in functions():
        inputs = [x, *(arg for arg in args if isinstance(arg, np.ndarray))]
        for name, graph in graphs(fun, x, args):
            if name in ("value", "gradient") or name.endswith("forward-over-reverse"):
                shapes = [node.shape for node in graph.inputs]
                is_known = shapes == [one.shape for one in inputs]
                yield f"{label}: {name.split()[0]}", graph, inputs if is_known else None


def seconds(call, repeats: int = 3) -> float:
    """The shortest of a few runs."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


def compiling(graph: Graph) -> tuple[float, float]:
    """Predicted and measured, of all kernels of a program."""
    measured = predicted = 0.0
    for source, effort in planned(graph).texts:
        predicted += compile_seconds(source, effort)
        compiled = partial(cache.compiled, source, "kernel", effort)
        measured += seconds(lambda made=compiled: made().object_code, 1)
    return predicted, measured


def interpreting(graph: Graph, inputs: list[np.ndarray]) -> tuple[float, float]:
    """Predicted and measured, of one run by NumPy."""
    run = partial(interpreted.Program(graph), *inputs)
    return interpreted.seconds(graph), seconds(run, 5)


def spread(title: str, pairs: list[tuple[float, float]]) -> str:
    """How far predictions are off, the machine's own speed left aside."""
    factors = np.array([measured / predicted for predicted, measured in pairs])
    middle = np.median(factors)
    near = np.mean(np.abs(np.log(factors / middle)) < np.log(1.5))
    return (
        f"{title}: {len(pairs)} programs, median factor {middle:.2f}, {100 * near:.0f} % within 1.5 "
        f"of it, all from {factors.min() / middle:.2f} to {factors.max() / middle:.2f}"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--runs", action="store_true", help="of runs by NumPy, too")
    given = options.parse_args()
    compiled, runs = [], []
    for name, graph, inputs in programs():
        predicted, measured = compiling(graph)
        if measured:
            compiled.append((predicted, measured))
            print(f"{name}: compiling predicted {predicted:.3f} s, measured {measured:.3f} s")
        if given.runs and inputs is not None:
            runs.append(interpreting(graph, inputs))
            predicted, measured = (1e6 * one for one in runs[-1])
            print(f"{name}: by NumPy predicted {predicted:.0f} us, measured {measured:.0f} us")
    print(spread("compiling", compiled))
    if given.runs:
        print(spread("by NumPy", runs))


if __name__ == "__main__":
    main()
