"""Imports go one way: from the public names down to the graph."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "nbhvp"
MODULES = sorted(PACKAGE.rglob("*.py"))

ALLOWED = {
    "errors": set(),
    "disk": set(),
    "version": set(),
    "plain": set(),
    "tree": {"errors", "plain"},
    "graph": {"errors", "graph"},
    "plan": {"errors", "graph", "plan"},
    "targets": {"disk", "errors", "graph", "plan", "targets", "version"},
    "trace": {"disk", "errors", "graph", "loops", "plain", "trace", "tree"},
    "loops": {"disk", "errors", "graph", "loops", "plain", "trace", "tree", "version"},
    "runtime": {
        "disk", "errors", "graph", "loops", "plain", "plan", "runtime", "targets", "trace", "tree",
    },
}  # fmt: skip
"""What the modules of each folder may import of ours; those at the top may import anything."""

IMPORT_NUMBA = ("targets/cpu/", "loops/")
"""How the names of the modules begin that may."""


def imported(path: Path) -> set[str]:
    """All modules that a file names in its imports, relative ones resolved."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = path.relative_to(PACKAGE.parent).parts[: -node.level] if node.level else ()
            module = ".".join([*parents, *([node.module] if node.module else [])])
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


def layer(parts) -> str:
    return parts[0].removesuffix(".py") if parts else ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    home = layer(path.relative_to(PACKAGE).parts)
    ours = {layer(name.split(".")[1:]) for name in imported(path) if name.startswith("nbhvp.")}
    assert ours <= ALLOWED.get(home, ours)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_numba_is_imported_by_the_compiler_alone(path):
    name = path.relative_to(PACKAGE).as_posix()
    if name.startswith(IMPORT_NUMBA):
        return
    top = [node for node in ast.parse(path.read_text()).body if _is_import(node)]
    words = [word for node in top for word in ast.unparse(node).split()]
    assert not any(word.partition(".")[0] == "numba" for word in words)


def _is_import(node) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def test_importing_the_package_imports_neither_numba_nor_the_optimisers():
    code = (
        "import nbhvp, sys; print({'numba', 'llvmlite', 'sklearn', 'matplotlib'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_interpreter_imports_no_numba():
    code = (
        "import nbhvp, sys; f = nbhvp.differentiable(lambda x: x @ x, target='interpret'); "
        "f.hvp([1.0], [1.0]); print('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
