"""Where steps begin: the boundary between them, and the first one.

The boundary is put where the least is carried. Steps before a run join it if they differ only in that
they take starting values where later ones take what is carried, or if they were recorded in part.
"""

from __future__ import annotations

import numpy as np

from nbhvp.graph import primitives
from nbhvp.loops.steps.first import with_first_steps
from nbhvp.loops.steps.loop import Loop, described
from nbhvp.loops.steps.operations import OPERATION, Operations
from nbhvp.loops.steps.periods import FEWEST, MOST_LAG, Run

__all__ = ["adds_up_alone", "loop_of"]

MOST_BOUNDARIES = 4
"""Boundaries that are looked at."""
ADDITIONS = primitives.add, primitives.subtract
MOST_SUMS = 64
"""Values that steps carry, of which it is asked whether they are sums alone."""


def loop_of(operations: Operations, run: Run) -> Loop | None:
    """The loop of a run; None if its steps differ after all, or are few.

    Of boundaries where as little is carried the one that leaves least outside the loop.
    """
    tried = [_begin(operations, run, boundary) for boundary in _boundaries(operations, run)]
    if not any(tried):
        return None
    _, begin = min(one for one in tried if one is not None)
    return described(operations, begin, run.period, (run.end - begin) // run.period)


def _begin(operations: Operations, run: Run, boundary: int) -> tuple[int, int] | None:
    """The operations outside the loop whose steps begin at a boundary, and where its first one does."""
    begin = run.start + (boundary - run.start) % run.period
    length = (run.end - begin) // run.period
    if length < FEWEST - MOST_LAG - 1:
        return None
    few = min(length, FEWEST)
    found = described(operations, begin, run.period, few)
    for _ in range(MOST_LAG + 2):
        sooner = begin - run.period
        more = sooner >= 0 and described(operations, sooner, run.period, few)
        if not more:
            break
        begin, found = sooner, more
    left = (run.end - begin) % run.period
    return found and (with_first_steps(found).start + left, begin)


def _earliest(operations: Operations, run: Run) -> int:
    """Where operations of the same primitives begin before a run, within a step."""
    before = operations.codes[max(0, run.start - run.period) : run.start]
    after = operations.codes[run.start + run.period - before.size : run.start + run.period]
    differ = np.flatnonzero(before != after)
    return run.start - (before.size - 1 - int(differ[-1]) if differ.size else before.size)


def _given(operations: Operations, run: Run) -> tuple[np.ndarray, np.ndarray]:
    """The operations that the last period of a run takes from, and those that take it."""
    period, end = run.period, run.end
    users, pairs = np.arange(end - period, end), []
    for row, kinds in zip(operations.operands, operations.kinds, strict=True):
        a = row[end - period : end].astype(np.int64)
        near = (kinds[end - period : end] == OPERATION) & (users - a <= (MOST_LAG + 1) * period)
        near &= a >= run.start
        pairs.append((a[near], users[near]))
    return np.concatenate([a for a, _ in pairs]), np.concatenate([one for _, one in pairs])


def adds_up_alone(operations: Operations, run: Run) -> bool:
    """Whether steps need those before for nothing but to add to sums, which few tests tell.

    From one step to the next each sum goes through additions, of which each is taken by the next alone.
    """
    boundary = _boundaries(operations, run)[0]
    given, users = (one - boundary for one in _given(operations, run))
    lags, places = users // run.period - given // run.period, given % run.period
    users = users % run.period
    carried = np.flatnonzero(lags > 0)
    if carried.size > MOST_SUMS or (lags > 1).any():
        return False
    inside = lags == 0
    counts = np.bincount(places[inside], minlength=run.period)
    taker = np.zeros(run.period, np.int64)
    taker[places[inside]] = users[inside]
    codes = operations.codes[run.end - run.period : run.end]
    codes = np.roll(codes, run.end - run.period - boundary)
    additions = [one for one in np.unique(codes) if operations.tape.primitive(one) in ADDITIONS]
    is_sum = np.isin(codes, additions)
    return (
        all(
            _leads_back(place, first, counts, taker, is_sum)
            for place, first in zip(places[carried].tolist(), users[carried].tolist(), strict=True)
        )
        and np.unique(places[carried]).size == carried.size
    )


def _leads_back(place: int, at: int, counts, taker, is_sum) -> bool:
    """Whether additions lead from an operation of a step to the one at a place."""
    while is_sum[at] and at != place and counts[at] == 1:
        at = int(taker[at])
    return bool(is_sum[at]) and at == place


def _boundaries(operations: Operations, run: Run) -> list[int]:
    """The operations that begin steps which carry the least, modulo the period.

    What operation a gives to i is carried over all boundaries between them: over those behind a, up to
    the one before i.
    """
    period = run.period
    distances = np.zeros(period, np.int64)
    given, users = _given(operations, run)
    np.maximum.at(distances, given % period, users - given)
    carried = np.zeros(2 * period + 1, np.int64)
    places = np.arange(period)
    whole, rest = np.divmod(distances, period)
    np.add.at(carried, places + 1, 1)
    np.add.at(carried, places + 1 + rest, -1)
    totals = np.cumsum(carried)[:-1].reshape(2, period).sum(axis=0) + whole.sum()
    least = np.flatnonzero(totals == totals.min())
    earliest = _earliest(operations, run)
    return sorted(least.tolist(), key=lambda place: (place - earliest) % period)[:MOST_BOUNDARIES]
