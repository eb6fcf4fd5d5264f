"""Derivatives inside differentiable functions: what stands for a `Function` in the trace of another.

    def loss(x):                            # its gradient has second derivatives of the energy,
        return np.sum((energy.grad(x) - forces) ** 2)       # its products have third ones

The inner function is traced on nodes of the outer one, at a node of its own that stands for its x, a
variable. `derive` makes the derivative in the variable, and then the argument takes its place. So what
depends on x in another way, as other arguments or what a closure holds, is not differentiated in; and of
a derivative inside a derivative each has a variable of its own. Guards, constants and objects that the inner
function reads are those of the outer trace.

Invariant: a result is what the `Function` gives for plain numbers, in shape, dtype and value.
"""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nbhvp.function import DEFAULT_MODE, OF_TREES, Function, TreeFunction, differentiable
from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.batch import batched
from nbhvp.graph.interpret import evaluated
from nbhvp.graph.linear_map import (
    HESSIANS,
    LinearMap,
    Primal,
    Product,
    jacobian,
    transposed_jacobian,
)
from nbhvp.graph.node import Graph, Node, reachable
from nbhvp.graph.requests import settled
from nbhvp.runtime.calls.inputs import as_given, as_vector
from nbhvp.trace.arrays import Traced, cast_node, lift, map_traced, traced, traced_in
from nbhvp.trace.branches.ties import ties
from nbhvp.trace.kinds import FunctionStandin, itself, original_of, stands_for
from nbhvp.trace.record import output_of
from nbhvp.trace.recording import STANDS_AROUND, current, source_of, trace_error
from nbhvp.trace.surroundings.ownership import is_foreign, module_of
from nbhvp.trace.views import Storage
from nbhvp.tree import Unravel, ravel

__all__ = ["Inner", "following", "stop_gradient"]


def stop_gradient(x: Any) -> Any:
    """x itself, as a constant to all that differentiates the function around it.

    Parameters
    ----------
    x : array_like
        An array, a number, or lists, tuples and dicts of these. Outside differentiable functions it is
        given back as it is.

    Examples
    --------
    >>> import numpy as np
    >>> import nbhvp
    >>> f = nbhvp.differentiable(lambda x: np.sum(x * nbhvp.stop_gradient(x)))
    >>> f.grad(np.array([1.0, 2.0]))
    array([1., 2.])
    """
    return map_traced(_fixed, x)


def _fixed(x: Traced) -> Traced:
    return traced(p.fixed(x.node), x.value) if x.dtype.kind in "fc" else x


stands_for(objects=(stop_gradient,))(itself)


