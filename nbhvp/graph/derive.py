"""Derivatives of graphs, from graph to graph; written once per kind of primitive.

With z = p(x, y), a tangent is pushed forward by z_dot = p_x x_dot + p_y y_dot (`jvp`) and an adjoint
pulled back by x_bar += conj(p_x) z_bar (`vjp`), in the real inner product Re<a, b>. A Hessian-vector
product of a scalar function f is the tangent of its gradient,

    H(x) v = d/de grad f(x + e v)   at e = 0        (Pearlmutter 1994),

one forward sweep over one reverse sweep; `hvp` also gives the two other exact orders, which have
the same value and check it. Zero tangents and adjoints are None: nothing is computed with them.
Every derived graph is checked: shapes, dtypes, and linearity in the direction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nbhvp.errors import TraceError
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, dependent, reachable
from nbhvp.graph.rewrites import quotients, shifts

__all__ = [
    "EXACT_MODES",
    "HVPS",
    "check",
    "gradient",
    "hvp",
    "is_linear",
    "is_zero",
    "joint_positions",
    "jvp",
    "jvp_of",
    "push",
    "strict",
    "substitute",
    "vanishes",
    "vjp",
]


def jvp(
    outputs: Sequence[Node],
    inputs: Sequence[Node],
    tangents: Sequence[Node],
    damps: bool = False,
) -> list[Node]:
    """The tangents of `outputs` when those of `inputs` are `tangents`.

    Where tangents are uncertain (those given are if it `damps`), a partial of 0 wins over NaN.
    """
    dots: dict[Node, Node] = dict(zip(inputs, tangents, strict=True))
    uncertain: set[Node] = set(inputs) if damps else set()
    for node in reachable(outputs, stop=inputs):
        if node not in dots and _differentiable(node) and any(arg in dots for arg in node.args):
            node.pool.origin = node
            is_uncertain = bool(uncertain) and not uncertain.isdisjoint(node.args)
            times = _damped_times if is_uncertain else _times
            z_dot = push(node, [dots.get(arg) for arg in node.args], times)
            # A part that does not move may be cut out of a tangent: as for adjoints in _pull_back.
            if z_dot is not None and not is_zero(z_dot):
                dots[node] = z_dot
                if is_uncertain or node.primitive.uncertain:
                    uncertain.add(node)
    return [dots.get(node) or p.zeros(node.pool, node.shape, node.dtype) for node in outputs]


def jvp_of(function: Callable, args: Sequence[Node], tangents: Sequence[Node | None]) -> Node:
    """The tangent of function(*args), of nodes; a tangent is None where an argument has none.

    The function is applied to inputs, since what is made of a node may look behind that node.
    """
    pool = args[0].pool
    inputs = [p.input_node(pool, f"argument {k}", x.shape, x.dtype) for k, x in enumerate(args)]
    moving = [k for k, tangent in enumerate(tangents) if tangent is not None]
    dots = [p.input_node(pool, f"tangent {k}", args[k].shape, args[k].dtype) for k in moving]
    (found,) = jvp([function(*inputs)], [inputs[k] for k in moving], dots)
    given = [*args, *(tangents[k] for k in moving)]
    return substitute([found], dict(zip([*inputs, *dots], given, strict=True)))[0]


def vjp(
    outputs: Sequence[Node],
    inputs: Sequence[Node],
    adjoints: Sequence[Node],
    damps: bool = False,
    still: list[Node] | None = None,
) -> list[Node]:
    """The adjoints of `inputs` when those of `outputs` are `adjoints`.

    Where adjoints may be uncertain (all may if it `damps`), a factor of 0 wins over NaN. The nodes
    on which the outputs do not depend, since their adjoints cancel, are added to `still`.
    """
    bars: dict[Node, Node] = {}
    for node, bar in zip(outputs, adjoints, strict=True):
        bars[node] = bars[node] + bar if node in bars else bar
    nodes = reachable(outputs, stop=inputs)
    active = set(inputs)
    for node in nodes:
        if _differentiable(node) and not active.isdisjoint(node.args):
            active.add(node)
    damps = damps or any(node.primitive.uncertain for node in active)
    times = _damped_times if damps else _times
    for node in reversed(nodes):
        z_bar = bars.get(node)
        if z_bar is None or node in inputs or node not in active:
            continue
        if is_zero(z_bar := shifts.settled(z_bar)):
            if still is not None:
                still.append(node)
            continue
        node.pool.origin = node
        # What an argument gets twice from one node (as in x * x) is added up first.
        own: dict[Node, Node] = {}
        wanted = [arg in active and _differentiable(arg) for arg in node.args]
        for arg, bar in zip(node.args, _pull_back(node, z_bar, wanted, times), strict=True):
            if bar is not None and arg in active and _differentiable(arg):
                own[arg] = own[arg] + bar if arg in own else bar
        for arg, bar in own.items():
            bars[arg] = shifts.added(bars[arg], bar) if arg in bars else bar
    return [bars.get(node) or p.zeros(node.pool, node.shape, node.dtype) for node in inputs]


def _differentiable(node: Node) -> bool:
    """Whether a node carries derivatives: nothing passes through an array without elements."""
    return node.dtype.kind in "fc" and node.primitive.kind != "state" and node.size > 0


def push(node: Node, dots: list[Node | None], times: Callable | None = None) -> Node | None:
    """The tangent of one node from those of its arguments."""
    times = times or _times
    entry, args, params = node.primitive, node.args, node.params
    refuse_fixed(entry, [dot is not None for dot in dots])
    if entry.kind == "elementwise":
        partials = _partials(node)
        terms = [times(q, dot) for q, dot in zip(partials, dots, strict=True)]
    elif entry.kind == "linear":
        positions = _linear_positions(node)
        if entry.whole and any(dot for k, dot in enumerate(dots) if k not in positions):
            return entry.tangent(node, dots, *args, **params)
        mixed = list(args)
        for k in positions:
            mixed[k] = dots[k] or p.zeros(node.pool, args[k].shape, args[k].dtype)
        is_moved = any(dots[k] is not None for k in positions)
        terms = [entry(*mixed, **params)] if is_moved else []
    elif entry.kind == "bilinear":
        (x, y), (x_dot, y_dot) = args, dots
        terms = [
            entry(x_dot, y, **params) if x_dot is not None else None,
            entry(x, y_dot, **params) if y_dot is not None else None,
        ]
    else:
        terms = []
    if entry.tangent is not None:
        terms.append(_tangent(node, dots))
    total = None
    for term in terms:
        if term is not None:
            total = term if total is None else total + term
    return None if total is None else p.broadcast(total, shape=node.shape)


def _linear_positions(node: Node) -> tuple[int, ...]:
    """The arguments in which a node of kind linear is jointly linear."""
    alternatives = node.primitive.linear
    return tuple(range(len(node.args))) if alternatives is None else alternatives[0]


def _tangent(node: Node, dots: list[Node | None]) -> Node | None:
    """The part of a tangent that the rule named `tangent` gives, from arguments it speaks for."""
    own = _linear_positions(node) if node.primitive.kind == "linear" else ()
    dots = [None if k in own else dot for k, dot in enumerate(dots)]
    if all(dot is None for dot in dots):
        return None
    return node.primitive.tangent(node, dots, *node.args, **node.params)


def _transposed_tangent(node: Node, z_bar: Node, wanted: list[bool]) -> list[Node | None]:
    """The adjoints of arguments by transposing `tangent`, which is linear in the dots."""
    bars: list[Node | None] = [None] * len(node.args)
    own = _linear_positions(node) if node.primitive.kind == "linear" else ()
    places = [k for k, is_wanted in enumerate(wanted) if is_wanted and k not in own]
    dots = {
        k: p.input_node(node.pool, f"dot {k} of {node.index}", arg.shape, arg.dtype)
        for k, arg in enumerate(node.args)
        if k in places
    }
    z_dot = _tangent(node, [dots.get(k) for k in range(len(node.args))])
    if z_dot is not None:
        found = vjp([z_dot], list(dots.values()), [z_bar])
        left = set(dots.values()).intersection(reachable(found))
        assert not left, f"the tangent of {node.primitive} is not linear in {left}"
        bars = [found[places.index(k)] if k in places else None for k in range(len(bars))]
    return bars


def _pull_back(node: Node, z_bar: Node, wanted: list[bool], times: Callable) -> list[Node | None]:
    """The adjoints of the arguments of one node from its own."""
    entry = node.primitive
    refuse_fixed(entry, wanted)
    if entry.kind == "elementwise":
        partials = _partials(node)
        bars = [times(_conjugate(q), z_bar) for q in partials]
    elif entry.rule is not None:
        bars = list(entry.rule(z_bar, node, *node.args, **node.params))
        # A part of the adjoint where nothing was put, as that of another element: times what depends
        # on x it would not look like a zero any more.
        bars = [None if bar is None or is_zero(bar) else bar for bar in bars]
    else:
        bars = [None] * len(node.args)
    if entry.tangent is not None and (entry.kind != "general" or entry.rule is None):
        curved = _transposed_tangent(node, z_bar, wanted)
        bars = [bar if other is None else other for bar, other in zip(bars, curved, strict=True)]
    if entry.is_elementwise:
        bars = [
            None if bar is None else shifts.summed_to(bar, arg.shape)
            for bar, arg in zip(bars, node.args, strict=True)
        ]
    return bars


def refuse_fixed(entry, wanted: list[bool]) -> None:
    """An error, where a derivative is wanted in an argument in which the entry gives none."""
    if any(wanted[k] for k in entry.fixed):
        raise TraceError(
            f"{entry.name} has no derivative rule in its order, which depends on x; "
            "keep the order constant"
        )


def _partials(node: Node) -> tuple:
    """The partials of an elementwise node; no rule means that all are zero almost everywhere."""
    if node.primitive.rule is None:
        return (None,) * len(node.args)
    return node.primitive.rule(node, *node.args, **node.params)


def _times(partial, dot: Node | None) -> Node | None:
    if dot is None or partial is None:
        return None
    if isinstance(partial, Node):
        return quotients.times(partial, dot)
    return {1: dot, -1: -dot}[partial]


def _damped_times(partial, dot: Node | None) -> Node | None:
    """The product, in which a factor of 0 wins over NaN."""
    number = p.scalar_value(partial) if isinstance(partial, Node) else partial
    if dot is None or partial is None or (number is not None and number != 0):
        return _times(partial, dot)
    return p.TABLE["damped"](partial, dot)


def _conjugate(partial):
    return p.conjugate(partial) if isinstance(partial, Node) else partial


def one(node: Node) -> Node:
    return p.constant(node.pool, np.ones((), node.dtype))


def gradient(value: Node, x: Node) -> Node:
    """The gradient of a scalar node with respect to x, of the shape of x: one node, made once.

    Derived again, it would be another where a rule makes constants.
    """
    known = value.pool.gradients
    found = known.get((value, x))
    if found is None:
        still: list[Node] = []
        found = vjp([value], [x], [one(value)], still=still)[0]
        found = substitute([found], {node: p.fixed(node) for node in still})[0]
    return known.setdefault((value, x), found)


def inner(a: Node, b: Node) -> Node:
    """Re<a, b> of two nodes of one shape."""
    product = p.real(p.conjugate(a) * b) if a.is_complex else a * b
    return p.sum_(product, axes=tuple(range(product.ndim)))


def _forward_over_reverse(value: Node, x: Node, v: Node) -> Node:
    return jvp([strict(gradient(value, x), x)], [x], [v])[0]


def _reverse_over_forward(value: Node, x: Node, v: Node) -> Node:
    return gradient(jvp([strict(value, x)], [x], [v])[0], x)


def _reverse_over_reverse(value: Node, x: Node, v: Node) -> Node:
    return gradient(strict(inner(gradient(value, x), v), x), x)


HVPS: dict[str, Callable[[Node, Node, Node], Node]] = {
    "forward-over-reverse": _forward_over_reverse,
    "reverse-over-forward": _reverse_over_forward,
    "reverse-over-reverse": _reverse_over_reverse,
}
"""The orders of differentiation, by name: maps from a scalar node, x and v to H(x) v."""
EXACT_MODES = tuple(HVPS)


def hvp(value: Node, x: Node, v: Node, mode: str = EXACT_MODES[0]) -> Node:
    """The product of the Hessian of a scalar node with the direction v, in one of the exact modes."""
    if mode not in HVPS:
        raise ValueError(f"mode must be one of {', '.join(HVPS)}, got {mode!r}")
    return HVPS[mode](value, x, v)


def strict(output: Node, x: Node | None = None) -> Node:
    """The same function of x, of the entries that second derivatives are to be taken of."""
    new: dict[Node, Node] = {} if x is None else {x: x}
    for node in reachable([output], stop=new):
        if node in new:
            continue
        args, entry = tuple(new[arg] for arg in node.args), node.primitive.strict
        if entry is None and args == node.args:
            new[node] = node
        else:
            node.pool.origin = node
            new[node] = (entry or node.primitive)(*args, **node.params)
    return new[output]


def check(graph: Graph, linear_in: Node | None = None) -> Graph:
    """The graph itself, after an assertion that it is well formed (and linear in an input)."""
    known = set()
    for node in graph.nodes:
        assert all(arg in known for arg in node.args), f"{node} precedes its arguments"
        known.add(node)
        if node.primitive is p.INPUT:
            assert node in graph.inputs, f"the graph depends on {node.params['name']}, not an input"
        elif node.primitive is not p.CONSTANT:
            shape, dtype = node.primitive.infer(*node.args, **node.params)
            assert shape == node.shape, f"{node.primitive}: shape {shape}, recorded {node.shape}"
            assert dtype == node.dtype, f"{node.primitive}: dtype {dtype}, recorded {node.dtype}"
    if linear_in is not None:
        found = _not_linear(graph.nodes, [linear_in])
        assert found is None, f"{found.primitive} is not linear in {linear_in}"
    return graph


def is_linear(output: Node, directions: Sequence[Node]) -> bool:
    """Whether a node is jointly linear in some inputs, as the table tells."""
    nodes = reachable([output])
    depends = output in dependent(nodes, directions)
    return (depends or is_zero(output)) and _not_linear(nodes, directions) is None


def _not_linear(nodes: Sequence[Node], directions: Sequence[Node]) -> Node | None:
    """The first node that is not jointly linear in the inputs on which it depends."""
    active = dependent(nodes, directions)
    vanishing = active | {node for node in nodes if is_zero(node)}
    for node in nodes:
        if node in directions:
            continue
        if node not in active:
            if vanishes(node, vanishing):
                vanishing.add(node)
            continue
        positions = {k for k, arg in enumerate(node.args) if arg in active}
        # A sum of a linear and a constant term is affine, not linear.
        if not node.primitive.linear_in(positions) or any(
            node.args[k] not in vanishing for k in joint_positions(node, positions)
        ):
            return node
    return None


def vanishes(node: Node, zeros: set[Node]) -> bool:
    """Whether a node vanishes because some of its arguments, which are known to be zero, do."""
    positions = {k for k, arg in enumerate(node.args) if arg in zeros}
    return (
        bool(positions)
        and node.primitive.linear_in(positions)
        and joint_positions(node, positions) <= positions
    )


def is_zero(node: Node) -> bool:
    """Whether all elements of a node are known to be zero, as they are where there are none."""
    pending = [node]
    while pending:
        one = pending.pop()
        if one.size == 0 or p.scalar_value(one) == 0:
            continue
        if one.value is not None and one.size == 1 and not one.value.any():
            continue
        if one.primitive is not p.update:
            return False
        pending += one.args
    return True


def joint_positions(node: Node, positions: set[int]) -> set[int]:
    """All argument positions that belong to one linear form with `positions`."""
    alternatives = node.primitive.linear
    if node.primitive.joint is not None:
        return node.primitive.joint(frozenset(positions))
    if alternatives is None:
        return set(range(len(node.args)))
    return set(next(a for a in alternatives if positions <= set(a)))


def substitute(outputs: Sequence[Node], replacement: dict[Node, Node]) -> list[Node]:
    """The outputs, with nodes replaced wherever they are used."""
    new: dict[Node, Node] = dict(replacement)
    for node in reachable(outputs, stop=tuple(replacement)):
        if node in new:
            continue
        args = tuple(new[arg] for arg in node.args)
        new[node] = node if args == node.args else node.primitive(*args, **node.params)
    return [new[node] for node in outputs]
