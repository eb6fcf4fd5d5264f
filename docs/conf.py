"""Sphinx: `sphinx-build -W docs docs/_build`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import answers

import nbhvp

project = "nbhvp"
author = "the nbhvp developers"
version = release = nbhvp.__version__

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings have them
napoleon_google_docstring = False
napoleon_use_param = napoleon_use_rtype = False  # types are prose, "array_like, shape (n,)"
napoleon_use_ivar = True
plot_html_show_formats = plot_html_show_source_link = False
plot_formats = [("png", 120)]
exclude_patterns = ["_build"]

html_theme = "alabaster"
html_theme_options = {"description": "Exact Hessian-vector products", "page_width": "60rem"}

# Docstrings write norms as |x|, which reStructuredText would take for a substitution.
rst_prolog = "\n".join(rf".. |{name}| replace:: \|{name}\|" for name in "xv")


def setup(app) -> None:
    """Show what is answered as the register has it now."""
    app.connect(
        "source-read", lambda app, name, text: text.__setitem__(0, answers.printed(text[0]))
    )
