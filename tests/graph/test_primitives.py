"""The table of primitives against mpmath, NumPy and its own declarations, entry by entry.

Elementwise entries: first and second partials against mpmath (differences where there is no
oracle), on the domain and at the special points; derivatives at complex points; promotion.
Linear and bilinear entries: <Jv, w> = <v, J^T w> in the real inner product, and linearity itself.
All entries: shape and dtype as NumPy gives them, for float32, float64 and complex numbers.
"""

import itertools

import mpmath
import numpy as np
import pytest
import scipy.linalg

from nbhvp.graph import derive
from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, Pool
from nbhvp.graph.rewrites import factors
from nbhvp.graph.table import filters, lengths, sparse, tape
from nbhvp.graph.table import special as sp
from nbhvp.graph.table.matrices import (
    determinants,
    eigen,
    linalg,
    matrix_functions,
    spectra,
    vectors,
)

mpmath.mp.dps = 40
RNG = np.random.default_rng(11)

# Exact values at high precision; a primitive without an entry is checked by differences.
ORACLES = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
    "negative": lambda x: -x,
    "power": lambda x, y: x**y,
    "sqrt": mpmath.sqrt,
    "cbrt": mpmath.cbrt,
    "exp": mpmath.exp,
    "exp2": lambda x: mpmath.mpf(2) ** x,
    "expm1": mpmath.expm1,
    "log": mpmath.log,
    "log2": lambda x: mpmath.log(x, 2),
    "log10": mpmath.log10,
    "log1p": mpmath.log1p,
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "tan": mpmath.tan,
    "arcsin": mpmath.asin,
    "arccos": mpmath.acos,
    "arctan": mpmath.atan,
    "sinh": mpmath.sinh,
    "cosh": mpmath.cosh,
    "tanh": mpmath.tanh,
    "arcsinh": mpmath.asinh,
    "arccosh": mpmath.acosh,
    "arctanh": mpmath.atanh,
    "arctan2": mpmath.atan2,
    "hypot": mpmath.hypot,
    "logaddexp": lambda x, y: mpmath.log(mpmath.exp(x) + mpmath.exp(y)),
    "logaddexp2": lambda x, y: mpmath.log(mpmath.mpf(2) ** x + mpmath.mpf(2) ** y, 2),
    "expit": lambda x: 1 / (1 + mpmath.exp(-x)),
    "logit": lambda x: mpmath.log(x / (1 - x)),
    "log_expit": lambda x: -mpmath.log1p(mpmath.exp(-x)),
    "erf": mpmath.erf,
    "erfc": mpmath.erfc,
    "ndtr": mpmath.ncdf,
    "log_ndtr": lambda x: mpmath.log(mpmath.ncdf(x)),
    "gammaln": mpmath.loggamma,
    "digamma": mpmath.digamma,
    "polygamma": lambda x: mpmath.psi(2, x),
    "xlogy": lambda x, y: x * mpmath.log(y),
    "xlog1py": lambda x, y: x * mpmath.log1p(y),
    "entr": lambda x: -x * mpmath.log(x),
}

ELEMENTWISE = [e for e in p.TABLE.values() if e.is_elementwise]
FIRST_ORDER = ("gammainc_da", "betainc_da")
"""Themselves derivatives, that have one more and no second; test_special.py checks them."""
DIFFERENTIABLE = [
    e
    for e in ELEMENTWISE
    if e.kind == "elementwise" and e.rule is not None and e.name not in FIRST_ORDER
]
STEPS = [e for e in ELEMENTWISE if e.kind == "elementwise" and e.rule is None]
INTEGER_ONLY = ("bitwise_and", "bitwise_or", "bitwise_xor", "invert", "left_shift", "right_shift")
NOT_HOLOMORPHIC = ("absolute", "sign")


def entries(selected):
    return pytest.mark.parametrize("entry", selected, ids=lambda e: e.name)


def arity(entry) -> int:
    """The number of arguments of an elementwise primitive, by trial."""
    for count in (1, 2, 3):
        pool = Pool()
        args = [node_of(pool, k, np.ones(())) for k in range(count)]
        try:
            entry(*args, **entry.params)
            return count
        except (TypeError, ValueError):
            continue
    return len(p.TABLE[entry.name].domain)


def node_of(pool, k, value):
    return p.input_node(pool, f"x{k}", np.shape(value), np.asarray(value).dtype)


