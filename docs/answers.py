"""Prints which functions of NumPy and SciPy are followed, from the register: `python docs/answers.py`.

A page has a line ``<!-- answers: CHAPTER ... -->``, ``<!-- refused: PACKAGE ... -->`` or
``<!-- followed: tests -->``, and a line ``<!-- end -->`` after it; what stands between is printed.
A chapter is a module of
`nbhvp/trace/numpy` or `nbhvp/trace/scipy`; primitives stand in the chapter that this page names.
What is followed through the libraries' source (`sources`, `unfollowed`, `laws`) comes from the tables
of the tests.
"""

from __future__ import annotations

import ast
import cmath
import importlib
import inspect
import math
import pkgutil
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numba.core.typing.templates import builtin_registry

import nbhvp.graph.table
import nbhvp.loops
from nbhvp.graph import primitives
from nbhvp.trace import answers
from nbhvp.trace.following.library import python_source

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the tables of the tests are
from tests.cases import laws
from tests.cases.followed import FOLLOWED, REFUSED

PAGES = ("loops.md", "numpy.md", "source.md", "special.md")
HERE = Path(__file__).parent
CASES = HERE.parent / "tests" / "cases"
ALIASES = {
    "np": "numpy", "scipy": "scipy",
    "npp": "numpy.polynomial", "special": "scipy.special", "ndimage": "scipy.ndimage",
    "signal": "scipy.signal", "interpolate": "scipy.interpolate", "sl": "scipy.linalg",
}  # fmt: skip
"""Names of modules in the cases."""
PART = re.compile(r"<!-- (\w+): (.*?) -->\n.*?<!-- end -->", re.DOTALL)
PACKAGES = (
    "fft", "integrate", "interpolate", "linalg", "ndimage", "optimize", "signal", "sparse",
    "sparse.linalg", "spatial", "spatial.distance", "special", "stats",
)  # fmt: skip
MODULES = (
    "numpy.emath", "numpy.linalg", "numpy.polynomial", "numpy.lib", "numpy",
    "scipy.signal.windows", "scipy.spatial.distance", "scipy.spatial.transform",
    *(f"scipy.{name}" for name in (
        "cluster", "constants", "differentiate", "fft", "integrate", "interpolate", "linalg", "ndimage",
        "optimize", "signal", "sparse", "spatial", "special", "stats",
    )),
)  # fmt: skip
PRIMITIVES = {"numpy.elementwise": "np.", "scipy.special": "scipy.special."}
"""The chapters in which the primitives stand, and how their functions begin."""


def known_names() -> dict[int, list[str]]:
    """The public names of functions, by identity."""
    scipy = {f"scipy.{name}": importlib.import_module(f"scipy.{name}") for name in PACKAGES}
    homes = {
        "np": np, "np.linalg": np.linalg, "np.fft": np.fft, "np.ufunc": np.ufunc, "math": math, "cmath": cmath,
        "np.lib.stride_tricks": np.lib.stride_tricks, **scipy,
    }  # fmt: skip
    names: dict[int, list[str]] = {}
    for home, module in homes.items():
        for name in getattr(module, "__all__", dir(module)):
            names.setdefault(id(getattr(module, name, None)), []).append(f"{home}.{name}")
    return names


NAMES = known_names()
answers.complete()


def names_of(function) -> list[str]:
    """All names of a function in the library that it is met in first; those of private ones none."""
    if isinstance(function, str) and "._" in function:
        return []
    if isinstance(function, str):
        return [f"np.{function[6:]}" if function.startswith("numpy.") else function]
    names = NAMES.get(id(function), [str(function)])
    home = names[0].rpartition(".")[0]
    return [name for name in names if name.rpartition(".")[0] == home]


def listed(functions) -> str:
    names = {name for function in functions for name in names_of(function)}
    return ", ".join(f"`{name}`" for name in sorted(names, key=str.lower))


def paragraph(functions) -> str:
    return textwrap.fill(listed(functions), 100, break_long_words=False, break_on_hyphens=False)


def title_of(chapter: str) -> str:
    library, *_, name = chapter.split(".")
    has_name = name in PACKAGES if library == "scipy" else inspect.ismodule(getattr(np, name, None))
    title = f"{library}.{name}" if has_name else name.replace("_", " ").capitalize()
    return f"`{title}`" if has_name else title


def module_of(chapter: str):
    return importlib.import_module(f"nbhvp.trace.{chapter}")


def path_of(module) -> str:
    return f"`{module.__name__.replace('.', '/')}.py`"


def primitives_of(beginning: str) -> Iterator[tuple[str, list]]:
    """The modules of primitives, with the functions that these answer to."""
    tables = pkgutil.walk_packages(nbhvp.graph.table.__path__, "nbhvp.graph.table.")
    modules = [primitives, *(importlib.import_module(table.name) for table in tables)]
    known = answers.ANSWERS
    found = {f: e for f, e in primitives.BY_FUNCTION.items() if f not in known}
    for module in modules:
        entries = set(map(id, vars(module).values()))
        functions = [f for f, entry in found.items() if id(entry) in entries]
        functions = [f for f in functions if names_of(f)[0].startswith(beginning)]
        if functions:
            yield path_of(module), functions
        for function in functions:
            del found[function]


