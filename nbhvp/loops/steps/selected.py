"""The body of a scan over lanes whose steps go several ways: all paths, and a selection.

Each value of a step is an array over the lanes. Operations that all paths have, on equal operands, are
computed once. Others are computed for all lanes, and selected by masks: before, so that in lanes that go
another way a path computes what it computed somewhere in the recorded run, and after, so that tangents and
adjoints of other lanes are zero, even where a function of them has none. Lanes that ended are on no path,
and keep what they carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, Pool
from nbhvp.graph.primitives import Primitive
from nbhvp.graph.table.scan import Body
from nbhvp.loops.steps.operations import CONSTANT
from nbhvp.loops.steps.paths import Column, Operand, Path, Paths, Variable, Within

__all__ = ["Held", "Selected", "selected"]

FLOAT = np.dtype(np.float64)


@dataclass(frozen=True, eq=False)
class Held:
    """What an input of a body holds: references, or numbers where their kind is constant."""

    held: np.ndarray
    """Of shape (steps or 1, lanes or 1)."""
    kind: int


@dataclass(frozen=True, eq=False)
class Selected:
    """The body, and what its inputs and outputs are."""

    body: Body
    carry: tuple[Variable, ...]
    slices: tuple[Held, ...]
    fixed: tuple[Held, ...]
    columns: int
    """Outputs that are read behind the loop."""
    has_guard: bool
    """Whether its last output tells if the guards hold."""


def selected(paths: Paths, read: Sequence[Sequence[int]], sums: Sequence[int]) -> Selected:
    """The body; of each path, the places that are read behind the loop.

    Variables that are sums are not carried: further outputs are what each step adds to them.
    """
    return _Builder(paths, sums).selected(read)


class _Builder:
    """A body while it is made."""

    def __init__(self, paths: Paths, sums: Sequence[int]):
        self.paths, self.pool, self.sums = paths, Pool(), sums
        steps = paths.steps
        self.at = steps.places, steps.lanes
        self.grid = steps.length, steps.count
        self.shape = (steps.count,) if steps.count > 1 else ()
        self.is_padded = steps.size < steps.length * steps.count
        self.slices: dict[tuple, tuple[Node, Held]] = {}
        self.fixed: dict[tuple, tuple[Node, Held]] = {}
        self.zero = p.constant(self.pool, np.float64(0.0))
        kept = [one for one in paths.starts if one.number not in sums]
        self.carry = {one: self._input(f"u{k}", self.shape) for k, one in enumerate(kept)}
        self.known = self.carry | {Variable(number): self.zero for number in sums}
        self.alternatives = len(paths.paths) + self.is_padded
        self.masks = [self._mask(one) for one in paths.paths] if self.alternatives > 1 else []
        self.counterparts = _Shared(paths.paths) if not self.is_padded else None
        self.made: list[dict[int, Node]] = [{} for _ in paths.paths]
        self.wrapped: dict[tuple[int, Node], Node] = {}

    def _input(self, name: str, shape: tuple[int, ...]) -> Node:
        return p.input_node(self.pool, name, shape, FLOAT)

    def selected(self, read: Sequence[Sequence[int]]) -> Selected:
        for v, one in enumerate(self.paths.paths):
            for place in range(len(one.codes)):
                self._make(v, place)
        outputs = [self._next(one) for one in self.carry]
        columns = max(map(len, read))
        for k in range(columns):
            some = [
                self.made[v][places[k]] if k < len(places) else self.zero
                for v, places in enumerate(read)
            ]
            outputs.append(self._selection(some, self.zero))
        outputs += [self._next(Variable(number)) for number in self.sums]
        holds = self._holds()
        if holds is not None:
            outputs.append(holds)
        outputs = [p.broadcast(one, shape=self.shape) for one in outputs]
        slices, fixed = [*self.slices.values()], [*self.fixed.values()]
        inputs = (*self.carry.values(), *(node for node, _ in (*slices, *fixed)))
        return Selected(
            Body(Graph(inputs, tuple(outputs)), len(self.carry), len(slices)),
            tuple(self.carry),
            tuple(held for _, held in slices),
            tuple(held for _, held in fixed),
            columns,
            holds is not None,
        )

    # Operations.

    def _make(self, v: int, place: int) -> None:
        """The node of an operation of a path."""
        path = self.paths.paths[v]
        partners = self.counterparts.of(v, place) if self.counterparts else None
        if partners is not None:
            if v:
                self.made[v][place] = self.made[0][partners[0]]
                return
            rows = [one.operands[at] for one, at in zip(self.paths.paths, partners, strict=True)]
            args = [self._common(operands) for operands in zip(*rows, strict=True)]
        else:
            args = [self._own(v, one) for one in path.operands[place]]
        self.made[v][place] = self.paths.entry(path.codes[place])(*args)

    def _common(self, operands: Sequence[Operand]) -> Node:
        """What all paths take, as the first one has it."""
        first = operands[0]
        if isinstance(first, Within):
            return self.made[0][first.place]
        if isinstance(first, Variable):
            return self.known[first]
        steps = np.concatenate([one.steps for one in self.paths.paths])
        held = np.concatenate([one.held for one in operands])
        return self._column(Column(held, first.kind), steps)

    def _own(self, v: int, one: Operand) -> Node:
        """What one path takes: in lanes that go another way, what it took somewhere."""
        path = self.paths.paths[v]
        if isinstance(one, Within):
            node = self.made[v][one.place]
            is_own = self.counterparts is None or self.counterparts.of(v, one.place) is None
            return node if is_own else self._wrapped(v, node, self._value(path, one))
        if isinstance(one, Variable):
            node = self.known[one]
            return node if node is self.zero else self._wrapped(v, node, self._value(path, one))
        return self._wrapped(v, self._column(one, path.steps), self._value(path, one))

    def _wrapped(self, v: int, node: Node, value: float) -> Node:
        if not self.masks or node.value is not None:
            return node
        if (v, node) not in self.wrapped:
            self.wrapped[v, node] = p.where(self.masks[v], node, np.float64(value))
        return self.wrapped[v, node]

    def _value(self, path: Path, one: Operand) -> float:
        """What an operand was in the first step of a path."""
        paths, step = self.paths, int(path.steps[0])
        if isinstance(one, Within):
            reference = int(paths.steps.begin[step]) + one.place
        elif isinstance(one, Column):
            reference = int(one.held[0])
        else:
            reference = next(
                int(paths.operations.operands[k, paths.steps.begin[step] + place])
                for place, row in enumerate(path.operands)
                for k, operand in enumerate(row)
                if operand == one
            )
        return paths.operations.value(reference)

    # What comes from outside.

    def _mask(self, path: Path) -> Node:
        held = np.zeros(self.grid)
        held[self.at[0][path.steps], self.at[1][path.steps]] = 1.0
        return p.not_equal(self._held(_narrowed(held), CONSTANT), 0.0)

    def _column(self, one: Column, steps: np.ndarray) -> Node:
        """References or numbers as an input; the elements of other steps are any of these."""
        held = one.held
        if one.kind == CONSTANT:
            held = self.paths.operations.values(held)
        if (held.view(np.int64) == held.view(np.int64)[0]).all():
            if one.kind == CONSTANT:
                return p.constant(self.pool, np.float64(held[0]))
            return self._held(held[:1, None], one.kind)
        return self._held(_filled(held, self.at[0][steps], self.at[1][steps], self.grid), one.kind)

    def _held(self, held: np.ndarray, kind: int) -> Node:
        key = kind, held.shape, held.tobytes()
        is_fixed = held.shape[0] == 1
        known = self.fixed if is_fixed else self.slices
        if key not in known:
            shape = self.shape if held.shape[1] > 1 else ()
            name = f"{'w' if is_fixed else 's'}{len(known)}"
            known[key] = self._input(name, shape), Held(held, kind)
        return known[key][0]

    # What goes on.

    def _next(self, one: Variable) -> Node:
        """A carried value behind the step."""
        some = []
        for v, path in enumerate(self.paths.paths):
            given = path.given.get(one.number, [])
            if one.age < len(given):
                some.append(self.made[v][given[-1 - one.age]])
            else:
                some.append(self.known[Variable(one.number, one.age - len(given))])
        return self._selection(some, self.known[one])

    def _selection(self, nodes: Sequence[Node], otherwise: Node) -> Node:
        """Of each path a node; in lanes that ended another one."""
        whole = otherwise if self.is_padded else nodes[-1]
        for v in reversed(range(len(nodes))):
            if nodes[v] is not whole:
                whole = p.where(self.masks[v], nodes[v], whole)
        return whole

    def _holds(self) -> Node | None:
        """Whether all guards have the outcomes that they had."""
        if not any(one.guards for one in self.paths.paths):
            return None
        one = p.broadcast(p.constant(self.pool, np.float64(1.0)), shape=self.shape)
        some = []
        for v, path in enumerate(self.paths.paths):
            whole: Node | None = None
            for entry, operands, outcomes in path.guards:
                holds = self._equal(v, entry, operands, outcomes)
                whole = holds if whole is None else p.bitwise_and(whole, holds)
            some.append(one if whole is None else p.cast(whole, dtype=FLOAT))
        return self._selection(some, one)

    def _equal(self, v: int, entry: Primitive, operands, outcomes: np.ndarray) -> Node:
        path = self.paths.paths[v]
        found = p.cast(entry(*(self._plain(v, one) for one in operands)), dtype=FLOAT)
        if (outcomes == outcomes[0]).all():
            return p.equal(found, outcomes[0])
        steps, lanes = (one[path.steps] for one in self.at)
        return p.equal(found, self._held(_filled(outcomes, steps, lanes, self.grid), CONSTANT))

    def _plain(self, v: int, one: Operand) -> Node:
        """What a condition compares."""
        if isinstance(one, Within):
            return self.made[v][one.place]
        if isinstance(one, Variable):
            return self.known[one]
        return self._column(one, self.paths.paths[v].steps)


class _Shared:
    """Operations that all paths have, on equal operands."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = paths
        self.known: list[dict[int, tuple[int, ...]]] = [{} for _ in paths]
        for place in range(len(paths[0].codes)):
            found = [place, *(self._like(place, v) for v in range(1, len(paths)))]
            if None not in found:
                for v, at in enumerate(found):
                    self.known[v][at] = tuple(found)

    def of(self, v: int, place: int) -> tuple[int, ...] | None:
        """The place in each path, of an operation that all have."""
        return self.known[v].get(place)

    def _like(self, place: int, v: int) -> int | None:
        first, other = self.paths[0], self.paths[v]
        for at, code in enumerate(other.codes):
            pairs = zip(first.operands[place], other.operands[at], strict=False)
            if code == first.codes[place] and at not in self.known[v]:
                if all(self._are_like(a, b, v) for a, b in pairs):
                    return at
        return None

    def _are_like(self, a: Operand, b: Operand, v: int) -> bool:
        if isinstance(a, Column):
            return isinstance(b, Column) and a.kind == b.kind
        if isinstance(a, Variable):
            return a == b
        known = self.known[0].get(a.place)
        return known is not None and b == Within(known[v])


def _filled(held: np.ndarray, steps: np.ndarray, lanes: np.ndarray, grid) -> np.ndarray:
    """Elements over the grid of steps and lanes: along one of its axes where this is enough."""
    whole = np.full(grid, held[0])
    for axis, at in enumerate((steps, lanes)):
        line = np.full(grid[axis], held[0])
        line[at] = held
        if np.array_equal(line[at].view(np.int64), held.view(np.int64)):
            return line[:, None] if axis == 0 else line[None, :]
    whole[steps, lanes] = held
    return whole


def _narrowed(held: np.ndarray) -> np.ndarray:
    """Without the axis of lanes where these are alike."""
    return held[:, :1] if (held == held[:, :1]).all() else held
