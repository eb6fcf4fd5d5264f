"""The kernels' language against plain Python, and programs on one and more threads."""

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from numba.extending import get_cython_function_address
from scipy.special import erf

from nbhvp.targets.cpu import run as cpu
from nbhvp.targets.cpu.run import Ref, Step, assemble
from nbhvp.targets.native import language
from nbhvp.targets.native.cache import Window, compiled, load, plain
from tests.checks import allow_threads, make_team

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.compiles]

HEADER = """
from nbhvp.targets.native.language import (
    add_reassoc, call, cast, cplx, function, integer, kernel, reads, real, stream, writes,
)
import math

@kernel
"""

# Everything the language has, in one kernel.
EVERYTHING = (
    HEADER
    + """def kernel_everything(table, lo, hi):
    a = reads(table, 0, "f8")
    b = reads(table, 1, "f4")
    c = reads(table, 2, "c16")
    d = reads(table, 3, "c8")
    e = reads(table, 4, "b1")
    index = reads(table, 5, "i4")
    z_f8 = writes(table, 6, "f8")
    z_f4 = writes(table, 7, "f4")
    z_c16 = writes(table, 8, "c16")
    z_c8 = writes(table, 9, "c8")
    z_b1 = writes(table, 10, "b1")
    z_i8 = writes(table, 11, "i8")
    shift = integer(table, 12)
    x = real(table, 13, "f8")
    y = real(table, 14, "f4")
    w = cplx(table, 15, "c16")
    f = function(table, 17)
    for i in range(lo, hi):
        t = a[i + shift] if i >= 1 else 0.0
        u = call(f, t) * x + math.exp(t)
        total = cast(0.0, "f4")
        for j in range(3):
            total = add_reassoc(total, b[i] * y)
        around = c[index[i]] * w
        z_f8[i] += u
        z_c16[i] = add_reassoc(around, around) if e[i] else around
        stream(z_c8, i, d[i])
        stream(z_f4, i, total)
        z_b1[i] = e[i] and u > x
        z_i8[i] = index[i] * shift
"""
)

STREAMS = HEADER + "def kernel_streams(table, lo, hi):\n    c = real(table, 0, 'f8')\n"
STREAMS += "".join(f"    a{j} = reads(table, {j}, 'f8')\n" for j in range(1, 8))
STREAMS += "".join(f"    z{j} = writes(table, {j}, 'f8')\n" for j in range(8, 15))
STREAMS += "    for i in range(lo, hi):\n"
STREAMS += "".join(f"        t{j} = a{j - 7}[i] * c + a{j % 7 + 1}[i + 1]\n" for j in range(8, 15))
STREAMS += "".join(f"        z{j}[i] = t{j}\n" for j in range(8, 15))

STENCIL = (
    HEADER
    + """def kernel_stencil(table, lo, hi):
    v = reads(table, 0, "f8")
    z = writes(table, 1, "f8")
    n = integer(table, 2)
    for i in range(lo, hi):
        t = 0.0
        if i < n - 1:
            t += v[i + 1] * v[i]
        if i >= 1:
            t -= math.sqrt(v[i - 1] * v[i - 1] + 1.0)
        z[i] = t
"""
)


def stencil(n, block, repeat=1):
    """A program from "v" to "out", and what it computes."""
    step = Step(load(STENCIL).address, (Ref("v"), Ref("out"), n), n, block)
    v = np.random.default_rng(n).random(n)
    expected = np.zeros(n)
    expected[:-1] += v[1:] * v[:-1]
    expected[1:] -= np.sqrt(v[:-1] ** 2 + 1)
    return assemble([step] * repeat, {}), v, expected


@pytest.fixture
def four_cores(monkeypatch):
    """A team larger than the machine may have cores for: workers are late and descheduled."""
    make_team(monkeypatch, 4)


