"""Kernels from source text, compiled once and kept on disk.

A kernel's file is named by a hash of all that its machine code depends on: its text, the text of
every module of ours that it imports from (numba inlines them, but its own cache does not look at
them), the versions, and the processor. So a file never changes once it is there, a stale one is
never looked at, and processes that write the same file at once write the same bytes.

The folder is `NBHVP_CACHE_DIR`, else `nbhvp` in the platform's folder for caches. Where it cannot
be written, kernels are compiled in memory. `plain` runs the same text as plain Python.
"""

import builtins
import functools
import hashlib
import importlib.util
import operator
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np
from numba.core.registry import cpu_target

import nbhvp
from nbhvp.compile import language


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel. Its address is good for as long as it lives."""

    name: str
    address: int
    source: str = field(repr=False)
    compiled: bool  # False if it came from the disk
    function: object = field(repr=False)  # numba's cfunc, which owns the machine code


@dataclass(frozen=True)
class Counts:
    """What `load` has done in this process: kernels compiled and loaded, and the time it took."""

    compiled: int = 0
    loaded: int = 0
    seconds: float = 0.0


_kernels: dict[str, Kernel] = {}  # by source
_counts = Counts()
_lock = threading.Lock()


def counts() -> Counts:
    """The counts of this process up to now."""
    return _counts


def load(source: str) -> Kernel:
    """The kernel that `source` defines: from memory, from disk, or compiled."""
    global _counts
    if source not in _kernels:
        with _lock:
            if source not in _kernels:
                start = time.perf_counter()
                kernel = _kernels[source] = _load(digest(source, inlined(source)), source)
                _counts = Counts(
                    _counts.compiled + kernel.compiled,
                    _counts.loaded + (not kernel.compiled),
                    _counts.seconds + time.perf_counter() - start,
                )
    return _kernels[source]


def digest(source: str, inlined: dict[str, str]) -> str:
    """The name of a kernel's file, without its ending."""
    platform = repr(cpu_target.target_context.codegen().magic_tuple())
    versions = getattr(nbhvp, "__version__", ""), numba.__version__, platform
    texts = [source, *versions, *(part for item in sorted(inlined.items()) for part in item)]
    return "kernel_" + hashlib.sha256("\0".join(texts).encode()).hexdigest()[:40]


def inlined(source: str) -> dict[str, str]:
    """The text of each module of ours that a source imports from, directly or not."""
    texts = {}
    pending = _imports(source)
    while pending:
        module = pending.pop()
        if module not in texts:
            texts[module] = _text(module)
            pending += _imports(texts[module])
    return texts


def _imports(source):
    return re.findall(r"^from (nbhvp[\w.]*) import", source, re.MULTILINE)


@functools.cache
def _text(module):
    return importlib.util.find_spec(module).loader.get_source(module)


def folder() -> Path:
    """Where the files are."""
    if "NBHVP_CACHE_DIR" in os.environ:
        return Path(os.environ["NBHVP_CACHE_DIR"])
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "nbhvp"


def _load(name, source):
    path = folder() / f"{name}.py"
    try:
        _write(path, source)
    except OSError:
        path = Path(f"<{path.name}>")
    try:
        function = _define(path, source)
    except Exception:
        # What numba stored may be truncated. If the fault is the source's, it shows again.
        for place in filter(None, (path.parent, numba.config.CACHE_DIR)):
            for stored in Path(place).glob(f"*/{name}.*"):
                stored.unlink(missing_ok=True)
        function = _define(path, source)
    return Kernel(function.__name__, function.address, source, not function.cache_hits, function)


def _write(path, source):
    """Put a file in place in one go, unless it is there, whole."""
    text = source.encode()
    try:
        if path.read_bytes() == text:
            return
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
        # numba compares times: the same content must have the same time, whoever wrote it.
        os.utime(temporary, (0, 0))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _define(path, source):
    # Loading, numba imports the module that a function says it is from.
    namespace = {"__name__": language.__name__, "__file__": str(path)}
    exec(compile(source, str(path), "exec"), namespace)
    return namespace[_name(source)]


def _name(source):
    return re.search(r"^@kernel\ndef (\w+)\(", source, re.MULTILINE)[1]


def _new_lock():
    # Another thread may have held the lock when a child was forked.
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


# --- the same text as plain Python ----------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """What a table holds in place of a pointer: the array, and the element that it points to."""

    array: np.ndarray
    offset: int = 0
    writable: bool = True

    def __getitem__(self, index):
        return self.array[self._inside(index)]

    def __setitem__(self, index, x):
        assert self.writable, "a kernel stores through a pointer that it declares as read"
        self.array[self._inside(index)] = x

    def _inside(self, index):
        at = operator.index(index) + self.offset
        assert 0 <= at < self.array.size, f"element {at} of {self.array.size}"
        return at


def _window(table, k, code, writable):
    window = table[k]
    assert window.array.dtype == np.dtype(code), f"slot {k}: {code}, not {window.array.dtype}"
    return Window(window.array, window.offset, writable)


_PLAIN = SimpleNamespace(
    kernel=lambda function: function,
    reads=lambda table, k, code: _window(table, k, code, writable=False),
    writes=lambda table, k, code: _window(table, k, code, writable=True),
    integer=lambda table, k: operator.index(table[k]),
    real=lambda table, k, code: np.dtype(code).type(table[k]),
    cplx=lambda table, k, code: np.dtype(code).type(complex(table[k], table[k + 1])),
    function=lambda table, k: table[k],
    call=lambda f, *xs: f(*xs),
    cast=lambda x, code: np.dtype(code).type(x),
    add_reassoc=operator.add,
)


def plain(source: str) -> Callable:
    """The kernel as a Python function of a list, in which Windows stand for pointers.

    It reads and writes only inside the arrays, or raises AssertionError.
    """

    def replaced(name, *rest):
        return _PLAIN if name == "nbhvp.compile.language" else builtins.__import__(name, *rest)

    namespace = {"__builtins__": {**vars(builtins), "__import__": replaced}}
    exec(compile(source, "<plain>", "exec"), namespace)
    return namespace[_name(source)]
