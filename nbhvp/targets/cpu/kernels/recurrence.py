"""Recurrences of narrow steps, compiled for CPUs: one kernel, whose steps threads share if they are independent."""

from __future__ import annotations

from nbhvp.graph.table.lanes import has_lanes
from nbhvp.plan.costs import CPU
from nbhvp.plan.nests.pull import parts
from nbhvp.plan.nests.text import KernelCall, kernel_text
from nbhvp.plan.recurrence import Recurrence
from nbhvp.targets.cpu.kernels import lanes
from nbhvp.targets.recurrences import Loop

__all__ = ["kernels"]


def kernels(step: Recurrence) -> list[KernelCall]:
    """The kernel of a recurrence."""
    if has_lanes(step.node):
        return lanes.kernels(step)
    loop = Loop(step)
    lines, count = loop.lines(), loop.lanes
    every = [expr for part in loop.parts for expr in part.outputs]
    costs = [part.cost for part in parts(every)]
    each = CPU.near + sum(costs) * (CPU.scalar if count == 1 else CPU.flop * count)
    time, extent, block = loop.length * each, 1, 1
    if not loop.body.carries:
        extent, block = loop.length, max(1, int(CPU.block / each))
    name = "recurrence" if loop.body.carries else "steps"
    source = kernel_text(name, loop.slots, lines)
    writes = tuple(part.step.node for part in loop.parts)
    return [KernelCall(source, loop.slots.contents, extent, block, writes, time)]
