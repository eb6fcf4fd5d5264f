"""Splits the steps of recurrences in a product: what no direction changes is computed once per point.

The body of a linear recurrence computes coefficients, as the Jacobian of a step, and applies them to
what depends on the direction. A minimum cut of the body (`cut`), as of the whole product, decides which
values are stored: they are the outputs of one more scan, which carries nothing, since each step finds in
memory all that it needs; the recurrence itself reads them as slices. Values that are the same in all
steps are computed before the first one.

With few numbers carried, coefficients are collected (`fold`): a step is then its Jacobian times a vector.
The cheaper form is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nbhvp.graph import definitions, derive
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, dependent, reachable
from nbhvp.graph.table.scan import Body, Derived, collected, linear_body, scan, without_unread
from nbhvp.plan.costs import CPU
from nbhvp.plan.decisions import decided
from nbhvp.plan.lower import lower
from nbhvp.plan.nests.pull import is_view
from nbhvp.plan.splitting import fold
from nbhvp.plan.splitting.cut import is_given, minimum_cut, started

__all__ = ["hoisted"]


def hoisted(graph: Graph, directions: Sequence[Node]) -> Graph:
    """The same product, with recurrences that compute for each direction what depends on it alone."""
    graph = without_unread(graph, dependent(graph.nodes, directions))
    active = dependent(graph.nodes, directions)
    if not any(node.primitive.body is not None and node in active for node in graph.nodes):
        return graph
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        args = tuple(new[arg] for arg in node.args)
        if node.primitive.body is not None and node in active:
            moving = frozenset(k for k, arg in enumerate(node.args) if arg in active)
            new[node] = _applied(node.primitive.body, moving, args, node.params["length"])
        else:
            new[node] = node if args == node.args else node.primitive(*args, **node.params)
    return Graph(graph.inputs, tuple(new[node] for node in graph.outputs))


@dataclass(frozen=True)
class _Halves:
    """The two halves of a step, and what is the same in all steps."""

    fixed: Graph
    """From the arguments to what does not change from step to step."""
    stored: Derived | None
    """What is stored in each step, from the arguments."""
    product: Derived
    """What depends on directions, from the arguments ("arg"), and from both ("fixed", "stored")."""


def _applied(body: Body, moving: frozenset[int], args: Sequence[Node], length: int) -> Node:
    linear = body.joint(moving)
    assert linear is not None, f"{body} is not linear in {sorted(moving)}"
    halves = None
    if not body.is_repeated:
        halves = body.known(("halves", linear), lambda: _halves(body, linear))
    if halves is None:
        return scan(body, length, *args)
    given: dict[tuple[str, int], Node] = {("arg", k): arg for k, arg in enumerate(args)}
    known = dict(zip(halves.fixed.inputs, args, strict=True))
    for k, node in enumerate(_copied(halves.fixed.outputs, known, args[0].pool)):
        given["fixed", k] = node
    if halves.stored is not None:
        sources = halves.stored.sources
        rows = scan(halves.stored.body, length, *(given[source] for source in sources))
        for k in range(len(halves.stored.body.graph.outputs)):
            given["stored", k] = collected(rows, k)
    return scan(halves.product.body, length, *(given[s] for s in halves.product.sources))


def _copied(nodes: Sequence[Node], known: dict[Node, Node], pool) -> list[Node]:
    """Nodes of a body as nodes of another pool, from what its inputs are there."""
    new = dict(known)
    for node in reachable(nodes):
        if node.value is not None:
            new[node] = p.constant(pool, node.value)
        elif node not in new:
            new[node] = node.primitive(*(new[arg] for arg in node.args), **node.params)
    return [new[node] for node in nodes]


def _halves(body: Body, linear: frozenset[int]) -> _Halves | None:
    """The cheaper of two ways to split a step; None where nothing is to be stored."""
    inputs = body.graph.inputs
    directions = [inputs[k] for k in sorted(linear)]
    plain = decided(lower(hoisted(body.graph, directions), products=False))
    graphs = [plain]
    carried = sum(node.size for node in inputs[: body.carries])
    if carried <= CPU.collected:
        late = {*inputs[: body.carries]}
        graphs.append(fold.collected(plain, directions, len(directions), late))
    found = [_Cut(body, graph, directions) for graph in graphs]
    best = min((one for one in found if one.is_exact), key=lambda one: one.seconds, default=None)
    return None if best is None else best.halves(linear)


class _Cut:
    """One way to split the graph of a step."""

    def __init__(self, body: Body, graph: Graph, directions: list[Node]):
        self.body, self.graph = body, graph
        active = dependent(graph.nodes, directions)
        moved = {*directions}
        fixed = [node for node in graph.nodes if node not in active and node not in moved]
        needed = (
            {arg for node in graph.nodes if node in active for arg in node.args} - active - moved
        )
        needed |= {node for node in graph.outputs if node not in active and node not in moved}
        self.state = [node for node in minimum_cut(fixed, needed) if not is_given(node)]
        self.product, _ = started(graph, self.state, fixed)
        slices = graph.inputs[body.carries : body.rest]
        self.varying = dependent(graph.nodes, slices)

    @property
    def is_exact(self) -> bool:
        """Whether all that is to be stored may be, with the numbers of the carry."""
        return all(node.dtype in (self.body.dtype, definitions.BOOL) for node in self.state)

    @property
    def seconds(self) -> float:
        """About how long a step takes for one direction: what it computes and loads, one by one.

        Where it carries something, each operation on the longest way from there waits for the last.
        """
        nodes, depth = self.product.nodes, dict.fromkeys(self.graph.inputs[: self.body.carries], 0)
        for node in nodes:
            before = [depth[arg] for arg in node.args if arg in depth]
            if before:
                depth[node] = max(before) + (0 if is_view(node) else 1)
        longest = max((depth.get(node, 0) for node in self.product.outputs), default=0)
        work = sum(node.primitive.cost * node.size for node in nodes if node.args)
        loads = sum(node.size for node in nodes if not node.args)
        return work * CPU.scalar + loads * CPU.load + longest * CPU.wait

    def halves(self, linear: frozenset[int]) -> _Halves | None:
        inputs, body = self.graph.inputs, self.body
        if not self.state:
            return None
        fixed = [node for node in self.state if node not in self.varying]
        stored = [node for node in self.state if node in self.varying]
        state = dict(zip(self.state, self.product.inputs, strict=False))
        # A truth is stored as 0 or 1.
        as_numbers = {
            state[node]: p.input_node(node.pool, f"truth {k}", node.shape, body.dtype)
            for k, node in enumerate(stored)
            if node.dtype == definitions.BOOL
        }
        truths = {node: p.not_equal(number, 0) for node, number in as_numbers.items()}
        outputs = derive.substitute(self.product.outputs, truths)
        every = [(("arg", k), node, k in linear) for k, node in enumerate(inputs)]
        kept = [
            (("stored", k), as_numbers.get(state[node], state[node]), False)
            for k, node in enumerate(stored)
        ]
        same = [(("fixed", k), state[node], False) for k, node in enumerate(fixed)]
        along, rest = every[body.carries : body.rest], every[body.rest :]
        parts = every[: body.carries], [*along, *kept], [*rest, *same]
        product = linear_body(outputs, *parts, body)
        before = None
        if stored:
            numbers = [p.cast(node, dtype=body.dtype) for node in stored]
            before = linear_body(numbers, [], along, rest, body, reverse=False)
            before = Derived(_plain(before.body), before.sources)
        return _Halves(Graph(inputs, tuple(fixed)), before, product)


def _plain(body: Body) -> Body:
    return replace(body, linear=frozenset())
