"""The trace that is being recorded: its nodes, its guards, and the errors that end it.

There is one recording per run of a function and per thread. It owns the pool of nodes, knows which
nodes depend on an input, and keeps one copy of each plain array that enters as a constant. It adds the
user's file and line to every `TraceError`; no other module does.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple, Self

import numpy as np

from nbhvp.errors import TraceError
from nbhvp.graph import primitives as p
from nbhvp.graph.node import LIVE, Node, Pool
from nbhvp.graph.requests import Requests, settled
from nbhvp.graph.time.log import Log
from nbhvp.trace.places import line_of, names_a_line, present_place, user_line
from nbhvp.trace.surroundings.aliases import SHARED_MEMORY, Aliases, share_memory

__all__ = [
    "STANDS_AROUND",
    "TAPE_LIMIT",
    "LinedPool",
    "Note",
    "Recording",
    "current",
    "place_of",
    "present",
    "source_of",
    "trace_error",
    "user_line",
]

TAPE_LIMIT = 1 << 32
"""Bytes."""
MANY_SCALARS = 3000
"""Operations on single numbers: if compiling is predicted to take long, this is where."""

_CURRENT: ContextVar[Recording | None] = ContextVar("recording", default=None)


class Note(NamedTuple):
    """What is to be told of a line of the user's."""

    text: str
    file: str
    line: int


