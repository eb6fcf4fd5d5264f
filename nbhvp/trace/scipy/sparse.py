"""Sparse matrices in a trace: constants, and matrices of constant sparsity with traced entries.

With entries a_k at (i_k, j_k), every product is a gather, a multiplication and a sum,

    (A x)_i = sum over k with i_k = i of a_k x_(j_k).

A `Sparse` is its entries, one traced vector, and a matrix of SciPy's that holds at (i, j) the number
of the entry that is there, counted from 1. Whatever only moves entries (transposes, indexing,
formats, stacking) SciPy does with the numbers, and the entries stay as they are. Duplicates are
summed when a matrix is assembled, so that there is one number at each place. Where indices are
traced integers, they are guards.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.linalg as sparse_linalg

from nbhvp.graph import primitives as p
from nbhvp.graph.table import sparse as primitives
from nbhvp.trace import arrays
from nbhvp.trace.answers import answers, refuses
from nbhvp.trace.arrays import Traced, apply, guard, lift, trace_error
from nbhvp.trace.kinds import LibraryObject, Standin
from nbhvp.trace.numpy.elementwise import cast, common, floats, where
from nbhvp.trace.numpy.linalg import required
from nbhvp.trace.numpy.manipulation.shapes import concatenate, ravel
from nbhvp.trace.numpy.reductions import all_

__all__ = ["Sparse", "SparseConstant", "wrap"]

_answers = functools.partial(answers, is_for_live=True)
"""Constant matrices and arrays are SciPy's own to answer."""


def wrap(result):
    """What SciPy gave for constants, as constants of the trace."""
    if sp.issparse(result):
        return SparseConstant(result)
    return arrays.adopt(result) if type(result) is np.ndarray else result


# Matrices with traced entries.


