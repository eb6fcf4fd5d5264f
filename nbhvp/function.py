"""Function: a NumPy function with values, gradients and products, compiled as they are needed.

    user function --record--> trace --derive, split--> programs --run--> values, gradients, products

A trace holds for one shape and dtype of x, one set of static arguments, and wherever its guards
do: they are read before any result or error is believed, and where no known trace holds, the
function is traced anew. A trace just made at x runs there unchecked: the tracer's outcome rules.

Until the first product, a gradient runs value-and-gradient. After it, a gradient at a new x runs
the point program, which gives value and gradient too, so that products at that x find it ready.
The remembered point is keyed by x and the arguments, bit by bit.
"""

from __future__ import annotations

import functools
import math
import numbers
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nbhvp.errors import TraceError
from nbhvp.graph import derive
from nbhvp.graph.node import Pool
from nbhvp.loops.call import is_compiled
from nbhvp.operators.linear import HessianOperator, JacobianOperator
from nbhvp.runtime.inputs import as_given, as_vector, direction, primal, takes, weights
from nbhvp.runtime.memory import (
    SHARED,
    Call,
    Memory,
    Owner,
    Point,
    Recorded,
    apply_columns,
    can_be_remembered,
    copied,
    point_at,
)
from nbhvp.runtime.report import Report
from nbhvp.trace import pickling
from nbhvp.trace.arguments import flatten
from nbhvp.trace.record import Trace, record
from nbhvp.trace.recording import TAPE_LIMIT, source_of
from nbhvp.tree import Unravel

__all__ = ["Function", "differentiable"]

DEFAULT_TARGET = "cpu"

DEFAULT_MODE = "forward-over-reverse"
DIFFERENCES = ("finite-difference", "finite-difference-forward")


@dataclass(frozen=True)
class Options:
    """How a Function is made, as `differentiable` takes it."""

    trace: str
    target: str
    unravel: Unravel | None
    loops: bool | None
    tape_limit: int


def differentiable(
    fun=None,
    *,
    trace: str = "once",
    target: str = DEFAULT_TARGET,
    unravel: Unravel | None = None,
    loops: bool | None = None,
    tape_limit: int = TAPE_LIMIT,
):
    """Give a function compiled values, gradients and exact Hessian-vector products.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args, **kwargs)``, plain NumPy or compiled by Numba's ``@njit``, with a scalar
        result (or one of size 1) for Hessians, an array, a list or a tuple of scalars for
        Jacobians. Functions, bound methods, partials and callable objects. Decorating a method
        binds as a function does.
    trace : {"once", "always"}
        "once" traces ``fun`` again only where its control flow, its static arguments, or what it
        closes over differ. "always" traces at every call: for functions with hidden state or
        randomness.
    target : {"cpu", "interpret"}
        Compiled by Numba, or interpreted node by node with NumPy: slow, and the reference.
    unravel : Unravel
        From `ravel`: `fun` takes the tree ``unravel(x)`` in the place of x, and Hessians know the
        names of its parts. All methods take x and directions as vectors, as SciPy does, or as trees;
        what has the form of one of these is given as it was.
    loops : bool, optional
        True for a plain Python function with loops over elements that Numba can compile: it is
        treated as if ``@njit`` stood before it. Compiled functions, met anywhere, are run for the
        tape of their operations if they loop, and traced as NumPy functions if not; True or False
        chooses one way for all.
    tape_limit : int
        Bytes that the tape of one call may take, 17 per operation.

    Returns
    -------
    Function
        Or a decorator, if `fun` is left out.

    Examples
    --------
    >>> import numpy as np
    >>> import nbhvp
    >>> @nbhvp.differentiable
    ... def f(x):
    ...     return np.sum(x**4) / 12
    >>> f.hvp(np.array([1.0, 2.0, 3.0]), np.ones(3))
    array([1., 4., 9.])
    """
    if trace not in ("once", "always"):
        raise ValueError(f"trace must be 'once' or 'always', got {trace!r}")
    if not isinstance(unravel, Unravel | None):
        kind = type(unravel).__name__
        raise TypeError(f"unravel must be what nbhvp.ravel gives beside x, got {kind}")
    if not isinstance(tape_limit, numbers.Real) or not 0 < tape_limit < math.inf:
        raise ValueError(f"tape_limit must be a positive number of bytes, got {tape_limit!r}")
    options = Options(trace, target, unravel, loops, int(tape_limit))
    if fun is None:
        return functools.partial(differentiable, **vars(options))
    if isinstance(fun, Function):
        raise TypeError(f"{fun!r} is differentiable already")
    if not callable(fun):
        raise TypeError(f"needed a function of x, got {type(fun).__name__}")
    return Function(_jitted(fun) if loops else fun, options)


