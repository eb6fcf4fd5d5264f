"""Elements at given positions: every way of reading gives the elements that indexing gives."""

import numpy as np
import pytest

from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, Pool
from nbhvp.loops.roll.views import MOST_PARTS, Source, distinct, grids, patterns, read
from tests.checks import THOROUGH


def pattern(rng, size):
    """Positions below `size`: a run, a grid, what wraps, or no pattern."""
    kind, shape = rng.integers(4), rng.integers(1, 6, 2)
    steps = rng.integers(-3, 4, 2)
    if kind == 0:
        return rng.integers(size, size=rng.integers(1, 9))
    places = steps[0] * np.arange(shape[0])[:, None] + steps[1] * np.arange(shape[1])
    if kind == 1:
        places = np.roll(places, rng.integers(1, 3), axis=rng.integers(2))
    return ((places + rng.integers(size)) % size if kind < 3 else places % size).ravel()


def source_of(node, rng) -> Source:
    """A source of a whole array, of its columns or of its parts."""
    size, kind = node.size, rng.integers(3)
    if kind == 0:
        return Source((size,), node)
    if kind == 1:
        columns = [p.slice_(node, start=(k,), step=(2,), size=(size // 2,)) for k in (0, 1)]
        return Source((size // 2, 2), columns=tuple(Source(c.shape, c) for c in columns))
    at = int(rng.integers(1, size))
    cut = [
        p.slice_(node, start=(start,), step=(1,), size=(end - start,))
        for start, end in ((0, at), (at, size))
    ]
    return Source((size,), parts=tuple(Source(one.shape, one) for one in cut))


@pytest.mark.parametrize("seed", range(400 if THOROUGH else 60))
def test_a_read_gives_the_elements_at_its_positions(seed):
    rng = np.random.default_rng(seed)
    node = p.input_node(Pool(), "x", (24,), np.float64)
    source, x = source_of(node, rng), rng.normal(size=24)
    index = np.concatenate([pattern(rng, 24) for _ in range(rng.integers(1, 4))]).astype(np.int64)
    for shape in {(index.size,), grids(index)}:
        found = read(*source.around(index), shape).make()
        (elements,) = interpret(Graph((node,), (p.broadcast(found, shape=shape),)), x)
        np.testing.assert_array_equal(elements.ravel(), x[index])


def is_grid(index):
    """Whether an index is a run, or rows that are alike, each shifted by one distance."""
    for period in range(1, index.size + 1):
        rows = index[: index.size // period * period].reshape(-1, period)
        steps = np.diff(rows, axis=0)
        if index.size % period == 0 and len(rows) > 1 and (steps == steps[:1, :1]).all():
            return True
    return index.size == 1


@pytest.mark.parametrize("seed", range(400 if THOROUGH else 60))
def test_patterns_are_grids_that_follow_one_another(seed):
    rng = np.random.default_rng(seed)
    index = np.concatenate([pattern(rng, 24) for _ in range(rng.integers(1, 4))]).astype(np.int64)
    cuts = patterns([index])
    if not cuts:
        return
    assert (cuts[0], cuts[-1]) == (0, index.size)
    assert len(cuts) <= MOST_PARTS + 1
    assert all(map(is_grid, np.split(index, cuts[1:-1])))


def test_patterns_end_where_loops_end():
    """Rows of a grid after a vector, then a column; and nothing where there is no pattern."""
    rows = (10 * np.arange(4)[:, None] + np.arange(1, 8)).ravel()
    index = np.concatenate((np.arange(90, 99), rows, np.arange(5, 95, 10)))
    assert patterns([index]) == [0, 9, 37, 46]
    assert patterns([np.random.default_rng(0).integers(99, size=99)]) == []


def test_equal_pairs_are_found_where_they_are_many():
    rng = np.random.default_rng(0)
    a, b = rng.integers(-4, 4, (2, 200))
    first, places = distinct(a, b)
    pairs = list(zip(a.tolist(), b.tolist(), strict=True))
    assert [pairs[k] for k in first] == list(dict.fromkeys(pairs))
    assert [pairs[k] for k in first[places]] == pairs
    for other in (np.arange(200), 3 * rng.permutation(200)):
        assert not distinct(a, other)[0].size
