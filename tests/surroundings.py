"""Objects that a function may read, each with a way to make it, to read it and to change it.

`Thing(make, read, change)`: `make(a)` gives an object that holds the number a, `read(thing)` gives a
number by code of the user's, `change(thing, b)` writes b into it in place (None: it cannot be
written). What `read` gives after the change is what a differentiable function must give, or refuse.
"""

import argparse
import array
import collections
import configparser
import contextvars
import ctypes
import dataclasses
import decimal
import enum
import fractions
import functools
import io
import itertools
import operator
import os
import queue
import sys
import threading
import types
import weakref
import xml.etree.ElementTree
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.interpolate
import scipy.sparse
import scipy.sparse.linalg
import scipy.stats


class Thing(NamedTuple):
    make: Callable[[float], Any]
    read: Callable[[Any], Any]
    change: Callable[[Any, float], Any] | None = None
    may_refuse: bool = False
    """Whether an error is as right as a number."""


# Objects of the user's.


class Plain:
    def __init__(self, a):
        self.a = a


class Slotted:
    __slots__ = ("a",)

    def __init__(self, a):
        self.a = a


@dataclasses.dataclass
class Data:
    a: float


@dataclasses.dataclass(frozen=True)
class Frozen:
    a: np.ndarray


@dataclasses.dataclass(slots=True)
class SlottedData:
    a: float


class Named(NamedTuple):
    a: np.ndarray


class Space(types.SimpleNamespace):
    pass


class Options(argparse.Namespace):
    pass


class OfDict(dict):
    def first(self):
        return self["a"]


class OfList(list):
    def first(self):
        return self[0]


