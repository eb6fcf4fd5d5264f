"""The sweep over a tape, compiled: kernels for the primitives of `graph/table/tape.py`.

Values and partials depend on the codes of a tape: they are computed record by record, by a switch over
the codes that occur, printed from the scalar sources of the table. Values need the order of the
records; the partials of each record are independent, so threads share them. Tangents and adjoints are
linear in the direction: their sweeps are those of `targets.sweeps`. Directions along a last axis are
swept in blocks, whose numbers are contiguous; directions along a first axis are swept one by one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, Pool
from nbhvp.graph.table import tape as t
from nbhvp.graph.table.tape import Tape
from nbhvp.plan.costs import CPU
from nbhvp.plan.lower import lower
from nbhvp.plan.nests.pull import Index, Puller, Var
from nbhvp.plan.nests.text import Body, KernelCall, Pointer, Scratch, Slots, kernel_text
from nbhvp.targets.sweeps import SWEEPS, Columns, Sweep

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


# What depends on the codes.


def _switch(
    body: Body, columns: Columns, tape: Tape, codes: list[int], graph_of, store: Callable
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
    body, columns = _body(slots), Columns(slots, node.pool, tape)
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


def _print_partials(body: Body, columns: Columns, tape: Tape, nodes: Sequence[Node], names) -> None:
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
    body, columns, out = _body(slots), Columns(slots, node.pool, tape), slots.write(node)

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
    body, columns, out = _body(slots), Columns(slots, node.pool, tape), slots.write(node)
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
    body, columns = _body(slots), Columns(slots, node.pool, guards)
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
    outputs = Columns(slots, node.pool, tape).outputs
    w, z = slots.read(node.args[1], 0), slots.write(node)
    lines = ["for k in range(lo, hi):", f"    {z}[k] = {w}[{outputs}[k]]"]
    m = node.size
    return [_call("results", slots, lines, node, m, extent=m)]


@_kernels_of(t.tape_active)
def _active(node: Node) -> list[KernelCall]:
    tape, slots = node.params["tape"], Slots()
    columns, out = Columns(slots, node.pool, tape), slots.write(node)
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


def _swept(node: Node, sweep_of: Callable) -> list[KernelCall]:
    """The kernel of a sweep: its rows one after the other, since they share the records' memory."""
    sweep: Sweep = sweep_of(node)
    lines = ["for row in range(lo, hi):", *("    " + line for line in sweep.text("row"))]
    count = len(sweep.tape.codes) * sweep.rows * sweep.lanes
    word = "straight_kernel" if sweep.lanes > 1 else "kernel"
    kind = node.primitive.name.removeprefix("tape_")
    return [_call(kind, sweep.slots, lines, node, count, sweep.rows, max(1, sweep.rows), word)]


for _entry, _sweep_of in SWEEPS.items():
    KERNELS[_entry] = functools.partial(_swept, sweep_of=_sweep_of)
