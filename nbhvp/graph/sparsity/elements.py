"""The matrix of a product as that of its elements, between two constant matrices.

A function that is a sum of like terms takes the unknowns of each term together, by indices say, computes
the terms side by side, and adds up what they give. So its product with a direction is

    H v = C_out D(x) C_in v,

where C_in v are nodes that depend on the direction and on constants alone, C_out is what is constant on
the way from the last others to the product, and D(x), with the terms' own small matrices, is between.
D takes as many directions as the unknowns of a term, however many terms share an unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from nbhvp.graph import primitives as p
from nbhvp.graph.batch import seeded
from nbhvp.graph.interpret import Interpreter
from nbhvp.graph.node import Graph, Node, dependent, reachable
from nbhvp.graph.sparsity.entries import Rows, end_to_end, flat, gathered, grouped
from nbhvp.graph.sparsity.propagation import Unknown, plain, sparsity

__all__ = ["MOST_DIRECTIONS", "Elements", "assembled", "elements"]

MOST_TERMS = 16
"""Of the matrix, to which one entry of D may be added."""
MOST_DIRECTIONS = 40


@dataclass(frozen=True, eq=False)
class Elements:
    """The parts of a product: D leads from `ins` to `outs`."""

    ins: tuple[Node, ...]
    outs: tuple[Node, ...]
    before: scipy.sparse.csr_array
    """C_in."""
    after: scipy.sparse.csc_array
    """C_out."""
    pattern: scipy.sparse.csr_array
    """Of D."""


def elements(product: Node, direction: Node, values: Mapping[Node, np.ndarray]) -> Elements:
    """The parts of a product.

    Raises
    ------
    Unknown
        If there is nothing constant around D, or if a part has entries that are not known.
    """
    nodes = plain(product)
    known = {node: p.constant(node.pool, value) for node, value in values.items()}
    nodes = reachable([_replaced(nodes, known)[nodes[-1]]])
    active = dependent(nodes, [direction])
    fixed = _fixed(nodes, direction)
    outs = _outs(nodes, active, fixed)
    outer = dependent(nodes, outs).difference(outs)
    users = [node for node in nodes if node in active and node not in fixed and node not in outer]
    used = {arg for node in users for arg in node.args} | set(outs)
    ins = tuple(node for node in nodes if node in active and node in fixed and node in used)
    is_real = all(node.dtype == direction.dtype for node in (*ins, *outs))
    if not users or not is_real or (ins == (direction,) and outs == (nodes[-1],)):
        raise Unknown
    before = _numbers(end_to_end([flat(node) for node in ins]), direction)
    u, given = _apart(outs, "u")
    after = _numbers(_replaced(nodes, given)[nodes[-1]], u)
    w, given = _apart(ins, "w")
    inner = _replaced(nodes, given)
    found = sparsity(end_to_end([flat(inner[node]) for node in outs]), w, {}).rows
    ones = np.ones(found.columns.size, bool)
    pattern = scipy.sparse.csr_array((ones, found.columns, found.starts), shape=(u.size, w.size))
    return Elements(ins, outs, before, after.tocsc(), pattern)


def _fixed(nodes: Sequence[Node], direction: Node) -> set[Node]:
    """The nodes that depend on the direction and on constants alone."""
    fixed = {direction}
    for node in nodes:
        if node.value is not None or (node.args and fixed.issuperset(node.args)):
            fixed.add(node)
    return fixed


def _outs(nodes: Sequence[Node], active: set[Node], fixed: set[Node]) -> tuple[Node, ...]:
    """The last nodes from which the product is a constant matrix."""
    users: dict[Node, list[Node]] = {}
    for node in nodes:
        for arg in node.args:
            users.setdefault(arg, []).append(node)
    passing, outs = set(), {nodes[-1]: None}
    for node in reversed(nodes):
        is_passed = node in active and all(user in passing for user in users.get(node, ()))
        is_constant = all(arg in active or arg in fixed for arg in node.args)
        if is_passed and is_constant and node not in fixed:
            passing.add(node)
            outs.pop(node, None)
            outs.update(dict.fromkeys(arg for arg in node.args if arg in active))
    return _joined(nodes, active, users, list(outs))


def _joined(nodes: Sequence[Node], active: set[Node], users: dict, outs: list[Node]):
    """A sum in the place of its terms, where nothing else needs these."""
    found = dict.fromkeys(outs)
    for node in nodes:
        terms = {arg for arg in node.args if arg in active}
        alone = all(arg in found and {*users[arg]} == {node} for arg in terms)
        if terms and alone and node.primitive.is_elementwise:
            for arg in terms:
                del found[arg]
            found[node] = None
    return tuple(found)


def _apart(nodes: Sequence[Node], name: str) -> tuple[Node, dict[Node, Node]]:
    """A vector in the place of some nodes, and the part of it that is each."""
    starts = np.cumsum([0, *(node.size for node in nodes)]).tolist()
    vector = p.input_node(nodes[0].pool, f"{name} of elements", (starts[-1],), nodes[0].dtype)
    parts = {}
    for node, start in zip(nodes, starts, strict=False):
        part = p.slice_(vector, start=(start,), step=(1,), size=(node.size,))
        parts[node] = p.reshape(part, shape=node.shape)
    return vector, parts


def _replaced(nodes: Sequence[Node], given: dict[Node, Node]) -> dict[Node, Node]:
    """Nodes computed from others in the place of some."""
    new = dict(given)
    for node in nodes:
        if node not in new:
            args = tuple(new[arg] for arg in node.args)
            new[node] = node if args == node.args else node.primitive(*args, **node.params)
    return new


def _numbers(output: Node, vector: Node) -> scipy.sparse.csr_array:
    """The constant matrix of a node that depends on a vector and on constants."""
    rows = sparsity(output, vector, {}, with_entries=True).rows
    found = Interpreter(Graph((), rows.lanes if rows.entry is None else (rows.entry,)))()
    if rows.entry is None:
        table = np.stack([found[k].ravel() for k in rows.places], axis=1)
        found = [table.ravel() if rows.is_valid is None else table[rows.is_valid]]
    if not np.isfinite(found[0]).all():  # those that tell whether a derivative exists
        raise Unknown
    shape = output.size, vector.size
    return scipy.sparse.csr_array((found[0], rows.columns, rows.starts), shape=shape)


def assembled(parts: Elements, colours: np.ndarray) -> Rows:
    """The entries of the product's matrix, given colours of the columns of D."""
    count = int(colours.max(initial=-1)) + 1
    rows, columns, factors, places = _terms(parts, colours, count)
    entry = _values(parts, colours, count)
    order = grouped(columns, parts.before.shape[1])
    order = order[grouped(rows[order], parts.after.shape[0])]
    rows, columns = rows[order], columns[order]
    is_new = np.ones(rows.size, bool)
    is_new[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
    begins = np.append(np.flatnonzero(is_new), is_new.size)
    starts = np.searchsorted(rows[is_new], np.arange(parts.after.shape[0] + 1))
    entry = _scaled(entry, places[order], factors[order])
    if not is_new.all():
        entry = p.segment_sum(entry, p.constant(entry.pool, begins), axis=0)
    return Rows(starts, columns[is_new], entry)


def _scaled(values: Node, places: np.ndarray, factors: np.ndarray) -> Node:
    """Values at some places, times factors: those of -1 take places among the negative values."""
    if (factors == 1).all():
        return gathered(values, places)
    if (np.abs(factors) == 1).all():
        places = np.where(factors < 0, places + values.size, places)
        return gathered(end_to_end([values, -values]), places)
    return gathered(values, places) * p.constant(values.pool, factors)


def _terms(parts: Elements, colours: np.ndarray, count: int):
    """Rows, columns, factors of all that entries of D are added to, and where these lie."""
    a = np.repeat(np.arange(parts.pattern.shape[0], dtype=np.int32), np.diff(parts.pattern.indptr))
    b = parts.pattern.indices
    place = a * np.int64(count) + colours[b]
    lefts, rights = _padded(parts.after.T.tocsr()), _padded(parts.before)
    if len(lefts) * len(rights) > MOST_TERMS:
        raise Unknown
    found = []
    for rows, left in lefts:
        for columns, right in rights:
            row, column = rows[a], columns[b]
            valid = np.flatnonzero((row >= 0) & (column >= 0))
            factor = left[a[valid]] * right[b[valid]]
            found.append((row[valid], column[valid], factor, place[valid]))
    return [np.concatenate(several) for several in zip(*found, strict=True)]


def _padded(matrix: scipy.sparse.csr_array) -> list[tuple[np.ndarray, np.ndarray]]:
    """The first entry of each row, the second, and so on: its column, -1 for none, and its value."""
    counts = np.diff(matrix.indptr)
    found = []
    for k in range(min(int(counts.max(initial=0)), MOST_TERMS + 1)):
        has = counts > k
        column, value = np.full(counts.size, -1, np.int32), np.zeros(counts.size, matrix.dtype)
        at = matrix.indptr[:-1][has] + k
        column[has], value[has] = matrix.indices[at], matrix.data[at]
        found.append((column, value))
    return found


def _values(parts: Elements, colours: np.ndarray, count: int) -> Node:
    """D times the sums of its columns of each colour: element by element, the colours side by side."""
    seeds, start = {}, 0
    for node in parts.ins:
        mine = colours[start : start + node.size].reshape(node.shape)
        if node.ndim > 1 and (mine == mine[:1]).all():
            mine = mine[:1]
        seed = np.asarray(mine[..., None] == np.arange(count), node.dtype)
        seeds[node] = p.broadcast(p.constant(node.pool, seed), shape=(*node.shape, count))
        start += node.size
    new = seeded(parts.outs, seeds, count)
    if new is None:
        raise Unknown
    return end_to_end([flat(one) for one in new])
