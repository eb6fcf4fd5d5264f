"""Factorisations and solves of small real matrices, as kernels.

A call of LAPACK by way of Python takes 2 to 10 us, and more in a stack of matrices, which it takes one
by one; and it cuts a program in two, so that no compiled code can call it as one. Up to order `MOST`
the textbook's loops take less. They do what the primitives of `graph/table/matrices/linalg.py` say: matrices
lie in C order, the factor of LU is transposed with its pivots in one more row, rows are swapped for
the first of the largest pivots, as in LAPACK, and a matrix that is not positive definite, or a triangle
with a zero on its diagonal, gives NaN as a whole. Results agree with LAPACK's to rounding.

A kernel takes the matrices lo to hi of a stack; vectors are the columns of b, of which there are m.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nbhvp.graph.node import Node
from nbhvp.graph.table.matrices import linalg
from nbhvp.plan.costs import CPU
from nbhvp.plan.nests.text import KernelCall, Slots, kernel_text

__all__ = ["kernels_of"]

MOST = 16
"""The largest order: there the loops and LAPACK take about as long (measured)."""

CHOLESKY = """
for s in range(lo, hi):
    at, failed = s * n * n, 0.0
    for j in range(n):
        for i in range(j + 1, n):
            {z}[at + {j_i}] = 0.0
        d = {a}[at + j * n + j]
        for k in range(j):
            d = d - {z}[at + {j_k}] * {z}[at + {j_k}]
        failed = 1.0 if d <= 0.0 else failed
        r = math.sqrt(d)
        {z}[at + j * n + j] = r
        for i in range(j + 1, n):
            t = {a}[at + {i_j}]
            for k in range(j):
                t = t - {z}[at + {i_k}] * {z}[at + {j_k}]
            {z}[at + {i_j}] = t / r
    if failed > 0.0:
        for k in range(n * n):
            {z}[at + k] = math.inf - math.inf
"""

TRIANGULAR = """
for s in range(lo, hi):
    at, start, failed = s % stack * n * n, s * n * m, 0.0
    for k in range(n):
        i = {order}
        for c in range(m):
            {z}[start + i * m + c] = {b}[start + i * m + c]
        for l in range(k):
            j = {inner}
            x = {a}[at + {i_j}]
            for c in range(m):
                {z}[start + i * m + c] = {z}[start + i * m + c] - x * {z}[start + j * m + c]
        d = {diagonal}
        failed = failed if d != 0.0 else 1.0
        for c in range(m):
            {z}[start + i * m + c] = {z}[start + i * m + c] / d
    if failed > 0.0:
        for k in range(n * m):
            {z}[start + k] = math.inf - math.inf
"""

LU = """
for s in range(lo, hi):
    at, start = s * n * (n + 1), s * n * n
    for i in range(n):
        for j in range(n):
            {z}[at + j * n + i] = {a}[start + i * n + j]
    for k in range(n):
        p = k
        for i in range(k + 1, n):
            if abs({z}[at + k * n + i]) > abs({z}[at + k * n + p]):
                p = i
        {z}[at + n * n + k] = cast(p, "f8")
        for j in range(n):
            t = {z}[at + j * n + k]
            {z}[at + j * n + k] = {z}[at + j * n + p]
            {z}[at + j * n + p] = t
        d = {z}[at + k * n + k]
        if d != 0.0:
            for i in range(k + 1, n):
                {z}[at + k * n + i] = {z}[at + k * n + i] / d
        for j in range(k + 1, n):
            x = {z}[at + j * n + k]
            for i in range(k + 1, n):
                {z}[at + j * n + i] = {z}[at + j * n + i] - {z}[at + k * n + i] * x
"""

# With P A = L U, so that A^-1 b = U^-1 L^-1 P b, and A^-T b = P^T L^-T U^-T b.
SOLVE = """
for s in range(lo, hi):
    at, start = s % stack * n * (n + 1), s * n * m
    for k in range(n * m):
        {z}[start + k] = {b}[start + k]
{steps}
"""

_SWAP = """
    for k in range({first}, {last}, {by}):
        p = cast({a}[at + n * n + k], "i8")
        for c in range(m):
            t = {z}[start + k * m + c]
            {z}[start + k * m + c] = {z}[start + p * m + c]
            {z}[start + p * m + c] = t
"""

_SUBSTITUTE = """
    for k in range(n):
        i = {order}
        for l in range(k):
            j = {inner}
            x = {a}[at + {i_j}]
            for c in range(m):
                {z}[start + i * m + c] = {z}[start + i * m + c] - x * {z}[start + j * m + c]
        for c in range(m):
            {z}[start + i * m + c] = {z}[start + i * m + c] / {diagonal}
