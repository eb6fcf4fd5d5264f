"""Compiles the user's functions for active numbers: a recorder of one function and its callees.

Each function is compiled again from its Python source, with options of this package in the place of
the user's: no explicit signature, no `parallel` (a prange records serially), no fastmath; the error
model and bounds checks stay. Between Numba's untyped passes and type inference, an additional pass
rewrites the intermediate representation, so that plain floats do not fix types that must become
active: `np.zeros(n)`, `[0.0, 0.0]`, `items.append(0.0)`, `float(x)`. It replaces each function compiled
by Numba by its twin, the same function compiled for active numbers.

Invariant: nothing outside the recorder refers to a twin, and no function or module is patched.

The entry of a recorder takes plain arguments. Names of machine code are unique across processes: Numba
numbers functions from 1 in each process, and if an object from the disk contains a name that exists
already, the linker uses the existing code.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import types as python
import uuid
from collections.abc import Callable

from numba import njit
from numba.core import ir, ir_utils, postproc, types
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.ccallback import CFunc
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.dispatcher import ObjModeLiftedWith
from numba.core.registry import CPUDispatcher, cpu_target
from numba.core.typed_passes import NopythonRewrites
from numba.core.untyped_passes import MakeFunctionToJitFunction
from numba.np.ufunc.dufunc import DUFunc
from numba.np.ufunc.gufunc import GUFunc
from numba.stencils.stencil import StencilFunc

from nbhvp.loops.overloads import numpy_functions as loops_functions
from nbhvp.loops.overloads.active import mark, tape_of, widen
from nbhvp.loops.overloads.libraries import EntryLibrary, deferring
from nbhvp.loops.overloads.objects import Classes, is_jitclass
from nbhvp.loops.recording.errors import refusal
from nbhvp.loops.recording.sources import is_library, python_function

__all__ = ["EntryCompiler", "Twins"]


class Twins:
    """The recording twins of a function and of what it calls, compiled when first called."""

    def __init__(self):
        self._made: dict[int, tuple] = {}
        self.loops = itertools.count()
        """Numbers of the loops in these functions."""
        self._classes = Classes(self.function)
        twins = {"twins": self}
        self._pipeline = type("RecordingCompiler", (RecordingCompiler,), twins)

    def of(self, value):
        """The twin of a compiled function, also in tuples; anything else as it is."""
        if isinstance(value, tuple) and not hasattr(value, "_fields"):
            return tuple(map(self.of, value))
        if is_jitclass(value):
            return self._classes.of(value)
        is_compiled = isinstance(value, CPUDispatcher | DUFunc)
        return self.function(value) if is_compiled or _is_own(value) else value

    def maker(self, kind):
        """What makes an argument from its parts: a class of named tuples, or of instances."""
        return kind if isinstance(kind, type) else self._classes.maker(kind)

    def function(self, function) -> Callable:
        """The twin of a function, compiled or plain."""
        if id(function) not in self._made:
            options = {"error_model": "numpy"}
            if isinstance(function, CPUDispatcher):
                given = function.targetoptions
                options = {"error_model": given.get("error_model", "python")}
            compiled = njit(
                python_function(function),
                pipeline_class=self._pipeline,
                no_cpython_wrapper=True,
                no_cfunc_wrapper=True,
                boundscheck=True,  # a place beyond an array is no number of the tape
                **options,
            )
            if isinstance(function, DUFunc):
                compiled = loops_functions.elementwise(compiled, function.__name__)
                cpu_target.typing_context.refresh()
                cpu_target.target_context.refresh()
            # The twin of a twin is itself, which a second pass over the same code may ask for.
            self._made[id(function)] = (function, compiled)
            self._made[id(compiled)] = (compiled, compiled)
        return self._made[id(function)][1]


def _is_own(value) -> bool:
    """Whether it is a plain Python function of the user's: a plain function may call others."""
    if not isinstance(value, python.FunctionType) or is_library(value):
        return False
    return cpu_target.typing_context._lookup_global(value) is None


