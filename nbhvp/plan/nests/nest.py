"""Loop nests: nodes that share one pass over the rows of some arrays.

A nest has one outermost loop, over rows, and members: stored nodes, each of which is either a map or a
sum at each row. A node joins a nest if it reads only the same row of the nest's other members. So a
softmax, the bias and activation of a layer with their sums over the batch, or a residual and its sum of
squares, take one pass over memory. A sum over the rows themselves is known when the pass ends.

A trailing axis of few coordinates is not a loop: each of its elements is a member of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node
from nbhvp.plan.costs import CPU
from nbhvp.plan.nests.pull import (
    Apply,
    Choose,
    Expr,
    Index,
    Load,
    Loaded,
    Puller,
    Var,
    contiguous,
    is_pulled,
    parts,
    weight,
    written_out,
)

__all__ = ["ROW", "Loop", "Member", "Nest", "Segments", "along_segments", "joining", "members"]

ROW = Var("i")
SEGMENT = Var("e")


@dataclass(frozen=True)
class Loop:
    """A loop over 0 to `extent`, or between two bounds that depend on outer loops.

    Of a loop with bounds the extent is what it is in the mean. A member that is a map and one that
    is a sum may have a loop in common.
    """

    variable: Var
    extent: int
    is_summed: bool = field(default=False, compare=False)
    bounds: tuple[Expr, Expr] | None = None


@dataclass(frozen=True, eq=False)
class Member:
    """A stored node, or its elements at one corner of the axes that are written out."""

    node: Node
    index: Index
    """The position in the node's memory, in the variables of the loops that are not summed."""
    expr: Expr
    row: Loop
    loops: tuple[Loop, ...]
    """The loops within a row, outermost first."""

    @property
    def is_sum(self) -> bool:
        return any(loop.is_summed for loop in (self.row, *self.loops))

    @cached_property
    def orders(self) -> set[bool]:
        """For all memory that is read or written: whether rows lie one behind the other there."""
        return {
            all(
                abs(index.terms.get(loop.variable, 0)) <= abs(index.terms[ROW])
                for loop in self.loops
            )
            for index in (self.index, *(load.index for load in self.loads))
            if ROW in index.terms and any(loop.variable in index.terms for loop in self.loops)
        }

    def is_across(self, least: int) -> bool:
        """Whether it adds up rows that are longer than they are many, and of so many elements at least."""
        kept = [loop for loop in self.loops if not loop.is_summed]
        width = math.prod(loop.extent for loop in kept)
        has_bounds = any(loop.bounds for loop in self.loops)
        return self.row.is_summed and width >= max(least, 2 * self.row.extent) and not has_bounds

    @property
    def iterations(self) -> int:
        return math.prod(loop.extent for loop in (self.row, *self.loops) if not loop.bounds)

    @property
    def depth(self) -> int:
        """How many loops are open where an element is complete: the summed ones are innermost."""
        kept = [k for k, loop in enumerate(self.loops) if not loop.is_summed]
        return 1 + kept[-1] if kept else 0

    @property
    def is_total(self) -> bool:
        """Whether it is a sum that its loops add up in a register."""
        return self.depth < len(self.loops)

    @property
    def exprs(self) -> list[Expr]:
        return [self.expr, *(bound for loop in self.loops for bound in loop.bounds or ())]

    @cached_property
    def loads(self) -> list[Load]:
        return [part for part in parts(self.exprs) if isinstance(part, Load)]


@dataclass(eq=False)
class Statement:
    """Members that share all loops within a row."""

    loops: tuple[tuple[Var, int, tuple[Expr, Expr] | None], ...]
    members: list[Member] = field(default_factory=list)
    totals: int = 0
    """How many sums the loops add up in registers."""

    def has_room(self, member: Member) -> bool:
        """Whether a loop may take in one more sum, as few as fit into registers where it is long."""
        if not member.is_total or member.loops[-1].extent < CPU.long:
            return True
        return self.totals < CPU.totals


