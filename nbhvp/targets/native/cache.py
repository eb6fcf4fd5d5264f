"""Kernels from source text, compiled once and kept on disk.

`lower` translates a text for LLVM; Numba, which takes ten times as long and is imported only for this,
compiles the texts that `lower` does not translate. A kernel's file (`nbhvp.disk`) records which of
the two made it, and holds its object code. It is named by a hash of everything that the code depends
on: its text, the text of every module of this package that has a part in it, the versions and the
processor. If the folder cannot be written, kernels are compiled in memory. `plain` runs the same text
as plain Python.
"""

import builtins
import contextlib
import functools
import hashlib
import importlib
import importlib.util
import operator
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field
from types import MappingProxyType, SimpleNamespace

import numpy as np

from nbhvp import disk
from nbhvp.targets.native import forks, machine, threads  # noqa: F401  a fork has new locks of compilers
from nbhvp.targets.native.machine import Effort
from nbhvp.version import __version__

COMPILERS = "nbhvp.targets.lowering.lower", "nbhvp.targets.native.machine"
"""The modules that translate texts, and that compile them."""


class Address(int):
    """An address in this process, which is pickled as the way to it in another process."""

    origin: tuple[str, str]
    """The module of Cython's and the name of a function there; or "" and the name of a kernel's file."""

    @classmethod
    def of(cls, address: int, *origin: str) -> "Address":
        """The address of what is found so."""
        made = cls(address)
        made.origin = origin
        return made

    def __reduce__(self) -> tuple:
        return address_of, self.origin


class Missing(Exception):
    """A kernel that is not on the disk."""


def address_of(module: str, name: str) -> Address:
    """The address of a function that a module of Cython's exports, or of a kernel, by its file.

    Raises
    ------
    Missing
        If the kernel is not on the disk.
    """
    if module:
        exported = importlib.import_module(module).__pyx_capi__
        return Address.of(machine.address_in(exported[name]), module, name)
    return Address.of(_reloaded(name), "", name)


def _reloaded(name: str) -> int:
    """A kernel from the disk, counted unless this process has it."""
    with _lock:
        if not machine.is_linked(name):
            start = time.perf_counter()
            content = disk.read(disk.path_of(name))
            if content is None or content[:1] not in _MAKERS:
                raise Missing(name)
            _link(name, content)
            _count(False, _MAKERS[content[:1]], start)
        return machine.link(name, b"")


@dataclass(frozen=True)
class Kernel:
    """A kernel in this process. Its address is good as long as the process lives."""

    name: str
    address: Address
    source: str = field(repr=False)
    compiled: bool  # False if it came from the disk
    by_numba: bool  # its text says more than `lower` knows


@dataclass(frozen=True)
class Counts:
    """Kernels compiled, loaded from the disk, those of both that are numba's, and the seconds of all."""

    compiled: int = 0
    loaded: int = 0
    by_numba: int = 0
    seconds: float = 0.0
    on_host: int = 0
    """Steps of a GPU's program that NumPy computes on the host."""
    by_library: int = 0
    """And those that CuPy computes."""

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*map(operator.add, astuple(self), astuple(other)))

    def __sub__(self, earlier: "Counts") -> "Counts":
        return Counts(*map(operator.sub, astuple(self), astuple(earlier)))


Codes = Mapping[tuple[str, Effort], bytes]
"""Object codes of texts that no kernel of this process has."""


class _Tally(threading.local):
    counts = Counts()


_kernels: dict[tuple[str, Effort], Kernel] = {}  # by source, and how much LLVM was asked for
_tally = _Tally()
_lock = threading.Lock()


def counts() -> Counts:
    """What `load` has done in this thread up to now."""
    return _tally.counts


