"""The operations of a trace, in the order in which they were asked for.

While a function runs, each application of a primitive is a node of its own, neither simplified, nor
folded, nor found to be one that there is: a request. So the steps of a loop have equal operations, also
where two steps share a value, a constant is 0 or 1, or a start is a number; loops over time are sought
among requests (`periods`). `Requests.settled` gives the node of the graph that a request stands for,
with all that was not done. Settled nodes never have requests among their arguments.

Constants and inputs are settled from the start. What looks at the structure of nodes while a function
runs, as the tapes of compiled functions do, works `settling`.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from nbhvp.graph.node import OPEN, PLAIN, Node, Pool

__all__ = ["Request", "Requests", "settled"]

_DOUBLE = np.dtype(float)


class Kind(NamedTuple):
    """What equal operations of two steps have in common."""

    number: int
    shape: tuple[int, ...]
    dtype: np.dtype
    wanted: tuple[np.dtype, ...] | None
    """The dtypes to which arguments are cast, if they are."""
    is_same: bool
    """Whether the result is the argument."""


class Request(Node):
    """An operation as it was asked for."""

    __slots__ = ("kind", "node")

    def __init__(self, pool, primitive, args, params, shape, dtype, index, life, kind):
        self.pool = pool
        self.primitive = primitive
        self.args = args
        self.params = params
        self.shape = shape
        self.dtype = dtype
        self.index = index
        self.life: int = life
        self.kind: int = kind
        self.node: Node | None = None
        """What it stands for, if that was asked."""


class Requests(Pool):
    """A pool in which a function runs."""

    def __init__(self) -> None:
        super().__init__()
        self.asks = True
        self._forms: dict[tuple, Kind] = {}
        self._numbers: dict[tuple, int] = {}
        self._marks: list[tuple[int, int]] = []
        """How many nodes there were when one was made behind so many rows."""
        self._of_numbers: dict[Any, int] = {}
        self.expand: Callable[[Iterable[Node]], Any] | None = None
        """What makes step values the operations that they stand for (`log.py`)."""

    def request(self, primitive, args: tuple, params: dict[str, Any]) -> Node:
        """One more operation."""
        return self.of_form(
            (primitive, *map(_form, args), *params.items()), primitive, args, params
        )

    def of_form(self, form: tuple, primitive, args: tuple, params: dict[str, Any]) -> Node:
        """The same of a key that tells all but which nodes the arguments are."""
        kind = self._forms.get(form)
        if kind is None:
            kind = self._forms[form] = self._kind(primitive, args, params)
        if kind.wanted is not None:
            args = primitive.converted(self, args, kind.wanted)
        if kind.is_same:
            return args[0]
        if primitive.follow is not None and (found := primitive.follow(*args, **params)):
            return found
        lives = [arg.life for arg in args]
        life = max(lives, default=PLAIN)
        if primitive.selects and life != min(lives):
            life = OPEN
        return Request(
            self, primitive, args, params, kind.shape, kind.dtype, self.counted(), life, kind.number
        )

    def counted(self) -> int:
        """The index of one more node."""
        rows, count = len(self.rows), self._count
        if not self._marks or self._marks[-1][0] != rows:
            self._marks.append((rows, count))
        self._count = count + 1
        return count + rows

    def index_of(self, row: int) -> int:
        """The index that the node of a row has."""
        k = bisect.bisect_right(self._marks, row, key=lambda mark: mark[0])
        return row + (self._marks[k][1] if k < len(self._marks) else self._count)

    def number(self, primitive, args: tuple[Node, ...], index: int) -> Request:
        """An elementwise operation on numbers of double precision that gives one."""
        kind = self._of_numbers.get(primitive)
        if kind is None:
            kind = self._of_numbers[primitive] = self._kind(primitive, args, {}).number
        life = max([arg.life for arg in args])
        return Request(self, primitive, args, {}, (), _DOUBLE, index, life, kind)

    def is_live(self, node: Node) -> bool:
        """Whether a node depends on an input."""
        return super().is_live(settled(node) if node.life == OPEN else node)

    def _kind(self, primitive, args: tuple, params: dict[str, Any]) -> Kind:
        given, wanted = args, None
        if primitive.is_elementwise:
            wanted = primitive.wanted(args)
            args = primitive.converted(self, args, wanted)
            if all(one is other for one, other in zip(args, given, strict=True)):
                wanted = None
        elif not all(isinstance(arg, Node) for arg in args):
            wanted = (None,) * len(args)
            args = primitive.converted(self, args, wanted)
        shape, dtype = primitive.infer(*args, **params)
        key = (primitive, tuple((arg.shape, arg.dtype) for arg in args), *sorted(params.items()))
        number = self._numbers.setdefault(key, len(self._numbers))
        is_view = primitive.converts or (primitive.selects and params.keys() == {"shape"})
        is_same = is_view and (args[0].shape, args[0].dtype) == (shape, dtype)
        return Kind(number, shape, dtype, wanted, is_same)

    def settle(self, nodes: Iterable[Node]) -> None:
        """Make the nodes that requests stand for, in the order in which they were asked for."""
        if self.expand is not None:
            self.expand(_unsettled(nodes))
        with self.settling():
            for one in _unsettled(nodes):
                args = [arg.node if type(arg) is Request else arg for arg in one.args]
                one.node = one.primitive(*args, **one.params)


def settled(node: Node) -> Node:
    """The node that a request stands for; any other node itself."""
    if type(node) is not Request:
        return node
    node.pool.settle([node])
    assert node.node is not None
    return node.node


def _form(arg) -> tuple:
    if isinstance(arg, Node):
        return arg.shape, arg.dtype
    if type(arg) in (int, float, complex):
        return (type(arg),)
    array = np.asarray(arg)
    return array.shape, array.dtype, None


def _unsettled(nodes: Iterable[Node]) -> list[Request]:
    """The requests that must be settled for some nodes to be, in order."""
    seen = {node for node in nodes if type(node) is Request and node.node is None}
    stack = list(seen)
    while stack:
        for arg in stack.pop().args:
            if type(arg) is Request and arg.node is None and arg not in seen:
                seen.add(arg)
                stack.append(arg)
    return sorted(seen, key=lambda one: one.index)