def domain_of(entry, k):
    return entry.domain[min(k, len(entry.domain) - 1)]


def samples(entry, count=3):
    """Points of the domain, then the special ones: one row per argument."""
    n = 2 if entry.name in INTEGER_ONLY else arity(entry)
    rows = [RNG.uniform(*domain_of(entry, k), count) for k in range(n)]
    points = [*zip(*rows, strict=True), *entry.special]
    return [np.array(row) for row in zip(*points, strict=True)]


def free_of(entry, count):
    """The argument positions in which an entry has a derivative."""
    return [k for k in range(count) if k not in entry.fixed]


def total(node):
    return p.sum_(node, axes=tuple(range(node.ndim)))


def partials(entry, xs, **params):
    """First and second partials of an elementwise primitive at xs, by argument positions."""
    pool = Pool()
    nodes = [node_of(pool, k, x) for k, x in enumerate(xs)]
    value = total(entry(*nodes, **params))
    ones = [p.constant(pool, np.ones_like(x)) for x in xs]
    found = {}
    free = free_of(entry, len(xs))
    first = derive.vjp([value], [nodes[j] for j in free], [derive.one(value)])
    for j, node in zip(free, first, strict=True):
        found[(j,)] = node
        for k in free:
            found[j, k] = derive.jvp([node], [nodes[k]], [ones[k]])[0]
    graph = derive.check(Graph(tuple(nodes), tuple(found.values())))
    return dict(zip(found, interpret(graph, *xs), strict=True))


def oracle(entry, point, orders):
    """A partial by mpmath."""
    function, point = ORACLES[entry.name], [mpmath.mpf(float(t)) for t in point]
    return float(mpmath.re(mpmath.diff(function, tuple(point), orders)))


@entries([e for e in DIFFERENTIABLE if e.name in ORACLES])
def test_partials_against_mpmath(entry):
    xs = samples(entry)
    for positions, given in partials(entry, xs, **entry.params).items():
        orders = tuple(positions.count(k) for k in range(len(xs)))
        needed = [oracle(entry, point, orders) for point in zip(*xs, strict=True)]
        np.testing.assert_allclose(given, needed, rtol=1e-10, atol=1e-15, err_msg=str(positions))


@entries([e for e in DIFFERENTIABLE if e.name not in ORACLES])
def test_partials_against_differences(entry):
    xs = samples(entry)
    found = partials(entry, xs, **entry.params)
    free = free_of(entry, len(xs))
    for j in free:
        moved = [[x + s * (k == j) for k, x in enumerate(xs)] for s in (1e-6, -1e-6)]
        values = [entry.evaluate(*points, **entry.params) for points in moved]
        np.testing.assert_allclose(found[(j,)], (values[0] - values[1]) / 2e-6, 1e-6, 1e-8)
        for k in free:
            firsts = [partials(entry, points, **entry.params)[(k,)] for points in moved]
            needed = (firsts[0] - firsts[1]) / 2e-6
            np.testing.assert_allclose(found[k, j], needed, 1e-6, 1e-8)


@entries(DIFFERENTIABLE)
def test_value_is_that_of_numpy(entry):
    xs = samples(entry)
    pool = Pool()
    nodes = [node_of(pool, k, x) for k, x in enumerate(xs)]
    graph = Graph(tuple(nodes), (entry(*nodes, **entry.params),))
    np.testing.assert_array_equal(interpret(graph, *xs)[0], entry.evaluate(*xs, **entry.params))
    if entry.name in ORACLES:
        points = zip(*xs, strict=True)
        needed = [float(mpmath.re(ORACLES[entry.name](*map(mpmath.mpf, q)))) for q in points]
        np.testing.assert_allclose(entry.evaluate(*xs, **entry.params), needed, 1e-13, 1e-15)


@entries(STEPS)
def test_steps_have_no_derivative(entry):
    if entry.name in INTEGER_ONLY:
        assert not derive._differentiable(_integer_node(entry))
        return
    xs = samples(entry)
    pool = Pool()
    nodes = [node_of(pool, k, x) for k, x in enumerate(xs)]
    z = entry(*nodes)
    assert z.dtype == entry.evaluate(*xs).dtype
    if z.dtype.kind == "f":
        (z_dot,) = derive.jvp([z], nodes, [p.constant(pool, np.ones_like(x)) for x in xs])
        bars = derive.vjp([z], nodes, [p.constant(pool, np.ones(z.shape))])
        assert all(not out.any() for out in interpret(Graph(tuple(nodes), (z_dot, *bars)), *xs))


