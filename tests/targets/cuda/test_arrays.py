"""Arrays of other libraries in, and arrays of the same library out, through a simulated driver."""

import gc
import math
import pickle
import threading

import numpy as np
import pytest

import nbhvp
from nbhvp.runtime import blocks, recorded
from nbhvp.targets.cuda import dlpack
from nbhvp.targets.cuda.arrays import DeviceArray
from nbhvp.targets.cuda.launching import driver
from tests.device_arrays import NAMES, Array, Tensor, installed
from tests.simulated_gpu import simulated_driver

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.compiles]

COPIES = {"cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2"}


@pytest.fixture
def gpu():
    with simulated_driver(assembles=False) as stub:
        yield stub
        assert not stub.failures


def same(given, needed):
    given = given.host if isinstance(given, Array) else np.asarray(given)
    np.testing.assert_allclose(given, needed, rtol=1e-11, atol=1e-12)


def logistic(w, A, scale=1.0):
    return np.sum(np.logaddexp(0, A @ w)) + scale * np.sum(w**4)


def residuals(x, A):
    return np.sin(A @ x)


A = np.random.default_rng(0).standard_normal((6, 4))
X, V, W = np.linspace(0.1, 1, 4), np.arange(4.0), np.arange(6.0)
f, g = (nbhvp.differentiable(logistic, target="interpret") for _ in range(2))
r = nbhvp.differentiable(residuals, target="interpret")

SCALAR = {
    "value": (lambda f, x, v, w, A: f(x, A), lambda: f(X, A)),
    "grad": (lambda f, x, v, w, A: f.grad(x, A), lambda: f.grad(X, A)),
    "value and grad": (lambda f, x, v, w, A: f.value_and_grad(x, A)[1], lambda: f.grad(X, A)),
    "hvp": (lambda f, x, v, w, A: f.hvp(x, v, A), lambda: f.hvp(X, V, A)),
    "reverse": (
        lambda f, x, v, w, A: f.hvp(x, v, A, mode="reverse-over-reverse"),
        lambda: f.hvp(X, V, A),
    ),
    "hessian": (lambda f, x, v, w, A: f.hessian(x, A) @ v, lambda: f.hvp(X, V, A)),
    "matvec": (lambda f, x, v, w, A: f.hessian(x, A).matvec(v), lambda: f.hvp(X, V, A)),
    "damped": (
        lambda f, x, v, w, A: f.hessian(x, A).damped(0.5) @ v,
        lambda: f.hvp(X, V, A) + 0.5 * V,
    ),
    "sum of operators": (
        lambda f, x, v, w, A: (2 * f.hessian(x, A) + nbhvp.identity(4)) @ v,
        lambda: 2 * f.hvp(X, V, A) + V,
    ),
    "gradient of an operator": (
        lambda f, x, v, w, A: f.hessian(x, A).gradient,
        lambda: f.grad(X, A),
    ),
    "value of an operator": (lambda f, x, v, w, A: f.hessian(x, A).value, lambda: f(X, A)),
}
VECTOR = {
    "jvp": (lambda r, x, v, w, A: r.jvp(x, v, A), lambda: r.jvp(X, V, A)),
    "vjp": (lambda r, x, v, w, A: r.vjp(x, w, A), lambda: r.vjp(X, W, A)),
    "jacobian": (lambda r, x, v, w, A: r.jacobian(x, A) @ v, lambda: r.jvp(X, V, A)),
    "transposed": (lambda r, x, v, w, A: r.jacobian(x, A).T @ w, lambda: r.vjp(X, W, A)),
    "weighted": (
        lambda r, x, v, w, A: r.weighted_hessian(x, w, A) @ v,
        lambda: r.weighted_hessian(X, W, A) @ V,
    ),
    "gauss newton": (
        lambda r, x, v, w, A: nbhvp.gauss_newton(r)(x, A) @ v,
        lambda: nbhvp.gauss_newton(r)(X, A) @ V,
    ),
}


@pytest.mark.parametrize("what", [*SCALAR, *VECTOR])
def test_the_same_library_comes_out(what, gpu, monkeypatch):
    """Twice: nothing is remembered of arrays that the host does not read."""
    cupy = installed(monkeypatch, gpu, "cupy")
    function, (call, needed) = (
        (logistic, SCALAR[what]) if what in SCALAR else (residuals, VECTOR[what])
    )
    f = nbhvp.differentiable(function, target="cuda")
    inputs = [cupy.of(a) for a in (X, V, W, A)]
    for _ in range(2):
        found = call(f, *inputs)
        assert type(found) is cupy
        same(found, needed())


