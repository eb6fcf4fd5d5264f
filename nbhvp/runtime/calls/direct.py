"""Calls that go straight to compiled code: the same trace, at arguments of the same kind.

A small function waits for Python above all. `nbhvp.targets.cpu.entries.forms` makes functions that test whether
the arguments of a call are those of a trace and run one of its programs, in a fraction of a
microsecond. Each gives None wherever that test does not tell; the general way (`memory`, `validity`)
then finds out what the call needs. `Direct` has the functions of one trace.

Larger programs, and all programs before a process has made so many calls that this code pays, are called
by `plain_calls`, in Python.

What is tested in compiled code: types, dtypes and shapes of arrays and floats, static arguments, and
objects that the trace has read elsewhere, if these are compared by identity or by their bytes. Other
objects are looked at in Python first (`Closure`).
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nbhvp.graph.linear_map import Product
from nbhvp.plan.costs import CPU
from nbhvp.runtime.calls import plain_calls
from nbhvp.runtime.calls.call import LARGE, SHARED, same_argument, same_bits
from nbhvp.trace.arguments import Leaf, Static
from nbhvp.trace.record import Trace
from nbhvp.trace.surroundings.closure import Closure

__all__ = ["Direct", "directly", "general", "is_worthwhile"]

Entry = Callable[..., Any]
"""``entry(cold, x, *args)``: outputs, or None."""


_OTHERS = object()
"""No argument of any call."""


def general(*_: Any) -> None:
    """What leaves everything to the general way."""


@dataclass(eq=False)
class Direct:
    """The direct calls of one trace; those that are not known leave everything to the general way."""

    accept: Entry = general
    """``accept(x, *args)`` is True if the trace serves a call, its guards aside."""
    same: Entry = general
    """``same(inputs, x, *args)`` is True if a call has these inputs, bit by bit, too."""
    unchanged: Entry = general
    """``unchanged(inputs, x, *args)`` is True if a call has these inputs but for x, bit by bit."""
    value: Entry = general
    gradient: Entry = general
    """Value and gradient."""
    points: dict[Product, Entry] = field(default_factory=dict)
    """State of a product, and perhaps results."""
    full_points: dict[Product, Entry] = field(default_factory=dict)
    """State and results."""
    keys: Sequence[Leaf | Static] = ()
    names: tuple[str, ...] | None = None
    """Of the last arguments, which were given by name; then comes this tuple as one more."""
    form: Any = None
    closure: Closure | None = None
    """Where it has to be looked at in Python."""
    watches: tuple | None = None
    can_be_kept: bool = False
    """Whether a later call can tell if it has the same arguments."""

    def entry(self, program: Any, guards: Sequence[bytes], **how: bool) -> Entry:
        """The direct call of a program, whose first outputs are guards."""
        if self.form is None:
            return general
        found = self.form.evaluate(program, guards, **how)
        if found is not None:
            return self._watched(found)
        if guards and program.seconds >= CPU.wake:
            return general  # which runs once where a guard fails
        return plain_calls.evaluation(self.accept, self.leaves, program, guards, **how)

    def needing_nothing(self) -> Entry:
        """The direct call of a program without outputs."""
        accept = self.accept
        return lambda cold, *arguments: () if accept(*arguments) else None

    def by_place(self, args: tuple, kwargs: dict) -> tuple:
        """Arguments as direct calls take them, which go the general way if the names are others."""
        names = self.names if tuple(kwargs) == self.names else _OTHERS
        return (*args, *kwargs.values(), names)

    def leaves(self, args: Sequence[Any]) -> Sequence[np.ndarray]:
        """The arrays beside x of a call that has the form; floats as arrays."""
        if not self.keys:
            return ()
        pairs = zip(self.keys, args, strict=False)
        return [np.asarray(value) for key, value in pairs if type(key) is Leaf]

    def _watched(self, entry: Entry) -> Entry:
        closure = self.closure
        if closure is None:
            return entry
        return lambda *arguments: None if closure.changed() else entry(*arguments)


def is_worthwhile(calls: int) -> bool:
    """Whether calls of a trace are to be direct after so many."""
    return _forms().is_worthwhile(calls)


@functools.cache
def _forms() -> Any:
    return importlib.import_module(
        "nbhvp.targets.cpu.entries.forms"
    )  # which only compiled programs need


def directly(trace: Trace, key: tuple, is_compiled: bool) -> Direct:
    """The direct calls of a trace with a key, none of whose programs is known yet."""
    _, shape, dtype, arguments = key
    args, named = arguments or ((), None)
    keys = (*args, *(named.items if named else ()))
    if trace.aliases is not None or not all(map(_is_plain, keys)):
        return Direct(watches=trace.closure.watches)
    names, closure, forms = named.names if named and named.names else None, trace.closure, _forms()
    watches = closure.by_identity() if is_compiled else None
    x, others = Leaf("array", shape, dtype), [*keys, *([Static(tuple, names)] if names else [])]
    described = [x, *others]
    if is_compiled:
        form = forms.Form([_described(forms, one) for one in described], watches or ())
    else:
        form = plain_calls.Form(x, others, functools.partial(forms.is_worthwhile, forms.FEW))
    leaves = [one for one in described if type(one) is Leaf]
    sizes = [int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves]
    made = Direct(
        keys=keys,
        names=names,
        form=form,
        closure=closure if watches is None else None,
        watches=closure.watches if is_compiled else None,
        can_be_kept=all(size <= LARGE for size in sizes[1:]),
    )
    made.accept = made._watched(form.accept())
    made.same = form.same() if max(sizes) < SHARED and made.can_be_kept else _same(made, form)
    if is_compiled and leaves[1:] and made.can_be_kept:
        first, *others = (_described(forms, one) for one in described)
        made.unchanged = forms.Form([replace(first, is_compared=False), *others]).same()
    if watches is None:
        made.same = _glanced(closure, made.same)
    return made


def _glanced(closure: Closure, same: Entry) -> Entry:
    """A test that looks at large arrays of the surroundings by some of their elements."""
    return lambda *arguments: None if closure.glance() else same(*arguments)


def _same(direct: Direct, form: Any) -> Entry:
    """The test of large arguments, which are compared in blocks or by identity."""
    accept = form.accept()

    def same(inputs: Sequence[np.ndarray], x: np.ndarray, *args: Any) -> bool | None:
        if not accept(x, *args) or not same_bits(x, inputs[0]):
            return None
        return all(map(same_argument, direct.leaves(args), inputs[1:])) or None

    return same


_PLAIN = (bool, int, str, type(None))
_KINDS = {"float": float, "scalar": np.float64}


def _is_plain(key: Any) -> bool:
    if type(key) is Static:
        return key.kind in _PLAIN
    return type(key) is Leaf and (key.kind != "scalar" or key.dtype == np.float64)


def _described(forms: Any, key: Leaf | Static) -> Any:
    if isinstance(key, Static):
        return forms.Same(key.value)
    if key.kind in _KINDS:
        return forms.Number(_KINDS[key.kind])
    return forms.Array(key.shape, np.dtype(key.dtype.char))
