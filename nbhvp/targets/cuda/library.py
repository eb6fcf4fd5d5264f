"""Steps that CuPy's libraries compute on the device, where CuPy is installed.

Factorisations, solves by them, Fourier transforms and sorting are calls of cuSOLVER, cuBLAS, cuFFT and CUB, on
the arrays of a program where they lie. Each function here gives what `evaluate` of the primitive gives, in
the same layout; what LAPACK is free to choose (signs, phases) cuSOLVER may choose otherwise. Sparse matrices
are factorised by SuperLU on the host, and solved by on the device.

Invariant: a factorisation that fails is NaN as a whole, as on the host.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from nbhvp.graph.node import Node
from nbhvp.graph.table.matrices.vectors import extents, parts
from nbhvp.targets.cuda.hosted import Host

__all__ = ["Library", "library_step"]


@dataclass(frozen=True)
class Library:
    """Nodes that CuPy computes, from given ones, and those among them that are written to memory."""

    given: tuple[Node, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Node, ...]

    def run(self, device: Any, addresses: Sequence[int], stream: int) -> None:
        """Compute the outputs from arrays at these addresses, which are those of both in turn."""
        cp = _cupy().cp
        with cp.cuda.Device(device.ordinal), cp.cuda.ExternalStream(stream):
            pairs = zip((*self.given, *self.outputs), addresses, strict=True)
            arrays = [_array(cp, node, address) for node, address in pairs]
            values = dict(zip(self.given, arrays, strict=False))
            for node in self.nodes:
                function = _EVALUATIONS[node.primitive.name]
                args = (values[arg] for arg in node.args)
                values[node] = function(_cupy(), *args, **node.params)
            for node, out in zip(self.outputs, arrays[len(self.given) :], strict=True):
                out[...] = values[node]


def library_step(step: Host) -> Library | None:
    """The same step by CuPy; None where it is not installed, or has no function for a node."""
    constants = tuple(node for node in step.nodes if node.value is not None)
    nodes = tuple(node for node in step.nodes if node.value is None)
    if not (is_installed() and all(map(_is_known, nodes))):
        return None
    return Library((*step.given, *constants), nodes, step.outputs)


@functools.cache
def is_installed() -> bool:
    """Whether there is CuPy."""
    return importlib.util.find_spec("cupy") is not None


@functools.cache
def _cupy() -> SimpleNamespace:
    names = dict(
        cp="cupy", cupyx="cupyx", linalg="cupyx.scipy.linalg", fft="cupyx.scipy.fft",
        sparse="cupyx.scipy.sparse.linalg",
    )  # fmt: skip
    return SimpleNamespace(**{k: importlib.import_module(name) for k, name in names.items()})


def _array(cp: Any, node: Node, address: int) -> Any:
    memory = cp.cuda.UnownedMemory(address, node.size * node.dtype.itemsize, None)
    return cp.ndarray(node.shape, node.dtype, memptr=cp.cuda.MemoryPointer(memory, 0))


def _is_known(node: Node) -> bool:
    name, params = node.primitive.name, node.params
    if node.size == 0 or name not in _EVALUATIONS:
        return False
    if name == "eigh":
        return len(node.args) == 1 and params.get("subset") is None
    if name == "logdet":
        return not node.is_complex
    return name != "trigonometric" or params["type"] in (2, 3)


# Factorisations, matrix by matrix. `lib` has the modules.


def _adjoint(x: Any) -> Any:
    return x.conj().swapaxes(-1, -2)


def _stacked(cp: Any, one: Callable, a: Any) -> tuple:
    """The results of a function of one matrix, stack by stack."""
    if a.ndim == 2:
        return one(a)
    stack = a.shape[:-2]
    found = [one(a[k]) for k in np.ndindex(stack)]
    parts = (cp.stack(part) for part in zip(*found, strict=True))
    return tuple(part.reshape((*stack, *part.shape[1:])) for part in parts)


def _cholesky(lib, a, lower, by):
    try:
        with lib.cupyx.errstate(linalg="raise"):
            found = lib.cp.linalg.cholesky(a if lower else _adjoint(a))
    except np.linalg.LinAlgError:
        return lib.cp.full(a.shape, np.nan, a.dtype)
    return found if lower else _adjoint(found)


def _lu(lib, a):
    n = a.shape[-1]
    out = lib.cp.empty((*a.shape[:-2], n + 1, n), a.dtype)
    for k in np.ndindex(a.shape[:-2]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a singular matrix
            factors, pivots = lib.linalg.lu_factor(a[k], check_finite=False)
        out[(*k, slice(n))], out[(*k, n)] = factors.T, pivots
    return out


def _solve(lib, factor, b, axis, transposed):
    n = factor.shape[-1]

    def one(packed, columns):
        pivots = packed[n].real.astype(np.int32)
        pair = packed[:n].T, pivots
        return lib.linalg.lu_solve(pair, columns, trans=int(transposed), check_finite=False)

    return _by_columns(lib.cp, one, factor, b, axis)


def _triangular(lib, a, b, axis, lower, transposed, unit):
    def one(a, columns):
        found = lib.linalg.solve_triangular(
            a, columns, trans=int(transposed), lower=lower, unit_diagonal=unit, check_finite=False
        )
        if unit:
            return found
        is_singular = (lib.cp.diagonal(a) == 0).any()
        return lib.cp.where(is_singular, lib.cp.asarray(np.nan, found.dtype), found)

    return _by_columns(lib.cp, one, a, b, axis)


def _by_columns(cp, one, factor, b, axis):
    """A stack of solves, each of the columns along an axis of b; stacks are the axes before it."""
    stack = factor.ndim - 2
    order = (*range(axis - stack, axis + 1), *range(axis - stack), *range(axis + 1, b.ndim))
    turned = cp.transpose(b, order)
    out = cp.empty(turned.shape, b.dtype)
    for k in np.ndindex(factor.shape[:-2]):
        columns = turned[k].reshape(turned.shape[stack], -1)
        out[k] = one(factor[k], columns).reshape(turned.shape[stack:])
    return cp.transpose(out, np.argsort(order).tolist())


def _logdet(lib, factor, checked=True):
    n = factor.shape[-1]
    pivots = lib.cp.diagonal(factor[..., :n, :], axis1=-2, axis2=-1)
    return lib.cp.sum(lib.cp.log(lib.cp.abs(pivots)), -1)


def _qr(lib, a):
    q, r = _stacked(lib.cp, lib.cp.linalg.qr, a)
    return lib.cp.concatenate([q, r.swapaxes(-1, -2)], axis=-2)


def _eigh(lib, a, lower, by, subset=None):
    uplo = "L" if lower else "U"
    w, v = _stacked(lib.cp, lambda a: lib.cp.linalg.eigh(a, uplo), a)
    return lib.cp.concatenate([v, w[..., None, :].astype(a.dtype)], axis=-2)


def _svd(lib, a, by, is_wide, full=False):
    m, n = a.shape[-2:]
    one = functools.partial(lib.cp.linalg.svd, full_matrices=full)
    u, s, vh = _stacked(lib.cp, one, _adjoint(a) if is_wide else a)
    u, v = (_adjoint(vh), u) if is_wide else (u, _adjoint(vh))
    out = lib.cp.zeros((*a.shape[:-2], m + n + 1, m if full else n), a.dtype)
    out[..., :m, :], out[..., m:-1, :n], out[..., -1, :n] = u, v, s
    return out


_FACTORS: weakref.WeakKeyDictionary[Any, tuple] = weakref.WeakKeyDictionary()
"""By the pattern of a sparse matrix: the entries that were factorised last, and the factors."""


def _sparse_solve(lib, data, b, pattern, axis, transposed):
    known = _FACTORS.get(pattern)
    if known is None or not bool(lib.cp.array_equal(known[0], data)):
        factors = pattern.factors(lib.cp.asnumpy(data))
        solver = None if factors is None else lib.sparse.SuperLU(factors)
        known = _FACTORS[pattern] = data.copy(), solver
    if known[1] is None:
        return lib.cp.full(b.shape, np.nan, b.dtype)
    turned = lib.cp.moveaxis(b, axis, 0)
    columns = turned.reshape(turned.shape[0], -1)
    found = known[1].solve(columns, "T" if transposed else "N")
    return lib.cp.moveaxis(found.reshape(turned.shape), 0, axis)


def _sides(packed):
    n = extents(packed)[1]
    return packed[..., parts(packed)[0], :n], packed[..., parts(packed)[-1], :n]


def _spectral(lib, packed, c):
    u, v = _sides(packed)
    return (u * c[..., None, :]) @ _adjoint(v)


def _rayleigh(lib, packed, x):
    u, v = _sides(packed)
    return (u.conj() * (x @ v)).sum(axis=-2).real


def _vectors(lib, packed, left, upward=False):
    if left:
        return packed[..., parts(packed)[0], :]
    return packed[..., parts(packed)[-1], : extents(packed)[1]]


def _fft(lib, x, axes, inverse):
    return (
        lib.cp.fft.ifftn(x, axes=axes, norm="forward") if inverse else lib.cp.fft.fftn(x, axes=axes)
    )


def _trigonometric(lib, x, axes, kind, type):
    transform = lib.fft.dctn if kind == "cosine" else lib.fft.dstn
    return transform(x, type, axes=axes, norm="ortho")


_EVALUATIONS: dict[str, Callable] = {
    "argsort": lambda lib, x, axis: lib.cp.argsort(x, axis, kind="stable"),
    "broadcast": lambda lib, x, shape: lib.cp.broadcast_to(x, shape),
    "cholesky": _cholesky,
    "eigh": _eigh,
    "fft": _fft,
    "frame": lambda lib, packed, upward: packed[..., :-1, :],
    "irfft": lambda lib, x, axis, size: lib.cp.fft.irfft(x, size, axis=axis, norm="forward"),
    "levels": lambda lib, packed: packed[..., -1, :].real,
    "logdet": _logdet,
    "lu": _lu,
    "qr": _qr,
    "rayleigh": _rayleigh,
    "rfft": lambda lib, x, axis: lib.cp.fft.rfft(x, axis=axis),
    "searchsorted": lambda lib, a, v, side: lib.cp.searchsorted(a, v, side),
    "solve": _solve,
    "sparse_solve": _sparse_solve,
    "spectral": _spectral,
    "svd": _svd,
    "triangular": _triangular,
    "trigonometric": _trigonometric,
    "values": lambda lib, packed: packed[..., -1, : extents(packed)[1]].real,
    "vectors": _vectors,
}
"""By the names of primitives."""
