"""Machine code from LLVM's language, and its addresses in this process: LLVM alone, without Numba.

`optimised` runs LLVM's passes over the LLVM text of a kernel once; the object code has a few kilobytes
and contains no address, so it can be kept on disk. `link` loads object code into this process, in about
0.1 ms. Code is never unloaded. Numba's settings for the processor and for LLVM's passes hold here too.

Invariant: callers pass only valid object code for this processor; for any other LLVM ends the process.
"""

import contextlib
import ctypes
import enum
import functools
import importlib.metadata
import importlib.util
import os
import platform as system
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

# --- the processor --------------------------------------------------------------------------------


@functools.cache
def processor() -> tuple[str, str, str]:
    """LLVM's names of the platform, of the processor, and of what it can do."""
    _initialize()
    name = os.environ.get("NUMBA_CPU_NAME") or llvm.get_host_cpu_name()
    features = os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = ""
        with contextlib.suppress(RuntimeError):
            found = llvm.get_host_cpu_features()
            if os.environ.get("NUMBA_ENABLE_AVX") == "0":
                found.update({key: False for key in found if key.startswith("avx")})
            features = found.flatten()
    return llvm.get_process_triple(), name, features


@functools.cache
def _initialize() -> None:
    with contextlib.suppress(
        RuntimeError
    ):  # since llvmlite 0.45 it does this by itself, and says so
        llvm.initialize()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def threads() -> int:
    """How many numba is told to use; as many as processors otherwise."""
    return int(os.environ.get("NUMBA_NUM_THREADS") or processors())


def options() -> tuple[str, ...]:
    """The settings of numba that concern LLVM."""
    names = "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE"
    return tuple(os.environ.get(f"NUMBA_{name}", "") for name in names)


def platform() -> tuple[str, ...]:
    """All that object code depends on beside a kernel's text: versions, processor and options."""
    versions = _numba_version(), llvmlite.__version__, system.python_version()
    return *versions, *options(), *processor()


@functools.cache
def _numba_version() -> str:
    """The text that says it: numba is imported for what it compiles alone, and `metadata` is slow."""
    spec = importlib.util.find_spec("numba")
    assert spec is not None and spec.origin is not None
    try:
        return Path(spec.origin).with_name("_version.py").read_text()
    except OSError:
        return importlib.metadata.version("numba")


@functools.cache
def target_machine(level: int = 3, number: int = 0) -> llvm.TargetMachine:
    """What makes code for this processor; code generation spends more time at a higher level.

    Those of other numbers serve other threads at the same time.
    """
    triple, name, features = processor()
    x86 = llvm.Target.from_default_triple().name.startswith("x86")
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=name,
        features=features,
        opt=level,
        reloc="static" if x86 else "default",  # https://reviews.llvm.org/D47211#inline-425406
        codemodel="jitdefault",
        jit=True,
    )


@functools.cache
def data_layout() -> str:
    """How types lie in memory: LLVM's text tells it, since alignments follow when it is read."""
    return str(target_machine().target_data)


def target() -> tuple[str, str]:
    """What the text of a module says of the processor that it is for."""
    return processor()[0], data_layout()


def has_masks() -> bool:
    """Whether it loads and stores some lanes of a vector as fast as all of them."""
    return "+avx512f" in processor()[2].split(",")


# --- from LLVM's language to object code ----------------------------------------------------------


@dataclass(frozen=True)
class Compiled:
    """A kernel as LLVM has optimised it."""

    name: str
    module: Any
    machine: Any
    by_numba: bool = False

    @property
    def llvm(self) -> str:
        """Its LLVM text."""
        return str(self.module)

    @property
    def assembly(self) -> str:
        """Its instructions."""
        return self.machine.emit_assembly(self.module)

    @property
    def object_code(self) -> bytes:
        """What `link` takes, in which the kernel has this name."""
        return self.machine.emit_object(self.module)


class Effort(enum.IntEnum):
    """How much LLVM is asked for."""

    FULL = 0
    SCALAR = 1
    """No vectors, and nothing that pays in long loops alone."""
    LITTLE = 2
    """A few passes (`FEW`), which take a tenth of the time."""


