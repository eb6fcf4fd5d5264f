"""Sums, multiples and products of operators, with each other and with matrices.

SciPy's LinearOperators add up with other LinearOperators only. Here every result of the algebra is
an `Operator` again, which takes sparse and dense matrices too, and 0, so that

    H + 0.5 * scipy.sparse.eye_array(n)      2 * H - J.T @ J      sum([H1, H2])      H.damped(0.5)

all give operators with ``.toarray()`` and ``.diagonal()``. What multiplies is SciPy's own; a product
with a matrix, sparse or not, is an array. Nothing but `toarray` makes an array of an operator.
"""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.sparse import csc_array, diags_array, issparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from nbhvp.plain import PLAIN_CLASSES, is_on_device, refusal_of

__all__ = [
    "Combination",
    "Damped",
    "Identity",
    "Operator",
    "checked",
    "columns",
    "diagonal",
    "identity",
]

UNITS = 64
"""Unit vectors in a block of `columns` and `diagonal`, which bounds their memory."""


@functools.lru_cache(maxsize=64)
def _attributes(dtype: np.dtype, shape: tuple[int, int]) -> tuple[tuple[str, Any], ...]:
    """What SciPy's operators of a dtype and shape have; to check that takes SciPy microseconds."""
    operator = object.__new__(LinearOperator)
    LinearOperator.__init__(operator, dtype, shape)
    return tuple(vars(operator).items())


class Operator(LinearOperator):
    """A LinearOperator that adds up with matrices, and says what it is where an array is needed."""

    def __init__(self, dtype: np.dtype, shape: tuple[int, int]):
        for name, value in _attributes(dtype, shape):
            setattr(self, name, value)

    def dot(self, x: Any) -> Any:
        """The product with a vector, the k columns of a matrix, a number or another operator."""
        if is_on_device(x):
            return self._on_device(x)
        _refuse_subclass(x)
        return _combined(super().dot(_factor(x)))

    def _rdot(self, x: Any) -> Any:
        return _combined(super()._rdot(_factor(x)))

    def _on_device(self, x: Any) -> Any:
        """The product with an array on a device, which SciPy's own methods do not take."""
        return self._matmat(x)

    def matvec(self, x: Any, /) -> Any:
        """The product with a vector of shape (n,) or (n, 1)."""
        return self._on_device(x) if is_on_device(x) else super().matvec(x)

    def matmat(self, x: Any, /) -> Any:
        """The product with the k columns of a matrix."""
        return self._on_device(x) if is_on_device(x) else super().matmat(x)

    def __matmul__(self, x: Any) -> Any:
        if is_on_device(x):
            return self._on_device(x)
        return super().__matmul__(_number(x))

    def __rmatmul__(self, x: Any) -> Any:
        return super().__rmatmul__(_number(x))

    def __rmul__(self, x: Any) -> Any:
        return _combined(super().__rmul__(_factor(x)))

    def __truediv__(self, x: Any) -> Any:
        return Combination(super().__truediv__(_factor(x)))

    def __pow__(self, p: Any) -> Any:
        return _combined(super().__pow__(p))

    def __neg__(self) -> Any:
        return Combination(super().__neg__())

    def __add__(self, x: Any) -> Any:
        term = _term(self, x)
        if term is None or term is NotImplemented:
            return self if term is None else term
        return Combination(super().__add__(term))

    __radd__ = __add__

    def __sub__(self, x: Any) -> Any:
        term = _term(self, x)
        if term is None or term is NotImplemented:
            return self if term is None else term
        return Combination(super().__add__(-term))

    def __rsub__(self, x: Any) -> Any:
        return (-self).__add__(x)

    def toarray(self) -> np.ndarray:
        """The operator as an array, by as many products as it has rows or columns, if fewer."""
        m, n = self.shape
        if m < n:
            return self.T.toarray().T.copy()
        return columns(self.matmat, (m, n), self.dtype)

    def diagonal(self) -> np.ndarray:
        """The diagonal of a square operator, of shape (n,), by n products."""
        m, n = self.shape
        if m != n:
            raise ValueError(f"needed a square operator, got one of shape {self.shape}")
        return diagonal(self.matmat, n, self.dtype)

    def damped(self, c: Any) -> Damped:
        """The operator plus c times the identity, as Levenberg, Marquardt and Tikhonov have it.

        Parameters
        ----------
        c : float or ndarray, shape (n,)
            A number, or a diagonal of which each entry is added to its own.

        Examples
        --------
        >>> import numpy as np
        >>> from scipy.sparse.linalg import cg
        >>> import nbhvp
        >>> f = nbhvp.differentiable(lambda x: np.sum(x[:2]) ** 2 / 2 + x @ x)
        >>> step, _ = cg(f.hessian(np.ones(3)).damped(1.0), np.array([5.0, 5.0, 3.0]))
        >>> step.round(6)
        array([1., 1., 1.])
        """
        return Damped(self, c)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        # scipy.sparse looks whether an operand is an array before it leaves S @ H to the operator.
        if sys._getframe(1).f_code.co_name == "_matmul_dispatch":
            return _one_object(self)
        raise TypeError(f"needed an array, got a {type(self).__name__}: pass .toarray()")

    def __getattr__(self, name: str) -> Any:
        """The error for an attribute that an operator lacks: code for arrays asks for theirs."""
        is_arrays = hasattr(np.ndarray, name)
        advice = ", so where an array is needed, pass .toarray()" if is_arrays else ""
        raise AttributeError(f"a {type(self).__name__} has no attribute {name!r}{advice}")

    def __array_function__(self, function: Any, types: Any, args: tuple, kwargs: dict) -> Any:
        """np.dot by the operator; other functions of NumPy see it as any object."""
        if function is np.dot and len(args) == 2 and not kwargs:
            left, right = args
            return left.dot(right) if left is self else self.__rmatmul__(left)
        return function._implementation(*args, **kwargs)


