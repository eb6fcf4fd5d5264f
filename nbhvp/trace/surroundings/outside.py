"""Reads from outside the program: clocks, files, the environment, other processes.

These cannot be watched like the objects of the program. A clock gives a traced number that may be
printed and kept; the trace depends on it only if a result or a branch does. A cheap question whose
answer can be compared is asked again at each call. All other reads make the trace depend on hidden
state, as random numbers do, and so does the use of an object that cannot be watched, such as an
iterator or an open file. Hidden state is an error that names the line, unless the function is traced
at every call.
"""

from __future__ import annotations

import datetime
import functools
import json
import logging
import pathlib
import types
import warnings
from collections.abc import Callable

import numpy as np

from nbhvp.graph import primitives as p
from nbhvp.trace.arrays import Traced, traced, traced_in
from nbhvp.trace.kinds import FunctionStandin, LibraryObject, stands_for
from nbhvp.trace.recording import current
from nbhvp.trace.surroundings.closure import Watch, is_atom
from nbhvp.trace.surroundings.ownership import module_of
from nbhvp.trace.surroundings.texts import Text, note_reading, plain_text, text_of

__all__ = [
    "OutsideFunction",
    "Unwatched",
    "what_is_hidden",
]

_CLOCKS = frozenset(
    f"time.{name}{unit}"
    for name in ("time", "perf_counter", "monotonic", "process_time", "thread_time")
    for unit in ("", "_ns")
)
_QUESTIONS = (
    "os.getenv os.getcwd posix.getcwd posix.getpid posix.getppid posix.cpu_count os.cpu_count "
    "nt.getcwd nt.getpid nt.getppid nt.cpu_count genericpath.exists genericpath.isfile "
    "genericpath.isdir genericpath.getmtime genericpath.getsize genericpath.getctime "
    "genericpath.getatime posixpath.islink _thread.get_ident threading.get_ident "
    "threading.active_count sys.getrecursionlimit sys.getrefcount gc.isenabled "
    "socket.gethostname getpass.getuser platform.node"
)
_READS = (
    "io.open _io.open builtins.input builtins.breakpoint os.listdir posix.listdir posix.scandir "
    "posix.stat posix.lstat posix.read posix.open posix.popen os.popen posix.urandom posix.times "
    "posix.getloadavg posix.walk os.walk os.fdopen os.system posix.system nt.stat nt.listdir "
    "nt.urandom time.localtime time.gmtime time.ctime time.asctime time.strftime "
    "time.clock_gettime time.clock_gettime_ns datetime.now datetime.utcnow datetime.today date.today "
    "datetime.fromtimestamp uuid.uuid1 uuid.uuid4 numpy.load numpy.loadtxt numpy.genfromtxt "
    "numpy.fromfile numpy.memmap numpy.fromregex numpy.lib.format.open_memmap "
    "numpy.lib.format.read_array numpy.lib.npyio.DataSource scipy.sparse._matrix_io.load_npz "
    "pkgutil.get_data runpy.run_path xml.etree.ElementTree.parse "
    "inspect.stack gc.get_objects gc.get_referrers gc.get_referents gc.get_count "
    "resource.getrusage linecache.getline _tracemalloc.get_traced_memory numpy.geterr "
    "numpy.get_printoptions decimal.getcontext"
)
_OPENING = (
    "io.open _io.open codecs.open gzip.open gzip.GzipFile bz2.open bz2.BZ2File lzma.open "
    "lzma.LZMAFile zipfile.ZipFile tarfile.TarFile TarFile.open"
)
"""Functions of a file and a mode, which says whether the file is read."""
_MODULES = (
    "subprocess", "socket", "ssl", "urllib.request", "http.client", "requests", "tempfile", "glob",
    "fileinput", "sqlite3", "_sqlite3", "select", "shelve", "dbm", "mmap", "secrets", "psutil", "scipy.io",
    "scipy.datasets",
)  # fmt: skip
"""Modules, and packages, that are there to read from outside."""
_PARSERS = frozenset(
    ("decimal.Decimal", "fractions.Fraction", "json.loads", "ast.literal_eval", "_struct.unpack")
)
"""Functions that read numbers from strings."""
_KNOWN = _CLOCKS | {*_READS.split()} | {*_OPENING.split()} | {*_QUESTIONS.split()} | _PARSERS