FEW = "always_inliner", "sroa", "simplify_cfg", "new_gvn", "instruction_combine", "simplify_cfg"
"""Passes that bring variables to registers and remove what is computed twice."""


@dataclass(frozen=True)
class Passes:
    """A module, and LLVM's passes that are to run over it."""

    module: Any
    machine: Any
    passes: Any
    builder: Any

    def run(self) -> None:
        """Run them."""
        self.passes.run(self.module, self.builder)


def optimised(
    name: str, text: str, is_straight: bool = False, effort: Effort = Effort.FULL
) -> Compiled:
    """The LLVM text of a kernel after LLVM's passes; see `passes`."""
    found = passes(text, is_straight, effort)
    found.run()
    return Compiled(name, found.module, found.machine)


def passes(text: str, is_straight: bool, effort: Effort, number: int = 0) -> Passes:
    """LLVM's passes over the text of a kernel, for the target machine of a number.

    With full effort LLVM looks for vectors in loops, and in straight code if it `is_straight`. Other
    loops are not unrolled: loops of vectors gain nothing by it (measured), and take longer to compile.
    So do LLVM's passes of levels 2 and 3, which add code for each outcome of a condition.
    """
    machine = target_machine(2 if effort else 3, number)
    module = llvm.parse_assembly(text, llvm.create_context())
    level, loops, straight = options()
    most = _level(level)
    tuning = llvm.create_pipeline_tuning_options(speed_level=min(most, 1))
    tuning.loop_vectorization = loops != "0" and not effort
    tuning.loop_unrolling = is_straight and not effort
    tuning.slp_vectorization = is_straight or straight not in ("", "0")
    builder = llvm.create_pass_builder(machine, tuning)
    is_little = effort == Effort.LITTLE and most > 0 and not is_straight
    few = _few() if is_little else None
    return Passes(module, machine, few or builder.getModulePassManager(), builder)


def _few() -> Any:
    """The few passes; None where llvmlite, before 0.45, does not let them be chosen."""
    passes = llvm.create_new_module_pass_manager()
    if not all(hasattr(passes, f"add_{name}_pass") for name in FEW):
        return None
    for name in FEW:
        getattr(passes, f"add_{name}_pass")()
    return passes


def _level(text: str) -> int:
    return int(text) if text.isdigit() else 3


# --- from object code to an address ---------------------------------------------------------------

_addresses: dict[str, int] = {}


def is_linked(name: str) -> bool:
    """Whether this process has the function of this name."""
    return name in _addresses


def link(name: str, object_code: bytes) -> int:
    """The address of the function of this name, which stands for this code in all the process."""
    return link_all([name], object_code)[0]


def link_all(names: list[str], object_code: bytes) -> list[int]:
    """The same of several functions in one code."""
    if not _addresses.keys() >= set(names):
        engine = _engine()
        engine.add_object_file(llvm.ObjectFileRef.from_data(object_code))
        engine.finalize_object()
        _addresses.update((name, engine.get_function_address(name)) for name in names)
        assert all(map(_addresses.get, names)), f"object code without the functions {names}"
    return [_addresses[name] for name in names]


@functools.cache
def _engine():
    _initialize()
    if sys.platform == "win32":
        know_numbas_functions()  # libm's functions have other names there
    target = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(jit=True)
    settings = {}
    if os.environ.get("NUMBA_USE_LLVMLITE_MEMORY_MANAGER"):
        settings["use_lmm"] = os.environ["NUMBA_USE_LLVMLITE_MEMORY_MANAGER"] != "0"
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), target, **settings)


@functools.cache
def know_numbas_functions() -> None:
    """numba tells LLVM where its mathematical functions are when its context is made."""
    from numba.core.registry import cpu_target

    assert cpu_target.target_context is not None


def address_in(capsule: Any) -> int:
    """The address of a C function that a module of Cython's exports."""
    python = ctypes.pythonapi
    python.PyCapsule_GetName.argtypes = [ctypes.py_object]
    python.PyCapsule_GetName.restype = ctypes.c_char_p
    python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    python.PyCapsule_GetPointer.restype = ctypes.c_void_p
    return python.PyCapsule_GetPointer(capsule, python.PyCapsule_GetName(capsule))
