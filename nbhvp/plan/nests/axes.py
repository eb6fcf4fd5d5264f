"""Puts the long axis of an array last, where the loops along it would else be short.

The loops of a kernel run in the order of the axes, and the innermost one is vectorised. A sum over 10
coordinates of 1000 points is 1000 loops of one vector and two numbers left over; over an array of shape
(10, 1000) it is 10 loops of 125 vectors. So arrays that are computed, and constants, get another order of
their axes: such a node is computed in its new order, and all others read a view of it,

    z = transpose(z'),    z' = f(transpose(x), transpose(y), ...),

where the transposes of what has itself a new order cancel. The decision is one for all arrays that
elementwise operations, broadcasts and sums tie together: it pays if starting all the short loops takes
longer than reading and writing inputs, outputs and the like against their order in memory.

Inputs lie in the caller's order. One that is read along a short axis again and again, for each of the
short loops, is copied into the other order first, if it is small.

Invariant: values are the same, up to the order in which sums are added up. The order follows from an
array's shape alone, so that it is the same in the programs of a point and of its products.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node
from nbhvp.plan.costs import CPU

__all__ = ["copied", "is_copy", "long_axis_last", "new_order", "short_loops"]

Order = tuple[int, ...]
"""Which axis of an array stands at each position."""


def long_axis_last(graph: Graph) -> Graph:
    """The same function, of arrays in other orders where that is predicted to be faster."""
    nodes = graph.nodes
    orders = {node: order for node in nodes if (order := new_order(node)) is not None}
    turned = _worthwhile(graph, nodes, orders)
    if not turned:
        return graph
    new: dict[Node, Node] = {}
    for node in nodes:
        args = [new[arg] for arg in node.args]
        if node in turned:
            made = _computed(node, args, orders, turned)
            new[node] = _transposed(made, _inverse(orders[node]))
        elif _is_sum_of(node, turned):
            new[node] = _summed(node, args[0], orders[node.args[0]])
        else:
            is_same = all(one is arg for one, arg in zip(args, node.args, strict=True))
            new[node] = node if is_same else node.primitive(*args, **node.params)
    return Graph(graph.inputs, tuple(new[node] for node in graph.outputs))


def short_loops(graph: Graph) -> float:
    """The seconds that starting loops takes in sums of arrays whose long axis is not the last one."""
    sums = (node.args[0] for node in graph.nodes if node.primitive is p.sum_)
    return sum(_starts(arg) for arg in sums if new_order(arg))


def _starts(arg: Node) -> float:
    """The seconds of starting a loop along the last axis for each element of the others."""
    return arg.size // next(n for n in reversed(arg.shape) if n != 1) * CPU.start


def new_order(node: Node) -> Order | None:
    """The order of the axes with the longest one last, if the last one is short beside it."""
    shape = node.shape
    if len(shape) < 2 or not node.args:
        return None
    wide = [k for k, n in enumerate(shape) if n != 1]
    if len(wide) < 2 or 0 in shape:
        return None
    longest = max(wide, key=lambda k: shape[k])
    last = shape[wide[-1]]
    # Two or three coordinates alone are written out where they are.
    is_short = last <= CPU.share and (last > CPU.written_out or len(wide) > 2)
    if not is_short or shape[longest] < CPU.long:
        return None
    return (*(k for k in range(len(shape)) if k != longest), longest)


def _is_turnable(node: Node) -> bool:
    """Whether a node can be computed with its axes in another order."""
    entry = node.primitive
    if entry is p.reshape:
        return _wide(node) == _wide(node.args[0])
    return entry.is_elementwise or entry in (p.broadcast, p.transpose, p.contract)


def _is_member(node: Node, order: Order, group: Container[Node]) -> bool:
    if node.primitive in (p.reshape, p.transpose) and node.args[0] not in group:
        # A view of an input in another order is none that is read fast.
        return _is_turnable(node) and _reading(node.args[0], node, order) == 0
    return _is_turnable(node) or _is_sum_of(node, group)


def _is_sum_of(node: Node, turned: Container[Node]) -> bool:
    return node.primitive is p.sum_ and node.args[0] in turned


def _wide(node: Node) -> list[int]:
    return [n for n in node.shape if n != 1]


def _worthwhile(graph: Graph, nodes: Sequence[Node], orders: dict[Node, Order]) -> set[Node]:
    """The nodes whose order changes: those of groups in which this saves more than it costs."""
    group = _groups(nodes, orders)
    gains: dict[Node, float] = {}
    outputs = set(graph.outputs)

    def count(member: Node, seconds: float) -> None:
        gains[group[member]] = gains.get(group[member], 0.0) + seconds

    for node in nodes:
        if node in group and node in outputs:
            count(node, -node.size * CPU.copy)
        for arg in node.args:
            if node in group and arg not in group:
                count(node, -_reading(arg, node, orders[node]))
            elif arg in group and node.primitive is p.sum_:
                count(arg, _starts(arg))
            elif arg in group and node not in group:
                count(arg, -min(node.size, arg.size) * CPU.copy)
    return {node for node in group if gains.get(group[node], 0.0) > 0}


def _groups(nodes: Sequence[Node], orders: dict[Node, Order]) -> dict[Node, Node]:
    """For each node that can have another order, the one that stands for all it is tied to."""
    parent: dict[Node, Node] = {}

    def root(node: Node) -> Node:
        while parent[node] is not node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for node in nodes:
        if node in orders and _is_member(node, orders[node], parent):
            parent[node] = node
        for arg in node.args if node in parent else ():
            if arg in parent:
                parent[root(arg)] = root(node)
    return {node: root(node) for node in parent}


def _reading(arg: Node, node: Node, order: Order) -> float:
    """The seconds that it costs to read an operand in another order than it has in memory."""
    if node.primitive is p.contract:
        return 0.0
    long = _axis_of(arg, node, order[-1])
    if long < 0 or arg.shape[long] == 1 or _is_last(arg, long):
        return 0.0
    if arg.size == arg.shape[long]:
        return 0.0
    size = arg.size * arg.dtype.itemsize
    if arg.size < node.size and size > CPU.l2 // 2:
        # Short loops around the long one would read it again and again, from memory.
        return math.inf
    if arg.value is not None:
        return 0.0 if size <= CPU.l3 else math.inf
    return arg.size * CPU.copy


def _axis_of(arg: Node, node: Node, axis: int) -> int:
    """Which axis of an operand an axis of a node is; negative if it has none."""
    if node.primitive is p.transpose:
        return node.params["axes"][axis]
    if node.primitive is p.reshape:
        wide = [k for k, n in enumerate(arg.shape) if n != 1]
        place = sum(n != 1 for n in node.shape[:axis])
        return wide[place] if place < len(wide) else -1
    return axis - (node.ndim - arg.ndim)


def _is_last(x: Node, axis: int) -> bool:
    """Whether an axis is the last one in memory, if x is computed in its own order."""
    while x.primitive is p.transpose:
        x, axis = x.args[0], x.params["axes"][axis]
    return bool(x.args) and all(n == 1 for n in x.shape[axis + 1 :])


def _computed(
    node: Node, args: list[Node], orders: dict[Node, Order], turned: Container[Node]
) -> Node:
    """A node in its new order."""
    entry, order = node.primitive, orders[node]
    if entry is p.sum_:
        return _transposed(_summed(node, args[0], orders[node.args[0]]), order)
    shape = tuple(node.shape[k] for k in order)
    if entry is p.contract:
        operands, out = node.params["subscripts"].split("->")
        return entry(*args, subscripts=f"{operands}->{''.join(out[k] for k in order)}")
    if entry is p.transpose:
        return _transposed(entry(*args, **node.params), order)
    if entry is p.reshape:
        return p.reshape(_aligned(_reshaped(args[0], node.shape), order), shape=shape)
    operands = [
        _aligned(_copied(new, order) if _is_copied(arg, node, order, turned) else new, order)
        for arg, new in zip(node.args, args, strict=True)
    ]
    if entry is p.broadcast:
        return p.broadcast(operands[0], shape=shape)
    return p.broadcast(entry(*operands, **node.params), shape=shape)


def copied(node: Node) -> Node:
    """A node of the same elements that has memory of its own."""
    return node.pool.intern(p.cast, (node,), {"dtype": node.dtype}, node.shape, node.dtype)


def is_copy(node: Node) -> bool:
    return node.primitive is p.cast and node.dtype == node.args[0].dtype


def _is_copied(arg: Node, node: Node, order: Order, turned: Container[Node]) -> bool:
    """Whether an operand is read again and again, in an order that is not its own."""
    is_small = arg.value is None and arg.size < node.size
    return is_small and arg not in turned and _reading(arg, node, order) > 0


def _copied(x: Node, order: Order) -> Node:
    """An operand, copied into memory of its own with its axes in an order."""
    places = [k - (len(order) - x.ndim) for k in order]
    inner = tuple(k for k in places if k >= 0)
    turned = p.transpose(x, axes=inner)
    return p.transpose(copied(turned), axes=_inverse(inner))


def _aligned(x: Node, order: Order) -> Node:
    """An operand that broadcasts to an array, for that array in another order."""
    if x.ndim == 0:
        return x
    return _transposed(p.reshape(x, shape=(1,) * (len(order) - x.ndim) + x.shape), order)


def _reshaped(x: Node, shape: tuple[int, ...]) -> Node:
    """x with axes of extent 1 put in and left out; the view of what has another order stays one."""
    if x.primitive is not p.transpose:
        return p.reshape(x, shape=shape)
    inner, axes = x.args[0], x.params["axes"]
    wide = [axes[k] for k, n in enumerate(x.shape) if n != 1]
    places = [k for k, n in enumerate(shape) if n != 1]
    at = dict(zip(wide, places, strict=True))
    kept = [at[k] for k in range(inner.ndim) if k in at]
    rest = [k for k in range(len(shape)) if k not in kept]
    turned = p.reshape(inner, shape=tuple(shape[k] for k in (*rest, *kept)))
    return _transposed(turned, _inverse((*rest, *kept)))


def _summed(node: Node, x: Node, order: Order) -> Node:
    """The sum of what has another order, in its own."""
    axes, places = node.params["axes"], _inverse(order)
    total = p.sum_(_transposed(x, order), axes=tuple(sorted(places[k] for k in axes)))
    left = [k for k in order if k not in axes]
    return _transposed(total, tuple(left.index(k) for k in sorted(left)))


def _inverse(order: Order) -> Order:
    return tuple(np.argsort(order).tolist())


def _transposed(x: Node, order: Order) -> Node:
    """x with its axes in an order; constants are copied, once."""
    wide = [k for k in order if x.shape[k] != 1]
    if wide == sorted(wide):
        return p.reshape(x, shape=tuple(x.shape[k] for k in order))
    if x.value is None:
        return p.transpose(x, axes=tuple(order))
    key = "layout", x, tuple(order)
    if key not in x.pool.made:
        copy = np.array(np.transpose(x.value, order), order="C")
        x.pool.made[key] = p.constant(x.pool, copy)
    return x.pool.made[key]
