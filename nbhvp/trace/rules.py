"""User functions with the user's own derivative rules: compiled loops, C code, tables.

Such a function is a primitive of kind "general", made for each trace. Its value is a call of the
function on whole arrays, and its tangent is the user's rule,

    elementwise:  z_dot = sum_k (dz/dx_k) x_k_dot,      custom_jvp:  z_dot = J(x) x_dot,

which reverse mode transposes. The rule is traced when a derivative needs it for the first time, at the
recorded values of the arguments, with inputs for the tangents. The resulting graph must be linear in
the tangents, have the shape and dtype of the function's result, and contain no branch. It consists of
primitives and of functions with rules, so derivatives of higher order exist as far as rules do.

Invariant: everything that a function or its rule reads from outside is watched like all that a trace
depends on, even if the rule is traced later than the function that calls it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nbhvp.errors import TraceError
from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.node import Node
from nbhvp.graph.requests import settled
from nbhvp.trace import pickling
from nbhvp.trace.arrays import Traced, cast_node, is_constant, is_weak, lift, traced, traced_in
from nbhvp.trace.kinds import stands_for
from nbhvp.trace.places import user_line
from nbhvp.trace.recording import current, source_of, trace_error

if TYPE_CHECKING:
    from nbhvp.trace.following.standins import Standins

__all__ = ["CustomFunction", "custom_jvp", "elementwise"]


def elementwise(fun=None, *, partials: Callable | None = None):
    """Give an elementwise function a rule: its partial derivatives.

    Parameters
    ----------
    fun : callable
        ``fun(x, y, ...)`` of arrays that broadcast, with one array as result. It may contain any
        code, such as a call into C or a table look-up. In a differentiable function it receives
        fresh C-contiguous arrays, of shape () for scalars; Python's numbers, strings and other
        hashable objects are passed on unchanged.
    partials : callable
        ``partials(z, x, y, ...)`` of the result z and the arguments returns a tuple with the partial
        derivative with respect to each argument, None where it is zero. Without `partials`, `fun`
        has a value only, and its derivative is an error.

        It is written in NumPy without branches on values, and may call functions with rules. So
        nbhvp can differentiate it, for second derivatives.

    Returns
    -------
    CustomFunction
        It is called like `fun`, also inside differentiable functions. If `fun` is left out, the
        result is a decorator.

    Examples
    --------
    >>> import math
    >>> import numpy as np
    >>> import nbhvp
    >>> @nbhvp.elementwise(partials=lambda z, x: (1 / x,))
    ... @np.vectorize
    ... def log(x):
    ...     return math.log(x)
    >>> f = nbhvp.differentiable(lambda x: np.sum(log(x)))
    >>> f.hvp(np.array([1.0, 2.0]), np.ones(2))
    array([-1.  , -0.25])
    """
    if fun is None:
        return functools.partial(elementwise, partials=partials)
    return CustomFunction(_callable(fun), "elementwise", partials and _callable(partials))


def custom_jvp(fun) -> CustomFunction:
    """Give a function of arrays a rule for its JVP, the product J(x) x_dot.

    Parameters
    ----------
    fun : callable
        ``fun(x, y, ...)`` of arrays, with one array as result, as in `elementwise`. The decorator
        ``fun.defjvp`` sets its rule, as in JAX: ``rule((x, y, ...), (x_dot, y_dot, ...))`` returns
        ``(z, z_dot)``, the result ``fun(x, y, ...)`` and its tangent, which is linear in the
        tangents of the arguments. The tangent of an argument that is not a float is None.

    Returns
    -------
    CustomFunction

    Examples
    --------
    >>> import numpy as np
    >>> import nbhvp
    >>> @nbhvp.custom_jvp
    ... def root(a):                               # of x + x**5 = a
    ...     return np.array([np.roots([1, 0, 0, 0, 1, -c])[-1].real for c in a])
    >>> @root.defjvp
    ... def root_jvp(primals, tangents):
    ...     (a,), (a_dot,) = primals, tangents
    ...     x = root(a)
    ...     return x, a_dot / (1 + 5 * x**4)
    >>> f = nbhvp.differentiable(lambda a: np.sum(root(a)))
    >>> f.hvp(np.array([2.0]), np.ones(1)).round(6)
    array([-0.092593])
    """
    return CustomFunction(_callable(fun), "custom_jvp", None)


def _what_failed(error: Exception, name: str) -> str:
    """What is wrong with the rule of a function, at the user's line if it is one."""
    what, where = str(error), user_line(error.__traceback__)
    if not isinstance(error, TraceError):
        if not where:  # a rule that the package made
            return f"{name}: its derivative failed with {type(error).__name__}: {what}"
        what = f"{where}: {type(error).__name__}: {what}"
    return (
        f"{what}; this is the derivative rule of {name}, which must be written in NumPy "
        "without branches on values, or with functions that have rules themselves"
    )


