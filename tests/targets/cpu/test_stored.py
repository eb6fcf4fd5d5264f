"""Plans on the disk: the same programs in a process that plans nothing, or plans anew."""

import os
import pickle
import time
from dataclasses import replace

import numba
import numpy as np
import pytest

import nbhvp
from benchmarks.loops import LOOPS
from benchmarks.problems import SUITE, make
from nbhvp import disk
from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.digest import digest
from nbhvp.graph.node import Graph, Pool
from nbhvp.plan.costs import CPU
from nbhvp.runtime.compiling import programs
from nbhvp.targets.cpu import stored
from nbhvp.targets.cpu.program import Program

pytestmark = pytest.mark.compiles


@pytest.fixture
def plans(tmp_path, monkeypatch):
    """An empty folder for plans and kernels."""
    monkeypatch.setenv("NBHVP_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("NBHVP_CACHE_PLANS", "1")
    monkeypatch.setattr(stored, "_written", 0)
    return lambda: disk.files("plan")


def results(fun, x, v, args=(), **options):
    """Value, gradient, products with one and with several directions; and what was loaded."""
    f = nbhvp.differentiable(fun, **options)
    value, gradient = f.value_and_grad(x, *args)
    several = np.stack([v, 2 * v, -v], axis=-1)
    found = value, gradient, f.hvp(x, v, *args), f.hvp(x, several, *args), f.grad(2 * x, *args)
    return [np.asarray(one).tobytes() for one in found], f.report()


def forward(x, rates):
    """Steps that are found in the trace, with data and a solve in each."""
    state = x
    for rate in rates:
        state = np.linalg.solve(np.eye(3) + 0.1 * np.outer(state, state), state * rate + 0.1)
    return np.sum(state**2)


INDEX, MATRIX = np.array([0, 2, 2, 1]), np.linspace(-1, 1, 12).reshape(3, 4).T


def sizes(x):
    """A gather, a constant in another order, a library's step and an elementary function's address."""
    y = np.fft.irfft(np.fft.rfft(x[INDEX]))
    return np.sum(np.tanh(MATRIX @ x) ** 2 + y) + np.linalg.slogdet(np.eye(3) + np.outer(x, x))[1]


def bends(x):
    total = 0.0
    for i in range(1, x.size):
        if x[i] > 0.5:
            total += x[i] ** 2 * x[i - 1]
        else:
            total += np.sin(x[i]) * total
    return total


def problem(label):
    one = make(label)
    return one.fun, one.x0, one.v, one.args


X = np.linspace(0.2, 0.9, 3)
SOME = "5 variables", "logistic, 1000", "MLP 10", "Gaussians, 1000 x 2"
PROGRAMS = {
    **{label: (lambda label=label: problem(label)) for label in SUITE if label.startswith(SOME)},
    "Rosenbrock in loops": lambda: (LOOPS["rosenbrock"][0], np.linspace(-1, 1, 10), np.ones(10)),
    "a filter": lambda: (forward, X, X[::-1].copy(), (np.linspace(0.5, 1.5, 30),)),
    "libraries": lambda: (sizes, X, X[::-1].copy()),
    "a sweep": lambda: (numba.njit(bends), np.linspace(0, 1, 9), np.ones(9)),
}


@pytest.mark.parametrize("label", PROGRAMS)
def test_a_second_process_plans_nothing_and_has_the_same_bits(label, plans, monkeypatch):
    first, before = results(*PROGRAMS[label]())
    assert before.plans_loaded == 0 and plans()
    planned = []
    monkeypatch.setattr(programs.Compiler, "planned", lambda *given: planned.append(given))
    second, after = results(*PROGRAMS[label]())
    assert second == first
    assert planned == [] and after.plans_loaded >= 3
    assert after.kernels_compiled == 0
    assert max(path.stat().st_size for path in plans()) < 200_000


def test_what_is_missing_is_planned_with_the_same_bits(plans):
    fun, x, v = PROGRAMS["libraries"]()
    first, _ = results(fun, x, v)
    for path in plans():
        path.write_bytes(path.read_bytes()[:-1] + b"?")  # damaged, one after the other
        again, report = results(fun, x, v)
        assert again == first and report.plans_loaded > 0
    for path in disk.files("kernel"):
        path.unlink()
    assert results(fun, x, v)[0] == first  # kernels that this process has are not looked for


def test_a_plan_without_its_kernels_is_made_again(plans, monkeypatch):
    x = p.input_node(Pool(), "x", (7,), "f8")
    graph = Graph((x,), (p.multiply(p.exp(x), 0.12345),))
    key = stored.key_of(graph, CPU)
    program = Program(graph)
    stored.keep(key, "a question", program)
    again, _ = stored.recalled(key, "a question")
    np.testing.assert_array_equal(again(np.ones(7)), program(np.ones(7)))
    assert stored.recalled(key, "another one")[0] is None
    monkeypatch.setattr(stored.machine, "is_linked", lambda name: False)
    for path in disk.files("kernel"):
        path.unlink()
    assert stored.recalled(key, "a question")[0] is None


def test_constants_of_the_graph_are_those_of_the_process(plans):
    pool, large = Pool(), np.linspace(0, 1, 5000)
    x = p.input_node(pool, "x", (5000,), "f8")
    graph = Graph((x,), (p.sum_(p.multiply(x, p.constant(pool, large)), axes=(0,)),))
    key = stored.key_of(graph, CPU)
    stored.keep(key, "", Program(graph))
    assert plans()[0].stat().st_size < 3000
    other = replace(key, constants=[2 * large])  # not what the digest says, to see which are read
    program, _ = stored.recalled(other, "")
    assert program(large)[0] == pytest.approx(2 * np.sum(large**2))


@pytest.mark.parametrize("is_changed", [False, True])
def test_plans_made_after_arrays_have_changed_are_not_kept(plans, is_changed):
    matrix = np.linspace(-1, 1, 400).reshape(20, 20) ** 3
    f = nbhvp.differentiable(lambda x: np.tanh(matrix @ x))
    J = f.jacobian(np.ones(20))
    J @ np.ones(20)
    before = plans()
    matrix *= 1 + is_changed
    J @ np.ones((20, 64))  # another program, of the same graph
    assert (plans() == before) == is_changed


def test_keys_depend_on_costs_versions_and_texts(plans, monkeypatch):
    x = p.input_node(Pool(), "x", (7,), "f8")
    graph = Graph((x,), (p.exp(x),))
    keys = [stored.key_of(graph, CPU)]
    keys.append(stored.key_of(graph, nbhvp.plan.costs.GPU))
    for owner, name in (
        (stored, "__version__"),
        (np, "__version__"),
        (stored.scipy, "__version__"),
    ):
        stored._stamp.cache_clear()
        with monkeypatch.context() as other:
            other.setattr(owner, name, "another one")
            keys.append(stored.key_of(graph, CPU))
    stored._stamp.cache_clear()
    with monkeypatch.context() as other:
        other.setattr(stored, "FOLDERS", ("graph", "plan"))
        keys.append(stored.key_of(graph, CPU))
    stored._stamp.cache_clear()
    assert len({key.digest for key in keys}) == len(keys)
    assert stored.key_of(graph, CPU) == keys[0]
    monkeypatch.setenv("NBHVP_CACHE_PLANS", "0")
    assert stored.key_of(graph, CPU) is None and digest(graph) is not None


def test_a_process_that_runs_older_code_keeps_no_plans(plans, monkeypatch):
    x = p.input_node(Pool(), "x", (7,), "f8")
    changed = os.stat(derive.__file__).st_mtime
    monkeypatch.setattr(disk, "IMPORTED", changed - 1)
    stored._stamp.cache_clear()
    disk.texts.cache_clear()
    assert stored.key_of(Graph((x,), (p.exp(x),)), CPU) is None
    stored._stamp.cache_clear()
    disk.texts.cache_clear()


class Strange:
    """No object of a library."""


def test_what_cannot_be_written_is_not_kept(plans, monkeypatch):
    x = p.input_node(Pool(), "x", (7,), "f8")
    key = stored.key_of(Graph((x,), (p.exp(x),)), CPU)
    pieces = np.arange(30.0)[::3]
    for made in (Strange(), lambda: None, Strange, pieces, pickle.Pickler, None):
        stored.keep(key, "", made)
    monkeypatch.setattr(stored, "MOST", 10)
    stored.keep(key, "", "a text that is longer than that")
    assert plans() == []


def test_the_plans_used_longest_ago_go_first(plans, monkeypatch):
    for k in range(4):
        path = disk.path_of(f"plan_{k}")
        disk.write(path, bytes(1000))
        os.utime(path, (1e9 + k, 2e9 + k))
    monkeypatch.setattr(disk, "MOST", 2500)
    disk.forget_old.cache_clear()
    disk.forget_old()
    assert [path.name for path in plans()] == ["plan_2.plan", "plan_3.plan"]


def test_a_process_keeps_its_share_of_bytes(plans, monkeypatch):
    monkeypatch.setattr(stored, "SHARE", 5000)
    x, data = np.linspace(0, 1, 30), np.linspace(-1, 1, 600).reshape(20, 30)
    batches = [nbhvp.differentiable(lambda x, a=data + k: np.sum(np.tanh(a @ x))) for k in range(9)]
    found = [batch.hvp(x, x) for batch in batches]
    assert 0 < len(plans()) < 9
    expected = [batch.hvp(x, x, mode="reverse-over-reverse") for batch in batches]
    assert np.allclose(found, expected, rtol=1e-13)


def test_a_plan_that_is_read_counts_as_used(plans):
    path = disk.path_of("plan_0")
    disk.write(path, bytes(10))
    os.utime(path, (time.time() - 2 * disk.FRESH,) * 2)
    assert disk.read(path) == bytes(10)
    assert time.time() - path.stat().st_mtime < disk.FRESH


@pytest.mark.parametrize("fun", [sizes, lambda x: np.sum(x**3)], ids=["many", "one"])
def test_options_that_plan_nothing_of_a_cpu_keep_nothing(plans, fun):
    for options in ({"target": "interpret"}, {"compile": "lazy"}):
        results(fun, X, np.ones(3), **options)
    assert plans() == []


def test_a_process_that_writes_much_removes_old_plans_itself(plans, monkeypatch):
    monkeypatch.setattr(disk, "MOST", 8000)
    for k in range(20):
        path = disk.path_of(f"plan_{k:02}")
        disk.write(path, bytes(990))
        os.utime(path, (time.time() - 100 + k,) * 2)
    assert len(plans()) <= 9 and plans()[-1].name == "plan_19.plan"
