"""Which nest a stored node joins: that with which it shares most loads, and nests that become one.

A node finds the nests that are there when its turn comes; nests of its other arguments may come later,
and take in earlier ones, or are taken in, once all are known.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbhvp.graph.node import Node
from nbhvp.plan.nests.nest import Member, Nest, along_segments, joining, members
from nbhvp.plan.nests.pull import Puller, weight

if TYPE_CHECKING:
    from nbhvp.plan.schedule import Memory, Step

__all__ = ["joined", "merged"]

WINDOW = 8
"""Steps back among which a stored node looks for a nest to join."""


def merged(memory: Memory, steps: list[Step]) -> list[Step]:
    """The steps, nests taken into an earlier one where they load what that has in registers."""
    found: list[Step] = []
    position: dict[Node, int] = {}
    for step in steps:
        place = len(found)
        if isinstance(step, Nest):
            place = _host(memory, step, found, position)
        if place == len(found):
            found.append(step)
        elif isinstance(step, Nest) and isinstance(host := found[place], Nest):
            host.join(step.members)
            host.spaces |= step.spaces
        position.update(dict.fromkeys(step.nodes if isinstance(step, Nest) else [step.node], place))
    return found


def _host(memory: Memory, nest: Nest, found: list[Step], position: dict[Node, int]) -> int:
    """The position of an earlier nest that takes another one in, or the next one."""
    own, space = {*nest.nodes}, next(iter(nest.spaces))
    most = max(member.iterations for member in nest.members)
    for place in range(len(found) - 1, max(-1, len(found) - 1 - WINDOW), -1):
        host = found[place]
        if (
            isinstance(host, Nest)
            and host.extent == nest.extent
            and not (host.inside or nest.inside)
            and _turn_alike(memory, host, nest.members)
        ):
            is_ready = lambda array, at=place: array in own or position.get(array, -1) < at
            saved = host.saved(nest.members, space, memory.heaviest(host), is_ready)
            if saved is not None and saved >= most:
                return place
    return len(found)


def joined(
    memory: Memory, puller: Puller, node: Node, steps: list[Step], position: dict[Node, int]
) -> int:
    """The position of the nest that a node joins, where that saves most, or of its own."""
    if node.primitive.reduction == "segment_sum":
        place = _by_segments(memory, puller, node, steps, position)
        if place is not None:
            return place
    best, place, chosen, found = -1, len(steps), None, None
    space = memory.space(node)
    for at in range(len(steps) - 1, max(-1, len(steps) - 1 - WINDOW), -1):
        nest = steps[at]
        if isinstance(nest, Nest):
            ready = functools.partial(_is_before, at, position)
            for new in joining(nest, node, puller):
                if not _turn_alike(memory, nest, new):
                    continue
                saved = nest.saved(new, space, memory.heaviest(nest), ready)
                if saved is not None and saved > best:
                    best, place, chosen, found = saved, at, nest, new
    if chosen is None or found is None:
        (found,) = members(node, puller)
        chosen = Nest(found[0].row.extent)
        steps.append(chosen)
    chosen.join(found, space)
    return place


def _turn_alike(memory: Memory, nest: Nest, new: Sequence[Member]) -> bool:
    """Whether members take rows as a nest does, or elements of rows as it does."""
    least = memory.costs.across
    return len({one.is_across(least) for one in (nest.members[0], *new)}) == 1


def _is_before(at: int, position: dict[Node, int], array: Node) -> bool:
    """Whether an array is complete before a step, as inputs and constants are."""
    return position.get(array, -1) < at


def _by_segments(
    memory: Memory, puller: Puller, node: Node, steps: list[Step], position: dict[Node, int]
) -> int | None:
    """The position of a nest that a sum by segments joins, turned to run segment by segment."""
    (sums, *_) = members(node, puller)
    for place in {position[load.array] for load in sums[0].loads if load.array in position}:
        nest = steps[place]
        if not isinstance(nest, Nest):
            continue
        found = along_segments(nest, node, puller)
        if found is None:
            continue
        others = {load.array for one in found.members for load in one.loads} - {*found.nodes}
        is_ready = all(position.get(array, -1) < place for array in others)
        if (
            is_ready
            and weight(*(expr for one in found.members for expr in one.exprs))
            <= memory.costs.kernel
        ):
            steps[place] = found
            return place
    return None
