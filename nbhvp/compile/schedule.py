"""From a graph to a list of steps: what lies in memory, what is computed where it is used.

Every node is either stored (it has a buffer, and one step that fills it) or inlined into the kernels
that pull it. Inputs, constants, outputs, reductions, matrix products and library calls are stored.
For the rest the rule is the balance of two costs, in additions per element:

- pulled at k different indices, a value of weight w is computed k - 1 times too often: it is stored
  where (k - 1) w > RECOMPUTE, so that pulling through T stencils cannot cost 3^T;
- needed by several kernels, it is stored where w > SHARED;
- broadcast along a new axis, it is stored where w > WIDENED: it would be computed per copy;
- a kernel's weight ends at LIMIT, which bounds compile time.

Cuts depend on structure alone, so that the steps of an unrolled loop share their kernels. Steps of
one shape that read the same things at the same places are one kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from nbhvp.compile.lower import lower, readable
from nbhvp.compile.pull import (
    Expr,
    Index,
    Load,
    Puller,
    Var,
    contiguous,
    is_view,
    misfits,
    parts,
    weight,
)
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node

__all__ = ["Library", "Map", "MatrixProduct", "Reduction", "Schedule", "schedule"]

RECOMPUTE = 16.0
SHARED = 24.0
WIDENED = 12.0
LIMIT = 150.0
WINDOW = 8
"""Steps back to which a map may be joined."""


@dataclass(eq=False)
class Map:
    """Elements of stored nodes of one shape, each computed from its own expression."""

    shape: tuple[int, ...]
    variables: tuple[Var, ...]
    puller: Puller
    results: list[tuple[Node, Expr]] = field(default_factory=list)

    def add(self, node: Node) -> None:
        self.results.append((node, self.puller.expand(node, self.variables)))

    @property
    def loads(self) -> list[Load]:
        return [e for e in parts([e for _, e in self.results]) if isinstance(e, Load)]

    @property
    def places(self) -> set[tuple[Node, Index]]:
        """Elements that are read, and those that are written, as positions in arrays."""
        flat = Index()
        for variable, stride in zip(self.variables, contiguous(self.shape), strict=True):
            flat = flat + Index.of(variable) * stride
        read = {(load.array, load.index) for load in self.loads if load.array.shape}
        return read | {(node, flat) for node, _ in self.results}


@dataclass(eq=False)
class Reduction:
    """A sum, segmented sum, scan or argmax over axes of one expression."""

    node: Node
    variables: tuple[Var, ...]
    expr: Expr
    segment: Var | None = None
    """The variable that counts segments, where the reduced axis is cut into some."""
    bounds: tuple[Expr, Expr] | None = None
    """The first position of segment `segment`, and that of the next."""


@dataclass(eq=False)
class MatrixProduct:
    """One product of stacked matrices, each an array in memory with an offset and strides."""

    node: Node
    operands: tuple[tuple[Node, int, tuple[int, ...]], ...]


@dataclass(eq=False)
class Library:
    """One call of NumPy on whole arrays."""

    node: Node


Step = Map | Reduction | MatrixProduct | Library


@dataclass(frozen=True)
class Schedule:
    graph: Graph
    steps: tuple[Step, ...]


def schedule(graph: Graph) -> Schedule:
    """The steps that compute the outputs of a graph from its inputs."""
    graph = lower(graph)
    graph = Graph(graph.inputs, tuple(map(_owned, graph.outputs)))
    memory = _Memory(graph)
    memory.decide()
    memory.store_shared()
    return Schedule(graph, tuple(_steps(memory)))


def _owned(node: Node) -> Node:
    """An output that has memory of its own: a copy of an input or a constant."""
    if node.args:
        return node
    return node.pool.intern(p.cast, (node,), {"dtype": node.dtype}, node.shape, node.dtype)


class _Memory:
    """Which nodes are stored, and with which strides."""

    def __init__(self, graph: Graph):
        self.nodes = graph.nodes
        self.outputs = set(graph.outputs)
        self.strides: dict[Node, tuple[int, ...]] = {}
        self.stored: set[Node] = set()
        # Of matrix products. What an operand is a view of may be stored later, in another order.
        self.operands: dict[Node, tuple] = {}
        self.weights: dict[Node, float] = {}
        self.users: dict[Node, list[Node]] = {}
        for node in self.nodes:
            for arg in node.args:
                self.users.setdefault(arg, []).append(node)

    def puller(self) -> Puller:
        return Puller(self.strides.get)

    def store(self, node: Node) -> None:
        if node not in self.strides:
            self.strides[node] = contiguous(node.shape)
            self.stored.add(node)
            self._lighten(node)

    def _lighten(self, node: Node) -> None:
        """Weigh again what is computed from a node that now comes from memory."""
        pending = list(self.users.get(node, ()))
        while pending:
            user = pending.pop()
            if user in self.weights:
                bound = self._tree_weight(user)
                if bound < self.weights[user]:
                    self.weights[user] = bound
                    pending += self.users.get(user, ())

    def _tree_weight(self, node: Node) -> float:
        own = 0.0 if is_view(node) else node.primitive.cost
        return own + sum(0.5 if a in self.strides else self.weights[a] for a in node.args)

    def store_viewed(self, node: Node) -> None:
        """Store what a node is a view of, unless that is much larger."""
        while is_view(node) and node.args[0] not in self.strides:
            if node.args[0].size > 4 * node.size:
                break
            node = node.args[0]
        self.store(node)

    def decide(self) -> None:
        """Decide on every node, each after its arguments."""
        for node in self.nodes:
            if not node.args:
                self._source(node)
            elif not (node.primitive.is_elementwise or node.primitive.pull):
                self._operands(node)
                self.store(node)
            else:
                self._weigh(node)
                if node in self.outputs:
                    self.store(node)

    def _source(self, node: Node) -> None:
        if node.value is None:
            self.strides[node] = contiguous(node.shape)
        elif node.shape != ():
            itemsize = node.dtype.itemsize
            self.strides[node] = tuple(step // itemsize for step in node.value.strides)
        self.weights[node] = 0.0

    def _operands(self, node: Node) -> None:
        """What a step reads as a whole array must lie in memory."""
        if node.primitive.reduction:
            for arg in node.args[1:]:
                self.store(arg)
            arg = node.args[0]
            # A scan or argmax pulls each element once, like a sum.
            self._demand(arg)
        elif node.primitive.kind == "bilinear":
            for arg in node.args:
                if matrix_operand(self, arg) is None:
                    self.store(arg)
            self.operands[node] = tuple(matrix_operand(self, arg) for arg in node.args)
        else:
            for arg in node.args:
                if self.strides.get(arg) != contiguous(arg.shape):
                    self.store(arg)

    def _demand(self, node: Node) -> None:
        if node not in self.strides:
            self._weigh(node)

    def _weigh(self, node: Node) -> None:
        """The weight of a node when it is inlined, storing what should not be pulled."""
        self._store_widened(node)
        for arg in misfits(node, self.strides.get):
            self.store(arg)
        # No part can be wasted beyond RECOMPUTE where the whole, as a tree, weighs less.
        bound = self._tree_weight(node)
        while bound > RECOMPUTE:
            puller = self.puller()
            expr = puller.expand(node, variables(node.shape))
            bound = weight(expr)
            costly = self._costly(node, puller, bound)
            if costly is None:
                break
            self.store_viewed(costly)
        self.weights[node] = bound

    def _store_widened(self, node: Node) -> None:
        """Store dear arguments whose elements are each used for many elements of the result."""
        entry = node.primitive
        if entry.is_elementwise or entry.repeats:
            for arg in node.args:
                dear = arg not in self.strides and self.weights[arg] > WIDENED
                if dear and node.size > 2 * arg.size:
                    self.store_viewed(arg)

    def _costly(self, node: Node, puller: Puller, total: float) -> Node | None:
        """One inlined node that had better be stored, None if there is none."""
        instances: dict[Node, int] = {}
        for pulled, index in puller.pulled:
            inlined = isinstance(pulled, Node) and pulled.args and pulled not in self.strides
            if inlined and index[:1] != ("flat",):
                instances[pulled] = instances.get(pulled, 0) + 1
        instances.pop(node, None)
        waste = {n: (k - 1) * self.weights[n] for n, k in instances.items() if n in self.weights}
        if waste and max(waste.values()) > RECOMPUTE:
            return max(waste, key=lambda n: (waste[n], n.index))
        if total > LIMIT and instances:
            return max(instances, key=lambda n: (self.weights.get(n, 0.0), n.index))
        return None

    def store_shared(self) -> None:
        """Store dear values that kernels of different shapes or kinds would each compute."""
        kernels: dict[Node, frozenset] = {node: frozenset() for node in self.nodes}
        for node in reversed(self.nodes):
            users = [kernels[user] for user in self.users.get(node, ())]
            union = frozenset().union(*users)
            branching = all(part != union for part in users)
            if branching and node in self.weights and self.weights[node] > SHARED:
                self.store_viewed(node)
            if not (node.primitive.is_elementwise or node.primitive.pull):
                kernels[node] = frozenset([node])
            else:
                kernels[node] = frozenset([node.shape]) if node in self.stored else union


def variables(shape) -> tuple[Var, ...]:
    """The loop variables of all kernels: the same for equal ranks, so that loads can be compared."""
    return tuple(map(_variable, range(len(shape))))


@cache
def _variable(axis: int) -> Var:
    return Var(f"j{axis}")


def matrix_operand(memory: _Memory, node: Node) -> tuple[Node, int, tuple[int, ...]] | None:
    """A node that BLAS can read in place: its array, offset and strides (batch, row, column)."""
    # Not by its expression, which for a broadcast number is that number.
    if node in memory.stored:
        return node, 0, contiguous(node.shape)
    loops = variables(node.shape)
    puller = memory.puller()
    expr = puller.at(node, loops)
    if not isinstance(expr, Load) or not set(expr.index.terms) <= set(loops):
        return None
    strides = tuple(expr.index.terms.get(v, 0) for v in loops)
    return (expr.array, expr.index.const, strides) if readable(node.shape, strides) else None


def _steps(memory: _Memory) -> list[Step]:
    """One step per stored node in topological order; maps join an open map where they can."""
    steps: list[Step] = []
    position: dict[Node, int] = {}
    for node in memory.nodes:
        if node not in memory.stored:
            continue
        if not (node.primitive.is_elementwise or node.primitive.pull):
            steps.append(_whole(memory, node))
            position[node] = len(steps) - 1
            continue
        alone = Map(node.shape, variables(node.shape), memory.puller())
        alone.add(node)
        position[node] = _join(memory, alone, steps, position)
    return steps


def _join(memory: _Memory, alone: Map, steps: list[Step], position: dict[Node, int]) -> int:
    """Add a map of one node to a recent one that reads the same things, else as a new step."""
    ((node, expr),) = alone.results
    for at in range(len(steps) - 1, max(-1, len(steps) - 1 - WINDOW), -1):
        step = steps[at]
        if isinstance(step, Map) and step.shape == node.shape:
            inner = {member for member, _ in step.results}
            needed = {load.array for load in alone.loads if load.array in memory.stored}
            ready = all(position[n] < at for n in needed - inner)
            if ready and not alone.places.isdisjoint(step.places) and _merge(memory, step, node):
                return at
    steps.append(alone)
    return len(steps) - 1


def _merge(memory: _Memory, step: Map, node: Node) -> bool:
    """Compute `node` in a map too, unless it needs other elements of what the map computes."""
    members = {member for member, _ in step.results}
    puller = Puller(lambda n: None if n in members else memory.strides.get(n))
    puller.pulled = dict(step.puller.pulled)
    here = tuple(map(Index.of, step.variables))
    expr = puller.expand(node, step.variables)
    elsewhere = any(n in members and index != here for n, index in puller.pulled if index is not n)
    if elsewhere or weight(expr, *(e for _, e in step.results)) > LIMIT:
        return False
    step.puller = puller
    step.results.append((node, expr))
    return True


def _whole(memory: _Memory, node: Node) -> Step:
    if node.primitive.kind == "bilinear":
        assert all(memory.operands[node]), "operands of a matrix product were stored"
        return MatrixProduct(node, memory.operands[node])
    if node.primitive.reduction is None:
        return Library(node)
    arg = node.args[0]
    puller, loops = memory.puller(), variables(arg.shape)
    expr = puller.at(arg, loops)
    if len(node.args) == 1:
        return Reduction(node, loops, expr)
    segment = Var("segment")
    first = Index.of(segment)
    bounds = tuple(puller.at(node.args[1], (j,)) for j in (first, first + 1))
    return Reduction(node, loops, expr, segment, bounds)
