"""Boxes: the parts of arrays that slices read and updates write.

A box has along each axis the positions start + step * j for 0 <= j < size; each size is at least 1.
What is read of an array that was written before is, mostly, in the part that was written last, or in
none that was: so a recurrence that is written into an array reads numbers, and not arrays.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

__all__ = ["Box", "found_in", "is_all"]

Axis = tuple[int, int, int]
"""Start, step and size."""


@dataclass(frozen=True)
class Box:
    """A part of an array."""

    axes: tuple[Axis, ...]

    @classmethod
    def of(cls, start, step, size) -> Box:
        return cls(tuple(zip(start, step, size, strict=True)))

    @property
    def place(self) -> dict[str, tuple[int, ...]]:
        """The start and step, as slices and updates have them."""
        return {
            "start": tuple(start for start, _, _ in self.axes),
            "step": tuple(step for _, step, _ in self.axes),
        }

    @property
    def size(self) -> tuple[int, ...]:
        return tuple(size for _, _, size in self.axes)

    def is_along(self, axis: int, shape: tuple[int, ...]) -> bool:
        """Whether it is all of an array of this shape, but for a stretch of one axis."""
        rest = ((0, n) for n in shape)
        return all(
            (k == axis or (start, size) == whole) and (step == 1 or size == 1)
            for k, ((start, step, size), whole) in enumerate(zip(self.axes, rest, strict=True))
        )

    def is_in_one_piece(self, shape: tuple[int, ...]) -> bool:
        """Whether its elements follow on one another in an array of this shape in C order."""
        first = next((k for k, size in enumerate(self.size) if size > 1), len(shape))
        behind = zip(self.axes[first + 1 :], shape[first + 1 :], strict=True)
        return all(size == n for (_, _, size), n in behind) and all(
            step == 1 or size == 1 for _, step, size in self.axes
        )

    def is_apart(self, other: Box) -> bool:
        """Whether it has no position in common with another."""
        return any(map(_are_apart, self.axes, other.axes))

    def within(self, other: Box) -> Box | None:
        """The same box in the positions of one that holds it; None if the other does not hold it."""
        found = [_within(mine, theirs) for mine, theirs in zip(self.axes, other.axes, strict=True)]
        axes = tuple(axis for axis in found if axis is not None)
        return Box(axes) if len(axes) == len(found) else None

    def joined(self, other: Box) -> Box | None:
        """The box of exactly the positions of both, if there is one."""
        differing = [
            k for k, (a, b) in enumerate(zip(self.axes, other.axes, strict=True)) if a != b
        ]
        if len(differing) != 1:
            return None
        (k,) = differing
        both = _joined(self.axes[k], other.axes[k])
        return both and Box((*self.axes[:k], both, *self.axes[k + 1 :]))


@functools.lru_cache(1 << 12)
def found_in(read: tuple, written: tuple) -> tuple[bool, dict[str, Any] | None]:
    """Whether two boxes are apart; and where the first is in the second, as slices have it, if it is.

    Boxes are (start, step, size), with an entry of each for each axis.
    """
    mine, theirs = Box.of(*read), Box.of(*written)
    inside = mine.within(theirs)
    place = None if inside is None else inside.place | {"size": inside.size}
    return mine.is_apart(theirs), place


@functools.lru_cache(1 << 12)
def is_all(shape: tuple[int, ...], start: tuple, step: tuple, size: tuple) -> bool:
    """Whether a box is all of an array, in its order."""
    return size == shape and not any(start) and all(k == 1 for k in step)


def _are_apart(a: Axis, b: Axis) -> bool:
    """Whether two axes surely have no position in common."""
    (i, s, n), (j, t, m) = a, b
    ends = (i, i + s * (n - 1)), (j, j + t * (m - 1))
    if max(ends[0]) < min(ends[1]) or max(ends[1]) < min(ends[0]):
        return True
    return abs(s) == abs(t) and (i - j) % s != 0


def _within(a: Axis, b: Axis) -> Axis | None:
    (i, s, n), (j, t, m) = a, b
    first, rest = divmod(i - j, t)
    step, uneven = divmod(s, t) if n > 1 else (1, 0)
    last = first + step * (n - 1)
    if rest or uneven or not (0 <= first < m and 0 <= last < m):
        return None
    return first, step, n


def _joined(a: Axis, b: Axis) -> Axis | None:
    """One axis of the positions of two that follow on one another, in either order."""
    (i, s, n), (j, t, m) = a, b
    step = s if n > 1 else t if m > 1 else 1
    if (n > 1 and s != step) or (m > 1 and t != step):
        return None
    if j == i + step * n:
        return i, step, n + m
    return (j, step, n + m) if i == j + step * m else None
