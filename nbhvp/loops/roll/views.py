"""Elements of an array at given positions, as views if the positions have structure.

The records of a class are an array, and each record of another class reads one element of it: a
position index[k] for each k. If k runs over a grid (k0, k1, ...) and the position is a sum

    index[k0, k1, ...] = base + a0[k0] + a1[k1] + ...

whose terms run along different axes of the source, reshaped to a grid of its own, then these reads
are slices (if a is affine), concatenated slices (if it wraps), or gathers along one axis (otherwise);
an axis along which the position is constant broadcasts. Leading axes that have no such form are merged
into one. With all axes merged, every index has this form: a gather of single elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node
from nbhvp.loops.roll.records import Pass, compiled

__all__ = [
    "MOST_PARTS",
    "Read",
    "Source",
    "common_step",
    "distinct",
    "grids",
    "is_affine",
    "patterns",
    "read",
    "rows_alike",
]

MOST_PIECES = 3
"""Pieces of one step along an axis that are concatenated rather than gathered."""
MOST_COLUMNS = 8
"""Positions of a trailing axis that may be read one by one, each as a view."""
GATHERED = 8.0
"""What an element read through an index costs beside a view of all."""
APART = 0.25
"""What it costs to read an array column by column."""
REGROUPED = 0.5
"""What it costs to read an array over axes that are not its own."""
TRIED = 6
"""Breaks of a pattern between which a period is looked for."""
SHORT = 1000
"""Positions that NumPy's passes take as fast as a compiled loop, and without one."""
MOST_PARTS = 4
"""Patterns that follow one another in a class, each of which becomes an array."""


@dataclass(eq=False)
class Source:
    """All instances of a class: a node that broadcasts to `shape`, which they fill in C order.

    Or a column for each position of the last axis, where these have no more in common: differences
    to several neighbours are one class, and an array each. Or parts that follow one another, where
    the instances are those of several loops.
    """

    shape: tuple[int, ...]
    node: Node | None = None
    columns: tuple[Source, ...] = ()
    parts: tuple[Source, ...] = ()
    grids: list[tuple[int, ...]] = field(default_factory=list)
    """Shapes in which it has been read."""

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def whole(self) -> Node:
        """One node of the whole shape."""
        if self.node is None and self.parts:
            flat = [p.reshape(part.whole(), shape=(part.size,)) for part in self.parts]
            self.node = p.concatenate(*flat, axis=0)
        elif self.node is None:
            self.node = _stacked([column.whole() for column in self.columns])
        return p.broadcast(self.node, shape=self.shape)

    @property
    def ends(self) -> np.ndarray:
        """Where each part ends."""
        return np.cumsum([part.size for part in self.parts])

    def crossings(self, index: np.ndarray) -> list[int]:
        """Where positions leave a part for another; too many of them where they go to and fro."""
        if not self.parts:
            return []
        parts = np.searchsorted(self.ends, index, "right")
        return (1 + np.flatnonzero(np.diff(parts))[: MOST_PARTS + 1]).tolist()

    def around(self, index: np.ndarray) -> tuple[Source, np.ndarray]:
        """The part that all positions are in, if there is one, and their positions there."""
        if self.parts:
            first, last = np.searchsorted(self.ends, (index.min(), index.max()), "right")
            if first == last:
                part = self.parts[first]
                return part, index - (self.ends[first] - part.size)
        return self, index


@dataclass(frozen=True)
class Read:
    """A way to read elements: what it costs, and the node, which broadcasts to the shape."""

    cost: float
    make: Callable[[], Node]
    gathers: int = 0
    """How many indices it needs."""
    columns: tuple[Read, ...] = ()
    """The reads of the positions of the last axis, if they are better read one by one."""


