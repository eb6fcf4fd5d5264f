"""Operations on numbers, as integers, in the order in which they were asked for.

A loop over time on numbers asks for some hundred thousand operations, of which one step is needed. So an
operation is first a row of the log: its kind and two operands, each the row of another operation or a
value from outside, a node or a plain number. Nodes are made where one is asked for, and by then loops
have been sought in the log, if there is enough of it. What a row in a loop is then is a *step value*: a
node that depends on what the loop takes, and knows its step and place. `recurrences` puts a scan in the
place of step values; where it cannot, or where the structure of nodes matters, they become the operations
that they stand for (`Log.expand`).

Rows with nodes of their own are in no loop. All rows depend on an input of the trace.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import LIVE, Node
from nbhvp.graph.primitives import Primitive
from nbhvp.graph.requests import Request, Requests
from nbhvp.graph.time.periods import (
    Carried,
    Loop,
    Numbers,
    Operand,
    Slices,
    carried,
    leaf_of,
    sought,
)

__all__ = ["STEP_VALUE", "Log", "Run", "code_of"]

BACKLOG = 2000
"""Rows among which loops are sought; nodes of fewer are made at once."""
LEAST = 500
"""Rows of a loop."""
_DOUBLE = np.dtype(float)


def _no_value(*args: Any, **params: Any) -> Any:
    raise AssertionError("a step value has no value of its own")


STEP_VALUE = Primitive("step value", "source", _no_value, _no_value)


KINDS: list[Primitive] = []
"""By the codes of rows."""
ARITIES: list[int] = []
_CODES: dict[tuple[Primitive, float | None], int] = {}


def code_of(primitive: Primitive, exponent: float | None = None) -> int:
    """The kind of an operation; of one with another form for a constant, with that constant."""
    key = primitive, exponent
    found = _CODES.get(key)
    if found is None:
        KINDS.append(primitive)
        ARITIES.append(primitive.arity)
        found = _CODES[key] = len(KINDS) - 1
    return found


@dataclass(eq=False)
class Run:
    """A loop in the log."""

    begin: int
    period: int
    length: int
    loop: Loop
    inputs: tuple[Node, ...]
    """What it takes from outside."""

    @property
    def end(self) -> int:
        return self.begin + self.period * self.length


@dataclass(eq=False)
class Log:
    """The log of one trace."""

    pool: Requests
    codes: list[int] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    second: list[int] = field(default_factory=list)
    """Operands: a row, or ~k for value k from outside. Of operations with one, that one again."""
    outside: list[Node | float] = field(default_factory=list)
    nodes: dict[int, Node] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    is_open: bool = False
    """Whether it belongs to the present trace, which follows operations on numbers."""

    def __post_init__(self) -> None:
        self._nodes: dict[Node, int] = {}
        self.numbers: dict[float, int] = {}
        """The operands that plain numbers are, but those of 0 and of NaN."""
        self._classes: list[int] = []
        self._class_of: dict[object, int] = {}
        self._rows: dict[Node, int] = {}
        self._places: dict[int, int] = {}
        """The indices of plain numbers, which come before those of what takes them."""
        self.pool.rows = self.codes
        self._done = 0

    # Recording.

    def of_node(self, node: Node) -> int:
        """The operand that a node is."""
        found = self._nodes.get(node)
        if found is None:
            found = self._nodes[node] = ~len(self.outside)
            self.outside.append(node)
        return found

    def of_number(self, number: float) -> int:
        """The operand that a plain number is."""
        found = self.numbers.get(number)
        if found is None:
            found = ~len(self.outside)
            self.outside.append(float(number))
            self._places[found] = self.pool.counted()
            if number:  # 0 and -0 are equal, and not the same; NaN equals nothing
                self.numbers[number] = found
        return found

    def is_live(self, operand: int) -> bool:
        """Whether an operand depends on an input of the trace."""
        if operand >= 0:
            return True
        value = self.outside[~operand]
        return isinstance(value, Node) and value.life == LIVE

    # Nodes.

    def node(self, operand: int) -> Node:
        """The node of an operand."""
        if operand < 0:
            value = self.outside[~operand]
            if isinstance(value, Node):
                return value
            node = p.constant(self.pool, value, float)
            node.index = min(node.index, self._places[operand])
            return node
        if operand not in self.nodes:
            if len(self.codes) - self._done >= BACKLOG:
                self._search()
            self._make(operand)
        return self.nodes[operand]

    def _make(self, row: int) -> None:
        """The node of a row, and those of what it takes."""
        stack = [row]
        while stack:
            at = stack[-1]
            run = self._run_of(at) if at not in self.nodes else None
            if at in self.nodes:
                stack.pop()
            elif run is not None:
                self._enter(at, self._step_value(run, at))
            elif not (missing := [k for k in self._operands(at) if k >= 0 and k not in self.nodes]):
                self._enter(at, self._operation(at))
            else:
                stack += missing

    def _enter(self, row: int, node: Node) -> None:
        self.nodes[row], self._rows[node] = node, row

    def _operands(self, row: int) -> tuple[int, ...]:
        operands = self.first[row], self.second[row]
        return operands[: ARITIES[self.codes[row]]]

    def _operation(self, row: int) -> Request:
        args = tuple(self.node(k) for k in self._operands(row))
        return self.pool.number(KINDS[self.codes[row]], args, self.pool.index_of(row))

    def _step_value(self, run: Run, row: int) -> Request:
        step, place = divmod(row - run.begin, run.period)
        node = Request(
            self.pool, STEP_VALUE, run.inputs, {}, (), _DOUBLE, self.pool.index_of(row), LIVE, -1
        )
        run.loop.where[node] = step, place
        return node

    def _run_of(self, row: int) -> Run | None:
        k = bisect.bisect_right(self.runs, row, key=lambda run: run.begin) - 1
        return self.runs[k] if k >= 0 and row < self.runs[k].end else None

    def expand(self, nodes: Iterable[Node]) -> list[Node]:
        """Make step values the operations that they stand for, and give all that was made."""
        stack = [self._rows[node] for node in nodes if node.primitive is STEP_VALUE]
        made: list[Node] = []
        while stack:
            at = stack[-1]
            node = self.nodes.get(at)
            if node is not None and node.primitive is not STEP_VALUE:
                stack.pop()
                continue
            missing = [k for k in self._operands(at) if k >= 0 and self._is_open(k)]
            if missing:
                stack += missing
                continue
            operation = self._operation(at)
            if node is None:
                self._enter(at, operation)
            else:
                node.primitive, node.args = operation.primitive, operation.args
                node.kind = operation.kind  # type: ignore[attr-defined]
                run = self._run_of(at)
                assert run is not None
                del run.loop.where[node]
            made.append(self.nodes[at])
        return made

    def _is_open(self, row: int) -> bool:
        node = self.nodes.get(row)
        return node is None or node.primitive is STEP_VALUE

    # Loops.

    def _search(self) -> None:
        """Find the loops among the rows that are new."""
        pending, found = [(self._done, len(self.codes))], []
        self._done = len(self.codes)
        while pending:
            begin, end = pending.pop()
            rows = _Rows(self, begin, end) if end - begin >= LEAST else None
            loop = rows and sought(rows, LEAST)
            if loop:
                found.append(loop)
                pending += [(begin, loop.begin), (loop.end, end)]
        for loop in sorted(found, key=lambda loop: loop.begin):
            self.runs.append(self._run(loop))

    def _run(self, found: _Found) -> Run:
        """A loop with the nodes of what it takes."""
        nodes: dict[Node, None] = {}

        def node(operand: int) -> Node:
            made = self.node(operand)
            nodes[made] = None
            return made

        def operand(one) -> Operand:
            if isinstance(one, Slices):
                nodes[one.base] = None
            return node(one) if isinstance(one, int) else one

        operands = tuple(tuple(map(operand, row)) for row in found.operands)
        starts = {slot: node(one) for slot, one in found.starts.items()}
        any_number = p.constant(self.pool, 1.0, float)
        step = tuple(
            Request(
                self.pool,
                KINDS[k],
                (any_number,) * ARITIES[k],
                {},
                (),
                _DOUBLE,
                0,
                LIVE,
                -1,
            )
            for k in self.codes[found.begin : found.begin + found.period]
        )
        loop = Loop(found.length, step, {}, operands, starts)
        inputs = tuple(one for one in nodes if one.args or one.value is None)
        return Run(found.begin, found.period, found.length, loop, inputs)

    def classes(self) -> np.ndarray:
        """For each value from outside a number: equal for those that may follow one another."""
        for value in self.outside[len(self._classes) :]:
            key: object = None
            if isinstance(value, Node) and value.value is None:
                leaf = leaf_of(value)
                key = value if leaf is None else leaf[0]
            self._classes.append(self._class_of.setdefault(key, len(self._class_of)))
        return np.array(self._classes, np.int64)


@dataclass(eq=False)
class _Found:
    """A loop, of rows."""

    begin: int
    period: int
    length: int
    operands: list[tuple]
    """`Carried`, `Numbers`, `Slices`, or an operand that is the same in each step."""
    starts: dict[tuple[int, int], int]

    @property
    def end(self) -> int:
        return self.begin + self.period * self.length


class _Rows:
    """A part of the log, as a sequence in which loops are sought (`periods`)."""

    def __init__(self, log: Log, begin: int, end: int):
        self.log, self.first = log, begin
        columns = (log.codes, log.first, log.second)
        self.kinds, *operands = (
            np.fromiter(column[begin:end], np.int64, end - begin) for column in columns
        )
        self.exact = np.stack(operands, axis=1)
        classes = log.classes()
        outside = self.exact < 0
        self.table = self.exact - begin
        self.table[outside] = -2 - classes[~self.exact[outside]]
        before = ~outside & (self.exact < begin)
        self.table[before] = -2 - len(classes) - self.exact[before]
        self.is_free = np.ones(end - begin, bool)
        taken = [row - begin for row in log.nodes if begin <= row < end]
        self.is_free[taken] = False

    def __len__(self) -> int:
        return self.kinds.size

    def repeats(self, period: int) -> np.ndarray:
        """Whether each row from the second period on repeats the one a period before."""
        now, before = self.table[period:], self.table[:-period]
        moved = now - before
        same = ((moved == 0) | ((moved == period) & (before >= 0))).all(axis=1)
        same &= self.kinds[period:] == self.kinds[:-period]
        return same & self.is_free[period:] & self.is_free[:-period]

    def args(self, k: int) -> list[int]:
        return self.table[k].tolist()

    def size(self, k: int) -> int:
        return 1

    def described(self, period: int, begin: int, length: int) -> _Found | None:
        """The loop that begins somewhere; None if its steps differ."""
        operands: list[tuple] = []
        starts: dict[tuple[int, int], int] = {}
        if not self.is_free[begin : begin + period * length].all():
            return None
        for i in range(period):
            row = []
            for j in range(ARITIES[self.kinds[begin + i]]):
                rows = slice(begin + i, begin + i + period * (length - 1) + 1, period)
                codes, exact = self.table[rows, j], self.exact[rows, j]
                one = carried(codes, begin, period) or self._other(codes, exact)
                if one is None:
                    return None
                if isinstance(one, Carried):
                    for t in range(one.lag):
                        key, start = (one.place, one.lag - t), int(exact[t])
                        if starts.setdefault(key, start) != start:
                            return None
                row.append(one)
            operands.append(tuple(row))
        return _Found(self.first + begin, period, length, operands, starts)

    def _other(self, codes: np.ndarray, exact: np.ndarray) -> Numbers | Slices | int | None:
        """What an operand from outside is, or from before the loop."""
        if (exact == exact[0]).all():
            return int(exact[0])
        if (codes != codes[0]).any() or exact[0] >= 0:
            return None
        values = [self.log.outside[~k] for k in exact.tolist()]
        numbers = [v if isinstance(v, float) else v.value for v in values]
        if all(number is not None for number in numbers):
            return Numbers(np.array(numbers, float))
        nodes = [v for v in values if isinstance(v, Node)]
        leaves = [leaf for leaf in map(leaf_of, nodes) if leaf is not None]
        if len(leaves) < len(values) or any(key != leaves[0][0] for key, _ in leaves):
            return None
        key, starts = leaves[0][0], tuple(start for _, start in leaves)
        if all(start == starts[0] for start in starts):
            return int(exact[0])
        return Slices(key[0], starts, nodes[0], key)