def _name_of(function) -> str:
    owner = getattr(function, "__self__", None)
    module = module_of(function)
    if isinstance(owner, type):
        return f"{owner.__name__}.{function.__name__}"
    return f"{module}.{getattr(function, '__qualname__', '')}"


_CALLABLE = (
    types.FunctionType, types.BuiltinFunctionType, types.MethodType, type, type(np.sum),
)  # fmt: skip
_HOMES = frozenset(name.rpartition(".")[0] for name in _KNOWN) | {"", None}


@functools.cache
def _is_reading(module: str) -> bool:
    """Whether a module is there to read from outside."""
    return any(module == package or module.startswith(package + ".") for package in _MODULES)


def what_is_read(function) -> str | None:
    """The name of a function that reads from outside the program, or from strings, else None."""
    if not issubclass(type(function), _CALLABLE):
        return None
    module = getattr(function, "__module__", None)
    if module not in _HOMES and not (isinstance(module, str) and _is_reading(module)):
        return None  # at a glance
    name = _name_of(function)
    return name if name in _KNOWN or _is_reading(module_of(function)) else None


def what_is_hidden(function) -> str | None:
    """The name of a function that reads from outside, and not from its arguments."""
    name = what_is_read(function)
    return None if name in _PARSERS else name


class OutsideFunction(FunctionStandin):
    """The stand-in of a function that reads from outside the program, or from strings."""

    def __init__(self, function: Callable, name: str):
        self.function = function
        self.name = name

    def __call__(self, *args, **kwargs):
        recording, args = current(), tuple(map(_inside, args))
        if self.name in _PARSERS:
            note_reading(*args)
        result = self.function(*args, **kwargs)
        if recording.is_always or self.name in _PARSERS:
            return result
        if self.name in _CLOCKS:
            return _number(f"{self.name}()", result)
        if self.name in _QUESTIONS.split() and is_atom(result) and all(map(is_atom, args)):
            ask = functools.partial(self.function, *args, **kwargs)
            recording.sources.append(Watch(ask, result))
            return result
        if not self._is_write(args, kwargs):
            recording.hide(f"{self.name}()")
        return result

    def _is_write(self, args: tuple, kwargs: dict) -> bool:
        """Whether a file is written alone."""
        name = self.name.rpartition(".")[2]
        if _is_reading(module_of(self.function)):
            return "write" in name or name.startswith("save")
        is_method = isinstance(getattr(self.function, "__self__", None), pathlib.Path)
        if self.name not in _OPENING.split() and not (is_method and name == "open"):
            return False
        mode = kwargs.get("mode", (*args, "r", "r")[0 if is_method else 1])
        return isinstance(mode, str) and not {"r", "+"} & {*mode}

    def __getattr__(self, name: str):
        return getattr(self.function, name)

    def __repr__(self) -> str:
        return repr(self.function)


@stands_for(where=lambda function: what_is_read(function) is not None)
def _reading(standins, function) -> OutsideFunction:
    return OutsideFunction(function, what_is_read(function))


def _number(what: str, value: float) -> Traced:
    """A number from outside: what depends on it, the trace finds out at its end."""
    recording = current()
    name = f"outside{len(recording.outside)}"
    node = p.input_node(recording.pool, name, (), np.asarray(value).dtype)
    recording.outside[node] = recording.placed(what)
    return traced(node, value)


class OutsideClass(LibraryObject):
    """The stand-in of a class with methods that read from outside, or of an object of it."""

    def __getattr__(self, name: str):
        if name.startswith("__") or name == "original":
            raise AttributeError(name)
        value = getattr(self.original, name)
        if name in _READING_METHODS:
            return OutsideFunction(value, f"{self._name()}.{name}")
        return self._kept(value)

    def _name(self) -> str:
        kind = self.original if isinstance(self.original, type) else type(self.original)
        return kind.__name__

    def _kept(self, value):
        """A path stays what knows its methods."""
        if isinstance(value, pathlib.Path):
            return OutsideClass(value, self._standin)
        if callable(value) and not isinstance(value, type):
            return lambda *args, **kwargs: self._kept(value(*map(_inside, args), **kwargs))
        return value

    def __call__(self, *args, **kwargs):
        return self._kept(self.original(*map(_inside, args), **kwargs))

    def __truediv__(self, other):
        return self._kept(self.original / _inside(other))

    def __rtruediv__(self, other):
        return self._kept(other / self.original)

    def __fspath__(self) -> str:
        return self.original.__fspath__()

    def __str__(self) -> str:
        return str(self.original)

    def __hash__(self) -> int:
        return hash(self.original)

    def __eq__(self, other) -> bool:
        return self.original == _inside(other)

    def __lt__(self, other) -> bool:
        return self.original < _inside(other)


