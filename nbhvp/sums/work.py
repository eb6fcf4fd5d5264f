"""The work of a sum in one process: values, gradients and products of some of its batches.

Operators at the last x are kept, of as many batches as fit into a bound of memory; those of the others
are made again for each product. Which are kept depends on the batches and on the bound alone.

A `Parcel` holds a function and some batches. It is pickled by value, for clusters, or as a `Filed`, which
is a file on this machine that each process opens once.
"""

from __future__ import annotations

import collections
import os
import pickle
import platform
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nbhvp.function import Function
from nbhvp.models import Fisher
from nbhvp.sums.batches import arguments, prefetched
from nbhvp.sums.tree import tree_sum
from nbhvp.version import __version__

__all__ = ["Filed", "Parcel", "Task", "run", "versions"]

LARGE = 1 << 16
"""Bytes from which arrays go to other processes of this machine by files."""
OPEN = 64
"""Parcels that a process keeps open."""


@dataclass(frozen=True)
class Task:
    """A quantity of each batch at x: "value", "value_and_grad", or with v "product", or "once".

    The operators of a "product" are kept for the next one with the same key.
    """

    kind: str
    x: Any
    key: bytes
    """Of x, and of an operator."""
    v: Any = None
    factors: np.ndarray | None = None
    """Of each batch of the whole sum; those with 0 are left out."""
    seed: int | None = None
    """Of labels that are drawn: the same in all products of an operator, whoever computes them."""


@dataclass(eq=False)
class Parcel:
    """A function and some batches of data, with their numbers in the whole sum and their weights."""

    token: str
    f: Callable
    numbers: range | None
    """None for all, of which the number may be unknown."""
    batches: Any
    """A sequence in the order of the numbers, or a function that makes an iterable."""
    weights: np.ndarray | None
    memory: int
    versions: tuple
    operators: dict[int, Any] = field(default_factory=dict)
    """Those that are kept, by place."""
    key: bytes = b""
    is_full: bool = False
    """Whether an operator was met that does not fit."""
    lock: Any = field(default_factory=threading.RLock)

    def __reduce__(self) -> tuple:
        parts = self.token, self.f, self.numbers, self.batches, self.weights, self.memory
        return Parcel, (*parts, self.versions)

    def run(self, task: Task, progress: Callable | None = None) -> tuple | None:
        """The sum over these batches."""
        with self.lock:
            if task.kind == "product" and task.key != self.key:
                self.operators, self.key, self.is_full = {}, task.key, False
            return tree_sum(self._terms(task, progress))

    def _terms(self, task: Task, progress: Callable | None) -> Iterator[tuple | None]:
        work = _KINDS[task.kind]
        factors = self._factors(task)
        for k, batch in self._batches(task, factors):
            if factors is None:
                yield work(self, task, k, batch)
            elif factors[k]:
                yield tuple(factors[k] * one for one in work(self, task, k, batch))
            else:
                yield None
            if progress is not None:
                progress(k + 1)

    def _factors(self, task: Task) -> np.ndarray | None:
        """The factors of these batches, if they are not all 1."""
        if task.factors is None:
            return self.weights
        own = (
            task.factors
            if self.numbers is None
            else task.factors[self.numbers.start : self.numbers.stop]
        )
        return own if self.weights is None else own * self.weights

    def _batches(self, task: Task, factors: np.ndarray | None) -> Iterator[tuple[int, Any]]:
        """Places and batches; in the place of a batch that is left out or whose operator is kept is None."""
        if callable(self.batches):
            yield from prefetched(enumerate(self.batches()))
            return
        places = range(len(self.batches))
        if isinstance(self.batches, list | tuple):
            yield from enumerate(self.batches)
            return
        needless = {k for k in places if factors is not None and not factors[k]}
        if task.kind == "product":
            needless |= self.operators.keys()
        pairs = ((k, None if k in needless else self.batches[k]) for k in places)
        yield from pairs if len(needless) == len(places) else prefetched(pairs)

    def _operator(self, task: Task, k: int, batch: Any) -> Any:
        args, kwargs = arguments(batch)
        make = self.f.hessian if isinstance(self.f, Function) else self.f
        if isinstance(self.f, Fisher) and task.seed is not None:
            number = k if self.numbers is None else self.numbers[k]
            make = self.f.drawing(np.random.default_rng([task.seed, number]))
        return make(task.x, *args, **kwargs)

    def once(self, task: Task, k: int, batch: Any) -> tuple:
        return (self._operator(task, k, batch) @ task.v,)

    def product(self, task: Task, k: int, batch: Any) -> tuple:
        operator = self.operators.get(k)
        if operator is None:
            operator = self._operator(task, k, batch)
            if not self.is_full:
                size = sum(one.stored_bytes for one in self.operators.values())
                self.is_full = size + operator.stored_bytes > self.memory
            if not self.is_full:
                self.operators[k] = operator
        return (operator @ task.v,)

    def value(self, task: Task, k: int, batch: Any) -> tuple:
        if not isinstance(self.f, Function):
            return (self._operator(task, k, batch).value,)
        args, kwargs = arguments(batch)
        return (self.f(task.x, *args, **kwargs),)

    def value_and_grad(self, task: Task, k: int, batch: Any) -> tuple:
        if not isinstance(self.f, Function):
            operator = self._operator(task, k, batch)
            return operator.value, operator.gradient
        args, kwargs = arguments(batch)
        return self.f.value_and_grad(task.x, *args, **kwargs)


