"""HessianOperator and JacobianOperator at every door of SciPy's linear algebra."""

import functools
import gc
import operator as arithmetic
import pickle

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sparse
import scipy.sparse.linalg as sparse_linalg
from scipy.optimize import NonlinearConstraint, rosen_hess
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import nbhvp
from nbhvp.graph import derive
from nbhvp.graph.linear_map import LinearMap
from nbhvp.operators.linear import HessianOperator

N = 20
both_targets = pytest.mark.parametrize("target", ["interpret", "cpu"])


interpreted = functools.partial(nbhvp.differentiable, target="interpret")


@interpreted
def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


@interpreted
def shaped(x, scale=1.0):
    """Of x of shape (2, 3), with state."""
    return scale * np.sum(np.exp(x[0] * x[1])) + np.sum(x**4)


@interpreted
def residuals(x):
    """Of shape (2, 2), for x of shape (3,)."""
    return np.stack([np.stack([x[0] * x[1], np.exp(x[2])]), np.stack([x[0] ** 2, x[1] * x[2]])])


def sum_of_cubes(z, scale):
    return scale * np.sum(z**3)


def residual_jacobian(x):
    a, b, c = x
    return np.array([[b, a, 0], [0, 0, np.exp(c)], [2 * a, 0, 0], [0, c, b]])


@pytest.fixture
def point():
    return np.random.default_rng(1).normal(size=N)


@pytest.fixture(params=["interpret", "cpu"])
def H(request, point):
    return nbhvp.differentiable(rosenbrock.__wrapped__, target=request.param).hessian(point)


@pytest.fixture
def dense(point):
    return rosen_hess(point)


@pytest.fixture
def positive():
    """An operator that is positive definite, with its array."""
    x = np.ones(N)
    return rosenbrock.hessian(x), rosen_hess(x)


def close(given, needed, tolerance=1e-12):
    np.testing.assert_allclose(given, needed, atol=tolerance * np.abs(needed).max(), rtol=0)


# The contract of a LinearOperator.


def test_shape_dtype_and_kind(H):
    assert isinstance(H, LinearOperator) and aslinearoperator(H) is H
    assert H.shape == (N, N) and H.dtype == np.float64 and H.ndim == 2
    assert H.products == 0, "SciPy must not probe for the dtype"


