"""Functions with target="cuda", through a simulated driver: all that is asked of a function, and the flow."""

import gc
import os
import pickle
import threading

import numba
import numpy as np
import pytest
from scipy import special

import nbhvp
from benchmarks import problems
from nbhvp.graph.derive import EXACT_MODES
from nbhvp.runtime import recorded
from nbhvp.targets.cuda import program
from nbhvp.targets.cuda.arrays import DeviceArray
from nbhvp.targets.cuda.hosted import Host
from nbhvp.targets.cuda.kernels import repeats
from nbhvp.targets.cuda.launching import cache, driver, libcuda
from tests.simulated_gpu import simulated_driver

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.compiles]

SIZES = dict(
    rosenbrock=50, logistic=(20, 5), surface=(7, 9), lennard_jones=(6, 4), mixture=(12, 2, 3),
    mlp=((5, 4, 3), 6), transcendental=5, heat=(12, 3),
)  # fmt: skip


@pytest.fixture
def gpu():
    with simulated_driver(assembles=False) as stub:
        yield stub
        assert not stub.failures


@pytest.mark.parametrize("name", SIZES)
def test_problems(name, gpu):
    """Value, gradient, and H v of one and of several vectors; several points; an operator."""
    problem = problems.MAKERS[name](SIZES[name])
    f, args = nbhvp.differentiable(problem.fun, target="cuda"), problem.args
    g = nbhvp.differentiable(problem.fun, target="interpret")
    rng = np.random.default_rng(0)
    for x in (problem.x0, problem.x0 * 1.01):
        same(f(x, *args), g(x, *args))
        same(f.grad(x, *args), g.grad(x, *args))
        for mode in EXACT_MODES:
            same(f.hvp(x, problem.v, *args, mode=mode), g.hvp(x, problem.v, *args))
        several = rng.standard_normal((*x.shape, 3))
        same(f.hvp(x, several, *args), g.hvp(x, several, *args))
    H = f.hessian(problem.x0, *args)
    same(H @ problem.v.ravel(), g.hvp(problem.x0, problem.v, *args).ravel())


def same(given, needed):
    np.testing.assert_allclose(given, needed, rtol=1e-10, atol=1e-10 * np.abs(needed).max())


def residuals(x):
    return np.stack([np.sin(x[:-1]) * x[1:], x[1:] ** 2])


def test_products_of_arrays(gpu):
    f = nbhvp.differentiable(residuals, target="cuda")
    g = nbhvp.differentiable(residuals, target="interpret")
    x, v, w = np.linspace(0.1, 2, 6), np.arange(6.0), np.arange(10.0).reshape(2, 5)
    same(f.jvp(x, v), g.jvp(x, v))
    same(f.vjp(x, w), g.vjp(x, w))
    same(f.jacobian(x).toarray(), g.jacobian(x).toarray())
    same(f.weighted_hessian(x, w) @ v, g.weighted_hessian(x, w) @ v)


def test_single_precision(gpu):
    f = nbhvp.differentiable(lambda x: np.sum(np.exp(x) * x), target="cuda")
    x = np.linspace(0, 1, 40, dtype=np.float32)
    assert f.grad(x).dtype == np.float32
    np.testing.assert_allclose(f.hvp(x, x), (2 + x) * np.exp(x) * x, rtol=3e-6)


def test_branches_are_traced_anew(gpu):
    f = nbhvp.differentiable(lambda x: np.sum(x**3) if x[0] > 0 else np.sum(x), target="cuda")
    x = np.array([1.0, 2.0])
    same(f.grad(x), 3 * x**2)
    same(f.grad(-x), np.ones(2))
    same(f.hvp(x, x), 6 * x**2)


def special_functions(x):
    terms = special.gamma(x), special.rgamma(x), special.gammaln(x), special.log_ndtr(-x)
    return np.sum(
        terms[0] * terms[1] ** 2 + terms[2] * terms[3] + special.erfcx(x) * np.hypot(x, 2)
    )


def test_functions_of_scipy_have_kernels(gpu):
    f, g = (nbhvp.differentiable(special_functions, target=t) for t in ("cuda", "interpret"))
    x = np.array([0.3, 1.5, 4.25])
    same(f.hvp(x, x), g.hvp(x, x))
    single = np.float32(x)
    np.testing.assert_allclose(f.grad(single), g.grad(x), rtol=2e-5)
    assert f.report().host_steps == 0


