"""Steps that call BLAS, through the addresses that SciPy gives.

All arrays are row-major. BLAS is column-major and sees each array as its transpose, so the product
Z = op(X) op(Y) is requested as Zᵀ = op(Y)ᵀ op(X)ᵀ. A step is cut into blocks of rows of its result,
or of a long sum, by sizes alone, and each block is one call: a team of threads shares a product
while BLAS itself runs on one thread (`single_threaded`), since two pools of spinning threads slow each
other down.

Addresses go through the table. BLAS takes 32-bit integers: a larger size or stride raises
OverflowError when the step is made. With beta = 0 the result is never read, and an empty sum is 0.
"""

import ctypes
import glob
import os
import threading
from typing import Any

import scipy
from scipy.linalg import cython_blas

from nbhvp.plan.costs import CPU
from nbhvp.targets.cpu.run import Step
from nbhvp.targets.native.cache import address_of, load

LETTERS = {"f4": "s", "f8": "d", "c8": "c", "c16": "z"}
MATRIX_WORK = int(CPU.wake / CPU.multiply_add)  # in a block, which so pays for waking a thread
VECTOR_WORK = int(CPU.wake / CPU.load)

# --- the kernels ----------------------------------------------------------------------------------

_HEADER = '''"""{name} of row-major arrays, {code}."""
from nbhvp.targets.native.language import add_reassoc, cast, cplx, fortran, integer, kernel, reads, real, shift
from nbhvp.targets.native.language import writes


@kernel
def {name}(table, lo, hi):
    alpha = {constant}(table, 0, "{code}")
    beta = {constant}(table, 2, "{code}")
    f = integer(table, 4)
    x = reads(table, 5, "{code}")
    y = reads(table, 6, "{code}")
    z = writes(table, 7, "{code}")
'''

# A block of rows of a product.
_GEMM = """    x_flag, y_flag = integer(table, 8), integer(table, 9)
    ldx, ldy, ldz = integer(table, 10), integer(table, 11), integer(table, 12)
    n, k = integer(table, 13), integer(table, 14)
    x_row = integer(table, 15)  # elements from one row of op(X) to the next
    x = shift(x, lo * x_row)
    z = shift(z, lo * ldz)
    fortran(f, y_flag, x_flag, n, hi - lo, k, alpha, y, ldy, x, ldx, beta, z, ldz)
"""

# Products lo to hi of a batch. Their sums have k terms, the last what is left of `terms`.
_GEMM_BATCH = """    x_flag, y_flag = integer(table, 8), integer(table, 9)
    ldx, ldy, ldz = integer(table, 10), integer(table, 11), integer(table, 12)
    n, k, m, terms = integer(table, 13), integer(table, 14), integer(table, 15), integer(table, 16)
    x_step, y_step, z_step = integer(table, 17), integer(table, 18), integer(table, 19)
    for b in range(lo, hi):
        depth = min(k, terms - b * k)
        xb, yb, zb = shift(x, b * x_step), shift(y, b * y_step), shift(z, b * z_step)
        fortran(f, y_flag, x_flag, n, m, depth, alpha, yb, ldy, xb, ldx, beta, zb, ldz)
"""

# A block of the result of X y: rows of X, or its columns if X is taken transposed.
_GEMV = """    flag, transposed = integer(table, 8), integer(table, 9)
    n, ldx = integer(table, 10), integer(table, 11)
    incy, incz = integer(table, 12), integer(table, 13)
    rows = n if transposed else hi - lo
    columns = hi - lo if transposed else n
    x = shift(x, lo if transposed else lo * ldx)
    z = shift(z, lo * incz)
    fortran(f, flag, columns, rows, alpha, x, ldx, y, incy, beta, z, incz)
"""

# Xᵀ y summed over chunks of rows, each chunk's sum in a row of Z.
_GEMV_CHUNKS = """    flag, chunk = integer(table, 8), integer(table, 9)
    rows, columns = integer(table, 10), integer(table, 11)
    ldx, incy = integer(table, 12), integer(table, 13)
    for c in range(lo, hi):
        some = min(chunk, rows - c * chunk)
        xc, yc, zc = shift(x, c * chunk * ldx), shift(y, c * chunk * incy), shift(z, c * columns)
        fortran(f, flag, columns, some, alpha, xc, ldx, yc, incy, beta, zc, 1)
"""

# Z = the sum of the rows of X + beta Z, and f tells if beta is not 0.
_COMBINE = """    rows, columns, incz = integer(table, 8), integer(table, 9), integer(table, 10)
    for j in range(lo, hi):
        t = cast(0.0, "{code}")
        for c in range(rows):
            t = t + x[c * columns + j]
        z[j * incz] = t + beta * z[j * incz] if f else t
"""

_BODIES = {
    "gemm": _GEMM,
    "gemm_batch": _GEMM_BATCH,
    "gemv": _GEMV,
    "gemv_chunks": _GEMV_CHUNKS,
    "combine": _COMBINE,
}


