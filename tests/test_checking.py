"""The checker: what is right passes, and every way to be wrong is caught and named."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from numba import njit

import nbhvp
from nbhvp.__main__ import main
from nbhvp.graph import primitives as p
from nbhvp.trace.record import record
from nbhvp.trace.recording import LinedPool

RNG = np.random.default_rng(3)
X = RNG.normal(size=5)
DATA = RNG.normal(size=(40, 5))


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def branched(x):
    return x @ x if x[0] > 0 else np.sum(np.exp(x))


def absolute(x):
    return np.sum(np.abs(x) * np.exp(x))


def relu(x):
    return np.sum(np.maximum(x, 0) ** 2 * np.exp(x) + np.maximum(x - 1, 0))


def masked(x):
    return np.sum(np.where(x > 0, np.log(x), 0.0))


def checked(fun, x, *args, **options):
    f = fun if isinstance(fun, nbhvp.Function) else nbhvp.differentiable(fun, target="interpret")
    return nbhvp.check(f, x, *args, **options)


def failures(report):
    return {(row.name, row.against): row.status for row in report.rows if row.status.isupper()}


PARAMETERS, UNRAVEL = nbhvp.ravel({"W": np.ones((2, 2)), "b": 0.5})
RIGHT = {
    "rosenbrock": (rosenbrock, X),
    "at its minimum": (rosenbrock, np.ones(5)),
    "quadratic": (lambda x: x @ x + 3.0, X),
    "linear": (lambda x: np.sum(x), X),
    "constant": (lambda x: 3.0, X),
    "large offset": (lambda x: np.sum(np.cosh(x)) + 1e6, X),
    "badly scaled": (lambda x: 1e-8 * np.sum(np.sin(x)), X),
    "data": (lambda w: np.sum(np.logaddexp(0.0, DATA @ w)), X),
    "argument": (lambda x, a, power: np.sum(a * x**power), X, RNG.normal(size=5), 3),
    "matrix": (lambda x: np.sum(np.tanh(x @ x.T)), X.reshape(1, 5) + np.zeros((3, 1))),
    "number": (lambda x: np.exp(np.sin(x)), np.array(0.3)),
    "array": (lambda x: x[1:] ** 2 * np.sin(x[:-1]), X),
    "tuple": (lambda x: (x[0] * x[1], np.exp(x[2])), X),
    "complex inside": (lambda x: np.abs(np.sum(np.exp(1j * x))) ** 2, X),
    "branch": (branched, X),
    "empty": (lambda x: np.sum(x), np.zeros(0)),
    "float32": (lambda x: np.sum(x**3), X.astype(np.float32)),
    "far from kinks": (relu, np.array([-1.0, 0.5, 3.0])),
}


@pytest.mark.parametrize("case", RIGHT.values(), ids=RIGHT)
def test_right_derivatives_pass(case):
    report = checked(*case)
    assert report.passed, str(report)
    assert str(report).endswith("passed")


@pytest.mark.compiles
def test_trees_and_compiled_functions_pass():
    f = nbhvp.differentiable(lambda t: np.sum(np.exp(t["W"])) * t["b"], unravel=UNRAVEL)
    assert nbhvp.check(f, PARAMETERS).passed


def test_arguments_by_name():
    assert checked(lambda x, *, scale: scale * np.sum(x**4), X, **{"scale": 2.0}).passed


def test_remainders():
    report = checked(rosenbrock, X, directions=4)
    assert report.remainders[2].shape == report.remainders[3].shape == (4, report.steps.size)
    slopes = [row.measured for row in report.rows if row.against == "Taylor's remainder"]
    assert slopes == ["slope 2.00", "slope 3.00"]


# What is wrong.


def own(first, second):
    """sin, with factors at its derivatives: of one they are right."""
    slope = nbhvp.elementwise(partials=lambda z, x: -second * np.sin(x))(np.cos)
    return nbhvp.elementwise(partials=lambda z, x: first * slope(x))(np.sin)


def total_of(function):
    return lambda x: np.sum(function(x))


@pytest.mark.parametrize("error", [1e-4, 1e-2, -2.0])
def test_a_wrong_gradient_is_caught(error):
    found = failures(checked(total_of(own(1 + error, 1.0)), X))
    assert found["gradient", "differences of values"] == "FAILED"
    assert found["gradient", "Taylor's remainder"] == "FAILED"


@pytest.mark.parametrize("error", [1e-4, 1e-2, -2.0])
def test_a_wrong_second_derivative_is_caught(error):
    found = failures(checked(total_of(own(1.0, 1 + error)), X))
    assert found["product", "differences of gradients"] == "FAILED"
    assert not any(name == "gradient" for name, _ in found)
    assert error == 1e-4 or found["product", "Taylor's remainder"] == "FAILED"


def test_right_rules_pass():
    assert checked(total_of(own(1.0, 1.0)), X).passed


def test_a_gradient_of_no_function_is_caught():
    """A JVP rule that forgets an argument: its Hessian is not symmetric."""
    product = nbhvp.custom_jvp(lambda x: x[0] * x[1])
    product.defjvp(lambda primals, tangents: (product(*primals), primals[0][1] * tangents[0][0]))
    found = failures(checked(lambda x: product(x) + x @ x, X))
    assert found["product", "symmetry"] == "FAILED"
    assert found["gradient", "differences of values"] == "FAILED"


def test_a_value_that_is_not_the_functions_is_caught(monkeypatch):
    """A primitive whose value is not that of NumPy."""
    wrong = replace(p.sin, evaluate=lambda x: np.sin(x) + 1e-6)
    monkeypatch.setitem(p.BY_FUNCTION, np.sin, wrong)
    found = failures(checked(lambda x: np.sum(np.sin(x)), X))
    assert found["value", "plain Python"] == "FAILED"


def test_a_sabotaged_partial_is_caught(monkeypatch):
    wrong = replace(p.sin, rule=lambda z, x: (1.001 * p.cos(x),))
    monkeypatch.setitem(p.BY_FUNCTION, np.sin, wrong)
    found = failures(checked(lambda x: np.sum(np.sin(x)), X))
    assert found["gradient", "differences of values"] == "FAILED"


def test_a_program_that_is_not_its_graph_is_caught(monkeypatch):
    f = nbhvp.differentiable(rosenbrock, target="interpret")
    product = f.hvp
    monkeypatch.setattr(f, "hvp", lambda x, v: product(x, v) + 1e-3 * v**2)
    found = failures(nbhvp.check(f, X))
    assert found["product", "linearity in v"] == "FAILED"
    assert found["product", "the interpreter"] == "FAILED"


def test_a_wrong_adjoint_is_caught(monkeypatch):
    f = nbhvp.differentiable(lambda x: x**2, target="interpret")
    forward = f.jvp
    monkeypatch.setattr(f, "jvp", lambda x, v: 1.01 * forward(x, v))
    assert failures(nbhvp.check(f, X)) == {("J v", "J^T w"): "FAILED"}


# Kinks and branches.


def row(report, name):
    (found,) = (row for row in report.rows if row.name == name)
    return found


@pytest.mark.parametrize(
    ("fun", "x", "primitive"),
    [
        (absolute, [0.0, 1.0, -2.0], "sign"),
        (relu, [1.0, -1.0, 0.5], "greater|less|maximum"),
        (lambda x: np.max(x) * np.sum(np.exp(x)), [1.0, 1.0, 0.0], "argmax|equal|greater"),
        (branched, [0.0, 1.0, 2.0], "greater"),
    ],
)
def test_kinks_are_reported_as_such(fun, x, primitive):
    report = checked(fun, np.array(x))
    assert not report.passed
    assert set(failures(report).values()) == {"KINK"}
    branches = row(report, "branches")
    assert branches.measured == "at x"
    assert "those of one side" in branches.note
    assert "test_checking.py:" in branches.note
    assert any(name in branches.note for name in primitive.split("|"))


@pytest.mark.parametrize("distance", [1e-5, 1e-4, 1e-2])
def test_branches_near_x_are_told(distance):
    report = checked(branched, np.array([distance, 0.2, 0.1]))
    assert report.passed, str(report)
    assert "if x[0] > 0" in row(report, "branches").note


def test_no_branches_no_row():
    assert not any(row.name == "branches" for row in checked(rosenbrock, X).rows)


# What is not finite.


@pytest.mark.parametrize(
    ("fun", "x", "name", "words"),
    [
        (lambda x: np.sum(np.log(x)), [0.0, 1.0], "value", "infinity first arises in log"),
        (lambda x: np.sum(np.sqrt(x)), [-1.0, 1.0], "value", "nan first arises in sqrt"),
        (masked, [0.0, 1.0], "gradient", "infinity first arises in divide"),
        (lambda x: np.sum(np.sqrt(x)), [0.0, 1.0], "gradient", "infinity first arises in"),
        (lambda x: np.sum(x**1.5), [0.0, 1.0], "product", "infinity first arises in"),
    ],
)
def test_where_values_cease_to_be_finite(fun, x, name, words):
    (only,) = checked(fun, np.array(x)).rows
    assert only.name == f"finite {name}"
    assert only.status == "FAILED"
    assert words in only.note
    assert "test_checking.py:" in only.note


def test_a_point_that_is_not_finite():
    (only,) = checked(rosenbrock, np.array([np.nan, 1.0])).rows
    assert only.note == "x or an argument holds nan"


# Precision.


def test_loss_of_digits_in_single_precision_is_told():
    report = checked(lambda x: np.sum(((x + 1e6) - 1e6) ** 2), X)
    assert row(report, "float32").status == "note"


def test_a_function_that_takes_no_single_precision():
    def double(x):
        if x.dtype != np.float64:
            raise ValueError("needs float64")
        return x @ x

    report = checked(double, X)
    assert report.passed
    assert row(report, "float32").note == "ValueError: needs float64"


@pytest.mark.compiles
@pytest.mark.no_cover
def test_compiled_loops_pass():
    @njit
    def loop(x):
        total = 0.0
        for i in range(1, len(x)):
            total += (x[i] - x[i - 1] ** 2) ** 2
        return total

    assert nbhvp.check(nbhvp.differentiable(loop, target="interpret"), X).passed


# Lines.


def test_lines_of_nodes():
    pool = LinedPool()
    record(rosenbrock, X, pool=pool)
    texts = {line.partition(" in ")[2] for node, line in pool.lines.items() if node.args}
    assert texts == {"`return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)`"}


# The command line.


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["nbhvp", "check", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    file = tmp_path / "functions_to_check.py"
    file.write_text(
        "import numpy as np\n"
        "import nbhvp\n"
        "right = nbhvp.differentiable(lambda x: np.sum(x**3), target='interpret')\n"
        "kink = nbhvp.differentiable(lambda x: np.sum(abs(x) * np.exp(x)), target='interpret')\n"
        "lost = nbhvp.differentiable(lambda x: np.float64(x[0]), target='interpret')\n"
        "class Group:\n"
        "    member = right\n"
    )
    yield file
    sys.modules.pop(file.stem, None)


@pytest.mark.parametrize(
    ("name", "point", "code"),
    [
        ("right", "1,2.5,-3", 0),
        ("Group.member", "zeros(3)", 0),
        ("right", "ones(2, 3)", 0),
        ("right", "random(4)", 0),
        ("kink", "zeros(2)", 1),
    ],
)
def test_command_line(script, monkeypatch, capsys, name, point, code):
    assert run(monkeypatch, f"{script}:{name}", "--x0", point) == code
    assert "Taylor's remainder" in capsys.readouterr().out


def test_command_line_with_files(script, monkeypatch, capsys):
    x0, plot = script.with_name("x.npy"), script.with_name("plot.png")
    np.save(x0, np.arange(3.0))
    monkeypatch.syspath_prepend(script.parent)
    words = (f"{script.stem}:right", "--x0", str(x0), "--plot", str(plot), "--directions", "2")
    assert run(monkeypatch, *words) == 0
    assert plot.stat().st_size > 1000


@pytest.mark.parametrize(
    ("name", "point", "words"),
    [
        (":absent", "1", "absent"),
        (":right", "1,two", "two"),
        (":right", "x.npy", "No such file"),
        ("", "1", "needed module:function"),
    ],
)
def test_command_line_refuses(script, monkeypatch, capsys, name, point, words):
    path = f"{script}{name}" if name else script.stem
    assert run(monkeypatch, path, "--x0", point) == 2
    assert words in capsys.readouterr().err


def test_command_line_names_the_line(script, monkeypatch):
    assert "functions_to_check.py:5" in run(monkeypatch, f"{script}:lost", "--x0", "1,2")
