"""Squares of lengths on a tape: records without the root, as `squares` has them for graphs.

A record that multiplies, or raises to a power, is looked at together with what its operands were
computed from, a few records deep. Where the graph of these has a length that the simplified one has
not, the records of the latter take its place. Loops repeat themselves, so records are looked at form
by form: those with the same entries, constants and sharing of operands are simplified alike.

Long tapes are looked at only where a length was 0 when they were recorded. Where forms or records are
too many, lengths stay: a sweep then has NaN where one is 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node, Pool
from nbhvp.graph.table import lengths
from nbhvp.graph.table.tape import CONSTANT, FIRST, Guards, Tape

__all__ = ["without_roots"]

DEPTH = 8
"""How far a record is followed to earlier ones."""
NEAR = 3
"""How far from a record its lengths may be."""
FEW_RECORDS, MOST_RECORDS = 2000, 100_000
"""Products near a length that are looked at always, and where one is 0: each takes 30 microseconds."""
MOST_FORMS = 200
"""Forms that are looked at: each takes some milliseconds."""
ROWS = 2048
"""Records whose surroundings are listed at a time, which bounds the memory of it."""
_KINKS = (lengths.root, lengths.hypot, p.sqrt, p.absolute)


def without_roots(tape: Tape) -> Tape:
    """The tape, with the squares of lengths computed without their roots."""
    simpler: dict[bytes, list[tuple] | None] = {}
    found = {}
    for form, around in _forms(tape, _candidates(tape)):
        if form not in simpler and len(simpler) < MOST_FORMS:
            simpler[form] = _placed(_simpler(tape, int(around[0])), around)
        records = simpler.get(form)
        if records is not None:
            found[int(around[0])] = [_moved(one, around) for one in records]
    return _replaced(tape, found) if found else tape


def _forms(tape: Tape, candidates: list[int]) -> Iterator[tuple[bytes, np.ndarray]]:
    """Of each record: what tells its form apart, and the records around it, itself first."""
    for start in range(0, len(candidates), ROWS):
        around = _around(tape, np.array(candidates[start : start + ROWS]))
        codes = np.where(around < 0, 0, tape.codes[around])
        constants = np.where((around >= 0) & (codes == CONSTANT), tape.values[around], 0.0)
        order = np.argsort(around, axis=1, kind="stable")
        ordered = np.take_along_axis(around, order, 1)
        is_first = np.ones(around.shape, bool)
        is_first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        firsts = np.maximum.accumulate(np.where(is_first, np.arange(around.shape[1]), 0), axis=1)
        shared = np.empty_like(around)  # of each column: the first one with the same record
        np.put_along_axis(shared, order, np.take_along_axis(order, firsts, 1), 1)
        forms = np.concatenate([codes, shared, constants.view(np.int64)], axis=1)
        yield from zip(map(np.ndarray.tobytes, forms), around, strict=True)


def _around(tape: Tape, records: np.ndarray) -> np.ndarray:
    """A row for each record: itself, then all that it was computed from; -1 where there is none.

    The columns are the places of a tree of `DEPTH` levels that any of the records fills.
    """
    arity = np.zeros(256, np.int64)
    arity[FIRST : FIRST + len(tape.primitives)] = [entry.arity for entry in tape.primitives]
    columns, level = [records], [records]
    for _ in range(DEPTH):
        following = []
        for column in level:
            counts = np.where(column < 0, 0, arity[tape.codes[column]])
            for k, operands in enumerate((tape.first, tape.second)):
                child = np.where(counts > k, operands[column].astype(np.int64), -1)
                if (child >= 0).any():
                    following.append(child)
        level = following
        columns += level
    return np.stack(columns, axis=1)


def _placed(records: list[tuple] | None, around: np.ndarray) -> list[tuple] | None:
    """New records whose operands on the tape are told by their columns."""
    if records is None:
        return None
    column = {int(record): k for k, record in reversed([*enumerate(around)])}
    column.setdefault(0, 0)  # of what has no such operand, since none is an operand of itself
    return [
        (code, *(column[one] if one >= 0 else one for one in operands), value)
        for code, *operands, value in records
    ]


def _moved(record: tuple, around: np.ndarray) -> tuple:
    code, a, b, value = record
    return code, *(int(around[one]) if one > 0 else one for one in (a, b)), value


def _codes(tape: Tape, entries) -> list[int]:
    return [FIRST + k for k, entry in enumerate(tape.primitives) if entry in entries]


def _candidates(tape: Tape) -> list[int]:
    """The products and powers that have a length near."""
    near = np.isin(tape.codes, _codes(tape, _KINKS))
    if not near.any():
        return []
    is_zero = bool((near & (tape.values == 0)).any())
    scaling = np.isin(tape.codes, _codes(tape, (p.multiply, p.divide, p.negative)))
    for _ in range(NEAR):
        near |= scaling & (near[tape.first] | near[tape.second])
    product = np.isin(tape.codes, _codes(tape, (p.multiply, p.power)))
    found = np.flatnonzero(product & (near[tape.first] | near[tape.second]))
    return found[: MOST_RECORDS if is_zero or found.size <= FEW_RECORDS else 0].tolist()


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
