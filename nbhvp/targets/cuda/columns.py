"""Matrices on a device whose columns are directions, or products with them: cut, joined and transposed there.

A product with many directions is a program for a block of them, whose last axis they are. Columns are cut
into blocks, of which the last is filled up with zeros, by one program, and the results joined by one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Node, Pool
from nbhvp.targets.cuda.arrays import DeviceArray

__all__ = ["cut", "joined", "transposed"]


def cut(device: Any, x: DeviceArray, block: int) -> list[DeviceArray]:
    """The columns of an array, its last axis, in blocks."""
    return _cut(device, x.shape, x.dtype, block)(x)


def joined(device: Any, blocks: Sequence[DeviceArray], count: int) -> DeviceArray:
    """The first columns of blocks as one array."""
    return _joined(device, len(blocks), blocks[0].shape, blocks[0].dtype, count)(*blocks)[0]


@functools.lru_cache(maxsize=64)
def transposed(device: Any, shape: tuple[int, int], dtype: np.dtype) -> Callable:
    """The transpose of a matrix."""
    x = p.input_node(Pool(), "x", shape, dtype)
    program = _program(device, [x], [p.transpose(x, axes=(1, 0))])
    return lambda array: program(array.reshape(shape))[0]


@functools.lru_cache(maxsize=64)
def _cut(device: Any, shape: tuple[int, ...], dtype: np.dtype, block: int) -> Any:
    x = p.input_node(Pool(), "x", shape, dtype)
    count, blocks = shape[-1], []
    for start in range(0, count, block):
        part = _columns(x, start, min(start + block, count))
        rest = block - part.shape[-1]
        if rest:
            part = p.concatenate(part, p.zeros(x.pool, (*shape[:-1], rest), dtype), axis=x.ndim - 1)
        blocks.append(part)
    return _program(device, [x], blocks)


@functools.lru_cache(maxsize=64)
def _joined(device: Any, number: int, shape: tuple[int, ...], dtype: np.dtype, count: int) -> Any:
    pool = Pool()
    blocks = [p.input_node(pool, f"x{k}", shape, dtype) for k in range(number)]
    found = p.concatenate(*blocks, axis=len(shape) - 1) if number > 1 else blocks[0]
    return _program(device, blocks, [_columns(found, 0, count)])


def _columns(x: Node, start: int, end: int) -> Node:
    first, size = (0,) * (x.ndim - 1), x.shape[:-1]
    return p.slice_(x, start=(*first, start), step=(1,) * x.ndim, size=(*size, end - start))


def _program(device: Any, inputs: Sequence[Node], outputs: Sequence[Node]) -> Any:
    from nbhvp.targets.cuda.program import Program  # which calls the functions above

    return Program(device, Graph(tuple(inputs), tuple(outputs)))