def chapter(name: str) -> str:
    """What is answered by one module."""
    module = module_of(name)
    tables = (answers.ANSWERS, answers.CLASSES)
    entries = [
        entry
        for entry in dict.fromkeys(entry for table in tables for entry in table.values())
        if entry.chapter == module.__name__
    ]
    lines = [f"### {title_of(name)}", "", inspect.getdoc(module).splitlines()[0], ""]
    lines += [f"In {path_of(module)}:", ""]
    by_note: dict[str, list] = {}
    for entry in entries:
        by_note.setdefault(entry.note, []).extend(entry.functions)
    plain = by_note.pop("", [])
    if plain:
        lines += [paragraph(plain), ""]
    noted = sorted((listed(functions), note) for note, functions in by_note.items())
    if noted:
        lines += ["| with restrictions | |", "|---|---|"]
        lines += [*(f"| {functions} | {note} |" for functions, note in noted), ""]
    for path, functions in primitives_of(PRIMITIVES[name]) if name in PRIMITIVES else ():
        lines += [f"Primitives, in {path}:", "", paragraph(functions), ""]
    return "\n".join(lines)


def refused(packages: list[str]) -> str:
    """What is refused of some packages, and why."""
    rows = [
        f"| {listed(refusal.functions)} | {refusal.why} | {refusal.instead} |"
        for refusal in dict.fromkeys(answers.REFUSALS.values())
    ]
    beginnings = tuple(f"| `{package}." for package in packages)
    lines = sorted(row for row in rows if row.startswith(beginnings))
    return "\n".join(["| functions | why | in their place |", "|---|---|---|", *lines, ""])


def followed(names: list[str]) -> str:
    """The functions in the cases that have no answer, and are followed through their source."""
    found = set()
    for path in CASES.glob("*/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Lambda | ast.FunctionDef):
                found |= set(_library_names(node))
    functions = {name: _resolved(name) for name in found}
    return f"{paragraph(name for name, f in functions.items() if f and _is_followed(f))}\n"


def _library_names(function: ast.AST) -> Iterator[str]:
    """The names of functions of libraries that the code of a case calls."""
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute):
            alias, _, name = ast.unparse(node).partition(".")
            if alias in ALIASES:
                yield f"{ALIASES[alias]}.{name}"


def _is_followed(function) -> bool:
    is_known = answers.answer_to(function) or answers.refusal_of(function)
    return not is_known and python_source(function) is not None


def _resolved(path: str):
    home, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(home), name, None)
    except ModuleNotFoundError:  # a method of an object
        return None


def chapters(names: list[str]) -> str:
    return "\n".join(map(chapter, names))


def home_of(name: str) -> str:
    """The public module of a function, a class or a method."""
    parts = name.partition(" ")[0].split(".")
    return next((m for m in MODULES if parts[: m.count(".") + 1] == m.split(".")), parts[0])


def sources(packages: list[str]) -> str:
    """What is tested to be followed, by module."""
    by_home: dict[str, dict[str, None]] = {}
    for name, _ in FOLLOWED:
        home = home_of(name)
        by_home.setdefault(home, {})[name.partition(" ")[0].removeprefix(f"{home}.")] = None
    rows = [f"| `{home}` | {quoted(names)} |" for home, names in sorted(by_home.items())]
    return "\n".join(["| module | functions |", "|---|---|", *rows, ""])


def unfollowed(packages: list[str]) -> str:
    """What is tested to be refused, with the words of the error."""
    by_words: dict[str, list[str]] = {}
    for name, _, words in REFUSED:
        by_words.setdefault(words, []).append(name.partition(" ")[0])
    rows = [f"| {quoted(names)} | {words} |" for words, names in sorted(by_words.items())]
    return "\n".join(["| functions | reason |", "|---|---|", *rows, ""])


def continuous(packages: list[str]) -> str:
    """The continuous laws, and their methods that have no derivative."""
    whole = [name for name in laws.LAWS if not laws.refused(name)]
    rows = [
        f"| `{name}` | {'all' if methods == 'all' else quoted(methods.split())} | {why} |"
        for name, refusals in laws.REFUSED.items()
        for methods, why in refusals.items()
    ]
    head = ["", "| law | methods without derivatives | reason |", "|---|---|---|"]
    return "\n".join([f"All methods: {quoted(whole)}.", *head, *rows, ""])


def loops(packages: list[str]) -> str:
    """The functions of some libraries that are overloaded for loops: Numba has them in a register."""
    for module in pkgutil.walk_packages(nbhvp.loops.__path__, "nbhvp.loops."):
        importlib.import_module(module.name)
    found = {name for f, kind in builtin_registry.globals if _is_ours(kind) for name in names_of(f)}
    rows = []
    for package in packages:
        names = {name for name in found if name.rpartition(".")[0] == package}
        rows.append(f"| `{package}` | {listed(n for n in names if '__' not in n)} |")
    return "\n".join(["| library | functions |", "|---|---|", *rows, ""])


def _is_ours(kind) -> bool:
    """Whether one of the templates of a function, by which Numba types it, is of nbhvp."""
    templates = getattr(kind, "templates", ())
    makers = (getattr(template, "_overload_func", template) for template in templates)
    return any(str(maker.__module__).startswith("nbhvp.") for maker in makers)


def quoted(names) -> str:
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names))


PRINTERS = {
    "answers": chapters, "refused": refused, "followed": followed, "sources": sources,
    "unfollowed": unfollowed, "laws": continuous, "loops": loops,
}  # fmt: skip


def printed(text: str) -> str:
    """A page with its printed parts as the register has them."""

    def part(found: re.Match) -> str:
        kind, names = found[1], found[2].split()
        body = PRINTERS[kind](names)
        return f"<!-- {kind}: {found[2]} -->\n\n{body}\n<!-- end -->"

    return PART.sub(part, text)


if __name__ == "__main__":
    for page in PAGES:
        path = HERE / page
        path.write_text(printed(path.read_text(encoding="utf-8")), encoding="utf-8")
