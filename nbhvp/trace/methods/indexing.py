"""Subscripts of traced arrays: x[index], x[index] = value, np.add.at.

Integers, slices and newaxis make views. Index arrays are operands of primitives: the axes that they
index are brought together and merged into one, and the index arrays into one, in C order. Reading is
then a gather, adding is a scatter-add, and writing takes for each element the value that is written
there last. The graph wraps negative and computed indices, and guards check their bounds, except for
the results of a sort or an argmax. A computed mask determines the shape of its selection, so it is
guarded, unless one value is written to all selected elements.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field

import numpy as np

from nbhvp.graph import definitions
from nbhvp.graph import primitives as p
from nbhvp.graph.node import OPEN, PLAIN, Node
from nbhvp.graph.requests import settled
from nbhvp.trace.arrays import (
    Traced,
    apply,
    cast_node,
    constant_of,
    current,
    guard,
    is_constant,
    is_weak,
    lift,
    traced,
    traced_in,
)
from nbhvp.trace.methods.shapes import may_be_written, overwrite, slice_view, view_of, write
from nbhvp.trace.views import expand, inverse, is_array, key_of, region, through

__all__ = ["add_at"]


@dataclass(frozen=True, eq=False)
class Merged:
    """Axes under advanced indices, brought together and merged into one, with one index into it."""

    base: Traced
    """The array after the basic part of the index; advanced axes are still whole."""
    perm: tuple[int, ...]
    axis: int
    """Of the merged axis; the axes of the index stand there in the result."""
    permuted: tuple[int, ...]
    shape: tuple[int, ...]
    index: np.ndarray | Traced = field(repr=False)

    @property
    def node(self) -> Node:
        return p.reshape(p.transpose(self.base.node, axes=self.perm), shape=self.shape)

    @property
    def index_node(self) -> Node:
        return _indices(self.index).node

    def undo(self, node: Node) -> Node:
        """A node of the merged shape, as one of the shape of the base."""
        return p.transpose(p.reshape(node, shape=self.permuted), axes=inverse(self.perm))

    def result_shape(self) -> tuple[int, ...]:
        return (*self.shape[: self.axis], *self.index.shape, *self.shape[self.axis + 1 :])

    def flat_shape(self) -> tuple[int, ...]:
        """The shape of the result with the axes of the index flattened."""
        size = math.prod(self.index.shape)
        return (*self.shape[: self.axis], size, *self.shape[self.axis + 1 :])


def get(x: Traced, index):
    """x[index]."""
    key = key_of(index) if type(x) is Traced else None
    value = x.value
    if key is None or type(value) is not np.ndarray:
        return _get(x, index)
    shown = value[index]
    if type(shown) is np.ndarray:
        return x.viewed(*region(value.shape, key), value=shown)
    life = x.node.life
    if life == PLAIN or (life == OPEN and value.dtype.kind not in "fc" and is_constant(x)):
        return shown
    if x.views or len(key) != 1:
        return traced(x.viewed(*region(value.shape, key)).node, shown)
    # An element of a whole array: often the same one in each step of a loop.
    elements, element = current().elements, (x.node, key[0])
    if element not in elements:
        elements[element] = traced(x.viewed(*region(value.shape, key)).node, shown)
    return elements[element]


def _get(x: Traced, index):
    if is_weak(x):
        raise TypeError(f"{type(x.value).__name__!r} object is not subscriptable")
    items, plain = _normalised(index)
    value = _shown(x, items, plain)
    if not is_array(x.value):
        x = traced(x.node, np.asarray(x.value))
    if any(_is_advanced(item) for item in items):
        items = [_concrete_mask(item) for item in items]
        merged = _merge(x, expand(items, x.ndim))
        node = p.gather(merged.node, merged.index_node, axis=merged.axis)
        return traced(node, value)
    view = _basic(x, items)
    # An integer that is an array without axes makes NumPy copy.
    if is_array(value) and (np.may_share_memory(value, x.value) or value.size == 0):
        return view
    if not is_array(value) and is_constant(view):
        return value
    return traced(view.node, value)


def set_(x: Traced, index, value) -> None:
    content = x.value
    key = key_of(index) if type(x) is Traced and is_array(content) else None
    if key is None:
        _set(x, index, value)
        return
    whole = index if Ellipsis in key else (*(index if type(index) is tuple else (index,)), ...)
    views, shown = region(content.shape, key), content[whole]
    is_written = type(value) is Traced and value.storage is x.storage
    if not (is_written and value.views == (*x.views, *views) and may_be_written(x)):
        write(x.viewed(*views, value=shown), value)  # else x[index] += ... has written it


def _set(x: Traced, index, value) -> None:
    items, plain = _normalised(index)
    if not is_array(x.value):
        raise TypeError(f"{type(x.value).__name__!r} object does not support item assignment")
    value = lift(value)
    if len(items) == 1 and _is_live_mask(items[0]) and value.ndim <= x.ndim - items[0].ndim:
        _set_where(x, items[0], value)
        return
    _shown(x, items, plain)
    if any(_is_advanced(item) for item in items):
        items = [_concrete_mask(item) for item in items]
        _set_advanced(x, _merge(x, expand(items, x.ndim)), plain, value)
    else:
        write(_basic(x, items), value)


def _shown(x: Traced, items: list, plain: tuple):
    """What the plain index shows; NumPy's own error for a bad one holds for these indices alone."""
    try:
        return x.value[plain]
    except IndexError:
        for item in items:
            if isinstance(item, Traced) and not is_constant(item) and item.dtype.kind in "iub":
                guard(apply(p.all_, apply(p.equal, item, constant_of(np.asarray(item.value)))))
        raise


