"""Functions of shapes, dtypes and memory, evaluated on concrete values; texts that show an array."""

from collections.abc import Callable

import numpy as np

from nbhvp.trace.answers import answers
from nbhvp.trace.arrays import lift, map_traced, shown
from nbhvp.trace.dispatch import frozen

__all__: list[str] = []


def _of_values(function: Callable) -> Callable:
    return lambda *args, **kwargs: function(*map_traced(frozen, args), **map_traced(frozen, kwargs))


def _text_by(function):
    """A function of NumPy that shows an array."""

    def text(a, *args, **kwargs) -> str:
        return shown(lift(a), function(lift(a).value, *args, **kwargs))

    return text


for _function in (
    np.shape, np.ndim, np.size, np.isscalar, np.result_type, np.can_cast, np.iscomplexobj,
    np.isrealobj, np.isfortran, np.shares_memory, np.may_share_memory, np.min_scalar_type,
):  # fmt: skip
    answers(_function)(_of_values(_function))
for _function in (np.array_repr, np.array_str, np.array2string):
    answers(_function)(_text_by(_function))
