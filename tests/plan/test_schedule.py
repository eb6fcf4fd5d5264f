"""What is stored, what is computed where it is used, and which values share a kernel."""

import re

import numpy as np
import pytest

from benchmarks.kernels import counts, graphs, texts, unrolled
from nbhvp.graph import primitives as p
from nbhvp.graph.derive import gradient
from nbhvp.graph.node import Graph
from nbhvp.graph.time import recurrences
from nbhvp.plan.costs import CPU
from nbhvp.plan.nests.nest import Nest
from nbhvp.plan.nests.pull import weight
from nbhvp.plan.schedule import Library, MatrixProduct, schedule
from nbhvp.trace.record import record
from tests.checks import assert_same, run_plain, texts_of, total
from tests.graphs import STRUCTURE, Inputs, build, part, random_graph
from tests.targets.cpu.test_nests import PROBLEMS, problem

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.no_cover]


def steps(*outputs, inputs):
    return schedule(inputs.graph(*outputs)[0]).steps


def stored(plan) -> list:
    """What the steps write, in order."""
    found = []
    for step in plan.steps:
        found += step.nodes if isinstance(step, Nest) else [step.node]
    return found


def assert_sound(plan):
    """Each step reads what lies in memory by then; all outputs are written, each node once."""
    written = stored(plan)
    assert len(set(written)) == len(written)
    assert set(plan.graph.outputs) <= set(written)
    ready = set(plan.graph.inputs)
    for step in plan.steps:
        kept = step.kept if isinstance(step, Nest) else {step.node}
        for array in _reads(step):
            known = array in ready | kept or array.value is not None
            assert known, f"{array} is read before it is there"
        ready |= kept
    assert set(plan.graph.outputs) <= ready


def _reads(step):
    if isinstance(step, Library):
        return step.node.args
    if isinstance(step, MatrixProduct):
        return [array for _, *operands in step.terms for array, _, _ in operands]
    return step.read_from_memory() if isinstance(step, Nest) else {l.array for l in step.loads}


def weights(plan):
    return [weight(*(e for m in step.members for e in m.exprs)) for step in plan.steps]


def test_pairs_run_by_their_first_ends():
    """Forces and their sums by atom are one pass, which reads what the atom has once."""
    plan = schedule(build(STRUCTURE["pairs of coordinates"], derive=False)[0])
    first, second = plan.steps
    assert first.extent == second.extent == 5
    assert all(member.row.extent == 5 for member in first.members)
    loads = {load for member in first.members for load in member.loads}
    assert len({load.array for load in loads}) < len(loads)
    assert_sound(plan)


@pytest.mark.parametrize("name", STRUCTURE)
def test_structure(name):
    assert_sound(schedule(build(STRUCTURE[name])[0]))


@pytest.mark.parametrize("seed", range(10))
def test_random_graphs(seed):
    assert_sound(schedule(random_graph(seed)[0]))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("figure", ["load", "limit", "kernel"])
def test_any_balance_gives_the_same_values(monkeypatch, figure, seed):
    """What is stored is a matter of speed alone: with each figure at its ends."""
    graph, inputs = random_graph(seed)
    for value in (-1.0, 1e9):
        monkeypatch.setitem(vars(CPU), figure, value)
        assert_same(graph, inputs, 1e-9, lambda g, *v: run_plain(schedule(g), *v))


@pytest.mark.parametrize("make", PROBLEMS, ids=lambda f: f.__name__)
def test_problems(make):
    for graph in problem(make, 9):
        assert_sound(schedule(graph))


def test_one_kernel_for_a_chain():
    i = Inputs()
    (step,) = steps(p.sin(i(20) * i(20)) + 1, inputs=i)
    assert len(step.members) == 1 and not step.members[0].is_sum


def test_a_sum_takes_its_terms_with_it():
    i = Inputs()
    (step,) = steps(total(p.exp(i(20)) * i(20)), inputs=i)
    assert len(step.members) == 1 and step.members[0].is_sum


def test_values_that_read_the_same_share_a_kernel():
    i = Inputs()
    (step,) = steps(p.exp(i(20)), p.sin(i(20)), i(20) * 2, inputs=i)
    assert len(step.members) == 3


def test_values_that_read_nothing_in_common_do_not():
    i = Inputs()
    assert len(steps(p.exp(i(20)), p.exp(i(20, name="y")), inputs=i)) == 2


def test_equal_extents_alone_are_not_one_iteration_space():
    i = Inputs()
    assert len(steps(p.exp(i(20)), p.exp(part(i(40), (20,), (20,))), inputs=i)) == 2


def test_rows_of_an_array_are_read_in_another_shape_without_a_copy():
    """As where a loop reads u[i] along all of x, and another u[i, j]."""
    i = Inputs()
    table = p.exp(p.reshape(i(300), shape=(30, 10)) * i(30, 10, name="y"))
    flat = p.reshape(part(table, (2, 0), (28, 10)), shape=(280,))
    graph, values = i.graph(part(table, (0, 1), (30, 9)) * 2, flat * i(280, name="z"))
    assert len([node for node in stored(schedule(graph)) if node.size > 1]) == 3
    assert_same(graph, values, 1e-12, lambda g, *v: run_plain(schedule(g), *v))


