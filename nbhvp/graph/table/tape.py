"""The tape: what one run of a loop over scalars computed, and how it is differentiated.

A record is one application of an elementwise primitive of one or two arguments to earlier records:

    w_i = p_i(w_a, w_b),    a = first[i] < i,   b = second[i] < i.

Record 0 is the constant 0.0, so that zeroed memory is a valid active zero. Then come the inputs,
array by array in C order, then operations and constants as the run met them. A comparison or a
conversion to an integer is no record but a guard: a condition on records, with its outcome.

`replay` computes a tape at a new u, all its inputs end to end, and is differentiable twice (the
sweep). Let L be the strictly lower triangular matrix whose row i has the partial p_a in column a and
p_b in column b, E the embedding of u, R the choice of the results, and C(w_bar) the sum over the
records of their second partials times their adjoint, a symmetric matrix. Then

    push   z_dot     = R (I - L)^-1 E u_dot                    tangents, forward
    pull   u_bar     = E^T (I - L^T)^-1 R^T z_bar              adjoints, backward: its transpose
    curve  u_bar_dot = E^T (I - L^T)^-1 C (I - L)^-1 E u_dot   what the tangent of pull adds

(Griewank and Walther, Evaluating Derivatives). Partials come from the rules of the primitives. Only
active records count, those that depend on an input and that a result depends on: all other partials
are zero, even where their rules give NaN.

C is kept as its diagonal and, for each record, its element at the two operands.

The nodes of kind "state" hold what is known at u and carry no derivative. So whatever takes them
takes u as well and has the whole derivative in u; or it refuses to be differentiated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nbhvp.errors import TraceError
from nbhvp.graph import definitions, derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, Node, Pool
from nbhvp.graph.primitives import Primitive

__all__ = [
    "CONSTANT",
    "FIRST",
    "INPUT",
    "Gap",
    "Gapped",
    "Guards",
    "Marks",
    "Tape",
    "partials_of",
    "replay",
    "tape_guards",
]

CONSTANT, INPUT, FIRST = 0, 1, 2
"""Codes of records that are no operations; that of the first primitive of a tape."""


@dataclass(frozen=True, eq=False)
class Guards:
    """Conditions that the run met, in order: their primitives, operands and outcomes."""

    codes: np.ndarray
    """uint8: as in a tape, of primitives with boolean results, or that round."""
    first: np.ndarray
    second: np.ndarray
    outcomes: np.ndarray
    """float64: 0 or 1 for a comparison, the integer for a rounding."""


@dataclass(frozen=True, eq=False)
class Marks:
    """Where loops of the code begin a step, and where they end, in the order of the run."""

    ends: np.ndarray
    """uint8: 1 for the end of a loop."""
    records: np.ndarray
    """uint32: how many records there were."""
    guards: np.ndarray
    """uint32: how many guards there were."""
    loops: np.ndarray
    """float64: the number of the loop."""


class Gapped(Exception):
    """A tape lacks records that are needed: the function is recorded anew, as a whole."""


@dataclass(frozen=True)
class Gap:
    """Records that are left out: the first one, the records of a step, and how many steps."""

    start: int
    period: int
    steps: int

    @property
    def size(self) -> int:
        return self.period * self.steps

    @property
    def end(self) -> int:
        """The first record behind it, by its number in the run."""
        return self.start + self.size

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Where records stand on a tape without the gap, by their numbers in the run."""
        if ((rows >= self.start) & (rows < self.end)).any():
            raise Gapped
        return np.where(rows < self.start, rows, rows - rows.dtype.type(self.size))


