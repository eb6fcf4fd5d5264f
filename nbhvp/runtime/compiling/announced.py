"""What is told of programs that take long to make: a warning beforehand, and progress on a terminal.

The warning follows from a prediction by counts, so it comes at the same place in each run. Progress is
one line on the standard error, at most every half second, and is cleared in the end. It is shown on
terminals alone, and nowhere if the environment has NBHVP_PROGRESS=0.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator

from nbhvp.errors import CompileTimeWarning

__all__ = ["progress", "warn"]

INTERVAL = 0.5
"""Seconds from one line to the next, and to the first."""
CLEAR = "\r\x1b[K"


def warn(name: str, place: tuple[str, int], seconds: float, size: str) -> None:
    """Warn of so many seconds for all programs up to the next, which has that size."""
    text = (
        f"compiling {name} and its derivatives is predicted to take {seconds:.0f} s: the next program "
        f"has {size}. Loops in Python "
        "are unrolled: write them with operations on arrays, put them under numba.njit (or "
        "differentiate with loops=True), or take fewer steps. With "
        "nbhvp.differentiable(fun, compile='lazy') NumPy computes until compiling pays, with "
        "target='interpret' always"
    )
    warnings.warn_explicit(text, CompileTimeWarning, *place)


@contextlib.contextmanager
def progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """A function that is told how many kernels of all are done."""
    shown, last = False, time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal shown, last
        now = time.monotonic()
        if now - last >= INTERVAL:
            sys.stderr.write(f"{CLEAR}nbhvp compiles {name}: kernel {done + 1} of {total}")
            sys.stderr.flush()
            shown, last = True, now

    try:
        yield show if _is_wanted() else lambda done, total: None
    finally:
        if shown:
            sys.stderr.write(CLEAR)
            sys.stderr.flush()


def _is_wanted() -> bool:
    is_terminal = getattr(sys.stderr, "isatty", lambda: False)
    return os.environ.get("NBHVP_PROGRESS", "") != "0" and is_terminal()
