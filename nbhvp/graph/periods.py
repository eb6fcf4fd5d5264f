"""Periods in the operations of a trace: loops over time that Python has unrolled.

A trace lists the operations of a function in the order in which they were asked for. In a loop over
time, operation k repeats operation k - p, for one p: they have the same primitive, shape, dtype and
parameters, and each pair of their operands is

- the same node (an invariant),
- two operations, one p behind the other (of the same step, or carried from an earlier step),
- two constants of one shape, or two slices of one array (data that move),
- or, where the step before is the first one, an operation of it and any value that came before the
  loop (the start of the carry).

Candidates for p are the commonest distances between equal windows of operations; what is found is
verified pair by pair, so that a loop whose steps differ in anything is none. The time is linear in the
number of operations. The boundary between steps is put where the least is carried.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node

__all__ = ["FEWEST", "Carried", "Constants", "Loop", "Slices", "longest", "writes"]

FEWEST = 8
"""Steps of a loop."""
MOST_LAG = 3
"""Steps back from which a step may take values."""
_WINDOWS = (4, 16, 64)
_MOST_CANDIDATES = 8
_MULTIPLES = range(2, 7)


@dataclass(frozen=True)
class Carried:
    """An operand: operation `place` of the step `lag` steps before; 0 for the same step."""

    place: int
    lag: int


@dataclass(frozen=True)
class Constants:
    """An operand that is another constant in each step."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Slices:
    """An operand that is another slice of an array in each step, behind the same views."""

    base: Node
    starts: tuple[tuple[int, ...], ...]
    like: Node
    """The slice of the first step, with the views of it."""


Operand = Node | Carried | Constants | Slices


@dataclass(frozen=True, eq=False)
class Loop:
    """Steps of equal structure."""

    steps: tuple[tuple[Node, ...], ...]
    """The operations of each step, in order."""
    operands: tuple[tuple[Operand, ...], ...]
    """Of each operation of a step; a node is an invariant."""
    starts: dict[tuple[int, int], Node]
    """By place and lag: what an operation was so many steps before the first one."""

    @property
    def length(self) -> int:
        return len(self.steps)

    @property
    def period(self) -> int:
        return len(self.operands)


@dataclass(eq=False)
class _Sequence:
    """The operations of some nodes in order, without what only reads data or collects results."""

    nodes: Sequence[Node]
    leaves: dict[Node, tuple] = field(default_factory=dict)
    """What slices of data are slices of, with their views, and where they start."""

    def __post_init__(self) -> None:
        self._find_leaves()
        left = self.leaves.keys() | writes(self.nodes)
        self.operations = [n for n in self.nodes if n.args and n not in left]
        self.place = {node: k for k, node in enumerate(self.operations)}
        kinds: dict[tuple, int] = {}
        self.kinds = [kinds.setdefault(_kind(node), len(kinds)) for node in self.operations]

    def _find_leaves(self) -> None:
        counts = Counter(n.args[0] for n in self.nodes if n.primitive is p.slice_)
        often = [node for node, count in counts.items() if count >= FEWEST]
        alike = Counter(_kind(node) for node in often)
        data = {n for n in often if n.args and alike[_kind(n)] < FEWEST}
        data |= {n for n in counts if not n.args or n.primitive.body is not None}
        for node in self.nodes:
            if node.primitive is p.slice_ and node.args[0] in data:
                params = node.params
                key = (node.args[0], params["step"], params["size"])
                self.leaves[node] = key, tuple(params["start"])
            elif node.primitive is p.reshape and node.args[0] in self.leaves:
                key, start = self.leaves[node.args[0]]
                self.leaves[node] = (*key, node.shape), start

    def repeats(self, k: int, period: int) -> bool:
        """Whether operation k repeats the one a period before."""
        if self.kinds[k] != self.kinds[k - period]:
            return False
        pairs = zip(self.args(k), self.args(k - period), strict=True)
        return all(a is b or self._follows(a, b, period) for a, b in pairs)

    def args(self, k: int) -> tuple[Node, ...]:
        return self.operations[k].args

    def _follows(self, a: Node, b: Node, period: int) -> bool:
        at = self.place.get(a)
        if at is not None:
            return at - self.place.get(b, at) == period
        return self.moves(a, b)

    def moves(self, a: Node, b: Node) -> bool:
        """Whether both are constants of one shape, or slices of one array."""
        if a.value is not None and b.value is not None:
            return _alike(a, b)
        return a in self.leaves and b in self.leaves and self.leaves[a][0] == self.leaves[b][0]


def writes(nodes: Sequence[Node]) -> set[Node]:
    """The updates of arrays that are written part by part, as often as a loop has steps."""
    length: dict[Node, int] = {}
    for node in nodes:
        if node.primitive is p.update:
            length[node] = length.get(node.args[0], 0) + 1
    found: set[Node] = set()
    for node in reversed(nodes):
        if node in length and (length[node] >= FEWEST or node in found):
            found.add(node)
            if node.args[0] in length:
                found.add(node.args[0])
    return found


def _kind(node: Node) -> tuple:
    params = tuple(sorted(node.params.items())) if node.params else ()
    return node.primitive, node.shape, node.dtype, len(node.args), params


def _alike(a: Node, b: Node) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype


def longest(nodes: Sequence[Node], least: int) -> Loop | None:
    """The loop of most operations among some nodes in order, if it has at least so many."""
    sequence = _Sequence(nodes)
    if len(sequence.operations) < least:
        return None
    candidates = _candidates(sequence.kinds)
    best = _best(sequence, candidates)
    if best is None or 2 * best[0] < len(sequence.operations):
        # Steps of one form may differ in what they take: stages of one step, two steps in turn.
        more = (m * period for m in _MULTIPLES for period in candidates[:3])
        best = max(filter(None, (best, _best(sequence, more))), default=None)
    return None if best is None else _loop(sequence, *best[1:], least)


def _best(sequence: _Sequence, periods: Iterable[int]) -> tuple[int, int, int, int] | None:
    """The longest run of some periods: its operations in whole steps, its period, where it is."""
    best: tuple[int, int, int, int] | None = None
    for period in periods:
        for start, end in _runs(sequence, period):
            length = (end - start) // period
            if length >= FEWEST - 1 and (best is None or length * period > best[0]):
                best = length * period, period, start, end
    return best


def _candidates(kinds: list[int]) -> list[int]:
    """The commonest distances between equal windows, the smallest first where they are as common."""
    distances: Counter[int] = Counter()
    for width in _WINDOWS:
        last: dict[tuple, int] = {}
        for k in range(len(kinds) - width + 1):
            window = tuple(kinds[k : k + width])
            if window in last:
                distances[k - last[window]] += 1
            last[window] = k
    return [period for period, _ in distances.most_common(_MOST_CANDIDATES)]


def _runs(sequence: _Sequence, period: int):
    """Where operations repeat strictly: from the first of the first step to the end of the last."""
    count, start = len(sequence.operations), None
    for k in range(period, count + 1):
        if k < count and sequence.repeats(k, period):
            start = k if start is None else start
        elif start is not None:
            yield start - period, k
            start = None


def _loop(sequence: _Sequence, period: int, start: int, end: int, least: int) -> Loop | None:
    """The loop of a run, a step earlier if its first step differs in the start of the carry alone."""
    offset = _boundary(sequence, period, start, end)
    first = start + (offset - start) % period
    earliest = start
    while (
        earliest > 0
        and earliest > start - period
        and (sequence.kinds[earliest - 1] == sequence.kinds[earliest - 1 + period])
    ):
        earliest -= 1
    for begin in (first - period, first, first + period):
        length = (end - begin) // period
        if begin >= earliest and length >= FEWEST and length * period >= least:
            found = _described(sequence, period, begin, length)
            if found is not None:
                return found
    return None


def _boundary(sequence: _Sequence, period: int, start: int, end: int) -> int:
    """The place of the operation, modulo the period, that begins the steps that carry least."""
    rotations = np.arange(period)
    sizes = np.zeros(period)
    lags: dict[int, np.ndarray] = {}
    for k in range(end - period, end):
        for arg in sequence.args(k):
            at = sequence.place.get(arg)
            if at is not None and at >= start:
                lag = (k - rotations) // period - (at - rotations) // period
                known = lags.get(at % period)
                lags[at % period] = lag if known is None else np.maximum(known, lag)
                sizes[at % period] = arg.size
    total = sum((lag * sizes[k] for k, lag in lags.items()), np.zeros(period))
    # Of equal ones the first that the run has whole.
    order = np.argsort((rotations - start) % period, kind="stable")
    return int(order[np.argmin(total[order])])


def _described(sequence: _Sequence, period: int, begin: int, length: int) -> Loop | None:
    """The loop that begins somewhere; None if its steps differ."""
    steps = tuple(
        tuple(sequence.operations[begin + t * period : begin + (t + 1) * period])
        for t in range(length)
    )
    operands: list[tuple[Operand, ...]] = []
    starts: dict[tuple[int, int], set[Node]] = defaultdict(set)
    for i in range(period):
        row: list[Operand] = []
        for column in zip(*(step[i].args for step in steps), strict=True):
            one = _operand(sequence, column, begin, period, starts)
            if one is None:
                return None
            row.append(one)
        operands.append(tuple(row))
    first: dict[tuple[int, int], Node] = {}
    for key, found in starts.items():
        (first[key], *others) = found
        if others or not _alike(first[key], steps[0][key[0]]):
            return None
    return Loop(steps, tuple(operands), first)


def _operand(
    sequence: _Sequence, column: tuple[Node, ...], begin: int, period: int, starts
) -> Operand | None:
    """What one operand is in all steps; None if it is not the same kind of thing in all of them."""
    length, last = len(column), column[-1]
    places = [sequence.place.get(node, -1) - begin for node in column]
    inside = [0 <= place < length * period for place in places]
    if inside[-1]:
        place, lag = places[-1] % period, length - 1 - places[-1] // period
        if lag > MOST_LAG or any(inside[:lag]):
            return None
        if any(places[t] != (t - lag) * period + place for t in range(lag, length)):
            return None
        for t in range(lag):
            starts[place, lag - t].add(column[t])
        return Carried(place, lag)
    if any(inside):
        return None
    if all(node is last for node in column):
        return last
    if not all(sequence.moves(node, last) for node in column):
        return None
    if last.value is not None:
        return Constants(column)
    base = sequence.leaves[last][0][0]
    if sequence.place.get(base, -1) >= begin:
        return None
    return Slices(base, tuple(sequence.leaves[node][1] for node in column), column[0])
