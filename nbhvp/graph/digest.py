"""Digests of graphs: equal digests stand for graphs that have the same plans.

All goes into a digest on which what is made of a graph may depend: the primitives and their parameters,
shapes, dtypes and the order of nodes, names of inputs, and constants with their strides
and bits; of a recurrence its body, of a tape its records. Primitives of the table go by their names, and
so do functions of this package, of NumPy and of SciPy: versions are for the caller to add.

Invariant: what is not known here gives no digest, rather than one that leaves something out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import pickle
import weakref
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, Pool
from nbhvp.graph.table.scan import Body

__all__ = ["Unknown", "constants", "digest", "is_of_libraries"]

MOST = 1 << 26
"""Bytes of constants beyond which planning anew takes no longer than reading them."""
LIBRARIES = "nbhvp", "numpy", "scipy", "builtins"
NAMED = type | FunctionType | BuiltinFunctionType | np.ufunc

_bodies: weakref.WeakKeyDictionary[Body, bytes] = weakref.WeakKeyDictionary()
"""Digests of the bodies of recurrences, which many nodes share."""


class Unknown(Exception):
    """Something whose digest is not known."""


def digest(graph: Graph, *words: str, also: Any = None) -> bytes | None:
    """The digest of a graph, some words and one more object; None where it is not known, or takes long."""
    try:
        return _hash((words, _rows(graph), also))
    except Unknown:
        return None


def constants(graph: Graph) -> list[np.ndarray]:
    """The arrays of a graph, in the same order for graphs of one digest."""
    return [node.params["value"] for node in graph.nodes if "value" in node.params]


def is_of_libraries(function: Any) -> bool:
    """Whether a function or a class is known by its name, given the versions of all libraries."""
    module = getattr(function, "__module__", None) or "builtins"
    return module.partition(".")[0] in LIBRARIES and "<" not in getattr(
        function, "__qualname__", ""
    )


def _hash(content: Any) -> bytes:
    written = io.BytesIO()
    writer = _Writer(written, protocol=pickle.HIGHEST_PROTOCOL)
    writer.fast = True  # what is one object, and what only equal, makes no difference
    writer.dump(content)
    return hashlib.sha256(written.getbuffer()).digest()


def _rows(graph: Graph) -> tuple:
    """A row of plain values for each node, and the places of inputs and outputs."""
    nodes = graph.nodes
    place = {node: k for k, node in enumerate(nodes)}
    names = {entry: name for name, entry in p.TABLE.items()}
    rows = [
        (
            names.get(node.primitive, node.primitive),
            tuple([place[arg] for arg in node.args]),
            node.params,
            node.shape,
            node.dtype.str,
        )
        for node in nodes
    ]
    inputs = [(node.params, node.shape, node.dtype.str, place.get(node)) for node in graph.inputs]
    size = sum([node.params["value"].nbytes for node in nodes if "value" in node.params])
    if size > MOST:
        raise Unknown("large constants")
    return rows, inputs, [place[node] for node in graph.outputs]


class _Writer(pickle.Pickler):
    """Writes plain values, and what else is known as plain values."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, NAMED):
            if not is_of_libraries(obj):
                raise Unknown(repr(obj))
            return NotImplemented  # by its name
        return tuple, (_content(obj),)


def _content(obj: Any) -> tuple:
    """What is not plain, as plain values."""
    for kind, content in _KINDS.items():
        if isinstance(obj, kind):
            return (kind.__name__, *content(obj))
    if not dataclasses.is_dataclass(obj) or not is_of_libraries(type(obj)):
        raise Unknown(f"an object of {type(obj)}")
    if isinstance(obj, Body):
        if obj not in _bodies:
            _bodies[obj] = _hash(_fields(obj))
        return "Body", _bodies[obj]
    return type(obj).__qualname__, *_fields(obj)


def _fields(obj: Any) -> list:
    return [getattr(obj, field.name) for field in dataclasses.fields(obj)]


def _array(array: np.ndarray) -> tuple:
    if array.dtype.hasobject or array.nbytes > MOST:
        raise Unknown(f"an array of {array.nbytes} bytes of {array.dtype}")
    bits = hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).digest()
    return array.dtype.str, array.shape, array.strides, bits


def _primitive(entry: p.Primitive) -> tuple:
    """By its name in the table; that of a recurrence by its body."""
    if p.TABLE.get(entry.name) is entry:
        return (entry.name,)
    if entry.body is None:
        raise Unknown(f"the primitive {entry.name}")
    return entry.name, entry.body


def _number(x: np.generic) -> tuple:
    return x.dtype.str, x.tobytes()


def _refused(obj: Any) -> tuple:
    raise Unknown(f"an object of {type(obj)}")


_KINDS: dict[type, Callable[[Any], tuple]] = {
    np.dtype: lambda dtype: (dtype.str, dtype.hasobject or dtype.names or ()),
    np.ndarray: _array,
    np.generic: _number,
    complex: lambda z: (z.real, z.imag),
    range: lambda given: (given.start, given.stop, given.step),
    p.Primitive: _primitive,
    Graph: _rows,
    Node: _refused,
    Pool: _refused,
}
"""Plain values of objects, by their kinds."""
