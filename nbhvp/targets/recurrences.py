"""Recurrences of narrow steps: the texts of kernels with the loop over the steps inside.

    c0, c1 = ...                       the carry, in registers
    for j0 in range(T):
        t0 = ...                       one step, from the elements of slices at j0
        z[...] = ...                   the carry in the next row, the outputs in this one
        c0, c1 = t7, t12

Several directions are lanes: a loop over j1 within a step, which LLVM makes vectors of, or on a GPU one
lane to a thread. There the carry is read from the row before, and what directions have in common is loaded
once for all of them.

A recurrence without a carry has independent steps, which threads share. Several recurrences may be one
loop: each after those whose carry and outputs it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nbhvp.graph.node import Node
from nbhvp.graph.table.scan import keeps_rows
from nbhvp.plan.nests.pull import Expr, Index
from nbhvp.plan.nests.text import Body, Slots, code
from nbhvp.plan.recurrence import Recurrence, elements_of, one_of
from nbhvp.plan.schedule import variables

__all__ = ["Loop"]


class Loop:
    """The text of one loop."""

    def __init__(self, step: Recurrence):
        self.step, self.node = step, step.node
        self.body = self.node.primitive.body
        self.length = self.node.params["length"]
        self.lanes = self.body.width // one_of(self.body).width
        self.variable, self.lane = variables((self.length, 1))
        self.slots = Slots()
        inner = self.variable if self.body.single is None else self.lane
        self.text = Body(self.slots, set(), self.variable, inner)
        self.steps = self.slots.integer("steps", self.length)
        self.found = iter(elements_of(*(one.body for one in step.every)))
        self.parts = [_Part(self, one, *self._outputs(one)) for one in step.every]

    def _outputs(self, one: Recurrence) -> tuple[list[Expr], int]:
        """The elements of what a step gives, and how many of them are carried."""
        outputs = [next(self.found) for _ in one.body.graph.outputs]
        every = [expr for some in outputs for expr in some]
        return every, sum(map(len, outputs[: one.body.carries]))

    def lines(self, thread: str | None = None) -> list[str]:
        """The lines after those that read the table; of several directions `thread` tells whose turn it is."""
        body, name, text = self.body, self.variable.name, self.text
        header = f"for {name} in range({self.steps}):"
        if body.reverse:
            header = f"for {name} in range({self.steps} - 1, -1, -1):"
        if not body.carries and thread is None:
            header = f"for {name} in range(lo, hi):"
        if body.single is None:
            for part in self.parts:
                part.begin()
            text.scoped(header, self._one_step)
            for part in self.parts:
                part.end()
            return text.lines
        (part,) = self.parts
        common = [k for k in range(len(part.inputs)) if k not in body.linear]
        part.know(k for k in common if k >= body.rest)
        along = [k for k in common if k < body.rest]
        if thread is None:
            self._along_lanes(part.first)
            text.scoped(header, lambda: self._one_step_of_lanes(part, along))
            return text.lines

        def one_step() -> None:
            part.know(along)
            part.run_lane()

        text.line(f"{self.lane.name} = {thread}")
        count = self.slots.integer("lanes", self.lanes)
        # In scopes of their own: a step reads the carry from its row, not what the first one has.
        first = [part.first] * bool(body.carries)
        for inside in (*first, lambda: text.scoped(header, one_step)):
            text.scoped(f"if {self.lane.name} < {count}:", inside)
        return text.lines

    def _one_step(self) -> None:
        for part in self.parts:
            part.run()
        # Last, since what was computed may be a number that is carried.
        old = [name for part in self.parts for name in part.carry]
        new = [name for part in self.parts for name in part.new]
        if old:
            self.text.line(f"{', '.join(old)} = {', '.join(new)}")

    def _one_step_of_lanes(self, part: _Part, along: list[int]) -> None:
        part.know(along)
        self._along_lanes(part.run_lane)

    def _along_lanes(self, statements: Callable[[], None]) -> None:
        self.text.scoped(f"for {self.lane.name} in range({self.lanes}):", statements)


class _Part:
    """One recurrence of a loop."""

    def __init__(self, kernel: Loop, step: Recurrence, outputs: list[Expr], carried: int):
        self.kernel, self.step, self.outputs, self.carried = kernel, step, outputs, carried
        self.text, self.body, self.inputs = kernel.text, step.body, one_of(step.body).graph.inputs
        self.rows, self.keeps_rows = kernel.slots.write(step.node), keeps_rows(step.node)
        self.carry: list[str] = []
        self.new: list[str] = []

    def know(self, arguments: Iterable[int]) -> None:
        """Give names to the elements of arguments, as the body has them."""
        for k in arguments:
            for place, expr in enumerate(self.step.elements[k]):
                self.text.know(self.inputs[k], Index.of(place), self.text.name(expr))

    def begin(self) -> None:
        """Before the loop: what is the same in all steps, and the first row."""
        self.know(range(self.body.rest, len(self.inputs)))
        self.first()

    def first(self) -> None:
        """Write the first row of the carry, and zeros for what the last row has of outputs."""
        for node, exprs in zip(self._carried(), self.step.elements, strict=False):
            for place, expr in enumerate(exprs):
                name = self.kernel.text.fresh()
                self.text.line(f"{name} = {self.text.name(expr)}")
                self.text.know(node, Index.of(place), name)
                self.carry.append(name)
        if not self.keeps_rows:
            return
        steps = self.kernel.steps
        self._store(steps if self.body.reverse else "0", 0, self.carry)
        rest = len(self.outputs) - self.carried
        if self.body.carries and rest:
            self._store(steps, self.carried, [f"{code(self.body.dtype)}(0)"] * rest)

    def run(self) -> None:
        """One step, after which others of the loop know what it has."""
        self._tell(self.body.reverse, 0, self.carry)
        self.know(range(self.body.carries, self.body.rest))
        values = self._results()
        self.new = values[: self.carried]
        self._tell(not self.body.reverse, 0, self.new)
        self._tell(False, self.carried, values[self.carried :])

    def end(self) -> None:
        """After the loop: the last carry, where nothing else is kept."""
        if not self.keeps_rows:
            self._store("0", 0, self.carry)

    def run_lane(self) -> None:
        """One step of one direction, from the row before."""
        name, column = self.kernel.variable.name, 0
        row = f"({name} + 1)" if self.body.reverse else name
        for node in self._carried():
            for place in range(node.size):
                value = self.text.fresh()
                self.text.line(f"{value} = {self._place(row, column)}")
                self.text.know(node, Index.of(place), value)
                column += 1
        self.know(k for k in sorted(self.body.linear) if k >= self.body.carries)
        self._results()

    def _carried(self) -> tuple[Node, ...]:
        return self.inputs[: self.body.carries]

    def _tell(self, is_next: bool, column: int, values: list[str]) -> None:
        for k, value in enumerate(values, start=column):
            self.text.know(self.step.node, self.step.place(is_next, k), value)

    def _results(self) -> list[str]:
        """Write what a step gives; the names of it."""
        name = self.kernel.variable.name
        values = [self.text.name(expr) for expr in self.outputs]
        if not self.keeps_rows:
            return values
        after = name if self.body.reverse else f"({name} + 1)"
        self._store(after, 0, values[: self.carried])
        self._store(name, self.carried, values[self.carried :])
        return values

    def _store(self, row: str, column: int, values: list[str]) -> None:
        for k, value in enumerate(values, start=column):
            self.text.line(f"{self._place(row, k)} = {value}")

    def _place(self, row: str, column: int) -> str:
        """Where a number of a row lies, of the present direction."""
        width = self.body.width
        at = {"0": ""}.get(row, f"{row} * {width} + " if width > 1 else f"{row} + ")
        lane = "" if self.body.single is None else f" + {self.kernel.lane.name}"
        return f"{self.rows}[{at}{column * self.kernel.lanes}{lane}]"
