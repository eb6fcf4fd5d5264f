"""Products of arrays: dot, matmul, einsum, norms and similar ones, all lowered to one bilinear primitive.

`contracted` multiplies two arrays with labelled axes and sums the labels that are not wanted. It
keeps the primitive's contract (no label twice in an operand; each label of an operand occurs in the
other or in the result): labels that one operand alone has are summed in it first, and an axis of
extent 1 that the other operand stretches is dropped. Where nothing is left to sum, the product is
an elementwise one, which fuses. The operands are brought to their common dtype first.

The 2-norm and the Frobenius norm have derivative 0 at 0, where they have none.
"""

import math
import operator
import string
from functools import reduce

import numpy as np
import scipy.linalg
from numpy.lib.array_utils import normalize_axis_tuple

from nbhvp.graph import primitives as p
from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import apply, lift, scalar
from nbhvp.trace.numpy.elementwise import (
    absolute,
    cast,
    cornered,
    floating,
    into,
    is_complex,
    positive_root,
    squared_modulus,
    where,
)
from nbhvp.trace.numpy.manipulation.selections import diagonal
from nbhvp.trace.numpy.manipulation.shapes import (
    atleast_1d,
    broadcast_to,
    copy_,
    moveaxis,
    ravel,
    reshape,
    stack,
    transpose,
)
from nbhvp.trace.numpy.reductions import axes_of, kept, max_, min_, sum_

LETTERS = string.ascii_lowercase + string.ascii_uppercase


# Contractions.


def contracted(a, left: str, b, right: str, out: str):
    """The sum over all labels that are not in `out` of a[left] * b[right]."""
    extents = _extents((left, a.shape), (right, b.shape))
    a, left = _squeezed(a, left, extents)
    b, right = _squeezed(b, right, extents)
    a, left = _summed(a, left, right + out)
    b, right = _summed(b, right, left + out)
    dtype = np.result_type(a.dtype, b.dtype)
    a, b = cast(a, dtype), cast(b, dtype)
    if set(left) | set(right) == set(out):
        result = _expanded(a, left, out) * _expanded(b, right, out)
        return copy_(broadcast_to(result, [extents[c] for c in out]))
    return apply(p.contract, a, b, subscripts=f"{left},{right}->{out}")


def _extents(*labelled) -> dict[str, int]:
    """The extent of each label; 1 stretches."""
    extents: dict[str, int] = {}
    for labels, shape in labelled:
        for label, n in zip(labels, shape, strict=True):
            if extents.get(label, 1) != 1 and n not in (1, extents[label]):
                raise ValueError(
                    f"operands do not match: an axis of extent {extents[label]} meets one of {n}"
                )
            extents[label] = n if n != 1 else extents.get(label, 1)
    return extents


def _squeezed(a, labels, extents):
    """Without the axes of extent 1 that stretch to more."""
    kept = [k for k, label in enumerate(labels) if a.shape[k] == extents[label]]
    if len(kept) == len(labels):
        return a, labels
    return reshape(a, [a.shape[k] for k in kept]), "".join(labels[k] for k in kept)


def _summed(a, labels, wanted):
    axes = tuple(k for k, label in enumerate(labels) if label not in wanted)
    if not axes:
        return a, labels
    return apply(p.sum_, a, axes=axes), "".join(c for c in labels if c in wanted)


def _expanded(a, labels, out):
    """Axes in the order of `out`, with extent 1 for labels that a does not have."""
    order = [labels.index(c) for c in out if c in labels]
    if order != sorted(order):
        a = transpose(a, order)
    rest = iter(a.shape)
    return reshape(a, [next(rest) if c in labels else 1 for c in out])


def _number(a) -> bool:
    return a.ndim == 0


