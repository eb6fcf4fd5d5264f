"""Digests of the text of every kernel that the suite's problems need: did a change alter one?

    python -m benchmarks.kernels > before       # then, with the change, > after; and diff the two

Nothing is compiled but the loops under @njit. Each line names a problem and a program, then gives
the digests of its kernels in order; a step without a kernel of ours stands by its name. With
--texts the texts follow.
"""

import argparse
import hashlib
from collections.abc import Iterator

import numpy as np

from benchmarks.loops import LOOPS
from benchmarks.problems import SUITE, make
from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph
from nbhvp.plan.schedule import Library, MatrixProduct, schedule
from nbhvp.plan.split import split
from nbhvp.targets.cpu.nests import emit, has_kernels
from nbhvp.trace.record import record


def graphs(fun, x: np.ndarray, args: tuple) -> Iterator[tuple[str, Graph]]:
    """The graphs of the programs of a function: value, gradient, point, product, one-shot product."""
    trace = record(fun, x, args)
    (value,), inputs = trace.outputs, trace.inputs
    guards = tuple(node for node, _ in trace.guards)
    yield "value", Graph(inputs, (*guards, value))
    gradient = derive.gradient(value, inputs[0])
    yield "gradient", Graph(inputs, (*guards, value, gradient))
    for mode in derive.EXACT_MODES:
        v = p.input_node(trace.pool, "v", x.shape, x.dtype)
        whole = Graph((*inputs, v), (derive.hvp(value, inputs[0], v, mode),))
        state, product = split(whole, v)
        yield f"point {mode}", Graph(inputs, (*guards, *state, value, gradient))
        yield f"product {mode}", product
        yield f"one-shot {mode}", whole


def texts(graph: Graph) -> Iterator[str]:
    """The texts of the kernels of a program, in order."""
    for step in schedule(derive.check(graph)).steps:
        is_ours = not (isinstance(step, Library) and not has_kernels(step))
        if isinstance(step, MatrixProduct) or not is_ours:
            yield type(step).__name__
        else:
            yield from (call.source for call in emit(step))


def problems() -> Iterator[tuple[str, object, np.ndarray, tuple]]:
    """The problems of the suite at small sizes, and their forms with loops."""
    for label in SUITE:
        problem = make(label)
        if problem.x0.size <= 200_000:
            yield label, problem.fun, problem.x0, problem.args
            if problem.name in LOOPS:
                loop, arguments = LOOPS[problem.name]
                yield f"{label} in loops", loop, problem.x0, arguments(problem)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--texts", action="store_true")
    show = options.parse_args().texts
    for label, fun, x, args in problems():
        for name, graph in graphs(fun, x, args):
            found = list(texts(graph))
            digests = [hashlib.sha256(text.encode()).hexdigest()[:12] for text in found]
            print(f"{label}: {name}:", *digests)
            if show:
                print(*found, sep="\n\n")


if __name__ == "__main__":
    main()