_KINDS = {
    "value": Parcel.value,
    "value_and_grad": Parcel.value_and_grad,
    "product": Parcel.product,
    "once": Parcel.once,
}


# In other processes.

_OPEN: collections.OrderedDict[str, Parcel] = collections.OrderedDict()
"""The parcels that this process has got, by token, the last used at the end."""
_opening = threading.Lock()


def versions() -> tuple[tuple[str, str], ...]:
    """The versions that have to agree between processes."""
    import numba
    import scipy

    return (
        ("Python", platform.python_version()),
        ("nbhvp", __version__),
        ("numpy", np.__version__),
        ("scipy", scipy.__version__),
        ("numba", numba.__version__),
    )


def run(given: Parcel | Filed, task: Task) -> tuple | None:
    """The sum over the batches of a parcel, in any process."""
    task = replace(task, x=opened(task.x), v=opened(task.v))
    return _known(given).run(task)


def _known(given: Parcel | Filed) -> Parcel:
    """The parcel of this token that this process has already, or else this one."""
    with _opening:
        parcel = _OPEN.get(given.token)
        if parcel is None:
            parcel = given.parcel() if isinstance(given, Filed) else given
            _check(parcel.versions)
            _OPEN[given.token] = parcel
        _OPEN.move_to_end(given.token)
        while len(_OPEN) > OPEN:
            _OPEN.popitem(last=False)
    return parcel


def forget(token: str) -> None:
    """Drop a parcel of this process."""
    _OPEN.pop(token, None)


def _check(theirs: tuple) -> None:
    differ = [
        f"{name} {there} there, {here} here"
        for (name, there), (_, here) in zip(theirs, versions(), strict=True)
        if there != here
    ]
    if differ:
        raise RuntimeError(
            f"the versions of a worker differ from those of its client: {'; '.join(differ)}: "
            "install the same"
        )


class Filed:
    """A parcel that other processes of this machine read from a file."""

    def __init__(self, parcel: Parcel, folder: Path):
        self.token, self._parcel, self._folder = parcel.token, parcel, folder
        self._path: Path | None = None

    def parcel(self) -> Parcel:
        return self._parcel

    def __reduce__(self) -> tuple:
        if self._path is None:
            path = self._folder / f"{self.token}.parcel"
            batches = self._parcel.batches
            if isinstance(batches, list | tuple):
                batches = [_saved_all(batch, self._folder) for batch in batches]
            content = pickle.dumps(replace(self._parcel, batches=batches))
            write(path, content)
            self._path = path
        return InFile, (self.token, str(self._path))


class InFile(Filed):
    """The same in another process."""

    def __init__(self, token: str, path: str):
        self.token, self._path = token, Path(path)

    def parcel(self) -> Parcel:
        assert self._path is not None
        parcel = pickle.loads(self._path.read_bytes())
        if isinstance(parcel.batches, list):
            parcel.batches = [_opened_all(batch) for batch in parcel.batches]
        return parcel

    def __reduce__(self) -> tuple:
        return InFile, (self.token, str(self._path))


@dataclass(frozen=True)
class Saved:
    """An array in a file, of which processes of one machine share the memory."""

    path: str


def saved(array: Any, folder: Path) -> Any:
    """A large array as a file; all else as it is."""
    if type(array) is not np.ndarray or array.nbytes < LARGE or array.dtype.hasobject:
        return array
    handle, path = tempfile.mkstemp(".npy", dir=folder)
    with os.fdopen(handle, "wb") as file:
        np.save(file, array)
    return Saved(path)


def opened(given: Any) -> Any:
    return (
        np.load(given.path, mmap_mode="r").view(np.ndarray) if isinstance(given, Saved) else given
    )


def _saved_all(batch: Any, folder: Path) -> Any:
    args, kwargs = arguments(batch)
    if kwargs:
        return {name: saved(one, folder) for name, one in kwargs.items()}
    return tuple(saved(one, folder) for one in args)


def _opened_all(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {name: opened(one) for name, one in batch.items()}
    return tuple(map(opened, batch))


def write(path: Path, content: bytes) -> None:
    """Write a file that others read, whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.replace(name, path)