@answers(np.dot)
def dot(a, b, out=None):
    a, b = lift(a), lift(b)
    if _number(a) or _number(b):
        return into(out, a * b)
    left, right = LETTERS[: a.ndim], LETTERS[a.ndim : a.ndim + b.ndim]
    summed = left[-1]
    place = max(b.ndim - 2, 0)
    right = right[:place] + summed + right[place + 1 :]
    _check_summed(a.shape[-1], b.shape[place])
    free = left[:-1] + right.replace(summed, "")
    return into(out, contracted(a, left, b, right, free))


def _check_summed(n: int, m: int) -> None:
    if n != m:
        raise ValueError(
            f"shapes not aligned: a summed axis has extent {n} in one, {m} in the other"
        )


@answers(np.inner)
def inner(a, b, /):
    a, b = lift(a), lift(b)
    if _number(a) or _number(b):
        return a * b
    _check_summed(a.shape[-1], b.shape[-1])
    left, right = LETTERS[: a.ndim], LETTERS[a.ndim : a.ndim + b.ndim - 1] + LETTERS[a.ndim - 1]
    return contracted(a, left, b, right, left[:-1] + right[:-1])


@answers(np.vdot)
def vdot(a, b, /):
    return dot(np.conjugate(ravel(a)), ravel(b))


def _gufunc(core_left: str, core_right: str, core_out: str, conjugated=False):
    """A product over trailing axes, with all others broadcast."""

    def handler(x1, x2, /, out=None, *, dtype=None):
        a, b = lift(x1), lift(x2)
        if a.ndim < len(core_left) or b.ndim < len(core_right):
            raise ValueError("matmul takes no scalars: write * instead")
        a, b = (cast(x, dtype) for x in (np.conjugate(a) if conjugated else a, b))
        _check_summed(a.shape[-1], b.shape[core_right.index("z") - len(core_right)])
        free = LETTERS[: max(a.ndim - len(core_left), b.ndim - len(core_right))]
        left = free[len(free) - a.ndim + len(core_left) :] + core_left
        right = free[len(free) - b.ndim + len(core_right) :] + core_right
        return into(out, contracted(a, left, b, right, free + core_out))

    return handler


vector_dot = _gufunc("z", "z", "", conjugated=True)
matrix_vector = answers(np.matvec)(_gufunc("yz", "z", "y"))
answers(np.vecmat)(_gufunc("z", "zx", "x", conjugated=True))
_matrix_matrix = _gufunc("yz", "zx", "yx")
_vector_matrix = _gufunc("z", "zx", "x")
_vector_vector = _gufunc("z", "z", "")


@answers(np.vecdot, np.linalg.vecdot)
def vecdot(x1, x2, /, out=None, *, axis=-1, dtype=None):
    return vector_dot(moveaxis(x1, axis, -1), moveaxis(x2, axis, -1), out, dtype=dtype)


@answers(np.matmul, np.linalg.matmul)
def matmul(x1, x2, /, out=None, *, dtype=None):
    a, b = lift(x1), lift(x2)
    if a.ndim == 1:
        product = _vector_vector if b.ndim == 1 else _vector_matrix
    else:
        product = matrix_vector if b.ndim == 1 else _matrix_matrix
    return product(a, b, out, dtype=dtype)


@answers(np.tensordot, np.linalg.tensordot)
def tensordot(a, b, axes=2):
    a, b = lift(a), lift(b)
    if np.ndim(axes) == 0:
        axes = (range(a.ndim - axes, a.ndim), range(axes))
    summed = [normalize_axis_tuple(s, x.ndim) for s, x in zip(axes, (a, b), strict=True)]
    if len(summed[0]) != len(summed[1]):
        raise ValueError("shape-mismatch for sum")
    left = LETTERS[: a.ndim]
    right = list(LETTERS[a.ndim : a.ndim + b.ndim])
    for j, k in zip(*summed, strict=True):
        _check_summed(a.shape[j], b.shape[k])
        right[k] = left[j]
    free = [c for k, c in enumerate(left) if k not in summed[0]]
    free += [c for k, c in enumerate(right) if k not in summed[1]]
    result = contracted(a, left, b, "".join(right), "".join(free))
    return reshape(result, result.shape)  # an array, even without axes


