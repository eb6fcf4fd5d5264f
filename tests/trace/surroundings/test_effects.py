"""Side effects: told with their line where they vanish, and done where the function runs each time."""

import collections
import dataclasses
import functools
import inspect
import sys
import types
import warnings

import numpy as np
import pytest
from numba import njit

import nbhvp
from nbhvp.trace.arrays import Traced

X = np.array([1.0, 2.0])
HISTORY, CACHE, SEEN, QUEUE = [], {}, set(), collections.deque(maxlen=3)
LISTS, NESTED = collections.defaultdict(list), {"a": {"b": [0]}}
PAIR = ([], 1)
CALLS, CURRENT, OTHERS = 0, None, sys.modules[__name__]


def append(x):
    HISTORY.append(x.copy())  # here
    return np.sum(x**2)


def store(x):
    CACHE[len(CACHE)] = x.sum()  # here
    return np.sum(x**2)


def fill_set(x):
    SEEN.add(len(SEEN))  # here
    return np.sum(x**2)


def enqueue(x):
    QUEUE.append(x[0])  # here
    return np.sum(x**2)


def grow(x):
    LISTS["a"].append(x[0])  # here
    return np.sum(x**2)


def deep(x):
    count = NESTED["a"]
    count["b"][0] += 1
    NESTED["a"]["b"][0] += 1  # here
    return np.sum(x**2)


def count_calls(x):
    global CALLS
    CALLS += 1  # here
    return np.sum(x**2)


def default(x, found=[]):  # noqa: B006 that is what it tests
    found.append(1)  # here
    return np.sum(x**2)


def attribute(x):
    attribute.calls = getattr(attribute, "calls", 0) + 1  # here
    return np.sum(x**2)


def in_a_tuple(x):
    PAIR[0].append(1)  # here
    return np.sum(x**2)


def by_module(x):
    OTHERS.CALLS = 5  # here
    return np.sum(x**2) + CALLS


class Model:
    total = 0

    def __init__(self):
        self.calls, self.last, self.found, self.table, self.box = 0, None, [], {}, (1,)

    @functools.cached_property
    def scale(self):
        return np.ones(1)

    def counts(self, x):
        self.calls += 1  # here
        return np.sum(x**2 * self.scale)

    def keeps(self, x):
        self.last = x  # here
        return np.sum(x**2)

    def appends(self, x):
        self.found.append([x.sum(), {"x": x}])  # here
        return np.sum(x**2)

    def of_class(self, x):
        Model.total += 1  # here
        return np.sum(x**2)

    def deletes(self, x):
        del self.box  # here
        return np.sum(x**2)

    def itself(self, x):
        self.table["me"] = self  # here
        return np.sum(x**2)

    def other(self, x):
        self.child = Model()  # here
        self.child.last = x
        return np.sum(x**2)

    def memo(self, x):
        if self.last is None:
            self.last = x.copy()  # here
        return np.sum(x**2)


class Slots:
    __slots__ = ("calls",)

    def __init__(self):
        self.calls = 0

    def counts(self, x):
        self.calls += 1  # here
        return np.sum(x**2)


@dataclasses.dataclass
class Data:
    calls: int = 0

    def counts(self, x):
        setattr(self, "calls", self.calls + 1)  # noqa: B010 # here
        return np.sum(x**2)


def counter():
    count = 0

    def fun(x):
        nonlocal count
        count += 1  # here
        return np.sum(x**2)

    return fun


FUNCTIONS = {
    "append": lambda: append, "store": lambda: store, "fill_set": lambda: fill_set,
    "enqueue": lambda: enqueue, "grow": lambda: grow, "deep": lambda: deep,
    "global": lambda: count_calls, "default": lambda: default, "attribute": lambda: attribute,
    "by module": lambda: by_module,
    "in a tuple": lambda: in_a_tuple, "counter": counter, "slots": lambda: Slots().counts,
    "data": lambda: Data().counts,
} | {
    name: functools.partial(lambda name: getattr(Model(), name), name)
    for name in ("counts", "keeps", "appends", "of_class", "deletes", "itself", "other", "memo")
}  # fmt: skip


def state(fun) -> str:
    """What the functions above write, as text: numbers, and not how they are kept."""
    self = getattr(fun, "__self__", None)
    held = getattr(self, "__dict__", None) or getattr(self, "calls", None)
    cells = [cell.cell_contents for cell in getattr(fun, "__closure__", None) or ()]
    named = (HISTORY, CACHE, SEEN, QUEUE, LISTS, NESTED, CALLS, Model.total, PAIR)
    return repr((named, shown(held), cells, default.__defaults__, vars(attribute)))


