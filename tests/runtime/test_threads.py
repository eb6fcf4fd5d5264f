"""Functions and operators in several threads, and in forked children."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import nbhvp
from nbhvp.graph.linear_map import HESSIANS
from nbhvp.targets.cpu.entries import forms

pytestmark = [pytest.mark.no_cover, pytest.mark.compiles]

THREADS = 8
both_targets = pytest.mark.parametrize("target", ["interpret", "cpu"])


def chain(x):
    """With state (exp), and without guards."""
    return np.sum(np.exp(-(x[1:] ** 2)) * x[:-1] ** 2)


def branched(x):
    return np.sum(np.exp(x)) if x[0] > 0 else np.sum(x**3)


def at_once(work, count=THREADS):
    """The results of work(0), work(1), ..., all started at one moment."""
    barrier = threading.Barrier(count)

    def run(k):
        barrier.wait()
        return work(k)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


# Above and below the size from which a call is shared among threads.
@both_targets
@pytest.mark.parametrize("n", [10, 200_000])
def test_one_operator(target, n):
    f = nbhvp.differentiable(chain, target=target)
    x = np.linspace(-1, 1, n)
    H = f.hessian(x)
    directions = np.random.default_rng(0).normal(size=(THREADS, n))
    expected = [H @ v for v in directions]
    repeats = 200 if n < 100 and target == "cpu" else 5
    found = at_once(lambda k: [H @ directions[k] for _ in range(repeats)])
    for products, product in zip(found, expected, strict=True):
        for again in products:
            np.testing.assert_array_equal(again, product)


@both_targets
def test_the_first_call_of_many_threads_traces_once(target):
    f = nbhvp.differentiable(chain, target=target)
    x = np.linspace(-1, 1, 50)
    products = at_once(lambda k: f.hvp(x, x))
    assert all(np.array_equal(product, products[0]) for product in products)
    assert f.report().traces == 1


@both_targets
def test_each_thread_at_its_own_points(target):
    """The remembered point changes under every thread's feet."""
    f = nbhvp.differentiable(branched, target=target)
    rng = np.random.default_rng(1)
    points = rng.normal(size=(THREADS, 20, 6))
    v = rng.normal(size=6)

    def work(k):
        return [(f(x), f.grad(x), f.hvp(x, v), f.hessian(x) @ v) for x in points[k]]

    for x_row, row in zip(points, at_once(work), strict=True):
        for x, (value, gradient, *products) in zip(x_row, row, strict=True):
            exp = np.exp(x)
            positive = x[0] > 0
            assert value == pytest.approx(exp.sum() if positive else np.sum(x**3), rel=1e-12)
            np.testing.assert_allclose(gradient, exp if positive else 3 * x**2, rtol=1e-12)
            for product in products:
                np.testing.assert_allclose(product, v * (exp if positive else 6 * x), rtol=1e-12)
    assert f.report().traces == 2


