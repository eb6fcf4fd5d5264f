"""Every example that a reader meets: README, the pages under docs, docstrings of public names.

A page is run from top to bottom in one namespace, as a reader would type it. A block with prompts
is compared with what it prints; any other block just runs.
"""

import doctest
import importlib
import linecache
import re
from pathlib import Path

import pytest

import nbhvp
from nbhvp.trace import answers as register

pytestmark = [pytest.mark.no_cover, pytest.mark.compiles]

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def blocks(page: Path) -> list[tuple[int, str]]:
    """The Python blocks of a page, each with the number of lines before it."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, found.start(1)), found[1]) for found in BLOCK.finditer(text)]


def check(examples: doctest.DocTest, scope: dict | None = None) -> None:
    report: list[str] = []
    if scope is not None:
        examples.globs = scope  # DocTest makes a copy, and the next block needs the names
    runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
    runner.run(examples, out=report.append, clear_globs=False)
    assert not runner.failures, "".join(report)


def run(source: str, name: str, line: int, scope: dict) -> None:
    # Errors name the user's line, so the text must be where linecache finds it.
    source = "\n" * line + source
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    exec(compile(source, name, "exec"), scope)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name
)
def test_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope: dict = {"__name__": "page"}
    for k, (line, source) in enumerate(blocks(page)):
        if source.startswith(">>>"):
            parser = doctest.DocTestParser()
            check(parser.get_doctest(source, scope, page.name, str(page), line), scope)
        else:
            run(source, f"<{page.name}, block {k + 1}>", line, scope)


PUBLIC = {name: getattr(nbhvp, name) for name in nbhvp.__all__} | {
    f"{module.__name__.removeprefix('nbhvp.')}.{name}": getattr(module, name)
    for module in (nbhvp.curvature, nbhvp.implicit)
    for name in module.__all__
}
DOCSTRINGS = [
    test
    for name, public in PUBLIC.items()
    for test in doctest.DocTestFinder(recurse=True).find(public, name)
    if test.examples
]


@pytest.mark.parametrize("examples", DOCSTRINGS, ids=lambda test: test.name)
def test_docstring(examples):
    check(examples)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented(name):
    assert PUBLIC[name].__doc__
    name = name.rpartition(".")[2]
    pages = (ROOT / "docs").glob("api_*.rst")
    assert any(re.search(rf"^.. auto.*\b{name}$", page.read_text("utf-8"), re.M) for page in pages)


def test_the_program_whose_picture_is_drawn_beforehand(monkeypatch):
    """On few of its grids: the documentation runs the other programs of the gallery."""
    plots = pytest.importorskip("matplotlib.pyplot")
    page = ROOT / "docs" / "gallery" / "sparse_newton.py"
    source = page.read_text("utf-8").replace("126, 251, 502, 1002", "126")
    assert source != page.read_text("utf-8")
    drawn: list = []
    for name in ("ylabel", "legend"):
        monkeypatch.setattr(plots, name, lambda *_: None)
    monkeypatch.setattr(plots, "semilogy", lambda steps, norms, *_, **__: drawn.append(norms))
    run(source, "<sparse_newton.py>", 0, {"__name__": "page"})
    assert len(drawn) == 4 and all(norms[-1] < 1e-12 and len(norms) < 10 for norms in drawn)


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_printed_pages_are_those_of_the_register(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    answers = importlib.import_module("answers")
    pages = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in answers.PAGES}
    for name, text in pages.items():
        assert text == answers.printed(text), f"docs/{name} is old: run python docs/answers.py"
    missing = {name for f in register.ANSWERS for name in answers.names_of(f)}
    missing -= {"np.ufunc.__call__"}  # of every ufunc, which have their own places
    missing -= set(re.findall(r"`([\w.]+)`", "".join(pages.values())))
    assert not missing, "chapters that no page names"
