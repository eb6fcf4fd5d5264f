"""Function: a NumPy function with values, gradients and products, compiled as they are needed.

    user function --record--> trace --derive, split--> programs --run--> values, gradients, products

A trace is valid for one shape and dtype of x, for one set of static arguments, and at the points where
its guards have the recorded values. Guards are checked before a result or an error is returned; if no
known trace is valid, the function is traced again. A trace that was made at x needs no check there.

A gradient at a new x runs the point program, which computes value and gradient too, if a product has been
taken since the last gradient at a new x: then products at this x need no other run. Else it runs the
program of value and gradient. The remembered point is identified by the bits of x and of the arguments.
"""

from __future__ import annotations

import functools
import math
import numbers
import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csc_array, csr_array

from nbhvp.graph.linear_map import (
    HESSIANS,
    Product,
    jacobian,
    transposed_jacobian,
    weighted_hessian,
)
from nbhvp.loops.call import is_compiled
from nbhvp.operators import sparse
from nbhvp.operators.linear import HessianOperator, JacobianOperator
from nbhvp.plain import is_on_device
from nbhvp.runtime.calls.call import Owner
from nbhvp.runtime.calls.inputs import as_given, as_vector, direction, held, takes
from nbhvp.runtime.differences import DIFFERENCES
from nbhvp.runtime.memory import Memory
from nbhvp.runtime.report import Report
from nbhvp.runtime.tracer import Options, Tracer
from nbhvp.trace import pickling
from nbhvp.trace.recording import TAPE_LIMIT, source_of
from nbhvp.tree import Unravel, ravel

__all__ = ["Function", "differentiable"]

DEFAULT_TARGET = "cpu"

Vector = ArrayLike | Any
"""A vector, or for a function of a tree that tree."""

DEFAULT_MODE, HESSIAN = next(iter(HESSIANS.items()))