def _integer_node(entry):
    pool = Pool()
    count = 1 if entry.name == "invert" else 2
    return entry(*(node_of(pool, k, np.ones(2, np.int64)) for k in range(count)))


@entries(DIFFERENTIABLE)
def test_float32_stays_float32(entry):
    xs = [x.astype(np.float32) for x in samples(entry)]
    pool = Pool()
    nodes = [node_of(pool, k, x) for k, x in enumerate(xs)]
    z = entry(*nodes, **entry.params)
    ones = [p.constant(pool, np.ones_like(x)) for x in xs]
    free = free_of(entry, len(xs))
    active, moved = [nodes[k] for k in free], [ones[k] for k in free]
    bars = derive.vjp([z], active, [p.constant(pool, np.ones(z.shape, z.dtype))])
    dots = derive.jvp([z, *bars], active, moved)
    graph = derive.check(Graph(tuple(nodes), (z, *bars, *dots)))
    assert all(out.dtype == np.float32 for out in interpret(graph, *xs))


@entries([e for e in ELEMENTWISE if e.commutes or arity(e) == 2])
def test_scalar_constants_mean_what_numpy_says(entry):
    """Simplifications keep values, shapes and dtypes."""
    integer = entry.name in INTEGER_ONLY
    x = np.array([1, 2, 3]) if integer else RNG.uniform(*domain_of(entry, 0), 3)
    for number, swapped in itertools.product((0, 1, -1, 2, 3, 4, 0.5, 2.5), (False, True)):
        if entry.name in INTEGER_ONLY and number not in (0, 1, 2):
            continue
        pool = Pool()
        nodes, values = [node_of(pool, 0, x), number], [x, number]
        if swapped:
            nodes, values = nodes[::-1], values[::-1]
        with np.errstate(all="ignore"):
            needed = np.asarray(entry.evaluate(*values, **entry.params))
        z = entry(*nodes, **entry.params)
        assert (z.shape, z.dtype) == (needed.shape, needed.dtype), (number, swapped)
        given = interpret(Graph((node_of(pool, 0, x),), (z,)), x)[0]
        np.testing.assert_allclose(given, needed, 4e-16, err_msg=f"{number} {swapped}")


HOLOMORPHIC = []
for _entry in DIFFERENTIABLE:
    try:
        _entry.dtypes((np.dtype(complex),) * arity(_entry))
    except TypeError:
        continue
    if _entry.name not in NOT_HOLOMORPHIC:
        HOLOMORPHIC.append(_entry)


def random(shape, dtype=float):
    values = RNG.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * RNG.normal(size=shape)
    return values.astype(dtype)


def real_inner(a, b):
    return sum(np.sum(np.conj(x) * y).real for x, y in zip(a, b, strict=True))


def derivatives(entry, xs, positions, **params):
    """J v and J^T w for random v and w, in the arguments at `positions`."""
    pool = Pool()
    nodes = [node_of(pool, k, x) for k, x in enumerate(xs)]
    z = entry(*nodes, **params)
    chosen = [nodes[k] for k in positions]
    vs = [random(x.shape, x.dtype) for x in chosen]
    w = random(z.shape, z.dtype)
    dots = derive.jvp([z], chosen, [p.constant(pool, v) for v in vs])
    bars = derive.vjp([z], chosen, [p.constant(pool, w)])
    graph = derive.check(Graph(tuple(nodes), (z, *dots, *bars)))
    value, jv, *jtw = interpret(graph, *xs)
    return vs, w, value, jv, jtw


@entries(HOLOMORPHIC)
def test_complex_derivatives(entry):
    count = arity(entry)
    xs = [
        RNG.uniform(*domain_of(entry, k), 4) + 1j * RNG.uniform(0.1, 0.4, 4) for k in range(count)
    ]
    vs, w, value, jv, jtw = derivatives(entry, xs, range(count), **entry.params)
    ends = [
        entry.evaluate(*(x + s * v for x, v in zip(xs, vs, strict=True))) for s in (1e-6, -1e-6)
    ]
    np.testing.assert_allclose(jv, (ends[0] - ends[1]) / 2e-6, 1e-6, 1e-8)
    assert real_inner([jv], [w]) == pytest.approx(real_inner(vs, jtw), rel=1e-12)