@pytest.mark.parametrize("shape", [(N,), (N, 1), (N, 3), (N, 0)])
@pytest.mark.parametrize("dtype", [float, np.float32, int, complex])
def test_every_way_to_multiply(H, dense, shape, dtype):
    v = (10 * np.random.default_rng(2).normal(size=shape)).astype(dtype)
    if dtype is complex:
        v = v + 1j * v[::-1]
    products = [H @ v, H.dot(v), H * v, H.T @ v, H.H @ v, np.dot(H, v), (v.T @ H).T]
    if len(shape) == 2:
        products += [H.matmat(v), H.rmatmat(v)]
    if v.size == N:
        products += [H.matvec(v), H.rmatvec(v)]
    for product in products:
        assert product.shape == shape
        np.testing.assert_allclose(product, dense @ v, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("shape", [(), (N - 1,), (N + 1, 2), (1, N), (N, 1, 1)])
def test_wrong_vectors(H, shape):
    with pytest.raises(ValueError, match=rf"\({N},\)|expected 1-d or 2-d|Scalar"):
        H @ np.ones(shape)
    with pytest.raises(ValueError, match=rf"\({N},\)"):
        H.matvec(np.ones(shape))


def test_strided_and_read_only_vectors(H, dense):
    v = np.random.default_rng(3).normal(size=(N, 2))
    close(H @ v[:, 0], dense @ v[:, 0])
    close(H @ v[::-1, 1], dense @ v[::-1, 1])
    v.flags.writeable = False
    close(H @ v, dense @ v)


@both_targets
def test_operators_are_flat(target):
    f = nbhvp.differentiable(shaped.__wrapped__, target=target)
    x = np.linspace(-1, 1, 6).reshape(2, 3)
    H = f.hessian(x, 2.0)
    assert H.shape == (6, 6)
    v = np.cos(x)
    product = H @ v.ravel()
    assert product.shape == (6,)
    close(product, f.hvp(x, v, 2.0).ravel())
    assert H.gradient.shape == (2, 3)
    close(H.gradient, f.grad(x, 2.0))
    assert H.value == pytest.approx(f(x, 2.0), rel=1e-15)
    close(H.toarray(), H.toarray().T)
    close(H.diagonal(), np.diag(H.toarray()))


def test_arrays_on_request_only(H, dense):
    close(H.toarray(), dense)
    close(H.diagonal(), np.diag(dense))
    for make in (np.asarray, np.linalg.norm, np.linalg.cholesky):
        with pytest.raises(TypeError, match="toarray"):
            make(H)
    assert np.shape(H) == (N, N) and not np.iscomplexobj(H)


def test_scipy_algebra(H, dense):
    v = np.random.default_rng(4).normal(size=N)
    identity = aslinearoperator(np.eye(N))
    pairs = [
        (H + 0.1 * identity, dense + 0.1 * np.eye(N)),
        (-H, -dense),
        (2 * H, 2 * dense),
        (H / 4, dense / 4),
        (H - identity, dense - np.eye(N)),
        (H @ H, dense @ dense),
        (H**2, dense @ dense),
        ((H + 1j * identity).H, dense - 1j * np.eye(N)),
    ]
    for operator, array in pairs:
        assert operator.dtype is not None
        close(operator @ v, array @ v)


# Sums and products with matrices, sparse and dense.

SMALL = np.array([1.0, 2.0, 3.0])
SPARSE = np.array([[1.0, 2, 0], [0, 0, 1], [4, 0, 0]])
MATRICES = {
    "eye_array": lambda: sparse.eye_array(3),
    "eye": lambda: sparse.eye(3),
    "csr_array": lambda: sparse.csr_array(SPARSE),
    "csc_matrix": lambda: sparse.csc_matrix(SPARSE),
    "coo_array": lambda: sparse.coo_array(SPARSE),
    "dok_array": lambda: sparse.dok_array(SPARSE),
    "lil_matrix": lambda: sparse.lil_matrix(SPARSE),
    "float32": lambda: sparse.csr_array(SPARSE, dtype=np.float32),
    "complex": lambda: sparse.csr_array(1j * SPARSE),
    "dense": lambda: SPARSE,
    "integers": lambda: np.arange(9).reshape(3, 3),
    "operator": lambda: aslinearoperator(SPARSE),
    "operator of sparse": lambda: aslinearoperator(sparse.csr_array(SPARSE)),
}


@functools.cache
def small_operators():
    f = nbhvp.differentiable(lambda x: np.sum(x**4) + np.prod(x), target="interpret")
    r = nbhvp.differentiable(lambda x: np.stack([x[0] * x[1], x[2] ** 2]), target="interpret")
    x, unravel = nbhvp.ravel({"a": SMALL, "b": 1.0})
    g = nbhvp.differentiable(lambda p: np.sum(p["a"] ** 3), unravel=unravel, target="interpret")
    H, J = f.hessian(SMALL), r.jacobian(SMALL)
    return {
        "H": H,
        "J.T @ J": J.T @ J,
        "2 H - I": 2 * H - sparse.eye_array(3),
        "block": g.hessian(x).block("a"),
        "identity": nbhvp.identity(3),
        "damped": H.damped(0.5),
        "damped by a diagonal": (J.T @ J).damped(SMALL),
        "damped, complex": H.damped(1 + 2j),
        "block of a Jacobian": interpreted(lambda p: p["a"] ** 3, unravel=unravel)
        .jacobian(x)
        .block("a"),
        "Gauss-Newton": nbhvp.gauss_newton(r)(SMALL),
    }


KINDS = list(small_operators())


def as_array(given):
    if sparse.issparse(given):
        return given.toarray()
    return given @ np.eye(given.shape[1]) if isinstance(given, LinearOperator) else given


def assert_operator(operator, array):
    """That all its products are those of an array, its own transpose's too."""
    rng = np.random.default_rng(0)
    v, w = rng.normal(size=(array.shape[1], 2)), rng.normal(size=(array.shape[0], 2))
    assert operator.shape == array.shape and operator.dtype == array.dtype
    close(operator @ v, array @ v)
    close(operator.matmat(v), array @ v)
    close(operator.matvec(v[:, 0]), array @ v[:, 0])
    close(operator.rmatmat(w), array.conj().T @ w)
    close(operator.rmatvec(w[:, 0]), array.conj().T @ w[:, 0])
    close(operator.T @ w, array.T @ w)
    close(operator.H @ w, array.conj().T @ w)
    left, right = np.vdot(w[:, 0], operator @ v[:, 0]), np.vdot(operator.H @ w[:, 0], v[:, 0])
    assert left == pytest.approx(right, rel=1e-12)


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("kind", KINDS)
def test_algebra_with_matrices(kind, name):
    operator, matrix = small_operators()[kind], MATRICES[name]()
    mine, theirs = as_array(operator), as_array(matrix)
    for combine in (arithmetic.add, arithmetic.sub, arithmetic.matmul):
        for pair, arrays in [
            ((operator, matrix), (mine, theirs)),
            ((matrix, operator), (theirs, mine)),
        ]:
            found, needed = combine(*pair), combine(*arrays)
            if isinstance(found, LinearOperator):
                assert_operator(found, needed)
            else:
                assert combine is arithmetic.matmul and type(found) is np.ndarray
                close(found, needed)
            if isinstance(pair[0], LinearOperator) and not isinstance(matrix, LinearOperator):
                close((2 * operator + matrix).toarray(), 2 * mine + theirs)
                close((operator - matrix).diagonal(), np.diag(mine - theirs))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "damped, complex"])