class Combination(Operator):
    """What the algebra of operators gives: a sum, a multiple, a product, a power, a transpose."""

    def __init__(self, operator: LinearOperator):
        super().__init__(operator.dtype, operator.shape)
        self._operator = operator

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._operator.matvec(x)

    def _rmatvec(self, x: np.ndarray) -> np.ndarray:
        return self._operator.rmatvec(x)

    def _matmat(self, x: np.ndarray) -> np.ndarray:
        return self._operator.matmat(x)

    def _rmatmat(self, x: np.ndarray) -> np.ndarray:
        return self._operator.rmatmat(x)

    def _on_device(self, x: Any) -> Any:
        return (self._operator._matvec if x.ndim == 1 else self._operator._matmat)(x)

    def _adjoint(self) -> Combination:
        return Combination(self._operator.H)

    def _transpose(self) -> Combination:
        return Combination(self._operator.T)


class Damped(Operator):
    """A square operator plus a multiple of the identity, or a diagonal; `Operator.damped` makes it."""

    def __init__(self, operator: Operator, c: Any):
        m, n = operator.shape
        c = np.asarray(c)
        if m != n:
            raise ValueError(f"needed a square operator to damp, got one of shape {operator.shape}")
        if c.dtype.kind not in "biufc" or c.shape not in ((), (n,)):
            raise ValueError(
                f"c must be a number or an array of shape ({n},), got {c.dtype} of shape {c.shape}"
            )
        # A number takes part as in NumPy: it leaves an operator of float32 one.
        dtype = np.result_type(operator.dtype, c if c.ndim else c.item())
        super().__init__(dtype, operator.shape)
        self._operator, self._c = operator, c

    def _plus(self, product: np.ndarray, x: np.ndarray, c: np.ndarray) -> np.ndarray:
        c = c if c.ndim else c.item()
        if np.ndim(c) and is_on_device(x):
            raise TypeError(
                "a diagonal is an array of the host's, and the vector is on a device: add the products"
            )
        return product + (c[:, None] if np.ndim(c) and x.ndim == 2 else c) * x

    def _matmat(self, x: np.ndarray) -> np.ndarray:
        x = checked(x, self.shape[1])
        return self._plus(self._operator @ x, x, self._c)

    def _rmatmat(self, x: np.ndarray) -> np.ndarray:
        x = checked(x, self.shape[0])
        return self._plus(self._operator.H @ x, x, self._c.conj())

    _matvec, _rmatvec = _matmat, _rmatmat

    def _adjoint(self) -> Damped:
        return Damped(self._operator.H, self._c.conj())

    def _transpose(self) -> Damped:
        return Damped(self._operator.T, self._c)

    def toarray(self) -> np.ndarray:
        """The operator as an array, by the products of the operator that is damped."""
        return self._plus(self._operator.toarray(), np.eye(self.shape[0]), self._c)

    def tosparse(self) -> csc_array:
        """The operator as a sparse array, if the operator that is damped has ``tosparse``."""
        n = self.shape[0]
        return csc_array(self._operator.tosparse() + diags_array(np.broadcast_to(self._c, n)))

    def diagonal(self) -> np.ndarray:
        """The diagonal, of shape (n,), by the products of the operator that is damped."""
        return self._operator.diagonal() + (self._c if self._c.ndim else self._c.item())


