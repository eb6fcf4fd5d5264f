"""Who computes the parts of a sum: this process, an executor of `concurrent.futures`, a Dask cluster.

Each is an object with `run(task)`, which gives the sum over all batches. Neighbouring batches lie together
in parcels, and the sums of parcels are added in the order in which one process adds them (`tree`): so the
result has the same bits for each executor and any number of workers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np

from nbhvp.sums import tree
from nbhvp.sums.work import Parcel, Task, versions

__all__ = ["Alone", "runner", "spans"]

EVEN = 4
"""Bounds of spans are multiples of 2^k, of which a span has so many at least: then its sum has few parts."""


def runner(
    f: Callable,
    batches: Any,
    weights: np.ndarray | None,
    executor: Any,
    memory: int,
    progress: Callable | None,
) -> Any:
    """What runs the tasks of a sum."""
    whole = Parcel(f, None, batches, weights, memory, versions())
    if executor is None:
        return Alone(whole, progress)
    if callable(batches):
        raise TypeError(
            "an executor needs the batches as a sequence, whose parts can be sent out, "
            "as a list, nbhvp.chunks or dask arrays: got a function, or a dask bag"
        )
    client = getattr(executor, "_client", executor)  # of the Executor that a client gives
    if hasattr(client, "scatter") and hasattr(client, "submit"):
        from nbhvp.sums.cluster import Cluster

        return Cluster(whole, client, progress)
    if isinstance(executor, Executor):
        from nbhvp.sums.pool import Pool

        return Pool(whole, executor, progress)
    raise TypeError(
        "needed an executor of concurrent.futures, a dask.distributed.Client or None, "
        f"got a {type(executor).__name__}"
    )


class Alone:
    """This process."""

    def __init__(self, whole: Parcel, progress: Callable | None):
        self._whole, self._progress = whole, progress

    def run(self, task: Task) -> tuple | None:
        return tree.total(self._whole.run(task, self._progress))


def spans(numbers: range, shares: Sequence[int]) -> list[range]:
    """Neighbouring numbers for each share, of about its part of all."""
    whole, unit = sum(shares), 1
    while len(numbers) >= 2 * unit * EVEN * whole:
        unit *= 2
    units = -(-len(numbers) // unit)
    ends = (units * done // whole * unit for done in itertools.accumulate(shares, initial=0))
    return [numbers[a:b] for a, b in itertools.pairwise(ends)]
