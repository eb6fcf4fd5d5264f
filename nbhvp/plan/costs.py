"""The costs of a machine, on which all choices between programs with equal results are based.

A `Costs` describes one machine: seconds of arithmetic, of loads from caches and memory, of calls and
of waking a thread; sizes of caches; and the largest text that its compiler handles well. Every
threshold of the plan and of the targets is one of these fields or a property computed from them.

`CPU` was measured on x86-64 with AVX-512 at 2.5 to 3 GHz (numba 0.68, OpenBLAS). Weights of expressions
are in units of an addition, `flop`; the table of primitives gives the weight of each function.

Invariant: no cost changes a result, except by the order in which sums are added up. Limits of other
kinds stand with their algorithms: the depth of a search for squares, the number of objects that a
trace watches, the terms of series.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["CPU", "GPU", "Costs"]


@dataclass(frozen=True)
class Costs:
    """The figures of one machine: times in seconds, sizes in bytes."""

    # Arithmetic.
    flop: float
    """An addition in a loop that is vectorised, its operands in cache."""
    lanes: int
    """Numbers of eight bytes in a vector. Calls into libm take one at a time."""
    has_vectors: bool
    """Whether the elements of a long last axis are computed together."""
    wait: float
    """An addition or a product that waits for the result of the one before."""
    record: float
    """A record of a tape, in any of the sweeps over it."""

    # Memory.
    near: float
    """Eight bytes from a cache, or the part of a loop that each iteration has beside arithmetic."""
    load: float
    """Eight bytes from beyond the caches, in order."""
    pulled: float
    """Storing eight bytes that one loop loads at several indices, beside arithmetic: they lie in few lines."""
    line: int
    """A cache line: also the alignment of buffers."""
    l1: int
    l2: int
    """A core's own caches. From the second on new memory is dear too: 0.25 ms for a megabyte."""
    l3: int
    """What cores share, at least."""
    most: int
    """What one block of directions, or the tapes of one function, may take."""

    # Calls and threads.
    call: float
    """A BLAS routine, without its arithmetic."""
    launch: float
    """One kernel more in a program: 5e-9 for its call, the rest for its compiling, some 2e-2, over as
    many runs as a solver makes."""
    state: float
    """One array of state more, by the product: 3e-7 for each point, over some twenty products."""
    wake: float
    """Waking a thread that sleeps: up to 1e-4, but it may be awake still."""
    blocks: int
    """The most parts of a sum, which bounds the memory of their partial results."""

    # The text of kernels.
    kernel: float
    """The most that a kernel weighs, and a program that is not cut. A pass of 5600 additions compiles in
    1.0 s, cut into two or into four in 1.4 and 1.7 s, and runs faster: what kernels share is stored."""
    limit: float
    """The most that a value weighs that is computed where it is needed: larger ones are members of
    nests, and so in registers where all is in one nest. Also the most that a kernel weighs in a larger
    program, a long loop that was unrolled: so it is cut alike in each of its steps."""
    written_out: int
    """The extent up to which a trailing axis, of coordinates say, is no loop."""
    pieces: int
    """Pieces of a concatenation in one kernel, factors of a coefficient: each is written out."""
    narrow_step: int
    """Scalar operations of a step up to which a recurrence is one loop of one kernel."""
    narrow_vectors: int
    """The same where they are on vectors, whose elements kernels with loops compute together."""
    narrow_array: int
    """Elements of an array in such a step."""
    wide_step: int
    """Numbers of a step of a loop from which its kernels are worth their launches."""
    across: int
    """Elements of a row from which a sum over rows, if these are fewer, is a pass of its own, in which
    threads take elements: on CPUs they always take rows."""
    inlined: int
    """Instructions, in LLVM's language, of a function that may be copied to where it is called."""

    # Making programs.
    planned: float
    """A node of a graph: its derivatives, its place in a schedule, and its text."""
    first: float
    """A program's share of what the first compilation of a process takes beside, five times as much."""
    text: float
    """The text of a kernel, which is translated and compiled, aside from what it says."""
    slot: float
    loop: float
    statement: float
    """Parts of that text: a word of the kernel's table, a loop, a line."""
    elementary: float
    """An argument of an elementary function, whose body is written out at each call."""
    without_vectors: float
    """The part of this time that remains where LLVM makes no vectors."""
    interpreted: float
    """A node that NumPy computes, aside from its elements."""
    piece: float
    """A part of a matrix product of NumPy's."""
    crowded: float
    """A matrix product that NumPy's BLAS shares among threads, next to other processes: up to 3e-2."""
    element: float
    """An element of it in one of NumPy's passes."""
    new: float
    """An element of a large array, whose memory the system fills with zeros first."""
    runs: float
    """Runs of a program, for which it pays to compile longer: those of several solves."""
    patience: float
    """Compiling that takes longer is announced."""

    @property
    def scalar(self) -> float:
        """An addition's worth of a call into libm, which works on one number."""
        return self.lanes * self.flop

    @property
    def latency(self) -> float:
        """A step of a loop whose iterations wait for one another, as those of a scan do."""
        return 2 * self.scalar

    @property
    def start(self) -> float:
        """What a loop takes beside its vectors: for numbers left over, one at a time, and sums of lanes."""
        return self.lanes * self.latency

    @property
    def multiply_add(self) -> float:
        """A term of a matrix product."""
        return 2 * self.flop

    @property
    def term(self) -> float:
        """A term of a matrix product in a loop, where BLAS would have its operands in registers."""
        return 2 * self.multiply_add

    @property
    def block(self) -> float:
        """The part of a kernel that a thread takes at a time: several to a wake-up balance it."""
        return self.wake / 3

    @property
    def several(self) -> float:
        """A product from which it is worth to compile a program for several directions."""
        return self.wake / 2

    @property
    def pack(self) -> float:
        """A matrix element that BLAS loads and stores where its kernel reads it."""
        return 2 * self.load

    @property
    def copy(self) -> float:
        """An element that is read in one order and written in another, where lines are half used."""
        return 4 * self.load

    @property
    def choice(self) -> float:
        """Additions of a read that a condition guards, or of a number that all iterations have."""
        return self.near / self.flop / 2

    @property
    def loaded(self) -> float:
        """Additions to load eight bytes from beyond the caches."""
        return self.load / self.flop

    @property
    def again(self) -> float:
        """Additions to store what one loop pulls at several indices."""
        return self.pulled / self.flop

    @property
    def stored(self) -> float:
        """Additions to store eight bytes and load them again: a store takes about half a load."""
        return 1.5 * self.loaded

    def saved(self, weight: float, uses: float, load: float, store: float) -> float:
        """Additions that are saved where a value is stored, and loaded by all its uses but the first.

        Else each use computes it: `weight`, as `load` and `store`, is in additions per element.
        """
        return (uses - 1) * (weight - load) - store

    @property
    def block_size(self) -> int:
        """Numbers that fill the first cache: a block of a sum, or of the records of a tape."""
        return self.l1 // 8

    def fetch(self, size: int) -> float:
        """Eight bytes of an array of so many."""
        return self.near if size <= self.l2 else self.load

    @property
    def narrow(self) -> int:
        """Iterations of a loop of which two vectors are no more than a start."""
        return 2 * self.lanes

    @property
    def rare(self) -> float:
        """The part of a loop that may go without vectors: it takes at most as long as the rest."""
        return 1 / self.lanes

    @property
    def share(self) -> int:
        """A partial result is the sum of at least so many times its own elements: four vectors."""
        return 4 * self.lanes

    @property
    def terms(self) -> int:
        """Terms of a segment, in the mean, up to which whole segments are what threads share."""
        return self.block_size // 4

    @property
    def totals(self) -> int:
        """Sums that one loop adds up: with more, and their operands, registers do not suffice."""
        return 3 * self.lanes

    @property
    def long(self) -> int:
        """Iterations beside which it does not count what is done once before and after a loop."""
        return self.lanes * self.share

    @property
    def corners(self) -> int:
        """Elements that are written out in the body of a long loop: each is a register or two."""
        return 2 * self.share

    @property
    def most_written_out(self) -> int:
        """Elements of all axes that are no loops: those of a square matrix of coordinates."""
        return (self.written_out - 1) ** 2

    @property
    def parts(self) -> int:
        """Texts of one loop that is cut where its guards change, each with all of its body."""
        return self.pieces // 2

    @property
    def tangents(self) -> int:
        """Terms of a sum of which each is a coefficient times a tangent: longer ones stay as written."""
        return self.pieces // 4

    @property
    def collected(self) -> int:
        """Numbers that a recurrence carries, up to which the coefficients of each are collected."""
        return self.lanes

    @property
    def shared(self) -> int:
        """Bytes from which arrays are copied and compared on several threads: beyond their caches."""
        return 4 * self.l2

    @property
    def rows(self) -> int:
        """Rows of a matrix from which the partial results of a sum over them are few beside it."""
        return 4 * self.blocks


