"""The recorder of loops: what is on the tape computes what the user's function computes."""

import ctypes
import math
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numba import njit, objmode, prange, types, vectorize
from numba.core.errors import NumbaError
from numba.core.registry import cpu_target

import nbhvp
from nbhvp.graph import primitives as p
from nbhvp.graph.table.tape import FIRST, INPUT
from nbhvp.loops.overloads import active
from nbhvp.loops.overloads.table import functions
from nbhvp.loops.recording import cache
from nbhvp.loops.recording import record as loops
from nbhvp.loops.recording.interpreted import interpreted
from nbhvp.loops.recording.record import DEFAULT_LIMIT, record_tape
from nbhvp.loops.recording.runs import Output
from nbhvp.trace.following.standins import Closure

pytestmark = pytest.mark.compiles

x = np.array([0.7, -1.3, 2.1, 0.4, 1.9, -0.6])
matrix = np.arange(12.0).reshape(3, 4) / 7 - 0.5


def arity_of(entry) -> int:
    return 2 if "{y" in str(entry.source) else 1


def replay(tape):
    """The values of all records, computed anew from inputs and constants by the primitives."""
    values = np.zeros(tape.codes.size)
    for i, (code, a, b) in enumerate(zip(tape.codes, tape.first, tape.second, strict=True)):
        if code < FIRST:
            values[i] = tape.values[i]
            continue
        assert a < i and b < i
        entry = tape.primitives[code - FIRST]
        arity = arity_of(entry)
        with np.errstate(all="ignore"):
            values[i] = entry.evaluate(*(values[k] for k in (a, b)[:arity]))
    return values


def plain(function):
    """Run as Python: an oracle that shares no code with what is tested, and needs no compiler."""
    return getattr(function, "py_func", function)


def outputs(result, values):
    if isinstance(result, Output):
        return values[result.positions].reshape(result.shape)
    return tuple(outputs(item, values) for item in result)


def check(function, *args, rtol=1e-14):
    """Replay the tape of a function; compare with what it returns, plain.

    So for the compiled recorder, and for the one that Python runs if it takes the function.
    """
    short = interpreted(function, args, DEFAULT_LIMIT)
    if short is not None:
        check_run(short, function, args, rtol)
    run = record_tape(function, args)
    check_run(run, function, args, rtol)
    return run


def check_run(run, function, args, rtol):
    tape = run.tape
    values = replay(tape)
    np.testing.assert_allclose(tape.values, values, rtol=1e-13, atol=1e-300)
    copies = [np.array(arg) if isinstance(arg, np.ndarray) else arg for arg in args]
    compare(outputs(run.result, values), plain(function)(*copies), rtol)
    check_guards(tape, values)


def compare(found, expected, rtol):
    if isinstance(expected, tuple | list):
        assert len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            compare(*pair, rtol)
    else:
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-15)
        assert np.shape(found) == np.shape(expected)


def check_guards(tape, values):
    guards = tape.guards
    for code, a, b, outcome in zip(
        guards.codes, guards.first, guards.second, guards.outcomes, strict=True
    ):
        entry = tape.primitives[code - FIRST]
        arity = arity_of(entry)
        assert entry.evaluate(*(values[k] for k in (a, b)[:arity])) == outcome


def rosenbrock(x):
    s = 0.0
    for i in range(x.size - 1):
        s += 100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2
    return s


def integer_start(x):
    s = 0
    for v in x:
        s = s + v * v
    return s


def branches(x):
    s = 1.0
    for v in x:
        if v > 0 and v < 2.0:
            s *= v
        elif not (v < -1):
            s -= v
        else:
            s += 3
    return s if s > 0 else -s


def two_arrays(x):
    y = np.zeros(x.size)
    z = np.empty_like(x)
    for i, v in enumerate(x):
        y[i] += v * v
        z[i] = y[i] * x[-1 - i]
    return y, z, np.ones(3), y.sum() + np.sum(z)


def stencil(x):
    u = np.empty((3, x.size))
    u[0] = x
    for t in range(2):
        for i in range(x.size):
            u[t + 1, i] = u[t, i] + 0.1 * (u[t, i - 1] - 2 * u[t, i] + u[t, (i + 1) % x.size])
    return u[2]


def newton(x):
    r = 1.0
    while abs(r * r - x[2]) > 1e-12:
        r = r - (r * r - x[2]) / (2 * r)
    return r


def lists(x):
    items = []
    for v in x:
        items.append(v * 2)
    items.append(0.0)
    pair = [0.0, 0.0]
    for v in items:
        pair[0] += v
        pair[1] = pair[0] * v
    return pair


def comprehension(x):
    row = [0.0 for _ in range(3)]
    row[1] = x[0]
    squares = np.array([v * v for v in x])
    return row, squares


def tuples(x):
    state = (0.0, 1.0)
    for v in x:
        state = (state[0] + v, state[1] * v)
    a, b = state
    return a - b, state


def indices(x):
    k = int(x[2])
    j = math.floor(x[4])
    n = round(x[0])
    return x[k] * x[j] + n + np.int64(x[2]) + float(x[0]) + np.float64(x[1])


def extrema(x):
    m = x[0]
    for v in x:
        m = max(m, v)
    return m + min(x[0], x[1], 0.3) + np.max(x) * np.min(x) + x.max() - x.min() + abs(x[1])


def arrays(x):
    y = np.exp(x) + 2.0 * x - x / 3
    y[1:] += y[:-1] * x[0]
    z = -(y**2) + np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    z *= 0.5
    return z, np.sqrt(np.abs(z)).mean(), (z > 0).sum()


def broadcasting(a):
    row = a[0]
    column = a[:, 1].copy()
    return a * row + column.reshape((3, 1)), a.T @ column, a.sum(axis=0), a.sum(1), a.mean()


def products(a):
    v = a[0] + 1
    return a @ v, np.dot(v, v), v @ v, a @ a.T, np.dot(a.T, a[:, 0]), np.outer(a[0], v)


def shapes(a):
    b = a.reshape(4, 3)
    c = a.ravel()
    d = a.flatten()
    d[0] = 7.0
    return b[1:, ::2], c[::-1], d, a.T, a.size + a.ndim + a.shape[0] + len(a)


def moments(x):
    return np.prod(x), np.var(x), x.std(), np.cumsum(x), np.argmax(x) * x[0], np.linalg.norm(x)


def modulo(x):
    return x[1] % 1.5, x[2] // 0.5, divmod(x[4], 0.7)


def scalar_functions(x):
    return np.square(x[0]), np.clip(x[1], -1.0, 1.0), np.where(x[0] > 0, x[0], x[1]), np.sign(x[1])


@njit
def helper(v, out):
    for i in range(v.size):
        out[i] = v[i] ** 3
    return out


@njit
def fibonacci(n, a):
    if n < 2:
        return a
    return fibonacci(n - 1, a) + a * fibonacci(n - 2, a)


def calls(x):
    return helper(x, np.zeros(x.size)), fibonacci(5, x[0])


weights = np.array([0.5, 1.5, 2.5, -0.5, 0.1, 0.9])


def closed_over(x):
    def inner(i):
        return weights[i] * x[i]

    s = 0.0
    for i in range(x.size):
        s += inner(i)
    return s


def control_flow(x):
    s = 0.0
    for a, b in zip(x, x[1:]):  # noqa: B905 numba knows no strict
        if a * b > 3:
            break
        if a < 0:
            continue
        s += a * b
    for i in prange(x.size):
        s += x[i]
    return s


def bubble(x):
    y = x.copy()
    for i in range(y.size):
        for j in range(y.size - 1 - i):
            if y[j] > y[j + 1]:
                y[j], y[j + 1] = y[j + 1], y[j]
    return y[2]


def constant(x):
    return 3.0, 2, np.zeros(2), x[0]


def copies_of_constants(x):
    """Arrays of plain floats, written over."""
    y = weights.copy()
    t = np.linspace(0.0, 1.0, 6)
    e = np.eye(2)
    a = np.array([[x[0], 1.0], [2.0, x[1]]])
    for z in (y, t):
        z[0] = x[0]
    e[0, 1] = x[2]
    return y * t, e, a, np.full(3, x[0]), np.full_like(x, 2.0), np.array(x), np.copy(x)