# Linear and bilinear primitives: name, shapes of the arguments (arrays for operands), parameters.
LINEAR = [
    ("cast", [(3,)], {"dtype": np.dtype("f4")}),
    ("cast", [(3,)], {"dtype": np.dtype("c16")}),
    ("real", [(3,)], {}),
    ("imag", [(3,)], {}),
    ("conjugate", [(3,)], {}),
    ("complex", [(3,), (3,)], {}),
    ("complex", [(3, 1), (4,)], {}),
    ("where", [np.array([True, False, True]), (3,), (2, 3)], {}),
    ("where", [np.array([[True], [False]]), (), (2, 3)], {}),
    ("reshape", [(2, 6)], {"shape": (3, 4)}),
    ("variable", [(2, 3)], {"level": 1}),
    ("transpose", [(2, 3, 4)], {"axes": (1, 2, 0)}),
    ("slice", [(5, 6)], {"start": (4, 1), "step": (-2, 2), "size": (3, 2)}),
    ("slice", [(5,)], {"start": (4,), "step": (-1,), "size": (5,)}),
    ("slice", [(5,)], {"start": (2,), "step": (1,), "size": (0,)}),
    ("update", [(5, 6), (3, 2)], {"start": (4, 1), "step": (-2, 2)}),
    ("broadcast", [(3, 1)], {"shape": (2, 3, 4)}),
    ("broadcast", [()], {"shape": (2, 3)}),
    ("concatenate", [(2, 3), (2, 0), (2, 4)], {"axis": 1}),
    ("sum", [(2, 3, 4)], {"axes": (0, 2)}),
    ("sum", [(2, 3)], {"axes": (0, 1)}),
    ("pick", [(3, 5)], {"axis": 1, "index": np.array([0, 4, 2])}),
    ("gather", [(3, 5)], {"axis": 1, "index": np.array([[0, 4], [4, 2]])}),
    ("gather", [(5, 2)], {"axis": 0, "index": np.array(3)}),
    ("scatter_add", [(3, 2, 2)], {"axis": 1, "size": 5, "index": np.array([[0, 4], [4, 2]])}),
    ("scatter_add", [(4,)], {"axis": 0, "size": 3, "index": np.array([1, 1, 0, 1])}),
    ("segment_sum", [(2, 6)], {"axis": 1, "index": np.array([0, 2, 2, 6])}),
    ("cumsum", [(3, 4)], {"axis": 0, "reverse": False}),
    ("cumsum", [(3, 4)], {"axis": 1, "reverse": True}),
    ("correlate", [(7, 3), np.array([1.0, -2.0, 0.5])], {"axes": (0,)}),
    ("correlate", [(4, 3, 5), np.array([[1.0, -2.0, 0.5], [3, 0, 1]])], {"axes": (1, 2)}),
    ("correlate", [(4,), np.ones(4)], {"axes": (0,)}),
    ("recurrence", [(6, 2), np.array([0.5, -0.3])], {"axis": 0, "reverse": False}),
    ("recurrence", [(2, 6), np.array([0.5, -0.3, 0.1])], {"axis": 1, "reverse": True}),
    ("contract", [(3, 4), (4, 2)], {"subscripts": "ij,jk->ik"}),
    ("contract", [(3, 4), (4, 2)], {"subscripts": "ij,jk->ki"}),
    ("contract", [(2, 3, 4), (2, 4)], {"subscripts": "bij,bj->bi"}),
    ("contract", [(4,), (4,)], {"subscripts": "i,i->"}),
    ("contract", [(3,), (4,)], {"subscripts": "i,j->ji"}),
]
LINEAR += [
    ("fft", [lambda d: random((3, 4), np.result_type(d, np.complex64))], {"axes": (0, 1), "inverse": False}),
    ("fft", [lambda d: random((5, 2), np.result_type(d, np.complex64))], {"axes": (0,), "inverse": True}),
    ("rfft", [lambda d: real_of(d, 2, 6)], {"axis": 1}),
    ("rfft", [lambda d: real_of(d, 5, 2)], {"axis": 0}),
    ("irfft", [lambda d: random((4, 2), np.result_type(d, np.complex64))], {"axis": 0, "size": 6}),
    ("irfft", [lambda d: random((2, 3), np.result_type(d, np.complex64))], {"axis": 1, "size": 5}),
    *(("trigonometric", [lambda d: real_of(d, 4, 3)], {"axes": (0,), "kind": kind, "type": k}) for kind in ("cosine", "sine") for k in (1, 2, 3, 4)),
]  # fmt: skip
LOWER = {"lower": True, "by": linalg.Routine(np.linalg.eigh)}
UPPER = {"lower": False, "by": linalg.Routine(np.linalg.eigh, (("UPLO", "U"),))}
SQUARE = {"is_wide": False, "by": linalg.Routine(np.linalg.svd, (("full_matrices", False),))}
FULL = {"is_wide": False, "by": linalg.Routine(np.linalg.svd), "full": True}
CHOLESKY = {"lower": True, "by": linalg.Routine(np.linalg.cholesky)}
DET = {"dtype": np.dtype(float), "by": linalg.Routine(np.linalg.det)}
RESOLVED = [
    (lambda d: decomposed(spectra.eigh, d, **LOWER), (2, 3, 3), True),
    (lambda d: decomposed(spectra.svd, d, **SQUARE), (2, 6, 3), False),
    (lambda d: spectra.svd.evaluate(random((2, 5, 3), d), **SQUARE), (2, 8, 3), False),
    (lambda d: spectra.svd.evaluate(random((2, 5, 3), d), **FULL), (2, 8, 5), False),
]
EXPM = {"by": linalg.Routine(scipy.linalg.expm), "was_real": False}
PATTERN = sparse.Pattern(np.array([0, 2, 1, 0, 2]), np.array([0, 2, 3, 5]))
ENTRIES = np.array([2.0, 0.5, 1.5, -0.7, 3.0])
LINEAR += [
    ("solve", [lambda d: linalg.lu.evaluate(random((3, 3), d)), (3,)], {"axis": 0, "transposed": False}),
    ("solve", [lambda d: linalg.lu.evaluate(random((2, 3, 3), d)), (4, 2, 3, 5)], {"axis": 2, "transposed": True}),
    ("triangular", [lambda d: regular(d), (2, 3, 4)], {"axis": 1, "lower": True, "transposed": False, "unit": False}),
    ("triangular", [lambda d: regular(d), (3, 4)], {"axis": 0, "lower": False, "transposed": True, "unit": True}),
    ("sparse_solve", [lambda d: ENTRIES.astype(d), (2, 3, 2)], {"axis": 1, "transposed": False, "pattern": PATTERN}),
    ("sparse_solve", [lambda d: ENTRIES.astype(d), (3,)], {"axis": 0, "transposed": True, "pattern": PATTERN}),
    ("rayleigh", [lambda d: decomposed(spectra.eigh, d, **LOWER), (2, 3, 3)], {}),
    ("rayleigh", [lambda d: decomposed(spectra.svd, d, **SQUARE), (2, 3, 3)], {}),
    ("spectral", [lambda d: decomposed(spectra.eigh, d, **LOWER), lambda d: real_of(d, 2, 3)], {}),
    ("spectral", [lambda d: decomposed(spectra.svd, d, **SQUARE), lambda d: real_of(d, 2, 3)], {}),
    *(("resolved", [of, lambda d, of=of: vectors.gaps.evaluate(of(d)), shape], {"strict": strict}) for of, shape, strict in RESOLVED),
    *(("spread", [lambda d: with_left(d), lambda d: eigen.spreads.evaluate(with_left(d)), lambda d: random((2, 3, 3), np.result_type(d, np.complex64))], {"strict": True, "left": left}) for left in (True, False)),
    ("sylvester", [lambda d: regular(d, 2), lambda d: regular(d, 2), (2, 3, 3)], {}),
    ("frechet", [lambda d: regular(d, 2), (2, 3, 3)], EXPM),
    ("poisoned", [(4,)], {"index": np.zeros(4, bool)}),
]  # fmt: skip
DTYPES = (np.float64, np.complex128, np.float32)
OF_TAPES = {e for e in vars(tape).values() if isinstance(e, p.Primitive)}
OF_LENGTHS = {e for e in vars(lengths).values() if isinstance(e, p.Primitive)}
ELSEWHERE = OF_TAPES | OF_LENGTHS
"""Those have tests of their own, in test_sweep and test_lengths."""