@answers(np.linalg.multi_dot)
def multi_dot(arrays, *, out=None):
    """From the side where a vector stands, else from the left."""
    arrays = [lift(a) for a in arrays]
    if arrays[-1].ndim == 1:
        return into(out, reduce(lambda right, a: dot(a, right), arrays[-2::-1], arrays[-1]))
    return into(out, reduce(dot, arrays))


@answers(np.cross, np.linalg.cross)
def cross(a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis,) * 3
    a, b = moveaxis(a, axisa, -1), moveaxis(b, axisb, -1)
    if a.shape[-1] not in (2, 3) or b.shape[-1] not in (2, 3):
        raise ValueError("incompatible vector sizes for cross product: must be 2 or 3")
    (a0, a1, a2), (b0, b1, b2) = (
        [x[..., k] if k < x.shape[-1] else 0 for k in range(3)] for x in (a, b)
    )
    last = a0 * b1 - a1 * b0
    if a.shape[-1] == b.shape[-1] == 2:
        return last
    first = _minus(a1, b2, a2, b1)
    second = _minus(a2, b0, a0, b2)
    return moveaxis(stack([first, second, last], -1), -1, axisc)


def _minus(x, y, z, w):
    """x y - z w, where a factor may be the number 0."""
    return x * y - z * w


@answers(np.trace)
def trace(a, offset=0, axis1=0, axis2=1, dtype=None, out=None):
    return sum_(diagonal(a, offset, axis1, axis2), -1, dtype, out)


@answers(np.linalg.trace)
def matrix_trace(x, /, *, offset=0, dtype=None):
    return trace(x, offset, -2, -1, dtype)


@answers(np.convolve)
def convolve(a, v, mode="full"):
    a, v = atleast_1d(a), atleast_1d(v)
    if v.size > a.size:
        a, v = v, a
    return _sliding(a, v[::-1], mode)


@answers(np.correlate)
def correlate(a, v, mode="valid"):
    a, v = lift(a), np.conjugate(lift(v))
    if v.size > a.size:
        return _sliding(v, a, mode)[::-1]
    return _sliding(a, v, mode)


_FEW = 16
"""Numbers of a kernel that is written out: each is a factor of a part of the other array."""


