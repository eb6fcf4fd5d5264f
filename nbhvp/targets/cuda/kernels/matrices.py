"""Products of matrices on a GPU, where no library of the device's maker is at hand.

A lane takes a column and `ROWS` rows of the result, so a loaded element of the right factor serves
`ROWS` multiply-adds. Where the result has one column, a warp takes a row, and its lanes the terms.
"""

from __future__ import annotations

from nbhvp.plan.nests.text import Slots, code
from nbhvp.plan.schedule import MatrixProduct
from nbhvp.targets.cuda.kernels.texts import MOST_Y, THREADS, WARP, Launch, kernel_of

__all__ = ["emit"]

ROWS = 8


def emit(step: MatrixProduct) -> list[Launch]:
    """The kernel of a sum of products: each term is added to the same elements."""
    _, rows, columns = step.terms[0][0].shape
    return [_dots(step) if columns == 1 or rows == 1 else _tiles(step)]


def _dots(step: MatrixProduct) -> Launch:
    """An element of the result to a warp."""
    batch, rows, columns = step.terms[0][0].shape
    slots, body = Slots(), []
    z, kind = slots.write(step.node), code(step.node.dtype)
    per, count = slots.integer("rows", rows * columns), slots.integer("all", batch * rows * columns)
    for k, (term, x, y) in enumerate(step.terms):
        length = slots.integer(("length", k), term.args[0].shape[2])
        left, right = _strides(slots, ("x", k), x), _strides(slots, ("y", k), y)
        line, column = ("at", "0") if columns == 1 else ("0", "at")
        body += [
            "    k = lane()",
            f"    while k < {length}:",
            f"        x = {left[0]}[b * {left[1]} + {line} * {left[2]} + k * {left[3]}]",
            f"        y = {right[0]}[b * {right[1]} + k * {right[2]} + {column} * {right[3]}]",
            "        total = add_reassoc(total, x * y)",
            f"        k = k + {WARP}",
        ]
    lines = [
        "i = warp()",
        f"if i < {count}:",
        f"    b, at = i // {per}, i % {per}",
        f"    total = {kind}(0)",
        *body,
        "    total = warp_sum(total)",
        f"    if lane() == 0: {z}[i] = total",
    ]
    grid = -(-batch * rows * columns * WARP // THREADS), 1
    return Launch(kernel_of("dot", slots, lines), slots.contents, grid)


def _tiles(step: MatrixProduct) -> Launch:
    batch, rows, columns = step.terms[0][0].shape
    slots = Slots()
    z, kind = slots.write(step.node), code(step.node.dtype)
    height, width = slots.integer("rows", rows), slots.integer("columns", columns)
    bands = -(-rows // ROWS)
    band, count = slots.integer("bands", bands), slots.integer("batch", batch * bands)
    lines = [
        "j = block() * threads() + thread()",
        "band = block_y()",
        f"while band < {count}:",
        f"    b, first = band // {band}, band % {band} * {ROWS}",
        f"    if j < {width}:",
    ]
    lines += [f"        t{r} = {kind}(0)" for r in range(ROWS)]
    for k, (term, x, y) in enumerate(step.terms):
        length = slots.integer(("length", k), term.args[0].shape[2])
        left, right = _strides(slots, ("x", k), x), _strides(slots, ("y", k), y)
        lines += [
            f"        for k in range({length}):",
            f"            y = {right[0]}[b * {right[1]} + k * {right[2]} + j * {right[3]}]",
        ]
        for r in range(ROWS):
            row = f"min(first + {r}, {height} - 1)"
            at = f"b * {left[1]} + {row} * {left[2]} + k * {left[3]}"
            lines.append(f"            t{r} = t{r} + {left[0]}[{at}] * y")
    for r in range(ROWS):
        at = f"(b * {height} + first + {r}) * {width} + j"
        lines.append(f"        if first + {r} < {height}: {z}[{at}] = t{r}")
    lines.append("    band = band + blocks_y()")
    grid = -(-columns // THREADS), min(batch * bands, MOST_Y)
    return Launch(kernel_of("product", slots, lines), slots.contents, grid)


def _strides(slots: Slots, key: tuple, operand) -> tuple[str, ...]:
    """The names of an operand's array, and of its strides."""
    array, offset, strides = operand
    numbers = (slots.integer((*key, k), stride) for k, stride in enumerate(strides))
    return slots.read(array, offset), *numbers