def load(source: str, effort: Effort = Effort.FULL, known: Codes = MappingProxyType({})) -> Kernel:
    """The kernel that `source` defines: from memory, from disk, or compiled.

    LLVM is asked for so much `effort`, unless the object code is among those that are `known`.
    """
    key = source, effort
    if key not in _kernels:
        with _lock:
            if key not in _kernels:
                start = time.perf_counter()
                name = _file_name(source, effort)
                kernel = _kernels[key] = _load(name, source, effort, known)
                _count(kernel.compiled, kernel.by_numba, start)
    return _kernels[key]


def _count(is_compiled: bool, by_numba: bool, start: float) -> None:
    """Count one kernel more, whose making began at a time."""
    seconds = time.perf_counter() - start
    _tally.counts += Counts(is_compiled, not is_compiled, by_numba, seconds)


def compiled_at_once(
    texts: Iterable[tuple[str, Effort]], progress: Callable[[int, int], None]
) -> Codes:
    """The object codes of those texts that are to be compiled, if there are several."""
    if machine.threads() == 1:
        return {}
    missing = [key for key in texts if not is_known(*key)]
    if len(missing) < 2:
        return {}
    start, found, codes = time.perf_counter(), [], []
    with contextlib.suppress(RuntimeError):  # no thread can be started, or `load` will raise it too
        codes = threads.object_codes(_passes(missing, found, progress))
    _tally.counts += Counts(seconds=time.perf_counter() - start)
    return dict(zip(found, codes, strict=True)) if codes else {}


def _passes(texts, found, progress) -> Iterator[Callable[[int], machine.Passes]]:
    """LLVM's passes over each text that `lower` translates, which is added to those that are found."""
    from nbhvp.targets.lowering import lower

    for k, (source, effort) in enumerate(texts):
        progress(k, len(texts))
        name = _file_name(source, effort)
        with contextlib.suppress(lower.Unknown):
            text = lower.lowered(source, name, machine.target(), machine.has_masks())
            found.append((source, effort))
            yield functools.partial(machine.passes, text, _is_straight(source), effort)


def is_known(source: str, effort: Effort = Effort.FULL) -> bool:
    """Whether `load` has nothing to compile."""
    return (source, effort) in _kernels or disk.path_of(_file_name(source, effort)).exists()


def _file_name(source: str, effort: Effort) -> str:
    return _named(source + effort.name * bool(effort), _stamp_of(*_OURS.findall(source)))


def digest(source: str, inlined: dict[str, str]) -> str:
    """The name of a kernel's file, without its ending."""
    return _named(source, _stamp(inlined))


def _named(source: str, stamp: str) -> str:
    return f"kernel_{_hash(source, stamp, __version__, *machine.platform())[:40]}"


def _stamp(inlined: dict[str, str]) -> str:
    return _hash(*(part for item in sorted(inlined.items()) for part in item))


@functools.cache
def _stamp_of(*imports: str) -> str:
    """The stamp of texts with these lines: kernels have the same."""
    return _stamp(inlined("\n".join(imports)))


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


_OURS = re.compile(r"^from nbhvp.*", re.MULTILINE)
"""The lines that name modules of ours."""


def inlined(source: str) -> dict[str, str]:
    """The text of each module of ours that a kernel's code is made from."""
    texts = {}
    pending = [*_imports(source), *COMPILERS]
    while pending:
        module = pending.pop()
        if module not in texts:
            texts[module] = _text(module)
            pending += _imports(texts[module])
    return texts


def compiled(source: str, name: str = "kernel", effort: Effort = Effort.FULL) -> machine.Compiled:
    """The kernel that `source` defines, compiled again, to look at; its code calls it `name`."""
    from nbhvp.targets.lowering import lower

    try:
        text = lower.lowered(source, name, machine.target(), machine.has_masks())
    except lower.Unknown:
        return compiled_by_numba(source, name)
    return machine.optimised(name, text, _is_straight(source), effort)


def _is_straight(source: str) -> bool:
    return "@straight_kernel" in source


def compiled_by_numba(source: str, name: str = "kernel") -> machine.Compiled:
    """The same by numba, whatever the source says."""
    namespace = {"__name__": name}
    exec(compile(source, f"<{name}>", "exec"), namespace)
    return namespace[_name(source)]


