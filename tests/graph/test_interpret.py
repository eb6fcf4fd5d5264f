"""The interpreter: inputs are checked, outputs are owned, NaN flows."""

import numpy as np
import pytest

from nbhvp.graph import primitives as p
from nbhvp.graph.interpret import interpret
from nbhvp.graph.node import Graph, Pool

X = np.array([1.0, 4.0, 9.0])


@pytest.fixture
def x():
    return p.input_node(Pool(), "x", (3,), np.float64)


def test_value(x):
    z = p.sum_(p.sqrt(x) * 2, axes=(0,))
    assert interpret(Graph((x,), (z, x)), X)[0] == 12.0


@pytest.mark.parametrize("wrong", [X[:2], X.astype(np.float32), X[:, None]])
def test_inputs_of_another_shape_or_dtype_are_refused(x, wrong):
    with pytest.raises(ValueError, match="input x must be float64"):
        interpret(Graph((x,), (x * 2,)), wrong)


def test_inputs_are_unmodified_and_outputs_are_owned(x):
    point = X.copy()
    view = p.reshape(x, shape=(3, 1))
    outputs = interpret(Graph((x,), (x, view, p.zeros(x.pool, (2, 2), x.dtype))), point)
    for out in outputs:
        out[...] = 7
    np.testing.assert_array_equal(point, X)


def test_nan_and_infinity_flow_without_warnings(x):
    z = p.log(x) / x
    result = interpret(Graph((x,), (z,)), np.array([0.0, -1.0, np.nan]))[0]
    np.testing.assert_array_equal(result, [-np.inf, np.nan, np.nan])


def test_float32_is_computed_in_float32():
    x = p.input_node(Pool(), "x", (3,), np.float32)
    result = interpret(Graph((x,), (p.exp(x) * 2,)), X.astype(np.float32))[0]
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, np.exp(X.astype(np.float32)) * 2)
