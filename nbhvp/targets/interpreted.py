"""The slow target: programs that interpret their graph with NumPy.

It has the interface of the compiled programs, which are tested against it. `bind` fixes all inputs but
the last, for many products at one point.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import Interpreter, evaluation
from nbhvp.graph.node import Graph, Node
from nbhvp.graph.primitives import SERIES
from nbhvp.plan.costs import CPU

__all__ = ["Bound", "Program", "seconds"]

START = 3
"""Nodes that take as long as what each run does beside its nodes."""
THREADED = 2**17
"""Multiplications from which NumPy's OpenBLAS may use threads, with some room."""
PAIR = ["einsum_path", (0, 1)]
"""Both operands at once: nothing is to be searched."""


def seconds(graph: Graph) -> float:
    """One run, predicted from the nodes of a graph and from their extents, never measured."""
    return START * CPU.interpreted + sum(map(_seconds, graph.nodes))


def _seconds(node: Node) -> float:
    entry = node.primitive
    if not node.args:
        return 0.0
    if entry.body is not None:  # a recurrence: its graph at each step
        return node.params["length"] * seconds(entry.body.graph)
    if (tape := node.params.get("tape")) is not None:
        return tape.codes.size * CPU.interpreted
    if entry.kind == "bilinear":
        work, pieces = _work(node), _pieces(node)
        shared = CPU.crowded if work / pieces >= THREADED else 0.0
        return CPU.interpreted + 4 * work * CPU.multiply_add + pieces * CPU.piece + shared
    passes = 1 if entry.is_elementwise and entry.cost < SERIES else 5
    elements = max(node.size, *(arg.size for arg in node.args))
    is_large = node.size * node.dtype.itemsize >= CPU.l2
    new = node.size * CPU.new if is_large else 0.0
    return CPU.interpreted + passes * elements * CPU.element + new


def _work(node: Node) -> float:
    """The multiplications of (m, k) times (k, n), whose sizes multiply to (m k n) ** 2."""
    return math.prod((*(arg.size for arg in node.args), node.size)) ** 0.5


def _pieces(node: Node) -> int:
    """The parts of a product along its longest axis for which BLAS wakes no threads."""
    is_large = node.primitive is p.contract and _work(node) >= THREADED and node.ndim
    return min(math.ceil(_work(node) / THREADED) + 1, max(node.shape)) if is_large else 1


def _in_pieces(node: Node) -> Callable:
    """What evaluates a node on one thread. Threads that wait for one another may take 3e-2 s."""
    count = _pieces(node)
    return functools.partial(_by_pieces, count) if count > 1 else evaluation(node)


def _by_pieces(count: int, x: np.ndarray, y: np.ndarray, subscripts: str) -> np.ndarray:
    operands, out = subscripts.split("->")
    first, second = operands.split(",")
    extents = dict(zip(first + second, x.shape + y.shape, strict=True))
    letter = max(out, key=extents.__getitem__)

    def parts(array, letters):
        if letter not in letters:
            return [array] * count
        return np.array_split(array, count, letters.index(letter))

    pairs = zip(parts(x, first), parts(y, second), strict=True)
    found = [np.einsum(subscripts, *pair, optimize=PAIR) for pair in pairs]
    return np.concatenate(found, out.index(letter))


class Program:
    """The outputs of a graph, by the interpreter; on one thread, if that is asked for."""

    def __init__(self, graph: Graph, on_one_thread: bool = False):
        self.graph = graph
        self._interpret = Interpreter(graph, _in_pieces if on_one_thread else evaluation)

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs, as fresh arrays, at the values of all inputs."""
        return self._interpret(*inputs)

    def bind(self, *cold: np.ndarray) -> Bound:
        """The program with all inputs but the last fixed."""
        return Bound(self._interpret, cold)


class Bound:
    """A program of one input: a product at a fixed point."""

    def __init__(self, interpret: Interpreter, cold: Sequence[np.ndarray]):
        self._interpret = interpret
        self.stored = self._cold = tuple(cold)

    def directly(self, x: np.ndarray) -> None:
        """There is no compiled code that could take x."""

    def __call__(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The last output, in a fresh array or in `out`."""
        result = self._interpret(*self._cold, x)[-1]
        if out is None:
            return result
        out[...] = result
        return out
