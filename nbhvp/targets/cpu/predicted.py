"""Seconds to compile a kernel, predicted from its text before anything is compiled.

LLVM takes about as long as the code is large that it makes. What a text adds to that code is counted:

    text + (slots slot + loops loop + statements statement + arguments elementary) share

with a slot for each word of its table, an argument for each that an elementary function is given (its
body is written out at each call), and a share below 1 where LLVM makes no vectors. A kernel with rare
cases has its loops twice. The factors are figures of the machine (`plan.costs`). Of the kernels of the
benchmarks and of further programs, four of five are predicted within a factor of 1.5
(`python -m benchmarks.costs`). Counts alone decide, never a clock, so that runs repeat.
"""

from __future__ import annotations

import functools
import re

from nbhvp.plan.costs import CPU
from nbhvp.targets.lowering import scalars
from nbhvp.targets.lowering.syntax import has_rare_cases
from nbhvp.targets.native.machine import Effort

__all__ = ["compile_seconds"]

_SLOT = re.compile(r" = \w+\(table, ")
_ELEMENTARY = re.compile(rf"(?<![\w.])(?:{'|'.join(scalars.__all__)})\(([^()]*)\)")


def compile_seconds(source: str, effort: Effort = Effort.FULL) -> float:
    """The seconds from the text of a kernel to its object code."""
    slots, loops, statements, arguments = _counted(source)
    work = (
        slots * CPU.slot
        + loops * CPU.loop
        + statements * CPU.statement
        + arguments * CPU.elementary
    )
    return CPU.text + work * (CPU.without_vectors if effort else 1.0)


@functools.lru_cache(maxsize=1024)
def _counted(source: str) -> tuple[int, int, int, int]:
    """The slots, loops, statements and arguments of elementary functions in a text."""
    _, _, body = source.partition("(table, lo, hi):\n")
    slots = len(_SLOT.findall(body))
    twice = 1 + has_rare_cases(body)
    arguments = sum(1 + given.count(",") for given in _ELEMENTARY.findall(body))
    return slots, twice * body.count("for "), twice * (body.count("\n") - slots), arguments
