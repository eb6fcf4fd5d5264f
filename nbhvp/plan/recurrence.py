"""Recurrences: one loop in one kernel where steps are scalar operations, else one program, repeated.

In a narrow step all elements of the carry are numbers in registers; arrays are written out, element by
element. A wider step is a program of its own, whose pointers move on after each run.

A scan of the user's own operations is computed as NumPy does: its products are rounded before sums, as
all values are that may decide (`decisions`), since a later step or a guard may compare what it carries.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node
from nbhvp.graph.table.scan import Body, keeps_rows
from nbhvp.plan.costs import CPU
from nbhvp.plan.decisions import decided
from nbhvp.plan.lower import lower
from nbhvp.plan.nests.pull import (
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

    def where(self) -> dict[Node, tuple[Node, int, int]]:
        """For each array of a step, where it lies in the first one, and how far from there in the next."""
        body, node = self.node.primitive.body, self.node
        length, size = node.params["length"], node.dtype.itemsize
        row, sign = body.width * size, -1 if body.reverse else 1
        first = length - 1 if body.reverse else 0
        rows = first + body.reverse, first + 1 - body.reverse
        steps = sign * row, sign * row
        if not keeps_rows(node):
            rows = length % 2, 1 - length % 2
            steps = row - 2 * row * rows[0], row - 2 * row * rows[1]
        found: dict[Node, tuple[Node, int, int]] = {}
        for k, (given, (array, offset, stride)) in enumerate(
            zip(self.plan.graph.inputs, self.operands, strict=True)
        ):
            item = array.dtype.itemsize
            if k < body.carries:
                found[given] = node, rows[0] * row + body.columns[k] * size, steps[0]
            else:
                found[given] = array, (offset + first * stride) * item, sign * stride * item
        for k, output in enumerate(self.plan.graph.outputs):
            assert output not in found, f"two outputs of a step share the memory of {output}"
            at, stride = (rows[1], steps[1]) if k < body.carries else (first, sign * row)
            found[output] = node, at * row + body.columns[k] * size, stride
        return found


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
