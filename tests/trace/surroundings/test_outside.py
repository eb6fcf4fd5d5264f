# ruff: noqa: SIM115, UP031, B028, RUF015, UP032 (the ways of users)
"""What comes from outside the program, or from texts, is refused where a result depends on it."""

import codecs
import datetime
import decimal
import fractions
import functools
import gzip
import io
import itertools
import json
import logging
import os
import pathlib
import sqlite3
import threading
import time
import uuid
import warnings
import zipfile

import numpy as np
import pytest
import scipy.io
import scipy.sparse

import nbhvp
from nbhvp import differentiable

X = np.array([0.5, 1.25])
# Users leave files and connections open.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
HERE = pathlib.Path(__file__)


def saved(folder):
    np.save(folder / "a.npy", X)
    (folder / "a.txt").write_text("1.5\n")
    with gzip.open(folder / "a.gz", "wt") as packed, zipfile.ZipFile(folder / "a.zip", "w") as z:
        packed.write("1.5")
        z.writestr("a.txt", "1.5")
    scipy.io.savemat(folder / "a.mat", {"a": 1.5})
    scipy.io.mmwrite(folder / "a.mtx", np.ones((2, 2)))
    scipy.sparse.save_npz(folder / "a.npz", scipy.sparse.csr_array(np.ones((2, 2))))
    return folder


REFUSED = {
    # Clocks, files, the environment.
    "time": lambda x, folder: x[0] * time.time(),
    "perf_counter": lambda x, folder: np.sum(x) + time.perf_counter(),
    "time_ns": lambda x, folder: x[0] * (time.time_ns() % 7),
    "a difference of clocks": lambda x, folder: x[0] * (time.monotonic() - time.monotonic()),
    "branch on a clock": lambda x, folder: x[0] if time.perf_counter() > 1e-9 else x[1],
    "clock in an array": lambda x, folder: x @ np.array([time.time(), 1.0]),
    "now": lambda x, folder: x[0] * datetime.datetime.now().microsecond,
    "open": lambda x, folder: x[0] * float(open(folder / "a.txt").read()),
    "with open": lambda x, folder: x[0] * read(folder / "a.txt"),
    "np.load": lambda x, folder: x @ np.load(folder / "a.npy"),
    "np.loadtxt": lambda x, folder: x[0] * np.loadtxt(folder / "a.txt"),
    "np.fromfile": lambda x, folder: x[0] * np.fromfile(folder / "a.npy")[-1],
    "read_text": lambda x, folder: x[0] * float((folder / "a.txt").read_text()),
    "path opened": lambda x, folder: x[0] * float((folder / "a.txt").open().read()),
    "gzip": lambda x, folder: x[0] * float(gzip.open(folder / "a.gz").read()),
    "GzipFile": lambda x, folder: x[0] * float(gzip.GzipFile(folder / "a.gz").read()),
    "zip": lambda x, folder: x[0] * float(zipfile.ZipFile(folder / "a.zip").read("a.txt")),
    "codecs": lambda x, folder: x[0] * float(codecs.open(folder / "a.txt").read()),
    "loadmat": lambda x, folder: x[0] * scipy.io.loadmat(folder / "a.mat")["a"][0, 0],
    "mmread": lambda x, folder: x[0] * scipy.io.mmread(folder / "a.mtx")[0, 0],
    "load_npz": lambda x, folder: x[0] * scipy.sparse.load_npz(folder / "a.npz").sum(),
    "open_memmap": lambda x, folder: x @ np.lib.format.open_memmap(folder / "a.npy"),
    "popen": lambda x, folder: x[0] * answered("echo 2"),
    "sqlite3": lambda x, folder: (
        x[0] * sqlite3.connect(":memory:").execute("select 2").fetchone()[0]
    ),
    "listdir": lambda x, folder: x[0] * len(os.listdir(folder)),
    "stat": lambda x, folder: x[0] * os.stat(folder).st_size,
    "uuid": lambda x, folder: x[0] * (uuid.uuid4().int % 5),
    "caught": lambda x, folder: x[0] * caught(folder),
    # Texts.
    "float of str": lambda x, folder: float(str(x[0])) * x[1],
    "float of an f-string": lambda x, folder: float(f"{x[0]:.4f}") * x[1],
    "float of a part": lambda x, folder: float(f"x = {x[0]} m".split()[2]) * x[1],
    "float of a sliced one": lambda x, folder: float(f"x={x[0]}"[2:6]) * x[1],
    "percent": lambda x, folder: float("%s" % x[0]) * x[1],
    "format": lambda x, folder: float("{:.3e}".format(x[0])) * x[1],
    "joined": lambda x, folder: float(",".join([str(x[0]), "1"]).split(",")[0]) * x[1],
    "added": lambda x, folder: float("1" + str(x[0])) * x[1],
    "int of str": lambda x, folder: int(str(x[0])[2]) * x[1],
    "repr": lambda x, folder: float(repr(x[0]).split("(")[-1].strip("()")) * x[1],
    "complex": lambda x, folder: complex(str(x[0])).real * x[1],
    "eval": lambda x, folder: eval(str(x[0])) * x[1],
    "eval of a formula": lambda x, folder: eval(f"{x[0]} + 2") * x[1],
    "json": lambda x, folder: json.loads(f"[{x[0]}]")[0] * x[1],
    "json there and back": lambda x, folder: json.loads(json.dumps([float(x[0])]))[0] * x[1],
    "a part of json": lambda x, folder: float(json.dumps({"a": float(x[0])})[6:-1]) * x[1],
    "Decimal": lambda x, folder: float(decimal.Decimal(f"{x[0]}")) * x[1],
    "Fraction": lambda x, folder: float(fractions.Fraction(str(x[0]))) * x[1],
    "array2string": lambda x, folder: float(np.array2string(x)[1:4]) * x[1],
    "fromstring": lambda x, folder: np.fromstring(f"{x[0]} {x[1]}", sep=" ")[0] * x[1],
    "array of strings": lambda x, folder: np.array([f"{x[0]}"]).astype(float)[0] * x[1],
    "a decision": lambda x, folder: x[0] if str(x[0]).startswith("0") else x[1],
    "a key": lambda x, folder: {"0.5": 2.0}.get(str(x[0]), 3.0) * x[1],
    "a length": lambda x, folder: len(str(x[0])) * x[1],
}


def answered(command):
    with os.popen(command) as pipe:
        return float(pipe.read())


def read(path):
    with open(path) as file:
        return float(file.readline())


def caught(folder):
    try:
        return np.load(folder / "a.npy")[0]
    except Exception:
        return 1.0


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, tmp_path):
    function, folder = REFUSED[name], saved(tmp_path)
    f = differentiable(lambda x: function(x, folder), target="interpret")
    with pytest.raises(nbhvp.TraceError, match=rf"{HERE.name}:\d+"):
        f(X)


LOG = logging.getLogger("nbhvp.test_outside")


class Holder:
    """It holds what cannot be watched, and does not read from it."""

    def __init__(self, folder):
        self.log = logging.getLogger("nbhvp.held")
        self.lock = threading.Lock()
        self.file = open(folder / "log.txt", "a+")
        self.numbers = (k for k in range(9))
        self.count = itertools.count()
        self.started = time.time()
        self.event = threading.Event()

    def cost(self, x):
        with self.lock:
            start = time.perf_counter()
            value = np.sum(x**3)
            self.log.info("took %.3f s, f = %.4f", time.perf_counter() - start, value)
            self.file.write(f"{value}\n")
            self.file.flush()
        if self.file is not None and self.count is not None and self.numbers:
            return value
        return 0 * value


def printed(x):
    print(f"x = {x[0]:.3f}, {x}", str(x[1]).rjust(12), "%s" % x)
    print(np.array2string(x), time.time(), sep="\n")
    return np.sum(x**3)


def told(x):
    LOG.warning("at %s: %.3f", x, x[0])
    logging.getLogger().debug("%s", x)
    warnings.warn(f"x is {x[0]}", RuntimeWarning)
    return np.sum(x**3)


def timed(function):
    @functools.wraps(function)
    def wrapper(x):
        start = time.perf_counter()
        result = function(x)
        print(f"{function.__name__}: {1e3 * (time.perf_counter() - start):.3f} ms")
        return result

    return wrapper


@timed
def cubes(x):
    return np.sum(x**3)


def checked(x):
    if not np.all(np.isfinite(x)):
        raise ValueError(f"x is {x}")
    return np.sum(x**3) if x[0] < float("inf") else x[0]


def exported(x):
    text = io.StringIO()
    text.write(f"{x[0]}")
    return np.sum(x**3)


def dumped(x):
    LOG.info(json.dumps({"cost": float(x @ x), "x": [float(t) for t in x], "n": x.size}))
    json.dump({"x0": float(x[0]), "of": [1, "a"]}, io.StringIO())
    return json.loads(json.dumps({"scale": 1.0}))["scale"] * np.sum(x**3)


def parsed(x):
    scale = float("1.0") * int("1") * json.loads("[1.0]")[0] * float(decimal.Decimal("1.0"))
    return scale * np.sum(x**3)


@pytest.mark.filterwarnings("ignore:x is:RuntimeWarning")
@pytest.mark.parametrize("f", [printed, told, cubes, checked, exported, dumped, parsed])
def test_harmless(f):
    F = differentiable(f, target="interpret")
    assert F(X) == np.sum(X**3)
    np.testing.assert_allclose(F.hvp(X, X), 6 * X * X)
    assert F(2 * X) == np.sum(8 * X**3)
    assert F.report().traces == 1


@pytest.mark.compiles
def test_what_is_only_held_is_no_reason_to_refuse(tmp_path):
    holder = Holder(tmp_path)
    F = differentiable(holder.cost, target="interpret")
    assert F(X) == np.sum(X**3)
    assert F(2 * X) == np.sum(8 * X**3)
    holder.file.close()
    assert (tmp_path / "log.txt").read_text().startswith("1.8") is False
    assert differentiable(lambda x: next(holder.numbers) * np.sum(x), trace="always")(X) == 0.0


@pytest.mark.parametrize(
    "function",
    [
        lambda x, h: next(h.count) * x[0],
        lambda x, h: sum(h.numbers) * x[0],
        lambda x, h: [*h.numbers][0] * x[0],
        lambda x, h: float(h.file.readline() or 1) * x[0],
        lambda x, h: np.fromiter(h.numbers, float)[0] * x[0],
        lambda x, h: max(zip(h.count, range(2), strict=False))[0] * x[0],
    ],
)
def test_what_cannot_be_watched_is_refused_where_it_is_read(function, tmp_path):
    holder = Holder(tmp_path)
    with pytest.raises(nbhvp.TraceError, match=rf"{HERE.name}:\d+"):
        differentiable(lambda x: function(x, holder), target="interpret")(X)
    holder.file.close()


def test_questions_are_asked_again(monkeypatch, tmp_path):
    path = tmp_path / "b.txt"
    folder, ways = str(tmp_path), 0

    def f(x):
        exists = os.path.exists(path)
        return (2.0 if exists else 1.0) * (os.getcwd() == folder) * np.sum(x) * os.getpid()

    F = differentiable(f, target="interpret")
    for change in (lambda: None, lambda: path.write_text(""), lambda: monkeypatch.chdir(folder)):
        change()
        assert F(X) == f(X)
        ways += 1
    assert F.report().traces == ways


@pytest.mark.compiles
def test_clocks_are_read_at_every_call():
    F = differentiable(lambda x: time.perf_counter() * np.sum(x), trace="always")
    assert F(X) < F(X)