# Of which the second lets go of the interpreter while it runs.
@pytest.mark.parametrize("n", [4, 30_000])
def test_direct_calls_of_many_threads(n, monkeypatch):
    monkeypatch.setattr(forms, "MANY", forms.FEW)
    f, v = nbhvp.differentiable(branched), np.ones(n)
    points = [np.linspace(0.1, 1.0, n) * (1 + k) * (-1) ** (k // 4) for k in range(THREADS)]

    def results(k):
        x = points[k]
        return f(x), f.grad(x), f.hvp(x, v), f.hessian(x) @ v

    expected = [results(k) for k in (*range(THREADS), *range(THREADS))][THREADS:]
    assert all(trace.direct.accept(points[0]) for trace in f._memory.traces)

    def work(k):
        for _ in range(200 if n < 100 else 20):
            for found, result in zip(results(k), expected[k], strict=True):
                np.testing.assert_array_equal(found, result)

    at_once(work)


@pytest.mark.parametrize("round_", range(5))
def test_first_calls_of_every_kind_at_once(round_):
    """Whoever makes a program may not wait for a thread that waits for its lock."""
    f = nbhvp.differentiable(branched, target="interpret")
    x = np.linspace(-1, 1, 6)
    calls = [f, f.grad, f.value_and_grad, lambda x: f.hvp(x, x), lambda x: f.hessian(x) @ x]
    at_once(lambda k: [calls[(k + j) % 5](x if j % 2 else -x) for j in range(10)])
    np.testing.assert_allclose(f.hvp(x, x), 6 * x**2)
    assert f.report().traces == 2


def test_whoever_holds_the_lock_waits_for_nobody():
    """A thread on its way to the lock keeps nothing that its owner needs."""
    f = nbhvp.differentiable(branched, target="interpret")
    x = np.linspace(0.5, 1, 6)
    f(x)
    memory, (recorded,) = f._memory, f._memory.traces
    needed = [
        lambda: recorded.gradient,
        lambda: recorded.value_at([x]),
        lambda: recorded.gradient_at([x]),
        lambda: recorded.linearized(HESSIANS["forward-over-reverse"]),
    ]
    others = [threading.Thread(target=need, daemon=True) for need in needed]

    def own():
        with memory.compiler.lock:
            for other in others:
                other.start()
            time.sleep(0.2)  # they come as far as they can
            for need in needed:
                need()

    owner = threading.Thread(target=own, daemon=True)
    owner.start()
    for thread in (owner, *others):
        thread.join(20)
        assert not thread.is_alive()


def test_minimisers_side_by_side():
    f = nbhvp.differentiable(lambda x, a: np.sum(np.cosh(x - a)))
    alone = [nbhvp.minimize(f, np.zeros(5), (k + 1.0,)) for k in range(THREADS)]
    together = at_once(lambda k: nbhvp.minimize(f, np.zeros(5), (k + 1.0,)))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a.x, b.x)
        assert a.nhvp == b.nhvp > 0


FORK = """
import os, signal, sys, threading
import numpy as np
import nbhvp
from tests.runtime.test_threads import chain

target = sys.argv[1]
f = nbhvp.differentiable(chain, target=target)
x = np.linspace(-1, 1, 200_000)
H = f.hessian(x)
product = H @ x
held, stop = threading.Event(), threading.Event()

def hold():
    with f._memory.compiler.lock:
        held.set()
        stop.wait()

holder = threading.Thread(target=hold)
holder.start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(60)
    same = np.array_equal(H @ x, product)
    new = nbhvp.differentiable(lambda x: np.sum(np.sin(x)), target=target)
    fresh = np.array_equal(new.grad(x[:10]), np.cos(x[:10])) or target == "cpu"
    traced = f.hvp(x[:7], x[:7]).shape == (7,)
    print(same, fresh, traced, flush=True)
    os._exit(0)
ended = os.waitpid(child, 0)[1]
stop.set()
holder.join()
print(ended, np.array_equal(H @ x, product))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@both_targets
def test_a_forked_child_works(target):
    """In a process of its own: this one may have threads of other packages that forbid a fork."""
    done = _run(FORK, target)
    assert done.stdout.split() == ["True", "True", "True", "0", "True"], done.stdout + done.stderr


FORK_WHILE_COMPILING = """
import os, signal, threading, time
from llvmlite.binding import ffi
from numba.core.compiler_lock import global_compiler_lock
import numpy as np
import nbhvp
from nbhvp.targets.native import forks

x = np.linspace(0.1, 1, 5)
first = nbhvp.differentiable(lambda x: np.sum(np.sinh(x) * x))
first(x)
stopped = threading.Event()

def compiling():
    with global_compiler_lock, ffi.lib._lock:
        held.set()
        stopped.wait(3 if k else None)  # the first lets go of nothing

ended = []
for k in range(2):
    forks.PATIENCE = 60.0 if k else 0.2
    stopped.clear()
    held = threading.Event()
    thread = threading.Thread(target=compiling, daemon=True)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(90)
        f = nbhvp.differentiable(lambda x: np.sum(np.sinh(x) * x ** (4 + k)))
        os._exit(not np.allclose(f.grad(x), np.cosh(x) * x ** (4 + k) + (4 + k) * np.sinh(x) * x ** (3 + k)))
    ended.append(os.waitpid(child, 0)[1])
    stopped.set()
    thread.join()
with global_compiler_lock, ffi.lib._lock:  # nobody else has them
    print(*ended)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_is_forked_while_another_thread_compiles_can_compile():
    done = _run(FORK_WHILE_COMPILING)
    assert done.stdout.split() == ["0", "0"], done.stdout + done.stderr


def _run(script, *arguments, **environment):
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", script, *arguments]
    environment = os.environ | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


LAYERS = """
import os
import threading
import numba, numpy as np
import nbhvp

@numba.njit(parallel=True)
def total(a):
    s = 0.0
    for i in numba.prange(a.size):
        s += a[i]
    return s

x = np.linspace(-1, 1, 200_000)
f = nbhvp.differentiable(lambda x: np.sum(np.exp(-(x[1:] ** 2)) * x[:-1] ** 2))
g = nbhvp.differentiable(lambda x: np.sum(np.cosh(x)) * np.sum(np.sin(x)))
M = np.random.default_rng(0).normal(size=(300, 300))
products = [f.hessian(x), g.hessian(x)]
values = [f, g]
h = nbhvp.differentiable(lambda x: np.sum(np.tanh(M @ x.reshape(300, 300))))
w = np.linspace(-1, 1, 90_000)
P = h.hessian(w)
expected, wrong = [H @ x for H in products], []
sums, dense = [f(x) for f in values], P @ w

def work(k):
    numba.set_num_threads(1 + k % 2)
    for j in range(10):
        at = (j + k) % 2
        if not np.array_equal(products[at] @ x, expected[at]) or values[at](x) != sums[at]:
            wrong.append(at)
        if j % 5 == 0 and not np.allclose(P @ w, dense, rtol=1e-10, atol=1e-10):
            wrong.append("dense")

threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
for thread in threads:
    thread.start()
for _ in range(20):
    assert total(np.ones(100_000)) == 100_000
for thread in threads:
    thread.join()
for threads in (1, 2):
    numba.set_num_threads(threads)
    if not np.array_equal(products[0] @ x, expected[0]):
        wrong.append(threads)
if hasattr(os, "fork"):
    child = os.fork()
    if child == 0:
        os._exit(not np.array_equal(products[0] @ x, expected[0]))
    if os.waitpid(child, 0)[1]:
        wrong.append("child")
print(numba.threading_layer(), len(wrong), wrong)
"""


@pytest.mark.parametrize("layer", ["workqueue", "omp", "tbb"])
def test_beside_a_parallel_function_of_the_users_under_each_threading_layer(layer):
    done = _run(LAYERS, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2")
    if "No threading layer could be loaded" in done.stderr:
        pytest.skip(f"numba's {layer} layer is not installed here")
    assert done.stdout.split() == [layer, "0", "[]"], done.stdout + done.stderr