class Sparse(Standin):
    """A matrix of constant sparsity whose entries are a traced vector."""

    is_live = True
    held = "numbers"
    __array_ufunc__ = None
    __array_priority__ = 2000.0

    def __init__(self, data: Traced, numbers, has_duplicates: bool = False):
        self._data = data
        self.numbers = numbers
        self._has_duplicates = has_duplicates
        """Whether SciPy's matrix would list a place twice, where this one has the sum."""

    # What it holds.

    @functools.cached_property
    def _coo(self):
        return self.numbers.tocoo()

    @property
    def rows(self) -> np.ndarray:
        return self._coo.row.astype(np.int64)

    @property
    def columns(self) -> np.ndarray:
        return self._coo.col.astype(np.int64)

    def _at(self, numbers: np.ndarray) -> Traced:
        """The entries with these numbers."""
        places = numbers.astype(np.int64) - 1
        if np.array_equal(places, np.arange(self._data.size)):
            return self._data
        return apply(p.gather, self._data, places, axis=0)

    @functools.cached_property
    def values(self) -> Traced:
        """The entries, in the order of `rows` and `columns`."""
        return self._at(self._coo.data)

    @property
    def data(self) -> Traced:
        self._check_listed("data")
        return self._at(self.numbers.data)

    def _check_listed(self, name: str) -> None:
        if self._has_duplicates and name in ("data", "nnz", "indices", "indptr", "row", "col"):
            raise trace_error(
                f".{name} of a sparse matrix with entries that are given twice",
                "sum them up first, as .tocsr() does",
            )

    @property
    def dtype(self) -> np.dtype:
        return self._data.dtype

    def __getattr__(self, name: str):
        if name in ("shape", "ndim", "nnz", "format", "indices", "indptr", "row", "col"):
            self._check_listed(name)
            return getattr(self.numbers, name)
        if name in _MOVING:
            moving = getattr(self.numbers, name)
            return lambda *args, **kwargs: self._moved(moving(*map(_plain, args), **kwargs))
        if name.startswith("_"):
            raise AttributeError(name)
        raise trace_error(
            f".{name} of a sparse matrix with traced entries is not supported",
            "use products, sums, scaling, indexing and solves",
        )

    def _moved(self, numbers):
        """The same entries elsewhere: a matrix, or an array that is 0 where there is no entry."""
        if sp.issparse(numbers):
            if numbers.ndim != 2:
                raise trace_error("a sparse array of one axis", "keep it a matrix: A[[0]], A[:1]")
            return Sparse(self._data, numbers)
        numbers = np.asarray(numbers)
        found = apply(p.gather, self._data, np.maximum(numbers, 1) - 1, axis=0)
        return found if numbers.all() else where(numbers != 0, found, 0)

    def __getitem__(self, index):
        index = tuple(map(_plain, index)) if isinstance(index, tuple) else _plain(index)
        return self._moved(self.numbers[index])

    @property
    def T(self) -> Sparse:
        return Sparse(self._data, self.numbers.T)

    def astype(self, dtype, casting="unsafe", copy=True) -> Sparse:
        return Sparse(self._data.astype(dtype), self.numbers)

    def conj(self, copy=True) -> Sparse:
        return Sparse(np.conjugate(self._data), self.numbers)

    conjugate = conj

    # Arithmetic.

    def _scaled(self, factor) -> Sparse:
        return Sparse(self._data * factor, self.numbers)

    def __matmul__(self, other):
        if isinstance(other, Sparse | SparseConstant):
            return _product(self, of(other))
        return _applied(self, lift(other))

    def __rmatmul__(self, other):
        if isinstance(other, SparseConstant):
            return _product(of(other), self)
        other = lift(other)
        return _applied(self.T, other) if other.ndim == 1 else _applied(self.T, other.T).T

    def dot(self, other):
        return self * other if np.ndim(_shaped(other)) == 0 else self @ other

    def __mul__(self, other):
        if np.ndim(_shaped(other)) == 0:
            return self._scaled(other)
        return self @ other if isinstance(self.numbers, sp.spmatrix) else self.multiply(other)

    def __rmul__(self, other):
        if np.ndim(_shaped(other)) == 0:
            return self._scaled(other)
        return other @ self if isinstance(self.numbers, sp.spmatrix) else self.multiply(other)

    def __truediv__(self, other):
        if np.ndim(_shaped(other)) == 0:
            return Sparse(self._data / other, self.numbers)
        return self.multiply(1 / lift(other))

    def __neg__(self):
        return Sparse(-self._data, self.numbers)

    def multiply(self, other) -> Sparse:
        """The product of elements."""
        if isinstance(other, Sparse | SparseConstant):
            other = of(other)
            both = self.numbers.astype(bool).multiply(other.numbers.astype(bool)).tocoo()
            place = (both.row, both.col)
            values = self._picked(place) * other._picked(place)
            return assembled(values, *place, self.shape, type(self.numbers))
        other = np.broadcast_to(lift(other), self.shape)
        values = self.values * other[self.rows, self.columns]
        return assembled(values, self.rows, self.columns, self.shape, type(self.numbers))

    def _picked(self, place) -> Traced:
        numbers = np.asarray(self.numbers.tocsr()[place]).ravel()
        return self._at(numbers)

    def power(self, n, dtype=None) -> Sparse:
        return Sparse(self._data**n, self.numbers)

    def __add__(self, other):
        if not isinstance(other, Sparse | SparseConstant):
            if np.ndim(_shaped(other)) == 0 and not np.any(_shaped(other)):
                return self
            self._refuse_matrix("a sum with a dense array", "A.toarray() + dense")
            return self.toarray() + np.broadcast_to(lift(other), self.shape)
        other = of(other)
        if self.shape != other.shape:
            raise ValueError(f"inconsistent shapes: {self.shape} and {other.shape}")
        values = concatenate(common(self.values, other.values))
        rows = np.concatenate([self.rows, other.rows])
        columns = np.concatenate([self.columns, other.columns])
        return assembled(values, rows, columns, self.shape, type(self.numbers))

    __radd__ = __add__

    def __sub__(self, other):
        return self + -other

    def __rsub__(self, other):
        return -self + other

    def sum(self, axis=None, dtype=None, out=None):
        if axis is None:
            return np.sum(self.values)
        self._refuse_matrix("a sum along an axis", "A @ np.ones(n)")
        place = (self.columns, self.rows)[axis % 2]
        size = self.shape[1 - axis % 2]
        return apply(p.scatter_add, self.values, place, axis=0, size=size)

    def todense(self, order=None, out=None) -> Traced:
        self._refuse_matrix(".todense()", ".toarray()")
        return self.toarray()

    def _refuse_matrix(self, what: str, instead: str) -> None:
        """SciPy's older classes give a np.matrix here, whose operators mean other things."""
        if isinstance(self.numbers, sp.spmatrix):
            raise trace_error(
                f"{what} of a {type(self.numbers).__name__} gives a numpy.matrix",
                f"use {type(self.numbers).__name__.replace('matrix', 'array')}, or write {instead}",
            )

    def trace(self, offset=0):
        return np.sum(self.diagonal(offset))

    def __repr__(self) -> str:
        return f"<{self.format} matrix of shape {self.shape} with traced entries>"

    # Solves.

    @functools.cached_property
    def factors(self) -> tuple[primitives.Pattern, Traced]:
        """The pattern of the matrix, column by column, and the entries in its order."""
        if self.shape[0] != self.shape[1]:
            raise ValueError(f"matrix must be square (has shape {self.shape})")
        columns = self.numbers.tocsc()
        columns.sort_indices()
        return primitives.Pattern(columns.indices, columns.indptr), self._at(columns.data)


