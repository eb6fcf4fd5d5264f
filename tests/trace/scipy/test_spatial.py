"""scipy.spatial.distance: SciPy's values, and the first two derivatives of these."""

import numpy as np
import pytest
import scipy.spatial
from scipy.spatial import distance

import nbhvp
from nbhvp.errors import TraceError
from nbhvp.trace.record import record
from tests.checks import assert_composition

pytestmark = pytest.mark.usefixtures("unsplit")

RNG = np.random.default_rng(20260111)
X = RNG.uniform(0.2, 2.0, (4, 3))
Y = RNG.uniform(0.2, 2.0, (2, 3))
W = np.array([0.5, 2.0, 1.0])
VI = np.array([[2.0, 0.3, 0.1], [0.3, 1.0, 0.2], [0.1, 0.2, 3.0]])
OPTIONS = {
    "sqeuclidean": ({}, {"w": W}), "euclidean": ({}, {"w": W}), "cityblock": ({}, {"w": W}),
    "chebyshev": ({}, {"w": np.array([0.0, 1.0, 2.0])}),
    "minkowski": ({"p": 3}, {"p": 2.5, "w": W}, {"p": 1}, {"p": np.inf}),
    "canberra": ({}, {"w": W}), "braycurtis": ({}, {"w": W}), "cosine": ({}, {"w": W}),
    "correlation": ({}, {"w": W}), "jensenshannon": ({},),
}  # fmt: skip
DATA = {"seuclidean": ({}, {"V": W}), "mahalanobis": ({"VI": VI},)}
CASES = [(name, o) for name, options in (OPTIONS | DATA).items() for o in options]


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_distances(name, options):
    """Of all pairs, between two sets, and of two vectors."""
    metric = getattr(distance, name)

    def fun(x):
        found = np.sum(distance.pdist(x, name, **options) ** 2)
        found += np.sum(distance.cdist(x[:2], Y, name, **options) ** 3)
        found += np.sum(distance.cdist(Y, x**2, metric=name, **options))
        return found + (metric(x[0], x[1], **options) if options or name in OPTIONS else 0)

    assert_composition(fun, X, 1e-8)


FORMS = {
    "mahalanobis of many": lambda x: distance.pdist(np.concatenate([x, x * x]), "mahalanobis"),
    "short names": lambda x: distance.pdist(x, "e") + distance.pdist(x, distance.cityblock),
    "callable": lambda x: distance.cdist(x, Y, lambda u, v: np.prod(u - v)),
    "squareform": lambda x: distance.squareform(distance.pdist(x)) @ x,
    "vector of a matrix": lambda x: distance.squareform(np.multiply.outer(x[0], x[0]) - np.diag(x[0] ** 2)),
    "no checks": lambda x: distance.squareform(x[:3] @ x[:3], checks=False),
    "distance_matrix": lambda x: scipy.spatial.distance_matrix(x, Y, p=3),
    "minkowski_distance": lambda x: scipy.spatial.minkowski_distance(x[:2], Y, 1.5),
    "base": lambda x: distance.jensenshannon(x[0], x[1], base=2.0),
    "vectors": lambda x: distance.minkowski(x[0], v=x[1], p=3, w=W) + distance.cosine(x[0], Y[1], W),
    "kernel": lambda x: np.exp(-(distance.cdist(x, x) ** 2)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*is deprecated in favor:DeprecationWarning")
@pytest.mark.parametrize("name", FORMS)
def test_forms(name):
    assert_composition(FORMS[name], X, 1e-8)


def test_errors_are_those_of_scipy_or_name_the_metrics():
    for call in (
        lambda x: distance.squareform(x @ x.T),  # its diagonal is not 0
        lambda x: distance.squareform(x[0, :2]),
        lambda x: distance.cdist(x, x[:, :2]),
        lambda x: distance.pdist(x[0]),
    ):
        with pytest.raises(ValueError, match=r".") as plain:
            call(X)
        with pytest.raises(ValueError, match=r".") as traced:
            record(call, X)
        assert str(traced.value) == str(plain.value)
    with pytest.raises(TraceError, match="'hamming' of traced vectors.*euclidean"):
        record(lambda x: distance.pdist(x, "hamming").sum(), X)


def test_squareform_stays_right_where_the_matrix_stops_being_symmetric():
    fun = lambda x: distance.squareform(np.outer(x, x[[1, 0]]) * (1 - np.eye(2))).sum()
    f = nbhvp.differentiable(fun, target="interpret")
    assert f(np.ones(2)) == 1
    with pytest.raises(ValueError, match="must be symmetric"):
        f(np.array([1.0, 2.0]))