def test_what_a_gpu_has_no_code_for_runs_on_the_host(gpu):
    f = nbhvp.differentiable(lambda x: np.sum(np.sort(x)[:2] ** 3) + x @ x, target="cuda")
    x = np.array([3.0, 1.0, 2.0])
    same(f.hvp(x, np.ones(3)), [2.0, 8.0, 14.0])
    assert f.report().host_steps > 0


@pytest.mark.parametrize("memory", [None, 200])
def test_loops_over_time_run_on_the_host(gpu, memory):
    def runge_kutta(x):
        z, w = x[0], x[1]
        for _ in range(20):
            k, m = w, -np.sin(z)
            z, w = z + 0.1 * (w + 0.05 * m), w - 0.1 * np.sin(z + 0.05 * k)
        return z * w

    x, v = np.array([0.3, 0.8]), np.array([1.0, -2.0])
    f = nbhvp.differentiable(runge_kutta, target="cuda", memory=memory)
    g = nbhvp.differentiable(runge_kutta, target="interpret")
    same(f.grad(x), g.grad(x))
    for directions in (v, np.stack([v, x, v * x], axis=-1)):
        same(f.hvp(x, directions), g.hvp(x, directions))
    assert f.report().recurrences and f.report().host_steps > 0


def trajectories(x):
    """Fifty instances of Lorenz' equations, and a product of matrices in each step."""
    a, b, c = x[:50], x[50:100], x[100:]
    for _ in range(12):
        d = (MIXED @ c.reshape(5, 10)).ravel()
        a, b, c = a + 0.1 * (b - a), b + 0.01 * (a * (28 - c) - b), c + 0.01 * (a * b - d)
    return np.sum(a * a + b * c)


MIXED = np.random.default_rng(0).standard_normal((5, 5))


@pytest.mark.parametrize("memory", [None, 8000])
def test_steps_of_many_instances_run_on_the_device(gpu, memory, monkeypatch):
    monkeypatch.setattr(repeats, "LANES", 100)
    f = nbhvp.differentiable(trajectories, target="cuda", memory=memory)
    g = nbhvp.differentiable(trajectories, target="interpret")
    x = np.linspace(0.1, 2, 150)
    v = np.cos(x)
    assert np.abs(g.hvp(x, v)).min() > 0
    same(f(x), g(x))
    same(f.grad(x), g.grad(x))
    for directions in (v, np.stack([v, x], axis=-1)):
        same(f.hvp(x, directions), g.hvp(x, directions))
    assert f.report().recurrences
    if memory is None:
        assert f.report().host_steps == 0
    assert "cuGraphLaunch" in gpu.calls


def pendulum(x):
    z, w = x[0], x[1]
    for _ in range(20):
        z, w = z + 0.1 * w, w - 0.1 * np.sin(z)
    return z * w


@numba.njit
def branching(x):
    z, total = x[0], 0.0
    for k in range(9):
        z = z * x[1] + np.sin(x[0]) if z > 0.3 * k else z - 0.1 * x[1] * z * z
        total += z * x[0]
    return np.array([total, z])


NARROW = {
    "recurrence": (pendulum, lambda f, x, v: f.hvp(x, v)),
    "recurrence backward": (pendulum, lambda f, x, v: f.hvp(x, v, mode="reverse-over-reverse")),
    "sweep": (lambda x: np.prod(branching(x)), lambda f, x, v: f.hvp(x, v)),
    "sweep forward": (branching, lambda f, x, v: f.jacobian(x) @ v),
    "sweep backward": (branching, lambda f, x, v: f.jacobian(x).T @ v),
}


@pytest.mark.parametrize("name", NARROW)
def test_many_directions_run_on_the_device(name, gpu, monkeypatch):
    """Of narrow steps and of tapes, a direction to a thread; a single one stays on the host."""
    monkeypatch.setattr(recorded, "choose", lambda graph, costs: repeats.DIRECTIONS)
    fun, product = NARROW[name]
    f, g = (nbhvp.differentiable(fun, target=t) for t in ("cuda", "interpret"))
    x, directions = np.array([0.3, 0.8]), np.random.default_rng(0).standard_normal((2, 70))
    same(product(f, x, directions), product(g, x, directions))
    operator = f.jacobian(x) if fun is branching else f.hessian(x)
    (made,) = (m for m in operator._point.recorded._linearized.values() if m._several)
    (several,) = made._several.values()
    assert f"def {name.partition(' ')[0]}_" in several.program.source
    assert not several.program.hosted
    assert made.product.hosted


