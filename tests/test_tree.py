"""Trees of parameters as vectors, in functions that take the tree, and in the Hessian's blocks."""

import pickle
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pytest
from scipy.sparse.linalg import aslinearoperator

import nbhvp

RNG = np.random.default_rng(5)


class Pair(NamedTuple):
    first: np.ndarray
    second: object


@dataclass(frozen=True)
class Layer:
    W: np.ndarray
    b: np.ndarray

    def __call__(self, z):
        out = np.zeros(len(self.b))
        out[:] = np.tanh(self.W @ z + self.b)
        return out


@dataclass
class Derived:
    a: np.ndarray
    total: float = field(init=False, default=0.0)


TREES = {
    "array": np.ones((2, 3)),
    "number": 2.5,
    "dict": {"b": np.arange(3.0), "a": 1.0},
    "ordered dict": OrderedDict(z=np.ones(2), a=np.zeros((1, 2))),
    "list": [1.0, np.float64(2.0), np.array(3.0)],
    "tuple": (np.ones(2), (np.zeros((2, 0)), 1.0)),
    "named tuple": Pair(np.ones(2), [np.zeros(1), 4.0]),
    "dataclass": {"layers": [Layer(np.ones((2, 2)), np.zeros(2))], "scale": 2.0},
    "empty": {},
    "float32": [np.ones(2, np.float32), 1.0],
    "mixed": {"a": np.ones(2, np.float32), "b": np.zeros(1)},
    "transposed": np.arange(6.0).reshape(2, 3).T,
}


def same(a, b) -> bool:
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Layer):
        return type(b) is Layer and same(vars(a), vars(b))
    is_weak = type(a) is float
    return (
        np.array_equal(a, b)
        and (is_weak or np.asarray(a).dtype == b.dtype)
        and isinstance(b, np.ndarray) == isinstance(a, np.ndarray)
    )


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_a_tree_comes_back(tree):
    x, unravel = nbhvp.ravel(tree)
    assert x.shape == (unravel.size,)
    assert same(tree, unravel(x))
    again = pickle.loads(pickle.dumps(unravel))
    assert again == unravel
    assert hash(again) == hash(unravel)
    assert same(tree, again(x))


@pytest.mark.parametrize(("name", "dtype"), [("float32", "f4"), ("mixed", "f8"), ("dict", "f8")])
def test_dtypes(name, dtype):
    x, unravel = nbhvp.ravel(TREES[name])
    assert x.dtype == dtype
    tree = unravel(x.astype(np.float32))
    assert all(np.asarray(leaf).dtype == "f4" for leaf in tree) or name != "float32"
    assert name != "mixed" or (tree["a"].dtype, tree["b"].dtype) == ("f4", "f8")
    assert name != "dict" or tree["b"].dtype == "f4"


def test_trees_are_fresh():
    x, unravel = nbhvp.ravel({"a": np.ones(3)})
    unravel(x)["a"][0] = 5.0
    assert x.tolist() == [1.0, 1.0, 1.0]
    assert unravel([1, 2, 3])["a"].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"a": [1.0, 2]}, r"tree\['a'\]\[1\] is of type int"),
        ({"a": np.arange(3)}, r"tree\['a'\] is an array of int64"),
        ([None], r"tree\[0\] is of type NoneType"),
        ("text", "tree is of type str"),
        (np.ones(2, complex), "array of complex128"),
        (np.ones(2, np.float16), "array of float16"),
        (np.ma.ones(2), "MaskedArray|masked|array of"),
        ({"a": Derived(np.ones(2))}, r"tree\['a'\] is a dataclass with fields"),
    ],
)
def test_what_is_no_float_is_refused(tree, words):
    with pytest.raises(TypeError, match=words):
        nbhvp.ravel(tree)


def test_a_vector_of_another_size_is_refused():
    _, unravel = nbhvp.ravel({"a": np.ones(3)})
    with pytest.raises(ValueError, match=r"shape \(3,\), got \(4,\)"):
        unravel(np.ones(4))
    with pytest.raises(ValueError, match=r"shape \(3,\), got \(4,\)"):
        nbhvp.differentiable(lambda p: np.sum(p["a"]), unravel=unravel)(np.ones(4))


