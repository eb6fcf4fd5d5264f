"""The shared problems against oracles: complex step, mpmath, and the products derived by hand.

``f'(x) = Im f(x + i h) / h`` with h = 1e-30 loses nothing to cancellation, so closed forms must
agree with it to rounding. What accepts no complex numbers is differentiated by mpmath instead.
"""

import importlib.util
import math
from functools import partial

import mpmath
import numpy as np
import pytest

from benchmarks import hand, peers, problems, recurrences
from benchmarks.forms import FORMS
from benchmarks.programs import PROGRAMS
from nbhvp import differentiable

pytestmark = pytest.mark.no_cover

STEP = 1e-30
PROBLEMS = (*problems.small(), problems.make_mlp(((3, 4, 1), 9)))


def named(selected):
    """Parametrise by problem, with its name as the test's id."""
    return pytest.mark.parametrize("problem", selected, ids=lambda problem: problem.name)


def assert_close(given, needed, tolerance):
    """Relative error in the Euclidean norm."""
    assert given.shape == needed.shape
    assert np.linalg.norm(given - needed) <= tolerance * np.linalg.norm(needed)


@named([problem for problem in PROBLEMS if problem.complex_step])
def test_gradient_is_the_complex_step(problem):
    x = problem.x0
    steps = x + 1j * STEP * np.eye(x.size)
    oracle = np.array([problem.fun(row, *problem.args).imag / STEP for row in steps])
    assert_close(problem.gradient(x, *problem.args), oracle, 1e-12)


@named(PROBLEMS)
def test_product_is_the_complex_step_of_the_gradient(problem):
    x, v = problem.x0, problem.v
    oracle = problem.gradient(x + 1j * STEP * v, *problem.args).imag / STEP
    assert_close(problem.hvp(x, v, *problem.args), oracle, 1e-12)


def logistic_in_mpmath(w, problem):
    X, y, l2 = (problem.data[key] for key in ("X", "y", "l2"))
    margins = [label * mpmath.fdot(row.tolist(), w) for row, label in zip(X, y, strict=True)]
    losses = [mpmath.log1p(mpmath.exp(-margin)) for margin in margins]
    return mpmath.fsum(losses) / len(losses) + l2 / 2 * mpmath.fdot(w, w)


def transcendental_in_mpmath(x, problem):
    a, b, c, d, e = x
    return (
        mpmath.exp(a * b) * mpmath.sin(c)
        + mpmath.tanh(e) * mpmath.log(1 + d**2)
        + mpmath.cos(d * e) * mpmath.sqrt(1 + a**2)
    )


