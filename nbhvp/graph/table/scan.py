"""Recurrences: one step as a graph, applied again and again.

    (u_{k+1}, y_k) = body(u_k, s_k, w),    k = 0, ..., T - 1

A body maps the carry u, one slice of each of some arrays, and invariants to the next carry and one
slice of each output. A scan is a node of shape (T + 1, m) with a row for each k: in its first columns
the carry u_k, in the others y_k (zeros in the last row). Backwards, k runs from T - 1 to 0 and step k
takes the carry from row k + 1 to row k.

Scans are closed under differentiation. With A_k the Jacobian of the body in the carry and B_k in all
else, tangents and adjoints are linear recurrences,

    u_dot_{k+1} = A_k u_dot_k + B_k s_dot_k          lambda_k = A_k^T lambda_{k+1} + ...,

so each is a scan again, whose body `derive` makes of the body (its jvp, and the vjp of that, or of the
body itself where lengths are 0), and which reads the rows of the first one as slices. It is linear in its carry and in the slices and invariants
that are tangents or adjoints: a linear primitive, the transpose of which is the scan of the transposed
body in the other direction. Derivatives of any order follow.

Each body is a primitive of its own, outside the table. T is a parameter of the node, not of the body.
A body may hold scans: loops within loops.

Where only the carry after the last step is read, a scan that is to be computed keeps two rows, which steps
write in turn (`with_ends`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import Interpreter
from nbhvp.graph.node import Graph, Node, reachable
from nbhvp.graph.primitives import Primitive

__all__ = [
    "Body",
    "Derived",
    "before",
    "collected",
    "final",
    "following",
    "keeps_rows",
    "linear_body",
    "scan",
    "with_ends",
    "with_rows",
    "without_unread",
]


@dataclass(frozen=True, eq=False)
class Body:
    """One step of a recurrence.

    The inputs of the graph are the carry, the slices and the invariants; its outputs the next carry,
    then one slice of each output. Carry and outputs have one real dtype.
    """

    graph: Graph
    carries: int
    slices: int
    reverse: bool = False
    linear: frozenset[int] = frozenset()
    """The positions of the inputs in which it is jointly linear, with the carry among them; or none."""
    order: int = 0
    """How many tangents were taken."""
    single: Body | None = None
    """Of several directions, along a last axis of each output and of the inputs in `linear`: the body
    of one of them."""
    is_repeated: bool = False
    """Whether what a step computes is too much to keep, and so computed again for each use."""

    def __post_init__(self) -> None:
        inputs, outputs = self.graph.inputs, self.graph.outputs
        for before, after in zip(inputs[: self.carries], outputs, strict=False):
            assert before.shape == after.shape, f"a carry of {before!r} becomes {after!r}"
        kinds = {node.dtype for node in (*inputs[: self.carries], *outputs)}
        assert len(kinds) == 1 and kinds <= {np.dtype("f4"), np.dtype("f8")}, f"a scan of {kinds}"
        derive.check(self.graph)
        if self.linear:
            assert self.joint(self.linear) == self.linear, (
                "a body is linear in its carry, if at all"
            )

    @property
    def dtype(self) -> np.dtype:
        return self.graph.outputs[0].dtype

    @cached_property
    def columns(self) -> tuple[int, ...]:
        """Where the columns of each output begin, and where the last ones end."""
        widths = [node.size for node in self.graph.outputs]
        return tuple(np.cumsum([0, *widths]).tolist())

    @property
    def width(self) -> int:
        return self.columns[-1]

    @property
    def floats(self) -> list[int]:
        """The positions of the inputs that carry derivatives."""
        return [k for k, node in enumerate(self.graph.inputs) if node.dtype.kind == "f"]

    @property
    def rest(self) -> int:
        """The position of the first invariant."""
        return self.carries + self.slices

    @cached_property
    def operations(self) -> int:
        """The scalar operations of one step."""
        return sum(map(_work, self.graph.nodes))

    @cached_property
    def has_corners(self) -> bool:
        """Whether adjoints have parts that tangents have not, as those of lengths that are 0 (`lengths`)."""
        entries = {node.primitive for node in self.graph.nodes}
        return not self.linear and any(one.strict or one.uncertain for one in entries)

    @cached_property
    def is_uncertain(self) -> bool:
        return any(node.primitive.uncertain for node in self.graph.nodes)

    @cached_property
    def primitive(self) -> Primitive:
        """What applies it to a carry, to arrays of slices and to invariants."""
        is_linear = bool(self.linear)
        return Primitive(
            "linear scan" if is_linear else "scan",
            "linear" if is_linear else "general",
            self._evaluate,
            self._infer,
            self._rule if is_linear or self.has_corners else None,
            self._tangent,
            linear=(tuple(sorted(self.linear)),) if is_linear else (),
            whole=True,
            lazy=True,
            batches=all(node.primitive.batches for node in self.graph.nodes),
            uncertain=self.is_uncertain,
            strict=self._strict,
            body=self,
            joint=self.joint,
        )

    @cached_property
    def ending(self) -> Primitive:
        """The same, of which only the carry after the last step is kept: in the first of two rows."""

        def evaluate(*args: np.ndarray, length: int) -> np.ndarray:
            rows = self._evaluate(*args, length=length)
            return np.stack([rows[0 if self.reverse else length], np.zeros_like(rows[0])])

        def infer(*args: Node, length: int) -> tuple[tuple[int, ...], np.dtype]:
            return (2, self.width), self._infer(*args, length=length)[1]

        return replace(self.primitive, name="end of a scan", evaluate=evaluate, infer=infer)

    def joint(self, active: frozenset[int]) -> frozenset[int] | None:
        """These positions and the carry, if it is jointly linear in them; or all those of `linear`."""
        if active not in self._joints:
            found = active | {*range(self.carries)}
            directions = [self.graph.inputs[k] for k in sorted(found)]
            known = all(
                derive.is_linear(node, directions) or derive.is_zero(node)
                for node in self.graph.outputs
            )
            wider = self.linear if found < self.linear else None
            self._joints[active] = found if known else wider
        return self._joints[active]

    @cached_property
    def _joints(self) -> dict[frozenset[int], frozenset[int] | None]:
        return {}

    def __repr__(self) -> str:
        return f"<body of {self.carries} carried arrays, {self.operations} operations>"

    # Values.

    def _infer(self, *args: Node, length: int) -> tuple[tuple[int, ...], np.dtype]:
        assert len(args) == len(self.graph.inputs), f"{len(args)} arguments for {self}"
        for k, (arg, given) in enumerate(zip(args, self.graph.inputs, strict=True)):
            is_slice = self.carries <= k < self.rest
            shape = (length, *given.shape) if is_slice else given.shape
            assert (arg.shape, arg.dtype) == (shape, given.dtype), f"argument {k}: {arg!r}"
        return (length + 1, self.width), self.dtype

    def _evaluate(self, *args: np.ndarray, length: int) -> np.ndarray:
        n, end = self.carries, self.rest
        out = np.zeros((length + 1, self.width), self.dtype)
        carry, slices, rest = [np.asarray(a) for a in args[:n]], args[n:end], args[end:]
        places = list(zip(self.columns, self.columns[1:], strict=False))
        row = length if self.reverse else 0
        _put(out[row], carry, places)
        step = Interpreter(self.graph)
        for k in reversed(range(length)) if self.reverse else range(length):
            found = step(*carry, *(s[k] for s in slices), *rest)
            carry = found[:n]
            _put(out[k if self.reverse else k + 1], carry, places)
            _put(out[k], found[n:], places[n:])
        return out

    def written_out(self, *args: Node, length: int) -> Node:
        """The rows as nodes of each step."""
        n, end = self.carries, self.rest
        carry, slices, rest = args[:n], args[n:end], args[end:]
        nothing = tuple(p.zeros(args[0].pool, o.shape, o.dtype) for o in self.graph.outputs[n:])
        steps = [(carry, nothing)]
        for k in range(length)[:: -1 if self.reverse else 1]:
            now = (
                p.slice_(
                    s, start=(k, *[0] * (s.ndim - 1)), step=(1,) * s.ndim, size=(1, *s.shape[1:])
                )
                for s in slices
            )
            given = (*carry, *(p.reshape(x, shape=x.shape[1:]) for x in now), *rest)
            found = _applied(self.graph, given)
            carry, y = found[:n], found[n:]
            if self.reverse:  # y is in the row of the carry after the step, else in that before it
                steps.append((carry, y))
            else:
                steps[-1:] = [(steps[-1][0], y), (carry, nothing)]
        steps = steps[:: -1 if self.reverse else 1]
        rows = [p.reshape(x, shape=(x.size,)) for pair in steps for part in pair for x in part]
        return p.reshape(p.concatenate(*rows, axis=0), shape=(length + 1, self.width))

    # Derivatives.

    @cached_property
    def _strict(self) -> Primitive | None:
        outputs = tuple(map(derive.strict, self.graph.outputs))
        if outputs == self.graph.outputs:
            return None
        inputs = self.graph.inputs
        graph = Graph(inputs, outputs)
        return replace(self, graph=graph).primitive

    def _tangent(self, z: Node, dots: Sequence[Node | None], *args: Node, length: int) -> Node:
        """The scan of tangents, all of which move if the carry does."""
        moving = frozenset(k for k, dot in enumerate(dots) if dot is not None)
        derived = self.derived(moving | {*range(self.carries)})
        given: dict[tuple[str, int], Node] = {("arg", k): arg for k, arg in enumerate(args)}
        given |= {("dot", k): dot for k, dot in enumerate(dots) if dot is not None}
        for k in range(self.carries):
            given.setdefault(("dot", k), p.zeros(z.pool, args[k].shape, args[k].dtype))
            if ("before", k) in derived.sources:
                given["before", k] = before(z, k)
        return scan(derived.body, length, *(given[source] for source in derived.sources))

    def _rule(self, z_bar: Node, z: Node, *args: Node, length: int) -> list[Node | None]:
        """The scan of adjoints, in the other direction."""
        n, start, shift = self.carries, length * (not self.reverse), int(self.reverse)
        given: dict[tuple[str, int], Node] = {("arg", k): arg for k, arg in enumerate(args)}
        if not self.linear:
            given |= {("before", k): before(z, k) for k in range(n)}
        moving = set()
        for k, node in enumerate(self.graph.outputs):
            place = (shift if k < n else 0, self.columns[k])
            part = _part(z_bar, place, (length, node.size))
            given["rows", k] = p.reshape(part, shape=(length, *node.shape))
            if not derive.is_zero(part):
                moving.add(k)
        whole = p.reshape(_part(z_bar, (start, 0), (1, self.width)), shape=(self.width,))
        for k, node in enumerate(self.graph.inputs):
            if k < n:
                given["end", k] = _columns(whole, self.columns[k], node)
            else:
                given["zero", k] = p.zeros(z.pool, node.shape, node.dtype)
        found: dict[int, Node] = {}
        for derived in self.transposed(frozenset(moving)):
            other = scan(derived.body, length, *(given[source] for source in derived.sources))
            given |= {("carried", k): before(other, k) for k in range(derived.body.carries)}
            last = final(other)
            for place, k in enumerate(derived.gives):
                summed = place < derived.body.carries
                found[k] = last[place] if summed else collected(other, place - len(last))
        return [found.get(k) for k in range(len(args))]

    def derived(self, moving: frozenset[int]) -> Derived:
        """The body of tangents, where these inputs have some, the carry among them."""
        return self.known(("tangent", moving), lambda: _derived(self, moving))

    def transposed(self, moving: frozenset[int]) -> tuple[Derived, ...]:
        """The bodies of adjoints, where the rows of these outputs have some: one after the other."""
        return self.known(("transposed", moving), lambda: _transposed(self, moving))

    def known(self, key: tuple, make: Callable[[], Any]) -> Any:
        """What is made of the body, once."""
        with self.graph.outputs[0].pool.lock:
            if key not in self._bodies:
                self._bodies[key] = make()
            return self._bodies[key]

    @cached_property
    def _bodies(self) -> dict[tuple, Any]:
        return {}


@dataclass(frozen=True)
class Derived:
    """A body made of another one, and what its scan is applied to."""

    body: Body
    sources: tuple[tuple[str, int], ...]
    """For each input a kind and a position: ("arg", 2), ("dot", 0), ("before", 1)."""
    gives: tuple[int, ...] = ()
    """Of adjoints: the arguments to which its last carry and its outputs belong."""


def _work(node: Node) -> int:
    """The operations on single numbers in a node."""
    if node.primitive.body is not None:
        return node.params["length"] * node.primitive.body.operations
    if node.primitive is p.sum_:
        return node.args[0].size
    if node.primitive is p.contract:
        operands = node.params["subscripts"].split("->")[0].split(",")
        axes = (
            zip(*pair, strict=True)
            for pair in zip(operands, (a.shape for a in node.args), strict=True)
        )
        return math.prod(dict(axis for some in axes for axis in some).values())
    return node.size if node.args else 0


def scan(body: Body, length: int, *args: Node) -> Node:
    """The rows of a recurrence: shape (length + 1, body.width)."""
    return body.primitive(*args, length=length)


def with_rows(graph: Graph, made: Callable[[Node, tuple[Node, ...]], Node | None]) -> Graph:
    """A graph with other nodes for the rows of recurrences, where `made` gives some.

    What reads some columns of rows that were written part by part reads these parts.
    """
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        args = tuple(new[arg] for arg in node.args)
        found = made(node, args) if node.primitive.body is not None else None
        if found is None and _is_row(node) and args[0].primitive.body is None:
            found = _parts_of_row(args[0], node.args[0].primitive.body, node.params["start"][0])
        if found is None:
            found = node if args == node.args else node.primitive(*args, **node.params)
        new[node] = found
    return Graph(graph.inputs, tuple(new[node] for node in graph.outputs))


def with_ends(graph: Graph) -> Graph:
    """A graph to be computed, with scans that keep the last carry where nothing else is read."""
    users: dict[Node, list[Node]] = {node: [] for node in graph.nodes if _may_end(node)}
    for node in graph.nodes:
        for arg in users.keys() & {*node.args}:
            users[arg].append(node)
    ends = {z for z, some in users.items() if all(_reads_last(user, z) for user in some)}
    ends -= {*graph.outputs}
    if not ends:
        return graph
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        args, params = tuple(new[arg] for arg in node.args), node.params
        if node in ends:
            new[node] = node.primitive.body.ending(*args, **params)
        elif args == node.args:
            new[node] = node
        else:
            if node.args[0] in ends:
                params = {**params, "start": (0, params["start"][1])}
            new[node] = node.primitive(*args, **params)
    return Graph(graph.inputs, tuple(new[node] for node in graph.outputs))


def without_unread(graph: Graph, among: Iterable[Node] | None = None) -> Graph:
    """A graph to be computed, with scans, some or all, that lack the outputs that nothing reads."""
    every = graph.nodes if among is None else among
    users: dict[Node, list[Node]] = {node: [] for node in every if _has_outputs(node)}
    for node in graph.nodes:
        for arg in users.keys() & {*node.args}:
            users[arg].append(node)
    kept = {z: _read_outputs(z, some) for z, some in users.items() if z not in graph.outputs}
    kept = {z: some for z, some in kept.items() if len(some) < len(z.primitive.body.graph.outputs)}
    if not kept:
        return graph
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        args = tuple(new[arg] for arg in node.args)
        if node in kept:
            body = _of_outputs(node.primitive.body, kept[node])
            new[node] = body.primitive(*args, **node.params)
        elif args == node.args:
            new[node] = node
        elif node.args[0] in kept:
            new[node] = _moved(node, args[0], kept[node.args[0]])
        else:
            new[node] = node.primitive(*args, **node.params)
    return Graph(graph.inputs, tuple(new[node] for node in graph.outputs))


def _has_outputs(node: Node) -> bool:
    body = node.primitive.body
    return body is not None and len(body.graph.outputs) > body.carries and keeps_rows(node)


def _read_outputs(z: Node, users: Sequence[Node]) -> tuple[int, ...]:
    """The carry of a scan, and those of its outputs that are read. (In a whole row outputs are 0.)"""
    body = z.primitive.body
    every = range(len(body.graph.outputs))
    if any(user.primitive is not p.slice_ or user.args[0] is not z for user in users):
        return tuple(every)
    read: set[int] = {*range(body.carries)}
    for user in users:
        if not _is_last_row(user):
            first, size = user.params["start"][1], user.params["size"][1]
            last = first + (size - 1) * user.params["step"][1]
            read |= {k for k in every if body.columns[k] <= last and first < body.columns[k + 1]}
    return tuple(sorted(read))


def _is_last_row(user: Node) -> bool:
    z = user.args[0]
    is_last = user.params["start"][0] == z.shape[0] - 1 and not z.primitive.body.reverse
    return is_last and _is_row(user)


def _of_outputs(body: Body, kept: tuple[int, ...]) -> Body:
    """A body with some of its outputs."""
    outputs = tuple(body.graph.outputs[k] for k in kept)
    single = body.single and _of_outputs(body.single, kept)
    return replace(body, graph=Graph(body.graph.inputs, outputs), single=single)


def _moved(user: Node, z: Node, kept: tuple[int, ...]) -> Node:
    """What a slice of rows reads, of rows that lack some outputs."""
    body, few = user.args[0].primitive.body, z.primitive.body
    row, column = user.params["start"]
    if _is_last_row(user):
        width = few.columns[few.carries]
        part = _slice(z, (row, 0), (1, width))
        return p.update(p.zeros(z.pool, (1, body.width), z.dtype), part, start=(0, 0), step=(1, 1))
    at = max(k for k in kept if body.columns[k] <= column)
    column += few.columns[kept.index(at)] - body.columns[at]
    return p.slice_(z, **{**user.params, "start": (row, column)})


def _may_end(node: Node) -> bool:
    body = node.primitive.body
    if body is None or not keeps_rows(node):
        return False
    return body.single is None and len(body.graph.outputs) == body.carries


def _reads_last(user: Node, z: Node) -> bool:
    if user.primitive is not p.slice_:
        return False
    last = 0 if z.primitive.body.reverse else z.shape[0] - 1
    return (user.params["start"][0], user.params["size"][0]) == (last, 1)


def keeps_rows(node: Node) -> bool:
    """Whether a scan keeps a row for each step."""
    return node.primitive is node.primitive.body.primitive


def _is_row(node: Node) -> bool:
    """Whether a node is a whole row of a recurrence, of which mostly some columns are read."""
    if node.primitive is not p.slice_ or node.args[0].primitive.body is None:
        return False
    return node.params["size"] == (1, node.args[0].shape[1])


def _parts_of_row(z: Node, body: Body, row: int) -> Node:
    whole = p.zeros(z.pool, (1, body.width), z.dtype)
    for start, end in zip(body.columns, body.columns[1:], strict=False):
        part = _slice(z, (row, start), (1, end - start))
        if not derive.is_zero(part):
            whole = p.update(whole, part, start=(0, start), step=(1, 1))
    return whole


def before(z: Node, k: int) -> Node:
    """A carried array as each step of a scan has it: shape (T, ...)."""
    body = z.primitive.body
    return _along(z, int(body.reverse), k)


def following(z: Node, k: int) -> Node:
    """A carried array as each step of a scan leaves it: shape (T, ...)."""
    body = z.primitive.body
    return _along(z, int(not body.reverse), k)


def collected(z: Node, k: int) -> Node:
    """Output k of a scan, in all steps: shape (T, ...)."""
    return _along(z, 0, z.primitive.body.carries + k)


def final(z: Node) -> list[Node]:
    """The carry of a scan after its last step."""
    body = z.primitive.body
    row = _row(z, body, 0 if body.reverse else z.shape[0] - 1)
    return [
        _columns(row, body.columns[k], node)
        for k, node in enumerate(body.graph.inputs[: body.carries])
    ]


def _along(z: Node, row: int, k: int) -> Node:
    body, length = z.primitive.body, z.shape[0] - 1
    node = body.graph.outputs[k]
    part = _slice(z, (row, body.columns[k]), (length, node.size))
    return p.reshape(part, shape=(length, *node.shape))


def _row(z: Node, body: Body, row: int) -> Node:
    # One slice for all columns: so its adjoint is one row, too.
    return p.reshape(_slice(z, (row, 0), (1, body.width)), shape=(body.width,))


def _columns(row: Node, start: int, like: Node) -> Node:
    part = p.slice_(row, start=(start,), step=(1,), size=(like.size,))
    return p.reshape(part, shape=like.shape)


def _slice(z: Node, start: tuple[int, ...], size: tuple[int, ...]) -> Node:
    return p.slice_(z, start=start, step=(1, 1), size=size)


def _part(z_bar: Node, start: tuple[int, int], size: tuple[int, int]) -> Node:
    """A part of a sum, which is zero where no term has anything."""
    total: Node | None = None
    pending = [z_bar]
    while pending:
        term = pending.pop()
        if term.primitive is p.add and term.args[0].shape == term.args[1].shape:
            pending += term.args
            continue
        part = _slice(term, start, size)
        if not derive.is_zero(part):
            total = part if total is None else total + part
    return p.zeros(z_bar.pool, size, z_bar.dtype) if total is None else total


def _applied(graph: Graph, given: Sequence[Node]) -> tuple[Node, ...]:
    """The outputs of a body's graph, made of nodes in the place of its inputs."""
    new = dict(zip(graph.inputs, given, strict=True))
    for node in graph.nodes:
        if node.value is not None:
            new[node] = p.constant(given[0].pool, node.value)
        elif node not in new:
            new[node] = node.primitive(*(new[arg] for arg in node.args), **node.params)
    return tuple(new[node] for node in graph.outputs)


