"""The sweep over a tape, compiled: kernels for the primitives of `graph/table/tape.py`.

Values and partials depend on the codes of a tape: they are computed record by record, by a switch over
the codes that occur, printed from the scalar sources of the table. Values need the order of the
records; the partials of each record are independent, so threads share them. Tangents and adjoints are
linear in the direction: two loops without a branch, with the same text for every tape:

    forward    w_dot_i  = p_a w_dot_a + p_b w_dot_b              i upward
    backward   w_bar_a += p_a w_bar_i,  w_bar_b += p_b w_bar_i   i downward

with the terms of the second partials added to the adjoints in the backward loop. A record's tangent
and adjoint lie side by side in memory. Directions along a last axis are swept in blocks, whose numbers
are contiguous; directions along a first axis are swept one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, Pool
from nbhvp.graph.table import tape as t
from nbhvp.graph.table.tape import Guards, Tape
from nbhvp.plan.costs import CPU
from nbhvp.plan.lower import lower
from nbhvp.plan.nests.pull import Index, Puller, Var
from nbhvp.plan.nests.text import Body, KernelCall, Pointer, Scratch, Slots, kernel_text

__all__ = ["KERNELS"]


KERNELS: dict[p.Primitive, Callable[[Node], list[KernelCall]]] = {}
"""The functions that give the kernels of a node."""


def _kernels_of(entry: p.Primitive) -> Callable:
    return lambda function: KERNELS.setdefault(entry, function)


def _call(
    kind: str,
    slots: Slots,
    lines: list[str],
    node: Node,
    records: int,
    extent: int = 1,
    block: int = CPU.block_size,
    word: str = "kernel",
) -> KernelCall:
    """A kernel that visits so many records; it runs as a whole, or over an extent in blocks."""
    source = kernel_text(kind, slots, lines, word)
    arrays = [slot.array for slot in slots.contents if isinstance(slot, Pointer)]
    writes = (node, *(array for array in arrays if isinstance(array, Scratch)))
    return KernelCall(source, slots.contents, extent, block, writes, records * CPU.record)


class _Columns:
    """The arrays of a tape in a kernel's table, by name."""

    def __init__(self, slots: Slots, pool: Pool, tape: Tape | Guards):
        self._slots, self._pool, self._tape = slots, pool, tape

    def __getattr__(self, name: str) -> str:
        return self._slots.read(p.constant(self._pool, getattr(self._tape, name)), 0)


# What depends on the codes.


def _switch(
    body: Body, columns: _Columns, tape: Tape, codes: list[int], graph_of, store: Callable
) -> None:
    """For each code that occurs, the outputs of its graph of z, x and y, and what is done with them."""
    body.line(f"code = {columns.codes}[i]")
    word = "if"
    for code in codes:
        graph = lower(graph_of(tape.primitive(code)))

        def case(graph=graph):
            for line in store(_printed(body, graph)):
                body.line(line)

        body.scoped(f"{word} code == {code}:  # {tape.primitive(code).name}", case)
        word = "elif"


def _printed(body: Body, graph: Graph) -> list[str]:
    """The names of the outputs of a graph of scalars, whose inputs are known by their own names."""
    puller = Puller(lambda node: () if node in graph.inputs else None)
    for node in graph.inputs:
        body.know(node, Index(), node.params["name"])
    return [body.name(puller.at(node, ())) for node in graph.outputs]


def _body(slots: Slots) -> Body:
    return Body(slots, set(), Var("i"), None)


def _application(entry: p.Primitive) -> Graph:
    pool = Pool()
    z, x, y = (p.input_node(pool, name, (), np.float64) for name in "zxy")
    return Graph((z, x, y), (entry(*(x, y)[: entry.arity]),))


def _condition(entry: p.Primitive) -> Graph:
    """Whether a primitive has the outcome z."""
    graph = _application(entry)
    (value,) = graph.outputs
    return Graph(graph.inputs, (p.equal(p.cast(value, dtype=np.dtype(float)), graph.inputs[0]),))


@_kernels_of(t.tape_values)
def _values(node: Node) -> list[KernelCall]:
    tape, slots = node.params["tape"], Slots()
    body, columns = _body(slots), _Columns(slots, node.pool, tape)
    u, w = slots.read(node.args[0], 0), slots.write(node)
    start = slots.integer("start", tape.start)
    body.line(f"{w}[0] = {columns.values}[0]")
    body.line(f"for i in range(1, {start}):")
    body.line(f"    {w}[i] = {u}[i - 1]")

    def record() -> None:
        body.line(f"x, y = {w}[{columns.first}[i]], {w}[{columns.second}[i]]")
        body.line(f"z = {columns.values}[i]")
        _switch(
            body, columns, tape, tape.operations, _application, lambda names: [f"z = {names[0]}"]
        )
        body.line(f"{w}[i] = z")

    records = slots.integer("records", len(tape.codes))
    body.scoped(f"for i in range({start}, {records}):", record)
    return [_call("values", slots, body.lines, node, len(tape.codes))]