def test_loops_of_few_numbers_are_compiled_for_the_host():
    with simulated_driver(assembles=True) as stub:
        f = nbhvp.differentiable(pendulum, target="cuda")
        x, v = np.array([0.3, 0.8]), np.array([1.0, -2.0])
        same(f.hvp(x, v), nbhvp.differentiable(pendulum, target="interpret").hvp(x, v))
        (linearized,) = f.hessian(x)._point.recorded._linearized.values()
        loops = [one.program for one in linearized.product.stretches if isinstance(one, Host)]
        assert loops
        assert {type(one).__module__ for one in loops} == {"nbhvp.targets.cpu.program"}
        assert not stub.failures


def test_the_state_of_a_point_stays_on_the_device(gpu):
    A = np.random.default_rng(0).standard_normal((40, 5))
    f = nbhvp.differentiable(lambda w: np.sum(np.logaddexp(0, A @ w)), target="cuda")
    H = f.hessian(np.ones(5))
    H @ np.ones(5)
    assert all(isinstance(array, DeviceArray) for array in H.report().stored.values())
    gpu.calls.clear()
    H @ np.ones(5)
    assert gpu.calls.count("cuMemcpyHtoDAsync_v2") == 1, "v alone"
    assert gpu.calls.count("cuMemcpyDtoHAsync_v2") == 1, "the product alone"
    assert "cuMemAlloc_v2" not in gpu.calls


def test_constants_are_copied_once_for_all_programs(gpu):
    A = np.random.default_rng(0).standard_normal((300, 100))
    f = nbhvp.differentiable(lambda w: np.sum((A @ w) ** 2) + np.sum(w**4), target="cuda")
    w = np.ones(100)
    f(w), f.grad(w), f.hvp(w, w)
    assert gpu.used < 2 * A.nbytes


def test_an_empty_constant_is_freed_as_others(gpu):
    device, known, value = driver.device(0), {}, np.empty((0, 3))
    before = gpu.used
    assert program._constant(device, value, known) == program._constant(device, value, known)
    known.clear()
    device.forget()
    assert gpu.used <= before


def test_memory_is_given_back(gpu):
    def run():
        f = nbhvp.differentiable(lambda x: np.sum(np.exp(x)), target="cuda")
        f.hessian(np.ones(1000)) @ np.ones(1000)
        del f
        gc.collect()

    run()
    first = gpu.used
    for _ in range(3):
        run()
    assert gpu.used <= first, "memory that was freed serves later requests"
    device = driver.device(0)
    device.forget()
    assert gpu.used < first


