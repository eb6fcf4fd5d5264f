"""The work of a sum in one process: values, gradients and products of some neighbouring batches.

Operators at the last x are kept, of as many batches as fit into a bound of memory; those of the others
are made again for each product. Which are kept depends on the batches and on the bound alone. A `Parcel`
is pickled with its function and its batches, and without its operators.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nbhvp.function import Function
from nbhvp.models import Fisher
from nbhvp.sums import tree
from nbhvp.sums.batches import Span, arguments, prefetched
from nbhvp.version import __version__

__all__ = ["Parcel", "Task", "versions"]


@dataclass(frozen=True)
class Task:
    """A quantity of each batch at x, by a name of `_KINDS`.

    The operators of a "product" are kept for the next one with the same key.
    """

    kind: str
    x: Any
    key: bytes
    """Of x, and of an operator."""
    v: Any = None
    """The direction, or weights of the result."""
    factors: np.ndarray | None = None
    """Of each batch of the whole sum; those with 0 are left out."""
    operator: str = "hessian"
    """The method that makes operators."""
    w: Any = None
    """The weights of a "weighted_hessian"."""
    is_transposed: bool = False
    seed: int | None = None
    """Of labels that are drawn: the same in all products of an operator, whoever computes them."""


@dataclass(eq=False)
class Parcel:
    """A function and some batches of data, with their numbers in the whole sum and their weights."""

    f: Callable
    numbers: range | None
    """None for all, of which the number may be unknown."""
    batches: Any
    """A sequence in the order of the numbers, or a function that makes an iterable."""
    weights: np.ndarray | None
    memory: int
    versions: tuple
    operators: dict[int, Any] = field(default_factory=dict, init=False)
    """Those that are kept, by place."""
    key: bytes = field(default=b"", init=False)
    free: int = field(default=0, init=False)
    """Bytes for further operators; negative once one was met that does not fit."""
    lock: Any = field(default_factory=threading.RLock, init=False)

    def __reduce__(self) -> tuple:
        parts = self.f, self.numbers, self.batches, self.weights, self.memory, self.versions
        return _arrived, parts

    def part(self, span: range, memory: int) -> Parcel:
        """The parcel of some neighbouring batches of this one, which has all batches."""
        batches, weights = self.batches, self.weights
        return replace(
            self,
            numbers=span,
            batches=[batches[k] for k in span]
            if isinstance(batches, list | tuple)
            else Span(batches, span),
            weights=None if weights is None else weights[span.start : span.stop],
            memory=memory,
        )

    def run(self, task: Task, progress: Callable | None = None) -> list[tree.Part]:
        """The sum over these batches; `progress` is called with the number of those that are done."""
        with self.lock:
            if task.kind == "product" and task.key != self.key:
                self.operators, self.key, self.free = {}, task.key, self.memory
            return tree.parts(self._terms(task, progress))

    def _terms(self, task: Task, progress: Callable | None) -> Iterator[tree.Part]:
        first = 0 if self.numbers is None else self.numbers.start
        work, factors = _KINDS[task.kind], self._factors(task)
        for k, batch in self._batches(task, factors):
            try:
                term = work(self, task, k, batch) if factors is None or factors[k] else None
            except Exception as error:
                error.add_note(f"The batch is number {first + k}, counted from 0.")
                raise
            if factors is not None and term is not None:
                term = tuple(factors[k] * one for one in term)
            yield first + k, 0, term
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
        if isinstance(self.f, Function):
            given = (task.x,) if task.w is None else (task.x, task.w)
            return getattr(self.f, task.operator)(*given, *args, **kwargs)
        make = self.f
        if isinstance(make, Fisher) and task.seed is not None:
            number = k if self.numbers is None else self.numbers[k]
            make = make.drawing(np.random.default_rng([task.seed, number]))
        return make(task.x, *args, **kwargs)

    def once(self, task: Task, k: int, batch: Any) -> tuple:
        return (_times(self._operator(task, k, batch), task),)

    def product(self, task: Task, k: int, batch: Any) -> tuple:
        operator = self.operators.get(k)
        if operator is None:
            operator = self._operator(task, k, batch)
            if self.free >= 0:
                self.free -= operator.stored_bytes
            if self.free >= 0:
                self.operators[k] = operator
        return (_times(operator, task),)

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

    def along(self, task: Task, k: int, batch: Any) -> tuple:
        """A "jvp" or a "vjp"."""
        args, kwargs = arguments(batch)
        return (getattr(self.f, task.kind)(task.x, task.v, *args, **kwargs),)


_KINDS = {
    "value": Parcel.value,
    "value_and_grad": Parcel.value_and_grad,
    "jvp": Parcel.along,
    "vjp": Parcel.along,
    "once": Parcel.once,
    "product": Parcel.product,
}


def _times(operator: Any, task: Task) -> np.ndarray:
    return operator.T @ task.v if task.is_transposed else operator @ task.v


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


def _arrived(*parts: Any) -> Parcel:
    """A parcel from another process, whose versions agree with those here."""
    parcel = Parcel(*parts)
    differ = [
        f"{name} {there} there, {here} here"
        for (name, there), (_, here) in zip(parcel.versions, versions(), strict=True)
        if there != here
    ]
    if differ:
        raise RuntimeError(
            f"the versions of a worker differ from those of its client: {'; '.join(differ)}: "
            "install the same"
        )
    return parcel
