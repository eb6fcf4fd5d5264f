"""What is computed once per point, and what once per product.

Given the graph of a product (x, args, v) -> H v, everything that does not depend on v belongs to the
point. Of that, only what v-dependent nodes use crosses over: it is stored in the point's state,
unless it is cheaper to compute again than to load. One rule, in `_recompute`: a value is computed
again if that costs at most `CHEAP` additions per element and reads at most one array.
"""

from __future__ import annotations

from nbhvp.compile.lower import lower
from nbhvp.compile.pull import is_view
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
    # Lowered first, so that what a scatter needs of its indices is found once per point.
    graph = lower(graph)
    nodes = graph.nodes
    active = dependent(nodes, [direction])
    crossing = {arg for node in nodes if node in active for arg in node.args} - active
    crossing |= {node for node in graph.outputs if node not in active}
    state: dict[Node, Node] = {}
    pending = sorted(crossing, key=lambda node: node.index)
    seen = set()
    while pending:
        node = pending.pop()
        if node in seen or not node.args:
            continue
        seen.add(node)
        if is_view(node) or _recompute(node):
            pending.extend(node.args)
        else:
            name = f"state{len(state)}"
            state[node] = p.input_node(node.pool, name, node.shape, node.dtype)
    outputs = derive.substitute(graph.outputs, state)
    product = Graph((*state.values(), *graph.inputs), tuple(outputs))
    return tuple(state), derive.check(product, linear_in=direction)


def _recompute(node: Node) -> bool:
    """Whether a value costs less to compute again, from memory, than to load."""
    arrays, seen, work = set(), {node}, 0.0
    stack = [node]
    while stack:
        node = stack.pop()
        if not node.args:
            arrays.update([node] if node.shape else [])
        elif node.primitive.is_elementwise or node.primitive.pull is not None:
            work += node.primitive.cost if node.primitive.is_elementwise else 0.0
            stack.extend(arg for arg in node.args if arg not in seen)
            seen.update(node.args)
        else:
            return False
        if work > CHEAP or len(arrays) > 1:
            return False
    return True
