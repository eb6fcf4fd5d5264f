"""Who computes the parts of a sum: this process, an executor of `concurrent.futures`, a Dask cluster.

Each is an object with `run(task)`, which gives the sum over all batches. Batches lie in groups of 2^k
neighbours, each group is one task, and the sums of groups are added in the order in which one process
adds them (`tree`): so the result has the same bits for each executor and any number of workers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import uuid
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nbhvp.sums.tree import added, tree_sum
from nbhvp.sums.work import LARGE, Filed, Parcel, Saved, Task, forget, run, saved, versions

__all__ = ["Alone", "Cluster", "Pool", "runner"]

SHARE, SHARE_OF_CLUSTERS = 2, 1
"""Groups for each worker at least: of more each takes longer to send, of fewer some workers wait longer."""
TRIES = 3
"""How often the groups of lost workers are sent out again."""
GATHERED = 8
"""Sums of groups that a cluster sends back; of more it adds pairs itself."""


def runner(
    f: Callable,
    batches: Any,
    weights: np.ndarray | None,
    executor: Any,
    memory: int,
    progress: Callable | None,
) -> Any:
    """What runs the tasks of a sum."""
    if executor is None:
        return Alone(_parcel(f, None, batches, weights, memory), progress)
    if callable(batches) or not isinstance(batches, Sequence):
        raise TypeError(
            "an executor needs the batches as a sequence, whose parts can be sent out: "
            f"got a {type(batches).__name__}"
        )
    if isinstance(executor, Executor):
        return Pool(f, batches, weights, executor, memory, progress)
    if hasattr(executor, "scatter") and hasattr(executor, "submit"):
        return Cluster(f, batches, weights, executor, memory, progress)
    raise TypeError(
        "needed an executor of concurrent.futures, a dask.distributed.Client or None, "
        f"got a {type(executor).__name__}"
    )


def _parcel(f, numbers, batches, weights, memory) -> Parcel:
    return Parcel(uuid.uuid4().hex, f, numbers, batches, weights, memory, versions())


def _groups(count: int, least: int) -> list[range]:
    """Neighbouring numbers, 2^k in each group but the last."""
    size = 1
    while count >= 2 * size * least:
        size *= 2
    return [range(k, min(k + size, count)) for k in range(0, count, size)]


def _parcels(f, batches, weights, memory: int, least: int) -> list[Parcel]:
    """A parcel for each group, of which there are so many at least, where there are batches for them.

    The bound of memory is shared by the size of groups.
    """
    groups = _groups(len(batches), least)
    return [
        _parcel(
            f,
            group,
            [batches[k] for k in group]
            if isinstance(batches, list | tuple)
            else Part(batches, group),
            None if weights is None else weights[group.start : group.stop],
            memory * len(group) // len(batches),
        )
        for group in groups
    ]


class Part(Sequence):
    """Some neighbouring items of a sequence."""

    def __init__(self, whole: Sequence, places: range):
        self._whole, self._places = whole, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, k: Any) -> Any:
        return self._whole[self._places[k]]


class Alone:
    """This process."""

    def __init__(self, parcel: Parcel, progress: Callable | None):
        self._parcel, self._progress = parcel, progress

    def run(self, task: Task) -> tuple | None:
        return self._parcel.run(task, self._progress)


class Pool:
    """An executor of `concurrent.futures`: threads, or processes of this machine.

    Data, and large x and v, go to processes by files, which they map into memory: once, however many
    processes there are.
    """

    def __init__(self, f, batches, weights, executor: Executor, memory: int, progress):
        workers = getattr(executor, "_max_workers", None) or os.cpu_count() or 1
        self._executor, self._progress = executor, progress
        self._folder = Path(tempfile.mkdtemp(prefix="nbhvp-sum-"))
        self._parcels = [
            Filed(parcel, self._folder)
            for parcel in _parcels(f, batches, weights, memory, SHARE * workers)
        ]
        tokens = [parcel.token for parcel in self._parcels]
        self._x: tuple[bytes, Any] = b"", None
        self._lock = threading.Lock()
        self._end = weakref.finalize(self, _clear, self._folder, tokens)

    def run(self, task: Task) -> tuple | None:
        with self._lock:
            return self._run(task)

    def _run(self, task: Task) -> tuple | None:
        if task.key != self._x[0]:
            _removed(self._x[1])
            self._x = task.key, saved(task.x, self._folder)
        v = saved(task.v, self._folder)
        sent = replace(task, x=self._x[1], v=v)
        futures = [self._executor.submit(run, parcel, sent) for parcel in self._parcels]
        try:
            return tree_sum(self._results(futures))
        finally:
            for future in futures:
                future.cancel()
            _removed(v)

    def _results(self, futures: list):
        for done, future in enumerate(futures, start=1):
            yield _writeable(future.result())
            if self._progress is not None:
                self._progress(done)


def _removed(sent: Any) -> None:
    """Remove the file of an array that was sent by one."""
    if isinstance(sent, Saved):
        with contextlib.suppress(OSError):
            os.unlink(sent.path)


def _clear(folder: Path, tokens: list[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for token in tokens:
        forget(token)


class Cluster:
    """A `dask.distributed.Client`.

    Batches are sent once and stay on their workers, with the operators at the last x; a new x is sent once,
    v and the sums of groups with each product. Where a worker is lost, its groups are sent out again.
    """

    def __init__(self, f, batches, weights, client: Any, memory: int, progress):
        workers = max(1, len(client.scheduler_info()["workers"]))
        self._client, self._progress = client, progress
        self._parcels = _parcels(f, batches, weights, memory, SHARE_OF_CLUSTERS * workers)
        self._there = [self._sent(parcel) for parcel in self._parcels]
        self._x: tuple[bytes, Any] = b"", None
        self._lock = threading.Lock()

    def _sent(self, parcel: Parcel) -> Any:
        return self._client.scatter(parcel, hash=False)

    def _array(self, array: Any) -> Any:
        """An array for all workers: a large one is sent once to each."""
        if array is None or array.nbytes < LARGE:
            return array
        return self._client.scatter(array, broadcast=True, hash=False)

    def run(self, task: Task) -> tuple | None:
        with self._lock:
            return self._tried(task)

    def _tried(self, task: Task) -> tuple | None:
        from distributed import KilledWorker

        for left in reversed(range(TRIES)):
            try:
                return self._run(task)
            except (CancelledError, KilledWorker):
                if not left:
                    raise
                # Data that were sent are lost with their worker.
                self._there = [self._sent(parcel) for parcel in self._parcels]
                self._x = b"", None
        raise AssertionError("the last try returns or raises")

    def _run(self, task: Task) -> tuple | None:
        if task.key != self._x[0]:
            self._x = task.key, self._array(task.x)
        x, v = self._x[1], self._array(task.v)
        submit = self._client.submit
        futures = [
            submit(_run, parcel, replace(task, x=None, v=None), x, v, pure=False)
            for parcel in self._there
        ]
        every = list(futures)
        try:
            while len(futures) > GATHERED:
                pairs = zip(futures[::2], futures[1::2], strict=False)
                added = [submit(_added, a, b, pure=False) for a, b in pairs]
                futures = added + futures[len(added) * 2 :]
                every += added
            return tree_sum(map(_writeable, self._client.gather(futures)))
        except BaseException:
            self._client.cancel(every)
            raise


def _writeable(result: tuple | None) -> tuple | None:
    """A result whose arrays may be added to."""
    if result is None:
        return None
    return tuple(one if not np.ndim(one) or one.flags.writeable else one.copy() for one in result)


def _run(parcel: Parcel, task: Task, x: Any, v: Any) -> tuple | None:
    return run(parcel, replace(task, x=x, v=v))


def _added(a: tuple | None, b: tuple | None) -> tuple | None:
    return added(_writeable(a), b)
