"""Splits the graph of a product: a part computed once per point, and a part for each direction.

Given the graph of a product (x, args, v) -> H v, all nodes that do not depend on v can be computed at
the point. A minimum cut (`cut`) decides which of them are stored there, and which are computed again
for each direction. Steps of recurrences are split in the same way first (`hoist`).
"""

from __future__ import annotations

from collections.abc import Sequence

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, dependent
from nbhvp.plan.costs import CPU, Costs
from nbhvp.plan.decisions import decided
from nbhvp.plan.fission import fissioned
from nbhvp.plan.lower import lower, small_products_as_sums, stacked
from nbhvp.plan.nests.axes import long_axis_last, short_loops
from nbhvp.plan.networks import reordered
from nbhvp.plan.schedule import lowered, stored_nodes
from nbhvp.plan.splitting.cut import is_given, minimum_cut, started, viewed
from nbhvp.plan.splitting.fold import collected
from nbhvp.plan.splitting.hoist import hoisted
from nbhvp.plan.splitting.lanes import in_lanes, laid_out
from nbhvp.plan.splitting.signs import without_opposites

__all__ = ["split"]


def split(
    graph: Graph, direction: Node, costs: Costs = CPU, beside: Sequence[Node] = ()
) -> tuple[tuple[Node, ...], Graph]:
    """The nodes to store at a point, and the graph of the product that starts from them.

    The inputs of the product are the stored nodes (as inputs named state0, state1, ...), then those
    of `graph`, in this order. What is computed `beside` the state at a point has nodes in common with it.
    """
    if beside:
        # First, since the operands of what commutes stand in the order in which these were made.
        inputs = tuple(node for node in graph.inputs if node is not direction)
        lowered(Graph(inputs, tuple(beside)), costs)
    graph = without_opposites(_zeros_known(graph, direction))
    graph = hoisted(fissioned(graph), [direction])
    if any(node.primitive is p.variable for node in graph.nodes):
        # Of a loss of a model, coefficients of its result's tangent: for each input's they are many.
        graph = collected(graph, [direction])
    # Lowered first, so that what a scatter needs of its indices is found once per point.
    # What decides is made exact here too, so that what is stored is found again in the product.
    plain = decided(lower(graph, products=False))
    graph = small_products_as_sums(reordered(plain, direction))
    arranged = long_axis_last if costs.has_vectors else (lambda graph: graph)
    graph = arranged(collected(graph, [direction]))
    if short_loops(graph) > stacked(plain):  # for which BLAS is better after all
        graph = arranged(collected(plain, [direction]))
    graph = _zeros_known(graph, direction)  # such as parts of arrays that nothing was written to
    by_lanes = in_lanes(graph, [direction], costs)
    if by_lanes is not graph:  # carries that stay zero are left out, and so are their multiples
        graph = _zeros_known(by_lanes, direction)
    active = dependent(graph.nodes, [direction])
    fixed = [node for node in graph.nodes if node not in active and node is not direction]
    needed = {arg for node in graph.nodes if node in active for arg in node.args} - active
    needed |= {node for node in graph.outputs if node not in active}
    needed.discard(direction)
    laid = laid_out(graph) - active
    chosen = minimum_cut(fixed, {node for node in needed if viewed(node) not in laid}, costs)
    state = [node for node in fixed if node in laid or (node in chosen and not is_given(node))]
    product, again = started(graph, state, fixed)
    # What the product would store, though it is the same for all v, had better be state; but zeros
    # as an input would no longer be known as such, and what they are joined to seem affine.
    candidates = [node for node in fixed if not derive.is_zero(node)]
    stored = stored_nodes(product, [again[node] for node in candidates], costs)
    least = lambda node: min(costs.stored * node.size, costs.state / costs.flop)
    promoted = [node for node in candidates if stored.get(again[node], 0) > least(node)]
    if promoted:
        state = [*state, *promoted]
        product, _ = started(graph, state, fixed)
    return tuple(state), derive.check(product, linear_in=direction)


def _zeros_known(graph: Graph, direction: Node) -> Graph:
    """The same product, where what is added to a tangent and does not depend on v is zero.

    It vanishes, or the product would not be linear, but as 0 times something: stored at the point, it
    would look like any number.
    """
    nodes = graph.nodes
    active = dependent(nodes, [direction])
    found: dict[Node, Node] = {}
    for node in nodes:
        if node in active and node is not direction:
            positions = {k for k, arg in enumerate(node.args) if arg in active}
            for k in derive.joint_positions(node, positions) - positions:
                arg = node.args[k]
                if not derive.is_zero(arg):
                    found[arg] = p.zeros(arg.pool, arg.shape, arg.dtype)
    if not found:
        return graph
    return Graph(graph.inputs, tuple(derive.substitute(graph.outputs, found)))