def _step(name, code, routine, pointers, integers, extent, block, alpha=1.0, beta=0.0):
    """A step of one of the kernels above; `routine` is a name of BLAS, or a number."""
    is_complex = code in ("c8", "c16")
    constant = "cplx" if is_complex else "real"
    kernel = load((_HEADER + _BODIES[name]).format(name=name, code=code, constant=constant))
    if isinstance(routine, str):
        letters = LETTERS[code] + routine
        routine = address_of(cython_blas.__name__, letters)
    numbers = [complex(x) if is_complex else float(x) for x in (alpha, beta)]
    constants = numbers if is_complex else [numbers[0], 0, numbers[1], 0]
    table = (*constants, routine, *pointers, *integers)
    return Step(kernel.address, table, extent, block)


def _check(*sizes):
    for size in sizes:
        if not 0 <= size < 2**31:
            raise OverflowError(f"BLAS takes sizes and strides of 32 bits, not {size}")


def _block(extent, work, enough, least=1):
    """Cut an extent, given the work per unit, into a power of two of blocks with enough each."""
    blocks = max(1, min(CPU.blocks, extent // least, extent * work // enough))
    return max(1, -(-extent // (1 << (blocks.bit_length() - 1))))


# --- matrix times matrix --------------------------------------------------------------------------


def gemm(
    code: str,
    x: Any,
    y: Any,
    z: Any,
    m: int,
    n: int,
    k: int,
    *,
    x_op: str = "N",
    y_op: str = "N",
    ldx: int | None = None,
    ldy: int | None = None,
    ldz: int | None = None,
    alpha: complex = 1.0,
    beta: complex = 0.0,
    scratch: Any = None,
) -> list[Step]:
    """Z = alpha op(X) op(Y) + beta Z, of shapes (m, n) = (m, k) (k, n).

    `x`, `y`, `z` are entries of a table, as a rule Refs. `ld*` is the distance of an array's rows
    in elements. op is "N", "T" or "C" (conjugate transpose). With `scratch`, room for
    `gemm_scratch` elements, a long sum is cut too; Z must then be contiguous.
    """
    flags, (ldx, ldy, ldz) = _layout(m, n, k, x_op, y_op, ldx, ldy, ldz)
    x_row = ldx if x_op == "N" else 1
    chunks, chunk = _chunks(m * n, k, MATRIX_WORK)
    if scratch is None or chunks == 1:
        block = _block(m, n * k, MATRIX_WORK, least=96)
        _check(block, n, k, ldx, ldy, ldz)
        integers = *flags, ldx, ldy, ldz, n, k, x_row
        return [_step("gemm", code, "gemm", (x, y, z), integers, m, block, alpha, beta)]
    assert ldz == n, "a product whose sum is cut needs a contiguous result"
    steps = chunk * (1 if x_op == "N" else ldx), chunk * (ldy if y_op == "N" else 1), m * n
    _check(m, n, chunk, ldx, ldy)
    integers = *flags, ldx, ldy, n, n, chunk, m, k, *steps
    sums = _step("gemm_batch", code, "gemm", (x, y, scratch), integers, chunks, 1, alpha)
    return [sums, _combine(code, scratch, z, chunks, m * n, 1, beta)]


def gemm_scratch(m: int, n: int, k: int) -> int:
    """How many elements of scratch `gemm` makes use of; 0 if it needs none."""
    chunks, _ = _chunks(m * n, k, MATRIX_WORK)
    return chunks * m * n if chunks > 1 else 0


def gemm_batch(
    code: str,
    x: Any,
    y: Any,
    z: Any,
    m: int,
    n: int,
    k: int,
    batch: int,
    steps: tuple[int, int, int],
    *,
    x_op: str = "N",
    y_op: str = "N",
    ldx: int | None = None,
    ldy: int | None = None,
    ldz: int | None = None,
    alpha: complex = 1.0,
    beta: complex = 0.0,
) -> list[Step]:
    """`gemm` for each matrix of a batch; `steps` are the distances of X, Y and Z in elements.

    A distance of 0 uses the same X or Y for all.
    """
    flags, (ldx, ldy, ldz) = _layout(m, n, k, x_op, y_op, ldx, ldy, ldz)
    _check(m, n, k, ldx, ldy, ldz)
    block = _block(batch, m * n * k, MATRIX_WORK)
    integers = *flags, ldx, ldy, ldz, n, k, m, k * batch, *steps
    return [_step("gemm_batch", code, "gemm", (x, y, z), integers, batch, block, alpha, beta)]


def _layout(m, n, k, x_op, y_op, ldx, ldy, ldz):
    """The flags of X and Y, and the distances of rows, which BLAS wants positive."""
    x_columns = k if x_op == "N" else m
    y_columns = n if y_op == "N" else k
    given = zip((ldx, ldy, ldz), (x_columns, y_columns, n), strict=True)
    return (ord(x_op), ord(y_op)), [max(1, least if ld is None else ld) for ld, least in given]


def _chunks(results, terms, enough):
    """Cut a sum so long that partial results hardly cost: how many chunks, of how many terms."""
    if results == 0 or terms < CPU.block_size or results * terms < 2 * enough or results > 2**14:
        return 1, terms
    chunk = _block(terms, results, enough, least=1024)
    return -(-terms // chunk), chunk


def _combine(code, sums, z, chunks, columns, incz, beta):
    integers = chunks, columns, incz
    return _step(
        "combine", code, int(beta != 0), (sums, 0, z), integers, columns, CPU.block_size, beta=beta
    )


# --- matrix times vector --------------------------------------------------------------------------


def gemv(
    code: str,
    x: Any,
    y: Any,
    z: Any,
    rows: int,
    columns: int,
    *,
    op: str = "N",
    ldx: int | None = None,
    incy: int = 1,
    incz: int = 1,
    alpha: complex = 1.0,
    beta: complex = 0.0,
    scratch: Any = None,
) -> list[Step]:
    """z = alpha op(X) y + beta z for X of shape (rows, columns); increments are positive.

    With `scratch`, room for `gemv_scratch` elements, the transposed product of a tall X is cut
    along its rows.
    """
    ldx = max(1, columns if ldx is None else ldx)
    _check(rows, columns, ldx, incy, incz)
    results, terms = (rows, columns) if op == "N" else (columns, rows)
    if terms == 0 or (op == "C" and code in ("c8", "c16")):
        # gemv leaves z alone where a sum is empty, and cannot conjugate a row-major X.
        strides: dict[str, Any] = dict(ldx=ldx, ldy=incy, ldz=incz, alpha=alpha, beta=beta)
        return gemm(code, x, y, z, results, 1, terms, x_op=op, **strides)
    chunks, chunk = _chunks(columns, rows, VECTOR_WORK)
    if op == "N" or scratch is None or chunks == 1:
        block = _block(results, terms, VECTOR_WORK, least=1 if op == "N" else 256)
        integers = ord("T" if op == "N" else "N"), op != "N", terms, ldx, incy, incz
        return [_step("gemv", code, "gemv", (x, y, z), integers, results, block, alpha, beta)]
    integers = ord("N"), chunk, rows, columns, ldx, incy
    sums = _step("gemv_chunks", code, "gemv", (x, y, scratch), integers, chunks, 1, alpha)
    return [sums, _combine(code, scratch, z, chunks, columns, incz, beta)]


def gemv_scratch(rows: int, columns: int, op: str) -> int:
    """How many elements of scratch `gemv` makes use of; 0 if it needs none."""
    chunks, _ = _chunks(columns, rows, VECTOR_WORK)
    return chunks * columns if op != "N" and chunks > 1 else 0


# --- BLAS's own threads ---------------------------------------------------------------------------


def may_use_threads(m: int, n: int, k: int) -> bool:
    """Whether BLAS may share a product of (m, k) and (k, n) among threads of its own.

    OpenBLAS does from 2304 * 4 elements of the matrix in gemv, from 65536 * 4 multiply-adds in gemm
    (interface/gemv.c, interface/gemm.c); these bounds leave some room. Beside a busy core its
    threads made a product of 50e-6 s take 30e-3.
    """
    return m * n * k >= (2**13 if min(m, n) == 1 else 2**17)


def _thread_control():
    """The functions of OpenBLAS that set and get its number of threads; None for another BLAS."""
    beside = os.path.join(os.path.dirname(scipy.__file__), os.pardir, "scipy.libs", "*openblas*")
    for library in (cython_blas.__file__, *glob.glob(beside)):
        for form in ("scipy_openblas_{}", "scipy_openblas_{}64_", "openblas_{}", "openblas_{}64_"):
            try:
                opened = ctypes.CDLL(library)
                return tuple(
                    getattr(opened, form.format(f"{verb}_num_threads")) for verb in ("set", "get")
                )
            except (AttributeError, OSError):
                continue
    return None


class _SingleThreaded:
    """OpenBLAS runs on one thread while anybody is inside. The setting is the whole process's.

    Another BLAS is left as it is: blocks may then run on more threads than there are cores.
    """

    def __init__(self):
        self._control = _thread_control()
        self._forget()

    def _forget(self):
        self._lock, self._inside, self._before = threading.Lock(), 0, 1

    def __enter__(self):
        if self._control is None:
            return
        set_threads, get_threads = self._control
        with self._lock:
            if self._inside == 0:
                self._before = get_threads()
                set_threads(1)
            self._inside += 1

    def __exit__(self, *error):
        if self._control is None:
            return
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._control[0](self._before)

    def _after_fork(self):
        # The threads that were inside are not in the child.
        if self._inside:
            self._control[0](self._before)
        self._forget()


single_threaded = _SingleThreaded()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=single_threaded._after_fork)
