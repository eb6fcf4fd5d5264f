"""What a program reads, writes and computes, counted by hand for a few of them."""

import math

import numpy as np
import pytest

import nbhvp
from benchmarks.problems import make_logistic, make_rosenbrock
from nbhvp.graph import primitives as p
from nbhvp.plan.schedule import MatrixProduct, schedule
from nbhvp.targets.cpu.traffic import Traffic, traffic
from tests.checks import total
from tests.graphs import Inputs

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.compiles]


def counted(make):
    inputs = Inputs()
    graph, _ = inputs.graph(*make(inputs))
    return traffic(schedule(graph).steps)


def shifted(i):
    x = i(1001)
    return (p.gather(x, p.constant(x.pool, np.arange(1000)), axis=0) * 2.0,)


COUNTS = {
    # read, written, operations
    "map": (lambda i: (i(1000) + i(1000, name="y"),), (16_000, 8000, 1000)),
    "broadcast": (lambda i: (i(100, 10) * i(1, 10),), (8080, 8000, 1000)),
    "sum": (lambda i: (total(i(100, 10)),), (8000, 8, 1000)),
    "single precision": (lambda i: (-i(1000, dtype="f4"),), (4000, 4000, 1000)),
    "gather": (shifted, (16_000, 8000, 1000)),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    make, needed = COUNTS[name]
    found = counted(make)
    read, written, operations = needed
    assert (found.written, found.kernels, found.matrix_products) == (written, 1, 0)
    assert read <= found.read <= read + 16
    assert operations <= found.operations <= 1.01 * operations + 1


def test_matrix_products_count_exactly():
    inputs = Inputs()
    z = p.contract(inputs(20, 30), inputs(30, 5), subscripts="ij,jk->ik")
    steps = schedule(inputs.graph(z)[0]).steps
    (step,) = (step for step in steps if isinstance(step, MatrixProduct))
    assert traffic([step]) == Traffic(6000, 800, 6000.0, matrix_products=1)


def test_the_report_of_a_stencil():
    problem = make_rosenbrock(1000)
    H = nbhvp.differentiable(problem.fun).hessian(problem.x0)
    report = H.report()
    assert list(report.stored) == ["x"] and report.stored_bytes == 8000
    assert np.array_equal(report.stored["x"], problem.x0)
    assert (report.product.read, report.product.written) == (16_000, 8000)
    assert 10 * 1000 < report.product.operations < 40 * 1000
    assert 0 < report.seconds < 1e-4
    assert "reads 16,000 bytes, writes 8,000 bytes" in str(report)
    assert "x float64(1000,): 8,000 bytes" in str(report)


def test_a_matrix_that_is_read_in_one_pass_counts_once():
    problem = make_logistic((3000, 70))
    report = nbhvp.differentiable(problem.fun).hessian(problem.x0).report()
    size = 3000 * 70
    assert 8 * size < report.product.read < 1.1 * 8 * size
    assert 4 * size < report.product.operations < 1.1 * 4 * size
    assert report.stored_bytes == 8 * (3000 + 70)


def test_every_operator_reports():
    r = nbhvp.differentiable(lambda x: x**2)
    report = r.weighted_hessian(np.ones(5), np.ones(5)).report()
    assert set(report.stored) >= {"x", "w"}
    f = nbhvp.differentiable(lambda x: x @ x, target="interpret")
    assert math.isnan(f.hessian(np.ones(3)).report().seconds)


def test_compiling_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("NBHVP_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("nbhvp.targets.native.cache._kernels", {})
    make = lambda: nbhvp.differentiable(lambda x: np.sum(x**3 * 1.25))
    f = make()
    f.hvp(np.ones(300), np.ones(300))
    first = f.report()
    assert first.kernels_compiled > 0 == first.kernels_loaded
    assert min(first.compile_seconds, first.trace_seconds, first.schedule_seconds) > 0
    f.hvp(np.ones(400), np.ones(400))
    second = f.report()
    assert second.kernels_compiled == first.kernels_compiled, "another size compiles nothing"
    assert second.compile_seconds == first.compile_seconds
    assert second.trace_seconds > first.trace_seconds
    monkeypatch.setattr("nbhvp.targets.native.cache._kernels", {})
    other = make()
    other.hvp(np.ones(300), np.ones(300))
    report = other.report()
    assert (report.kernels_compiled, report.kernels_loaded) == (0, first.kernels_compiled)