def _partials_in(which: slice) -> Callable[[p.Primitive], Graph]:
    def graph_of(entry):
        graph = t.partials_of(entry)
        return Graph(graph.inputs, graph.outputs[which])

    return graph_of


def _print_partials(
    body: Body, columns: _Columns, tape: Tape, nodes: Sequence[Node], names
) -> None:
    """The partials of record i by their names: zero where it, or the operand, isn't active."""
    w, active = (body.slots.read(node, 0) for node in nodes)
    body.line(f"first, second = {columns.first}[i], {columns.second}[i]")
    body.line(f"x, y, z = {w}[first], {w}[second], {w}[i]")
    for name in names:
        body.line(f"{name} = 0.0")
    store = lambda found: [f"{name} = {one}" for name, one in zip(names, found, strict=True)]
    which = slice(2) if len(names) == 2 else slice(2, 5)
    _switch(body, columns, tape, tape.operations, _partials_in(which), store)
    body.line(f"in_a, in_b = {active}[i] & {active}[first], {active}[i] & {active}[second]")
    tests = {"a": "in_a", "b": "in_b", "aa": "in_a", "ab": "in_a & in_b", "bb": "in_b"}
    for name in names:
        body.line(f"{name} = {name} if {tests[name]} else 0.0")


@_kernels_of(t.tape_partials)
def _partials(node: Node) -> list[KernelCall]:
    tape, slots = node.params["tape"], Slots()
    body, columns, out = _body(slots), _Columns(slots, node.pool, tape), slots.write(node)

    def record() -> None:
        _print_partials(body, columns, tape, node.args, ["a", "b"])
        body.line(f"{out}[2 * i] = a")
        body.line(f"{out}[2 * i + 1] = b")

    body.scoped("for i in range(lo, hi):", record)
    n = len(tape.codes)
    return [_call("partials", slots, body.lines, node, n, extent=n)]


@_kernels_of(t.tape_curvature)
def _curvature(node: Node) -> list[KernelCall]:
    tape, slots = node.params["tape"], Slots()
    body, columns, out = _body(slots), _Columns(slots, node.pool, tape), slots.write(node)
    _, *known, adjoints = node.args

    def record() -> None:
        _print_partials(body, columns, tape, known, ["aa", "ab", "bb"])
        bar = f"{slots.read(adjoints, 0)}[i]"
        body.line(f"aa, ab, bb = aa * {bar}, ab * {bar}, bb * {bar}")
        body.line("aa = aa + 2.0 * ab if first == second else aa")
        body.line(f"{out}[2 * i] = 0.0")
        body.line(f"{out}[2 * i + 1] = 0.0 if first == second else ab")
        for name, operand in (("aa", "first"), ("bb", "second")):
            body.line(f"{out}[2 * {operand}] = {out}[2 * {operand}] + {name}")

    records = slots.integer("records", len(tape.codes))
    body.scoped(f"for i in range({records}):", record)
    return [_call("curvature", slots, body.lines, node, len(tape.codes))]


@_kernels_of(t.tape_holds)
def _holds(node: Node) -> list[KernelCall]:
    tape, slots = node.params["tape"], Slots()
    guards = tape.guards
    body, columns = _body(slots), _Columns(slots, node.pool, guards)
    w, out = slots.read(node.args[0], 0), slots.write(node)
    count = slots.integer("guards", len(guards.codes))
    body.line("holds = True")

    def guard() -> None:
        body.line(f"x, y = {w}[{columns.first}[i]], {w}[{columns.second}[i]]")
        body.line(f"z = {columns.outcomes}[i]")
        store = lambda names: [f"holds = holds & {names[0]}"]
        _switch(body, columns, tape, np.unique(guards.codes).tolist(), _condition, store)

    body.scoped(f"for i in range({count}):", guard)
    body.line(f"{out}[0] = holds")
    return [_call("guards", slots, body.lines, node, len(guards.codes))]


# What does not.


@_kernels_of(t.tape_results)
def _results(node: Node) -> list[KernelCall]:
    tape, slots = node.params["tape"], Slots()
    outputs = _Columns(slots, node.pool, tape).outputs
    w, z = slots.read(node.args[1], 0), slots.write(node)
    lines = ["for k in range(lo, hi):", f"    {z}[k] = {w}[{outputs}[k]]"]
    m = node.size
    return [_call("results", slots, lines, node, m, extent=m)]


