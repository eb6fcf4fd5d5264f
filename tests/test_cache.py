"""Kernels on disk: loaded, never stale, written by many, repaired, and done without."""

import os
import subprocess
import sys
from pathlib import Path

import numba.core.config
import pytest

from nbhvp.compile import cache

pytestmark = pytest.mark.filterwarnings("error")

SOURCE = '''"""A test."""
from nbhvp.compile.language import kernel, writes

@kernel
def kernel_test(table, lo, hi):
    z = writes(table, 0, "f8")
    for i in range(lo, hi):
        z[i] = 1.5
'''

LOAD = """
import sys
import numba
import numpy as np
from nbhvp.compile import cache, cpu
kernel = cache.load(sys.argv[1])
z = np.zeros(3)
cpu.execute(cpu.assemble([cpu.Step(kernel.address, (cpu.Ref("z"),), 3, 2)], {"z": z.ctypes.data}))
print(kernel.compiled, z.sum())
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NBHVP_CACHE_DIR", str(tmp_path))
    # numba looks at its environment again when it next compiles: that would be too late.
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    numba.core.config.reload_config()
    monkeypatch.setattr(cache, "_kernels", {})
    return tmp_path


def again():
    """Load in this process as if for the first time."""
    cache._kernels.clear()
    return cache.load(SOURCE)


def other_process():
    arguments = [sys.executable, "-W", "error", "-c", LOAD, SOURCE]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)


def test_compiled_once_then_loaded(folder):
    before = cache.counts()
    first = cache.load(SOURCE)
    assert first.compiled and first.name == "kernel_test" and first.address
    assert cache.load(SOURCE) is first
    second = again()
    assert not second.compiled
    after = cache.counts()
    assert (after.compiled - before.compiled, after.loaded - before.loaded) == (1, 1)
    assert after.seconds > before.seconds


def test_processes_that_write_at_once(folder):
    processes = [other_process() for _ in range(4)]
    assert [process.communicate()[0].split()[1] for process in processes] == ["4.5"] * 4
    assert not again().compiled
    assert [path.suffix for path in folder.iterdir() if path.is_file()] == [".py"]


def test_the_name_covers_all_that_is_inlined(monkeypatch):
    inlined = cache.inlined(SOURCE)
    assert set(inlined) == {"nbhvp.compile.language"}
    assert "def add_reassoc" in inlined["nbhvp.compile.language"]
    names = {
        cache.digest(SOURCE, inlined),
        cache.digest(SOURCE + "\n", inlined),
        cache.digest(SOURCE, {"nbhvp.compile.language": inlined["nbhvp.compile.language"] + "#"}),
    }
    monkeypatch.setattr(cache.nbhvp, "__version__", "another", raising=False)
    names.add(cache.digest(SOURCE, inlined))
    assert len(names) == 4


def test_modules_that_modules_import_are_inlined_too(monkeypatch):
    texts = {"nbhvp.a": "from nbhvp.b import f", "nbhvp.b": "from nbhvp.a import g"}
    monkeypatch.setattr(cache, "_text", texts.__getitem__)
    assert cache.inlined("from nbhvp.a import f\n") == texts


@pytest.mark.parametrize("pattern", ["*.py", "__pycache__/*.nbi", "__pycache__/*.nbc"])
def test_a_truncated_file_is_written_anew(folder, pattern):
    cache.load(SOURCE)
    (damaged,) = folder.glob(pattern)
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    again()
    assert len(damaged.read_bytes()) == len(whole)
    assert not again().compiled


@pytest.mark.parametrize("place", ["/dev/null/kernels", "/proc/kernels"])
def test_without_a_folder_that_can_be_written(folder, monkeypatch, place):
    monkeypatch.setenv("NBHVP_CACHE_DIR", place)
    assert again().compiled


def test_a_faulty_source_says_so(folder):
    with pytest.raises(Exception, match="undefined_name"):
        cache.load(SOURCE.replace("1.5", "undefined_name"))


def test_the_platforms_folder(monkeypatch):
    monkeypatch.delenv("NBHVP_CACHE_DIR", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/there")
    assert cache.folder() == Path("/there/nbhvp")
