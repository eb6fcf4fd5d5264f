"""Code of a recorder on its way through LLVM: all functions at once, when the outermost is complete.

Numba optimises each function, compiles it to machine code, and does both again to each function that
calls it, with all that it calls. Of a recorder only its entry is ever called, and mostly once. So while
an entry is compiled, the code of all other functions stays as it was lowered, in a `_Deferred`, and the
entry's `EntryLibrary` optimises the whole program once, without the work that pays in long loops over
floats alone: the records that the program writes do not vectorise.

Invariant: functions of Numba's own that a recorder was the first to use are in Numba's memory, and other
code may call them later. A `_Deferred` becomes an ordinary library before it leaves the recorder.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Iterator

import llvmlite.binding as llvm
from numba.core import config
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.environment import lookup_environment

__all__ = ["EntryLibrary", "deferring", "unresolved"]

LEVEL = 1
"""Of LLVM's passes and of its code generation: at 2 and 3 a recording is no faster."""


@contextlib.contextmanager
def deferring(codegen: JITCPUCodegen) -> Iterator[None]:
    """Leave the code of functions as it is lowered. The lock of Numba's compiler is held."""
    outer = codegen._library_class
    codegen._library_class = _Deferred
    try:
        yield
    finally:
        codegen._library_class = outer


class _Deferred(JITCodeLibrary):
    """The code of a function as it was lowered, until something but an entry needs it."""

    _is_ordinary = False

    def _optimize_functions(self, module):
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True
        for function in self.get_defined_functions():
            _defined[function.name] = self

    def _get_module_for_linking(self):
        if self._codegen._library_class is not _Deferred:
            self._become_ordinary()
        return super()._get_module_for_linking()

    def _get_compiled_object(self):
        self._become_ordinary()
        return super()._get_compiled_object()

    def get_pointer_to_function(self, name):
        self._ensure_finalized()
        if all(function.name != name for function in self.get_defined_functions()):
            return 0
        self._become_ordinary()
        return super().get_pointer_to_function(name)

    @property
    def codegen(self):
        return self._codegen if self._is_ordinary else _Unlinked

    def _become_ordinary(self):
        if not self._is_ordinary:
            self._is_ordinary = True
            self._shared_module = None
            resolve(self._final_module)
            super()._optimize_functions(self._final_module)
            super()._optimize_final_module()
            super()._finalize_final_module()
            set_environments(self)


_defined: weakref.WeakValueDictionary[str, _Deferred] = weakref.WeakValueDictionary()
"""By the names of functions, the libraries that define them."""


class _Unlinked:
    """What tells a function its environment, when its code is in no engine yet."""

    @staticmethod
    def set_env(name, environment):
        pass


@functools.cache
def _target_machine(codegen: JITCPUCodegen) -> llvm.TargetMachine:
    """Numba's own, but for the level."""
    options = {"opt": min(LEVEL, int(config.OPT))}
    codegen._customize_tm_options(options)
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(**options)


class EntryLibrary(JITCodeLibrary):
    """One object of an entry, under a name that it alone has, and all that it calls, under none."""

    def _optimize_functions(self, module):
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self):
        resolve(self._final_module)
        for function in self._final_module.functions:
            if not function.is_declaration and self.name not in function.name:
                function.linkage = "internal"
        options = llvm.create_pipeline_tuning_options(speed_level=min(LEVEL, int(config.OPT)))
        options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
        builder = llvm.create_pass_builder(self._codegen._tm, options)
        builder.getModulePassManager().run(self._final_module, builder)

    def _finalize_final_module(self):
        code = _target_machine(self._codegen).emit_object(self._final_module)
        self._set_compiled_object(code)  # which the engine takes instead of making its own
        super()._finalize_final_module()
        self._compiled_object = code
        set_environments(self)


def unresolved(module: llvm.ModuleRef) -> list[str]:
    """The names of functions whose calls Numba links later: of those that call themselves."""
    names = (variable.name.partition(".unresolved$") for variable in module.global_variables)
    return [name for _, found, name in names if found]


def resolve(module: llvm.ModuleRef) -> None:
    """Have all functions in the engine that Numba links calls of a module to."""
    for name in unresolved(module):
        if name in _defined:
            _defined[name]._become_ordinary()


def set_environments(library: JITCodeLibrary) -> None:
    """Tell all functions in a library the constants that they take from Python."""
    for variable in library._final_module.global_variables:
        environment = lookup_environment(variable.name)
        if environment is not None:
            library._codegen.set_env(variable.name, environment)
