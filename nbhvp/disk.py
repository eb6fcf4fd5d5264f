"""Files of compiled code and of plans: named by a hash of all that these depend on, written in one go.

So a stale file is never looked at, and where processes write one at once, either's will do. Each holds
its content and a checksum of its name and content; files appear whole, by one renaming, and one that is
damaged all the same, or that lies under another name, reads as missing. A file that no process has
used for `KEPT` days goes when another is written, and so do the plans used longest ago, if all plans
together have more than `MOST` bytes.

What is in the folder is executed: whoever may write there may run code as whoever reads it. It
is `NBHVP_CACHE_DIR`, else `nbhvp` in the platform's folder for caches.
"""

import contextlib
import functools
import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path

KEPT = 90
"""Days that a file is kept after its last use."""
DAY = 86400.0
FRESH = 60.0
"""Seconds for which a file that is read keeps its time of last use."""
IMPORTED = time.time()
"""When this process has read the package."""
_unseen = 0
"""Bytes that this process has written since it last looked for old files."""
KINDS = "kernel", "plan"
"""How the names of files begin and end."""
MOST = 1 << 28
"""Bytes of all plans: their number grows with that of shapes, while kernels serve all shapes."""


def folder() -> Path:
    """Where the files are."""
    if os.environ.get("NBHVP_CACHE_DIR"):
        return Path(os.environ["NBHVP_CACHE_DIR"])
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "nbhvp"


def keeps_plans() -> bool:
    """Whether plans are kept, which NBHVP_CACHE_PLANS=0 forbids."""
    return os.environ.get("NBHVP_CACHE_PLANS", "") != "0"


@functools.cache
def texts(*folders: str) -> str | None:
    """A digest of the modules of this package in some folders.

    None where no texts are found, or one has changed since this process has read the package: it runs
    the code as it was.
    """
    root, content, count = Path(__file__).parent, hashlib.sha256(), 0
    for name in folders:
        for folder, inner, files in os.walk(root / name):
            inner.sort()
            for file in sorted(files):
                if file.endswith(".py"):
                    path = os.path.join(folder, file)
                    content.update(path.removeprefix(str(root)).encode() + b"\0")
                    with open(path, "rb", 0) as text:
                        if os.fstat(text.fileno()).st_mtime > IMPORTED:
                            return None
                        content.update(text.read() + b"\0")
                    count += 1
    return content.hexdigest() if count else None


def path_of(name: str) -> Path:
    """Where the file of a name lies, whether it is there or not."""
    kind, _, _ = name.partition("_")
    return folder() / f"{name}.{kind}"


def files(*kinds: str) -> list[Path]:
    """The files of some kinds, else all kernels and plans, of this and of other versions."""
    found = (folder().glob(f"{kind}_*.{kind}") for kind in kinds or KINDS)
    return sorted(path for some in found for path in some) if folder().is_dir() else []


def clear() -> None:
    """Remove all of them. Processes that have loaded them keep what they have."""
    for path in files():
        path.unlink(missing_ok=True)


def read(path: Path) -> bytes | None:
    """The content of a file, None if it is not there, whole."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    with contextlib.suppress(OSError):  # in a folder that others filled
        if time.time() - path.stat().st_mtime > FRESH:
            os.utime(path)
    code, checksum = data[:-32], data[-32:]
    return code if code and _checksum(path, code) == checksum else None


def _checksum(path: Path, code: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + b"\0" + code).digest()


def write(path: Path, code: bytes) -> None:
    """Write a file, if the folder can be written, and remove those that are old."""
    global _unseen
    with contextlib.suppress(OSError):
        _write(path, code)
        _unseen += len(code)
        if _unseen > MOST // 8:
            _unseen = 0
            forget_old.cache_clear()
        forget_old()


def _write(path: Path, code: bytes) -> None:
    """Put a file in place in one go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(code + _checksum(path, code))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


@functools.cache
def forget_old() -> None:
    """Remove what nobody has used for long; again when a process has written much since."""
    limit = time.time() - KEPT * DAY
    for path in [*files(), *folder().glob("*.tmp")]:
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < limit:
                path.unlink()
    plans = [(path, path.stat()) for path in files("plan")]
    size = 0
    for path, known in sorted(plans, key=lambda plan: plan[1].st_mtime, reverse=True):
        size += known.st_size
        if size > MOST:
            path.unlink(missing_ok=True)
