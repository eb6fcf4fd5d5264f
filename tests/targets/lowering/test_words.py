"""The words of elementary functions: as numbers, and as instructions that loops vectorise."""

import re

import numpy as np
import pytest
from llvmlite import binding

from nbhvp.graph import primitives as p
from nbhvp.graph.node import Graph, Pool
from nbhvp.targets.cpu.program import Program
from nbhvp.targets.lowering import scalars as elementary
from nbhvp.targets.lowering import words as branchless
from nbhvp.targets.native import cache, language
from tests.checks import assert_no_raise, forget_kernels

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.no_cover, pytest.mark.compiles]

BRANCHLESS = [
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "arcsin",
    "arccos", "arctan", "sinh", "cosh", "tanh", "cbrt", "erf", "expit", "logit", "log_expit",
    "entr", "arctan2", "power", "logaddexp", "logaddexp2", "arcsinh", "arccosh", "arctanh", "xlogy", "xlog1py",
]  # fmt: skip


def kernel_of(entry, reduced=False, dtype=np.float64):
    """The kernel of one function along an array, or of the sum of its values."""
    pool = Pool()
    count = getattr(elementary, entry.name).__wrapped__.__code__.co_argcount
    xs = tuple(p.input_node(pool, f"x{k}", (1000,), np.dtype(dtype)) for k in range(count))
    z = entry(*xs)
    (kernel,) = Program(Graph(xs, (p.sum_(z, axes=(0,)) if reduced else z,))).kernels[:1]
    return kernel


@pytest.mark.skipif(
    not binding.get_host_cpu_features().get("avx2"), reason="needs a processor with AVX2"
)
@pytest.mark.parametrize("name", BRANCHLESS)
def test_loops_are_vectorised(name, monkeypatch, tmp_path):
    forget_kernels(monkeypatch, tmp_path)
    for options in ({}, {"reduced": True}, {"dtype": np.float32}):
        if options and name not in ("exp", "sin", "tanh"):
            continue
        kernel = kernel_of(p.TABLE[name], **options)
        llvm = cache.compiled(kernel.source).llvm
        vectors = re.findall(r"= (?:fmul|fadd|fsub|fdiv)[\w ]* <\d+ x double>", llvm)
        assert len(vectors) > 5, options
        assert_no_raise(kernel)


def emitted(body, *xs):
    """The value of a body in compiled code."""
    from numba import njit

    function = branchless.branchless(body)
    language.know(function)

    @njit(error_model="numpy", fastmath={"contract"})
    def run(x, y, z):
        return function(x, y, z)

    return run(*xs), function(*xs)


@pytest.mark.parametrize(
    ("body", "xs"),
    [
        (lambda x, y, z: x * y + z, (1 + 2.0**-30, 1 + 2.0**-30, -1.0)),
        (lambda x, y, z: branchless.fma(x, y, z), (1 + 2.0**-30, 1 + 2.0**-30, -1.0)),
        (lambda x, y, z: branchless.fma(x, y, z), (1e308, 10.0, -np.inf)),
        (lambda x, y, z: (x + y) - x, (1.0, 2.0**-60, 0.0)),
        (lambda x, y, z: branchless.double(branchless.bits(x) + (1 << 52)), (3.0, 0.0, 0.0)),
        (lambda x, y, z: branchless.copysign(x, -y), (3.0, 0.0, 0.0)),
        (lambda x, y, z: branchless.select(x < y, z, 7), (3.0, np.nan, 2.0)),
        (lambda x, y, z: branchless.sqrt(x) + branchless.floor(y), (2.0, -1.5, 0.0)),
        (lambda x, y, z: branchless.rarely(x > 1, "sin", y, z), (3.0, 0.5, 2.0)),
        (lambda x, y, z: branchless.rarely(x > 9, "sin", y, z), (3.0, 0.5, 2.0)),
        (lambda x, y, z: 2 / x - 1 / y + abs(z), (3.0, 7.0, -2.0)),
    ],
)
def test_words_mean_the_same_compiled(body, xs):
    """To the last bit: an operator is rounded by itself, whatever the kernel's flags allow."""
    compiled, plain = emitted(body, *xs)
    assert compiled == plain or abs(compiled - plain) == 0


def test_far_arguments_are_those_of_libm():
    pool, x = Pool(), np.array([2.0**20 + 1, 1e22, -1e300, 0.5, np.inf, np.nan, 3.0, -(2.0**21)])
    node = p.input_node(pool, "x", x.shape, x.dtype)
    outputs = Program(Graph((node,), (p.sin(node), p.cos(node), p.tan(node))))(x)
    with np.errstate(invalid="ignore"):
        for given, function in zip(outputs, (np.sin, np.cos, np.tan), strict=True):
            np.testing.assert_allclose(given, function(x), 4e-16)