@_kernels_of(t.tape_active)
def _active(node: Node) -> list[KernelCall]:
    tape, slots = node.params["tape"], Slots()
    columns, out = _Columns(slots, node.pool, tape), slots.write(node)
    useful = slots.write(Scratch((len(tape.codes),), np.dtype(bool)))
    records = slots.integer("records", len(tape.codes))
    start = slots.integer("start", tape.start)
    results = slots.integer("results", len(tape.outputs))
    lines = f"""
{out}[0] = False
for i in range(1, {start}):
    {out}[i] = {columns.varied}[i - 1]
for i in range({start}, {records}):
    {out}[i] = {out}[{columns.first}[i]] | {out}[{columns.second}[i]]
for i in range({records}):
    {useful}[i] = False
for k in range({results}):
    {useful}[{columns.outputs}[k]] = True
for k in range({records} - {start}):
    i = {records} - 1 - k
    first, second = {columns.first}[i], {columns.second}[i]
    {useful}[first] = {useful}[first] | {useful}[i]
    {useful}[second] = {useful}[second] | {useful}[i]
for i in range({records}):
    {out}[i] = {out}[i] & {useful}[i]
"""
    return [_call("active", slots, lines.strip().splitlines(), node, len(tape.codes))]


class _Sweep:
    """The lines of a kernel of sweeps along the records, each for one direction or for CPU.lanes of them.

    Records have a tangent, an adjoint, or both: then those of one record lie side by side, or in
    arrays of their own where each is a line of lanes. A loop over lanes stores what it computes in
    `held` before it goes to a record: LLVM can't know that one record isn't another.
    """

    def __init__(
        self, node: Node, partials: Node, given: Node, both: bool = False, is_result: bool = False
    ):
        self.node, self.tape, self.slots = node, node.params["tape"], Slots()
        axis = node.params.get("axis", 0)
        self.width = math.prod(given.shape[axis + 1 :])
        self.lanes = CPU.lanes if self.width % CPU.lanes == 0 else 1
        self.rows = math.prod(given.shape[:axis]) * self.width // self.lanes
        self.sizes = {"given": given.shape[axis], "out": node.shape[axis]}
        self.arrays = {"given": self.slots.read(given, 0), "out": self.slots.write(node)}
        self.columns = _Columns(self.slots, node.pool, self.tape)
        self.partials = self.slots.read(partials, 0)
        self.step = 2 if both and self.lanes == 1 else 1
        records = self.step * len(self.tape.codes)
        self.w = self.arrays["out"] if is_result else self._scratch(records)
        self.bar = self._scratch(len(self.tape.codes)) if both and self.lanes > 1 else self.w
        self.held = f"{self._scratch(1)}[k]" if self.lanes > 1 else "held"
        self.curvature = ""
        self.lines: list[str] = []

    def _scratch(self, records: int) -> str:
        return self.slots.write(Scratch((records * self.lanes,), np.dtype(np.float64)))

    def tangent(self, record: str) -> str:
        return self._element(self.w, record, 0)

    def adjoint(self, record: str) -> str:
        return self._element(self.bar, record, self.step - 1)

    def _element(self, array: str, record: str, part: int) -> str:
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

    def calls(self, kind: str) -> list[KernelCall]:
        """The kernel: its rows one after the other, since they share the records' memory."""
        lines = ["for row in range(lo, hi):"]
        per = self.slots.integer("per", max(1, self.width // self.lanes))
        for name, size in self.sizes.items():
            extent = self.slots.integer(name, size)
            lines.append(
                f"    {name}_at = row // {per} * {extent} * {self._width} + row % {per} * {self.lanes}"
            )
        lines += ["    " + line for line in self.lines]
        count = len(self.tape.codes) * self.rows * self.lanes
        word = "straight_kernel" if self.lanes > 1 else "kernel"
        cut = self.rows, max(1, self.rows)
        return [_call(kind, self.slots, lines, self.node, count, *cut, word)]


@_kernels_of(t.tape_push)
def _push(node: Node) -> list[KernelCall]:
    _, partials, u_dot = node.args
    sweep = _Sweep(node, partials, u_dot)
    sweep.forward()
    sweep.collect(sweep.tangent("i"), f"{sweep.columns.outputs}[j]")
    return sweep.calls("push")


@_kernels_of(t.tape_pull)
def _pull(node: Node) -> list[KernelCall]:
    _, partials, z_bar = node.args
    sweep = _Sweep(node, partials, z_bar)
    sweep.spread()
    sweep.backward()
    sweep.collect(sweep.adjoint("i"), "j + 1")
    return sweep.calls("pull")


@_kernels_of(t.tape_adjoints)
def _adjoints(node: Node) -> list[KernelCall]:
    _, partials, z_bar = node.args
    sweep = _Sweep(node, partials, z_bar, is_result=True)
    sweep.spread()
    sweep.backward()
    return sweep.calls("adjoints")


@_kernels_of(t.tape_curve)
def _curve(node: Node) -> list[KernelCall]:
    partials, curvature, u_dot = node.args
    sweep = _Sweep(node, partials, u_dot, both=True)
    sweep.forward(clear=True)
    sweep.backward(curvature)
    sweep.collect(sweep.adjoint("i") + sweep.own(), "j + 1")
    return sweep.calls("curve")
