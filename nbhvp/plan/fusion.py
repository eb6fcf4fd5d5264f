"""Loop fusion: narrow recurrences of one length are one loop, where a later one reads the step at hand.

So the trajectory and its tangents, or the adjoints and the coefficients that a point keeps, share
functions of what is carried, and the later one has in registers what it would load.

The loop stands where the first of them did, or the last: no other step in between may need it, or make
what it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nbhvp.graph.node import Node
from nbhvp.graph.table.lanes import has_lanes
from nbhvp.plan.costs import CPU
from nbhvp.plan.nests.nest import Nest
from nbhvp.plan.nests.pull import Expr, Load
from nbhvp.plan.recurrence import Recurrence
from nbhvp.plan.schedule import Step, reads

__all__ = ["fused"]


def fused(steps: Sequence[Step]) -> list[Step]:
    """Steps with the same results, in which some loops are one."""
    found: list[Step] = []
    for step in steps:
        if not (isinstance(step, Recurrence) and _is_fused(step, found)):
            found.append(step)
    return found


def _is_fused(step: Recurrence, found: list[Step]) -> bool:
    """Whether an earlier loop takes a recurrence in."""
    for place, loop in enumerate(found):
        if not (isinstance(loop, Recurrence) and _joins(step, loop)):
            continue
        between = found[place + 1 :]
        both = replace(loop, others=(*loop.others, step))
        own, made = (
            {one.node for one in loop.every},
            {node for one in between for node in _made(one)},
        )
        if made.isdisjoint(reads(step)):
            found[place] = both
            return True
        if all(own.isdisjoint(reads(one)) for one in between):
            del found[place]
            found.append(both)
            return True
    return False


def _made(step: Step) -> set[Node]:
    if isinstance(step, Recurrence):
        return {one.node for one in step.every}
    return step.kept if isinstance(step, Nest) else {step.node}


def _joins(step: Recurrence, loop: Recurrence) -> bool:
    """Whether a recurrence may be computed in the loop of an earlier one, from what that has at hand."""
    body, first = step.body, loop.body
    bodies = [one.body for one in loop.every]
    pool, length = body.graph.outputs[0].pool, step.node.params["length"]
    is_alike = length == loop.node.params["length"] and body.single is first.single is None
    if has_lanes(step.node) or has_lanes(loop.node):
        return False
    if not is_alike or not first.carries or pool is not first.graph.outputs[0].pool:
        return False
    if body.carries and body.reverse != first.reverse:
        return False
    if body.operations + sum(one.operations for one in bodies) > CPU.narrow_step:
        return False
    rows = {one.node: one for one in loop.every}
    read = [load for load in step.loads if load.array in rows]
    if not read or not all(rows[load.array].has(load) for load in read):
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
