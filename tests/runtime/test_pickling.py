"""Functions and operators in other processes: by name where plain functions go so, else by value.

What `__main__` defines, pickle takes by name and cloudpickle by value. The script of these tests
stands in for a user's one: it sends its functions by each way, and the receiving process calls them.
"""

import copy
import functools
import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.optimize
from numba import cloudpickle, njit

import nbhvp

X, V = np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.0, -1.0])
interpreted = nbhvp.differentiable(target="interpret")


@interpreted
def named(x, power=3):
    return scaled(np.sum(x**power))


def scaled(x):
    return 0.5 * x


def plain(x):
    return np.sum(x**4)


class Model:
    def __init__(self, scale):
        self.scale = scale

    @interpreted
    def loss(self, x):
        return self.scale * np.sum(x**2)

    another_name = interpreted(lambda self, x: self.scale * np.sum(x**3))

    def plain(self, x):
        return self.scale * np.prod(x)

    def __call__(self, x):
        return self.scale * np.sum(np.exp(x))


def local_model(scale):
    class Base:
        def loss(self, x):
            return np.sum(x**2)

    class Local(Base):
        @interpreted
        def loss(self, x):
            return scale * super().loss(x)

    return Local()


@njit
def power(x, k):
    return np.sum(x**k)


@nbhvp.custom_jvp
def cube(x):
    return x**3


@cube.defjvp
def _(primals, tangents):
    return primals[0] ** 3, 3 * primals[0] ** 2 * tangents[0]


def local_rule(scale):
    @nbhvp.elementwise(partials=lambda z, x: (2 * scale * x,))
    def square(x):
        return scale * x**2

    @nbhvp.custom_jvp
    def itself(x):
        return x * 1.0

    @itself.defjvp
    def _(primals, tangents):
        return itself(primals[0]), tangents[0]

    return lambda x: np.sum(square(itself(x)))


def recurse():
    """A local function that calls itself, by the Function over it."""

    def local(x):
        return np.sum(x**2) if x.size == 1 else function(x[1:]) * x[0]

    function = interpreted(local)
    return function


TREE, UNRAVEL = nbhvp.ravel({"a": np.ones(2), "b": 1.0})

FUNCTIONS = {
    "decorated": named,
    "over a named function": interpreted(plain),
    "over SciPy's": interpreted(scipy.optimize.rosen),
    "over a ufunc's method": interpreted(np.add.reduce),
    "lambda": interpreted(lambda x: np.sum(x**2)),
    "closure": interpreted((lambda k: lambda x: k * np.sum(x**2))(5.0)),
    "partial": interpreted(functools.partial(power.py_func, k=3)),
    "partial of a lambda": interpreted(functools.partial(lambda x, k: np.sum(x**k), k=3)),
    "compiled": interpreted(njit(lambda x: np.sum(x**3))),
    "calls compiled": interpreted(lambda x: power(x, 3)),
    "a rule": interpreted(lambda x: np.sum(cube(x))),
    "local rules": interpreted(local_rule(3.0)),
    "callable": interpreted(Model(2.0)),
    "method": interpreted(Model(2.0).plain),
    "decorated method": Model(3.0).loss,
    "method by another name": Model(3.0).another_name,
    "method of a local class": local_model(2.0).loss,
    "recursion": recurse(),
    "tree": nbhvp.differentiable(
        lambda p: p["b"] * np.sum(p["a"] ** 2), unravel=UNRAVEL, target="interpret"
    ),
}
WAYS = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "protocol 2": lambda value: pickle.loads(pickle.dumps(value, protocol=2)),
    "cloudpickle": lambda value: pickle.loads(cloudpickle.dumps(value)),
    "twice": lambda value: pickle.loads(pickle.dumps(pickle.loads(cloudpickle.dumps(value)))),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, way):
    f = FUNCTIONS[name]
    again = WAYS[way](f)
    assert isinstance(again, nbhvp.Function) and again.options == f.options
    np.testing.assert_array_equal(again.hvp(X, V), f.hvp(X, V))
    np.testing.assert_array_equal(WAYS[way](f.grad)(X), f.grad(X))
    np.testing.assert_array_equal(WAYS[way](f.hessian(X)).toarray(), f.hessian(X).toarray())
    H, J = WAYS[way](2 * f.hessian(X)), WAYS[way](f.jacobian(X).T)
    np.testing.assert_array_equal(H @ V, 2 * f.hvp(X, V))
    np.testing.assert_array_equal(J.toarray(), f.jacobian(X).T.toarray())


def test_which_are_the_same():
    """Copies as of plain functions; by name where the module knows one."""
    for way in WAYS.values():
        assert way(named) is named and way(Model.loss) is Model.loss
    for way in (copy.copy, copy.deepcopy):
        for name in ("lambda", "closure", "over a named function", "compiled"):
            assert way(FUNCTIONS[name]) is FUNCTIONS[name]
    model = Model(2.0)
    loss = copy.deepcopy(model.loss)
    model.scale = 5.0
    np.testing.assert_array_equal(loss.grad(X), 4 * X)
    called = copy.deepcopy(interpreted(model))
    model.scale = 7.0
    assert called(X) == 5 * np.sum(np.exp(X))


