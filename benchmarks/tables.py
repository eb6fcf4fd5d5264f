"""What the benchmarks print, and the fresh processes that some of them measure."""

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["ROOT", "bar", "caches", "fresh", "micro", "reason", "table"]

ROOT = Path(__file__).resolve().parents[1]


def micro(seconds: float) -> str:
    """Microseconds, in three digits or whole."""
    return f"{1e6 * seconds:.3g}" if seconds < 1e-3 else f"{1e6 * seconds:.0f}"


def table(header, rows) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = [header, ["---"] + ["--:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bar(name: str, results: dict[str, bool | None]) -> str:
    """One line: whether a bar is met, and where not; None is what disturbed rounds say."""
    if not results:
        return f"- not measured: {name}."
    missed = [label for label, is_met in results.items() if is_met is False]
    unsure = [label for label, is_met in results.items() if is_met is None]
    verdict = "NOT MET" if missed else "undecided" if unsure else "met"
    where = [f"missed by {'; '.join(missed)}"] * bool(missed)
    where += [f"disturbed: {'; '.join(unsure)}"] * bool(unsure)
    return f"- {verdict}: {name}{' (' if where else ''}{'. '.join(where)}{')' if where else ''}."


def fresh(program: str, environment: dict[str, str], *arguments: str) -> str:
    """The output of a fresh process that runs the text of a program; its error as RuntimeError."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path} | environment
    # As at a user's: the package's own sources are compiled to bytecode at the first import only.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return done.stdout


def reason(error: Exception) -> str:
    """The last line of an error's message."""
    return str(error).splitlines()[-1]


def caches(folder) -> dict[str, str]:
    """The environment of a process whose caches, and JAX's, lie in a folder."""
    names = ("NBHVP_CACHE_DIR", "NUMBA_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR")
    return {name: str(Path(folder) / name) for name in names} | {
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PLATFORMS": "cpu",
    }