@pytest.mark.parametrize("name", NAMES)
def test_libraries(name, gpu, monkeypatch):
    library = installed(monkeypatch, gpu, name)
    f = nbhvp.differentiable(logistic, target="cuda")
    x, v, data = library.of(X), library.of(V), library.of(A)
    f.hvp(x, v, data), f.grad(x, data)
    gpu.calls.clear()
    for found, needed in (f.hvp(x, v, data), g.hvp(X, V, A)), (f.grad(x, data), g.grad(X, A)):
        assert type(found) is library
        same(found, needed)
    assert not COPIES & {*gpu.calls}
    H, J = f.hessian(x, data), nbhvp.differentiable(residuals, target="cuda").jacobian(x, data)
    if name != "numba":  # whose arrays have no arithmetic
        same(H.damped(0.5) @ v, g.hvp(X, V, A) + 0.5 * V)
    same((J.T @ J) @ v, r.jacobian(X, A).T @ (r.jacobian(X, A) @ V))
    gpu.calls.clear()
    f.hvp(x, v, data)
    assert ("block_until_ready" in gpu.calls) == (name == "jax")
    assert ("cuStreamSynchronize" in gpu.calls) == (name == "jax")


def test_dlpack(gpu):
    Tensor.stub = gpu
    f = nbhvp.differentiable(logistic, target="cuda")
    found = f.hvp(Tensor.of(X), Tensor.of(V), Tensor.of(A))
    assert type(found) is DeviceArray
    same(found, g.hvp(X, V, A))
    assert "__dlpack__" in gpu.calls


class OnHost:
    """Memory of the host by a capsule of ours, for NumPy."""

    def __init__(self, array):
        self.array = array

    def __dlpack_device__(self):
        return 1, 0

    def __dlpack__(self, **options):
        a = self.array
        return dlpack.capsule(self, a.ctypes.data, a.shape, a.dtype, 0, kind=1)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i4", "c16", "u1"])
def test_capsules(shape, dtype):
    """NumPy reads them, and frees what they keep; so does one that nobody reads."""
    gc.collect()
    before, a = len(dlpack._exported), np.arange(math.prod(shape), dtype=dtype).reshape(shape)
    found = np.from_dlpack(OnHost(a))
    assert found.dtype == a.dtype
    np.testing.assert_array_equal(found, a)
    unread = OnHost(a).__dlpack__()
    assert len(dlpack._exported) == before + 2
    del found, unread
    gc.collect()
    assert len(dlpack._exported) == before


def test_results_by_dlpack(gpu):
    f = nbhvp.differentiable(logistic, target="cuda")
    found = f.grad(DeviceArray(driver.device(0), (4,), np.dtype("f8")).copy(), A)
    capsule = found.__dlpack__(stream=1)
    one = dlpack.tensor_in(capsule)
    assert (one.data, one.device, one.ndim, one.dtype()) == (found.address, 2, 1, found.dtype)
    assert found.__dlpack_device__() == (2, 0)


def test_contents_that_change_in_place(gpu, monkeypatch):
    cupy = installed(monkeypatch, gpu, "cupy")
    f = nbhvp.differentiable(logistic, target="cuda")
    x, v, data = cupy.of(X), cupy.of(V), cupy.of(A)
    H = f.hessian(x, data)
    for k in range(3):
        x.host[...] = X + k
        same(f.hvp(x, v, data), g.hvp(X + k, V, A))
        same(f.grad(x, data), g.grad(X + k, A))
        same(f(x, data), g(X + k, A))
        same(H @ v, g.hvp(X, V, A))
    data.host[...] = 2 * A
    same(f.hvp(x, v, data), g.hvp(X + 2, V, 2 * A))
    same(f.hvp(X, v, data), g.hvp(X, V, 2 * A))
    data.host[...] = A
    same(f.hvp(X, v, data), g.hvp(X, V, A))


def test_mixed_arrays(gpu, monkeypatch):
    """A value has the library of x, a product that of its direction."""
    cupy = installed(monkeypatch, gpu, "cupy")
    f = nbhvp.differentiable(logistic, target="cuda")
    x, v, data = cupy.of(X), cupy.of(V), cupy.of(A)
    assert type(f.grad(X, data)) is np.ndarray
    same(f.grad(X, data), g.grad(X, A))
    for at, along, kind in (x, V, np.ndarray), (X, v, cupy), (X, V, np.ndarray):
        for args in (A,), (data,):
            found = f.hvp(at, along, *args)
            assert type(found) is kind
            same(found, g.hvp(X, V, A))
    assert type(f(x, A, 2.0)) is cupy
    same(f(x, A, 2.0), g(X, A, 2.0))