def _normalised(index) -> tuple[list, tuple]:
    """The items of an index, and the plain index that does the same to the concrete value."""
    given = [_resolved(item) for item in (index if isinstance(index, tuple) else (index,))]
    plain = tuple(item.value if isinstance(item, Traced) else item for item in given)
    return [_without_array(item) for item in given], plain


def _resolved(item):
    """An item of an index: constants and the bounds of slices plain, sequences arrays."""
    if isinstance(item, slice):
        return slice(*(None if i is None else operator.index(i) for i in _bounds(item)))
    if item is not None and item is not Ellipsis and not is_array(item) and np.ndim(item) > 0:
        item = lift(item) if any(True for _ in traced_in(item)) else np.asarray(item)
        if item.size == 0:
            return np.zeros(item.shape, np.intp)
    return item.value if isinstance(item, Traced) and is_constant(item) else item


def _without_array(item):
    """A scalar for an array without axes, an int for an integer of NumPy."""
    if isinstance(item, Traced) and is_array(item.value) and item.ndim == 0:
        return traced(item.node, item.value[()])
    if is_array(item) and item.ndim == 0:
        item = item[()]
    return int(item) if isinstance(item, np.integer) and not isinstance(item, Traced) else item


def _bounds(item: slice) -> tuple:
    return item.start, item.stop, item.step


def _is_advanced(item) -> bool:
    if isinstance(item, Traced):
        return item.ndim > 0 or item.dtype == bool
    return is_array(item) or isinstance(item, bool | np.bool_)


def _is_live_mask(item) -> bool:
    return isinstance(item, Traced) and item.dtype == bool


def _concrete_mask(item):
    """The mask itself under a guard: the shape of the result depends on it."""
    return guard(item) if _is_live_mask(item) else item


def _basic(x: Traced, items: list) -> Traced:
    """A view by integers, slices and newaxis; live integers pick along their axis afterwards."""
    items = expand(items, x.ndim)
    view = slice_view(x, tuple(slice(None) if isinstance(i, Traced) else i for i in items))
    axis = 0
    for item in items:
        if isinstance(item, Traced):
            view = view_of(view, p.gather, _wrapped(item, view.shape[axis]), axis=axis)
        elif item is None or isinstance(item, slice):
            axis += 1
    return view


def _merge(x: Traced, items: list) -> Merged:
    basic, axes, indices = [], [], []

    def advance(item, index=None):
        if index is not None:
            axes.append(len(basic))
            indices.append(index)
        basic.append(item)

    for item in items:
        if item is None or isinstance(item, slice):
            advance(item)
        elif isinstance(item, bool | np.bool_):
            advance(None, np.zeros(int(item), np.int64))
        elif is_array(item) and item.dtype == bool:
            for part in np.nonzero(item):
                advance(slice(None), part)
        else:
            advance(slice(None), item)
    base = slice_view(x, tuple(basic))
    rest = [k for k in range(base.ndim) if k not in axes]
    axis = axes[0] if axes[-1] - axes[0] + 1 == len(axes) else 0
    perm = (*rest[:axis], *axes, *rest[axis:])
    permuted = tuple(base.shape[k] for k in perm)
    extents = [base.shape[k] for k in axes]
    shape = (*permuted[:axis], math.prod(extents), *permuted[axis + len(axes) :])
    return Merged(base, perm, axis, permuted, shape, _linear_index(indices, extents))