_MOVING = frozenset({
    "asformat", "copy", "diagonal", "getcol", "getrow", "reshape", "toarray", "tobsr", "tocoo",
    "tocsc", "tocsr", "todia", "todok", "tolil", "transpose",
})  # fmt: skip
"""Methods that only move entries."""


def of(matrix) -> Sparse:
    """A constant as a matrix of entries."""
    if isinstance(matrix, Sparse):
        return matrix
    if isinstance(matrix, SparseConstant):
        return matrix.entries
    if not sp.issparse(matrix):
        dense = lift(matrix)
        rows, columns = np.indices(dense.shape).reshape(2, -1)
        return assembled(ravel(dense), rows, columns, dense.shape, sp.csr_array)
    coo = matrix.tocoo()
    return assembled(arrays.adopt(coo.data.copy()), coo.row, coo.col, coo.shape, type(matrix))


def assembled(values: Traced, rows, columns, shape, kind: type, as_listed=False) -> Sparse:
    """Entries at places, summed where a place occurs twice, as a matrix of a class of SciPy's.

    Some matrices of SciPy's list such entries `as_listed`, one by one.
    """
    rows, columns = (np.asarray(q).astype(np.int64) for q in (rows, columns))
    if rows.size and (rows.max() >= shape[0] or columns.max() >= shape[1]):
        raise ValueError(f"an index exceeds the shape {tuple(shape)}")
    places, numbers = np.unique(rows * shape[1] + columns, return_inverse=True)
    has_duplicates = places.size < rows.size
    if has_duplicates:
        values = apply(p.scatter_add, values, numbers, axis=0, size=places.size)
        rows, columns = np.divmod(places, shape[1])
    family = sp.coo_matrix if issubclass(kind, sp.spmatrix) else sp.coo_array
    numbered = family((np.arange(1, rows.size + 1), (rows, columns)), shape=tuple(shape))
    return Sparse(values, kind(numbered), has_duplicates and as_listed)


def _applied(matrix: Sparse, x: Traced) -> Traced:
    rows, columns = matrix.shape
    if x.ndim not in (1, 2) or x.shape[0] != columns:
        raise ValueError(
            f"matmul: the sparse matrix has {columns} columns, the array has shape {x.shape}"
        )
    data = matrix.values if x.ndim == 1 else matrix.values[:, None]
    entries = apply(p.gather, x, matrix.columns, axis=0)
    return apply(p.scatter_add, data * entries, matrix.rows, axis=0, size=rows)


def _product(a: Sparse, b: Sparse) -> Sparse:
    """Each entry of a with all entries of the row of b that it meets."""
    if a.shape[1] != b.shape[0]:
        raise ValueError(f"matmul: dimension mismatch of {a.shape} and {b.shape}")
    ordered = b.numbers.tocsr()
    counts = np.diff(ordered.indptr)[a.columns]
    left = np.repeat(np.arange(a.rows.size), counts)
    within = np.arange(left.size) - np.repeat(np.cumsum(counts) - counts, counts)
    right = ordered.indptr[:-1][a.columns][left] + within
    values = a.values[left] * b._at(ordered.data[right])
    shape = (a.shape[0], b.shape[1])
    return assembled(values, a.rows[left], ordered.indices[right], shape, type(a.numbers))


