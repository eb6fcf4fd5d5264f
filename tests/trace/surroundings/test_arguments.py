"""Arguments of every kind, given and closed over: the numbers of plain NumPy, or an error."""

import collections
import decimal
import enum
import fractions
import types
import warnings
from typing import NamedTuple

import numpy as np
import pytest

import nbhvp
from nbhvp.errors import TraceError
from nbhvp.trace.surroundings.aliases import share_memory

pytestmark = pytest.mark.usefixtures("unsplit")

X = np.array([1.0, 2.0])
V = np.array([0.5, -1.0])


def differentiable(fun, **options):
    return nbhvp.differentiable(fun, target="interpret", **options)


def weighted(x, w):
    return np.sum(w * x**3)


def agrees(fun, *args, **kwargs):
    """The value of plain NumPy, and a product that does not depend on the mode."""
    f = differentiable(fun)
    np.testing.assert_allclose(f(X, *args, **kwargs), fun(X, *args, **kwargs), rtol=1e-14)
    product = f.hvp(X, V, *args, **kwargs)
    other = f.hvp(X, V, *args, mode="reverse-over-reverse", **kwargs)
    np.testing.assert_allclose(product, other, rtol=1e-12)


# Byte orders, classes and dtypes.

RECORDS = np.array([(1.5, 2, 3.0), (2.5, 3, 4.0)], [("a", ">f8"), ("b", ">i4"), ("c", "<f8")])
SWAPPED, INDEX = np.array([1.5, 2.5], ">f8"), np.array([1, 0], ">i8")


@pytest.mark.parametrize(
    "w",
    [
        SWAPPED, np.array([1.5, 2.5], ">f4"), np.array([1, 3], ">i2"), np.array(2.5, ">f8"),
        RECORDS["a"], RECORDS["b"], RECORDS["c"], np.arange(4.0, dtype=">f8")[::-2],
        np.broadcast_to(np.array(2.5, ">f8"), 2), RECORDS.view(np.recarray)["a"],
    ],
    ids=str,
)  # fmt: skip
def test_byte_orders(w):
    agrees(weighted, w)
    agrees(lambda x, tree: weighted(x, tree["w"][0]), {"w": (w,)})
    agrees(lambda x: weighted(x, w))


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: np.sum(np.array([x[0], 2 * x[1]], dtype=">f8") ** 2),
        lambda x: np.sum(np.full(2, x[0], ">f8") ** 3),
        lambda x: np.sum(np.full_like(x, x[1], ">f4").astype(float) ** 3),
        lambda x: np.sum(np.linspace(x[0], x[1], 3, dtype=">f8") ** 2),
        lambda x: np.sum(np.cumsum(x, dtype=">f8") ** 2),
        lambda x: np.sum(x[np.argsort(x).astype(">i4")] * SWAPPED.copy()),
        lambda x: (
            float(SWAPPED.view(">i8")[0] > 0)
            * np.sum(np.frombuffer(SWAPPED.tobytes(), ">f8") * x**2)
        ),
        lambda x: np.einsum("i,i", SWAPPED, x**2) + np.sum(np.concatenate([x, SWAPPED]) ** 2),
    ],
)
def test_byte_orders_inside(fun):
    agrees(fun)


def made_inside(x, w, i):
    made = np.zeros(2, ">f8")
    made[:] = x * SWAPPED
    return made.astype(">f8") * x[INDEX] * x[i] ** 2 * w


@pytest.mark.compiles
def test_byte_orders_compiled():
    """As x, v, argument and constant, as indices, and made inside."""
    f = nbhvp.differentiable(lambda *args: np.sum(made_inside(*args)))
    native = (SWAPPED.astype(float), INDEX.astype(int))
    swapped = (SWAPPED, INDEX)
    v = V.astype(">f8")
    np.testing.assert_array_equal(f.hvp(X.astype(">f8"), v, *swapped), f.hvp(X, V, *native))
    np.testing.assert_allclose(f(X, *swapped), np.sum(made_inside(X, *swapped)), rtol=1e-14)
    assert f.report().traces == 1


