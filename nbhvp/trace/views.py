"""Cells that hold the content of arrays, and the steps of which views of them are made.

A view is a chain of steps V from the content b of a cell to what it shows: reading computes V(b), and
writing y replaces the content by V^-1(b, y). Each step is a primitive, on nodes and on values alike.
"""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.definitions import strided
from nbhvp.graph.node import PLAIN, Node

if TYPE_CHECKING:
    from nbhvp.trace.arrays import Traced

__all__ = [
    "HELD",
    "Storage",
    "View",
    "expand",
    "holders",
    "inverse",
    "is_array",
    "key_of",
    "plain_item",
    "region",
    "shows_repeatedly",
    "through",
    "turned",
]


@dataclass(eq=False, slots=True)
class Storage:
    """A cell that aliases share. A `value` that others hold is replaced, not modified."""

    node: Node
    value: Any
    version: int = 0
    refusal: str | None = None
    """Why it must not be written, if so."""
    place: int | None = None
    """Of an input of the trace, which one it is."""
    twins: tuple[Storage, ...] = ()
    """Cells that may be the same one: a write into one makes the others stale."""
    is_stale: bool = False


@dataclass(frozen=True, eq=False)
class View:
    """One step of a view: a primitive with its parameters (and the operands after the first)."""

    primitive: p.Primitive
    params: dict[str, Any]
    operands: tuple[Traced, ...] = ()

    @functools.cached_property
    def _evaluate(self) -> Callable:
        if self.primitive is p.slice_:
            return operator.itemgetter(strided(**self.params))
        evaluate = _VIEWS_OF_VALUES.get(self.primitive, self.primitive.evaluate)
        return functools.partial(evaluate, **self.params)

    def of_node(self, node: Node) -> Node:
        """The view of a node; of a constant, the same one in each step of a loop."""
        if self.operands:
            return self.primitive(node, *(o.node for o in self.operands), **self.params)
        return _requested((self, node.shape, node.dtype), self.primitive, (node,), self.params)

    def of_value(self, value: np.ndarray) -> np.ndarray:
        if self.operands:
            return self._evaluate(value, *(o.value for o in self.operands))
        return self._evaluate(value)

    def written(self, base: Traced, new: Node) -> Node:
        """The base, after `new` has taken the place of its view. Most need its shape alone."""
        operands = (o.node for o in self.operands)
        return _WRITTEN[self.primitive](base, new, *operands, **self.params)


def _requested(form: tuple, primitive: p.Primitive, args: tuple[Node, ...], params: dict) -> Node:
    """A primitive of nodes, where a form tells their shapes and dtypes, and the parameters.

    Of constants it is the same node in each step of a loop.
    """
    pool = args[0].pool
    if not pool.asks:
        return primitive(*args, **params)
    if args[-1].life != PLAIN or args[0].life != PLAIN:
        return pool.of_form(form, primitive, args, params)
    key, made = (form, args), pool.made
    if key not in made:
        made[key] = pool.of_form(form, primitive, args, params)
    return made[key]


def _updated(base: Traced, new: Node, start: tuple, step: tuple, size: tuple) -> Node:
    node = base.node
    form = (p.update, node.shape, node.dtype, new.shape, new.dtype, start, step)
    return _requested(form, p.update, (node, new), {"start": start, "step": step})


def _reshaped(base: Traced, new: Node, shape: tuple[int, ...]) -> Node:
    below = base.views[-1].params.get("size") if base.views else base.storage.node.shape
    shape = base.shape if below is None else below
    if new.shape == shape:
        return new
    form = (p.reshape, new.shape, new.dtype, shape)
    return _requested(form, p.reshape, (new,), {"shape": shape})


def _pick(value, index, axis):
    """The element at an index, or the windows that an index of two axes shows."""
    if np.ndim(index) == 0:
        return value[(slice(None),) * axis + (int(index), ...)]
    windows = np.lib.stride_tricks.sliding_window_view(value, index.shape[1], axis)
    return np.moveaxis(windows, -1, axis + 1)


