"""What a function asks about the types and attributes of its values, as it is asked of plain ones."""

import collections.abc
import functools
import numbers
import typing

import numpy as np
import pytest

import nbhvp
from nbhvp.trace.following.builtin_calls import redirected

pytestmark = pytest.mark.filterwarnings("error")

X = np.array([1.0, 2.0])
FORMS = {
    "array": lambda x: x,
    "matrix": lambda x: np.stack([x, x]),
    "scalar": lambda x: x[0],
    "number": lambda x: x[0].item(),
    "0-d": lambda x: np.asarray(x[0]),
    "booleans": lambda x: x > 0,
    "single": lambda x: x.astype(np.float32)[0],
}


@typing.runtime_checkable
class Summable(typing.Protocol):
    def sum(self): ...


@functools.singledispatch
def dispatched(value):
    return "other"


@dispatched.register
def _(value: np.ndarray):
    return "array", np.ndim(value)


@dispatched.register
def _(value: float):
    return "float"


class Dispatching:
    @functools.singledispatchmethod
    def of(self, value):
        return "other"

    @of.register
    def _(self, value: np.ndarray):
        return "array"

    @of.register
    def _(self, value: float):
        return "float"


DISPATCHING = Dispatching()


def by_class(value):
    match value:
        case np.ndarray():
            return "array"
        case np.float64():
            return "double"
        case float():
            return "float"
        case np.generic():
            return "scalar"
    return "none"


def by_form(value):
    match value:
        case int() | float():
            return "number"
        case np.ndarray(shape=(n,)):
            return "vector", n
        case [_, _]:
            return "pair"
    return "none"


def tried(function):
    def ask(value):
        try:
            return function(value)
        except (TypeError, AttributeError, IndexError, KeyError) as error:
            missing = getattr(error, "name", None)  # of an AttributeError
            return type(error).__name__, missing or str(error)

    return ask


