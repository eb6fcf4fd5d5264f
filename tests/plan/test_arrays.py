"""Programs on whole arrays: operations over those of their graphs, and texts over kernels."""

import itertools

import numpy as np
import pytest

from benchmarks.kernels import counts, graphs
from tests.plan.arrays import (
    MIXED,
    REPEATED,
    averages,
    biased_network,
    heat,
    messages,
    network,
    newton,
    recurrent,
    residual_blocks,
    runge_kutta,
    two_steps,
)

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.no_cover]

SIZES = {**MIXED, **REPEATED}
RATIO = 1.1
AGAIN = {
    # A stencil of few operations is computed again at each of its shifts, in place of a kernel that
    # stores it and one that loads it.
    "smoothing product": 2.0,
    "spins product": 1.3,
    "spins one-shot": 1.2,
    # Small arrays of state are cheap. With them the graph is smaller, and so the ratio is larger, though
    # a product takes 0.8 (surface) to 1.0 times as long as without.
    "surface product": 1.8,
    "runge_kutta point": 1.12,
    "runge_kutta product": 1.15,
    "two_steps product": 1.15,
    "messages product": 1.12,
}


TEXTS = {
    network: (4, 5),  # of 8 kernels in each
    biased_network: (4, 5),  # 12
    residual_blocks: (5, 8),  # 12 and 11
    runge_kutta: (8, 8),  # 8
    two_steps: (14, 17),  # 16 and 17
    newton: (1, 1),
    heat: (7, 12),  # 12 and 13; one of them stores less than those of the other steps
    averages: (13, 18),  # 17 and 23
    messages: (5, 8),  # 9
    recurrent: (6, 7),  # 17 and 18
}
"""How many texts differ among the kernels of a gradient and of a product: layers share theirs; stages
and steps that pull their neighbours' values differ in what they store."""


def programs(fun):
    """The gradient, the point program, the product and the one-shot product."""
    x = np.random.default_rng(0).uniform(0.2, 1.2, SIZES[fun])
    for name, graph in itertools.islice(graphs(fun, x, ()), 1, 5):
        yield name.split()[0], graph


@pytest.mark.parametrize("fun", SIZES, ids=lambda fun: fun.__name__)
def test_operations_and_texts(fun):
    for program, graph in programs(fun):
        bar = AGAIN.get(f"{fun.__name__} {program}", RATIO)
        found = counts(graph)
        assert float(found.split()[-1]) <= bar, (program, found)
        if fun in TEXTS and program in ("gradient", "product"):
            most = TEXTS[fun][program == "product"]
            assert int(found.split()[4]) <= most, (program, found)
