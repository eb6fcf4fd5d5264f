"""Whether what is remembered holds: the test of a call, and the direct one in compiled code."""

from dataclasses import replace

import numpy as np
import pytest

import nbhvp
from nbhvp.runtime.calls.call import LARGE
from nbhvp.runtime.calls.direct import directly
from nbhvp.runtime.calls.validity import is_at, serves
from nbhvp.targets.cpu.entries import forms

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
    # the direct test of the other call tell.
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
    "every second element": ((X, SMALL[:2]), (X, np.array([1.0, 5.0, np.nan])[::2]), True, True, False),
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


@pytest.fixture(params=[True, False], ids=["compiled", "Python"])
def is_compiled(request, monkeypatch):
    """Direct tests of both kinds, of which those in Python end when compiled ones are worthwhile."""
    if not request.param:
        monkeypatch.setattr(forms, "is_worthwhile", lambda calls: False)
    return request.param


def direct_tests(point, is_compiled):
    """The direct tests: whether a trace serves a call, and whether a point is there."""
    direct = directly(point.recorded.trace, point.recorded.key, is_compiled)
    return direct, lambda x, *args: direct.same(point.inputs, x, *args)


@pytest.mark.parametrize("name", CALLS)
def test_a_direct_test_tells_what_the_test_tells(name, is_compiled):
    first, second, is_served, is_there, tells = CALLS[name]
    f, point, recorded = recalled(first)
    x, *args = second
    call = f._tracer.call(x, tuple(args), {})
    assert (serves(recorded, call), is_at(point, call)) == (is_served, is_there)
    direct, is_same = direct_tests(point, is_compiled)
    assert direct.accept(*second) is (True if is_served and tells else None)
    assert is_same(*second) is (True if is_there and tells else None)
    is_unchanged = len(args) > 0 and is_served and tells and is_at(point, replace(call, x=point.x))
    if is_compiled and direct.can_be_kept and direct.leaves(args):
        assert direct.unchanged(point.inputs, *second) is (True if is_unchanged else None)
    if is_served and tells:
        for a, b in zip(call.leaves, direct.leaves(args), strict=True):
            np.testing.assert_array_equal(a, b)


def test_arguments_by_name_are_told_from_those_by_place(is_compiled):
    f, point, recorded = recalled((X, 0.5))
    assert (
        direct_tests(point, is_compiled)[0].accept(
            X, *direct_tests(point, is_compiled)[0].by_place((), {"b": 0.5})
        )
        is None
    )
    f.hessian(X, 0.5, b=1.5)
    direct, is_same = direct_tests(f._memory.point, is_compiled)
    named = direct.by_place((0.5,), {"b": 1.5})
    assert direct.accept(X, *named) and is_same(X, *named)
    assert direct.accept(X, 0.5, 1.5) is None
    for args, kwargs in (
        ((0.5,), {"c": 1.5}),
        ((), {"b": 0.5, "c": 1.5}),
        ((0.5, 1.5), {"b": 1.5}),
    ):
        assert direct.accept(X, *direct.by_place(args, kwargs)) is None
    assert is_same(X, *direct.by_place((0.5,), {"b": 2.5})) is None
    assert [a.item() for a in direct.leaves(named)] == [0.5, 1.5]


@pytest.mark.parametrize("given", [(), (X, X), (None,), (3.0,), (Weights,), (X.view(np.matrix),)])
def test_no_direct_test_holds_of_something_else(given, is_compiled):
    _, point, _ = recalled((X,))
    direct, is_same = direct_tests(point, is_compiled)
    assert direct.accept(*given) is None
    if given:
        assert is_same(*given) is None


@pytest.mark.parametrize("first", [(X,), (X, SMALL)])
def test_what_was_read_elsewhere(first, is_compiled, monkeypatch):
    f, point, recorded = recalled(first)
    x, *args = first
    call = f._tracer.call(x, tuple(args), {})
    direct, is_same = direct_tests(point, is_compiled)
    assert direct.accept(*first) and is_same(*first)
    monkeypatch.setattr(Weights, "scale", 3.0)
    assert not serves(recorded, call) and not is_at(point, call)
    assert direct.accept(*first) is None and is_same(*first) is None


def test_an_element_that_a_glance_misses():
    """Of a large array, the direct test of a point sees a sample; that of a trace sees all."""
    large = np.ones(1 << 18)
    f = nbhvp.differentiable(lambda x: np.sum(large) * np.sum(x**2), target="interpret")
    f.hessian(X)
    direct, is_same = direct_tests(f._memory.point, is_compiled)
    large[1] = 2.0
    assert is_same(X)
    assert direct.accept(X) is None


def test_what_a_function_writes_into_is_no_matter_of_a_direct_test():
    def writes(x, a):
        x[0] = 1.0
        return np.sum(a * x**2)

    f = nbhvp.differentiable(writes, target="interpret")
    x, a = np.arange(3.0), np.ones(3)
    f.hessian(x, a)
    point = f._memory.point
    direct, is_same = direct_tests(point, is_compiled)
    assert is_at(point, f._tracer.call(x, (a,), {}))
    assert direct.accept(x, a) is None and is_same(x, a) is None
    assert not serves(point.recorded, f._tracer.call(x, (x,), {}))


class Thing:
    def __init__(self):
        self.a = 2.0


class Other(Thing):
    """Another class of the same layout."""


counted = 0.0


def changes(kind):
    """A function, and what changes something that it reads; both for each kind of watch."""
    cell, array, table = [2.0], np.arange(3.0), {"a": 2.0}

    def helper(x, power=3):
        return x**power

    def set_default():
        helper.__defaults__ = (2,)

    def rebind():
        nonlocal_value[0] = 3.0

    def reorder():
        table["a"] = table.pop("a")

    nonlocal_value, thing = cell, Thing()
    table["b"] = 3.0
    return {
        "a global": (
            lambda x: np.sum(x**3) + counted * x[0],
            lambda: globals().update(counted=1.0),
        ),
        "an array": (lambda x: np.sum(array * x**3), lambda: array.__setitem__(0, 5.0)),
        "the shape of an array": (
            lambda x: np.sum(array) * np.sum(x**3),
            lambda: array.resize(2, refcheck=False),
        ),
        "a list": (lambda x: cell[0] * np.sum(x**3), rebind),
        "a dictionary": (lambda x: table["a"] * np.sum(x**3), lambda: table.update(a=1.0)),
        "an order": (lambda x: sum(table.values()) * np.sum(x**3), reorder),
        "an attribute": (lambda x: thing.a * np.sum(x**3), lambda: setattr(thing, "a", 1.0)),
        "a class": (lambda x: thing.a * np.sum(x**3), lambda: setattr(thing, "__class__", Other)),
        "attributes": (lambda x: thing.a * np.sum(x**3), lambda: setattr(thing, "b", 1.0)),
        "a name": (lambda x: abs(x[0]) ** 3, lambda: globals().update(abs=np.abs)),
        "a default": (lambda x: np.sum(helper(x)), set_default),
    }[kind]


KINDS = (
    "a global", "an array", "the shape of an array", "a list", "a dictionary", "an order",
    "an attribute", "a class", "attributes", "a name", "a default",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_surroundings_is_seen_directly(kind, monkeypatch):
    monkeypatch.setitem(globals(), "abs", None)
    monkeypatch.delitem(globals(), "abs")  # and again at the end
    monkeypatch.setitem(globals(), "counted", 0.0)
    fun, change = changes(kind)
    f = nbhvp.differentiable(fun, target="interpret")
    f.hessian(X[0])
    direct, is_same = direct_tests(f._memory.point, is_compiled)
    assert direct.accept(X[0]) and is_same(X[0])
    change()
    assert direct.accept(X[0]) is None and is_same(X[0]) is None