def _linear_index(indices, extents):
    """One index, in C order, for several; negative entries count from the end."""
    total = _wrapped(indices[0], extents[0])
    for index, extent in zip(indices[1:], extents[1:], strict=True):
        total = total * extent + _wrapped(index, extent)
    return total


def _indices(index) -> Traced:
    return index if isinstance(index, Traced) else constant_of(index)


def _wrapped(index, extent: int):
    if not isinstance(index, Traced):
        index = np.asarray(index, np.int64)
        return np.where(index < 0, index + extent, index)
    if _is_within(index.node, extent):
        return index
    index = apply(p.cast, index, dtype=definitions.INT)
    inside = (index >= -extent) & (index < extent)
    guard(apply(p.all_, inside))
    # Guards are read once all is computed: until then, an index outside must do no harm.
    return apply(p.where, inside, apply(p.where, index < 0, index + extent, index), 0)


def _is_within(node: Node, extent: int) -> bool:
    """Whether an index lies in 0 <= i < extent wherever its trace holds."""
    node = settled(node)
    while node.primitive in (p.reshape, p.transpose, p.slice_, p.gather, p.broadcast):
        node = node.args[0]
    if node.primitive in (p.argmax, p.argmin, p.argsort):
        return node.args[0].shape[node.params["axis"]] <= extent
    return False


def _set_where(x: Traced, mask: Traced, value: Traced) -> None:
    """x[mask] = value, where one value serves all places: the shape does not depend on the mask."""
    shape = mask.shape + (1,) * (x.ndim - mask.ndim)

    def assign(base):
        through(base, x.views)[mask.value] = value.value

    def new():
        return p.where(p.reshape(mask.node, shape=shape), cast_node(value.node, x.dtype), x.node)

    overwrite(x, new, assign)


def _set_advanced(x: Traced, merged: Merged, index, value: Traced) -> None:
    """x[index] = value: each element takes the value that is written to it last."""

    def assign(base):
        through(base, x.views)[index] = value.value

    def new():
        size = merged.shape[merged.axis]
        writer = merged.index.reshape(-1)
        if isinstance(writer, Traced):
            writer = apply(p.last_writer, writer, size=size)
        else:
            writer = p.last_writer.evaluate(writer, size=size)
        places = (writer >= 0).reshape((-1,) + (1,) * (len(merged.shape) - merged.axis - 1))
        node = cast_node(value.node, x.dtype)
        if value.ndim:
            extra = max(value.ndim - len(merged.result_shape()), 0)  # of extent 1
            node = p.reshape(node, shape=value.shape[extra:])
            node = p.reshape(
                p.broadcast(node, shape=merged.result_shape()), shape=merged.flat_shape()
            )
            node = p.gather(node, _indices(np.maximum(writer, 0)).node, axis=merged.axis)
        return merged.undo(p.where(_indices(places).node, node, merged.node))

    if math.prod(merged.flat_shape()) and merged.index.size:
        overwrite(merged.base, new, assign)


def add_at(x: Traced, index, value) -> None:
    """np.add.at: repeated indices accumulate."""
    items, plain = _normalised(index)
    items = [_concrete_mask(item) for item in items]
    value = lift(value)

    def assign(base):
        np.add.at(through(base, x.views), plain, value.value)

    if not any(_is_advanced(item) for item in items):
        view = _basic(x, items)
        write(view, view + value)
        return
    merged = _merge(x, expand(items, x.ndim))

    def new():
        node = p.broadcast(cast_node(value.node, x.dtype), shape=merged.result_shape())
        node = p.reshape(node, shape=merged.flat_shape())
        index = _indices(merged.index.reshape(-1)).node
        size = merged.shape[merged.axis]
        added = p.scatter_add(node, index, axis=merged.axis, size=size)
        return merged.undo(p.add(merged.node, added))

    overwrite(merged.base, new, assign)


Traced.__getitem__ = get
Traced.__setitem__ = set_
