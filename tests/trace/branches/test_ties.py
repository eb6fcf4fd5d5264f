"""Branches that hold because numbers are equal: refused where the derivative is lost, else noted."""

import math
import warnings

import numpy as np
import pytest
from numba import njit

import nbhvp

pytestmark = pytest.mark.filterwarnings("error")

HERE = "test_ties.py"


class Kept:
    """Keeps its last point and the values there, as a model does that costs and gradients share."""

    def __init__(self, is_same):
        self.is_same, self.last = is_same, None

    def values(self, x):
        if self.last is None or not self.is_same(x, self.last):
            self.last, self.kept = x.copy(), np.sin(x)
        return self.kept

    def cost(self, x):
        return np.sum(self.values(x) ** 2)


SAME = {
    "array_equal": np.array_equal,
    "array_equiv": np.array_equiv,
    "allclose": np.allclose,
    "isclose": lambda a, b: np.isclose(a, b).all(),
    "all": lambda a, b: (a == b).all(),
    "any": lambda a, b: not np.any(a != b),
    "all of Python": lambda a, b: all(u == v for u, v in zip(a, b, strict=True)),
    "isclose of numbers": lambda a, b: all(map(math.isclose, a, b)),
    "lists": lambda a, b: a.tolist() == b.tolist(),
    "tuples": lambda a, b: tuple(a) == tuple(b),
    "distance": lambda a, b: np.linalg.norm(a - b) < 1e-12,
    "squared distance": lambda a, b: (a - b) @ (a - b) < 1e-20,
    "largest difference": lambda a, b: np.max(np.abs(a - b)) == 0,
    "count": lambda a, b: np.count_nonzero(a - b) == 0,
    "sum of booleans": lambda a, b: np.sum(a == b) == len(a),
    "exclusive or": lambda a, b: not ((a != b) ^ (a == a) ^ (b == b)).any(),
}
X = np.array([1.0, 2.0, -0.5])


@pytest.mark.parametrize("name", SAME)
def test_a_kept_result_has_no_derivative_at_its_point(name):
    model = Kept(SAME[name])
    model.cost(X)
    f = nbhvp.differentiable(model.cost, target="interpret")
    assert f(X) == np.sum(np.sin(X) ** 2)
    for ask in (f.grad, f.hessian, lambda x: f.hvp(x, x), lambda x: f.jvp(x, x), f.jacobian):
        with pytest.raises(nbhvp.TraceError, match=rf"{HERE}:\d+ in `.*lost"):
            ask(X)
    with pytest.warns(UserWarning, match="sets the attribute"):
        assert np.allclose(f.grad(X + 1), np.sin(2 * (X + 1)), rtol=1e-12)
    assert f(X) == np.sum(np.sin(X) ** 2)


@pytest.mark.parametrize(
    "name", ["array_equal", "allclose", "distance", "largest difference", "any"]
)
def test_a_point_in_single_precision_may_be_kept_in_double(name):
    model = Kept(SAME[name])
    model.cost(X)
    f = nbhvp.differentiable(model.cost, target="interpret")
    with pytest.raises(nbhvp.TraceError, match="lost"):
        f.hvp(np.float32(X), np.float32(X))


def test_what_is_kept_within_one_call_has_its_derivative():
    def fun(x):
        model = Kept(np.array_equal)
        return model.cost(x) + model.cost(x)

    f = nbhvp.differentiable(fun, target="interpret")
    assert np.allclose(f.grad(X), 2 * np.sin(2 * X), rtol=1e-12)


@njit
def sparse_sum(x):
    total = 0.0
    for i in range(len(x)):
        if x[i] == 0.0:
            continue
        total += (i + 1) * x[i]
    return total


def matched(x):
    match x[0]:
        case 0.0:
            return 0.0 * x[1]
        case _:
            return x[0] * x[1]


LOST = {
    "number": (lambda x: 1.0 if x[0] == 0 else np.sin(x[0]) / x[0], [0.0, 1.0]),
    "number beside others": (lambda x: x[1] + (0 if x[0] == 0 else np.sin(x[0])), [0.0, 1.0]),
    "truth of a number": (lambda x: (x[0] or 3.0) * x[1], [0.0, 2.0]),
    "any": (lambda x: 0.0 if not x.any() else np.sum(x), [0.0, 0.0]),
    "mask": (lambda x: np.sum(3 * x[x != 0]), [0.0, 1.0]),
    "nonzero": (lambda x: np.sum(3 * x[np.nonzero(x)]), [0.0, 1.0]),
    "match": (matched, [0.0, 1.0]),
    "computed": (lambda x: 0.0 if np.sum(x) == 3 else np.sum(x**2), [1.0, 2.0]),
    "one of many": (lambda x: np.sum(x[x != 0.5]), np.linspace(0, 1, 101)),
    "compiled loop": (sparse_sum, [0.0, 1.0]),
    "compiled loop in a function": (lambda x: sparse_sum(2 * x) + x[1], [0.0, 1.0]),
}


