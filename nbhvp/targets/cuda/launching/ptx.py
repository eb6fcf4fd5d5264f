"""Kernels for GPUs from their text to PTX, by the NVPTX back end that LLVM has in llvmlite's wheels.

The text is lowered as on a CPU, with other words (`words`), and the table is the kernel's one parameter,
by value. The driver assembles PTX for the device, so neither a toolkit nor Numba has a part in it. The
version of PTX is an old one that every supported driver reads.

Invariant: what LLVM cannot select ends the process, so nothing reaches it but the listed intrinsic
functions and functions with a body.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import re

import llvmlite.binding as llvm
from llvmlite import ir

from nbhvp.targets.cuda.kernels import scalars
from nbhvp.targets.cuda.kernels.words import WORDS
from nbhvp.targets.lowering import lower
from nbhvp.targets.lowering.values import I64, Unknown

__all__ = ["lowered", "ptx", "slots"]

TRIPLE = "nvptx64-nvidia-cuda"
LANGUAGES = {
    "nbhvp.targets.cuda.kernels.words": WORDS,
    "nbhvp.targets.cuda.kernels.scalars": {
        name: lower.word_of(getattr(scalars, name)) for name in scalars.FUNCTIONS.values()
    },
}
SELECTED = re.compile(
    r"llvm\.(nvvm\..*|(fma|fmuladd|sqrt|fabs|floor|ceil|trunc|rint|copysign|minnum|maxnum)\.f(32|64)"
    r"|memcpy\..*|memset\..*)$"
)
"""What LLVM translates into instructions."""


ACCESS = re.compile(r"\b(reads|writes|integer|real|cplx)\(table, (\d+)")
ENTRY = re.compile(r"^\.visible \.entry .*?\n\)", re.MULTILINE | re.DOTALL)
REGISTERS = 128
"""Of a thread: with more, blocks of 512 threads would not be launched, nor several at once."""


@functools.cache
def target_machine(architecture: str, version: str) -> llvm.TargetMachine:
    """What makes PTX of a version ("63") for an architecture ("sm_70") and those after it."""
    with contextlib.suppress(RuntimeError):  # since llvmlite 0.45 it does this by itself
        llvm.initialize()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(TRIPLE).create_target_machine(
        cpu=architecture, features=f"+ptx{version}", opt=3, codemodel="default", reloc="default"
    )


def ptx(source: str, name: str, architecture: str = "sm_70", version: str = "63") -> str:
    """The PTX of the kernel that a source defines, under a name.

    Raises
    ------
    Unknown
        Where the kernel calls what a GPU does not have.
    """
    machine = target_machine(architecture, version)
    text = lowered(source, name, str(machine.target_data))
    module = llvm.parse_assembly(text, llvm.create_context())
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = tuning.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return ENTRY.sub(rf"\g<0>\n.maxnreg {REGISTERS}", machine.emit_assembly(module))


def lowered(source: str, name: str, layout: str = "") -> str:
    """The LLVM text of the kernel that a source defines, and of the functions that it calls."""
    tree, count = ast.parse(source), slots(source)
    return lower.widened(lambda kinds: _lowered(tree, count, name, kinds, layout))


def slots(source: str) -> int:
    """The length of a kernel's table."""
    found = ACCESS.finditer(source)
    return max((int(one[2]) + 1 + (one[1] == "cplx") for one in found), default=0)


def _declared(module: ir.Module) -> set[str]:
    """The functions of a module that have no body."""
    return {function.name for function in module.functions if function.is_declaration}


def _by_double(module: ir.Module, name: str) -> None:
    """Give a function of single precision the body of that of double precision, whose name lacks an f."""
    function, double = module.globals[name], ir.DoubleType()
    if name[:-1] not in module.globals:
        kind = ir.FunctionType(double, [double] * len(function.args))
        ir.Function(module, kind, name[:-1])
    builder = ir.IRBuilder(function.append_basic_block())
    args = [builder.fpext(arg, double) for arg in function.args]
    builder.ret(builder.fptrunc(builder.call(module.globals[name[:-1]], args), ir.FloatType()))


def _lowered(tree: ast.Module, count: int, name: str, kinds: dict, layout: str) -> str:
    module = lower.empty_module(name, (TRIPLE, layout))
    table = ir.ArrayType(I64, count).as_pointer()
    made = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64.as_pointer()]), f"{name} body")
    made.linkage = "internal"
    made.attributes.add("alwaysinline")
    lower.add_body(made, tree, kinds, LANGUAGES, is_constant=True)
    entry = ir.Function(module, ir.FunctionType(ir.VoidType(), [table]), name)
    entry.calling_convention = "ptx_kernel"
    entry.args[0].add_attribute("byval")
    builder = ir.IRBuilder(entry.append_basic_block())
    builder.call(made, [builder.bitcast(entry.args[0], I64.as_pointer())])
    builder.ret_void()
    for single in [name for name in _declared(module) if name[:-1] in scalars.BODIES]:
        _by_double(module, single)
    while (missing := _declared(module)) & scalars.BODIES.keys():  # a body may call further ones
        for k, name in enumerate(scalars.BODIES, start=1):
            if name in missing:
                lower.define(module, name, scalars.BODIES[name], kinds, first=k << 16)
    unknown = sorted(name for name in missing if not SELECTED.match(name))
    if unknown:
        raise Unknown(f"{', '.join(unknown)} on a GPU")
    # LLVM before 20 takes no other characters in the names of PTX.
    text = re.sub(r'@"[^"]*"', lambda name: re.sub(r"[^\w@.\"]", "_", name[0]), str(module))
    # Older llvmlite's do not say what lies at the pointer.
    return re.sub(r"byval(?!\()", f"byval([{count} x i64])", text)
