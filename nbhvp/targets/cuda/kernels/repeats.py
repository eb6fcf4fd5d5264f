"""Recurrences on a GPU: of wide steps, and of narrow ones for many directions.

The launches of a wide step run once for each step, whose elements are the lanes. A step reads the carry
from one row of the result and writes the next, as on a CPU, and the tables of its launches point there.
Of narrow steps each direction is a lane, that one kernel takes through all steps. What has few lanes stays
on the host: each step would wait for the one before, on one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nbhvp.graph.table.scan import keeps_rows
from nbhvp.plan.costs import GPU
from nbhvp.plan.nests.text import Pointer, Slots, code
from nbhvp.plan.recurrence import Recurrence, Repeated
from nbhvp.targets.cuda.kernels.scalars import FUNCTIONS
from nbhvp.targets.cuda.kernels.texts import THREADS, Launch, kernel_of
from nbhvp.targets.recurrences import Loop

__all__ = ["emit", "has_lanes", "is_wide", "of_lanes"]

LANES = GPU.wide_step
DIRECTIONS = 128
"""Directions of narrow steps."""
MOST = 1 << 14
"""Launches of a recurrence."""


def of_lanes(step: Recurrence) -> list[Launch]:
    """The kernel of a recurrence of many directions, a thread to each."""
    loop = Loop(step)
    loop.slots.functions = FUNCTIONS
    lines = loop.lines("block() * threads() + thread()")
    source = kernel_of("recurrence", loop.slots, lines)
    return [Launch(source, loop.slots.contents, (-(-loop.lanes // THREADS), 1))]


def has_lanes(step: Recurrence) -> bool:
    """Whether a recurrence has enough directions for a GPU."""
    body = step.node.primitive.body
    return body.single is not None and body.width // body.single.width >= DIRECTIONS


def is_wide(step: Repeated) -> bool:
    """Whether the steps have enough to do on a GPU, and are not too many."""
    launches = len(step.plan.steps) * step.node.params["length"]
    return step.node.primitive.body.width >= LANES and launches <= MOST


def emit(step: Repeated, texts: Sequence[Launch]) -> list[Launch]:
    """The launches of a recurrence, given those of a step."""
    found, where = _first_row(step), step.where()
    for k in range(step.node.params["length"]):
        for text in texts:
            slots = [_moved(step, where, slot, k) for slot in text.slots]
            found.append(replace(text, slots=slots))
    return found


def _moved(step: Repeated, where: dict, slot, k: int):
    """A slot of step k."""
    if not isinstance(slot, Pointer) or slot.array not in where:
        return slot
    array, start, stride = where[slot.array]
    turns = array is step.node and not keeps_rows(array)
    at = start + stride * (k % 2 if turns else k)
    return Pointer(array, at // array.dtype.itemsize + slot.offset)


def _first_row(step: Repeated) -> list[Launch]:
    """What writes the carry before the first step, and what no step writes of the outputs."""
    node, body, length = step.node, step.node.primitive.body, step.node.params["length"]
    first = body.width * (length * body.reverse if keeps_rows(node) else length % 2)
    found = []
    for k in range(body.carries):
        array, offset, _ = step.operands[k]
        size = body.columns[k + 1] - body.columns[k]
        found.append(_copied(step, first + body.columns[k], size, (array, offset)))
    rest = body.columns[body.carries]
    if body.width > rest:
        found.append(_copied(step, length * body.width + rest, body.width - rest, None))
    return found


def _copied(step: Repeated, at: int, size: int, source) -> Launch:
    """Copy numbers into the result, or write zeros."""
    slots = Slots()
    rows, count = slots.write(step.node), slots.integer("size", size)
    start = slots.integer("at", at)
    value = f"{slots.read(*source)}[i]" if source else f"{code(step.node.dtype)}(0)"
    body = [
        "i = block() * threads() + thread()",
        f"if i < {count}: {rows}[{start} + i] = {value}",
    ]
    return Launch(kernel_of("start", slots, body), slots.contents, (-(-size // THREADS), 1))
