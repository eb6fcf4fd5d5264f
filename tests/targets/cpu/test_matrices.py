"""Kernels of small factorisations and solves: the primitives' own definition, by LAPACK, is the oracle."""

import numpy as np
import pytest

from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, Pool
from nbhvp.graph.table.matrices import linalg
from nbhvp.targets.cpu.kernels import matrices
from nbhvp.targets.cpu.program import Program

rng = np.random.default_rng(0)
SHAPES = [(1, 1), (2, 2), (3, 3), (2, 5, 5), (2, 3, 4, 4), (16, 16)]


def matrix(shape, kind):
    a = rng.standard_normal(shape)
    if kind == "definite":
        return a @ np.swapaxes(a, -1, -2) + np.eye(shape[-1])
    return a + (np.diag(np.linspace(0.5, 1.5, shape[-1])) if kind == "triangle" else 0.0)


def vectors(shape, columns, lead):
    """What the vectors along an axis lie in, and that axis."""
    b = rng.standard_normal((*lead, *shape[:-1], *columns))
    return b, len(lead) + len(shape) - 2


def programs():
    """Graphs of all kernels in one, and the arrays that they take."""
    pool, nodes, outputs, arrays = Pool(), [], [], []

    def given(array):
        nodes.append(p.input_node(pool, f"a{len(nodes)}", array.shape, array.dtype))
        arrays.append(array)
        return nodes[-1]

    def factor(a, lower):
        function = linalg.Routine(np.linalg.cholesky, (("upper", not lower),))
        return linalg.cholesky(given(a), lower=lower, by=function)

    for shape in SHAPES:
        for lower in (True, False):
            outputs.append(factor(matrix(shape, "definite"), lower))
        a = given(matrix(shape, "any"))
        triangle = given(matrix(shape, "triangle"))
        outputs.append(linalg.lu(a))
        outputs.append(linalg.logdet(linalg.lu(a)))
        for columns in ((), (3,), (2, 2)):
            for lead in ((), (2,)):
                array, axis = vectors(shape, columns, lead)
                b = given(array)
                for transposed in (True, False):
                    how = dict(axis=axis, transposed=transposed)
                    outputs.append(linalg.solve(linalg.lu(a), b, **how))
                    for lower in (True, False):
                        for unit in (True, False):
                            outputs.append(
                                linalg.triangular(triangle, b, lower=lower, unit=unit, **how)
                            )
    return Graph(tuple(nodes), tuple(outputs)), arrays


@pytest.mark.compiles
def test_kernels_agree_with_lapack():
    graph, arrays = programs()
    assert all(matrices.kernels_of(node) for node in graph.outputs)
    expected = interpret(graph, *arrays)
    for node, found, value in zip(graph.outputs, Program(graph)(*arrays), expected, strict=True):
        scale = 1e-10 * max(1.0, np.max(np.abs(value)))
        np.testing.assert_allclose(found, value, rtol=1e-10, atol=scale, err_msg=str(node))


FAILURES = {
    "not positive definite": (linalg.cholesky, np.array([[1.0, 2.0], [2.0, 1.0]])),
    "semidefinite": (linalg.cholesky, np.zeros((2, 2))),
    "a zero on the diagonal": (linalg.triangular, np.array([[1.0, 0.0], [2.0, 0.0]])),
}


@pytest.mark.compiles
@pytest.mark.parametrize("name", FAILURES)
def test_what_fails_is_nan_as_a_whole(name):
    primitive, array = FAILURES[name]
    pool = Pool()
    a = p.input_node(pool, "a", array.shape, array.dtype)
    b = p.constant(pool, np.ones((2, 3)))
    if primitive is linalg.cholesky:
        made = primitive(a, lower=True, by=linalg.Routine(np.linalg.cholesky))
    else:
        made = primitive(a, b, axis=0, lower=True, transposed=False, unit=False)
    graph = Graph((a,), (made,))
    (expected,) = interpret(graph, array)
    (found,) = Program(graph)(array)
    assert np.isnan(expected).all() and np.isnan(found).all()


@pytest.mark.parametrize(
    "shape, dtype", [((17, 17), float), ((3, 3), complex), ((3, 3), np.float32)]
)
def test_others_are_left_to_lapack(shape, dtype):
    a = p.input_node(Pool(), "a", shape, np.dtype(dtype))
    assert matrices.kernels_of(linalg.lu(a)) is None