def powers(x):
    return (
        x[0] ** 2 + x[0] ** -1 + x[0] ** 0.5 + 2.0 ** x[0] + x[0] ** x[2] + pow(x[0], 3),
        math.pow(x[0], 2.0) + np.power(x[0], 3) - +x[0],
    )


def truth(x):
    s = 0.0
    if x[0]:
        s += 1
    if not x[1] or x[1] == -1.3:
        s += 2
    if 0 < x[2] <= 2.5 and x[0] != 3:
        s += x[2]
    s += x[0] if x[1] > 0 else 0.5
    return s + (1 if bool(x[0]) else x[1])


def nested_functions(x):
    def f(a):
        def g(b):
            return b * a

        return g(x[1]) + a

    return f(x[0])


def dtypes(x):
    y = np.zeros(3, dtype=np.float64)
    k = np.zeros(3, np.int64)
    k[0] = 2
    y[k[0]] = x[0]
    y[k[1]] += x[1]
    return y, k, (x * 3).astype(np.int64)


def orders(x):
    y = np.sort(x)
    return y[2] * y[0], np.median(x), x[x > 0].sum(), x[np.array([0, 2, 4])] * 2


def joined(x):
    return np.concatenate((x[:2], x[3:])), np.stack((x, x * 2)), np.roll(x, 1) + np.flip(x)


def iterators(x):
    s = 0.0
    for i, v in np.ndenumerate(x):
        s += i[0] * v
    for i in np.ndindex(x.shape):
        s += x[i]
    for v in x.flat:
        s += v
    return s + sum([x[0], x[1]]) + sum((x[0], 1.0)) + max(x) + min(x) + np.ptp(x)


def distances(x):
    n = x.shape[0]
    d = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            d[i, j] = abs(x[i] - x[j])
    return d.min(), d.argmax(), d.mean(axis=0), d.sum(axis=1), d.max(axis=-1), np.sum(d, 0)


def containers(x):
    table = {0: 0.0}
    table[1] = x[0]
    rows = [[0.0, 0.0] for _ in range(2)]
    rows[1][0] = x[0]
    a = [0.0] * 4
    a[2] = x[1]
    a.extend([1.0, 2.0])
    last = a.pop()
    return table[1] + table[0] + rows[1][0] + a[2] * last + a[-1] + len(a)


def in_place(x):
    y = np.zeros(6)
    v = y[1:4]
    v[0] = x[0]
    v += x[:3]
    y.reshape(2, 3)[1, 1] = 5.0
    s = x[0]
    s -= 1
    s *= 2
    s /= 3
    s **= 2
    y[0], y[1] = y[1], y[0]
    return y, s, np.where(y > 0, y, 0.0), np.clip(y, 0.0, 1.0), np.round(x, 1), round(x[2], 1)


def types_asked(x):
    y = np.zeros(2, x.dtype)
    if isinstance(x[0], float) and not isinstance(x[0], int) and np.isscalar(x[1]):
        y[0] = x[0]
    return y


def caught(x):
    try:
        if x[0] > 0:
            raise ValueError("positive")
        y = x[0]
    except Exception:
        y = x[1]
    return y


def eliminated(x):
    """Gauss's algorithm."""
    n = x.size
    a = np.outer(x, x)
    b = x.copy()
    for i in range(n):
        a[i, i] += 5.0
    for k in range(n):
        for i in range(k + 1, n):
            f = a[i, k] / a[k, k]
            a[i, k:] -= f * a[k, k:]
            b[i] -= f * b[k]
    for k in range(n - 1, -1, -1):
        b[k] = (b[k] - np.dot(a[k, k + 1 :], b[k + 1 :])) / a[k, k]
    return b


FUNCTIONS = [
    types_asked, caught, eliminated,
    copies_of_constants, powers, truth, nested_functions, dtypes, orders, joined, iterators,
    distances, containers, in_place,
    rosenbrock, integer_start, branches, two_arrays, stencil, newton, lists, comprehension, tuples,
    indices, extrema, arrays, moments, modulo, scalar_functions, calls, closed_over, control_flow,
    bubble, constant,
]  # fmt: skip
MATRICES = [broadcasting, products, shapes]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_the_tape_computes_the_function(function):
    check(njit(function), x)