def test_algebra_of_operators(kind):
    H = small_operators()[kind]
    array, zero, two = as_array(H), np.array(0.0), np.array(2.0)
    for found, needed in [
        (sum([H, H, H]), 3 * array),
        (0.0 + H - 0, array),
        (H + zero[()], array),
        (0 - H, -array),
        (np.float64(2) * H, 2 * array),
        (H * two, 2 * array),
        (two * H / 4, array / 2),
        (H.T @ H, array.T @ array),
        ((H @ H) ** 2, np.linalg.matrix_power(array, 4)),
        (H**0, np.eye(3)),
        (1j * H + H, (1 + 1j) * array),
        (H + H.T - (H - H.H), 2 * array),
        (pickle.loads(pickle.dumps(H + 2 * sparse.eye_array(3))), array + 2 * np.eye(3)),
    ]:
        assert_operator(found, needed)
    shifted = sum([H, H]) + 50 * sparse.eye_array(3)
    right = sparse_linalg.eigsh(shifted, k=1, return_eigenvectors=False)[0]
    assert right == pytest.approx(np.linalg.eigvalsh(2 * array + 50 * np.eye(3))[-1])
    solution, info = sparse_linalg.cg(shifted, SMALL, rtol=1e-12)
    close((2 * array + 50 * np.eye(3)) @ solution, SMALL, 1e-9)


def test_rectangular_operators():
    r = nbhvp.differentiable(lambda x: np.stack([x[0] * x[1], x[2] ** 2]), target="interpret")
    J = r.jacobian(SMALL)
    array = J.toarray()
    for found, needed in [(2 * J, 2 * array), (J.T, array.T), (J.T.T, array), (-J.H, -array.T)]:
        assert_operator(found, needed)
        close(found.toarray(), needed)
    close(J @ sparse.eye_array(3), array)
    close(sparse.eye_array(2) @ J, array)
    with pytest.raises(ValueError, match=r"square operator, got one of shape \(2, 3\)"):
        (2 * J).diagonal()


@pytest.mark.parametrize("kind", ["H", "2 H - I", "identity", "damped"])
def test_what_does_not_add_up(kind):
    H = small_operators()[kind]
    for term in (1.0, np.float64(2), SMALL, np.ones((3, 1, 3))):
        for combine in (arithmetic.add, arithmetic.sub):
            for pair in ((H, term), (term, H)):
                with pytest.raises(TypeError, match=r"shape \(3, 3\) to add, got .*eye_array"):
                    combine(*pair)
    for term in (np.eye(2), sparse.eye_array(4)):
        with pytest.raises(ValueError, match="shape mismatch"):
            H + term
        with pytest.raises(ValueError, match=r"\(3,\) or \(3, k\)|[dD]imension mismatch"):
            H @ term
    for term in (None, [1.0], object()):
        with pytest.raises(TypeError, match="unsupported operand"):
            H + term
    for make in (np.asarray, np.linalg.eigvalsh):
        with pytest.raises(TypeError, match=r"pass \.toarray\(\)"):
            make(H)