class Nest:
    """One pass over `extent` rows."""

    def __init__(
        self,
        extent: int,
        members: Iterable[Member] = (),
        inside: Segments | None = None,
        spaces: Iterable[Node] = (),
    ):
        self.extent = extent
        self.inside = inside
        """How elements are pulled in a nest that runs segment by segment."""
        self.members: list[Member] = []
        self.kept: set[Node] = set()
        """The nodes that are needed in memory: the others live in registers only."""
        self._writers: dict[Node, list[Member]] = {}
        self._parts: set[Expr] = set()
        self._places: set[tuple[Node, Index]] = set()
        self._loops: set[tuple[Loop, ...]] = set()
        self.spaces = set(spaces)
        self._weight = 0.0
        self.join(members)

    def join(self, new: Iterable[Member], space: Node | None = None) -> None:
        """Add members; what they load of this nest's nodes is `done` there."""
        if space is not None:
            self.spaces.add(space)
        for member in new:
            self.members.append(member)
            self._writers.setdefault(member.node, []).append(member)
            self._places.update((load.array, load.index) for load in member.loads)
            self._loops.add(member.loops)
            added = [part for part in parts(member.exprs) if part not in self._parts]
            self._parts.update(added)
            self._weight += sum(part.cost for part in added)

    @property
    def nodes(self) -> list[Node]:
        return list(self._writers)

    def statements(self) -> list[Statement]:
        """The members by loops, in an order in which each finds what it needs."""
        found: list[Statement] = []
        at: dict[Member, int] = {}
        readers: dict[Member, list[tuple[Member, bool]]] = {}
        for member in self.members:
            loops = tuple((one.variable, one.extent, one.bounds) for one in member.loops)
            first = 0
            for load in member.loads:
                for writer in done(load, member, self._writers.get(load.array, ())):
                    waits = not _is_named(load, member, writer, True)
                    readers.setdefault(writer, []).append((member, waits))
                    first = max(first, at[writer] + waits)
            fitting = (
                k
                for k in range(first, len(found))
                if found[k].loops == loops and found[k].has_room(member)
            )
            at[member] = next(fitting, len(found))
            if at[member] == len(found):
                found.append(Statement(loops))
            found[at[member]].totals += member.is_total
        for member in reversed(self.members):
            # Where its first reader is, the value is still in a register.
            some = readers.get(member, ())
            later = min((at[one] - waits for one, waits in some), default=at[member])
            if not member.is_sum and found[later].loops == found[at[member]].loops:
                at[member] = later
        for member in self.members:
            found[at[member]].members.append(member)
        return [one for one in found if one.members]

    def prune(self, needed: set[Node]) -> None:
        """Leave out members that are neither needed outside nor read by others."""
        read: set[Node] = set(needed)
        for member in reversed(self.members):
            if member.node in read:
                read |= {load.array for load in member.loads}
        self.members = [member for member in self.members if member.node in read]
        self._writers = {node: some for node, some in self._writers.items() if node in read}

    def read_from_memory(self) -> set[Node]:
        """What the loads of members need in memory: other arrays, and elements of other loops."""
        at = {member: k for k, one in enumerate(self.statements()) for member in one.members}
        found = set()
        for member in self.members:
            for load in member.loads:
                writers = done(load, member, self._writers.get(load.array, ()))
                if not any(_is_named(load, member, w, at[w] == at[member]) for w in writers):
                    found.add(load.array)
        return found

    def turned(self, least: int) -> Nest | None:
        """Sums over few rows with elements as the rows, and rows as a loop; None if there are others."""
        first = self.members[0]
        if not all(one.is_across(least) and one.loops == first.loops for one in self.members):
            return None
        kept = [loop for loop in first.loops if not loop.is_summed]
        summed = [loop for loop in first.loops if loop.is_summed]
        loops = (*kept[1:], first.row, *summed)
        found = Nest(kept[0].extent, spaces=self.spaces)
        found.join(replace(member, row=kept[0], loops=loops) for member in self.members)
        found.kept = self.kept
        return found

    def saved(
        self, new: list[Member], space: Node, heaviest: float, is_ready: Callable[[Node], bool]
    ) -> int | None:
        """How many loads the members of one more node would save here; None if they may not join.

        They may if all that they load is ready before, or `done` in their row. If they save nothing,
        their loops must be the same, in one iteration space. Rows that do not lie one behind the
        other in some memory cost more than a few loads, in all memory too much; and no kernel weighs
        more than `heaviest`.
        """
        saved = 0
        for member in new:
            for load in member.loads:
                writers = self._writers.get(load.array)
                if writers is None and not is_ready(load.array):
                    return None
                if writers is not None and not done(load, member, writers):
                    return None
        for load in dict.fromkeys(load for member in new for load in member.loads):
            if load.array in self._writers:
                saved += 2 * load.array.size
            elif load.array.shape and (load.array, load.index) in self._places:
                saved += load.array.size
        is_alike = space in self.spaces and self._loops == {member.loops for member in new}
        in_order = all(
            False not in one.orders or (True in one.orders and 2 * saved >= one.iterations)
            for one in new
        )
        exprs = parts(expr for member in new for expr in member.exprs)
        total = self._weight + sum(part.cost for part in exprs if part not in self._parts)
        return saved if (saved or is_alike) and in_order and total <= heaviest else None


