"""Recurrences of narrow steps, compiled: one kernel with the loop over the steps inside.

    c0, c1 = ...                       the carry, in registers
    for j0 in range(T):
        t0 = ...                       one step, from the elements of slices at j0
        z[...] = ...                   the carry in the next row, the outputs in this one
        c0, c1 = t7, t12

Several directions are lanes: a loop over j1 within a step, which LLVM makes vectors of. There the carry
is read from the row before, and what directions have in common is loaded once for all of them.

A recurrence without a carry has independent steps, which threads share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nbhvp.plan.costs import CPU
from nbhvp.plan.pull import Index, parts
from nbhvp.plan.recurrence import Recurrence, elements_of, one_of, step_of
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
        self.lanes = self.body.width // one_of(self.body).width
        self.variable, self.lane = variables((self.length, 1))
        self.slots = Slots()
        inner = self.variable if self.body.single is None else self.lane
        self.text = Body(self.slots, set(), self.variable, inner)
        self.rows = self.slots.write(self.node)
        self.steps = self.slots.integer("steps", self.length)
        self.graph = step_of(one_of(self.body))
        self.found = elements_of(self.body)

    def call(self) -> KernelCall:
        body, name = self.body, self.variable.name
        header = f"for {name} in range({self.steps}):"
        if body.reverse:
            header = f"for {name} in range({self.steps} - 1, -1, -1):"
        if not body.carries:
            header = f"for {name} in range(lo, hi):"
        if body.single is None:
            self._know(range(body.rest, len(self.graph.inputs)))
            carry = self._carry()
            self._first(carry)
            self.text.scoped(header, lambda: self._one_step(carry))
        else:
            common = [k for k in range(len(self.graph.inputs)) if k not in body.linear]
            self._know(k for k in common if k >= body.rest)
            self._along_lanes(lambda: self._first(self._carry()))
            along = [k for k in common if k < body.rest]
            self.text.scoped(header, lambda: self._one_step_of_lanes(along))
        return self._made()

    def _know(self, arguments: Iterable[int]) -> None:
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

    def _first(self, carry: list[str]) -> None:
        """Write the first row of the carry, and zeros for what the last row has of outputs."""
        self._store(self.steps if self.body.reverse else "0", 0, carry)
        rest = self.body.width // self.lanes - len(carry)
        if self.body.carries and rest:
            self._store(self.steps, len(carry), [f"{code(self.body.dtype)}(0)"] * rest)

    def _one_step(self, carry: list[str]) -> None:
        self._know(range(self.body.carries, self.body.rest))
        new = self._results(len(carry))
        # Last, since what was computed may be a number that is carried.
        if carry:
            self.text.line(f"{', '.join(carry)} = {', '.join(new)}")

    def _results(self, carried: int) -> list[str]:
        """Write what a step gives; the names of what it carries on."""
        name = self.variable.name
        values = [self.text.name(expr) for exprs in self.found for expr in exprs]
        self._store(name if self.body.reverse else f"({name} + 1)", 0, values[:carried])
        self._store(name, carried, values[carried:])
        return values[:carried]

    def _one_step_of_lanes(self, along: list[int]) -> None:
        self._know(along)
        self._along_lanes(self._one_lane)

    def _along_lanes(self, statements: Callable[[], None]) -> None:
        self.text.scoped(f"for {self.lane.name} in range({self.lanes}):", statements)

    def _one_lane(self) -> None:
        body, inputs, name = self.body, self.graph.inputs, self.variable.name
        row, column = f"({name} + 1)" if body.reverse else name, 0
        for node in inputs[: body.carries]:
            for place in range(node.size):
                value = self.text.fresh()
                self.text.line(f"{value} = {self._place(row, column)}")
                self.text.know(node, Index.of(place), value)
                column += 1
        self._know(k for k in sorted(body.linear) if k >= body.carries)
        self._results(column)

    def _store(self, row: str, column: int, values: list[str]) -> None:
        for k, value in enumerate(values, start=column):
            self.text.line(f"{self._place(row, k)} = {value}")

    def _place(self, row: str, column: int) -> str:
        """Where a number of a row lies, of the present direction."""
        width = self.body.width
        at = {"0": ""}.get(row, f"{row} * {width} + " if width > 1 else f"{row} + ")
        lane = "" if self.body.single is None else f" + {self.lane.name}"
        return f"{self.rows}[{at}{column * self.lanes}{lane}]"

    def _made(self) -> KernelCall:
        costs = [part.cost for part in parts([e for exprs in self.found for e in exprs])]
        each = CPU.near + sum(costs) * (CPU.scalar if self.lanes == 1 else CPU.flop * self.lanes)
        time, extent, block = self.length * each, 1, 1
        if not self.body.carries:
            extent, block = self.length, max(1, int(CPU.block / each))
        name = "recurrence" if self.body.carries else "steps"
        source = kernel_text(name, self.slots, self.text.lines)
        return KernelCall(source, self.slots.contents, extent, block, (self.node,), time)
