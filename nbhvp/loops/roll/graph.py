"""The roll: from a tape of loops to a graph of array operations.

All records of equal structure form one class (`classes`), and all records of a class become one array
node: the primitive of the class, applied to slices, broadcasts or gathers (`views`) of the arrays of
its operands. Chains of additions become sums over axes, or sums of segments if the numbers of terms
differ. Guards become one comparison per class.

So a loop costs the same as the function in array form, for any order of its iterations. A recurrence
has as many classes as operations: it has no array form and is not rolled.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node, Pool
from nbhvp.graph.primitives import Primitive
from nbhvp.graph.table.tape import Tape
from nbhvp.loops.roll.classes import CONSTANTS, SUM, Classes, Terms, classify
from nbhvp.loops.roll.costs import Costs
from nbhvp.loops.roll.edges import kinds_of, padded_sums, terms_by_kind, turns
from nbhvp.loops.roll.inputs import arranged
from nbhvp.loops.roll.ragged import Product, is_steep, triangle
from nbhvp.loops.roll.views import (
    MOST_COLUMNS,
    MOST_PARTS,
    Read,
    Source,
    distinct,
    grids,
    is_affine,
    patterns,
    read,
)

__all__ = ["MOST_CLASSES", "Rolled", "roll", "rolled"]

MOST_CLASSES = 256
"""A graph of more is slower to compile than it is worth."""
REUSED = 4
"""Periods of ragged sums that share each entry of a matrix, where they are a contraction."""


@dataclass(frozen=True)
class Rolled:
    """A tape as a graph.

    Attributes
    ----------
    outputs : Node
        float64, of shape (m,): the outputs of the tape in their order.
    guards : tuple of pairs
        Nodes that must have these values for the graph to hold.
    operations : int
        The records that outputs or guards need.
    classes : int
        The structures that these have: array operations of the graph.
    slices, gathers, sums : int
        How many operands of classes are views, and how many are read through an index; how many
        classes are sums.
    """

    outputs: Node
    guards: tuple[tuple[Node, np.ndarray], ...]
    operations: int
    classes: int
    slices: int
    gathers: int
    sums: int


def roll(
    tape: Tape,
    inputs: Sequence[Node],
    most_classes: int = MOST_CLASSES,
    costs: Costs | None = None,
) -> Rolled | None:
    """The graph of a tape; None if its operations have too many structures, or a sweep costs less.

    Parameters
    ----------
    tape : Tape
    inputs : sequence of Node
        One for each input of the tape, of its size and any shape, all of one pool.
    most_classes : int
        The bound on structures. Recurrences, where each step has one of its own, go beyond any.
    costs : Costs, optional
        The machine that decides between the graph and a sweep over the tape.
    """
    if not inputs:
        return None
    classes = classify(tape, most_classes)
    return None if classes is None else rolled(classes, inputs, costs)


def rolled(classes: Classes, inputs: Sequence[Node], costs: Costs | None = None) -> Rolled | None:
    """The graph of the classes of a tape; see `roll`."""
    sizes = np.diff(classes.starts)
    if costs is not None and costs.prefers_sweep(sizes[sizes > 0]):
        return None
    return _Roll(inputs, classes).rolled()


@dataclass(frozen=True)
class _Application:
    """A primitive of operands, over a grid of instances."""

    entry: Primitive
    operands: list
    """Of each: numbers, or a source and positions in it."""
    shape: tuple[int, ...]
    reads: list[Read]
    """Of those operands that are no numbers."""
    cuts: Sequence[int] = ()
    """Where its parts begin, and the last one ends, if it has been sorted by kinds."""

    @property
    def cost(self) -> float:
        return sum(one.cost for one in self.reads)


class _Roll:
    """The graph as it is built, class by class."""

    def __init__(self, inputs: Sequence[Node], classes: Classes):
        self.tape = tape = classes.tape
        self.pool: Pool = inputs[0].pool
        self.classes = classes
        _, self.first, self.second, self.values, *_ = classes.records
        self.sources: dict[int, Source] = {}
        for k, node in enumerate(inputs, start=1):
            shape = node.shape or (1,)
            node = p.reshape(p.cast(node, dtype=np.dtype(np.float64)), shape=shape)
            self.sources[k] = Source(shape, node)
        self.guards: list[tuple[Node, np.ndarray]] = []
        self._members: dict[int, np.ndarray] = {}
        """Of classes where instances with equal operands are one: one record of each."""
        self._alike: dict[int, list[int]] = {}
        """Of these: the classes that have the same array."""
        self._applications: dict[int, _Application] = {}
        """Classes that have been laid out, and are not made yet."""
        self._may_part = not tape.guards.codes.size
        """Where branches decide which instances there are, all outcomes should have one text."""
        self.sums = 0
        self.views = self.gathers = 0

    def rolled(self) -> Rolled:
        classes = self.classes
        needed = [k for k in range(classes.inputs + 1, classes.codes.size) if classes.size(k)]
        self._arrange(needed)
        for k in needed:
            if classes.codes[k] == SUM:
                self.sources[k] = self._sum(k)
            elif k not in self.sources:
                if k not in self._applications:
                    self._merge(self.classes.structure(k))
                one = self._applications.pop(k)
                if k not in self._members:
                    one = self._in_turn(k, one)
                if classes.members_of(k)[0] >= classes.records.count:
                    self.sources[k] = self._operation(one)
                    self._guard(self.sources[k], self.values[self._members_of(k)])
                elif not self._together(k, one):
                    self.sources[k] = self._operation(one)
                for j in self._alike.get(k, ()):
                    self.sources[j] = self.sources[k]
        return Rolled(
            self._outputs(), tuple(self.guards), classes.members.size, len(needed),
            self.views, self.gathers, self.sums,
        )  # fmt: skip

    def _arrange(self, needed: list[int]) -> None:
        """Give inputs the grids over which they are read."""
        indices: dict[int, list[np.ndarray]] = {k: [] for k in self.sources}
        for k in sorted(needed, key=self.classes.size, reverse=True):
            if self.classes.codes[k] == SUM:
                for of, index in self._kinds_of_terms(k):
                    indices[of].append(index)
                continue
            members = self.classes.members_of(k)
            entry = self.tape.primitive(self.classes.codes[k])
            for column in (self.first, self.second)[: entry.arity]:
                of = int(self.classes.of[column[members[0]]])
                if of in indices:
                    indices[of].append(self.classes.places[column[members]].astype(np.int64))
        for k, some in indices.items():
            self.sources[k] = arranged(self.sources[k], some, self._may_part)

    def _kinds_of_terms(self, k: int) -> Iterator[tuple[int, np.ndarray]]:
        """Where inputs are read by terms of a family of sums, kind by kind."""
        if not self._may_part or not self.classes.is_family(k):
            return
        for group in self.classes.terms_of(k)[0]:
            if group.of <= self.classes.inputs and not group.uniform:
                places = group.places.astype(np.int64)
                yield from ((group.of, places[one]) for one in terms_by_kind(places, group.counts))

    def _operands(self, k: int, members: np.ndarray | None = None) -> tuple[Primitive, list]:
        """The primitive of a class, and what its instances read, or some members of it."""
        entry = self.tape.primitive(self.classes.codes[k])
        members = self._members_of(k) if members is None else members
        columns = (self.first, self.second)[: entry.arity]
        return entry, [self._operand(column[members]) for column in columns]

    def _members_of(self, k: int) -> np.ndarray:
        return self._members.get(k, self.classes.members_of(k))

    def _merge(self, family: list[int]) -> None:
        """Let instances with equal operands be one, where that leaves half of them or fewer.

        Loops compute again, in each iteration, what depends on an outer index alone. They do so in
        several places: classes of one structure that have most instances in common are one array.
        """
        for k in family:
            self._applications[k] = self._laid_out(*self._operands(k))
        for k in family:
            is_gathered = any(found.gathers for found in self._applications[k].reads)
            if k in self._members or not is_gathered:
                continue
            members = self.classes.members_of(k)
            first, places = self._distinct(k, members)
            if not first.size:
                continue
            alike = [k]
            for j in family:
                if j == k or j in self._members or not self._have_same_sources(j, k):
                    continue
                own = self.classes.members_of(j)
                both = np.sort(np.concatenate((members, own)))
                found = self._distinct(k, both)
                apart = first.size + (self._distinct(j, own)[0].size or own.size) / 2
                if 0 < found[0].size <= apart:
                    members, (first, places) = both, found
                    alike.append(j)
            self.classes.places[members] = places
            for j in alike:
                self._members[j], self._alike[j] = members[first], alike
            one = self._laid_out(*self._operands(k))
            self._applications |= dict.fromkeys(alike, one)

    def _have_same_sources(self, j: int, k: int) -> bool:
        reads = [_reads(self._applications[one].operands) for one in (j, k)]
        return all(a is b for (a, _), (b, _) in zip(*reads, strict=True))

    def _distinct(self, k: int, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where equal operands come first in some members of a class, and which each one has."""
        _, operands = self._operands(k, members)
        keys = [a[1] if isinstance(a, tuple) else a.view(np.int64) for a in operands]
        return distinct(keys[0], keys[-1])

    def _laid_out(self, entry: Primitive, operands: list) -> _Application:
        """A primitive of operands over the grid of instances over which these are read best."""
        count = len(operands[0][1] if isinstance(operands[0], tuple) else operands[0])
        return _Application(entry, operands, *_best(_reads(operands), count))

    def _operation(self, one: _Application) -> Source:
        """All instances of a class of operations."""
        cuts = one.cuts or self._cuts(one)
        if not cuts:
            return self._applied(one)
        pieces = [[_between(a, *ends) for a in one.operands] for ends in pairwise(cuts)]
        parts = [self._applied(self._laid_out(one.entry, some)) for some in pieces]
        return Source((cuts[-1],), parts=tuple(parts))

    def _cuts(self, one: _Application) -> list[int]:
        """Where the parts of a class begin, and the last one ends; nothing if it is one array."""
        reads, size = _reads(one.operands), math.prod(one.shape)
        inner = {at for source, index in reads for at in source.crossings(index)}
        if inner:
            return [0, *sorted(inner), size] if len(inner) < MOST_PARTS else []
        if not self._may_part or not any(found.gathers for found in one.reads):
            return []
        cuts = patterns([index for _, index in reads])
        cost = sum(
            sum(found.cost for found in apart) * (end - start) / size
            for (start, end), apart in zip(pairwise(cuts), self._read_apart(one, cuts), strict=True)
        )
        return cuts if len(cuts) > 2 and cost < one.cost / 2 else []

    def _in_turn(self, k: int, one: _Application) -> _Application:
        """Sort instances of a few kinds that alternate, so that each kind is a part of the class."""
        reads = _reads(one.operands)
        is_gathered = any(found.gathers for found in one.reads)
        if not (self._may_part and is_gathered) or self._cuts(one):
            return one
        keys = turns(reads)
        if not kinds_of(keys):
            return one
        order = np.argsort(keys, kind="stable")
        members = self.classes.members_of(k)[order]
        turned = self._laid_out(*self._operands(k, members))
        cuts = [0, *(1 + np.flatnonzero(np.diff(keys[order]))).tolist(), order.size]
        if any(found.gathers for apart in self._read_apart(turned, cuts) for found in apart):
            return one
        self._members[k] = members
        self.classes.places[members] = np.arange(members.size)
        return replace(turned, cuts=cuts)

    def _read_apart(self, one: _Application, cuts: list[int]) -> Iterator[list[Read]]:
        """The reads of a class, part by part."""
        for start, end in pairwise(cuts):
            yield _best([_between(a, start, end) for a in _reads(one.operands)], end - start)[1]

    def _together(self, k: int, one: _Application) -> bool:
        """Make classes of one structure columns of one array, as the coordinates of points are.

        Where each would be gathered by itself, rows of all of them are less to gather.
        """
        size = self.classes.size(k)
        family = [j for j in self.classes.structure(k) if self.classes.size(j) == size]
        if not 1 < len(family) <= MOST_COLUMNS or k in self._members:
            return False
        if not any(found.gathers for found in one.reads) or self._cuts(one):
            return False
        operands = {j: self._operands(j)[1] for j in family}
        at = next(at for at, a in enumerate(one.operands) if isinstance(a, tuple))
        family.sort(key=lambda j: int(operands[j][at][1][0]))
        if any(_count(a) != size for j in family for a in operands[j]):
            return False  # some are computed once for several instances
        rows = [_interleaved([operands[j][at] for j in family]) for at in range(len(one.operands))]
        if any(row is None for row in rows):
            return False
        shape = (size, len(family))
        whole = _Application(one.entry, rows, shape, [read(*a, shape) for a in _reads(rows)])
        if whole.cost >= one.cost:
            return False
        source = self._applied(whole)
        for column, j in enumerate(family):
            index = np.arange(column, size * len(family), len(family))
            self.sources[j] = self._source(read(source, index, shape[:1]).make(), shape[:1])
        return True

    def _applied(self, one: _Application) -> Source:
        """A primitive of operands over a grid, column by column where they are read like that."""
        shape = one.shape
        if any(found.columns for found in one.reads):
            columns = []
            for k in range(shape[-1]):
                some = [_column(a, k, shape[-1]) for a in one.operands]
                reads = [read(*a, shape[:-1]) for a in _reads(some)]
                columns.append(self._applied(_Application(one.entry, some, shape[:-1], reads)))
            return Source(shape, columns=tuple(columns))
        made = iter(one.reads)
        args = [
            self._made(next(made)) if isinstance(a, tuple) else self._constant(a, shape)
            for a in one.operands
        ]
        return self._source(one.entry(*args), shape)

    def _operand(self, records: np.ndarray) -> np.ndarray | tuple[Source, np.ndarray]:
        """What instances read: numbers, or positions in another class."""
        of = int(self.classes.of[records[0]])
        if of == CONSTANTS:
            return self.values[records]
        return self.sources[of].around(self.classes.places[records].astype(np.int64))

    def _source(self, node: Node, shape: tuple[int, ...]) -> Source:
        missing = len(shape) - node.ndim
        return Source(shape, p.reshape(node, shape=(*(1,) * missing, *node.shape)))

    def _made(self, found: Read) -> Node:
        self.views += found.gathers == 0
        self.gathers += found.gathers
        return found.make()

    def _constant(self, values: np.ndarray, shape: tuple[int, ...]) -> Node:
        """Numbers, without the axes along which they do not change."""
        bits = values.view(np.int64).reshape(shape)
        for axis in range(len(shape)):
            one = bits.take([0], axis)
            if (bits == one).all():
                bits = one
        if bits.size == 1:
            return p.constant(self.pool, bits.reshape(()).view(np.float64)[()])
        return p.constant(self.pool, np.ascontiguousarray(bits).view(np.float64))

    def _guard(self, found: Source, outcomes: np.ndarray) -> None:
        node = found.whole() if found.columns else found.node
        expected = self._constant(outcomes, found.shape)
        if node.dtype.kind == "b":
            expected = p.cast(expected, dtype=node.dtype)
        node = p.all_(p.equal(node, expected))
        self.guards.append((node, np.asarray(True)))

    # Sums.

    def _sum(self, k: int) -> Source:
        """All instances of a class of sums."""
        self.sums += 1
        groups, constants = self.classes.terms_of(k)
        count = constants.size
        total, shape, groups = self._triangle(k, groups)
        padded = {
            (one.of, one.sign): node for one in groups if (node := self._padded(one)) is not None
        }
        if total is None and padded:
            shape = next(iter(padded.values())).shape
        elif total is None:
            shape = _sum_shape(
                [(self.sources[g.of], g.places, g.uniform) for g in groups if g.uniform], count
            )
        for group in groups:
            pad = padded.get((group.of, group.sign))
            node = self._group(group, shape, count) if pad is None else p.reshape(pad, shape=shape)
            if total is None:
                total = node if group.sign > 0 else -node
            else:
                total = total + node if group.sign > 0 else total - node
        if constants.any():
            total = total + self._constant(constants, shape)
        return self._source(total, shape)

    def _triangle(
        self, k: int, groups: list[Terms]
    ) -> tuple[Node | None, tuple[int, ...], list[Terms]]:
        """The products of a ragged sum that are one contraction, its shape, and all other terms."""
        nothing = None, (), groups
        if all(one.uniform for one in groups):
            return nothing
        if not np.isfinite(self.values[self.classes.members_of(k)]).all():
            return nothing
        found = triangle([self._product(one) for one in groups])
        if found is None or is_steep(found.entries[0].data.whole()):
            return nothing
        grid, _ = _best(found.reads, found.periods)
        matrix, data = found.factors(grid)
        if REUSED * matrix.size > math.prod(grid) * math.prod(matrix.shape[-2:]):
            return nothing
        self.gathers += len(found.members)
        shape = (*grid, found.rows)
        total = _summed(p.multiply(matrix, data), shape, (*shape, matrix.shape[-1]))
        total = total if found.entries[0].sign > 0 else -total
        self.guards.append((p.all_(p.isfinite(total)), np.asarray(True)))
        rest = [one for at, one in enumerate(groups) if at not in found.members]
        return total, shape, rest

    def _product(self, group: Terms) -> Product | None:
        """The factors of terms that are products of two arrays."""
        k = group.of
        if k <= self.classes.inputs or self.classes.codes[k] == SUM:
            return None
        entry, operands = self._operands(k)
        if entry is not p.multiply or len(_reads(operands)) < 2:
            return None
        places = group.places.astype(np.int64)
        factors = tuple((source, index[places]) for source, index in operands)
        return Product(group.sign, factors, group.counts)

    def _padded(self, group: Terms) -> Node | None:
        """Terms that are fewer in some sums, as arrays that are padded with zeros, if they are few."""
        if group.uniform or group.counts.size == 1 or not self._may_part:
            return None
        return padded_sums(self.sources[group.of], group.places.astype(np.int64), group.counts)

    def _group(self, group: Terms, shape: tuple[int, ...], count: int) -> Node:
        """What the terms of one class and sign add to each sum."""
        source, places = self.sources[group.of], group.places.astype(np.int64)
        if count == 1:
            return self._total(source, places)
        if not group.uniform:
            return p.reshape(self._segments(source, places, group.counts), shape=shape)
        each = group.uniform
        fitting = [
            s for s in _shapes([(source, places)], places.size) if _inner(s, each) is not None
        ]
        inner = dict.fromkeys([*(_inner(s, each) for s in fitting), (each,)])
        if each == 1:
            return self._made(read(source, places, shape))
        found = {one: read(source, places, (*shape, *one)) for one in inner}
        best = min(found, key=lambda one: found[one].cost)
        if each <= MOST_COLUMNS:
            columns = [read(*_column((source, places), j, each), shape) for j in range(each)]
            if sum(one.cost for one in columns) < each * found[best].cost:
                return sum_of([self._made(one) for one in columns])
        return _summed(self._made(found[best]), shape, (*shape, *best))

    def _total(self, source: Source, places: np.ndarray) -> Node:
        """The sum of all terms of one class, part by part."""
        cuts = [0, *source.crossings(places), places.size]
        if 2 < len(cuts) <= MOST_PARTS + 1:
            parts = [source.around(places[a:b]) for a, b in pairwise(cuts)]
            return sum_of([self._total(*part) for part in parts])
        shape, (terms,) = _best([(source, places)], places.size)
        return _summed(self._made(terms), (), shape)

    def _segments(self, source: Source, places: np.ndarray, counts: np.ndarray) -> Node:
        """Sums of numbers of terms that differ."""
        flat = (places.size,)
        terms = read(source, places, flat)
        if terms.gathers:
            layers = _layers(places, np.repeat(np.arange(counts.size), counts), source.size)
            if layers:
                self.gathers += len(layers)
                return sum_of([_scattered(source, rows, counts.size) for rows in layers])
        node = p.broadcast(self._made(terms), shape=flat)
        starts = np.concatenate(([0], np.cumsum(counts)))
        return p.segment_sum(node, p.constant(self.pool, starts), axis=0)

    # Results.

    def _outputs(self) -> Node:
        """The outputs in their order: of one class after the other, then in theirs."""
        of = self.classes.of[self.tape.outputs]
        pieces, order = [], []
        for k in np.unique(of):
            at = np.flatnonzero(of == k)
            operand = self._operand(self.tape.outputs[at])
            if isinstance(operand, tuple):
                node = p.broadcast(self._made(read(*operand, at.shape)), shape=at.shape)
            else:
                node = p.constant(self.pool, operand)
            pieces.append(node)
            order.append(at)
        if not pieces:
            return p.constant(self.pool, np.zeros(0))
        together = pieces[0] if len(pieces) == 1 else p.concatenate(*pieces, axis=0)
        places = np.argsort(np.concatenate(order))
        return read(Source(together.shape, together), places, places.shape).make()