def read(source: Source, index: np.ndarray, shape: tuple[int, ...]) -> Read:
    """The elements of a source at the positions `index`, as an array of that shape."""
    if source.columns:
        count = len(source.columns)
        if _share(index, count):
            return read(source.columns[index[0] % count], index // count, shape)
    if not source.columns and index.size == source.size and is_affine(index, 0, 1):
        if shape == source.shape:
            return Read(0.0, lambda: source.node or source.whole())
        return Read(REGROUPED, lambda: p.reshape(source.whole(), shape=shape))
    together = _read_at_once(source, index, shape)
    if together.cost < GATHERED / 2 and not source.columns:
        return together
    if len(shape) == 1 or not 1 < shape[-1] <= MOST_COLUMNS:
        return together
    columns = tuple(
        read(source, np.ascontiguousarray(index[k :: shape[-1]]), shape[:-1])
        for k in range(shape[-1])
    )
    cost = APART + sum(one.cost for one in columns) / len(columns)
    if cost > together.cost:
        return together
    gathers = sum(one.gathers for one in columns)
    return Read(cost, lambda: _stacked([one.make() for one in columns]), gathers, columns)


def _read_at_once(source: Source, index: np.ndarray, shape: tuple[int, ...]) -> Read:
    for merged in range(1, len(shape) + 1):
        rows = (math.prod(shape[:merged]), *shape[merged:])
        offsets = _separated(index, rows)
        if offsets is not None:
            for grid in _grids_of(source, offsets):
                axes = _placed(int(index[0]), offsets, grid)
                if axes is not None:
                    return _read_along(source, int(index[0]), grid, axes, shape)
    raise AssertionError("any index is a gather of single elements")


def _stacked(nodes: list[Node]) -> Node:
    """Nodes along a new last axis."""
    shape = np.broadcast_shapes(*(one.shape for one in nodes))
    nodes = [p.reshape(p.broadcast(one, shape=shape), shape=(*shape, 1)) for one in nodes]
    return p.concatenate(*nodes, axis=len(shape))


def _read_along(source: Source, base: int, grid, axes: list[_Axis], shape) -> Read:
    """A read along axes, the first of which is all leading ones of the shape that are not others."""

    def make():
        node = _cut(source, base, grid, axes)
        leading = shape[: len(shape) - len(axes) + 1]
        first = leading if node.shape[0] > 1 else (1,) * len(leading)
        return p.reshape(node, shape=(*first, *node.shape[1:]))

    bent = [axis for axis in axes if axis.along is not None and axis.step is None]
    gathered = [axis.places.size for axis in bent if not axis.pieces()]
    cost = 1.0 + len(bent) + GATHERED * sum(gathered) / math.prod(shape)
    if grid != source.shape and len(source.shape) > 1:
        cost += REGROUPED
    return Read(cost, make, len(gathered))


def grids(index: np.ndarray) -> tuple[int, ...]:
    """The grid over which an index looks like a sum of one term per axis."""
    found: list[int] = []
    while True:
        period = _block(index) if index.size > SHORT else _block_of_few(index)
        if period == 1:
            period = _period(index)
        if period in (0, index.size):
            return (index.size, *found)
        found.insert(0, period)
        index = np.ascontiguousarray(index[::period])


def patterns(indices: list[np.ndarray]) -> list[int]:
    """Where grids that follow one another in all of some indices begin, from 0, and where the last ends.

    Nothing if there are more than `MOST_PARTS`.
    """
    cuts, size = [0], indices[0].size
    while cuts[-1] < size:
        if len(cuts) > MOST_PARTS:
            return []
        cuts.append(min(int(_reach(index, cuts[-1], TRIED)) for index in indices))
    return cuts


def common_step(index: np.ndarray) -> int:
    """The largest number of which all distances of positions are multiples."""
    return int(_gcd(index - index[0]))


def is_affine(index: np.ndarray, start: int, step: int) -> bool:
    if index.size > SHORT:
        return bool(_is_affine(index, start, step))
    return np.array_equal(index, int(start) + int(step) * np.arange(index.size))


# The pattern of an index.


def distinct(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each pair of numbers comes first, and which of these pairs each one is.

    Nothing if they are more than half as many as all.
    """
    steps = [(one, one[min(1, one.size - 1)] - one[0]) for one in (a, b)]
    if any(step and is_affine(one, one[0], step) for one, step in steps):
        return a[:0], a[:0]
    slots, places = np.full(1 << a.size.bit_length(), -1), np.empty(a.size, np.int64)
    first = np.empty(a.size // 2 + 1, np.int64)
    count = _find_distinct(a, b, slots, first, places)
    return first[:count], places[: count and a.size]


@Pass
def _is_affine(index, start, step):
    for k in range(index.size):
        if index[k] != start + k * step:
            return False
    return True


@Pass
def _find_distinct(a, b, slots, first, places):
    """Number all pairs by the order in which they come first; return how many there are, 0 if many.

    `slots` is a table of these numbers by a hash.
    """
    count, mask = 0, np.uint64(slots.size - 1)
    for k in range(a.size):
        mixed = np.uint64(a[k]) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(b[k])
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        slot = np.int64((mixed >> np.uint64(32)) & mask)
        while slots[slot] >= 0:
            other = first[slots[slot]]
            if a[other] == a[k] and b[other] == b[k]:
                break
            slot = (slot + 1) & np.int64(mask)
        if slots[slot] < 0:
            if 2 * (count + 1) > a.size:
                return 0
            slots[slot], first[count] = count, k
            count += 1
        places[k] = slots[slot]
    return count


@Pass
def _share(index, count):
    """Whether all positions leave one remainder."""
    for k in range(1, index.size):
        if (index[k] - index[0]) % count:
            return False
    return True


@Pass
def _gcd(index):
    divisor = 0
    for k in range(index.size):
        a, b = abs(index[k]), divisor
        while b:
            a, b = b, a % b
        divisor = a
        if divisor == 1:
            break
    return divisor


@Pass
def _run(index):
    """How many elements go on with one step."""
    k = min(2, index.size)
    while k < index.size and index[k] - index[k - 1] == index[1] - index[0]:
        k += 1
    return k


@Pass
def _block(index):
    """The longest period within which the index is affine, with one step in all periods."""
    if index.size < 2:
        return index.size
    period, step = index.size, index[1] - index[0]
    for k in range(1, index.size):
        if index[k] - index[k - 1] != step:
            a, b = period, k
            while b:
                a, b = b, a % b
            period = a
            if period == 1:
                break
    return period


def _block_of_few(index: np.ndarray) -> int:
    """The same by NumPy's passes."""
    distances = np.diff(index)
    return int(np.gcd.reduce(np.flatnonzero(distances != distances[:1]) + 1, initial=index.size))


@Pass
def _breaks(index, step, most):
    found = np.empty(most, np.int64)
    count, k = 0, 1
    while k < index.size and count < most:
        if index[k] - index[k - 1] != step:
            found[count] = k
            count += 1
        k += 1
    return found[:count]


@compiled
def _extended(index, start, period):
    """Where rows that are the one before, shifted by one distance each, end."""
    end = start + period
    if end + period > index.size:
        return end
    shift = index[end] - index[start]
    while end + period <= index.size:
        for k in range(end, end + period):
            if index[k] - index[k - period] != shift:
                return end
        end += period
    return end


@Pass
def _reach(index, start, most):
    """Where the largest grid that begins at a position ends: rows of rows, the first one of any form."""
    furthest = start + 1
    for at in range(start + 1, index.size):
        if at > start + 1 and index[at] - index[at - 1] == index[at - 1] - index[at - 2]:
            continue
        if most == 0:
            break
        most -= 1
        period, end = 0, at
        while end - start > period:
            period = end - start
            end = _extended(index, start, period)
        if end > at:
            furthest = max(furthest, end)
    return furthest


@Pass
def rows_alike(index, length):
    """Whether all rows of that length are the first one, shifted."""
    for start in range(length, index.size, length):
        shift = index[start] - index[0]
        for k in range(1, length):
            if index[start + k] - index[k] != shift:
                return False
    return True


def _period(index: np.ndarray) -> int:
    """A period of a pattern that is the same, but for a shift, each time; 0 if none is seen."""
    if index.size < 4:
        return 0
    breaks = _breaks(index, index[1] - index[0], TRIED).tolist()
    tried = set(breaks) | {b - a for k, a in enumerate(breaks) for b in breaks[k + 1 :]}
    for period in sorted(tried):
        if 1 < period < index.size and index.size % period == 0 and rows_alike(index, period):
            return period
    return 0


def _separated(index: np.ndarray, shape: tuple[int, ...]) -> list[np.ndarray] | None:
    """The terms of the sum over the axes of a shape, each 0 at 0; None if it is no such sum."""
    terms = []
    for extent in shape:
        length = index.size // extent
        if not rows_alike(index, length):
            return None
        terms.append(index[::length] - index[0])
        index = index[:length]
    return terms


# The axes of a source.


@dataclass(frozen=True)
class _Axis:
    """Where an axis of an index goes: along which axis of the grid, and through which places."""

    along: int | None
    """None: it goes nowhere."""
    places: np.ndarray

    def range(self, extent: int) -> tuple[int, int, int]:
        """Start, step and size of the slice of an axis that has all places: those that an index
        picks, or the whole axis if these are most of it."""
        if self.step is not None:
            return int(self.places[0]), self.step, self.places.size
        lowest, highest = int(self.places.min()), int(self.places.max())
        step = _gcd(self.places - lowest)
        size = (highest - lowest) // step + 1
        if 2 * size > extent or self.pieces():
            return 0, 1, extent
        return lowest, step, size

    @property
    def step(self) -> int | None:
        """The distance of the places, if it is one."""
        first, second = self.places[0], self.places[min(1, self.places.size - 1)]
        return int(second - first) if is_affine(self.places, first, second - first) else None

    def pieces(self) -> list[np.ndarray]:
        """The places in runs of their commonest step, as where they wrap; none if there are many."""
        steps = np.sort(np.diff(self.places[: 2 * MOST_PIECES]))  # most of these are that step
        step = steps[steps.size // 2]
        breaks = _breaks(self.places, step, MOST_PIECES)
        return np.split(self.places, breaks) if step and breaks.size < MOST_PIECES else []


def _grids_of(source: Source, offsets: list[np.ndarray]) -> Iterator[tuple[int, ...]]:
    """Shapes of a source in which terms of an index may walk along axes: its own ones first."""
    yield from source.grids
    yield source.shape
    found, unit = [], source.size
    for step in sorted((_gcd(a) for a in offsets if a.size > 1 and a.any()), reverse=True):
        inner = math.gcd(unit, step)
        found.append(unit // inner)
        unit = inner
    yield tuple(found) if unit == 1 else (*found, unit)
    yield (source.size,)


def _placed(base: int, offsets: list[np.ndarray], grid: tuple[int, ...]) -> list[_Axis] | None:
    """Where the axes of an index go on a grid; None if they do not stay within it."""
    units = _units(grid)
    taken: set[int] = set()
    axes = []
    for term in offsets:
        if not term.any():
            axes.append(_Axis(None, term[:1]))
            continue
        step = _gcd(term)
        for along, (unit, extent) in enumerate(zip(units, grid, strict=True)):
            if step % unit or along in taken:
                continue
            places = base // unit % extent + term // unit
            if places.min() >= 0 and places.max() < extent:
                taken.add(along)
                axes.append(_Axis(along, places))
                break
        else:
            return None
    return axes


def _units(grid: tuple[int, ...]) -> list[int]:
    """How far apart neighbours along each axis lie."""
    return list(accumulate(reversed(grid[1:]), lambda a, b: a * b, initial=1))[::-1]


def _cut(source: Source, base: int, grid: tuple[int, ...], axes: list[_Axis]) -> Node:
    """The elements of a source along axes of a grid; extent 1 where an axis goes nowhere."""
    if grid != source.shape or source.node is None:
        node = p.reshape(source.whole(), shape=grid)
        if len(grid) > 1 and grid not in source.grids:
            source.grids.append(grid)
    else:
        node = source.node
    # An axis along which all instances are the same has extent 1 in the node.
    moving = [a for a in axes if a.along is not None and node.shape[a.along] > 1]
    start = [base // unit % extent for unit, extent in zip(_units(grid), node.shape, strict=True)]
    step, size = [1] * len(grid), [1] * len(grid)
    for axis in moving:
        at = axis.along
        start[at], step[at], size[at] = axis.range(node.shape[at])
    node = p.slice_(node, start=tuple(start), step=tuple(step), size=tuple(size))
    for axis in moving:
        if axis.step is None:
            node = _picked(node, axis, start[axis.along], step[axis.along])
    order = [a.along for a in moving]
    order += [k for k in range(len(grid)) if k not in order]
    node = p.transpose(node, axes=tuple(order))
    return p.reshape(node, shape=tuple(a.places.size if a in moving else 1 for a in axes))


def _picked(node: Node, axis: _Axis, start: int, step: int) -> Node:
    """The slice of a node along one axis that begins at `start`, at places that are not affine."""
    at, parts = axis.along, axis.pieces()
    if not parts:
        return p.gather(node, p.positions(node.pool, (axis.places - start) // step), axis=at)
    slices = []
    for places in parts:
        start, step, size = [0] * node.ndim, [1] * node.ndim, list(node.shape)
        start[at], size[at] = int(places[0]), places.size
        step[at] = int(places[1] - places[0]) if places.size > 1 else 1
        slices.append(p.slice_(node, start=tuple(start), step=tuple(step), size=tuple(size)))
    return p.concatenate(*slices, axis=at)
