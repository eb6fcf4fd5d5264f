"""Constraints with exact derivatives, for SciPy's solvers."""

import numpy as np
import pytest
import scipy.optimize
from scipy.optimize import LinearConstraint, NonlinearConstraint
from scipy.sparse import issparse

import nbhvp
from tests.checks import close


@pytest.fixture
def f():
    """The distance to a point: its minimum is the projection."""
    return nbhvp.differentiable(lambda x: np.sum((x - 2) ** 2), target="interpret")


@pytest.fixture
def norm():
    return nbhvp.differentiable(lambda x, scale=1.0: scale * (x @ x), target="interpret")


@pytest.fixture
def steps():
    return nbhvp.differentiable(lambda x: x[1:] - x[:-1] ** 2, target="interpret")


GIVEN = {
    "constraint": lambda r: nbhvp.constraint(r, -np.inf, 3.0),
    "with arguments": lambda r: nbhvp.constraint(r, -np.inf, 6.0, args=2.0),
    "nonlinear": lambda r: NonlinearConstraint(r, -np.inf, 3.0),
    "dict": lambda r: {
        "type": "eq",
        "fun": nbhvp.differentiable(lambda x: 3 - x @ x, target="interpret"),
    },
    "list": lambda r: [NonlinearConstraint(r, -np.inf, 3.0), LinearConstraint(np.eye(3), 0, 5)],
}


@pytest.mark.parametrize("method", [None, "slsqp", "trust-constr"])
@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.filterwarnings("ignore:method 'slsqp' uses")
def test_the_projection_on_a_ball(f, norm, name, method):
    found = nbhvp.minimize(f, np.full(3, 0.5), constraints=GIVEN[name](norm), method=method)
    np.testing.assert_allclose(found.x, np.ones(3), atol=1e-3)


def test_derivatives_are_exact(steps):
    x, w = np.linspace(1, 2, 60), np.linspace(-1, 1, 59)
    made = nbhvp.constraint(steps, 0.0, np.inf)
    assert issparse(made.jac(x)) and made.jac(x).nnz == 2 * 59
    np.testing.assert_allclose(made.jac(x).toarray(), steps.jacobian(x).toarray())
    np.testing.assert_allclose(made.hess(x, w).toarray(), np.diag(np.append(-2 * w, 0)))
    assert isinstance(made.jac(x[:5]), np.ndarray)  # a small one
    total = nbhvp.constraint(nbhvp.differentiable(np.cumsum, target="interpret"), 0, 1)
    assert isinstance(total.jac(x), np.ndarray)  # half of its elements are entries


def test_sparse_jacobians_are_used_where_all_may_be(f, steps):
    """SciPy wants them of one kind, and the same point is found."""
    x0 = np.linspace(0.5, 1, 60)
    total = nbhvp.differentiable(lambda x: np.sum(x), target="interpret")
    several = [NonlinearConstraint(steps, -np.inf, 0.5), NonlinearConstraint(total, 0, 40)]
    needed = scipy.optimize.minimize(
        f, x0, jac=f.grad, method="SLSQP", constraints=[
            {"type": "ineq", "fun": lambda x: 0.5 - steps(x), "jac": lambda x: -steps.jacobian(x).toarray()},
            {"type": "ineq", "fun": lambda x: 40 - total(x), "jac": lambda x: -total.grad(x)},
        ],
    )  # fmt: skip
    for constraints in (several, [*several, LinearConstraint(np.eye(60), -10, 10)]):
        found = nbhvp.minimize(f, x0, constraints=constraints, bounds=[(0, 3)] * 60)
        close(found.fun, needed.fun, 1e-3)


def test_what_the_user_gives_is_kept(f, norm):
    asked = []

    def jac(x):
        asked.append(x)
        return 2 * x[None]

    given = NonlinearConstraint(norm, -np.inf, 3.0, jac=jac, hess=lambda x, w: 2 * w[0] * np.eye(3))
    np.testing.assert_allclose(
        nbhvp.minimize(f, np.full(3, 0.5), constraints=given).x, np.ones(3), atol=1e-3
    )
    assert asked
