"""Puts recurrences of a product into lanes: blocks of their time that run side by side.

A sweep over a linear recurrence of few numbers waits for each step's multiply-add. Its
coefficients are known at the point, and so are the propagators of blocks: `table/lanes` tells how these
make the blocks independent. Here a long recurrence becomes one in lanes, if that costs less:

- outputs that nobody reads, and carries that stay zero, are left out;
- carries to which each step only adds something are sums, which need no propagator;
- slices are laid out by lanes, once per point, or as what another recurrence in lanes has written;
- steps that are left over, fewer than lanes, follow as a recurrence of their own.

Where lanes would lose digits that the sweep in sequence keeps, targets compute a block in sequence: where
a carry between lanes is not finite, or a difference of much larger terms, and where propagators are NaN,
since they fell below `LEAST_NORM` and may have grown again.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.definitions import BOOL
from nbhvp.graph.node import Graph, Node, Pool, dependent, reachable
from nbhvp.graph.table.lanes import has_lanes, scan_in_lanes
from nbhvp.graph.table.scan import Body, Derived, final, linear_body, scan
from nbhvp.plan.costs import Costs
from nbhvp.plan.nests.axes import copied, is_copy
from nbhvp.plan.recurrence import is_narrow

__all__ = ["in_lanes", "laid_out"]

LEAST_NORM = 1e-250
REGROWTH = 1e30
"""What goes towards zero in a lane may underflow, unless its steps might multiply by so much again."""
MOST_CARRIED = 2
"""Numbers of a carry: propagators have the square of it, and with more the arrays of a product leave the caches."""
LEAST, MOST, FEW = 32, 1024, 256
"""Steps of a lane: the least; the most of a single block, whose arrays the second cache holds; those of more."""
COUNTS = 16, 20, 24, 12, 28, 8
"""Lanes: as many as divide the steps, of those that fill vectors, or else the first."""


def in_lanes(graph: Graph, directions: Sequence[Node], costs: Costs) -> Graph:
    """The same product, with long recurrences of few numbers in lanes."""
    active = dependent(graph.nodes, directions)
    scans = [z for z in graph.nodes if z in active and _may_have_lanes(z)]
    if not costs.has_vectors or not scans:
        return graph
    users: dict[Node, list[Node]] = {z: [] for z in scans}
    for node in graph.nodes:
        for arg in users.keys() & {*node.args}:
            users[arg].append(node)
    layout = _Layout(active)
    new = layout.new
    for node in graph.nodes:
        found = None
        if node in users and node not in graph.outputs:
            found = _lanes(node, users[node], layout)
        if found is not None:
            layout.found[node] = found
        elif node.args and node.args[0] in layout.found:
            new[node] = layout.found[node.args[0]].read(node)
        else:
            args = tuple(new[arg] for arg in node.args)
            new[node] = node if args == node.args else node.primitive(*args, **node.params)
    if not layout.found:
        return graph
    return Graph(graph.inputs, tuple(new[node] for node in graph.outputs))


def laid_out(graph: Graph) -> set[Node]:
    """Copies by lanes, which are worth their place: reading what they are of takes as long as no lanes."""
    scans = [node for node in graph.nodes if has_lanes(node)]
    found = {arg for node in scans for arg in node.args}
    return {node for node in reachable(found) if is_copy(node) and node.ndim > 2}


def _may_have_lanes(z: Node) -> bool:
    body = z.primitive.body
    if body is None or z.primitive is not body.primitive or not body.linear:
        return False
    is_plain = body.single is None and not body.is_repeated and body.dtype == np.float64
    return is_plain and z.params["length"] >= LEAST * COUNTS[-1] and is_narrow(body)


@dataclass(frozen=True)
class _Shape:
    """How time is cut: blocks, steps of a lane, lanes."""

    blocks: int
    steps: int
    lanes: int

    @classmethod
    def of(cls, length: int) -> _Shape:
        is_one = length <= MOST * COUNTS[0]
        blocks = 1 if is_one else -(-length // (FEW * COUNTS[0]))
        lanes = next((n for n in COUNTS if length % (blocks * n) == 0), COUNTS[0])
        return cls(blocks, length // (blocks * lanes), lanes)

    @property
    def length(self) -> int:
        return self.blocks * self.steps * self.lanes

    def of_slices(self, rest: tuple[int, ...]) -> tuple[int, ...]:
        return (self.blocks, self.steps, *rest, self.lanes)


class _Layout:
    """The nodes of a graph in the new one, and arrays of slices by lanes."""

    def __init__(self, active: set[Node]):
        self.active = active
        self.new: dict[Node, Node] = {}
        self.found: dict[Node, _Lanes] = {}
        self._slices: dict[Node, Node] = {}

    def slices(self, arg: Node) -> Node:
        """Slices of all steps but those left over, by lanes."""
        if arg not in self._slices:
            self._slices[arg] = self._at_hand(arg) or self._cut(arg)
        return self._slices[arg]

    def _at_hand(self, arg: Node) -> Node | None:
        """What another recurrence in lanes has written, or is computed from that."""
        if p.scalar_value(arg) is not None:
            number = p.constant(arg.pool, p.scalar_value(arg))
            return p.broadcast(number, shape=_Shape.of(arg.shape[0]).of_slices(arg.shape[1:]))
        if arg.primitive.is_elementwise and arg in self.active:
            if any(one.shape != arg.shape for one in arg.args):
                return None
            return arg.primitive(*map(self.slices, arg.args), **arg.params)
        rows = arg.args[0] if arg.primitive is p.reshape else arg
        if rows.primitive is not p.slice_ or rows.args[0] not in self.found:
            return None
        return self.found[rows.args[0]].along(rows, arg.shape)

    def _cut(self, arg: Node) -> Node:
        """Slices as they are read one after the other, in the new order: those of one step together."""
        rows = arg.args[0] if arg.primitive is p.reshape else arg
        if rows.primitive is p.slice_ and _is_all_read(rows.args[0]):
            (row, column), (_, width) = rows.params["start"], rows.params["size"]
            every = p.slice_(
                rows.args[0],
                start=(row, 0),
                step=(1, 1),
                size=(arg.shape[0], rows.args[0].shape[1]),
            )
            shape = _Shape.of(arg.shape[0])
            found = _box(self._turned(every), (0, 0, column, 0), shape.of_slices((width,)))
            return p.reshape(found, shape=shape.of_slices(arg.shape[1:]))
        return self._turned(arg)

    def _turned(self, arg: Node) -> Node:
        if arg not in self._slices:
            shape, rest = _Shape.of(arg.shape[0]), arg.shape[1:]
            rows = _part(self.new.get(arg, arg), 0, shape.length)
            cut = p.reshape(rows, shape=(shape.blocks, shape.lanes, shape.steps, *rest))
            # A copy, so that a point keeps what lies side by side, and not what this is a view of.
            self._slices[arg] = copied(p.transpose(cut, axes=(0, *range(2, cut.ndim), 1)))
        return self._slices[arg]


def _is_all_read(z: Node) -> bool:
    """Whether an array has the coefficients of a recurrence, which reads all of its columns."""
    return z.primitive.body is not None and not z.primitive.body.carries


@dataclass(frozen=True)
class _Sweep:
    """What a recurrence computes of what is read, with the roles of its carries."""

    body: Body
    sources: tuple[tuple[str, int], ...]
    outputs: tuple[int, ...]
    """The outputs of the whole body that these are."""
    sums: tuple[int, ...]

    @property
    def coupled(self) -> list[int]:
        return [k for k in range(self.body.carries) if k not in self.sums]

    @property
    def size(self) -> int:
        """The numbers of what is coupled."""
        return sum(self.body.graph.inputs[k].size for k in self.coupled)


class _Lanes:
    """One recurrence in lanes, and what is read of it."""

    def __init__(self, z: Node, sweep: _Sweep, keeps: bool, layout: _Layout):
        self.z, self.sweep, self.keeps, self.body = z, sweep, keeps, sweep.body
        self.length, self.shape = z.params["length"], _Shape.of(z.params["length"])
        n, end = self.body.carries, self.body.rest
        args = [z.args[k] for _, k in sweep.sources]
        new = [layout.new[arg] for arg in args]
        left = self.length - self.shape.length
        behind = [*(_part(one, self.shape.length, left) for one in new[n:end]), *new[end:]]
        self.last: list[Node] = new[:n]
        self.rest: Node | None = None
        if left and self.body.reverse:
            self._along_rest(left, behind)
        made = _propagators(sweep, self.shape, new[n:end], new[end:], z.pool)
        given = [*self.last, *map(layout.slices, args[n:end]), *new[end:], made]
        shape = self.shape.blocks, self.shape.steps, self.shape.lanes
        self.rows = scan_in_lanes(self.body, given, shape, sweep.sums, keeps)
        self.last = self._ends(self.last)
        if left and not self.body.reverse:
            self._along_rest(left, behind)

    def _along_rest(self, left: int, given: Sequence[Node]) -> None:
        """The steps that are left over, after all others in time."""
        self.rest = scan(self.body, left, *self.last, *given)
        self.last = final(self.rest)

    def _ends(self, start: Sequence[Node]) -> list[Node]:
        """The carry behind the lanes."""
        (blocks, steps, width, lanes), is_back = self.rows.shape, self.body.reverse
        row = 0 if is_back else steps - 1
        whole = _box(self.rows, (0, row, 0, 0), (blocks, 1, width, lanes))
        sums = p.sum_(whole, axes=(0, 1, 3))
        last = (0, 0, 0, 0) if is_back else (blocks - 1, 0, 0, lanes - 1)
        ends = p.reshape(_box(whole, last, (1, 1, width, 1)), shape=(width,))
        found = []
        for k, first in enumerate(start):
            is_sum = k in self.sweep.sums
            value = _part(sums if is_sum else ends, self.body.columns[k], first.size)
            value = p.reshape(value, shape=first.shape)
            found.append(p.add(first, value) if is_sum and not derive.is_zero(first) else value)
        return found

    def _place(self, rows: Node) -> tuple[int, int, int, int] | None:
        """The output, row, column and width of some rows; None where these stay zero."""
        (row, column), (_, width) = rows.params["start"], rows.params["size"]
        whole = self.z.primitive.body
        output = _output_at(whole, column)
        if output not in self.sweep.outputs:
            return None
        k = self.sweep.outputs.index(output)
        return k, row, self.body.columns[k] + column - whole.columns[output], width

    def along(self, rows: Node, shape: tuple[int, ...]) -> Node | None:
        """What these rows are in each step, by lanes."""
        wanted, place = self.shape.of_slices(shape[1:]), self._place(rows)
        if place is None:
            return p.zeros(rows.pool, wanted, rows.dtype)
        if not self.keeps or rows.shape[0] != self.length:
            return None
        _, row, column, width = place
        found = _box(self.rows, (0, row, column, 0), self.shape.of_slices((width,)))
        return p.reshape(found, shape=wanted)

    def read(self, rows: Node) -> Node:
        """What these rows are, in the order of time."""
        place, count = self._place(rows), rows.shape[0]
        if place is None:
            return p.zeros(rows.pool, rows.shape, rows.dtype)
        k, row, column, width = place
        if (row, count) == (_last_row(self.z), 1) and k < self.body.carries:
            carry = p.reshape(self.last[k], shape=(1, self.last[k].size))
            return _box(carry, (0, column - self.body.columns[k]), (1, width))
        every = p.transpose(
            _box(self.rows, (0, 0, column, 0), self.shape.of_slices((width,))), axes=(0, 3, 1, 2)
        )
        every = p.reshape(every, shape=(self.shape.length, width))
        if self.rest is not None:
            behind = _box(self.rest, (0, column), (self.rest.shape[0], width))
        else:
            last = self.shape.blocks - 1, self.shape.steps, column, self.shape.lanes - 1
            behind = p.reshape(_box(self.rows, last, (1, 1, width, 1)), shape=(1, width))
        return _part(p.concatenate(every, behind, axis=0), row, count)


def _last_row(z: Node) -> int:
    return 0 if z.primitive.body.reverse else z.params["length"]


def _lanes(z: Node, users: Sequence[Node], layout: _Layout) -> _Lanes | None:
    """A recurrence in lanes, if what is read of it allows that, and its carry is small."""
    body: Body = z.primitive.body
    rows: dict[int, bool] = {}
    """Whether more than the last row of an output is read."""
    for user in users:
        if user.primitive is not p.slice_ or user.params["step"] != (1, 1):
            return None
        (row, column), (count, width) = user.params["start"], user.params["size"]
        k = _output_at(body, column)
        if column + width > body.columns[k + 1]:
            return None
        rows[k] = rows.get(k, False) or (row, count) != (_last_row(z), 1)
    zeros = frozenset(k for k in range(body.carries) if derive.is_zero(z.args[k]))
    key = frozenset(rows), frozenset(k for k, read in rows.items() if read), zeros
    sweep = body.known(("sweep", key), lambda: _sweep(body, *key))
    if sweep is None:
        return None
    keeps = any(rows.get(k, False) or k >= body.carries for k in sweep.outputs)
    return _Lanes(z, sweep, keeps, layout)


def _output_at(body: Body, column: int) -> int:
    """The output to which a column of the rows belongs."""
    return bisect.bisect_right(body.columns, column) - 1


def _sweep(
    body: Body, read: frozenset[int], rows: frozenset[int], zeros: frozenset[int]
) -> _Sweep | None:
    """What is left of a body whose outputs are read so, from carries that start with zeros."""
    n, inputs = body.carries, body.graph.inputs
    still = {k for k in zeros if body.graph.outputs[k] is inputs[k]}
    outputs = _without(body.graph.outputs, {inputs[k] for k in still})
    nodes = reachable(outputs)
    moved = [dependent(nodes, [inputs[k]]) for k in range(n)]
    kept, pending = set(), [*(read - still)]
    while pending:
        k = pending.pop()
        if k not in kept:
            kept.add(k)
            pending += [j for j in range(n) if j not in still and outputs[k] in moved[j]]
    order = tuple(sorted(kept))
    carried = [k for k in order if k < n]
    sums = tuple(
        place
        for place, k in enumerate(carried)
        if k not in rows
        and _is_added_to(outputs[k], inputs[k], moved[k])
        and not any(outputs[j] in moved[k] for j in kept - {k})
    )
    coupled = sum(inputs[k].size for place, k in enumerate(carried) if place not in sums)
    if not 1 <= coupled <= MOST_CARRIED:
        return None
    every = [(("arg", k), node, k in body.linear) for k, node in enumerate(inputs)]
    parts = [every[k] for k in carried], every[n : body.rest], every[body.rest :]
    left = linear_body([outputs[k] for k in order], *parts, body)
    return _Sweep(left.body, left.sources, order, sums)


def _without(outputs: Sequence[Node], zeros: set[Node]) -> list[Node]:
    """The outputs, without the terms that vanish where some inputs do."""
    new: dict[Node, Node] = {}
    for node in reachable(outputs):
        given = [new[arg] for arg in node.args]
        kept = [one for arg, one in zip(node.args, given, strict=True) if arg not in zeros]
        if node in zeros or derive.vanishes(node, zeros):
            zeros.add(node)
            new[node] = p.zeros(node.pool, node.shape, node.dtype)
        elif node.primitive is p.add and [one.shape for one in kept] == [node.shape]:
            (new[node],) = kept
        else:
            new[node] = node.primitive(*given, **node.params) if node.args else node
    return [new[node] for node in outputs]


def _is_added_to(output: Node, carry: Node, moved: set[Node]) -> bool:
    """Whether an output is the carry and something to which that adds nothing."""
    while output is not carry:
        terms = [arg for arg in output.args if arg in moved]
        is_minus = output.primitive is p.subtract and output.args[0] not in terms
        if len(terms) != 1 or is_minus or output.primitive not in (p.add, p.subtract):
            return False
        (output,) = terms
    return True


# Propagators.


def _propagators(
    sweep: _Sweep, shape: _Shape, slices: Sequence[Node], same: Sequence[Node], pool: Pool
) -> Node:
    """The products of the steps' Jacobians in each lane, or NaN: (carry, carry, blocks, lanes)."""
    body, size = sweep.body, sweep.size
    made = body.known(("propagators", sweep.sums), lambda: _propagating(sweep))
    given = {k: _part(one, 0, shape.length) for k, one in enumerate(slices, start=body.carries)}
    given |= dict(enumerate(same, start=body.rest))
    begins = (np.arange(shape.length) + body.reverse) % shape.steps == 0
    start = p.constant(pool, np.eye(size)), p.constant(pool, 1.0), p.constant(pool, 1.0)
    args = p.constant(pool, begins), *(given[k] for k in made.gives)
    z = scan(made.body, shape.length, *start, *args)
    first, count = (0 if body.reverse else shape.steps, 0), shape.blocks * shape.lanes
    ends = p.slice_(z, start=first, step=(shape.steps, 1), size=(count, size * size + 2))
    column = lambda k: _box(ends, (0, k), (count, 1))
    least, growth = column(size * size), column(size * size + 1)
    is_safe = p.logical_or(p.greater_equal(least, LEAST_NORM), p.less_equal(growth, REGROWTH))
    products = _box(ends, (0, 0), (count, size * size))
    safe = p.where(p.broadcast(is_safe, shape=products.shape), products, np.nan)
    by_lanes = size, size, shape.blocks, shape.lanes
    return copied(p.reshape(p.transpose(safe, axes=(1, 0)), shape=by_lanes))


