"""Recurrences in lanes, compiled for CPUs: in each step, a loop over lanes that LLVM makes vectors of.

    for j0 in range(B):                    in each block
        e[...] = 0
        for j1 in range(M):                all lanes from zero, of what is coupled alone
            for j2 in range(16): ...
        for j2 in range(16):               the carries between the lanes, by propagators
            e[j2], c = c, P[j2] * c + e[j2]
        if digits are lost:
            for j2 in range(16):           lane after lane
                for j1 in range(M): ...
        else:
            for j1 in range(M):            all lanes
                for j2 in range(16): ...

The numbers that lanes carry lie in scratch memory, which LLVM holds in registers. Where nothing that
varies drives the lanes, as in a homogeneous recurrence, the first pass would find zeros, and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nbhvp.graph.node import Node
from nbhvp.plan.costs import CPU
from nbhvp.plan.nests.pull import Expr, Index, Load, parts
from nbhvp.plan.nests.text import Body, KernelCall, Scratch, Slots, code, kernel_text
from nbhvp.plan.recurrence import Recurrence, elements_of
from nbhvp.plan.schedule import variables

__all__ = ["kernels"]

LOST = 1e4
"""How much larger than a carry its terms may be: four of sixteen digits."""


def kernels(step: Recurrence) -> list[KernelCall]:
    """The kernel of a recurrence in lanes."""
    kernel = _Kernel(step)
    kernel.write()
    slots, work = kernel.slots, sum(part.cost for part in parts(kernel.outputs))
    each = CPU.near * len(step.loads) + work * CPU.flop
    time = 2 * step.node.params["length"] * each
    source = kernel_text("lanes", slots, kernel.text.lines)
    return [KernelCall(source, slots.contents, 1, 1, (step.node, kernel.scratch), time)]


class _Kernel:
    def __init__(self, step: Recurrence):
        self.step, self.node, self.body = step, step.node, step.node.primitive.body
        self.inputs = self.body.graph.inputs
        params = self.node.params
        (self.blocks, steps, self.lanes), self.keeps = params["lanes"], params["keeps"]
        self.block, self.time, self.lane = variables(params["lanes"])
        self.slots = Slots()
        self.text = Body(self.slots, set(), self.block, self.lane)
        self.steps = self.slots.integer("steps", steps)
        self.row = self.slots.integer("rows", steps + 1 if self.keeps else 1)
        outputs = elements_of(self.body)
        self.outputs = [expr for some in outputs for expr in some]
        columns = self.body.columns
        self.carried = range(columns[self.body.carries])
        sums = {c for k in params["sums"] for c in range(columns[k], columns[k + 1])}
        self.coupled = [c for c in self.carried if c not in sums]
        self.kind = code(self.body.dtype)
        self.scratch = Scratch((len(self.carried) * self.lanes,), self.body.dtype)
        self.carry = self.slots.write(self.scratch)
        self.rows = self.slots.write(self.node)

    @property
    def is_driven(self) -> bool:
        """Whether anything but its own past moves the carry."""
        used = self.used([self.outputs[c] for c in self.coupled])
        return any(self.inputs[k] in used for k in self.body.linear if k >= self.body.carries)

    def used(self, exprs: list[Expr]) -> set[Node]:
        return {one.array for one in parts(exprs) if isinstance(one, Load)}

    # Places.

    def held(self, column: int) -> str:
        """Where the present lane holds a number of its carry."""
        return f"{self.carry}[{column * self.lanes} + {self.lane.name}]"

    def place(self, row: str, column: int) -> str:
        """Where a number of a row of the present lane lies."""
        row = f"({self.block.name} * {self.row} + {row}) * {self.body.width * self.lanes}"
        return f"{self.rows}[{row} + {column * self.lanes} + {self.lane.name}]"

    # Loops.

    def along_time(self, inside: Callable[[], None]) -> None:
        header = f"range({self.steps} - 1, -1, -1)" if self.body.reverse else f"range({self.steps})"
        self.text.scoped(f"for {self.time.name} in {header}:", inside)

    def along_lanes(self, inside: Callable[[], None], in_order: bool = False) -> None:
        is_back = in_order and self.body.reverse
        header = f"range({self.lanes - 1}, -1, -1)" if is_back else f"range({self.lanes})"
        self.text.scoped(f"for {self.lane.name} in {header}:", inside)

    def write(self) -> None:
        text = self.text
        self.know(range(self.body.rest, len(self.inputs)))
        starts = [expr for some in self.step.elements[: self.body.carries] for expr in some]
        for c in self.coupled:
            text.line(f"c{c} = {text.name(starts[c])}")
        blocks = self.slots.integer("blocks", self.blocks)
        header = f"range({blocks} - 1, -1, -1)" if self.body.reverse else f"range({blocks})"
        text.scoped(f"for {self.block.name} in {header}:", self.one_block)

    def one_block(self) -> None:
        text, every = self.text, range(len(self.outputs))
        self.along_lanes(lambda: self.hold(self.carried))
        if self.is_driven:
            self.along_time(lambda: self.along_lanes(lambda: self.run(self.coupled, False)))
        for c in self.coupled:
            text.line(f"b{c} = c{c}")
        text.line("lost = False")
        self.along_lanes(self.carry_over, in_order=True)
        text.scoped("if lost:", self.in_sequence)
        one_step = lambda: self.along_lanes(lambda: self.run(every, self.keeps))
        text.scoped("else:", lambda: self.along_time(one_step))
        if not self.keeps:
            self.along_lanes(self.end)

    def hold(self, columns: Iterable[int]) -> None:
        for c in columns:
            self.text.line(f"{self.held(c)} = {self.kind}(0)")

    def first_row(self) -> None:
        """The first row of the present lane, and zeros for what the last row has of outputs."""
        if self.keeps:
            first, last = ("{}", "0") if self.body.reverse else ("0", "{}")
            for c in self.carried:
                self.text.line(f"{self.place(first.format(self.steps), c)} = {self.held(c)}")
            for c in range(len(self.carried), self.body.width):
                self.text.line(f"{self.place(self.steps, c)} = {self.kind}(0)")

    def carry_over(self) -> None:
        """From the end of a lane that started with zeros to the carry before the next one.

        It is lost where it is not finite, or so small beside its terms that it has too few digits.
        """
        text, size = self.text, len(self.coupled)
        products = [text.name(expr) for expr in self.step.elements[-1]]
        ends = [self.named(self.held(c)) for c in self.coupled]
        self.start_lane()
        rows = [products[i * size : (i + 1) * size] for i in range(size)]
        terms = [
            [f"{factor} * c{c}" for factor, c in zip(row, self.coupled, strict=True)]
            for row in rows
        ]
        news = [self.named(" + ".join([end, *some])) for end, some in zip(ends, terms, strict=True)]
        kept = " + ".join(f"abs({one})" for one in (*news, *(f"c{c}" for c in self.coupled)))
        summed = " + ".join(
            f"abs({one})" for one in (*ends, *(one for some in terms for one in some))
        )
        # A comparison with NaN is false, and infinity minus itself is NaN.
        kept, summed = self.named(kept), self.named(summed)
        for c, new in zip(self.coupled, news, strict=True):
            text.line(f"c{c} = {new}")
        text.line(f"lost = lost | (not ({summed} - {summed} <= {LOST} * {kept} - {summed}))")

    def start_lane(self) -> None:
        for c in self.coupled:
            self.text.line(f"{self.held(c)} = c{c}")
        self.first_row()

    def named(self, value: str) -> str:
        name = self.text.fresh()
        self.text.line(f"{name} = {value}")
        return name

    def in_sequence(self) -> None:
        """All lanes one after the other, from the carry before the block."""

        def one_lane() -> None:
            self.start_lane()
            self.along_time(lambda: self.run(range(len(self.outputs)), self.keeps))
            for c in self.coupled:
                self.text.line(f"c{c} = {self.held(c)}")

        for c in self.coupled:
            self.text.line(f"c{c} = b{c}")
        self.along_lanes(one_lane, in_order=True)

    def run(self, columns: Iterable[int], keeps: bool) -> None:
        """One step of the present lane, of some outputs."""
        exprs = [self.outputs[c] for c in columns]
        used = self.used(exprs)
        column = 0
        for node in self.inputs[: self.body.carries]:
            for place in range(node.size):
                if node in used:
                    self.text.know(node, Index.of(place), self.named(self.held(column)))
                column += 1
        slices = range(self.body.carries, self.body.rest)
        self.know(k for k in slices if self.inputs[k] in used)
        names = [self.text.name(expr) for expr in exprs]
        name = self.time.name
        after = name if self.body.reverse else f"({name} + 1)"
        for c, new in zip(columns, names, strict=True):
            if c in self.carried:
                self.text.line(f"{self.held(c)} = {new}")
            if keeps:
                self.text.line(f"{self.place(after if c in self.carried else name, c)} = {new}")

    def know(self, arguments: Iterable[int]) -> None:
        for k in arguments:
            for place, expr in enumerate(self.step.elements[k]):
                self.text.know(self.inputs[k], Index.of(place), self.text.name(expr))

    def end(self) -> None:
        for c in self.carried:
            self.text.line(f"{self.place('0', c)} = {self.held(c)}")