@dataclass(frozen=True, eq=False)
class Tape:
    """The records of one run, in arrays of one length."""

    primitives: tuple[Primitive, ...]
    """What the codes from FIRST on mean."""
    codes: np.ndarray
    """uint8, one per record."""
    first: np.ndarray
    """uint32: the record that is the first operand; 0 where there is none."""
    second: np.ndarray
    values: np.ndarray
    """float64: what each record was in this run; for a constant, what it is."""
    sizes: tuple[int, ...]
    """The sizes of the inputs: those of input k are records 1 + sum(sizes[:k]) and on."""
    outputs: np.ndarray
    """int64: the records that are the results."""
    guards: Guards
    passive: tuple[int, ...] = ()
    """The inputs that nobody differentiates in."""
    source: str = ""
    """The function that ran, with its file and line."""
    gap: Gap | None = None
    """Records of a loop that are left out."""
    marks: Marks | None = None
    """The steps of loops, where these were noted."""

    @property
    def nbytes(self) -> int:
        arrays = (self.codes, self.first, self.second, self.values)
        return sum(array.nbytes for array in arrays)

    @property
    def start(self) -> int:
        """The first record behind the inputs."""
        return 1 + sum(self.sizes)

    @cached_property
    def varied(self) -> np.ndarray:
        """bool, one per element of the inputs: whether somebody may differentiate in it."""
        flags = [k not in self.passive for k in range(len(self.sizes))]
        return np.repeat(flags, self.sizes)

    @cached_property
    def count(self) -> int:
        """The operations of the run, those among them that are left out."""
        found, gap = int(np.count_nonzero(self.codes >= FIRST)), self.gap
        return found if gap is None else found + self.operations_of_step * gap.steps

    @property
    def operations_of_step(self) -> int:
        """How many operations the records of a step are that were left out."""
        step = self.codes[self.gap.start :][: self.gap.period]
        return int(np.count_nonzero(step >= FIRST))

    @cached_property
    def operations(self) -> list[int]:
        """The codes that occur behind the inputs, but for constants."""
        return (FIRST + np.flatnonzero(np.bincount(self.codes)[FIRST:])).tolist()

    def may_vary(self, records: np.ndarray) -> bool:
        """Whether some of these are neither constants nor passive inputs."""
        varied = np.append(False, self.varied)[np.minimum(records, self.start - 1)]
        computed = self.codes[records] != CONSTANT
        return bool(np.where(records < self.start, varied, computed).any())

    def primitive(self, code: int) -> Primitive:
        return self.primitives[code - FIRST]

    def __repr__(self) -> str:
        return f"<tape of {len(self.codes)} records>"


# What is known at a point.


def _active(u, tape):
    """Whether each record depends on an input that varies, and some result on the record."""
    operands = list(_operands(tape))
    varied = [False, *tape.varied.tolist()]
    for a, b in operands:
        varied.append(varied[a] or varied[b])
    useful = np.zeros(len(varied), bool)
    useful[tape.outputs] = True
    for i in range(len(varied) - 1, tape.start - 1, -1):
        useful[list(operands[i - tape.start])] |= useful[i]
    return useful & varied


def _operands(tape):
    """The operands of the records behind the inputs."""
    return zip(tape.first[tape.start :].tolist(), tape.second[tape.start :].tolist(), strict=True)


def _values(u, tape):
    w = tape.values.copy()
    w[1 : tape.start] = u
    for i, (a, b) in enumerate(_operands(tape), tape.start):
        if tape.codes[i] != CONSTANT:
            entry = tape.primitive(tape.codes[i])
            w[i] = entry.evaluate(*(w[a], w[b])[: entry.arity])
    return w


def partials_of(entry: Primitive, shape: tuple[int, ...] = ()) -> Graph:
    """From the result and both arguments of a primitive to its partials a, b, aa, ab, bb."""
    pool = Pool()
    z, x, y = (p.input_node(pool, name, shape, np.float64) for name in "zxy")
    one, zero = (p.broadcast(p.constant(pool, number), shape=shape) for number in (1.0, 0.0))

    def partial(of: Node, k: int) -> Node:
        return zero if k in entry.fixed else derive.jvp([of], [(x, y)[k]], [one])[0]

    value = entry(*(x, y)[: entry.arity])
    strict = derive.strict(value, x)
    a, b = partial(strict, 0), partial(strict, 1)
    seconds = partial(a, 0), partial(a, 1), partial(b, 1)
    outputs = [partial(value, 0), partial(value, 1), *seconds]
    known = {} if value in (x, y) else {value: z}
    return Graph((z, x, y), tuple(derive.substitute(outputs, known)))


def _refuse_fixed(tape: Tape) -> None:
    """An error, where an argument in which a primitive has no derivative may vary."""
    for code in tape.operations:
        entry = tape.primitive(code)
        for k in entry.fixed:
            operands = (tape.first, tape.second)[k][tape.codes == code]
            derive.refuse_fixed(entry, [k == j and tape.may_vary(operands) for j in range(2)])


def _by_code(tape, values, active):
    """For each code, where it occurs, and the first and second partials there."""
    for code in tape.operations:
        at = tape.start + np.flatnonzero(tape.codes[tape.start :] == code)
        a, b = tape.first[at], tape.second[at]
        graph = partials_of(tape.primitive(code), at.shape)
        found = np.stack(interpret(graph, values[at], values[a], values[b]), axis=-1)
        in_a, in_b = active[at] & active[a], active[at] & active[b]
        counts = np.stack([in_a, in_b, in_a, in_a & in_b, in_b], axis=-1)
        yield at, *np.split(np.where(counts, found, 0.0), [2], axis=-1)


def _partials(values, active, tape):
    out = np.zeros((len(values), 2))
    for at, first, _ in _by_code(tape, values, active):
        out[at] = first
    return out


def _second(u, values, active, tape):
    """The second partials of each record: aa, ab, bb."""
    out = np.zeros((len(values), 3))
    for at, _, second in _by_code(tape, values, active):
        out[at] = second
    return out


