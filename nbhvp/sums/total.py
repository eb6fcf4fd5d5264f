"""Sums of a function over batches of data, with the surface of a `Function`.

total(x) = sum_k w_k f(x, *batch_k) has the gradient and the Hessian-vector products that are the sums of
those of the terms. Each product passes over the batches once. At one x each batch keeps its operator, as
far as memory allows, so that the next product does not begin anew.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nbhvp.function import Function, differentiable
from nbhvp.models import Fisher, GaussNewton
from nbhvp.operators.algebra import Combination, Operator, checked, columns, diagonal
from nbhvp.operators.linear import Block, Name, contiguous, named
from nbhvp.runtime.calls.inputs import as_given, as_vector, primal
from nbhvp.runtime.report import Products, Tally
from nbhvp.sums import executors
from nbhvp.sums.work import Task
from nbhvp.tree import Unravel

__all__ = ["SumHessian", "SumJacobian", "SumOver", "sum_over"]


def sum_over(
    f: Callable,
    batches: Any,
    executor: Any = None,
    *,
    reduce: str = "sum",
    weights: Any = None,
    memory: int = 1 << 30,
    sample: int | None = None,
    rng: Any = None,
    progress: Callable | None = None,
) -> SumOver:
    """The sum of a function over batches of data: ``sum(f(x, *batch) for batch in batches)``.

    Parameters
    ----------
    f : Function, callable, GaussNewton or Fisher
        ``f(x, *batch)``, a scalar. A plain function is made `differentiable` first. The sum of a
        ``nbhvp.gauss_newton`` or ``nbhvp.fisher`` has operators of this kind.
    batches : sequence, callable or dask collection
        A batch is a tuple of further arguments, a mapping of them by name, or the only one. For data that
        do not fit into memory: ``nbhvp.chunks`` of a ``numpy.memmap``; or a callable without arguments,
        which makes an iterable of batches anew for each pass, and for this process alone. Of a
        ``dask.array``, or a tuple of them, a batch is a block of rows; of a ``dask.bag``, for this process
        alone, an item.
    executor : concurrent.futures.Executor or dask.distributed.Client, optional
        Where the batches are computed; this process by default, with all its threads in each.
    reduce : {"sum", "mean"}
        ``"mean"`` divides by the number of batches, or by the sum of the weights.
    weights : array_like, optional
        The factor of each batch.
    memory : int
        Bytes that may be kept for products at one x, in each process; the operators of further batches
        are made again for each product.
    sample : int, optional
        Products take so many batches, drawn anew for each operator without replacement, with factors that
        make them unbiased. Values and gradients take all.
    rng : None, int or numpy.random.Generator
        Draws the samples.
    progress : callable, optional
        Called with the number of batches, or of groups of them, that are done in each pass.

    Returns
    -------
    SumOver
        With ``value_and_grad``, ``grad``, ``hvp``, ``hessian``, as a `Function` of x alone. Terms are added in
        the same order for any executor and number of workers. Processes and clusters keep the function and the
        batches as they were when they were first sent.

    Raises
    ------
    ValueError
        For no batches, or weights or a sample of another number.

    Examples
    --------
    >>> import numpy as np, nbhvp
    >>> X = np.arange(12.0).reshape(6, 2)
    >>> f = nbhvp.differentiable(lambda w, X: 0.5 * np.sum((X @ w) ** 2))
    >>> total = nbhvp.sum_over(f, [X[:3], X[3:]])
    >>> total.hvp(np.zeros(2), np.array([1.0, 0.0])), (X.T @ X)[0]
    (array([220., 250.]), array([220., 250.]))
    """
    if reduce not in ("sum", "mean"):
        raise ValueError(f"needed reduce='sum' or 'mean', got {reduce!r}")
    if not isinstance(f, Function | GaussNewton | Fisher):
        f = differentiable(f)
    batches = _of_dask(batches)
    if isinstance(batches, np.ndarray):
        raise TypeError(
            f"needed batches, got an array of shape {batches.shape}: "
            "nbhvp.chunks(array, rows=...) cuts it into some"
        )
    if not callable(batches) and not isinstance(batches, Sequence):
        batches = list(batches)
    factors = _factors(batches, weights, reduce)
    generator = None if sample is None else np.random.default_rng(rng)
    if sample is not None and (callable(batches) or not 1 <= sample <= len(batches)):
        count = "an unknown number of" if callable(batches) else len(batches)
        raise ValueError(
            f"needed a sample of 1 to all of a sequence of batches, got {sample} of {count}"
        )
    options = {"executor": executor, "memory": memory, "progress": progress}
    return SumOver(f, batches, factors, sample, generator, options)


def _factors(batches: Any, weights: Any, reduce: str) -> np.ndarray | None:
    """The factor of each batch, where they are not all 1."""
    if callable(batches):
        if weights is not None or reduce == "mean":
            raise ValueError("weights and means need batches as a sequence, whose length is known")
        return None
    if not len(batches):
        raise ValueError("needed at least one batch, got none")
    factors = None if weights is None else np.asarray(weights, float)
    if factors is not None and factors.shape != (len(batches),):
        raise ValueError(f"needed {len(batches)} weights, got an array of shape {factors.shape}")
    if factors is not None and not np.all(np.isfinite(factors)):
        raise ValueError("needed finite weights")
    if reduce == "mean":
        factors = np.ones(len(batches)) if factors is None else factors
        if not factors.sum():
            raise ValueError("reduce='mean' divides by the sum of the weights, which is 0")
        factors = factors / factors.sum()
    return factors


def _of_dask(batches: Any) -> Any:
    """The blocks of dask collections as a sequence; all else as it is."""
    if type(batches).__module__.partition(".")[0] == "dask":
        batches = (batches,)
    first = batches[0] if isinstance(batches, tuple) and batches else None
    if type(first).__module__.partition(".")[0] != "dask":
        return batches
    from nbhvp.sums.collections import blocks

    return blocks(batches)


class SumOver:
    """A sum of a function over batches. Made by `sum_over`.

    x and directions are arrays of any shape, or trees where the function takes them, as for a `Function`.
    """

    def __init__(self, f, batches, factors, sample, rng, options):
        self.f, self.batches = f, batches
        self._factors, self._sample, self._rng = factors, sample, rng
        self._options = options
        self._runner = executors.runner(f, batches, factors, **options)
        self.products = Products()

    @property
    def unravel(self) -> Unravel | None:
        """The map from x to the tree that the function takes, if it takes one."""
        return getattr(self.f, "model", self.f).unravel

    def __call__(self, x: Any) -> Any:
        """The value; of a Gauss-Newton or Fisher matrix the operator at x."""
        return self._at("value", x)[0] if isinstance(self.f, Function) else self.hessian(x)

    def value_and_grad(self, x: Any) -> tuple[Any, np.ndarray]:
        """The value and the gradient, of the form of x."""
        value, gradient = self._at("value_and_grad", x)
        return value, as_given(gradient, x, self.unravel)

    def grad(self, x: Any) -> np.ndarray:
        """The gradient, of the form of x."""
        return self.value_and_grad(x)[1]

    def hvp(self, x: Any, v: Any) -> np.ndarray:
        """The product of the Hessian at x with v, of the form of x, or of the shape of x and one more axis.

        Each call reads all batches, which may have changed. For many products at one x take those of
        ``hessian(x)``.
        """
        point, vector = self._point(x), np.asarray(as_vector(v, self.unravel))
        shape = vector.shape
        if shape[: point.ndim] != point.shape or len(shape) > point.ndim + 1:
            needed = f"{point.shape} or {point.shape} + (k,)"
            raise ValueError(f"needed v of shape {needed}, got {shape}")
        columns = vector.reshape(point.size, *shape[point.ndim :])
        product = self._run(self._task("once", point, v=columns))[0].reshape(shape)
        return as_given(product, v, self.unravel)

    def hessian(self, x: Any) -> SumHessian:
        """The Hessian at x as an operator; of a `sample`, if one was asked for, the same in all products.

        Batches must not change as long as it is used.
        """
        return SumHessian(self, self._task("product", self._point(x)))

    # Sums of arrays.

    def jvp(self, x: Any, v: Any) -> np.ndarray:
        """The product J(x) v with the Jacobian of the sum: of the shape of the value, or that + (k,)."""
        self._needs_function("jvp")
        return self._at("jvp", x, v=as_vector(v, self.unravel))[0]

    def vjp(self, x: Any, w: Any) -> np.ndarray:
        """The product J(x)^T w with the Jacobian of the sum: of the form of x, or of its shape + (k,)."""
        self._needs_function("vjp")
        return as_given(self._at("vjp", x, v=w)[0], x, self.unravel)

    def jacobian(self, x: Any) -> SumJacobian:
        """The Jacobian of the sum at x as an operator of shape (result size, x.size).

        Its products take all batches, which must not change as long as it is used.
        """
        self._needs_function("jacobian")
        x = self._point(x)
        task = Task("product", x, uuid.uuid4().bytes, operator="jacobian")
        return SumJacobian(self, task, np.asarray(self(x)))

    def weighted_hessian(self, x: Any, w: Any) -> SumHessian:
        """The operator of sum_i w_i H_i, with H_i the Hessian of the i-th entry of the sum."""
        self._needs_function("weighted_hessian")
        task = self._task("product", self._point(x), operator="weighted_hessian", w=np.array(w))
        return SumHessian(self, task)

    def _at(self, kind: str, x: Any, **vectors: Any) -> tuple:
        x = self._point(x)
        return self._run(Task(kind, x, _key(x), **vectors))

    def _needs_function(self, name: str) -> None:
        if not isinstance(self.f, Function):
            raise TypeError(f"{name} is for a sum of a function, and this is one of {self.f!r}")

    def _task(self, kind: str, x: np.ndarray, **parts: Any) -> Task:
        """A task of products with a Hessian, with what is drawn at random."""
        rng = self.f.rng if isinstance(self.f, Fisher) else None
        seed = None if rng is None else int(rng.integers(1 << 62))
        return Task(kind, x, uuid.uuid4().bytes, factors=self._sampled(), seed=seed, **parts)

    def _sampled(self) -> np.ndarray | None:
        """The factors of all batches in a product, 0 for those that are not drawn."""
        if self._sample is None:
            return None
        count = len(self.batches)
        factors = np.zeros(count)
        factors[self._rng.choice(count, self._sample, replace=False)] = count / self._sample
        return factors

    def check_deterministic(self, x: Any, rtol: float = 1e-12) -> None:
        """Raise RuntimeError if value, gradient or product differ between two passes at x.

        They do where a function that makes batches shuffles or augments them: solvers then see another
        matrix with each product.
        """
        x = self._point(x)
        v = np.random.default_rng(0).standard_normal(x.size).astype(x.dtype)
        task = replace(self._task("once", x), factors=None)
        first, second = (
            {
                **dict(zip(("value", "gradient"), self.value_and_grad(x), strict=True)),
                "product": H @ v,
            }
            for H in (SumHessian(self, task), SumHessian(self, task))
        )
        for name, a in first.items():
            difference = np.max(np.abs(a - second[name])) if np.size(a) else 0.0
            scale = np.max(np.abs(a)) if np.size(a) else 0.0
            if not difference <= rtol * scale:
                raise RuntimeError(
                    f"the {name} differs between two passes over the batches, by {difference:.3g} of "
                    f"{scale:.3g}: make the same batches in the same order each time"
                )

    def _point(self, x: Any) -> np.ndarray:
        """x in memory of its own, which no caller changes."""
        x = primal(as_vector(x, self.unravel))
        if x.flags.writeable or not x.flags.owndata:
            x = x.copy()
            x.flags.writeable = False
        return x

    def _run(self, task: Task) -> tuple:
        total = self._runner.run(task)
        if total is None:
            raise ValueError("needed at least one batch, got none")
        return tuple(map(_writeable, total))

    def __reduce__(self) -> tuple:
        if self._options["executor"] is not None:
            raise TypeError("a sum with an executor stays in its process: make one there")
        parts = self.f, self.batches, self._factors, self._sample, self._rng, self._options
        return SumOver, parts

    def __repr__(self) -> str:
        count = "batches made anew" if callable(self.batches) else f"{len(self.batches)} batches"
        return f"<nbhvp.SumOver {getattr(self.f, '__name__', type(self.f).__name__)}, {count}>"


class SumHessian(Operator):
    """The Hessian of a sum at one point, an operator of shape (n, n). Made by ``SumOver.hessian``.

    Products take one pass over the batches, also those with several vectors at once.
    """

    def __init__(self, whole: SumOver, task: Task):
        self._whole, self._task = whole, task
        super().__init__(task.x.dtype, (task.x.size, task.x.size))
        self.tally = Tally(whole.products)

    @property
    def products(self) -> int:
        """The number of products with single vectors so far."""
        return self.tally.count[0]

    @property
    def value(self) -> Any:
        """The value of the whole sum at the point; with weights, their product with it."""
        value, w = self._whole._at("value", self._task.x)[0], self._task.w
        return value if w is None else np.vdot(w, value)

    @property
    def gradient(self) -> np.ndarray:
        """The gradient of `value`, of the shape of x."""
        x, w = self._task.x, self._task.w
        return self._whole.grad(x) if w is None else self._whole.vjp(x, w)

    def toarray(self) -> np.ndarray:
        """The Hessian as an array, by n products, many at a time."""
        return columns(self.matmat, self.shape, self.dtype)

    def diagonal(self) -> np.ndarray:
        """The diagonal of the Hessian, of shape (n,), by n products, many at a time."""
        return diagonal(self.matmat, self.shape[0], self.dtype)

    def block(self, rows: Name, columns: Name | None = None) -> Block:
        """A block of the Hessian by the names of parameters: see `HessianOperator.block`."""
        unravel = named(self._whole.unravel, repr(self._whole), "Hessian")
        columns = rows if columns is None else columns
        return Block(self, unravel.slice(rows), unravel.slice(columns))

    def _matmat(self, v: Any) -> np.ndarray:
        v = checked(v, self.shape[1])
        self.tally.count[0] += math.prod(v.shape[1:])
        return self._whole._run(replace(self._task, v=v))[0]

    matvec = matmat = _matvec = _matmat

    def _adjoint(self) -> SumHessian:
        return self

    _transpose = _adjoint

    def __reduce__(self) -> tuple:
        return SumHessian, (self._whole, self._task)


class SumJacobian(Operator):
    """The Jacobian of a sum of arrays at one point, of shape (m, n). Made by ``SumOver.jacobian``.

    Each product with vectors, ``J @ v`` or ``J.T @ w``, takes one pass over the batches.
    """

    def __init__(self, whole: SumOver, task: Task, value: np.ndarray):
        self._whole, self._task, self._value = whole, task, value
        super().__init__(np.result_type(task.x.dtype, value.dtype), (value.size, task.x.size))
        self.tally = Tally(whole.products)

    @property
    def products(self) -> int:
        """The number of products with single vectors so far."""
        return self.tally.count[0]

    @property
    def value(self) -> np.ndarray:
        """The value of the sum at the point, with its own shape."""
        return self._value.copy()

    def block(self, columns: Name, rows: slice = slice(None)) -> Block:
        """The columns of some parameters, by their names: see `JacobianOperator.block`."""
        unravel = named(self._whole.unravel, repr(self._whole), "Jacobian")
        return Block(self, contiguous(rows, self.shape[0]), unravel.slice(columns))

    def _matmat(self, v: Any) -> np.ndarray:
        return self._times(checked(v, self.shape[1]))

    def _rmatmat(self, w: Any) -> np.ndarray:
        return self._times(checked(w, self.shape[0]), is_transposed=True)

    def _times(self, v: np.ndarray, is_transposed: bool = False) -> np.ndarray:
        self.tally.count[0] += math.prod(v.shape[1:])
        return self._whole._run(replace(self._task, v=v, is_transposed=is_transposed))[0]

    matvec = matmat = _matvec = _matmat
    rmatvec = rmatmat = _rmatvec = _rmatmat

    def _adjoint(self) -> Combination:
        return Combination(super()._adjoint())

    def _transpose(self) -> Combination:
        return Combination(super()._transpose())

    def __reduce__(self) -> tuple:
        return SumJacobian, (self._whole, self._task, self._value)


def _writeable(result: Any) -> Any:
    """A result that its receiver may write to, if it is an array."""
    is_fixed = isinstance(result, np.ndarray) and not result.flags.writeable
    return result.copy() if is_fixed else result


def _key(x: np.ndarray) -> bytes:
    return hashlib.sha256(x.tobytes() + repr((x.shape, x.dtype)).encode()).digest()
