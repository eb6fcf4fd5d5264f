"""Imports go one way: from the public names down to the graph, and nowhere in a circle."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import nbhvp

PACKAGE = Path(__file__).parents[1] / "nbhvp"
PATHS = sorted(PACKAGE.rglob("*.py"))

TRACER = {"errors", "graph", "plain", "trace", "trace/branches", "trace/surroundings", "tree"}
PLAN = {"errors", "graph", "plan", "plan/nests", "plan/splitting"}
TARGETS = PLAN | {"disk", "targets", "targets/lowering", "targets/native", "version"}
ALLOWED = {
    "errors": set(),
    "disk": set(),
    "version": set(),
    "plain": set(),
    "tree": {"errors", "plain"},
    "graph": {"errors", "graph"},
    "plan": {"errors", "graph", "plan", "plan/nests"},
    "plan/nests": {"graph", "plan", "plan/nests"},
    "plan/splitting": PLAN,
    "targets": TARGETS,
    "targets/lowering": {"errors", "graph", "targets/lowering"},
    "targets/native": {
        "disk",
        "graph",
        "plan",
        "plan/nests",
        "targets/lowering",
        "targets/native",
        "version",
    },
    "targets/cpu": TARGETS | {"targets/cpu", "targets/cpu/kernels"},
    "targets/cpu/kernels": TARGETS | {"targets/cpu/kernels"},
    "targets/cuda": TARGETS | {"plain", "targets/cuda", "targets/cuda/kernels"},
    "targets/cuda/kernels": TARGETS | {"targets/cuda/kernels"},
    "trace": TRACER | {"loops"},
    "trace/branches": TRACER,
    "trace/surroundings": TRACER,
    "trace/numpy": TRACER | {"trace/numpy"},
    "trace/scipy": TRACER | {"trace/numpy", "trace/scipy"},
    "loops": TRACER | {"disk", "loops", "loops/overloads", "version"},
    "loops/overloads": TRACER | {"loops/overloads"},
    "runtime": TRACER - {"trace/branches"} | PLAN | {"loops", "runtime", "targets", "targets/cpu"},
    "operators": {"graph", "operators", "plain", "plan", "runtime", "targets/cpu", "tree"},
    "function": {"graph", "loops", "operators", "plain", "runtime", "trace", "tree"},
    "residuals": {"function", "sums"},
    "sums": {"function", "models", "operators", "runtime", "sums", "tree", "version"},
    "curvature": {"curvature", "function", "operators"},
    "constraints": {"function", "operators", "runtime"},
    "optimize": {"constraints", "curvature", "function", "operators", "runtime", "sums"},
    "checking": {"function", "graph", "runtime", "trace"},
}
"""What the modules of each room may import of ours; those at the top may import anything."""
ROOMS = "trace/__init__.py"
"""The one place that names the rooms which complete the tracer."""

IMPORT_NUMBA = ("targets/native/by_numba", "targets/native/language", "loops/")
"""How the names of the modules begin that may."""


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = set(map(name_of, PATHS))


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports_in(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Those that run when the module does: not in functions, nor for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.FunctionDef | ast.Lambda):
            continue
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield from imports_in(node)


def imported(path: Path, nodes) -> set[str]:
    """All modules that import statements of a file name, relative ones resolved."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = path.relative_to(PACKAGE.parent).parts[: -node.level] if node.level else ()
            module = ".".join([*parents, *([node.module] if node.module else [])])
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


def room(name: str) -> str:
    """The room of a module, or of a name in it; "" for the public names."""
    parts = name.split(".")[1:]
    longest = ("/".join(parts[:depth]) for depth in (3, 2))
    return next((inner for inner in longest if inner in ALLOWED), "".join(parts[:1]))


def test_imports_go_one_way():
    for path in PATHS:
        nodes = ast.walk(tree_of(path))
        ours = {room(name) for name in imported(path, nodes) if name.startswith("nbhvp.")}
        assert path == PACKAGE / ROOMS or ours <= ALLOWED.get(room(name_of(path)), ours), path


def test_no_modules_import_each_other():
    needed = {}
    for path in PATHS:
        names = imported(path, imports_in(tree_of(path)))
        names = {name if name in MODULES else name.rpartition(".")[0] for name in names}
        needed[name_of(path)] = names & MODULES
    try:
        TopologicalSorter(needed).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_numba_is_imported_by_the_compiler_alone():
    for path in PATHS:
        names = imported(path, imports_in(tree_of(path)))
        may = path.relative_to(PACKAGE).as_posix().startswith(IMPORT_NUMBA)
        assert may or not any(name.partition(".")[0] == "numba" for name in names), path


@pytest.mark.compiles
def test_importing_the_package_imports_neither_numba_nor_the_optimisers():
    code = (
        "import nbhvp, sys; print({'numba', 'llvmlite', 'sklearn', 'matplotlib'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.compiles
def test_the_interpreter_imports_no_numba():
    code = (
        "import nbhvp, sys; f = nbhvp.differentiable(lambda x: x @ x, target='interpret'); "
        "f.hvp([1.0], [1.0]); print('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_completion_shows_the_public_names_alone():
    assert {*dir(nbhvp)} == {*nbhvp.__all__, "__version__"}
    assert all(hasattr(nbhvp, name) for name in dir(nbhvp))
