"""What a Function did, counted: traces, runs of programs, products of its operators, compiling.

Products of operators are counted one by one in a list of one number, since a small product waits
for nothing else; a report adds them up. When an operator dies, its count stays with the Function.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbhvp.loops.call import LoopCall

__all__ = ["Products", "Report", "Tally"]


@dataclass
class Report:
    """How often a Function was traced and its programs ran, and what compiling took.

    It prints as a table.

    Attributes
    ----------
    traces, retraces : int
        Traces made; those of them for arguments that had a trace, whose guards failed or whose
        closure had changed.
    value_runs, gradient_runs, point_runs : int
        Runs of the programs. Counts are approximate while several threads run at once.
    product_runs : int
        Products with single directions: by ``hvp``, ``jvp``, ``vjp``, by operators, and by the
        solvers that use these.
    kernels_compiled, kernels_loaded : int
        Kernels that this Function was the first of the process to need: compiled, or loaded from
        the disk. ``python -m nbhvp cache`` tells where that is.
    kernels_by_numba : int
        Those of them that Numba compiles, which takes about ten times as long: kernels with powers of
        integers and some functions of complex numbers or of parameters.
    compile_seconds : float
        The time that these took.
    trace_seconds, schedule_seconds : float
        The time that traces took, and that deriving, splitting and scheduling took.
    loops : tuple of LoopCall
        The calls of compiled functions in the latest trace that were recorded by loops: their
        operations, what became arrays and what is swept over, and the time that took.
    """

    traces: int = 0
    retraces: int = 0
    value_runs: int = 0
    gradient_runs: int = 0
    point_runs: int = 0
    product_runs: int = 0
    kernels_compiled: int = 0
    kernels_loaded: int = 0
    kernels_by_numba: int = 0
    compile_seconds: float = 0.0
    trace_seconds: float = 0.0
    schedule_seconds: float = 0.0
    loops: tuple[LoopCall, ...] = ()

    def _rows(self) -> list[tuple[str, str]]:
        """Names and what they count, as texts."""
        counts = {name: value for name, value in vars(self).items() if name != "loops"}
        rows = [
            (name.replace("_", " "), f"{n:.3g}" if name.endswith("seconds") else f"{n:,}")
            for name, n in counts.items()
        ]
        return rows + [(f"loops of {call.function}", str(call)) for call in self.loops]

    def __str__(self) -> str:
        rows = self._rows()
        width = max(len(name) for name, _ in rows[: len(rows) - len(self.loops)])
        return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        cells = (
            f"<tr><th style='text-align: left'>{html.escape(name)}</th>"
            f"<td style='text-align: right'>{html.escape(value)}</td></tr>"
            for name, value in self._rows()
        )
        return f"<table>{''.join(cells)}</table>"


class Products:
    """The products that all operators of a Function gave."""

    def __init__(self) -> None:
        self._counts: dict[int, list[int]] = {}
        self._gone = 0

    @property
    def total(self) -> int:
        return self._gone + sum(count[0] for count in tuple(self._counts.values()))

    def _add(self, count: list[int]) -> None:
        self._counts[id(count)] = count

    def _remove(self, count: list[int]) -> None:
        del self._counts[id(count)]
        self._gone += count[0]


class Tally:
    """The count of one operator, which it keeps as long as it lives."""

    __slots__ = ("_products", "count")

    def __init__(self, products: Products):
        self.count = [0]
        self._products = products
        products._add(self.count)

    def __del__(self) -> None:
        self._products._remove(self.count)