def _sliding(a, v, mode):
    """The products of v with the windows of a, the longer one."""
    if a.ndim > 1 or v.ndim > 1:
        raise ValueError("object too deep for desired array")
    n, m = a.size, v.size
    if mode not in ("full", "same", "valid"):
        raise ValueError(f"mode must be 'full', 'same' or 'valid', got {mode!r}")
    before = {"full": m - 1, "same": m // 2, "valid": 0}[mode]
    after = {"full": m - 1, "same": m - 1 - m // 2, "valid": 0}[mode]
    padded = np.pad(a, (before, after))
    if m <= _FEW <= n // _FEW and padded.dtype.kind in "fc":
        count = padded.size - m + 1
        return reduce(operator.add, (v[k] * padded[k : k + count] for k in range(m)))
    windows = np.arange(n + before + after - m + 1)[:, None] + np.arange(m)
    return dot(apply(p.gather, padded, windows, axis=0), v)


# Einstein summation.


@answers(np.einsum)
def einsum(*operands, out=None, optimize=False, dtype=None):
    inputs, output, arrays = _parsed(operands)
    arrays = [cast(a, dtype) for a in arrays]
    extents = _extents(*zip(inputs, (a.shape for a in arrays), strict=True))
    terms = [
        _with_diagonals(*_squeezed(a, labels, extents))
        for a, labels in zip(arrays, inputs, strict=True)
    ]
    dtype = np.result_type(*(a.dtype for a in arrays))
    for pair in _order(terms, output):
        chosen = [terms.pop(k) for k in sorted(pair, reverse=True)]
        while len(chosen) > 1:
            chosen.append(_joined(chosen.pop(), chosen.pop(), chosen + terms, output))
        terms.append(chosen[0])
    a, labels = _summed(*terms[0], output)
    result = _expanded(cast(a, dtype), labels, output)
    if len(arrays) == 1 and set(inputs[0]) == set(output):
        return into(out, result)  # a view, as of NumPy
    return into(out, copy_(broadcast_to(result, [extents[c] for c in output])))


def _joined(first, second, others, output):
    """The contraction of two terms to the labels that are wanted later."""
    (a, left), (b, right) = first, second
    wanted = output + "".join(labels for _, labels in others)
    kept = [c for c in dict.fromkeys(left + right) if c in wanted]
    if not others:
        kept = [c for c in output if c in kept]
    return contracted(a, left, b, right, "".join(kept)), "".join(kept)


def _order(terms, output):
    """Which terms to join, step by step; NumPy's greedy path where there is a choice."""
    if len(terms) < 3:
        return [tuple(range(len(terms)))]
    shapes = [np.broadcast_to(np.int8(0), a.shape) for a, _ in terms]
    kept = "".join(c for c in output if any(c in labels for _, labels in terms))
    subscripts = ",".join(labels for _, labels in terms) + "->" + kept
    return np.einsum_path(subscripts, *shapes, optimize="greedy")[0][1:]


def _with_diagonals(a, labels):
    """A term without repeated labels: they become diagonals."""
    for label in labels:
        while labels.count(label) > 1:
            j = labels.index(label)
            k = labels.index(label, j + 1)
            a = diagonal(a, 0, j, k)
            labels = labels[:j] + labels[j + 1 : k] + labels[k + 1 :] + label
    return a, labels


def _parsed(operands):
    """Labels of the operands and of the result, one letter per axis, and the operands."""
    if isinstance(operands[0], str):
        subscripts, arrays = operands[0].replace(" ", ""), [lift(a) for a in operands[1:]]
    else:
        subscripts, arrays = _from_sublists(operands)
    left, arrow, output = subscripts.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(arrays):
        raise ValueError("einsum: as many operands are needed as there are subscripts")
    unused = [c for c in LETTERS if c not in subscripts]
    inputs = [_spelled(labels, a.ndim, unused) for labels, a in zip(inputs, arrays, strict=True)]
    ellipsis = max((dots for _, dots in inputs), key=len)
    inputs = [labels for labels, _ in inputs]
    if arrow:
        return inputs, output.replace("...", ellipsis), arrays
    once = [
        c for c in sorted(set("".join(inputs)) - set(ellipsis)) if "".join(inputs).count(c) == 1
    ]
    return inputs, ellipsis + "".join(once), arrays


def _spelled(labels, ndim, unused):
    """Subscripts with letters for their ellipsis (counted from the right), and these letters."""
    named = len(labels.replace("...", ""))
    count = ndim - named if "..." in labels else 0
    if named + count != ndim or count < 0:
        raise ValueError(
            f"einsum: subscripts {labels!r} do not fit an operand of {ndim} dimensions"
        )
    dots = "".join(unused[:count][::-1])
    return labels.replace("...", dots), dots


def _from_sublists(operands):
    """The form einsum(a, [0, 1], b, [1, 2], [0, 2]) as subscripts."""
    pairs = len(operands) // 2
    arrays = [lift(a) for a in operands[: 2 * pairs : 2]]
    texts = [_lettered(labels) for labels in operands[1 : 2 * pairs : 2]]
    arrow = "->" + _lettered(operands[-1]) if len(operands) % 2 else ""
    return ",".join(texts) + arrow, arrays


def _lettered(sublist) -> str:
    return "".join("..." if label is Ellipsis else LETTERS[label] for label in sublist)


# Norms.


@answers(np.linalg.norm, scipy.linalg.norm)
def norm(x, ord=None, axis=None, keepdims=False):
    x = floating(lift(x))
    if axis is None and ord is None:
        return kept(vector_norm(ravel(x)), x, range(x.ndim), keepdims)
    axes = axes_of(x, axis)
    if len(axes) == 1:
        return vector_norm(x, axis=axes[0], ord=2 if ord is None else ord, keepdims=keepdims)
    if len(axes) == 2:
        result = matrix_norm(moveaxis(x, axes, (-2, -1)), ord="fro" if ord is None else ord)
        return kept(result, x, axes, keepdims)
    raise ValueError("Improper number of dimensions to norm.")


@answers(np.linalg.vector_norm)
def vector_norm(x, /, *, axis=None, keepdims=False, ord=2):
    x = floating(lift(x))
    if isinstance(ord, str):
        raise ValueError(f"Invalid norm order {ord!r} for vectors")
    if ord == 2:
        square = squared_modulus(x) if is_complex(x) else x * x
        return positive_root(sum_(square, axis, keepdims=keepdims))
    size = absolute(x)
    if abs(ord) == math.inf:
        return (max_ if ord > 0 else min_)(size, axis, keepdims=keepdims)
    if ord == 0:
        return sum_(cast(x != 0, size.dtype), axis, keepdims=keepdims)
    if ord == 1:
        return sum_(size, axis, keepdims=keepdims)
    total = sum_(size**ord, axis, keepdims=keepdims)
    if ord < 0:
        return total ** (1.0 / ord)
    is_zero = total == 0
    root = where(is_zero, 0, where(is_zero, 1, total) ** (1.0 / ord))
    return scalar(cornered(root, x, axes_of(x, axis)))


@answers(np.linalg.matrix_norm)
def matrix_norm(x, /, *, keepdims=False, ord="fro"):
    x = floating(lift(x))
    if ord in ("fro", "f"):
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord in (2, -2, "nuc"):
        s = np.linalg.svdvals(x)
        result = sum_(s, -1) if ord == "nuc" else s[..., 0 if ord == 2 else -1]
        result = cornered(result, x, (x.ndim - 2, x.ndim - 1))
        return kept(result, x, (-2, -1), keepdims)
    if ord not in (1, -1, math.inf, -math.inf):
        raise ValueError(f"Invalid norm order {ord!r} for matrices")
    sums = sum_(absolute(x), -2 if abs(ord) == 1 else -1, keepdims=True)
    return (max_ if ord > 0 else min_)(sums, (-2, -1), keepdims=keepdims)


@answers(np.cov)
def cov(m, y=None, rowvar=True, bias=False, ddof=None, fweights=None, aweights=None, *, dtype=None):
    rows = [_observations(cast(lift(q), dtype), rowvar) for q in (m, y) if q is not None]
    x = rows[0] if len(rows) == 1 else np.concatenate(rows, axis=0)
    ddof = (0 if bias else 1) if ddof is None else ddof
    weights = [lift(w) for w in (fweights, aweights) if w is not None]
    if not weights:
        x = x - sum_(x, 1, keepdims=True) / x.shape[1]
        weighted, scale = x, max(x.shape[1] - ddof, 0)
    else:
        w = reduce(lambda one, other: one * other, weights)
        total = sum_(w)
        x = x - sum_(x * w, 1, keepdims=True) / total
        weighted = x * w
        scale = total - ddof * (1 if aweights is None else sum_(w * aweights) / total)
    return np.squeeze(dot(weighted, np.conjugate(transpose(x))) / scale)


@answers(np.corrcoef)
def corrcoef(x, y=None, rowvar=True):
    c = cov(x, y, rowvar)
    if c.ndim == 0:
        return c / c
    scale = np.sqrt(diagonal(c))
    return c / scale[:, None] / scale


def _observations(m, rowvar):
    m = floating(lift(m))
    if m.ndim < 2:
        return reshape(m, (1, -1))
    return m if rowvar else transpose(m)