def _curvature(u, values, active, adjoints, tape):
    """C: what stands on its diagonal at each record, and off it at the operands of each record."""
    aa, ab, bb = _second(u, values, active, tape).T * adjoints
    same = tape.first == tape.second
    out = np.stack([np.zeros(len(values)), np.where(same, 0.0, ab)], axis=-1)
    np.add.at(out[:, 0], tape.first, np.where(same, aa + 2 * ab, aa))
    np.add.at(out[:, 0], tape.second, bb)
    return out


# The three sweeps, along axis 0.


def _forward(partials, tape, w_dot, added=None):
    """(I - L)^-1: the tangents of all records, from those of the inputs and what is added."""
    for i, (a, b) in enumerate(_operands(tape), tape.start):
        w_dot[i] = partials[i, 0] * w_dot[a] + partials[i, 1] * w_dot[b]
        if added is not None:
            w_dot[i] += added[i]
    return w_dot


def _backward(partials, tape, w_bar):
    """(I - L^T)^-1: the adjoints of all records, in place."""
    operands = list(_operands(tape))
    for i in range(len(tape.codes) - 1, tape.start - 1, -1):
        a, b = operands[i - tape.start]
        w_bar[a] += partials[i, 0] * w_bar[i]
        w_bar[b] += partials[i, 1] * w_bar[i]
    w_bar[0] = 0
    return w_bar


def _embedded(u_dot, tape):
    w_dot = np.zeros((len(tape.codes), *u_dot.shape[1:]))
    w_dot[1 : tape.start] = u_dot
    return w_dot


def _spread(z_bar, tape):
    w_bar = np.zeros((len(tape.codes), *z_bar.shape[1:]))
    np.add.at(w_bar, tape.outputs, z_bar)
    return w_bar


def _push(u, partials, u_dot, tape, axis):
    w_dot = _forward(partials, tape, _embedded(np.moveaxis(u_dot, axis, 0), tape))
    return np.moveaxis(w_dot[tape.outputs], 0, axis)


def _adjoints(u, partials, z_bar, tape):
    return _backward(partials, tape, _spread(z_bar, tape))


def _pull(u, partials, z_bar, tape, axis):
    w_bar = _backward(partials, tape, _spread(np.moveaxis(z_bar, axis, 0), tape))
    return np.moveaxis(w_bar[1 : tape.start], 0, axis)


def _curve(partials, curvature, u_dot, tape, axis):
    w_dot = _forward(partials, tape, _embedded(np.moveaxis(u_dot, axis, 0), tape))
    along = (..., *(None,) * (w_dot.ndim - 1))
    diagonal, mixed = (column[along] for column in curvature.T)
    w_bar = diagonal * w_dot
    np.add.at(w_bar, tape.first, mixed * w_dot[tape.second])
    np.add.at(w_bar, tape.second, mixed * w_dot[tape.first])
    return np.moveaxis(_backward(partials, tape, w_bar)[1 : tape.start], 0, axis)


def _bend(u, partials, second, u_dot, u_dot2, tape):
    dots, dots2 = (_forward(partials, tape, _embedded(dot, tape)) for dot in (u_dot, u_dot2))
    (a, b), (a2, b2) = ((dot[tape.first], dot[tape.second]) for dot in (dots, dots2))
    aa, ab, bb = second.T
    added = aa * a * a2 + ab * (a * b2 + b * a2) + bb * b * b2
    return _forward(partials, tape, np.zeros_like(dots), added)[tape.outputs]


def _holds(values, tape):
    guards = tape.guards
    for code, a, b, outcome in zip(
        guards.codes, guards.first, guards.second, guards.outcomes, strict=True
    ):
        entry = tape.primitive(code)
        if entry.evaluate(*(values[a], values[b])[: entry.arity]) != outcome:
            return np.bool_(False)
    return np.bool_(True)


# The entries.


def _shape(*extents: Callable[[Tape], int]) -> Callable:
    """`infer` of an array with extents that a tape gives."""
    return lambda *args, tape: (tuple(extent(tape) for extent in extents), np.dtype(np.float64))


def _along(position: int, extent: Callable[[Tape], int]) -> Callable:
    """`infer` of a result like an argument, with another extent along the axis."""

    def infer(*args, tape, axis):
        shape = args[position].shape
        return (*shape[:axis], extent(tape), *shape[axis + 1 :]), np.dtype(np.float64)

    return infer


def _records(tape: Tape) -> int:
    return len(tape.codes)


def _elements(tape: Tape) -> int:
    return tape.start - 1


def _results(tape: Tape) -> int:
    return len(tape.outputs)


