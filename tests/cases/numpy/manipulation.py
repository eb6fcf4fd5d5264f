"""Cases for `nbhvp/trace/numpy/manipulation.py`: name, function, point."""

import numpy as np

from tests.cases.points import (
    A6,
    A34,
    A43,
    CUBE,
    MATRIX,
    VECTOR,
)


def _written_split(x):
    y = x.copy()
    a, b = np.split(y, 2)
    a += 2 * b
    b[...] = a * a
    return y


def of_joined(join):
    """Of an array of a constant and a traced number, each taken out again."""

    def fun(x):
        h = join(0.3, np.tanh(x[0]))
        return np.stack([x[0] * h[0], x[1] * h[1]]) ** 2

    return fun


def _filled_tall(x):
    y = np.vstack([x, x**2, x])
    np.fill_diagonal(y, x[0, 0], wrap=True)
    return y


# fmt: off
CASES = [
    ("reshape", lambda x: np.reshape(x**2, (4, 3)) * A43, MATRIX),
    ("reshape F", lambda x: np.reshape(x**2, (-1, 3), order="F") * A43, MATRIX),
    ("ravel", lambda x: np.ravel(x) ** 2 + x.flatten() + x.ravel(order="F"), MATRIX),
    ("transpose", lambda x: np.transpose(x, (2, 0, 1)) ** 2, CUBE),
    ("T", lambda x: x.T @ x + np.transpose(x) @ A34, MATRIX),
    ("matrix_transpose", lambda x: np.matrix_transpose(x) ** 2 + x.mT, CUBE),
    ("swapaxes", lambda x: np.swapaxes(x, 0, -1) ** 2, CUBE),
    ("moveaxis", lambda x: np.moveaxis(x, [0, 1], [-1, 0]) ** 2, CUBE),
    ("rollaxis", lambda x: np.rollaxis(x, 2) ** 2 + np.rollaxis(x, 2, 0), CUBE),
    (
        "squeeze",
        lambda x: np.squeeze(x[:, :1, None], axis=(1, 2)) ** 2 * x[:1].squeeze()[0],
        MATRIX,
    ),
    ("expand_dims", lambda x: np.expand_dims(x, (0, -1)) ** 2, MATRIX),
    ("atleast", lambda x: np.atleast_2d(x) * np.atleast_3d(x), VECTOR),
    ("atleast_1d", lambda x: np.atleast_1d(x.sum() ** 2), VECTOR),
    ("broadcast_to", lambda x: np.broadcast_to(x, (3, 6)) ** 2, VECTOR),
    ("broadcast_arrays", lambda x: np.multiply(*np.broadcast_arrays(x[:, None], x**2)), VECTOR),
    ("concatenate", lambda x: np.concatenate([x, A34, x**2], axis=1), MATRIX),
    ("concatenate None", lambda x: np.concatenate([x, A6, x[0] ** 2], axis=None), MATRIX),
    ("stack", lambda x: np.stack([x[0] ** 2, A34[0], x[1] * x[2]], axis=-1), MATRIX),
    ("vstack", lambda x: np.vstack([x**2, x[0]]), MATRIX),
    ("hstack", lambda x: np.hstack([x[0] ** 2, x[1].sum(), A6]), MATRIX),
    ("dstack", lambda x: np.dstack([x**2, A34]), MATRIX),
    ("column_stack", lambda x: np.column_stack([x[:, 0] ** 2, x]), MATRIX),
    ("block", lambda x: np.block([[x**2, np.zeros((3, 2))], [1.0, x[:1], x[0, 0]]]), MATRIX),
    ("append", lambda x: np.append(x, x**2) + np.append(x, x**2, axis=1).ravel(), MATRIX),
    ("split", lambda x: np.split(x, 3)[1] ** 2 + np.split(x, [2])[0][0], MATRIX),
    ("array_split", lambda x: np.array_split(x, 3, axis=1)[0] ** 2, MATRIX),
    ("hsplit", lambda x: np.hsplit(x, 2)[1] ** 2 + np.vsplit(x, 3)[0][:, :2], MATRIX),
    ("dsplit", lambda x: np.dsplit(x, [1, 3])[1] ** 2, CUBE),
    ("unstack", lambda x: np.unstack(x, axis=1)[2] ** 2, MATRIX),
    ("split is a view", _written_split, VECTOR),
    ("tile", lambda x: np.tile(x, (2, 1, 3)) ** 2, MATRIX),
    ("tile vector", lambda x: np.tile(x, 3) ** 2 + np.tile(x, (1, 3))[0], VECTOR),
    ("roll", lambda x: np.roll(x, 2) * x + np.roll(x, -7), VECTOR),
    ("roll axes", lambda x: np.roll(x, (1, -1), axis=(0, 1)) * x + np.roll(x, 5, axis=1), MATRIX),
    ("flip", lambda x: np.flip(x) * x + np.flip(x, 0) * np.fliplr(x) + np.flipud(x), MATRIX),
    ("rot90", lambda x: np.rot90(x) ** 2 + np.rot90(x, 3) + np.rot90(x, 2, (1, 0)).T, MATRIX),
    ("joined by array", of_joined(lambda a, b: np.array([a, b])), VECTOR),
    ("joined by stack", of_joined(lambda a, b: np.stack([b, a])), VECTOR),
    ("joined by append", of_joined(lambda a, b: np.append([a], b)), VECTOR),
    ("joined by pad", of_joined(lambda a, b: np.pad(b[None], (1, 0), constant_values=a)), VECTOR),
    ("joined by where", of_joined(lambda a, b: np.where([True, False], a, b)), VECTOR),
    ("fill_diagonal wrap", _filled_tall, MATRIX),
    ("names of the standard", lambda x: np.permute_dims(np.concat([x, x**2]), (1, 0)) + np.pow(x.T, 2).sum() * np.atan2(x, 2).mean(), MATRIX),
]
# fmt: on
