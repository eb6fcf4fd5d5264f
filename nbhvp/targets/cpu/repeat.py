"""Recurrences of wide steps: the program of a step, repeated by one compiled call.

The program stands in the table of a step of the outer one. Its kernels read the carry from one row of
the result and write it to the next, so that nothing is copied: after each run the pointers to rows and
to slices move on (`drivers.repeat`). Its other buffers are those of one step. Where only the last row is
kept, steps read and write two rows in turn, of which the first is the last one written.
"""

from __future__ import annotations

from collections.abc import Sequence

from nbhvp.graph.table.scan import keeps_rows
from nbhvp.plan.nests.text import KernelCall, Slots, code, kernel_text
from nbhvp.plan.recurrence import Repeated
from nbhvp.targets.cpu import run as cpu
from nbhvp.targets.native import cache

__all__ = ["first_row", "repeated"]

SOURCE = '''"""The steps of a recurrence."""
from nbhvp.targets.cpu.entries.drivers import repeat
from nbhvp.targets.native.language import kernel


@kernel
def repeat_steps(table, lo, hi):
    repeat(table)
'''
WORD = 8
BEFORE = 5
"""Words of a table before its program."""


def first_row(step: Repeated) -> KernelCall:
    """The kernel that writes the carry before the first step, and what no step writes of the outputs."""
    node, slots, lines = step.node, Slots(), []
    body, length = node.primitive.body, node.params["length"]
    rows = slots.write(node)
    start = body.width * (length * body.reverse if keeps_rows(node) else length % 2)
    for k in range(body.carries):
        array, offset, _ = step.operands[k]
        size = slots.integer(("size", k), body.columns[k + 1] - body.columns[k])
        at = slots.integer(("at", k), start + body.columns[k])
        lines.append(f"for i in range({size}):")
        lines.append(f"    {rows}[{at} + i] = {slots.read(array, offset)}[i]")
    last = length * body.width
    first = slots.integer("first", last + body.columns[body.carries])
    end = slots.integer("end", last + body.width)
    lines.append(f"for i in range({first}, {end}):")
    lines.append(f"    {rows}[i] = {code(node.dtype)}(0)")
    source = kernel_text("start", slots, lines)
    return KernelCall(source, slots.contents, 1, 1, (node,), 0.0)


def repeated(step: Repeated, steps: Sequence[cpu.Step]) -> cpu.Step:
    """The step of an outer program that runs the steps of a recurrence, so often."""
    where = step.where()
    length = step.node.params["length"]
    records: list = [len(steps), 0, 0, 1]
    words: list = []
    moved: list[int] = []
    turned: list[int] = []
    start = cpu.HEADER + cpu.STEP * len(steps)
    at = start
    for one in steps:
        records += [one.address, WORD * at, one.extent, one.block]
        for entry in one.table:
            if isinstance(entry, cpu.Ref) and entry.buffer in where:
                array, offset, stride = where[entry.buffer]
                entry = cpu.Ref(array, offset + entry.offset)
                turns = array is step.node and not keeps_rows(array)
                (turned if turns else moved).extend([WORD * (BEFORE + at), stride] * (stride != 0))
            words.append(entry)
            at += 2 if isinstance(entry, complex) else 1
    ends = WORD * (BEFORE + at), WORD * (BEFORE + at + len(moved))
    counts = len(moved) // 2, ends[0], len(turned) // 2, ends[1]
    table = [length, *counts, *records, *words, *moved, *turned]
    kernel = cache.load(SOURCE)
    return cpu.Step(kernel.address, tuple(table), 1, 1)
