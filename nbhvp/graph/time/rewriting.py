"""One loop over time of a graph, and the graph with a scan in its place.

The body of the scan is one step, what crosses from one step to the next is its carry, what moves is
stacked into arrays of slices. What is used behind the loop is read from the rows of the scan; elements
that the code collects in a list or in an array become one array again. Guards of all steps become one.

Each number is computed as before, in the same order of operations. Loops stay as they are if no step
needs the one before but to add to a sum, if a step is larger than a kernel should be, or has other
operations than a kernel computes, or if so much is used of so many steps that nothing would be won.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nbhvp.graph import definitions
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import evaluated
from nbhvp.graph.node import Graph, Node, Pool
from nbhvp.graph.requests import settled
from nbhvp.graph.table.scan import Body, collected, final, scan
from nbhvp.graph.time.periods import (
    Carried,
    Constants,
    Loop,
    Numbers,
    Operand,
    Slices,
    is_plain,
    writes,
)

__all__ = ["MOST", "MOST_READS", "Guards", "Recurrence", "Rewrite"]

LEAST_WIDE = 100
"""The same of steps with larger arrays: so many are one pass over these, written out."""
MOST = 600
"""Scalar operations of a step."""
MOST_ELEMENTS = 36
"""Elements of an array in a step, since each is written out."""
VECTORS = 8
"""Scalar operations for each operation, from which a step is one of vectors: it may have any number."""
MOST_READS = 8
"""Steps of which single values are used elsewhere."""
MOST_IN_TURN = 16
"""Values of a step that a list takes in turn."""

Guards = Sequence[tuple[Node, np.ndarray]]


@dataclass(frozen=True)
class Recurrence:
    """A loop over time that became one node, as a Function reports it.

    Attributes
    ----------
    steps : int
        The number of its steps; those at its ends that differ are not among them.
    operations : int
        The operations on single numbers in one step.
    segments : tuple of int
        With ``memory``: the steps after which products keep what is carried. They compute the steps
        between again, a second length tells of segments within these. Empty if all steps are kept.
    """

    steps: int
    operations: int
    segments: tuple[int, ...] = ()

    def __str__(self) -> str:
        segments = "".join(f", in segments of {steps:,}" for steps in self.segments)
        return f"{self.steps:,} steps of {self.operations:,} operations{segments}"


def _fits(node: Node) -> bool:
    """Whether a kernel computes an operation on its elements, one by one."""
    entry = node.primitive
    is_view = entry.pull is not None and all(arg.dtype.kind == "f" for arg in node.args)
    is_known = entry in (p.sum_, p.contract, p.all_) or entry.written_out is not None
    return entry.is_elementwise or is_view or is_known


def _takes_factor(user: Node, node: Node) -> bool:
    """Whether a node is to an operation the factor of a matrix, for which it stands."""
    k = user.primitive.factor
    return k is not None and user.args[k] is node


def _is_small(node: Node) -> bool:
    return max(arg.size for arg in (node, *node.args)) <= MOST_ELEMENTS


@dataclass(frozen=True)
class _Gathered:
    """A part of an invariant at an index that moves: taken in all steps at once, before the loop."""

    base: Node
    index: Operand
    axis: int


@dataclass(frozen=True)
class _Run:
    """Values of some places of a loop in turn, in steps one after the other, for a collector."""

    columns: tuple[tuple[int, int], ...]
    """The places, and of each its first step."""
    args: tuple[Node, ...]

    @property
    def length(self) -> int:
        return len(self.args) // len(self.columns)


@dataclass(frozen=True, eq=False)
class _Collector:
    """What puts values of steps side by side: a concatenation, a history of writes, conditions."""

    node: Node
    chain: tuple[Node, ...]
    """The nodes that it is made of, itself first."""
    parts: tuple[_Run | Node, ...]


class Rewrite:
    """One loop of a graph, and the graph with a scan in its place."""

    def __init__(self, loop: Loop, nodes: Sequence[Node], outputs: list[Node], guards, most=None):
        self.loop, self.nodes, self.outputs, self.guards = loop, nodes, outputs, guards
        self.pool, self.most = nodes[0].pool, most
        self.where, self.step = loop.where, loop.step
        self.roots = {*outputs, *(node for node, _ in guards if node not in self.where)}
        self.users: dict[Node, list[Node]] = defaultdict(list)
        for node in nodes:
            for arg in dict.fromkeys(node.args):
                self.users[arg].append(node)

    def made(
        self, places: dict[Node, int]
    ) -> tuple[list[Node], list[tuple[Node, np.ndarray]], Recurrence] | None:
        """The graph; places tells where in the order its nodes are."""
        slots = self._slots()
        kinds = {self.step[i].dtype for i, _ in slots}
        if not slots or len(kinds) != 1 or next(iter(kinds)).kind != "f":
            return None
        self.gathered = self._find_gathered()
        inside = [node for i, node in enumerate(self.step) if i not in self.gathered]
        is_narrow = all(map(_is_small, inside))
        work = sum(node.size for node in self.step)
        if is_narrow and VECTORS * len(self.step) > work > MOST:
            return None
        if not is_narrow and self.loop.length * self.loop.period < LEAST_WIDE:
            return None
        if not all(map(_fits, inside)) or not self._is_recurrent(slots):
            return None
        if not all(map(self._has_factor, range(self.loop.period))):
            return None
        if any(map(self._is_known_choice, range(self.loop.period))):
            return None
        self.dtype = next(iter(kinds))
        if not all(map(self._is_exact, self._operands())) or not self._uses(slots):
            return None
        if not self._make_body(slots):
            return None
        graph = self._graph()
        for node, new in self.new.items():
            places.setdefault(new, places[node])
        return *graph, Recurrence(self.loop.length, self.body.operations)

    def _find_gathered(self) -> dict[int, _Gathered]:
        """The gathers whose index is a number that no step computes from another one."""
        moves: list[bool] = []
        found = {}
        for i, (node, row) in enumerate(zip(self.step, self.loop.operands, strict=True)):
            if node.primitive is p.gather and isinstance(row[0], Node) and node.args[1].ndim == 0:
                if not isinstance(row[1], Carried) or (row[1].lag == 0 and moves[row[1].place]):
                    found[i] = _Gathered(row[0], row[1], node.params["axis"])
            is_number = all(arg.ndim == 0 for arg in node.args)
            is_number = is_number and (node.primitive.is_elementwise or node.primitive is p.all_)
            inner = (one for one in row if isinstance(one, Carried))
            moves.append(is_number and all(one.lag == 0 and moves[one.place] for one in inner))
        return found

    def _has_factor(self, i: int) -> bool:
        """Whether an operation that takes the factor of a matrix takes it from its own step."""
        k = self.step[i].primitive.factor
        one = None if k is None else self.loop.operands[i][k]
        if one is None:
            return True
        is_ours = isinstance(one, Carried) and one.lag == 0
        return is_ours and self.step[one.place].primitive.written_out is not None

    def _is_known_choice(self, i: int) -> bool:
        """Whether an operation chooses by known data: the value left out may have no derivative."""
        if not self.step[i].primitive.selects:
            return False
        condition = self.loop.operands[i][0]
        if isinstance(condition, Constants):
            return all(p.scalar_value(node) is not None for node in condition.nodes)
        return isinstance(condition, Numbers)

    def _operands(self) -> Iterator[Node]:
        """What steps take from elsewhere, as the first one does."""
        for row in self.loop.operands:
            for one in row:
                if isinstance(one, Node):
                    yield one
                elif isinstance(one, Constants | Slices):
                    yield one.nodes[0] if isinstance(one, Constants) else one.like

    def _is_exact(self, node: Node) -> bool:
        """Whether a value is the same in the dtype of the carry; integers and truths keep their own."""
        return node.dtype.kind in "biu" or np.can_cast(node.dtype, self.dtype)

    def _slots(self) -> list[tuple[int, int]]:
        """What is carried: places of operations, each with the number of steps that it is old."""
        lags: dict[int, int] = {}
        for row in self.loop.operands:
            for one in row:
                if isinstance(one, Carried) and one.lag:
                    lags[one.place] = max(one.lag, lags.get(one.place, 0))
        return [(place, lag) for place in sorted(lags) for lag in range(1, lags[place] + 1)]

    def _is_recurrent(self, slots: list[tuple[int, int]]) -> bool:
        """Whether some step needs another one for more than to add to a sum of its own."""
        return any(not self._is_sum(place) for place, _ in slots)

    def _is_sum(self, place: int) -> bool:
        """Whether what is carried is only added to, on the way to what is carried next."""
        at: Carried | None = Carried(place, 1)
        while at is not None and at != Carried(place, 0):
            users = [i for i, row in enumerate(self.loop.operands) for one in row if one == at]
            is_added = len(users) == 1 and self.step[users[0]].primitive in (p.add, p.subtract)
            at = Carried(users[0], 0) if is_added else None
        return at is not None

    # What is used elsewhere.

    def _uses(self, slots: list[tuple[int, int]]) -> bool:
        """Find what is used behind the loop; whether that is little enough."""
        expected = {node: value for node, value in self.guards if node in self.where}
        by_place: dict[int, dict[int, np.ndarray]] = defaultdict(dict)
        for node, value in expected.items():
            t, i = self.where[node]
            by_place[i][t] = value
        if any(len(values) < self.loop.length for values in by_place.values()):
            return False
        self.guarded = {
            i: [values[t] for t in range(self.loop.length)] for i, values in by_place.items()
        }
        """Places of guards, with what they have to be in each step."""
        self.collectors = {one.node: one for one in self._collectors()}
        used, singles = set(), set()
        for one in self.collectors.values():
            runs = (part for part in one.parts if isinstance(part, _Run))
            used |= {place for run in runs for place, _ in run.columns}
        for node, (t, i) in self.where.items():
            outside = self._outside(node)
            if any(_takes_factor(user, node) for user in outside):
                return False
            if node in self.roots or any(not self._is_covered(node, user) for user in outside):
                used.add(i)
                if t < self.loop.length - 1:
                    singles.add(node)
        self.columns = sorted(used - {i for i, lag in slots if lag == 1})
        kinds = {self.step[i].dtype for i in used}
        is_few = self.most is None or len(singles) <= self.most
        return is_few and kinds <= {self.dtype, definitions.BOOL}

    def _outside(self, node: Node) -> list[Node]:
        return [user for user in self.users[node] if user not in self.where]

    def _is_covered(self, node: Node, user: Node) -> bool:
        """Whether an operation goes into a collector alone, among those of other steps."""
        if user in self.part_of:
            return node in self.part_of[user]
        users = self.users[user]
        return (
            user.primitive is p.reshape
            and user not in self.roots
            and all(self._is_covered(user, one) for one in users)
        )

    def _collectors(self) -> list[_Collector]:
        """The nodes that put an operation of many steps side by side."""
        self.part_of: dict[Node, set[Node]] = {}
        """For each collector, and what is gone with it, the arguments that are parts of runs."""
        found: list[_Collector] = []
        written, seen = writes(self.nodes), set(self.where)
        for node in reversed(self.nodes):
            if node in seen:
                continue
            chain = [node]
            if node.primitive is p.concatenate:
                args = list(node.args)
            elif node in written:
                while (base := chain[-1].args[0]) in written and self._is_inner(base):
                    chain.append(base)
                args = [one.args[1] for one in reversed(chain)]
            elif node.primitive is p.bitwise_and and node.dtype == definitions.BOOL:
                args, chain = self._conditions(node)
            else:
                continue
            seen.update(chain)
            parts = self._runs(args, node)
            if any(isinstance(part, _Run) for part in parts):
                found.append(_Collector(node, tuple(chain), tuple(parts)))
                runs = {arg for part in parts if isinstance(part, _Run) for arg in part.args}
                for one in chain:
                    self.part_of[one] = runs & {*one.args}
        return found

    def _is_inner(self, node: Node) -> bool:
        return len(self.users[node]) == 1 and node not in self.roots and node not in self.where

    def _conditions(self, node: Node) -> tuple[list[Node], list[Node]]:
        """The leaves of a tree of conditions in order, and its nodes."""
        leaves, inner, pending = [], [node], [*node.args]
        while pending:
            one = pending.pop()
            if one.primitive is p.bitwise_and and self._is_inner(one):
                inner.append(one)
                pending += one.args
            else:
                leaves.append(one)
        leaves.sort(key=lambda one: self.where.get(one, (-1, -1))[::-1])
        return leaves, inner

    def _runs(self, args: list[Node], node: Node) -> list[_Run | Node]:
        """Arguments, with those of some places in steps one after the other as one."""
        shown = [self._shown(arg) for arg in args]
        parts: list[_Run | Node] = []
        k = 0
        while k < len(args):
            run = self._run(args, shown, k, node)
            parts.append(run or args[k])
            k += len(run.args) if run else 1
        return parts

    def _run(self, args: list[Node], shown: list, k: int, node: Node) -> _Run | None:
        """The run that begins with argument k of a collector."""
        if shown[k] is None or not self._fits_in(node, args[k]):
            return None
        t, i = shown[k]
        some = shown[k : k + MOST_IN_TURN + 1]
        if (t + 1, i) not in some:
            return None
        width, end = some.index((t + 1, i)), k
        while end < len(args) and shown[end] is not None and args[end].shape == args[k].shape:
            before = shown[end - width] if end >= k + width else None
            if before is not None and shown[end] != (before[0] + 1, before[1]):
                break
            end += 1
        length = (end - k) // width
        if length < 2:
            return None
        columns = tuple((place, first) for first, place in shown[k : k + width])
        return _Run(columns, tuple(args[k : k + width * length]))

    def _fits_in(self, node: Node, arg: Node) -> bool:
        """Whether an argument of a collector follows on others as steps do."""
        if node.primitive is p.concatenate:
            return arg.shape[: node.params["axis"]] == (1,) * node.params["axis"]
        return True

    def _shown(self, node: Node) -> tuple[int, int] | None:
        """The step and place of an operation that a node is, or is a reshape of."""
        while node.primitive is p.reshape and node not in self.where:
            (node,) = node.args
        return self.where.get(node)

    # The body.

    def _make_body(self, slots: list[tuple[int, int]]) -> bool:
        """The graph of a step; whether all of it can be in one."""
        pool = Pool()
        self.slots = {slot: k for k, slot in enumerate(slots)}
        carry = {
            slot: _input(pool, f"u{k}", self.step[slot[0]].shape, self.dtype)
            for slot, k in self.slots.items()
        }
        slices: dict[object, tuple[Node, Constants | Numbers | Slices | _Gathered]] = {}
        fixed: dict[Node, Node] = {}
        new: list[Node] = []

        def operand(one) -> Node:
            if isinstance(one, Carried):
                return carry[one.place, one.lag] if one.lag else new[one.place]
            if isinstance(one, Numbers):
                bits = one.values.tobytes()
                if bits not in slices:
                    slices[bits] = _input(pool, f"s{len(slices)}", (), self.dtype), one
                return slices[bits][0]
            if isinstance(one, Constants | Slices):
                key = _key(one)
                like = one.nodes[0] if isinstance(one, Constants) else one.like
                if key not in slices:
                    made = _input(pool, f"s{len(slices)}", like.shape, self._given(like))
                    slices[key] = made, one
                return p.cast(slices[key][0], dtype=like.dtype)
            if is_plain(one) and (number := p.scalar_value(settled(one))) is not None:
                return p.broadcast(p.constant(pool, number), shape=one.shape)
            if one not in fixed:
                fixed[one] = _input(pool, f"w{len(fixed)}", one.shape, self._given(one))
            return p.cast(fixed[one], dtype=one.dtype)

        for i, (node, row) in enumerate(zip(self.step, self.loop.operands, strict=True)):
            if i in self.gathered:
                made = _input(pool, f"s{len(slices)}", node.shape, self._given(node))
                slices[i] = made, self.gathered[i]
                new.append(p.cast(made, dtype=node.dtype))
                continue
            args = tuple(map(operand, row))
            make = node.primitive.written_out or node.primitive
            made = make(*args, **node.params)
            if made is None:
                return False
            new.append(made)
        outputs = [new[i] if lag == 1 else carry[i, lag - 1] for i, lag in slots]
        # A truth as 0 or 1.
        outputs += [p.cast(new[i], dtype=self.dtype) for i in self.columns]
        for i, values in self.guarded.items():
            stacked = Constants(tuple(p.constant(self.pool, v, self.step[i].dtype) for v in values))
            same = all(node is stacked.nodes[0] for node in stacked.nodes)
            right = operand(stacked.nodes[0] if same else stacked)
            holds = p.equal(new[i], right)
            holds = p.all_(holds) if holds.ndim else holds
            outputs.append(p.cast(holds, dtype=self.dtype))
        inputs = (*carry.values(), *(node for node, _ in slices.values()), *fixed.values())
        self.body = Body(Graph(inputs, tuple(outputs)), len(carry), len(slices))
        self.arguments = [
            *(self.loop.starts[slot] for slot in slots),
            *(one for _, one in slices.values()),
            *fixed,
        ]
        return True

    # The graph.

    def _graph(self) -> tuple[list[Node], list[tuple[Node, np.ndarray]]]:
        self.new: dict[Node, Node] = {}
        self.scan: Node | None = None
        gone = {inner for one in self.collectors.values() for inner in one.chain}
        for node in self.nodes:
            if node in self.where or self._is_spare(node, gone):
                continue
            self.new[node] = self._again(node)
        outputs = [self._value(node) for node in self.outputs]
        guards = [
            (self._value(node), value)
            for node, value in self.guards
            if node not in self.where or self.where[node][1] not in self.guarded
        ]
        for k in range(len(self.guarded)):
            column = collected(self._rows(), len(self.columns) + k)
            guards.append((p.all_(p.not_equal(column, 0)), np.asarray(True)))
        return outputs, guards

    def _is_spare(self, node: Node, gone: set[Node]) -> bool:
        """Whether a node only brings values of steps to a collector."""
        if node in self.collectors:
            return False
        is_view = node.primitive is p.reshape and node not in self.roots
        is_view = is_view and self._shown(node) is not None
        return node in gone or (
            is_view and all(self._is_covered(node, user) for user in self.users[node])
        )

    def _again(self, node: Node) -> Node:
        if node in self.collectors:
            return self._collected(self.collectors[node])
        args = tuple(map(self._value, node.args))
        return node if args == node.args else node.primitive(*args, **node.params)

    def _collected(self, one: _Collector) -> Node:
        if one.node.primitive is p.concatenate:
            pieces = [self._piece(part, one.node.params["axis"]) for part in one.parts]
            return pieces[0] if len(pieces) == 1 else p.concatenate(*pieces, **one.node.params)
        if one.node.primitive is p.update:
            return self._written(one)
        conditions = [
            p.all_(p.not_equal(self._some(part), 0))
            if isinstance(part, _Run)
            else self._value(part)
            for part in one.parts
        ]
        return functools.reduce(p.bitwise_and, conditions)

    def _some(self, run: _Run) -> Node:
        """An operation in the steps of a run: shape (n, ...)."""
        columns = [self._some_of(place, first, run.length) for place, first in run.columns]
        if len(columns) == 1:
            return columns[0]
        rest = columns[0].shape[1:]
        beside = [p.reshape(one, shape=(run.length, 1, *rest)) for one in columns]
        return p.reshape(p.concatenate(*beside, axis=1), shape=(len(run.args), *rest))

    def _some_of(self, place: int, first: int, length: int) -> Node:
        every = self._all(place)
        return p.slice_(
            every,
            start=(first, *(0,) * (every.ndim - 1)),
            step=(1,) * every.ndim,
            size=(length, *every.shape[1:]),
        )

    def _piece(self, part: _Run | Node, axis: int) -> Node:
        if not isinstance(part, _Run):
            return self._value(part)
        shape = part.args[0].shape
        together = sum(arg.shape[axis] for arg in part.args)
        return p.reshape(self._some(part), shape=(*shape[:axis], together, *shape[axis + 1 :]))

    def _written(self, one: _Collector) -> Node:
        """Writes of many steps as one write, where their places are even."""
        updates = iter(reversed(one.chain))
        array = self._value(one.chain[-1].args[0])
        for part in one.parts:
            if not isinstance(part, _Run):
                array = p.update(array, self._value(part), **next(updates).params)
                continue
            some = [next(updates) for _ in part.args]
            array = self._write(array, part, some)
        return array

    def _write(self, array: Node, part: _Run, updates: list[Node]) -> Node:
        starts = np.array([update.params["start"] for update in updates])
        size, step = part.args[0].shape, updates[0].params["step"]
        moving = np.flatnonzero((starts != starts[0]).any(axis=0))
        strides = np.diff(starts, axis=0)
        values = self._some(part)
        if len(moving) == 1 and size[moving[0]] == 1 and (strides == strides[0]).all():
            axis = int(moving[0])
            rest = tuple(n for k, n in enumerate(size) if k != axis)
            along = p.reshape(values, shape=(len(updates), *rest))
            axes = [k + 1 for k in range(len(rest))]
            axes.insert(axis, 0)
            return p.update(
                array,
                p.transpose(along, axes=tuple(axes)),
                start=updates[0].params["start"],
                step=_with(step, axis, int(strides[0, axis])),
            )
        for t, update in enumerate(updates):
            value = p.reshape(_item(values, t), shape=size)
            array = p.update(array, value, **update.params)
        return array

    def _value(self, node: Node) -> Node:
        if is_plain(node):
            return settled(node)
        if node not in self.where:
            return self.new[node]
        if node not in self.new:
            t, i = self.where[node]
            if t == self.loop.length - 1 and (i, 1) in self.slots:
                self.new[node] = final(self._rows())[self.slots[i, 1]]
            else:
                item = _item(self._all(i), t)
                self.new[node] = item if node.dtype == self.dtype else p.not_equal(item, 0)
        return self.new[node]

    def _all(self, i: int) -> Node:
        """An operation in all steps: shape (T, ...)."""
        rows = self._rows()
        if (i, 1) in self.slots:
            return _after(rows, self.slots[i, 1])
        return collected(rows, self.columns.index(i))

    def _rows(self) -> Node:
        if self.scan is None:
            args = [self._argument(one) for one in self.arguments]
            self.scan = scan(self.body, self.loop.length, *args)
        return self.scan

    def _given(self, like: Node) -> np.dtype:
        """The dtype in which a step takes a value: floats as the carry has them, as adjoints are."""
        return self.dtype if like.dtype.kind == "f" else like.dtype

    def _argument(self, one: Node | Constants | Numbers | Slices | _Gathered) -> Node:
        if isinstance(one, Numbers):
            return p.constant(self.pool, one.values, self.dtype)
        if isinstance(one, Constants):
            stacked = np.stack([_constant(node) for node in one.nodes])
            return p.constant(self.pool, stacked, self._given(one.nodes[0]))
        if isinstance(one, Slices):
            one = _stacked(self._value(one.base), one)
            return p.cast(one, dtype=self._given(one))
        if isinstance(one, _Gathered):
            some = p.gather(self._value(one.base), self._along(one.index), axis=one.axis)
            order = (one.axis, *(k for k in range(some.ndim) if k != one.axis))
            return p.cast(p.transpose(some, axes=order), dtype=self._given(some))
        return p.cast(self._value(one), dtype=self._given(one))

    def _along(self, one: Operand) -> Node:
        """A number in all steps."""
        if isinstance(one, Carried):
            node, row = self.step[one.place], self.loop.operands[one.place]
            numbers = map(self._along, row)
            if node.primitive is p.all_:
                return next(numbers)
            return node.primitive(*numbers, **node.params)
        if isinstance(one, Constants):
            return p.constant(self.pool, np.stack([_constant(node) for node in one.nodes]))
        if isinstance(one, Slices):
            return _stacked(self._value(one.base), one)
        if isinstance(one, Numbers):
            return p.constant(self.pool, one.values)
        return self._value(one)


def _input(pool: Pool, name: str, shape, dtype) -> Node:
    return p.input_node(pool, name, shape, dtype)


def _key(one: Constants | Slices) -> object:
    return one.nodes if isinstance(one, Constants) else (one.key, one.starts)


def _constant(node: Node) -> np.ndarray:
    """The array of a value that depends on no input."""
    known = settled(node)
    return evaluated([known], {})[0] if known.value is None else known.value


def _item(array: Node, k: int) -> Node:
    """One item along the first axis."""
    rest = array.shape[1:]
    part = p.slice_(array, start=(k, *(0,) * len(rest)), step=(1,) * array.ndim, size=(1, *rest))
    return p.reshape(part, shape=rest)


def _after(z: Node, k: int) -> Node:
    """A carried array as each step of a scan leaves it: shape (T, ...)."""
    body, length = z.primitive.body, z.shape[0] - 1
    like = body.graph.outputs[k]
    part = p.slice_(z, start=(1, body.columns[k]), step=(1, 1), size=(length, like.size))
    return p.reshape(part, shape=(length, *like.shape))


def _stacked(base: Node, one: Slices) -> Node:
    """The slices of all steps as one array: a slice if the steps are even, else a gather."""
    first = one.like
    while first.primitive is not p.slice_:
        (first,) = first.args
    step, size = first.params["step"], first.params["size"]
    starts = np.array(one.starts).reshape(len(one.starts), base.ndim)
    shape = (len(starts), *one.like.shape)
    moving = np.flatnonzero((starts != starts[0]).any(axis=0))
    if len(moving) == 1 and size[moving[0]] == 1:
        axis = int(moving[0])
        stride = np.diff(starts[:, axis])
        if (stride == stride[0]).all():
            part = p.slice_(
                base,
                start=tuple(starts[0].tolist()),
                step=_with(step, axis, int(stride[0])),
                size=_with(size, axis, len(starts)),
            )
            axes = (axis, *(k for k in range(base.ndim) if k != axis))
            return p.reshape(p.transpose(part, axes=axes), shape=shape)
    offsets = np.indices(size).reshape(base.ndim, -1) * np.array(step)[:, None]
    index = starts[:, :, None] + offsets
    places = np.ravel_multi_index(tuple(index.transpose(1, 0, 2)), base.shape)
    flat = p.reshape(base, shape=(base.size,))
    picked = p.gather(flat, p.constant(base.pool, places.astype(np.int64)), axis=0)
    return p.reshape(picked, shape=shape)


def _with(values: Iterable[int], k: int, value: int) -> tuple[int, ...]:
    found = list(values)
    found[k] = value
    return tuple(found)