def _put(row: np.ndarray, values: Iterable[np.ndarray], places: Iterable[tuple[int, int]]) -> None:
    for value, (start, end) in zip(values, places, strict=False):
        row[start:end] = value.ravel()


def _new_input(taken: set[str], name: str, like: Node) -> Node:
    """One more input of a body, of the shape and dtype of a node."""
    while name in taken:
        name += "'"
    taken.add(name)
    return p.input_node(like.pool, name, like.shape, like.dtype)


def _names(graph: Graph) -> set[str]:
    return {node.params["name"] for node in graph.inputs}


def _derived(body: Body, moving: frozenset[int]) -> Derived:
    inputs, n, end = body.graph.inputs, body.carries, body.rest
    taken = _names(body.graph)
    dots = {k: _new_input(taken, f"dot {k}", inputs[k]) for k in sorted(moving)}
    moved = [inputs[k] for k in dots]
    found = derive.jvp(body.graph.outputs, moved, list(dots.values()), body.is_uncertain)
    slices, rest = range(n, end), range(end, len(inputs))
    carry = [(("dot", k), dots[k], True) for k in range(n)]
    along = [(("before", k), inputs[k], False) for k in range(n)]
    along += [(("arg", k), inputs[k], False) for k in slices]
    along += [(("dot", k), dots[k], True) for k in slices if k in moving]
    fixed = [(("arg", k), inputs[k], False) for k in rest]
    fixed += [(("dot", k), dots[k], True) for k in rest if k in moving]
    return linear_body(found, carry, along, fixed, body, order=body.order + 1)


