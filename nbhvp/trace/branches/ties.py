"""Branches that hold because two numbers are equal: on a set of points without an interior.

    if not np.array_equal(x, self.last): ...        if r == 0: return 0.0        x[x != 0]

If such a comparison finds two numbers equal that depend on x, the trace is right at this point but
need not be right at points nearby. Its value is the function's; its derivative is that of a branch
that is taken nowhere else. Replacing elements of x by NaN shows which values depend on them;
evaluating a guard as if the numbers differed shows whether it needs the equality.

- If a compared element of x has no influence on the result, the derivative by it is lost: an error. So
  are results that were kept from a call at the same x, within any tolerance.
- Otherwise the derivative may be right, as for an iteration that stops at a residual of 0: a note.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nbhvp.errors import TraceError
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node, reachable
from nbhvp.graph.table.tape import tape_holds
from nbhvp.trace.places import line_of
from nbhvp.trace.recording import Note, Recording

__all__ = ["Tie", "ties"]

MOST_RUNS = 64
"""Evaluations of a trace that look for an element whose derivative is lost."""
MOST_RECORDS = 100_000
"""Of a tape that is evaluated so: it takes seconds."""

Values = Mapping[Node, np.ndarray]


LOST = (
    "a branch is taken here because numbers that depend on x are equal to others, and in it the "
    "result does not depend on them: the derivative of the other branch, which all points around "
    "this one take, is lost. Leave out what is kept for the last x, since a Function remembers its "
    "point; treat a special case without a branch (np.where, np.sinc, scipy.special.xlogy); or take "
    "derivatives at another point"
)
NOTED = (
    "a branch is taken here because numbers that depend on x are equal to others: derivatives are "
    "those of this branch, and points around this one take the other"
)


@dataclass(frozen=True)
class Tie:
    """A guard that holds because numbers are equal, and the user's line."""

    place: tuple[str, int]
    is_lost: bool
    """Whether the result does not depend on an element of x that was compared."""

    @property
    def note(self) -> Note:
        return Note(NOTED, *self.place)

    @property
    def error(self) -> TraceError:
        return TraceError(f"{line_of(*self.place)}: {LOST}")


def ties(
    recording: Recording, output: Node, inputs: Values, guards: Iterable[Node] | None = None
) -> tuple[Tie, ...]:
    """The ties among the guards of a trace, or some of them, at the values of its inputs, x first."""
    guards = list(recording.guards if guards is None else guards)
    nodes = reachable(guards)
    x = next(iter(inputs))
    suspects = [node for node in nodes if _is_suspect(node, recording.equalities)]
    suspects += _distances(nodes, x, inputs)
    if not suspects:
        return ()
    if recording.log is not None:
        recording.log.expand(reachable([*guards, output]))
        nodes = reachable(guards)
    point = _Point(nodes, suspects, inputs)
    found = []
    for guard, compared, is_tie in point.tied(guards):
        is_lost = point.is_lost(compared, output)
        if is_tie or is_lost:
            found.append(Tie(recording.places[guard], is_lost))
    return tuple(found)


def _is_suspect(node: Node, equalities: Mapping[Node, bool]) -> bool:
    """Whether a node may find numbers equal that depend on x."""
    entry = node.primitive
    if entry is tape_holds:
        return bool(_operands_found_equal(node).size)
    if entry not in p.EQUALITIES or node.args[0] is node.args[1]:
        return False
    return node.args[0].dtype.kind in "fc" and equalities.get(node, True)


def _distances(nodes: Sequence[Node], x: Node, inputs: Values) -> list[Node]:
    """Elements of x minus as many constants, all 0; only where all elements of x are among them.

    Then x is a point that was met before, whatever its distance is compared with.
    """
    shown = {node: _shown(node, x) for node in nodes if node.primitive is p.subtract}
    shown = {node: one for node, one in shown.items() if one is not None}
    if not shown:
        return []
    values = _evaluated(reachable(shown), {x: inputs[x]})
    found = [node for node in shown if not values[node].any()]
    positions = {x: np.arange(x.size).reshape(x.shape)}
    covered = _evaluated(reachable((shown[node] for node in found), stop=[x]), positions)
    places = {int(k) for node in found for k in covered[shown[node]].ravel()}
    return found if len(places) == x.size > 0 else []


def _shown(node: Node, x: Node) -> Node | None:
    """x itself, if a node takes some of its elements minus as many constant numbers."""
    for one, other in (node.args, node.args[::-1]):
        shown = one
        while len(shown.args) == 1 and (shown.primitive.pull or shown.primitive is p.cast):
            (shown,) = shown.args
        if shown is x and other.value is not None and one.size == node.size:
            return one
    return None


def _operands_found_equal(node: Node) -> np.ndarray:
    """The records of a tape that its guards found equal to others."""
    tape = node.params["tape"]
    guards = tape.guards
    codes = np.unique(guards.codes).tolist()
    entries = {code: tape.primitive(code) for code in codes}
    found = np.zeros(guards.codes.size, bool)
    for code, entry in entries.items():
        if entry in p.EQUALITIES:
            found |= (guards.codes == code) & (guards.outcomes == (entry is p.equal))
    return np.unique(np.concatenate([guards.first[found], guards.second[found]]))


