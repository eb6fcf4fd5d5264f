"""Values that decide a branch or a rounding are computed as in NumPy: products are rounded before sums.

Kernels may contract x * y + z to a fused multiply-add, which is rounded once and usually more accurate.
But if x0 * x1 - x2 is compared with 0, rounded to a whole number, or the argument of a root, the last
bit decides: at ties a program would take another branch than the function does. So all operands of such
a decision, back to the functions and reductions that agree with NumPy's up to rounding only, have
`product`s in the place of their `multiply`s.

A product of complex numbers contains such sums: it is a `product` wherever it may decide. A value with
the same factors as a decision uses the same product, so that both see the same x * y.
"""

from __future__ import annotations

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node
from nbhvp.plan.nests.pull import is_small_sum

__all__ = ["decided"]


def decided(graph: Graph) -> Graph:
    """The same graph, with products that are rounded by themselves where that may decide."""
    exact, added = _exact(graph)
    if not any(node.primitive is p.multiply for node in added):
        return graph
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        args = tuple(new[arg] for arg in node.args)
        if node.primitive is p.multiply and node in added and node.dtype.kind in "fc":
            new[node] = p.product(*args)
        else:
            new[node] = node if args == node.args else node.primitive(*args, **node.params)
    return Graph(graph.inputs, tuple(new[node] for node in graph.outputs))


def _exact(graph: Graph) -> tuple[set[Node], set[Node]]:
    """The nodes whose last bit may decide; those of them that a sum takes as they are."""
    exact: set[Node] = set()
    added: set[Node] = set()
    for node in reversed(graph.nodes):
        if _decides(node) or (node in exact and _is_exact(node)):
            exact.update(node.args)
        if node not in exact:
            continue
        if node.dtype.kind == "c":
            added.add(node)  # a product of complex numbers has sums of its own
        if (
            node.primitive in (p.add, p.subtract)
            or is_small_sum(node)
            or (
                node in added
                and (node.primitive.pull is not None or node.primitive in (p.negative, p.where))
            )
        ):
            added.update(node.args)
    return exact, added


def _decides(node: Node) -> bool:
    """Whether a node is a step of its arguments: its result is discrete, or has no partials."""
    entry = node.primitive
    if all(arg.dtype.kind not in "fc" for arg in node.args):
        return False
    is_step = entry.kind == "elementwise" and entry.rule is None
    return entry.jumps or is_step or node.dtype.kind not in "fc"


def _is_exact(node: Node) -> bool:
    """Whether an element of a node has NumPy's bits, if its arguments have."""
    entry = node.primitive
    if entry.is_elementwise:
        return entry.cost < p.SERIES
    return entry.pull is not None or is_small_sum(node)
