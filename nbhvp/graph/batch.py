"""A linear map of one direction as a map of k of them, from graph to graph.

Every node that depends on the direction gets one more axis, of extent k; what does not depend on it
stays as it is. Since the map is linear in the direction, three rules serve every primitive:

- elementwise: the others broadcast, so operands without the axis have extent 1 there;
- linear: parameters that name axes (`axis`, `axes`) count the new one, and those with an entry per
  axis get one more, which the table gives (`Primitive.per_axis`);
- bilinear: one more letter, "ij,j->i" becoming "ij,jz->iz": a product with a vector becomes one
  with a matrix;
- recurrences: the same of each node of a step.

The axis comes last, so that loops over it are innermost and contiguous.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nbhvp.graph import primitives as p
from nbhvp.graph.derive import check, joint_positions
from nbhvp.graph.node import Graph, Node, dependent, reachable
from nbhvp.graph.table.scan import Body, scan

__all__ = ["batched", "seeded"]


def batched(graph: Graph, direction: Node, count: int) -> Graph | None:
    """The graph of `count` directions at once; None where a primitive takes no further axis.

    The direction and each output of shape S get the shape S + (count,). Other inputs stay as they are.
    """
    nodes = graph.nodes
    active = dependent(nodes, [direction])
    if any(
        node in active and node is not direction and not node.primitive.batches for node in nodes
    ):
        return None
    axis = _Axis(count)
    v = p.input_node(
        direction.pool, direction.params["name"], axis.extended(direction.shape), direction.dtype
    )
    new = _all(axis, nodes, {direction: v})
    inputs = tuple(new.get(node, node) for node in graph.inputs)
    outputs = tuple(new.get(node) or axis.repeated(node) for node in graph.outputs)
    return check(Graph(inputs, outputs), linear_in=v)


def seeded(outputs: Sequence[Node], seeds: dict[Node, Node], count: int) -> list[Node] | None:
    """The outputs of `count` directions, which are given for some nodes; None as for `batched`."""
    needed = reachable(outputs, stop=seeds)
    active = dependent(needed, seeds).difference(seeds)
    if not all(node.primitive.batches for node in active):
        return None
    axis = _Axis(count)
    new = _all(axis, needed, dict(seeds))
    return [new.get(node) or axis.repeated(node) for node in outputs]


def _all(axis: _Axis, nodes: Sequence[Node], new: dict[Node, Node]) -> dict[Node, Node]:
    """All nodes that depend on the directions, given these."""
    active = dependent(nodes, new)
    for node in nodes:
        if node in active and node not in new:
            new[node] = _applied(axis, node, new)
            assert new[node].shape == axis.extended(node.shape), f"{node.primitive} lost an axis"
    return new


@dataclass(frozen=True)
class _Axis:
    """The axis of the directions, which is the last."""

    extent: int

    def extended(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape, self.extent)

    def beside(self, node: Node) -> Node:
        """A node without the axis, broadcasting along it."""
        return p.reshape(node, shape=(*node.shape, 1)) if node.shape else node

    def repeated(self, node: Node) -> Node:
        return p.broadcast(self.beside(node), shape=self.extended(node.shape))

    def parameter(self, node: Node, name: str, value):
        """A parameter of a linear primitive."""
        entry = node.primitive.per_axis.get(name)
        if entry is None:
            return value
        return (*value, {"extent": self.extent, "axis": node.ndim}.get(entry, entry))


def _applied(axis: _Axis, node: Node, new: dict[Node, Node]) -> Node:
    """One node, of directions at once."""
    entry, args = node.primitive, node.args
    positions = {k for k, arg in enumerate(args) if arg in new}
    if entry.is_elementwise:
        mixed = [new.get(arg) or axis.beside(arg) for arg in args]
        return entry(*mixed, **node.params)
    if entry.kind == "bilinear":
        (k,) = positions
        mixed = [new.get(arg, arg) for arg in args]
        return entry(*mixed, subscripts=_subscripts(node.params["subscripts"], k))
    joint = joint_positions(node, positions)
    if entry.body is not None:
        args = tuple(
            (new.get(arg) or axis.repeated(arg)) if k in joint else arg
            for k, arg in enumerate(args)
        )
        body = entry.body.known(
            ("directions", axis, frozenset(joint)), lambda: _body(axis, entry.body, joint)
        )
        rows = scan(body, node.params["length"], *args)
        return p.reshape(rows, shape=axis.extended(node.shape))
    beside = axis.beside if entry.broadcasts else lambda arg: arg
    mixed = [
        (new.get(arg) or axis.repeated(arg)) if k in joint else beside(arg)
        for k, arg in enumerate(args)
    ]
    params = {name: axis.parameter(node, name, value) for name, value in node.params.items()}
    return entry(*mixed, **params)


def _body(axis: _Axis, body: Body, joint: set[int]) -> Body:
    """A step of several directions, which are among its inputs at some positions."""
    inputs = body.graph.inputs
    given = {
        inputs[k]: p.input_node(
            inputs[k].pool,
            f"{inputs[k].params['name']}s",
            axis.extended(inputs[k].shape),
            body.dtype,
        )
        for k in joint
    }
    new = _all(axis, body.graph.nodes, given)
    outputs = tuple(new.get(node) or axis.repeated(node) for node in body.graph.outputs)
    graph = Graph(tuple(new.get(node, node) for node in inputs), outputs)
    return replace(body, graph=graph, linear=frozenset(joint), single=body)


def _subscripts(subscripts: str, k: int) -> str:
    """A contraction with one more letter in operand k and in the result."""
    letter = next(c for c in string.ascii_letters if c not in subscripts)
    operands, out = subscripts.split("->")
    terms = operands.split(",")
    terms[k] += letter
    return f"{','.join(terms)}->{out}{letter}"
