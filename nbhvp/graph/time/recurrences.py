"""Loops over time as scans: from a graph of all steps to one of the steps once.

`rolled` finds the loops among the operations of a trace (`periods`) and puts a scan (`table/scan`) in
the place of each that is a recurrence (`rewriting`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node, reachable
from nbhvp.graph.time.log import STEP_VALUE, Log
from nbhvp.graph.time.periods import longest
from nbhvp.graph.time.rewriting import MOST_READS, Guards, Recurrence, Rewrite

__all__ = ["LEAST", "Recurrence", "rolled"]

LEAST = 50
"""Operations of all steps: fewer compile as fast written out (measured: 8 steps of 4 as fast, 12 of 4 slower)."""
MOST_LOOPS = 8


def rolled(outputs: Sequence[Node], guards: Guards, log: Log | None = None) -> _Rolled:
    """Outputs and guards with scans in the place of loops, and what these are."""
    whole = _tried(list(outputs), list(guards), log, None)
    # What one loop gives in each step, another one may take: both are found, or none.
    if _is_read_often(reachable([*whole[0], *(node for node, _ in whole[1])])):
        return _tried(list(outputs), list(guards), log, MOST_READS)
    return whole


_Rolled = tuple[list[Node], list[tuple[Node, np.ndarray]], tuple["Recurrence", ...]]


def _is_read_often(nodes: Sequence[Node]) -> bool:
    """Whether single steps of a scan are read, more of them than are worth an array."""
    counts: Counter[Node] = Counter()
    for node in nodes:
        if node.primitive is p.slice_ and node.params["size"][0] == 1:
            base = node.args[0]
            while base.primitive in (p.slice_, p.reshape):
                (base,) = base.args
            counts[base] += base.primitive.body is not None
    return any(count > MOST_READS + 1 for count in counts.values())


def _tried(outputs: list[Node], guards: list, log: Log | None, most: int | None) -> _Rolled:
    """The same, with so many single values of steps used elsewhere at most."""
    found: list[Recurrence] = []
    places: dict[Node, int] = {}
    for run in reversed(log.runs) if log is not None else ():
        nodes = _in_order([*outputs, *(node for node, _ in guards)], places)
        used = [node for node in nodes if node in run.loop.where]
        if not used:
            continue
        rewrite = Rewrite(run.loop, nodes, outputs, guards, most)
        scanned = rewrite.made(places) if all(map(_is_known, nodes)) else None
        if scanned:
            outputs, guards, one = scanned
            found.append(one)
        else:
            assert log is not None
            places.update((node, node.index) for node in log.expand(used))
    while len(found) < MOST_LOOPS:
        nodes = _in_order([*outputs, *(node for node, _ in guards)], places)
        if len(nodes) < LEAST or any(not _is_known(node) for node in nodes):
            break
        loop = longest(nodes, LEAST)
        made = loop and Rewrite(loop, nodes, outputs, guards, most).made(places)
        if not made:
            break
        outputs, guards, one = made
        found.append(one)
    return outputs, guards, tuple(found)


def _in_order(roots: Iterable[Node], places: dict[Node, int]) -> list[Node]:
    """The nodes behind some, each where it was asked for first, before loops became nodes."""
    nodes = reachable(roots)
    if not places:
        places.update((node, node.index) for node in nodes)
        return nodes
    for node in nodes:
        before = max((places[arg] for arg in node.args), default=0)
        places[node] = max(places.get(node, before), before)
    return sorted(nodes, key=lambda node: (places[node], node.index))


def _is_known(node: Node) -> bool:
    """Whether a node may be made again from other arguments: not so the user's own functions."""
    if not node.args or node.primitive is STEP_VALUE:
        return True
    return node.primitive.body is not None or p.TABLE.get(node.primitive.name) is node.primitive
