"""Sums of products of several arrays in another order: the same product, in less work."""

import numpy as np
import pytest

from nbhvp.graph import primitives as p
from nbhvp.graph.derive import EXACT_MODES, check, hvp
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, dependent
from nbhvp.plan import networks
from nbhvp.plan.decisions import decided
from nbhvp.plan.lower import lower, small_products_as_sums
from nbhvp.plan.networks import reordered
from nbhvp.plan.splitting.split import split
from tests.checks import assert_same, compiled, plain, total
from tests.graphs import STRUCTURE, Inputs, build, random_graph

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.no_cover]

LONG, SHORT, STACK = 300, 6, 3


@pytest.fixture
def always(monkeypatch):
    """Every order that is found is taken, whatever it saves, of single matrices too."""
    monkeypatch.setattr(networks, "_is_stack", lambda node: True)
    monkeypatch.setattr(networks, "GAIN", 0.0)


def data(i, *shape, seed=0):
    return i.constant(np.random.default_rng(seed).normal(size=shape))


def distances(i):
    """|Q_k (y_n - mu_k)|^2, of which both are unknown."""
    x = i(STACK, SHORT + 1, SHORT)
    size = (STACK, SHORT, SHORT)
    Q = p.slice_(x, start=(0, 0, 0), step=(1, 1, 1), size=size)
    mu = p.slice_(x, start=(0, SHORT, 0), step=(1, 1, 1), size=(STACK, 1, SHORT))
    r = data(i, LONG, 1, SHORT) - p.reshape(mu, shape=(STACK, SHORT))
    t = p.contract(Q, r, subscripts="kij,nkj->nki")
    return p.sum_(t * t, axes=(2,))


def forms(i):
    """y_n^T A_k y_n, by a matrix that is not symmetric."""
    A, y = i(STACK, SHORT, SHORT), data(i, LONG, SHORT)
    return p.contract(p.contract(A, y, subscripts="kij,nj->nki"), y, subscripts="nki,ni->nk")


def chain(i):
    x, A = i(SHORT, 7), data(i, LONG, 40)
    B = p.contract(A, data(i, 40, SHORT, seed=1), subscripts="nm,mi->ni")
    return p.contract(B, x, subscripts="ni,ij->nj")


def factors(i):
    """A matrix as a product of two, fitted to another."""
    x = i(SHORT, LONG + 40)
    W = p.slice_(x, start=(0, 0), step=(1, 1), size=(SHORT, LONG))
    H = p.slice_(x, start=(0, LONG), step=(1, 1), size=(SHORT, 40))
    return p.contract(W, H, subscripts="ri,rj->ij") - data(i, LONG, 40)


def linear_layers(i):
    x = i(SHORT, 2 * SHORT)
    first, second = (
        p.slice_(x, start=(0, k), step=(1, 1), size=(SHORT, SHORT)) for k in (0, SHORT)
    )
    hidden = p.contract(data(i, LONG, SHORT), first, subscripts="ni,ij->nj")
    return p.contract(hidden, second, subscripts="nj,jk->nk")


def weighted(i):
    x, y = i(STACK, SHORT), data(i, LONG, SHORT)
    w = p.exp(-p.contract(y, x, subscripts="ni,ki->nk"))
    spread = p.reshape(w, shape=(LONG, STACK, 1)) * p.reshape(y, shape=(LONG, 1, SHORT))
    return p.contract(spread, y, subscripts="nki,nj->kij")


FUNCTIONS = [distances, forms, chain, factors, linear_layers, weighted]


def product(function, mode=EXACT_MODES[0]):
    i = Inputs()
    value = total(p.log(1.0 + p.exp(-0.01 * function(i)) ** 2.0))
    x = i.active[0]
    v = p.input_node(i.pool, "v", x.shape, x.dtype)
    inputs = (*i.values.values(), np.cos(np.arange(x.size)).reshape(x.shape))
    graph = Graph((*i.values, v), (hvp(value, x, v, mode),))
    return decided(lower(graph, products=False)), inputs, v


def assert_reordered(graph, inputs, v, tolerance=1e-11):
    found = check(reordered(graph, v), linear_in=v)
    assert_same(graph, inputs, tolerance, lambda _, *values: interpret(found, *values))
    sums = check(small_products_as_sums(found), linear_in=v)
    assert_same(graph, inputs, tolerance, lambda _, *values: interpret(sums, *values))
    return found


