"""Memory of large results, copies and comparisons on several threads."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from nbhvp import differentiable
from nbhvp.plan.costs import CPU
from nbhvp.targets.cpu import large, results

pytestmark = pytest.mark.compiles

FLOAT = np.dtype(float)
COUNT = CPU.l2 // 8


@pytest.fixture(autouse=True)
def nothing_waits():
    results.forget()
    yield
    results.forget()


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_is_lent_again_only_when_the_last_view_has_died():
    first = results.empty((COUNT,), FLOAT)
    first[:] = 1
    place, view = address(first), first[5:7]
    del first
    other = results.empty((COUNT,), FLOAT)
    other[:] = 2
    assert address(other) != place
    assert view.tolist() == [1, 1]
    del view
    again = results.empty((2, COUNT // 2), FLOAT)
    assert address(again) == place
    assert again.flags.c_contiguous
    assert again.flags.writeable


@pytest.mark.parametrize(("shape", "dtype"), [((3,), "f4"), ((COUNT, 2), "f8"), ((COUNT,), "c16")])
def test_a_result_is_like_that_of_numpy(shape, dtype):
    made, plain = results.empty(shape, np.dtype(dtype)), np.empty(shape, dtype)
    assert (made.shape, made.dtype, made.strides) == (plain.shape, plain.dtype, plain.strides)


def test_what_waits_is_bounded(monkeypatch):
    monkeypatch.setattr(results, "_MEMORY", results.SHARE * 3 * CPU.l2)
    arrays = [results.empty((COUNT + k,), FLOAT) for k in range(6)]
    while arrays:
        del arrays[0]
    waiting = sum(size * len(some) for size, some in results._waiting.items())
    assert 0 < waiting <= 3 * CPU.l2
    assert COUNT * 8 not in results._waiting, "the longest waiting goes first"


def test_threads_never_share_a_result():
    def work(mark):
        for _ in range(50):
            array = results.empty((COUNT,), FLOAT)
            array[:] = mark
            if array[0] != mark or array[-1] != mark:
                failures.append(mark)

    failures = []
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_results_that_are_kept_stay_as_they_are():
    n = CPU.l2 // 4
    f = differentiable(lambda x: np.sum(x**4) / 12)
    x = np.linspace(0, 1, n)
    kept = [f.hvp(x + k, np.ones(n)) for k in range(4)]
    gradients = [f.grad(x + k) for k in range(4)]
    for k in range(4):
        np.testing.assert_allclose(kept[k], (x + k) ** 2, rtol=1e-14)
        np.testing.assert_allclose(gradients[k], (x + k) ** 3 / 3, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_large_copies_and_comparisons(dtype):
    a = np.random.default_rng(0).normal(size=(100, 300)).astype(dtype)
    b = large.copied(a)
    assert b.dtype == a.dtype
    assert not np.shares_memory(a, b)
    words = [array.reshape(-1).view(np.int64) for array in (a, b)]
    assert large.same_words(*words)
    b[-1, -1] = np.nextafter(b[-1, -1], np.array(9, dtype))
    assert not large.same_words(*words)
    b[:] = a
    b[7, 0] = -b[7, 0]
    assert not large.same_words(*words)


def test_a_large_gradient_is_nobody_elses():
    """It is given away, not copied; the next one at the same point is computed again."""
    n = CPU.shared // 8
    f = differentiable(lambda x: np.sum(x**3) / 3)
    x = np.linspace(0, 1, n)
    f.hvp(x, x)
    for k in (1, 1, 2):
        first, again = f.grad(x + k), f.grad(x + k)
        assert not np.shares_memory(first, again)
        first[:] = np.nan
        np.testing.assert_allclose(f.grad(x + k), (x + k) ** 2, rtol=1e-14)
        np.testing.assert_allclose(again, (x + k) ** 2, rtol=1e-14)
        np.testing.assert_allclose(f.hvp(x + k, x), 2 * (x + k) * x, rtol=1e-14)
        value, gradient = f.value_and_grad(x + k)
        assert value == f(x + k)
        assert not np.shares_memory(gradient, again)


AT_THE_END = """
import numpy as np
from numba import njit
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Pool
from nbhvp.targets.cpu.program import Program
a = p.input_node(Pool(), 'a', (8,), np.float64)
product = Program(Graph((a,), (p.exp(a),))).bind()
x, out = np.ones(8), np.empty(8)
product(x, out)

@njit
def keeps_the_names_of_this_module(x, out):
    for i in range(x.size):
        out[i] = x[i]
keeps_the_names_of_this_module(x, out)
"""


def test_the_end_of_the_interpreter_is_silent():
    """What is deleted last finds modules that have been emptied."""
    done = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


OUTLIVED = """
import ctypes, gc
from nbhvp.targets.cpu import run
from nbhvp.targets.native import entries
function = run.address.call
vars(entries).clear()
gc.collect()
others = [ctypes.create_string_buffer(b"x" * 31) for _ in range(10_000)]
assert function.__name__ == "address"
"""


def test_compiled_functions_outlive_their_module():
    """Python looks at the definition of a function when that dies, after modules have been emptied."""
    done = subprocess.run([sys.executable, "-c", OUTLIVED], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
