"""Views of traced arrays, writing through them, and the methods of ndarray that do either.

A view is made where NumPy makes one of the concrete value, else a new array. A write replaces the
content of the cell, so that every alias sees it.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Iterator

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node
from nbhvp.plain import native_dtype
from nbhvp.trace.arrays import UNREAD, Traced, cast_node, lift, map_traced, traced
from nbhvp.trace.dispatch import dispatch
from nbhvp.trace.recording import current, trace_error
from nbhvp.trace.views import (
    HELD,
    View,
    holders,
    is_array,
    key_of,
    plain_item,
    region,
    shows_repeatedly,
    through,
    turned,
)

__all__ = [
    "Flat",
    "broadcast_view",
    "imag_view",
    "may_be_one",
    "may_be_written",
    "overwrite",
    "real_view",
    "reshape_view",
    "slice_view",
    "transpose_view",
    "view_of",
    "write",
]


def view_of(x: Traced, primitive: p.Primitive, *operands: Traced, **params) -> Traced:
    """A view if NumPy makes one of the concrete value, else a new array."""
    view = View(primitive, params, operands)
    if not is_array(x.value):
        return traced(view.of_node(x.node), view.of_value(np.asarray(x.value)))
    value = view.of_value(x.value)
    if np.may_share_memory(value, x.value) or value.size == 0:
        return x.viewed(view, value=value)
    return traced(view.of_node(x.node), value)


def reshape_view(x: Traced, shape) -> Traced:
    """np.reshape in C order."""
    shape = np.reshape(x.value, _shape(shape)).shape
    if shape == x.shape and is_array(x.value):
        return x.viewed(value=x.value)
    return view_of(x, p.reshape, shape=shape)


def _shape(shape):
    """A shape in which traced integers have become plain ones."""
    return map_traced(operator.index, tuple(shape) if np.iterable(shape) else shape)


def transpose_view(x: Traced, axes) -> Traced:
    """np.transpose."""
    axes = tuple(operator.index(a) for a in axes)
    np.transpose(x.value, axes)  # NumPy's own error for bad axes
    axes = tuple(a % x.ndim for a in axes)
    if axes == tuple(range(x.ndim)):
        return reshape_view(x, x.shape)
    return view_of(x, p.transpose, axes=axes)


def broadcast_view(x: Traced, shape) -> Traced:
    """np.broadcast_to: a view that cannot be written."""
    return view_of(x, p.broadcast, shape=np.broadcast_to(x.value, _shape(shape)).shape)


def real_view(x: Traced) -> Traced:
    """x.real; of a real array, the array itself."""
    if not is_array(x.value):
        return traced(p.real(x.node), np.real(x.value))
    return view_of(x, p.real) if x.dtype.kind == "c" else x.viewed()


def imag_view(x: Traced) -> Traced:
    """x.imag; of a real array, zeros."""
    if not is_array(x.value):
        return traced(p.imag(x.node), np.imag(x.value))
    if x.dtype.kind == "c":
        return view_of(x, p.imag)
    return traced(p.zeros(x.node.pool, x.shape, x.dtype), np.imag(x.value))


def slice_view(x: Traced, index) -> Traced:
    """x[index] of integers, slices, newaxis and Ellipsis, always an array."""
    items = tuple(map(plain_item, index if isinstance(index, tuple) else (index,)))
    key, value = key_of(items), np.asarray(x.value)
    assert key is not None
    shown = value[items if any(item is Ellipsis for item in items) else (*items, ...)]
    if is_array(x.value):
        return x.viewed(*region(value.shape, key), value=shown)
    node = functools.reduce(lambda node, view: view.of_node(node), region((), key), x.node)
    return traced(node, shown)


# Writing.


def write(target: Traced, value) -> None:
    """Put `value` in the place of all of `target`, in its dtype, seen through every alias."""
    shown = target.value
    if not is_array(shown):
        raise TypeError("return arrays must be of ArrayType")
    value = lift(value)
    content, shape = value.value, shown.shape
    node = cast_node(value.node, shown.dtype)
    extra = node.ndim - len(shape)
    if extra > 0 and node.shape[:extra] == (1,) * extra:
        node = p.reshape(node, shape=node.shape[extra:])

    def assign(base):
        through(base, target.views)[...] = content

    overwrite(
        target, lambda: node if node.shape == shape else p.broadcast(node, shape=shape), assign
    )


def overwrite(target: Traced, new: Callable[[], Node], assign: Callable) -> None:
    """Replace what `target` shows by the node `new()`; `assign` does it on a copy of the base."""
    storage = target.storage
    if storage.refusal is not None:
        raise trace_error(
            storage.refusal, "make the array inside the function (np.zeros, .copy()) and return it"
        )
    if any(map(shows_repeatedly, target.views)):
        raise ValueError("assignment destination is read-only")
    if storage.place is not None:
        if storage.place > 0 and not storage.value.flags.writeable and storage.version == 0:
            raise ValueError("assignment destination is read-only")
        current().write_input(storage.place)
    base = _writable(target)
    assign(base)
    node, views = new(), target.views
    for k in reversed(range(len(views))):
        node = views[k].written(Traced(storage, views[:k]), node)
    storage.node, storage.value = node, base
    storage.version += 1
    for twin in storage.twins:
        twin.is_stale = True
        twin.version += 1


def _writable(target: Traced) -> np.ndarray:
    """The value of a cell, if nothing else holds it or a view of it; else a copy.

    Else each row of an array that a loop writes would cost all of the array.
    """
    shown: Traced | None = target
    while shown is not None:
        shown._cache, shown = UNREAD, shown._parent
    value = target.storage.value
    is_ours = value.flags.owndata and value.flags.writeable
    return value if is_ours and holders(target.storage) == HELD else np.array(value)


def may_be_one(a: Traced, b: Traced) -> None:
    """Two arrays may share memory, in a way that is not known."""
    if a.storage is not b.storage:
        a.storage.twins += (b.storage,)
        b.storage.twins += (a.storage,)


def may_be_written(x: Traced) -> bool:
    """Whether `write` takes an array, which is none of the user's inputs."""
    return x.storage.refusal is None and not any(map(shows_repeatedly, x.views))


