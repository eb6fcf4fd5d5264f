"""Timing in rounds: contestants take turns, and rounds that others disturbed are taken again.

In each round every contestant gives a few samples in turn, and its figure is their median; so a
slow spell of the machine hits all alike, and ratios are taken within rounds. A round counts as
disturbed if other processes used the processors: what /proc/stat says that these were busy, less
the processor time of this process, is theirs. With a foreign busy process a fork-join of OpenMP
waits for the scheduler, 8 ms instead of 20 µs, which no median mends.
"""

import math
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Ratio", "Rounds", "geometric_mean", "rounds"]

SAMPLES = 5
FOREIGN = 0.05
"""The share of the processors that others may use in a round."""
TICK = 0.02
"""Seconds that the counters of /proc/stat may be off, two processors' ticks."""


@dataclass(frozen=True)
class Ratio:
    """The median over rounds, and the smallest and largest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Rounds:
    """Seconds per call, by contestant: one median of each kept round."""

    medians: Mapping[str, list[float]]
    repeated: int = 0
    disturbed: int = 0
    """How many of the rounds were disturbed although they are kept: no better ones came."""

    def best(self, label: str) -> float:
        """The best round's median."""
        return min(self.medians[label])

    def ratio(self, label: str, other: str) -> Ratio:
        """How long `label` takes over `other`, round by round."""
        return _spread(
            [a / b for a, b in zip(self.medians[label], self.medians[other], strict=True)]
        )

    def difference(self, label: str, other: str) -> Ratio:
        """How many seconds longer `label` takes than `other`, round by round."""
        return _spread(
            [a - b for a, b in zip(self.medians[label], self.medians[other], strict=True)]
        )

    def fastest(self, labels) -> str | None:
        """Whichever of the labels that took part has the best round."""
        return min(
            (label for label in labels if label in self.medians), key=self.best, default=None
        )


def _spread(values) -> Ratio:
    return Ratio(statistics.median(values), min(values), max(values))


def rounds(calls: Mapping[str, Callable], count: int = 7, seconds: float = 5e-3) -> Rounds:
    """Time the calls in ``count`` rounds; a sample lasts ``seconds``, or one call."""
    plans = {label: _plan(call, seconds) for label, call in calls.items()}
    kept: list[tuple[float, dict[str, float]]] = []
    for _ in range(3 * count):
        kept.append(_round(calls, plans))
        if sum(foreign == 0.0 for foreign, _ in kept) == count:
            break
    chosen = sorted(kept, key=lambda entry: entry[0])[:count]
    medians = {label: [taken[label] for _, taken in chosen] for label in calls}
    return Rounds(medians, len(kept) - count, sum(foreign > 0.0 for foreign, _ in chosen))


def _plan(call, seconds) -> tuple[int, int, bool]:
    """Calls per sample, samples per round, whether a call before each sample goes untimed."""
    single = min(_sample(call, 1) for _ in range(2))
    if single < 0.05:
        single = min(single, *(_sample(call, 1) for _ in range(3)))
    return max(1, round(seconds / max(single, 1e-7))), SAMPLES if single < 0.1 else 1, single < 0.05


def _round(calls, plans) -> tuple[float, dict[str, float]]:
    """The share of the processors that others used, zero if it is small; the medians."""
    times: dict[str, list[float]] = {label: [] for label in calls}
    wall, own, busy = time.perf_counter(), time.process_time(), _busy()
    for turn in range(SAMPLES):
        for label, call in calls.items():
            number, samples, warms = plans[label]
            if turn < samples:
                if warms:  # the caches are the last contestant's
                    call()
                times[label].append(_sample(call, number))
    busy, own, wall = _busy() - busy, time.process_time() - own, time.perf_counter() - wall
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    foreign = busy - own
    share = foreign / (wall * processors)
    is_quiet = foreign <= TICK or share <= FOREIGN
    return 0.0 if is_quiet else share, {k: statistics.median(v) for k, v in times.items()}


def _sample(call, number) -> float:
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number


def _busy() -> float:
    """Seconds that the processors of this process have been busy; 0 where the system won't tell."""
    try:
        with open("/proc/stat") as stat:
            lines = [line.split() for line in stat if line.startswith("cpu")]
    except OSError:
        return 0.0
    mine = {f"cpu{k}" for k in os.sched_getaffinity(0)}
    # user, nice, system, (idle, iowait,) irq, softirq, steal
    ticks = [int(n) for name, *ns in lines if name in mine for n in (*ns[:3], *ns[5:8])]
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def geometric_mean(values) -> float:
    """Of positive numbers; nan of none."""
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan
