"""Lowered graphs: the same function, without scatters, general contractions and empty sums."""

import numpy as np
import pytest

from nbhvp.graph import primitives as p
from nbhvp.graph.derive import check
from nbhvp.graph.interpret import interpret
from nbhvp.plan.lower import MATRIX_PRODUCT, lower, readable
from tests.checks import assert_same
from tests.graphs import STRUCTURE, Inputs, build, part, random_graph

pytestmark = pytest.mark.filterwarnings("error")


def assert_lowered(graph, inputs, tolerance=1e-11):
    lowered = check(lower(graph))
    assert lowered.inputs == graph.inputs
    for node in lowered.nodes:
        assert node.primitive is not p.scatter_add
        if node.primitive is p.contract:
            assert node.params["subscripts"] == MATRIX_PRODUCT
            assert all(arg.size for arg in node.args)
        if node.primitive.reduction:
            assert all(arg.size for arg in node.args)
    assert_same(graph, inputs, tolerance, lambda _, *v: interpret(lowered, *v))
    assert lower(lowered).outputs == lowered.outputs
    return lowered


@pytest.mark.parametrize("name", STRUCTURE)
def test_structure(name):
    assert_lowered(*build(STRUCTURE[name]), 1e-4 if "single" in name or name == "casts" else 1e-11)


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs(seed):
    assert_lowered(*random_graph(seed), 1e-9)


def used(graph) -> set:
    return {node.primitive for node in graph.nodes}


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ([0, 1, 1, 3], {p.segment_sum}),
        ([3, 0, 3, 1], {p.segment_sum, p.gather}),
    ],
    ids=["sorted", "unsorted"],
)
def test_constant_indices_are_sorted_at_once(index, expected):
    i = Inputs()
    scattered = p.scatter_add(i(4, 2), i.constant(np.array(index)), axis=0, size=5)
    assert used(lower(i.graph(scattered)[0])) - {p.INPUT, p.CONSTANT} == expected


def test_run_time_indices_are_sorted_by_the_program():
    i = Inputs()
    scattered = p.scatter_add(i(9), i.indices(9, below=4), axis=0, size=4)
    assert {p.argsort, p.searchsorted, p.segment_sum} <= used(lower(i.graph(scattered)[0]))


@pytest.mark.parametrize(
    ("subscripts", "product"),
    [
        ("ab,bc->ac", True), ("ab,bc->ca", True), ("ab,b->a", True), ("a,ab->b", True),
        ("zab,zbc->acz", True), ("za,zab->zb", True), ("abc,dcb->ad", True), ("ab,ab->", False),
        ("a,b->ab", False), ("ab,ab->a", False), ("ab,c->bca", False), ("ab,ab->ba", False),
    ],
)  # fmt: skip
def test_matrix_products_are_what_blas_has(subscripts, product):
    i, extent = Inputs(), dict(a=4, b=6, c=3, d=2, z=5)
    letters = subscripts.split("->")[0].split(",")
    x, y = (i(*(extent[c] for c in term), name=term) for term in letters)
    lowered = lower(i.graph(p.contract(x, y, subscripts=subscripts))[0])
    assert (p.contract in used(lowered)) == product
    assert (p.multiply in used(lowered)) != product


@pytest.mark.parametrize("shape", [(6, 2, 3, 24), (2, 3, 2, 50), (5, 24, 2, 2), (3, 1, 2, 40)])
@pytest.mark.parametrize(
    "subscripts", ["adbe,abc->adce", "abc,adbe->adce", "adbe,abc->adec", "adbe,abc->dace"]
)
def test_a_stack_along_one_more_letter(subscripts, shape):
    """One operand has all letters of the stack, and each matrix of the other serves a part of it."""
    i, extent = Inputs(), dict(zip("adbe", shape, strict=True), c=2)
    x, y = (i(*(extent[c] for c in term)) for term in subscripts.split("->")[0].split(","))
    assert_lowered(*i.graph(p.contract(x, y, subscripts=subscripts)))