def _propagating(sweep: _Sweep) -> Derived:
    """The body of propagators, of their least norm, and of a bound of all growth.

    It gives the inputs of the sweep that it needs.
    """
    body, pool, size = sweep.body, sweep.body.graph.outputs[0].pool, sweep.size
    inputs, jacobian = body.graph.inputs, _jacobian(sweep)
    names = "propagator", "least", "growth"
    shapes = (size, size), (), ()
    carry = [p.input_node(pool, *one, body.dtype) for one in zip(names, shapes, strict=True)]
    begins = p.input_node(pool, "begins", (), BOOL)
    identity = p.constant(pool, np.eye(size))
    before = p.where(begins, identity, carry[0])
    least, growth = (p.where(begins, 1.0, one) for one in carry[1:])
    product = p.contract(jacobian, before, subscripts="ij,jk->ik")
    outputs = (
        product,
        p.minimum(least, _norm(product)),
        p.maximum(p.multiply(_norm(jacobian), growth), 1.0),
    )
    used = set(reachable(outputs))
    needed = tuple(k for k in range(body.carries, len(inputs)) if inputs[k] in used)
    graph = Graph((*carry, begins, *(inputs[k] for k in needed)), outputs)
    along = 1 + sum(k < body.rest for k in needed)
    return Derived(Body(graph, len(carry), along, body.reverse), (), needed)