class Recording:
    """What one run of a function records: its nodes, and guards for the branches that it took.

    Parameters
    ----------
    pool : Pool, optional
        Where the nodes go, if not into a pool of their own.
    loops : bool, optional
        Whether compiled functions are run for their tape, or followed through their Python source;
        None tells by whether they loop.
    tape_limit : int
        Bytes that a tape may take.
    always : bool
        Whether the function is traced at every call.
    """

    def __init__(
        self,
        pool: Pool | None = None,
        loops: bool | None = None,
        tape_limit: int = TAPE_LIMIT,
        always: bool = False,
    ) -> None:
        self.pool = pool or Requests()
        self.log: Log | None = None
        """The operations on numbers, in a pool of requests."""
        if isinstance(self.pool, Requests):
            self.log = Log(self.pool)
            self.pool.expand = self.log.expand
        self.loops = loops
        self.tape_limit = tape_limit
        self.is_always = always
        self.variables: list[Node] = []
        """What is differentiated in: the input x, and those of derivatives inside the function."""
        self.values: dict[Node, Any] = {}
        """Nodes whose values are known: inputs, variables, and results of derivatives inside."""
        self.loop_calls: list[Any] = []
        """The calls of compiled functions that were recorded by loops."""
        self.sources: list[Any] = []
        """What else compiled functions read: watches."""
        self.elements: dict[tuple[Node, int], Any] = {}
        """Numbers that are elements of arrays."""
        self.patterns: dict[Any, Any] = {}
        """What calls of a form do, or how often they were met (`repeated`)."""
        self.guards: dict[Node, Any] = {}
        self.places: dict[Node, tuple[str, int]] = {}
        """File and line where each guard was met first."""
        self.equalities: dict[Node, bool] = {}
        """Whether a comparison of numbers found some of them equal."""
        self.conditions: dict[Node, tuple[str, int]] = {}
        """What holds as long as no exception is raised, or stays finite, and where: one guard."""
        self.catches = False
        """Whether code that is followed may catch exceptions."""
        self.divides_by_python = False
        """Whether numbers are divided as in code that Numba compiles: by 0, that is an exception."""
        self.unguarded: tuple[BaseException, tuple[str, int]] | None = None
        """An exception that depends on values as no guard can tell, and where it was raised."""
        self.follow: Callable
        """What follows a function of a library, of its arguments, through its source."""
        self.watch: Callable | None = None
        """What applies primitives where NumPy may raise or warn."""
        self.filters = warnings.filters
        """Python's filters of warnings outside the trace: a list that is replaced, not changed."""
        self.error_state: dict[str, Any] = np.geterr()
        """What NumPy does about floating-point errors outside the trace."""
        self.errors: list[TraceError] = []
        """Those that were made, whether or not code that is followed has caught them."""
        self._refused: tuple[TraceError, str] | None = None
        """The latest refusal to give plain numbers, and its line."""
        self.hidden_state: str | None = None
        self._tokens: list = []
        """Where the function drew on state outside its arguments, such as a random generator."""
        self.asks_identity = False
        """Whether the code asks if a boolean is True itself: comparisons of numbers are guards."""
        self.texts: list[str] = []
        """Texts that show values that depend on an input."""
        self.outside: dict[Node, str] = {}
        """Numbers from outside the program, with what gave them and where."""
        self.is_closed = False
        """Whether the trace is made: nodes may be added, for derivative rules, but no guards."""
        self.plain_arrays: dict[int, np.ndarray] = {}
        """The arrays from outside the trace that became constants on the way."""
        self.inputs: list[np.ndarray] = []
        """x and the arguments, as the caller has them."""
        self.held: list[np.ndarray] = []
        """The arrays that the function closes over, those in `plain_arrays` aside."""
        self.notes: dict[Note, None] = {}
        """What the function does at the trace alone."""
        self._written: dict[int, None] = {}
        self._scratch: list[np.ndarray] = []
        self.generators: list[Any] = []
        """The stand-ins of generators of random numbers."""
        self._scalars = 0
        self.unrolled: tuple[str, int] | None = None
        """Where the operation on single numbers was that made them many: in a loop over elements."""
        self._contents: dict[tuple, np.ndarray] = {}

    def is_live(self, node: Node) -> bool:
        """Whether a node depends on an input."""
        return self.pool.is_live(node)

    @contextlib.contextmanager
    def differentiating(self, node: Node, value: np.ndarray) -> Iterator[Node]:
        """A variable with the value of a node, for a derivative inside.

        It is live, though the node may be constant.
        """
        with self.pool.settling():
            variable = p.variable(settled(node), level=len(self.variables))
        variable.life = LIVE
        self.values[variable] = value
        self.variables.append(variable)
        try:
            yield variable
        finally:
            self.variables.pop()

    def guard(self, node: Node, value, place: tuple[str, int] | None = None) -> None:
        """The trace holds only where a node has this value; the place is where it is now."""
        if node not in self.guards:
            if self.is_closed:
                raise trace_error("a branch is taken on a value", "use np.where")
            self.guards[node] = value
            self.places[node] = place or present_place()

    def condition(self, node: Node) -> None:
        """Without this condition, which holds, an exception would be raised."""
        if node not in self.conditions:
            self.conditions[node] = present_place()

    def leave_unguarded(self, error: Exception, place: tuple[str, int] | None = None) -> None:
        """No guard tells where an exception is raised: the function must not catch it."""
        self.unguarded = error, place or present_place()

    def watch_errors(self, watched: Callable) -> None:
        """NumPy's floating-point errors are as they were outside, for the function asks for them."""
        if self.watch is None:
            self.watch = watched
            _open(self)
            np.seterr(**self.error_state)

    def count_scalar(self) -> None:
        """Count an operation on single numbers; many of them are a loop over elements."""
        self._scalars += 1
        if self._scalars == MANY_SCALARS:
            self.see_many()

    def see_many(self) -> None:
        """Note the place of an operation that makes those on single numbers many."""
        self.unrolled = self.unrolled or present_place()

    def hold(self, array: np.ndarray) -> None:
        """An array that the function closes over is read."""
        written = (*(self.inputs[k] for k in self._written), *self._scratch)
        if any(share_memory(array, other) for other in written):
            raise trace_error(SHARED_MEMORY, "give copies")
        self.held.append(array)

    def write_input(self, k: int) -> None:
        """An input is written, on a copy: which no other array may show."""
        if k in self._written:
            return
        self._written[k] = None
        if k > 0:
            self.note(
                "the function writes into an array that it is given as an argument: this happens "
                "within the trace alone, and the caller's array keeps its numbers. Return the new "
                "ones, or write into a copy"
            )
        self._check_aliases()

    def write_held(self, array: np.ndarray) -> None:
        """An array that the function closes over is written, on a copy, like an input."""
        if any(array is known for known in self._scratch):
            return
        self._scratch.append(array)
        self.note(
            "a compiled function writes into an array that is made outside: this happens within "
            "the trace alone, and that array keeps its numbers. Return the new ones, or make the "
            "array inside"
        )
        self._check_aliases()

    def _check_aliases(self) -> None:
        aliases = self.aliases()
        if aliases is not None and not aliases.allow(self.inputs):
            raise trace_error(SHARED_MEMORY, "give copies")

    def aliases(self) -> Aliases | None:
        """What must not be seen elsewhere of the arrays that were written; None if nothing can."""
        held = (*self.held, *self.plain_arrays.values())
        is_written = self._written or self._scratch
        if not is_written or len(self.inputs) + len(held) < 2:
            return None
        return Aliases(tuple(self._written), held, tuple(self._scratch))

    def draw(self, name: str, place: tuple[str, int] | None = None) -> None:
        """Random numbers are drawn that are others at each call; the place is where it is now."""
        self.hide(f"random numbers, drawn by {name}", place)

    def see_draws(self) -> None:
        """Note which generators have given numbers to code that is not followed."""
        if self.hidden_state is None:
            drawn = next((str(source) for source in self.generators if source.has_drawn()), None)
            self.hidden_state = (
                drawn and f"random numbers, drawn from {drawn} in code that is not followed"
            )
        self.generators.clear()

    def note(self, text: str, place: tuple[str, int] | None = None) -> None:
        """Tell the user of what happens at the trace alone; the place is where it is now."""
        self.notes[Note(text, *(place or present_place()))] = None

    def hide(self, what: str, place: tuple[str, int] | None = None) -> None:
        """Note that the function depends on what no guard can see, here or at a place."""
        if self.hidden_state is None:
            self.hidden_state = self.placed(what, place)

    def placed(self, what: str, place: tuple[str, int] | None = None) -> str:
        """A text with a place in the user's code, where it is now if none is given."""
        return f"{what} at {line_of(*(place or present_place()))}"

    def snapshot(self, array: np.ndarray) -> np.ndarray:
        """The present content of a plain array, which may change; one copy for equal contents."""
        content = hashlib.blake2b(np.ascontiguousarray(array)).digest()
        key = (array.shape, array.dtype, content)
        if key not in self._contents:
            copy = np.array(array)
            copy.flags.writeable = False
            self._contents[key] = copy
        return self._contents[key]

    def __enter__(self) -> Self:
        _open(_CURRENT.get(), False)
        self._tokens.append(_CURRENT.set(self))  # a rule may run within a rule
        _open(self)
        return self

    def __exit__(self, kind, error, traceback) -> None:
        _open(self, False)
        _CURRENT.reset(self._tokens.pop())
        _open(_CURRENT.get())
        self.is_closed = True
        if isinstance(error, AttributeError) and error.obj is not None:
            shown = f"{_name_of(error.obj.__class__)!r} object"
            error.args = (_STANDINS.sub(shown, str(error)),)
        ours = _ours(error) or self._hidden_by(error, traceback)
        if ours is not None:
            line = user_line(traceback)
            if not line and not names_a_line(ours.args[0]):
                line = line_of(*present_place())  # the function itself is a library's
            ours.args = (f"{line}: {ours.args[0]}" if line else ours.args[0],)
            if ours is not error:
                raise ours from error.__cause__

    def refusal(self, what: str, instead: str) -> TraceError:
        """The error where plain numbers are asked for, which code of C may hide by its own."""
        error = trace_error(what, instead)
        self._refused = error, line_of(*present_place())
        return error

    def _hidden_by(self, error: BaseException | None, traceback) -> TraceError | None:
        """The latest refusal, if another error comes from its line."""
        if self._refused is None or not isinstance(error, Exception):
            return None
        refusal, line = self._refused
        return refusal if user_line(traceback) == line else None


