"""From a graph to a list of steps: which values are stored in memory, and which are inlined.

Every node is either stored (a member of a nest, or a step of its own) or inlined into the members
that pull it. Inputs, constants, outputs, reductions, matrix products and library calls are stored.
For other nodes one cost decides, `Costs.saved`: the additions per element that are saved where a value
is stored, and loaded by its further uses, which else would each compute it. The rules differ in the uses:

- pulled at k different indices by one member, so that pulling through T stencils cannot cost 3^T: the
  loads lie in few lines, and cost nothing more. A stencil of few operations is computed again;
- needed by k members: each loads it from a cache or from memory, by its size;
- broadcast along a new axis: its copies in an inner loop load it from the first cache;
- read through an index: it is stored if it would be loaded from several arrays.

A stored node joins the nest with which it shares most loads, or one of its own iteration space, and
is in memory only if another nest reads it: elementwise work is one pass, each value computed once.
The weight of a kernel is at most `Costs.kernel`, that of an inlined expression `Costs.limit`; at most
MOST_NESTED choices stand one within the other, since Python's parser bounds the levels of a text.

Invariant: cuts depend on structure, and on sizes only where these tell caches from memory and few
elements from many, so the same program of another size mostly has the same kernels. Sums of matrix products without other uses are one step, whose terms BLAS adds in place.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import product

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, Pool
from nbhvp.graph.table.lanes import has_lanes
from nbhvp.graph.table.scan import Body, with_ends, without_unread
from nbhvp.plan.costs import CPU, Costs
from nbhvp.plan.decisions import decided
from nbhvp.plan.fission import fissioned
from nbhvp.plan.joining import joined, merged
from nbhvp.plan.lower import lower, readable, small_products_as_sums, stacked
from nbhvp.plan.nests.aligned import Aligned
from nbhvp.plan.nests.axes import copied, is_copy, long_axis_last, new_order, short_loops
from nbhvp.plan.nests.nest import Nest
from nbhvp.plan.nests.pull import (
    Choose,
    Expr,
    Index,
    Load,
    Puller,
    Value,
    Var,
    contiguous,
    is_pulled,
    is_small_sum,
    is_view,
    misfits,
    nesting,
    parts,
    written_out,
)
from nbhvp.plan.recurrence import Recurrence, Repeated, is_narrow, one_of, positions, step_of

__all__ = [
    "Library",
    "MatrixProduct",
    "Operand",
    "Reduction",
    "Schedule",
    "Step",
    "reads",
    "schedule",
    "stored_nodes",
]

MOST_NESTED = 40
REUSED = 1.5
"""Additions of a load that all iterations of an inner loop repeat: half of one, and one for any use."""
KEPT = ("schedule",)
"""Where a pool has the last schedule that `stored_nodes` made."""


@dataclass(eq=False)
class Reduction:
    """A scan, or the position of the largest element, along an axis of one expression."""

    node: Node
    variables: tuple[Var, ...]
    expr: Expr

    @property
    def loads(self) -> list[Load]:
        return [part for part in parts([self.expr]) if isinstance(part, Load)]


Operand = tuple[Node, int, tuple[int, ...]]
"""An array in memory, with an offset and the strides (stack, row, column) of its matrices."""


@dataclass(eq=False)
class MatrixProduct:
    """A sum of products of stacked matrices: BLAS adds each term to the same result."""

    node: Node
    terms: tuple[tuple[Node, Operand, Operand], ...]
    """The contraction that each term is, and its operands."""


@dataclass(eq=False)
class Library:
    """One call of NumPy on whole arrays."""

    node: Node


Step = Nest | Reduction | MatrixProduct | Recurrence | Repeated | Library


@dataclass(frozen=True)
class Schedule:
    graph: Graph
    """What the steps compute: an output may lack a last reshape."""
    steps: tuple[Step, ...]
    shapes: tuple[tuple[int, ...], ...]
    """The shapes of the outputs."""


def schedule(graph: Graph, costs: Costs = CPU) -> Schedule:
    """The steps that compute the outputs of a graph from its inputs, on a machine with some costs."""
    shapes = tuple(node.shape for node in graph.outputs)
    made, memory, steps = _pool(graph).made.pop(KEPT, (None, None, ()))
    if made != (graph, costs):
        memory, steps = _planned(graph, costs)
    ended = with_ends(without_unread(memory.graph))
    if ended is not memory.graph:
        memory = _decided(ended, costs)
        steps = _steps(memory)
    return Schedule(memory.graph, tuple(steps), shapes)


def stored_nodes(graph: Graph, among: Iterable[Node], costs: Costs = CPU) -> dict[Node, float]:
    """Those of some nodes of a graph, once lowered, that its schedule has in memory.

    Each with the additions that this saves where it is stored for them alone, else infinity. The
    schedule itself is kept until it is asked for.
    """
    memory, steps = _planned(graph, costs)
    _pool(graph).made[KEPT] = (graph, costs), memory, steps
    found: set[Node] = set()
    for step in steps:
        found |= step.kept if isinstance(step, Nest) else {step.node}
    return {
        node: memory.weights[node] * node.size if node in memory.shared else math.inf
        for node in found.intersection(among)
    }


def _pool(graph: Graph) -> Pool:
    return (*graph.outputs, *graph.inputs)[0].pool


def _planned(graph: Graph, costs: Costs) -> tuple[Memory, list[Step]]:
    memory = _decided(lowered(graph, costs), costs)
    return memory, _steps(memory)


def lowered(graph: Graph, costs: Costs = CPU) -> Graph:
    """The same function, as it is scheduled."""
    graph = fissioned(graph)
    if costs.has_vectors and (any(map(new_order, graph.nodes)) or stacked(graph)):
        plain = lower(graph, products=False)
        graph = long_axis_last(small_products_as_sums(plain))
        if short_loops(graph) > stacked(plain):  # for which BLAS is better after all
            graph = long_axis_last(plain)
    graph = decided(lower(graph))
    return Graph(graph.inputs, tuple(map(_owned, graph.outputs)))


def _decided(graph: Graph, costs: Costs) -> Memory:
    memory = Memory(graph, costs)
    memory.decide()
    memory.store_shared()
    return memory


def _owned(node: Node) -> Node:
    """An output that has memory of its own, in whose order its elements lie.

    What is only reshaped is written where it belongs; an input or a constant is copied.
    """
    while node.primitive is p.reshape and node.args[0].args:
        node = node.args[0]
    if node.args:
        return node
    return copied(node)


class Memory:
    """Which nodes are stored, and with which strides."""

    def __init__(self, graph: Graph, costs: Costs):
        self.graph, self.costs = graph, costs
        self.nodes = graph.nodes
        self.outputs = set(graph.outputs)
        self.strides: dict[Node, tuple[int, ...]] = {}
        self.stored: set[Node] = set()
        self.shared: set[Node] = set()
        """What is stored since several kernels or steps would each compute it."""
        # What an operand is a view of may be stored later, in another order.
        self.operands: dict[Node, tuple] = {}
        self.products: dict[Node, tuple] = {}
        """The terms of stored sums of matrix products."""
        self.weights: dict[Node, float] = {}
        self.users: dict[Node, list[Node]] = {}
        for node in self.nodes:
            for arg in node.args:
                self.users.setdefault(arg, []).append(node)
        work = sum(node.primitive.cost for node in self.nodes if node.primitive.is_elementwise)
        self._heaviest_row = (
            costs.kernel if work <= costs.kernel else min(costs.kernel, costs.limit)
        )
        self._spaces: dict[Node, Node] = {}
        for node in self.nodes:
            if node.primitive.is_elementwise and node.args:
                for arg in node.args:
                    if arg.shape == node.shape:
                        self._spaces[self._root(arg)] = self._root(node)
        self.sums, self.absorbed = self._product_sums()
        self.inlined = self.puller()
        """What has been pulled up to now, by what is stored up to now."""
        self._aligned = Aligned(self.strides, self.users)

    def heaviest(self, nest: Nest) -> float:
        """The most that a nest weighs. Of several rows: small ones of a long loop's steps share texts."""
        return self._heaviest_row if nest.extent > 1 else self.costs.kernel

    def space(self, node: Node) -> Node:
        """What stands for all nodes that elementwise operations tie to this one, or to its terms."""
        return self._root(node if is_pulled(node) else node.args[0])

    def _root(self, node: Node) -> Node:
        while (other := self._spaces.get(node, node)) is not node:
            self._spaces[node] = self._spaces.get(other, other)
            node = other
        return node

    def _product_sums(self) -> tuple[dict[Node, list[Node]], set[Node]]:
        """Sums of matrix products that nothing else uses, and the nodes that they make needless."""
        sums: dict[Node, list[Node]] = {}
        absorbed: set[Node] = set()
        for node in reversed(self.nodes):
            if node.primitive is p.add and node not in absorbed:
                inner = self._terms(node)
                terms = [one for one in inner if one.primitive.kind == "bilinear"]
                if terms and len({term.shape for term in terms}) == 1:
                    sums[node] = terms
                    absorbed.update(inner)
        return sums, absorbed

    def _terms(self, node: Node) -> list[Node]:
        """The nodes below a sum of matrix products, these included; nothing if it is none."""
        below: list[Node] = []
        pending = [node]
        while pending:
            top = pending.pop()
            if top is not node:
                below.append(top)
                if top.primitive.kind == "bilinear":
                    continue
            # Both are looked at before either is gone into: a long sum of other things ends here.
            args = [self._term(arg, top, below) for arg in top.args]
            found = [arg for arg in args if arg is not None]
            if len(found) < len(args):
                return []
            pending += reversed(found)
        return below

    def _term(self, arg: Node, total: Node, below: list[Node]) -> Node | None:
        """A term of a sum, or a sum itself, where nothing else needs it; reshapes go to `below`."""
        if arg.shape != total.shape or arg.dtype != total.dtype:
            return None
        while arg.primitive is p.reshape and self._is_used_once(arg):
            below.append(arg)
            arg = arg.args[0]
        is_term = arg.primitive is p.add or arg.primitive.kind == "bilinear"
        return arg if is_term and self._is_used_once(arg) else None

    def _is_used_once(self, node: Node) -> bool:
        return len(self.users.get(node, ())) == 1 and node not in self.outputs

    def puller(self) -> Puller:
        return Puller(self.strides.get)

    def store(self, node: Node) -> None:
        if node not in self.strides:
            self.strides[node] = contiguous(node.shape)
            self.stored.add(node)
            self._lighten(node)
            self._aligned.forget(node)
            self.inlined.forget(node, self.users)

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
        inner = own + sum(0.5 if a in self.strides else self.weights[a] for a in node.args)
        return inner * (node.args[0].size // node.size) if is_small_sum(node) else inner

    def shown(self, node: Node, padding: bool = True) -> Node:
        """What a node is a view of, unless that is much larger, or what it pads."""
        while (inner := _shown(node, padding)) is not None and inner not in self.strides:
            if inner.size > 4 * node.size:
                break
            node = inner
        return node

    def decide(self) -> None:
        """Decide on every node, each after its arguments."""
        for node in self.nodes:
            if not node.args:
                self._source(node)
            elif node in self.absorbed and node.primitive.kind != "bilinear":
                self.weights[node] = 0.0
            elif node in self.sums:
                terms = self.sums[node]
                self.products[node] = tuple((term, *self.operands[term]) for term in terms)
                self.store(node)
            elif not is_pulled(node):
                self._operands(node)
                if node.primitive.kind == "bilinear" and node not in self.absorbed:
                    self.products[node] = ((node, *self.operands[node]),)
                if node in self.absorbed:
                    self.weights[node] = 0.0
                else:
                    self.store(node)
            else:
                self._weigh(node)
                if node in self.outputs or is_copy(node):
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
                    shown = self.shown(arg, padding=False)
                    self.store(shown if matrix_operand(self, arg, shown) else arg)
            self.operands[node] = tuple(matrix_operand(self, arg) for arg in node.args)
        elif is_loop(node):
            for arg in node.args:
                if not isinstance(self.inlined.at(arg, variables(arg.shape)), Load | Value):
                    self.store(arg)
        else:
            is_repeated = repeats(node)
            for k, arg in enumerate(node.args):
                if is_repeated and _placed(self, node, k):
                    continue
                if arg.value is None and self.strides.get(arg) != contiguous(arg.shape):
                    self.store(arg)

    def _demand(self, node: Node) -> None:
        if node not in self.strides:
            self._weigh(node)

    def _weigh(self, node: Node) -> None:
        """The weight of a node when it is inlined, storing what should not be pulled."""
        self._store_widened(node)
        self._store_gathered(node)
        for arg in misfits(node, self.strides.get):
            self.store(arg)
        # No part can be wasted beyond a load where the whole, as a tree, weighs less.
        bound = self._tree_weight(node)
        while bound > self.costs.loaded:
            inside = self._aligned.inside(node)
            if inside is not None:
                # Each node within is needed at one index: nothing is computed twice.
                inlined = [n for n in inside if isinstance(n, Node)]
                bound = sum(n.primitive.cost for n in inlined)
                bound += Load.cost * (len(inside) - len(inlined))
                others = (n for n in inlined if n is not node)
                costly = self._heaviest(others) if bound > self.costs.limit else None
            else:
                found = parts([self.inlined.expand(node, variables(node.shape))])
                bound = sum(part.cost for part in found)
                costly = self._costly(node, found, bound)
            if costly is None:
                break
            self.store(self.shown(costly))
        self.weights[node] = bound

    def _store_widened(self, node: Node) -> None:
        """Store dear arguments whose elements are each used for many elements of the result."""
        entry = node.primitive
        if entry.is_elementwise or entry.repeats:
            for arg in node.args:
                if arg in self.strides or node.size <= 2 * arg.size:
                    continue
                uses, kernel = node.size / arg.size, self.costs.launch / self.costs.flop / arg.size
                if arg.size == 1:  # loops compute a single number once, unless it is dear
                    uses, kernel = 3, 0
                if (
                    self.costs.saved(self.weights[arg], uses, REUSED, self.costs.stored + kernel)
                    > 0
                ):
                    self.store(self.shown(arg))

    def _store_gathered(self, node: Node) -> None:
        """Store what is read through an index, if that would else be a line of several arrays."""
        arg = node.args[0]
        if node.primitive.repeats and len(node.args) > 1 and arg not in self.strides:
            found = parts([self.inlined.expand(arg, variables(arg.shape))])
            arrays = {part.array for part in found if isinstance(part, Load) and part.array.shape}
            while arg.primitive.is_elementwise and arg.primitive.cost <= 1:
                # Not with a sign or a number, without which others may read it too.
                inner = [one for one in arg.args if one.size > 1]
                if len(inner) != 1 or inner[0].shape != arg.shape:
                    break
                (arg,) = inner
            if self.costs.saved((len(arrays) - 1) * self.costs.loaded, 2, 0, self.costs.stored) > 0:
                self.store(self.shown(arg))

    def _costly(self, node: Node, found: list[Expr], total: float) -> Node | None:
        """One inlined node that had better be stored, None if there is none."""
        instances = Counter(
            self.inlined.origins[part] for part in found if part in self.inlined.origins
        )
        del instances[node]
        # One body of a loop has all that is written out, and computes each element of it once.
        bodies = node.size // max(1, math.prod(node.shape[k] for k in written_out(node.shape)))
        many = ((n, k) for n, k in instances.items() if k > 1)
        each = {n: k * min(1.0, bodies / max(1, n.size)) for n, k in many}
        # What is loaded at several indices lies in few lines: only the first load counts.
        saved = {
            n: self.costs.saved(self.weights[n], k, 0, self.costs.again) for n, k in each.items()
        }
        if saved and max(saved.values()) > 0:
            return max(saved, key=lambda n: (saved[n], n.index))
        is_nested = sum(isinstance(part, Choose) for part in found) > MOST_NESTED
        # The terms of a sum in a long loop stay in registers: stored, they would be arrays.
        is_long = is_small_sum(node) and node.shape[-1:] >= (self.costs.long,)
        limit = 2 * self.costs.limit if is_long else self.costs.limit
        if total > limit or (is_nested and nesting(found) > MOST_NESTED):
            return self._heaviest(instances)
        return None

    def _heaviest(self, inlined: Iterable[Node]) -> Node | None:
        return max(inlined, key=lambda n: (self.weights[n], n.index), default=None)

    def store_shared(self) -> None:
        """Store dear values that several members or steps would each compute."""
        kernels: dict[Node, frozenset] = {node: frozenset() for node in self.nodes}
        for node in reversed(self.nodes):
            users = [kernels[user] for user in self.users.get(node, ())]
            union = frozenset().union(*users)
            branching = bool(users) and all(part != union for part in users)
            if branching and node in self.weights and self._is_worth_sharing(node, len(union)):
                self.shared.add(shown := self.shown(node))
                self.store(shown)
            is_inlined = is_pulled(node) and node not in self.stored
            kernels[node] = union if is_inlined else frozenset([node])

    def _is_worth_sharing(self, node: Node, kernels: int) -> bool:
        load = self.costs.fetch(node.size * node.dtype.itemsize) / self.costs.flop
        return self.costs.saved(self.weights[node], kernels, load, load / 2) > 0


def _shown(node: Node, padding: bool) -> Node | None:
    """The argument of which a node is a view, or that it puts into an array of one number."""
    if padding and node.primitive is p.update and p.scalar_value(node.args[0]) is not None:
        return node.args[1]
    return node.args[0] if is_view(node) else None


def variables(shape) -> tuple[Var, ...]:
    """The loop variables of all kernels: the same for equal ranks, so that loads can be compared."""
    return tuple(map(_variable, range(len(shape))))


@cache
def _variable(axis: int) -> Var:
    return Var(f"j{axis}")


def matrix_operand(
    memory: Memory, node: Node, new: Node | None = None
) -> tuple[Node, int, tuple[int, ...]] | None:
    """A node that BLAS can read in place: its array, offset and strides (batch, row, column).

    With `new` it is what it would be if that were stored.
    """
    # Not by its expression, which for a broadcast number is that number.
    if node in memory.stored or node is new:
        return node, 0, contiguous(node.shape)
    loops = variables(node.shape)
    puller = Puller(lambda one: contiguous(one.shape) if one is new else memory.strides.get(one))
    expr = puller.at(node, loops)
    if not isinstance(expr, Load) or not set(expr.index.terms) <= set(loops):
        return None
    strides = tuple(expr.index.terms.get(v, 0) for v in loops)
    return (expr.array, expr.index.const, strides) if readable(node.shape, strides) else None


def _steps(memory: Memory) -> list[Step]:
    """One step per stored node in topological order; maps and sums join a nest where they can."""
    steps: list[Step] = []
    position: dict[Node, int] = {}
    puller = memory.puller()  # one for all, so that what members share is one expression
    for node in memory.nodes:
        if node not in memory.stored:
            continue
        if node in memory.products:
            steps.append(MatrixProduct(node, memory.products[node]))
        elif is_pulled(node) or node.primitive.reduction in NESTED:
            position[node] = joined(memory, puller, node, steps, position)
            continue
        elif is_loop(node):
            steps.append(_recurrence(node, memory.puller()))
        elif node.primitive.reduction is None:
            steps.append(_repeated(memory, node) if repeats(node) else Library(node))
        else:
            loops = variables(node.args[0].shape)
            steps.append(Reduction(node, loops, memory.puller().at(node.args[0], loops)))
        position[node] = len(steps) - 1
    return _needed(memory, merged(memory, steps))


def is_loop(node: Node) -> bool:
    """Whether a node is a recurrence of narrow steps."""
    return node.primitive.body is not None and is_narrow(node.primitive.body)


def _recurrence(node: Node, puller: Puller) -> Recurrence:
    body, by_lanes = node.primitive.body, has_lanes(node)
    *blocks, step, lane = variables((1, 1, 1) if by_lanes else (1, 1))
    elements = []
    for k, (arg, like) in enumerate(zip(node.args, one_of(body).graph.inputs, strict=False)):
        is_slice = body.carries <= k < body.rest
        first = (*blocks, step) if is_slice else ()
        is_along = is_slice if by_lanes else body.single is not None and k in body.linear
        last = (lane,) if is_along else ()
        elements.append(tuple(puller.at(arg, (*first, *at, *last)) for at in positions(like)))
    if by_lanes:
        size, propagators = node.args[-1].shape[0], node.args[-1]
        places = ([Index.of(k) for k in at] for at in product(range(size), repeat=2))
        elements.append(tuple(puller.at(propagators, (*at, *blocks, lane)) for at in places))
    return Recurrence(node, step, tuple(elements))


def repeats(node: Node) -> bool:
    """Whether a node is a recurrence whose steps are kernels and matrix products."""
    body = node.primitive.body
    if body is None or any(isinstance(step, Library) for step in _plan_of(body).steps):
        return False
    graph = _plan_of(body).graph
    if len({*graph.inputs, *graph.outputs}) < len(graph.inputs) + len(graph.outputs):
        return False  # what a step gives must lie in memory of its own
    # BLAS and kernels read constants as they lie, but a step reads a slice in one piece.
    return all(arg.value is None or arg.value.flags.c_contiguous for arg in node.args)


def _placed(memory: Memory, node: Node, k: int) -> tuple[Node, int, int] | None:
    """Where argument k of a recurrence, or each slice of it, lies in one piece: start and distance."""
    arg, body = node.args[k], node.primitive.body
    is_sliced = body.carries <= k < body.rest
    inner = contiguous(arg.shape[is_sliced:])
    if arg in memory.stored or arg.value is not None or arg.primitive is p.INPUT:
        return arg, 0, contiguous(arg.shape)[0] if is_sliced else 0
    loops = variables(arg.shape)
    expr = memory.puller().at(arg, loops)
    if not isinstance(expr, Load) or not set(expr.index.terms) <= {*loops}:
        return None
    strides = [expr.index.terms.get(v, 0) for v in loops]
    wanted = zip(strides[is_sliced:], inner, arg.shape[is_sliced:], strict=True)
    if any(stride != one and extent > 1 for stride, one, extent in wanted):
        return None
    return expr.array, expr.index.const, strides[0] if is_sliced else 0


def _repeated(memory: Memory, node: Node) -> Repeated:
    found = [_placed(memory, node, k) for k in range(len(node.args))]
    operands = tuple(one for one in found if one is not None)
    assert len(operands) == len(found), f"an argument of {node} is not in memory"
    return Repeated(node, operands, _plan_of(node.primitive.body, memory.costs))


@functools.lru_cache(maxsize=256)
def _plan_of(body: Body, costs: Costs = CPU) -> Schedule:
    """The schedule of a step, each output of which has memory of its own."""
    graph, seen, outputs = step_of(body), set(), []
    for node in graph.outputs:
        while _owned(node) in seen:  # a copy, or a copy of that
            node = node.pool.intern(p.cast, (node,), {"dtype": node.dtype}, node.shape, node.dtype)
        outputs.append(node)
        seen.add(_owned(node))
    return schedule(Graph(graph.inputs, tuple(outputs)), costs)


NESTED = ("sum", "all", "segment_sum")
"""Reductions that a nest takes."""


def _needed(memory: Memory, steps: list[Step]) -> list[Step]:
    """The steps that outputs need, each nest knowing what of it is needed in memory."""
    needed = set(memory.outputs)
    found: list[Step] = []
    for step in reversed(steps):
        if isinstance(step, Nest):
            step.prune(needed)
            needed |= step.read_from_memory()
            step.kept = needed.intersection(step.nodes)
            found += [step] * bool(step.members)
        elif step.node in needed:
            needed |= reads(step)
            found.append(step)
    return found[::-1]


def reads(step: Step) -> set[Node]:
    """The arrays that a step needs in memory."""
    if isinstance(step, Nest):
        return step.read_from_memory()
    if isinstance(step, MatrixProduct):
        return {array for _, *operands in step.terms for array, _, _ in operands}
    if isinstance(step, Library):
        return set(step.node.args)
    if isinstance(step, Repeated):
        return {array for array, _, _ in step.operands}
    return {load.array for load in step.loads}
