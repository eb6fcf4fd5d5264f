"""Graphs in pools of their own, in which nothing else has been made.

What is made of a graph may find nodes that its pool has already, and takes the order of nodes from that
in which they were made. A plan is made of a copy, so that it depends on the graph alone: the same one in
each process, whatever was derived or planned there before.

The bodies of recurrences are copied too. Those that share a pool share one in the copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nbhvp.graph.node import Graph, Node, Pool, reachable
from nbhvp.graph.primitives import Primitive
from nbhvp.graph.table.lanes import in_lanes
from nbhvp.graph.table.scan import Body

__all__ = ["alone"]


def alone(graph: Graph) -> Graph:
    """The same graph in a pool of its own."""
    return _Copies().graph(graph)


class _Copies:
    """Copies of nodes and bodies, each made once."""

    def __init__(self) -> None:
        self._pools: dict[Pool, Pool] = {}
        self._keys: dict[Node, Any] = {}
        self._nodes: dict[Node, Node] = {}
        self._bodies: dict[Body, Body] = {}

    def graph(self, graph: Graph) -> Graph:
        nodes = reachable((*graph.inputs, *graph.outputs))
        pool = self._pool(nodes[0].pool)
        for node in nodes:
            if node not in self._nodes:
                self._nodes[node] = pool.intern(
                    self._primitive(node.primitive),
                    self._all(node.args),
                    node.params,
                    node.shape,
                    node.dtype,
                    self._keys.get(node),
                )
        return Graph(self._all(graph.inputs), self._all(graph.outputs))

    def _all(self, nodes: Sequence[Node]) -> tuple[Node, ...]:
        return tuple([self._nodes[node] for node in nodes])

    def _pool(self, pool: Pool) -> Pool:
        if pool not in self._pools:
            self._pools[pool] = Pool()
            self._keys |= pool.keys()
        return self._pools[pool]

    def _primitive(self, entry: Primitive) -> Primitive:
        body = entry.body
        if body is None:
            return entry
        if body not in self._bodies:
            single = body.single and self._primitive(body.single.primitive).body
            self._bodies[body] = replace(body, graph=self.graph(body.graph), single=single)
        copy = self._bodies[body]
        if entry is body.primitive:
            return copy.primitive
        return copy.ending if entry is body.ending else in_lanes(copy)
