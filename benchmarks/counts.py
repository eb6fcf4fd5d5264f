"""Bytes and instructions of products on a GPU, without one: ``python -m benchmarks.counts``.

Per problem, the product H(x) v at a fixed point: the bytes that its kernels move per byte of the problem's
floor, and the instructions of each kernel, those in double precision among them, from the machine code that
ptxas makes for sm_90 and nvdisasm prints (wheels nvidia-cuda-nvcc and nvidia-cuda-nvdisasm). Rare ways
through divisions and roots, which are subroutines, are left aside. A kernel without inner loops runs once per
element; of others the instructions of each innermost loop are told. Beside them stands what memory alone would
take on an H200, and what the instructions of a map would.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kernels import graphs
from benchmarks.problems import MAKERS, Problem
from benchmarks.tables import micro, table
from nbhvp.graph.derive import check
from nbhvp.graph.node import Graph
from nbhvp.plan.costs import GPU
from nbhvp.plan.nests.text import Pointer, Scratch
from nbhvp.plan.schedule import MatrixProduct, schedule
from nbhvp.targets.cpu.traffic import traffic
from nbhvp.targets.cuda.kernels import matrices, nests
from nbhvp.targets.cuda.kernels.texts import Launch
from nbhvp.targets.cuda.launching.cache import NAME
from nbhvp.targets.cuda.program import needed

SIZES = {
    "rosenbrock": 10**6, "surface": (1000, 1000), "logistic": (20000, 500), "mixture": (150_000, 10, 25),
}  # fmt: skip
RATE, DOUBLE, ISSUE = 4.3e12, 132 * 64 * 1.98e9, 132 * 128 * 1.98e9
"""Of an H200, in a second: bytes, and instructions of threads in double precision and of any kind."""

ACCESS = re.compile(r"= (reads|writes)\(table, (\d+)")
BLOCK = re.compile(r"^(\.L_x_\d+):", re.MULTILINE)
SUBROUTINE = re.compile(r"^\S*__internal\S*:", re.MULTILINE)
LINE = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(@!?U?P\w+\s+)?([A-Z]\w*)([^;]*);", re.MULTILINE)
IN_DOUBLE = {"DFMA", "DADD", "DMUL", "DSETP"}


def product(problem: Problem) -> Graph:
    """The program of H(x) v at a fixed point."""
    return dict(graphs(problem.fun, problem.x0, problem.args, GPU))["product forward-over-reverse"]


def steps(graph: Graph) -> Iterator[tuple]:
    """The steps of a program on a GPU, with their launches."""
    plan = schedule(check(graph), GPU)
    for step, wanted in zip(plan.steps, needed(plan), strict=True):
        is_product = isinstance(step, MatrixProduct)
        yield step, matrices.emit(step) if is_product else nests.emit(step, wanted)


def moved(graph: Graph) -> int:
    """The bytes that the kernels of a program read and write, each array once per step."""
    total = 0
    for step, launches in steps(graph):
        total += traffic([step]).read
        for launch in launches:
            for word, k in ACCESS.findall(launch.source):
                slot = launch.slots[int(k)]
                assert isinstance(slot, Pointer)
                if word == "writes" or isinstance(slot.array, Scratch):
                    total += math.prod(slot.array.shape) * slot.array.dtype.itemsize
    return total


# Instructions.


@dataclass(frozen=True)
class Counts:
    """Instructions of a thread: all, and those in double precision."""

    all: int
    double: int


def counted(launch: Launch) -> list[Counts]:
    """The instructions of a kernel's innermost loops; of all of it, if it has none."""
    blocks = list(_blocks(SUBROUTINE.split(_machine_code(launch.source))[0]))
    places = {label: k for k, (label, _) in enumerate(blocks)}
    loops = set()
    for k, (_, lines) in enumerate(blocks):
        for name, rest in lines:
            target = re.search(r"\.L_x_\d+", rest)
            if name == "BRA" and target and places.get(target[0], k + 1) < k:
                loops.add((places[target[0]], k))
    inner = [a for a in loops if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    spans = sorted(inner) or [(0, len(blocks) - 1)]
    return [_sum(lines for _, lines in blocks[first : last + 1]) for first, last in spans]


def _sum(blocks) -> Counts:
    names = [name for lines in blocks for name, _ in lines if name != "NOP"]
    return Counts(len(names), sum(name in IN_DOUBLE for name in names))


def _blocks(code: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Labels, and the instructions behind each but those on the way to a subroutine."""
    _, *parts = BLOCK.split(f".L_x_0000:\n{code}")
    for label, part in zip(parts[::2], parts[1::2], strict=True):
        lines, kept = [], []
        for _, name, rest in LINE.findall(part):
            lines.append((name, rest))
            if name == "BRA":
                kept, lines = kept + lines, []
        is_rare = any(name == "CALL" for name, _ in lines)
        yield label, kept if is_rare else kept + lines


def _machine_code(source: str) -> str:
    from nbhvp.targets.cuda.launching.ptx import ptx

    with tempfile.TemporaryDirectory() as folder:
        text, code = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        text.write_text(ptx(source, NAME))
        subprocess.run(["ptxas", "-arch=sm_90", text, "-o", code], check=True)
        printed = subprocess.run(
            ["nvdisasm", "-c", code], capture_output=True, text=True, check=True
        )
    return printed.stdout


def section() -> None:
    rows = []
    for name, size in SIZES.items():
        problem = MAKERS[name](size)
        graph = product(problem)
        total = moved(graph)
        first = [name, f"{total / problem.floor.bytes:.3f}", micro(total / RATE)]
        for step, launches in steps(graph):
            for launch in launches if shutil.which("nvdisasm") else ():
                loops = counted(launch)
                kind = launch.source.rpartition("def ")[2].partition("_")[0]
                found = ", ".join(f"{one.all} ({one.double})" for one in loops)
                rows.append([*first, kind, f"{launch.grid}", found, _alone(step, kind, loops)])
                first = [""] * 3
        rows += [[*first, *[""] * 4]] * any(first)
    header = [
        "problem", "bytes / floor", "memory, us", "kernel", "grid", "instructions (double)", "these, us"
    ]  # fmt: skip
    print(table(header, rows))


def _alone(step, kind: str, loops: list[Counts]) -> str:
    """What the instructions of a map take."""
    if kind != "nest" or len(loops) > 1:
        return ""
    each = max(loops[0].all / ISSUE, loops[0].double / DOUBLE)
    return micro(each * max(node.size for node in step.nodes))


if __name__ == "__main__":
    section()