@pytest.mark.parametrize("count", [1, 3, 8, 19])
@pytest.mark.parametrize("operator", [False, True])
def test_several_directions(operator, count, gpu, monkeypatch):
    """One program for a block of them, filled up with zeros, and nothing but the result leaves the device."""
    cupy = installed(monkeypatch, gpu, "cupy")
    monkeypatch.setattr(blocks, "MANY", 9)
    monkeypatch.setattr(recorded, "MANY", 9)
    f = nbhvp.differentiable(logistic, target="cuda")
    several = np.random.default_rng(1).standard_normal((4, count))
    x, data = cupy.of(X), cupy.of(A)
    H = f.hessian(x, data)
    H @ cupy.of(several)
    for v, kind in (cupy.of(several), cupy), (several, np.ndarray):
        gpu.calls.clear()
        found = H @ v if operator else f.hvp(x, v, data)
        assert type(found) is kind
        copied = gpu.calls.count("cuMemcpyDtoHAsync_v2") + gpu.calls.count("cuMemcpyHtoDAsync_v2")
        assert copied == (0 if kind is cupy else 2)
        same(found, g.hvp(X, several, A))


def test_blocks_of_directions_are_one_program(gpu):
    """One graph of launches for eight directions; those of more blocks are cut, and joined again."""
    f = nbhvp.differentiable(logistic, target="cuda")
    H, rng, launches = f.hessian(X, A), np.random.default_rng(1), {}
    for count in (8, 33):
        v = rng.standard_normal((4, count))
        H @ v
        gpu.calls.clear()
        same(H @ v, g.hvp(X, v, A))
        launches[count] = [gpu.calls.count(f"cu{one}") for one in ("GraphLaunch", "LaunchKernel")]
    assert launches == {8: [1, 0], 33: [2, 2 + 1]}


def of_tree(p):
    return np.sum(np.exp(p["a"])) * np.sum(p["b"][0] @ p["b"][1]) + p["a"][0] ** 3


TREE = {"a": X[:3] - 1, "b": (np.linspace(1, 2, 4).reshape(2, 2), np.array([0.5, -1.0]))}
ALONG = {"a": V[:3], "b": (np.arange(4.0).reshape(2, 2), np.array([2.0, 1.0]))}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("trees", [True, False])
def test_trees(trees, name, gpu, monkeypatch):
    """Of arrays on the device: gradients and products are such trees, and no number leaves it."""
    library = installed(monkeypatch, gpu, name)
    moved = lambda tree: {"a": library.of(tree["a"]), "b": tuple(map(library.of, tree["b"]))}
    how = {"trees": True} if trees else {"unravel": nbhvp.ravel(TREE)[1]}
    f, g = (nbhvp.differentiable(of_tree, target=t, **how) for t in ("cuda", "interpret"))
    x, v = moved(TREE), moved(ALONG)
    f.grad(x), f.hvp(x, v)
    gpu.calls.clear()
    found = [f(x), f.grad(x), f.hvp(x, v), f.value_and_grad(x)[1]]
    assert not COPIES & {*gpu.calls}
    found.append(f.hvp(TREE, v))
    needed = g(TREE), g.grad(TREE), g.hvp(TREE, ALONG), g.grad(TREE), g.hvp(TREE, ALONG)
    same(found[0], needed[0])
    for one, other in zip(found[1:], needed[1:], strict=True):
        assert type(one["a"]) is library
        for part, like in zip((one["a"], *one["b"]), (other["a"], *other["b"]), strict=True):
            assert part.shape == like.shape
            same(part, like)
    mixed = {"a": X[:3] - 1, "b": x["b"]}
    same(f(mixed), needed[0])
    same(f.grad(mixed)["a"], needed[1]["a"])
    flat = library.of(nbhvp.ravel(ALONG)[0])
    same(f.hessian(x) @ flat, nbhvp.ravel(needed[2])[0])


def test_trees_that_do_not_fit(gpu, monkeypatch):
    cupy = installed(monkeypatch, gpu, "cupy")
    f = nbhvp.differentiable(of_tree, target="cuda", unravel=nbhvp.ravel(TREE)[1])
    x = {"a": cupy.of(X[:2]), "b": TREE["b"]}
    with pytest.raises(ValueError, match=r"'a'.* must have shape \(3,\), got \(2,\)"):
        f(x)
    single = {"a": cupy.of(X[:3]), "b": (cupy.of(np.eye(2, dtype="f4")), TREE["b"][1])}
    with pytest.raises(TypeError, match="one dtype, got float64 and float32"):
        f(single)
    x["a"] = cupy.of(X[:3])
    with pytest.raises(TypeError, match="target='cuda'"):
        nbhvp.differentiable(of_tree, target="interpret", trees=True)(x)


