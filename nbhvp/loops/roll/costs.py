"""The cost of a tape as arrays and as a sweep: seconds to compile once, and seconds per product.

A tape of n operations, of which some structures have a single one and others several, takes

                arrays                                  sweep
    compiling   single and several, each its figure     one figure
    a product   call + single + several + n element     call + n record

A loop over time has the operations of a step written out in one kernel, where each compiles and runs by
itself, or as arrays, which T steps compute T times.

A structure of several operations is an array, with loops in value, gradient and product; a single one is
a few statements of some kernel. A sweep has the same kernels for any tape, in which an operation
takes several times as long. So large tapes of few structures become arrays, and small or irregular
ones are swept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["CPU", "Cost", "Costs"]


@dataclass(frozen=True)
class Cost:
    """What one way costs, in seconds."""

    compiling: float
    product: float


@dataclass(frozen=True)
class Costs:
    """Figures of one machine, in seconds: pairs are to compile, and in each product."""

    single: Cost
    """A structure of one operation."""
    several: Cost
    """A structure of more operations."""
    element: float
    """An operation in a product of arrays."""
    call: float
    """A product of arrays of next to nothing."""
    sweep: Cost
    """The kernels of sweeps, over next to nothing."""
    record: float
    """An operation in a product by sweeps."""
    written: Cost
    """An operation of a step of a loop over time that is written out, in each step."""
    step: float
    """A structure of several operations in each step of such a loop whose steps are arrays."""
    products: float
    """How many products a compilation serves: those of a long run of a solver."""
    slower: float
    """How much longer a product may take if compiling it is shorter, but not by `patience`."""
    patience: float

    def arrays(self, sizes: np.ndarray) -> Cost:
        """Of structures that have so many operations each."""
        single = int(np.count_nonzero(sizes == 1))
        several = sizes.size - single
        return Cost(
            single * self.single.compiling + several * self.several.compiling,
            self.call
            + single * self.single.product
            + several * self.several.product
            + int(sizes.sum()) * self.element,
        )

    def swept(self, sizes: np.ndarray) -> Cost:
        """The same."""
        product = self.sweep.product + int(sizes.sum()) * self.record
        return Cost(self.sweep.compiling, product)

    def steps_written_out(self, steps: int, operations: int) -> Cost:
        """Of steps of so many operations."""
        product = self.call + steps * operations * self.written.product
        return Cost(operations * self.written.compiling, product)

    def steps_of_arrays(self, steps: int, operations: int, structures: int) -> Cost:
        """The same, of arrays."""
        step = structures * self.step + operations * self.element
        return Cost(structures * self.several.compiling, self.call + steps * step)

    def steps_of_lanes(self, steps: int, operations: int, lanes: int) -> Cost:
        """The same, of so many operations in each of some lanes: two kernels for a step of all."""
        step = 2 * self.step + operations * lanes * self.element
        return Cost(operations * self.single.compiling, self.call + steps * step)

    def total(self, cost: Cost) -> float:
        """The seconds that a way takes over all products."""
        return cost.compiling + self.products * cost.product

    def prefers_sweep(self, sizes: np.ndarray) -> bool:
        """Whether a sweep is the cheaper way for structures of so many operations each."""
        return self.prefers(self.swept(sizes), self.arrays(sizes))

    def prefers(self, swept: Cost, other: Cost) -> bool:
        """Whether a sweep is cheaper than another way, over all products."""
        saved = other.compiling - swept.compiling
        is_as_fast = swept.product <= self.slower * other.product
        return self.total(swept) < self.total(other) and (is_as_fast or saved > self.patience)


CPU = Costs(
    single=Cost(0.015, 2.5e-9), several=Cost(0.031, 8e-9), element=5e-10, call=3.5e-7,
    sweep=Cost(0.36, 4.8e-7), record=3.1e-9, written=Cost(8e-3, 8e-10), step=1e-7,
    products=1e5, slower=1.3, patience=3.0,
)  # fmt: skip
"""Set near a fit on x86-64 with AVX-512 at 2.5 to 3 GHz, empty caches, to fifteen tapes of up to 4,366
operations (force fields, factorisations, least squares, springs), seconds of CPU behind the recording.
Compiling was predicted within a factor of 2 for all, products of arrays within 2 but where whole arrays
are gathered again in each of many steps (five bodies for 10 steps: 22 us, not 6), sweeps within 1.2. Steps that are
written out (Runge-Kutta, filters, five bodies) compile within 1.5, and run within 6: from 0.15e-9 for each
operation where many are no derivative's, to 1.2e-9. Steps of arrays run within 4 (a rod, five bodies)."""