def _plain(index):
    """A traced index as a plain one, guarded."""
    return guard(index) if isinstance(index, Traced) else index


def _shaped(other):
    """The number or array that another operand is like."""
    if isinstance(other, Sparse | SparseConstant):
        return np.zeros((1, 1))
    return other.value if isinstance(other, Traced) else other


# Constants.

_PARTS = ("_shape", "data", "indices", "indptr", "coords", "offsets", "rows", "_dict")


@answers(sp.sparray, sp.spmatrix)
class SparseConstant(LibraryObject):
    """A scipy.sparse matrix that may meet a traced array."""

    __array_ufunc__ = None
    __array_priority__ = 2000.0

    def __init__(self, original, standin: Callable | None = None):
        self.original = original

    @classmethod
    def watch(cls, standins, original) -> None:
        for name in _PARTS:
            standins.left_alone(standins.watched(getattr, original, name, None))

    @functools.cached_property
    def T(self) -> SparseConstant:
        return SparseConstant(self.original.T)

    def transpose(self, axes=None, copy=False) -> SparseConstant:
        return self.T

    @functools.cached_property
    def entries(self) -> Sparse:
        return of(self.original)

    def __matmul__(self, other):
        if isinstance(other, list | tuple):
            other = lift(other)
        if isinstance(other, Sparse) or _is_live(other):
            return self.entries @ other
        return wrap(self.original @ _constant(other))

    def __rmatmul__(self, other):
        if isinstance(other, Sparse) or _is_live(other):
            return (
                other @ self.entries
                if isinstance(other, Sparse)
                else (self.entries.__rmatmul__(other))
            )
        return wrap(_constant(other) @ self.original)

    def dot(self, other):
        return self * other if np.ndim(_shaped(other)) == 0 else self @ other

    def __getitem__(self, index):
        return wrap(self.original[_constant(index)])

    def __getattr__(self, name: str):
        if name.startswith("__") or name == "original":
            raise AttributeError(name)
        value = getattr(self.original, name)
        if not callable(value):
            return value

        def method(*args, **kwargs):
            if any(map(_is_live, args)):
                return getattr(self.entries, name)(*args, **kwargs)
            return wrap(value(*map(_constant, args), **kwargs))

        return method

    def __repr__(self) -> str:
        return repr(self.original)


def _is_live(other) -> bool:
    """Whether an operand depends on an input."""
    if isinstance(other, Sparse):
        return True
    return isinstance(other, Traced) and not arrays.is_constant(other)


def _constant(other):
    """The plain array or matrix for SciPy."""
    if isinstance(other, SparseConstant):
        return other.original
    if isinstance(other, tuple):
        return tuple(map(_constant, other))
    if not isinstance(other, Traced):
        return other
    return other.value if arrays.is_constant(other) else guard(other)


def _operator(name: str) -> Callable:
    def operator(self, *others):
        if any(map(_is_live, others)):
            if not hasattr(Sparse, name):
                raise trace_error(
                    f"a sparse matrix meets a traced value in {name}",
                    "use products, sums and scaling",
                )
            return getattr(self.entries, name)(*others)
        return wrap(getattr(self.original, name)(*map(_constant, others)))

    return operator


for _name in (
    "add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "pow", "neg", "abs", "len",
):  # fmt: skip
    setattr(SparseConstant, f"__{_name}__", _operator(f"__{_name}__"))


# Assembly.

_CLASSES = [
    getattr(sp, f"{name}_{suffix}")
    for name in ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
    for suffix in ("array", "matrix")
]


def _assembly(kind: type) -> Callable:
    """The constructor of a class, from traced entries, a traced dense array or another matrix."""

    def construct(arg1, shape=None, dtype=None, copy=False):
        if isinstance(arg1, Sparse):
            found = Sparse(arg1._data, kind(arg1.numbers))
        elif isinstance(arg1, tuple):
            found = _by_index(kind, arg1, shape)
        else:
            dense = of(arg1)
            found = Sparse(dense._data, kind(dense.numbers))
        return found if dtype is None else found.astype(dtype)

    return construct


