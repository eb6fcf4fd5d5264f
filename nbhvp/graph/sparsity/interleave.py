"""The entries of a sparse matrix row by row, of arrays with one element for each row.

    row i of the matrix:    a_t[i + shift_t],    for each place t that row i has an entry at.

Bits of `masks` tell at which places. It is a primitive outside of the table: no derivative of it is
wanted, and a target may compute the arrays and their interleaving together.
"""

from __future__ import annotations

import numpy as np

from nbhvp.graph.node import Node
from nbhvp.graph.primitives import Primitive

__all__ = ["interleave"]


def _evaluate(starts, masks, *lanes, shifts) -> np.ndarray:
    rows = np.arange(masks.size)
    places = np.clip(rows[:, None] + shifts, 0, rows.size - 1).T
    columns = [lane.reshape(-1)[at] for lane, at in zip(lanes, places, strict=True)]
    has_entry = masks[:, None] >> np.arange(len(shifts)) & 1 == 1
    return np.stack(columns, axis=1)[has_entry]


def _infer(starts: Node, masks: Node, *lanes: Node, shifts):
    assert starts.value is not None, "a pattern is known"
    return (int(starts.value[-1]),), lanes[0].dtype


interleave = Primitive("interleave", "linear", _evaluate, _infer, lazy=True)
"""Of where rows start, the masks, and an array for each place: which may be one for several."""
