"""What the steps of a program move through memory and compute, counted from their expressions.

A step reads every element that it loads once, if it stays in cache for that long: for each load the
positions that its index takes, in sum at most the array. Operations are in additions, by the costs
that the table of primitives gives (a division 4, an exp about 20), and two for each term of a
matrix product. Guarded parts count as if they held everywhere. What library calls compute is not
counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nbhvp.compile.passes import Pass, with_passes
from nbhvp.compile.pull import Apply, Load, Var, parts
from nbhvp.compile.schedule import Library, Map, MatrixProduct, Reduction, Step
from nbhvp.graph.node import Node

__all__ = ["Traffic", "traffic"]


@dataclass(frozen=True)
class Traffic:
    """What one run of a program does.

    Attributes
    ----------
    read, written : int
        Bytes of memory, caches left aside.
    operations : float
        Arithmetic, in additions.
    kernels, matrix_products, library_calls : int
        Steps by what runs them.
    """

    read: int = 0
    written: int = 0
    operations: float = 0.0
    kernels: int = 0
    matrix_products: int = 0
    library_calls: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(*(a + b for a, b in zip(_fields(self), _fields(other), strict=True)))


def _fields(one: Traffic) -> tuple:
    return tuple(vars(one).values())


def traffic(steps: Sequence[Step]) -> Traffic:
    """The traffic of the steps of a schedule."""
    total = Traffic()
    for step in with_passes(tuple(steps)):
        total += _pass(step) if isinstance(step, Pass) else _COUNTED[type(step)](step)
    return total


def _map(step: Map) -> Traffic:
    extents = dict(zip(step.variables, step.shape, strict=True))
    work = sum(part.cost for part in parts([e for _, e in step.results]) if isinstance(part, Apply))
    written = sum(_bytes(node) for node, _ in step.results)
    return Traffic(_read(step.loads, extents), written, work * math.prod(step.shape), kernels=1)


def _reduction(step: Reduction) -> Traffic:
    reduced = step.node.args[0]
    extents = dict(zip(step.variables, reduced.shape, strict=True))
    exprs = [step.expr, *(step.bounds or ())]
    found = parts(exprs)
    work = 1.0 + sum(part.cost for part in found if isinstance(part, Apply))
    loads = [part for part in found if isinstance(part, Load)]
    return Traffic(_read(loads, extents), _bytes(step.node), work * reduced.size, kernels=1)


def _matrix_product(step: MatrixProduct) -> Traffic:
    terms = step.node.args[0].shape[2]
    operations = 2.0 * step.node.size * terms
    # An operand may be a view of a smaller array, or of a part of a larger one.
    read = sum(
        min(array.size, operand.size) * array.dtype.itemsize
        for (array, *_), operand in zip(step.operands, step.node.args, strict=True)
    )
    return Traffic(read, _bytes(step.node), operations, matrix_products=1)


def _library(step: Library) -> Traffic:
    return Traffic(sum(map(_bytes, step.node.args)), _bytes(step.node), library_calls=1)


def _pass(step: Pass) -> Traffic:
    """Its products share one pass over their matrix."""
    both = sum(map(traffic, ([one] for one in (step.first, *step.maps, step.last))), Traffic())
    return both + Traffic(read=-_bytes(step.first.node.args[0]))


_COUNTED = {Map: _map, Reduction: _reduction, MatrixProduct: _matrix_product, Library: _library}


def _bytes(node: Node) -> int:
    return node.size * node.dtype.itemsize


def _read(loads: Iterable[Load], extents: dict[Var, int]) -> int:
    """Bytes read: the elements of each array that its loads visit, at most all of them."""
    visited: dict[Node, int] = {}
    for load in loads:
        atoms = load.index.terms
        along = [n for variable, n in extents.items() if variable in atoms]
        everywhere = any(not isinstance(atom, Var) for atom in atoms)
        count = math.prod(extents.values() if everywhere else along)
        visited[load.array] = min(load.array.size, visited.get(load.array, 0) + count)
    return sum(count * array.dtype.itemsize for array, count in visited.items())