@pytest.mark.parametrize("repeated", ["a", "b", "z", "ab", "zb"])
@pytest.mark.parametrize(
    "subscripts",
    ["zab,zbc->zac", "zab,b->za", "ab,zcb->zac", "zab,zab->b", "zab,zcb->ac", "ab,b->a"],
)
def test_what_an_operand_repeats_is_not_multiplied(subscripts, repeated):
    """It is summed once, or the result is repeated: as many terms as without the repetition."""
    i, extent = Inputs(), dict(a=4, b=6, c=3, z=5)
    operands, out = subscripts.split("->")
    (left, right), every = operands.split(","), tuple(extent[c] for c in out)
    x = i(*(1 if c in repeated else extent[c] for c in left))
    x = p.broadcast(x, shape=tuple(extent[c] for c in left))
    y = i(*(extent[c] for c in right), name="y")
    graph, values = i.graph(p.contract(x, y, subscripts=subscripts))
    assert graph.outputs[0].shape == every
    assert_lowered(graph, values)
    alone = lower(graph, products=False).nodes
    terms = [
        (node.args[0].primitive, node.args[1].primitive)
        for node in alone
        if node.primitive is p.contract
    ]
    assert all(p.broadcast not in both for both in terms)


def test_a_transposed_product_is_that_of_the_others():
    """A transposed result costs no transpose."""
    i = Inputs()
    graph, _ = i.graph(p.contract(i(4, 6), i(6, 3), subscripts="ab,bc->ca"))
    (product,) = [node for node in lower(graph).nodes if node.primitive is p.contract]
    assert product.shape == (1, 3, 4)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (lambda x: x, True), (lambda x: x.transpose(0, 2, 1), True), (lambda x: x[:, 1:4, 2:], True),
        (lambda x: x[:, :, ::2], False), (lambda x: x[:, ::-1], False), (lambda x: x[::-1], True),
        (lambda x: x[:, :, :1], True), (lambda x: x[:, :1, ::2], True), (lambda x: x[::2, ::2], True),
        (lambda x: np.broadcast_to(x[:, :1], x.shape), False),
    ],
)  # fmt: skip
def test_readable(view, expected):
    x = view(np.zeros((4, 6, 8)))
    assert readable(x.shape, [s // 8 for s in x.strides]) == expected


def test_operands_that_are_constants_are_copied_only_if_blas_cannot_read_them():
    for view, copied in ((lambda a: a.T, False), (lambda a: a[::-1], True)):
        i = Inputs()
        value = view(np.arange(24.0).reshape(4, 6))
        graph, _ = i.graph(
            p.contract(i.constant(value), i(value.shape[1], 3), subscripts="ab,bc->ac")
        )
        constants = [n.value for n in lower(graph).nodes if n.value is not None]
        assert [np.shares_memory(value, c) for c in constants] == [not copied]


def test_a_part_of_nothing_stays_a_graph():
    i = Inputs()
    nothing = part(i(4, 6), (0, 0), (0, 6))
    assert_lowered(*i.graph(p.sum_(nothing, axes=(0, 1)), p.all_(p.greater(nothing, 0))))


@pytest.mark.parametrize(
    ("starts", "sizes", "pieces"),
    [
        ((0, 3), (3, 6), [2]),  # side by side
        ((5, 0), (4, 3), [3]),  # with zeros between them, in another order
        ((0, 2, 4, 6), (2, 2, 2, 3), [4]),
        ((0, 1), (8, 8), []),  # a stencil: nothing is gained
        ((0, 4, 2, 7), (4, 3, 3, 2), [3]),  # one that overlaps others is added
    ],
)
def test_a_sum_of_parts_is_a_concatenation(starts, sizes, pieces):
    i = Inputs()
    zeros = p.broadcast(p.zeros(i.pool, (), float), shape=(9, 2))
    total = None
    for k, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        part_ = p.update(zeros, p.sin(i(size, 2, name=f"x{k}")), start=(start, 0), step=(1, 1))
        total = part_ if total is None else p.add(total, part_)
    lowered = assert_lowered(*i.graph(total + i(9, 2, name="y")))
    found = [len(node.args) for node in lowered.nodes if node.primitive is p.concatenate]
    assert found == pieces
