"""The element of an array at a symbolic index, as an expression of elements in memory.

`Puller` walks from a node to the arrays from which it is computed: elementwise primitives pass the
index on, and views change it, by the `pull` of their entry in the table. Pulling has no races and needs
no atomics, because the loop that needs an element computes it; the transpose of a slice becomes a read
guarded by bounds.

An index is affine, c0 + sum c_k a_k, in atoms a_k: loop variables, integers loaded from an array
(a gather), and quotients (a strided write). Coefficients and constants are numbers here; `text`
decides whether they stand in a kernel's text or in its table.

The path from an element to memory may have as many nodes as a trace. Recursion goes at most `DEEPEST`
nodes deep on Python's stack; deeper nodes are computed first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node
from nbhvp.plan.costs import CPU

__all__ = [
    "Apply",
    "Choose",
    "Expr",
    "Index",
    "Inside",
    "Load",
    "Puller",
    "Value",
    "Var",
    "is_pulled",
    "is_small_sum",
    "is_view",
    "rows_of",
    "written_out",
]


@dataclass(frozen=True, eq=False)
class Var:
    """A loop variable."""

    name: str


@dataclass(frozen=True, eq=False)
class Loaded:
    """An integer read by an expression, at least 0 and less than `extent`."""

    expr: Expr
    extent: int


@dataclass(frozen=True, eq=False)
class Quotient:
    """index // divisor (or index % divisor), which only divisible or split indices need."""

    index: Index
    divisor: int
    remainder: bool = False


class Index:
    """An affine integer expression. Immutable; equal contents compare equal."""

    __slots__ = ("_hash", "const", "key", "terms")

    def __init__(self, terms: dict | None = None, const: int = 0):
        self.terms = terms or {}
        self.const = const
        self.key = (frozenset(self.terms.items()), const)
        self._hash = hash(self.key)

    @classmethod
    def of(cls, value) -> Index:
        if isinstance(value, Index):
            return value
        if isinstance(value, Var | Loaded | Quotient):
            return cls({value: 1})
        return cls(None, int(value))

    def __add__(self, other) -> Index:
        if not isinstance(other, Index) or not other.terms:
            shift = other.const if isinstance(other, Index) else None
            if shift is None and not isinstance(other, Var | Loaded | Quotient):
                shift = int(other)
            if shift is not None:
                return Index(self.terms, self.const + shift) if shift else self
        other = Index.of(other)
        terms = dict(self.terms)
        for atom, coefficient in other.terms.items():
            terms[atom] = terms.get(atom, 0) + coefficient
        return Index({a: c for a, c in terms.items() if c}, self.const + other.const)

    __radd__ = __add__

    def __sub__(self, other) -> Index:
        return self + Index.of(other) * -1

    def __mul__(self, factor: int) -> Index:
        if factor == 1:
            return self
        terms = {a: c * factor for a, c in self.terms.items()} if factor else None
        return Index(terms, self.const * factor)

    __rmul__ = __mul__

    def __eq__(self, other) -> bool:
        return isinstance(other, Index) and self.key == other.key

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True, eq=False)
class Inside:
    """0 <= index < extent and, where a step is given, index divisible by it."""

    index: Index
    extent: int
    step: int = 1

    def holds(self, at: int) -> bool:
        return 0 <= at < self.extent and at % self.step == 0


@dataclass(frozen=True, eq=False)
class Load:
    """An element of an array in memory, at a flat position."""

    array: Node
    index: Index
    dtype: np.dtype
    operands = ()
    cost = 0.5

    @property
    def indices(self) -> tuple[Index, ...]:
        return (self.index,)

    @cached_property
    def inner(self) -> Sequence[Expr]:
        """The operands, and what indices depend on."""
        return loaded(self.indices)


@dataclass(frozen=True, eq=False)
class Value:
    value: Any
    dtype: np.dtype
    operands = indices = inner = ()
    cost = 0.0


@dataclass(frozen=True, eq=False)
class Apply:
    """An elementwise primitive of expressions."""

    primitive: p.Primitive
    params: dict
    operands: tuple[Expr, ...]
    dtype: np.dtype
    indices = ()

    @property
    def cost(self) -> float:
        return self.primitive.cost

    @property
    def inner(self) -> Sequence[Expr]:
        return self.operands


