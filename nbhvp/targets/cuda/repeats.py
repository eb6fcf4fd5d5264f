"""Recurrences of wide steps on a GPU: the launches of a step, once for each step.

The elements of a step are the lanes, so a recurrence of few numbers stays on the host: each of its steps
would wait for a launch. A step reads the carry from one row of the result and writes the next, as on
a CPU, and the tables of its launches point there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nbhvp.graph.table.scan import keeps_rows
from nbhvp.plan.recurrence import Repeated
from nbhvp.plan.text import Pointer, Slots, code
from nbhvp.targets.cuda.texts import THREADS, Launch, kernel_of

__all__ = ["emit", "is_wide"]

LANES = 512
"""Numbers of a step from which it is worth a launch."""
MOST = 1 << 14
"""Launches of a recurrence."""


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
