"""The lowering of kernels against numba, which compiles the same texts.

Each kernel runs on memory of its own, from one table, by both; what they write agrees to rounding.
numba takes 0.2 s and more for each, so a sample of the problems' kernels has to do, and one kernel of
many entries of the table. All kernels of the problems are lowered.
"""

import itertools

import numpy as np
import pytest

from benchmarks import problems
from benchmarks.kernels import graphs
from nbhvp.graph import primitives as p
from nbhvp.graph.derive import check
from nbhvp.graph.node import Graph, Pool
from nbhvp.plan.nests.text import KernelCall, Pointer
from nbhvp.plan.schedule import schedule
from nbhvp.targets.cpu import run as cpu
from nbhvp.targets.cpu.kernels.nests import emit, has_kernels
from nbhvp.targets.cpu.program import Program
from nbhvp.targets.lowering import lower, words
from nbhvp.targets.native import cache, machine
from tests.checks import elements, forget_kernels
from tests.graphs import STRUCTURE, build

pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.no_cover,
    pytest.mark.compiles,
]

HEADER = """
import math
import numpy as np
from numba import boolean as b1, float32 as f4, float64 as f8, int32 as i4, int64 as i8
from numba import complex128 as c16
from nbhvp.targets.native.language import cast, integer, kernel, reads, straight_kernel, times, writes
from nbhvp.targets.lowering.scalars import *

@kernel
def kernel_test(table, lo, hi):
"""

WHAT_TEXTS_SAY = """
    z = writes(table, 0, "f8")
    n = integer(table, 1)
    a = reads(table, 2, "f8")
    k = reads(table, 3, "i4")
    w = writes(table, 4, "i8")
    c = reads(table, 5, "c16")
    q = writes(table, 6, "c16")
    s = writes(table, 7, "f4")
    total = f8(0)
    for i in range(lo, hi):
        x, y = a[i], a[n - 1 - i]
        total = total + times(x, y)
        z[i] = total
        t = f8(0.0)
        if (i >= 3) & (x < y):
            t = x ** 3 - y ** (-2)
        elif i == 0:
            t = -x
        else:
            for j in range(i, 0, -1):
                if j % 3 == 1:
                    continue
                t = t + a[j] / (1 + j)
        for part in ((0, 2), (i, n), ):
            for j in range(max(part[0], 1), min(part[1], n)):
                t = t + a[j] * 0.5
        z[i] += remainder(t, 0.3) + floor_divide(t, 0.7) + fmod(-t, 0.2) + np.sign(t - 1)
        count = 0
        m = i8(k[i])
        while (m != 0) and (not (count > 40)):
            m = m >> 1 if m > 0 else m + 1
            count = count + 1
        w[i] = count + k[i] // 3 * 100 + k[i] % -4 + floor_divide(k[i], k[n - 1 - i])
        w[i] = w[i] + remainder(m - i, k[i]) + fmod(k[i], k[n - 1 - i]) + invert(m) + (i << 2 & 5 | 1 ^ 8)
        h = c[i] * c[n - 1 - i] - 2.0 * c[i] + complex(x, 0.5)
        q[i] = divide(h, c[i].conjugate()) if c[i] != 1j else -h
        g = cast(x, "f4") * cast(y, "f4")
        s[i] = cast(abs(g) + math.sqrt(g) + abs(h), "f4") if (x > 0) == (y > 0) else f4(h.real - h.imag)
"""


def memory_of(call: KernelCall, rng) -> tuple[dict, tuple]:
    """Flat memory of all that a kernel touches, and its table.

    Constants are there as they are, everything else is numbers below 1.
    """
    memory, table = {}, []
    for slot in call.slots:
        if not isinstance(slot, Pointer):
            table.append(slot)
            continue
        array, kind = slot.array, slot.array.dtype.kind
        if getattr(array, "value", None) is not None:
            memory[array], origin = elements({}, array)
        else:
            origin, size = 0, max(1, int(np.prod(array.shape)))
            numbers = rng.uniform(0.2, 0.9, size) + (1j * rng.random(size) if kind == "c" else 0)
            made = (rng.random(size) < 0.5 if kind == "b" else numbers).astype(array.dtype)
            memory.setdefault(array, made)
        table.append(cpu.Ref(array, (slot.offset + origin) * array.dtype.itemsize))
    return memory, tuple(table)


