"""Elements as expressions: affine indices, guards, and reads in place."""

import numpy as np
import pytest

from nbhvp.graph import primitives as p
from nbhvp.plan.nests.pull import (
    Apply,
    Choose,
    Index,
    Load,
    Loaded,
    Puller,
    Quotient,
    Value,
    Var,
    contiguous,
    groups,
    misfits,
    parts,
    weight,
)
from tests.graphs import Inputs, part

pytestmark = pytest.mark.filterwarnings("error")

A, B = Var("a"), Var("b")


def pulled(node, index=None, stored=()):
    """The expression of an element of a node; inputs and `stored` lie in memory, in C order."""

    def strides(n):
        in_memory = n.primitive is p.INPUT or n in stored
        return contiguous(n.shape) if in_memory else None

    index = tuple(map(Var, "abcd"[: node.ndim])) if index is None else index
    return Puller(strides).expand(node, index), index


def coefficients(index: Index, variables) -> list[int]:
    return [index.terms.get(v, 0) for v in variables] + [index.const]


# Affine indices.


def test_affine_arithmetic():
    i = Index.of(A) * 3 + 2 * Index.of(B) + 5 - Index.of(B)
    assert coefficients(i, (A, B)) == [3, 1, 5]
    assert i - Index.of(A) * 3 == Index.of(B) + 5
    assert (i - i) == Index.of(0) and not (i * 0).terms
    assert Index.of(4) + 3 == Index.of(7)


def test_equal_indices_are_equal_keys():
    first, second = Index.of(A) + B + 1, Index.of(B) + 1 + A
    assert first == second and hash(first) == hash(second) and len({first, second}) == 1
    assert first != second + 1 and Index.of(A) != Index.of(B)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 1, 3), (0, 3)])
def test_contiguous_strides_are_those_of_numpy(shape):
    array = np.empty(shape)
    if array.size:
        assert contiguous(shape) == tuple(s // 8 for s in array.strides)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [((24,), (4, 6)), ((4, 6), (24,)), ((2, 12), (4, 6)), ((4, 1, 6), (4, 6)), ((1, 1), ()),
     ((2, 3, 4), (6, 4)), ((2, 3, 4, 5), (6, 20)), ((5,), (1, 5, 1))],
)  # fmt: skip
def test_groups_hold_the_same_elements(ours, theirs):
    pairs = list(groups(ours, theirs))
    for left, right in pairs:
        assert np.prod([ours[d] for d in left]) == np.prod([theirs[d] for d in right])
    assert [d for left, _ in pairs for d in left] == list(range(len(ours)))
    assert [d for _, right in pairs for d in right] == list(range(len(theirs)))


# Views are reads at another place.


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda x: p.transpose(x, axes=(1, 0)), [1, 6, 0]),
        (lambda x: part(x, (1, 5), (2, 3), (2, -2)), [12, -2, 11]),
        (lambda x: p.reshape(x, shape=(24,)), [1, 0]),
        (lambda x: p.reshape(part(x, (1, 0), (2, 6)), shape=(2, 3, 2)), [6, 2, 1, 6]),
        (lambda x: p.broadcast(x, shape=(3, 4, 6)), [0, 6, 1, 0]),
        (lambda x: p.reshape(p.transpose(x, axes=(1, 0)), shape=(3, 2, 4)), [2, 1, 6, 0]),
        (lambda x: part(part(x, (0, 1), (4, 5)), (3, 0), (2, 2), (-1, 2)), [-6, 2, 19]),
    ],
)
def test_views_are_loads(make, expected):
    expr, index = pulled(make(Inputs()(4, 6)))
    assert isinstance(expr, Load)
    assert coefficients(expr.index, index) == expected


def test_a_gather_is_a_load_at_a_loaded_index():
    i = Inputs()
    expr, (a, b) = pulled(p.gather(i(4, 6), i.indices(9, below=4), axis=0))
    (atom,) = [t for t in expr.index.terms if isinstance(t, Loaded)]
    assert expr.index.terms == {atom: 6, b: 1}
    assert isinstance(atom.expr, Load) and atom.expr.index == Index.of(a)


def test_a_constant_index_is_a_number():
    i = Inputs()
    expr, _ = pulled(p.gather(i(4, 6), i.constant(np.array(2)), axis=0))
    assert expr.index.const == 12 and len(expr.index.terms) == 1