def regular(dtype, *stack):
    """Diagonally dominant matrices."""
    return (0.5 * random((*stack, 3, 3)) + 3 * np.eye(3)).astype(dtype) + 0.2 * random(
        (3, 3), dtype
    )


def real_of(dtype, *shape):
    """Real numbers beside arrays of a dtype."""
    return random(shape, np.empty(0, dtype).real.dtype)


def decomposed(entry, dtype, **params):
    return entry.evaluate(regular(dtype, 2), **params)


def with_left(dtype):
    """A decomposition with left vectors."""
    return eigen.eig.evaluate(regular(dtype, 2), by=linalg.Routine(np.linalg.eig))


def arguments(shapes, params, dtype):
    """Arguments of an example: random arrays for shapes, or what a function of the dtype gives; an
    operand stands among the parameters."""
    xs = [
        s(dtype) if callable(s) else s if isinstance(s, np.ndarray) else random(s, dtype)
        for s in shapes
    ]
    params = dict(params)
    if "index" in params:
        xs.append(params.pop("index"))
    return xs, params


def test_all_linear_primitives_have_an_example():
    assert p.TABLE["correlate"] is filters.correlate
    entries = {*p.TABLE.values()} - ELSEWHERE
    named = {e.name for e in entries if e.kind in ("linear", "bilinear")}
    assert named == {name for name, *_ in LINEAR}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).str[1:])