ATTRIBUTES = (
    "__array__", "__array_interface__", "__array_struct__", "__len__", "__iter__", "__index__",
    "__array_ufunc__", "__array_function__", "__getitem__", "__setitem__", "__dict__", "__slots__",
    "shape", "ndim", "dtype", "flags", "strides", "base", "data", "ctypes", "device", "hex", "node",
    "is_integer", "as_integer_ratio", "storage", "value", "views", "append", "todense", "real",
)  # fmt: skip
QUESTIONS = {
    "type is array": lambda v: type(v) is np.ndarray,
    "type is double": lambda v: type(v) is np.float64,
    "type is float": lambda v: type(v) is float,
    "type ==": lambda v: type(v) == float,  # noqa: E721
    "type among": lambda v: type(v) in (float, int, np.float64),
    "name of type": lambda v: type(v).__name__,
    "text of type": lambda v: str(type(v)),
    "class": lambda v: v.__class__ is np.ndarray,
    "name of class": lambda v: v.__class__.__name__,
    "by type": lambda v: {np.ndarray: 1, float: 2, np.float64: 3}.get(type(v), 0),
    "by class": lambda v: {np.ndarray: 1, float: 2, np.float64: 3}.get(v.__class__, 0),
    "issubclass": lambda v: issubclass(type(v), np.ndarray),
    "issubclass of several": lambda v: issubclass(type(v), (float, np.floating)),
    "issubclass of class": lambda v: issubclass(v.__class__, np.generic),
    "mro": lambda v: float in type(v).__mro__,
    "isinstance": lambda v: isinstance(v, np.ndarray | list),
    "isinstance of numbers": lambda v: isinstance(v, (int, float)),
    "Number": lambda v: (isinstance(v, numbers.Number), isinstance(v, numbers.Real)),
    "Iterable": lambda v: isinstance(v, collections.abc.Iterable),
    "Sequence": lambda v: isinstance(v, collections.abc.Sequence),
    "Protocol": lambda v: isinstance(v, Summable),
    "SupportsIndex": lambda v: isinstance(v, typing.SupportsIndex),
    "is a class": lambda v: isinstance(v, type),
    "match by class": by_class,
    "match by form": by_form,
    "singledispatch": lambda v: dispatched(v),
    "singledispatchmethod": lambda v: DISPATCHING.of(v),
    "dispatch": lambda v: dispatched.dispatch(type(v)) is dispatched.dispatch(float),
    "hasattr": lambda v: [name for name in ATTRIBUTES if hasattr(v, name)],
    "getattr": lambda v: (getattr(v, "ndim", "no"), getattr(v, "nothing", 5)),
    "strides": lambda v: getattr(v, "strides", None),
    "dir": lambda v: "shape" in dir(v),
    "missing": tried(lambda v: v.nothing),
    "subscript": tried(lambda v: v[0] * 0 if np.ndim(v) == 0 else 0),
    "len": tried(len),
    "callable": lambda v: callable(v),
    "isscalar": lambda v: (np.isscalar(v), np.iterable(v), np.ndim(v)),
    "issubdtype": lambda v: np.issubdtype(type(v), np.floating),
    "type of dtype": lambda v: getattr(v, "dtype", np.dtype(float)).type is np.float64,
    "result_type": lambda v: str(np.result_type(v)),
    "layout": lambda v: v.flags.c_contiguous and v.flags["F"] if hasattr(v, "flags") else None,
    "is_integer": lambda v: v.is_integer() if hasattr(v, "is_integer") else None,
    "type of a comparison": lambda v: type(v > 0).__name__,
    "is np.True_": lambda v: (v > 0) is np.True_ if np.ndim(v) == 0 else None,
    "is np.False_": lambda v: (v < 0) is np.False_ if np.ndim(v) == 0 else None,
    "is True": lambda v: (v > 0) is True if np.ndim(v) == 0 else None,
    "type of float": lambda v: type(float(v)) is float if np.ndim(v) == 0 else None,
    "mapped": lambda v: next(map(type, [v])) is type(v),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("question", QUESTIONS)
def test_questions_are_answered_for_what_a_value_stands_for(question, form):
    if (
        question == "match by form"
        and np.ndarray.__flags__ & 1 << 5
        and not np.ndim(FORMS[form](X))
    ):
        pytest.skip("where arrays match patterns of sequences, traced numbers are asked too")

    def fun(x):
        value = FORMS[form](x)
        raise KeyboardInterrupt(QUESTIONS[question](value))  # takes the answer out

    answers = []
    for function in (fun, nbhvp.differentiable(fun, target="interpret")):
        with pytest.raises(KeyboardInterrupt) as caught:
            function(X)
        answers.append(caught.value.args)
    assert answers[0] == answers[1]


def test_the_answer_for_a_comparison_of_numbers_is_a_branch():
    def fun(x):
        return np.sum(x) if (x[1] > 0) is np.True_ else 5 * x[0]

    f = nbhvp.differentiable(fun, target="interpret")
    points = [np.array([1.0, 2.0]), np.array([1.0, -2.0]), np.array([3.0, 4.0])]
    assert [f(x) for x in points] == [fun(x) for x in points]
    assert f.report().traces == 2


# Numbers of Python's.

CASTS = {"float": float}


def in_a_loop(x):
    total = 0.0
    for value in x:
        total += float(value) ** 2
    return total


FLOATS = {
    "float": lambda x: float(x[0]) ** 2 * x[1],
    "of a 0-d array": lambda x: float(np.sum(x)) ** 3,
    "in a loop": in_a_loop,
    "mapped": lambda x: sum(t**2 for t in map(float, x)),
    "in a comprehension": lambda x: sum([float(t) ** 3 for t in x]),
    "nested": lambda x: (lambda y: float(y) ** 2)(x[0] * x[1]),
    "complex": lambda x: abs(complex(x[0], x[1])) ** 2,
    "complex of one": lambda x: (complex(x[0]) * (1 + 2j)).imag ** 2,
    "of an integer": lambda x: float(np.argmax(-x)) * x[0] ** 2,
    "of a boolean": lambda x: float(x[0] > 0) * x[0] ** 2,
    "of a literal": lambda x: float("1.5") * x[0] ** 2 + float(3) * np.sum(x**2),
    "a type handed on": lambda x: np.sum(x.astype(float) ** 2) + np.zeros(2, dtype=float)[0],
    "a class of types": lambda x: x[0] ** 2 * {float: 2.0}[float] * (float is type(x[0].item())),
    "fromhex": lambda x: float.fromhex("0x1.8p1") * x[0] ** 2,
    "sum of booleans": lambda x: ((x[0].item() > 0) + (x[1].item() > 0)) * x[0] ** 2,
    "minus a boolean": lambda x: -(x[0].item() > 0) * x[0] ** 2,
    "of a float32": lambda x: float(x.astype(np.float32)[0]) * 0 + np.sum(x) ** 2,
}


@pytest.mark.parametrize("name", FLOATS)
def test_numbers_of_python_keep_their_derivatives(name):
    fun = FLOATS[name]
    f, x = nbhvp.differentiable(fun, target="interpret"), np.array([1.5, -0.5])
    assert f(x) == pytest.approx(fun(x), rel=1e-15)
    assert nbhvp.check(f, x).passed
    assert np.any(f.hvp(x, np.ones(2)))


@pytest.mark.parametrize(
    ("fun", "error"),
    [
        (lambda x: float(x), TypeError),
        (lambda x: float(x[0], 2), TypeError),
        (lambda x: complex(x), TypeError),
        (lambda x: np.sum(x) * CASTS["float"](x[0]), nbhvp.TraceError),
    ],
)
def test_what_is_no_number_is_an_error(fun, error):
    with pytest.raises(error):
        nbhvp.differentiable(fun, target="interpret")(X)


def test_indices_are_branches():
    def fun(x):
        return sum(x[k] ** 2 for k in range(int(float(x[0]))))

    f = nbhvp.differentiable(fun, target="interpret")
    points = [np.array([k, 1.0, 2.0, 3.0]) for k in (1.5, 2.5, 1.7)]
    assert [f(x) for x in points] == [fun(x) for x in points]
    assert f.report().traces == 2


# Calls in code.


def many_names():
    names = "\n".join(f"    n{k} = g{k}" for k in range(300))
    text = (
        f"def fun(x):\n{names}\n    return float(x), n0, n299, type(x), hasattr(x, 'shape'), float"
    )
    scope = {f"g{k}": k for k in range(300)}
    exec(text, scope)
    return scope["fun"]


@pytest.mark.parametrize("fun", [many_names(), in_a_loop, by_class])
def test_redirected_code_does_the_same_where_names_mean_the_same(fun):
    code = redirected(fun.__code__, fun.__globals__)
    named = {name for name in code.co_names if name.endswith("()")}
    builtins = {name: eval(name[:-2]) for name in named}
    scope = {**fun.__globals__, **builtins}
    copy = type(fun)(code, scope, "copy", None, fun.__closure__)
    given = np.array(2.5) if fun.__name__ == "fun" else X
    assert copy(given) == fun(given)


def test_a_name_that_the_module_defines_is_left_alone():
    scope = {"float": lambda x: 2 * x}
    exec("def fun(x): return float(x[0])", scope)
    assert redirected(scope["fun"].__code__, scope) is scope["fun"].__code__
    assert nbhvp.differentiable(scope["fun"], target="interpret").grad(X).tolist() == [2.0, 0.0]