class RecordingCompiler(CompilerBase):
    """numba's compiler with the pass below, and without fused array expressions."""

    twins: Twins

    def define_pipelines(self):
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state, "recording")
        passes.passes = [step for step in passes.passes if step[0] is not NopythonRewrites]
        self.state.twins = self.twins
        self.state.func_id.unique_id = uuid.uuid4().hex
        passes.add_pass_after(RewriteForActive, MakeFunctionToJitFunction)
        passes.finalize()
        return [passes]


class EntryCompiler(CompilerBase):
    """numba's compiler, for a function that keeps what it calls to itself."""

    def define_pipelines(self):
        state = self.state
        state.library = EntryLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return [DefaultPassBuilder.define_nopython_pipeline(state)]

    def _compile_core(self):
        with deferring(self.state.targetctx.codegen()):
            return super()._compile_core()


@functools.cache
def _load_library() -> None:
    """What is overloaded beside arithmetic: for compiling alone, not for what the disk has."""
    for name in ("complex", "linalg", "numerics"):
        importlib.import_module(f"nbhvp.loops.overloads.{name}")
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()


@register_pass(mutates_CFG=False, analysis_only=False)
class RewriteForActive(FunctionPass):
    """The rewriting that the module's docstring tells of."""

    _name = "nbhvp_rewrite_for_active"

    def __init__(self):
        FunctionPass.__init__(self)

    def run_pass(self, state):
        _load_library()
        # Blocks in object mode have come in since the definitions were collected.
        state.func_ir._definitions = ir_utils.build_definitions(state.func_ir.blocks)
        rewriting = _Rewriting(state.func_ir, state.twins)
        for block in state.func_ir.blocks.values():
            rewriting.block(block)
        rewriting.mark_loops()
        state.func_ir._definitions = ir_utils.build_definitions(state.func_ir.blocks)
        postproc.PostProcessor(state.func_ir).run()
        return True