def test_scalars_are_values():
    i = Inputs()
    expr, _ = pulled(i(3) * 0.3)
    assert isinstance(expr, Apply)
    assert [type(e) for e in sorted(expr.operands, key=lambda e: e.cost)] == [Value, Load]


# Guards.


def test_the_transpose_of_a_slice_is_a_guarded_read():
    i = Inputs()
    expr, (a,) = pulled(p.update(p.zeros(i.pool, (9,), np.float64), i(4), start=(2,), step=(1,)))
    assert isinstance(expr, Choose) and isinstance(expr.outside, Value)
    (condition,) = expr.conditions
    assert coefficients(condition.index, (a,)) == [1, -2]
    assert (condition.extent, condition.step) == (4, 1)
    assert coefficients(expr.inside.index, (a,)) == [1, -2]


@pytest.mark.parametrize(("start", "step"), [(1, 2), (7, -2)])
def test_a_strided_write_divides(start, step):
    i = Inputs()
    base = p.zeros(i.pool, (9,), np.float64)
    expr, _ = pulled(p.update(base, i(4), start=(start,), step=(step,)))
    (condition,) = expr.conditions
    assert (condition.step, condition.extent) == (2, 7)
    assert [type(atom) for atom in expr.inside.index.terms] == [Quotient]


def test_axes_that_are_written_whole_have_no_guard():
    i = Inputs()
    base = i(5, 6)
    expr, _ = pulled(p.update(base, i(2, 6), start=(3, 0), step=(1, 1)))
    assert len(expr.conditions) == 1
    whole = i(5, 6, name="y")
    assert p.update(base, whole, start=(0, 0), step=(1, 1)) is whole
    assert isinstance(pulled(p.update(base, whole, start=(4, 0), step=(-1, 1)))[0], Load)


def test_the_last_piece_of_a_concatenation_needs_no_guard():
    i = Inputs()
    expr, _ = pulled(p.concatenate(i(2), i(3), i(4), axis=0))
    guards = [e for e in parts([expr]) if isinstance(e, Choose)]
    assert len(guards) == 2 and isinstance(guards[-1].outside, Load)


@pytest.mark.parametrize("count", [2, 5, 120])
def test_pieces_are_chosen_among_by_halves(count):
    """Each choice within another is a level of indentation, of which Python takes a hundred."""
    i = Inputs()
    sizes = [1 + k % 3 for k in range(count)]
    pieces = [i(n, name=f"x{k}") for k, n in enumerate(sizes)]
    (at,) = index = (Var("a"),)
    expr, _ = pulled(p.concatenate(*pieces, axis=0), index)
    expected = [(piece, j) for piece, n in zip(pieces, sizes, strict=True) for j in range(n)]
    for k, element in enumerate(expected):
        found, levels = expr, 0
        while isinstance(found, Choose):
            is_inside = all(
                c.holds(c.index.const + k * c.index.terms[at]) for c in found.conditions
            )
            found, levels = found.inside if is_inside else found.outside, levels + 1
        assert (found.array, found.index.const + k) == element
        assert levels <= np.ceil(np.log2(count))


# Sharing.


def test_an_element_is_pulled_once():
    i = Inputs()
    x = p.exp(i(5))
    y = x * x + p.sin(x)
    expr, _ = pulled(y)
    assert sum(isinstance(e, Apply) and e.primitive is p.exp for e in parts([expr])) == 1
    assert weight(expr) == sum(n.primitive.cost for n in (x, *_applied(y, x))) + 0.5


def _applied(node, stop):
    found = []
    stack = [node]
    while stack:
        n = stack.pop()
        if n is not stop and n.primitive is not p.INPUT and n not in found:
            found.append(n)
            stack += n.args
    return found


def test_what_lies_in_memory_is_loaded():
    i = Inputs()
    x = p.exp(i(5))
    expr, _ = pulled(part(x, (1,), (3,)), stored=[x])
    assert isinstance(expr, Load) and expr.array is x


def test_misfits_are_what_a_reshape_would_divide_for():
    i = Inputs()

    def strides(n):
        return contiguous(n.shape) if n.primitive is p.INPUT else None

    turned = p.transpose(i(4, 6), axes=(1, 0))
    assert misfits(p.reshape(turned, shape=(24,)), strides) == [turned] * 1
    assert misfits(p.reshape(turned, shape=(6, 2, 2)), strides) == []
    assert misfits(p.reshape(i(4, 6), shape=(3, 8)), strides) == []
