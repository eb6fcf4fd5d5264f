"""Calls that were made before: a function of arrays of the same shapes applies the same primitives.

The steps of a loop call the same functions, with other arrays of the same shapes, dtypes and strides
and with equal parameters. What an answer of the register does follows from these, and from the outcomes
of the guards that it takes. So the second such call is kept as a `Pattern`: its primitives in order, and
its guards. A later one evaluates these, compares the outcomes, and makes the requests. Arithmetic
between arrays is one primitive, a `Row`: its operands may be numbers that are others in each step.

Invariant: values, types, requests and guards are those that the general way gives; a call that shares
memory, writes, or depends on anything else is none of these.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import OPEN, PLAIN, Node
from nbhvp.graph.requests import Request, settled
from nbhvp.trace.answers import ANSWERS, answer_to
from nbhvp.trace.arrays import Number, Traced, lift, traced
from nbhvp.trace.recording import Recording, present
from nbhvp.trace.surroundings.ownership import public_name, ufunc_home
from nbhvp.trace.views import Storage

__all__ = ["repeated"]

MOST = 64
"""Forms of the calls of a function: one whose parameters always change has no patterns."""
TRIES = 4
"""Calls of one form until a pattern is found: the first is only counted."""
_WHOLE = 2**31
"""Integers below are numbers of any dtype of arrays."""


class Row(NamedTuple):
    """A primitive, and the places of its arguments: operands and constants come first, then rows."""

    primitive: p.Primitive
    evaluate: Callable
    args: tuple[int, ...]
    params: dict[str, Any]
    shape: tuple[int, ...]
    dtype: np.dtype
    kind: int
    is_simple: bool
    """Whether nothing but the request is made: the result is no number, no view, no comparison."""
    wanted: tuple[np.dtype, ...]
    """Of arithmetic: the dtypes of its operands."""
    life: int | None = None
    """That of the result, if it is the same in each call."""


class Pattern(NamedTuple):
    """What a call does."""

    constants: tuple[Node, ...]
    rows: tuple[Row, ...]
    results: tuple[tuple[int, tuple[int, ...] | None], ...]
    """Places, with strides; None of a number."""
    together: type | None
    """The class of the tuple that several results are."""
    guards: tuple[tuple[int, Any], ...]
    """Places, with the outcomes for which the pattern holds."""


def repeated(function: Callable, args: tuple, kwargs: dict, general: Callable, key: Any = None):
    """What a function gives; `general` takes its arguments.

    Ways that give results of other types, as operators do, have keys of their own.
    """
    recording = present()
    log = None if recording is None else recording.log
    if log is None or not log.is_open or not log.pool.asks or recording.divides_by_python:
        return general(*args, **kwargs)
    try:
        way = _way(function, len(ANSWERS))
    except TypeError:  # a method of an object without a hash
        return general(*args, **kwargs)
    if way is None or (way is _arithmetic and (kwargs or len(args) != function.nin)):
        return general(*args, **kwargs)
    return way(recording, function, args, kwargs, general, key or function)


@functools.cache
def _way(function: Callable, entries: int) -> Callable | None:
    """How calls of a function repeat, if their results follow from their arguments."""
    if isinstance(function, np.ufunc) and function not in ANSWERS:
        is_one = function.nout == 1 and p.primitive_of(function) is not None
        return _arithmetic if is_one else None
    home = ufunc_home(function) or public_name(function).rpartition(".")[0]
    return _called if home in _PURE and answer_to(function) is not None else None


_PURE = ("numpy", "numpy.linalg", "numpy.fft", "scipy.linalg", "scipy.special")


# Arithmetic between arrays.


def _arithmetic(recording: Recording, ufunc: np.ufunc, operands: tuple, _, general, key):
    """The result of an elementwise function, if that is an array."""
    if Traced not in map(type, operands):
        return general(*operands)
    pool = recording.pool
    form: list = [ufunc]
    nodes: list[Node | None] = []
    values: list = []
    for x in operands:
        kind, node = type(x), None
        if kind is np.ndarray:
            x, kind = lift(x), Traced
        if kind is Traced:
            version, value, node = x._cache
            if node is None or version != x.storage.version:
                value, node = x.value, x.node
            if node.pool is not pool:
                return general(*operands)
            form += (node.shape, node.dtype)
            x = value
        elif kind is Number:
            node, x = x.node, x.value
        elif kind is np.float64:
            node = p.constant(pool, x)
        elif kind is not float and not (kind is int and -_WHOLE < x < _WHOLE):
            return general(*operands)
        form.append(type(x))
        nodes.append(node)
        values.append(x)
    known = tuple(form)
    row = recording.patterns.get(known, 0)
    if type(row) is not Row:
        count = pool.end
        result = general(*operands)
        if row < TRIES:
            made = _only_row(result, ufunc, nodes, count) if row else None
            recording.patterns[known] = made or row + 1
        return result
    value = row.evaluate(*values)
    args = tuple([
        p.constant(pool, x, dtype) if node is None else node
        for node, x, dtype in zip(nodes, values, row.wanted, strict=True)
    ])  # fmt: skip
    return _fresh(_request(recording, row, args, value), value)


def _fresh(node: Node, value: np.ndarray) -> Traced:
    """A new array, which is known to be read."""
    made = Traced(Storage(node, value))
    made._cache = 0, value, node
    return made


def _only_row(result, ufunc: np.ufunc, nodes: list[Node | None], count: int) -> Row | None:
    """The primitive that a result is, if it is one of the operands as they are."""
    if type(result) is not Traced or type(result.value) is not np.ndarray or not result.ndim:
        return None
    node = result.node
    is_new = not result.views and type(node) is Request and node.index >= count
    if not is_new or node.primitive is not p.primitive_of(ufunc):
        return None
    for arg, given in zip(node.args, nodes, strict=True):
        if arg is not given and (given is not None or arg.value is None):
            return None
    return _row(node, dict.fromkeys(node.args, 0))


def _request(recording: Recording, row: Row, args: tuple[Node, ...], value) -> Node:
    """One more operation of a kind that is known."""
    entry, _, _, params, shape, dtype, kind, is_simple, _, life = row
    pool = recording.pool
    if life is None:
        life = max([arg.life for arg in args])
    if is_simple:
        return Request(pool, entry, args, params, shape, dtype, pool.counted(), life, kind)
    if entry.follow is not None and (found := entry.follow(*args, **params)):
        return found
    if row.life is None and entry.selects and life != min([arg.life for arg in args]):
        life = OPEN
    node = Request(pool, entry, args, params, shape, dtype, pool.counted(), life, kind)
    if entry in p.EQUALITIES:
        recording.equalities[node] = bool(np.any(np.equal(value, entry is p.equal)))
    if node.size == 1:
        recording.count_scalar()
    return node


# Calls of functions.


def _called(recording: Recording, function: Callable, args: tuple, kwargs: dict, general, key):
    """The result of a function that has an answer."""
    operands: list = []
    form = [key]
    if not (_enter(args, form, operands) and (not kwargs or _enter(kwargs, form, operands))):
        return general(*args, **kwargs)
    kinds = [type(x) for x in operands]
    if Traced not in kinds and Number not in kinds:
        return general(*args, **kwargs)
    nodes: list[Node] = []
    first: dict[Node, int] = {}
    values: list = []
    for k, kind in enumerate(kinds):
        if kind is np.ndarray:
            operands[k] = lift(operands[k])
        nodes.append(node := operands[k].node)
        values.append(value := operands[k].value)
        # What a call sees of an array; of one that depends on no input, which one it is.
        form += (node.dtype, node.life, first.setdefault(node, k))
        form.append((value.shape, value.strides) if type(value) is np.ndarray else type(value))
        if node.life == PLAIN and (node.dtype.kind not in "fc" or function not in _BY_SHAPE):
            form.append(settled(node))
        elif node.life == OPEN or node.pool is not recording.pool:
            return general(*args, **kwargs)
    known, patterns = tuple(form), recording.patterns
    pattern = patterns.get(known, 0)
    if type(pattern) is Pattern:
        found = _again(recording, pattern, nodes, values)
        return general(*args, **kwargs) if found is None else found
    if pattern == 0:
        patterns[key] = patterns.get(key, 0) + 1
    if pattern < TRIES and patterns[key] <= MOST:
        patterns[known] = pattern + 1
        if pattern:
            return _kept(recording, known, operands, nodes, lambda: general(*args, **kwargs))
    return general(*args, **kwargs)


LARGEST = 1 << 20
"""Bytes of results for which patterns pay: they are tried once, which takes memory and time of its own."""

_BY_SHAPE = {np.matmul, np.dot, np.concatenate, np.stack, np.sum}
"""Functions whose answers look at no value, of constants neither, but integers, which may be axes."""


def _kept(recording: Recording, known: tuple, operands: list, nodes: list[Node], run: Callable):
    """The result of a call, whose pattern is kept if it has one."""
    if any(node in recording.guards for node in nodes):
        return run()  # it would take no guard on a value that it depends on
    before, versions = _marks(recording), [x.storage.version for x in operands]
    guards, count = len(recording.guards), recording.pool.end
    result = run()
    if _marks(recording) == before and [x.storage.version for x in operands] == versions:
        taken = list(recording.guards.items())[guards:]
        pattern = _pattern(result, operands, nodes, count, taken)
        if pattern is not None:
            recording.patterns[known] = pattern
    return result


def _enter(x, form: list, operands: list) -> bool:
    """Add what a call is given; whether its results follow from that."""
    kind = type(x)
    form.append(kind)
    if kind is tuple or kind is list:
        form.append(len(x))
        for item in x:
            kind = type(item)
            if kind is Traced or kind is Number or kind is np.ndarray:
                form.append(Traced)
                operands.append(item)
            elif not _enter(item, form, operands):
                return False
        return True
    if kind is dict:
        form.append(tuple(x))
        return _enter(tuple(x.values()), form, operands)
    form.append(x)
    if kind is float or kind is np.float64:
        form.append(math.copysign(1.0, x))
        return True
    return kind in _PARAMETERS or isinstance(x, type | np.dtype)


_PARAMETERS = (int, bool, str, type(None), np.int64, np.bool_)


def _marks(recording: Recording) -> tuple:
    """What changes where a call does more than to apply primitives and to take guards."""
    return (
        *map(len, (recording.conditions, recording.notes, recording.errors, recording.texts)),
        *map(len, (recording.outside, recording.loop_calls, recording.values, recording.sources)),
        recording.hidden_state,
        recording.unguarded,
    )


def _pattern(
    result, operands: list[Traced], nodes: list[Node], count: int, taken: list
) -> Pattern | None:
    """The pattern of a call with its guards, if evaluating that gives its result."""
    is_tuple = isinstance(result, tuple) and not hasattr(result, "__dict__")
    results = result if is_tuple else (result,)
    if not results or not all(_is_new(one, nodes) for one in results):
        return None
    inner = _inner([*(one.node for one in results), *(one for one, _ in taken)], nodes, count)
    if inner is None:
        return None
    constants = tuple(a for n in inner for a in n.args if a.value is not None)
    places: dict[Node, int] = {}
    for k, one in enumerate((*nodes, *constants, *inner)):
        places.setdefault(one, k)
    # What a slice finds of what was written may be another node each time.
    is_known = not any(one.primitive.follow for one in inner)
    made = Pattern(
        constants,
        tuple(_row(one, places, one.life if is_known else None) for one in inner),
        tuple((places[one.node], _strides(one.value)) for one in results),
        type(result) if is_tuple else None,
        tuple((places[one], outcome) for one, outcome in taken),
    )
    values = _values(made, [x.value for x in operands])
    if values is None:
        return None
    found = zip(made.results, results, strict=True)
    return made if all(_is_same(values[k], one.value) for (k, _), one in found) else None


def _is_new(result, operands: list[Node]) -> bool:
    """Whether a result is an array or a number of its own, and of no great size."""
    if type(result) not in (Traced, Number) or result.views or result.node.life == PLAIN:
        return False
    value = result.value
    is_plain = isinstance(value, np.ndarray | np.generic) and value.nbytes <= LARGEST
    return is_plain and not _is_view(result.node, operands)


def _strides(value) -> tuple[int, ...] | None:
    return value.strides if type(value) is np.ndarray else None


def _inner(roots: list[Node], operands: list[Node], count: int) -> list[Request] | None:
    """The requests of a call behind some, in order; None if these need anything else."""
    given, found = set(operands), set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in given or node in found or node.value is not None:
            continue
        if type(node) is not Request or node.index < count or node.primitive.kind == "source":
            return None
        found.add(node)
        stack += node.args
    return sorted(found, key=lambda one: one.index)


_VIEWS = (p.slice_, p.reshape, p.transpose, p.broadcast, p.real, p.imag)


def _is_view(node: Node, operands: list[Node]) -> bool:
    """Whether a result is an operand, or may share its memory."""
    while node not in operands and node.primitive in _VIEWS:
        node = node.args[0]
    return node in operands


def _row(node: Request, places: dict[Node, int], life: int | None = None) -> Row:
    entry = node.primitive
    return Row(
        entry,
        functools.partial(entry.evaluate, **node.params) if node.params else entry.evaluate,
        tuple(places[arg] for arg in node.args),
        node.params,
        node.shape,
        node.dtype,
        node.kind,
        not (
            entry.follow
            or (entry.selects and life is None)
            or entry in p.EQUALITIES
            or node.size == 1
        ),
        tuple(arg.dtype for arg in node.args),
        life,
    )


def _values(pattern: Pattern, values: list) -> list | None:
    """The values of all places; None where another branch would be taken."""
    values = [*values, *[node.value for node in pattern.constants]]
    for row in pattern.rows:
        values.append(row.evaluate(*[values[k] for k in row.args]))
    for k, outcome in pattern.guards:
        if not _is_same(values[k], outcome):
            return None
    return values


def _is_same(value, other) -> bool:
    return np.asarray(value).tobytes() == np.asarray(other).tobytes()


def _again(recording: Recording, pattern: Pattern, nodes: list[Node], values: list):
    """The result of a call by its pattern; None where that does not hold."""
    found = _values(pattern, values)
    if found is None or any(
        strides is not None and _strides(found[k]) != strides for k, strides in pattern.results
    ):
        return None
    nodes += pattern.constants
    pool = recording.pool
    for row in pattern.rows:
        entry, _, places, params, shape, dtype, kind, is_simple, _, life = row
        args = tuple([nodes[j] for j in places])
        if is_simple and life is not None:  # as `_request` does, for each of many
            node = Request(pool, entry, args, params, shape, dtype, pool.counted(), life, kind)
        else:
            node = _request(recording, row, args, found[len(nodes)])
        nodes.append(node)
    for k, _ in pattern.guards:
        if nodes[k] not in recording.guards:
            recording.guard(nodes[k], found[k])
    results = [
        _fresh(nodes[k], found[k])
        if strides is not None
        else traced(nodes[k], np.asarray(found[k])[()])
        for k, strides in pattern.results
    ]
    return results[0] if pattern.together is None else tuple.__new__(pattern.together, results)