def _callable(fun):
    if not callable(fun):
        raise TypeError(f"needed a function, got {type(fun).__name__}")
    return fun


@pickling.travels("_fun", "_kind", "_rule")
class CustomFunction:
    """A function with a derivative rule of one's own. Made by `elementwise` and `custom_jvp`."""

    _unbound = None

    def __init__(self, fun: Callable, kind: str, rule: Callable | None):
        self._fun = fun
        self._kind = kind
        self._rule = rule
        functools.update_wrapper(self, fun)

    def __call__(self, *args):
        if any(True for _ in traced_in(args)):
            raise trace_error(
                f"{source_of(self._fun)} is called by code that nbhvp does not follow",
                "call it in a function of your own, which nbhvp follows",
            )
        return self._fun(*args)

    def defjvp(self, rule: Callable) -> Callable:
        """Take ``rule(primals, tangents) -> (z, z_dot)`` as the JVP; a decorator."""
        if self._kind != "custom_jvp":
            raise TypeError(
                "defjvp needs a function made by nbhvp.custom_jvp, got one made by nbhvp.elementwise, "
                "which takes partials="
            )
        self._rule = _callable(rule)
        return rule

    def __repr__(self) -> str:
        return f"<nbhvp.{self._kind} {source_of(self._fun)}>"


@dataclass(frozen=True)
class Place:
    """One argument of a call: static, if it has a value here, else an array or Python's float."""

    kind: type
    value: Any = None

    def filled(self, arrays: Iterator) -> Any:
        if self.kind is np.ndarray:
            return np.array(next(arrays), order="C")
        return np.asarray(next(arrays)).item() if self.kind is Traced else self.value


@dataclass(eq=False)
class Application:
    """The calls of such a function in a trace whose arguments differ in their values alone."""

    args: tuple
    """Of the first of them, with inputs in the place of floats that depend on an input of the trace."""
    arrays: tuple[int, ...]
    """The positions of the arguments that are nodes; others are static."""
    result: Traced
    """Of these arguments."""
    tangent: tuple[Node, dict[int, Node]] | None = None
    """The tangent of the result, and its inputs by position among the nodes; once it is needed."""


