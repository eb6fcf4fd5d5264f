"""Parameters with structure: a tree of arrays as one vector, and back.

    x, unravel = ravel(tree)            tree of arrays <-> x of shape (n,)

A tree is a dict, list, tuple, named tuple or dataclass of trees, or a leaf: an array or number of
float32 or float64. Its leaves lie in x one after another, depth first, in the order in which the
containers give them, so that each part of a tree is one slice of x: `Unravel` knows which, by name.
Solvers see x, functions see the tree, and the same map serves plain arrays and traced ones.

It is used like `jax.flatten_util.ravel_pytree`, and dtypes are as there: a tree of one dtype takes
that of x, in a mixed one each array keeps its own. Unlike there, dicts keep their order.
"""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from itertools import starmap
from typing import Any

import numpy as np

from nbhvp.plain import PLAIN_CLASSES, is_on_device

__all__ = ["Unravel", "ravel"]

Path = tuple[Hashable, ...]


def ravel(tree) -> tuple[np.ndarray, Unravel]:
    """Make one vector of a tree of arrays, and the map from such vectors to trees.

    Parameters
    ----------
    tree
        Dicts, lists, tuples, named tuples and dataclasses, nested, of arrays and numbers of float32
        or float64.

    Returns
    -------
    x : ndarray, shape (n,)
        A fresh array with the elements of all leaves, each in C order, in their common dtype. Python's
        floats take the dtype of the others.
    unravel : Unravel
        ``unravel(x)`` is a tree of the same structure. For a function of the tree, pass it to
        `differentiable`.

    Raises
    ------
    TypeError
        If a leaf is not an array or number of floats. The message names its place.

    Examples
    --------
    >>> import numpy as np
    >>> import nbhvp
    >>> x, unravel = nbhvp.ravel({"W": np.eye(2), "b": [1.0, 2.0]})
    >>> x
    array([1., 0., 0., 1., 1., 2.])
    >>> unravel(10 * x)["b"]
    [np.float64(10.0), np.float64(20.0)]
    """
    leaves: list[np.ndarray] = []
    root = _part(tree, (), leaves)
    x = np.concatenate([np.zeros(0), *(leaf.ravel() for leaf in leaves)])
    dtypes = {part.dtype for part in _walk(root) if isinstance(part, Leaf) and part.dtype}
    x = x.astype(np.result_type(*dtypes or [float]), copy=False)
    return x, Unravel(root, x.size, is_mixed=len(dtypes) > 1)


@dataclass(frozen=True)
class Leaf:
    """An array or number in a tree, and its place in x."""

    path: Path
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype | None
    """None for a Python float, which takes that of x."""
    is_number: bool

    @property
    def stop(self) -> int:
        return self.start + math.prod(self.shape)


@dataclass(frozen=True)
class Branch:
    """A container in a tree; its parts are one range of x."""

    path: Path
    start: int
    stop: int
    kind: type
    parts: tuple[Leaf | Branch, ...]

    def filled(self, items: list, class_of: Callable) -> Any:
        """A container like this one, of other items; `class_of` gives the class to make."""
        names = (part.path[-1] for part in self.parts)
        kind = class_of(self.kind)
        if hasattr(self.kind, "_make"):
            return kind._make(items)
        if dataclasses.is_dataclass(self.kind):
            return kind(**dict(zip(map(str, names), items, strict=True)))
        return kind(zip(names, items, strict=True) if self.kind in _DICTS else items)


def _itself(kind: type) -> type:
    return kind


_DICTS = (dict, OrderedDict)
_FLOATS = (np.dtype(np.float64), np.dtype(np.float32))