class _Point:
    """What nodes are at the point of a trace, and which comparisons found numbers equal there."""

    def __init__(self, nodes: Sequence[Node], suspects: Sequence[Node], inputs: Values):
        self._nodes, self._inputs = nodes, inputs
        self._x = next(iter(inputs))
        self._values = _evaluated(nodes, inputs)
        self._masks: dict[Node, np.ndarray] = {}
        """For each comparison that found numbers equal: where they depend on x."""
        poisoned = None
        for node in suspects:
            mask = self._found_equal(node)
            if mask.any():
                poisoned = poisoned or self._poisoned(nodes, np.ones(self._x.shape, bool))
                mask = mask & self._reached(node, poisoned)
            if mask.any():
                self._masks[node] = mask

    def _found_equal(self, node: Node) -> np.ndarray:
        """Where a comparison found numbers equal; of a tape, the records."""
        value = self._values[node]
        if node.primitive is tape_holds:
            records = np.zeros(node.args[0].shape, bool)
            records[_operands_found_equal(node)] = True
            return records
        if node.primitive is p.subtract:
            return np.broadcast_to(not value.any(), node.shape).copy()
        return np.array(value if node.primitive is p.equal else ~value)

    def _reached(self, node: Node, poisoned: Values | None) -> np.ndarray:
        """Where the numbers that a comparison takes are NaN, and were not."""
        found = np.zeros((), bool)
        if poisoned is None:
            return np.ones((), bool)
        for arg in node.args:
            found = found | (np.isnan(poisoned[arg]) & ~np.isnan(self._values[arg]))
        return found

    def tied(self, guards: Iterable[Node]) -> Iterator[tuple[Node, list[Node], bool]]:
        """Guards that need an equality, the comparisons that found it, whether it is exact."""
        exact = {
            node: mask for node, mask in self._masks.items() if node.primitive is not p.subtract
        }
        seen: set[Node] = set()
        for masks, is_tie in ((exact, True), (self._masks, False)):
            if not masks:
                continue
            others = _evaluated(self._nodes, self._inputs, self._as_if_different(masks))
            for guard in guards:
                if guard not in seen and others[guard].tobytes() != self._values[guard].tobytes():
                    seen.add(guard)
                    yield guard, [node for node in reachable([guard]) if node in masks], is_tie

    def _as_if_different(self, masks: Values) -> dict[Node, np.ndarray]:
        """What comparisons would be if the numbers that they found equal were not."""
        found = {}
        for node, mask in masks.items():
            value = self._values[node]
            if node.primitive is tape_holds:
                found[node] = ~value
            elif node.primitive is p.subtract:
                found[node] = np.full_like(value, np.inf)
            else:
                found[node] = value ^ mask
        return found

    # Influence.

    def _poisoned(self, nodes: Sequence[Node], elements: np.ndarray) -> Values | None:
        """What nodes are with NaN for some elements of x: NaN where they depend on these."""
        inputs = {**self._inputs, self._x: np.where(elements, np.nan, self._inputs[self._x])}
        steps = {node: self._values[node] for node in nodes if _is_step(node)}
        try:
            return _evaluated(nodes, inputs, steps)
        except Exception:
            return None  # a function of the user's, or of a library, that takes no NaN

    def is_lost(self, compared: Sequence[Node], output: Node) -> bool:
        """Whether an element of x that was compared has no influence on the output."""
        args = [arg for node in compared for arg in node.args]
        nodes = reachable((*args, output))
        if any(_is_long(node) for node in nodes):
            return False
        if output not in self._values:
            self._values = _evaluated(nodes, self._inputs, self._values)
        is_nan = np.isnan(self._values[output])
        pending, runs = [np.arange(self._x.size)], 0
        while pending and runs < MOST_RUNS:
            part, runs = pending.pop(), runs + 1
            elements = np.zeros(self._x.size, bool)
            elements[part] = True
            poisoned = self._poisoned(nodes, elements.reshape(self._x.shape))
            if poisoned is None:
                return False
            if not any((self._reached(n, poisoned) & self._masks[n]).any() for n in compared):
                continue
            if not (np.isnan(poisoned[output]) & ~is_nan).any():
                return True
            if part.size > 1:
                pending += np.array_split(part, 2)
        return False


def _evaluated(nodes: Iterable[Node], inputs: Values, known: Values | None = None) -> Values:
    """What nodes are; some are known to be something else."""
    values = {**inputs, **(known or {})}
    with np.errstate(all="ignore"):
        for node in nodes:
            if node not in values:
                args = (values[arg] for arg in node.args)
                found = node.primitive.evaluate(*args, **node.params)
                values[node] = np.asarray(found, node.dtype)
    return values


def _is_step(node: Node) -> bool:
    """Whether a float is constant between jumps, and so carries no derivative."""
    entry = node.primitive
    return entry.kind == "elementwise" and entry.rule is None and node.dtype.kind == "f"


def _is_long(node: Node) -> bool:
    tape = node.params.get("tape")
    return tape is not None and len(tape.codes) > MOST_RECORDS
