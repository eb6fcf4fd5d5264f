"""Digests of the text of every kernel that the suite's problems need: did a change alter one?

    python -m benchmarks.kernels > before       # then, with the change, > after; and diff the two

Nothing is compiled but the loops under @njit. Each line names a problem and a program, then gives
the digests of its kernels in order; a step without a kernel of ours stands by its name. With
--texts the texts follow. With --counts there are, in the place of digests, counts: nodes, kernels and
texts that differ, their statements, and operations over those of the graph, which are 1 where no
value is computed twice; unrolled loops are counted too.
"""

import argparse
import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from benchmarks.loops import LOOPS
from benchmarks.problems import SUITE, make
from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.copies import alone
from nbhvp.graph.node import Graph, Node, reachable
from nbhvp.plan.costs import CPU, Costs
from nbhvp.plan.recurrence import Repeated
from nbhvp.plan.schedule import Step, schedule
from nbhvp.plan.splitting.split import split
from nbhvp.targets.cpu.kernels.nests import emit, has_kernels
from nbhvp.targets.cpu.traffic import traffic
from nbhvp.trace.record import record


def graphs(fun, x: np.ndarray, args: tuple, costs: Costs = CPU) -> Iterator[tuple[str, Graph]]:
    """The graphs of the programs of a function: value, gradient, point, product, one-shot product."""
    trace = record(fun, x, args)
    (value,), inputs = trace.outputs, trace.inputs
    guards = tuple(node for node, _ in trace.guards)
    yield "value", alone(Graph(inputs, (*guards, value)))
    gradient = derive.gradient(value, inputs[0])
    yield "gradient", alone(Graph(inputs, (*guards, value, gradient)))
    for mode in derive.EXACT_MODES:
        v = p.input_node(trace.pool, "v", x.shape, x.dtype)
        product = derive.hvp(value, inputs[0], v, mode)
        whole = alone(Graph((*inputs, v), (*guards, value, gradient, product)))
        *known, product = whole.outputs
        graph = Graph(whole.inputs, (product,))
        state, after = split(graph, whole.inputs[-1], costs, known)
        point = (*known[: len(guards)], *state, *known[len(guards) :])
        yield f"point {mode}", Graph(whole.inputs[:-1], point)
        yield f"product {mode}", after
        yield f"one-shot {mode}", alone(Graph(whole.inputs, (product,)))


def texts(graph: Graph) -> Iterator[str]:
    """The texts of the kernels of a program, in order."""
    yield from _texts(schedule(derive.check(graph)).steps)


def _texts(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        if isinstance(step, Repeated):
            yield from _texts(step.plan.steps)
        elif has_kernels(step):
            yield from (call.source for call in emit(step))
        else:
            yield type(step).__name__


def problems() -> Iterator[tuple[str, object, np.ndarray, tuple]]:
    """The problems of the suite at small sizes, and their forms with loops."""
    for label in SUITE:
        problem = make(label)
        if problem.x0.size <= 200_000:
            yield label, problem.fun, problem.x0, problem.args
            if problem.name in LOOPS:
                loop, arguments = LOOPS[problem.name]
                yield f"{label} in loops", loop, problem.x0, arguments(problem)


def unrolled() -> Iterator[tuple[str, Callable, np.ndarray, tuple]]:
    """Loops in Python over whole arrays, which a trace has as many steps of."""

    def waves(x, steps=12):
        y = x
        for k in range(steps):
            y = y * np.cos(0.1 * k * x) + x**2 / (1 + y * y)
        return np.sum(y)

    def midpoint(x, steps=20, h=0.05):
        q, p = x[: x.size // 2], x[x.size // 2 :]
        for _ in range(steps):
            q, p = q + h * (p - 0.5 * h * np.sin(q)), p - h * np.sin(q + 0.5 * h * p)
        return np.sum(q * q + p * p)

    def diffusion(x, steps=15):
        u = x
        for _ in range(steps):
            u = u.copy()
            u[1:-1] = u[1:-1] + 0.1 * (u[2:] - 2 * u[1:-1] + u[:-2]) + 0.01 * u[1:-1] ** 3
        return np.sum((u - 1) ** 2)

    def roots(x, steps=100):
        root = np.ones_like(x)
        for _ in range(steps):
            root = 0.5 * (root + x * x / root) + 0.01 * np.sin(root)
        return np.sum(root)

    def gates(x, n=32, steps=6):
        W, h, c = x.reshape(4, n, n), np.zeros(n), np.zeros(n)
        sigmoid = lambda z: 1 / (1 + np.exp(-z))
        for t in range(steps):
            i, f, o, g = (w @ h + 0.1 * t for w in W)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        return np.sum(h * h)

    for fun, size in (
        (waves, 1000),
        (midpoint, 200),
        (diffusion, 200),
        (roots, 300),
        (gates, 4096),
    ):
        yield fun.__name__, fun, np.linspace(0.1, 1, size), ()


def counts(graph: Graph) -> str:
    """The kernels of a program, and what they compute beside what the graph needs."""
    plan = schedule(derive.check(graph))
    kernels = [c.source for s in plan.steps if has_kernels(s) for c in emit(s)]
    statements = [sum(" = " in line for line in text.splitlines()) for text in kernels]
    nodes = [node for node in reachable(plan.graph.outputs) if node.args]
    ratio = traffic(plan.steps).operations / max(1.0, sum(map(operations, nodes)))
    return (
        f"{len(nodes)} nodes, {len(kernels)} kernels, {len({*kernels})} texts, "
        f"{sum(statements)} statements, operations {ratio:.2f}"
    )


def operations(node: Node) -> float:
    """What a node takes, in additions."""
    if (body := node.primitive.body) is not None:
        return node.params["length"] * sum(map(operations, body.graph.nodes))
    if node.primitive.kind == "bilinear":
        return 2.0 * node.size * node.args[0].shape[2]
    if node.primitive.is_elementwise:
        return node.primitive.cost * node.size
    return float(node.args[0].size) if node.primitive.reduction else 0.0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--texts", action="store_true")
    options.add_argument("--counts", action="store_true")
    given = options.parse_args()
    for label, fun, x, args in (*problems(), *(unrolled() if given.counts else ())):
        for name, graph in graphs(fun, x, args):
            if given.counts:
                print(f"{label}: {name}: {counts(graph)}")
                continue
            found = list(texts(graph))
            digests = [hashlib.sha256(text.encode()).hexdigest()[:12] for text in found]
            print(f"{label}: {name}:", *digests)
            if given.texts:
                print(*found, sep="\n\n")


if __name__ == "__main__":
    main()
