"""Places in the user's code: the file and line that errors, notes and reports name.

A place is the innermost frame in the user's own code. Code of the standard library and of installed
packages may lie between that frame and this package, as in ``statistics.mean(x)``; its line is named
only if no frame of the user's own code is found.
"""

from __future__ import annotations

import dis
import linecache
import os
import re
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FrameType, TracebackType

import numpy as np
import scipy

__all__ = [
    "Place",
    "instructions",
    "is_shown",
    "line_of",
    "names_a_line",
    "names_of",
    "present_place",
    "user_line",
]

Place = tuple[str, int]

MOST_SHOWN = 120
"""Characters of a line of code in a message."""
_COMPILED = (".pyx", ".pxd", "<stringsource>")
"""How the names of files end that Cython has compiled: they are no lines of Python's."""
_OURS = tuple(
    str(Path(file).parent) + os.sep
    for file in (
        Path(__file__).parents[1] / "__init__.py",
        np.__file__,
        scipy.__file__,
        getattr(find_spec("numba"), "origin", ""),
    )
)
_INSTALLED = (
    "<frozen ",
    *(sysconfig.get_path(n) + os.sep for n in ("stdlib", "platstdlib", "purelib", "platlib")),
)
_RECORD = str(Path(__file__).with_name("record.py"))
"""Where the user's function is called: what is further out has called nbhvp."""


def present_place() -> Place:
    """The place where the user's code is now."""
    return _innermost(_running(sys._getframe(1))) or ("", 0)


def is_shown() -> bool:
    """Whether the code that runs is of a library: it looks at texts in order to show them."""
    place = next((p for p in _running(sys._getframe(1)) if not p[0].startswith(_OURS)), ("", 0))
    return place[0].startswith(_INSTALLED)


def user_line(traceback: TracebackType | None) -> str:
    """File, line and text of the user's innermost frame below this one, if any."""
    places = []
    while traceback is not None:
        places.append((traceback.tb_frame.f_code.co_filename, traceback.tb_lineno))
        traceback = traceback.tb_next
    found = _innermost(reversed(places))
    return line_of(*found) if found else ""


def _running(frame: FrameType | None) -> Iterator[Place]:
    while frame is not None:
        yield frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back


def _innermost(places: Iterator[Place]) -> Place | None:
    """The first place in the user's own code; else the first that is not in ours, if any."""
    outside = None
    for place in places:
        file = place[0]
        if file.endswith(_COMPILED):
            continue
        if file.startswith(_OURS):
            if file == _RECORD and outside is not None:
                break
        elif not file.startswith(_INSTALLED):
            return place
        else:
            outside = outside or place
    return outside


def names_a_line(text: str) -> bool:
    """Whether an error names a place already, as those of compiled functions do."""
    return re.search(r":\d+\b", text) is not None


def line_of(file: str, line: int) -> str:
    """A place in a file, with its text."""
    text = textwrap.shorten(linecache.getline(file, line), MOST_SHOWN, placeholder=" ...")
    return f"{file}:{line}" + (f" in `{text}`" if text else "")


def instructions(code: CodeType) -> Iterator[tuple[int, dis.Instruction]]:
    """The instructions of a code, each with its line; that of the one before, if it has none."""
    line = code.co_firstlineno
    for step in dis.get_instructions(code):
        line = (step.positions and step.positions.lineno) or line
        yield line, step


def names_of(step: dis.Instruction) -> set[str]:
    """The names in an instruction; some of Python 3.13 do two things at once."""
    values = step.argval if isinstance(step.argval, tuple) else (step.argval,)
    return {value for value in values if isinstance(value, str)}
