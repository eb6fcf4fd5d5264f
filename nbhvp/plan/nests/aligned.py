"""What is computed for an element of a node, where elementwise operations alone compute it.

Such operations, with views of arrays in memory as their operands, need each node within, and each array,
at one index: the parts of an element are the nodes between it and memory, and no expression has to be
pulled to count them. Views of what is not in memory may move the index: they have no such parts, but
for views of a single number.
"""

from __future__ import annotations

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node
from nbhvp.plan.nests.pull import Index, Load, Puller, Value, Var, is_view

__all__ = ["Aligned", "Parts"]

Parts = frozenset[Node | tuple[Node, Index]]
"""Nodes that are computed, and elements that are loaded."""


class Aligned:
    """The parts of elements, by what is in memory: what has strides."""

    def __init__(self, strides: dict[Node, tuple[int, ...]], users: dict[Node, list[Node]]):
        self._strides, self._users = strides, users
        self._known: dict[Node, Parts | None] = {}

    def inside(self, node: Node) -> Parts | None:
        """The parts of an element of a node, itself included; None if a view may move the index."""
        pending = [node]
        while pending:
            one = pending[-1]
            if one in self._known:
                pending.pop()
                continue
            inner = self._inner(one)
            unknown = [arg for arg in inner or () if arg not in self._known]
            if unknown:
                pending += unknown
            elif inner is None:
                self._known[one] = None
            else:
                self._known[one] = self._united(one, inner)
        return self._known[node]

    def forget(self, node: Node) -> None:
        """Forget what a node is part of, since it has come into memory."""
        pending = [node]
        while pending:
            one = pending.pop()
            if one in self._known:
                del self._known[one]
                pending += self._users.get(one, ())

    def _inner(self, node: Node) -> list[Node] | None:
        """The operands of a node that are computed with it; none where it is loaded."""
        if node in self._strides:
            return []
        if node.primitive.is_elementwise or self._is_number(node):
            return [arg for arg in node.args if p.scalar_value(arg) is None]
        return [] if is_view(node) else None

    def _is_number(self, node: Node) -> bool:
        """Whether a node is a view of a single number that is not in memory."""
        if not is_view(node) or node.args[0].size != 1:
            return False
        while is_view(node):
            (node,) = node.args
            if node in self._strides:
                return False
        return True

    def _united(self, node: Node, inner: list[Node]) -> Parts | None:
        is_computed = node.primitive.is_elementwise and node not in self._strides
        if not inner and not is_computed:
            return self._loaded(node)
        found = [self._known[arg] for arg in inner]
        known = [parts for parts in found if parts is not None]
        own = [node] if is_computed else []
        return frozenset(own).union(*known) if len(known) == len(found) else None

    def _loaded(self, node: Node) -> Parts | None:
        """The element that is loaded for a view of an array: axes are named from the last one."""
        axes = (
            Index() if n == 1 else Index.of(_axis(k - node.ndim)) for k, n in enumerate(node.shape)
        )
        expr = Puller(self._strides.get).at(node, tuple(axes))
        if isinstance(expr, Value):
            return frozenset()
        if not isinstance(expr, Load) or not all(isinstance(a, Var) for a in expr.index.terms):
            return None
        return frozenset([(expr.array, expr.index)])


_AXES: dict[int, Var] = {}


def _axis(place: int) -> Var:
    return _AXES.setdefault(place, Var(f"axis {place}"))