class ItemsAsAttributes(dict):
    """Which raises a KeyError, not an AttributeError, for what it has not."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


class OfArray(np.ndarray):
    pass


class Series:
    """NumPy takes it for an array."""

    def __init__(self, a):
        self.values = np.asarray([a, a])

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


class OfFloat(float):
    pass


class OfUserDict(collections.UserDict):
    pass


class ByGetattr:
    def __init__(self, a):
        self.store = {"a": a}

    def __getattr__(self, name):
        return self.__dict__["store"][name]


class ByGetattribute:
    def __init__(self, a):
        self.store = {"a": a}

    def __getattribute__(self, name):
        return object.__getattribute__(self, "store")[name]


class ByProperty:
    def __init__(self, a):
        self._hidden = [a]

    @property
    def a(self):
        return self._hidden[0]


class Descriptor:
    def __init__(self, a):
        self.held = a

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner):
        return self.held


def with_descriptor(a):
    return type("WithDescriptor", (), {"a": Descriptor(a), "__module__": __name__})()


class Cached:
    def __init__(self, a):
        self.held = a

    @functools.cached_property
    def a(self):
        return self.held


class Call:
    def __init__(self, a):
        self.a = a

    def __call__(self):
        return self.a


class Items:
    def __init__(self, a):
        self.a = a

    def __getitem__(self, key):
        return self.a

    def __len__(self):
        return int(self.a)

    def __contains__(self, item):
        return item < self.a

    def __iter__(self):
        return iter([self.a])

    def __bool__(self):
        return self.a > 1.5


class Singleton:
    """It is not copied, as it makes its objects itself."""

    def __new__(cls, a):
        made = object.__new__(cls)
        made.held = {"a": a}
        return made

    def value(self):
        return self.held["a"] * Registry.scale


class Registry:
    scale = 1.0

    class Inner:
        scale = 1.0


class Meta(type):
    @property
    def a(cls):
        return cls.held


class Iterates:
    def __init__(self, a):
        self.a = a

    def __next__(self):
        return self.a


def of_class(base):
    return lambda a: type("Made", (base,), {"a": a, "__module__": __name__})


def with_base(a):
    base = type("Base", (), {"a": a, "__module__": __name__})
    return type("Derived", (base,), {"__module__": __name__})()


def of_metaclass(a):
    return Meta("OfMeta", (), {"held": a, "__module__": __name__})


def member(a):
    return enum.Enum("Member", {"A": [a]}, module=__name__).A


def reclass(thing, b):
    thing.__class__ = type("Other", (), {"a": b, "__module__": __name__})


def reclassed(a):
    return type("First", (), {"a": a, "__module__": __name__})()


# Functions of the user's.


def with_attribute(a):
    def function():
        return function.scale

    function.scale = a
    return function


def with_default(a):
    def function(b=a):
        return b

    return function


def with_keyword(a):
    def function(*, b=a):
        return b

    return function


def with_code(a):
    return (lambda: 1.0) if a == 1.0 else (lambda: 2.0)


def with_cell(a):
    def function():
        return a

    return function


def set_cell(function, b):
    function.__closure__[0].cell_contents = b


def cached(a):
    held = [a]

    @functools.lru_cache
    def function():
        return held[0]

    function.held = held
    return function


def clear(function, b):
    function.held[0] = b
    function.cache_clear()


def counted(a):
    def generate():
        while True:
            yield a

    return generate()


def by_matvec(a):
    held = [a]
    return held, scipy.sparse.linalg.LinearOperator((1, 1), matvec=lambda v: held[0] * v)


def matrix(format):
    return lambda a: scipy.sparse.csr_array(np.array([[a, 0.0], [1.0, 3.0]])).asformat(format)


def entry(A):
    return (A @ np.array([1.0, 0.5]))[0]


def set_data(A, b):
    A.data = A.data * b


def scale_data(A, b):
    A.data *= b


def set_entry(A, b):
    A[0, 0] = b


class Local(threading.local):
    a = 0.0


def local(a):
    made = threading.local()
    made.a = a
    return made


def variable(a):
    made = contextvars.ContextVar("made")
    made.set(a)
    return made


def config(a):
    made = configparser.ConfigParser()
    made.read_dict({"s": {"a": str(a)}})
    return made


def filled_queue(a):
    made = queue.Queue()
    made.put(a)
    return made


def structured(a):
    return np.array([(a, 1)], dtype=[("a", float), ("k", int)])


def set_field(thing, b):
    thing["a"] = b


def fill(thing, b):
    thing[...] = b


def put(key):
    return lambda thing, b: operator.setitem(thing, key, b)


def set_a(thing, b):
    thing.a = b


def get_a(thing):
    return thing.a


def first(thing):
    return thing[0]


def item_a(thing):
    return thing["a"]


def called(thing):
    return thing()


def move_first_to_end(items, b):
    key = next(iter(items))
    items[key] = items.pop(key)


def in_order(a):
    return {"p": 1.0, "q": a} if a == 1.0 else {"p": a, "q": 1.0}


def with_unit(a):
    made = np.ones(2).view(OfArray)
    made.a = a
    return made


def large(a):
    return np.full(150_000, a)


def set_environment(thing, b):
    os.environ["NBHVP_TEST_SURROUNDINGS"] = str(b)


def environment(a):
    set_environment(None, a)
    return "NBHVP_TEST_SURROUNDINGS"


def set_argument(thing, b):
    sys.argv[-1] = str(b)


def arguments(a):
    sys.argv.append(str(a))
    return -1


def event(a):
    made = threading.Event()
    if a > 1.5:
        made.set()
    return made


def set_event(thing, b):
    (thing.set if b > 1.5 else thing.clear)()


THINGS: dict[str, Thing] = {
    # Numbers.
    "float": Thing(float, lambda t: t),
    "float32": Thing(np.float32, lambda t: t),
    "float subclass": Thing(OfFloat, lambda t: t * 1.0),
    "string": Thing(str, lambda t: float(t)),
    "decimal": Thing(lambda a: decimal.Decimal(str(a)), lambda t: float(t)),
    "fraction": Thing(fractions.Fraction, lambda t: float(t)),
    # Containers.
    "list": Thing(lambda a: [a], first, put(0)),
    "nested list": Thing(lambda a: [[a]], lambda t: t[0][0], lambda t, b: put(0)(t[0], b)),
    "appended": Thing(lambda a: [a], lambda t: t[-1], lambda t, b: t.append(b)),
    "dict": Thing(lambda a: {"a": a}, item_a, put("a")),
    "dict of numbers": Thing(lambda a: {1: a}, lambda t: t[1], put(1)),
    "order": Thing(
        lambda a: collections.OrderedDict(p=a, q=3.0),
        lambda t: next(iter(t.values())),
        lambda t, b: t.move_to_end("p"),
    ),
    "order of a dict": Thing(in_order, lambda t: next(iter(t.values())), move_first_to_end),
    "order of attributes": Thing(
        lambda a: types.SimpleNamespace(**in_order(a)),
        lambda t: next(iter(vars(t).values())),
        lambda t, b: move_first_to_end(vars(t), b),
    ),
    "OrderedDict": Thing(lambda a: collections.OrderedDict(a=a), item_a, put("a")),
    "defaultdict": Thing(lambda a: collections.defaultdict(float, a=a), item_a, put("a")),
    "default factory": Thing(
        lambda a: collections.defaultdict(lambda: a),
        lambda t: t["other"],
        lambda t, b: setattr(t, "default_factory", lambda: b),
    ),
    "Counter": Thing(lambda a: collections.Counter(a=a), item_a, put("a")),
    "ChainMap": Thing(
        lambda a: collections.ChainMap({}, {"a": a}), item_a, lambda t, b: t.maps[1].update(a=b)
    ),
    "UserDict": Thing(lambda a: collections.UserDict(a=a), item_a, put("a")),
    "UserDict subclass": Thing(lambda a: OfUserDict(a=a), item_a, put("a")),
    "UserList": Thing(lambda a: collections.UserList([a]), first, put(0)),
    "deque": Thing(lambda a: collections.deque([a]), first, put(0)),
    "set": Thing(lambda a: {a}, sum, lambda t, b: (t.clear(), t.add(b))),
    "tuple": Thing(lambda a: ([a],), lambda t: t[0][0], lambda t, b: put(0)(t[0], b)),
    "mapping proxy": Thing(
        lambda a: types.MappingProxyType({"a": [a]}),
        lambda t: t["a"][0],
        lambda t, b: put(0)(t["a"], b),
    ),
    "dict subclass": Thing(lambda a: OfDict(a=a), lambda t: t.first(), put("a")),
    "items as attributes": Thing(lambda a: ItemsAsAttributes(a=a), get_a, set_a),
    "list subclass": Thing(lambda a: OfList([a]), lambda t: t.first(), put(0)),
    "queue": Thing(
        filled_queue, lambda t: t.queue[0], lambda t, b: put(0)(t.queue, b), may_refuse=True
    ),
    # Objects with attributes.
    "SimpleNamespace": Thing(lambda a: types.SimpleNamespace(a=a), get_a, set_a),
    "SimpleNamespace subclass": Thing(lambda a: Space(a=a), get_a, set_a),
    "argparse.Namespace": Thing(lambda a: argparse.Namespace(a=a), get_a, set_a),
    "Namespace subclass": Thing(lambda a: Options(a=a), get_a, set_a),
    "object": Thing(Plain, get_a, set_a),
    "object by dict": Thing(Plain, get_a, lambda t, b: vars(t).update(a=b)),
    "object with new dict": Thing(Plain, get_a, lambda t, b: setattr(t, "__dict__", {"a": b})),
    "slots": Thing(Slotted, get_a, set_a),
    "dataclass": Thing(Data, get_a, set_a),
    "frozen dataclass": Thing(
        lambda a: Frozen(np.array([a])), lambda t: t.a[0], lambda t, b: fill(t.a, b)
    ),
    "slotted dataclass": Thing(SlottedData, get_a, set_a),
    "named tuple": Thing(
        lambda a: Named(np.array([a])), lambda t: t.a[0], lambda t, b: fill(t.a, b)
    ),
    "__getattr__": Thing(ByGetattr, get_a, lambda t, b: put("a")(t.store, b)),
    "__getattribute__": Thing(
        ByGetattribute, get_a, lambda t, b: object.__getattribute__(t, "store").update(a=b)
    ),
    "property": Thing(ByProperty, get_a, lambda t, b: put(0)(t._hidden, b)),
    "descriptor": Thing(
        with_descriptor, get_a, lambda t, b: setattr(vars(type(t))["a"], "held", b)
    ),
    "cached property": Thing(Cached, get_a, lambda t, b: vars(t).update(a=b)),
    "__call__": Thing(Call, called, set_a),
    "__getitem__": Thing(Items, first, set_a),
    "__iter__": Thing(Items, sum, set_a),
    "__len__": Thing(Items, lambda t: 1.0 * len(t), set_a),
    "__contains__": Thing(Items, lambda t: 2.0 if 1.5 in t else 1.0, set_a),
    "__bool__": Thing(Items, lambda t: 2.0 if t else 1.0, set_a),
    "__next__": Thing(Iterates, lambda t: next(t), set_a),
    "class": Thing(lambda a: of_class(object)(a), get_a, set_a),
    "class of an object": Thing(
        lambda a: of_class(object)(a)(), get_a, lambda t, b: setattr(type(t), "a", b)
    ),
    "base class": Thing(with_base, get_a, lambda t, b: setattr(type(t).__bases__[0], "a", b)),
    "metaclass": Thing(of_metaclass, get_a, lambda t, b: setattr(t, "held", b)),
    "__class__": Thing(reclassed, get_a, reclass),
    "not copied": Thing(Singleton, lambda t: t.value(), lambda t, b: t.held.update(a=b)),
    "nested class": Thing(
        lambda a: setattr(Registry.Inner, "scale", a) or Registry,
        lambda t: t.Inner.scale,
        lambda t, b: setattr(Registry.Inner, "scale", b),
    ),
    "enum member": Thing(member, lambda t: t.value[0], lambda t, b: put(0)(t.value, b)),
    # Arrays and buffers.
    "array": Thing(lambda a: np.full(3, a), first, fill),
    "array of one dimension less": Thing(lambda a: np.array(a), lambda t: t[()], fill),
    "array of integers": Thing(lambda a: np.full(3, a, int), lambda t: t[1] * 1.0, fill),
    "transposed array": Thing(
        lambda a: np.full((3, 2), a).T, lambda t: t[1, 2], lambda t, b: fill(t[1], b)
    ),
    "large array": Thing(large, lambda t: t[12_345], put(12_345)),
    "view": Thing(lambda a: np.full(5, a)[1:3], first, lambda t, b: fill(t.base, b)),
    "shape": Thing(
        lambda a: np.full((2, 3), a),
        lambda t: t.shape[0] * t[0, 0],
        lambda t, b: t.resize((3, 2), refcheck=False),
    ),
    "object array": Thing(lambda a: np.array([a, None]), first, put(0)),
    "object array of lists": Thing(
        lambda a: np.array([[a], None], object), lambda t: t[0][0], lambda t, b: put(0)(t[0], b)
    ),
    "structured array": Thing(structured, lambda t: t["a"][0], set_field),
    "record": Thing(lambda a: structured(a)[0], lambda t: t["a"], set_field),
    "recarray": Thing(
        lambda a: structured(a).view(np.recarray), lambda t: t.a[0], set_field, may_refuse=True
    ),
    "attribute of an array": Thing(with_unit, get_a, set_a),
    "array interface": Thing(
        Series, lambda t: np.sum(t) - np.asarray(t)[1], lambda t, b: fill(t.values, b)
    ),
    "array interface in arithmetic": Thing(
        Series,
        lambda t: (np.ones(2) * t)[0] * np.stack([t, t])[1, 0],
        lambda t, b: fill(t.values, b),
    ),
    "array subclass": Thing(
        lambda a: np.full(3, a).view(OfArray), lambda t: float(t[0]), fill, may_refuse=True
    ),
    "dates": Thing(
        lambda a: np.full(2, a, int).astype("M8[D]"),
        lambda t: float(t.astype(int)[0]),
        lambda t, b: fill(t, np.datetime64(int(b), "D")),
    ),
    "matrix": Thing(
        lambda a: np.asmatrix(np.full((2, 2), a)), lambda t: float(t[0, 0]), fill, may_refuse=True
    ),
    "masked array": Thing(
        lambda a: np.ma.array([a, 1.0]), lambda t: float(t[0]), put(0), may_refuse=True
    ),
    "bytearray": Thing(
        lambda a: bytearray([int(a)]), lambda t: t[0] * 1.0, lambda t, b: put(0)(t, int(b))
    ),
    "array.array": Thing(lambda a: array.array("d", [a]), first, put(0)),
    "memoryview": Thing(lambda a: memoryview(array.array("d", [a])), first, put(0)),
    "ctypes array": Thing(lambda a: (ctypes.c_double * 2)(a, a), first, put(0)),
    "ctypes number": Thing(ctypes.c_double, lambda t: t.value, lambda t, b: setattr(t, "value", b)),
    # Sparse matrices.
    **{
        f"{format} {name}": Thing(matrix(format), entry, change)
        for format in ("csr", "csc", "coo", "bsr", "dia")
        for name, change in {"data": set_data, "in place": scale_data}.items()
    },
    **{
        f"{format} entry": Thing(matrix(format), entry, set_entry)
        for format in ("csr", "lil", "dok")
    },
    # Functions.
    "function attribute": Thing(with_attribute, called, lambda t, b: setattr(t, "scale", b)),
    "defaults": Thing(with_default, called, lambda t, b: setattr(t, "__defaults__", (b,))),
    "keyword defaults": Thing(with_keyword, called, lambda t, b: t.__kwdefaults__.update(b=b)),
    "code": Thing(with_code, called, lambda t, b: setattr(t, "__code__", with_code(b).__code__)),
    "cell": Thing(with_cell, called, set_cell),
    "partial": Thing(
        lambda a: functools.partial(item_a, {"a": a}),
        called,
        lambda t, b: t.args[0].update(a=b),
    ),
    "partial keywords": Thing(
        lambda a: functools.partial(with_keyword(0.0), b=a),
        called,
        lambda t, b: t.keywords.update(b=b),
    ),
    "bound method": Thing(lambda a: OfDict(a=a).first, called, lambda t, b: t.__self__.update(a=b)),
    "method of a list": Thing(
        lambda a: [a].__getitem__, lambda t: t(0), lambda t, b: put(0)(t.__self__, b)
    ),
    "cached function": Thing(cached, called, clear),
    # Other objects.
    "ContextVar": Thing(variable, lambda t: t.get(), lambda t, b: t.set(b)),
    "threading.local": Thing(local, get_a, set_a),
    "weak reference": Thing(
        lambda a: Kept(weakref.ref, Plain(a)), lambda t: t.made().a, lambda t, b: set_a(t.held, b)
    ),
    "weak proxy": Thing(
        lambda a: Kept(weakref.proxy, Plain(a)), lambda t: t.made.a, lambda t, b: set_a(t.held, b)
    ),
    "environment": Thing(environment, lambda t: float(os.environ[t]), set_environment),
    "getenv": Thing(environment, lambda t: float(os.getenv(t)), set_environment),
    "argv": Thing(arguments, lambda t: float(sys.argv[t]), set_argument),
    "event": Thing(event, lambda t: 2.0 if t.is_set() else 1.0, set_event),
    "config": Thing(
        config, lambda t: float(t["s"]["a"]), lambda t, b: t.set("s", "a", str(b)), may_refuse=True
    ),
    "element": Thing(
        lambda a: xml.etree.ElementTree.Element("e", a=str(a)),
        lambda t: float(t.get("a")),
        lambda t, b: t.set("a", str(b)),
        may_refuse=True,
    ),
    "count": Thing(lambda a: itertools.count(a), lambda t: next(t), None, may_refuse=True),
    "iterator": Thing(lambda a: iter([a, 2 * a] * 99), lambda t: next(t), None, may_refuse=True),
    "generator": Thing(counted, lambda t: next(t), None, may_refuse=True),
    "file": Thing(
        lambda a: io.StringIO(f"{a}\n{2 * a}\n" * 99),
        lambda t: float(t.readline()),
        None,
        may_refuse=True,
    ),
    # Objects of SciPy and NumPy.
    "PPoly": Thing(
        lambda a: scipy.interpolate.PPoly(np.full((1, 1), a), [0.0, 1.0]),
        lambda t: t(0.5),
        lambda t, b: fill(t.c, b),
    ),
    "CubicSpline": Thing(
        lambda a: scipy.interpolate.CubicSpline([0.0, 1, 2], [a, a, a]),
        lambda t: t(0.5),
        lambda t, b: setattr(t, "c", t.c * b),
    ),
    "BSpline": Thing(
        lambda a: scipy.interpolate.BSpline(np.arange(4.0), np.array([a, a]), 1),
        lambda t: t(1.5),
        lambda t, b: fill(t.c, b),
    ),
    "interp1d": Thing(
        lambda a: scipy.interpolate.interp1d([0.0, 1.0], [a, a]),
        lambda t: t(0.5),
        lambda t, b: setattr(t, "y", np.array([b, b])),
    ),
    "grid": Thing(
        lambda a: scipy.interpolate.RegularGridInterpolator([[0.0, 1.0]], np.array([a, a])),
        lambda t: t([0.5])[0],
        lambda t, b: fill(t.values, b),
    ),
    "distribution": Thing(
        lambda a: scipy.stats.norm(loc=a), lambda t: t.mean(), lambda t, b: t.kwds.update(loc=b)
    ),
    "poly1d": Thing(lambda a: np.poly1d([a, 0.0]), lambda t: t(1.0), lambda t, b: put(1)(t, b)),
    "Polynomial": Thing(
        lambda a: np.polynomial.Polynomial([0.0, a]),
        lambda t: t(1.0),
        lambda t, b: setattr(t, "coef", np.array([0.0, b])),
    ),
    "splu": Thing(
        lambda a: scipy.sparse.linalg.splu(scipy.sparse.csc_array(np.eye(2) / a)),
        lambda t: t.solve(np.ones(2))[0],
    ),
    "linear operator": Thing(
        by_matvec, lambda t: (t[1] @ np.ones(1))[0], lambda t, b: put(0)(t[0], b), may_refuse=True
    ),
}


class Kept:
    """A reference with the object that it refers to."""

    def __init__(self, reference, held):
        self.held = held
        self.made = reference(held)
