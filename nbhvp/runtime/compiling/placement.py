"""Whether a trace is worth a GPU: ``target="auto"``.

Predicted from counts and from figures of both machines, never measured, so that runs repeat. A product takes
some `RUNS` times what the value takes. On a GPU it takes launches, the bytes that its kernels move at the rate
of the memory, its arithmetic, and copies of the direction and of the result, since most callers have arrays
of NumPy's. A device that is slow in double precision loses by that. What runs on the host anyhow (tapes and
recurrences, which go step by step) stays there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from nbhvp.graph.node import Graph, Node
from nbhvp.plan.costs import CPU, GPU
from nbhvp.plan.schedule import schedule
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
    return node.primitive.body is not None or "tape" in node.params


def seconds(graph: Graph, slowness: float) -> tuple[float, float]:
    """A product on the CPU, all of its threads at work, and on the GPU."""
    one = traffic(schedule(graph).steps)
    words = (one.read + one.written) / 8
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    here = one.operations * CPU.flop + words * CPU.fetch(one.read)
    steps = one.kernels + one.matrix_products + one.library_calls
    there = max(one.operations * GPU.flop * slowness, words * GPU.load) + steps * GPU.launch
    x = graph.inputs[0]
    copies = WAIT + 2 * x.size * x.dtype.itemsize * COPY
    return RUNS * here / (threads or 1), RUNS * there + copies
