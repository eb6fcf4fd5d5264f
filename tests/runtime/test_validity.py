"""Whether what is remembered holds: the test of a call, and the glance that spares making one."""

import numpy as np
import pytest

import nbhvp
from nbhvp.runtime.call import LARGE
from nbhvp.runtime.validity import is_at, is_at_a_glance, serves, serves_at_a_glance

X = np.array([[1.0, -2.0, 0.0], [0.5, 3.0, 1.0]])
SMALL = np.array([1.0, np.nan, -0.0])
FROZEN = np.ones(LARGE // 8 + 1)
FROZEN.flags.writeable = False
THAWED = np.ones(LARGE // 8 + 1)


class Weights:
    """What the function reads elsewhere."""

    scale = 2.0


def fun(x, *args, **kwargs):
    numbers = [a for a in (*args, *kwargs.values()) if isinstance(a, float) or hasattr(a, "sum")]
    return Weights.scale * np.sum(x**3) * (1.0 + sum(np.sum(a) for a in numbers))


CALLS = {
    # The call that is remembered, another one: is its trace that of the other, its point, and does
    # a glance at the other call tell.
    "the same": ((X,), (X,), True, True, True),
    "equal": ((X,), (X.copy(),), True, True, True),
    "another x": ((X,), (X + 1,), True, False, True),
    "the other zero": ((X,), (np.where(X == 0, -0.0, X),), True, False, True),
    "another shape": ((X,), (X[:1],), False, False, True),
    "a view in another order": ((X,), (np.asfortranarray(X),), True, True, False),
    "single precision": ((X,), (X.astype(np.float32),), False, False, True),
    "a list": ((X,), (X.tolist(),), True, True, False),
    "an argument more": ((X,), (X, 1.0), False, False, True),
    "an argument less": ((X, 1.0), (X,), False, False, True),
    "equal arrays": ((X, SMALL), (X, SMALL.copy()), True, True, True),
    "another array": ((X, SMALL), (X, np.abs(SMALL)), True, False, True),
    "another length": ((X, SMALL), (X, SMALL[:2]), False, False, True),
    "every second element": ((X, SMALL[:2]), (X, np.array([1.0, 5.0, np.nan])[::2]), True, True, True),
    "integers": ((X, SMALL), (X, np.arange(3)), False, False, True),
    "swapped bytes": ((X, SMALL), (X, SMALL.astype(">f8")), True, False, False),
    "the same bytes, swapped": ((X, SMALL), (X, SMALL.view(">f8")), True, False, False),
    "native bytes": ((X, SMALL.view(">f8")), (X, SMALL), True, False, True),
    "equal floats": ((X, 0.5), (X, 0.5), True, True, True),
    "another float": ((X, 0.0), (X, -0.0), True, False, True),
    "a scalar of NumPy": ((X, 0.5), (X, np.float64(0.5)), False, False, True),
    "equal integers": ((X, 12345), (X, int("12345")), True, True, True),
    "another integer": ((X, 1), (X, 2), False, False, True),
    "a boolean": ((X, 1), (X, True), False, False, True),
    "a text": ((X, "a", SMALL), (X, "a", SMALL), True, True, True),
    "a tuple": ((X, (SMALL, 1)), (X, (SMALL.copy(), 1)), True, True, False),
    "large and frozen": ((X, FROZEN), (X, FROZEN), True, True, True),
    "large, equal": ((X, FROZEN), (X, FROZEN.copy()), True, False, True),
    "large, not frozen": ((X, THAWED), (X, THAWED), True, False, True),
}  # fmt: skip


def recalled(first):
    """A function with its point after a first call, and the trace."""
    f = nbhvp.differentiable(fun, target="interpret")
    f.hessian(*first)
    x, *args = first
    point = f._memory.point or f._memory._new_point(
        f._tracer, f._memory.hessian, f._tracer.call(x, tuple(args), {})
    )
    return f, point, point.recorded


@pytest.mark.parametrize("name", CALLS)
def test_a_glance_tells_what_the_test_tells(name):
    first, second, is_served, is_there, tells = CALLS[name]
    _, point, recorded = recalled(first)
    x, *args = second
    given = x, tuple(args), {}, None
    call = nbhvp.differentiable(fun, target="interpret")._tracer.call(*given[:3])
    assert (serves(recorded, call), is_at(point, call)) == (is_served, is_there)
    leaves = serves_at_a_glance(recorded, *given)
    assert (leaves is not None) == (is_served and tells)
    for a, b in zip(call.leaves, call.leaves if leaves is None else leaves, strict=True):
        np.testing.assert_array_equal(a, b)
    # Even where x is not in C order, a glance may tell that its bits are those of the point.
    found = is_at_a_glance(point, *given)
    assert found == is_there if tells else found <= is_there


def test_named_arguments_are_none_for_a_glance():
    f, point, recorded = recalled((X, 0.5))
    given = X, (0.5,), {"b": 1.0}, None
    assert not serves(recorded, f._tracer.call(*given[:3]))
    assert serves_at_a_glance(recorded, *given) is None
    assert not is_at_a_glance(point, *given)


@pytest.mark.parametrize("first", [(X,), (X, SMALL)])
def test_what_was_read_elsewhere(first, monkeypatch):
    f, point, recorded = recalled(first)
    x, *args = first
    given = x, tuple(args), {}, None
    call = f._tracer.call(*given[:3])
    monkeypatch.setattr(Weights, "scale", 3.0)
    assert not serves(recorded, call) and not is_at(point, call)
    assert serves_at_a_glance(recorded, *given) is None and not is_at_a_glance(point, *given)


def test_an_element_that_a_glance_misses():
    """Of a large array, a glance at a point sees a sample; a thorough one sees all."""
    large = np.ones(1 << 18)
    f = nbhvp.differentiable(lambda x: np.sum(large) * np.sum(x**2), target="interpret")
    f.hessian(X)
    point = f._memory.point
    large[1] = 2.0
    given = X, (), {}, None
    assert is_at_a_glance(point, *given)
    assert not is_at_a_glance(point, *given, True)
    assert serves_at_a_glance(point.recorded, *given) is None


def test_what_a_function_writes_into_is_no_matter_of_a_glance():
    def writes(x, a):
        x[0] = 1.0
        return np.sum(a * x**2)

    f = nbhvp.differentiable(writes, target="interpret")
    x, a = np.arange(3.0), np.ones(3)
    f.hessian(x, a)
    point, given = f._memory.point, (x, (a,), {}, None)
    assert is_at(point, f._tracer.call(*given[:3]))
    assert not is_at_a_glance(point, *given)
    assert serves_at_a_glance(point.recorded, *given) is None
    assert not serves(point.recorded, f._tracer.call(x, (x,), {}))
