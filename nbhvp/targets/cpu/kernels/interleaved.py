"""The kernel that writes the entries of a sparse matrix row by row, from arrays of them.

Nearly all rows of a stencil have an entry at every place; only for others the kernel looks at which ones.
Entries that fill the caches are stored past them: else each line of memory would be read first.
"""

from __future__ import annotations

from nbhvp.graph.node import Node
from nbhvp.graph.sparsity.interleave import interleave
from nbhvp.plan.costs import CPU
from nbhvp.plan.nests.text import HEADER, KernelCall, Slots, kernel_name

__all__ = ["kernels_of"]

BLOCK = CPU.l1 // 8
"""Rows that a thread takes at a time."""


def kernels_of(node: Node):
    """What gives the kernel of such a node; None for others."""
    return _kernels if node.primitive is interleave else None


def _kernels(node: Node) -> list[KernelCall]:
    starts, masks, *lanes = node.args
    slots = Slots()
    source, target = _text(node, slots), node.size * node.dtype.itemsize
    seconds = (target + sum(one.size * one.dtype.itemsize for one in {*lanes})) / 8 * CPU.load
    return [KernelCall(source, slots.contents, masks.size, BLOCK, (node,), seconds)]


def _text(node: Node, slots: Slots) -> str:
    starts, masks, *lanes = node.args
    is_streamed = node.size * node.dtype.itemsize >= CPU.l3
    store = "stream({z}, {at}, {x})" if is_streamed else "{z}[{at}] = {x}"
    z, first, mask = slots.write(node), slots.read(starts, 0), slots.read(masks, 0)
    full, some = [], [f"        mask = {mask}[i]", "        place0 = at"]
    for t, (lane, shift) in enumerate(zip(lanes, node.params["shifts"], strict=True)):
        x = f"{slots.read(lane, 0)}[i + {slots.integer(('shift', t), shift)}]"
        full.append("        " + store.format(z=z, at=f"at + {t}", x=x))
        some += [
            f"        bit{t} = mask >> {t} & 1",
            f"        if bit{t} == 1:",
            "            " + store.format(z=z, at=f"place{t}", x=x),
            f"        place{t + 1} = place{t} + bit{t}",
        ]
    lines = [
        *slots.lines,
        "for i in range(lo, hi):",
        f"    at = i8({first}[i])",
        f"    if {first}[i + 1] - {first}[i] == {len(lanes)}:",
        *full,
        "    else:",
        *some,
    ]
    body = "\n".join(f"    {line}" for line in lines)
    return f"{HEADER}{WORDS}def {kernel_name('interleave', lines)}(table, lo, hi):\n{body}\n"


WORDS = "from nbhvp.targets.native.language import stream\n\n\n@kernel\n"