class InTrace:
    """The stand-in of a CustomFunction in one trace; it owns its primitive."""

    def __init__(self, custom: CustomFunction, standins: Standins):
        self._custom = custom
        self._standins = standins
        self._known: dict[tuple, Traced] = {}
        self._applications: dict[tuple, Application] = {}
        self._primitive = p.Primitive(
            getattr(custom, "__name__", "custom"),
            "general",
            self._evaluate,
            lambda *args, shape, dtype, call, like: (shape, dtype),
            tangent=self._tangent,
            batches=False,
        )

    def watch(self) -> None:
        """See to it that a change of the function, or of what it depends on, is noticed."""
        self._standins.of(self._custom._fun)
        self._rule = self._standins.of(self._standins.watched(getattr, self._custom, "_rule"))

    def __call__(self, *args):
        args = tuple(map(_argument, args))
        arrays = tuple(k for k, arg in enumerate(args) if isinstance(arg, Traced))
        nodes = tuple(args[k].node for k in arrays)
        call = tuple(map(_place, args))
        if (nodes, call) not in self._known:
            self._known[nodes, call] = self._apply(args, arrays, nodes, call)
        result = self._known[nodes, call]
        return traced(result.node, result.value)

    def _apply(self, args: tuple, arrays: tuple, nodes: tuple, call: tuple) -> Traced:
        live = tuple(j for j, k in enumerate(arrays) if not is_constant(args[k]))
        try:
            value = self._value([args[k].value for k in arrays], call)
        except Exception as error:
            if live:
                current().leave_unguarded(error)
            raise
        if self._custom._kind == "elementwise":
            self._check_elementwise(value.shape, [args[k].shape for k in arrays])
        if not live:
            return traced(p.constant(self._standins.pool, value), value[()])
        # A rule may look at integers whose range is known, and at what is guarded.
        guards = current().guards
        free = tuple(j for j in live if nodes[j].dtype.kind in "fc" and nodes[j] not in guards)
        like = self._application(args, arrays, free, call, value)
        node = self._primitive(*nodes, shape=value.shape, dtype=value.dtype, call=call, like=like)
        current().values[node] = value
        return traced(node, value[()])

    def _application(
        self, args: tuple, arrays: tuple, free: tuple, call: tuple, value: np.ndarray
    ) -> Application:
        """What a call has in common with those like it, of which it may be the first."""
        nodes = [args[k].node for k in arrays]
        kinds = [(n.shape, n.dtype) if j in free else settled(n) for j, n in enumerate(nodes)]
        key = call, tuple(kinds), value.shape, value.dtype
        if key not in self._applications:
            name, known = f"{self._primitive.name} {id(self)} {len(self._applications)}", [*args]
            for j in free:
                arg = args[arrays[j]]
                node = p.input_node(arg.node.pool, f"{name}, {j}", arg.shape, arg.dtype)
                known[arrays[j]] = traced(node, arg.value)
                current().values[node] = np.asarray(arg.value, node.dtype)
            like = Application(tuple(known), arrays, None)
            self._applications[key] = like
            inner = tuple(known[k].node for k in arrays)
            params = {"shape": value.shape, "dtype": value.dtype, "call": call, "like": like}
            with self._standins.pool.settling():
                node = self._primitive(*map(settled, inner), **params)
            current().values[node] = value
            like.result = self._known[inner, call] = traced(node, value[()])
        return self._applications[key]

    def _check_elementwise(self, shape: tuple, given: list[tuple]) -> None:
        if shape != np.broadcast_shapes(*given):
            raise trace_error(
                f"{source_of(self._custom._fun)} is elementwise, and gives shape {shape} from "
                f"{', '.join(map(str, given))}",
                "for a function that is not elementwise use nbhvp.custom_jvp",
            )

    # Values.

    def _value(self, values: Sequence, call: tuple[Place, ...]) -> np.ndarray:
        """What the function gives, as an array of its own."""
        arrays = iter(values)
        result = self._custom._fun(*(place.filled(arrays) for place in call))
        if isinstance(result, list | tuple) or not isinstance(
            result, np.ndarray | np.generic | bool | int | float | complex
        ):
            raise TypeError(
                f"{source_of(self._custom._fun)} returned an object of type "
                f"{type(result).__name__}; needed one array or number"
            )
        return np.array(result, order="C")

    def _evaluate(self, *values, shape: tuple, dtype: np.dtype, call: tuple, like: Application):
        result = self._value(values, call)
        if (result.shape, result.dtype) != (shape, dtype):
            raise ValueError(
                f"{source_of(self._custom._fun)} gave {dtype}{list(shape)} when it was traced, and "
                f"{result.dtype}{list(result.shape)} here: shape and dtype must follow from those "
                "of the arguments"
            )
        return result

    # Tangents.

    def _tangent(
        self, z: Node, dots: list[Node | None], *args: Node, like: Application, **params
    ) -> Node | None:
        with z.pool.lock:  # several threads may derive at once
            if like.tangent is None:
                like.tangent = self._traced_rule(like)
        z_dot, inputs = like.tangent
        active = [k for k, dot in enumerate(dots) if dot is not None and k in inputs]
        # Linear in its inputs, it is its own JVP, in which those without a tangent cost nothing.
        moving = [inputs[k] for k in active]
        (z_dot,) = derive.jvp([z_dot], moving, moving)
        given = {like.args[k].node: arg for k, arg in zip(like.arrays, args, strict=True)}
        given.update((inputs[k], dots[k]) for k in active)
        return derive.substitute([z_dot], given)[0]

    def _traced_rule(self, application: Application) -> tuple[Node, dict[int, Node]]:
        """The tangent of an application, and its inputs: by position among the nodes."""
        name = source_of(self._custom._fun)
        if self._custom._rule is None:
            how = "partials=" if self._custom._kind == "elementwise" else "a rule, by .defjvp"
            raise TraceError(f"{name} has no derivative rule: give it {how}")
        dots: dict[int, Traced] = {}
        for position, k in enumerate(application.arrays):
            arg = application.args[k]
            if arg.dtype.kind in "fc":
                label = f"dot {position} of {application.result.node.index}"
                node = p.input_node(arg.node.pool, label, arg.shape, arg.dtype)
                dots[k] = traced(node, np.ones(arg.shape, arg.dtype)[()])
        run, finish = _STEPS[self._custom._kind]
        try:
            found = self._standins.resumed(lambda: run(self, application, dots))
        except Exception as error:
            raise TraceError(_what_failed(error, name)) from error
        z_dot = self._standins.resumed(lambda: finish(self, application, dots, found))
        inputs = {application.arrays.index(k): dot.node for k, dot in dots.items()}
        self._check_tangent(z_dot, application.result.node, inputs)
        return z_dot, inputs

    def _partials(self, application: Application, dots: dict[int, Traced]):
        result = application.result
        return self._rule(traced(result.node, result.value), *_copies(application.args))

    def _sum_of_partials(self, application: Application, dots: dict[int, Traced], found) -> Node:
        result, args = application.result, application.args
        partials = found if isinstance(found, tuple) else (found,)
        if len(partials) != len(args):
            raise self._wrong(f"gave {len(partials)} partials, needed {len(args)}")
        total = p.zeros(result.node.pool, result.shape, result.dtype)
        for k, dot in dots.items():
            if partials[k] is not None:
                partial = lift(partials[k])
                if np.broadcast_shapes(partial.shape, result.shape) != result.shape:
                    raise self._wrong(
                        f"gave a partial of shape {partial.shape}, needed {result.shape}"
                    )
                total = total + cast_node((partial * dot).node, result.dtype)
        return total

    def _jvp(self, application: Application, dots: dict[int, Traced]):
        primals = _copies(application.args)
        return self._rule(primals, tuple(dots.get(k) for k in range(len(primals))))

    def _second_result(self, application: Application, dots: dict[int, Traced], found) -> Node:
        if not isinstance(found, tuple) or len(found) != 2:
            raise self._wrong(
                f"must return (z, z_dot), got an object of type {type(found).__name__}"
            )
        result, (z, z_dot) = application.result, map(lift, found)
        is_same = z.node is result.node or (
            z.shape == result.shape
            and np.allclose(z.value, result.value, rtol=1e-6, equal_nan=True)
        )
        if not is_same:
            raise self._wrong(
                "gave another value z than the function: it must return (f(*primals), z_dot)"
            )
        return z_dot.node

    def _check_tangent(self, z_dot: Node, z: Node, inputs: dict[int, Node]) -> None:
        for what, given, needed in (
            ("shape", z_dot.shape, z.shape),
            ("dtype", z_dot.dtype, z.dtype),
        ):
            if given != needed:
                raise self._wrong(f"gave a tangent of {what} {given}, needed {needed}")
        if not derive.is_linear(z_dot, tuple(inputs.values())):
            raise self._wrong("is not linear in the tangents")

    def _wrong(self, what: str) -> TraceError:
        rule, fun = source_of(self._custom._rule), source_of(self._custom._fun)
        return TraceError(f"the derivative rule {rule} of {fun} {what}")

    def __repr__(self) -> str:
        return repr(self._custom)