def done(load: Load, reader: Member, writers: Sequence[Member]) -> Sequence[Member]:
    """The members of one node whose iterations are done where `reader` loads an element of it.

    That is the one that computes the element in the same iteration; else all of them, if the element
    is in the same row; none if it may lie in another row, or is a sum over the rows.
    """
    same = [one for one in writers if _is_same_element(load, reader, one)]
    return same or (writers if writers and _is_in_row(load, reader, writers[0]) else ())


def _is_in_row(load: Load, reader: Member, writer: Member) -> bool:
    """Whether an element is in the row that `reader` is at, since that lies in one piece."""
    length, index = writer.node.size // max(1, writer.row.extent), load.index
    strides = [i.terms.get(ROW, 0) for i in (index, writer.index)]
    if writer.row.is_summed or (writer.row.extent > 1 and strides != [length, length]):
        return False
    lowest = highest = index.const
    extents = {loop.variable: loop.extent for loop in reader.loops if loop.bounds is None}
    for atom, step in index.terms.items():
        if atom is ROW:
            continue
        extent = atom.extent if isinstance(atom, Loaded) else extents.get(atom)
        if extent is None:
            return False
        reach = step * (extent - 1)
        lowest, highest = lowest + min(0, reach), highest + max(0, reach)
    return lowest >= 0 and highest < length


def _is_same_element(load: Load, reader: Member, writer: Member) -> bool:
    """Whether an element that `reader` loads is computed by `writer` in the same iteration."""
    return (
        load.array is writer.node
        and load.index == writer.index
        and not writer.row.is_summed
        # A sum in memory, whose own loops are inside a summed one, is complete later.
        and not any(loop.is_summed for loop in writer.loops[: writer.depth])
        and reader.loops[: writer.depth] == writer.loops[: writer.depth]
    )


def _is_named(load: Load, reader: Member, writer: Member, together: bool) -> bool:
    """Whether a name still has what `writer` computed, in one statement with `reader` or before."""
    if not _is_same_element(load, reader, writer):
        return False
    in_same_loop = together and writer.depth == len(writer.loops) and reader.loops == writer.loops
    return in_same_loop or (writer.depth == 0 and not (together and writer.loops))


def joining(nest: Nest, node: Node, puller: Puller) -> Iterator[list[Member]]:
    """The members of a stored node, for each way in which it may join a nest."""
    inside = nest.inside
    if inside is None:
        return members(node, puller, nest.extent)
    if inside.has_maps(node):
        return iter([inside.members(node)])
    is_along = node.primitive.reduction == "segment_sum" and node.args[1] is inside.starts
    return members(node, inside if is_along else puller, nest.extent)


