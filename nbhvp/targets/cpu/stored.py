"""Plans on the disk: what was derived, split, scheduled and assembled in another process.

A file is named by a digest of the traced graph (`graph.digest`), of what is asked of it, of the texts
of all modules that have a part in the answer, of versions and of the processor. It holds the parts of
a program (`parts`): its kernels by the names of their files, functions of libraries by their names,
nodes as shapes and dtypes, and new constants; constants of the graph itself are those of this process.

Invariant: a file is a plan as this process would make it, or it is not looked at. What has no digest,
or cannot be pickled, is planned anew in each process, and so is what was made after arrays that the
function closes over had changed. `NBHVP_CACHE_PLANS=0` keeps plans from the disk.
"""

from __future__ import annotations

import functools
import hashlib
import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from nbhvp import disk
from nbhvp.graph.digest import constants, digest
from nbhvp.graph.node import Graph, Node
from nbhvp.graph.packing import Absent, Writer
from nbhvp.graph.primitive import Primitive
from nbhvp.plan.costs import Costs
from nbhvp.targets.cpu.parts import Parts, Stretch
from nbhvp.targets.cpu.program import Program
from nbhvp.targets.native import machine
from nbhvp.targets.native.cache import Counts, Missing, counts
from nbhvp.version import __version__

__all__ = ["Key", "keep", "key_of", "recalled"]

MOST = 1 << 21
"""Bytes of a file: larger plans are not kept."""
SHARE = disk.MOST // 4
"""Bytes that one process keeps: functions that close over new data each time have as many plans."""
FOLDERS = "graph", "plan", "runtime", "targets"
"""Of the package: the modules on which plans depend."""
_written = 0
"""Bytes that this process has kept."""


@dataclass(frozen=True)
class Key:
    """What stands for a graph on the disk, and its constants, which no file holds."""

    digest: bytes
    constants: Sequence[np.ndarray]
    again: Callable[[], bytes | None] = field(compare=False)
    """The digest anew: another one where constants, which are not copies, have changed since."""

    def path(self, question: str) -> Path:
        """The file of what is made of the graph to answer a question."""
        name = hashlib.sha256(self.digest + question.encode()).hexdigest()[:40]
        return disk.path_of(f"plan_{name}")


def key_of(graph: Graph, costs: Costs) -> Key | None:
    """The key of a graph for a machine with some costs; None if it has none."""
    stamp = _stamp() if disk.keeps_plans() else None
    if stamp is None:
        return None
    again = functools.partial(digest, graph, repr(costs), stamp)
    found = again()
    return None if found is None else Key(found, constants(graph), again)


def recalled(key: Key, question: str) -> tuple[Any, Counts]:
    """What was kept, and the kernels that it loads; None if it is not there, or one of these is not."""
    content, before = disk.read(key.path(question)), counts()
    if content is None:
        return None, Counts()
    try:
        made = _Reader(io.BytesIO(content), key.constants).load()
    except (Absent, Missing):
        made = None
    return made, counts() - before


def keep(key: Key, question: str, made: Any) -> None:
    """Write a program, or a tuple with programs, if it can be written and there is room; never None."""
    global _written
    if made is None or _written >= SHARE:
        return
    written = io.BytesIO()
    try:
        _Writer(written, key.constants).dump(made)
    except (pickle.PicklingError, TypeError):
        return
    if written.tell() <= MOST and key.again() == key.digest:
        disk.write(key.path(question), written.getvalue())
        _written += written.tell()


@functools.cache
def _stamp() -> str | None:
    """All that plans depend on beside their graphs; None where the package has no texts."""
    texts = disk.texts(*FOLDERS)
    versions = __version__, np.__version__, scipy.__version__, *machine.platform()
    return texts and "\0".join((texts, *versions))


class _Writer(Writer):
    """Writes nodes as what programs need of them."""

    def __init__(self, file: io.BytesIO, given: Sequence[np.ndarray]):
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._given = {id(array): k for k, array in enumerate(given)}

    def persistent_id(self, obj: Any) -> int | None:
        return self._given.get(id(obj)) if type(obj) is np.ndarray else None

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Program):
            return _program, (obj.parts,)
        if isinstance(obj, Node):
            params = {key: obj.params[key] for key in ("value", "name") if key in obj.params}
            return _node, (obj.shape, obj.dtype, obj.index, params)
        if isinstance(obj, Stretch) and obj.library is not None:
            node = obj.library
            return _library, (node, node.primitive, node.args, node.params)
        return super().reducer_override(obj)


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, given: Sequence[np.ndarray]):
        super().__init__(file)
        self._given = given

    def persistent_load(self, k: int) -> np.ndarray:
        return self._given[k]


def _program(parts: Parts) -> Program:
    return Program(parts=parts)


def _node(shape: tuple[int, ...], dtype: np.dtype, index: int, params: dict) -> Node:
    """A node of no pool, which stands for memory."""
    return Node(None, None, (), params, shape, dtype, index)


def _library(node: Node, primitive: Primitive, args: tuple, params: dict) -> Stretch:
    node.primitive, node.args, node.params = primitive, args, params
    return Stretch(library=node)
