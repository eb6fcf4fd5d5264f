"""The demo, as a user runs it."""

import subprocess
import sys

import pytest

from nbhvp import demo
from nbhvp.__main__ import main
from nbhvp.targets.native import cache

pytestmark = pytest.mark.compiles


def run(*arguments, code="from nbhvp.__main__ import main; main()"):
    return subprocess.run(
        [sys.executable, "-c", code, "demo", *map(str, arguments)], capture_output=True, text=True
    )


def test_quick(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    command = ["nbhvp", "demo", "--quick", "--out", str(tmp_path / "new")]
    monkeypatch.setattr(sys, "argv", command)
    main()
    out = capsys.readouterr().out
    assert (tmp_path / "new" / "nbhvp-demo.png").stat().st_size > 10_000
    table = out.rpartition("-----\n")[2]  # lines of progress stand above, if it takes long
    rows = [line.split() for line in table.splitlines() if "exact products" in line]
    assert [row[0] for row in rows] == ["logistic", "surface", "network"]
    for row in rows:
        iterations, products, _, gradient, _ = map(float, row[-5:])
        assert products > iterations > 0
        assert gradient < 1e-4
    assert table.count("l-bfgs-b") == 3
    assert "largest eigenvalues" in out


def test_nothing_is_compiled_in_the_time_of_a_run():
    pytest.importorskip("sklearn")
    job, progress = demo.logistic_job(), demo.Progress()
    f, seconds = demo.compiled(job)
    before = cache.counts()
    exact, _ = demo.solve_exactly(job, f, progress)
    by_gradients = demo.solve_by_gradients(job, f, progress)
    assert cache.counts() == before
    assert seconds > 0
    assert abs(exact.value - by_gradients.value) < 1e-12
    assert f.report().traces == 1


@pytest.mark.parametrize("missing", ["sklearn", "matplotlib"])
def test_a_missing_extra(missing):
    code = f"import sys; sys.modules[{missing!r}] = None; from nbhvp.__main__ import main; main()"
    done = run("--quick", code=code)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert missing in line and "pip install nbhvp[demo]" in line


def test_no_command():
    done = subprocess.run([sys.executable, "-m", "nbhvp"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "demo" in done.stderr
