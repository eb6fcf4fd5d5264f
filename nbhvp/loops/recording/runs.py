"""What goes into a recorded run of a function, and what comes out, whatever runs it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbhvp.graph.table.tape import Tape
from nbhvp.trace.surroundings.closure import Watch

__all__ = ["Input", "Output", "Run", "leaf_of", "positions_in"]


@dataclass(frozen=True, eq=False)
class Output:
    """A number or an array that the function returned: where its elements are on the tape."""

    positions: np.ndarray
    """int64, in C order; real and imaginary parts one after another."""
    shape: tuple[int, ...]
    is_complex: bool = False


@dataclass(frozen=True, eq=False)
class Run:
    """What one run of a function recorded."""

    tape: Tape
    result: Output | tuple | None
    """As the function returned it: an Output, a tuple of such for a tuple or a list, or None."""
    written: tuple[tuple[int, Output | np.ndarray], ...]
    """Arrays among the arguments that the function wrote: which one, tuples counted depth first, and
    what it holds afterwards."""
    sources: tuple[Watch, ...]
    """What the code was compiled from: the tape is good as long as it reads the same."""


@dataclass(frozen=True, eq=False)
class Input:
    """An argument that is an input: its values in a row, and the shape that the function sees."""

    value: np.ndarray
    shape: tuple[int, ...]
    is_complex: bool = False


def leaf_of(arg):
    """An argument as it is passed on: a copy of an array, since the function may write to it."""
    if arg is None or isinstance(arg, bool | int | str | np.integer | np.bool_):
        return arg
    if isinstance(arg, np.ndarray) and (arg.dtype.kind in "iub" or arg.dtype.names):
        return np.array(arg, order="C")
    if isinstance(arg, float | complex | np.ndarray | np.generic):
        value = np.asarray(arg)
        shape = value.shape or (1,)
        if value.dtype in (np.float32, np.float64):
            return Input(value.astype(np.float64).ravel(), shape)
        if value.dtype in (np.complex64, np.complex128):
            return Input(value.astype(np.complex128).ravel().view(np.float64), shape, True)
        raise TypeError(f"{value.dtype} numbers cannot be recorded: pass float64")
    raise TypeError(
        f"an argument of type {type(arg).__name__} cannot be recorded: pass arrays, numbers, or "
        "tuples of them"
    )


def positions_in(result) -> np.ndarray:
    if isinstance(result, Output):
        return result.positions
    if result is None:
        return np.empty(0, np.int64)
    return np.concatenate([np.empty(0, np.int64), *map(positions_in, result)])
