"""The mark `compiles`, and the guard that keeps it right.

`pytest -m "not compiles"` runs all tests that compile nothing: tracing, the table,
derivatives, the interpreter, schedules, kernels as plain Python. A test has the mark if its module
has it (`pytestmark`), if it has it itself, and if its parameters are named "cpu" or "compiled", as in
`test_results[cpu]` and `test_branches[a compiled loop]`.

A test without the mark fails if it asks for a kernel, from a cache or not, has Numba compile a
function, or starts a process, which may do both. A function that a marked test has compiled before
is not seen: the run of the others alone is what holds the mark.

Plans are made anew in each test: those on the disk, which other code may have made under another name, are
for the tests of `stored` alone.

NBHVP_THOROUGH=1 raises the breadth of what is interpreted: more random programs, and products that
are split at the point in every test.
"""

import functools
import gc
import os
import re
import subprocess
import sys

import pytest
from numba.core.dispatcher import Dispatcher
from threadpoolctl import ThreadpoolController

from nbhvp.graph import derive
from nbhvp.plan.splitting import split
from nbhvp.targets.native import cache
from tests.checks import THOROUGH

os.environ["NBHVP_CACHE_PLANS"] = "0"
NAMES = re.compile(r"\b(cpu|compiled)\b")
_pools = ThreadpoolController()
_seen: list[str] = []
"""What the running test has done that only a marked one may do."""


def _watch(owner, name: str, tell) -> None:
    """Have each call of a function told in `_seen`, if there is something to tell."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def watched(*args, **kwargs):
        _seen.extend(filter(None, [tell(*args)]))
        return function(*args, **kwargs)

    setattr(owner, name, watched)


def _of_a_compilation(dispatcher, *_) -> str | None:
    """Nothing of functions of the package and of Numba: these are kept from the first run on."""
    function = dispatcher.py_func
    if not str(function.__module__).startswith(("nbhvp.", "numba.")):
        return f"Numba compiles {function.__qualname__}"
    return None


def _of_a_process(self, command, *_) -> str | None:
    return "Python is started" if sys.executable in command else None


for _name in ("load", "compiled", "compiled_by_numba"):
    _watch(cache, _name, lambda *_: "a kernel is loaded or compiled")
_watch(Dispatcher, "compile", _of_a_compilation)
_watch(subprocess.Popen, "__init__", _of_a_process)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=lambda: _seen.append("the process is forked"))


@pytest.fixture
def unsplit(request, monkeypatch):
    """Products are interpreted as they are derived: where to split them is of no interest here.

    Half of the time of a derivative that is interpreted once goes into the split for a target's
    memory, which tests/plan holds to be right for every primitive.
    """
    if not (THOROUGH or request.node.get_closest_marker("compiles")):
        whole = lambda graph, direction, costs, beside: (
            (),
            derive.check(graph, linear_in=direction),
        )
        monkeypatch.setattr(split, "split", whole)


gc.disable()  # until all tests are collected: what they are made of stays


def pytest_collection_modifyitems(items):
    gc.enable()
    gc.freeze()
    # An eighth of the time goes into searches for garbage after every 700 objects, of which graphs
    # are made by the thousand.
    gc.set_threshold(50_000, 20, 20)
    for item in items:
        if hasattr(item, "callspec") and NAMES.search(item.callspec.id):
            item.add_marker(pytest.mark.compiles)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    _seen.clear()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    if item.get_closest_marker("compiles"):
        return (yield)
    with _pools.limit(limits=1, user_api="blas"):  # small matrices only, in several processes
        result = yield
    if _seen:
        pytest.fail(
            f"{item.nodeid} has no mark `compiles`, and {_seen[0]}: interpret, or mark it with "
            "@pytest.mark.compiles (see tests/conftest.py)",
            pytrace=False,
        )
    return result