def differentiable(
    fun: Callable | None = None,
    *,
    trace: str = "once",
    target: str = DEFAULT_TARGET,
    device: int | None = None,
    unravel: Unravel | None = None,
    loops: bool | None = None,
    tape_limit: int = TAPE_LIMIT,
    compile: str = "eager",
    memory: int | None = None,
    trees: bool = False,
) -> Any:
    """Give a function compiled values, gradients and exact Hessian-vector products.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args, **kwargs)``, in plain NumPy or under Numba's ``@njit``. For Hessians its
        result is a scalar (or an array of size 1); for Jacobians it is an array, or a list or tuple
        of scalars. Functions, methods, partials and callable objects are accepted, and methods may
        be decorated.
    trace : {"once", "always"}
        "once" traces `fun` again only where its control flow, its static arguments, or values that it
        closes over differ. "always" traces at every call: for functions with hidden state or
        randomness.
    target : str
        "cpu" compiles kernels for the processors of this machine. "cuda", or "cuda:1" for the second
        device, compiles them for an NVIDIA GPU (see the page on GPUs). "auto" takes the GPU, if
        there is one, for arrays that lie there, and where products are predicted to end sooner; each
        trace has its place, which ``report().target`` tells. "interpret" runs node by node with NumPy:
        it is slow, and the reference for tests.
    device : int, optional
        The number of the GPU, 0 by default: ``target="cuda", device=1`` is ``target="cuda:1"``.
    unravel : Unravel
        From `ravel`. `fun` then takes the tree ``unravel(x)`` instead of x, and blocks of Hessians
        have the names of the tree. All methods take x and directions as vectors, as SciPy gives
        them, or as trees; gradients have the form of x, and products that of the direction.
    loops : bool, optional
        True for a plain Python function with loops over elements that Numba can compile: it is
        treated as a function under ``@njit``. By default, compiled functions with loops are run to
        record a tape of their operations, and those without loops are traced as NumPy functions.
        True records all compiled functions, False traces all of them.
    tape_limit : int
        The largest number of bytes that the tape of one call may take, at 17 per operation.
    compile : {"eager", "lazy"}
        "eager" compiles a program when it is first needed. "lazy" lets NumPy compute, node by node,
        until the sum of these runs is predicted to take as long as compiling would, and compiles
        then: small fits end before anything is compiled. The choice depends on the number of calls
        and on the sizes of arrays alone, never on time, so that scripts repeat; but where a program
        changes from one way to the other, results may differ in their last bits.
    memory : int, optional
        Bytes that loops over time may keep at a point for products with the Hessian, what one product
        writes included. Above, what is carried is kept at the end of each segment of steps, and
        products compute the steps within a segment again. By default the values of all steps are
        kept. Functions without such loops are not changed. ``report()`` tells the lengths of segments.
    trees : bool
        True for a function of a tree of arrays, of any structure: see `TreeFunction`. A function of
        several arguments that are differentiated in takes them as one tuple.

    Returns
    -------
    Function or TreeFunction
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
        raise TypeError(f"unravel must be the second result of nbhvp.ravel, got {kind}")
    if not isinstance(tape_limit, numbers.Real) or not 0 < tape_limit < math.inf:
        raise ValueError(f"tape_limit must be a positive number of bytes, got {tape_limit!r}")
    if device is not None:
        target = _on_device(target, device)
    if compile not in ("eager", "lazy"):
        raise ValueError(f"compile must be 'eager' or 'lazy', got {compile!r}")
    if compile == "lazy" and target != "cpu":
        raise ValueError(
            f"compile='lazy' needs target='cpu', got {target!r}: leave one of them out"
        )
    if memory is not None and (not isinstance(memory, numbers.Real) or not 0 < memory < math.inf):
        raise ValueError(f"memory must be a positive number of bytes or None, got {memory!r}")
    if trees and unravel is not None:
        raise ValueError("trees=True finds unravel at each x: leave unravel out")
    memory = None if memory is None else int(memory)
    options = Options(trace, target, unravel, loops, int(tape_limit), compile, memory, bool(trees))
    if fun is None:
        return functools.partial(differentiable, **vars(options))
    if isinstance(fun, TreeFunction):
        raise TypeError(f"{fun!r} has a Function for each structure of x: give that, by .like(x)")
    if isinstance(fun, Function):
        raise TypeError(f"{fun!r} is differentiable already: use it as it is")
    if hasattr(fun, "value_and_grad"):  # a sum over batches
        raise TypeError(f"{fun!r} has derivatives already, and is no function that can be traced")
    if not callable(fun):
        raise TypeError(f"needed a function of x, got {type(fun).__name__}")
    return (TreeFunction if trees else Function)(_jitted(fun) if loops else fun, options)


@pickling.travels("_fun", "options")
class Function:
    """A function with compiled values, derivatives and products. Made by `differentiable`.

    All methods take x of any shape S, in float32 or float64 (integers, booleans and lists become
    float64), and then the other arguments of the function. x, v and w are positional, so that the
    function's arguments may have any names. Results are fresh arrays. Several threads may call the
    methods at once.

    Raises
    ------
    TypeError
        If x is complex, of another precision, or not an array of numbers; for gradients and Hessians
        also if the result of the function is not a scalar.
    TraceError
        If nbhvp cannot differentiate the function as it is written. The message names the line.
    ValueError
        If a direction has the wrong shape.
    """

    __wrapped__: Callable
    """The function itself."""
    options: Options
    """How it was made."""

    def __init__(self, fun: Callable, options: Options):
        self._fun, self.options = fun, options
        self._tracer = Tracer(fun, options)
        self._memory = Memory(options.target, options.compile == "lazy")
        self._unbound: Function | None = None
        functools.update_wrapper(self, fun)

    # Values and derivatives of scalar functions.

    def __call__(self, x: Vector, /, *args: Any, **kwargs: Any) -> Any:
        """The value of the function: a scalar, or an array like that of the function itself."""
        return self._memory.value(self._tracer, x, args, kwargs)

    def grad(self, x: Vector, /, *args: Any, **kwargs: Any) -> np.ndarray:
        """The gradient, of the shape and dtype of x.

        If a Hessian-vector product has been taken, or an operator made, since the last gradient at a
        new x, what products at this x have in common is computed too, so that they need no other
        run. If not, the gradient alone is computed. ``report()`` counts both, as runs of the point
        program and of the gradient program.

        Examples
        --------
        >>> import numpy as np
        >>> import nbhvp
        >>> f = nbhvp.differentiable(lambda x: np.sum(np.exp(x)))
        >>> f.grad(np.zeros(2))
        array([1., 1.])
        """
        _, gradient = self._memory.gradient(self._tracer, x, args, kwargs)
        unravel = self.options.unravel
        return gradient if unravel is None else as_given(gradient, x, unravel)

    def value_and_grad(self, x: Vector, /, *args: Any, **kwargs: Any) -> tuple[Any, np.ndarray]:
        """The value and the gradient, computed together.

        Examples
        --------
        >>> import numpy as np
        >>> import nbhvp
        >>> f = nbhvp.differentiable(lambda x: x @ x)
        >>> f.value_and_grad([1.0, 2.0])
        (np.float64(5.0), array([2., 4.]))
        """
        found = self._memory.gradient(self._tracer, x, args, kwargs)
        unravel = self.options.unravel
        return found if unravel is None else (found[0], as_given(found[1], x, unravel))

    def hvp(
        self, x: Vector, v: Vector, /, *args: Any, mode: str = DEFAULT_MODE, **kwargs: Any
    ) -> np.ndarray:
        """The product H(x) v of the Hessian with a direction, in SciPy's order of arguments.

        Parameters
        ----------
        x : array_like, shape S
        v : array_like, shape S or S + (k,)
            A direction, or k of them.
        *args, **kwargs
            Further arguments of the function. An array above 1 MB counts as unchanged between calls
            only if it is the same object and read-only.
        mode : str
            The default, "forward-over-reverse", is the tangent of the gradient [1]_;
            "reverse-over-forward" and "reverse-over-reverse" have the same value. If the function
            has a parameter ``mode`` of its own, this value is passed to it, and the product is the
            default one.
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
        product: Product | None = HESSIAN
        if mode is not DEFAULT_MODE:
            if self._takes_mode:
                kwargs["mode"] = mode
            else:
                product = HESSIANS.get(mode)
        memory, tracer = self._memory, self._tracer
        # A small product waits for Python above all: no frame for what one condition tells.
        if not kwargs and product is not None:
            point = memory.point
            if (
                point is None
                or point.recorded.owner is not tracer.owner
                or not point.recorded.direct.same(point.inputs, x, *args)
            ):
                point = memory.new_directly(tracer, product, x, args, kwargs)
                if point is not None:
                    memory.point = point
            if point is not None and product in point.products:
                found = point.products[product].directly(v)
                if found is not None:
                    memory.report.product_runs += 1
                    memory.hessian = product
                    return found
        vector = as_vector(v, self.unravel)
        if product is None:
            found = self._difference(mode, x, vector, args, kwargs)
        else:
            found = memory.product(tracer, product, x, vector, args, kwargs)
            memory.hessian = product
        return as_given(found, v, self.unravel)

    def _difference(self, mode: str, x: Any, v: Any, args: tuple, kwargs: dict) -> np.ndarray:
        """H(x) v by differences of the gradient, which leave what is remembered alone."""
        difference = DIFFERENCES.get(mode)
        if difference is None:
            known = ", ".join((*HESSIANS, *DIFFERENCES))
            raise ValueError(f"mode must be one of {known}, got {mode!r}")
        call = self._tracer.call(x, args, kwargs)
        if call.is_on_device or is_on_device(v):
            raise TypeError(f"mode={mode!r} takes arrays of NumPy: copy x and v to the host")

        def gradient(x: np.ndarray) -> np.ndarray:
            return self._memory.gradient_alone(self._tracer, replace(call, x=x))[1]

        return difference(gradient, call.x, direction(v, call.x))

    def hessian(self, x: Vector, /, *args: Any, **kwargs: Any) -> HessianOperator:
        """The Hessian at x as a LinearOperator of shape (x.size, x.size).

        The operator keeps the arguments: arrays up to 1 MB are copied, and larger ones must not
        change as long as it is used.

        Examples
        --------
        >>> import numpy as np
        >>> import nbhvp
        >>> f = nbhvp.differentiable(lambda x: np.prod(x))
        >>> H = f.hessian(np.array([1.0, 2.0, 3.0]))
        >>> H @ np.array([1.0, 0.0, 0.0])
        array([0., 3., 2.])
        """
        point = self._memory.at(self._tracer, HESSIAN, x, args, kwargs)
        self._memory.hessian = HESSIAN
        origin = functools.partial(self.hessian, point.x, *args, **kwargs)
        return HessianOperator(point, HESSIAN, origin, self.unravel)

    def sparse_hessian(
        self, x: Vector, /, *args: Any, pattern: Any = None, **kwargs: Any
    ) -> csc_array:
        """The Hessian at x as a sparse array of shape (x.size, x.size), exact.

        Where entries are follows from the function's operations and is found once; at a new x, one
        program computes all entries, or as many products as the pattern needs colours do [2]_.
        The solvers of ``scipy.optimize`` take this method as ``hess``.

        Parameters
        ----------
        x : array_like, shape S
        *args, **kwargs
            Further arguments of the function.
        pattern : sparse array, shape (n, n), optional
            Where entries are, if you know better. One product tests whether it lacks any. If the
            function has a parameter of this name, the value is passed to it.

        Returns
        -------
        scipy.sparse.csc_array

        Raises
        ------
        ValueError
            If the Hessian is dense, and too large for an array; if the pattern is wrong.

        References
        ----------
        .. [2] A. H. Gebremedhin, F. Manne and A. Pothen, "What color is your Jacobian?", SIAM Review
           47 (2005).

        Examples
        --------
        >>> import numpy as np
        >>> import nbhvp
        >>> f = nbhvp.differentiable(lambda x: np.sum(x[1:] * x[:-1] ** 2))
        >>> f.sparse_hessian([1.0, 2.0, 3.0]).toarray()
        array([[4., 2., 0.],
               [2., 6., 4.],
               [0., 4., 0.]])
        """
        if pattern is not None and self._takes_pattern:
            kwargs["pattern"], pattern = pattern, None
        if pattern is None:
            _, matrix, outputs = self._memory.matrix(self._tracer, HESSIAN, x, args, kwargs, True)
            if (data := sparse.assembled(matrix, outputs)) is not None:
                return sparse.as_columns(matrix, data)
        return self.hessian(x, *args, **kwargs).tosparse(pattern)

    def hessian_sparsity(self, x: Vector, /, *args: Any, **kwargs: Any) -> csc_array:
        """Where the Hessian has entries, as a sparse array of True.

        It depends on x through the branches of the function, and through indices, alone.

        Examples
        --------
        >>> import numpy as np
        >>> import nbhvp
        >>> f = nbhvp.differentiable(lambda x: x[0] * x[1] + x[2] ** 3)
        >>> f.hessian_sparsity(np.zeros(3)).toarray().astype(int)
        array([[0, 1, 0],
               [1, 0, 0],
               [0, 0, 1]])
        """
        return self.hessian(x, *args, **kwargs).sparsity()

    # Derivatives of functions with array results.

    def jvp(self, x: Vector, v: Vector, /, *args: Any, **kwargs: Any) -> np.ndarray:
        """The product J(x) v: shape of the result, or that + (k,) for v of shape S + (k,)."""
        vector = as_vector(v, self.unravel)
        return self._memory.product(self._tracer, jacobian, x, vector, args, kwargs)

    def vjp(self, x: Vector, w: ArrayLike, /, *args: Any, **kwargs: Any) -> np.ndarray:
        """The product J(x)^T w: shape S of x, or S + (k,) for k weights."""
        found = self._memory.product(self._tracer, transposed_jacobian, x, w, args, kwargs)
        return as_given(found, x, self.unravel)

    def jacobian(self, x: Vector, /, *args: Any, **kwargs: Any) -> JacobianOperator:
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
        point = self._memory.at(self._tracer, jacobian, x, args, kwargs)
        origin = functools.partial(self.jacobian, point.x, *args, **kwargs)
        return JacobianOperator(point, origin, self.unravel)

    def sparse_jacobian(
        self, x: Vector, /, *args: Any, pattern: Any = None, **kwargs: Any
    ) -> csr_array:
        """The Jacobian at x as a sparse array of shape (result size, x.size), exact.

        As `sparse_hessian` does it; where products are taken, they are those with J or those with
        J^T, whichever are fewer. ``scipy.optimize.NonlinearConstraint`` and ``least_squares``
        take this method as ``jac``.

        Examples
        --------
        >>> import numpy as np
        >>> import nbhvp
        >>> r = nbhvp.differentiable(lambda x: x[1:] - x[:-1] ** 2)
        >>> r.sparse_jacobian([1.0, 2.0, 3.0]).toarray()
        array([[-2.,  1.,  0.],
               [ 0., -4.,  1.]])
        """
        if pattern is not None and self._takes_pattern:
            kwargs["pattern"], pattern = pattern, None
        if pattern is None:
            _, matrix, outputs = self._memory.matrix(self._tracer, jacobian, x, args, kwargs, False)
            if (data := sparse.assembled(matrix, outputs)) is not None:
                return sparse.as_rows(matrix, data)
        return self.jacobian(x, *args, **kwargs).tosparse(pattern)

    def jacobian_sparsity(self, x: Vector, /, *args: Any, **kwargs: Any) -> csr_array:
        """Where the Jacobian has entries, as a sparse array of True: see `hessian_sparsity`."""
        return self.jacobian(x, *args, **kwargs).sparsity()

    def weighted_hessian(
        self, x: Vector, w: ArrayLike, /, *args: Any, **kwargs: Any
    ) -> HessianOperator:
        """The operator of sum_i w_i H_i, with H_i the Hessian of the i-th result.

        ``scipy.optimize.NonlinearConstraint`` takes this method as ``hess``.

        Examples
        --------
        >>> import numpy as np
        >>> import nbhvp
        >>> r = nbhvp.differentiable(lambda x: [x[0] * x[1], x[1] ** 2])
        >>> r.weighted_hessian([3.0, 5.0], [1.0, 10.0]).toarray()
        array([[ 0.,  1.],
               [ 1., 20.]])
        """
        w = held(w, self.options.target)
        point = self._memory.weighted(self._tracer, weighted_hessian, x, w, args, kwargs)
        origin = functools.partial(self.weighted_hessian, point.x, w, *args, **kwargs)
        return HessianOperator(point, weighted_hessian, origin, self.unravel)

    def report(self) -> Report:
        """The numbers of traces, runs and products, and the seconds that compiling took.

        Examples
        --------
        >>> import numpy as np
        >>> import nbhvp
        >>> f = nbhvp.differentiable(lambda x: np.sum(x**3))
        >>> H = f.hessian([1.0, 2.0])
        >>> H @ [1.0, 0.0], f.report().product_runs
        (array([6., 0.]), 1)
        """
        return self._memory.compiler.total()

    @property
    def unravel(self) -> Unravel | None:
        """The map from x to the tree that the function takes, if it takes one."""
        return self.options.unravel

    @functools.cached_property
    def _takes_mode(self) -> bool:
        return takes(self._fun, "mode")

    @functools.cached_property
    def _takes_pattern(self) -> bool:
        return takes(self._fun, "pattern")

    # Methods, and pickling.

    def __get__(self, instance: Any, owner: type | None = None) -> Function:
        if instance is None or not hasattr(self._fun, "__get__"):
            return self
        bound = Function.__new__(Function)
        bound.__dict__.update(self.__dict__)
        bound._fun = bound.__wrapped__ = self._fun.__get__(instance, owner)
        bound._tracer = Tracer(bound._fun, self.options, Owner(instance))
        bound._unbound = self
        return bound

    def __repr__(self) -> str:
        return f"<nbhvp.Function {source_of(self._fun)}>"


