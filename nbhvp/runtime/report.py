"""Counts of a Function: its traces, the runs of its programs, the products of its operators.

`Report` is the table that the user sees. Each operator counts its own products in a list of one
number, the cheapest counter that Python has, because a product with ten entries takes less than a
microsecond; `Products` adds these counts up when a report is made.

Invariant: the total never falls. When an operator is deleted, its count is added to the Function's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbhvp.graph.time.recurrences import Recurrence
    from nbhvp.loops.call import LoopCall

__all__ = ["Products", "Report", "Tally"]


@dataclass
class Report:
    """The numbers of traces and of runs of a Function, and the time that compiling took.

    ``print`` shows it as a table.

    Attributes
    ----------
    target : str
        Where the latest trace is computed, which ``target="auto"`` chooses.
    traces, retraces : int
        The number of traces, and the number of these that replaced an earlier trace for arguments of
        the same kind, because a guard failed or a variable of the closure had changed.
    value_runs, gradient_runs, point_runs : int
        Runs of the programs. The counts are approximate if several threads run at once.
    product_runs : int
        Products with single directions: in ``hvp``, ``jvp`` and ``vjp``, in operators, and in the
        solvers that use these.
    kernels_compiled, kernels_loaded : int
        Kernels that were compiled, or loaded from the disk, for this Function. Kernels that the
        process had before are not counted. ``python -m nbhvp cache`` prints their folder.
    plans_loaded : int
        Programs that an earlier process had planned: nothing was derived, split or scheduled for them.
    kernels_by_numba : int
        The kernels among these that Numba compiles, which takes about ten times as long: those with
        powers of integers, or with some functions of complex numbers or of parameters.
    interpreted_runs : int
        Runs of programs and products that NumPy made, with ``compile="lazy"``, because compiling them
        was predicted to take longer.
    host_steps, library_steps : int
        Steps of programs for a GPU that have no kernel: those that NumPy computes on the host, between two
        copies, and those that CuPy computes on the device, where it is installed.
    state_bytes : int
        What a point keeps for products, in bytes, of the latest kind of product that was prepared.
    compile_seconds : float
        The time that compiling and loading these kernels took.
    trace_seconds, schedule_seconds : float
        The time of tracing, and the time of deriving, splitting and scheduling graphs.
    loops : tuple of LoopCall
        The calls of functions under ``@njit`` with loops, in the latest trace: for each, its number
        of operations, the part that became arrays, the part that is swept over, and the time.
    recurrences : tuple of Recurrence
        The loops over time in plain Python that became one node each, in the latest trace.
    hosted : tuple of str
        What runs on the host, by the names of operations.
    dense : tuple of str
        The operations that made the latest sparse matrix denser than it may be: all of their results
        count as dependent on all of their operands.
    """

    target: str = ""
    traces: int = 0
    retraces: int = 0
    value_runs: int = 0
    gradient_runs: int = 0
    point_runs: int = 0
    product_runs: int = 0
    kernels_compiled: int = 0
    kernels_loaded: int = 0
    plans_loaded: int = 0
    kernels_by_numba: int = 0
    interpreted_runs: int = 0
    host_steps: int = 0
    library_steps: int = 0
    state_bytes: int = 0
    compile_seconds: float = 0.0
    trace_seconds: float = 0.0
    schedule_seconds: float = 0.0
    loops: tuple[LoopCall, ...] = ()
    recurrences: tuple[Recurrence, ...] = ()
    hosted: tuple[str, ...] = ()
    dense: tuple[str, ...] = ()

    def _rows(self) -> list[tuple[str, str]]:
        """The names and their counts, as strings."""
        lists = ("loops", "recurrences", "hosted", "dense")
        counts = {n: value for n, value in vars(self).items() if n not in (*lists, "target")}
        rows = [("target", self.target)] if self.target else []
        rows += [
            (name.replace("_", " "), f"{n:.3g}" if name.endswith("seconds") else f"{n:,}")
            for name, n in counts.items()
        ]
        rows += [("loop over time", str(loop)) for loop in self.recurrences]
        rows += [("on the host", name) for name in self.hosted]
        rows += [("dense", name) for name in self.dense]
        return rows + [(f"loops of {call.function}", str(call)) for call in self.loops]

    def __str__(self) -> str:
        rows = self._rows()
        width = max(len(name) for name, _ in rows[: len(rows) - len(self.loops)])
        return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        import html

        cells = (
            f"<tr><th style='text-align: left'>{html.escape(name)}</th>"
            f"<td style='text-align: right'>{html.escape(value)}</td></tr>"
            for name, value in self._rows()
        )
        return f"<table>{''.join(cells)}</table>"


class Products:
    """The number of products of all operators of a Function."""

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
    """The counter of one operator; `Products` keeps its count after the operator is deleted."""

    __slots__ = ("_products", "count")

    def __init__(self, products: Products):
        self.count = [0]
        self._products = products
        products._add(self.count)

    def __del__(self) -> None:
        self._products._remove(self.count)