@pytest.mark.parametrize("kind", KINDS)
def test_damped_operators(kind):
    H = small_operators()[kind]
    array, d = as_array(H), np.array([1.0, 0.0, 3.0])
    for c in (0.5, 2, 1j, np.float64(0.1), np.array(0.1), d, 1j * d):
        needed = array + c * np.eye(3)
        assert_operator(H.damped(c), needed)
        close(H.damped(c).toarray(), needed)
        close(H.damped(c).diagonal(), needed.diagonal())
    again = pickle.loads(pickle.dumps(H.damped(d)))
    close(again @ SMALL, (array + np.diag(d)) @ SMALL)


def test_damping_keeps_single_precision():
    H = interpreted(lambda x: np.sum(x**4)).hessian(SMALL.astype(np.float32))
    assert H.damped(0.5).dtype == (H.damped(0.5) @ H.gradient).dtype == np.float32


def test_what_does_not_damp():
    H, J = small_operators()["H"], residuals.jacobian(SMALL)
    for c in (np.ones(2), np.ones((3, 3)), "1", None):
        with pytest.raises(
            ValueError, match=r"c must be a number or an array of shape \(3,\), got"
        ):
            H.damped(c)
    with pytest.raises(ValueError, match=r"square operator to damp, got one of shape \(4, 3\)"):
        J.damped(1.0)


def test_blocks_of_jacobians():
    x, unravel = nbhvp.ravel({"a": SMALL, "b": 2.0})
    r = interpreted(lambda p: p["b"] * p["a"] ** 2, unravel=unravel)
    J = r.jacobian(x)
    array = J.toarray()
    assert_operator(J.block("b"), array[:, 3:])
    assert_operator(J.block("a", slice(1, None)), array[1:, :3])
    close(J.block("a").toarray(), array[:, :3])
    with pytest.raises(KeyError, match="no part of the tree"):
        J.block("c")
    with pytest.raises(ValueError, match="without a step"):
        J.block("a", slice(None, None, 2))
    with pytest.raises(TypeError, match="its Jacobian has no names"):
        residuals.jacobian(SMALL).block("a")


# Reports count products.


def test_reports_count_the_products_of_operators():
    f = nbhvp.differentiable(lambda x: np.sum(x**4), target="interpret")
    r = nbhvp.differentiable(lambda x: x[1:] * x[:-1], target="interpret")
    x = np.linspace(1, 2, 6)
    H, J = f.hessian(x), r.jacobian(x)

    runs = [
        (f, lambda H: H @ x, 1),
        (f, lambda H: H.matmat(np.ones((6, 4))), 4),
        (f, lambda H: H.toarray(), 6),
        (f, lambda H: (2 * H + sparse.eye_array(6)) @ x, 1),
        (f, lambda H: f.hvp(x, x), 1),
        (f, lambda H: f.weighted_hessian(x, 2.0) @ x, 1),
        (f, lambda H: sparse_linalg.cg(H, np.ones(6), maxiter=2), 2),
        (f, lambda H: sparse_linalg.eigsh(H, k=1, maxiter=20), None),
        (f, lambda H: nbhvp.minimize(f, x), None),
        (r, lambda H: (J @ x, J.T @ x[1:], J.T @ (J @ x)), 4),
    ]
    for function, run, needed in runs:
        before, own = function.report().product_runs, H.products
        result = run(H)
        counted = function.report().product_runs - before
        assert counted == (needed or getattr(result, "nhvp", H.products - own)) > 0
    before = f.report().product_runs
    del H
    gc.collect()
    assert f.report().product_runs == before, "products outlive their operators"


def test_reports_print_as_tables():
    f = nbhvp.differentiable(lambda x: np.sum(x**4), target="interpret")
    f.hessian(SMALL).toarray()
    lines = str(f.report()).splitlines()
    rows = [line.split() for line in lines]
    assert rows[:2] == [["target", "interpret"], ["traces", "1"]]
    assert ["product", "runs", "3"] in rows
    assert len({line.rindex("  ") for line in lines}) == 1, "one column of names, one of values"
    page = f.report()._repr_html_()
    assert page.count("<tr>") == len(lines) and ">product runs</th>" in page


def test_operators_keep_their_point(point):
    x = point.copy()
    H = rosenbrock.hessian(x)
    before = H.toarray()
    x[:] = 0.0
    rosenbrock.hvp(x, np.ones(N))
    np.testing.assert_array_equal(H.toarray(), before)


