"""PTX of kernels: what the problems need assembles, keeps to registers, and reads memory in order."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from benchmarks import counts, problems
from benchmarks.kernels import graphs
from nbhvp.graph import primitives as p
from nbhvp.graph.derive import check
from nbhvp.graph.node import Graph, Pool
from nbhvp.plan.costs import CPU, GPU
from nbhvp.plan.nests.nest import Nest
from nbhvp.plan.nests.text import Symbol
from nbhvp.plan.schedule import MatrixProduct, Reduction, schedule
from nbhvp.targets.cpu.traffic import traffic
from nbhvp.targets.cuda.kernels import matrices, nests
from nbhvp.targets.cuda.launching.cache import ARCHITECTURE, NAME
from nbhvp.targets.cuda.launching.modules import joined
from nbhvp.targets.cuda.launching.ptx import REGISTERS, lowered, ptx
from nbhvp.targets.cuda.program import needed
from nbhvp.targets.lowering.values import Unknown
from tests.checks import THOROUGH
from tests.graphs import STRUCTURE, build

pytestmark = [pytest.mark.no_cover, pytest.mark.compiles]

EXTERNAL = re.compile(r"^\s*\.extern (?!\.shared)", re.MULTILINE)


SIZES = {
    "rosenbrock": 500, "surface": (40, 50), "logistic": (300, 50), "mixture": (300, 20, 25)
}  # fmt: skip
"""Those at which kernels have the shapes of large problems."""


def launches(graph: Graph):
    plan = schedule(check(graph), GPU)
    for step, wanted in zip(plan.steps, needed(plan), strict=True):
        if isinstance(step, MatrixProduct):
            yield from matrices.emit(step)
        elif isinstance(step, Nest | Reduction):
            yield from nests.emit(step, wanted)


@pytest.fixture(scope="module")
def kernels() -> dict[str, str]:
    """The PTX of what the problems need, by the texts: in the default mode all programs, else products."""
    found = set()
    for problem in [*problems.small(), *(problems.MAKERS[name](SIZES[name]) for name in SIZES)]:
        for name, graph in graphs(problem.fun, problem.x0, problem.args, GPU):
            if "reverse-over" not in name or name.startswith("product"):
                found |= {launch.source for launch in launches(graph)}
    return {source: ptx(source, NAME) for source in sorted(found)}


def test_kernels_of_the_problems(kernels):
    assert len(kernels) > 40
    for source, text in kernels.items():
        assert f".target {ARCHITECTURE}" in text
        assert f".visible .entry {NAME}(" in text
        assert not EXTERNAL.search(text)
        # Memory is known as global or shared, and what nothing writes is read as constant.
        assert not re.search(r"\b(ld|st)\.(b|f|u|s|v)\d", text)
        if "writes" in source:
            assert "st.global" in text
        for pointer in re.findall(r"^    (a\d+) = reads", source, re.MULTILINE):
            assert f"{pointer}[" in source
        assert "ld.global.nc" in text or "reads(" not in source
        assert ("ld.shared" in text) == ("shared(" in source)


def test_kernels_for_later_devices(kernels):
    for source in [*kernels][:: 1 if THOROUGH else 30]:
        assert ".target sm_80" in ptx(source, NAME, "sm_80", "75")


@pytest.mark.skipif(shutil.which("ptxas") is None, reason="needs ptxas, of nvidia-cuda-nvcc")
@pytest.mark.parametrize("architecture, part", [("sm_75", 1 if THOROUGH else 4), ("sm_90", 1)])
def test_kernels_keep_to_their_registers(kernels, architecture, part, tmp_path):
    """All as one module, as those of a program are: no value is spilled to memory."""
    path, texts = tmp_path / "module.ptx", [*kernels.values()][::part]
    path.write_text(joined(texts))
    command = ["ptxas", f"-arch={architecture}", "-v", str(path), "-o", str(tmp_path / "cubin")]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spilled = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    registers = re.findall(r"Used (\d+) registers", log)
    assert len(registers) >= len(texts)
    assert {*spilled} == {("0", "0")}
    assert max(map(int, registers)) <= REGISTERS


BYTES = {"rosenbrock": 1.0, "surface": 1.0, "logistic": 1.03, "mixture": 1.08}
"""Those that products move, in those of the problem's floor."""


@pytest.mark.parametrize("problem", BYTES)
def test_bytes_beside_the_floor(problem):
    made = problems.MAKERS[problem](counts.SIZES[problem])
    assert counts.moved(counts.product(made)) <= (BYTES[problem] + 0.005) * made.floor.bytes


@pytest.mark.parametrize("problem", [*SIZES, "lennard_jones"])
def test_computing_again_pays(problem):
    """A program planned for a GPU takes there no longer than that for a CPU: operations go on beside loads."""
    made = problems.MAKERS[problem](SIZES.get(problem, (500, 40)))

    def seconds(costs):
        name = "product forward-over-reverse"
        graph = dict(graphs(made.fun, made.x0, made.args, costs))[name]
        one = traffic(schedule(check(graph), costs).steps)
        return max(one.operations * GPU.flop, (one.read + one.written) / 8 * GPU.load)

    assert seconds(GPU) <= 1.05 * seconds(CPU)


