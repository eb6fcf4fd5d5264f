"""What became of a tape, on the disk: arrays and loops found in it by another process.

To find the structure of a tape takes some hundred times as long as to read what was found. A file is
named by a digest of the tape, of the nodes that it is applied to with all that they depend on, and of the
texts of the package. What is found is made of copies of these nodes, and read back as from the disk: so
it depends on nothing else.

Tapes of which no digest is known, or of more than 64 MB, are looked at each time.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from nbhvp import disk
from nbhvp.graph.copies import alone
from nbhvp.graph.digest import digest
from nbhvp.graph.node import Graph, Node
from nbhvp.graph.packing import Absent, Packed, Writer, packed, unpacked
from nbhvp.graph.table.tape import Tape
from nbhvp.graph.time.recurrences import Recurrence
from nbhvp.version import __version__

__all__ = ["Computed", "rolled"]

MOST = 1 << 21
"""Bytes of a file: larger ones are not kept."""
FOLDERS = "graph", "loops", "plan"
"""Of the package: the modules on which depends what is found."""


@dataclass(frozen=True)
class Computed:
    """The results of a tape as nodes.

    Attributes
    ----------
    outputs : Node
        float64, of shape (m,).
    guards : tuple of pairs
        Nodes that must have these values for the graph to hold.
    classes : int
        The structures of records that became arrays.
    recurrences : tuple of Recurrence
    swept : int
        The operations of sections that are swept.
    reasons : tuple of str
        Why loops among these did not become one node.
    """

    outputs: Node
    guards: tuple[tuple[Node, np.ndarray], ...]
    classes: int = 0
    recurrences: tuple[Recurrence, ...] = ()
    swept: int = 0
    reasons: tuple[str, ...] = ()


def rolled(tape: Tape, inputs: Sequence[Node], points: Sequence[Node]) -> Computed:
    """The results of a tape at the nodes of its inputs, to be differentiated in some points."""
    around = Graph((), (*inputs, *points))
    name = _name(tape, around, len(inputs))
    if name is None:
        return _computed(tape, inputs, points)
    content = disk.read(disk.path_of(name))
    found = None if content is None else _read(content)
    if found is None:
        content = _made(tape, around, len(inputs))
        found = None if content is None else _read(content)
        if content is None or found is None:
            return _computed(tape, inputs, points)
        if len(content) <= MOST:
            disk.write(disk.path_of(name), content)
    rows, values, others = found
    outputs, *guards = unpacked(rows, around.nodes, inputs[0].pool)
    return Computed(outputs, tuple(zip(guards, values, strict=True)), *others)


def _computed(tape: Tape, inputs: Sequence[Node], points: Sequence[Node]) -> Computed:
    # With all that finds arrays and loops in tapes, which needs Numba.
    from nbhvp.loops.sections import computed

    return computed(tape, inputs, points)


def _name(tape: Tape, around: Graph, count: int) -> str | None:
    texts = disk.texts(*FOLDERS) if disk.keeps_plans() else None
    if texts is None:
        return None
    versions = __version__, np.__version__, scipy.__version__
    found = digest(around, texts, str(count), *versions, also=tape)
    return found and f"plan_{found.hex()[:40]}"


def _made(tape: Tape, around: Graph, count: int) -> bytes | None:
    """What is found, written; None where it cannot be."""
    copy = alone(around)
    if len(copy.nodes) != len(around.nodes):
        return None
    inputs, points = copy.outputs[:count], copy.outputs[count:]
    found = _computed(tape, inputs, points)
    nodes, values = zip(*found.guards, strict=True) if found.guards else ((), ())
    rows = packed((found.outputs, *nodes), copy.nodes)
    others = found.classes, found.recurrences, found.swept, found.reasons  # in their order
    written = io.BytesIO()
    try:
        Writer(written, protocol=pickle.HIGHEST_PROTOCOL).dump((rows, values, others))
    except (pickle.PicklingError, TypeError):
        return None
    return written.getvalue()


def _read(content: bytes) -> tuple[Packed, tuple, tuple] | None:
    try:
        return pickle.loads(content)
    except Absent:
        return None
