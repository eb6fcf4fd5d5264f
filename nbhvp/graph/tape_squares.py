"""Squares of lengths on a tape: records without the root, as `squares` has them for graphs.

A record that multiplies, or raises to a power, is looked at together with what its operands were
computed from, a few records deep. Where the graph of these has a length that the simplified one has
not, the records of the latter take its place.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nbhvp.graph import lengths
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node, Pool
from nbhvp.graph.tape import CONSTANT, FIRST, Guards, Tape

__all__ = ["without_roots"]

DEPTH = 8
"""How far a record is followed to earlier ones."""
NEAR = 3
"""How far from a record its lengths may be."""
_KINKS = (lengths.root, lengths.hypot, p.sqrt, p.absolute)


def without_roots(tape: Tape) -> Tape:
    """The tape, with the squares of lengths computed without their roots."""
    found = {i: records for i in _candidates(tape) if (records := _simpler(tape, i)) is not None}
    return _replaced(tape, found) if found else tape


def _codes(tape: Tape, entries) -> list[int]:
    return [FIRST + k for k, entry in enumerate(tape.primitives) if entry in entries]


def _candidates(tape: Tape) -> list[int]:
    """The products and powers that have a length near."""
    near = np.isin(tape.codes, _codes(tape, _KINKS))
    if not near.any():
        return []
    scaling = np.isin(tape.codes, _codes(tape, (p.multiply, p.divide, p.negative)))
    for _ in range(NEAR):
        near |= scaling & (near[tape.first] | near[tape.second])
    product = np.isin(tape.codes, _codes(tape, (p.multiply, p.power)))
    return np.flatnonzero(product & (near[tape.first] | near[tape.second])).tolist()


def _simpler(tape: Tape, i: int) -> list[tuple] | None:
    """Record i in the form without lengths; None if it has one still."""
    pool, known = Pool(), {}

    def node_of(record: int, depth: int) -> Node:
        code = int(tape.codes[record])
        if code == CONSTANT:
            return p.constant(pool, float(tape.values[record]))
        if code < FIRST or depth == 0:
            node = p.input_node(pool, f"{record}", (), np.float64)
        else:
            operands = (tape.first[record], tape.second[record])
            entry = tape.primitive(code)
            node = entry(*(node_of(int(one), depth - 1) for one in operands[: entry.arity]))
        if record != i:
            known.setdefault(node, record)
        return node

    try:
        return _as_records(tape, node_of(i, DEPTH), known)
    except LookupError:
        return None


def _as_records(tape: Tape, node: Node, known: dict[Node, int]) -> list[tuple]:
    """Code, operands and value of new records; operands below 0 are places among these, from -1."""
    codes = {entry: FIRST + k for k, entry in enumerate(tape.primitives)}
    new: list[tuple] = []

    def place(node: Node) -> int:
        if node.primitive.square is not None:
            raise LookupError("a length is left")
        if node in known:
            return known[node]
        if node.value is not None:
            new.append((CONSTANT, 0, 0, float(node.value)))
        else:
            operands = [place(arg) for arg in node.args]
            new.append((codes[node.primitive], *operands, *[0] * (2 - len(operands)), 0.0))
        return -len(new)

    last = place(node)
    if last >= 0:
        new.append((codes[p.add], last, 0, 0.0))
    return new


def _replaced(tape: Tape, found: dict[int, list[tuple]]) -> Tape:
    """The tape with other records in the place of some: the last of them has what each was."""
    extra = np.zeros(tape.codes.size, np.int64)
    extra[list(found)] = [len(records) - 1 for records in found.values()]
    moved = np.arange(extra.size) + np.cumsum(extra)
    columns = tape.codes, moved[tape.first], moved[tape.second], tape.values
    codes, first, second, values = (_spread(column, moved) for column in columns)
    for i, records in found.items():
        start = moved[i] - len(records) + 1
        for k, (code, a, b, value) in enumerate(records):
            a, b = (moved[one] if one >= 0 else start - one - 1 for one in (a, b))
            at = start + k
            codes[at], first[at], second[at] = code, a, b
            is_last = k == len(records) - 1
            values[at] = tape.values[i] if is_last else value
    guards = tape.guards
    places = (moved[column].astype(column.dtype) for column in (guards.first, guards.second))
    return replace(
        tape,
        codes=codes,
        first=first,
        second=second,
        values=values,
        outputs=moved[tape.outputs].astype(tape.outputs.dtype),
        guards=Guards(guards.codes, *places, guards.outcomes),
    )


def _spread(column: np.ndarray, moved: np.ndarray) -> np.ndarray:
    out = np.zeros(moved[-1] + 1, np.uint32 if column.dtype == np.int64 else column.dtype)
    out[moved] = column
    return out
