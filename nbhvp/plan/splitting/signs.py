"""One array for a difference and its opposite, in products.

A function of distances computes x_i - x_j, and its derivatives x_j - x_i. Both are one array with a sign,
and their squares and products are one array. So signs are taken out of products, sums, and views, up to
where a value is needed with its sign:

    (-a) b = -(a b),    a + (-b) = a - b,    x_j - x_i = -(x_i - x_j).

Negation is exact: values agree but for the sign of a zero, which sums and products pass on as such. What
else reads an opposite, as arctan2 does, reads it as it is written.
"""

from __future__ import annotations

from nbhvp.graph import primitives as p
from nbhvp.graph.derive import is_zero
from nbhvp.graph.node import Graph, Node
from nbhvp.plan.nests.pull import is_view

__all__ = ["without_opposites"]

MANY = 1024
"""Elements of a difference from which one of two is worth some kernels more, of 30 to 60 ms each: in a model with
256 that took 0.8 s, for less than a microsecond of each product."""


def without_opposites(graph: Graph, least: int = MANY) -> Graph:
    """The same product, where of two opposite differences one is computed.

    Of arrays with that many elements at least.
    """
    differences = {
        node.args for node in graph.nodes if node.primitive is p.subtract and node.size >= least
    }
    if not any((b, a) in differences for a, b in differences if a is not b):
        return graph
    found = _Signs()
    for node in graph.nodes:
        found.add(node)
    return Graph(graph.inputs, tuple(map(found.whole, graph.outputs)))


class _Signs:
    """For each node of a graph, the node that it is, or the opposite of."""

    def __init__(self) -> None:
        self.new: dict[Node, tuple[Node, bool]] = {}
        self.differences: set[tuple[Node, Node]] = set()

    def whole(self, node: Node) -> Node:
        """A node with its sign."""
        one, is_negative = self.new[node]
        return p.negative(one) if is_negative else one

    def add(self, node: Node) -> None:
        entry, args = node.primitive, [self.new[arg] for arg in node.args]
        nodes, signs = [one for one, _ in args], [sign for _, sign in args]
        if node.dtype.kind == "f" and entry is p.negative:
            self.new[node] = nodes[0], not signs[0]
        elif node.dtype.kind == "f" and entry in (p.add, p.subtract):
            self.new[node] = self._sum(
                nodes[0], nodes[1], signs[0], signs[1] ^ (entry is p.subtract)
            )
        elif any(signs) and _is_odd(node, nodes):
            self.new[node] = entry(*nodes, **node.params), sum(signs) % 2 == 1
        elif any(signs) or tuple(nodes) == node.args:
            self.new[node] = node, False  # as it is written: the sign of a zero may decide
        else:
            self.new[node] = entry(*nodes, **node.params), False

    def _sum(self, a: Node, b: Node, is_first: bool, is_second: bool) -> tuple[Node, bool]:
        """a + b, each with its sign, as a sum or a difference with one."""
        if is_first == is_second:
            return p.add(a, b), is_first
        if is_first:
            a, b = b, a
        if (b, a) in self.differences:
            return p.subtract(b, a), True
        self.differences.add((a, b))
        return p.subtract(a, b), False


def _is_odd(node: Node, args: list[Node]) -> bool:
    """Whether the sign of each argument is one of the result."""
    entry = node.primitive
    if entry in (p.multiply, p.divide, p.sum_, p.contract) or is_view(node):
        return node.dtype.kind == "f"
    return entry is p.update and is_zero(args[0])
