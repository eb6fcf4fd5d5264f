"""Steps that a GPU has no kernel for: NumPy computes them on the host, between two copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nbhvp.graph.node import Node, reachable

__all__ = ["Host", "hosted"]


@dataclass(frozen=True)
class Host:
    """Nodes that NumPy computes on the host, from given ones, and those among them that are copied."""

    given: tuple[Node, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Node, ...]

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        values = dict(zip(self.given, arrays, strict=True))
        with np.errstate(all="ignore"):
            for node in self.nodes:
                args = (values[arg] for arg in node.args)
                found = node.primitive.evaluate(*args, **node.params)
                values[node] = np.asarray(found, node.dtype)
        return [values[node] for node in self.outputs]


def hosted(outputs: Sequence[Node], present: set[Node]) -> Host:
    """What a step computes, from what is present in memory."""
    nodes = reachable(outputs, stop=present)
    return Host(
        tuple(node for node in nodes if node in present),
        tuple(node for node in nodes if node not in present),
        tuple(outputs),
    )
