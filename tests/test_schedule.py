"""What is stored, what is computed where it is used, and which values share a kernel."""

import numpy as np
import pytest
from cases import STRUCTURE, Inputs, build, part, random_graph
from checks import assert_same, run_plain, total
from test_emit import PROBLEMS, problem

from nbhvp.compile import schedule as module
from nbhvp.compile.pull import weight
from nbhvp.compile.schedule import Library, Map, MatrixProduct, Reduction, schedule
from nbhvp.graph import primitives as p

pytestmark = pytest.mark.filterwarnings("error")


def steps(*outputs, inputs):
    return schedule(inputs.graph(*outputs)[0]).steps


def stored(plan) -> list:
    """What the steps write, in order."""
    found = []
    for step in plan.steps:
        found += [node for node, _ in step.results] if isinstance(step, Map) else [step.node]
    return found


def assert_sound(plan):
    """Each step reads what lies in memory by then; all outputs are written, each node once."""
    written = stored(plan)
    assert len(set(written)) == len(written)
    assert set(plan.graph.outputs) <= set(written)
    ready = set(plan.graph.inputs)
    for step in plan.steps:
        for array in _reads(step):
            assert array in ready or array.value is not None, f"{array} is read before it is there"
        if isinstance(step, Map):
            assert len({node.shape for node, _ in step.results}) == 1
        ready.update(stored(type(plan)(plan.graph, (step,))))


def _reads(step):
    if isinstance(step, Library):
        return step.node.args
    if isinstance(step, MatrixProduct):
        return [array for array, _, _ in step.operands]
    if isinstance(step, Map):
        return {load.array for load in step.loads}
    alone = Map((), (), None, [(None, step.expr), *((None, b) for b in step.bounds or ())])
    return {load.array for load in alone.loads}


@pytest.mark.parametrize("name", STRUCTURE)
def test_structure(name):
    assert_sound(schedule(build(STRUCTURE[name])[0]))


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs(seed):
    assert_sound(schedule(random_graph(seed)[0]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("limit", ["RECOMPUTE", "SHARED", "WIDENED", "LIMIT"])
def test_any_balance_gives_the_same_values(monkeypatch, limit, seed):
    """What is stored is a matter of speed alone: with each rule at its ends."""
    graph, inputs = random_graph(seed)
    for value in (-1.0, 1e9):
        monkeypatch.setattr(module, limit, value)
        assert_same(graph, inputs, 1e-9, lambda g, *v: run_plain(schedule(g), *v))


@pytest.mark.parametrize("make", PROBLEMS, ids=lambda f: f.__name__)
def test_problems(make):
    for graph in problem(make, 9):
        assert_sound(schedule(graph))


def test_one_kernel_for_a_chain():
    i = Inputs()
    (step,) = steps(p.sin(i(9) * i(9)) + 1, inputs=i)
    assert isinstance(step, Map)


def test_a_sum_takes_its_terms_with_it():
    i = Inputs()
    (step,) = steps(total(p.exp(i(9)) * i(9)), inputs=i)
    assert isinstance(step, Reduction)


def test_values_that_read_the_same_share_a_kernel():
    i = Inputs()
    (step,) = steps(p.exp(i(9)), p.sin(i(9)), i(9) * 2, inputs=i)
    assert len(step.results) == 3


def test_values_that_read_nothing_in_common_do_not():
    i = Inputs()
    assert len(steps(p.exp(i(9)), p.exp(i(9, name="y")), inputs=i)) == 2


def test_equal_extents_alone_are_not_one_iteration_space():
    i = Inputs()
    assert len(steps(p.exp(i(9)), p.exp(part(i(18), (9,), (9,))), inputs=i)) == 2


def test_dear_values_are_stored_where_they_are_widened():
    i = Inputs()
    dear = p.exp(p.sin(i(6)))
    graph, _ = i.graph(p.broadcast(dear, shape=(50, 6)) + i(50, 6))
    assert dear in stored(schedule(graph))


def test_cheap_values_are_not():
    i = Inputs()
    cheap = i(6) * i(6)
    graph, _ = i.graph(p.broadcast(cheap, shape=(50, 6)) + i(50, 6))
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
    weights = [weight(*(e for _, e in step.results)) for step in plan.steps]
    assert max(weights) <= module.LIMIT and sum(weights) < 40 * 12


def test_no_kernel_is_heavier_than_the_limit():
    i = Inputs()
    x = i(9)
    for _ in range(60):
        x = p.sin(x * 1.3 + i(9))
    for step in schedule(i.graph(x)[0]).steps:
        assert weight(*(e for _, e in step.results)) <= module.LIMIT


def test_outputs_have_memory_of_their_own():
    i = Inputs()
    x = i(9)
    plan = schedule(i.graph(x, i.constant(np.arange(3.0)), part(x, (1,), (3,)))[0])
    assert_sound(plan)
    assert not set(plan.graph.outputs) & set(plan.graph.inputs)


def test_products_read_views_in_place():
    i = Inputs()
    x = part(p.reshape(i(60), shape=(6, 10)), (1, 2), (4, 6))
    (step,) = steps(p.contract(x, i(6, 3), subscripts="ab,bc->ac"), inputs=i)[:1]
    assert isinstance(step, MatrixProduct)
    assert step.operands[0][1:] == (12, (40, 10, 1)) or step.operands[0][1] == 12