def flat(f: Any, x: Any) -> tuple[Any, Any]:
    """A function of vectors for one use at points like x, and x as a vector.

    A plain function is compiled where that pays; sums of functions are left as they are.
    """
    if isinstance(f, TreeFunction):
        f = f.like(x)
    elif not hasattr(f, "hessian"):
        f = differentiable(f, compile="lazy")
    return f, as_vector(x, f.unravel)


@pickling.travels("_fun", "options")
class TreeFunction:
    """A function of a tree of arrays. Made by ``differentiable(trees=True)``.

    A tree is a dict, list, tuple, named tuple or dataclass of trees, or an array or number of float32 or
    float64. It has the methods of a `Function`, which take x as a tree. Gradients are trees like x, products
    like the direction; operators are flat, with blocks by the names of the tree. Each structure has a Function
    of its own: ``f.like(x)``, made with ``unravel=``, which takes vectors too, as SciPy gives them.

    Examples
    --------
    >>> import numpy as np
    >>> import nbhvp
    >>> @nbhvp.differentiable(trees=True)
    ... def f(p):
    ...     return p["a"] ** 2 * np.sum(p["b"])
    >>> f.grad({"a": 3.0, "b": np.ones(2)})
    {'a': np.float64(12.0), 'b': array([9., 9.])}
    >>> f.hessian({"a": 3.0, "b": np.ones(2)}).block("a", "b").toarray()
    array([[6., 6.]])
    """

    __wrapped__: Callable
    """The function itself."""
    options: Options
    """How it was made."""

    def __init__(self, fun: Callable, options: Options):
        self._fun, self.options = fun, options
        self._functions: dict[Unravel, Function] = {}
        self._instance: Any = None
        self._unbound: TreeFunction | None = None
        functools.update_wrapper(self, fun)

    def like(self, x: Any) -> Function:
        """The Function of trees of the structure of x, and of vectors."""
        vector, unravel = ravel(x)
        _, unravel = ravel(unravel(vector))  # a number of Python's as one of NumPy's
        function = self._functions.get(unravel)
        if function is None:
            source = self._fun if self._unbound is None else self._unbound._fun
            options = replace(self.options, unravel=unravel, trees=False)
            function = self._functions.setdefault(unravel, Function(source, options))
        return function if self._unbound is None else function.__get__(self._instance)

    def __call__(self, x: Any, /, *args: Any, **kwargs: Any) -> Any:
        """The value of the function."""
        return self.like(x)(x, *args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> TreeFunction:
        if instance is None or not hasattr(self._fun, "__get__"):
            return self
        bound = TreeFunction.__new__(TreeFunction)
        bound.__dict__.update(self.__dict__)
        bound._fun = bound.__wrapped__ = self._fun.__get__(instance, owner)
        bound._instance, bound._unbound = instance, self
        return bound

    def __repr__(self) -> str:
        return f"<nbhvp.TreeFunction {source_of(self._fun)}>"


def _of_tree(name: str) -> Callable:
    """A method of the Function for the structure of x."""

    @functools.wraps(getattr(Function, name))
    def method(self: TreeFunction, x: Any, /, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.like(x), name)(x, *args, **kwargs)

    return method


OF_TREES = (
    "grad", "value_and_grad", "hvp", "hessian", "sparse_hessian", "hessian_sparsity", "jvp", "vjp",
    "jacobian", "sparse_jacobian", "jacobian_sparsity", "weighted_hessian",
)  # fmt: skip
for _name in OF_TREES:
    setattr(TreeFunction, _name, _of_tree(_name))


def _on_device(target: str, device: int) -> str:
    """A target with the number of a device."""
    if target not in ("cuda", "auto"):
        raise ValueError(f"device={device!r} needs target='cuda' or 'auto', got {target!r}")
    if not isinstance(device, numbers.Integral) or device < 0:
        raise ValueError(f"device must be 0, 1, ..., got {device!r}")
    return f"{target}:{device}"


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