def test_names():
    tree = {"layers": [Layer(np.ones((2, 3)), np.ones(2))], 1: 3.0, "a.b": 1.0, "a": {"b": 2.0}}
    x, unravel = nbhvp.ravel(tree)
    assert unravel.names == (("layers", 0, "W"), ("layers", 0, "b"), (1,), ("a.b",), ("a", "b"))
    assert unravel.slice("layers.0.W") == unravel.slice(("layers", 0, "W")) == slice(0, 6)
    assert unravel.slice("layers") == slice(0, 8)
    assert unravel.slice(1) == unravel.slice("1") == slice(8, 9)
    assert unravel.slice("a.b") == slice(9, 10)
    assert unravel.slice(()) == slice(0, x.size)
    assert "layers.0.W[2, 3]" in repr(unravel)
    with pytest.raises(KeyError, match=r"its arrays are layers\.0\.W"):
        unravel.slice("W")


def test_an_ambiguous_name_is_refused():
    _, unravel = nbhvp.ravel({"a": {"b.c": 1.0}, "a.b": {"c": 2.0}})
    with pytest.raises(KeyError, match="more than one part"):
        unravel.slice("a.b.c")
    assert unravel.slice(("a.b", "c")) == slice(1, 2)


PARAMETERS = {
    "layers": [Layer(RNG.normal(size=(3, 2)), RNG.normal(size=3)), Pair(RNG.normal(size=3), 0.5)]
}
Z = np.array([0.3, -0.7])
X, UNRAVEL = nbhvp.ravel(PARAMETERS)


def network(parameters):
    first, (weights, shift) = parameters["layers"]
    return (weights @ first(Z) + shift) ** 2


def on_the_vector(x):
    tree = UNRAVEL(x)
    tree["layers"][0].b[0] *= 1.0  # the tree is made of fresh arrays, so this may be written
    return network(tree)


def by_hand(x):
    W, b, w, shift = x[:6].reshape(3, 2), x[6:9], x[9:12], x[12]
    return (w @ np.tanh(W @ Z + b) + shift) ** 2


@pytest.mark.parametrize(
    "f",
    [
        nbhvp.differentiable(network, unravel=UNRAVEL, target="interpret"),
        nbhvp.differentiable(on_the_vector, target="interpret"),
        nbhvp.differentiable(network, unravel=UNRAVEL),
    ],
    ids=["takes the tree", "calls unravel", "compiled"],
)
def test_derivatives_are_those_of_the_vector(f):
    plain = nbhvp.differentiable(by_hand, target="interpret")
    assert np.isclose(f(X), plain(X), rtol=1e-14)
    np.testing.assert_allclose(f.grad(X), plain.grad(X), rtol=1e-13)
    V = RNG.normal(size=(X.size, 3))
    np.testing.assert_allclose(f.hvp(X, V), plain.hvp(X, V), rtol=1e-12, atol=1e-14)


def test_an_equal_map_needs_no_new_trace(monkeypatch):
    f = nbhvp.differentiable(on_the_vector, target="interpret")
    f(X)
    monkeypatch.setitem(globals(), "UNRAVEL", nbhvp.ravel(PARAMETERS)[1])
    f(X + 1)
    assert f.report().traces == 1
    monkeypatch.setitem(globals(), "UNRAVEL", nbhvp.ravel({"layers": [PARAMETERS["layers"]]})[1])
    with pytest.raises(AttributeError, match="no attribute"):
        f(X)


