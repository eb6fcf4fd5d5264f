"""Tests of a device in the simulator: NBHVP_SIMULATED_GPU=1 runs `pytest -m gpu` there, at small sizes."""

import pytest

from tests.simulated_gpu import SIMULATED, simulated_driver


@pytest.fixture(autouse=True)
def _device(request):
    if SIMULATED and request.node.get_closest_marker("gpu"):
        with simulated_driver(assembles=False) as stub:
            yield
            assert not stub.failures
    else:
        yield
