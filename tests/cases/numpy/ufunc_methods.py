"""Cases for `nbhvp/trace/numpy/ufunc_methods.py`: name, function, point."""

import numpy as np

from tests.cases.points import (
    A6,
    MASK,
    MATRIX,
    POSITIVE,
    VECTOR,
    written_by,
)

TURN = np.array([0, 3, 1, 5])

# fmt: off
CASES = [
    ("add.reduce of a list", lambda x: np.add.reduce([x[0] ** 2, x[1], 2.0]), VECTOR),
    ("multiply.reduce of a tuple", lambda x: np.multiply.reduce((x[0], x[1], x[2])), VECTOR),
    ("maximum.reduce of arrays", lambda x: np.maximum.reduce([x**2, x, 0.1 * x]), VECTOR),
    ("add.accumulate of a list", lambda x: np.add.accumulate([x[0] ** 2, x[1]]), VECTOR),
    ("multiply.outer of a list", lambda x: np.multiply.outer([x[0], 1.0], x), VECTOR),
    ("add.reduceat of a list", lambda x: np.add.reduceat([x[0], x[1], x[0]], [0, 2]), VECTOR),
    ("logical_and.reduce", lambda x: np.where(np.logical_and.reduce([x > -9, x < 9]), x**2, x), VECTOR),
    ("add.reduceat", lambda x: np.add.reduceat(x**2, [0, 2, 4]), VECTOR),
    ("add.reduceat back", lambda x: np.add.reduceat(x**2, TURN), VECTOR),
    ("add.reduceat axis", lambda x: np.add.reduceat(x**2, [1, 2], axis=1), MATRIX),
    ("multiply.reduceat", lambda x: np.multiply.reduceat(x, TURN), VECTOR),
    ("maximum.reduceat", lambda x: np.maximum.reduceat(x, [0, 2], axis=1) ** 2, MATRIX),
    ("maximum.accumulate", lambda x: np.maximum.accumulate(x) ** 2, VECTOR),
    ("minimum.accumulate", lambda x: np.minimum.accumulate(x, axis=1) * x, MATRIX),
    ("fmax.accumulate", lambda x: np.fmax.accumulate(x) ** 2 + np.fmin.accumulate(x), VECTOR),
    ("logaddexp.accumulate", lambda x: np.logaddexp.accumulate(x), VECTOR),
    ("add.accumulate", lambda x: np.add.accumulate(x**2) * np.multiply.accumulate(x), VECTOR),
    ("subtract.accumulate", lambda x: np.subtract.accumulate(x**2, axis=1), MATRIX),
    ("divide.accumulate", lambda x: np.divide.accumulate(x), POSITIVE),
    ("accumulate out", lambda x: np.maximum.accumulate(x**2, out=np.zeros(6)), VECTOR),
    ("logaddexp.reduce", lambda x: np.logaddexp.reduce(x) + np.logaddexp2.reduce(x), VECTOR),
    ("hypot.reduce", lambda x: np.hypot.reduce(x, axis=1) * np.hypot.reduce(x, axis=None), MATRIX),
    ("subtract.reduce", lambda x: np.subtract.reduce(x**2, axis=1, keepdims=True), MATRIX),
    ("divide.reduce", lambda x: np.divide.reduce(x, axis=1), MATRIX),
    ("fmax.reduce", lambda x: np.fmax.reduce(x, axis=(0, 1)) ** 2 * np.fmin.reduce(x), MATRIX),
    ("add.reduce where", lambda x: np.add.reduce(x**2, where=MASK, initial=3.0), VECTOR),
    ("minimum.reduce", lambda x: np.minimum.reduce(x**2, axis=1, out=np.zeros(3)), MATRIX),
    ("power.outer", lambda x: np.power.outer(x, [2, 3.0]) + np.subtract.outer(x, x[:2]), POSITIVE),
    ("add.at", written_by(lambda y, x: np.add.at(y, [0, 0, 2], x[:3])), VECTOR),
    ("subtract.at", written_by(lambda y, x: np.subtract.at(y, ([0, 0, 2], 1), x[0, 0])), MATRIX),
    ("multiply.at", written_by(lambda y, x: np.multiply.at(y, [0, 0, 2, 0], x[:4])), VECTOR),
    ("maximum.at", written_by(lambda y, x: np.maximum.at(y, [5, 5, -2], x[:3] + 1)), VECTOR),
    ("divide.at", written_by(lambda y, x: np.divide.at(y, (slice(None), [1, 1]), x[:, :2])), MATRIX),
    ("sin.at", written_by(lambda y, x: np.sin.at(y, [0, 3, 3])), VECTOR),
    ("negative.at", written_by(lambda y, x: np.negative.at(y, [0, 3, 3])), VECTOR),
    ("x.partition", lambda x: (lambda y: (y.partition(2), y[2])[1])(x * x), VECTOR),
    ("x.compress", lambda x: x.compress(MASK) ** 2 + x[:4].compress(MASK[:2]).sum(), VECTOR),
    ("x.item", lambda x: x.item(2) ** 2 * x + x[0].item(), VECTOR),
    ("x.tolist", lambda x: np.array([row[0] * row[1] for row in x.tolist()]), MATRIX),
    ("x.methods", lambda x: x.sum() * x.dot(x) + x.clip(0, 1).mean() + x.std() * x.prod(), VECTOR),
    ("x.order", lambda x: x.take([1, 2]) * x.argsort()[0] + x.searchsorted(9) * x.repeat(2)[:2], VECTOR),
    ("log where", lambda x: np.log(x, where=x > 0, out=np.zeros(6)), VECTOR),
    ("divide where", lambda x: np.divide(x, x[::-1], out=np.zeros_like(x), where=A6 > 0), VECTOR),
    ("add where", lambda x: np.add(x, x, where=MASK, out=x**2), VECTOR),
]
# fmt: on