def members(node: Node, puller: Puller, extent: int | None = None) -> Iterator[list[Member]]:
    """The members of a stored node, for each axis that may be the rows, of that extent if given."""
    shape = node.shape if is_pulled(node) else node.args[0].shape
    if node.primitive.reduction == "segment_sum":
        axis = node.params["axis"]
        shape = (*shape[:axis], node.shape[axis], *shape[axis + 1 :])
    is_all = len(_written_out(node, shape, puller)) == len(shape)
    rows = [] if is_all else [k for k, n in enumerate(shape) if n != 1]
    if not rows:
        rows = [-1] if extent in (None, 1) else []
    elif extent is None:
        rows = rows[:1]
    else:
        rows = [k for k in rows if shape[k] == extent]
    for axis in rows:
        yield _with_rows(node, puller, shape, axis)


def _with_rows(node: Node, puller: Puller, shape: tuple[int, ...], row: int) -> list[Member]:
    """The members of a node, given the shape of its iteration space and which axis is the rows."""
    small = {k for k in _written_out(node, shape, puller) if k != row and shape[k] > 1}
    found = _members(node, puller, shape, row, small)
    if small and max(small) < len(shape) - 1:
        # Within a long loop, each element is to add little to what they have in common.
        exprs = [member.expr for member in found]
        if weight(*exprs) - weight(exprs[0]) > CPU.lanes * (len(exprs) - 1):
            return _members(node, puller, shape, row, set())
    return found