def run(address: int, table, extent: int, block: int, memory: dict) -> dict:
    """Memory after a kernel."""
    memory = {array: values.copy() for array, values in memory.items()}
    addresses = {array: values.ctypes.data for array, values in memory.items()}
    cpu.execute(cpu.assemble([cpu.Step(address, table, extent, block)], addresses))
    return memory


count = itertools.count()


def assert_same(source: str, table, extent: int, block: int, memory: dict) -> None:
    """The lowered kernel and numba's write the same."""
    found = []
    for compiled in (cache.compiled, cache.compiled_by_numba):
        made = compiled(source, f"kernel_in_test_{next(count)}")
        assert made.by_numba == (compiled is cache.compiled_by_numba)
        found.append(run(machine.link(made.name, made.object_code), table, extent, block, memory))
    for array, given in found[0].items():
        scale = 1e-5 if array_kind(given) in ("f4", "c8") else 1e-13
        needed = found[1][array]
        np.testing.assert_allclose(given, needed, rtol=scale, atol=scale * np.abs(needed).max())


def array_kind(array) -> str:
    return f"{array.dtype.kind}{array.dtype.itemsize}"


def assert_same_call(call: KernelCall) -> None:
    memory, table = memory_of(call, np.random.default_rng(0))
    assert_same(call.source, table, call.extent, call.block, memory)


def calls_of(graph: Graph) -> list[KernelCall]:
    steps = [step for step in schedule(check(graph)).steps if has_kernels(step)]
    return [call for step in steps for call in emit(step)]


@pytest.fixture(scope="module")
def problems_calls() -> dict[str, KernelCall]:
    """One call of each text that the problems need."""
    found = {}
    for problem in problems.small():
        for _, graph in graphs(problem.fun, problem.x0, problem.args):
            found.update((call.source, call) for call in calls_of(graph))
    return found


def test_the_problems_need_no_numba(problems_calls):
    assert len(problems_calls) > 40
    for source in problems_calls:
        lower.lowered(source, "kernel", machine.target())