def _open(recording: Recording | None, is_present: bool = True) -> None:
    """Let operations on numbers go to the log of a trace, or no more."""
    if recording is not None and recording.log is not None:
        recording.log.is_open = is_present and recording.watch is None


_STANDINS = re.compile(
    r"'(Traced|Sparse|SparseConstant|LibraryFunction|CompiledFunction)'( object)?|\bTraced\b"
)
"""How Python's own errors name what stands for the user's objects."""


def _name_of(kind: type) -> str:
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _ours(error: BaseException | None) -> TraceError | None:
    """The TraceError that an error is, hides, or should have been."""
    if isinstance(error, TraceError):
        return error
    # NumPy raises a ValueError of its own from the TraceError of a float(x) in plain[0] = x.
    if isinstance(cause := getattr(error, "__cause__", None), TraceError):
        return cause
    if isinstance(error, TypeError) and _STANDINS.search(str(error)):
        return trace_error(
            _STANDINS.sub("a traced value", str(error)),
            "what is computed from x records how it was, which only NumPy, SciPy, math and Python's "
            "arithmetic do: write it with these, or give it a rule (nbhvp.custom_jvp)",
        )
    return None


def current() -> Recording:
    """The trace that is being recorded in this thread."""
    recording = _CURRENT.get()
    if recording is None:
        raise trace_error(
            "a traced value is used after its function has returned",
            "return what you need from the function, and do not keep it in outer variables",
        )
    return recording


