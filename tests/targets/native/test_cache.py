"""Kernels on disk: loaded, never stale, written by many, repaired, and done without."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nbhvp import disk
from nbhvp.__main__ import main
from nbhvp.loops.recording import cache as loops_cache
from nbhvp.targets.native import cache, machine, threads

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.compiles]

SOURCE = '''"""A test."""
from nbhvp.targets.native.language import kernel, writes

@kernel
def kernel_test(table, lo, hi):
    z = writes(table, 0, "f8")
    for i in range(lo, hi):
        z[i] = 1.5
'''

LOAD = """
import sys
import numpy as np
from nbhvp.targets.native import cache
from nbhvp.targets.cpu import run as cpu
kernel = cache.load(sys.argv[1])
z = np.zeros(3)
cpu.execute(cpu.assemble([cpu.Step(kernel.address, (cpu.Ref("z"),), 3, 2)], {"z": z.ctypes.data}))
print(kernel.compiled, z.sum())
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NBHVP_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "_kernels", {})
    return tmp_path


def files(folder):
    return [path.name for path in folder.iterdir()]


def again():
    """Load in this process as if for the first time."""
    cache._kernels.clear()
    return cache.load(SOURCE)


def other_process(code=LOAD):
    arguments = [sys.executable, "-B", "-W", "error", "-c", code, SOURCE]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
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


def test_several_at_once_are_as_each_alone(folder, monkeypatch):
    monkeypatch.setattr(machine, "threads", lambda: 3)
    texts = [SOURCE.replace("1.5", f"{k}.5") for k in range(5)]
    keys = [(text, effort) for text in texts for effort in machine.Effort]
    faulty = SOURCE.replace("1.5", "undefined_name"), machine.Effort.FULL

    def interrupted(k, total):
        if k == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.compiled_at_once(keys, interrupted)
    codes = cache.compiled_at_once([*keys, faulty], lambda k, total: None)
    assert list(codes) == keys
    monkeypatch.setattr(cache, "compiled", None)  # nothing is compiled again
    for source, effort in keys:
        assert cache.load(source, effort, codes).compiled
    assert cache.compiled_at_once(keys, interrupted) == {}
    monkeypatch.undo()
    for source, effort in keys:
        alone = cache.compiled(source, cache._file_name(source, effort), effort)
        assert alone.object_code == codes[source, effort]


def test_threads_end_before_their_modules_do():
    """Each Ctrl-C while they are waited for is one more wait."""

    class Pool:
        waits = 0

        def shutdown(self, cancel_futures):
            self.waits += 1
            if self.waits < 3:
                raise KeyboardInterrupt

    pool = Pool()
    with pytest.raises(KeyboardInterrupt):
        threads._end(pool)
    assert pool.waits == 3


def test_processes_that_write_at_once(folder):
    processes = [other_process() for _ in range(4)]
    assert [process.communicate()[0].split()[1] for process in processes] == ["4.5"] * 4
    assert not again().compiled
    assert sorted(files(folder)) == [path.name for path in disk.files()]
    assert len(files(folder)) == 2  # that which runs kernels is the other


def test_the_name_covers_all_that_is_inlined(monkeypatch):
    inlined = cache.inlined(SOURCE)
    parts = (
        "native.language", "native.machine", "lowering.lower", "lowering.walk",
        "lowering.arithmetic", "lowering.scalars.circular",
    )  # fmt: skip
    assert {f"nbhvp.targets.{part}" for part in parts} <= set(inlined)
    assert "def add_reassoc" in inlined["nbhvp.targets.native.language"]
    names = {
        cache.digest(SOURCE, inlined),
        cache.digest(SOURCE + "\n", inlined),
        cache.digest(
            SOURCE,
            {"nbhvp.targets.native.language": inlined["nbhvp.targets.native.language"] + "#"},
        ),
    }
    monkeypatch.setattr(cache, "__version__", "another")
    names.add(cache.digest(SOURCE, inlined))
    monkeypatch.setattr(machine, "_numba_version", lambda: "99.0")
    names.add(cache.digest(SOURCE, inlined))
    monkeypatch.setenv("NUMBA_OPT", "0")
    names.add(cache.digest(SOURCE, inlined))
    assert len(names) == 6


def test_modules_that_modules_import_are_inlined_too(monkeypatch):
    texts = {"nbhvp.a": "from nbhvp.b import f", "nbhvp.b": "from nbhvp.a import g"}
    monkeypatch.setattr(cache, "_text", texts.__getitem__)
    monkeypatch.setattr(cache, "COMPILERS", ["nbhvp.a"])
    assert cache.inlined("from nbhvp.a import f\n") == texts


