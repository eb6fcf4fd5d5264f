"""The entries of a linear map's matrix, by propagation through its graph.

Entries of each element of a node are made of those of its operands (`entries` tells their forms). One rule
for each kind of primitive serves the table:

- selecting (slices, updates, gathers ...): the primitive itself, applied to the columns of lanes;
- elementwise: the entries of all operands, without those that a constant multiplies by zero;
- a contraction: a product with the operand that does not depend on the direction, then a sum;
- sums, and whatever has a selecting transpose: that tells to which element each operand is added;
- small linear primitives of constants: their matrix, column by column;
- all else: each element depends on all that the operands depend on. `Sparsity.dense` names these.

What entries are, if that is asked for, is pushed forward as tangents are (`derive.push`). Where they are
follows from the graph and from the values of integer operands alone: it holds at every point with these.

Invariant: nothing is left out. An entry outside of the pattern is zero at each point.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node, dependent, reachable
from nbhvp.graph.sparsity.entries import (
    Lane,
    Lanes,
    Rows,
    both,
    columns_of,
    count_of,
    end_to_end,
    flat,
    gathered,
    listed,
    number_taken,
    peeled,
    rows_of,
    taken,
)

__all__ = ["Dense", "Sparsity", "Unknown", "integer_operands", "plain", "sparsity"]

MOST_LANES = 40
"""Of a node; with more it has rows."""
MOST, MOST_OF_EACH = 20_000_000, 64
"""Entries of a node, or as many times those of the direction, above which the matrix counts as dense."""
FEW = 1_000_000
"""Entries that are no work. More must be less work than a product for each column."""
PROBED = 256
"""Elements of an operand and of a result, whose matrix is found column by column."""

MOST_STEPS = 5_000
"""Operations of the steps of a loop over time that are followed one by one."""

Operand = Lanes | Rows | None


class Dense(Exception):
    """A node has too many entries."""

    def __init__(self, node: Node):
        super().__init__(named(node))


class Unknown(Exception):
    """Entries are not known, or take too many nodes; where they are may be known yet."""


@dataclass(frozen=True, eq=False)
class Sparsity:
    """The entries of a product's matrix, which has a row for each element of the product."""

    rows: Rows
    dense: tuple[str, ...]
    """Primitives of which all elements depend on all of an operand."""
    work: int
    """The entries of all nodes together."""
    size: int
    """The elements of all nodes that depend on the direction."""


def named(node: Node) -> str:
    return f"{node.primitive.name} of shape {node.shape}"


def integer_operands(product: Node, direction: Node) -> tuple[Node, ...]:
    """The nodes whose values decide where entries are, such as indices that are arguments."""
    nodes = plain(product)
    active = dependent(nodes, [direction])
    found: dict[Node, None] = {}
    for node in nodes:
        if node in active and node is not direction and not node.primitive.is_elementwise:
            integers = (arg for arg in node.args if arg.dtype.kind in "bi" and arg.value is None)
            found.update(dict.fromkeys(integers))
    return tuple(found)


def sparsity(
    product: Node,
    direction: Node,
    values: Mapping[Node, np.ndarray],
    with_entries: bool = False,
    most_nodes: float = math.inf,
    is_regular: bool = False,
) -> Sparsity:
    """The entries of the matrix of a product that is linear in a direction.

    `values` are those of the integer operands. Entries may take so many nodes, and only lanes of them
    if they are to be regular.

    Raises
    ------
    Dense
        If a node has too many entries.
    Unknown
        If entries are asked for, and are not known or take too many nodes; or are not regular.
    """
    while product.primitive is p.reshape:  # the order of elements is the same
        (product,) = product.args
    nodes = plain(product)
    size = sum(node.size for node in dependent(nodes, [direction]).intersection(nodes))
    most = min(max(MOST, MOST_OF_EACH * direction.size), max(FEW, direction.size * size))
    last = direction.pool.size + most_nodes
    made = _Propagation(direction, dict(values), with_entries, most, last, is_regular)
    rows = rows_of(made.through(nodes), nodes[-1], direction.size, is_last=True)
    return Sparsity(rows, tuple(made.dense), made.work, size)


def plain(output: Node) -> list[Node]:
    """The nodes of an output, with what is computed in the place of others, and short loops as steps."""
    return reachable(
        [_rewritten(_rewritten(output, _written_out), lambda node: node.primitive.lowered)]
    )