def test_sparse_arrays_are_scipys(gpu, monkeypatch):
    cupy = installed(monkeypatch, gpu, "cupy")
    chain = lambda x: np.sum(x[1:] ** 2 * x[:-1])
    f = nbhvp.differentiable(chain, target="cuda")
    needed = nbhvp.differentiable(chain, target="interpret").sparse_hessian(X).toarray()
    same(f.sparse_hessian(cupy.of(X)).toarray(), needed)
    same(f.hessian(cupy.of(X)).tosparse().toarray(), needed)
    same(f.hessian(cupy.of(X)).toarray(), needed)


def test_branches_and_results_that_are_inputs(gpu, monkeypatch):
    cupy = installed(monkeypatch, gpu, "cupy")
    f = nbhvp.differentiable(lambda x: np.sum(x**3) if x[0] > 0 else x @ x / 2, target="cuda")
    x = cupy.of(X)
    same(f.grad(x), 3 * X**2)
    y = cupy.of(-X)
    found = f.grad(y)
    assert found.address != y.address
    same(found, -X)
    e = nbhvp.differentiable(np.exp, target="cuda")
    value, gradient = e.value_and_grad(cupy.of(0.5))
    assert value.address != gradient.address
    same(value, np.exp(0.5)), same(gradient, np.exp(0.5))


def test_functions_that_write_their_arguments(gpu, monkeypatch):
    cupy = installed(monkeypatch, gpu, "cupy")

    def fun(x, a):
        a[0] = x[0]
        return np.sum(a * x)

    f = nbhvp.differentiable(fun, target="cuda")
    x, a = cupy.of(X), cupy.of(X)
    with pytest.warns(UserWarning, match="the function writes"):
        same(f.grad(x, a), [2 * X[0], *X[1:]])
    same(a, X)
    with pytest.raises(nbhvp.TraceError, match="memory another array shares"):
        f.grad(x, x)


def test_what_nobody_can_write_is_copied_once(gpu, monkeypatch):
    """An argument as long as it lives, x once for each point."""
    sizes, own, n = [], driver.Device.upload, 9
    monkeypatch.setattr("nbhvp.runtime.calls.call.LARGE", 100)
    monkeypatch.setattr("nbhvp.targets.cuda.workspace.KNOWN", 64)
    monkeypatch.setattr(
        driver.Device, "upload", lambda self, *a: sizes.append(a[1].nbytes) or own(self, *a)
    )
    data = np.random.default_rng(0).standard_normal((5, n))
    data.flags.writeable = False
    f = nbhvp.differentiable(lambda x, a: np.sum((a @ x) ** 4), target="cuda")
    for k in range(3):
        f.hvp(np.full(n, 1.0 + k), np.ones(n), data)
    assert sizes.count(data.nbytes) == 1
    assert sizes.count(8 * n) == 6, "x and v at each point"
    f.hvp(np.full(n, 3.0), np.ones(n), data)
    assert sizes.count(8 * n) == 7, "v at a known point"
    copies = driver.device(0).copies
    assert id(data) in copies
    known = id(data)
    del data, f
    gc.collect()
    assert known not in copies


def test_streams_of_threads(gpu):
    """Each thread has a stream, which the next one takes over; the driver's order is checked by the stub."""
    f = nbhvp.differentiable(lambda x: np.sum(np.exp(x) * x), target="cuda")
    H, found, streams = f.hessian(X), {}, set()
    ready = threading.Barrier(3)

    def work(k):
        ready.wait()
        streams.add(driver.device(0).stream)
        ready.wait()
        found[k] = [H @ (V + k), f.hvp(X + k, V), f.grad(X + k)]

    for _ in range(2):
        threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(streams) == 3
    second = lambda x: (2 + x) * np.exp(x)
    for k, (first, other, gradient) in found.items():
        same(first, second(X) * (V + k))
        same(other, second(X + k) * V)
        same(gradient, (1 + X + k) * np.exp(X + k))


