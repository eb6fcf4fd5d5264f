"""From a graph to a list of steps: what lies in memory, what is computed where it is used.

Every node is either stored (it has a buffer, and one step that fills it) or inlined into the kernels
that pull it. Inputs, constants, outputs, reductions, matrix products and library calls are stored.
For the rest the rule is the balance of two costs, in additions per element:

- pulled at k different indices, a value of weight w is computed k - 1 times too often: it is stored
  where (k - 1) w > RECOMPUTE, so that pulling through T stencils cannot cost 3^T;
- needed by several kernels, it is stored where w > SHARED;
- broadcast along a new axis, it is stored where w > SHARED: it would be computed per copy;
- a kernel's weight ends at LIMIT, which bounds compile time.

Cuts depend on structure alone, so that the steps of an unrolled loop share their kernels. Steps of
one shape that read the same things at the same places are one kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nbhvp.compile.lower import lower
from nbhvp.compile.pull import Expr, Index, Load, Puller, Var, contiguous, parts, weight
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node

__all__ = ["Library", "Map", "MatrixProduct", "Reduction", "Schedule", "schedule"]

RECOMPUTE = 32.0
SHARED = 12.0
LIMIT = 150.0


@dataclass(eq=False)
class Map:
    """Elements of stored nodes of one shape, each computed from its own expression."""

    shape: tuple[int, ...]
    variables: tuple[Var, ...]
    puller: Puller
    results: list[tuple[Node, Expr]] = field(default_factory=list)


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
        self.weights: dict[Node, float] = {}
        self.expressions: dict[Node, Puller] = {}

    def puller(self) -> Puller:
        return Puller(self.strides.get)

    def store(self, node: Node) -> None:
        if node not in self.strides:
            self.strides[node] = contiguous(node.shape)
            self.stored.add(node)

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
        elif node.primitive is p.contract:
            for arg in node.args:
                if matrix_operand(self, arg) is None:
                    self.store(arg)
        else:
            for arg in node.args:
                if self.strides.get(arg) != contiguous(arg.shape):
                    self.store(arg)

    def _demand(self, node: Node) -> None:
        if node not in self.strides:
            self._weigh(node)

    def _weigh(self, node: Node) -> None:
        """The weight of a node when it is inlined, storing what should not be pulled."""
        self._store_amplified(node)
        while True:
            puller = self.puller()
            expr = puller.expand(node, variables(node.shape))
            costly = self._costly(node, puller, expr)
            if costly is None:
                break
            self.store(costly)
        self.weights[node] = weight(expr)

    def _store_amplified(self, node: Node) -> None:
        for arg in node.args:
            widened = any(extent > 1 for extent in node.shape[: node.ndim - arg.ndim]) or any(
                wide > 1 and narrow == 1
                for wide, narrow in zip(node.shape[::-1], arg.shape[::-1], strict=False)
            )
            grown = node.size > 2 * arg.size and (widened or not node.primitive.is_elementwise)
            if grown and self.weights.get(arg, 0.0) > SHARED and arg not in self.strides:
                self.store(arg)

    def _costly(self, node: Node, puller: Puller, expr: Expr) -> Node | None:
        """One inlined node that had better be stored, None if there is none."""
        demanded = [n for n in puller.demands if n not in self.strides]
        if demanded:
            return demanded[0]
        instances: dict[Node, int] = {}
        for pulled, index in puller.pulled:
            inlined = isinstance(pulled, Node) and pulled.args and pulled not in self.strides
            if inlined and index[:1] != ("flat",):
                instances[pulled] = instances.get(pulled, 0) + 1
        instances.pop(node, None)
        waste = {n: (k - 1) * self.weights[n] for n, k in instances.items() if n in self.weights}
        repeated = [n for n, w in waste.items() if w > RECOMPUTE]
        if repeated:
            return max(repeated, key=lambda n: n.index)
        if weight(expr) > LIMIT and instances:
            return max(instances, key=lambda n: (self.weights.get(n, 0.0), n.index))
        return None

    def store_shared(self) -> None:
        """Store dear values that kernels of different steps would each compute."""
        roots: dict[Node, frozenset] = {}
        for node in reversed(self.nodes):
            if node in self.stored or not (node.primitive.is_elementwise or node.primitive.pull):
                roots[node] = frozenset(
                    [
                        (node.shape, node.primitive.is_elementwise)
                        if node.primitive.is_elementwise
                        else node
                    ]
                )
        consumers: dict[Node, list[Node]] = {}
        for node in self.nodes:
            for arg in node.args:
                consumers.setdefault(arg, []).append(node)
        for node in reversed(self.nodes):
            if node in roots:
                continue
            parts = [roots.get(c, frozenset()) for c in consumers.get(node, ())]
            union = frozenset().union(*parts)
            branching = all(part != union for part in parts)
            if branching and self.weights.get(node, 0.0) > SHARED and node not in self.strides:
                self.store(node)
                union = frozenset([(node.shape, True)])
            roots[node] = union


def variables(shape) -> tuple[Var, ...]:
    return tuple(Var(f"i{k}") for k in range(len(shape)))


def matrix_operand(memory: _Memory, node: Node) -> tuple[Node, int, tuple[int, ...]] | None:
    """A node that BLAS can read in place: its array, offset and strides (batch, row, column)."""
    loops = variables(node.shape)
    puller = memory.puller()
    expr = puller.at(node, loops)
    if puller.demands or not isinstance(expr, Load) or not set(expr.index.terms) <= set(loops):
        return None
    strides = tuple(expr.index.terms.get(v, 0) for v in loops)
    _, rows, columns = node.shape
    _, row, column = strides
    readable = (column == 1 or columns == 1) and (row >= columns or rows == 1)
    transposed = (row == 1 or rows == 1) and (column >= rows or columns == 1)
    return (expr.array, expr.index.const, strides) if readable or transposed else None


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
        joined = _join(memory, node, steps, position)
        if joined is None:
            step = Map(node.shape, variables(node.shape), memory.puller())
            step.results.append((node, step.puller.expand(node, step.variables)))
            steps.append(step)
            joined = len(steps) - 1
        position[node] = joined
    return steps


def _join(memory, node, steps, position) -> int | None:
    """The position of a map that can compute `node` too, None if there is none."""
    for at in range(len(steps) - 1, max(-1, len(steps) - 9), -1):
        step = steps[at]
        if not isinstance(step, Map) or step.shape != node.shape:
            continue
        members = [member for member, _ in step.results]
        puller = Puller(lambda n, m=members: None if n in m else memory.strides.get(n))
        puller.pulled = dict(step.puller.pulled)
        before = len(puller.pulled)
        expr = puller.expand(node, step.variables)
        new = [key for key in list(puller.pulled)[before:]]
        shares = len(new) == 0 or _shares(step, expr)
        late = any(
            position.get(load.array, -1) >= at
            for load in _loads(expr)
            if load.array in memory.stored and load.array not in members
        )
        recomputed = any(
            n in members and index != tuple(map(Index.of, step.variables))
            for n, index in new
            if isinstance(n, Node)
        )
        total = weight(expr, *(e for _, e in step.results))
        if shares and not late and not recomputed and total <= LIMIT:
            step.puller.pulled = puller.pulled
            step.results.append((node, expr))
            return at
    return None


def _loads(*exprs: Expr) -> list[Load]:
    return [part for part in parts(exprs) if isinstance(part, Load)]


def _shares(step: Map, expr: Expr) -> bool:
    """Whether an expression loads an element that the step loads too."""
    have = {(load.array, load.index) for load in _loads(*(e for _, e in step.results))}
    return any(load.array.shape and (load.array, load.index) in have for load in _loads(expr))


def _whole(memory: _Memory, node: Node) -> Step:
    if node.primitive is p.contract:
        operands = tuple(matrix_operand(memory, arg) for arg in node.args)
        assert all(operands), "operands of a matrix product were stored"
        return MatrixProduct(node, operands)
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
