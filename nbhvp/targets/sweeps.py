"""The sweeps over a tape that are linear in a direction, as texts of kernels for every target.

Two loops without a branch, with the same text for every tape:

    forward    w_dot_i  = p_a w_dot_a + p_b w_dot_b              i upward
    backward   w_bar_a += p_a w_bar_i,  w_bar_b += p_b w_bar_i   i downward

with the terms of the second partials added to the adjoints in the backward loop. On a CPU a record's tangent
and adjoint lie side by side, or lines of directions, one vector each. On a GPU a thread takes a direction, and
those of neighbouring threads lie side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node, Pool
from nbhvp.graph.table import tape as t
from nbhvp.graph.table.tape import Guards, Tape
from nbhvp.plan.costs import CPU
from nbhvp.plan.nests.text import Scratch, Slots

__all__ = ["SWEEPS", "Columns", "Sweep"]


class Columns:
    """The arrays of a tape in a kernel's table, by name."""

    def __init__(self, slots: Slots, pool: Pool, tape: Tape | Guards):
        self._slots, self._pool, self._tape = slots, pool, tape

    def __getattr__(self, name: str) -> str:
        return self._slots.read(p.constant(self._pool, getattr(self._tape, name)), 0)


class Sweep:
    """The lines of a kernel of sweeps along the records, each for one direction or for CPU.lanes of them.

    With `threads` each sweeps a direction of its own, k.

    Records have a tangent, an adjoint, or both: then those of one record lie side by side, or in
    arrays of their own where each is a line of lanes. A loop over lanes stores what it computes in
    `held` before it goes to a record: LLVM can't know that one record isn't another.
    """

    def __init__(
        self,
        node: Node,
        partials: Node,
        given: Node,
        threads: int = 0,
        both: bool = False,
        is_result: bool = False,
    ):
        self.node, self.tape, self.slots = node, node.params["tape"], Slots()
        axis = node.params.get("axis", 0)
        self.width = math.prod(given.shape[axis + 1 :])
        self.threads = threads
        self.lanes = CPU.lanes if self.width % CPU.lanes == 0 and not threads else 1
        self.rows = math.prod(given.shape[:axis]) * self.width // self.lanes
        self.sizes = {"given": given.shape[axis], "out": node.shape[axis]}
        self.arrays = {"given": self.slots.read(given, 0), "out": self.slots.write(node)}
        self.columns = Columns(self.slots, node.pool, self.tape)
        self.partials = self.slots.read(partials, 0)
        is_apart = self.lanes > 1 or threads > 0
        self.step = 2 if both and not is_apart else 1
        records = self.step * len(self.tape.codes)
        self.w = self.arrays["out"] if is_result else self._scratch(records)
        self.bar = self._scratch(len(self.tape.codes)) if both and is_apart else self.w
        self.held = f"{self._scratch(1)}[k]" if self.lanes > 1 else "held"
        self.curvature = ""
        self.lines: list[str] = []

    def _scratch(self, records: int) -> str:
        return self.slots.write(
            Scratch((records * self.lanes * max(1, self.threads),), np.dtype(np.float64))
        )

    def tangent(self, record: str) -> str:
        return self._element(self.w, record, 0)

    def adjoint(self, record: str) -> str:
        return self._element(self.bar, record, self.step - 1)

    def _element(self, array: str, record: str, part: int) -> str:
        if self.threads:
            count = self.slots.integer("threads", self.threads)
            return f"{array}[{count} * ({record}) + k]"
        if self.lanes > 1:
            return f"{array}[{self.lanes} * {record} + k]"
        return (
            f"{array}[{self.step} * {record} + {part}]" if self.step > 1 else f"{array}[{record}]"
        )

    def outside(self, name: str, index: str) -> str:
        """An element of the direction or of the result."""
        lane = " + k" if self.lanes > 1 else ""
        return f"{self.arrays[name]}[{name}_at + {index} * {self._width}{lane}]"

    @property
    def _width(self) -> str:
        return self.slots.integer("width", self.width)

    @property
    def records(self) -> str:
        return self.slots.integer("records", len(self.tape.codes))

    @property
    def start(self) -> str:
        return self.slots.integer("start", self.tape.start)

    def loop(self, header: str, *statements: str, before: tuple[str, ...] = ()) -> None:
        """A loop over records; each statement is a loop over the lanes."""
        self.lines += [header, *("    " + line for line in before)]
        for line in statements:
            if self.lanes > 1:
                self.lines.append(f"    for k in range({self.lanes}):")
            self.lines.append("    " * (2 if self.lanes > 1 else 1) + line)

    def operands(self) -> tuple[str, ...]:
        first, second = self.columns.first, self.columns.second
        return (
            f"a, b = {first}[i], {second}[i]",
            f"p_a, p_b = {self.partials}[2 * i], {self.partials}[2 * i + 1]",
        )

    def forward(self, clear: bool = False) -> None:
        """The tangents of all records, from those of the inputs; all adjoints zero, if `clear`."""
        cleared = [f"{self.adjoint('i')} = 0.0"] if clear else []
        self.loop("for i in range(1):", f"{self.tangent('i')} = 0.0", *cleared)
        embedded = f"{self.tangent('i')} = {self.outside('given', '(i - 1)')}"
        self.loop(f"for i in range(1, {self.start}):", embedded, *cleared)
        self.loop(
            f"for i in range({self.start}, {self.records}):",
            f"{self.held} = p_a * {self.tangent('a')} + p_b * {self.tangent('b')}",
            f"{self.tangent('i')} = {self.held}",
            *cleared,
            before=self.operands(),
        )

    def spread(self) -> None:
        """The adjoints of the results, all others zero."""
        self.loop(f"for i in range({self.records}):", f"{self.adjoint('i')} = 0.0")
        count = self.slots.integer("results", self.sizes["given"])
        added = f"{self.adjoint('i')} = {self.adjoint('i')} + {self.outside('given', 'j')}"
        before = (f"i = {self.columns.outputs}[j]",)
        self.loop(f"for j in range({count}):", added, before=before)

    def backward(self, curvature: Node | None = None) -> None:
        """The adjoints of all records but for `own`, with what the second partials add."""
        before = (f"i = {self.records} - 1 - j", *self.operands())
        curved = {"a": "", "b": ""}
        if curvature is not None:
            self.curvature = self.slots.read(curvature, 0)
            before += (f"mixed = {self.curvature}[2 * i + 1]",)
            curved = {k: f" + mixed * {self.tangent(other)}" for k, other in ("ab", "ba")}
        added = [
            f"{self.adjoint(k)} = {self.adjoint(k)} + (p_{k} * {self.held}{curved[k]})"
            for k in "ab"
        ]
        header = f"for j in range({self.records} - {self.start}):"
        self.loop(header, f"{self.held} = {self.adjoint('i')}{self.own()}", *added, before=before)

    def own(self) -> str:
        """What the diagonal of the curvature adds to the adjoint of a record."""
        return f" + {self.curvature}[2 * i] * {self.tangent('i')}" if self.curvature else ""

    def collect(self, text: str, index: str) -> None:
        """The result: what records have at its elements."""
        count = self.slots.integer("collected", self.sizes["out"])
        stored = f"{self.outside('out', 'j')} = {text}"
        self.loop(f"for j in range({count}):", stored, before=(f"i = {index}",))

    def text(self, row: str) -> list[str]:
        """The lines for one row of directions, or for the direction of a thread."""
        per = self.slots.integer("per", max(1, self.width // self.lanes))
        lines = []
        for name, size in self.sizes.items():
            extent = self.slots.integer(name, size)
            lines.append(
                f"{name}_at = {row} // {per} * {extent} * {self._width} + {row} % {per} * {self.lanes}"
            )
        return [*lines, *self.lines]


def _push(node: Node, threads: int = 0) -> Sweep:
    _, partials, u_dot = node.args
    sweep = Sweep(node, partials, u_dot, threads)
    sweep.forward()
    sweep.collect(sweep.tangent("i"), f"{sweep.columns.outputs}[j]")
    return sweep


def _pull(node: Node, threads: int = 0) -> Sweep:
    _, partials, z_bar = node.args
    sweep = Sweep(node, partials, z_bar, threads)
    sweep.spread()
    sweep.backward()
    sweep.collect(sweep.adjoint("i"), "j + 1")
    return sweep


def _adjoints(node: Node, threads: int = 0) -> Sweep:
    _, partials, z_bar = node.args
    sweep = Sweep(node, partials, z_bar, threads, is_result=True)
    sweep.spread()
    sweep.backward()
    return sweep


def _curve(node: Node, threads: int = 0) -> Sweep:
    partials, curvature, u_dot = node.args
    sweep = Sweep(node, partials, u_dot, threads, both=True)
    sweep.forward(clear=True)
    sweep.backward(curvature)
    sweep.collect(sweep.adjoint("i") + sweep.own(), "j + 1")
    return sweep


SWEEPS: dict[p.Primitive, Callable[..., Sweep]] = {
    t.tape_push: _push,
    t.tape_pull: _pull,
    t.tape_adjoints: _adjoints,
    t.tape_curve: _curve,
}
"""The sweep that a node is, of which `threads` take a direction each if there are any."""
