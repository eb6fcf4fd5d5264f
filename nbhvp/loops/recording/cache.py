"""Recorders on disk: machine code of a function for active numbers, kept for later processes.

Numba compiles the entry of a recorder, with all functions that it calls, into one object without
addresses. Its file (`nbhvp.disk`) is named by a hash of everything that the code depends on: source,
globals and cells of the user's functions, types of the arguments, sources of this package, layout of
the tape and the table, versions and processor. Numba's own cache is not used, because it tests only
the source file of the outermost function.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
import platform
from pathlib import Path

import llvmlite
import numba
import numpy as np
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from nbhvp import disk
from nbhvp.errors import pass_on_interrupt
from nbhvp.loops.overloads.active import LAYOUT
from nbhvp.loops.overloads.libraries import unresolved
from nbhvp.version import __version__

__all__ = ["RecorderCache"]


@functools.cache
def _ours() -> str:
    """A hash of our sources, of the table and of versions."""
    texts = [path.read_bytes() for path in _sources()]
    versions = [__version__, *(module.__version__ for module in (numba, llvmlite, np))]
    names = [platform.python_version(), LAYOUT, *versions]
    return hashlib.sha256(b"\0".join([*texts, *map(str.encode, names)])).hexdigest()


def _sources() -> list[Path]:
    """Of this part of the package, whose functions are compiled into recorders."""
    return sorted(Path(__file__).parents[1].rglob("*.py"))


class RecorderCache:
    """What a dispatcher of numba's asks for compiled code, and gives it to."""

    def __init__(self, digest: str):
        """`digest` is a hash of what the user's function is compiled from."""
        self._digest = digest

    def load_overload(self, sig, target_context) -> CompileResult | None:
        target_context.refresh()
        data = disk.read(self._path(sig, target_context.codegen()))
        if data is None:
            return None
        try:
            return CompileResult._rebuild(target_context, *pickle.loads(data))
        except ImportError:  # of a function of no module, as in an interactive session
            return None

    def save_overload(self, sig, result: CompileResult) -> None:
        if not _has_addresses(result.library):
            pass_on_interrupt(result.library)
            disk.write(self._path(sig, result.codegen), dumps(result._reduce()))

    def _path(self, sig, codegen) -> Path:
        parts = (_ours(), self._digest, str(sig), str(codegen.magic_tuple()))
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        return disk.path_of("kernel_recorder_" + digest[:40])


def _has_addresses(library) -> bool:
    """Whether large arrays are in the code by address, or recursive calls that numba links later."""
    return library.has_dynamic_globals or bool(unresolved(library._final_module))
