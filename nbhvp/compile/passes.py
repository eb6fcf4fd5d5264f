"""Several steps in one pass over the rows of a matrix.

X.T @ (d * (X @ v)) reads X twice where BLAS computes it, and a large X comes from memory each time.
Here the steps in between are run block by block of rows: a block of X @ v, the maps of its rows, and
its share of the second product, while the block of X is in cache. The shares are partial results of
blocks fixed by size, added in order, as in every sum.
"""

from __future__ import annotations

from dataclasses import dataclass

from nbhvp.compile import cache, cpu
from nbhvp.compile.pull import Index
from nbhvp.compile.schedule import Map, MatrixProduct, Step
from nbhvp.graph.node import Node

__all__ = ["Pass", "in_sequence", "with_passes"]

CACHED = 1 << 18
"""Bytes of a block of rows: they stay in a core's own cache until they are read again."""
FROM = 1 << 20
"""Bytes of a matrix from which one pass is faster than two."""
MOST_BLOCKS = 512

_SEQUENCE = '''"""Kernels on the same rows, a block at a time, while these are in cache."""
from nbhvp.compile.language import enter, integer, kernel


@kernel
def sequence(table, lo, hi):
    for k in range(integer(table, 0)):
        enter(table, k, lo, hi)
'''


@dataclass(frozen=True, eq=False)
class Pass:
    """A product X y, maps of its rows, and a product of X transposed with one of these."""

    first: MatrixProduct
    maps: tuple[Map, ...]
    last: MatrixProduct
    block: int


def with_passes(steps: tuple[Step, ...]) -> list[Step | Pass]:
    """The same steps, with those that can share a pass over a matrix put together."""
    found: list[Step | Pass] = []
    at = 0
    while at < len(steps):
        one = _pass_at(steps, at)
        found.append(one or steps[at])
        at += 1 if one is None else len(one.maps) + 2
    return found


def _pass_at(steps: tuple[Step, ...], at: int) -> Pass | None:
    first = steps[at]
    if not isinstance(first, MatrixProduct) or first.node.shape[::2] != (1, 1):
        return None
    (x, offset, strides), (y, _, _) = first.operands
    _, rows, columns = first.node.args[0].shape
    bytes_of_row = columns * first.node.dtype.itemsize
    if strides[2] != 1 or strides[1] < columns or rows * bytes_of_row < FROM:
        return None
    written: set[Node] = {first.node}
    maps: list[Map] = []
    for step in steps[at + 1 :]:
        if isinstance(step, Map) and _is_rowwise(step, rows, written):
            maps.append(step)
            written.update(node for node, _ in step.results)
            continue
        if isinstance(step, MatrixProduct) and step.node.shape == (1, columns, 1):
            matrix, start, (_, column, row) = step.operands[0]
            same = _place(matrix, start) == _place(x, offset)
            transposed = same and (row, column) == (strides[1], 1)
            vector, start, (_, row, _) = step.operands[1]
            if transposed and vector in written and (start, row) == (0, 1):
                block = max(-(-CACHED // bytes_of_row), -(-rows // MOST_BLOCKS), 1)
                return Pass(first, tuple(maps), step, block) if y not in written else None
        return None
    return None


def _place(array: Node, offset: int) -> tuple:
    """Where an element lies; constants that show the same memory are one."""
    if array.value is None:
        return array, offset
    return array.value.ctypes.data + offset * array.dtype.itemsize, array.dtype


def _is_rowwise(step: Map, rows: int, written: set[Node]) -> bool:
    """Whether element i of a map of one long axis needs only elements i of what is written."""
    wide = [v for v, extent in zip(step.variables, step.shape, strict=True) if extent != 1]
    if len(wide) != 1 or rows not in step.shape:
        return False
    narrow = [v for v in step.variables if v is not wide[0]]
    here = Index.of(wide[0])
    return all(
        Index({a: c for a, c in load.index.terms.items() if a not in narrow}, load.index.const)
        == here
        for load in step.loads
        if load.array in written
    )


def in_sequence(steps: list[cpu.Step], units: list[int], extent: int, block: int) -> cpu.Step:
    """One step that runs kernels on the same blocks; `units` are the rows of one unit of each."""
    head = 1 + 3 * len(steps)
    records, tables = [], []
    for step, unit in zip(steps, units, strict=True):
        records += [step.address, head + _words(tables), unit]
        tables += step.table
    kernel = cache.load(_SEQUENCE)
    return cpu.Step(kernel.address, (len(steps), *records, *tables), extent, block)


def _words(table: list) -> int:
    return sum(2 if isinstance(entry, complex) else 1 for entry in table)