def _norm(matrix: Node) -> Node:
    """The largest sum of the absolute values of a row."""
    rows = p.sum_(p.absolute(matrix), axes=(1,))
    each = [p.reshape(_part(rows, k, 1), shape=()) for k in range(matrix.shape[0])]
    return functools.reduce(p.maximum, each)


def _jacobian(sweep: _Sweep) -> Node:
    """The derivatives of the coupled carry after a step by that before it."""
    body, pool = sweep.body, sweep.body.graph.outputs[0].pool
    inputs, columns = body.graph.inputs, []
    nothing = {inputs[k]: p.zeros(pool, inputs[k].shape, body.dtype) for k in body.linear}
    after = [body.graph.outputs[k] for k in sweep.coupled]
    for k in sweep.coupled:
        for unit in np.eye(inputs[k].size):
            one = p.constant(pool, unit.reshape(inputs[k].shape))
            found = derive.substitute(after, {**nothing, inputs[k]: one})
            column = [p.reshape(node, shape=(node.size, 1)) for node in found]
            columns.append(p.concatenate(*column, axis=0))
    return p.concatenate(*columns, axis=1)


def _box(array: Node, start: tuple[int, ...], size: tuple[int, ...]) -> Node:
    return p.slice_(array, start=start, step=(1,) * len(start), size=size)


def _part(array: Node, start: int, count: int) -> Node:
    """Some of the rows of an array."""
    rest = array.shape[1:]
    first = (start, *(0,) * len(rest))
    return p.slice_(array, start=first, step=(1,) * array.ndim, size=(count, *rest))