def present() -> Recording | None:
    """The trace that is being recorded in this thread, if one is."""
    return _CURRENT.get()


# Errors that name the user's line.


class LinedPool(Pool):
    """A pool that knows the user's line of each node: for reports, since it takes time.

    That of a derived node is the line of the node whose derivative it belongs to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[Node, str] = {}

    def intern(self, primitive, args, params, shape, dtype, key=None) -> Node:
        """The node of this application, with its line."""
        node = super().intern(primitive, args, params, shape, dtype, key)
        if node in self.lines:
            return node
        if _CURRENT.get() is None:
            if self.origin in self.lines:
                self.lines[node] = self.lines[self.origin]
        else:
            self.lines[node] = line_of(*present_place())
        return node


def source_of(fun: Callable) -> str:
    """The name of a function, with its file and line."""
    fun = _meant(fun)
    file, line = place_of(fun)
    name = getattr(fun, "__qualname__", type(fun).__qualname__)
    return f"{name} ({file}:{line})" if line else name


def place_of(fun: Callable) -> tuple[str, int]:
    """The file and the line of a function; line 0 if it has none."""
    fun = _meant(fun)
    fun = getattr(fun, "py_func", fun)  # of Numba's
    code = getattr(getattr(fun, "__func__", fun), "__code__", None)
    code = code or getattr(vars(type(fun)).get("__call__"), "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code else ("<unknown>", 0)


def _meant(fun: Callable) -> Callable:
    """The function of the user's inside a partial, or a closure of ours."""
    while isinstance(fun, functools.partial) or hasattr(fun, STANDS_AROUND):
        fun = fun.func if isinstance(fun, functools.partial) else getattr(fun, STANDS_AROUND)
    return fun


STANDS_AROUND = "_nbhvp_stands_around"
"""The attribute of a closure of ours with the function of the user's that errors are to name."""


def trace_error(what: str, instead: str) -> TraceError:
    """The error for code that cannot be traced; the recording adds the user's file and line."""
    error = TraceError(f"{what}; {instead}")
    if (recording := present()) is not None:
        recording.errors.append(error)
    return error