def test_byte_orders_of_directions_and_weights():
    f, x, v = differentiable(made_inside), X.astype(">f8"), V.astype(">f8")
    args, native = (SWAPPED, INDEX), (SWAPPED.astype(float), INDEX.astype(int))
    for method in ("jvp", "vjp"):
        found = getattr(f, method)(x, v, *args)
        np.testing.assert_array_equal(found, getattr(f, method)(X, V, *native))
    found = f.weighted_hessian(x, v, *args) @ v
    np.testing.assert_array_equal(found, f.weighted_hessian(X, V, *native) @ V)


class Tenfold(np.ndarray):
    def __mul__(self, other):
        return 10 * np.asarray(self) * other


MASKED = np.ma.array([1.0, 2.0], mask=[False, True])
CLASSES = [
    (MASKED, "filled"),
    (np.array([[1.0, 2.0]]).view(np.matrix), "asarray"),
    (X.view(Tenfold), "asarray"),
]


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize(("w", "instead"), CLASSES, ids=lambda w: type(w).__name__)
def test_subclasses_are_refused(w, instead):
    words = f"(?s)class {type(w).__name__}.*{instead}"
    for fun, args in (
        (weighted, (w,)),
        (lambda x, tree: weighted(x, tree["w"][1]), ({"w": [1.0, w]},)),
        (lambda x: np.sum(x * w), ()),
        (lambda x: np.sum(np.multiply(w, x)), ()),
        (lambda x: np.sum(np.where(x > 0, w, x)), ()),
    ):
        with pytest.raises((TypeError, TraceError), match=words):
            differentiable(fun)(X, *args)
    f = differentiable(lambda x: np.sum(x**3))
    with pytest.raises(TypeError, match=f"x must be.*{instead}"):
        f.grad(w)
    with pytest.raises(TypeError, match=f"v must be.*{instead}"):
        f.hvp(X, w)
    H = f.hessian(X)
    for product in (H.matvec, H.dot, H.__matmul__):
        if isinstance(w, np.matrix):  # as SciPy's operators
            np.testing.assert_allclose(product(w.T).ravel(), 6 * X * np.asarray(w)[0])
        else:
            with pytest.raises(TypeError, match=f"plain array.*{instead}"):
                product(w)
    left = differentiable(lambda x: np.sum(w * x))
    if isinstance(w, Tenfold):  # whose own code is followed
        assert left(X) == 50.0
    else:
        with pytest.raises(TraceError, match=f"{__file__}:"):
            left(X)


def test_mapped_files_are_arrays(tmp_path):
    mapped = np.memmap(tmp_path / "numbers", float, "w+", shape=2)
    mapped[:] = [1.5, 2.5]
    agrees(weighted, mapped)
    agrees(lambda x: weighted(x, mapped) + mapped.sum())
    f = differentiable(lambda x: np.sum(x**3))
    np.testing.assert_allclose(f.hvp(mapped, mapped), 6 * np.array([1.5, 2.5]) ** 2)


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        ("f2", "float16.*float64"), ("g", "longdouble.*float64"), ("G", "clongdouble.*complex128"),
        ("O", "object.*dtype=float"), ("U3", "U3"), ("M8[s]", "datetime64"), ("m8[D]", "timedelta64"),
        ([("a", float)], "'a'.*fields"),
    ],
    ids=str,
)  # fmt: skip
def test_other_dtypes_are_named(dtype, words):
    w = np.array([1, 2]).astype(dtype)
    with pytest.raises(TypeError, match=f"(?s)argument 1 is an array of .*{words}"):
        differentiable(weighted)(X, w)
    with pytest.raises(TraceError, match=f"(?s){__file__}:.*{words}"):
        differentiable(lambda x: weighted(x, w))(X)


def test_half_precision_may_be_converted_inside():
    half = np.array([1.5, 2.5], np.float16)
    agrees(lambda x: weighted(x, half.astype(float)) + float(half[0]))


# Numbers.


class Level(enum.IntEnum):
    HIGH = 3


class Rate(float, enum.Enum):
    SLOW = 0.5


class Metres(float):
    def __mul__(self, other):
        return 100 * other


class Wide(int):
    def __mul__(self, other):
        return 100 * other


