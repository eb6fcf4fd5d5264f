"""Checkpoints: of a long recurrence every c-th carry is kept, and the steps between are computed again.

A product needs the values of all steps, backwards. T steps in q segments of c = T / q become a loop of q
steps, each of which is a loop of c steps (`scan`). Its derivatives keep what crosses from segment to
segment; within one, a product computes the values of c steps again, uses them and forgets them:

    q * (bytes of a carry)  +  c * (bytes of a step)   instead of   T * (bytes of a step),

least where c is about the square root of T. Of the lengths for which that is little enough the shortest one is
taken that fills the first cache, in which values then stay. Where there is none, segments have segments of
their own.
A program that keeps no state needs the values of all steps as well, and new memory is dear: there segments
have about as many steps as there are segments.
(Griewank and Walther, "Algorithm 799: revolve", 2000, need the fewest steps again for a given number of
checkpoints; here each step of a product is computed again once for each level.)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, Pool
from nbhvp.graph.table.scan import Body, collected, final, following, scan, with_rows
from nbhvp.plan.costs import CPU

__all__ = ["bounded", "brief"]

LARGE = CPU.most // 4
"""Bytes of the carries of all steps, beyond which a program that keeps no state computes steps again."""


def bounded(graph: Graph, memory: int) -> tuple[Graph, dict[Node, tuple[int, ...]]]:
    """The same graph, with loops that keep at most so many bytes for a product.

    Also the lengths of segments, for each recurrence that has some.
    """
    loops = [node for node in graph.nodes if _is_loop(node)]
    sizes = {node: _bytes_of_step(node.primitive.body) * node.params["length"] for node in loops}
    total = sum(sizes.values())
    if total <= memory:
        return graph, {}
    lengths = {
        node: _segments(node.primitive.body, node.params["length"], memory * sizes[node] // total)
        for node in loops
    }
    return _segmented(graph, lengths), {node: some for node, some in lengths.items() if some}


def brief(graph: Graph) -> Graph:
    """The same graph for programs that keep no state: long loops keep some carries."""
    lengths: dict[Node, tuple[int, ...]] = {
        node: (_even(node.params["length"]),)
        for node in graph.nodes
        if _is_loop(node) and node.size * node.dtype.itemsize > LARGE
    }
    return _segmented(graph, lengths) if lengths else graph


def _even(length: int) -> int:
    """About the square root of a length, which it is a multiple of if there is one near."""
    root = math.isqrt(length)
    divisors = [k for k in range(root // 2 + 1, 2 * root) if length % k == 0]
    return min(divisors, key=lambda k: abs(math.log(k / root)), default=root)


def _segmented(graph: Graph, lengths: dict[Node, tuple[int, ...]]) -> Graph:
    """A graph with recurrences by segments, where these have lengths."""
    users: dict[Node, list[Node]] = {node: [] for node in lengths}
    for user in graph.nodes:
        for node in dict.fromkeys(user.args):
            if node in users:
                users[node].append(user)

    def made(node: Node, args: Sequence[Node]) -> Node | None:
        segments = lengths.get(node)
        return _rows(node, args, segments, users[node]) if segments else None

    return with_rows(graph, made)


def _is_loop(node: Node) -> bool:
    body = node.primitive.body
    return body is not None and body.order == 0 and not body.reverse


def _segments(body: Body, length: int, memory: int) -> tuple[int, ...]:
    """The steps of a segment, and of segments within these; none where all is kept."""
    of_step, of_carry = _bytes_of_step(body), _bytes_of_carry(body)
    if length * of_step <= memory:
        return ()
    least = max(1, round((length * of_carry / of_step) ** 0.5))
    near = max(1, min(CPU.l1 // of_step, 2 * least - 1))
    for steps in (*range(near, 2 * least), *range(near - 1, 0, -1)):
        count, left = divmod(length, steps)
        if count * of_carry + (steps + left) * of_step <= memory:
            return (steps,)
    kept = memory // (2 * of_carry)
    if kept < 2:
        return (least,)
    steps = -(-length // kept)
    return (steps, *_segments(body, steps, memory - kept * of_carry))


def _bytes_of_carry(body: Body) -> int:
    """Of the carry, its tangent and its adjoint."""
    return 3 * sum(node.size * node.dtype.itemsize for node in body.graph.inputs[: body.carries])


def _bytes_of_step(body: Body) -> int:
    """What a point keeps of each step for products with the Hessian, and what these write."""
    return body.known(("bytes of a step",), lambda: _kept(body, 3) - _kept(body, 2))


def _kept(body: Body, length: int) -> int:
    """The bytes of so many steps: the state, and the rows of tangents."""
    from nbhvp.plan.splitting.split import (
        split,
    )  # with all that plans, which `brief` needs nothing of

    pool, start, args = Pool(), 0, []
    shapes = [
        (length, *node.shape) if body.carries <= k < body.rest else node.shape
        for k, node in enumerate(body.graph.inputs)
    ]
    sizes = [functools.reduce(int.__mul__, shape, 1) for shape in shapes]
    floats = [node.dtype.kind == "f" for node in body.graph.inputs]
    x, v = (p.input_node(pool, name, (sum(sizes),), body.dtype) for name in "xv")
    for node, shape, size, is_float in zip(body.graph.inputs, shapes, sizes, floats, strict=True):
        if is_float:
            part = p.slice_(x, start=(start,), step=(1,), size=(size,))
            args.append(p.cast(p.reshape(part, shape=shape), dtype=node.dtype))
        else:
            args.append(p.input_node(pool, f"given{start}", shape, node.dtype))
        start += size
    z = scan(body, length, *args)
    product = derive.hvp(p.sum_(p.multiply(z, z), axes=(0, 1)), x, v)
    inputs = [arg for arg in args if arg.primitive is p.INPUT]
    state, _ = split(Graph((x, v, *inputs), (product,)), v)
    rows = (length + 1) * body.width * body.dtype.itemsize
    return rows + sum(node.size * node.dtype.itemsize for node in state)


# Segments.


def _rows(z: Node, args: Sequence[Node], segments: tuple[int, ...], users: list[Node]) -> Node:
    """The rows of a recurrence by segments: those that are read."""
    body, length = z.primitive.body, z.params["length"]
    read = frozenset(
        k
        for k, node in enumerate(body.graph.outputs)
        if k >= body.carries or not all(_is_last(user, body, k, length) for user in users)
    )
    last, every = _run(body, length, args, segments, read)
    whole = p.zeros(z.pool, z.shape, z.dtype)
    for k, node in enumerate(body.graph.outputs):
        put = functools.partial(_put, column=body.columns[k], width=node.size)
        if k < body.carries:
            whole = put(put(whole, args[k], 0), last[k], length)
        if k in every:
            whole = put(whole, every[k], int(k < body.carries))
    return whole


def _put(whole: Node, values: Node, row: int, column: int, width: int) -> Node:
    values = p.reshape(values, shape=(values.size // max(1, width), width))
    return p.update(whole, values, start=(row, column), step=(1, 1))


def _is_last(user: Node, body: Body, k: int, length: int) -> bool:
    """Whether of output k nothing is read, or the last row alone."""
    if user.primitive is not p.slice_:
        return False
    (row, column), (rows, width) = user.params["start"], user.params["size"]
    is_beside = column + width <= body.columns[k] or column >= body.columns[k + 1]
    return is_beside or (row, rows) == (length, 1)


def _run(
    body: Body, length: int, args: Sequence[Node], segments: tuple[int, ...], read: frozenset[int]
) -> tuple[list[Node], dict[int, Node]]:
    """The carry after all steps, and some outputs in each."""
    n, end = body.carries, body.rest
    if not segments:
        z = scan(body, length, *args)
        return final(z), {k: following(z, k) if k < n else collected(z, k - n) for k in read}
    steps = segments[0]
    count, left = divmod(length, steps)
    outer = body.known(("segments", segments, read), lambda: _outer(body, segments, read))
    along = [_part(arg, 0, count * steps) for arg in args[n:end]]
    cut = [p.reshape(arg, shape=(count, steps, *arg.shape[1:])) for arg in along]
    z = scan(outer, count, *args[:n], *cut, *args[end:])
    last, rows = final(z), {}
    for place, k in enumerate(sorted(read)):
        every = collected(z, place)
        rows[k] = p.reshape(every, shape=(count * steps, *every.shape[2:]))
    if left:
        along = [_part(arg, count * steps, left) for arg in args[n:end]]
        last, others = _run(body, left, [*last, *along, *args[end:]], (), read)
        rows = {k: p.concatenate(one, others[k], axis=0) for k, one in rows.items()}
    return last, rows


def _part(array: Node, start: int, count: int) -> Node:
    rest = array.shape[1:]
    first = (start, *(0,) * len(rest))
    return p.slice_(array, start=first, step=(1,) * array.ndim, size=(count, *rest))


def _outer(body: Body, segments: tuple[int, ...], read: frozenset[int]) -> Body:
    """One segment as a step."""
    pool, inputs = Pool(), []
    for k, node in enumerate(body.graph.inputs):
        shape = (segments[0], *node.shape) if body.carries <= k < body.rest else node.shape
        inputs.append(p.input_node(pool, node.params["name"], shape, node.dtype))
    last, rows = _run(body, segments[0], inputs, segments[1:], read)
    outputs = (*last, *(rows[k] for k in sorted(read)))
    return Body(Graph(tuple(inputs), outputs), body.carries, body.slices, is_repeated=True)