@stands_for(pathlib.Path, objects=(datetime.date, datetime.datetime, pathlib.Path))
def _with_reading_methods(standins, value) -> OutsideClass:
    return OutsideClass(value, standins.of)


_READING_METHODS = (
    "now", "utcnow", "today", "fromtimestamp", "cwd", "home", "read_text", "read_bytes", "open",
    "stat", "lstat", "exists", "is_file", "is_dir", "iterdir", "glob", "rglob", "walk",
)  # fmt: skip


def _inside(value):
    return value.original if isinstance(value, OutsideClass) else value


# Objects that cannot be watched.


class Unwatched(LibraryObject):
    """The stand-in of an object that cannot be watched: to use it is to depend on hidden state.

    To write to a file is not to use it, nor is to open, lock or close something.
    """

    def __init__(self, original, reason: str):
        super().__init__(original, None)
        self._reason = reason

    def used(self):
        """The object itself, whose use is noted."""
        current().hide(self._reason)
        return self.original

    def __getattr__(self, name: str):
        return getattr(self.original if name in _HARMLESS else self.used(), name)

    def __bool__(self) -> bool:
        kind = type(self.original)
        is_plain = not hasattr(kind, "__bool__") and not hasattr(kind, "__len__")
        return is_plain or bool(self.used())

    def __hash__(self) -> int:
        return hash(self.original)

    def __eq__(self, other) -> bool:
        return self.original is other or self is other or bool(self.used() == other)

    def __enter__(self):
        self.original.__enter__()
        return self

    def __exit__(self, *error):
        return self.original.__exit__(*error)


_HARMLESS = ("write", "writelines", "flush", "close", "closed", "acquire", "release", "name")


def _used(name: str) -> Callable:
    def method(self, *args, **kwargs):
        kind = type(self.original)
        if not hasattr(kind, name):
            raise TypeError(f"an object of type {kind.__name__!r} has no {name}")
        return getattr(self.used(), name)(*args, **kwargs)

    return method


_USES = (
    "call iter next len getitem contains reversed float int index complex array str repr format "
    "add radd sub rsub mul rmul truediv rtruediv pow rpow neg matmul rmatmul lt le gt ge"
)
for _name in _USES.split():
    setattr(Unwatched, f"__{_name}__", _used(f"__{_name}__"))


# Where numbers are told, and never come back from.


class Teller(LibraryObject):
    """The stand-in of what is told numbers: it gets those at the traced point."""

    def __init__(self, original):
        super().__init__(original, None)

    def __call__(self, *args, **kwargs):
        is_live = any(True for _ in traced_in(args, kwargs))
        result = self.original(*told(args), **told(kwargs))
        return text_of(result) if is_live and isinstance(result, str) else result

    def __getattr__(self, name: str):
        value = getattr(self.original, name)
        return Teller(value) if callable(value) else value


def _is_logging(value) -> bool:
    return type(value) is types.FunctionType and module_of(value) == "logging"


@stands_for(
    logging.Logger,
    logging.LoggerAdapter,
    objects=(print, warnings.warn, json.dump, json.dumps),
    where=_is_logging,
)
def _teller(standins, value) -> Teller:
    return Teller(value)


def told(value):
    """Values in the place of stand-ins, in lists, tuples and dicts."""
    if isinstance(value, Traced):
        return value.value
    if isinstance(value, LibraryObject):
        return value.original
    if isinstance(value, Text):
        return plain_text(value)
    if type(value) in (list, tuple):
        return type(value)(map(told, value))
    return {key: told(item) for key, item in value.items()} if type(value) is dict else value
