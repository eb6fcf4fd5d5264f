"""Recurrences: one loop in one kernel where steps are scalar operations, else one program, repeated.

In a narrow step all elements of the carry are numbers in registers; arrays are written out, element by
element. A wider step is a program of its own, whose pointers move on after each run. Narrow recurrences
of one length are one loop where a later one needs no more of an earlier one than its step at hand.

A scan of the user's own operations is computed as NumPy does: its products are rounded before sums, as
all values are that may decide (`decisions`), since a later step or a guard may compare what it carries.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node
from nbhvp.graph.table.scan import Body
from nbhvp.plan.costs import CPU
from nbhvp.plan.decisions import decided
from nbhvp.plan.lower import lower
from nbhvp.plan.pull import (
    Apply,
    Expr,
    Index,
    Load,
    Puller,
    Value,
    Var,
    contiguous,
    is_pulled,
    parts,
)

__all__ = [
    "Recurrence",
    "Repeated",
    "elements_of",
    "fused",
    "is_narrow",
    "one_of",
    "positions",
    "step_of",
]


@dataclass(eq=False)
class Recurrence:
    """A scan as a loop: its node, and the elements of its arguments.

    Those of slices are at a step, those of several directions at one of these.
    """

    node: Node
    variable: Var
    """What counts the steps."""
    elements: tuple[tuple[Expr, ...], ...]
    others: tuple[Recurrence, ...] = ()
    """Scans that the same loop computes: they read what it has in registers."""

    @property
    def loads(self) -> list[Load]:
        everything = [expr for one in self.every for some in one.elements for expr in some]
        return [part for part in parts(everything) if isinstance(part, Load)]

    @property
    def every(self) -> tuple[Recurrence, ...]:
        return (self, *self.others)

    @property
    def body(self) -> Body:
        return self.node.primitive.body

    def place(self, is_next: bool, column: int) -> Index:
        """Where a column of the row of the step at hand, or of the next row, lies in memory."""
        return Index.of(self.variable) * self.body.width + (is_next * self.body.width + column)

    def has(self, load: Load) -> bool:
        """Whether a loop has a number in registers: the carry before and after a step, the outputs."""
        row, column = divmod(load.index.const, self.body.width)
        is_carry = column < self.body.columns[self.body.carries]
        return load.index == self.place(bool(row), column) and row <= is_carry


@dataclass(eq=False)
class Repeated:
    """A scan whose steps are a program that runs again and again."""

    node: Node
    operands: tuple[tuple[Node, int, int], ...]
    """For each argument an array, where it or its first slice begins, how far slices are apart."""
    plan: Any
    """The schedule of a step."""


def one_of(body: Body) -> Body:
    """The body of one direction."""
    return body.single or body


def is_narrow(body: Body) -> bool:
    """Whether a step is written out: so many scalar operations, on numbers of any kind.

    Many operations on vectors are none: kernels with loops over these have shorter texts. A step of
    several directions is as one of them.
    """
    body = one_of(body)
    nodes, work = body.graph.nodes, body.operations
    if work > CPU.narrow_step or any(node.size > CPU.narrow_array for node in nodes):
        return False
    if work > CPU.narrow_vectors and work > CPU.lanes * len(nodes):
        return False
    return all(map(_is_scalar, step_of(body).nodes))


def _is_scalar(node: Node) -> bool:
    return not node.args or is_pulled(node) or node.primitive in (p.sum_, p.contract, p.all_)


@functools.lru_cache(maxsize=512)
def step_of(*bodies: Body) -> Graph:
    """The graph of a step, as it is computed: of one body, or of several that one loop computes."""
    inputs = tuple(dict.fromkeys(node for body in bodies for node in body.graph.inputs))
    outputs = tuple(node for body in bodies for node in body.graph.outputs)
    graph = lower(Graph(inputs, outputs), products=False)
    own = [node for body in bodies for node in body.graph.outputs if not body.order]
    if not own:
        return decided(graph)
    deciding = lower(Graph(inputs, tuple(own)), products=False).outputs
    decisions = tuple(p.equal(node, 0) for node in deciding)
    whole = decided(Graph(inputs, (*graph.outputs, *decisions)))
    return Graph(inputs, whole.outputs[: len(outputs)])


def elements_of(*bodies: Body) -> list[list[Expr]]:
    """The elements of each output of a step, from those of its inputs, for one direction."""
    graph = step_of(*map(one_of, bodies))
    puller = Scalars(graph.inputs)
    return [[puller.at(node, at) for at in positions(node)] for node in graph.outputs]


def fused(steps: Sequence[Any]) -> list[Any]:
    """Steps in which recurrences of one length are one loop, where a later one reads the step at hand.

    So the trajectory and its tangents, or the adjoints and the coefficients that a point keeps, share
    functions of the carry.
    """
    found: list[Any] = []
    where: dict[Node, int] = {}
    for step in steps:
        place = None
        if isinstance(step, Recurrence) and step.body.single is None:
            places = (k for k, one in enumerate(found) if isinstance(one, Recurrence))
            place = next((k for k in places if _joins(step, found[k], k, where)), None)
        if place is None:
            place = len(found)
            found.append(step)
        else:
            found[place] = replace(found[place], others=(*found[place].others, step))
        nodes = step.nodes if hasattr(step, "members") else [step.node]
        where.update(dict.fromkeys(nodes, place))
    return found


def _joins(step: Recurrence, loop: Recurrence, place: int, where: dict[Node, int]) -> bool:
    """Whether a recurrence may be computed in the loop of an earlier one, from what that has at hand."""
    body, first = step.body, loop.body
    bodies = [one.body for one in loop.every]
    is_alike = step.node.shape[0] == loop.node.shape[0] and first.single is None
    if (
        not is_alike
        or not first.carries
        or body.graph.outputs[0].pool is not first.graph.outputs[0].pool
    ):
        return False
    if body.carries and body.reverse != first.reverse:
        return False
    if body.operations + sum(one.operations for one in bodies) > CPU.narrow_step:
        return False
    rows = {one.node: one for one in loop.every}
    reads = [load for load in step.loads if load.array in rows]
    if not reads or not all(rows[load.array].has(load) for load in reads):
        return False
    if any(where.get(load.array, -1) >= place for load in step.loads if load.array not in rows):
        return False
    return all(
        _is_same(one, k, exprs)
        for node, exprs in zip(body.graph.inputs, step.elements, strict=True)
        for one in loop.every
        for k, known in enumerate(one.body.graph.inputs)
        if known is node
    )


def _is_same(one: Recurrence, k: int, exprs: tuple[Expr, ...]) -> bool:
    """Whether argument k of a recurrence is, in each step, what some expressions are."""
    if k >= one.body.carries:
        return [_key(expr) for expr in one.elements[k]] == [_key(expr) for expr in exprs]
    start = one.body.columns[k]
    places = [one.place(one.body.reverse, start + at) for at in range(len(exprs))]
    return [_key(expr) for expr in exprs] == [(one.node, place) for place in places]


def _key(expr: Expr) -> object:
    return (expr.array, expr.index) if isinstance(expr, Load) else expr


def positions(node: Node) -> list[tuple[Index, ...]]:
    """The indices of all elements of an array."""
    return [tuple(map(Index.of, index)) for index in product(*map(range, node.shape))]


class Scalars(Puller):
    """Pulls the elements of a step: sums and products of matrices are written out."""

    def __init__(self, inputs: tuple[Node, ...]):
        known = {node: contiguous(node.shape) for node in inputs}
        super().__init__(_strides(known))

    def _compute(self, node: Node, index: tuple) -> Expr:
        if node.primitive is p.sum_:
            return self._small_sum(node, index)
        if node.primitive is p.contract:
            return self._contraction(node, index)
        if node.primitive is p.all_:
            conditions = (self.at(node.args[0], at) for at in positions(node.args[0]))
            both = lambda a, b: Apply(p.logical_and, {}, (a, b), node.dtype)
            return functools.reduce(both, conditions)
        return super()._compute(node, index)

    def _contraction(self, node: Node, index: tuple) -> Expr:
        operands, out = node.params["subscripts"].split("->")
        left, right = operands.split(",")
        x, y = node.args
        extents = dict(zip(left + right, x.shape + y.shape, strict=True))
        inner = [letter for letter in dict.fromkeys(left + right) if letter not in out]
        at = dict(zip(out, index, strict=True))
        total: Expr | None = None
        for place in product(*(range(extents[letter]) for letter in inner)):
            at.update(zip(inner, map(Index.of, place), strict=True))
            factors = [
                self.at(arg, tuple(at[letter] for letter in letters))
                for arg, letters in ((x, left), (y, right))
            ]
            term = Apply(p.multiply, {}, tuple(factors), node.dtype)
            total = term if total is None else Apply(p.add, {}, (total, term), node.dtype)
        return Value(node.dtype.type(0), node.dtype) if total is None else total


def _strides(known: dict[Node, tuple[int, ...]]) -> Callable[[Node], tuple[int, ...] | None]:
    def strides(node: Node) -> tuple[int, ...] | None:
        if node.value is not None and node.shape != ():
            return tuple(step // node.dtype.itemsize for step in node.value.strides)
        return known.get(node)

    return strides