def _refuse(z, dots, *args, tape, **params):
    raise TraceError(
        f"a third derivative of {tape.source or 'a loop under @njit'} is needed: a loop that does not "
        "become arrays has first and second derivatives only, and a product with the Hessian of a "
        "function that takes a gradient inside needs the third. Write the loop as NumPy operations on "
        "arrays, or leave @njit out"
    )


def _partials_at(u, tape) -> Node:
    return tape_partials(tape_values(u, tape=tape), tape_active(u, tape=tape), tape=tape)


def _curvature_at(u, adjoints, tape) -> Node:
    """The second partials of the records times these adjoints."""
    values, active = tape_values(u, tape=tape), tape_active(u, tape=tape)
    return tape_curvature(u, values, active, adjoints, tape=tape)


def _results_tangent(z, dots, u, values, tape):
    _refuse_fixed(tape)
    return tape_push(u, _partials_at(u, tape), dots[0], tape=tape, axis=0)


def _push_rule(z_bar, z, u, partials, u_dot, tape, axis):
    return None, None, tape_pull(u, partials, z_bar, tape=tape, axis=axis)


def _push_tangent(z, dots, u, partials, u_dot, tape, axis):
    assert axis == 0 and z.ndim == 1, "only one direction is differentiated further"
    second = tape_second(u, tape_values(u, tape=tape), tape_active(u, tape=tape), tape=tape)
    return tape_bend(u, partials, second, u_dot, dots[0], tape=tape)


def _pull_rule(z_bar, z, u, partials, u_bar, tape, axis):
    return None, None, tape_push(u, partials, z_bar, tape=tape, axis=axis)


def _pull_tangent(z, dots, u, partials, z_bar, tape, axis):
    assert axis == 0 and z.ndim == 1, "only one direction is differentiated further"
    curvature = _curvature_at(u, tape_adjoints(u, partials, z_bar, tape=tape), tape)
    return tape_curve(partials, curvature, dots[0], tape=tape, axis=0)


def _curve_rule(z_bar, z, partials, curvature, u_dot, tape, axis):
    return None, None, tape_curve(partials, curvature, z_bar, tape=tape, axis=axis)


def _bend_rule(z_bar, z, u, partials, second, u_dot, u_dot2, tape):
    """What the results weighted with z_bar bend by, a symmetric form in both directions, is curve."""
    curvature = _curvature_at(u, tape_adjoints(u, partials, z_bar, tape=tape), tape)
    return None, None, None, None, tape_curve(partials, curvature, u_dot, tape=tape, axis=0)


def _entry(name, kind, evaluate, infer, rule=None, **fields) -> Primitive:
    """Not evaluated on constants: the records take more memory than they do."""
    fields.setdefault("linear", ())
    return p.enter(Primitive(name, kind, evaluate, infer, rule, lazy=True, **fields))


# fmt: off
tape_values    = _entry("tape_values", "state", _values, _shape(_records))
tape_active    = _entry("tape_active", "discrete", _active, lambda u, tape: ((_records(tape),), definitions.BOOL))
tape_partials  = _entry("tape_partials", "state", _partials, _shape(_records, lambda tape: 2))
tape_results   = _entry("tape_results", "general", lambda u, values, tape: values[tape.outputs], _shape(_results), tangent=_results_tangent)
tape_adjoints  = _entry("tape_adjoints", "general", _adjoints, _shape(_records), tangent=_refuse)
tape_curvature = _entry("tape_curvature", "general", _curvature, _shape(_records, lambda tape: 2), tangent=_refuse)
tape_second    = _entry("tape_second", "general", _second, _shape(_records, lambda tape: 3), tangent=_refuse)
tape_push      = _entry("tape_push", "linear", _push, _along(2, _results), _push_rule, linear=((2,),), tangent=_push_tangent)
tape_pull      = _entry("tape_pull", "linear", _pull, _along(2, _elements), _pull_rule, linear=((2,),), tangent=_pull_tangent)
tape_curve     = _entry("tape_curve", "linear", _curve, _along(2, _elements), _curve_rule, linear=((2,),), tangent=_refuse)
tape_bend      = _entry("tape_bend", "linear", _bend, _shape(_results), _bend_rule, linear=((4,),), batches=False, tangent=_refuse)
tape_holds     = _entry("tape_holds", "discrete", _holds, lambda values, tape: ((), definitions.BOOL))
# fmt: on


def replay(u: Node, tape: Tape) -> Node:
    """The results of a tape at new values of its inputs, given end to end: shape (m,) from (n,)."""
    assert (u.shape, u.dtype) == ((_elements(tape),), np.float64), f"{u!r} for {tape}"
    return tape_results(u, tape_values(u, tape=tape), tape=tape)


def tape_guards(u: Node, tape: Tape) -> Node:
    """Whether all guards of a tape have at u the outcomes that were recorded: a boolean scalar."""
    return tape_holds(tape_values(u, tape=tape), tape=tape)