"""

LOGDET = """
for s in range(lo, hi):
    at, t = s * n * (n + 1), 0.0
    for i in range(n):
        t = t + log(abs({a}[at + i * n + i]))
    {z}[s] = t
"""

FORWARD, BACKWARD = ("k", "l"), ("n - 1 - k", "n - 1 - l")


def _cholesky(node: Node, slots: Slots) -> str:
    """Of the triangle that the function looks at."""
    names = {"a": slots.read(node.args[0], 0), "z": slots.write(node)}
    for i, j in ("ji", "jk", "ij", "ik"):
        first, second = (i, j) if node.params["lower"] else (j, i)
        names[f"{i}_{j}"] = f"{first} * n + {second}"
    return CHOLESKY.format(**names)


def _triangular(node: Node, slots: Slots) -> str:
    lower, transposed = node.params["lower"], node.params["transposed"]
    order, inner = FORWARD if lower != transposed else BACKWARD
    a = slots.read(node.args[0], 0)
    return TRIANGULAR.format(
        z=slots.write(node),
        a=a,
        b=slots.read(node.args[1], 0),
        order=order,
        inner=inner,
        i_j="j * n + i" if transposed else "i * n + j",
        diagonal="1.0" if node.params["unit"] else f"{a}[at + i * n + i]",
    )


def _lu(node: Node, slots: Slots) -> str:
    return LU.format(a=slots.read(node.args[0], 0), z=slots.write(node))


def _solve(node: Node, slots: Slots) -> str:
    names = {"a": slots.read(node.args[0], 0), "z": slots.write(node)}
    # The factor is transposed in memory, so element (i, j) lies at j n + i.
    at, across, diagonal = "j * n + i", "i * n + j", f"{names['a']}[at + i * n + i]"
    swap = dict(first="0", last="n", by="1")
    parts = [(_SUBSTITUTE, FORWARD, at, "1.0"), (_SUBSTITUTE, BACKWARD, at, diagonal)]
    if node.params["transposed"]:
        swap = dict(first="n - 1", last="-1", by="-1")
        parts = [
            (_SUBSTITUTE, FORWARD, across, diagonal),
            (_SUBSTITUTE, BACKWARD, across, "1.0"),
        ]
    steps = [
        text.format(**names, order=order, inner=inner, i_j=place, diagonal=last)
        for text, (order, inner), place, last in parts
    ]
    swaps = _SWAP.format(**names, **swap)
    steps = [*steps, swaps] if node.params["transposed"] else [swaps, *steps]
    text = "".join(step.rstrip("\n") for step in steps).lstrip("\n")
    return SOLVE.format(**names, b=slots.read(node.args[1], 0), steps=text)


def _logdet(node: Node, slots: Slots) -> str:
    return LOGDET.format(a=slots.read(node.args[0], 0), z=slots.write(node))


TEXTS: dict = {
    linalg.cholesky: _cholesky,
    linalg.triangular: _triangular,
    linalg.lu: _lu,
    linalg.solve: _solve,
    linalg.logdet: _logdet,
}


def kernels_of(node: Node) -> Callable[[Node], list[KernelCall]] | None:
    """What gives the kernels of a node; None for what is left to LAPACK."""
    if node.primitive not in TEXTS or any(one.dtype != np.float64 for one in (node, *node.args)):
        return None
    n, columns, _, count = _sizes(node)
    return _kernels if 0 < n <= MOST and 0 < columns <= 4 * MOST and count > 0 else None


def _sizes(node: Node) -> tuple[int, int, int, int]:
    """The order, the columns of b, the matrices of the stack, and how often these are taken."""
    matrix = node.args[0]
    n, stack = matrix.shape[-1], math.prod(matrix.shape[:-2])
    if "axis" not in node.params:
        return n, 1, stack, stack
    axis = node.params["axis"]
    return n, math.prod(node.shape[axis + 1 :]), stack, math.prod(node.shape[:axis])


def _kernels(node: Node) -> list[KernelCall]:
    slots, (n, columns, stack, count) = Slots(), _sizes(node)
    sizes = {"n": n} | ({"m": columns, "stack": stack} if "axis" in node.params else {})
    lines = [f"{name} = {slots.integer(name, size)}" for name, size in sizes.items()]
    body = TEXTS[node.primitive](node, slots).strip("\n").split("\n")
    operations = n * n * max(n, columns)
    block, seconds = max(1, CPU.block_size // operations), count * operations * CPU.scalar
    source = kernel_text("matrices", slots, [*lines, *body])
    return [
        KernelCall(source, slots.contents, count, block, (node,), seconds, has_short_loops=True)
    ]