@stands_for(CustomFunction)
def _in_trace(standins: Standins, value: CustomFunction) -> InTrace:
    standin = standins.remember(value, InTrace(value, standins))
    standin.watch()
    return standin


_STEPS = {
    "elementwise": (InTrace._partials, InTrace._sum_of_partials),
    "custom_jvp": (InTrace._jvp, InTrace._second_result),
}
"""For each kind: what calls the rule, and what makes the tangent of what the rule returned."""


def _place(arg) -> Place:
    """How an argument is passed; a Python number stays one, since its dtype gives way to others."""
    if not isinstance(arg, Traced):
        return Place(type(arg), arg)
    return Place(Traced if is_weak(arg) else np.ndarray)


def _argument(arg):
    """An array as a traced one; anything else that is hashable as it is."""
    if isinstance(arg, Traced | np.ndarray | np.floating | np.complexfloating):
        return lift(arg)
    if isinstance(arg, list | tuple | dict):
        raise trace_error(
            "a function with a derivative rule takes arrays and numbers, each as one argument",
            "pass np.array(...)",
        )
    hash(arg)
    return arg


def _copies(args: tuple) -> tuple:
    """Arguments for a rule, which may write into what it gets."""
    return tuple(traced(arg.node, arg.value) if isinstance(arg, Traced) else arg for arg in args)
