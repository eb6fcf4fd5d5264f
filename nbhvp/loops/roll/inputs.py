"""The grids of inputs: the axes along which the elements of an input are read.

A vector of unknowns often holds several arrays, such as cameras of 11 numbers each, then points of 3,
then weights. Loops read each of them through an index of its own, so the positions that one of them
has are a span that the others do not reach: spans without common elements are parts of the input. Each
part, or else the input, has the grid of the largest class that reads it as a grid, and the edges of that
grid are read over it too. Where one index reads several columns, 11 c + k, the grid has that many
columns, so that these are slices of one gather of rows.

Invariant: a grid or part is a view, so each choice gives the same numbers.
"""

from __future__ import annotations

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.loops.roll.views import Source, common_step, grids, is_affine, patterns, read

__all__ = ["arranged"]

MOST_SPANS = 8
"""Parts of an input."""


def arranged(source: Source, indices: list[np.ndarray], may_part: bool) -> Source:
    """An input with the grids over which positions, those of the largest class first, read it.

    With `may_part` a grid may be that of some instances of a class.
    """
    starts = _spans(indices) if len(source.shape) == 1 else []
    if not 1 < len(starts) <= MOST_SPANS:
        return _gridded(source, indices, may_part)
    parts = []
    for start, end in zip(starts, (*starts[1:], source.size), strict=True):
        node = p.slice_(source.node, start=(start,), step=(1,), size=(end - start,))
        inside = [one - start for one in indices if start <= one[0] < end]
        parts.append(_gridded(Source(node.shape, node), inside, may_part))
    return Source(source.shape, source.node, parts=tuple(parts))


def _spans(indices: list[np.ndarray]) -> list[int]:
    """Where spans without common elements begin: those that no index has are as one."""
    spans = sorted((int(one.min()), int(one.max()), not _is_run(one)) for one in indices)
    found: list[tuple[int, int, bool]] = []
    for low, high, is_indexed in spans:
        if found and (low <= found[-1][1] or not (is_indexed or found[-1][2])):
            first, last, other = found.pop()
            low, high, is_indexed = first, max(last, high), is_indexed or other
        found.append((low, high, is_indexed))
    return [0, *(low for low, _, _ in found[1:])]


def _is_run(index: np.ndarray) -> bool:
    return is_affine(index, index[0], index[min(1, index.size - 1)] - index[0])


def _gridded(source: Source, indices: list[np.ndarray], may_part: bool) -> Source:
    for index in indices:
        if not source.grids:
            _find_grid(source, index, may_part)
    if not source.grids:
        return source
    shape = source.grids[0]
    return Source(shape, p.reshape(source.node, shape=shape))


def _find_grid(source: Source, index: np.ndarray, may_part: bool) -> None:
    """Read a source over the grid of an index, or of a part of it, or over its columns."""
    parts = [index]
    if not (is_run := _is_run(index)) and may_part:
        parts += np.split(index, patterns([index])[1:-1])
    for part in parts:
        if not source.grids and len(grid := grids(part)) > 1:
            over_grid, flat = (read(source, part, shape) for shape in (grid, part.shape))
            if over_grid.cost < flat.cost:
                over_grid.make()
    columns = 1 if is_run or source.grids else common_step(index)
    if columns > 1 and source.size % columns == 0 and len(source.shape) == 1:
        source.grids.append((source.size // columns, columns))
