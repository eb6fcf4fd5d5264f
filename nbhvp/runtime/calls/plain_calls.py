"""Direct calls in Python: of programs that compiled code does not call, and until there is such code.

`Form` makes the tests of `nbhvp.targets.cpu.entries.forms.Form`, but for surroundings, which are left to
`Closure`; `evaluation` runs a program behind a test. Both give None wherever they do not tell. They
take two to four times as long as compiled code, and half as long as the general way.

Invariant: once compiled code is worth its time, each test gives None, and the general way makes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbhvp.runtime.calls.call import same_bits
from nbhvp.trace.arguments import Leaf, Static

__all__ = ["Form", "evaluation"]


class Form:
    """The arguments of a call.

    Parameters
    ----------
    x : Leaf
    others : sequence of Leaf or Static
        Names come last, as one tuple that is compared by identity.
    is_over : callable
        Whether compiled code is to take the calls from now on.
    """

    def __init__(self, x: Leaf, others: Sequence[Leaf | Static], is_over: Callable[[], bool]):
        arguments = x, *others
        self._x, self._tests, self._is_over = x, [_test(one) for one in others], is_over
        self._are_arrays = [type(one) is Leaf for one in arguments]
        self._are_bare = all(one.kind == "array" for one in arguments)

    def accept(self) -> Callable[..., Any]:
        """``accept(x, *args)`` is True if the arguments have this form."""
        tests, count, is_over = self._tests, len(self._tests), self._is_over
        shape, dtype, array = self._x.shape, np.dtype(self._x.dtype.char), np.ndarray

        def accept(x: Any = None, *args: Any) -> bool | None:
            # Written out here, since each call of a small function waits for it.
            if type(x) is not array or x.dtype is not dtype or x.shape != shape:
                return None
            if not x.flags.c_contiguous or len(args) != count or is_over():
                return None
            for test, argument in zip(tests, args):  # noqa: B905  as many, and faster
                if not test(argument):
                    return None
            return True

        return accept

    def same(self) -> Callable[..., Any]:
        """``same(kept, *arguments)`` is True if the arguments are those in the tuple, bit by bit."""
        accept, arrays = self.accept(), None if self._are_bare else self._arrays

        def same(kept: Sequence[np.ndarray], *arguments: Any) -> bool | None:
            if not accept(*arguments):
                return None
            given = arrays(arguments) if arrays else arguments
            return all(map(same_bits, given, kept)) or None

        return same

    def evaluate(self, program: Any, guards: Sequence[bytes], **how: bool) -> None:
        """There is no compiled code: `evaluation` makes the call."""

    def _arrays(self, arguments: Sequence[Any]) -> Sequence[np.ndarray]:
        """What programs take."""
        pairs = zip(self._are_arrays, arguments, strict=True)
        return [np.asarray(argument) for is_array, argument in pairs if is_array]


def _test(argument: Leaf | Static) -> Callable[[Any], bool]:
    if type(argument) is Static:
        value, kind = argument.value, type(argument.value)
        is_compared = kind in (int, str)
        return lambda x: x is value or (is_compared and type(x) is kind and x == value)
    if argument.kind != "array":
        number = float if argument.kind == "float" else np.float64
        return lambda x: type(x) is number
    shape, dtype = argument.shape, np.dtype(argument.dtype.char)
    return lambda x: (
        type(x) is np.ndarray and x.dtype is dtype and x.shape == shape and x.flags.c_contiguous
    )


def evaluation(
    accept: Callable[..., Any],
    leaves: Callable[[Sequence[Any]], Sequence[np.ndarray]],
    program: Any,
    guards: Sequence[bytes] = (),
    *,
    is_finite: bool = False,
    as_numbers: bool = False,
    as_tuple: bool = True,
) -> Callable[..., Any]:
    """``evaluate(cold, x, *args)`` gives the outputs of a program but its guards.

    Parameters are those of `Form.evaluate` in `nbhvp.targets.cpu.entries.forms`, and a test of the arguments and
    the arrays among those beside x.
    """
    count = len(guards)

    def evaluate(cold: tuple, x: Any = None, *args: Any) -> Any:
        if not accept(x, *args):
            return None
        try:
            outputs = program(x, *leaves(args)) if args else program(x)
        except Exception:  # it counts only where the trace holds, as the general way finds out
            return None
        if count and any(a.tobytes() != b for a, b in zip(outputs, guards, strict=False)):
            return None
        if is_finite and not math.isfinite(outputs[0]):
            return None
        found = outputs[count:] if count else outputs
        if as_numbers:
            found = [a if a.ndim else a[()] for a in found]
        return tuple(found) if as_tuple else found[0]

    return evaluate
