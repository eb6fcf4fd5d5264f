"""Sums on a Dask cluster.

Each worker has a `Site`, a Dask actor that holds its batches, with their operators at the last x. The
client calls a few sites, each of these calls a few others, and so on: x and v spread, and partial sums come
back, over a tree of sites with neighbouring batches. Calls of actors do not pass through Dask's scheduling,
which would take ten milliseconds for each product. What actors do not have is done here: errors come back
as values, so that any other failure means a lost worker, after which all sites are made anew.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from nbhvp.sums import tree
from nbhvp.sums.executors import spans
from nbhvp.sums.work import Parcel, Task

__all__ = ["Cluster"]

TRIES = 5
"""How often a task is sent out, if workers are lost."""
PAUSE = 0.2
"""Seconds before the second try; they double with each."""
PATIENCE = 5
"""Seconds after which we look whether all workers live."""
FAN = 8
"""Sites that one site, or the client, calls."""


class Failure(Exception):
    """An error of the user's function, or of making its batches."""


class Site:
    """The batches of one worker: a parcel for each of its threads."""

    def __init__(self, content: bytes):
        self._content = content
        self._x: tuple[int, bytes, Any] = 0, b"", None
        self._stopped = 0

    def open(self, below: list[Any]) -> Failure | None:
        """Unpickle the parcels; call the sites below too, whose batches follow."""
        try:
            self._parcels: list[Parcel] = pickle.loads(self._content)
        except Exception as error:
            return Failure(_sendable(error))
        self._content, self._below = b"", below
        self._threads = ThreadPoolExecutor(len(self._parcels), "nbhvp-site")
        return None

    async def run(self, number: int, task: Task) -> list[tree.Part] | Failure:
        """The sums over the batches here and below; a task without x is at the last one."""
        below = [site.run(number, task) for site in self._below]
        if task.x is not None and number > self._x[0]:
            self._x = number, task.key, task.x
        _, key, x = self._x
        assert key == task.key, "x comes with the first task of its key"
        try:
            found = await self._here(number, replace(task, x=x))
        except Exception as error:
            return Failure(_sendable(error))
        for site in below:
            more = await site
            if isinstance(more, Failure):
                return more
            found += more
        try:
            return tree.parts(found)
        except Exception as error:  # of results of different shapes
            return Failure(_sendable(error))

    async def _here(self, number: int, task: Task) -> list[tree.Part]:
        def progress(done: int) -> None:
            if number <= self._stopped:
                raise CancelledError

        start = asyncio.get_running_loop().run_in_executor
        runs = [start(self._threads, one.run, task, progress) for one in self._parcels]
        return [part for found in await asyncio.gather(*runs) for part in found]

    async def stop(self, number: int) -> None:
        """End the run of this number here and below."""
        self._stopped = max(number, self._stopped)
        for site in self._below:
            site.stop(number)


def _sendable(error: Exception) -> Exception:
    """An error that can be pickled, with a note of where it was raised."""
    places = "".join(traceback.format_tb(error.__traceback__, limit=-3)).rstrip()
    error.__traceback__ = None
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"On a worker:\n{places}")
    return error


class Cluster:
    """A `dask.distributed.Client`.

    Batches are sent once, a new x is sent once, v and partial sums with each product. Workers that join
    later are not used, until one is lost.
    """

    def __init__(self, whole: Parcel, client: Any, progress: Callable | None):
        if client.asynchronous:
            raise TypeError("needed a synchronous Client, got one with asynchronous=True")
        self._whole, self._client, self._progress = whole, client, progress
        self._heads: list[tuple[Any, int]] = []
        """The sites to call, with the numbers of batches up to the end of those that they answer for."""
        self._futures: list[Any] = []
        """Of all sites."""
        self._key = b""
        """Of the x that all sites have."""
        self._number = 0
        self._lock = threading.Lock()

    def run(self, task: Task) -> tuple | None:
        if self._client.status == "closed":
            raise RuntimeError("the Client of this sum is closed: make a sum with one that is open")
        with self._lock:
            return tree.total(self._tried(task))

    def _tried(self, task: Task) -> list[tree.Part]:
        for k in range(TRIES):
            try:
                self._heads = self._heads or self._settled()
                return self._run(task)
            except Failure as failure:
                raise failure.args[0] from None
            except Exception:
                if k == TRIES - 1:
                    raise
                self._heads, self._futures, self._key = [], [], b""
                time.sleep(PAUSE * 2**k)
        raise AssertionError("the last try returns or raises")

    def _run(self, task: Task) -> list[tree.Part]:
        self._number += 1
        sent = replace(task, x=None) if task.key == self._key else task
        calls = [site.run(self._number, sent) for site, _ in self._heads]
        found: list[tree.Part] = []
        try:
            for call, (_, end) in zip(calls, self._heads, strict=True):
                found += self._awaited(call)
                self._tell(end)
        except BaseException:
            self._key = b""
            for site, _ in self._heads:
                site.stop(self._number)
            raise
        self._key = task.key
        return found

    def _tell(self, done: int) -> None:
        if self._progress is not None:
            try:
                self._progress(done)
            except Exception as error:
                raise Failure(error) from None

    # The tree of sites.

    def _settled(self) -> list[tuple[Any, int]]:
        """Sites on all workers, joined to a tree: the first ones of it."""
        client, numbers = self._client, range(len(self._whole.batches))
        client.wait_for_workers(1)
        workers = client.nthreads()
        shares = zip(workers, spans(numbers, [*workers.values()]), strict=True)
        with client.as_current():
            ends, self._futures = [], []
            for address, span in shares:
                if span:
                    self._futures.append(self._site(address, span, workers[address]))
                    ends.append(span.stop)
            sites = [future.result() for future in self._futures]
            opening: list[Any] = []
            heads = _joined(list(zip(sites, ends, strict=True)), opening)
            for call in opening:
                self._awaited(call)
        return heads

    def _awaited(self, call: Any) -> Any:
        """The result of a call to a site; of some failures of workers Dask does not tell the call."""
        while True:
            try:
                found = call.result(timeout=PATIENCE)
            except TimeoutError:
                if any(future.status != "finished" for future in self._futures):
                    raise
            else:
                if isinstance(found, Failure):
                    raise found
                return found

    def _site(self, address: str, span: range, threads: int) -> Any:
        """A site that will be there, on this worker if it lives."""
        from numba import cloudpickle

        memory = self._whole.memory
        parcels = [
            self._whole.part(some, memory * len(some) // len(span))
            for some in spans(span, [1] * threads)
            if some
        ]
        content = cloudpickle.dumps(parcels)
        [data] = self._client.scatter([content], workers=[address], hash=False)
        return self._client.submit(
            Site, data, actor=True, workers=[address], allow_other_workers=True, pure=False
        )


def _joined(sites: Sequence[tuple[Any, int]], opening: list[Any]) -> list[tuple[Any, int]]:
    """The first sites of a tree of neighbouring ones, with the ends of what they answer for."""
    heads = []
    for span in spans(range(len(sites)), [1] * FAN):
        if span:
            first, *rest = sites[span.start : span.stop]
            below = _joined(rest, opening)
            opening.append(first[0].open([site for site, _ in below]))
            heads.append((first[0], below[-1][1] if below else first[1]))
    return heads