CPU = Costs(
    flop=2.5e-11,
    lanes=8,
    has_vectors=True,
    wait=1.3e-9,
    record=4e-9,
    near=1e-10,
    load=4e-10,
    pulled=4e-10,
    line=64,
    l1=1 << 15,
    l2=1 << 20,
    l3=1 << 24,
    most=1 << 29,
    call=3e-7,
    launch=25e-9,
    state=15e-9,
    wake=60e-6,
    blocks=64,
    kernel=6000.0,
    limit=150.0,
    written_out=4,
    pieces=16,
    narrow_step=10_000,
    narrow_vectors=1500,
    narrow_array=36,
    wide_step=1,
    across=1 << 62,
    inlined=400,
    planned=1.8e-4,
    first=2e-2,
    text=1.6e-3,
    slot=4.2e-4,
    loop=3.8e-3,
    statement=3.5e-5,
    elementary=5.6e-3,
    without_vectors=0.6,
    interpreted=1.5e-6,
    piece=2e-5,
    crowded=1e-2,
    element=8e-10,
    new=2e-9,
    runs=1e5,
    patience=5.0,
)

GPU = replace(
    CPU,
    flop=5e-14,
    has_vectors=False,
    near=6e-13,
    load=1.9e-12,
    pulled=6e-12,
    l2=1 << 25,
    launch=2e-6,
    state=1e-12,
    kernel=120.0,
    limit=180.0,
    wide_step=512,
    across=1 << 11,
)
"""All of a large GPU at once: 17e12 instructions in double precision and 4.3e12 bytes a second, so that a load from
memory takes as long as 32 operations, and a launch as long as a million loads. Of an addition's worth in the table
of primitives the machine code has 1.3 such instructions, in the mean of the benchmark problems. Arithmetic goes on
beside loads, and so an operation counts a little less than its instruction takes: where both are near, the plan
is that of fewer bytes. Kernels are small: a value that each thread keeps takes two of its 128 registers."""
