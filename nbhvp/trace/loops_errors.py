"""numba's typing errors as ours: the user's file and line, what happened there, what to write.

numba reports a chain of failures, the innermost first; ours is about the first line in it that is
not numba's own or this package's.
"""

from __future__ import annotations

import contextlib
import linecache
import re
from pathlib import Path

import numba
from numba.core.errors import NumbaError

from nbhvp.errors import TraceError

__all__ = ["explained"]

_PLACE = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)|at (?P<at>\S+) \((?P<of>\d+)\)')
_FOREIGN = (str(Path(numba.__file__).parent), str(Path(__file__).parents[1]), "<")

_REASONS = (
    (
        r"setitem\(.*Active|Cannot cast Active.* to (float|int)",
        "a traced value is stored into an array from outside, or of integers",
        "store it into an array that the function makes of floats (np.zeros, np.empty, x.copy())",
    ),
    (
        r"Use of unsupported NumPy function '?(?P<name>[\w.]+)",
        "{name} is not known to numba",
        "write it as a loop, or the whole function in NumPy, without @njit",
    ),
    (
        r"No implementation of function Function\(<[\w-]+ '?(?P<name>[\w.]+)",
        "{name} of traced values cannot be recorded",
        "write it out in arithmetic on elements and functions of math",
    ),
    (
        r"Unknown attribute '(?P<name>\w+)'",
        "the attribute .{name} of traced values cannot be recorded",
        "write it out in arithmetic on elements and functions of math",
    ),
    (
        r"Cannot unify (?P<name>.+)",
        "a variable has values of two types: cannot unify {name}",
        "give it one type in all branches",
    ),
)


@contextlib.contextmanager
def explained():
    """Errors of compilation inside become TraceErrors; all others pass."""
    try:
        yield
    except (NumbaError, TraceError) as error:
        raise TraceError(_explanation(_plain(str(error)))) from error


def _plain(message: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m|Active\(\w+\)", lambda m: "Active" * (m[0][0] == "A"), message)


def _explanation(message: str) -> str:
    reason = next(filter(None, (_reason(message, *entry) for entry in _REASONS)), None)
    return f"{_place(message)}: {reason or message.strip()}"


def _reason(message: str, pattern: str, what: str, instead: str) -> str | None:
    found = re.search(pattern, message)
    return f"{what.format(**found.groupdict())}; {instead}" if found else None


def _place(message: str) -> str:
    for found in _PLACE.finditer(message):
        file, line = found["file"] or found["at"], int(found["line"] or found["of"])
        if not file.startswith(_FOREIGN):
            text = linecache.getline(file, line).strip()
            return f"{file}:{line}" + (f" in `{text}`" if text else "")
    return "in the recorded function"