@dataclass(frozen=True, eq=False)
class Choose:
    """`inside` where all conditions hold, `outside` elsewhere; only the chosen one is evaluated."""

    conditions: tuple[Inside, ...]
    inside: Expr
    outside: Expr
    dtype: np.dtype
    cost = 1.0

    @property
    def operands(self) -> tuple[Expr, Expr]:
        return self.inside, self.outside

    @property
    def indices(self) -> tuple[Index, ...]:
        return tuple(condition.index for condition in self.conditions)

    @cached_property
    def inner(self) -> Sequence[Expr]:
        return [*self.operands, *loaded(self.indices)]


Expr = Load | Value | Apply | Choose


DEEPEST = 16
"""Nodes between an element and what it is computed from, up to which rules call one another."""


class _TooDeep(Exception):
    """An element is wanted that must be computed before what needs it."""

    def __init__(self, node: Node, index: tuple[Index, ...]):
        self.element = node, index


class Puller:
    """Pulls nodes at indices, each distinct pair once.

    `strides(node)` gives the strides, in elements, of a node that lies in memory, None for others.
    """

    def __init__(self, strides: Callable[[Node], tuple[int, ...] | None]):
        self.strides = strides
        self.pulled: dict[tuple, Any] = {}
        self.expanded: dict[Node, list[tuple[Index, ...]]] = {}
        """The nodes that were computed, not loaded, and at which indices."""
        self.origins: dict[Expr, Node] = {}
        """The node that an expression is an element of, for all but loads, numbers and views."""
        self._depth = 0

    def at(self, node: Node, index: tuple) -> Expr:
        """The element of `node` at `index`, loaded if it lies in memory."""
        value = p.scalar_value(node)
        if value is not None:
            return self._once(node, (), lambda: Value(value, node.dtype))
        index = tuple(map(Index.of, index))
        strides = self.strides(node)
        if strides is None:
            return self.expand(node, index)
        flat = Index()
        for i, stride in zip(index, strides, strict=True):
            flat = flat + i * stride
        return self.load(node, flat)

    def load(self, node: Node, flat: Index) -> Expr:
        return self._once(node, ("flat", flat), lambda: Load(node, flat, node.dtype))

    def integer(self, expr: Expr, extent: int) -> Index:
        """An integer at least 0 and less than `extent`, as an index."""
        if isinstance(expr, Value):
            return Index.of(expr.value)
        return Index.of(self._once(expr, ("below", extent), lambda: Loaded(expr, extent)))

    def quotient(self, index: Index, divisor: int, remainder: bool = False) -> Index:
        """index // divisor or index % divisor, equal ones as one: elements are found by their index."""
        if not index.terms:
            return Index.of(index.const % divisor if remainder else index.const // divisor)
        atom = self._once(index, (divisor, remainder), lambda: Quotient(index, divisor, remainder))
        return Index.of(atom)

    def expand(self, node: Node, index: tuple) -> Expr:
        """The element of `node` at `index`, computed even if the node lies in memory."""
        index = tuple(map(Index.of, index))
        expr = self.pulled.get((node, index))
        if expr is not None:
            return expr
        if self._depth == 0:
            return self._from_below(node, index)
        if self._depth == DEEPEST:
            raise _TooDeep(node, index)
        return self._enter(node, index)

    def _from_below(self, node: Node, index: tuple[Index, ...]) -> Expr:
        """An element, after those that lie too deep for it: each makes a rule begin again."""
        pending = [(node, index)]
        while pending:
            if pending[-1] in self.pulled:
                pending.pop()
                continue
            try:
                self._enter(*pending[-1])
            except _TooDeep as deeper:
                pending.append(deeper.element)
        return self.pulled[node, index]

    def _enter(self, node: Node, index: tuple[Index, ...]) -> Expr:
        self._depth += 1
        try:
            expr = self.pulled[node, index] = self._compute(node, index)
        finally:
            self._depth -= 1
        self.expanded.setdefault(node, []).append(index)
        if not isinstance(expr, Load | Value):
            self.origins.setdefault(expr, node)
        return expr

    def forget(self, node: Node, users: dict[Node, list[Node]]) -> None:
        """Compute again, when next asked for, what was computed from a node that is stored now."""
        pending = list(users.get(node, ()))
        while pending:
            one = pending.pop()
            for index in self.expanded.pop(one, ()):
                del self.pulled[one, index]
                pending += users.get(one, ())

    def _once(self, source: Node | Expr | Index, index: tuple, make: Callable[[], Any]) -> Any:
        found = self.pulled.get((source, index))
        if found is None:
            found = self.pulled[source, index] = make()
        return found

    def _compute(self, node: Node, index: tuple) -> Expr:
        if node.primitive.pull is not None:
            return node.primitive.pull(_View(self, node), index, node)
        if is_small_sum(node):
            return self._small_sum(node, index)
        assert node.primitive.is_elementwise, f"{node.primitive} is not pulled, but stored"
        args = tuple(self.at(arg, _aligned(index, arg.shape)) for arg in node.args)
        return Apply(node.primitive, node.params, args, node.dtype)

    def _small_sum(self, node: Node, index: tuple) -> Expr:
        arg, axes = node.args[0], node.params["axes"]
        total: Expr | None = None
        for position in np.ndindex(*(arg.shape[k] for k in axes)):
            at, kept = dict(zip(axes, position, strict=True)), iter(index)
            term = self.at(arg, tuple(at[k] if k in at else next(kept) for k in range(arg.ndim)))
            total = term if total is None else Apply(p.add, {}, (total, term), node.dtype)
        assert total is not None, "a small sum has terms"
        return total


class _View:
    """What the `pull` of a table entry may say about the arguments of one node."""

    def __init__(self, puller: Puller, node: Node):
        self.puller, self.node = puller, node

    def __call__(self, k: int, index: tuple) -> Expr:
        return self.puller.at(self.node.args[k], index)

    def integer(self, k: int, index: tuple, extent: int) -> Index:
        """An element of an integer argument, as an index along an axis of some extent."""
        return self.puller.integer(self(k, index), extent)

    def choose_region(self, index, start, step, size, inside, outside) -> Expr:
        """`inside(j)` if index = start + step * j for a j within `size`, else `outside()`."""
        conditions, within = [], []
        for i, begin, stride, extent, whole in zip(
            index, start, step, size, self.node.shape, strict=True
        ):
            if extent == whole and stride == 1:
                within.append(i)
                continue
            offset = (i - begin) * (1 if stride > 0 else -1)
            stride = abs(stride)
            conditions.append(Inside(offset, stride * (extent - 1) + 1, stride))
            within.append(offset if stride == 1 else self.puller.quotient(offset, stride))
        fixed = [c for c in conditions if not c.index.terms]
        if not all(c.holds(c.index.const) for c in fixed):
            return outside()
        conditions = [c for c in conditions if c.index.terms]
        chosen = inside(tuple(within))
        if not conditions:
            return chosen
        return Choose(tuple(conditions), chosen, outside(), self.node.dtype)

    def reshaped(self, k: int, index: tuple) -> Expr:
        """An element of argument k, which has the elements of this node in the same order."""
        arg = self.node.args[k]
        if self.node.size == 0:
            return Value(np.zeros((), arg.dtype)[()], arg.dtype)
        whole, start = rows_of(arg)
        if self.puller.strides(whole) == contiguous(whole.shape):
            flat = Index.of(start)
            for i, stride in zip(index, contiguous(self.node.shape), strict=True):
                flat = flat + i * stride
            return self.puller.load(whole, flat)
        regrouped = []
        for ours, theirs in groups(self.node.shape, arg.shape):
            strides = contiguous([self.node.shape[d] for d in ours])
            flat = Index()
            for d, stride in zip(ours, strides, strict=True):
                flat = flat + index[d] * stride
            regrouped += self._unflatten(flat, [arg.shape[d] for d in theirs])
        return self(k, tuple(regrouped))

    def _unflatten(self, flat: Index, extents: list[int]) -> list[Index]:
        """The index of several axes from a flat one: a division per axis, if several are wide."""
        wide = [d for d, extent in enumerate(extents) if extent != 1]
        out = [Index()] * len(extents)
        if len(wide) == 1:
            out[wide[0]] = flat
            return out
        for d, stride in zip(wide, contiguous([extents[d] for d in wide]), strict=True):
            quotient = self.puller.quotient(flat, stride)
            out[d] = self.puller.quotient(quotient, extents[d], remainder=True)
        return out


def rows_of(node: Node) -> tuple[Node, int]:
    """The array of which a node is some rows in a piece, and where they start in it."""
    start = 0
    while node.primitive is p.slice_ and node.ndim:
        whole, first, step = node.args[0], node.params["start"], node.params["step"]
        if node.shape[1:] != whole.shape[1:] or any(k != 1 for k in step):
            break
        start += first[0] * math.prod(node.shape[1:])
        node = whole
    return node, start


def misfits(node: Node, strides: Callable[[Node], tuple[int, ...] | None]) -> list[Node]:
    """What had better lie in C order in memory: pulling arguments of it would divide indices."""
    if node.primitive.pull is None or not node.size:
        return []
    puller = _Shallow(strides)
    puller.expand(node, tuple(Var(f"j{k}") for k in range(node.ndim)))
    return puller.divided


class _Shallow(Puller):
    """Pulls no further than to arguments, and notes those that are read at divided indices."""

    def __init__(self, strides: Callable[[Node], tuple[int, ...] | None]):
        super().__init__(strides)
        self.divided: list[Node] = []

    def at(self, node: Node, index: tuple) -> Expr:
        atoms = (atom for i in map(Index.of, index) for atom in i.terms)
        if any(isinstance(atom, Quotient) and atom.remainder for atom in atoms):
            whole, _ = rows_of(node)
            self.divided.append(whole if whole.size <= 4 * node.size else node)
        return Value(node.dtype.type(), node.dtype)


def written_out(shape: tuple[int, ...]) -> frozenset[int]:
    """The axes that are no loops: trailing ones of few elements, or those before a long last one.

    The first axis is written out only where all are few.
    """
    if len(shape) > 2 and shape[-1] >= CPU.long:
        return _before_last(shape)
    count, elements = 0, 1
    for extent in reversed(shape):
        elements *= extent
        if elements > CPU.most_written_out or (extent > CPU.written_out and len(shape) > 1):
            break
        count += 1
    is_all = count == len(shape) and not 0 < elements <= CPU.most_written_out
    return frozenset(range(len(shape) - count + is_all, len(shape)))


def _before_last(shape: tuple[int, ...]) -> frozenset[int]:
    """Axes next to a long one, as its iterations serve many elements of these at once."""
    found, elements = [], 1
    for axis in range(len(shape) - 2, 0, -1):
        elements *= shape[axis]
        if elements > CPU.corners:
            break
        found.append(axis)
    return frozenset(found)


def is_small_sum(node: Node) -> bool:
    """Whether a node sums over axes that are written out: it is then computed like a map."""
    if node.primitive.reduction != "sum" or len(node.args) != 1:
        return False
    return node.size > 0 and written_out(node.args[0].shape).issuperset(node.params["axes"])


def is_pulled(node: Node) -> bool:
    """Whether an element of a node can be computed where it is needed."""
    entry = node.primitive
    return entry.is_elementwise or entry.pull is not None or is_small_sum(node)


def is_view(node: Node) -> bool:
    """Whether each element of a node is an element of its only argument."""
    return node.primitive.pull is not None and len(node.args) == 1


def _aligned(index: tuple, shape: tuple[int, ...]) -> tuple:
    """The index of an argument of `shape` that broadcasts to the result at `index`."""
    tail = index[len(index) - len(shape) :]
    if 1 not in shape:
        return tail
    return tuple(Index() if extent == 1 else i for i, extent in zip(tail, shape, strict=True))


def contiguous(shape) -> tuple[int, ...]:
    """C-order strides in elements."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


def groups(ours: tuple[int, ...], theirs: tuple[int, ...]):
    """Pairs of axis groups, in order, that hold the same elements under a reshape."""
    i = j = 0
    while i < len(ours) or j < len(theirs):
        left: list[int] = []
        right: list[int] = []
        product_left = product_right = 1
        while not (left or right) or product_left != product_right:
            if (product_left <= product_right and i < len(ours)) or j == len(theirs):
                left.append(i)
                product_left *= ours[i]
                i += 1
            else:
                right.append(j)
                product_right *= theirs[j]
                j += 1
        yield left, right


def parts(exprs) -> list[Expr]:
    """Every expression within some, once, those that indices depend on included."""
    found = dict.fromkeys(exprs)
    stack = list(found)
    while stack:
        part = stack.pop()
        for inner in part.inner:
            if inner not in found:
                found[inner] = None
                stack.append(inner)
    return list(found)


def weight(*exprs: Expr) -> float:
    """The cost of expressions, in additions, each shared part once."""
    return sum(part.cost for part in parts(exprs))


def nesting(found: list[Expr]) -> int:
    """How many choices stand one within the other in some expressions, with all that is in them."""
    depth: dict[Expr, int] = {}
    pending = list(found)
    while pending:
        part = pending[-1]
        unknown = [one for one in part.inner if one not in depth]
        if unknown:
            pending += unknown
            continue
        pending.pop()
        depth[part] = max((depth[one] for one in part.inner), default=0) + isinstance(part, Choose)
    return max(depth.values(), default=0)


def loaded(indices) -> list[Expr]:
    """The expressions that indices depend on."""
    found, pending = [], list(indices)
    for index in pending:
        for atom in index.terms:
            if isinstance(atom, Loaded):
                found.append(atom.expr)
            elif isinstance(atom, Quotient):
                pending.append(atom.index)
    return found
