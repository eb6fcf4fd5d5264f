"""What a function reads beside its arguments may change between calls: never a stale number.

Each of the things of `surroundings` is reached in ten ways, and changed in place or replaced by
another, at random: value, gradient and product are those of the plain function then, or refused.
"""

import functools
import os
import random
import types

import numpy as np
import pytest

import nbhvp
from tests.surroundings import THINGS

pytestmark = pytest.mark.usefixtures("unsplit")

X = np.array([0.5, 1.5])
V = np.array([1.0, -2.0])
SEEDS = int(os.environ.get("NBHVP_SURROUNDINGS", "1"))
MODULE = types.ModuleType("surroundings_of_a_test")
"""Where the functions live."""


def defined(source, **names):
    vars(MODULE).update(np=np, functools=functools, MODULE=MODULE, **names)
    namespace = {}
    exec(compile(source, __file__, "exec"), vars(MODULE), namespace)
    return namespace["f"]


class Place:
    """Where a function finds a thing: its function, and how to put another thing there."""

    def __init__(self, f, put):
        self.f = f
        self.put = put


def as_global(read, thing):
    f = defined("def f(x): return read(thing) * np.sum(x**3)", read=read, thing=thing)
    return Place(f, lambda new: setattr(MODULE, "thing", new))


def by_globals(read, thing):
    f = defined("def f(x): return read(globals()['thing']) * np.sum(x**3)", read=read, thing=thing)
    return Place(f, lambda new: setattr(MODULE, "thing", new))


def of_module(read, thing):
    source = (
        "def f(x): return read(getattr(MODULE, 'thing')) * np.sum(vars(MODULE)['np'].power(x, 3))"
    )
    return Place(defined(source, read=read, thing=thing), lambda new: setattr(MODULE, "thing", new))


def by_eval(read, thing):
    f = defined("def f(x): return eval('read(thing)') * np.sum(x**3)", read=read, thing=thing)
    return Place(f, lambda new: setattr(MODULE, "thing", new))


def in_closure(read, thing):
    def f(x):
        return read(thing) * np.sum(x**3)

    def put(new):
        nonlocal thing
        thing = new

    return Place(f, put)


def as_default(read, thing):
    def f(x, held=None, *, read=read):
        return read(held[0]) * np.sum(x**3)

    held = [thing]
    f.__defaults__ = (held,)
    return Place(f, functools.partial(held.__setitem__, 0))


def of_instance(read, thing):
    class Model:
        def cost(self, x):
            return self.factor() * np.sum(x**3)

        def factor(self):
            return read(self.thing)

    model = Model()
    model.thing = thing
    return Place(model.cost, functools.partial(setattr, model, "thing"))


def of_class(read, thing):
    class Model:
        held = thing

        @classmethod
        def cost(cls, x):
            return read(cls.held) * np.sum(x**3)

    return Place(Model.cost, lambda new: setattr(Model, "held", new))


def of_function(read, thing):
    def f(x):
        return read(f.thing) * np.sum(x**3)

    f.thing = thing
    return Place(f, functools.partial(setattr, f, "thing"))


def in_containers(read, thing):
    held = {"things": [(thing,)]}

    def helper():
        return read(held["things"][-1][0])

    def f(x):
        return helper() * np.sum(x**3)

    return Place(f, lambda new: held["things"].append((new,)))


def in_a_partial(read, thing):
    def cost(place, x):
        return read(place["thing"]) * np.sum(x**3)

    place = {"thing": thing}
    return Place(functools.partial(cost, place), functools.partial(place.__setitem__, "thing"))


WAYS = (
    as_global, by_globals, of_module, by_eval, in_closure, as_default, of_instance, of_class,
    of_function, in_containers, in_a_partial,
)  # fmt: skip


def found(F):
    """Value, gradient and product, or None where they are refused."""
    try:
        return F(X), F.grad(X), F.hvp(X, V), F(X.copy())
    except nbhvp.TraceError as error:
        assert len(str(error)) > 60
        return None


def check(name, way, changes, draw):
    thing = THINGS[name]
    current = thing.make(1.0)
    place = way(thing.read, current)
    F = nbhvp.differentiable(place.f, target="interpret")
    found(F)
    for _ in range(changes):
        b = draw.choice([2.0, 3.0])
        if thing.change is not None and draw.random() < 0.6:
            thing.change(current, b)
        else:
            current = thing.make(b)
            place.put(current)
        got = found(F)
        assert got is not None or thing.may_refuse, "refused"
        if got is not None:
            a = place.f(X) / np.sum(X**3)
            right = a * np.sum(X**3), 3 * a * X**2, 6 * a * X * V, a * np.sum(X**3)
            for one, other in zip(got, right, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    monkeypatch.setattr("sys.argv", [""])
    monkeypatch.setenv("NBHVP_TEST_SURROUNDINGS", "1.0")
    yield
    vars(MODULE).pop("thing", None)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.filterwarnings("ignore:the function changes the defaultdict")
@pytest.mark.parametrize("name", THINGS)
def test_never_a_stale_number(name):
    for seed in range(SEEDS):
        draw = random.Random(f"{name} {seed}")
        for way in WAYS if SEEDS > 1 else draw.sample(WAYS, 2):
            try:
                check(name, way, 2, draw)
            except Exception as error:
                error.add_note(f"{name}, {way.__name__}, seed {seed}")
                raise
