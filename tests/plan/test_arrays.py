"""Operations of programs on whole arrays over those of their graphs: what is computed twice."""

import itertools

import numpy as np
import pytest

from benchmarks.kernels import counts, graphs
from tests.plan.arrays import MIXED, REPEATED

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.no_cover]

RATIO = 1.1
AGAIN = {
    # A stencil of few operations is computed again at each of its shifts, in place of a kernel that
    # stores it and one that loads it. Storing it, a product of `smoothing` takes 1.0 times as long at
    # n = 10^3, 1.1 times at 10^4, 1.5 times at 10^6; one of `spins` 1.0, 1.2 and 1.5 times.
    "smoothing product": 2.0,
    "spins product": 1.3,
    "spins one-shot": 1.2,
}


@pytest.mark.parametrize("fun", [*MIXED, *REPEATED], ids=lambda fun: fun.__name__)
def test_values_are_computed_once(fun):
    x = np.random.default_rng(0).uniform(0.2, 1.2, {**MIXED, **REPEATED}[fun])
    for name, graph in itertools.islice(graphs(fun, x, ()), 1, 5):
        program = name.split()[0]
        bar = AGAIN.get(f"{fun.__name__} {program}", RATIO)
        assert float(counts(graph).split()[-1]) <= bar, (program, counts(graph))