def test_everything_equals_plain_python():
    n, rng = 50, np.random.default_rng(0)
    dtypes = ["f8", "f4", "c16", "c8", "b1", "i4", "f8", "f4", "c16", "c8", "b1", "i8"]
    arrays = [np.zeros(n, code) for code in dtypes]
    for array in arrays[:4]:
        array[:] = rng.random(n) + (1j * rng.random(n) if array.dtype.kind == "c" else 0)
    arrays[4][:] = rng.random(n) < 0.5
    arrays[5][:] = rng.permutation(n)
    constants = [-1, 0.75, np.float32(0.1), 1 - 2j]

    twins = [array.copy() for array in arrays]
    table = [Window(array) for array in twins] + constants[:3] + [1.0, -2.0, erf]
    plain(EVERYTHING)(table, 0, n)

    address = get_cython_function_address("scipy.special.cython_special", "__pyx_fuse_1erf")
    table = tuple(Ref(j) for j in range(len(arrays))) + (*constants, address)
    step = Step(load(EVERYTHING).address, table, n, 7)
    cpu.execute(assemble([step], {j: array.ctypes.data for j, array in enumerate(arrays)}))
    for array, twin in zip(arrays, twins, strict=True):
        rtol = 1e-6 if array.dtype in ("f4", "c8") else 1e-14
        np.testing.assert_allclose(array, twin, rtol=rtol)
    assert not np.array_equal(arrays[6], np.zeros(n)) and arrays[10].any()


def test_plain_python_stays_inside():
    kernel, v, z = plain(STENCIL), np.ones(4), np.zeros(4)
    kernel([Window(v), Window(z), 4], 0, 4)
    for table in ([Window(v), Window(z), 5], [Window(v, -1), Window(z), 4]):
        with pytest.raises(AssertionError, match="of 4"):
            kernel(table, 0, 4)
    with pytest.raises(AssertionError, match="slot 0"):
        kernel([Window(np.ones(4, "f4")), Window(z), 4], 0, 4)


def test_kernels_are_vector_code_that_cannot_raise():
    for source in (STREAMS, STENCIL + "\n"):
        llvm = compiled(source).llvm
        assert " x double>" in llvm and "memcheck" not in llvm
        assert language.raise_paths(llvm) == []
    raising = STENCIL.replace("t = 0.0", "t = 0.0\n        if n < 0: raise ValueError")
    assert language.raise_paths(compiled(raising).llvm)


@pytest.mark.parametrize("n, block", [(1, 1), (10, 3), (10, 10), (10, 99)])
def test_run(n, block):
    program, v, expected = stencil(n, block)
    v.flags.writeable = False
    out = np.full(n, np.nan)
    cpu.run(program, v, out)
    np.testing.assert_allclose(out, expected, rtol=1e-13)


ANY_ARRAY = {
    "one number": np.asarray(1.5, np.float32),
    "empty": np.empty((0, 3)),
    "strided": np.arange(24.0).reshape(4, 6)[1:, ::-2],
    "of columns": np.asfortranarray(np.ones((3, 4), np.complex64)),
    "read-only": np.broadcast_to(np.arange(3), (2, 3)),
}


@pytest.mark.parametrize("name", ANY_ARRAY)
def test_compiled_code_sees_the_address_of_any_array(name):
    array = ANY_ARRAY[name]
    assert cpu.address(array) == array.ctypes.data


@pytest.mark.parametrize("run", [cpu.run, cpu.run_parallel])
def test_one_compilation_serves_any_number_of_axes(run):
    program, v, expected = stencil(12, 5)
    out = np.full((2, 3, 2), np.nan)
    run(program, v.reshape(3, 4), out)
    np.testing.assert_allclose(out.reshape(-1), expected, rtol=1e-13)


def test_place():
    """Addresses of an array that stays, at offsets of its own."""
    a, z = np.arange(10.0), np.zeros(4)
    step = Step(load(STENCIL).address, (Ref("a", 16), Ref("z"), 4), 4, 4)
    program = assemble([step], {"a": 0, "z": z.ctypes.data})
    at = cpu.HEADER + cpu.STEP
    cpu.place(program, np.array([1, at, 16]), a)
    cpu.execute(program)
    twin = np.zeros(4)
    plain(STENCIL)([Window(a[2:6].copy()), Window(twin), 4], 0, 4)
    np.testing.assert_allclose(z, twin, rtol=1e-13)


