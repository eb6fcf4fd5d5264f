"""Random numbers: constants if their generator is seeded within the call, hidden state if not.

A function that draws from an outer generator, or from a new one without a seed, gets other numbers at
each call, and its trace would describe one draw. Such a draw is noted, with its line, and refused
unless the function is traced at every call. A generator from which nothing is drawn is allowed, and a
generator seeded within the call gives the same numbers at each call. Each generator has a stand-in, a
`Source`, that knows whether it was seeded; draws in code that is not followed change its state, which
is compared.
"""

from __future__ import annotations

import copy
import functools
import inspect
import os
import pickle
import random
import secrets
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np

from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import Traced, adopt, current, is_constant, trace_error
from nbhvp.trace.dispatch import adopted, call
from nbhvp.trace.kinds import LibraryObject, stands_for
from nbhvp.trace.methods.shapes import write
from nbhvp.trace.views import is_array

__all__ = ["Entropy", "Source", "is_random", "is_seeded", "note_draws"]

_CLASSES = (
    np.random.Generator, np.random.RandomState, np.random.BitGenerator, np.random.SeedSequence,
    random.Random,
)  # fmt: skip
_GLOBAL = (np.random.rand.__self__, random.random.__self__)
"""The generators of the modules."""
_UNBOUND = {
    np.random.seed: "seed",
    np.random.ranf: "random_sample",
    np.random.sample: "random_sample",
}
"""Functions of numpy.random that are no methods of its generator."""
_SEEDING = ("seed", "set_state", "setstate", "reset")
_SEEDS = ("rng", "random_state", "seed")
"""Names of parameters that say where random numbers come from."""
_SEEDLESS = ("scipy.sparse.linalg", "scipy.linalg", "scipy.optimize", "scipy.integrate")
"""Where such a parameter chooses a start, of iterations that end in the same numbers."""
_MAKERS = ("__init__", "default_rng", "check_random_state")
"""Functions that make or find a generator and draw nothing."""
_NUMBERS = (int, float, str, bytes, bytearray, list, tuple, np.ndarray, np.generic, Traced)

_ENTROPY = (
    os.urandom, secrets.token_bytes, secrets.token_hex, secrets.token_urlsafe, secrets.randbelow,
    secrets.randbits, uuid.uuid1, uuid.uuid4,
)  # fmt: skip
"""Functions of the standard library that give other values each time."""


@answers(*_CLASSES, "scipy.stats.QMCEngine")
class Source(LibraryObject):
    """The stand-in of a generator of random numbers."""

    def __init__(self, original, standin: Callable):
        super().__init__(original, standin)
        self._seeded = [False]  # shared with the generator that it is a part of
        self._before = None if original in _GLOBAL else _state(original)
        self._is_outside = True
        current().generators.append(self)

    @property
    def is_seeded(self) -> bool:
        """Whether the numbers to come are the same at each call of the function."""
        return self._seeded[0]

    def made(self, is_seeded: bool) -> Source:
        """The generator, which the function has just made."""
        if not self._seeded[0]:
            self._seeded[0], self._is_outside = is_seeded, False
        return self

    def has_drawn(self) -> bool:
        """Whether numbers were drawn that are not the same at each call."""
        return not self.is_seeded and self._before != (
            None if self.original in _GLOBAL else _state(self.original)
        )

    def __getattr__(self, name: str):
        if name.startswith("__") or name in ("original", "_seeded"):
            raise AttributeError(name)
        value = getattr(self.original, name)
        if callable(value):
            return functools.partial(self._call, name)
        if name in ("state", "entropy") and not self.is_seeded:
            self._draw(name)
        return self._result(value)

    def __setattr__(self, name: str, value) -> None:
        if name == "state":
            self.original.state = value
            self._set("state", True)
        else:
            object.__setattr__(self, name, value)

    def __deepcopy__(self, memo) -> Source:
        return self._part(copy.deepcopy(self.original))

    def _part(self, original) -> Source:
        """The stand-in of a generator that goes on as this one does."""
        part = self._standin(original)
        part._seeded, part._is_outside = self._seeded, self._is_outside
        return part

    def lent(self, to: str):
        """The generator itself, for code that is not followed and will draw from it."""
        if not self.is_seeded:
            current().draw(to)
        return self.original

    def _draw(self, name: str) -> None:
        current().draw(f"{type(self.original).__name__}.{name}")

    def _set(self, name: str, is_seeded: bool) -> None:
        self._seeded[0] = is_seeded
        if self._is_outside and not current().is_always:
            current().note(
                f"{type(self.original).__name__}.{name} sets a generator of other code: this happens "
                "when the function is traced, and not at each call. Make a generator inside the "
                "function, as numpy.random.default_rng(seed)"
            )

    def _call(self, name: str, *args, **kwargs):
        if name not in _SEEDING and not self.is_seeded:
            self._draw(name)
        lent: list[tuple[Traced, Any]] = []
        args = [self._plain(name, arg, lent) for arg in args]
        kwargs = {key: self._plain(name, arg, lent) for key, arg in kwargs.items()}
        result = getattr(self.original, name)(*args, **kwargs)
        if name in _SEEDING:
            self._set(name, name == "reset" or is_given(*args[:1], *kwargs.values()))
        for x, lent_array in lent:
            if x.value.tobytes() != lent_array.tobytes():
                write(x, adopt(lent_array))
            if result is lent_array:
                return x
        return self._result(result)

    def _plain(self, name: str, arg, lent: list):
        """An argument without stand-ins; an array that may be written is lent as a copy."""
        if isinstance(arg, LibraryObject):
            return arg.original
        if not isinstance(arg, Traced):
            return arg
        if not is_constant(arg):
            raise trace_error(
                f"{type(self.original).__name__}.{name} is given a traced value, and a draw has no "
                "derivative",
                "draw standard numbers, and scale and shift these: mean + width * numbers",
            )
        if is_array(arg.value):
            lent.append((arg, np.array(arg.value)))
            return lent[-1][1]
        return arg.value

    def _result(self, result):
        if isinstance(result, _CLASSES):
            return self._part(result)
        if isinstance(result, list) and any(isinstance(item, _CLASSES) for item in result):
            return [self._part(item) for item in result]
        return adopted(result, [])