@pytest.mark.compiles
def test_pickles(point):
    for operator in (
        rosenbrock.hessian(point),
        shaped.hessian(np.ones((2, 3)), scale=3.0),
        residuals.jacobian(np.arange(3.0)),
        residuals.weighted_hessian(np.arange(3.0), np.ones((2, 2))),
        nbhvp.gauss_newton(residuals)(np.arange(3.0)),
        nbhvp.gauss_newton(residuals, sum_of_cubes)(np.arange(3.0), loss_args=(2.0,)),
        nbhvp.fisher(residuals, "poisson", "monte-carlo", rng=1)(np.arange(3.0)),
    ):
        again = pickle.loads(pickle.dumps(operator))
        assert type(again) is type(operator)
        np.testing.assert_array_equal(again.toarray(), operator.toarray())


def test_another_curvature_is_one_function():
    """That of Gauss and Newton: all else works for any map that is linear in a direction."""

    def gauss_newton(r):
        v = r.input("v", r.x)
        (r_dot,) = derive.jvp([r.output], [r.x], [v])
        (gradient,) = derive.vjp([r.output], [r.x], [r.output])
        (product,) = derive.vjp([r.output], [r.x], [r_dot])
        value = derive.inner(r.output, r.output) / 2
        return LinearMap(r.inputs, v, (value, gradient), product)

    r = nbhvp.differentiable(residuals.__wrapped__, target="interpret")
    x = np.array([1.0, 2.0, 0.5])
    J = residual_jacobian(x)
    point = r._memory.at(r._tracer, gauss_newton, x, (), {})
    B = HessianOperator(point, gauss_newton, lambda: B, None)
    close(B.toarray(), J.T @ J)
    close(B.value, np.sum(r(x) ** 2) / 2)
    close(B.gradient, J.T @ r(x).ravel())
    close(r._memory.product(r._tracer, gauss_newton, x, np.eye(3), (), {}), J.T @ J)
    close(sparse_linalg.cg(B, x, rtol=1e-12)[0], np.linalg.solve(J.T @ J, x), 1e-8)


# Eigenvalues, linear systems, exponentials.


@pytest.mark.parametrize("which", ["LA", "SA", "LM", "BE"])
def test_eigsh(H, dense, which):
    found = sparse_linalg.eigsh(H, k=4, which=which, return_eigenvectors=False, tol=1e-12)
    known = sparse_linalg.eigsh(dense, k=4, which=which, return_eigenvectors=False, tol=1e-12)
    close(np.sort(found), np.sort(known), 1e-10)


def test_lobpcg(positive):
    H, dense = positive
    start = np.random.default_rng(5).normal(size=(N, 3))
    found, _ = sparse_linalg.lobpcg(H, start, largest=True, maxiter=200, tol=1e-8)
    close(np.sort(found), np.linalg.eigvalsh(dense)[-3:], 1e-8)


@pytest.mark.parametrize("solve", [sparse_linalg.cg, sparse_linalg.minres, sparse_linalg.gmres])
def test_linear_systems(positive, solve):
    H, dense = positive
    b = np.random.default_rng(6).normal(size=N)
    x, info = solve(H, b, rtol=1e-10, maxiter=1000)
    assert info == 0
    assert np.linalg.norm(dense @ x - b) < 1e-6 * np.linalg.norm(b)


def test_expm_multiply(positive):
    H, dense = positive
    v = np.random.default_rng(7).normal(size=N)
    scaled = (-1e-3) * H
    found = sparse_linalg.expm_multiply(scaled, v, traceA=-1e-3 * H.diagonal().sum())
    close(found, sparse_linalg.expm_multiply(-1e-3 * dense, v), 1e-10)


def test_lsqr_and_svds_on_a_jacobian():
    r = interpreted(lambda x: np.concatenate([np.exp(x), x[1:] * x[:-1]]))
    x = np.linspace(0.5, 1.5, 6)
    J = r.jacobian(x)
    dense = J.toarray()
    b = np.ones(11)
    close(sparse_linalg.lsqr(J, b, atol=1e-13, btol=1e-13)[0], np.linalg.lstsq(dense, b)[0], 1e-9)
    close(sparse_linalg.svds(J, k=1, return_singular_vectors=False), np.linalg.norm(dense, 2), 1e-9)


# Jacobians and weighted Hessians.