def _transposed(body: Body, moving: frozenset[int]) -> tuple[Derived, ...]:
    """The carry is the adjoint of the carry, and what adds up the adjoints of invariants.

    Of a second tangent the adjoint of the carry comes first, in a scan of its own: it does not depend
    on what the first tangent was taken along, all others do.
    """
    inputs, outputs, n, end = body.graph.inputs, body.graph.outputs, body.carries, body.rest
    taken, linear = _names(body.graph), sorted(body.linear or body.floats)
    bars = [_new_input(taken, f"bar {k}", node) for k, node in enumerate(outputs)]
    rows = {k: _new_input(taken, f"rows {k}", outputs[k]) for k in sorted(moving) if k < n}
    moved = [k for k in range(len(outputs)) if k < n or k in moving]
    seeds = [outputs[k] for k in moved], [inputs[k] for k in linear], [bars[k] for k in moved]
    pulled = derive.vjp(*seeds, body.is_uncertain)
    found = dict(zip(linear, pulled, strict=True))
    totals = {k: _new_input(taken, f"total {k}", inputs[k]) for k in linear if k >= end}
    new = [found[k] + rows[k] if k in rows else found[k] for k in range(n)]
    sums = [total + found[k] for k, total in totals.items()]
    slices = [k for k in linear if n <= k < end]
    others = [found[k] for k in slices]
    carry = [(("end", k), bars[k], True) for k in range(n)]
    adding = [(("zero", k), total, True) for k, total in totals.items()]
    carried = [(("carried", k), bars[k], True) for k in range(n)]
    along = [(("rows", k), row, True) for k, row in rows.items()]
    along += [(("rows", k), bars[k], True) for k in sorted(moving) if k >= n]
    if not body.linear:
        along += [(("before", k), inputs[k], False) for k in range(n)]
    along += [(("arg", k), inputs[k], False) for k in range(n, end) if k not in body.linear]
    fixed = [
        (("arg", k), inputs[k], False) for k in range(end, len(inputs)) if k not in body.linear
    ]
    changes = {"reverse": not body.reverse, "order": body.order + (not body.linear)}
    made = functools.partial(linear_body, fixed=fixed, like=body, **changes)
    behind = (*totals, *slices)
    if body.order < 2:
        whole = made([*new, *sums, *others], [*carry, *adding], along)
        return (replace(whole, gives=(*range(n), *behind)),)
    first = replace(made(new, carry, along), gives=tuple(range(n)))
    if not behind:
        return (first,)
    second = made([*sums, *others], adding, [*carried, *along])
    return first, replace(second, gives=behind)


def linear_body(
    outputs: Sequence[Node], carry: list, along: list, fixed: list, like: Body, **changes: Any
) -> Derived:
    """A linear body of sources, inputs and whether it is linear in them; without inputs for nothing.

    All else is as in another body, but for some changes.
    """
    used = set(reachable(outputs))
    along, fixed = ([one for one in some if one[1] in used] for some in (along, fixed))
    everything = [*carry, *along, *fixed]
    graph = Graph(tuple(node for _, node, _ in everything), tuple(outputs))
    linear = frozenset(k for k, (_, _, is_linear) in enumerate(everything) if is_linear)
    counts = {"carries": len(carry), "slices": len(along), "linear": linear}
    body = replace(like, graph=graph, **counts, **changes)
    return Derived(body, tuple(source for source, _, _ in everything))
