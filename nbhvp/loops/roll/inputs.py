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

import math
from itertools import pairwise

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
    indexed = [one for one in indices if not _is_run(one)]
    if not indexed:
        return source
    spans = _spans(indices, source.size) if len(source.shape) == 1 else []
    if not 1 < len(spans) <= MOST_SPANS:
        return _gridded(source, indexed, may_part)
    parts = []
    cuts = sorted({0, source.size, *(at for span in spans for at in span)})
    for start, end in pairwise(cuts):
        node = p.slice_(source.node, start=(start,), step=(1,), size=(end - start,))
        inside = [one - start for one in indexed if start <= one[0] < end]
        parts.append(_gridded(Source(node.shape, node), inside, may_part))
    return Source(source.shape, source.node, parts=tuple(parts))


def _spans(indices: list[np.ndarray], size: int) -> list[tuple[int, int]]:
    """Where spans without common elements begin and end: those that no index has are as one.

    They end with a row of columns, if that is not within the next one.
    """
    found: list[tuple[int, int, int]] = []
    for low, high, step in sorted(map(_span, indices)):
        if found and (low <= found[-1][1] or (step == found[-1][2] == 0)):
            first, last, other = found.pop()
            low, high, step = first, max(last, high), math.gcd(step, other)
        found.append((low, high, step))
    limits = [*(low for low, _, _ in found[1:]), size]
    ends = [low + -(-(high + 1 - low) // (step or 1)) * (step or 1) for low, high, step in found]
    lows = (low for low, _, _ in found)
    return list(zip(lows, map(min, ends, limits), strict=True))


def _span(index: np.ndarray) -> tuple[int, int, int]:
    """The smallest and the largest position, and the common step of those that are no run."""
    if _is_run(index):
        return *sorted((int(index[0]), int(index[-1]))), 0
    return int(index.min()), int(index.max()), common_step(index)


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
    if not read(source, index, index.shape).gathers:
        return
    cuts = patterns([index])[1:-1] if may_part else []
    for part in (index, *np.split(index, cuts)):
        if not source.grids and len(grid := grids(part)) > 1:
            read(source, part, grid).make()
    columns = common_step(index)
    is_flat = not source.grids and len(source.shape) == 1
    if columns > 1 and source.size % columns == 0 and is_flat:
        source.grids.append((source.size // columns, columns))