def test_kernels_of_the_problems_are_those_of_numba(problems_calls):
    chosen = sorted(problems_calls)[:: len(problems_calls) // 8]
    for call in map(problems_calls.__getitem__, chosen):
        assert_same_call(call)


def test_what_texts_say_is_what_numba_makes_of_it():
    n, rng = 23, np.random.default_rng(1)
    arrays = {
        0: np.zeros(n), 2: rng.normal(size=n), 3: rng.integers(-9, 9, n).astype("i4"),
        4: np.zeros(n, "i8"), 5: rng.normal(size=n) + 1j * rng.normal(size=n),
        6: np.zeros(n, "c16"), 7: np.zeros(n, "f4"),
    }  # fmt: skip
    arrays[2][5:9] = np.abs(arrays[2][5:9])
    table = (cpu.Ref(0), n, *(cpu.Ref(k) for k in range(2, 8)))
    assert_same(HEADER + WHAT_TEXTS_SAY, table, n, n, arrays)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_functions_of_the_table_are_those_of_numba(dtype):
    pool = Pool()
    x, y = (p.input_node(pool, name, (40,), np.dtype(dtype)) for name in "xy")
    names = "exp log sin tanh expit erf power arctan2 logaddexp xlogy remainder hypot ndtr zeta lambertw"
    outputs = [
        entry(*(x, y)[: entry.arity], **({"k": 0} if name == "lambertw" else {}))
        for name in names.split()
        if (entry := p.TABLE[name])
    ]
    outputs += [p.TABLE["gammainc_da"](x, y, n=1), p.sqrt(x) / y, p.where(p.less(x, y), x, 1 - y)]
    for call in calls_of(Graph((x, y), tuple(outputs))):
        assert_same_call(call)


@pytest.mark.parametrize("name", sorted(words.RARE))
def test_arguments_far_from_zero_change_nothing_for_their_neighbours(name):
    """Kernels compute all elements as if none were far, and all again if one was."""
    x = p.input_node(Pool(), "x", (1000,), np.float64)
    entry, few = p.TABLE[name], np.linspace(-3, 3, 1000)
    program = Program(Graph((x,), (entry(x), p.sum_(entry(x) * x, axes=(0,)))))
    near, _ = program(few)
    far = few.copy()
    far[[0, 17, 999]] = 1e9, -3e7, np.inf
    values, total = program(far)
    with np.errstate(invalid="ignore"):
        needed = getattr(np, name)(far)
    np.testing.assert_allclose(values, needed, rtol=1e-14)
    np.testing.assert_allclose(values[18:999], near[18:999], rtol=1e-15)
    assert np.isnan(total)


def test_kernels_of_few_numbers_are_not_vectorised(monkeypatch, tmp_path):
    forget_kernels(monkeypatch, tmp_path)
    for size in (12, 3000):
        x = p.input_node(Pool(), "x", (size,), np.float64)
        (kernel,) = Program(Graph((x,), (x * x + 1,))).kernels
    keys = list(cache._kernels)
    assert keys == [(kernel.source, machine.Effort.LITTLE), (kernel.source, machine.Effort.FULL)]
    texts = [cache.compiled(source, effort=effort).llvm for source, effort in keys]
    assert ["<4 x double>" in text or "<2 x double>" in text for text in texts] == [False, True]


@pytest.mark.parametrize(("size", "calls"), [(1, 9), (1, 3), (20, 9)])
def test_functions_that_single_numbers_need_often_are_called(size, calls):
    """A loop, and code that has few of them, contains them."""
    x = p.input_node(Pool(), "x", (size,), np.float64)
    y = x
    for _ in range(calls):
        y = p.tanh(y + 1)
    (call,) = [call for step in schedule(Graph((x,), (y,))).steps for call in emit(step)]
    text = cache.compiled(call.source, f"kernel_in_test_{next(count)}").llvm
    assert ("noinline" in text) == (size == 1 and calls == 9)


def test_long_loops_compute_their_last_vector_in_part():
    x = p.input_node(Pool(), "x", (37,), np.float64)
    y = x
    for k in range(6):
        y = y * p.sin(k * x + 9) + x * x / (1 + y * y)
    (call,) = calls_of(Graph((x,), (y, p.sum_(y, axes=(0,)))))
    full, little = (
        cache.compiled(call.source, f"kernel_in_test_{next(count)}", effort)
        for effort in (machine.Effort.FULL, machine.Effort.LITTLE)
    )
    assert ("llvm.masked.store" in full.llvm) == machine.has_masks()
    addresses = [machine.link(made.name, made.object_code) for made in (full, little)]
    memory, table = memory_of(call, np.random.default_rng(0))
    for extent, last in itertools.product((1, 2, 7, 8, 29, 37), (0.5, 1e9)):
        memory[x][extent - 1] = last  # far away: all are computed again
        found, needed = (run(one, table, extent, extent, memory) for one in addresses)
        for array, given in found.items():
            np.testing.assert_allclose(given, needed[array], rtol=1e-12)


UNKNOWN = {
    "an error": "if lo > 3: raise ValueError",
    "an unknown function": "x = math.acosh(2.0)",
    "a power of a name": "x = i8(lo) ** hi",
    "a name of two kinds": "x = 1.0\n    x = lo",
    "a name that is not there": "x = y",
    "a name after its block": "for i in range(lo, hi):\n        x = 1.0\n    z[0] = x",
    "a list": "x = [1.0]",
    "a keyword": "x = cast(x=1.0, code='f4')",
    "a comparison of more than two": "x = 1.0 < lo < 3",
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_is_not_in_the_language_is_not_guessed(case):
    text = f"{HEADER}    z = writes(table, 0, 'f8')\n    {UNKNOWN[case]}\n"
    with pytest.raises(lower.Unknown):
        lower.lowered(text, "kernel", machine.target())


def test_numba_compiles_the_rest_and_the_counts_say_so(monkeypatch, tmp_path):
    forget_kernels(monkeypatch, tmp_path)
    x = p.input_node(Pool(), "x", (3,), np.complex128)
    for is_compiled in (True, False):
        program = Program(Graph((x,), (p.exp(x), 2 * x)))
        assert [kernel.by_numba for kernel in program.kernels] == [True]
        assert (program.counts.compiled, program.counts.by_numba) == (is_compiled, 1)
        z = np.array([1j, 0.5, -1 + 2j])
        np.testing.assert_allclose(program(z)[0], np.exp(z), rtol=1e-14)
        monkeypatch.setattr(cache, "_kernels", {})


def test_structural_kernels_are_lowered_but_functions_of_complex_numbers():
    unknown = set()
    for name, case in [*STRUCTURE.items()][::5] + [("complex powers", STRUCTURE["complex powers"])]:
        for call in calls_of(build(case)[0]):
            try:
                lower.lowered(call.source, "kernel", machine.target())
            except lower.Unknown:
                unknown.add(name)
    assert "complex powers" in unknown
    assert unknown <= {"complex functions", "complex powers", "contract complex numbers"}