def test_functions_with_rules():
    for way in WAYS.values():
        assert way(cube) is cube
    local = nbhvp.elementwise(lambda x: x**2, partials=lambda z, x: (2 * x,))
    again = pickle.loads(pickle.dumps(local))
    for function in (local, again):
        f = interpreted(functools.partial(lambda x, h: np.sum(h(x)), h=function))
        np.testing.assert_array_equal(f.hvp(X, V), 2 * V)
    late = nbhvp.custom_jvp(lambda x: x**2)
    assert pickle.loads(pickle.dumps(late))._rule is None
    late.defjvp(lambda primals, tangents: (primals[0] ** 2, 2 * primals[0] * tangents[0]))
    assert pickle.loads(pickle.dumps(late))._rule is not None, "the rule of now"


def test_one_function_by_value_stays_one():
    f = FUNCTIONS["lambda"]
    first, second, H = pickle.loads(cloudpickle.dumps((f, f, f.hessian(X))))
    assert first is second and H._origin.func.__self__ is first and first is not f


def test_modules_registered_to_go_by_value():
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        sent = cloudpickle.dumps(named)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert pickle.loads(sent) is not named
    np.testing.assert_array_equal(pickle.loads(sent).grad(X), named.grad(X))


def test_what_nobody_pickles_is_an_error():
    lock = __import__("threading").Lock()
    with pytest.raises(TypeError, match="lock"):
        pickle.dumps(interpreted(lambda x: np.sum(x) if lock else x))


SCRIPT = """
import multiprocessing, pickle, subprocess, sys
import numpy as np, nbhvp
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from numba import cloudpickle, njit

interpreted = nbhvp.differentiable(target="interpret")
scale = 2.0

@interpreted
def named(x):
    return scale * helper(x)

@nbhvp.elementwise(partials=lambda z, x: (3 * x**2,))
def cubed(x):
    return x**3

@nbhvp.custom_jvp
def cubed_too(x):
    return x**3

@cubed_too.defjvp
def _(primals, tangents):
    return cubed_too(primals[0]), 3 * primals[0] ** 2 * tangents[0]

@interpreted
def ruled(x):
    return np.sum(cubed(x) + cubed_too(x))

def helper(x):
    return np.sum(x**3)

@interpreted
@njit
def compiled(x):
    return scale * np.sum(x**3)

class Base:
    def loss(self, x):
        return np.sum(x**3)

class Model(Base):
    scale = 2.0

    @interpreted
    def loss(self, x):
        return self.scale * super().loss(x)

x, v = np.array([1.0, 2.0]), np.array([3.0, 4.0])
local = interpreted(lambda x: scale * helper(x))
over = interpreted(helper)
calls = [
    (named.hvp, x, v), (compiled.hvp, x, v), (ruled.hvp, x, v), (local.hvp, x, v), (over.hvp, x, 2 * v),
    (Model().loss.hvp, x, v), (named.hessian(x).dot, v), ((2 * over.hessian(x)).dot, v),
]

def run(function, *args):
    return function(*args)

def check(way, results):
    for result in results:
        np.testing.assert_array_equal(result, [36.0, 96.0], err_msg=way)

def main():
    receive = "import pickle, sys; print([f(*a).tolist() for f, *a in pickle.load(sys.stdin.buffer)])"
    sent = cloudpickle.dumps(calls)
    done = subprocess.run([sys.executable, "-c", receive], input=sent, capture_output=True, check=True)
    check("a fresh process", eval(done.stdout))
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        check("a pool", pool.starmap(run, calls))
    with ThreadPoolExecutor(2) as pool:
        check("threads", pool.map(run, *zip(*(call for call in calls if len(call) == 3))))

def joblib():
    from joblib import Parallel, delayed
    for backend in ("loky", "threading", "multiprocessing"):
        parallel = Parallel(n_jobs=2, backend=backend)
        check(backend, parallel(delayed(run)(*call) for call in calls))
        check(backend, parallel(delayed(f)(*a) for f, *a in calls))

if __name__ == "__main__":
    globals()[sys.argv[1]]()
"""


@pytest.mark.compiles
@pytest.mark.no_cover
@pytest.mark.parametrize("part", ["main", "joblib"])
def test_functions_of_a_script(tmp_path, part):
    if part == "joblib":
        pytest.importorskip("joblib")
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    done = subprocess.run([sys.executable, path, part], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.compiles
@pytest.mark.no_cover
@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_dask(scheduler):
    dask = pytest.importorskip("dask")
    chosen = [f for name, f in FUNCTIONS.items() if name in ("decorated", "lambda", "method")]
    tasks = [dask.delayed(f.hvp)(X, V) for f in chosen]
    found = dask.compute(*tasks, scheduler=scheduler, num_workers=1)
    np.testing.assert_array_equal(found, [f.hvp(X, V) for f in chosen])
