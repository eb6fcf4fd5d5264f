"""Operators, solvers, sums and implicit functions with target="cuda", against the interpreter."""

import numpy as np
import pytest

from tests.gpu_cases import CASES
from tests.simulated_gpu import simulated_driver
from tests.targets.cuda.test_device import marked

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.compiles]


def check(name):
    needed = CASES[name]("interpret")
    np.testing.assert_allclose(CASES[name]("cuda"), needed, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_in_the_simulator(name):
    with simulated_driver(assembles=False) as stub:
        check(name)
        assert not stub.failures


@marked
@pytest.mark.parametrize("name", CASES)
def test_on_a_device(name):
    check(name)