class Unravel:
    """The map from a vector to a tree of arrays. Made by `ravel`.

    Called with x of shape (n,), it gives fresh arrays, never views of x: to write into a tree leaves
    x as it was. In a function that is being differentiated it does the same with traced arrays.

    Attributes
    ----------
    names : tuple of tuple
        The place of each leaf in the tree: keys, field names and positions from the outside in.
    size : int
        The size n of x.
    """

    def __init__(
        self, root: Leaf | Branch, size: int, is_mixed: bool, class_of: Callable = _itself
    ):
        self._root = root
        self.size = size
        self._is_mixed = is_mixed
        self._class_of = class_of
        self._parts = {part.path: part for part in _walk(root)}

    @property
    def names(self) -> tuple[Path, ...]:
        return tuple(path for path, part in self._parts.items() if isinstance(part, Leaf))

    def __call__(self, x) -> Any:
        if not hasattr(x, "astype"):
            x = np.asarray(x)
        if x.dtype.kind not in "fc":
            x = x.astype(float)
        if x.shape != (self.size,):
            raise ValueError(f"x must have shape ({self.size},), got {x.shape}")
        return self._built(self._root, x)

    def ravel(self, tree) -> np.ndarray:
        """The vector x of a tree of the same structure.

        Parameters
        ----------
        tree
            Like the one that `ravel` was given, with other values: float32 or float64, integers and
            booleans, or lists for arrays.

        Raises
        ------
        ValueError
            If a part is missing, is not known, or has another shape; names its place.

        Examples
        --------
        >>> import nbhvp
        >>> x, unravel = nbhvp.ravel({"a": 1.0, "b": [2.0, 3.0]})
        >>> unravel.ravel({"b": [5, 6], "a": 4})
        array([4., 5., 6.])
        """
        return self.joined(self.leaves(tree))

    def joined(self, leaves: list[tuple[Leaf, Any]]) -> np.ndarray:
        """The vector x of leaves."""
        found = list(starmap(_converted, leaves))
        dtypes = {array.dtype for array, is_weak in found if not is_weak}
        x = np.concatenate([np.zeros(0), *(array.ravel() for array, _ in found)])
        return x.astype(np.result_type(*dtypes or [float]), copy=False)

    def leaves(self, tree) -> list[tuple[Leaf, Any]]:
        """The leaves of a tree of this structure, with what the tree has in their places."""
        return list(_leaves(self._root, tree))

    def filled(self, items: Iterator) -> Any:
        """The tree with these leaves."""
        return self._filled(self._root, items)

    def _filled(self, part: Leaf | Branch, items: Iterator) -> Any:
        if isinstance(part, Branch):
            return part.filled([self._filled(one, items) for one in part.parts], self._class_of)
        return next(items)

    def is_array(self, shape: tuple[int, ...]) -> bool:
        """Whether the tree is one array of this shape, other than that of x."""
        root = self._root
        return isinstance(root, Leaf) and root.shape == shape != (self.size,)

    def of_classes(self, class_of: Callable) -> Unravel:
        """The same map, with other classes in the place of those of its containers."""
        return Unravel(self._root, self.size, self._is_mixed, class_of)

    def _built(self, part: Leaf | Branch, x) -> Any:
        if isinstance(part, Branch):
            return part.filled([self._built(one, x) for one in part.parts], self._class_of)
        array = x[part.start : part.stop].reshape(part.shape)
        array = array.astype((self._is_mixed and part.dtype) or array.dtype)
        return array[()] if part.is_number else array

    def slice(self, name) -> slice:
        """Where a leaf, or all leaves of a container, lie in x.

        Parameters
        ----------
        name : str, int or tuple
            A name at the top of the tree; names from the outside in as a tuple, ("layers", 0, "W"),
            or as one string with dots, "layers.0.W".

        Raises
        ------
        KeyError
            If nothing in the tree has the name, or more than one part has the dotted name.

        Examples
        --------
        >>> import nbhvp
        >>> x, unravel = nbhvp.ravel({"a": 1.0, "b": [2.0, 3.0]})
        >>> unravel.slice("b"), unravel.slice(("b", 1))
        (slice(1, 3, None), slice(2, 3, None))
        """
        part = self._part(name)
        return slice(part.start, part.stop)

    def _part(self, name) -> Leaf | Branch:
        path = name if isinstance(name, tuple) else (name,)
        found = [self._parts[path]] if path in self._parts else []
        if not found and isinstance(name, str):
            found = [part for path, part in self._parts.items() if path and _dotted(path) == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise KeyError(f"{name!r} names more than one part: give the names as a tuple")
        known = ", ".join(map(_dotted, self.names))
        raise KeyError(f"no part of the tree has the name {name!r}; its arrays are {known}")

    def __eq__(self, other) -> bool:
        return isinstance(other, Unravel) and (self._root, self._class_of) == (
            other._root,
            other._class_of,
        )

    def __hash__(self) -> int:
        return hash(self._root)

    def __repr__(self) -> str:
        leaves = (part for part in self._parts.values() if isinstance(part, Leaf))
        arrays = (f"{_dotted(leaf.path)}{list(leaf.shape)}" for leaf in leaves)
        return f"<nbhvp.Unravel ({self.size},) -> {', '.join(arrays)}>"


def _walk(part: Leaf | Branch) -> Iterator[Leaf | Branch]:
    yield part
    for one in part.parts if isinstance(part, Branch) else ():
        yield from _walk(one)


def _leaves(part: Leaf | Branch, tree) -> Iterator[tuple[Leaf, Any]]:
    """The leaves of a part, in its order, with what a tree like it has in their places."""
    if isinstance(part, Leaf):
        yield part, tree
        return
    items = dict(_items(tree, part.path) or ())
    names = [one.path[-1] for one in part.parts]
    if items.keys() != set(names):
        known, given = (", ".join(map(repr, some)) or "none" for some in (names, items))
        raise ValueError(f"{_place(part.path)} must have the parts {known}, got {given}")
    for one in part.parts:
        yield from _leaves(one, items[one.path[-1]])


def _converted(leaf: Leaf, tree) -> tuple[np.ndarray, bool]:
    """The array of a leaf; whether others decide on its dtype."""
    kind = type(tree)
    is_refused = issubclass(kind, np.ndarray) and kind not in PLAIN_CLASSES
    array = np.empty(0, object) if is_refused else tree if _is_traced(kind) else np.asarray(tree)
    if array.dtype.kind not in "biuf" or array.shape != leaf.shape:
        given = f"{array.dtype} of shape {array.shape}"
        given = given if array.dtype != object else f"an object of type {kind.__name__}"
        raise ValueError(
            f"{_place(leaf.path)} must be an array of numbers of shape {leaf.shape}, got {given}"
        )
    is_weak = isinstance(tree, bool | int | float) and not isinstance(tree, np.generic)
    return (array if array.dtype in _FLOATS else array.astype(float)), is_weak


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))


