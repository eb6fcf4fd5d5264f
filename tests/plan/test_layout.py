"""Buffers share memory only where they are never alive at once."""

import numpy as np
import pytest

from nbhvp.plan.costs import CPU
from nbhvp.plan.layout import layout

pytestmark = pytest.mark.filterwarnings("error")


def test_a_chain_needs_two_buffers():
    steps = [(k, k + 1) for k in range(20)]
    found = layout(steps, dict.fromkeys(range(21), 640), kept=[])
    assert found.size == 1280


def test_what_is_kept_is_not_written_over():
    steps = [(k, k + 1) for k in range(4)]
    found = layout(steps, dict.fromkeys(range(5), 64), kept=[0, 4])
    assert found.size == 192
    assert found.offsets[0] not in [found.offsets[k] for k in range(1, 5)]


def test_only_what_has_a_size_is_placed():
    found = layout([("x", "a"), ("a", "z")], {"a": 1}, kept=["z"])
    assert found.offsets == {"a": 0} and found.size == CPU.line


@pytest.mark.parametrize("seed", range(20))
def test_buffers_alive_at_once_are_apart(seed):
    rng = np.random.default_rng(seed)
    steps = [tuple(rng.integers(k, k + 6, size=3).tolist()) for k in range(40)]
    names = sorted({name for step in steps for name in step})
    sizes = {name: int(rng.integers(0, 1000)) for name in names}
    kept = rng.choice(names, 3).tolist()
    found = layout(steps, sizes, kept)
    moments = [*steps, kept]
    life = {name: [k for k, touched in enumerate(moments) if name in touched] for name in names}
    live = lambda k: sum(sizes[n] for n in names if life[n][0] <= k <= life[n][-1])
    assert found.size < 2 * max(map(live, range(41))) + 10 * CPU.line
    for a in names:
        assert found.offsets[a] % CPU.line == 0
        assert found.offsets[a] + sizes[a] <= found.size
        for b in names:
            if a < b and life[a][0] <= life[b][-1] and life[b][0] <= life[a][-1]:
                first, second = sorted((a, b), key=lambda n: (found.offsets[n], sizes[n]))
                assert found.offsets[first] + sizes[first] <= found.offsets[second]
