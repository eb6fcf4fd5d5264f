"""Ways in which code finds names, attributes and classes: what they give is watched."""
# ruff: noqa: B009, B024, F821, RUF015

import abc
import builtins
import contextlib
import functools
import gc
import importlib
import inspect
import operator
import sys
import types
from typing import Generic, TypeVar

import numpy as np
import pytest

import nbhvp

X, V = np.array([0.5, 1.5]), np.array([1.0, -2.0])
T = TypeVar("T")
SCALE = 1.0
PATCHED = types.ModuleType("patched_module")


class Base:
    scale = 1.0

    def factor(self):
        return self.scale


class Derived(Base):
    pass


class Held(Generic[T]):
    def __init__(self):
        self.scale = 1.0

    @functools.lru_cache  # noqa: B019
    def remembered(self):
        return self.scale

    @functools.cached_property
    def kept(self):
        return self.scale

    def times(self, k):
        return self.scale * k

    twice = functools.partialmethod(times, 2.0)


class Meta(type):
    def __call__(cls):
        made = super().__call__()
        made.a = cls.scale
        return made


class Made(metaclass=Meta):
    scale = 1.0


class Interface(abc.ABC):
    pass


@functools.singledispatch
def dispatched(thing):
    return thing


@functools.cache
def remembered():
    return SCALE


@contextlib.contextmanager
def managed():
    yield HELD.scale


def generated():
    yield HELD.scale
    yield 1.0


def outer():
    return SCALE


HELD, KEY, VIEWED, KEYED = Held(), Derived(), {"a": 1.0}, {}
VALUES = VIEWED.values()
GETTER = operator.attrgetter("scale")


def executed():
    names = {}
    exec("k = 2 * SCALE", globals(), names)
    return names["k"]


def set_global(monkeypatch):
    monkeypatch.setitem(globals(), "SCALE", 2.0)


def set_held(monkeypatch):
    monkeypatch.setattr(HELD, "scale", 2.0)


def set_base(monkeypatch):
    monkeypatch.setattr(Base, "scale", 2.0)


def set_view(monkeypatch):
    monkeypatch.setitem(VIEWED, "a", 2.0)


def forget(monkeypatch):
    set_global(monkeypatch)
    remembered.cache_clear()
    Held.remembered.cache_clear()
    set_held(monkeypatch)


def unread(monkeypatch):
    monkeypatch.setitem(globals(), "abs", lambda x: 3.0)


WAYS = {
    "globals": (lambda: globals()["SCALE"], set_global),
    "sys.modules": (lambda: sys.modules[__name__].SCALE, set_global),
    "sys.modules.get": (lambda: sys.modules.get(__name__).SCALE, set_global),
    "import_module": (lambda: importlib.import_module(__name__).SCALE, set_global),
    "__import__": (lambda: __import__(__name__, fromlist=["SCALE"]).SCALE, set_global),
    "vars of a module": (lambda: vars(sys.modules[__name__])["SCALE"], set_global),
    "getattr of a module": (lambda: getattr(sys.modules[__name__], "SCALE"), set_global),
    "eval": (lambda: eval("SCALE + 1"), set_global),
    "exec": (executed, set_global),
    "globals of a function": (lambda: outer.__globals__["SCALE"], set_global),
    "frame": (lambda: inspect.currentframe().f_globals["SCALE"], set_global),
    "locals": (lambda: [locals()["k"] for k in [HELD.scale]][0], set_held),
    "vars": (lambda: vars(HELD)["scale"], set_held),
    "__dict__": (lambda: HELD.__dict__["scale"], set_held),
    "attrgetter": (lambda: GETTER(HELD), set_held),
    "methodcaller": (lambda: operator.methodcaller("get", "a")(VIEWED), set_view),
    "map": (lambda: [*map(VIEWED.get, ["a"])][0], set_view),
    "view": (lambda: sum(VALUES), set_view),
    "reduce": (lambda: functools.reduce(operator.mul, VIEWED.values()), set_view),
    "cached method": (lambda: HELD.remembered(), set_held),
    "cached method, cleared": (lambda: HELD.remembered(), forget),
    "cached function": (remembered, set_global),
    "cached function, cleared": (remembered, forget),
    "cached property": (lambda: HELD.kept, set_held),
    "partial method": (lambda: HELD.twice(), set_held),
    "context manager": (lambda: with_managed(), set_held),
    "generator function": (lambda: sum(generated()), set_held),
    "base class": (lambda: KEY.factor(), set_base),
    "mro": (lambda: Derived.__mro__[1].scale, set_base),
    "subclasses": (lambda: Base.__subclasses__()[0].scale, set_base),
    "metaclass": (lambda: Made().a, lambda m: m.setattr(Made, "scale", 2.0)),
    "method": (lambda: KEY.factor(), lambda m: m.setattr(Base, "factor", lambda self: 2.0)),
    "method of an object": (
        lambda: KEY.factor(),
        lambda m: m.setattr(KEY, "factor", lambda: 2.0, raising=False),
    ),
    "dispatch": (lambda: dispatched(1.0), lambda m: dispatched.register(float, lambda a: 2.0)),
    "registered class": (
        lambda: 2.0 if isinstance(KEY, Interface) else 1.0,
        lambda m: Interface.register(Derived),
    ),
    "keyed by an object": (lambda: KEYED[KEY], lambda m: m.setitem(KEYED, KEY, 2.0)),
    "name of Python's": (lambda: abs(-1.0), unread),
    "new name of Python's": (lambda: new_name, lambda m: m.setattr(builtins, "new_name", 2.0)),
    "new name of NumPy's": (lambda: np.new_name, lambda m: m.setattr(np, "new_name", 2.0)),
    "replaced function": (lambda: np.new_one(), lambda m: m.setattr(np, "new_one", lambda: 2.0)),
}


def with_managed():
    with managed() as scale:
        return scale


@pytest.fixture(autouse=True)
def _new_names(monkeypatch):
    monkeypatch.setattr(builtins, "new_name", 1.0, raising=False)
    monkeypatch.setattr(np, "new_name", 1.0, raising=False)
    monkeypatch.setattr(np, "new_one", lambda: 1.0, raising=False)
    monkeypatch.setitem(KEYED, KEY, 1.0)
    yield
    Held.remembered.cache_clear()
    remembered.cache_clear()
    vars(HELD).pop("kept", None)


@pytest.mark.parametrize("name", WAYS)
def test_names(name, monkeypatch):
    read, change = WAYS[name]

    def f(x):
        return read() * np.sum(x**3)

    F = nbhvp.differentiable(f, target="interpret")
    assert F(X) == f(X)
    F.hvp(X, V)
    change(monkeypatch)
    assert F(X) == f(X)
    np.testing.assert_allclose(F.hvp(X, V), read() * 6 * X * V, rtol=1e-13)


@pytest.mark.parametrize(
    "read",
    [
        lambda: len(gc.get_objects()),
        lambda: len(inspect.stack()),
        lambda: len(np.get_printoptions()),
        lambda: 1.0 if np.geterr()["over"] == "warn" else 2.0,
    ],
)
def test_what_the_interpreter_tells_is_refused(read):
    with pytest.raises(nbhvp.TraceError, match=r"test_names.py:\d+"):
        nbhvp.differentiable(lambda x: read() * np.sum(x), target="interpret")(X)