def test_streams_of_arrays(gpu, monkeypatch):
    """x, v and arguments on three streams, and memory that is used again: the stub checks the order."""
    cupy = installed(monkeypatch, gpu, "cupy")
    f = nbhvp.differentiable(logistic, target="cuda")
    arrays = dict(enumerate((X, V, A)))
    gpu.streams |= {31, 32, 33}
    for shift in range(3):
        given = {k: cupy.of(a) for k, a in arrays.items()}
        for k, array in given.items():
            array.interface_stream = 31 + (k + shift) % 3
        x, v, data = given.values()
        same(f.hvp(x, v, data), g.hvp(X, V, A))
        H = f.hessian(x, data)
        same(H @ v, g.hvp(X, V, A))
        same(H @ V, g.hvp(X, V, A))
        del H
        same(f.hessian(X + 1, A) @ v, g.hvp(X + 1, V, A))
        same(f.grad(x, data), g.grad(X, A))


def test_streams_that_are_gone(gpu, monkeypatch):
    """A caller's stream may be destroyed while an operator lives: the stub knows it no more."""
    cupy = installed(monkeypatch, gpu, "cupy")
    large = np.random.default_rng(0).standard_normal((6, 4))
    monkeypatch.setattr("nbhvp.runtime.calls.call.LARGE", 100)
    f = nbhvp.differentiable(logistic, target="cuda")
    gpu.streams |= {31, 32}
    x, v, data = cupy.of(X), cupy.of(V), cupy.of(large)
    x.interface_stream = data.interface_stream = 31
    H = f.hessian(x, data)
    gpu.streams -= {31}
    v.interface_stream = 32
    for _ in range(2):
        same(H @ v, g.hvp(X, V, large))
    gpu.streams -= {32}
    same(H @ V, g.hvp(X, V, large))
    same(H.gradient, g.grad(X, large))
    del H
    gc.collect()
    gpu.streams |= {32}  # another one with the same number
    same(f.hessian(X, large) @ v, g.hvp(X, V, large))


def test_operators_travel_as_arrays_of_the_host(gpu, monkeypatch):
    cupy = installed(monkeypatch, gpu, "cupy")
    H = nbhvp.differentiable(logistic, target="cuda").hessian(cupy.of(X), A)
    same(pickle.loads(pickle.dumps(H)) @ V, g.hvp(X, V, A))


# Errors.


def test_arrays_that_do_not_serve(gpu, monkeypatch):
    cupy = installed(monkeypatch, gpu, "cupy")
    f = nbhvp.differentiable(logistic, target="cuda")
    x, data = cupy.of(X), cupy.of(A)
    with pytest.raises(
        TypeError, match="x is on a device, and must be float32 or float64, got int64"
    ):
        f(cupy.of(np.arange(4)), data)
    with pytest.raises(
        TypeError, match="v is on a device, and must have dtype float64, got float32"
    ):
        f.hvp(x, cupy.of(V, dtype="f4"), data)
    with pytest.raises(ValueError, match=r"v must have shape \(4,\) or \(4, k\), got \(3,\)"):
        f.hvp(x, cupy.of(V[:3]), data)
    strided = cupy.of(A)
    monkeypatch.setattr(
        cupy,
        "__cuda_array_interface__",
        {"shape": (4,), "typestr": "<f8", "data": (strided.address, False), "strides": (16,)},
    )
    with pytest.raises(ValueError, match="x must be C-contiguous"):
        f(strided, A)


@pytest.mark.parametrize("target", ["cpu", "interpret"])
def test_functions_of_the_host_refuse_them(target, gpu, monkeypatch):
    cupy = installed(monkeypatch, gpu, "cupy")
    f = nbhvp.differentiable(logistic, target=target)
    for arguments in (cupy.of(X), A), (X, cupy.of(A)):
        with pytest.raises(TypeError, match="on a GPU.*target='cuda'"):
            f(*arguments)
    with pytest.raises(TypeError, match="on a GPU.*target='cuda'"):
        f.hvp(X, cupy.of(V), A)


def test_arrays_of_another_device(monkeypatch):
    with simulated_driver(assembles=False, devices=2) as stub:
        cupy = installed(monkeypatch, stub, "cupy")
        f = nbhvp.differentiable(logistic, target="cuda")
        second = nbhvp.differentiable(logistic, target="cuda:1")
        elsewhere = cupy.of(X, on=1)
        with pytest.raises(
            ValueError, match="x lies on device 1, and the program on device 0.*cuda:1"
        ):
            f(elsewhere, A)
        with pytest.raises(ValueError, match="argument 1 lies on device 1"):
            f(X, cupy.of(A, on=1))
        same(second.hvp(elsewhere, V, A), g.hvp(X, V, A))