@pytest.mark.parametrize(
    "problem, reference",
    [
        (problems.make_logistic((8, 3), seed=1), logistic_in_mpmath),
        (problems.make_transcendental(5, seed=1), transcendental_in_mpmath),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_closed_forms_are_those_of_mpmath(problem, reference):
    x, v = problem.x0, problem.v
    with mpmath.workdps(50):
        at, along = [[mpmath.mpf(float(value)) for value in vector] for vector in (x, v)]

        def moved(s, t, axis):
            point = [a + t * b for a, b in zip(at, along, strict=True)]
            point[axis] += s
            return reference(point, problem)

        value = float(reference(at, problem))
        gradient, product = (
            [float(mpmath.diff(partial(moved, axis=i), (0, 0), order)) for i in range(x.size)]
            for order in ((1, 0), (1, 1))
        )
    assert problem.fun(x) == pytest.approx(value, rel=1e-14)
    assert_close(problem.gradient(x), np.array(gradient), 1e-13)
    assert_close(problem.hvp(x, v), np.array(product), 1e-13)


@named([problem for problem in PROBLEMS if not problem.complex_step])
def test_gradient_is_that_of_differences(problem):
    """Five points: with h = 1e-3 the truncation h^4 and the rounding eps / h are 1e-12 alike."""

    def along(t):
        return problem.fun(problem.x0 + t * problem.v)

    h = 1e-3
    slope = (along(-2 * h) - 8 * along(-h) + 8 * along(h) - along(2 * h)) / (12 * h)
    assert slope == pytest.approx(problem.gradient(problem.x0) @ problem.v, rel=1e-9)


def test_each_atom_has_its_neighbours_in_the_mean():
    pairs = problems.make_lennard_jones((60, 10)).data
    assert pairs["i"].size == 300 and np.all(pairs["i"] < pairs["j"])
    assert len(set(zip(pairs["i"].tolist(), pairs["j"].tolist(), strict=True))) == 300


@pytest.mark.compiles
@named(PROBLEMS)
def test_value_as_a_plain_loop(problem):
    value = hand.value(problem)
    if value is not None:
        assert value(problem.x0) == pytest.approx(problem.fun(problem.x0), rel=1e-13)


@named(PROBLEMS)
def test_product_is_symmetric(problem):
    u = problem.v[::-1]
    left = u @ problem.hvp(problem.x0, problem.v, *problem.args)
    right = problem.v @ problem.hvp(problem.x0, u, *problem.args)
    assert left == pytest.approx(right, rel=1e-11)


@pytest.mark.compiles
@named(PROBLEMS)
def test_hand_derived_product_is_the_closed_form(problem):
    check_hand(problem, threads=1)


@pytest.mark.compiles
@named([problem for problem in PROBLEMS if problem.name in hand.PARALLEL])
def test_parallel_hand_derived_product_is_the_closed_form(problem):
    check_hand(problem, threads=2)


def check_hand(problem, threads):
    product = hand.prepare(problem, problem.x0, threads)
    out = np.full(problem.x0.size, np.nan)
    for v in (problem.v, problem.v[::-1].copy()):
        assert product(v, out) is out
        assert_close(out, problem.hvp(problem.x0, v, *problem.args), 1e-12)


def peers_at_hand():
    """The peers that are installed: the extra `peers` is not one of the tests'."""
    modules = {"PyTorch": "torch", "CasADi": "casadi", "autograd": "autograd"}
    for name in peers.PEERS:
        missing = importlib.util.find_spec(modules.get(name, "jax")) is None
        yield pytest.param(name, marks=pytest.mark.skipif(missing, reason=f"needs {name}"))


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("peer", list(peers_at_hand()))
@named([problem for problem in PROBLEMS if problem.name in peers.FUNCTIONS])
def test_products_of_peers_are_the_closed_form(problem, peer, monkeypatch):
    monkeypatch.setattr(peers, "_in_c", lambda casadi, function: None)  # a compiler takes seconds
    product = peers.PEERS[peer](problem, 1)
    if product is None:
        pytest.skip("not written for this package")
    for v in (problem.v, problem.v[::-1].copy()):
        assert_close(product(v), problem.hvp(problem.x0, v), 1e-12)
    first = product(problem.v)
    kept = first.copy()
    product(problem.v[::-1].copy())
    np.testing.assert_array_equal(first, kept)  # a result is the caller's own


@pytest.mark.parametrize("label", [label for label, p in PROGRAMS.items() if p.form is not None])
def test_forms_of_programs_are_the_programs(label):
    program = PROGRAMS[label]
    x, _, args = program.make()
    fun = getattr(program.fun, "py_func", program.fun)
    assert math.isclose(fun(x, *args), program.form(x, *args), rel_tol=1e-12)


@pytest.mark.parametrize("label", FORMS)
def test_forms_in_loops_and_in_arrays_are_one_function(label):
    form = FORMS[label][0](400)
    value = form.loops.py_func(form.x, *form.args)
    np.testing.assert_allclose(value, form.arrays(form.x, *form.args), rtol=1e-12)


@pytest.mark.compiles
@pytest.mark.parametrize("label", ["bundle adjustment", "laplacian"])
def test_products_of_forms_are_the_same(label):
    form = FORMS[label][0](800)
    v = np.cos(np.arange(form.x.size))
    in_loops = differentiable(form.loops, target="interpret").hvp(form.x, v, *form.args)
    arrays = differentiable(lambda x: form.arrays(x, *form.args), target="interpret")
    assert_close(in_loops, arrays.hvp(form.x, v), 1e-11)
    if form.prepare is not None:
        by_hand = form.prepare(form.x, *form.args)(v, np.empty_like(v))
        assert_close(by_hand, in_loops, 1e-11)


@pytest.mark.parametrize("label", recurrences.FIELDS)
def test_forms_of_loops_over_time_are_the_loops(label):
    problem = recurrences.FIELDS[label]
    x, *args = problem.data(9)
    np.testing.assert_allclose(problem.form(x, *args), problem.text(x, *args), rtol=1e-12)


@pytest.mark.compiles
@pytest.mark.parametrize("label", ["Van der Pol", "GARCH(1,1)", *recurrences.FIELDS])
def test_products_of_loops_over_time_by_hand(label):
    problem = {**recurrences.LOOPS, **recurrences.FIELDS}[label]
    product = recurrences.by_hand(problem, 9)
    if product is None:
        return
    x = recurrences.point(problem, 9)[0]
    v = np.cos(np.arange(x.size))
    f = differentiable(recurrences.fun(problem, 9), target="interpret")
    np.testing.assert_allclose(product(v), f.hvp(x, v), rtol=1e-9, atol=1e-11)
