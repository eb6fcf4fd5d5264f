"""Steps that a GPU has no kernel for: the host computes them between two copies, those in a row together.

Loops whose steps wait for one another, which NumPy would take step by step, are compiled for the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, reachable

__all__ = ["Host", "hosted"]


@dataclass(frozen=True)
class Host:
    """Nodes that the host computes, from given ones, and those among them that are copied."""

    given: tuple[Node, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Node, ...]
    program: Any = None
    """What computes them, if it is compiled."""

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        if self.program is not None:
            return self.program(*arrays)
        values = dict(zip(self.given, arrays, strict=True))
        with np.errstate(all="ignore"):
            for node in self.nodes:
                args = (values[arg] for arg in node.args)
                found = node.primitive.evaluate(*args, **node.params)
                values[node] = np.asarray(found, node.dtype)
        return [values[node] for node in self.outputs]


def hosted(
    outputs: Sequence[Node], present: set[Node], compiled: Callable[[Graph], Any] | None
) -> Host:
    """What steps compute, from what is present in memory; `compiled` makes programs of the host."""
    nodes = reachable(outputs, stop=present)
    given = tuple(node for node in nodes if node in present)
    missing = tuple(node for node in nodes if node not in present)
    program = None
    if compiled is not None and given and any(map(_is_sequential, missing)):
        inputs = tuple(
            p.input_node(node.pool, f"given{k}", node.shape, node.dtype)
            for k, node in enumerate(given)
        )
        found = derive.substitute(outputs, dict(zip(given, inputs, strict=True)))
        program = compiled(Graph(inputs, tuple(found)))
    return Host(given, missing, tuple(outputs), program)


def _is_sequential(node: Node) -> bool:
    return node.primitive.body is not None or "tape" in node.params
