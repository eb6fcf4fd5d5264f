"""Hessians and Jacobians as SciPy LinearOperators, linearised at one point.

Input: a `Point` of a Function. Output: operators between flat vectors; an x of shape S counts as a
vector of n = x.size entries. A vector of the right dtype and shape goes straight to the compiled
product, since SciPy's own `matvec` and `@` spend microseconds on generality. Complex vectors are
allowed, because SciPy's algorithms multiply by them (`expm_multiply` of -1j * H, for example).
`np.dot(H, v)` works, because trust-ncg and trust-krylov call it. The module `algebra` defines sums,
multiples and products of operators.

Invariant: an operator keeps the x and the arguments for which it was made. The caller may change
their arrays afterwards, except arguments of more than 1 MB, which are not copied.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csc_array, csr_array

from nbhvp.graph.linear_map import Product, jacobian, transposed_jacobian
from nbhvp.operators import sparse
from nbhvp.operators.algebra import UNITS, Combination, Operator, checked, columns, diagonal
from nbhvp.operators.on_device import on_device
from nbhvp.plain import is_on_device
from nbhvp.runtime.on_device import given, returned
from nbhvp.runtime.point import Point
from nbhvp.runtime.report import Tally
from nbhvp.tree import Unravel

if TYPE_CHECKING:
    from nbhvp.targets.cpu.traffic import Traffic

__all__ = ["Block", "HessianOperator", "HessianReport", "JacobianOperator", "contiguous", "named"]

Name = str | int | tuple
"""The name of a part of a tree, as `Unravel.slice` takes it."""


@dataclass(frozen=True)
class HessianReport:
    """The memory that a HessianOperator keeps, and the cost of one of its products.

    Attributes
    ----------
    stored : dict of str to ndarray
        The arrays that all products read, by name: x, the arguments, and ``state0``, ``state1``, ...,
        which were computed at x. They are the arrays themselves, not copies.
    stored_bytes : int
        The size of these arrays together, in bytes.
    product : Traffic
        The counts of one product: the bytes ``read`` and ``written``, without regard to caches;
        ``operations``, in units of an addition (a division counts 4, an exp about 20, a term of a
        matrix product 2); the numbers of ``kernels``, ``matrix_products`` and ``library_calls``.
    seconds : float
        An estimate of the time of one product on one thread; NaN where no CPU computes it.
    """

    stored: Mapping[str, np.ndarray]
    product: Traffic
    seconds: float

    @property
    def stored_bytes(self) -> int:
        return sum(array.nbytes for array in self.stored.values())

    def __str__(self) -> str:
        arrays = [f"  {k} {a.dtype}{a.shape}: {a.nbytes:,} bytes" for k, a in self.stored.items()]
        one = self.product
        return "\n".join(
            [
                f"stored: {self.stored_bytes:,} bytes",
                *arrays,
                f"a product: reads {one.read:,} bytes, writes {one.written:,} bytes",
                f"  {one.operations:,.0f} operations, about {self.seconds:.2g} s on one thread",
                f"  {one.kernels} kernels, {one.matrix_products} matrix products, "
                f"{one.library_calls} library calls",
            ]
        )


class HessianOperator(Operator):
    """The Hessian of a function at one point, a symmetric operator of shape (n, n).

    ``Function.hessian`` and ``Function.weighted_hessian`` make it. It works wherever SciPy takes a
    LinearOperator: in ``eigsh``, ``cg``, ``minres`` and ``lobpcg``, and as ``hess`` of ``minimize``
    with the methods Newton-CG, trust-ncg, trust-krylov and trust-constr. Several threads may use it
    at once. A pickle of it holds the function, the point and the arguments. Sums, multiples and
    products with operators and with sparse or dense matrices are operators with ``.toarray()`` and
    ``.diagonal()``: ``H + 0.1 * scipy.sparse.eye_array(n)``, ``2 * H1 - H2``, ``J.T @ J``; a product
    with a matrix is an array.

    Attributes
    ----------
    shape : tuple
        (n, n) with n = x.size.
    dtype : dtype
        The dtype of x.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse.linalg import eigsh
    >>> import nbhvp
    >>> f = nbhvp.differentiable(lambda x: np.sum(np.arange(1.0, 11.0) * x**2))
    >>> H = f.hessian(np.zeros(10))
    >>> eigsh(H, k=2, return_eigenvectors=False).round(6)
    array([18., 20.])
    """

    def __init__(self, point: Point, product: Product, origin: Callable, unravel: Unravel | None):
        x = point.x
        super().__init__(x.dtype, (x.size, x.size))
        self._point, self._map = point, product
        self._origin, self._unravel = origin, unravel
        self._vector = (x.size,)
        bound = point.products[product]
        # By name, since Python inlines calls of methods and not those of objects.
        self._product = bound.__call__ if x.ndim == 1 else _flat(bound, x.shape)
        self.tally = Tally(point.recorded.compiler.products)
        self._count = self.tally.count

    @property
    def products(self) -> int:
        """The number of products with single vectors so far; approximate if several threads run."""
        return self._count[0]

    @property
    def stored_bytes(self) -> int:
        """The memory that products at this point read: x, the arguments, and what was computed once."""
        return sum(array.nbytes for array in self._point.products[self._map].stored)

    @property
    def value(self) -> Any:
        """The value of the function at the point."""
        found = self._result(0)
        return found[()] if isinstance(found, np.ndarray) else found

    @property
    def gradient(self) -> np.ndarray:
        """The gradient of the function at the point, of the shape of x."""
        return self._result(1)

    def report(self) -> HessianReport:
        """The memory stored for products at this point, and the cost of one product.

        Examples
        --------
        >>> import numpy as np
        >>> import nbhvp
        >>> f = nbhvp.differentiable(lambda x: np.sum(x**3))
        >>> report = f.hessian(np.ones(1000)).report()
        >>> report.stored_bytes, report.product.read, report.product.written
        (8000, 16000, 8000)
        """
        from nbhvp.plan.schedule import schedule
        from nbhvp.targets.cpu.traffic import traffic

        linearized = self._point.recorded.linearized(self._map)
        program = linearized.product
        _, graph = linearized.split()
        *fixed, _ = graph.inputs
        names = [node.params["name"] for node in fixed]
        stored = dict(zip(names, self._point.products[self._map].stored, strict=True))
        steps = schedule(graph, linearized.costs).steps
        return HessianReport(stored, traffic(steps), getattr(program, "seconds", math.nan))

    def on_device(self) -> Any:
        """The operator for vectors that are on the GPU already, which neither leave it nor are copied.

        Returns
        -------
        cupyx.scipy.sparse.linalg.LinearOperator or DeviceOperator
            The former if CuPy is installed, for the ``eigsh``, ``cg``, ``minres`` and ``lobpcg`` of
            cupyx. Both take any array with ``__cuda_array_interface__`` in C order.

        Raises
        ------
        TypeError
            If the function was not made with ``target="cuda"``.
        """
        bound = self._point.products[self._map]
        if not hasattr(bound, "into"):
            raise TypeError(
                "on_device needs a function on a GPU: differentiable(..., target='cuda'), "
                f"but {self._point.recorded.primal.source} has another target"
            )
        return on_device(self._into, self.shape, self.dtype)

    def _into(self, v: Any, out: Any = None) -> Any:
        self._count[0] += 1
        return self._point.products[self._map].into(v, out)

    def _result(self, which: int) -> np.ndarray:
        self._point = self._point.extended(self._map, complete=True)
        results = self._point.recorded.linearized(self._map).results
        if which >= len(results):
            raise TypeError(
                "labels were drawn or given, and a Fisher matrix of these has no gradient"
            )
        return returned(self._point.known[results[which]].copy())

    def matvec(self, x: ArrayLike) -> np.ndarray:
        """The product H v with a vector of shape (n,) or (n, 1)."""
        # This test is repeated in `__matmul__`, which saves a small product one call.
        if (
            type(x) is np.ndarray
            and x.dtype is self.dtype
            and x.shape == self._vector
            and x.flags.c_contiguous
        ):
            self._count[0] += 1
            return self._product(x)
        return self._times(x)

    def __matmul__(self, x: Any) -> Any:
        if (
            type(x) is np.ndarray
            and x.dtype is self.dtype
            and x.shape == self._vector
            and x.flags.c_contiguous
        ):
            self._count[0] += 1
            return self._product(x)
        return super().__matmul__(x)

    def dot(self, x: Any) -> Any:
        """The product with a vector, the k columns of a matrix, a number or another operator."""
        if type(x) is np.ndarray and x.shape == self._vector:
            return self.matvec(x)
        return super().dot(x)

    def _times(self, v: Any) -> Any:
        v = _checked(v, self.shape[1], self._point)
        self._count[0] += v.size // max(1, self.shape[1])
        return _times(self._point, self._map, v)

    # SciPy calls products by these names; the operator is its own transpose.
    matmat = rmatmat = rmatvec = _matvec = _rmatvec = _matmat = _rmatmat = _times

    def _adjoint(self) -> HessianOperator:
        return self

    _transpose = _adjoint

    def toarray(self) -> np.ndarray:
        """The Hessian as an array of shape (n, n), computed by n products."""
        return columns(self._times, self.shape, self.dtype)

    def tosparse(self, pattern: Any = None) -> csc_array:
        """The Hessian as a sparse array, exact: where entries may differ from zero, the graph tells.

        Parameters
        ----------
        pattern : sparse array or array, shape (n, n), optional
            Where entries are, if you know better. One product tests whether it lacks any.

        Returns
        -------
        scipy.sparse.csc_array
            It has an entry wherever the second derivative is not zero at each point, and perhaps zeros
            among them. Its arrays are yours.

        Raises
        ------
        ValueError
            If the Hessian is dense, and too large for an array; if the pattern is wrong.

        Examples
        --------
        >>> import numpy as np
        >>> import nbhvp
        >>> f = nbhvp.differentiable(lambda x: np.sum(x[1:] * x[:-1] ** 2))
        >>> f.hessian(np.ones(4)).tosparse().nnz
        9
        """
        matrix = sparse.matrix_at(self._point, self._map, True, pattern)
        data = sparse.entries(matrix, self._point, self._map, self._times, self.dtype)
        found = sparse.as_columns(matrix, data)
        if pattern is not None:
            sparse.check_given(found, self._times)
        return found

    def sparsity(self) -> csc_array:
        """Where the Hessian has entries, as a sparse array of True."""
        return sparse.matrix_at(self._point, self._map, True).by_columns.copy()

    def diagonal(self) -> np.ndarray:
        """The diagonal, of shape (n,): that of the sparse matrix, if it is sparse, or by n products."""
        size = self.shape[0]
        if size > UNITS:
            with contextlib.suppress(ValueError):
                if sparse.is_worthwhile(sparse.matrix_at(self._point, self._map, True)):
                    return self.tosparse().diagonal()
        return diagonal(self._times, size, self.dtype)

    def block(self, rows: Name, columns: Name | None = None) -> Block:
        """A block of the Hessian by the names of parameters, as a LinearOperator.

        Parameters
        ----------
        rows, columns : str, int or tuple
            The name of an array of the tree, or of a container of arrays, as `Unravel.slice` takes
            it. Without `columns`, the result is the diagonal block of `rows`.

        Returns
        -------
        LinearOperator
            An operator of shape (size of rows, size of columns), with ``.toarray()``. Each of its
            products costs one product with the whole Hessian.

        Raises
        ------
        TypeError
            If the function does not take a tree (``differentiable(unravel=...)``).
        KeyError
            If the tree has no such name.

        Examples
        --------
        >>> import numpy as np
        >>> import nbhvp
        >>> x, unravel = nbhvp.ravel({"a": np.ones(2), "b": 3.0})
        >>> f = nbhvp.differentiable(lambda p: p["b"] ** 2 * np.sum(p["a"]), unravel=unravel)
        >>> f.hessian(x).block("a", "b").toarray()
        array([[6.],
               [6.]])
        """
        unravel = named(self._unravel, self._point.recorded.primal.source, "Hessian")
        columns = rows if columns is None else columns
        return Block(self, unravel.slice(rows), unravel.slice(columns))

    def __reduce__(self) -> tuple:
        return _remade, (self._origin,)


def named(unravel: Unravel | None, source: str, matrix: str) -> Unravel:
    """The names of the parts of x."""
    if unravel is None:
        raise TypeError(
            f"{source} takes x as it is, so its {matrix} has no names: "
            "let it take the tree, with differentiable(unravel=unravel)"
        )
    return unravel


def contiguous(rows: slice, size: int) -> slice:
    """Neighbouring rows, as their start and stop."""
    start, stop, step = rows.indices(size)
    if step != 1:
        raise ValueError(f"rows must be a slice without a step, got {rows}")
    return slice(start, max(start, stop))


class Block(Operator):
    """Some rows and columns of an operator; `HessianOperator.block` and its like make it."""

    def __init__(self, whole: Any, rows: slice, columns: slice):
        super().__init__(whole.dtype, (rows.stop - rows.start, columns.stop - columns.start))
        self._whole, self._rows, self._columns = whole, rows, columns

    def _matmat(self, v: ArrayLike) -> np.ndarray:
        v = checked(v, self.shape[1])
        embedded = np.zeros((self._whole.shape[1], *v.shape[1:]), v.dtype)
        embedded[self._columns] = v
        return (self._whole @ embedded)[self._rows]

    _matvec = _matmat

    def _adjoint(self) -> Block:
        return Block(self._whole.H, self._columns, self._rows)

    def _transpose(self) -> Block:
        return Block(self._whole.T, self._columns, self._rows)


class JacobianOperator(Operator):
    """The Jacobian of a function at one point, an operator of shape (m, n).

    ``Function.jacobian`` makes it. ``J @ v`` is a JVP; ``J.rmatvec(w)`` and ``J.T @ w`` are VJPs. The
    methods trf and dogbox of ``scipy.optimize.least_squares`` take it as ``jac``.

    Attributes
    ----------
    shape : tuple
        (m, n) with m the size of the result and n = x.size.
    dtype : dtype
        The wider dtype of x and the result.

    Examples
    --------
    >>> import numpy as np
    >>> import nbhvp
    >>> r = nbhvp.differentiable(lambda x: x[1:] - x[:-1] ** 2)
    >>> J = r.jacobian(np.array([1.0, 2.0, 3.0]))
    >>> J @ np.array([1.0, 0.0, 0.0])
    array([-2.,  0.])
    >>> J.T @ np.array([0.0, 1.0])
    array([ 0., -4.,  1.])
    """

    def __init__(self, point: Point, origin: Callable, unravel: Unravel | None):
        x, result = point.x, point.recorded.output
        super().__init__(np.result_type(x.dtype, result.dtype), (result.size, x.size))
        self._point, self._origin, self._unravel = point, origin, unravel
        self.tally = Tally(point.recorded.compiler.products)

    @property
    def value(self) -> np.ndarray:
        """The result of the function at the point, with its own shape."""
        self._point = self._point.extended(jacobian, complete=True)
        return returned(self._point.known[self._point.recorded.output].copy())

    @property
    def stored_bytes(self) -> int:
        """The memory that products at this point read: x, the arguments, and what was computed once."""
        stored = [array for bound in self._point.products.values() for array in bound.stored]
        return sum(array.nbytes for array in {id(array): array for array in stored}.values())

    @property
    def products(self) -> int:
        """The number of JVPs and VJPs with single vectors so far; approximate if several threads run."""
        return self.tally.count[0]

    def matvec(self, x: ArrayLike) -> np.ndarray:
        """The JVP with a vector of shape (n,) or (n, 1)."""
        return self._forward(x)

    def rmatvec(self, x: ArrayLike) -> np.ndarray:
        """The VJP with a vector of shape (m,) or (m, 1)."""
        return self._backward(x)

    def _forward(self, v: Any) -> Any:
        return self._times(jacobian, _checked(v, self.shape[1], self._point))

    def _backward(self, w: Any) -> Any:
        return self._times(transposed_jacobian, _checked(w, self.shape[0], self._point))

    def _times(self, product: Product, v: np.ndarray) -> np.ndarray:
        self.tally.count[0] += v.size // max(1, v.shape[0])
        if product not in self._point.products:
            self._point = self._point.extended(product)
        return _times(self._point, product, v)

    matmat = _matvec = _matmat = _forward
    rmatmat = _rmatvec = _rmatmat = _backward

    def _adjoint(self) -> Combination:
        return Combination(super()._adjoint())

    _transpose = _adjoint  # it is real

    def tosparse(self, pattern: Any = None) -> csr_array:
        """The Jacobian as a sparse array by rows, exact: see `HessianOperator.tosparse`.

        Examples
        --------
        >>> import numpy as np
        >>> import nbhvp
        >>> r = nbhvp.differentiable(lambda x: x[1:] - x[:-1] ** 2)
        >>> r.jacobian(np.ones(4)).tosparse().nnz
        6
        """
        matrix = sparse.matrix_at(self._point, jacobian, False, pattern)
        times = self._backward if matrix.is_transposed else self._forward
        data = sparse.entries(matrix, self._point, jacobian, times, self.dtype)
        found = sparse.as_rows(matrix, data)
        if pattern is not None:
            sparse.check_given(found, self._forward)
        return found

    def sparsity(self) -> csr_array:
        """Where the Jacobian has entries, as a sparse array of True."""
        return sparse.matrix_at(self._point, jacobian, False).by_rows.copy()

    def block(self, columns: Name, rows: slice = slice(None)) -> Block:
        """The columns of some parameters, by their names, as a LinearOperator.

        Parameters
        ----------
        columns : str, int or tuple
            The name of an array of the tree that the function takes, or of a container of arrays, as
            `Unravel.slice` takes it.
        rows : slice, optional
            Of the result, flat, without a step; all of them by default.

        Examples
        --------
        >>> import numpy as np
        >>> import nbhvp
        >>> x, unravel = nbhvp.ravel({"a": np.ones(2), "b": 3.0})
        >>> r = nbhvp.differentiable(lambda p: p["b"] ** 2 * p["a"], unravel=unravel)
        >>> r.jacobian(x).block("b").toarray()
        array([[6.],
               [6.]])
        """
        unravel = named(self._unravel, self._point.recorded.primal.source, "Jacobian")
        return Block(self, contiguous(rows, self.shape[0]), unravel.slice(columns))

    def __reduce__(self) -> tuple:
        return _remade, (self._origin,)


def _remade(origin: Callable[[], Operator]) -> Operator:
    """The operator that a pickle holds, made again by the method of its function."""
    return origin()


def _flat(product: Callable, shape: tuple[int, ...]) -> Callable:
    """The product with a flat vector, from the product with a direction of this shape."""
    return lambda v: product(v.reshape(shape)).reshape(-1)


def _checked(v: Any, size: int, point: Point) -> Any:
    """v as an array of numbers, of shape (size,) or (size, k), on the host or on the point's device."""
    if is_on_device(v):
        v = given(point.recorded.compiler.target, v, "the array")
    return checked(v, size)


def _times(point: Point, product: Product, v: np.ndarray) -> np.ndarray:
    """The product at a point with a real or complex vector or matrix; the operator is real."""
    if v.dtype.kind == "c":
        return _times(point, product, v.real) + 1j * _times(point, product, v.imag)
    like = point.recorded.linearized(product).direction
    columns = v.shape[1:]
    if type(v) is np.ndarray:
        v = np.asarray(v, like.dtype, order="C" if v.ndim == 1 else None)
    elif v.dtype != like.dtype:
        raise TypeError(
            f"the array is on a device, and must have dtype {like.dtype}, got {v.dtype}"
        )
    result = point.times(product, v.reshape(like.shape + columns))
    size = math.prod(result.shape[: result.ndim - len(columns)])
    return returned(result.reshape((size, *columns)))