def test_which_functions_python_records():
    """Those of scalars, arrays and branches."""
    needed = {
        "rosenbrock",
        "integer_start",
        "branches",
        "two_arrays",
        "stencil",
        "newton",
        "bubble",
    }
    assert all(interpreted(globals()[name], (x,), DEFAULT_LIMIT) is not None for name in needed)


@pytest.mark.parametrize("function", MATRICES, ids=lambda f: f.__name__)
def test_the_tape_computes_functions_of_matrices(function):
    check(njit(function), matrix)


# Every function of the table that numba can name.


def called_once(functions, arity: int):
    """A function that calls each of some functions, of elements and of an element and a number."""
    names = {f"f{k}": function for k, function in enumerate(functions)}
    arguments = ["x[{k}]", "x[{k}], y[{k}]"][arity - 1]
    lines = [f"    out[{k}] = {name}({arguments.format(k=k)})" for k, name in enumerate(names)]
    text = "\n".join(
        ["def all(x, y):", f"    out = np.zeros({len(names)})", *lines, "    return out"]
    )
    namespace = {"np": np, **names}
    exec(text, namespace)
    return namespace["all"]


def is_known(function, arity: int) -> bool:
    cpu_target.typing_context.refresh()
    kind = cpu_target.typing_context.resolve_value_type(function)
    try:
        kind.get_call_type(cpu_target.typing_context, (types.float64,) * arity, {})
    except NumbaError:
        return False
    return True


@pytest.mark.parametrize("arity", [1, 2])
def test_functions_of_the_table(arity):
    entries = {f: entry for f, entry in functions().items() if arity_of(entry) == arity}
    known = [f for f in entries if is_known(f, arity)]
    assert len(known) > 40
    domains = [(*entries[f].domain, entries[f].domain[-1])[:2] for f in known]
    points = np.array([[0.3 * low + 0.7 * high for low, high in pair] for pair in domains])
    check(called_once(known, arity), points[:, 0].copy(), points[:, 1].copy(), rtol=1e-13)
    assert {entries[f] for f in known} >= {p.exp, p.tanh} if arity == 1 else {p.power, p.arctan2}


# Arguments and options.


def test_arguments_enter_in_order():
    @njit
    def f(a, pair, n, flags, scale, name, nothing):
        s = 0.0
        for i in range(n):
            if flags[i]:
                s += a[i, 0] * pair[0][i] * pair[1]
        return s * scale if name == "ok" and nothing is None else s

    a = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(3, 2) + 1)
    row, flags = np.arange(6.0)[::2], np.array([True, False, True])
    run = check(f, a, (row, 3.0), 3, flags, np.float64(0.5), "ok", None)
    assert run.tape.sizes == (6, 3, 1, 1)
    expected = [*a.ravel(), *row, 3.0, 0.5]
    assert run.tape.values[1:12].tolist() == expected and (run.tape.codes[1:12] == INPUT).all()
    assert record_tape(f, (a, (row, 3.0), 3), dict(
        nothing=None, name="ok", scale=0.5, flags=flags)).tape.sizes == (6, 3, 1, 1)  # fmt: skip


def test_arguments_are_not_modified():
    def f(x, k):
        x[0] = 5.0
        k[0] = 7
        return x[0] + x[1] + k[0]

    a, k = np.ones(2), np.arange(3)
    run = record_tape(f, (a, k))
    assert run.tape.values[run.result.positions] == 13
    assert a.tolist() == [1, 1] and k.tolist() == [0, 1, 2]


@vectorize
def ufunc_of_numba(a, b):
    return a * b + a


@njit(inline="always", fastmath=True)
def inlined(v):
    return v * v


@njit("float64(float64[:])", parallel=True, cache=False)
def with_a_signature(x):
    s = 0.0
    for i in prange(x.size):
        s += inlined(x[i])
    return s + ufunc_of_numba(x[0], x[1])


def test_options_of_the_users_function():
    check(with_a_signature, x)


def plain_square(v):
    return v * v


def test_plain_functions_call_plain_functions():
    check(lambda x: plain_square(x[0]) + math.sqrt(plain_square(x[1])), x)