def test_empty_steps_are_not_called():
    crash = Step(0, (), 0, 1)
    for run in (cpu.execute, cpu.execute_parallel):
        run(assemble([crash], {}))
        run(assemble([], {}))


def test_the_bits_do_not_depend_on_threads(four_cores):
    program, v, expected = stencil(100_000, 1000, repeat=3)
    alone, shared = np.zeros_like(v), np.zeros_like(v)
    cpu.run(program, v, alone)
    for _ in range(100):
        shared[:] = np.nan
        cpu.run_parallel(program, v, shared)
        assert np.array_equal(alone, shared)
    np.testing.assert_allclose(alone, expected, rtol=1e-13)
    assert cpu._the_team[1] == 3


def test_tiny_blocks(four_cores):
    """Claims and ends of steps, with hardly anything between."""
    program, v, expected = stencil(64, 1, repeat=20)
    out = np.zeros(64)
    for _ in range(500):
        out[:] = np.nan
        cpu.run_parallel(program, v, out)
        assert not np.isnan(out).any()
    np.testing.assert_allclose(out, expected, rtol=1e-13)


def test_eight_python_threads_at_once(four_cores):
    def calls(n):
        program, v, expected = stencil(n, 500, repeat=2)
        for _ in range(50):
            out = np.full(n, np.nan)
            cpu.run_parallel(program, v, out)
            if not np.allclose(out, expected, rtol=1e-13, atol=0):
                wrong.append(n)

    wrong = []
    threads = [threading.Thread(target=calls, args=(20_000 + j,)) for j in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_number_of_threads_is_numbas(four_cores, monkeypatch):
    program, _, _ = stencil(1000, 10)
    allowed = dict.fromkeys((1, 2, 4, 9))
    for threads in allowed:
        allow_threads(monkeypatch, threads)
        allowed[threads] = cpu._team(program)[1]
    assert allowed == {1: 0, 2: 1, 4: 3, 9: 3}
    assert cpu._team(stencil(1000, 500)[0])[1] == 1  # two blocks


def test_numbas_setting_is_read_at_each_call():
    out = _script("""
    import numba
    allowed = []
    for threads in (2, 1, 2):
        numba.set_num_threads(threads)
        check()
        allowed.append(cpu._team(program)[1])
    print(allowed)
    """)
    assert out == "[1, 0, 1]\n"


def _script(text):
    """Run a script in a process of its own. What it prints."""
    common = """
    import os, sys, threading, warnings
    import numpy as np
    from tests.targets.cpu import test_run
    from nbhvp.targets.cpu import run as cpu
    cpu.machine.processors = lambda: 2
    program, v, expected = test_run.stencil(300_000, 1000)

    def check():
        out = np.full(v.size, np.nan)
        cpu.run_parallel(program.copy(), v, out)
        np.testing.assert_allclose(out, expected, rtol=1e-13)
    """
    root = str(Path(__file__).parents[3])
    environment = os.environ | {"NUMBA_NUM_THREADS": "2", "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(common) + textwrap.dedent(text)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_threads_start_at_the_first_parallel_call_and_do_not_hold_up_the_end():
    out = _script("""
    def names():
        return [thread.name for thread in threading.enumerate()].count("nbhvp")

    before = names()
    check()
    print(before, names())
    """)
    assert out.split() == ["0", "1"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_makes_its_own_team():
    out = _script("""
    def children(count):
        for _ in range(count):
            with warnings.catch_warnings(action="ignore"):  # of forks beside threads
                child = os.fork()
            if child == 0:
                check()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0

    check()
    children(1)
    stop = []
    def busy():
        while not stop:
            check()
    thread = threading.Thread(target=busy)
    thread.start()
    children(20)  # most while a parallel call runs
    stop.append(1)
    thread.join()
    check()
    print("whole")
    """)
    assert out == "whole\n"
