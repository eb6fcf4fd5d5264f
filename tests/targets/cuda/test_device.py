"""The same on a device: `pytest -m gpu`, where there is one. `benchmarks/gpu.sh` runs all of it."""

import contextlib
import ctypes
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import special

import nbhvp
from benchmarks import gpu, problems
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.targets.cuda.launching import driver
from nbhvp.targets.cuda.program import Program
from tests.checks import assert_close
from tests.graphs import STRUCTURE, build, random_graph
from tests.simulated_gpu import SIMULATED, simulated_driver


def _has_driver() -> bool:
    if SIMULATED:
        return True
    try:
        return ctypes.CDLL("libcuda.so.1").cuInit(0) == 0
    except OSError:
        return False


on_device = [
    pytest.mark.gpu,
    pytest.mark.compiles,
    pytest.mark.skipif(not _has_driver(), reason="needs a GPU and its driver"),
]


LONG = 2000 if SIMULATED else 1 << 20


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


NAMES = sorted(
    name for name, entry in p.TABLE.items() if entry.is_elementwise and entry.domain is not None
)


@marked
@pytest.mark.parametrize("name", NAMES)
def test_functions_of_the_table(name):
    """In both precisions, with kernels or on the host, against the table's own evaluation."""
    from tests.targets.cuda.test_ptx import applied

    rng, entry = np.random.default_rng(0), p.TABLE[name]
    for dtype, tolerance in ("f8", 1e-11), ("f4", 1e-4):
        graph = applied(entry, dtype)
        if graph is None:
            continue
        ranges = (*entry.domain, *[entry.domain[-1]] * entry.arity)[: entry.arity]
        inputs = [rng.uniform(low, high, 40).astype(dtype) for low, high in ranges]
        (found,) = Program(driver.device(0), graph)(*inputs)
        assert_close(found, interpret(graph, *inputs)[0], tolerance)


@marked
@pytest.mark.parametrize("name", ["gamma", "gammaln", "digamma", "erfc", "erfcx", "log_ndtr"])
def test_special_functions(name):
    x = np.concatenate([np.linspace(-9.97, 30, 300), [0.0, np.inf, np.nan]])
    f = nbhvp.differentiable(lambda x: getattr(special, name)(x), target="cuda")
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(f(x), getattr(special, name)(x), rtol=1e-12, atol=1e-13)


# Arrays of other libraries.


def _library(name):
    """Its arrays of the device from NumPy's and back, with double precision."""
    module = pytest.importorskip(name)
    if name == "cupy":
        return SimpleNamespace(to=module.asarray, back=module.asnumpy)
    if name == "torch":
        return SimpleNamespace(
            to=lambda a: module.as_tensor(a, device="cuda"), back=lambda a: a.cpu().numpy()
        )
    if name == "jax":
        if module.default_backend() != "gpu":
            pytest.skip("JAX has no GPU here")
        module.config.update("jax_enable_x64", True)
        return SimpleNamespace(to=module.numpy.asarray, back=np.asarray)
    if SIMULATED:
        pytest.skip("Numba would look for the driver itself")
    cuda = pytest.importorskip("numba.cuda")
    return SimpleNamespace(to=cuda.to_device, back=lambda a: a.copy_to_host())


ARITHMETIC = ("damped", "sum of operators")
"""What takes arithmetic of the library, which Numba's arrays do not have."""


@marked
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["cupy", "torch", "jax", "numba"])
def test_arrays_of_libraries(name):
    from tests.targets.cuda import test_arrays as cases

    library = _library(name)
    inputs = [library.to(a) for a in (cases.X, cases.V, cases.W, cases.A)]
    for function, calls in (cases.logistic, cases.SCALAR), (cases.residuals, cases.VECTOR):
        f = nbhvp.differentiable(function, target="cuda")
        for what, (call, needed) in calls.items():
            if name == "numba" and what in ARITHMETIC:
                continue
            for _ in range(2):
                found = call(f, *inputs)
                assert type(found) is type(inputs[0]), what
                np.testing.assert_allclose(library.back(found), needed(), rtol=1e-10, err_msg=what)


@marked
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["cupy", "torch", "jax"])
def test_streams_of_libraries(name):
    """A chain of work on large arrays, on streams of the library, with nothing waited for."""
    library = _library(name)
    f = nbhvp.differentiable(lambda x: np.sum(x**4) / 12 + x[0], target="cuda")
    x, v = np.linspace(0.5, 1, LONG), np.linspace(1, 2, LONG)
    needed = v * (2 * x) ** 2 * x**2
    for _ in range(20):
        with _stream(name):
            at, along = library.to(x), library.to(v)
            found = f.hvp(at, f.hvp(at + at, along))
        np.testing.assert_allclose(library.back(found), needed, rtol=1e-12)


def _stream(name):
    if name == "cupy":
        return pytest.importorskip("cupy").cuda.Stream(non_blocking=True)
    if name == "torch":
        torch = pytest.importorskip("torch")
        return torch.cuda.stream(torch.cuda.Stream())
    return contextlib.nullcontext()


@marked
@pytest.mark.filterwarnings("ignore")
def test_solvers_of_cupy():
    cupy = pytest.importorskip("cupy")
    linalg = pytest.importorskip("cupyx.scipy.sparse.linalg")
    problem = problems.MAKERS["logistic"]((300, 40))
    f = nbhvp.differentiable(problem.fun, target="cuda")
    H = f.hessian(problem.x0, *problem.args)
    b = np.ones(40)
    found, info = linalg.cg(H.on_device(), cupy.asarray(b), tol=1e-12)
    assert info == 0
    np.testing.assert_allclose(cupy.asnumpy(found), np.linalg.solve(H.toarray(), b), rtol=1e-6)
    (largest,) = cupy.asnumpy(linalg.eigsh(H.on_device(), k=1, return_eigenvectors=False))
    np.testing.assert_allclose(largest, np.linalg.eigvalsh(H.toarray())[-1], rtol=1e-9)