@pytest.mark.parametrize("model", ["python", "numpy"])
def test_the_error_model_stays(model):
    f = njit(error_model=model)(lambda x: 1.0 / x[0])
    if model == "python":
        with pytest.raises(ZeroDivisionError):
            record_tape(f, (np.zeros(1),))
    else:
        run = record_tape(f, (np.zeros(1),))
        assert run.tape.values[run.result.positions] == np.inf


def test_errors_of_the_function_are_its_own():
    @njit
    def f(x):
        if x[0] < 0:
            raise ValueError("negative")
        return x[0]

    with pytest.raises(ValueError, match="^negative$"):
        record_tape(f, (-np.ones(1),))
    assert record_tape(f, (np.ones(1),)).tape.guards.outcomes.tolist() == [0]


# What cannot be recorded.

table = np.zeros(3)


def store_outside(x):
    table[0] = x[0]  # here
    return table[0]


def store_into_integers(x):
    y = np.zeros(3, np.int64)
    y[0] = x[0]  # here
    return y[0]


def eigenvalues(x):
    return np.linalg.eigvalsh(np.outer(x, x))[0]  # here


def complex_order(x):
    return x[0] * (1j * x[0] > x[1])  # here


def two_types(x):
    y = x[0]
    if x[0] > 0:
        y = "positive"
    return y  # here


def reinterpret(x):
    return x.view(np.int64)[0] * x[0]  # here


def bytes_of(x):
    return x[0] * x.strides[0]  # here


def nothing(x):
    x[0] = 1.0


c_function = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(abs)


def opaque(x):
    return c_function(x[0])  # here


def objects(x):
    with objmode(y="float64"):  # here
        y = abs(x[0])
    return y


@njit
def inner_fault(v):
    return np.fft.fft(v)[0]  # here


def outer(x):
    return inner_fault(x)


FAULTS = {
    store_outside: "stored into an array from outside",
    store_into_integers: "stored into an array from outside, or of integers",
    eigenvalues: "eigvalsh of traced values cannot be recorded",
    complex_order: "gt of traced values",
    reinterpret: "view of traced values",
    bytes_of: "strides of traced values",
    two_types: "two types",
    opaque: "whose Python source is not there",
    objects: "a block in object mode cannot be recorded",
    outer: "fft",
}


@pytest.mark.parametrize("function", FAULTS, ids=lambda f: f.__name__)
def test_faults_name_their_line(function):
    with pytest.raises(nbhvp.TraceError, match=FAULTS[function]) as caught:
        record_tape(njit(function), (x,))
    lines = Path(__file__).read_text().splitlines()
    file, line = re.match(r"(.+?):(\d+)", str(caught.value)).groups()
    assert Path(file) == Path(__file__)
    assert lines[int(line) - 1].endswith("# here"), lines[int(line) - 1]


def test_a_function_without_a_result():
    run = record_tape(nothing, (x,))
    ((argument, held),) = run.written
    assert run.result is None and argument == 0 and held.shape == x.shape
    assert run.tape.values[held.positions].tolist() == [1.0, *x[1:]]


@pytest.mark.parametrize("argument", [[1.0], np.ones(2, "G"), object(), np.ones(2, "f2")])
def test_arguments_that_are_refused(argument):
    with pytest.raises(TypeError, match="cannot be recorded"):
        record_tape(njit(lambda x: x), (argument,))


# Length, threads.


def test_the_limit():
    run = record_tape(rosenbrock, (np.linspace(-1, 1, 5000),))
    assert run.tape.nbytes > 17 * 8 * 4999
    with pytest.raises(MemoryError, match="limit of 500,000 bytes"):
        record_tape(rosenbrock, (np.linspace(-1, 1, 5000),), limit=500_000)
    with pytest.raises(MemoryError, match="limit of 1,000 bytes"):
        record_tape(rosenbrock, (np.linspace(-1, 1, 5000),), limit=1000)


def test_a_long_tape_is_whole():
    point = np.linspace(-1, 1, 100_000)
    loops._recorders.clear()
    tape = record_tape(rosenbrock, (point,)).tape
    again = record_tape(rosenbrock, (point,)).tape
    for column in ("codes", "first", "second", "values"):
        assert np.array_equal(getattr(tape, column), getattr(again, column))
    assert tape.values[tape.outputs[0]] == njit(rosenbrock)(point)