def _rewritten(output: Node, other: Callable[[Node], Callable | None]) -> Node:
    """An output, with functions of arguments in the place of some primitives."""
    new: dict[Node, Node] = {}
    for node in reachable([output]):
        args = tuple(new[arg] for arg in node.args)
        made = other(node)
        if made is not None:
            new[node] = made(*args, **node.params)
        else:
            new[node] = node if args == node.args else node.primitive(*args, **node.params)
    return new[output]


def _written_out(node: Node) -> Callable | None:
    """The steps of a loop over time, if they are few operations."""
    body = node.primitive.body
    if body is None or node.primitive is not body.primitive:
        return None
    is_short = node.params["length"] * len(body.graph.nodes) <= MOST_STEPS
    return body.written_out if is_short else None


@dataclass
class _Propagation:
    """The entries of the nodes of one graph, in order."""

    direction: Node
    values: dict[Node, np.ndarray]
    with_entries: bool
    most: int
    """Entries that a node may have."""
    last: float
    """The number of nodes that the pool may have."""
    is_regular: bool = False
    """Whether rows are refused."""
    dense: dict[str, None] = field(default_factory=dict)
    work: int = 0
    supports: dict[Node, np.ndarray] = field(default_factory=dict)
    """Where factors may differ from zero, of those that are zero somewhere."""
    _selected: dict[tuple, tuple] = field(default_factory=dict)

    def through(self, nodes: Sequence[Node]) -> Lanes | Rows:
        """The entries of the last node."""
        left = Counter(arg for node in nodes for arg in node.args)
        found: dict[Node, Lanes | Rows] = {self.direction: (self._identity(),)}
        for node in nodes:
            if node is not self.direction and any(arg in found for arg in node.args):
                made = self._of(node, [found.get(arg) for arg in node.args])
                self.work += count_of(made)
                if count_of(made) > self.most:
                    raise Dense(node)
                if node.pool.size > self.last:
                    raise Unknown
                if count_of(made):
                    found[node] = made
            elif (support := self._support(node)) is not None:
                self.supports[node] = support
            for arg in node.args:
                left[arg] -= 1
                if left[arg] == 0:
                    found.pop(arg, None)
        return found.get(nodes[-1], ())

    def _identity(self) -> Lane:
        v = self.direction
        assert v.size < 2**31, "columns have 32 bits"
        columns = np.arange(v.size, dtype=np.int32).reshape(v.shape)
        return Lane(columns, True, _ones(v) if self.with_entries else None, is_constant=True)

    # One node.

    def _of(self, node: Node, operands: list[Operand]) -> Lanes | Rows:
        active = {k for k, operand in enumerate(operands) if operand is not None}
        entry = node.primitive
        assert entry.linear_in(active), f"{entry} is not linear in the direction"
        if entry.vanishes or not node.size:
            return ()
        if entry.selects and (places := self._places(node, active)) is not None:
            return self._selecting(node, operands, places)
        if entry.is_elementwise:
            return self._elementwise(node, operands, active)
        if entry.kind == "bilinear":
            (k,) = active
            return self._contracted(node, k, operands[k])
        if entry.kind == "linear" and len(active) == 1:
            (k,) = active
            added = self._destinations(node, k)
            if added is not None:
                return self._added(node, k, added, operands[k])
            matrix = self._probed(node, k)
            if matrix is not None:
                return self._times(node, k, matrix, operands[k])
        return self._all(node, [operand for operand in operands if operand is not None])

    def _rows(self, node: Node, operand: Lanes | Rows) -> Rows:
        self._refuse_rows()
        return rows_of(operand, node, self.direction.size)

    def _refuse_rows(self) -> None:
        if self.is_regular:
            raise Unknown

    def _listed(self, node: Node, rows: np.ndarray, columns: np.ndarray, entry) -> Rows:
        self._refuse_rows()
        return listed(rows, columns, entry, (node.size, self.direction.size))

    def _taken(self, node: Node, parts: list[Rows], chosen: np.ndarray) -> Rows:
        if number_taken(parts, chosen) > self.most:
            raise Dense(node)
        return taken(parts, chosen)

    def _merged(self, node: Node, lanes: Sequence[Lane]) -> Lanes | Rows:
        """Lanes of which none could be filled with another; rows if they are too many."""
        found: list[Lane] = []
        for lane in lanes:
            for k, other in enumerate(found):
                if (one := both(other, lane)) is not None:
                    found[k] = one
                    break
            else:
                found.append(lane)
        return tuple(found) if len(found) <= MOST_LANES else self._rows(node, tuple(found))

    # Values of operands.

    def _places(self, node: Node, active: set[int]) -> dict[int, np.ndarray] | None:
        """The values of operands in which a node is not linear; None where one is not known."""
        joint = derive.joint_positions(node, active)
        found = {k: self.value(arg) for k, arg in enumerate(node.args) if k not in joint}
        return None if any(value is None for value in found.values()) else found

    def value(self, node: Node) -> np.ndarray | None:
        """What a node is, if constants and the given integers tell."""
        if node not in self.values:
            known = node.value
            if known is None and node.args and (node.dtype.kind in "bi" or node.primitive.lazy):
                args = [self.value(arg) for arg in node.args]
                if all(arg is not None for arg in args):
                    known = np.asarray(node.primitive.evaluate(*args, **node.params), node.dtype)
            if known is None:
                return None
            self.values[node] = known
        return self.values[node]

    def _support(self, node: Node) -> np.ndarray | None:
        """Where a node that does not depend on the direction may differ from zero; None for all."""
        entry = node.primitive
        if node.value is not None:
            found = [node.value != 0] if node.ndim else []
        elif entry.is_elementwise:
            found = self._factors(node)
        elif entry.selects and len(node.args) == 1 and node.args[0] in self.supports:
            found = [np.asarray(entry.evaluate(self.supports[node.args[0]], **node.params))]
        else:
            found = []
        support = functools.reduce(np.logical_and, found) if found else None
        is_less = support is not None and not support.all()
        return np.broadcast_to(support, node.shape) if is_less else None

    def _factors(self, node: Node) -> list[np.ndarray]:
        """Where an elementwise node's factors may differ from zero: a sum does where a term may."""
        places = [k for k in range(len(node.args)) if node.primitive.linear_in({k})]
        forms = {frozenset(derive.joint_positions(node, {k})) for k in places}
        given = [[self.supports.get(node.args[k]) for k in form] for form in forms]
        return [
            functools.reduce(np.logical_or, terms)
            for terms in given
            if all(term is not None for term in terms)
        ]

    # Primitives that select.

    def _selecting(self, node: Node, operands: list[Operand], places: dict) -> Lanes | Rows:
        if any(isinstance(operand, Rows) for operand in operands):
            return self._selecting_rows(node, operands, places)
        found = []
        for t in range(max(len(operand) for operand in operands if operand is not None)):
            lanes = [None if o is None or t >= len(o) else o[t] for o in operands]
            columns, is_full = self._chosen(node, lanes, places)
            found.append(self._selected_entries(node, lanes, Lane(columns, is_full)))
        return self._merged(node, found)

    def _selected_entries(self, node: Node, lanes: list[Lane | None], lane: Lane) -> Lane:
        given = [one for one in lanes if one is not None]
        if not self.with_entries:
            return lane
        if len(given) == 1:
            entry = _pushed(node, [one and one.entry for one in lanes])
            return replace(given[0], columns=lane.columns, is_full=lane.is_full, entry=entry)
        dots = [one and p.multiply(one.scale, one.entry) for one in lanes]
        are_clean = all(one.is_clean for one in given)
        return replace(lane, entry=_pushed(node, dots), is_clean=are_clean)

    def _chosen(self, node: Node, lanes, places: dict[int, np.ndarray]) -> tuple[np.ndarray, bool]:
        """The columns that a node selects of those of its operands, found once for equal ones."""
        given = [places.get(k) if lane is None else lane.columns for k, lane in enumerate(lanes)]
        key = (node.primitive, node.shape, *sorted(node.params.items()), *map(id, given))
        if key not in self._selected:
            arrays = [
                np.broadcast_to(np.int32(-1), arg.shape) if array is None else array
                for array, arg in zip(given, node.args, strict=True)
            ]
            columns = np.asarray(node.primitive.evaluate(*arrays, **node.params), np.int32)
            is_full = all(lane.is_full for lane in lanes if lane is not None)
            if is_full and any(array is None for array in given):
                is_full = bool((columns >= 0).all())
            self._selected[key] = columns, is_full, given  # whose addresses the key has
        columns, is_full, _ = self._selected[key]
        return columns, is_full

    def _selecting_rows(self, node: Node, operands: list[Operand], places: dict) -> Rows:
        """The rows of all operands end to end, selected."""
        start, given, parts = 0, [], []
        for k, (arg, operand) in enumerate(zip(node.args, operands, strict=True)):
            if k in places:
                given.append(places[k])
            elif operand is None:
                given.append(np.broadcast_to(np.int64(-1), arg.shape))
            else:
                given.append(np.arange(start, start + arg.size).reshape(arg.shape))
                parts.append(self._rows(arg, operand))
                start += arg.size
        chosen = np.asarray(node.primitive.evaluate(*given, **node.params), np.int64)
        return self._taken(node, parts, chosen.ravel())

    # Elementwise primitives.

    def _elementwise(self, node: Node, operands: list[Operand], active: set[int]) -> Lanes | Rows:
        keeps = self._kept(node, active)
        if any(isinstance(operands[k], Rows) for k in active):
            return self._elementwise_rows(node, operands, active, keeps)
        found = []
        for k in sorted(active):
            for lane in operands[k]:
                columns, is_full = np.broadcast_to(lane.columns, node.shape), lane.is_full
                if keeps is not None:
                    columns, is_full = np.where(keeps, columns, np.int32(-1)), False
                made = Lane(columns, is_full)
                if self.with_entries:
                    dots = [lane.loose if j == k else None for j in range(len(node.args))]
                    made = _scaled(made, lane, _pushed(node, dots), is_masked=keeps is not None)
                found.append(made)
        return self._merged(node, found)

    def _kept(self, node: Node, active: set[int]) -> np.ndarray | None:
        """Where factors may differ from zero; None for everywhere."""
        if len(active) != 1 or len(node.args) == 1:
            return None
        values = [np.ones(()) if k in active else arg.value for k, arg in enumerate(node.args)]
        if all(value is not None for value in values) and any(value.ndim for value in values):
            with np.errstate(all="ignore"):
                keeps = np.asarray(node.primitive.evaluate(*values, **node.params)) != 0
        else:
            keeps = functools.reduce(np.logical_and, self._factors(node), np.True_)
        return None if keeps.all() else np.broadcast_to(keeps, node.shape)

    def _elementwise_rows(self, node: Node, operands, active: set[int], keeps) -> Rows:
        parts = []
        for k in sorted(active):
            rows = self._spread_rows(node, k, operands[k], keeps)
            parts.append(self._times_partial(node, k, rows))
        if len(parts) == 1:
            return parts[0]
        entry = end_to_end([part.entry for part in parts]) if self.with_entries else None
        rows = np.concatenate([part.row for part in parts])
        return self._listed(node, rows, np.concatenate([part.columns for part in parts]), entry)

    def _spread_rows(self, node: Node, k: int, operand: Lanes | Rows, keeps) -> Rows:
        """The rows of an operand, for each element of the result."""
        arg = node.args[k]
        rows = self._rows(arg, operand)
        if keeps is None and arg.shape == node.shape:
            return rows
        chosen = np.broadcast_to(np.arange(arg.size).reshape(arg.shape), node.shape)
        chosen = chosen if keeps is None else np.where(keeps, chosen, -1)
        return self._taken(node, [rows], chosen.ravel())

    def _times_partial(self, node: Node, k: int, rows: Rows) -> Rows:
        """Rows times the partial of an elementwise node in an argument."""
        if not self.with_entries:
            return rows
        if node.is_complex or node.args[k].is_complex:
            raise Unknown
        dots = [_ones(arg) if j == k else None for j, arg in enumerate(node.args)]
        factor = gathered(flat(_pushed(node, dots)), rows.row)
        return replace(rows, entry=p.cast(factor * rows.entry, dtype=node.dtype))

    # Sums.

    def _contracted(self, node: Node, k: int, operand: Lanes | Rows) -> Lanes | Rows:
        """A contraction with one operand that depends on the direction, as a product and a sum."""
        left, right, out = node.params["subscripts"].replace("->", ",").split(",")
        mine, other = (left, right) if k == 0 else (right, left)
        arg, factor = node.args[k], node.args[1 - k]
        extents = dict(zip(mine + other, arg.shape + factor.shape, strict=True))
        letters = out + "".join(letter for letter in mine if letter not in out)
        space = _Space(letters, tuple(extents[letter] for letter in letters))
        if math.prod(space.shape) > self.most:
            raise Dense(node)
        alone = tuple(n for n, letter in enumerate(other) if letter not in letters)
        other_kept = "".join(letter for letter in other if letter in letters)
        keeps = None
        if factor.value is not None and not factor.value.all():
            keeps = space.spread((factor.value != 0).any(axis=alone), other_kept)
        if self.with_entries:
            factor = space.spread_node(p.sum_(factor, axes=alone), other_kept)
        axes = tuple(range(len(out), len(letters)))
        if isinstance(operand, Rows):
            chosen = space.spread(np.arange(arg.size).reshape(arg.shape), mine)
            chosen = chosen if keeps is None else np.where(keeps, chosen, -1)
            rows = self._taken(node, [operand], chosen.ravel())
            if self.with_entries:
                along = gathered(flat(p.broadcast(factor, shape=space.shape)), rows.row)
                rows = replace(rows, entry=along * rows.entry)
            run = rows.size // node.size
            return self._listed(node, rows.row // run, rows.columns, rows.entry)
        found = []
        for lane in operand:
            columns, is_full = space.spread(lane.columns, mine), lane.is_full
            if keeps is not None:
                columns, is_full = np.where(keeps, columns, np.int32(-1)), False
            made = Lane(columns, is_full)
            if self.with_entries:
                entry = factor * space.spread_node(lane.loose, mine)
                entry = p.broadcast(entry, shape=space.shape)
                made = _scaled(made, lane, entry, is_masked=True)
            found.append(made)
        return self._summed(node, found, space.shape, axes)

    def _summed(self, node: Node, lanes: Sequence[Lane], shape, axes) -> Lanes | Rows:
        """The sum of lanes over some axes."""
        kept = tuple(k for k in range(len(shape)) if k not in axes)
        extent, order = math.prod(shape[k] for k in axes), (*kept, *axes)
        tables = [np.transpose(lane.columns, order).reshape(node.size, extent) for lane in lanes]
        nodes = [
            lane.entry and p.reshape(p.transpose(lane.entry, axes=order), shape=(node.size, extent))
            for lane in lanes
        ]
        if extent * len(lanes) > (MOST_LANES if self.with_entries else 4 * MOST_LANES):
            lanes = [
                replace(lane, columns=table, entry=entry)
                for lane, table, entry in zip(lanes, tables, nodes, strict=True)
            ]
            return self._pushed_to(node, np.repeat(np.arange(node.size), extent), lanes)
        found = []
        for lane, table, entry in zip(lanes, tables, nodes, strict=True):
            for j in range(extent):
                one = entry and p.slice_(entry, start=(0, j), step=(1, 1), size=(node.size, 1))
                one = one and p.reshape(one, shape=node.shape)
                found.append(replace(lane, columns=table[:, j].reshape(node.shape), entry=one))
        return self._merged(node, found)

    def _pushed_to(self, node: Node, rows: np.ndarray, lanes: Sequence[Lane]) -> Rows:
        """The entries of lanes, of which each element is added to one of a node."""
        columns = np.concatenate([lane.columns.ravel() for lane in lanes])
        entry = end_to_end([flat(lane.values) for lane in lanes]) if self.with_entries else None
        return self._listed(node, np.tile(rows, len(lanes)), columns, entry)

    def _added(self, node: Node, k: int, rows: np.ndarray, operand: Lanes | Rows) -> Lanes | Rows:
        """The entries of a primitive that adds each element of its operand to one of its own."""
        if isinstance(operand, Rows):
            return self._listed(node, rows.ravel()[operand.row], operand.columns, operand.entry)
        if node.primitive.reduction == "sum":
            return self._summed(node, operand, node.args[k].shape, node.params["axes"])
        return self._pushed_to(node, rows.ravel(), operand)

    def _destinations(self, node: Node, k: int) -> np.ndarray | None:
        """To which element of a node each of its operand is added, if its transpose selects these."""
        entry = node.primitive
        if entry.rule is None or entry.tangent is not None:
            return None
        z_bar = p.input_node(node.pool, f"adjoint of {node.index}", node.shape, node.dtype)
        bar = entry.rule(z_bar, node, *node.args, **node.params)[k]
        values: dict[Node, np.ndarray] = {z_bar: np.arange(node.size).reshape(node.shape)}
        nodes = reachable([bar], stop=[z_bar])
        active = dependent(nodes, [z_bar])
        for one in nodes:
            if one is z_bar or one not in active:
                continue
            positions = {j for j, arg in enumerate(one.args) if arg in active}
            if not one.primitive.selects or derive.joint_positions(one, positions) != positions:
                return None
            args = [values[arg] if arg in active else self.value(arg) for arg in one.args]
            if any(arg is None for arg in args):
                return None
            values[one] = np.asarray(one.primitive.evaluate(*args, **one.params))
        return np.asarray(values[bar], np.int64)

    # Other linear primitives.

    def _probed(self, node: Node, k: int) -> np.ndarray | None:
        """The matrix of a small primitive of constants."""
        arg = node.args[k]
        values = [None if j == k else self.value(other) for j, other in enumerate(node.args)]
        if any(value is None for j, value in enumerate(values) if j != k):
            return None
        if max(arg.size, node.size) > PROBED or node.is_complex or arg.is_complex:
            return None
        matrix = np.empty((node.size, arg.size))
        for j, unit in enumerate(np.eye(arg.size, dtype=arg.dtype)):
            values[k] = unit.reshape(arg.shape)
            matrix[:, j] = np.asarray(node.primitive.evaluate(*values, **node.params)).ravel()
        return matrix if np.isfinite(matrix).all() else None

    def _times(self, node: Node, k: int, matrix: np.ndarray, operand: Lanes | Rows) -> Rows:
        """The entries of a linear primitive by its matrix."""
        out, into = np.nonzero(matrix)
        rows = self._taken(node, [self._rows(node.args[k], operand)], into)
        entry = rows.entry
        if entry is not None:
            factor = matrix[out, into][rows.row].astype(node.dtype)
            entry = p.constant(node.pool, factor) * entry
        return self._listed(node, out[rows.row], rows.columns, entry)

    def _all(self, node: Node, operands: list[Lanes | Rows]) -> Rows:
        """All elements depend on all that the operands depend on."""
        if self.with_entries:
            raise Unknown
        self.dense[named(node)] = None
        columns = np.unique(np.concatenate([one for each in operands for one in columns_of(each)]))
        columns = columns[columns >= 0].astype(np.int32)
        if columns.size * node.size > self.most:
            raise Dense(node)
        starts = np.arange(node.size + 1) * columns.size
        return Rows(starts, np.tile(columns, node.size), None)


@dataclass(frozen=True)
class _Space:
    """The axes of a contraction, by letters."""

    letters: str
    shape: tuple[int, ...]

    def _order(self, own: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """How axes of some letters are turned, and their extents among all."""
        order = tuple(own.index(letter) for letter in self.letters if letter in own)
        pairs = zip(self.letters, self.shape, strict=True)
        return order, tuple(n if letter in own else 1 for letter, n in pairs)

    def spread(self, array: np.ndarray, own: str) -> np.ndarray:
        """An array with axes of some letters, along all."""
        order, extents = self._order(own)
        return np.broadcast_to(np.transpose(array, order).reshape(extents), self.shape)

    def spread_node(self, node: Node, own: str) -> Node:
        """The same of a node, which broadcasts along the others."""
        order, extents = self._order(own)
        return p.reshape(p.transpose(node, axes=order), shape=extents)


def _ones(node: Node) -> Node:
    return p.broadcast(derive.one(node), shape=node.shape)


def _pushed(node: Node, dots: list[Node | None]) -> Node:
    """The tangent of a node, of entries as tangents of its operands."""
    return derive.push(node, dots) or p.zeros(node.pool, node.shape, node.dtype)


def _scaled(made: Lane, lane: Lane, entry: Node, is_masked: bool) -> Lane:
    """The lane that an elementwise primitive makes of another, with the entries that this gives."""
    scale, entry = peeled(entry)
    number = p.scalar_value(entry)
    is_number = number is not None and number.dtype.kind == "f" and np.isfinite(number)
    if is_number and lane.is_constant and not is_masked and lane.entry.dtype == entry.dtype:
        ones = p.broadcast(lane.entry, shape=entry.shape)
        return replace(made, entry=ones, scale=lane.scale * scale * float(number), is_constant=True)
    is_clean = lane.is_full or (lane.is_clean and not lane.is_constant)
    return replace(made, entry=entry, scale=lane.scale * scale, is_clean=is_clean)
