"""Dask's collections as sequences of batches: blocks of rows of arrays, items of bags.

A block is computed when it is needed. It is pickled as the graph that makes it, so workers read their own
data.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

__all__ = ["blocks"]


def blocks(collections: tuple) -> Sequence | Callable:
    """The blocks of arrays with equal chunks of rows; of a bag a function that iterates over its items."""
    for one in collections:
        if hasattr(one, "to_dask_array"):
            raise TypeError(
                f"needed dask arrays or one bag, got a {type(one).__name__}: "
                "give its .to_dask_array()"
            )
    if (
        len(collections) == 1
        and hasattr(collections[0], "npartitions")
        and not hasattr(collections[0], "chunks")
    ):
        return functools.partial(_items, collections[0])
    delayed = [_delayed(one) for one in collections]
    counts = sorted({len(some) for some in delayed})
    if len(counts) > 1:
        raise ValueError(f"needed dask arrays with the same chunks of rows, got {counts} of them")
    return Blocks(list(zip(*delayed, strict=True)))


def _items(bag: Any) -> Iterator:
    from dask import threaded

    for part in bag.to_delayed():
        yield from part.compute(scheduler=threaded.get)


def _delayed(collection: Any) -> list:
    if not hasattr(collection, "chunks"):
        raise TypeError(
            f"needed dask arrays or one bag, got a {type(collection).__name__} among several"
        )
    if any(count > 1 for count in collection.numblocks[1:]):
        raise ValueError(
            f"needed a dask array in chunks of rows alone, got {collection.numblocks} blocks: "
            "rechunk({0: ..., 1: -1}) puts each row into one"
        )
    return list(collection.to_delayed().reshape(-1))


class Blocks(Sequence):
    """Tuples of blocks, computed one by one."""

    def __init__(self, delayed: list[tuple]):
        self._delayed = delayed

    def __len__(self) -> int:
        return len(self._delayed)

    def __getitem__(self, k: Any) -> Any:
        import dask
        from dask import threaded

        # Named "threads", the scheduler of this process would warn of a client.
        arrays = dask.compute(*self._delayed[k], scheduler=threaded.get)
        for array in arrays:
            if isinstance(array, np.ndarray):
                array.flags.writeable = False
        return tuple(arrays)
