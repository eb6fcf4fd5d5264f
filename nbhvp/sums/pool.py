"""Sums by an executor of `concurrent.futures`: threads, or processes of this machine.

A parcel goes to processes as a `Filed`: a file that each of them reads once, with large arrays in files of
their own, of which all processes share the memory. Large x and v go in files, too. Threads have the
parcels and the arrays themselves.
"""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import shutil
import tempfile
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nbhvp.sums import tree
from nbhvp.sums.batches import arguments
from nbhvp.sums.executors import spans
from nbhvp.sums.work import Parcel, Task

__all__ = ["Pool"]

SHARE = 2
"""Parcels for each worker: of more each takes longer to send, of fewer some workers wait longer."""
LARGE = 1 << 16
"""Bytes from which arrays go to other processes by files."""
OPEN = 64
"""Parcels that a process keeps open."""


class Pool:
    """An executor of `concurrent.futures`."""

    def __init__(self, whole: Parcel, executor: Executor, progress: Callable | None):
        workers = getattr(executor, "_max_workers", None) or os.cpu_count() or 1
        count = len(whole.batches)
        self._executor, self._progress = executor, progress
        self._in_files = not isinstance(executor, ThreadPoolExecutor)
        self._folder = Path(tempfile.mkdtemp(prefix="nbhvp-sum-"))
        self._end = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        pieces = [span for span in spans(range(count), SHARE * workers * [1]) if span]
        parcels = [whole.part(span, whole.memory * len(span) // count) for span in pieces]
        self._parcels: list[Any] = (
            [Filed(parcel, self._folder) for parcel in parcels] if self._in_files else parcels
        )
        self._ends = [span.stop for span in pieces]
        self._x: tuple[bytes, Any] = b"", None
        self._lock = threading.Lock()

    def run(self, task: Task) -> tuple | None:
        with self._lock:
            if task.key != self._x[0]:
                _remove(self._x[1])
                self._x = task.key, self._sent(task.x)
            v, stop = self._sent(task.v), self._folder / uuid.uuid4().hex
            task = replace(task, x=self._x[1], v=v)
            futures = [self._executor.submit(_run, one, task, stop) for one in self._parcels]
            try:
                return tree.total(self._results(futures))
            except BaseException:
                stop.touch()
                for future in futures:
                    future.cancel()
                raise
            finally:
                _remove(v)

    def _sent(self, array: Any) -> Any:
        return _saved(array, self._folder) if self._in_files else array

    def _results(self, futures: list) -> Iterator[tree.Part]:
        for future, end in zip(futures, self._ends, strict=True):
            yield from future.result()
            if self._progress is not None:
                self._progress(end)


def _run(given: Parcel | InFile, task: Task, stop: Path) -> list[tree.Part]:
    """The sum over the batches of a parcel, in any thread or process, until there is a file `stop`."""

    def progress(done: int) -> None:
        if stop.exists():
            raise CancelledError

    parcel = given.parcel() if isinstance(given, InFile) else given
    return parcel.run(replace(task, x=_opened(task.x), v=_opened(task.v)), progress)


# Parcels and arrays in files.


class Filed:
    """A parcel that other processes of this machine read from a file."""

    def __init__(self, parcel: Parcel, folder: Path):
        self._parcel, self._path = parcel, folder / f"{uuid.uuid4().hex}.parcel"

    def __reduce__(self) -> tuple:
        if not self._path.exists():
            folder, batches = self._path.parent, self._parcel.batches
            if isinstance(batches, list):
                batches = [_mapped(batch, lambda one: _saved(one, folder)) for batch in batches]
            from numba import cloudpickle

            # By value what is of a notebook or a script, which other processes have not run.
            self._path.write_bytes(cloudpickle.dumps(replace(self._parcel, batches=batches)))
        return InFile, (str(self._path),)


@dataclass(frozen=True)
class InFile:
    """The same in another process."""

    path: str

    def parcel(self) -> Parcel:
        with _opening:
            parcel = _known.get(self.path)
            if parcel is None:
                parcel = pickle.loads(Path(self.path).read_bytes())
                if isinstance(parcel.batches, list):
                    parcel.batches = [_mapped(batch, _opened) for batch in parcel.batches]
                _known[self.path] = parcel
            _known.move_to_end(self.path)
            while len(_known) > OPEN:
                _known.popitem(last=False)
        return parcel


_known: collections.OrderedDict[str, Parcel] = collections.OrderedDict()
"""The parcels that this process has read, the last used at the end."""
_opening = threading.Lock()


def _mapped(batch: Any, change: Callable) -> Any:
    """A batch with each of its arguments changed."""
    args, kwargs = arguments(batch)
    return {name: change(one) for name, one in kwargs.items()} or tuple(map(change, args))


@dataclass(frozen=True)
class Saved:
    """An array in a file."""

    path: str


def _saved(array: Any, folder: Path) -> Any:
    """A large array as a file; all else as it is."""
    if type(array) is not np.ndarray or array.nbytes < LARGE or array.dtype.hasobject:
        return array
    handle, path = tempfile.mkstemp(".npy", dir=folder)
    with os.fdopen(handle, "wb") as file:
        np.save(file, array)
    return Saved(path)


def _opened(given: Any) -> Any:
    if not isinstance(given, Saved):
        return given
    return np.load(given.path, mmap_mode="r").view(np.ndarray)


def _remove(sent: Any) -> None:
    """Remove the file of an array that was sent by one."""
    if isinstance(sent, Saved):
        with contextlib.suppress(OSError):
            os.unlink(sent.path)
