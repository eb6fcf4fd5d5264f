"""Recurrences of narrow steps, compiled for CPUs: one kernel, whose steps threads share if they are independent."""

from __future__ import annotations

from nbhvp.plan.costs import CPU
from nbhvp.plan.nests.pull import parts
from nbhvp.plan.nests.text import KernelCall, kernel_text
from nbhvp.plan.recurrence import Recurrence
from nbhvp.targets.recurrences import Loop

__all__ = ["kernels"]


def kernels(step: Recurrence) -> list[KernelCall]:
    """The kernel of a recurrence."""
    loop = Loop(step)
    lines, lanes = loop.lines(), loop.lanes
    every = [expr for part in loop.parts for expr in part.outputs]
    costs = [part.cost for part in parts(every)]
    each = CPU.near + sum(costs) * (CPU.scalar if lanes == 1 else CPU.flop * lanes)
    time, extent, block = loop.length * each, 1, 1
    if not loop.body.carries:
        extent, block = loop.length, max(1, int(CPU.block / each))
    name = "recurrence" if loop.body.carries else "steps"
    source = kernel_text(name, loop.slots, lines)
    writes = tuple(part.step.node for part in loop.parts)
    return [KernelCall(source, loop.slots.contents, extent, block, writes, time)]
