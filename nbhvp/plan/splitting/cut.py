"""The cut between what is computed once and what is computed for each direction.

The cut for which a product costs least is a minimum cut: the product loads the stored nodes, and
computes the nodes behind them again. Both are counted in additions per element, for each node:

    source --compute--> node (in) --load--> node (out) --infinite--> node (in) of each user

A cut at `load` stores the node; a cut at `compute` computes it again, which needs all its arguments on
the product's side. Inputs, and views of inputs, are in memory in any case: loading one costs less than
loading a node that has to be stored first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node
from nbhvp.plan.costs import CPU, Costs
from nbhvp.plan.nests.pull import is_pulled, is_small_sum, is_view

__all__ = ["is_given", "minimum_cut", "started", "viewed"]

GIVEN = 0.75
"""What a load of an input counts beside one of what must be stored first, and kept."""
_INFINITE = 2**30
_LARGEST = 2**20


def started(graph: Graph, state: list[Node], fixed: list[Node]) -> tuple[Graph, dict[Node, Node]]:
    """The product from a state, and what each fixed node is there."""
    inputs = {
        node: p.input_node(node.pool, f"state{k}", node.shape, node.dtype)
        for k, node in enumerate(state)
    }
    new = derive.substitute((*graph.outputs, *fixed), inputs)
    outputs = tuple(new[: len(graph.outputs)])
    again = dict(zip(fixed, new[len(graph.outputs) :], strict=True))
    return Graph((*inputs.values(), *graph.inputs), outputs), again


def minimum_cut(nodes: Sequence[Node], needed: set[Node], costs: Costs = CPU) -> list[Node]:
    """The nodes at which the cheapest product starts, in order.

    If the second cache does not hold all of a state, no part of it counts as loaded from there.
    """
    cut = _cut(nodes, needed, True, costs) if needed else []
    if sum(node.size * node.dtype.itemsize for node in cut if not is_given(node)) <= costs.l2:
        return cut
    return _cut(nodes, needed, False, costs)


def _cut(nodes: Sequence[Node], needed: set[Node], is_cached: bool, costs: Costs) -> list[Node]:
    number = {node: k for k, node in enumerate(nodes)}
    source, sink = 2 * len(nodes), 2 * len(nodes) + 1
    edges: list[tuple[int, int, float]] = []
    for node, k in number.items():
        edges.append((source, 2 * k, _compute(node, costs)))
        edges.append((2 * k, 2 * k + 1, _load(node, is_cached, costs)))
        edges += [(2 * number[arg] + 1, 2 * k, np.inf) for arg in node.args]
        if node in needed:
            edges.append((2 * k + 1, sink, np.inf))
    starts, ends, flows = map(np.array, zip(*edges, strict=True))
    finite = np.isfinite(flows)
    scale = _LARGEST / max(1.0, flows[finite].max())
    scaled = np.full(len(edges), _INFINITE)
    scaled[finite] = np.ceil(flows[finite] * scale)
    network = csr_array((scaled.astype(np.int32), (starts, ends)), shape=(sink + 1, sink + 1))
    residual = (network - maximum_flow(network, source, sink).flow).tocsr()
    residual.data = np.where(residual.data > 0, 1, 0)
    residual.eliminate_zeros()
    # Of all cheapest cuts the one nearest to the product, which computes least.
    behind = set(breadth_first_order(residual.T.tocsr(), sink, return_predecessors=False).tolist())
    cut = (node for node, k in number.items() if 2 * k + 1 in behind and 2 * k not in behind)
    return list(dict.fromkeys(map(_original, cut)))


def _compute(node: Node, costs: Costs) -> float:
    """What it costs to compute a node again from its arguments."""
    if not is_pulled(node):
        return np.inf
    if is_small_sum(node):
        return float(node.args[0].size)
    if node.primitive.is_elementwise:
        return node.primitive.cost * node.size
    if node.primitive.repeats and len(node.args) > 1:
        source = node.args[0]
        return costs.fetch(source.size * source.dtype.itemsize) / costs.flop * node.size
    return costs.choice * node.size if len(node.args) > 1 else 0.0


def _load(node: Node, is_cached: bool, costs: Costs) -> float:
    """What it costs to load a node: constants that are one number are in the text or the table.

    The second cache, which several arrays share, loads in half the time. But each array of state costs
    something for itself, and the first one makes the product a program of its own.
    """
    if p.scalar_value(node) is not None:
        return 0.0
    far = costs.loaded if node.size > 1 else costs.choice
    is_near = is_cached and 4 * node.size * node.dtype.itemsize <= costs.l2
    near = far / 2 if is_near and node.size > 1 else far
    if is_given(node):
        return GIVEN * near * node.size
    return min(far * node.size, near * node.size + 2 * costs.state / costs.flop)


def is_given(node: Node) -> bool:
    """Whether a node is an input, a constant or a view of one: it is never stored."""
    return not viewed(node).args


def viewed(node: Node) -> Node:
    """What a node is a view of, or the node itself."""
    while is_view(node):
        node = node.args[0]
    return node


def _original(node: Node) -> Node:
    """What a node is a view of, if that has the same elements: one array serves all such views.

    The rows of a recurrence serve all their columns.
    """
    base = viewed(node)
    if base.primitive.body is not None:
        return base
    while is_view(node) and node.args[0].size == node.size:
        node = node.args[0]
    return node
