"""The definition of what a graph means: NumPy, one node at a time.

Slow and plain on purpose. Every compiled target is tested against it. Floating-point warnings are
off, as in compiled code: NaN and infinities flow as in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nbhvp.graph.node import Graph, Node, reachable

__all__ = ["Interpreter", "evaluated", "evaluation", "interpret"]


def evaluation(node: Node) -> Callable:
    """NumPy's function of the values of a node's operands."""
    return node.primitive.evaluate


class Interpreter:
    """The outputs of a graph at the values of its inputs, each node in its way."""

    def __init__(self, graph: Graph, way: Callable[[Node], Callable] = evaluation):
        self._inputs, self._outputs = graph.inputs, graph.outputs
        self._steps = [
            (node, way(node), node.args, node.params, node.dtype)
            for node in graph.nodes
            if node not in graph.inputs
        ]

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs, in arrays of their own."""
        values = {}
        for node, value in zip(self._inputs, inputs, strict=True):
            array = np.asarray(value)
            if array.shape != node.shape or array.dtype != node.dtype:
                raise ValueError(
                    f"input {node.params['name']} must be {node.dtype}{list(node.shape)}, "
                    f"got {array.dtype}{list(array.shape)}"
                )
            values[node] = array
        with np.errstate(all="ignore"):
            for node, evaluate, args, params, dtype in self._steps:
                values[node] = np.asarray(evaluate(*[values[a] for a in args], **params), dtype)
        return [np.array(values[node]) for node in self._outputs]


def interpret(graph: Graph, *inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs of a graph at the values of its inputs, once."""
    return Interpreter(graph)(*inputs)


def evaluated(outputs: Sequence[Node], known: Mapping[Node, np.ndarray]) -> list[np.ndarray]:
    """The outputs, from the nearest nodes whose values are known."""
    values: dict[Node, np.ndarray] = {}
    with np.errstate(all="ignore"):
        for node in reachable(outputs, stop=known):
            if node in known:
                values[node] = known[node]
            else:
                found = node.primitive.evaluate(*(values[a] for a in node.args), **node.params)
                values[node] = np.asarray(found, node.dtype)
    return [values[node] for node in outputs]
