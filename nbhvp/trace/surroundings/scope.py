"""Scopes: copies of the globals of modules, in which the functions of a trace run.

A `Scope` makes the stand-in of a name when it is first read: by code, through `globals()`, as an
attribute of the module or in `vars(module)`. So exactly the names that were read are watched.
Assignments of the code bind names in the copy alone, and all functions of the trace see them.
"""

from __future__ import annotations

import builtins
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from nbhvp.trace.kinds import Standin
from nbhvp.trace.surroundings.texts import note_reading
from nbhvp.trace.surroundings.walk import names_in

__all__ = ["Evaluation", "ModuleStandin", "Modules", "Scope"]

_CO_OPTIMIZED = 1


class Scope(dict):
    """The globals of a module, with stand-ins for those that are read.

    Python looks for a global in a dictionary of a subclass as `scope[name]`, which is `__missing__`
    for a name that it does not hold yet; code that is no function, such as the body of a class, may
    look at what it holds alone.
    """

    def __init__(self, names: dict, item: Callable, missing: Callable, known: dict):
        super().__init__({n: v for n, v in names.items() if n.startswith("__")})
        self["__builtins__"] = known
        self._names = names
        self._item = item
        self._missing = missing
        self._read: dict[str, Any] = {}

    def __missing__(self, name):
        find = self._item if name in self._names else self._missing
        value = self[name] = find(self._names, name)
        if not name.startswith("__"):
            self._read[name] = value
        return value

    @property
    def bound(self):
        """The names that were read or written."""
        return super().keys()

    @property
    def parts(self) -> tuple[dict, dict, dict]:
        """The names of the module, their stand-ins as they are now, and as they were read."""
        return self._names, self, self._read

    def fill(self, code: types.CodeType) -> None:
        """Read all names that code inside a function, which is no function itself, may look up."""
        inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
        for constant in inner:
            if not constant.co_flags & _CO_OPTIMIZED:
                self.read(constant)
            self.fill(constant)

    def read(self, code: types.CodeType) -> None:
        """Read all names that code may look up."""
        for name in names_in(code):
            self.get(name)

    def get(self, name, default=None):
        return self[name] if name in self else default

    def __contains__(self, name) -> bool:
        return super().__contains__(name) or name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def keys(self):
        return dict.fromkeys([*self._names, *super().keys()]).keys()

    def items(self):
        return {name: self[name] for name in self.keys()}.items()

    def values(self):
        return self.items().mapping.values()


class Evaluation:
    """eval and exec, which look for names in ways that a Scope does not see."""

    def eval(self, source, scope=None, names=None, /):
        return self._run(builtins.eval, "eval", source, scope, names)

    def exec(self, source, scope=None, names=None, /, **kwargs):
        return self._run(builtins.exec, "exec", source, scope, names, **kwargs)

    def _run(self, run: Callable, mode: str, source, scope, names, **kwargs):
        frame = sys._getframe(2)
        if names is None:
            names = frame.f_locals if scope is None else scope
        scope = frame.f_globals if scope is None else scope
        if not isinstance(source, types.CodeType):
            note_reading(source)
        code = source if isinstance(source, types.CodeType) else compile(source, "<string>", mode)
        scope.setdefault("__builtins__", frame.f_builtins)
        if isinstance(scope, Scope):
            scope.read(code)
            scope.fill(code)
        return run(code, scope, names, **kwargs)


class ModuleStandin(Standin):
    """A module whose attributes are stand-ins."""

    __slots__ = ("_known", "_module", "_standins")

    def __init__(self, module: types.ModuleType, standins):
        object.__setattr__(self, "_module", module)
        object.__setattr__(self, "_standins", standins)
        object.__setattr__(self, "_known", {})

    @property
    def __wrapped__(self) -> types.ModuleType:
        return self._module

    @property
    def __dict__(self) -> Scope:
        return self._standins.scope_of(vars(self._module))

    def __getattr__(self, name: str):
        if name in self._known:
            return self._known[name]
        if self._standins.binds(self._module, name):
            return self.__dict__[name]
        value = self._known[name] = self._standins.attribute(self._module, name)
        return value

    def __setattr__(self, name: str, value) -> None:
        self.__dict__[name] = value

    def __delattr__(self, name: str) -> None:
        del self.__dict__[name]

    def __repr__(self) -> str:
        return repr(self._module)


class Modules:
    """sys.modules, with stand-ins for the modules."""

    def __init__(self, standin: Callable):
        self._standin = standin

    def __getitem__(self, name: str):
        return self._standin(sys.modules[name])

    def get(self, name: str, default=None):
        return self._standin(sys.modules.get(name, default))

    def __contains__(self, name) -> bool:
        return name in sys.modules

    def __iter__(self) -> Iterator[str]:
        return iter([*sys.modules])

    def items(self):
        return ((name, self[name]) for name in self)