def _imports(source):
    """The modules of ours that a text imports, or imports names from."""
    found = []
    for module, names in re.findall(r"^from (nbhvp[\w.]*) import ([\w, ]*)", source, re.MULTILINE):
        spec = importlib.util.find_spec(module)
        found.append(module)
        if spec is not None and spec.submodule_search_locations is not None:
            modules = [f"{module}.{name.split()[0]}" for name in names.split(",") if name.strip()]
            found += filter(importlib.util.find_spec, modules)
    return found


@functools.cache
def _text(module):
    return importlib.util.find_spec(module).loader.get_source(module)


_MAKERS = {b"L": False, b"N": True}
"""The first byte of a file's content: whether numba has made the code that follows."""


def _load(name, source, effort, known):
    path = disk.path_of(name)
    content = disk.read(path)
    is_compiled = content is None or content[:1] not in _MAKERS
    if is_compiled:
        code = known.get((source, effort))
        if code is None:
            made = compiled(source, name, effort)
            content = (b"N" if made.by_numba else b"L") + made.object_code
        else:
            content = b"L" + code
        disk.write(path, content)
    address = Address.of(_link(name, content), "", name)
    return Kernel(_name(source), address, source, is_compiled, _MAKERS[content[:1]])


def _link(name: str, content: bytes) -> int:
    if _MAKERS[content[:1]]:
        machine.know_numbas_functions()
    return machine.link(name, content[1:])


def load_entries(module: str, arguments: Mapping[str, str]) -> dict[str, int]:
    """The addresses of functions of a module of ours, as Python calls them; see `lowered_entries`."""
    with _lock:
        prefix = _prefix(module, *arguments.items())
        path = disk.path_of(prefix)
        code = disk.read(path)
        if code is None:
            from nbhvp.targets.lowering.lower import lowered_entries

            functions = importlib.import_module(module)
            text = lowered_entries(functions, arguments, prefix, machine.target())
            code = machine.optimised(prefix, text, effort=Effort.LITTLE).object_code
            disk.write(path, code)
        addresses = machine.link_all([f"{prefix} {name}" for name in arguments], code)
        return dict(zip(arguments, addresses, strict=True))


def has_entries(module: str, arguments: Mapping[str, str]) -> bool:
    """Whether the code of these functions is on the disk."""
    return disk.path_of(_prefix(module, *arguments.items())).exists()


@functools.cache
def _prefix(module, *arguments):
    return digest(repr(arguments), inlined(f"from {module} import"))


def _name(source):
    return re.search(r"^@\w*kernel\ndef (\w+)\(", source, re.MULTILINE)[1]


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


PLAIN = SimpleNamespace(
    kernel=lambda function: function,
    straight_kernel=lambda function: function,
    reads=lambda table, k, code: _window(table, k, code, writable=False),
    writes=lambda table, k, code: _window(table, k, code, writable=True),
    integer=lambda table, k: operator.index(table[k]),
    real=lambda table, k, code: np.dtype(code).type(table[k]),
    cplx=lambda table, k, code: np.dtype(code).type(complex(table[k], table[k + 1])),
    function=lambda table, k: table[k],
    call=lambda f, *xs: f(*xs),
    output=lambda f, x, k, count: f(x)[k],
    cast=lambda x, code: np.dtype(code).type(x),
    add_reassoc=operator.add,
    times=operator.mul,
    stream=operator.setitem,
)


def plain(source: str) -> Callable:
    """The kernel as a Python function of a list, in which Windows stand for pointers.

    It reads and writes only inside the arrays, or raises AssertionError.
    """

    def replaced(name, *rest):
        return (
            PLAIN if name == "nbhvp.targets.native.language" else builtins.__import__(name, *rest)
        )

    namespace = {"__builtins__": {**vars(builtins), "__import__": replaced}}
    exec(compile(source, "<plain>", "exec"), namespace)
    return namespace[_name(source)]
