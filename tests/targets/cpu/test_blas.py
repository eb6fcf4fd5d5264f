"""BLAS steps against NumPy: every dtype, flag, stride and empty size, on one and more threads."""

import itertools

import numpy as np
import pytest

from nbhvp.targets.cpu import blas
from nbhvp.targets.cpu import run as cpu
from nbhvp.targets.cpu.run import Ref, assemble

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.compiles]

OP = {"N": lambda x: x, "T": lambda x: x.T, "C": lambda x: x.conj().T}


def array(code, *shape, pad=0):
    """Random numbers in a corner of a larger array; the rest is NaN."""
    rng = np.random.default_rng(sum(shape))
    whole = np.full((*shape[:-1], shape[-1] + pad), np.nan, code)
    values = rng.standard_normal(shape)
    if np.dtype(code).kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    whole[..., : shape[-1]] = values
    return whole, whole[..., : shape[-1]]


def execute(steps, run=cpu.execute, **arrays):
    with blas.single_threaded:
        run(assemble(steps, {name: x.ctypes.data for name, x in arrays.items()}))


def close(z, expected, terms):
    tolerance = 30 * max(1, terms) * np.finfo(z.dtype).eps
    np.testing.assert_allclose(z, expected, rtol=tolerance, atol=tolerance)


X, Y, Z, S = (Ref(name) for name in "xyzs")


@pytest.mark.parametrize("code", blas.LETTERS)
def test_gemm(code):
    m, n, k = 7, 5, 3
    for x_op, y_op, beta in itertools.product("NTC", "NTC", (0, 2)):
        x, x_part = array(code, *((m, k) if x_op == "N" else (k, m)), pad=2)
        y, y_part = array(code, *((k, n) if y_op == "N" else (n, k)), pad=1)
        z, z_part = array(code, m, n, pad=3)
        expected = 3 * OP[x_op](x_part) @ OP[y_op](y_part) + beta * z_part
        if beta == 0:
            z_part[:] = np.nan
        strides = dict(ldx=x.shape[1], ldy=y.shape[1], ldz=z.shape[1])
        steps = blas.gemm(
            code, X, Y, Z, m, n, k, x_op=x_op, y_op=y_op, **strides, alpha=3, beta=beta
        )
        execute(steps, x=x, y=y, z=z)
        close(z_part, expected, k)
        assert np.isnan(z[:, n:]).all()


@pytest.mark.parametrize("code", blas.LETTERS)
def test_gemv(code):
    rows, columns = 6, 4
    for op, beta, empty in itertools.product("NTC", (0, 2), (False, True)):
        shape = (rows, columns) if not empty else (rows, 0) if op == "N" else (0, columns)
        x, x_part = array(code, *shape, pad=2)
        results, terms = shape if op == "N" else shape[::-1]
        y, y_part = array(code, terms, 1, pad=1)
        z, z_part = array(code, results, 1, pad=2)
        expected = 3 * OP[op](x_part) @ y_part + beta * z_part
        if beta == 0:
            z_part[:] = np.nan
        steps = blas.gemv(
            code,
            X,
            Y,
            Z,
            *shape,
            op=op,
            ldx=columns + 2 if not empty or op != "N" else 2,
            incy=2,
            incz=3,
            alpha=3,
            beta=beta,
        )
        execute(steps, x=x, y=y, z=z)
        close(z_part, expected, terms)


@pytest.mark.parametrize("code", ["f8", "c16"])
def test_gemm_batch(code):
    m, n, k, batch = 3, 4, 5, 6
    x, _ = array(code, batch, m, k)
    y, _ = array(code, n, k)
    z, _ = array(code, batch, m, n)
    expected = x @ y.conj().T + 2 * z
    steps = blas.gemm_batch(code, X, Y, Z, m, n, k, batch, (m * k, 0, m * n), y_op="C", beta=2.0)
    execute(steps, x=x, y=y, z=z)
    close(z, expected, k)