def shown(value):
    if isinstance(value, Model):
        return "Model", shown(vars(value)) if value.last is not None else ""
    if isinstance(value, dict):
        return {name: shown(item) for name, item in value.items() if name != "scale"}
    return value


def reset():
    global CALLS, CURRENT
    for container in (HISTORY, CACHE, SEEN, QUEUE, LISTS, default.__defaults__[0], vars(attribute)):
        container.clear()
    PAIR[0].clear()
    NESTED["a"]["b"][:] = [0]
    CALLS, CURRENT, Model.total = 0, None, 0


@pytest.fixture(autouse=True)
def fresh():
    reset()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_vanishes_is_told_once_with_its_line(name):
    fun = FUNCTIONS[name]()
    before = state(fun)
    f = nbhvp.differentiable(fun, target="interpret")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        f(X), f.grad(X), f.hvp(X, X), f(np.ones(3))
    (warning,) = caught
    assert "trace='always'" in str(warning.message)
    lines, start = inspect.getsourcelines(fun)
    assert lines[warning.lineno - start].rstrip().endswith("# here"), warning.lineno
    assert state(fun) == before
    assert f.report().traces == 2


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "deletes"])
def test_what_is_traced_at_every_call_does_what_python_does(name):
    plain = FUNCTIONS[name]()
    expected = [plain(x) for x in (X, 2 * X, X)]
    wanted = state(plain).replace("np.float64", "")
    reset()
    fun = FUNCTIONS[name]()
    f = nbhvp.differentiable(fun, target="interpret", trace="always")
    assert [f(x) for x in (X, 2 * X, X)] == expected
    assert state(fun).replace("np.float64", "") == wanted
    assert "Traced" not in state(fun)


def test_an_attribute_is_deleted():
    model = Model()
    nbhvp.differentiable(model.deletes, target="interpret", trace="always")(X)
    assert not hasattr(model, "box")


# Names that one function writes and another reads.


def set_current(x):
    global CURRENT
    CURRENT = x * 2


def read_current():
    return CURRENT.sum()


def within(x):
    set_current(x)
    return read_current() * OTHERS.CURRENT[0]


def by_attribute(x):
    OTHERS.CURRENT = x
    first = read_current()
    set_current(x)
    return first + OTHERS.CURRENT[0] + getattr(OTHERS, "CURRENT")[1]  # noqa: B009


def new_name(x):
    global NEW
    NEW = x**2
    return read_new()


def read_new():
    return NEW.sum() + globals()["NEW"][0]


@pytest.mark.parametrize("fun", [within, by_attribute, new_name], ids=lambda f: f.__name__)
@pytest.mark.filterwarnings("ignore:the function sets")
def test_globals_that_are_written_and_read(fun):
    expected = fun(X)
    globals().pop("NEW", None)
    f = nbhvp.differentiable(fun, target="interpret")
    assert f(X) == expected
    np.testing.assert_allclose(f(3 * X), fun(3 * X))
    assert not isinstance(CURRENT, Traced)


# What is told of no function.


def local(x):
    kept, table, box = [], {}, types.SimpleNamespace()
    kept.append(x)
    table["x"] = x
    box.x = x
    model = Model()
    model.counts(x)
    model.keeps(x)
    total = 0.0

    def add(y):
        nonlocal total
        total = total + y

    add(kept[0][0])
    return np.sum(table["x"] * box.x) * total + model.last[0]


@functools.lru_cache
def table(n):
    return np.arange(n)


class Restored:
    def __init__(self):
        self.mode, self.scale = "a", 2.0

    def fun(self, x):
        before, self.mode = self.mode, "b"
        self.scale = self.scale * 1.0
        value = self.inner(x)
        self.mode = before
        return value

    def inner(self, x):
        return np.sum(x) * (1.0 if self.mode == "b" else 3.0)


def test_nothing_is_told_of_what_stays_inside():
    for fun in (local, lambda x: np.sum(x * table(2)), Restored().fun):
        f = nbhvp.differentiable(fun, target="interpret")
        assert f(X) == fun(X)


# Objects that have no copies.


class Opaque(dict):
    """A class that makes its own objects."""

    def __new__(cls):
        return dict.__new__(cls)

    def __init__(self):
        self.kept = []


def test_no_traced_value_stays_in_objects_without_copies():
    opaque, box = Opaque(), types.SimpleNamespace(kept=[])
    kept, objects = opaque.kept, np.array([None, 1.0], object)

    def fun(x, fails=False):
        opaque.last, opaque["x"], box.pair = x, x[0], (x, [x[1]])
        opaque.kept.append(x[0])
        objects[0] = x[1]
        if fails:
            raise KeyError("of the user's")
        return np.sum(x**2)

    f = nbhvp.differentiable(fun, target="interpret")
    assert f(X) == 5.0
    assert opaque.kept is kept
    for _ in range(2):
        for value in (opaque.last, opaque["x"], *box.pair, box.pair[1][0], *kept, objects[0]):
            assert type(value) is not Traced
        np.testing.assert_array_equal(opaque.last, X)
        with pytest.raises(KeyError):
            f(X, True)


class Raising(dict):
    __getattr__, __setattr__ = dict.__getitem__, dict.__setitem__


class Polite(dict):
    def __getattr__(self, name):
        if name not in self:
            raise AttributeError(name)
        return self[name]


class OneForBoth(dict):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.__dict__ = self


SETTINGS = Raising()


def of_settings(x):
    """It reads, copies, calls, writes and makes dicts whose items are attributes."""
    start = SETTINGS.start.copy()
    start[:] = x
    made = type(SETTINGS)(square=start**2, inner=type(SETTINGS)(scale=SETTINGS.nested.scale))
    SETTINGS["latest"] = x.copy()
    SETTINGS["made"] = made
    assert isinstance(SETTINGS, dict)
    assert sorted(made) == ["inner", "square"]
    return SETTINGS.nested.cost(made.square * made.inner.scale) + 0 * SETTINGS.latest[0]


def settings_of(kind):
    def cost(squares):
        total = np.zeros(1)
        total += squares.sum()
        return total[0]

    return kind(start=np.zeros(2), nested=kind(cost=cost, scale=3.0))


@pytest.mark.parametrize("kind", [Raising, Polite, OneForBoth])
@pytest.mark.parametrize("trace", ["once", "always"])
def test_dicts_whose_items_are_attributes(kind, trace, monkeypatch):
    settings = settings_of(kind)
    monkeypatch.setattr(OTHERS, "SETTINGS", settings)
    f = nbhvp.differentiable(of_settings, target="interpret", trace=trace)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        np.testing.assert_allclose(f.grad(X), 6 * X)
        np.testing.assert_allclose(f.hvp(X, X), 6 * X)
        dict.__getitem__(settings, "nested")["scale"] = 5.0
        np.testing.assert_allclose(f.hvp(X, X), 10 * X)
    if trace == "once":
        assert settings.keys() == {"start", "nested"}
        assert kind.__name__ in str(told[0].message)
        return
    assert not told
    assert type(settings["latest"]) is np.ndarray
    assert type(settings["made"]) is kind
    assert settings.made.square.tolist() == [1.0, 4.0]
    assert settings.made.inner.scale == 5.0


class OneSlot(dict):
    __slots__ = ("calls",)


class Open(dict):
    pass


@pytest.mark.parametrize("base", [OneSlot, Open])
def test_an_attribute_of_a_dict_is_no_item(base):
    class Counting(base):
        __slots__ = ()

        def cost(self, x):
            self.calls += 1
            return self["scale"] * np.sum(x**2)

    counting = Counting(scale=2.0)
    counting.calls = 0
    f = nbhvp.differentiable(counting.cost, target="interpret")
    with pytest.warns(UserWarning, match="Counting"):
        assert f(X) == 10.0
    assert (counting, counting.calls) == ({"scale": 2.0}, 0)
    nbhvp.differentiable(counting.cost, target="interpret", trace="always")(X)
    assert (counting, counting.calls) == ({"scale": 2.0}, 1)


def test_a_function_made_inside_cannot_be_kept():
    model = Model()

    def fun(x):
        model.last = lambda: np.sum(x)
        return np.sum(x)

    with pytest.raises(nbhvp.TraceError, match="stored outside"):
        nbhvp.differentiable(fun, target="interpret", trace="always")(X)


# Arguments.


def into_arguments(x, settings, items, count=1.0):
    settings["new"] = x  # here
    items["inner"].append(count)  # here
    return np.sum(x)


@pytest.mark.parametrize("trace", ["once", "always"])
def test_arguments_that_are_changed(trace):
    f = nbhvp.differentiable(into_arguments, target="interpret", trace=trace)
    settings, items = {}, {"inner": [1.0]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        f(X, settings, items), f(2 * X, settings, items=items)
    assert not settings
    assert items == {"inner": [1.0]}
    texts = [str(w.message) for w in caught]
    assert any(text.startswith("the function changes argument 1, a dict") for text in texts)
    assert any(
        text.startswith("the function changes argument 2['inner'], a list") for text in texts
    )
    lines, start = inspect.getsourcelines(into_arguments)
    assert all(lines[w.lineno - start].rstrip().endswith("# here") for w in caught)


# Arrays of the caller that compiled functions write.

KEPT = np.zeros(2)


@njit
def fill(out, x):
    for i in range(x.size):
        out[i] = 2.0 * x[i] + i


@njit
def filled(x, out):
    for i in range(x.size):
        out[i] = 2.0 * x[i] + i
    return out[1]


@njit
def advance(u):
    for i in range(u.size):
        u[i] = u[i] * u[i]
    return u


@njit
def inner(u):
    u[0] = 3.0
    return u, u[1:]


@njit
def into_list(items, x):
    for i in range(x.size):
        items[i] = x[i]


def made_inside(x):
    out = np.zeros(4)
    fill(out[1:3], x)
    return np.sum(out**2)


def x_itself(x):
    fill(x, x.copy())
    return np.sum(x**2)


def returned(x):
    u = x * 1.0
    v = advance(u)
    v = advance(v)
    return np.sum(v) + v[1]


def rows(x):
    u = np.zeros((2, 2))
    fill(u[0], x)
    fill(u.T[1], x * x)
    return np.sum(u**3)


def constants(x):
    u = np.arange(3.0)
    v, rest = inner(u)
    v[1] = 7.0
    return np.sum(u) * np.sum(x)


def lists(x):
    items = [0.0, 0.0]
    into_list(items, np.array([1.0, 4.0]))
    return items[1] * np.sum(x)


@pytest.mark.compiles
@pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaPendingDeprecationWarning")
@pytest.mark.parametrize(
    "fun", [made_inside, x_itself, returned, rows, constants, lists], ids=lambda f: f.__name__
)
def test_compiled_functions_write_into_the_arrays_of_their_caller(fun):
    f, x = nbhvp.differentiable(fun, target="interpret"), X.copy()
    np.testing.assert_allclose(f(x), fun(X.copy()), rtol=1e-14)
    np.testing.assert_array_equal(x, X)
    difference = (f(X + 1e-6) - f(X - 1e-6)) / 2e-6
    np.testing.assert_allclose(f.grad(x) @ np.ones(2), difference, rtol=1e-7)


def returned_and_written(x):
    u = x * 1.0
    v = advance(u)
    v[0] = 7.0
    return np.sum(u)


def given_and_written(x):
    u = x * 1.0
    v = advance(u)
    u[:] = 7.0
    return v[0] * x[0]


def a_view_of_constants(x):
    u = np.arange(3.0)
    _, rest = inner(u)
    rest[0] = 5.0
    return u[1] * x[0]


@pytest.mark.compiles
@pytest.mark.parametrize(
    "fun", [returned_and_written, given_and_written, a_view_of_constants], ids=lambda f: f.__name__
)
def test_writes_of_compiled_functions_that_cannot_be_followed(fun):
    with pytest.raises(nbhvp.TraceError, match=rf"{__file__}:\d+.*or return a copy"):
        nbhvp.differentiable(fun, target="interpret")(X)


def closed_over(x):
    fill(KEPT, x)
    return np.sum(KEPT) * x[0]


def closed_over_constants(x):
    fill(KEPT, np.ones(2))
    return np.sum(KEPT) * x[0]


@pytest.mark.compiles
@pytest.mark.parametrize("fun", [closed_over, closed_over_constants], ids=lambda f: f.__name__)
def test_a_compiled_function_writes_into_an_array_that_is_closed_over(fun):
    f = nbhvp.differentiable(fun, target="interpret")
    with pytest.warns(UserWarning, match="made outside") as caught:
        found = f(X)
    assert not KEPT.any()
    assert [warning.filename for warning in caught] == [__file__]
    assert found == f(X) == fun(X)
    KEPT[:] = 0.0


@pytest.mark.compiles
def test_an_argument_that_a_compiled_function_writes():
    def fun(x, out):
        fill(out, x)
        return np.sum(out**2)

    f, out = nbhvp.differentiable(fun, target="interpret"), np.zeros(2)
    with pytest.warns(UserWarning, match="as an argument"):
        found = f(X, out)
    assert found == fun(X, np.zeros(2))
    assert not out.any()
    top = nbhvp.differentiable(filled, target="interpret")
    with pytest.warns(UserWarning, match="as an argument") as caught:
        assert top(X, out) == filled(X, np.zeros(2))
    assert not out.any()
    assert caught[0].filename == __file__


def test_warnings_as_errors_leave_a_trace():
    f = nbhvp.differentiable(append, target="interpret")
    with pytest.raises(UserWarning, match="`HISTORY`"):
        f(X)
    assert f(X) == 5.0
    assert f.report().traces == 1