def _members(
    node: Node, puller: Puller, shape: tuple[int, ...], row: int, small: set[int]
) -> list[Member]:
    """The members, given which axes are written out."""
    entry, axes = node.primitive, range(len(shape))
    segmented = node.params["axis"] if entry.reduction == "segment_sum" else None
    summed = set() if is_pulled(node) or segmented is not None else _summed(node)
    variables = _variables(shape, row, small)
    loops = []
    for k in axes:
        if k in variables and k != row:
            loops.append(Loop(variables[k], shape[k], k in summed))
        if k == segmented:
            at = Index.of(variables.get(k, 0))
            start, end = (puller.at(node.args[1], (one,)) for one in (at, at + 1))
            mean = -(-node.args[0].shape[k] // max(1, shape[k]))
            loops.append(Loop(SEGMENT, mean, True, (start, end)))
    here = Loop(ROW, shape[row] if row >= 0 else 1, row in summed)
    found = []
    for corner in _corners(shape, small - summed):
        index = [Index.of(corner.get(k, variables.get(k, 0))) for k in axes]
        position = Index()
        places = (index[k] for k in axes if k not in summed)
        for place, stride in zip(places, contiguous(node.shape), strict=True):
            position = position + place * stride
        expr: Expr | None = None
        for inner in _corners(shape, small & summed):
            corner_at = [Index.of(inner[k]) if k in inner else index[k] for k in axes]
            term = _element(node, puller, corner_at, segmented)
            expr = term if expr is None else Apply(p.add, {}, (expr, term), node.dtype)
        assert expr is not None, "a corner has elements"
        found.append(Member(node, position, expr, here, tuple(loops)))
    return found


def along_segments(nest: Nest, reader: Node, puller: Puller) -> Nest | None:
    """A nest of maps with a sum of their rows by segments, segment by segment.

    None where that cannot be, or is of no use: all terms must be in some segment, few in each.
    """
    starts, count, extent = reader.args[1].value, reader.shape[0], nest.extent
    if (
        starts is None
        or reader.params["axis"] != 0
        or reader.args[0].shape[0] != extent
        or not 1 < count <= extent <= CPU.terms * count
        or (starts[0], starts[-1]) != (0, extent)
        or any(member.loops or member.row.is_summed for member in nest.members)
        or any(node.shape[:1] != (extent,) for node in nest.nodes)
    ):
        return None
    inside = Segments(puller, reader.args[1])
    found = [member for node in nest.nodes for member in inside.members(node)]
    found += next(members(reader, inside, count))  # another axis may have the extent of its rows
    own = [(load, reader) for reader in found for load in reader.loads if load.array in nest.nodes]
    alike = (any(_is_same_element(load, one, writer) for writer in found) for load, one in own)
    return Nest(count, found, inside, nest.spaces) if all(alike) else None


class Segments(Puller):
    """Pulls within a loop over segments, where a constant that numbers them is the row."""

    def __init__(self, puller: Puller, starts: Node):
        super().__init__(puller.strides)
        assert starts.value is not None, "segments are known"
        self.starts = starts
        count, self.extent = starts.size - 1, int(starts.value[-1])
        self._rows = np.repeat(np.arange(count), np.diff(starts.value))
        bounds = self.at(starts, (ROW,)), self.at(starts, (Index.of(ROW) + 1,))
        self._loops = Loop(ROW, count), Loop(SEGMENT, -(-self.extent // count), bounds=bounds)

    def has_maps(self, node: Node) -> bool:
        """Whether a node has an element, or a few that are written out, for each one of a segment."""
        inner = {k for k, n in enumerate(node.shape) if k and n > 1}
        return (
            is_pulled(node)
            and node.shape[:1] == (self.extent,)
            and inner <= _written_out(node, node.shape, self)
        )

    def members(self, node: Node) -> list[Member]:
        """The members of such a node."""
        found, rest, (row, along) = [], set(range(1, node.ndim)), self._loops
        for corner in _corners(node.shape, rest):
            at = [Index.of(SEGMENT), *(Index.of(corner[k]) for k in sorted(rest))]
            place = Index()
            for one, stride in zip(at, contiguous(node.shape), strict=True):
                place = place + one * stride
            found.append(Member(node, place, self.expand(node, tuple(at)), row, (along,)))
        return found

    def integer(self, expr: Expr, extent: int) -> Index:
        if isinstance(expr, Load) and expr.index == Index.of(SEGMENT):
            numbers = expr.array.value
            if numbers is not None and np.array_equal(numbers.reshape(-1), self._rows):
                return Index.of(ROW)
        return super().integer(expr, extent)


def _written_out(node: Node, shape: tuple[int, ...], puller: Puller) -> frozenset[int]:
    """The axes of a node's iteration space that are not loops.

    One along which a few arrays are joined is none in a sum by segments: each sum is of one of them.
    """
    entry, last = node.primitive, len(shape) - 1
    if entry.reduction == "all":
        return frozenset()
    if entry.reduction != "segment_sum":
        is_list = is_pulled(node) and _is_list(node, puller)
        return frozenset(range(len(shape))) if is_list else written_out(shape)
    source, axis = node.args[0], node.params["axis"]
    joined = source.params["axis"] if source.primitive is p.concatenate else None
    found = written_out(shape) | ({last} if joined == last and shape[last] <= CPU.pieces else set())
    return frozenset(k for k in found if k > axis)


def _is_list(node: Node, puller: Puller) -> bool:
    """Whether an array is made of few numbers one by one, and of little else."""
    if not CPU.written_out < node.size <= CPU.corners:
        return False
    expr = puller.expand(
        node, tuple(_variables(node.shape, 0, set()).get(k, 0) for k in range(node.ndim))
    )
    choices = sum(isinstance(part, Choose) for part in parts([expr]))
    return 2 * choices > node.size


def _element(node: Node, puller: Puller, index: list[Index], segmented: int | None) -> Expr:
    if is_pulled(node):
        return puller.expand(node, tuple(index))
    if segmented is not None:
        index = [*index[:segmented], Index.of(SEGMENT), *index[segmented + 1 :]]
    return puller.at(node.args[0], tuple(index))


def _summed(node: Node) -> set[int]:
    return set(node.params.get("axes", range(node.args[0].ndim)))


def _corners(shape: tuple[int, ...], axes: set[int]) -> Iterator[dict[int, int]]:
    """Every position along some axes."""
    ordered = sorted(axes)
    for at in np.ndindex(*(shape[k] for k in ordered)):
        yield dict(zip(ordered, at, strict=True))


def _variables(shape: tuple[int, ...], row: int, small: set[int]) -> dict[int, Var]:
    """The variable of each axis that is a loop: the same for equal ranks, so that loads compare."""
    inner = [k for k, n in enumerate(shape) if n != 1 and k != row and k not in small]
    return {
        k: ROW if k == row else _variable(inner.index(k)) for k in (*inner, *[row] * (row >= 0))
    }


@cache
def _variable(depth: int) -> Var:
    return Var(f"j{depth}")