def _reads(operands: list) -> list[tuple[Source, np.ndarray]]:
    """Those operands that are no numbers."""
    return [one for one in operands if isinstance(one, tuple)]


def _between(operand, start: int, end: int):
    """An operand at instances from `start` to `end`."""
    if isinstance(operand, tuple):
        source, index = operand
        return source.around(index[start:end])
    return operand[start:end]


def _column(operand, k: int, count: int):
    """An operand at one position of the last axis."""
    if isinstance(operand, tuple):
        source, index = operand
        return source, np.ascontiguousarray(index[k::count])
    return np.ascontiguousarray(operand[k::count])


def _interleaved(operands: list):
    """Operands of classes in turn; None if they are of several sources."""
    if not all(isinstance(one, tuple) for one in operands):
        return None if any(isinstance(one, tuple) for one in operands) else _rows(operands)
    source = operands[0][0]
    same = all(one[0] is source for one in operands)
    return (source, _rows([index for _, index in operands])) if same else None


def _count(operand) -> int:
    """The instances of a class, by one of its operands."""
    return len(operand[1] if isinstance(operand, tuple) else operand)


def _rows(columns: list[np.ndarray]) -> np.ndarray:
    return np.stack(columns, axis=1).ravel()


def sum_of(nodes: Sequence[Node]) -> Node:
    total = nodes[0]
    for node in nodes[1:]:
        total = total + node
    return total