LANES = re.compile(r"(\w+) = (?:\w+ \+ lane\(\)|warp\(\) \* 32 \+ lane\(\)|block\(\) \* )")


def scattered(launch: nests.Launch) -> list[str]:
    """Lines in which neighbouring lanes do not read neighbouring elements of a row.

    What all rows share is in a cache after the first.
    """
    lanes, found = set(), []
    numbers = {
        name: launch.slots[int(k)]
        for name, k in re.findall(r"(s\d+) = integer\(table, (\d+)\)", launch.source)
    }
    for line in launch.source.splitlines():
        if opened := LANES.search(line):
            lanes.add(opened[1])
        elif closed := re.search(r"for (\w+) in range", line):
            lanes.discard(closed[1])
        if re.search(r"\[.*\bi\b", line):
            strides = [
                one for name in lanes for one in re.findall(rf"\[.*\b{name} \* (s\d+)", line)
            ]
            found += [line] * any(numbers[one] != 1 for one in strides)
    return found


@pytest.mark.parametrize("problem", SIZES)
def test_neighbouring_lanes_read_neighbouring_elements(problem):
    made = problems.MAKERS[problem](SIZES[problem])
    programs = dict(graphs(made.fun, made.x0, made.args, GPU))
    for launch in launches(programs["product forward-over-reverse"]):
        assert not scattered(launch)


HOSTED = {
    "complex functions", "complex powers", "contract complex numbers", "argmax of the middle",
}  # fmt: skip


def test_structural_kernels():
    unknown = set()
    for name in [*STRUCTURE][:: 1 if THOROUGH else 14] + sorted(HOSTED):
        for launch in launches(build(STRUCTURE[name])[0]):
            try:
                ptx(launch.source, "kernel")
            except Unknown:
                unknown.add(name)
    assert unknown <= HOSTED


LEFT = {
    "airy_ai", "airy_ai_prime", "airy_bi", "airy_bi_prime", "beta", "betainc", "betaincc",
    "betaincinv", "betaln", "binom", "cosine_integral", "cosm1", "dawsn", "ellipe", "ellipk",
    "ellipkm1", "erfcinv", "erfi", "erfinv", "exp1", "expi", "expn", "fresnel_c", "fresnel_s",
    "gammainc", "gammaincc", "gammainccinv", "gammaincinv", "hyperbolic_cosine_integral",
    "hyperbolic_sine_integral", "i0", "i0e", "i1", "i1e", "iv", "ive", "j0", "j1", "jv", "k0",
    "k0e", "k1", "k1e", "kv", "kve", "ndtri", "ndtri_exp", "nextafter", "owens_t", "poch",
    "sine_integral", "spacing", "spence", "spherical_in", "spherical_jn", "spherical_yn", "stdtr",
    "stdtrit", "wrightomega", "y0", "y1", "yv",
}  # fmt: skip
"""Elementwise functions without a body for GPUs: the host computes them."""


PLAIN = {"add", "subtract", "multiply", "negative", "less", "equal", "where", "sqrt"}
"""What needs no assembly to show that it works."""


DTYPES = "f8", "f4", "i8", "c16", "b"
"""Of operands: each function is asked for the first two, and for others if it takes none of these."""


def applied(entry, dtype: str):
    """A function of the table, of operands of a dtype; None if it takes no such operands."""
    pool = Pool()
    inputs = [p.input_node(pool, name, (40,), np.dtype(dtype)) for name in "wxyz"[: entry.arity]]
    try:
        return Graph(tuple(inputs), (entry(*inputs, **entry.params),))
    except (TypeError, AssertionError):
        return None


def test_functions_of_the_table():
    """Each is lowered to PTX, or refused before LLVM sees it; what LLVM cannot select would end the process."""
    left, count, whole = set(), 0, set()
    for name, entry in sorted(p.TABLE.items()):
        if not entry.is_elementwise:
            continue
        found = {dtype: applied(entry, dtype) for dtype in DTYPES}
        taken = [dtype for dtype, graph in found.items() if graph is not None]
        whole |= {name} if taken else set()
        for dtype in taken[:2] if "f8" in taken else taken:
            for launch in launches(found[dtype]):
                count += 1
                if any(isinstance(slot, Symbol) for slot in launch.slots):
                    left.add(name)
                    continue
                try:
                    (lowered if name in PLAIN else ptx)(launch.source, "kernel")
                except Unknown:
                    left.add(name)
    assert count > 200
    every = {name for name, entry in p.TABLE.items() if entry.is_elementwise}
    assert every - whole == {"carry", "unknown"}, "what stands for others in a step of a recurrence"
    assert left == LEFT