def _library_functions():
    from tests.targets.cuda.test_library import FUNCTIONS

    return FUNCTIONS


@marked
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*_library_functions()])
def test_library_steps(name):
    pytest.importorskip("cupy")
    from tests.targets.cuda.test_library import FUNCTIONS, X

    f, g = (nbhvp.differentiable(FUNCTIONS[name], target=t) for t in ("cuda", "interpret"))
    v = np.array([1.0, -0.5, 0.3, 2.0])
    np.testing.assert_allclose(f.grad(X), g.grad(X), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(f.hvp(X, v), g.hvp(X, v), rtol=1e-8, atol=1e-10)
    assert f.report().library_steps > 0


# The driver.


@marked
def test_single_precision():
    f = nbhvp.differentiable(lambda x: np.sum(np.exp(x) * x), target="cuda")
    x = np.linspace(0, 1, LONG // 200, dtype=np.float32)
    assert f.grad(x).dtype == np.float32
    np.testing.assert_allclose(f.hvp(x, x), (2 + x) * np.exp(x) * x, rtol=3e-6)


@marked
def test_threads():
    f = nbhvp.differentiable(lambda x: np.sum(np.exp(x) * x), target="cuda")
    x, found = np.linspace(0, 1, LONG // 10), {}
    H = f.hessian(x)

    def work(k):
        found[k] = [(H @ (x + k), f.grad(x + k)) for _ in range(10)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, pairs in found.items():
        for product, gradient in pairs:
            np.testing.assert_allclose(product, (2 + x) * np.exp(x) * (x + k), rtol=1e-12)
            np.testing.assert_allclose(gradient, (1 + x + k) * np.exp(x + k), rtol=1e-12)


@marked
def test_memory_that_does_not_suffice():
    device = driver.device(0)
    with pytest.raises(MemoryError, match="bytes are needed"):
        device.allocate(1 << 46, device.stream)


@marked
@pytest.mark.filterwarnings("ignore")
def test_after_a_fork():
    f = nbhvp.differentiable(lambda x: x @ x, target="cuda")
    f(np.ones(3))
    child = os.fork()
    if child == 0:
        try:
            f(np.zeros(3))
        except RuntimeError as error:
            os._exit(0 if "forked" in str(error) else 2)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@marked
def test_auto():
    problem = problems.MAKERS["logistic"]((20_000, 500) if not SIMULATED else (20, 5))
    f = nbhvp.differentiable(problem.fun, target="auto")
    found = f.hvp(problem.x0, problem.v, *problem.args)
    needed = problem.hvp(problem.x0, problem.v, *problem.args)
    np.testing.assert_allclose(found, needed, rtol=1e-9, atol=1e-11 * np.abs(needed).max())
    assert SIMULATED or f.report().target == "cuda:0"


# What the benchmark does, without a device.


@pytest.mark.compiles
def test_the_benchmark_runs(capsys, monkeypatch, tmp_path):
    """Its logic, at tiny sizes, on a driver without a GPU."""
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    sizes = {"rosenbrock": 40, "logistic": (10, 3)}
    with simulated_driver(assembles=False):
        figures = gpu.section(sizes, long=0.0, file=str(tmp_path / "gpu.json"))
        late = gpu.section(sizes, long=0.0, seconds=-1.0)
    assert set(figures["problems"]) == set(sizes)
    assert not figures["failed"]
    assert json.loads((tmp_path / "gpu.json").read_text())["problems"].keys() == set(sizes)
    assert late["failed"].keys() == set(sizes)
    assert "| rosenbrock |" in capsys.readouterr().out


@pytest.mark.compiles
def test_the_script_runs(tmp_path):
    """In the simulator, with few of the tests: it ends well, and leaves its files."""
    environment = os.environ | {
        "NBHVP_SIMULATED_GPU": "1", "PYTHON": sys.executable, "PYTEST_ADDOPTS": "-n 0",
        "TESTS": "tests/targets/cuda/test_device.py::test_single_precision",
    }  # fmt: skip
    script = Path(gpu.__file__).with_name("gpu.sh")
    done = subprocess.run(
        ["bash", script, tmp_path], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    figures = json.loads((tmp_path / "gpu.json").read_text(), parse_constant=pytest.fail)
    assert not figures["failed"]
    assert figures["date"] and figures["device"] and figures["copy"]
    assert {*figures["problems"]} == {*gpu.TINY} == {gpu.SUITE[label][0] for label in gpu.LABELS}
    for one in figures["problems"].values():
        assert {*one} == {"floor", "device", "JAX", "NumPy", "first", "kernels"}
    assert "test_single_precision" in (tmp_path / "gpu_tests.xml").read_text()


@pytest.mark.compiles
def test_a_problem_that_fails_leaves_the_others(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    with simulated_driver(assembles=False) as stub:
        own = gpu.measured

        def measured(problem, device, long):
            stub.fail = {"cuLaunchKernel": 700} if problem.name == "logistic" else {}
            return own(problem, device, long)

        monkeypatch.setattr(gpu, "measured", measured)
        figures = gpu.section({"logistic": (10, 3), "rosenbrock": 40}, long=0.0)
    assert "cuLaunchKernel failed" in figures["failed"]["logistic"]
    assert set(figures["problems"]) == {"rosenbrock"}
