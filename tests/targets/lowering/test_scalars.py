"""Scalar functions of kernels: every elementwise entry of the table, in every dtype that it takes.

Points are samples of all domains and, compiled, of the places where floats end: NaN, infinities,
zeros of both signs. The text runs as plain Python one entry at a time; compiled, all entries of a
dtype are one kernel.
"""

import re

import numpy as np
import pytest

import nbhvp
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, Pool
from nbhvp.plan.costs import CPU
from nbhvp.targets.cpu.program import Program
from nbhvp.targets.lowering import scalars as elementary
from tests.checks import assert_no_raise, assert_same, compiled, forget_kernels, plain
from tests.graph.test_primitives import ELEMENTWISE, INTEGER_ONLY, arity, domain_of, entries

pytestmark = pytest.mark.filterwarnings("error")

TOLERANCE = {"f8": 1e-13, "f4": 2e-6, "c16": 1e-13, "c8": 2e-6}
LOOSE = {
    # Sums of many terms, in another order; differences of large terms far from the domain.
    "f8": {"gammainc_da": 1e-9, "betainc_da": 1e-9, "spherical_jn": 1e-12, "spherical_yn": 1e-12},
    # What SciPy computes in single precision throughout.
    "f4": dict.fromkeys(
        ("betainc", "betaincc", "betaincinv", "gammainc_da", "betainc_da", "stdtr"), 5e-5
    )
    | {"stdtrit": np.inf},
}
DTYPES = [*TOLERANCE, "i8", "u1", "?"]
EDGES = [
    np.nan,
    np.inf,
    -np.inf,
    0.0,
    -0.0,
    1.0,
    -1.0,
    2.0,
    -2.0,
    0.5,
    -0.5,
    3.0,
    1e-3,
    40.0,
    -40.0,
]

# Where the sign of a zero is not that of NumPy (whose own depends on the processor, for the first).
ZEROS = ("maximum", "minimum", "fmax", "fmin", "remainder", "fmod", "xlogy", "xlog1py", "entr")

# numba's complex functions divide by what is 0 for the least denormal numbers alone; its integer
# powers refuse, as NumPy does, negative exponents.
RAISING = {
    "c": ("root", "sqrt", "tan", "arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh"),
    "i": ("power",),
    "u": ("power",),
}


def params_of(entry):
    return {**entry.params, "dtype": np.dtype("i4")} if entry is p.cast else entry.params


def takes(entry, dtype) -> bool:
    """Whether NumPy has a loop of exactly this dtype."""
    kind = np.dtype(dtype).kind
    if entry is p.complex_ or entry.params.keys() - {"dtype"}:
        return kind == "f"
    if entry in (p.cast, p.where, p.real, p.imag, p.conjugate):
        return kind != "c" or entry is not p.cast
    if entry is p.product and kind not in "fc":
        return False  # it stands in programs alone, in the place of products that are rounded
    if entry is p.sign and kind == "c":
        return False  # the tracer composes it: it is no step function
    if entry.name in ("left_shift", "right_shift") or (entry is p.power and kind not in "fc"):
        return kind in "iu"
    with np.errstate(all="ignore"):
        try:
            wanted = entry.dtypes((np.dtype(dtype),) * count_of(entry))
        except TypeError:
            return False
    return set(wanted[: count_of(entry)]) == {np.dtype(dtype)}


def samples(entry, k, dtype, rng, count=6):
    kind = np.dtype(dtype).kind
    if entry is p.where and k == 0:
        return rng.random(count) < 0.5
    if kind in "iub":
        return rng.integers(1 if k else 0, 2 if kind == "b" else 7, count).astype(dtype)
    x = rng.uniform(*domain_of(entry, k), count)
    return (x + 1j * rng.uniform(0.1, 0.4, count) if kind == "c" else x).astype(dtype)


def applied(entry, nodes):
    return entry(*nodes, **params_of(entry))


def test_every_entry_is_taken_in_some_dtype():
    assert all(any(takes(entry, dtype) for dtype in DTYPES) for entry in ELEMENTWISE)


@entries(ELEMENTWISE)
def test_plain(entry):
    for dtype in DTYPES:
        if not takes(entry, dtype):
            continue
        rng, pool = np.random.default_rng(1), Pool()
        xs = [samples(entry, k, dtype, rng) for k in range(count_of(entry))]
        nodes = [p.input_node(pool, f"x{k}", x.shape, x.dtype) for k, x in enumerate(xs)]
        graph = Graph(tuple(nodes), (applied(entry, nodes),))
        assert_same(graph, xs, TOLERANCE.get(dtype, 0), plain, [dtype])


def count_of(entry):
    return 2 if entry.name in INTEGER_ONLY and entry.name != "invert" else arity(entry)


def grid(dtype):
    """Pairs of numbers: of all domains, and each edge with each."""
    rng = np.random.default_rng(2)
    kind = np.dtype(dtype).kind
    if kind in "iu":
        few = np.array([0, 1, 2, 3, 7, 63, 64, 65, 200], dtype)
        few = np.append(few, [-1, -2, -7, -64]).astype(dtype) if kind == "i" else few
        return [m.ravel() for m in np.meshgrid(few, few)]
    if kind == "b":
        return np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
    domains = [(-2, 2), (0.3, 3), (1.5, 4), (0.1, 0.9), (-0.9, 0.9), (-8, 8)]
    x, y = (np.concatenate([rng.uniform(*d, 6) for d in domains]) for _ in range(2))
    if kind == "c":
        u, w = (np.concatenate([rng.uniform(*d, 6) for d in domains[:3] * 2]) for _ in range(2))
        return (x + 1j * u).astype(dtype), (y + 1j * w).astype(dtype)
    edges = [m.ravel() for m in np.meshgrid(EDGES, EDGES)]
    return [np.concatenate([a, b]).astype(dtype) for a, b in zip((x, y), edges, strict=True)]