@pytest.mark.parametrize(
    "damage", [lambda code: code[: len(code) // 2], lambda code: b"", bytes.swapcase]
)
def test_a_damaged_file_is_written_anew(folder, damage):
    cache.load(SOURCE)
    (file,) = disk.files()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert again().compiled
    assert len(file.read_bytes()) > 0.9 * len(whole)
    assert not again().compiled


def test_a_file_under_the_name_of_another_is_not_executed(folder):
    other = SOURCE.replace("kernel_test", "kernel_other").replace("4.5", "9.0")
    cache.load(SOURCE)
    (file,) = disk.files()
    content = file.read_bytes()
    for name in (
        cache.digest(other, cache.inlined(other)),
        "kernel_recorder_0",
        "kernel_",
        file.stem + "0",
    ):
        path = disk.path_of(name)
        path.write_bytes(content)
        assert disk.read(path) is None
        assert disk.read(file) is not None
    cache.load(other)
    assert disk.read(disk.path_of(cache.digest(other, cache.inlined(other)))) is not None


@pytest.mark.parametrize("place", ["/dev/null/kernels", "/proc/kernels"])
def test_without_a_folder_that_can_be_written(folder, monkeypatch, place):
    monkeypatch.setenv("NBHVP_CACHE_DIR", place)
    assert again().compiled
    assert disk.files() == []


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
"""


def test_with_a_full_disk(folder, monkeypatch):
    pytest.importorskip("resource")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder / "numba"))
    process = other_process(FULL + LOAD)
    assert process.communicate()[0].split() == ["True", "4.5"] and process.returncode == 0
    assert disk.files() == []


def test_files_that_nobody_uses_go(folder):
    cache.load(SOURCE)
    (used,) = disk.files()
    unused = folder / used.name.replace("kernel_", "kernel_0")
    day = disk.DAY
    for path, age in ((used, 2), (unused, disk.KEPT + 1)):
        path.write_bytes(used.read_bytes())
        os.utime(path, (0, time.time() - age * day))
    again()
    assert time.time() - used.stat().st_mtime < day
    disk.forget_old.cache_clear()
    cache._kernels.clear()
    cache.load(SOURCE + "\n")
    assert used.exists() and not unused.exists()


def test_the_command_line(folder, capsys, monkeypatch):
    cache.load(SOURCE)
    size = disk.files()[0].stat().st_size
    for arguments, kernels in ([], 1), (["--clear"], 0), ([], 0):
        monkeypatch.setattr(sys, "argv", ["nbhvp", "cache", *arguments])
        main()
        given = capsys.readouterr().out
        assert str(folder) in given and f"{kernels} kernels, {kernels * size:,} bytes" in given
    assert files(folder) == []


def test_a_faulty_source_says_so(folder):
    with pytest.raises(Exception, match="undefined_name"):
        cache.load(SOURCE.replace("1.5", "undefined_name"))


def test_the_platforms_folder(monkeypatch):
    monkeypatch.delenv("NBHVP_CACHE_DIR", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/there")
    assert disk.folder() == Path("/there/nbhvp")
    monkeypatch.setenv("NBHVP_CACHE_DIR", "")  # as if it were not set
    assert disk.folder() == Path("/there/nbhvp")


@pytest.mark.parametrize("save", [loops_cache.RecorderCache.save_overload])
def test_an_interrupt_while_code_is_handed_over_stays_one(save, monkeypatch):
    """LLVM calls Python from C there, which drops what is raised: no code is left."""
    monkeypatch.setattr(loops_cache, "_has_addresses", lambda library: False)
    result = SimpleNamespace(library=SimpleNamespace(_compiled_object=None))
    with pytest.raises(KeyboardInterrupt):
        save(object(), "signature", result)


WITHOUT_NUMBA = """
import sys
import numpy as np
import nbhvp

H = nbhvp.differentiable(lambda x: np.sum(np.sin(x) * x[::-1]) + x @ x).hessian(np.ones(5))
print((H @ np.ones(5)).sum().round(9), "numba" in sys.modules, "nbhvp.targets.lowering.lower" in sys.modules)
"""


def test_nothing_of_numbas_is_imported_for_kernels_and_no_translation_for_those_on_the_disk(folder):
    needed = round(5 * (2 + 2 * np.cos(1) - np.sin(1)), 9)
    for is_translated in (True, False):
        value, *modules = other_process(WITHOUT_NUMBA).communicate()[0].split()
        assert float(value) == needed and modules == ["False", str(is_translated)]


JITLESS = """
import numpy as np
import nbhvp

f = lambda x: np.sum(x**3)
print(nbhvp.differentiable(f, target="interpret").grad(np.ones(2)).tolist())
try:
    nbhvp.differentiable(f)
except RuntimeError as error:
    print(error)
"""


def test_without_compiling_at_all():
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-c", JITLESS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    first, second = done.stdout.splitlines()
    assert first == "[3.0, 3.0]"
    assert "NUMBA_DISABLE_JIT" in second and "interpret" in second
