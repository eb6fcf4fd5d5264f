"""Recurrences whose steps are scalar operations, a few hundred at most: one loop of one kernel.

All elements of the carry are numbers in registers; arrays within a step are written out, element by
element. The steps of a wider recurrence run one by one.

A scan of the user's own operations is computed as NumPy does: its products are rounded before sums, as
all values are that may decide (`decisions`), since a later step or a guard may compare what it carries.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node
from nbhvp.graph.table.scan import Body
from nbhvp.plan.costs import CPU
from nbhvp.plan.decisions import decided
from nbhvp.plan.lower import lower
from nbhvp.plan.pull import Apply, Expr, Index, Load, Puller, Value, contiguous, is_pulled, parts

__all__ = ["Recurrence", "is_narrow", "positions", "step_of"]


@dataclass(eq=False)
class Recurrence:
    """A scan as a loop: its node, and the elements of its arguments, those of slices at a step."""

    node: Node
    elements: tuple[tuple[Expr, ...], ...]

    @property
    def loads(self) -> list[Load]:
        everything = [expr for some in self.elements for expr in some]
        return [part for part in parts(everything) if isinstance(part, Load)]


def is_narrow(body: Body) -> bool:
    """Whether a step is written out: so many scalar operations, on numbers of any kind."""
    if body.operations > CPU.narrow_step or any(
        n.size > CPU.narrow_step for n in body.graph.inputs
    ):
        return False
    return all(map(_is_scalar, step_of(body).nodes))


def _is_scalar(node: Node) -> bool:
    return not node.args or is_pulled(node) or node.primitive in (p.sum_, p.contract)


@functools.lru_cache(maxsize=512)
def step_of(body: Body) -> Graph:
    """The graph of a step, as it is computed."""
    graph = lower(body.graph, products=False)
    if body.order:
        return decided(graph)
    decisions = tuple(p.equal(node, 0) for node in graph.outputs)
    whole = decided(Graph(graph.inputs, (*graph.outputs, *decisions)))
    return Graph(graph.inputs, whole.outputs[: len(graph.outputs)])


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