@pytest.fixture(scope="module")
def H():
    return nbhvp.differentiable(network, unravel=UNRAVEL, target="interpret").hessian(X)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ("layers.0.W", "layers.0.b"),
        ("layers.1.second", "layers.0"),
        (("layers", 1), ("layers", 0, "W")),
        ("layers", None),
    ],
)
def test_blocks(H, rows, columns):
    block = H.block(rows, columns)
    a, b = UNRAVEL.slice(rows), UNRAVEL.slice(columns or rows)
    needed = H.toarray()[a, b]
    np.testing.assert_allclose(block.toarray(), needed, rtol=1e-13, atol=1e-15)
    V = RNG.normal(size=(block.shape[1], 2))
    W = RNG.normal(size=block.shape[0])
    np.testing.assert_allclose(block @ V, needed @ V, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(block.T @ W, needed.T @ W, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose((block.H @ W), block.rmatvec(W), rtol=1e-14)
    shifted = 2.0 * block + aslinearoperator(np.ones(block.shape))
    np.testing.assert_allclose(shifted @ V, (2.0 * needed + 1.0) @ V, rtol=1e-12, atol=1e-13)


def test_blocks_need_names(H):
    with pytest.raises(KeyError, match="no part of the tree"):
        H.block("W1")
    with pytest.raises(TypeError, match="differentiable.unravel=unravel"):
        nbhvp.differentiable(by_hand, target="interpret").hessian(X).block("W1")


# Trees in the place of x and of directions.


@pytest.mark.parametrize("name", TREES)
def test_the_vector_of_a_tree(name):
    x, unravel = nbhvp.ravel(TREES[name])
    assert unravel.ravel(TREES[name]).dtype == x.dtype
    np.testing.assert_array_equal(unravel.ravel(TREES[name]), x)
    other = np.arange(x.size, dtype=x.dtype) + 0.5
    np.testing.assert_array_equal(unravel.ravel(unravel(other)), other)


def test_trees_of_integers_lists_and_another_order():
    _, unravel = nbhvp.ravel({"a": np.ones((2, 2)), "b": [1.0, np.ones(1)]})
    x = unravel.ravel({"b": (True, [5]), "a": [[1, 2], [3, 4]]})
    np.testing.assert_array_equal(x, [1.0, 2.0, 3.0, 4.0, 1.0, 5.0])
    assert x.dtype == np.float64


@pytest.mark.parametrize(
    "tree, message",
    [
        ({"a": np.ones(2)}, "tree must have the parts 'a', 'b', got 'a'"),
        ({"a": np.ones(2), "b": {}, "c": 1}, "the parts 'a', 'b', got 'a', 'b', 'c'"),
        (
            {"a": np.ones(3), "b": {"c": 1.0}},
            r"tree\['a'\] .* of shape \(2,\), got float64 .*\(3,\)",
        ),
        (
            {"a": np.ones(2), "b": {"c": [1]}},
            r"tree\['b'\]\['c'\] .* shape \(\), got int64 .*\(1,\)",
        ),
        ({"a": np.ones(2), "b": {"c": "x"}}, r"tree\['b'\]\['c'\] must be an array of numbers"),
        ({"a": np.ones(2), "b": {"c": None}}, r"got an object of type NoneType"),
        ({"a": np.ones(2), "b": 3.0}, r"tree\['b'\] must have the parts 'c', got none"),
        ({"a": np.ma.ones(2), "b": {"c": 1.0}}, "got an object of type MaskedArray"),
        ({"a": 1j * np.ones(2), "b": {"c": 1.0}}, "got complex128"),
        ([1.0, np.ones(2)], "must have the parts 'a', 'b', got 0, 1"),
    ],
)
def test_trees_of_another_structure(tree, message):
    x, unravel = nbhvp.ravel({"a": np.ones(2), "b": {"c": 1.0}})
    f = nbhvp.differentiable(lambda p: np.sum(p["a"]) * p["b"]["c"], unravel=unravel)
    for call in (f, f.grad, f.hessian, lambda t: f.hvp(x, t), lambda t: f.jvp(t, x)):
        with pytest.raises(ValueError, match=message):
            call(tree)


def total(tree):
    """The sum of the fourth powers of all numbers in a tree."""
    if isinstance(tree, dict):
        return sum(map(total, tree.values()))
    if isinstance(tree, Layer):
        return total(tree.W) + total(tree.b)
    return sum(map(total, tree)) if isinstance(tree, list | tuple) else np.sum(tree**4)


@pytest.mark.parametrize("name", sorted(TREES.keys() - {"list", "empty"}))
def test_a_tree_in_the_place_of_x(name):
    tree = TREES[name]
    x, unravel = nbhvp.ravel(tree)
    f = nbhvp.differentiable(total, unravel=unravel, target="interpret")
    direction = unravel(np.cos(np.arange(x.size)).astype(x.dtype))
    assert f(tree) == f(x)
    for given, found, needed in [
        ("grad", f.grad(tree), f.grad(x)),
        ("value_and_grad", f.value_and_grad(tree)[1], f.grad(x)),
        ("hvp", f.hvp(tree, direction), f.hvp(x, unravel.ravel(direction))),
        ("hvp at x", f.hvp(x, direction), f.hvp(x, unravel.ravel(direction))),
        ("vjp", f.vjp(tree, 2.0), f.vjp(x, 2.0)),
        ("differences", f.hvp(tree, direction, mode="finite-difference"), None),
    ]:
        assert found is not None and same(unravel(unravel.ravel(found)), found), given
        if needed is not None:
            np.testing.assert_array_equal(unravel.ravel(found), needed)
    np.testing.assert_array_equal(f.hvp(tree, x), f.hvp(x, x))
    assert f.jvp(tree, direction) == pytest.approx(f.jvp(x, unravel.ravel(direction)))
    np.testing.assert_array_equal(f.hessian(tree).toarray(), f.hessian(x).toarray())
    np.testing.assert_array_equal(f.jacobian(tree).toarray(), f.jacobian(x).toarray())
    np.testing.assert_array_equal(f.weighted_hessian(tree, 2.0) @ x, 2 * f.hvp(x, x))


def test_a_list_of_numbers_is_a_vector():
    x, unravel = nbhvp.ravel([1.0, 2.0])
    f = nbhvp.differentiable(lambda p: p[0] ** 2 * p[1], unravel=unravel, target="interpret")
    np.testing.assert_array_equal(f.grad([1.0, 2.0]), f.grad(x))
    np.testing.assert_array_equal(f.grad((1, 2)), f.grad(x))


def test_solvers_and_checks_take_trees():
    tree = {"a": np.zeros(2), "b": 0.5}
    _, unravel = nbhvp.ravel(tree)
    f = nbhvp.differentiable(
        lambda p: np.sum((p["a"] - 1) ** 2) + (p["b"] - 3) ** 2, unravel=unravel, target="interpret"
    )
    found = unravel(nbhvp.minimize(f, tree, method="trust-ncg").x)
    np.testing.assert_allclose(found["a"], [1, 1])
    assert found["b"] == pytest.approx(3)
    assert nbhvp.check(f, tree).passed


@pytest.mark.parametrize(
    "tree, kind",
    [
        ({"a": np.ones(2)}, "an object of type dict"),
        ([np.ones(2), np.ones(3)], "a list of ndarray"),
        ((np.ones(2), {"b": 1.0}), "a tuple of dict, ndarray"),
        ([1.0, [2.0, 3.0]], "a list of float, list"),
        (Layer(np.ones(2), np.ones(2)), "an object of type Layer"),
        (None, "an object of type NoneType"),
    ],
)
def test_a_tree_for_a_function_of_an_array(tree, kind):
    f = nbhvp.differentiable(total, target="interpret")
    for call in (f, f.grad, f.hessian, lambda x: f.hvp(x, x)):
        with pytest.raises(TypeError, match=rf"got {kind}: .*x, unravel = nbhvp.ravel\(tree\)"):
            call(tree)


def test_unravel_must_be_what_ravel_gives():
    with pytest.raises(TypeError, match="second result of nbhvp.ravel"):
        nbhvp.differentiable(network, unravel=lambda x: x)


@nbhvp.differentiable(unravel=UNRAVEL, target="interpret")
def decorated(parameters):
    return network(parameters)


def by_value():
    return nbhvp.differentiable(lambda p: network(p), unravel=UNRAVEL, target="interpret")


@pytest.mark.parametrize("f", [decorated, by_value()])
def test_functions_and_operators_pickle_with_their_names(f):
    H = pickle.loads(pickle.dumps(f.hessian(X)))
    np.testing.assert_array_equal(H.block("layers.0").toarray(), H.toarray()[:9, :9])


def test_a_fit_by_scipy():
    tree = {"slope": 0.0, "offset": np.zeros(2)}
    x, unravel = nbhvp.ravel(tree)
    loss = nbhvp.differentiable(
        lambda p: (p["slope"] - 2) ** 4 + np.sum((p["offset"] + p["slope"]) ** 2),
        unravel=unravel,
        target="interpret",
    )
    best = unravel(nbhvp.minimize(loss, x, tol=1e-9).x)
    assert abs(best["slope"] - 2) < 1e-2
    np.testing.assert_allclose(best["offset"], [-best["slope"]] * 2, atol=1e-6)


# Functions of trees of any structure.


@nbhvp.differentiable(trees=True, target="interpret")
def weighted_cubes(tree, scale=1.0):
    return scale * tree["a"] ** 2 * sum(np.sum(leaf**3) for leaf in tree["b"])


TREE = {"a": 3.0, "b": [np.array([1.0, 2.0]), np.ones((1, 2))]}


def test_functions_of_trees():
    x, unravel = nbhvp.ravel(TREE)
    plain = nbhvp.differentiable(weighted_cubes.__wrapped__, unravel=unravel, target="interpret")
    assert weighted_cubes(TREE, 2.0) == plain(x, 2.0) == 198.0
    assert same(weighted_cubes.grad(TREE), unravel(plain.grad(x)))
    assert same(weighted_cubes.value_and_grad(TREE)[1], unravel(plain.grad(x)))
    assert same(weighted_cubes.hvp(TREE, TREE), unravel(plain.hvp(x, x)))
    H = weighted_cubes.hessian(TREE)
    np.testing.assert_array_equal(H.toarray(), plain.hessian(x).toarray())
    assert H.block("a", "b").shape == (1, 4)
    function = weighted_cubes.like(TREE)
    assert function is weighted_cubes.like(unravel(2 * x)) and function.unravel == unravel
    np.testing.assert_array_equal(function.grad(x), plain.grad(x))  # flat for SciPy
    other = {"a": 1.0, "b": [np.ones(3)]}
    assert same(weighted_cubes.grad(other), {"a": np.float64(6.0), "b": [np.full(3, 3.0)]})
    assert weighted_cubes.like(other) is not function
    again = pickle.loads(pickle.dumps(weighted_cubes))
    assert again is weighted_cubes


def test_residuals_of_trees():
    r = nbhvp.differentiable(lambda p: p[0] * p[1], trees=True, target="interpret")
    tree = (np.array([1.0, 2.0]), 3.0)
    np.testing.assert_array_equal(r.jvp(tree, (np.ones(2), 0.5)), [3.5, 4.0])
    assert same(r.vjp(tree, np.ones(2)), (np.full(2, 3.0), np.float64(3.0)))
    assert r.jacobian(tree).shape == (2, 3)


class Cubes:
    def __init__(self, scale):
        self.scale = scale

    @nbhvp.differentiable(trees=True, target="interpret")
    def cost(self, tree):
        return self.scale * weighted_cubes(tree)

    @nbhvp.differentiable(target="interpret")
    def inside(self, x):
        tree = {"a": x[0], "b": [x[1:3], x[3:].reshape(1, 2)]}
        gradient = self.cost.grad(tree)
        return gradient["a"] * np.sum(gradient["b"][1])


def test_methods_of_trees_and_derivatives_inside():
    x, unravel = nbhvp.ravel(TREE)
    gradient = weighted_cubes.grad(TREE)
    for scale in (2.0, 3.0):
        cubes = Cubes(scale)
        assert same(cubes.cost.grad(TREE), unravel(scale * unravel.ravel(gradient)))
        needed = scale**2 * gradient["a"] * np.sum(gradient["b"][1])
        assert cubes.inside(x) == pytest.approx(needed, rel=1e-14)
        H, e = weighted_cubes.hessian(TREE).toarray(), np.array([0, 0, 0, 1.0, 1.0])
        slope = scale**2 * (H[0] * np.sum(gradient["b"][1]) + gradient["a"] * H @ e)
        np.testing.assert_allclose(cubes.inside.grad(x), slope, rtol=1e-14)


def test_trees_within_a_traced_function():
    def fun(x):
        vector, unravel = nbhvp.ravel({"a": x[:2] ** 2, "b": Layer(x[2:], 2.0 * x[:1])})
        return np.sum(unravel(vector * x.size)["b"].W ** 2) + vector[0]

    f = nbhvp.differentiable(fun, target="interpret")
    x = np.arange(1.0, 5.0)
    np.testing.assert_allclose(f.grad(x), [2.0, 0.0, 96.0, 128.0])


def test_errors_of_functions_of_trees():
    with pytest.raises(ValueError, match="leave unravel out"):
        nbhvp.differentiable(np.sum, trees=True, unravel=nbhvp.ravel(TREE)[1])
    for use in (nbhvp.differentiable, nbhvp.gauss_newton):
        with pytest.raises(TypeError, match=r"give that, by \.like\(x\)"):
            use(weighted_cubes)
    with pytest.raises(TypeError, match=r"tree\['a'\] is of type int"):
        weighted_cubes.grad({"a": 1, "b": []})