def test_threads_record_at_once():
    points = [np.linspace(-1, k, 20_000) for k in range(1, 5)]
    expected = [record_tape(rosenbrock, (point,)).tape.values for point in points]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            tapes = pool.map(lambda point: record_tape(rosenbrock, (point,)).tape.values, points)
            for values, wanted in zip(tapes, expected, strict=True):
                assert np.array_equal(values, wanted)


def test_functions_that_a_recording_compiled_serve_plain_code():
    record_tape(lambda x: (np.hanning(x.size) * x).sum(), (np.ones(5),))
    plain = njit(lambda n: np.hanning(n).sum())
    assert plain(5) == pytest.approx(np.hanning(5).sum())


# What a recorder was compiled from.


def test_changes_outside_are_seen():
    factor = 2.0
    data = np.array([1.0, 2.0])

    def f(x):
        return factor * x[0] * data[0]

    def value():
        run = record_tape(f, (np.ones(1),))
        return run.tape.values[run.result.positions[0]], Closure(run.sources)

    (first, sources), factor = value(), 3.0
    assert first == 2 and sources.changed()
    second, sources = value()
    assert second == 3 and not sources.changed()
    data[0] = 5.0
    assert sources.changed() and value()[0] == 15


MODULE = """
import numpy as np
from numba import njit
from helper import double

@njit
def f(x):
    s = 0.0
    for i in range(x.size):
        s += double(x[i])
    return s

@njit
def power(n, a):
    return a if n == 1 else a * power(n - 1, a)

@njit
def recursive(x):
    return power(3, x[0])
"""
HELPER = "from numba import njit\n\n@njit\ndef double(v):\n    return 2.0 * v\n"
ASK = """
import numpy as np, user
from nbhvp.loops.recording import record as loops
run = loops.record_tape(user.f, (np.ones(3),))
(entry,) = loops._recorder(user.f)._entries.values()
(compiled,) = entry.overloads.values()
print(run.tape.values[run.result.positions[0]], compiled.metadata is None)
run = loops.record_tape(user.recursive, (np.full(1, 2.0),))
assert run.tape.values[run.result.positions[0]] == 8
"""


def test_recorders_depend_on_all_sources_of_loops():
    hashed = set(cache._sources())
    for module in (active, loops, cache):
        assert Path(module.__file__) in hashed


def test_the_disk_has_recorders_and_no_stale_ones(tmp_path):
    def ask():
        paths = f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"
        environment = {"PYTHONPATH": paths, "NBHVP_CACHE_DIR": str(tmp_path / "kernels")}
        command = [sys.executable, "-B", "-W", "error", "-c", ASK]
        done = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    (tmp_path / "user.py").write_text(MODULE)
    (tmp_path / "helper.py").write_text(HELPER)
    assert ask() == ["6.0", "False"]
    assert ask() == ["6.0", "True"]
    (tmp_path / "helper.py").write_text(HELPER.replace("2.0", "3.0"))
    assert ask() == ["9.0", "False"]


def printing(x):
    s = 0.0
    for v in x:
        s += v * v
    print("sum", s)
    return s


def test_numbers_that_record_print_as_numbers(capfd):
    run = record_tape(printing, (x,))
    assert capfd.readouterr().out == f"sum {run.tape.values[run.result.positions[0]]}\n"


@pytest.mark.parametrize("place", [4, 10**9, -5])
def test_an_index_beyond_an_array_is_an_error(place):
    @nbhvp.differentiable
    @njit
    def gathered(x, places, y):
        total = 0.0
        for k in range(places.size):
            total += x[places[k]] ** 2 * y[k]
        return total

    with pytest.raises(IndexError, match="out of bounds"):
        gathered.grad(np.ones(4), np.array([0, place]), np.ones(2))
    with pytest.raises(IndexError, match="out of bounds"):
        gathered.grad(np.ones(4), np.array([0, 1]), np.ones(1))
    assert gathered.grad(np.ones(4), np.array([0, -1]), np.ones(2)).tolist() == [2, 0, 0, 2]
