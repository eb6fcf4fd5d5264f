"""Nodes, the pool that interns them, and graphs.

A node is one application of a primitive to other nodes; it has a shape and a dtype, never a value.
A pool holds the nodes of one trace and everything derived from it: equal applications are the same
object, so common subexpressions are shared between a function, its gradient and its products
without a pass that looks for them. A graph is a view into a pool: some inputs, some outputs.

Invariants: `node.index` grows along every edge, so sorting by it is a topological order; two nodes
of a pool with the same primitive, arguments and parameters are identical; a node belongs to one
pool. Constants intern by identity (arrays) or by their bits (scalars).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np

__all__ = ["LIVE", "OPEN", "PLAIN", "Graph", "Node", "Pool", "reachable"]


PLAIN, OPEN, LIVE = 0, 1, 2
"""Whether a node depends on no input, may depend on one, or does."""


_INDEX = attrgetter("index")


class Node:
    """One application of a primitive. Compared by identity; operators come from the table."""

    __slots__ = ("args", "dtype", "index", "life", "params", "pool", "primitive", "shape")

    def __init__(self, pool, primitive, args, params, shape, dtype, index):
        self.pool: Pool = pool
        self.primitive = primitive
        self.args: tuple[Node, ...] = args
        self.params: dict[str, Any] = params
        self.shape: tuple[int, ...] = shape
        self.dtype: np.dtype = dtype
        self.index: int = index
        is_source = PLAIN if "value" in params else LIVE
        self.life: int = max([arg.life for arg in args]) if args else is_source

    # NumPy scalars and arrays on the left must leave `array * node` to the node.
    __array_ufunc__ = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        size = 1
        for extent in self.shape:
            size *= extent
        return size

    @property
    def value(self) -> np.ndarray | None:
        """The array of a constant, None for any other node."""
        return self.params.get("value")

    @property
    def is_complex(self) -> bool:
        return self.dtype.kind == "c"

    def __repr__(self) -> str:
        kind = f"{self.dtype.kind}{self.dtype.itemsize}"
        return f"%{self.index}:{kind}[{','.join(map(str, self.shape))}]"


class Pool:
    """The interned nodes of one trace. One lock: derived graphs may be made by several threads."""

    def __init__(self) -> None:
        self._interned: dict[tuple, Node] = {}
        self._count = 0
        self.rows: list[int] = []
        """Operations that are no nodes yet, and are counted with them (`log.py`)."""
        self.origin: Node | None = None
        """The node whose derivative is being made: what is interned meanwhile belongs to it."""
        self.gradients: dict[tuple[Node, Node], Node] = {}
        """Of scalar nodes, that were derived."""
        self.made: dict[tuple, Any] = {}
        """What is made of nodes once, to be found again: keys begin with a word for its kind."""
        self.has_lengths = False
        """Whether there are nodes whose square is smooth where they are not."""
        self.asks = False
        """Whether applications are requests (`requests.py`)."""
        self.lock = threading.RLock()

    @contextmanager
    def settling(self) -> Iterator[None]:
        """What is applied here is simplified, folded, and shared."""
        before, self.asks = self.asks, False
        try:
            yield
        finally:
            self.asks = before

    def settle(self, nodes: Iterable[Node]) -> None:
        """Make the nodes that requests stand for: here all nodes are."""

    def is_live(self, node: Node) -> bool:
        """Whether a node depends on an input."""
        return node.life == LIVE

    @property
    def size(self) -> int:
        """The number of nodes that were made."""
        return self._count

    @property
    def end(self) -> int:
        """The index that the next node has."""
        return self._count + len(self.rows)

    def counted(self) -> int:
        """The index of one more node."""
        index = self._count + len(self.rows)
        self._count += 1
        return index

    def intern(self, primitive, args, params, shape, dtype, key=None) -> Node:
        """The node of this application, made if it is new; `key` stands for unhashable params."""
        if key is None:
            key = tuple(sorted(params.items())) if params else ()
        full_key = (primitive, args, key, dtype)
        with self.lock:
            node = self._interned.get(full_key)
            if node is None:
                node = Node(self, primitive, args, params, shape, dtype, self.counted())
                self._interned[full_key] = node
                if primitive.square is not None:
                    self.has_lengths = True
            return node

    def keys(self) -> dict[Node, Any]:
        """What stands for the parameters of each node."""
        with self.lock:
            return {node: key for (_, _, key, _), node in self._interned.items()}

    def __reduce__(self):
        raise TypeError("a Pool belongs to its process: pickle the Function, not its graphs")


@dataclass(frozen=True)
class Graph:
    """A function from `inputs` to `outputs`; every path from an output ends in an input or constant.

    Printing a graph gives one line per node in an order in which it can be computed.
    """

    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes that the outputs need, in topological order."""
        return tuple(reachable(self.outputs))

    def __str__(self) -> str:
        names = {node: f"%{k}" for k, node in enumerate(self.nodes)}
        names.update({node: node.params["name"] for node in self.inputs})
        lines = [f"graph({', '.join(_typed(names[node], node) for node in self.inputs)})"]
        for node in self.nodes:
            if node in self.inputs:
                continue
            lines.append(f"  {_typed(names[node], node)} = {_application(node, names)}")
        lines.append(f"  return {', '.join(names[node] for node in self.outputs)}")
        return "\n".join(lines)


def reachable(outputs: Iterable[Node], stop: Iterable[Node] = ()) -> list[Node]:
    """The nodes that `outputs` depend on, in topological order, not looking behind `stop`."""
    seen, stop = set(outputs), set(stop)
    stack = list(seen)
    while stack:
        node = stack.pop()
        if node in stop:
            continue
        for arg in node.args:
            if arg not in seen:
                seen.add(arg)
                stack.append(arg)
    return sorted(seen, key=_INDEX)


def dependent(nodes: Iterable[Node], sources: Iterable[Node]) -> set[Node]:
    """Those of `nodes` (in topological order) that depend on any of `sources`, sources included."""
    found = set(sources)
    for node in nodes:
        if any(arg in found for arg in node.args):
            found.add(node)
    return found


def _typed(name: str, node: Node) -> str:
    return f"{name}:{node!r}".replace(f":%{node.index}", "")


def _application(node: Node, names: dict[Node, str]) -> str:
    if node.value is not None:
        return np.array2string(node.value, threshold=4, edgeitems=2).replace("\n", " ")
    parts = [names[arg] for arg in node.args]
    parts += [f"{key}={value!r}" for key, value in node.params.items()]
    return f"{node.primitive.name}({', '.join(parts)})"