@pytest.mark.parametrize(
    "number",
    [
        Level.HIGH, Rate.SLOW, Metres(2.0), Wide(2), 2**70, -(2**65), 2**63, np.uint64(2**63), True,
        np.bool_(True), np.float32(1.5), np.array(2.5), np.array(3), np.array(True), np.int8(3),
    ],
    ids=repr,
)  # fmt: skip
def test_numbers(number):
    agrees(lambda x, a: np.sum(x**3) * a, number)
    agrees(lambda x, a: (3.0 if a is Rate.SLOW else 2.0) * np.sum(x**2) + int(a == 3), number)
    if isinstance(number, float | int) and not isinstance(number, enum.Enum):
        agrees(lambda x, a: a * np.sum(x**3), number)


def test_signed_zeros_of_subclasses_of_float():
    f = differentiable(lambda x, a: np.copysign(1.0, float(a)) * np.sum(x))
    assert [f(X, Metres(0.0)), f(X, Metres(-0.0)), f(X, Metres(0.0))] == [3.0, -3.0, 3.0]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (fractions.Fraction(1, 3), "Fraction .give float"),
        (decimal.Decimal("1.5"), "Decimal .give float"),
        (1 + 2j, "complex .give its real"),
        (np.complex64(1j), "complex64 .give its real"),
        (types.SimpleNamespace(b=1.0), "SimpleNamespace .give its vars"),
        (types.MappingProxyType({"b": 1.0}), "mappingproxy .give dict"),
        (collections.ChainMap({"b": 1.0}), "ChainMap .give dict"),
        (collections.deque([1.0]), "deque .give a tuple"),
        ({1.0, 2.0}, "set .give a tuple"),
        (range(3), "range .give a tuple"),
        (bytearray(b"a"), "bytearray"),
        (memoryview(b"a"), "memoryview"),
        (np.random.default_rng(0), "Generator"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_objects_are_refused(value, words):
    with pytest.raises(TypeError, match=f"argument 1 is (of type|an array of) {words}"):
        differentiable(lambda x, a: np.sum(x))(X, value)


# Containers.


class Attributes(dict):
    __getattr__ = dict.__getitem__


class Doubled(list):
    def __getitem__(self, k):
        return 2 * super().__getitem__(k)


class Pair(NamedTuple):
    a: np.ndarray
    b: float


class Scaled(Pair):
    def twice(self):
        return 2 * self.b


@pytest.mark.parametrize(
    ("fun", "container"),
    [
        (lambda x, d: np.sum(d["w"] * x) * d["new"], collections.defaultdict(lambda: 3.0, w=X)),
        (lambda x, d: np.sum(d["w"] * x) + d["new"], collections.defaultdict(float, w=X)),
        (lambda x, d: np.sum(x) * (d["a"] + d["new"]), collections.Counter("aab")),
        (
            lambda x, d: (d.move_to_end("a"), np.sum(x) * next(iter(d.values())))[1],
            collections.OrderedDict(a=2.0, b=3.0),
        ),
        (lambda x, d: np.sum(x * d.w) * d.s, Attributes(w=X, s=2.0)),
        (lambda x, d: np.sum(x * d[0]), Doubled([X])),
        (lambda x, d: np.sum(x * d.a) * d.b, Pair(X, 2.0)),
        (lambda x, d: np.sum(x * d.a) * d.twice(), Scaled(X, 2.0)),
        (lambda x, d: np.sum(x) * next(iter(d.values())), {float("nan"): 2.0}),
        (lambda x, d: np.sum(x) * d[1, "a"], {(1, "a"): 2.0}),
    ],
    ids=range(10),
)
@pytest.mark.filterwarnings("ignore:the function changes")
def test_containers(fun, container):
    expected = fun(X, container)
    container.pop("new", None) if isinstance(container, dict) else None
    f = differentiable(fun)
    for _ in range(2):
        np.testing.assert_allclose(f(X, container), expected)


class Maker:
    def __call__(self):
        return 1.0


def test_what_makes_items_belongs_to_the_arguments():
    f = differentiable(lambda x, d: d["new"] * np.sum(x))
    one, two = collections.defaultdict(lambda: 1.0), collections.defaultdict(lambda: 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [f(X, d) for d in (one, two, one)] == [3.0, 6.0, 3.0]
    with pytest.raises(TypeError, match="defaultdict.*give it a function"):
        f(X, collections.defaultdict(Maker()))


def test_keys_of_dicts_are_told_apart():
    f = differentiable(
        lambda x, d: np.sum(x) * (2.0 if True in map(type, d) or bool in map(type, d) else 1.0)
    )
    assert [f(X, {1: 1.0}), f(X, {True: 1.0}), f(X, {1.0: 1.0})] == [3.0, 6.0, 3.0]


class Stateful(list):
    pass


def test_containers_with_state_are_refused():
    holder = Stateful([1.0])
    holder.scale = 2.0
    with pytest.raises(TypeError, match=r"Stateful \(give list"):
        differentiable(lambda x, d: np.sum(x) * d.scale)(X, holder)


@pytest.mark.parametrize(
    "w",
    [
        np.arange(2.0)[::-1], np.arange(4.0)[::2], np.broadcast_to(2.0, 2),
        np.frombuffer(b"\0" + np.ones(2).tobytes(), np.uint8)[1:].view(float), np.ones((0, 2)),
    ],
    ids=range(5),
)  # fmt: skip
def test_layouts(w):
    agrees(lambda x, w: np.sum(w * x**3) + np.sum(x**2), w)
    agrees(lambda x: np.sum(w * x**3) + np.sum(x**2))


# Arrays that are written.


def first_written(x, a, b):
    a[0] = 5.0
    return b[0] * np.sum(x**2)


def sorted_in_place(x, a, b):
    a.sort()
    return b @ x**2


def added_in_place(x, a, b):
    a += x
    return b @ x


def through_a_view(x, a, b):
    row = a.reshape(-1)[:1]
    row[...] = x[0]
    return np.sum(b) * np.sum(x)


def by_out(x, a, b):
    np.multiply(x, 2.0, out=a)
    return np.sum(b * x)


WRITING = [first_written, sorted_in_place, added_in_place, through_a_view, by_out]
BASE = np.arange(4.0)[::-1].copy()


@pytest.mark.parametrize("fun", WRITING)
def test_an_array_given_twice_is_not_written(fun):
    f = differentiable(fun)
    a = BASE[:2].copy()
    with pytest.warns(UserWarning, match="argument: this happens"):
        found = f(X, a, a.copy())
    np.testing.assert_allclose(found, fun(X, a.copy(), a.copy()))
    assert np.array_equal(a, BASE[:2])
    # The trace is there, and must not serve where arrays share memory.
    x = X.copy()
    for at, given, other in (
        (BASE[:2][::-1], BASE[:2], a), (X, a, a), (X, BASE[:2], BASE[1:3]), (X, BASE[::-1][:2], BASE[2:]), (x, x, a), (x, x[::-1], a),
    ):  # fmt: skip
        for call in (f, f.grad, lambda *args: f.hvp(args[0], V, *args[1:])):
            with pytest.raises(TraceError, match=rf"{__file__}:\d+.*memory another array shares"):
                call(at, given, other)
    np.testing.assert_allclose(f(X, BASE[::2], BASE[1::2]), fun(X, BASE[::2].copy(), BASE[1::2]))


def test_x_that_is_written_and_given():
    def fun(x, a):
        x[0] = 5.0
        return np.sum(x**2) * a[0]

    f, x = differentiable(fun), X.copy()
    np.testing.assert_allclose(f.grad(x, X), [0.0, 4.0])
    with pytest.raises(TraceError, match="memory another array shares"):
        f.grad(x, x)
    assert np.array_equal(x, X)


def test_an_array_that_is_given_and_closed_over():
    held = X.copy()

    def before(x, a):
        scale = held[0]
        a[0] = 5.0
        return scale * np.sum(x**2)

    def after(x, a):
        a[0] = 5.0
        return held[0] * np.sum(x**2)

    for fun in (before, after):
        f = differentiable(fun)
        with pytest.warns(UserWarning, match="argument"):
            assert f(X, held.copy()) == 5.0
        with pytest.raises(TraceError, match="closes over"):
            f(X, held)


@pytest.mark.parametrize("a", [np.broadcast_to(2.0, 2), np.frombuffer(X.tobytes())], ids=["0", "1"])
def test_arrays_that_cannot_be_written(a):
    with pytest.raises(ValueError, match="read-only"):
        differentiable(first_written)(X, a, X)


def test_shared_memory():
    array = np.arange(12.0).reshape(3, 4)
    assert share_memory(array[:, :2], array[1])
    assert not share_memory(array[:, ::2], array[:, 1::2])
    assert not share_memory(array, array.copy())