@pytest.mark.parametrize(
    ("name", "shapes", "params"), LINEAR, ids=[f"{k}-{c[0]}" for k, c in enumerate(LINEAR)]
)
def test_transposes(name, shapes, params, dtype):
    entry = p.TABLE[name]
    if name == "cast" and np.dtype(dtype).kind == "c" and params["dtype"].kind != "c":
        pytest.skip("a cast that loses the imaginary part is an error of the user's")
    if name == "complex" and np.dtype(dtype).kind == "c":
        pytest.skip("takes two real parts")
    xs, params = arguments(shapes, params, dtype)
    floating = [k for k, x in enumerate(xs) if x.dtype.kind in "fc"]
    for positions in entry.linear or (tuple(floating),):
        if max(positions) >= len(xs):
            continue  # of more arguments than the example has
        vs, w, value, jv, jtw = derivatives(entry, xs, positions, **params)
        moved = dict(zip(positions, vs, strict=True))
        needed = entry.evaluate(*(moved.get(k, x) for k, x in enumerate(xs)), **params)
        tolerance = 1e-5 if np.float32 in (dtype, params.get("dtype")) else 1e-12
        np.testing.assert_allclose(jv, needed, tolerance, tolerance)
        assert real_inner([jv], [w]) == pytest.approx(real_inner(vs, jtw), tolerance, tolerance)
        assert all(bar.dtype == v.dtype for bar, v in zip(jtw, vs, strict=True))


@entries([e for e in ELEMENTWISE if e.kind == "elementwise" and e.linear])
def test_declared_linearity(entry):
    """f(a u + b w) = a f(u) + b f(w) in the arguments in which the entry says so."""
    for positions in entry.linear:
        rest = [RNG.uniform(*domain_of(entry, k), 3) for k in range(arity(entry))]
        u, w = ([random(3) if k in positions else x for k, x in enumerate(rest)] for _ in range(2))
        mixed = [
            2 * a - 3 * b if k in positions else a
            for k, (a, b) in enumerate(zip(u, w, strict=True))
        ]
        needed = 2 * entry.evaluate(*u) - 3 * entry.evaluate(*w)
        np.testing.assert_allclose(entry.evaluate(*mixed), needed, 1e-12, 1e-12)


def with_solve(factor):
    """A factor shows its tangent in what is solved by it."""
    eye = p.constant(factor.pool, np.eye(3, dtype=factor.dtype))
    b = p.broadcast(eye, shape=(2, 3, 3))
    return linalg.solve(factor, b, axis=1, transposed=False)