@answers(
    "scipy.stats.multi_rv_generic",
    "scipy.stats.multi_rv_frozen",
    "scipy.stats.gaussian_kde",
    "scipy.stats._ProbabilityDistribution",
    "scipy.stats.Method",
)
class Drawing(LibraryObject):  # fmt: skip
    """The stand-in of an object of SciPy with methods that may draw."""

    def __call__(self, *args, **kwargs):
        return self._standin(call(self.original.__call__, args, kwargs))


def _state(generator) -> bytes | None:
    """What shows whether a generator has been drawn from."""
    if isinstance(generator, np.random.Generator):
        return pickle.dumps(generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return pickle.dumps(generator.get_state(legacy=False))
    if isinstance(generator, np.random.BitGenerator):
        return pickle.dumps(generator.state)
    if isinstance(generator, random.Random) and not isinstance(generator, random.SystemRandom):
        return pickle.dumps(generator.getstate())
    return None


def owner_of(function) -> tuple[Any, str] | None:
    """The generator that a function draws from, and the name of its method, if it is one."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, _CLASSES):
        return owner, function.__name__
    try:
        name = _UNBOUND.get(function)
    except (TypeError, ValueError):  # no hash
        return None
    return (_GLOBAL[0], name) if name else None


@stands_for(where=lambda function: owner_of(function) is not None)
def _drawing(standins, function):
    generator, name = owner_of(function)
    return getattr(standins.of(generator), name)


def is_random(value) -> bool:
    """Whether what a compiled function names gives it random numbers."""
    return value is np.random or value is random or owner_of(value) is not None


# Seeds.


def is_given(*seeds) -> bool:
    """Whether a seed is given that makes the same numbers each time: the first that is not None."""
    seed = next((seed for seed in seeds if seed is not None), None)
    if isinstance(seed, Source):
        return seed.is_seeded
    return isinstance(seed, (*_NUMBERS, np.random.SeedSequence))


def is_seeded(function, args: tuple, kwargs: dict) -> bool | None:
    """Whether a call is given a seed; None if it takes none."""
    if isinstance(function, type) and issubclass(function, random.SystemRandom):
        return False
    if function is np.random.default_rng or (
        isinstance(function, type) and issubclass(function, _CLASSES)
    ):
        return is_given(*args[:1], *kwargs.values())
    names = _seed_names(function)
    if not names:
        return None
    if "scramble" in kwargs and not kwargs["scramble"]:
        return True
    # By any of the names: signatures of SciPy 1.15 leave out the older one, which they take.
    return is_given(*map(kwargs.get, _SEEDS), *(args[k] for _, k in names if k < len(args)))


@functools.cache
def _seed_names(function) -> tuple[tuple[str, int], ...]:
    """The parameters of a function of SciPy that take a seed: their names and places."""
    module = getattr(function, "__module__", None) or ""
    if not module.startswith("scipy.") or module.startswith(_SEEDLESS):
        return ()
    if getattr(function, "__name__", "") == "rvs":
        return tuple((name, 1000) for name in _SEEDS)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return ()
    places = {name: k for k, name in enumerate(parameters)}
    # That of iqr is a range.
    unset = (None, inspect.Parameter.empty)
    return tuple((n, places[n]) for n in _SEEDS if n in places and parameters[n].default in unset)


def note_draws(function, args: tuple, kwargs: dict) -> None:
    """Note that a function of a library draws, unless it is given a seed, or makes a generator or an
    object that may hold one."""
    name = getattr(function, "__name__", repr(function))
    makes = isinstance(function, type) or name in _MAKERS
    given = (*args, *kwargs.values())
    held = any(isinstance(arg, Source) and not arg.is_seeded for arg in given)
    if not makes and (held or is_seeded(function, args, kwargs) is False):
        current().draw(name)


class Entropy:
    """The stand-in of a function that gives other values each time."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *args, **kwargs):
        current().draw(f"{self.function.__module__}.{self.function.__name__}")
        return self.function(*args, **kwargs)


@stands_for(objects=_ENTROPY)
def _entropy(standins, function) -> Entropy:
    return Entropy(function)