class Inner(FunctionStandin):
    """What stands for a Function in a trace, with its methods."""

    function: Function
    run: Callable
    """The stand-in of the user's function."""

    def __init__(self, function: Function, unravel: Unravel | None):
        self.function, self.unravel = function, unravel

    def __get__(self, instance: Any, owner: type | None = None) -> Inner:
        if instance is None or not hasattr(self.function.__wrapped__, "__get__"):
            return self
        bound = Inner(self.function, self.unravel)
        bound.run = types.MethodType(self.run, instance)
        return bound

    def __call__(self, x: Any, /, *args: Any, **kwargs: Any) -> Any:
        """The value."""
        x = self._vector(x)
        return self._output(traced(x.node, x.value), args, kwargs)[()]

    def grad(self, x: Any, /, *args: Any, **kwargs: Any) -> Any:
        """The gradient."""
        return self.value_and_grad(x, *args, **kwargs)[1]

    def value_and_grad(self, x: Any, /, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Both."""
        value, gradient = self.derived(_value_and_gradient, self._vector(x), args, kwargs)
        return value[()], as_given(gradient, x, self.unravel)

    def hvp(self, x: Any, v: Any, /, *args: Any, mode: str = DEFAULT_MODE, **kwargs: Any) -> Any:
        """H(x) v."""
        if self.function._takes_mode and mode is not DEFAULT_MODE:
            mode, kwargs = DEFAULT_MODE, {**kwargs, "mode": mode}
        if mode not in HESSIANS:
            raise ValueError(
                f"mode must be one of {', '.join(HESSIANS)} in a differentiable function, got {mode!r}"
            )
        product = self._product(HESSIANS[mode], x, as_vector(v, self.unravel), args, kwargs)
        return as_given(product, v, self.unravel)

    def jvp(self, x: Any, v: Any, /, *args: Any, **kwargs: Any) -> Traced:
        """J(x) v."""
        return self._product(jacobian, x, as_vector(v, self.unravel), args, kwargs)

    def vjp(self, x: Any, w: Any, /, *args: Any, **kwargs: Any) -> Any:
        """J(x)^T w."""
        product = self._product(transposed_jacobian, x, w, args, kwargs)
        return as_given(product, x, self.unravel)

    def __getattr__(self, name: str) -> Any:
        if name in _PRODUCTS:
            raise trace_error(
                f".{name} of a differentiable function is called inside another one",
                f"take products there, with {_PRODUCTS[name]}",
            )
        return self.run if name == "__wrapped__" else getattr(self.function, name)

    def __repr__(self) -> str:
        return repr(self.function)

    # One run of the function.

    def _vector(self, x: Any) -> Any:
        x = lift(as_vector(x, self.unravel))
        if x.dtype.kind == "c":
            raise TypeError(f"x must be real, got {x.dtype}: give real and imaginary parts")
        return x if x.dtype.kind == "f" else x.astype(float)

    def _output(self, x: Traced, args: tuple, kwargs: dict) -> Any:
        """What the function gives, as one array; it may write into what it is given."""
        recording, options = current(), self.function.options
        outer = recording.loops, recording.tape_limit
        recording.loops, recording.tape_limit = options.loops, options.tape_limit
        args, kwargs = map_traced(copy.copy, (args, kwargs))
        try:
            result = self.run(x if self.unravel is None else self.unravel(x), *args, **kwargs)
        finally:
            recording.loops, recording.tape_limit = outer
        return output_of(result, self.function.__wrapped__, x.dtype)[0]

    def derived(self, derived: Derived, x: Traced, args: tuple, kwargs: dict) -> list[Any]:
        """What is derived from the function at x, of arguments that are traced or not."""
        recording, value = current(), np.asarray(x.value)
        given = {settled(arg.node): arg for arg in traced_in(args, kwargs)}
        for node, arg in given.items():
            recording.values[node] = np.asarray(arg.value, arg.dtype)
        with recording.differentiating(x.node, value) as variable:
            before = {*recording.guards}
            output = self._output(Traced(Storage(variable, value)), args, kwargs)
            _see_ties(output.node, variable, [one for one in recording.guards if one not in before])
            source = source_of(self.function.__wrapped__)
            with recording.pool.settling():
                nodes = derived(Primal((variable,), settled(output.node), source))
                values = evaluated(nodes, recording.values)
        # As requests: a loop over time may take derivatives in each step.
        known = {node: arg.node for node, arg in given.items() if node.args}
        nodes = derive.substitute(nodes, {**known, variable: x.node})
        recording.values.update(zip(map(settled, nodes), values, strict=True))
        return [traced(node, value) for node, value in zip(nodes, values, strict=True)]

    def _product(self, product: Product, x: Any, v: Any, args: tuple, kwargs: dict) -> Any:
        """A product with a direction, or with each along one more, last axis of v."""
        v = lift(v)
        current().values[settled(v.node)] = np.asarray(v.value, v.dtype)
        along = functools.partial(_along, product, v)
        return self.derived(along, self._vector(x), args, kwargs)[0]


Derived = Callable[[Primal], Sequence[Node]]

_PRODUCTS = {
    **dict.fromkeys(("hessian", "sparse_hessian", "hessian_sparsity"), ".hvp(x, v)"),
    "weighted_hessian": ".hvp(x, v) of a function that takes the weighted sum",
    **dict.fromkeys(("jacobian", "sparse_jacobian", "jacobian_sparsity"), ".jvp(x, v), .vjp(x, w)"),
}
"""The methods that make matrices and operators, and what serves in their place."""


def _value_and_gradient(f: Primal) -> Sequence[Node]:
    return f.value, derive.strict(f.gradient, f.x)


def _along(product: Product, v: Any, f: Primal) -> Sequence[Node]:
    """The product as a node."""
    linear = product(f)
    like, name = linear.direction, linear.direction.params["name"]
    if v.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real, got {v.dtype}")
    if v.shape == like.shape:
        return [_at(linear, linear.product, like, settled(v.node))]
    if v.shape[:-1] != like.shape or v.ndim != like.ndim + 1:
        axes = ", ".join([*map(str, like.shape), "k"])
        raise ValueError(f"{name} must have shape {like.shape} or ({axes}), got {v.shape}")
    inputs = [node for node in reachable([linear.product]) if node.primitive is p.INPUT]
    inputs = [*(node for node in inputs if node is not like), like]
    wide = batched(Graph(tuple(inputs), (linear.product,)), like, v.shape[-1])
    if wide is not None:
        return [_at(linear, wide.outputs[0], wide.inputs[-1], settled(v.node))]
    columns = [
        _at(linear, linear.product, like, settled(v[..., k].node)) for k in range(v.shape[-1])
    ]
    columns = [p.reshape(column, shape=(*column.shape, 1)) for column in columns]
    return [p.concatenate(*columns, axis=linear.product.ndim)]


def _at(linear: LinearMap, product: Node, direction: Node, v: Node) -> Node:
    """The product with a node in the place of the direction; neither v nor x is looked behind."""
    strict = derive.strict(product, linear.inputs[0])
    return derive.substitute([strict], {direction: cast_node(v, direction.dtype)})[0]


def _see_ties(output: Node, variable: Node, guards: Sequence[Node]) -> None:
    """Refuse to differentiate a branch that loses the derivative; note one that may."""
    recording = current()
    known = recording.values
    inputs = {node: value for node, value in known.items() if node.primitive is p.INPUT}
    for tie in ties(recording, output, {variable: known[variable], **inputs}, guards):
        if tie.is_lost:
            raise tie.error
        recording.notes[tie.note] = None


def following(fun: Callable) -> Callable[[Callable], Callable]:
    """Let a closure of ours around a function of the user's be followed as that is: a decorator.

    In a trace, stand-ins are in its cells; its globals stay as they are.
    """

    def decorated(closure: Callable) -> Callable:
        closure.__name__ = getattr(fun, "__name__", closure.__name__)
        setattr(closure, STANDS_AROUND, fun)
        module = module_of(fun)
        closure.__module__ = "followed" if is_foreign(module) else module
        return closure

    return decorated


@stands_for(Function)
def _inner(standins, value: Function) -> Inner:
    standin = standins.remember(value, Inner(value, standins.of(value.unravel)))
    standin.run = standins.of(value.__wrapped__)
    return standin


class InnerOfTrees(FunctionStandin):
    """What stands for a TreeFunction: an `Inner` for each structure of x."""

    function: TreeFunction
    run: Callable
    """The stand-in of the user's function."""

    def __init__(self, function: TreeFunction, standins: Any):
        self.function, self._standins = function, standins

    def __get__(self, instance: Any, owner: type | None = None) -> InnerOfTrees:
        if instance is None or not hasattr(self.function.__wrapped__, "__get__"):
            return self
        bound = InnerOfTrees(self.function, self._standins)
        bound.run = types.MethodType(self.run, instance)
        return bound

    def like(self, x: Any) -> Inner:
        """The stand-in for trees of the structure of x."""
        options = replace(self.function.options, trees=False, unravel=None)
        unravel = self._standins.of(ravel(x)[1])
        inner = Inner(Function(self.function.__wrapped__, options), unravel)
        inner.run = self.run
        return inner

    def __call__(self, x: Any, /, *args: Any, **kwargs: Any) -> Any:
        return self.like(x)(x, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name not in OF_TREES:
            return getattr(self.function, name)
        return lambda x, *args, **kwargs: getattr(self.like(x), name)(x, *args, **kwargs)


@stands_for(TreeFunction)
def _inner_of_trees(standins, value: TreeFunction) -> InnerOfTrees:
    standin = standins.remember(value, InnerOfTrees(value, standins))
    standin.run = standins.of(value.__wrapped__)
    return standin


@stands_for(objects=(differentiable,))
def _made_inside(standins, value: Callable) -> Callable:
    """Functions that are made within the trace are never compiled by themselves."""

    def made(fun: Any = None, **options: Any) -> Any:
        if options.get("loops"):
            raise trace_error(
                "differentiable(loops=True) is called inside a differentiable function",
                "make the function outside, or put it under @njit",
            )
        if fun is None:
            return functools.partial(made, **options)
        return standins.made(differentiable(original_of(fun), **options))

    return made
