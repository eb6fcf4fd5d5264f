"""PTX of kernels, lowered once, and machine code of modules, kept on disk beside the object code of CPUs.

A file is named by a hash of the kernel's text, of every module of this package that has a part in it, and of
the versions. PTX serves every device from `ARCHITECTURE` on; what the driver makes of it is named by the
driver's version and the device's capability too.
"""

import threading
from collections.abc import Callable

from nbhvp import disk
from nbhvp.targets.native.cache import digest, inlined

__all__ = ["ARCHITECTURE", "NAME", "VERSION", "cubin", "made", "ptx"]

ARCHITECTURE, VERSION = "sm_70", "63"
NAME = "kernel"
"""Of every kernel in its PTX."""


class _Tally(threading.local):
    loaded, compiled = 0, 0


_tally = _Tally()


def made() -> tuple[int, int]:
    """Kernels that this thread has loaded from the disk, and lowered, up to now."""
    return _tally.loaded, _tally.compiled


def ptx(source: str) -> str:
    """The PTX of the kernel that a source defines."""
    texts = inlined(f"from nbhvp.targets.cuda.launching.ptx import ptx\n{source}")
    path = disk.path_of(digest(f"{ARCHITECTURE} {VERSION}\n{source}", texts))
    content = disk.read(path)
    if content is None:
        from nbhvp.targets.cuda.launching.ptx import ptx as made

        content = made(source, NAME, ARCHITECTURE, VERSION).encode()
        disk.write(path, content)
        _tally.compiled += 1
    else:
        _tally.loaded += 1
    return content.decode()


def cubin(ptx: str, made_for: str, assembled: Callable[[], bytes]) -> bytes:
    """The machine code of PTX for some driver and device."""
    path = disk.path_of(digest(f"{made_for}\n{ptx}", {}))
    content = disk.read(path)
    if content is None:
        content = assembled()
        disk.write(path, content)
    return content
