"""The slow target: programs that interpret their graph with NumPy.

It has the interface of the compiled programs, which are tested against it. `bind` fixes all inputs but
the last, for many products at one point.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph

__all__ = ["Bound", "Program"]


class Program:
    """The outputs of a graph, by the interpreter."""

    def __init__(self, graph: Graph):
        self.graph = graph

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs, as fresh arrays, at the values of all inputs."""
        return interpret(self.graph, *inputs)

    def bind(self, *cold: np.ndarray) -> Bound:
        """The program with all inputs but the last fixed."""
        return Bound(self.graph, cold)


class Bound:
    """A program of one input: a product at a fixed point."""

    def __init__(self, graph: Graph, cold: Sequence[np.ndarray]):
        self._graph = graph
        self.stored = self._cold = tuple(cold)

    def directly(self, x: np.ndarray) -> None:
        """There is no compiled code that could take x."""

    def __call__(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The last output, in a fresh array or in `out`."""
        result = interpret(self._graph, *self._cold, x)[-1]
        if out is None:
            return result
        out[...] = result
        return out
