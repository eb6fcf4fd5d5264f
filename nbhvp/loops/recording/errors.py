"""Translates Numba's typing errors: the user's file and line, the cause, and the change to make.

Input: Numba's error, a chain of failures with the innermost first. Output: a TraceError for the first
line in this chain that is neither in Numba nor in this package.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import numba
from numba.core.errors import NumbaError, UnsupportedBytecodeError

from nbhvp import version
from nbhvp.errors import TraceError
from nbhvp.trace.places import line_of

__all__ = ["explained", "refusal"]

_PLACE = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)|at (?P<at>/\S+) \((?P<of>\d+)\)')
_FOREIGN = tuple(str(Path(file).resolve().parent) for file in (numba.__file__, version.__file__))

_REASONS = (
    (
        r"assignment to attribute (?P<name>\w+) of an instance from outside",
        "the attribute .{name} of an instance from outside is assigned",
        "return what it would hold",
    ),
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
        r"No implementation of function Function\(<(?:built-in )?\w+ '?(?P<name>[\w.]+)",
        "{name} of traced values cannot be recorded",
        "write it out in arithmetic on elements and functions of math, or call it in a function of "
        "NumPy that calls the loops",
    ),
    (
        r"ExternalFunctionPointer|Active cannot be represented|No conversion from Active",
        "a function is called whose Python source is not there",
        "write it as a function that numba compiles",
    ),
    (
        r"Untyped global name '(?P<name>\w+)'",
        "{name} is nothing that compiled code may use",
        "pass it as an argument, or what is needed of it",
    ),
    (
        r"Unknown attribute '(?P<name>\w+)'",
        "the attribute .{name} of traced values cannot be recorded",
        "write it out in arithmetic on elements and functions of math",
    ),
    (
        r"Use of unsupported opcode \((?P<name>\w+)\)",
        "numba does not know the instruction {name}",
        "write it in what numba compiles",
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
    except TraceError as error:
        error.args = (re.sub(r"^(Failed in .*\n)+", "", str(error)),)
        raise
    except (NumbaError, UnsupportedBytecodeError) as error:
        raise TraceError(_explanation(_plain(str(error)))) from error


def refusal(file: str, line: int, what: str, instead: str) -> TraceError:
    """The error for a line that cannot be recorded."""
    return TraceError(f"{line_of(file, line)}: {what}; {instead}")


def _plain(message: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m|Active\(\w+\)", lambda m: "Active" * (m[0][0] == "A"), message)


def _explanation(message: str) -> str:
    reason = next(filter(None, (_reason(message, *entry) for entry in _REASONS)), None)
    first = re.sub(r"^(Failed in .*\n)+", "", message)
    first = re.split(r"\n\n|\nDuring:", first)[0].strip()
    return f"{_place(message)}: {reason or first}"


def _reason(message: str, pattern: str, what: str, instead: str) -> str | None:
    found = re.search(pattern, message)
    return f"{what.format(**found.groupdict())}; {instead}" if found else None


def _place(message: str) -> str:
    for found in _PLACE.finditer(message):
        file = str(Path(found["file"] or found["at"]).resolve())
        if not (found["file"] or "").startswith("<") and not file.startswith(_FOREIGN):
            return line_of(file, int(found["line"] or found["of"]))
    return "in the recorded function"
