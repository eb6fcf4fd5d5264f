"""What is computed once per point, and what once per product.

Given the graph of a product (x, args, v) -> H v, everything that does not depend on v belongs to the
point. Of that, only what v-dependent nodes use crosses over: it is stored in the point's state,
unless it is cheaper to compute again than to load. One rule, in `_recompute`: a value is computed
again if that costs at most `CHEAP` additions per element and reads at most one array.
"""

from __future__ import annotations

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, dependent

__all__ = ["split"]

CHEAP = 16.0
"""Additions per element that take about as long as one load from memory, measured."""


def split(graph: Graph, direction: Node) -> tuple[tuple[Node, ...], Graph]:
    """The nodes to store at a point, and the graph of the product that starts from them.

    The inputs of the product are the stored nodes (as inputs named state0, state1, ...), then those
    of `graph`, in this order.
    """
    nodes = graph.nodes
    active = dependent(nodes, [direction])
    crossing = {arg for node in nodes if node in active for arg in node.args} - active
    crossing |= {node for node in graph.outputs if node not in active}
    state: dict[Node, Node] = {}
    pending = sorted(crossing, key=lambda node: node.index)
    cost: dict[Node, tuple[float, frozenset[Node]]] = {}
    seen = set()
    while pending:
        node = pending.pop()
        if node in seen or not node.args:
            continue
        seen.add(node)
        if _recompute(node, cost):
            pending.extend(node.args)
        else:
            name = f"state{len(state)}"
            state[node] = p.input_node(node.pool, name, node.shape, node.dtype)
    outputs = derive.substitute(graph.outputs, state)
    product = Graph((*state.values(), *graph.inputs), tuple(outputs))
    return tuple(state), derive.check(product, linear_in=direction)


def _recompute(node: Node, cost: dict) -> bool:
    work, arrays = _inline_cost(node, cost)
    return work <= CHEAP and len(arrays) <= 1


def _inline_cost(node: Node, cost: dict) -> tuple[float, frozenset[Node]]:
    """Additions per element to compute a node from memory, and the arrays that this reads."""
    if node not in cost:
        if not node.args:
            cost[node] = (0.0, frozenset([node] if node.shape else []))
        elif node.primitive.is_elementwise or node.primitive.pull is not None:
            parts = [_inline_cost(arg, cost) for arg in node.args]
            work = node.primitive.cost if node.primitive.is_elementwise else 0.0
            cost[node] = (
                work + sum(part[0] for part in parts),
                frozenset().union(*(part[1] for part in parts)),
            )
        else:
            cost[node] = (float("inf"), frozenset())
    return cost[node]
