"""Loop fission: matrix products of recurrences that need not wait for the carry leave the loop.

In a step of a recurrent network three kinds of products have no place in the recurrence:

    W_dot h_k         does not depend on what is carried: computed for all steps before the loop,
    sum_k d_k h_k^T   only adds to a sum that no step reads: computed behind the loop,
    V^T d_k           is given in each step, and no step reads it: behind the loop, too.

Each is then one matrix product with all steps as an axis, where each step would multiply a matrix by a
vector, or write a sum as large as the matrix. What such a part needs of the recurrence itself is one
more output of each step.

Sums are added in another order than the steps would, so the user's own operations stay (`Body.order`).
Steps without matrix products stay too: their arrays are in cache.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nbhvp.graph import primitives as p
from nbhvp.graph.derive import joint_positions, substitute
from nbhvp.graph.node import Graph, Node, dependent, reachable
from nbhvp.graph.table.scan import (
    Body,
    Derived,
    before,
    collected,
    following,
    linear_body,
    scan,
    with_rows,
)
from nbhvp.plan.recurrence import is_narrow

__all__ = ["fissioned"]


def fissioned(graph: Graph) -> Graph:
    """The same graph, with recurrences that keep only what depends on what they carry."""
    wide = {node for node in graph.nodes if _is_wide(node)}
    if not wide:
        return graph
    return with_rows(graph, lambda node, args: _split(node, args, graph) if node in wide else None)


def _is_wide(node: Node) -> bool:
    body = node.primitive.body
    has_products = body is not None and any(map(_is_product, body.graph.nodes))
    return has_products and body.order > 0 and not is_narrow(body)


def _is_product(node: Node) -> bool:
    """Whether a node is a product with a matrix in it."""
    return node.primitive.kind == "bilinear" and any(one.ndim > 1 for one in (node, *node.args))


def _sums(node: Node, graph: Graph) -> dict[int, Node]:
    """What is carried only to be added to, and read after the last step alone: what is added."""
    body, outputs = node.primitive.body, node.primitive.body.graph.outputs
    users = [user for user in graph.nodes if node in user.args]
    if node in graph.outputs or any(user.primitive is not p.slice_ for user in users):
        return {}
    last, found = 0 if body.reverse else node.shape[0] - 1, {}
    for k, carry in enumerate(body.graph.inputs[: body.carries]):
        new, columns = outputs[k], range(body.columns[k], body.columns[k + 1])
        uses = [one for one in body.graph.nodes if carry in one.args]
        is_added = uses == [new] and new.primitive is p.add and new.args != (carry, carry)
        is_whole = is_added and outputs.count(new) == 1 and carry not in outputs
        if is_whole and all(_begins_at(user, last) for user in users if _reads(user, columns)):
            found[k] = new.args[new.args[0] is carry]
    return found


def _reads(user: Node, columns: range) -> bool:
    start, size = user.params["start"][1], user.params["size"][1]
    return start < columns.stop and columns.start < start + size


def _begins_at(user: Node, row: int) -> bool:
    """Whether a slice of rows is this row alone."""
    return (user.params["start"][0], user.params["size"][0]) == (row, 1)


@dataclass(frozen=True)
class _Parts:
    """A body without what leaves the loop."""

    core: Derived | None
    """What stays; its sources are ("arg", k) and ("earlier", k)."""
    kept: tuple[int, ...]
    """The outputs of the body that the core has first."""
    taps: tuple[Node, ...]
    """Nodes that are its further outputs, since what comes behind needs them."""
    earlier: tuple[Node, ...]
    """Nodes that are computed before the loop."""
    moved: tuple[int, ...]
    """The outputs of the body that are computed behind it."""


def _split(node: Node, args: Sequence[Node], graph: Graph) -> Node | None:
    body, sums = node.primitive.body, _sums(node, graph)
    parts = body.known(("fission", frozenset(sums)), lambda: _parts(body, sums))
    return parts and _Split(body, parts, sums, args, node.params["length"]).rows()


def _parts(body: Body, sums: dict[int, Node]) -> _Parts | None:
    """What stays in the loop, and what leaves it; None where nothing does."""
    outputs, n = body.graph.outputs, body.carries
    kept = [k for k in range(n) if k not in sums]
    moved: list[int] = []
    core = {*reachable([outputs[k] for k in kept])}
    for k in (*range(n, len(outputs)), *sums):
        root = sums.get(k, outputs[k])
        beside = [one for one in reachable([root]) if one not in core]
        has_products = any(map(_is_product, beside))
        if all(map(_spreads, beside)) and (has_products or (k in sums and moved)):
            moved.append(k)
        else:
            kept.append(k)
            core.update(reachable([outputs[k]]))
    kept.sort()
    carry = [body.graph.inputs[k] for k in kept if k < n]
    waiting = dependent(body.graph.nodes, carry)
    taps = _taps([sums.get(k, outputs[k]) for k in moved], core & waiting, body)
    earlier = _earlier([one for one in body.graph.nodes if one in core and one not in waiting])
    if not moved and not earlier:
        return None
    taps = [one for one in taps if one not in {outputs[k] for k in kept}]
    core_of = _core(body, kept, taps, earlier)
    return _Parts(core_of, tuple(kept), tuple(taps), tuple(earlier), tuple(moved))


def _taps(roots: Sequence[Node], core: set[Node], body: Body) -> list[Node]:
    """What is needed behind the loop of nodes that are computed within it."""
    found: dict[Node, None] = {}
    pending, seen = [*roots], {*roots}
    while pending:
        one = pending.pop()
        if one in core and one.args and one.dtype == body.dtype:
            found[one] = None
            continue
        pending += [arg for arg in one.args if arg not in seen]
        seen.update(one.args)
    return sorted(found, key=lambda one: one.index)


def _earlier(nodes: Sequence[Node]) -> list[Node]:
    """The products among nodes that do not wait for the carry."""
    possible: set[Node] = set()
    for node in nodes:
        if not node.args or (_spreads(node) and possible.issuperset(node.args)):
            possible.add(node)
    return [node for node in nodes if _is_product(node) and node in possible]


def _core(body: Body, kept: list[int], taps: list[Node], earlier: list[Node]) -> Derived | None:
    if not kept:
        return None
    inputs, n, end = body.graph.inputs, body.carries, body.rest
    moving = dependent(body.graph.nodes, [inputs[k] for k in body.linear])
    varying = dependent(body.graph.nodes, inputs[n:end])
    given = {
        one: p.input_node(one.pool, f"earlier {k}", one.shape, one.dtype)
        for k, one in enumerate(earlier)
    }
    every = [(("arg", k), one, k in body.linear) for k, one in enumerate(inputs)]
    new = [(("earlier", k), given[one], one in moving) for k, one in enumerate(earlier)]
    along = [one for one, node in zip(new, earlier, strict=True) if node in varying]
    fixed = [one for one, node in zip(new, earlier, strict=True) if node not in varying]
    outputs = substitute([*(body.graph.outputs[k] for k in kept), *taps], given)
    carry = [every[k] for k in kept if k < n]
    parts = carry, [*every[n:end], *along], [*every[end:], *fixed]
    return linear_body(outputs, *parts, body)


class _Split:
    """A recurrence, computed in parts."""

    def __init__(self, body: Body, parts: _Parts, sums: dict[int, Node], args, length: int):
        self.body, self.parts, self.sums, self.args, self.length = body, parts, sums, args, length
        inputs = body.graph.inputs
        moving = [one for k, one in enumerate(inputs[: body.rest]) if k not in sums]
        varying = dependent(body.graph.nodes, moving)
        self.along = _Along(length, dict(zip(inputs, args, strict=True)), varying)
        self.core = None if parts.core is None else self._core(parts.core)

    def _core(self, core: Derived) -> Node:
        given: dict[tuple[str, int], Node] = {("arg", k): arg for k, arg in enumerate(self.args)}
        earlier = self.along.at(self.parts.earlier)
        given |= {("earlier", k): one for k, one in enumerate(earlier)}
        z = scan(core.body, self.length, *(given[source] for source in core.sources))
        known, (inputs, outputs) = self.along, (self.body.graph.inputs, self.body.graph.outputs)
        for place, k in enumerate(self.parts.kept[: core.body.carries]):
            known.new[inputs[k]] = before(z, place)
            known.know(outputs[k], following(z, place))
        others = [outputs[k] for k in self.parts.kept[core.body.carries :]]
        for place, node in enumerate([*others, *self.parts.taps]):
            known.know(node, collected(z, place))
        return z

    def rows(self) -> Node:
        """All rows, of which only the last one is right of the sums."""
        body, length = self.body, self.length
        whole = p.zeros(self.along.pool, (length + 1, body.width), body.dtype)
        for place, k in enumerate(self.parts.kept):
            assert self.core is not None, "what is kept has a loop"
            size = (length + 1, body.graph.outputs[k].size)
            columns = self.core.primitive.body.columns[place]
            values = p.slice_(self.core, start=(0, columns), step=(1, 1), size=size)
            whole = p.update(whole, values, start=(0, body.columns[k]), step=(1, 1))
        for k in self.parts.moved:
            output = body.graph.outputs[k]
            if k in self.sums:
                found = self.args[k] + self.along.total(self.sums[k])
                row, size = (0 if body.reverse else length), (1, output.size)
            else:
                found = self.along.repeated(output)
                row, size = 0, (length, output.size)
            values = p.reshape(found, shape=size)
            whole = p.update(whole, values, start=(row, body.columns[k]), step=(1, 1))
        return whole


def _spreads(node: Node) -> bool:
    """Whether a node of a step can be computed for all steps at once."""
    entry = node.primitive
    if not node.args or entry.is_elementwise or entry.kind == "bilinear":
        return True
    is_view = entry.pull is not None and len(node.args) == 1
    return (is_view or entry is p.sum_) and entry.batches


class _Along:
    """Nodes of a step in all steps at once, along a first axis; some are the same in all steps."""

    def __init__(self, length: int, known: dict[Node, Node], varying: set[Node]):
        self.length, self.new, self.varying = length, known, varying
        self.pool = next(iter(known.values())).pool

    def know(self, node: Node, values: Node) -> None:
        """What a node that is not the same in all steps is in each."""
        if node in self.varying and node not in self.new:
            self.new[node] = values

    def at(self, nodes: Sequence[Node]) -> list[Node]:
        for node in reachable(nodes, stop=tuple(self.new)):
            if node not in self.new:
                self.new[node] = self._applied(node)
        return [self.new[node] for node in nodes]

    def repeated(self, node: Node) -> Node:
        (values,) = self.at([node])
        if node in self.varying:
            return values
        return p.broadcast(values, shape=(self.length, *node.shape))

    def _applied(self, node: Node) -> Node:
        if node.value is not None:
            return p.constant(self.pool, node.value)
        entry, args = node.primitive, [self.new[arg] for arg in node.args]
        if node not in self.varying:
            return entry(*args, **node.params)
        if entry.kind == "bilinear":
            return self._product(node, True)
        if entry.is_elementwise or entry is p.broadcast:
            args = [self._aligned(arg, node.ndim) for arg in node.args]
        return entry(*args, **{k: self._parameter(node, k, v) for k, v in node.params.items()})

    def _product(self, node: Node, is_kept: bool) -> Node:
        """A contraction with all steps as an axis of the result, or summed over them."""
        subscripts = node.params["subscripts"]
        letter = next(c for c in string.ascii_letters if c not in subscripts)
        operands, out = subscripts.split("->")
        terms = [
            letter * (arg in self.varying) + term
            for arg, term in zip(node.args, operands.split(","), strict=True)
        ]
        args = self.at(node.args)
        return node.primitive(*args, subscripts=f"{','.join(terms)}->{letter * is_kept}{out}")

    def _aligned(self, arg: Node, ndim: int) -> Node:
        if arg not in self.varying:
            return self.new[arg]
        ones = (1,) * (ndim - arg.ndim)
        return p.reshape(self.new[arg], shape=(self.length, *ones, *arg.shape))

    def _parameter(self, node: Node, name: str, value: Any) -> Any:
        """A parameter of a view or a sum, with the axis of the steps before all others."""
        if name in ("axis", "axes"):
            value = value + 1 if name == "axis" else tuple(k + 1 for k in value)
        entry = node.primitive.per_axis.get(name)
        if entry is None:
            return value
        return ({"extent": self.length, "axis": 0}.get(entry, entry), *value)

    def total(self, root: Node) -> Node:
        """The sum of a node over all steps, taken where least is added."""
        forms: dict[Node, set[int]] = {}
        pending = [root]
        while pending:
            node = pending.pop()
            if node not in forms:
                forms[node] = self._form(node)
                pending += [node.args[k] for k in forms[node]]
        totals: dict[Node, Node] = {}
        for node in sorted(forms, key=lambda one: one.index):
            if node not in self.varying:
                totals[node] = p.multiply(self.at([node])[0], self.length)
            elif forms[node]:
                args = self.at([arg for k, arg in enumerate(node.args) if k not in forms[node]])
                both = [
                    totals[a] if k in forms[node] else args.pop(0) for k, a in enumerate(node.args)
                ]
                totals[node] = node.primitive(*both, **node.params)
            elif node.primitive.kind == "bilinear":
                totals[node] = self._product(node, False)
            else:
                totals[node] = p.sum_(self.repeated(node), axes=(0,))
        return totals[root]

    def _form(self, node: Node) -> set[int]:
        """The arguments of which a node is a linear form with coefficients that no step changes."""
        active = {k for k, arg in enumerate(node.args) if arg in self.varying}
        if not active or not node.primitive.linear_in(active):
            return set()
        return joint_positions(node, active)