@pickling.travels("_fun", "_options")
class Function:
    """A function with compiled values, derivatives and products. Made by `differentiable`.

    All methods take x of any shape S, float32 or float64 (integers, booleans and lists become
    float64), and the further arguments of the function, whose names may be any: x, v and w are given
    by position. Results are fresh arrays. Safe to call from several threads.

    Raises
    ------
    TypeError
        If x is complex, of another precision, or no array of numbers; if a gradient or Hessian is
        wanted of a function whose result is no scalar.
    TraceError
        If the function cannot be differentiated as it is written; names the line.
    ValueError
        If a direction has the wrong shape.
    """

    def __init__(self, fun: Callable, options: Options):
        self._fun, self._options = fun, options
        self._memory = Memory(options.target)
        self._owner: Owner | None = None
        self._unbound: Function | None = None
        functools.update_wrapper(self, fun)

    # Values and derivatives of scalar functions.

    def __call__(self, x, /, *args, **kwargs):
        """The value of the function: a scalar, or an array like that of the function itself."""
        memory = self._memory
        recorded = memory.latest
        inputs = recorded and recorded.inputs_of(x, args, kwargs, self._owner)
        # Small functions wait for Python above all: no `Call`, no search for a trace.
        if inputs is not None:
            point = memory.point
            if point is not None and point.recorded is recorded and point.is_at(*inputs):
                value = point.known.get(recorded.array)
                if value is not None:
                    return value.copy()[()]
            outputs = recorded.attempt(lambda: recorded.value_program(*inputs))
            if outputs is not None:
                memory.report.value_runs += 1
                return outputs[0][()]
        call = self._call(x, args, kwargs)
        point = self._remembered(call)
        if point is not None and point.recorded.array in point.known:
            return point.known[point.recorded.array].copy()[()]
        memory.report.value_runs += 1
        _, (value,) = self._run(call, lambda recorded: recorded.value_program(*call.inputs))
        return value[()]

    def grad(self, x, /, *args, **kwargs) -> np.ndarray:
        """The gradient, of the shape and dtype of x."""
        return self._value_and_grad(x, args, kwargs)[1]

    def value_and_grad(self, x, /, *args, **kwargs) -> tuple[Any, np.ndarray]:
        """The value and the gradient, computed together.

        Examples
        --------
        >>> import numpy as np
        >>> import nbhvp
        >>> f = nbhvp.differentiable(lambda x: x @ x)
        >>> f.value_and_grad([1.0, 2.0])
        (np.float64(5.0), array([2., 4.]))
        """
        return self._value_and_grad(x, args, kwargs)

    def _value_and_grad(self, x, args: tuple, kwargs: dict) -> tuple[Any, np.ndarray]:
        mode, recorded = self._memory.mode, self._memory.latest
        inputs = recorded.inputs_of(x, args, kwargs, self._owner) if recorded else None
        if recorded is not None and inputs is not None:
            found = self._gradient_of(recorded, inputs, args, mode)
            if found is not None:
                return found
        call = self._call(x, args, kwargs)
        if mode is None or not self._is_rememberable(call):
            value, gradient = self._gradient_at(call)
        else:
            point = self._at(call, mode, complete=True)
            known, recorded = point.known, point.recorded
            value, gradient = known[recorded.value][()], copied(known[recorded.gradient])
        return value, as_given(gradient, x, self.unravel)

    def _gradient_of(self, recorded: Recorded, inputs: tuple, args: tuple, mode: str | None):
        """Value and gradient by a trace; None where it does not hold."""
        memory = self._memory
        if mode is None or (args and not can_be_remembered(inputs[1:])):
            outputs = recorded.attempt(lambda: recorded.gradient_program(*inputs))
            if outputs is None:
                return None
            memory.report.gradient_runs += 1
            return outputs[0][()], outputs[1]
        remembered = memory.point
        if (
            remembered is not None
            and remembered.recorded is recorded
            and mode in remembered.products
            and remembered.is_at(*inputs)
        ):
            gradient = remembered.known.get(recorded.gradient)
            if gradient is not None:
                return remembered.known[recorded.array][()], copied(gradient)
        point = self._point_of(remembered, recorded, inputs, args, mode, complete=True)
        if point is None:
            return None
        gradient = point.known[recorded.gradient]
        if point is remembered or gradient.nbytes < SHARED:
            memory.point, gradient = point, copied(gradient)
        else:
            # Nobody has this point yet: to copy what is large may take as long as to compute it.
            memory.point = point.without(recorded.gradient)
        return point.known[recorded.array][()], gradient

    def _point_of(
        self,
        point: Point | None,
        recorded: Recorded,
        inputs: tuple,
        args: tuple,
        kind: str,
        complete: bool,
    ) -> Point | None:
        """The point with the product of a kind ready, by a trace; None where it does not hold.

        It is the one given, if that is at these inputs.
        """
        if point is None or point.recorded is not recorded or not point.is_at(*inputs):
            point = point_at(recorded, inputs, args, kind, complete)
            if point is None:
                return None
        return point.extended(kind, complete)

    def _gradient_at(self, call: Call) -> tuple[Any, np.ndarray]:
        self._memory.report.gradient_runs += 1
        _, (value, gradient) = self._run(
            call, lambda recorded: recorded.gradient_program(*call.inputs)
        )
        return value[()], gradient

    def hvp(self, x, v, /, *args, mode: str = DEFAULT_MODE, **kwargs) -> np.ndarray:
        """The product H(x) v of the Hessian with a direction, in SciPy's order of arguments.

        Parameters
        ----------
        x : array_like, shape S
        v : array_like, shape S or S + (k,)
            A direction, or k of them.
        *args, **kwargs
            Further arguments of the function. One above 1 MB counts as unchanged between calls only
            if it is the same array and nobody can write it.
        mode : str
            If the function itself names a parameter ``mode``, it goes there, and the product is the
            default one; else "forward-over-reverse", the tangent of the gradient [1]_, is the default;
            "reverse-over-forward" and "reverse-over-reverse" have the same value.
            "finite-difference" is (g(x + h v) - g(x - h v)) / 2h of the gradient g, with
            h = eps^(1/3) (1 + |x|) / |v|: the truncation error h^2 balances the rounding error
            eps / h. "finite-difference-forward" is (g(x + h v) - g(x)) / h with
            h = eps^(1/2) (1 + |x|) / |v|, where h balances eps / h.

        Returns
        -------
        ndarray, shape of v

        References
        ----------
        .. [1] B. A. Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6
           (1994).

        Examples
        --------
        >>> import numpy as np
        >>> import nbhvp
        >>> f = nbhvp.differentiable(lambda x: np.prod(x))
        >>> f.hvp([1.0, 2.0, 3.0], [1.0, 0.0, 0.0])
        array([0., 3., 2.])
        """
        if mode is not DEFAULT_MODE and self._takes_mode:
            kwargs["mode"], mode = mode, DEFAULT_MODE
        memory = self._memory
        point = memory.point
        if (
            point is not None
            and mode in point.products
            and type(x) is type(v) is np.ndarray
            and x.dtype is v.dtype is (recorded := point.recorded).dtype
            and x.shape == v.shape == recorded.shape
            and (x.tobytes() == point.bits if point.bits else point.is_at(x))
            and (point.has_arguments(args, kwargs) if args or kwargs else point.is_bare)
            and recorded.owner == self._owner
            and v.flags.c_contiguous
            and not recorded.trace.closure.glance()
        ):
            memory.report.product_runs += 1
            return point.products[mode](v)
        if mode in DIFFERENCES:
            product = self._difference(x, v, args, kwargs, central=mode == DIFFERENCES[0])
            return as_given(product, v, self.unravel)
        if mode not in derive.EXACT_MODES:
            known = ", ".join((*derive.EXACT_MODES, *DIFFERENCES))
            raise ValueError(f"mode must be one of {known}, got {mode!r}")
        found = self._product_of(mode, x, v, args, kwargs)
        if found is None:
            found = as_given(self._product(mode, x, v, args, kwargs), v, self.unravel)
        memory.mode = mode
        return found

    def _product_of(self, mode: str, x, v, args: tuple, kwargs: dict) -> np.ndarray | None:
        """The product with one direction by the latest trace, where a glance shows that it holds."""
        recorded = self._memory.latest
        inputs = recorded.inputs_of(x, args, kwargs, self._owner) if recorded else None
        if recorded is None or inputs is None or (args and not can_be_remembered(inputs[1:])):
            return None
        is_plain = type(v) is np.ndarray and v.dtype is recorded.dtype and v.flags.c_contiguous
        if not is_plain or v.shape != recorded.shape or recorded.array.shape != ():
            return None
        memory = self._memory
        point = self._point_of(memory.point, recorded, inputs, args, mode, complete=False)
        if point is None:
            return None
        memory.point = point
        memory.report.product_runs += 1
        return point.products[mode](v)

    def hessian(self, x, /, *args, **kwargs) -> HessianOperator:
        """The Hessian at x as a LinearOperator of shape (x.size, x.size).

        The arguments are bound for its lifetime: up to 1 MB they are copied, larger ones must not
        change while it is used.

        Examples
        --------
        >>> import numpy as np
        >>> import nbhvp
        >>> f = nbhvp.differentiable(lambda x: np.prod(x))
        >>> H = f.hessian(np.array([1.0, 2.0, 3.0]))
        >>> H @ np.array([1.0, 0.0, 0.0])
        array([0., 3., 2.])
        """
        point = self._at(self._call(x, args, kwargs), DEFAULT_MODE)
        self._memory.mode = DEFAULT_MODE
        return HessianOperator(self, "hessian", point, DEFAULT_MODE, (args, kwargs))

    # Derivatives of functions with array results.

    def jvp(self, x, v, /, *args, **kwargs) -> np.ndarray:
        """The product J(x) v: shape of the result, or that + (k,) for v of shape S + (k,)."""
        return self._product("jvp", x, v, args, kwargs)

    def vjp(self, x, w, /, *args, **kwargs) -> np.ndarray:
        """The product J(x)^T w: shape S of x, or S + (k,) for k weights."""
        return as_given(self._product("vjp", x, w, args, kwargs), x, self.unravel)

    def jacobian(self, x, /, *args, **kwargs) -> JacobianOperator:
        """The Jacobian at x as a LinearOperator of shape (result size, x.size).

        Examples
        --------
        >>> import numpy as np
        >>> import nbhvp
        >>> r = nbhvp.differentiable(lambda x: [x[0] * x[1], x[1] ** 2])
        >>> r.jacobian([3.0, 5.0]).toarray()
        array([[ 5.,  3.],
               [ 0., 10.]])
        """
        point = self._at(self._call(x, args, kwargs), "jvp")
        return JacobianOperator(self, "jacobian", point, (args, kwargs))

    def weighted_hessian(self, x, w, /, *args, **kwargs) -> HessianOperator:
        """The operator of sum_i w_i H_i, with H_i the Hessian of the i-th result.

        It is what ``scipy.optimize.NonlinearConstraint`` takes as ``hess``.

        Examples
        --------
        >>> import numpy as np
        >>> import nbhvp
        >>> r = nbhvp.differentiable(lambda x: [x[0] * x[1], x[1] ** 2])
        >>> r.weighted_hessian([3.0, 5.0], [1.0, 10.0]).toarray()
        array([[ 0.,  1.],
               [ 1., 20.]])
        """
        call, w = self._call(x, args, kwargs).kept(), np.array(w)

        def weighted(recorded):
            return replace(call, leaves=(*call.leaves, weights(w, recorded.array)))

        def run(recorded):
            return recorded.run_point("weighted", weighted(recorded).inputs, complete=False)

        recorded, outputs = self._run(call, run)
        point = Point(recorded, weighted(recorded), self._owner).with_outputs("weighted", outputs)
        return HessianOperator(self, "weighted_hessian", point, "weighted", ((w, *args), kwargs))

    def report(self) -> Report:
        """How often the function was traced and its programs ran, and what compiling took.

        Examples
        --------
        >>> import numpy as np
        >>> import nbhvp
        >>> f = nbhvp.differentiable(lambda x: np.sum(x**3))
        >>> H = f.hessian([1.0, 2.0])
        >>> H @ [1.0, 0.0], f.report().product_runs
        (array([6., 0.]), 1)
        """
        report = self._memory.report
        return replace(report, product_runs=report.product_runs + self._memory.products.total)

    @property
    def unravel(self) -> Unravel | None:
        """The map from x to the tree that the function takes, if it takes one."""
        return self._options.unravel

    @functools.cached_property
    def _takes_mode(self) -> bool:
        return takes(self._fun, "mode")

    # Methods, and pickling.

    def __get__(self, instance, owner=None) -> Function:
        if instance is None or not hasattr(self._fun, "__get__"):
            return self
        bound = Function.__new__(Function)
        bound.__dict__.update(self.__dict__)
        bound._fun = self._fun.__get__(instance, owner)
        bound._owner, bound._unbound = Owner(instance), self
        return bound

    def __repr__(self) -> str:
        return f"<nbhvp.Function {source_of(self._fun)}>"

    # One call.

    def _call(self, x, args: tuple, kwargs: dict) -> Call:
        given, x = x, primal(as_vector(x, self.unravel))
        leaves, key = flatten(args, kwargs) if args or kwargs else ((), ())
        call = Call(x, tuple(leaves), (self._owner, x.shape, x.dtype, key), args, kwargs)
        if leaves and given is not x and isinstance(given, np.ndarray):
            call.given = given
        return call

    def _is_rememberable(self, call: Call) -> bool:
        return call.can_be_remembered and not self._is_always_traced

    @property
    def _is_always_traced(self) -> bool:
        return self._options.trace == "always"

    def _remembered(self, call: Call) -> Point | None:
        point = self._memory.point
        if point is None or not call.equals(point.call):
            return None
        recorded = point.recorded
        return point if recorded.admits(call) and not recorded.trace.closure.changed() else None

    def _at(self, call: Call, kind: str, complete: bool = False) -> Point:
        """The point with the product of a kind ready: the remembered one, or a new one."""
        point = self._remembered(call)
        if point is None:
            point = self._new_point(call, kind, complete)
        else:
            point = point.extended(kind, complete)
        if self._is_rememberable(call):
            self._memory.point = point
        return point

    def _new_point(self, call: Call, kind: str, complete: bool) -> Point:
        recorded, outputs = self._run(
            call, lambda recorded: recorded.run_point(kind, call.inputs, complete)
        )
        # Copied after the trace, whose temporary arrays are gone by now.
        return Point(recorded, call.kept(), self._owner).with_outputs(kind, outputs)

    def _product(self, kind: str, x, v, args: tuple, kwargs: dict) -> np.ndarray:
        call = self._call(x, args, kwargs)
        name = "w" if kind == "vjp" else "v"
        if kind != "vjp":
            v = as_vector(v, self.unravel)
        if self._is_rememberable(call):
            point = self._at(call, kind)
        else:
            recorded, _ = self._run(call, lambda recorded: recorded.run_guards(call))
            program, like = recorded.whole(kind)
            v = direction(v, like, name)
            if v.shape == like.shape:
                self._memory.report.product_runs += 1
                return program.bind(*call.inputs)(v)
            point = self._new_point(call, kind, complete=False)
        like = point.recorded.linearized(kind).direction
        v = direction(v, like, name)
        self._memory.report.product_runs += v.size // like.size if like.size else 1
        return point.product(kind, v)

    def _difference(self, x, v, args: tuple, kwargs: dict, central: bool) -> np.ndarray:
        x, v = primal(as_vector(x, self.unravel)), as_vector(v, self.unravel)
        v = direction(v, x)
        call = self._call(x, args, kwargs)
        scale = np.finfo(x.dtype).eps ** (1 / 3 if central else 1 / 2)

        def gradient(step):
            return self._gradient_at(replace(call, x=x + step))[1]

        def product(v):
            length = np.linalg.norm(v)
            if length == 0:
                return np.zeros_like(x)
            h = x.dtype.type(scale * (1 + np.linalg.norm(x)) / length)
            if central:
                return (gradient(h * v) - gradient(-h * v)) / (2 * h)
            return (gradient(h * v) - gradient(0 * v)) / h

        return apply_columns(product, v, x.ndim)

    # Traces.

    def _run(self, call: Call, run: Callable[[Recorded], list]) -> tuple[Recorded, list]:
        """The first trace whose guards hold at the call, and what `run` gives there.

        `run` maps a trace to the outputs of one of its programs, guards first; these are left out.
        """
        tried: set[Recorded] = set()
        found = self._search(call, run, tried)
        if found is None:
            with self._memory.lock:
                # Another thread may have made the trace meanwhile.
                found = self._search(call, run, tried)
                recorded = found[0] if found else self._record(call)
            # A trace just made at x holds there: its guards are not looked at.
            outputs = found[1] if found else run(recorded)
            found = recorded, outputs
        return found[0], found[1][len(found[0].guards) :]

    def _search(self, call: Call, run, tried: set[Recorded]) -> tuple[Recorded, list] | None:
        for recorded in () if self._is_always_traced else self._memory.traces:
            if recorded in tried or recorded.key != call.key or recorded.trace.closure.changed():
                continue
            tried.add(recorded)
            if not recorded.admits(call):
                continue
            try:
                outputs = run(recorded)
            except Exception:
                # An error counts only where the trace holds.
                if not recorded.holds(recorded.run_guards(call)):
                    continue
                raise
            if recorded.holds(outputs):
                self._memory.use(recorded)
                return recorded, outputs
        return None

    def _trace(
        self,
        x: np.ndarray,
        args: tuple,
        kwargs: dict,
        pool: Pool | None = None,
        given: np.ndarray | None = None,
    ) -> Trace:
        options = self._options
        return record(
            self._fun,
            x,
            args,
            kwargs,
            options.unravel,
            pool,
            loops=options.loops,
            tape_limit=options.tape_limit,
            always=self._is_always_traced,
            given=given,
        )

    def _record(self, call: Call) -> Recorded:
        start = time.perf_counter()
        trace = self._trace(call.x, call.args, call.kwargs, given=call.given)
        self._memory.report.trace_seconds += time.perf_counter() - start
        source = source_of(self._fun)
        if trace.hidden_state and not self._is_always_traced:
            raise TraceError(
                f"{source} depends on {trace.hidden_state}, which may be another at the next call: "
                "read it outside and pass its numbers as an argument, or trace the function at "
                "every call, with differentiable(trace='always')"
            )
        recorded = Recorded(trace, call.key, self._memory, source)
        if self._owner is not None:
            self._memory.follow(recorded, self._owner)
        self._memory.add(recorded, keep=not self._is_always_traced)
        self._memory.tell(trace.notes)
        return recorded


def _jitted(fun: Callable) -> Callable:
    """A plain Python function as Numba compiles it."""
    if is_compiled(fun):
        return fun
    if isinstance(fun, functools.partial):
        return functools.partial(_jitted(fun.func), *fun.args, **fun.keywords)
    if not isinstance(fun, types.FunctionType):
        raise TypeError(
            f"loops=True needs a plain function, got {type(fun).__name__}: Numba compiles no "
            "methods or callable objects; give what it needs as arguments"
        )
    from numba import njit

    return njit(fun)
