"""Warnings and progress of long compilations. Prices are raised, so that nothing takes long here."""

import io
import warnings

import numpy as np
import pytest

import nbhvp
from nbhvp.graph.node import reachable
from nbhvp.plan.costs import CPU
from nbhvp.runtime.compiling import announced, programs
from nbhvp.targets.native import cache
from nbhvp.trace.record import record

pytestmark = pytest.mark.compiles


def smooth(x):
    return np.sum(np.exp(-(x**2)) + x)


def unrolled(x):
    total = x[0]
    for k in range(3100):
        total = total + x[k % x.size] * (k + 0.5 + np.sin(k))
    return total


def raised(name, place, seconds, size):
    """In the place of a warning: nothing is scheduled."""
    raise RuntimeError(f"{place[1]}: {size}")


def told(call) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return [one for one in found if one.category is nbhvp.CompileTimeWarning]


def test_no_warning_for_what_is_fast():
    assert told(lambda: nbhvp.differentiable(smooth).hvp(np.ones(5), np.ones(5))) == []


@pytest.mark.parametrize("price", ["planned", "text"])
def test_a_warning_comes_once_with_the_line_of_the_function(monkeypatch, price):
    monkeypatch.setattr(cache, "is_known", lambda *text: False)
    monkeypatch.setitem(vars(CPU), price, 7.0)
    f = nbhvp.differentiable(smooth)
    (warning,) = told(lambda: (f(np.ones(5)), f.grad(np.ones(5)), f.hvp(np.ones(5), np.ones(5))))
    text, line = str(warning.message), smooth.__code__.co_firstlineno
    assert (warning.filename, warning.lineno) == (__file__, line)
    assert f"smooth ({__file__}:{line})" in text and "compile='lazy'" in text
    assert ("kernels" in text) == (price == "text")


def test_known_kernels_and_the_interpreter_do_not_warn(monkeypatch):
    nbhvp.differentiable(smooth)(np.ones(7))
    monkeypatch.setitem(vars(CPU), "text", 7.0)
    assert told(lambda: nbhvp.differentiable(smooth)(np.ones(7))) == []
    lazy = nbhvp.differentiable(lambda x: np.sum(np.tanh(x) * x), compile="lazy")
    assert told(lambda: lazy(np.ones(7))) == []


def test_of_unrolled_loops_the_line_is_told(monkeypatch):
    monkeypatch.setitem(vars(CPU), "planned", 1.0)
    f = nbhvp.differentiable(unrolled)
    monkeypatch.setattr(programs, "warn", raised)
    with pytest.raises(
        RuntimeError, match=rf"{unrolled.__code__.co_firstlineno + 3}: [\d,]{{5,}} op"
    ):
        f(np.linspace(0.1, 1, 50))


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "setting", "is_shown"),
    [(Terminal, "", True), (Terminal, "0", False), (io.StringIO, "", False)],
)
def test_progress_is_one_line_on_a_terminal(monkeypatch, stream, setting, is_shown):
    monkeypatch.setattr(announced, "INTERVAL", 0.0)
    monkeypatch.setenv("NBHVP_PROGRESS", setting)
    monkeypatch.setattr("sys.stderr", shown := stream())
    nbhvp.differentiable(smooth).grad(np.ones(5))
    text = shown.getvalue()
    assert ("compiles smooth" in text and "kernel 1 of" in text) == is_shown
    assert text.endswith(announced.CLEAR) == is_shown and "\n" not in text


def test_progress_is_not_shown_more_often_than_twice_a_second(monkeypatch):
    monkeypatch.setattr("sys.stderr", shown := Terminal())
    now = iter([0.0, 0.4, 0.6, 0.8, 1.2])
    monkeypatch.setattr(announced.time, "monotonic", lambda: next(now))
    with announced.progress("f") as show:
        for k in range(4):
            show(k, 4)
    assert shown.getvalue().count("kernel") == 2


def test_programs_of_one_function_are_counted_together(monkeypatch):
    """None takes 5 s, all of them do."""
    nodes = len(reachable(record(smooth, np.ones(5)).outputs))
    monkeypatch.setitem(vars(CPU), "planned", 4.5 / nodes)
    f = nbhvp.differentiable(smooth)
    assert told(lambda: f(np.ones(5))) == []
    assert len(told(lambda: (f.grad(np.ones(5)), f.hvp(np.ones(5), np.ones(5))))) == 1