def _layers(places: np.ndarray, rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Where each of `size` terms is added, once or several times; nothing if numbers differ."""
    count, rest = divmod(places.size, size)
    order = np.argsort(places, kind="stable")
    if rest or count > MOST_COLUMNS or (places[order] != np.repeat(np.arange(size), count)).any():
        return []
    return [rows[order[k::count]] for k in range(count)]


def _scattered(source: Source, rows: np.ndarray, size: int) -> Node:
    """The sum of all terms by their rows: whole vectors of terms where they go together.

    Its transpose is one gather.
    """
    whole, width = source.whole(), source.shape[-1]
    if len(source.shape) > 1 and size % width == 0 and rows.size % width == 0:
        vectors = rows.reshape(-1, width)
        first = vectors[:, 0] // width
        if (vectors == first[:, None] * width + np.arange(width)).all():
            terms = p.reshape(whole, shape=(first.size, width))
            index = p.constant(whole.pool, first)
            total = p.scatter_add(terms, index, axis=0, size=size // width)
            return p.reshape(total, shape=(size,))
    terms = p.reshape(whole, shape=(rows.size,))
    return p.scatter_add(terms, p.constant(whole.pool, rows), axis=0, size=size)


# Shapes.


def _best(reads: list[tuple[Source, np.ndarray]], count: int) -> tuple[tuple[int, ...], list[Read]]:
    """The grid of instances over which their reads cost least, and these reads."""
    found = {s: [read(*one, s) for one in reads] for s in _refined(_shapes(reads, count), count)}
    return min(found.items(), key=lambda one: (sum(r.cost for r in one[1]), len(one[0])))


def _shapes(reads: Iterable[tuple[Source, np.ndarray]], count: int) -> list[tuple[int, ...]]:
    """Grids of instances over which one of their reads has structure."""
    found = {(count,): None}
    for source, index in reads:
        found[grids(index)] = None
        if len(source.shape) > 1 and is_affine(
            index, index[0], index[min(1, count - 1)] - index[0]
        ):
            for k in range(2, len(source.shape) + 1):
                if math.prod(source.shape[:k]) == count:
                    found[source.shape[:k]] = None
            inner = math.prod(source.shape[1:])
            if count % inner == 0:
                found[count // inner, *source.shape[1:]] = None
    return list(found)


def _refined(shapes: list[tuple[int, ...]], count: int) -> list[tuple[int, ...]]:
    """With these shapes, the one that has the axes of all, if there is one."""
    if len(shapes) < 3:
        return shapes
    strides = sorted({math.prod(s[k:]) for s in shapes for k in range(len(s) + 1)})
    if any(b % a for a, b in zip(strides, strides[1:], strict=False)):
        return shapes
    extents = [b // a for a, b in zip(strides, strides[1:], strict=False)]
    return list(dict.fromkeys([*shapes, tuple(reversed(extents))]))


def _inner(shape: tuple[int, ...], count: int) -> tuple[int, ...] | None:
    """The trailing axes of a shape that have `count` elements."""
    for k in range(len(shape) + 1):
        if math.prod(shape[k:]) == count:
            return shape[k:]
    return None


def _sum_shape(groups: list[tuple[Source, np.ndarray, int]], count: int) -> tuple[int, ...]:
    """The grid of sums over which their terms are read best."""
    found = {(count,): 0.0}
    for source, places, each in groups:
        index = places.astype(np.int64)
        for shape in _shapes([(source, index)], index.size):
            inner = _inner(shape, each)
            if inner is not None and shape[: len(shape) - len(inner)]:
                found[shape[: len(shape) - len(inner)]] = 0.0
    if len(found) == 1:
        return (count,)
    for shape in found:
        for source, places, each in groups:
            index = places.astype(np.int64)
            inner = [_inner(s, each) or (each,) for s in _shapes([(source, index)], index.size)]
            found[shape] += min(read(source, index, (*shape, *one)).cost for one in inner)
    return min(found, key=lambda s: (found[s], len(s)))


# Sums over axes.


def _summed(node: Node, kept: tuple[int, ...], shape: tuple[int, ...]) -> Node:
    """The sum over the trailing axes of a shape that a node broadcasts to."""
    axes = range(len(kept), len(shape))
    product = _contracted(node, len(kept)) if node.primitive is p.multiply else None
    if product is not None:
        return product
    repeated = math.prod(shape[k] for k in axes if node.shape[k] == 1)
    total = p.sum_(node, axes=tuple(axes))
    return total if repeated == 1 else total * float(repeated)


def _contracted(node: Node, kept: int) -> Node | None:
    """A sum of products as a contraction, where both factors have its axes, and one no other."""
    factors = node.args
    if any(one.ndim != node.ndim for one in factors):
        return None
    wide = [{k for k, n in enumerate(one.shape) if n > 1} for one in factors]
    summed = {k for k in range(kept, node.ndim) if node.shape[k] > 1}
    if not summed or any(not summed <= one for one in wide) or wide[0] == wide[1]:
        return None
    letters = ["".join(string.ascii_letters[k] for k in sorted(one)) for one in wide]
    out = "".join(string.ascii_letters[k] for k in sorted((wide[0] | wide[1]) - summed))
    shapes = [tuple(one.shape[k] for k in sorted(w)) for one, w in zip(factors, wide, strict=True)]
    x, y = (p.reshape(one, shape=s) for one, s in zip(factors, shapes, strict=True))
    product = p.contract(x, y, subscripts=f"{letters[0]},{letters[1]}->{out}")
    return p.reshape(product, shape=node.shape[:kept])
