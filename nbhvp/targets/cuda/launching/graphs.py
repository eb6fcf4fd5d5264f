"""The launches of a program as a CUDA graph, which the driver hands to the device as one.

Each launch is a node behind the one before. Nodes whose table has changed, since an array of the caller
lies elsewhere, are written anew before the next launch; what runs already keeps the old ones.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable

from nbhvp.targets.cuda.launching.launches import Words

__all__ = ["LEAST", "Graph"]

LEAST = 4
"""Launches from which a graph takes less time: its own launch takes as long as that of two kernels or so."""


class _Kernel(ctypes.Structure):
    """CUDA_KERNEL_NODE_PARAMS, of version 1."""

    _fields_ = [
        ("kernel", ctypes.c_void_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("parameters", ctypes.POINTER(ctypes.c_void_p)),
        ("extra", ctypes.c_void_p),
    ]


class Graph:
    """A graph that can be launched; `call` calls a function of the driver's by its name."""

    def __init__(self, call: Callable[..., None], words: Words):
        self._call, self._words = call, words
        graph, self._handle = ctypes.c_void_p(), ctypes.c_void_p()
        call("cuGraphCreate", ctypes.byref(graph), 0)
        try:
            self._nodes: list[ctypes.c_void_p] = []
            for k in range(len(words.launches)):
                node, before = ctypes.c_void_p(), (ctypes.c_void_p * 1)(*self._nodes[-1:])
                kernel = ctypes.byref(self._kernel(k))
                call("cuGraphAddKernelNode", ctypes.byref(node), graph, before, min(k, 1), kernel)
                self._nodes.append(node)
            call(
                "cuGraphInstantiateWithFlags",
                ctypes.byref(self._handle),
                graph,
                ctypes.c_ulonglong(0),
            )
        finally:
            call("cuGraphDestroy", graph)
        words.changed.clear()
        weakref.finalize(self, call, "cuGraphExecDestroy", self._handle).atexit = False

    def _kernel(self, k: int) -> _Kernel:
        one = self._words.launches[k]
        table = (ctypes.c_void_p * 1)(self._words.tables[k])
        threads = (one.threads, 1, 1)
        return _Kernel(one.kernel, (*one.grid, 1), threads, one.shared, table, None)

    def launch(self, stream: int) -> None:
        """Run it behind all that was launched on the stream before."""
        for k in sorted(self._words.changed):
            kernel = ctypes.byref(self._kernel(k))
            self._call("cuGraphExecKernelNodeSetParams", self._handle, self._nodes[k], kernel)
        self._words.changed.clear()
        self._call("cuGraphLaunch", self._handle, ctypes.c_void_p(stream))
