"""Small graphs through every structural primitive, and random ones, for each target to compute.

`STRUCTURE` maps a name to a function of `Inputs` that gives one node or several; what it asks of the
Inputs become the graph's inputs. `random_graph` composes such things by chance from a seed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.derive import check
from nbhvp.graph.node import Graph, Node, Pool
from nbhvp.graph.table import filters
from nbhvp.graph.table import special as sp
from tests.checks import derivatives

__all__ = ["STRUCTURE", "TINY", "Inputs", "build", "grown", "random_graph"]


class Inputs:
    """Makes inputs with random values on demand, each once."""

    def __init__(self, seed: int = 0):
        self.pool = Pool()
        self.rng = np.random.default_rng(seed)
        self.values: dict[Node, np.ndarray] = {}

    def __call__(self, *shape: int, dtype="f8", name="", value=None) -> Node:
        node = p.input_node(self.pool, f"{name}{shape}{dtype}", shape, dtype)
        if node not in self.values:
            self.values[node] = self._random(shape, np.dtype(dtype)) if value is None else value
        return node

    def indices(self, *shape: int, below: int) -> Node:
        value = self.rng.integers(0, below, shape)
        return self(*shape, dtype="i8", name=f"i{below}", value=value)

    def constant(self, value) -> Node:
        return p.constant(self.pool, value)

    def _random(self, shape, dtype) -> np.ndarray:
        if dtype.kind in "iu":
            return self.rng.integers(0, 5, shape).astype(dtype)
        if dtype.kind == "b":
            return self.rng.random(shape) < 0.5
        values = self.rng.normal(size=shape)
        imaginary = 1j * self.rng.normal(size=shape) if dtype.kind == "c" else 0
        return np.asarray(values + imaginary, dtype)

    @property
    def active(self) -> list[Node]:
        return [node for node in self.values if node.dtype.kind == "f"]

    def graph(self, *outputs: Node) -> tuple[Graph, list[np.ndarray]]:
        graph = check(Graph(tuple(self.values), outputs))
        return graph, list(self.values.values())


def build(make: Callable, derive: bool = True) -> tuple[Graph, list[np.ndarray]]:
    """The graph of a case: its values and, where asked for, gradients and products."""
    inputs = Inputs()
    made = make(inputs)
    outputs = list(made if isinstance(made, tuple) else (made,))
    if not inputs.values:
        inputs(2)
    if derive and inputs.active:
        smooth = [z for z in outputs if z.dtype.kind in "fc"]
        outputs += [d for z in smooth for d in derivatives(z, inputs.active)]
    return inputs.graph(*outputs)


def part(x: Node, start, size, step=None) -> Node:
    return p.slice_(x, start=start, size=size, step=step or (1,) * x.ndim)


def contract(subscripts: str, *shapes, dtype="f8"):
    return lambda i: p.contract(
        *(i(*s, dtype=dtype, name=n) for s, n in zip(shapes, "xy", strict=True)),
        subscripts=subscripts,
    )


def summed(axes, shape=(3, 2, 4, 5), dtype="f8"):
    return lambda i: p.sum_(i(*shape, dtype=dtype) * i(*shape, dtype=dtype), axes=axes)


def strided(value: np.ndarray):
    """A product with a constant that lies in memory in its own way."""
    return lambda i: i.constant(value) * i(*value.shape)


def constant_operand(value: np.ndarray):
    return lambda i: p.contract(i.constant(value), i(value.shape[1], 3), subscripts="ab,bc->ac")


def pairs(first, second, size: int, *coordinates: int):
    """A function of differences, added up at both of their ends, and the differences themselves."""

    def make(i):
        x = i(size, *coordinates)
        ends = [i.constant(np.array(index)) for index in (first, second)]
        d = p.subtract(*(p.gather(x, index, axis=0) for index in ends))
        force = d * d * d - d
        sums = [p.scatter_add(force, index, axis=0, size=size) for index in ends]
        return p.subtract(*sums), force

    return make


def later_pairs(first, second, size: int):
    """What is added up needs, beside the forces, what is computed from all of them."""

    def make(i):
        x = i(size)
        ends = [i.constant(np.array(index)) for index in (first, second)]
        d = p.subtract(*(p.gather(x, index, axis=0) for index in ends))
        force = d * d * d - d
        later = p.cumsum(force, axis=0, reverse=True)
        return p.scatter_add(force * later, ends[0], axis=0, size=size), force

    return make


def stencil(n: int):
    """A value at each of n places from its neighbours, and the ends: guards in the transpose."""

    def make(i):
        u = i(n)
        inner = part(u, (1,), (n - 2,))
        inner = part(u, (2,), (n - 2,)) - inner * inner + part(u, (0,), (n - 2,))
        return p.concatenate(part(u, (0,), (1,)), inner, part(u, (n - 1,), (1,)), axis=0)

    return make


def differences(n: int):
    """Of neighbours: none at n = 1, and nothing at all at n = 0."""

    def make(i):
        u = i(n)
        return p.exp(part(u, (min(n, 1),), (max(0, n - 1),)) - part(u, (0,), (max(0, n - 1),)))

    return make


def surface(rows: int, columns: int):
    """A stencil over a rectangle."""

    def make(i):
        u = i(rows, columns)
        size = (max(0, rows - 1), max(0, columns - 1))
        corner = part(u, (0, 0), size)
        down = part(u, (min(rows, 1), 0), size) - corner
        across = part(u, (0, min(columns, 1)), size) - corner
        return p.sqrt(1 + down * down + across * across)

    return make


def two_parts(i):
    """Two loops of one nest, over the same columns, whose guards change at different ones."""
    x, zero = i(30, 45), p.broadcast(p.constant(i.pool, np.zeros(())), shape=(30, 45))
    part = p.slice_(x, start=(0, 0), step=(1, 1), size=(30, 20))
    first = p.sum_(p.update(zero, 2 * part, start=(0, 3), step=(1, 1)), axes=(1,))
    second = p.update(zero, part * p.reshape(first, shape=(30, 1)), start=(0, 22), step=(1, 1))
    return p.sum_(second * x, axes=(1,))


def softmax_along(i, axis):
    """Sums that are complete only when a loop outside their own has ended."""
    z = i(5, 6, 11)
    e = p.exp(z)
    shape = tuple(1 if k == axis else n for k, n in enumerate(z.shape))
    q = e / p.reshape(p.sum_(e, axes=(axis,)), shape=shape)
    return q * (z - p.reshape(p.sum_(q * z, axes=(axis,)), shape=shape))


def softmax(i):
    e = p.exp(i(4, 6))
    return e / p.broadcast(p.reshape(p.sum_(e, axes=(1,)), shape=(4, 1)), shape=(4, 6))


def restored_operand(i):
    """A view that BLAS reads in place, until a later reshape has what it is a view of stored."""
    turned = p.transpose(i(4, 6), axes=(1, 0))
    product = p.contract(part(turned, (0, 0), (6, 2), (1, 2)), i(2, 3), subscripts="ij,jk->ik")
    return product, p.reshape(turned, shape=(24,)) * 2


def moved_stencils(i):
    """Pulled at once, three stencils in a row would cost 3^3."""
    u = p.exp(i(12))
    for _ in range(3):
        n = u.size
        sides = part(u, (2,), (n - 2,)) + part(u, (0,), (n - 2,))
        u = p.tanh(sides * part(u, (1,), (n - 2,)))
    return u


GRID = np.random.default_rng(3).normal(size=(4, 6))
HOLES = np.where(np.abs(GRID) > 1, np.nan, GRID)
TURNED = np.asfortranarray(GRID)
SPARSE = np.random.default_rng(4).normal(size=(8, 12))

# fmt: off
STRUCTURE: dict[str, Callable] = {
    # Views.
    "reshape": lambda i: p.reshape(i(4, 6) * i(4, 6), shape=(3, 8)),
    "reshape of a transpose": lambda i: p.reshape(p.transpose(p.exp(i(4, 6)), axes=(1, 0)), shape=(3, 8)),
    "reshape of a part": lambda i: p.reshape(part(i(4, 6), (1, 0), (2, 5)), shape=(10,)),
    "reshape with extents 1": lambda i: p.reshape(p.reshape(i(4, 6), shape=(1, 4, 1, 6, 1)) * 2, shape=(24, 1)),
    "reshape to a scalar": lambda i: p.reshape(i(1, 1), shape=()) * i(3),
    "transpose": lambda i: p.transpose(i(2, 3, 4), axes=(2, 0, 1)) * i(4, 2, 3),
    "slice": lambda i: part(i(4, 6), (1, 5), (2, 3), (2, -2)),
    "slice to nothing": lambda i: p.exp(part(i(4, 6), (0, 3), (0, 2))),
    "update": lambda i: p.update(i(4, 6), p.sin(i(2, 3)), start=(1, 5), step=(2, -2)),
    "update of zeros": lambda i: p.update(p.zeros(i.pool, (12, 6), np.float64), i(4, 6) * i(4, 6), start=(2, 0), step=(3, 1)),
    "update of all": lambda i: p.update(i(5), i(5, name="y") * 2, start=(4,), step=(-1,)),
    "broadcast": lambda i: p.broadcast(part(i(4, 6), (0, 0), (4, 1)), shape=(3, 4, 6)) * i(4, 6),
    "broadcast by itself": lambda i: i(4, 1) * i(3, 1, 6) - i(6),
    "broadcast of something dear": lambda i: p.broadcast(p.exp(p.sin(i(6))), shape=(5, 6)) + i(5, 6),
    "concatenate": lambda i: p.concatenate(i(4, 6), i(4, 6) * 2, i(2, 6), axis=0) * 3,
    "concatenate the last axis": lambda i: p.concatenate(i(4, 6), p.exp(i(4, 1)), axis=1),
    "concatenate with nothing": lambda i: p.concatenate(i(0), i(5), i(0, name="z"), i(3), axis=0),
    "concatenate scalars": lambda i: p.concatenate(*(p.reshape(i(name=n) * i(name="b"), shape=(1,)) for n in "abc"), axis=0),
    # Reductions.
    **{f"sum over {axes}": summed(axes) for axes in
       [(0,), (1,), (2,), (3,), (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3),
        (0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3), (0, 1, 2, 3)]},
    "sum over extents 1": lambda i: p.sum_(p.sin(i(4, 1, 3, 1)), axes=(1, 3)),
    "sum where extents are 1": lambda i: p.sum_(i(1, 4, 1) * 2, axes=(1,)),
    "sum of one": lambda i: p.sum_(i(1, 1) * 3, axes=(0, 1)),
    "sum of nothing": lambda i: p.sum_(part(i(4, 6), (0, 0), (0, 6)), axes=(0,)) + i(6),
    "sum to nothing": lambda i: p.sum_(part(i(4, 6), (0, 0), (4, 0)), axes=(0,)),
    "sum of integers": summed((0, 2), dtype="i8"),
    "sum of no integers": lambda i: (p.sum_(i(0, dtype="i8"), axes=(0,)), p.sum_(i(4, 0, dtype="i8"), axes=(0,))),
    "sum of complex numbers": lambda i: p.sum_(p.complex_(i(4, 6), i(4, 6, name="y")) * (1 - 2j), axes=(1,)),
    "sum in single precision": summed((1, 3), dtype="f4"),
    "sum of a concatenation": lambda i: p.sum_(p.concatenate(i(9), p.exp(i(5)), axis=0), axes=(0,)),
    "sum of a sum": lambda i: p.sum_(p.exp(p.sum_(i(4, 6), axes=(1,))), axes=(0,)),
    "cumsum": lambda i: p.cumsum(i(4, 6) * i(4, 6), axis=0, reverse=False),
    "cumsum of the last axis": lambda i: p.cumsum(p.exp(i(4, 6)), axis=1, reverse=True),
    "cumsum of a vector": lambda i: (p.cumsum(i(30), axis=0, reverse=True), p.cumsum(i(30), axis=0, reverse=False)),
    "cumsum of the middle": lambda i: p.cumsum(i(3, 4, 2), axis=1, reverse=False),
    "cumsum of complex numbers": lambda i: p.cumsum(p.complex_(i(5), i(5, name="y")), axis=0, reverse=False),
    "cumsum of nothing": lambda i: p.cumsum(i(4, 0), axis=0, reverse=False),
    "all": lambda i: (p.all_(p.greater(i(4, 6), -10)), p.all_(p.greater(i(4, 6), 0)), p.all_(p.greater(i(0), 0))),
    "argmax": lambda i: (p.argmax(i(4, 6) * 2, axis=1), p.argmin(i(4, 6), axis=0), p.argmax(i(30), axis=0)),
    "argmax of the middle": lambda i: (p.argmax(i(3, 4, 2), axis=1), p.argmin(p.greater(i(3, 4, 2), 0), axis=1)),
    "argmax of ties": lambda i: (p.argmax(p.floor(i(40)), axis=0), p.argmin(p.cast(i(40) * 2, dtype=np.dtype("i8")), axis=0)),
    "argmax of NaN": lambda i: tuple(e(i(4, 6, value=HOLES) * 2, axis=a) for e in (p.argmax, p.argmin) for a in (0, 1)),
    "value at argmax": lambda i: p.gather(p.exp(i(9)), p.argmax(i(9), axis=0), axis=0),
    # Indices.
    "gather": lambda i: p.gather(i(4, 6) * i(4, 6), i.indices(9, below=4), axis=0),
    "gather the last axis": lambda i: p.gather(p.transpose(i(4, 6), axes=(1, 0)), i.indices(5, below=4), axis=1) * 2,
    "gather a matrix of indices": lambda i: p.gather(p.exp(i(7, 2)), i.indices(3, 4, below=7), axis=0),
    "two parts in one row": lambda i: two_parts(i),
    "softmax along the middle": lambda i: softmax_along(i, 1),
    "softmax along the first": lambda i: softmax_along(i, 0),
    "pick": lambda i: p.pick(i(4, 6) * i(4, 6), i.indices(4, below=6), axis=1),
    "pick along the first axis": lambda i: p.pick(i(4, 6, 2) * 2, i.indices(6, 2, below=4), axis=0),
    "gather by a scalar": lambda i: p.gather(i(4, 6), i.indices(below=4), axis=0),
    "gather by a constant": lambda i: p.gather(i(4, 6), i.constant(np.array([3, 0, 3, 1])), axis=0),
    "gather by computed indices": lambda i: p.gather(i(7), i.indices(5, below=4) + i.indices(5, below=4), axis=0),
    "gather by gathered indices": lambda i: p.gather(i(5), p.gather(i.indices(6, below=5), i.indices(4, below=6), axis=0), axis=0),
    "gather by small integers": lambda i: p.gather(i(5), i(4, dtype="i4"), axis=0),
    "gather nothing": lambda i: p.gather(i(5), i.indices(0, below=5), axis=0),
    "scatter": lambda i: p.scatter_add(p.exp(i(9, 2)), i.indices(9, below=4), axis=0, size=4),
    "scatter the last axis": lambda i: p.scatter_add(i(2, 9), i.indices(9, below=4), axis=1, size=6),
    "scatter the middle": lambda i: p.scatter_add(i(2, 9, 3), i.indices(9, below=4), axis=1, size=4),
    "scatter a matrix of indices": lambda i: p.scatter_add(i(3, 4), i.indices(3, 4, below=5), axis=0, size=5),
    "scatter by a constant": lambda i: p.scatter_add(i(4, 2), i.constant(np.array([3, 0, 3, 1])), axis=0, size=5),
    "scatter by a sorted constant": lambda i: p.scatter_add(i(4), i.constant(np.array([0, 1, 1, 3])), axis=0, size=4),
    "scatter nothing": lambda i: p.scatter_add(i(0, 3), i.indices(0, below=4), axis=0, size=4),
    "scatter one": lambda i: p.scatter_add(p.reshape(i(2), shape=(2, 1)), i.indices(1, below=4), axis=1, size=4),
    "segments": lambda i: p.segment_sum(i(2, 7, 3), i.constant(np.array([0, 2, 2, 6, 7])), axis=1),
    "pairs": pairs([0, 0, 1, 1, 1, 4], [1, 3, 2, 0, 4, 2], 5),
    "pairs of coordinates": pairs([0, 0, 1, 1, 1, 4], [1, 3, 2, 0, 4, 2], 5, 3),
    "pairs with nothing at the ends": pairs([1, 1, 2], [3, 0, 1], 4, 2),
    "pairs in no order": pairs([3, 0, 1, 0], [0, 1, 3, 2], 4, 2),
    "pairs with what is known later": later_pairs([0, 0, 1, 1, 1, 4], [1, 3, 2, 0, 4, 2], 5),
    "pairs of neighbours": pairs([0, 1, 2, 3], [1, 2, 3, 0], 4),
    "sort": lambda i: p.gather(p.exp(i(9)), p.argsort(i(9), axis=0), axis=0),
    "searchsorted": lambda i: (p.searchsorted(p.gather(i(9), p.argsort(i(9), axis=0), axis=0), i(4, 6), side="left"), p.last_writer(i.indices(5, below=4), size=4)),
    # Filters.
    "correlate": lambda i: filters.correlate(i(9), i(3), axes=(0,)),
    "correlate along two axes": lambda i: filters.correlate(i(5, 4, 6), i(2, 3), axes=(0, 2)),
    "recurrence": lambda i: filters.recurrence(i(4, 6), i(2), axis=1, reverse=False),
    "recurrence from the end": lambda i: filters.recurrence(p.sin(i(9)), i(3), axis=0, reverse=True),
    # Products.
    **{f"contract {s} of {shapes}": contract(s, *shapes) for s, *shapes in [
        ("ab,bc->ac", (4, 6), (6, 3)), ("ab,bc->ca", (4, 6), (6, 3)), ("ab,cb->ac", (4, 6), (3, 6)), ("ba,bc->ac", (6, 4), (6, 3)), ("ba,cb->ca", (6, 4), (3, 6)),
        ("ab,b->a", (4, 6), (6,)), ("ab,a->b", (4, 6), (4,)), ("a,ab->b", (4,), (4, 6)), ("b,ab->a", (6,), (4, 6)),
        ("zab,zbc->zac", (2, 4, 6), (2, 6, 3)), ("zab,zcb->zac", (2, 4, 6), (2, 3, 6)), ("azb,czb->zac", (4, 2, 6), (3, 2, 6)), ("zab,zbc->acz", (2, 4, 6), (2, 6, 3)),
        ("zab,bc->zac", (2, 4, 6), (6, 3)), ("ab,zbc->zac", (4, 6), (2, 6, 3)), ("zab,zb->za", (2, 4, 6), (2, 6)), ("za,zab->zb", (2, 4), (2, 4, 6)),
        ("abc,bcd->ad", (2, 3, 4), (3, 4, 5)), ("abc,dcb->ad", (2, 3, 4), (5, 4, 3)), ("abc,cd->abd", (2, 3, 4), (4, 5)), ("yzab,zybc->yzac", (2, 3, 4, 5), (3, 2, 5, 2)),
        ("ab,ab->", (4, 6), (4, 6)), ("ab,ab->a", (4, 6), (4, 6)), ("ab,ab->b", (4, 6), (4, 6)), ("ab,ba->", (4, 6), (6, 4)), ("a,a->", (6,), (6,)), ("a,b->ab", (5,), (6,)), ("a,b->ba", (5,), (6,)), ("ab,ab->ba", (4, 6), (4, 6)), ("ab,c->bca", (4, 6), (3,)),
        ("ab,bc->ac", (4, 1), (1, 3)), ("ab,bc->ac", (1, 6), (6, 1)), ("ab,bc->ac", (1, 6), (6, 3)), ("ab,bc->ac", (4, 6), (6, 1)), ("zab,zbc->zac", (1, 1, 6), (1, 6, 1)), ("zab,zbc->zac", (3, 1, 4), (3, 4, 1)),
        ("ab,bc->ac", (4, 0), (0, 3)), ("ab,bc->ac", (0, 6), (6, 3)), ("zab,zbc->zac", (0, 4, 6), (0, 6, 3)), ("zab,zbc->zac", (2, 4, 0), (2, 0, 3)), ("ab,b->a", (4, 0), (0,)),
    ]},
    "contract with one extent": lambda i: p.contract(i(1, 6), i(6, 1), subscripts="ab,bc->ac") * p.contract(i(4, 1), i(1, 3), subscripts="ab,bc->ac"),
    "contract integers": contract("ab,bc->ac", (4, 6), (6, 3), dtype="i8"),
    "contract in single precision": contract("ab,bc->ac", (4, 6), (6, 3), dtype="f4"),
    "contract complex numbers": lambda i: p.contract(p.complex_(i(4, 6), 2 * i(4, 6)), p.exp(p.complex_(i(6, 3), i(6, 3))), subscripts="ab,bc->ca"),
    "contract views": lambda i: p.contract(part(i(9, 8), (1, 2), (4, 6)), p.reshape(part(i(30), (5,), (18,)), shape=(6, 3)), subscripts="ab,bc->ac"),
    "contract strided views": lambda i: p.contract(part(i(9, 8), (8, 7), (4, 6), (-2, -1)), part(i(30), (1,), (6,), (4,)), subscripts="ab,b->a"),
    "contract a broadcast": lambda i: p.contract(p.broadcast(i(6), shape=(4, 6)), p.broadcast(i(3), shape=(6, 3)), subscripts="ab,bc->ac"),
    "contract what is computed": lambda i: p.contract(p.exp(i(4, 6)), p.sin(i(6, 3)), subscripts="ab,bc->ac") + i(3),
    "contract twice": lambda i: p.contract(p.tanh(p.contract(i(4, 6), i(6, 3), subscripts="ab,bc->ac")), i(3, 2), subscripts="ab,bc->ac"),
    "contract a view that is stored later": restored_operand,
    "contract a reversed constant": constant_operand(GRID[::-1, ::-1]),
    "contract a constant in Fortran's order": constant_operand(TURNED),
    "contract a part of a constant": constant_operand(SPARSE[1:5, 2:8]),
    "contract a strided constant": constant_operand(SPARSE[::2, ::3]),
    "contract a constant broadcast": constant_operand(np.broadcast_to(GRID[0], (5, 6))),
    "contract stacked constants": lambda i: p.contract(i.constant(SPARSE.reshape(4, 2, 12)[::-1, :, ::2]), i(6, 3), subscripts="zab,bc->zac"),
    # Constants, outputs, scalars.
    "constant in Fortran's order": strided(TURNED),
    "strided constant": strided(np.arange(48.0).reshape(8, 6)[::-2]),
    "reversed constant": strided(np.arange(6.0)[::-1]),
    "broadcast constant": strided(np.broadcast_to(np.arange(6.0), (4, 6))),
    "transposed integers": lambda i: p.gather(i(9), i.constant(np.arange(6).reshape(2, 3).T), axis=0),
    "outputs that are inputs": lambda i: (i(5), i(5), i(4, 6), i(4, 6), i(5, dtype="i8"), i(3, dtype="?"), i(3, dtype="c16")),
    "outputs that are constants": lambda i: (i.constant(np.arange(5.0)), i.constant(TURNED), i.constant(np.arange(6)[::-2]), i.constant(2.5), p.zeros(i.pool, (3, 2), np.float64), i.constant(True)),
    "outputs that are alike": lambda i: (lambda z: (z, z, p.reshape(z, shape=(5,)), p.transpose(z, axes=(0,)), z))(i(5) * 2),
    "outputs that are views": lambda i: (part(i(9), (2,), (3,)), p.transpose(i(4, 6), axes=(1, 0)), p.broadcast(i(6), shape=(2, 6))),
    "scalars": lambda i: i() * 2 + p.exp(i() * i(name="y")) - 1,
    "a scalar for all": lambda i: i() * i(4, 6),
    "where": lambda i: p.where(p.greater(i(4, 6), 0), i(6), i()),
    "where neither is evaluated": lambda i: p.where(p.less(i(4, 6), 0), 0.0, p.sqrt(p.maximum(i(4, 6), 0.5))),
    "casts": lambda i: (p.cast(i(5) * 3, dtype=np.dtype("i8")), p.cast(i(5), dtype=np.dtype("f4")) * np.float32(1.3), p.cast(p.greater(i(5), 0), dtype=np.dtype("f8")) * i(5), p.cast(i(5) * i(5), dtype=np.dtype("c8"))),
    "complex numbers": lambda i: p.real(p.conjugate(z := p.complex_(i(4, 6), i(4, 6, name="y"))) * z) + p.imag(z * z * (1 - 1j)),
    "complex functions": lambda i: p.exp(z := p.complex_(i(7), i(7, name="y"))) * p.sin(z) / p.sqrt(z),
    "complex quotients": lambda i: p.real((z := p.complex_(i(7), i(7, name="y"))) / (z * z + 2)) + p.imag(1 / z),
    "complex powers": lambda i: p.power(z := p.complex_(i(7), i(7, name="y")), 3) + p.power(z, 2.5) + p.power(z, 1j),
    "powers": lambda i: p.power(i(7), 3.0) + p.power(i(7), -2.0) + p.power(p.absolute(i(7)), 2.5) + p.power(i(7), 5) + p.power(i(7), -7.0),
    # Whole expressions.
    "stencil": stencil(12),
    "three stencils": moved_stencils,
    "surface": surface(5, 7),
    "softmax": softmax,
    "five axes": lambda i: p.transpose(i(2, 3, 2, 3, 2), axes=(4, 2, 0, 1, 3)) * p.cast(i(2, 2, 2, 3, 3, dtype="i4") + np.int32(7), dtype=np.dtype("f8")),
    "many constants": lambda i: (lambda z: [z := z * (1.1 + k / 10 + 0.3j) + (2 + k) for k in range(20)][-1])(p.complex_(i(3), i(3))) * 1e-9,
    "narrow integers": lambda i: tuple(p.cast(x + x * x, dtype=np.dtype("f8")) for x in (i(3, dtype="u1", value=np.array([200, 255, 3], np.uint8)), i(3, dtype="i4", value=np.array([2**30, -7, 46341], np.int32)), i(3, dtype="?"))),
}
# fmt: on

TINY = [(f"{name} {shape}", make(*shape)) for name, make, shapes in [
    ("differences", differences, [(0,), (1,), (2,), (3,)]),
    ("stencil", stencil, [(2,), (3,), (4,), (5,)]),
    ("surface", surface, [(a, b) for a in (0, 1, 2, 3) for b in (0, 1, 2, 3)]),
] for shape in shapes]  # fmt: skip
STRUCTURE.update(TINY)


# Random graphs.

SMOOTH = [
    p.exp,
    p.sin,
    p.cos,
    p.tanh,
    p.arctan,
    p.expit,
    p.negative,
    sp.erf,
    p.arcsinh,
    sp.log_expit,
]
PAIRS = [p.add, p.subtract, p.multiply, p.maximum, p.minimum, p.arctan2, p.logaddexp, p.fmax]


class _Growing:
    """A graph that grows by random nodes: floats of at most `LARGEST` elements, and indices."""

    LARGEST = 200

    def __init__(self, seed: int):
        self.inputs = Inputs(seed)
        self.rng = np.random.default_rng(seed)
        shapes = [self._shape() for _ in range(3)]
        self.nodes = [self.inputs(*s, name=f"x{k}") for k, s in enumerate(shapes)]

    def _shape(self) -> tuple[int, ...]:
        return tuple(self.rng.integers(1, 6, self.rng.integers(0, 4)).tolist())

    def chance(self, one_in: int) -> bool:
        return self.rng.integers(one_in) == 0

    def any(self, least_ndim: int = 0) -> Node:
        """A node, late ones more often; the last one given too few axes gets them."""
        recent = self.nodes[-6:] if self.rng.random() < 0.7 else self.nodes
        x = recent[self.rng.integers(len(recent))]
        missing = max(0, least_ndim - x.ndim)
        return p.reshape(x, shape=(1,) * missing + x.shape) if missing else x

    def axis(self, x: Node) -> int:
        return int(self.rng.integers(x.ndim))

    def axes(self, x: Node) -> tuple[int, ...]:
        return tuple(k for k in range(x.ndim) if self.rng.random() < 0.5)

    def region(self, shape):
        """start, step and size of a random part."""
        start, step, size = [], [], []
        for n in shape:
            count = int(self.rng.integers(1, n + 1)) if n else 0
            most = (n - 1) // (count - 1) if count > 1 else 1
            stride = int(self.rng.integers(1, most + 1)) if n else 1
            first = int(self.rng.integers(0, n - stride * (count - 1))) if n else 0
            if self.chance(4) and count:
                first, stride = first + stride * (count - 1), -stride
            start.append(first)
            step.append(stride)
            size.append(count)
        return {"start": tuple(start), "step": tuple(step)}, tuple(size)

    def number(self):
        return self.rng.choice([0.5, 1.0, 2.0, -1.0, 0.3, -1.7, 3.0])

    def fitted(self, x: Node, shape) -> Node:
        """Some node of a shape, made of x."""
        flat = p.reshape(x, shape=(x.size,))
        size = int(np.prod(shape))
        if x.size < size:
            index = self.inputs.constant(np.arange(size) % x.size)
            flat = p.gather(flat, index, axis=0)
        return p.reshape(part(flat, (0,), (size,)), shape=tuple(shape))

    # Each of these gives a new node.

    def elementwise(self):
        return self.rng.choice(SMOOTH)(self.any())

    def pair(self):
        x, y = self.any(), self.any()
        if self.chance(3):
            return self.rng.choice(PAIRS)(x, float(self.number()))
        try:
            np.broadcast_shapes(x.shape, y.shape)
        except ValueError:
            y = self.fitted(y, x.shape)
        return self.rng.choice(PAIRS)(x, y)

    def where(self):
        x = self.any()
        y = self.fitted(self.any(), x.shape)
        return p.where(p.greater(x, float(self.number())), y, x if self.chance(2) else 0.0)

    def power(self):
        return p.power(self.any() * 0.5, float(self.rng.choice([2.0, 3.0, 5.0])))

    def reshape(self):
        x = self.any()
        wide = [n for n in x.shape if n != 1]
        options = [(x.size,), (1, *x.shape), (*x.shape, 1), tuple(wide)]
        if x.ndim > 1:
            options.append((x.shape[0] * x.shape[1], *x.shape[2:]))
        options += [(k, x.size // k) for k in (2, 3, 4) if x.size % k == 0]
        return p.reshape(x, shape=options[self.rng.integers(len(options))])

    def transpose(self):
        x = self.any(2)
        return p.transpose(x, axes=tuple(self.rng.permutation(x.ndim).tolist()))

    def slice(self):
        x = self.any(1)
        where, size = self.region(x.shape)
        return p.slice_(x, size=size, **where)

    def update(self):
        x = self.any(1)
        where, size = self.region(x.shape)
        base = x if self.chance(2) else p.zeros(x.pool, x.shape, x.dtype)
        return p.update(base, self.fitted(self.any(), size), **where)

    def broadcast(self):
        x = self.any()
        shape = tuple(int(self.rng.integers(1, 5)) if n == 1 else n for n in x.shape)
        return p.broadcast(x, shape=(int(self.rng.integers(1, 4)), *shape))

    def concatenate(self):
        x, axis = self.any(1), 0
        axis = self.axis(x)
        y = self.fitted(
            self.any(), (*x.shape[:axis], int(self.rng.integers(1, 4)), *x.shape[axis + 1 :])
        )
        pieces = [x, y, x][: self.rng.integers(2, 4)]
        return p.concatenate(*pieces, axis=axis)

    def sum(self):
        x = self.any()
        return p.sum_(x, axes=self.axes(x))

    def cumsum(self):
        x = self.any(1)
        return p.cumsum(x, axis=self.axis(x), reverse=self.chance(2))

    def index(self, below: int) -> Node:
        shape = [(), (3,), (4,), (2, 2), (6,)][self.rng.integers(5)]
        if self.chance(3):
            return self.inputs.constant(self.rng.integers(0, below, shape))
        node = self.inputs.indices(*shape, below=below)
        return node

    def gather(self):
        x = self.any(1)
        axis = self.axis(x)
        if self.chance(4):
            index = (
                p.argmax(x, axis=axis)
                if x.ndim == 1
                else p.argsort(p.sum_(x, axes=tuple(k for k in range(x.ndim) if k != axis)), axis=0)
            )
        else:
            index = self.index(x.shape[axis])
        return p.gather(x, index, axis=axis)

    def scatter(self):
        size = int(self.rng.integers(1, 6))
        index = self.index(size)
        if index.ndim == 0:
            index = p.reshape(index, shape=(1,))
        before, after = self._shape()[:1], self._shape()[:1]
        x = self.fitted(self.any(), (*before, *index.shape, *after))
        return p.scatter_add(x, index, axis=len(before), size=size)

    def contract(self):
        letters = "abcd"[: self.rng.integers(1, 5)]
        extents = {c: int(self.rng.integers(1, 5)) for c in letters}
        left = "".join(c for c in letters if self.rng.random() < 0.7)
        right = "".join(c for c in letters if self.rng.random() < 0.7 or c not in left)
        left, right = ("".join(self.rng.permutation(list(s))) if s else s for s in (left, right))
        both = [c for c in letters if c in left or c in right]
        kept = [c for c in both if self.rng.random() < 0.5 or not (c in left and c in right)]
        out = "".join(self.rng.permutation(kept)) if kept else ""
        if not left or not right:
            return self.pair()
        x, y = (self.fitted(self.any(), [extents[c] for c in s]) for s in (left, right))
        return p.contract(x, y, subscripts=f"{left},{right}->{out}")

    def complex(self):
        x = self.any()
        z = p.complex_(x, self.fitted(self.any(), x.shape))
        w = [lambda: p.exp(z * 0.3), lambda: z * z, lambda: p.conjugate(z) * p.sin(z * 0.2)]
        z = w[self.rng.integers(3)]()
        return p.real(z) if self.chance(2) else p.imag(z)

    def constant(self):
        x = self.any()
        value = self.rng.normal(size=x.shape[::-1]).T
        return self.inputs.constant(value) * x

    def step(self) -> None:
        kinds = [
            self.elementwise, self.pair, self.pair, self.where, self.power, self.reshape,
            self.transpose, self.slice, self.slice, self.update, self.broadcast, self.concatenate,
            self.sum, self.cumsum, self.gather, self.scatter, self.contract, self.complex,
            self.constant,
        ]  # fmt: skip
        z = kinds[self.rng.integers(len(kinds))]()
        if 0 < z.size <= self.LARGEST:
            # Values near 1, so that rounding errors stay comparable.
            self.nodes.append(p.tanh(z) if self.chance(3) else z)


def grown(seed: int, steps: int = 12) -> tuple[list[Node], Inputs]:
    """Nodes of a random graph, each made of earlier ones, and its inputs."""
    growing = _Growing(seed)
    for _ in range(steps):
        growing.step()
    return growing.nodes, growing.inputs


def random_graph(seed: int, steps: int = 12, modes=("forward-over-reverse",)):
    """Some nodes, the gradient of a scalar function of them, and its products in exact modes."""
    nodes, inputs = grown(seed, steps)
    last = nodes[-3:]
    joint = p.concatenate(*(p.reshape(p.tanh(z), shape=(z.size,)) for z in last), axis=0)
    return inputs.graph(*last, *derivatives(joint, inputs.active[:2], modes))