@pytest.mark.parametrize("m, n, k", [(0, 3, 2), (3, 0, 2), (3, 2, 0)])
def test_empty_products(m, n, k):
    x, y, z = np.ones((m, k)), np.ones((k, n)), np.full((m, n), np.nan)
    execute(blas.gemm("f8", X, Y, Z, m, n, k), x=x, y=y, z=z)
    assert np.array_equal(z, np.zeros((m, n)))
    z[:] = 3
    execute(blas.gemm("f8", X, Y, Z, m, n, k, beta=2.0), x=x, y=y, z=z)
    assert np.array_equal(z, np.full((m, n), 6.0))


LARGE = {
    "gemm": (lambda **kw: blas.gemm("f8", X, Y, Z, 500, 60, 300, **kw), (500, 300), (300, 60), "N"),
    "gemm cut along its sum": (
        lambda **kw: blas.gemm("f8", X, Y, Z, 20, 30, 20_001, x_op="T", scratch=S, **kw),
        (20_001, 20), (20_001, 30), "T",
    ),
    "gemv": (lambda **kw: blas.gemv("f8", X, Y, Z, 3000, 300, **kw), (3000, 300), (300, 1), "N"),
    "gemv in stripes": (
        lambda **kw: blas.gemv("f8", X, Y, Z, 400, 3000, op="T", **kw), (400, 3000), (400, 1), "T"
    ),
    "gemv cut along its sum": (
        lambda **kw: blas.gemv("f8", X, Y, Z, 20_001, 70, op="T", scratch=S, **kw),
        (20_001, 70), (20_001, 1), "T",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_blocks_and_threads_agree(name, beta):
    make, x_shape, y_shape, op = LARGE[name]
    (x, _), (y, _) = array("f8", *x_shape), array("f8", *y_shape)
    product = OP[op](x) @ y
    steps = make(beta=beta)
    assert any(step.extent > step.block for step in steps)
    needed = blas.gemm_scratch(20, 30, 20_001), blas.gemv_scratch(20_001, 70, "T")
    s, results = np.full(max(needed), np.nan), []
    for run in (cpu.execute, cpu.execute_parallel, cpu.execute_parallel):
        z = np.ones(product.shape) if beta else np.full(product.shape, np.nan)
        execute(steps, run, x=x, y=y, z=z, s=s)
        results.append(z)
    close(results[0], product + beta, x.shape[op == "N"])
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[1], results[2])


def test_scratch_is_as_large_as_what_is_written():
    for make, room in (
        (
            lambda k: blas.gemm("f8", X, Y, Z, 20, 30, k, scratch=S),
            lambda k: blas.gemm_scratch(20, 30, k),
        ),
        (
            lambda k: blas.gemv("f8", X, Y, Z, k, 70, op="T", scratch=S),
            lambda k: blas.gemv_scratch(k, 70, "T"),
        ),
    ):
        for k in (1, 5000, 20_000, 10**6 + 1):
            steps = make(k)
            assert (len(steps) == 2) == (room(k) > 0)
            if len(steps) == 2:
                assert steps[0].extent * steps[1].extent == room(k)


@pytest.mark.parametrize(
    "make",
    [
        lambda: blas.gemm("f8", X, Y, Z, 10, 2**31, 10),
        lambda: blas.gemm("f8", X, Y, Z, 10, 10, 10, ldx=2**31),
        lambda: blas.gemm_batch("f8", X, Y, Z, 2**31, 1, 1, 2, (0, 0, 0)),
        lambda: blas.gemv("f8", X, Y, Z, 10, 2**31),
    ],
)
def test_sizes_that_blas_cannot_take(make):
    with pytest.raises(OverflowError, match="32 bits"):
        make()


@pytest.mark.skipif(blas.single_threaded._control is None, reason="not OpenBLAS")
def test_the_number_of_threads_is_restored():
    set_threads, get_threads = blas.single_threaded._control
    before = get_threads()
    try:
        set_threads(3)
        with pytest.raises(ZeroDivisionError), blas.single_threaded, blas.single_threaded:
            assert get_threads() == 1
            raise ZeroDivisionError
        assert get_threads() == 3
    finally:
        set_threads(before)