def identity(n: int, dtype: Any = np.float64) -> Identity:
    """The identity as an operator, which adds up with others: ``H + 0.1 * nbhvp.identity(n)``.

    Examples
    --------
    >>> import nbhvp
    >>> (2 * nbhvp.identity(3)).diagonal()
    array([2., 2., 2.])
    """
    return Identity(np.dtype(dtype), (operator.index(n),) * 2)


class Identity(Operator):
    """The identity; `nbhvp.identity` makes it."""

    def _matmat(self, x: np.ndarray) -> np.ndarray:
        x = checked(x, self.shape[0])
        return 1 * x if is_on_device(x) else x.astype(np.result_type(x, self.dtype))

    _matvec = _rmatvec = _rmatmat = _matmat

    def _adjoint(self) -> Identity:
        return self

    _transpose = _adjoint

    def toarray(self) -> np.ndarray:
        """The identity as an array."""
        return np.eye(self.shape[0], dtype=self.dtype)

    def diagonal(self) -> np.ndarray:
        """Ones."""
        return np.ones(self.shape[0], self.dtype)


def _combined(result: Any) -> Any:
    return Combination(result) if isinstance(result, LinearOperator) else result


def _one_object(value: Any) -> np.ndarray:
    array = np.empty((), object)
    array[()] = value
    return array


def _factor(x: Any) -> Any:
    """What SciPy's operators multiply: sparse matrices become arrays, 0-d arrays numbers."""
    return x.toarray() if issparse(x) else _number(x)


def _number(x: Any) -> Any:
    """A 0-d array as the number in it; all else as it is."""
    return x[()] if isinstance(x, np.ndarray) and x.ndim == 0 else x


def _term(operator: LinearOperator, x: Any) -> Any:
    """What is added to an operator, as an operator; None for nothing, NotImplemented if unknown."""
    if isinstance(x, LinearOperator):
        return x
    if issparse(x) or (isinstance(x, np.ndarray) and x.ndim == 2):
        return aslinearoperator(x)
    if np.isscalar(x) and x == 0:
        return None
    if not (np.isscalar(x) or isinstance(x, np.ndarray)):
        return NotImplemented
    given = f"an array of shape {x.shape}" if isinstance(x, np.ndarray) else repr(x)
    raise TypeError(
        f"needed an operator or a matrix of shape {operator.shape} to add, got {given}: "
        "for a multiple c of the identity add c * scipy.sparse.eye_array(n), for a diagonal d "
        "scipy.sparse.diags_array(d)"
    )


# Vectors and columns.


def _refuse_subclass(v: Any) -> None:
    """Refuse arrays whose own rules would be lost; matrices mean here what they mean to SciPy."""
    if isinstance(v, np.ndarray) and type(v) not in (*PLAIN_CLASSES, np.matrix):
        raise TypeError("needed a plain array, got {}: {}".format(*refusal_of(v)))


def checked(v: Any, size: int) -> np.ndarray:
    """v as an array of numbers, of shape (size,) or (size, k)."""
    on_device = is_on_device(v)
    if not on_device:
        _refuse_subclass(v)
        v = np.asarray(v.toarray() if issparse(v) else v)
    if v.ndim not in (1, 2) or v.shape[0] != size:
        raise ValueError(f"needed an array of shape ({size},) or ({size}, k), got {v.shape}")
    if not on_device and v.dtype.kind not in "biufc":
        raise TypeError(f"needed an array of numbers, got {v.dtype}")
    return v


def _units(size: int, dtype: np.dtype) -> Iterator[tuple[int, np.ndarray]]:
    """The unit vectors, some at a time: the first of them, and the columns of a matrix."""
    for first in range(0, size, UNITS):
        count = min(UNITS, size - first)
        rows = np.zeros((count, size), dtype)
        rows[np.arange(count), np.arange(first, first + count)] = 1
        yield first, rows.T


def columns(times: Callable, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """All columns of an operator."""
    out = np.empty(shape, dtype)
    for first, units in _units(shape[1], dtype):
        out[:, first : first + units.shape[1]] = times(units)
    return out


def diagonal(times: Callable, size: int, dtype: np.dtype) -> np.ndarray:
    """The diagonal of a square operator."""
    out = np.empty(size, dtype)
    for first, units in _units(size, dtype):
        count = units.shape[1]
        out[first : first + count] = times(units)[first : first + count].diagonal()
    return out