@pytest.mark.compiles
@pytest.mark.no_cover
@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled(dtype, monkeypatch, tmp_path):
    """All entries of a dtype in one kernel, but for those that may raise."""
    forget_kernels(monkeypatch, tmp_path)
    for bound in ("limit", "kernel"):
        monkeypatch.setitem(vars(CPU), bound, 1e9)
    taken = [entry for entry in ELEMENTWISE if takes(entry, dtype)]
    raising = RAISING.get(np.dtype(dtype).kind, ())
    for kernel in check_compiled([e for e in taken if e.name not in raising], dtype):
        assert_no_raise(kernel)
    check_compiled([e for e in taken if e.name in raising], dtype)


def check_compiled(selected, dtype):
    pool, (x, y) = Pool(), grid(dtype)
    nodes = [p.input_node(pool, name, x.shape, x.dtype) for name in "xy"]
    named = {entry.name: applied(entry, arguments(entry, *nodes)) for entry in selected}
    last = p.input_node(pool, "last", (3,), np.float64)
    program = Program(Graph((*nodes, last), (*named.values(), last * 2)))
    assert len(program.kernels) <= 4
    inputs = x, y, np.arange(3.0)
    given, needed = program(*inputs), interpret(program.graph, *inputs)
    errors = []
    for name, a, b in zip(named, given, needed, strict=False):
        tolerance = LOOSE.get(dtype, {}).get(name, TOLERANCE.get(dtype, 0))
        errors += errors_of(name, a, b, x, y, tolerance)
    assert not errors, "\n".join(errors)
    return program.kernels


def arguments(entry, x, y):
    if entry is p.where:
        return p.not_equal(x, 0), x, y
    if entry is p.power and y.dtype.kind == "i":
        return x, p.absolute(y)
    return (x, y, x)[: count_of(entry)]


def errors_of(name, given, needed, x, y, tolerance) -> list[str]:
    """Where they are not equal to rounding, relative; NaN, infinities and zeros as NumPy has them."""
    assert given.dtype == needed.dtype, name
    with np.errstate(all="ignore"):
        close = (
            np.abs(given - needed.astype(given.dtype)) <= tolerance * np.abs(needed)
            if given.dtype.kind in "fc"
            else given == needed
        )
        close |= (given == needed) | (np.isnan(given) & np.isnan(needed))
        if given.dtype.kind == "f" and name not in ZEROS:
            close &= (np.signbit(given) == np.signbit(needed)) | (needed != 0)
        if given.dtype == np.float32:  # some clamp what is not normal
            tiny = np.finfo(np.float32).tiny
            close |= (np.abs(given) <= tiny) & (np.abs(needed) <= tiny)
    if name == "spacing":
        close |= x == 0  # its sign there
    rows = [
        f"({a}, {b}): {c}, needed {d}"
        for a, b, c, d in zip(*(t[~close] for t in (x, y, given, needed)), strict=True)
    ]
    return [f"{name} at {len(rows)} points: " + "; ".join(rows[:6])] if rows else []


@pytest.mark.parametrize("name", elementary.__all__)
def test_every_function_is_used(name):
    sources = [e.source if isinstance(e.source, str) else e.source(**e.params) for e in ELEMENTWISE]
    sources += [e.complex_source or "" for e in ELEMENTWISE]
    assert any(re.search(rf"\b{name}\b", s) for s in sources)


@pytest.mark.compiles
@pytest.mark.no_cover
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_negative_floats_as_unsigned_integers():
    pool, x = Pool(), np.array([-1.0, -1.5, -128.0, -300.0, 0.0, 2.0, 2.0**32 - 1] * 3)
    nodes = [p.input_node(pool, kind, x.shape, np.dtype(kind)) for kind in ("f8", "f4")]
    outputs = [p.cast(one, dtype=np.dtype(kind)) for one in nodes for kind in ("u4", "u8")]
    last = p.input_node(pool, "last", (3,), np.float64)
    near = np.where(x > 2, 7, x)
    inputs = x, near.astype("f4"), np.arange(3.0)
    assert_same(Graph((*nodes, last), (*outputs, last * 2)), inputs, 0, compiled)


@pytest.mark.compiles
@pytest.mark.no_cover
def test_the_smallest_integers():
    """The processor traps where one is divided by -1."""
    functions = {
        "//": lambda m, k: m // k,
        "%": lambda m, k: m % k,
        "fmod": np.fmod,
        "divmod": lambda m, k: divmod(m, k)[0] - divmod(m, k)[1],
        "abs": lambda m, k: abs(m) // 2,
    }

    def f(x, *pairs):
        found = [
            function(*pairs[j : j + 2]) * 1.0
            for j in range(0, len(pairs), 2)
            for function in functions.values()
        ]
        return np.concatenate([x, *found])

    pairs = []
    for dtype in ("i8", "i4", "i1"):
        smallest = np.iinfo(dtype).min
        pairs.append(np.array([smallest, smallest, 7, -7, smallest, 5, smallest], dtype))
        pairs.append(np.array([-1, 3, -1, 2, 0, 0, 1], dtype))
    x = np.zeros(1)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(nbhvp.differentiable(f)(x, *pairs), f(x, *pairs))