def _by_index(kind: type, parts: tuple, shape) -> Sparse:
    """(values, (rows, columns)), or (values, indices, indptr) of a compressed format."""
    values = lift(parts[0])
    if len(parts) == 2 and kind not in (sp.dia_array, sp.dia_matrix):
        rows, columns = (np.asarray(_constant(lift(q))) for q in parts[1])
        if shape is None:
            shape = (rows.max() + 1, columns.max() + 1)
        as_listed = kind in (sp.coo_array, sp.coo_matrix)
        return assembled(values, rows, columns, shape, kind, as_listed)
    plain = [np.asarray(_constant(lift(q))) for q in parts[1:]]
    numbers = np.arange(1, values.size + 1).reshape(values.shape)
    coo = kind((numbers, *plain), shape=shape).tocoo(copy=True)
    found = Sparse(ravel(values), coo)
    return assembled(found._at(coo.data), coo.row, coo.col, coo.shape, kind, as_listed=True)


for _kind in _CLASSES:
    _answers(_kind)(_assembly(_kind))


def _of_diagonals(function: Callable) -> Callable:
    def construct(diagonals, offsets=0, shape=None, format=None, dtype=None):
        if isinstance(diagonals, Traced) and diagonals.ndim == 1 and np.ndim(offsets) == 0:
            diagonals = [diagonals]
        lines = common(*map(np.atleast_1d, map(lift, diagonals)))
        ends = np.cumsum([1, *(line.size for line in lines)])
        numbers = [np.arange(a, b) for a, b in zip(ends, ends[1:], strict=False)]
        offsets = np.atleast_1d(_constant(offsets)).tolist()
        placed = function(numbers, offsets=offsets, shape=shape, format="coo", dtype=np.int64)
        found = Sparse(concatenate(lines), placed.asformat(format or "dia"))
        return found if dtype is None else found.astype(dtype)

    return construct


for _function in (sp.diags, sp.diags_array):
    _answers(_function)(_of_diagonals(_function))


def _stacking(function: Callable) -> Callable:
    """A function that puts matrices together: SciPy puts their numbers together."""

    def handler(*args, **kwargs):
        found: list[Sparse] = []

        def numbered(value):
            if isinstance(value, list | tuple):
                return type(value)(map(numbered, value))
            if not isinstance(value, Sparse | SparseConstant | Traced | np.ndarray):
                return value
            matrix = of(value)
            numbers = matrix.numbers.copy()
            numbers.data = numbers.data + sum(one._data.size for one in found)
            found.append(matrix)
            return numbers

        placed = function(*map(numbered, args), **kwargs)
        return Sparse(concatenate(common(*(one._data for one in found))), placed)

    return handler


for _function in (
    sp.vstack, sp.hstack, sp.bmat, sp.block_array, sp.block_diag, sp.tril, sp.triu,
):  # fmt: skip
    _answers(_function)(_stacking(_function))


@_answers(sp.kron)
def kron(A, B, format=None):
    a, b = of(A), of(B)
    left, right = (q.ravel() for q in np.indices((a.rows.size, b.rows.size)))
    values = a.values[left] * b.values[right]
    rows = a.rows[left] * b.shape[0] + b.rows[right]
    columns = a.columns[left] * b.shape[1] + b.columns[right]
    shape = (a.shape[0] * b.shape[0], a.shape[1] * b.shape[1])
    return assembled(values, rows, columns, shape, type(a.numbers)).asformat(format or "csr")


@_answers(sp.issparse)
def issparse(x):
    return isinstance(x, Sparse | SparseConstant)


# Solves.


def _solved(pattern, data: Traced, b, transposed: bool = False) -> Traced:
    b = lift(b)
    if b.ndim not in (1, 2) or b.shape[0] != pattern.size:
        raise ValueError(
            f"matrix - rhs dimension mismatch ({pattern.size} rows - right side of {b.shape})"
        )
    if isinstance(pattern, primitives.Factored):
        b = cast(b, np.result_type(pattern.lu.L.dtype, b.dtype))
    else:
        data, b = floats(data, b)
    return apply(primitives.sparse_solve, data, b, pattern=pattern, axis=0, transposed=transposed)


@_answers(sparse_linalg.spsolve)
def spsolve(A, b, permc_spec=None, use_umfpack=True):
    if isinstance(b, Sparse | SparseConstant):
        raise trace_error("scipy.sparse.linalg.spsolve with a sparse right side", "make it dense")
    b = lift(b)
    if b.ndim == 2 and b.shape[1] == 1:
        return _solved(*of(A).factors, b[:, 0])
    return _solved(*of(A).factors, b)


