"""Random programs: all modes and targets agree with NumPy and with one another, or an error is raised.

Thirty of them, and thirty compiled; as many as the environment variable NBHVP_RANDOM_PROGRAMS
says in a long run. A value is compared with NumPy's at two points, a gradient
and a product with differences, unless one-sided differences show a kink there; products by the three
exact modes, in batches and in symmetric pairs with one another; compiled code with the interpreter.
"""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings

import nbhvp
from nbhvp.graph import primitives as p
from nbhvp.graph.derive import EXACT_MODES, gradient, hvp
from nbhvp.graph.node import Graph
from nbhvp.trace.record import record
from tests.checks import assert_same, compiled, plain, together
from tests.programs import programs

pytestmark = pytest.mark.no_cover

COUNT = int(os.environ.get("NBHVP_RANDOM_PROGRAMS", "30"))
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
RUN = {
    "derandomize": True, "deadline": None, "database": None, "suppress_health_check": QUIET,
    "phases": [Phase.generate], "report_multiple_bugs": False,
}  # fmt: skip
"""The same programs each time; of a failing one the lines are few enough as they are."""


def close(given, needed, tolerance):
    given, needed = np.asarray(given), np.asarray(needed)
    scale = max(1.0, np.abs(needed).max(initial=0.0))
    np.testing.assert_allclose(given, needed, rtol=0, atol=tolerance * scale)


def assert_slope(function, x, direction, found):
    """A directional derivative against differences; a kink shows as two slopes, or a jump."""
    h = 1e-6
    before, at, after = (function(np.asarray(x + k * h * direction)) for k in (-1, 0, 1))
    scale = max(1.0, np.abs(at).max(initial=0.0), np.abs(found).max(initial=0.0))
    bend, change = np.abs(after - 2 * at + before), np.abs(after - before)
    if bend.max(initial=0.0) > 2e-5 * h * scale or change.max(initial=0.0) > 1e3 * h * scale:
        event("a kink")
    else:
        close((after - before) / (2 * h), found, 1e-5)


def assert_agrees(program):
    fun, x = program.function(), program.x
    f = nbhvp.differentiable(fun, target="interpret")
    try:
        value = f(x)
    except nbhvp.TraceError as refusal:
        event(f"refused: {str(refusal)[:200]}")
        return
    near = np.asarray(x + 0.01 * np.cos(np.arange(x.size)).reshape(x.shape))
    for point, found in ((x, value), (near, f(near))):
        close(found, fun(point.copy()), 1e-11)
    u, v = (np.cos(k + np.arange(x.size)).reshape(x.shape) for k in (1.0, 2.0))
    grad, product = f.grad(x), f.hvp(x, v)
    if not np.any(x == np.round(x)):  # no branch is left or taken at the point itself
        assert_slope(lambda y: fun(y.copy()), x, v, np.sum(grad * v))
        assert_slope(f.grad, x, v, product)
    for mode in EXACT_MODES[1:]:
        close(f.hvp(x, v, mode=mode), product, 1e-9)
    other = f.hvp(x, u)
    close(np.sum(u * product), np.sum(v * other), 1e-9)
    close(f.hvp(x, np.stack([u, v], -1)), np.stack([other, product], -1), 1e-11)


@settings(max_examples=COUNT, **RUN)
@given(programs())
def test_programs(program):
    assert_agrees(program)


def derived(program):
    """The graph of value, gradient and product of a program, and its inputs."""
    trace = record(program.function(), program.x, (), {})
    (node,), (value,) = trace.inputs, trace.outputs
    v = p.input_node(node.pool, "v", node.shape, node.dtype)
    graph = Graph((node, v), (value, gradient(value, node), hvp(value, node, v)))
    return graph, (program.x, np.cos(np.arange(program.x.size)).reshape(program.x.shape))


@settings(max_examples=10, **RUN)
@given(programs())
def test_kernels_as_plain_python(program):
    graph, inputs = derived(program)
    assert_same(graph, inputs, 1e-10, plain)


@pytest.mark.compiles
def test_compiled():
    """Thirty, of few lines, in one graph: compiling costs by the kernel."""
    chosen = []

    @settings(max_examples=30, **RUN)
    @given(programs(most=2))
    def collect(program):
        chosen.append(program)

    collect()
    cases = {f"{k} {program.text}": derived(program) for k, program in enumerate(chosen)}
    graph, inputs, names = together(cases)
    assert_same(graph, inputs, 1e-10, compiled, names)
