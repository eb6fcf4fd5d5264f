"""Whether a trace is worth a GPU: ``target="auto"``.

Predicted from counts and from figures of both machines, never measured, so that runs repeat. A product takes
some `RUNS` times what the value takes. On a GPU it takes launches, the bytes that its kernels move at the rate
of the memory, its arithmetic, and copies of the direction and of the result, since most callers have arrays
of NumPy's. A device that is slow in double precision loses by that. What runs on the host anyhow stays there: tapes,
and recurrences whose steps have few numbers; those of many instances side by side are launches for each step.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from nbhvp.graph.node import Graph, Node
from nbhvp.plan.costs import CPU, GPU
from nbhvp.plan.recurrence import Repeated
from nbhvp.plan.schedule import Step, schedule
from nbhvp.targets.cpu.traffic import traffic

__all__ = ["is_worthwhile", "seconds"]

RUNS = 3
"""A product in runs of the value: a tangent and an adjoint beside it."""
SMALL = 1 << 14
"""Elements of the largest array, below which nothing is worth a GPU: launches alone take longer."""
WAIT = 2e-5
"""Seconds from a call to its result, beside launches: two copies are started, and one wait ends."""
COPY = 1 / 1.2e10
"""Seconds for a byte between host and device."""


def is_worthwhile(inputs: Sequence[Node], outputs: Sequence[Node], slowness: float) -> bool:
    """Whether products are predicted to end sooner on a GPU.

    `slowness` is the time of an operation there in that of `costs.GPU`.
    """
    graph = Graph(tuple(inputs), tuple(outputs))
    largest = max(_work(node) for node in graph.nodes)
    if largest < SMALL or any(map(_is_sequential, graph.nodes)):
        return False
    here, there = seconds(graph, slowness)
    return there < here


def _work(node: Node) -> int:
    """Elements, or terms of a matrix product."""
    if node.primitive.kind == "bilinear":
        return max(node.size, *(arg.size for arg in node.args))
    return node.size


def _is_sequential(node: Node) -> bool:
    """Whether a node is a loop with little to do at a time."""
    body = node.primitive.body
    return "tape" in node.params or (body is not None and body.width < GPU.wide_step)


def _launches(steps: Sequence[Step]) -> int:
    """Kernels that a GPU is handed: those of a loop once for each of its steps."""
    count = 0
    for step in steps:
        if isinstance(step, Repeated):
            count += step.node.params["length"] * _launches(step.plan.steps)
        else:
            count += 1
    return count


def seconds(graph: Graph, slowness: float) -> tuple[float, float]:
    """A product on the CPU, all of its threads at work, and on the GPU."""
    steps = schedule(graph).steps
    one = traffic(steps)
    words = (one.read + one.written) / 8
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    here = one.operations * CPU.flop + words * CPU.fetch(one.read)
    there = max(one.operations * GPU.flop * slowness, words * GPU.load)
    there += _launches(steps) * GPU.launch
    x = graph.inputs[0]
    copies = WAIT + 2 * x.size * x.dtype.itemsize * COPY
    return RUNS * here / (threads or 1), RUNS * there + copies
