"""Products of several directions at one point: which of them are computed together.

A product whose time goes into matrices times vectors reads each matrix once for all directions of a
block: the directions are the last axis, and such products become matrix products. One whose time
goes into matrix products already gains a little where a block of them is one call: the directions
are the first axis, each with its arrays together. All others are computed one at a time, since a
block of elementwise work leaves the caches that one direction stays in (measured: 2 to 4 times
slower for a stencil of 10^5 elements). Sweeps over a tape read its partials once for a block, and wait
less for each other's results, as long as the block's tangents stay in cache.

A block has a fixed number of directions, so that a product has at most one more program, and its
memory is bounded. What is left over is filled up with zeros if it is a large part of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbhvp.compile.lower import MULTIPLY, lower
from nbhvp.compile.pull import is_pulled
from nbhvp.graph.node import Graph, dependent

__all__ = ["Several", "Way", "choose", "in_blocks"]

LOADED, ELEMENT = 4e-10, 1e-10
"""Seconds of a matrix element that a product with a vector reads, and of any other element."""
WORTH = 3e-5
"""Seconds of one product from which it is worth to compile a program for several."""
MOST_BYTES = 1 << 29
"""Bytes of the values of a block."""
MOST_SWEPT = 16 << 20
"""Bytes that sweeps read beside their directions, from which a block of these is not in cache."""
TOGETHER, PART = 16, 512
"""Columns that are made contiguous at a time, and how many entries of each before the next."""


@dataclass(frozen=True)
class Way:
    """How directions are taken together: so many, along the first axis or along the last."""

    count: int
    leading: bool

    @property
    def padded_from(self) -> int:
        """How many directions are computed as a block: it is filled up with zeros."""
        return self.count if self.leading else self.count // 4 + 1


@dataclass(frozen=True, eq=False)
class Several:
    """A program for a block of directions."""

    program: Any
    way: Way


def choose(graph: Graph) -> Way | None:
    """The way for a product graph, whose last input is the direction; None for one at a time."""
    nodes = lower(graph, in_one_pass=False).nodes
    active = dependent(nodes, graph.inputs[-1:])
    vectors = matrices = other = sweeps = size = 0.0
    for node in nodes:
        if node not in active or not node.args:
            continue
        if node.primitive.kind == "bilinear":
            (_, m, n), k = node.shape, node.args[0].shape[2]
            if min(m, n) == 1:
                vectors += node.size * k * LOADED
            else:
                matrices += node.size * k * MULTIPLY
        elif node.primitive.is_elementwise or node.primitive.reduction:
            other += max(node.size, *(arg.size for arg in node.args)) * ELEMENT
        elif not is_pulled(node):
            sweeps += sum(arg.size for arg in node.args if arg not in active) * LOADED
        size += node.size * node.dtype.itemsize
    if vectors + matrices + other + sweeps < WORTH or max(vectors, matrices, sweeps) < other:
        return None
    if sweeps > max(vectors, matrices):
        in_cache = sweeps / LOADED * 8 <= MOST_SWEPT
        return Way(8, leading=False) if in_cache else None
    count = 8 if matrices > vectors else 32
    while count > 8 and count * size > MOST_BYTES:
        count //= 2
    return Way(count, leading=matrices > vectors)


def in_blocks(
    one: Callable, several: Several | None, cold, v: np.ndarray, shape: tuple[int, ...], dtype
) -> np.ndarray:
    """The products with all directions along the last axis of v, each of a shape and dtype.

    `one` is the product with a direction; `cold` are the inputs of `several` but the directions.
    """
    if several is None:
        return _rows(one, None, v, shape, dtype)
    many, way = several.program.bind(*cold), several.way
    if way.leading:
        return _rows(one, (many, way.count), v, shape, dtype)
    count = v.shape[-1]
    cut = count - count % way.count
    if count - cut >= way.padded_from:
        cut = count
    if cut == count == way.count:
        return many(np.asarray(v, order="C"))
    out = np.empty((*shape, count), dtype)
    for a in range(0, cut, way.count):
        block = v[..., a : a + way.count]
        width = block.shape[-1]
        directions = np.zeros((*v.shape[:-1], way.count), v.dtype)
        directions[..., :width] = block
        out[..., a : a + width] = many(directions)[..., :width]
    if cut < count:
        out[..., cut:] = _rows(one, None, v[..., cut:], shape, dtype)
    return out


def _rows(one: Callable, several: tuple | None, v: np.ndarray, shape, dtype) -> np.ndarray:
    """Products of directions that are made contiguous; the result is in Fortran's order."""
    count = v.shape[-1]
    out = np.empty((count, *shape), dtype)
    many, block = several or (None, count + 1)
    buffer = np.empty((min(count, TOGETHER), *v.shape[:-1]), v.dtype)
    for start in range(0, count, TOGETHER):
        rows = _transposed(v[..., start : start + TOGETHER], buffer)
        at = 0
        while at < len(rows):
            if at + block <= len(rows):
                many(rows[at : at + block], out[start + at : start + at + block])
                at += block
            else:
                one(rows[at, ...], out[start + at, ...])
                at += 1
    return np.moveaxis(out, 0, -1)


def _transposed(v: np.ndarray, buffer: np.ndarray) -> np.ndarray:
    """The last axis first, in C order: a copy in a buffer, unless it lies so already."""
    rows = np.moveaxis(v, -1, 0)
    if rows.flags.c_contiguous:
        return rows
    out = buffer[: len(rows)]
    if rows.ndim == 1:
        out[...] = rows
    # By parts: what is read for one row is still in the cache for the next.
    for a in range(0, rows.shape[1] if rows.ndim > 1 else 0, PART):
        out[:, a : a + PART] = rows[:, a : a + PART]
    return out