# General primitives: name, and a function of matrices whose tangent must be its derivative.
GENERAL = [
    ("prod", factors.prod),
    ("lu", lambda a: with_solve(linalg.lu(a))),
    ("logdet", lambda a: linalg.logdet(linalg.lu(a))),
    ("cholesky", lambda a: linalg.cholesky(a + linalg.adjoint(a), **CHOLESKY)),
    ("cholesky", lambda a: linalg.cholesky(a, **CHOLESKY)),
    ("cholesky", lambda a: linalg.cholesky(a, lower=False, by=linalg.Routine(np.linalg.cholesky, (("upper", True),)))),
    ("qr", linalg.qr),
    ("wofz", lambda a: absolute_squares(sp.wofz(p.complex_(p.real(a), 1.0)))),
    ("det", lambda a: determinants.det(a, dtype=a.dtype, by=DET["by"])),
    ("eigh", lambda a: spectra.values(spectra.eigh(a, **UPPER))),
    ("values", lambda a: spectra.values(spectra.svd(a, **SQUARE))),
    ("vectors", lambda a: spectra.vectors(spectra.eigh(a, **LOWER), left=True)),
    ("vectors", lambda a: spectra.vectors(spectra.eigh(a, **UPPER), left=True, upward=True)),
    ("vectors", lambda a: spectra.vectors(spectra.svd(a, **SQUARE), left=False)),
    ("frame", lambda a: vectors.frame(spectra.eigh(a, **LOWER), upward=False)),
    ("of_matrix", lambda a: matrix_functions.of_matrix(a, **EXPM)),
    ("riccati", lambda a: matrix_functions.riccati(a, a, hermitian_part(a), hermitian_part(a))),
    ("discrete_riccati", lambda a: matrix_functions.discrete_riccati(a, a, hermitian_part(a), hermitian_part(a))),
    ("eig", lambda a: eigen.eigenvalues(eigen.eig(a, by=linalg.Routine(np.linalg.eig)))),
    ("eigenvalues", lambda a: eigen.eigenvalues(eigen.eig(a, by=linalg.Routine(scipy.linalg.eig)))),
    ("eigenvectors", lambda a: eigen.eigenvectors(eigen.eig(a, by=linalg.Routine(np.linalg.eig)))),
    ("sides", lambda a: eigen.sides(eigen.eig(a, by=linalg.Routine(np.linalg.eig)), left=True)),
    ("levels", lambda a: vectors.levels(spectra.svd(a, **SQUARE))),
    ("svd", lambda a: spectra.vectors(spectra.svd(a, **SQUARE), left=True)),
]  # fmt: skip


def hermitian_part(a):
    """Positive definite beside the examples' matrices."""
    return a + linalg.adjoint(a)


def absolute_squares(z):
    return p.real(p.conjugate(z) * z)


def test_all_general_primitives_have_an_example():
    named = {e.name for e in {*p.TABLE.values()} - ELSEWHERE if e.kind == "general"}
    assert named == {name for name, _ in GENERAL}


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=lambda d: np.dtype(d).str[1:])
@pytest.mark.parametrize(
    ("name", "make"), GENERAL, ids=[f"{k}-{c[0]}" for k, c in enumerate(GENERAL)]
)
def test_tangents(name, make, dtype):
    """Against differences, and transposed: <Jv, w> = <v, J^T w>."""
    a, pool = regular(dtype, 2), Pool()
    x = node_of(pool, 0, a)
    z = make(x)
    assert p.TABLE[name] in {node.primitive for node in Graph((x,), (z,)).nodes}
    v, w = random(a.shape, dtype), random(z.shape, z.dtype)
    (dot,) = derive.jvp([z], [x], [p.constant(pool, v)])
    (bar,) = derive.vjp([z], [x], [p.constant(pool, w)])
    graph = derive.check(Graph((x,), (z, dot, bar)))
    ends = [interpret(graph, a + s * v)[0] for s in (1e-6, -1e-6)]
    _, jv, jtw = interpret(graph, a)
    assert np.isfinite(jv).all()
    np.testing.assert_allclose(jv, (ends[0] - ends[1]) / 2e-6, 1e-6, 1e-7)
    assert real_inner([jv], [w]) == pytest.approx(real_inner([v], [jtw]), rel=1e-11)


