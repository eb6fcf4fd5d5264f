"""The same on a device: `pytest -m gpu`, where there is one."""

import ctypes

import numpy as np
import pytest

import nbhvp
from benchmarks import gpu, problems
from nbhvp.graph.interpret import interpret
from nbhvp.targets.cuda import driver
from nbhvp.targets.cuda.program import Program
from tests.checks import assert_close
from tests.graphs import STRUCTURE, build, random_graph
from tests.simulated_gpu import simulated_driver


def _has_driver() -> bool:
    try:
        return ctypes.CDLL("libcuda.so.1").cuInit(0) == 0
    except OSError:
        return False


on_device = [
    pytest.mark.gpu,
    pytest.mark.compiles,
    pytest.mark.skipif(not _has_driver(), reason="needs a GPU and its driver"),
]


def marked(function):
    for mark in on_device:
        function = mark(function)
    return function


SINGLE = ("sum in single precision", "contract in single precision", "casts")


@marked
@pytest.mark.parametrize("name", STRUCTURE)
def test_structure(name):
    graph, inputs = build(STRUCTURE[name])
    program = Program(driver.device(0), graph)
    for given, needed in zip(program(*inputs), interpret(graph, *inputs), strict=True):
        assert_close(given, needed, 1e-4 if name in SINGLE else 1e-11)


@marked
@pytest.mark.parametrize("seed", range(10))
def test_random_graphs(seed):
    graph, inputs = random_graph(seed)
    program = Program(driver.device(0), graph)
    for given, needed in zip(program(*inputs), interpret(graph, *inputs), strict=True):
        assert_close(given, needed, 1e-9)


@marked
@pytest.mark.parametrize("problem", problems.small(), ids=lambda problem: problem.name)
def test_problems(problem):
    f = nbhvp.differentiable(problem.fun, target="cuda")
    x, v, args = problem.x0, problem.v, problem.args
    for point in (x, x + 0.01):
        needed = problem.hvp(point, v, *args)
        np.testing.assert_allclose(
            f.hvp(point, v, *args), needed, rtol=1e-9, atol=1e-11 * np.abs(needed).max()
        )
        needed = problem.gradient(point, *args)
        np.testing.assert_allclose(
            f.grad(point, *args), needed, rtol=1e-9, atol=1e-11 * np.abs(needed).max()
        )


@marked
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_arguments_of_any_size(name):
    x = np.concatenate([np.geomspace(1e-3, 1e300, 400), [0.0, 1e22, 2.0**1023]])
    f = nbhvp.differentiable(lambda x: getattr(np, name)(x), target="cuda")
    np.testing.assert_allclose(f(x), getattr(np, name)(x), rtol=1e-13)


@pytest.mark.compiles
def test_the_benchmark_runs(capsys, monkeypatch):
    """Its logic, at tiny sizes, on a driver without a GPU."""
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    sizes = {"rosenbrock": 40, "logistic": (10, 3)}
    with simulated_driver(assembles=False):
        figures = gpu.section(sizes, long=0.0)
    assert set(figures["problems"]) == set(sizes)
    assert "| rosenbrock |" in capsys.readouterr().out
