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
from nbhvp.graph.sparsity.entries import Rows, end_to_end, flat, gathered, summed
from nbhvp.graph.sparsity.propagation import Unknown, plain, sparsity

__all__ = ["MOST_DIRECTIONS", "Elements", "assembled", "elements"]

MOST_TERMS = 16
"""To which an entry of D may be added in the mean."""
MOST_FACTORS = 8
"""Different entries of C_out and of C_in."""
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
    if any(node.primitive.body is not None for node in reachable([product])):
        raise Unknown  # its steps would be a long program
    nodes = plain(product)
    known = {node: p.constant(node.pool, value) for node, value in values.items()}
    nodes = reachable([_replaced(nodes, known)[nodes[-1]]])
    active = dependent(nodes, [direction])
    fixed = _fixed(nodes, direction)
    outs = _outs(nodes, active, fixed)
    users = [node for node in reachable(outs) if node in active and node not in fixed]
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
    many = max(np.unique(one.data).size for one in (before, after)) > MOST_FACTORS
    if many or before.nnz * after.nnz > MOST_TERMS * w.size * u.size:
        raise Unknown
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
    passing, outs, gathered_later = set(), {nodes[-1]: None}, set()
    for node in reversed(nodes):
        later = users.get(node, ())
        if any(user in gathered_later or _is_by_index(user) for user in later):
            gathered_later.add(node)
        is_alone = node.primitive.is_elementwise and len(active.intersection(node.args)) == 1
        is_passed = node in active and all(user in passing for user in later)
        is_constant = all(arg in active or arg in fixed for arg in node.args)
        is_apart = is_alone or node not in gathered_later  # else it is as well part of D
        if is_passed and is_constant and is_apart and node not in fixed:
            passing.add(node)
            outs.pop(node, None)
            outs.update(dict.fromkeys(arg for arg in node.args if arg in active))
    return _joined(nodes, active, users, list(outs))


def _is_by_index(node: Node) -> bool:
    """Whether indices tell where elements go."""
    return any(arg.dtype.kind in "iu" for arg in node.args)


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


def assembled(parts: Elements, colours: np.ndarray, terms: tuple[np.ndarray, ...]) -> Rows:
    """The entries of the product's matrix, of terms in order: see `sorted_terms`."""
    starts, columns, places, factors = terms
    values = _values(parts, colours)
    classes = [values if factor == 1 else p.multiply(float(factor), values) for factor in factors]
    return summed(starts, columns, gathered(end_to_end(classes), places))


def _values(parts: Elements, colours: np.ndarray) -> Node:
    """D times the sums of its columns of each colour: element by element, the colours side by side."""
    seeds, start, count = {}, 0, int(colours.max(initial=-1)) + 1
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