def _written_pick(base, new, index, axis):
    positions = np.arange(base.shape[axis]).reshape((-1,) + (1,) * (base.ndim - axis - 1))
    row = (*base.shape[:axis], 1, *base.shape[axis + 1 :])
    return p.where(p.equal(positions, index), p.reshape(new, shape=row), base.node)


@functools.cache
def turned(ndim: int) -> View:
    return View(p.transpose, {"axes": tuple(range(ndim))[::-1]})


_VIEWS_OF_VALUES = {p.real: np.real, p.imag: np.imag, p.gather: _pick}


_WRITTEN = {
    p.slice_: _updated,
    p.reshape: _reshaped,
    p.transpose: lambda base, new, axes: p.transpose(new, axes=inverse(axes)),
    p.real: lambda base, new: p.complex_(new, p.imag(base.node)),
    p.imag: lambda base, new: p.complex_(p.real(base.node), new),
    p.gather: _written_pick,
}


def inverse(axes) -> tuple[int, ...]:
    return tuple(np.argsort(axes).tolist())


def is_array(value) -> bool:
    return issubclass(type(value), np.ndarray)


def plain_item(item):
    """An item of an index with integers of Python's."""
    if isinstance(item, slice):
        ends = item.start, item.stop, item.step
        return slice(*(None if end is None else operator.index(end) for end in ends))
    return item if item is None or item is Ellipsis else operator.index(item)


def key_of(index) -> tuple | None:
    """A basic index, with slices as tuples; None of any other index."""
    key = []
    for item in index if type(index) is tuple else (index,):
        kind = type(item)
        if kind is slice:
            item = item.start, item.stop, item.step
            for end in item:
                if end is not None and type(end) is not int:
                    return None
        elif kind is np.int64:
            item = int(item)
        elif kind is not int and item is not None and item is not Ellipsis:
            return None
        key.append(item)
    return tuple(key)


@functools.lru_cache(1 << 12)
def region(shape: tuple[int, ...], key: tuple) -> tuple[View, ...]:
    """The views that a basic index of an array makes: a slice, and the shape of that."""
    items = expand([slice(*k) if type(k) is tuple else k for k in key], len(shape))
    start, step, size, new, axes = [], [], [], [], iter(shape)
    for item in items:
        if item is None:
            new.append(1)
            continue
        extent = next(axes)
        if isinstance(item, slice):
            positions = range(extent)[item]
            new.append(len(positions))
        else:
            first = range(extent)[item]
            positions = range(first, first + 1)
        start.append(positions.start if positions else 0)
        step.append(positions.step if positions else 1)
        size.append(len(positions))
    views = []
    if tuple(size) != shape or any(k != 1 for k in step):
        params = {"start": tuple(start), "step": tuple(step), "size": tuple(size)}
        views.append(View(p.slice_, params))
    if new != size:
        views.append(View(p.reshape, {"shape": tuple(new)}))
    return tuple(views)


def _consumed(item) -> int:
    """The number of axes that an item of an index stands for."""
    if item is None or isinstance(item, bool | np.bool_):
        return 0
    return item.ndim if is_array(item) and item.dtype == bool else 1


def expand(items, ndim: int) -> list:
    """The items with slices for Ellipsis and for the axes that are not mentioned."""
    items = list(items)
    rest = ndim - sum(_consumed(item) for item in items if item is not Ellipsis)
    for k, item in enumerate(items):
        if item is Ellipsis:
            return items[:k] + [slice(None)] * rest + items[k + 1 :]
    return items + [slice(None)] * rest


def through(value: np.ndarray, views: tuple[View, ...]) -> np.ndarray:
    for view in views:
        value = view.of_value(value)
    return value


def shows_repeatedly(view: View) -> bool:
    """Whether an element of the base may be many elements of the view, which NumPy lets none write."""
    windows = view.primitive is p.gather and view.operands[0].ndim > 0
    return windows or view.primitive is p.broadcast


def holders(storage: Storage) -> int:
    return sys.getrefcount(storage.value)


HELD = holders(Storage(None, np.zeros(1))) + 1  # type: ignore[arg-type]
"""References to a value that its cell and one name hold."""