DISCRETE = [
    ("argmax", [np.array([[1.0, 3, 3], [2, 0, -1]])], {"axis": 1}),
    ("argmin", [np.array([[1.0, 3, 3], [2, 0, -1]])], {"axis": 0}),
    ("argsort", [np.array([2.0, 1, 2, 0, 1])], {"axis": 0}),
    ("searchsorted", [np.array([0.0, 1, 2]), np.array([[1.0, -1], [5, 0.5]])], {"side": "right"}),
    ("last_writer", [np.array([3, 0, 3])], {"size": 5}),
    ("all", [np.array([True, False])], {}),
    ("pivoting", [np.array([[1.0, 2.0, 0.0], [0.5, 0.1, 3.0], [1.0, 1.0, 1.0]])], {"steps": 2}),
    ("repeated", [np.array([[[1.0, 2.0, 2.0]]])], {}),
    ("largest_components", [np.array([[1.0, 0.0], [1j, 1.0], [1.0, 2.0], [0, 1], [1, 1]])], {}),
    (
        "stays_real",
        [np.array([[1.0, 2.0], [0.0, -1.0]])],
        {"by": linalg.Routine(scipy.linalg.sqrtm)},
    ),
    ("tied", [np.diag([1.0, 2.0, 2.0])[None, [0, 1, 2, 0]]], {}),
    ("real_components", [np.array([[1.0, 0.0], [1j, 1.0], [1.0, 2.0]])], {"upward": True}),
    ("sparse_regular", [ENTRIES], {"pattern": PATTERN}),
    ("sparse_regular", [0 * ENTRIES], {"pattern": PATTERN}),
    ("band_is_positive", [np.array([[0.0, 1.0], [2.0, 2.0]])], {"lower": False}),
    ("band_is_positive", [np.array([[2.0, 2.0], [3.0, 0.0]])], {"lower": True}),
]


@pytest.mark.parametrize(("name", "xs", "params"), DISCRETE, ids=[c[0] for c in DISCRETE])
def test_discrete(name, xs, params):
    entry, pool = p.TABLE[name], Pool()
    nodes = tuple(node_of(pool, k, x) for k, x in enumerate(xs))
    z = entry(*nodes, **params)
    value = np.asarray(entry.evaluate(*xs, **params))
    assert (z.shape, z.dtype) == (value.shape, value.dtype)
    np.testing.assert_array_equal(interpret(Graph(nodes, (z,)), *xs)[0], value)
    if xs[0].dtype.kind == "f":
        y = p.gather(nodes[0], z, axis=0) if z.ndim == 1 and len(xs) == 1 else nodes[0] * 2
        (bar,) = derive.vjp([total(y)], [nodes[0]], [p.constant(pool, np.ones(()))])
        assert np.isfinite(interpret(Graph(nodes, (bar,)), *xs)[0]).all()


def test_all_discrete_primitives_have_an_example():
    named = {e.name for e in {*p.TABLE.values()} - ELSEWHERE if e.kind == "discrete"}
    assert named == {name for name, *_ in DISCRETE}


@entries([e for e in ELEMENTWISE if e.kind == "elementwise"])
def test_promotion_is_that_of_numpy(entry):
    """With an array of any dtype and, in a second argument, a Python number or an array.

    Functions that kernels have for real numbers only refuse complex ones.
    """
    second = [()] if arity(entry) == 1 else [(2,), (0.5,), (np.ones(2, "f4"),), (np.ones(2, "i2"),)]
    for dtype, others in itertools.product(["i8", "i4", "u1", "?", "f4", "c8"], second):
        x = np.ones(2, dtype)
        try:
            with np.errstate(all="ignore"):
                needed = entry.evaluate(x, *others, **entry.params)
        except TypeError:
            continue
        pool = Pool()
        nodes = [p.constant(pool, o) if isinstance(o, np.ndarray) else o for o in others]
        try:
            node = entry(node_of(pool, 0, x), *nodes, **entry.params)
        except TypeError as refused:
            assert dtype == "c8" and "of complex numbers" in str(refused)
            continue
        assert node.dtype == needed.dtype, (dtype, others)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
@pytest.mark.parametrize("axis", [0, 1])
def test_extrema_written_out_are_those_of_numpy(name, axis):
    entry, inf, nan = p.TABLE[name], np.inf, np.nan
    a = np.array([[1.0, 2, nan, -inf], [2, 2, nan, inf], [-0.0, 2, 7, 3]])
    x = p.input_node(Pool(), "x", a.shape, a.dtype)
    at = entry.written_out(x, axis=axis)
    picked = p.pick.written_out(x, at, axis=axis)
    needed = entry.evaluate(a, axis=axis)
    found, values = interpret(Graph((x,), (at, picked)), a)
    np.testing.assert_array_equal(found, needed)
    np.testing.assert_array_equal(values, p.pick.evaluate(a, needed, axis=axis))