@_answers(sparse_linalg.spsolve_triangular)
def spsolve_triangular(A, b, lower=True, overwrite_A=False, overwrite_b=False, unit_diagonal=False):
    if unit_diagonal:
        raise trace_error(
            "scipy.sparse.linalg.spsolve_triangular with unit_diagonal=True",
            "add the identity to the strict triangle",
        )
    part = _stacking(sp.tril if lower else sp.triu)(of(A))
    b = required(lift(b), all_(part.diagonal() != 0), _refuse_triangle)
    return _solved(*part.factors, b)


def _refuse_triangle():
    raise np.linalg.LinAlgError("A is singular: zero entry on diagonal.")


def _regular(matrix: Sparse) -> tuple[primitives.Pattern, Traced]:
    pattern, data = matrix.factors
    data = floats(data)[0]
    regular = apply(primitives.sparse_regular, data, pattern=pattern)
    return pattern, required(data, regular, _refuse_singular)


def _refuse_singular():
    raise RuntimeError("Factor is exactly singular")


@answers(sparse_linalg.SuperLU)
class Factors(LibraryObject):
    """What splu gives: of a constant matrix, or of one with traced entries."""

    def __init__(self, original, standin=None, parts=None):
        super().__init__(original, standin)
        self._parts = parts or (primitives.Factored(original), arrays.adopt(np.zeros(0)))

    def solve(self, rhs, trans="N"):
        if self.original is not None and not _is_live(rhs):
            return wrap(self.original.solve(np.asarray(_constant(rhs)), trans))
        rhs = lift(rhs)
        if trans == "H":
            return np.conjugate(_solved(*self._parts, np.conjugate(rhs), True))
        return _solved(*self._parts, rhs, trans == "T")

    def __getattr__(self, name: str):
        if self.__dict__.get("original") is None and not name.startswith("_"):
            raise trace_error(f".{name} of the factors of traced entries", "use .solve")
        return super().__getattr__(name)


@_answers(sparse_linalg.splu)
def splu(A, permc_spec=None, diag_pivot_thresh=None, relax=None, panel_size=None, options=None):
    return Factors(None, parts=_regular(of(A)))


@_answers(sparse_linalg.factorized)
def factorized(A):
    return splu(A).solve


# Bands are sparse matrices whose rows are given shifted.


@answers(scipy.linalg.solve_banded)
def solve_banded(l_and_u, ab, b):
    below, above = l_and_u
    ab, b = floats(ab, b)
    n = ab.shape[-1]
    rows, columns = _band(below, above, n)
    matrix = assembled(ab[above + rows - columns, columns], rows, columns, (n, n), sp.csc_array)
    pattern, data = matrix.factors
    regular = apply(primitives.sparse_regular, data, pattern=pattern)
    b = required(b, regular, scipy.linalg.solve_banded, (below, above), ab, b)
    return _solved(pattern, data, b)


@answers(scipy.linalg.solveh_banded)
def solveh_banded(ab, b, lower=False):
    ab, b = floats(ab, b)
    positive = apply(primitives.band_is_positive, ab, lower=bool(lower))
    b = required(b, positive, scipy.linalg.solveh_banded, ab, b, lower=lower)
    width, n = ab.shape[0] - 1, ab.shape[1]
    rows, columns = _band(width if lower else 0, 0 if lower else width, n)
    row = rows - columns if lower else width + rows - columns
    half = assembled(ab[row, columns], rows, columns, (n, n), sp.csc_array)
    strict = rows != columns
    mirrored = np.conjugate(ab[row[strict], columns[strict]])
    other = assembled(mirrored, columns[strict], rows[strict], (n, n), sp.csc_array)
    return _solved(*(half + other).factors, b)


def _band(below: int, above: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.indices((n, below + above + 1)).reshape(2, -1)
    columns = columns + rows - below
    inside = (columns >= 0) & (columns < n)
    return rows[inside], columns[inside]


refuses(
    sparse_linalg.cg,
    sparse_linalg.gmres,
    sparse_linalg.minres,
    why="it iterates to a tolerance, so its number of steps depends on x",
    instead="use spsolve or np.linalg.solve, or give it a rule (nbhvp.custom_jvp)",
)
