"""The definition of what a graph means: NumPy, one node at a time.

Slow and plain on purpose. Every compiled target is tested against it. Floating-point warnings are
off, as in compiled code: NaN and infinities flow as in NumPy.
"""

from __future__ import annotations

import numpy as np

from nbhvp.graph.node import Graph

__all__ = ["interpret"]


def interpret(graph: Graph, *inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs of a graph at the values of its inputs."""
    values = {}
    for node, value in zip(graph.inputs, inputs, strict=True):
        array = np.asarray(value)
        if array.shape != node.shape or array.dtype != node.dtype:
            raise ValueError(
                f"input {node.params['name']} must be {node.dtype}{list(node.shape)}, "
                f"got {array.dtype}{list(array.shape)}"
            )
        values[node] = array
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node in values:
                continue
            args = (values[arg] for arg in node.args)
            params = node.params
            values[node] = np.asarray(node.primitive.evaluate(*args, **params), node.dtype)
    return [np.array(values[node]) for node in graph.outputs]