@both_targets
def test_jacobian(target):
    r = nbhvp.differentiable(residuals.__wrapped__, target=target)
    x = np.array([1.0, 2.0, 0.5])
    J, dense = r.jacobian(x), residual_jacobian(x)
    rng = np.random.default_rng(8)
    assert J.shape == (4, 3) and J.value.shape == (2, 2)
    close(J.value, residuals.__wrapped__(x))
    close(J.toarray(), dense)
    for shape in [(3,), (3, 1), (3, 2)]:
        v = rng.normal(size=shape)
        close(J @ v, dense @ v)
    for shape in [(4,), (4, 1), (4, 2)]:
        w = rng.normal(size=shape)
        for product in (J.T @ w, J.H @ w, (w.T @ J).T):
            close(product, dense.T @ w)
    close(J.rmatvec(np.ones(4)), dense.sum(0))
    close(J.rmatmat(np.eye(4)), dense.T)
    close((J.T @ J) @ np.ones(3), dense.T @ dense @ np.ones(3))
    close(J @ (1j * np.ones(3)), 1j * dense.sum(1))
    v, w = rng.normal(size=3), rng.normal(size=4)
    assert (J @ v) @ w == pytest.approx(v @ (J.T @ w), rel=1e-13)


def test_a_wide_jacobian_is_made_of_rows():
    r = nbhvp.differentiable(lambda x: [np.sum(x**2), np.prod(x)], target="interpret")
    x = np.arange(1.0, 7.0)
    close(r.jacobian(x).toarray(), np.stack([2 * x, np.prod(x) / x]))


def test_least_squares():
    def fun(x):
        return np.concatenate([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])

    r = interpreted(fun)
    for method in ("trf", "dogbox"):
        result = scipy.optimize.least_squares(
            r, np.full(N, 0.5), jac=r.jacobian, method=method, tr_solver="lsmr"
        )
        assert result.success
        close(result.x, np.ones(N), 1e-5)


def test_least_squares_with_arguments():
    def decay(p, t, y):
        return p[0] * np.exp(-p[1] * t) - y

    r = interpreted(decay)
    t = np.linspace(0, 4, 30)
    y = 2.5 * np.exp(-1.3 * t)
    result = scipy.optimize.least_squares(r, [1.0, 1.0], jac=r.jacobian, args=(t, y))
    close(result.x, np.array([2.5, 1.3]), 1e-7)
    assert r.report().traces == 1


def test_weighted_hessian_is_the_sum():
    x, w = np.array([1.0, 2.0, 0.5]), np.array([[1.0, 2.0], [3.0, 4.0]])
    H = residuals.weighted_hessian(x, w)
    expected = np.array([[2 * w[1, 0], w[0, 0], 0], [w[0, 0], 0, w[1, 1]], [0, w[1, 1], 0]])
    expected[2, 2] = w[0, 1] * np.exp(0.5)
    close(H.toarray(), expected)
    assert H.value == pytest.approx(np.sum(w * residuals(x)), rel=1e-14)
    close(H.gradient, residual_jacobian(x).T @ w.ravel())
    w[:] = 0.0
    close(H.toarray(), expected)


def test_nonlinear_constraint():
    """The nearest point to (2, 2, 2) on the unit sphere and above the plane x0 = x1 + 0.2."""

    def constraints(x):
        return np.stack([np.sum(x**2), x[0] - x[1]])

    f = interpreted(lambda x: np.sum((x - 2) ** 2))
    r = interpreted(constraints)
    constraint = NonlinearConstraint(
        r, [1.0, 0.2], [1.0, np.inf], jac=lambda x: r.jacobian(x).toarray(), hess=r.weighted_hessian
    )
    for minimize in (
        lambda **kw: scipy.optimize.minimize(f, jac=f.grad, hess=f.hessian, **kw),
        lambda **kw: scipy.optimize.minimize(f, jac=f.grad, hessp=f.hvp, **kw),
        lambda **kw: nbhvp.minimize(f, **kw),
    ):
        result = minimize(
            x0=[0.5, 0.1, 0.2],
            method="trust-constr",
            constraints=constraint,
            options={"gtol": 1e-10, "xtol": 1e-12},
        )
        assert result.success
        close(result.x @ result.x, np.array(1.0), 1e-8)
        assert result.x[0] - result.x[1] == pytest.approx(0.2, abs=1e-5)
        assert result.x[2] > result.x[1]
