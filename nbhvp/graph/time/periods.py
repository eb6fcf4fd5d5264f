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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import PLAIN, Node
from nbhvp.graph.requests import Request, settled

__all__ = [
    "FEWEST",
    "Carried",
    "Constants",
    "Loop",
    "Numbers",
    "Operand",
    "Slices",
    "carried",
    "is_plain",
    "leaf_of",
    "longest",
    "sought",
    "writes",
]

FEWEST = 8
"""Steps of a loop."""
MOST_LAG = 3
"""Steps back from which a step may take values."""
SAMPLE = 1 << 16
"""Operations from which candidates for a period are taken."""
_WINDOWS = (4, 16, 64)
_MOST_CANDIDATES = 8
_MULTIPLES = range(2, 7)
MORE = 1.25
"""How many times as many operations several steps as one must have, to be one."""
NEARLY = 0.9
"""The part of a sequence that a loop has for others not to be sought."""


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
    key: tuple
    """What it has in common with those of other steps."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """An operand that is another plain number in each step."""

    values: np.ndarray


class Leaf(NamedTuple):
    """A slice of data, or a view of one."""

    key: tuple
    """Of what it is a slice, and how large; with the views."""
    start: tuple[int, ...]
    first: Node
    """The first request for the same."""


Operand = Node | Carried | Constants | Numbers | Slices


@dataclass(frozen=True, eq=False)
class Loop:
    """Steps of equal structure."""

    length: int
    step: tuple[Node, ...]
    """The operations of the first step, in order."""
    where: dict[Node, tuple[int, int]]
    """The step and the place in it of each operation, of those at least that are used elsewhere."""
    operands: tuple[tuple[Operand, ...], ...]
    """Of each operation of a step; a node is an invariant."""
    starts: dict[tuple[int, int], Node]
    """By place and lag: what an operation was so many steps before the first one."""

    @property
    def period(self) -> int:
        return len(self.operands)


@dataclass(eq=False)
class _Sequence:
    """The operations of some nodes in order, without what only reads data or collects results."""

    nodes: Sequence[Node]
    leaves: dict[Node, Leaf] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._find_leaves()
        left = self.leaves.keys() | writes(self.nodes)
        self.operations = [n for n in self.nodes if n.args and not is_plain(n) and n not in left]
        self.place = {node: k for k, node in enumerate(self.operations)}
        numbers: dict[tuple, int] = {}
        self.kinds = np.array(
            [numbers.setdefault(_kind(node), len(numbers)) for node in self.operations], np.int64
        )
        self._codes: dict[object, int] = {}
        self.table = np.full((len(self.operations), _COLUMNS), -1)
        """What each operation takes: the place of another one, or a negative number."""
        self._long: dict[int, list[int]] = {}
        """The same of those that take more."""
        rows: list[list[int]] = []
        for k, node in enumerate(self.operations):
            row = [self._code(arg) for arg in node.args]
            if len(row) > _COLUMNS:
                self._long[k] = row
            rows.append((row + _BLANK)[:_COLUMNS])
        if rows:
            self.table = np.array(rows, np.int64)

    def _code(self, node: Node) -> int:
        """A place, or a number that values have in common which may be another one in each step."""
        at = self.place.get(node)
        if at is not None:
            return at
        key: object = node
        if is_plain(node):
            key = node.shape, node.dtype
        elif node in self.leaves:
            key = self.leaves[node].key
        return self._codes.setdefault(key, -2 - len(self._codes))

    def _find_leaves(self) -> None:
        slices = [n for n in self.nodes if n.primitive is p.slice_]
        base_of = _originals(self.nodes) if any(n.args[0].args for n in slices) else {}
        counts = Counter(base_of.get(n.args[0], n.args[0]) for n in slices)
        starts: dict[Node, set[tuple]] = defaultdict(set)
        for n in slices:
            starts[base_of.get(n.args[0], n.args[0])].add(tuple(n.params["start"]))
        moving = {base for base, some in starts.items() if len(some) > 1}
        often = [node for node, count in counts.items() if count >= FEWEST]
        alike = Counter(_kind(node) for node in often)
        data = {n for n in often if n.args and alike[_kind(n)] < FEWEST and n in moving}
        data |= {n for n in counts if not n.args or n.primitive.body is not None}
        first: dict[tuple, Node] = {}
        for node in self.nodes:
            if node.primitive is p.slice_:
                base = base_of.get(node.args[0], node.args[0])
                if base not in data:
                    continue
                params = node.params
                key, start = (base, params["step"], params["size"]), tuple(params["start"])
            elif node.primitive is p.reshape and node.args[0] in self.leaves:
                below = self.leaves[node.args[0]]
                key, start = (*below.key, node.shape), below.start
            else:
                continue
            self.leaves[node] = Leaf(key, start, first.setdefault((key, start), node))

    def __len__(self) -> int:
        return len(self.operations)

    def size(self, k: int) -> int:
        """The elements of the result of an operation."""
        return self.operations[k].size

    def args(self, k: int) -> Sequence[int]:
        """What an operation takes, as numbers."""
        return self._long.get(k) or self.table[k, : len(self.operations[k].args)].tolist()

    def repeats(self, period: int) -> np.ndarray:
        """Whether each operation from the second period on repeats the one a period before."""
        now, before = self.table[period:], self.table[:-period]
        moved = now - before
        same = ((moved == 0) | ((moved == period) & (before >= 0))).all(axis=1)
        same &= self.kinds[period:] == self.kinds[:-period]
        for k, row in self._long.items():
            if k >= period and same[k - period]:
                pairs = zip(row, self._long[k - period], strict=True)
                same[k - period] = all(a == b or (a - b == period and b >= 0) for a, b in pairs)
        return same

    def described(self, period: int, begin: int, length: int) -> Loop | None:
        """The loop that begins somewhere; None if its steps differ."""
        return _described(self, period, begin, length)

    def fixed(self, node: Node) -> int | None:
        """The number of a value that is the same one wherever it has this number."""
        return None if is_plain(node) or node in self.leaves else self._codes.get(node)

    def original(self, node: Node) -> Node:
        """The first of the equal slices of data."""
        leaf = self.leaves.get(node)
        return node if leaf is None else leaf.first

    def column(self, i: int, j: int, begin: int, period: int, length: int) -> np.ndarray:
        """Operand j of operation i of each step."""
        rows = slice(begin + i, begin + i + period * length, period)
        if j < _COLUMNS and len(self.operations[begin + i].args) <= _COLUMNS:
            return self.table[rows, j]
        return np.array([self._long[k][j] for k in range(*rows.indices(rows.stop))], np.int64)


_COLUMNS = 4
_BLANK = [-1] * _COLUMNS


def is_plain(node: Node) -> bool:
    """Whether a value depends on no input."""
    return node.life == PLAIN


def _originals(nodes: Sequence[Node]) -> dict[Node, Node]:
    """For each node the first one that is the same operation of the same values."""
    first: dict[tuple, Node] = {}
    found: dict[Node, Node] = {}
    for node in nodes:
        key = (_kind(node), *(found[arg] for arg in node.args)) if node.args else (node,)
        found[node] = first.setdefault(key, node)
    return found


def writes(nodes: Sequence[Node]) -> set[Node]:
    """The updates of arrays that are written part by part, as often as a loop has steps.

    An update of the same part in each step is none of them: it is an operation of the step.
    """
    length: dict[Node, int] = {}
    often: Counter[tuple] = Counter()
    for node in nodes:
        if node.primitive is p.update:
            length[node] = length.get(node.args[0], 0) + 1
            often[_kind(node)] += 1
    found: set[Node] = set()
    for node in reversed(nodes):
        if node not in length or often[_kind(node)] >= FEWEST:
            continue
        if length[node] >= FEWEST or node in found:
            found.add(node)
            if node.args[0] in length and often[_kind(node.args[0])] < FEWEST:
                found.add(node.args[0])
    return found


def _kind(node: Node) -> tuple:
    if type(node) is Request:
        kind: tuple = (node.kind,)
    else:
        params = tuple(sorted(node.params.items())) if node.args else ()
        args = tuple((arg.shape, arg.dtype) for arg in node.args)
        kind = (node.primitive, node.shape, node.dtype, args, params)
    if node.primitive.exact:
        exponent = p.scalar_value(node.args[1])
        kind += (exponent if exponent in node.primitive.exact else None,)
    return kind


def _alike(a: Node, b: Node) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype


def longest(nodes: Sequence[Node], least: int) -> Loop | None:
    """The loop of most operations among some nodes in order, if it has at least so many."""
    sequence = _Sequence(nodes)
    return sought(sequence, least)


def sought(sequence: Any, least: int) -> Any:
    """The same of a sequence of operations in another form; None or what it has for a loop."""
    if len(sequence) < least:
        return None
    middle = max(0, len(sequence) - SAMPLE) // 2
    candidates = _candidates(sequence.kinds[middle : middle + SAMPLE])
    best = _best(sequence, candidates)
    if best is None or 2 * best[0] < len(sequence):
        # Steps of one form may differ in what they take: stages of one step, two steps in turn.
        more = _best(sequence, (m * period for m in _MULTIPLES for period in candidates[:3]))
        if more is not None and (best is None or more[0] > MORE * best[0]):
            best = more
    return None if best is None else _loop(sequence, *best[1:], least)


def _best(sequence: Any, periods: Iterable[int]) -> tuple[int, int, int, int] | None:
    """The longest run of some periods: its operations in whole steps, its period, where it is."""
    best: tuple[int, int, int, int] | None = None
    for period in periods:
        for start, end in _runs(sequence, period):
            length = (end - start) // period
            if length >= FEWEST - 1 and (best is None or length * period > best[0]):
                best = length * period, period, start, end
        if best is not None and best[0] > NEARLY * len(sequence):
            break
    return best


def _candidates(kinds: np.ndarray) -> list[int]:
    """The commonest distances between equal windows, the smallest first where they are as common."""
    distances: Counter[int] = Counter()
    hashes, width = np.random.default_rng(0).integers(1 << 62, size=kinds.max() + 1)[kinds], 1
    while width < _WINDOWS[-1] and hashes.size > width:
        factor = np.int64(2 * width * 0x9E3779B97F4A7C1 + 1 & (1 << 62) - 1)
        hashes, width = hashes[:-width] * factor + hashes[width:], 2 * width
        if width in _WINDOWS:
            order = np.argsort(hashes, kind="stable")
            is_same = hashes[order[1:]] == hashes[order[:-1]]
            found, counts = np.unique(np.diff(order)[is_same], return_counts=True)
            distances.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
    ranked = sorted(distances, key=lambda period: (-distances[period], period))
    return ranked[:_MOST_CANDIDATES]


def _runs(sequence: Any, period: int) -> Iterator[tuple[int, int]]:
    """Where operations repeat strictly: from the first of the first step to the end of the last."""
    if 0 < period < len(sequence):
        edges = np.flatnonzero(np.diff(np.r_[False, sequence.repeats(period), False]))
        for start, end in edges.reshape(-1, 2).tolist():
            yield start, end + period


def _loop(sequence: Any, period: int, start: int, end: int, least: int) -> Any:
    """The loop of a run, a step earlier if its first step differs in the start of the carry alone."""
    offset = _boundary(sequence, period, start, end)
    first = start + (offset - start) % period
    earliest = start
    while (
        earliest > 0
        and earliest > start - period
        and sequence.kinds[earliest - 1] == sequence.kinds[earliest - 1 + period]
    ):
        earliest -= 1
    for begin in (first - period, first, first + period):
        length = (end - begin) // period
        if begin >= earliest and length >= FEWEST and length * period >= least:
            found = sequence.described(period, begin, length)
            if found is not None:
                return found
    return None


def _boundary(sequence: Any, period: int, start: int, end: int) -> int:
    """The place of the operation, modulo the period, that begins the steps that carry least."""
    rotations = np.arange(period)
    sizes = np.zeros(period)
    lags: dict[int, np.ndarray] = {}
    for k in range(end - period, end):
        for at in sequence.args(k):
            if at >= start:
                lag = (k - rotations) // period - (at - rotations) // period
                known = lags.get(at % period)
                lags[at % period] = lag if known is None else np.maximum(known, lag)
                sizes[at % period] = sequence.size(at)
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
        for j in range(len(steps[0][i].args)):
            codes = sequence.column(i, j, begin, period, length)
            one = _operand(sequence, codes, _Column(steps, i, j), begin, period, starts)
            if one is None:
                return None
            row.append(one)
        operands.append(tuple(row))
    first: dict[tuple[int, int], Node] = {}
    for key, found in starts.items():
        (first[key], *others) = found
        if others or not _alike(first[key], steps[0][key[0]]):
            return None
    where = {node: (t, i) for t, step in enumerate(steps) for i, node in enumerate(step)}
    return Loop(length, steps[0], where, tuple(operands), first)


@dataclass(frozen=True, eq=False)
class _Column:
    """One operand of one operation, in all steps."""

    steps: tuple[tuple[Node, ...], ...]
    i: int
    j: int

    def __getitem__(self, t: int) -> Node:
        return self.steps[t][self.i].args[self.j]

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(step[self.i].args[self.j] for step in self.steps)


def carried(codes: np.ndarray, begin: int, period: int) -> Carried | None:
    """The operation of the loop that an operand is, if it is one, of the same lag in all steps."""
    length = codes.size
    places = codes - begin
    inside = (places >= 0) & (places < length * period)
    if not inside[-1]:
        return None
    step, place = divmod(int(places[-1]), period)
    lag = length - 1 - step
    if lag > MOST_LAG or inside[:lag].any():
        return None
    if (places[lag:] != np.arange(length - lag) * period + place).any():
        return None
    return Carried(place, lag)


def leaf_of(node: Node) -> tuple[tuple, tuple[int, ...]] | None:
    """What a slice has in common with others of its array, through a view of it, and where it starts."""
    views: tuple = ()
    while node.primitive is p.reshape:
        views, (node,) = (node.shape, *views), node.args
    if node.primitive is not p.slice_:
        return None
    return (node.args[0], node.params["step"], node.params["size"], *views), node.params["start"]


def _operand(
    sequence: _Sequence, codes: np.ndarray, column: _Column, begin: int, period: int, starts
) -> Operand | None:
    """What one operand is in all steps; None if it is not the same kind of thing in all of them."""
    one = carried(codes, begin, period)
    if one is not None:
        for t in range(one.lag):
            starts[one.place, one.lag - t].add(sequence.original(column[t]))
        return one
    length = codes.size
    if ((codes >= begin) & (codes < begin + length * period)).any():
        return None
    if (codes != codes[-1]).any():
        return None
    if codes[-1] >= 0 or codes[-1] == sequence.fixed(column[length - 1]):
        return column[0]
    nodes = column.nodes
    if is_plain(nodes[-1]):
        nodes[0].pool.settle(nodes)
        nodes = tuple(map(settled, nodes))
        return nodes[0] if all(node is nodes[0] for node in nodes) else Constants(nodes)
    leaves = [sequence.leaves[node] for node in nodes]
    base = leaves[0].key[0]
    if sequence.place.get(base, -1) >= begin:
        return None
    if all(leaf.start == leaves[0].start for leaf in leaves):
        return leaves[0].first
    return Slices(base, tuple(leaf.start for leaf in leaves), nodes[0], leaves[0].key)
