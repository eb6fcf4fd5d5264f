"""Recurrences of narrow steps, compiled: one kernel with the loop over the steps inside.

    c0, c1 = ...                       the carry, in registers
    for j0 in range(T):
        t0 = ...                       one step, from the elements of slices at j0
        z[...] = ...                   the carry in the next row, the outputs in this one
        c0, c1 = t7, t12

A recurrence without a carry has independent steps, which threads share.
"""

from __future__ import annotations

from nbhvp.plan.costs import CPU
from nbhvp.plan.pull import Index, parts
from nbhvp.plan.recurrence import Recurrence, elements_of, step_of
from nbhvp.plan.schedule import variables
from nbhvp.plan.text import Body, KernelCall, Slots, code, kernel_text

__all__ = ["kernels"]


def kernels(step: Recurrence) -> list[KernelCall]:
    """The kernel of a recurrence."""
    return [_Kernel(step).call()]


class _Kernel:
    """The text of one loop."""

    def __init__(self, step: Recurrence):
        self.step, self.node = step, step.node
        self.body = self.node.primitive.body
        self.length = self.node.shape[0] - 1
        (self.variable,) = variables((self.length,))
        self.slots = Slots()
        self.text = Body(self.slots, set(), self.variable, self.variable)
        self.rows = self.slots.write(self.node)
        self.steps = self.slots.integer("steps", self.length)
        self.graph = step_of(self.body)
        self.found = elements_of(self.body)

    def call(self) -> KernelCall:
        body, text, name = self.body, self.text, self.variable.name
        start, header = "0", f"for {name} in range({self.steps}):"
        if body.reverse:
            start, header = self.steps, f"for {name} in range({self.steps} - 1, -1, -1):"
        if not body.carries:
            header = f"for {name} in range(lo, hi):"
        inputs = range(len(self.graph.inputs))
        self._know(k for k in inputs if k >= body.rest)
        carry = self._carry()
        self._store(start, 0, carry)
        zero = f"{code(body.dtype)}(0)"
        if body.carries and len(carry) < body.width:
            self._store(self.steps, len(carry), [zero] * (body.width - len(carry)))
        text.scoped(header, lambda: self._one_step(carry))
        return self._made()

    def _know(self, arguments) -> None:
        """Give names to the elements of arguments, as the body has them."""
        for k in arguments:
            node = self.graph.inputs[k]
            for place, expr in enumerate(self.step.elements[k]):
                self.text.know(node, Index.of(place), self.text.name(expr))

    def _carry(self) -> list[str]:
        """The names of the carried numbers, with their first values."""
        names: list[str] = []
        for node, exprs in zip(
            self.graph.inputs[: self.body.carries], self.step.elements, strict=False
        ):
            for place, expr in enumerate(exprs):
                name = f"c{len(names)}"
                self.text.line(f"{name} = {self.text.name(expr)}")
                self.text.know(node, Index.of(place), name)
                names.append(name)
        return names

    def _one_step(self, carry: list[str]) -> None:
        body, name = self.body, self.variable.name
        self._know(range(body.carries, body.rest))
        values = [self.text.name(expr) for exprs in self.found for expr in exprs]
        new, outputs = values[: len(carry)], values[len(carry) :]
        self._store(name if body.reverse else f"({name} + 1)", 0, new)
        self._store(name, len(carry), outputs)
        # Last, since what was computed may be a number that is carried.
        if carry:
            self.text.line(f"{', '.join(carry)} = {', '.join(new)}")

    def _store(self, row: str, column: int, values: list[str]) -> None:
        width = self.body.width
        at = {"0": ""}.get(row, f"{row} * {width} + " if width > 1 else f"{row} + ")
        for k, value in enumerate(values, start=column):
            self.text.line(f"{self.rows}[{at}{k}] = {value}")

    def _made(self) -> KernelCall:
        costs = [part.cost for part in parts([e for exprs in self.found for e in exprs])]
        each = CPU.near + sum(costs) * CPU.scalar
        time, extent, block = self.length * each, 1, 1
        if not self.body.carries:
            extent, block = self.length, max(1, int(CPU.block / each))
        source = kernel_text(
            "recurrence" if self.body.carries else "steps", self.slots, self.text.lines
        )
        return KernelCall(source, self.slots.contents, extent, block, (self.node,), time)