class _Rewriting:
    """One function's rewriting; new statements go before the one that needs them."""

    def __init__(self, func_ir, twins: Twins):
        self._ir, self._twins = func_ir, twins
        self._body: list = []

    def block(self, block):
        self._body, self._scope = [], block.scope
        for statement in block.body:
            if isinstance(statement, ir.Assign):
                self._assignment(statement)
            self._body.append(statement)
        block.body = self._body

    def mark_loops(self):
        """Note the steps of loops on the tape of the arguments."""
        blocks = self._ir.blocks
        loops = compute_cfg_from_blocks(blocks).loops().values()
        first = blocks[min(blocks)]
        given = [one for one in first.body if _is_argument(one)]
        if not loops or not given:
            return
        tape = self._tape_of(first, given)
        # A block may end several loops, and begin a step of one: the inner ones end first.
        for loop in sorted(loops, key=lambda loop: -len(loop.body)):
            number = next(self._twins.loops)
            self._mark(blocks[loop.header], tape, number, is_end=0)
            for label in loop.exits:
                self._mark(blocks[label], tape, number, is_end=1)

    def _tape_of(self, block, given):
        """The tape on which a function records, at the end of what takes its arguments."""
        at = 1 + max(map(block.body.index, given))
        self._body, self._scope = [], block.scope
        tape = self._assign(ir.Const(0, block.loc), block.loc)
        for one in given:
            args = (one.target, tape)
            call = ir.Expr.call(self._global(tape_of, block.loc), args, (), block.loc)
            tape = self._assign(call, block.loc)
        block.body[at:at] = self._body
        return tape

    def _mark(self, block, tape, number, is_end):
        self._body, self._scope = [], block.scope
        known = [self._assign(ir.Const(one, block.loc), block.loc) for one in (number, is_end)]
        call = ir.Expr.call(self._global(mark, block.loc), (tape, *known), (), block.loc)
        self._assign(call, block.loc)
        block.body[:0] = self._body

    def _assignment(self, statement):
        value = statement.value
        if isinstance(value, ir.Global | ir.FreeVar):
            value.value = self._twins.of(value.value)
        elif isinstance(value, ir.Expr):
            rewrite = getattr(self, f"_{value.op}", None)
            if rewrite is not None:
                rewrite(statement, value)

    def _getattr(self, statement, expr):
        """A compiled function in a module, or an attribute of an array."""
        value = self._constant(statement.target)
        twin = self._twins.of(value)
        if twin is not value:
            statement.value = ir.Global(expr.attr, twin, expr.loc)
        elif value is None and expr.attr in loops_functions.ATTRIBUTES:
            attribute = self._global(loops_functions.ATTRIBUTES[expr.attr], expr.loc)
            statement.value = ir.Expr.call(attribute, (expr.value,), (), expr.loc)

    def _call(self, statement, expr):
        function = self._constant(expr.func)
        definition = self._definition(expr.func)
        _refuse(function, expr.loc)
        if isinstance(function, Callable):
            standin = loops_functions.standin_of(function)
            if standin is not None:
                expr.func = self._global(standin, expr.loc)
        elif isinstance(definition, ir.Expr) and definition.op == "getattr":
            if definition.attr in ("append", "insert"):
                expr.args = [*expr.args[:-1], *(self._widened(arg) for arg in expr.args[-1:])]
            elif definition.attr in loops_functions.METHODS:
                method = loops_functions.METHODS[definition.attr]
                expr.func = self._global(method, expr.loc)
                expr.args = [definition.value, *expr.args]
            elif definition.attr in ("empty", "empty_list"):
                expr.args = [self._of_active(arg) for arg in expr.args]
                expr.kws = [(name, self._of_active(arg)) for name, arg in expr.kws]

    def _of_active(self, item):
        """The type of what a typed list or dictionary holds: of active numbers for floats."""
        kind, definition = self._constant(item), self._definition(item)
        if isinstance(definition, ir.Expr) and definition.op == "static_getitem":
            element = self._constant(definition.value)
            if isinstance(element, types.Type):  # as in float64[:]
                kind = element[definition.index]
        if not isinstance(kind, types.Type):
            return item
        return self._global(loops_functions.active_kind(kind), item.loc)

    def _build_list(self, statement, expr):
        expr.items = [self._widened(item) for item in expr.items]

    def _build_map(self, statement, expr):
        expr.items = [(key, self._widened(item)) for key, item in expr.items]

    def _binop(self, statement, expr):
        # An implementation for a constant operand would get it as a Python number.
        expr.static_lhs = expr.static_rhs = ir.UNDEFINED

    _inplace_binop = _binop

    def _widened(self, item):
        call = ir.Expr.call(self._global(widen, item.loc), (item,), (), item.loc)
        return self._assign(call, item.loc)

    def _global(self, value, loc):
        return self._assign(ir.Global(getattr(value, "__name__", "value"), value, loc), loc)

    def _assign(self, value, loc):
        name = ir_utils.mk_unique_var("$nbhvp")
        variable = ir.Var(self._scope, name, loc)
        self._body.append(ir.Assign(value, variable, loc))
        return variable

    def _definition(self, variable):
        return ir_utils.guard(ir_utils.get_definition, self._ir, variable)

    def _constant(self, variable):
        """What a variable is if it is a global, a free variable or in a module; else None."""
        definition = self._definition(variable)
        if isinstance(definition, ir.Global | ir.FreeVar | ir.Const):
            return definition.value
        if isinstance(definition, ir.Expr) and definition.op == "getattr":
            module = self._constant(definition.value)
            if isinstance(module, python.ModuleType):
                return getattr(module, definition.attr, None)
        return None


def _is_argument(statement) -> bool:
    return isinstance(statement, ir.Assign) and isinstance(statement.value, ir.Arg)


_WITHOUT_SOURCE = (
    (ObjModeLiftedWith, "a block in object mode", "compute it outside and pass it as an argument"),
    (StencilFunc, "a function under @stencil", "write it as a loop"),
    (GUFunc, "a function under @guvectorize", "write it as a function under @njit with loops"),
    (CFunc, "a function under @cfunc", "call the function that it was made from, under @njit"),
)
"""What no recording can follow, and what to write instead."""


def _refuse(function, loc):
    for kind, what, instead in _WITHOUT_SOURCE:
        if isinstance(function, kind):
            raise refusal(loc.filename, loc.line, f"{what} cannot be recorded", instead)
