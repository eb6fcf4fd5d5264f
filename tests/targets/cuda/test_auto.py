"""target="auto": a GPU where there is one, for what is worth it."""

import subprocess
import sys

import numpy as np
import pytest

import nbhvp
from benchmarks import problems
from nbhvp.graph.node import Graph
from nbhvp.plan.costs import GPU
from nbhvp.runtime.compiling import placement
from nbhvp.targets.cuda.launching import libcuda
from tests.device_arrays import installed
from tests.simulated_gpu import simulated_driver

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.compiles]

X = np.linspace(0.1, 1, 5)


def fun(x):
    return np.sum(np.exp(x) * x**2)


def hvp(x, v):
    return (2 + 4 * x + x**2) * np.exp(x) * v


@pytest.fixture
def gpu():
    with simulated_driver(assembles=False) as stub:
        yield stub
        assert not stub.failures


@pytest.mark.parametrize("capability", [None, (6, 1)])
def test_without_a_device(capability, monkeypatch):
    """A driver that is not there, and a device that is too old."""

    def missing():
        raise OSError("no such file")

    with simulated_driver(capability=capability or (9, 0)) as stub, monkeypatch.context() as patch:
        if capability is None:
            patch.setattr(libcuda, "loaded", missing)
        f = nbhvp.differentiable(fun, target="auto")
        np.testing.assert_allclose(f.hvp(X, X), hvp(X, X))
        assert f.report().target == "cpu"
        assert "cuDevicePrimaryCtxRetain" not in stub.calls


def test_what_is_small_stays_on_the_host(gpu):
    f = nbhvp.differentiable(fun, target="auto")
    np.testing.assert_allclose(f.hvp(X, X), hvp(X, X))
    assert f.report().target == "cpu"
    assert "cuLaunchKernel" not in gpu.calls


def test_what_is_worth_it(gpu, monkeypatch):
    monkeypatch.setattr(placement, "SMALL", 4)
    monkeypatch.setattr(placement, "seconds", lambda graph, slowness: (1.0, 0.5))
    f = nbhvp.differentiable(fun, target="auto")
    np.testing.assert_allclose(f.hvp(X, X), hvp(X, X))
    assert f.report().target == "cuda:0"
    assert "target" in str(f.report())
    f.grad(X[:3])
    assert f.report().target == "cpu", "each trace has its place"
    for x in X, X[:3], X:
        np.testing.assert_allclose(f.hessian(x) @ x, hvp(x, x))
    assert f.report().traces == 2


def test_arrays_on_a_device(gpu, monkeypatch):
    cupy = installed(monkeypatch, gpu, "cupy")
    f = nbhvp.differentiable(fun, target="auto")
    for _ in range(2):
        np.testing.assert_allclose(f.hvp(X, X), hvp(X, X))
        np.testing.assert_allclose(f.hvp(cupy.of(X), cupy.of(X)).host, hvp(X, X))
    assert f.report().traces == 2
    f.hvp(X, X)
    with pytest.raises(TypeError, match="v is an array of cupy on a GPU.*target='cuda'"):
        f.hvp(X, cupy.of(X))


SIZES = {
    "small": (("rosenbrock", 1000), False), "copies": (("rosenbrock", 10**6), False),
    "matrix": (("logistic", (5000, 200)), True), "network": (("mlp", ((300, 200, 10), 128)), True),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_predictions(name, monkeypatch):
    """On eight threads: copies take longer than Rosenbrock's product, and not than those of matrices."""
    monkeypatch.setattr(placement.os, "sched_getaffinity", lambda pid: range(8), raising=False)
    (problem, size), needed = SIZES[name]
    made = problems.MAKERS[problem](size)
    f = nbhvp.differentiable(made.fun, target="interpret")
    trace = f._tracer.trace(f._tracer.call(made.x0, made.args, {}))
    assert placement.is_worthwhile(trace.inputs, trace.outputs, 1.0) == needed
    fast, slow = (placement.seconds(Graph(trace.inputs, trace.outputs), s)[1] for s in (1.0, 32.0))
    assert fast <= slow


def test_devices_in_double_precision(gpu):
    from nbhvp.targets.cuda.launching import driver

    device = driver.device(0)
    assert device.slowness(np.dtype("f8")) == 1
    assert device.slowness(np.dtype("f4")) == 0.5


def test_several_devices(monkeypatch):
    monkeypatch.setattr(placement, "SMALL", 4)
    monkeypatch.setattr(placement, "seconds", lambda graph, slowness: (1.0, 0.5))
    with simulated_driver(assembles=False, devices=2) as stub:
        for target in "cuda", "auto":
            f = nbhvp.differentiable(fun, target=target, device=1)
            np.testing.assert_allclose(f.hvp(X, X), hvp(X, X))
            assert f.report().target == "cuda:1"
        f = nbhvp.differentiable(fun, target="auto", device=2)
        np.testing.assert_allclose(f.hvp(X, X), hvp(X, X))
        assert f.report().target == "cpu"
        for words, options in {
            "needs target='cuda'": {"device": 0},
            "device must be 0, 1": {"target": "cuda", "device": -1},
            "target must be": {"target": "auto:x"},
            "device 2 was asked for, and there are 2": {"target": "cuda", "device": 2},
        }.items():
            with pytest.raises(ValueError, match=words):
                nbhvp.differentiable(fun, **options)
        assert not stub.failures


def many(x):
    for _ in range(30):
        x = x + 0.1 * np.sin(x * np.roll(x, 1))
    return np.sum(x)


@pytest.mark.parametrize("count, place", [(5, "cpu"), (GPU.wide_step, "cuda:0")])
def test_loops_over_time(count, place, gpu, monkeypatch):
    """Those of few numbers stay on the host, whatever is predicted; steps of many go to the device."""
    monkeypatch.setattr(placement, "SMALL", 4)
    monkeypatch.setattr(placement, "seconds", lambda graph, slowness: (1.0, 0.5))
    f = nbhvp.differentiable(many, target="auto")
    x = np.linspace(0.1, 1, count)
    needed = nbhvp.differentiable(many, target="interpret")(x)
    np.testing.assert_allclose(f(x), needed)
    assert f.report().recurrences
    assert f.report().target == place


def test_launches_of_loops_count(monkeypatch):
    """A step of a thousand numbers takes less than its launch, one of a hundred thousand more."""
    monkeypatch.setattr(placement.os, "sched_getaffinity", lambda pid: range(8), raising=False)
    found = {}
    for count in 2**10, 10**5:
        f = nbhvp.differentiable(many, target="interpret")
        trace = f._tracer.trace(f._tracer.call(np.linspace(0.1, 1, count), (), {}))
        here, there = placement.seconds(Graph(trace.inputs, trace.outputs), 1.0)
        found[count] = there < here
        assert there > placement.RUNS * 30 * GPU.launch
    assert found == {2**10: False, 10**5: True}


def test_nothing_is_imported_for_it():
    code = (
        "import sys, nbhvp; f = nbhvp.differentiable(lambda x: x @ x, target='auto'); "
        "print(sorted(n for n in sys.modules if n.startswith('nbhvp.targets.cuda.')))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = ["nbhvp.targets.cuda.launching", "nbhvp.targets.cuda.launching.libcuda"]
    assert found.stdout.strip() == str(names)
