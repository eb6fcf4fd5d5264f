"""Sweeps over a tape on a GPU: of many directions each is a thread's.

A single direction stays on the host: each record waits for those before.
"""

from __future__ import annotations

from nbhvp.graph.node import Node
from nbhvp.plan.schedule import Library
from nbhvp.targets.cuda.kernels.repeats import DIRECTIONS
from nbhvp.targets.cuda.kernels.texts import THREADS, Launch, kernel_of
from nbhvp.targets.sweeps import SWEEPS

__all__ = ["emit", "has_lanes"]


def has_lanes(step: Library) -> bool:
    """Whether a step is a sweep with enough directions for a GPU."""
    return step.node.primitive in SWEEPS and _directions(step.node) >= DIRECTIONS


def emit(step: Library) -> list[Launch]:
    """The kernel of a sweep."""
    count = _directions(step.node)
    sweep = SWEEPS[step.node.primitive](step.node, threads=count)
    directions = sweep.slots.integer("threads", count)
    body = ["k = block() * threads() + thread()", f"if k < {directions}:"]
    body += ["    " + line for line in sweep.text("k")]
    source = kernel_of("sweep", sweep.slots, body)
    return [Launch(source, sweep.slots.contents, (-(-count // THREADS), 1))]


def _directions(node: Node) -> int:
    axis = node.params.get("axis", 0)
    return node.size // max(1, node.shape[axis])