def _part(tree, path: Path, leaves: list[np.ndarray]) -> Leaf | Branch:
    """The structure of a tree; its arrays are appended to `leaves`."""
    start = sum(leaf.size for leaf in leaves)
    items = _items(tree, path)
    if items is None:
        if is_on_device(tree):  # the structure of such a tree is asked for, not its numbers
            tree = np.zeros(tuple(tree.shape), str(tree.dtype).rpartition(".")[2])
        array = _floats(tree, path)
        leaves.append(array)
        dtype = None if type(tree) is float else array.dtype
        return Leaf(path, start, array.shape, dtype, not isinstance(tree, np.ndarray))
    parts = tuple(_part(item, (*path, name), leaves) for name, item in items)
    stop = parts[-1].stop if parts else start
    return Branch(path, start, stop, type(tree), parts)


def _items(tree, path: Path) -> list[tuple[Hashable, Any]] | None:
    """The names and items of a container; None for a leaf."""
    if type(tree) in _DICTS:
        return list(tree.items())
    if type(tree) in (list, tuple):
        return list(enumerate(tree))
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return list(zip(tree._fields, tree, strict=True))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = dataclasses.fields(tree)
        if not all(field.init for field in fields):
            raise TypeError(
                f"{_place(path)} is a dataclass with fields that its constructor does not take: "
                "make them properties"
            )
        return [(field.name, getattr(tree, field.name)) for field in fields]
    return None


def _is_traced(kind: type) -> bool:
    """Whether a class is no array of NumPy's, but goes through its functions as one."""
    return hasattr(kind, "__array_function__") and not issubclass(kind, np.ndarray)


def _floats(leaf, path: Path) -> Any:
    if _is_traced(type(leaf)) and leaf.dtype in _FLOATS:
        return leaf
    is_float = isinstance(leaf, float | np.floating) or type(leaf) is np.ndarray
    if not is_float or (array := np.asarray(leaf)).dtype not in _FLOATS:
        kind = type(leaf).__name__
        given = f"an array of {leaf.dtype}" if isinstance(leaf, np.ndarray) else f"of type {kind}"
        raise TypeError(
            f"{_place(path)} is {given}: a tree is made of dicts, lists, tuples, named tuples and "
            "dataclasses of arrays and numbers of float32 or float64; convert it with "
            "np.asarray(..., float), or pass it as a further argument of the function"
        )
    return array


def _place(path: Path) -> str:
    return "tree" + "".join(f"[{name!r}]" for name in path)