def test_threads(gpu):
    f = nbhvp.differentiable(lambda x: np.sum(np.exp(x) * x), target="cuda")
    x = np.linspace(0, 1, 50)
    H, found = f.hessian(x), {}

    def work(k):
        found[k] = [H @ np.full(50, float(k)) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, products in found.items():
        for product in products:
            same(product, k * (2 + x) * np.exp(x))


def test_vectors_on_the_device(gpu):
    f = nbhvp.differentiable(lambda x: np.sum(x**4), target="cuda")
    x, device = np.linspace(1, 2, 6).reshape(2, 3), driver.device(0)
    H = f.hessian(x).on_device()
    v = DeviceArray(device, (6,), np.dtype("f8"))
    device.upload(v.address, np.arange(6.0))
    gpu.calls.clear()
    product = H @ (H @ v)
    assert "cuMemcpyHtoDAsync_v2" not in gpu.calls
    assert isinstance(product, DeviceArray)
    same(np.asarray(product), (12 * x.ravel() ** 2) ** 2 * np.arange(6.0))
    same(f.hessian(x) @ np.ones(6), 12 * x.ravel() ** 2)  # memory of one's own again
    for shape, dtype, error in (((5,), "f8", ValueError), ((6,), "f4", TypeError)):
        with pytest.raises(error, match="must have"):
            H @ DeviceArray(device, shape, np.dtype(dtype))
    with pytest.raises(TypeError, match="target='cuda'"):
        nbhvp.differentiable(np.sum, target="interpret").hessian(x).on_device()


def test_pickling(gpu):
    f = nbhvp.differentiable(problems.make_rosenbrock(5).fun, target="cuda")
    assert f.report().traces == 0
    g = pickle.loads(pickle.dumps(nbhvp.differentiable(rosenbrock, target="cuda")))
    same(g.grad(np.ones(3)), np.zeros(3))


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


# Errors.


def test_without_a_driver(monkeypatch):
    driver._library.cache_clear()
    libcuda.loaded.cache_clear()
    monkeypatch.setattr(libcuda.ctypes, "CDLL", _no_library)
    with pytest.raises(RuntimeError, match="target='cuda' needs an NVIDIA driver"):
        nbhvp.differentiable(np.sum, target="cuda")


def _no_library(name):
    raise OSError(f"{name}: cannot open shared object file")


def test_devices_that_do_not_serve():
    with simulated_driver(capability=(6, 1)), pytest.raises(RuntimeError, match=r"6\.1.*7\.0"):
        nbhvp.differentiable(np.sum, target="cuda")
    with simulated_driver(devices=2), pytest.raises(ValueError, match="device 2 .* there are 2"):
        nbhvp.differentiable(np.sum, target="cuda:2")
    with pytest.raises(ValueError, match="target must be"):
        nbhvp.differentiable(np.sum, target="cuda:x")


def test_memory_that_does_not_suffice():
    with simulated_driver(assembles=False, memory=4096):
        f = nbhvp.differentiable(rosenbrock, target="cuda")
        with pytest.raises(MemoryError, match=r"8,\d+ bytes are needed .* 4,096 are free"):
            f(np.ones(1000))


@pytest.mark.parametrize("function", ["cuMemcpyHtoDAsync_v2", "cuLaunchKernel", "cuModuleLoadData"])
def test_the_words_of_the_driver(gpu, function):
    f = nbhvp.differentiable(rosenbrock, target="cuda")
    gpu.fail[function] = 700
    with pytest.raises(RuntimeError, match=f"{function} failed: CUDA_ERROR_700: in words"):
        f(np.ones(4))


def test_after_a_fork(gpu, monkeypatch):
    f = nbhvp.differentiable(rosenbrock, target="cuda")
    f(np.ones(4))
    own = os.getpid()
    monkeypatch.setattr(driver.os, "getpid", lambda: own + 1)
    with pytest.raises(RuntimeError, match="forked"):
        f(np.zeros(4))


def network(x):
    W, V = x[:12].reshape(4, 3), x[12:24].reshape(3, 4)
    Y = np.linspace(-1, 1, 20).reshape(5, 4)
    return np.sum((np.tanh(Y @ W) @ V - Y) ** 2)


def test_a_program_is_one_module_and_a_graph_from_its_second_run_on(gpu):
    f = nbhvp.differentiable(network, target="cuda")
    g = nbhvp.differentiable(network, target="interpret")
    x = np.linspace(-0.4, 0.5, 24)
    f(x)
    assert gpu.calls.count("cuModuleLoadData") == 1
    assert "cuGraphLaunch" not in gpu.calls
    H, needed = f.hessian(x), g.hessian(x)
    for k in range(4):
        v = np.cos(k * x)
        gpu.calls.clear()
        same(H @ v, needed @ v)
        assert gpu.calls.count("cuGraphLaunch") == (k > 0)
        assert "cuLaunchKernel" not in gpu.calls or k == 0
        assert ("cuGraphInstantiateWithFlags" in gpu.calls) == (k == 1)
    # Nodes are written anew where arrays of the caller lie elsewhere.
    device, product = driver.device(0), H.on_device()
    for v in (x, x**2, x**3):
        on_device = DeviceArray(device, (24,), v.dtype, device.stream)
        device.upload(on_device.address, v)
        same(np.asarray(product @ on_device), needed @ v)
    assert gpu.calls.count("cuGraphExecKernelNodeSetParams") > 0


def test_a_graph_that_fails_is_told(gpu):
    f = nbhvp.differentiable(network, target="cuda")
    H, v = f.hessian(np.ones(24)), np.ones(24)
    H @ v
    gpu.fail["cuGraphLaunch"] = 700
    with pytest.raises(RuntimeError, match="cuGraphLaunch failed: CUDA_ERROR_700: in words"):
        H @ v


def test_kernels_come_from_the_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("NBHVP_CACHE_DIR", str(tmp_path))
    counts = []
    for _ in range(2):
        with simulated_driver(assembles=True) as stub:
            f = nbhvp.differentiable(rosenbrock, target="cuda")
            f(np.ones(4))
            counts.append((f.report().kernels_compiled, f.report().kernels_loaded))
            assert ("cuLinkComplete" in stub.calls) == (len(counts) == 1), "assembled once"
    (compiled, loaded), again = counts
    assert compiled > 0
    assert loaded == 0
    assert again == (0, compiled)
    assert cache.NAME == "kernel"