def test_sums_of_one_loop_fit_into_registers():
    """Of forty sums of a long row: values that one loop reads are computed there, not stored."""
    i = Inputs()
    x, rows = i(5, 600), []
    for k in range(4):
        shifted = p.exp(x + k)
        rows += [p.sum_(shifted * (x + n), axes=(1,)) for n in range(10)]
    graph, values = i.graph(*rows)
    (nest,) = schedule(graph).steps
    counted = [sum(m.is_total for m in s.members) for s in nest.statements()]
    assert sum(counted) == 40 and max(counted) <= CPU.totals
    assert len(nest.kept - set(graph.outputs)) == 1  # an exponential, whose sums are in two loops
    assert_same(graph, values, 1e-11, lambda g, *v: run_plain(schedule(g), *v))


def test_dear_values_are_stored_where_they_are_widened():
    i = Inputs()
    dear = p.exp(p.sin(i(12)))
    graph, _ = i.graph(p.broadcast(dear, shape=(50, 12)) + i(50, 12))
    assert dear in stored(schedule(graph))


def test_cheap_values_are_not():
    i = Inputs()
    cheap = i(12) * i(12)
    graph, _ = i.graph(p.broadcast(cheap, shape=(50, 12)) + i(50, 12))
    assert cheap not in stored(schedule(graph))


def test_a_stencil_of_something_dear_reads_it_from_memory():
    i = Inputs()
    dear = p.exp(i(20))
    sides = part(dear, (2,), (18,)) + part(dear, (1,), (18,)) + part(dear, (0,), (18,))
    assert dear in stored(schedule(i.graph(sides)[0]))


def test_stencils_of_stencils_do_not_multiply():
    """Pulled at once, 12 stencils would weigh 3^12."""
    i = Inputs()
    u = i(60)
    for _ in range(12):
        n = u.size
        u = part(u, (2,), (n - 2,)) * part(u, (1,), (n - 2,)) + part(u, (0,), (n - 2,))
    plan = schedule(i.graph(u)[0])
    found = weights(plan)
    assert max(found) <= CPU.limit and sum(found) < 60 * 12


@pytest.mark.parametrize(
    ("size", "steps", "most"), [(20, 200, CPU.kernel), (20, 400, CPU.limit), (1, 400, CPU.kernel)]
)
def test_no_kernel_is_heavier_than_the_limit(size, steps, most):
    """A pass is one kernel, if that is not too heavy; what is heavier is cut, of several rows into small ones."""
    i = Inputs()
    x = i(size)
    for _ in range(steps):
        x = p.sin(x * 1.3 + i(size))
    found = weights(schedule(i.graph(x)[0]))
    assert max(found) <= most
    assert (len(found) == 1) == (steps == 200)
    assert len(found) <= 2 or most == CPU.limit


def test_unrolled_steps_are_one_pass_that_computes_each_value_once():
    """Twelve steps and their derivatives, all elementwise over one vector."""
    (loop,) = (fun for name, fun, *_ in unrolled() if name == "waves")
    for name, graph in graphs(loop, np.linspace(0.1, 1, 50), ()):
        assert re.search(r" 1 kernels.* operations 1\.0[0-3]$", counts(graph)), (
            name,
            counts(graph),
        )


def test_steps_of_a_long_loop_share_their_kernels(monkeypatch):
    """A loop that is not found is written out."""
    monkeypatch.setattr(recurrences, "LEAST", 10**9)
    (loop,) = (fun for name, fun, *_ in unrolled() if name == "roots")
    graph = dict(graphs(loop, np.linspace(0.1, 1, 50), ()))["gradient"]
    found = list(texts(graph))
    assert len(set(found)) < len(found) / 3
    assert float(counts(graph).split()[-1]) < 1.05


def test_outputs_have_memory_of_their_own():
    i = Inputs()
    x = i(20)
    plan = schedule(i.graph(x, i.constant(np.arange(3.0)), part(x, (1,), (3,)))[0])
    assert_sound(plan)
    assert not set(plan.graph.outputs) & set(plan.graph.inputs)


def test_products_read_views_in_place():
    i = Inputs()
    x = part(p.reshape(i(60), shape=(6, 10)), (1, 2), (4, 6))
    (step,) = steps(p.contract(x, i(6, 3), subscripts="ab,bc->ac"), inputs=i)[:1]
    assert isinstance(step, MatrixProduct)
    ((_, (_, offset, strides), _),) = step.terms
    assert (offset, strides[1:]) == (12, (10, 1))


@pytest.mark.parametrize(("count", "order", "is_product"), [(3000, 4, False), (40, 60, True)])
def test_many_tiny_matrices_are_not_multiplied_by_blas(count, order, is_product):
    """A call for each takes longer than the loops over its few elements."""
    i = Inputs()
    x = i(count, order, order)
    y = p.contract(x, i(count, order, order, name="y"), subscripts="bij,bjk->bik")
    found = steps(p.sum_(x * y, axes=(1, 2)), inputs=i)
    assert any(isinstance(step, MatrixProduct) for step in found) == is_product


def test_arrays_of_few_numbers_are_written_out():
    """Each number is stored where it belongs; a loop chooses at most where zeros are put around."""
    target = np.array([0.4, -0.2, 0.3])

    def arm(q):
        T = np.eye(4)
        for k in range(3):
            c, s = np.cos(q[k]), np.sin(q[k])
            T = T @ np.array([[c, -s, 0, 0.3 * c], [s, c, 0, 0.3 * s], [0, 0, 1, 0], [0, 0, 0, 1]])
        return ((T[:3, 3] - target) ** 2).sum()

    q = np.array([0.3, 0.6, 0.9])
    trace = record(arm, q)
    graph = Graph(trace.inputs, (*trace.outputs, gradient(trace.outputs[0], trace.inputs[0])))
    assert max(text.partition("(table")[2].count("if ") for text in texts_of(schedule(graph))) <= 1
    assert_same(graph, [q])
