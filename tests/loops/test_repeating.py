"""Steps that are left out of a tape while it is written: the same loops, or the tape as a whole.

Tapes of the recorder in plain Python are written row by row into the memory of the compiled one, which
leaves steps out as it would. What it has then gives the results of the whole tape, or says that it needs
more.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from numba import njit

import nbhvp
from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, Pool
from nbhvp.graph.table.tape import Gapped, Tape
from nbhvp.loops.overloads.active import BLOCK, CAPACITY, COUNT
from nbhvp.loops.recording import record, repeating
from nbhvp.loops.recording.runs import Output
from nbhvp.loops.sections import computed
from tests.loops.test_steps import sin
from tests.tapes import taped

T = 400
DATA = np.random.default_rng(0).normal(size=T)


def pendulum(x):
    a, b = x[0], x[1]
    for _ in range(T):
        a, b = a + 0.02 * b, b - 0.02 * (sin(a) + x[2] * b)
    return a * b


def three_back(x):
    a, b, c = x[0], x[1], x[2]
    for _ in range(T):
        a, b, c = b, c, 0.3 * sin(a) + 0.2 * b * c + 0.1
    return a + b * c


def loops_within(x):
    a = [x[0], x[1], x[2]]
    for _ in range(T // 4):
        b = [0.0, 0.0, 0.0]
        for i in range(3):
            for j in range(3):
                b[i] = b[i] + 0.1 * (i + 2 * j) * sin(a[j])
        a = b
    return a[0] * a[1] + a[2]


def other_first_steps(x):
    a, scale = x[0], 1.0
    for k in range(T):
        if k < 5:
            scale = scale * x[1]
        a = 0.9 * sin(a) * scale + x[2]
    return a * scale


def sums(x):
    """The sum of what is carried, too."""
    a, total = x[0], 0.0
    for _ in range(T):
        a = a - 0.1 * a * a + 0.01 * x[1]
        total = total + a * x[2]
    return [a, total]


def two_in_turn(x):
    a = x[0]
    for _ in range(T):
        a = 0.9 * sin(a) + x[1]
    for _ in range(T // 8):
        a = a - 0.1 * a * a * x[2]
    return a


def stands_still(x):
    """From some step on an operand of each step is the same one, without another operation."""
    a = still = x[0]
    for k in range(3 * T):
        if k < 150:
            still = a
        a = 0.9 * sin(a) + 0.1 * still * x[1]
    return a * x[2]


def moves_on(x):
    a = still = x[0]
    for k in range(3 * T):
        if k > 150:
            still = a
        a = 0.9 * sin(a) + 0.1 * still * x[1]
    return a * x[2]


def condition_at_the_end(x):
    a = pendulum(x)
    return a * a if a > 0 else -a


def data(x):
    a = x[0]
    for k in range(T):
        a = 0.9 * sin(a) * x[1] + DATA[k]
    return a


def data_read(x):
    """At k, at T - k, and in rows of two."""
    a = x[0]
    for k in range(T // 2):
        a = 0.9 * sin(a) * x[1] + x[3 + k] - x[2 + T - k] * x[3 + 2 * k]
    return a + x[T]


def inputs_in_turn(x):
    a = x[0]
    for k in range(T):
        a = 0.9 * sin(a) * x[k % 3] + 0.1
    return a


def path(x):
    """All that was carried is read behind the loop."""
    a, found = x[0], []
    for _ in range(T):
        a = 0.9 * sin(a) + x[1]
        found.append(a)
    return sum(one * one for one in found) * x[2]


def some_steps(x):
    a, found = x[0], []
    for _ in range(T):
        a = 0.9 * sin(a) + x[1]
        found.append(a)
    return [found[3], found[T // 2], found[-1], found[-2] * x[2]]


def conditions(x):
    a = x[0]
    for _ in range(T):
        a = 0.9 * sin(a) + x[1]
        if a > 100.0:
            a = x[2]
    return a


def in_parts(tape: Tape) -> Tape:
    """The tape as the compiled recorder has it, which asks for memory from time to time."""
    memory = record._Memory(record.DEFAULT_LIMIT, is_whole=False)
    block, guards, _ = memory._blocks
    memory._inputs = tape.start
    conditions = list(zip(*(getattr(tape.guards, k) for k in GUARD), strict=True))
    for k, row in enumerate(zip(tape.codes, tape.first, tape.second, tape.values, strict=True)):
        while conditions and max(conditions[0][1:3]) < k:
            _append(memory, 1, guards, conditions.pop(0))
        _append(memory, 0, block, row)
    for one in conditions:
        _append(memory, 1, guards, one)
    outputs = memory.placed(Output(tape.outputs, tape.outputs.shape)).positions
    return replace(memory.tape(tape.sizes, outputs), primitives=tape.primitives)


GUARD = "codes", "first", "second", "outcomes"


def _append(memory, k, block, row):
    if block[COUNT] == block[CAPACITY]:
        memory._grow(memory.address + 8 * BLOCK * k)
    for column, entry in zip(memory._columns[k], row, strict=True):
        column[block[COUNT] - memory._first(k)] = entry
    block[COUNT] += 1


def results(tape, x, v):
    pool = Pool()
    node, direction = (p.input_node(pool, name, x.shape, float) for name in "xv")
    found = computed(tape, [node], [node])
    z = found.outputs
    value = p.sum_(z * np.cos(1.0 + np.arange(z.size)), axes=(0,))
    outputs = z, derive.gradient(value, node), derive.hvp(value, node, direction)
    held = tuple(guard for guard, _ in found.guards)
    return interpret(Graph((node, direction), (*outputs, *held)), x, v), found.recurrences


@pytest.fixture
def few_rows(monkeypatch):
    for module in (record, repeating):
        monkeypatch.setattr(module, "FEWEST_ROWS", 512)
    monkeypatch.setattr(record, "_FIRST_ROWS", 512)
    monkeypatch.setattr(record, "_GROWTH", 2)


LEFT_OUT = [
    pendulum, three_back, loops_within, other_first_steps, sums, two_in_turn, moves_on,
    condition_at_the_end, data_read,
]  # fmt: skip


@pytest.mark.parametrize("fun", LEFT_OUT, ids=lambda fun: fun.__name__)
def test_steps_are_left_out(fun, few_rows):
    x, v = np.array([0.3, 0.9, 0.2]), np.array([1.0, -2.0, 0.5])
    if fun is data_read:
        x, v = np.append(x, DATA), np.append(v, DATA)
    whole = taped(fun, x)
    tape = in_parts(whole)
    assert tape.gap.size > (whole.codes.size - x.size) / 3 and tape.count == whole.count
    assert tape.codes.size == whole.codes.size - tape.gap.size
    for point in (x, x + 0.01):
        (found, loops), (needed, same) = (results(one, point, v) for one in (tape, whole))
        assert [one.steps for one in loops] == [one.steps for one in same]
        for one, other in zip(found, needed, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9)


OTHERS = [data, inputs_in_turn, path, some_steps, conditions, stands_still]


@pytest.mark.parametrize("fun", OTHERS, ids=lambda fun: fun.__name__)
def test_other_tapes_are_whole(fun, few_rows):
    """Or they lack what is needed, which is told."""
    x, v = np.array([0.3, 0.9, 0.2]), np.array([1.0, -2.0, 0.5])
    whole, may_lack = taped(fun, x), fun in (path, some_steps, stands_still)
    try:
        tape = in_parts(whole)
        found, _ = results(tape, x, v)
    except Gapped:
        assert may_lack
        return
    assert may_lack or tape.gap is None
    for one, other in zip(found, results(whole, x, v)[0], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


@pytest.mark.compiles
@pytest.mark.parametrize("is_read", [False, True])
def test_compiled(is_read, few_rows):
    """Where all steps are read, the function runs once more."""

    @njit
    def fun(x):
        a, b = x[0], x[1]
        path = np.zeros(6000)
        for k in range(path.size):
            a, b = a + 0.002 * b, b - 0.002 * (math.sin(a) + x[2] * b)
            path[k] = a
        return a * b + (np.sum(path**2) / path.size if is_read else 0.0)

    x, v = np.array([0.3, 0.9, 0.2]), np.array([1.0, -2.0, 0.5])
    f = nbhvp.differentiable(fun, target="interpret")
    assert f(x) == pytest.approx(fun(x), rel=1e-12)
    (call,) = f.report().loops
    assert [one.steps for one in call.recurrences] == [6000]
    assert (call.tape_bytes < 100_000) == (not is_read)
    step = 1e-4 * v
    slope = (f.grad(x + step) - f.grad(x - step)) / 2e-4
    np.testing.assert_allclose(f.hvp(x, v), slope, rtol=1e-5)
