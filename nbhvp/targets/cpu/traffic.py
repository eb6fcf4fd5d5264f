"""The memory traffic and the operations of a program's steps, counted from their expressions.

A step reads every element that it loads once, if the element stays in cache until its last use: for
each load, the positions that its index takes, in sum at most the array. Operations are in units of an
addition, with the costs of the table of primitives (a division 4, an exp about 20), and two for each
term of a matrix product. The arithmetic behind a guard counts as often as the guard holds, its loads as
if it always did. Operations of library calls and of sweeps over tapes are not counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nbhvp.graph.node import Node
from nbhvp.plan.nests.nest import Nest, Statement
from nbhvp.plan.nests.pull import Apply, Choose, Expr, Load, Var, loaded, parts
from nbhvp.plan.nests.text import Pointer, Scratch
from nbhvp.plan.recurrence import Recurrence, Repeated, elements_of, one_of
from nbhvp.plan.schedule import Library, MatrixProduct, Reduction, Step, variables
from nbhvp.targets.cpu.kernels.nests import emit, has_kernels

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
    return sum((_COUNTED[type(step)](step) for step in steps), Traffic())


def _nest(step: Nest) -> Traffic:
    """What a nest computes itself is in a register or in cache where it reads it."""
    work, own = 0.0, set(step.nodes)
    read: dict[object, int] = {}
    for statement in step.statements():
        extents, count = _extents(statement)
        found = parts(expr for member in statement.members for expr in member.exprs)
        for part, share in _shares(found, extents).items():
            if isinstance(part, Apply):
                # What an inner loop does not change is computed outside it.
                turning = _variables(part)
                turns = math.prod(n for v, n in extents.items() if v in turning)
                work += share * part.cost * turns
        work += count * sum(member.is_sum for member in statement.members)
        loads = [part for part in found if isinstance(part, Load) and part.array not in own]
        for memory, visited in _visited(loads, extents, count).items():
            read[memory] = max(visited, read.get(memory, 0))
    return Traffic(sum(read.values()), sum(map(_bytes, step.kept)), work, kernels=1)


def _shares(exprs: list[Expr], extents: dict[Var, int]) -> dict[Expr, float]:
    """In which share of the iterations each of some expressions, with all their parts, is computed."""
    inner = {part: [*part.operands, *loaded(part.indices)] for part in exprs}
    count = Counter(one for some in inner.values() for one in some)
    shares = {part: 0.0 if count[part] else 1.0 for part in exprs}
    pending = [part for part in exprs if not count[part]]
    while pending:
        part = pending.pop()
        share = shares[part] = min(1.0, shares[part])
        held = _share(part, extents) if isinstance(part, Choose) else 1.0
        for one in inner[part]:
            is_outside = isinstance(part, Choose) and one is part.outside
            shares[one] += share * (1 - held if is_outside else held)
            count[one] -= 1
            pending += [one] * (count[one] == 0)
    return shares


def _share(choice: Choose, extents: dict[Var, int]) -> float:
    """In which share of the iterations the conditions of a choice hold, each by itself."""
    share = 1.0
    for condition in choice.conditions:
        ((atom, step), *others) = condition.index.terms.items()
        if isinstance(atom, Var) and not others:
            first, extent = condition.index.const, extents[atom]
            share *= sum(condition.holds(first + step * k) for k in range(extent)) / max(1, extent)
    return share


def _variables(part: Expr) -> set[Var]:
    """The loop variables that an expression depends on."""
    atoms = {atom for one in parts([part]) for index in one.indices for atom in index.terms}
    return {atom for atom in atoms if isinstance(atom, Var)}


def _extents(statement: Statement) -> tuple[dict[Var, int], int]:
    """The extents of the loops of a statement, and how often its members run."""
    member = statement.members[0]
    extents = {member.row.variable: member.row.extent}
    count = member.row.extent
    for variable, extent, _ in statement.loops:
        extents[variable] = extent
        count *= extent
    return extents, count


def _reduction(step: Reduction) -> Traffic:
    reduced = step.node.args[0]
    extents = dict(zip(step.variables, reduced.shape, strict=True))
    found = parts([step.expr])
    work = 1.0 + sum(part.cost for part in found if isinstance(part, Apply))
    read = sum(_visited(step.loads, extents, reduced.size).values())
    return Traffic(read, _bytes(step.node), work * reduced.size, kernels=1)


def _matrix_product(step: MatrixProduct) -> Traffic:
    total = Traffic(written=_bytes(step.node))
    for term, *operands in step.terms:
        operations = 2.0 * term.size * term.args[0].shape[2]
        # An operand may be a view of a smaller array, or of a part of a larger one.
        read = sum(
            min(array.size, operand.size) * array.dtype.itemsize
            for (array, *_), operand in zip(operands, term.args, strict=True)
        )
        total += Traffic(read, 0, operations, matrix_products=1)
    return total


def _recurrence(step: Recurrence) -> Traffic:
    """A loop over steps: slices are read at each, what is the same in all of them once."""
    length = step.node.params["length"]
    found = parts(expr for some in elements_of(step.node.primitive.body) for expr in some)
    lanes = step.node.primitive.body.width // one_of(step.node.primitive.body).width
    work = lanes * sum(part.cost for part in found if isinstance(part, Apply))
    counts = step.node.params.get("lanes", (length, lanes))
    extents = dict(zip(variables(counts), counts, strict=True))
    read = sum(_visited(step.loads, extents, length * lanes).values())
    return Traffic(read, _bytes(step.node), work * length, kernels=1)


def _repeated(step: Repeated) -> Traffic:
    """The traffic of a program, so often; its kernels count once."""
    one, length = traffic(step.plan.steps), step.node.params["length"]
    work, kernels = one.operations * length, one.kernels + 1
    return Traffic(one.read * length, one.written * length, work, kernels, one.matrix_products)


def _library(step: Library) -> Traffic:
    """The arrays that a call is given, or that its kernels touch, each once."""
    if has_kernels(step):
        calls = emit(step)
        touched = {slot.array for one in calls for slot in one.slots if isinstance(slot, Pointer)}
        written = {array for one in calls for array in one.writes}
        read = sum(map(_bytes, touched - {step.node}))
        return Traffic(read, sum(map(_bytes, written)), kernels=len(calls))
    return Traffic(sum(map(_bytes, step.node.args)), _bytes(step.node), library_calls=1)


_COUNTED: dict[type, Callable[[Any], Traffic]] = {
    Nest: _nest,
    Reduction: _reduction,
    MatrixProduct: _matrix_product,
    Recurrence: _recurrence,
    Repeated: _repeated,
    Library: _library,
}


def _bytes(array: Node | Scratch) -> int:
    return math.prod(array.shape) * array.dtype.itemsize


def _visited(loads: Iterable[Load], extents: dict[Var, int], count: int) -> dict[object, int]:
    """The bytes of each array that some loads visit in `count` iterations, at most all.

    Constants that show the same memory, as a matrix and its transpose do, are one array.
    """
    visited: dict[object, int] = {}
    for load in loads:
        atoms, array = load.index.terms, load.array
        if any(not isinstance(atom, Var) for atom in atoms):
            elements = count
        else:
            elements = math.prod(n for variable, n in extents.items() if variable in atoms)
        memory = array if array.value is None else array.value.ctypes.data
        new = elements * array.dtype.itemsize
        visited[memory] = min(_bytes(array), visited.get(memory, 0) + new)
    return visited
