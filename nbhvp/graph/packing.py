"""Nodes as rows of plain values, to be pickled and made again in another pool.

A row is a primitive, the places of its operands, parameters, shape and dtype. Primitives are pickled by
their names in the table, and those of recurrences as the rows of their bodies; functions by their names,
if a library has them.

Invariant: what another process may read as something else raises PicklingError.
"""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.digest import is_of_libraries
from nbhvp.graph.node import Graph, Node, Pool, reachable
from nbhvp.graph.primitive import Primitive
from nbhvp.graph.table.scan import Body

__all__ = ["Absent", "Packed", "Writer", "packed", "unpacked"]


class Absent(Exception):
    """Something that this process lacks."""


@dataclass(frozen=True)
class Packed:
    """Some nodes, computed from others that are given."""

    rows: list[tuple]
    outputs: list[int]
    """Places among the nodes given and those of the rows behind them."""


def packed(outputs: Iterable[Node], given: Sequence[Node]) -> Packed:
    """The rows of some nodes."""
    outputs = list(outputs)
    place = {node: k for k, node in enumerate(given)}
    rows = []
    for node in reachable(outputs, stop=given):
        if node not in place:
            place[node] = len(place)
            args = [place[arg] for arg in node.args]
            rows.append((node.primitive, args, _params(node), node.shape, node.dtype))
    return Packed(rows, [place[node] for node in outputs])


def _params(node: Node) -> dict:
    """The parameters, with constants in one piece of memory."""
    value = node.value
    if value is None or value.flags.c_contiguous or value.flags.f_contiguous:
        return node.params
    return {"value": np.ascontiguousarray(value)}


def unpacked(content: Packed, given: Sequence[Node], pool: Pool) -> list[Node]:
    """The nodes of rows, from those that are given."""
    nodes = [*given]
    for primitive, places, params, shape, dtype in content.rows:
        if "value" in params:
            nodes.append(p.constant(pool, params["value"]))
        elif primitive is p.INPUT:
            nodes.append(p.input_node(pool, params["name"], shape, dtype))
        else:
            args = tuple([nodes[place] for place in places])
            nodes.append(pool.intern(primitive, args, params, shape, dtype))
    return [nodes[place] for place in content.outputs]


class Writer(pickle.Pickler):
    """Writes primitives, and no objects but those of libraries."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Primitive):
            return _written(obj)
        if isinstance(obj, Node | Pool):
            raise pickle.PicklingError("a node stands alone")
        if isinstance(obj, np.ndarray) and not (obj.flags.c_contiguous or obj.flags.f_contiguous):
            raise pickle.PicklingError("an array in pieces")
        if hasattr(obj, "__qualname__") and not is_of_libraries(obj):
            raise pickle.PicklingError(f"{obj!r} may be another one in another process")
        return NotImplemented


def _written(entry: Primitive) -> tuple:
    if p.TABLE.get(entry.name) is entry:
        return _entry, (entry.name,)
    body = entry.body
    if body is None or entry is not body.primitive:
        raise pickle.PicklingError(f"the primitive {entry.name} is not in the table")
    others = {f.name: getattr(body, f.name) for f in dataclasses.fields(body) if f.name not in _OWN}
    graph = packed((*body.graph.inputs, *body.graph.outputs), ())
    single = body.single and body.single.primitive
    return _scan, (graph, len(body.graph.inputs), single, others)


_OWN = "graph", "single"


def _entry(name: str) -> Primitive:
    if name not in p.TABLE:
        raise Absent(name)  # its module has not been imported
    return p.TABLE[name]


def _scan(graph: Packed, count: int, single: Primitive | None, others: dict) -> Primitive:
    nodes = unpacked(graph, (), Pool())
    inputs, outputs = tuple(nodes[:count]), tuple(nodes[count:])
    one = None if single is None else single.body
    return Body(Graph(inputs, outputs), single=one, **others).primitive
