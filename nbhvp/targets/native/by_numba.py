"""Kernels that Numba compiles: those whose text contains more than `lower` translates.

Numba types a function and lowers it to LLVM by
those of its passes that a kernel needs. LLVM optimises the result once; Numba itself optimises twice,
to remove reference counts, which kernels do not have.
"""

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.core import typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, Flags, compile_extra
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager
from numba.core.cpu_options import FastMathOptions
from numba.core.registry import cpu_target

from nbhvp.plan.costs import CPU
from nbhvp.targets.native.machine import Compiled


class _Library(JITCodeLibrary):
    """A kernel on its way through LLVM. It never enters numba's own engine."""

    is_straight = False
    body = ""  # the function that numba made

    def _optimize_functions(self, module):
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self):
        for function in self._final_module.functions:
            # Nobody else calls them: so LLVM sees that those which it does not inline return 0.
            if not function.is_declaration and function.name != self.name:
                function.linkage = "internal"
                if function.name != self.body and _size(function) > CPU.inlined:
                    function.add_function_attribute("noinline")
        options = llvm.create_pipeline_tuning_options(speed_level=numba.config.OPT)
        options.loop_vectorization = bool(numba.config.LOOP_VECTORIZE)
        options.slp_vectorization = self.is_straight or bool(numba.config.SLP_VECTORIZE)
        builder = llvm.create_pass_builder(self._codegen._tm, options)
        builder.getModulePassManager().run(self._final_module, builder)

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True


def _size(function) -> int:
    """How many instructions a function has."""
    return sum(1 for block in function.blocks for _ in block.instructions)


class _Pipeline(CompilerBase):
    """numba's passes, but for those of closures, array expressions and branches on literals."""

    def define_pipelines(self):
        manager = PassManager("kernel")
        for one in (
            untyped_passes.TranslateByteCode,
            untyped_passes.FixupArgs,
            untyped_passes.IRProcessing,
            untyped_passes.GenericRewrites,  # x**2 is x * x
            untyped_passes.ReconstructSSA,
            typed_passes.NopythonTypeInference,
            typed_passes.PreLowerStripPhis,
            typed_passes.IRLegalization,
            typed_passes.AnnotateTypes,
            typed_passes.NativeLowering,
            typed_passes.NoPythonBackend,
        ):
            manager.add_pass(one, one.__name__)
        manager.finalize()
        return [manager]


@global_compiler_lock
def compiled(function, arguments, is_straight: bool = False) -> Compiled:
    """Compile a function that returns nothing; arguments are numba's types.

    LLVM looks for vectors in loops, and in straight code if it `is_straight`.
    """
    flags = Flags()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.error_model, flags.fastmath = "numpy", FastMathOptions({"contract"})
    typing, context = cpu_target.typing_context, cpu_target.target_context
    library = _Library(context.codegen(), function.__module__)
    library.is_straight = is_straight
    library.enable_object_caching()  # else numba would finalise it
    options = flags, {}, library, _Pipeline
    result = compile_extra(typing, context, function, arguments, types.void, *options)
    _add_entry(context, library, result.fndesc)
    library.finalize()
    assert not library._dynamic_globals, "a kernel that holds an address cannot be kept on disk"
    return Compiled(library.name, library._final_module, library.codegen._tm, by_numba=True)


def _add_entry(context, library, native):
    """The kernel as a C function. It returns 0, or the error that no kernel should raise."""
    module = context.create_module("entry")
    signature = native.restype, native.argtypes
    called = ir.Function(
        module, context.call_conv.get_function_type(*signature), native.llvm_func_name
    )
    words = [context.get_value_type(argument) for argument in native.argtypes]
    entry = ir.Function(module, ir.FunctionType(ir.IntType(32), words), library.name)
    builder = ir.IRBuilder(entry.append_basic_block())
    status, _ = context.call_conv.call_function(builder, called, *signature, entry.args)
    builder.ret(status.code)
    library.body = native.llvm_func_name
    library.add_ir_module(module)
