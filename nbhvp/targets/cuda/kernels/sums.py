"""Sums of partial results, each element of a fixed tree: one kernel, whatever their number."""

from __future__ import annotations

from nbhvp.graph.node import Node
from nbhvp.plan.nests.text import Scratch, Slots, code
from nbhvp.targets import nests
from nbhvp.targets.cuda.kernels.texts import WARP, Launch, kernel_of, warps_of

__all__ = ["combined"]

WARPS = 16
"""Of a block that adds up: each takes a part of the partial results."""


def combined(node: Node, partial: Scratch) -> Launch:
    """Add the partial results of an array."""
    return _by_warps(node, partial) if node.size < WARP else _by_blocks(node, partial)


def _by_warps(node: Node, partial: Scratch) -> Launch:
    """A warp to an element, whose lanes take partial results."""
    identity, add = nests.combine(node)
    slots = Slots()
    source, target = slots.read(partial, 0), slots.write(node)
    blocks = slots.integer("blocks", partial.shape[0])
    size = slots.integer("size", partial.shape[1])
    extent = slots.integer("extent", node.size)
    word = "warp_all" if node.dtype.kind == "b" else "warp_sum"
    body = [
        "i = warp()",
        f"if i < {extent}:",
        f"    total = {identity}",
        "    b = lane()",
        f"    while b < {blocks}:",
        f"        total = {add.format('total', f'{source}[b * {size} + i]')}",
        f"        b = b + {WARP}",
        f"    total = {word}(total)",
        f"    if lane() == 0: {target}[i] = total",
    ]
    return Launch(kernel_of("combine", slots, body), slots.contents, warps_of(node.size))


def _by_blocks(node: Node, partial: Scratch) -> Launch:
    """A block to 32 elements, whose warps take partial results."""
    identity, add = nests.combine(node)
    slots = Slots()
    source, target = slots.read(partial, 0), slots.write(node)
    blocks = slots.integer("blocks", partial.shape[0])
    size = slots.integer("size", partial.shape[1])
    extent = slots.integer("extent", node.size)
    body = [
        f"each = shared(0, {code(node.dtype)!r})",
        f"i = block() * {WARP} + lane()",
        f"total = {identity}",
        f"if i < {extent}:",
        "    b = own()",
        f"    while b < {blocks}:",
        f"        total = {add.format('total', f'{source}[b * {size} + i]')}",
        f"        b = b + {WARPS}",
        "each[thread()] = total",
        "sync_block()",
        f"if (own() == 0) & (i < {extent}):",
        f"    for w in range(1, {WARPS}):",
        f"        total = {add.format('total', f'each[w * {WARP} + lane()]')}",
        f"    {target}[i] = total",
    ]
    threads, shared = WARPS * WARP, WARPS * WARP * node.dtype.itemsize
    grid = -(-node.size // WARP), 1
    return Launch(kernel_of("combine", slots, body), slots.contents, grid, threads, shared)
