"""Functions that are followed through the libraries' own source, against differences of themselves."""

import numpy as np
import pytest

import nbhvp
from tests.cases.followed import FOLLOWED, REFUSED, X, holds

pytestmark = pytest.mark.usefixtures("unsplit")

V, WEIGHTS = np.array([0.3, -1.0, 0.5, 0.8]), np.cos(np.arange(99))
FIRST = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}
"""Of differences of order 6; in steps of 1e-3 they are right to some 1e-10."""


def slope(function, step=1e-3):
    """The derivative at X along V."""
    return sum(
        w * (function(X + k * step * V) - function(X - k * step * V)) for k, w in FIRST.items()
    ) / step  # fmt: skip


def parameters(rows):
    return [pytest.param(*row[1:], id=row[0]) for row in rows if holds(row[0])]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fun", parameters(FOLLOWED))
def test_followed(fun):
    def weighted(x):
        found = fun(x)
        return np.sum(found * WEIGHTS[: np.size(found)].reshape(np.shape(found)))

    f = nbhvp.differentiable(weighted, target="interpret")
    value, gradient = f.value_and_grad(X)
    assert value == pytest.approx(weighted(X), rel=1e-11, abs=1e-11)
    needed = slope(weighted)
    assert gradient @ V == pytest.approx(needed, abs=1e-7 * max(1, abs(needed)))
    needed = slope(f.grad)
    np.testing.assert_allclose(f.hvp(X, V), needed, atol=1e-7 * max(1, np.max(abs(needed))))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("fun", "words"), parameters(REFUSED))
def test_what_is_refused_says_so(fun, words):
    with pytest.raises(nbhvp.TraceError) as error:
        nbhvp.differentiable(lambda x: np.sum(fun(x)), target="interpret").grad(X)
    assert words in str(error.value)
    assert "followed.py:" in str(error.value)