@pytest.mark.parametrize("name", LOST)
def test_a_special_case_that_loses_a_derivative_is_refused(name):
    fun, x = LOST[name][0], np.array(LOST[name][1])
    f = nbhvp.differentiable(fun, target="interpret")
    assert f(x) == pytest.approx(float(fun(x)), rel=1e-15)
    with pytest.raises(nbhvp.TraceError, match=rf"{HERE}:\d+ in `.*lost"):
        f.grad(x)
    near = x + 1e-3 * np.pi
    assert np.allclose(f.grad(near), nbhvp.differentiable(fun, target="interpret").grad(near))


def fixed_point(x):
    y = x[0]
    for _ in range(50):
        step = (y * y - x[0]) / (2 * y)
        y = y - step
        if step == 0:
            break
    return y + x[1]


NOTED = {
    "an iteration that has converged": (fixed_point, [4.0, 1.0]),
    "the other case depends on it too": (
        lambda x: np.sum(x**2) if np.all(x == 0) else x @ x,
        [0.0],
    ),
    "membership": (lambda x: np.sum(x**2) if x[0] in [1.0, 2.0] else 0.0, [1.0, 3.0]),
    "an assertion": (lambda x: np.sum(x**2) + checked(x[0], 2.0), [2.0, 3.0]),
    "a sum": (lambda x: np.sum(x**3) if x.sum() == 1 else 0.0, [0.25, 0.75]),
}


def checked(one, other):
    assert one == other
    return one


@pytest.mark.parametrize("name", NOTED)
def test_a_branch_that_holds_at_a_point_alone_is_noted_once(name):
    fun, x = NOTED[name][0], np.array(NOTED[name][1])
    f = nbhvp.differentiable(fun, target="interpret")
    assert f(x) == fun(x)
    with pytest.warns(UserWarning, match="branch is taken here because") as told:
        f.grad(x)
    assert [str(one.filename).endswith(HERE) for one in told] == [True]
    f.grad(x), f.hvp(x, x)


CLEAR = {
    "the same numbers": lambda x: np.sum(x**2) if np.array_equal(x, x) else 0.0,
    "a copy": lambda x: np.sum(x**2) if (x == x.copy()).all() else 0.0,
    "no NaN": lambda x: 0.0 if np.any(x != x) else np.sum(x**2),
    "steps": lambda x: np.sum(x**2) if np.floor(x[0]) == 1 and x[1] // 1 == 2 else 0.0,
    "counts": lambda x: np.sum(x**2) if np.sum(x > 0) == 2 and int(x[0]) == 1 else 0.0,
    "different numbers": lambda x: np.sum(x**2) if x[0] != 5 and not np.all(x == 1) else 0.0,
    "an edge": lambda x: np.sum(x**2) if np.all(x - 1 >= 0) or x.min() > -3 else 0.0,
    "within a distance": lambda x: np.sum(x**2) if np.linalg.norm(x - [1.0, 2.0]) < 3 else 0.0,
    "elements chosen": lambda x: np.sum(np.where(x == 1, x**2, x**2)),
    "constants": lambda x: np.sum(x**2) if np.array_equal(np.ones(2), np.ones(2)) else 0.0,
}


@pytest.mark.parametrize("name", CLEAR)
def test_other_branches_are_neither(name):
    x = np.array([1.0, 2.0])
    f = nbhvp.differentiable(CLEAR[name], target="interpret")
    assert f.grad(x).tolist() == [2.0, 4.0]


@pytest.mark.compiles
def test_an_argument_that_equals_a_number_is_nothing_special():
    f = nbhvp.differentiable(lambda x, t: t * np.sum(x**2) if t != 1.0 else np.sum(x**2))
    assert f.grad(X, 1.0).tolist() == (2 * X).tolist()


@nbhvp.elementwise(partials=lambda z, x: (1 / x,))
def strict_log(x):
    assert np.all(np.isfinite(x)), "finite numbers only"
    return np.log(x)


def test_functions_that_take_no_nan_are_noted_only():
    fun = lambda x: x[1] if strict_log(x[0]) == 0 else strict_log(x[0]) * x[1]
    x = np.array([1.0, 2.0])
    f = nbhvp.differentiable(fun, target="interpret")
    with pytest.warns(UserWarning, match="branch is taken here because"):
        assert f.grad(x).tolist() == [0.0, 1.0]


@pytest.mark.compiles
def test_a_long_tape_is_noted_only(monkeypatch):
    monkeypatch.setattr(nbhvp.trace.branches.ties, "MOST_RECORDS", 3)

    @njit
    def chained(x):
        y = 0.0
        for i in range(len(x)):
            if x[i] != 0.0:
                y = np.sin(y) * x[i] + x[i - 1] * y * y + x[0]
        return y

    x = np.array([0.5, 0.0, 1.5, 0.2])
    f = nbhvp.differentiable(chained, target="interpret")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not any(tie.is_lost for tie in nbhvp.trace.record.record(chained, x).ties)
    with pytest.warns(UserWarning, match="branch is taken here because"):
        f.grad(x)
