"""What a program consists of: its steps, its buffers and their places, as data.

`assembly` makes it from a plan. It is all that a process needs to run the program: it may come from the
disk as well (`stored`), in a process that plans nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from nbhvp.graph.node import Graph, Node
from nbhvp.plan.layout import Layout, Scratch
from nbhvp.targets.cpu import run as cpu

__all__ = ["Parts", "Stretch"]


@dataclass(frozen=True)
class Stretch:
    """Steps that one compiled call runs, or one library call."""

    steps: tuple[cpu.Step, ...] = ()
    library: Node | None = None


@dataclass(frozen=True)
class Parts:
    """A program for one hot input and one main output, by their positions."""

    graph: Graph
    """What it computes, of which only inputs and outputs count: their shapes and dtypes."""
    hot: int
    main: int
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    """Those that steps write: an output may lack a last reshape."""
    direct: dict[Node, tuple[int, ...]]
    """The large outputs beside the main one, which are written where they stay, and their shapes."""
    stretches: tuple[Stretch, ...]
    buffers: tuple[Node | Scratch, ...]
    layout: Layout
    seconds: float
    """Of a run on one thread, predicted."""
    calls_blas: bool
    """Whether BLAS would use threads of its own, were it let."""