# Methods.


class Flat:
    """`x.flat`: reads and writes in C order, whatever the layout."""

    def __init__(self, array: Traced):
        self._array = array

    def __len__(self) -> int:
        return self._array.size

    def __iter__(self) -> Iterator:
        return iter(self._array.flatten())

    def __getitem__(self, index):
        return self._array.flatten()[index]

    def __setitem__(self, index, value) -> None:
        flat = self._array.flatten()
        flat[index] = value
        write(self._array, flat.reshape(self._array.shape))


class _Methods(Traced):
    """Those of ndarray that are not functions of NumPy with the same arguments."""

    @property
    def T(self) -> Traced:
        value = self.value
        if not is_array(value) or value.ndim < 2:
            return transpose_view(self, range(self.ndim)[::-1])
        return self.viewed(turned(value.ndim), value=value.T)

    @property
    def mT(self) -> Traced:
        if self.ndim < 2:
            raise ValueError("matrix transpose with ndim < 2 is undefined")
        return transpose_view(self, (*range(self.ndim - 2), self.ndim - 1, self.ndim - 2))

    @property
    def real(self) -> Traced:
        return real_view(self)

    @real.setter
    def real(self, value) -> None:
        write(real_view(self), value)

    @property
    def imag(self) -> Traced:
        return imag_view(self)

    @imag.setter
    def imag(self, value) -> None:
        write(imag_view(self), value)

    @property
    def flat(self) -> Flat:
        return Flat(self if is_array(self.value) else reshape_view(self, ()))

    @flat.setter
    def flat(self, value) -> None:
        Flat(self)[:] = value

    def reshape(self, *shape, order="C", copy=None) -> Traced:
        shape = shape[0] if len(shape) == 1 else shape
        x = self.copy() if copy else self
        if order == "F" or (order == "A" and np.isfortran(self.value)):
            shape = np.reshape(self.value, shape).shape
            return reshape_view(x.T, shape[::-1]).T
        return reshape_view(x, shape)

    def ravel(self, order="C") -> Traced:
        if order == "K":
            order = "C" if self.ndim < 2 or self.value.flags.c_contiguous else "A"
        flat = self.reshape(-1, order=order)
        # Unlike reshape, ravel copies whatever is not contiguous.
        is_view = np.may_share_memory(np.ravel(self.value, order), self.value)
        return flat if is_view else flat.copy()

    def flatten(self, order="C") -> Traced:
        return self.ravel(order).copy()

    def transpose(self, *axes) -> Traced:
        if len(axes) == 1 and not isinstance(axes[0], int | np.integer):
            axes = axes[0]
        return self.T if axes is None or len(axes) == 0 else transpose_view(self, axes)

    def copy(self, order="C") -> Traced:
        value = self.value.copy(order) if is_array(self.value) else self.value
        return traced(self.node, value)

    __copy__ = copy

    def __deepcopy__(self, memo) -> Traced:
        return self.copy()

    def astype(self, dtype, order="K", casting="unsafe", subok=True, copy=True) -> Traced:
        dtype = native_dtype(dtype)
        if dtype == self.dtype and not copy:
            return self
        if not np.can_cast(self.dtype, dtype, casting):
            raise TypeError(
                f"Cannot cast array data from {self.dtype!r} to {dtype!r} "
                f"according to the rule {casting!r}"
            )
        node = cast_node(self.node, dtype)
        value = self.value if is_array(self.value) else np.asarray(self.value)[()]
        return traced(node, value.astype(dtype))

    def view(self, dtype=None) -> Traced:
        if dtype is not None and np.dtype(dtype) != self.dtype:
            raise trace_error("a view with another dtype has no derivative", "use .astype")
        return self.viewed()

    def fill(self, value) -> None:
        if is_array(self.value):  # a scalar of NumPy fills a copy of itself
            write(self, value)

    def put(self, indices, values, mode="raise") -> None:
        Flat(self)[indices] = values

    def sort(self, axis=-1, kind=None, order=None, *, stable=None) -> None:
        write(self, dispatch(np.sort, (self,), {"axis": axis}))

    def partition(self, kth, axis=-1, kind="introselect", order=None) -> None:
        self.sort(axis)

    def resize(self, *new_shape, refcheck=True) -> None:
        raise trace_error("x.resize changes its array's shape in place", "use np.resize")

    def conj(self) -> Traced:
        return np.conjugate(self)

    conjugate = conj


for _name, _method in vars(_Methods).items():
    if inspect.isfunction(_method) or isinstance(_method, property):
        setattr(Traced, _name, _method)