@pytest.mark.parametrize("mode", EXACT_MODES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_same_product(function, mode, always):
    assert_reordered(*product(function, mode))


def test_less_work():
    graph, inputs, v = product(distances)
    found = assert_reordered(graph, inputs, v)
    assert networks.GAIN * networks._work(found, v) <= networks._work(graph, v)


@pytest.mark.parametrize("function", [forms, chain, factors, weighted])
def test_what_is_in_order_stays(function):
    graph, _, v = product(function)
    assert reordered(graph, v) is graph


def test_no_tangent_has_all_letters():
    """What a product computes for each datum and coordinate is the half of a form."""
    graph, _, v = product(distances)
    found = reordered(graph, v)
    active = dependent(found.nodes, [v])
    whole = {LONG, STACK, SHORT}
    assert any(whole <= {*node.shape} for node in dependent(graph.nodes, [v]))
    for node in active:
        if node.primitive is p.contract and LONG in node.shape:
            assert not whole <= {*node.shape}


@pytest.mark.parametrize("seed", range(30))
def test_random_sums_of_products(seed, always):
    """A tangent times some arrays, in pairs, summed over what the rest does not need."""
    rng = np.random.default_rng(seed)
    extent = {"n": LONG, "k": STACK, "i": SHORT, "j": SHORT, "l": 5}
    i = Inputs(seed)
    shape = tuple(extent[c] for c in "kij")
    v = i(*shape, name="v")
    node, letters, known = v, "kij", {}
    for step in range(4):
        picked = "".join(sorted(rng.choice(list(extent), rng.integers(1, 4), replace=False)))
        other = known.setdefault(picked, i.constant(rng.normal(size=[extent[c] for c in picked])))
        union = "".join(dict.fromkeys(letters + picked))
        kept = [c for c in union if rng.random() < 0.6] or [union[0]]
        if len(kept) > 3:
            kept = kept[:3]
        out = "".join(kept)
        alone = [c for c in union if c not in out and not (c in letters and c in picked)]
        if alone:  # such a letter is summed before
            node = p.sum_(node, axes=tuple(k for k, c in enumerate(letters) if c in alone))
            letters = "".join(c for c in letters if c not in alone)
            other = p.sum_(other, axes=tuple(k for k, c in enumerate(picked) if c in alone))
            picked = "".join(c for c in picked if c not in alone)
        if letters and picked:
            node = p.contract(node, other, subscripts=f"{letters},{picked}->{out}")
            letters = out
        if step == 1:
            node = node - 2.0 * node * i.constant(rng.normal(size=node.shape))
    graph, inputs = i.graph(node)
    graph = decided(lower(graph, products=False))
    needed = interpret(graph, *inputs)[0]
    found = check(reordered(graph, v), linear_in=v)
    given = interpret(found, *inputs)[0]
    np.testing.assert_allclose(given, needed, atol=1e-11 * max(1.0, abs(needed).max(initial=0)))


@pytest.mark.parametrize("name", STRUCTURE)
def test_structure(name, always):
    graph, inputs = build(STRUCTURE[name])
    for v in graph.inputs:
        if v.dtype == np.float64 and any(derivable(graph, v)):
            outputs = tuple(
                z for z, ok in zip(graph.outputs, derivable(graph, v), strict=True) if ok
            )
            part = decided(lower(Graph(graph.inputs, outputs), products=False))
            found = check(reordered(part, v))
            assert_same(
                part, inputs, 1e-10, lambda _, *values, found=found: interpret(found, *values)
            )


def derivable(graph, v):
    active = dependent(graph.nodes, [v])
    return [z in active and z.dtype == np.float64 for z in graph.outputs]


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs(seed, always):
    graph, inputs = random_graph(seed)
    (x, *_) = graph.inputs
    active = dependent(graph.nodes, [x])
    outputs = [z for z in graph.outputs if z.dtype == np.float64 and z in active]
    if not outputs:
        pytest.skip("no derivative")
    v = p.input_node(x.pool, "direction", x.shape, x.dtype)
    given = Graph((*graph.inputs, v), (hvp(sum(map(total, outputs)), x, v),))
    if v not in dependent(given.nodes, [v]):
        pytest.skip("no derivative")
    given = decided(lower(given, products=False))
    found = check(reordered(given, v), linear_in=v)
    values = (*inputs, np.cos(np.arange(x.size)).reshape(x.shape))
    with np.errstate(all="ignore"):
        (a,), (b,) = interpret(found, *values), interpret(given, *values)
    np.testing.assert_allclose(a, b, atol=1e-9 * max(1, abs(b).max(initial=0)))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_kernels_as_plain_python(function):
    graph, inputs, v = product(function)
    state, rest = split(graph, v)
    point = interpret(Graph(graph.inputs, state), *inputs)
    values = [*point, *inputs]
    assert_same(rest, values, 1e-9, plain)


@pytest.mark.compiles
def test_compiled():
    cases = {}
    for function in (distances, forms, weighted):
        graph, inputs, v = product(function)
        state, rest = split(graph, v)
        cases[function.__name__] = rest, [*interpret(Graph(graph.inputs, state), *inputs), *inputs]
    for name, (graph, inputs) in cases.items():
        assert_same(graph, inputs, 1e-9, compiled, [name])
